/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Another width of reference counts: a whole new refcount structure, written to clusters that
 * the old one counts, and one write of the header that switches to it.  Before that write the
 * new structure is a leak, after it the old one is, until it has been given back.
 */
#include "qcow2.h"

typedef struct Structure {
    int order;
    uint64_t first, count;     /* clusters, for blocks and table behind each other */
    uint64_t blocks;           /* in use */
    uint64_t *table, entries;  /* entries fill whole clusters */
    uint64_t table_clusters;
} Structure;

static uint64_t block_clusters(const Qcow2State *s, int order)
{
    return s->cluster_size * 8 >> order;
}

/* One beyond the last cluster that counts anything. */
static int coroutine_fn find_end(BlockDriverState *bs, uint64_t *end)
{
    Qcow2State *s = bs->opaque;

    for (uint64_t i = s->rt_size; i > 0; i--) {
        for (uint64_t j = s->rt[i - 1] & ~511ULL ? s->rb_entries : 0; j > 0; j--) {
            uint64_t count;
            int ret = qcow2_refcount_get(bs, ((i - 1) << s->rb_bits) + j - 1, &count);

            if (ret < 0) {
                return ret;
            }
            if (count) {
                *end = ((i - 1) << s->rb_bits) + j;
                return 0;
            }
        }
    }
    *end = 0;
    return 0;
}

/* Lock held.  Takes clusters for a structure that also counts itself. */
static int coroutine_fn take_clusters(BlockDriverState *bs, Structure *n)
{
    Qcow2State *s = bs->opaque;
    uint64_t end, wanted = 0;
    int ret;

    for (;;) {
        uint64_t blocks, tables;

        ret = find_end(bs, &end);
        if (ret < 0) {
            return ret;
        }
        /* Also for what taking these clusters may add to the old structure. */
        blocks = (end + wanted + 8) / block_clusters(s, n->order) + 2;
        tables = qcow2_clusters(s, blocks * 8);
        if (blocks + tables > wanted) {
            wanted = blocks + tables;
            continue;
        }
        n->blocks = wanted - tables;
        n->table_clusters = tables;
        break;
    }
    if (n->table_clusters << s->cluster_bits > QCOW2_MAX_RT_BYTES) {
        return -EFBIG;
    }
    ret = qcow2_alloc_contiguous(bs, wanted, &n->first);
    if (ret < 0) {
        return ret;
    }
    n->count = wanted;
    ret = find_end(bs, &end);
    if (ret >= 0 && end > n->blocks * block_clusters(s, n->order)) {
        ret = -EFBIG; /* the old structure grew by more than expected */
    }
    return ret;
}

/* Fills and writes the blocks that count anything. */
static bool coroutine_fn write_blocks(BlockDriverState *bs, Structure *n, BdrvProgress *progress,
                                      void *opaque, GError **errp)
{
    Qcow2State *s = bs->opaque;
    uint64_t max = n->order == 6 ? UINT64_MAX : (1ULL << (1 << n->order)) - 1;
    uint64_t per_block = block_clusters(s, n->order);
    g_autofree uint8_t *block = g_malloc(s->cluster_size);

    for (uint64_t i = 0; i < n->blocks; i++) {
        uint64_t host = (n->first + i) << s->cluster_bits;
        int ret = 0;

        memset(block, 0, s->cluster_size);
        for (uint64_t j = 0; j < per_block && ret >= 0; j++) {
            uint64_t cluster = i * per_block + j, count = 0;

            if (cluster >> s->rb_bits < s->rt_size) {
                ret = qcow2_refcount_get(bs, cluster, &count);
            }
            if (count > max) {
                error_setg(errp, "Cannot decrease refcount entry width to %d bits: Cluster at "
                           "offset %#" PRIx64 " has a refcount of %" PRIu64, 1 << n->order,
                           cluster << s->cluster_bits, count);
                return false;
            }
            qcow2_rb_write(block, n->order, j, count);
        }
        ret = ret < 0 ? ret : bdrv_co_pwrite(bs->file, host, s->cluster_size, block, 0);
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Could not write the new reference counts");
            return false;
        }
        n->table[i] = host;
        if (progress) {
            progress(opaque, i + 1, n->blocks);
        }
        qcow2_breathe();
    }
    return true;
}

/* The header has switched: memory follows, and the old structure is free. */
static void adopt(BlockDriverState *bs, Structure *n, uint64_t old_offset, uint64_t old_clusters)
{
    Qcow2State *s = bs->opaque;
    size_t bytes = (size_t)s->rb_cache.limit * s->cluster_size;

    qcow2_free_later(s, old_offset >> s->cluster_bits, old_clusters);
    for (uint64_t i = 0; i < s->rt_size; i++) {
        if (s->rt[i] & ~511ULL) {
            qcow2_metadata_remove(s, s->rt[i]);
            qcow2_free_later(s, s->rt[i] >> s->cluster_bits, 1);
        }
    }
    qcow2_cache_destroy(&s->rb_cache);
    qcow2_cache_init(&s->rb_cache, s->cluster_size, 0, bytes);
    g_free(s->rt);
    g_free(s->rt_disk);
    s->rt = g_steal_pointer(&n->table);
    s->rt_size = s->rt_disk_size = n->entries;
    s->rt_disk = g_memdup2(s->rt, (s->rt_size + 1) * 8);
    for (uint64_t i = 0; i < n->blocks; i++) {
        qcow2_metadata_add(s, s->rt[i], QCOW2_OL_REFCOUNT_BLOCK);
    }
    s->rb_bits = s->cluster_bits + 3 - s->refcount_order;
    s->rb_entries = 1ULL << s->rb_bits;
    s->refcount_max = s->refcount_order == 6 ? UINT64_MAX
                                             : (1ULL << (1 << s->refcount_order)) - 1;
    s->free_hint = 0;
    s->pack_end = s->pack_at;
}

/* flush_lock and lock held. */
static int coroutine_fn switch_header(BlockDriverState *bs, Structure *n)
{
    Qcow2State *s = bs->opaque;
    uint64_t old_offset = s->rt_offset;
    uint32_t old_clusters = s->rt_clusters;
    int old_order = s->refcount_order;
    int ret = qcow2_store_numbers(bs, (n->first + n->blocks) << s->cluster_bits, n->table,
                                  n->entries);

    ret = ret < 0 ? ret : qcow2_sync_file(bs);
    if (ret < 0) {
        return ret;
    }
    s->rt_offset = (n->first + n->blocks) << s->cluster_bits;
    s->rt_clusters = n->table_clusters;
    s->refcount_order = n->order;
    ret = qcow2_header_write(bs);
    ret = ret < 0 ? ret : qcow2_sync_file(bs);
    if (ret < 0) {
        s->rt_offset = old_offset;
        s->rt_clusters = old_clusters;
        s->refcount_order = old_order;
        qcow2_header_put_back(bs);
        return ret;
    }
    adopt(bs, n, old_offset, old_clusters);
    return 0;
}

static int coroutine_fn settle(BlockDriverState *bs)
{
    Qcow2State *s = bs->opaque;
    int ret = qcow2_flush_all(bs);

    /* What a flush gives back makes counts dirty again. */
    while (ret >= 0 && (s->frees->len || s->rb_cache.dirty)) {
        ret = qcow2_flush_all(bs);
    }
    return ret;
}

bool coroutine_fn qcow2_change_refcount_order(BlockDriverState *bs, int order,
                                              BdrvProgress *progress, void *opaque,
                                              GError **errp)
{
    Qcow2State *s = bs->opaque;
    Structure n = { .order = order };
    int ret = settle(bs);
    bool ok;

    if (ret >= 0) {
        co_mutex_lock(&s->lock);
        ret = take_clusters(bs, &n);
        co_mutex_unlock(&s->lock);
    }
    ret = ret < 0 ? ret : settle(bs); /* the old structure counts the new one */
    ok = ret >= 0;
    if (!ok) {
        error_setg_errno(errp, -ret, "Could not make room for new reference counts");
    }
    co_mutex_lock(&s->flush_lock);
    co_mutex_lock(&s->lock);
    if (ok) {
        n.entries = (n.table_clusters << s->cluster_bits) / 8;
        n.table = g_new0(uint64_t, n.entries + 1);
        ok = write_blocks(bs, &n, progress, opaque, errp);
    }
    if (ok) {
        ret = switch_header(bs, &n);
        ok = ret >= 0;
        if (!ok) {
            error_setg_errno(errp, -ret, "Could not switch to the new reference counts");
        }
    }
    if (!ok && n.count && !s->broken) {
        qcow2_free_now(bs, n.first, n.count);
    }
    g_free(n.table);
    co_mutex_unlock(&s->lock);
    co_mutex_unlock(&s->flush_lock);
    ret = settle(bs);
    if (ok && ret < 0) {
        error_setg_errno(errp, -ret, "Could not give the old reference counts back");
        ok = false;
    }
    return ok;
}
