/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The IOThreads of this process: those that -object names, io0 for disks that name none,
 * and the one in which snapshots are made.  Main thread unless said otherwise.
 */
#include <pthread.h>
#include <string.h>
#include <stdlib.h>
#include "util/iothreads.h"
#include "util/thread-role.h"

#define DEFAULT_NAME "io0"
#define IOTHREADS_ERROR (g_quark_from_static_string("iothreads"))

static GPtrArray *threads;
static IOThread *unnamed; /* of them: for disks that name none; NULL, or the user made it */
static pthread_mutex_t snapshot_lock = PTHREAD_MUTEX_INITIALIZER;
static IOThread *snapshot_thread; /* snapshot_lock */

static IOThread *find(const char *id)
{
    for (guint i = 0; threads && i < threads->len; i++) {
        if (!strcmp(iothread_name(threads->pdata[i]), id)) {
            return threads->pdata[i];
        }
    }
    return NULL;
}

static bool is_new(const char *id, GError **errp)
{
    if (find(id)) {
        g_set_error(errp, IOTHREADS_ERROR, 0,
                    "attempt to add duplicate property '%s' to object (type 'container')", id);
        return false;
    }
    return true;
}

static void add(IOThread *thread)
{
    if (!threads) {
        threads = g_ptr_array_new();
    }
    g_ptr_array_add(threads, thread);
}

bool iothreads_add(const char *id, GError **errp)
{
    IOThread *thread = is_new(id, errp) ? iothread_new(id, errp) : NULL;

    if (thread) {
        add(thread);
    }
    return thread != NULL;
}

typedef struct StartArgs {
    const char *id;
    IOThread *thread;
    GError *err;
} StartArgs;

static int start_in_worker(void *opaque)
{
    StartArgs *a = opaque;

    a->thread = iothread_new(a->id, &a->err);
    return 0;
}

static int destroy_in_worker(void *opaque)
{
    iothread_destroy(opaque);
    return 0;
}

bool coroutine_fn iothreads_co_add(const char *id, GError **errp)
{
    StartArgs a = {.id = id};

    if (!is_new(id, errp)) {
        return false;
    }
    co_run_in_worker(start_in_worker, &a);
    if (!a.thread) {
        g_propagate_error(errp, a.err);
        return false;
    }
    if (!is_new(id, errp)) { /* another session was quicker */
        co_run_in_worker(destroy_in_worker, a.thread);
        return false;
    }
    add(a.thread);
    return true;
}

void coroutine_fn iothreads_co_remove(IOThread *thread)
{
    g_ptr_array_remove(threads, thread);
    co_run_in_worker(destroy_in_worker, thread);
}

IOThread *iothreads_find(const char *id, GError **errp)
{
    IOThread *thread = find(id);

    if (!thread) {
        g_set_error(errp, IOTHREADS_ERROR, 0, "Cannot find iothread '%s'", id);
    }
    return thread;
}

IOThread *iothreads_default(GError **errp)
{
    if (!find(DEFAULT_NAME)) {
        if (!iothreads_add(DEFAULT_NAME, errp)) {
            return NULL;
        }
        unnamed = find(DEFAULT_NAME);
    }
    return find(DEFAULT_NAME);
}

static void become_bulk(void *opaque)
{
    thread_set_role(THREAD_ROLE_BULK);
}

AioContext *iothreads_snapshot_context(void)
{
    g_autoptr(GError) err = NULL;

    pthread_mutex_lock(&snapshot_lock);
    if (!snapshot_thread) {
        snapshot_thread = iothread_new("snapshot", &err);
        if (!snapshot_thread) {
            g_printerr("%s: %s\n", g_get_prgname(), err->message);
            exit(1);
        }
        /* The guest's and the monitor's threads need not wait when they become ready. */
        aio_bh_schedule_oneshot(iothread_context(snapshot_thread), become_bulk, NULL);
    }
    pthread_mutex_unlock(&snapshot_lock);
    return iothread_context(snapshot_thread);
}

void iothreads_for_each(void (*fn)(IOThread *thread, void *opaque), void *opaque)
{
    for (guint i = 0; threads && i < threads->len; i++) {
        if (threads->pdata[i] != unnamed) {
            fn(threads->pdata[i], opaque);
        }
    }
}

void iothreads_cleanup(void)
{
    for (guint i = 0; threads && i < threads->len; i++) {
        iothread_destroy(threads->pdata[i]);
    }
    g_clear_pointer(&threads, g_ptr_array_unref);
    unnamed = NULL;
    if (snapshot_thread) {
        iothread_destroy(snapshot_thread);
        snapshot_thread = NULL;
    }
}
