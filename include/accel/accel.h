/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A CPU engine executes guest code for one vCPU.  system/ runs one thread per vCPU around
 * cpu_run(); everything an engine needs of the machine comes through CpuConfig.
 */
#ifndef ACCEL_ACCEL_H
#define ACCEL_ACCEL_H

#include <glib.h>
#include "hw/address-space.h"
#include "migration/vmstate.h"

typedef struct CPUState CPUState;

typedef enum CpuExit {
    CPU_EXIT_KICKED, /* cpu_kick() was called */
    CPU_EXIT_HALTED, /* the guest waits for an interrupt (WFI) and none is pending */
    CPU_EXIT_DEBUG,  /* CpuDebugOps: a step is done, a breakpoint or watchpoint is met */
} CpuExit;

typedef enum CpuStopKind { CPU_STOP_STEP, CPU_STOP_BREAKPOINT, CPU_STOP_WATCHPOINT } CpuStopKind;
typedef enum CpuWatch { CPU_WATCH_READ = 1, CPU_WATCH_WRITE = 2, CPU_WATCH_ACCESS = 3 } CpuWatch;

/* Why run() last returned CPU_EXIT_DEBUG; addr and watch: the watchpoint as it was set. */
typedef struct CpuStop {
    CpuStopKind kind;
    CpuWatch watch;
    uint64_t addr;
} CpuStop;

/*
 * What a debugger needs of an engine.  Unless a remark says otherwise the CPU stands and the
 * machine lock is held.  Addresses are virtual, as the guest's code uses them.
 */
typedef struct CpuDebugOps {
    /* The registers as a GDB target description; numbers below are those in it. */
    const char *(*description)(void);
    unsigned core_registers; /* the first ones, each of 64 bits: what "g" sends */
    /* False if there is no such register, or it cannot be written. */
    bool (*read_register)(CPUState *cpu, unsigned n, uint64_t *value);
    bool (*write_register)(CPUState *cpu, unsigned n, uint64_t value);
    /* False: there are too many, or there is none to remove. */
    bool (*set_breakpoint)(CPUState *cpu, uint64_t addr, bool insert);
    bool (*set_watchpoint)(CPUState *cpu, uint64_t addr, uint64_t len, CpuWatch watch,
                           bool insert);
    /* The next run() ends after one instruction, in which no interrupt is taken. */
    void (*set_step)(CPUState *cpu, bool on);
    /* Removes all of these. */
    void (*clear)(CPUState *cpu);
    CpuStop (*last_stop)(CPUState *cpu);
    /* How the CPU sees memory now, for access_memory(); 0 are physical addresses. */
    uint64_t (*address_view)(CPUState *cpu);
    /*
     * Copies len bytes out of memory or into it, without any other effect on the guest; false
     * if part of it is not RAM (or ROM, for reading).  It may wait for RAM that a load has not
     * brought yet: any thread but the main one, no lock held.
     */
    bool (*access_memory)(CPUState *cpu, uint64_t view, uint64_t addr, void *buf, size_t len,
                          bool write);
} CpuDebugOps;

typedef struct CpuConfig {
    int index;            /* hart id */
    uint64_t reset_pc;
    AddressSpace *as;
    uint64_t timebase_hz; /* of the time counter; it follows hw/vm-clock.h */
    /* The machine lock, taken by the engine around device accesses. */
    void (*lock)(void *opaque);
    void (*unlock)(void *opaque);
    void *lock_opaque;
} CpuConfig;

/* How a CPU saw memory at some moment; a copy, good for any thread. */
typedef struct CpuView {
    uint64_t root; /* guest physical address of the page table */
    int levels;    /* of the page table; 0: there is none */
    bool physical; /* addresses are not translated now */
} CpuView;

/* What a user sees of a CPU, without effect on the guest. */
typedef struct CpuInspectOps {
    /* Not while running. */
    void (*get_view)(CPUState *cpu, CpuView *view);
    void (*print_registers)(CPUState *cpu, GString *out);
    void (*core_registers)(CPUState *cpu, uint64_t regs[32]); /* pc, x1 to x31 */
    /*
     * These two may wait for RAM that a load has not brought yet: any thread but the main
     * one, no lock held.  False: nothing is mapped at va.
     */
    bool (*translate)(const CpuView *view, AddressSpace *as, uint64_t va, uint64_t *pa);
    void (*print_mappings)(const CpuView *view, AddressSpace *as, GString *out);
} CpuInspectOps;

typedef struct CpuAccelOps {
    const char *name; /* "tcg" for the interpreter's slot in QEMU's -accel */
    CPUState *(*create)(const CpuConfig *config, GError **errp);
    void (*destroy)(CPUState *cpu);
    /* Executes guest code until something needs the caller.  vCPU thread, no lock held. */
    CpuExit (*run)(CPUState *cpu);
    /* Makes run() return soon.  Any thread, signal safe. */
    void (*kick)(CPUState *cpu);
    /* Architectural reset.  Not while running. */
    void (*reset)(CPUState *cpu);
    /*
     * Interrupt wires into the CPU, by mip bit number (3 MSIP, 7 MTIP, 9 SEIP, 11 MEIP).
     * Any thread, lock free; ends a halt (through the wake function).
     */
    void (*set_irq)(CPUState *cpu, int bit, bool level);
    /* Whether an enabled interrupt is pending: a halted CPU must run again. */
    bool (*has_work)(CPUState *cpu);
    /* Called by the engine (any thread) when a halted CPU should look again. */
    void (*set_wake)(CPUState *cpu, void (*wake)(void *opaque), void *opaque);
    /*
     * CLOCK_MONOTONIC time in ns at which the CPU's own timer (stimecmp) will raise an
     * interrupt, INT64_MAX if none.  vCPU thread.
     */
    int64_t (*next_deadline)(CPUState *cpu);
    /* Drops all derived state: TLB, translated blocks.  Not while running. */
    void (*flush)(CPUState *cpu);
    /* State description, registered as section "cpu". */
    const VMStateDescription *vmsd;
    uint64_t (*get_pc)(CPUState *cpu);
    /*
     * Guest physical addresses of pages used a short while ago, at most max; returns their
     * number.  Not while running.
     */
    size_t (*recent_pages)(CPUState *cpu, uint64_t *pages, size_t max);
    const CpuInspectOps *inspect;
    const CpuDebugOps *debug; /* NULL: the engine cannot be debugged */
} CpuAccelOps;

/* accel/rv64 */
extern const CpuAccelOps rv64_accel_ops;
/* "rv64imafdc_zicsr_..." for the device tree. */
const char *rv64_isa_string(void);

#endif
