/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Privileged architecture: traps and their delegation, return, interrupts and priorities,
 * the Sstc timer, WFI, counters, who may touch which CSR, kicks from another thread, and
 * the description of the state.
 */
#include "rv64-test.h"

#define SHANDLER (RV_RAM + 0x3000)

/* Goes on behind the instruction that trapped. */
static void test_trap_state(RvMachine *m, gconstpointer data)
{
    CPUState *cpu = m->cpu;

    /* To M: MPP, MPIE, MIE. */
    cpu->mstatus |= MSTATUS_MIE;
    RV_PLACE(m, RV_CODE, NOP, ECALL);
    rv_go(m, RV_CODE, PRIV_S);
    rv_assert_trap(m, EXC_ECALL_S, RV_CODE + 4, 0);
    g_assert_cmpint(cpu->priv, ==, PRIV_M);
    g_assert_cmphex(cpu->mstatus & (MSTATUS_MPP | MSTATUS_MPIE | MSTATUS_MIE), ==,
                    (UINT64_C(1) << MSTATUS_MPP_SHIFT) | MSTATUS_MPIE);
    rv_go(m, RV_CODE, PRIV_U);
    rv_assert_trap(m, EXC_ECALL_U, RV_CODE + 4, 0);
    rv_go(m, RV_CODE, PRIV_M);
    rv_assert_trap(m, EXC_ECALL_M, RV_CODE + 4, 0);
    g_assert_cmphex(cpu->mstatus & MSTATUS_MPP, ==, MSTATUS_MPP);

    /* Delegated to S: from U and S, not from M. */
    RV_PLACE(m, SHANDLER, WFI);
    cpu->stvec = SHANDLER;
    cpu->medeleg = 1 << EXC_ECALL_U | 1 << EXC_BREAKPOINT;
    cpu->mstatus = MSTATUS_SIE;
    rv_go(m, RV_CODE, PRIV_U);
    rv_assert_no_trap(m);
    g_assert_cmpint(cpu->priv, ==, PRIV_S);
    g_assert_cmphex(cpu->scause, ==, EXC_ECALL_U);
    g_assert_cmphex(cpu->sepc, ==, RV_CODE + 4);
    g_assert_cmphex(cpu->mstatus, ==, MSTATUS_SPIE);
    RV_PLACE(m, RV_CODE, EBREAK);
    rv_go(m, RV_CODE, PRIV_S);
    g_assert_cmphex(cpu->scause, ==, EXC_BREAKPOINT);
    g_assert_cmphex(cpu->stval, ==, RV_CODE);
    g_assert_cmphex(cpu->mstatus, ==, MSTATUS_SPP);
    rv_go(m, RV_CODE, PRIV_M);
    rv_assert_trap(m, EXC_BREAKPOINT, RV_CODE, RV_CODE);
}

static void test_return(RvMachine *m, gconstpointer data)
{
    CPUState *cpu = m->cpu;

    RV_PLACE(m, RV_CODE + 0x100, ECALL);
    cpu->x[A1] = RV_CODE + 0x101; /* bit 0 is not kept */
    cpu->mstatus = MSTATUS_MPIE | MSTATUS_MPRV | (UINT64_C(1) << MSTATUS_MPP_SHIFT);
    RV_RUN(m, CSRRW(0, 0x341, A1), MRET);
    rv_assert_trap(m, EXC_ECALL_S, RV_CODE + 0x100, 0);
    g_assert_cmphex(cpu->mstatus & MSTATUS_MPRV, ==, 0);
    g_assert_cmphex(cpu->mstatus & MSTATUS_MPIE, ==, MSTATUS_MPIE); /* it was enabled */
    cpu->sepc = RV_CODE + 0x100;
    cpu->mstatus = MSTATUS_SPIE;
    RV_PLACE(m, RV_CODE, SRET);
    rv_go(m, RV_CODE, PRIV_S);
    rv_assert_trap(m, EXC_ECALL_U, RV_CODE + 0x100, 0);
    g_assert_cmphex(cpu->mstatus & (MSTATUS_SIE | MSTATUS_SPIE), ==,
                    MSTATUS_SIE | MSTATUS_SPIE);
    /* Not allowed: U-mode, mret in S-mode, sret with TSR. */
    rv_go(m, RV_CODE, PRIV_U);
    rv_assert_trap(m, EXC_ILLEGAL, RV_CODE, SRET);
    cpu->mstatus |= MSTATUS_TSR;
    rv_go(m, RV_CODE, PRIV_S);
    rv_assert_trap(m, EXC_ILLEGAL, RV_CODE, SRET);
    RV_PLACE(m, RV_CODE, MRET);
    rv_go(m, RV_CODE, PRIV_S);
    rv_assert_trap(m, EXC_ILLEGAL, RV_CODE, MRET);
}

static void test_virtual_memory_traps(RvMachine *m, gconstpointer data)
{
    CPUState *cpu = m->cpu;
    static const uint32_t words[] = {SFENCE_VMA, CSRRS(A0, 0x180, 0), CSRRW(0, 0x180, A1)};

    for (size_t i = 0; i < G_N_ELEMENTS(words); i++) {
        RV_PLACE(m, RV_CODE, words[i], ECALL);
        cpu->mstatus = 0;
        rv_go(m, RV_CODE, PRIV_S);
        g_assert_cmphex(cpu->mcause, ==, EXC_ECALL_S);
        cpu->mstatus = MSTATUS_TVM;
        rv_go(m, RV_CODE, PRIV_S);
        rv_assert_trap(m, EXC_ILLEGAL, RV_CODE, words[i]);
        rv_go(m, RV_CODE, PRIV_U);
        rv_assert_trap(m, EXC_ILLEGAL, RV_CODE, words[i]);
        rv_go(m, RV_CODE, PRIV_M);
        g_assert_cmphex(cpu->mcause, ==, EXC_ECALL_M);
    }
    cpu->mstatus = MSTATUS_TW;
    RV_PLACE(m, RV_CODE, WFI);
    rv_go(m, RV_CODE, PRIV_S);
    rv_assert_trap(m, EXC_ILLEGAL, RV_CODE, WFI);
    /* satp keeps its value when the mode is not supported. */
    cpu->mstatus = 0;
    cpu->x[A1] = UINT64_C(10) << 60 | 5;
    RV_RUN(m, CSRRW(0, 0x180, A1), CSRRS(A0, 0x180, 0));
    g_assert_cmphex(cpu->x[A0], ==, 0);
}

static void test_interrupt_priority(RvMachine *m, gconstpointer data)
{
    static const int order[] = {11, 3, 7, 9, 1, 5};
    CPUState *cpu = m->cpu;
    uint64_t pending = MIP_ALL;

    RV_PLACE(m, RV_CODE, NOP, NOP);
    for (size_t i = 0; i < G_N_ELEMENTS(order); i++) {
        for (int bit = 0; bit < 12; bit++) {
            rv64_accel_ops.set_irq(cpu, bit, pending >> bit & 1);
        }
        cpu->mie = MIP_ALL;
        cpu->mstatus = MSTATUS_MIE;
        rv_go(m, RV_CODE, PRIV_M); /* the handler's WFI falls through: read mcause there */
        g_assert_cmphex(cpu->mcause, ==, CAUSE_INTERRUPT | (uint64_t)order[i]);
        g_assert_cmphex(cpu->mepc, ==, RV_CODE);
        g_assert_cmphex(cpu->mtval, ==, 0);
        pending &= ~(UINT64_C(1) << order[i]);
    }
}

/* The handler's WFI would not halt with an interrupt pending: it masks all first. */
static void masking_handler(RvMachine *m, uint64_t pa)
{
    RV_PLACE(m, pa, CSRRW(0, pa == SHANDLER ? 0x104 : 0x304, 0), WFI);
}

static void test_interrupts(RvMachine *m, gconstpointer data)
{
    CPUState *cpu = m->cpu;

    masking_handler(m, RV_HANDLER);
    test_interrupt_priority(m, data);
    rv_reset(m);
    masking_handler(m, RV_HANDLER);
    masking_handler(m, SHANDLER);
    for (int bit = 0; bit < 12; bit++) {
        rv64_accel_ops.set_irq(cpu, bit, false);
    }
    /* Delegated, vectored: base + 4 * cause. */
    RV_PLACE(m, SHANDLER + 4 * 9, CSRRW(0, 0x104, 0), WFI);
    cpu->stvec = SHANDLER | 1;
    cpu->mideleg = MIP_S_MASK;
    cpu->mie = MIP_SEIP;
    rv64_accel_ops.set_irq(cpu, 9, true);
    RV_PLACE(m, RV_CODE, ECALL);
    cpu->mstatus = MSTATUS_SIE;
    rv_go(m, RV_CODE, PRIV_S);
    rv_assert_no_trap(m);
    g_assert_cmphex(cpu->scause, ==, CAUSE_INTERRUPT | 9);
    g_assert_cmphex(cpu->pc, ==, SHANDLER + 4 * 9 + 8);
    /* SIE = 0 masks in S-mode, not in U-mode; in M-mode it is never taken. */
    cpu->scause = 0;
    cpu->mie = MIP_SEIP;
    cpu->mstatus = 0;
    rv_go(m, RV_CODE, PRIV_S);
    g_assert_cmphex(cpu->mcause, ==, EXC_ECALL_S);
    cpu->mie = MIP_SEIP;
    rv_go(m, RV_CODE, PRIV_U);
    g_assert_cmphex(cpu->scause, ==, CAUSE_INTERRUPT | 9);
    cpu->mie = MIP_SEIP;
    cpu->scause = 0;
    cpu->mstatus = MSTATUS_MIE | MSTATUS_SIE;
    rv_go(m, RV_CODE, PRIV_M);
    g_assert_cmphex(cpu->mcause, ==, EXC_ECALL_M);
    g_assert_cmphex(cpu->scause, ==, 0);
    rv64_accel_ops.set_irq(cpu, 9, false);
    /* Enabling by a CSR write is followed by the trap at once. */
    rv64_accel_ops.set_irq(cpu, 7, true);
    cpu->mie = MIP_MTIP;
    cpu->mstatus = 0;
    cpu->x[A1] = MSTATUS_MIE;
    cpu->x[A0] = 0;
    RV_RUN(m, NOP, CSRRS(0, 0x300, A1), ADDI(A0, 0, 1));
    g_assert_cmphex(cpu->mcause, ==, CAUSE_INTERRUPT | 7);
    g_assert_cmphex(cpu->mepc, ==, RV_CODE + 8);
    g_assert_cmphex(cpu->x[A0], ==, 0);
}

static void test_mip(RvMachine *m, gconstpointer data)
{
    CPUState *cpu = m->cpu;

    rv64_accel_ops.set_irq(cpu, 9, true);
    cpu->x[A1] = MIP_ALL;
    /* Set and clear act on the software's SEIP; MSIP, MTIP, MEIP are wires. */
    RV_RUN(m, CSRRS(A0, 0x344, A1), CSRRS(A2, 0x344, 0));
    g_assert_cmphex(cpu->x[A0], ==, MIP_SEIP);
    g_assert_cmphex(cpu->x[A2], ==, MIP_S_MASK);
    rv64_accel_ops.set_irq(cpu, 9, false);
    RV_RUN(m, CSRRS(A0, 0x344, 0), CSRRW(0, 0x344, 0), CSRRS(A2, 0x344, 0));
    g_assert_cmphex(cpu->x[A0], ==, MIP_S_MASK);
    g_assert_cmphex(cpu->x[A2], ==, 0);
    rv64_accel_ops.set_irq(cpu, 9, true);
    cpu->x[A1] = MIP_SSIP;
    RV_RUN(m, CSRRS(0, 0x344, A1), CSRRS(A2, 0x344, 0));
    rv64_accel_ops.set_irq(cpu, 9, false);
    g_assert_cmphex(rv64_mip(cpu), ==, MIP_SSIP);
    /* sip shows and lets write what is delegated. */
    RV_RUN(m, CSRRS(A0, 0x144, 0), CSRRW(0, 0x144, 0));
    g_assert_cmphex(cpu->x[A0], ==, 0);
    g_assert_cmphex(rv64_mip(cpu), ==, MIP_SSIP);
    cpu->mideleg = MIP_SSIP;
    RV_RUN(m, CSRRS(A0, 0x144, 0), CSRRW(0, 0x144, 0));
    g_assert_cmphex(cpu->x[A0], ==, MIP_SSIP);
    g_assert_cmphex(rv64_mip(cpu), ==, 0);
}

static void test_sstc(RvMachine *m, gconstpointer data)
{
    CPUState *cpu = m->cpu;

    masking_handler(m, SHANDLER);
    cpu->stvec = SHANDLER;
    cpu->mideleg = MIP_S_MASK;
    /* Without STCE: illegal in S-mode, no interrupt. */
    RV_PLACE(m, RV_CODE, CSRRW(0, 0x14d, A1), ECALL);
    cpu->x[A1] = 0;
    cpu->mcounteren = 2;
    rv_go(m, RV_CODE, PRIV_S);
    g_assert_cmphex(cpu->mcause, ==, EXC_ILLEGAL);
    cpu->menvcfg = MENVCFG_STCE;
    cpu->mcounteren = 0;
    rv_go(m, RV_CODE, PRIV_S);
    g_assert_cmphex(cpu->mcause, ==, EXC_ILLEGAL);
    g_assert_cmpint(rv64_accel_ops.next_deadline(cpu), ==, INT64_MAX);
    cpu->mcounteren = 2;
    rv_go(m, RV_CODE, PRIV_S);
    g_assert_cmphex(cpu->mcause, ==, EXC_ECALL_S);
    g_assert_cmphex(rv64_mip(cpu), ==, MIP_STIP);
    /* A comparand in the future takes it away. */
    cpu->x[A1] = UINT64_MAX;
    rv_go(m, RV_CODE, PRIV_S);
    g_assert_cmphex(rv64_mip(cpu), ==, 0);
    /* An endless loop of the guest is interrupted when time is up: 2 ms from now. */
    cpu->stimecmp = rv64_time(cpu) + 20000;
    cpu->mie = MIP_STIP;
    cpu->mstatus = MSTATUS_SIE;
    g_assert_cmpint(rv64_accel_ops.next_deadline(cpu), ==,
                    vm_clock_to_host((int64_t)cpu->stimecmp * 100));
    RV_PLACE(m, RV_CODE, JAL(0, 0));
    rv_go(m, RV_CODE, PRIV_S);
    g_assert_cmphex(cpu->scause, ==, CAUSE_INTERRUPT | 5);
    g_assert_cmphex(cpu->sepc, ==, RV_CODE);
    g_assert_cmpint(rv64_time(cpu), >=, cpu->stimecmp);
    g_assert_cmpint(rv64_accel_ops.next_deadline(cpu), ==, INT64_MAX); /* masked now */
    /* Halted: the deadline is work. */
    cpu->mie = MIP_STIP;
    cpu->stimecmp = UINT64_MAX;
    g_assert_false(rv64_accel_ops.has_work(cpu));
    cpu->stimecmp = 1;
    g_assert_true(rv64_accel_ops.has_work(cpu));
    /* A comparand beyond all time. */
    cpu->stimecmp = UINT64_MAX - 1;
    g_assert_cmpint(rv64_accel_ops.next_deadline(cpu), ==, INT64_MAX);
}

static void test_counters(RvMachine *m, gconstpointer data)
{
    CPUState *cpu = m->cpu;
    uint64_t before, after;

    cpu->x[A1] = 1000;
    RV_RUN(m, CSRRW(0, 0xb02, A1), CSRRS(A0, 0xb02, 0), NOP, NOP, CSRRS(A2, 0xc02, 0),
           I_TYPE(0x320, 4, 6, 0, 0x73), CSRRS(A3, 0xb02, 0), NOP, CSRRS(A4, 0xb02, 0),
           CSRRS(A5, 0xb00, 0));
    rv_assert_no_trap(m);
    g_assert_cmpint(cpu->x[A0], ==, 1000);
    g_assert_cmpint(cpu->x[A2], ==, 1003);
    g_assert_cmpint(cpu->x[A3], ==, cpu->x[A4]); /* inhibited */
    g_assert_cmpint(cpu->x[A5], >, 5);
    /* An instruction that traps is not retired; the others of its block are. */
    cpu->mcountinhibit = 0;
    before = cpu->icount;
    RV_RUN(m, NOP, NOP, 0, NOP);
    after = cpu->icount;
    g_assert_cmpint(after - before, ==, 3); /* two, and the handler's WFI */
    /* time; access rights */
    RV_RUN(m, CSRRS(A0, 0xc01, 0));
    g_assert_cmpint(cpu->x[A0], <=, rv64_time(cpu));
    for (int i = 0; i < 3; i++) {
        RV_PLACE(m, RV_CODE, CSRRS(A0, 0xc00 + i, 0), ECALL);
        cpu->mcounteren = cpu->scounteren = 0;
        rv_go(m, RV_CODE, PRIV_S);
        g_assert_cmphex(cpu->mcause, ==, EXC_ILLEGAL);
        cpu->mcounteren = 1u << i;
        rv_go(m, RV_CODE, PRIV_S);
        g_assert_cmphex(cpu->mcause, ==, EXC_ECALL_S);
        rv_go(m, RV_CODE, PRIV_U);
        g_assert_cmphex(cpu->mcause, ==, EXC_ILLEGAL);
        cpu->scounteren = 1u << i;
        rv_go(m, RV_CODE, PRIV_U);
        g_assert_cmphex(cpu->mcause, ==, EXC_ECALL_U);
    }
}

static void test_csr_access(RvMachine *m, gconstpointer data)
{
    /* Each needs the privilege in bits 8 and 9 of its number. */
    static const uint16_t csrs[] = {0x100, 0x104, 0x105, 0x106, 0x10a, 0x140, 0x141, 0x142,
                                    0x143, 0x144, 0x180, 0x300, 0x301, 0x302, 0x303, 0x304,
                                    0x305, 0x306, 0x30a, 0x320, 0x323, 0x340, 0x341, 0x342,
                                    0x343, 0x344, 0x3a0, 0x3b0, 0x3ef, 0xb00, 0xb02, 0xb1f,
                                    0xf11, 0xf12, 0xf13, 0xf14, 0xf15};
    /* Write all ones, read back. */
    static const struct {
        uint16_t csr;
        uint64_t mask;
    } warl[] = {
        {0x302, 0xb3ff}, {0x303, MIP_S_MASK}, {0x304, MIP_ALL}, {0x305, ~UINT64_C(2)},
        {0x105, ~UINT64_C(2)}, {0x306, 7}, {0x106, 7}, {0x341, ~UINT64_C(1)},
        {0x141, ~UINT64_C(1)}, {0x30a, MENVCFG_STCE | 1}, {0x10a, 1}, {0x340, UINT64_MAX},
        {0x320, 5}, {0x323, 0}, {0xb03, 0},
        {0x301, UINT64_C(0x800000000014112d)},
        {0x300, UINT64_C(0x8000000a007e79aa)},
    };
    CPUState *cpu = m->cpu;

    for (size_t i = 0; i < G_N_ELEMENTS(csrs); i++) {
        int need = csrs[i] >> 8 & 3;

        for (int priv = PRIV_U; priv <= PRIV_M; priv += priv == PRIV_S ? 2 : 1) {
            RV_PLACE(m, RV_CODE, CSRRS(A0, csrs[i], 0), ECALL);
            rv_go(m, RV_CODE, priv);
            g_assert_cmphex(cpu->mcause, ==,
                            priv >= need ? (uint64_t)EXC_ECALL_U + priv : EXC_ILLEGAL);
        }
    }
    for (size_t i = 0; i < G_N_ELEMENTS(warl); i++) {
        uint64_t keep = cpu->mstatus, mtvec = cpu->mtvec;

        rv_reset(m);
        cpu->x[A1] = UINT64_MAX;
        RV_RUN(m, CSRRW(0, warl[i].csr, A1), CSRRS(A0, warl[i].csr, 0), CSRRC(A2, 0x304, A1),
               CSRRW(0, 0x300, 0));
        g_assert_cmphex(cpu->x[A0], ==, warl[i].mask);
        cpu->mstatus = keep;
        cpu->mtvec = mtvec;
    }
    /* MPP cannot become 2. */
    rv_reset(m);
    cpu->x[A1] = UINT64_C(2) << MSTATUS_MPP_SHIFT;
    RV_RUN(m, CSRRW(0, 0x300, A1));
    g_assert_cmphex(cpu->mstatus & MSTATUS_MPP, ==, 0);
    /* sstatus shows only its part. */
    cpu->mstatus = MSTATUS_MIE | MSTATUS_SUM | MSTATUS_FS;
    RV_RUN(m, CSRRS(A0, 0x100, 0));
    g_assert_cmphex(cpu->x[A0], ==, MSTATUS_SD | MSTATUS_UXL | MSTATUS_SUM | MSTATUS_FS);
}

static int wakes;

static void wake(void *opaque)
{
    wakes++;
}

static void test_wfi(RvMachine *m, gconstpointer data)
{
    CPUState *cpu = m->cpu;

    rv64_accel_ops.set_wake(cpu, wake, NULL);
    wakes = 0;
    cpu->mie = MIP_MTIP;
    cpu->x[A0] = 0;
    RV_PLACE(m, RV_CODE, WFI, ADDI(A0, A0, 1), WFI);
    rv_go(m, RV_CODE, PRIV_M);
    g_assert_cmphex(cpu->pc, ==, RV_CODE + 4);
    g_assert_false(rv64_accel_ops.has_work(cpu));
    g_assert_cmpint(rv64_accel_ops.run(cpu), ==, CPU_EXIT_HALTED);
    g_assert_cmphex(cpu->pc, ==, RV_CODE + 4);
    /* A kick ends run(), not the halt. */
    rv64_accel_ops.kick(cpu);
    g_assert_cmpint(rv64_accel_ops.run(cpu), ==, CPU_EXIT_KICKED);
    g_assert_cmpint(rv64_accel_ops.run(cpu), ==, CPU_EXIT_HALTED);
    /* An interrupt that is not enabled does not wake, one that is does, taken or not. */
    rv64_accel_ops.set_irq(cpu, 3, true);
    g_assert_false(rv64_accel_ops.has_work(cpu));
    rv64_accel_ops.set_irq(cpu, 7, true);
    rv64_accel_ops.set_irq(cpu, 7, true);
    g_assert_cmpint(wakes, ==, 2);
    g_assert_true(rv64_accel_ops.has_work(cpu));
    rv64_accel_ops.set_irq(cpu, 7, true);
    RV_PLACE(m, RV_CODE + 12, CSRRW(0, 0x304, 0), WFI);
    g_assert_cmpint(rv64_accel_ops.run(cpu), ==, CPU_EXIT_HALTED);
    g_assert_cmpint(cpu->x[A0], ==, 1);
    g_assert_cmphex(cpu->pc, ==, RV_CODE + 20);
}

static bool handled; /* atomic: the guest has seen an interrupt */

/* On a busy host the guest may come to its first instruction late. */
static gpointer kicker(gpointer opaque)
{
    RvMachine *m = opaque;

    for (int i = 0; i < 200 || (!__atomic_load_n(&handled, __ATOMIC_SEQ_CST) && i < 1000000); i++) {
        rv64_accel_ops.kick(m->cpu);
        rv64_accel_ops.set_irq(m->cpu, 7, i & 1);
        address_space_dirtied(m->as, RV_CODE, 4);
        g_thread_yield();
    }
    __atomic_store_n(&m->device_size, 1, __ATOMIC_SEQ_CST);
    rv64_accel_ops.kick(m->cpu);
    return NULL;
}

/* Every request from another thread is seen, whatever the guest is doing. */
static void test_kick_race(RvMachine *m, gconstpointer data)
{
    CPUState *cpu = m->cpu;
    GThread *thread;

    RV_PLACE(m, RV_HANDLER, ADDI(A4, A4, 1), CSRRW(0, 0x304, 0), MRET);
    cpu->mie = MIP_MTIP;
    cpu->mstatus = MSTATUS_MIE;
    cpu->pc = RV_CODE;
    RV_PLACE(m, RV_CODE, ADDI(A0, A0, 1), JAL(0, -4));
    thread = g_thread_new("kicker", kicker, m);
    while (!__atomic_load_n(&m->device_size, __ATOMIC_SEQ_CST)) {
        g_assert_cmpint(rv64_accel_ops.run(cpu), ==, CPU_EXIT_KICKED);
        __atomic_store_n(&handled, cpu->x[A4] != 0, __ATOMIC_SEQ_CST);
    }
    g_thread_join(thread);
    g_assert_cmpint(cpu->x[A4], ==, 1); /* the handler masked it for good */
    g_assert_cmphex(cpu->pc, >=, RV_CODE);
    g_assert_cmphex(cpu->pc, <=, RV_CODE + 4);
}

/* Copies every field that the description names from one hart to another. */
static void copy_fields(const VMStateDescription *d, const void *from, void *to)
{
    for (const VMStateField *f = d->fields; f->name; f++) {
        g_assert_cmpint(f->num, >, 0);
        g_assert_cmpint(f->kind, !=, VMSTATE_KIND_STRUCT);
        memcpy((char *)to + f->offset, (const char *)from + f->offset, f->size * f->num);
    }
}

static void test_vmstate(RvMachine *m, gconstpointer data)
{
    const VMStateDescription *d = rv64_accel_ops.vmsd;
    CPUState *cpu = m->cpu;
    g_autofree CPUState *saved = g_new0(CPUState, 1);
    g_autoptr(GError) err = NULL;

    g_assert_cmpstr(d->name, ==, "cpu");
    /* A program in S-mode with everything set up, stopped in the middle. */
    masking_handler(m, SHANDLER);
    RV_PLACE(m, RV_CODE, AMO(2, 3, A3, 0, A1), WFI, AMO(3, 3, A0, A2, A1),
             LD(A4, 0, A1), CSRRW(0, 0x104, 0), WFI);
    *rv_dword(m, RV_DATA) = 5;
    cpu->x[A1] = RV_DATA;
    cpu->x[31] = 31;
    cpu->f[31] = 77;
    cpu->stvec = SHANDLER;
    cpu->mideleg = MIP_S_MASK;
    cpu->menvcfg = MENVCFG_STCE;
    cpu->stimecmp = UINT64_MAX - 5;
    cpu->mstatus |= MSTATUS_SUM | MSTATUS_FS;
    cpu->fflags = 3;
    cpu->frm = 2;
    cpu->mie = MIP_SEIP;
    rv_go(m, RV_CODE, PRIV_S);
    g_assert_true(cpu->halted);
    copy_fields(d, cpu, saved);

    rv64_accel_ops.reset(cpu);
    *rv_dword(m, RV_DATA) = 6;
    copy_fields(d, saved, cpu);
    g_assert_true(d->post_load(cpu, d->version, &err));
    g_assert_no_error(err);
    g_assert_cmphex(cpu->x[31], ==, 31);
    g_assert_cmphex(cpu->f[31], ==, 77);
    g_assert_cmphex(cpu->stimecmp, ==, UINT64_MAX - 5);
    g_assert_cmpint(cpu->priv, ==, PRIV_S);
    g_assert_true(cpu->halted);
    g_assert_cmpint(rv64_accel_ops.run(cpu), ==, CPU_EXIT_HALTED);
    /* It goes on where it was: the reservation is gone, the PMP is as it was. */
    rv64_accel_ops.set_irq(cpu, 9, true);
    g_assert_cmpint(rv64_accel_ops.run(cpu), ==, CPU_EXIT_HALTED);
    g_assert_cmpint(cpu->x[A0], ==, 1);
    g_assert_cmpint(cpu->x[A4], ==, 6);
    g_assert_cmphex(cpu->pc, ==, RV_CODE + 24);

    /* The wire is part of the state. */
    copy_fields(d, cpu, saved);
    rv64_accel_ops.set_irq(cpu, 9, false);
    copy_fields(d, saved, cpu);
    g_assert_true(d->post_load(cpu, d->version, &err));
    g_assert_cmphex(rv64_mip(cpu), ==, MIP_SEIP);

    /* What no hart can be in is refused. */
    cpu->priv = 2;
    g_assert_false(d->post_load(cpu, d->version, &err));
    g_assert_nonnull(strstr(err->message, "privilege"));
    g_clear_error(&err);
    cpu->priv = PRIV_M;
    cpu->satp = UINT64_C(15) << 60;
    g_assert_false(d->post_load(cpu, d->version, &err));
    g_clear_error(&err);
    cpu->satp = 0;
    cpu->pc |= 1;
    g_assert_false(d->post_load(cpu, d->version, &err));
}

static void test_create_fails(void)
{
    CpuConfig config = {.index = 3};
    g_autoptr(GError) err = NULL;

    g_assert_null(rv64_accel_ops.create(&config, &err));
    g_assert_cmpstr(err->message, ==,
                    "Could not create hart 3: the timebase frequency is zero");
}

static void add(const char *path, void (*test)(RvMachine *m, gconstpointer data))
{
    g_test_add(path, RvMachine, NULL, rv_setup, test, rv_teardown);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    add("/rv64/priv/traps", test_trap_state);
    add("/rv64/priv/return", test_return);
    add("/rv64/priv/virtual-memory-traps", test_virtual_memory_traps);
    add("/rv64/priv/interrupts", test_interrupts);
    add("/rv64/priv/mip", test_mip);
    add("/rv64/priv/sstc", test_sstc);
    add("/rv64/priv/counters", test_counters);
    add("/rv64/priv/csr-access", test_csr_access);
    add("/rv64/priv/wfi", test_wfi);
    add("/rv64/priv/kick-race", test_kick_race);
    add("/rv64/priv/vmstate", test_vmstate);
    g_test_add_func("/rv64/priv/create-fails", test_create_fails);
    return g_test_run();
}
