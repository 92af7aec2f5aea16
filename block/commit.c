/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * commit: what an overlay has goes down into its backing file, and the overlay is empty after it.
 *
 * A job copies while the guest goes on, in rounds: the first takes all that the overlay has, each
 * further one what was written during the one before.  When little is left the overlay is drained
 * for the rest, the backing file is flushed, and the overlay emptied.  Until then the overlay has
 * everything, and only what it has is written below it: a commit that fails or is given up changes
 * nothing that anybody sees.  A backing file that was opened to be read is writable meanwhile.
 *
 * Copying is done within requests on the overlay, as in backup.c, in its home context; begun and
 * ended in the main thread, under the VM job mutex.
 */
#include <errno.h>
#include <string.h>
#include "block/active.h"
#include "block/commit.h"
#include "block/dirty-bitmap.h"
#include "block/transaction.h"
#include "graph-int.h"
#include "qapi/error.h"

#define GRANULARITY 65536
#define COPY_CHUNK (1 << 20)
#define ZERO_CHUNK (64 << 20) /* at once: a request of the guest may wait for it */
#define SCAN_BITS 16384
/* What may be left for the round in which the guest's requests wait, and how often to try. */
#define LAST_BYTES (4 << 20)
#define MAX_ROUNDS 20

typedef struct Commit {
    BlockDriverState *top, *base; /* references */
    BdrvChild *edge;              /* from top to base */
    bool was_read_only;           /* base */
    bool attached;
    BdrvBeforeWrite hook;
    /* Home context. */
    bool all;         /* the round takes the whole disk, not what todo says */
    int64_t at;       /* how far it is */
    BdrvBits todo;
    BdrvBits written; /* since the round began */
    uint8_t *buf;
} Commit;

/* --- What can be committed (main thread) ---------------------------------------------------- */

static bool refuse(GError **errp, int errnum, const char *why, const BlockDriverState *bs)
{
    error_setg(errp, "%s (node '%s' %s)", strerror(errnum), bs->node_name, why);
    return false;
}

static bool check_base(BlockDriverState *top, BlockDriverState *base, GError **errp)
{
    for (GList *l = base->parents.head; l; l = l->next) {
        if (((BdrvChild *)l->data)->parent != top) {
            return refuse(errp, EACCES, "has other users, who would see it change", base);
        }
    }
    return base->job_type ? refuse(errp, EBUSY, "is in use by a block job", base) : true;
}

static bool check_top(BlockDriverState *top, GError **errp)
{
    BlockDriverState *base = bdrv_backing(top);

    if (!base || !top->drv->co_make_empty) {
        error_setg(errp, "%s", strerror(ENOTSUP));
        return false;
    }
    if (top->inactive) {
        return bdrv_check_active(top, errp);
    }
    if (top->job_type) {
        return refuse(errp, EBUSY, "is in use by a block job", top);
    }
    return top->read_only ? refuse(errp, EPERM, "is read-only", top)
                          : check_base(top, base, errp);
}

/* A snapshot shows what lies below it where it has nothing of its own. */
static bool coroutine_fn check_snapshots(BlockDriverState *top, GError **errp)
{
    g_autofree BdrvSnapshotInfo *list = NULL;
    GError *err = NULL;
    int n = 0;

    if (bdrv_has_snapshots(top)) {
        bdrv_co_move_to(top->ctx);
        list = bdrv_co_snapshot_list(top, &n, &err);
        bdrv_co_move_to(main_aio_context());
    }
    if (err) {
        g_propagate_error(errp, err);
        return false;
    }
    return n ? refuse(errp, ENOTSUP, "has internal snapshots, which would change", top) : true;
}

/* --- Begin and end (main thread) -------------------------------------------------------------- */

/* The request of somebody who is going to write. */
static void coroutine_fn before_write(void *opaque, int64_t offset, int64_t bytes)
{
    Commit *c = opaque;

    bdrv_bits_set(&c->written, offset, bytes);
}

/* Drained: nothing that is written from now on escapes. */
static bool coroutine_fn attach(Commit *c, GError **errp)
{
    if (c->was_read_only && !bdrv_co_set_writable(c->base, errp)) {
        return false;
    }
    if (!bdrv_child_set_writable(c->edge, true, errp)) {
        if (c->was_read_only) {
            bdrv_co_set_read_only(c->base);
        }
        return false;
    }
    c->hook = (BdrvBeforeWrite){ .fn = before_write, .opaque = c };
    c->hook.link.data = &c->hook;
    aio_context_acquire(c->top->ctx);
    g_queue_push_tail_link(&c->top->before_write, &c->hook.link);
    c->top->job_type = "commit";
    aio_context_release(c->top->ctx);
    c->base->commit_target = true;
    c->attached = true;
    return true;
}

static bool coroutine_fn grow_base(Commit *c, GError **errp)
{
    bool ok = true;

    bdrv_co_move_to(c->top->ctx);
    bdrv_request_begin(c->top);
    if (c->base->length < c->top->length) {
        ok = bdrv_co_truncate(c->edge, c->top->length, errp);
    }
    bdrv_request_end(c->top);
    bdrv_co_move_to(main_aio_context());
    return ok;
}

static bool coroutine_fn begin(Commit *c, GError **errp)
{
    BlockDriverState *top = c->top;
    bool ok;

    if (!check_top(top, errp) || !check_snapshots(top, errp) || !check_top(top, errp)) {
        return false;
    }
    if (!bdrv_bits_init(&c->todo, top->length, GRANULARITY) ||
        !bdrv_bits_init(&c->written, top->length, GRANULARITY)) {
        error_setg(errp, "%s", strerror(ENOMEM));
        return false;
    }
    c->edge = top->backing;
    c->base = bdrv_ref(c->edge->bs);
    c->was_read_only = c->base->read_only;
    c->all = true;
    bdrv_co_move_to(top->ctx);
    bdrv_co_drained_begin(c->base); /* and what is above it */
    bdrv_co_move_to(main_aio_context());
    ok = check_top(top, errp) && top->backing == c->edge && attach(c, errp);
    bdrv_co_move_to(top->ctx);
    bdrv_drained_end(c->base);
    bdrv_co_move_to(main_aio_context());
    return ok && grow_base(c, errp);
}

static void coroutine_fn detach(Commit *c)
{
    BlockDriverState *top = c->top;

    bdrv_co_move_to(top->ctx);
    bdrv_co_drained_begin(top);
    bdrv_co_move_to(main_aio_context());
    aio_context_acquire(top->ctx);
    g_queue_unlink(&top->before_write, &c->hook.link);
    top->job_type = NULL;
    aio_context_release(top->ctx);
    bdrv_child_set_writable(c->edge, false, NULL);
    c->base->commit_target = false;
    bdrv_co_move_to(top->ctx);
    bdrv_drained_end(top);
    bdrv_co_move_to(main_aio_context());
    if (c->was_read_only) {
        bdrv_co_set_read_only(c->base);
    }
}

/* --- Copying (home context, within a request on the overlay) ------------------------------------ */

int64_t coroutine_fn bdrv_co_copy_down(BdrvChild *edge, int64_t offset, int64_t bytes,
                                       uint8_t *buf, int64_t chunk)
{
    BlockDriverState *overlay = edge->parent;
    int64_t n, map;
    int ret = bdrv_co_block_status_inside(overlay, offset, bytes, &n, &map);

    if (ret < 0) {
        return ret;
    }
    if (!(ret & BDRV_BLOCK_ALLOCATED)) {
        return n;
    }
    if (ret & BDRV_BLOCK_ZERO) {
        n = MIN(n, ZERO_CHUNK);
        ret = bdrv_co_pwrite_zeroes(edge, offset, n, BDRV_REQ_MAY_UNMAP);
    } else {
        n = MIN(n, chunk);
        ret = bdrv_co_pread_inside(overlay, offset, n, buf);
        ret = ret < 0 ? ret : bdrv_co_pwrite(edge, offset, n, buf, 0);
    }
    return ret < 0 ? ret : n;
}

/* The next piece of the round, which begins at c->at; 0: there is none. */
static int64_t next_piece(Commit *c)
{
    int64_t bit, end, bits = bdrv_bits_number(&c->todo);

    if (c->all) {
        return c->todo.size - c->at;
    }
    bit = bdrv_bits_next(&c->todo, c->at / GRANULARITY);
    if (bit < 0) {
        return 0;
    }
    c->at = MAX(c->at, bit * GRANULARITY);
    end = bit + 1;
    while (end < bits && end - bit < SCAN_BITS && bdrv_bits_get(&c->todo, end)) {
        end++;
    }
    return MIN(end * GRANULARITY, c->todo.size) - c->at;
}

static bool copy_failed(int64_t ret, GError **errp)
{
    error_setg(errp, "%s", strerror(-ret));
    return false;
}

/* drained: within one request, the caller's. */
static bool coroutine_fn copy_round(Commit *c, Job *job, bool drained, GError **errp)
{
    int64_t n = 0;

    c->at = 0;
    for (int64_t bytes; (bytes = next_piece(c)) > 0; c->at += n) {
        if (job_is_cancelled(job)) {
            error_setg(errp, "Job was cancelled");
            return false;
        }
        if (!drained) {
            job_pause_point(job);
            bdrv_request_begin(c->top);
        }
        n = bdrv_co_copy_down(c->edge, c->at, bytes, c->buf, COPY_CHUNK);
        if (!drained) {
            bdrv_request_end(c->top);
        }
        if (n < 0) {
            return copy_failed(n, errp);
        }
    }
    return true;
}

/* Drained: what was written since the round began is what the next one takes. */
static void next_round(Commit *c)
{
    BdrvBits done = c->todo;

    c->all = false;
    c->todo = c->written;
    c->written = done;
    bdrv_bits_clear_all(&c->written);
}

/* So that there is little left to flush while the guest's requests wait. */
static bool coroutine_fn flush_early(Commit *c, GError **errp)
{
    int ret;

    bdrv_request_begin(c->top);
    ret = bdrv_co_flush_child(c->edge);
    bdrv_request_end(c->top);
    ret = ret < 0 ? ret : bdrv_co_flush(c->top);
    return ret < 0 ? copy_failed(ret, errp) : true;
}

/* Drained: the rest, and then nobody needs the overlay's content any more. */
static bool coroutine_fn finish(Commit *c, Job *job, GError **errp)
{
    int ret;

    if (!copy_round(c, job, true, errp)) {
        return false;
    }
    ret = bdrv_co_flush_child(c->edge);
    ret = ret < 0 ? ret : c->top->drv->co_make_empty(c->top);
    return ret < 0 ? copy_failed(ret, errp) : true;
}

static bool coroutine_fn copy_all(Commit *c, Job *job, GError **errp)
{
    bool ok;

    for (int round = 0;; round++) {
        if (!copy_round(c, job, false, errp) || !flush_early(c, errp)) {
            return false;
        }
        bdrv_co_drained_begin(c->top);
        next_round(c);
        if (bdrv_bits_count(&c->todo) <= LAST_BYTES || round == MAX_ROUNDS) {
            break;
        }
        bdrv_drained_end(c->top);
    }
    bdrv_request_begin_drained(c->top);
    ok = finish(c, job, errp);
    bdrv_request_end(c->top);
    bdrv_drained_end(c->top);
    return ok;
}

/* --- The job ------------------------------------------------------------------------------------ */

static bool coroutine_fn commit_run(Job *job, void *opaque, GError **errp)
{
    Commit *c = opaque;
    bool ok;

    bdrv_co_move_to(main_aio_context());
    if (!vm_job_mutex_lock_soon(bdrv_job_mutex(), job, "commit", errp)) {
        return false;
    }
    ok = begin(c, errp);
    if (ok) {
        bdrv_co_move_to(c->top->ctx);
        c->buf = g_aligned_alloc(1, COPY_CHUNK, 4096);
        ok = copy_all(c, job, errp);
        g_aligned_free(c->buf);
        bdrv_co_move_to(main_aio_context());
    }
    if (c->attached) {
        detach(c);
    }
    vm_job_mutex_unlock(bdrv_job_mutex());
    return ok;
}

static void coroutine_fn free_entry(void *opaque)
{
    Commit *c = opaque;

    bdrv_co_unref(c->base);
    bdrv_co_unref(c->top);
    bdrv_bits_free(&c->todo);
    bdrv_bits_free(&c->written);
    g_free(c);
}

static void commit_free(void *opaque)
{
    aio_co_enter(main_aio_context(), coroutine_create(free_entry, opaque));
}

bool coroutine_fn bdrv_co_commit(BlockDriverState *bs, const BdrvCommitWatch *watch,
                                 GError **errp)
{
    static const JobDriver driver = {
        .type = JOB_TYPE_COMMIT, .run = commit_run, .free = commit_free,
    };
    Commit *c;
    Job *job;
    bool ok;

    GLOBAL_STATE();
    if (!check_top(bs, errp)) {
        return false;
    }
    c = g_new0(Commit, 1);
    c->top = bdrv_ref(bs);
    job = job_ref(job_create(NULL, &driver, bs->ctx, JOB_DEFAULT, c, NULL));
    job_start(job);
    if (watch) {
        watch->started(watch->opaque, job);
    }
    ok = job_co_wait(job, errp);
    if (watch) {
        watch->started(watch->opaque, NULL);
    }
    job_unref(job);
    return ok;
}

bool coroutine_fn bdrv_co_commit_all(const BdrvCommitWatch *watch, GError **errp)
{
    g_autoptr(GPtrArray) list = g_ptr_array_new();
    bool ok = true;

    GLOBAL_STATE();
    for (BlockBackend *blk = blk_next(NULL); blk; blk = blk_next(blk)) {
        if (*blk_user_name(blk) && bdrv_backing(blk_bs(blk)) &&
            !g_ptr_array_find(list, blk_bs(blk), NULL)) {
            g_ptr_array_add(list, bdrv_ref(blk_bs(blk)));
        }
    }
    for (guint i = 0; i < list->len && ok; i++) {
        ok = bdrv_co_commit(list->pdata[i], watch, errp);
    }
    for (guint i = 0; i < list->len; i++) {
        bdrv_co_unref(list->pdata[i]);
    }
    return ok;
}
