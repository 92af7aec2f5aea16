/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Persistent dirty bitmaps: reading the bitmap directory and the bitmaps when an image is
 * opened.  An image that may be written has all of them marked as in use first, so that a
 * crash leaves them inconsistent; qcow2-bitmap-store.c takes the mark away when it is closed.
 */
#include "block/dirty-bitmap.h"
#include "dirty-bitmap-int.h"
#include "qapi/util.h"
#include "qcow2-bitmap.h"

void qcow2_bitmap_free(Qcow2Bitmap *b)
{
    g_free(b->name);
    g_free(b->extra);
    g_free(b);
}

/* The bytes of the bits for a disk of size bytes. */
static uint64_t bytes_of_bits(uint64_t size, int granularity_bits)
{
    uint64_t bits = size >> granularity_bits;

    bits += (size & ((1ULL << granularity_bits) - 1)) != 0;
    return (bits + 7) / 8;
}

uint64_t qcow2_bitmap_table_size(const Qcow2State *s, int granularity_bits)
{
    return qcow2_clusters(s, bytes_of_bits(s->disk_size, granularity_bits));
}

bool qcow2_bitmap_fits(const Qcow2State *s, uint64_t size, int granularity_bits, uint64_t *total)
{
    uint64_t bytes = bytes_of_bits(size, granularity_bits);

    *total += bytes;
    return bytes <= QCOW2_BITMAP_MAX_BYTES && *total <= QCOW2_BITMAP_MAX_TOTAL &&
           qcow2_clusters(s, bytes) <= QCOW2_BITMAP_MAX_TABLE;
}

bool qcow2_bitmap_known(const Qcow2State *s, const Qcow2Bitmap *b)
{
    uint32_t known = QCOW2_BITMAP_IN_USE | QCOW2_BITMAP_AUTO | QCOW2_BITMAP_EXTRA_COMPATIBLE;

    return b->type == QCOW2_BITMAP_TYPE_DIRTY && !(b->flags & ~known) &&
           (!b->extra_size || b->flags & QCOW2_BITMAP_EXTRA_COMPATIBLE) &&
           b->granularity_bits >= QCOW2_BITMAP_MIN_BITS &&
           b->granularity_bits <= QCOW2_BITMAP_MAX_BITS &&
           (b->flags & QCOW2_BITMAP_IN_USE ||
            b->table_size == qcow2_bitmap_table_size(s, b->granularity_bits));
}

bool qcow2_bitmap_table_ok(const Qcow2State *s, const Qcow2Bitmap *b)
{
    return !(b->table_offset & (s->cluster_size - 1)) && b->table_offset < QCOW2_MAX_HOST_OFFSET;
}

/* --- The directory ---------------------------------------------------------------------------- */

#define ENTRY 24

static size_t entry_bytes(const Qcow2Bitmap *b)
{
    return (ENTRY + b->extra_size + strlen(b->name) + 7) & ~(size_t)7;
}

uint8_t *qcow2_bitmap_directory(const GPtrArray *list, size_t *bytes)
{
    uint8_t *dir, *p;

    *bytes = 0;
    for (guint i = 0; i < list->len; i++) {
        *bytes += entry_bytes(list->pdata[i]);
    }
    p = dir = g_malloc0(*bytes);
    for (guint i = 0; i < list->len; i++) {
        Qcow2Bitmap *b = list->pdata[i];

        qcow2_put64(p, b->table_offset);
        qcow2_put32(p + 8, b->table_size);
        qcow2_put32(p + 12, b->flags);
        p[16] = b->type;
        p[17] = b->granularity_bits;
        qcow2_put16(p + 18, strlen(b->name));
        qcow2_put32(p + 20, b->extra_size);
        if (b->extra_size) {
            memcpy(p + ENTRY, b->extra, b->extra_size);
        }
        memcpy(p + ENTRY + b->extra_size, b->name, strlen(b->name));
        p += entry_bytes(b);
    }
    return dir;
}

/* One entry at p, of which left bytes are there; NULL if it cannot be one. */
static Qcow2Bitmap *parse_entry(const uint8_t *p, uint64_t left)
{
    uint64_t name_size, extra_size;
    Qcow2Bitmap *b;

    if (left < ENTRY) {
        return NULL;
    }
    name_size = qcow2_be16(p + 18);
    extra_size = qcow2_be32(p + 20);
    if (!name_size || name_size > QCOW2_BITMAP_MAX_NAME || extra_size > left - ENTRY ||
        name_size > left - ENTRY - extra_size ||
        memchr(p + ENTRY + extra_size, 0, name_size)) {
        return NULL;
    }
    b = g_new0(Qcow2Bitmap, 1);
    b->table_offset = qcow2_be64(p);
    b->table_size = qcow2_be32(p + 8);
    b->flags = qcow2_be32(p + 12);
    b->type = p[16];
    b->granularity_bits = p[17];
    b->extra_size = extra_size;
    b->extra = g_memdup2(p + ENTRY, extra_size);
    b->name = g_strndup((const char *)p + ENTRY + extra_size, name_size);
    return b;
}

static bool parse_directory(const Qcow2State *s, const uint8_t *dir, GPtrArray *list,
                            GError **errp)
{
    g_autoptr(GHashTable) names = g_hash_table_new(g_str_hash, g_str_equal);
    uint64_t at = 0;

    for (uint32_t i = 0; i < s->bitmaps_count; i++) {
        Qcow2Bitmap *b = at < s->bitmaps_size ? parse_entry(dir + at, s->bitmaps_size - at) : NULL;

        if (!b) {
            error_setg(errp, "Broken bitmap directory");
            return false;
        }
        g_ptr_array_add(list, b);
        if (!g_hash_table_add(names, b->name)) {
            error_setg(errp, "There are two bitmaps '%s'", b->name);
            return false;
        }
        at += entry_bytes(b);
    }
    if (at < s->bitmaps_size) {
        error_setg(errp, "More bitmaps found than specified in header extension");
    }
    return at >= s->bitmaps_size;
}

GPtrArray *coroutine_fn qcow2_bitmaps_read(BlockDriverState *bs, GError **errp)
{
    g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func((GDestroyNotify)qcow2_bitmap_free);
    Qcow2State *s = bs->opaque;
    uint64_t length = bs->file->bs->length;
    g_autofree uint8_t *dir = NULL;
    int ret;

    if (s->bitmaps_offset > length || s->bitmaps_size > length - s->bitmaps_offset) {
        error_setg(errp, "The bitmap directory lies beyond the end of the file");
        return NULL;
    }
    dir = g_malloc(s->bitmaps_size);
    ret = bdrv_co_pread(bs->file, s->bitmaps_offset, s->bitmaps_size, dir, 0);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not read the bitmap directory");
        return NULL;
    }
    return parse_directory(s, dir, list, errp) ? g_steal_pointer(&list) : NULL;
}

/* --- Bits ---------------------------------------------------------------------------------------- */

bool qcow2_bitmap_entry_ok(const Qcow2State *s, uint64_t entry)
{
    uint64_t host = entry & QCOW2_OFFSET_MASK;

    return !(host & (s->cluster_size - 1)) &&
           !(entry & ~QCOW2_OFFSET_MASK & ~(host ? 0 : QCOW2_BITMAP_ALL_ONES));
}

/* Reads the bits of one table entry into words, all 0 so far; -EINVAL: not a valid entry. */
static int coroutine_fn load_cluster(BlockDriverState *bs, uint64_t entry, uint8_t *to,
                                     uint64_t bytes)
{
    uint64_t host = entry & QCOW2_OFFSET_MASK;

    if (!qcow2_bitmap_entry_ok(bs->opaque, entry)) {
        return -EINVAL;
    }
    if (!host) {
        if (entry & QCOW2_BITMAP_ALL_ONES) {
            memset(to, 0xff, bytes);
        }
        return 0;
    }
    return bdrv_co_pread(bs->file, host, bytes, to, 0);
}

/* The bits are in the file's byte order, lowest bit first. */
static int coroutine_fn load_bits(BlockDriverState *bs, const Qcow2Bitmap *b, BdrvBits *bits)
{
    Qcow2State *s = bs->opaque;
    uint64_t bytes = (bdrv_bits_number(bits) + 7) / 8, words = (bytes + 7) / 8;
    g_autofree uint64_t *table = NULL;
    int ret = 0;

    table = qcow2_load_numbers(bs, b->table_offset, b->table_size, "bitmap table", NULL);
    if (!table) {
        return -EIO;
    }
    for (uint32_t i = 0; i < b->table_size && ret >= 0; i++) {
        uint64_t at = (uint64_t)i << s->cluster_bits;

        ret = load_cluster(bs, table[i], (uint8_t *)bits->words + at,
                           MIN(s->cluster_size, bytes - at));
    }
    for (uint64_t i = 0; i < words; i++) {
        bits->words[i] = le64toh(bits->words[i]);
    }
    if (words && bdrv_bits_number(bits) % 64) {
        bits->words[words - 1] &= (1ULL << bdrv_bits_number(bits) % 64) - 1;
    }
    return ret;
}

/* Makes b's bitmap in memory; *total: see qcow2_bitmap_fits(). */
static bool coroutine_fn load_bitmap(BlockDriverState *bs, const Qcow2Bitmap *b, uint64_t *total,
                                     GError **errp)
{
    Qcow2State *s = bs->opaque;
    bool ok = qcow2_bitmap_known(s, b) && !(b->flags & QCOW2_BITMAP_IN_USE);
    int bits = qcow2_bitmap_known(s, b) ? b->granularity_bits : 16;
    BdrvDirtyBitmap *bitmap;
    int ret = 0;

    if (!qcow2_bitmap_table_ok(s, b)) {
        error_setg(errp, "Bitmap '%s' doesn't satisfy the constraints", b->name);
        return false;
    }
    if (ok && !qcow2_bitmap_fits(s, s->disk_size, bits, total)) {
        error_setg(errp, "Bitmap '%s' needs too much memory", b->name);
        return false;
    }
    /* Nothing is known of an inconsistent one, and it needs no bits. */
    bitmap = bdrv_dirty_bitmap_add_stored(bs, b->name, ok ? s->disk_size : 0, 1LL << bits,
                                          b->flags & QCOW2_BITMAP_AUTO, !ok, errp);
    if (bitmap && ok) {
        ret = load_bits(bs, b, &bitmap->bits);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not read bitmap '%s'", b->name);
    }
    return bitmap && ret >= 0;
}

/* Writes the directory with all marked, durably.  bitmaps_lock held, or while it is opened. */
static int coroutine_fn mark(BlockDriverState *bs)
{
    Qcow2State *s = bs->opaque;
    g_autoptr(GPtrArray) changed = g_ptr_array_new();
    g_autofree uint8_t *dir = NULL;
    size_t bytes;
    int ret;

    for (guint i = 0; i < s->bitmaps->len; i++) {
        Qcow2Bitmap *b = s->bitmaps->pdata[i];

        if (!(b->flags & QCOW2_BITMAP_IN_USE)) {
            b->flags |= QCOW2_BITMAP_IN_USE;
            g_ptr_array_add(changed, b);
        }
    }
    if (!changed->len) {
        return 0;
    }
    dir = qcow2_bitmap_directory(s->bitmaps, &bytes);
    ret = bdrv_co_pwrite(bs->file, s->bitmaps_offset, bytes, dir, 0);
    ret = ret < 0 ? ret : qcow2_sync_file(bs);
    for (guint i = 0; ret < 0 && i < changed->len; i++) {
        ((Qcow2Bitmap *)changed->pdata[i])->flags &= ~(uint32_t)QCOW2_BITMAP_IN_USE;
    }
    return ret;
}

int coroutine_fn qcow2_bitmaps_begin_write(BlockDriverState *bs)
{
    Qcow2State *s = bs->opaque;
    int ret = 0;

    if (s->bitmaps_stored) {
        co_mutex_lock(&s->bitmaps_lock);
        ret = s->bitmaps_stored ? mark(bs) : 0;
        s->bitmaps_stored = ret < 0;
        co_mutex_unlock(&s->bitmaps_lock);
    }
    return ret;
}

bool coroutine_fn qcow2_bitmaps_load(BlockDriverState *bs, GError **errp)
{
    Qcow2State *s = bs->opaque;
    GPtrArray *list;
    uint64_t total = 0;
    bool ok;
    int ret = 0;

    if (!s->bitmaps_count || bs->for_check || bs->inactive) {
        return true;
    }
    list = qcow2_bitmaps_read(bs, errp);
    ok = list != NULL;
    if (ok) {
        g_ptr_array_unref(s->bitmaps);
        s->bitmaps = list;
    }
    for (guint i = 0; i < s->bitmaps->len && ok; i++) {
        ok = load_bitmap(bs, s->bitmaps->pdata[i], &total, errp);
    }
    if (ok && !bs->read_only) {
        ret = mark(bs);
    }
    s->bitmaps_stored = bs->read_only;
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not mark the bitmaps as in use");
    }
    return ok && ret >= 0;
}

/* --- What others ask ------------------------------------------------------------------------------ */

bool qcow2_can_store_bitmap(BlockDriverState *bs, const char *name, uint32_t granularity,
                            GError **errp)
{
    Qcow2State *s = bs->opaque;
    uint64_t total = 0, directory = 0, number = 0;
    bool fits = true;

    for (GList *l = bs->dirty_bitmaps.head; l; l = l->next) {
        BdrvDirtyBitmap *b = l->data;

        if (b->persistent) {
            number++;
            directory += ENTRY + strlen(b->name) + 8;
            fits &= b->inconsistent || qcow2_bitmap_fits(s, s->disk_size,
                                                         __builtin_ctzll(b->bits.granularity),
                                                         &total);
        }
    }
    directory += ENTRY + strlen(name) + 8;
    fits &= qcow2_bitmap_fits(s, s->disk_size, __builtin_ctz(granularity), &total);
    if (s->version < 3) {
        error_setg(errp, "Cannot store dirty bitmaps in qcow2 v2 files");
    } else if (bs->read_only) {
        error_setg(errp, "The image is read-only");
    } else if (number >= QCOW2_BITMAP_MAX_NUMBER) {
        error_setg(errp, "Maximum number of persistent bitmaps is already reached");
    } else if (directory > QCOW2_BITMAP_MAX_DIRECTORY) {
        error_setg(errp, "Not enough space in the bitmap directory");
    } else if (!fits) {
        error_setg(errp, "Too much space will be occupied by the bitmap. Use larger granularity");
    } else {
        return true;
    }
    return false;
}

bool qcow2_bitmaps_can_resize(BlockDriverState *bs, uint64_t size, GError **errp)
{
    Qcow2State *s = bs->opaque;
    uint64_t total = 0;

    for (GList *l = bs->dirty_bitmaps.head; l; l = l->next) {
        BdrvDirtyBitmap *b = l->data;
        int bits = __builtin_ctzll(b->bits.granularity);

        if (b->persistent && !b->inconsistent && !qcow2_bitmap_fits(s, size, bits, &total)) {
            error_setg(errp, "Too much space would be occupied by the bitmap '%s'", b->name);
            return false;
        }
    }
    return true;
}

Qcow2BitmapInfoList *qcow2_bitmaps_info(const Qcow2State *s)
{
    Qcow2BitmapInfoList *list = NULL, **tail = &list;

    for (guint i = 0; i < s->bitmaps->len; i++) {
        Qcow2Bitmap *b = s->bitmaps->pdata[i];
        Qcow2BitmapInfo *info = g_new0(Qcow2BitmapInfo, 1);
        Qcow2BitmapInfoFlagsList **flags = &info->flags;

        info->name = g_strdup(b->name);
        info->granularity = b->granularity_bits < 32 ? 1u << b->granularity_bits : 0;
        if (b->flags & QCOW2_BITMAP_IN_USE) {
            QAPI_LIST_APPEND(flags, QCOW2_BITMAP_INFO_FLAGS_IN_USE);
        }
        if (b->flags & QCOW2_BITMAP_AUTO) {
            QAPI_LIST_APPEND(flags, QCOW2_BITMAP_INFO_FLAGS_AUTO);
        }
        QAPI_LIST_APPEND(tail, info);
    }
    return list;
}
