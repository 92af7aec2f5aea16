/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A node's dirty bitmaps.  The I/O path marks them in the node's home context after each
 * write; everything else comes from the main thread with that context acquired, in steps
 * that do not yield.
 */
#include <inttypes.h>
#include <string.h>
#include "block/dirty-bitmap.h"
#include "dirty-bitmap-int.h"
#include "qapi/error.h"
#include "qapi/util.h"

/* --- I/O path ------------------------------------------------------------------------- */

static void error_no_room(GError **errp, const BdrvDirtyBitmap *b, const char *name)
{
    if (bdrv_bits_number(&b->bits) > BDRV_BITS_MAX) {
        error_setg(errp, "The granularity of the bitmap '%s' is too small for %" PRId64 " bytes",
                   name, b->bits.size);
    } else {
        error_setg(errp, "Not enough memory for the bitmap '%s'", name);
    }
}

/* Makes room for a node that has become longer; what is new counts as dirty. */
static bool fit(BdrvBits *bits, int64_t size)
{
    BdrvBits grown;
    int64_t old = bits->size;

    if (size <= old) {
        return true;
    }
    if (!bdrv_bits_init(&grown, size, bits->granularity)) {
        return false;
    }
    memcpy(grown.words, bits->words, (bdrv_bits_number(bits) + 63) / 64 * 8);
    bdrv_bits_set(&grown, old, size - old);
    bdrv_bits_free(bits);
    *bits = grown;
    return true;
}

static void mark(BdrvDirtyBitmap *b, int64_t offset, int64_t bytes)
{
    BdrvBits *all[] = { b->taken ? NULL : &b->bits, &b->aside, &b->undo.since };

    for (size_t i = 0; i < G_N_ELEMENTS(all); i++) {
        if (!all[i] || !all[i]->words || (all[i] != &b->undo.since && !b->enabled)) {
            continue;
        }
        if (!fit(all[i], b->bs->length)) {
            b->inconsistent = true; /* it can only be removed from now on */
            continue;
        }
        bdrv_bits_set(all[i], offset, bytes);
    }
}

void bdrv_dirty_mark(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    for (GList *l = bs->dirty_bitmaps.head; l; l = l->next) {
        mark(l->data, offset, bytes);
    }
}

void bdrv_dirty_resize(BlockDriverState *bs)
{
    for (GList *l = bs->dirty_bitmaps.head; l; l = l->next) {
        BdrvDirtyBitmap *b = l->data;
        BdrvBits *all[] = { &b->bits, &b->aside, &b->undo.saved, &b->undo.since };

        for (size_t i = 0; i < G_N_ELEMENTS(all); i++) {
            if (all[i]->words && !fit(all[i], bs->length)) {
                b->inconsistent = true;
            } else if (all[i]->words) {
                bdrv_bits_shrink(all[i], bs->length);
            }
        }
    }
}

void bdrv_dirty_mark_all(BlockDriverState *bs)
{
    for (GList *l = bs->dirty_bitmaps.head; l; l = l->next) {
        BdrvDirtyBitmap *b = l->data;

        /* Also behind an end that has come nearer, for the day when it goes away again. */
        if (!b->enabled && fit(&b->bits, bs->length)) {
            bdrv_bits_set(&b->bits, 0, INT64_MAX); /* it says nothing of this content */
        }
        mark(b, 0, INT64_MAX);
    }
}

/* A command changes what the image is to keep; context acquired. */
static void note_change(BdrvDirtyBitmap *b)
{
    b->bs->bitmap_changes += b->persistent;
}

/* --- Life -------------------------------------------------------------------------------- */

BdrvDirtyBitmap *bdrv_dirty_bitmap_find(BlockDriverState *bs, const char *name, GError **errp)
{
    GLOBAL_STATE();
    for (GList *l = bs->dirty_bitmaps.head; l; l = l->next) {
        BdrvDirtyBitmap *b = l->data;

        if (!b->hidden && !strcmp(b->name, name)) {
            return b;
        }
    }
    error_setg(errp, "Dirty bitmap '%s' not found", name);
    return NULL;
}

uint32_t bdrv_dirty_bitmap_default_granularity(int64_t cluster)
{
    return cluster > 0 ? CLAMP(cluster, 4096, 65536) : 65536;
}

BdrvDirtyBitmap *bdrv_dirty_bitmap_new(BlockDriverState *bs, const char *name,
                                       uint32_t granularity, int64_t cluster, bool persistent,
                                       bool disabled, GError **errp)
{
    BdrvDirtyBitmap *b;

    GLOBAL_STATE();
    if (strlen(name) > BDRV_BITMAP_MAX_NAME) {
        error_setg(errp, "Bitmap name too long: %s", name);
        return NULL;
    }
    if (bdrv_dirty_bitmap_find(bs, name, NULL)) {
        error_setg(errp, "Bitmap already exists: %s", name);
        return NULL;
    }
    if (!granularity) {
        granularity = bdrv_dirty_bitmap_default_granularity(cluster);
    }
    b = g_new0(BdrvDirtyBitmap, 1);
    if (!bdrv_bits_init(&b->bits, bs->length, granularity)) {
        error_no_room(errp, b, name);
        g_free(b);
        return NULL;
    }
    b->bs = bs;
    b->name = g_strdup(name);
    b->enabled = !disabled;
    b->persistent = persistent;
    b->refs = 1;
    aio_context_acquire(bs->ctx);
    g_queue_push_tail(&bs->dirty_bitmaps, b);
    note_change(b);
    aio_context_release(bs->ctx);
    return b;
}

BdrvDirtyBitmap *bdrv_dirty_bitmap_add_stored(BlockDriverState *bs, const char *name, int64_t size,
                                              int64_t granularity, bool enabled,
                                              bool inconsistent, GError **errp)
{
    BdrvDirtyBitmap *b = g_new0(BdrvDirtyBitmap, 1);

    IO_CODE(bs);
    if (!bdrv_bits_init(&b->bits, size, granularity)) {
        error_no_room(errp, b, name);
        g_free(b);
        return NULL;
    }
    b->bs = bs;
    b->name = g_strdup(name);
    b->enabled = enabled && !inconsistent;
    b->persistent = true;
    b->refs = 1;
    b->inconsistent = inconsistent;
    g_queue_push_tail(&bs->dirty_bitmaps, b);
    return b;
}

BdrvDirtyBitmap *bdrv_dirty_bitmap_ref(BdrvDirtyBitmap *b)
{
    b->refs++;
    return b;
}

void bdrv_dirty_bitmap_unref(BdrvDirtyBitmap *b)
{
    if (--b->refs) {
        return;
    }
    bdrv_bits_free(&b->bits);
    bdrv_bits_free(&b->aside);
    bdrv_bits_free(&b->undo.saved);
    bdrv_bits_free(&b->undo.since);
    g_free(b->name);
    g_free(b);
}

bool bdrv_dirty_bitmaps_idle(BlockDriverState *bs, GError **errp)
{
    for (GList *l = bs->dirty_bitmaps.head; l; l = l->next) {
        BdrvDirtyBitmap *b = l->data;

        if (b->persistent && (b->taken || b->undo.user)) {
            error_setg(errp, "Bitmap '%s' is currently in use by another operation and cannot be "
                       "used", b->name);
            return false;
        }
    }
    return true;
}

void bdrv_dirty_bitmaps_drop_stored(BlockDriverState *bs)
{
    GList *next;

    IO_CODE(bs);
    for (GList *l = bs->dirty_bitmaps.head; l; l = next) {
        next = l->next;
        if (((BdrvDirtyBitmap *)l->data)->persistent) {
            bdrv_dirty_bitmap_unref(l->data);
            g_queue_delete_link(&bs->dirty_bitmaps, l);
        }
    }
}

void bdrv_dirty_bitmap_free(BdrvDirtyBitmap *b)
{
    AioContext *ctx = b->bs->ctx;

    GLOBAL_STATE();
    aio_context_acquire(ctx);
    g_queue_remove(&b->bs->dirty_bitmaps, b);
    note_change(b);
    bdrv_dirty_bitmap_unref(b);
    aio_context_release(ctx);
}

bool bdrv_dirty_bitmap_can_store(BlockDriverState *bs, const char *name, uint32_t granularity,
                                 GError **errp)
{
    GError *err = NULL;
    bool ok;

    if (!bs->drv->can_store_bitmap) {
        error_setg(errp, "Can't store persistent bitmaps to %s: Operation not supported",
                   bs->node_name);
        return false;
    }
    aio_context_acquire(bs->ctx);
    ok = bs->drv->can_store_bitmap(bs, name, granularity, &err);
    aio_context_release(bs->ctx);
    if (!ok) {
        error_setg(errp, "Can't make bitmap '%s' persistent in '%s': %s", name, bs->node_name,
                   err->message);
        g_error_free(err);
        return false;
    }
    return true;
}

void bdrv_dirty_bitmaps_free_all(BlockDriverState *bs)
{
    while (!g_queue_is_empty(&bs->dirty_bitmaps)) {
        bdrv_dirty_bitmap_free(g_queue_peek_head(&bs->dirty_bitmaps));
    }
}

const char *bdrv_dirty_bitmap_name(const BdrvDirtyBitmap *b)
{
    return b->name;
}

BlockDriverState *bdrv_dirty_bitmap_node(const BdrvDirtyBitmap *b)
{
    return b->bs;
}

BlockDirtyInfoList *bdrv_dirty_bitmap_query(BlockDriverState *bs)
{
    BlockDirtyInfoList *list = NULL, **tail = &list;

    GLOBAL_STATE();
    aio_context_acquire(bs->ctx);
    for (GList *l = bs->dirty_bitmaps.tail; l; l = l->prev) { /* the latest comes first */
        BdrvDirtyBitmap *b = l->data;
        BlockDirtyInfo *info;

        if (b->hidden) {
            continue;
        }
        info = g_new0(BlockDirtyInfo, 1);
        info->name = g_strdup(b->name);
        info->count = bdrv_bits_count(&b->bits);
        info->granularity = b->bits.granularity;
        info->recording = b->enabled;
        info->busy = b->taken;
        info->persistent = b->persistent;
        info->has_inconsistent = info->inconsistent = b->inconsistent;
        QAPI_LIST_APPEND(tail, info);
    }
    aio_context_release(bs->ctx);
    return list;
}

/* --- For transactions ----------------------------------------------------------------------- */

bool bdrv_dirty_bitmap_usable(const BdrvDirtyBitmap *b, const void *user, bool to_remove,
                              GError **errp)
{
    GLOBAL_STATE();
    if (b->taken || (b->undo.user && b->undo.user != user)) {
        error_setg(errp, "Bitmap '%s' is currently in use by another operation and cannot be "
                   "used", b->name);
        return false;
    }
    if (b->inconsistent && !to_remove) {
        error_setg(errp, "Bitmap '%s' is inconsistent and cannot be used", b->name);
        return false;
    }
    return true;
}

bool bdrv_dirty_bitmap_kept(const BdrvDirtyBitmap *b, GError **errp)
{
    GLOBAL_STATE();
    if (b->persistent && b->bs->read_only) {
        error_setg(errp, "Bitmap '%s' is readonly and cannot be modified", b->name);
        return false;
    }
    return true;
}

bool bdrv_dirty_bitmap_begin(BdrvDirtyBitmap *b, const void *user, bool *first, GError **errp)
{
    bool ok = true;

    GLOBAL_STATE();
    *first = !b->undo.user;
    if (!*first) {
        return true;
    }
    aio_context_acquire(b->bs->ctx);
    ok = bdrv_bits_copy(&b->undo.saved, &b->bits) &&
         (!b->enabled || bdrv_bits_init(&b->undo.since, b->bits.size, b->bits.granularity));
    if (ok) {
        b->undo.user = user;
        b->undo.enabled = b->enabled;
    } else {
        bdrv_bits_free(&b->undo.saved);
        error_setg(errp, "Not enough memory for the bitmap '%s'", b->name);
    }
    aio_context_release(b->bs->ctx);
    return ok;
}

bool coroutine_fn bdrv_co_dirty_bitmap_in_use(BdrvDirtyBitmap *b, GError **errp)
{
    BlockDriverState *bs = b->bs;
    int ret = 0;

    GLOBAL_STATE();
    g_assert(b->taken || b->undo.user);
    if (b->persistent && bs->drv->co_bitmaps_in_use) {
        bdrv_co_move_to(bs->ctx);
        if (!bs->read_only && !bs->inactive) {
            ret = bs->drv->co_bitmaps_in_use(bs);
        }
        bdrv_co_move_to(main_aio_context());
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not mark the bitmaps of node '%s' as in use",
                         bs->node_name);
    }
    return ret >= 0;
}

void bdrv_dirty_bitmap_end(BdrvDirtyBitmap *b, bool undo)
{
    GLOBAL_STATE();
    aio_context_acquire(b->bs->ctx);
    if (undo) {
        g_assert(!b->taken);
        bdrv_bits_free(&b->bits);
        b->bits = b->undo.saved;
        b->undo.saved.words = NULL;
        b->enabled = b->undo.enabled;
        b->hidden = false;
        if (!fit(&b->bits, b->bs->length)) {
            b->inconsistent = true;
        } else if (b->undo.since.words) {
            bdrv_bits_merge(&b->bits, &b->undo.since);
        }
    }
    bdrv_bits_free(&b->undo.saved);
    bdrv_bits_free(&b->undo.since);
    b->undo.user = NULL;
    note_change(b);
    aio_context_release(b->bs->ctx);
}

void bdrv_dirty_bitmap_clear(BdrvDirtyBitmap *b)
{
    aio_context_acquire(b->bs->ctx);
    bdrv_bits_clear_all(&b->bits);
    note_change(b);
    aio_context_release(b->bs->ctx);
}

void bdrv_dirty_bitmap_enable(BdrvDirtyBitmap *b, bool on)
{
    aio_context_acquire(b->bs->ctx);
    b->enabled = on;
    note_change(b);
    aio_context_release(b->bs->ctx);
}

void bdrv_dirty_bitmap_hide(BdrvDirtyBitmap *b, bool hide)
{
    aio_context_acquire(b->bs->ctx);
    b->hidden = hide;
    note_change(b);
    aio_context_release(b->bs->ctx);
}

void bdrv_dirty_bitmap_drop_hidden(BdrvDirtyBitmap *b)
{
    if (b->hidden) {
        bdrv_dirty_bitmap_free(b);
    }
}

bool bdrv_dirty_bitmap_merge(BdrvDirtyBitmap *b, BdrvDirtyBitmap *from, GError **errp)
{
    BdrvBits copy = { 0 };
    bool ok;

    GLOBAL_STATE();
    aio_context_acquire(from->bs->ctx);
    ok = bdrv_bits_copy(&copy, &from->bits);
    aio_context_release(from->bs->ctx);
    if (!ok) {
        error_setg(errp, "Not enough memory for the bitmap '%s'", b->name);
        return false;
    }
    aio_context_acquire(b->bs->ctx);
    if (b->bits.size != copy.size) {
        error_setg(errp, "Bitmaps are of different sizes (destination size is %" PRId64
                   ", source size is %" PRId64 ") and can't be merged", b->bits.size, copy.size);
        ok = false;
    } else {
        bdrv_bits_merge(&b->bits, &copy);
        note_change(b);
    }
    aio_context_release(b->bs->ctx);
    bdrv_bits_free(&copy);
    return ok;
}

/* --- For jobs ---------------------------------------------------------------------------------- */

bool bdrv_dirty_bitmap_take(BdrvDirtyBitmap *b, BdrvBits *bits, GError **errp)
{
    bool ok;

    GLOBAL_STATE();
    aio_context_acquire(b->bs->ctx);
    ok = bdrv_bits_copy(bits, &b->bits);
    if (ok && !bdrv_bits_init(&b->aside, b->bits.size, b->bits.granularity)) {
        bdrv_bits_free(bits);
        ok = false;
    }
    b->taken = ok;
    aio_context_release(b->bs->ctx);
    if (!ok) {
        error_setg(errp, "Not enough memory for the bitmap '%s'", b->name);
    }
    return ok;
}

void bdrv_dirty_bitmap_release(BdrvDirtyBitmap *b, const BdrvBits *keep)
{
    GLOBAL_STATE();
    aio_context_acquire(b->bs->ctx);
    bdrv_bits_free(&b->bits);
    b->bits = b->aside;
    b->aside.words = NULL;
    b->taken = false;
    if (keep) {
        bdrv_bits_merge(&b->bits, keep);
    }
    note_change(b);
    aio_context_release(b->bs->ctx);
}
