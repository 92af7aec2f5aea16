/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Trace points, switched through the monitor.  Main thread. */
#include <string.h>

#include "monitor/monitor-int.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-trace.h"
#include "qapi/util.h"
#include "util/trace-event.h"

static bool check(const char *name, bool has_vcpu, GError **errp)
{
    if (!trace_is_pattern(name) && !trace_find(name)) {
        error_setg(errp, "unknown event \"%s\"", name);
        return false;
    }
    if (has_vcpu) {
        error_setg(errp, "event \"%s\" is not vCPU-specific", name);
        return false;
    }
    return true;
}

static void add_info(TraceEvent *e, void *opaque)
{
    TraceEventInfoList ***tail = opaque;
    TraceEventInfo *info = g_new0(TraceEventInfo, 1);

    info->name = g_strdup(e->name);
    info->state = trace_event_enabled(e) ? TRACE_EVENT_STATE_ENABLED : TRACE_EVENT_STATE_DISABLED;
    QAPI_LIST_APPEND(*tail, info);
}

TraceEventInfoList *coroutine_fn qmp_trace_event_get_state(const char *name, bool has_vcpu,
                                                           int64_t vcpu, GError **errp)
{
    TraceEventInfoList *list = NULL, **tail = &list;

    if (check(name, has_vcpu, errp)) {
        trace_for_each(name, add_info, &tail);
    }
    return list;
}

static void set_enabled(TraceEvent *e, void *opaque)
{
    trace_set_enabled(e, *(bool *)opaque);
}

void coroutine_fn qmp_trace_event_set_state(const char *name, bool enable,
                                            bool has_ignore_unavailable, bool ignore_unavailable,
                                            bool has_vcpu, int64_t vcpu, GError **errp)
{
    if (check(name, has_vcpu, errp)) {
        trace_for_each(name, set_enabled, &enable);
    }
}

/* --- HMP --------------------------------------------------------------------------------- */

/* An error is a line of its own here, without "Error: ", as QEMU has it. */
static bool coroutine_fn print_error(HMPSession *s, GError *err)
{
    if (!err) {
        return false;
    }
    hmp_printf(s, "%s\n", err->message);
    g_error_free(err);
    return true;
}

static void coroutine_fn hmp_trace_event(HMPSession *s, const HMPArgs *args)
{
    GError *err = NULL;

    qmp_trace_event_set_state(hmp_arg_str(args, "name"), hmp_arg_flag(args, "option"), true, true,
                              false, 0, &err);
    print_error(s, err);
}

static void coroutine_fn hmp_info_trace_events(HMPSession *s, const HMPArgs *args)
{
    const char *name = hmp_arg_str(args, "name");
    GError *err = NULL;
    TraceEventInfoList *list = qmp_trace_event_get_state(name ? name : "*", false, 0, &err);

    if (!print_error(s, err)) {
        for (TraceEventInfoList *e = list; e; e = e->next) {
            hmp_printf(s, "%s : state %d\n", e->value->name,
                       e->value->state == TRACE_EVENT_STATE_ENABLED);
        }
    }
    qapi_free_TraceEventInfoList(list);
}

const HMPCommand hmp_trace_commands[] = {
    {"trace-event", "name:s,option:b", "name on|off", "changes status of a specific trace event",
     hmp_trace_event},
    {"info trace-events", "name:s?", "[name]",
     "show available trace-events & their state (name: event name pattern)",
     hmp_info_trace_events},
    {0},
};
