/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Events on their way to the sessions.  The sink is called in any thread; what follows
 * happens in the main thread, in the order of sending for each thread.  Events that may
 * come in floods are limited to one a second: the first goes out at once, of the others
 * only the latest, when the second is over.  Nor can a flood of them from another thread
 * keep the main thread busy: one that has not arrived yet is replaced on its way.
 */
#include <pthread.h>
#include <string.h>

#include "monitor/monitor-int.h"
#include "qapi/event.h"

#define EVENT_INTERVAL_NS (1000 * 1000 * 1000LL)

#define ALL_DATA "" /* as a key: the event is limited apart for all that differ */

/*
 * Limited events; those with a key are limited apart for each value of that member.  Those
 * with this action are not limited.
 */
static const struct {
    const char *name, *key, *free_action;
} limits[] = {
    {"RTC_CHANGE", NULL, NULL},
    {"WATCHDOG", NULL, NULL},
    {"BALLOON_CHANGE", NULL, NULL},
    {"QUORUM_REPORT_BAD", "node-name", NULL},
    {"QUORUM_FAILURE", NULL, NULL},
    {"VSERPORT_CHANGE", "id", NULL},
    {"MEMORY_DEVICE_SIZE_CHANGE", "qom-path", NULL},
    {"BLOCK_IO_ERROR", ALL_DATA, "stop"}, /* the guest stands: they are few, and each counts */
};

typedef struct EventGate {
    char *key;
    AioTimer *timer;
    json_object *latest; /* what came in since the last one went out */
} EventGate;

static GHashTable *gates;

/* A limited event on its way from another thread. */
typedef struct Arrival {
    char *key;
    json_object *msg; /* the latest */
} Arrival;

static pthread_mutex_t arrivals_lock = PTHREAD_MUTEX_INITIALIZER;
static GHashTable *arrivals; /* by key; guarded, as what is in it */

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

/* data may be NULL.  NULL: the event is not limited. */
static char *limit_key(size_t limit, json_object *data)
{
    const char *name = limits[limit].name, *key = limits[limit].key;
    const char *free_action = limits[limit].free_action;
    json_object *value;

    if (free_action && json_object_object_get_ex(data, "action", &value) &&
        !strcmp(json_object_get_string(value), free_action)) {
        return NULL;
    }
    if (key && !strcmp(key, ALL_DATA)) {
        return g_strdup_printf("%s/%s", name, json_object_to_json_string(data));
    }
    if (key && json_object_object_get_ex(data, key, &value)) {
        return g_strdup_printf("%s/%s", name, json_object_get_string(value));
    }
    return g_strdup(name);
}

/* NULL: the event is not limited.  Any thread. */
static char *gate_key(json_object *msg)
{
    json_object *name, *data = NULL;

    if (!json_object_object_get_ex(msg, "event", &name)) {
        return NULL;
    }
    json_object_object_get_ex(msg, "data", &data);
    for (size_t i = 0; i < G_N_ELEMENTS(limits); i++) {
        if (!strcmp(limits[i].name, json_object_get_string(name))) {
            return limit_key(i, data);
        }
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

static void limited_arrived(void *opaque)
{
    Arrival *a = opaque;

    pthread_mutex_lock(&arrivals_lock);
    g_hash_table_remove(arrivals, a->key);
    pthread_mutex_unlock(&arrivals_lock);
    qmp_event_arrived(a->msg);
    g_free(a->key);
    g_free(a);
}

/* Takes key and msg. */
static void send_limited(char *key, json_object *msg)
{
    Arrival *a;

    pthread_mutex_lock(&arrivals_lock);
    if (!arrivals) {
        arrivals = g_hash_table_new(g_str_hash, g_str_equal);
    }
    a = g_hash_table_lookup(arrivals, key);
    if (a) {
        json_object_put(a->msg);
        a->msg = msg;
        g_free(key);
    } else {
        a = g_new(Arrival, 1);
        *a = (Arrival){key, msg};
        g_hash_table_insert(arrivals, a->key, a);
        aio_bh_schedule_oneshot(main_aio_context(), limited_arrived, a);
    }
    pthread_mutex_unlock(&arrivals_lock);
}

/* QapiEventSink */
static void event_sink(unsigned event, json_object *msg)
{
    char *key;

    if (aio_in_home_thread(main_aio_context())) {
        qmp_event_arrived(msg);
        return;
    }
    key = gate_key(msg);
    if (key) {
        send_limited(key, msg);
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
