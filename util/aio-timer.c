/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Timers of an AioContext: a binary heap by expiry under a leaf mutex, so that any
 * thread may arm and disarm in O(log n).  Callbacks run in the context's thread, without
 * the mutex.
 */
#include "aio-int.h"

static void heap_set(AioContext *ctx, int i, AioTimer *timer)
{
    ctx->timers[i] = timer;
    timer->index = i;
}

static void heap_up(AioContext *ctx, int i, AioTimer *timer)
{
    while (i > 0 && timer->expire < ctx->timers[(i - 1) / 2]->expire) {
        heap_set(ctx, i, ctx->timers[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    heap_set(ctx, i, timer);
}

static void heap_down(AioContext *ctx, int i, AioTimer *timer)
{
    for (;;) {
        int child = 2 * i + 1;

        if (child >= ctx->n_timers) {
            break;
        }
        if (child + 1 < ctx->n_timers &&
            ctx->timers[child + 1]->expire < ctx->timers[child]->expire) {
            child++;
        }
        if (timer->expire <= ctx->timers[child]->expire) {
            break;
        }
        heap_set(ctx, i, ctx->timers[child]);
        i = child;
    }
    heap_set(ctx, i, timer);
}

static void heap_remove(AioContext *ctx, AioTimer *timer)
{
    int i = timer->index;
    AioTimer *last = ctx->timers[--ctx->n_timers];

    timer->index = -1;
    if (last == timer) {
        return;
    }
    if (i > 0 && last->expire < ctx->timers[(i - 1) / 2]->expire) {
        heap_up(ctx, i, last);
    } else {
        heap_down(ctx, i, last);
    }
}

static void heap_insert(AioContext *ctx, AioTimer *timer)
{
    if (ctx->n_timers == ctx->timers_capacity) {
        ctx->timers_capacity = MAX(16, ctx->timers_capacity * 2);
        ctx->timers = g_renew(AioTimer *, ctx->timers, ctx->timers_capacity);
    }
    heap_up(ctx, ctx->n_timers++, timer);
}

/* Returns whether the earliest expiry has become earlier. */
static bool update_next(AioContext *ctx)
{
    int64_t next = ctx->n_timers ? ctx->timers[0]->expire : INT64_MAX;
    int64_t old = __atomic_load_n(&ctx->next_timer, __ATOMIC_RELAXED);

    __atomic_store_n(&ctx->next_timer, next, __ATOMIC_SEQ_CST);
    return next < old;
}

void aio_timer_init(AioTimer *timer, AioContext *ctx, AioHandler *cb, void *opaque)
{
    *timer = (AioTimer){.ctx = ctx, .cb = cb, .opaque = opaque, .index = -1};
}

AioTimer *aio_timer_new(AioContext *ctx, AioHandler *cb, void *opaque)
{
    AioTimer *timer = g_new(AioTimer, 1);

    aio_timer_init(timer, ctx, cb, opaque);
    return timer;
}

void aio_timer_mod(AioTimer *timer, int64_t expire_ns)
{
    AioContext *ctx = timer->ctx;
    bool earlier;

    pthread_mutex_lock(&ctx->timer_lock);
    if (timer->index >= 0) {
        heap_remove(ctx, timer);
    }
    timer->expire = expire_ns;
    heap_insert(ctx, timer);
    earlier = update_next(ctx);
    pthread_mutex_unlock(&ctx->timer_lock);
    if (earlier) {
        aio_kick(ctx);
    }
}

void aio_timer_del(AioTimer *timer)
{
    AioContext *ctx = timer->ctx;

    pthread_mutex_lock(&ctx->timer_lock);
    if (timer->index >= 0) {
        heap_remove(ctx, timer);
        update_next(ctx);
    }
    pthread_mutex_unlock(&ctx->timer_lock);
}

bool aio_timer_pending(AioTimer *timer)
{
    bool pending;

    pthread_mutex_lock(&timer->ctx->timer_lock);
    pending = timer->index >= 0;
    pthread_mutex_unlock(&timer->ctx->timer_lock);
    return pending;
}

void aio_timer_free(AioTimer *timer)
{
    if (timer) {
        aio_timer_del(timer);
        g_free(timer);
    }
}

bool aio_timers_run(AioContext *ctx)
{
    bool progress = false;
    int64_t now, next = __atomic_load_n(&ctx->next_timer, __ATOMIC_RELAXED);
    int budget;

    if (next == INT64_MAX || next > (now = clock_now_ns())) {
        return false;
    }
    pthread_mutex_lock(&ctx->timer_lock);
    budget = ctx->n_timers;
    pthread_mutex_unlock(&ctx->timer_lock);
    /* Bounded: a callback may arm its timer for the past again. */
    while (budget-- > 0) {
        AioTimer *timer = NULL;
        AioHandler *cb = NULL;
        void *opaque = NULL;

        pthread_mutex_lock(&ctx->timer_lock);
        if (ctx->n_timers && ctx->timers[0]->expire <= now) {
            timer = ctx->timers[0];
            cb = timer->cb;
            opaque = timer->opaque;
            heap_remove(ctx, timer);
            update_next(ctx);
        }
        pthread_mutex_unlock(&ctx->timer_lock);
        if (!timer) {
            break;
        }
        progress = true;
        cb(opaque);
    }
    return progress;
}
