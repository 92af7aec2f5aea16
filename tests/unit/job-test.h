/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * For tests of jobs: a driver that does what the test says, and a record of the events.
 */
#ifndef TESTS_JOB_TEST_H
#define TESTS_JOB_TEST_H

#include "config-host.h"
#include <pthread.h>
#include <string.h>
#include "job/job-int.h"
#include "qapi/error.h"
#include "qapi/event.h"
#include "qapi/qapi-commands-job.h"
#include "util/co-lock.h"
#include "util/iothread.h"

/* --- Recording of events ---------------------------------------------------------------- */

static pthread_mutex_t record_lock = PTHREAD_MUTEX_INITIALIZER;
static GString *record;

static inline void sink(unsigned event, json_object *msg)
{
    json_object *data = json_object_object_get(msg, "data");

    pthread_mutex_lock(&record_lock);
    g_string_append_printf(record, "%s:%s ",
                           json_object_get_string(json_object_object_get(data, "id")),
                           json_object_get_string(json_object_object_get(data, "status")));
    pthread_mutex_unlock(&record_lock);
    json_object_put(msg);
}

static inline void start_record(void)
{
    pthread_mutex_lock(&record_lock);
    if (record) {
        g_string_free(record, true);
    }
    record = g_string_new(NULL);
    pthread_mutex_unlock(&record_lock);
    qapi_set_event_sink(sink);
}

static inline void check_record(const char *want)
{
    pthread_mutex_lock(&record_lock);
    g_assert_cmpstr(record->str, ==, want);
    pthread_mutex_unlock(&record_lock);
}

/* --- A driver that does what the test says -------------------------------------------------- */

typedef struct Work {
    int n;           /* pause points to pass */
    bool hold;       /* then wait for let_go or a cancel */
    const char *fail;
    VmJobMutex *mutex;
    const char *owner;
    bool ignore_cancel;

    pthread_mutex_t lock; /* guards what follows */
    Coroutine *held;
    bool cancel_called;
    int ran;
    int settled; /* 1 commit, -1 taken back */
    bool freed;
    AioContext *ctx;
} Work;

#define WORK(...) {.lock = PTHREAD_MUTEX_INITIALIZER, __VA_ARGS__}

static inline void let_go(Work *w)
{
    pthread_mutex_lock(&w->lock);
    Coroutine *co = w->held;
    w->held = NULL;
    pthread_mutex_unlock(&w->lock);
    if (co) {
        aio_co_wake(co);
    }
}

static inline void work_cancel(Job *job, void *opaque)
{
    Work *w = opaque;

    pthread_mutex_lock(&w->lock);
    g_assert_false(w->cancel_called);
    w->cancel_called = true;
    pthread_mutex_unlock(&w->lock);
    let_go(w);
}

static inline bool coroutine_fn work_body(Job *job, Work *w, GError **errp)
{
    job_progress_set_total(job, 100);
    for (int i = 0; i < w->n; i++) {
        job_pause_point(job);
        job_progress_add(job, 1);
    }
    pthread_mutex_lock(&w->lock);
    w->ctx = aio_current();
    bool hold = w->hold && !w->cancel_called;
    if (hold) {
        w->held = coroutine_self();
    }
    pthread_mutex_unlock(&w->lock);
    if (hold) {
        coroutine_yield();
    }
    job_pause_point(job);
    if (job_is_cancelled(job) && !w->ignore_cancel) {
        return false;
    }
    if (w->fail) {
        error_setg(errp, "%s", w->fail);
        return false;
    }
    return true;
}

static inline bool coroutine_fn work_run(Job *job, void *opaque, GError **errp)
{
    Work *w = opaque;

    pthread_mutex_lock(&w->lock);
    w->ran++;
    pthread_mutex_unlock(&w->lock);
    if (!w->mutex) {
        return work_body(job, w, errp);
    }
    if (!vm_job_mutex_lock(w->mutex, job, w->owner, errp)) {
        return false;
    }
    job_enter_running(job);
    bool ok = work_body(job, w, errp);
    vm_job_mutex_unlock(w->mutex);
    return ok;
}

static inline void work_settle(Job *job, void *opaque, bool commit)
{
    Work *w = opaque;

    g_assert_cmpint(w->settled, ==, 0);
    w->settled = commit ? 1 : -1;
}

static inline void work_free(void *opaque)
{
    Work *w = opaque;

    g_assert_true(aio_current() == main_aio_context());
    g_assert_false(w->freed);
    w->freed = true;
}

static const JobDriver driver = {
    .type = JOB_TYPE_SNAPSHOT_SAVE,
    .run = work_run,
    .cancel = work_cancel,
    .settle = work_settle,
    .free = work_free,
};

static inline Job *create(const char *id, Work *w, AioContext *ctx, int flags)
{
    GError *err = NULL;
    Job *job = job_create(id, &driver, ctx ? ctx : main_aio_context(), flags, w, &err);

    g_assert_no_error(err);
    return job;
}

static inline bool is_held(Work *w)
{
    pthread_mutex_lock(&w->lock);
    bool held = w->held != NULL;
    pthread_mutex_unlock(&w->lock);
    return held;
}

#define POLL_UNTIL(cond) \
    while (!(cond)) { \
        aio_poll(main_aio_context(), false); \
        g_thread_yield(); \
    }

static inline void check_fails(bool ok, GError **err, const char *message)
{
    g_assert_false(ok);
    g_assert_cmpstr((*err)->message, ==, message);
    g_clear_error(err);
}

#endif
