/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The state machine of jobs as constant data: which moves and which requests exist. */
#include "config-host.h"
#include "job/job.h"

#define S(status) (1u << JOB_STATUS_##status)

/* Where a job may go from each state. */
static const unsigned transitions[JOB_STATUS__MAX] = {
    [JOB_STATUS_UNDEFINED] = S(CREATED),
    [JOB_STATUS_CREATED] = S(RUNNING) | S(ABORTING),
    [JOB_STATUS_RUNNING] = S(PAUSED) | S(READY) | S(WAITING) | S(ABORTING),
    [JOB_STATUS_PAUSED] = S(RUNNING),
    [JOB_STATUS_READY] = S(STANDBY) | S(WAITING) | S(ABORTING),
    [JOB_STATUS_STANDBY] = S(READY),
    [JOB_STATUS_WAITING] = S(PENDING) | S(ABORTING),
    [JOB_STATUS_PENDING] = S(CONCLUDED) | S(ABORTING),
    [JOB_STATUS_ABORTING] = S(CONCLUDED),
    [JOB_STATUS_CONCLUDED] = S(NULL),
    [JOB_STATUS_NULL] = 0,
};

#define AT_WORK (S(CREATED) | S(RUNNING) | S(PAUSED) | S(READY) | S(STANDBY))

/* In which states each request is accepted. */
static const unsigned verbs[JOB_VERB__MAX] = {
    [JOB_VERB_CANCEL] = AT_WORK | S(WAITING) | S(PENDING),
    [JOB_VERB_PAUSE] = AT_WORK,
    [JOB_VERB_RESUME] = AT_WORK,
    [JOB_VERB_SET_SPEED] = AT_WORK,
    [JOB_VERB_COMPLETE] = S(READY),
    [JOB_VERB_DISMISS] = S(CONCLUDED),
    [JOB_VERB_FINALIZE] = S(PENDING),
    [JOB_VERB_CHANGE] = AT_WORK,
};

bool job_transition_allowed(JobStatus from, JobStatus to)
{
    return transitions[from] & (1u << to);
}

bool job_verb_allowed(JobStatus status, JobVerb verb)
{
    return verbs[verb] & (1u << status);
}

bool job_type_is_block(JobType type)
{
    return type == JOB_TYPE_COMMIT || type == JOB_TYPE_STREAM || type == JOB_TYPE_MIRROR ||
           type == JOB_TYPE_BACKUP;
}
