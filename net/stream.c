/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The backend "stream": frames over a stream socket, each behind its length, four bytes with the
 * most significant first.  A server has one peer at a time; others wait in the backlog.  What a
 * peer does not take waits, and with it the guest's device; what the guest does not take is not
 * read.  Network thread, but names are resolved and the first connection is made by workers.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <unistd.h>
#include "qapi/error.h"
#include "qapi/qapi-events-net.h"
#include "qapi/qapi-visit-net.h"
#include "net-int.h"
#include "util/socket-address.h"

enum { LENGTH_SIZE = 4 };
/* How long accepting rests when the process is out of descriptors. */
#define ACCEPT_RETRY_NS (100 * 1000 * 1000LL)

typedef struct NetStream {
    NetClient nc;
    NetSocketAddress *said;
    SocketAddress address;
    int listen_fd; /* -1: a client */
    int fd;        /* -1: no peer */
    AioTimer *accept_timer;
    bool blocked; /* the guest's device takes no more: nothing is read */
    size_t in_len, out_pos, out_len;
    uint8_t in[LENGTH_SIZE + NET_FRAME_MAX];
    uint8_t out[LENGTH_SIZE + NET_FRAME_MAX]; /* the rest of a frame that was cut */
} NetStream;

static NetStream *to_stream(NetClient *nc)
{
    return (NetStream *)nc;
}

static void on_readable(void *opaque);
static void on_writable(void *opaque);
static void on_client(void *opaque);

static void update_handlers(NetStream *s)
{
    aio_set_fd_handler(net_context(), s->fd, s->blocked ? NULL : on_readable,
                       s->out_len ? on_writable : NULL, s);
}

static void set_accepting(NetStream *s, bool on)
{
    if (s->listen_fd >= 0) {
        aio_set_fd_handler(net_context(), s->listen_fd, on ? on_client : NULL, NULL, s);
    }
}

/* --- Peers --------------------------------------------------------------------------------------- */

/* Of TCP "host:port" or "[host]:port" in numbers. */
static NetSocketAddress *peer_address(const NetStream *s)
{
    NetSocketAddress *a = qapi_NetSocketAddress_clone(s->said);
    g_autofree char *text = socket_address_of(s->fd, true);
    char *colon = strrchr(text, ':');
    bool ipv6 = *text == '[';

    if (a->type != NET_SOCKET_TYPE_INET || !colon) {
        return a;
    }
    g_free(a->u.inet.host);
    g_free(a->u.inet.port);
    a->u.inet.port = g_strdup(colon + 1);
    a->u.inet.host = g_strndup(text + ipv6, colon - text - 2 * ipv6);
    a->u.inet.has_ipv4 = a->u.inet.ipv4 = !ipv6;
    a->u.inet.has_ipv6 = a->u.inet.ipv6 = ipv6;
    return a;
}

static void peer_came(NetStream *s, int fd)
{
    NetSocketAddress *address;
    int one = 1;

    s->fd = fd;
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    if (s->said->type == NET_SOCKET_TYPE_INET) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    }
    s->in_len = s->out_len = 0;
    set_accepting(s, false);
    update_handlers(s);
    address = peer_address(s);
    qapi_event_send_netdev_stream_connected(s->nc.name, address);
    qapi_free_NetSocketAddress(address);
}

static void peer_left(NetStream *s)
{
    aio_set_fd_handler(net_context(), s->fd, NULL, NULL, s);
    close(s->fd);
    s->fd = -1;
    s->in_len = s->out_len = 0;
    set_accepting(s, true);
    qapi_event_send_netdev_stream_disconnected(s->nc.name);
    net_client_ready(&s->nc); /* what waits for a peer is lost */
}

static void on_client(void *opaque)
{
    NetStream *s = opaque;
    int fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (fd >= 0) {
        peer_came(s, fd);
    } else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
        set_accepting(s, false);
        aio_timer_mod(s->accept_timer, clock_now_ns() + ACCEPT_RETRY_NS);
    }
}

static void accept_again(void *opaque)
{
    NetStream *s = opaque;

    set_accepting(s, s->fd < 0);
}

/* --- From the peer -------------------------------------------------------------------------------- */

/* Gives the frames that are whole to the guest's device; false: this is no stream of frames. */
static bool pass_on(NetStream *s)
{
    size_t at = 0;

    while (!s->blocked && s->in_len - at >= LENGTH_SIZE) {
        const uint8_t *p = s->in + at;
        uint32_t len = (uint32_t)p[0] << 24 | p[1] << 16 | p[2] << 8 | p[3];

        if (len > NET_FRAME_MAX) {
            return false;
        }
        if (s->in_len - at - LENGTH_SIZE < len) {
            break;
        }
        s->blocked = !net_send(&s->nc, p + LENGTH_SIZE, len);
        at += LENGTH_SIZE + len;
    }
    memmove(s->in, s->in + at, s->in_len - at);
    s->in_len -= at;
    return true;
}

static void pass_on_or_part(NetStream *s)
{
    if (pass_on(s)) {
        update_handlers(s);
    } else {
        g_printerr("%s: warning: netdev %s: a frame longer than %d bytes: connection closed\n",
                   g_get_prgname(), s->nc.name, NET_FRAME_MAX);
        peer_left(s);
    }
}

static void on_readable(void *opaque)
{
    NetStream *s = opaque;
    ssize_t n = read(s->fd, s->in + s->in_len, sizeof(s->in) - s->in_len);

    if (n > 0) {
        s->in_len += n;
        pass_on_or_part(s);
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        peer_left(s);
    }
}

static void stream_writable(NetClient *nc)
{
    NetStream *s = to_stream(nc);

    s->blocked = false;
    if (s->fd >= 0) {
        pass_on_or_part(s);
    }
}

/* --- To the peer ----------------------------------------------------------------------------------- */

/* How many bytes the socket took; -1: the peer is lost. */
static ssize_t write_some(NetStream *s, struct iovec *iov, int niov)
{
    struct msghdr m = {.msg_iov = iov, .msg_iovlen = niov};
    ssize_t n = sendmsg(s->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);

    return n >= 0 ? n : errno == EAGAIN || errno == EINTR ? 0 : -1;
}

static bool stream_receive(NetClient *nc, const uint8_t *frame, size_t len)
{
    NetStream *s = to_stream(nc);
    uint8_t head[LENGTH_SIZE] = {len >> 24, len >> 16, len >> 8, len};
    struct iovec iov[2] = {{head, LENGTH_SIZE}, {(void *)frame, len}};
    ssize_t n;

    if (s->fd < 0) {
        return true;
    }
    if (s->out_len) {
        return false;
    }
    n = write_some(s, iov, 2);
    if (n < 0) {
        peer_left(s);
    } else if ((size_t)n < LENGTH_SIZE + len) {
        memcpy(s->out, head, LENGTH_SIZE);
        memcpy(s->out + LENGTH_SIZE, frame, len);
        s->out_pos = n;
        s->out_len = LENGTH_SIZE + len;
        update_handlers(s);
    }
    return true;
}

static void on_writable(void *opaque)
{
    NetStream *s = opaque;
    struct iovec iov = {s->out + s->out_pos, s->out_len - s->out_pos};
    ssize_t n = write_some(s, &iov, 1);

    if (n < 0) {
        peer_left(s);
        return;
    }
    s->out_pos += n;
    if (s->out_pos == s->out_len) {
        s->out_len = 0;
        update_handlers(s);
        net_client_ready(&s->nc);
    }
}

/* --- Life ------------------------------------------------------------------------------------------- */

static char *stream_describe(NetClient *nc)
{
    NetStream *s = to_stream(nc);
    g_autofree char *peer = s->fd < 0 ? NULL : socket_address_of(s->fd, true);

    if (!peer) {
        return g_strdup("");
    }
    switch (s->said->type) {
    case NET_SOCKET_TYPE_UNIX:
        return g_strconcat("unix:", s->said->u.q_unix.path, NULL);
    case NET_SOCKET_TYPE_FD:
        return g_strconcat("fd:", s->said->u.fd.str, NULL);
    default:
        return g_strconcat("tcp:", peer, NULL);
    }
}

static void stream_free(NetClient *nc)
{
    NetStream *s = to_stream(nc);

    if (s->fd >= 0) {
        aio_set_fd_handler(net_context(), s->fd, NULL, NULL, s);
        close(s->fd);
        s->fd = -1;
    }
    if (s->listen_fd >= 0) {
        set_accepting(s, false);
        close(s->listen_fd);
        socket_address_unlink(&s->address);
    }
    net_client_cleanup(nc);
    aio_timer_free(s->accept_timer);
    socket_address_clear(&s->address);
    qapi_free_NetSocketAddress(s->said);
    g_free(s);
}

static const NetClientOps stream_ops = {
    .type = "stream",
    .receive = stream_receive,
    .writable = stream_writable,
    .describe = stream_describe,
    .free = stream_free,
};

typedef struct OpenArgs {
    NetStream *s;
    bool server;
    int fd;
    GError *err;
} OpenArgs;

static int open_in_worker(void *opaque)
{
    OpenArgs *a = opaque;

    a->fd = a->server ? socket_address_listen(&a->s->address, &a->err)
                      : socket_address_connect(&a->s->address, &a->err);
    return 0;
}

/* Not a client yet. */
static void drop(NetStream *s, int fd)
{
    if (fd >= 0) {
        close(fd);
        socket_address_unlink(&s->address);
    }
    socket_address_clear(&s->address);
    qapi_free_NetSocketAddress(s->said);
    g_free(s);
}

/* In the network thread. */
static void begin(NetStream *s, const char *id, bool server, int fd)
{
    s->accept_timer = aio_timer_new(net_context(), accept_again, s);
    net_client_init(&s->nc, &stream_ops, id);
    if (server) {
        s->listen_fd = fd;
        set_accepting(s, true);
    } else {
        peer_came(s, fd);
    }
}

bool coroutine_fn net_stream_co_new(const char *id, const NetdevStreamOptions *options,
                                    GError **errp)
{
    AioContext *home;
    NetStream *s = g_new0(NetStream, 1);
    OpenArgs a = {.s = s, .server = options->has_server && options->server, .fd = -1};
    bool ok;

    s->listen_fd = s->fd = s->address.fd = -1;
    s->said = qapi_NetSocketAddress_clone(options->addr);
    if (net_socket_address(&s->address, s->said, &a.err)) {
        co_run_in_worker(open_in_worker, &a);
    }
    if (a.fd < 0 || !net_socket_is(a.fd, SOCK_STREAM, &a.err) || !net_is_open(&a.err)) {
        g_propagate_error(errp, a.err);
        drop(s, a.fd);
        return false;
    }
    home = net_co_enter();
    ok = net_is_open(errp);
    if (ok) {
        begin(s, id, a.server, a.fd);
    } else {
        drop(s, a.fd);
    }
    net_co_leave(home);
    return ok;
}
