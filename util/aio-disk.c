/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Disk I/O for coroutines: splits large transfers, continues short ones, retries.
 * One request is one system call's worth; it goes through the io_uring of the current
 * context or, where there is none, through a worker thread.
 */
#include "aio-int.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "util/guest-memory.h"

/*
 * What one request moves at most.  The kernel copies to and from its cache without giving
 * the CPU to anybody else for as long as a request takes.
 */
enum {
    PART_READ_BYTES = 512 * 1024,
    PART_WRITE_BYTES = 128 * 1024, /* allocating takes longer than copying */
    PART_ELEMENTS = 128,
};

static int disk_request_in_worker(void *opaque)
{
    DiskRequest *req = opaque;

    guest_memory_begin(); /* which a request may be about */
    do {
        switch (req->op) {
        case DISK_READ:
            req->result = preadv(req->fd, req->iov, req->niov, req->offset);
            break;
        case DISK_WRITE:
            req->result = pwritev(req->fd, req->iov, req->niov, req->offset);
            break;
        case DISK_FDATASYNC:
            req->result = fdatasync(req->fd);
            break;
        case DISK_FALLOCATE:
            req->result = fallocate(req->fd, req->mode, req->offset, req->len);
            break;
        }
    } while (req->result < 0 && errno == EINTR);
    if (req->result < 0) {
        req->result = -errno;
    }
    guest_memory_end();
    return 0;
}

static ssize_t coroutine_fn disk_request(DiskRequest *req)
{
    AioContext *ctx = aio_current();
    AioRing *ring;

    g_assert(ctx);
    ring = aio_ring_get(ctx);
#if CONFIG_LINUX_IO_URING
    if (ring) {
        do {
            aio_ring_run(ring, req);
        } while (req->result == -EINTR);
        /* The kernel could not do it without blocking, or ran out of something. */
        if (req->result != -EAGAIN) {
            return req->result;
        }
    }
#else
    (void)ring;
#endif
    co_run_in_worker(disk_request_in_worker, req);
    return req->result;
}

bool aio_disk_busy(AioContext *ctx)
{
#if CONFIG_LINUX_IO_URING
    return ctx->ring && aio_ring_busy(ctx->ring);
#else
    return false;
#endif
}

/* Whether the sizes add up to what ssize_t and off_t hold. */
static bool transfer_valid(const struct iovec *iov, int niov, off_t offset, size_t *size)
{
    off_t end;

    *size = 0;
    for (int i = 0; i < niov; i++) {
        if (__builtin_add_overflow(*size, iov[i].iov_len, size)) {
            return false;
        }
    }
    return niov >= 0 && offset >= 0 && *size <= SSIZE_MAX &&
           !__builtin_add_overflow(offset, (off_t)*size, &end);
}

/*
 * Fills part with what comes next of iov, skip bytes of whose first element are done; at
 * most limit bytes.  Returns the number of elements and sets *size to their bytes.
 */
static int next_part(struct iovec *part, const struct iovec *iov, int niov, size_t skip,
                     size_t limit, size_t *size)
{
    int n = 0;

    *size = 0;
    for (int i = 0; i < niov && n < PART_ELEMENTS && *size < limit; i++) {
        size_t len = MIN(iov[i].iov_len - skip, limit - *size);

        if (len) {
            part[n++] = (struct iovec){.iov_base = (char *)iov[i].iov_base + skip, .iov_len = len};
            *size += len;
        }
        skip = 0;
    }
    return n;
}

/* What is left of a transfer. */
typedef struct Transfer {
    const struct iovec *iov;
    int niov;
    size_t skip; /* bytes of iov[0] that are done */
    off_t offset;
    size_t size, done, tried;
    DiskRequest req; /* the next part */
    struct iovec part[PART_ELEMENTS];
} Transfer;

static bool transfer_init(Transfer *t, DiskOp op, int fd, const struct iovec *iov, int niov,
                          off_t offset)
{
    t->iov = iov;
    t->niov = niov;
    t->skip = t->done = 0;
    t->offset = offset;
    t->req = (DiskRequest){.op = op, .fd = fd, .iov = t->part};
    return transfer_valid(iov, niov, offset, &t->size);
}

static bool transfer_next(Transfer *t)
{
    size_t limit = t->req.op == DISK_READ ? PART_READ_BYTES : PART_WRITE_BYTES;

    t->req.offset = t->offset + t->done;
    t->req.niov = next_part(t->part, t->iov, t->niov, t->skip, limit, &t->tried);
    return t->done < t->size;
}

/* Takes in a part's result.  Returns 1 to go on, 0 at the end of the file, or -errno. */
static int transfer_advance(Transfer *t)
{
    ssize_t ret = t->req.result;

    if (ret == -EINVAL && t->req.op == DISK_READ && t->done % 512) {
        return 0; /* O_DIRECT: only the end of the file leaves us at such an offset */
    }
    if (ret < 0) {
        return ret;
    }
    if (ret == 0 && t->tried) {
        return t->req.op == DISK_WRITE ? -ENOSPC : 0;
    }
    t->done += ret;
    t->skip += ret;
    while (t->niov > 0 && t->skip >= t->iov->iov_len) {
        t->skip -= t->iov->iov_len;
        t->iov++;
        t->niov--;
    }
    return 1;
}

static ssize_t coroutine_fn transfer(DiskOp op, int fd, const struct iovec *iov, int niov,
                                     off_t offset)
{
    Transfer t;
    int ret = 1;

    if (!transfer_init(&t, op, fd, iov, niov, offset)) {
        return -EINVAL;
    }
    while (ret > 0 && transfer_next(&t)) {
        disk_request(&t.req);
        ret = transfer_advance(&t);
    }
    return ret < 0 ? ret : (ssize_t)t.done;
}

static int transfer_in_worker(void *opaque)
{
    Transfer *t = opaque;
    int ret = 1;

    while (ret > 0 && transfer_next(t)) {
        disk_request_in_worker(&t->req);
        ret = transfer_advance(t);
    }
    return ret;
}

/* run: who takes a worker, of which kind. */
static ssize_t coroutine_fn transfer_all(int coroutine_fn (*run)(WorkerFunc *, void *), DiskOp op,
                                         int fd, const struct iovec *iov, int niov, off_t offset)
{
    Transfer t;
    int ret;

    if (!transfer_init(&t, op, fd, iov, niov, offset)) {
        return -EINVAL;
    }
    ret = run(transfer_in_worker, &t);
    return ret < 0 ? ret : (ssize_t)t.done;
}

ssize_t coroutine_fn co_preadv(int fd, const struct iovec *iov, int niov, off_t offset)
{
    return transfer(DISK_READ, fd, iov, niov, offset);
}

ssize_t coroutine_fn co_pwritev(int fd, const struct iovec *iov, int niov, off_t offset)
{
    return transfer(DISK_WRITE, fd, iov, niov, offset);
}

ssize_t coroutine_fn co_preadv_in_worker(int fd, const struct iovec *iov, int niov, off_t offset)
{
    return transfer_all(co_run_in_worker, DISK_READ, fd, iov, niov, offset);
}

ssize_t coroutine_fn co_pwritev_in_worker(int fd, const struct iovec *iov, int niov, off_t offset)
{
    return transfer_all(co_run_in_worker, DISK_WRITE, fd, iov, niov, offset);
}

ssize_t coroutine_fn co_pwritev_in_bulk(int fd, const struct iovec *iov, int niov, off_t offset)
{
    return transfer_all(co_run_in_bulk_worker, DISK_WRITE, fd, iov, niov, offset);
}

int coroutine_fn co_fdatasync(int fd)
{
    DiskRequest req = {.op = DISK_FDATASYNC, .fd = fd};

    return disk_request(&req);
}

int coroutine_fn co_fallocate(int fd, int mode, off_t offset, off_t len)
{
    DiskRequest req = {
        .op = DISK_FALLOCATE, .fd = fd, .mode = mode, .offset = offset, .len = len};

    return disk_request(&req);
}

typedef struct Writeback {
    int fd;
    off_t offset, len;
} Writeback;

static int start_writeback(void *opaque)
{
    const Writeback *w = opaque;

    return sync_file_range(w->fd, w->offset, w->len, SYNC_FILE_RANGE_WRITE) < 0 ? -errno : 0;
}

int coroutine_fn co_start_writeback(int fd, off_t offset, off_t len)
{
    Writeback w = {.fd = fd, .offset = offset, .len = len};

    return co_run_in_bulk_worker(start_writeback, &w);
}
