/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Unix and TCP addresses: parsing, listening, connecting.  Main thread, at start-up. */
#include <errno.h>
#include <netdb.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "monitor/char-socket-addr.h"
#include "qapi/error.h"

bool socket_address_from_opts(SocketAddress *a, const ChardevOpts *opts, GError **errp)
{
    const char *path = chardev_opts_get(opts, "path");
    const char *host = chardev_opts_get(opts, "host");
    const char *port = chardev_opts_get(opts, "port");
    const char *fd = chardev_opts_get(opts, "fd");
    int64_t number;
    bool ipv4, ipv6;

    memset(a, 0, sizeof(*a));
    a->fd = -1;
    if (!!path + !!host + !!fd != 1) {
        error_setg(errp, "Exactly one of 'path', 'fd' or 'host' option required.");
        return false;
    }
    if (host && !port) {
        error_setg(errp, "chardev: socket: no port given");
        return false;
    }
    if (path && (!*path || strlen(path) >= sizeof(((struct sockaddr_un *)0)->sun_path))) {
        error_setg(errp, *path ? "UNIX socket path '%s' is too long" : "UNIX socket path '%s' is empty",
                   path);
        return false;
    }
    if (!chardev_opts_get_bool(opts, "ipv4", false, &ipv4, errp) ||
        !chardev_opts_get_bool(opts, "ipv6", false, &ipv6, errp)) {
        return false;
    }
    if (fd) {
        int type;
        socklen_t len = sizeof(type);

        if (!chardev_opts_get_int(opts, "fd", -1, &number, errp)) {
            return false;
        }
        a->fd = number;
        if (getsockopt(a->fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0) {
            error_setg(errp, "File descriptor '%s' is not a socket", fd);
            return false;
        }
    }
    a->family = ipv4 == ipv6 ? AF_UNSPEC : ipv4 ? AF_INET : AF_INET6;
    a->path = g_strdup(path);
    a->host = g_strdup(host);
    a->port = g_strdup(port);
    return true;
}

void socket_address_clear(SocketAddress *a)
{
    g_free(a->path);
    g_free(a->host);
    g_free(a->port);
    memset(a, 0, sizeof(*a));
    a->fd = -1;
}

char *socket_address_text(const SocketAddress *a)
{
    if (a->path) {
        return g_strdup_printf("unix:%s", a->path);
    }
    if (a->host) {
        return g_strdup_printf(strchr(a->host, ':') ? "tcp:[%s]:%s" : "tcp:%s:%s", a->host,
                               a->port);
    }
    return g_strdup_printf("fd:%d", a->fd);
}

static void set_unix(SocketAddress *a)
{
    struct sockaddr_un *un = (struct sockaddr_un *)&a->addr;

    memset(un, 0, sizeof(*un));
    un->sun_family = AF_UNIX;
    memcpy(un->sun_path, a->path, strlen(a->path));
    a->addr_len = sizeof(*un);
}

static struct addrinfo *resolve(const SocketAddress *a, bool passive, GError **errp)
{
    struct addrinfo hints = {.ai_family = a->family, .ai_socktype = SOCK_STREAM};
    struct addrinfo *res = NULL;
    int ret;

    hints.ai_flags = passive ? AI_PASSIVE : 0;
    ret = getaddrinfo(*a->host ? a->host : NULL, a->port, &hints, &res);
    if (ret) {
        error_setg(errp, "address resolution failed for %s:%s: %s", a->host, a->port,
                   gai_strerror(ret));
        return NULL;
    }
    return res;
}

static int new_socket(int family, int flags)
{
    return socket(family, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
}

static int listen_unix(SocketAddress *a, GError **errp)
{
    int fd = new_socket(AF_UNIX, SOCK_NONBLOCK);

    set_unix(a);
    if (fd < 0) {
        error_setg_errno(errp, errno, "Failed to create Unix socket");
        return -1;
    }
    if ((unlink(a->path) < 0 && errno != ENOENT) ||
        bind(fd, (struct sockaddr *)&a->addr, a->addr_len) < 0) {
        error_setg_errno(errp, errno, "Failed to bind socket to %s", a->path);
        close(fd);
        return -1;
    }
    if (listen(fd, SOMAXCONN) < 0) {
        error_setg_errno(errp, errno, "Failed to listen on socket");
        unlink(a->path);
        close(fd);
        return -1;
    }
    return fd;
}

static int listen_tcp(SocketAddress *a, GError **errp)
{
    struct addrinfo *list = resolve(a, true, errp);
    int fd = -1, saved = 0, one = 1;

    if (!list) {
        return -1;
    }
    for (struct addrinfo *e = list; e && fd < 0; e = e->ai_next) {
        fd = new_socket(e->ai_family, SOCK_NONBLOCK);
        if (fd < 0) {
            saved = errno;
            continue;
        }
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
        if (bind(fd, e->ai_addr, e->ai_addrlen) < 0 || listen(fd, SOMAXCONN) < 0) {
            saved = errno;
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(list);
    if (fd < 0) {
        error_setg_errno(errp, saved, "Failed to find an available port");
    }
    return fd;
}

int socket_address_listen(SocketAddress *a, GError **errp)
{
    if (a->path) {
        return listen_unix(a, errp);
    }
    return a->host ? listen_tcp(a, errp) : a->fd;
}

static int connect_waiting(int fd, const struct sockaddr *addr, socklen_t len)
{
    int ret;

    do {
        ret = connect(fd, addr, len);
    } while (ret < 0 && errno == EINTR);
    return ret;
}

int socket_address_connect(SocketAddress *a, GError **errp)
{
    struct addrinfo *list = NULL;
    int fd = -1, saved = 0;

    if (a->fd >= 0) {
        return a->fd;
    }
    if (a->path) {
        set_unix(a);
        fd = new_socket(AF_UNIX, 0);
        if (fd < 0 || connect_waiting(fd, (struct sockaddr *)&a->addr, a->addr_len) < 0) {
            error_setg_errno(errp, errno, "Failed to connect to '%s'", a->path);
            if (fd >= 0) {
                close(fd);
            }
            return -1;
        }
        return fd;
    }
    list = resolve(a, false, errp);
    if (!list) {
        return -1;
    }
    for (struct addrinfo *e = list; e && fd < 0; e = e->ai_next) {
        fd = new_socket(e->ai_family, 0);
        if (fd < 0 || connect_waiting(fd, e->ai_addr, e->ai_addrlen) < 0) {
            saved = errno;
            if (fd >= 0) {
                close(fd);
            }
            fd = -1;
            continue;
        }
        memcpy(&a->addr, e->ai_addr, e->ai_addrlen);
        a->addr_len = e->ai_addrlen;
    }
    freeaddrinfo(list);
    if (fd < 0) {
        error_setg_errno(errp, saved, "Failed to connect to '%s:%s'", a->host, a->port);
    }
    return fd;
}

int socket_address_connect_start(SocketAddress *a, bool *pending)
{
    int fd;

    *pending = false;
    if (a->path) {
        set_unix(a);
    } else if (!a->addr_len) {
        struct addrinfo *list = resolve(a, false, NULL);

        if (!list) {
            return -1;
        }
        memcpy(&a->addr, list->ai_addr, list->ai_addrlen);
        a->addr_len = list->ai_addrlen;
        freeaddrinfo(list);
    }
    fd = new_socket(a->addr.ss_family, SOCK_NONBLOCK);
    if (fd < 0) {
        return -1;
    }
    if (connect(fd, (struct sockaddr *)&a->addr, a->addr_len) < 0) {
        if (errno != EINPROGRESS) {
            close(fd);
            return -1;
        }
        *pending = true;
    }
    return fd;
}
