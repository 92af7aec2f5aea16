/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The address that a socket character device's options give.  Main thread. */
#include <string.h>
#include <unistd.h>

#include "monitor/chardev-opts.h"
#include "qapi/error.h"
#include "util/named-fd.h"
#include "char-socket-int.h"

static bool path_from_opts(SocketAddress *a, const char *path, const ChardevOpts *opts,
                           GError **errp)
{
    if (!chardev_opts_get_bool(opts, "abstract", false, &a->abstract, errp) ||
        !chardev_opts_get_bool(opts, "tight", true, &a->tight, errp)) {
        return false;
    }
    if (!*path && !a->abstract) {
        error_setg(errp, "UNIX socket path '%s' is empty", path);
        return false;
    }
    if (strlen(path) > SOCKET_PATH_MAX) {
        error_setg(errp, "UNIX socket path '%s' is too long", path);
        return false;
    }
    a->path = g_strdup(path);
    return true;
}

bool socket_family_from_opts(int *family, const ChardevOpts *opts, GError **errp)
{
    bool ipv4, ipv6;

    return chardev_opts_get_bool(opts, "ipv4", false, &ipv4, errp) &&
           chardev_opts_get_bool(opts, "ipv6", false, &ipv6, errp) &&
           socket_family(chardev_opts_get(opts, "ipv4") ? &ipv4 : NULL,
                         chardev_opts_get(opts, "ipv6") ? &ipv6 : NULL, family, errp);
}

static bool inet_from_opts(SocketAddress *a, const char *host, const ChardevOpts *opts,
                           GError **errp)
{
    const char *port = chardev_opts_get(opts, "port");

    if (!port) {
        error_setg(errp, "chardev: socket: no port given");
        return false;
    }
    if (!socket_family_from_opts(&a->family, opts, errp) ||
        !chardev_opts_get_int(opts, "to", 0, &a->port_to, errp)) {
        return false;
    }
    if (a->port_to > UINT16_MAX) {
        error_setg(errp, "port %" G_GINT64_FORMAT " out of range", a->port_to);
        return false;
    }
    a->host = g_strdup(host);
    a->port = g_strdup(port);
    return true;
}

/* A number is a descriptor that the process has inherited, else it is a name that getfd gave. */
static bool fd_from_opts(SocketAddress *a, const char *text, GError **errp)
{
    bool named = !g_ascii_isdigit(*text);
    gint64 number = -1;
    int fd, type;
    socklen_t len = sizeof(type);

    if (named) {
        fd = named_fd_take(text, errp);
        if (fd < 0) {
            return false;
        }
    } else {
        fd = g_ascii_string_to_signed(text, 10, 0, G_MAXINT, &number, NULL) ? number : -1;
    }
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0) {
        error_setg(errp, "File descriptor '%s' is not a socket", text);
        if (named) {
            close(fd);
        }
        return false;
    }
    a->fd = fd;
    return true;
}

bool socket_address_from_opts(SocketAddress *a, const ChardevOpts *opts, GError **errp)
{
    const char *path = chardev_opts_get(opts, "path");
    const char *host = chardev_opts_get(opts, "host");
    const char *fd = chardev_opts_get(opts, "fd");

    if (!path + !host + !fd != 2) {
        error_setg(errp, "Exactly one of 'path', 'fd' or 'host' option required.");
        return false;
    }
    return path   ? path_from_opts(a, path, opts, errp)
           : host ? inet_from_opts(a, host, opts, errp)
                  : fd_from_opts(a, fd, errp);
}
