/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Builds event messages and hands them to the sink that the monitor installed.  Any
 * thread: a message is new and belongs to nobody else.
 */
#include "config-host.h"
#include <stdatomic.h>
#include "qapi/compat.h"
#include "qapi/event.h"

static _Atomic(QapiEventSink *) event_sink;

void qapi_set_event_sink(QapiEventSink *sink)
{
    atomic_store(&event_sink, sink);
}

void qapi_event_emit(unsigned event, const char *name, unsigned special, const QapiType *type,
                     const void *data)
{
    QapiEventSink *sink = atomic_load(&event_sink);

    if (!sink || qapi_compat_hides(special)) {
        return;
    }
    int64_t now = g_get_real_time();
    json_object *stamp = json_object_new_object();
    json_object_object_add(stamp, "seconds", json_object_new_int64(now / G_USEC_PER_SEC));
    json_object_object_add(stamp, "microseconds", json_object_new_int64(now % G_USEC_PER_SEC));

    json_object *msg = json_object_new_object();
    json_object_object_add(msg, "timestamp", stamp);
    json_object_object_add(msg, "event", json_object_new_string(name));
    if (data) {
        json_object_object_add(msg, "data", qapi_output_members(type, data));
    }
    sink(event, msg);
}
