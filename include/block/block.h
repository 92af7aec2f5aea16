/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The block layer as its users see it: a graph of nodes (BlockDriverState) and handles on
 * them (BlockBackend) through which devices, jobs, exports and tools do their I/O.
 *
 * Every node has a home AioContext, the same for a whole connected tree; I/O is done by
 * coroutines in that context (IO_CODE).  The graph is changed in the main thread only
 * (GLOBAL_STATE); an operation that needs I/O for it (opening, closing) hops to the home
 * context and back.  Offsets and lengths are bytes.
 */
#ifndef BLOCK_BLOCK_H
#define BLOCK_BLOCK_H

#include <glib.h>
#include "util/aio.h"
#include "util/iov.h"
#include "qapi/qapi-types-block-core.h"

typedef struct BlockDriverState BlockDriverState;
typedef struct BdrvChild BdrvChild;
typedef struct BlockBackend BlockBackend;
typedef struct BdrvSnapshotReader BdrvSnapshotReader;

typedef enum BdrvRequestFlags {
    BDRV_REQ_FUA = 1,
    BDRV_REQ_MAY_UNMAP = 2,
    BDRV_REQ_NO_FALLBACK = 4,
    /*
     * Writes only: whole clusters (the last one of the disk may be incomplete; else -EINVAL),
     * stored compressed if that makes them smaller.  They may replace what is there.  -ENOTSUP
     * where the format knows no compression, see bdrv_can_compress().  A large request is
     * packed by several worker threads at once; one after the other, requests lie in the file
     * in their order.
     */
    BDRV_REQ_WRITE_COMPRESSED = 8,
    /*
     * Writes only, advice: part of a large amount that will be flushed in the end, and that is
     * less urgent than all else.  The file driver copies it to the kernel in a bulk worker and
     * has the kernel begin at once to bring it to the disk.
     */
    BDRV_REQ_WRITE_BEHIND = 16,
} BdrvRequestFlags;

/* --- Graph (main thread) ------------------------------------------------------------- */

/* Once, before anything else here. */
void bdrv_init(void);

/*
 * Opens a node tree as -blockdev / blockdev-add describe it, homed in ctx.  A node that
 * the options leave unnamed gets a generated name (#blockNNN).  Returns one reference,
 * or NULL and errp.  Coroutine in the main thread; opening does its I/O in ctx.
 */
BlockDriverState *coroutine_fn bdrv_co_open(const BlockdevOptions *options, AioContext *ctx,
                                            GError **errp);
/*
 * Opens filename with protocol "file" (or "json:{...}"), probing the format when format
 * is NULL.  read_only as said.  For tools and -drive.
 */
BlockDriverState *coroutine_fn bdrv_co_open_file(const char *filename, const char *format,
                                                 bool read_only, AioContext *ctx,
                                                 GError **errp);
/* The same with everything that tools can say.  format "file": the protocol node itself. */
typedef struct BdrvOpenFile {
    const char *filename, *format;
    bool is_options; /* filename is "driver=qcow2,file.filename=..." */
    bool read_only;
    bool force_share; /* do not lock, read what others may be writing */
    bool direct, no_flush; /* cache mode */
    bool threads;    /* files are read and written by worker threads, unless they say otherwise */
    bool no_backing; /* leave backing file and data file closed */
    bool discard;    /* pass discards on */
    bool from_image; /* filename is stored in an image: see docs/devel/block-layer.md */
    bool for_check;  /* to check and repair it: damage noted in the image does not matter */
    bool for_repair; /* ... all errors: metadata that nobody can use may go */
    const char *node_name; /* NULL: generated */
    int writable_backing; /* so many backing files down is one to be written; 0: none is */
} BdrvOpenFile;
BlockDriverState *coroutine_fn bdrv_co_open_file_params(const BdrvOpenFile *params,
                                                        AioContext *ctx, GError **errp);
/*
 * The protocol node that a file name stands for, as options to be freed; NULL and errp when it
 * makes no sense.  "blkverify:" is not one of them.  Main thread.
 */
BlockdevOptions *coroutine_fn bdrv_co_filename_options(const char *filename, GError **errp);
/*
 * The path of the file that an image of this name is made in, or NULL and errp: nothing can be made
 * there.  Main thread.
 */
char *coroutine_fn bdrv_co_new_file_path(const char *filename, GError **errp);
/*
 * Where blockdev-add homes a new tree (one that refers to an existing node joins that
 * node's context).  The main context until it is set.
 */
void bdrv_set_default_context(AioContext *ctx);
AioContext *bdrv_default_context(void);
/* Flushes and closes every node that blockdev-add or -blockdev made and nobody uses. */
void coroutine_fn bdrv_co_close_all(void);
BlockDriverState *bdrv_ref(BlockDriverState *bs);
/* Drops a reference; the last one flushes and closes the node.  Main thread. */
void coroutine_fn bdrv_co_unref(BlockDriverState *bs);
/* By node name; NULL and errp ("Cannot find device='' nor node-name='X'"). No reference. */
BlockDriverState *bdrv_find_node(const char *node_name, GError **errp);
/* The node that the handle called device is on, else the one called node_name; both may be
 * NULL.  NULL and errp as above.  No reference. */
BlockDriverState *bdrv_lookup(const char *device, const char *node_name, GError **errp);
/* All nodes / all named by the user, in order of creation. */
BlockDriverState *bdrv_next_node(BlockDriverState *prev);
const char *bdrv_node_name(BlockDriverState *bs);
const char *bdrv_driver_name(BlockDriverState *bs);
const char *bdrv_filename(BlockDriverState *bs);
/*
 * The name of a backing file as stored in the image at image, made usable from the
 * current directory: relative names are relative to the image, unless a protocol is in front
 * ("file:b", "json:{...}").  A new string.
 */
char *bdrv_full_backing_filename(const char *image, const char *backing);
AioContext *bdrv_context(BlockDriverState *bs);
bool bdrv_is_read_only(BlockDriverState *bs);
/* Guest-visible length in bytes. */
int64_t bdrv_length(BlockDriverState *bs);
/* Whether BDRV_REQ_WRITE_COMPRESSED works there.  Any thread. */
bool bdrv_can_compress(BlockDriverState *bs);
/*
 * Whether an image that has just been made reads as zero until it is written.  Not so where a
 * device keeps its content, which no creation touches, or where a backing file shows.  Any thread.
 */
bool bdrv_new_reads_zero(BlockDriverState *bs);
/* The node below a format node, its backing node; NULL if none. */
BlockDriverState *bdrv_file(BlockDriverState *bs);
BlockDriverState *bdrv_backing(BlockDriverState *bs);
/* Whether bs is above, or one of its backing files.  Main thread. */
bool bdrv_is_below(BlockDriverState *bs, BlockDriverState *above);

/*
 * Changes the length of bs, whoever uses it, as block_resize does: drains it meanwhile.  See
 * bdrv_co_truncate_prealloc().  Main thread; hops to the node's context.
 */
bool coroutine_fn bdrv_co_resize(BlockDriverState *bs, int64_t length, bool exact,
                                 PreallocMode prealloc, GError **errp);

/* --- Machine state outside of snapshots ------------------------------------------------------ */

/*
 * An area of its own behind the disk of an image that can have snapshots (qcow2): what was never
 * written reads as zero.  Raw nodes and filters pass it on.  offset: within the area, not
 * negative.  Saving drains the image.  0 or -errno; -ENOTSUP where there is no such area.
 * Home context.
 */
int coroutine_fn bdrv_co_load_vmstate(BlockDriverState *bs, int64_t offset, IOVector *iov);
int coroutine_fn bdrv_co_save_vmstate(BlockDriverState *bs, int64_t offset, IOVector *iov);

/* --- Reading beside the node's context --------------------------------------------------- */

/*
 * Reads from a protocol or filter node in whatever context the calling coroutine runs in:
 * for those whom the node's own thread may be waiting for.  Not counted as a request, not
 * held up by a drained section; so only for what nobody changes, by a caller that has a
 * reference.  0 or -errno.
 */
int coroutine_fn bdrv_co_preadv_aside(BlockDriverState *bs, int64_t offset, IOVector *iov);
/*
 * What offset, length and memory of such a read must be a multiple of; 0 if a driver below
 * cannot do it.  Home context or main thread.
 */
int64_t bdrv_aside_alignment(BlockDriverState *bs);

/* --- Handles --------------------------------------------------------------------------- */

/* What a handle's owner wants to hear, all in bs's home context. */
typedef struct BlockBackendOps {
    void (*drained_begin)(void *opaque); /* issue no new requests */
    void (*drained_end)(void *opaque);
    /* The node has another length now. */
    void (*resized)(void *opaque);
    /*
     * For an owner that keeps a copy of the content, when the node (or one below it, through
     * filters) goes back to a snapshot; all or none of them.  prepare reads what will be
     * there (bdrv_co_snapshot_read_disk()) while the guest runs; switch, with the machine
     * parked and in the way of going back itself, adopts it; end lets go of the other copy,
     * with rollback after the old one has been adopted again.  end follows every prepare
     * that returned true.
     */
    bool coroutine_fn (*goto_prepare)(void *opaque, BdrvSnapshotReader *from, GError **errp);
    void (*goto_switch)(void *opaque);
    void (*goto_end)(void *opaque, bool rollback);
} BlockBackendOps;

/*
 * A handle on bs that takes a reference.  name: what query-block calls it ("" for none);
 * writable asks for the right to write, errp says when another user holds it.
 * Main thread.
 */
BlockBackend *blk_new(const char *name, BlockDriverState *bs, bool writable, GError **errp);
void coroutine_fn blk_co_free(BlockBackend *blk);
void blk_set_ops(BlockBackend *blk, const BlockBackendOps *ops, void *opaque);
/* The device that uses it, for query-block: qdev id or path. */
void blk_set_device(BlockBackend *blk, const char *device_id);
/* What blk_set_device() said, NULL if nothing.  Main thread. */
const char *blk_device(BlockBackend *blk);
/* What query-block says about the last error of a guest's request.  Any thread. */
void blk_set_io_status(BlockBackend *blk, BlockDeviceIoStatus status);
BlockDeviceIoStatus blk_io_status(BlockBackend *blk);
/* Whether every write of the device lasts when it is reported done, for query-block.  Any thread. */
void blk_set_write_through(BlockBackend *blk, bool write_through);
bool blk_write_through(BlockBackend *blk);
/*
 * A snapshot of the whole machine (savevm, -loadvm) may leave the node out if its driver has
 * no snapshots: a flash bank in a raw file.  Main thread.
 */
void blk_set_snapshot_optional(BlockBackend *blk);
bool blk_snapshot_optional(BlockBackend *blk);
BlockDriverState *blk_bs(BlockBackend *blk);
const char *blk_name(BlockBackend *blk);
BlockBackend *blk_by_name(const char *name);
BlockBackend *blk_next(BlockBackend *prev);

/* I/O (home context).  0 or -errno; beyond the end is -EIO. */
int coroutine_fn blk_co_preadv(BlockBackend *blk, int64_t offset, int64_t bytes,
                               IOVector *iov, int flags);
int coroutine_fn blk_co_pwritev(BlockBackend *blk, int64_t offset, int64_t bytes,
                                IOVector *iov, int flags);
int coroutine_fn blk_co_pread(BlockBackend *blk, int64_t offset, int64_t bytes, void *buf);
int coroutine_fn blk_co_pwrite(BlockBackend *blk, int64_t offset, int64_t bytes,
                               const void *buf);
int coroutine_fn blk_co_pwrite_zeroes(BlockBackend *blk, int64_t offset, int64_t bytes,
                                      int flags);
int coroutine_fn blk_co_pdiscard(BlockBackend *blk, int64_t offset, int64_t bytes);
/*
 * Writes what lies at from_offset in the protocol node from, of the same context, without reading
 * it; nobody may write to from.  -ENOTSUP where that is not possible, with any part of it written.
 */
int coroutine_fn blk_co_copy_range(BlockBackend *blk, int64_t offset, BlockDriverState *from,
                                   int64_t from_offset, int64_t bytes);
int coroutine_fn blk_co_flush(BlockBackend *blk);
/* See bdrv_co_truncate_prealloc(); the short form: not exact, nothing preallocated. */
bool coroutine_fn blk_co_truncate(BlockBackend *blk, int64_t length, GError **errp);
bool coroutine_fn blk_co_truncate_prealloc(BlockBackend *blk, int64_t length, bool exact,
                                           PreallocMode prealloc, GError **errp);

/* --- Drain ------------------------------------------------------------------------------ */

/*
 * Keeps new requests of bs's users away (their drained_begin is called, requests that come
 * all the same wait) and returns when none is in flight.  Sections nest.  In a coroutine
 * in bs's home context.
 */
void coroutine_fn bdrv_co_drained_begin(BlockDriverState *bs);
void bdrv_drained_end(BlockDriverState *bs);

#endif
