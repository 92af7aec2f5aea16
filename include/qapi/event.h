/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From the generated qapi_event_send_*() to the monitor.  Any thread. */
#ifndef QAPI_EVENT_H
#define QAPI_EVENT_H

#include "qapi/visitor.h"

/*
 * Receives every event, in the thread that sent it.  event is a QAPIEvent; msg is the
 * complete message {"event", "data", "timestamp"} and belongs to the sink.
 */
typedef void QapiEventSink(unsigned event, json_object *msg);

/* Installs the sink (NULL: events are dropped). */
void qapi_set_event_sink(QapiEventSink *sink);

/*
 * For generated code: sends event, which has the QapiSpecial flags of special, with the
 * members of the struct at data.
 */
void qapi_event_emit(unsigned event, const char *name, unsigned special, const QapiType *type,
                     const void *data);

#endif
