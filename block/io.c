/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The I/O path: checks a request's range, counts it in its node, aligns it to what the
 * node can do and hands it to the driver.  Runs in coroutines in the node's home context.
 * Where alignment makes a write read first (request_alignment > 1), overlapping writes
 * are put in order; elsewhere they are as unordered as on a real disk.
 */
#include <string.h>
#include "block/debug.h"
#include "block/dirty-bitmap.h"
#include "block/trace.h"
#include "graph-int.h"
#include "qapi/error.h"
#include "serialise.h"

#define BOUNCE_MAX (1024 * 1024)
#define ZERO_CHUNK (1024 * 1024)
/* O_DIRECT wants buffers aligned; a page satisfies every device. */
#define BUFFER_ALIGN 4096

/* --- Serialising ------------------------------------------------------------------------ */

/* For a write, widened to whole units; exclusive: it reads, changes and writes back. */
static void coroutine_fn order_write(BlockDriverState *bs, BdrvSerialised *w, int64_t offset,
                                     int64_t bytes, bool exclusive)
{
    int64_t mask = bs->request_alignment - 1, end = offset + bytes;

    if (end <= INT64_MAX - mask) {
        end = (end + mask) & ~mask;
    }
    serialise_begin(&bs->serialised, w, offset & ~mask, end, exclusive);
}

/* --- Range and alignment ---------------------------------------------------------------- */

static bool is_aligned(BlockDriverState *bs, int64_t offset, int64_t bytes, const IOVector *iov)
{
    int64_t mask = bs->request_alignment - 1;

    if (!mask) {
        return true;
    }
    if ((offset | bytes) & mask) {
        return false;
    }
    for (int i = 0; iov && i < iov->niov; i++) {
        if (((uintptr_t)iov->iov[i].iov_base | iov->iov[i].iov_len) & mask) {
            return false;
        }
    }
    return true;
}

/* A format's or filter's file may be longer than what the parent sees of it. */
static bool may_grow(const BdrvChild *child)
{
    return child->parent && (child->role == BDRV_CHILD_FILE || child->role == BDRV_CHILD_DATA);
}

static int check_write(BdrvChild *child, int64_t offset, int64_t bytes)
{
    if (!bdrv_range_ok(offset, bytes)) {
        return -EIO;
    }
    if (child->bs->read_only || child->bs->inactive || !child->writable) {
        return -EPERM;
    }
    if (offset + bytes > child->bs->length && !may_grow(child)) {
        return -EIO;
    }
    return 0;
}

static int coroutine_fn driver_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                      IOVector *iov, int flags)
{
    if (bs->drv->co_preadv) {
        return bs->drv->co_preadv(bs, offset, bytes, iov, flags);
    }
    return bs->file ? bdrv_co_preadv(bs->file, offset, bytes, iov, flags) : -ENOTSUP;
}

static int coroutine_fn driver_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                       IOVector *iov, int flags)
{
    if (bs->drv->co_pwritev) {
        return bs->drv->co_pwritev(bs, offset, bytes, iov, flags);
    }
    return bs->file ? bdrv_co_pwritev(bs->file, offset, bytes, iov, flags) : -ENOTSUP;
}

/* --- Reading ----------------------------------------------------------------------------- */

static int coroutine_fn bounced_read(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                     IOVector *iov, int flags)
{
    int64_t align = bs->request_alignment;
    int64_t room = MIN(bytes + 2 * align, BOUNCE_MAX);
    uint8_t *buf = g_aligned_alloc(1, room, MAX(BUFFER_ALIGN, align));
    int ret = 0;

    for (int64_t done = 0; done < bytes && ret == 0;) {
        int64_t start = (offset + done) & ~(align - 1);
        int64_t skip = offset + done - start;
        int64_t n = MIN(bytes - done, room - skip);
        int64_t len = (skip + n + align - 1) & ~(align - 1);
        IOVector part;

        if (len > room) {
            n -= len - room;
            len = room;
        }
        io_vector_init_buf(&part, buf, len);
        ret = driver_preadv(bs, start, len, &part, flags);
        if (ret == 0) {
            io_vector_from_buf(iov, done, buf + skip, n);
        }
        done += n;
    }
    g_aligned_free(buf);
    return ret;
}

int coroutine_fn bdrv_co_preadv(BdrvChild *child, int64_t offset, int64_t bytes, IOVector *iov,
                                int flags)
{
    BlockDriverState *bs;
    int64_t past = 0;
    IOVector head;
    int ret = 0;

    g_assert(iov->size == (size_t)bytes);
    if (!bdrv_range_ok(offset, bytes)) {
        return -EIO;
    }
    if (bytes == 0) {
        return 0;
    }
    bs = bdrv_child_request_begin(child);
    trace_bdrv_co_preadv(bs, offset, bytes, flags);
    if (offset + bytes > bs->length) {
        /* The last cluster of an image may be cut short: what is missing is zero. */
        if (!may_grow(child) || offset >= bs->length) {
            bdrv_request_end(bs);
            return -EIO;
        }
        past = offset + bytes - bs->length;
        io_vector_memset(iov, bytes - past, 0, past);
        io_vector_init(&head, iov->niov);
        io_vector_concat(&head, iov, 0, bytes - past);
        iov = &head;
        bytes -= past;
    }
    if (is_aligned(bs, offset, bytes, iov)) {
        ret = driver_preadv(bs, offset, bytes, iov, flags);
    } else {
        ret = bounced_read(bs, offset, bytes, iov, flags);
    }
    bdrv_request_end(bs);
    if (past) {
        io_vector_destroy(&head);
    }
    return ret;
}

int64_t bdrv_aside_alignment(BlockDriverState *bs)
{
    int64_t align = 1;

    for (; bs && bs->drv->co_preadv_aside; bs = bs->file ? bs->file->bs : NULL) {
        align = MAX(align, bs->request_alignment);
        if (!bs->file) {
            return align;
        }
    }
    return 0;
}

int coroutine_fn bdrv_co_preadv_aside(BlockDriverState *bs, int64_t offset, IOVector *iov)
{
    int64_t length = __atomic_load_n(&bs->length, __ATOMIC_RELAXED);

    /* As in bdrv_co_preadv() the last cluster may be cut short, but must begin somewhere. */
    if (!bdrv_range_ok(offset, iov->size) || offset >= length) {
        return -EIO;
    }
    return bs->drv->co_preadv_aside(bs, offset, iov->size, iov);
}

int coroutine_fn bdrv_co_pread(BdrvChild *child, int64_t offset, int64_t bytes, void *buf,
                               int flags)
{
    IOVector iov;

    io_vector_init_buf(&iov, buf, bytes);
    return bdrv_co_preadv(child, offset, bytes, &iov, flags);
}

int coroutine_fn bdrv_co_pread_inside(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                      void *buf)
{
    IOVector iov;

    g_assert(bs->in_flight);
    io_vector_init_buf(&iov, buf, bytes);
    return is_aligned(bs, offset, bytes, &iov) ? driver_preadv(bs, offset, bytes, &iov, 0)
                                               : bounced_read(bs, offset, bytes, &iov, 0);
}

/* --- Writing ------------------------------------------------------------------------------ */

static void coroutine_fn debug_event(BlockDriverState *bs, BlkdebugEvent event)
{
    if (bs->drv->co_debug_event) {
        bs->drv->co_debug_event(bs, event);
    }
}

bool bdrv_can_compress(BlockDriverState *bs)
{
    return bdrv_skip_filters(bs)->drv->writes_compressed;
}

bool bdrv_new_reads_zero(BlockDriverState *bs)
{
    if (bs->backing) {
        return false;
    }
    if (bs->data_file) {
        return bdrv_new_reads_zero(bs->data_file->bs);
    }
    if (bs->drv->supports_backing) {
        return true; /* what is not mapped is zero */
    }
    return bs->file ? bdrv_new_reads_zero(bs->file->bs) : bs->drv == &bdrv_file_driver;
}

/* Shows a range that a request is going to write to those who must see it first. */
static void coroutine_fn before_write(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    GList *next;

    for (GList *l = bs->before_write.head; l; l = next) {
        BdrvBeforeWrite *b = l->data;

        next = l->next; /* the list changes while the node is drained only */
        b->fn(b->opaque, offset, bytes);
    }
}

static void note_written(BlockDriverState *bs, int64_t end)
{
    if (end > bs->length) {
        bdrv_set_length(bs, end);
    }
}

/* What a piece of one unit holds now, for a write to a part of it: zeroes behind the end. */
static int coroutine_fn read_unit(BlockDriverState *bs, int64_t offset, void *buf)
{
    int64_t align = bs->request_alignment;
    IOVector part;

    if (offset >= bs->length) {
        memset(buf, 0, align);
        return 0;
    }
    io_vector_init_buf(&part, buf, align);
    return driver_preadv(bs, offset, align, &part, 0);
}

/* Writes an unaligned range in aligned pieces; the caller has serialised it. */
static int coroutine_fn bounced_write(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                      IOVector *iov, int flags)
{
    int64_t align = bs->request_alignment;
    int64_t room = MIN(bytes + 2 * align, BOUNCE_MAX);
    uint8_t *buf = g_aligned_alloc(1, room, MAX(BUFFER_ALIGN, align));
    int ret = 0;

    for (int64_t done = 0; done < bytes && ret == 0;) {
        int64_t start = (offset + done) & ~(align - 1);
        int64_t skip = offset + done - start;
        int64_t n = MIN(bytes - done, room - skip);
        int64_t len = (skip + n + align - 1) & ~(align - 1);
        IOVector part;

        if (len > room) {
            n -= len - room;
            len = room;
        }
        if (skip) {
            debug_event(bs, BLKDEBUG_EVENT_PWRITEV_RMW_HEAD);
            ret = read_unit(bs, start, buf);
            debug_event(bs, BLKDEBUG_EVENT_PWRITEV_RMW_AFTER_HEAD);
        }
        if (ret == 0 && skip + n < len && (len > align || !skip)) {
            debug_event(bs, BLKDEBUG_EVENT_PWRITEV_RMW_TAIL);
            ret = read_unit(bs, start + len - align, buf + len - align);
            debug_event(bs, BLKDEBUG_EVENT_PWRITEV_RMW_AFTER_TAIL);
        }
        if (ret == 0) {
            debug_event(bs, BLKDEBUG_EVENT_PWRITEV);
            io_vector_to_buf(iov, done, buf + skip, n);
            io_vector_init_buf(&part, buf, len);
            ret = driver_pwritev(bs, start, len, &part, flags);
        }
        done += n;
    }
    g_aligned_free(buf);
    return ret;
}

/* Inside a counted request, range and rights checked. */
static int coroutine_fn do_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                   IOVector *iov, int flags)
{
    bool aligned = is_aligned(bs, offset, bytes, iov);
    BdrvSerialised w;
    int ret;

    if (bs->request_alignment > 1) {
        order_write(bs, &w, offset, bytes, !aligned);
    }
    if (aligned) {
        debug_event(bs, BLKDEBUG_EVENT_PWRITEV);
        ret = driver_pwritev(bs, offset, bytes, iov, flags);
    } else {
        ret = bounced_write(bs, offset, bytes, iov, flags);
    }
    if (bs->request_alignment > 1) {
        serialise_end(&bs->serialised, &w);
    }
    debug_event(bs, BLKDEBUG_EVENT_PWRITEV_DONE);
    if (ret == 0) {
        note_written(bs, offset + bytes);
    }
    return ret;
}

static int coroutine_fn write_zero_buffers(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    int64_t room = MIN(bytes, ZERO_CHUNK);
    void *buf = g_aligned_alloc0(1, MAX(room, 1), BUFFER_ALIGN);
    int ret = 0;

    while (bytes > 0 && ret == 0) {
        int64_t n = MIN(bytes, room);
        IOVector iov;

        io_vector_init_buf(&iov, buf, n);
        ret = do_pwritev(bs, offset, n, &iov, 0);
        offset += n;
        bytes -= n;
    }
    g_aligned_free(buf);
    return ret;
}

static int coroutine_fn do_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                         int flags)
{
    BdrvSerialised w;
    int ret = -ENOTSUP;

    if (!bs->discard_unmap) {
        flags &= ~BDRV_REQ_MAY_UNMAP;
    }
    if (bs->drv->co_pwrite_zeroes || (bs->drv->is_filter && bs->file)) {
        if (bs->request_alignment > 1) {
            order_write(bs, &w, offset, bytes, !is_aligned(bs, offset, bytes, NULL));
        }
        debug_event(bs, BLKDEBUG_EVENT_PWRITEV_ZERO);
        if (bs->drv->co_pwrite_zeroes) {
            ret = bs->drv->co_pwrite_zeroes(bs, offset, bytes, flags);
        } else {
            ret = bdrv_co_pwrite_zeroes(bs->file, offset, bytes, flags);
        }
        if (bs->request_alignment > 1) {
            serialise_end(&bs->serialised, &w);
        }
        if (ret == 0) {
            note_written(bs, offset + bytes);
        }
    }
    if (ret == -ENOTSUP && !(flags & BDRV_REQ_NO_FALLBACK)) {
        ret = write_zero_buffers(bs, offset, bytes);
    }
    return ret;
}

int coroutine_fn bdrv_co_pwritev(BdrvChild *child, int64_t offset, int64_t bytes, IOVector *iov,
                                 int flags)
{
    BlockDriverState *bs;
    int ret;

    g_assert(iov->size == (size_t)bytes);
    bs = bdrv_child_request_begin(child);
    trace_bdrv_co_pwritev(bs, offset, bytes, flags);
    ret = check_write(child, offset, bytes);
    if (ret == 0 && (flags & BDRV_REQ_WRITE_COMPRESSED) && !bdrv_can_compress(bs)) {
        ret = -ENOTSUP;
    }
    if (ret == 0 && bytes > 0) {
        before_write(bs, offset, bytes);
        if (bs->detect_zeroes != BLOCKDEV_DETECT_ZEROES_OPTIONS_OFF && io_vector_is_zero(iov)) {
            bool unmap = bs->detect_zeroes == BLOCKDEV_DETECT_ZEROES_OPTIONS_UNMAP;
            ret = do_pwrite_zeroes(bs, offset, bytes, unmap ? BDRV_REQ_MAY_UNMAP : 0);
        } else {
            ret = do_pwritev(bs, offset, bytes, iov, flags & ~BDRV_REQ_FUA);
        }
        bdrv_dirty_mark(bs, offset, bytes); /* also a part that was written before an error */
    }
    bdrv_request_end(bs);
    if (ret == 0 && (flags & BDRV_REQ_FUA)) {
        ret = bdrv_co_flush(bs);
    }
    return ret;
}

int coroutine_fn bdrv_co_pwrite(BdrvChild *child, int64_t offset, int64_t bytes, const void *buf,
                                int flags)
{
    IOVector iov;

    io_vector_init_buf(&iov, (void *)buf, bytes);
    return bdrv_co_pwritev(child, offset, bytes, &iov, flags);
}

int coroutine_fn bdrv_co_pwrite_zeroes(BdrvChild *child, int64_t offset, int64_t bytes, int flags)
{
    BlockDriverState *bs;
    int ret;

    bs = bdrv_child_request_begin(child);
    trace_bdrv_co_pwrite_zeroes(bs, offset, bytes, flags);
    ret = check_write(child, offset, bytes);
    if (ret == 0 && bytes > 0) {
        before_write(bs, offset, bytes);
        ret = do_pwrite_zeroes(bs, offset, bytes, flags & ~BDRV_REQ_FUA);
        bdrv_dirty_mark(bs, offset, bytes);
    }
    bdrv_request_end(bs);
    if (ret == 0 && (flags & BDRV_REQ_FUA)) {
        ret = bdrv_co_flush(bs);
    }
    return ret;
}

int coroutine_fn bdrv_co_copy_range(BdrvChild *child, int64_t offset, BlockDriverState *from,
                                    int64_t from_offset, int64_t bytes)
{
    BlockDriverState *bs = bdrv_child_request_begin(child);
    int ret = check_write(child, offset, bytes);

    IO_CODE(from);
    trace_bdrv_co_copy_range(bs, offset, from, from_offset, bytes);
    if (ret == 0 && (!bs->drv->co_copy_range || bs->request_alignment > 1 ||
                     bs->detect_zeroes != BLOCKDEV_DETECT_ZEROES_OPTIONS_OFF)) {
        ret = -ENOTSUP;
    }
    if (ret == 0 && bytes > 0) {
        before_write(bs, offset, bytes);
        bdrv_request_begin(from);
        ret = bs->drv->co_copy_range(bs, offset, from, from_offset, bytes);
        bdrv_request_end(from);
        bdrv_dirty_mark(bs, offset, bytes);
        if (ret == 0) {
            note_written(bs, offset + bytes);
        }
    }
    bdrv_request_end(bs);
    return ret;
}

/* Discards are a hint: a part that alignment forbids is left, a driver without them too. */
int coroutine_fn bdrv_co_pdiscard(BdrvChild *child, int64_t offset, int64_t bytes)
{
    BlockDriverState *bs;
    int ret;

    bs = bdrv_child_request_begin(child);
    trace_bdrv_co_pdiscard(bs, offset, bytes);
    ret = check_write(child, offset, bytes);
    if (ret == 0 && bs->discard_unmap) {
        int64_t mask = bs->request_alignment - 1;
        int64_t end = MIN(offset + bytes, bs->length);
        int64_t start = (offset + mask) & ~mask;

        end = end == bs->length ? end : end & ~mask;
        if (start < end) {
            BdrvSerialised w;

            before_write(bs, start, end - start);
            if (mask) {
                order_write(bs, &w, start, end - start, false);
            }
            ret = bs->drv->co_pdiscard ? bs->drv->co_pdiscard(bs, start, end - start)
                  : bs->drv->is_filter && bs->file
                      ? bdrv_co_pdiscard(bs->file, start, end - start)
                      : 0;
            if (mask) {
                serialise_end(&bs->serialised, &w);
            }
            bdrv_dirty_mark(bs, start, end - start);
        }
        ret = ret == -ENOTSUP ? 0 : ret;
    }
    bdrv_request_end(bs);
    return ret;
}

/* Inside a counted request, which ends here. */
static int coroutine_fn do_flush(BlockDriverState *bs)
{
    int ret = 0;

    trace_bdrv_co_flush(bs);
    if (bs->drv->co_flush) {
        ret = bs->drv->co_flush(bs);
    } else if (bs->file) {
        ret = bdrv_co_flush(bs->file->bs);
    }
    bdrv_request_end(bs);
    return ret;
}

int coroutine_fn bdrv_co_flush(BlockDriverState *bs)
{
    bdrv_request_begin(bs);
    return do_flush(bs);
}

int coroutine_fn bdrv_co_flush_child(BdrvChild *child)
{
    return do_flush(bdrv_child_request_begin(child));
}

/* --- Status --------------------------------------------------------------------------------- */

int coroutine_fn bdrv_co_block_status_inside(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                             int64_t *pnum, int64_t *map)
{
    int ret;

    *map = 0;
    if (bs->drv->co_block_status) {
        ret = bs->drv->co_block_status(bs, offset, bytes, pnum, map);
    } else if (bs->drv->is_filter && bs->file) {
        ret = bdrv_co_block_status(bs->file->bs, offset, bytes, pnum, map);
    } else {
        *pnum = bytes;
        ret = BDRV_BLOCK_DATA | BDRV_BLOCK_ALLOCATED;
    }
    if (ret >= 0) {
        g_assert(*pnum > 0 && *pnum <= bytes);
    }
    return ret;
}

int coroutine_fn bdrv_co_block_status(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                      int64_t *pnum, int64_t *map)
{
    int64_t dummy, where = 0;
    int ret;

    pnum = pnum ? pnum : &dummy;
    *pnum = 0;
    if (!bdrv_range_ok(offset, bytes)) {
        return -EIO;
    }
    if (offset >= bs->length || bytes == 0) {
        return 0;
    }
    bytes = MIN(bytes, bs->length - offset);
    bdrv_request_begin(bs);
    ret = bdrv_co_block_status_inside(bs, offset, bytes, pnum, &where);
    bdrv_request_end(bs);
    if (map) {
        *map = where;
    }
    return ret;
}

/* inside: within a request on bs, in which the range lies. */
static int coroutine_fn status_above(BlockDriverState *bs, BlockDriverState *base, bool inside,
                                     int64_t offset, int64_t bytes, int64_t *pnum)
{
    int64_t map;
    int ret = 0;

    *pnum = 0;
    for (BlockDriverState *p = bs, *below; p && p != base; p = below) {
        if (p != bs && offset >= p->length) {
            /* A short backing file: the overlay reads zeroes behind its end. */
            *pnum = bytes;
            return BDRV_BLOCK_ZERO | BDRV_BLOCK_ALLOCATED;
        }
        ret = inside && p == bs ? bdrv_co_block_status_inside(p, offset, bytes, pnum, &map)
                                : bdrv_co_block_status(p, offset, bytes, pnum, &map);
        if (ret < 0 || *pnum == 0 || (ret & BDRV_BLOCK_ALLOCATED)) {
            return ret;
        }
        bytes = *pnum;
        below = bdrv_below_content(p);
        if (!below) {
            return ret | BDRV_BLOCK_ZERO;
        }
        if (below != base && offset < below->length) {
            bytes = MIN(bytes, below->length - offset);
        }
        *pnum = bytes;
    }
    return ret & ~(BDRV_BLOCK_ZERO | BDRV_BLOCK_DATA);
}

int coroutine_fn bdrv_co_block_status_above(BlockDriverState *bs, BlockDriverState *base,
                                            int64_t offset, int64_t bytes, int64_t *pnum)
{
    return status_above(bs, base, false, offset, bytes, pnum);
}

int coroutine_fn bdrv_co_block_status_above_inside(BlockDriverState *bs, int64_t offset,
                                                   int64_t bytes, int64_t *pnum)
{
    return status_above(bs, NULL, true, offset, bytes, pnum);
}
