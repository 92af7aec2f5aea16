/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Bringing what an overlay has down into its backing file.  Main thread. */
#ifndef BLOCK_COMMIT_H
#define BLOCK_COMMIT_H

#include "block/block.h"
#include "job/job.h"

/* Who wants to be able to cancel: job is at work; NULL: no more. */
typedef struct BdrvCommitWatch {
    void (*started)(void *opaque, Job *job);
    void *opaque;
} BdrvCommitWatch;

/*
 * Moves all that bs has into its backing file, while bs is in use, by a job without a name.  false
 * and errp, with bs as it is, also when it has no backing file, one that others use or that cannot be
 * written, or internal snapshots.  watch may be NULL.
 */
bool coroutine_fn bdrv_co_commit(BlockDriverState *bs, const BdrvCommitWatch *watch,
                                 GError **errp);
/* The same with all devices' nodes that have a backing file, until one fails. */
bool coroutine_fn bdrv_co_commit_all(const BdrvCommitWatch *watch, GError **errp);

/*
 * Whatever the overlay of edge, its backing edge, has at offset goes down, at most bytes of it; buf
 * has chunk bytes.  In the home context, within a request on the overlay.  How far it came, or
 * -errno.
 */
int64_t coroutine_fn bdrv_co_copy_down(BdrvChild *edge, int64_t offset, int64_t bytes,
                                       uint8_t *buf, int64_t chunk);

#endif
