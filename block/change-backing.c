/* SPDX-License-Identifier: GPL-2.0-or-later */
/* change-backing-file: the name that an image notes of its backing file.  Main thread. */
#include "block/active.h"
#include "block/transaction.h"
#include "graph-int.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-block-create.h"

static bool has_parent_node(BlockDriverState *bs)
{
    for (GList *l = bs->parents.head; l; l = l->next) {
        if (((BdrvChild *)l->data)->parent) {
            return true;
        }
    }
    return false;
}

static bool check(BlockDriverState *top, BlockDriverState *bs, const char *device, GError **errp)
{
    if (has_parent_node(top)) {
        error_setg(errp, "Need a root block node");
    } else if (!bdrv_backing(bs)) {
        error_setg(errp, "not allowing backing file change on an image without a backing file");
    } else if (!bdrv_is_below(bs, top)) {
        error_setg(errp, "'%s' and image file are not in the same chain", device);
    } else {
        return bdrv_check_active(bs, errp);
    }
    return false;
}

/* Drained. */
static void coroutine_fn write_name(BlockDriverState *bs, const char *name, GError **errp)
{
    int ret;

    if (!bdrv_co_set_writable(bs, errp)) {
        return;
    }
    ret = bdrv_co_change_backing(bs, name, bdrv_driver_name(bdrv_backing(bs)));
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not change backing file to '%s'", name);
    }
}

/* With the VM job mutex held. */
static void coroutine_fn change(BlockDriverState *bs, const char *name, GError **errp)
{
    bool was_read_only = bs->read_only;

    bdrv_co_move_to(bs->ctx);
    bdrv_co_drained_begin(bs);
    bdrv_co_move_to(main_aio_context());
    write_name(bs, name, errp);
    bdrv_co_move_to(bs->ctx);
    bdrv_drained_end(bs);
    bdrv_co_move_to(main_aio_context());
    if (was_read_only) {
        bdrv_co_set_read_only(bs);
    }
}

void coroutine_fn qmp_change_backing_file(const char *device, const char *image_node_name,
                                          const char *backing_file, GError **errp)
{
    BlockDriverState *top = bdrv_lookup(device, device, errp);
    BlockDriverState *bs = top ? bdrv_lookup(NULL, image_node_name, errp) : NULL;

    if (!bs || !check(top, bs, device, errp)) {
        return;
    }
    bdrv_ref(top);
    bdrv_ref(bs);
    if (vm_job_mutex_lock_soon(bdrv_job_mutex(), NULL, "change-backing-file", errp)) {
        /* Others were at work while it waited. */
        if (check(top, bs, device, errp)) {
            change(bs, backing_file, errp);
        }
        vm_job_mutex_unlock(bdrv_job_mutex());
    }
    bdrv_co_unref(bs);
    bdrv_co_unref(top);
}
