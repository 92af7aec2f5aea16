/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The inside of an AioContext, shared by the files aio*.c: its lock, its work lists, its
 * timers, its file descriptors and its disk ring.  Private to util/.
 */
#ifndef UTIL_AIO_INT_H
#define UTIL_AIO_INT_H

#include <pthread.h>
#include "coroutine-int.h"
#include "util/aio.h"

typedef struct AioFd AioFd;
typedef struct AioRing AioRing;

/* The upper half of an epoll event's data: whose event it is. */
enum {
    AIO_GENERATION_WAKE,  /* the context's eventfd */
    AIO_GENERATION_GLIB,  /* glib's wake-up fd */
    AIO_GENERATION_FIRST, /* this and above: a generation of a watched fd */
};

/* A recursive lock that serves its takers in turn (aio-lock.c). */
typedef struct AioLock {
    uint32_t next;    /* atomic: the next ticket */
    uint32_t serving; /* atomic: the ticket that holds the lock; a futex */
    void *owner;      /* atomic: the owner's CoroutineThread */
    unsigned int depth;
} AioLock;

void aio_lock(AioLock *lock);
void aio_unlock(AioLock *lock);

struct AioTimer {
    AioContext *ctx;
    AioHandler *cb;
    void *opaque;
    int64_t expire;
    int index; /* in the heap, -1 while not armed */
};

struct AioContext {
    int refcount;           /* atomic */
    CoroutineThread *home;  /* atomic: the thread that runs it, NULL before the first poll */
    AioLock lock;           /* held by the home thread while it dispatches */

    /* Wake-up: see aio_notify(). */
    int sleeping; /* atomic */
    int notified; /* atomic */
    int event_fd; /* in the epoll set, edge triggered, never read */

    AioBH *bhs;             /* atomic stack of those to be looked at */
    Coroutine *coroutines;  /* atomic stack of those to be entered */
    Coroutine *ready_first; /* home thread: the same in order, being worked off */
    Coroutine *ready_last;

    pthread_mutex_t timer_lock; /* leaf; guards the heap */
    AioTimer **timers;
    int n_timers, timers_capacity;
    int64_t next_timer; /* atomic: the earliest expiry, INT64_MAX for none */

    /* Home thread only, from here on. */
    int epoll_fd;
    AioFd **fds; /* by number */
    int n_fds;
    uint32_t fd_generation;
    int always_ready; /* handlers of files that epoll does not take */
    struct epoll_event *events;
    int n_events;       /* fetched, not yet dispatched */
    bool glib_event;    /* glib's wake-up was seen, and glib not yet told */
    bool polled;        /* by aio_g_poll() in this round of glib's loop */

    int64_t woken_at;   /* when the last wait ended; 0 before the first */
    AioLoopStats stats;

    int in_workers; /* coroutines that wait for a worker */
    AioRing *ring;  /* made by the first disk request */
    bool ring_failed;
    AioPolling polling; /* atomic */
    bool poll_adapts;   /* atomic; false: it is always max_ns */
    int64_t poll_ns;    /* how long it looks at present, if that adapts */
    GSource *source; /* the one that runs the context */
};

/* aio.c */
void aio_context_adopt(AioContext *ctx);
void aio_context_disown(AioContext *ctx);
/* Wakes the loop if it sleeps; call it after adding work.  Any thread. */
void aio_kick(AioContext *ctx);
/* Declares that the loop may block; false if there is work and it must not. */
bool aio_prepare_sleep(AioContext *ctx);
bool aio_has_work(AioContext *ctx);
void aio_end_sleep(AioContext *ctx);
/* Nanoseconds until the next timer: -1 for none, 0 for one that is due. */
int64_t aio_next_timeout(AioContext *ctx);
/* Waits for events at most timeout ns (-1: for ever), then keeps them for dispatch. */
void aio_wait(AioContext *ctx, int64_t timeout);
/* Runs all that is ready, under the context's lock. */
bool aio_dispatch(AioContext *ctx);

/* aio-bh.c */
bool aio_bh_run(AioContext *ctx);
void aio_bh_free_all(AioContext *ctx);

/* aio-timer.c */
void aio_timer_init(AioTimer *timer, AioContext *ctx, AioHandler *cb, void *opaque);
bool aio_timers_run(AioContext *ctx);

/* aio-epoll.c */
bool aio_epoll_init(AioContext *ctx, GError **errp);
void aio_epoll_destroy(AioContext *ctx);
/* Waits at most timeout ns (-1: for ever); the events stay for aio_epoll_dispatch(). */
void aio_epoll_wait(AioContext *ctx, int64_t timeout);
bool aio_epoll_dispatch(AioContext *ctx);

/*
 * A disk request: one system call's worth.  It lives on the stack of the coroutine that
 * waits for it.
 */
typedef enum DiskOp { DISK_READ, DISK_WRITE, DISK_FDATASYNC, DISK_FALLOCATE } DiskOp;
typedef struct DiskRequest {
    DiskOp op;
    int fd;
    const struct iovec *iov;
    int niov;
    off_t offset;
    off_t len;
    int mode;
    ssize_t result;
    Coroutine *co;
    struct DiskRequest *next;
} DiskRequest;

/* aio-uring.c; without liburing ring_get() is always NULL. */
/* Whether the ring has requests to finish (aio-disk.c). */
bool aio_disk_busy(AioContext *ctx);
#if CONFIG_LINUX_IO_URING
/* The calling thread's ring, made on first use; NULL if there is none to be had. */
AioRing *aio_ring_get(AioContext *ctx);
void aio_ring_free(AioContext *ctx);
/* Queues req and suspends the coroutine until it is done. */
void coroutine_fn aio_ring_run(AioRing *ring, DiskRequest *req);
/* Whether requests are queued or in flight. */
bool aio_ring_busy(AioRing *ring);
/* Submits what is queued; waits for a completion or a ready fd at most timeout ns. */
void aio_ring_wait(AioRing *ring, int64_t timeout);
bool aio_ring_dispatch(AioRing *ring);
/* For glib's poll(): the fd that becomes readable, and whether there are completions. */
int aio_ring_fd(AioRing *ring);
bool aio_ring_done(AioRing *ring);
#else
static inline AioRing *aio_ring_get(AioContext *ctx)
{
    return NULL;
}
#endif

#endif
