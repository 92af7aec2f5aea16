/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Jobs: creation, the life of run(), conclusion, and the requests that reach a job.
 *
 * One leaf mutex guards the list and all fields that change.  At any time one actor moves
 * a job from state to state - its coroutine from job_start() on, the main thread before
 * and after - so events are sent outside the mutex and still in order.
 */
#include "config-host.h"
#include <pthread.h>
#include <string.h>
#include "job-int.h"
#include "qapi/error.h"
#include "qapi/qapi-events-job.h"
#include "qapi/util.h"

typedef struct JobWaiter {
    struct JobWaiter *next;
    Coroutine *co;
} JobWaiter;

struct Job {
    /* Constant. */
    char *id;
    const JobDriver *driver;
    AioContext *ctx;
    int flags;
    void *opaque;

    JobRate rate; /* has its own lock */

    /* Guarded by job_lock. */
    int refs;
    JobStatus status;
    bool listed;       /* not dismissed yet */
    bool started;      /* the coroutine exists or has existed */
    bool run_waiting;  /* run() begins in 'created' */
    bool in_run;       /* run() is at work */
    bool has_run;      /* or was */
    bool cancelled;
    bool pause;        /* requested by the user */
    bool final;        /* the work is done for good, a cancel comes too late */
    bool settled;      /* finalised or aborted */
    Coroutine *paused; /* waits in job_pause_point() */
    VmJobMutex *vm_mutex;
    uint64_t progress, total;
    GError *err;
    JobWaiter *waiters;
};

static pthread_mutex_t job_lock = PTHREAD_MUTEX_INITIALIZER; /* leaf */
static GList *jobs; /* newest first; each holds a reference */

static void lock(void)
{
    pthread_mutex_lock(&job_lock);
}

static void unlock(void)
{
    pthread_mutex_unlock(&job_lock);
}

/* --- References and look-ups -------------------------------------------------------- */

Job *job_ref(Job *job)
{
    lock();
    job->refs++;
    unlock();
    return job;
}

static void free_in_main(void *opaque)
{
    Job *job = opaque;

    if (job->driver->free) {
        job->driver->free(job->opaque);
    }
    g_clear_error(&job->err);
    job_rate_destroy(&job->rate);
    aio_context_unref(job->ctx);
    g_free(job->id);
    g_free(job);
}

void job_unref(Job *job)
{
    lock();
    int refs = --job->refs;
    unlock();
    if (refs) {
        return;
    }
    if (aio_current() == main_aio_context()) {
        free_in_main(job);
    } else {
        aio_bh_schedule_oneshot(main_aio_context(), free_in_main, job);
    }
}

/* With job_lock held. */
static Job *find(const char *id)
{
    for (GList *l = jobs; l; l = l->next) {
        Job *job = l->data;
        if (!g_strcmp0(job->id, id)) {
            return job;
        }
    }
    return NULL;
}

const char *job_id(Job *job)
{
    return job->id;
}

JobStatus job_status(Job *job)
{
    lock();
    JobStatus status = job->status;
    unlock();
    return status;
}

bool job_is_cancelled(Job *job)
{
    lock();
    bool cancelled = job->cancelled;
    unlock();
    return cancelled;
}

/* --- States ---------------------------------------------------------------------- */

/* Only the job's present actor calls this; see the top of the file. */
static void set_status(Job *job, JobStatus status)
{
    lock();
    g_assert(job_transition_allowed(job->status, status));
    job->status = status;
    unlock();
    if (job->id) {
        JobInfo info = {0};

        /* The last word of a job includes what it did. */
        if (status == JOB_STATUS_CONCLUDED && job->driver->query) {
            job->driver->query(job, job->opaque, &info);
        }
        qapi_event_send_job_status_change(job->id, status, info.snapshot_stats);
        qapi_free_SnapshotStats(info.snapshot_stats);
    }
}

/* A letter, then letters, digits, '-', '.', '_': what QEMU takes. */
static bool id_wellformed(const char *id)
{
    return g_ascii_isalpha(id[0]) &&
           !id[strspn(id, G_CSET_a_2_z G_CSET_A_2_Z G_CSET_DIGITS "-._")];
}

Job *job_create(const char *id, const JobDriver *driver, AioContext *ctx, int flags,
                void *opaque, GError **errp)
{
    g_assert(driver->settle || !(flags & JOB_MANUAL_FINALIZE));
    if (id && !id_wellformed(id)) {
        error_setg(errp, "Invalid job ID '%s'", id);
        return NULL;
    }
    Job *job = g_new0(Job, 1);
    lock();
    if (id && find(id)) {
        unlock();
        g_free(job);
        error_setg(errp, "Job ID '%s' already in use", id);
        return NULL;
    }
    job_rate_init(&job->rate);
    job->id = g_strdup(id);
    job->driver = driver;
    job->ctx = aio_context_ref(ctx);
    job->flags = id ? flags : flags & ~JOB_MANUAL_DISMISS;
    job->opaque = opaque;
    job->refs = 1;
    job->listed = true;
    job->status = JOB_STATUS_UNDEFINED;
    jobs = g_list_prepend(jobs, job);
    unlock();
    set_status(job, JOB_STATUS_CREATED);
    return job;
}

/* Main thread.  Nothing happens to a job that a waiter, woken by conclude(), dismissed. */
static void dismiss(Job *job)
{
    lock();
    bool listed = job->listed;
    job->listed = false;
    unlock();
    if (!listed) {
        return;
    }
    set_status(job, JOB_STATUS_NULL);
    lock();
    jobs = g_list_remove(jobs, job);
    unlock();
    job_unref(job); /* the list's */
}

/* Main thread: a block job that was started is over. */
static void tell_end(Job *job)
{
    lock();
    int64_t done = MIN(job->progress, (uint64_t)INT64_MAX);
    int64_t total = MIN(MAX(job->total, job->progress), (uint64_t)INT64_MAX);
    bool tell = job->id && job->has_run && job_type_is_block(job->driver->type);
    unlock();
    if (tell && job_is_cancelled(job)) {
        qapi_event_send_block_job_cancelled(job->driver->type, job->id, total, done,
                                            job_rate_speed(&job->rate));
    } else if (tell) {
        qapi_event_send_block_job_completed(job->driver->type, job->id, total, done,
                                            job_rate_speed(&job->rate),
                                            job->err ? job->err->message : NULL);
    }
}

/* Main thread: the job is over. */
static void conclude(Job *job)
{
    tell_end(job);
    set_status(job, JOB_STATUS_CONCLUDED);
    lock();
    JobWaiter *waiters = job->waiters;
    job->waiters = NULL;
    unlock();
    while (waiters) {
        /* The waiter lives on its coroutine's stack. */
        JobWaiter *next = waiters->next;
        aio_co_wake(waiters->co);
        waiters = next;
    }
    if (!(job->flags & JOB_MANUAL_DISMISS)) {
        dismiss(job);
    }
}

/* Main thread: from 'pending' to the end. */
static void finalize(Job *job)
{
    lock();
    bool mine = !job->settled;
    bool commit = !job->cancelled;
    job->settled = true;
    if (mine && !commit) {
        error_setg(&job->err, "Operation canceled");
    }
    unlock();
    if (!mine) {
        return;
    }
    if (job->driver->settle) {
        job->driver->settle(job, job->opaque, commit);
    }
    if (!commit) {
        set_status(job, JOB_STATUS_ABORTING);
    }
    conclude(job);
}

/* Main thread, in the job's coroutine: run() has returned, or was never called. */
static void complete(Job *job, bool ok, GError *err)
{
    if (!ok) {
        lock();
        if (job->cancelled) {
            g_clear_error(&err);
            error_setg(&job->err, "Operation canceled");
        } else {
            g_assert(err);
            job->err = err;
        }
        job->settled = true;
        unlock();
        set_status(job, JOB_STATUS_ABORTING);
        conclude(job);
        return;
    }
    /* The work is done; a cancel that came too late to stop it is void. */
    bool manual = job->flags & JOB_MANUAL_FINALIZE;
    lock();
    job->cancelled = false;
    job->final = !manual;
    unlock();
    set_status(job, JOB_STATUS_WAITING);
    set_status(job, JOB_STATUS_PENDING);
    if (manual && job->id && job_type_is_block(job->driver->type)) {
        qapi_event_send_block_job_pending(job->driver->type, job->id);
    }
    if (!manual || job_is_cancelled(job)) {
        finalize(job);
    }
}

static void coroutine_fn job_entry(void *opaque)
{
    Job *job = opaque;
    GError *err = NULL;
    bool ok = false;

    lock();
    bool run = !job->cancelled;
    bool pause = job->pause && !job->run_waiting; /* it may have come before the start */
    job->in_run = job->has_run = run;
    unlock();
    if (run) {
        if (pause) {
            job_pause_point(job); /* only then: jobs get their turns in the order of start */
        }
        ok = job->driver->run(job, job->opaque, &err);
        lock();
        job->in_run = false;
        unlock();
    }
    aio_co_reschedule_self(main_aio_context());
    if (!run && job->driver->abandon) {
        job->driver->abandon(job->opaque);
    }
    if (ok && job_status(job) == JOB_STATUS_CREATED) {
        job_enter_running(job);
    }
    complete(job, ok, err);
    job_unref(job); /* the coroutine's */
}

/* Makes the coroutine, unless that was done; returns whether it was not. */
static bool start(Job *job, AioContext *ctx, bool waiting)
{
    lock();
    bool start = !job->started;
    job->started = true;
    job->run_waiting = waiting;
    job->refs += start;
    unlock();
    if (start) {
        if (!waiting) {
            set_status(job, JOB_STATUS_RUNNING);
        }
        aio_co_schedule(ctx, coroutine_create(job_entry, job));
    }
    return start;
}

void job_start(Job *job)
{
    start(job, job->ctx, false);
}

void job_start_waiting(Job *job)
{
    start(job, job->ctx, true);
}

void job_enter_running(Job *job)
{
    if (job_status(job) == JOB_STATUS_CREATED) {
        set_status(job, JOB_STATUS_RUNNING);
    }
}

/* --- In run() ------------------------------------------------------------------------ */

void coroutine_fn job_pause_point(Job *job)
{
    lock();
    bool pause = job->pause && !job->cancelled && job->status == JOB_STATUS_RUNNING;
    unlock();
    if (!pause) {
        aio_co_schedule(aio_current(), coroutine_self());
        coroutine_yield();
        return;
    }
    set_status(job, JOB_STATUS_PAUSED);
    lock();
    bool wait = job->pause && !job->cancelled;
    if (wait) {
        job->paused = coroutine_self();
    }
    unlock();
    if (wait) {
        coroutine_yield();
    }
    set_status(job, JOB_STATUS_RUNNING);
}

/* Takes the coroutine that waits in job_pause_point().  With job_lock held. */
static Coroutine *take_paused(Job *job)
{
    Coroutine *co = job->paused;

    job->paused = NULL;
    return co;
}

void job_progress_set_total(Job *job, uint64_t total)
{
    lock();
    job->total = total;
    unlock();
}

void job_progress_add(Job *job, uint64_t done)
{
    lock();
    job->progress += done;
    unlock();
}

void job_moved(Job *job, uint64_t bytes)
{
    job_rate_add(&job->rate, bytes, clock_now_ns());
}

bool job_too_fast(Job *job)
{
    return job_rate_exceeded(&job->rate, clock_now_ns());
}

void job_limit_speed(Job *job, uint64_t speed)
{
    if (job_rate_speed(&job->rate) != speed) {
        job_rate_set(&job->rate, speed, clock_now_ns());
    }
}

bool coroutine_fn job_co_wait(Job *job, GError **errp)
{
    JobWaiter waiter = {.co = coroutine_self()};

    lock();
    bool over = job->status == JOB_STATUS_CONCLUDED || job->status == JOB_STATUS_NULL;
    if (!over) {
        waiter.next = job->waiters;
        job->waiters = &waiter;
    }
    unlock();
    if (!over) {
        coroutine_yield();
    }
    lock();
    bool ok = !job->err;
    if (!ok) {
        if (job->cancelled) {
            error_setg(errp, "Job was cancelled");
        } else {
            g_propagate_error(errp, g_error_copy(job->err));
        }
    }
    unlock();
    return ok;
}

bool job_is_open_ended(Job *job)
{
    return job->driver->open_ended;
}

bool job_set_vm_mutex(Job *job, VmJobMutex *m)
{
    lock();
    bool ok = !m || !job->cancelled;
    job->vm_mutex = ok ? m : NULL;
    unlock();
    return ok;
}

/* --- Requests ------------------------------------------------------------------------ */

void coroutine_fn job_co_cancel_all(void)
{
    for (;;) {
        Job *job = NULL;

        lock();
        for (GList *l = jobs; l && !job; l = l->next) {
            Job *candidate = l->data;
            if (candidate->status != JOB_STATUS_CONCLUDED) {
                job = candidate;
                job->refs++;
            }
        }
        unlock();
        if (!job) {
            return;
        }
        job_cancel(job, true);
        job_co_wait(job, NULL);
        job_unref(job);
    }
}

static void finalize_cancelled(void *opaque)
{
    Job *job = opaque;

    finalize(job);
    job_unref(job);
}

void job_cancel(Job *job, bool force)
{
    lock();
    if (job->cancelled || job->final || !job_verb_allowed(job->status, JOB_VERB_CANCEL)) {
        unlock();
        return;
    }
    job->cancelled = true;
    job->pause = false;
    bool in_run = job->in_run;
    bool pending = job->status == JOB_STATUS_PENDING && (job->flags & JOB_MANUAL_FINALIZE);
    VmJobMutex *m = job->vm_mutex;
    Coroutine *co = take_paused(job);
    job->refs++;
    unlock();

    /* A job that was never started ends without run(). */
    if (pending) {
        if (aio_current() == main_aio_context()) {
            finalize(job);
        } else {
            job_ref(job);
            aio_bh_schedule_oneshot(main_aio_context(), finalize_cancelled, job);
        }
    } else if (!start(job, main_aio_context(), true)) {
        if (m) {
            vm_job_mutex_cancel_wait(m, job);
        }
        if (in_run && job->driver->cancel) {
            job->driver->cancel(job, job->opaque);
        }
        if (co) {
            aio_co_wake(co);
        }
    }
    job_unref(job);
}

/* The job called id with a reference, if its state accepts verb; else NULL and errp. */
static Job *find_for(const char *id, JobVerb verb, GError **errp)
{
    lock();
    Job *job = id ? find(id) : NULL;
    if (!job) {
        error_setg(errp, "Job not found");
    } else if (verb == JOB_VERB_RESUME && !job->pause) {
        error_setg(errp, "Can't resume a job that was not paused");
        job = NULL;
    } else if (!job_verb_allowed(job->status, verb)) {
        error_setg(errp, "Job '%s' in state '%s' cannot accept command verb '%s'", id,
                   JobStatus_str(job->status), JobVerb_str(verb));
        job = NULL;
    } else if (verb == JOB_VERB_PAUSE && job->pause) {
        error_setg(errp, "Job is already paused");
        job = NULL;
    } else {
        job->refs++;
    }
    unlock();
    return job;
}

bool job_cancel_by_id(const char *id, bool force, GError **errp)
{
    Job *job = find_for(id, JOB_VERB_CANCEL, errp);

    if (!job) {
        return false;
    }
    job_cancel(job, force);
    job_unref(job);
    return true;
}

bool job_pause_by_id(const char *id, GError **errp)
{
    Job *job = find_for(id, JOB_VERB_PAUSE, errp);

    if (!job) {
        return false;
    }
    lock();
    job->pause = !job->cancelled; /* one that is giving up is not held up */
    unlock();
    job_unref(job);
    return true;
}

bool job_resume_by_id(const char *id, GError **errp)
{
    Job *job = find_for(id, JOB_VERB_RESUME, errp);

    if (!job) {
        return false;
    }
    lock();
    job->pause = false;
    Coroutine *co = take_paused(job);
    unlock();
    if (co) {
        aio_co_wake(co);
    }
    job_unref(job);
    return true;
}

bool job_set_speed_by_id(const char *id, int64_t speed, GError **errp)
{
    Job *job = find_for(id, JOB_VERB_SET_SPEED, errp);

    if (!job) {
        return false;
    }
    bool ok = job->driver->has_speed && speed >= 0;
    if (!job->driver->has_speed) {
        error_setg(errp, "Job '%s' (%s) moves no data whose speed could be limited", id,
                   JobType_str(job->driver->type));
    } else if (speed < 0) {
        error_setg(errp, "Parameter 'speed' expects a non-negative value");
    } else {
        job_rate_set(&job->rate, speed, clock_now_ns());
    }
    job_unref(job);
    return ok;
}

bool job_details_by_id(const char *id, JobDetails *details)
{
    lock();
    Job *job = find(id);
    if (job) {
        *details = (JobDetails){.paused = job->pause, .busy = job->in_run && !job->paused,
                                .flags = job->flags, .speed = job_rate_speed(&job->rate)};
    }
    unlock();
    return job;
}

bool job_complete_by_id(const char *id, GError **errp)
{
    /* No driver reaches 'ready', so the state machine always refuses. */
    Job *job = find_for(id, JOB_VERB_COMPLETE, errp);

    g_assert(!job);
    return false;
}

bool job_finalize_by_id(const char *id, GError **errp)
{
    Job *job = find_for(id, JOB_VERB_FINALIZE, errp);

    if (!job) {
        return false;
    }
    finalize(job);
    job_unref(job);
    return true;
}

bool job_dismiss_by_id(const char *id, GError **errp)
{
    Job *job = find_for(id, JOB_VERB_DISMISS, errp);

    if (!job) {
        return false;
    }
    dismiss(job);
    job_unref(job);
    return true;
}

/* --- Queries ------------------------------------------------------------------------- */

JobInfoList *job_query_all(void)
{
    JobInfoList *list = NULL, **tail = &list;
    g_autoptr(GPtrArray) mutexes = g_ptr_array_new();
    int n = 0;

    lock();
    for (GList *l = jobs; l; l = l->next) {
        Job *job = l->data;
        if (!job->id) {
            continue;
        }
        JobInfo *info = g_new0(JobInfo, 1);
        info->id = g_strdup(job->id);
        info->type = job->driver->type;
        info->status = job->status;
        info->current_progress = MIN(job->progress, (uint64_t)INT64_MAX);
        info->total_progress = MIN(MAX(job->total, job->progress), (uint64_t)INT64_MAX);
        info->error = job->err ? g_strdup(job->err->message) : NULL;
        if (job->driver->query) {
            job->driver->query(job, job->opaque, info);
        }
        QAPI_LIST_APPEND(tail, info);
        g_ptr_array_add(mutexes, job->vm_mutex);
    }
    unlock();
    /* A mutex's lock comes before ours. */
    for (JobInfoList *l = list; l; l = l->next) {
        VmJobMutex *m = mutexes->pdata[n++];
        l->value->waits_for = m ? vm_job_mutex_owner(m) : NULL;
    }
    return list;
}
