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
    bool open_ended;
    bool granted; /* set before the coroutine is woken */
} VmJobWaiter;

struct VmJobMutex {
    pthread_mutex_t lock;
    char *owner; /* NULL: free */
    bool open_ended; /* the owner is a job of that kind */
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

/* With m->lock held. */
static void grant(VmJobMutex *m, VmJobWaiter *w)
{
    m->owner = g_strdup(w->owner);
    m->open_ended = w->open_ended;
    w->granted = true;
}

/* Takes the mutex or queues w; false if w's job is cancelled.  With m->lock held. */
static bool take_or_queue(VmJobMutex *m, VmJobWaiter *w)
{
    if (w->job && !job_set_vm_mutex(w->job, m)) {
        return false;
    }
    if (!m->owner) {
        grant(m, w);
    } else {
        g_queue_push_tail(&m->waiters, w);
    }
    return true;
}

/* Who is there, or comes before a newcomer, and may stay for ever.  With m->lock held. */
static const char *find_open_ended(VmJobMutex *m)
{
    if (m->owner && m->open_ended) {
        return m->owner;
    }
    for (GList *l = m->waiters.head; l; l = l->next) {
        VmJobWaiter *w = l->data;
        if (w->open_ended) {
            return w->owner;
        }
    }
    return NULL;
}

static bool refuse(const char *owner, const char *blocker, GError **errp)
{
    error_setg(errp, "%s not allowed while %s is under way", owner, blocker);
    return false;
}

static bool coroutine_fn lock_mutex(VmJobMutex *m, Job *job, const char *owner, bool soon,
                                    GError **errp)
{
    VmJobWaiter w = {.co = coroutine_self(), .job = job, .owner = owner,
                     .open_ended = job && job_is_open_ended(job)};

    pthread_mutex_lock(&m->lock);
    g_autofree char *blocker = soon ? g_strdup(find_open_ended(m)) : NULL;
    bool queued = !blocker && take_or_queue(m, &w) && !w.granted;
    pthread_mutex_unlock(&m->lock);
    if (queued) {
        coroutine_yield();
    }
    if (job) {
        job_set_vm_mutex(job, NULL);
    }
    if (blocker) {
        return refuse(owner, blocker, errp);
    }
    if (!w.granted) {
        error_setg(errp, "Job was cancelled");
    }
    return w.granted;
}

bool coroutine_fn vm_job_mutex_lock(VmJobMutex *m, Job *job, const char *owner, GError **errp)
{
    return lock_mutex(m, job, owner, false, errp);
}

bool coroutine_fn vm_job_mutex_lock_soon(VmJobMutex *m, Job *job, const char *owner,
                                         GError **errp)
{
    return lock_mutex(m, job, owner, true, errp);
}

void coroutine_fn vm_job_mutex_unlock(VmJobMutex *m)
{
    Coroutine *next = NULL;

    pthread_mutex_lock(&m->lock);
    g_assert(m->owner);
    g_clear_pointer(&m->owner, g_free);
    VmJobWaiter *w = g_queue_pop_head(&m->waiters);
    if (w) {
        grant(m, w);
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

bool vm_job_mutex_check_soon(VmJobMutex *m, const char *owner, GError **errp)
{
    pthread_mutex_lock(&m->lock);
    g_autofree char *blocker = g_strdup(find_open_ended(m));
    pthread_mutex_unlock(&m->lock);
    return !blocker || refuse(owner, blocker, errp);
}

char *vm_job_mutex_owner(VmJobMutex *m)
{
    pthread_mutex_lock(&m->lock);
    char *owner = g_strdup(m->owner);
    pthread_mutex_unlock(&m->lock);
    return owner;
}
