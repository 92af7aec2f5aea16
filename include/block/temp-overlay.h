/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An overlay in a temporary file, for what shall not change the image. */
#ifndef BLOCK_TEMP_OVERLAY_H
#define BLOCK_TEMP_OVERLAY_H

#include "block/block.h"

/*
 * A new node in ctx, where base lives, that takes what is written in place of base and is gone
 * with the program.  NULL and errp on failure.  Coroutine in the main thread.
 */
BlockDriverState *coroutine_fn temp_overlay_co_open(BlockDriverState *base, AioContext *ctx,
                                                    GError **errp);

#endif
