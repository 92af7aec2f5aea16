/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Core-local interruptor: software interrupts and the machine timer of each hart. */
#ifndef HW_INTC_RISCV_CLINT_H
#define HW_INTC_RISCV_CLINT_H

#include "hw/address-space.h"
#include "hw/irq.h"
#include "migration/vmstate.h"

enum { RISCV_CLINT_MAX_HARTS = 8, RISCV_CLINT_SIZE = 0xc000 };

typedef struct RiscvClint RiscvClint;

/* msip and mtip: one wire for each hart.  Machine lock held for all of these. */
RiscvClint *riscv_clint_new(AddressSpace *as, uint64_t base, int nr_harts,
                            const IrqLine *msip, const IrqLine *mtip, uint64_t timebase_hz);
void riscv_clint_reset(RiscvClint *s);
void riscv_clint_register(RiscvClint *s, VMStateRegistry *r);
void riscv_clint_free(RiscvClint *s);

#endif
