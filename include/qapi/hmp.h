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

/* Whether somebody reads what is printed as it comes; false: it is human-monitor-command's. */
bool hmp_is_interactive(HMPSession *s);

/* The way back to an interactive user, for what is to be said after the handler has returned. */
typedef struct HMPOutlet HMPOutlet;
/* The session must be interactive. */
HMPOutlet *hmp_outlet_new(HMPSession *s);
/* Dropped if the user is gone, or does not read.  Main thread. */
void hmp_outlet_print(HMPOutlet *o, const char *text);
void hmp_outlet_free(HMPOutlet *o);

/*
 * While the handler waits for something that can be given up: fn(opaque) is called, in the
 * main thread, when the user types Ctrl-C.  NULL: no more.  Handlers of the session only.
 */
void hmp_set_interrupt(HMPSession *s, void (*fn)(void *opaque), void *opaque);

/*
 * The same for a handler that only reads, and may print for long: *ended becomes true on
 * Ctrl-C, when the user is gone, and when there is more output than is passed on.
 */
void hmp_set_reader(HMPSession *s, bool *ended);

/* Candidates for the word that is being typed. */
typedef struct HMPCompletion HMPCompletion;
/* Offers word, which is left out if it does not begin like what is there. */
void hmp_complete_add(HMPCompletion *c, const char *word);
/* Offers files, as for an argument of type F. */
void coroutine_fn hmp_complete_files(HMPCompletion *c);
/* What is typed of the word. */
const char *hmp_complete_word(const HMPCompletion *c);
/* Argument number n of those in front of it, from 0, flags not counted; NULL if there is none. */
const char *hmp_complete_arg(const HMPCompletion *c, int n);

/* Parsed arguments by name.  A missing optional one is NULL / the fallback. */
typedef struct HMPArgs HMPArgs;
const char *hmp_arg_str(const HMPArgs *args, const char *name);
int64_t hmp_arg_int(const HMPArgs *args, const char *name, int64_t fallback);
bool hmp_arg_flag(const HMPArgs *args, const char *name);
/* Whether an optional one was given. */
bool hmp_arg_given(const HMPArgs *args, const char *name);
/* "/4xw": how many items of how many bytes, shown how.  What was not given is 0. */
typedef struct HMPFormat {
    uint64_t count;
    char format; /* one of "xduoci" */
    int size;    /* 1, 2, 4 or 8 */
} HMPFormat;
HMPFormat hmp_arg_format(const HMPArgs *args, const char *name);

typedef struct HMPCommand {
    const char *name; /* "savevm"; alternatives as "quit|q"; "info snapshots" for info */
    /*
     * Comma separated "name:type": s string, F file name, B block device, S rest of line,
     * i 32 bit int, l 64 bit int (both: expressions), o size with suffix, b on/off, / format
     * of memory ("/4xw", see hmp_arg_format()), -x flag ("detach:-d"); a '?' behind the type
     * makes it optional.
     */
    const char *args_type;
    const char *params; /* for help: "[-d] [tag]" */
    const char *help;   /* one line */
    void coroutine_fn (*handler)(HMPSession *s, const HMPArgs *args);
    /*
     * Offers candidates for argument nr, from 0, flags not counted.  NULL: files for F, on
     * and off for b.
     */
    void coroutine_fn (*complete)(HMPCompletion *c, int nr);
} HMPCommand; /* a table ends with a zeroed element */

#endif
