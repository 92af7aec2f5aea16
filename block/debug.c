/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Breakpoints: finds the node that keeps them.  See include/block/debug.h. */
#include "block/debug.h"
#include <errno.h>
#include "qapi/util.h"

/* The first node from bs downwards that knows breakpoints, NULL: none. */
static BlockDriverState *find(BlockDriverState *bs)
{
    while (bs && !bs->drv->debug_breakpoint) {
        bs = bdrv_file(bs);
    }
    return bs;
}

int bdrv_debug_breakpoint(BlockDriverState *bs, const char *event, const char *tag)
{
    BlockDriverState *debug = find(bs);
    int number;

    IO_CODE(bs);
    if (!debug) {
        return -ENOTSUP;
    }
    number = qapi_enum_parse(&BlkdebugEvent_lookup, event, -1, NULL);
    return number < 0 ? -ENOENT : debug->drv->debug_breakpoint(debug, number, tag);
}

int bdrv_debug_remove_breakpoint(BlockDriverState *bs, const char *tag)
{
    BlockDriverState *debug = find(bs);

    IO_CODE(bs);
    return debug ? debug->drv->debug_remove_breakpoint(debug, tag) : -ENOTSUP;
}

int bdrv_debug_resume(BlockDriverState *bs, const char *tag)
{
    BlockDriverState *debug = find(bs);

    IO_CODE(bs);
    return debug ? debug->drv->debug_resume(debug, tag) : -ENOTSUP;
}

void coroutine_fn bdrv_co_debug_wait(BlockDriverState *bs, const char *tag)
{
    BlockDriverState *debug = find(bs);

    IO_CODE(bs);
    if (debug) {
        debug->drv->co_debug_wait(debug, tag);
    }
}
