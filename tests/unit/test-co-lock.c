/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * CoMutex, CoQueue, CoRwlock: order and hand-over in one thread, exclusion and lost
 * wake-ups across threads.
 */
#include <glib.h>
#include <string.h>
#include "util/co-lock.h"
#include "util/iothread.h"

static AioContext *ctx;

static void drain(void)
{
    while (aio_poll(ctx, false)) {
    }
}

/* --- One thread ------------------------------------------------------------------ */

typedef struct Actor {
    CoMutex *mutex;
    CoRwlock *rwlock;
    GString *log;
    char name;
    bool write;
    bool again; /* locks again at once, and must wait its turn */
    Coroutine *co;
} Actor;

static void coroutine_fn mutex_actor(void *opaque)
{
    Actor *a = opaque;

    for (int i = 0; i <= a->again; i++) {
        co_mutex_lock(a->mutex);
        g_assert_true(a->mutex->holder == coroutine_self());
        g_string_append_c(a->log, a->name);
        co_sleep_ns(1000);
        co_mutex_unlock(a->mutex);
    }
}

static void test_mutex_order(void)
{
    CoMutex mutex = {0};
    GString *log = g_string_new(NULL);
    Actor actors[5];

    for (int i = 0; i < 5; i++) {
        actors[i] = (Actor){.mutex = &mutex, .log = log, .name = 'a' + i, .again = i == 0};
        coroutine_enter(coroutine_create(mutex_actor, &actors[i]));
    }
    while (log->len < 6 || mutex.holder) {
        aio_poll(ctx, true);
    }
    drain();
    g_assert_cmpstr(log->str, ==, "abcdea");
    co_mutex_destroy(&mutex);
    g_string_free(log, TRUE);
}

static void coroutine_fn trylock_other(void *opaque)
{
    g_assert_false(co_mutex_trylock(opaque));
}

static void coroutine_fn trylock_entry(void *opaque)
{
    CoMutex *mutex = opaque;

    g_assert_true(co_mutex_trylock(mutex));
    g_assert_true(mutex->holder == coroutine_self());
    g_assert_false(co_mutex_trylock(mutex));
    coroutine_enter(coroutine_create(trylock_other, mutex));
    co_mutex_unlock(mutex);
    g_assert_null(mutex->holder);
    co_mutex_lock(mutex);
    co_mutex_unlock(mutex);
}

static void test_mutex_trylock(void)
{
    CoMutex mutex;

    co_mutex_init(&mutex);
    aio_co_run_sync(ctx, trylock_entry, &mutex);
    co_mutex_destroy(&mutex);
}

typedef struct Queue {
    CoQueue queue;
    CoMutex mutex;
    GString *log;
    int next;
} Queue;

static void coroutine_fn queue_waiter(void *opaque)
{
    Queue *q = opaque;
    char name = 'a' + q->next++;

    co_mutex_lock(&q->mutex);
    co_queue_wait(&q->queue, &q->mutex);
    g_assert_true(q->mutex.holder == coroutine_self());
    g_string_append_c(q->log, name);
    co_mutex_unlock(&q->mutex);
    co_queue_wait(&q->queue, NULL);
    g_string_append_c(q->log, name);
}

static void test_queue(void)
{
    Queue q = {.log = g_string_new(NULL)};

    co_queue_init(&q.queue);
    co_mutex_init(&q.mutex);
    g_assert_true(co_queue_empty(&q.queue));
    g_assert_false(co_queue_next(&q.queue));
    co_queue_restart_all(&q.queue);
    for (int i = 0; i < 4; i++) {
        coroutine_enter(coroutine_create(queue_waiter, &q));
    }
    g_assert_false(co_queue_empty(&q.queue));
    g_assert_true(co_queue_next(&q.queue));
    drain();
    g_assert_cmpstr(q.log->str, ==, "a");
    co_queue_restart_all(&q.queue);
    drain();
    /* Those that wait for the second time were not restarted twice; a came first. */
    g_assert_cmpstr(q.log->str, ==, "abcda");
    co_queue_restart_all(&q.queue);
    drain();
    g_assert_cmpstr(q.log->str, ==, "abcdabcd");
    g_assert_true(co_queue_empty(&q.queue));
    co_queue_destroy(&q.queue);
    co_mutex_destroy(&q.mutex);
    g_string_free(q.log, TRUE);
}

static void coroutine_fn rwlock_actor(void *opaque)
{
    Actor *a = opaque;

    if (a->write) {
        co_rwlock_wrlock(a->rwlock);
    } else {
        co_rwlock_rdlock(a->rwlock);
    }
    g_string_append_c(a->log, a->name);
    coroutine_yield();
    co_rwlock_unlock(a->rwlock);
}

static void test_rwlock_order(void)
{
    CoRwlock lock = {0};
    GString *log = g_string_new(NULL);
    /* r and s share; W waits for both and holds back t and u, which then share; X last. */
    const char *names = "rsWtuX";
    Actor actors[6];

    for (int i = 0; i < 6; i++) {
        actors[i] = (Actor){.rwlock = &lock,
                            .log = log,
                            .name = names[i],
                            .write = g_ascii_isupper(names[i])};
        actors[i].co = coroutine_create(rwlock_actor, &actors[i]);
        coroutine_enter(actors[i].co);
    }
    g_assert_cmpstr(log->str, ==, "rs");
    coroutine_enter(actors[1].co);
    g_assert_cmpstr(log->str, ==, "rs");
    coroutine_enter(actors[0].co);
    drain();
    g_assert_cmpstr(log->str, ==, "rsW");
    coroutine_enter(actors[2].co);
    drain();
    g_assert_cmpstr(log->str, ==, "rsWtu");
    coroutine_enter(actors[3].co);
    coroutine_enter(actors[4].co);
    drain();
    g_assert_cmpstr(log->str, ==, "rsWtuX");
    coroutine_enter(actors[5].co);
    co_rwlock_destroy(&lock);
    g_string_free(log, TRUE);
}

/* --- Threads --------------------------------------------------------------------- */

enum { THREADS = 3, COROUTINES = 20, ROUNDS = 200 };

typedef struct Shared {
    CoMutex mutex;
    CoRwlock rwlock;
    CoQueue queue;
    uint64_t a, b; /* guarded; not atomic */
    int tokens, taken;
    int running; /* atomic */
    int next;
    Coroutine *waiter;
    IOThread *threads[THREADS];
} Shared;

static void ended(Shared *s)
{
    if (__atomic_sub_fetch(&s->running, 1, __ATOMIC_ACQ_REL) == 0) {
        aio_co_wake(s->waiter);
    }
}

static void coroutine_fn mutex_stress(void *opaque)
{
    Shared *s = opaque;
    unsigned int at = s->next++;

    for (int i = 0; i < ROUNDS; i++) {
        aio_co_reschedule_self(iothread_context(s->threads[at++ % THREADS]));
        co_mutex_lock(&s->mutex);
        s->a++;
        if (i % 16 == 0) {
            aio_co_reschedule_self(iothread_context(s->threads[at++ % THREADS]));
        }
        s->b++;
        g_assert_cmpuint(s->a, ==, s->b);
        co_mutex_unlock(&s->mutex);
    }
    ended(s);
}

static void coroutine_fn rwlock_stress(void *opaque)
{
    Shared *s = opaque;
    unsigned int at = s->next++;

    for (int i = 0; i < ROUNDS; i++) {
        aio_co_reschedule_self(iothread_context(s->threads[at % THREADS]));
        if ((i + at) % 4 == 0) {
            co_rwlock_wrlock(&s->rwlock);
            s->a++;
            if (i % 16 == 0) {
                co_sleep_ns(1000);
            }
            s->b++;
        } else {
            co_rwlock_rdlock(&s->rwlock);
            g_assert_cmpuint(s->a, ==, s->b);
        }
        co_rwlock_unlock(&s->rwlock);
    }
    ended(s);
}

/* Producers and consumers of tokens: a wake-up lost between check and wait would hang. */
static void coroutine_fn queue_stress(void *opaque)
{
    Shared *s = opaque;
    unsigned int at = s->next++;

    aio_co_reschedule_self(iothread_context(s->threads[at % THREADS]));
    for (int i = 0; i < ROUNDS; i++) {
        co_mutex_lock(&s->mutex);
        if (at & 1) {
            s->tokens++;
            co_mutex_unlock(&s->mutex);
            co_queue_next(&s->queue);
        } else {
            while (s->tokens == 0) {
                co_queue_wait(&s->queue, &s->mutex);
            }
            s->tokens--;
            s->taken++;
            co_mutex_unlock(&s->mutex);
        }
    }
    ended(s);
}

typedef struct Stress {
    Shared *shared;
    CoroutineEntry *entry;
} Stress;

static void coroutine_fn stress_entry(void *opaque)
{
    Stress *stress = opaque;
    Shared *s = stress->shared;

    s->waiter = coroutine_self();
    s->running = COROUTINES;
    for (int i = 0; i < COROUTINES; i++) {
        coroutine_enter(coroutine_create(stress->entry, s));
    }
    coroutine_yield();
}

static void stress(CoroutineEntry *entry, Shared *s)
{
    Stress stress = {.shared = s, .entry = entry};

    for (int i = 0; i < THREADS; i++) {
        s->threads[i] = iothread_new("stress", NULL);
        g_assert_nonnull(s->threads[i]);
    }
    aio_co_run_sync(ctx, stress_entry, &stress);
    for (int i = 0; i < THREADS; i++) {
        iothread_destroy(s->threads[i]);
    }
    co_mutex_destroy(&s->mutex);
    co_rwlock_destroy(&s->rwlock);
    co_queue_destroy(&s->queue);
}

static void test_mutex_threads(void)
{
    Shared s = {.a = 0};

    stress(mutex_stress, &s);
    g_assert_cmpuint(s.a, ==, COROUTINES * ROUNDS);
}

static void test_rwlock_threads(void)
{
    Shared s = {.a = 0};

    stress(rwlock_stress, &s);
    g_assert_cmpuint(s.a, ==, COROUTINES * ROUNDS / 4);
}

static void test_queue_threads(void)
{
    Shared s = {.a = 0};

    stress(queue_stress, &s);
    g_assert_cmpint(s.tokens, ==, 0);
    g_assert_cmpint(s.taken, ==, COROUTINES / 2 * ROUNDS);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    main_aio_context_init();
    ctx = main_aio_context();
    g_test_add_func("/co-lock/mutex/order", test_mutex_order);
    g_test_add_func("/co-lock/mutex/trylock", test_mutex_trylock);
    g_test_add_func("/co-lock/mutex/threads", test_mutex_threads);
    g_test_add_func("/co-lock/queue/order", test_queue);
    g_test_add_func("/co-lock/queue/threads", test_queue_threads);
    g_test_add_func("/co-lock/rwlock/order", test_rwlock_order);
    g_test_add_func("/co-lock/rwlock/threads", test_rwlock_threads);
    return g_test_run();
}
