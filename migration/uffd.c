/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Wrappers around userfaultfd(2); see uffd-int.h.  No state but the descriptor. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "qapi/error.h"
#include "uffd-int.h"
#include "util/aio.h"

#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

struct kf_uffdio_move { /* struct uffdio_move of Linux 6.8 */
    uint64_t dst, src, len, mode;
    int64_t move;
};
#define KF_UFFDIO_MOVE _IOWR(UFFDIO, 0x05, struct kf_uffdio_move)

typedef enum Way { WAY_SYSCALL, WAY_DEVICE, WAY_USER_ONLY, NR_WAYS } Way;

static int open_way(Way way)
{
    int dev, fd;

    switch (way) {
    case WAY_SYSCALL:
        return syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    case WAY_DEVICE:
        dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
        if (dev < 0) {
            return -1;
        }
        fd = ioctl(dev, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
        if (fd < 0) {
            int saved = errno;

            close(dev);
            errno = saved;
            return -1;
        }
        close(dev);
        return fd;
    default:
        return syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
    }
}

/* What the kernel offers can be asked only once per descriptor: one to ask, one to use. */
static int open_with_features(Way way, uint64_t need, uint64_t want, uint64_t *features)
{
    struct uffdio_api api = {.api = UFFD_API};
    int fd = open_way(way);

    if (fd < 0) {
        return -1;
    }
    if (ioctl(fd, UFFDIO_API, &api) < 0) {
        goto fail;
    }
    if ((api.features & need) != need) {
        errno = EOPNOTSUPP;
        goto fail;
    }
    *features = need | (want & api.features);
    close(fd);
    fd = open_way(way);
    if (fd < 0) {
        return -1;
    }
    api = (struct uffdio_api){.api = UFFD_API, .features = *features};
    if (ioctl(fd, UFFDIO_API, &api) < 0) {
        goto fail;
    }
    return fd;

fail: {
    int saved = errno;

    close(fd);
    errno = saved;
    return -1;
}
}

bool uffd_open(Uffd *u, uint64_t need, uint64_t want, GError **errp)
{
    static const char *const names[NR_WAYS] = {
        "userfaultfd()", "/dev/userfaultfd", "userfaultfd() for user space only"};
    g_autoptr(GString) tried = g_string_new("");

    for (Way way = 0; way < NR_WAYS; way++) {
        u->fd = open_with_features(way, need, want, &u->features);
        if (u->fd >= 0) {
            u->kernel_faults = way != WAY_USER_ONLY;
            return true;
        }
        g_string_append_printf(tried, "%s%s: %s", tried->len ? ", " : "", names[way],
                               strerror(errno));
    }
    error_setg(errp, "userfaultfd is not available (%s)", tried->str);
    return false;
}

void uffd_close(Uffd *u)
{
    if (u->fd >= 0) {
        close(u->fd);
        u->fd = -1;
    }
}

/* EAGAIN: the address space is being changed by another thread just now. */
static int retry_ioctl(int fd, unsigned long request, void *arg)
{
    int ret;

    do {
        ret = ioctl(fd, request, arg);
    } while (ret < 0 && (errno == EAGAIN || errno == EINTR));
    return ret < 0 ? -errno : 0;
}

int uffd_register(Uffd *u, void *addr, size_t len, uint64_t mode)
{
    struct uffdio_register arg = {
        .range = {.start = (uintptr_t)addr, .len = len},
        .mode = mode,
    };

    return retry_ioctl(u->fd, UFFDIO_REGISTER, &arg);
}

int uffd_unregister(Uffd *u, void *addr, size_t len)
{
    struct uffdio_range arg = {.start = (uintptr_t)addr, .len = len};

    return retry_ioctl(u->fd, UFFDIO_UNREGISTER, &arg);
}

int uffd_write_protect(Uffd *u, void *addr, size_t len, bool protect)
{
    struct uffdio_writeprotect arg = {
        .range = {.start = (uintptr_t)addr, .len = len},
        .mode = protect ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
    };

    return retry_ioctl(u->fd, UFFDIO_WRITEPROTECT, &arg);
}

int uffd_wake(Uffd *u, void *addr, size_t len)
{
    struct uffdio_range arg = {.start = (uintptr_t)addr, .len = len};

    return retry_ioctl(u->fd, UFFDIO_WAKE, &arg);
}

/*
 * The three that fill share their result: done is a byte count, or -errno; after EAGAIN
 * with a count the rest may be tried again.
 */
static ssize_t copy(Uffd *u, void *dst, const void *src, size_t len, uint64_t mode)
{
    size_t done = 0;

    while (done < len) {
        struct uffdio_copy arg = {
            .dst = (uintptr_t)dst + done,
            .src = (uintptr_t)src + done,
            .len = len - done,
            .mode = mode,
        };

        if (ioctl(u->fd, UFFDIO_COPY, &arg) == 0) {
            return len;
        }
        if (arg.copy > 0) {
            done += arg.copy;
        } else if (errno != EAGAIN && errno != EINTR) {
            return done ? (ssize_t)done : -errno;
        }
    }
    return done;
}

ssize_t uffd_copy(Uffd *u, void *dst, const void *src, size_t len)
{
    return copy(u, dst, src, len, 0);
}

ssize_t uffd_copy_protected(Uffd *u, void *dst, const void *src, size_t len)
{
    return copy(u, dst, src, len, UFFDIO_COPY_MODE_WP);
}

ssize_t uffd_zero(Uffd *u, void *dst, size_t len)
{
    size_t done = 0;

    while (done < len) {
        struct uffdio_zeropage arg = {
            .range = {.start = (uintptr_t)dst + done, .len = len - done}};

        if (ioctl(u->fd, UFFDIO_ZEROPAGE, &arg) == 0) {
            return len;
        }
        if (arg.zeropage > 0) {
            done += arg.zeropage;
        } else if (errno != EAGAIN && errno != EINTR) {
            return done ? (ssize_t)done : -errno;
        }
    }
    return done;
}

ssize_t uffd_move(Uffd *u, void *dst, void *src, size_t len)
{
    size_t done = 0;

    while (done < len) {
        struct kf_uffdio_move arg = {
            .dst = (uintptr_t)dst + done,
            .src = (uintptr_t)src + done,
            .len = len - done,
        };

        if (ioctl(u->fd, KF_UFFDIO_MOVE, &arg) == 0) {
            return len;
        }
        if (arg.move > 0) {
            done += arg.move;
        } else if (errno != EAGAIN && errno != EINTR) {
            return done ? (ssize_t)done : -errno;
        }
    }
    return done;
}

int uffd_poll(struct pollfd *fds, int nfds, int timeout_ms, int64_t burst_end)
{
    while (clock_now_ns() < burst_end) {
        int n = poll(fds, nfds, 0);

        if (n) {
            return n;
        }
        /* The very thread whose fault was just handled may be waiting for this CPU. */
        sched_yield();
    }
    return poll(fds, nfds, timeout_ms);
}
