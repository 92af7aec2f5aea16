/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Locks for coroutines.  Waiters yield; they may be in different AioContexts and
 * threads, and continue in their own.  All three are fair: first come, first served.
 */
#ifndef UTIL_CO_LOCK_H
#define UTIL_CO_LOCK_H

#include <pthread.h>
#include "util/aio.h"

typedef struct CoWaiter CoWaiter;

/* Zero-initialised is unlocked.  init/destroy assert that nobody holds or waits. */
typedef struct CoMutex {
    unsigned int users; /* atomic: the holder and all who wait */
    bool handed_over;   /* under lock: to a waiter who is not in the list yet */
    Coroutine *holder;  /* atomic */
    pthread_mutex_t lock; /* guards the list; leaf, taken with contention only */
    CoWaiter *first, *last;
} CoMutex;

void co_mutex_init(CoMutex *m);
void co_mutex_destroy(CoMutex *m);
void coroutine_fn co_mutex_lock(CoMutex *m);
bool coroutine_fn co_mutex_trylock(CoMutex *m);
void coroutine_fn co_mutex_unlock(CoMutex *m);

/* A queue of waiting coroutines. */
typedef struct CoQueue {
    pthread_mutex_t lock;
    CoWaiter *first, *last;
} CoQueue;

void co_queue_init(CoQueue *q);
void co_queue_destroy(CoQueue *q);
/*
 * Waits for co_queue_next() or co_queue_restart_all().  m, if not NULL, is a held
 * CoMutex: released while waiting, held again on return; no wake-up is lost in between.
 */
void coroutine_fn co_queue_wait(CoQueue *q, CoMutex *m);
/* Wakes the first waiter / all.  Any thread.  next returns false if nobody waited. */
bool co_queue_next(CoQueue *q);
void co_queue_restart_all(CoQueue *q);
bool co_queue_empty(CoQueue *q);

/* Many readers or one writer; a waiting writer holds back later readers. */
typedef struct CoRwlock {
    pthread_mutex_t lock;
    int owners; /* number of readers, or -1 for a writer */
    CoWaiter *first, *last;
} CoRwlock;

void co_rwlock_init(CoRwlock *l);
void co_rwlock_destroy(CoRwlock *l);
void coroutine_fn co_rwlock_rdlock(CoRwlock *l);
void coroutine_fn co_rwlock_wrlock(CoRwlock *l);
void coroutine_fn co_rwlock_unlock(CoRwlock *l);

#endif
