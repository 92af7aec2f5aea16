/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Disk requests of an AioContext over io_uring.  Home thread only.
 *
 * The ring is made by the first request, in the thread that will use it (so the kernel
 * may take it for a single issuer's).  Requests are queued and submitted by the same
 * system call that waits, one per round of the loop; while any are in flight the loop
 * waits here, and a one-shot poll request on the epoll fd brings it what else happens.
 * No more is in flight than the completion queue holds; the rest waits in a list.
 */
#include "aio-int.h"

#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stdlib.h>

enum {
    RING_ENTRIES = 256,
    IN_FLIGHT_MAX = 500, /* the kernel makes the completion queue twice RING_ENTRIES */
    EARLY = 4,           /* new requests that are not kept until all completions are dealt with */
    POLL_START_NS = 4000, /* the first look of a thread whose time to look adapts */
};

struct AioRing {
    struct io_uring ring;
    AioContext *ctx;
    DiskRequest *first, **end; /* not yet in the ring */
    unsigned int waiting;      /* of those */
    unsigned int in_flight;
    bool epoll_armed;
};

AioRing *aio_ring_get(AioContext *ctx)
{
    struct io_uring_params params = {0};
    AioRing *ring = ctx->ring;
    int ret;

    if (ring || ctx->ring_failed) {
        return ring;
    }
    if (getenv("KEYFRAME_NO_IO_URING")) {
        ctx->ring_failed = true;
        return NULL;
    }
    ring = g_new0(AioRing, 1);
    ring->ctx = ctx;
    ring->end = &ring->first;
#if defined(IORING_SETUP_SINGLE_ISSUER) && defined(IORING_SETUP_DEFER_TASKRUN)
    params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
#endif
    ret = io_uring_queue_init_params(RING_ENTRIES, &ring->ring, &params);
    if (ret == -EINVAL && params.flags) {
        params = (struct io_uring_params){0}; /* Linux before 6.1 */
        ret = io_uring_queue_init_params(RING_ENTRIES, &ring->ring, &params);
    }
    if (ret < 0) {
        ctx->ring_failed = true;
        g_free(ring);
        return NULL;
    }
    io_uring_ring_dontfork(&ring->ring);
    ctx->ring = ring;
    return ring;
}

void aio_ring_free(AioContext *ctx)
{
    if (ctx->ring) {
        g_assert(!ctx->ring->first && !ctx->ring->in_flight);
        io_uring_queue_exit(&ctx->ring->ring);
        g_free(ctx->ring);
        ctx->ring = NULL;
    }
}

bool aio_ring_busy(AioRing *ring)
{
    return ring->first || ring->in_flight;
}

static void prepare(struct io_uring_sqe *sqe, DiskRequest *req)
{
    bool single = req->niov == 1;
    unsigned int len = single ? req->iov->iov_len : 0;

    switch (req->op) {
    case DISK_READ:
        if (single) {
            io_uring_prep_read(sqe, req->fd, req->iov->iov_base, len, req->offset);
        } else {
            io_uring_prep_readv(sqe, req->fd, req->iov, req->niov, req->offset);
        }
        break;
    case DISK_WRITE:
        if (single) {
            io_uring_prep_write(sqe, req->fd, req->iov->iov_base, len, req->offset);
        } else {
            io_uring_prep_writev(sqe, req->fd, req->iov, req->niov, req->offset);
        }
        break;
    case DISK_FDATASYNC:
        io_uring_prep_fsync(sqe, req->fd, IORING_FSYNC_DATASYNC);
        break;
    case DISK_FALLOCATE:
        io_uring_prep_fallocate(sqe, req->fd, req->mode, req->offset, req->len);
        break;
    }
    io_uring_sqe_set_data(sqe, req);
}

/* Moves requests from the list to the submission queue, as far as there is room. */
static void fill(AioRing *ring)
{
    while (ring->first && ring->in_flight < IN_FLIGHT_MAX) {
        struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->ring);
        DiskRequest *req = ring->first;

        if (!sqe) {
            break;
        }
        prepare(sqe, req);
        ring->in_flight++;
        ring->waiting--;
        ring->first = req->next;
        if (!ring->first) {
            ring->end = &ring->first;
        }
    }
}

void coroutine_fn aio_ring_run(AioRing *ring, DiskRequest *req)
{
    int64_t batch;

    req->co = coroutine_self();
    req->next = NULL;
    *ring->end = req;
    ring->end = &req->next;
    ring->waiting++;
    batch = __atomic_load_n(&ring->ctx->polling.max_batch, __ATOMIC_RELAXED);
    if (batch && ring->waiting >= batch) {
        fill(ring);
        io_uring_submit(&ring->ring);
    }
    coroutine_yield();
}

/*
 * How long to look is found as hosts find how long to poll for a halted guest's wake-up: waited is
 * how long the last completion took, looking included.  If a little longer look would have seen it,
 * the next one is longer; if even the longest would not, shorter.
 */
static void adapt(AioContext *ctx, int64_t max, int64_t waited)
{
    int64_t grow = __atomic_load_n(&ctx->polling.grow, __ATOMIC_RELAXED);
    int64_t shrink = __atomic_load_n(&ctx->polling.shrink, __ATOMIC_RELAXED);

    if (waited > max) {
        ctx->poll_ns = shrink ? ctx->poll_ns / shrink : 0;
    } else if (waited > ctx->poll_ns) {
        if (!ctx->poll_ns) {
            ctx->poll_ns = POLL_START_NS;
        } else if (__builtin_mul_overflow(ctx->poll_ns, grow ? grow : 2, &ctx->poll_ns)) {
            ctx->poll_ns = max;
        }
        ctx->poll_ns = MIN(ctx->poll_ns, max);
    }
}

/* Whether something was completed while it looked, from begin on; timeout: as below, not 0. */
static bool poll_a_while(AioRing *ring, int64_t begin, int64_t max, int64_t timeout)
{
    bool adapts = __atomic_load_n(&ring->ctx->poll_adapts, __ATOMIC_RELAXED);
    int64_t ns = adapts ? MIN(ring->ctx->poll_ns, max) : max, end;

    if (__builtin_add_overflow(begin, timeout < 0 ? ns : MIN(timeout, ns), &end)) {
        end = INT64_MAX;
    }
    io_uring_submit_and_get_events(&ring->ring);
    while (!io_uring_cq_ready(&ring->ring) && clock_now_ns() < end) {
        io_uring_get_events(&ring->ring);
    }
    return io_uring_cq_ready(&ring->ring);
}

void aio_ring_wait(AioRing *ring, int64_t timeout)
{
    struct __kernel_timespec ts = {.tv_sec = timeout / 1000000000,
                                   .tv_nsec = timeout % 1000000000};
    struct io_uring_cqe *cqe;
    int64_t max, begin;

    if (!ring->epoll_armed) {
        struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->ring);

        if (sqe) {
            io_uring_prep_poll_add(sqe, ring->ctx->epoll_fd, POLLIN);
            io_uring_sqe_set_data(sqe, NULL);
            ring->epoll_armed = true;
        }
    }
    fill(ring);
    /* A full submission queue is emptied by one call; then the rest of the list fits. */
    while (ring->first && ring->in_flight < IN_FLIGHT_MAX && io_uring_submit(&ring->ring) > 0) {
        fill(ring);
    }
    max = timeout && ring->in_flight
              ? __atomic_load_n(&ring->ctx->polling.max_ns, __ATOMIC_RELAXED)
              : 0;
    begin = max ? clock_now_ns() : 0;
    if (max && poll_a_while(ring, begin, max, timeout)) {
        return;
    }
    if (timeout == 0 || io_uring_cq_ready(&ring->ring) || !ring->epoll_armed) {
        /* Errors (EINTR, EBUSY) leave what was not submitted for the next round. */
        io_uring_submit_and_get_events(&ring->ring);
    } else if (timeout < 0) {
        io_uring_submit_and_wait(&ring->ring, 1);
    } else {
        io_uring_submit_and_wait_timeout(&ring->ring, &cqe, 1, &ts, NULL);
    }
    if (max) {
        adapt(ring->ctx, max, clock_now_ns() - begin);
    }
}

int aio_ring_fd(AioRing *ring)
{
    return ring->ring.ring_fd;
}

bool aio_ring_done(AioRing *ring)
{
    return io_uring_cq_ready(&ring->ring) != 0;
}

bool aio_ring_dispatch(AioRing *ring)
{
    struct io_uring_cqe *cqe;
    bool progress = false, events = false;

    /*
     * One at a time: what a completion continues may use the ring again.  Not for ever: what it
     * submits there may be complete at once, and others want to be served, too.
     */
    for (int n = 0; n < 2 * IN_FLIGHT_MAX && io_uring_peek_cqe(&ring->ring, &cqe) == 0; n++) {
        DiskRequest *req = io_uring_cqe_get_data(cqe);
        int result = cqe->res;

        if (ring->waiting >= EARLY) {
            /* The disk need not wait for new work until we have been through what it has done. */
            fill(ring);
            io_uring_submit(&ring->ring);
        }
        io_uring_cqe_seen(&ring->ring, cqe);
        if (!req) {
            ring->epoll_armed = false;
            events = true;
            continue;
        }
        ring->in_flight--;
        req->result = result;
        progress = true;
        aio_co_wake(req->co);
    }
    if (events) {
        aio_epoll_wait(ring->ctx, 0);
        progress |= aio_epoll_dispatch(ring->ctx);
    }
    return progress;
}
