/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An image file that a transaction makes, and that goes away again if that is undone. */
#ifndef BLOCK_NEW_IMAGE_H
#define BLOCK_NEW_IMAGE_H

#include "block/block-int.h"

typedef struct NewImage NewImage;

/*
 * Makes filename in format over backing.  A regular file that is there already is put aside
 * until it is known what becomes of the new one.  NULL and errp, with everything as before, on
 * failure.  Main thread.
 */
NewImage *coroutine_fn new_image_make(const char *filename, const char *format,
                                      BlockDriverState *backing, GError **errp);
/* Ends it; NULL is allowed.  keep: the former file goes.  undo: the new one. */
void coroutine_fn new_image_keep(NewImage *image);
void coroutine_fn new_image_undo(NewImage *image);

#endif
