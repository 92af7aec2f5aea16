/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Taking in the machine's state at the start of a process: -incoming and migrate-incoming.
 * Main thread; the work is a job's in the snapshot IOThread.  Until it has succeeded the
 * machine is in state inmigrate; a failure ends the program, unless the client has said
 * otherwise.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include "block/active.h"
#include "migrate-file.h"
#include "migrate-int.h"
#include "migration/migrate.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-migrate.h"
#include "ram-stream.h"
#include "snapshot-int.h"
#include "util/co-lock.h"

/* What -incoming has allowed so far.  Main thread. */
static enum { IN_NEVER, IN_EARLY, IN_DEFERRED, IN_STARTED } phase;
static CoQueue early_queue; /* those who wait for the end of IN_EARLY: the machine is being made */

typedef struct Incoming {
    Machine *m;
    MigrationAddress *addr;
    bool exit_on_error;
    SnapshotJob *sj; /* from a snapshot */

    /* From a stream or a file. */
    Job *job;
    MigChannel *ch;
    bool mapped; /* a file with a place for every page */
    MigFile *file;
    RamLoadSource ram_source;
    StreamLayout *layout;
    GByteArray *tail;
    RamLoad *ram;
} Incoming;

static void coroutine_fn incoming_free(Incoming *in)
{
    if (in->sj) {
        snapshot_job_free(in->sj);
    }
    if (in->ch) {
        mig_channel_free(in->ch);
    }
    qapi_free_MigrationAddress(in->addr);
    g_free(in);
}

static bool load_cancelled(void *opaque)
{
    return job_is_cancelled(((Incoming *)opaque)->job);
}

static void failed(Incoming *in, GError *err)
{
    migrate_set_failed(err);
    phase = IN_DEFERRED;
    if (in->exit_on_error) {
        g_printerr("%s: load of migration failed: %s\n", g_get_prgname(), err->message);
        in->m->ops->quit(in->m->opaque, 1);
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
    ok = job_co_wait(job, errp);
    job_unref(job);
    return ok;
}

static void coroutine_fn snapshot_entry(void *opaque)
{
    Incoming *in = opaque;
    g_autoptr(GError) err = NULL;

    migrate_set_status(MIGRATION_STATUS_ACTIVE);
    /* Nobody else uses the disks. */
    if (bdrv_co_activate_all(&err) && load_snapshot(in, &err)) {
        migrate_set_status(MIGRATION_STATUS_COMPLETED);
    } else {
        failed(in, err);
    }
    incoming_free(in);
}

/* --- From a stream or a file: a job in the snapshot IOThread -------------------------------- */

static int clear_worker(void *opaque)
{
    Machine *m = opaque;

    for (int i = 0; i < m->nr_ram; i++) {
        if (madvise(m->ram[i].host, m->ram[i].size, MADV_DONTNEED) < 0) {
            return -errno;
        }
    }
    return 0;
}

static bool coroutine_fn read_stream(Incoming *in, StreamIn *stream, GError **errp)
{
    int ret = co_run_in_worker(clear_worker, in->m);

    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not clear RAM");
        return false;
    }
    return stream_in_read(in->m, in->ch, stream, errp);
}

static bool coroutine_fn read_file(Incoming *in, GError **errp)
{
    Machine *m = in->m;
    StreamSource source;
    RamLoadConfig config = {.ram = m->ram, .nr_ram = m->nr_ram, .source = &in->ram_source,
                            .cancelled = load_cancelled, .opaque = in};
    bool ok;

    in->file = mig_file_open(&in->addr->u.file, false, false, errp);
    if (!in->file) {
        return false;
    }
    mig_file_stream(in->file, &source);
    mig_file_ram(in->file, &in->ram_source);
    in->layout = stream_read_layout(&source, errp);
    if (!in->layout ||
        !stream_check_machine(in->layout, m->machine_type, m->ram, m->nr_ram, errp)) {
        return false;
    }
    in->tail = stream_read_tail(&source, in->layout, errp);
    if (!in->tail) {
        return false;
    }
    m->ops->lock(m->opaque);
    ok = stream_check_tail(in->tail, m->vmstate, errp);
    m->ops->unlock(m->opaque);
    if (!ok) {
        return false;
    }
    config.layout = in->layout;
    in->ram = ram_load_new(&config, errp);
    return in->ram && ram_load_read_bitmaps(in->ram, errp) &&
           stream_sum_check(in->layout, in->tail, errp) && ram_load_fill(in->ram, errp);
}

/* Parked, machine lock held. */
static bool load_devices(Incoming *in, const StreamIn *stream, GError **errp)
{
    Machine *m = in->m;
    bool ok;

    if (in->ram && !ram_load_switch(in->ram, errp)) {
        return false;
    }
    m->ops->reset_devices(m->opaque);
    ok = in->ram ? stream_load_tail(in->tail, m->vmstate, errp)
                 : stream_load_sections(stream->devices->data, stream->devices->len, m->vmstate,
                                        errp);
    if (!ok) {
        /* Nothing of it stays: it may be tried again. */
        if (in->ram) {
            ram_load_switch_back(in->ram);
        }
        m->ops->reset_devices(m->opaque);
    }
    m->ops->state_loaded(m->opaque);
    return ok;
}

static bool coroutine_fn take_disks(Incoming *in, GError **errp)
{
    bool ok;

    aio_co_reschedule_self(main_aio_context());
    ok = bdrv_co_activate_all(errp);
    aio_co_reschedule_self(in->m->snapshot_context());
    return ok;
}

static bool coroutine_fn take_over(Incoming *in, const StreamIn *stream, GError **errp)
{
    Machine *m = in->m;
    bool ok;
    int ret = 0;

    m->ops->park(m->opaque, true);
    m->ops->lock(m->opaque);
    ok = load_devices(in, stream, errp);
    m->ops->unlock(m->opaque);
    ok = ok && take_disks(in, errp);
    if (ok && stream->wants_answer) {
        ret = stream_in_answer(in->ch);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not tell the source that its machine is here");
        ok = false;
    }
    if (ok) {
        m->ops->incoming_loaded(m->opaque, migrate_global_ran());
    }
    if (m->ops->load_ended) {
        m->ops->lock(m->opaque);
        /* what is in a file may be loaded again */
        m->ops->load_ended(m->opaque, ok,
                           in->addr->transport == MIGRATION_ADDRESS_TYPE_FILE);
        m->ops->unlock(m->opaque);
    }
    m->ops->unpark(m->opaque, false);
    return ok;
}

static bool coroutine_fn work(Incoming *in, GError **errp)
{
    StreamIn stream = {0};
    bool ok;

    ok = (in->mapped ? read_file(in, errp) : read_stream(in, &stream, errp)) &&
         take_over(in, &stream, errp);
    if (in->ram) {
        ram_load_drop_old(in->ram);
        ram_load_free(in->ram);
    }
    if (in->file) {
        mig_file_close(in->file);
    }
    stream_layout_free(in->layout);
    g_clear_pointer(&in->tail, g_byte_array_unref);
    g_clear_pointer(&stream.devices, g_byte_array_unref);
    return ok;
}

static bool coroutine_fn run(Job *job, void *opaque, GError **errp)
{
    Incoming *in = opaque;
    bool ok;

    ok = mig_channel_accept(in->ch, errp);
    migrate_set_listening(NULL);
    migrate_set_status(MIGRATION_STATUS_ACTIVE);
    if (!ok || !vm_job_mutex_lock(in->m->job_mutex, job, "migrate-incoming", errp)) {
        return false;
    }
    ok = work(in, errp);
    vm_job_mutex_unlock(in->m->job_mutex);
    return ok;
}

static void cancel(Job *job, void *opaque)
{
    mig_channel_cancel(((Incoming *)opaque)->ch);
}

static const JobDriver driver = {
    .type = JOB_TYPE_MIGRATE, .run = run, .cancel = cancel, .open_ended = true};

static void coroutine_fn job_entry(void *opaque)
{
    Incoming *in = opaque;
    g_autoptr(GError) err = NULL;
    bool ok = job_co_wait(in->job, &err);

    if (ok) {
        migrate_set_status(MIGRATION_STATUS_COMPLETED);
    } else if (!__atomic_load_n(&in->m->ending, __ATOMIC_SEQ_CST)) {
        failed(in, err);
    }
    job_unref(in->job);
    incoming_free(in);
}

/* --- Starting ---------------------------------------------------------------------------------- */

static bool coroutine_fn prepare_job(Incoming *in, GError **errp)
{
    MigrationSocketAddress *listening = NULL;

    in->mapped = in->addr->transport == MIGRATION_ADDRESS_TYPE_FILE &&
                 migrate_has(MIGRATION_CAPABILITY_MAPPED_RAM);
    in->ch = mig_channel_new();
    if (migrate_has(MIGRATION_CAPABILITY_MAPPED_RAM) && !in->mapped) {
        error_setg(errp, "Migration requires seekable transport (e.g. file)");
        return false;
    }
    if (!in->mapped && !mig_channel_listen(in->ch, in->addr, &listening, errp)) {
        return false;
    }
    in->job = job_create(NULL, &driver, in->m->snapshot_context(), JOB_DEFAULT, in, errp);
    if (in->job) {
        migrate_set_listening(listening);
        job_ref(in->job);
    }
    qapi_free_MigrationSocketAddress(listening);
    return in->job != NULL;
}

bool coroutine_fn migrate_in_start(MigrationAddress *addr, bool exit_on_error, GError **errp)
{
    Incoming *in = g_new0(Incoming, 1);
    bool from_snapshot = addr->transport == MIGRATION_ADDRESS_TYPE_SNAPSHOT;

    in->m = machine_get();
    in->addr = addr;
    in->exit_on_error = exit_on_error;
    if (!(from_snapshot ? prepare_snapshot(in, errp) : prepare_job(in, errp))) {
        incoming_free(in);
        return false;
    }
    phase = IN_STARTED;
    /* Clients count on the event of it before the answer to migrate-incoming. */
    migrate_begin(true, NULL);
    migrate_global_reset();
    if (in->job) {
        job_start(in->job);
    }
    aio_co_schedule(main_aio_context(),
                    coroutine_create(from_snapshot ? snapshot_entry : job_entry, in));
    return true;
}

void coroutine_fn qmp_migrate_incoming(const char *uri, bool has_channels,
                                       MigrationChannelList *channels, bool has_exit_on_error,
                                       bool exit_on_error, GError **errp)
{
    MigrationAddress *addr;

    while (phase == IN_EARLY) {
        co_queue_wait(&early_queue, NULL);
    }
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
    phase = IN_EARLY;
    co_queue_init(&early_queue);
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
    if (strcmp(option, "defer")) {
        addr = migrate_addr_from_option(option, errp);
        if (!addr || !migrate_in_start(addr, true, errp)) {
            return false;
        }
    }
    co_queue_restart_all(&early_queue);
    return true;
}
