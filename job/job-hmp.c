/* SPDX-License-Identifier: GPL-2.0-or-later */
/* "info jobs" and "block_job_..." of the human monitor.  Coroutine of the session. */
#include "config-host.h"
#include <inttypes.h>
#include <string.h>
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

static void coroutine_fn hmp_info_block_jobs(HMPSession *s, const HMPArgs *args)
{
    g_autoptr(BlockJobInfoList) list = qmp_query_block_jobs(NULL);

    for (BlockJobInfoList *l = list; l; l = l->next) {
        const BlockJobInfo *job = l->value;

        hmp_printf(s, "Type %s, device %s: Completed %" PRId64 " of %" PRId64 " bytes, speed "
                      "limit %" PRId64 " bytes/s\n", JobType_str(job->type), job->device,
                   job->offset, job->len, job->speed);
    }
    if (!list) {
        hmp_printf(s, "No active jobs\n");
    }
}

static void coroutine_fn hmp_block_job_set_speed(HMPSession *s, const HMPArgs *args)
{
    GError *err = NULL;

    qmp_block_job_set_speed(hmp_arg_str(args, "device"), hmp_arg_int(args, "speed", 0), &err);
    hmp_handle_error(s, err);
}

static void coroutine_fn hmp_block_job_cancel(HMPSession *s, const HMPArgs *args)
{
    GError *err = NULL;

    qmp_block_job_cancel(hmp_arg_str(args, "device"), true, hmp_arg_flag(args, "force"), &err);
    hmp_handle_error(s, err);
}

#define BLOCK_JOB(verb) \
    static void coroutine_fn hmp_block_job_##verb(HMPSession *s, const HMPArgs *args) \
    { \
        GError *err = NULL; \
\
        qmp_block_job_##verb(hmp_arg_str(args, "device"), &err); \
        hmp_handle_error(s, err); \
    }
BLOCK_JOB(pause)
BLOCK_JOB(resume)
BLOCK_JOB(complete)

static void coroutine_fn complete_job(HMPCompletion *c, int nr)
{
    g_autoptr(JobInfoList) list = job_query_all();

    for (JobInfoList *l = list; nr == 0 && l; l = l->next) {
        hmp_complete_add(c, l->value->id);
    }
}

const HMPCommand job_hmp_commands[] = {
    {.name = "info jobs",
     .args_type = "",
     .params = "",
     .help = "show the jobs and how far they are",
     .handler = hmp_info_jobs},
    {.name = "info block-jobs",
     .args_type = "",
     .params = "",
     .help = "show progress of ongoing block device operations",
     .handler = hmp_info_block_jobs},
    {.name = "block_job_set_speed",
     .args_type = "device:B,speed:o",
     .params = "device speed",
     .help = "set maximum speed for a background block operation",
     .handler = hmp_block_job_set_speed,
     .complete = complete_job},
    {.name = "block_job_cancel",
     .args_type = "force:-f,device:B",
     .params = "[-f] device",
     .help = "stop an active background block operation (use -f\n\t\t\t"
             " if you want to abort the operation immediately\n\t\t\t"
             " instead of keep running until data is in sync)",
     .handler = hmp_block_job_cancel,
     .complete = complete_job},
    {.name = "block_job_complete",
     .args_type = "device:B",
     .params = "device",
     .help = "stop an active background block operation",
     .handler = hmp_block_job_complete,
     .complete = complete_job},
    {.name = "block_job_pause",
     .args_type = "device:B",
     .params = "device",
     .help = "pause an active background block operation",
     .handler = hmp_block_job_pause,
     .complete = complete_job},
    {.name = "block_job_resume",
     .args_type = "device:B",
     .params = "device",
     .help = "resume a paused background block operation",
     .handler = hmp_block_job_resume,
     .complete = complete_job},
    {NULL},
};
