/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * AioContext: the context itself, its loop, wake-up, and the scheduling of coroutines.
 *
 * A round of the loop waits (one system call), then dispatches: file descriptors, disk
 * completions, bottom halves, timers, scheduled coroutines.  Other threads reach a
 * context by two lock-free lists (bottom halves, coroutines), its timers, and its lock.
 */
#include "aio-int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "util/errno-text.h"
#include "util/trace.h"

/* Coroutines entered in one round, so that chains of them do not starve the rest. */
enum { COROUTINES_PER_ROUND = 256 };

static AioContext *main_context;

int64_t clock_now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * INT64_C(1000000000) + ts.tv_nsec;
}

AioContext *aio_context_new(GError **errp)
{
    AioContext *ctx = g_new0(AioContext, 1);

    ctx->refcount = 1;
    ctx->next_timer = INT64_MAX;
    pthread_mutex_init(&ctx->timer_lock, NULL);
    if (!aio_epoll_init(ctx, errp)) {
        pthread_mutex_destroy(&ctx->timer_lock);
        g_free(ctx);
        return NULL;
    }
    return ctx;
}

AioContext *aio_context_ref(AioContext *ctx)
{
    __atomic_add_fetch(&ctx->refcount, 1, __ATOMIC_RELAXED);
    return ctx;
}

void aio_context_unref(AioContext *ctx)
{
    if (__atomic_sub_fetch(&ctx->refcount, 1, __ATOMIC_ACQ_REL)) {
        return;
    }
    aio_context_disown(ctx);
#if CONFIG_LINUX_IO_URING
    aio_ring_free(ctx);
#endif
    aio_bh_free_all(ctx);
    aio_epoll_destroy(ctx);
    pthread_mutex_destroy(&ctx->timer_lock);
    g_free(ctx->timers);
    g_free(ctx);
}

void aio_set_poll_max(AioContext *ctx, int64_t ns)
{
    __atomic_store_n(&ctx->poll_adapts, false, __ATOMIC_RELAXED);
    __atomic_store_n(&ctx->polling.max_ns, ns, __ATOMIC_RELAXED);
}

void aio_set_polling(AioContext *ctx, const AioPolling *polling)
{
    __atomic_store_n(&ctx->poll_adapts, true, __ATOMIC_RELAXED);
    __atomic_store_n(&ctx->polling.grow, polling->grow, __ATOMIC_RELAXED);
    __atomic_store_n(&ctx->polling.shrink, polling->shrink, __ATOMIC_RELAXED);
    __atomic_store_n(&ctx->polling.max_batch, polling->max_batch, __ATOMIC_RELAXED);
    __atomic_store_n(&ctx->polling.max_ns, polling->max_ns, __ATOMIC_RELAXED);
}

AioPolling aio_polling(AioContext *ctx)
{
    return (AioPolling){
        .max_ns = __atomic_load_n(&ctx->polling.max_ns, __ATOMIC_RELAXED),
        .grow = __atomic_load_n(&ctx->polling.grow, __ATOMIC_RELAXED),
        .shrink = __atomic_load_n(&ctx->polling.shrink, __ATOMIC_RELAXED),
        .max_batch = __atomic_load_n(&ctx->polling.max_batch, __ATOMIC_RELAXED),
    };
}

void main_aio_context_init(void)
{
    GError *err = NULL;

    g_assert(!main_context);
    main_context = aio_context_new(&err);
    if (!main_context) {
        fprintf(stderr, "Could not make the main loop: %s\n", err->message);
        abort();
    }
    aio_context_adopt(main_context);
}

AioContext *main_aio_context(void)
{
    return main_context;
}

/* Not to be inlined: a coroutine may ask again in another thread. */
__attribute__((noinline)) AioContext *aio_current(void)
{
    CoroutineThread *t = &coroutine_thread;
    __asm__ volatile("" : "+r"(t) : : "memory");
    return t->ctx;
}

bool aio_in_home_thread(AioContext *ctx)
{
    return aio_current() == ctx;
}

/* Makes the calling thread the one that runs ctx. */
void aio_context_adopt(AioContext *ctx)
{
    CoroutineThread *t = &coroutine_thread;

    if (G_LIKELY(t->ctx == ctx)) {
        return;
    }
    g_assert(!t->ctx);
    g_assert(!__atomic_load_n(&ctx->home, __ATOMIC_RELAXED));
    t->ctx = ctx;
    __atomic_store_n(&ctx->home, t, __ATOMIC_RELEASE);
}

/* The calling thread, if it is the one, runs ctx no more. */
void aio_context_disown(AioContext *ctx)
{
    CoroutineThread *t = &coroutine_thread;

    if (t->ctx == ctx) {
        t->ctx = NULL;
    }
}

/* --- Wake-up --------------------------------------------------------------------- */

/*
 * The loop says "sleeping", then looks for work, then blocks; others add work, then look
 * whether it sleeps.  With both in sequentially consistent order at least one of the two
 * sees the other.  The first to see it writes the eventfd, the others need not.
 */
void aio_kick(AioContext *ctx)
{
    int expected = 1;

    if (__atomic_load_n(&ctx->sleeping, __ATOMIC_SEQ_CST) &&
        __atomic_compare_exchange_n(&ctx->sleeping, &expected, 0, false, __ATOMIC_SEQ_CST,
                                    __ATOMIC_RELAXED)) {
        EventNotifier e = {.fd = ctx->event_fd};
        event_notifier_set(&e);
    }
}

void aio_notify(AioContext *ctx)
{
    __atomic_store_n(&ctx->notified, 1, __ATOMIC_SEQ_CST);
    aio_kick(ctx);
}

bool aio_has_work(AioContext *ctx)
{
    return ctx->ready_first || ctx->always_ready ||
           __atomic_load_n(&ctx->bhs, __ATOMIC_SEQ_CST) ||
           __atomic_load_n(&ctx->coroutines, __ATOMIC_SEQ_CST) ||
           __atomic_load_n(&ctx->notified, __ATOMIC_SEQ_CST);
}

bool aio_prepare_sleep(AioContext *ctx)
{
    __atomic_exchange_n(&ctx->sleeping, 1, __ATOMIC_SEQ_CST);
    return !aio_has_work(ctx);
}

void aio_end_sleep(AioContext *ctx)
{
    __atomic_store_n(&ctx->sleeping, 0, __ATOMIC_RELAXED);
}

int64_t aio_next_timeout(AioContext *ctx)
{
    int64_t next = __atomic_load_n(&ctx->next_timer, __ATOMIC_SEQ_CST);
    int64_t now;

    if (next == INT64_MAX) {
        return -1;
    }
    now = clock_now_ns();
    return next > now ? next - now : 0;
}

/* --- The loop -------------------------------------------------------------------- */

static void wait_for_events(AioContext *ctx, int64_t timeout)
{
#if CONFIG_LINUX_IO_URING
    if (aio_disk_busy(ctx)) {
        aio_ring_wait(ctx->ring, timeout);
        return;
    }
#endif
    aio_epoll_wait(ctx, timeout);
}

void aio_wait(AioContext *ctx, int64_t timeout)
{
    if (ctx->woken_at) {
        int64_t busy = clock_now_ns() - ctx->woken_at;

        ctx->stats.busy_ns += busy;
        ctx->stats.longest_ns = MAX(ctx->stats.longest_ns, busy);
    }
    wait_for_events(ctx, timeout);
    ctx->woken_at = clock_now_ns();
    ctx->stats.rounds++;
}

AioLoopStats aio_loop_stats(AioContext *ctx, bool reset)
{
    AioLoopStats stats = ctx->stats;

    g_assert(aio_in_home_thread(ctx));
    if (reset) {
        ctx->stats = (AioLoopStats){0};
        ctx->woken_at = clock_now_ns(); /* what this turn has taken so far is past, too */
    }
    return stats;
}

static bool run_coroutines(AioContext *ctx)
{
    bool progress = false;

    for (int i = 0; i < COROUTINES_PER_ROUND; i++) {
        Coroutine *co = ctx->ready_first;

        if (!co) {
            Coroutine *stack, *list = NULL;

            if (!__atomic_load_n(&ctx->coroutines, __ATOMIC_RELAXED)) {
                break;
            }
            /* Last in, first out: turn it round. */
            stack = __atomic_exchange_n(&ctx->coroutines, NULL, __ATOMIC_ACQUIRE);
            ctx->ready_last = stack;
            while (stack) {
                Coroutine *next = stack->next;
                stack->next = list;
                list = stack;
                stack = next;
            }
            co = list;
        }
        ctx->ready_first = co->next;
        co->next = NULL;
        __atomic_store_n(&co->scheduled, 0, __ATOMIC_RELEASE);
        coroutine_enter(co);
        progress = true;
    }
    return progress;
}

bool aio_dispatch(AioContext *ctx)
{
    bool progress;

    __atomic_store_n(&ctx->notified, 0, __ATOMIC_SEQ_CST);
    aio_lock(&ctx->lock);
    progress = aio_epoll_dispatch(ctx);
#if CONFIG_LINUX_IO_URING
    if (ctx->ring) {
        progress |= aio_ring_dispatch(ctx->ring);
    }
#endif
    progress |= aio_bh_run(ctx);
    progress |= aio_timers_run(ctx);
    progress |= run_coroutines(ctx);
    aio_unlock(&ctx->lock);
    return progress;
}

bool aio_poll(AioContext *ctx, bool blocking)
{
    int64_t timeout = 0;

    g_assert(!in_coroutine());
    aio_context_adopt(ctx);
    if (blocking && aio_prepare_sleep(ctx)) {
        timeout = aio_next_timeout(ctx);
    }
    aio_wait(ctx, timeout);
    aio_end_sleep(ctx);
    return aio_dispatch(ctx);
}

/* --- Coroutines ------------------------------------------------------------------ */

AioContext *coroutine_context(Coroutine *co)
{
    return __atomic_load_n(&co->ctx, __ATOMIC_ACQUIRE);
}

void aio_co_schedule(AioContext *ctx, Coroutine *co)
{
    bool local = aio_in_home_thread(ctx);
    Coroutine *head;

    if (__atomic_exchange_n(&co->scheduled, 1, __ATOMIC_ACQUIRE)) {
        fprintf(stderr, "Internal error: coroutine %p is scheduled twice\n", (void *)co);
        abort();
    }
    if (!local) {
        /* co may end, and ctx with it, before the notification is through. */
        aio_context_ref(ctx);
    }
    __atomic_store_n(&co->ctx, ctx, __ATOMIC_RELEASE);
    head = __atomic_load_n(&ctx->coroutines, __ATOMIC_RELAXED);
    do {
        co->next = head;
    } while (!__atomic_compare_exchange_n(&ctx->coroutines, &head, co, true, __ATOMIC_SEQ_CST,
                                          __ATOMIC_RELAXED));
    trace_aio_co_schedule(ctx, co);
    aio_kick(ctx);
    if (!local) {
        aio_context_unref(ctx);
    }
}

void aio_co_wake(Coroutine *co)
{
    AioContext *ctx = coroutine_context(co);

    g_assert(ctx);
    if (aio_in_home_thread(ctx) && !in_coroutine()) {
        coroutine_enter(co);
    } else {
        aio_co_schedule(ctx, co);
    }
}

void aio_co_enter(AioContext *ctx, Coroutine *co)
{
    if (aio_in_home_thread(ctx)) {
        coroutine_enter(co);
    } else {
        aio_co_schedule(ctx, co);
    }
}

void coroutine_fn aio_co_reschedule_self(AioContext *ctx)
{
    if (!aio_in_home_thread(ctx)) {
        trace_aio_co_move(coroutine_self(), ctx);
        coroutine_yield_to(ctx);
    }
}

typedef struct RunSync {
    CoroutineEntry *entry;
    void *opaque;
    AioContext *ctx;
    bool done; /* atomic: entry may end in another context */
} RunSync;

static void coroutine_fn run_sync_entry(void *opaque)
{
    RunSync *run = opaque;
    AioContext *ctx = aio_context_ref(run->ctx);

    run->entry(run->opaque);
    __atomic_store_n(&run->done, true, __ATOMIC_RELEASE);
    aio_notify(ctx);
    aio_context_unref(ctx);
}

void aio_co_run_sync(AioContext *ctx, CoroutineEntry *entry, void *opaque)
{
    RunSync run = {.entry = entry, .opaque = opaque, .ctx = ctx};

    aio_context_adopt(ctx);
    coroutine_enter(coroutine_create(run_sync_entry, &run));
    while (!__atomic_load_n(&run.done, __ATOMIC_ACQUIRE)) {
        aio_poll(ctx, true);
    }
}

/* --- Event notifier -------------------------------------------------------------- */

bool event_notifier_init(EventNotifier *e, GError **errp)
{
    e->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (e->fd < 0) {
        g_set_error(errp, G_FILE_ERROR, g_file_error_from_errno(errno),
                    "Could not create an eventfd: %s", errno_text(errno));
        return false;
    }
    return true;
}

void event_notifier_cleanup(EventNotifier *e)
{
    close(e->fd);
    e->fd = -1;
}

void event_notifier_set(EventNotifier *e)
{
    uint64_t one = 1;
    int saved = errno;

    /* EAGAIN: the counter is at its maximum, so the event is set. */
    while (write(e->fd, &one, sizeof(one)) < 0 && errno == EINTR) {
    }
    errno = saved;
}

bool event_notifier_test_and_clear(EventNotifier *e)
{
    uint64_t value;
    ssize_t ret;

    do {
        ret = read(e->fd, &value, sizeof(value));
    } while (ret < 0 && errno == EINTR);
    return ret == sizeof(value);
}
