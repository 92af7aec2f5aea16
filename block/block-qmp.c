/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QMP commands on nodes and devices.  Handlers are coroutines in the main thread.  While
 * one of them looks at a node in its home context others may change the graph, so each
 * list is taken, with references, before the first hop.
 */
#include <string.h>
#include "graph-int.h"
#include "block/qapi-format.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-block-core.h"
#include "qapi/util.h"

void bdrv_propagate_first_line(GError **errp, GError *err)
{
    char *newline = strchr(err->message, '\n');

    if (newline) {
        *newline = '\0';
    }
    g_propagate_error(errp, err);
}

static void coroutine_fn unref_all(GPtrArray *list)
{
    for (guint i = 0; i < list->len; i++) {
        bdrv_co_unref(list->pdata[i]);
    }
    g_ptr_array_free(list, true);
}

BlockDeviceInfoList *coroutine_fn qmp_query_named_block_nodes(bool has_flat, bool flat,
                                                              GError **errp)
{
    g_autoptr(BlockDeviceInfoList) result = NULL;
    GPtrArray *list = g_ptr_array_new();
    bool ok = true;

    for (BlockDriverState *bs = bdrv_next_node(NULL); bs; bs = bdrv_next_node(bs)) {
        g_ptr_array_add(list, bdrv_ref(bs));
    }
    for (guint i = 0; i < list->len && ok; i++) { /* the latest comes first */
        BlockDeviceInfo *info = bdrv_co_device_info(list->pdata[i], !(has_flat && flat), errp);

        ok = info != NULL;
        if (ok) {
            QAPI_LIST_PREPEND(result, info);
        }
    }
    unref_all(list);
    return ok ? g_steal_pointer(&result) : NULL;
}

/* Whether query-block shows it: jobs and exports have handles that it does not. */
static bool is_device(BlockBackend *blk)
{
    return *blk_name(blk) || blk_device(blk);
}

static BlockInfo *describe(BlockBackend *blk)
{
    BlockInfo *info = g_new0(BlockInfo, 1);

    info->device = g_strdup(blk_name(blk));
    info->qdev = g_strdup(blk_device(blk));
    info->type = g_strdup("unknown");
    info->has_io_status = blk_device(blk) != NULL;
    info->io_status = blk_io_status(blk);
    return info;
}

BlockInfoList *coroutine_fn qmp_query_block(GError **errp)
{
    g_autoptr(BlockInfoList) result = NULL;
    BlockInfoList **tail = &result;
    g_autoptr(GArray) write_through = g_array_new(false, false, sizeof(bool));
    GPtrArray *list = g_ptr_array_new();
    bool ok = true;
    guint i = 0;

    for (BlockBackend *blk = blk_next(NULL); blk; blk = blk_next(blk)) {
        bool value = blk_write_through(blk);

        if (is_device(blk)) {
            QAPI_LIST_APPEND(tail, describe(blk));
            g_ptr_array_add(list, bdrv_ref(blk_bs(blk)));
            g_array_append_val(write_through, value);
        }
    }
    for (BlockInfoList *l = result; l && ok; l = l->next, i++) {
        BlockDeviceInfo *inserted = bdrv_co_device_info(list->pdata[i], true, errp);

        l->value->inserted = inserted;
        ok = inserted != NULL;
        if (ok) {
            inserted->cache->writeback = !g_array_index(write_through, bool, i);
        }
    }
    unref_all(list);
    return ok ? g_steal_pointer(&result) : NULL;
}

void coroutine_fn qmp_blockdev_add(BlockdevOptions *options, GError **errp)
{
    BlockDriverState *bs;
    GError *err = NULL;

    if (!options->node_name) {
        error_setg(errp, "'node-name' must be specified for the root node");
        return;
    }
    bs = bdrv_co_open(options, bdrv_default_context(), &err);
    if (!bs) {
        bdrv_propagate_first_line(errp, err);
        return;
    }
    bs->user_owned = true;
}

static bool used_by_device(BlockDriverState *bs)
{
    for (BlockBackend *blk = blk_next(NULL); blk; blk = blk_next(blk)) {
        if (blk_bs(blk) == bs && is_device(blk)) {
            return true;
        }
    }
    return false;
}

void coroutine_fn qmp_blockdev_del(const char *node_name, GError **errp)
{
    BlockDriverState *bs = bdrv_find_node(node_name, NULL);

    if (!bs) {
        error_setg(errp, "Failed to find node with node-name='%s'", node_name);
    } else if (used_by_device(bs)) {
        error_setg(errp, "Node %s is in use", node_name);
    } else if (!bs->user_owned) {
        error_setg(errp, "Node %s is not owned by the monitor", node_name);
    } else if (bs->refcount > 1) {
        error_setg(errp, "Block device %s is in use", node_name);
    } else {
        bs->user_owned = false;
        bdrv_co_unref(bs);
    }
}
