/* SPDX-License-Identifier: GPL-2.0-or-later */
/* HMP commands about the machine as a whole: thin clients of the QMP handlers. */
#include <inttypes.h>
#include <string.h>
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
        const IOThreadInfo *t = e->value;

        hmp_printf(s, "%s:\n  thread_id=%" PRId64 "\n  poll-max-ns=%" PRId64 "\n", t->id,
                   t->thread_id, t->poll_max_ns);
        hmp_printf(s, "  poll-grow=%" PRId64 "\n  poll-shrink=%" PRId64 "\n", t->poll_grow,
                   t->poll_shrink);
        hmp_printf(s, "  aio-max-batch=%" PRId64 "\n", t->aio_max_batch);
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
CALL(system_wakeup)

static void coroutine_fn hmp_nmi(HMPSession *s, const HMPArgs *args)
{
    GError *err = NULL;

    qmp_inject_nmi(&err);
    hmp_handle_error(s, err);
}

static void coroutine_fn hmp_watchdog_action(HMPSession *s, const HMPArgs *args)
{
    const char *name = hmp_arg_str(args, "action");
    GError *err = NULL;

    for (int i = 0; i < WATCHDOG_ACTION__MAX; i++) {
        if (!strcmp(WatchdogAction_str(i), name)) {
            qmp_watchdog_set_action(i, &err);
            hmp_handle_error(s, err);
            return;
        }
    }
    hmp_printf(s, "Error: invalid parameter value: %s\n", name);
}

static void coroutine_fn complete_watchdog_action(HMPCompletion *c, int nr)
{
    for (int i = 0; nr == 0 && i < WATCHDOG_ACTION__MAX; i++) {
        hmp_complete_add(c, WatchdogAction_str(i));
    }
}

static void coroutine_fn hmp_info_memory_size_summary(HMPSession *s, const HMPArgs *args)
{
    g_autoptr(MemoryInfo) info = qmp_query_memory_size_summary(NULL);

    hmp_printf(s, "base memory: %" PRIu64 "\n", info->base_memory);
}

static void coroutine_fn hmp_info_kvm(HMPSession *s, const HMPArgs *args)
{
    hmp_printf(s, "kvm support: not compiled\n");
}

const HMPCommand system_hmp_commands[] = {
    {"stop|s", "", "", "stop emulation", hmp_stop},
    {"cont|c", "", "", "resume emulation", hmp_cont},
    {"quit|q", "", "", "quit the emulator", hmp_quit},
    {"system_reset", "", "", "reset the system", hmp_system_reset},
    {"system_powerdown", "", "", "send system power down event", hmp_system_powerdown},
    {"system_wakeup", "", "", "wakeup guest from suspend", hmp_system_wakeup},
    {"nmi", "", "", "inject an NMI", hmp_nmi},
    {"watchdog_action", "action:s", "[reset|shutdown|poweroff|pause|debug|none]",
     "change watchdog action", hmp_watchdog_action, complete_watchdog_action},
    {"info status", "", "", "show the current VM status (running|paused)", hmp_info_status},
    {"info name", "", "", "show the current VM name", hmp_info_name},
    {"info uuid", "", "", "show the current VM UUID", hmp_info_uuid},
    {"info vm-generation-id", "", "", "Show Virtual Machine Generation ID", hmp_info_vm_generation_id},
    {"info cpus", "", "", "show infos for each CPU", hmp_info_cpus},
    {"info memory_size_summary", "", "",
     "show the amount of initially allocated and present hotpluggable (if enabled) memory in "
     "bytes.", hmp_info_memory_size_summary},
    {"info kvm", "", "", "show KVM information", hmp_info_kvm},
    {"info iothreads", "", "", "show iothreads", hmp_info_iothreads},
    {NULL},
};
