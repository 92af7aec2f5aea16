/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The fault thread of a lazy load: brings the pages that somebody waits for, a little
 * around them, and more in a run of faults.  It reads with a blocking call of its own and
 * waits for no other thread, because any of them may be the one that waits for the page.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "qapi/error.h"
#include "ram-load-int.h"
#include "util/thread-role.h"

#define MIN_WINDOW ((size_t)64 << 10)
#define MAX_WINDOW ((size_t)512 << 10)
#define RETRY_MS 1000

int ram_load_put(RamLoad *l, uint8_t *dst, const uint8_t *src, size_t len)
{
    size_t at = 0;
    bool skipped = false;

    while (at < len) {
        ssize_t n = uffd_copy(&l->uffd, dst + at, src + at, len - at);

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

static int put_zeros(RamLoad *l, uint8_t *dst, size_t len)
{
    size_t at = 0;

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

/* Pages [page, page + nr) of one block. */
static int bring(RamLoad *l, RamLoadBlock *b, size_t page, size_t nr)
{
    uint8_t *host = b->ram->host + page * LOAD_PAGE;
    uint64_t offset = b->stream->pages_offset + page * LOAD_PAGE;
    int ret = l->config.source->read_sync(l->config.source->opaque, offset, l->fault_buf,
                                          nr * LOAD_PAGE);

    if (ret < 0) {
        return ret;
    }
    __atomic_store_n(&l->touched[b->first_chunk + page / LOAD_CHUNK_PAGES], 1,
                     __ATOMIC_SEQ_CST);
    /* What the bitmap calls zero is zero, whatever the image holds there. */
    for (size_t i = 0; i < nr; i++) {
        if (!load_page_has_data(b, page + i)) {
            memset(l->fault_buf + i * LOAD_PAGE, 0, LOAD_PAGE);
        }
    }
    pthread_mutex_lock(&l->stats_lock);
    l->stats.bytes_read += nr * LOAD_PAGE;
    pthread_mutex_unlock(&l->stats_lock);
    return ram_load_put(l, host, l->fault_buf, nr * LOAD_PAGE);
}

static int resolve(RamLoad *l, RamLoadBlock *b, size_t page)
{
    size_t window_pages, start, end, chunk_end;
    uint64_t addr = (uintptr_t)b->ram->host + page * LOAD_PAGE;

    l->window = addr == l->last_fault_end ? MIN(l->window * 2, MAX_WINDOW) : MIN_WINDOW;
    window_pages = MIN_WINDOW / LOAD_PAGE;
    start = page / window_pages * window_pages;
    end = MIN(start + l->window / LOAD_PAGE, b->nr_pages);
    chunk_end = (page / LOAD_CHUNK_PAGES + 1) * LOAD_CHUNK_PAGES;
    end = MIN(end, chunk_end);
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
        return put_zeros(l, b->ram->host + first * LOAD_PAGE, (last - first) * LOAD_PAGE);
    }
    return bring(l, b, start, end - start);
}

static void report(RamLoad *l, RamLoadBlock *b, size_t page, int err)
{
    g_autofree char *message =
        g_strdup_printf("Could not read page 0x%zx of RAM block '%s' from the snapshot: %s",
                        page * LOAD_PAGE, b->ram->idstr, strerror(-err));

    l->config.read_error(l->config.opaque, message);
}

/* false: it must be tried again later. */
static bool handle_fault(RamLoad *l, uint64_t addr)
{
    RamLoadBlock *b = find_block(l, addr);
    int64_t start = clock_now_ns();
    uint64_t took;
    size_t page;
    int ret;

    if (!b) {
        uffd_wake(&l->uffd, (void *)(uintptr_t)(addr & ~(uint64_t)(LOAD_PAGE - 1)), LOAD_PAGE);
        return true;
    }
    page = (addr - (uintptr_t)b->ram->host) / LOAD_PAGE;
    ret = resolve(l, b, page);
    if (ret == -ENOENT) {
        /* All of RAM is there and the piece with this page is no longer registered, which
         * has woken whoever waited. */
        ret = 0;
    }
    if (ret < 0 && !__atomic_load_n(&l->stop, __ATOMIC_SEQ_CST)) {
        report(l, b, page, ret);
        return false;
    }
    took = clock_now_ns() - start;
    pthread_mutex_lock(&l->stats_lock);
    l->stats.faults++;
    l->stats.fault_ns_total += took;
    l->stats.fault_ns_max = MAX(l->stats.fault_ns_max, took);
    pthread_mutex_unlock(&l->stats_lock);
    return true;
}

static void add_failed(RamLoad *l, uint64_t addr)
{
    FailedFault f = {.addr = addr};

    g_array_append_val(l->failed, f);
}

static void retry_failed(RamLoad *l)
{
    g_autoptr(GArray) again = l->failed;

    l->failed = g_array_new(false, false, sizeof(FailedFault));
    for (guint i = 0; i < again->len; i++) {
        uint64_t addr = g_array_index(again, FailedFault, i).addr;

        if (!handle_fault(l, addr)) {
            add_failed(l, addr);
        }
    }
}

static void *fault_thread(void *opaque)
{
    RamLoad *l = opaque;

    thread_set_role(THREAD_ROLE_ANSWER);
    while (!__atomic_load_n(&l->stop, __ATOMIC_SEQ_CST)) {
        struct pollfd fds[2] = {{.fd = l->uffd.fd, .events = POLLIN},
                                {.fd = l->event_fd, .events = POLLIN}};
        struct uffd_msg msg;
        int n = poll(fds, 2, l->failed->len ? RETRY_MS : -1);

        if (n == 0) {
            retry_failed(l);
        }
        if (n <= 0 || !fds[0].revents || read(l->uffd.fd, &msg, sizeof(msg)) != sizeof(msg) ||
            msg.event != UFFD_EVENT_PAGEFAULT) {
            continue;
        }
        if (!handle_fault(l, msg.arg.pagefault.address)) {
            add_failed(l, msg.arg.pagefault.address);
        }
    }
    return NULL;
}

bool ram_load_start_thread(RamLoad *l, GError **errp)
{
    int ret;

    l->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (l->event_fd < 0) {
        error_setg_errno(errp, errno, "Could not make an eventfd for the fault thread");
        return false;
    }
    l->failed = g_array_new(false, false, sizeof(FailedFault));
    l->fault_buf = g_malloc(MAX_WINDOW);
    l->window = MIN_WINDOW;
    ret = pthread_create(&l->thread, NULL, fault_thread, l);
    if (ret) {
        error_setg_errno(errp, ret, "Could not start the fault thread");
        return false;
    }
    pthread_setname_np(l->thread, "ram-fault");
    l->thread_running = true;
    return true;
}

/* After everything is unregistered: nobody waits any more. */
void ram_load_stop_thread(RamLoad *l)
{
    uint64_t one = 1;

    if (l->thread_running) {
        ssize_t ret;

        __atomic_store_n(&l->stop, 1, __ATOMIC_SEQ_CST);
        ret = write(l->event_fd, &one, sizeof(one));
        (void)ret; /* fails only when a wake-up is pending already */
        pthread_join(l->thread, NULL);
        l->thread_running = false;
    }
    if (l->event_fd >= 0) {
        close(l->event_fd);
        l->event_fd = -1;
    }
    g_clear_pointer(&l->failed, g_array_unref);
    g_clear_pointer(&l->fault_buf, g_free);
}
