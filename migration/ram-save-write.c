/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The background half of saving RAM: a few coroutines in the snapshot thread take chunk
 * after chunk, sort its pages, write what is not zero straight from guest memory, see to
 * the pages that were changed meanwhile, and lift the protection.  When copies pile up they
 * empty the buffers first.
 */
#include <errno.h>
#include <string.h>
#include "qapi/error.h"
#include "ram-save-int.h"
#include "util/countermeasure.h"

/* Chunks in flight: enough to keep the image's thread busy while this one looks for zeros. */
#define NR_WRITERS 4
/* The largest request; a larger one would hold up the guest's own requests. */
#define MAX_REQUEST ((size_t)1 << 20)
#define FLUSH_BATCH 256
/* How often the job looks whether it shall pause, and who is held looks after buffers. */
#define PAUSE_POINT_NS 20000000LL
#define HOLD_NS 1000000LL
/* How often it is looked whether the burst of faults is over. */
#define YIELD_NS 200000LL

typedef enum PageClass {
    CLASS_ZERO,   /* nothing to write */
    CLASS_FILLER, /* zero, but in a unit that is written */
    CLASS_MEMORY, /* from guest memory */
    CLASS_COPY,   /* from its bounce buffer */
    CLASS_DONE,   /* not ours: in the image already or on its way */
} PageClass;

typedef struct ChunkWork {
    RamSave *s;
    RamSaveBlock *block;
    uint8_t *host;
    uint8_t *data; /* what is written of CLASS_MEMORY: host, or a copy of it */
    size_t first_page, nr_pages;
    uint8_t class[PAGES_PER_CHUNK];
    uint32_t copy[PAGES_PER_CHUNK]; /* bounce buffer of CLASS_COPY */
} ChunkWork;

static const uint8_t zero_page[STREAM_PAGE_SIZE] __attribute__((aligned(STREAM_PAGE_SIZE)));

static uint64_t stream_offset(const RamSaveBlock *b, size_t page)
{
    return b->stream->pages_offset + (page - b->first_page) * RAM_PAGE;
}

static void set_present(RamSave *s, size_t page)
{
    s->present[page / 64] |= 1ULL << (page % 64);
}

/* Takes the page's copy out of its slot: its buffer, or -1 if there is none. */
static int64_t take_copy(RamSave *s, size_t page)
{
    uint32_t slot = slot_load(s, page);

    while (slot != 0 && slot != SLOT_TAKEN) {
        if (__atomic_compare_exchange_n(&s->slots[page], &slot, SLOT_TAKEN, false,
                                        __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
            return slot - 1;
        }
    }
    return -1;
}

/* iov may be long; it is written in requests of bounded size.  0 or -errno. */
static int coroutine_fn write_all(RamSave *s, uint64_t offset, IOVector *iov)
{
    size_t done = 0;
    int ret = 0;

    while (done < iov->size && ret == 0) {
        size_t len = MIN(iov->size - done, MAX_REQUEST);
        IOVector part;

        if (len == iov->size) {
            ret = s->sink->write(s->sink->opaque, offset, iov);
        } else {
            io_vector_init(&part, iov->niov);
            io_vector_concat(&part, iov, done, len);
            ret = s->sink->write(s->sink->opaque, offset + done, &part);
            io_vector_destroy(&part);
        }
        done += len;
    }
    if (ret == 0) {
        s->stats.bytes_written += iov->size;
        s->stats.pages_written += iov->size / RAM_PAGE;
    }
    return ret;
}

/* --- Emptying buffers ------------------------------------------------------------------------ */

typedef struct Copied {
    uint32_t page;
    uint32_t buffer;
} Copied;

static int compare_copied(const void *a, const void *b)
{
    const Copied *x = a, *y = b;

    return x->page < y->page ? -1 : x->page > y->page;
}

/* Takes copies off the ring whose chunk nobody is writing. */
static size_t take_batch(RamSave *s, Copied *batch)
{
    size_t n = 0;
    uint32_t tail = __atomic_load_n(&s->ring_tail, __ATOMIC_ACQUIRE);

    while (n < FLUSH_BATCH && s->ring_head != tail) {
        uint32_t page = s->ring[s->ring_head & (s->ring_size - 1)];
        size_t chunk = ram_save_page_chunk(s, page);
        int64_t buffer = -1;

        /* A chunk that is being written looks after its own copies. */
        if (__atomic_load_n(&s->chunk_state[chunk], __ATOMIC_SEQ_CST) == CHUNK_ARMED) {
            buffer = take_copy(s, page);
        }
        if (buffer >= 0) {
            batch[n++] = (Copied){.page = page, .buffer = buffer};
        }
        __atomic_store_n(&s->ring_head, s->ring_head + 1, __ATOMIC_RELEASE);
    }
    qsort(batch, n, sizeof(batch[0]), compare_copied);
    return n;
}

static int coroutine_fn write_batch(RamSave *s, Copied *batch, size_t n)
{
    int ret = 0;

    for (size_t i = 0; i < n && ret == 0;) {
        RamSaveBlock *b = ram_save_chunk_block(s, ram_save_page_chunk(s, batch[i].page));
        size_t run = 0;
        IOVector iov;

        io_vector_init(&iov, 16);
        while (i + run < n && batch[i + run].page == batch[i].page + run &&
               batch[i].page + run < b->first_page + b->nr_pages) {
            uint8_t *mem = bounce_mem(&s->pool, batch[i + run].buffer);

            if (buffer_is_zero(mem, RAM_PAGE)) {
                break;
            }
            io_vector_add(&iov, mem, RAM_PAGE);
            run++;
        }
        if (run == 0) {
            s->stats.zero_pages++;
            i++;
        } else {
            ret = write_all(s, stream_offset(b, batch[i].page), &iov);
            for (size_t k = 0; k < run; k++) {
                set_present(s, batch[i + k].page);
            }
            i += run;
        }
        io_vector_destroy(&iov);
    }
    for (size_t i = 0; i < n; i++) {
        ram_save_put_bounce(s, batch[i].buffer);
    }
    return ret;
}

/*
 * Brings the number of used buffers down before they run out.  Every writer that comes by
 * helps: on a slow disk nothing else may be written, or the guest will have to wait.
 */
static int coroutine_fn relieve(RamSave *s)
{
    uint32_t high = s->pool.nr_normal / 2, low = s->pool.nr_normal / 8;
    g_autofree Copied *batch = NULL;
    int ret = 0;

    if (!s->config.live || bounce_used(&s->pool) <= high) {
        return 0;
    }
    batch = g_new(Copied, FLUSH_BATCH);
    while (ret == 0 && bounce_used(&s->pool) > low && !ram_save_stopped(s, NULL)) {
        size_t n = take_batch(s, batch);

        if (n == 0) {
            break;
        }
        ret = write_batch(s, batch, n);
    }
    return ret;
}

/* --- A chunk ------------------------------------------------------------------------------------ */

static bool is_populated(RamSave *s, size_t page)
{
    return (s->populated[page / 64] >> (page % 64) & 1) || countermeasure_off("untouched");
}

static PageClass classify(ChunkWork *w, size_t i)
{
    RamSave *s = w->s;
    size_t page = w->first_page + i;
    const uint8_t *host = w->host + i * RAM_PAGE;
    bool zero;
    int64_t copy;

    if (slot_load(s, page) == SLOT_TAKEN || !ram_save_test_unit(s->saving, page)) {
        return CLASS_DONE;
    }
    /*
     * The memory first, the slot afterwards: if there is no copy even now, what was seen
     * is the content of the instant.  Untouched pages are not looked at.
     */
    zero = !is_populated(s, page) || buffer_is_zero(host, RAM_PAGE);
    copy = take_copy(s, page);
    if (copy < 0) {
        return zero ? CLASS_ZERO : CLASS_MEMORY;
    }
    if (buffer_is_zero(bounce_mem(&s->pool, copy), RAM_PAGE)) {
        ram_save_put_bounce(s, copy);
        return CLASS_ZERO;
    }
    w->copy[i] = copy;
    return CLASS_COPY;
}

static void classify_all(ChunkWork *w)
{
    for (size_t unit = 0; unit < w->nr_pages; unit += UNIT_PAGES) {
        size_t end = MIN(unit + UNIT_PAGES, w->nr_pages);
        bool any = false;

        for (size_t i = unit; i < end; i++) {
            w->class[i] = classify(w, i);
            any |= w->class[i] == CLASS_MEMORY || w->class[i] == CLASS_COPY;
            w->s->stats.zero_pages += w->class[i] == CLASS_ZERO;
        }
        for (size_t i = unit; i < end && any; i++) {
            if (w->class[i] == CLASS_ZERO) {
                w->class[i] = CLASS_FILLER;
            }
        }
    }
}

static void add_page(IOVector *iov, void *mem)
{
    struct iovec *last = iov->niov ? &iov->iov[iov->niov - 1] : NULL;

    if (last && (uint8_t *)last->iov_base + last->iov_len == (uint8_t *)mem) {
        last->iov_len += RAM_PAGE;
        iov->size += RAM_PAGE;
    } else {
        io_vector_add(iov, mem, RAM_PAGE);
    }
}

static int coroutine_fn write_pages(ChunkWork *w)
{
    RamSave *s = w->s;
    int ret = 0;
    IOVector iov;

    io_vector_init(&iov, 16);
    for (size_t i = 0; i < w->nr_pages && ret == 0;) {
        size_t start = i;

        io_vector_reset(&iov);
        for (; i < w->nr_pages; i++) {
            if (w->class[i] == CLASS_MEMORY) {
                add_page(&iov, w->data + i * RAM_PAGE);
            } else if (w->class[i] == CLASS_COPY) {
                add_page(&iov, bounce_mem(&s->pool, w->copy[i]));
            } else if (w->class[i] == CLASS_FILLER) {
                /* Not from memory, which may have changed since it was found to be zero. */
                add_page(&iov, (void *)zero_page);
                continue;
            } else {
                break;
            }
            set_present(s, w->first_page + i);
        }
        if (iov.size) {
            ret = write_all(s, stream_offset(w->block, w->first_page + start), &iov);
        } else {
            i++;
        }
    }
    io_vector_destroy(&iov);
    for (size_t i = 0; i < w->nr_pages; i++) {
        if (w->class[i] == CLASS_COPY) {
            ram_save_put_bounce(s, w->copy[i]);
        }
    }
    return ret;
}

/*
 * Pages that changed while they were being written are written again from their copies,
 * neighbours at once.  A save that is to end does not wait for them.
 */
static int coroutine_fn rewrite_changed(ChunkWork *w)
{
    RamSave *s = w->s;
    int ret = 0;
    IOVector iov;

    io_vector_init(&iov, 16);
    for (size_t i = 0; i < w->nr_pages;) {
        size_t first = i, run;

        io_vector_reset(&iov);
        while (i < w->nr_pages) {
            int64_t copy = w->class[i] == CLASS_DONE ? -1 : take_copy(s, w->first_page + i);

            if (copy < 0 || w->class[i] != CLASS_MEMORY) {
                if (copy >= 0) {
                    ram_save_put_bounce(s, copy);
                }
                i++;
                break;
            }
            w->copy[i++] = copy;
            add_page(&iov, bounce_mem(&s->pool, copy));
        }
        run = iov.size / RAM_PAGE;
        if (run && ret == 0 && !ram_save_stopped(s, NULL)) {
            ret = write_all(s, stream_offset(w->block, w->first_page + first), &iov);
            s->stats.rewritten_pages += run;
        }
        for (size_t k = 0; k < run; k++) {
            ram_save_put_bounce(s, w->copy[first + k]);
        }
    }
    io_vector_destroy(&iov);
    return ret;
}

/* The memory of pages that are written from memory, as it is now. */
static void copy_memory(const ChunkWork *w, uint8_t *aside)
{
    for (size_t i = 0; i < w->nr_pages; i++) {
        if (w->class[i] == CLASS_MEMORY) {
            memcpy(aside + i * RAM_PAGE, w->host + i * RAM_PAGE, RAM_PAGE);
        }
    }
}

/* The chunk is WRITTEN: where a page changed while it was copied, the copy kept of it counts. */
static void correct_copies(const ChunkWork *w, uint8_t *aside)
{
    for (size_t i = 0; i < w->nr_pages; i++) {
        int64_t copy = w->class[i] == CLASS_DONE ? -1 : take_copy(w->s, w->first_page + i);

        if (copy >= 0 && w->class[i] == CLASS_MEMORY) {
            memcpy(aside + i * RAM_PAGE, bounce_mem(&w->s->pool, copy), RAM_PAGE);
        }
        if (copy >= 0) {
            ram_save_put_bounce(w->s, copy);
        }
    }
}

/* The way of a chunk for a sink that should not get a page twice. */
static int coroutine_fn write_copied(ChunkWork *w, size_t chunk)
{
    RamSave *s = w->s;
    uint8_t *aside = g_try_malloc(RAM_CHUNK);
    int ret = aside ? 0 : -ENOMEM;

    if (aside) {
        copy_memory(w, aside);
    }
    __atomic_store_n(&s->chunk_state[chunk], CHUNK_WRITTEN, __ATOMIC_SEQ_CST);
    if (aside) {
        correct_copies(w, aside);
        if (!s->config.watch) {
            ret = uffd_write_protect(&s->uffd, w->host, w->nr_pages * RAM_PAGE, false);
        }
        w->data = aside;
    }
    if (ret == 0) {
        ret = write_pages(w);
    }
    g_free(aside);
    return ret;
}

static int coroutine_fn write_chunk(RamSave *s, size_t chunk)
{
    g_autofree ChunkWork *w = g_new(ChunkWork, 1);
    int ret = 0;

    w->s = s;
    w->block = ram_save_chunk_block(s, chunk);
    w->host = w->data = ram_save_chunk(s, chunk, &w->first_page, &w->nr_pages);
    __atomic_store_n(&s->chunk_state[chunk], CHUNK_WRITING, __ATOMIC_SEQ_CST);
    if (s->chunk_flags[chunk] & CHUNK_UNKNOWN) {
        memset(s->populated + w->first_page / 64, 0, (w->nr_pages + 63) / 64 * 8);
        ret = ram_save_read_pagemap(s->pagemap_fd, w->host, w->nr_pages, PAGEMAP_TOUCHED,
                                    s->populated, w->first_page);
    }
    if (ret == 0) {
        classify_all(w);
        if (s->config.live && s->config.copy_first) {
            return write_copied(w, chunk);
        }
        ret = write_pages(w);
    }
    __atomic_store_n(&s->chunk_state[chunk], CHUNK_WRITTEN, __ATOMIC_SEQ_CST);
    if (ret == 0 && s->config.live) {
        ret = rewrite_changed(w);
    }
    if (ret == 0 && s->config.live && !s->config.watch) {
        ret = uffd_write_protect(&s->uffd, w->host, w->nr_pages * RAM_PAGE, false);
    }
    return ret;
}

/* --- All of them ---------------------------------------------------------------------------------- */

typedef struct WriterGroup {
    RamSave *s;
    int running;
    CoSleep done;
} WriterGroup;

static bool is_held(RamSave *s)
{
    return s->held || (s->config.too_fast && s->config.too_fast(s->config.opaque));
}

/* While the job is paused or too fast: nothing new, but nobody is left waiting for a buffer. */
static int coroutine_fn hold(RamSave *s)
{
    int ret = 0;

    while (ret == 0 && is_held(s) && !ram_save_stopped(s, NULL)) {
        ret = relieve(s);
        co_sleep_ns(HOLD_NS);
    }
    return ret;
}

/*
 * Just after the instant the guest's working set faults page by page.  Requests are held
 * back until that is over (UFFD_BURST_NS at most), or takes many buffers: the kernel copies
 * them into the page cache without giving way, and each fault would wait for a CPU.
 */
static void coroutine_fn let_burst_pass(RamSave *s)
{
    int64_t now = clock_now_ns();

    while (s->config.live && now < s->burst_end && !ram_save_stopped(s, NULL) &&
           bounce_used(&s->pool) < s->pool.nr_normal / 4 &&
           now - __atomic_load_n(&s->last_fault_ns, __ATOMIC_RELAXED) < RAM_SAVE_QUIET_NS) {
        co_sleep_ns(YIELD_NS);
        now = clock_now_ns();
    }
}

static void chunk_done(RamSave *s, size_t chunk)
{
    size_t first, nr;

    if (s->config.progress) {
        ram_save_chunk(s, chunk, &first, &nr);
        s->config.progress(s->config.opaque, nr * RAM_PAGE);
    }
}

static void coroutine_fn writer_entry(void *opaque)
{
    WriterGroup *g = opaque;
    RamSave *s = g->s;

    while (s->write_error == 0 && s->cursor < s->nr_chunks && !ram_save_stopped(s, NULL)) {
        size_t chunk;
        int ret;

        if (__atomic_load_n(&s->chunk_state[s->cursor], __ATOMIC_SEQ_CST) == CHUNK_WRITTEN) {
            chunk_done(s, s->cursor++); /* all of it is the base's */
            continue;
        }
        ret = hold(s);

        if (ret == 0) {
            ret = relieve(s);
        }
        if (ret == 0 && s->cursor < s->nr_chunks) {
            chunk = s->cursor++;
            ret = write_chunk(s, chunk);
            if (ret == 0) {
                chunk_done(s, chunk);
            }
        }
        if (ret < 0 && s->write_error == 0) {
            s->write_error = ret;
        }
    }
    if (--g->running == 0) {
        co_sleep_wake(&g->done);
    }
}

/* Makes the base's what this save does not write. */
static int coroutine_fn share_rest(RamSave *s)
{
    size_t piece = s->share_units * UNIT_PAGES;
    g_autoptr(GArray) extents = g_array_new(false, false, sizeof(BdrvSnapshotExtent));

    for (int i = 0; i < s->config.nr_ram; i++) {
        RamSaveBlock *b = &s->blocks[i];
        size_t end = b->first_page + b->nr_pages;

        for (size_t p = b->first_page; p + piece <= end;) {
            size_t run = 0;
            BdrvSnapshotExtent e;

            while (p + run + piece <= end && !ram_save_test_unit(s->saving, p + run)) {
                run += piece;
            }
            if (run) {
                e = (BdrvSnapshotExtent){stream_offset(b, p), run * RAM_PAGE};
                g_array_append_val(extents, e);
            }
            p += MAX(run, piece);
        }
    }
    for (size_t w = 0; w < s->nr_pages / 64; w++) {
        s->stats.shared_pages += __builtin_popcountll(s->present[w]);
    }
    return s->sink->share(s->sink->opaque, (BdrvSnapshotExtent *)extents->data, extents->len);
}

static int coroutine_fn write_bitmaps(RamSave *s)
{
    int ret = 0;

    for (int i = 0; i < s->config.nr_ram && ret == 0; i++) {
        RamSaveBlock *b = &s->blocks[i];
        size_t words = b->stream->bitmap_bytes / 8;
        g_autofree uint64_t *bits = g_new(uint64_t, words);
        IOVector iov;

        for (size_t w = 0; w < words; w++) {
            bits[w] = GUINT64_TO_LE(s->present[b->first_page / 64 + w]);
        }
        stream_sum_bitmap(b->stream, bits);
        io_vector_init_buf(&iov, bits, b->stream->bitmap_bytes);
        ret = s->sink->write(s->sink->opaque, b->stream->bitmap_offset, &iov);
        s->stats.bytes_written += b->stream->bitmap_bytes;
    }
    return ret;
}

bool coroutine_fn ram_save_write(RamSave *s, const RamSink *sink, GError **errp)
{
    WriterGroup g = {.s = s, .running = NR_WRITERS};

    s->sink = sink;
    let_burst_pass(s);
    if (s->share_units) {
        s->write_error = share_rest(s);
    }
    for (int i = 0; i < NR_WRITERS; i++) {
        aio_co_schedule(aio_current(), coroutine_create(writer_entry, &g));
    }
    while (g.running) {
        co_sleep_ns_wakeable(&g.done, PAUSE_POINT_NS);
        if (s->config.pause_point && g.running) {
            s->held = true;
            s->config.pause_point(s->config.opaque);
            s->held = false;
        }
    }
    if (ram_save_stopped(s, errp)) {
        return false;
    }
    if (s->write_error == 0) {
        s->write_error = write_bitmaps(s);
    }
    if (s->write_error) {
        error_setg_errno(errp, -s->write_error, "Could not write RAM into the snapshot");
        return false;
    }
    /* The bitmaps' writes yield, too. */
    return !ram_save_stopped(s, errp);
}
