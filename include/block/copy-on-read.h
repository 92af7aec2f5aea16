/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copy on read over a node that is open already: kf-io -C. */
#ifndef BLOCK_COPY_ON_READ_H
#define BLOCK_COPY_ON_READ_H

#include "block/block.h"

/*
 * A node over bs through which what a backing file shows is copied to bs when it is read.  It has a
 * reference of its own on bs, which nobody may write to otherwise.  NULL and errp, where bs is
 * read-only too.  Coroutine in the main thread.
 */
BlockDriverState *coroutine_fn copy_on_read_co_open(BlockDriverState *bs, GError **errp);

#endif
