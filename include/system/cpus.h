/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The vCPU threads.  They execute guest code while nobody holds them: holds are counted, so
 * that a stopped guest, a reset and a snapshot can each keep them still on their own.
 * Functions without a remark: any thread.
 */
#ifndef SYSTEM_CPUS_H
#define SYSTEM_CPUS_H

#include "accel/accel.h"
#include "hw/irq.h"
#include "migration/vmstate.h"
#include "util/coroutine.h"

enum { CPUS_MAX = 8 };

/* The wire to interrupt bit of hart's mip; may be driven before the CPU exists. */
IrqLine cpus_irq(int hart, int bit);
/*
 * Makes n CPUs, config->index counting up from 0, and their threads.  They are held once.
 * Main thread, once.
 */
bool cpus_init(const CpuAccelOps *accel, const CpuConfig *config, int n, GError **errp);
/* Ends the threads and frees the CPUs.  Main thread; waits for an access in progress. */
void cpus_shutdown(void);
void cpus_register(VMStateRegistry *r);

void cpus_hold(void);
void cpus_release(void);
/* Returns when no vCPU executes guest code.  The caller has a hold. */
void coroutine_fn cpus_co_wait_stopped(void);
/*
 * A vCPU hangs on a page that cannot be read and will not stop: stuck lets
 * cpus_co_wait_stopped() return all the same.
 */
void cpus_set_stuck(bool stuck);
/* What cpus_set_stuck() was last told; any thread. */
bool cpus_stuck(void);

/* Stopped, machine lock held: architectural reset; dropping derived state. */
void cpus_reset(void);
void cpus_flush(void);
int cpus_count(void);
/* Kernel thread ids: *n of them (g_free). */
int *cpus_tids(int *n);
/*
 * Calls fn for CPU number index while it stands; the guest is held for that moment.  False
 * if there is no such CPU.  Main thread.
 */
bool coroutine_fn cpus_co_inspect(int index,
                                  void (*fn)(const CpuInspectOps *ops, CPUState *cpu,
                                             void *opaque),
                                  void *opaque);
/* What views are good for, in any thread; NULL without CPUs. */
const CpuInspectOps *cpus_inspect_ops(void);
/*
 * For a debugger: the first CPU, and what can be asked of its engine; NULL if there is none.
 * stop() is called in the CPU's thread when it meets what the debugger has set (CPU_EXIT_DEBUG),
 * and must hold the CPUs.  Main thread, while the CPUs stand.
 */
const CpuDebugOps *cpus_debug(CPUState **cpu, void (*stop)(void));
/* A CPU that waits for an interrupt shall run: the debugger has moved it.  CPUs stand. */
void cpus_unhalt(void);
/* Of all CPUs, which stand: as CpuAccelOps.recent_pages, each with its share of max. */
size_t cpus_recent_pages(uint64_t *pages, size_t max);

#endif
