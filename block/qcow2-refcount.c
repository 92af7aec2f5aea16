/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reference counts: reading and changing them in the refcount block cache, finding and
 * taking free clusters, growing the refcount structure.  All of it under the state's lock;
 * a count that falls goes through the list of deferred frees (qcow2-flush.c) unless nothing
 * on disk can refer to the cluster.
 */
#include "block/debug.h"
#include "qcow2.h"

uint64_t qcow2_rb_read(const void *block, int order, uint64_t index)
{
    const uint8_t *p = block;

    switch (order) {
    case 0:
    case 1:
    case 2: {
        unsigned per_byte = 8 >> order;
        unsigned shift = (index % per_byte) << order;

        return (p[index / per_byte] >> shift) & ((1u << (1 << order)) - 1);
    }
    case 3:
        return p[index];
    case 4:
        return qcow2_be16(p + index * 2);
    case 5:
        return qcow2_be32(p + index * 4);
    default:
        return qcow2_be64(p + index * 8);
    }
}

void qcow2_rb_write(void *block, int order, uint64_t index, uint64_t value)
{
    uint8_t *p = block;

    switch (order) {
    case 0:
    case 1:
    case 2: {
        unsigned per_byte = 8 >> order;
        unsigned shift = (index % per_byte) << order;
        unsigned mask = ((1u << (1 << order)) - 1) << shift;

        p[index / per_byte] = (p[index / per_byte] & ~mask) | (value << shift);
        break;
    }
    case 3:
        p[index] = value;
        break;
    case 4:
        qcow2_put16(p + index * 2, value);
        break;
    case 5:
        qcow2_put32(p + index * 4, value);
        break;
    default:
        qcow2_put64(p + index * 8, value);
    }
}

void qcow2_l1_set(Qcow2State *s, uint64_t index, uint64_t entry)
{
    uint32_t i = index;

    s->l1[index] = entry;
    g_array_append_val(s->l1_dirty, i);
    s->write_seq++;
}

/* The refcount block that counts cluster; NULL table when there is none. */
static int coroutine_fn block_get(BlockDriverState *bs, uint64_t cluster, Qcow2Table **table)
{
    Qcow2State *s = bs->opaque;
    uint64_t index = cluster >> s->rb_bits;
    uint64_t offset;
    int ret;

    *table = NULL;
    if (index >= s->rt_size || !(s->rt[index] & ~511ULL)) {
        return 0;
    }
    offset = s->rt[index] & ~511ULL;
    if (offset & (s->cluster_size - 1) || offset >= QCOW2_MAX_HOST_OFFSET) {
        return qcow2_signal_corruption(bs, "refcount block %" PRIu64 " at offset %#" PRIx64
                                       " is not on a cluster boundary", index, offset);
    }
    ret = qcow2_cache_get(bs, &s->rb_cache, offset, table);
    if (ret >= 0) {
        (*table)->index = index;
    }
    return ret;
}

int coroutine_fn qcow2_refcount_get(BlockDriverState *bs, uint64_t cluster, uint64_t *value)
{
    Qcow2State *s = bs->opaque;
    Qcow2Table *t;
    int ret = block_get(bs, cluster, &t);

    *value = 0;
    if (ret >= 0 && t) {
        *value = qcow2_rb_read(t->data, s->refcount_order, cluster & (s->rb_entries - 1));
        qcow2_cache_put(&s->rb_cache, t);
    }
    return ret;
}

static void block_modify(Qcow2State *s, Qcow2Table *t, bool shadow)
{
    qcow2_cache_modify(s, &s->rb_cache, t);
    if (shadow && !t->shadow) {
        t->shadow = true;
        s->shadow_rb++;
    }
}

/* A cluster has become free: no cache may know it as a table. */
static void cluster_freed(Qcow2State *s, uint64_t cluster)
{
    uint64_t offset = cluster << s->cluster_bits;

    qcow2_cache_forget(&s->l2_cache, offset);
    qcow2_metadata_remove(s, offset);
    if (cluster < s->free_hint) {
        s->free_hint = cluster;
    }
    if (s->pack_at < s->pack_end && s->pack_at >> s->cluster_bits == cluster) {
        s->pack_end = s->pack_at;
    }
}

int coroutine_fn qcow2_refcount_add(BlockDriverState *bs, uint64_t cluster, uint64_t count,
                                    int delta, bool shadow)
{
    Qcow2State *s = bs->opaque;
    uint64_t done = 0;
    int ret = 0;

    while (done < count) {
        uint64_t c = cluster + done;
        uint64_t index = c & (s->rb_entries - 1);
        uint64_t n = MIN(count - done, s->rb_entries - index);
        Qcow2Table *t;

        ret = block_get(bs, c, &t);
        if (ret >= 0 && !t) {
            ret = -EINVAL;
        }
        if (ret < 0) {
            break;
        }
        block_modify(s, t, shadow);
        for (uint64_t i = 0; i < n; i++, done++) {
            uint64_t v = qcow2_rb_read(t->data, s->refcount_order, index + i);

            if (delta > 0 ? v >= s->refcount_max : v == 0) {
                ret = delta > 0 ? -ERANGE : -EINVAL;
                break;
            }
            qcow2_rb_write(t->data, s->refcount_order, index + i, v + delta);
            if (v + delta == 0) {
                cluster_freed(s, c + i);
            }
        }
        qcow2_cache_put(&s->rb_cache, t);
        if (ret < 0) {
            break;
        }
    }
    if (ret < 0 && done) {
        /* Everything loaded a moment ago; what cannot be undone is a leak. */
        if (delta > 0) {
            qcow2_refcount_add(bs, cluster, done, -1, shadow);
        }
    }
    return ret;
}

void coroutine_fn qcow2_free_now(BlockDriverState *bs, uint64_t cluster, uint64_t count)
{
    qcow2_refcount_add(bs, cluster, count, -1, false);
}

void qcow2_free_later_by(Qcow2State *s, uint64_t cluster, uint64_t count, Qcow2FreedBy by)
{
    Qcow2Free f = { cluster, count, by };

    s->write_seq++;
    if (s->frees->len) {
        Qcow2Free *last = &g_array_index(s->frees, Qcow2Free, s->frees->len - 1);

        if (last->cluster + last->count == cluster && last->by == by) {
            last->count += count;
            return;
        }
    }
    g_array_append_val(s->frees, f);
}

void qcow2_free_later(Qcow2State *s, uint64_t cluster, uint64_t count)
{
    qcow2_free_later_by(s, cluster, count, QCOW2_FREED_OTHERWISE);
}

bool qcow2_entry_clusters(const Qcow2State *s, uint64_t entry, uint64_t *cluster, uint64_t *count)
{
    uint64_t offset, bytes;

    if (s->external_data) {
        return false; /* nobody counts there */
    }
    switch (qcow2_kind(s, entry)) {
    case QCOW2_COMPRESSED_DATA:
        qcow2_compressed_extent(s, entry, &offset, &bytes);
        *cluster = offset >> s->cluster_bits;
        *count = ((offset + bytes - 1) >> s->cluster_bits) - *cluster + 1;
        return true;
    case QCOW2_NORMAL:
    case QCOW2_ZERO_ALLOC:
        *cluster = (entry & QCOW2_OFFSET_MASK) >> s->cluster_bits;
        *count = 1;
        return true;
    default:
        return false;
    }
}

void qcow2_free_entry_later_by(Qcow2State *s, uint64_t entry, Qcow2FreedBy by)
{
    uint64_t cluster, count;

    if (qcow2_entry_clusters(s, entry, &cluster, &count)) {
        qcow2_free_later_by(s, cluster, count, by);
    }
}

void qcow2_free_entry_later(Qcow2State *s, uint64_t entry)
{
    qcow2_free_entry_later_by(s, entry, QCOW2_FREED_OTHERWISE);
}

/*
 * Makes refcount blocks (and a larger refcount table, if need be) for want clusters from
 * the first one of block index on, which has none.  They lie at the start of that range.
 */
static int coroutine_fn grow(BlockDriverState *bs, uint64_t index, uint64_t want)
{
    Qcow2State *s = bs->opaque;
    uint64_t first = index << s->rb_bits;
    uint64_t blocks = 1, rt_clusters = 0, rt_size = s->rt_size, total, gap = 1;
    const char *what;

    bdrv_co_debug_event(bs->file, BLKDEBUG_EVENT_REFBLOCK_ALLOC);
    /* Not into a range that has a block already. */
    while (index + gap < s->rt_size && !(s->rt[index + gap] & ~511ULL) && gap < want + 1) {
        gap++;
    }
    if (index + gap < s->rt_size && (want + gap) > gap << s->rb_bits) {
        want = 1;
    }
    for (;;) {
        uint64_t need;

        total = blocks + rt_clusters + want;
        need = (total + s->rb_entries - 1) >> s->rb_bits;
        if (index + need > rt_size) {
            uint64_t bytes = MAX((index + need) * 8, s->rt_size * 12);

            rt_clusters = qcow2_clusters(s, bytes);
            rt_size = (rt_clusters << s->cluster_bits) / 8;
            continue;
        }
        if (need <= blocks) {
            break;
        }
        blocks = need;
    }
    if (rt_size * 8 > QCOW2_MAX_RT_BYTES ||
        (first + total) << s->cluster_bits > QCOW2_MAX_HOST_OFFSET) {
        return -EFBIG;
    }
    what = qcow2_overlap(s, first << s->cluster_bits, (blocks + rt_clusters) << s->cluster_bits);
    if (what) {
        return qcow2_signal_corruption(bs, "new refcount blocks at offset %#" PRIx64
                                       " overlap: %s", first << s->cluster_bits, what);
    }
    if (rt_clusters) {
        if (s->rt_new_offset) {
            /* Grown again before it was written once. */
            qcow2_free_now(bs, s->rt_new_offset >> s->cluster_bits,
                           qcow2_clusters(s, s->rt_size * 8));
        }
        s->rt = g_renew(uint64_t, s->rt, rt_size);
        memset(s->rt + s->rt_size, 0, (rt_size - s->rt_size) * 8);
        s->rt_size = rt_size;
        s->rt_new_offset = (first + blocks) << s->cluster_bits;
    }
    for (uint64_t i = 0; i < blocks; i++) {
        uint32_t rt_index = index + i;
        uint64_t offset = (first + i) << s->cluster_bits;

        if (s->rt[rt_index] & ~511ULL) {
            continue;
        }
        Qcow2Table *t = qcow2_cache_new(&s->rb_cache, offset);

        t->index = rt_index;
        qcow2_cache_put(&s->rb_cache, t);
        qcow2_metadata_add(s, offset, QCOW2_OL_REFCOUNT_BLOCK);
        s->rt[rt_index] = offset;
        g_array_append_val(s->rt_dirty, rt_index);
    }
    s->zero_from = MAX(s->zero_from, (first + blocks + rt_clusters) << s->cluster_bits);
    for (uint64_t i = 0; i < blocks; i++) {
        if (s->rt[index + i] == (first + i) << s->cluster_bits) {
            qcow2_refcount_add(bs, first + i, 1, 1, false);
        }
    }
    if (rt_clusters) {
        qcow2_refcount_add(bs, first + blocks, rt_clusters, 1, false);
    }
    return 0;
}

/* The first index in [from, end) with a count of 0; end if there is none. */
static uint64_t first_free(const void *block, int order, uint64_t from, uint64_t end)
{
    unsigned bits = 1u << order, per_word = 64 / bits;
    uint64_t lowest = bits == 64 ? 1 : ~0ULL / ((1ULL << bits) - 1), highest = lowest << (bits - 1);

    while (from < end) {
        if (from % per_word == 0 && from + per_word <= end) {
            uint64_t v;

            memcpy(&v, (const uint8_t *)block + from / per_word * 8, 8);
            if (!((v - lowest) & ~v & highest)) { /* no field of the word is 0 */
                from += per_word;
                continue;
            }
        }
        if (qcow2_rb_read(block, order, from) == 0) {
            break;
        }
        from++;
    }
    return from;
}

/* Finds and takes a run of min..max free clusters; the run starts nowhere below the hint. */
static int coroutine_fn allocate(BlockDriverState *bs, uint64_t min, uint64_t max,
                                 uint64_t *cluster, uint64_t *count)
{
    Qcow2State *s = bs->opaque;
    uint64_t c = s->free_hint, start = c, run = 0;
    const char *what;
    bool ended = false;
    int ret;

    if (s->corrupt || s->broken) {
        return -EIO;
    }
    bdrv_co_debug_event(bs->file, BLKDEBUG_EVENT_CLUSTER_ALLOC);
    while (run < max && !ended) {
        uint64_t index = c & (s->rb_entries - 1), n = s->rb_entries - index;
        Qcow2Table *t;

        if (c >= QCOW2_MAX_HOST_OFFSET >> s->cluster_bits) {
            return -EFBIG;
        }
        ret = block_get(bs, c, &t);
        if (ret < 0) {
            return ret;
        }
        if (!t) {
            if (run >= min) {
                break;
            }
            ret = grow(bs, c >> s->rb_bits, max);
            if (ret < 0) {
                return ret;
            }
            run = 0;
            continue;
        }
        for (uint64_t i = 0; i < n && run < max && !ended; i++, c++) {
            if (run == 0) {
                uint64_t used = first_free(t->data, s->refcount_order, index + i, index + n) -
                                (index + i);

                i += used;
                c += used;
                if (i == n) {
                    break;
                }
            }
            if (qcow2_rb_read(t->data, s->refcount_order, index + i) == 0) {
                if (run++ == 0) {
                    start = c;
                }
            } else if (run >= min) {
                ended = true;
            } else {
                run = 0;
            }
        }
        qcow2_cache_put(&s->rb_cache, t);
    }
    what = qcow2_overlap(s, start << s->cluster_bits, run << s->cluster_bits);
    if (what) {
        return qcow2_signal_corruption(bs, "free clusters at offset %#" PRIx64 " overlap: %s",
                                       start << s->cluster_bits, what);
    }
    ret = qcow2_refcount_add(bs, start, run, 1, false);
    if (ret < 0) {
        return ret;
    }
    if (min <= 1) {
        s->free_hint = start + run;
    } else if (start == s->free_hint) {
        s->free_hint = start + run;
    }
    *cluster = start;
    *count = run;
    return 0;
}

int coroutine_fn qcow2_alloc(BlockDriverState *bs, uint64_t want, uint64_t *cluster,
                             uint64_t *count)
{
    return allocate(bs, 1, want, cluster, count);
}

int coroutine_fn qcow2_alloc_contiguous(BlockDriverState *bs, uint64_t count, uint64_t *cluster)
{
    uint64_t got;
    int ret = allocate(bs, count, count, cluster, &got);
    Qcow2State *s = bs->opaque;

    if (ret >= 0) {
        s->zero_from = MAX(s->zero_from, (*cluster + got) << s->cluster_bits);
    }
    return ret;
}
