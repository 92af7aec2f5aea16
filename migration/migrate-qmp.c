/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * migrate, migrate_cancel and migrate-continue.  Main thread.  The answer comes when the
 * migration is under way; what can be known to be wrong before is the command's own error.
 */
#include "migrate-out.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-migrate.h"
#include "snapshot-int.h"

/* The migration under way, or the last one: a reference. */
static Job *job;
static Outgoing *outgoing; /* job's, or NULL: it is a snapshot's */

static void set_job(Job *new_job, Outgoing *o)
{
    if (job) {
        job_unref(job);
    }
    job = new_job;
    outgoing = o;
}

/* Waits for the end, also of a job that was cancelled before it ran. */
static void coroutine_fn watch_entry(void *opaque)
{
    Job *mine = opaque;
    g_autoptr(GError) err = NULL;

    if (job_co_wait(mine, &err)) {
        migrate_set_status(MIGRATION_STATUS_COMPLETED);
    } else {
        migrate_set_failed(err);
    }
    job_unref(mine);
}

static void watch(Job *new_job, Outgoing *o)
{
    set_job(new_job, o);
    aio_co_schedule(main_aio_context(), coroutine_create(watch_entry, job_ref(new_job)));
}

/* --- To a snapshot ---------------------------------------------------------------------------- */

static bool check_snapshot(const SnapshotMigrationArgs *a, BlockDriverState **bs, GError **errp)
{
    if (a->has_lazy) {
        error_setg(errp, "'lazy' is for incoming migration only");
        return false;
    }
    if (!a->name[0] || strlen(a->name) >= sizeof(((BdrvSnapshotInfo *)0)->name)) {
        error_setg(errp, "Parameter 'name' expects a name of 1 to 255 bytes");
        return false;
    }
    *bs = bdrv_find_node(a->node, errp);
    return *bs && snapshot_check_nodes(bs, 1, errp);
}

static bool coroutine_fn start_snapshot(const SnapshotMigrationArgs *a, GError **errp)
{
    BlockDriverState *bs;
    SnapshotJob *sj;
    Job *new_job;

    if (!check_snapshot(a, &bs, errp)) {
        return false;
    }
    sj = snapshot_job_new(JOB_TYPE_SNAPSHOT_SAVE, a->name, &bs, 1, bs);
    sj->outgoing = true;
    sj->compress = a->has_compress && a->compress;
    sj->mode = migrate_has(MIGRATION_CAPABILITY_BACKGROUND_SNAPSHOT) ? SNAPSHOT_MODE_LIVE
                                                                     : SNAPSHOT_MODE_STOP;
    new_job = snapshot_job_start(sj, NULL, JOB_DEFAULT, errp);
    if (!new_job) {
        return false;
    }
    watch(new_job, NULL);
    return true;
}

/* --- The commands ------------------------------------------------------------------------------- */

static bool check_capabilities(const MigrationAddress *a, GError **errp)
{
    bool is_snapshot = a->transport == MIGRATION_ADDRESS_TYPE_SNAPSHOT;
    bool is_file = a->transport == MIGRATION_ADDRESS_TYPE_FILE;
    bool mapped = migrate_has(MIGRATION_CAPABILITY_MAPPED_RAM);

    if (mapped && !is_file && !is_snapshot) {
        error_setg(errp, "Migration requires seekable transport (e.g. file)");
        return false;
    }
    if (migrate_direct_io() && is_file && !mapped) {
        error_setg(errp, "Parameter 'direct-io' needs capability 'mapped-ram'");
        return false;
    }
    if (migrate_has(MIGRATION_CAPABILITY_RETURN_PATH) &&
        a->transport != MIGRATION_ADDRESS_TYPE_SOCKET) {
        error_setg(errp, "Capability 'return-path' needs a socket");
        return false;
    }
    if (migrate_has(MIGRATION_CAPABILITY_PAUSE_BEFORE_SWITCHOVER) && is_snapshot) {
        error_setg(errp, "Capability 'pause-before-switchover' is not for snapshots");
        return false;
    }
    return true;
}

static bool check_machine(Machine *m, GError **errp)
{
    RunState state;
    const char *blocker;

    if (!m) {
        error_setg(errp, "There is no machine whose state could be sent");
        return false;
    }
    state = m->ops->run_state(m->opaque);
    if (migrate_under_way() && state != RUN_STATE_INMIGRATE) {
        error_setg(errp, "There's a migration process in progress");
        return false;
    }
    if (state == RUN_STATE_INMIGRATE) {
        error_setg(errp, "Guest is waiting for an incoming migration");
        return false;
    }
    if (state == RUN_STATE_POSTMIGRATE) {
        error_setg(errp, "Can't migrate the vm that was paused due to previous migration");
        return false;
    }
    blocker = vmstate_blocker(m->vmstate);
    if (blocker) {
        error_setg(errp, "State blocked: %s", blocker);
        return false;
    }
    return true;
}

static bool check_arguments(const MigrateArguments *arg, GError **errp)
{
    if (arg->resume) {
        error_setg(errp, "Cannot resume if there is no paused migration");
        return false;
    }
    if (arg->blk || arg->inc) {
        error_setg(errp, "Parameter '%s': disks are not migrated", arg->blk ? "blk" : "inc");
        return false;
    }
    return true;
}

void coroutine_fn qmp_migrate(MigrateArguments *arg, GError **errp)
{
    MigrationAddress *addr = NULL;
    Machine *m = machine_get();
    Outgoing *o;
    Job *new_job;
    GError *err = NULL;

    if (!check_arguments(arg, errp) || !check_machine(m, errp)) {
        return;
    }
    addr = migrate_addr_choose(arg->uri, arg->channels, false, errp);
    if (!addr || !check_capabilities(addr, errp) || !migrate_begin(false, errp)) {
        qapi_free_MigrationAddress(addr);
        return;
    }
    if (addr->transport == MIGRATION_ADDRESS_TYPE_SNAPSHOT) {
        start_snapshot(&addr->u.snapshot, &err);
        qapi_free_MigrationAddress(addr);
    } else {
        new_job = outgoing_start(m, addr, &o, &err);
        if (new_job) {
            watch(new_job, o);
        }
    }
    if (err) {
        migrate_set_failed(err);
        g_propagate_error(errp, err);
    }
}

void coroutine_fn qmp_migrate_cancel(GError **errp)
{
    Machine *m = machine_get();

    if (!job || !migrate_under_way() || m->ops->run_state(m->opaque) == RUN_STATE_INMIGRATE) {
        return;
    }
    migrate_set_status(MIGRATION_STATUS_CANCELLING);
    job_cancel(job, true);
}

void coroutine_fn qmp_migrate_continue(MigrationStatus state, GError **errp)
{
    MigrationStatus now = migrate_status();

    if (state != now) {
        error_setg(errp, "Migration not in expected state: %s", MigrationStatus_str(now));
        return;
    }
    if (state == MIGRATION_STATUS_PRE_SWITCHOVER && outgoing) {
        outgoing_go_on(outgoing);
    }
}
