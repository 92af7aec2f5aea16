/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Counting requests (block-stats.h), and query-blockstats. */
#include <time.h>
#include "block-stats.h"
#include "block/block-int.h"
#include "qapi/qapi-commands-block-stats.h"
#include "qapi/util.h"

/* There is one writer, so a counter need not be read and written at once. */
static void add(uint64_t *counter, uint64_t n)
{
    __atomic_store_n(counter, __atomic_load_n(counter, __ATOMIC_RELAXED) + n, __ATOMIC_RELAXED);
}

static uint64_t get(const uint64_t *counter)
{
    return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

uint64_t block_acct_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

void block_acct_done(BlockAcctStats *stats, BlockAcct type, int64_t offset, int64_t bytes,
                     uint64_t start, int ret)
{
    uint64_t now = block_acct_now();

    add(&stats->of[type].time_ns, now - start);
    __atomic_store_n(&stats->last_ns, now, __ATOMIC_RELAXED);
    if (ret < 0) {
        add(&stats->of[type].failed, 1);
        return;
    }
    add(&stats->of[type].operations, 1);
    add(&stats->of[type].bytes, bytes);
    if (type == BLOCK_ACCT_WRITE && (uint64_t)(offset + bytes) > get(&stats->wr_highest_offset)) {
        __atomic_store_n(&stats->wr_highest_offset, offset + bytes, __ATOMIC_RELAXED);
    }
}

/* --- query-blockstats --------------------------------------------------------------------- */

static BlockDeviceStats *describe(const BlockAcctStats *s)
{
    BlockDeviceStats *d = g_new0(BlockDeviceStats, 1);
    uint64_t last = get(&s->last_ns);

    d->rd_bytes = get(&s->of[BLOCK_ACCT_READ].bytes);
    d->wr_bytes = get(&s->of[BLOCK_ACCT_WRITE].bytes);
    d->unmap_bytes = get(&s->of[BLOCK_ACCT_UNMAP].bytes);
    d->rd_operations = get(&s->of[BLOCK_ACCT_READ].operations);
    d->wr_operations = get(&s->of[BLOCK_ACCT_WRITE].operations);
    d->flush_operations = get(&s->of[BLOCK_ACCT_FLUSH].operations);
    d->unmap_operations = get(&s->of[BLOCK_ACCT_UNMAP].operations);
    d->rd_total_time_ns = get(&s->of[BLOCK_ACCT_READ].time_ns);
    d->wr_total_time_ns = get(&s->of[BLOCK_ACCT_WRITE].time_ns);
    d->flush_total_time_ns = get(&s->of[BLOCK_ACCT_FLUSH].time_ns);
    d->unmap_total_time_ns = get(&s->of[BLOCK_ACCT_UNMAP].time_ns);
    d->failed_rd_operations = get(&s->of[BLOCK_ACCT_READ].failed);
    d->failed_wr_operations = get(&s->of[BLOCK_ACCT_WRITE].failed);
    d->failed_flush_operations = get(&s->of[BLOCK_ACCT_FLUSH].failed);
    d->failed_unmap_operations = get(&s->of[BLOCK_ACCT_UNMAP].failed);
    d->wr_highest_offset = get(&s->wr_highest_offset);
    d->account_failed = true;
    d->has_idle_time_ns = last != 0;
    d->idle_time_ns = last ? block_acct_now() - last : 0;
    return d;
}

static BlockStats *stats_of(BlockDriverState *bs, const BlockAcctStats *s)
{
    BlockStats *info = g_new0(BlockStats, 1);

    info->node_name = g_strdup(bdrv_node_name(bs));
    info->stats = describe(s);
    return info;
}

static BlockStatsList *all_nodes(void)
{
    static const BlockAcctStats nothing;
    BlockStatsList *list = NULL, **tail = &list;

    for (BlockDriverState *bs = NULL; (bs = bdrv_next_node(bs));) {
        const BlockAcctStats *s = &nothing;

        for (BlockBackend *blk = NULL; (blk = blk_next(blk));) {
            if (blk_bs(blk) == bs) {
                s = blk_stats(blk);
            }
        }
        QAPI_LIST_APPEND(tail, stats_of(bs, s));
    }
    return list;
}

BlockStatsList *coroutine_fn qmp_query_blockstats(bool has_query_nodes, bool query_nodes,
                                                  GError **errp)
{
    BlockStatsList *list = NULL, **tail = &list;

    if (has_query_nodes && query_nodes) {
        return all_nodes();
    }
    for (BlockBackend *blk = NULL; (blk = blk_next(blk));) {
        if (*blk_name(blk) || blk_device(blk)) {
            BlockStats *info = stats_of(blk_bs(blk), blk_stats(blk));

            info->device = g_strdup(blk_name(blk));
            info->qdev = g_strdup(blk_device(blk));
            QAPI_LIST_APPEND(tail, info);
        }
    }
    return list;
}
