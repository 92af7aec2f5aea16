/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Work on whole images for tools: making and checking them.  Main thread. */
#include "block/block-int.h"
#include "qapi/error.h"

bool coroutine_fn bdrv_co_create(const BlockDriver *drv, const BdrvCreateParams *params,
                                 AioContext *ctx, GError **errp)
{
    GLOBAL_STATE();
    if (!drv->co_create) {
        error_setg(errp, "Format driver '%s' does not support image creation", drv->name);
        return false;
    }
    if (params->size < 0) {
        error_setg(errp, "Image size cannot be negative");
        return false;
    }
    return drv->co_create(params, ctx, errp);
}

bool coroutine_fn bdrv_co_check(BlockDriverState *bs, BdrvCheckResult *result, int fix,
                                GError **errp)
{
    bool ok;

    GLOBAL_STATE();
    if (!bs->drv->co_check) {
        error_setg(errp, "This image format does not support checks");
        return false;
    }
    if (fix && bs->read_only) {
        error_setg(errp, "Node '%s' is read-only and cannot be repaired", bs->node_name);
        return false;
    }
    bdrv_ref(bs);
    bdrv_co_move_to(bs->ctx);
    ok = bs->drv->co_check(bs, result, fix, errp);
    bdrv_co_move_to(main_aio_context());
    bdrv_co_unref(bs);
    return ok;
}
