/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Other roots for the disk than the one it has: a snapshot's, to be read in a node that nobody
 * writes, and an empty one, behind which there is only the backing file.
 */
#include "qcow2.h"
#include "qcow2-snapshot-int.h"

bool coroutine_fn qcow2_snapshot_show(BlockDriverState *bs, const char *id, GError **errp)
{
    Qcow2State *s = bs->opaque;
    Qcow2Snapshot *sn = qcow2_snapshot_find_id(s, id);
    uint64_t *l1, *loaded, entries;

    if (!sn) {
        error_setg(errp, "Snapshot with ID '%s' does not exist", id);
        return false;
    }
    loaded = qcow2_snapshot_load_l1(bs, sn, errp);
    if (!loaded) {
        return false;
    }
    entries = qcow2_l1_entries(s, sn->info.disk_size);
    if (entries * 8 > QCOW2_MAX_L1_BYTES) {
        error_setg(errp, "Snapshot '%s' has an invalid disk size", id);
        g_free(loaded);
        return false;
    }
    l1 = g_new0(uint64_t, entries + 1);
    memcpy(l1, loaded, MIN(entries, sn->l1_size) * 8);
    g_free(loaded);
    g_free(s->l1);
    s->l1 = l1;
    s->l1_size = entries;
    s->disk_size = sn->info.disk_size;
    bdrv_set_length(bs, s->disk_size);
    return true;
}

/* Takes the entries of L1 from first on away; they are in *l1 then.  Whether there are any. */
static bool take_entries(Qcow2State *s, uint64_t first, uint64_t *l1)
{
    bool any = false;

    for (uint64_t i = first; i < s->l1_size; i++) {
        if (s->l1[i] & QCOW2_OFFSET_MASK) {
            any = true;
            l1[i] = s->l1[i];
            qcow2_metadata_remove(s, l1[i] & QCOW2_OFFSET_MASK);
            qcow2_l1_set(s, i, 0);
        }
    }
    return any;
}

int coroutine_fn qcow2_drop_tables(BlockDriverState *bs, uint64_t first)
{
    Qcow2State *s = bs->opaque;
    g_autofree uint64_t *l1 = NULL;
    uint64_t l1_size = s->l1_size;
    bool any;
    int ret;

    if (s->corrupt || s->broken) {
        return -EIO;
    }
    ret = qcow2_flush(bs); /* frees put off so far take effect: the walk looks at the counts */
    if (ret < 0) {
        return ret;
    }
    l1 = g_new0(uint64_t, l1_size + 1);
    co_mutex_lock(&s->lock);
    any = take_entries(s, first, l1);
    co_mutex_unlock(&s->lock);
    if (!any) {
        return 0;
    }
    ret = qcow2_flush(bs);
    if (ret >= 0) {
        ret = qcow2_release_tree(bs, l1, l1_size);
    }
    /* The first flush gives the clusters back, the second makes that durable. */
    ret = ret < 0 ? ret : qcow2_flush(bs);
    qcow2_wait_for_holes(s);
    return ret < 0 ? ret : qcow2_flush(bs);
}

int coroutine_fn qcow2_co_make_empty(BlockDriverState *bs)
{
    Qcow2State *s = bs->opaque;
    int ret;

    co_mutex_lock(&s->walk_lock);
    ret = s->save ? -EBUSY : qcow2_drop_tables(bs, 0);
    co_mutex_unlock(&s->walk_lock);
    return ret;
}
