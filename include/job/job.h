/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Jobs: long-running work with QEMU's states, progress, pause, cancel and events
 * (JOB_STATUS_CHANGE, emitted at every change of state).
 *
 * A job's run() is a coroutine in the AioContext given at creation; it may move between
 * contexts.  States and fields that others look at are guarded by one leaf mutex inside
 * job.c, so every function here may be called from any thread unless it says otherwise.
 */
#ifndef JOB_JOB_H
#define JOB_JOB_H

#include <glib.h>
#include "util/aio.h"
#include "qapi/qapi-types-job.h" /* JobType, JobStatus, JobVerb, JobInfo */

typedef struct Job Job;
typedef struct JobDriver JobDriver;

struct JobDriver {
    JobType type;
    /*
     * The work.  Returns true on success, else sets errp.  A driver that noticed
     * job_is_cancelled() undoes what it did and returns false (errp may stay unset).
     */
    bool coroutine_fn (*run)(Job *job, void *opaque, GError **errp);
    /* Called once after cancel was requested, to wake the work up.  May be NULL. */
    void (*cancel)(Job *job, void *opaque);
    /* Frees opaque, in the main thread, when the job is dismissed.  May be NULL. */
    void (*free)(void *opaque);
};

enum {
    JOB_DEFAULT = 0,
    JOB_MANUAL_FINALIZE = 1, /* stop in 'pending' until job-finalize */
    JOB_MANUAL_DISMISS = 2,  /* stay in 'concluded' until job-dismiss */
};

/*
 * Makes a job in state 'created'.  NULL and errp when id is taken or not well formed
 * (id NULL: a job without a name that no query shows).  Main thread.  On success opaque
 * belongs to the job.
 */
Job *job_create(const char *id, const JobDriver *driver, AioContext *ctx, int flags,
                void *opaque, GError **errp);
/* Starts run() in its context.  The state goes to 'running'.  Main thread. */
void job_start(Job *job);
/*
 * Like job_start(), but the state stays 'created' (and the job can be cancelled) until
 * run() calls job_enter_running().
 */
void job_start_waiting(Job *job);
void job_enter_running(Job *job);

Job *job_ref(Job *job);
void job_unref(Job *job);
const char *job_id(Job *job); /* NULL for a job without a name */
JobStatus job_status(Job *job);
bool job_is_cancelled(Job *job);

/* A good place to pause: honours job-pause, yields briefly.  In run() only. */
void coroutine_fn job_pause_point(Job *job);

/* Progress in the job's own unit (bytes where it moves bytes). */
void job_progress_set_total(Job *job, uint64_t total);
void job_progress_add(Job *job, uint64_t done);

/*
 * Waits until the job is concluded.  Returns true on success, else sets errp to the
 * job's error ("Job was cancelled" for a cancelled one).  Takes no reference: hold one.
 */
bool coroutine_fn job_co_wait(Job *job, GError **errp);

/* Requests.  false and errp if there is no such job or the state does not allow it. */
bool job_cancel_by_id(const char *id, bool force, GError **errp);
void job_cancel(Job *job, bool force);

/*
 * The VM job mutex: serialises whatever changes the machine as a whole.  Fair; a waiting
 * job can be cancelled.
 */
typedef struct VmJobMutex VmJobMutex;
VmJobMutex *vm_job_mutex_new(void);
void vm_job_mutex_free(VmJobMutex *m);
/*
 * Waits for the mutex on behalf of job (NULL: cannot be cancelled); owner is a readable
 * name for what is going to happen, e.g. "snapshot-save 'job0'".  false and errp if the
 * job was cancelled first.
 */
bool coroutine_fn vm_job_mutex_lock(VmJobMutex *m, Job *job, const char *owner, GError **errp);
void coroutine_fn vm_job_mutex_unlock(VmJobMutex *m);
/* Who holds it: a new string, or NULL. */
char *vm_job_mutex_owner(VmJobMutex *m);

#endif
