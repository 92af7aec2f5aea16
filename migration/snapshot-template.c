/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Machines started from a template: the snapshot is in a read-only image below the disk,
 * an overlay that is new.  The machine's state is read from there; the disk itself needs no
 * change, provided that it shows what the snapshot's disk held: the overlay must be empty
 * and the template's present content the snapshot's.  Anything else would give the guest a
 * disk of another time, and is refused with what to do about it.
 */
#include "qapi/error.h"
#include "snapshot-int.h"

BlockDriverState *coroutine_fn snapshot_find_holder(BlockDriverState *bs, const char *tag,
                                                    BdrvSnapshotInfo *info, GError **errp)
{
    AioContext *home = aio_current();
    GError *err = NULL;
    bool found = false;

    aio_co_reschedule_self(bdrv_context(bs));
    for (; bs && bdrv_has_snapshots(bs); bs = bdrv_backing(bs)) {
        found = bdrv_co_snapshot_find_name(bs, tag, info, &err);
        if (found || err) {
            break;
        }
    }
    aio_co_reschedule_self(home);
    if (err) {
        g_propagate_error(errp, err);
    }
    return found ? bs : NULL;
}

bool snapshot_check_overlay_empty(const SnapshotNode *n, const char *tag, GError **errp)
{
    for (BlockDriverState *bs = n->overlay; bs && bs != n->bs; bs = bdrv_backing(bs)) {
        if (!bdrv_snapshot_is_empty(bs)) {
            error_setg(errp, "Node '%s' has data of its own above '%s', which holds snapshot "
                       "'%s': start from a new overlay", bdrv_node_name(n->overlay),
                       bdrv_filename(n->bs), tag);
            return false;
        }
    }
    return true;
}

bool coroutine_fn snapshot_check_overlay(const SnapshotNode *n, const char *tag, GError **errp)
{
    const char *template = bdrv_filename(n->bs);
    int ret;

    if (!snapshot_check_overlay_empty(n, tag, errp)) {
        return false;
    }
    if ((uint64_t)bdrv_length(n->overlay) != n->info.disk_size) {
        error_setg(errp, "Node '%s' has %" PRId64 " bytes, in snapshot '%s' of '%s' it has %"
                   PRIu64, bdrv_node_name(n->overlay), bdrv_length(n->overlay), tag, template,
                   n->info.disk_size);
        return false;
    }
    ret = bdrv_co_snapshot_is_current(n->bs, tag, errp);
    if (ret == 0) {
        error_setg(errp, "Image '%s' has changed since snapshot '%s' was taken: before it can be "
                   "a template it must be made what it was (qemu-img snapshot -a)", template,
                   tag);
    }
    return ret > 0;
}

void snapshot_add_overlays(SnapshotJob *sj)
{
    BlockDriverState *template = snapshot_vmstate_node(sj)->bs;
    int n;
    g_autofree BlockDriverState **disks = snapshot_all_nodes(&n);

    for (int i = 0; i < n; i++) {
        BlockDriverState *below = bdrv_backing(disks[i]);

        while (below && below != template) {
            below = bdrv_backing(below);
        }
        if (below) {
            SnapshotNode last = *snapshot_vmstate_node(sj);

            sj->nodes = g_renew(SnapshotNode, sj->nodes, sj->nr_nodes + 1);
            *snapshot_vmstate_node(sj) =
                (SnapshotNode){.bs = bdrv_ref(template), .overlay = bdrv_ref(disks[i])};
            sj->nodes[sj->nr_nodes++] = last;
        }
    }
}
