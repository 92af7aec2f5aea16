/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Persistent dirty bitmaps: writing them when an image is closed, handed over or becomes
 * read-only.  Bits, tables and directory go to fresh clusters; when they are durable, one write
 * of a sector of the header makes them the image's bitmaps.  Before it the file has the former
 * ones, marked as in use.
 */
#include "block/dirty-bitmap.h"
#include "dirty-bitmap-int.h"
#include "qcow2-bitmap.h"

/* What is being written. */
typedef struct Store {
    GPtrArray *list;   /* Qcow2Bitmap: the new directory */
    GArray *taken;     /* Qcow2Free: clusters that only the new directory needs */
    uint64_t offset;
    size_t bytes;
} Store;

/* Takes count clusters behind each other for the new directory. */
static int coroutine_fn take(BlockDriverState *bs, Store *st, uint64_t count, uint64_t *offset)
{
    Qcow2State *s = bs->opaque;
    Qcow2Free f = { .count = count };
    int ret;

    co_mutex_lock(&s->lock);
    ret = qcow2_alloc_contiguous(bs, count, &f.cluster);
    co_mutex_unlock(&s->lock);
    if (ret >= 0) {
        g_array_append_val(st->taken, f);
        *offset = f.cluster << s->cluster_bits;
    }
    return ret;
}

/* Whether all bytes are value, which is 0 or 0xff. */
static bool all_bytes(const uint8_t *p, uint64_t n, uint8_t value)
{
    for (uint64_t i = 0; i < n; i++) {
        if (p[i] != value) {
            return false;
        }
    }
    return true;
}

/* Writes the bits that one cluster holds, unless they are all the same; the table's entry. */
static int coroutine_fn store_cluster(BlockDriverState *bs, Store *st, const uint8_t *bits,
                                      uint64_t bytes, uint64_t *entry)
{
    Qcow2State *s = bs->opaque;
    g_autofree uint8_t *buf = NULL;
    int ret;

    *entry = 0;
    if (all_bytes(bits, bytes, 0)) {
        return 0;
    }
    if (all_bytes(bits, bytes, 0xff)) {
        *entry = QCOW2_BITMAP_ALL_ONES;
        return 0;
    }
    buf = g_malloc0(s->cluster_size);
    memcpy(buf, bits, bytes);
    ret = take(bs, st, 1, entry);
    return ret < 0 ? ret : bdrv_co_pwrite(bs->file, *entry, s->cluster_size, buf, 0);
}

/* Writes a bitmap's bits and its table. */
static int coroutine_fn store_bits(BlockDriverState *bs, Store *st, const BdrvDirtyBitmap *bitmap,
                                   Qcow2Bitmap *b)
{
    Qcow2State *s = bs->opaque;
    uint64_t bytes = (bdrv_bits_number(&bitmap->bits) + 7) / 8, words = (bytes + 7) / 8;
    g_autofree uint64_t *le = g_try_new(uint64_t, words + 1), *table = NULL;
    int ret = 0;

    b->table_size = qcow2_bitmap_table_size(s, b->granularity_bits);
    table = g_try_new0(uint64_t, b->table_size + 1);
    if (!le || !table) {
        return -ENOMEM;
    }
    for (uint64_t i = 0; i < words; i++) {
        le[i] = htole64(bitmap->bits.words[i]);
    }
    for (uint32_t i = 0; i < b->table_size && ret >= 0; i++) {
        uint64_t at = (uint64_t)i << s->cluster_bits;

        ret = store_cluster(bs, st, (uint8_t *)le + at, MIN(s->cluster_size, bytes - at),
                            &table[i]);
    }
    if (ret >= 0 && b->table_size) {
        ret = take(bs, st, qcow2_clusters(s, (uint64_t)b->table_size * 8), &b->table_offset);
        ret = ret < 0 ? ret : qcow2_store_numbers(bs, b->table_offset, table, b->table_size);
    }
    return ret;
}

/* The bitmaps that are to be in the file, with references: they may be removed meanwhile. */
static GPtrArray *bitmaps_to_store(BlockDriverState *bs)
{
    GPtrArray *list = g_ptr_array_new_with_free_func((GDestroyNotify)bdrv_dirty_bitmap_unref);

    for (GList *l = bs->dirty_bitmaps.tail; l; l = l->prev) {
        BdrvDirtyBitmap *b = l->data;

        if (b->persistent) {
            g_ptr_array_add(list, bdrv_dirty_bitmap_ref(b));
        }
    }
    return list;
}

/* Adds one bitmap to the new directory; old is what the file has of it, or NULL. */
static int coroutine_fn store_one(BlockDriverState *bs, Store *st, const BdrvDirtyBitmap *bitmap,
                                  const Qcow2Bitmap *old)
{
    Qcow2State *s = bs->opaque;
    Qcow2Bitmap *b = g_new0(Qcow2Bitmap, 1);

    g_ptr_array_add(st->list, b);
    if (old) {
        *b = *old;
        b->extra = g_memdup2(old->extra, old->extra_size);
    } else {
        b->type = QCOW2_BITMAP_TYPE_DIRTY;
        b->granularity_bits = __builtin_ctzll(bitmap->bits.granularity);
    }
    b->name = g_strdup(bitmap->name);
    if (bitmap->inconsistent) {
        b->flags |= QCOW2_BITMAP_IN_USE;
        if (!old) {
            b->table_size = 0; /* nothing is known of it but that */
        }
        return 0;
    }
    b->flags &= ~(uint32_t)(QCOW2_BITMAP_IN_USE | QCOW2_BITMAP_AUTO);
    b->flags |= bitmap->enabled ? QCOW2_BITMAP_AUTO : 0;
    b->granularity_bits = __builtin_ctzll(bitmap->bits.granularity);
    return bitmap->bits.size == (int64_t)s->disk_size ? store_bits(bs, st, bitmap, b) : -EINVAL;
}

/* All that is to be in the file: in the order it has there, then what is new. */
static int coroutine_fn store_each(BlockDriverState *bs, Store *st)
{
    Qcow2State *s = bs->opaque;
    g_autofree uint8_t *dir = NULL, *padded = NULL;
    g_autoptr(GPtrArray) bitmaps = bitmaps_to_store(bs);
    g_autoptr(GHashTable) left = g_hash_table_new(g_str_hash, g_str_equal);
    uint64_t clusters;
    int ret = 0;

    if (!bdrv_dirty_bitmaps_idle(bs, NULL)) {
        return -EBUSY; /* a job or a transaction will say in the end what is dirty */
    }
    for (guint i = 0; i < bitmaps->len; i++) {
        g_hash_table_insert(left, ((BdrvDirtyBitmap *)bitmaps->pdata[i])->name, bitmaps->pdata[i]);
    }

    for (guint i = 0; i < s->bitmaps->len && ret >= 0; i++) {
        Qcow2Bitmap *old = s->bitmaps->pdata[i];
        BdrvDirtyBitmap *b = g_hash_table_lookup(left, old->name);

        ret = b ? store_one(bs, st, b, old) : 0;
        g_hash_table_remove(left, old->name);
    }
    for (guint i = 0; i < bitmaps->len && ret >= 0; i++) {
        BdrvDirtyBitmap *b = bitmaps->pdata[i];

        if (g_hash_table_lookup(left, b->name) == b) {
            ret = store_one(bs, st, b, NULL);
        }
    }
    if (ret < 0 || !st->list->len) {
        return ret;
    }
    dir = qcow2_bitmap_directory(st->list, &st->bytes);
    clusters = qcow2_clusters(s, st->bytes);
    padded = g_malloc0(clusters << s->cluster_bits);
    memcpy(padded, dir, st->bytes);
    ret = take(bs, st, clusters, &st->offset);
    return ret < 0 ? ret : bdrv_co_pwrite(bs->file, st->offset, clusters << s->cluster_bits,
                                          padded, 0);
}

/* Forgets the new directory and all that is in it. */
static void coroutine_fn give_back(BlockDriverState *bs, Store *st)
{
    Qcow2State *s = bs->opaque;

    if (!s->broken) {
        co_mutex_lock(&s->lock);
        for (guint i = 0; i < st->taken->len; i++) {
            Qcow2Free *f = &g_array_index(st->taken, Qcow2Free, i);

            qcow2_free_now(bs, f->cluster, f->count);
        }
        co_mutex_unlock(&s->lock);
    }
    g_array_set_size(st->taken, 0);
    g_ptr_array_set_size(st->list, 0);
}

/*
 * Makes a new directory durable in which all bitmaps are as of one instant: a transaction that
 * comes meanwhile may change several of them.
 */
static int coroutine_fn store_all(BlockDriverState *bs, Store *st)
{
    unsigned changes;
    int ret;

    do {
        give_back(bs, st);
        changes = bs->bitmap_changes;
        ret = store_each(bs, st);
        ret = ret < 0 ? ret : qcow2_flush(bs);
    } while (ret >= 0 && changes != bs->bitmap_changes);
    return ret;
}

/* Sets or clears the bit that says that the extension is right. */
static int coroutine_fn set_autoclear(BlockDriverState *bs, bool on)
{
    Qcow2State *s = bs->opaque;
    uint64_t old = s->autoclear;
    int ret;

    if (!(old & QCOW2_AUTOCLEAR_BITMAPS) == !on) {
        return 0;
    }
    co_mutex_lock(&s->flush_lock);
    s->autoclear = old ^ QCOW2_AUTOCLEAR_BITMAPS;
    ret = qcow2_header_write(bs);
    ret = ret < 0 ? ret : qcow2_sync_file(bs);
    if (ret < 0) {
        s->autoclear = old;
        qcow2_header_put_back(bs);
    }
    co_mutex_unlock(&s->flush_lock);
    return ret;
}

/*
 * The header refers to the new directory.  While the extension's data lies in two sectors, or
 * has to be made, the bit is off.
 */
static int coroutine_fn switch_directory(BlockDriverState *bs, const Store *st)
{
    Qcow2State *s = bs->opaque;
    uint64_t offset = s->bitmaps_offset, size = s->bitmaps_size;
    uint32_t count = s->bitmaps_count;
    int ret = 0;

    if (!st->list->len) {
        ret = set_autoclear(bs, false);
    }
    if (ret < 0) {
        return ret;
    }
    s->bitmaps_offset = st->offset;
    s->bitmaps_size = st->bytes;
    s->bitmaps_count = st->list->len;
    ret = qcow2_header_update(bs);
    if (!st->list->len) {
        return 0; /* an extension that could not go means nothing */
    }
    if (ret == -ENOSPC && count) {
        ret = set_autoclear(bs, false);
        ret = ret < 0 ? ret : qcow2_header_update(bs);
    }
    ret = ret < 0 ? ret : set_autoclear(bs, true);
    if (ret < 0) {
        s->bitmaps_offset = offset;
        s->bitmaps_size = size;
        s->bitmaps_count = count;
    }
    return ret;
}

/* What the former directory referred to and the new one does not. */
static void coroutine_fn free_former(BlockDriverState *bs, const Store *st, uint64_t offset,
                                     uint64_t size)
{
    Qcow2State *s = bs->opaque;
    g_autoptr(GHashTable) kept = g_hash_table_new(g_int64_hash, g_int64_equal);

    for (guint i = 0; i < st->list->len; i++) {
        g_hash_table_add(kept, &((Qcow2Bitmap *)st->list->pdata[i])->table_offset);
    }
    if (size) {
        qcow2_free_later(s, offset >> s->cluster_bits, qcow2_clusters(s, size));
    }
    for (guint i = 0; i < s->bitmaps->len; i++) {
        Qcow2Bitmap *b = s->bitmaps->pdata[i];
        g_autofree uint64_t *table = NULL;

        if (b->table_size && !g_hash_table_contains(kept, &b->table_offset)) {
            table = qcow2_load_numbers(bs, b->table_offset, b->table_size, "bitmap table", NULL);
        }
        for (uint32_t j = 0; table && j < b->table_size; j++) {
            if (table[j] & QCOW2_OFFSET_MASK) {
                qcow2_free_later(s, (table[j] & QCOW2_OFFSET_MASK) >> s->cluster_bits, 1);
            }
        }
        if (table) {
            qcow2_free_later(s, b->table_offset >> s->cluster_bits,
                             qcow2_clusters(s, (uint64_t)b->table_size * 8));
        }
    }
}

static bool anything_to_store(BlockDriverState *bs)
{
    Qcow2State *s = bs->opaque;
    bool any = s->bitmaps->len > 0;

    for (GList *l = bs->dirty_bitmaps.head; l; l = l->next) {
        any |= ((BdrvDirtyBitmap *)l->data)->persistent;
    }
    return any;
}

/* bitmaps_lock held. */
static int coroutine_fn store(BlockDriverState *bs)
{
    Qcow2State *s = bs->opaque;
    uint64_t offset = s->bitmaps_offset, size = s->bitmaps_count ? s->bitmaps_size : 0;
    Store st = { 0 };
    int ret;

    if (!anything_to_store(bs) || bs->for_check) {
        return 0;
    }
    if (s->corrupt || s->broken) {
        return -EIO;
    }
    bdrv_dirty_resize(bs);
    st.list = g_ptr_array_new_with_free_func((GDestroyNotify)qcow2_bitmap_free);
    st.taken = g_array_new(false, false, sizeof(Qcow2Free));
    ret = store_all(bs, &st);
    ret = ret < 0 ? ret : switch_directory(bs, &st);
    if (ret >= 0) {
        free_former(bs, &st, offset, size);
        g_ptr_array_unref(s->bitmaps);
        s->bitmaps = g_steal_pointer(&st.list);
    } else {
        give_back(bs, &st);
        g_ptr_array_unref(st.list);
    }
    g_array_unref(st.taken);
    return ret;
}

int coroutine_fn qcow2_bitmaps_store(BlockDriverState *bs)
{
    Qcow2State *s = bs->opaque;
    int ret;

    co_mutex_lock(&s->bitmaps_lock);
    s->bitmaps_stored = true;
    ret = store(bs);
    co_mutex_unlock(&s->bitmaps_lock);
    return ret;
}
