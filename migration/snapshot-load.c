/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The job that loads the machine.  Snapshot IOThread, visiting the nodes' contexts; holds
 * the VM job mutex until all of RAM is there.
 *
 *   check     the stored machine against this one, before anything is touched
 *   prepare   each disk reads what it needs to go back, RAM's bitmaps are read
 *   blackout  park, drain, switch the disks and RAM, load the devices, commit the disks
 *   fill      RAM, while the guest runs
 *
 * Until the disks are committed everything that fails is undone: the old RAM, the devices'
 * state and the disks' tables are all still there.
 */
#include <string.h>
#include "migrate-int.h"
#include "migration/trace.h"
#include "qapi/error.h"
#include "ram-hot-int.h"
#include "snapshot-base.h"
#include "snapshot-int.h"
#include "snapshot-source.h"

typedef struct LoadWork {
    SnapshotJob *sj;
    SnapshotSource *source;
    RamLoadSource image, ram_source; /* the source itself; with reads counted */
    StreamLayout *layout;
    GByteArray *tail; /* device state to load */
    GByteArray *kept; /* device state to go back to */
    RamLoad *ram;
    bool lazy;
    bool parked, was_running;
    bool ram_switched;
    int64_t park_start;
    int64_t fill_ns; /* how long RAM was read */
} LoadWork;

/* --- Check and prepare ----------------------------------------------------------------------- */

static bool coroutine_fn open_state(LoadWork *w, GError **errp)
{
    SnapshotJob *sj = w->sj;
    Machine *m = sj->machine;
    StreamSource src;
    bool ok;

    w->source = snapshot_source_open(snapshot_vmstate_node(sj)->bs, sj->tag, errp);
    if (!w->source) {
        return false;
    }
    if (snapshot_source_info(w->source)->vm_state_size == 0) {
        error_setg(errp, "This is a disk-only snapshot. Revert to it  offline using qemu-img");
        return false;
    }
    snapshot_source_stream(w->source, &src);
    w->layout = stream_read_layout(&src, errp);
    if (!w->layout ||
        !stream_check_machine(w->layout, m->machine_type, m->ram, m->nr_ram, errp)) {
        return false;
    }
    w->tail = stream_read_tail(&src, w->layout, errp);
    if (!w->tail) {
        return false;
    }
    m->ops->lock(m->opaque);
    ok = stream_check_tail(w->tail, m->vmstate, errp);
    m->ops->unlock(m->opaque);
    return ok;
}

static bool coroutine_fn prepare_disks(LoadWork *w, GError **errp)
{
    SnapshotJob *sj = w->sj;

    for (int i = 0; i < sj->nr_nodes; i++) {
        SnapshotNode *n = &sj->nodes[i];
        GError *err = NULL;

        /* An incoming migration takes the machine's state only; the disks are as they are. */
        if (sj->incoming && !n->overlay) {
            continue;
        }
        snapshot_visit(sj, n);
        if (!bdrv_co_snapshot_find_name(n->bs, sj->tag, &n->info, &err) && !err) {
            error_setg(&err, "Snapshot '%s' does not exist in one or more devices", sj->tag);
        }
        if (!err && n->overlay) {
            snapshot_check_overlay(n, sj->tag, &err);
        } else if (!err) {
            n->go = bdrv_co_snapshot_goto_prepare(n->bs, sj->tag, &err);
        }
        snapshot_home(sj);
        if (err) {
            g_propagate_error(errp, err);
            return false;
        }
    }
    return true;
}

/* The load that is filling, for machine_retry_ram_reads(). */
static pthread_mutex_t filling_lock = PTHREAD_MUTEX_INITIALIZER; /* leaf */
static RamLoad *filling;

static void set_filling(RamLoad *ram)
{
    pthread_mutex_lock(&filling_lock);
    filling = ram;
    pthread_mutex_unlock(&filling_lock);
}

void machine_retry_ram_reads(void)
{
    pthread_mutex_lock(&filling_lock);
    if (filling) {
        ram_load_retry(filling);
    }
    pthread_mutex_unlock(&filling_lock);
}

static void read_error(void *opaque, const char *message)
{
    SnapshotJob *sj = opaque;

    sj->machine->ops->ram_read_error(sj->machine->opaque, message);
}

/* Whether RAM can be brought on demand; else the job's result says why not. */
static void coroutine_fn decide_lazy(LoadWork *w)
{
    SnapshotJob *sj = w->sj;
    g_autoptr(GError) why = NULL;

    w->lazy = sj->lazy && ram_load_can_be_lazy(&why) &&
              snapshot_source_map(w->source, w->layout, &why);
    if (sj->lazy && !w->lazy) {
        sj->stats.warning =
            g_strdup_printf("RAM was read before the guest could run: %s", why->message);
    }
}

static int coroutine_fn read_ram(void *opaque, uint64_t offset, IOVector *iov)
{
    LoadWork *w = opaque;
    int ret = w->image.read(w->image.opaque, offset, iov);

    job_moved(w->sj->job, iov->size);
    return ret;
}

/* No limit holds up who waits for a page: what the fault thread reads does not count. */
static int coroutine_fn read_ram_aside(void *opaque, uint64_t offset, void *buf, size_t len)
{
    LoadWork *w = opaque;

    if (aio_current() == w->sj->home) {
        job_moved(w->sj->job, len);
    }
    return w->image.read_aside(w->image.opaque, offset, buf, len);
}

static bool coroutine_fn fill_ram(LoadWork *w, GError **errp)
{
    int64_t start = clock_now_ns();
    bool ok;

    snapshot_background(true);
    ok = ram_load_fill(w->ram, errp);
    snapshot_background(false);
    w->fill_ns = clock_now_ns() - start;
    return ok;
}

static bool coroutine_fn prepare_ram(LoadWork *w, GError **errp)
{
    SnapshotJob *sj = w->sj;
    RamLoadConfig config = {
        .ram = sj->machine->ram,
        .nr_ram = sj->machine->nr_ram,
        .layout = w->layout,
        .source = &w->ram_source,
        /* Into an image that takes no snapshots there is no next one. */
        .track = sj->machine->track_ram && bdrv_can_snapshot(snapshot_vmstate_node(sj)->bs),
        .progress = snapshot_job_progress,
        .cancelled = snapshot_job_cancelled,
        .pause_point = snapshot_job_pause_point,
        .too_fast = snapshot_job_too_fast,
        .read_error = read_error,
        .opaque = sj,
    };

    decide_lazy(w);
    snapshot_source_ram(w->source, &w->image);
    w->ram_source = (RamLoadSource){
        .read = read_ram,
        .read_aside = w->image.read_aside ? read_ram_aside : NULL,
        .opaque = w,
    };
    config.lazy = w->lazy;
    w->ram = ram_load_new(&config, errp);
    if (!w->ram || !ram_load_read_bitmaps(w->ram, errp) ||
        !stream_sum_check(w->layout, w->tail, errp)) {
        return false;
    }
    if (w->lazy) {
        g_autofree RamHot *hot = g_new0(RamHot, 1);
        size_t n = ram_hot_of_tail(w->tail, sj->machine->vmstate, hot);

        return ram_load_prefetch(w->ram, hot->pages, n, errp);
    }
    return fill_ram(w, errp);
}

static bool coroutine_fn prepare(LoadWork *w, GError **errp)
{
    SnapshotJob *sj = w->sj;
    uint64_t total = 0;

    trace_snapshot_load_prepare(sj->tag, sj->nr_nodes);
    for (int i = 0; i < sj->machine->nr_ram; i++) {
        total += sj->machine->ram[i].size;
    }
    job_progress_set_total(sj->job, total);
    if (!prepare_disks(w, errp) || !open_state(w, errp) || !prepare_ram(w, errp)) {
        return false;
    }
    if (job_is_cancelled(sj->job)) {
        error_setg(errp, "Job was cancelled");
        return false;
    }
    snapshot_base_drop();
    return true;
}

/* --- Blackout ---------------------------------------------------------------------------------- */

static bool coroutine_fn switch_disks(SnapshotJob *sj, GError **errp)
{
    bool ok = true;

    for (int i = 0; i < sj->nr_nodes && ok; i++) {
        SnapshotNode *n = &sj->nodes[i];

        if (sj->incoming && !n->overlay) {
            continue;
        }
        snapshot_visit(sj, n);
        /* The guest may have written to an overlay until now. */
        ok = n->overlay ? snapshot_check_overlay_empty(n, sj->tag, errp)
                        : bdrv_co_snapshot_goto_switch(n->go, errp);
    }
    snapshot_home(sj);
    return ok;
}

static bool coroutine_fn commit_disks(SnapshotJob *sj, GError **errp)
{
    bool ok = true;

    for (int i = 0; i < sj->nr_nodes && ok && !sj->incoming; i++) {
        if (sj->nodes[i].overlay) {
            continue;
        }
        snapshot_visit(sj, &sj->nodes[i]);
        ok = bdrv_co_snapshot_goto_commit(sj->nodes[i].go, errp);
    }
    snapshot_home(sj);
    return ok;
}

static void coroutine_fn end_disks(SnapshotJob *sj, bool rollback)
{
    for (int i = 0; i < sj->nr_nodes; i++) {
        SnapshotNode *n = &sj->nodes[i];

        if (n->go) {
            snapshot_visit(sj, n);
            bdrv_co_snapshot_goto_end(n->go, rollback);
            n->go = NULL;
        }
    }
    snapshot_home(sj);
}

/* Machine lock held. */
static bool replace_machine(LoadWork *w, GError **errp)
{
    Machine *m = w->sj->machine;

    w->kept = g_byte_array_new();
    if (!devices_save(w->kept, NULL, m->vmstate, errp)) {
        g_clear_pointer(&w->kept, g_byte_array_unref);
        return false;
    }
    if (!ram_load_switch(w->ram, errp)) {
        g_clear_pointer(&w->kept, g_byte_array_unref);
        return false;
    }
    w->ram_switched = true;
    m->ops->reset_devices(m->opaque);
    if (!stream_load_tail(w->tail, m->vmstate, errp)) {
        return false;
    }
    m->ops->state_loaded(m->opaque);
    return true;
}

/* Machine lock held: RAM and devices as they were. */
static void put_machine_back(LoadWork *w)
{
    Machine *m = w->sj->machine;
    g_autoptr(GError) err = NULL;

    if (!w->ram_switched) {
        return;
    }
    ram_load_switch_back(w->ram);
    w->ram_switched = false;
    m->ops->reset_devices(m->opaque);
    if (!devices_load(w->kept, m->vmstate, &err)) {
        /* They loaded their own state of a moment ago: our bug, and no machine is left. */
        g_error("Could not put the devices back: %s", err->message);
    }
    m->ops->state_loaded(m->opaque);
}

static void release_guest(LoadWork *w)
{
    SnapshotJob *sj = w->sj;

    sj->machine->ops->unpark(sj->machine->opaque, w->was_running);
    sj->stats.downtime_us = (clock_now_ns() - w->park_start) / 1000;
    if (sj->committed && sj->released) {
        co_sleep_wake(sj->released);
    }
}

static bool coroutine_fn blackout(LoadWork *w, GError **errp)
{
    SnapshotJob *sj = w->sj;
    Machine *m = sj->machine;
    bool ok;

    trace_snapshot_load_blackout(sj->tag, w->lazy);
    w->park_start = clock_now_ns();
    w->was_running = m->ops->park(m->opaque, true);
    snapshot_drain(sj);
    ok = switch_disks(sj, errp);
    if (ok) {
        m->ops->lock(m->opaque);
        ok = replace_machine(w, errp);
        m->ops->unlock(m->opaque);
    }
    ok = ok && commit_disks(sj, errp);
    if (!ok) {
        m->ops->lock(m->opaque);
        put_machine_back(w);
        m->ops->unlock(m->opaque);
    }
    sj->committed = ok;
    end_disks(sj, !ok);
    if (m->ops->load_ended) {
        m->ops->lock(m->opaque);
        m->ops->load_ended(m->opaque, ok, true);
        m->ops->unlock(m->opaque);
    }
    snapshot_undrain(sj);
    if (ok && (sj->incoming || sj->at_start)) {
        m->ops->incoming_loaded(m->opaque, sj->at_start || migrate_global_ran());
    }
    release_guest(w);
    trace_snapshot_load_released(sj->tag, ok);
    return ok;
}

/* --- The whole ------------------------------------------------------------------------------------ */

static void fill_stats(LoadWork *w)
{
    SnapshotStats *s = &w->sj->stats;
    RamLoadStats r;

    if (!w->ram) {
        return;
    }
    ram_load_get_stats(w->ram, &r);
    s->has_lazy = s->has_bytes_read = s->has_throughput = s->has_zero_pages = true;
    s->lazy = w->lazy;
    s->bytes_read = r.bytes_read + w->tail->len;
    s->throughput = snapshot_throughput(r.bytes_read, w->fill_ns);
    s->zero_pages = r.zero_pages;
    if (w->lazy) {
        s->has_faults = s->has_max_fault_us = true;
        s->faults = r.faults;
        s->max_fault_us = r.fault_ns_max / 1000;
    }
}

/* What devices keep in files follows the machine's state there. */
static bool coroutine_fn settle(LoadWork *w, GError **errp)
{
    Machine *m = w->sj->machine;

    if (m->ops->load_settle && !m->ops->load_settle(m->opaque, errp)) {
        g_prefix_error(errp, "Snapshot '%s' was loaded, but a file does not follow: ",
                       w->sj->tag);
        return false;
    }
    return true;
}

/* All of RAM is there: the next save need only write what has changed since the switch. */
static void coroutine_fn keep_base(LoadWork *w)
{
    g_autoptr(GError) why = NULL;
    RamSave *ram;

    if (!ram_load_tracks(w->ram)) {
        return;
    }
    ram = ram_save_adopt(w->ram, &why);
    if (ram) {
        snapshot_base_keep(ram, snapshot_source_info(w->source)->serial);
    } else if (!w->sj->stats.warning) {
        w->sj->stats.warning =
            g_strdup_printf("The next snapshot will store all of RAM: %s", why->message);
    }
}

bool coroutine_fn snapshot_load_run(SnapshotJob *sj, GError **errp)
{
    LoadWork w = {.sj = sj};
    bool ok = prepare(&w, errp) && blackout(&w, errp);

    if (ok) {
        if (w.lazy) {
            trace_snapshot_load_fill(sj->tag);
            set_filling(w.ram);
            ok = fill_ram(&w, errp);
            set_filling(NULL);
            if (ok) {
                keep_base(&w);
            }
        } else {
            ram_load_drop_old(w.ram);
        }
        ok = settle(&w, ok ? errp : NULL) && ok;
    }
    fill_stats(&w);
    if (w.ram) {
        ram_load_free(w.ram);
    }
    end_disks(sj, true);
    if (w.source) {
        snapshot_source_close(w.source);
    }
    g_clear_pointer(&w.tail, g_byte_array_unref);
    g_clear_pointer(&w.kept, g_byte_array_unref);
    stream_layout_free(w.layout);
    trace_snapshot_load_end(sj->tag, ok);
    return ok;
}
