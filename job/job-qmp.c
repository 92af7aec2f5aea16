/* SPDX-License-Identifier: GPL-2.0-or-later */
/* QMP commands about jobs.  Main thread; none of them yields. */
#include "config-host.h"
#include "job/job.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-job.h"
#include "qapi/util.h"

void coroutine_fn qmp_job_pause(const char *id, GError **errp)
{
    job_pause_by_id(id, errp);
}

void coroutine_fn qmp_job_resume(const char *id, GError **errp)
{
    job_resume_by_id(id, errp);
}

void coroutine_fn qmp_job_cancel(const char *id, GError **errp)
{
    job_cancel_by_id(id, true, errp);
}

void coroutine_fn qmp_job_complete(const char *id, GError **errp)
{
    job_complete_by_id(id, errp);
}

void coroutine_fn qmp_job_finalize(const char *id, GError **errp)
{
    job_finalize_by_id(id, errp);
}

void coroutine_fn qmp_job_dismiss(const char *id, GError **errp)
{
    job_dismiss_by_id(id, errp);
}

JobInfoList *coroutine_fn qmp_query_jobs(GError **errp)
{
    return job_query_all();
}

/* --- The older commands, which QEMU has for jobs that copy disks; here for any ------------------- */

/* What is told of the job; false and errp, in the words of those commands, if there is none. */
static bool find_block_job(const char *id, JobDetails *details, GError **errp)
{
    bool found = job_details_by_id(id, details);

    if (!found) {
        error_set_class(errp, QAPI_ERROR_DEVICE_NOT_ACTIVE, "Block job '%s' not found", id);
    }
    return found;
}

void coroutine_fn qmp_block_job_set_speed(const char *device, int64_t speed, GError **errp)
{
    JobDetails details;

    if (find_block_job(device, &details, errp)) {
        job_set_speed_by_id(device, speed, errp);
    }
}

void coroutine_fn qmp_block_job_cancel(const char *device, bool has_force, bool force,
                                       GError **errp)
{
    JobDetails details;

    if (!find_block_job(device, &details, errp)) {
        return;
    }
    if (details.paused && !(has_force && force)) {
        error_setg(errp, "The block job for device '%s' is currently paused", device);
        return;
    }
    job_cancel_by_id(device, has_force && force, errp);
}

#define BLOCK_JOB(verb) \
    void coroutine_fn qmp_block_job_##verb(const char *id, GError **errp) \
    { \
        JobDetails details; \
\
        if (find_block_job(id, &details, errp)) { \
            job_##verb##_by_id(id, errp); \
        } \
    }
BLOCK_JOB(pause)
BLOCK_JOB(resume)
BLOCK_JOB(complete)
BLOCK_JOB(finalize)
BLOCK_JOB(dismiss)

static BlockJobInfo *describe(const JobInfo *job, const JobDetails *details)
{
    BlockJobInfo *info = g_new0(BlockJobInfo, 1);

    info->type = job->type;
    info->device = g_strdup(job->id);
    info->len = job->total_progress;
    info->offset = job->current_progress;
    info->busy = details->busy;
    info->paused = details->paused;
    info->speed = details->speed;
    info->io_status = BLOCK_DEVICE_IO_STATUS_OK;
    info->ready = job->status == JOB_STATUS_READY || job->status == JOB_STATUS_STANDBY;
    info->status = job->status;
    info->auto_finalize = !(details->flags & JOB_MANUAL_FINALIZE);
    info->auto_dismiss = !(details->flags & JOB_MANUAL_DISMISS);
    info->error = g_strdup(job->error);
    return info;
}

BlockJobInfoList *coroutine_fn qmp_query_block_jobs(GError **errp)
{
    g_autoptr(JobInfoList) jobs = job_query_all();
    BlockJobInfoList *list = NULL, **tail = &list;
    JobDetails details;

    for (JobInfoList *l = jobs; l; l = l->next) {
        if (job_type_is_block(l->value->type) && job_details_by_id(l->value->id, &details)) {
            QAPI_LIST_APPEND(tail, describe(l->value, &details));
        }
    }
    return list;
}
