/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's clock as a section of the machine state, "timer": its value in ns at the
 * snapshot's instant.  Saved and loaded while the clock stands, under the machine lock.
 */
#include <glib.h>
#include "hw/vm-clock.h"

typedef struct ClockState {
    int64_t clock_ns;
} ClockState;

static ClockState state;

static bool pre_save(void *opaque, GError **errp)
{
    ClockState *s = opaque;

    s->clock_ns = vm_clock_ns();
    return true;
}

static bool post_load(void *opaque, int version, GError **errp)
{
    ClockState *s = opaque;

    vm_clock_set(s->clock_ns);
    return true;
}

static const VMStateField fields[] = {
    VMSTATE_INT64(clock_ns, ClockState),
    VMSTATE_END,
};

static const VMStateDescription vmstate_clock = {
    .name = "timer",
    .version = 1,
    .minimum_version = 1,
    .pre_save = pre_save,
    .post_load = post_load,
    .fields = fields,
};

void vm_clock_register(VMStateRegistry *r)
{
    vmstate_register(r, "timer", 0, &vmstate_clock, &state);
}
