/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The actions on dirty bitmaps.  They change memory only and all take place at the instant,
 * in the order of the transaction; the first that touches a bitmap takes it, and puts it
 * back if the transaction is undone.  The image just says that it does not know them any more.
 * Main thread.
 */
#include "block/dirty-bitmap.h"
#include "qapi/error.h"
#include "transaction-int.h"

typedef struct BitmapAction {
    BdrvAction action;
    BlockDriverState *bs;    /* the transaction has the reference */
    BdrvDirtyBitmap *bitmap; /* taken by this action, or made by it */
    bool made;
    int64_t cluster; /* of the image, for a new one */
} BitmapAction;

static BitmapAction *to_bitmap(BdrvAction *a)
{
    return (BitmapAction *)a;
}

static bool prepare_node(BdrvAction *a, const char *node, GError **errp)
{
    BitmapAction *b = to_bitmap(a);

    b->bs = bdrv_lookup(node, node, errp);
    if (!b->bs) {
        return false;
    }
    bdrv_transaction_add_node(a->t, b->bs);
    return true;
}

/* The bitmap, taken by the transaction.  bits: they are going to change, or go. */
static BdrvDirtyBitmap *find(BdrvAction *a, const char *name, bool bits, bool to_remove,
                             GError **errp)
{
    BitmapAction *b = to_bitmap(a);
    BdrvDirtyBitmap *bitmap = bdrv_dirty_bitmap_find(b->bs, name, errp);
    bool first;

    if (!bitmap || (bits && !bdrv_dirty_bitmap_kept(bitmap, errp)) ||
        !bdrv_dirty_bitmap_usable(bitmap, a->t, to_remove, errp) ||
        !bdrv_dirty_bitmap_begin(bitmap, a->t, &first, errp)) {
        return NULL;
    }
    if (first) {
        b->bitmap = bitmap;
    }
    return bitmap;
}

static bool coroutine_fn bitmap_abort(BdrvAction *a, GError **errp)
{
    BitmapAction *b = to_bitmap(a);

    if (b->bitmap) {
        bdrv_dirty_bitmap_end(b->bitmap, true);
        if (b->made) {
            bdrv_dirty_bitmap_free(b->bitmap);
        }
        b->bitmap = NULL;
    }
    return true;
}

static bool coroutine_fn bitmap_finish(BdrvAction *a, GError **errp)
{
    BitmapAction *b = to_bitmap(a);

    return !b->bitmap || bdrv_co_dirty_bitmap_in_use(b->bitmap, errp);
}

static void bitmap_settle(BdrvAction *a)
{
    BitmapAction *b = to_bitmap(a);

    if (b->bitmap) {
        bdrv_dirty_bitmap_end(b->bitmap, false);
        bdrv_dirty_bitmap_drop_hidden(b->bitmap);
    }
}

/* --- Adding ----------------------------------------------------------------------------- */

static BlockDirtyBitmapAdd *add_arg(BdrvAction *a)
{
    return a->arg->u.block_dirty_bitmap_add.data;
}

static bool coroutine_fn add_prepare(BdrvAction *a, GError **errp)
{
    BlockDirtyBitmapAdd *arg = add_arg(a);
    BitmapAction *b = to_bitmap(a);
    uint32_t g = arg->granularity;
    BdrvInfo info = { 0 };
    bool ok = true;

    if (!*arg->name) {
        error_setg(errp, "Bitmap name cannot be empty");
        return false;
    }
    if (!prepare_node(a, arg->node, errp)) {
        return false;
    }
    if (arg->has_granularity && (g < BDRV_BITMAP_MIN_GRANULARITY || (g & (g - 1)))) {
        error_setg(errp, "Granularity must be power of 2 and at least 512");
        return false;
    }
    if (b->bs->drv->co_info) {
        bdrv_co_move_to(b->bs->ctx);
        ok = b->bs->drv->co_info(b->bs, &info, errp);
        bdrv_co_move_to(main_aio_context());
        qapi_free_ImageInfoSpecific(info.specific);
        b->cluster = info.cluster_size;
    }
    return ok;
}

static bool coroutine_fn add_freeze(BdrvAction *a, GError **errp)
{
    BlockDirtyBitmapAdd *arg = add_arg(a);
    BitmapAction *b = to_bitmap(a);
    bool persistent = arg->has_persistent && arg->persistent;
    bool first;
    uint32_t granularity = arg->has_granularity
                               ? arg->granularity
                               : bdrv_dirty_bitmap_default_granularity(b->cluster);

    if (persistent && !bdrv_dirty_bitmap_find(b->bs, arg->name, NULL) &&
        !bdrv_dirty_bitmap_can_store(b->bs, arg->name, granularity, errp)) {
        return false;
    }
    b->bitmap = bdrv_dirty_bitmap_new(b->bs, arg->name, granularity, b->cluster, persistent,
                                      arg->has_disabled && arg->disabled, errp);
    if (!b->bitmap) {
        return false;
    }
    b->made = true;
    if (!bdrv_dirty_bitmap_begin(b->bitmap, a->t, &first, errp)) {
        bdrv_dirty_bitmap_free(b->bitmap);
        b->bitmap = NULL;
        return false;
    }
    return true;
}

const BdrvActionDriver bdrv_action_bitmap_add = {
    .instance_size = sizeof(BitmapAction),
    .prepare = add_prepare,
    .freeze = add_freeze,
    .finish = bitmap_finish,
    .abort = bitmap_abort,
    .settle = bitmap_settle,
};

/* --- Removing, clearing, enabling, disabling: all say which bitmap, and no more ------------ */

static BlockDirtyBitmap *named(BdrvAction *a)
{
    switch (a->arg->type) {
    case TRANSACTION_ACTION_TYPE_BLOCK_DIRTY_BITMAP_REMOVE:
        return a->arg->u.block_dirty_bitmap_remove.data;
    case TRANSACTION_ACTION_TYPE_BLOCK_DIRTY_BITMAP_CLEAR:
        return a->arg->u.block_dirty_bitmap_clear.data;
    case TRANSACTION_ACTION_TYPE_BLOCK_DIRTY_BITMAP_ENABLE:
        return a->arg->u.block_dirty_bitmap_enable.data;
    default:
        return a->arg->u.block_dirty_bitmap_disable.data;
    }
}

static bool coroutine_fn named_prepare(BdrvAction *a, GError **errp)
{
    BlockDirtyBitmap *arg = named(a);

    if (!bdrv_lookup(arg->node, arg->node, NULL)) {
        error_setg(errp, "Node '%s' not found", arg->node);
        return false;
    }
    return prepare_node(a, arg->node, errp);
}

static bool coroutine_fn named_freeze(BdrvAction *a, GError **errp)
{
    TransactionActionType kind = a->arg->type;
    bool remove = kind == TRANSACTION_ACTION_TYPE_BLOCK_DIRTY_BITMAP_REMOVE;
    bool clear = kind == TRANSACTION_ACTION_TYPE_BLOCK_DIRTY_BITMAP_CLEAR;
    BdrvDirtyBitmap *bitmap = find(a, named(a)->name, remove || clear, remove, errp);

    if (!bitmap) {
        return false;
    }
    if (remove) {
        bdrv_dirty_bitmap_hide(bitmap, true);
    } else if (clear) {
        bdrv_dirty_bitmap_clear(bitmap);
    } else {
        bdrv_dirty_bitmap_enable(bitmap,
                                 kind == TRANSACTION_ACTION_TYPE_BLOCK_DIRTY_BITMAP_ENABLE);
    }
    return true;
}

#define NAMED_DRIVER                                                                          \
    {                                                                                         \
        .instance_size = sizeof(BitmapAction), .prepare = named_prepare,                      \
        .freeze = named_freeze, .finish = bitmap_finish, .abort = bitmap_abort,               \
        .settle = bitmap_settle,                                                              \
    }

const BdrvActionDriver bdrv_action_bitmap_remove = NAMED_DRIVER;
const BdrvActionDriver bdrv_action_bitmap_clear = NAMED_DRIVER;
const BdrvActionDriver bdrv_action_bitmap_enable = NAMED_DRIVER;
const BdrvActionDriver bdrv_action_bitmap_disable = NAMED_DRIVER;

/* --- Merging ------------------------------------------------------------------------------- */

static bool coroutine_fn merge_prepare(BdrvAction *a, GError **errp)
{
    BlockDirtyBitmapMerge *arg = a->arg->u.block_dirty_bitmap_merge.data;

    if (!bdrv_lookup(arg->node, arg->node, NULL)) {
        error_setg(errp, "Node '%s' not found", arg->node);
        return false;
    }
    if (!prepare_node(a, arg->node, errp)) {
        return false;
    }
    for (BlockDirtyBitmapOrStrList *l = arg->bitmaps; l; l = l->next) {
        if (l->value->type == QTYPE_QDICT) {
            const char *node = l->value->u.external.node;
            BlockDriverState *bs = bdrv_lookup(node, node, NULL);

            if (!bs) {
                error_setg(errp, "Node '%s' not found", node);
                return false;
            }
            bdrv_transaction_add_node(a->t, bs);
        }
    }
    return true;
}

static bool merge_one(BdrvAction *a, BdrvDirtyBitmap *target, BlockDirtyBitmapOrStr *source,
                      GError **errp)
{
    bool local = source->type == QTYPE_QSTRING;
    BlockDriverState *bs = to_bitmap(a)->bs;
    BdrvDirtyBitmap *from;

    if (!local) {
        bs = bdrv_lookup(source->u.external.node, source->u.external.node, errp);
    }
    from = bs ? bdrv_dirty_bitmap_find(bs, local ? source->u.local : source->u.external.name, errp)
              : NULL;
    return from && bdrv_dirty_bitmap_usable(from, a->t, false, errp) &&
           bdrv_dirty_bitmap_merge(target, from, errp);
}

static bool coroutine_fn merge_freeze(BdrvAction *a, GError **errp)
{
    BlockDirtyBitmapMerge *arg = a->arg->u.block_dirty_bitmap_merge.data;
    BdrvDirtyBitmap *target = find(a, arg->target, true, false, errp);

    for (BlockDirtyBitmapOrStrList *l = arg->bitmaps; target && l; l = l->next) {
        if (!merge_one(a, target, l->value, errp)) {
            return false;
        }
    }
    return target != NULL;
}

const BdrvActionDriver bdrv_action_bitmap_merge = {
    .instance_size = sizeof(BitmapAction),
    .prepare = merge_prepare,
    .freeze = merge_freeze,
    .finish = bitmap_finish,
    .abort = bitmap_abort,
    .settle = bitmap_settle,
};
