/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The job that saves the machine.  Snapshot IOThread, visiting the nodes' contexts; holds
 * the VM job mutex.
 *
 *   prepare   each disk reserves what it needs, RAM is write-protected, faults take note
 *   blackout  park, drain, freeze disks, serialise devices, arm RAM, undrain, unpark
 *   write     RAM behind the guest's back, then headers and devices
 *   publish   the other disks first, the one with the machine's state last
 *
 * Until the last publish anything that fails undoes everything.
 */
#include <string.h>
#include <time.h>
#include "migrate-int.h"
#include "migration/trace.h"
#include "qapi/error.h"
#include "snapshot-base.h"
#include "snapshot-int.h"
#include "util/countermeasure.h"

typedef struct SaveWork {
    SnapshotJob *sj;
    StreamLayout *layout;
    RamSave *ram;
    bool watch;           /* RAM is watched for the next save */
    uint64_t base_serial; /* the snapshot that RAM has been watched since, or 0 */
    GByteArray *tail;
    bool live;
    bool was_running;
    bool parked;
    bool saved;
    int64_t park_start;
    int64_t write_ns;  /* how long RAM was written */
    uint64_t ram_size; /* of all blocks */
    uint64_t left;     /* bytes of it that have not been looked at yet */
} SaveWork;

/* --- What RAM's save asks and tells ----------------------------------------------------------- */

/* For query-migrate. */
static void tell_migration(SaveWork *w)
{
    RamSaveStats r;
    MigrateFigures f = {.total = w->ram_size, .remaining = w->left};

    ram_save_get_stats(w->ram, &r);
    f.transferred = r.bytes_written + (w->tail ? w->tail->len : 0);
    f.normal_pages = r.pages_written;
    f.zero_pages = r.zero_pages;
    f.downtime_bytes = w->live ? 0 : f.transferred;
    migrate_set_figures(&f);
}

static void save_progress(void *opaque, uint64_t bytes)
{
    SaveWork *w = opaque;

    snapshot_job_progress(w->sj, bytes);
    w->left -= MIN(bytes, w->left);
    if (w->sj->outgoing) {
        tell_migration(w);
    }
}

static bool save_cancelled(void *opaque)
{
    return snapshot_job_cancelled(((SaveWork *)opaque)->sj);
}

static void coroutine_fn save_pause_point(void *opaque)
{
    snapshot_job_pause_point(((SaveWork *)opaque)->sj);
}

static bool save_too_fast(void *opaque)
{
    SaveWork *w = opaque;

    if (w->sj->outgoing) {
        /* A guest that stands still until all is written is not kept waiting. */
        job_limit_speed(w->sj->job, w->live ? migrate_max_bandwidth() : 0);
    }
    return snapshot_job_too_fast(w->sj);
}

/* --- Prepare -------------------------------------------------------------------------------- */

static bool coroutine_fn start_ram(SaveWork *w, GError **errp)
{
    SnapshotJob *sj = w->sj;
    Machine *m = sj->machine;
    g_autoptr(GError) why = NULL;
    g_autofree int *tids = NULL;
    RamSaveConfig config = {
        .ram = m->ram,
        .nr_ram = m->nr_ram,
        .layout = w->layout,
        .bounce_limit = sj->bounce_limit,
        .copy_first = sj->compress, /* what is compressed is costly to change */
        .progress = save_progress,
        .cancelled = save_cancelled,
        .pause_point = save_pause_point,
        .too_fast = save_too_fast,
        .opaque = w,
    };

    w->ram = snapshot_base_take(&w->base_serial);
    if (w->ram || sj->mode == SNAPSHOT_MODE_LIVE) {
        tids = m->ops->vcpu_tids(m->opaque, &config.nr_vcpu_tids);
        config.vcpu_tids = tids;
        config.live = true;
        config.watch = w->watch = m->track_ram;
        w->live = sj->mode == SNAPSHOT_MODE_LIVE;
    }
    if (w->ram && w->watch && ram_save_again(w->ram, &config, NULL)) {
        return true;
    }
    if (w->ram) {
        ram_save_free(g_steal_pointer(&w->ram));
        w->base_serial = 0;
    }
    if (sj->mode == SNAPSHOT_MODE_LIVE) {
        w->ram = ram_save_new(&config, &why);
        if (w->ram) {
            return true;
        }
        sj->stats.warning =
            g_strdup_printf("The guest was stopped while it was saved: %s", why->message);
    }
    config.live = config.watch = w->live = w->watch = false;
    w->ram = ram_save_new(&config, errp);
    return w->ram != NULL;
}

static bool coroutine_fn prepare_disks(SaveWork *w, uint64_t state_size, GError **errp)
{
    SnapshotJob *sj = w->sj;
    uint64_t unit = 0;

    for (int i = 0; i < sj->nr_nodes; i++) {
        SnapshotNode *n = &sj->nodes[i];
        bool last = n == snapshot_vmstate_node(sj);
        BdrvSnapshotInfo old = {0};
        GError *err = NULL;

        if (job_is_cancelled(sj->job)) {
            error_setg(errp, "Job was cancelled");
            return false;
        }
        g_strlcpy(n->info.name, sj->tag, sizeof(n->info.name));
        n->info.icount = UINT64_MAX;
        n->info.disk_size = bdrv_length(n->bs);
        snapshot_visit(sj, n);
        if (bdrv_co_snapshot_find_name(n->bs, sj->tag, &old, &err) && sj->replace) {
            n->replaces = g_strdup(old.id);
            bdrv_snapshot_is_held(n->bs, old.id, &err);
        } else if (!err && old.id[0]) {
            /* It may have come into being while this job waited for its turn. */
            error_setg(&err, "Snapshot '%s' already exists in one or more devices", sj->tag);
        }
        if (!err) {
            n->save = bdrv_co_snapshot_prepare(n->bs, &n->info, last ? state_size : 0, &err);
        }
        if (!err && last && sj->compress) {
            bdrv_co_snapshot_compress(n->save, &err);
        }
        if (!err && last && w->base_serial) {
            /* Where that is not possible everything is written. */
            unit = bdrv_co_snapshot_share_with(n->save, w->base_serial, NULL);
        }
        snapshot_home(sj);
        if (err) {
            g_propagate_error(errp, err);
            return false;
        }
    }
    ram_save_set_base(w->ram, unit);
    return true;
}

static bool coroutine_fn prepare(SaveWork *w, GError **errp)
{
    SnapshotJob *sj = w->sj;
    Machine *m = sj->machine;
    const char *blocker = vmstate_blocker(m->vmstate);
    uint64_t total;

    trace_snapshot_save_prepare(sj->tag, sj->nr_nodes);
    if (blocker) {
        error_setg(errp, "State blocked: %s", blocker);
        return false;
    }
    for (int i = 0; i < m->nr_ram; i++) {
        w->ram_size += m->ram[i].size;
    }
    w->left = w->ram_size;
    job_progress_set_total(sj->job, w->ram_size);
    w->layout = stream_layout_new(m->machine_type, m->ram, m->nr_ram);
    if (!start_ram(w, errp)) {
        return false;
    }
    /* What is not touched takes no space; 1 MiB is ample for headers and devices. */
    total = ram_save_estimate(w->ram) + (1 << 20);
    for (int i = 0; i < w->layout->nr_blocks; i++) {
        total += w->layout->blocks[i].bitmap_bytes;
    }
    return prepare_disks(w, total, errp) && snapshot_transaction_prepare(w->sj, errp) &&
           ram_save_arm(w->ram, errp);
}

/* --- Blackout ------------------------------------------------------------------------------- */

static void coroutine_fn release_guest(SaveWork *w)
{
    SnapshotJob *sj = w->sj;

    if (w->parked) {
        if (w->saved && sj->outgoing && !w->live) {
            sj->machine->ops->unpark_migrated(sj->machine->opaque);
        } else {
            sj->machine->ops->unpark(sj->machine->opaque, w->was_running);
        }
        sj->stats.downtime_us = (clock_now_ns() - w->park_start) / 1000;
        trace_snapshot_save_released(sj->tag, sj->stats.downtime_us);
        if (sj->outgoing) {
            migrate_downtime_end();
        }
        w->parked = false;
    }
}

static void stamp(SaveWork *w)
{
    SnapshotJob *sj = w->sj;
    struct timespec now;
    int64_t clock = sj->machine->ops->clock_ns(sj->machine->opaque);

    clock_gettime(CLOCK_REALTIME, &now);
    for (int i = 0; i < sj->nr_nodes; i++) {
        sj->nodes[i].info.date_sec = now.tv_sec;
        sj->nodes[i].info.date_nsec = now.tv_nsec;
        sj->nodes[i].info.vm_clock_nsec = clock;
    }
}

static bool coroutine_fn freeze_disks(SaveWork *w, GError **errp)
{
    SnapshotJob *sj = w->sj;
    bool ok = true;

    for (int i = 0; i < sj->nr_nodes && ok; i++) {
        snapshot_visit(sj, &sj->nodes[i]);
        ok = bdrv_co_snapshot_freeze(sj->nodes[i].save, errp);
    }
    snapshot_home(sj);
    return ok;
}

static bool coroutine_fn blackout(SaveWork *w, GError **errp)
{
    SnapshotJob *sj = w->sj;
    Machine *m = sj->machine;
    bool ok;

    trace_snapshot_save_blackout(sj->tag, w->live);
    w->park_start = clock_now_ns();
    if (sj->outgoing) {
        migrate_downtime_begin();
    }
    w->was_running = sj->outgoing && !w->live ? m->ops->park_migrate(m->opaque)
                                              : m->ops->park(m->opaque, false);
    w->parked = true;
    snapshot_drain(sj);
    snapshot_transaction_drain(sj);
    ok = freeze_disks(w, errp);
    if (ok) {
        m->ops->lock(m->opaque);
        if (sj->outgoing) {
            migrate_global_send(w->was_running);
        }
        w->tail = stream_save_tail(m->machine_type, m->vmstate, errp);
        migrate_global_sent();
        ok = w->tail && (countermeasure_off("arm-before-release") ||
                         ram_save_instant(w->ram, errp));
        stamp(w);
        m->ops->unlock(m->opaque);
    }
    ok = ok && snapshot_transaction_instant(sj, errp);
    if (!ok || w->live) {
        snapshot_transaction_undrain(sj);
        snapshot_undrain(sj);
        release_guest(w);
    }
    if (ok && countermeasure_off("arm-before-release")) {
        ok = ram_save_instant(w->ram, errp);
    }
    return ok;
}

/* --- Writing ---------------------------------------------------------------------------------- */

static int coroutine_fn sink_write(void *opaque, uint64_t offset, IOVector *iov)
{
    SnapshotJob *sj = opaque;
    SnapshotNode *n = snapshot_vmstate_node(sj);
    int ret;

    snapshot_visit(sj, n);
    ret = bdrv_co_snapshot_write(n->save, offset, iov);
    snapshot_home(sj);
    job_moved(sj->job, iov->size);
    return ret;
}

static int coroutine_fn sink_share(void *opaque, const BdrvSnapshotExtent *extents, size_t n)
{
    SnapshotJob *sj = opaque;
    SnapshotNode *node = snapshot_vmstate_node(sj);
    int ret;

    snapshot_visit(sj, node);
    ret = bdrv_co_snapshot_share(node->save, extents, n);
    snapshot_home(sj);
    return ret;
}

static int coroutine_fn write_bytes(SaveWork *w, uint64_t offset, const GByteArray *bytes)
{
    IOVector iov;

    io_vector_init_buf(&iov, bytes->data, bytes->len);
    return sink_write(w->sj, offset, &iov);
}

static bool coroutine_fn write_state(SaveWork *w, GError **errp)
{
    RamSink sink = {.write = sink_write, .share = sink_share, .opaque = w->sj};
    int64_t start = clock_now_ns();
    int ret = 0;
    bool ok;

    trace_snapshot_save_write(w->sj->tag);
    snapshot_background(true);
    ok = ram_save_write(w->ram, &sink, errp);
    snapshot_background(false);
    w->write_ns = clock_now_ns() - start;
    if (!ok) {
        return false;
    }
    stream_sum_put(w->layout, w->tail);
    for (guint i = 0; i < w->layout->pieces->len && ret == 0; i++) {
        StreamPiece *p = g_ptr_array_index(w->layout->pieces, i);

        ret = write_bytes(w, p->offset, p->data);
    }
    if (ret == 0) {
        ret = write_bytes(w, w->layout->tail_offset, w->tail);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not write device state into the snapshot");
        return false;
    }
    return true;
}

/* --- The end ------------------------------------------------------------------------------------ */

static bool coroutine_fn publish(SaveWork *w, GError **errp)
{
    SnapshotJob *sj = w->sj;
    bool ok = true;

    snapshot_vmstate_node(sj)->info.vm_state_size = w->layout->tail_offset + w->tail->len;
    trace_snapshot_save_publish(sj->tag, w->layout->tail_offset + w->tail->len);
    for (int i = 0; i < sj->nr_nodes && ok; i++) {
        SnapshotNode *n = &sj->nodes[i];

        if (job_is_cancelled(sj->job)) {
            error_setg(errp, "Job was cancelled");
            ok = false;
            break;
        }
        snapshot_visit(sj, n);
        ok = bdrv_co_snapshot_publish(n->save, &n->info, errp);
    }
    snapshot_home(sj);
    return ok;
}

static void coroutine_fn end_disks(SnapshotJob *sj, bool ok)
{
    for (int i = sj->nr_nodes - 1; i >= 0; i--) {
        SnapshotNode *n = &sj->nodes[i];

        if (!n->save) {
            continue;
        }
        snapshot_visit(sj, n);
        if (ok) {
            bdrv_co_snapshot_done(n->save);
        } else {
            bdrv_co_snapshot_abort(n->save);
        }
        n->save = NULL;
    }
    snapshot_home(sj);
}

/* The new snapshot is there; only now may the one it replaces go. */
static bool coroutine_fn delete_replaced(SnapshotJob *sj, GError **errp)
{
    GError *err = NULL;

    for (int i = 0; i < sj->nr_nodes && !err; i++) {
        SnapshotNode *n = &sj->nodes[i];

        if (n->replaces) {
            snapshot_visit(sj, n);
            bdrv_co_snapshot_replace(n->bs, n->replaces, n->info.id, &err);
            snapshot_home(sj);
        }
    }
    if (err) {
        g_propagate_prefixed_error(errp, err, "Snapshot '%s' was saved, but the one it replaces "
                                   "is still there: ", sj->tag);
        return false;
    }
    return true;
}

static void fill_stats(SaveWork *w)
{
    SnapshotStats *s = &w->sj->stats;
    RamSaveStats r;

    if (!w->ram) {
        return;
    }
    ram_save_get_stats(w->ram, &r);
    s->has_mode = s->has_bytes_written = s->has_throughput = true;
    s->has_zero_pages = s->has_shared_pages = true;
    s->shared_pages = r.shared_pages;
    s->mode = w->live ? SNAPSHOT_MODE_LIVE : SNAPSHOT_MODE_STOP;
    s->bytes_written = r.bytes_written + (w->tail ? w->tail->len : 0);
    s->throughput = snapshot_throughput(r.bytes_written, w->write_ns);
    s->zero_pages = r.zero_pages;
    if (w->sj->outgoing) {
        tell_migration(w);
    }
    if (w->live) {
        s->has_faults = s->has_bounce_peak = s->has_bounce_waits = true;
        s->faults = r.faults + r.note_faults;
        s->bounce_peak = r.bounce_peak;
        s->bounce_waits = r.bounce_waits;
    }
}

/* Every thread that waits is let go.  saved: the snapshot is there. */
static void coroutine_fn end_ram(SaveWork *w, bool saved)
{
    if (!w->ram) {
        return;
    }
    if (w->watch && ram_save_watch(w->ram, saved)) {
        snapshot_base_keep(w->ram, saved ? snapshot_vmstate_node(w->sj)->info.serial
                                         : w->base_serial);
    } else {
        ram_save_free(w->ram);
    }
    w->ram = NULL;
}

/* What the image knows of it. */
static void coroutine_fn fill_image_stats(SnapshotJob *sj)
{
    SnapshotStats *s = &sj->stats;
    SnapshotNode *n = snapshot_vmstate_node(sj);

    if (sj->compress && n->save) {
        s->has_compressed_bytes = s->has_compressed_size = true;
        snapshot_visit(sj, n);
        bdrv_snapshot_compressed(n->save, &s->compressed_bytes, &s->compressed_size);
        snapshot_home(sj);
    }
}

bool coroutine_fn snapshot_save_run(SnapshotJob *sj, GError **errp)
{
    SaveWork w = {.sj = sj};
    bool ok = prepare(&w, errp) && blackout(&w, errp) &&
              snapshot_transaction_finish(sj, errp) && write_state(&w, errp);

    fill_stats(&w);
    if (!ok || !w.watch) {
        end_ram(&w, false);
    }
    fill_image_stats(sj);
    ok = ok && publish(&w, errp);
    w.saved = ok;
    end_ram(&w, ok);
    end_disks(sj, ok);
    snapshot_transaction_undrain(sj);
    snapshot_undrain(sj);
    release_guest(&w);
    g_clear_pointer(&w.tail, g_byte_array_unref);
    stream_layout_free(w.layout);
    snapshot_transaction_end(sj, ok, errp);
    trace_snapshot_save_end(sj->tag, ok);
    return ok && delete_replaced(sj, errp);
}
