/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A flash bank and the block node behind it.
 *
 * An operation of the chips is written to the node by a coroutine in the node's home context
 * ("home"), and enters the memory when the node has it; until then the chips are busy.  So
 * while the node is drained it holds what the memory holds, and an operation that has not
 * begun is part of the machine state.  Pages that a load has brought and the node has not
 * are dirty; the same coroutine writes them, operations first.
 *
 * Nothing yields between taking work and the one request that it is, and none is taken while
 * the node is drained: no request waits in the block layer over a snapshot or a load.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include "block/snapshot.h"
#include "util/errno-text.h"
#include "pflash-int.h"
#include "qapi/error.h"

#define FLUSH_DELAY_NS 100000000 /* after the last write of a burst */
#define RETRY_DELAY_NS 1000000000
#define CHUNK (1 << 20)

typedef struct Work {
    enum { WORK_NONE, WORK_OP, WORK_PAGES, WORK_FLUSH } what;
    uint32_t offset, len;
    PFlashOp op;
    uint64_t generation;
} Work;

/* --- Operations: lock held ------------------------------------------------------------------ */

/* What the operation makes of its range: programming can only clear bits. */
static void op_result(PFlash *s, uint8_t *out)
{
    const PFlashRegs *r = &s->regs;

    if (r->op == PFLASH_OP_ERASE) {
        memset(out, 0xff, r->op_len);
        return;
    }
    for (uint32_t i = 0; i < r->op_len; i++) {
        out[i] = s->content.mem[r->op_offset + i] & r->buf[i];
    }
}

static void adopt(PFlash *s, uint32_t offset, uint32_t len, const uint8_t *data)
{
    memcpy(s->content.mem + offset, data, len);
    pflash_content_classify(&s->content, offset, len);
    pflash_tell_cpus(s, offset, len);
}

void pflash_store_begin(PFlash *s)
{
    if (s->blk) {
        aio_bh_schedule(s->bh);
        return;
    }
    op_result(s, s->io);
    adopt(s, s->regs.op_offset, s->regs.op_len, s->io);
    s->written = true;
    pflash_op_done(s, 0);
}

/* --- Writing to the node: home -------------------------------------------------------------- */

static Work take_work(PFlash *s)
{
    Work w = {.what = WORK_NONE};

    if (s->drained) {
        return w;
    }
    pthread_mutex_lock(&s->lock);
    w.generation = s->generation;
    if (s->loading) {
        w.what = WORK_NONE;
    } else if (s->regs.op && !s->op_taken) {
        w.what = WORK_OP;
        w.op = s->regs.op;
        w.offset = s->regs.op_offset;
        w.len = s->regs.op_len;
        op_result(s, s->io);
        s->op_taken = true;
    } else if (s->content.nr_dirty && !s->error) {
        w.what = WORK_PAGES;
        pflash_content_take_dirty(&s->content, &w.offset, &w.len);
        memcpy(s->io, s->content.mem + w.offset, w.len);
    } else if (s->flush_due) {
        w.what = WORK_FLUSH;
        s->flush_due = s->flush_owed = false;
    }
    pthread_mutex_unlock(&s->lock);
    return w;
}

/* Lock held.  A load or a reset may have come meanwhile: then the chips know nothing of it. */
static void op_written(PFlash *s, const Work *w, int ret)
{
    bool current = w->generation == s->generation;

    if (!current && s->content_loaded) {
        for (uint32_t at = w->offset; at < w->offset + w->len; at += PFLASH_PAGE) {
            pflash_content_set_dirty(&s->content, at / PFLASH_PAGE);
        }
        pflash_content_set_dirty(&s->content, (w->offset + w->len - 1) / PFLASH_PAGE);
    } else if (ret == 0) {
        adopt(s, w->offset, w->len, s->io);
    }
    if (current) {
        pflash_op_done(s, ret == 0 ? 0 : w->op == PFLASH_OP_ERASE ? SR_ERASE_ERROR
                                                                  : SR_PROGRAM_ERROR);
    }
}

/* Lock held. */
static void pages_written(PFlash *s, const Work *w, int ret)
{
    if (ret == 0) {
        s->warned = false;
        return;
    }
    for (uint32_t at = w->offset; at < w->offset + w->len; at += PFLASH_PAGE) {
        pflash_content_set_dirty(&s->content, at / PFLASH_PAGE);
    }
    s->error = g_strdup_printf("Could not write %u bytes at offset %u of flash bank '%s': %s",
                               w->len, w->offset, s->name, errno_text(-ret));
    if (!s->warned) {
        g_printerr("%s: warning: %s; it is tried again\n", g_get_prgname(), s->error);
        s->warned = true;
    }
}

static int coroutine_fn do_work(PFlash *s, const Work *w)
{
    IOVector iov;
    int ret;

    if (w->what == WORK_FLUSH) {
        ret = blk_co_flush(s->blk);
        if (ret < 0) {
            s->flush_owed = true;
        }
        return ret;
    }
    io_vector_init_buf(&iov, s->io, w->len);
    ret = blk_co_pwritev(s->blk, w->offset, w->len, &iov, s->write_through ? BDRV_REQ_FUA : 0);
    pthread_mutex_lock(&s->lock);
    if (w->what == WORK_OP) {
        op_written(s, w, ret);
    } else {
        pages_written(s, w, ret);
    }
    pthread_mutex_unlock(&s->lock);
    s->flush_owed = true;
    aio_timer_mod(s->timer, clock_now_ns() + (ret < 0 ? RETRY_DELAY_NS : FLUSH_DELAY_NS));
    return ret;
}

/* work held.  0, or the last error. */
static int coroutine_fn work_all(PFlash *s)
{
    int last = 0;
    Work w;

    while ((w = take_work(s)).what != WORK_NONE) {
        int ret = do_work(s, &w);

        last = ret < 0 ? ret : last;
    }
    return last;
}

static void coroutine_fn work_entry(void *opaque)
{
    PFlash *s = opaque;

    co_mutex_lock(&s->work);
    s->working = false; /* what comes from here on may be too late for work_all() */
    work_all(s);
    co_mutex_unlock(&s->work);
}

static void work_bh(void *opaque)
{
    PFlash *s = opaque;

    if (!s->working && !s->stopped) {
        s->working = true;
        aio_co_enter(s->ctx, coroutine_create(work_entry, s));
    }
}

/* A burst of writes is over: make it last, and try again what failed. */
static void timer_due(void *opaque)
{
    PFlash *s = opaque;

    pthread_mutex_lock(&s->lock);
    g_clear_pointer(&s->error, g_free);
    s->flush_due = s->flush_owed;
    pthread_mutex_unlock(&s->lock);
    aio_bh_schedule(s->bh);
}

static bool coroutine_fn settle(PFlash *s, GError **errp)
{
    bool ok, again;
    int ret = 0;

    co_mutex_lock(&s->work);
    do {
        while (s->drained) {
            co_queue_wait(&s->undrained, &s->work);
        }
        pthread_mutex_lock(&s->lock);
        g_clear_pointer(&s->error, g_free);
        s->flush_due = s->flush_owed;
        pthread_mutex_unlock(&s->lock);
        ret = work_all(s);
        pthread_mutex_lock(&s->lock);
        again = ret == 0 && !s->loading && (s->content.nr_dirty || s->flush_owed);
        pthread_mutex_unlock(&s->lock);
    } while (again);
    pthread_mutex_lock(&s->lock);
    ok = ret == 0;
    if (s->error) {
        error_setg(errp, "%s", s->error);
    } else if (!ok) {
        error_setg_errno(errp, -ret, "Could not flush flash bank '%s'", s->name);
    }
    pthread_mutex_unlock(&s->lock);
    co_mutex_unlock(&s->work);
    return ok;
}

bool coroutine_fn pflash_co_settle(PFlash *s, GError **errp)
{
    AioContext *from = aio_current();
    bool ok = true;

    if (s->blk && !s->read_only) {
        aio_co_reschedule_self(s->ctx);
        ok = settle(s, errp);
        aio_co_reschedule_self(from);
    }
    return ok;
}

/* --- The block layer's wishes: home --------------------------------------------------------- */

static void drained_begin(void *opaque)
{
    PFlash *s = opaque;

    s->drained = true;
}

static void drained_end(void *opaque)
{
    PFlash *s = opaque;

    s->drained = false;
    co_queue_restart_all(&s->undrained);
    aio_bh_schedule(s->bh);
}

static bool coroutine_fn goto_prepare(void *opaque, BdrvSnapshotReader *from, GError **errp)
{
    PFlash *s = opaque;
    g_autofree uint8_t *buf = g_malloc(CHUNK);
    PFlashContent *next = g_new0(PFlashContent, 1);
    int ret = 0;

    g_assert(!s->other);
    s->other = next;
    s->switched = false;
    if (!pflash_content_alloc(next, errp)) {
        g_free(g_steal_pointer(&s->other));
        return false;
    }
    for (uint32_t at = 0; ret == 0 && at < PFLASH_SIZE; at += CHUNK) {
        IOVector iov;

        io_vector_init_buf(&iov, buf, CHUNK);
        ret = bdrv_co_snapshot_read_disk(from, at, &iov);
        if (ret == 0) {
            pflash_content_put(next, at, buf, CHUNK);
        }
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not read what the snapshot has in flash bank '%s'",
                         s->name);
        pflash_content_free(next);
        g_free(g_steal_pointer(&s->other));
    }
    return ret == 0;
}

/* Where the two contents differ, each gets what the other had. */
static void swap_content(PFlash *s)
{
    PFlashContent *a = &s->content, *b = s->other;
    uint8_t page[PFLASH_PAGE];

    pthread_mutex_lock(&s->lock);
    for (uint32_t i = 0; i < PFLASH_PAGES; i++) {
        uint8_t *pa = a->mem + i * PFLASH_PAGE, *pb = b->mem + i * PFLASH_PAGE;
        uint8_t kind = a->kind[i];

        if (pflash_content_same(a, b, i)) {
            continue;
        }
        memcpy(page, pa, PFLASH_PAGE);
        memcpy(pa, pb, PFLASH_PAGE);
        memcpy(pb, page, PFLASH_PAGE);
        a->kind[i] = b->kind[i];
        b->kind[i] = kind;
        pflash_tell_cpus(s, i * PFLASH_PAGE, PFLASH_PAGE);
    }
    for (int i = 0; i < PFLASH_DIRTY_WORDS; i++) {
        uint64_t dirty = a->dirty[i];

        a->dirty[i] = b->dirty[i];
        b->dirty[i] = dirty;
    }
    a->nr_dirty ^= b->nr_dirty;
    b->nr_dirty ^= a->nr_dirty;
    a->nr_dirty ^= b->nr_dirty;
    pthread_mutex_unlock(&s->lock);
}

static void goto_switch(void *opaque)
{
    PFlash *s = opaque;

    swap_content(s);
    s->switched = true;
}

static void goto_end(void *opaque, bool rollback)
{
    PFlash *s = opaque;

    if (rollback && s->switched) {
        swap_content(s);
    }
    pflash_content_free(s->other);
    g_free(g_steal_pointer(&s->other));
}

static const BlockBackendOps blk_ops = {
    .drained_begin = drained_begin,
    .drained_end = drained_end,
    .goto_prepare = goto_prepare,
    .goto_switch = goto_switch,
    .goto_end = goto_end,
};

/* --- Life ------------------------------------------------------------------------------------- */

bool pflash_store_init(PFlash *s, GError **errp)
{
    if (!pflash_content_alloc(&s->content, errp)) {
        return false;
    }
    co_mutex_init(&s->work);
    co_queue_init(&s->undrained);
    s->io = g_malloc(PFLASH_BLOCK);
    if (s->blk) {
        s->ctx = bdrv_context(blk_bs(s->blk));
        s->bh = aio_bh_new(s->ctx, work_bh, s);
        s->timer = aio_timer_new(s->ctx, timer_due, s);
    }
    return true;
}

void pflash_store_free(PFlash *s)
{
    pflash_content_free(&s->content);
    g_free(s->io);
    g_free(s->blob);
    g_free(s->error);
    g_clear_pointer(&s->undo, g_array_unref);
    if (s->io) {
        co_mutex_destroy(&s->work);
        co_queue_destroy(&s->undrained);
    }
}

bool coroutine_fn pflash_co_open(PFlash *s, GError **errp)
{
    AioContext *from = aio_current();
    g_autofree uint8_t *buf = g_malloc(CHUNK);
    int ret = 0;

    if (!s->blk) {
        return true;
    }
    if (bdrv_length(blk_bs(s->blk)) != PFLASH_SIZE) {
        error_setg(errp, "device requires %d bytes, block backend provides %" PRId64 " bytes",
                   PFLASH_SIZE, bdrv_length(blk_bs(s->blk)));
        return false;
    }
    aio_co_reschedule_self(s->ctx);
    for (uint32_t at = 0; ret == 0 && at < PFLASH_SIZE; at += CHUNK) {
        ret = blk_co_pread(s->blk, at, CHUNK, buf);
        if (ret == 0) {
            pflash_content_put(&s->content, at, buf, CHUNK);
        }
    }
    aio_co_reschedule_self(from);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not read the content of flash bank '%s'", s->name);
        return false;
    }
    blk_set_ops(s->blk, &blk_ops, s);
    return true;
}

void coroutine_fn pflash_co_stop(PFlash *s)
{
    g_autoptr(GError) err = NULL;

    if (!s->blk) {
        return;
    }
    if (!pflash_co_settle(s, &err)) {
        g_printerr("%s: warning: %s\n", g_get_prgname(), err->message);
    }
    aio_co_reschedule_self(s->ctx);
    s->stopped = true;
    co_mutex_lock(&s->work); /* a coroutine that has been started ends first */
    co_mutex_unlock(&s->work);
    aio_bh_delete(s->bh);
    aio_timer_free(s->timer);
    aio_co_reschedule_self(main_aio_context());
    blk_set_ops(s->blk, NULL, NULL);
    s->blk = NULL;
}
