/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Datagrams to one peer, which need not be there: what is written at once goes out as one, and is lost if
 * nobody hears it.  A datagram that arrives is handed over as the front end takes it; the next one is
 * received when it has all of that.  Names are resolved in prepare(), otherwise main thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <unistd.h>

#include "char-socket-int.h"
#include "monitor/chardev-int.h"
#include "qapi/error.h"

typedef struct CharUdp {
    Chardev parent;
    int fd; /* the socket again, for input */
    bool reading;
    size_t at, len; /* what is left of the last datagram */
    uint8_t data[65536];
} CharUdp;

static bool bind_local(int fd, const struct addrinfo *remote, ChardevOpts *opts, GError **errp)
{
    const char *host = chardev_opts_get(opts, "localaddr"), *port = chardev_opts_get(opts, "localport");
    struct addrinfo *local = socket_address_lookup(host, port ? port : "0", remote->ai_family,
                                                   SOCK_DGRAM, true, errp);
    bool ok;

    if (!local) {
        return false;
    }
    ok = bind(fd, local->ai_addr, local->ai_addrlen) == 0;
    if (!ok) {
        error_setg_errno(errp, errno, "Failed to bind socket");
    }
    freeaddrinfo(local);
    return ok;
}

static bool connect_remote(int fd, const struct addrinfo *remote, GError **errp)
{
    if (connect(fd, remote->ai_addr, remote->ai_addrlen)) {
        error_setg_errno(errp, errno, "Failed to connect socket");
        return false;
    }
    return true;
}

static void udp_init(Chardev *chr)
{
    ((CharUdp *)chr)->fd = -1;
}

static bool udp_prepare(Chardev *chr, ChardevOpts *opts, GError **errp)
{
    const char *host = chardev_opts_get(opts, "host"), *port = chardev_opts_get(opts, "port");
    struct addrinfo *remote;
    int family, fd;
    bool ok;

    if (!socket_family_from_opts(&family, opts, errp)) {
        return false;
    }
    remote = socket_address_lookup(host && *host ? host : "localhost", port, family, SOCK_DGRAM, false,
                                   errp);
    if (!remote) {
        return false;
    }
    fd = socket(remote->ai_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        error_setg_errno(errp, errno, "Failed to create socket");
    }
    ok = fd >= 0 && bind_local(fd, remote, opts, errp) && connect_remote(fd, remote, errp);
    freeaddrinfo(remote);
    chr->out_fd = fd; /* closed with the device */
    return ok;
}

/* --- Input --------------------------------------------------------------------------------- */

static void udp_read(void *opaque);

static void update_reading(CharUdp *u)
{
    bool wanted = u->fd >= 0 && !u->len && chardev_front_can_receive(&u->parent) > 0;

    if (wanted != u->reading) {
        aio_set_fd_handler(main_aio_context(), u->fd, wanted ? udp_read : NULL, NULL, u);
        u->reading = wanted;
    }
}

static void deliver(Chardev *chr)
{
    CharUdp *u = (CharUdp *)chr;
    size_t room;

    chardev_ref(chr);
    while (u->len && (room = chardev_front_can_receive(chr)) > 0) {
        size_t n = MIN(room, u->len), at = u->at;

        u->at += n;
        u->len -= n;
        chardev_front_receive(chr, u->data + at, n);
    }
    if (!chr->closed) {
        update_reading(u);
    }
    chardev_unref(chr);
}

static void udp_read(void *opaque)
{
    CharUdp *u = opaque;
    /* An error is what became of a datagram that was sent. */
    ssize_t n = recv(u->fd, u->data, sizeof(u->data), MSG_DONTWAIT);

    u->at = 0;
    u->len = MAX(n, 0);
    deliver(&u->parent);
}

/* --- The back end -------------------------------------------------------------------------- */

static bool udp_open(Chardev *chr, ChardevOpts *opts, GError **errp)
{
    CharUdp *u = (CharUdp *)chr;

    u->fd = fcntl(chr->out_fd, F_DUPFD_CLOEXEC, 0);
    if (u->fd < 0) {
        error_setg_errno(errp, errno, "Could not duplicate a socket");
        return false;
    }
    chardev_peer_opened(chr, -1, chr->out_fd, true);
    return true;
}

static void udp_attached(Chardev *chr)
{
    CharUdp *u = (CharUdp *)chr;

    if (!chr->closed) {
        update_reading(u);
    }
}

static void udp_close(Chardev *chr)
{
    CharUdp *u = (CharUdp *)chr;

    if (u->reading) {
        aio_set_fd_handler(main_aio_context(), u->fd, NULL, NULL, u);
        u->reading = false;
    }
    if (u->fd >= 0) {
        close(u->fd);
        u->fd = -1;
    }
}

static const char *const udp_options[] = {"host", "port", "localaddr", "localport", "ipv4", "ipv6", NULL};

const ChardevDriver chardev_udp = {
    .name = "udp",
    .instance_size = sizeof(CharUdp),
    .options = udp_options,
    .init = udp_init,
    .prepare = udp_prepare,
    .open = udp_open,
    .close = udp_close,
    .accept_input = deliver,
    .attached = udp_attached,
    .datagrams = true,
};
