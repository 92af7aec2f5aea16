/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The mapping from guest clusters to host clusters: loading L2 tables, making them private
 * to the active layer, and the operations that only change the mapping (zeroing, discarding,
 * block status).  Data I/O is in qcow2-io.c, entries are in qcow2-l2.c.
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
        uint32_t index = 0;

        while (index + 1 < s->l1_size && s->l1[index] != l1_entry) {
            index++;
        }
        return qcow2_signal_corruption(bs, "L2 table offset %#" PRIx64 " unaligned (L1 index: %#"
                                       PRIx32 ")", offset, index);
    }
    return qcow2_cache_get(bs, &s->l2_cache, offset, table);
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
    qcow2_metadata_add(s, (*table)->offset, QCOW2_OL_ACTIVE_L2);
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
            qcow2_l2_clear_copied(s, *table);
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

/* A change of whole subclusters: they are to read as zero, or as nothing. */
typedef struct Change {
    uint64_t offset, bytes; /* what is left to do */
    bool discard, unmap;
} Change;

/* The new entry for one cluster that is to read as zero (or as nothing). */
static uint64_t zeroed_entry(BlockDriverState *bs, uint64_t entry, const Change *c)
{
    Qcow2State *s = bs->opaque;
    Qcow2Kind kind = qcow2_kind(s, entry);

    if (s->version < 3) {
        return bs->backing ? entry : 0;
    }
    if (kind == QCOW2_UNALLOCATED) {
        return bs->backing ? QCOW2_ZERO : entry;
    }
    if (c->discard) {
        return bs->backing ? QCOW2_ZERO : 0;
    }
    if (c->unmap || kind == QCOW2_COMPRESSED_DATA ||
        (qcow2_kind_has_host(kind) && !(entry & QCOW2_COPIED))) {
        return QCOW2_ZERO;
    }
    return entry | QCOW2_ZERO;
}

/* The same for the subclusters in mask of an extended entry, which all are when it is compressed. */
static uint64_t zeroed_extended(BlockDriverState *bs, uint64_t entry, const Change *c, uint64_t mask,
                                uint64_t *bitmap)
{
    Qcow2State *s = bs->opaque;
    Qcow2Kind kind = qcow2_kind(s, entry);
    bool nothing = c->discard && !bs->backing;

    if (kind == QCOW2_COMPRESSED_DATA) {
        *bitmap = nothing ? 0 : QCOW2_SUB_ZERO;
        return 0;
    }
    if (kind == QCOW2_UNALLOCATED && !bs->backing) {
        return entry;
    }
    *bitmap &= ~(mask | mask << 32);
    *bitmap |= nothing ? 0 : mask << 32;
    if (!(*bitmap & QCOW2_SUB_ALL) && (c->discard || c->unmap || !(entry & QCOW2_COPIED))) {
        return 0;
    }
    return entry;
}

/* The subclusters of one cluster that lie in [offset, offset + bytes), as bits. */
static uint64_t sub_mask(const Qcow2State *s, uint64_t cluster, uint64_t offset, uint64_t bytes)
{
    uint64_t from = MAX(offset, cluster) - cluster;
    uint64_t to = MIN(offset + bytes - cluster, s->cluster_size);
    unsigned first = from >> s->sub_bits, n = (to - from) >> s->sub_bits;

    return ((1ULL << n) - 1) << first;
}

/* Changes entry index of t (NULL: there is no table); with dry_run only says whether it would. */
static bool change_entry(BlockDriverState *bs, Qcow2Table *t, uint64_t index, const Change *c,
                         uint64_t cluster, bool dry_run)
{
    Qcow2State *s = bs->opaque;
    uint64_t entry = t ? qcow2_l2_get(t, index) : 0, wanted;
    uint64_t bitmap = t ? qcow2_l2_bitmap(t, index) : 0, before = bitmap;

    if (s->extended_l2) {
        uint64_t mask = sub_mask(s, cluster, c->offset, c->bytes);

        wanted = zeroed_extended(bs, entry, c, mask, &bitmap);
    } else {
        wanted = zeroed_entry(bs, entry, c);
    }
    if (wanted == entry && bitmap == before) {
        return false;
    }
    if (!dry_run) {
        qcow2_l2_set_both(s, t, index, wanted, bitmap);
        if (!qcow2_has_host(s, wanted)) {
            qcow2_free_entry_later_by(s, entry, QCOW2_FREED_BY_REQUEST);
        }
    }
    return true;
}

/* Whether part of a compressed cluster is to change, which takes a write. */
static bool cuts_compressed(const Qcow2State *s, const Qcow2Table *t, uint64_t index, uint64_t n,
                            const Change *c)
{
    uint64_t mask = s->cluster_size - 1;

    return t && s->extended_l2 &&
           (((c->offset & mask) && qcow2_l2_get(t, index) & QCOW2_COMPRESSED) ||
            ((c->offset & mask) + c->bytes < n << s->cluster_bits &&
             qcow2_l2_get(t, index + n - 1) & QCOW2_COMPRESSED));
}

/*
 * Lock held.  Does what c says in one L2 table, for n clusters from cluster on; -EAGAIN when a
 * request began there meanwhile.
 */
static int coroutine_fn change_in_table(BlockDriverState *bs, const Change *c, uint64_t cluster,
                                        uint64_t n)
{
    Qcow2State *s = bs->opaque;
    uint64_t l1_index = cluster >> (s->cluster_bits + s->l2_bits);
    uint64_t index = (cluster >> s->cluster_bits) & (s->l2_entries - 1);
    bool needed = false;
    Qcow2Table *t;
    int ret = qcow2_l2_load(bs, s->l1[l1_index], &t);

    if (ret < 0) {
        return ret;
    }
    if (cuts_compressed(s, t, index, n, c)) {
        ret = -ENOTSUP;
    }
    for (uint64_t i = 0; i < n && !needed && ret >= 0; i++) {
        needed = change_entry(bs, t, index + i, c, cluster + (i << s->cluster_bits), true);
    }
    qcow2_cache_put(&s->l2_cache, t);
    if (!needed || ret < 0) {
        return ret;
    }
    ret = qcow2_l2_writable(bs, l1_index, &t);
    if (ret < 0) {
        return ret;
    }
    for (Qcow2Request *r = s->requests; r; r = r->next) {
        if ((int64_t)cluster < r->end && r->start < (int64_t)(cluster + (n << s->cluster_bits))) {
            ret = -EAGAIN; /* it began while a table was being read */
        }
    }
    for (uint64_t i = 0; i < n && ret >= 0; i++) {
        change_entry(bs, t, index + i, c, cluster + (i << s->cluster_bits), false);
    }
    qcow2_cache_put(&s->l2_cache, t);
    return ret;
}

static int coroutine_fn change_entries(BlockDriverState *bs, Change c)
{
    Qcow2State *s = bs->opaque;
    int ret = qcow2_throttle(bs);

    while (c.bytes && ret >= 0) {
        uint64_t in_cluster = c.offset & (s->cluster_size - 1), cluster = c.offset - in_cluster;
        uint64_t index = (cluster >> s->cluster_bits) & (s->l2_entries - 1);
        uint64_t n = MIN(qcow2_clusters(s, in_cluster + c.bytes), s->l2_entries - index);
        uint64_t done = MIN(c.bytes, (n << s->cluster_bits) - in_cluster);

        co_mutex_lock(&s->lock);
        if (wait_for_requests(s, cluster, cluster + (n << s->cluster_bits))) {
            continue;
        }
        ret = change_in_table(bs, &c, cluster, n);
        co_mutex_unlock(&s->lock);
        if (ret == -EAGAIN) {
            ret = 0;
            continue;
        }
        c.offset += done;
        c.bytes -= done;
    }
    return ret;
}

/*
 * In the data file, before L2 says so.  One that must read as the disk does needs zeroes; in
 * any other the space is given back where it may be.
 */
static int coroutine_fn zero_external(BlockDriverState *bs, uint64_t offset, uint64_t bytes,
                                      bool unmap)
{
    Qcow2State *s = bs->opaque;
    uint64_t length = bs->length, end = MIN(offset + bytes, length);

    unmap = unmap && s->options.pass_discard[QCOW2_FREED_BY_REQUEST];
    if (offset >= end) {
        return 0;
    }
    if (qcow2_data_raw(s)) {
        return bdrv_co_pwrite_zeroes(bs->data_file, offset, end - offset,
                                     unmap ? BDRV_REQ_MAY_UNMAP : 0);
    }
    return unmap ? bdrv_co_pdiscard(bs->data_file, offset, end - offset) : 0;
}

int coroutine_fn qcow2_zero_clusters(BlockDriverState *bs, uint64_t offset, uint64_t bytes,
                                     bool unmap)
{
    Qcow2State *s = bs->opaque;

    int ret = 0;

    if (s->version < 3 && bs->backing) {
        return -ENOTSUP;
    }
    if (s->external_data) {
        ret = zero_external(bs, offset, bytes, unmap);
    }
    return ret < 0 ? ret : change_entries(bs, (Change) { offset, bytes, false, unmap });
}

int coroutine_fn qcow2_discard_clusters(BlockDriverState *bs, uint64_t offset, uint64_t bytes)
{
    Qcow2State *s = bs->opaque;
    int ret = s->external_data ? zero_external(bs, offset, bytes, true) : 0;

    return ret < 0 ? ret : change_entries(bs, (Change) { offset, bytes, true, true });
}

int coroutine_fn qcow2_status(BlockDriverState *bs, int64_t offset, int64_t bytes, int64_t *pnum,
                              int64_t *map)
{
    static const int flags[] = {
        [QCOW2_UNALLOCATED] = 0,
        [QCOW2_UNALLOCATED_ALLOC] = BDRV_BLOCK_OFFSET_VALID,
        [QCOW2_ZERO_PLAIN] = BDRV_BLOCK_ZERO | BDRV_BLOCK_ALLOCATED,
        [QCOW2_ZERO_ALLOC] = BDRV_BLOCK_ZERO | BDRV_BLOCK_ALLOCATED | BDRV_BLOCK_OFFSET_VALID,
        [QCOW2_NORMAL] = BDRV_BLOCK_DATA | BDRV_BLOCK_ALLOCATED | BDRV_BLOCK_OFFSET_VALID,
        [QCOW2_COMPRESSED_DATA] =
            BDRV_BLOCK_DATA | BDRV_BLOCK_ALLOCATED | BDRV_BLOCK_COMPRESSED,
    };
    Qcow2State *s = bs->opaque;
    Qcow2Table *t;
    Qcow2Run run;
    int ret = qcow2_l2_load(bs, s->l1[offset >> (s->cluster_bits + s->l2_bits)], &t);

    if (ret < 0) {
        return ret;
    }
    qcow2_run(s, t, offset, bytes, &run);
    qcow2_cache_put(&s->l2_cache, t);
    if (run.kind == QCOW2_INVALID) {
        return qcow2_signal_invalid(bs, &run);
    }
    *pnum = run.bytes;
    *map = run.host;
    if ((run.kind == QCOW2_UNALLOCATED || run.kind == QCOW2_UNALLOCATED_ALLOC) && !bs->backing) {
        return BDRV_BLOCK_ZERO | flags[run.kind];
    }
    return flags[run.kind];
}
