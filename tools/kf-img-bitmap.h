/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Persistent dirty bitmaps of an open image, for kf-img bitmap and convert.  Main thread. */
#ifndef KF_IMG_BITMAP_H
#define KF_IMG_BITMAP_H

#include "kf-img-int.h"

/* A new bitmap; granularity in bytes, 0: the default. */
bool coroutine_fn img_bitmap_add(BlockDriverState *bs, const char *name, int64_t granularity,
                                 bool disabled, GError **errp);
/* Adds to name what the bitmap source of from has. */
bool coroutine_fn img_bitmap_merge(BlockDriverState *bs, const char *name, BlockDriverState *from,
                                   const char *source, GError **errp);
bool coroutine_fn img_bitmap_enable(BlockDriverState *bs, const char *name, GError **errp);

#endif
