/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Internal snapshots of single disks: the action that takes one, and the command that deletes
 * one.  Main thread, hopping to the node's home.
 */
#include <string.h>
#include <time.h>
#include "block/active.h"
#include "block/block-int.h"
#include "block/qapi-format.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-block-core.h"
#include "transaction-int.h"

typedef struct InternalAction {
    BdrvAction action;
    BlockDriverState *bs; /* the transaction has the reference */
    BdrvSnapshotInfo info;
    BdrvSnapshotSave *save;
} InternalAction;

static InternalAction *to_internal(BdrvAction *a)
{
    return (InternalAction *)a;
}

static bool internal_check(BdrvAction *a, GError **errp)
{
    const BlockdevSnapshotInternal *arg = a->arg->u.blockdev_snapshot_internal_sync.data;
    BlockDriverState *bs = bdrv_lookup(arg->device, arg->device, errp);
    size_t max = sizeof(((BdrvSnapshotInfo *)0)->name) - 1;

    if (!bs || !bdrv_check_active(bs, errp)) {
        return false;
    }
    if (bs->read_only) {
        error_setg(errp, "Device '%s' is read only", arg->device);
    } else if (!bdrv_can_snapshot(bs)) {
        error_setg(errp, "Block format '%s' used by device '%s' does not support internal "
                   "snapshots", bdrv_driver_name(bs), arg->device);
    } else if (!*arg->name) {
        error_setg(errp, "Name is empty");
    } else if (strlen(arg->name) > max) {
        error_setg(errp, "Parameter 'name' expects a name of 1 to %zu bytes", max);
    } else {
        return true;
    }
    return false;
}

/* Home context. */
static bool coroutine_fn prepare_in_home(InternalAction *s, const BlockdevSnapshotInternal *arg,
                                         GError **errp)
{
    GError *err = NULL;

    if (bdrv_co_snapshot_find_name(s->bs, arg->name, NULL, &err)) {
        error_setg(errp, "Snapshot with name '%s' already exists on device '%s'", arg->name,
                   arg->device);
        return false;
    }
    if (err) {
        g_propagate_error(errp, err);
        return false;
    }
    s->save = bdrv_co_snapshot_prepare(s->bs, &s->info, 0, errp);
    return s->save != NULL;
}

static bool coroutine_fn internal_prepare(BdrvAction *a, GError **errp)
{
    BlockdevSnapshotInternal *arg = a->arg->u.blockdev_snapshot_internal_sync.data;
    InternalAction *s = to_internal(a);
    bool ok;

    if (!internal_check(a, errp)) {
        return false;
    }
    s->bs = bdrv_lookup(arg->device, arg->device, NULL);
    if (!bdrv_transaction_claim_node(a->t, s->bs, errp)) {
        return false;
    }
    g_strlcpy(s->info.name, arg->name, sizeof(s->info.name));
    s->info.icount = UINT64_MAX;
    s->info.disk_size = bdrv_length(s->bs);
    bdrv_co_move_to(s->bs->ctx);
    ok = prepare_in_home(s, arg, errp);
    bdrv_co_move_to(main_aio_context());
    return ok;
}

static bool coroutine_fn internal_freeze(BdrvAction *a, GError **errp)
{
    InternalAction *s = to_internal(a);
    struct timespec now;
    bool ok;

    clock_gettime(CLOCK_REALTIME, &now);
    s->info.date_sec = now.tv_sec;
    s->info.date_nsec = now.tv_nsec;
    s->info.vm_clock_nsec = bdrv_machine_clock_ns();
    bdrv_co_move_to(s->bs->ctx);
    ok = bdrv_co_snapshot_freeze(s->save, errp);
    bdrv_co_move_to(main_aio_context());
    return ok;
}

static bool coroutine_fn internal_finish(BdrvAction *a, GError **errp)
{
    InternalAction *s = to_internal(a);
    bool ok;

    bdrv_co_move_to(s->bs->ctx);
    ok = bdrv_co_snapshot_publish(s->save, &s->info, errp);
    bdrv_co_move_to(main_aio_context());
    return ok;
}

static bool coroutine_fn internal_abort(BdrvAction *a, GError **errp)
{
    InternalAction *s = to_internal(a);

    if (s->save) {
        bdrv_co_move_to(s->bs->ctx);
        bdrv_co_snapshot_abort(s->save);
        bdrv_co_move_to(main_aio_context());
        s->save = NULL;
    }
    return true;
}

static void coroutine_fn internal_done(BdrvAction *a)
{
    InternalAction *s = to_internal(a);

    bdrv_co_move_to(s->bs->ctx);
    bdrv_co_snapshot_done(s->save);
    bdrv_co_move_to(main_aio_context());
}

const BdrvActionDriver bdrv_action_snapshot_internal = {
    .instance_size = sizeof(InternalAction),
    .changes_machine = true,
    .check = internal_check,
    .prepare = internal_prepare,
    .freeze = internal_freeze,
    .finish = internal_finish,
    .abort = internal_abort,
    .done = internal_done,
};

/* --- Deleting ------------------------------------------------------------------------------- */

/* Home context: the snapshot that has the id and the name, of which one may be NULL. */
static bool coroutine_fn find_exactly(BlockDriverState *bs, const char *id, const char *name,
                                      BdrvSnapshotInfo *info, GError **errp)
{
    int n;
    g_autofree BdrvSnapshotInfo *list = bdrv_co_snapshot_list(bs, &n, errp);

    for (int i = 0; i < n; i++) {
        if ((!id || !strcmp(list[i].id, id)) && (!name || !strcmp(list[i].name, name))) {
            *info = list[i];
            return true;
        }
    }
    return false;
}

static bool coroutine_fn delete_in_home(BlockDriverState *bs, const char *device, const char *id,
                                        const char *name, BdrvSnapshotInfo *info, GError **errp)
{
    GError *err = NULL;

    if (!bs->drv->snapshot) {
        error_setg(errp, "Failed to get a snapshot list: Operation not supported");
        return false;
    }
    if (!find_exactly(bs, id, name, info, &err)) {
        if (!err) {
            error_setg(&err, "Snapshot with id '%s' and name '%s' does not exist on device '%s'",
                       id ? id : "null", name ? name : "null", device);
        }
        g_propagate_error(errp, err);
        return false;
    }
    return bdrv_co_snapshot_delete_id(bs, info->id, errp);
}

SnapshotInfo *coroutine_fn qmp_blockdev_snapshot_delete_internal_sync(const char *device,
                                                                      const char *id,
                                                                      const char *name,
                                                                      GError **errp)
{
    BlockDriverState *bs = bdrv_lookup(device, device, errp);
    BdrvSnapshotInfo info;
    bool ok;

    if (!bs) {
        return NULL;
    }
    if (!id && !name) {
        error_setg(errp, "Name or id must be provided");
        return NULL;
    }
    bdrv_ref(bs);
    if (!vm_job_mutex_lock_soon(bdrv_job_mutex(), NULL, "blockdev-snapshot-delete-internal-sync",
                                errp)) {
        bdrv_co_unref(bs);
        return NULL;
    }
    bdrv_co_move_to(bs->ctx);
    ok = delete_in_home(bs, device, id, name, &info, errp);
    bdrv_co_move_to(main_aio_context());
    vm_job_mutex_unlock(bdrv_job_mutex());
    bdrv_co_unref(bs);
    return ok ? bdrv_snapshot_to_qapi(&info) : NULL;
}
