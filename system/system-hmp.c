/* SPDX-License-Identifier: GPL-2.0-or-later */
/* HMP commands about the machine as a whole: thin clients of the QMP handlers. */
#include "qapi/qapi-commands-control.h"
#include "qapi/qapi-commands-machine.h"
#include "qapi/qapi-commands-run-state.h"
#include "system-int.h"

static void coroutine_fn hmp_info_status(HMPSession *s, const HMPArgs *args)
{
    StatusInfo *info = qmp_query_status(NULL);

    hmp_printf(s, "VM status: %s", info->running ? "running" : "paused");
    if (!info->running && info->status != RUN_STATE_PAUSED) {
        hmp_printf(s, " (%s)", RunState_str(info->status));
    }
    hmp_printf(s, "\n");
    qapi_free_StatusInfo(info);
}

static void coroutine_fn hmp_info_name(HMPSession *s, const HMPArgs *args)
{
    NameInfo *info = qmp_query_name(NULL);

    if (info->name) {
        hmp_printf(s, "%s\n", info->name);
    }
    qapi_free_NameInfo(info);
}

static void coroutine_fn hmp_info_uuid(HMPSession *s, const HMPArgs *args)
{
    UuidInfo *info = qmp_query_uuid(NULL);

    hmp_printf(s, "%s\n", info->UUID);
    qapi_free_UuidInfo(info);
}

static void coroutine_fn hmp_info_vm_generation_id(HMPSession *s, const HMPArgs *args)
{
    GError *err = NULL;
    GuidInfo *info = qmp_query_vm_generation_id(&err);

    if (info) {
        hmp_printf(s, "%s\n", info->guid);
    }
    hmp_handle_error(s, err);
    qapi_free_GuidInfo(info);
}

static void coroutine_fn hmp_info_cpus(HMPSession *s, const HMPArgs *args)
{
    CpuInfoFastList *list = qmp_query_cpus_fast(NULL);

    for (CpuInfoFastList *e = list; e; e = e->next) {
        hmp_printf(s, "%c CPU #%" G_GINT64_FORMAT ": thread_id=%" G_GINT64_FORMAT "\n",
                   e == list ? '*' : ' ', e->value->cpu_index, e->value->thread_id);
    }
    qapi_free_CpuInfoFastList(list);
}

static void coroutine_fn hmp_info_iothreads(HMPSession *s, const HMPArgs *args)
{
    IOThreadInfoList *list = qmp_query_iothreads(NULL);

    for (IOThreadInfoList *e = list; e; e = e->next) {
        hmp_printf(s, "%s:\n  thread_id=%" G_GINT64_FORMAT "\n", e->value->id,
                   e->value->thread_id);
    }
    qapi_free_IOThreadInfoList(list);
}

#define CALL(name) \
    static void coroutine_fn hmp_##name(HMPSession *s, const HMPArgs *args) \
    { \
        GError *err = NULL; \
\
        qmp_##name(&err); \
        hmp_handle_error(s, err); \
    }
CALL(stop)
CALL(cont)
CALL(quit)
CALL(system_reset)
CALL(system_powerdown)

const HMPCommand system_hmp_commands[] = {
    {"stop|s", "", "", "stop emulation", hmp_stop},
    {"cont|c", "", "", "resume emulation", hmp_cont},
    {"quit|q", "", "", "quit the emulator", hmp_quit},
    {"system_reset", "", "", "reset the system", hmp_system_reset},
    {"system_powerdown", "", "", "send system power down event", hmp_system_powerdown},
    {"info status", "", "", "show the current VM status (running|paused)", hmp_info_status},
    {"info name", "", "", "show the current VM name", hmp_info_name},
    {"info uuid", "", "", "show the current VM UUID", hmp_info_uuid},
    {"info vm-generation-id", "", "", "show the VM generation ID", hmp_info_vm_generation_id},
    {"info cpus", "", "", "show infos for each CPU", hmp_info_cpus},
    {"info iothreads", "", "", "show iothreads", hmp_info_iothreads},
    {NULL},
};
