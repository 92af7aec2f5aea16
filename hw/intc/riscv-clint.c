/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Core-local interruptor, laid out as the RISC-V ACLINT specification has it: MSWI device at
 * 0 (msip, 4 bytes for each hart), MTIMER at 0x4000 (mtimecmp, 8 bytes for each hart) with
 * mtime at 0xbff8.  mtime is the guest's clock in ticks; it cannot be written, since the time
 * CSR of the harts shows the same counter.  State: machine lock.
 */
#include <glib.h>
#include "hw/intc/riscv-clint.h"
#include "hw/vm-clock.h"

enum { MTIMECMP = 0x4000, MTIME = 0xbff8 };

struct RiscvClint {
    int nr_harts;
    uint64_t hz;
    IrqLine msip_line[RISCV_CLINT_MAX_HARTS];
    IrqLine mtip_line[RISCV_CLINT_MAX_HARTS];
    struct ClintHart {
        RiscvClint *clint;
        int index;
        VmTimer *timer;
    } hart[RISCV_CLINT_MAX_HARTS];
    /* machine state */
    uint32_t msip[RISCV_CLINT_MAX_HARTS];
    uint64_t mtimecmp[RISCV_CLINT_MAX_HARTS];
};

static uint64_t mtime(RiscvClint *s)
{
    return (unsigned __int128)(uint64_t)vm_clock_ns() * s->hz / 1000000000u;
}

/* Sets the timer's wire from the time as it is now and arms the timer for the future. */
static void update_timer(RiscvClint *s, int hart)
{
    unsigned __int128 ns;

    if (mtime(s) >= s->mtimecmp[hart]) {
        vm_timer_del(s->hart[hart].timer);
        irq_set(&s->mtip_line[hart], true);
        return;
    }
    irq_set(&s->mtip_line[hart], false);
    ns = ((unsigned __int128)s->mtimecmp[hart] * 1000000000u + s->hz - 1) / s->hz;
    if (ns < INT64_MAX) {
        vm_timer_mod(s->hart[hart].timer, ns);
    } else {
        vm_timer_del(s->hart[hart].timer);
    }
}

static void timer_fired(void *opaque)
{
    struct ClintHart *h = opaque;

    update_timer(h->clint, h->index);
}

static uint64_t part_of(uint64_t reg, uint64_t offset, unsigned size)
{
    return size == 8 ? reg : (uint32_t)(reg >> (offset & 4 ? 32 : 0));
}

static uint64_t clint_read(void *opaque, uint64_t offset, unsigned size)
{
    RiscvClint *s = opaque;

    if (offset < 4u * s->nr_harts) {
        return s->msip[offset / 4];
    }
    if (offset >= MTIMECMP && offset < MTIMECMP + 8u * s->nr_harts) {
        return part_of(s->mtimecmp[(offset - MTIMECMP) / 8], offset, size);
    }
    if (offset >= MTIME) {
        return part_of(mtime(s), offset, size);
    }
    return 0;
}

static void clint_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    RiscvClint *s = opaque;

    if (offset < 4u * s->nr_harts) {
        s->msip[offset / 4] = value & 1;
        irq_set(&s->msip_line[offset / 4], value & 1);
    } else if (offset >= MTIMECMP && offset < MTIMECMP + 8u * s->nr_harts) {
        int hart = (offset - MTIMECMP) / 8;
        uint64_t old = s->mtimecmp[hart];

        if (size == 8) {
            s->mtimecmp[hart] = value;
        } else if (offset & 4) {
            s->mtimecmp[hart] = (uint32_t)old | value << 32;
        } else {
            s->mtimecmp[hart] = (old & ~(uint64_t)UINT32_MAX) | (uint32_t)value;
        }
        update_timer(s, hart);
    }
}

static const MMIOOps clint_ops = {
    .read = clint_read,
    .write = clint_write,
    .min_size = 4,
    .max_size = 8,
};

static bool clint_post_load(void *opaque, int version, GError **errp)
{
    RiscvClint *s = opaque;

    for (int i = 0; i < s->nr_harts; i++) {
        irq_set(&s->msip_line[i], s->msip[i] & 1);
        update_timer(s, i);
    }
    return true;
}

static const VMStateField clint_fields[] = {
    VMSTATE_UINT32_ARRAY(msip, RiscvClint, RISCV_CLINT_MAX_HARTS),
    VMSTATE_UINT64_ARRAY(mtimecmp, RiscvClint, RISCV_CLINT_MAX_HARTS),
    VMSTATE_END,
};

static const VMStateDescription vmstate_clint = {
    .name = "riscv_clint",
    .version = 1,
    .minimum_version = 1,
    .post_load = clint_post_load,
    .fields = clint_fields,
};

RiscvClint *riscv_clint_new(AddressSpace *as, uint64_t base, int nr_harts,
                            const IrqLine *msip, const IrqLine *mtip, uint64_t timebase_hz)
{
    RiscvClint *s = g_new0(RiscvClint, 1);

    g_assert(nr_harts > 0 && nr_harts <= RISCV_CLINT_MAX_HARTS);
    s->nr_harts = nr_harts;
    s->hz = timebase_hz;
    for (int i = 0; i < nr_harts; i++) {
        s->msip_line[i] = msip[i];
        s->mtip_line[i] = mtip[i];
        s->hart[i].clint = s;
        s->hart[i].index = i;
        s->hart[i].timer = vm_timer_new(timer_fired, &s->hart[i]);
        s->mtimecmp[i] = UINT64_MAX;
    }
    address_space_add_mmio(as, "riscv.clint", base, RISCV_CLINT_SIZE, &clint_ops, s);
    return s;
}

void riscv_clint_reset(RiscvClint *s)
{
    for (int i = 0; i < s->nr_harts; i++) {
        s->msip[i] = 0;
        s->mtimecmp[i] = UINT64_MAX;
        irq_set(&s->msip_line[i], false);
        update_timer(s, i);
    }
}

void riscv_clint_register(RiscvClint *s, VMStateRegistry *r)
{
    vmstate_register(r, "riscv_clint", 0, &vmstate_clint, s);
}

void riscv_clint_free(RiscvClint *s)
{
    for (int i = 0; i < s->nr_harts; i++) {
        vm_timer_free(s->hart[i].timer);
    }
    g_free(s);
}
