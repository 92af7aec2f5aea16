/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Going back to a snapshot.
 *
 * prepare (the guest runs) adds a second owner to everything the snapshot's disk refers to
 * and writes a new L1 table; a crash leaks.  switch exchanges L1 tables in memory.  commit
 * points the header to the new L1 table in one write.  The old tree's references are
 * dropped afterwards, in the background, while the guest may run again; closing waits.
 */
#include "qcow2.h"
#include "qcow2-snapshot-int.h"

typedef struct Goto {
    Qcow2Snapshot *sn;
    uint64_t *l1, l1_size, added; /* the new table; entries that got a reference */
    uint64_t l1_cluster, l1_count;
    uint64_t disk_size;
    /* After switch: what the image had before. */
    uint64_t *old_l1, old_l1_size, old_disk_size;
    GArray *old_l1_dirty;
    bool switched, committed;
} Goto;

/* Lock held. The snapshot's table gets a second owner; no flag claims otherwise. */
static int coroutine_fn add_owner(BlockDriverState *bs, uint64_t l1_entry)
{
    Qcow2State *s = bs->opaque;
    uint64_t cluster, count, done = 0;
    Qcow2Table *t;
    int ret = qcow2_l2_load(bs, l1_entry, &t);

    if (ret < 0 || !t) {
        return ret;
    }
    ret = qcow2_refcount_add(bs, t->offset >> s->cluster_bits, 1, 1, false);
    if (ret < 0) {
        qcow2_cache_put(&s->l2_cache, t);
        return ret;
    }
    for (; done < s->l2_entries; done++) {
        uint64_t entry = qcow2_l2_get(t, done);

        if (!qcow2_entry_clusters(s, entry, &cluster, &count)) {
            continue;
        }
        ret = qcow2_refcount_add(bs, cluster, count, 1, false);
        if (ret < 0) {
            break;
        }
        if (entry & QCOW2_COPIED) {
            qcow2_l2_set_copied(s, t, done, false);
        }
    }
    if (ret < 0) {
        while (done--) {
            qcow2_free_entry_later(s, qcow2_l2_get(t, done));
        }
        qcow2_free_later(s, t->offset >> s->cluster_bits, 1);
    }
    qcow2_cache_put(&s->l2_cache, t);
    return ret;
}

/* Takes back what add_owner() has given to the first g->added entries. */
static void coroutine_fn drop_owner(BlockDriverState *bs, Goto *g)
{
    Qcow2State *s = bs->opaque;

    for (uint64_t i = 0; i < g->added; i++) {
        Qcow2Table *t;

        if (!(g->l1[i] & QCOW2_OFFSET_MASK) || qcow2_l2_load(bs, g->l1[i], &t) < 0) {
            continue;
        }
        for (uint64_t j = 0; j < s->l2_entries; j++) {
            qcow2_free_entry_later(s, qcow2_l2_get(t, j));
        }
        qcow2_free_later(s, t->offset >> s->cluster_bits, 1);
        qcow2_cache_put(&s->l2_cache, t);
        qcow2_walk_pause(bs);
    }
    if (g->l1_count) {
        qcow2_free_later(s, g->l1_cluster, g->l1_count);
    }
}

static void goto_free(BlockDriverState *bs, Goto *g)
{
    Qcow2State *s = bs->opaque;

    g->sn->pins--;
    co_queue_restart_all(&s->pin_queue);
    if (g->old_l1_dirty) {
        g_array_unref(g->old_l1_dirty);
    }
    g_free(g->old_l1);
    g_free(g->l1);
    g_free(g);
}

static int coroutine_fn share_all(BlockDriverState *bs, Goto *g)
{
    Qcow2State *s = bs->opaque;
    int ret = qcow2_flush(bs);

    for (; g->added < g->l1_size && ret >= 0; g->added++) {
        if (!g->l1[g->added]) {
            continue;
        }
        co_mutex_lock(&s->lock);
        ret = add_owner(bs, g->l1[g->added]);
        co_mutex_unlock(&s->lock);
        if (ret < 0) {
            break;
        }
        ret = qcow2_walk_pause(bs);
    }
    if (ret >= 0 && g->l1_count) {
        co_mutex_lock(&s->lock);
        ret = qcow2_alloc_contiguous(bs, g->l1_count, &g->l1_cluster);
        co_mutex_unlock(&s->lock);
    }
    if (ret < 0) {
        g->l1_count = 0;
    }
    if (ret >= 0) {
        ret = qcow2_store_numbers(bs, g->l1_cluster << s->cluster_bits, g->l1, g->l1_size);
    }
    return ret < 0 ? ret : qcow2_flush(bs);
}

bool qcow2_snapshot_is_empty(BlockDriverState *bs)
{
    Qcow2State *s = bs->opaque;

    for (uint64_t i = 0; i < s->l1_size; i++) {
        if (s->l1[i] & QCOW2_OFFSET_MASK) {
            return false;
        }
    }
    return true;
}

/* Lock held.  1 if two L1 entries lead to the same clusters, 0 if not, -errno. */
static int coroutine_fn same_clusters(BlockDriverState *bs, uint64_t a, uint64_t b)
{
    Qcow2State *s = bs->opaque;
    Qcow2Table *ta, *tb;
    bool same;
    int ret;

    if ((a & QCOW2_OFFSET_MASK) == (b & QCOW2_OFFSET_MASK)) {
        return 1;
    }
    ret = qcow2_l2_load(bs, a, &ta);
    if (ret < 0) {
        return ret;
    }
    ret = qcow2_l2_load(bs, b, &tb);
    if (ret < 0) {
        if (ta) {
            qcow2_cache_put(&s->l2_cache, ta);
        }
        return ret;
    }
    same = true;
    for (uint64_t i = 0; i < s->l2_entries && same; i++) {
        uint64_t ea = ta ? qcow2_l2_get(ta, i) : 0, eb = tb ? qcow2_l2_get(tb, i) : 0;
        uint64_t ma = ta ? qcow2_l2_bitmap(ta, i) : 0, mb = tb ? qcow2_l2_bitmap(tb, i) : 0;

        same = (ea & ~QCOW2_COPIED) == (eb & ~QCOW2_COPIED) && ma == mb;
    }
    if (ta) {
        qcow2_cache_put(&s->l2_cache, ta);
    }
    if (tb) {
        qcow2_cache_put(&s->l2_cache, tb);
    }
    return same;
}

int coroutine_fn qcow2_snapshot_is_current(BlockDriverState *bs, const char *id, GError **errp)
{
    Qcow2State *s = bs->opaque;
    Qcow2Snapshot *sn = qcow2_snapshot_find_id(s, id);
    g_autofree uint64_t *l1 = NULL;
    int ret = 1;

    if (!sn) {
        error_setg(errp, "Snapshot with ID '%s' does not exist", id);
        return -1;
    }
    if (sn->info.disk_size != s->disk_size) {
        return 0;
    }
    sn->pins++;
    l1 = qcow2_snapshot_load_l1(bs, sn, errp);
    for (uint64_t i = 0; l1 && i < qcow2_l1_entries(s, s->disk_size) && ret == 1; i++) {
        co_mutex_lock(&s->lock);
        ret = same_clusters(bs, i < s->l1_size ? s->l1[i] : 0, i < sn->l1_size ? l1[i] : 0);
        co_mutex_unlock(&s->lock);
    }
    sn->pins--;
    co_queue_restart_all(&s->pin_queue);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not read an L2 table");
    }
    return l1 && ret >= 0 ? ret : -1;
}

void *coroutine_fn qcow2_goto_prepare(BlockDriverState *bs, const char *id, GError **errp)
{
    Qcow2State *s = bs->opaque;
    Qcow2Snapshot *sn = qcow2_snapshot_find_id(s, id);
    uint64_t *l1;
    Goto *g;
    int ret;

    if (!sn) {
        error_setg(errp, "Snapshot '%s' does not exist", id);
        return NULL;
    }
    if (s->save) {
        error_setg(errp, "A snapshot is being taken");
        return NULL;
    }
    if (s->external_data) {
        error_setg(errp, "An image with an external data file cannot have snapshots");
        return NULL;
    }
    sn->pins++;
    l1 = qcow2_snapshot_load_l1(bs, sn, errp);
    if (l1 && qcow2_l1_entries(s, sn->info.disk_size) * 8 > QCOW2_MAX_L1_BYTES) {
        error_setg(errp, "Snapshot '%s' has an invalid disk size", id);
        g_clear_pointer(&l1, g_free);
    }
    if (!l1) {
        sn->pins--;
        co_queue_restart_all(&s->pin_queue);
        return NULL;
    }
    g = g_new0(Goto, 1);
    g->sn = sn;
    g->disk_size = sn->info.disk_size;
    g->l1_size = qcow2_l1_entries(s, g->disk_size);
    if (!sn->info.vm_state_size) {
        g->l1_size = MAX(g->l1_size, sn->l1_size); /* it has taken along what lay behind the disk */
    }
    g->l1_count = qcow2_clusters(s, g->l1_size * 8);
    g->l1 = g_new0(uint64_t, g->l1_size + 1);
    for (uint64_t i = 0; i < MIN(g->l1_size, sn->l1_size); i++) {
        g->l1[i] = l1[i] & QCOW2_OFFSET_MASK;
    }
    g_free(l1);

    co_mutex_lock(&s->walk_lock);
    ret = share_all(bs, g);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not prepare the snapshot's tables");
        drop_owner(bs, g);
    }
    co_mutex_unlock(&s->walk_lock);
    if (ret < 0) {
        goto_free(bs, g);
        return NULL;
    }
    return g;
}

/* The L2 tables of the active layer are protected metadata. */
static void move_protection(Qcow2State *s, const uint64_t *from, uint64_t from_size,
                            const uint64_t *to, uint64_t to_size)
{
    for (uint64_t i = 0; i < from_size; i++) {
        if (from[i] & QCOW2_OFFSET_MASK) {
            qcow2_metadata_remove(s, from[i] & QCOW2_OFFSET_MASK);
        }
    }
    for (uint64_t i = 0; i < to_size; i++) {
        if (to[i] & QCOW2_OFFSET_MASK) {
            qcow2_metadata_add(s, to[i] & QCOW2_OFFSET_MASK, QCOW2_OL_ACTIVE_L2);
        }
    }
}

bool coroutine_fn qcow2_goto_switch(BlockDriverState *bs, void *opaque, GError **errp)
{
    Qcow2State *s = bs->opaque;
    Goto *g = opaque;

    if (s->shadow_l1->len || s->shadow_rb) {
        /* Left by a walk since prepare; indices into L1 must not outlive it. */
        int ret = qcow2_flush(bs);

        if (ret < 0) {
            error_setg_errno(errp, -ret, "Could not flush the metadata");
            return false;
        }
    }
    g->old_l1 = s->l1;
    g->old_l1_size = s->l1_size;
    g->old_disk_size = s->disk_size;
    g->old_l1_dirty = s->l1_dirty;
    s->l1 = g_memdup2(g->l1, (g->l1_size + 1) * 8);
    s->l1_size = g->l1_size;
    s->l1_dirty = g_array_new(false, false, sizeof(uint32_t));
    move_protection(s, g->old_l1, g->old_l1_size, s->l1, s->l1_size);
    bdrv_set_length(bs, g->disk_size);
    g->switched = true;
    return true;
}

bool coroutine_fn qcow2_goto_commit(BlockDriverState *bs, void *opaque, GError **errp)
{
    Qcow2State *s = bs->opaque;
    Goto *g = opaque;
    uint64_t old_offset, old_size;
    bool written;
    int ret = qcow2_bitmaps_begin_write(bs);

    ret = ret < 0 ? ret : qcow2_flush(bs);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not flush the metadata");
        return false;
    }
    co_mutex_lock(&s->flush_lock);
    co_mutex_lock(&s->lock);
    old_offset = s->l1_offset;
    old_size = s->l1_disk_size;
    s->l1_offset = g->l1_cluster << s->cluster_bits;
    s->l1_disk_size = g->l1_size;
    s->disk_size = g->disk_size;
    ret = qcow2_header_write(bs);
    written = ret >= 0;
    ret = ret < 0 ? ret : qcow2_sync_file(bs);
    if (ret >= 0) {
        g_free(s->l1_disk);
        s->l1_disk = g_memdup2(g->l1, (g->l1_size + 1) * 8);
        if (old_size) {
            qcow2_free_later(s, old_offset >> s->cluster_bits, qcow2_clusters(s, old_size * 8));
        }
        g->committed = true;
    } else {
        s->l1_offset = old_offset;
        s->l1_disk_size = old_size;
        s->disk_size = g->old_disk_size;
        if (written) {
            s->broken = true; /* which of the two is in the file is unknown */
        } else {
            qcow2_header_put_back(bs);
        }
        error_setg_errno(errp, -ret, "Could not update the header");
    }
    co_mutex_unlock(&s->lock);
    co_mutex_unlock(&s->flush_lock);
    return ret >= 0;
}

/* --- Afterwards ------------------------------------------------------------------------------- */

typedef struct Background {
    BlockDriverState *bs;
    uint64_t *l1, l1_size;
} Background;

static void coroutine_fn release_old(void *opaque)
{
    Background *b = opaque;
    BlockDriverState *bs = b->bs;
    Qcow2State *s = bs->opaque;

    co_mutex_lock(&s->walk_lock);
    if (qcow2_flush(bs) < 0 || qcow2_release_tree(bs, b->l1, b->l1_size) < 0) {
        g_printerr("qcow2: '%s': not all clusters of the former state could be freed\n",
                   bs->filename ? bs->filename : "");
    }
    co_mutex_unlock(&s->walk_lock);
    s->background--;
    co_queue_restart_all(&s->pin_queue);
    g_free(b->l1);
    g_free(b);
}

static void roll_back(BlockDriverState *bs, Goto *g)
{
    Qcow2State *s = bs->opaque;

    move_protection(s, s->l1, s->l1_size, g->old_l1, g->old_l1_size);
    g_free(s->l1);
    g_array_unref(s->l1_dirty);
    s->l1 = g_steal_pointer(&g->old_l1);
    s->l1_size = g->old_l1_size;
    s->l1_dirty = g_steal_pointer(&g->old_l1_dirty);
    bdrv_set_length(bs, g->old_disk_size);
    g->switched = false;
}

void coroutine_fn qcow2_goto_end(BlockDriverState *bs, void *opaque, bool rollback)
{
    Qcow2State *s = bs->opaque;
    Goto *g = opaque;

    if (g->committed) {
        Background *b = g_new(Background, 1);

        *b = (Background) { bs, g_steal_pointer(&g->old_l1), g->old_l1_size };
        s->background++;
        aio_co_schedule(aio_current(), coroutine_create(release_old, b));
    } else {
        if (g->switched) {
            roll_back(bs, g);
        }
        co_mutex_lock(&s->walk_lock);
        drop_owner(bs, g);
        qcow2_flush(bs); /* what cannot be given back now is by a later flush */
        co_mutex_unlock(&s->walk_lock);
    }
    goto_free(bs, g);
}
