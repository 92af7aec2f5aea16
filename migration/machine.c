/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The machine that this process runs, as migration/ sees it, and the rule that keeps page
 * faults out of the kernel when it writes guest RAM.
 */
#include <unistd.h>
#include "block/transaction.h"
#include "migration/machine.h"
#include "util/countermeasure.h"

static Machine *the_machine;

static int64_t clock_ns(void)
{
    return the_machine->ops->clock_ns(the_machine->opaque);
}

void machine_register(Machine *m)
{
    g_assert(!the_machine || !m);
    the_machine = m;
    bdrv_set_machine(m ? m->job_mutex : NULL, m ? clock_ns : NULL);
}

Machine *machine_get(void)
{
    return the_machine;
}

/* A write that changes nothing, once per page: a fault happens here, in user space. */
static void touch(void *host, size_t len)
{
    const uintptr_t page = 4096;
    uintptr_t first = (uintptr_t)host;
    uintptr_t end;
    uint8_t nothing = 0;

    if (len == 0 || countermeasure_off("touch-before-dma")) {
        return;
    }
    __asm__("" : "+r"(nothing)); /* a compiler that knew it would leave the write out */
    end = first + len;
    for (uintptr_t p = first; p < end; p = (p & ~(page - 1)) + page) {
        __atomic_fetch_or((uint8_t *)p, nothing, __ATOMIC_RELAXED);
    }
}

void ram_prepare_dma(void *host, size_t len)
{
    touch(host, len);
}

void ram_dma_written(void *host, size_t len)
{
    touch(host, len);
}
