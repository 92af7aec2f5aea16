/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The VM generation ID (Microsoft's "Virtual Machine Generation ID"; the device tree binding
 * is that of Linux's documentation): a page that the guest can read, and an interrupt that
 * says that it has changed.
 *
 * The interrupt is an edge and has no acknowledgement.  A snapshot may have been taken while
 * the guest was in the handler of the last one, where an edge is lost, so a second edge
 * follows a little later; a driver that finds the ID that it knows does nothing.
 */
#include <glib.h>
#include <string.h>
#include "hw/misc/vmgenid.h"
#include "hw/vm-clock.h"

#define SECOND_EDGE_NS 100000000

struct VmGenId {
    IrqLine irq;
    VmTimer *timer;
    uint8_t *page; /* VMGENID_REGION bytes */
    /* machine state */
    uint8_t id[VMGENID_SIZE];
};

static void edge(void *opaque)
{
    VmGenId *s = opaque;

    irq_set(&s->irq, true);
    irq_set(&s->irq, false);
}

static bool vmgenid_post_load(void *opaque, int version, GError **errp)
{
    VmGenId *s = opaque;

    memcpy(s->page, s->id, VMGENID_SIZE);
    return true;
}

static const VMStateField vmgenid_fields[] = {
    VMSTATE_BUFFER(id, VmGenId),
    VMSTATE_END,
};

static const VMStateDescription vmstate_vmgenid = {
    .name = "vmgenid",
    .version = 1,
    .minimum_version = 1,
    .post_load = vmgenid_post_load,
    .fields = vmgenid_fields,
};

VmGenId *vmgenid_new(AddressSpace *as, uint64_t base, IrqLine irq,
                     const uint8_t id[VMGENID_SIZE])
{
    VmGenId *s = g_new0(VmGenId, 1);

    s->irq = irq;
    s->timer = vm_timer_new(edge, s);
    s->page = g_malloc0(VMGENID_REGION);
    memcpy(s->id, id, VMGENID_SIZE);
    memcpy(s->page, id, VMGENID_SIZE);
    address_space_add_ram(as, "vmgenid", base, VMGENID_REGION, s->page, true);
    return s;
}

void vmgenid_free(VmGenId *s)
{
    if (s) {
        vm_timer_free(s->timer);
        g_free(s->page);
        g_free(s);
    }
}

void vmgenid_register(VmGenId *s, VMStateRegistry *r)
{
    vmstate_register(r, "vmgenid", 0, &vmstate_vmgenid, s);
}

void vmgenid_change(VmGenId *s, const uint8_t id[VMGENID_SIZE])
{
    int64_t later;

    memcpy(s->id, id, VMGENID_SIZE);
    memcpy(s->page, id, VMGENID_SIZE);
    edge(s);
    if (!__builtin_add_overflow(vm_clock_ns(), SECOND_EDGE_NS, &later)) {
        vm_timer_mod(s->timer, later);
    }
}

const uint8_t *vmgenid_get(VmGenId *s)
{
    return s->id;
}
