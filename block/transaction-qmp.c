/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The commands that are transactions of one action.  Main thread.
 */
#include "block/transaction.h"
#include "qapi/qapi-commands-block-core.h"

static void coroutine_fn run_single(TransactionAction *action, GError **errp)
{
    BdrvTransaction *t = bdrv_transaction_new(ACTION_COMPLETION_MODE_INDIVIDUAL);

    bdrv_transaction_add(t, action);
    bdrv_transaction_run(t, errp);
}

void coroutine_fn qmp_block_dirty_bitmap_add(BlockDirtyBitmapAdd *arg, GError **errp)
{
    TransactionAction action = {.type = TRANSACTION_ACTION_TYPE_BLOCK_DIRTY_BITMAP_ADD};

    action.u.block_dirty_bitmap_add.data = arg;
    run_single(&action, errp);
}

void coroutine_fn qmp_block_dirty_bitmap_remove(BlockDirtyBitmap *arg, GError **errp)
{
    TransactionAction action = {.type = TRANSACTION_ACTION_TYPE_BLOCK_DIRTY_BITMAP_REMOVE};

    action.u.block_dirty_bitmap_remove.data = arg;
    run_single(&action, errp);
}

void coroutine_fn qmp_block_dirty_bitmap_clear(BlockDirtyBitmap *arg, GError **errp)
{
    TransactionAction action = {.type = TRANSACTION_ACTION_TYPE_BLOCK_DIRTY_BITMAP_CLEAR};

    action.u.block_dirty_bitmap_clear.data = arg;
    run_single(&action, errp);
}

void coroutine_fn qmp_block_dirty_bitmap_enable(BlockDirtyBitmap *arg, GError **errp)
{
    TransactionAction action = {.type = TRANSACTION_ACTION_TYPE_BLOCK_DIRTY_BITMAP_ENABLE};

    action.u.block_dirty_bitmap_enable.data = arg;
    run_single(&action, errp);
}

void coroutine_fn qmp_block_dirty_bitmap_disable(BlockDirtyBitmap *arg, GError **errp)
{
    TransactionAction action = {.type = TRANSACTION_ACTION_TYPE_BLOCK_DIRTY_BITMAP_DISABLE};

    action.u.block_dirty_bitmap_disable.data = arg;
    run_single(&action, errp);
}

void coroutine_fn qmp_block_dirty_bitmap_merge(BlockDirtyBitmapMerge *arg, GError **errp)
{
    TransactionAction action = {.type = TRANSACTION_ACTION_TYPE_BLOCK_DIRTY_BITMAP_MERGE};

    action.u.block_dirty_bitmap_merge.data = arg;
    run_single(&action, errp);
}

void coroutine_fn qmp_blockdev_snapshot(BlockdevSnapshot *arg, GError **errp)
{
    TransactionAction action = {.type = TRANSACTION_ACTION_TYPE_BLOCKDEV_SNAPSHOT};

    action.u.blockdev_snapshot.data = arg;
    run_single(&action, errp);
}

void coroutine_fn qmp_blockdev_snapshot_sync(BlockdevSnapshotSync *arg, GError **errp)
{
    TransactionAction action = {.type = TRANSACTION_ACTION_TYPE_BLOCKDEV_SNAPSHOT_SYNC};

    action.u.blockdev_snapshot_sync.data = arg;
    run_single(&action, errp);
}

void coroutine_fn qmp_blockdev_snapshot_internal_sync(BlockdevSnapshotInternal *arg,
                                                      GError **errp)
{
    TransactionAction action = {.type = TRANSACTION_ACTION_TYPE_BLOCKDEV_SNAPSHOT_INTERNAL_SYNC};

    action.u.blockdev_snapshot_internal_sync.data = arg;
    run_single(&action, errp);
}

void coroutine_fn qmp_blockdev_backup(BlockdevBackup *arg, GError **errp)
{
    TransactionAction action = {.type = TRANSACTION_ACTION_TYPE_BLOCKDEV_BACKUP};

    action.u.blockdev_backup.data = arg;
    run_single(&action, errp);
}
