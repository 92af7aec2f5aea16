/* SPDX-License-Identifier: GPL-2.0-or-later */
/* QMP commands about jobs.  Main thread; none of them yields. */
#include "config-host.h"
#include "job/job.h"
#include "qapi/qapi-commands-job.h"

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

void coroutine_fn qmp_block_job_set_speed(const char *device, int64_t speed, GError **errp)
{
    job_set_speed_by_id(device, speed, errp);
}

JobInfoList *coroutine_fn qmp_query_jobs(GError **errp)
{
    return job_query_all();
}
