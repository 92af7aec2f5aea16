/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a debugger asks of a hart: breakpoints, watchpoints, single steps, translation.
 *
 * A breakpoint is a virtual address, decoded blocks are physical.  So every instruction at
 * the same offset in any page gets an op BREAK before it when it is decoded, and that op
 * looks up the virtual address.  The set of offsets only grows until clear(), so that a
 * debugger which removes and inserts its breakpoints at each stop flushes nothing.
 *
 * A watchpoint sends its page's accesses the slow way.  One that is watched raises EXC_DEBUG
 * before it is made; the instruction is then executed as a step, and the stop is reported
 * behind it.
 *
 * A step is a block of one instruction that is not cached, and a limit that is reached at
 * the next block.  Without a debugger all of this costs tests of flags on slow paths only.
 *
 * vCPU thread, or any other while the hart stands.
 */
#include <string.h>

#include "cpu.h"
#include "page-table.h"
#include "util/guest-memory.h"

#define MAX_POINTS 1024u
#define OFFSETS (RV64_PAGE_SIZE / 2)

typedef struct Watchpoint {
    uint64_t addr, len;
    CpuWatch watch;
} Watchpoint;

struct DebugState {
    GArray *breakpoints; /* uint64_t */
    GArray *watchpoints;
    uint64_t offsets[OFFSETS / 64]; /* in a page, in halfwords: what has an op BREAK */
    CpuStop stop;
    uint64_t step_icount;
    bool step_trapped;
    bool watch_hit; /* EXC_DEBUG has been raised for stop */
    bool finishing; /* stepping is for the instruction that did that */
    /* The breakpoint that was reported last does not stop who goes on from there. */
    uint64_t reported_pc, reported_icount;
};

void rv64_debug_init(CPUState *cpu)
{
    DebugState *d = g_new0(DebugState, 1);

    d->breakpoints = g_array_new(false, false, sizeof(uint64_t));
    d->watchpoints = g_array_new(false, false, sizeof(Watchpoint));
    d->reported_icount = UINT64_MAX;
    cpu->debug = d;
}

void rv64_debug_free(CPUState *cpu)
{
    g_array_unref(cpu->debug->breakpoints);
    g_array_unref(cpu->debug->watchpoints);
    g_free(cpu->debug);
}

void rv64_debug_flush(CPUState *cpu)
{
    DebugState *d = cpu->debug;

    cpu->stepping = d->watch_hit = d->finishing = false;
    d->reported_icount = UINT64_MAX;
}

/* --- Steps ----------------------------------------------------------------------------- */

static void begin_step(CPUState *cpu)
{
    cpu->debug->step_icount = cpu->icount;
    cpu->debug->step_trapped = false;
    cpu->stepping = true;
    memset(cpu->blocks.jumps, 0, JUMP_CACHE_SIZE * sizeof(*cpu->blocks.jumps));
}

bool rv64_debug_step_done(CPUState *cpu)
{
    DebugState *d = cpu->debug;

    if (cpu->icount != d->step_icount || d->step_trapped) {
        return true;
    }
    cpu->step_fetched = false;
    /* A request that this overwrites is looked at again one instruction later. */
    __atomic_store_n(&cpu->limit, cpu->icount + 2, __ATOMIC_SEQ_CST);
    return false;
}

void rv64_debug_trapped(CPUState *cpu)
{
    cpu->debug->step_trapped = true;
    rv64_attention(cpu);
}

CpuExit rv64_debug_exit(CPUState *cpu)
{
    DebugState *d = cpu->debug;

    if (d->watch_hit) {
        CpuExit reason;

        d->watch_hit = false;
        d->finishing = true;
        begin_step(cpu);
        reason = rv64_exec(cpu, NULL);
        if (reason != CPU_EXIT_DEBUG) {
            return reason; /* and the next run goes on with the step */
        }
    }
    if (cpu->stepping && !d->finishing) {
        d->stop = (CpuStop){.kind = CPU_STOP_STEP};
    }
    cpu->stepping = d->finishing = false;
    return CPU_EXIT_DEBUG;
}

static void set_step(CPUState *cpu, bool on)
{
    cpu->debug->finishing = false;
    cpu->stepping = false;
    if (on) {
        begin_step(cpu);
    }
}

/* --- Breakpoints ------------------------------------------------------------------------ */

bool rv64_debug_breaks_at(CPUState *cpu, unsigned page_offset)
{
    return cpu->debug->offsets[page_offset / 128] >> (page_offset / 2 % 64) & 1;
}

static int find_breakpoint(DebugState *d, uint64_t addr)
{
    for (guint i = 0; i < d->breakpoints->len; i++) {
        if (g_array_index(d->breakpoints, uint64_t, i) == addr) {
            return (int)i;
        }
    }
    return -1;
}

bool rv64_debug_break(CPUState *cpu, uint64_t pc, uint64_t icount)
{
    DebugState *d = cpu->debug;

    if (find_breakpoint(d, pc) < 0 ||
        (pc == d->reported_pc && icount == d->reported_icount)) {
        return false;
    }
    d->reported_pc = pc;
    d->reported_icount = icount;
    d->stop = (CpuStop){.kind = CPU_STOP_BREAKPOINT, .addr = pc};
    return true;
}

static bool set_breakpoint(CPUState *cpu, uint64_t addr, bool insert)
{
    DebugState *d = cpu->debug;
    unsigned half = (addr & ~RV64_PAGE_MASK) / 2;
    int at = find_breakpoint(d, addr);

    if (!insert) {
        if (at >= 0) {
            g_array_remove_index_fast(d->breakpoints, at);
        }
        return at >= 0;
    }
    if (at >= 0) {
        return true;
    }
    if (d->breakpoints->len == MAX_POINTS) {
        return false;
    }
    g_array_append_val(d->breakpoints, addr);
    if (!(d->offsets[half / 64] >> (half % 64) & 1)) {
        d->offsets[half / 64] |= UINT64_C(1) << (half % 64);
        cpu->breaking = true;
        rv64_blocks_flush(cpu);
    }
    return true;
}

/* --- Watchpoints ------------------------------------------------------------------------ */

static bool overlaps(const Watchpoint *w, uint64_t va, uint64_t size)
{
    return va - w->addr < w->len || w->addr - va < size;
}

bool rv64_debug_page_watched(CPUState *cpu, uint64_t va)
{
    GArray *list = cpu->debug->watchpoints;

    for (guint i = 0; i < list->len; i++) {
        if (overlaps(&g_array_index(list, Watchpoint, i), va & RV64_PAGE_MASK, RV64_PAGE_SIZE)) {
            return true;
        }
    }
    return false;
}

bool rv64_debug_watch(CPUState *cpu, uint64_t va, unsigned size, CpuWatch access)
{
    DebugState *d = cpu->debug;

    for (guint i = 0; !d->finishing && i < d->watchpoints->len; i++) {
        const Watchpoint *w = &g_array_index(d->watchpoints, Watchpoint, i);

        if ((w->watch & access) && overlaps(w, va, size)) {
            d->stop = (CpuStop){CPU_STOP_WATCHPOINT, w->watch, w->addr};
            d->watch_hit = true;
            rv64_raise(cpu, EXC_DEBUG, 0);
            return true;
        }
    }
    return false;
}

static int find_watchpoint(DebugState *d, const Watchpoint *w)
{
    for (guint i = 0; i < d->watchpoints->len; i++) {
        if (!memcmp(&g_array_index(d->watchpoints, Watchpoint, i), w, sizeof(*w))) {
            return (int)i;
        }
    }
    return -1;
}

static bool set_watchpoint(CPUState *cpu, uint64_t addr, uint64_t len, CpuWatch watch,
                           bool insert)
{
    DebugState *d = cpu->debug;
    Watchpoint w;
    int at;

    memset(&w, 0, sizeof(w)); /* compared as bytes */
    w.addr = addr;
    w.len = len;
    w.watch = watch;
    at = find_watchpoint(d, &w);
    if (!insert) {
        if (at < 0) {
            return false;
        }
        g_array_remove_index_fast(d->watchpoints, at);
    } else if (at < 0) {
        if (len == 0 || addr + (len - 1) < addr || d->watchpoints->len == MAX_POINTS) {
            return false;
        }
        g_array_append_val(d->watchpoints, w);
    }
    cpu->watched = d->watchpoints->len > 0;
    rv64_tlb_flush(cpu);
    return true;
}

static void clear(CPUState *cpu)
{
    DebugState *d = cpu->debug;

    g_array_set_size(d->breakpoints, 0);
    g_array_set_size(d->watchpoints, 0);
    memset(d->offsets, 0, sizeof(d->offsets));
    rv64_debug_flush(cpu);
    if (cpu->breaking) {
        cpu->breaking = false;
        rv64_blocks_flush(cpu);
    }
    if (cpu->watched) {
        cpu->watched = false;
        rv64_tlb_flush(cpu);
    }
}

static CpuStop last_stop(CPUState *cpu)
{
    return cpu->debug->stop;
}

/* --- Addresses ---------------------------------------------------------------------------- */

/* satp where it translates, else 0.  As loads and stores are: mstatus.MPRV counts. */
static uint64_t address_view(CPUState *cpu)
{
    int priv = cpu->priv;

    if (priv == PRIV_M && (cpu->mstatus & MSTATUS_MPRV)) {
        priv = (cpu->mstatus & MSTATUS_MPP) >> MSTATUS_MPP_SHIFT;
    }
    return priv == PRIV_M || cpu->satp >> SATP_MODE_SHIFT == SATP_BARE ? 0 : cpu->satp;
}

static bool translate(CPUState *cpu, uint64_t view, uint64_t va, uint64_t *pa)
{
    *pa = va;
    return !view || rv64_translate(cpu->config.as, rv64_satp_root(view), rv64_satp_levels(view), va,
                                   pa);
}

static bool access_memory(CPUState *cpu, uint64_t view, uint64_t addr, void *buf, size_t len,
                          bool write)
{
    for (size_t done = 0; done < len;) {
        uint64_t va = addr + done, pa, n = MIN(len - done, RV64_PAGE_SIZE - va % RV64_PAGE_SIZE);
        uint8_t *p = (uint8_t *)buf + done;
        bool ok;

        if (!translate(cpu, view, va, &pa)) {
            return false;
        }
        guest_memory_begin();
        ok = write ? address_space_write(cpu->config.as, pa, p, n)
                   : address_space_read(cpu->config.as, pa, p, n);
        guest_memory_end();
        if (!ok) {
            return false;
        }
        done += n;
    }
    return true;
}

const CpuDebugOps rv64_debug_ops = {
    .description = rv64_debug_description,
    .core_registers = 33,
    .read_register = rv64_debug_read_register,
    .write_register = rv64_debug_write_register,
    .set_breakpoint = set_breakpoint,
    .set_watchpoint = set_watchpoint,
    .set_step = set_step,
    .clear = clear,
    .last_stop = last_stop,
    .address_view = address_view,
    .access_memory = access_memory,
};
