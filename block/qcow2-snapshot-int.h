/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The callbacks of block/snapshot.h for qcow2, one group for each qcow2-snapshot-*.c file. */
#ifndef BLOCK_QCOW2_SNAPSHOT_INT_H
#define BLOCK_QCOW2_SNAPSHOT_INT_H

#include "qcow2.h"

/* qcow2-snapshot-save.c */
void *coroutine_fn qcow2_save_prepare(BlockDriverState *bs, BdrvSnapshotInfo *info,
                                      uint64_t vm_state_size, GError **errp);
bool coroutine_fn qcow2_save_freeze(BlockDriverState *bs, void *save, GError **errp);
int coroutine_fn qcow2_save_write(BlockDriverState *bs, void *save, uint64_t offset,
                                  IOVector *iov);
bool coroutine_fn qcow2_save_publish(BlockDriverState *bs, void *save,
                                     const BdrvSnapshotInfo *info, GError **errp);
void coroutine_fn qcow2_save_abort(BlockDriverState *bs, void *save);
void coroutine_fn qcow2_save_done(BlockDriverState *bs, void *save);

/* qcow2-snapshot-goto.c */
void *coroutine_fn qcow2_goto_prepare(BlockDriverState *bs, const char *id_or_name, GError **errp);
bool coroutine_fn qcow2_goto_switch(BlockDriverState *bs, void *g, GError **errp);
bool coroutine_fn qcow2_goto_commit(BlockDriverState *bs, void *g, GError **errp);
void coroutine_fn qcow2_goto_end(BlockDriverState *bs, void *g, bool rollback);

/* qcow2-snapshot.c: see remove in block-int.h; takes walk_lock. */
bool coroutine_fn qcow2_snapshot_remove(BlockDriverState *bs, const char *id, const char *heir,
                                        GError **errp);

#endif
