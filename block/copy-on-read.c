/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The copy-on-read driver: what is read through from a backing file is written to the image on the
 * way, in whole clusters, so that it is there the next time.  The image is bs->file, which nobody
 * else writes.  A copy keeps writes to its clusters away until it is done: it must not bring back
 * what they replace.
 */
#include <errno.h>
#include "block/block-int.h"
#include "block/copy-on-read.h"
#include "qapi/error.h"
#include "serialise.h"

#define COPY_MAX (1024 * 1024) /* bytes that are copied at once, or a cluster */
#define BUFFER_ALIGN 4096

typedef struct CopyOnRead {
    int64_t cluster;
    GQueue requests; /* BdrvSerialised: writes, and copies, which are exclusive */
} CopyOnRead;

/* In what units the image below bs allocates. */
static int64_t coroutine_fn cluster_size(BlockDriverState *bs)
{
    BdrvInfo info = { 0 };

    bs = bdrv_skip_filters(bs);
    if (bs->drv->co_info && bs->drv->co_info(bs, &info, NULL)) {
        qapi_free_ImageInfoSpecific(info.specific);
    }
    return MAX(info.cluster_size, 512);
}

static bool coroutine_fn cor_co_open(BlockDriverState *bs, const BlockdevOptions *options,
                                     GError **errp)
{
    CopyOnRead *s = bs->opaque;

    if (bs->read_only) {
        error_setg(errp, "Block node is read-only");
        return false;
    }
    s->cluster = cluster_size(bs->file->bs);
    return true;
}

/* --- Reading ----------------------------------------------------------------------------------- */

/* Writes the bytes of [start, end), which are in buf, that the image has not got itself. */
static int coroutine_fn write_missing(BlockDriverState *bs, int64_t start, int64_t end, uint8_t *buf)
{
    int ret = 0;
    int64_t n;

    for (int64_t at = start; at < end && ret >= 0; at += n) {
        IOVector part;

        ret = bdrv_co_block_status(bs->file->bs, at, end - at, &n, NULL);
        if (ret < 0 || n == 0) {
            return ret < 0 ? ret : -EIO;
        }
        if (ret & BDRV_BLOCK_ALLOCATED) {
            continue;
        }
        io_vector_init_buf(&part, buf + (at - start), n);
        ret = io_vector_is_zero(&part) ? bdrv_co_pwrite_zeroes(bs->file, at, n, 0)
                                       : bdrv_co_pwritev(bs->file, at, n, &part, 0);
    }
    return ret < 0 ? ret : 0;
}

/*
 * Copies the clusters of up to *bytes bytes at offset, which the image has not got, and puts these
 * bytes at iov_offset of iov.  *bytes: how many those were.
 */
static int coroutine_fn copy_clusters(BlockDriverState *bs, int64_t offset, int64_t *bytes,
                                      IOVector *iov, size_t iov_offset)
{
    CopyOnRead *s = bs->opaque;
    int64_t mask = s->cluster - 1, start = offset & ~mask;
    int64_t limit = MIN(offset + *bytes, start + MAX(COPY_MAX, s->cluster));
    int64_t end = MIN((limit + mask) & ~mask, bs->length);
    uint8_t *buf = g_aligned_alloc(1, end - start, BUFFER_ALIGN);
    BdrvSerialised copy;
    int ret;

    *bytes = MIN(*bytes, end - offset);
    serialise_begin(&s->requests, &copy, start, end, true);
    ret = bdrv_co_pread(bs->file, start, end - start, buf, 0);
    ret = ret < 0 ? ret : write_missing(bs, start, end, buf);
    serialise_end(&s->requests, &copy);
    if (ret >= 0) {
        io_vector_from_buf(iov, iov_offset, buf + (offset - start), *bytes);
    }
    g_aligned_free(buf);
    return ret;
}

static int coroutine_fn read_plain(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                   IOVector *iov, size_t iov_offset, int flags)
{
    IOVector part;
    int ret;

    if (iov_offset == 0 && (size_t)bytes == iov->size) {
        return bdrv_co_preadv(bs->file, offset, bytes, iov, flags);
    }
    io_vector_init(&part, iov->niov);
    io_vector_concat(&part, iov, iov_offset, bytes);
    ret = bdrv_co_preadv(bs->file, offset, bytes, &part, flags);
    io_vector_destroy(&part);
    return ret;
}

static int coroutine_fn cor_co_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                      IOVector *iov, int flags)
{
    int64_t n;

    for (int64_t done = 0; done < bytes; done += n) {
        int ret = bdrv_co_block_status(bs->file->bs, offset + done, bytes - done, &n, NULL);

        if (ret < 0 || n == 0) {
            return ret < 0 ? ret : -EIO;
        }
        ret = ret & BDRV_BLOCK_ALLOCATED ? read_plain(bs, offset + done, n, iov, done, flags)
                                         : copy_clusters(bs, offset + done, &n, iov, done);
        if (ret < 0) {
            return ret;
        }
    }
    return 0;
}

/* --- Changes ------------------------------------------------------------------------------------ */

static int coroutine_fn cor_co_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                       IOVector *iov, int flags)
{
    CopyOnRead *s = bs->opaque;
    BdrvSerialised r;
    int ret;

    serialise_begin(&s->requests, &r, offset, offset + bytes, false);
    ret = bdrv_co_pwritev(bs->file, offset, bytes, iov, flags);
    serialise_end(&s->requests, &r);
    return ret;
}

static int coroutine_fn cor_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                             int flags)
{
    CopyOnRead *s = bs->opaque;
    BdrvSerialised r;
    int ret;

    serialise_begin(&s->requests, &r, offset, offset + bytes, false);
    ret = bdrv_co_pwrite_zeroes(bs->file, offset, bytes, flags);
    serialise_end(&s->requests, &r);
    return ret;
}

static int coroutine_fn cor_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    CopyOnRead *s = bs->opaque;
    BdrvSerialised r;
    int ret;

    serialise_begin(&s->requests, &r, offset, offset + bytes, false);
    ret = bdrv_co_pdiscard(bs->file, offset, bytes);
    serialise_end(&s->requests, &r);
    return ret;
}

const BlockDriver bdrv_copy_on_read_driver = {
    .name = "copy-on-read",
    .instance_size = sizeof(CopyOnRead),
    .is_filter = true,
    .co_open = cor_co_open,
    .co_preadv = cor_co_preadv,
    .co_pwritev = cor_co_pwritev,
    .co_pwrite_zeroes = cor_co_pwrite_zeroes,
    .co_pdiscard = cor_co_pdiscard,
};

BlockDriverState *coroutine_fn copy_on_read_co_open(BlockDriverState *bs, GError **errp)
{
    BlockdevRef file = { .type = QTYPE_QSTRING, .u.reference = (char *)bdrv_node_name(bs) };
    BlockdevOptions o = {
        .driver = BLOCKDEV_DRIVER_COPY_ON_READ,
        .has_discard = true,
        .discard = bs->discard_unmap ? BLOCKDEV_DISCARD_OPTIONS_UNMAP
                                     : BLOCKDEV_DISCARD_OPTIONS_IGNORE,
        .u.copy_on_read.file = &file,
    };

    GLOBAL_STATE();
    if (bdrv_is_read_only(bs)) {
        error_setg(errp, "Can't use copy-on-read on read-only device");
        return NULL;
    }
    return bdrv_co_open(&o, bdrv_context(bs), errp);
}
