/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Taking in the machine's state at the start of a process: -incoming and migrate-incoming.
 * Main thread; the work is a job's in the snapshot IOThread.  Until it has succeeded the
 * machine is in state inmigrate; a failure ends the program, unless the client has said
 * otherwise.
 */
#include <string.h>
#include "migrate-int.h"
#include "migration/migrate.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-migrate.h"
#include "snapshot-int.h"

/* What -incoming has allowed so far.  Main thread. */
static enum { IN_NEVER, IN_DEFERRED, IN_STARTED } phase;

typedef struct Incoming {
    MigrationAddress *addr;
    bool exit_on_error;
    SnapshotJob *sj; /* from a snapshot */
} Incoming;

static void failed(Incoming *in, GError *err)
{
    Machine *m = machine_get();

    migrate_set_failed(err);
    phase = IN_DEFERRED;
    if (in->exit_on_error) {
        g_printerr("%s: load of migration failed: %s\n", g_get_prgname(), err->message);
        m->ops->quit(m->opaque, 1);
    }
}

/* --- From a snapshot ------------------------------------------------------------------------ */

static bool prepare_snapshot(Incoming *in, GError **errp)
{
    SnapshotMigrationArgs *a = &in->addr->u.snapshot;
    BlockDriverState *bs = bdrv_find_node(a->node, errp);

    if (a->has_compress) {
        error_setg(errp, "'compress' is for outgoing migration only");
        return false;
    }
    if (!bs) {
        return false;
    }
    in->sj = snapshot_job_new(JOB_TYPE_SNAPSHOT_LOAD, a->name, &bs, 1, bs);
    in->sj->incoming = true;
    snapshot_add_overlays(in->sj);
    in->sj->lazy = !a->has_lazy || a->lazy;
    return true;
}

static bool coroutine_fn load_snapshot(Incoming *in, GError **errp)
{
    Job *job = snapshot_job_start(g_steal_pointer(&in->sj), NULL, JOB_DEFAULT, errp);
    bool ok;

    if (!job) {
        return false;
    }
    migrate_set_status(MIGRATION_STATUS_ACTIVE);
    ok = job_co_wait(job, errp);
    job_unref(job);
    return ok;
}

/* --- The whole -------------------------------------------------------------------------------- */

static void coroutine_fn incoming_entry(void *opaque)
{
    Incoming *in = opaque;
    g_autoptr(GError) err = NULL;

    if (load_snapshot(in, &err)) {
        migrate_set_status(MIGRATION_STATUS_COMPLETED);
    } else {
        failed(in, err);
    }
    qapi_free_MigrationAddress(in->addr);
    g_free(in);
}

bool coroutine_fn migrate_in_start(MigrationAddress *addr, bool exit_on_error, GError **errp)
{
    Incoming *in = g_new0(Incoming, 1);
    bool ok = false;

    in->addr = addr;
    in->exit_on_error = exit_on_error;
    if (addr->transport != MIGRATION_ADDRESS_TYPE_SNAPSHOT) {
        error_setg(errp, "Incoming migration by '%s' is not supported",
                   MigrationAddressType_str(addr->transport));
    } else {
        ok = prepare_snapshot(in, errp) && migrate_begin(true, errp);
    }
    if (!ok) {
        if (in->sj) {
            snapshot_job_free(in->sj);
        }
        qapi_free_MigrationAddress(addr);
        g_free(in);
        return false;
    }
    phase = IN_STARTED;
    migrate_global_reset();
    aio_co_schedule(main_aio_context(), coroutine_create(incoming_entry, in));
    return true;
}

void coroutine_fn qmp_migrate_incoming(const char *uri, bool has_channels,
                                       MigrationChannelList *channels, bool has_exit_on_error,
                                       bool exit_on_error, GError **errp)
{
    MigrationAddress *addr;

    if (phase == IN_NEVER) {
        error_setg(errp, "'-incoming' was not specified on the command line");
        return;
    }
    if (phase == IN_STARTED) {
        error_setg(errp, "The incoming migration has already been started");
        return;
    }
    addr = migrate_addr_choose(uri, channels, true, errp);
    if (addr) {
        migrate_in_start(addr, !has_exit_on_error || exit_on_error, errp);
    }
}

/* --- The option --------------------------------------------------------------------------------- */

bool migrate_incoming_check(const char *option, bool *shares_disks, GError **errp)
{
    MigrationAddress *addr;

    *shares_disks = true;
    if (!strcmp(option, "defer")) {
        return true;
    }
    addr = migrate_addr_from_option(option, errp);
    if (!addr) {
        return false;
    }
    *shares_disks = addr->transport != MIGRATION_ADDRESS_TYPE_SNAPSHOT;
    qapi_free_MigrationAddress(addr);
    return true;
}

bool coroutine_fn migrate_incoming_begin(const char *option, GError **errp)
{
    MigrationAddress *addr;

    phase = IN_DEFERRED;
    if (!strcmp(option, "defer")) {
        return true;
    }
    addr = migrate_addr_from_option(option, errp);
    return addr && migrate_in_start(addr, true, errp);
}
