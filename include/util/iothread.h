/* SPDX-License-Identifier: GPL-2.0-or-later */
/* IOThread: a thread that runs one AioContext and nothing else. */
#ifndef UTIL_IOTHREAD_H
#define UTIL_IOTHREAD_H

#include "util/aio.h"

typedef struct IOThread IOThread;

/* Starts a thread called name (at most 15 characters reach the kernel).  Any thread. */
IOThread *iothread_new(const char *name, GError **errp);
/*
 * Stops the loop when no handler runs and no disk request or worker's call is
 * in flight, joins the thread, drops the context.  Any other thread.
 */
void iothread_destroy(IOThread *iothread);
AioContext *iothread_context(IOThread *iothread);
const char *iothread_name(IOThread *iothread);
/* The kernel's thread id. */
int iothread_tid(IOThread *iothread);

#endif
