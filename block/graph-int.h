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

/*
 * Gives the edge the right to write, or takes it away; false and errp as above.  Main thread, does
 * not yield.
 */
bool bdrv_child_set_writable(BdrvChild *child, bool writable, GError **errp);

/* Brings the right to write through bs->file in line with what bs's users have. */
void bdrv_update_right_below(BlockDriverState *bs);

/*
 * The instant of an external snapshot: top's users use overlay from now on, which reads
 * through to top.  Both are drained and live in one context; overlay has no users and no
 * backing node; the caller has a reference on both.  Main thread, does not yield.
 */
void bdrv_append(BlockDriverState *overlay, BlockDriverState *top);
/* Takes an overlay out again; its content is not looked at.  The same rules. */
void coroutine_fn bdrv_co_unappend(BlockDriverState *overlay);
/*
 * Moves bs and what is below it to ctx; they are used by nobody, and the caller has exactly
 * one reference on bs.  Does nothing if they are there.  Main thread.
 */
bool coroutine_fn bdrv_co_move_tree(BlockDriverState *bs, AioContext *ctx, GError **errp);

/* Nested sections without waiting: see drain.c. */
void bdrv_quiesce_begin(BlockDriverState *bs);
void bdrv_quiesce_end(BlockDriverState *bs);
/* The same from the side of a BlockBackend; ops are called at the outermost level. */
void blk_quiesce_begin(BlockBackend *blk);
void blk_quiesce_end(BlockBackend *blk);

/* BlockBackendOps.resized. */
void blk_resized(BlockBackend *blk);
/* The length of bs has changed: filters above it and whoever uses them follow.  Home context. */
void bdrv_tell_resized(BlockDriverState *bs);
/* BlockBackendOps.goto_*, for a handle that has them: blk_keeps_copy(). */
bool blk_keeps_copy(BlockBackend *blk);
bool coroutine_fn blk_goto_prepare(BlockBackend *blk, BdrvSnapshotReader *from, GError **errp);
void blk_goto_switch(BlockBackend *blk);
void blk_goto_end(BlockBackend *blk, bool rollback);

/*
 * A request enters a node, waiting while that is drained; and leaves.  One that comes through
 * a child enters the node where the child leads when the gate opens, and returns it: a drained
 * section may have put another node there.  Home context.
 */
void coroutine_fn bdrv_request_begin(BlockDriverState *bs);
BlockDriverState *coroutine_fn bdrv_child_request_begin(BdrvChild *child);
void bdrv_request_end(BlockDriverState *bs);
/* A request of the one who drains bs: it and what it does below pass the gates. */
void bdrv_request_begin_drained(BlockDriverState *bs);
/* Flushes the node where child leads. */
int coroutine_fn bdrv_co_flush_child(BdrvChild *child);
/*
 * Reads from bs on behalf of a request that is in flight in it already, whatever the gate
 * says.  Any offset and length within the node.
 */
int coroutine_fn bdrv_co_pread_inside(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                      void *buf);
/* The same for bdrv_co_block_status(); the range must lie within the node. */
int coroutine_fn bdrv_co_block_status_inside(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                             int64_t *pnum, int64_t *map);
/* And for bdrv_co_block_status_above(), all the way down. */
int coroutine_fn bdrv_co_block_status_above_inside(BlockDriverState *bs, int64_t offset,
                                                   int64_t bytes, int64_t *pnum);
/*
 * bs is a backing node from now on that nobody writes: makes all durable and, where the file
 * below is bs's alone, lets others have the right to write to it.  What cannot be flushed
 * stays writable.  Main thread, with a reference.
 */
void coroutine_fn bdrv_co_set_read_only(BlockDriverState *bs);
/*
 * The way back, also for a node that was opened to be read: it may be written, and whatever the user
 * has not made below it.  false and errp with all as it was.  Drained, main thread, with a reference.
 */
bool coroutine_fn bdrv_co_set_writable(BlockDriverState *bs, GError **errp);

/* QMP wants one line; what follows in the message is a hint for people at a terminal. */
void bdrv_propagate_first_line(GError **errp, GError *err);

/* What a child takes over from its parent where its own options are silent. */
typedef struct BdrvInherit {
    bool is_root; /* must have a node-name if by_user */
    bool by_user; /* blockdev-add, -blockdev */
    bool read_only, direct, no_flush, threads, force_share, discard, no_backing, for_check, auto_read_only;
    bool for_repair; /* with for_check */
    bool no_io;
    bool probed;
    bool exclusive; /* even a raw image is locked as one that only we write */
    bool by_image;  /* a name stored in an image asks for it, not the user: never writable */
    int depth;      /* of nodes that are opened because of another */
    int writable_backing; /* so many backing files down is one to be written; 0: none is */
    int verifiers;  /* how many "blkverify:" the file name had in front of this part */
    BlockDriverState *overlay; /* whose backing file it becomes */
    BlockDriverState *file; /* an open node for bs->file, NULL: as the options say */
    BlockDriverState *data; /* the same for bs->data_file */
} BdrvInherit;

/* Opens one node and what is below it; see bdrv_co_open(). */
BlockDriverState *coroutine_fn bdrv_co_open_node(const BlockdevOptions *options,
                                                 const BdrvInherit *inherit, AioContext *ctx,
                                                 GError **errp);

/* What the name of a backing file stored in an image may ask for, and what it may not. */
bool bdrv_check_driver_by_image(BlockdevDriver driver, const BdrvInherit *inherit, GError **errp);

/*
 * Opens what a string of options describes: what -blockdev takes, and without "driver" a file,
 * or an image whose format is found out.
 */
BlockDriverState *coroutine_fn bdrv_co_open_options(const char *text, BdrvInherit *inherit,
                                                    AioContext *ctx, GError **errp);
/*
 * The same from JSON text, what is behind "json:" in a name.  format: the driver if the text does
 * not say one; NULL: the same rule as above.
 */
BlockDriverState *coroutine_fn bdrv_co_open_json(const char *text, const char *format,
                                                 BdrvInherit *inherit, AioContext *ctx,
                                                 GError **errp);
/* What the image in file starts with says which driver it belongs to. */
const BlockDriver *coroutine_fn bdrv_co_probe_format(BlockDriverState *file, GError **errp);
/* The format of filename is a guess: says that, and what follows. */
void bdrv_warn_about_probed_raw(const char *filename);
/* A file name has at most so many protocols in front of it. */
#define BDRV_MAX_PROTOCOLS 8
/* The node of a file or device of that very name, whatever it looks like.  Main thread. */
BlockdevOptions *coroutine_fn bdrv_co_plain_options(const char *filename);

/* A string for messages about who uses a node: device id, name or "". */
const char *blk_user_name(BlockBackend *blk);

#endif
