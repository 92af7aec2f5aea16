/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Request tracking and drained sections.  A section raises 'quiesce' in the node and in
 * everything above it at once, then waits until no request is left in any of them.  While
 * it lasts a new request waits at the gate of the node it enters, except that a request
 * which is already inside a parent may finish its work below.  All of it runs in the
 * nodes' home context, so the counters need no lock.
 */
#include "graph-int.h"

static bool parent_busy(BlockDriverState *bs)
{
    for (GList *l = bs->parents.head; l; l = l->next) {
        BdrvChild *c = l->data;
        if (c->parent && c->parent->in_flight) {
            return true;
        }
    }
    return false;
}

static bool gate_open(BlockDriverState *bs, BdrvChild *child)
{
    if (!bs->quiesce) {
        return true;
    }
    if (child) {
        return child->parent && child->parent->in_flight;
    }
    return parent_busy(bs);
}

void coroutine_fn bdrv_request_begin(BlockDriverState *bs)
{
    IO_CODE(bs);
    while (!gate_open(bs, NULL)) {
        co_queue_wait(&bs->quiesce_queue, NULL);
    }
    bs->in_flight++;
}

BlockDriverState *coroutine_fn bdrv_child_request_begin(BdrvChild *child)
{
    IO_CODE(child->bs);
    while (!gate_open(child->bs, child)) {
        co_queue_wait(&child->bs->quiesce_queue, NULL);
    }
    child->bs->in_flight++;
    return child->bs;
}

void bdrv_request_begin_drained(BlockDriverState *bs)
{
    IO_CODE(bs);
    g_assert(bs->quiesce && !bs->in_flight);
    bs->in_flight++;
}

void bdrv_request_end(BlockDriverState *bs)
{
    g_assert(bs->in_flight > 0);
    if (--bs->in_flight == 0 && bs->quiesce) {
        co_queue_restart_all(&bs->drain_queue);
    }
}

/* A node with requests in flight among bs and its ancestors; NULL when all are idle. */
static BlockDriverState *find_busy(BlockDriverState *bs)
{
    for (GList *l = bs->parents.head; l; l = l->next) {
        BdrvChild *c = l->data;
        BlockDriverState *busy = c->parent ? find_busy(c->parent) : NULL;
        if (busy) {
            return busy;
        }
    }
    return bs->in_flight ? bs : NULL;
}

void bdrv_quiesce_begin(BlockDriverState *bs)
{
    bs->quiesce++;
    for (GList *l = bs->parents.head; l; l = l->next) {
        BdrvChild *c = l->data;
        if (c->blk) {
            blk_quiesce_begin(c->blk);
        } else {
            bdrv_quiesce_begin(c->parent);
        }
    }
}

void bdrv_quiesce_end(BlockDriverState *bs)
{
    g_assert(bs->quiesce > 0);
    if (--bs->quiesce == 0) {
        co_queue_restart_all(&bs->quiesce_queue);
    }
    for (GList *l = bs->parents.head; l; l = l->next) {
        BdrvChild *c = l->data;
        if (c->blk) {
            blk_quiesce_end(c->blk);
        } else {
            bdrv_quiesce_end(c->parent);
        }
    }
}

void coroutine_fn bdrv_co_drained_begin(BlockDriverState *bs)
{
    BlockDriverState *busy;

    IO_CODE(bs);
    bdrv_quiesce_begin(bs);
    while ((busy = find_busy(bs))) {
        co_queue_wait(&busy->drain_queue, NULL);
    }
}

void bdrv_drained_end(BlockDriverState *bs)
{
    IO_CODE(bs);
    bdrv_quiesce_end(bs);
}
