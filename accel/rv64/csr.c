/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Control and status registers: who may access which, what a write keeps (WARL), and what
 * it changes elsewhere (Priv, "Control and Status Registers" and the chapters it lists).
 *
 * vCPU thread.  cpu->icount must be the number of instructions before the present one.
 */
#include "cpu.h"
#include "util/log.h"

#define CSR_SSTATUS 0x100
#define SSTATUS_MASK                                                                         \
    (MSTATUS_SIE | MSTATUS_SPIE | MSTATUS_SPP | MSTATUS_FS | MSTATUS_SUM | MSTATUS_MXR)
#define MSTATUS_WRITABLE                                                                     \
    (SSTATUS_MASK | MSTATUS_MIE | MSTATUS_MPIE | MSTATUS_MPP | MSTATUS_MPRV | MSTATUS_TVM |  \
     MSTATUS_TW | MSTATUS_TSR)
/* Exceptions that may be delegated: all but the call from M-mode. */
#define MEDELEG_MASK UINT64_C(0xb3ff)
/* I, M, A, F, D, C, S, U; MXL = 64 bits */
#define MISA                                                                                 \
    (UINT64_C(2) << 62 | 1 << ('A' - 'A') | 1 << ('C' - 'A') | 1 << ('D' - 'A') |            \
     1 << ('F' - 'A') | 1 << ('I' - 'A') | 1 << ('M' - 'A') | 1 << ('S' - 'A') |             \
     1 << ('U' - 'A'))
#define COUNTER_CY 1
#define COUNTER_TM 2
#define COUNTER_IR 4
#define TVEC_MASK (~UINT64_C(2))

uint64_t rv64_mstatus_read(CPUState *cpu)
{
    uint64_t s = cpu->mstatus | MSTATUS_UXL | MSTATUS_SXL;

    return (s & MSTATUS_FS) == MSTATUS_FS ? s | MSTATUS_SD : s;
}

void rv64_mstatus_write(CPUState *cpu, uint64_t value)
{
    uint64_t old = cpu->mstatus;

    value = (value & MSTATUS_WRITABLE) | (old & ~MSTATUS_WRITABLE);
    if ((value & MSTATUS_MPP) == UINT64_C(2) << MSTATUS_MPP_SHIFT) {
        value = (value & ~MSTATUS_MPP) | (old & MSTATUS_MPP);
    }
    cpu->mstatus = value;
    if ((old ^ value) & MSTATUS_MXR) {
        rv64_tlb_flush(cpu);
    }
    rv64_update_context(cpu);
    rv64_check_interrupts(cpu);
}

/* Counters run with icount; while inhibited the offset is the value itself. */
static uint64_t counter_read(CPUState *cpu, unsigned bit, uint64_t offset)
{
    return cpu->mcountinhibit & bit ? offset : cpu->icount + offset;
}

/* The next instruction reads what was written. */
static void counter_write(CPUState *cpu, unsigned bit, uint64_t *offset, uint64_t value)
{
    *offset = cpu->mcountinhibit & bit ? value : value - (cpu->icount + 1);
}

static void inhibit_write(CPUState *cpu, uint64_t value)
{
    uint64_t cycle = counter_read(cpu, COUNTER_CY, cpu->cycle_offset);
    uint64_t instret = counter_read(cpu, COUNTER_IR, cpu->instret_offset);

    cpu->mcountinhibit = value & (COUNTER_CY | COUNTER_IR);
    cpu->cycle_offset = cpu->mcountinhibit & COUNTER_CY ? cycle : cycle - cpu->icount;
    cpu->instret_offset = cpu->mcountinhibit & COUNTER_IR ? instret : instret - cpu->icount;
}

static bool counter_allowed(CPUState *cpu, unsigned bit)
{
    return cpu->priv == PRIV_M ||
           ((cpu->mcounteren & bit) && (cpu->priv == PRIV_S || (cpu->scounteren & bit)));
}

static bool fp_enabled(CPUState *cpu)
{
    return cpu->mstatus & MSTATUS_FS;
}

/* A mip or sip write reaches the software's own bits only. */
static uint64_t mip_writable(CPUState *cpu)
{
    return MIP_SSIP | MIP_SEIP | (cpu->menvcfg & MENVCFG_STCE ? 0 : MIP_STIP);
}

static bool stimecmp_allowed(CPUState *cpu)
{
    return cpu->priv == PRIV_M ||
           ((cpu->menvcfg & MENVCFG_STCE) && (cpu->mcounteren & COUNTER_TM));
}

static bool satp_allowed(CPUState *cpu)
{
    return cpu->priv != PRIV_S || !(cpu->mstatus & MSTATUS_TVM);
}

static bool csr_read_pmp(CPUState *cpu, unsigned csr, uint64_t *v)
{
    if (csr >= 0x3a0 && csr < 0x3b0) {
        if (csr & 1) {
            return false;
        }
        *v = csr < 0x3a4 ? rv64_pmp_read_cfg(cpu, csr - 0x3a0) : 0;
    } else {
        *v = csr - 0x3b0 < RV64_PMP_ENTRIES ? cpu->pmpaddr[csr - 0x3b0] : 0;
    }
    return true;
}

static bool csr_read(CPUState *cpu, unsigned csr, uint64_t *v)
{
    switch (csr) {
    case 0x001:
        return fp_enabled(cpu) && (*v = cpu->fflags, true);
    case 0x002:
        return fp_enabled(cpu) && (*v = cpu->frm, true);
    case 0x003:
        return fp_enabled(cpu) && (*v = cpu->frm << 5 | cpu->fflags, true);
    case CSR_SSTATUS:
        *v = rv64_mstatus_read(cpu) & (SSTATUS_MASK | MSTATUS_UXL | MSTATUS_SD);
        return true;
    case 0x104: return *v = cpu->mie & cpu->mideleg, true;
    case 0x105: return *v = cpu->stvec, true;
    case 0x106: return *v = cpu->scounteren, true;
    case 0x10a: return *v = cpu->senvcfg, true;
    case 0x140: return *v = cpu->sscratch, true;
    case 0x141: return *v = cpu->sepc, true;
    case 0x142: return *v = cpu->scause, true;
    case 0x143: return *v = cpu->stval, true;
    case 0x144: return *v = rv64_mip(cpu) & cpu->mideleg, true;
    case 0x14d: return stimecmp_allowed(cpu) && (*v = cpu->stimecmp, true);
    case 0x180: return satp_allowed(cpu) && (*v = cpu->satp, true);
    case 0x300: return *v = rv64_mstatus_read(cpu), true;
    case 0x301: return *v = MISA, true;
    case 0x302: return *v = cpu->medeleg, true;
    case 0x303: return *v = cpu->mideleg, true;
    case 0x304: return *v = cpu->mie, true;
    case 0x305: return *v = cpu->mtvec, true;
    case 0x306: return *v = cpu->mcounteren, true;
    case 0x30a: return *v = cpu->menvcfg, true;
    case 0x320: return *v = cpu->mcountinhibit, true;
    case 0x340: return *v = cpu->mscratch, true;
    case 0x341: return *v = cpu->mepc, true;
    case 0x342: return *v = cpu->mcause, true;
    case 0x343: return *v = cpu->mtval, true;
    case 0x344: return *v = rv64_mip(cpu), true;
    case 0xb00: return *v = counter_read(cpu, COUNTER_CY, cpu->cycle_offset), true;
    case 0xb02: return *v = counter_read(cpu, COUNTER_IR, cpu->instret_offset), true;
    case 0xc00:
        return counter_allowed(cpu, COUNTER_CY) &&
               (*v = counter_read(cpu, COUNTER_CY, cpu->cycle_offset), true);
    case 0xc01: return counter_allowed(cpu, COUNTER_TM) && (*v = rv64_time(cpu), true);
    case 0xc02:
        return counter_allowed(cpu, COUNTER_IR) &&
               (*v = counter_read(cpu, COUNTER_IR, cpu->instret_offset), true);
    case 0xf11: /* mvendorid */
    case 0xf12: /* marchid */
    case 0xf13: /* mimpid */
    case 0xf15: /* mconfigptr */
        return *v = 0, true;
    case 0xf14: return *v = cpu->config.index, true;
    }
    if (csr >= 0x3a0 && csr <= 0x3ef) {
        return csr_read_pmp(cpu, csr, v);
    }
    /* mhpmevent3-31, mhpmcounter3-31: none is implemented, all read as zero. */
    if ((csr >= 0x323 && csr <= 0x33f) || (csr >= 0xb03 && csr <= 0xb1f) ||
        (csr >= 0xc03 && csr <= 0xc1f && cpu->priv == PRIV_M)) {
        return *v = 0, true;
    }
    return false;
}

static void write_masked(uint64_t *reg, uint64_t value, uint64_t mask)
{
    *reg = (*reg & ~mask) | (value & mask);
}

static void satp_write(CPUState *cpu, uint64_t value)
{
    int mode = value >> SATP_MODE_SHIFT;

    if ((mode == SATP_BARE || mode == SATP_SV39 || mode == SATP_SV48) && value != cpu->satp) {
        cpu->satp = value;
        rv64_tlb_flush(cpu); /* ASIDs are stored but do not tag anything */
    }
}

static void fcsr_write(CPUState *cpu, uint8_t frm, uint8_t fflags)
{
    cpu->frm = frm & 7;
    cpu->fflags = fflags & 31;
    cpu->mstatus |= MSTATUS_FS;
}

static void menvcfg_write(CPUState *cpu, uint64_t value)
{
    cpu->menvcfg = value & (MENVCFG_STCE | MENVCFG_FIOM);
    rv64_timer_update(cpu);
    rv64_check_interrupts(cpu);
}

static void pmp_write(CPUState *cpu, unsigned csr, uint64_t v)
{
    bool changed = false;

    if (csr < 0x3b0) {
        changed = csr < 0x3a4 && rv64_pmp_write_cfg(cpu, csr - 0x3a0, v);
    } else if (csr - 0x3b0 < RV64_PMP_ENTRIES) {
        changed = rv64_pmp_write_addr(cpu, csr - 0x3b0, v);
    }
    if (changed) {
        rv64_tlb_flush(cpu);
    }
}

/* Only for registers that csr_read() knows and allows. */
static void csr_write(CPUState *cpu, unsigned csr, uint64_t v)
{
    switch (csr) {
    case 0x001: fcsr_write(cpu, cpu->frm, v); break;
    case 0x002: fcsr_write(cpu, v, cpu->fflags); break;
    case 0x003: fcsr_write(cpu, v >> 5, v); break;
    case CSR_SSTATUS:
        rv64_mstatus_write(cpu, (cpu->mstatus & ~SSTATUS_MASK) | (v & SSTATUS_MASK));
        break;
    case 0x104: write_masked(&cpu->mie, v, cpu->mideleg); break;
    case 0x105: cpu->stvec = v & TVEC_MASK; break;
    case 0x106: cpu->scounteren = v & 7; break;
    case 0x10a: cpu->senvcfg = v & MENVCFG_FIOM; break;
    case 0x140: cpu->sscratch = v; break;
    case 0x141: cpu->sepc = v & ~UINT64_C(1); break;
    case 0x142: cpu->scause = v; break;
    case 0x143: cpu->stval = v; break;
    case 0x144: write_masked(&cpu->mip_soft, v, MIP_SSIP & cpu->mideleg); break;
    case 0x14d:
        cpu->stimecmp = v;
        rv64_timer_update(cpu);
        break;
    case 0x180: satp_write(cpu, v); break;
    case 0x300: rv64_mstatus_write(cpu, v); break;
    case 0x302: cpu->medeleg = v & MEDELEG_MASK; break;
    case 0x303: cpu->mideleg = v & MIP_S_MASK; break;
    case 0x304: cpu->mie = v & MIP_ALL; break;
    case 0x305: cpu->mtvec = v & TVEC_MASK; break;
    case 0x306: cpu->mcounteren = v & 7; break;
    case 0x30a: menvcfg_write(cpu, v); break;
    case 0x320: inhibit_write(cpu, v); break;
    case 0x340: cpu->mscratch = v; break;
    case 0x341: cpu->mepc = v & ~UINT64_C(1); break;
    case 0x342: cpu->mcause = v; break;
    case 0x343: cpu->mtval = v; break;
    case 0x344: write_masked(&cpu->mip_soft, v, mip_writable(cpu)); break;
    case 0xb00: counter_write(cpu, COUNTER_CY, &cpu->cycle_offset, v); break;
    case 0xb02: counter_write(cpu, COUNTER_IR, &cpu->instret_offset, v); break;
    default:
        if (csr >= 0x3a0 && csr <= 0x3ef) {
            pmp_write(cpu, csr, v);
        }
    }
}

bool rv64_csr(CPUState *cpu, unsigned csr, CsrOp op, uint64_t operand, bool write,
              uint64_t *old)
{
    uint64_t base;

    if (cpu->priv < (int)(csr >> 8 & 3) || (write && (csr >> 10) == 3) ||
        !csr_read(cpu, csr, old)) {
        log_if(LOG_UNIMP, "rv64: no access to CSR 0x%03x in mode %u\n", csr, cpu->priv);
        return false;
    }
    if (!write) {
        return true;
    }
    base = *old;
    if (csr == 0x344) {
        /* Priv, mip: set and clear see the software-writable SEIP, not the wire. */
        base = (base & ~MIP_SEIP) | (cpu->mip_soft & MIP_SEIP);
    }
    csr_write(cpu, csr,
              op == CSR_WRITE ? operand : op == CSR_SET ? base | operand : base & ~operand);
    rv64_check_interrupts(cpu);
    return true;
}
