/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of job/ share. */
#ifndef JOB_INT_H
#define JOB_INT_H

#include "job/job.h"

/*
 * Announces that job is about to wait for m (NULL: no longer), so that a cancel can reach
 * it.  Returns false if the job is cancelled already.  Called with m's lock held: that
 * lock comes before the one of job.c.
 */
bool job_set_vm_mutex(Job *job, VmJobMutex *m);

/* Ends job's wait for m; nothing happens if it has m already or does not wait. */
void vm_job_mutex_cancel_wait(VmJobMutex *m, Job *job);

#endif
