/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The inside of a dirty bitmap, for the files of block/ that store and load it.  Home
 * context, or main thread with that context acquired.
 */
#ifndef BLOCK_DIRTY_BITMAP_INT_H
#define BLOCK_DIRTY_BITMAP_INT_H

#include "block/block-int.h"
#include "block/dirty-bitmap.h"

struct BdrvDirtyBitmap {
    unsigned refs; /* the node's list, and whoever stores it */
    BlockDriverState *bs;
    char *name;
    BdrvBits bits;
    bool enabled;      /* follows writes */
    bool persistent;   /* goes into the image when it is closed */
    bool inconsistent; /* bits are missing: good for nothing but removal */
    bool hidden;       /* removed by a transaction that may still be undone */

    bool taken;     /* by a job: bits stay as they are */
    BdrvBits aside; /* what was written since then */

    struct { /* while a transaction has it */
        const void *user;
        bool enabled;
        BdrvBits saved; /* as it was */
        BdrvBits since; /* what was written since, if it was enabled */
    } undo;
};

/*
 * For who stores bitmaps, and waits meanwhile: one that is removed stays in memory.  Home context.
 */
BdrvDirtyBitmap *bdrv_dirty_bitmap_ref(BdrvDirtyBitmap *b);
void bdrv_dirty_bitmap_unref(BdrvDirtyBitmap *b);

#endif
