/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Dirty bitmaps: which parts of a node were written since a point in time, for incremental
 * backups.  A node's bitmaps belong to its home context; the main thread works on them with
 * that context acquired (the functions that say so acquire it themselves).
 *
 * Whoever uses a bitmap for longer than one call takes it: a transaction until it is over, so
 * that it can put the bitmap back as it would be without it, and a backup job, which keeps
 * the bits of its point in time while writes are noted aside.
 */
#ifndef BLOCK_DIRTY_BITMAP_H
#define BLOCK_DIRTY_BITMAP_H

#include "block/block.h"

#define BDRV_BITMAP_MAX_NAME 1023
#define BDRV_BITMAP_MIN_GRANULARITY 512

typedef struct BdrvDirtyBitmap BdrvDirtyBitmap;

/* Bits, each for granularity bytes of [0, size).  Plain data without a lock of its own. */
typedef struct BdrvBits {
    uint64_t *words;
    int64_t size;        /* bytes */
    int64_t granularity; /* bytes, a power of two */
} BdrvBits;

/* 512 MiB of them, as large as a bitmap that is stored in a qcow2 image may be for QEMU. */
#define BDRV_BITS_MAX (1LL << 32)

/* All clear (or a copy, of the same size); false where there is no memory for it, or where
 * there would be more than BDRV_BITS_MAX bits. */
bool bdrv_bits_init(BdrvBits *b, int64_t size, int64_t granularity);
bool bdrv_bits_copy(BdrvBits *b, const BdrvBits *from);
void bdrv_bits_free(BdrvBits *b);
/* For a shorter range; bits behind it are lost. */
void bdrv_bits_shrink(BdrvBits *b, int64_t size);
static inline int64_t bdrv_bits_number(const BdrvBits *b)
{
    return b->size / b->granularity + (b->size % b->granularity != 0);
}
static inline bool bdrv_bits_get(const BdrvBits *b, int64_t bit)
{
    return b->words[bit / 64] >> (bit % 64) & 1;
}
/* Sets or clears every bit of which a byte lies in the range; what is beyond size is left. */
void bdrv_bits_set(BdrvBits *b, int64_t offset, int64_t bytes);
void bdrv_bits_clear(BdrvBits *b, int64_t offset, int64_t bytes);
void bdrv_bits_clear_all(BdrvBits *b);
/* Adds what is set in from, whatever its granularity. */
void bdrv_bits_merge(BdrvBits *b, const BdrvBits *from);
/* The first set bit from bit on, or -1. */
int64_t bdrv_bits_next(const BdrvBits *b, int64_t bit);
/* Number of set bits times granularity. */
int64_t bdrv_bits_count(const BdrvBits *b);

/* --- In the node's home context (I/O path) ---------------------------------------------- */

/*
 * For a driver that opens an image: a bitmap that is stored there, for size bytes, without a
 * bit, or one of which nothing is known (inconsistent).  NULL and errp without memory.
 */
BdrvDirtyBitmap *bdrv_dirty_bitmap_add_stored(BlockDriverState *bs, const char *name, int64_t size,
                                              int64_t granularity, bool enabled,
                                              bool inconsistent, GError **errp);
/*
 * Whether no job or transaction uses a persistent bitmap: only then an image can have them as they
 * are.  Home context or main thread.
 */
bool bdrv_dirty_bitmaps_idle(BlockDriverState *bs, GError **errp);
/* For a driver that hands an image over, when that has them all: forgets them. */
void bdrv_dirty_bitmaps_drop_stored(BlockDriverState *bs);
/* Notes that a range was, or may have been, written. */
void bdrv_dirty_mark(BlockDriverState *bs, int64_t offset, int64_t bytes);
/* The node has another length: bits for what is new are set, for what is gone forgotten. */
void bdrv_dirty_resize(BlockDriverState *bs);
/* The content has been replaced: everything may differ. */
void bdrv_dirty_mark_all(BlockDriverState *bs);

/* --- Main thread; each acquires the node's context ---------------------------------------- */

/* NULL and errp (in QEMU's words) if there is none. */
BdrvDirtyBitmap *bdrv_dirty_bitmap_find(BlockDriverState *bs, const char *name, GError **errp);
/*
 * A new bitmap without a bit.  granularity 0: the default one, cluster (0: none) being the
 * image's cluster size.
 */
BdrvDirtyBitmap *bdrv_dirty_bitmap_new(BlockDriverState *bs, const char *name,
                                       uint32_t granularity, int64_t cluster, bool persistent,
                                       bool disabled, GError **errp);
void bdrv_dirty_bitmap_free(BdrvDirtyBitmap *b);
/* The granularity of a bitmap for an image with clusters of this size (0: none). */
uint32_t bdrv_dirty_bitmap_default_granularity(int64_t cluster);
/* Whether bs's image can keep such a bitmap. */
bool bdrv_dirty_bitmap_can_store(BlockDriverState *bs, const char *name, uint32_t granularity,
                                 GError **errp);
/* Frees all of a node that is closed. */
void bdrv_dirty_bitmaps_free_all(BlockDriverState *bs);
const char *bdrv_dirty_bitmap_name(const BdrvDirtyBitmap *b);
BlockDriverState *bdrv_dirty_bitmap_node(const BdrvDirtyBitmap *b);
/* The list for query-block; NULL if there is none. */
BlockDirtyInfoList *bdrv_dirty_bitmap_query(BlockDriverState *bs);

/*
 * Whether user (a transaction, or NULL) may use b: no job or other transaction has it, and it
 * can be trusted unless only its removal is wanted.
 */
bool bdrv_dirty_bitmap_usable(const BdrvDirtyBitmap *b, const void *user, bool to_remove,
                              GError **errp);
/*
 * Whether a change of b's bits, or its removal, would last: not in an image that is read-only, if it
 * is stored there.
 */
bool bdrv_dirty_bitmap_kept(const BdrvDirtyBitmap *b, GError **errp);
/*
 * Takes b for a transaction: notes what it is and follows all writes from now on.  false and
 * errp without memory.  *first says whether the transaction had not taken it yet; only then
 * end() must be called, with undo to make it what it would be now without the transaction.
 */
bool bdrv_dirty_bitmap_begin(BdrvDirtyBitmap *b, const void *user, bool *first, GError **errp);
/*
 * Whoever has taken b calls it before the user hears of that: until the image stores its bitmaps
 * the next time, which it does not while b is taken, a crash leaves none that claims to be right.
 */
bool coroutine_fn bdrv_co_dirty_bitmap_in_use(BdrvDirtyBitmap *b, GError **errp);
void bdrv_dirty_bitmap_end(BdrvDirtyBitmap *b, bool undo);
/* What transactions do to a bitmap they have taken. */
void bdrv_dirty_bitmap_clear(BdrvDirtyBitmap *b);
void bdrv_dirty_bitmap_enable(BdrvDirtyBitmap *b, bool on);
/* Out of sight, or back again. */
void bdrv_dirty_bitmap_hide(BdrvDirtyBitmap *b, bool hide);
/* Frees b if it is hidden. */
void bdrv_dirty_bitmap_drop_hidden(BdrvDirtyBitmap *b);
bool bdrv_dirty_bitmap_merge(BdrvDirtyBitmap *b, BdrvDirtyBitmap *from, GError **errp);

/*
 * A backup job takes b: *bits is a copy of what is dirty now; writes are noted aside until
 * release(), which makes b what was written since, and adds what is in keep (NULL: nothing).
 */
bool bdrv_dirty_bitmap_take(BdrvDirtyBitmap *b, BdrvBits *bits, GError **errp);
void bdrv_dirty_bitmap_release(BdrvDirtyBitmap *b, const BdrvBits *keep);

#endif
