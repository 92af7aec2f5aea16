/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who may use an image that two processes share: the side of a migration where the guest
 * runs.  An inactive node holds no image lock, writes nothing and trusts nothing that it
 * has read; when it becomes active it takes its locks and reads its metadata anew.  Main
 * thread, hopping to the nodes' contexts.
 */
#include <errno.h>
#include "block/active.h"
#include "block/export.h"
#include "graph-int.h"
#include "qapi/error.h"

static bool open_inactive;

void bdrv_set_open_inactive(bool on)
{
    GLOBAL_STATE();
    open_inactive = on;
}

bool bdrv_opens_inactive(void)
{
    return open_inactive;
}

bool bdrv_check_active(BlockDriverState *bs, GError **errp)
{
    if (bs->inactive) {
        error_setg(errp, "Node '%s' is inactive: the other side of a migration uses it",
                   bs->node_name);
    }
    return !bs->inactive;
}

/* All nodes, with references, because the graph may change while we yield. */
static GPtrArray *all_nodes(void)
{
    GPtrArray *nodes = g_ptr_array_new();

    for (BlockDriverState *bs = bdrv_next_node(NULL); bs; bs = bdrv_next_node(bs)) {
        g_ptr_array_add(nodes, bdrv_ref(bs));
    }
    return nodes;
}

static void coroutine_fn drop_nodes(GPtrArray *nodes)
{
    for (guint i = 0; i < nodes->len; i++) {
        bdrv_co_unref(nodes->pdata[i]);
    }
    g_ptr_array_unref(nodes);
}

/* --- Becoming active: what lies below first ----------------------------------------------- */

static bool coroutine_fn activate(BlockDriverState *bs, GError **errp)
{
    BdrvChild *children[] = {bs->file, bs->data_file, bs->backing};
    int64_t length = bs->length;
    bool ok;

    if (!bs->inactive) {
        return true;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(children); i++) {
        if (children[i] && !activate(children[i]->bs, errp)) {
            return false;
        }
    }
    bdrv_co_move_to(bs->ctx);
    bs->inactive = false;
    if (bs->drv->is_filter && bs->file) {
        bdrv_set_length(bs, bs->file->bs->length);
    }
    ok = !bs->drv->co_activate || bs->drv->co_activate(bs, errp);
    bs->inactive = !ok;
    if (ok && bs->length != length) {
        bdrv_tell_resized(bs);
    }
    if (ok && bs->drained_inactive) {
        bs->drained_inactive = false;
        bdrv_drained_end(bs);
    }
    bdrv_co_move_to(main_aio_context());
    return ok;
}

bool coroutine_fn bdrv_co_activate_all(GError **errp)
{
    GPtrArray *nodes;
    bool ok = true;

    GLOBAL_STATE();
    open_inactive = false;
    nodes = all_nodes();
    for (guint i = 0; i < nodes->len && ok; i++) {
        ok = activate(nodes->pdata[i], errp);
    }
    drop_nodes(nodes);
    return ok;
}

/* --- Becoming inactive: what lies above first ----------------------------------------------- */

static bool is_done(BlockDriverState *bs)
{
    return bs->inactive || bs->read_only;
}

static bool is_next(BlockDriverState *bs)
{
    if (is_done(bs)) {
        return false;
    }
    for (GList *l = bs->parents.head; l; l = l->next) {
        BdrvChild *c = l->data;

        if (c->parent && !is_done(c->parent)) {
            return false;
        }
    }
    return true;
}

/* Requests of the guest that come now wait until the node is active again. */
static bool coroutine_fn inactivate(BlockDriverState *bs, GError **errp)
{
    int ret;

    bdrv_co_move_to(bs->ctx);
    bdrv_co_drained_begin(bs);
    ret = bs->drv->co_flush ? bs->drv->co_flush(bs) : 0;
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not flush node '%s'", bs->node_name);
    } else if (!bs->drv->co_inactivate || bs->drv->co_inactivate(bs, errp)) {
        bs->inactive = bs->drained_inactive = true;
    }
    if (!bs->inactive) {
        bdrv_drained_end(bs);
    }
    bdrv_co_move_to(main_aio_context());
    return bs->inactive;
}

bool coroutine_fn bdrv_co_inactivate_all(GError **errp)
{
    GPtrArray *nodes;
    bool ok = true, found;

    GLOBAL_STATE();
    nodes = all_nodes();
    do {
        found = false;
        for (guint i = 0; i < nodes->len && ok; i++) {
            if (is_next(nodes->pdata[i])) {
                found = true;
                /* Its requests would wait, and with them the end of the export. */
                ok = block_export_check_unused(nodes->pdata[i], errp) &&
                     inactivate(nodes->pdata[i], errp);
            }
        }
    } while (found && ok);
    drop_nodes(nodes);
    return ok;
}

static GPtrArray *drained; /* the nodes of an open bdrv_co_drain_all_begin() */

void coroutine_fn bdrv_co_drain_all_begin(void)
{
    GLOBAL_STATE();
    g_assert(!drained);
    drained = all_nodes();
    for (guint i = 0; i < drained->len; i++) {
        BlockDriverState *bs = drained->pdata[i];

        bdrv_co_move_to(bs->ctx);
        bdrv_co_drained_begin(bs);
        bdrv_co_move_to(main_aio_context());
    }
}

void coroutine_fn bdrv_co_drain_all_end(void)
{
    for (guint i = 0; i < drained->len; i++) {
        BlockDriverState *bs = drained->pdata[i];

        bdrv_co_move_to(bs->ctx);
        bdrv_drained_end(bs);
        bdrv_co_move_to(main_aio_context());
    }
    drop_nodes(g_steal_pointer(&drained));
}

bool coroutine_fn bdrv_co_flush_all(GError **errp)
{
    GPtrArray *nodes;
    int ret = 0;

    GLOBAL_STATE();
    nodes = all_nodes();
    for (guint i = 0; i < nodes->len && ret >= 0; i++) {
        BlockDriverState *bs = nodes->pdata[i];

        if (!is_done(bs)) {
            bdrv_co_move_to(bs->ctx);
            ret = bdrv_co_flush(bs);
            bdrv_co_move_to(main_aio_context());
        }
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Could not flush node '%s'", bs->node_name);
        }
    }
    drop_nodes(nodes);
    return ret >= 0;
}
