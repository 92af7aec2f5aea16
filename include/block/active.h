/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Handing images over between the two processes of a migration.  All in the main thread,
 * those marked so as coroutines.
 */
#ifndef BLOCK_ACTIVE_H
#define BLOCK_ACTIVE_H

#include <glib.h>
#include <stdbool.h>
#include "block/block.h"
#include "util/coroutine.h"

/*
 * Writable nodes that are opened from now on are inactive: somebody else may be using
 * their images.
 */
void bdrv_set_open_inactive(bool on);
bool bdrv_opens_inactive(void);
/* false and errp if bs is inactive: who would begin something with it might wait for ever. */
bool bdrv_check_active(BlockDriverState *bs, GError **errp);
/*
 * Makes every node active: locks are taken, metadata is read again, requests that waited go
 * on.  On failure (another process holds a lock) the others stay inactive; it may be tried
 * again.  Nothing happens to nodes that are active.
 */
bool coroutine_fn bdrv_co_activate_all(GError **errp);
/*
 * Drains and flushes every writable node, gives its locks up and keeps requests away until
 * bdrv_co_activate_all(), which is also what undoes a failure.
 */
bool coroutine_fn bdrv_co_inactivate_all(GError **errp);
/* No request is in flight in any node, and new ones wait, until the end. */
void coroutine_fn bdrv_co_drain_all_begin(void);
void coroutine_fn bdrv_co_drain_all_end(void);
/* Flushes every writable node, so that giving it up soon takes little time. */
bool coroutine_fn bdrv_co_flush_all(GError **errp);

#endif
