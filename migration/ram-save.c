/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Saving RAM: set-up, arming, the instant, and the end.  Snapshot thread; see
 * ram-save-int.h for the whole, ram-save-fault.c for faults and ram-save-write.c for the
 * writing.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "qapi/error.h"
#include "ram-save-int.h"
#include "util/countermeasure.h"

/* Armed at a time; a guest's fault and whoever changes the address space wait that long. */
#define ARM_PIECE ((size_t)4 << 20)
/* What threads that must not wait may use beyond the limit. */
#define RESERVE_BYTES ((uint64_t)16 << 20)
/* Fewer noted chunks than this are left to the blackout. */
#define FEW_CHUNKS 48
#define MAX_ARM_ROUNDS 4
/* How long the arming looks away while a fault is waiting to be handled. */
#define FAULT_TURN_NS 10000

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22 /* Linux 5.14 */
#endif

uint8_t *ram_save_chunk(RamSave *s, size_t chunk, size_t *first_page, size_t *nr_pages)
{
    RamSaveBlock *b = ram_save_chunk_block(s, chunk);
    size_t in_block = (chunk - b->first_chunk) * PAGES_PER_CHUNK;

    *first_page = b->first_page + in_block;
    *nr_pages = MIN(PAGES_PER_CHUNK, b->nr_pages - in_block);
    return b->ram->host + in_block * RAM_PAGE;
}

RamSaveBlock *ram_save_chunk_block(RamSave *s, size_t chunk)
{
    for (int i = 0; i < s->config.nr_ram; i++) {
        if (chunk < s->blocks[i].first_chunk + s->blocks[i].nr_chunks) {
            return &s->blocks[i];
        }
    }
    g_assert_not_reached();
}

size_t ram_save_page_chunk(RamSave *s, size_t page)
{
    for (int i = s->config.nr_ram - 1; i >= 0; i--) {
        if (page >= s->blocks[i].first_page) {
            return s->blocks[i].first_chunk +
                   (page - s->blocks[i].first_page) / PAGES_PER_CHUNK;
        }
    }
    g_assert_not_reached();
}

int ram_save_read_pagemap(int fd, const uint8_t *host, size_t nr, uint64_t mask, uint64_t *bits,
                          size_t first_bit)
{
    uint64_t buf[512];

    while (nr) {
        size_t n = MIN(nr, G_N_ELEMENTS(buf));
        ssize_t len = pread(fd, buf, n * 8, (uintptr_t)host / RAM_PAGE * 8);

        if (len != (ssize_t)n * 8) {
            return len < 0 ? -errno : -EIO;
        }
        for (size_t i = 0; i < n; i++) {
            if (buf[i] & mask) {
                bits[(first_bit + i) / 64] |= 1ULL << ((first_bit + i) % 64);
            }
        }
        host += n * RAM_PAGE;
        first_bit += n;
        nr -= n;
    }
    return 0;
}

static size_t nr_unit_words(const RamSave *s)
{
    return (s->nr_pages / UNIT_PAGES + 63) / 64;
}

static void lay_out(RamSave *s)
{
    s->blocks = g_new0(RamSaveBlock, s->config.nr_ram);
    for (int i = 0; i < s->config.nr_ram; i++) {
        RamSaveBlock *b = &s->blocks[i];

        b->ram = &s->config.ram[i];
        b->stream = &s->config.layout->blocks[i];
        b->first_page = s->nr_pages;
        b->nr_pages = b->ram->size / RAM_PAGE;
        b->first_chunk = s->nr_chunks;
        b->nr_chunks = (b->nr_pages + PAGES_PER_CHUNK - 1) / PAGES_PER_CHUNK;
        /* Every block begins a new word of the bitmaps. */
        s->nr_pages += (b->nr_pages + 63) / 64 * 64;
        s->nr_chunks += b->nr_chunks;
    }
    g_assert(s->nr_pages < UINT32_MAX);
}

/* Buffers and what else a save needs while copies are kept. */
static bool begin_copies(RamSave *s, GError **errp)
{
    if (!bounce_init(&s->pool, s->config.bounce_limit, RESERVE_BYTES)) {
        error_setg_errno(errp, errno, "Could not reserve %" PRIu64 " bytes of bounce buffers",
                         s->config.bounce_limit);
        return false;
    }
    s->ring_size = 1;
    while (s->ring_size < s->pool.nr) {
        s->ring_size *= 2;
    }
    s->ring = g_new(uint32_t, s->ring_size);
    s->ring_head = s->ring_tail = 0;
    return true;
}

/* Nobody keeps copies any more. */
static void end_copies(RamSave *s)
{
    bounce_destroy(&s->pool);
    g_clear_pointer(&s->ring, g_free);
}

static bool open_live(RamSave *s, GError **errp)
{
    const uint64_t need = UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_THREAD_ID;
    const uint64_t want = countermeasure_off("untouched") ? 0 : UFFD_FEATURE_WP_UNPOPULATED;

    if (!uffd_open(&s->uffd, need, want, errp) || !begin_copies(s, errp)) {
        return false;
    }
    for (int i = 0; i < s->config.nr_ram; i++) {
        const RAMBlock *ram = s->blocks[i].ram;
        int ret = uffd_register(&s->uffd, ram->host, ram->size, UFFDIO_REGISTER_MODE_WP);

        if (ret < 0) {
            error_setg_errno(errp, -ret, "Could not register RAM block '%s' for write protection",
                             ram->idstr);
            return false;
        }
    }
    return ram_save_start_thread(s, errp);
}

static void release(RamSave *s)
{
    ram_save_stop_thread(s);
    uffd_close(&s->uffd);
    end_copies(s);
    pthread_mutex_destroy(&s->fault_lock);
    if (s->pagemap_fd >= 0) {
        close(s->pagemap_fd);
    }
    g_free(s->vcpu_tids);
    g_free(s->slots);
    g_free(s->chunk_state);
    g_free(s->chunk_flags);
    g_free(s->populated);
    g_free(s->present);
    g_free(s->base_present);
    g_free(s->dirty);
    g_free(s->saving);
    g_free(s->blocks);
    g_free(s);
}

/* The caller's list of threads need not live as long as the fault thread. */
static void set_config(RamSave *s, const RamSaveConfig *config)
{
    s->config = *config;
    g_free(s->vcpu_tids);
    s->vcpu_tids = g_memdup2(config->vcpu_tids, config->nr_vcpu_tids * sizeof(int));
    s->config.vcpu_tids = s->vcpu_tids;
}

RamSave *ram_save_new(const RamSaveConfig *config, GError **errp)
{
    RamSave *s = g_new0(RamSave, 1);

    set_config(s, config);
    s->uffd.fd = -1;
    s->event_fd = -1;
    s->phase = PHASE_NOTE;
    pthread_mutex_init(&s->fault_lock, NULL);
    lay_out(s);
    s->slots = g_new0(uint32_t, s->nr_pages);
    s->chunk_state = g_new0(uint8_t, s->nr_chunks);
    s->chunk_flags = g_new0(uint8_t, s->nr_chunks);
    s->populated = g_new0(uint64_t, s->nr_pages / 64);
    s->present = g_new0(uint64_t, s->nr_pages / 64);
    s->dirty = g_new0(uint64_t, nr_unit_words(s));
    s->saving = g_new0(uint64_t, nr_unit_words(s));
    s->pagemap_fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (s->pagemap_fd < 0) {
        error_setg_errno(errp, errno, "Could not open '/proc/self/pagemap'");
        release(s);
        return NULL;
    }
    if (config->live && !open_live(s, errp)) {
        release(s);
        return NULL;
    }
    for (size_t c = 0; c < s->nr_chunks; c++) {
        s->chunk_flags[c] = CHUNK_NOTED | CHUNK_UNKNOWN;
    }
    return s;
}

bool ram_save_again(RamSave *s, const RamSaveConfig *config, GError **errp)
{
    bool same = config->live && config->nr_ram == s->config.nr_ram;

    g_assert(s->watching);
    for (int i = 0; i < config->nr_ram && same; i++) {
        const RAMBlock *ram = &config->ram[i];

        same = ram == s->blocks[i].ram && ram->size == s->blocks[i].nr_pages * RAM_PAGE;
    }
    if (!same || __atomic_load_n(&s->failed, __ATOMIC_SEQ_CST)) {
        error_setg(errp, "RAM is not watched any more");
        return false;
    }
    pthread_mutex_lock(&s->fault_lock);
    set_config(s, config);
    memset(&s->stats, 0, sizeof(s->stats));
    pthread_mutex_unlock(&s->fault_lock);
    for (int i = 0; i < config->nr_ram; i++) {
        s->blocks[i].stream = &config->layout->blocks[i];
    }
    s->cancelled = 0;
    s->cursor = 0;
    s->write_error = 0;
    s->share_units = 0;
    s->slots = g_new0(uint32_t, s->nr_pages);
    memset(s->chunk_state, CHUNK_ARMED, s->nr_chunks);
    return begin_copies(s, errp);
}

bool ram_save_set_base(RamSave *s, uint64_t cluster)
{
    bool ok = s->base_present && cluster && cluster <= STREAM_PAGES_ALIGN;

    for (int i = 0; i < s->config.nr_ram && ok; i++) {
        ok = s->blocks[i].base_offset == s->blocks[i].stream->pages_offset;
    }
    if (ok) {
        s->share_units = MAX(cluster / (UNIT_PAGES * RAM_PAGE), 1);
    }
    return ok;
}

uint64_t ram_save_estimate(RamSave *s)
{
    uint64_t pages = 0;

    if (s->base_present) {
        pthread_mutex_lock(&s->fault_lock);
        for (size_t w = 0; w < nr_unit_words(s); w++) {
            pages += __builtin_popcountll(s->dirty[w]) * UNIT_PAGES;
        }
        pthread_mutex_unlock(&s->fault_lock);
        return pages * RAM_PAGE;
    }
    for (int i = 0; i < s->config.nr_ram; i++) {
        RamSaveBlock *b = &s->blocks[i];

        if (ram_save_read_pagemap(s->pagemap_fd, b->ram->host, b->nr_pages, PAGEMAP_TOUCHED,
                                  s->populated, b->first_page) < 0) {
            pages += b->nr_pages;
            continue;
        }
        for (size_t w = 0; w < (b->nr_pages + 63) / 64; w++) {
            pages += __builtin_popcountll(s->populated[b->first_page / 64 + w]);
        }
    }
    return pages * RAM_PAGE;
}

bool ram_save_stopped(RamSave *s, GError **errp)
{
    int failed = __atomic_load_n(&s->failed, __ATOMIC_SEQ_CST);

    if (failed == -ENOBUFS) {
        error_setg(errp, "Out of bounce buffers: device writes outran the snapshot; "
                         "a larger 'bounce-limit' may help");
        return true;
    }
    if (failed) {
        error_setg_errno(errp, -failed, "Could not lift the write protection of RAM");
        return true;
    }
    if (s->config.cancelled && s->config.cancelled(s->config.opaque)) {
        ram_save_cancel(s);
    }
    if (__atomic_load_n(&s->cancelled, __ATOMIC_SEQ_CST)) {
        error_setg(errp, "Saving RAM was cancelled");
        return true;
    }
    return false;
}

int ram_save_protect(RamSave *s, uint8_t *host, size_t len)
{
    if (!(s->uffd.features & UFFD_FEATURE_WP_UNPOPULATED) && !countermeasure_off("untouched") &&
        madvise(host, len, MADV_POPULATE_READ) < 0) {
        /* Such a kernel protects only what has a page-table entry: the zero page is one. */
        return -errno;
    }
    return uffd_write_protect(&s->uffd, host, len, true);
}

/* Protects [first, first + nr) chunks of one block.  0 or -errno.  fault_lock held. */
static int arm_chunks(RamSave *s, RamSaveBlock *b, size_t first, size_t nr)
{
    size_t in_block = (first - b->first_chunk) * PAGES_PER_CHUNK;
    size_t pages = MIN(nr * PAGES_PER_CHUNK, b->nr_pages - in_block);
    uint8_t *host = b->ram->host + in_block * RAM_PAGE;
    int ret;

    ret = ram_save_protect(s, host, pages * RAM_PAGE);
    if (ret == 0) {
        for (size_t c = first; c < first + nr; c++) {
            s->chunk_flags[c] &= ~CHUNK_NOTED;
        }
    }
    return ret;
}

/* Protects those of the chunks that are noted.  Returns their number, or -errno. */
static ssize_t arm_noted(RamSave *s, RamSaveBlock *b, size_t first, size_t nr)
{
    ssize_t armed = 0;

    for (size_t c = first; c < first + nr;) {
        size_t run = 0;
        int ret;

        while (c + run < first + nr && (s->chunk_flags[c + run] & CHUNK_NOTED)) {
            run++;
        }
        if (run == 0) {
            c++;
            continue;
        }
        ret = arm_chunks(s, b, c, run);
        if (ret < 0) {
            return ret;
        }
        armed += run;
        c += run;
    }
    return armed;
}

/*
 * Protects [first, first + nr) for the first time and learns which of their pages have
 * never been touched: not before the protection and, unless a fault notes their chunk, not
 * afterwards.  A page touched in between is present in the second look.  (There an
 * untouched page may look like a swapped one, as its protection is kept in a marker.)
 */
static int arm_first(RamSave *s, RamSaveBlock *b, size_t first, size_t nr)
{
    size_t in_block = (first - b->first_chunk) * PAGES_PER_CHUNK;
    size_t pages = MIN(nr * PAGES_PER_CHUNK, b->nr_pages - in_block);
    uint8_t *host = b->ram->host + in_block * RAM_PAGE;
    size_t bit = b->first_page + in_block;
    int ret;

    memset(s->populated + bit / 64, 0, (pages + 63) / 64 * 8);
    ret = ram_save_read_pagemap(s->pagemap_fd, host, pages, PAGEMAP_TOUCHED, s->populated, bit);
    if (ret == 0) {
        ret = arm_chunks(s, b, first, nr);
    }
    if (ret == 0) {
        ret = ram_save_read_pagemap(s->pagemap_fd, host, pages, PAGEMAP_PRESENT, s->populated,
                                    bit);
    }
    if (ret == 0) {
        for (size_t c = first; c < first + nr; c++) {
            s->chunk_flags[c] &= ~CHUNK_UNKNOWN;
        }
    }
    return ret;
}

/* A mutex is not fair: without this the next piece would take it before the fault thread. */
static void coroutine_fn let_faults_in(RamSave *s)
{
    co_sleep_ns(0);
    while (__atomic_load_n(&s->fault_waits, __ATOMIC_SEQ_CST)) {
        co_sleep_ns(FAULT_TURN_NS);
    }
}

static bool coroutine_fn arm_round(RamSave *s, bool first_round, size_t *armed, GError **errp)
{
    const size_t piece = ARM_PIECE / RAM_CHUNK;

    *armed = 0;
    for (int i = 0; i < s->config.nr_ram; i++) {
        RamSaveBlock *b = &s->blocks[i];

        for (size_t c = 0; c < b->nr_chunks; c += piece) {
            size_t nr = MIN(piece, b->nr_chunks - c);
            ssize_t ret;

            if (ram_save_stopped(s, errp)) {
                return false;
            }
            pthread_mutex_lock(&s->fault_lock);
            ret = first_round ? arm_first(s, b, b->first_chunk + c, nr)
                              : arm_noted(s, b, b->first_chunk + c, nr);
            pthread_mutex_unlock(&s->fault_lock);
            if (ret < 0) {
                error_setg_errno(errp, -ret, "Could not write-protect RAM block '%s'",
                                 b->ram->idstr);
                return false;
            }
            *armed += ret;
            if (first_round || ret) {
                let_faults_in(s);
            }
        }
    }
    return true;
}

static size_t count_noted(RamSave *s)
{
    size_t n = 0;

    pthread_mutex_lock(&s->fault_lock);
    for (size_t c = 0; c < s->nr_chunks; c++) {
        n += s->chunk_flags[c] & CHUNK_NOTED;
    }
    pthread_mutex_unlock(&s->fault_lock);
    return n;
}

bool coroutine_fn ram_save_arm(RamSave *s, GError **errp)
{
    size_t armed;

    /*
     * Where faults inside the kernel fail, RAM may be protected only while no request is in
     * flight, that is, in the blackout.
     */
    if (!s->config.live || !s->uffd.kernel_faults || countermeasure_off("arm-in-pieces")) {
        return true;
    }
    if (!s->watching && !arm_round(s, true, &armed, errp)) {
        return false;
    }
    /* The guest goes on noting; bring that down to what the blackout can afford. */
    for (int round = 1; round < MAX_ARM_ROUNDS && count_noted(s) > FEW_CHUNKS; round++) {
        if (!arm_round(s, false, &armed, errp)) {
            return false;
        }
    }
    return true;
}

/*
 * At the instant: what this save writes, and which chunks are done before it begins.  What
 * is dirty from now on is the next save's.
 */
static void choose_units(RamSave *s)
{
    size_t words = nr_unit_words(s);

    if (!s->share_units) {
        memset(s->saving, 0xff, words * 8);
        memset(s->present, 0, s->nr_pages / 8);
    } else {
        memcpy(s->saving, s->dirty, words * 8);
        memcpy(s->present, s->base_present, s->nr_pages / 8);
    }
    memset(s->dirty, 0, words * 8);
    for (size_t c = 0; c < s->nr_chunks && s->share_units; c++) {
        size_t first, nr;
        bool any = false;

        ram_save_chunk(s, c, &first, &nr);
        for (size_t p = first; p < first + nr; p += s->share_units * UNIT_PAGES) {
            size_t end = MIN(p + s->share_units * UNIT_PAGES, first + nr);
            bool write = end - p < s->share_units * UNIT_PAGES;

            for (size_t q = p; q < end; q += UNIT_PAGES) {
                write |= ram_save_test_unit(s->saving, q);
            }
            for (size_t q = p; q < end && write; q += UNIT_PAGES) {
                size_t unit = q / UNIT_PAGES;

                s->saving[unit / 64] |= 1ULL << (unit % 64);
                /* A unit is a quarter of a word of pages. */
                s->present[q / 64] &= ~(0xffffULL << (q % 64));
            }
            any |= write;
        }
        __atomic_store_n(&s->chunk_state[c], any ? CHUNK_ARMED : CHUNK_WRITTEN,
                         __ATOMIC_SEQ_CST);
    }
}

bool ram_save_instant(RamSave *s, GError **errp)
{
    ssize_t armed = 0;

    if (ram_save_stopped(s, errp)) {
        return false;
    }
    if (!s->config.live) {
        choose_units(s);
        return true;
    }
    pthread_mutex_lock(&s->fault_lock);
    for (int i = 0; i < s->config.nr_ram && armed >= 0; i++) {
        RamSaveBlock *b = &s->blocks[i];

        armed = arm_noted(s, b, b->first_chunk, b->nr_chunks);
        s->stats.rearmed_chunks += MAX(armed, 0);
    }
    if (armed >= 0) {
        choose_units(s);
        __atomic_store_n(&s->phase, PHASE_TRACK, __ATOMIC_SEQ_CST);
        __atomic_store_n(&s->last_fault_ns, clock_now_ns(), __ATOMIC_RELAXED);
        __atomic_store_n(&s->burst_end, clock_now_ns() + UFFD_BURST_NS, __ATOMIC_SEQ_CST);
        ram_save_wake_fault_thread(s);
    }
    pthread_mutex_unlock(&s->fault_lock);
    if (armed < 0) {
        error_setg_errno(errp, -armed, "Could not write-protect RAM");
        return false;
    }
    return true;
}

void ram_save_cancel(RamSave *s)
{
    __atomic_store_n(&s->cancelled, 1, __ATOMIC_SEQ_CST);
}

void ram_save_get_stats(RamSave *s, RamSaveStats *stats)
{
    pthread_mutex_lock(&s->fault_lock);
    *stats = s->stats;
    pthread_mutex_unlock(&s->fault_lock);
    stats->bounce_peak = (uint64_t)__atomic_load_n(&s->pool.peak, __ATOMIC_RELAXED) * RAM_PAGE;
}

/* Lifts everything in pieces: neither the kernel's locks nor the caller's thread for long. */
static void coroutine_fn lift_all(RamSave *s)
{
    pthread_mutex_lock(&s->fault_lock);
    __atomic_store_n(&s->phase, PHASE_OPEN, __ATOMIC_SEQ_CST);
    pthread_mutex_unlock(&s->fault_lock);
    if (s->thread_running) {
        ram_save_wake_fault_thread(s); /* who waits for a buffer is let go */
    }
    for (int i = 0; i < s->config.nr_ram; i++) {
        RamSaveBlock *b = &s->blocks[i];

        for (size_t at = 0; at < b->ram->size; at += ARM_PIECE) {
            uffd_unregister(&s->uffd, b->ram->host + at, MIN(ARM_PIECE, b->ram->size - at));
            co_sleep_ns(0);
        }
    }
}

bool coroutine_fn ram_save_watch(RamSave *s, bool saved)
{
    /* Before the instant nothing has happened to the base; saving is what an older save had. */
    bool instant;

    if (!s->thread_running || !s->uffd.kernel_faults ||
        __atomic_load_n(&s->failed, __ATOMIC_SEQ_CST) || (!saved && !s->base_present)) {
        return false;
    }
    pthread_mutex_lock(&s->fault_lock);
    instant = __atomic_load_n(&s->phase, __ATOMIC_SEQ_CST) == PHASE_TRACK;
    for (size_t w = 0; w < nr_unit_words(s) && instant && !saved; w++) {
        s->dirty[w] |= s->saving[w];
    }
    for (size_t c = 0; c < s->nr_chunks; c++) {
        size_t first, nr;

        ram_save_chunk(s, c, &first, &nr);
        for (size_t p = first; p < first + nr; p += UNIT_PAGES) {
            if (ram_save_test_unit(s->dirty, p)) {
                s->chunk_flags[c] |= CHUNK_NOTED | CHUNK_UNKNOWN;
            }
        }
    }
    __atomic_store_n(&s->phase, PHASE_WATCH, __ATOMIC_SEQ_CST);
    s->config.cancelled = NULL;
    pthread_mutex_unlock(&s->fault_lock);
    /* Who waits for a buffer is let go. */
    ram_save_wake_fault_thread(s);
    end_copies(s);
    g_clear_pointer(&s->slots, g_free);
    if (saved) {
        if (!s->base_present) {
            s->base_present = g_new(uint64_t, s->nr_pages / 64);
        }
        memcpy(s->base_present, s->present, s->nr_pages / 8);
        for (int i = 0; i < s->config.nr_ram; i++) {
            s->blocks[i].base_offset = s->blocks[i].stream->pages_offset;
        }
    }
    s->watching = true;
    return true;
}

void coroutine_fn ram_save_free(RamSave *s)
{
    if (s->uffd.fd >= 0) {
        lift_all(s);
    }
    release(s);
}
