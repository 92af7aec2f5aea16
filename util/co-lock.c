/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Locks for coroutines: CoMutex, CoQueue, CoRwlock.  Waiters may be in any context.
 *
 * A CoMutex counts its holder and its waiters in one atomic word, so that lock and
 * unlock without contention are one instruction each.  With waiters, unlock hands the
 * mutex to the first of them and the count never reaches zero: nobody overtakes.
 */
#include "util/co-lock.h"

#include <glib.h>

struct CoWaiter {
    Coroutine *co;
    CoWaiter *next;
    bool write; /* CoRwlock */
};

static void append(CoWaiter **first, CoWaiter **last, CoWaiter *w)
{
    w->next = NULL;
    if (*first) {
        (*last)->next = w;
    } else {
        *first = w;
    }
    *last = w;
}

static CoWaiter *take_first(CoWaiter **first)
{
    CoWaiter *w = *first;

    if (w) {
        *first = w->next;
    }
    return w;
}

/* --- CoMutex --------------------------------------------------------------------- */

void co_mutex_init(CoMutex *m)
{
    *m = (CoMutex){.lock = PTHREAD_MUTEX_INITIALIZER};
}

void co_mutex_destroy(CoMutex *m)
{
    g_assert(__atomic_load_n(&m->users, __ATOMIC_ACQUIRE) == 0);
    g_assert(!m->first);
    pthread_mutex_destroy(&m->lock);
}

static void set_holder(CoMutex *m, Coroutine *co)
{
    __atomic_store_n(&m->holder, co, __ATOMIC_RELAXED);
}

/* We are counted, so somebody holds m, is about to hand it over, or has just done so. */
static void coroutine_fn mutex_wait(CoMutex *m, Coroutine *self)
{
    CoWaiter w = {.co = self};

    g_assert(__atomic_load_n(&m->holder, __ATOMIC_RELAXED) != self);
    pthread_mutex_lock(&m->lock);
    if (m->handed_over) {
        m->handed_over = false;
        pthread_mutex_unlock(&m->lock);
    } else {
        append(&m->first, &m->last, &w);
        pthread_mutex_unlock(&m->lock);
        coroutine_yield();
    }
}

void coroutine_fn co_mutex_lock(CoMutex *m)
{
    Coroutine *self = coroutine_self();

    g_assert(self);
    if (__atomic_fetch_add(&m->users, 1, __ATOMIC_ACQUIRE) != 0) {
        mutex_wait(m, self);
    }
    set_holder(m, self);
}

bool coroutine_fn co_mutex_trylock(CoMutex *m)
{
    unsigned int expected = 0;

    if (!__atomic_compare_exchange_n(&m->users, &expected, 1, false, __ATOMIC_ACQUIRE,
                                     __ATOMIC_RELAXED)) {
        return false;
    }
    set_holder(m, coroutine_self());
    return true;
}

void coroutine_fn co_mutex_unlock(CoMutex *m)
{
    CoWaiter *w;
    Coroutine *next = NULL;

    g_assert(__atomic_load_n(&m->holder, __ATOMIC_RELAXED) == coroutine_self());
    set_holder(m, NULL);
    if (__atomic_fetch_sub(&m->users, 1, __ATOMIC_ACQ_REL) == 1) {
        return;
    }
    pthread_mutex_lock(&m->lock);
    w = take_first(&m->first);
    if (w) {
        next = w->co;
    } else {
        /* The waiter is counted but not yet in the list. */
        m->handed_over = true;
    }
    pthread_mutex_unlock(&m->lock);
    if (next) {
        aio_co_wake(next);
    }
}

/* --- CoQueue --------------------------------------------------------------------- */

void co_queue_init(CoQueue *q)
{
    *q = (CoQueue){.lock = PTHREAD_MUTEX_INITIALIZER};
}

void co_queue_destroy(CoQueue *q)
{
    g_assert(co_queue_empty(q));
    pthread_mutex_destroy(&q->lock);
}

void coroutine_fn co_queue_wait(CoQueue *q, CoMutex *m)
{
    CoWaiter w = {.co = coroutine_self()};

    g_assert(w.co);
    pthread_mutex_lock(&q->lock);
    append(&q->first, &q->last, &w);
    pthread_mutex_unlock(&q->lock);
    if (m) {
        co_mutex_unlock(m);
    }
    coroutine_yield();
    if (m) {
        co_mutex_lock(m);
    }
}

bool co_queue_next(CoQueue *q)
{
    Coroutine *co = NULL;
    CoWaiter *w;

    pthread_mutex_lock(&q->lock);
    w = take_first(&q->first);
    if (w) {
        co = w->co;
    }
    pthread_mutex_unlock(&q->lock);
    if (co) {
        aio_co_wake(co);
    }
    return co != NULL;
}

void co_queue_restart_all(CoQueue *q)
{
    CoWaiter *w, *next;

    /* Those that wait again meanwhile are not meant. */
    pthread_mutex_lock(&q->lock);
    w = q->first;
    q->first = NULL;
    pthread_mutex_unlock(&q->lock);
    for (; w; w = next) {
        next = w->next;
        aio_co_wake(w->co);
    }
}

bool co_queue_empty(CoQueue *q)
{
    bool empty;

    pthread_mutex_lock(&q->lock);
    empty = !q->first;
    pthread_mutex_unlock(&q->lock);
    return empty;
}

/* --- CoRwlock -------------------------------------------------------------------- */

void co_rwlock_init(CoRwlock *l)
{
    *l = (CoRwlock){.lock = PTHREAD_MUTEX_INITIALIZER};
}

void co_rwlock_destroy(CoRwlock *l)
{
    g_assert(l->owners == 0 && !l->first);
    pthread_mutex_destroy(&l->lock);
}

static bool may_own(CoRwlock *l, bool write)
{
    return write ? l->owners == 0 : l->owners >= 0;
}

static void coroutine_fn rwlock_lock(CoRwlock *l, bool write)
{
    CoWaiter w = {.co = coroutine_self(), .write = write};

    g_assert(w.co);
    pthread_mutex_lock(&l->lock);
    if (!l->first && may_own(l, write)) {
        l->owners += write ? -1 : 1;
        pthread_mutex_unlock(&l->lock);
        return;
    }
    append(&l->first, &l->last, &w);
    pthread_mutex_unlock(&l->lock);
    coroutine_yield(); /* whoever wakes us has made us an owner */
}

void coroutine_fn co_rwlock_rdlock(CoRwlock *l)
{
    rwlock_lock(l, false);
}

void coroutine_fn co_rwlock_wrlock(CoRwlock *l)
{
    rwlock_lock(l, true);
}

void coroutine_fn co_rwlock_unlock(CoRwlock *l)
{
    CoWaiter *wake = NULL, *last = NULL, *next;

    pthread_mutex_lock(&l->lock);
    g_assert(l->owners != 0);
    l->owners += l->owners < 0 ? 1 : -1;
    while (l->first && may_own(l, l->first->write)) {
        CoWaiter *w = take_first(&l->first);

        l->owners += w->write ? -1 : 1;
        append(&wake, &last, w);
    }
    pthread_mutex_unlock(&l->lock);
    for (; wake; wake = next) {
        next = wake->next;
        aio_co_wake(wake->co);
    }
}
