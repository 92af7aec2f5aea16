/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The null-co and null-aio drivers: a disk that takes every write and keeps nothing, to measure
 * what lies above it.  Reads leave the buffer alone, or fill it with zeroes if read-zeroes says
 * so.  A request takes latency-ns.  The two are the same thing here.
 */
#include <errno.h>
#include <inttypes.h>
#include "block/block-int.h"
#include "qapi/error.h"

#define DEFAULT_SIZE (1LL << 30)

typedef struct NullState {
    int64_t latency_ns;
    bool read_zeroes;
} NullState;

static bool open_null(BlockDriverState *bs, const BlockdevOptionsNull *o, GError **errp)
{
    NullState *s = bs->opaque;
    int64_t size = o->has_size ? o->size : DEFAULT_SIZE;

    if (size < 0) {
        error_setg(errp, "Parameter 'size' expects a non-negative number below 2^64");
        return false;
    }
    if (o->has_latency_ns && o->latency_ns > INT64_MAX) {
        error_setg(errp, "latency-ns is invalid");
        return false;
    }
    s->latency_ns = o->has_latency_ns ? o->latency_ns : 0;
    /* What an image asks for shows nobody what lay in the buffer before. */
    s->read_zeroes = bs->by_image || (o->has_read_zeroes && o->read_zeroes);
    bs->filename = g_strdup_printf("%s://", bs->drv->name);
    bdrv_set_length(bs, size);
    return true;
}

static bool coroutine_fn null_co_open(BlockDriverState *bs, const BlockdevOptions *options,
                                      GError **errp)
{
    return open_null(bs, options->driver == BLOCKDEV_DRIVER_NULL_AIO ? &options->u.null_aio
                                                                     : &options->u.null_co, errp);
}

static int coroutine_fn pass_time(BlockDriverState *bs)
{
    NullState *s = bs->opaque;

    if (s->latency_ns) {
        co_sleep_ns(s->latency_ns);
    }
    return 0;
}

static int coroutine_fn null_co_preadv_aside(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                             IOVector *iov)
{
    NullState *s = bs->opaque;

    if (s->read_zeroes) {
        io_vector_memset(iov, 0, 0, bytes);
    }
    return pass_time(bs);
}

static int coroutine_fn null_co_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                       IOVector *iov, int flags)
{
    return null_co_preadv_aside(bs, offset, bytes, iov);
}

static int coroutine_fn null_co_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                        IOVector *iov, int flags)
{
    return pass_time(bs);
}

static int coroutine_fn null_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                              int flags)
{
    return pass_time(bs);
}

static int coroutine_fn null_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    return pass_time(bs);
}

static int coroutine_fn null_co_flush(BlockDriverState *bs)
{
    return pass_time(bs);
}

static int coroutine_fn null_co_block_status(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                             int64_t *pnum, int64_t *map)
{
    NullState *s = bs->opaque;

    *pnum = bytes;
    *map = offset;
    return BDRV_BLOCK_OFFSET_VALID |
           (s->read_zeroes ? BDRV_BLOCK_ZERO | BDRV_BLOCK_ALLOCATED : BDRV_BLOCK_DATA);
}

static int64_t coroutine_fn null_co_allocated_size(BlockDriverState *bs)
{
    return 0;
}

const BlockDriver bdrv_null_co_driver = {
    .name = "null-co",
    .instance_size = sizeof(NullState),
    .co_open = null_co_open,
    .co_preadv = null_co_preadv,
    .co_preadv_aside = null_co_preadv_aside,
    .co_pwritev = null_co_pwritev,
    .co_pwrite_zeroes = null_co_pwrite_zeroes,
    .co_pdiscard = null_co_pdiscard,
    .co_flush = null_co_flush,
    .co_block_status = null_co_block_status,
    .co_allocated_size = null_co_allocated_size,
};

const BlockDriver bdrv_null_aio_driver = {
    .name = "null-aio",
    .instance_size = sizeof(NullState),
    .co_open = null_co_open,
    .co_preadv = null_co_preadv,
    .co_preadv_aside = null_co_preadv_aside,
    .co_pwritev = null_co_pwritev,
    .co_pwrite_zeroes = null_co_pwrite_zeroes,
    .co_pdiscard = null_co_pdiscard,
    .co_flush = null_co_flush,
    .co_block_status = null_co_block_status,
    .co_allocated_size = null_co_allocated_size,
};
