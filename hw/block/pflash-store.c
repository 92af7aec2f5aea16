/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The content of a flash bank: memory that the guest reads, and the block node behind it.
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
#include <sys/mman.h>
#include "block/snapshot.h"
#include "pflash-int.h"
#include "qapi/error.h"

enum { PAGE_ZERO, PAGE_BLANK, PAGE_DATA, PAGE_KINDS };

#define FLUSH_DELAY_NS 100000000 /* after the last write of a burst */
#define RETRY_DELAY_NS 1000000000
#define CHUNK (1 << 20)

typedef struct UndoPage {
    uint32_t page;
    uint8_t kind;
    bool dirty;
    uint8_t data[PFLASH_PAGE];
} UndoPage;

typedef struct Work {
    enum { WORK_NONE, WORK_OP, WORK_PAGES, WORK_FLUSH } what;
    uint32_t offset, len;
    PFlashOp op;
    uint64_t generation;
} Work;

/* --- Content: lock held, or nobody else knows it yet --------------------------------------- */

static bool content_alloc(PFlashContent *c, GError **errp)
{
    void *mem = mmap(NULL, PFLASH_SIZE, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (mem == MAP_FAILED) {
        error_setg_errno(errp, errno, "cannot set up the memory of a flash bank");
        return false;
    }
    c->mem = mem;
    c->kind = g_malloc0(PFLASH_PAGES); /* PAGE_ZERO */
    return true;
}

static void content_free(PFlashContent *c)
{
    if (c->mem) {
        munmap(c->mem, PFLASH_SIZE);
    }
    g_free(c->kind);
}

static uint8_t kind_of(const uint8_t *page)
{
    if ((*page != 0 && *page != 0xff) || memcmp(page, page + 1, PFLASH_PAGE - 1)) {
        return PAGE_DATA;
    }
    return *page ? PAGE_BLANK : PAGE_ZERO;
}

static void classify(PFlashContent *c, uint32_t offset, uint32_t len)
{
    for (uint32_t page = offset / PFLASH_PAGE; page * PFLASH_PAGE < offset + len; page++) {
        c->kind[page] = kind_of(c->mem + page * PFLASH_PAGE);
    }
}

/* Fills pages with what is read; leaves pages of zeroes untouched. */
static void put_chunk(PFlashContent *c, uint32_t offset, const uint8_t *buf, uint32_t len)
{
    for (uint32_t at = 0; at < len; at += PFLASH_PAGE) {
        uint8_t kind = kind_of(buf + at);

        c->kind[(offset + at) / PFLASH_PAGE] = kind;
        if (kind != PAGE_ZERO) {
            memcpy(c->mem + offset + at, buf + at, PFLASH_PAGE);
        }
    }
}

static void set_dirty(PFlashContent *c, uint32_t page)
{
    uint64_t bit = UINT64_C(1) << (page % 64);

    if (!(c->dirty[page / 64] & bit)) {
        c->dirty[page / 64] |= bit;
        c->nr_dirty++;
    }
}

static bool is_dirty(const PFlashContent *c, uint32_t page)
{
    return c->dirty[page / 64] >> (page % 64) & 1;
}

static void clear_dirty(PFlashContent *c, uint32_t page)
{
    if (is_dirty(c, page)) {
        c->dirty[page / 64] &= ~(UINT64_C(1) << (page % 64));
        c->nr_dirty--;
    }
}

/* Takes a run of dirty pages, at most PFLASH_BLOCK bytes. */
static void take_dirty(PFlashContent *c, uint32_t *offset, uint32_t *len)
{
    uint32_t page = 0;

    while (!is_dirty(c, page)) {
        page += c->dirty[page / 64] ? 1 : 64;
    }
    *offset = page * PFLASH_PAGE;
    *len = 0;
    while (*len < PFLASH_BLOCK && page < PFLASH_PAGES && is_dirty(c, page)) {
        clear_dirty(c, page);
        *len += PFLASH_PAGE;
        page++;
    }
}

static void tell_cpus(PFlash *s, uint32_t offset, uint32_t len)
{
    address_space_dirtied(s->as, s->base + offset, len);
}

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
    classify(&s->content, offset, len);
    tell_cpus(s, offset, len);
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
        take_dirty(&s->content, &w.offset, &w.len);
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
            set_dirty(&s->content, at / PFLASH_PAGE);
        }
        set_dirty(&s->content, (w->offset + w->len - 1) / PFLASH_PAGE);
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
        set_dirty(&s->content, at / PFLASH_PAGE);
    }
    s->error = g_strdup_printf("Could not write %u bytes at offset %u of flash bank '%s': %s",
                               w->len, w->offset, s->name, g_strerror(-ret));
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
    if (!content_alloc(next, errp)) {
        g_free(g_steal_pointer(&s->other));
        return false;
    }
    for (uint32_t at = 0; ret == 0 && at < PFLASH_SIZE; at += CHUNK) {
        IOVector iov;

        io_vector_init_buf(&iov, buf, CHUNK);
        ret = bdrv_co_snapshot_read_disk(from, at, &iov);
        if (ret == 0) {
            put_chunk(next, at, buf, CHUNK);
        }
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not read what the snapshot has in flash bank '%s'",
                         s->name);
        content_free(next);
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

        if (kind == b->kind[i] && (kind != PAGE_DATA || !memcmp(pa, pb, PFLASH_PAGE))) {
            continue;
        }
        memcpy(page, pa, PFLASH_PAGE);
        memcpy(pa, pb, PFLASH_PAGE);
        memcpy(pb, page, PFLASH_PAGE);
        a->kind[i] = b->kind[i];
        b->kind[i] = kind;
        tell_cpus(s, i * PFLASH_PAGE, PFLASH_PAGE);
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
    content_free(s->other);
    g_free(g_steal_pointer(&s->other));
}

static const BlockBackendOps blk_ops = {
    .drained_begin = drained_begin,
    .drained_end = drained_end,
    .goto_prepare = goto_prepare,
    .goto_switch = goto_switch,
    .goto_end = goto_end,
};

/* --- The content inside the machine state ---------------------------------------------------- */

/*
 * Runs of pages, in order and without gaps: kind (1 byte), number of pages (4 bytes, big
 * endian), and for PAGE_DATA the pages themselves.
 */
enum { RUN_HEADER = 5 };

bool pflash_content_needed(void *opaque)
{
    PFlash *s = opaque;

    return s->blk ? s->keep && !s->read_only : s->written;
}

bool pflash_content_pre_save(void *opaque, GError **errp)
{
    PFlash *s = opaque;
    const PFlashContent *c = &s->content;
    GByteArray *out = g_byte_array_new();
    uint32_t n;

    pthread_mutex_lock(&s->lock);
    for (uint32_t page = 0; page < PFLASH_PAGES; page += n) {
        uint8_t header[RUN_HEADER] = {c->kind[page]};
        uint32_t be;

        for (n = 1; page + n < PFLASH_PAGES && c->kind[page + n] == c->kind[page]; n++) {
        }
        be = GUINT32_TO_BE(n);
        memcpy(header + 1, &be, sizeof(be));
        g_byte_array_append(out, header, sizeof(header));
        if (c->kind[page] == PAGE_DATA) {
            g_byte_array_append(out, c->mem + page * PFLASH_PAGE, n * PFLASH_PAGE);
        }
    }
    pthread_mutex_unlock(&s->lock);
    g_free(s->blob);
    s->blob_len = out->len;
    s->blob = g_byte_array_free(out, false);
    return true;
}

/* One run of the blob at *at; false if it has not the form. */
static bool next_run(const PFlash *s, uint32_t *at, uint32_t page, uint8_t *kind, uint32_t *n)
{
    uint32_t be;

    if (s->blob_len - *at < RUN_HEADER) {
        return false;
    }
    *kind = s->blob[*at];
    memcpy(&be, s->blob + *at + 1, sizeof(be));
    *n = GUINT32_FROM_BE(be);
    *at += RUN_HEADER;
    return *kind < PAGE_KINDS && *n > 0 && *n <= PFLASH_PAGES - page &&
           (*kind != PAGE_DATA || *n <= (s->blob_len - *at) / PFLASH_PAGE);
}

static bool blob_is_sane(const PFlash *s)
{
    uint32_t at = 0, n;
    uint8_t kind;

    for (uint32_t page = 0; page < PFLASH_PAGES; page += n) {
        if (!next_run(s, &at, page, &kind, &n)) {
            return false;
        }
        at += kind == PAGE_DATA ? n * PFLASH_PAGE : 0;
    }
    return at == s->blob_len;
}

static void remember(PFlash *s, uint32_t page)
{
    g_autofree UndoPage *u = g_new(UndoPage, 1);

    *u = (UndoPage){.page = page, .kind = s->content.kind[page],
                    .dirty = is_dirty(&s->content, page)};
    memcpy(u->data, s->content.mem + page * PFLASH_PAGE, PFLASH_PAGE);
    if (!s->undo) {
        s->undo = g_array_new(false, false, sizeof(UndoPage));
    }
    g_array_append_val(s->undo, *u);
}

void pflash_content_undo(PFlash *s)
{
    for (guint i = 0; s->undo && i < s->undo->len; i++) {
        const UndoPage *u = &g_array_index(s->undo, UndoPage, i);

        memcpy(s->content.mem + u->page * PFLASH_PAGE, u->data, PFLASH_PAGE);
        s->content.kind[u->page] = u->kind;
        if (!u->dirty) {
            clear_dirty(&s->content, u->page);
        }
        tell_cpus(s, u->page * PFLASH_PAGE, PFLASH_PAGE);
    }
    pflash_content_keep(s);
}

void pflash_content_keep(PFlash *s)
{
    g_clear_pointer(&s->undo, g_array_unref);
    if (s->blk) {
        aio_bh_schedule(s->bh);
    }
}

/* data NULL: the kind says it all.  Whether the page was another one before.  Lock held. */
static bool set_page(PFlash *s, uint32_t page, uint8_t kind, const uint8_t *data)
{
    uint8_t *mem = s->content.mem + page * PFLASH_PAGE;

    if (kind == s->content.kind[page] && (!data || !memcmp(mem, data, PFLASH_PAGE))) {
        return false;
    }
    remember(s, page);
    if (data) {
        memcpy(mem, data, PFLASH_PAGE);
    } else {
        memset(mem, kind == PAGE_BLANK ? 0xff : 0, PFLASH_PAGE);
    }
    s->content.kind[page] = data ? kind_of(data) : kind;
    tell_cpus(s, page * PFLASH_PAGE, PFLASH_PAGE);
    return true;
}

bool pflash_content_post_load(void *opaque, int version, GError **errp)
{
    PFlash *s = opaque;
    uint32_t at = 0, n, changed = 0;
    uint8_t kind;

    if (!blob_is_sane(s)) {
        error_setg(errp, "the content of flash bank '%s' has not the form that it must have",
                   s->name);
        return false;
    }
    if (s->read_only) {
        error_setg(errp, "flash bank '%s' is read-only; its content cannot become what the "
                         "machine state holds", s->name);
        return false;
    }
    pthread_mutex_lock(&s->lock);
    s->content_loaded = true;
    for (uint32_t page = 0; page < PFLASH_PAGES; page += n) {
        next_run(s, &at, page, &kind, &n);
        for (uint32_t i = page; i < page + n; i++) {
            bool differs = set_page(s, i, kind, kind == PAGE_DATA ? s->blob + at : NULL);

            if (differs && s->blk) {
                set_dirty(&s->content, i);
            }
            changed += differs;
            at += kind == PAGE_DATA ? PFLASH_PAGE : 0;
        }
    }
    s->written = s->written || changed;
    pthread_mutex_unlock(&s->lock);
    g_clear_pointer(&s->blob, g_free);
    return true;
}

/* --- Life ------------------------------------------------------------------------------------- */

bool pflash_store_init(PFlash *s, GError **errp)
{
    if (!content_alloc(&s->content, errp)) {
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
    content_free(&s->content);
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
            put_chunk(&s->content, at, buf, CHUNK);
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
