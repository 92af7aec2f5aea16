/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What an action of a transaction implements.  Everything runs in coroutines in the main
 * thread; what must be done in a node's home context hops there and comes back.
 */
#ifndef BLOCK_TRANSACTION_INT_H
#define BLOCK_TRANSACTION_INT_H

#include "block/block-int.h"
#include "block/transaction.h"

typedef struct BdrvAction BdrvAction;

typedef struct BdrvActionDriver {
    size_t instance_size; /* BdrvAction is the first member */
    bool changes_machine; /* needs the VM job mutex */
    bool may_be_grouped;  /* makes sense with completion-mode=grouped */
    bool makes_node;      /* in prepare(); later actions may name it */
    /*
     * Before the transaction waits for its turn: whether it is right as things are now, which
     * prepare() checks again.  Does not yield.  May be NULL.
     */
    bool (*check)(BdrvAction *a, GError **errp);
    /* The guest runs: checks, reserves, and names the nodes to be drained. */
    bool coroutine_fn (*prepare)(BdrvAction *a, GError **errp);
    /* The instant, in the order of the actions: whatever may fail.  May be NULL. */
    bool coroutine_fn (*freeze)(BdrvAction *a, GError **errp);
    /* The same instant, when all have succeeded.  Does not yield.  May be NULL. */
    void (*commit)(BdrvAction *a);
    /* The guest runs again: makes it durable.  May be NULL. */
    bool coroutine_fn (*finish)(BdrvAction *a, GError **errp);
    /*
     * In reverse order, for each action whose prepare() was called: undoes what it has done,
     * up to and after finish().  false and errp if it stays as it is.
     */
    bool coroutine_fn (*abort)(BdrvAction *a, GError **errp);
    /* All have finished: lets go what it held, for good.  Does not yield.  May be NULL. */
    void (*settle)(BdrvAction *a);
    /* All have settled.  May be NULL. */
    void coroutine_fn (*done)(BdrvAction *a);
} BdrvActionDriver;

struct BdrvAction {
    const BdrvActionDriver *drv;
    BdrvTransaction *t;
    TransactionAction *arg;
    bool committed;
};

extern const BdrvActionDriver bdrv_action_bitmap_add, bdrv_action_bitmap_remove,
    bdrv_action_bitmap_clear, bdrv_action_bitmap_enable, bdrv_action_bitmap_disable,
    bdrv_action_bitmap_merge, bdrv_action_snapshot, bdrv_action_snapshot_sync,
    bdrv_action_snapshot_internal, bdrv_action_backup;

/* bs shall be drained at the instant; takes a reference until the transaction is freed. */
void bdrv_transaction_add_node(BdrvTransaction *t, BlockDriverState *bs);
/*
 * The same for an action that changes what the node is: false and errp if another action has
 * claimed it.
 */
bool bdrv_transaction_claim_node(BdrvTransaction *t, BlockDriverState *bs, GError **errp);
/* The guest's clock in ns; 0 without a machine. */
int64_t bdrv_machine_clock_ns(void);

#endif
