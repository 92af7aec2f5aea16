/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * userfaultfd: write protection and missing pages of anonymous memory, resolved by one of
 * our threads.  Thin wrappers that hide which of the ways to get the descriptor worked and
 * that retry what the kernel asks to retry.  Any thread.  See userfaultfd(2).
 */
#ifndef MIGRATION_UFFD_INT_H
#define MIGRATION_UFFD_INT_H

#include <poll.h>
#include <glib.h>
#include <linux/userfaultfd.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Newer than the oldest supported kernel headers; values from the kernel's ABI. */
#ifndef UFFD_FEATURE_WP_UNPOPULATED
#define UFFD_FEATURE_WP_UNPOPULATED (1 << 13) /* Linux 6.4 */
#endif
#ifndef UFFD_FEATURE_MOVE
#define UFFD_FEATURE_MOVE (1 << 16) /* Linux 6.8 */
#endif

typedef struct Uffd {
    int fd;
    uint64_t features;
    /* Faults that happen inside the kernel are reported too (else they fail with EFAULT). */
    bool kernel_faults;
} Uffd;

/*
 * Opens a descriptor, non-blocking, with all features in need and those in want that the
 * kernel has.  Tries the system call, /dev/userfaultfd, then faults of user space only.
 * false and errp say what each attempt failed with.
 */
bool uffd_open(Uffd *u, uint64_t need, uint64_t want, GError **errp);
void uffd_close(Uffd *u);

/* mode: UFFDIO_REGISTER_MODE_*.  0 or -errno. */
int uffd_register(Uffd *u, void *addr, size_t len, uint64_t mode);
int uffd_unregister(Uffd *u, void *addr, size_t len);
/* Removing the protection also wakes who waits for it.  0 or -errno. */
int uffd_write_protect(Uffd *u, void *addr, size_t len, bool protect);
/*
 * Fill missing pages from memory / with zeros / by moving the pages of src (page by page
 * or whole huge pages) and wake who waits for them.  Return the number of bytes done
 * before the first page that was there already (-EEXIST when that is the first one).
 */
ssize_t uffd_copy(Uffd *u, void *dst, const void *src, size_t len);
/* As uffd_copy(), and the pages are write-protected from the first moment. */
ssize_t uffd_copy_protected(Uffd *u, void *dst, const void *src, size_t len);
ssize_t uffd_zero(Uffd *u, void *dst, size_t len);
ssize_t uffd_move(Uffd *u, void *dst, void *src, size_t len);
int uffd_wake(Uffd *u, void *addr, size_t len);

/*
 * poll(2) for the fault thread of a save.  Until burst_end (CLOCK_MONOTONIC, ns) it looks again and
 * again instead of sleeping: in the moments after the guest is let go its working set
 * faults page by page, and each would wait for this thread to get a CPU.
 */
int uffd_poll(struct pollfd *fds, int nfds, int timeout_ms, int64_t burst_end);

/* How long such a burst lasts. */
#define UFFD_BURST_NS (20 * 1000 * 1000)

#endif
