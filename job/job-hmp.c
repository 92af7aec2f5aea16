/* SPDX-License-Identifier: GPL-2.0-or-later */
/* "info jobs" and "block_job_set_speed" of the human monitor.  Coroutine of the session. */
#include "config-host.h"
#include <inttypes.h>
#include "job/job.h"
#include "qapi/qapi-commands-job.h"

static void coroutine_fn hmp_info_jobs(HMPSession *s, const HMPArgs *args)
{
    g_autoptr(JobInfoList) list = qmp_query_jobs(NULL);

    if (!list) {
        hmp_printf(s, "No active jobs\n");
        return;
    }
    hmp_printf(s, "%-20s %-16s %-10s %s\n", "ID", "TYPE", "STATUS", "PROGRESS");
    for (JobInfoList *l = list; l; l = l->next) {
        const JobInfo *job = l->value;
        double percent = job->total_progress
                             ? 100.0 * (double)job->current_progress / (double)job->total_progress
                             : 0;

        hmp_printf(s, "%-20s %-16s %-10s %" PRId64 " of %" PRId64 " (%.0f%%)%s%s%s%s\n", job->id,
                   JobType_str(job->type), JobStatus_str(job->status), job->current_progress,
                   job->total_progress, percent, job->waits_for ? ", waits for " : "",
                   job->waits_for ? job->waits_for : "", job->error ? ", " : "",
                   job->error ? job->error : "");
    }
}

static void coroutine_fn hmp_block_job_set_speed(HMPSession *s, const HMPArgs *args)
{
    GError *err = NULL;

    qmp_block_job_set_speed(hmp_arg_str(args, "device"), hmp_arg_int(args, "speed", 0), &err);
    hmp_handle_error(s, err);
}

const HMPCommand job_hmp_commands[] = {
    {.name = "info jobs",
     .args_type = "",
     .params = "",
     .help = "show the jobs and how far they are",
     .handler = hmp_info_jobs},
    {.name = "block_job_set_speed",
     .args_type = "device:B,speed:o",
     .params = "device speed",
     .help = "set maximum speed for a background block operation",
     .handler = hmp_block_job_set_speed},
    {NULL},
};
