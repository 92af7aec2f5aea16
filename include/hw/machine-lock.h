/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The machine lock: guards the state of every device model that does not say it has a lock
 * of its own, and the list of guest timers.
 *
 * A plain mutex, not recursive.  vCPU threads take it around a device access, the main
 * thread around timer and character device callbacks and in short sections of handlers.
 * It is never held across a yield, never while waiting for another thread, and never
 * around an access to guest RAM (which may wait for the fault thread).
 * Order: VM job mutex > machine lock > AioContext locks > a device's own lock > PLIC.
 */
#ifndef HW_MACHINE_LOCK_H
#define HW_MACHINE_LOCK_H

#include <stdbool.h>

void machine_lock(void);
void machine_unlock(void);
/* Whether the calling thread holds it: for assertions. */
bool machine_lock_held(void);

#endif
