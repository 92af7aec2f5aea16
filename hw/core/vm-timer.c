/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Timers on the guest's clock.  Each has a host timer in the main thread's context that is
 * armed only while the guest's clock runs; stopping the clock disarms all of them, starting
 * it computes their host deadlines anew.  The list and every field: machine lock.
 */
#include <glib.h>
#include "hw/machine-lock.h"
#include "util/aio.h"
#include "vm-clock-int.h"

struct VmTimer {
    void (*cb)(void *opaque);
    void *opaque;
    AioTimer *host;
    bool armed;
    int64_t expire_ns; /* guest time */
};

static GPtrArray *timers;

/* Main thread.  A timer that was stopped or moved on its way here is not due. */
static void host_timer_fired(void *opaque)
{
    VmTimer *t = opaque;

    if (!machine_lock_soon()) {
        aio_timer_mod(t->host, clock_now_ns() + MACHINE_LOCK_RETRY_NS);
        return;
    }
    if (t->armed && vm_clock_running()) {
        if (vm_clock_ns() >= t->expire_ns) {
            t->armed = false;
            t->cb(t->opaque);
        } else {
            aio_timer_mod(t->host, vm_clock_to_host(t->expire_ns));
        }
    }
    machine_unlock();
}

static void arm_host(VmTimer *t)
{
    int64_t host = t->armed ? vm_clock_to_host(t->expire_ns) : INT64_MAX;

    if (host == INT64_MAX) {
        aio_timer_del(t->host);
    } else {
        aio_timer_mod(t->host, host);
    }
}

static void clock_changed(void)
{
    for (guint i = 0; i < timers->len; i++) {
        arm_host(timers->pdata[i]);
    }
}

VmTimer *vm_timer_new(void (*cb)(void *opaque), void *opaque)
{
    VmTimer *t = g_new0(VmTimer, 1);

    g_assert(machine_lock_held());
    t->cb = cb;
    t->opaque = opaque;
    t->host = aio_timer_new(main_aio_context(), host_timer_fired, t);
    if (!timers) {
        timers = g_ptr_array_new();
        vm_clock_set_changed_hook(clock_changed);
    }
    g_ptr_array_add(timers, t);
    return t;
}

void vm_timer_mod(VmTimer *t, int64_t ns)
{
    g_assert(machine_lock_held());
    t->armed = true;
    t->expire_ns = ns;
    arm_host(t);
}

void vm_timer_del(VmTimer *t)
{
    g_assert(machine_lock_held());
    t->armed = false;
    arm_host(t);
}

int64_t vm_timer_next(void)
{
    int64_t next = INT64_MAX;

    g_assert(machine_lock_held());
    for (guint i = 0; timers && i < timers->len; i++) {
        const VmTimer *t = timers->pdata[i];

        if (t->armed) {
            next = MIN(next, t->expire_ns);
        }
    }
    return next;
}

/* Each timer that is due, once. */
static void fire_due(int64_t now)
{
    for (guint i = 0; timers && i < timers->len; i++) {
        VmTimer *t = timers->pdata[i];

        if (t->armed && t->expire_ns <= now) {
            t->armed = false;
            t->cb(t->opaque);
        }
    }
}

void vm_clock_warp(int64_t ns)
{
    int64_t now = vm_clock_ns();

    while (now < ns) {
        now = MAX(now, MIN(ns, vm_timer_next()));
        vm_clock_show(now);
        fire_due(now);
        if (vm_timer_next() <= now) {
            vm_clock_show(++now); /* a timer that is always due must not stop the clock */
        }
    }
}

void vm_timer_free(VmTimer *t)
{
    g_assert(machine_lock_held());
    g_ptr_array_remove(timers, t);
    aio_timer_free(t->host);
    g_free(t);
}
