/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The backend "dgram": each frame is a datagram, UDP's or a Unix socket's.  What the other side has
 * no room for is lost, as on a cable; what the guest does not take is not read.  Network thread,
 * but names are resolved and the socket is made by a worker.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>
#include "net-int.h"
#include "qapi/error.h"
#include "qapi/qapi-visit-net.h"

typedef struct NetDgram {
    NetClient nc;
    char *text; /* for "info network" */
    SocketAddress local, remote;
    int fd;
    bool has_remote; /* else the socket knows it: a descriptor */
    bool blocked;    /* the guest's device takes no more: nothing is read */
    uint8_t in[NET_FRAME_MAX];
} NetDgram;

static NetDgram *to_dgram(NetClient *nc)
{
    return (NetDgram *)nc;
}

/* --- Frames ------------------------------------------------------------------------------------------ */

static void on_readable(void *opaque);

static void update_handler(NetDgram *d)
{
    aio_set_fd_handler(net_context(), d->fd, d->blocked ? NULL : on_readable, NULL, d);
}

/* Errors of a datagram socket tell of datagrams that were sent: they are lost. */
static void on_readable(void *opaque)
{
    NetDgram *d = opaque;
    ssize_t n = recv(d->fd, d->in, sizeof(d->in), MSG_DONTWAIT);

    if (n > 0 && !net_send(&d->nc, d->in, n)) {
        d->blocked = true;
        update_handler(d);
    }
}

static void dgram_writable(NetClient *nc)
{
    NetDgram *d = to_dgram(nc);

    d->blocked = false;
    update_handler(d);
}

static bool dgram_receive(NetClient *nc, const uint8_t *frame, size_t len)
{
    NetDgram *d = to_dgram(nc);
    const struct sockaddr *to = d->has_remote ? (const struct sockaddr *)&d->remote.addr : NULL;
    ssize_t n;

    do {
        n = sendto(d->fd, frame, len, MSG_NOSIGNAL | MSG_DONTWAIT, to,
                   d->has_remote ? d->remote.addr_len : 0);
    } while (n < 0 && errno == EINTR);
    return true;
}

static char *dgram_describe(NetClient *nc)
{
    return g_strdup(to_dgram(nc)->text);
}

/* --- Life -------------------------------------------------------------------------------------------- */

static void close_all(NetDgram *d)
{
    if (d->fd >= 0) {
        close(d->fd);
        socket_address_unlink(&d->local);
    }
    socket_address_clear(&d->local);
    socket_address_clear(&d->remote);
    g_free(d->text);
    g_free(d);
}

static void dgram_free(NetClient *nc)
{
    NetDgram *d = to_dgram(nc);

    aio_set_fd_handler(net_context(), d->fd, NULL, NULL, d);
    net_client_cleanup(nc);
    close_all(d);
}

static const NetClientOps dgram_ops = {
    .type = "dgram",
    .receive = dgram_receive,
    .writable = dgram_writable,
    .describe = dgram_describe,
    .free = dgram_free,
};

/* What the two addresses may be together. */
static bool check_options(const NetdevDgramOptions *o, GError **errp)
{
    if (!o->local) {
        error_setg(errp, "dgram requires local= parameter");
    } else if (o->local->type == NET_SOCKET_TYPE_FD && o->remote) {
        error_setg(errp, "don't set remote with local.fd");
    } else if (o->local->type != NET_SOCKET_TYPE_FD && !o->remote) {
        error_setg(errp, "type=inet or type=unix requires remote parameter");
    } else if (o->remote && o->remote->type != o->local->type) {
        error_setg(errp, "remote and local types must be the same");
    } else {
        return true;
    }
    return false;
}

static bool is_multicast(const SocketAddress *a)
{
    const struct sockaddr_in *in = (const struct sockaddr_in *)&a->addr;
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&a->addr;

    return a->addr.ss_family == AF_INET    ? IN_MULTICAST(ntohl(in->sin_addr.s_addr))
           : a->addr.ss_family == AF_INET6 ? IN6_IS_ADDR_MULTICAST(&in6->sin6_addr)
                                           : false;
}

/* A socket bound to the local address; -1 and errp. */
static int bind_local(SocketAddress *a, GError **errp)
{
    int fd = socket(a->addr.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (fd < 0) {
        error_setg_errno(errp, errno, "can't create datagram socket");
        return -1;
    }
    if (a->path && !a->abstract) {
        unlink(a->path);
    }
    if (socket_address_bind(a, fd) < 0) {
        error_setg_errno(errp, errno, "can't bind %s%s%s to socket", a->path ? a->path : a->host,
                         a->path ? "" : ":", a->path ? "" : a->port);
        close(fd);
        return -1;
    }
    return fd;
}

typedef struct OpenArgs {
    NetDgram *d;
    GError *err;
} OpenArgs;

static int open_in_worker(void *opaque)
{
    OpenArgs *a = opaque;
    NetDgram *d = a->d;

    if (!socket_address_resolve(&d->local, &a->err) ||
        !socket_address_resolve(&d->remote, &a->err)) {
        return 0;
    }
    if (is_multicast(&d->remote)) {
        error_setg(&a->err, "multicast is not supported");
    } else if (d->remote.addr.ss_family != d->local.addr.ss_family) {
        error_setg(&a->err, "remote and local types must be the same");
    } else {
        d->fd = bind_local(&d->local, &a->err);
    }
    return 0;
}

static char *text_of(const NetDgram *d)
{
    return d->local.path ? g_strdup_printf("udp=%s:%s", d->local.path, d->remote.path)
                         : g_strdup_printf("udp=%s:%s/%s:%s", d->local.host, d->local.port,
                                           d->remote.host, d->remote.port);
}

static bool coroutine_fn open_socket(NetDgram *d, const NetdevDgramOptions *o, GError **errp)
{
    OpenArgs a = {.d = d};

    if (!check_options(o, errp) || !net_socket_address(&d->local, o->local, errp)) {
        return false;
    }
    if (o->local->type == NET_SOCKET_TYPE_FD) {
        d->fd = d->local.fd;
        d->text = g_strdup_printf("fd=%s", o->local->u.fd.str);
        return net_socket_is(d->fd, SOCK_DGRAM, errp);
    }
    if (!net_socket_address(&d->remote, o->remote, errp)) {
        return false;
    }
    d->has_remote = true;
    d->text = text_of(d);
    co_run_in_worker(open_in_worker, &a);
    if (d->fd < 0) {
        g_propagate_error(errp, a.err);
    }
    return d->fd >= 0;
}

bool coroutine_fn net_dgram_co_new(const char *id, const NetdevDgramOptions *options,
                                   GError **errp)
{
    AioContext *home;
    NetDgram *d = g_new0(NetDgram, 1);
    bool ok;

    d->fd = d->local.fd = d->remote.fd = -1;
    if (!open_socket(d, options, errp) || !net_is_open(errp)) {
        close_all(d);
        return false;
    }
    home = net_co_enter();
    ok = net_is_open(errp);
    if (ok) {
        net_client_init(&d->nc, &dgram_ops, id);
        update_handler(d);
    } else {
        close_all(d);
    }
    net_co_leave(home);
    return ok;
}
