/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which nodes a snapshot is about and what they hold; and the job that deletes one.  Main
 * thread, except for the job.
 */
#include <string.h>
#include "block/block-int.h"
#include "qapi/error.h"
#include "snapshot-int.h"

static BlockBackend *handle_of(BlockDriverState *bs)
{
    for (BlockBackend *blk = blk_next(NULL); blk; blk = blk_next(blk)) {
        if (blk_bs(blk) == bs) {
            return blk;
        }
    }
    return NULL;
}

const char *snapshot_node_label(BlockDriverState *bs)
{
    BlockBackend *blk = handle_of(bs);

    return blk && blk_name(blk)[0] ? blk_name(blk) : bdrv_node_name(bs);
}

static bool left_out(BlockDriverState *bs)
{
    BlockBackend *blk = handle_of(bs);

    return blk && blk_snapshot_optional(blk) && !bdrv_is_read_only(bs) && !bdrv_can_snapshot(bs);
}

/* QEMU's rule: in use by a device, or standing alone; and writable.  Flash may be left out. */
static bool included(BlockDriverState *bs)
{
    return !bdrv_is_read_only(bs) && !left_out(bs) &&
           (handle_of(bs) || g_queue_is_empty(&bs->parents));
}

char *snapshot_left_out(void)
{
    GString *names = g_string_new(NULL);

    for (BlockBackend *blk = blk_next(NULL); blk; blk = blk_next(blk)) {
        if (blk_bs(blk) && left_out(blk_bs(blk))) {
            g_string_append_printf(names, "%s'%s'", names->len ? ", " : "",
                                   snapshot_node_label(blk_bs(blk)));
        }
    }
    return g_string_free(names, names->len == 0);
}

BlockDriverState **snapshot_all_nodes(int *n)
{
    g_autoptr(GPtrArray) nodes = g_ptr_array_new();

    /* Those of devices first, in the devices' order. */
    for (BlockBackend *blk = blk_next(NULL); blk; blk = blk_next(blk)) {
        BlockDriverState *bs = blk_bs(blk);

        if (bs && included(bs) && !g_ptr_array_find(nodes, bs, NULL)) {
            g_ptr_array_add(nodes, bs);
        }
    }
    for (BlockDriverState *bs = bdrv_next_node(NULL); bs; bs = bdrv_next_node(bs)) {
        if (included(bs) && !g_ptr_array_find(nodes, bs, NULL)) {
            g_ptr_array_add(nodes, bs);
        }
    }
    *n = nodes->len;
    return (BlockDriverState **)g_ptr_array_free(g_steal_pointer(&nodes), false);
}

GPtrArray *snapshot_other_disks(SnapshotJob *sj)
{
    GPtrArray *others = g_ptr_array_new();

    for (BlockBackend *blk = blk_next(NULL); blk; blk = blk_next(blk)) {
        BlockDriverState *bs = blk_bs(blk);
        bool known = !bs || blk_snapshot_optional(blk); /* flash does not write to RAM */

        for (int i = 0; i < sj->nr_nodes; i++) {
            known |= sj->nodes[i].bs == bs;
        }
        if (!known) {
            g_ptr_array_add(others, bdrv_ref(bs));
        }
    }
    return others;
}

BlockDriverState *snapshot_vmstate_choice(BlockDriverState **nodes, int n)
{
    for (int i = 0; i < n; i++) {
        BlockBackend *blk = handle_of(nodes[i]);

        if (!blk || !blk_snapshot_optional(blk)) {
            return nodes[i];
        }
    }
    return nodes[0];
}

bool snapshot_check_nodes(BlockDriverState **nodes, int n, GError **errp)
{
    for (int i = 0; i < n; i++) {
        if (nodes[i]->inactive) {
            error_setg(errp, "Device '%s' is inactive: the other side of a migration uses it",
                       snapshot_node_label(nodes[i]));
            return false;
        }
        if (!bdrv_can_snapshot(nodes[i])) {
            error_setg(errp, "Device '%s' is writable but does not support snapshots",
                       snapshot_node_label(nodes[i]));
            return false;
        }
    }
    return true;
}

BdrvSnapshotInfo *coroutine_fn snapshot_list_of(BlockDriverState *bs, int *n, GError **errp)
{
    AioContext *home = aio_current();
    BdrvSnapshotInfo *list;

    aio_co_reschedule_self(bdrv_context(bs));
    list = bdrv_co_snapshot_list(bs, n, errp);
    aio_co_reschedule_self(home);
    return list;
}

/* 1 found, 0 not, -1 error. */
static int coroutine_fn has_snapshot(BlockDriverState *bs, const char *tag, GError **errp)
{
    AioContext *home = aio_current();
    GError *err = NULL;
    bool found;

    aio_co_reschedule_self(bdrv_context(bs));
    found = bdrv_co_snapshot_find_name(bs, tag, NULL, &err);
    aio_co_reschedule_self(home);
    if (err) {
        g_propagate_error(errp, err);
        return -1;
    }
    return found;
}

int coroutine_fn snapshot_on_all_nodes(BlockDriverState **nodes, int n, const char *tag,
                                       GError **errp)
{
    for (int i = 0; i < n; i++) {
        int ret = has_snapshot(nodes[i], tag, errp);

        if (ret != 1) {
            return ret;
        }
    }
    return 1;
}

int coroutine_fn snapshot_on_any_node(BlockDriverState **nodes, int n, const char *tag,
                                      GError **errp)
{
    for (int i = 0; i < n; i++) {
        int ret = has_snapshot(nodes[i], tag, errp);

        if (ret != 0) {
            return ret;
        }
    }
    return 0;
}

/* Before any node's part is deleted: nobody looks into the snapshot. */
static bool coroutine_fn nobody_holds(SnapshotJob *sj, GError **errp)
{
    bool held = false;

    for (int i = 0; i < sj->nr_nodes && !held; i++) {
        SnapshotNode *n = &sj->nodes[i];
        BdrvSnapshotInfo info;

        snapshot_visit(sj, n);
        held = bdrv_co_snapshot_find_name(n->bs, sj->tag, &info, NULL) &&
               bdrv_snapshot_is_held(n->bs, info.id, errp);
        snapshot_home(sj);
    }
    return !held;
}

bool coroutine_fn snapshot_delete_run(SnapshotJob *sj, GError **errp)
{
    if (!nobody_holds(sj, errp)) {
        return false;
    }
    job_progress_set_total(sj->job, sj->nr_nodes);
    for (int i = 0; i < sj->nr_nodes; i++) {
        SnapshotNode *n = &sj->nodes[i];
        GError *err = NULL;

        if (job_is_cancelled(sj->job)) {
            error_setg(errp, "Job was cancelled");
            return false;
        }
        snapshot_visit(sj, n);
        if (bdrv_co_snapshot_find_name(n->bs, sj->tag, NULL, &err)) {
            bdrv_co_snapshot_delete(n->bs, sj->tag, &err);
        }
        snapshot_home(sj);
        if (err) {
            g_propagate_error(errp, err);
            return false;
        }
        job_progress_add(sj->job, 1);
    }
    return true;
}
