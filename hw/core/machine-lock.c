/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The machine lock.  See hw/machine-lock.h for what it guards and how it is ordered.
 */
#include <glib.h>
#include <pthread.h>
#include "hw/machine-lock.h"
#include "util/lock-soon.h"

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static _Thread_local bool held;

void machine_lock(void)
{
    g_assert(!held);
    pthread_mutex_lock(&mutex);
    held = true;
}

bool machine_lock_soon(void)
{
    g_assert(!held);
    held = mutex_lock_soon(&mutex);
    return held;
}

void machine_unlock(void)
{
    g_assert(held);
    held = false;
    pthread_mutex_unlock(&mutex);
}

bool machine_lock_held(void)
{
    return held;
}
