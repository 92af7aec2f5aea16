/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's clock: nanoseconds of guest run time.  It stands still while the guest is
 * stopped and its value is part of the machine state.
 */
#ifndef HW_VM_CLOCK_H
#define HW_VM_CLOCK_H

#include <stdbool.h>
#include <stdint.h>
#include "migration/vmstate.h"

int64_t vm_clock_ns(void);           /* any thread, lock free */
void vm_clock_enable(bool running);  /* machine lock */
bool vm_clock_running(void);
void vm_clock_set(int64_t ns);       /* while stopped */
/* The CLOCK_MONOTONIC time at which the clock will show ns, if it keeps running. */
int64_t vm_clock_to_host(int64_t ns);
void vm_clock_register(VMStateRegistry *r);

#endif
