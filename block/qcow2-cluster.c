/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The mapping from guest clusters to host clusters: loading L2 tables, making them private
 * to the active layer, changing entries, and the operations that only change the mapping
 * (zeroing, discarding, preallocation, block status).  Data I/O is in qcow2-io.c.
 */
#include "qcow2.h"

int coroutine_fn qcow2_l2_load(BlockDriverState *bs, uint64_t l1_entry, Qcow2Table **table)
{
    Qcow2State *s = bs->opaque;
    uint64_t offset = l1_entry & QCOW2_OFFSET_MASK;

    *table = NULL;
    if (!offset) {
        return 0;
    }
    if (offset & (s->cluster_size - 1)) {
        return qcow2_signal_corruption(bs, "L2 table at offset %#" PRIx64
                                       " is not on a cluster boundary", offset);
    }
    return qcow2_cache_get(bs, &s->l2_cache, offset, table);
}

void qcow2_l2_set(Qcow2State *s, Qcow2Table *t, uint64_t index, uint64_t entry)
{
    qcow2_cache_modify(s, &s->l2_cache, t);
    qcow2_put64(t->data + index * 8, entry);
}

int coroutine_fn qcow2_l2_clone(BlockDriverState *bs, Qcow2Table *from, Qcow2Table **table)
{
    Qcow2State *s = bs->opaque;
    uint64_t cluster;
    int ret = qcow2_alloc_contiguous(bs, 1, &cluster);

    if (ret < 0) {
        return ret;
    }
    *table = qcow2_cache_new(&s->l2_cache, cluster << s->cluster_bits);
    if (from) {
        memcpy((*table)->data, from->data, s->cluster_size);
        qcow2_metadata_remove(s, from->offset);
    }
    qcow2_metadata_add(s, (*table)->offset);
    return 0;
}

int coroutine_fn qcow2_l2_writable(BlockDriverState *bs, uint64_t l1_index, Qcow2Table **table)
{
    Qcow2State *s = bs->opaque;
    Qcow2Table *old;
    uint64_t entry;
    int ret;

    *table = NULL;
    if (s->corrupt || s->broken || l1_index >= s->l1_size) {
        return -EIO;
    }
    if (qcow2_must_share(s, l1_index)) {
        ret = qcow2_save_process(bs, l1_index);
        if (ret < 0) {
            qcow2_save_fail(s, ret);
        }
    }
    entry = s->l1[l1_index];
    ret = qcow2_l2_load(bs, entry, &old);
    if (ret < 0) {
        return ret;
    }
    if (old && (entry & QCOW2_COPIED)) {
        const char *what = NULL;

        if (old->offset < s->cluster_size) {
            what = "qcow2_header";
        }
        if (what) {
            qcow2_cache_put(&s->l2_cache, old);
            return qcow2_signal_corruption(bs, "L2 table overlaps: %s", what);
        }
        *table = old;
        return 0;
    }
    ret = qcow2_l2_clone(bs, old, table);
    if (ret >= 0) {
        if (old) {
            /* A shared table's clusters are all shared, whatever its flags say. */
            for (uint64_t i = 0; i < s->l2_entries; i++) {
                (*table)->data[i * 8] &= 0x7f;
            }
            qcow2_free_later(s, old->offset >> s->cluster_bits, 1);
        }
        qcow2_l1_set(s, l1_index, (*table)->offset | QCOW2_COPIED);
    }
    qcow2_cache_put(&s->l2_cache, old);
    return ret;
}

/* Whether a change of [start, end) must wait for a request under way; waits if so. */
static bool coroutine_fn wait_for_requests(Qcow2State *s, int64_t start, int64_t end)
{
    for (Qcow2Request *r = s->requests; r; r = r->next) {
        if (start < r->end && r->start < end) {
            co_mutex_unlock(&s->lock);
            co_queue_wait(&r->waiters, NULL);
            return true;
        }
    }
    return false;
}

/* The new entry for one cluster that is to read as zero (or as nothing). */
static uint64_t zeroed_entry(BlockDriverState *bs, uint64_t entry, bool discard, bool unmap)
{
    Qcow2State *s = bs->opaque;
    Qcow2Kind kind = qcow2_kind(s, entry);

    if (s->version < 3) {
        return bs->backing ? entry : 0;
    }
    if (kind == QCOW2_UNALLOCATED) {
        return bs->backing && !discard ? QCOW2_ZERO : entry;
    }
    if (discard) {
        return bs->backing ? QCOW2_ZERO : 0;
    }
    if (unmap || kind == QCOW2_COMPRESSED_DATA ||
        ((kind == QCOW2_NORMAL || kind == QCOW2_ZERO_ALLOC) && !(entry & QCOW2_COPIED))) {
        return QCOW2_ZERO;
    }
    return entry | QCOW2_ZERO;
}

/* Changes all entries of whole clusters in [offset, offset + bytes). */
static int coroutine_fn change_entries(BlockDriverState *bs, uint64_t offset, uint64_t bytes,
                                       bool discard, bool unmap)
{
    Qcow2State *s = bs->opaque;
    int ret = qcow2_throttle(bs);

    while (bytes && ret >= 0) {
        uint64_t l1_index = offset >> (s->cluster_bits + s->l2_bits);
        uint64_t index = (offset >> s->cluster_bits) & (s->l2_entries - 1);
        uint64_t n = MIN(bytes >> s->cluster_bits, s->l2_entries - index);
        Qcow2Table *t;
        bool needed = false;

        co_mutex_lock(&s->lock);
        if (wait_for_requests(s, offset, offset + (n << s->cluster_bits))) {
            continue;
        }
        ret = qcow2_l2_load(bs, s->l1[l1_index], &t);
        if (ret >= 0) {
            for (uint64_t i = 0; i < n && !needed; i++) {
                uint64_t entry = t ? qcow2_l2_get(t, index + i) : 0;
                needed = zeroed_entry(bs, entry, discard, unmap) != entry;
            }
            qcow2_cache_put(&s->l2_cache, t);
        }
        if (ret >= 0 && needed) {
            ret = qcow2_l2_writable(bs, l1_index, &t);
        }
        if (ret >= 0 && needed) {
            for (Qcow2Request *r = s->requests; r; r = r->next) {
                /* One that began while a table was being read. */
                if ((int64_t)offset < r->end &&
                    r->start < (int64_t)(offset + (n << s->cluster_bits))) {
                    needed = false;
                }
            }
            if (!needed) {
                qcow2_cache_put(&s->l2_cache, t);
                co_mutex_unlock(&s->lock);
                continue;
            }
            for (uint64_t i = 0; i < n; i++) {
                uint64_t entry = qcow2_l2_get(t, index + i);
                uint64_t wanted = zeroed_entry(bs, entry, discard, unmap);

                if (wanted != entry) {
                    qcow2_l2_set(s, t, index + i, wanted);
                    if (!(wanted & QCOW2_OFFSET_MASK)) {
                        qcow2_free_entry_later(s, entry);
                    }
                }
            }
            qcow2_cache_put(&s->l2_cache, t);
        }
        co_mutex_unlock(&s->lock);
        offset += n << s->cluster_bits;
        bytes -= n << s->cluster_bits;
    }
    return ret;
}

int coroutine_fn qcow2_zero_clusters(BlockDriverState *bs, uint64_t offset, uint64_t bytes,
                                     bool unmap)
{
    Qcow2State *s = bs->opaque;

    if (s->version < 3 && bs->backing) {
        return -ENOTSUP;
    }
    return change_entries(bs, offset, bytes, false, unmap);
}

int coroutine_fn qcow2_discard_clusters(BlockDriverState *bs, uint64_t offset, uint64_t bytes)
{
    return change_entries(bs, offset, bytes, true, true);
}

int coroutine_fn qcow2_status(BlockDriverState *bs, int64_t offset, int64_t bytes, int64_t *pnum,
                              int64_t *map)
{
    static const int flags[] = {
        [QCOW2_UNALLOCATED] = 0,
        [QCOW2_ZERO_PLAIN] = BDRV_BLOCK_ZERO | BDRV_BLOCK_ALLOCATED,
        [QCOW2_ZERO_ALLOC] = BDRV_BLOCK_ZERO | BDRV_BLOCK_ALLOCATED | BDRV_BLOCK_OFFSET_VALID,
        [QCOW2_NORMAL] = BDRV_BLOCK_DATA | BDRV_BLOCK_ALLOCATED | BDRV_BLOCK_OFFSET_VALID,
        [QCOW2_COMPRESSED_DATA] =
            BDRV_BLOCK_DATA | BDRV_BLOCK_ALLOCATED | BDRV_BLOCK_COMPRESSED,
    };
    Qcow2State *s = bs->opaque;
    uint64_t l1_index = (uint64_t)offset >> (s->cluster_bits + s->l2_bits);
    uint64_t index = ((uint64_t)offset >> s->cluster_bits) & (s->l2_entries - 1);
    uint64_t in_cluster = offset & (s->cluster_size - 1);
    uint64_t limit = MIN((uint64_t)bytes,
                         ((s->l2_entries - index) << s->cluster_bits) - in_cluster);
    uint64_t n = 0, host = 0;
    Qcow2Kind kind = QCOW2_UNALLOCATED;
    Qcow2Table *t;
    int ret = qcow2_l2_load(bs, s->l1[l1_index], &t);

    if (ret < 0) {
        return ret;
    }
    if (t) {
        uint64_t first = qcow2_l2_get(t, index);

        kind = qcow2_kind(s, first);
        host = first & QCOW2_OFFSET_MASK;
        for (n = s->cluster_size - in_cluster; n < limit; n += s->cluster_size) {
            uint64_t entry = qcow2_l2_get(t, ++index);

            if (qcow2_kind(s, entry) != kind ||
                ((kind == QCOW2_NORMAL || kind == QCOW2_ZERO_ALLOC) &&
                 (entry & QCOW2_OFFSET_MASK) != host + n + in_cluster)) {
                break;
            }
        }
        qcow2_cache_put(&s->l2_cache, t);
    } else {
        n = limit;
    }
    *pnum = MIN(n, limit);
    *map = host + in_cluster;
    if (kind == QCOW2_UNALLOCATED && !bs->backing) {
        return BDRV_BLOCK_ZERO;
    }
    return flags[kind];
}

int coroutine_fn qcow2_preallocate(BlockDriverState *bs, uint64_t offset, uint64_t bytes)
{
    Qcow2State *s = bs->opaque;
    uint64_t end = offset + bytes, host_end = 0;
    int ret = 0;

    offset &= ~(s->cluster_size - 1);
    while (offset < end && ret >= 0) {
        uint64_t l1_index = offset >> (s->cluster_bits + s->l2_bits);
        uint64_t index = (offset >> s->cluster_bits) & (s->l2_entries - 1);
        uint64_t n = MIN(qcow2_clusters(s, end - offset), s->l2_entries - index);
        uint64_t cluster, got = 0;
        Qcow2Table *t;

        ret = qcow2_throttle(bs);
        if (ret < 0) {
            break;
        }
        co_mutex_lock(&s->lock);
        ret = qcow2_l2_writable(bs, l1_index, &t);
        if (ret >= 0) {
            ret = qcow2_alloc(bs, n, &cluster, &got);
            for (uint64_t i = 0; i < got && ret >= 0; i++) {
                qcow2_free_entry_later(s, qcow2_l2_get(t, index + i));
                qcow2_l2_set(s, t, index + i,
                             ((cluster + i) << s->cluster_bits) | QCOW2_COPIED);
            }
            qcow2_cache_put(&s->l2_cache, t);
        }
        if (ret >= 0) {
            host_end = MAX(host_end, (cluster + got) << s->cluster_bits);
            s->zero_from = MAX(s->zero_from, host_end);
        }
        co_mutex_unlock(&s->lock);
        offset += got << s->cluster_bits;
    }
    if (ret >= 0 && host_end > (uint64_t)bs->file->bs->length) {
        /* The file must reach to the last cluster; what it never held reads as zero. */
        uint8_t zero = 0;

        ret = bdrv_co_pwrite(bs->file, host_end - 1, 1, &zero, 0);
    }
    return ret;
}
