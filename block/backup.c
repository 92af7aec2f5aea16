/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * blockdev-backup: a job that copies a disk as it was at one instant, while the guest goes on.
 * It starts within a transaction's instant.  From then on whoever writes to the source copies
 * first what is there (copy before write), and the job copies the rest in the background.
 *
 * Copying is done inside a request on the source, and the target hangs below the source in
 * the graph: so draining either waits for copies under way and lets them end.  All of it runs
 * in the source's home context, where the target has moved; set up and torn down in the main
 * thread.
 */
#include <inttypes.h>
#include "block/active.h"
#include "block/dirty-bitmap.h"
#include "graph-int.h"
#include "qapi/error.h"
#include "transaction-int.h"

#define GRANULARITY 65536
#define RUN_BYTES (1 << 20)

typedef struct CopyRun {
    int64_t offset, bytes;
    CoQueue waiters;
    GList link;
} CopyRun;

typedef struct Backup {
    int refs; /* main thread: the job's and, until it is over, the transaction's */
    BlockDriverState *source; /* a reference */
    BdrvChild *target;        /* NULL: all is taken away again */
    BdrvBeforeWrite hook;
    bool attached; /* hook and bitmap are in place */
    bool top_only;
    BdrvDirtyBitmap *bitmap; /* NULL: none */
    BitmapSyncMode bitmap_mode;
    bool partial;   /* bitmap says what is copied, not only what is to be noted */
    BdrvBits dirty; /* what was in the bitmap */
    /* Home context. */
    BdrvBits todo;
    GQueue runs; /* CopyRun: being copied */
    int error;   /* first -errno: the backup is lost, the guest goes on */
    bool reading; /* error was one of the source */
    Job *job;
} Backup;

/* --- Copying (home context) --------------------------------------------------------------- */

static CopyRun *run_over(Backup *b, int64_t offset, int64_t bytes)
{
    for (GList *l = b->runs.head; l; l = l->next) {
        CopyRun *r = l->data;

        if (r->offset < offset + bytes && offset < r->offset + r->bytes) {
            return r;
        }
    }
    return NULL;
}

static bool is_zero(const uint8_t *buf, int64_t n)
{
    IOVector iov;

    io_vector_init_buf(&iov, (void *)buf, n);
    return io_vector_is_zero(&iov);
}

static int coroutine_fn copy_bytes(Backup *b, int64_t offset, int64_t bytes)
{
    uint8_t *buf = g_aligned_alloc(1, bytes, 4096);
    int ret = bdrv_co_pread_inside(b->source, offset, bytes, buf);

    if (ret < 0) {
        b->reading = b->reading || !b->error;
    } else if (is_zero(buf, bytes)) {
        ret = bdrv_co_pwrite_zeroes(b->target, offset, bytes, BDRV_REQ_MAY_UNMAP);
    } else {
        ret = bdrv_co_pwrite(b->target, offset, bytes, buf, 0);
    }
    g_aligned_free(buf);
    return ret;
}

typedef enum Piece {
    PIECE_LEAVE, /* not the source's own */
    PIECE_ZERO,
    PIECE_DATA,
} Piece;

/* How many bytes from offset are alike, and what they are; or -errno. */
static int64_t coroutine_fn next_piece(Backup *b, int64_t offset, int64_t bytes, Piece *piece)
{
    int64_t n, map;
    int ret = b->top_only
                  ? bdrv_co_block_status_inside(b->source, offset, bytes, &n, &map)
                  : bdrv_co_block_status_above_inside(b->source, offset, bytes, &n);

    if (ret < 0) {
        b->reading = b->reading || !b->error;
        return ret;
    }
    *piece = b->top_only && !(ret & BDRV_BLOCK_ALLOCATED) ? PIECE_LEAVE
             : ret & BDRV_BLOCK_ZERO                      ? PIECE_ZERO
                                                          : PIECE_DATA;
    return n;
}

static int coroutine_fn copy_piece(Backup *b, Piece piece, int64_t offset, int64_t bytes)
{
    switch (piece) {
    case PIECE_LEAVE:
        return 0;
    case PIECE_ZERO:
        return bdrv_co_pwrite_zeroes(b->target, offset, bytes, BDRV_REQ_MAY_UNMAP);
    default:
        return copy_bytes(b, offset, bytes);
    }
}

/*
 * Copies what is still to be copied of the bits from first on, at most one run; within a
 * request on the source.  Returns the bit where it has stopped.
 */
static int64_t coroutine_fn copy_run(Backup *b, int64_t first, int64_t end)
{
    CopyRun run = { .offset = first * GRANULARITY };
    int64_t bit = first, ret = 0, stop;
    CopyRun *other;

    while (bit < end && bit - first < RUN_BYTES / GRANULARITY && bdrv_bits_get(&b->todo, bit) &&
           !run_over(b, bit * GRANULARITY, GRANULARITY)) {
        bit++;
    }
    if (bit == first) {
        other = run_over(b, first * GRANULARITY, GRANULARITY);
        if (!other) {
            return first + 1; /* done already */
        }
        co_queue_wait(&other->waiters, NULL);
        return first; /* look again */
    }
    stop = MIN(bit * GRANULARITY, b->todo.size);
    run.bytes = stop - run.offset;
    co_queue_init(&run.waiters);
    run.link.data = &run;
    g_queue_push_tail_link(&b->runs, &run.link);
    for (int64_t at = run.offset; at < stop && ret >= 0;) {
        Piece piece;
        int64_t n = next_piece(b, at, stop - at, &piece);

        ret = n < 0 ? n : copy_piece(b, piece, at, n);
        at += n;
    }
    if (ret >= 0) {
        bdrv_bits_clear(&b->todo, run.offset, run.bytes);
    } else if (!b->error) {
        b->error = ret;
    }
    g_queue_unlink(&b->runs, &run.link);
    co_queue_restart_all(&run.waiters);
    co_queue_destroy(&run.waiters);
    if (b->job && ret >= 0) {
        job_progress_add(b->job, run.bytes);
    }
    return bit;
}

/* The request of somebody who is going to write. */
static void coroutine_fn before_write(void *opaque, int64_t offset, int64_t bytes)
{
    Backup *b = opaque;
    int64_t bit = offset / GRANULARITY;
    int64_t end = MIN((offset + bytes - 1) / GRANULARITY + 1, bdrv_bits_number(&b->todo));

    while (bit < end && !b->error) {
        bit = copy_run(b, bit, end);
    }
}

/* --- Begin and end (main thread) ---------------------------------------------------------- */

/* At the instant: nothing that is written from now on escapes. */
static bool attach(Backup *b, GError **errp)
{
    if (b->bitmap && !bdrv_dirty_bitmap_take(b->bitmap, &b->dirty, errp)) {
        return false;
    }
    if (b->partial) {
        bdrv_bits_merge(&b->todo, &b->dirty);
    } else {
        bdrv_bits_set(&b->todo, 0, b->todo.size);
    }
    b->hook = (BdrvBeforeWrite){ .fn = before_write, .opaque = b };
    b->hook.link.data = &b->hook;
    aio_context_acquire(b->source->ctx);
    g_queue_push_tail_link(&b->source->before_write, &b->hook.link);
    aio_context_release(b->source->ctx);
    b->attached = true;
    return true;
}

static void release_bitmap(Backup *b, bool ok)
{
    const BdrvBits *keep = NULL;

    if (!b->bitmap) {
        return;
    }
    if (b->bitmap_mode == BITMAP_SYNC_MODE_NEVER ||
        (b->bitmap_mode == BITMAP_SYNC_MODE_ON_SUCCESS && !ok)) {
        keep = &b->dirty;
    } else if (!ok) {
        keep = &b->todo; /* always: what was not copied */
    }
    bdrv_dirty_bitmap_release(b->bitmap, keep);
    b->bitmap = NULL;
}

/* Takes everything away from the source but the bitmap. */
static void coroutine_fn detach(Backup *b)
{
    BlockDriverState *source = b->source;

    GLOBAL_STATE();
    bdrv_co_move_to(source->ctx);
    bdrv_co_drained_begin(source);
    bdrv_co_move_to(main_aio_context());
    aio_context_acquire(source->ctx);
    if (b->attached) {
        g_queue_unlink(&source->before_write, &b->hook.link);
        b->attached = false;
    }
    source->job_type = NULL;
    aio_context_release(source->ctx);
    bdrv_co_move_to(source->ctx);
    bdrv_drained_end(source);
    bdrv_co_move_to(main_aio_context());
    bdrv_co_unref(bdrv_detach_child(g_steal_pointer(&b->target)));
}

static void coroutine_fn free_entry(void *opaque)
{
    Backup *b = opaque;

    bdrv_co_unref(b->source);
    bdrv_bits_free(&b->dirty);
    bdrv_bits_free(&b->todo);
    g_free(b);
}

static void backup_unref(void *opaque)
{
    Backup *b = opaque;

    if (--b->refs == 0) {
        aio_co_enter(main_aio_context(), coroutine_create(free_entry, b));
    }
}

/* --- The job --------------------------------------------------------------------------------- */

/* Home context. */
static bool coroutine_fn copy_all(Backup *b, Job *job, GError **errp)
{
    int64_t bit = 0, bits = bdrv_bits_number(&b->todo);

    while ((bit = bdrv_bits_next(&b->todo, bit)) >= 0 && !b->error && !job_is_cancelled(job)) {
        int64_t from = bit;

        bdrv_request_begin(b->source);
        bit = copy_run(b, bit, bits);
        bdrv_request_end(b->source);
        job_moved(job, (bit - from) * GRANULARITY);
        job_pause_point(job);
        while (job_too_fast(job) && !job_is_cancelled(job)) {
            co_sleep_ns(10 * 1000 * 1000);
        }
        bit = b->error ? bit : MIN(bit, bits);
    }
    if (b->error) {
        error_setg_errno(errp, -b->error, b->reading ? "Could not read node '%s'"
                                                     : "Could not write the backup of node '%s'",
                         b->source->node_name);
        return false;
    }
    if (job_is_cancelled(job)) {
        error_setg(errp, "Job was cancelled");
        return false;
    }
    b->error = bdrv_co_flush_child(b->target);
    if (b->error < 0) {
        error_setg_errno(errp, -b->error, "Could not flush the backup of node '%s'",
                         b->source->node_name);
        return false;
    }
    return true;
}

static bool coroutine_fn backup_run(Job *job, void *opaque, GError **errp)
{
    Backup *b = opaque;
    bool ok;

    bdrv_co_move_to(b->source->ctx);
    b->job = job;
    job_progress_set_total(job, bdrv_bits_count(&b->todo));
    ok = copy_all(b, job, errp);
    bdrv_co_move_to(main_aio_context());
    detach(b);
    if (!ok) {
        release_bitmap(b, false);
    }
    return ok;
}

static void coroutine_fn backup_abandon(void *opaque)
{
    detach(opaque);
    release_bitmap(opaque, false);
}

static void backup_settle(Job *job, void *opaque, bool commit)
{
    release_bitmap(opaque, commit);
}

static const JobDriver backup_job = {
    .type = JOB_TYPE_BACKUP,
    .run = backup_run,
    .abandon = backup_abandon,
    .settle = backup_settle,
    .free = backup_unref,
    .has_speed = true,
};

/* --- The action ---------------------------------------------------------------------------- */

typedef struct BackupAction {
    BdrvAction action;
    Job *job; /* a reference */
    Backup *b; /* a reference */
    bool manual_dismiss;
} BackupAction;

static BackupAction *to_backup(BdrvAction *a)
{
    return (BackupAction *)a;
}

static bool check_bitmap_arguments(const BlockdevBackup *arg, GError **errp)
{
    const char *sync = MirrorSyncMode_str(arg->sync);
    bool by_bitmap = arg->sync == MIRROR_SYNC_MODE_BITMAP ||
                     arg->sync == MIRROR_SYNC_MODE_INCREMENTAL;

    if (by_bitmap && !arg->bitmap) {
        error_setg(errp, "must provide a valid bitmap name for '%s' sync mode", sync);
    } else if (arg->sync == MIRROR_SYNC_MODE_INCREMENTAL && arg->has_bitmap_mode &&
               arg->bitmap_mode != BITMAP_SYNC_MODE_ON_SUCCESS) {
        error_setg(errp, "Bitmap sync mode must be 'on-success' when using sync mode "
                   "'incremental'");
    } else if (arg->bitmap && arg->sync != MIRROR_SYNC_MODE_INCREMENTAL &&
               !arg->has_bitmap_mode) {
        error_setg(errp, "Bitmap sync mode must be given when providing a bitmap");
    } else if (!arg->bitmap && arg->has_bitmap_mode) {
        error_setg(errp, "Cannot specify bitmap sync mode without a bitmap");
    } else if (arg->bitmap && arg->sync == MIRROR_SYNC_MODE_NONE) {
        error_setg(errp, "sync mode 'none' does not produce meaningful bitmap outputs");
    } else if (arg->bitmap && !by_bitmap && arg->bitmap_mode == BITMAP_SYNC_MODE_NEVER) {
        error_setg(errp, "Bitmap sync mode 'never' has no meaningful effect when combined with "
                   "sync mode '%s'", sync);
    } else if (arg->sync == MIRROR_SYNC_MODE_NONE) {
        error_setg(errp, "sync mode 'none' is not supported; full, top, incremental and bitmap "
                   "are");
    } else if (arg->has_speed && arg->speed < 0) {
        error_setg(errp, "Parameter 'speed' expects a non-negative value");
    } else {
        return true;
    }
    return false;
}

static bool check_nodes(BlockDriverState *source, BlockDriverState *target, GError **errp)
{
    if (source == target) {
        error_setg(errp, "Source and target cannot be the same");
    } else if (source->length != target->length) {
        error_setg(errp, "Source and target image have different sizes");
    } else if (source->job_type) {
        error_setg(errp, "Node '%s' is busy: block device is in use by block job: %s",
                   source->node_name, source->job_type);
    } else if (!g_queue_is_empty(&target->parents)) {
        error_setg(errp, "Node '%s' is in use and cannot be the target of a backup",
                   target->node_name);
    } else {
        return bdrv_check_active(source, errp) && bdrv_check_active(target, errp);
    }
    return false;
}

static Backup *backup_new(BlockDriverState *source, const BlockdevBackup *arg, GError **errp)
{
    Backup *b = g_new0(Backup, 1);

    if (!bdrv_bits_init(&b->todo, source->length, GRANULARITY)) {
        error_setg(errp, "Not enough memory for a backup of node '%s'", source->node_name);
        g_free(b);
        return NULL;
    }
    b->refs = 1;
    b->source = bdrv_ref(source);
    b->top_only = arg->sync == MIRROR_SYNC_MODE_TOP;
    b->partial = arg->sync == MIRROR_SYNC_MODE_BITMAP ||
                 arg->sync == MIRROR_SYNC_MODE_INCREMENTAL;
    b->bitmap_mode = arg->has_bitmap_mode ? arg->bitmap_mode : BITMAP_SYNC_MODE_ON_SUCCESS;
    return b;
}

/* The job in state 'created', its target below the source. */
static bool coroutine_fn make_job(BackupAction *s, BlockDriverState *source,
                                  BlockDriverState *target, const BlockdevBackup *arg,
                                  GError **errp)
{
    int flags = (arg->has_auto_finalize && !arg->auto_finalize ? JOB_MANUAL_FINALIZE : 0) |
                (arg->has_auto_dismiss && !arg->auto_dismiss ? JOB_MANUAL_DISMISS : 0);
    const char *id = arg->job_id ? arg->job_id : blk_by_name(arg->device) ? arg->device : "";
    Backup *b = backup_new(source, arg, errp);
    Job *job;

    if (!b) {
        return false;
    }
    b->target = bdrv_attach_child(target, source, NULL, BDRV_CHILD_TARGET, true, errp);
    job = b->target ? job_create(id, &backup_job, source->ctx, flags, b, errp) : NULL;
    if (!job) {
        if (b->target) {
            bdrv_co_unref(bdrv_detach_child(g_steal_pointer(&b->target)));
        }
        backup_unref(b);
        return false;
    }
    s->manual_dismiss = flags & JOB_MANUAL_DISMISS;
    s->job = job_ref(job);
    s->b = b;
    b->refs++;
    aio_context_acquire(source->ctx);
    source->job_type = "backup";
    aio_context_release(source->ctx);
    if (arg->has_speed) {
        job_set_speed_by_id(id, arg->speed, NULL);
    }
    return true;
}

static bool backup_check(BdrvAction *a, GError **errp)
{
    BlockdevBackup *arg = a->arg->u.blockdev_backup.data;
    BlockDriverState *source = bdrv_lookup(arg->device, arg->device, errp);
    BlockDriverState *target = source ? bdrv_lookup(arg->target, arg->target, errp) : NULL;

    return target && check_nodes(source, target, errp) && check_bitmap_arguments(arg, errp);
}

static bool coroutine_fn backup_prepare(BdrvAction *a, GError **errp)
{
    BlockdevBackup *arg = a->arg->u.blockdev_backup.data;
    BlockDriverState *source, *target;
    bool ok;

    if (!backup_check(a, errp)) {
        return false;
    }
    target = bdrv_ref(bdrv_lookup(arg->target, arg->target, NULL));
    source = bdrv_ref(bdrv_lookup(arg->device, arg->device, NULL));
    /* Once more after the move, during which others were at work. */
    ok = bdrv_co_move_tree(target, source->ctx, errp) && check_nodes(source, target, errp) &&
         make_job(to_backup(a), source, target, arg, errp);
    if (ok) {
        bdrv_transaction_add_node(a->t, source);
    }
    bdrv_co_unref(source);
    bdrv_co_unref(target);
    return ok;
}

static bool check_not_cancelled(const BackupAction *s, GError **errp)
{
    if (job_is_cancelled(s->job)) {
        error_setg(errp, "Job '%s' was cancelled", job_id(s->job));
        return false;
    }
    return true;
}

static bool coroutine_fn backup_freeze(BdrvAction *a, GError **errp)
{
    BlockdevBackup *arg = a->arg->u.blockdev_backup.data;
    Backup *b = to_backup(a)->b;
    BdrvDirtyBitmap *bitmap;

    if (!check_not_cancelled(to_backup(a), errp)) {
        return false;
    }
    if (arg->bitmap) {
        bitmap = bdrv_dirty_bitmap_find(b->source, arg->bitmap, NULL);
        if (!bitmap) {
            error_setg(errp, "Bitmap '%s' could not be found", arg->bitmap);
            return false;
        }
        if (!bdrv_dirty_bitmap_usable(bitmap, a->t, false, errp)) {
            return false;
        }
        b->bitmap = bitmap;
    }
    if (!attach(b, errp)) {
        b->bitmap = NULL;
        return false;
    }
    return true;
}

static bool coroutine_fn backup_finish(BdrvAction *a, GError **errp)
{
    BackupAction *s = to_backup(a);

    if ((s->b->bitmap && !bdrv_co_dirty_bitmap_in_use(s->b->bitmap, errp)) ||
        !check_not_cancelled(s, errp)) {
        return false;
    }
    job_start(s->job);
    return true;
}

static void drop_job(BackupAction *s)
{
    job_unref(g_steal_pointer(&s->job));
    backup_unref(g_steal_pointer(&s->b));
}

static bool coroutine_fn backup_abort(BdrvAction *a, GError **errp)
{
    BackupAction *s = to_backup(a);
    g_autofree char *id = NULL;

    if (!s->job) {
        return true;
    }
    id = g_strdup(job_id(s->job));
    job_cancel(s->job, true);
    job_co_wait(s->job, NULL);
    if (s->manual_dismiss) {
        job_dismiss_by_id(id, NULL);
    }
    drop_job(s);
    return true;
}

static void coroutine_fn backup_done(BdrvAction *a)
{
    drop_job(to_backup(a));
}

const BdrvActionDriver bdrv_action_backup = {
    .instance_size = sizeof(BackupAction),
    .changes_machine = true,
    .check = backup_check,
    .prepare = backup_prepare,
    .freeze = backup_freeze,
    .finish = backup_finish,
    .abort = backup_abort,
    .done = backup_done,
};
