/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The worker pools: threads that make calls which have no asynchronous form.  One pool for
 * the program and a small one for bulk work, bounded both; threads are started on demand and
 * end when they have been idle for a while.  A worker touches nothing but its request, and
 * reports through the context of the coroutine that waits.
 */
#include "aio-int.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "util/thread-role.h"
#include "util/trace.h"

enum {
    WORKER_IDLE_S = 10,
};

typedef struct WorkerRequest {
    WorkerFunc *fn;
    void *opaque;
    int result;
    Coroutine *co;
    struct WorkerRequest *next;
} WorkerRequest;

typedef struct WorkerPool {
    const char *name;
    ThreadRole role;
    int max;
    pthread_cond_t cond;
    WorkerRequest *first, **end;
    int queued, workers, idle;
} WorkerPool;

/* All below are guarded by pool_lock, a leaf. */
static pthread_mutex_t pool_lock = PTHREAD_MUTEX_INITIALIZER;
static WorkerPool general_pool = {.name = "worker", .role = THREAD_ROLE_ANSWER, .max = 64};
/* One that copies, one that waits for the disk: more would only take CPUs from the guest. */
static WorkerPool bulk_pool = {.name = "bulk", .role = THREAD_ROLE_BULK, .max = 2};

static WorkerRequest *next_request(WorkerPool *pool)
{
    struct timespec until;
    WorkerRequest *req;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += WORKER_IDLE_S;
    while (!pool->first) {
        int ret;

        pool->idle++;
        ret = pthread_cond_timedwait(&pool->cond, &pool_lock, &until);
        pool->idle--;
        if (ret && !pool->first) {
            return NULL;
        }
    }
    req = pool->first;
    pool->first = req->next;
    if (!pool->first) {
        pool->end = &pool->first;
    }
    pool->queued--;
    return req;
}

static void *worker_thread(void *opaque)
{
    WorkerPool *pool = opaque;
    WorkerRequest *req;

    pthread_setname_np(pthread_self(), pool->name);
    if (pool->role == THREAD_ROLE_BULK) {
        thread_set_role(pool->role);
    }
    pthread_mutex_lock(&pool_lock);
    while ((req = next_request(pool))) {
        pthread_mutex_unlock(&pool_lock);
        req->result = req->fn(req->opaque);
        aio_co_wake(req->co); /* req is gone after this */
        pthread_mutex_lock(&pool_lock);
    }
    pool->workers--;
    pthread_mutex_unlock(&pool_lock);
    return NULL;
}

/* Called under pool_lock.  A failure matters only if there is no worker at all. */
static void start_worker(WorkerPool *pool)
{
    sigset_t all, old;
    pthread_attr_t attr;
    pthread_t thread;
    int ret;

    sigfillset(&all);
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    ret = pthread_create(&thread, &attr, worker_thread, pool);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    if (ret == 0) {
        pool->workers++;
    } else if (pool->workers == 0) {
        fprintf(stderr, "Could not start a worker thread: %s\n", strerror(ret));
        abort();
    }
}

static void pool_init(WorkerPool *pool)
{
    pthread_condattr_t attr;

    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&pool->cond, &attr);
    pthread_condattr_destroy(&attr);
    pool->end = &pool->first;
}

static int coroutine_fn run_in(WorkerPool *pool, WorkerFunc *fn, void *opaque)
{
    WorkerRequest req = {.fn = fn, .opaque = opaque, .co = coroutine_self()};
    AioContext *ctx = aio_current();

    g_assert(ctx);
    ctx->in_workers++;
    pthread_mutex_lock(&pool_lock);
    if (!pool->end) {
        pool_init(pool);
    }
    trace_worker_submit(req.co, pool->queued);
    *pool->end = &req;
    pool->end = &req.next;
    pool->queued++;
    if (pool->queued > pool->idle && pool->workers < pool->max) {
        start_worker(pool);
    }
    pthread_cond_signal(&pool->cond);
    pthread_mutex_unlock(&pool_lock);
    coroutine_yield();
    trace_worker_complete(req.co, req.result);
    ctx->in_workers--;
    return req.result;
}

int coroutine_fn co_run_in_worker(WorkerFunc *fn, void *opaque)
{
    return run_in(&general_pool, fn, opaque);
}

int coroutine_fn co_run_in_bulk_worker(WorkerFunc *fn, void *opaque)
{
    return run_in(&bulk_pool, fn, opaque);
}
