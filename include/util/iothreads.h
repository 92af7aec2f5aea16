/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The IOThreads of this process, by name.  Main thread, except snapshot_context(). */
#ifndef UTIL_IOTHREADS_H
#define UTIL_IOTHREADS_H

#include "util/iothread.h"

/* A thread that the user names. */
bool iothreads_add(const char *id, GError **errp);
/* The same while the main loop runs, which does not wait for the thread. */
bool coroutine_fn iothreads_co_add(const char *id, GError **errp);
/* Ends a thread in which nothing is homed. */
void coroutine_fn iothreads_co_remove(IOThread *thread);
/* NULL and errp if there is none of that name. */
IOThread *iothreads_find(const char *id, GError **errp);
/* io0: where disks live that name no other; made on first use. */
IOThread *iothreads_default(GError **errp);
/*
 * The context of the snapshot IOThread, made on first use; ends the process if the host has
 * no thread to give.  Any thread.
 */
AioContext *iothreads_snapshot_context(void);
/* Calls fn for every thread that a user made. */
void iothreads_for_each(void (*fn)(IOThread *thread, void *opaque), void *opaque);
/* Ends all of them; nothing is homed in them any more. */
void iothreads_cleanup(void);

#endif
