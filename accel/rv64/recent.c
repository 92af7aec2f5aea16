/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which pages the guest has used a short while ago, for a snapshot's hot list.  The TLBs
 * know what is in use now; what a flush threw out of them is in the list of pages that were
 * looked up (rv64_note_page).  The vCPU does not run.
 */
#include <stdlib.h>
#include <string.h>
#include "cpu.h"

/* Looked up longer ago than this many instructions: not hot.  About half a second. */
#define RECENT_INSNS UINT64_C(100000000)

static int compare_age(const void *a, const void *b)
{
    const RecentPage *x = a, *y = b;

    return x->icount > y->icount ? -1 : x->icount < y->icount;
}

/* What translations are valid for: RAM or a device, the caller tells. */
static void note_valid(CPUState *cpu)
{
    for (int mode = 0; mode < MMU_MODES; mode++) {
        for (unsigned i = 0; i < TLB_SIZE; i++) {
            const TlbEntry *e = &cpu->tlb[mode][i];

            if ((cpu->tlb_used[mode][i / 64] >> (i % 64) & 1) &&
                (e->read_tag != TLB_INVALID || e->write_tag != TLB_INVALID)) {
                rv64_note_page(cpu, e->paddr);
            }
        }
    }
    for (unsigned i = 0; i < FETCH_SIZE; i++) {
        const FetchEntry *e = &cpu->fetch[i];

        if (e->context && (e->context == cpu->contexts[PRIV_U] ||
                           e->context == cpu->contexts[PRIV_S] ||
                           e->context == cpu->contexts[PRIV_M])) {
            rv64_note_page(cpu, e->paddr);
        }
    }
}

size_t rv64_recent_pages(CPUState *cpu, uint64_t *pages, size_t max)
{
    RecentPage sorted[RECENT_SIZE];
    size_t n = 0;

    note_valid(cpu);
    memcpy(sorted, cpu->recent, sizeof(sorted));
    qsort(sorted, RECENT_SIZE, sizeof(sorted[0]), compare_age);
    for (; n < MIN(max, RECENT_SIZE) && sorted[n].icount; n++) {
        if (cpu->icount - sorted[n].icount > RECENT_INSNS) {
            break;
        }
        pages[n] = sorted[n].paddr;
    }
    return n;
}
