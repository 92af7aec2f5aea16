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

bool iothreads_add(const char *id, GError **errp)
{
    IOThread *thread;

    if (find(id)) {
        g_set_error(errp, IOTHREADS_ERROR, 0,
                    "attempt to add duplicate property '%s' to object (type 'container')", id);
        return false;
    }
    thread = iothread_new(id, errp);
    if (!thread) {
        return false;
    }
    if (!threads) {
        threads = g_ptr_array_new();
    }
    g_ptr_array_add(threads, thread);
    return true;
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
    if (!find(DEFAULT_NAME) && !iothreads_add(DEFAULT_NAME, errp)) {
        return NULL;
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
        fn(threads->pdata[i], opaque);
    }
}

void iothreads_cleanup(void)
{
    for (guint i = 0; threads && i < threads->len; i++) {
        iothread_destroy(threads->pdata[i]);
    }
    g_clear_pointer(&threads, g_ptr_array_unref);
    if (snapshot_thread) {
        iothread_destroy(snapshot_thread);
        snapshot_thread = NULL;
    }
}
