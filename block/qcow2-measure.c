/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How large the file of a new qcow2 image would be: its metadata for the whole disk, and the
 * clusters that the content at hand needs.
 */
#include "block/dirty-bitmap.h"
#include "block/extents.h"
#include "qcow2.h"

static uint64_t div_up(uint64_t a, uint64_t b)
{
    return a / b + (a % b != 0);
}

/* Clusters of metadata for a disk of guest clusters: header, L1, L2, reference counts. */
static uint64_t metadata_clusters(const Qcow2Geometry *g, uint64_t guest)
{
    uint64_t l2 = div_up(guest, g->cluster_size / g->l2_entry_size);
    uint64_t l1 = div_up(l2 * 8, g->cluster_size);
    uint64_t per_block = g->cluster_size * 8 / g->refcount_bits;
    uint64_t rest = 1 + l1 + l2, blocks = 0, table = 0;

    for (;;) { /* the blocks count themselves and their table too */
        uint64_t b = div_up(guest + rest + blocks + table, per_block);
        uint64_t t = div_up(b * 8, g->cluster_size);

        if (b == blocks && t == table) {
            return rest + blocks + table;
        }
        blocks = b;
        table = t;
    }
}

/* Clusters of the new image that get data: what is known to be zero gets none. */
static int64_t coroutine_fn data_clusters(BlockDriverState *source, uint64_t cluster_size,
                                          GError **errp)
{
    BdrvExtentWalk *walk = bdrv_extent_walk_new(source);
    int64_t length = bdrv_length(source), count = 0;

    for (int64_t offset = 0; offset < length;) {
        BdrvExtent e;
        int ret = bdrv_co_extent(walk, offset, length - offset, &e);

        if (ret < 0) {
            error_setg_errno(errp, -ret, "Unable to get block status");
            count = -1;
            break;
        }
        if ((e.status & BDRV_BLOCK_DATA) && !(e.status & BDRV_BLOCK_ZERO)) {
            uint64_t first = offset / cluster_size;
            uint64_t end = div_up(offset + e.bytes, cluster_size);

            count += end - first;
            offset = MIN((uint64_t)length, end * cluster_size);
        } else {
            offset += e.bytes;
        }
    }
    bdrv_extent_walk_free(walk);
    return count;
}

/* Clusters for the source's persistent bitmaps: data, tables and directory. */
static uint64_t bitmap_clusters(BlockDriverState *source, const Qcow2Geometry *g)
{
    g_autoptr(BlockDirtyInfoList) list = bdrv_dirty_bitmap_query(source);
    uint64_t count = 0, directory = 0;

    for (BlockDirtyInfoList *l = list; l; l = l->next) {
        if (l->value->persistent) {
            uint64_t bits = div_up(bdrv_length(source), l->value->granularity);
            uint64_t data = div_up(div_up(bits, 8), g->cluster_size);

            count += data + div_up(data * 8, g->cluster_size);
            directory += (24 + strlen(l->value->name) + 7) & ~7ULL;
        }
    }
    return count + div_up(directory, g->cluster_size);
}

bool coroutine_fn qcow2_co_measure(const BdrvCreateParams *params, BlockDriverState *source,
                                   BdrvMeasure *result, GError **errp)
{
    uint64_t guest, metadata, data = 0;
    Qcow2Geometry g;

    if (!qcow2_geometry(params, &g, errp)) {
        return false;
    }
    guest = div_up(params->size, g.cluster_size);
    metadata = metadata_clusters(&g, guest);
    if (g.preallocated || params->backing_file) {
        data = guest;
    } else if (source) {
        int64_t count = data_clusters(source, g.cluster_size, errp);

        if (count < 0) {
            return false;
        }
        data = count;
    }
    result->required = (metadata + data) * g.cluster_size;
    result->fully_allocated = (metadata + guest) * g.cluster_size;
    result->has_bitmaps = g.version >= 3 && source && source->drv == &bdrv_qcow2_driver &&
                          ((Qcow2State *)source->opaque)->version >= 3;
    if (result->has_bitmaps) {
        result->bitmaps = bitmap_clusters(source, &g) * g.cluster_size;
    }
    return true;
}
