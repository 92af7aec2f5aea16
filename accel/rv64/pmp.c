/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Physical memory protection (Priv, "Physical Memory Protection"): 16 entries with a
 * granularity of 4 bytes.  The registers are turned into a list of ranges whenever they
 * change; checks run on TLB fills and on page table walks only.
 */
#include "cpu.h"

#define PMP_R 0x01
#define PMP_W 0x02
#define PMP_X 0x04
#define PMP_A 0x18
#define PMP_L 0x80
enum { PMP_OFF = 0x00, PMP_TOR = 0x08, PMP_NA4 = 0x10, PMP_NAPOT = 0x18 };

#define PMPADDR_MASK ((UINT64_C(1) << 54) - 1)

void rv64_pmp_update(CPUState *cpu)
{
    cpu->pmp_count = 0;
    for (unsigned i = 0; i < RV64_PMP_ENTRIES; i++) {
        uint64_t addr = cpu->pmpaddr[i], start, last;

        switch (cpu->pmpcfg[i] & PMP_A) {
        case PMP_TOR:
            start = i ? cpu->pmpaddr[i - 1] << 2 : 0;
            if (start >= addr << 2) {
                continue;
            }
            last = (addr << 2) - 1;
            break;
        case PMP_NA4:
            start = addr << 2;
            last = start + 3;
            break;
        case PMP_NAPOT: {
            /* k trailing ones: a range of 2^(k + 3) bytes */
            uint64_t ones = addr ^ (addr + 1);

            start = (addr & ~ones) << 2;
            last = ((addr | ones) << 2) + 3;
            break;
        }
        default:
            continue;
        }
        cpu->pmp[cpu->pmp_count++] =
            (PmpRange){.start = start, .last = last, .cfg = cpu->pmpcfg[i]};
    }
}

uint64_t rv64_pmp_read_cfg(CPUState *cpu, unsigned reg)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < 8; i++) {
        value |= (uint64_t)cpu->pmpcfg[reg * 4 + i] << (8 * i);
    }
    return value;
}

bool rv64_pmp_write_cfg(CPUState *cpu, unsigned reg, uint64_t value)
{
    bool changed = false;

    for (unsigned i = 0; i < 8; i++) {
        uint8_t *cfg = &cpu->pmpcfg[reg * 4 + i], new = (value >> (8 * i)) & 0x9f;

        if (*cfg & PMP_L) {
            continue;
        }
        if ((new & (PMP_R | PMP_W)) == PMP_W) {
            new &= ~PMP_W; /* the combination is reserved */
        }
        changed |= new != *cfg;
        *cfg = new;
    }
    if (changed) {
        rv64_pmp_update(cpu);
    }
    return changed;
}

bool rv64_pmp_write_addr(CPUState *cpu, unsigned entry, uint64_t value)
{
    value &= PMPADDR_MASK;
    if ((cpu->pmpcfg[entry] & PMP_L) || cpu->pmpaddr[entry] == value) {
        return false;
    }
    /* The entry is also the bottom of the next one, if that is TOR. */
    if (entry + 1 < RV64_PMP_ENTRIES &&
        (cpu->pmpcfg[entry + 1] & (PMP_L | PMP_A)) == (PMP_L | PMP_TOR)) {
        return false;
    }
    cpu->pmpaddr[entry] = value;
    rv64_pmp_update(cpu);
    return true;
}

bool rv64_pmp_check(CPUState *cpu, uint64_t pa, uint64_t len, MmuAccess access, int priv)
{
    static const uint8_t need[] = {
        [MMU_READ] = PMP_R, [MMU_WRITE] = PMP_W, [MMU_FETCH] = PMP_X};
    uint64_t last = pa + len - 1;

    for (unsigned i = 0; i < cpu->pmp_count; i++) {
        const PmpRange *r = &cpu->pmp[i];

        if (last < r->start || pa > r->last) {
            continue;
        }
        if (pa < r->start || last > r->last) {
            return false;
        }
        return (priv == PRIV_M && !(r->cfg & PMP_L)) || (r->cfg & need[access]);
    }
    return priv == PRIV_M;
}

bool rv64_pmp_page_uniform(CPUState *cpu, uint64_t pa)
{
    uint64_t first = pa & RV64_PAGE_MASK, last = first + RV64_PAGE_SIZE - 1;

    for (unsigned i = 0; i < cpu->pmp_count; i++) {
        const PmpRange *r = &cpu->pmp[i];

        if (last < r->start || first > r->last) {
            continue;
        }
        return first >= r->start && last <= r->last;
    }
    return true;
}
