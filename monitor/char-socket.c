/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Unix and TCP sockets.  A server without an acceptor serves one peer at a time (a serial
 * line); others wait in the backlog.  With an acceptor (a monitor) each client becomes a
 * Chardev of its own.  A client connects when it is made, or again every reconnect=N seconds.
 * Names are resolved and the first connection is made in prepare(), otherwise main thread.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "char-socket-int.h"
#include "monitor/char-log.h"
#include "monitor/char-telnet.h"
#include "monitor/chardev-int.h"
#include "qapi/error.h"

/* How long accepting rests when the process is out of descriptors. */
#define ACCEPT_RETRY_NS (100 * 1000 * 1000LL)
#define SECOND_NS 1000000000LL

typedef struct CharSocket {
    Chardev parent;
    SocketAddress address;
    bool server, nodelay;
    bool is_telnet;    /* the telnet protocol is spoken on it */
    Telnet telnet;
    bool wait;         /* a server: for its first client */
    int64_t reconnect; /* seconds, 0: never */
    char *description;
    int listen_fd;  /* -1 for a client and for an accepted peer */
    int connect_fd; /* a connection being made */
    bool accepting; /* the listen handler is installed */
    bool said;      /* that connecting failed, once until it succeeds */
    AioTimer *timer;
    ChardevAccept *accept;
    void *accept_opaque;
    struct CharSocket *listener; /* of an accepted peer: where it came from, a reference */
    unsigned n_peers;            /* so many of them has a listener */
} CharSocket;

static void socket_accept(void *opaque);

static void socket_set_accepting(CharSocket *s, bool on)
{
    if (s->listen_fd >= 0 && on != s->accepting) {
        aio_set_fd_handler(main_aio_context(), s->listen_fd, on ? socket_accept : NULL, NULL, s);
        s->accepting = on;
    }
}

static void socket_timer_in(CharSocket *s, int64_t ns)
{
    aio_timer_mod(s->timer, clock_now_ns() + ns);
}

/* Of TCP both ends are told. */
static char *describe_connection(const CharSocket *s, int fd)
{
    g_autofree char *own = socket_address_of(fd, false), *peer = socket_address_of(fd, true);

    if (g_str_has_prefix(s->description, "unix:") || !*peer) {
        return g_strdup(s->description);
    }
    return g_strconcat(s->is_telnet ? "telnet:" : "tcp:", own, s->server ? ",server=on" : "", " <-> ",
                       peer, NULL);
}

static void socket_start_telnet(CharSocket *s, int fd)
{
    telnet_init(&s->telnet);
    chardev_set_filter(&s->parent, CHARDEV_FILTER_LINE, telnet_filter, NULL);
    if (s->server) {
        telnet_offer(fd);
    }
}

static void socket_received(Chardev *chr, const uint8_t *buf, size_t len)
{
    CharSocket *s = (CharSocket *)chr;

    if (s->is_telnet) {
        telnet_received(&s->telnet, chr, buf, len);
    } else {
        chardev_front_receive(chr, buf, len);
    }
}

static void socket_opened(CharSocket *s, int fd)
{
    int one = 1;

    s->said = false;
    if (s->nodelay) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    }
    if (s->is_telnet) {
        socket_start_telnet(s, fd);
    }
    socket_set_accepting(s, false);
    chardev_set_filename(&s->parent, describe_connection(s, fd));
    chardev_peer_opened(&s->parent, fd, fd, true);
}

/* --- Server -------------------------------------------------------------------------- */

static void socket_hand_over(CharSocket *s, int fd)
{
    CharSocket *peer = (CharSocket *)chardev_alloc(&chardev_socket, s->parent.label);

    peer->nodelay = s->nodelay;
    peer->server = true;
    peer->is_telnet = s->is_telnet;
    peer->description = g_strdup(s->description);
    peer->listener = s;
    chardev_ref(&s->parent);
    s->n_peers++;
    chardev_set_filename(&s->parent, describe_connection(s, fd));
    chardev_set_log(&peer->parent, s->parent.log ? char_log_ref(s->parent.log) : NULL);
    socket_opened(peer, fd);
    s->accept(s->accept_opaque, &peer->parent);
}

static void socket_accept(void *opaque)
{
    CharSocket *s = opaque;
    int fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (fd >= 0) {
        if (s->accept) {
            socket_hand_over(s, fd);
        } else {
            socket_opened(s, fd);
        }
    } else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
        socket_set_accepting(s, false);
        socket_timer_in(s, ACCEPT_RETRY_NS);
    }
}

/* Returns the first client's descriptor, or -1 and errno. */
static int socket_wait_accept(int listen_fd)
{
    struct pollfd pfd = {.fd = listen_fd, .events = POLLIN};

    for (;;) {
        int fd;

        if (poll(&pfd, 1, -1) < 0 && errno != EINTR) {
            return -1;
        }
        fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0 || (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)) {
            return fd;
        }
    }
}

/*
 * wait=on: holds up the start of the program until there is a client.  The main loop does
 * not run yet, so the signals that it would handle end the program as they do by default.
 */
static bool socket_wait_for_client(CharSocket *s, GError **errp)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction old[G_N_ELEMENTS(signals)], sa = {.sa_handler = SIG_DFL};
    const char *name = g_get_prgname();
    int fd, saved;

    fprintf(stderr, "%s: info: QEMU waiting for connection on: %s\n", name ? name : "keyframe",
            s->parent.filename);
    sigemptyset(&sa.sa_mask);
    for (size_t i = 0; i < G_N_ELEMENTS(signals); i++) {
        sigaction(signals[i], &sa, &old[i]);
    }
    fd = socket_wait_accept(s->listen_fd);
    saved = errno;
    for (size_t i = 0; i < G_N_ELEMENTS(signals); i++) {
        sigaction(signals[i], &old[i], NULL);
    }
    if (fd < 0) {
        error_setg_errno(errp, saved, "Could not wait for a connection on %s", s->description);
        return false;
    }
    socket_opened(s, fd);
    return true;
}

bool chardev_is_listener(Chardev *chr)
{
    return chr->backend == &chardev_socket && ((CharSocket *)chr)->listen_fd >= 0;
}

bool chardev_socket_set_accept(Chardev *chr, ChardevAccept *accept, void *opaque)
{
    CharSocket *s = (CharSocket *)chr;

    if (chr->ops || (accept && s->accept)) {
        return false;
    }
    s->accept = accept;
    s->accept_opaque = opaque;
    if (accept && chr->connected) {
        socket_hand_over(s, chardev_steal_fd(chr));
    }
    socket_set_accepting(s, accept != NULL);
    return true;
}

/* --- Client -------------------------------------------------------------------------- */

static void socket_connect(CharSocket *s);

/* Tries the name's next address, or the first after a while; err is taken. */
static void socket_connect_failed(CharSocket *s, GError *err)
{
    if (socket_address_next(&s->address)) {
        g_error_free(err);
        socket_connect(s);
        return;
    }
    if (!s->said) {
        g_printerr("%s: Unable to connect character device %s: %s\n", g_get_prgname(),
                   s->parent.label, err->message);
    }
    s->said = true;
    g_error_free(err);
    socket_timer_in(s, s->reconnect * SECOND_NS);
}

static void socket_connect_done(void *opaque)
{
    CharSocket *s = opaque;
    int fd = s->connect_fd, error = 0;
    socklen_t len = sizeof(error);

    aio_set_fd_handler(main_aio_context(), fd, NULL, NULL, s);
    s->connect_fd = -1;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0 || error) {
        close(fd);
        socket_connect_failed(s, socket_address_connect_error(&s->address, error ? error : errno));
        return;
    }
    socket_opened(s, fd);
}

/* The address is known. */
static void socket_connect_start(CharSocket *s)
{
    bool pending;
    int fd = socket_address_connect_start(&s->address, &pending);

    if (fd < 0) {
        socket_connect_failed(s, socket_address_connect_error(&s->address, errno));
    } else if (pending) {
        s->connect_fd = fd;
        aio_set_fd_handler(main_aio_context(), fd, NULL, socket_connect_done, s);
    } else {
        socket_opened(s, fd);
    }
}

typedef struct ResolveArgs {
    SocketAddress address;
    GError *err;
} ResolveArgs;

/* WorkerFunc */
static int resolve_worker(void *opaque)
{
    ResolveArgs *a = opaque;

    return socket_address_resolve(&a->address, &a->err) ? 0 : -1;
}

/* The name server may take its time, and the device may be closed meanwhile. */
static void coroutine_fn socket_resolve(void *opaque)
{
    CharSocket *s = opaque;
    ResolveArgs a = {.address = {.host = g_strdup(s->address.host),
                                 .port = g_strdup(s->address.port), .fd = -1,
                                 .family = s->address.family, .which = s->address.which}};
    bool found = co_run_in_worker(resolve_worker, &a) == 0;

    if (s->parent.closed) {
        g_clear_error(&a.err); /* nobody wants it any more */
    } else if (found) {
        memcpy(&s->address.addr, &a.address.addr, a.address.addr_len);
        s->address.addr_len = a.address.addr_len;
        s->address.n_addrs = a.address.n_addrs;
        socket_connect_start(s);
    } else {
        socket_connect_failed(s, a.err);
    }
    socket_address_clear(&a.address);
    chardev_unref(&s->parent);
}

static void socket_connect(CharSocket *s)
{
    if (s->address.addr_len) {
        socket_connect_start(s);
    } else {
        chardev_ref(&s->parent);
        aio_co_enter(main_aio_context(), coroutine_create(socket_resolve, s));
    }
}

/* --- The back end -------------------------------------------------------------------- */

static void socket_timer(void *opaque)
{
    CharSocket *s = opaque;

    if (s->server) {
        socket_set_accepting(s, s->accept || !s->parent.connected);
    } else {
        socket_connect(s);
    }
}

static void socket_set_disconnected(CharSocket *s)
{
    chardev_set_filename(&s->parent, g_strconcat("disconnected:", s->description, NULL));
}

static void socket_peer_lost(Chardev *chr)
{
    CharSocket *s = (CharSocket *)chr;

    close(chardev_steal_fd(chr));
    socket_set_disconnected(s);
    if (s->server) {
        socket_set_accepting(s, true);
    } else if (s->reconnect) {
        socket_timer_in(s, s->reconnect * SECOND_NS);
    }
}

/* The address comes last: a descriptor that it takes is lost to a client whose request fails. */
static bool socket_check(CharSocket *s, ChardevOpts *opts, GError **errp)
{
    static const char *const later[] = {"tn3270", "websocket", "tls-creds", "tls-authz"};

    for (size_t i = 0; i < G_N_ELEMENTS(later); i++) {
        if (chardev_opts_get(opts, later[i])) {
            error_setg(errp, "Socket option '%s' is not supported", later[i]);
            return false;
        }
    }
    if (!chardev_opts_get_bool(opts, "server", false, &s->server, errp) ||
        !chardev_opts_get_bool(opts, "wait", s->server, &s->wait, errp) ||
        !chardev_opts_get_int(opts, "reconnect", 0, &s->reconnect, errp) ||
        !chardev_opts_get_bool(opts, "telnet", false, &s->is_telnet, errp) ||
        !chardev_opts_get_bool(opts, "nodelay", true, &s->nodelay, errp)) {
        return false;
    }
    if (chardev_opts_get(opts, "fd") && chardev_opts_get(opts, "reconnect")) {
        error_setg(errp, "'reconnect' option is incompatible with 'fd' address type");
        return false;
    }
    if (s->server && s->reconnect) {
        error_setg(errp, "'reconnect' option is incompatible with socket in server listen mode");
        return false;
    }
    if (!s->server && chardev_opts_get(opts, "wait")) {
        error_setg(errp, "'wait' option is incompatible with socket in client connect mode");
        return false;
    }
    if (!socket_address_from_opts(&s->address, opts, errp)) {
        return false;
    }
    s->nodelay = s->nodelay && !s->address.path;
    return true;
}

/* Of TCP where it listens, in numbers. */
static char *describe_server(const CharSocket *s, const char *protocol)
{
    g_autofree char *text = socket_address_text(&s->address, protocol);
    g_autofree char *own = s->address.host ? socket_address_of(s->listen_fd, false) : NULL;

    return own ? g_strconcat(protocol, ":", own, ",server=on", NULL)
               : g_strconcat(text, ",server=on", NULL);
}

static void socket_init(Chardev *chr)
{
    CharSocket *s = (CharSocket *)chr;

    s->listen_fd = s->connect_fd = s->address.fd = -1;
}

static bool socket_prepare(Chardev *chr, ChardevOpts *opts, GError **errp)
{
    CharSocket *s = (CharSocket *)chr;
    const char *protocol;

    if (!socket_check(s, opts, errp)) {
        return false;
    }
    if (s->server) {
        s->listen_fd = socket_address_listen(&s->address, errp);
        if (s->listen_fd < 0) {
            return false;
        }
    } else if (s->reconnect) {
        /* If the name cannot be resolved now, then perhaps at the next attempt. */
        socket_address_resolve(&s->address, NULL);
    } else {
        chr->in_fd = chr->out_fd = socket_address_connect(&s->address, errp);
        if (chr->in_fd < 0) {
            return false;
        }
    }
    protocol = s->is_telnet ? "telnet" : "tcp";
    s->description = s->server ? describe_server(s, protocol)
                               : socket_address_text(&s->address, protocol);
    return true;
}

static bool socket_open(Chardev *chr, ChardevOpts *opts, GError **errp)
{
    CharSocket *s = (CharSocket *)chr;

    socket_set_disconnected(s);
    s->timer = aio_timer_new(main_aio_context(), socket_timer, s);
    if (s->server && s->wait) {
        return socket_wait_for_client(s, errp);
    }
    if (s->server) {
        socket_set_accepting(s, true);
    } else if (s->reconnect) {
        socket_connect(s);
    } else {
        socket_opened(s, chr->in_fd);
    }
    return true;
}

/* The listener of the last peer is shown as one without. */
static void leave_listener(CharSocket *s)
{
    CharSocket *listener = s->listener;

    if (listener) {
        s->listener = NULL;
        if (--listener->n_peers == 0 && !listener->parent.closed) {
            socket_set_disconnected(listener);
        }
        chardev_unref(&listener->parent);
    }
}

static void socket_close(Chardev *chr)
{
    CharSocket *s = (CharSocket *)chr;

    leave_listener(s);
    socket_set_accepting(s, false);
    if (s->connect_fd >= 0) {
        aio_set_fd_handler(main_aio_context(), s->connect_fd, NULL, NULL, s);
        close(s->connect_fd);
        s->connect_fd = -1;
    }
    if (s->listen_fd >= 0) {
        close(s->listen_fd);
        s->listen_fd = -1;
        socket_address_unlink(&s->address);
    }
    if (s->timer) {
        aio_timer_free(s->timer);
        s->timer = NULL;
    }
    socket_address_clear(&s->address);
    g_clear_pointer(&s->description, g_free);
}

static bool socket_has_acceptor(Chardev *chr)
{
    return ((CharSocket *)chr)->accept != NULL;
}

static const char *const socket_options[] = {
    "path",      "host",      "port",      "fd",       "ipv4",  "ipv6", "server",
    "wait",      "reconnect", "nodelay",   "telnet",   "tn3270", "websocket",
    "tls-creds", "tls-authz", "abstract",  "tight",    "to",    NULL,
};

const ChardevDriver chardev_socket = {
    .name = "socket",
    .instance_size = sizeof(CharSocket),
    .options = socket_options,
    .init = socket_init,
    .prepare = socket_prepare,
    .open = socket_open,
    .close = socket_close,
    .peer_lost = socket_peer_lost,
    .received = socket_received,
    .has_fronts = socket_has_acceptor,
};
