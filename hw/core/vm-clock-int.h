/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the guest's clock and the timers on it share. */
#ifndef HW_CORE_VM_CLOCK_INT_H
#define HW_CORE_VM_CLOCK_INT_H

#include "hw/vm-clock.h"

/* hook is called when the clock was started or stopped: host deadlines change.  Machine lock. */
/* The clock is by hand: shows ns.  Machine lock. */
void vm_clock_show(int64_t ns);
void vm_clock_set_changed_hook(void (*hook)(void));

#endif
