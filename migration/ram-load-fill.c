/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading RAM from the image for a load: what the guest will want at once, before the
 * switch, and everything, in order, in the background.  Faults go first: while one is
 * being answered, and in the first moments after the switch as long as they come one after
 * the other, the background holds still.
 *
 * Coroutines in the snapshot thread, the prefetch's in the fault thread.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include "qapi/error.h"
#include "ram-load-int.h"

#define NR_READERS 3
#define MAX_READ ((size_t)1 << 20)
/* How often the job looks whether it shall pause. */
#define PAUSE_POINT_NS 20000000LL
#define TOO_FAST_NS 1000000LL
/* As long after the switch a series of faults may keep the background waiting... */
#define GRACE_NS 50000000LL
/* ...which ends when none has come for so long. */
#define QUIET_NS 1000000LL
/* As long as a chunk waits for faults later on. */
#define MAX_YIELD_NS 2000000LL
#define YIELD_NS 200000LL
/* Windows read before the switch at most. */
#define MAX_HOT 512

/* --- Reading ------------------------------------------------------------------------------- */

/* Coroutines that work side by side, and the one that waits for them. */
typedef struct Group {
    RamLoad *l;
    int running; /* atomic */
    CoSleep done;
    /* prefetch */
    GArray *windows; /* size_t: index of the window in all of RAM */
    guint next;      /* fault thread */
    int error;       /* the first -errno; fault thread */
} Group;

static void leave_group(Group *g)
{
    if (__atomic_sub_fetch(&g->running, 1, __ATOMIC_SEQ_CST) == 0) {
        co_sleep_wake(&g->done);
    }
}

/* Only the last one's wake-up says that nobody uses g any more. */
static void coroutine_fn join_group(Group *g)
{
    RamLoad *l = g->l;

    while (!co_sleep_ns_wakeable(&g->done, PAUSE_POINT_NS)) {
        if (l->config.pause_point) {
            l->held = true;
            l->config.pause_point(l->config.opaque);
            l->held = false;
        }
    }
}

static int coroutine_fn read_source(RamLoad *l, uint64_t offset, uint8_t *buf, size_t len)
{
    const RamLoadSource *source = l->config.source;
    IOVector iov;

    /* The node's own thread has the guest's requests to serve. */
    if (source->read_aside) {
        return source->read_aside(source->opaque, offset, buf, len);
    }
    io_vector_init_buf(&iov, buf, len);
    return source->read(source->opaque, offset, &iov);
}

/* Reads the data pages of [page, page + nr) to dst.  On failure *bad is a run that failed. */
static int coroutine_fn read_data(RamLoad *l, RamLoadBlock *b, size_t page, size_t nr,
                                  uint8_t *dst, size_t *bad, size_t *nr_bad)
{
    for (size_t i = 0; i < nr;) {
        size_t run = 0;
        int ret;

        if (!load_page_has_data(b, page + i)) {
            i++;
            continue;
        }
        while (i + run < nr && run * LOAD_PAGE < MAX_READ && load_page_has_data(b, page + i + run)) {
            run++;
        }
        ret = read_source(l, b->stream->pages_offset + (page + i) * LOAD_PAGE,
                          dst + i * LOAD_PAGE, run * LOAD_PAGE);
        if (ret < 0) {
            *bad = page + i;
            *nr_bad = run;
            return ret;
        }
        pthread_mutex_lock(&l->stats_lock);
        l->stats.bytes_read += run * LOAD_PAGE;
        pthread_mutex_unlock(&l->stats_lock);
        i += run;
    }
    return 0;
}

/* --- Before the switch --------------------------------------------------------------------- */

/* The window that addr lies in, counted through all blocks; false if it is not in RAM. */
static bool find_window(RamLoad *l, uint64_t addr, size_t *window)
{
    for (int i = 0; i < l->config.nr_ram; i++) {
        RamLoadBlock *b = &l->blocks[i];

        if (addr >= b->ram->guest_addr && addr - b->ram->guest_addr < b->ram->size) {
            size_t page = (addr - b->ram->guest_addr) / LOAD_PAGE;

            *window = (b->first_chunk * LOAD_CHUNK_PAGES + page) / LOAD_WINDOW_PAGES;
            return true;
        }
    }
    return false;
}

static int compare_windows(gconstpointer a, gconstpointer b)
{
    size_t x = *(const size_t *)a, y = *(const size_t *)b;

    return x < y ? -1 : x > y;
}

/* The windows of the first addresses that need MAX_HOT of them at most, ascending. */
static GArray *hot_windows(RamLoad *l, const uint64_t *addrs, size_t n)
{
    GArray *windows = g_array_new(false, false, sizeof(size_t));
    g_autoptr(GHashTable) seen = g_hash_table_new(NULL, NULL);

    for (size_t i = 0; i < n && windows->len < MAX_HOT; i++) {
        size_t w;

        if (find_window(l, addrs[i], &w) && g_hash_table_add(seen, GSIZE_TO_POINTER(w))) {
            g_array_append_val(windows, w);
        }
    }
    g_array_sort(windows, compare_windows);
    return windows;
}

static int coroutine_fn prefetch_window(RamLoad *l, size_t window)
{
    size_t page = window * LOAD_WINDOW_PAGES, bad, nr_bad, nr;
    size_t chunk = page / LOAD_CHUNK_PAGES;
    RamLoadBlock *b = ram_load_chunk_block(l, chunk);
    int ret;

    page -= b->first_chunk * LOAD_CHUNK_PAGES;
    nr = MIN(LOAD_WINDOW_PAGES, b->nr_pages - page);
    __atomic_store_n(&l->touched[chunk], 1, __ATOMIC_SEQ_CST);
    ret = read_data(l, b, page, nr, b->fresh + page * LOAD_PAGE, &bad, &nr_bad);
    for (size_t i = 0; i < nr && ret == 0; i++) {
        if (!load_page_has_data(b, page + i)) {
            /* A zero page is made by writing to it. */
            ((volatile uint8_t *)b->fresh)[(page + i) * LOAD_PAGE] = 0;
        }
    }
    pthread_mutex_lock(&l->stats_lock);
    l->stats.prefetched += nr * LOAD_PAGE;
    pthread_mutex_unlock(&l->stats_lock);
    return ret;
}

static void coroutine_fn prefetch_entry(void *opaque)
{
    Group *g = opaque;

    while (g->next < g->windows->len && g->error == 0 && !ram_load_cancelled(g->l)) {
        int ret = prefetch_window(g->l, g_array_index(g->windows, size_t, g->next++));

        if (ret < 0 && g->error == 0) {
            g->error = ret;
        }
    }
    leave_group(g);
}

bool coroutine_fn ram_load_prefetch(RamLoad *l, const uint64_t *addrs, size_t n, GError **errp)
{
    g_autoptr(GArray) windows = hot_windows(l, addrs, n);
    Group g = {.l = l, .running = NR_READERS, .windows = windows};

    g_assert(l->config.lazy && !l->switched);
    for (int i = 0; i < NR_READERS; i++) {
        aio_co_schedule(l->context, coroutine_create(prefetch_entry, &g));
    }
    join_group(&g);
    l->hot = g_steal_pointer(&windows);
    if (g.error) {
        error_setg_errno(errp, -g.error, "Could not read RAM from the snapshot");
        return false;
    }
    if (ram_load_cancelled(l)) {
        error_setg(errp, "Loading RAM was cancelled");
        return false;
    }
    return true;
}

/* --- A chunk ------------------------------------------------------------------------------- */

typedef struct Reader {
    RamLoad *l;
    uint8_t *staging; /* lazy: 2 MiB, or NULL */
    bool staging_used; /* it holds something from before */
} Reader;

static int put_data_pages(RamLoad *l, RamLoadBlock *b, size_t page, size_t nr,
                          const uint8_t *src)
{
    uint8_t *host = b->ram->host + page * LOAD_PAGE;

    for (size_t i = 0; i < nr;) {
        size_t run = 0;
        int ret;

        /* With tracking no page stays missing, as nobody will answer for it later on. */
        while (i + run < nr && (l->track || load_page_has_data(b, page + i + run))) {
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

    if (!l->track && (l->uffd.features & UFFD_FEATURE_MOVE) && nr == LOAD_CHUNK_PAGES &&
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

static int coroutine_fn fill_chunk_once(Reader *r, RamLoadBlock *b, size_t page, size_t nr,
                                        size_t *bad, size_t *nr_bad)
{
    RamLoad *l = r->l;
    int ret;

    *bad = page;
    *nr_bad = nr;
    if (!l->config.lazy) {
        return read_data(l, b, page, nr, b->fresh + page * LOAD_PAGE, bad, nr_bad);
    }
    if (r->staging_used) {
        memset(r->staging, 0, LOAD_CHUNK);
    }
    r->staging_used = true;
    ret = read_data(l, b, page, nr, r->staging, bad, nr_bad);
    return ret < 0 ? ret : install_chunk(r, b, page, nr);
}

static int coroutine_fn fill_chunk(Reader *r, size_t chunk, size_t *bytes)
{
    RamLoad *l = r->l;
    RamLoadBlock *b = ram_load_chunk_block(l, chunk);
    size_t page = (chunk - b->first_chunk) * LOAD_CHUNK_PAGES;
    size_t nr = MIN(LOAD_CHUNK_PAGES, b->nr_pages - page), bad, nr_bad;
    int ret = 0;

    *bytes = nr * LOAD_PAGE;
    if (!ram_load_chunk_has_data(b, chunk - b->first_chunk)) {
        return 0;
    }
    while ((ret = fill_chunk_once(r, b, page, nr, &bad, &nr_bad)) < 0 && l->config.lazy &&
           ram_load_wait_to_retry(l, b, bad, nr_bad, -ret)) {
        continue;
    }
    return ret;
}

/* --- All of it ----------------------------------------------------------------------------- */

/* Whether the fault thread has something to do, or had a moment ago. */
static bool faults_go_first(RamLoad *l, int64_t now)
{
    return __atomic_load_n(&l->nr_works, __ATOMIC_SEQ_CST) ||
           (now < l->grace_end &&
            now - __atomic_load_n(&l->last_fault_ns, __ATOMIC_RELAXED) < QUIET_NS);
}

void coroutine_fn ram_load_give_way(RamLoad *l)
{
    int64_t now = clock_now_ns(), end = MAX(l->grace_end, now + MAX_YIELD_NS);

    while (l->config.lazy && now < end && faults_go_first(l, now)) {
        co_sleep_ns(YIELD_NS);
        now = clock_now_ns();
    }
}

static void coroutine_fn reader_entry(void *opaque)
{
    Group *g = opaque;
    RamLoad *l = g->l;
    Reader r = {.l = l};

    if (l->config.lazy) {
        r.staging = ram_load_map(LOAD_CHUNK, PROT_READ | PROT_WRITE);
        if (r.staging) {
            madvise(r.staging, LOAD_CHUNK, MADV_HUGEPAGE);
        } else {
            l->fill_error = -ENOMEM;
        }
    }
    while (l->fill_error == 0 && l->cursor < l->nr_chunks && !ram_load_cancelled(l)) {
        size_t bytes;
        int ret;

        if (l->held) {
            co_sleep_ns(PAUSE_POINT_NS);
            continue;
        }
        if (l->config.too_fast && l->config.too_fast(l->config.opaque)) {
            co_sleep_ns(TOO_FAST_NS);
            continue;
        }
        ram_load_give_way(l);
        if (l->cursor == l->nr_chunks) {
            break;
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
    leave_group(g);
}

/* Beside the readers. */
static void coroutine_fn drop_entry(void *opaque)
{
    Group *g = opaque;

    ram_load_drop_old(g->l);
    leave_group(g);
}

bool coroutine_fn ram_load_fill(RamLoad *l, GError **errp)
{
    Group g = {.l = l, .running = NR_READERS};

    l->grace_end = clock_now_ns() + GRACE_NS;
    if (l->config.lazy) {
        g.running++;
        aio_co_schedule(aio_current(), coroutine_create(drop_entry, &g));
    }
    for (int i = 0; i < NR_READERS; i++) {
        aio_co_schedule(aio_current(), coroutine_create(reader_entry, &g));
    }
    join_group(&g);
    if (ram_load_cancelled(l)) {
        error_setg(errp, "Loading RAM was cancelled");
        return false;
    }
    if (l->fill_error) {
        error_setg_errno(errp, -l->fill_error, "Could not read RAM from the snapshot");
        return false;
    }
    return true;
}
