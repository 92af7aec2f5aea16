/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's clock.  While it runs its value is CLOCK_MONOTONIC plus an offset; while it
 * stands it is a number.  Written under the machine lock, read without a lock by any
 * thread: a sequence count makes a reader try again that met a writer.
 */
#include <glib.h>
#include <stdatomic.h>
#include <time.h>
#include "hw/machine-lock.h"
#include "vm-clock-int.h"

static struct {
    atomic_uint seq; /* odd while being written */
    atomic_bool running;
    atomic_int_fast64_t value; /* the offset while running, else the time */
} vm_clock;

static atomic_bool by_hand; /* value is the time in either case */
static void (*changed_hook)(void); /* machine lock */

void vm_clock_set_changed_hook(void (*hook)(void))
{
    g_assert(machine_lock_held());
    changed_hook = hook;
}

static int64_t host_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * INT64_C(1000000000) + ts.tv_nsec;
}

static void publish(bool running, int64_t value)
{
    unsigned seq = atomic_load_explicit(&vm_clock.seq, memory_order_relaxed);

    atomic_store(&vm_clock.seq, seq + 1);
    atomic_store(&vm_clock.running, running);
    atomic_store(&vm_clock.value, value);
    atomic_store(&vm_clock.seq, seq + 2);
}

static bool snapshot(int64_t *value)
{
    unsigned seq;
    bool running;

    do {
        seq = atomic_load(&vm_clock.seq);
        running = atomic_load(&vm_clock.running);
        *value = atomic_load(&vm_clock.value);
    } while ((seq & 1) || seq != atomic_load(&vm_clock.seq));
    return running;
}

int64_t vm_clock_ns(void)
{
    int64_t value;

    return snapshot(&value) && !atomic_load(&by_hand) ? (int64_t)((uint64_t)host_ns() + (uint64_t)value) : value;
}

bool vm_clock_running(void)
{
    return atomic_load(&vm_clock.running);
}

void vm_clock_enable(bool running)
{
    int64_t now = vm_clock_ns();

    g_assert(machine_lock_held());
    if (running == vm_clock_running()) {
        return;
    }
    publish(running, running && !atomic_load(&by_hand)
                         ? (int64_t)((uint64_t)now - (uint64_t)host_ns()) : now);
    if (changed_hook) {
        changed_hook();
    }
}

void vm_clock_set_by_hand(void)
{
    g_assert(machine_lock_held());
    g_assert(!vm_clock_running());
    atomic_store(&by_hand, true);
}

void vm_clock_show(int64_t ns)
{
    g_assert(machine_lock_held());
    g_assert(atomic_load(&by_hand));
    publish(vm_clock_running(), ns);
}

void vm_clock_set(int64_t ns)
{
    g_assert(machine_lock_held());
    g_assert(!vm_clock_running());
    publish(false, ns);
}

int64_t vm_clock_to_host(int64_t ns)
{
    int64_t value, host;

    if (!snapshot(&value) || atomic_load(&by_hand) || __builtin_sub_overflow(ns, value, &host)) {
        return INT64_MAX;
    }
    return host;
}
