/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The command "transaction".  Without the machine's state the block layer does it all; with
 * it, the job that saves the machine carries the other actions along: it prepares them with
 * its own disks, lets them take effect in its blackout, and the command is answered when they
 * are durable.  The rest of the job goes on behind the answer.  Main thread, except that the
 * job's side comes from the snapshot thread and goes back there.
 */
#include "block/transaction.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-transaction.h"
#include "snapshot-int.h"

/* Main thread. */
struct SnapshotTransaction {
    int refs; /* the command, the job's data, the one who waits for the job */
    BdrvTransaction *t; /* NULL when it is over */
    bool grouped;       /* the job's failure undoes the other actions */
    Coroutine *command; /* waits for the answer */
    Job *job;
    bool answered;
    GError *err;
};

static void drop(SnapshotTransaction *st)
{
    if (--st->refs == 0) {
        g_assert(!st->t);
        g_clear_error(&st->err);
        g_free(st);
    }
}

void snapshot_transaction_unref(SnapshotTransaction *st)
{
    if (st) {
        drop(st);
    }
}

static void answer(SnapshotTransaction *st, GError *err)
{
    g_assert(!st->answered);
    st->answered = true;
    st->err = err;
    aio_co_wake(st->command);
}

/* --- The job's side ------------------------------------------------------------------------- */

static bool check_nodes(SnapshotJob *sj, GError **errp)
{
    for (int i = 0; i < sj->nr_nodes; i++) {
        if (bdrv_transaction_has_node(sj->transaction->t, sj->nodes[i].bs)) {
            error_setg(errp, "Node '%s' takes part in another action of the transaction",
                       bdrv_node_name(sj->nodes[i].bs));
            return false;
        }
    }
    return true;
}

bool coroutine_fn snapshot_transaction_prepare(SnapshotJob *sj, GError **errp)
{
    SnapshotTransaction *st = sj->transaction;
    GError *err = NULL;

    if (!st) {
        return true;
    }
    aio_co_reschedule_self(main_aio_context());
    if (bdrv_transaction_prepare(st->t, &err) && !check_nodes(sj, &err)) {
        bdrv_transaction_abort(st->t, &err);
    }
    snapshot_home(sj);
    if (err) {
        g_propagate_error(errp, err);
        return false;
    }
    return true;
}

void coroutine_fn snapshot_transaction_drain(SnapshotJob *sj)
{
    if (sj->transaction) {
        aio_co_reschedule_self(main_aio_context());
        bdrv_transaction_drain(sj->transaction->t);
        snapshot_home(sj);
    }
}

void coroutine_fn snapshot_transaction_undrain(SnapshotJob *sj)
{
    if (sj->transaction) {
        aio_co_reschedule_self(main_aio_context());
        bdrv_transaction_undrain(sj->transaction->t);
        snapshot_home(sj);
    }
}

bool coroutine_fn snapshot_transaction_instant(SnapshotJob *sj, GError **errp)
{
    bool ok;

    if (!sj->transaction) {
        return true;
    }
    aio_co_reschedule_self(main_aio_context());
    ok = bdrv_transaction_instant(sj->transaction->t, errp);
    snapshot_home(sj);
    return ok;
}

bool coroutine_fn snapshot_transaction_finish(SnapshotJob *sj, GError **errp)
{
    SnapshotTransaction *st = sj->transaction;
    bool ok;

    if (!st) {
        return true;
    }
    aio_co_reschedule_self(main_aio_context());
    ok = bdrv_transaction_finish(st->t, errp);
    if (ok) {
        answer(st, NULL);
    }
    snapshot_home(sj);
    return ok;
}

void coroutine_fn snapshot_transaction_end(SnapshotJob *sj, bool ok, GError **errp)
{
    SnapshotTransaction *st = sj->transaction;

    if (!st) {
        return;
    }
    aio_co_reschedule_self(main_aio_context());
    if (!ok && (st->grouped || !st->answered)) {
        bdrv_transaction_abort(st->t, errp);
    }
    bdrv_transaction_free(st->t);
    st->t = NULL;
    snapshot_home(sj);
}

/* --- The command's side --------------------------------------------------------------------- */

/* The job is over: if that was before the actions were done, its error is the answer. */
static void coroutine_fn watch_entry(void *opaque)
{
    SnapshotTransaction *st = opaque;
    GError *err = NULL;

    job_co_wait(st->job, &err);
    if (!st->answered) {
        answer(st, err);
    } else {
        g_clear_error(&err);
    }
    job_unref(st->job);
    drop(st);
}

static void coroutine_fn with_machine(BdrvTransaction *t, bool grouped, const SnapshotSave *arg,
                                      GError **errp)
{
    SnapshotJob *sj = NULL;
    SnapshotTransaction *st;
    bool failed;

    if (bdrv_transaction_check(t, errp) &&
        vm_job_mutex_check_soon(bdrv_job_mutex(), "snapshot-save", errp)) {
        sj = snapshot_save_new(arg, errp);
    }
    if (!sj) {
        bdrv_transaction_free(t);
        return;
    }
    st = g_new0(SnapshotTransaction, 1);
    st->refs = 2;
    st->t = t;
    st->grouped = grouped;
    st->command = coroutine_self();
    sj->transaction = st;
    st->job = snapshot_job_start(sj, arg->job_id, JOB_MANUAL_DISMISS, errp);
    if (st->job) {
        st->refs++;
        aio_co_enter(main_aio_context(), coroutine_create(watch_entry, st));
        while (!st->answered) {
            coroutine_yield();
        }
    }
    failed = !st->job || st->err;
    if (st->err) {
        /* The command has failed, so there is no job. */
        job_dismiss_by_id(arg->job_id, NULL);
        g_propagate_error(errp, g_steal_pointer(&st->err));
    }
    if (failed && st->t) { /* the job has not come so far as to take it over */
        bdrv_transaction_free(g_steal_pointer(&st->t));
    }
    drop(st);
}

void coroutine_fn qmp_transaction(TransactionActionList *actions,
                                  TransactionProperties *properties, GError **errp)
{
    ActionCompletionMode mode = properties && properties->has_completion_mode
                                    ? properties->completion_mode
                                    : ACTION_COMPLETION_MODE_INDIVIDUAL;
    const SnapshotSave *save = NULL;
    bool backup = false;
    BdrvTransaction *t;

    for (TransactionActionList *l = actions; l; l = l->next) {
        if (l->value->type == TRANSACTION_ACTION_TYPE_SNAPSHOT_SAVE) {
            if (save) {
                error_setg(errp, "A transaction can save the machine only once");
                return;
            }
            save = l->value->u.snapshot_save.data;
        }
        backup |= l->value->type == TRANSACTION_ACTION_TYPE_BLOCKDEV_BACKUP;
    }
    if (save && backup && mode == ACTION_COMPLETION_MODE_GROUPED) {
        /* One that fails later would have to undo the snapshot. */
        error_setg(errp, "Action '%s' does not support Transaction property completion-mode = %s",
                   TransactionActionType_str(TRANSACTION_ACTION_TYPE_BLOCKDEV_BACKUP),
                   ActionCompletionMode_str(mode));
        return;
    }
    /* With the machine's state all actions can be undone until its job has ended. */
    t = bdrv_transaction_new(save ? ACTION_COMPLETION_MODE_INDIVIDUAL : mode);
    for (TransactionActionList *l = actions; l; l = l->next) {
        if (l->value->type != TRANSACTION_ACTION_TYPE_SNAPSHOT_SAVE) {
            bdrv_transaction_add(t, l->value);
        }
    }
    if (save) {
        with_machine(t, mode == ACTION_COMPLETION_MODE_GROUPED, save, errp);
    } else {
        bdrv_transaction_run(t, errp);
    }
}
