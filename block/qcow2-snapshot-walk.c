/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Walks over whole trees of L2 tables, one table at a time under the lock, others running
 * in between: sharing a table of the active layer with the snapshot being taken, and
 * dropping the references of a tree.  Where a count of an active cluster changes between 1
 * and 2, its COPIED flag changes with it; both wait for a root switch (qcow2-flush.c), for
 * which the active L2 table moves to a fresh cluster.
 */
#include "qcow2.h"

/* Root switches are made before more tables than this wait for one. */
#define SHADOW_LIMIT 64

/* Records that L1[index] is now t, a fresh table that only a root switch makes valid. */
static void set_shadow_table(Qcow2State *s, uint64_t index, Qcow2Table *t)
{
    uint32_t i = index;
    bool known = false;

    for (guint n = 0; n < s->shadow_l1->len && !known; n++) {
        known = g_array_index(s->shadow_l1, uint32_t, n) == i;
    }
    if (!known) {
        g_array_append_val(s->shadow_l1, i);
    }
    t->shadow = true;
    s->l1[index] = t->offset | QCOW2_COPIED;
    s->write_seq++;
}

/* Adds one reference to every cluster of table t; takes all back on failure. */
static int coroutine_fn add_references(BlockDriverState *bs, const Qcow2Table *t)
{
    Qcow2State *s = bs->opaque;
    uint64_t cluster, count, i;
    int ret = 0;

    for (i = 0; i < s->l2_entries && ret >= 0; i++) {
        uint64_t entry = qcow2_l2_get(t, i);

        if (qcow2_entry_clusters(s, entry, &cluster, &count)) {
            ret = qcow2_refcount_add(bs, cluster, count, 1, entry & QCOW2_COPIED);
        }
    }
    if (ret < 0) {
        for (uint64_t j = 0; j + 1 < i; j++) {
            uint64_t entry = qcow2_l2_get(t, j);

            if (qcow2_entry_clusters(s, entry, &cluster, &count)) {
                qcow2_refcount_add(bs, cluster, count, -1, entry & QCOW2_COPIED);
            }
        }
    }
    return ret;
}

int coroutine_fn qcow2_share_table(BlockDriverState *bs, uint64_t l1_index, uint64_t *shared)
{
    Qcow2State *s = bs->opaque;
    uint64_t entry = s->l1[l1_index];
    Qcow2Table *t, *copy = NULL;
    int ret = qcow2_l2_load(bs, entry, &t);

    if (ret < 0 || !t) {
        return ret;
    }
    if (entry & QCOW2_COPIED) {
        ret = qcow2_l2_clone(bs, t, &copy);
    } else {
        ret = qcow2_refcount_add(bs, t->offset >> s->cluster_bits, 1, 1, false);
    }
    if (ret >= 0) {
        ret = add_references(bs, t);
        if (ret < 0 && copy) {
            qcow2_metadata_add(s, t->offset, QCOW2_OL_ACTIVE_L2);
            qcow2_free_now(bs, copy->offset >> s->cluster_bits, 1);
        } else if (ret < 0) {
            qcow2_free_now(bs, t->offset >> s->cluster_bits, 1);
        }
    }
    if (ret >= 0) {
        *shared = t->offset;
        if (copy) {
            qcow2_l2_clear_copied(s, copy);
            /* The old table is the snapshot's; what the active layer wrote to it and has
             * not reached the disk goes there as any table does. */
            t->shadow = false;
            set_shadow_table(s, l1_index, copy);
        }
    }
    qcow2_cache_put(&s->l2_cache, copy);
    qcow2_cache_put(&s->l2_cache, t);
    return ret;
}

/* The active table of l1_index in a fresh cluster, so that flags and counts change at once. */
static int coroutine_fn make_shadow(BlockDriverState *bs, uint64_t l1_index, Qcow2Table **table)
{
    Qcow2State *s = bs->opaque;
    Qcow2Table *old = *table, *copy;
    int ret;

    if (old->shadow) {
        return 0;
    }
    ret = qcow2_l2_clone(bs, old, &copy);
    if (ret >= 0) {
        set_shadow_table(s, l1_index, copy);
        qcow2_free_later(s, old->offset >> s->cluster_bits, 1);
        qcow2_cache_put(&s->l2_cache, old);
        *table = copy;
    }
    return ret;
}

static bool same_cluster(const Qcow2State *s, uint64_t a, uint64_t b)
{
    Qcow2Kind ka = qcow2_kind(s, a), kb = qcow2_kind(s, b);

    return (ka == QCOW2_NORMAL || ka == QCOW2_ZERO_ALLOC) &&
           (kb == QCOW2_NORMAL || kb == QCOW2_ZERO_ALLOC) &&
           (a & QCOW2_OFFSET_MASK) == (b & QCOW2_OFFSET_MASK);
}

/* Whether dropping t makes anything in the active table the active layer's own. */
static int coroutine_fn becomes_private(BlockDriverState *bs, const Qcow2Table *t,
                                        const Qcow2Table *active)
{
    Qcow2State *s = bs->opaque;
    uint64_t count;
    int ret;

    if (t == active) {
        ret = qcow2_refcount_get(bs, t->offset >> s->cluster_bits, &count);
        if (ret < 0 || count == 2) {
            return ret < 0 ? ret : 1;
        }
    }
    for (uint64_t i = 0; i < s->l2_entries; i++) {
        uint64_t entry = qcow2_l2_get(t, i);

        if (same_cluster(s, entry, qcow2_l2_get(active, i))) {
            ret = qcow2_refcount_get(bs, (entry & QCOW2_OFFSET_MASK) >> s->cluster_bits, &count);
            if (ret < 0 || count == 2) {
                return ret < 0 ? ret : 1;
            }
        }
    }
    return 0;
}

/* Drops one reference to a cluster that the active layer has at the same place. */
static int coroutine_fn drop_shared(BlockDriverState *bs, uint64_t cluster, Qcow2Table *active,
                                    uint64_t index)
{
    Qcow2State *s = bs->opaque;
    uint64_t count;
    int ret = qcow2_refcount_get(bs, cluster, &count);

    if (ret < 0 || count < 2) {
        return ret; /* below 2 the count is wrong already: what is in use stays */
    }
    ret = qcow2_refcount_add(bs, cluster, 1, -1, count == 2);
    if (ret >= 0 && count == 2) {
        qcow2_l2_set_copied(s, active, index, true);
    }
    return ret;
}

/* Lock held. */
static int coroutine_fn release_table(BlockDriverState *bs, uint64_t l1_entry, uint64_t l1_index)
{
    Qcow2State *s = bs->opaque;
    uint64_t active_entry = l1_index < s->l1_size ? s->l1[l1_index] : 0;
    Qcow2Table *t, *active = NULL;
    int ret = qcow2_l2_load(bs, l1_entry, &t);

    if (ret < 0 || !t) {
        return ret;
    }
    ret = qcow2_l2_load(bs, active_entry, &active);
    if (ret >= 0 && active) {
        ret = becomes_private(bs, t, active);
        if (ret > 0) {
            ret = make_shadow(bs, l1_index, &active);
        }
    }
    for (uint64_t i = 0; i < s->l2_entries && ret >= 0; i++) {
        uint64_t entry = qcow2_l2_get(t, i);

        if (active && same_cluster(s, entry, qcow2_l2_get(active, i))) {
            ret = drop_shared(bs, (entry & QCOW2_OFFSET_MASK) >> s->cluster_bits, active, i);
        } else {
            qcow2_free_entry_later_by(s, entry, QCOW2_FREED_BY_SNAPSHOT);
        }
    }
    if (ret >= 0) {
        qcow2_free_later_by(s, t->offset >> s->cluster_bits, 1, QCOW2_FREED_BY_SNAPSHOT);
    }
    qcow2_cache_put(&s->l2_cache, active);
    qcow2_cache_put(&s->l2_cache, t);
    return ret;
}

int coroutine_fn qcow2_walk_pause(BlockDriverState *bs)
{
    Qcow2State *s = bs->opaque;
    int ret;

    if (s->shadow_l1->len >= SHADOW_LIMIT) {
        ret = qcow2_flush(bs);
    } else {
        ret = qcow2_throttle(bs);
    }
    qcow2_breathe();
    return ret;
}

int coroutine_fn qcow2_release_tree(BlockDriverState *bs, const uint64_t *l1, uint64_t l1_size)
{
    Qcow2State *s = bs->opaque;
    int result = 0;

    for (uint64_t i = 0; i < l1_size; i++) {
        int ret;

        if (!(l1[i] & QCOW2_OFFSET_MASK)) {
            continue;
        }
        co_mutex_lock(&s->lock);
        ret = release_table(bs, l1[i], i);
        co_mutex_unlock(&s->lock);
        if (ret >= 0) {
            ret = qcow2_walk_pause(bs);
        }
        if (ret < 0) {
            result = ret; /* these clusters leak; the others need not */
        }
    }
    return result;
}
