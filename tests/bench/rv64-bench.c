/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Speed of the RV64 interpreter: small loops of one kind of instruction each, in millions
 * of guest instructions per second.  No arguments; a figure is the best of five runs.
 *
 *     build/tests/bench/rv64-bench
 */
#include <stdio.h>
#include "../unit/rv64-test.h"

#define LOOPS 2000000
#define MAX_WORDS 64

typedef struct Program {
    const char *name;
    uint32_t words[MAX_WORDS]; /* the loop's body; ends with a zero word */
    bool paged;                /* S-mode with Sv39, else M-mode */
} Program;

#define SLLI(rd, rs1, n) I_TYPE(n, rs1, 1, rd, 0x13)
#define XOR(rd, rs1, rs2) R_TYPE(0, rs2, rs1, 4, rd, 0x33)
#define MUL(rd, rs1, rs2) R_TYPE(1, rs2, rs1, 0, rd, 0x33)

/* a1 is data, a5 counts; x6 points to a function that returns at once. */
static const Program programs[] = {
    {"integer", {ADD(A0, A0, A2), XOR(A2, A2, A0), SLLI(A3, A0, 3), ADDI(A4, A3, 5),
                 ADD(A2, A2, A4), XOR(A0, A0, A3), ADDI(A3, A2, -7), ADD(A0, A0, A3)}, false},
    {"multiply", {MUL(A0, A0, A2), ADDI(A2, A2, 3), MUL(A3, A2, A0), ADD(A0, A0, A3)}, false},
    {"load, store", {LD(A0, 0, A1), ADDI(A0, A0, 1), SD(A0, 8, A1), LW(A3, 16, A1),
                     SW(A3, 24, A1), LB(A4, 32, A1), SB(A4, 33, A1), ADD(A2, A2, A4)}, false},
    {"load, store (Sv39)", {LD(A0, 0, A1), ADDI(A0, A0, 1), SD(A0, 8, A1), LW(A3, 16, A1),
                            SW(A3, 24, A1), LB(A4, 32, A1), SB(A4, 33, A1), ADD(A2, A2, A4)},
     true},
    {"branches", {BEQ(A5, 0, 8), ADDI(A0, A0, 1), BNE(A5, 0, 8), ADDI(A0, A0, 1),
                  BNE(A5, 0, 8), ADDI(A0, A0, 1), ADDI(A2, A2, 1)}, false},
    {"call and return", {JALR(1, 0, 6), ADDI(A0, A0, 1)}, false},
    {"atomic add", {AMO(0, 3, A0, A2, A1)}, false},
    {"fadd.d, fmul.d", {R_TYPE(0x01, 1, 0, 0, 0, 0x53), R_TYPE(0x09, 3, 2, 0, 2, 0x53)}, false},
};

static double measure(RvMachine *m, const Program *p)
{
    CPUState *cpu = m->cpu;
    unsigned n = 0;
    uint64_t before;
    gint64 start;

    rv_reset(m);
    while (p->words[n]) {
        n++;
    }
    rv_place(m, RV_CODE, p->words, n);
    RV_PLACE(m, RV_CODE + 4 * n, ADDI(A5, A5, -1), BNE(A5, 0, -4 * ((int)n + 1)), EBREAK);
    RV_PLACE(m, RV_CODE + 0x1000, JALR(0, 0, 1));
    cpu->x[A1] = RV_DATA;
    cpu->x[A5] = LOOPS;
    cpu->x[6] = RV_CODE + 0x1000;
    cpu->mstatus |= MSTATUS_FS;
    cpu->f[0] = UINT64_C(0x3ff0000000000000);
    cpu->f[1] = UINT64_C(0x3e112e0be826d695); /* 1e-9 */
    cpu->f[2] = cpu->f[3] = UINT64_C(0x3ff0000000000001);
    if (p->paged) {
        /* Level 2: 1 GiB pages, identity. */
        *rv_dword(m, RV_RAM + 0x100000 + 2 * 8) = RV_RAM >> 2 | 0xcf;
        cpu->satp = UINT64_C(8) << 60 | (RV_RAM + 0x100000) >> 12;
        rv64_tlb_flush(cpu);
    }
    before = cpu->icount;
    start = g_get_monotonic_time();
    rv_go(m, RV_CODE, p->paged ? PRIV_S : PRIV_M);
    return (double)(cpu->icount - before) / (double)(g_get_monotonic_time() - start);
}

int main(void)
{
    RvMachine m;

    rv_setup(&m, NULL);
    printf("%-20s %10s\n", "loop of", "M instr/s");
    for (size_t i = 0; i < G_N_ELEMENTS(programs); i++) {
        double best = 0;

        for (int run = 0; run < 5; run++) {
            best = MAX(best, measure(&m, &programs[i]));
        }
        printf("%-20s %10.0f\n", programs[i].name, best);
    }
    rv_teardown(&m, NULL);
    return 0;
}
