/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Work on whole images for tools: making, checking, measuring and amending them, changing
 * what they read through to.  Main thread. */
#include <errno.h>
#include <string.h>
#include "graph-int.h"
#include "qapi/error.h"
#include "qapi/keyval.h"

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

bool coroutine_fn bdrv_co_measure(const BlockDriver *drv, const BdrvCreateParams *params,
                                  BlockDriverState *source, BdrvMeasure *result, GError **errp)
{
    GLOBAL_STATE();
    *result = (BdrvMeasure){ 0 };
    if (!drv->co_measure) {
        error_setg(errp, "Block driver '%s' does not support size measurement", drv->name);
        return false;
    }
    return drv->co_measure(params, source, result, errp);
}

int coroutine_fn bdrv_co_change_backing(BlockDriverState *bs, const char *filename,
                                        const char *format)
{
    int ret;

    GLOBAL_STATE();
    if (!bs->drv->co_change_backing) {
        return -ENOTSUP;
    }
    if (bs->read_only || bs->inactive) {
        return -EACCES;
    }
    bdrv_ref(bs);
    bdrv_co_move_to(bs->ctx);
    ret = bs->drv->co_change_backing(bs, filename, format);
    bdrv_co_move_to(main_aio_context());
    bdrv_co_unref(bs);
    return ret;
}

int coroutine_fn bdrv_co_make_empty(BlockDriverState *bs)
{
    int ret;

    GLOBAL_STATE();
    if (!bs->drv->co_make_empty) {
        return -ENOTSUP;
    }
    if (bs->read_only || bs->inactive) {
        return -EACCES;
    }
    bdrv_ref(bs);
    bdrv_co_move_to(bs->ctx);
    ret = bs->drv->co_make_empty(bs);
    bdrv_co_move_to(main_aio_context());
    bdrv_co_unref(bs);
    return ret;
}

/* Enters bs as the one who drains it; the caller has checked that it may be written. */
static void coroutine_fn enter_drained(BlockDriverState *bs)
{
    bdrv_ref(bs);
    bdrv_co_move_to(bs->ctx);
    bdrv_co_drained_begin(bs);
    bdrv_request_begin_drained(bs);
}

static void coroutine_fn leave_drained(BlockDriverState *bs)
{
    bdrv_request_end(bs);
    bdrv_drained_end(bs);
    bdrv_co_move_to(main_aio_context());
    bdrv_co_unref(bs);
}

static bool check_writable(BlockDriverState *bs, GError **errp)
{
    if (bs->read_only || bs->inactive) {
        error_setg(errp, "Node '%s' is read-only", bs->node_name);
        return false;
    }
    return true;
}

bool coroutine_fn bdrv_co_amend(BlockDriverState *bs, GHashTable *options, bool force,
                                BdrvProgress *progress, void *opaque, GError **errp)
{
    const char *text = g_hash_table_lookup(options, "size");
    g_autoptr(GHashTable) own = g_hash_table_new(g_str_hash, g_str_equal);
    GHashTableIter iter;
    gpointer name, value;
    uint64_t size = 0;
    bool ok;

    GLOBAL_STATE();
    if (!bs->drv->co_amend) {
        error_setg(errp, "Format driver '%s' does not support option amendment", bs->drv->name);
        return false;
    }
    if (!check_writable(bs, errp)) {
        return false;
    }
    if (text && (!qapi_parse_size(text, &size) || size > INT64_MAX)) {
        error_setg(errp, "Parameter 'size' expects a size");
        return false;
    }
    g_hash_table_iter_init(&iter, options);
    while (g_hash_table_iter_next(&iter, &name, &value)) {
        if (strcmp(name, "size")) {
            g_hash_table_insert(own, name, value);
        }
    }
    enter_drained(bs);
    ok = bs->drv->co_amend(bs, own, force, progress, opaque, errp);
    leave_drained(bs);
    return ok && (!text || bdrv_co_resize(bs, size, false, PREALLOC_MODE_OFF, errp));
}
