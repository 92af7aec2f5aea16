/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Machine state that a new snapshot has in common with an older one, its base: the new L2
 * tables refer to the base's clusters, each of which gets one more reference.
 *
 * Only counts that nothing in the file relies on rise before the new snapshot is published,
 * so a crash leaks at most.  The base's own tables stay as they are; a COPIED flag in them
 * that is not true any more means nothing, since only the active layer's flags do, and
 * clusters of machine state are none of its.  The base may be deleted afterwards like any
 * snapshot: that takes one reference away.
 */
#include "qcow2.h"
#include "qcow2-snapshot-int.h"

void qcow2_save_drop_base(Qcow2State *s, Qcow2Save *save)
{
    if (save->base) {
        save->base->pins--;
        save->base = NULL;
    }
    g_clear_pointer(&save->base_l1, g_free);
}

/* Whether every cluster of one of the base's tables can get another owner. */
static bool coroutine_fn check_table(BlockDriverState *bs, const Qcow2Save *save, uint64_t index,
                                     GError **errp)
{
    Qcow2State *s = bs->opaque;
    /* References that a cluster of packed ones has if all snapshots share them. */
    uint64_t most = (s->snapshots->len + 2) * (s->cluster_size / 512 + 1);
    bool ok = true;
    Qcow2Table *t;
    int ret = qcow2_l2_load(bs, save->base_l1[index], &t);

    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not read an L2 table of snapshot '%s'",
                         save->base->name);
        return false;
    }
    for (uint64_t i = 0; t && i < s->l2_entries && ok; i++) {
        uint64_t entry = qcow2_l2_get(t, i);
        Qcow2Kind kind = qcow2_kind(s, entry);

        if (kind == QCOW2_COMPRESSED_DATA && s->refcount_max < most) {
            error_setg(errp, "Snapshot '%s' has compressed machine state, which so many snapshots "
                       "cannot share", save->base->name);
            ok = false;
        } else if ((kind == QCOW2_NORMAL && entry & QCOW2_OFFSET_MASK & (s->cluster_size - 1)) ||
                   !qcow2_l2_valid(s, t, i)) {
            error_setg(errp, "Snapshot '%s' has damaged machine state", save->base->name);
            ok = false;
        }
    }
    qcow2_cache_put(&s->l2_cache, t);
    return ok;
}

uint64_t coroutine_fn qcow2_save_share_with(BlockDriverState *bs, void *opaque, uint64_t serial,
                                            GError **errp)
{
    Qcow2State *s = bs->opaque;
    Qcow2Save *save = opaque;
    Qcow2Snapshot *base = NULL;
    bool ok;

    g_assert(!save->base);
    for (guint i = 0; i < s->snapshots->len && !base; i++) {
        Qcow2Snapshot *sn = s->snapshots->pdata[i];

        base = sn->info.serial == serial ? sn : NULL;
    }
    if (!base) {
        error_setg(errp, "The snapshot to share with is not there any more");
        return 0;
    }
    base->pins++;
    save->base = base;
    save->base_first = qcow2_l1_entries(s, base->info.disk_size);
    save->base_l1 = qcow2_snapshot_load_l1(bs, base, errp);
    ok = save->base_l1 != NULL;
    for (uint64_t i = save->base_first; ok && i < base->l1_size; i++) {
        ok = check_table(bs, save, i, errp);
        qcow2_breathe();
    }
    if (!ok) {
        qcow2_save_drop_base(s, save);
        co_queue_restart_all(&s->pin_queue);
        return 0;
    }
    return s->cluster_size;
}

/*
 * Lock held.  Shares count clusters from entry index of the state's table number on, all of
 * them in one table.
 */
static int coroutine_fn share_in_table(BlockDriverState *bs, Qcow2Save *save, uint64_t number,
                                       uint64_t index, uint64_t count)
{
    Qcow2State *s = bs->opaque;
    uint64_t base_index = save->base_first + number, end = index + count;
    uint64_t *table = NULL;
    Qcow2Table *t = NULL;
    int ret = 0;

    if (base_index < save->base->l1_size) {
        ret = qcow2_l2_load(bs, save->base_l1[base_index], &t);
    }
    if (ret >= 0 && t) {
        table = qcow2_save_table(s, save, number);
        ret = table ? 0 : -ENOMEM;
    }
    while (t && index < end && ret >= 0) {
        uint64_t entry = qcow2_l2_get(t, index), n = 1, bitmap = qcow2_l2_bitmap(t, index);
        uint64_t host = entry & QCOW2_OFFSET_MASK, first;

        if (qcow2_kind(s, entry) == QCOW2_COMPRESSED_DATA) {
            qcow2_entry_clusters(s, entry, &first, &n);
            ret = qcow2_refcount_add(bs, first, n, 1, false);
            if (ret >= 0) {
                g_assert(!table[index]);
                table[index++] = entry;
            }
            continue;
        }
        if (qcow2_kind(s, entry) != QCOW2_NORMAL || (s->extended_l2 && !(bitmap & QCOW2_SUB_ALL))) {
            /* It reads as zeros there, and so does what is not allocated here. */
            index++;
            continue;
        }
        while (index + n < end) {
            uint64_t next = qcow2_l2_get(t, index + n);

            if (qcow2_kind(s, next) != QCOW2_NORMAL || qcow2_l2_bitmap(t, index + n) != bitmap ||
                (next & QCOW2_OFFSET_MASK) != host + (n << s->cluster_bits)) {
                break;
            }
            n++;
        }
        ret = qcow2_refcount_add(bs, host >> s->cluster_bits, n, 1, false);
        for (; n && ret >= 0; n--, index++, host += s->cluster_size) {
            g_assert(!table[index]);
            table[index] = host;
            if (s->extended_l2) {
                table[s->l2_entries + index] = bitmap;
            }
        }
    }
    qcow2_cache_put(&s->l2_cache, t);
    return ret;
}

int coroutine_fn qcow2_save_share(BlockDriverState *bs, void *opaque,
                                  const BdrvSnapshotExtent *extents, size_t n)
{
    Qcow2State *s = bs->opaque;
    Qcow2Save *save = opaque;
    int ret = save->error;

    g_assert(save->base);
    for (size_t i = 0; i < n && ret >= 0; i++) {
        uint64_t cluster = extents[i].offset >> s->cluster_bits;
        uint64_t end = cluster + (extents[i].bytes >> s->cluster_bits);

        g_assert(!((extents[i].offset | extents[i].bytes) & (s->cluster_size - 1)));
        while (cluster < end && ret >= 0) {
            uint64_t index = cluster & (s->l2_entries - 1);
            uint64_t count = MIN(end - cluster, s->l2_entries - index);

            co_mutex_lock(&s->lock);
            ret = share_in_table(bs, save, cluster >> s->l2_bits, index, count);
            co_mutex_unlock(&s->lock);
            cluster += count;
            if (index + count == s->l2_entries) {
                qcow2_breathe();
            }
        }
    }
    s->write_seq++;
    if (ret < 0) {
        qcow2_save_fail(s, ret);
    }
    return ret;
}
