/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Events on their way to the sessions.  The sink is called in any thread; what follows
 * happens in the main thread, in the order of sending for each thread.  Events that may
 * come in floods are limited to one a second: the first goes out at once, of the others
 * only the latest, when the second is over.
 */
#include <string.h>

#include "monitor/monitor-int.h"
#include "qapi/event.h"

#define EVENT_INTERVAL_NS (1000 * 1000 * 1000LL)

/* Limited events; those with a key are limited apart for each value of that member. */
static const struct {
    const char *name, *key;
} limits[] = {
    {"RTC_CHANGE", NULL},
    {"WATCHDOG", NULL},
    {"BALLOON_CHANGE", NULL},
    {"QUORUM_REPORT_BAD", "node-name"},
    {"QUORUM_FAILURE", NULL},
    {"VSERPORT_CHANGE", "id"},
    {"MEMORY_DEVICE_SIZE_CHANGE", "qom-path"},
};

typedef struct EventGate {
    char *key;
    AioTimer *timer;
    json_object *latest; /* what came in since the last one went out */
} EventGate;

static GHashTable *gates;

static void gate_free(gpointer data)
{
    EventGate *gate = data;

    aio_timer_free(gate->timer);
    json_object_put(gate->latest);
    g_free(gate->key);
    g_free(gate);
}

static void gate_open(void *opaque)
{
    EventGate *gate = opaque;

    if (!gate->latest) {
        g_hash_table_remove(gates, gate->key);
        return;
    }
    aio_timer_mod(gate->timer, clock_now_ns() + EVENT_INTERVAL_NS);
    qmp_sessions_send_event(g_steal_pointer(&gate->latest));
}

/* NULL: the event is not limited. */
static char *gate_key(json_object *msg)
{
    json_object *name, *data, *value;

    if (!json_object_object_get_ex(msg, "event", &name)) {
        return NULL;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(limits); i++) {
        if (strcmp(limits[i].name, json_object_get_string(name))) {
            continue;
        }
        if (limits[i].key && json_object_object_get_ex(msg, "data", &data) &&
            json_object_object_get_ex(data, limits[i].key, &value)) {
            return g_strdup_printf("%s/%s", limits[i].name, json_object_get_string(value));
        }
        return g_strdup(limits[i].name);
    }
    return NULL;
}

/* Main thread; takes msg. */
static void event_dispatch(json_object *msg)
{
    g_autofree char *key = gate_key(msg);
    EventGate *gate;

    if (!key) {
        qmp_sessions_send_event(msg);
        return;
    }
    gate = g_hash_table_lookup(gates, key);
    if (gate) {
        json_object_put(gate->latest);
        gate->latest = msg;
        return;
    }
    gate = g_new0(EventGate, 1);
    gate->key = g_steal_pointer(&key);
    gate->timer = aio_timer_new(main_aio_context(), gate_open, gate);
    g_hash_table_insert(gates, gate->key, gate);
    aio_timer_mod(gate->timer, clock_now_ns() + EVENT_INTERVAL_NS);
    qmp_sessions_send_event(msg);
}

void qmp_event_arrived(void *opaque)
{
    if (gates) {
        event_dispatch(opaque);
    } else {
        json_object_put(opaque);
    }
}

/* QapiEventSink */
static void event_sink(unsigned event, json_object *msg)
{
    if (aio_in_home_thread(main_aio_context())) {
        qmp_event_arrived(msg);
    } else {
        aio_bh_schedule_oneshot(main_aio_context(), qmp_event_arrived, msg);
    }
}

void qmp_events_init(void)
{
    gates = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, gate_free);
    qapi_set_event_sink(event_sink);
}

void qmp_events_cleanup(void)
{
    qapi_set_event_sink(NULL);
    g_clear_pointer(&gates, g_hash_table_unref);
}
