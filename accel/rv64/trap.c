/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Traps: interrupt priorities and delegation, entry into handlers and return from them
 * (Priv, "Machine-Level ISA" and "Supervisor-Level ISA"), and the hart's own timer (Sstc).
 * vCPU thread; the interrupt wires are read atomically.
 */
#include "cpu.h"
#include "hw/vm-clock.h"

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

void rv64_trap(CPUState *cpu, uint64_t cause, uint64_t tval)
{
    uint64_t deleg = cause & CAUSE_INTERRUPT ? cpu->mideleg : cpu->medeleg;
    uint64_t s = cpu->mstatus;

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
