/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The blkdebug filter: passes everything on to its image, except what its rules say shall
 * fail, be slow or wait, and in pieces no larger and no less aligned than its limits say.  For
 * tests of what happens when a disk is full, broken, slow or odd.  Home context, but for reads
 * aside.  The rules are in blkdebug-rules.c.
 */
#include <errno.h>
#include <inttypes.h>
#include "blkdebug-int.h"
#include "qapi/error.h"

typedef struct BlkdebugState {
    BlkdebugRules rules;
    /* Bytes; 0: no limit. */
    int64_t max_transfer, opt_write_zero, max_write_zero, opt_discard, max_discard;
} BlkdebugState;

/* --- Opening ----------------------------------------------------------------------------------- */

/* A limit must be a multiple of unit. */
static bool set_limit(int64_t *limit, bool has, int64_t value, const char *name, int64_t unit,
                      GError **errp)
{
    if (!has || value == 0) {
        return true;
    }
    if (value < 0 || value > INT32_MAX || value % unit) {
        error_setg(errp, "Cannot meet constraints with %s %" PRId64, name, value);
        return false;
    }
    *limit = value;
    return true;
}

static bool set_limits(BlockDriverState *bs, const BlockdevOptionsBlkdebug *o, GError **errp)
{
    BlkdebugState *s = bs->opaque;
    int64_t align = o->has_align ? o->align : 1;

    if (align <= 0 || align > 1024 * 1024 || (align & (align - 1))) {
        error_setg(errp, "Cannot meet constraints with align %" PRId64, align);
        return false;
    }
    bs->request_alignment = align;
    return set_limit(&s->max_transfer, o->has_max_transfer, o->max_transfer, "max-transfer", align,
                     errp) &&
           set_limit(&s->opt_write_zero, o->has_opt_write_zero, o->opt_write_zero,
                     "opt-write-zero", align, errp) &&
           set_limit(&s->max_write_zero, o->has_max_write_zero, o->max_write_zero,
                     "max-write-zero", MAX(align, s->opt_write_zero), errp) &&
           set_limit(&s->opt_discard, o->has_opt_discard, o->opt_discard, "opt-discard", align,
                     errp) &&
           set_limit(&s->max_discard, o->has_max_discard, o->max_discard, "max-discard",
                     MAX(align, s->opt_discard), errp);
}

static bool coroutine_fn blkdebug_co_open(BlockDriverState *bs, const BlockdevOptions *options,
                                          GError **errp)
{
    const BlockdevOptionsBlkdebug *o = &options->u.blkdebug;
    BlkdebugState *s = bs->opaque;

    blkdebug_rules_init(&s->rules);
    if ((o->config && *o->config && !blkdebug_config_co_load(&s->rules, o->config, errp)) ||
        !blkdebug_rules_add(&s->rules, o->inject_error, o->set_state, errp) ||
        !set_limits(bs, o, errp)) {
        blkdebug_rules_destroy(&s->rules);
        return false;
    }
    return true;
}

static void coroutine_fn blkdebug_co_close(BlockDriverState *bs)
{
    BlkdebugState *s = bs->opaque;

    blkdebug_rules_destroy(&s->rules);
}

/* --- I/O --------------------------------------------------------------------------------------- */

/* A read or write in pieces of at most max_transfer. */
static int coroutine_fn transfer(BlockDriverState *bs, bool write, int64_t offset, int64_t bytes,
                                 IOVector *iov, int flags)
{
    BlkdebugState *s = bs->opaque;
    int64_t max = s->max_transfer ? s->max_transfer : INT64_MAX;
    int ret = 0;

    if (bytes <= max) {
        return write ? bdrv_co_pwritev(bs->file, offset, bytes, iov, flags)
                     : bdrv_co_preadv(bs->file, offset, bytes, iov, flags);
    }
    for (int64_t done = 0, n; done < bytes && ret == 0; done += n) {
        IOVector part;

        n = MIN(max, bytes - done);
        io_vector_init(&part, iov->niov);
        io_vector_concat(&part, iov, done, n);
        ret = write ? bdrv_co_pwritev(bs->file, offset + done, n, &part, flags)
                    : bdrv_co_preadv(bs->file, offset + done, n, &part, flags);
        io_vector_destroy(&part);
    }
    return ret;
}

static int coroutine_fn blkdebug_co_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                           IOVector *iov, int flags)
{
    BlkdebugState *s = bs->opaque;
    int ret = blkdebug_rules_apply(&s->rules, BLKDEBUG_IO_TYPE_READ, offset, bytes);

    return ret < 0 ? ret : transfer(bs, false, offset, bytes, iov, flags);
}

static int coroutine_fn blkdebug_co_preadv_aside(BlockDriverState *bs, int64_t offset,
                                                 int64_t bytes, IOVector *iov)
{
    BlkdebugState *s = bs->opaque;
    int ret = blkdebug_rules_apply(&s->rules, BLKDEBUG_IO_TYPE_READ, offset, bytes);

    return ret < 0 ? ret : bdrv_co_preadv_aside(bs->file->bs, offset, iov);
}

static int coroutine_fn blkdebug_co_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                            IOVector *iov, int flags)
{
    BlkdebugState *s = bs->opaque;
    int ret = blkdebug_rules_apply(&s->rules, BLKDEBUG_IO_TYPE_WRITE, offset, bytes);

    return ret < 0 ? ret : transfer(bs, true, offset, bytes, iov, flags);
}

/* Zeroes written out: what is not aligned enough for the image's own way. */
static int coroutine_fn write_zero_bytes(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    g_autofree void *buf = NULL;
    IOVector iov;

    if (bytes == 0) {
        return 0;
    }
    buf = g_malloc0(bytes);
    io_vector_init_buf(&iov, buf, bytes);
    return transfer(bs, true, offset, bytes, &iov, 0);
}

static int coroutine_fn blkdebug_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset,
                                                  int64_t bytes, int flags)
{
    BlkdebugState *s = bs->opaque;
    int64_t unit = MAX(bs->request_alignment, s->opt_write_zero);
    int64_t max = s->max_write_zero ? s->max_write_zero : INT64_MAX / unit * unit;
    int64_t first = offset % unit ? offset + unit - offset % unit : offset;
    int64_t end = offset + bytes, last = end - end % unit;
    int ret = blkdebug_rules_apply(&s->rules, BLKDEBUG_IO_TYPE_WRITE_ZEROES, offset, bytes);

    if (ret < 0) {
        return ret;
    }
    if (first >= last || ((first > offset || last < end) && (flags & BDRV_REQ_NO_FALLBACK))) {
        return -ENOTSUP;
    }
    ret = write_zero_bytes(bs, offset, first - offset);
    for (int64_t n; first < last && ret == 0; first += n) {
        n = MIN(max, last - first);
        ret = bdrv_co_pwrite_zeroes(bs->file, first, n, flags);
    }
    return ret < 0 ? ret : write_zero_bytes(bs, last, end - last);
}

static int coroutine_fn blkdebug_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    BlkdebugState *s = bs->opaque;
    int64_t unit = MAX(bs->request_alignment, s->opt_discard);
    int64_t max = s->max_discard ? s->max_discard : INT64_MAX / unit * unit;
    int64_t first = offset % unit ? offset + unit - offset % unit : offset;
    int64_t end = offset + bytes, last = end == bs->length ? end : end - end % unit;
    int ret = blkdebug_rules_apply(&s->rules, BLKDEBUG_IO_TYPE_DISCARD, offset, bytes);

    for (int64_t n; first < last && ret == 0; first += n) {
        n = MIN(max, last - first);
        ret = bdrv_co_pdiscard(bs->file, first, n);
    }
    return ret;
}

static int coroutine_fn blkdebug_co_flush(BlockDriverState *bs)
{
    BlkdebugState *s = bs->opaque;
    int ret = blkdebug_rules_apply(&s->rules, BLKDEBUG_IO_TYPE_FLUSH, 0, 0);

    return ret < 0 ? ret : bdrv_co_flush(bs->file->bs);
}

static int coroutine_fn blkdebug_co_block_status(BlockDriverState *bs, int64_t offset,
                                                 int64_t bytes, int64_t *pnum, int64_t *map)
{
    BlkdebugState *s = bs->opaque;
    int ret = blkdebug_rules_apply(&s->rules, BLKDEBUG_IO_TYPE_BLOCK_STATUS, offset, bytes);

    return ret < 0 ? ret : bdrv_co_block_status(bs->file->bs, offset, bytes, pnum, map);
}

/* --- Breakpoints ------------------------------------------------------------------------------- */

static void coroutine_fn blkdebug_co_debug_event(BlockDriverState *bs, BlkdebugEvent event)
{
    BlkdebugState *s = bs->opaque;

    blkdebug_rules_event(&s->rules, event);
}

static int blkdebug_breakpoint(BlockDriverState *bs, BlkdebugEvent event, const char *tag)
{
    BlkdebugState *s = bs->opaque;

    blkdebug_rules_break(&s->rules, event, tag);
    return 0;
}

static int blkdebug_remove_breakpoint(BlockDriverState *bs, const char *tag)
{
    BlkdebugState *s = bs->opaque;

    return blkdebug_rules_unbreak(&s->rules, tag);
}

static int blkdebug_resume(BlockDriverState *bs, const char *tag)
{
    BlkdebugState *s = bs->opaque;

    return blkdebug_rules_resume(&s->rules, tag);
}

static void coroutine_fn blkdebug_co_debug_wait(BlockDriverState *bs, const char *tag)
{
    BlkdebugState *s = bs->opaque;

    blkdebug_rules_wait(&s->rules, tag);
}

const BlockDriver bdrv_blkdebug_driver = {
    .name = "blkdebug",
    .instance_size = sizeof(BlkdebugState),
    .is_filter = true,
    .writes_for_parents = true,
    .co_open = blkdebug_co_open,
    .co_close = blkdebug_co_close,
    .co_preadv = blkdebug_co_preadv,
    .co_preadv_aside = blkdebug_co_preadv_aside,
    .co_pwritev = blkdebug_co_pwritev,
    .co_pwrite_zeroes = blkdebug_co_pwrite_zeroes,
    .co_pdiscard = blkdebug_co_pdiscard,
    .co_flush = blkdebug_co_flush,
    .co_block_status = blkdebug_co_block_status,
    .co_debug_event = blkdebug_co_debug_event,
    .debug_breakpoint = blkdebug_breakpoint,
    .debug_remove_breakpoint = blkdebug_remove_breakpoint,
    .debug_resume = blkdebug_resume,
    .co_debug_wait = blkdebug_co_debug_wait,
};
