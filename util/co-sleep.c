/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sleeping and timing out, in coroutines.  The timer is homed in the context that the
 * coroutine sleeps in; who ends the sleep - timer or co_sleep_wake(), which any thread
 * may call - is decided by one atomic state.
 */
#include "aio-int.h"

enum {
    SLEEP_IDLE, /* not sleeping, not woken */
    SLEEP_SLEEPING,
    SLEEP_EXPIRED,
    SLEEP_WOKEN,
};

static void sleep_expired(void *opaque)
{
    CoSleep *s = opaque;
    int expected = SLEEP_SLEEPING;

    if (__atomic_compare_exchange_n(&s->state, &expected, SLEEP_EXPIRED, false,
                                    __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
        aio_co_wake(s->co);
    }
}

bool coroutine_fn co_sleep_ns_wakeable(CoSleep *s, int64_t ns)
{
    AioContext *ctx = aio_current();
    int expected = SLEEP_IDLE;

    g_assert(ctx);
    s->co = coroutine_self();
    if (__atomic_compare_exchange_n(&s->state, &expected, SLEEP_SLEEPING, false,
                                    __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
        AioTimer timer;
        int64_t expire;

        aio_timer_init(&timer, ctx, sleep_expired, s);
        if (__builtin_add_overflow(clock_now_ns(), MAX(ns, 0), &expire)) {
            expire = INT64_MAX - 1;
        }
        aio_timer_mod(&timer, expire);
        coroutine_yield();
        aio_timer_del(&timer);
    }
    return __atomic_exchange_n(&s->state, SLEEP_IDLE, __ATOMIC_ACQ_REL) == SLEEP_WOKEN;
}

void co_sleep_wake(CoSleep *s)
{
    if (__atomic_exchange_n(&s->state, SLEEP_WOKEN, __ATOMIC_ACQ_REL) == SLEEP_SLEEPING) {
        aio_co_wake(s->co);
    }
}

void coroutine_fn co_sleep_ns(int64_t ns)
{
    CoSleep s = {0};

    co_sleep_ns_wakeable(&s, ns);
}

typedef enum TimeoutState { TIMEOUT_RUNNING, TIMEOUT_ENDED, TIMEOUT_ABANDONED } TimeoutState;

/* Shared by the coroutine that waits and the one that runs; the last one frees it. */
typedef struct CoTimeout {
    CoroutineEntry *entry;
    void *opaque;
    AioHandler *clean;
    CoSleep sleep;
    int state;    /* atomic TimeoutState */
    int refcount; /* atomic */
} CoTimeout;

static void timeout_unref(CoTimeout *t)
{
    if (__atomic_sub_fetch(&t->refcount, 1, __ATOMIC_ACQ_REL) == 0) {
        g_free(t);
    }
}

static bool timeout_decide(CoTimeout *t, TimeoutState state)
{
    int expected = TIMEOUT_RUNNING;

    return __atomic_compare_exchange_n(&t->state, &expected, state, false, __ATOMIC_ACQ_REL,
                                       __ATOMIC_ACQUIRE);
}

static void coroutine_fn timeout_entry(void *opaque)
{
    CoTimeout *t = opaque;

    t->entry(t->opaque);
    if (timeout_decide(t, TIMEOUT_ENDED)) {
        co_sleep_wake(&t->sleep);
    } else if (t->clean) {
        t->clean(t->opaque);
    }
    timeout_unref(t);
}

bool coroutine_fn co_timeout(CoroutineEntry *entry, void *opaque, int64_t timeout_ns,
                             AioHandler *clean)
{
    CoTimeout *t = g_new0(CoTimeout, 1);
    bool ended;

    *t = (CoTimeout){.entry = entry, .opaque = opaque, .clean = clean, .refcount = 2};
    coroutine_enter(coroutine_create(timeout_entry, t));
    ended = co_sleep_ns_wakeable(&t->sleep, timeout_ns) || !timeout_decide(t, TIMEOUT_ABANDONED);
    timeout_unref(t);
    return ended;
}
