/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * For the main thread, beside threads that have a lock for short times but may be put aside by
 * the scheduler with it.
 */
#ifndef UTIL_LOCK_SOON_H
#define UTIL_LOCK_SOON_H

#include <pthread.h>
#include <stdbool.h>

/* Takes the lock if it becomes free within microseconds; false: come back later.  Any thread. */
static inline bool mutex_lock_soon(pthread_mutex_t *mutex)
{
    enum { TRIES = 200 };
    bool locked = false;

    for (int i = 0; i < TRIES && !locked; i++) {
        locked = pthread_mutex_trylock(mutex) == 0;
    }
    return locked;
}

#endif
