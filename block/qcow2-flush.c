/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How metadata reaches the disk.
 *
 * Ordered flush, in place.  All of it works on the content of one instant T:
 *   refcount blocks > sync > refcount table > sync > L2 tables > sync > L1 > sync
 * so a pointer is written only when what it points to, and its reference count, is durable.
 * Then clusters that lost their last reference before T are given back ("frees"): a
 * reference count falls only when no durable pointer needs it, so a crash leaks at most.
 *
 * Lazy reference counts.  With lazy_refcounts=on the image is marked dirty before the first
 * change, and refcount blocks and table are left out of ordered flushes.  Who opens a dirty
 * image for writing counts anew; qcow2_flush_all() writes the counts and takes the mark off.
 *
 * Root switch.  Sharing a cluster with a snapshot takes its count from 1 to 2 and the COPIED
 * flag off the active L2 entry, and no order of two writes keeps both consistent.  So such
 * tables ("shadow") are written to fresh clusters, with a fresh L1 and refcount table, and
 * become valid together when one header write points to them.
 */
#include "block/debug.h"
#include "block/trace.h"
#include "qcow2.h"

/* At most this many clusters are looked at, and become a hole, at once. */
#define PUNCH_CLUSTERS 4096
/* Holes that are made side by side: what one waits for need not hold up the next. */
#define PUNCHERS 4

int coroutine_fn qcow2_sync_file(BlockDriverState *bs)
{
    int ret = bs->data_file ? bdrv_co_flush(bs->data_file->bs) : 0;

    bdrv_co_debug_event(bs->file, BLKDEBUG_EVENT_FLUSH_TO_DISK);
    return ret < 0 ? ret : bdrv_co_flush(bs->file->bs);
}

/* Writes the 512-byte sectors of a table of pointers that hold the given indices. */
static int coroutine_fn write_pointers(BlockDriverState *bs, uint64_t offset,
                                       const uint64_t *numbers, uint64_t size, GArray *indices)
{
    uint64_t last = UINT64_MAX;

    for (guint i = 0; i < indices->len; i++) {
        uint64_t first = g_array_index(indices, uint32_t, i) & ~63u;
        uint64_t n = MIN(64, size - first);
        uint8_t sector[512];
        int ret;

        if (first == last) {
            continue;
        }
        last = first;
        for (uint64_t j = 0; j < n; j++) {
            qcow2_put64(sector + j * 8, numbers[first + j]);
        }
        ret = bdrv_co_pwrite(bs->file, offset + first * 8, n * 8, sector, 0);
        if (ret < 0) {
            return ret;
        }
    }
    return 0;
}

/* Puts indices that could not be written back on the dirty list. */
static void requeue(GArray *list, GArray *indices)
{
    g_array_append_vals(list, indices->data, indices->len);
}

static int coroutine_fn write_tables(BlockDriverState *bs, Qcow2Cache *c, GPtrArray *tables)
{
    for (guint i = 0; i < tables->len; i++) {
        int ret = qcow2_cache_write_frozen(bs, c, tables->pdata[i]);

        if (ret < 0) {
            return ret;
        }
    }
    return 0;
}

/*
 * Refcount table entries for new blocks; for a table that has grown, the whole table at its
 * new place.  The blocks are durable.
 */
static int coroutine_fn flush_refcount_table(BlockDriverState *bs, GArray *indices,
                                             const uint64_t *grown, uint64_t grown_size,
                                             uint64_t grown_offset)
{
    Qcow2State *s = bs->opaque;
    uint64_t old_offset = s->rt_offset;
    uint32_t old_clusters = s->rt_clusters;
    int ret;

    if (!grown) {
        bdrv_co_debug_event(bs->file, BLKDEBUG_EVENT_REFTABLE_UPDATE);
        ret = write_pointers(bs, s->rt_offset, s->rt_disk, s->rt_disk_size, indices);
        return ret < 0 ? ret : qcow2_sync_file(bs);
    }
    ret = qcow2_store_numbers(bs, grown_offset, grown, grown_size);
    if (ret >= 0) {
        ret = qcow2_sync_file(bs);
    }
    if (ret < 0) {
        return ret;
    }
    s->rt_offset = grown_offset;
    s->rt_clusters = qcow2_clusters(s, grown_size * 8);
    ret = qcow2_header_write(bs);
    if (ret >= 0) {
        ret = qcow2_sync_file(bs);
    }
    if (ret < 0) {
        s->rt_offset = old_offset;
        s->rt_clusters = old_clusters;
        qcow2_header_put_back(bs);
        return ret;
    }
    g_free(s->rt_disk);
    s->rt_disk = g_memdup2(grown, grown_size * 8);
    s->rt_disk_size = grown_size;
    if (s->rt_new_offset == grown_offset) {
        s->rt_new_offset = 0;
    }
    qcow2_free_later(s, old_offset >> s->cluster_bits, old_clusters);
    return 0;
}

/* Drops one reference of each cluster of a run now. */
static void coroutine_fn drop_references(BlockDriverState *bs, uint64_t cluster, uint64_t count)
{
    Qcow2State *s = bs->opaque;

    co_mutex_lock(&s->lock);
    /* A failure here (a refcount block that cannot be read) leaks the clusters. */
    qcow2_refcount_add(bs, cluster, count, -1, false);
    co_mutex_unlock(&s->lock);
}

/*
 * Makes holes in the file where clusters are about to become free, and then lets them.  While
 * they are counted nobody else can take them, and nothing in the file refers to them any more.
 */
static void coroutine_fn punch_out(void *opaque)
{
    BlockDriverState *bs = opaque;
    Qcow2State *s = bs->opaque;

    while (s->holes->len) {
        Qcow2Free f = g_array_index(s->holes, Qcow2Free, s->holes->len - 1);

        g_array_set_size(s->holes, s->holes->len - 1);
        /* It saves space, no more: an error does not matter. */
        bdrv_co_pdiscard(bs->file, f.cluster << s->cluster_bits, f.count << s->cluster_bits);
        drop_references(bs, f.cluster, f.count);
        g_tree_remove(s->hole_runs, &f);
    }
    s->punching--;
    s->background--;
    co_queue_restart_all(&s->pin_queue);
}

int qcow2_compare_runs(const void *a, const void *b, void *unused)
{
    const Qcow2Free *x = a, *y = b;

    return x->cluster + x->count <= y->cluster ? -1 : x->cluster >= y->cluster + y->count;
}

/* Whether a cluster is to become a hole already.  Only damage frees the last reference twice. */
static bool is_hole_soon(const Qcow2State *s, uint64_t cluster)
{
    return g_tree_lookup(s->hole_runs, &(Qcow2Free) { .cluster = cluster, .count = 1 }) != NULL;
}

static void add_hole(Qcow2State *s, const Qcow2Free *hole)
{
    Qcow2Free *run = g_memdup2(hole, sizeof(*hole));

    g_array_append_val(s->holes, *run);
    g_tree_insert(s->hole_runs, run, run);
}

/* Of a run that loses a reference: how many clusters lose their last one, from the first on. */
static uint64_t coroutine_fn last_references(BlockDriverState *bs, uint64_t cluster,
                                             uint64_t count)
{
    Qcow2State *s = bs->opaque;
    uint64_t n = 0, value = 1;

    co_mutex_lock(&s->lock);
    while (n < count && n < PUNCH_CLUSTERS) {
        if (qcow2_refcount_get(bs, cluster + n, &value) < 0 || value != 1 ||
            is_hole_soon(s, cluster + n)) {
            break;
        }
        if (s->pack_at >> s->cluster_bits == cluster + n) {
            s->pack_end = s->pack_at; /* nothing more goes into what becomes a hole */
        }
        n++;
    }
    co_mutex_unlock(&s->lock);
    return n;
}

/*
 * Gives back what the flush that just succeeded has made unreferenced.  What shall become holes
 * first does so in the background, since nobody's flush needs to wait for that; only clusters
 * that nobody else refers to do, so no count that a walk looks at is late.
 */
static void coroutine_fn apply_frees(BlockDriverState *bs, GArray *frees)
{
    Qcow2State *s = bs->opaque;

    if (frees->len) {
        bdrv_co_debug_event(bs->file, BLKDEBUG_EVENT_CLUSTER_FREE);
    }
    for (guint i = 0; i < frees->len; i++) {
        Qcow2Free *f = &g_array_index(frees, Qcow2Free, i);
        uint64_t end = f->cluster + f->count, at = f->cluster;

        while (at < end && s->options.pass_discard[f->by]) {
            Qcow2Free hole = { at, last_references(bs, at, end - at), f->by };

            if (hole.count) {
                add_hole(s, &hole);
            } else if (!is_hole_soon(s, at)) {
                drop_references(bs, at, 1);
            }
            at += MAX(hole.count, 1);
        }
        if (at < end) {
            drop_references(bs, at, end - at);
        }
    }
    while (s->punching < MIN(PUNCHERS, s->holes->len)) {
        s->punching++;
        s->background++;
        aio_co_schedule(aio_current(), coroutine_create(punch_out, bs));
    }
}

static bool many_dirty(const Qcow2Cache *c)
{
    return c->dirty > c->limit / 2;
}

/* The mark in the header that says that reference counts may be wrong; durable. */
static int coroutine_fn mark_dirty(BlockDriverState *bs, bool dirty)
{
    Qcow2State *s = bs->opaque;
    int ret;

    if (dirty == !!(s->incompatible & QCOW2_INCOMPAT_DIRTY)) {
        return 0;
    }
    s->incompatible ^= QCOW2_INCOMPAT_DIRTY;
    ret = qcow2_header_write(bs);
    ret = ret < 0 ? ret : qcow2_sync_file(bs);
    if (ret < 0) {
        s->incompatible ^= QCOW2_INCOMPAT_DIRTY; /* others may have been set meanwhile */
        qcow2_header_put_back(bs);
    } else {
        s->marked_dirty = dirty;
    }
    return ret;
}

static GArray *take_indices(GArray **list)
{
    GArray *taken = *list;

    *list = g_array_new(false, false, sizeof(uint32_t));
    return taken;
}

/* Refcounts, then the pointers to them, then L2 tables, then L1: see the top of the file. */
static int coroutine_fn flush_in_order(BlockDriverState *bs, bool lazy)
{
    Qcow2State *s = bs->opaque;
    g_autoptr(GPtrArray) blocks = g_ptr_array_new(), tables = g_ptr_array_new();
    g_autoptr(GArray) frees = NULL, l1 = NULL, rt = NULL;
    g_autofree uint64_t *grown = NULL, *l1_values = NULL;
    uint64_t seq, grown_size = 0, grown_offset;
    bool tables_written;
    int ret = lazy ? mark_dirty(bs, true) : 0;

    if (ret < 0) {
        return ret;
    }
    /* The instant T: no yield from here ... */
    seq = s->write_seq;
    grown_offset = lazy ? 0 : s->rt_new_offset;
    if (!lazy) {
        qcow2_cache_freeze(&s->rb_cache, blocks);
    }
    qcow2_cache_freeze(&s->l2_cache, tables);
    frees = g_steal_pointer(&s->frees);
    s->frees = g_array_new(false, false, sizeof(Qcow2Free));
    l1 = take_indices(&s->l1_dirty);
    rt = lazy ? g_array_new(false, false, sizeof(uint32_t)) : take_indices(&s->rt_dirty);
    l1_values = g_new(uint64_t, MAX(l1->len, 1));
    for (guint i = 0; i < l1->len; i++) {
        l1_values[i] = s->l1[g_array_index(l1, uint32_t, i)];
    }
    if (grown_offset) {
        grown_size = s->rt_size;
        grown = g_memdup2(s->rt, grown_size * 8);
    } else {
        for (guint i = 0; i < rt->len; i++) {
            uint32_t index = g_array_index(rt, uint32_t, i);
            s->rt_disk[index] = s->rt[index];
        }
    }
    /* ... to here. */

    trace_qcow2_flush_in_order(bs, blocks->len, tables->len, l1->len, frees->len);
    ret = write_tables(bs, &s->rb_cache, blocks);
    if (ret >= 0) {
        ret = qcow2_sync_file(bs);
    }
    if (ret >= 0 && (rt->len || grown)) {
        ret = flush_refcount_table(bs, rt, grown, grown_size, grown_offset);
    }
    if (ret < 0) {
        requeue(s->rt_dirty, rt);
        goto out;
    }
    tables_written = tables->len > 0;
    ret = write_tables(bs, &s->l2_cache, tables);
    if (ret >= 0 && l1->len) {
        if (tables_written) {
            ret = qcow2_sync_file(bs);
        }
        if (ret >= 0) {
            for (guint i = 0; i < l1->len; i++) {
                s->l1_disk[g_array_index(l1, uint32_t, i)] = l1_values[i];
            }
            bdrv_co_debug_event(bs->file, BLKDEBUG_EVENT_L1_UPDATE);
            ret = write_pointers(bs, s->l1_offset, s->l1_disk, s->l1_disk_size, l1);
        }
    }
    if (ret >= 0 && (tables_written || l1->len)) {
        ret = qcow2_sync_file(bs);
    }
out:
    if (ret < 0) {
        requeue(s->l1_dirty, l1);
        g_array_append_vals(s->frees, frees->data, frees->len);
        g_array_set_size(frees, 0);
    } else {
        s->synced_seq = MAX(s->synced_seq, seq);
    }
    qcow2_cache_thaw(&s->rb_cache, blocks);
    qcow2_cache_thaw(&s->l2_cache, tables);
    apply_frees(bs, frees);
    return ret;
}

/* The fresh places of a root switch. */
typedef struct RootSwitch {
    uint64_t l1_cluster, l1_count, rt_cluster, rt_count;
    GPtrArray *blocks;     /* shadow refcount blocks */
    GArray *block_clusters; /* where each goes */
} RootSwitch;

static int coroutine_fn root_allocate(BlockDriverState *bs, RootSwitch *r)
{
    Qcow2State *s = bs->opaque;
    int ret;

    r->l1_count = qcow2_clusters(s, (uint64_t)s->l1_disk_size * 8);
    if (r->l1_count) {
        ret = qcow2_alloc_contiguous(bs, r->l1_count, &r->l1_cluster);
        if (ret < 0) {
            r->l1_count = 0;
            return ret;
        }
    }
    for (GList *link = s->rb_cache.lru.head; link; link = link->next) {
        Qcow2Table *t = link->data;

        if (t->shadow) {
            t->refs++;
            g_ptr_array_add(r->blocks, t);
        }
    }
    for (guint i = 0; i < r->blocks->len; i++) {
        uint64_t cluster;

        ret = qcow2_alloc_contiguous(bs, 1, &cluster);
        if (ret < 0) {
            return ret;
        }
        g_array_append_val(r->block_clusters, cluster);
    }
    /* Last: allocating may have made the refcount table grow. */
    r->rt_count = qcow2_clusters(s, s->rt_size * 8);
    ret = qcow2_alloc_contiguous(bs, r->rt_count, &r->rt_cluster);
    if (ret >= 0 && qcow2_clusters(s, s->rt_size * 8) > r->rt_count) {
        qcow2_free_now(bs, r->rt_cluster, r->rt_count);
        r->rt_count = qcow2_clusters(s, s->rt_size * 8);
        ret = qcow2_alloc_contiguous(bs, r->rt_count, &r->rt_cluster);
    }
    if (ret < 0) {
        r->rt_count = 0;
    }
    return ret;
}

/* Writes everything the new root will reach and does not share with the old one. */
static int coroutine_fn root_write(BlockDriverState *bs, RootSwitch *r)
{
    Qcow2State *s = bs->opaque;
    g_autoptr(GPtrArray) tables = g_ptr_array_new();
    g_autofree uint64_t *l1 = g_memdup2(s->l1_disk, (gsize)s->l1_disk_size * 8);
    g_autofree uint64_t *rt = g_memdup2(s->rt, s->rt_size * 8);
    int ret = 0;

    for (GList *link = s->rb_cache.lru.head; link; link = link->next) {
        Qcow2Table *t = link->data;

        if (t->dirty && !t->shadow) {
            t->refs++;
            g_ptr_array_add(tables, t);
        }
    }
    for (guint i = 0; i < tables->len; i++) {
        Qcow2Table *t = tables->pdata[i];

        if (ret >= 0) {
            ret = bdrv_co_pwrite(bs->file, t->offset, s->cluster_size, t->data, 0);
            if (ret >= 0 && t->dirty) {
                t->dirty = false;
                s->rb_cache.dirty--;
            }
        }
        qcow2_cache_put(&s->rb_cache, t);
    }
    for (guint i = 0; i < r->blocks->len && ret >= 0; i++) {
        Qcow2Table *t = r->blocks->pdata[i];
        uint64_t to = g_array_index(r->block_clusters, uint64_t, i) << s->cluster_bits;

        rt[t->index] = to;
        ret = bdrv_co_pwrite(bs->file, to, s->cluster_size, t->data, 0);
    }
    for (guint i = 0; i < s->shadow_l1->len && ret >= 0; i++) {
        uint32_t index = g_array_index(s->shadow_l1, uint32_t, i);
        Qcow2Table *t;

        l1[index] = s->l1[index];
        ret = qcow2_cache_get(bs, &s->l2_cache, l1[index] & QCOW2_OFFSET_MASK, &t);
        if (ret >= 0) {
            ret = bdrv_co_pwrite(bs->file, t->offset, s->cluster_size, t->data, 0);
            qcow2_cache_put(&s->l2_cache, t);
        }
    }
    if (ret >= 0 && r->l1_count) {
        ret = qcow2_store_numbers(bs, r->l1_cluster << s->cluster_bits, l1, s->l1_disk_size);
    }
    if (ret >= 0) {
        ret = qcow2_store_numbers(bs, r->rt_cluster << s->cluster_bits, rt, s->rt_size);
    }
    if (ret >= 0) {
        ret = qcow2_sync_file(bs);
    }
    return ret;
}

/* The new root is valid: memory follows, the old places are free. */
static void coroutine_fn root_adopt(BlockDriverState *bs, RootSwitch *r, uint64_t old_l1,
                                    uint64_t old_rt, uint32_t old_rt_clusters)
{
    Qcow2State *s = bs->opaque;

    for (guint i = 0; i < s->shadow_l1->len; i++) {
        uint32_t index = g_array_index(s->shadow_l1, uint32_t, i);
        uint64_t offset = s->l1[index] & QCOW2_OFFSET_MASK;
        Qcow2Table *t = g_hash_table_lookup(s->l2_cache.map, &offset);

        s->l1_disk[index] = s->l1[index];
        if (t) {
            t->shadow = false;
            if (t->dirty) {
                t->dirty = false;
                s->l2_cache.dirty--;
            }
        }
    }
    g_array_set_size(s->shadow_l1, 0);

    for (guint i = 0; i < r->blocks->len; i++) {
        Qcow2Table *t = r->blocks->pdata[i];
        uint64_t from = t->offset;
        uint64_t to = g_array_index(r->block_clusters, uint64_t, i) << s->cluster_bits;

        s->rt[t->index] = to;
        qcow2_cache_rekey(&s->rb_cache, t, to);
        qcow2_metadata_remove(s, from);
        qcow2_metadata_add(s, to, QCOW2_OL_REFCOUNT_BLOCK);
        t->shadow = false;
        if (t->dirty) {
            t->dirty = false;
            s->rb_cache.dirty--;
        }
        qcow2_free_later(s, from >> s->cluster_bits, 1);
    }
    s->shadow_rb = 0;
    g_free(s->rt_disk);
    s->rt_disk = g_memdup2(s->rt, s->rt_size * 8);
    s->rt_disk_size = s->rt_size;
    g_array_set_size(s->rt_dirty, 0);
    if (s->rt_new_offset) {
        /* It had grown in memory and was to go there. */
        qcow2_free_later(s, s->rt_new_offset >> s->cluster_bits, r->rt_count);
        s->rt_new_offset = 0;
    }
    if (r->l1_count) {
        qcow2_free_later(s, old_l1 >> s->cluster_bits, r->l1_count);
    }
    qcow2_free_later(s, old_rt >> s->cluster_bits, old_rt_clusters);
}

/* lock and flush_lock held. */
static int coroutine_fn root_switch(BlockDriverState *bs)
{
    Qcow2State *s = bs->opaque;
    uint64_t old_l1 = s->l1_offset, old_rt = s->rt_offset;
    uint32_t old_rt_clusters = s->rt_clusters;
    RootSwitch r = { .blocks = g_ptr_array_new(),
                     .block_clusters = g_array_new(false, false, sizeof(uint64_t)) };
    int ret = root_allocate(bs, &r);

    if (ret >= 0) {
        ret = root_write(bs, &r);
    }
    if (ret >= 0) {
        if (r.l1_count) {
            s->l1_offset = r.l1_cluster << s->cluster_bits;
        }
        s->rt_offset = r.rt_cluster << s->cluster_bits;
        s->rt_clusters = r.rt_count;
        ret = qcow2_header_write(bs);
        if (ret >= 0) {
            ret = qcow2_sync_file(bs);
        }
        if (ret < 0) {
            /* Either root may be the one in the file, until the old one is written again. */
            s->l1_offset = old_l1;
            s->rt_offset = old_rt;
            s->rt_clusters = old_rt_clusters;
            qcow2_header_put_back(bs);
        }
    }
    trace_qcow2_root_switch(bs, s->l1_offset, s->rt_offset, ret);
    if (ret >= 0) {
        root_adopt(bs, &r, old_l1, old_rt, old_rt_clusters);
    } else if (!s->broken) {
        if (r.l1_count) {
            qcow2_free_now(bs, r.l1_cluster, r.l1_count);
        }
        if (r.rt_count) {
            qcow2_free_now(bs, r.rt_cluster, r.rt_count);
        }
        for (guint i = 0; i < r.block_clusters->len; i++) {
            qcow2_free_now(bs, g_array_index(r.block_clusters, uint64_t, i), 1);
        }
    }
    for (guint i = 0; i < r.blocks->len; i++) {
        qcow2_cache_put(&s->rb_cache, r.blocks->pdata[i]);
    }
    g_ptr_array_free(r.blocks, true);
    g_array_free(r.block_clusters, true);
    return ret;
}

static bool metadata_dirty(const Qcow2State *s)
{
    return s->l2_cache.dirty || s->rb_cache.dirty || s->l1_dirty->len || s->rt_dirty->len ||
           s->frees->len || s->rt_new_offset;
}

static int coroutine_fn flush(BlockDriverState *bs, bool everything)
{
    Qcow2State *s = bs->opaque;
    uint64_t wanted = s->write_seq;
    int ret = 0;

    trace_qcow2_flush(bs, wanted, s->synced_seq);
    co_mutex_lock(&s->flush_lock);
    if (s->broken) {
        ret = -EIO;
    } else if (s->synced_seq >= wanted && wanted && !everything) {
        /* The flush we waited for began after our caller's last write. */
    } else if (!metadata_dirty(s) && !s->shadow_l1->len && !s->shadow_rb) {
        ret = qcow2_sync_file(bs);
        if (ret >= 0) {
            s->synced_seq = MAX(s->synced_seq, wanted);
        }
    } else {
        while (ret >= 0 && (s->shadow_l1->len || s->shadow_rb)) {
            /* Bulk data goes first, while nobody waits for the lock. */
            ret = qcow2_sync_file(bs);
            if (ret >= 0) {
                co_mutex_lock(&s->lock);
                ret = root_switch(bs);
                co_mutex_unlock(&s->lock);
            }
        }
        if (ret >= 0) {
            ret = flush_in_order(bs, s->options.lazy && !everything && !many_dirty(&s->rb_cache));
        }
    }
    /* What becomes a hole is counted until then: a crash would leave it so. */
    if (ret >= 0 && everything && s->marked_dirty && !metadata_dirty(s) && !s->punching) {
        ret = mark_dirty(bs, false);
    }
    co_mutex_unlock(&s->flush_lock);
    trace_qcow2_flush_done(bs, ret);
    return ret;
}

int coroutine_fn qcow2_flush(BlockDriverState *bs)
{
    return flush(bs, false);
}

void coroutine_fn qcow2_wait_for_holes(Qcow2State *s)
{
    while (s->punching) {
        co_queue_wait(&s->pin_queue, NULL);
    }
}

int coroutine_fn qcow2_flush_all(BlockDriverState *bs)
{
    Qcow2State *s = bs->opaque;
    int ret = 0;

    /* The first flush gives back clusters, the second makes that durable. */
    for (int i = 0; i < 3 && ret >= 0; i++) {
        ret = flush(bs, true);
        qcow2_wait_for_holes(s);
    }
    return ret;
}

int coroutine_fn qcow2_throttle(BlockDriverState *bs)
{
    Qcow2State *s = bs->opaque;

    if (many_dirty(&s->l2_cache) || many_dirty(&s->rb_cache) || s->frees->len > 65536) {
        return qcow2_flush(bs);
    }
    return 0;
}
