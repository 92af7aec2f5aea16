/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Human monitor commands.  They live in tables beside what they act on; system/ hands all
 * tables to the monitor.  A handler is a thin client of the QMP handlers and runs in the
 * coroutine of its session: it may yield.
 */
#ifndef QAPI_HMP_H
#define QAPI_HMP_H

#include <glib.h>
#include "util/coroutine.h"

typedef struct HMPSession HMPSession; /* where the output goes */

/* Prints to the session.  Coroutine of the session only. */
void coroutine_fn hmp_printf(HMPSession *s, const char *fmt, ...) G_GNUC_PRINTF(2, 3);
/* Prints "Error: MESSAGE" in one line and frees err; returns false if err is NULL. */
bool coroutine_fn hmp_handle_error(HMPSession *s, GError *err);

/* Parsed arguments by name.  A missing optional one is NULL / the fallback. */
typedef struct HMPArgs HMPArgs;
const char *hmp_arg_str(const HMPArgs *args, const char *name);
int64_t hmp_arg_int(const HMPArgs *args, const char *name, int64_t fallback);
bool hmp_arg_flag(const HMPArgs *args, const char *name);

typedef struct HMPCommand {
    const char *name; /* "savevm"; alternatives as "quit|q"; "info snapshots" for info */
    /*
     * Comma separated "name:type": s string, F file name, B block device, S rest of line,
     * i 32 bit int, l 64 bit int, o size with suffix, b on/off, -x flag ("detach:-d");
     * a '?' behind the type makes it optional.
     */
    const char *args_type;
    const char *params; /* for help: "[-d] [tag]" */
    const char *help;   /* one line */
    void coroutine_fn (*handler)(HMPSession *s, const HMPArgs *args);
} HMPCommand; /* a table ends with a zeroed element */

#endif
