/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Platform-level interrupt controller. */
#ifndef HW_INTC_SIFIVE_PLIC_H
#define HW_INTC_SIFIVE_PLIC_H

#include <glib.h>
#include "hw/address-space.h"
#include "hw/irq.h"
#include "migration/vmstate.h"

enum { SIFIVE_PLIC_SOURCES = 96, SIFIVE_PLIC_MAX_CONTEXTS = 16, SIFIVE_PLIC_SIZE = 0x600000 };

typedef struct SifivePlic SifivePlic;

/*
 * out: one wire for each context; on the virt board contexts 2n and 2n + 1 are machine and
 * supervisor mode of hart n.
 */
SifivePlic *sifive_plic_new(AddressSpace *as, uint64_t base, int nr_contexts,
                            const IrqLine *out);
/* The wire of source n, 1 to SIFIVE_PLIC_SOURCES; it may be driven from any thread. */
IrqLine sifive_plic_input(SifivePlic *s, int n);
/*
 * Tells each change of an input (n is the source) or of an output (n is the context), with
 * the controller's lock held and in any thread; one observer at a time.
 */
typedef enum SifivePlicObserve {
    SIFIVE_PLIC_OBSERVE_NONE,
    SIFIVE_PLIC_OBSERVE_IN,
    SIFIVE_PLIC_OBSERVE_OUT,
} SifivePlicObserve;
void sifive_plic_observe(SifivePlic *s, SifivePlicObserve what,
                         void (*fn)(void *opaque, int n, bool level), void *opaque);
/* The registers that are not zero, for people: lines.  Any thread. */
void sifive_plic_print(SifivePlic *s, GString *out);
/* How often source n has been raised since the machine was made.  Any thread. */
uint64_t sifive_plic_count(SifivePlic *s, int n);
void sifive_plic_reset(SifivePlic *s);
void sifive_plic_register(SifivePlic *s, VMStateRegistry *r);
void sifive_plic_free(SifivePlic *s);

#endif
