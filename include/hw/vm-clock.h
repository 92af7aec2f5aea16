/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's clock: nanoseconds of guest run time.  It stands still while the guest is
 * stopped and its value is part of the machine state.
 *
 * Timers on it fire only while the guest runs, in the main thread with the machine lock held.
 */
#ifndef HW_VM_CLOCK_H
#define HW_VM_CLOCK_H

#include <stdbool.h>
#include <stdint.h>
#include "migration/vmstate.h"

int64_t vm_clock_ns(void);           /* any thread, lock free */
void vm_clock_enable(bool running);  /* machine lock */
bool vm_clock_running(void);         /* any thread */
void vm_clock_set(int64_t ns);       /* while stopped; machine lock */
/*
 * The CLOCK_MONOTONIC time at which the clock will show ns, if it keeps running;
 * INT64_MAX if that is out of range or the clock stands still.  Any thread.
 */
int64_t vm_clock_to_host(int64_t ns);
/*
 * From now on the clock goes only where vm_clock_warp() puts it: it does not follow the host's.
 * Machine lock; before the machine runs.
 */
void vm_clock_set_by_hand(void);
/* Goes to ns, if that is ahead, and fires the timers on the way.  Main thread; machine lock. */
void vm_clock_warp(int64_t ns);
void vm_clock_register(VMStateRegistry *r);

/* A one-shot timer on the guest's clock.  All of these: machine lock held. */
typedef struct VmTimer VmTimer;
VmTimer *vm_timer_new(void (*cb)(void *opaque), void *opaque);
/* (Re)arms it for the guest time ns; one in the past fires as soon as possible. */
void vm_timer_mod(VmTimer *t, int64_t ns);
void vm_timer_del(VmTimer *t);
/* When the first of all timers is due, INT64_MAX if none is armed. */
int64_t vm_timer_next(void);
void vm_timer_free(VmTimer *t);

#endif
