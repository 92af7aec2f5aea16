/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Transactions on the block layer: actions that are prepared together while the guest runs,
 * take effect at one instant in which all their nodes are drained, and are undone together if
 * one fails.  A single command is a transaction of one action.  Main thread throughout; who
 * drives a transaction holds the VM job mutex if an action changes the machine.
 *
 *     prepare, drain, instant, undrain, finish  -  abort at any point, free at the end
 */
#ifndef BLOCK_TRANSACTION_H
#define BLOCK_TRANSACTION_H

#include "block/block.h"
#include "job/job.h"
#include "qapi/qapi-types-transaction.h"

typedef struct BdrvTransaction BdrvTransaction;

/*
 * What the block layer needs of the machine, if there is one: the mutex that serialises
 * whatever changes it, and the guest's clock in ns for the record of a snapshot.
 */
void bdrv_set_machine(VmJobMutex *mutex, int64_t (*clock_ns)(void));
/* That mutex, or one of the block layer's own. */
VmJobMutex *bdrv_job_mutex(void);

BdrvTransaction *bdrv_transaction_new(ActionCompletionMode mode);
/* Adds an action; the arguments stay the caller's and must last.  Not for snapshot-save. */
void bdrv_transaction_add(BdrvTransaction *t, TransactionAction *arg);
/* Whether the transaction uses bs: such a node cannot take part a second time. */
bool bdrv_transaction_has_node(BdrvTransaction *t, BlockDriverState *bs);

/*
 * Whether it is right as things are now, before it waits for its turn: false and errp if not.
 * Neither yields nor changes anything.
 */
bool bdrv_transaction_check(BdrvTransaction *t, GError **errp);

/*
 * Each of these undoes all of it before it returns false.  What cannot be undone, if any, is
 * added to the error.
 */
bool coroutine_fn bdrv_transaction_prepare(BdrvTransaction *t, GError **errp);
bool coroutine_fn bdrv_transaction_instant(BdrvTransaction *t, GError **errp);
bool coroutine_fn bdrv_transaction_finish(BdrvTransaction *t, GError **errp);

void coroutine_fn bdrv_transaction_drain(BdrvTransaction *t);
void coroutine_fn bdrv_transaction_undrain(BdrvTransaction *t);
/* Something outside it has failed: undoes it; as above with *errp, which is set. */
void coroutine_fn bdrv_transaction_abort(BdrvTransaction *t, GError **errp);
/* After finish it is done for good. */
void coroutine_fn bdrv_transaction_free(BdrvTransaction *t);

/* All of it, with the mutex where it is needed: for transactions without a machine's state. */
bool coroutine_fn bdrv_transaction_run(BdrvTransaction *t, GError **errp);

#endif
