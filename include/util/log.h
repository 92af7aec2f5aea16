/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The log: lines that the user has asked for with -d, and those of trace points.  They go to
 * stderr or to a file, through a thread of their own: who logs never waits.  If more comes
 * than is taken, lines are lost, and the log says how many.
 */
#ifndef UTIL_LOG_H
#define UTIL_LOG_H

#include <glib.h>
#include <stdbool.h>
#include "util/coroutine.h"

enum {
    LOG_INT = 1 << 0,
    LOG_CPU_RESET = 1 << 1,
    LOG_UNIMP = 1 << 2,
    LOG_GUEST_ERRORS = 1 << 3,
};

extern unsigned log_items; /* atomic; see log_enabled() */

/* Whether lines of one of these kinds are wanted.  Any thread; costs one load. */
static inline bool log_enabled(unsigned items)
{
    return __builtin_expect(__atomic_load_n(&log_items, __ATOMIC_RELAXED) & items, 0);
}

/* Adds to the log; text should end with a newline.  Any thread, never waits. */
void log_printf(const char *format, ...) G_GNUC_PRINTF(1, 2);
/* The same, if one of the items is wanted. */
#define log_if(items, ...)                                                                   \
    do {                                                                                     \
        if (log_enabled(items)) {                                                            \
            log_printf(__VA_ARGS__);                                                         \
        }                                                                                    \
    } while (0)

/*
 * Sets what is wanted: "int,unimp", "none", "trace:PATTERN".  False and errp on an item that
 * there is not, and for one that QEMU has and Keyframe has not.  Main thread.
 */
bool log_set_items(const char *text, GError **errp);
/* What there is, as text for the user; a new string. */
char *log_items_help(bool with_none);
/*
 * Where lines go from now on; NULL: stderr.  A '%d' stands for the process id.  Main thread
 * at start-up, else in a worker: it opens the file.
 */
bool log_set_file(const char *filename, GError **errp);
/* Waits, for a second at most, until all lines are where they belong.  At the end. */
void log_flush(void);

#endif
