/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * External snapshots as actions: an overlay, one that is there or one that is made for it,
 * takes over the users of a node.  Undone after the instant, what the guest has written since
 * goes down into the old node first.  Main thread, hopping to the nodes' home.
 */
#include <errno.h>
#include <string.h>
#include "block/active.h"
#include "block/commit.h"
#include "graph-int.h"
#include "new-image.h"
#include "qapi/error.h"
#include "transaction-int.h"

#define COPY_CHUNK (1 << 20)

typedef struct SnapshotAction {
    BdrvAction action;
    BlockDriverState *top, *overlay; /* the transaction has the references */
    bool appended;
    NewImage *image; /* a file that prepare has made */
} SnapshotAction;

static SnapshotAction *to_snapshot(BdrvAction *a)
{
    return (SnapshotAction *)a;
}

/* --- Checks --------------------------------------------------------------------------------- */

/* Whether other nodes are built on top, which an overlay would come between. */
static bool check_top(BlockDriverState *top, GError **errp)
{
    if (!bdrv_check_active(top, errp)) {
        return false;
    }
    for (GList *l = top->parents.head; l; l = l->next) {
        BdrvChild *c = l->data;

        if (c->parent) {
            error_setg(errp, "Node '%s' is busy: node is used as %s of '%s'", top->node_name,
                       c->role == BDRV_CHILD_BACKING ? "backing hd"
                       : c->role == BDRV_CHILD_FILE  ? "file"
                                                     : "backup target",
                       c->parent->node_name);
            return false;
        }
    }
    if (top->job_type) {
        error_setg(errp, "Node '%s' is busy: block device is in use by block job: %s",
                   top->node_name, top->job_type);
        return false;
    }
    return true;
}

/* Whether somebody reads or writes bs, perhaps through nodes above it. */
static bool is_in_use(BlockDriverState *bs)
{
    for (GList *l = bs->parents.head; l; l = l->next) {
        BdrvChild *c = l->data;

        if (c->blk || c->role != BDRV_CHILD_BACKING || is_in_use(c->parent)) {
            return true;
        }
    }
    return false;
}

static bool check_overlay(BlockDriverState *top, BlockDriverState *overlay, GError **errp)
{
    bool writable = false;

    for (GList *l = top->parents.head; l; l = l->next) {
        writable |= ((BdrvChild *)l->data)->writable;
    }
    if (overlay != top && is_in_use(overlay)) {
        error_setg(errp, "The overlay is already in use");
    } else if (bdrv_is_below(overlay, top)) {
        error_setg(errp, "Making '%s' a backing child of '%s' would create a cycle",
                   top->node_name, overlay->node_name);
    } else if (!g_queue_is_empty(&overlay->parents)) {
        error_setg(errp, "The overlay is already in use");
    } else if (overlay->backing) {
        error_setg(errp, "The overlay already has a backing image");
    } else if (!overlay->drv->supports_backing) {
        error_setg(errp, "The overlay does not support backing images");
    } else if (overlay->read_only && writable) {
        error_setg(errp, "The overlay is read-only, but node '%s' is in use for writing",
                   top->node_name);
    } else {
        return true;
    }
    return false;
}

/* --- Prepare ------------------------------------------------------------------------------------ */

static bool snapshot_check(BdrvAction *a, GError **errp)
{
    BlockdevSnapshot *arg = a->arg->u.blockdev_snapshot.data;
    BlockDriverState *top = bdrv_lookup(arg->node, arg->node, errp);
    BlockDriverState *overlay = top ? bdrv_lookup(arg->overlay, arg->overlay, errp) : NULL;

    return overlay && check_overlay(top, overlay, errp) && check_top(top, errp);
}

static bool coroutine_fn snapshot_prepare(BdrvAction *a, GError **errp)
{
    BlockdevSnapshot *arg = a->arg->u.blockdev_snapshot.data;
    SnapshotAction *s = to_snapshot(a);
    BlockDriverState *top, *overlay;
    bool ok;

    if (!snapshot_check(a, errp)) {
        return false;
    }
    overlay = bdrv_ref(bdrv_lookup(arg->overlay, arg->overlay, NULL));
    top = bdrv_ref(bdrv_lookup(arg->node, arg->node, NULL));
    ok = bdrv_co_move_tree(overlay, top->ctx, errp);
    /* Other clients were at work meanwhile; the same is checked once more at the instant. */
    ok = ok && bdrv_transaction_claim_node(a->t, top, errp) &&
         bdrv_transaction_claim_node(a->t, overlay, errp);
    if (ok) {
        s->top = top;
        s->overlay = overlay;
    }
    bdrv_co_unref(overlay);
    bdrv_co_unref(top);
    return ok;
}

/* A node on the new image, with the settings of the one it goes on. */
static BlockDriverState *coroutine_fn open_overlay(BlockDriverState *top,
                                                   const BlockdevSnapshotSync *arg,
                                                   const char *format, GError **errp)
{
    BdrvOpenFile params = {
        .filename = arg->snapshot_file,
        .format = format,
        .read_only = top->read_only,
        .direct = top->cache_direct,
        .no_flush = top->cache_no_flush,
        .discard = top->discard_unmap,
        .no_backing = true,
        .node_name = arg->snapshot_node_name,
    };
    BlockDriverState *bs = bdrv_co_open_file_params(&params, top->ctx, errp);

    if (bs) {
        bs->detect_zeroes = top->detect_zeroes;
    }
    return bs;
}

static const char *sync_format(const BlockdevSnapshotSync *arg)
{
    return arg->format ? arg->format : "qcow2";
}

static bool makes_image(const BlockdevSnapshotSync *arg)
{
    return !arg->has_mode || arg->mode == NEW_IMAGE_MODE_ABSOLUTE_PATHS;
}

static bool snapshot_sync_check(BdrvAction *a, GError **errp)
{
    const BlockdevSnapshotSync *arg = a->arg->u.blockdev_snapshot_sync.data;
    const char *format = sync_format(arg);
    const BlockDriver *drv = bdrv_driver_by_name(format);
    BlockDriverState *top = bdrv_lookup(arg->device, arg->node_name, errp);

    if (!top) {
        return false;
    }
    if (arg->node_name && !arg->snapshot_node_name) {
        error_setg(errp, "New overlay node-name missing");
    } else if (arg->snapshot_node_name &&
               bdrv_lookup(arg->snapshot_node_name, arg->snapshot_node_name, NULL)) {
        error_setg(errp, "New overlay node-name already in use");
    } else if (!drv || !drv->is_format) {
        error_setg(errp, "Unknown file format '%s'", format);
    } else if (!drv->supports_backing) {
        error_setg(errp, "Backing file not supported for file format '%s'", format);
    } else if (makes_image(arg) && !strcmp(arg->snapshot_file, bdrv_filename(top))) {
        error_setg(errp, "Error: Trying to create an image with the same filename as the "
                   "backing file");
    } else {
        return check_top(top, errp);
    }
    return false;
}

static bool coroutine_fn snapshot_sync_prepare(BdrvAction *a, GError **errp)
{
    BlockdevSnapshotSync *arg = a->arg->u.blockdev_snapshot_sync.data;
    const char *format = sync_format(arg);
    SnapshotAction *s = to_snapshot(a);
    BlockDriverState *top, *overlay;
    bool ok;

    if (!snapshot_sync_check(a, errp)) {
        return false;
    }
    top = bdrv_lookup(arg->device, arg->node_name, NULL);
    if (!bdrv_transaction_claim_node(a->t, top, errp)) {
        return false;
    }
    if (makes_image(arg)) {
        s->image = new_image_make(arg->snapshot_file, format, top, errp);
        if (!s->image) {
            return false;
        }
    }
    overlay = open_overlay(top, arg, format, errp);
    if (!overlay) {
        return false;
    }
    ok = bdrv_transaction_claim_node(a->t, overlay, errp);
    bdrv_co_unref(overlay);
    if (ok) {
        s->top = top;
        s->overlay = overlay;
    }
    return ok;
}

/* --- The instant ----------------------------------------------------------------------------------- */

static bool coroutine_fn snapshot_freeze(BdrvAction *a, GError **errp)
{
    SnapshotAction *s = to_snapshot(a);

    return check_overlay(s->top, s->overlay, errp) && check_top(s->top, errp);
}

static void snapshot_commit(BdrvAction *a)
{
    SnapshotAction *s = to_snapshot(a);

    bdrv_append(s->overlay, s->top);
    s->appended = true;
}

/* --- Undoing it ------------------------------------------------------------------------------------- */

/* Home context, both drained: what overlay has and top has not goes to top.  0 or -errno. */
static int coroutine_fn copy_down(BlockDriverState *overlay, BdrvChild *edge)
{
    g_autofree uint8_t *buf = g_malloc(COPY_CHUNK);

    for (int64_t at = 0, n; at < overlay->length; at += n) {
        n = bdrv_co_copy_down(edge, at, overlay->length - at, buf, COPY_CHUNK);
        if (n < 0) {
            return n;
        }
    }
    return bdrv_co_flush_child(edge);
}

static bool coroutine_fn take_out(SnapshotAction *s, GError **errp)
{
    BdrvChild *edge = s->overlay->backing;
    int ret = -EPERM;

    bdrv_co_move_to(s->top->ctx);
    bdrv_co_drained_begin(s->top);
    bdrv_co_drained_begin(s->overlay);
    bdrv_co_move_to(main_aio_context());
    if (bdrv_child_set_writable(edge, true, NULL)) {
        bdrv_co_move_to(s->top->ctx);
        bdrv_request_begin_drained(s->overlay);
        ret = copy_down(s->overlay, edge);
        bdrv_request_end(s->overlay);
        bdrv_co_move_to(main_aio_context());
        bdrv_child_set_writable(edge, false, NULL);
    }
    if (ret >= 0) {
        bdrv_co_unappend(s->overlay);
    } else {
        error_setg_errno(errp, -ret, "the overlay '%s' stays on node '%s', because what was "
                         "written since cannot be brought back", s->overlay->node_name,
                         s->top->node_name);
    }
    bdrv_co_move_to(s->top->ctx);
    bdrv_drained_end(s->overlay);
    bdrv_drained_end(s->top);
    bdrv_co_move_to(main_aio_context());
    return ret >= 0;
}

static bool coroutine_fn snapshot_abort(BdrvAction *a, GError **errp)
{
    SnapshotAction *s = to_snapshot(a);

    if (s->appended && !take_out(s, errp)) {
        new_image_keep(s->image);
        return false;
    }
    new_image_undo(s->image);
    return true;
}

static void coroutine_fn snapshot_done(BdrvAction *a)
{
    SnapshotAction *s = to_snapshot(a);

    new_image_keep(s->image);
    bdrv_co_set_read_only(s->top);
}

const BdrvActionDriver bdrv_action_snapshot = {
    .instance_size = sizeof(SnapshotAction),
    .changes_machine = true,
    .check = snapshot_check,
    .prepare = snapshot_prepare,
    .freeze = snapshot_freeze,
    .commit = snapshot_commit,
    .abort = snapshot_abort,
    .done = snapshot_done,
};

const BdrvActionDriver bdrv_action_snapshot_sync = {
    .instance_size = sizeof(SnapshotAction),
    .changes_machine = true,
    .makes_node = true,
    .check = snapshot_sync_check,
    .prepare = snapshot_sync_prepare,
    .freeze = snapshot_freeze,
    .commit = snapshot_commit,
    .abort = snapshot_abort,
    .done = snapshot_done,
};
