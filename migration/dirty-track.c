/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tracking of writes to guest RAM (see dirty-track.h): by the kernel alone, or by a thread
 * that answers the faults.  The thread waits for nobody and writes no guest RAM; whoever
 * faults goes on after microseconds.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include "dirty-track.h"
#include "qapi/error.h"
#include "snapshot-base.h"
#include "uffd-int.h"
#include "util/co-lock.h"
#include "util/thread-role.h"

#define TRACK_PAGE ((size_t)4096)
/* Protected at a time; a fault, and whoever changes the address space, waits that long. */
#define PROTECT_PIECE ((size_t)4 << 20)

#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC (1 << 15) /* Linux 6.7 */
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22 /* Linux 5.14 */
#endif

/* struct pm_scan_arg and its numbers: Documentation/admin-guide/mm/pagemap.rst. */
struct kf_pm_scan_arg {
    uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
    uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
struct kf_page_region {
    uint64_t start, end, categories;
};
#define KF_PAGEMAP_SCAN _IOWR('f', 16, struct kf_pm_scan_arg)
#define KF_PM_SCAN_WP_MATCHING 1
#define KF_PM_SCAN_CHECK_WPASYNC 2
#define KF_PAGE_IS_WRITTEN 2

struct DirtyTrack {
    const RAMBlock *ram;
    int nr_ram;
    Uffd uffd;
    bool async;
    int pagemap_fd; /* async */

    /* Sync: bits per block of what was written, and the thread that sets them. */
    uint64_t **written;   /* under lock */
    pthread_mutex_t lock; /* leaf; its holders write no guest RAM */
    pthread_t thread;
    bool thread_running;
    int event_fd;
    int stop; /* atomic */
};

static void release(DirtyTrack *t)
{
    if (t->thread_running) {
        uint64_t one = 1;
        ssize_t ret;

        __atomic_store_n(&t->stop, 1, __ATOMIC_SEQ_CST);
        ret = write(t->event_fd, &one, sizeof(one));
        (void)ret; /* fails only when a wake-up is pending already */
        pthread_join(t->thread, NULL);
    }
    uffd_close(&t->uffd);
    if (t->pagemap_fd >= 0) {
        close(t->pagemap_fd);
    }
    if (t->event_fd >= 0) {
        close(t->event_fd);
    }
    for (int i = 0; i < t->nr_ram && t->written; i++) {
        g_free(t->written[i]);
    }
    g_free(t->written);
    pthread_mutex_destroy(&t->lock);
    g_free(t);
}

/* --- Sync: the thread -------------------------------------------------------------------- */

static void fault(DirtyTrack *t, uint64_t addr)
{
    uint8_t *page = (uint8_t *)(uintptr_t)(addr & ~(uint64_t)(TRACK_PAGE - 1));

    for (int i = 0; i < t->nr_ram; i++) {
        size_t at = (uintptr_t)page - (uintptr_t)t->ram[i].host;

        if ((uintptr_t)page >= (uintptr_t)t->ram[i].host && at < t->ram[i].size) {
            t->written[i][at / TRACK_PAGE / 64] |= 1ULL << (at / TRACK_PAGE % 64);
        }
    }
    /* Noted first.  If this fails the page is not registered any more and nobody waits. */
    if (uffd_write_protect(&t->uffd, page, TRACK_PAGE, false) < 0) {
        uffd_wake(&t->uffd, page, TRACK_PAGE);
    }
}

static void *fault_thread(void *opaque)
{
    DirtyTrack *t = opaque;
    struct uffd_msg msgs[16];

    thread_set_role(THREAD_ROLE_ANSWER);
    while (!__atomic_load_n(&t->stop, __ATOMIC_SEQ_CST)) {
        struct pollfd fds[2] = {{.fd = t->uffd.fd, .events = POLLIN},
                                {.fd = t->event_fd, .events = POLLIN}};
        ssize_t len;

        if (poll(fds, 2, -1) <= 0 || !fds[0].revents) {
            continue;
        }
        pthread_mutex_lock(&t->lock);
        len = read(t->uffd.fd, msgs, sizeof(msgs));
        for (ssize_t i = 0; i < len / (ssize_t)sizeof(msgs[0]); i++) {
            if (msgs[i].event == UFFD_EVENT_PAGEFAULT) {
                fault(t, msgs[i].arg.pagefault.address);
            }
        }
        pthread_mutex_unlock(&t->lock);
    }
    return NULL;
}

static bool start_thread(DirtyTrack *t, GError **errp)
{
    int ret;

    t->written = g_new0(uint64_t *, t->nr_ram);
    for (int i = 0; i < t->nr_ram; i++) {
        t->written[i] = g_new0(uint64_t, t->ram[i].size / TRACK_PAGE / 64 + 1);
    }
    t->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (t->event_fd < 0) {
        error_setg_errno(errp, errno, "Could not make an eventfd for the fault thread");
        return false;
    }
    ret = pthread_create(&t->thread, NULL, fault_thread, t);
    if (ret) {
        error_setg_errno(errp, ret, "Could not start the fault thread");
        return false;
    }
    pthread_setname_np(t->thread, "ram-track");
    t->thread_running = true;
    return true;
}

static int take_sync(DirtyTrack *t, int block, size_t first, size_t nr, uint64_t *bits,
                     size_t first_bit)
{
    uint64_t *written = t->written[block];
    int ret = 0;

    pthread_mutex_lock(&t->lock);
    for (size_t i = 0; i < nr && ret == 0;) {
        size_t page = first + i, run = 0;

        if (page % 64 == 0 && !written[page / 64]) {
            i += 64;
            continue;
        }
        while (i + run < nr && written[(page + run) / 64] >> ((page + run) % 64) & 1) {
            bits[(first_bit + i + run) / 64] |= 1ULL << ((first_bit + i + run) % 64);
            written[(page + run) / 64] &= ~(1ULL << ((page + run) % 64));
            run++;
        }
        if (run) {
            ret = uffd_write_protect(&t->uffd, t->ram[block].host + page * TRACK_PAGE,
                                     run * TRACK_PAGE, true);
        }
        i += MAX(run, 1);
    }
    pthread_mutex_unlock(&t->lock);
    return ret;
}

/* --- Async: the kernel ------------------------------------------------------------------------ */

static int take_async(DirtyTrack *t, int block, size_t first, size_t nr, uint64_t *bits,
                      size_t first_bit)
{
    struct kf_page_region regions[256];
    uint64_t origin = (uintptr_t)t->ram[block].host + first * TRACK_PAGE;
    struct kf_pm_scan_arg arg = {
        .size = sizeof(arg),
        .flags = KF_PM_SCAN_WP_MATCHING | KF_PM_SCAN_CHECK_WPASYNC,
        .start = origin,
        .end = origin + nr * TRACK_PAGE,
        .vec = (uintptr_t)regions,
        .vec_len = G_N_ELEMENTS(regions),
        .category_mask = KF_PAGE_IS_WRITTEN,
        .return_mask = KF_PAGE_IS_WRITTEN,
    };

    while (arg.start < arg.end) {
        int n = ioctl(t->pagemap_fd, KF_PAGEMAP_SCAN, &arg);

        if (n < 0) {
            if (errno == EINTR || errno == EAGAIN) {
                continue;
            }
            return -errno;
        }
        for (int i = 0; i < n; i++) {
            size_t from = first_bit + (regions[i].start - origin) / TRACK_PAGE;
            size_t to = first_bit + (regions[i].end - origin) / TRACK_PAGE;

            for (size_t bit = from; bit < to; bit++) {
                bits[bit / 64] |= 1ULL << (bit % 64);
            }
        }
        arg.start = arg.walk_end;
    }
    return 0;
}

/* Whether the kernel has what async tracking needs; then t->pagemap_fd is open. */
static bool open_async(DirtyTrack *t)
{
    struct kf_pm_scan_arg nothing = {.size = sizeof(nothing)};

    if (!uffd_open(&t->uffd, UFFD_FEATURE_WP_ASYNC, 0, NULL)) {
        return false;
    }
    t->pagemap_fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (t->pagemap_fd >= 0 && ioctl(t->pagemap_fd, KF_PAGEMAP_SCAN, &nothing) >= 0) {
        return true;
    }
    uffd_close(&t->uffd);
    return false;
}

/* --- Both --------------------------------------------------------------------------------------- */

static bool coroutine_fn protect_all(DirtyTrack *t, GError **errp)
{
    bool unpopulated = t->async || (t->uffd.features & UFFD_FEATURE_WP_UNPOPULATED);

    for (int i = 0; i < t->nr_ram; i++) {
        const RAMBlock *ram = &t->ram[i];
        int ret = uffd_register(&t->uffd, ram->host, ram->size, UFFDIO_REGISTER_MODE_WP);

        for (size_t at = 0; at < ram->size && ret == 0; at += PROTECT_PIECE) {
            size_t len = MIN(PROTECT_PIECE, ram->size - at);

            if (!unpopulated && madvise(ram->host + at, len, MADV_POPULATE_READ) < 0) {
                ret = -errno;
                break;
            }
            ret = uffd_write_protect(&t->uffd, ram->host + at, len, true);
            co_sleep_ns(0);
        }
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Could not write-protect RAM block '%s'", ram->idstr);
            return false;
        }
    }
    return true;
}

static DirtyTrack *coroutine_fn track_new(const RAMBlock *ram, int nr_ram, bool may_be_async,
                                          GError **errp)
{
    DirtyTrack *t = g_new0(DirtyTrack, 1);

    snapshot_base_drop();
    t->ram = ram;
    t->nr_ram = nr_ram;
    t->uffd.fd = t->pagemap_fd = t->event_fd = -1;
    pthread_mutex_init(&t->lock, NULL);
    t->async = may_be_async && open_async(t);
    if (!t->async) {
        if (!uffd_open(&t->uffd, UFFD_FEATURE_PAGEFAULT_FLAG_WP, UFFD_FEATURE_WP_UNPOPULATED,
                       errp)) {
            release(t);
            return NULL;
        }
        if (!t->uffd.kernel_faults) {
            error_setg(errp, "userfaultfd does not report faults inside the kernel here (no "
                             "access to /dev/userfaultfd, vm.unprivileged_userfaultfd is 0)");
            release(t);
            return NULL;
        }
        if (!start_thread(t, errp)) {
            release(t);
            return NULL;
        }
    }
    if (!protect_all(t, errp)) {
        dirty_track_free(t);
        return NULL;
    }
    return t;
}

DirtyTrack *coroutine_fn dirty_track_new(const RAMBlock *ram, int nr_ram, GError **errp)
{
    return track_new(ram, nr_ram, true, errp);
}

DirtyTrack *coroutine_fn dirty_track_new_sync(const RAMBlock *ram, int nr_ram, GError **errp)
{
    return track_new(ram, nr_ram, false, errp);
}

int dirty_track_take(DirtyTrack *t, int block, size_t first_page, size_t nr, uint64_t *bits,
                     size_t first_bit)
{
    g_assert(block < t->nr_ram && (first_page + nr) * TRACK_PAGE <= t->ram[block].size);
    return t->async ? take_async(t, block, first_page, nr, bits, first_bit)
                    : take_sync(t, block, first_page, nr, bits, first_bit);
}

bool dirty_track_is_async(const DirtyTrack *t)
{
    return t->async;
}

void coroutine_fn dirty_track_free(DirtyTrack *t)
{
    for (int i = 0; i < t->nr_ram; i++) {
        for (size_t at = 0; at < t->ram[i].size; at += PROTECT_PIECE) {
            /* Fails where nothing is registered, after a failure to begin. */
            uffd_unregister(&t->uffd, t->ram[i].host + at,
                            MIN(PROTECT_PIECE, t->ram[i].size - at));
            co_sleep_ns(0);
        }
    }
    release(t);
}
