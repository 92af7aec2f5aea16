/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An outlet: a descriptor with a bounded buffer and a thread that writes it, so that nobody
 * waits for whoever reads there.  What finds no room is lost, and a line says how much.
 * Private to util/.
 */
#ifndef UTIL_OUTLET_H
#define UTIL_OUTLET_H

#include <glib.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct Outlet {
    const char *name; /* begins the line about lost ones */
    pthread_mutex_t lock; /* a leaf; guards all below */
    pthread_cond_t more, idle;
    int fd;          /* -1: whoever puts something must go elsewhere */
    int retired;     /* closed when the thread is done with it; or -1 */
    GString *buffer; /* not yet written */
    uint64_t lost;   /* lines that found no room */
    bool running;    /* there is a thread */
    bool writing;    /* it is at work */
} Outlet;

#define OUTLET_INIT(its_name, its_fd)                                                        \
    {                                                                                        \
        .name = its_name, .fd = its_fd, .retired = -1, .lock = PTHREAD_MUTEX_INITIALIZER,    \
        .more = PTHREAD_COND_INITIALIZER, .idle = PTHREAD_COND_INITIALIZER,                  \
    }

extern Outlet outlet_stderr, outlet_stdout;

/*
 * Adds to what is to be written.  at_once: as much as can be written without waiting is there
 * when this returns, so that it stands in order with what others write to the same place.
 * False if the outlet has no descriptor.  Any thread, never waits.
 */
bool outlet_put(Outlet *o, const char *text, size_t len, bool at_once);
/* Where it goes from now on, or -1.  The former descriptor is closed. */
void outlet_set_fd(Outlet *o, int fd);
/* Waits, for a second at most, until all is written. */
void outlet_flush(Outlet *o);

#endif
