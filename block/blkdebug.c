/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The blkdebug filter: passes everything on to its image, except what its rules say shall
 * fail or be slow.  A rule matches requests by type and sector, may let a number of them
 * pass first ('after'), may act once, and has an error, a delay, or both.  For tests of
 * what happens when a disk is full, broken or slow.  Home context, but for reads aside.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include "block/block-int.h"
#include "qapi/error.h"

typedef struct Rule {
    bool any_type;
    BlkdebugIOType type;
    int64_t offset; /* bytes of the sector that must be hit, -1: any */
    int64_t after;  /* matches still let through */
    int64_t delay_ns;
    int error; /* positive errno, 0: delay only */
    bool once;
    bool spent;
} Rule;

typedef struct BlkdebugState {
    pthread_mutex_t lock; /* leaf; what changes in rules */
    GArray *rules;
} BlkdebugState;

static bool add_rule(BlkdebugState *s, const BlkdebugInjectErrorOptions *o, GError **errp)
{
    bool has_delay = o->has_delay_ns && o->delay_ns > 0;
    Rule rule = {
        .any_type = !o->has_iotype,
        .type = o->iotype,
        .offset = o->has_sector && o->sector >= 0 ? o->sector * 512 : -1,
        .after = o->has_after ? o->after : 0,
        .delay_ns = has_delay ? o->delay_ns : 0,
        .error = o->has_errno ? o->q_errno : has_delay ? 0 : EIO,
        .once = o->has_once && o->once,
    };

    if (o->has_sector && o->sector > INT64_MAX / 512) {
        error_setg(errp, "Sector %" PRId64 " of an inject-error rule is too large", o->sector);
        return false;
    }
    if (rule.error < 0 || rule.error > 4095) {
        error_setg(errp, "%d is not an error number", rule.error);
        return false;
    }
    g_array_append_val(s->rules, rule);
    return true;
}

static bool coroutine_fn blkdebug_co_open(BlockDriverState *bs, const BlockdevOptions *options,
                                          GError **errp)
{
    const BlockdevOptionsBlkdebug *o = &options->u.blkdebug;
    BlkdebugState *s = bs->opaque;

    if (o->has_align &&
        (o->align <= 0 || o->align > 1024 * 1024 || (o->align & (o->align - 1)))) {
        error_setg(errp, "Cannot meet constraints with align %" PRId64, o->align);
        return false;
    }
    s->rules = g_array_new(false, false, sizeof(Rule));
    for (BlkdebugInjectErrorOptionsList *l = o->inject_error; l; l = l->next) {
        if (!add_rule(s, l->value, errp)) {
            g_array_free(s->rules, true);
            return false;
        }
    }
    pthread_mutex_init(&s->lock, NULL);
    bs->request_alignment = o->has_align ? o->align : 1;
    return true;
}

static void coroutine_fn blkdebug_co_close(BlockDriverState *bs)
{
    BlkdebugState *s = bs->opaque;

    pthread_mutex_destroy(&s->lock);
    g_array_free(s->rules, true);
}

/* What the rules want for a request: -errno or 0, after the delay they ask for. */
static int coroutine_fn apply_rules(BlockDriverState *bs, BlkdebugIOType type, int64_t offset,
                                    int64_t bytes)
{
    BlkdebugState *s = bs->opaque;
    int64_t delay = 0;
    int error = 0;

    pthread_mutex_lock(&s->lock);
    for (guint i = 0; i < s->rules->len && !error; i++) {
        Rule *r = &g_array_index(s->rules, Rule, i);

        if (r->spent || (!r->any_type && r->type != type) ||
            (r->offset >= 0 && (r->offset < offset || r->offset >= offset + bytes))) {
            continue;
        }
        if (r->after > 0) {
            r->after--;
            continue;
        }
        r->spent = r->once;
        delay += r->delay_ns;
        error = r->error;
    }
    pthread_mutex_unlock(&s->lock);
    if (delay) {
        co_sleep_ns(delay);
    }
    return -error;
}

static int coroutine_fn blkdebug_co_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                           IOVector *iov, int flags)
{
    int ret = apply_rules(bs, BLKDEBUG_IO_TYPE_READ, offset, bytes);

    return ret < 0 ? ret : bdrv_co_preadv(bs->file, offset, bytes, iov, flags);
}

static int coroutine_fn blkdebug_co_preadv_aside(BlockDriverState *bs, int64_t offset,
                                                 int64_t bytes, IOVector *iov)
{
    int ret = apply_rules(bs, BLKDEBUG_IO_TYPE_READ, offset, bytes);

    return ret < 0 ? ret : bdrv_co_preadv_aside(bs->file->bs, offset, iov);
}

static int coroutine_fn blkdebug_co_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                            IOVector *iov, int flags)
{
    int ret = apply_rules(bs, BLKDEBUG_IO_TYPE_WRITE, offset, bytes);

    return ret < 0 ? ret : bdrv_co_pwritev(bs->file, offset, bytes, iov, flags);
}

static int coroutine_fn blkdebug_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset,
                                                  int64_t bytes, int flags)
{
    int ret = apply_rules(bs, BLKDEBUG_IO_TYPE_WRITE_ZEROES, offset, bytes);

    return ret < 0 ? ret : bdrv_co_pwrite_zeroes(bs->file, offset, bytes, flags);
}

static int coroutine_fn blkdebug_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    int ret = apply_rules(bs, BLKDEBUG_IO_TYPE_DISCARD, offset, bytes);

    return ret < 0 ? ret : bdrv_co_pdiscard(bs->file, offset, bytes);
}

static int coroutine_fn blkdebug_co_flush(BlockDriverState *bs)
{
    int ret = apply_rules(bs, BLKDEBUG_IO_TYPE_FLUSH, 0, 0);

    return ret < 0 ? ret : bdrv_co_flush(bs->file->bs);
}

static int coroutine_fn blkdebug_co_block_status(BlockDriverState *bs, int64_t offset,
                                                 int64_t bytes, int64_t *pnum, int64_t *map)
{
    int ret = apply_rules(bs, BLKDEBUG_IO_TYPE_BLOCK_STATUS, offset, bytes);

    return ret < 0 ? ret : bdrv_co_block_status(bs->file->bs, offset, bytes, pnum, map);
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
};
