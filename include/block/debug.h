/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Events and breakpoints for tests.  Drivers say where they are (bdrv_co_debug_event()); a
 * blkdebug node below can hold a request there, change its state or let requests fail from
 * then on.  Everything in the node's home context.
 */
#ifndef BLOCK_DEBUG_H
#define BLOCK_DEBUG_H

#include "block/block-int.h"

/* A request of child's user is at this point.  May wait.  Costs nothing without blkdebug. */
static inline void coroutine_fn bdrv_co_debug_event(const BdrvChild *child, BlkdebugEvent event)
{
    if (child->bs->drv->co_debug_event) {
        child->bs->drv->co_debug_event(child->bs, event);
    }
}

/*
 * The next request that comes to the event (its QAPI name) is held there, under the name tag.
 * -ENOENT: no such event; -ENOTSUP: there is no blkdebug node below bs.
 */
int bdrv_debug_breakpoint(BlockDriverState *bs, const char *event, const char *tag);
/* Takes back the breakpoints called tag; requests that they hold go on.  -ENOENT: none. */
int bdrv_debug_remove_breakpoint(BlockDriverState *bs, const char *tag);
/* Lets the request that is held as tag go on.  -ENOENT: none is. */
int bdrv_debug_resume(BlockDriverState *bs, const char *tag);
/* Waits until a request is held as tag; returns at once where nothing can hold one. */
void coroutine_fn bdrv_co_debug_wait(BlockDriverState *bs, const char *tag);

#endif
