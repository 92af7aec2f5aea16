/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Walks over the content of a disk (include/block/extents.h).  An image that has been
 * preallocated without its data has clusters in holes of the file; whether it may be one is
 * found out once for each layer, by how much of the file the host has allocated, since looking
 * for holes below every cluster takes system calls.
 */
#include <errno.h>
#include "block/extents.h"

struct BdrvExtentWalk {
    BlockDriverState *bs;
    GHashTable *sparse; /* layer -> SPARSE or DENSE */
};

enum { UNKNOWN, SPARSE, DENSE };

BdrvExtentWalk *bdrv_extent_walk_new(BlockDriverState *bs)
{
    BdrvExtentWalk *walk = g_new0(BdrvExtentWalk, 1);

    walk->bs = bs;
    walk->sparse = g_hash_table_new(g_direct_hash, g_direct_equal);
    return walk;
}

void bdrv_extent_walk_free(BdrvExtentWalk *walk)
{
    g_hash_table_unref(walk->sparse);
    g_free(walk);
}

/* The node below a layer that its content is in; NULL: it has none. */
static BlockDriverState *content_node(BlockDriverState *layer)
{
    return layer->data_file && !layer->drv->is_filter ? layer->data_file->bs : bdrv_file(layer);
}

/* Whether clusters of the layer may well lie in holes: the host has less than nine tenths. */
static bool coroutine_fn is_sparse(BdrvExtentWalk *walk, BlockDriverState *layer)
{
    int known = GPOINTER_TO_INT(g_hash_table_lookup(walk->sparse, layer));

    if (known == UNKNOWN) {
        BlockDriverState *file = content_node(layer);
        int64_t allocated = file ? bdrv_co_allocated_size(file) : -ENOTSUP;

        known = allocated >= 0 && allocated / 9 < bdrv_length(file) / 10 ? SPARSE : DENSE;
        g_hash_table_insert(walk->sparse, layer, GINT_TO_POINTER(known));
    }
    return known == SPARSE;
}

/* Down to the file that has the bytes: the layer says where they are in the node below it. */
static int coroutine_fn find_file(BdrvExtentWalk *walk, BlockDriverState *layer, BdrvExtent *e)
{
    bool plain = layer->drv->is_filter || layer->drv == &bdrv_raw_driver;
    bool look = !plain && (e->status & BDRV_BLOCK_DATA) && is_sparse(walk, layer);

    e->file = content_node(layer);
    e->file = e->file ? e->file : layer;
    while (look || bdrv_file(e->file)) {
        BlockDriverState *below = bdrv_file(e->file);
        int64_t n, map;
        int ret = bdrv_co_block_status(e->file, e->map, e->bytes, &n, &map);

        if (ret < 0) {
            return ret;
        }
        if (n == 0) { /* behind the end of the file */
            e->status |= look ? BDRV_BLOCK_ZERO : 0;
            return 0;
        }
        e->bytes = n;
        if (look && (ret & BDRV_BLOCK_ALLOCATED) && !(ret & BDRV_BLOCK_DATA)) {
            e->status |= BDRV_BLOCK_ZERO;
        }
        look = false;
        if (!below || !(ret & BDRV_BLOCK_OFFSET_VALID)) {
            break;
        }
        e->map = map;
        e->file = below;
    }
    return 0;
}

int coroutine_fn bdrv_co_extent(BdrvExtentWalk *walk, int64_t offset, int64_t bytes,
                                BdrvExtent *e)
{
    BlockDriverState *layer = walk->bs, *below;

    for (*e = (BdrvExtent){ .bytes = bytes };; e->depth++) {
        int ret = bdrv_co_block_status(layer, offset, e->bytes, &e->bytes, &e->map);

        if (ret < 0) {
            return ret;
        }
        e->status = ret;
        if (ret & BDRV_BLOCK_ALLOCATED) {
            break;
        }
        below = bdrv_below_content(layer);
        if (!below || offset >= below->length) {
            e->status |= BDRV_BLOCK_ZERO;
            break;
        }
        e->bytes = MIN(e->bytes, below->length - offset);
        layer = below;
    }
    return e->status & BDRV_BLOCK_OFFSET_VALID ? find_file(walk, layer, e) : 0;
}
