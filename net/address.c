/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The schema's addresses as sockets take them.  Main thread. */
#include <string.h>
#include "qapi/error.h"
#include "net-int.h"
#include "util/named-fd.h"
#include "util/socket-address.h"

bool net_socket_address(SocketAddress *a, const NetSocketAddress *said, GError **errp)
{
    const NetInetAddress *inet = &said->u.inet;
    const NetUnixAddress *un = &said->u.q_unix;

    switch (said->type) {
    case NET_SOCKET_TYPE_INET:
        a->host = g_strdup(inet->host);
        a->port = g_strdup(inet->port);
        a->port_to = inet->has_to ? inet->to : 0;
        return socket_family(inet->has_ipv4 ? &inet->ipv4 : NULL,
                             inet->has_ipv6 ? &inet->ipv6 : NULL, &a->family, errp);
    case NET_SOCKET_TYPE_UNIX:
        a->abstract = un->has_abstract && un->abstract;
        a->tight = !un->has_tight || un->tight;
        if (strlen(un->path) > SOCKET_PATH_MAX || (!*un->path && !a->abstract)) {
            error_setg(errp, "UNIX socket path '%s' is too %s", un->path,
                       *un->path ? "long" : "short");
            return false;
        }
        a->path = g_strdup(un->path);
        return true;
    default:
        a->fd = named_fd_take(said->u.fd.str, errp);
        return a->fd >= 0;
    }
}

bool net_socket_is(int fd, int type, GError **errp)
{
    int is;
    socklen_t len = sizeof(is);

    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &is, &len) < 0 || is != type) {
        error_setg(errp, "the descriptor is not that of a %s socket",
                   type == SOCK_STREAM ? "stream" : "datagram");
        return false;
    }
    return true;
}
