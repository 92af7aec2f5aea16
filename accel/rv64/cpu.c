/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The engine's face: life of a hart, interrupts and kicks from other threads, and the
 * description of the architectural state for snapshots.
 *
 * What other threads may do is set a flag (kicked, irq_lines) and then ask for attention;
 * the vCPU resets the request first and reads the flags afterwards, so none is lost.
 */
#include <string.h>

#include "cpu.h"
#include "hw/vm-clock.h"
#include "util/log.h"

static void rv64_reset(CPUState *cpu)
{
    if (log_enabled(LOG_CPU_RESET)) {
        rv64_log_state(cpu);
    }
    memset(cpu->x, 0, sizeof(cpu->x));
    memset(cpu->f, 0, sizeof(cpu->f));
    memset(cpu->pmpcfg, 0, sizeof(cpu->pmpcfg));
    memset(cpu->pmpaddr, 0, sizeof(cpu->pmpaddr));
    cpu->pc = cpu->config.reset_pc & ~UINT64_C(1);
    cpu->priv = PRIV_M;
    cpu->fflags = cpu->frm = 0;
    cpu->halted = cpu->stip = false;
    cpu->mstatus = 0;
    cpu->mie = cpu->mip_soft = cpu->medeleg = cpu->mideleg = 0;
    cpu->mtvec = cpu->mepc = cpu->mcause = cpu->mtval = cpu->mscratch = 0;
    cpu->stvec = cpu->sepc = cpu->scause = cpu->stval = cpu->sscratch = cpu->satp = 0;
    cpu->menvcfg = cpu->senvcfg = cpu->mcounteren = cpu->scounteren = 0;
    cpu->mcountinhibit = 0;
    cpu->cycle_offset = cpu->instret_offset = -cpu->icount;
    cpu->stimecmp = UINT64_MAX;
    cpu->reserve_host = NULL;
    rv64_pmp_update(cpu);
    rv64_tlb_flush(cpu);
    rv64_update_context(cpu);
}

/* Any thread. */
static void rv64_dirtied(void *opaque, uint64_t addr, uint64_t len)
{
    rv64_blocks_dirtied(opaque, addr, len);
}

static CPUState *rv64_create(const CpuConfig *config, GError **errp)
{
    CPUState *cpu;

    if (config->timebase_hz == 0) {
        g_set_error(errp, g_quark_from_static_string("rv64"), 0,
                    "Could not create hart %d: the timebase frequency is zero",
                    config->index);
        return NULL;
    }
    cpu = g_new0(CPUState, 1);
    cpu->config = *config;
    cpu->next_context = 1;
    memset(cpu->tlb, 0xff, sizeof(cpu->tlb));
    rv64_blocks_init(cpu);
    rv64_debug_init(cpu);
    rv64_reset(cpu);
    address_space_set_dirty_listener(config->as, rv64_dirtied, cpu);
    return cpu;
}

static void rv64_destroy(CPUState *cpu)
{
    address_space_set_dirty_listener(cpu->config.as, NULL, NULL);
    rv64_blocks_free(cpu);
    rv64_debug_free(cpu);
    g_free(cpu);
}

static bool rv64_has_work(CPUState *cpu)
{
    rv64_timer_update(cpu);
    return rv64_mip(cpu) & cpu->mie;
}

static CpuExit rv64_run(CPUState *cpu)
{
    CpuExit reason;

    if (cpu->halted && !cpu->stepping) {
        if (__atomic_exchange_n(&cpu->kicked, 0, __ATOMIC_SEQ_CST)) {
            return CPU_EXIT_KICKED;
        }
        if (!rv64_has_work(cpu)) {
            return CPU_EXIT_HALTED;
        }
    }
    cpu->halted = false;
    reason = rv64_exec(cpu, NULL);
    return unlikely(reason == CPU_EXIT_DEBUG) ? rv64_debug_exit(cpu) : reason;
}

static void rv64_kick(CPUState *cpu)
{
    __atomic_store_n(&cpu->kicked, 1, __ATOMIC_SEQ_CST);
    rv64_attention(cpu);
}

static void rv64_set_irq(CPUState *cpu, int bit, bool level)
{
    uint64_t mask = (UINT64_C(1) << bit) & MIP_ALL;

    if (!level) {
        __atomic_fetch_and(&cpu->irq_lines, ~mask, __ATOMIC_SEQ_CST);
        return;
    }
    if (!(__atomic_fetch_or(&cpu->irq_lines, mask, __ATOMIC_SEQ_CST) & mask)) {
        rv64_attention(cpu);
        if (cpu->wake) {
            cpu->wake(cpu->wake_opaque);
        }
    }
}

static void rv64_set_wake(CPUState *cpu, void (*wake)(void *opaque), void *opaque)
{
    cpu->wake = wake;
    cpu->wake_opaque = opaque;
}

static int64_t rv64_next_deadline(CPUState *cpu)
{
    unsigned __int128 ns;

    if (!(cpu->menvcfg & MENVCFG_STCE) || !(cpu->mie & MIP_STIP) ||
        cpu->stimecmp == UINT64_MAX) {
        return INT64_MAX;
    }
    ns = ((unsigned __int128)cpu->stimecmp * 1000000000u + cpu->config.timebase_hz - 1) /
         cpu->config.timebase_hz;
    return ns > INT64_MAX ? INT64_MAX : vm_clock_to_host((int64_t)ns);
}

static void rv64_flush(CPUState *cpu)
{
    rv64_blocks_flush(cpu);
    rv64_tlb_flush(cpu);
    rv64_debug_flush(cpu);
    memset(cpu->recent, 0, sizeof(cpu->recent));
    cpu->reserve_host = NULL;
}

static uint64_t rv64_get_pc(CPUState *cpu)
{
    return cpu->pc;
}

/* A stream is input like any other: what the hart could not hold is refused. */
static bool rv64_post_load(void *opaque, int version, GError **errp)
{
    CPUState *cpu = opaque;
    int satp_mode = cpu->satp >> SATP_MODE_SHIFT;
    const char *wrong = NULL;

    if (cpu->priv != PRIV_U && cpu->priv != PRIV_S && cpu->priv != PRIV_M) {
        wrong = "privilege";
    } else if ((cpu->mstatus & MSTATUS_MPP) == UINT64_C(2) << MSTATUS_MPP_SHIFT) {
        wrong = "mstatus";
    } else if (satp_mode != SATP_BARE && satp_mode != SATP_SV39 && satp_mode != SATP_SV48) {
        wrong = "satp";
    } else if (cpu->pc & 1) {
        wrong = "pc";
    }
    if (wrong) {
        g_set_error(errp, g_quark_from_static_string("rv64"), 0,
                    "Could not load the state of hart %d: invalid %s", cpu->config.index,
                    wrong);
        return false;
    }
    cpu->x[0] = 0;
    cpu->frm &= 7;
    cpu->fflags &= 31;
    cpu->irq_lines &= MIP_ALL;
    rv64_pmp_update(cpu);
    rv64_flush(cpu);
    rv64_update_context(cpu);
    rv64_timer_update(cpu);
    rv64_attention(cpu);
    return true;
}

static const VMStateField rv64_fields[] = {
    {.name = "x", .offset = offsetof(CPUState, x), .size = 8, .num = 32,
     .kind = VMSTATE_KIND_UINT64},
    VMSTATE_UINT64_ARRAY(f, CPUState, 32),
    VMSTATE_UINT64(pc, CPUState),
    VMSTATE_UINT8(priv, CPUState),
    VMSTATE_BOOL(halted, CPUState),
    VMSTATE_UINT8(fflags, CPUState),
    VMSTATE_UINT8(frm, CPUState),
    VMSTATE_UINT64(mstatus, CPUState),
    VMSTATE_UINT64(mie, CPUState),
    VMSTATE_UINT64(mip_soft, CPUState),
    VMSTATE_UINT64(irq_lines, CPUState),
    VMSTATE_UINT64(medeleg, CPUState),
    VMSTATE_UINT64(mideleg, CPUState),
    VMSTATE_UINT64(mtvec, CPUState),
    VMSTATE_UINT64(mepc, CPUState),
    VMSTATE_UINT64(mcause, CPUState),
    VMSTATE_UINT64(mtval, CPUState),
    VMSTATE_UINT64(mscratch, CPUState),
    VMSTATE_UINT64(mcounteren, CPUState),
    VMSTATE_UINT64(mcountinhibit, CPUState),
    VMSTATE_UINT64(menvcfg, CPUState),
    VMSTATE_UINT64(stvec, CPUState),
    VMSTATE_UINT64(sepc, CPUState),
    VMSTATE_UINT64(scause, CPUState),
    VMSTATE_UINT64(stval, CPUState),
    VMSTATE_UINT64(sscratch, CPUState),
    VMSTATE_UINT64(satp, CPUState),
    VMSTATE_UINT64(scounteren, CPUState),
    VMSTATE_UINT64(senvcfg, CPUState),
    VMSTATE_UINT64(stimecmp, CPUState),
    VMSTATE_UINT64(icount, CPUState),
    VMSTATE_UINT64(cycle_offset, CPUState),
    VMSTATE_UINT64(instret_offset, CPUState),
    VMSTATE_UINT8_ARRAY(pmpcfg, CPUState, RV64_PMP_ENTRIES),
    VMSTATE_UINT64_ARRAY(pmpaddr, CPUState, RV64_PMP_ENTRIES),
    VMSTATE_END,
};

static const VMStateDescription rv64_vmstate = {
    .name = "cpu",
    .version = 1,
    .minimum_version = 1,
    .post_load = rv64_post_load,
    .fields = rv64_fields,
};

const CpuAccelOps rv64_accel_ops = {
    .name = "tcg",
    .create = rv64_create,
    .destroy = rv64_destroy,
    .run = rv64_run,
    .kick = rv64_kick,
    .reset = rv64_reset,
    .set_irq = rv64_set_irq,
    .has_work = rv64_has_work,
    .set_wake = rv64_set_wake,
    .next_deadline = rv64_next_deadline,
    .flush = rv64_flush,
    .vmsd = &rv64_vmstate,
    .get_pc = rv64_get_pc,
    .recent_pages = rv64_recent_pages,
    .inspect = &rv64_inspect_ops,
    .debug = &rv64_debug_ops,
};

const char *rv64_isa_string(void)
{
    return "rv64imafdc_zicntr_zicsr_zifencei_zihintpause_zba_zbb_zbs_sstc";
}
