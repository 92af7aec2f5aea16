/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading and status of images that are only read: see mapped.h.  Neighbours of one kind, for
 * data also in the file, are taken together, so that a request of many blocks that lie one
 * after the other is one request to the file.
 */
#include <inttypes.h>
#include "mapped.h"
#include "qapi/error.h"

/* A place is looked up in a few steps without waiting: not more than so many in one go. */
#define PARTS_MAX 1024

void mapped_init(MappedImage *m, const MappedOps *ops)
{
    m->ops = ops;
    table_cache_init(&m->tables);
}

void mapped_destroy(MappedImage *m)
{
    table_cache_destroy(&m->tables);
}

void coroutine_fn mapped_co_close(BlockDriverState *bs)
{
    mapped_destroy(bs->opaque);
}

static bool continues(const MappedPart *run, const MappedPart *next)
{
    return run->kind == next->kind &&
           (run->kind != MAPPED_DATA || run->host + run->bytes == next->host);
}

/*
 * What is at offset, with its neighbours of the same kind, at most bytes of it.  alone: PACKED
 * parts stay apart, since each is read by itself.
 */
static int coroutine_fn find_run(BlockDriverState *bs, int64_t offset, int64_t bytes, bool alone,
                                 MappedPart *run)
{
    const MappedImage *m = bs->opaque;
    MappedPart next;
    int ret = m->ops->find(bs, offset, run);

    for (int i = 0; ret == 0 && run->bytes < bytes && i < PARTS_MAX; i++) {
        if ((alone && run->kind == MAPPED_PACKED) ||
            m->ops->find(bs, offset + run->bytes, &next) < 0 || !continues(run, &next)) {
            break;
        }
        run->bytes += next.bytes;
    }
    run->bytes = MIN(run->bytes, bytes);
    return ret;
}

static int coroutine_fn read_child(BdrvChild *child, int64_t offset, IOVector *iov, size_t at,
                                   size_t bytes)
{
    IOVector part;
    int ret;

    if (at == 0 && bytes == iov->size) {
        return bdrv_co_preadv(child, offset, bytes, iov, 0);
    }
    io_vector_init(&part, iov->niov);
    io_vector_concat(&part, iov, at, bytes);
    ret = bdrv_co_preadv(child, offset, bytes, &part, 0);
    io_vector_destroy(&part);
    return ret;
}

/* What the image does not have. */
static int coroutine_fn read_hole(BlockDriverState *bs, int64_t offset, IOVector *iov, size_t at,
                                  size_t bytes)
{
    int64_t length = bs->backing ? bs->backing->bs->length : 0;
    size_t n = offset < length ? MIN((int64_t)bytes, length - offset) : 0;

    io_vector_memset(iov, at + n, 0, bytes - n);
    return n ? read_child(bs->backing, offset, iov, at, n) : 0;
}

int coroutine_fn mapped_co_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                  IOVector *iov, int flags)
{
    const MappedImage *m = bs->opaque;
    int ret = 0;

    for (int64_t at = 0; ret == 0 && at < bytes;) {
        MappedPart run;

        ret = find_run(bs, offset + at, bytes - at, true, &run);
        if (ret < 0) {
            break;
        }
        switch (run.kind) {
        case MAPPED_HOLE:
            ret = read_hole(bs, offset + at, iov, at, run.bytes);
            break;
        case MAPPED_ZERO:
            io_vector_memset(iov, at, 0, run.bytes);
            break;
        case MAPPED_DATA:
            ret = read_child(mapped_file(bs), run.host, iov, at, run.bytes);
            break;
        case MAPPED_PACKED:
            ret = m->ops->read_packed(bs, run.host, offset + at, iov, at, run.bytes);
            break;
        }
        at += run.bytes;
    }
    return ret;
}

int coroutine_fn mapped_co_block_status(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                        int64_t *pnum, int64_t *map)
{
    static const int status[] = {
        [MAPPED_HOLE] = 0,
        [MAPPED_ZERO] = BDRV_BLOCK_ZERO | BDRV_BLOCK_ALLOCATED,
        [MAPPED_DATA] = BDRV_BLOCK_DATA | BDRV_BLOCK_ALLOCATED | BDRV_BLOCK_OFFSET_VALID,
        [MAPPED_PACKED] = BDRV_BLOCK_DATA | BDRV_BLOCK_ALLOCATED | BDRV_BLOCK_COMPRESSED,
    };
    MappedPart run;
    int ret = find_run(bs, offset, bytes, false, &run);

    if (ret < 0) {
        return ret;
    }
    *pnum = run.bytes;
    *map = run.kind == MAPPED_DATA ? run.host : 0;
    return status[run.kind];
}

bool coroutine_fn mapped_read_head(BlockDriverState *bs, uint64_t offset, void *buf, size_t bytes,
                                   const char *what, GError **errp)
{
    uint64_t length = bs->file->bs->length;
    int ret;

    if (offset > length || bytes > length - offset) {
        error_setg(errp, "The %s at offset %" PRIu64 " lies beyond the end of the file", what,
                   offset);
        return false;
    }
    ret = bdrv_co_pread(bs->file, offset, bytes, buf, 0);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not read the %s", what);
        return false;
    }
    return true;
}

void mapped_report(BdrvCheckResult *result, const char *format, ...)
{
    g_autofree char *line = NULL;
    va_list ap;

    va_start(ap, format);
    line = g_strdup_vprintf(format, ap);
    va_end(ap);
    result->corruptions++;
    if (result->report) {
        result->report(result->opaque, true, line);
    }
}
