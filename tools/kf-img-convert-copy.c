/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The copying of kf-img convert.  Several coroutines copy at once; what is known to be zero is
 * not read, and not written either where the target starts out as zero.  Clusters of the target
 * are taken in the order of the disk unless the user does not care (-W): past the host's cache a
 * piece's last write begins before the next piece's first; through it they are written one after
 * the other, as several writers of one file keep each other waiting in the kernel.  Compressed
 * pieces, too, are written one after the other; workers pack several clusters of one at once all
 * the same.  With -C the host copies what lies in files, and what it cannot copy is read and
 * written.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include "kf-img-convert-int.h"

#define SECTOR 512
#define CHUNK (2 * 1024 * 1024)

/* What a worker has to copy next. */
typedef struct Piece {
    Source *source;
    int64_t offset, bytes; /* in the target */
    int status;
} Piece;

static void copy_failed(Convert *s, const char *what, int64_t offset, int ret)
{
    if (s->ret == 0) {
        img_error("error while %s at byte %" PRId64 ": %s", what, offset, strerror(-ret));
        s->ret = ret;
    }
}

/*
 * Compressed clusters are written whole: a piece that ends in the middle of one ends before
 * it, and a cluster that is not all the same is a piece of its own.
 */
static void round_piece(const Convert *s, Piece *p)
{
    int64_t mask = s->cluster - 1, end = p->offset + p->bytes;
    int64_t source_end = p->source->start + p->source->length;
    int64_t cluster_end = MIN((p->offset | mask) + 1, source_end);

    if ((p->offset & mask) || end < cluster_end) {
        if (end < cluster_end) {
            p->status = BDRV_BLOCK_DATA | BDRV_BLOCK_ALLOCATED;
        }
        p->bytes = cluster_end - p->offset;
    } else if (end != source_end) {
        p->bytes = (end & ~mask) - p->offset;
    }
}

/*
 * What the source is like from inside on, and for how many bytes.  A file is asked once for each
 * of its parts: finding the end of one may take as long as it is large.
 */
static int coroutine_fn find_status(Source *src, int64_t inside, int64_t *count)
{
    if (inside >= src->status_end) {
        src->status = bdrv_co_block_status_above(src->bs, src->base, inside,
                                                 src->length - inside, count);
        if (src->status < 0) {
            return src->status;
        }
        src->status_end = inside + *count;
    }
    *count = src->status_end - inside;
    return src->status;
}

/* Takes the next piece; false at the end or after an error. */
static bool coroutine_fn next_piece(Convert *s, Piece *p)
{
    bool found = false;

    co_mutex_lock(&s->lock);
    if (s->ret == 0 && s->next < s->total) {
        Source *src = s->sources;
        int64_t inside, count;

        while (s->next >= src->start + src->length) {
            src++;
        }
        inside = s->next - src->start;
        p->source = src;
        p->offset = s->next;
        p->status = find_status(src, inside, &count);
        if (p->status < 0 && s->salvage) {
            if (!s->quiet) {
                img_error("warning: error while reading block status at offset %" PRId64 ": %s",
                          inside, strerror(-p->status));
            }
            p->status = BDRV_BLOCK_DATA | BDRV_BLOCK_ALLOCATED;
            count = MIN(SECTOR, src->length - inside);
        }
        if (p->status < 0) {
            copy_failed(s, "reading block status", inside, p->status);
        } else {
            bool moves_data = (p->status & (BDRV_BLOCK_DATA | BDRV_BLOCK_ZERO)) ==
                                  BDRV_BLOCK_DATA || s->min_sparse == 0;

            p->bytes = moves_data ? MIN(count, CHUNK) : count;
            if (s->compressed) {
                round_piece(s, p);
            }
            s->next += p->bytes;
            found = true;
        }
    }
    co_mutex_unlock(&s->lock);
    return found;
}

static int coroutine_fn write_zeroes(Convert *s, int64_t offset, int64_t bytes)
{
    if (s->reads_zero) {
        return 0;
    }
    return blk_co_pwrite_zeroes(s->blk, offset, bytes, BDRV_REQ_MAY_UNMAP);
}

/* Length of the run from buf on that is all zero or (*zero false) has no long zeroes. */
static int64_t run_length(const uint8_t *buf, int64_t bytes, int64_t min_sparse, bool *zero)
{
    int64_t unit = MIN(min_sparse, bytes), n = unit;

    *zero = buffer_is_zero(buf, unit);
    while (n < bytes && buffer_is_zero(buf + n, MIN(unit, bytes - n)) == *zero) {
        n += MIN(unit, bytes - n);
    }
    return n;
}

/* What no cluster holds alone (sources that meet in one) is written as it is. */
static int write_flags(const Convert *s, int64_t offset, int64_t bytes)
{
    int64_t mask = s->cluster - 1, end = offset + bytes;

    return s->compressed && !(offset & mask) && (!(end & mask) || end == bdrv_length(s->bs))
               ? BDRV_REQ_WRITE_COMPRESSED : 0;
}

/* Lets the piece that begins at end have its turn. */
static void coroutine_fn pass_turn(Convert *s, int64_t end)
{
    if (s->written < end) {
        s->written = end;
        co_queue_restart_all(&s->turn);
    }
}

/* Clusters are taken when a write begins: then the next piece's may.  Packed ones at its end. */
static int coroutine_fn write_data(Convert *s, uint8_t *buf, int64_t offset, int64_t bytes)
{
    int64_t unit = s->compressed ? (s->min_sparse + s->cluster - 1) & -s->cluster : s->min_sparse;
    int ret = 0;

    while (bytes > 0 && ret == 0) {
        bool zero = false;
        int64_t n = bytes;

        IOVector iov;

        if (s->min_sparse && !s->offload) {
            n = run_length(buf, bytes, unit, &zero);
        }
        io_vector_init_buf(&iov, buf, n);
        if (n == bytes && !s->compressed && s->target_params.direct) {
            pass_turn(s, offset + n);
        }
        ret = zero ? write_zeroes(s, offset, n)
                   : blk_co_pwritev(s->blk, offset, n, &iov, write_flags(s, offset, n));
        buf += n;
        offset += n;
        bytes -= n;
    }
    return ret;
}

static void coroutine_fn wait_for_turn(Convert *s, const Piece *p)
{
    while (!s->unordered && s->written != p->offset && s->ret == 0) {
        co_queue_wait(&s->turn, NULL);
    }
}

/* Reads a piece whatever happens: sectors that cannot be read are zero. */
static void coroutine_fn salvage_piece(Convert *s, const Piece *p, uint8_t *buf)
{
    int64_t inside = p->offset - p->source->start;

    for (int64_t done = 0, n; done < p->bytes; done += n) {
        int ret;

        n = MIN(SECTOR, p->bytes - done);
        ret = blk_co_pread(p->source->blk, inside + done, n, buf + done);
        if (ret < 0) {
            memset(buf + done, 0, n);
            if (!s->quiet) {
                img_error("warning: error while reading offset %" PRId64 ": %s", inside + done,
                          strerror(-ret));
            }
        }
    }
}

static bool coroutine_fn read_piece(Convert *s, const Piece *p, uint8_t *buf)
{
    int64_t inside = p->offset - p->source->start;
    int ret;

    ret = blk_co_pread(p->source->blk, inside, p->bytes, buf);
    if (ret < 0 && s->salvage) {
        salvage_piece(s, p, buf);
    } else if (ret < 0) {
        copy_failed(s, "reading", inside, ret);
        return false;
    }
    return true;
}

/* Has the host copy a piece; -ENOTSUP where it cannot, with any part of it written. */
static int coroutine_fn offload_piece(Convert *s, const Piece *p)
{
    int64_t inside = p->offset - p->source->start;
    BdrvExtent e;
    int ret = 0;

    for (int64_t done = 0; done < p->bytes && ret >= 0; done += e.bytes) {
        ret = bdrv_co_extent(p->source->walk, inside + done, p->bytes - done, &e);
        if (ret >= 0 && ((e.status & (BDRV_BLOCK_DATA | BDRV_BLOCK_ZERO | BDRV_BLOCK_COMPRESSED |
                                      BDRV_BLOCK_OFFSET_VALID)) !=
                             (BDRV_BLOCK_DATA | BDRV_BLOCK_OFFSET_VALID) ||
                         bdrv_file(e.file))) {
            ret = -ENOTSUP;
        }
        if (ret >= 0) {
            ret = blk_co_copy_range(s->blk, p->offset + done, e.file, e.map, e.bytes);
        }
    }
    return ret;
}

/* What is data: by the host where it is to and can, else through buf. */
static int coroutine_fn copy_data(Convert *s, const Piece *p, uint8_t *buf)
{
    int ret = -ENOTSUP;

    img_rate_wait(&s->rate, p->bytes);
    if (s->offload) {
        wait_for_turn(s, p);
        ret = s->ret ? s->ret : offload_piece(s, p);
    }
    if (ret == -ENOTSUP && read_piece(s, p, buf)) {
        wait_for_turn(s, p);
        ret = s->ret ? s->ret : write_data(s, buf, p->offset, p->bytes);
    }
    return ret;
}

static void coroutine_fn copy_piece(Convert *s, const Piece *p, uint8_t *buf)
{
    int ret;

    if (p->source->base && !(p->status & BDRV_BLOCK_ALLOCATED)) {
        return; /* the target's backing file has it */
    }
    if ((p->status & BDRV_BLOCK_ZERO) && s->min_sparse) {
        wait_for_turn(s, p);
        ret = write_zeroes(s, p->offset, p->bytes);
    } else {
        ret = copy_data(s, p, buf);
    }
    if (ret < 0) {
        copy_failed(s, "writing", p->offset, ret); /* the first error is the one that is told */
    }
}

static void coroutine_fn copy_entry(void *opaque)
{
    Convert *s = opaque;
    uint8_t *buf = g_aligned_alloc(1, CHUNK, 4096);
    Piece p;

    while (next_piece(s, &p)) {
        copy_piece(s, &p, buf);
        if (s->written <= p.offset) {
            wait_for_turn(s, &p);
            pass_turn(s, p.offset + p.bytes);
        }
        s->done += p.bytes;
        img_progress(s->done * 100.0 / s->total);
    }
    g_aligned_free(buf);
    if (--s->running == 0 && s->waiter) {
        aio_co_wake(s->waiter);
    }
}

bool coroutine_fn img_convert_copy(Convert *s)
{
    co_mutex_init(&s->lock);
    co_queue_init(&s->turn);
    s->running = s->coroutines;
    for (int i = 0; i < s->coroutines; i++) {
        aio_co_schedule(main_aio_context(), coroutine_create(copy_entry, s));
    }
    s->waiter = coroutine_self();
    while (s->running) {
        coroutine_yield();
    }
    co_queue_destroy(&s->turn);
    co_mutex_destroy(&s->lock);
    if (s->ret == 0) {
        int ret = blk_co_flush(s->blk);

        if (ret < 0) {
            copy_failed(s, "flushing", s->total, ret);
        }
    }
    if (s->ret == 0) {
        img_progress(100);
    }
    return s->ret == 0;
}
