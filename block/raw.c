/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The raw format: the guest's bytes are the file's bytes, optionally a window of it.  A
 * raw image that was recognised only because nothing else matched must not be turned into
 * another format by its guest, so writes to its first sector are looked at.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include "block/block-int.h"
#include "qapi/error.h"

#define SECTOR 512

typedef struct RawState {
    int64_t offset;
    bool has_size;
} RawState;

static int raw_probe(const uint8_t *buf, size_t len, const char *filename)
{
    return 1; /* less sure than anybody else */
}

static bool coroutine_fn raw_co_open(BlockDriverState *bs, const BlockdevOptions *options,
                                     GError **errp)
{
    const BlockdevOptionsRaw *o = &options->u.raw;
    RawState *s = bs->opaque;
    int64_t real = bdrv_length(bs->file->bs);
    int64_t size;

    s->offset = o->has_offset ? o->offset : 0;
    s->has_size = o->has_size;
    if (s->offset < 0 || (o->has_size && o->size < 0)) {
        error_setg(errp, "offset and size of a raw node cannot be negative");
        return false;
    }
    if (s->offset > real) {
        error_setg(errp, "Offset (%" PRId64 ") cannot be greater than size of the containing "
                   "file (%" PRId64 ")", s->offset, real);
        return false;
    }
    size = o->has_size ? o->size : real - s->offset;
    if (o->has_size && real - s->offset < size) {
        error_setg(errp, "The sum of offset (%" PRId64 ") and size (%" PRId64 ") has to be "
                   "smaller or equal to the  actual size of the containing file (%" PRId64 ")",
                   s->offset, size, real);
        return false;
    }
    if (o->has_size && size % SECTOR) {
        error_setg(errp, "Specified size is not multiple of %d", SECTOR);
        return false;
    }
    if (s->offset || s->has_size) {
        const char *file = bdrv_filename(bs->file->bs);
        g_autofree char *escaped = g_strescape(file, NULL);
        GString *name = g_string_new("json:{\"driver\": \"raw\"");

        g_string_append_printf(name, ", \"offset\": %" PRId64, s->offset);
        if (s->has_size) {
            g_string_append_printf(name, ", \"size\": %" PRId64, size);
        }
        g_string_append_printf(name, ", \"file\": {\"driver\": \"file\", \"filename\": \"%s\"}}",
                               escaped);
        bs->filename = g_string_free(name, FALSE);
    }
    bdrv_set_length(bs, (size + SECTOR - 1) / SECTOR * SECTOR);
    return true;
}

static int coroutine_fn raw_co_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                      IOVector *iov, int flags)
{
    RawState *s = bs->opaque;

    return bdrv_co_preadv(bs->file, offset + s->offset, bytes, iov, flags);
}

static int coroutine_fn raw_co_preadv_aside(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                            IOVector *iov)
{
    RawState *s = bs->opaque;

    return bdrv_co_preadv_aside(bs->file->bs, offset + s->offset, iov);
}

/* Whether the first sector, changed by this write, would look like another format. */
static int coroutine_fn check_probed_write(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                           IOVector *iov)
{
    RawState *s = bs->opaque;
    uint8_t sector[SECTOR] = { 0 };
    int ret;

    ret = bdrv_co_pread(bs->file, s->offset, SECTOR, sector, 0);
    if (ret < 0) {
        return ret;
    }
    io_vector_to_buf(iov, 0, sector + offset, MIN(bytes, SECTOR - offset));
    return bdrv_probe(sector, SECTOR, "") == bs->drv ? 0 : -EPERM;
}

static int coroutine_fn raw_co_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                       IOVector *iov, int flags)
{
    RawState *s = bs->opaque;

    if (bs->probed && offset < SECTOR && bs->length >= SECTOR) {
        int ret = check_probed_write(bs, offset, bytes, iov);
        if (ret < 0) {
            return ret;
        }
    }
    return bdrv_co_pwritev(bs->file, offset + s->offset, bytes, iov, flags);
}

static int coroutine_fn raw_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                             int flags)
{
    RawState *s = bs->opaque;

    return bdrv_co_pwrite_zeroes(bs->file, offset + s->offset, bytes, flags);
}

static int coroutine_fn raw_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    RawState *s = bs->opaque;

    return bdrv_co_pdiscard(bs->file, offset + s->offset, bytes);
}

static int coroutine_fn raw_co_copy_range(BlockDriverState *bs, int64_t offset,
                                          BlockDriverState *from, int64_t from_offset,
                                          int64_t bytes)
{
    RawState *s = bs->opaque;

    if (bs->probed && offset < SECTOR) {
        return -ENOTSUP; /* what goes there must be looked at */
    }
    return bdrv_co_copy_range(bs->file, offset + s->offset, from, from_offset, bytes);
}

static bool coroutine_fn raw_co_truncate(BlockDriverState *bs, int64_t length, bool exact,
                                         PreallocMode prealloc, GError **errp)
{
    RawState *s = bs->opaque;

    if (s->has_size) {
        error_setg(errp, "Cannot resize fixed-size raw disks");
        return false;
    }
    if (length > INT64_MAX - s->offset) {
        error_setg(errp, "Disk size too large for the chosen offset");
        return false;
    }
    return bdrv_co_truncate_prealloc(bs->file, length + s->offset, exact, prealloc, errp);
}

static int coroutine_fn raw_co_block_status(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                            int64_t *pnum, int64_t *map)
{
    RawState *s = bs->opaque;
    BlockDriverState *file = bs->file->bs;
    /* The file may be an overlay: what it has below counts, too. */
    int ret = bdrv_co_block_status_above(file, NULL, offset + s->offset, bytes, pnum);

    *map = offset + s->offset;
    if (ret >= 0 && *pnum == 0) { /* the file shrank under us: nothing there */
        *pnum = bytes;
        return BDRV_BLOCK_ZERO | BDRV_BLOCK_ALLOCATED;
    }
    return ret < 0 ? ret : ret | BDRV_BLOCK_OFFSET_VALID | BDRV_BLOCK_ALLOCATED;
}

static bool coroutine_fn raw_co_create(const BdrvCreateParams *params, AioContext *ctx,
                                       GError **errp)
{
    return bdrv_file_driver.co_create(params, ctx, errp);
}

static bool coroutine_fn raw_co_measure(const BdrvCreateParams *params, BlockDriverState *source,
                                        BdrvMeasure *result, GError **errp)
{
    result->required = result->fully_allocated = params->size;
    return true;
}

const BlockDriver bdrv_raw_driver = {
    .name = "raw",
    .instance_size = sizeof(RawState),
    .is_format = true,
    .writes_for_parents = true,
    .probe = raw_probe,
    .co_open = raw_co_open,
    .co_preadv = raw_co_preadv,
    .co_preadv_aside = raw_co_preadv_aside,
    .co_pwritev = raw_co_pwritev,
    .co_pwrite_zeroes = raw_co_pwrite_zeroes,
    .co_pdiscard = raw_co_pdiscard,
    .co_copy_range = raw_co_copy_range,
    .co_truncate = raw_co_truncate,
    .co_block_status = raw_co_block_status,
    .co_create = raw_co_create,
    .co_measure = raw_co_measure,
};
