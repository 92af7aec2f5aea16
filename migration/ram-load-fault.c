/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The fault thread of a lazy load: brings the pages that somebody waits for, a little
 * around them, and more in a run of faults.  It is an IOThread of its own, because any
 * other thread may be the one that waits for the page; each read is a coroutine in it, so
 * that one which takes long does not hold up the next.
 *
 * Everything here runs in that thread unless a comment says otherwise.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "qapi/error.h"
#include "ram-load-int.h"
#include "util/thread-role.h"

#define MAX_WINDOW_PAGES ((size_t)128)
#define MAX_BUFFERS 4
/* As long as stopping waits between two looks. */
#define STOP_POLL_NS 1000000

/* A read under way: pages [first, first + nr) of one chunk, for those that are wanted. */
typedef struct FaultWork {
    RamLoad *l;
    RamLoadBlock *b;
    size_t first, nr;
    uint64_t wanted[MAX_WINDOW_PAGES / 64];
    int64_t start_ns;
} FaultWork;

/* --- Putting pages in place: any thread -------------------------------------------------- */

int ram_load_put(RamLoad *l, uint8_t *dst, const uint8_t *src, size_t len)
{
    size_t at = 0;
    bool skipped = false;

    while (at < len) {
        ssize_t n = l->track ? uffd_copy_protected(&l->uffd, dst + at, src + at, len - at)
                             : uffd_copy(&l->uffd, dst + at, src + at, len - at);

        if (n > 0) {
            at += n;
        } else if (n == -EEXIST) {
            at += LOAD_PAGE;
            skipped = true;
        } else {
            return n;
        }
    }
    return skipped ? uffd_wake(&l->uffd, dst, len) : 0;
}

static int put_zeros(RamLoad *l, RamLoadBlock *b, size_t page, size_t nr)
{
    uint8_t *dst = b->ram->host + page * LOAD_PAGE;
    size_t at = 0, len = nr * LOAD_PAGE;

    for (size_t i = 0; i < nr && l->track; i++) {
        ram_load_mark_dirty(b, page + i); /* these come without protection */
    }

    while (at < len) {
        ssize_t n = uffd_zero(&l->uffd, dst + at, len - at);

        if (n > 0) {
            at += n;
        } else if (n == -EEXIST) {
            at += LOAD_PAGE;
        } else {
            return n;
        }
    }
    return uffd_wake(&l->uffd, dst, len);
}

/* --- Errors: any thread -------------------------------------------------------------------- */

bool coroutine_fn ram_load_wait_to_retry(RamLoad *l, const RamLoadBlock *b, size_t page,
                                         size_t nr, int err)
{
    int retries = __atomic_load_n(&l->retries, __ATOMIC_SEQ_CST);

    if (__atomic_exchange_n(&l->reported, retries, __ATOMIC_SEQ_CST) != retries) {
        g_autofree char *pages =
            nr == 1 ? g_strdup_printf("page 0x%zx", page * LOAD_PAGE)
                    : g_strdup_printf("pages 0x%zx to 0x%zx", page * LOAD_PAGE,
                                      (page + nr) * LOAD_PAGE - 1);
        g_autofree char *message =
            g_strdup_printf("Could not read %s of RAM block '%s' from the snapshot: %s", pages,
                            b->ram->idstr, strerror(err));

        l->config.read_error(l->config.opaque, message);
    }
    for (int i = 0; i < 50; i++) {
        if (ram_load_cancelled(l) || __atomic_load_n(&l->stop, __ATOMIC_SEQ_CST)) {
            return false;
        }
        if (__atomic_load_n(&l->retries, __ATOMIC_SEQ_CST) != retries) {
            break;
        }
        co_sleep_ns(20000000);
    }
    return true;
}

void ram_load_retry(RamLoad *l)
{
    __atomic_fetch_add(&l->retries, 1, __ATOMIC_SEQ_CST);
}

/* --- A read -------------------------------------------------------------------------------- */

static uint8_t *get_buffer(RamLoad *l)
{
    uint8_t *buf = g_queue_pop_head(&l->buffers);

    return buf ? buf : g_aligned_alloc(MAX_WINDOW_PAGES, LOAD_PAGE, LOAD_PAGE);
}

static void put_buffer(RamLoad *l, uint8_t *buf)
{
    if (l->buffers.length < MAX_BUFFERS) {
        g_queue_push_head(&l->buffers, buf);
    } else {
        g_aligned_free(buf);
    }
}

static void note_activity(RamLoad *l)
{
    __atomic_store_n(&l->last_fault_ns, clock_now_ns(), __ATOMIC_RELAXED);
}

static bool is_wanted(const FaultWork *w, size_t page)
{
    size_t i = page - w->first;

    return w->wanted[i / 64] >> (i % 64) & 1;
}

static void want(FaultWork *w, size_t page)
{
    size_t i = page - w->first;

    w->wanted[i / 64] |= UINT64_C(1) << (i % 64);
}

static int coroutine_fn bring(FaultWork *w, uint8_t *buf)
{
    RamLoad *l = w->l;
    RamLoadBlock *b = w->b;
    uint64_t offset = b->stream->pages_offset + w->first * LOAD_PAGE;
    int ret = l->config.source->read_aside(l->config.source->opaque, offset, buf,
                                           w->nr * LOAD_PAGE);

    if (ret < 0) {
        return ret;
    }
    __atomic_store_n(&l->touched[b->first_chunk + w->first / LOAD_CHUNK_PAGES], 1,
                     __ATOMIC_SEQ_CST);
    /* What the bitmap calls zero is zero, whatever the image holds there. */
    for (size_t i = 0; i < w->nr; i++) {
        if (!load_page_has_data(b, w->first + i)) {
            memset(buf + i * LOAD_PAGE, 0, LOAD_PAGE);
        }
    }
    pthread_mutex_lock(&l->stats_lock);
    l->stats.bytes_read += w->nr * LOAD_PAGE;
    pthread_mutex_unlock(&l->stats_lock);
    ret = ram_load_put(l, b->ram->host + w->first * LOAD_PAGE, buf, w->nr * LOAD_PAGE);
    /* All of RAM is there and the piece with this page is no longer registered, which has
     * woken whoever waited. */
    return ret == -ENOENT ? 0 : ret;
}

static void start_work(RamLoad *l, RamLoadBlock *b, size_t first, size_t nr, size_t page,
                       int64_t start_ns);

static void count_fault(RamLoad *l, int64_t start_ns)
{
    uint64_t took = clock_now_ns() - start_ns;

    pthread_mutex_lock(&l->stats_lock);
    l->stats.faults++;
    l->stats.fault_ns_total += took;
    l->stats.fault_ns_max = MAX(l->stats.fault_ns_max, took);
    pthread_mutex_unlock(&l->stats_lock);
}

static void coroutine_fn work_entry(void *opaque)
{
    FaultWork *w = opaque;
    RamLoad *l = w->l;
    uint8_t *buf = get_buffer(l);
    int ret = bring(w, buf);

    while (ret < 0 && w->nr == 1 &&
           ram_load_wait_to_retry(l, w->b, w->first, 1, -ret)) {
        ret = bring(w, buf);
    }
    put_buffer(l, buf);
    note_activity(l);
    g_queue_remove(&l->works, w);
    if (ret == 0) {
        count_fault(l, w->start_ns);
    } else if (w->nr > 1) {
        /* It may be a page that nobody wants which cannot be read. */
        for (size_t page = w->first; page < w->first + w->nr; page++) {
            if (is_wanted(w, page)) {
                start_work(l, w->b, page, 1, page, w->start_ns);
            }
        }
    }
    g_free(w);
    __atomic_fetch_sub(&l->nr_works, 1, __ATOMIC_SEQ_CST);
}

static void start_work(RamLoad *l, RamLoadBlock *b, size_t first, size_t nr, size_t page,
                       int64_t start_ns)
{
    FaultWork *w = g_new0(FaultWork, 1);

    *w = (FaultWork){.l = l, .b = b, .first = first, .nr = nr, .start_ns = start_ns};
    want(w, page);
    g_queue_push_tail(&l->works, w);
    __atomic_fetch_add(&l->nr_works, 1, __ATOMIC_SEQ_CST);
    aio_co_enter(l->context, coroutine_create(work_entry, w));
}

/* --- Faults -------------------------------------------------------------------------------- */

static RamLoadBlock *find_block(RamLoad *l, uint64_t addr)
{
    for (int i = 0; i < l->config.nr_ram; i++) {
        uint64_t start = (uintptr_t)l->blocks[i].ram->host;

        if (addr >= start && addr - start < l->blocks[i].ram->size) {
            return &l->blocks[i];
        }
    }
    return NULL;
}

/* A page is on its way already: it wakes this one too. */
static bool join_work(RamLoad *l, RamLoadBlock *b, size_t page)
{
    for (GList *i = l->works.head; i; i = i->next) {
        FaultWork *w = i->data;

        if (w->b == b && page >= w->first && page - w->first < w->nr) {
            want(w, page);
            return true;
        }
    }
    return false;
}

static void resolve(RamLoad *l, RamLoadBlock *b, size_t page)
{
    uint64_t addr = (uintptr_t)b->ram->host + page * LOAD_PAGE;
    int64_t now = clock_now_ns();
    size_t start, end;

    l->window = addr == l->last_fault_end ? MIN(l->window * 2, MAX_WINDOW_PAGES)
                                          : LOAD_WINDOW_PAGES;
    start = page / LOAD_WINDOW_PAGES * LOAD_WINDOW_PAGES;
    end = MIN(start + l->window, b->nr_pages);
    end = MIN(end, (page / LOAD_CHUNK_PAGES + 1) * LOAD_CHUNK_PAGES);
    l->last_fault_end = (uintptr_t)b->ram->host + end * LOAD_PAGE;

    if (!load_page_has_data(b, page)) {
        /* The run of zero pages around it, without I/O. */
        size_t first = page, last = page + 1;

        while (first > start && !load_page_has_data(b, first - 1)) {
            first--;
        }
        while (last < end && !load_page_has_data(b, last)) {
            last++;
        }
        __atomic_store_n(&l->touched[b->first_chunk + page / LOAD_CHUNK_PAGES], 1,
                         __ATOMIC_SEQ_CST);
        put_zeros(l, b, first, last - first);
        count_fault(l, now);
        return;
    }
    start_work(l, b, start, end - start, page, now);
}

/* track: somebody writes to a page that is there. */
static void let_write(RamLoad *l, RamLoadBlock *b, size_t page)
{
    size_t start = page / LOAD_WINDOW_PAGES * LOAD_WINDOW_PAGES;
    uint8_t *host = b->ram->host + start * LOAD_PAGE;
    size_t len = MIN(LOAD_WINDOW_PAGES, b->nr_pages - start) * LOAD_PAGE;

    ram_load_mark_dirty(b, page);
    if (uffd_write_protect(&l->uffd, host, len, false) < 0) {
        uffd_wake(&l->uffd, host, len);
    }
}

static void on_fault(void *opaque)
{
    RamLoad *l = opaque;
    struct uffd_msg msg;

    while (read(l->uffd.fd, &msg, sizeof(msg)) == sizeof(msg)) {
        uint64_t addr = msg.arg.pagefault.address & ~(uint64_t)(LOAD_PAGE - 1);
        RamLoadBlock *b;

        if (msg.event != UFFD_EVENT_PAGEFAULT) {
            continue;
        }
        note_activity(l);
        b = find_block(l, addr);
        if (!b) {
            uffd_wake(&l->uffd, (void *)(uintptr_t)addr, LOAD_PAGE);
        } else {
            size_t page = (addr - (uintptr_t)b->ram->host) / LOAD_PAGE;

            if (msg.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP) {
                let_write(l, b, page);
            } else if (!join_work(l, b, page)) {
                resolve(l, b, page);
            }
        }
    }
}

/* --- Life ---------------------------------------------------------------------------------- */

static void start_watching(void *opaque)
{
    RamLoad *l = opaque;

    thread_set_role(THREAD_ROLE_ANSWER);
    l->watching = true;
    aio_set_fd_handler(l->context, l->uffd.fd, on_fault, NULL, l);
}

/* In the thread that makes the load. */
bool ram_load_start_thread(RamLoad *l, GError **errp)
{
    l->window = LOAD_WINDOW_PAGES;
    l->thread = iothread_new("ram-fault", errp);
    if (!l->thread) {
        return false;
    }
    l->context = iothread_context(l->thread);
    return true;
}

void ram_load_watch(RamLoad *l)
{
    aio_bh_schedule_oneshot(l->context, start_watching, l);
}

void ram_load_quiet_thread(RamLoad *l)
{
    __atomic_store_n(&l->stop, 1, __ATOMIC_SEQ_CST);
}

static void coroutine_fn stop_watching(RamLoad *l)
{
    if (l->watching) {
        aio_set_fd_handler(l->context, l->uffd.fd, NULL, NULL, NULL);
        l->watching = false;
    }
    while (__atomic_load_n(&l->nr_works, __ATOMIC_SEQ_CST)) {
        co_sleep_ns(STOP_POLL_NS);
    }
    while (l->buffers.length) {
        g_aligned_free(g_queue_pop_head(&l->buffers));
    }
}

/* Snapshot thread: the coroutine itself goes there and comes back. */
void coroutine_fn ram_load_stop_thread(RamLoad *l)
{
    AioContext *home = aio_current();

    if (!l->thread) {
        return;
    }
    ram_load_quiet_thread(l);
    aio_co_reschedule_self(l->context);
    stop_watching(l);
    aio_co_reschedule_self(home);
    iothread_destroy(l->thread);
    l->thread = NULL;
}
