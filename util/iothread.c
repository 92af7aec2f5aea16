/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * IOThread: a thread that polls one AioContext until it is told to stop.  Signals stay
 * with the main thread.
 */
#include "aio-int.h"
#include "util/errno-text.h"
#include "util/iothread.h"

#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

struct IOThread {
    char *name;
    AioContext *ctx;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t started;
    int tid;   /* under lock; 0 until the thread has started */
    bool stop; /* the thread's own: set by a bottom half */
};

static void *iothread_run(void *opaque)
{
    IOThread *t = opaque;
    char name[16];

    g_strlcpy(name, t->name, sizeof(name));
    pthread_setname_np(pthread_self(), name);
    aio_context_adopt(t->ctx);
    pthread_mutex_lock(&t->lock);
    t->tid = syscall(SYS_gettid);
    pthread_cond_signal(&t->started);
    pthread_mutex_unlock(&t->lock);
    while (!t->stop) {
        aio_poll(t->ctx, true);
    }
    /* The kernel and the workers still use what the waiting coroutines gave them. */
    while (t->ctx->in_workers || aio_disk_busy(t->ctx)) {
        aio_poll(t->ctx, true);
    }
    aio_context_disown(t->ctx);
    return NULL;
}

static void iothread_free(IOThread *t)
{
    pthread_cond_destroy(&t->started);
    pthread_mutex_destroy(&t->lock);
    aio_context_unref(t->ctx);
    g_free(t->name);
    g_free(t);
}

IOThread *iothread_new(const char *name, GError **errp)
{
    IOThread *t = g_new0(IOThread, 1);
    sigset_t all, old;
    int ret;

    t->ctx = aio_context_new(errp);
    if (!t->ctx) {
        g_free(t);
        return NULL;
    }
    t->name = g_strdup(name);
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->started, NULL);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    ret = pthread_create(&t->thread, NULL, iothread_run, t);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (ret) {
        g_set_error(errp, G_FILE_ERROR, g_file_error_from_errno(ret),
                    "Could not start thread '%s': %s", name, errno_text(ret));
        iothread_free(t);
        return NULL;
    }
    return t;
}

static void iothread_stop(void *opaque)
{
    IOThread *t = opaque;

    t->stop = true;
}

void iothread_destroy(IOThread *t)
{
    aio_bh_schedule_oneshot(t->ctx, iothread_stop, t);
    pthread_join(t->thread, NULL);
    iothread_free(t);
}

AioContext *iothread_context(IOThread *t)
{
    return t->ctx;
}

const char *iothread_name(IOThread *t)
{
    return t->name;
}

int iothread_tid(IOThread *t)
{
    int tid;

    /* A thread that was made just now is about to tell. */
    pthread_mutex_lock(&t->lock);
    while (!(tid = t->tid)) {
        pthread_cond_wait(&t->started, &t->lock);
    }
    pthread_mutex_unlock(&t->lock);
    return tid;
}
