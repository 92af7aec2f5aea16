/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What all snapshot jobs have in common: their data, the VM job mutex around the work,
 * moving between the nodes' contexts, draining, and statistics for query-jobs.
 */
#include <string.h>
#include "migrate-int.h"
#include "qapi/error.h"
#include "snapshot-int.h"
#include "util/thread-role.h"

SnapshotJob *snapshot_job_new(JobType type, const char *tag, BlockDriverState **nodes, int nr,
                              BlockDriverState *vmstate)
{
    SnapshotJob *sj = g_new0(SnapshotJob, 1);

    sj->machine = machine_get();
    sj->type = type;
    sj->tag = g_strdup(tag);
    sj->mode = SNAPSHOT_MODE_LIVE;
    sj->bounce_limit = SNAPSHOT_BOUNCE_LIMIT;
    sj->lazy = true;
    pthread_mutex_init(&sj->stats_lock, NULL);
    sj->nodes = g_new0(SnapshotNode, nr);
    for (int i = 0; i < nr; i++) {
        bool known = nodes[i] == vmstate;

        for (int k = 0; k < sj->nr_nodes; k++) {
            known |= sj->nodes[k].bs == nodes[i];
        }
        if (!known) {
            sj->nodes[sj->nr_nodes++].bs = bdrv_ref(nodes[i]);
        }
    }
    if (vmstate) {
        sj->nodes[sj->nr_nodes++].bs = bdrv_ref(vmstate);
    }
    return sj;
}

/* Jobs that have or wait for the VM job mutex.  Main thread. */
static unsigned under_way;

/* At the end of a job's work, or of one that never got to it.  Main thread. */
static void coroutine_fn drop_nodes(SnapshotJob *sj)
{
    under_way -= sj->counted;
    sj->counted = false;
    for (int i = 0; i < sj->nr_nodes; i++) {
        if (sj->nodes[i].bs) {
            bdrv_co_unref(g_steal_pointer(&sj->nodes[i].bs));
        }
        if (sj->nodes[i].overlay) {
            bdrv_co_unref(g_steal_pointer(&sj->nodes[i].overlay));
        }
    }
    while (sj->others && sj->others->len) {
        bdrv_co_unref(g_ptr_array_steal_index_fast(sj->others, sj->others->len - 1));
    }
    g_clear_pointer(&sj->others, g_ptr_array_unref);
}

static void coroutine_fn free_entry(void *opaque)
{
    SnapshotJob *sj = opaque;

    drop_nodes(sj);
    pthread_mutex_destroy(&sj->stats_lock);
    g_free(sj->stats.warning);
    for (int i = 0; i < sj->nr_nodes; i++) {
        g_free(sj->nodes[i].replaces);
    }
    snapshot_transaction_unref(sj->transaction);
    g_free(sj->nodes);
    g_free(sj->tag);
    g_free(sj);
}

void snapshot_job_free(SnapshotJob *sj)
{
    aio_co_enter(main_aio_context(), coroutine_create(free_entry, sj));
}

/* --- Contexts ------------------------------------------------------------------------------- */

void coroutine_fn snapshot_visit(SnapshotJob *sj, SnapshotNode *node)
{
    aio_co_reschedule_self(bdrv_context(node->bs));
}

void coroutine_fn snapshot_home(SnapshotJob *sj)
{
    aio_co_reschedule_self(sj->home);
}

/* The node that the guest uses. */
static BlockDriverState *top_of(const SnapshotNode *n)
{
    return n->overlay ? n->overlay : n->bs;
}

void coroutine_fn snapshot_drain(SnapshotJob *sj)
{
    for (int i = 0; i < sj->nr_nodes; i++) {
        snapshot_visit(sj, &sj->nodes[i]);
        bdrv_co_drained_begin(top_of(&sj->nodes[i]));
        sj->nodes[i].drained = true;
    }
    for (guint i = 0; i < sj->others->len; i++) {
        aio_co_reschedule_self(bdrv_context(sj->others->pdata[i]));
        bdrv_co_drained_begin(sj->others->pdata[i]);
    }
    sj->others_drained = true;
    snapshot_home(sj);
}

void coroutine_fn snapshot_undrain(SnapshotJob *sj)
{
    for (int i = 0; i < sj->nr_nodes; i++) {
        if (sj->nodes[i].drained) {
            snapshot_visit(sj, &sj->nodes[i]);
            bdrv_drained_end(top_of(&sj->nodes[i]));
            sj->nodes[i].drained = false;
        }
    }
    for (guint i = 0; sj->others_drained && i < sj->others->len; i++) {
        aio_co_reschedule_self(bdrv_context(sj->others->pdata[i]));
        bdrv_drained_end(sj->others->pdata[i]);
    }
    sj->others_drained = false;
    snapshot_home(sj);
}

bool snapshot_job_cancelled(void *opaque)
{
    SnapshotJob *sj = opaque;

    return job_is_cancelled(sj->job) &&
           (!sj->committed || __atomic_load_n(&sj->machine->ending, __ATOMIC_SEQ_CST));
}

void coroutine_fn snapshot_job_pause_point(void *opaque)
{
    job_pause_point(((SnapshotJob *)opaque)->job);
}

void snapshot_job_progress(void *opaque, uint64_t bytes)
{
    job_progress_add(((SnapshotJob *)opaque)->job, bytes);
}

bool snapshot_job_too_fast(void *opaque)
{
    return job_too_fast(((SnapshotJob *)opaque)->job);
}

uint64_t snapshot_throughput(uint64_t bytes, int64_t ns)
{
    return (unsigned __int128)bytes * 1000000000 / MAX(ns, 1);
}

void snapshot_background(bool on)
{
    thread_set_role(on ? THREAD_ROLE_BULK : THREAD_ROLE_ANSWER);
}

/* --- Life ------------------------------------------------------------------------------------- */

static const char *job_verb(JobType type)
{
    return type == JOB_TYPE_SNAPSHOT_SAVE   ? "snapshot-save"
           : type == JOB_TYPE_SNAPSHOT_LOAD ? "snapshot-load"
                                            : "snapshot-delete";
}

static bool coroutine_fn run(Job *job, void *opaque, GError **errp)
{
    SnapshotJob *sj = opaque;
    const char *id = job_id(job);
    g_autofree char *owner = g_strdup_printf("%s '%s'", job_verb(sj->type), id ? id : sj->tag);
    int64_t start;
    bool ok;

    sj->home = aio_current();
    ok = id ? vm_job_mutex_lock(sj->machine->job_mutex, job, owner, errp)
            : vm_job_mutex_lock_soon(sj->machine->job_mutex, job, owner, errp);
    if (!ok) {
        aio_co_reschedule_self(main_aio_context());
        drop_nodes(sj);
        return false;
    }
    aio_co_reschedule_self(main_aio_context());
    sj->others = snapshot_other_disks(sj);
    snapshot_home(sj);
    job_enter_running(job);
    if (sj->outgoing) {
        migrate_set_status(MIGRATION_STATUS_ACTIVE);
    }
    snapshot_background(false);
    start = clock_now_ns();
    switch (sj->type) {
    case JOB_TYPE_SNAPSHOT_SAVE:
        ok = snapshot_save_run(sj, errp);
        break;
    case JOB_TYPE_SNAPSHOT_LOAD:
        __atomic_store_n(&sj->machine->loading, true, __ATOMIC_SEQ_CST);
        ok = snapshot_load_run(sj, errp);
        __atomic_store_n(&sj->machine->loading, false, __ATOMIC_SEQ_CST);
        break;
    default:
        ok = snapshot_delete_run(sj, errp);
        break;
    }
    vm_job_mutex_unlock(sj->machine->job_mutex);
    pthread_mutex_lock(&sj->stats_lock);
    sj->stats.total_time_us = (clock_now_ns() - start) / 1000;
    sj->have_stats = sj->type != JOB_TYPE_SNAPSHOT_DELETE;
    pthread_mutex_unlock(&sj->stats_lock);
    /* A job that is over but not dismissed keeps no node open. */
    aio_co_reschedule_self(main_aio_context());
    drop_nodes(sj);
    return ok;
}

/* For query-jobs; any thread. */
static void query(Job *job, void *opaque, JobInfo *info)
{
    SnapshotJob *sj = opaque;

    pthread_mutex_lock(&sj->stats_lock);
    if (sj->have_stats) {
        info->snapshot_stats = g_memdup2(&sj->stats, sizeof(sj->stats));
        info->snapshot_stats->warning = g_strdup(sj->stats.warning);
    }
    pthread_mutex_unlock(&sj->stats_lock);
}

/* A job that was cancelled before it ran keeps no node open either. */
static void coroutine_fn end_entry(void *opaque)
{
    SnapshotJob *sj = opaque;
    Job *job = sj->job;

    job_co_wait(job, NULL);
    drop_nodes(sj);
    job_unref(job);
}

static void free_opaque(void *opaque)
{
    snapshot_job_free(opaque);
}

Job *snapshot_job_start(SnapshotJob *sj, const char *id, int flags, GError **errp)
{
    static const JobDriver drivers[] = {
        {.type = JOB_TYPE_SNAPSHOT_SAVE, .run = run, .free = free_opaque, .query = query,
         .has_speed = true},
        {.type = JOB_TYPE_SNAPSHOT_LOAD, .run = run, .free = free_opaque, .query = query,
         .has_speed = true},
        {.type = JOB_TYPE_SNAPSHOT_DELETE, .run = run, .free = free_opaque, .query = query},
    };
    g_autofree char *owner = NULL;
    Job *job = NULL;
    bool alone;

    for (size_t i = 0; i < G_N_ELEMENTS(drivers); i++) {
        if (drivers[i].type == sj->type) {
            job = job_create(id, &drivers[i], sj->machine->snapshot_context(), flags, sj, errp);
        }
    }
    if (!job) {
        snapshot_job_free(sj);
        return NULL;
    }
    sj->job = job_ref(job_ref(job));
    aio_co_schedule(main_aio_context(), coroutine_create(end_entry, sj));
    owner = vm_job_mutex_owner(sj->machine->job_mutex);
    alone = !under_way && !owner;
    sj->counted = true;
    under_way++;
    /* A client sees a job that need not wait in state 'running' when its command returns. */
    if (alone) {
        job_start(job);
    } else {
        job_start_waiting(job);
    }
    return job;
}
