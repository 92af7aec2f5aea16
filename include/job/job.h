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
#include "qapi/hmp.h"
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
    /*
     * In place of run(), in the main thread, when the job was cancelled before it could begin:
     * takes back what was done when it was created.  May be NULL.
     */
    void coroutine_fn (*abandon)(void *opaque);
    /*
     * Called once after cancel was requested while run() is at work, to wake it up; in the
     * thread of whoever cancels, which need not be run()'s, and perhaps just as run()
     * returns.  May be NULL.
     */
    void (*cancel)(Job *job, void *opaque);
    /*
     * Main thread, once, after run() has succeeded: makes the result final (commit), or
     * takes it back because the job was cancelled while it waited for job-finalize.  May
     * be NULL; a driver without it must not be used with JOB_MANUAL_FINALIZE.
     */
    void (*settle)(Job *job, void *opaque, bool commit);
    /* Frees opaque, in the main thread, when the job is dismissed.  May be NULL. */
    void (*free)(void *opaque);
    /*
     * Adds to info what only the driver knows; what it adds as snapshot_stats is in the
     * concluding event, too.  Any thread, perhaps under the jobs' leaf mutex: it must not
     * call back here.  May be NULL.
     */
    void (*query)(Job *job, void *opaque, JobInfo *info);
    /* run() keeps to a speed limit (job_moved(), job_too_fast()). */
    bool has_speed;
    /* A peer outside decides how long run() takes: see vm_job_mutex_lock_soon(). */
    bool open_ended;
};

enum {
    JOB_DEFAULT = 0,
    JOB_MANUAL_FINALIZE = 1, /* stop in 'pending' until job-finalize */
    JOB_MANUAL_DISMISS = 2,  /* stay in 'concluded' until job-dismiss */
};

/*
 * Makes a job in state 'created'.  NULL and errp when id is taken or not well formed
 * (id NULL: a job without a name that no query shows).  Main thread.  On success opaque
 * belongs to the job.  The list of jobs holds the reference: take one before job_start()
 * if the job is used after it.
 */
Job *job_create(const char *id, const JobDriver *driver, AioContext *ctx, int flags,
                void *opaque, GError **errp);
/* Starts run() in its context.  The state goes to 'running'.  Main thread. */
void job_start(Job *job);
/*
 * Like job_start(), but the state stays 'created' (and the job can be cancelled) until
 * run() calls job_enter_running(), which does nothing to a job that is 'running' already.
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
 * A speed limit, for a driver with has_speed: what run() has moved, and whether it shall put
 * off what it would begin now.  Any thread.
 */
void job_moved(Job *job, uint64_t bytes);
bool job_too_fast(Job *job);
/* The limit, as job_set_speed_by_id() sets it, for a job that has it from elsewhere. */
void job_limit_speed(Job *job, uint64_t speed);

/*
 * Waits until the job is concluded.  Returns true on success, else sets errp to the
 * job's error ("Job was cancelled" for a cancelled one).  Takes no reference: hold one.
 */
bool coroutine_fn job_co_wait(Job *job, GError **errp);

/*
 * Requests, as by QMP.  false and errp if there is no such job ("Job not found") or its
 * state does not allow it.  finalize and dismiss: main thread.
 */
bool job_cancel_by_id(const char *id, bool force, GError **errp);
bool job_pause_by_id(const char *id, GError **errp);
bool job_resume_by_id(const char *id, GError **errp);
/* speed: bytes per second, 0 for no limit.  A job whose driver has no has_speed refuses. */
bool job_set_speed_by_id(const char *id, int64_t speed, GError **errp);
/* What JobInfo does not tell. */
typedef struct JobDetails {
    bool paused; /* it was asked to be */
    bool busy;   /* run() is at work */
    int flags;
    int64_t speed; /* bytes per second, 0 for no limit */
} JobDetails;
/* false if there is no such job. */
bool job_details_by_id(const char *id, JobDetails *details);
/* Whether jobs of the type are what QEMU calls block jobs. */
bool job_type_is_block(JobType type);
bool job_complete_by_id(const char *id, GError **errp);
bool job_finalize_by_id(const char *id, GError **errp);
bool job_dismiss_by_id(const char *id, GError **errp);
/* Asks job to give up, whoever started it; nothing happens when it is over. */
void job_cancel(Job *job, bool force);
/*
 * Cancels all jobs, with or without a name, and waits until they are concluded: before
 * the program ends.  Main thread.
 */
void coroutine_fn job_co_cancel_all(void);

/* All jobs that have a name, newest first: a new list. */
JobInfoList *job_query_all(void);
/*
 * What the state machine allows: moves from one state to another, and requests in a state.
 * Constant tables, for tests and messages.
 */
bool job_transition_allowed(JobStatus from, JobStatus to);
bool job_verb_allowed(JobStatus status, JobVerb verb);

/* "info jobs", "block_job_set_speed". */
extern const HMPCommand job_hmp_commands[];

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
/*
 * The same for a command, or a job without a name: what its client can do nothing about but wait
 * for does not wait behind an open-ended job; false and errp instead.
 */
bool coroutine_fn vm_job_mutex_lock_soon(VmJobMutex *m, Job *job, const char *owner,
                                         GError **errp);
void coroutine_fn vm_job_mutex_unlock(VmJobMutex *m);
/* For what waits by means of a job with a name: false and errp if the above would refuse owner. */
bool vm_job_mutex_check_soon(VmJobMutex *m, const char *owner, GError **errp);
/* Who holds it: a new string, or NULL. */
char *vm_job_mutex_owner(VmJobMutex *m);

#endif
