/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * IOThreads and what crosses threads: scheduling and waking coroutines, moving between
 * contexts, timers and bottom halves from outside, and the contexts' locks.
 */
#include <glib.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "config-host.h"
#include "util/aio.h"
#include "util/iothread.h"

enum { IOTHREADS = 3 };
static IOThread *iothreads[IOTHREADS];

static void start(void)
{
    for (int i = 0; i < IOTHREADS; i++) {
        GError *err = NULL;
        char name[16];

        g_snprintf(name, sizeof(name), "io%d", i);
        iothreads[i] = iothread_new(name, &err);
        g_assert_no_error(err);
    }
}

static void stop(void)
{
    for (int i = 0; i < IOTHREADS; i++) {
        iothread_destroy(iothreads[i]);
    }
}

static AioContext *io_ctx(unsigned int i)
{
    return iothread_context(iothreads[i % IOTHREADS]);
}

static void run(CoroutineEntry *entry, void *opaque)
{
    aio_co_run_sync(main_aio_context(), entry, opaque);
}

static void coroutine_fn identity_entry(void *opaque)
{
    char name[16];
    long tid;

    for (int i = 0; i < IOTHREADS; i++) {
        aio_co_reschedule_self(io_ctx(i));
        tid = syscall(SYS_gettid);
        g_assert_cmpint(tid, ==, iothread_tid(iothreads[i]));
        g_assert_true(aio_current() == io_ctx(i));
        g_assert_true(coroutine_context(coroutine_self()) == io_ctx(i));
        g_assert_true(aio_in_home_thread(io_ctx(i)));
        g_assert_false(aio_in_home_thread(main_aio_context()));
        pthread_getname_np(pthread_self(), name, sizeof(name));
        g_assert_cmpstr(name, ==, iothread_name(iothreads[i]));
    }
    /* Nowhere to go: stays. */
    aio_co_reschedule_self(aio_current());
    /* Sleeps and workers come back to where they were called. */
    co_sleep_ns(1000);
    g_assert_true(aio_current() == io_ctx(IOTHREADS - 1));
    aio_co_reschedule_self(main_aio_context());
    tid = syscall(SYS_gettid);
    g_assert_cmpint(tid, ==, getpid());
}

static void test_identity(void)
{
    start();
    run(identity_entry, NULL);
    stop();
}

static void test_start_stop(void)
{
    for (int i = 0; i < 20; i++) {
        start();
        stop();
    }
}

/* Many coroutines hop between all contexts at the same time. */
typedef struct Crowd {
    int running; /* atomic */
    Coroutine *waiter;
    int next;
} Crowd;

static void coroutine_fn hop_entry(void *opaque)
{
    Crowd *crowd = opaque;
    unsigned int at = crowd->next++;
    uint64_t sum = 0;

    for (int i = 0; i < 200; i++) {
        at = at * 5 + 3;
        aio_co_reschedule_self(io_ctx(at));
        g_assert_true(aio_current() == io_ctx(at));
        sum += i;
    }
    g_assert_cmpuint(sum, ==, 199 * 200 / 2);
    if (__atomic_sub_fetch(&crowd->running, 1, __ATOMIC_ACQ_REL) == 0) {
        aio_co_wake(crowd->waiter);
    }
}

static void coroutine_fn crowd_entry(void *opaque)
{
    Crowd *crowd = opaque;

    crowd->waiter = coroutine_self();
    crowd->running = 100;
    for (int i = 0; i < 100; i++) {
        coroutine_enter(coroutine_create(hop_entry, crowd));
    }
    coroutine_yield();
    g_assert_cmpint(crowd->running, ==, 0);
    g_assert_true(aio_current() == main_aio_context());
}

static void test_hops(void)
{
    Crowd crowd = {0};

    start();
    run(crowd_entry, &crowd);
    stop();
}

/*
 * A wake from another thread that may come before the coroutine has yielded: the other
 * thread is told of it first.  Lost wakes hang, early entries crash.
 */
typedef struct Race {
    Coroutine *volatile co; /* atomic */
    bool stop;              /* atomic */
    int wakes;
} Race;

static void *race_thread(void *opaque)
{
    Race *race = opaque;

    while (!__atomic_load_n(&race->stop, __ATOMIC_ACQUIRE)) {
        Coroutine *co = __atomic_exchange_n(&race->co, NULL, __ATOMIC_ACQ_REL);

        if (co) {
            race->wakes++;
            aio_co_wake(co);
        }
    }
    return NULL;
}

static void coroutine_fn race_entry(void *opaque)
{
    Race *race = opaque;

    for (int i = 0; i < 5000; i++) {
        if (i % 100 == 0) {
            aio_co_reschedule_self(io_ctx(i / 100));
        }
        __atomic_store_n(&race->co, coroutine_self(), __ATOMIC_RELEASE);
        if (i & 1) {
            for (volatile int spin = 0; spin < (i & 63); spin++) {
            }
        }
        coroutine_yield();
    }
    aio_co_reschedule_self(main_aio_context());
    __atomic_store_n(&race->stop, true, __ATOMIC_RELEASE);
}

static void test_wake_race(void)
{
    Race race = {0};
    pthread_t thread;

    start();
    pthread_create(&thread, NULL, race_thread, &race);
    run(race_entry, &race);
    pthread_join(thread, NULL);
    g_assert_cmpint(race.wakes, ==, 5000);
    stop();
}

/* Timers and sleeps worked from another thread while the loop blocks. */
static void timer_cb(void *opaque)
{
    aio_co_wake(opaque);
}

static void sleep_wake(void *opaque)
{
    co_sleep_wake(opaque);
}

static void coroutine_fn timer_entry(void *opaque)
{
    CoSleep sleep = {0};
    AioTimer *timer = aio_timer_new(io_ctx(0), timer_cb, coroutine_self());

    for (int i = 0; i < 100; i++) {
        aio_timer_mod(timer, INT64_MAX - 1);
        aio_timer_mod(timer, clock_now_ns() + (i & 1) * 10000);
        coroutine_yield();
        g_assert_true(aio_current() == main_aio_context());
    }
    aio_timer_free(timer);
    for (int i = 0; i < 100; i++) {
        aio_bh_schedule_oneshot(io_ctx(i), sleep_wake, &sleep);
        g_assert_true(co_sleep_ns_wakeable(&sleep, INT64_MAX));
    }
}

static void test_timers(void)
{
    start();
    run(timer_entry, NULL);
    stop();
}

/* Sleep and wake at the same moment. */
typedef struct Meet {
    CoSleep sleep;
    int woken, expired;
    bool stop;
} Meet;

static void *meet_thread(void *opaque)
{
    Meet *meet = opaque;

    while (!__atomic_load_n(&meet->stop, __ATOMIC_ACQUIRE)) {
        co_sleep_wake(&meet->sleep);
        g_usleep(20);
    }
    return NULL;
}

static void coroutine_fn meet_entry(void *opaque)
{
    Meet *meet = opaque;

    for (int i = 0; i < 1000; i++) {
        if (co_sleep_ns_wakeable(&meet->sleep, 70000)) {
            meet->woken++;
        } else {
            meet->expired++;
        }
    }
    __atomic_store_n(&meet->stop, true, __ATOMIC_RELEASE);
}

static void test_sleep_race(void)
{
    Meet meet = {.sleep = {0}};
    pthread_t thread;

    pthread_create(&thread, NULL, meet_thread, &meet);
    run(meet_entry, &meet);
    pthread_join(thread, NULL);
    g_assert_cmpint(meet.woken + meet.expired, ==, 1000);
    g_assert_cmpint(meet.woken, >, 0);
}

/* --- The contexts' locks --------------------------------------------------------- */

typedef struct Guarded {
    AioContext *ctx;
    AioBH *bh;
    uint64_t a, b; /* equal whenever the lock is free; not atomic */
    bool stop;     /* atomic */
    int looks;
} Guarded;

static void guarded_bh(void *opaque)
{
    Guarded *g = opaque;

    g->a++;
    for (volatile int i = 0; i < 50; i++) {
    }
    g->b++;
    if (!__atomic_load_n(&g->stop, __ATOMIC_ACQUIRE)) {
        aio_bh_schedule(g->bh);
    }
}

static void *look_thread(void *opaque)
{
    Guarded *g = opaque;
    uint64_t before = 0;

    for (int i = 0; i < 2000; i++) {
        aio_context_acquire(g->ctx);
        aio_context_acquire(g->ctx);
        g_assert_cmpuint(g->a, ==, g->b);
        aio_context_release(g->ctx);
        g_assert_cmpuint(g->a, ==, g->b);
        g_assert_cmpuint(g->a, >=, before);
        before = g->a;
        aio_context_release(g->ctx);
    }
    return NULL;
}

/* A loop that is always busy lets others in, and they see nothing half done. */
static void test_lock(void)
{
    Guarded g = {0};
    pthread_t threads[2];

    start();
    g.ctx = io_ctx(0);
    g.bh = aio_bh_new(g.ctx, guarded_bh, &g);
    aio_bh_schedule(g.bh);
    for (int i = 0; i < 2; i++) {
        pthread_create(&threads[i], NULL, look_thread, &g);
    }
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
    }
    __atomic_store_n(&g.stop, true, __ATOMIC_RELEASE);
    aio_bh_delete(g.bh);
    stop();
}

#if CONFIG_DEBUG
static void coroutine_fn yield_under_lock(void *opaque)
{
    aio_context_acquire(io_ctx(0));
    coroutine_yield();
}

static void test_yield_under_lock(void)
{
    if (g_test_subprocess()) {
        start();
        run(yield_under_lock, NULL);
        return;
    }
    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_failed();
    g_test_trap_assert_stderr("*yields while its thread holds another AioContext*");
}
#endif

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    main_aio_context_init();
    g_test_add_func("/iothread/identity", test_identity);
    g_test_add_func("/iothread/start-stop", test_start_stop);
    g_test_add_func("/iothread/hops", test_hops);
    g_test_add_func("/iothread/wake-race", test_wake_race);
    g_test_add_func("/iothread/timers", test_timers);
    g_test_add_func("/iothread/sleep-race", test_sleep_race);
    g_test_add_func("/iothread/lock", test_lock);
#if CONFIG_DEBUG
    g_test_add_func("/iothread/yield-under-lock", test_yield_under_lock);
#endif
    return g_test_run();
}
