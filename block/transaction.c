/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The course of a transaction: see include/block/transaction.h.  What the actions do is in
 * transaction-*.c and backup.c.  Main thread.
 */
#include "qapi/error.h"
#include "transaction-int.h"

typedef struct TransactionNode {
    BlockDriverState *bs; /* a reference */
    bool claimed;
    bool drained;
} TransactionNode;

struct BdrvTransaction {
    ActionCompletionMode mode;
    GPtrArray *actions; /* BdrvAction */
    GPtrArray *nodes;   /* TransactionNode */
    guint prepared;     /* actions whose prepare() was called */
    bool finished;
};

/* --- The machine -------------------------------------------------------------------------- */

static VmJobMutex *machine_mutex, *own_mutex;
static int64_t (*machine_clock_ns)(void);

void bdrv_set_machine(VmJobMutex *mutex, int64_t (*clock_ns)(void))
{
    GLOBAL_STATE();
    machine_mutex = mutex;
    machine_clock_ns = clock_ns;
}

VmJobMutex *bdrv_job_mutex(void)
{
    GLOBAL_STATE();
    if (!machine_mutex && !own_mutex) {
        own_mutex = vm_job_mutex_new(); /* lives as long as the program */
    }
    return machine_mutex ? machine_mutex : own_mutex;
}

int64_t bdrv_machine_clock_ns(void)
{
    return machine_clock_ns ? machine_clock_ns() : 0;
}

/* --- Making one ----------------------------------------------------------------------------- */

BdrvTransaction *bdrv_transaction_new(ActionCompletionMode mode)
{
    BdrvTransaction *t = g_new0(BdrvTransaction, 1);

    GLOBAL_STATE();
    t->mode = mode;
    t->actions = g_ptr_array_new_with_free_func(g_free);
    t->nodes = g_ptr_array_new_with_free_func(g_free);
    return t;
}

static bool coroutine_fn abort_prepare(BdrvAction *a, GError **errp)
{
    error_setg(errp, "Transaction aborted using Abort action");
    return false;
}

static bool coroutine_fn abort_abort(BdrvAction *a, GError **errp)
{
    return true;
}

static const BdrvActionDriver abort_driver = {
    .instance_size = sizeof(BdrvAction),
    .may_be_grouped = true,
    .prepare = abort_prepare,
    .abort = abort_abort,
};

static const BdrvActionDriver *const drivers[TRANSACTION_ACTION_TYPE__MAX] = {
    [TRANSACTION_ACTION_TYPE_ABORT] = &abort_driver,
    [TRANSACTION_ACTION_TYPE_BLOCK_DIRTY_BITMAP_ADD] = &bdrv_action_bitmap_add,
    [TRANSACTION_ACTION_TYPE_BLOCK_DIRTY_BITMAP_REMOVE] = &bdrv_action_bitmap_remove,
    [TRANSACTION_ACTION_TYPE_BLOCK_DIRTY_BITMAP_CLEAR] = &bdrv_action_bitmap_clear,
    [TRANSACTION_ACTION_TYPE_BLOCK_DIRTY_BITMAP_ENABLE] = &bdrv_action_bitmap_enable,
    [TRANSACTION_ACTION_TYPE_BLOCK_DIRTY_BITMAP_DISABLE] = &bdrv_action_bitmap_disable,
    [TRANSACTION_ACTION_TYPE_BLOCK_DIRTY_BITMAP_MERGE] = &bdrv_action_bitmap_merge,
    [TRANSACTION_ACTION_TYPE_BLOCKDEV_BACKUP] = &bdrv_action_backup,
    [TRANSACTION_ACTION_TYPE_BLOCKDEV_SNAPSHOT] = &bdrv_action_snapshot,
    [TRANSACTION_ACTION_TYPE_BLOCKDEV_SNAPSHOT_SYNC] = &bdrv_action_snapshot_sync,
    [TRANSACTION_ACTION_TYPE_BLOCKDEV_SNAPSHOT_INTERNAL_SYNC] = &bdrv_action_snapshot_internal,
};

void bdrv_transaction_add(BdrvTransaction *t, TransactionAction *arg)
{
    const BdrvActionDriver *drv = drivers[arg->type];
    BdrvAction *a;

    g_assert(drv);
    a = g_malloc0(drv->instance_size);
    a->drv = drv;
    a->t = t;
    a->arg = arg;
    g_ptr_array_add(t->actions, a);
}

/* The first action for which the transaction needs the mutex, or NULL. */
static const char *machine_action(BdrvTransaction *t)
{
    for (guint i = 0; i < t->actions->len; i++) {
        BdrvAction *a = t->actions->pdata[i];

        if (a->drv->changes_machine) {
            return TransactionActionType_str(a->arg->type);
        }
    }
    return NULL;
}

/* --- Nodes ---------------------------------------------------------------------------------- */

static TransactionNode *find_node(BdrvTransaction *t, BlockDriverState *bs)
{
    for (guint i = 0; i < t->nodes->len; i++) {
        TransactionNode *n = t->nodes->pdata[i];

        if (n->bs == bs) {
            return n;
        }
    }
    return NULL;
}

bool bdrv_transaction_has_node(BdrvTransaction *t, BlockDriverState *bs)
{
    TransactionNode *n = find_node(t, bs);

    return n && n->claimed;
}

void bdrv_transaction_add_node(BdrvTransaction *t, BlockDriverState *bs)
{
    TransactionNode *n;

    if (find_node(t, bs)) {
        return;
    }
    n = g_new0(TransactionNode, 1);
    n->bs = bdrv_ref(bs);
    g_ptr_array_add(t->nodes, n);
}

bool bdrv_transaction_claim_node(BdrvTransaction *t, BlockDriverState *bs, GError **errp)
{
    if (bdrv_transaction_has_node(t, bs)) {
        error_setg(errp, "Node '%s' takes part in another action of the transaction",
                   bdrv_node_name(bs));
        return false;
    }
    bdrv_transaction_add_node(t, bs);
    find_node(t, bs)->claimed = true;
    return true;
}

void coroutine_fn bdrv_transaction_drain(BdrvTransaction *t)
{
    GLOBAL_STATE();
    for (guint i = 0; i < t->nodes->len; i++) {
        TransactionNode *n = t->nodes->pdata[i];

        bdrv_co_move_to(n->bs->ctx);
        bdrv_co_drained_begin(n->bs);
        n->drained = true;
    }
    bdrv_co_move_to(main_aio_context());
}

void coroutine_fn bdrv_transaction_undrain(BdrvTransaction *t)
{
    GLOBAL_STATE();
    for (guint i = 0; i < t->nodes->len; i++) {
        TransactionNode *n = t->nodes->pdata[i];

        if (n->drained) {
            n->drained = false;
            bdrv_co_move_to(n->bs->ctx);
            bdrv_drained_end(n->bs);
        }
    }
    bdrv_co_move_to(main_aio_context());
}

/* --- The course ------------------------------------------------------------------------------ */

void coroutine_fn bdrv_transaction_abort(BdrvTransaction *t, GError **errp)
{
    GLOBAL_STATE();
    while (t->prepared > 0) {
        BdrvAction *a = t->actions->pdata[--t->prepared];
        GError *left = NULL;

        if (!a->drv->abort(a, &left)) {
            if (errp && *errp) {
                char *both = g_strdup_printf("%s; moreover: %s", (*errp)->message, left->message);

                g_free((*errp)->message);
                (*errp)->message = both;
            }
            g_clear_error(&left);
        }
    }
}

/* With err, the reason. */
static bool coroutine_fn fail(BdrvTransaction *t, GError *err, GError **errp)
{
    bdrv_transaction_abort(t, &err);
    g_propagate_error(errp, err);
    return false;
}

static bool check_mode(BdrvTransaction *t, GError **errp)
{
    for (guint i = 0; i < t->actions->len; i++) {
        BdrvAction *a = t->actions->pdata[i];

        if (t->mode != ACTION_COMPLETION_MODE_INDIVIDUAL && !a->drv->may_be_grouped) {
            error_setg(errp, "Action '%s' does not support Transaction property "
                       "completion-mode = %s", TransactionActionType_str(a->arg->type),
                       ActionCompletionMode_str(t->mode));
            return false;
        }
    }
    return true;
}

bool bdrv_transaction_check(BdrvTransaction *t, GError **errp)
{
    GLOBAL_STATE();
    if (!check_mode(t, errp)) {
        return false;
    }
    for (guint i = 0; i < t->actions->len; i++) {
        BdrvAction *a = t->actions->pdata[i];

        if (a->drv->check && !a->drv->check(a, errp)) {
            return false;
        }
        if (a->drv->makes_node) {
            break;
        }
    }
    return true;
}

bool coroutine_fn bdrv_transaction_prepare(BdrvTransaction *t, GError **errp)
{
    GError *err = NULL;

    GLOBAL_STATE();
    while (t->prepared < t->actions->len) {
        BdrvAction *a = t->actions->pdata[t->prepared++];

        if (!a->drv->prepare(a, &err)) {
            return fail(t, err, errp);
        }
    }
    return true;
}

bool coroutine_fn bdrv_transaction_instant(BdrvTransaction *t, GError **errp)
{
    GError *err = NULL;

    GLOBAL_STATE();
    for (guint i = 0; i < t->actions->len; i++) {
        BdrvAction *a = t->actions->pdata[i];

        if (a->drv->freeze && !a->drv->freeze(a, &err)) {
            return fail(t, err, errp);
        }
    }
    for (guint i = 0; i < t->actions->len; i++) {
        BdrvAction *a = t->actions->pdata[i];

        if (a->drv->commit) {
            a->drv->commit(a);
        }
        a->committed = true;
    }
    return true;
}

bool coroutine_fn bdrv_transaction_finish(BdrvTransaction *t, GError **errp)
{
    GError *err = NULL;

    GLOBAL_STATE();
    for (guint i = 0; i < t->actions->len; i++) {
        BdrvAction *a = t->actions->pdata[i];

        if (a->drv->finish && !a->drv->finish(a, &err)) {
            return fail(t, err, errp);
        }
    }
    t->finished = true;
    return true;
}

void coroutine_fn bdrv_transaction_free(BdrvTransaction *t)
{
    GLOBAL_STATE();
    for (guint i = 0; t->finished && i < t->prepared; i++) {
        BdrvAction *a = t->actions->pdata[i];

        if (a->drv->settle) {
            a->drv->settle(a);
        }
    }
    for (guint i = 0; t->finished && i < t->prepared; i++) {
        BdrvAction *a = t->actions->pdata[i];

        if (a->drv->done) {
            a->drv->done(a);
        }
    }
    for (guint i = 0; i < t->nodes->len; i++) {
        bdrv_co_unref(((TransactionNode *)t->nodes->pdata[i])->bs);
    }
    g_ptr_array_unref(t->nodes);
    g_ptr_array_unref(t->actions);
    g_free(t);
}

static bool coroutine_fn run(BdrvTransaction *t, GError **errp)
{
    bool ok = bdrv_transaction_prepare(t, errp);

    if (ok) {
        bdrv_transaction_drain(t);
        ok = bdrv_transaction_instant(t, errp);
        bdrv_transaction_undrain(t);
    }
    return ok && bdrv_transaction_finish(t, errp);
}

bool coroutine_fn bdrv_transaction_run(BdrvTransaction *t, GError **errp)
{
    const char *owner = machine_action(t);
    bool ok = bdrv_transaction_check(t, errp);

    GLOBAL_STATE();
    ok = ok && (!owner || vm_job_mutex_lock_soon(bdrv_job_mutex(), NULL, owner, errp));
    if (!ok) {
        bdrv_transaction_free(t);
        return false;
    }
    ok = run(t, errp);
    bdrv_transaction_free(t);
    if (owner) {
        vm_job_mutex_unlock(bdrv_job_mutex());
    }
    return ok;
}
