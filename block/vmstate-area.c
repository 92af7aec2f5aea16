/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Machine state that is written to an image, not to a snapshot: which node of a tree keeps it, and
 * requests there.  Runs in the home context.
 */
#include "graph-int.h"

/* The node that has the area, through filters and raw; NULL: there is none. */
static BlockDriverState *find_keeper(BlockDriverState *bs)
{
    while (bs && (bs->drv->is_filter || bs->drv == &bdrv_raw_driver)) {
        bs = bdrv_file(bs);
    }
    return bs && bs->drv->co_load_vmstate ? bs : NULL;
}

int coroutine_fn bdrv_co_load_vmstate(BlockDriverState *bs, int64_t offset, IOVector *iov)
{
    BlockDriverState *keeper = find_keeper(bs);
    int ret;

    IO_CODE(bs);
    if (!keeper) {
        return -ENOTSUP;
    }
    bdrv_request_begin(keeper);
    ret = keeper->drv->co_load_vmstate(keeper, offset, iov);
    bdrv_request_end(keeper);
    return ret;
}

int coroutine_fn bdrv_co_save_vmstate(BlockDriverState *bs, int64_t offset, IOVector *iov)
{
    BlockDriverState *keeper = find_keeper(bs);
    int ret;

    IO_CODE(bs);
    if (!keeper) {
        return -ENOTSUP;
    }
    if (keeper->read_only) {
        return -EPERM;
    }
    bdrv_co_drained_begin(keeper);
    bdrv_request_begin_drained(keeper);
    ret = keeper->inactive ? -EPERM : keeper->drv->co_save_vmstate(keeper, offset, iov);
    bdrv_request_end(keeper);
    bdrv_drained_end(keeper);
    return ret;
}
