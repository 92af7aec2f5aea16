/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The worker pool: threads that make calls which have no asynchronous form.  One pool
 * for the program, bounded; threads are started on demand and end when they have been
 * idle for a while.  A worker touches nothing but its request, and reports through the
 * context of the coroutine that waits.
 */
#include "aio-int.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "util/trace.h"

enum {
    WORKERS_MAX = 64,
    WORKER_IDLE_S = 10,
};

typedef struct WorkerRequest {
    WorkerFunc *fn;
    void *opaque;
    int result;
    Coroutine *co;
    struct WorkerRequest *next;
} WorkerRequest;

/* All below are guarded by pool_lock, a leaf. */
static pthread_mutex_t pool_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t pool_cond;
static WorkerRequest *queue_first, **queue_end = &queue_first;
static int queued, workers, idle;
static bool pool_ready;

static WorkerRequest *next_request(void)
{
    struct timespec until;
    WorkerRequest *req;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += WORKER_IDLE_S;
    while (!queue_first) {
        int ret;

        idle++;
        ret = pthread_cond_timedwait(&pool_cond, &pool_lock, &until);
        idle--;
        if (ret && !queue_first) {
            return NULL;
        }
    }
    req = queue_first;
    queue_first = req->next;
    if (!queue_first) {
        queue_end = &queue_first;
    }
    queued--;
    return req;
}

static void *worker_thread(void *opaque)
{
    WorkerRequest *req;

    pthread_setname_np(pthread_self(), "worker");
    pthread_mutex_lock(&pool_lock);
    while ((req = next_request())) {
        pthread_mutex_unlock(&pool_lock);
        req->result = req->fn(req->opaque);
        aio_co_wake(req->co); /* req is gone after this */
        pthread_mutex_lock(&pool_lock);
    }
    workers--;
    pthread_mutex_unlock(&pool_lock);
    return NULL;
}

/* Called under pool_lock.  A failure matters only if there is no worker at all. */
static void start_worker(void)
{
    sigset_t all, old;
    pthread_attr_t attr;
    pthread_t thread;
    int ret;

    sigfillset(&all);
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    ret = pthread_create(&thread, &attr, worker_thread, NULL);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    if (ret == 0) {
        workers++;
    } else if (workers == 0) {
        fprintf(stderr, "Could not start a worker thread: %s\n", strerror(ret));
        abort();
    }
}

static void pool_init(void)
{
    pthread_condattr_t attr;

    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&pool_cond, &attr);
    pthread_condattr_destroy(&attr);
    pool_ready = true;
}

int coroutine_fn co_run_in_worker(WorkerFunc *fn, void *opaque)
{
    WorkerRequest req = {.fn = fn, .opaque = opaque, .co = coroutine_self()};
    AioContext *ctx = aio_current();

    g_assert(ctx);
    ctx->in_workers++;
    pthread_mutex_lock(&pool_lock);
    if (!pool_ready) {
        pool_init();
    }
    trace_worker_submit(req.co, queued);
    *queue_end = &req;
    queue_end = &req.next;
    queued++;
    if (queued > idle && workers < WORKERS_MAX) {
        start_worker();
    }
    pthread_cond_signal(&pool_cond);
    pthread_mutex_unlock(&pool_lock);
    coroutine_yield();
    trace_worker_complete(req.co, req.result);
    ctx->in_workers--;
    return req.result;
}
