/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The job that sends the machine's state, in passes with the guest running and a short end
 * with the guest stopped, or in the background as it was at the start.  Snapshot IOThread,
 * visiting the main thread for the disks; holds the VM job mutex.
 *
 * Until the last bytes are out, everything that fails is undone: the disks are taken back
 * and the guest runs on.
 */
#include <errno.h>
#include <string.h>
#include "block/active.h"
#include "migrate-file.h"
#include "migrate-out.h"
#include "qapi/error.h"
#include "ram-stream.h"
#include "snapshot-base.h"
#include "snapshot-int.h"

#define FOREVER_NS (3600 * 1000000000LL)

struct Outgoing {
    Machine *m;
    Job *job; /* set by run() */
    MigrationAddress *addr;
    MigChannel *ch;
    bool connected; /* ch is open already */
    bool background;
    CoSleep go_on; /* pre-switchover */
    int may_go_on; /* atomic */

    RamStream *rs;
    MigFile *file;
    StreamLayout *layout;
    RamPasses *passes;
    RamSave *ram; /* in the background */
    GByteArray *tail;
    MigrateFigures figures; /* in the background */
    bool parked, was_running, gave_disks;
};

static bool send_failed(int ret, GError **errp)
{
    error_setg_errno(errp, -ret, "Unable to write to the migration channel");
    return false;
}

static bool give_up(Outgoing *o, GError **errp)
{
    if (job_is_cancelled(o->job)) {
        error_setg(errp, "Migration was cancelled");
        return true;
    }
    return false;
}

/* --- Opening ------------------------------------------------------------------------------------ */

static bool coroutine_fn put_array(Outgoing *o, GByteArray *bytes, GError **errp)
{
    int ret = ram_stream_put(o->rs, bytes->data, bytes->len);

    g_byte_array_unref(bytes);
    return ret == 0 || send_failed(ret, errp);
}

static bool coroutine_fn open_return_path(Outgoing *o, GError **errp)
{
    uint8_t command[5] = {STREAM_COMMAND, 0, COMMAND_OPEN_RETURN_PATH, 0, 0};
    int ret;

    if (!mig_channel_is_duplex(o->ch)) {
        error_setg(errp, "Capability 'return-path' needs a socket");
        return false;
    }
    ret = ram_stream_put(o->rs, command, sizeof(command));
    return ret == 0 || send_failed(ret, errp);
}

static bool coroutine_fn open_channel(Outgoing *o, GError **errp)
{
    Machine *m = o->m;
    int ret;

    if (!o->connected && !mig_channel_connect(o->ch, o->addr, errp)) {
        return false;
    }
    o->rs = ram_stream_new(m, o->ch);
    if (!put_array(o, stream_sequential_header(m->machine_type), errp) ||
        (migrate_has(MIGRATION_CAPABILITY_RETURN_PATH) && !open_return_path(o, errp)) ||
        !put_array(o, stream_sequential_ram(m->ram, m->nr_ram), errp)) {
        return false;
    }
    ret = ram_stream_flush(o->rs);
    return ret == 0 || send_failed(ret, errp);
}

static bool coroutine_fn open_target(Outgoing *o, GError **errp)
{
    o->layout = stream_layout_new(o->m->machine_type, o->m->ram, o->m->nr_ram);
    if (!migrate_has(MIGRATION_CAPABILITY_MAPPED_RAM)) {
        return open_channel(o, errp);
    }
    o->file = mig_file_open(&o->addr->u.file, true, migrate_direct_io(), errp);
    return o->file != NULL;
}

/* --- Stopping the guest and giving the disks away -------------------------------------------------- */

static bool coroutine_fn flush_disks(Outgoing *o, GError **errp)
{
    AioContext *home = aio_current();
    bool ok;

    aio_co_reschedule_self(main_aio_context());
    ok = bdrv_co_flush_all(errp);
    aio_co_reschedule_self(home);
    return ok;
}

static bool coroutine_fn give_disks(Outgoing *o, GError **errp)
{
    AioContext *home = aio_current();
    bool ok;

    o->gave_disks = true; /* some of them, even if it fails */
    aio_co_reschedule_self(main_aio_context());
    ok = bdrv_co_inactivate_all(errp);
    aio_co_reschedule_self(home);
    return ok;
}

static bool coroutine_fn stop_guest(Outgoing *o, GError **errp)
{
    o->was_running = o->m->ops->park_migrate(o->m->opaque);
    o->parked = true;
    migrate_downtime_begin();
    if (migrate_has(MIGRATION_CAPABILITY_PAUSE_BEFORE_SWITCHOVER)) {
        migrate_set_status(MIGRATION_STATUS_PRE_SWITCHOVER);
        while (!__atomic_load_n(&o->may_go_on, __ATOMIC_SEQ_CST) && !job_is_cancelled(o->job)) {
            co_sleep_ns_wakeable(&o->go_on, FOREVER_NS);
        }
    }
    if (give_up(o, errp)) {
        return false;
    }
    migrate_set_status(MIGRATION_STATUS_DEVICE);
    return give_disks(o, errp);
}

/* Lets the guest go on, here or as far as we are concerned not at all. */
static void coroutine_fn release_guest(Outgoing *o, bool ok)
{
    AioContext *home = aio_current();
    g_autoptr(GError) err = NULL;
    bool back = true;

    if (!o->parked) {
        return;
    }
    if (ok) {
        o->m->ops->unpark_migrated(o->m->opaque);
    } else {
        if (o->gave_disks) {
            aio_co_reschedule_self(main_aio_context());
            back = bdrv_co_activate_all(&err);
            aio_co_reschedule_self(home);
        }
        if (!back) {
            g_printerr("%s: the guest stays stopped after a failed migration: %s\n",
                       g_get_prgname(), err->message);
        }
        o->m->ops->unpark(o->m->opaque, o->was_running && back);
    }
    migrate_downtime_end();
}

static bool make_tail(Outgoing *o, GError **errp)
{
    Machine *m = o->m;

    m->ops->lock(m->opaque);
    migrate_global_send(o->was_running);
    o->tail = o->file ? stream_save_tail(m->machine_type, m->vmstate, errp)
                      : stream_sequential_tail(m->machine_type, m->vmstate, errp);
    migrate_global_sent();
    m->ops->unlock(m->opaque);
    return o->tail != NULL;
}

/* --- The end of the stream ---------------------------------------------------------------------------- */

/* Waits for the destination to say that the guest is there. */
static bool coroutine_fn wait_answer(Outgoing *o, GError **errp)
{
    uint8_t m[8];
    size_t have = 0;

    while (have < sizeof(m)) {
        ssize_t n = mig_channel_read(o->ch, m + have, sizeof(m) - have);

        if (n < 0) {
            error_setg_errno(errp, -n, "Could not read the destination's answer");
            return false;
        }
        if (n == 0) {
            error_setg(errp, "The destination has not taken the machine over");
            return false;
        }
        have += n;
        if (have == sizeof(m) && m[0] == 0 && m[1] == RETURN_PONG) {
            have = 0;
        }
    }
    if (m[0] || m[1] != RETURN_SHUT || m[2] || m[3] != 4 || m[4] || m[5] || m[6] || m[7]) {
        error_setg(errp, "The destination says that it has failed");
        return false;
    }
    return true;
}

static bool coroutine_fn end_stream(Outgoing *o, GError **errp)
{
    int ret = ram_stream_put(o->rs, o->tail->data, o->tail->len);

    if (ret == 0) {
        ret = ram_stream_flush(o->rs);
    }
    if (ret < 0) {
        return send_failed(ret, errp);
    }
    return (!migrate_has(MIGRATION_CAPABILITY_RETURN_PATH) || wait_answer(o, errp)) &&
           mig_channel_finish(o->ch, errp);
}

/* --- In passes ------------------------------------------------------------------------------------------ */

static bool coroutine_fn passes_run(Outgoing *o, GError **errp)
{
    RamTarget target;
    bool ok;

    if (o->file) {
        mig_file_target(o->file, o->layout, &target);
    } else {
        ram_stream_target(o->rs, &target);
    }
    o->passes = ram_passes_new(o->m, &target, o->job);
    snapshot_background(true);
    ok = ram_passes_run(o->passes, errp) && flush_disks(o, errp);
    snapshot_background(false);
    ok = ok && stop_guest(o, errp) && make_tail(o, errp) && ram_passes_finish(o->passes, errp);
    if (ok && o->file) {
        ok = mig_file_write_bitmaps(o->file, errp) &&
             mig_file_finish(o->file, o->layout, o->tail, errp);
    } else if (ok) {
        ok = end_stream(o, errp);
    }
    /* Too late for a cancel that has come since: the other side may run the guest. */
    release_guest(o, ok);
    return ok;
}

/* --- In the background -------------------------------------------------------------------------------------- */

static bool save_cancelled(void *opaque)
{
    return job_is_cancelled(((Outgoing *)opaque)->job);
}

static void save_progress(void *opaque, uint64_t bytes)
{
    Outgoing *o = opaque;
    uint64_t transferred = o->file ? mig_file_bytes(o->file) : ram_stream_bytes(o->rs);
    RamSaveStats s;

    ram_save_get_stats(o->ram, &s);
    job_moved(o->job, transferred - o->figures.transferred);
    o->figures.remaining -= MIN(bytes, o->figures.remaining);
    o->figures.transferred = transferred;
    o->figures.normal_pages = s.pages_written;
    o->figures.zero_pages = s.zero_pages;
    migrate_set_figures(&o->figures);
}

static bool save_too_fast(void *opaque)
{
    Outgoing *o = opaque;

    job_limit_speed(o->job, migrate_max_bandwidth());
    return job_too_fast(o->job);
}

/* The moment whose state is sent; the guest stands still for it. */
static bool coroutine_fn take_instant(Outgoing *o, GError **errp)
{
    Machine *m = o->m;
    bool ok;

    migrate_downtime_begin();
    o->was_running = m->ops->park(m->opaque, false);
    aio_co_reschedule_self(main_aio_context());
    bdrv_co_drain_all_begin();
    aio_co_reschedule_self(m->snapshot_context());
    ok = make_tail(o, errp);
    if (ok) {
        m->ops->lock(m->opaque);
        ok = ram_save_instant(o->ram, errp);
        m->ops->unlock(m->opaque);
    }
    aio_co_reschedule_self(main_aio_context());
    bdrv_co_drain_all_end();
    aio_co_reschedule_self(m->snapshot_context());
    m->ops->unpark(m->opaque, o->was_running);
    migrate_downtime_end();
    return ok;
}

static bool coroutine_fn write_background(Outgoing *o, GError **errp)
{
    RamSink sink;
    int ret;

    if (o->file) {
        mig_file_sink(o->file, &sink);
        return ram_save_write(o->ram, &sink, errp) &&
               mig_file_finish(o->file, o->layout, o->tail, errp);
    }
    ret = ram_stream_begin_part(o->rs);
    if (ret < 0) {
        return send_failed(ret, errp);
    }
    ram_stream_sink(o->rs, o->layout, &sink);
    return ram_save_write(o->ram, &sink, errp) && end_stream(o, errp);
}

static bool coroutine_fn background_run(Outgoing *o, GError **errp)
{
    Machine *m = o->m;
    RamSaveConfig config = {
        .ram = m->ram,
        .nr_ram = m->nr_ram,
        .layout = o->layout,
        .bounce_limit = SNAPSHOT_BOUNCE_LIMIT,
        .live = true,
        .progress = save_progress,
        .cancelled = save_cancelled,
        .too_fast = save_too_fast,
        .opaque = o,
    };
    g_autofree int *tids = m->ops->vcpu_tids(m->opaque, &config.nr_vcpu_tids);
    bool ok;

    config.vcpu_tids = tids;
    for (int i = 0; i < m->nr_ram; i++) {
        o->figures.total += m->ram[i].size;
    }
    o->figures.remaining = o->figures.total;
    snapshot_base_drop();
    o->ram = ram_save_new(&config, errp);
    if (!o->ram) {
        return false;
    }
    migrate_pass_begins();
    ok = ram_save_arm(o->ram, errp) && take_instant(o, errp);
    if (ok) {
        snapshot_background(true);
        ok = write_background(o, errp);
        snapshot_background(false);
    }
    ram_save_free(o->ram);
    return ok;
}

/* --- The job ---------------------------------------------------------------------------------------------- */

static bool coroutine_fn work(Outgoing *o, GError **errp)
{
    const char *blocker = vmstate_blocker(o->m->vmstate);
    bool ok;

    if (blocker) {
        error_setg(errp, "State blocked: %s", blocker);
        return false;
    }
    ok = open_target(o, errp) && !give_up(o, errp);
    if (ok) {
        migrate_set_status(MIGRATION_STATUS_ACTIVE);
        ok = o->background ? background_run(o, errp) : passes_run(o, errp);
    }
    if (o->passes) {
        ram_passes_free(o->passes);
    }
    if (o->file) {
        if (!ok) {
            mig_file_discard(o->file);
        }
        mig_file_close(o->file);
    }
    ram_stream_free(o->rs);
    stream_layout_free(o->layout);
    g_clear_pointer(&o->tail, g_byte_array_unref);
    return ok;
}

static bool coroutine_fn run(Job *job, void *opaque, GError **errp)
{
    Outgoing *o = opaque;
    bool ok;

    o->job = job;
    if (!vm_job_mutex_lock(o->m->job_mutex, job, "migrate", errp)) {
        return false;
    }
    snapshot_background(false);
    ok = work(o, errp);
    vm_job_mutex_unlock(o->m->job_mutex);
    return ok;
}

/* Whoever cancels. */
static void cancel(Job *job, void *opaque)
{
    Outgoing *o = opaque;

    mig_channel_cancel(o->ch);
    co_sleep_wake(&o->go_on);
}

static void coroutine_fn free_entry(void *opaque)
{
    Outgoing *o = opaque;

    mig_channel_free(o->ch);
    qapi_free_MigrationAddress(o->addr);
    g_free(o);
}

static void free_opaque(void *opaque)
{
    aio_co_enter(main_aio_context(), coroutine_create(free_entry, opaque));
}

Job *coroutine_fn outgoing_start(Machine *m, MigrationAddress *addr, Outgoing **result,
                                 GError **errp)
{
    static const JobDriver driver = {
        .type = JOB_TYPE_MIGRATE, .run = run, .cancel = cancel, .free = free_opaque,
        .open_ended = true};
    Outgoing *o = g_new0(Outgoing, 1);
    Job *job;

    o->m = m;
    o->addr = addr;
    o->ch = mig_channel_new();
    o->background = migrate_has(MIGRATION_CAPABILITY_BACKGROUND_SNAPSHOT);
    /* A descriptor is known by the client that has just named it: its errors are the reply. */
    if (addr->transport == MIGRATION_ADDRESS_TYPE_SOCKET &&
        addr->u.socket.type == MIGRATION_SOCKET_TYPE_FD) {
        if (!mig_channel_connect(o->ch, addr, errp)) {
            free_opaque(o);
            return NULL;
        }
        o->connected = true;
    }
    job = job_create(NULL, &driver, m->snapshot_context(), JOB_DEFAULT, o, errp);
    if (!job) {
        free_opaque(o);
        return NULL;
    }
    job_ref(job);
    *result = o;
    job_start(job);
    return job;
}

void outgoing_go_on(Outgoing *o)
{
    __atomic_store_n(&o->may_go_on, 1, __ATOMIC_SEQ_CST);
    co_sleep_wake(&o->go_on);
}
