/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Dirty bitmaps in a qcow2 image: what their two files share. */
#ifndef BLOCK_QCOW2_BITMAP_H
#define BLOCK_QCOW2_BITMAP_H

#include "qcow2.h"

#define QCOW2_BITMAP_MAX_NAME 1023
#define QCOW2_BITMAP_MAX_NUMBER 65535
#define QCOW2_BITMAP_MAX_DIRECTORY (QCOW2_BITMAP_MAX_NUMBER * 1024)
#define QCOW2_BITMAP_MIN_BITS 9
#define QCOW2_BITMAP_MAX_BITS 31
#define QCOW2_BITMAP_MAX_TABLE ((32 << 20) / 8) /* entries */
#define QCOW2_BITMAP_MAX_BYTES (512ULL << 20)   /* of the bits of one */
#define QCOW2_BITMAP_MAX_TOTAL (2ULL << 30)     /* of the bits of all */

enum { /* flags of a directory entry */
    QCOW2_BITMAP_IN_USE = 1,
    QCOW2_BITMAP_AUTO = 2,
    QCOW2_BITMAP_EXTRA_COMPATIBLE = 4,
};
#define QCOW2_BITMAP_TYPE_DIRTY 1
#define QCOW2_BITMAP_ALL_ONES 1ULL /* a table's entry without a cluster */

/* An entry of the bitmap directory as it is in the file. */
struct Qcow2Bitmap {
    char *name;
    uint64_t table_offset;
    uint32_t table_size; /* entries */
    uint32_t flags;
    uint8_t type, granularity_bits;
    uint8_t *extra;
    uint32_t extra_size;
};

/* The entries of a table for the whole disk, and the bytes of its bits. */
uint64_t qcow2_bitmap_table_size(const Qcow2State *s, int granularity_bits);
/*
 * Whether there may be such a bitmap for a disk of size bytes besides others with *total bytes of
 * bits, to which its own are added.
 */
bool qcow2_bitmap_fits(const Qcow2State *s, uint64_t size, int granularity_bits, uint64_t *total);
/* Whether it is one of which we know what it means, and its table has the size for it. */
bool qcow2_bitmap_known(const Qcow2State *s, const Qcow2Bitmap *b);
/* Whether there can be a table where it says; else nothing of it can be used, or even freed. */
bool qcow2_bitmap_table_ok(const Qcow2State *s, const Qcow2Bitmap *b);
/* Whether a bitmap's table can have such an entry. */
bool qcow2_bitmap_entry_ok(const Qcow2State *s, uint64_t entry);
/* Reads the directory: a new list of Qcow2Bitmap; NULL and errp if it is not one. */
GPtrArray *coroutine_fn qcow2_bitmaps_read(BlockDriverState *bs, GError **errp);
/* The directory's bytes for list; a new buffer. */
uint8_t *qcow2_bitmap_directory(const GPtrArray *list, size_t *bytes);

#endif
