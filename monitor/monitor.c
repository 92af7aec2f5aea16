/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Ports and sessions: binds character devices to the two kinds of session.  A listening
 * socket has a port that only accepts; each client then gets a port and a session of its
 * own.  Any other device has one session at a time, a new one for each peer.
 */
#include <string.h>

#include "monitor/monitor-int.h"
#include "qapi/error.h"

static GPtrArray *ports;
static GPtrArray *sessions;

/* --- Sessions ------------------------------------------------------------------------ */

void monitor_session_init(MonitorSession *s, const MonitorKind *kind, Chardev *chr)
{
    s->kind = kind;
    s->chr = chr;
    s->refs = 1;
    co_queue_init(&s->room);
    g_ptr_array_add(sessions, s);
}

MonitorSession *monitor_session_ref(MonitorSession *s)
{
    s->refs++;
    return s;
}

void monitor_session_unref(MonitorSession *s)
{
    if (--s->refs == 0) {
        co_queue_destroy(&s->room);
        s->kind->free(s);
    }
}

static void session_close(MonitorSession *s)
{
    g_ptr_array_remove_fast(sessions, s);
    s->chr = NULL;
    co_queue_restart_all(&s->room);
    s->kind->closed(s);
    monitor_session_unref(s);
}

void monitor_session_write(MonitorSession *s, const char *buf, size_t len)
{
    if (s->chr) {
        chardev_write_all(s->chr, buf, len);
    }
}

void coroutine_fn monitor_session_wait_for_room(MonitorSession *s)
{
    while (s->chr && chardev_pending(s->chr) > MONITOR_QUEUE_HIGH) {
        chardev_want_writable(s->chr);
        co_queue_wait(&s->room, NULL);
    }
}

void coroutine_fn monitor_session_wait_for_input(MonitorSession *s)
{
    coroutine_yield();
    s->turn_ns = clock_now_ns();
}

void coroutine_fn monitor_session_give_way(MonitorSession *s)
{
    if (clock_now_ns() - s->turn_ns > MONITOR_SLICE_NS) {
        co_sleep_ns(0);
        s->turn_ns = clock_now_ns();
    }
}

void monitor_for_each_session(const MonitorKind *kind, void (*fn)(MonitorSession *s, void *opaque),
                              void *opaque)
{
    for (guint i = 0; sessions && i < sessions->len; i++) {
        MonitorSession *s = g_ptr_array_index(sessions, i);

        if (s->kind == kind) {
            fn(s, opaque);
        }
    }
}

/* --- Ports --------------------------------------------------------------------------- */

static size_t port_can_receive(void *opaque)
{
    MonitorPort *port = opaque;

    return port->session ? port->session->kind->can_receive(port->session) : 0;
}

static void port_receive(void *opaque, const uint8_t *buf, size_t len)
{
    MonitorPort *port = opaque;

    if (port->session) {
        port->session->kind->receive(port->session, buf, len);
    }
}

static void port_writable(void *opaque)
{
    MonitorPort *port = opaque;

    if (port->session) {
        co_queue_restart_all(&port->session->room);
    }
}

static void port_focus(void *opaque, bool in)
{
    MonitorPort *port = opaque;

    if (port->session && port->kind->focus) {
        port->kind->focus(port->session, in);
    }
}

static void port_input_ended(void *opaque)
{
    MonitorPort *port = opaque;

    if (port->session) {
        port->kind->input_ended(port->session);
    } else {
        chardev_finish(port->chr);
    }
}

static void port_end_session(MonitorPort *port)
{
    MonitorSession *s = port->session;

    port->session = NULL;
    if (s) {
        session_close(s);
    }
}

static void port_free(MonitorPort *port)
{
    port_end_session(port);
    if (port->listener) {
        chardev_socket_set_accept(port->chr, NULL, NULL);
    } else {
        chardev_attach(port->chr, NULL, NULL);
    }
    if (port->accepted) {
        chardev_close(port->chr);
        chardev_unref(port->chr);
    }
    g_free(port);
}

static void port_event(void *opaque, ChardevEvent event)
{
    MonitorPort *port = opaque;

    if (event == CHARDEV_OPENED && !port->session) {
        port->session = port->kind->open(port, port->chr);
    } else if (event == CHARDEV_CLOSED) {
        port_end_session(port);
        if (port->accepted) {
            g_ptr_array_remove_fast(ports, port);
            port_free(port);
        }
    }
}

static const ChardevFrontOps port_ops = {
    .can_receive = port_can_receive,
    .receive = port_receive,
    .event = port_event,
    .writable = port_writable,
    .focus = port_focus,
    .input_ended = port_input_ended,
};

static MonitorPort *port_new(const MonitorKind *kind, Chardev *chr)
{
    MonitorPort *port = g_new0(MonitorPort, 1);

    port->kind = kind;
    port->chr = chr;
    g_ptr_array_add(ports, port);
    return port;
}

static void port_accept(void *opaque, Chardev *peer)
{
    MonitorPort *listener = opaque;
    MonitorPort *port = port_new(listener->kind, peer);

    port->accepted = true;
    port->pretty = listener->pretty;
    port->use_readline = listener->use_readline;
    chardev_attach(peer, &port_ops, port);
}

static bool monitor_add(Chardev *chr, const MonitorKind *kind, bool pretty, bool use_readline,
                        GError **errp)
{
    MonitorPort *port;
    bool ok;

    g_assert(ports);
    port = port_new(kind, chr);
    port->pretty = pretty;
    port->use_readline = use_readline;
    port->listener = chardev_is_listener(chr);
    if (port->listener) {
        ok = chardev_socket_set_accept(chr, port_accept, port);
    } else {
        ok = chardev_attach(chr, &port_ops, port);
    }
    if (!ok) {
        g_ptr_array_remove_fast(ports, port);
        g_free(port);
        error_setg(errp, "Device '%s' is in use", chardev_label(chr));
    }
    return ok;
}

bool monitor_add_qmp(Chardev *chr, bool pretty, GError **errp)
{
    return monitor_add(chr, &monitor_qmp, pretty, false, errp);
}

bool monitor_add_hmp(Chardev *chr, bool use_readline, GError **errp)
{
    return monitor_add(chr, &monitor_hmp, false, use_readline, errp);
}

void monitor_init(const HMPCommand *const *tables, int n)
{
    ports = g_ptr_array_new();
    sessions = g_ptr_array_new();
    hmp_set_tables(tables, n);
    qmp_events_init();
}

/* Who has asked gets its answer, quit behind a long one too, but a client that does not read does
 * not keep the program. */
static void drain_sessions(void)
{
    int64_t until = clock_now_ns() + MONITOR_DRAIN_NS;

    for (guint i = 0; i < sessions->len; i++) {
        MonitorSession *s = g_ptr_array_index(sessions, i);

        chardev_drain(s->chr, until);
    }
}

void monitor_cleanup(void)
{
    if (!ports) {
        return;
    }
    qmp_events_cleanup();
    drain_sessions();
    while (ports->len) {
        port_free(g_ptr_array_steal_index_fast(ports, ports->len - 1));
    }
    g_clear_pointer(&ports, g_ptr_array_unref);
    g_clear_pointer(&sessions, g_ptr_array_unref);
}
