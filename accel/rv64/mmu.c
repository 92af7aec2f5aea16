/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Address translation and the slow paths of memory accesses: page table walks (Priv,
 * "Sv39", "Sv48"), the software TLB, devices, misaligned accesses, atomics.
 *
 * vCPU thread.  An access to guest RAM may block in the kernel for as long as a snapshot
 * needs, so no lock is held across one; the machine lock is taken around device callbacks
 * only.  Bits A and D are set in the page tables by atomic compare-and-exchange.
 */
#include <string.h>

#include "cpu.h"
#include "page-table.h"
#include "util/log.h"

/* Where an access goes. */
typedef struct Target {
    uint8_t *host;            /* RAM, ROM; NULL: a device, or memory that acts as one now */
    const MemoryRegion *region;
    uint64_t pa;
    bool code; /* a store must be reported to blocks.c */
} Target;

static int mode_priv(int mode)
{
    return mode == MMU_U ? PRIV_U : mode == MMU_M ? PRIV_M : PRIV_S;
}

static bool page_fault(CPUState *cpu, uint64_t va, MmuAccess access)
{
    static const uint8_t cause[] = {
        [MMU_READ] = EXC_LOAD_PAGE, [MMU_WRITE] = EXC_STORE_PAGE, [MMU_FETCH] = EXC_FETCH_PAGE};

    return rv64_raise(cpu, cause[access], va);
}

static bool access_fault(CPUState *cpu, uint64_t va, MmuAccess access)
{
    static const uint8_t cause[] = {[MMU_READ] = EXC_LOAD_ACCESS,
                                    [MMU_WRITE] = EXC_STORE_ACCESS,
                                    [MMU_FETCH] = EXC_FETCH_ACCESS};

    return rv64_raise(cpu, cause[access], va);
}

/* Whether the access is one to host memory: not to a device, nor to flash as a device. */
static bool is_memory(const MemoryRegion *mr, MmuAccess access)
{
    return access == MMU_WRITE ? mr->host && !mr->ops : memory_region_reads_host(mr);
}

static const MemoryRegion *find_region(CPUState *cpu, uint64_t pa)
{
    const MemoryRegion *mr = cpu->ram;

    if (mr && pa - mr->base < mr->size) {
        return mr;
    }
    mr = address_space_find(cpu->config.as, pa);
    if (mr && mr->host && !mr->read_only) {
        cpu->ram = mr;
    }
    return mr;
}

/* Whether the leaf's permissions allow the access (Priv, translation process, step 6). */
static bool pte_allows(CPUState *cpu, uint64_t pte, MmuAccess access, int mode)
{
    if (pte & PTE_U) {
        if (mode == MMU_S || (mode == MMU_S_SUM && access == MMU_FETCH)) {
            return false;
        }
    } else if (mode == MMU_U) {
        return false;
    }
    switch (access) {
    case MMU_READ:
        return (pte & PTE_R) || ((pte & PTE_X) && (cpu->mstatus & MSTATUS_MXR));
    case MMU_WRITE:
        return pte & PTE_W;
    default:
        return pte & PTE_X;
    }
}

typedef struct Walk {
    uint64_t pa;
    uint64_t page_size;
    bool writable; /* stores need no further walk: the PTE has W and D */
} Walk;

/* The entry's place in RAM, NULL (with the exception set) if there is none. */
static uint64_t *pte_pointer(CPUState *cpu, uint64_t pa, uint64_t va, MmuAccess access,
                             bool for_write)
{
    const MemoryRegion *mr = find_region(cpu, pa);

    if (!mr || !mr->host || mr->size - (pa - mr->base) < 8 || (for_write && mr->read_only) ||
        !rv64_pmp_check(cpu, pa, 8, for_write ? MMU_WRITE : MMU_READ, PRIV_S)) {
        access_fault(cpu, va, access);
        return NULL;
    }
    return (uint64_t *)(mr->host + (pa - mr->base));
}

/* Sets A and D.  False: *retry, or an exception. */
static bool pte_update(CPUState *cpu, uint64_t pte_pa, uint64_t pte, uint64_t add, uint64_t va,
                       MmuAccess access, bool *retry)
{
    uint64_t *host = pte_pointer(cpu, pte_pa, va, access, true), expected = GUINT64_TO_LE(pte);

    *retry = false;
    if (!host) {
        return false;
    }
    if (!__atomic_compare_exchange_n(host, &expected, GUINT64_TO_LE(pte | add), false,
                                     __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
        *retry = true;
        return false;
    }
    if (rv64_blocks_has_code(cpu, pte_pa)) {
        rv64_blocks_written(cpu, pte_pa, 8);
    }
    return true;
}

static bool walk_leaf(CPUState *cpu, uint64_t va, MmuAccess access, int mode, int level,
                      uint64_t pte_pa, uint64_t pte, Walk *w, bool *retry)
{
    uint64_t page = rv64_pte_address(pte);
    uint64_t add = PTE_A | (access == MMU_WRITE ? PTE_D : 0);

    *retry = false;
    w->page_size = UINT64_C(1) << rv64_level_shift(level);
    if (!pte_allows(cpu, pte, access, mode) || (page & (w->page_size - 1))) {
        return page_fault(cpu, va, access);
    }
    if ((pte & add) != add &&
        !pte_update(cpu, pte_pa, pte, add, va, access, retry)) {
        return false;
    }
    pte |= add;
    w->pa = page | (va & (w->page_size - 1));
    w->writable = (pte & PTE_D) && pte_allows(cpu, pte, MMU_WRITE, mode);
    return true;
}

static bool walk(CPUState *cpu, uint64_t va, MmuAccess access, int mode, Walk *w)
{
    int levels = rv64_satp_levels(cpu->satp);
    bool retry;

    if (mode == MMU_M || levels == 0) {
        *w = (Walk){.pa = va, .page_size = RV64_PAGE_SIZE, .writable = true};
        return true;
    }
    if (rv64_canonical(va, levels) != va) {
        return page_fault(cpu, va, access);
    }
    do {
        uint64_t table = rv64_satp_root(cpu->satp);

        retry = false;
        for (int level = levels - 1;; level--) {
            uint64_t pte_pa = rv64_pte_place(table, va, level);
            uint64_t *host = pte_pointer(cpu, pte_pa, va, access, false), pte;

            if (!host) {
                return false;
            }
            rv64_note_page(cpu, pte_pa);
            pte = GUINT64_FROM_LE(__atomic_load_n(host, __ATOMIC_ACQUIRE));
            if (!(pte & PTE_V) || (pte & (PTE_R | PTE_W)) == PTE_W || (pte & PTE_RESERVED)) {
                return page_fault(cpu, va, access);
            }
            if (pte & (PTE_R | PTE_X)) {
                if (walk_leaf(cpu, va, access, mode, level, pte_pa, pte, w, &retry)) {
                    return true;
                }
                break;
            }
            if (level == 0 || (pte & (PTE_U | PTE_A | PTE_D))) {
                return page_fault(cpu, va, access);
            }
            table = rv64_pte_address(pte);
        }
    } while (retry);
    return false;
}

static void note_superpage(CPUState *cpu, uint64_t va, uint64_t page_size)
{
    int half = va >> 63;
    uint64_t first = va & ~(page_size - 1), last = first + page_size - 1;

    if (page_size == RV64_PAGE_SIZE) {
        return;
    }
    if (cpu->super_first[half] > cpu->super_last[half]) {
        cpu->super_first[half] = first;
        cpu->super_last[half] = last;
    } else {
        cpu->super_first[half] = MIN(cpu->super_first[half], first);
        cpu->super_last[half] = MAX(cpu->super_last[half], last);
    }
}

static void tlb_insert(CPUState *cpu, int mode, uint64_t va, const Walk *w, Target *t,
                       MmuAccess access)
{
    unsigned index = (va >> RV64_PAGE_BITS) & (TLB_SIZE - 1);
    TlbEntry *e = &cpu->tlb[mode][index];
    const MemoryRegion *mr = t->region;
    uint64_t vpage = va & RV64_PAGE_MASK, ppage = t->pa & RV64_PAGE_MASK;
    int priv = mode_priv(mode);
    bool readable = access == MMU_READ, writable = w->writable;

    if (ppage < mr->base || mr->size - (ppage - mr->base) < RV64_PAGE_SIZE ||
        !rv64_pmp_page_uniform(cpu, ppage)) {
        return; /* not one answer for the whole page: every access is checked */
    }
    if (access == MMU_WRITE) {
        /* What may be written may be read, but for the PMP. */
        readable = rv64_pmp_check(cpu, ppage, RV64_PAGE_SIZE, MMU_READ, priv);
    } else if (writable) {
        writable = (!mr->read_only || mr->ops) &&
                   rv64_pmp_check(cpu, ppage, RV64_PAGE_SIZE, MMU_WRITE, priv);
    }
    note_superpage(cpu, va, w->page_size);
    rv64_note_page(cpu, ppage);
    cpu->tlb_used[mode][index / 64] |= UINT64_C(1) << (index % 64);
    e->paddr = ppage;
    e->addend = mr->host ? (uintptr_t)(mr->host + (ppage - mr->base)) - vpage : 0;
    e->read_tag = !readable ? TLB_INVALID :
                  is_memory(mr, MMU_READ) ? vpage : vpage | TLB_SLOW;
    e->write_tag = !writable ? TLB_INVALID :
                   is_memory(mr, MMU_WRITE) && !rv64_blocks_has_code(cpu, ppage) ? vpage : vpage | TLB_SLOW;
    if (unlikely(cpu->watched) && rv64_debug_page_watched(cpu, vpage)) {
        e->read_tag |= TLB_SLOW;
        e->write_tag |= TLB_SLOW;
    }
}

/* -d guest_errors */
static void log_refused(uint64_t pa, unsigned size, MmuAccess access, const MemoryRegion *mr)
{
    log_if(LOG_GUEST_ERRORS, "Invalid %s at addr 0x%" G_GINT64_MODIFIER "x, size %u, region '%s', "
           "reason: rejected\n", access == MMU_WRITE ? "write" : "read", pa, size,
           mr ? mr->name : "(null)");
}

/* Translates an access within one page and finds its target. */
static bool resolve(CPUState *cpu, uint64_t va, unsigned size, MmuAccess access, Target *t)
{
    int mode = (int)((cpu->dtlb - &cpu->tlb[0][0]) / TLB_SIZE);
    TlbEntry *e = &cpu->dtlb[(va >> RV64_PAGE_BITS) & (TLB_SIZE - 1)];
    uint64_t tag = access == MMU_WRITE ? e->write_tag : e->read_tag;
    Walk w;

    if ((tag & ~TLB_SLOW) == (va & RV64_PAGE_MASK)) {
        t->pa = e->paddr | (va & ~RV64_PAGE_MASK);
        t->region = find_region(cpu, t->pa);
    } else {
        if (!walk(cpu, va, access, mode, &w)) {
            return false;
        }
        t->pa = w.pa;
        t->region = find_region(cpu, w.pa);
        if (!t->region ||
            (access == MMU_WRITE && t->region->read_only && !t->region->ops) ||
            t->region->size - (w.pa - t->region->base) < size ||
            !rv64_pmp_check(cpu, w.pa, size, access, mode_priv(mode))) {
            log_refused(w.pa, size, access, t->region);
            return access_fault(cpu, va, access);
        }
        tlb_insert(cpu, mode, va, &w, t, access);
    }
    t->host = is_memory(t->region, access) ? t->region->host + (t->pa - t->region->base) : NULL;
    t->code = false;
    if (access == MMU_WRITE && t->host) {
        t->code = rv64_blocks_has_code(cpu, t->pa);
        if (!t->code && e->write_tag == ((va & RV64_PAGE_MASK) | TLB_SLOW) &&
            !(cpu->watched && rv64_debug_page_watched(cpu, va))) {
            e->write_tag &= ~TLB_SLOW; /* its code has been thrown away */
        }
    }
    return true;
}

/* Reads of the region have begun, or ceased, to be reads of its memory. */
static void redirect_reads(CPUState *cpu, const MemoryRegion *mr)
{
    bool slow = !is_memory(mr, MMU_READ);

    for (int mode = 0; mode < MMU_MODES; mode++) {
        for (unsigned i = 0; i < TLB_SIZE; i++) {
            TlbEntry *e = &cpu->tlb[mode][i];

            if (e->read_tag != TLB_INVALID && e->paddr - mr->base < mr->size) {
                bool watched = cpu->watched && rv64_debug_page_watched(cpu, e->read_tag);

                e->read_tag = slow || watched ? e->read_tag | TLB_SLOW : e->read_tag & ~TLB_SLOW;
            }
        }
    }
}

static bool mmio(CPUState *cpu, const Target *t, uint64_t va, unsigned size, MmuAccess access,
                 uint64_t *value)
{
    const MMIOOps *ops = t->region->ops;
    uint64_t offset = t->pa - t->region->base;
    bool direct = memory_region_reads_host(t->region);

    if (!ops || !(access == MMU_WRITE ? (void *)ops->write : (void *)ops->read) ||
        size < (ops->min_size ? ops->min_size : 1) ||
        size > (ops->max_size ? ops->max_size : 8)) {
        log_refused(t->pa, size, access, t->region);
        return access_fault(cpu, va, access);
    }
    if (!ops->lockless) {
        cpu->config.lock(cpu->config.lock_opaque);
    }
    if (access == MMU_WRITE) {
        ops->write(t->region->opaque, offset, *value, size);
    } else {
        *value = ops->read(t->region->opaque, offset, size);
    }
    if (!ops->lockless) {
        cpu->config.unlock(cpu->config.lock_opaque);
    }
    if (memory_region_reads_host(t->region) != direct) {
        redirect_reads(cpu, t->region);
    }
    return true;
}

/* True: the exception for the debugger is set. */
static bool is_watched(CPUState *cpu, uint64_t va, unsigned size, MmuAccess access)
{
    return unlikely(cpu->watched) &&
           rv64_debug_watch(cpu, va, size, access == MMU_WRITE ? CPU_WATCH_WRITE : CPU_WATCH_READ);
}

/* Both parts are translated before anything is accessed. */
static bool misaligned(CPUState *cpu, uint64_t va, unsigned size, MmuAccess access,
                       uint64_t *value)
{
    unsigned first = MIN(size, RV64_PAGE_SIZE - (va & ~RV64_PAGE_MASK));
    uint64_t buf = GUINT64_TO_LE(*value);
    Target t[2] = {};

    if (!resolve(cpu, va, first, access, &t[0]) ||
        (first < size && !resolve(cpu, va + first, size - first, access, &t[1]))) {
        return false;
    }
    if (!t[0].host || (first < size && !t[1].host)) {
        return access_fault(cpu, va, access); /* devices have no misaligned registers */
    }
    if (is_watched(cpu, va, size, access)) {
        return false;
    }
    if (access == MMU_READ) {
        buf = 0;
        memcpy(&buf, t[0].host, first);
        if (first < size) {
            memcpy((uint8_t *)&buf + first, t[1].host, size - first);
        }
        *value = GUINT64_FROM_LE(buf);
        return true;
    }
    memcpy(t[0].host, &buf, first);
    if (t[0].code) {
        rv64_blocks_written(cpu, t[0].pa, first);
    }
    if (first < size) {
        memcpy(t[1].host, (uint8_t *)&buf + first, size - first);
        if (t[1].code) {
            rv64_blocks_written(cpu, t[1].pa, size - first);
        }
    }
    return true;
}

/* Plain RAM for all of a misaligned access: what most of them hit.  NULL if not. */
static void *misaligned_hit(uint64_t tag, const TlbEntry *e, uint64_t va, unsigned size)
{
    return tag == (va & RV64_PAGE_MASK) && (va & ~RV64_PAGE_MASK) + size <= RV64_PAGE_SIZE ?
               (void *)(va + e->addend) : NULL;
}

bool rv64_load(CPUState *cpu, uint64_t va, unsigned size, uint64_t *value)
{
    const TlbEntry *e = &cpu->dtlb[(va >> RV64_PAGE_BITS) & (TLB_SIZE - 1)];
    Target t;

    if (va & (size - 1)) {
        void *host = misaligned_hit(e->read_tag, e, va, size);

        *value = 0;
        if (host) {
            memcpy(value, host, size); /* little endian, as exec.c demands */
            return true;
        }
        return misaligned(cpu, va, size, MMU_READ, value);
    }
    if (!resolve(cpu, va, size, MMU_READ, &t) || is_watched(cpu, va, size, MMU_READ)) {
        return false;
    }
    if (!t.host) {
        return mmio(cpu, &t, va, size, MMU_READ, value);
    }
    switch (size) {
    case 1:
        *value = __atomic_load_n(t.host, __ATOMIC_RELAXED);
        break;
    case 2:
        *value = GUINT16_FROM_LE(__atomic_load_n((uint16_t *)t.host, __ATOMIC_RELAXED));
        break;
    case 4:
        *value = GUINT32_FROM_LE(__atomic_load_n((uint32_t *)t.host, __ATOMIC_RELAXED));
        break;
    default:
        *value = GUINT64_FROM_LE(__atomic_load_n((uint64_t *)t.host, __ATOMIC_RELAXED));
    }
    return true;
}

bool rv64_store(CPUState *cpu, uint64_t va, unsigned size, uint64_t value)
{
    const TlbEntry *e = &cpu->dtlb[(va >> RV64_PAGE_BITS) & (TLB_SIZE - 1)];
    Target t;

    if (va & (size - 1)) {
        void *host = misaligned_hit(e->write_tag, e, va, size);

        if (host) {
            memcpy(host, &value, size);
            return true;
        }
        return misaligned(cpu, va, size, MMU_WRITE, &value);
    }
    if (!resolve(cpu, va, size, MMU_WRITE, &t) || is_watched(cpu, va, size, MMU_WRITE)) {
        return false;
    }
    if (!t.host) {
        if (size < 8) {
            value &= (UINT64_C(1) << (size * 8)) - 1;
        }
        return mmio(cpu, &t, va, size, MMU_WRITE, &value);
    }
    switch (size) {
    case 1:
        __atomic_store_n(t.host, (uint8_t)value, __ATOMIC_RELAXED);
        break;
    case 2:
        __atomic_store_n((uint16_t *)t.host, GUINT16_TO_LE((uint16_t)value), __ATOMIC_RELAXED);
        break;
    case 4:
        __atomic_store_n((uint32_t *)t.host, GUINT32_TO_LE((uint32_t)value), __ATOMIC_RELAXED);
        break;
    default:
        __atomic_store_n((uint64_t *)t.host, GUINT64_TO_LE(value), __ATOMIC_RELAXED);
    }
    if (t.code) {
        rv64_blocks_written(cpu, t.pa, size);
    }
    return true;
}

/* A read-modify-write that the host has no single instruction for. */
#define AMO_LOOP(type, expr)                                                                 \
    do {                                                                                     \
        old = __atomic_load_n(p, __ATOMIC_RELAXED);                                          \
        do {                                                                                 \
            new = (type)(expr);                                                              \
        } while (!__atomic_compare_exchange_n(p, &old, new, true, __ATOMIC_SEQ_CST,          \
                                              __ATOMIC_RELAXED));                            \
    } while (0)

#define DEFINE_AMO(name, utype, stype)                                                       \
    static utype name(utype *p, unsigned funct5, utype v)                                    \
    {                                                                                        \
        utype old, new;                                                                      \
                                                                                             \
        switch (funct5) {                                                                    \
        case 0x00:                                                                           \
            return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST);                               \
        case 0x01:                                                                           \
            return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST);                              \
        case 0x04:                                                                           \
            return __atomic_fetch_xor(p, v, __ATOMIC_SEQ_CST);                               \
        case 0x08:                                                                           \
            return __atomic_fetch_or(p, v, __ATOMIC_SEQ_CST);                                \
        case 0x0c:                                                                           \
            return __atomic_fetch_and(p, v, __ATOMIC_SEQ_CST);                               \
        case 0x10:                                                                           \
            AMO_LOOP(utype, (stype)old < (stype)v ? old : v);                                \
            break;                                                                           \
        case 0x14:                                                                           \
            AMO_LOOP(utype, (stype)old > (stype)v ? old : v);                                \
            break;                                                                           \
        case 0x18:                                                                           \
            AMO_LOOP(utype, old < v ? old : v);                                              \
            break;                                                                           \
        default:                                                                             \
            AMO_LOOP(utype, old > v ? old : v);                                              \
        }                                                                                    \
        return old;                                                                          \
    }
DEFINE_AMO(amo32, uint32_t, int32_t)
DEFINE_AMO(amo64, uint64_t, int64_t)

/* Unpriv, "A": whether the value is unchanged stands for whether the reservation holds. */
static bool store_conditional(CPUState *cpu, const Target *t, unsigned size, uint64_t value)
{
    uint64_t expected = cpu->reserve_value;
    uint32_t expected32 = (uint32_t)expected;
    bool held = cpu->reserve_host == t->host && cpu->reserve_size == size;

    cpu->reserve_host = NULL;
    if (!held) {
        return false;
    }
    if (size == 4) {
        return __atomic_compare_exchange_n((uint32_t *)t->host, &expected32, (uint32_t)value,
                                           false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
    }
    return __atomic_compare_exchange_n((uint64_t *)t->host, &expected, value, false,
                                       __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}

bool rv64_amo(CPUState *cpu, const Op *op)
{
    unsigned funct5 = op->imm >> 1, size = op->imm & 1 ? 8 : 4;
    bool lr = funct5 == 2, written = true;
    MmuAccess access = lr ? MMU_READ : MMU_WRITE;
    uint64_t va = cpu->x[op->rs1], value = cpu->x[op->rs2], old;
    Target t;

    if (va & (size - 1)) {
        return rv64_raise(cpu, lr ? EXC_LOAD_MISALIGNED : EXC_STORE_MISALIGNED, va);
    }
    if (!resolve(cpu, va, size, access, &t)) {
        return false;
    }
    if (!t.host) {
        return access_fault(cpu, va, access); /* devices support no atomics */
    }
    if (is_watched(cpu, va, size, access) || (!lr && is_watched(cpu, va, size, MMU_READ))) {
        return false;
    }
    if (lr) {
        old = size == 4 ? __atomic_load_n((uint32_t *)t.host, __ATOMIC_SEQ_CST) :
                          __atomic_load_n((uint64_t *)t.host, __ATOMIC_SEQ_CST);
        cpu->reserve_host = t.host;
        cpu->reserve_value = old;
        cpu->reserve_size = size;
        written = false;
    } else if (funct5 == 3) {
        written = store_conditional(cpu, &t, size, value);
        cpu->x[op->rd] = !written;
    } else if (size == 4) {
        old = amo32((uint32_t *)t.host, funct5, (uint32_t)value);
    } else {
        old = amo64((uint64_t *)t.host, funct5, value);
    }
    if (funct5 != 3) {
        cpu->x[op->rd] = size == 4 ? (uint64_t)(int64_t)(int32_t)old : old;
    }
    if (written && t.code) {
        rv64_blocks_written(cpu, t.pa, size);
    }
    return true;
}

static unsigned seen_bit(uint64_t va)
{
    uint64_t vpn = va >> RV64_PAGE_BITS;

    return (vpn ^ (vpn >> 12)) & 4095;
}

bool rv64_fetch_page(CPUState *cpu, uint64_t va, uint64_t *paddr, const uint8_t **host,
                     bool *whole)
{
    uint64_t vpage = va & RV64_PAGE_MASK, ppage;
    FetchEntry *e = &cpu->fetch[(va >> RV64_PAGE_BITS) % FETCH_SIZE];
    const MemoryRegion *mr;
    unsigned bit = seen_bit(va);
    int mode = cpu->priv == PRIV_U ? MMU_U : cpu->priv == PRIV_S ? MMU_S : MMU_M;
    Walk w;

    if (e->vpage == vpage && e->context == cpu->context) {
        *paddr = e->paddr;
        *host = e->host;
        *whole = true;
        return true;
    }
    if (!walk(cpu, va, MMU_FETCH, mode, &w)) {
        return false;
    }
    ppage = w.pa & RV64_PAGE_MASK;
    mr = find_region(cpu, w.pa);
    /* Code runs from whole pages of memory only. */
    if (!mr || !mr->host || ppage < mr->base ||
        mr->size - (ppage - mr->base) < RV64_PAGE_SIZE ||
        !rv64_pmp_check(cpu, w.pa, 2, MMU_FETCH, cpu->priv)) {
        return access_fault(cpu, va, MMU_FETCH);
    }
    note_superpage(cpu, va, w.page_size);
    rv64_note_page(cpu, ppage);
    cpu->fetch_seen[bit / 64] |= UINT64_C(1) << (bit % 64);
    *paddr = ppage;
    *host = mr->host + (ppage - mr->base);
    *whole = rv64_pmp_page_uniform(cpu, ppage);
    if (*whole) {
        *e = (FetchEntry){
            .vpage = vpage, .paddr = *paddr, .host = *host, .context = cpu->context};
    }
    return true;
}

/* All jump targets and fetch translations become stale. */
static void new_contexts(CPUState *cpu)
{
    if (cpu->next_context > UINT32_MAX - 4) {
        memset(cpu->fetch, 0, sizeof(cpu->fetch));
        memset(cpu->blocks.jumps, 0, JUMP_CACHE_SIZE * sizeof(JumpEntry));
        cpu->next_context = 1;
    }
    cpu->contexts[PRIV_U] = cpu->next_context++;
    cpu->contexts[PRIV_S] = cpu->next_context++;
    cpu->contexts[PRIV_M] = cpu->next_context++;
    cpu->context = cpu->contexts[cpu->priv];
    memset(cpu->fetch_seen, 0, sizeof(cpu->fetch_seen));
}

void rv64_tlb_flush(CPUState *cpu)
{
    for (int mode = 0; mode < MMU_MODES; mode++) {
        for (unsigned word = 0; word < TLB_SIZE / 64; word++) {
            uint64_t used = cpu->tlb_used[mode][word];

            while (used) {
                TlbEntry *e = &cpu->tlb[mode][word * 64 + __builtin_ctzll(used)];

                e->read_tag = e->write_tag = TLB_INVALID;
                used &= used - 1;
            }
            cpu->tlb_used[mode][word] = 0;
        }
    }
    for (int half = 0; half < 2; half++) {
        cpu->super_first[half] = UINT64_MAX;
        cpu->super_last[half] = 0;
    }
    new_contexts(cpu);
}

void rv64_tlb_flush_page(CPUState *cpu, uint64_t va)
{
    unsigned index = (va >> RV64_PAGE_BITS) & (TLB_SIZE - 1), bit = seen_bit(va);
    int half = va >> 63;

    if (va >= cpu->super_first[half] && va <= cpu->super_last[half]) {
        rv64_tlb_flush(cpu);
        return;
    }
    for (int mode = 0; mode < MMU_MODES; mode++) {
        TlbEntry *e = &cpu->tlb[mode][index];

        e->read_tag = e->write_tag = TLB_INVALID;
    }
    if (cpu->fetch_seen[bit / 64] & (UINT64_C(1) << (bit % 64))) {
        new_contexts(cpu);
    }
}

void rv64_tlb_protect_code(CPUState *cpu, uint64_t paddr)
{
    uint64_t ppage = paddr & RV64_PAGE_MASK;

    for (int mode = 0; mode < MMU_MODES; mode++) {
        for (unsigned word = 0; word < TLB_SIZE / 64; word++) {
            uint64_t used = cpu->tlb_used[mode][word];

            while (used) {
                TlbEntry *e = &cpu->tlb[mode][word * 64 + __builtin_ctzll(used)];

                if (e->paddr == ppage && e->write_tag != TLB_INVALID) {
                    e->write_tag |= TLB_SLOW;
                }
                used &= used - 1;
            }
        }
    }
}

void rv64_update_context(CPUState *cpu)
{
    int priv = cpu->priv;

    cpu->context = cpu->contexts[priv];
    if (priv == PRIV_M && (cpu->mstatus & MSTATUS_MPRV)) {
        priv = (cpu->mstatus & MSTATUS_MPP) >> MSTATUS_MPP_SHIFT;
    }
    cpu->dtlb = cpu->tlb[priv == PRIV_M ? MMU_M :
                         priv == PRIV_U ? MMU_U :
                         cpu->mstatus & MSTATUS_SUM ? MMU_S_SUM : MMU_S];
}
