/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * File descriptors of an AioContext, over epoll.  Home thread only.
 *
 * epoll and not io_uring's poll requests: removal is synchronous, so an fd may be closed
 * and its number reused at once; level triggering costs no new request per event; and it
 * is no slower (docs/devel/aio-context.md has the figures).
 *
 * Each fd has two independent slots, read and write.  A slot is persistent
 * (aio_set_fd_handler) or for one event (co_wait_readable); an fd with slots of the
 * second sort only is registered with EPOLLONESHOT, so that a wait costs one epoll_ctl().
 */
#include "aio-int.h"
#include "util/errno-text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { EVENTS_PER_WAIT = 64 };

typedef struct FdSlot {
    AioHandler *cb;
    void *opaque;
    bool once;
} FdSlot;

struct AioFd {
    FdSlot read, write;
    uint32_t generation; /* tells a stale event for a reused number */
    bool registered;     /* as far as we know: closing an fd unregisters it */
    bool always;         /* epoll does not take it (a regular file): always ready */
};

bool aio_epoll_init(AioContext *ctx, GError **errp)
{
    struct epoll_event ev = {.events = EPOLLIN | EPOLLET, .data.u64 = 0};
    const char *call = "epoll_create1";

    ctx->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    ctx->event_fd = -1;
    if (ctx->epoll_fd >= 0) {
        call = "eventfd";
        ctx->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    }
    if (ctx->event_fd >= 0) {
        call = "epoll_ctl";
        /* Edge triggered: every write is an event of its own, nothing is ever read. */
        if (epoll_ctl(ctx->epoll_fd, EPOLL_CTL_ADD, ctx->event_fd, &ev) == 0) {
            ctx->events = g_new(struct epoll_event, EVENTS_PER_WAIT);
            return true;
        }
    }
    g_set_error(errp, G_FILE_ERROR, g_file_error_from_errno(errno),
                "Could not create an event loop: %s: %s", call, errno_text(errno));
    if (ctx->event_fd >= 0) {
        close(ctx->event_fd);
    }
    if (ctx->epoll_fd >= 0) {
        close(ctx->epoll_fd);
    }
    return false;
}

void aio_epoll_destroy(AioContext *ctx)
{
    for (int i = 0; i < ctx->n_fds; i++) {
        g_free(ctx->fds[i]);
    }
    g_free(ctx->fds);
    g_free(ctx->events);
    close(ctx->epoll_fd);
    close(ctx->event_fd);
}

static AioFd *fd_get(AioContext *ctx, int fd)
{
    g_assert(fd >= 0);
    if (fd >= ctx->n_fds) {
        int n = MAX(fd + 1, MAX(64, ctx->n_fds * 2));

        ctx->fds = g_renew(AioFd *, ctx->fds, n);
        memset(ctx->fds + ctx->n_fds, 0, (n - ctx->n_fds) * sizeof(AioFd *));
        ctx->n_fds = n;
    }
    if (!ctx->fds[fd]) {
        ctx->fds[fd] = g_new0(AioFd, 1);
        do {
            ctx->fds[fd]->generation = ++ctx->fd_generation;
        } while (ctx->fd_generation < AIO_GENERATION_FIRST);
    }
    return ctx->fds[fd];
}

static void fd_free(AioContext *ctx, int fd)
{
    AioFd *f = ctx->fds[fd];

    ctx->always_ready -= f->always;
    ctx->fds[fd] = NULL;
    g_free(f);
}

/* Tells epoll what the slots want. */
static void fd_update(AioContext *ctx, int fd)
{
    AioFd *f = ctx->fds[fd];
    struct epoll_event ev = {.data.u64 = (uint64_t)f->generation << 32 | (uint32_t)fd};
    bool persistent = (f->read.cb && !f->read.once) || (f->write.cb && !f->write.once);
    int ret;

    if (f->always) {
        return;
    }
    ev.events = (f->read.cb ? EPOLLIN | EPOLLRDHUP : 0) | (f->write.cb ? EPOLLOUT : 0) |
                (persistent ? 0 : EPOLLONESHOT);
    ret = epoll_ctl(ctx->epoll_fd, f->registered ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &ev);
    if (ret < 0 && errno == ENOENT) {
        /* The file that was registered under this number has been closed. */
        ret = epoll_ctl(ctx->epoll_fd, EPOLL_CTL_ADD, fd, &ev);
    }
    if (ret == 0) {
        f->registered = true;
    } else if (errno == EPERM) {
        f->always = true;
        ctx->always_ready++;
    } else {
        fprintf(stderr, "Could not watch file descriptor %d: %s\n", fd, strerror(errno));
        abort();
    }
}

static void fd_remove(AioContext *ctx, int fd)
{
    if (ctx->fds[fd]->registered) {
        struct epoll_event unused;
        /* Fails if fd has been closed meanwhile, which unregisters it too. */
        (void)epoll_ctl(ctx->epoll_fd, EPOLL_CTL_DEL, fd, &unused);
    }
    fd_free(ctx, fd);
}

static void assert_home(AioContext *ctx)
{
    CoroutineThread *home = __atomic_load_n(&ctx->home, __ATOMIC_ACQUIRE);

    g_assert(!home || home == &coroutine_thread);
}

void aio_set_fd_handler(AioContext *ctx, int fd, AioHandler *read, AioHandler *write,
                        void *opaque)
{
    assert_home(ctx);
    if (!read && !write) {
        if (fd >= 0 && fd < ctx->n_fds && ctx->fds[fd]) {
            fd_remove(ctx, fd);
        }
        return;
    }
    AioFd *f = fd_get(ctx, fd);
    f->read = (FdSlot){.cb = read, .opaque = opaque};
    f->write = (FdSlot){.cb = write, .opaque = opaque};
    fd_update(ctx, fd);
}

static void wake_waiter(void *opaque)
{
    aio_co_wake(opaque);
}

static void coroutine_fn wait_fd(int fd, bool write)
{
    AioContext *ctx = aio_current();
    AioFd *f;
    FdSlot *slot;

    g_assert(ctx);
    f = fd_get(ctx, fd);
    slot = write ? &f->write : &f->read;
    g_assert(!slot->cb);
    *slot = (FdSlot){.cb = wake_waiter, .opaque = coroutine_self(), .once = true};
    fd_update(ctx, fd);
    coroutine_yield();
}

void coroutine_fn co_wait_readable(int fd)
{
    wait_fd(fd, false);
}

void coroutine_fn co_wait_writable(int fd)
{
    wait_fd(fd, true);
}

void aio_epoll_wait(AioContext *ctx, int64_t timeout)
{
    struct timespec ts = {.tv_sec = timeout / 1000000000, .tv_nsec = timeout % 1000000000};
    static int no_pwait2; /* atomic: the kernel is older than 5.11 */
    int n;

    if (ctx->n_events) {
        return; /* fetched by glib's poll; one-shot events do not come again */
    }
    if (timeout > 0 && !__atomic_load_n(&no_pwait2, __ATOMIC_RELAXED)) {
        n = epoll_pwait2(ctx->epoll_fd, ctx->events, EVENTS_PER_WAIT, &ts, NULL);
        if (n >= 0 || errno != ENOSYS) {
            ctx->n_events = MAX(n, 0);
            return;
        }
        __atomic_store_n(&no_pwait2, 1, __ATOMIC_RELAXED);
    }
    n = epoll_wait(ctx->epoll_fd, ctx->events, EVENTS_PER_WAIT,
                   timeout < 0 ? -1 : (int)MIN((timeout + 999999) / 1000000, INT_MAX));
    ctx->n_events = MAX(n, 0);
}

/* Calls the slot of fd, unless fd was removed since the event was fetched. */
static bool run_slot(AioContext *ctx, int fd, uint32_t generation, bool write)
{
    AioFd *f = fd < ctx->n_fds ? ctx->fds[fd] : NULL;
    FdSlot *slot, run;

    if (!f || f->generation != generation) {
        return false;
    }
    slot = write ? &f->write : &f->read;
    run = *slot;
    if (!run.cb) {
        return false;
    }
    if (run.once) {
        slot->cb = NULL;
        if (f->always && !f->read.cb && !f->write.cb) {
            fd_free(ctx, fd);
        }
    }
    run.cb(run.opaque);
    return true;
}

static bool run_event(AioContext *ctx, int fd, uint32_t generation, uint32_t events)
{
    const uint32_t broken = EPOLLHUP | EPOLLERR;
    AioFd *f = fd < ctx->n_fds ? ctx->fds[fd] : NULL;
    bool progress = false, once;

    if (!f || f->generation != generation) {
        return false;
    }
    once = f->read.once || f->write.once;
    if (events & (EPOLLIN | EPOLLRDHUP | broken)) {
        progress |= run_slot(ctx, fd, generation, false);
    }
    if (events & (EPOLLOUT | broken)) {
        progress |= run_slot(ctx, fd, generation, true);
    }
    /*
     * The event disarmed a one-shot registration, or used up one of two slots: arm what
     * is left.  With none left the registration stays, disarmed, for the next wait.
     */
    f = fd < ctx->n_fds ? ctx->fds[fd] : NULL;
    if (once && f && f->generation == generation && (f->read.cb || f->write.cb)) {
        fd_update(ctx, fd);
    }
    return progress;
}

bool aio_epoll_dispatch(AioContext *ctx)
{
    bool progress = false;
    int n = ctx->n_events;

    ctx->n_events = 0;
    for (int i = 0; i < n; i++) {
        uint64_t data = ctx->events[i].data.u64;

        if (data >> 32 >= AIO_GENERATION_FIRST) {
            progress |= run_event(ctx, (int)(uint32_t)data, data >> 32, ctx->events[i].events);
        } else if (data >> 32 == AIO_GENERATION_GLIB) {
            ctx->glib_event = true;
        }
    }
    for (int fd = 0; ctx->always_ready && fd < ctx->n_fds; fd++) {
        if (ctx->fds[fd] && ctx->fds[fd]->always) {
            progress |= run_event(ctx, fd, ctx->fds[fd]->generation, EPOLLIN | EPOLLOUT);
        }
    }
    return progress;
}
