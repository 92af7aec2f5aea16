/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The block layer from the inside: what a driver implements and may use.
 * Everything runs in the node's home context unless it says otherwise.
 */
#ifndef BLOCK_BLOCK_INT_H
#define BLOCK_BLOCK_INT_H

#include "block/block.h"
#include "block/snapshot.h"
#include "util/co-lock.h"

typedef struct BlockDriver BlockDriver;
typedef struct BdrvCreateParams BdrvCreateParams;
typedef struct BdrvCheckResult BdrvCheckResult;

/* What a child is to its parent. */
typedef enum BdrvChildRole {
    BDRV_CHILD_FILE,    /* the parent's data and metadata, or a filter's content */
    BDRV_CHILD_DATA,    /* the parent's guest data, where it is apart from its metadata */
    BDRV_CHILD_BACKING, /* read-only content behind unallocated clusters */
    BDRV_CHILD_TARGET,  /* where a job copies what the parent is about to lose */
} BdrvChildRole;

/* An edge of the graph: parent (NULL for a BlockBackend) uses bs. */
struct BdrvChild {
    BlockDriverState *bs;
    BlockDriverState *parent;
    BlockBackend *blk;
    BdrvChildRole role;
    bool writable;
    GList parents_link; /* in bs->parents; data is the child itself */
};

/*
 * Someone who must see a range before it is written.  fn is a coroutine in the home context,
 * part of the request that is going to write; it may wait.
 */
typedef struct BdrvBeforeWrite {
    void coroutine_fn (*fn)(void *opaque, int64_t offset, int64_t bytes);
    void *opaque;
    GList link; /* in bs->before_write; data is the struct itself */
} BdrvBeforeWrite;

struct BlockDriverState {
    const BlockDriver *drv;
    void *opaque; /* driver's state, drv->instance_size bytes, zeroed before co_open */
    char *node_name;
    char *filename; /* as query-block shows it; the driver's co_open may set it */
    AioContext *ctx;
    bool read_only;
    bool user_owned; /* made by blockdev-add / -blockdev */
    bool no_backing; /* a backing file named in the image is not opened */
    bool no_io;      /* opened to be looked at only: nor need a data file be */
    bool for_check;  /* opened to be checked: writable even if it is marked as damaged */
    bool for_repair; /* ... and all errors to be repaired */
    bool opening;    /* name is taken, but the node cannot be found yet */
    bool commit_target; /* an overlay is written down into it: nobody else may begin to use it */
    bool probed;     /* raw by guess: must not turn into another format by a write */
    bool discard_unmap;            /* discards are passed on, else ignored */
    bool cache_direct, cache_no_flush; /* as opened */
    bool aio_threads;  /* files whose options do not say aio are opened with aio=threads */
    bool force_share;              /* no image locks */
    bool inactive;         /* see block/active.h; changes in the home context */
    bool drained_inactive; /* bdrv_co_inactivate_all() has drained it */
    BlockdevDetectZeroesOptions detect_zeroes;
    bool by_image;         /* a name that is stored in an image asked for it */
    int depth;             /* how many nodes it was opened below */
    int writable_backing;  /* so many backing files down is one that was opened to be written */
    BlockDriverState *overlay; /* while it is opened as a backing file: for whom */
    BdrvChild *file, *data_file, *backing;
    GQueue parents;   /* BdrvChild; main thread with ctx acquired, read in ctx */
    GQueue dirty_bitmaps; /* BdrvDirtyBitmap; the same rule */
    unsigned bitmap_changes; /* by commands, of what is persistent; the same rule */
    GQueue before_write;  /* BdrvBeforeWrite; the same rule */
    const char *job_type; /* what the job does that needs the node as it is, NULL: none; main
                           * thread with ctx acquired */
    int refcount;     /* main thread */
    int64_t length;   /* bytes, guest-visible; the driver keeps it (bdrv_set_length) */
    int64_t request_alignment; /* bytes, power of two, 1 by default */
    GQueue serialised; /* writes in flight while request_alignment > 1, home context */

    unsigned in_flight; /* requests in this node, home context */
    unsigned quiesce;   /* depth of drained sections, home context */
    GQueue snapshot_holders; /* BdrvSnapshotReader, home context */
    CoQueue drain_queue;   /* drainers waiting for in_flight == 0 */
    CoQueue quiesce_queue; /* requests waiting for quiesce == 0 */
};

/* Result of co_block_status: bits. */
enum {
    BDRV_BLOCK_DATA = 1,      /* reads need I/O */
    BDRV_BLOCK_ZERO = 2,      /* reads as zero */
    BDRV_BLOCK_ALLOCATED = 4, /* this layer decides the content */
    BDRV_BLOCK_OFFSET_VALID = 8,
    BDRV_BLOCK_COMPRESSED = 16,
};

typedef enum BdrvCheckFix { BDRV_FIX_NONE = 0, BDRV_FIX_LEAKS = 1, BDRV_FIX_ERRORS = 2 } BdrvCheckFix;

struct BdrvCheckResult { /* the counters of qemu-img check */
    int64_t corruptions, leaks, check_errors;
    int64_t corruptions_fixed, leaks_fixed;
    int64_t total_clusters, allocated_clusters, fragmented_clusters, compressed_clusters;
    int64_t image_end_offset;
    /* One line per finding ("Leaked cluster 6 refcount=1 reference=0"), for the user. */
    void (*report)(void *opaque, bool error, const char *line);
    void *opaque;
};

/* What an image would take, in bytes of its file. */
typedef struct BdrvMeasure {
    int64_t required;        /* with the content at hand */
    int64_t fully_allocated; /* once everything has been written */
    bool has_bitmaps;
    int64_t bitmaps; /* to copy the source's bitmaps too */
} BdrvMeasure;
/* How far long work is: done of total.  In the node's home context. */
typedef void BdrvProgress(void *opaque, int64_t done, int64_t total);

struct BdrvCreateParams { /* kf-img create -o */
    const char *filename;
    BlockDriverState *file; /* instead: the node that becomes the image, of formats that can */
    int64_t size; /* bytes */
    const char *backing_file, *backing_format;
    GHashTable *options; /* driver's own: "cluster_size" -> "65536" ..., strings */
};

/* Driver-specific facts for kf-img info and query-named-block-nodes. */
typedef struct BdrvInfo {
    int64_t cluster_size;
    int64_t vm_state_offset; /* guest offset behind the disk where machine state lies */
    bool is_dirty;
    const char *backing_filename, *backing_format; /* as stored */
    ImageInfoSpecific *specific; /* owned by the caller; may be NULL */
} BdrvInfo;

typedef struct BdrvSnapshotDriver { /* the functions of block/snapshot.h */
    BdrvSnapshotInfo *coroutine_fn (*list)(BlockDriverState *bs, int *n, GError **errp);
    void *coroutine_fn (*prepare)(BlockDriverState *bs, BdrvSnapshotInfo *info,
                                  uint64_t vm_state_size, GError **errp);
    bool coroutine_fn (*freeze)(BlockDriverState *bs, void *save, GError **errp);
    int coroutine_fn (*write)(BlockDriverState *bs, void *save, uint64_t offset, IOVector *iov);
    bool coroutine_fn (*compress)(BlockDriverState *bs, void *save,
                                  GError **errp); /* may be NULL, with compressed */
    void (*compressed)(void *save, uint64_t *bytes, uint64_t *size);
    uint64_t coroutine_fn (*share_with)(BlockDriverState *bs, void *save, uint64_t serial,
                                        GError **errp); /* may be NULL, with share */
    int coroutine_fn (*share)(BlockDriverState *bs, void *save, const BdrvSnapshotExtent *extents,
                              size_t n);
    bool coroutine_fn (*publish)(BlockDriverState *bs, void *save, const BdrvSnapshotInfo *info,
                                 GError **errp);
    void coroutine_fn (*abort)(BlockDriverState *bs, void *save);
    void coroutine_fn (*done)(BlockDriverState *bs, void *save);
    void *coroutine_fn (*open)(BlockDriverState *bs, const char *id, GError **errp);
    const BdrvSnapshotInfo *(*reader_info)(void *reader);
    int coroutine_fn (*read)(BlockDriverState *bs, void *reader, uint64_t offset, IOVector *iov);
    int coroutine_fn (*read_disk)(BlockDriverState *bs, void *reader, uint64_t offset,
                                  IOVector *iov);
    void coroutine_fn (*close)(BlockDriverState *bs, void *reader);
    int coroutine_fn (*map)(BlockDriverState *bs, void *reader, uint64_t offset, uint64_t bytes,
                            uint64_t *pnum, int64_t *map); /* may be NULL */
    int coroutine_fn (*map_packed)(BlockDriverState *bs, void *reader, uint64_t offset,
                                   BdrvSnapshotPacked *packed); /* may be NULL, with unpack */
    int (*unpack)(BlockDriverState *bs, const BdrvSnapshotPacked *packed, const void *in,
                  void *out);
    bool coroutine_fn (*show)(BlockDriverState *bs, const char *id, GError **errp);
    bool (*is_empty)(BlockDriverState *bs);
    int coroutine_fn (*is_current)(BlockDriverState *bs, const char *id, GError **errp);
    void *coroutine_fn (*goto_prepare)(BlockDriverState *bs, const char *id, GError **errp);
    bool coroutine_fn (*goto_switch)(BlockDriverState *bs, void *g, GError **errp);
    bool coroutine_fn (*goto_commit)(BlockDriverState *bs, void *g, GError **errp);
    void coroutine_fn (*goto_end)(BlockDriverState *bs, void *g, bool rollback);
    /* Deletes the snapshot with this id; heir, if not NULL, is the id of the one that takes
     * the number over in the same step. */
    bool coroutine_fn (*remove)(BlockDriverState *bs, const char *id, const char *heir,
                                GError **errp);
} BdrvSnapshotDriver;

/* For BdrvSnapshotInfo.serial: a number that was never returned before.  Any thread. */
uint64_t bdrv_snapshot_new_serial(void);

/* An absent callback means: not supported, or for I/O on a filter, passed to bs->file. */
struct BlockDriver {
    const char *name; /* "qcow2": the QAPI enum's text */
    size_t instance_size;
    bool is_format; /* has a BDRV_CHILD_FILE below it */
    bool is_filter; /* content is that of bs->file, unchanged */
    bool supports_backing;
    bool only_reads; /* a node is read-only, or cannot be opened */
    bool writes_compressed; /* co_pwritev knows BDRV_REQ_WRITE_COMPRESSED */
    /* Writes to bs->file only on behalf of its own parents: needs the right to write no
     * earlier than one of them has it (raw, filters). */
    bool writes_for_parents;
    /* 0..100: how sure the driver is that an image starting with buf is its own. */
    int (*probe)(const uint8_t *buf, size_t len, const char *filename);
    /* bs->file (format) and bs->backing are open already, except for a stored backing
     * name, which the driver asks for through bdrv_co_open_backing(). */
    bool coroutine_fn (*co_open)(BlockDriverState *bs, const BlockdevOptions *options,
                                 GError **errp);
    void coroutine_fn (*co_close)(BlockDriverState *bs);
    int coroutine_fn (*co_preadv)(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                  IOVector *iov, int flags);
    /* The same in any context (bdrv_co_preadv_aside); absent: not possible. */
    int coroutine_fn (*co_preadv_aside)(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                        IOVector *iov);
    int coroutine_fn (*co_pwritev)(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                   IOVector *iov, int flags);
    int coroutine_fn (*co_pwrite_zeroes)(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                         int flags);
    int coroutine_fn (*co_pdiscard)(BlockDriverState *bs, int64_t offset, int64_t bytes);
    /* See bdrv_co_copy_range(); absent: not possible. */
    int coroutine_fn (*co_copy_range)(BlockDriverState *bs, int64_t offset, BlockDriverState *from,
                                      int64_t from_offset, int64_t bytes);
    /* Both for bdrv_co_load_vmstate() and bdrv_co_save_vmstate(). */
    int coroutine_fn (*co_load_vmstate)(BlockDriverState *bs, int64_t offset, IOVector *iov);
    int coroutine_fn (*co_save_vmstate)(BlockDriverState *bs, int64_t offset, IOVector *iov);
    /* Everything durable, including bs->file, which the driver flushes itself.  Absent:
     * bs->file is flushed. */
    int coroutine_fn (*co_flush)(BlockDriverState *bs);
    /* Returns when nothing goes on in the node by itself.  New requests are kept away. */
    void coroutine_fn (*co_settle)(BlockDriverState *bs);
    /* Nobody will write any more: everything there is goes to the disk; lets others have the
     * right.  0 or -errno.  Reads go on meanwhile. */
    int coroutine_fn (*co_set_read_only)(BlockDriverState *bs);
    /*
     * The node, which was read so far and is drained, may be written from now on (bs->read_only
     * says so already).  false and errp with the driver as it was.
     */
    bool coroutine_fn (*co_set_writable)(BlockDriverState *bs, GError **errp);
    /*
     * What the image says of its dirty bitmaps may be wrong from now on, and it must say so: a job
     * or a transaction has taken one, or the node was to become read-only and is written after all.
     * 0 or -errno.
     */
    int coroutine_fn (*co_bitmaps_in_use)(BlockDriverState *bs);
    /* See bdrv_co_truncate_prealloc(). */
    bool coroutine_fn (*co_truncate)(BlockDriverState *bs, int64_t length, bool exact,
                                     PreallocMode prealloc, GError **errp);
    /* BDRV_BLOCK_* for the *pnum bytes from offset, or -errno; *map: offset in bs->data_file,
     * if there is one, else in bs->file. */
    int coroutine_fn (*co_block_status)(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                        int64_t *pnum, int64_t *map);
    /* In the main thread; what it opens is homed in ctx. */
    bool coroutine_fn (*co_create)(const BdrvCreateParams *params, AioContext *ctx, GError **errp);
    bool coroutine_fn (*co_check)(BlockDriverState *bs, BdrvCheckResult *result, int fix,
                                  GError **errp);
    /* See bdrv_co_amend(). */
    bool coroutine_fn (*co_amend)(BlockDriverState *bs, GHashTable *options, bool force,
                                  BdrvProgress *progress, void *opaque, GError **errp);
    bool coroutine_fn (*co_info)(BlockDriverState *bs, BdrvInfo *info, GError **errp);
    /* See bdrv_co_measure(); in the main thread. */
    bool coroutine_fn (*co_measure)(const BdrvCreateParams *params, BlockDriverState *source,
                                    BdrvMeasure *result, GError **errp);
    /* Both for bdrv_co_change_backing() and bdrv_co_make_empty(). */
    int coroutine_fn (*co_change_backing)(BlockDriverState *bs, const char *filename,
                                          const char *format);
    int coroutine_fn (*co_make_empty)(BlockDriverState *bs);
    /* Host bytes the file takes, -errno if unknown (protocols). */
    int64_t coroutine_fn (*co_allocated_size)(BlockDriverState *bs);
    /* See block/active.h.  The node is drained; what lies below it is active.  The driver has
     * flushed it before it becomes inactive. */
    bool coroutine_fn (*co_activate)(BlockDriverState *bs, GError **errp);
    bool coroutine_fn (*co_inactivate)(BlockDriverState *bs, GError **errp);
    /* Protocols: an image format lies on top of it from now on, so that nobody else may
     * write even if it is only read.  errp when another process does. */
    bool coroutine_fn (*co_lock_for_format)(BlockDriverState *bs, GError **errp);
    /* Events and breakpoints for tests: all or none; see block/debug.h. */
    void coroutine_fn (*co_debug_event)(BlockDriverState *bs, BlkdebugEvent event);
    int (*debug_breakpoint)(BlockDriverState *bs, BlkdebugEvent event, const char *tag);
    int (*debug_remove_breakpoint)(BlockDriverState *bs, const char *tag);
    int (*debug_resume)(BlockDriverState *bs, const char *tag);
    void coroutine_fn (*co_debug_wait)(BlockDriverState *bs, const char *tag);
    /* Whether the image can keep a dirty bitmap; absent: no.  Main thread, context acquired. */
    bool (*can_store_bitmap)(BlockDriverState *bs, const char *name, uint32_t granularity,
                             GError **errp);
    const BdrvSnapshotDriver *snapshot;
};

/* Registry: block/drivers.c lists all drivers explicitly. */
extern const BlockDriver bdrv_file_driver, bdrv_raw_driver, bdrv_qcow2_driver,
    bdrv_blkdebug_driver, bdrv_blklogwrites_driver, bdrv_blkverify_driver,
    bdrv_copy_on_read_driver, bdrv_host_device_driver, bdrv_null_aio_driver, bdrv_null_co_driver,
    bdrv_vdi_driver, bdrv_vhdx_driver, bdrv_vmdk_driver;
const BlockDriver *bdrv_driver_by_name(const char *name);
/*
 * The format of an image that starts with buf; raw when no driver knows it, but NULL for LUKS, which
 * must not be taken for anything else.  Any thread.
 */
const BlockDriver *bdrv_probe(const uint8_t *buf, size_t len, const char *filename);

/* Makes an image; params->filename is a path (see bdrv_co_new_file_path()), params->options are
 * strings.  Main thread; what it opens lives in ctx. */
bool coroutine_fn bdrv_co_create(const BlockDriver *drv, const BdrvCreateParams *params,
                                 AioContext *ctx, GError **errp);
/*
 * Checks bs and repairs what fix (BDRV_FIX_*) allows.  false and errp when it could not be
 * checked at all.  Main thread; hops to the node's context.
 */
bool coroutine_fn bdrv_co_check(BlockDriverState *bs, BdrvCheckResult *result, int fix,
                                GError **errp);

/*
 * What an image made with params would need.  source: whose content it gets, as it is; NULL:
 * none.  Main thread, in whose context the source lives.
 */
bool coroutine_fn bdrv_co_measure(const BlockDriver *drv, const BdrvCreateParams *params,
                                  BlockDriverState *source, BdrvMeasure *result, GError **errp);
/*
 * Notes in the image what its backing file is called from now on and what format that has;
 * filename NULL: it has none.  The node itself goes on reading from the former one.  0 or
 * -errno: -ENOTSUP where the format has no backing files, -ENOSPC where the image has no room
 * for the name.  Main thread; hops to the node's context.
 */
int coroutine_fn bdrv_co_change_backing(BlockDriverState *bs, const char *filename,
                                        const char *format);
/*
 * All that bs shows comes from its backing file from now on.  The node is used by nobody but
 * the caller.  0 or -errno.  Main thread; hops to the node's context.
 */
int coroutine_fn bdrv_co_make_empty(BlockDriverState *bs);
/*
 * Changes creation options of an image that is there (kf-img amend).  options: strings, as for
 * bdrv_co_create(), with "size", "backing_file" and "backing_fmt" among them.  force: also what
 * makes data unreadable.  progress may be NULL.  A crash leaves the image sound, with some of
 * the changes made.  The node is drained meanwhile.  Main thread; hops to the node's context.
 */
bool coroutine_fn bdrv_co_amend(BlockDriverState *bs, GHashTable *options, bool force,
                                BdrvProgress *progress, void *opaque, GError **errp);

/* Where a function may be called; checked in every build. */
#define GLOBAL_STATE() g_assert(aio_in_home_thread(main_aio_context()))
#define IO_CODE(bs) g_assert(aio_in_home_thread((bs)->ctx))

/* The node that decides the content: bs, or what lies below it through filters. */
static inline BlockDriverState *bdrv_skip_filters(BlockDriverState *bs)
{
    while (bs->drv->is_filter && bs->file) {
        bs = bs->file->bs;
    }
    return bs;
}

/* What is read where the content of bs has nothing of its own; NULL: zeroes. */
static inline BlockDriverState *bdrv_below_content(BlockDriverState *bs)
{
    return bdrv_backing(bdrv_skip_filters(bs));
}

/* bs->length changes in the home context and may be read anywhere. */
static inline void bdrv_set_length(BlockDriverState *bs, int64_t length)
{
    __atomic_store_n(&bs->length, length, __ATOMIC_RELAXED);
}

/* I/O on a child: requests are counted in the child's node and wait while it is drained.
 * 0 or -errno; a request beyond the end of the child is -EIO, except that a format
 * driver's write to its BDRV_CHILD_FILE grows it. */
int coroutine_fn bdrv_co_preadv(BdrvChild *child, int64_t offset, int64_t bytes, IOVector *iov,
                                int flags);
int coroutine_fn bdrv_co_pwritev(BdrvChild *child, int64_t offset, int64_t bytes, IOVector *iov,
                                 int flags);
int coroutine_fn bdrv_co_pread(BdrvChild *child, int64_t offset, int64_t bytes, void *buf,
                               int flags);
int coroutine_fn bdrv_co_pwrite(BdrvChild *child, int64_t offset, int64_t bytes, const void *buf,
                                int flags);
int coroutine_fn bdrv_co_pwrite_zeroes(BdrvChild *child, int64_t offset, int64_t bytes, int flags);
int coroutine_fn bdrv_co_pdiscard(BdrvChild *child, int64_t offset, int64_t bytes);
/*
 * Writes what lies at from_offset in from, a protocol node of the same context that nobody writes
 * to, without reading it: the host copies.  -ENOTSUP where that is not possible, with any part of
 * it written.
 */
int coroutine_fn bdrv_co_copy_range(BdrvChild *child, int64_t offset, BlockDriverState *from,
                                    int64_t from_offset, int64_t bytes);
int coroutine_fn bdrv_co_flush(BlockDriverState *bs);
/*
 * Changes the child's length in bytes.  exact: fails where it would be longer than that (a
 * device); else it may be.  prealloc, for growing only: what of the new part is allocated -
 * nothing, the image's own mapping (its content may be holes in the file), blocks on the host,
 * or blocks that have been written.  What is new reads as zero.  Users are told, and dirty
 * bitmaps follow.
 */
bool coroutine_fn bdrv_co_truncate_prealloc(BdrvChild *child, int64_t length, bool exact,
                                            PreallocMode prealloc, GError **errp);
/* The same, not exact and with nothing preallocated. */
bool coroutine_fn bdrv_co_truncate(BdrvChild *child, int64_t length, GError **errp);
int coroutine_fn bdrv_co_block_status(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                      int64_t *pnum, int64_t *map);
/* Follows the backing chain: what the guest sees. */
int coroutine_fn bdrv_co_block_status_above(BlockDriverState *bs, BlockDriverState *base,
                                            int64_t offset, int64_t bytes, int64_t *pnum);

/* Bytes on the host of the node's own files, without backing files; or -errno. */
int64_t coroutine_fn bdrv_co_allocated_size(BlockDriverState *bs);

/* Moves the calling coroutine to ctx if it is not there already. */
static inline void coroutine_fn bdrv_co_move_to(AioContext *ctx)
{
    if (!aio_in_home_thread(ctx)) {
        aio_co_reschedule_self(ctx);
    }
}

/*
 * For a format driver's co_open: opens and attaches the backing file named in the image
 * (relative names are relative to the image).  Does nothing when the user gave a
 * backing node, or said that there is none.
 */
bool coroutine_fn bdrv_co_open_backing(BlockDriverState *bs, const char *filename,
                                       const char *format, GError **errp);

/*
 * The same for the file of guest data that is named in the image: always a file, whatever it
 * looks like, and its name is taken from the working directory, as other programs do.
 */
bool coroutine_fn bdrv_co_open_data_file(BlockDriverState *bs, const char *filename,
                                         GError **errp);

/* A checked position in an image: whether [offset, offset + bytes) is a sane range. */
static inline bool bdrv_range_ok(int64_t offset, int64_t bytes)
{
    return offset >= 0 && bytes >= 0 && offset <= INT64_MAX - bytes;
}

#endif
