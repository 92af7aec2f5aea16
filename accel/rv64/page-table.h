/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The form of page tables (Priv, "Sv39", "Sv48"): where an entry is, what it points to.  What
 * an access may do, and bits A and D, are a matter of mmu.c; those who only look use
 * rv64_translate().
 */
#ifndef ACCEL_RV64_PAGE_TABLE_H
#define ACCEL_RV64_PAGE_TABLE_H

#include "cpu.h"

/* Levels of the tables that satp points to; 0: it does not translate. */
static inline int rv64_satp_levels(uint64_t satp)
{
    int mode = satp >> SATP_MODE_SHIFT;

    return mode == SATP_SV39 ? 3 : mode == SATP_SV48 ? 4 : 0;
}

static inline uint64_t rv64_satp_root(uint64_t satp)
{
    return (satp & SATP_PPN_MASK) << RV64_PAGE_BITS;
}

/* Where in an address the index of a level begins; bytes that one entry of it maps, as a shift. */
static inline unsigned rv64_level_shift(int level)
{
    return RV64_PAGE_BITS + 9 * level;
}

/* The address as a hart has it: bits above the translated ones are copies of the highest. */
static inline uint64_t rv64_canonical(uint64_t va, int levels)
{
    unsigned unused = 64 - rv64_level_shift(levels);

    return (uint64_t)((int64_t)(va << unused) >> unused);
}

/* Physical address of va's entry in a table of that level. */
static inline uint64_t rv64_pte_place(uint64_t table, uint64_t va, int level)
{
    return table + (va >> rv64_level_shift(level) & 511) * 8;
}

/* The page, or the next table, that an entry points to. */
static inline uint64_t rv64_pte_address(uint64_t pte)
{
    return (pte >> 10 & SATP_PPN_MASK) << RV64_PAGE_BITS;
}

/*
 * Translates without an effect on the guest: no permissions, no bits A and D.  False if nothing
 * is mapped there.  Any thread, no lock held: RAM may still be on its way from a snapshot.
 */
bool rv64_translate(AddressSpace *as, uint64_t root, int levels, uint64_t va, uint64_t *pa);

#endif
