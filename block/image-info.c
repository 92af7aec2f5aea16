/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Collects what is known of a node and its image as QAPI types.  Starts and ends in the
 * main thread; the facts are gathered in the node's home context, and a reference keeps
 * the node meanwhile.
 */
#include "block/block-int.h"
#include "block/dirty-bitmap.h"
#include "block/qapi-format.h"
#include "qapi/error.h"
#include "qapi/util.h"

SnapshotInfo *bdrv_snapshot_to_qapi(const BdrvSnapshotInfo *sn)
{
    SnapshotInfo *info = g_new0(SnapshotInfo, 1);

    info->id = g_strdup(sn->id);
    info->name = g_strdup(sn->name);
    info->vm_state_size = sn->vm_state_size;
    info->date_sec = sn->date_sec;
    info->date_nsec = sn->date_nsec;
    info->vm_clock_sec = sn->vm_clock_nsec / 1000000000;
    info->vm_clock_nsec = sn->vm_clock_nsec % 1000000000;
    info->has_icount = sn->icount != UINT64_MAX;
    info->icount = info->has_icount ? (int64_t)sn->icount : 0;
    return info;
}

int64_t coroutine_fn bdrv_co_allocated_size(BlockDriverState *bs)
{
    while (bs && !bs->drv->co_allocated_size) {
        bs = bdrv_file(bs);
    }
    return bs ? bs->drv->co_allocated_size(bs) : -ENOTSUP;
}

static bool coroutine_fn add_snapshots(BlockDriverState *bs, ImageInfo *info, GError **errp)
{
    SnapshotInfoList **tail = &info->snapshots;
    GError *err = NULL;
    int n;
    g_autofree BdrvSnapshotInfo *list = NULL;

    if (!bs->drv->snapshot) {
        return true;
    }
    list = bdrv_co_snapshot_list(bs, &n, &err);
    if (err) {
        g_propagate_error(errp, err);
        return false;
    }
    for (int i = 0; i < n; i++) {
        QAPI_LIST_APPEND(tail, bdrv_snapshot_to_qapi(&list[i]));
    }
    info->has_snapshots = n > 0;
    return true;
}

/* In the home context: what one node knows. */
static bool coroutine_fn fill_info(BlockDriverState *bs, ImageInfo *info, GError **errp)
{
    BdrvInfo d = { 0 };

    info->filename = g_strdup(bdrv_filename(bs));
    info->format = g_strdup(bs->drv->name);
    info->virtual_size = bs->length;
    info->actual_size = bdrv_co_allocated_size(bs);
    info->has_actual_size = info->actual_size >= 0;
    if (!info->has_actual_size) {
        info->actual_size = 0;
    }
    if (bs->drv->co_info && !bs->drv->co_info(bs, &d, errp)) {
        return false;
    }
    info->has_cluster_size = d.cluster_size > 0;
    info->cluster_size = d.cluster_size;
    info->has_dirty_flag = true;
    info->dirty_flag = d.is_dirty;
    if (d.backing_filename && *d.backing_filename) {
        info->backing_filename = g_strdup(d.backing_filename);
        info->full_backing_filename =
            bdrv_full_backing_filename(bdrv_filename(bdrv_file(bs)), d.backing_filename);
        info->backing_filename_format = g_strdup(d.backing_format);
    }
    info->format_specific = d.specific;
    return add_snapshots(bs, info, errp);
}

ImageInfo *coroutine_fn bdrv_co_image_info(BlockDriverState *bs, bool chain, GError **errp)
{
    g_autoptr(ImageInfo) info = g_new0(ImageInfo, 1);
    bool ok;

    GLOBAL_STATE();
    bdrv_ref(bs);
    bdrv_co_move_to(bs->ctx);
    ok = fill_info(bs, info, errp);
    bdrv_co_move_to(main_aio_context());
    if (ok && chain && bs->backing) {
        info->backing_image = bdrv_co_image_info(bdrv_backing(bs), true, errp);
        ok = info->backing_image != NULL;
    }
    bdrv_co_unref(bs);
    return ok ? g_steal_pointer(&info) : NULL;
}

BlockDeviceInfo *coroutine_fn bdrv_co_device_info(BlockDriverState *bs, bool chain,
                                                  GError **errp)
{
    g_autoptr(BlockDeviceInfo) info = g_new0(BlockDeviceInfo, 1);

    GLOBAL_STATE();
    info->file = g_strdup(bdrv_filename(bs));
    info->node_name = g_strdup(bs->node_name);
    info->ro = bs->read_only;
    info->drv = g_strdup(bs->drv->name);
    info->detect_zeroes = bs->detect_zeroes;
    for (BlockDriverState *b = bdrv_backing(bs); b; b = bdrv_backing(b)) {
        info->backing_file_depth++;
    }
    if (bs->backing) {
        info->backing_file = g_strdup(bdrv_filename(bdrv_backing(bs)));
    }
    info->cache = g_new0(BlockdevCacheInfo, 1);
    info->cache->writeback = true;
    info->cache->direct = bs->cache_direct;
    info->cache->no_flush = bs->cache_no_flush;
    info->dirty_bitmaps = bdrv_dirty_bitmap_query(bs);
    info->has_dirty_bitmaps = info->dirty_bitmaps != NULL;
    info->image = bdrv_co_image_info(bs, chain, errp);
    return info->image ? g_steal_pointer(&info) : NULL;
}
