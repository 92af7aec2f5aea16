/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Loading RAM: the mappings, the switch and the end (ram-load-int.h has the whole).
 * Snapshot thread, except ram_load_switch() and _switch_back(), which run wherever the
 * blackout does.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "qapi/error.h"
#include "ram-load-int.h"
#include "snapshot-base.h"
#include "util/countermeasure.h"

/* Data chunks that are this near to each other are registered together. */
#define MAX_GAP 8
#define UNREGISTER_PIECE ((size_t)64 << 20)
/* Old memory that is given back in one system call, and before faults are looked after. */
#define DROP_PIECE ((size_t)4 << 20)
#define DROP_STEP ((size_t)16 << 20)

uint8_t *ram_load_map(size_t size, int prot)
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
        g_free(b->dirty);
    }
    pthread_mutex_destroy(&l->stats_lock);
    if (l->hot) {
        g_array_unref(l->hot);
    }
    g_free(l->blocks);
    g_free(l->touched);
    g_free(l);
}

static bool open_uffd(RamLoad *l, GError **errp)
{
    const uint64_t need = UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_THREAD_ID;

    l->track = l->config.track && uffd_open(&l->uffd, need, UFFD_FEATURE_WP_UNPOPULATED, NULL);
    return l->track || uffd_open(&l->uffd, 0, UFFD_FEATURE_MOVE, errp);
}

RamLoad *ram_load_new(const RamLoadConfig *config, GError **errp)
{
    RamLoad *l = g_new0(RamLoad, 1);

    g_assert(!config->lazy || config->source->read_aside);
    l->config = *config;
    l->uffd.fd = -1;
    l->reported = -1;
    g_queue_init(&l->works);
    g_queue_init(&l->buffers);
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
        b->dirty = g_malloc0(b->nr_pages / LOAD_WINDOW_PAGES / 8 + 8);
        b->fresh = ram_load_map(b->ram->size, PROT_READ | PROT_WRITE);
        if (!b->fresh) {
            error_setg_errno(errp, errno, "Could not map %" PRIu64 " bytes for RAM block '%s'",
                             b->ram->size, b->ram->idstr);
            release(l);
            return NULL;
        }
        /*
         * Hints: without huge pages everything works, slower.  Where single pages are put
         * first there must be none before the others are known to be missing.
         */
        madvise(b->fresh, b->ram->size, config->lazy ? MADV_NOHUGEPAGE : MADV_HUGEPAGE);
        madvise(b->fresh, b->ram->size, MADV_DONTFORK);
    }
    l->touched = g_new0(uint8_t, l->nr_chunks);
    if (config->lazy && (!open_uffd(l, errp) || !ram_load_start_thread(l, errp))) {
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
        stream_sum_bitmap(b->stream, b->data);
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

bool ram_load_chunk_has_data(const RamLoadBlock *b, size_t chunk_in_block)
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

        if (!ram_load_chunk_has_data(b, c)) {
            c++;
            continue;
        }
        for (end = last = c + 1; end < b->nr_chunks && end - last <= (l->track ? 0 : MAX_GAP);
             end++) {
            if (ram_load_chunk_has_data(b, end)) {
                last = end + 1;
            }
        }
        ret = uffd_register(&l->uffd, b->ram->host + c * LOAD_CHUNK,
                            MIN(last * LOAD_CHUNK, b->nr_pages * LOAD_PAGE) - c * LOAD_CHUNK,
                            UFFDIO_REGISTER_MODE_MISSING |
                                (l->track ? UFFDIO_REGISTER_MODE_WP : 0));
        if (ret < 0) {
            return ret;
        }
        c = last;
    }
    return 0;
}

static bool switch_block(RamLoad *l, RamLoadBlock *b, GError **errp)
{
    uint8_t *aside = ram_load_map(b->ram->size, PROT_NONE);

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
    if (countermeasure_off("old-ram-aside")) {
        madvise(aside, b->ram->size, MADV_DONTNEED);
    }
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
        madvise(b->ram->host, b->ram->size, MADV_HUGEPAGE);
    }
    return true;
}

/* Pages that are there already. */
static int protect_hot(RamLoad *l)
{
    for (guint i = 0; l->track && l->hot && i < l->hot->len; i++) {
        size_t page = g_array_index(l->hot, size_t, i) * LOAD_WINDOW_PAGES;
        RamLoadBlock *b = ram_load_chunk_block(l, page / LOAD_CHUNK_PAGES);
        int ret;

        page -= b->first_chunk * LOAD_CHUNK_PAGES;
        if (!ram_load_chunk_has_data(b, page / LOAD_CHUNK_PAGES)) {
            continue; /* not registered */
        }
        ret = uffd_write_protect(&l->uffd, b->ram->host + page * LOAD_PAGE,
                                 MIN(LOAD_WINDOW_PAGES, b->nr_pages - page) * LOAD_PAGE, true);
        if (ret < 0) {
            return ret;
        }
    }
    return 0;
}

bool ram_load_switch(RamLoad *l, GError **errp)
{
    int ret;

    g_assert(!snapshot_base_exists()); /* it would go on with memory that is gone */
    l->switched = true;
    for (int i = 0; i < l->config.nr_ram; i++) {
        if (!switch_block(l, &l->blocks[i], errp)) {
            ram_load_switch_back(l);
            return false;
        }
    }
    ret = protect_hot(l);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not write-protect RAM");
        ram_load_switch_back(l);
        return false;
    }
    if (l->thread) {
        ram_load_watch(l);
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
    ram_load_quiet_thread(l);
    l->switched = false;
}

/* --- Cancelling, statistics ------------------------------------------------------------------ */

bool ram_load_cancelled(RamLoad *l)
{
    if (l->config.cancelled && l->config.cancelled(l->config.opaque)) {
        ram_load_cancel(l);
    }
    return __atomic_load_n(&l->cancelled, __ATOMIC_SEQ_CST);
}

void ram_load_cancel(RamLoad *l)
{
    __atomic_store_n(&l->cancelled, 1, __ATOMIC_SEQ_CST);
}

bool ram_load_tracks(const RamLoad *l)
{
    return l->track;
}

void ram_load_get_stats(RamLoad *l, RamLoadStats *stats)
{
    pthread_mutex_lock(&l->stats_lock);
    *stats = l->stats;
    pthread_mutex_unlock(&l->stats_lock);
}

/* --- The end ------------------------------------------------------------------------------------ */

typedef struct DropStep {
    uint8_t *at;
    size_t len;
} DropStep;

/*
 * Not munmap(): it takes the address space for itself, and a thread that waits for that
 * holds up every page fault behind it.
 */
static int drop_worker(void *opaque)
{
    DropStep *d = opaque;

    for (size_t at = 0; at < d->len; at += DROP_PIECE) {
        madvise(d->at + at, MIN(DROP_PIECE, d->len - at), MADV_DONTNEED);
    }
    return 0;
}

void coroutine_fn ram_load_drop_old(RamLoad *l)
{
    for (int i = 0; i < l->config.nr_ram; i++) {
        RamLoadBlock *b = &l->blocks[i];

        for (size_t at = 0; b->aside && at < b->ram->size; at += DROP_STEP) {
            DropStep d = {.at = b->aside + at, .len = MIN(DROP_STEP, b->ram->size - at)};

            ram_load_give_way(l);
            co_run_in_worker(drop_worker, &d);
        }
        if (b->aside) {
            munmap(b->aside, b->ram->size); /* nothing is left in it */
            b->aside = NULL;
        }
    }
}

void coroutine_fn ram_load_free(RamLoad *l)
{
    for (int i = 0; i < l->config.nr_ram && l->thread && l->switched; i++) {
        RamLoadBlock *b = &l->blocks[i];

        for (size_t at = 0; at < b->ram->size; at += UNREGISTER_PIECE) {
            uffd_unregister(&l->uffd, b->ram->host + at, MIN(UNREGISTER_PIECE, b->ram->size - at));
            co_sleep_ns(0);
        }
    }
    ram_load_stop_thread(l);
    release(l);
}
