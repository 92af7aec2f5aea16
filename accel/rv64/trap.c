/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Traps: interrupt priorities and delegation, entry into handlers and return from them
 * (Priv, "Machine-Level ISA" and "Supervisor-Level ISA"), and the hart's own timer (Sstc).
 * vCPU thread; the interrupt wires are read atomically.
 */
#include "cpu.h"
#include "hw/vm-clock.h"
#include "util/log.h"

uint64_t rv64_mip(CPUState *cpu)
{
    uint64_t mip = cpu->mip_soft | __atomic_load_n(&cpu->irq_lines, __ATOMIC_SEQ_CST);

    if (cpu->menvcfg & MENVCFG_STCE) {
        mip = (mip & ~MIP_STIP) | (cpu->stip ? MIP_STIP : 0);
    }
    return mip;
}

uint64_t rv64_time(CPUState *cpu)
{
    return (uint64_t)((unsigned __int128)(uint64_t)vm_clock_ns() * cpu->config.timebase_hz /
                      1000000000u);
}

void rv64_timer_update(CPUState *cpu)
{
    cpu->stip = (cpu->menvcfg & MENVCFG_STCE) && cpu->stimecmp != UINT64_MAX &&
                rv64_time(cpu) >= cpu->stimecmp;
}

/* The interrupts that would be taken now, those for M-mode first. */
static uint64_t enabled_interrupts(CPUState *cpu)
{
    uint64_t pending = rv64_mip(cpu) & cpu->mie, machine, supervisor;

    if (!pending) {
        return 0;
    }
    machine = pending & ~cpu->mideleg;
    supervisor = pending & cpu->mideleg;
    if (machine && (cpu->priv < PRIV_M || (cpu->mstatus & MSTATUS_MIE))) {
        return machine;
    }
    if (supervisor && (cpu->priv < PRIV_S ||
                       (cpu->priv == PRIV_S && (cpu->mstatus & MSTATUS_SIE)))) {
        return supervisor;
    }
    return 0;
}

bool rv64_take_interrupt(CPUState *cpu)
{
    static const uint8_t order[] = {11, 3, 7, 9, 1, 5};
    uint64_t pending = enabled_interrupts(cpu);

    for (size_t i = 0; pending && i < G_N_ELEMENTS(order); i++) {
        if (pending & (UINT64_C(1) << order[i])) {
            rv64_trap(cpu, CAUSE_INTERRUPT | order[i], 0);
            return true;
        }
    }
    return false;
}

void rv64_check_interrupts(CPUState *cpu)
{
    if (enabled_interrupts(cpu)) {
        rv64_attention(cpu);
    }
}

static uint64_t vector(uint64_t tvec, uint64_t cause)
{
    uint64_t base = tvec & ~UINT64_C(3);

    if ((tvec & 1) && (cause & CAUSE_INTERRUPT)) {
        base += 4 * (cause & ~CAUSE_INTERRUPT);
    }
    return base;
}

/* -d int, in the form that readers of QEMU's know. */
static void log_trap(CPUState *cpu, uint64_t cause, uint64_t tval)
{
    static const char *const exceptions[] = {
        "misaligned_fetch", "fault_fetch", "illegal_instruction", "breakpoint",
        "misaligned_load", "fault_load", "misaligned_store", "fault_store", "user_ecall",
        "supervisor_ecall", "hypervisor_ecall", "machine_ecall", "exec_page_fault",
        "load_page_fault", "reserved", "store_page_fault"};
    static const char *const interrupts[] = {
        "u_software", "s_software", "vs_software", "m_software", "u_timer", "s_timer",
        "vs_timer", "m_timer", "u_external", "s_external", "vs_external", "m_external"};
    bool is_interrupt = cause & CAUSE_INTERRUPT;
    uint64_t n = cause & ~CAUSE_INTERRUPT;
    const char *name = is_interrupt ? (n < G_N_ELEMENTS(interrupts) ? interrupts[n] : "reserved")
                                    : (n < G_N_ELEMENTS(exceptions) ? exceptions[n] : "reserved");

    log_printf("riscv_cpu_do_interrupt: hart:%d, async:%d, cause:%016" G_GINT64_MODIFIER
               "x, epc:0x%016" G_GINT64_MODIFIER "x, tval:0x%016" G_GINT64_MODIFIER
               "x, desc=%s\n", cpu->config.index, is_interrupt, n, cpu->pc, tval, name);
}

void rv64_trap(CPUState *cpu, uint64_t cause, uint64_t tval)
{
    uint64_t deleg = cause & CAUSE_INTERRUPT ? cpu->mideleg : cpu->medeleg;
    uint64_t s = cpu->mstatus;

    if (log_enabled(LOG_INT)) {
        log_trap(cpu, cause, tval);
    }
    cpu->reserve_host = NULL;
    if (cpu->priv <= PRIV_S && (deleg >> (cause & 63) & 1)) {
        cpu->scause = cause;
        cpu->sepc = cpu->pc;
        cpu->stval = tval;
        s &= ~(MSTATUS_SPIE | MSTATUS_SPP);
        s |= (s & MSTATUS_SIE ? MSTATUS_SPIE : 0) | (cpu->priv == PRIV_S ? MSTATUS_SPP : 0);
        cpu->mstatus = s & ~MSTATUS_SIE;
        cpu->priv = PRIV_S;
        cpu->pc = vector(cpu->stvec, cause);
    } else {
        cpu->mcause = cause;
        cpu->mepc = cpu->pc;
        cpu->mtval = tval;
        s &= ~(MSTATUS_MPIE | MSTATUS_MPP);
        s |= (s & MSTATUS_MIE ? MSTATUS_MPIE : 0) |
             ((uint64_t)cpu->priv << MSTATUS_MPP_SHIFT);
        cpu->mstatus = s & ~MSTATUS_MIE;
        cpu->priv = PRIV_M;
        cpu->pc = vector(cpu->mtvec, cause);
    }
    rv64_update_context(cpu);
    if (unlikely(cpu->stepping)) {
        rv64_debug_trapped(cpu);
    }
}

bool rv64_mret(CPUState *cpu)
{
    uint64_t s = cpu->mstatus;
    int priv = (s & MSTATUS_MPP) >> MSTATUS_MPP_SHIFT;

    if (cpu->priv < PRIV_M) {
        return false;
    }
    s &= ~(MSTATUS_MIE | MSTATUS_MPP);
    s |= (s & MSTATUS_MPIE ? MSTATUS_MIE : 0);
    s |= MSTATUS_MPIE;
    if (priv != PRIV_M) {
        s &= ~MSTATUS_MPRV;
    }
    cpu->mstatus = s;
    cpu->priv = priv;
    cpu->pc = cpu->mepc;
    rv64_update_context(cpu);
    rv64_check_interrupts(cpu);
    return true;
}

bool rv64_sret(CPUState *cpu)
{
    uint64_t s = cpu->mstatus;

    if (cpu->priv < PRIV_S || (cpu->priv == PRIV_S && (s & MSTATUS_TSR))) {
        return false;
    }
    cpu->priv = s & MSTATUS_SPP ? PRIV_S : PRIV_U;
    s &= ~(MSTATUS_SIE | MSTATUS_SPP | MSTATUS_MPRV);
    s |= (s & MSTATUS_SPIE ? MSTATUS_SIE : 0);
    cpu->mstatus = s | MSTATUS_SPIE;
    cpu->pc = cpu->sepc;
    rv64_update_context(cpu);
    rv64_check_interrupts(cpu);
    return true;
}
