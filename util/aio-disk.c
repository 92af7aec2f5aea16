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
        case DISK_WRITEBACK:
            req->result = sync_file_range(req->fd, req->offset, req->len, SYNC_FILE_RANGE_WRITE);
            break;
        }
    } while (req->result < 0 && errno == EINTR);
    if (req->result < 0) {
        req->result = -errno;
    }
    return 0;
}

static ssize_t coroutine_fn disk_request(DiskRequest *req, bool in_worker)
{
    AioContext *ctx = aio_current();
    AioRing *ring;

    g_assert(ctx);
    ring = in_worker ? NULL : aio_ring_get(ctx);
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

static ssize_t coroutine_fn transfer(DiskOp op, bool in_worker, int fd, const struct iovec *iov,
                                     int niov, off_t offset)
{
    size_t limit = op == DISK_READ ? PART_READ_BYTES : PART_WRITE_BYTES;
    size_t size, done = 0;
    size_t skip = 0; /* bytes of iov[0] that are done */

    if (!transfer_valid(iov, niov, offset, &size)) {
        return -EINVAL;
    }
    while (done < size) {
        struct iovec part[PART_ELEMENTS];
        DiskRequest req = {.op = op, .fd = fd, .offset = offset + done, .iov = part};
        size_t tried;
        ssize_t ret;

        req.niov = next_part(part, iov, niov, skip, limit, &tried);
        ret = disk_request(&req, in_worker);
        if (ret == -EINVAL && op == DISK_READ && done % 512) {
            /* O_DIRECT: only the end of the file leaves us at such an offset. */
            break;
        }
        if (ret < 0) {
            return ret;
        }
        if (ret == 0 && tried) {
            if (op == DISK_WRITE) {
                return -ENOSPC;
            }
            break; /* end of file */
        }
        done += ret;
        skip += ret;
        while (niov > 0 && skip >= iov->iov_len) {
            skip -= iov->iov_len;
            iov++;
            niov--;
        }
    }
    return done;
}

ssize_t coroutine_fn co_preadv(int fd, const struct iovec *iov, int niov, off_t offset)
{
    return transfer(DISK_READ, false, fd, iov, niov, offset);
}

ssize_t coroutine_fn co_pwritev(int fd, const struct iovec *iov, int niov, off_t offset)
{
    return transfer(DISK_WRITE, false, fd, iov, niov, offset);
}

ssize_t coroutine_fn co_preadv_in_worker(int fd, const struct iovec *iov, int niov, off_t offset)
{
    return transfer(DISK_READ, true, fd, iov, niov, offset);
}

ssize_t coroutine_fn co_pwritev_in_worker(int fd, const struct iovec *iov, int niov, off_t offset)
{
    return transfer(DISK_WRITE, true, fd, iov, niov, offset);
}

int coroutine_fn co_fdatasync(int fd)
{
    DiskRequest req = {.op = DISK_FDATASYNC, .fd = fd};

    return disk_request(&req, false);
}

int coroutine_fn co_fallocate(int fd, int mode, off_t offset, off_t len)
{
    DiskRequest req = {
        .op = DISK_FALLOCATE, .fd = fd, .mode = mode, .offset = offset, .len = len};

    return disk_request(&req, false);
}

int coroutine_fn co_start_writeback(int fd, off_t offset, off_t len)
{
    DiskRequest req = {.op = DISK_WRITEBACK, .fd = fd, .offset = offset, .len = len};

    return disk_request(&req, false);
}
