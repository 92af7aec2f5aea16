/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The part of test-qcow2-crash that is about persistent dirty bitmaps: some are made, changed
 * and removed while the guest writes, and each store notes what they were and what the disk
 * held.  A bitmap that is valid in a crashed image must be as of the last store, or of the one
 * that the crash cut off, the disk must be the one of that instant, and no command that has
 * changed a bitmap since may have been answered.  Include after qcow2-test.h.
 */
#ifndef TESTS_UNIT_QCOW2_CRASH_BITMAPS_H
#define TESTS_UNIT_QCOW2_CRASH_BITMAPS_H

#include "block/dirty-bitmap-int.h"

#define BITMAPS_MAX 4
#define BITMAP_SECTOR 512

/* A bitmap as the image has it in memory, and what it must know at least. */
typedef struct BitmapModel {
    char name[16];
    bool *dirty; /* per sector: written while it was enabled, or new */
} BitmapModel;

typedef struct StoredBitmap {
    char name[16];
    bool enabled;
    BdrvBits bits;
} StoredBitmap;

/* A store: when it was begun and when it was over, in events of the record. */
typedef struct BitmapStore {
    guint from, complete;
    guint changed; /* the first command after it has been answered; G_MAXUINT: none yet */
    GPtrArray *bitmaps; /* StoredBitmap */
    int64_t sectors;
    uint32_t *disk;     /* generation per sector */
} BitmapStore;

typedef struct BitmapRun {
    int64_t max_sectors;
    GPtrArray *models; /* BitmapModel */
    GPtrArray *stores; /* BitmapStore */
    int serial;
} BitmapRun;

static void bitmap_model_free(gpointer opaque)
{
    BitmapModel *m = opaque;

    g_free(m->dirty);
    g_free(m);
}

static void stored_bitmap_free(gpointer opaque)
{
    StoredBitmap *b = opaque;

    bdrv_bits_free(&b->bits);
    g_free(b);
}

static void bitmap_store_free(gpointer opaque)
{
    BitmapStore *st = opaque;

    g_ptr_array_unref(st->bitmaps);
    g_free(st->disk);
    g_free(st);
}

static void bitmap_run_init(BitmapRun *b, int64_t max_sectors)
{
    *b = (BitmapRun) { .max_sectors = max_sectors,
                       .models = g_ptr_array_new_with_free_func(bitmap_model_free),
                       .stores = g_ptr_array_new_with_free_func(bitmap_store_free) };
}

static void bitmap_run_destroy(BitmapRun *b)
{
    g_ptr_array_unref(b->models);
    g_ptr_array_unref(b->stores);
}

/* --- While it runs ------------------------------------------------------------------------- */

static BdrvDirtyBitmap *bitmap_of(BdrvChild *image, const char *name)
{
    BdrvDirtyBitmap *b = bdrv_dirty_bitmap_find(image->bs, name, NULL);

    g_assert_nonnull(b);
    g_assert_false(b->inconsistent);
    return b;
}

/* Takes it as a transaction does, and what is changed in between is answered when it is over. */
static void bitmap_begin(BdrvDirtyBitmap *bitmap)
{
    GError *err = NULL;
    bool first;

    g_assert_true(bdrv_dirty_bitmap_begin(bitmap, &bitmap_begin, &first, &err) && first);
}

static void coroutine_fn bitmap_end(BdrvDirtyBitmap *bitmap)
{
    GError *err = NULL;

    bdrv_co_dirty_bitmap_in_use(bitmap, &err);
    g_assert_no_error(err);
    bdrv_dirty_bitmap_end(bitmap, false);
    bdrv_dirty_bitmap_drop_hidden(bitmap);
}

static void coroutine_fn bitmap_add(BitmapRun *b, BdrvChild *image, GRand *rand)
{
    uint32_t granularity = BITMAP_SECTOR << g_rand_int_range(rand, 0, 4);
    BitmapModel *m = g_new0(BitmapModel, 1);
    BdrvDirtyBitmap *bitmap;
    GError *err = NULL;

    g_snprintf(m->name, sizeof(m->name), "b%d", b->serial++);
    m->dirty = g_new0(bool, b->max_sectors);
    g_assert_true(bdrv_dirty_bitmap_can_store(image->bs, m->name, granularity, &err));
    bitmap = bdrv_dirty_bitmap_new(image->bs, m->name, granularity, 0, true,
                                   g_rand_int_range(rand, 0, 4) == 0, &err);
    g_assert_no_error(err);
    bitmap_begin(bitmap);
    bitmap_end(bitmap);
    g_ptr_array_add(b->models, m);
}

static void coroutine_fn bitmap_change(BitmapRun *b, BdrvChild *image, guint n, GRand *rand)
{
    BitmapModel *m = b->models->pdata[n];
    BdrvDirtyBitmap *bitmap = bitmap_of(image, m->name);

    bitmap_begin(bitmap);
    switch (g_rand_int_range(rand, 0, 4)) {
    case 0:
        bdrv_dirty_bitmap_hide(bitmap, true);
        g_ptr_array_remove_index(b->models, n);
        break;
    case 1:
        bdrv_dirty_bitmap_clear(bitmap);
        memset(m->dirty, 0, b->max_sectors * sizeof(bool));
        break;
    default:
        bdrv_dirty_bitmap_enable(bitmap, !bitmap->enabled);
    }
    bitmap_end(bitmap);
}

/* Makes one, or does something to one that is there; log is the record of the image. */
static void coroutine_fn bitmap_step(BitmapRun *b, BdrvChild *image, GRand *rand,
                                     const GArray *log)
{
    BitmapStore *last = b->stores->len ? b->stores->pdata[b->stores->len - 1] : NULL;
    guint n = g_rand_int_range(rand, 0, BITMAPS_MAX);

    if (n < b->models->len) {
        bitmap_change(b, image, n, rand);
    } else {
        bitmap_add(b, image, rand);
    }
    if (last) {
        last->changed = MIN(last->changed, log->len);
    }
}

/* The guest writes these sectors. */
static void bitmap_written(BitmapRun *b, BdrvChild *image, int64_t sector, int64_t n)
{
    for (guint i = 0; i < b->models->len; i++) {
        BitmapModel *m = b->models->pdata[i];

        if (bitmap_of(image, m->name)->enabled) {
            memset(m->dirty + sector, true, n * sizeof(bool));
        }
    }
}

/* The disk has another size: what is new is dirty, whoever follows it. */
static void bitmap_resized(BitmapRun *b, int64_t before, int64_t now)
{
    for (guint i = 0; i < b->models->len; i++) {
        BitmapModel *m = b->models->pdata[i];

        memset(m->dirty + MIN(before, now), now > before,
               (MAX(before, now) - MIN(before, now)) * sizeof(bool));
    }
}

/* The disk went back to a snapshot, of these sectors. */
static void bitmap_replaced(BitmapRun *b, BdrvChild *image, int64_t sectors)
{
    bdrv_dirty_resize(image->bs);
    bdrv_dirty_mark_all(image->bs);
    for (guint i = 0; i < b->models->len; i++) {
        BitmapModel *m = b->models->pdata[i];

        memset(m->dirty, 0, b->max_sectors * sizeof(bool));
        memset(m->dirty, true, sectors * sizeof(bool));
    }
}

static StoredBitmap *store_bitmap(BdrvChild *image, const BitmapModel *m, int64_t sectors)
{
    BdrvDirtyBitmap *bitmap = bitmap_of(image, m->name);
    StoredBitmap *s = g_new0(StoredBitmap, 1);

    g_strlcpy(s->name, m->name, sizeof(s->name));
    s->enabled = bitmap->enabled;
    g_assert_true(bdrv_bits_copy(&s->bits, &bitmap->bits));
    g_assert_cmpint(s->bits.size, ==, sectors * BITMAP_SECTOR);
    for (int64_t i = 0; i < sectors; i++) {
        if (m->dirty[i]) {
            g_assert_true(bdrv_bits_get(&s->bits, i * BITMAP_SECTOR / s->bits.granularity));
        }
    }
    return s;
}

/* The image is going to store its bitmaps; event is the next one of the record. */
static BitmapStore *bitmap_store_begin(BitmapRun *b, BdrvChild *image, guint event,
                                       const uint32_t *disk, int64_t sectors)
{
    BitmapStore *st = g_new0(BitmapStore, 1);

    st->from = event;
    st->complete = st->changed = G_MAXUINT;
    st->sectors = sectors;
    st->disk = g_memdup2(disk, b->max_sectors * sizeof(uint32_t));
    st->bitmaps = g_ptr_array_new_with_free_func(stored_bitmap_free);
    for (guint i = 0; i < b->models->len; i++) {
        g_ptr_array_add(st->bitmaps, store_bitmap(image, b->models->pdata[i], sectors));
    }
    g_ptr_array_add(b->stores, st);
    return st;
}

/* --- After a crash --------------------------------------------------------------------------- */

static const StoredBitmap *find_stored(const BitmapStore *st, const char *name)
{
    for (guint i = 0; st && i < st->bitmaps->len; i++) {
        const StoredBitmap *s = st->bitmaps->pdata[i];

        if (!strcmp(s->name, name)) {
            return s;
        }
    }
    return NULL;
}

static bool is_as_stored(const BdrvDirtyBitmap *b, const StoredBitmap *s)
{
    bool same = s && b->enabled == s->enabled && b->bits.size == s->bits.size &&
                b->bits.granularity == s->bits.granularity;

    for (int64_t i = 0; same && i < bdrv_bits_number(&s->bits); i++) {
        same = bdrv_bits_get(&b->bits, i) == bdrv_bits_get(&s->bits, i);
    }
    return same;
}

/* Of the last store that was over, and of the one under way if there is one, all must be there. */
static void assert_present(BdrvChild *image, guint cut, const BitmapStore *over,
                           const BitmapStore *under_way)
{
    for (guint i = 0; over && i < over->bitmaps->len; i++) {
        const StoredBitmap *s = over->bitmaps->pdata[i];

        if ((!under_way || find_stored(under_way, s->name)) &&
            !bdrv_dirty_bitmap_find(image->bs, s->name, NULL)) {
            g_error("cut at %u: bitmap %s is gone", cut, s->name);
        }
    }
}

/*
 * Checks the bitmaps of an image that was cut off there.  The store that its disk must be of;
 * NULL when no bitmap in it is valid.
 */
static const BitmapStore *bitmap_check(const BitmapRun *b, BdrvChild *image, guint cut)
{
    const BitmapStore *over = NULL, *under_way = NULL, *found = NULL;

    for (guint i = 0; i < b->stores->len; i++) {
        const BitmapStore *st = b->stores->pdata[i];

        over = st->complete <= cut ? st : over;
        under_way = st->from <= cut && st->complete > cut ? st : under_way;
    }
    assert_present(image, cut, over, under_way);
    for (GList *l = image->bs->dirty_bitmaps.head; l; l = l->next) {
        const BdrvDirtyBitmap *bitmap = l->data;
        const StoredBitmap *old = find_stored(over, bitmap->name);
        const StoredBitmap *new = find_stored(under_way, bitmap->name);

        if (!old && !new) {
            g_error("cut at %u: bitmap %s has been removed, or is not stored yet", cut,
                    bitmap->name);
        }
        if (bitmap->inconsistent) {
            continue;
        }
        if (!is_as_stored(bitmap, old) && !is_as_stored(bitmap, new)) {
            g_error("cut at %u: bitmap %s is of no store", cut, bitmap->name);
        }
        found = is_as_stored(bitmap, new) ? under_way : over;
    }
    if (found && found->changed <= cut) {
        g_error("cut at %u: bitmaps are valid, but a command has changed one since", cut);
    }
    return found;
}

#endif
