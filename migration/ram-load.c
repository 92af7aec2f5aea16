/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Loading RAM: the mappings, the switch, and filling in the background (ram-load-int.h has
 * the whole).  Snapshot thread, except ram_load_switch() and _switch_back(), which run
 * wherever the blackout does.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "qapi/error.h"
#include "ram-load-int.h"

#define NR_READERS 3
#define MAX_READ ((size_t)1 << 20)
/* Data chunks that are this near to each other are registered together. */
#define MAX_GAP 8
#define UNMAP_PIECE ((size_t)64 << 20)
#define RETRY_NS 1000000000LL
/* How often the job looks whether it shall pause. */
#define PAUSE_POINT_NS 20000000LL

static uint8_t *map_aligned(size_t size, int prot)
{
    uint8_t *p = mmap(NULL, size + LOAD_CHUNK, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                      -1, 0);
    uint8_t *aligned;

    if (p == MAP_FAILED) {
        return NULL;
    }
    aligned = (uint8_t *)(((uintptr_t)p + LOAD_CHUNK - 1) & ~(LOAD_CHUNK - 1));
    if (aligned > p) {
        munmap(p, aligned - p);
    }
    munmap(aligned + size, p + LOAD_CHUNK - aligned);
    return aligned;
}

bool ram_load_can_be_lazy(GError **errp)
{
    Uffd u;
    bool ok;

    if (!uffd_open(&u, 0, 0, errp)) {
        return false;
    }
    ok = u.kernel_faults;
    uffd_close(&u);
    if (!ok) {
        error_setg(errp, "userfaultfd does not report faults inside the kernel here "
                         "(no access to /dev/userfaultfd, vm.unprivileged_userfaultfd is 0)");
    }
    return ok;
}

static void release(RamLoad *l)
{
    ram_load_stop_thread(l);
    uffd_close(&l->uffd);
    for (int i = 0; i < l->config.nr_ram; i++) {
        RamLoadBlock *b = &l->blocks[i];

        if (b->fresh) {
            munmap(b->fresh, b->ram->size);
        }
        if (b->aside) {
            munmap(b->aside, b->ram->size);
        }
        g_free(b->data);
    }
    pthread_mutex_destroy(&l->stats_lock);
    g_free(l->blocks);
    g_free(l->touched);
    g_free(l);
}

RamLoad *ram_load_new(const RamLoadConfig *config, GError **errp)
{
    RamLoad *l = g_new0(RamLoad, 1);

    g_assert(!config->lazy || config->source->read_sync);
    l->config = *config;
    l->uffd.fd = -1;
    l->event_fd = -1;
    pthread_mutex_init(&l->stats_lock, NULL);
    l->blocks = g_new0(RamLoadBlock, config->nr_ram);
    for (int i = 0; i < config->nr_ram; i++) {
        RamLoadBlock *b = &l->blocks[i];

        b->ram = &config->ram[i];
        b->stream = &config->layout->blocks[i];
        b->nr_pages = b->ram->size / LOAD_PAGE;
        b->nr_chunks = (b->nr_pages + LOAD_CHUNK_PAGES - 1) / LOAD_CHUNK_PAGES;
        b->first_chunk = l->nr_chunks;
        l->nr_chunks += b->nr_chunks;
        b->data = g_malloc0(b->stream->bitmap_bytes);
        b->fresh = map_aligned(b->ram->size, PROT_READ | PROT_WRITE);
        if (!b->fresh) {
            error_setg_errno(errp, errno, "Could not map %" PRIu64 " bytes for RAM block '%s'",
                             b->ram->size, b->ram->idstr);
            release(l);
            return NULL;
        }
        /* A hint: without huge pages everything works, slower. */
        madvise(b->fresh, b->ram->size, MADV_HUGEPAGE);
    }
    l->touched = g_new0(uint8_t, l->nr_chunks);
    if (config->lazy && !uffd_open(&l->uffd, 0, UFFD_FEATURE_MOVE, errp)) {
        release(l);
        return NULL;
    }
    return l;
}

bool coroutine_fn ram_load_read_bitmaps(RamLoad *l, GError **errp)
{
    for (int i = 0; i < l->config.nr_ram; i++) {
        RamLoadBlock *b = &l->blocks[i];
        IOVector iov;
        int ret;

        io_vector_init_buf(&iov, b->data, b->stream->bitmap_bytes);
        ret = l->config.source->read(l->config.source->opaque, b->stream->bitmap_offset, &iov);
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Could not read the bitmap of RAM block '%s'",
                             b->ram->idstr);
            return false;
        }
        for (size_t w = 0; w < b->stream->bitmap_bytes / 8; w++) {
            b->data[w] = GUINT64_FROM_LE(b->data[w]);
        }
        for (size_t p = 0; p < b->nr_pages; p++) {
            l->stats.zero_pages += !load_page_has_data(b, p);
        }
    }
    return true;
}

RamLoadBlock *ram_load_chunk_block(RamLoad *l, size_t chunk)
{
    for (int i = 0; i < l->config.nr_ram; i++) {
        if (chunk < l->blocks[i].first_chunk + l->blocks[i].nr_chunks) {
            return &l->blocks[i];
        }
    }
    g_assert_not_reached();
}

static bool chunk_has_data(const RamLoadBlock *b, size_t chunk_in_block)
{
    size_t page = chunk_in_block * LOAD_CHUNK_PAGES;
    size_t end = MIN(page + LOAD_CHUNK_PAGES, b->nr_pages);

    for (; page < end; page++) {
        if (load_page_has_data(b, page)) {
            return true;
        }
    }
    return false;
}

/* --- The switch ---------------------------------------------------------------------------- */

static bool move_mapping(uint8_t *from, uint8_t *to, size_t size)
{
    return mremap(from, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to;
}

static int register_block(RamLoad *l, RamLoadBlock *b)
{
    for (size_t c = 0; c < b->nr_chunks;) {
        size_t end, last;
        int ret;

        if (!chunk_has_data(b, c)) {
            c++;
            continue;
        }
        for (end = last = c + 1; end < b->nr_chunks && end - last <= MAX_GAP; end++) {
            if (chunk_has_data(b, end)) {
                last = end + 1;
            }
        }
        ret = uffd_register(&l->uffd, b->ram->host + c * LOAD_CHUNK,
                            MIN(last * LOAD_CHUNK, b->nr_pages * LOAD_PAGE) - c * LOAD_CHUNK,
                            UFFDIO_REGISTER_MODE_MISSING);
        if (ret < 0) {
            return ret;
        }
        c = last;
    }
    return 0;
}

static bool switch_block(RamLoad *l, RamLoadBlock *b, GError **errp)
{
    uint8_t *aside = map_aligned(b->ram->size, PROT_NONE);

    if (!aside) {
        error_setg_errno(errp, errno, "Could not map %" PRIu64 " bytes for RAM block '%s'",
                         b->ram->size, b->ram->idstr);
        return false;
    }
    if (!move_mapping(b->ram->host, aside, b->ram->size)) {
        error_setg_errno(errp, errno, "Could not move RAM block '%s' aside", b->ram->idstr);
        munmap(aside, b->ram->size);
        return false;
    }
    b->aside = aside;
    if (!move_mapping(b->fresh, b->ram->host, b->ram->size)) {
        error_setg_errno(errp, errno, "Could not put new memory at RAM block '%s'",
                         b->ram->idstr);
        return false;
    }
    b->fresh = NULL;
    if (l->config.lazy) {
        int ret = register_block(l, b);

        if (ret < 0) {
            error_setg_errno(errp, -ret, "Could not register RAM block '%s' for loading",
                             b->ram->idstr);
            return false;
        }
    }
    return true;
}

bool ram_load_switch(RamLoad *l, GError **errp)
{
    l->switched = true;
    for (int i = 0; i < l->config.nr_ram; i++) {
        if (!switch_block(l, &l->blocks[i], errp)) {
            ram_load_switch_back(l);
            return false;
        }
    }
    if (l->config.lazy && !ram_load_start_thread(l, errp)) {
        ram_load_switch_back(l);
        return false;
    }
    return true;
}

void ram_load_switch_back(RamLoad *l)
{
    for (int i = 0; i < l->config.nr_ram; i++) {
        RamLoadBlock *b = &l->blocks[i];

        if (!b->aside) {
            continue;
        }
        /* The new memory and its registration vanish under the old. */
        if (!move_mapping(b->aside, b->ram->host, b->ram->size)) {
            g_error("Could not put RAM block '%s' back: %s", b->ram->idstr, strerror(errno));
        }
        b->aside = NULL;
    }
    ram_load_stop_thread(l);
    l->switched = false;
}

/* --- Filling --------------------------------------------------------------------------------- */

typedef struct Reader {
    RamLoad *l;
    uint8_t *staging; /* lazy: 2 MiB, or NULL */
    bool staging_used; /* it holds something from before */
} Reader;

/* Reads the data pages of [page, page + nr) to dst; runs that are near are read as one. */
static int coroutine_fn read_data(RamLoad *l, RamLoadBlock *b, size_t page, size_t nr,
                                  uint8_t *dst)
{
    for (size_t i = 0; i < nr;) {
        size_t run = 0;
        IOVector iov;
        int ret;

        if (!load_page_has_data(b, page + i)) {
            i++;
            continue;
        }
        while (i + run < nr && run * LOAD_PAGE < MAX_READ && load_page_has_data(b, page + i + run)) {
            run++;
        }
        io_vector_init_buf(&iov, dst + i * LOAD_PAGE, run * LOAD_PAGE);
        ret = l->config.source->read(l->config.source->opaque,
                                     b->stream->pages_offset + (page + i) * LOAD_PAGE, &iov);
        if (ret < 0) {
            return ret;
        }
        pthread_mutex_lock(&l->stats_lock);
        l->stats.bytes_read += run * LOAD_PAGE;
        pthread_mutex_unlock(&l->stats_lock);
        i += run;
    }
    return 0;
}

static int put_data_pages(RamLoad *l, RamLoadBlock *b, size_t page, size_t nr,
                          const uint8_t *src)
{
    uint8_t *host = b->ram->host + page * LOAD_PAGE;

    for (size_t i = 0; i < nr;) {
        size_t run = 0;
        int ret;

        while (i + run < nr && load_page_has_data(b, page + i + run)) {
            run++;
        }
        if (run) {
            ret = ram_load_put(l, host + i * LOAD_PAGE, src + i * LOAD_PAGE, run * LOAD_PAGE);
            if (ret < 0) {
                return ret;
            }
        }
        i += MAX(run, 1);
    }
    return 0;
}

static void count_chunk(RamLoad *l, bool moved)
{
    pthread_mutex_lock(&l->stats_lock);
    if (moved) {
        l->stats.chunks_moved++;
    } else {
        l->stats.chunks_copied++;
    }
    pthread_mutex_unlock(&l->stats_lock);
}

/*
 * A chunk that nobody has touched gets its memory by moving a huge page there.  Pages that
 * were brought meanwhile stay: the guest may have changed them.
 */
static int install_chunk(Reader *r, RamLoadBlock *b, size_t page, size_t nr)
{
    RamLoad *l = r->l;
    uint8_t *host = b->ram->host + page * LOAD_PAGE;
    size_t chunk = b->first_chunk + page / LOAD_CHUNK_PAGES;
    size_t done = 0;

    if ((l->uffd.features & UFFD_FEATURE_MOVE) && nr == LOAD_CHUNK_PAGES &&
        !__atomic_load_n(&l->touched[chunk], __ATOMIC_SEQ_CST)) {
        ssize_t n = uffd_move(&l->uffd, host, r->staging, LOAD_CHUNK);

        done = MAX(n, 0) / LOAD_PAGE;
        if (done == nr) {
            r->staging_used = false;
            count_chunk(l, true);
            return 0;
        }
    }
    count_chunk(l, false);
    return put_data_pages(l, b, page + done, nr - done, r->staging + done * LOAD_PAGE);
}

static int coroutine_fn fill_chunk_once(Reader *r, RamLoadBlock *b, size_t page, size_t nr)
{
    RamLoad *l = r->l;
    int ret;

    if (!l->config.lazy) {
        return read_data(l, b, page, nr, b->fresh + page * LOAD_PAGE);
    }
    if (r->staging_used) {
        memset(r->staging, 0, LOAD_CHUNK);
    }
    r->staging_used = true;
    ret = read_data(l, b, page, nr, r->staging);
    return ret < 0 ? ret : install_chunk(r, b, page, nr);
}

static bool load_cancelled(RamLoad *l)
{
    if (l->config.cancelled && l->config.cancelled(l->config.opaque)) {
        ram_load_cancel(l);
    }
    return __atomic_load_n(&l->cancelled, __ATOMIC_SEQ_CST);
}

static int coroutine_fn fill_chunk(Reader *r, size_t chunk, size_t *bytes)
{
    RamLoad *l = r->l;
    RamLoadBlock *b = ram_load_chunk_block(l, chunk);
    size_t page = (chunk - b->first_chunk) * LOAD_CHUNK_PAGES;
    size_t nr = MIN(LOAD_CHUNK_PAGES, b->nr_pages - page);
    int ret = 0;

    *bytes = nr * LOAD_PAGE;
    if (!chunk_has_data(b, chunk - b->first_chunk)) {
        return 0;
    }
    while ((ret = fill_chunk_once(r, b, page, nr)) < 0 && l->config.lazy && !load_cancelled(l)) {
        g_autofree char *message = g_strdup_printf(
            "Could not read pages 0x%zx to 0x%zx of RAM block '%s' from the snapshot: %s",
            page * LOAD_PAGE, (page + nr) * LOAD_PAGE - 1, b->ram->idstr, strerror(-ret));

        l->config.read_error(l->config.opaque, message);
        for (int i = 0; i < 20 && !load_cancelled(l); i++) {
            co_sleep_ns(RETRY_NS / 20);
        }
    }
    return ret;
}

typedef struct ReaderGroup {
    RamLoad *l;
    int running;
    CoSleep done;
} ReaderGroup;

static void coroutine_fn reader_entry(void *opaque)
{
    ReaderGroup *g = opaque;
    RamLoad *l = g->l;
    Reader r = {.l = l};

    if (l->config.lazy) {
        r.staging = map_aligned(LOAD_CHUNK, PROT_READ | PROT_WRITE);
        if (r.staging) {
            madvise(r.staging, LOAD_CHUNK, MADV_HUGEPAGE);
        } else {
            l->fill_error = -ENOMEM;
        }
    }
    while (l->fill_error == 0 && l->cursor < l->nr_chunks && !load_cancelled(l)) {
        size_t bytes;
        int ret;

        if (l->held) {
            co_sleep_ns(PAUSE_POINT_NS);
            continue;
        }
        ret = fill_chunk(&r, l->cursor++, &bytes);
        if (ret < 0 && l->fill_error == 0) {
            l->fill_error = ret;
        } else if (l->config.progress) {
            l->config.progress(l->config.opaque, bytes);
        }
    }
    if (r.staging) {
        munmap(r.staging, LOAD_CHUNK);
    }
    if (--g->running == 0) {
        co_sleep_wake(&g->done);
    }
}

bool coroutine_fn ram_load_fill(RamLoad *l, GError **errp)
{
    ReaderGroup g = {.l = l, .running = NR_READERS};

    for (int i = 0; i < NR_READERS; i++) {
        aio_co_schedule(aio_current(), coroutine_create(reader_entry, &g));
    }
    while (g.running) {
        co_sleep_ns_wakeable(&g.done, PAUSE_POINT_NS);
        if (l->config.pause_point && g.running) {
            l->held = true;
            l->config.pause_point(l->config.opaque);
            l->held = false;
        }
    }
    if (load_cancelled(l)) {
        error_setg(errp, "Loading RAM was cancelled");
        return false;
    }
    if (l->fill_error) {
        error_setg_errno(errp, -l->fill_error, "Could not read RAM from the snapshot");
        return false;
    }
    return true;
}

void ram_load_cancel(RamLoad *l)
{
    __atomic_store_n(&l->cancelled, 1, __ATOMIC_SEQ_CST);
}

void ram_load_get_stats(RamLoad *l, RamLoadStats *stats)
{
    pthread_mutex_lock(&l->stats_lock);
    *stats = l->stats;
    pthread_mutex_unlock(&l->stats_lock);
}

/* --- The end ------------------------------------------------------------------------------------ */

static int unmap_worker(void *opaque)
{
    RamLoadBlock *b = opaque;

    for (size_t at = 0; at < b->ram->size; at += UNMAP_PIECE) {
        munmap(b->aside + at, MIN(UNMAP_PIECE, b->ram->size - at));
    }
    b->aside = NULL;
    return 0;
}

void coroutine_fn ram_load_drop_old(RamLoad *l)
{
    for (int i = 0; i < l->config.nr_ram; i++) {
        if (l->blocks[i].aside) {
            co_run_in_worker(unmap_worker, &l->blocks[i]);
        }
    }
}

void coroutine_fn ram_load_free(RamLoad *l)
{
    for (int i = 0; i < l->config.nr_ram && l->thread_running; i++) {
        RamLoadBlock *b = &l->blocks[i];

        for (size_t at = 0; at < b->ram->size; at += UNMAP_PIECE) {
            uffd_unregister(&l->uffd, b->ram->host + at, MIN(UNMAP_PIECE, b->ram->size - at));
            co_sleep_ns(0);
        }
    }
    release(l);
}
