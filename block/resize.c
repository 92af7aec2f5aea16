/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Changing the length of a node: by a user who has the right to write to it, and for the
 * command block_resize, which drains the node meanwhile.  Whoever uses the node hears of it.
 * The command takes its turn among those who change the machine: a snapshot that is being saved
 * or loaded has drained the node, too, and relies on its tables.
 */
#include <inttypes.h>
#include "block/dirty-bitmap.h"
#include "block/transaction.h"
#include "graph-int.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-block-core.h"

void bdrv_tell_resized(BlockDriverState *bs)
{
    for (GList *l = bs->parents.head; l; l = l->next) {
        BdrvChild *c = l->data;

        if (c->blk) {
            blk_resized(c->blk);
        } else if (c->role == BDRV_CHILD_FILE && c->parent->drv->is_filter) {
            bdrv_set_length(c->parent, bs->length);
            bdrv_tell_resized(c->parent);
        }
    }
}

/* Within a request in bs; the caller has the right to write. */
static bool coroutine_fn do_truncate(BlockDriverState *bs, int64_t length, bool exact,
                                     PreallocMode prealloc, GError **errp)
{
    bool ok = false;

    if (length < 0) {
        error_setg(errp, "Image size cannot be negative");
    } else if (bs->inactive) {
        error_setg(errp, "Image is inactive: the other side of a migration uses it");
    } else if (bs->job_type) {
        error_setg(errp, "Node '%s' is busy: block device is in use by block job: %s",
                   bs->node_name, bs->job_type);
    } else if (prealloc != PREALLOC_MODE_OFF && length < bs->length) {
        error_setg(errp, "Preallocation can only be used for growing images");
    } else if (bs->drv->co_truncate) {
        ok = bs->drv->co_truncate(bs, length, exact, prealloc, errp);
    } else if (bs->drv->is_filter && bs->file) {
        ok = bdrv_co_truncate_prealloc(bs->file, length, exact, prealloc, errp);
    } else {
        error_setg(errp, "Image format driver does not support resize");
    }
    if (ok) {
        bdrv_set_length(bs, length);
        bdrv_dirty_resize(bs);
        bdrv_tell_resized(bs);
    }
    return ok;
}

bool coroutine_fn bdrv_co_truncate_prealloc(BdrvChild *child, int64_t length, bool exact,
                                            PreallocMode prealloc, GError **errp)
{
    BlockDriverState *bs = bdrv_child_request_begin(child);
    bool ok = false;

    if (bs->read_only || !child->writable) {
        error_setg(errp, "Image is read-only");
    } else {
        ok = do_truncate(bs, length, exact, prealloc, errp);
    }
    bdrv_request_end(bs);
    return ok;
}

bool coroutine_fn bdrv_co_truncate(BdrvChild *child, int64_t length, GError **errp)
{
    return bdrv_co_truncate_prealloc(child, length, false, PREALLOC_MODE_OFF, errp);
}

/* Whether only devices and other handles write to bs, not a node above it. */
static bool check_right(BlockDriverState *bs, GError **errp)
{
    if (bs->read_only) {
        error_setg(errp, "Image is read-only");
        return false;
    }
    for (GList *l = bs->parents.head; l; l = l->next) {
        BdrvChild *c = l->data;

        if (c->parent && c->role == BDRV_CHILD_FILE) {
            error_setg(errp, "Permission conflict on node '%s': permissions 'resize' are both "
                       "required by an unnamed block device (uses node '%s' as 'root' child) and "
                       "unshared by node '%s' (uses node '%s' as 'file' child).", bs->node_name,
                       bs->node_name, c->parent->node_name, bs->node_name);
            return false;
        }
    }
    return true;
}

bool coroutine_fn bdrv_co_resize(BlockDriverState *bs, int64_t length, bool exact,
                                 PreallocMode prealloc, GError **errp)
{
    bool ok;

    GLOBAL_STATE();
    bdrv_ref(bs);
    if (!check_right(bs, errp) ||
        !vm_job_mutex_lock_soon(bdrv_job_mutex(), NULL, "block_resize", errp)) {
        bdrv_co_unref(bs);
        return false;
    }
    /* Others were at work while it waited. */
    ok = check_right(bs, errp);
    if (ok) {
        bdrv_co_move_to(bs->ctx);
        bdrv_co_drained_begin(bs);
        bdrv_request_begin_drained(bs);
        ok = do_truncate(bs, length, exact, prealloc, errp);
        bdrv_request_end(bs);
        bdrv_drained_end(bs);
        bdrv_co_move_to(main_aio_context());
    }
    vm_job_mutex_unlock(bdrv_job_mutex());
    bdrv_co_unref(bs);
    return ok;
}

void coroutine_fn qmp_block_resize(const char *device, const char *node_name, int64_t size,
                                   GError **errp)
{
    BlockDriverState *bs = bdrv_lookup(device, node_name, errp);

    if (!bs) {
        return;
    }
    if (size < 0) {
        error_setg(errp, "Parameter 'size' expects a >0 size");
        return;
    }
    bdrv_co_resize(bs, size, false, PREALLOC_MODE_OFF, errp);
}
