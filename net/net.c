/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Clients, their cables and the frames that wait.  See net/net.h: everything is done in the
 * network thread but for what says otherwise.
 *
 * Back pressure works in both directions alike.  A client that cannot take a frame says so; the
 * frame waits in its queue and who sent it stops.  When the queue is empty again, the sender is
 * told.
 */
#include <stdatomic.h>
#include <string.h>
#include "net/net.h"
#include "qapi/error.h"
#include "util/iothread.h"

static IOThread *thread;             /* main thread; NULL: none yet, or a test's context */
static AioContext *_Atomic context;
static atomic_bool running;
static GPtrArray *clients; /* NetClient */
static atomic_bool ended;

/* --- The thread ------------------------------------------------------------------------------ */

typedef struct StartArgs {
    IOThread *thread;
    GError *err;
} StartArgs;

static int start_in_worker(void *opaque)
{
    StartArgs *a = opaque;

    a->thread = iothread_new("net", &a->err);
    return 0;
}

static int destroy_in_worker(void *opaque)
{
    iothread_destroy(opaque);
    return 0;
}

bool coroutine_fn net_co_start(GError **errp)
{
    StartArgs a = {0};

    if (!net_is_open(errp)) {
        return false;
    }
    if (net_context()) {
        return true;
    }
    co_run_in_worker(start_in_worker, &a);
    if (!a.thread) {
        g_propagate_error(errp, a.err);
        return false;
    }
    if (net_context()) { /* another session was quicker */
        co_run_in_worker(destroy_in_worker, a.thread);
        return true;
    }
    thread = a.thread;
    net_use_context(iothread_context(thread));
    return true;
}

AioContext *net_context(void)
{
    return atomic_load(&context);
}

AioContext *coroutine_fn net_co_enter(void)
{
    AioContext *home = aio_current(), *ctx = net_context();

    if (!ctx) {
        return NULL;
    }
    aio_co_reschedule_self(ctx);
    return home;
}

void coroutine_fn net_co_leave(AioContext *home)
{
    aio_co_reschedule_self(home);
}

void net_use_context(AioContext *ctx)
{
    clients = g_ptr_array_new();
    atomic_store(&context, ctx);
}

void net_cleanup(void)
{
    atomic_store(&context, NULL);
    if (thread) {
        iothread_destroy(thread);
        thread = NULL;
    }
    if (clients) {
        g_assert(clients->len == 0);
        g_clear_pointer(&clients, g_ptr_array_unref);
    }
}

/* --- Running and standing still ---------------------------------------------------------------- */

bool net_running(void)
{
    return atomic_load(&running);
}

static void go_bh(void *opaque)
{
    for (guint i = 0; net_running() && i < clients->len; i++) {
        NetClient *nc = clients->pdata[i];

        if (nc->ops->go) {
            nc->ops->go(nc);
        }
        net_client_ready(nc);
    }
}

void net_go(void)
{
    AioContext *ctx = net_context();

    atomic_store(&running, true);
    if (ctx) {
        aio_bh_schedule_oneshot(ctx, go_bh, NULL);
    }
}

/* What was under way in the thread is over when we are there; what comes later looks first. */
void coroutine_fn net_co_rest(bool wait)
{
    AioContext *home;

    atomic_store(&running, false);
    home = wait ? net_co_enter() : NULL;
    if (!home) {
        return;
    }
    for (guint i = 0; i < clients->len; i++) {
        NetClient *nc = clients->pdata[i];

        if (nc->ops->rest) {
            nc->ops->rest(nc);
        }
    }
    net_co_leave(home);
}

void net_load_ended(bool loaded)
{
    AioContext *ctx = net_context();

    if (!ctx) {
        return;
    }
    aio_context_acquire(ctx);
    for (guint i = 0; i < clients->len; i++) {
        NetClient *nc = clients->pdata[i];

        if (nc->ops->load_ended) {
            nc->ops->load_ended(nc, loaded);
        }
    }
    aio_context_release(ctx);
}

/* --- Clients -------------------------------------------------------------------------------------- */

void net_end(void)
{
    atomic_store(&ended, true);
}

bool net_is_open(GError **errp)
{
    if (atomic_load(&ended)) {
        error_setg(errp, "the program ends");
        return false;
    }
    return true;
}

void net_client_init(NetClient *nc, const NetClientOps *ops, const char *name)
{
    nc->ops = ops;
    nc->name = g_strdup(name);
    g_queue_init(&nc->waiting);
    g_ptr_array_add(clients, nc);
}

static void set_link_down(NetClient *nc, bool down)
{
    if (nc->link_down == down) {
        return;
    }
    nc->link_down = down;
    if (nc->ops->link_changed) {
        nc->ops->link_changed(nc);
    }
    net_client_ready(nc); /* without a link all that waits is lost */
}

void net_client_cleanup(NetClient *nc)
{
    NetClient *peer = nc->peer;

    if (peer) {
        nc->peer = peer->peer = NULL;
        set_link_down(peer, true);
        net_client_ready(peer);
        if (nc->peer_waits && peer->ops->writable) {
            peer->ops->writable(peer);
        }
    }
    net_client_purge(nc);
    g_ptr_array_remove(clients, nc);
    g_free(nc->name);
}

NetClient *net_client_find(const char *name)
{
    for (guint i = 0; i < clients->len; i++) {
        NetClient *nc = clients->pdata[i];

        if (!strcmp(nc->name, name)) {
            return nc;
        }
    }
    return NULL;
}

bool net_client_is_nic(const NetClient *nc)
{
    return nc->ops->rx_filter != NULL;
}

void net_client_for_each(void (*fn)(NetClient *nc, void *opaque), void *opaque)
{
    for (guint i = 0; i < clients->len; i++) {
        fn(clients->pdata[i], opaque);
    }
}

void coroutine_fn net_client_co_for_each(void (*fn)(NetClient *nc, void *opaque), void *opaque)
{
    AioContext *home = net_co_enter();

    if (home) {
        net_client_for_each(fn, opaque);
        net_co_leave(home);
    }
}

void net_connect(NetClient *a, NetClient *b)
{
    g_assert(!a->peer && !b->peer);
    a->peer = b;
    b->peer = a;
}

void net_client_set_link(NetClient *nc, bool up)
{
    set_link_down(nc, !up);
    if (!net_client_is_nic(nc) && nc->peer) {
        set_link_down(nc->peer, !up);
    }
}

/* --- Frames ------------------------------------------------------------------------------------------ */

static bool has_link(const NetClient *nc)
{
    return nc->peer && !nc->link_down && !nc->peer->link_down;
}

bool net_send(NetClient *nc, const uint8_t *frame, size_t len)
{
    NetClient *to = nc->peer;

    if (!has_link(nc) || len < NET_HEADER_SIZE || len > NET_FRAME_MAX) {
        return true;
    }
    if (g_queue_is_empty(&to->waiting) && to->ops->receive(to, frame, len)) {
        return true;
    }
    to->peer_waits = true;
    if (to->waiting.length < NET_QUEUE_MAX) {
        g_queue_push_tail(&to->waiting, g_bytes_new(frame, len));
    }
    return false;
}

void net_client_ready(NetClient *nc)
{
    GBytes *frame;

    while ((frame = g_queue_pop_head(&nc->waiting))) {
        gsize len;
        const uint8_t *data = g_bytes_get_data(frame, &len);

        if (has_link(nc) && !nc->ops->receive(nc, data, len)) {
            g_queue_push_head(&nc->waiting, frame);
            return;
        }
        g_bytes_unref(frame);
    }
    if (nc->peer_waits) {
        nc->peer_waits = false;
        if (nc->peer && nc->peer->ops->writable) {
            nc->peer->ops->writable(nc->peer);
        }
    }
}

void net_client_purge(NetClient *nc)
{
    g_queue_clear_full(&nc->waiting, (GDestroyNotify)g_bytes_unref);
}

/* --- Addresses ---------------------------------------------------------------------------------------- */

char *net_mac_text(const uint8_t mac[NET_MAC_SIZE])
{
    return g_strdup_printf("%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3],
                           mac[4], mac[5]);
}

bool net_mac_parse(const char *text, uint8_t mac[NET_MAC_SIZE])
{
    char separator = 0;

    for (int i = 0; i < NET_MAC_SIZE; i++, text += 3) {
        if (!g_ascii_isxdigit(text[0]) || !g_ascii_isxdigit(text[1])) {
            return false;
        }
        separator = i == 0 ? text[2] : separator;
        if (i < NET_MAC_SIZE - 1 ? text[2] != separator || !strchr(":-", separator) || !separator
                                 : text[2] != 0) {
            return false;
        }
        mac[i] = g_ascii_xdigit_value(text[0]) << 4 | g_ascii_xdigit_value(text[1]);
    }
    return !(mac[0] & 1);
}
