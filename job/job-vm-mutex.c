/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The VM job mutex: one at a time may change the machine as a whole.  First come, first
 * served across all threads; whoever waits on behalf of a job gives up when that is
 * cancelled.  Any coroutine, any thread.  Its pthread lock is held for a few instructions
 * and comes before that of job.c.
 */
#include "config-host.h"
#include <pthread.h>
#include "job-int.h"
#include "qapi/error.h"

/* Lives on the waiting coroutine's stack. */
typedef struct VmJobWaiter {
    Coroutine *co;
    Job *job;
    const char *owner;
    bool granted; /* set before the coroutine is woken */
} VmJobWaiter;

struct VmJobMutex {
    pthread_mutex_t lock;
    char *owner; /* NULL: free */
    GQueue waiters;
};

VmJobMutex *vm_job_mutex_new(void)
{
    VmJobMutex *m = g_new0(VmJobMutex, 1);

    pthread_mutex_init(&m->lock, NULL);
    g_queue_init(&m->waiters);
    return m;
}

void vm_job_mutex_free(VmJobMutex *m)
{
    g_assert(!m->owner && g_queue_is_empty(&m->waiters));
    pthread_mutex_destroy(&m->lock);
    g_free(m);
}

/* Takes the mutex or queues w; false if w's job is cancelled.  With m->lock held. */
static bool take_or_queue(VmJobMutex *m, VmJobWaiter *w)
{
    if (w->job && !job_set_vm_mutex(w->job, m)) {
        return false;
    }
    if (!m->owner) {
        m->owner = g_strdup(w->owner);
        w->granted = true;
    } else {
        g_queue_push_tail(&m->waiters, w);
    }
    return true;
}

bool coroutine_fn vm_job_mutex_lock(VmJobMutex *m, Job *job, const char *owner, GError **errp)
{
    VmJobWaiter w = {.co = coroutine_self(), .job = job, .owner = owner};

    pthread_mutex_lock(&m->lock);
    bool queued = take_or_queue(m, &w) && !w.granted;
    pthread_mutex_unlock(&m->lock);
    if (queued) {
        coroutine_yield();
    }
    if (job) {
        job_set_vm_mutex(job, NULL);
    }
    if (!w.granted) {
        error_setg(errp, "Job was cancelled");
    }
    return w.granted;
}

void coroutine_fn vm_job_mutex_unlock(VmJobMutex *m)
{
    Coroutine *next = NULL;

    pthread_mutex_lock(&m->lock);
    g_assert(m->owner);
    g_clear_pointer(&m->owner, g_free);
    VmJobWaiter *w = g_queue_pop_head(&m->waiters);
    if (w) {
        m->owner = g_strdup(w->owner);
        w->granted = true;
        next = w->co;
    }
    pthread_mutex_unlock(&m->lock);
    if (next) {
        aio_co_wake(next);
    }
}

void vm_job_mutex_cancel_wait(VmJobMutex *m, Job *job)
{
    Coroutine *co = NULL;

    pthread_mutex_lock(&m->lock);
    for (GList *l = m->waiters.head; l; l = l->next) {
        VmJobWaiter *w = l->data;
        if (w->job == job) {
            co = w->co;
            g_queue_delete_link(&m->waiters, l);
            break;
        }
    }
    pthread_mutex_unlock(&m->lock);
    if (co) {
        aio_co_wake(co);
    }
}

char *vm_job_mutex_owner(VmJobMutex *m)
{
    pthread_mutex_lock(&m->lock);
    char *owner = g_strdup(m->owner);
    pthread_mutex_unlock(&m->lock);
    return owner;
}
