/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A machine for the tests of accel/rv64: 8 MiB of RAM at 0x80000000, a register that
 * counts its accesses at 0x10000000, one hart.  Programs are arrays of words; they end
 * with WFI, which halts the hart, and so does the trap handler at RV_HANDLER.
 */
#ifndef TESTS_UNIT_RV64_TEST_H
#define TESTS_UNIT_RV64_TEST_H

#include <glib.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include "accel/rv64/cpu.h"
#include "hw/machine-lock.h"
#include "hw/vm-clock.h"

#define RV_RAM UINT64_C(0x80000000)
#define RV_RAM_SIZE (UINT64_C(8) << 20)
#define RV_CODE RV_RAM
#define RV_HANDLER (RV_RAM + 0x2000)
#define RV_DATA (RV_RAM + 0x10000)
#define RV_DEVICE UINT64_C(0x10000000)

/* Encoders for the words of the tests. */
#define R_TYPE(f7, rs2, rs1, f3, rd, opc)                                                    \
    ((uint32_t)(f7) << 25 | (rs2) << 20 | (rs1) << 15 | (f3) << 12 | (rd) << 7 | (opc))
#define I_TYPE(imm, rs1, f3, rd, opc)                                                        \
    (((uint32_t)(imm) & 0xfff) << 20 | (rs1) << 15 | (f3) << 12 | (rd) << 7 | (opc))
#define S_TYPE(imm, rs2, rs1, f3, opc)                                                       \
    ((((uint32_t)(imm) >> 5) & 0x7f) << 25 | (rs2) << 20 | (rs1) << 15 | (f3) << 12 |        \
     ((uint32_t)(imm) & 31) << 7 | (opc))
#define ADDI(rd, rs1, imm) I_TYPE(imm, rs1, 0, rd, 0x13)
#define ADD(rd, rs1, rs2) R_TYPE(0, rs2, rs1, 0, rd, 0x33)
#define LUI(rd, imm20) ((uint32_t)(imm20) << 12 | (rd) << 7 | 0x37)
#define AUIPC(rd, imm20) ((uint32_t)(imm20) << 12 | (rd) << 7 | 0x17)
#define LOAD_(f3, rd, imm, rs1) I_TYPE(imm, rs1, f3, rd, 0x03)
#define LB(rd, imm, rs1) LOAD_(0, rd, imm, rs1)
#define LW(rd, imm, rs1) LOAD_(2, rd, imm, rs1)
#define LD(rd, imm, rs1) LOAD_(3, rd, imm, rs1)
#define SB(rs2, imm, rs1) S_TYPE(imm, rs2, rs1, 0, 0x23)
#define SW(rs2, imm, rs1) S_TYPE(imm, rs2, rs1, 2, 0x23)
#define SD(rs2, imm, rs1) S_TYPE(imm, rs2, rs1, 3, 0x23)
#define JALR(rd, imm, rs1) I_TYPE(imm, rs1, 0, rd, 0x67)
#define JAL(rd, off)                                                                         \
    ((((uint32_t)(off) >> 20) & 1) << 31 | (((uint32_t)(off) >> 1) & 0x3ff) << 21 |          \
     (((uint32_t)(off) >> 11) & 1) << 20 | (((uint32_t)(off) >> 12) & 0xff) << 12 |          \
     (rd) << 7 | 0x6f)
#define BRANCH_(f3, rs1, rs2, off)                                                           \
    ((((uint32_t)(off) >> 12) & 1) << 31 | (((uint32_t)(off) >> 5) & 0x3f) << 25 |           \
     (rs2) << 20 | (rs1) << 15 | (f3) << 12 | (((uint32_t)(off) >> 1) & 15) << 8 |           \
     (((uint32_t)(off) >> 11) & 1) << 7 | 0x63)
#define BEQ(rs1, rs2, off) BRANCH_(0, rs1, rs2, off)
#define BNE(rs1, rs2, off) BRANCH_(1, rs1, rs2, off)
#define CSRRW(rd, csr, rs1) I_TYPE(csr, rs1, 1, rd, 0x73)
#define CSRRS(rd, csr, rs1) I_TYPE(csr, rs1, 2, rd, 0x73)
#define CSRRC(rd, csr, rs1) I_TYPE(csr, rs1, 3, rd, 0x73)
#define AMO(f5, f3, rd, rs2, rs1) R_TYPE((f5) << 2, rs2, rs1, f3, rd, 0x2f)
#define WFI 0x10500073u
#define ECALL 0x00000073u
#define EBREAK 0x00100073u
#define MRET 0x30200073u
#define SRET 0x10200073u
#define FENCE_I 0x0000100fu
#define SFENCE_VMA 0x12000073u
#define NOP ADDI(0, 0, 0)

enum { A0 = 10, A1, A2, A3, A4, A5 };

typedef struct RvMachine {
    AddressSpace *as;
    uint8_t *ram;
    CPUState *cpu;
    int locked;
    int reads, writes;
    uint64_t device; /* what was written last */
    unsigned device_size;
} RvMachine;

static inline void rv_lock(void *opaque)
{
    g_assert_cmpint(((RvMachine *)opaque)->locked++, ==, 0);
}

static inline void rv_unlock(void *opaque)
{
    g_assert_cmpint(--((RvMachine *)opaque)->locked, ==, 0);
}

static inline uint64_t rv_device_read(void *opaque, uint64_t offset, unsigned size)
{
    RvMachine *m = opaque;

    g_assert_cmpint(m->locked, ==, 1);
    m->reads++;
    m->device_size = size;
    return UINT64_C(0xf1f2f3f4f5f6f7f8);
}

static inline void rv_device_write(void *opaque, uint64_t offset, uint64_t value,
                                   unsigned size)
{
    RvMachine *m = opaque;

    g_assert_cmpint(m->locked, ==, 1);
    m->writes++;
    m->device = value;
    m->device_size = size;
}

static const MMIOOps rv_device_ops = {rv_device_read, rv_device_write, 1, 4, false};

static inline uint32_t *rv_word(RvMachine *m, uint64_t pa)
{
    return (uint32_t *)(m->ram + (pa - RV_RAM));
}

static inline uint64_t *rv_dword(RvMachine *m, uint64_t pa)
{
    return (uint64_t *)(m->ram + (pa - RV_RAM));
}

/* Registers as after reset, PMP open to all, traps halt. */
static inline void rv_reset(RvMachine *m)
{
    rv64_accel_ops.reset(m->cpu);
    rv64_accel_ops.flush(m->cpu);
    m->cpu->mtvec = RV_HANDLER;
    m->cpu->pmpcfg[0] = 0x1f; /* NAPOT, RWX */
    m->cpu->pmpaddr[0] = (UINT64_C(1) << 54) - 1;
    rv64_pmp_update(m->cpu);
    *rv_word(m, RV_HANDLER) = WFI;
    m->reads = m->writes = 0;
}

static inline void rv_setup(RvMachine *m, gconstpointer data)
{
    CpuConfig config = {.index = 0, .reset_pc = RV_CODE, .timebase_hz = 10000000,
                        .lock = rv_lock, .unlock = rv_unlock, .lock_opaque = m};

    memset(m, 0, sizeof(*m));
    m->ram = mmap(NULL, RV_RAM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                  -1, 0);
    g_assert(m->ram != MAP_FAILED);
    config.as = m->as = address_space_new();
    address_space_add_ram(m->as, "ram", RV_RAM, RV_RAM_SIZE, m->ram, false);
    address_space_add_mmio(m->as, "device", RV_DEVICE, 0x100, &rv_device_ops, m);
    if (!vm_clock_running()) {
        machine_lock();
        vm_clock_enable(true);
        machine_unlock();
    }
    m->cpu = rv64_accel_ops.create(&config, NULL);
    g_assert_nonnull(m->cpu);
    rv_reset(m);
}

static inline void rv_teardown(RvMachine *m, gconstpointer data)
{
    rv64_accel_ops.destroy(m->cpu);
    address_space_free(m->as);
    munmap(m->ram, RV_RAM_SIZE);
}

static inline void rv_place(RvMachine *m, uint64_t pa, const uint32_t *words, size_t n)
{
    memcpy(rv_word(m, pa), words, n * 4);
    address_space_dirtied(m->as, pa, n * 4);
}
#define RV_PLACE(m, pa, ...)                                                                 \
    rv_place(m, pa, (const uint32_t[]){__VA_ARGS__},                                         \
             sizeof((const uint32_t[]){__VA_ARGS__}) / 4)

/* Runs from pc in the given mode until the hart halts. */
static inline void rv_go(RvMachine *m, uint64_t pc, int priv)
{
    CpuExit reason;

    m->cpu->pc = pc;
    m->cpu->priv = priv;
    m->cpu->halted = false;
    m->cpu->mcause = UINT64_MAX;
    rv64_update_context(m->cpu);
    do {
        reason = rv64_accel_ops.run(m->cpu);
    } while (reason == CPU_EXIT_KICKED);
    g_assert_cmpint(reason, ==, CPU_EXIT_HALTED);
    g_assert_cmpint(m->locked, ==, 0);
    g_assert_cmphex(m->cpu->x[0], ==, 0);
}

/* Places the program, with WFI after it, and runs it in M-mode. */
#define RV_RUN(m, ...)                                                                       \
    do {                                                                                     \
        RV_PLACE(m, RV_CODE, __VA_ARGS__, WFI);                                              \
        rv_go(m, RV_CODE, PRIV_M);                                                           \
    } while (0)

/* The program ran to its end. */
#define rv_assert_no_trap(m) g_assert_cmphex((m)->cpu->mcause, ==, UINT64_MAX)
#define rv_assert_trap(m, cause, epc, tval)                                                  \
    do {                                                                                     \
        g_assert_cmphex((m)->cpu->mcause, ==, (cause));                                      \
        g_assert_cmphex((m)->cpu->mepc, ==, (epc));                                          \
        g_assert_cmphex((m)->cpu->mtval, ==, (tval));                                        \
    } while (0)

#endif
