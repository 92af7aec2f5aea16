/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of block/ that keep the node graph share: edges, permissions, request
 * gates, the inside of opening.  Drivers use block/block-int.h only.
 */
#ifndef BLOCK_GRAPH_INT_H
#define BLOCK_GRAPH_INT_H

#include "block/block-int.h"

/*
 * Makes an edge to bs from exactly one of parent and blk, takes a reference on bs and
 * notes the edge in bs->parents.  writable asks for the right to write; NULL and errp
 * when bs is read-only or another user has it.  Main thread.
 */
BdrvChild *bdrv_attach_child(BlockDriverState *bs, BlockDriverState *parent, BlockBackend *blk,
                             BdrvChildRole role, bool writable, GError **errp);
/* Removes the edge and frees it; the reference to the node passes to the caller. */
BlockDriverState *bdrv_detach_child(BdrvChild *child);

/* Nested sections without waiting: see drain.c. */
void bdrv_quiesce_begin(BlockDriverState *bs);
void bdrv_quiesce_end(BlockDriverState *bs);
/* The same from the side of a BlockBackend; ops are called at the outermost level. */
void blk_quiesce_begin(BlockBackend *blk);
void blk_quiesce_end(BlockBackend *blk);

/* BlockBackendOps.goto_*, for a handle that has them: blk_keeps_copy(). */
bool blk_keeps_copy(BlockBackend *blk);
bool coroutine_fn blk_goto_prepare(BlockBackend *blk, BdrvSnapshotReader *from, GError **errp);
void blk_goto_switch(BlockBackend *blk);
void blk_goto_end(BlockBackend *blk, bool rollback);

/*
 * A request enters bs through child (NULL: from nowhere in particular), waiting while bs
 * is drained; and leaves.  Home context.
 */
void coroutine_fn bdrv_request_begin(BlockDriverState *bs, BdrvChild *child);
void bdrv_request_end(BlockDriverState *bs);

/* What a child takes over from its parent where its own options are silent. */
typedef struct BdrvInherit {
    bool is_root; /* must have a node-name if by_user */
    bool by_user; /* blockdev-add, -blockdev */
    bool read_only, direct, no_flush, force_share, discard, no_backing, for_check, auto_read_only;
    bool probed;
    bool exclusive; /* even a raw image is locked as one that only we write */
    BlockDriverState *overlay; /* whose backing file it becomes */
    BlockDriverState *file; /* an open node for bs->file, NULL: as the options say */
} BdrvInherit;

/* Opens one node and what is below it; see bdrv_co_open(). */
BlockDriverState *coroutine_fn bdrv_co_open_node(const BlockdevOptions *options,
                                                 const BdrvInherit *inherit, AioContext *ctx,
                                                 GError **errp);

/* A string for messages about who uses a node: device id, name or "". */
const char *blk_user_name(BlockBackend *blk);

#endif
