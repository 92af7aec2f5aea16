/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Debugging a hart: steps stop behind each instruction and before each handler; breakpoints
 * before, watchpoints behind what they are for; and none of it changes what a program does.
 */
#include "rv64-test.h"

static const CpuDebugOps *ops = &rv64_debug_ops;

static void start(RvMachine *m, uint64_t pc)
{
    m->cpu->pc = pc;
    m->cpu->priv = PRIV_M;
    m->cpu->mcause = UINT64_MAX;
    m->cpu->halted = false;
    rv64_update_context(m->cpu);
}

static CpuExit run(RvMachine *m)
{
    CpuExit reason;

    do {
        reason = rv64_accel_ops.run(m->cpu);
    } while (reason == CPU_EXIT_KICKED);
    g_assert_cmpint(m->locked, ==, 0);
    return reason;
}

static void assert_stop(RvMachine *m, CpuStopKind kind, uint64_t pc)
{
    g_assert_cmpint(run(m), ==, CPU_EXIT_DEBUG);
    g_assert_cmpint(ops->last_stop(m->cpu).kind, ==, kind);
    g_assert_cmphex(m->cpu->pc, ==, pc);
}

static void assert_step(RvMachine *m, uint64_t pc)
{
    uint64_t icount = m->cpu->icount;

    ops->set_step(m->cpu, true);
    assert_stop(m, CPU_STOP_STEP, pc);
    g_assert_cmpint(m->cpu->icount - icount, <=, 1);
}

static void test_step(RvMachine *m, gconstpointer data)
{
    /* auipc and addi, which are one op otherwise; taken and not taken; trap; wfi */
    RV_PLACE(m, RV_CODE, AUIPC(A0, 0), ADDI(A0, A0, 8), BEQ(A0, 0, 16), BNE(A0, 0, 8), NOP,
             ECALL);
    start(m, RV_CODE);
    assert_step(m, RV_CODE + 4);
    g_assert_cmphex(m->cpu->x[A0], ==, RV_CODE);
    assert_step(m, RV_CODE + 8);
    g_assert_cmphex(m->cpu->x[A0], ==, RV_CODE + 8);
    assert_step(m, RV_CODE + 12);
    assert_step(m, RV_CODE + 20);
    assert_step(m, RV_HANDLER); /* nothing of the handler is executed */
    rv_assert_trap(m, EXC_ECALL_M, RV_CODE + 20, 0);
    assert_step(m, RV_HANDLER + 4); /* wfi does not wait for anybody who steps */
    /* A loop of one instruction. */
    RV_PLACE(m, RV_CODE, JAL(0, 0));
    start(m, RV_CODE);
    for (int i = 0; i < 3; i++) {
        assert_step(m, RV_CODE);
    }
}

/* What cannot be fetched traps in a step of its own. */
static void test_step_to_nowhere(RvMachine *m, gconstpointer data)
{
    RV_PLACE(m, RV_CODE, JALR(0, 0, A1));
    m->cpu->x[A1] = 0x4000;
    start(m, RV_CODE);
    assert_step(m, 0x4000);
    g_assert_cmphex(m->cpu->mcause, ==, UINT64_MAX);
    assert_step(m, RV_HANDLER);
    rv_assert_trap(m, EXC_FETCH_ACCESS, 0x4000, 0x4000);
}

/* Interrupts wait until the step is over, kicks do not end it. */
static void test_step_undisturbed(RvMachine *m, gconstpointer data)
{
    RV_PLACE(m, RV_CODE, NOP, NOP, NOP);
    start(m, RV_CODE);
    m->cpu->mie = MIP_MSIP;
    m->cpu->mstatus |= MSTATUS_MIE;
    rv64_accel_ops.set_irq(m->cpu, 3, true);
    ops->set_step(m->cpu, true);
    rv64_accel_ops.kick(m->cpu);
    g_assert_cmpint(rv64_accel_ops.run(m->cpu), ==, CPU_EXIT_KICKED);
    g_assert_cmphex(m->cpu->pc, ==, RV_CODE);
    assert_stop(m, CPU_STOP_STEP, RV_CODE + 4);
    /* The step was one: now it runs, and the interrupt comes first. */
    g_assert_true(ops->set_breakpoint(m->cpu, RV_HANDLER, true));
    assert_stop(m, CPU_STOP_BREAKPOINT, RV_HANDLER);
    rv_assert_trap(m, CAUSE_INTERRUPT | 3, RV_CODE + 4, 0);
    rv64_accel_ops.set_irq(m->cpu, 3, false);
}

/* The same program, stepped from its start to its end and run, leaves the same registers. */
static void test_step_is_run(RvMachine *m, gconstpointer data)
{
    uint64_t x[2][32], instructions[2];

    for (int stepped = 0; stepped < 2; stepped++) {
        uint64_t before;

        rv_reset(m);
        memset(rv_word(m, RV_DATA), 0, 64);
        RV_PLACE(m, RV_CODE, AUIPC(A1, 0x10), ADDI(A2, 0, 50), SD(A2, 0, A1), LD(A3, 0, A1),
                 AMO(0, 3, A4, A2, A1), ADD(A0, A0, A4), CSRRW(A5, 0x340, A0), ADDI(A2, A2, -1),
                 BNE(A2, 0, -24), EBREAK);
        start(m, RV_CODE);
        before = m->cpu->icount;
        while (stepped && m->cpu->mcause == UINT64_MAX) {
            ops->set_step(m->cpu, true);
            g_assert_cmpint(run(m), ==, CPU_EXIT_DEBUG);
        }
        g_assert_cmpint(run(m), ==, CPU_EXIT_HALTED);
        rv_assert_trap(m, EXC_BREAKPOINT, RV_CODE + 36, RV_CODE + 36);
        memcpy(x[stepped], m->cpu->x, sizeof(x[0]));
        instructions[stepped] = m->cpu->icount - before;
    }
    g_assert_cmpmem(x[0], sizeof(x[0]), x[1], sizeof(x[1]));
    g_assert_cmpint(instructions[0], ==, instructions[1]);
}

static void test_breakpoints(RvMachine *m, gconstpointer data)
{
    RV_PLACE(m, RV_CODE, ADDI(A0, A0, 1), AUIPC(A1, 1), ADDI(A1, A1, 0), ADDI(A2, A2, 1),
             ADDI(A3, 0, 3), BNE(A2, A3, -20), WFI);
    start(m, RV_CODE);
    g_assert_cmpint(run(m), ==, CPU_EXIT_HALTED); /* decoded before there is a breakpoint */
    rv_reset(m);
    start(m, RV_CODE);
    g_assert_true(ops->set_breakpoint(m->cpu, RV_CODE + 8, true));
    g_assert_true(ops->set_breakpoint(m->cpu, RV_CODE + 8, true));
    for (int i = 1; i <= 3; i++) {
        assert_stop(m, CPU_STOP_BREAKPOINT, RV_CODE + 8);
        g_assert_cmpint(m->cpu->x[A0], ==, i);
        g_assert_cmphex(m->cpu->x[A1], ==, RV_CODE + 0x1004);
    }
    g_assert_cmpint(run(m), ==, CPU_EXIT_HALTED);
    /* At the first instruction; going on from there; a step onto it; removed. */
    start(m, RV_CODE);
    m->cpu->x[A2] = 0;
    g_assert_true(ops->set_breakpoint(m->cpu, RV_CODE, true));
    assert_stop(m, CPU_STOP_BREAKPOINT, RV_CODE);
    assert_step(m, RV_CODE + 4);
    assert_step(m, RV_CODE + 8);
    assert_stop(m, CPU_STOP_BREAKPOINT, RV_CODE + 8);
    g_assert_true(ops->set_breakpoint(m->cpu, RV_CODE + 8, false));
    g_assert_false(ops->set_breakpoint(m->cpu, RV_CODE + 8, false));
    assert_stop(m, CPU_STOP_BREAKPOINT, RV_CODE);
    ops->clear(m->cpu);
    g_assert_cmpint(run(m), ==, CPU_EXIT_HALTED);
    g_assert_cmpint(m->cpu->x[A2], ==, 3);
}

/* The same offset in another page is no breakpoint; an instruction across two pages is one. */
static void test_breakpoint_pages(RvMachine *m, gconstpointer data)
{
    uint64_t end = RV_CODE + 0x1000;
    uint32_t word = ADDI(A0, 0, 7);

    memcpy(m->ram + (end - 2 - RV_RAM), &word, 4);
    RV_PLACE(m, end + 4, JALR(0, 0, 1));
    *(uint16_t *)(m->ram + (end + 2 - RV_RAM)) = 1; /* c.nop */
    m->cpu->x[A1] = end - 2;
    RV_PLACE(m, RV_CODE, JALR(1, 0, A1), WFI);
    g_assert_true(ops->set_breakpoint(m->cpu, RV_CODE + 0x100000, true));
    g_assert_true(ops->set_breakpoint(m->cpu, end - 2, true));
    start(m, RV_CODE);
    assert_stop(m, CPU_STOP_BREAKPOINT, end - 2);
    g_assert_cmpint(m->cpu->x[A0], ==, 0);
    g_assert_cmpint(run(m), ==, CPU_EXIT_HALTED);
    g_assert_cmpint(m->cpu->x[A0], ==, 7);
    rv_assert_no_trap(m);
}

static void assert_watch(RvMachine *m, CpuWatch watch, uint64_t addr, uint64_t pc)
{
    assert_stop(m, CPU_STOP_WATCHPOINT, pc);
    g_assert_cmpint(ops->last_stop(m->cpu).watch, ==, watch);
    g_assert_cmphex(ops->last_stop(m->cpu).addr, ==, addr);
}

static void test_watchpoints(RvMachine *m, gconstpointer data)
{
    uint64_t at = RV_DATA + 0x100;

    m->cpu->x[A1] = at;
    m->cpu->x[A2] = 0x55;
    RV_PLACE(m, RV_CODE, SB(A2, -1, A1), LD(A3, 0, A1), SB(A2, 7, A1), SD(A2, 8, A1),
             SD(A2, -4, A1), AMO(0, 3, A4, A2, A1), WFI);
    start(m, RV_CODE);
    g_assert_cmpint(run(m), ==, CPU_EXIT_HALTED); /* the pages are in the TLB */
    g_assert_false(ops->set_watchpoint(m->cpu, at, 0, CPU_WATCH_WRITE, true));
    g_assert_false(ops->set_watchpoint(m->cpu, UINT64_MAX, 2, CPU_WATCH_WRITE, true));
    g_assert_true(ops->set_watchpoint(m->cpu, at, 8, CPU_WATCH_WRITE, true));
    *rv_dword(m, at) = 0;
    start(m, RV_CODE);
    assert_watch(m, CPU_WATCH_WRITE, at, RV_CODE + 12);
    g_assert_cmphex(*rv_dword(m, at), ==, UINT64_C(0x55) << 56); /* it has been written */
    assert_watch(m, CPU_WATCH_WRITE, at, RV_CODE + 20); /* misaligned, with half of it */
    assert_watch(m, CPU_WATCH_WRITE, at, RV_CODE + 24);
    g_assert_cmpint(run(m), ==, CPU_EXIT_HALTED);
    /* What reads, now. */
    g_assert_false(ops->set_watchpoint(m->cpu, at, 8, CPU_WATCH_READ, false));
    g_assert_true(ops->set_watchpoint(m->cpu, at, 8, CPU_WATCH_WRITE, false));
    g_assert_true(ops->set_watchpoint(m->cpu, at + 4, 1, CPU_WATCH_READ, true));
    start(m, RV_CODE);
    assert_watch(m, CPU_WATCH_READ, at + 4, RV_CODE + 8);
    g_assert_cmphex(m->cpu->x[A3], ==, *rv_dword(m, at));
    assert_watch(m, CPU_WATCH_READ, at + 4, RV_CODE + 24);
    ops->clear(m->cpu);
    start(m, RV_CODE);
    g_assert_cmpint(run(m), ==, CPU_EXIT_HALTED);
    rv_assert_no_trap(m);
}

/* A kick between the access that is watched and the end of its instruction. */
static void test_watch_kicked(RvMachine *m, gconstpointer data)
{
    m->cpu->x[A1] = RV_DATA;
    RV_PLACE(m, RV_CODE, SD(A1, 0, A1), ADDI(A0, 0, 1), WFI);
    g_assert_true(ops->set_watchpoint(m->cpu, RV_DATA, 8, CPU_WATCH_ACCESS, true));
    start(m, RV_CODE);
    g_assert_cmpint(rv64_exec(m->cpu, NULL), ==, CPU_EXIT_DEBUG);
    rv64_accel_ops.kick(m->cpu);
    g_assert_cmpint(rv64_debug_exit(m->cpu), ==, CPU_EXIT_KICKED);
    g_assert_cmphex(m->cpu->pc, ==, RV_CODE);
    g_assert_cmphex(*rv_dword(m, RV_DATA), ==, 0);
    assert_watch(m, CPU_WATCH_ACCESS, RV_DATA, RV_CODE + 4);
    g_assert_cmphex(*rv_dword(m, RV_DATA), ==, RV_DATA);
}

static void test_registers(RvMachine *m, gconstpointer data)
{
    uint64_t v;

    for (unsigned n = 1; n < 65; n++) {
        uint64_t value = UINT64_C(0x1234567890abcd00) + n * 2;

        g_assert_true(ops->write_register(m->cpu, n, value));
        g_assert_true(ops->read_register(m->cpu, n, &v));
        g_assert_cmphex(v, ==, value);
    }
    g_assert_true(ops->write_register(m->cpu, 0, 1));
    g_assert_cmpint(m->cpu->x[0], ==, 0);
    /* The privilege; and what only M-mode may see is seen from U-mode. */
    g_assert_true(ops->write_register(m->cpu, 65, PRIV_U));
    g_assert_false(ops->write_register(m->cpu, 65, 2));
    g_assert_true(ops->read_register(m->cpu, 65, &v));
    g_assert_cmpint(v, ==, PRIV_U);
    g_assert_true(ops->write_register(m->cpu, 66 + 0x340, 77));
    g_assert_true(ops->read_register(m->cpu, 66 + 0x340, &v));
    g_assert_cmpint(v, ==, 77);
    g_assert_cmpint(m->cpu->priv, ==, PRIV_U);
    /* fcsr, with the floating point unit off. */
    g_assert_true(ops->write_register(m->cpu, 66 + 3, 0x61));
    g_assert_true(ops->read_register(m->cpu, 66 + 1, &v));
    g_assert_cmpint(v, ==, 1);
    g_assert_true(ops->read_register(m->cpu, 66 + 2, &v));
    g_assert_cmpint(v, ==, 3);
    g_assert_false(ops->read_register(m->cpu, 66 + 0x7ff, &v));
    g_assert_false(ops->read_register(m->cpu, 66 + 4096, &v));
    g_assert_false(ops->read_register(m->cpu, UINT_MAX, &v));
    g_assert_false(ops->write_register(m->cpu, 66 + 0xf14, 1));
    g_assert_nonnull(strstr(ops->description(), "\"mepc\" bitsize=\"64\" regnum=\"899\""));
}

/* Sv39: a page through three levels, a superpage, holes; physical as it is. */
static void test_memory(RvMachine *m, gconstpointer data)
{
    uint64_t root = RV_RAM + 0x100000, mid = root + 0x1000, leaf = root + 0x2000;
    uint64_t satp = UINT64_C(8) << 60 | root >> 12, va = 0xffffffc000000000, v = 0;

    *rv_dword(m, root + 256 * 8) = mid >> 12 << 10 | PTE_V;
    *rv_dword(m, mid) = leaf >> 12 << 10 | PTE_V;
    *rv_dword(m, mid + 8) = (RV_RAM + 0x200000) >> 12 << 10 | PTE_V | PTE_R;
    *rv_dword(m, leaf) = RV_DATA >> 12 << 10 | PTE_V | PTE_X;
    *rv_dword(m, leaf + 8) = (RV_DATA + 0x5000) >> 12 << 10 | PTE_V | PTE_R;
    *rv_dword(m, RV_DATA + 0xff8) = 1;
    *rv_dword(m, RV_RAM + 0x212340) = 0xabcd;
    g_assert_true(ops->access_memory(m->cpu, satp, va + 0xff8, &v, 8, false));
    g_assert_cmpint(v, ==, 1);
    g_assert_true(ops->access_memory(m->cpu, satp, va + 0x212340, &v, 8, false));
    g_assert_cmphex(v, ==, 0xabcd);
    v = UINT64_C(0x8877665544332211); /* over the end of a page into the next one */
    g_assert_true(ops->access_memory(m->cpu, satp, va + 0xffc, &v, 8, true));
    g_assert_cmphex(*rv_word(m, RV_DATA + 0xffc), ==, 0x44332211);
    g_assert_cmphex(*rv_word(m, RV_DATA + 0x5000), ==, 0x88776655);
    g_assert_cmphex(*rv_dword(m, leaf) & (PTE_A | PTE_D), ==, 0);
    g_assert_false(ops->access_memory(m->cpu, satp, va + 0x1ffc, &v, 8, false));
    g_assert_false(ops->access_memory(m->cpu, satp, 0x4000000000, &v, 8, false));
    g_assert_false(ops->access_memory(m->cpu, satp, UINT64_MAX - 3, &v, 8, false));
    g_assert_true(ops->access_memory(m->cpu, 0, RV_DATA, &v, 8, false));
    g_assert_false(ops->access_memory(m->cpu, 0, RV_DEVICE, &v, 4, false));
    g_assert_cmpint(m->reads, ==, 0);
    g_assert_cmphex(ops->address_view(m->cpu), ==, 0);
    m->cpu->satp = satp;
    g_assert_cmphex(ops->address_view(m->cpu), ==, 0);
    m->cpu->priv = PRIV_S;
    g_assert_cmphex(ops->address_view(m->cpu), ==, satp);
}

#define TEST(name, func) g_test_add("/rv64/debug/" name, RvMachine, NULL, rv_setup, func, rv_teardown)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    TEST("step", test_step);
    TEST("step-to-nowhere", test_step_to_nowhere);
    TEST("step-undisturbed", test_step_undisturbed);
    TEST("step-is-run", test_step_is_run);
    TEST("breakpoints", test_breakpoints);
    TEST("breakpoint-pages", test_breakpoint_pages);
    TEST("watchpoints", test_watchpoints);
    TEST("watch-kicked", test_watch_kicked);
    TEST("registers", test_registers);
    TEST("memory", test_memory);
    return g_test_run();
}
