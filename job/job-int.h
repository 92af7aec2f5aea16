/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of job/ share. */
#ifndef JOB_INT_H
#define JOB_INT_H

#include <pthread.h>
#include "job/job.h"

/* How fast a job may move bytes, and how far it is ahead of that; zeroed before init. */
typedef struct JobRate {
    pthread_mutex_t lock; /* leaf */
    uint64_t speed;       /* bytes per second; 0: no limit */
    uint64_t debt;        /* bytes moved that time has not paid for */
    int64_t since;        /* ns: up to when it has paid */
} JobRate;

void job_rate_init(JobRate *r);
void job_rate_destroy(JobRate *r);
/* now: clock_now_ns().  Any thread. */
void job_rate_set(JobRate *r, uint64_t speed, int64_t now);
uint64_t job_rate_speed(JobRate *r);
void job_rate_add(JobRate *r, uint64_t bytes, int64_t now);
bool job_rate_exceeded(JobRate *r, int64_t now);

/*
 * Announces that job is about to wait for m (NULL: no longer), so that a cancel can reach
 * it.  Returns false if the job is cancelled already.  Called with m's lock held: that
 * lock comes before the one of job.c.
 */
bool job_set_vm_mutex(Job *job, VmJobMutex *m);
bool job_is_open_ended(Job *job);

/* Ends job's wait for m; nothing happens if it has m already or does not wait. */
void vm_job_mutex_cancel_wait(VmJobMutex *m, Job *job);

#endif
