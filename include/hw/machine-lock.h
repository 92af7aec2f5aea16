/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The machine lock: guards the state of every device model that does not say it has a lock
 * of its own, and the list of guest timers.
 *
 * A plain mutex, not recursive.  vCPU threads take it around a device access, the main
 * thread in short sections of handlers, and without waiting for it around timer and character
 * device callbacks.
 * It is never held across a yield, never while waiting for another thread, and never
 * around an access to guest RAM (which may wait for the fault thread).
 * Order: VM job mutex > machine lock > AioContext locks > a device's own lock > PLIC.
 */
#ifndef HW_MACHINE_LOCK_H
#define HW_MACHINE_LOCK_H

#include <stdbool.h>

void machine_lock(void);
void machine_unlock(void);
/*
 * Takes it if it becomes free within microseconds; false if not.  For the main thread where it can
 * come back later (MACHINE_LOCK_RETRY_NS): a vCPU that polls a register has the lock most of the time,
 * and may have been put aside by the scheduler with it.
 */
bool machine_lock_soon(void);
#define MACHINE_LOCK_RETRY_NS (50 * 1000)
/* Whether the calling thread holds it: for assertions. */
bool machine_lock_held(void);

#endif
