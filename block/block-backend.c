/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Handles through which devices, jobs, exports and tools use a node.  Made and freed in
 * the main thread, used in the node's home context.
 */
#include <string.h>
#include "block-stats.h"
#include "graph-int.h"
#include "qapi/error.h"

struct BlockBackend {
    char *name;      /* "" for none */
    char *device_id; /* NULL for none; main thread */
    bool write_through; /* atomic */
    BdrvChild *root;
    const BlockBackendOps *ops; /* home context, like quiesce */
    void *opaque;
    unsigned quiesce;
    bool snapshot_optional; /* main thread */
    BlockDeviceIoStatus io_status; /* atomic */
    BlockAcctStats stats; /* what was done through it */
};

static GQueue backends = G_QUEUE_INIT; /* main thread */

BlockBackend *blk_new(const char *name, BlockDriverState *bs, bool writable, GError **errp)
{
    BlockBackend *blk;

    GLOBAL_STATE();
    if (*name && blk_by_name(name)) {
        error_setg(errp, "Device with id '%s' already exists", name);
        return NULL;
    }
    if (*name && bdrv_find_node(name, NULL)) {
        error_setg(errp, "Device name '%s' conflicts with an existing node name", name);
        return NULL;
    }
    blk = g_new0(BlockBackend, 1);
    blk->name = g_strdup(name);
    blk->root = bdrv_attach_child(bs, NULL, blk, BDRV_CHILD_FILE, writable, errp);
    if (!blk->root) {
        g_free(blk->name);
        g_free(blk);
        return NULL;
    }
    g_queue_push_tail(&backends, blk);
    return blk;
}

void coroutine_fn blk_co_free(BlockBackend *blk)
{
    BlockDriverState *bs;

    GLOBAL_STATE();
    if (!blk) {
        return;
    }
    bs = blk->root->bs;
    bdrv_co_move_to(bs->ctx);
    blk->ops = NULL; /* its owner has let go: nobody to tell of the drain */
    bdrv_co_drained_begin(bs);
    bdrv_drained_end(bs);
    bdrv_co_move_to(main_aio_context());
    g_queue_remove(&backends, blk);
    bdrv_co_unref(bdrv_detach_child(blk->root));
    g_free(blk->name);
    g_free(blk->device_id);
    g_free(blk);
}

void blk_set_ops(BlockBackend *blk, const BlockBackendOps *ops, void *opaque)
{
    AioContext *ctx = blk->root->bs->ctx;

    aio_context_acquire(ctx);
    blk->ops = ops;
    blk->opaque = opaque;
    if (ops && blk->quiesce && ops->drained_begin) {
        ops->drained_begin(opaque);
    }
    aio_context_release(ctx);
}

void blk_set_device(BlockBackend *blk, const char *device_id)
{
    GLOBAL_STATE();
    g_free(blk->device_id);
    blk->device_id = g_strdup(device_id);
}

BlockDriverState *blk_bs(BlockBackend *blk)
{
    return blk->root->bs;
}

const char *blk_name(BlockBackend *blk)
{
    return blk->name;
}

void blk_set_io_status(BlockBackend *blk, BlockDeviceIoStatus status)
{
    __atomic_store_n(&blk->io_status, status, __ATOMIC_RELAXED);
}

BlockDeviceIoStatus blk_io_status(BlockBackend *blk)
{
    return __atomic_load_n(&blk->io_status, __ATOMIC_RELAXED);
}

void blk_set_write_through(BlockBackend *blk, bool write_through)
{
    __atomic_store_n(&blk->write_through, write_through, __ATOMIC_RELAXED);
}

bool blk_write_through(BlockBackend *blk)
{
    return __atomic_load_n(&blk->write_through, __ATOMIC_RELAXED);
}

void blk_set_snapshot_optional(BlockBackend *blk)
{
    GLOBAL_STATE();
    blk->snapshot_optional = true;
}

bool blk_snapshot_optional(BlockBackend *blk)
{
    GLOBAL_STATE();
    return blk->snapshot_optional;
}

const char *blk_device(BlockBackend *blk)
{
    GLOBAL_STATE();
    return blk->device_id;
}

const char *blk_user_name(BlockBackend *blk)
{
    return *blk->name || !blk->device_id ? blk->name : blk->device_id;
}

BlockBackend *blk_by_name(const char *name)
{
    GLOBAL_STATE();
    for (GList *l = backends.head; l; l = l->next) {
        BlockBackend *blk = l->data;
        if (*blk->name && !strcmp(blk->name, name)) {
            return blk;
        }
    }
    return NULL;
}

const BlockAcctStats *blk_stats(BlockBackend *blk)
{
    return &blk->stats;
}

BlockBackend *blk_next(BlockBackend *prev)
{
    GList *l;

    GLOBAL_STATE();
    l = prev ? g_queue_find(&backends, prev)->next : backends.head;
    return l ? l->data : NULL;
}

/* --- Drain ---------------------------------------------------------------------------- */

void blk_quiesce_begin(BlockBackend *blk)
{
    if (blk->quiesce++ == 0 && blk->ops && blk->ops->drained_begin) {
        blk->ops->drained_begin(blk->opaque);
    }
}

void blk_quiesce_end(BlockBackend *blk)
{
    g_assert(blk->quiesce > 0);
    if (--blk->quiesce == 0 && blk->ops && blk->ops->drained_end) {
        blk->ops->drained_end(blk->opaque);
    }
}

void blk_resized(BlockBackend *blk)
{
    if (blk->ops && blk->ops->resized) {
        blk->ops->resized(blk->opaque);
    }
}

/* --- Going back to a snapshot ----------------------------------------------------------- */

bool blk_keeps_copy(BlockBackend *blk)
{
    return blk->ops && blk->ops->goto_prepare;
}

bool coroutine_fn blk_goto_prepare(BlockBackend *blk, BdrvSnapshotReader *from, GError **errp)
{
    return blk->ops->goto_prepare(blk->opaque, from, errp);
}

void blk_goto_switch(BlockBackend *blk)
{
    blk->ops->goto_switch(blk->opaque);
}

void blk_goto_end(BlockBackend *blk, bool rollback)
{
    blk->ops->goto_end(blk->opaque, rollback);
}

/* --- I/O --------------------------------------------------------------------------------- */

/* expr is what the request does, with its result. */
#define COUNTED(blk, type, offset, bytes, expr) \
    ({ \
        uint64_t start_ = block_acct_now(); \
        int ret_ = (expr); \
        block_acct_done(&(blk)->stats, type, offset, bytes, start_, ret_); \
        ret_; \
    })

int coroutine_fn blk_co_preadv(BlockBackend *blk, int64_t offset, int64_t bytes, IOVector *iov,
                               int flags)
{
    return COUNTED(blk, BLOCK_ACCT_READ, offset, bytes,
                   bdrv_co_preadv(blk->root, offset, bytes, iov, flags));
}

int coroutine_fn blk_co_pwritev(BlockBackend *blk, int64_t offset, int64_t bytes, IOVector *iov,
                                int flags)
{
    return COUNTED(blk, BLOCK_ACCT_WRITE, offset, bytes,
                   bdrv_co_pwritev(blk->root, offset, bytes, iov, flags));
}

int coroutine_fn blk_co_pread(BlockBackend *blk, int64_t offset, int64_t bytes, void *buf)
{
    return COUNTED(blk, BLOCK_ACCT_READ, offset, bytes,
                   bdrv_co_pread(blk->root, offset, bytes, buf, 0));
}

int coroutine_fn blk_co_pwrite(BlockBackend *blk, int64_t offset, int64_t bytes, const void *buf)
{
    return COUNTED(blk, BLOCK_ACCT_WRITE, offset, bytes,
                   bdrv_co_pwrite(blk->root, offset, bytes, buf, 0));
}

int coroutine_fn blk_co_pwrite_zeroes(BlockBackend *blk, int64_t offset, int64_t bytes, int flags)
{
    return COUNTED(blk, BLOCK_ACCT_WRITE, offset, bytes,
                   bdrv_co_pwrite_zeroes(blk->root, offset, bytes, flags));
}

int coroutine_fn blk_co_pdiscard(BlockBackend *blk, int64_t offset, int64_t bytes)
{
    return COUNTED(blk, BLOCK_ACCT_UNMAP, offset, bytes,
                   bdrv_co_pdiscard(blk->root, offset, bytes));
}

int coroutine_fn blk_co_copy_range(BlockBackend *blk, int64_t offset, BlockDriverState *from,
                                   int64_t from_offset, int64_t bytes)
{
    return COUNTED(blk, BLOCK_ACCT_WRITE, offset, bytes,
                   bdrv_co_copy_range(blk->root, offset, from, from_offset, bytes));
}

int coroutine_fn blk_co_flush(BlockBackend *blk)
{
    return COUNTED(blk, BLOCK_ACCT_FLUSH, 0, 0, bdrv_co_flush_child(blk->root));
}

bool coroutine_fn blk_co_truncate(BlockBackend *blk, int64_t length, GError **errp)
{
    return bdrv_co_truncate(blk->root, length, errp);
}

bool coroutine_fn blk_co_truncate_prealloc(BlockBackend *blk, int64_t length, bool exact,
                                           PreallocMode prealloc, GError **errp)
{
    return bdrv_co_truncate_prealloc(blk->root, length, exact, prealloc, errp);
}
