/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Trace points.  Each folder has a file trace-events, from which scripts/trace-gen makes
 * FOLDER/trace.h with a function trace_NAME() for each.  One that is off costs a load and a
 * branch.  They are switched at run time and write to the log (util/log.h); where the host
 * has sys/sdt.h each is a static probe keyframe:NAME as well.
 *
 * Any thread, unless a remark says otherwise.
 */
#ifndef UTIL_TRACE_EVENT_H
#define UTIL_TRACE_EVENT_H

#include <glib.h>
#include <inttypes.h>
#include <stdbool.h>
#include "config-host.h"

#if CONFIG_USDT
#include <sys/sdt.h>
#define TRACE_PROBE(...) DTRACE_PROBE(keyframe, __VA_ARGS__)
#define TRACE_PROBE1(...) DTRACE_PROBE1(keyframe, __VA_ARGS__)
#define TRACE_PROBE2(...) DTRACE_PROBE2(keyframe, __VA_ARGS__)
#define TRACE_PROBE3(...) DTRACE_PROBE3(keyframe, __VA_ARGS__)
#define TRACE_PROBE4(...) DTRACE_PROBE4(keyframe, __VA_ARGS__)
#define TRACE_PROBE5(...) DTRACE_PROBE5(keyframe, __VA_ARGS__)
#define TRACE_PROBE6(...) DTRACE_PROBE6(keyframe, __VA_ARGS__)
#define TRACE_PROBE7(...) DTRACE_PROBE7(keyframe, __VA_ARGS__)
#define TRACE_PROBE8(...) DTRACE_PROBE8(keyframe, __VA_ARGS__)
#define TRACE_PROBE9(...) DTRACE_PROBE9(keyframe, __VA_ARGS__)
#define TRACE_PROBE10(...) DTRACE_PROBE10(keyframe, __VA_ARGS__)
#else
#define TRACE_PROBE(...) (void)0
#define TRACE_PROBE1(...) (void)0
#define TRACE_PROBE2(...) (void)0
#define TRACE_PROBE3(...) (void)0
#define TRACE_PROBE4(...) (void)0
#define TRACE_PROBE5(...) (void)0
#define TRACE_PROBE6(...) (void)0
#define TRACE_PROBE7(...) (void)0
#define TRACE_PROBE8(...) (void)0
#define TRACE_PROBE9(...) (void)0
#define TRACE_PROBE10(...) (void)0
#endif

typedef struct TraceEvent {
    const char *name;
    bool enabled; /* atomic */
} TraceEvent;

/* --- For generated code --------------------------------------------------------------- */

typedef struct TraceGroup TraceGroup;
struct TraceGroup {
    TraceEvent *const *events; /* NULL-terminated */
    TraceGroup *next;
};

/* Before main(). */
void trace_register(TraceGroup *group);
void trace_print(const char *format, ...) G_GNUC_PRINTF(1, 2);

static inline bool trace_event_enabled(const TraceEvent *e)
{
    return __builtin_expect(__atomic_load_n(&e->enabled, __ATOMIC_RELAXED), 0);
}

/* --- Switching ------------------------------------------------------------------------- */

/* Whether the name stands for any number of trace points: '*' and '?'. */
bool trace_is_pattern(const char *name);
/* NULL if there is none. */
TraceEvent *trace_find(const char *name);
/* Those that match the pattern, or all for NULL, in the order of their files. */
void trace_for_each(const char *pattern, void (*fn)(TraceEvent *e, void *opaque), void *opaque);
void trace_set_enabled(TraceEvent *e, bool enabled);
/* Each line begins with process id and time: PID@SECONDS.MICROSECONDS:. */
void trace_set_timestamps(bool on);

/*
 * -trace's argument, "[enable=]PATTERN[,events=FILE][,file=FILE]".  A name that is not there
 * is a warning.  False and errp if the text makes no sense, or a file cannot be had.  At
 * start-up.
 */
bool trace_parse_option(const char *text, GError **errp);
/* What -trace help prints. */
void trace_list(void);

#endif
