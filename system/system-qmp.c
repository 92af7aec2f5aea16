/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QMP commands about the machine as a whole.  Each runs in the coroutine of its session, in
 * the main thread.
 */
#include "block/active.h"
#include "hw/riscv/virt.h"
#include "migration/machine.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-control.h"
#include "qapi/qapi-commands-machine.h"
#include "qapi/qapi-commands-run-state.h"
#include "qapi/qapi-events-run-state.h"
#include "qapi/util.h"
#include "system-int.h"
#include "system/cpus.h"
#include "system/run-state.h"
#include "util/iothreads.h"

StatusInfo *coroutine_fn qmp_query_status(GError **errp)
{
    StatusInfo *info = g_new0(StatusInfo, 1);

    info->status = run_state();
    info->running = info->status == RUN_STATE_RUNNING;
    return info;
}

void coroutine_fn qmp_stop(GError **errp)
{
    run_state_co_stop(RUN_STATE_PAUSED);
    disks_co_flush();
}

void coroutine_fn qmp_cont(GError **errp)
{
    /* After a migration the disks may be the other side's; a machine that runs has them. */
    if (run_state() != RUN_STATE_INMIGRATE && run_state() != RUN_STATE_FINISH_MIGRATE &&
        !bdrv_co_activate_all(errp)) {
        return;
    }
    run_state_co_cont(errp);
}

static bool reset_waits;

/*
 * Once whoever changes the machine now is done with it; unless the program ends, and with it
 * the load that was waited for.
 */
static void coroutine_fn reset_entry(void *opaque)
{
    Machine *m = opaque;

    vm_job_mutex_lock(m->job_mutex, NULL, "system_reset", NULL);
    reset_waits = false;
    if (!__atomic_load_n(&m->ending, __ATOMIC_SEQ_CST)) {
        run_state_co_reset(SHUTDOWN_CAUSE_HOST_QMP_SYSTEM_RESET);
    }
    vm_job_mutex_unlock(m->job_mutex);
}

/*
 * A load replaces the machine under a reset, so the reset has its turn behind it: the client
 * has its answer at once, and the event RESET when it is done.  Several that wait are one.
 */
void coroutine_fn qmp_system_reset(GError **errp)
{
    Machine *m = machine_get();

    if (m && __atomic_load_n(&m->loading, __ATOMIC_SEQ_CST)) {
        if (!reset_waits) {
            reset_waits = true;
            aio_co_schedule(main_aio_context(), coroutine_create(reset_entry, m));
        }
        return;
    }
    run_state_co_reset(SHUTDOWN_CAUSE_HOST_QMP_SYSTEM_RESET);
}

/* The virt board has no power button: clients learn that it was asked for, no more. */
void coroutine_fn qmp_system_powerdown(GError **errp)
{
    qapi_event_send_powerdown();
}

void coroutine_fn qmp_system_wakeup(GError **errp)
{
    error_setg(errp, "wake-up from suspend is not supported by this guest");
}

void coroutine_fn qmp_inject_nmi(GError **errp)
{
    error_setg(errp, "this feature or command is not currently supported");
}

/* No device of the machines reports a panic or has a watchdog: nothing would look at these. */
void coroutine_fn qmp_set_action(bool has_reboot, RebootAction reboot, bool has_shutdown,
                                 ShutdownAction shutdown, bool has_panic, PanicAction panic,
                                 bool has_watchdog, WatchdogAction watchdog, GError **errp)
{
    if (has_reboot) {
        run_state_set_reboot_action(reboot);
    }
    if (has_shutdown) {
        run_state_set_shutdown_action(shutdown);
    }
}

void coroutine_fn qmp_watchdog_set_action(WatchdogAction action, GError **errp)
{
}

void coroutine_fn qmp_quit(GError **errp)
{
    run_state_request_shutdown(SHUTDOWN_CAUSE_HOST_QMP_QUIT, 0);
}

NameInfo *coroutine_fn qmp_query_name(GError **errp)
{
    NameInfo *info = g_new0(NameInfo, 1);

    info->name = g_strdup(vm_options()->name);
    return info;
}

UuidInfo *coroutine_fn qmp_query_uuid(GError **errp)
{
    UuidInfo *info = g_new0(UuidInfo, 1);
    const char *uuid = vm_options()->uuid;

    info->UUID = g_strdup(uuid ? uuid : "00000000-0000-0000-0000-000000000000");
    return info;
}

GuidInfo *coroutine_fn qmp_query_vm_generation_id(GError **errp)
{
    char *guid = vm_generation_id();
    GuidInfo *info;

    if (!guid) {
        error_setg(errp, "VM Generation ID device not found");
        return NULL;
    }
    info = g_new0(GuidInfo, 1);
    info->guid = guid;
    return info;
}

CpuInfoFastList *coroutine_fn qmp_query_cpus_fast(GError **errp)
{
    CpuInfoFastList *list = NULL, **tail = &list;
    int n;
    g_autofree int *tids = cpus_tids(&n);

    for (int i = 0; i < n; i++) {
        CpuInfoFast *cpu = g_new0(CpuInfoFast, 1);

        cpu->cpu_index = i;
        cpu->qom_path = g_strdup_printf("/machine/soc0/harts[%d]", i);
        cpu->thread_id = tids[i];
        cpu->props = g_new0(CpuInstanceProperties, 1);
        cpu->props->has_core_id = true;
        cpu->props->core_id = i;
        cpu->target = g_strdup("riscv64");
        QAPI_LIST_APPEND(tail, cpu);
    }
    return list;
}

static void add_iothread(IOThread *thread, void *opaque)
{
    IOThreadInfoList ***tail = opaque;
    IOThreadInfo *info = g_new0(IOThreadInfo, 1);
    AioPolling polling = aio_polling(iothread_context(thread));

    info->id = g_strdup(iothread_name(thread));
    info->thread_id = iothread_tid(thread);
    info->poll_max_ns = polling.max_ns;
    info->poll_grow = polling.grow;
    info->poll_shrink = polling.shrink;
    info->aio_max_batch = polling.max_batch;
    QAPI_LIST_APPEND(*tail, info);
}

IOThreadInfoList *coroutine_fn qmp_query_iothreads(GError **errp)
{
    IOThreadInfoList *list = NULL, **tail = &list;

    iothreads_for_each(add_iothread, &tail);
    return list;
}

CpuDefinitionInfoList *coroutine_fn qmp_query_cpu_definitions(GError **errp)
{
    CpuDefinitionInfoList *list = NULL, **tail = &list;

    for (int i = 0; i < CPU_MODEL__MAX; i++) {
        CpuDefinitionInfo *info = g_new0(CpuDefinitionInfo, 1);

        info->name = g_strdup(CpuModel_str(i));
        info->q_typename = g_strdup("rv64-riscv-cpu");
        info->alias_of = i == CPU_MODEL_RV64 ? NULL : g_strdup(CpuModel_str(CPU_MODEL_RV64));
        QAPI_LIST_APPEND(tail, info);
    }
    return list;
}

static MachineInfo *machine_info(MachineType type)
{
    MachineInfo *info = g_new0(MachineInfo, 1);

    info->name = g_strdup(MachineType_str(type));
    info->cpu_max = 1;
    if (type == MACHINE_TYPE_VIRT) {
        info->has_is_default = true;
        info->is_default = true;
        info->default_cpu_type = g_strdup("rv64-riscv-cpu");
        info->default_ram_id = g_strdup("riscv_virt_board.ram");
    }
    return info;
}

MachineInfoList *coroutine_fn qmp_query_machines(GError **errp)
{
    MachineInfoList *list = NULL, **tail = &list;

    for (int i = 0; i < MACHINE_TYPE__MAX; i++) {
        QAPI_LIST_APPEND(tail, machine_info(i));
    }
    return list;
}

MemoryInfo *coroutine_fn qmp_query_memory_size_summary(GError **errp)
{
    MemoryInfo *info = g_new0(MemoryInfo, 1);

    info->base_memory = vm_ram_size();
    return info;
}

TargetInfo *coroutine_fn qmp_query_target(GError **errp)
{
    TargetInfo *info = g_new0(TargetInfo, 1);

    info->arch = SYS_EMU_TARGET_RISCV64;
    return info;
}

/* Guest code is interpreted: it is not, and could not be. */
KvmInfo *coroutine_fn qmp_query_kvm(GError **errp)
{
    return g_new0(KvmInfo, 1);
}

/* A guest that sleeps is not woken. */
CurrentMachineParams *coroutine_fn qmp_query_current_machine(GError **errp)
{
    return g_new0(CurrentMachineParams, 1);
}

HotpluggableCPUList *coroutine_fn qmp_query_hotpluggable_cpus(GError **errp)
{
    error_setg(errp, "The feature 'query-hotpluggable-cpus' is not enabled");
    return NULL;
}

MemdevList *coroutine_fn qmp_query_memdev(GError **errp)
{
    MemdevList *list = NULL;
    Memdev *info;

    if (vm_ram_size()) {
        info = g_new0(Memdev, 1);
        info->id = g_strdup(vm_ram_id());
        info->size = vm_ram_size();
        info->merge = vm_options()->mem_merge;
        info->dump = !vm_options()->no_core;
        info->prealloc = vm_options()->prealloc;
        info->has_reserve = true; /* it is not: the RAM is mapped with MAP_NORESERVE */
        info->policy = HOST_MEM_POLICY_DEFAULT;
        QAPI_LIST_PREPEND(list, info);
    }
    return list;
}

MemoryDeviceInfoList *coroutine_fn qmp_query_memory_devices(GError **errp)
{
    return NULL;
}
