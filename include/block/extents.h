/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where the content of a disk lies: a walk over a node, its backing chain and the files below,
 * for kf-img map and measure.  All in a coroutine in the node's home context.
 */
#ifndef BLOCK_EXTENTS_H
#define BLOCK_EXTENTS_H

#include "block/block-int.h"

typedef struct BdrvExtentWalk BdrvExtentWalk;

typedef struct BdrvExtent {
    int64_t bytes; /* all of it is alike */
    /* BDRV_BLOCK_*.  ALLOCATED: a layer has it.  DATA and ZERO both: a cluster of an image, in
     * a hole of the file.  OFFSET_VALID: file and map say where it can be read. */
    int status;
    int depth; /* 0: the node, 1: its backing node, ... : who has it, or is asked last */
    BlockDriverState *file; /* the protocol node */
    int64_t map;
} BdrvExtent;

BdrvExtentWalk *bdrv_extent_walk_new(BlockDriverState *bs);
void bdrv_extent_walk_free(BdrvExtentWalk *walk);
/*
 * What there is from offset on, at most bytes; both within the node.  0 or -errno.
 */
int coroutine_fn bdrv_co_extent(BdrvExtentWalk *walk, int64_t offset, int64_t bytes,
                                BdrvExtent *extent);

#endif
