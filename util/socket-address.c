/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Unix and TCP addresses: listening, connecting.  At start in the main thread, later in a worker,
 * but for connecting to an address that is known.
 */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "util/errno-text.h"
#include "util/socket-address.h"

#define SOCKET_ERROR (g_quark_from_static_string("socket"))

G_GNUC_PRINTF(3, 4)
static void fail(GError **errp, int errnum, const char *format, ...)
{
    g_autofree char *text = NULL;
    va_list ap;

    va_start(ap, format);
    text = g_strdup_vprintf(format, ap);
    va_end(ap);
    g_set_error(errp, SOCKET_ERROR, 0, "%s: %s", text, errno_text(errnum));
}

void socket_address_clear(SocketAddress *a)
{
    g_free(a->path);
    g_free(a->host);
    g_free(a->port);
    memset(a, 0, sizeof(*a));
    a->fd = -1;
}

bool socket_family(const bool *ipv4, const bool *ipv6, int *family, GError **errp)
{
    bool may4 = ipv4 ? *ipv4 : !ipv6 || !*ipv6, may6 = ipv6 ? *ipv6 : !ipv4 || !*ipv4;

    if (!may4 && !may6) {
        g_set_error_literal(errp, SOCKET_ERROR, 0, "Cannot disable IPv4 and IPv6 at same time");
        return false;
    }
    *family = may4 && may6 ? AF_UNSPEC : may4 ? AF_INET : AF_INET6;
    return true;
}

void socket_address_unlink(const SocketAddress *a)
{
    struct stat st;

    if (a->path && !a->abstract && !stat(a->path, &st) && st.st_dev == a->dev &&
        st.st_ino == a->ino) {
        unlink(a->path);
    }
}

char *socket_address_of(int fd, bool peer)
{
    struct sockaddr_storage addr = {0};
    socklen_t len = sizeof(addr);
    char host[64], port[8];

    if (peer ? getpeername(fd, (struct sockaddr *)&addr, &len)
             : getsockname(fd, (struct sockaddr *)&addr, &len)) {
        return g_strdup("");
    }
    if (addr.ss_family == AF_UNIX) {
        const struct sockaddr_un *un = (struct sockaddr_un *)&addr;

        return g_strndup(un->sun_path, len - offsetof(struct sockaddr_un, sun_path));
    }
    if (getnameinfo((struct sockaddr *)&addr, len, host, sizeof(host), port, sizeof(port),
                    NI_NUMERICHOST | NI_NUMERICSERV)) {
        return g_strdup("");
    }
    return g_strdup_printf(strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
}

static bool is_unix(int fd)
{
    struct sockaddr_storage addr = {0};
    socklen_t len = sizeof(addr);

    return !getsockname(fd, (struct sockaddr *)&addr, &len) && addr.ss_family == AF_UNIX;
}

char *socket_address_text(const SocketAddress *a, const char *protocol)
{
    g_autofree char *own = NULL;

    if (a->path) {
        return g_strdup_printf("unix:%s%s", a->path,
                               !a->abstract ? "" : a->tight ? ",abstract=on,tight=on" : ",abstract=on");
    }
    if (a->host) {
        return g_strdup_printf(strchr(a->host, ':') ? "%s:[%s]:%s" : "%s:%s:%s", protocol, a->host,
                               a->port);
    }
    own = socket_address_of(a->fd, false);
    return g_strconcat(is_unix(a->fd) ? "unix" : protocol, ":", own, NULL);
}

static void set_unix(SocketAddress *a)
{
    struct sockaddr_un *un = (struct sockaddr_un *)&a->addr;

    memset(un, 0, sizeof(*un));
    un->sun_family = AF_UNIX;
    memcpy(un->sun_path + a->abstract, a->path, strlen(a->path));
    a->addr_len = sizeof(*un);
    if (a->abstract && a->tight) {
        a->addr_len = offsetof(struct sockaddr_un, sun_path) + 1 + strlen(a->path);
    }
}

struct addrinfo *socket_address_lookup(const char *host, const char *port, int family, int type,
                                       bool passive, GError **errp)
{
    struct addrinfo hints = {.ai_family = family, .ai_socktype = type,
                             .ai_flags = passive ? AI_PASSIVE : 0};
    struct addrinfo *res = NULL;
    int ret = getaddrinfo(host && *host ? host : NULL, port, &hints, &res);

    if (ret) {
        g_set_error(errp, SOCKET_ERROR, 0, "address resolution failed for %s:%s: %s",
                    host ? host : "", port, gai_strerror(ret));
        return NULL;
    }
    return res;
}

static struct addrinfo *resolve(const SocketAddress *a, bool passive, GError **errp)
{
    return socket_address_lookup(a->host, a->port, a->family, SOCK_STREAM, passive, errp);
}

static int new_socket(int family, int flags)
{
    return socket(family, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
}

int socket_address_bind(SocketAddress *a, int fd)
{
    int ret = bind(fd, (struct sockaddr *)&a->addr, a->addr_len);
    struct stat st;

    if (ret == 0 && a->path && !a->abstract && !stat(a->path, &st)) {
        a->dev = st.st_dev;
        a->ino = st.st_ino;
    }
    return ret;
}

static int listen_unix(SocketAddress *a, GError **errp)
{
    int fd = new_socket(AF_UNIX, SOCK_NONBLOCK);

    set_unix(a);
    if (fd < 0) {
        fail(errp, errno, "Failed to create Unix socket");
        return -1;
    }
    if ((!a->abstract && unlink(a->path) < 0 && errno != ENOENT) ||
        socket_address_bind(a, fd) < 0) {
        fail(errp, errno, "Failed to bind socket to %s", a->path);
        close(fd);
        return -1;
    }
    if (listen(fd, SOMAXCONN) < 0) {
        fail(errp, errno, "Failed to listen on socket");
        socket_address_unlink(a);
        close(fd);
        return -1;
    }
    return fd;
}

/* A listening socket at the address with the given port; -1 and errno. */
static int listen_at(const struct addrinfo *e, int port)
{
    struct sockaddr_storage addr = {0};
    int fd = new_socket(e->ai_family, SOCK_NONBLOCK), one = 1, saved;

    if (fd < 0) {
        return -1;
    }
    memcpy(&addr, e->ai_addr, e->ai_addrlen);
    if (e->ai_family == AF_INET6) {
        ((struct sockaddr_in6 *)&addr)->sin6_port = htons(port);
    } else {
        ((struct sockaddr_in *)&addr)->sin_port = htons(port);
    }
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (!bind(fd, (struct sockaddr *)&addr, e->ai_addrlen) && !listen(fd, SOMAXCONN)) {
        return fd;
    }
    saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

static int port_of(const struct sockaddr *addr)
{
    return ntohs(addr->sa_family == AF_INET6 ? ((const struct sockaddr_in6 *)addr)->sin6_port
                                             : ((const struct sockaddr_in *)addr)->sin_port);
}

/* Port 0 is any that is free. */
static void note_port(SocketAddress *a, int fd)
{
    struct sockaddr_storage addr;
    socklen_t len = sizeof(addr);

    if (!getsockname(fd, (struct sockaddr *)&addr, &len)) {
        g_free(a->port);
        a->port = g_strdup_printf("%d", port_of((struct sockaddr *)&addr));
    }
}

static int listen_tcp(SocketAddress *a, GError **errp)
{
    struct addrinfo *list = resolve(a, true, errp);
    int fd = -1, saved = 0;

    for (struct addrinfo *e = list; e && fd < 0; e = e->ai_next) {
        int port = port_of(e->ai_addr);

        do {
            fd = listen_at(e, port);
            saved = errno;
        } while (fd < 0 && saved == EADDRINUSE && port++ < a->port_to);
    }
    if (!list) {
        return -1;
    }
    freeaddrinfo(list);
    if (fd < 0) {
        fail(errp, saved, "Failed to find an available port");
    } else {
        note_port(a, fd);
    }
    return fd;
}

int socket_address_listen(SocketAddress *a, GError **errp)
{
    if (a->path) {
        return listen_unix(a, errp);
    }
    if (a->host) {
        return listen_tcp(a, errp);
    }
    fcntl(a->fd, F_SETFL, fcntl(a->fd, F_GETFL) | O_NONBLOCK);
    return a->fd;
}

static int connect_waiting(int fd, const struct sockaddr *addr, socklen_t len)
{
    int ret;

    do {
        ret = connect(fd, addr, len);
    } while (ret < 0 && errno == EINTR);
    return ret;
}

GError *socket_address_connect_error(const SocketAddress *a, int error)
{
    GError *err = NULL;

    if (a->path) {
        fail(&err, error, "Failed to connect to '%s'", a->path);
    } else {
        fail(&err, error, "Failed to connect to '%s:%s'", a->host, a->port);
    }
    return err;
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
            g_propagate_error(errp, socket_address_connect_error(a, errno));
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
        g_propagate_error(errp, socket_address_connect_error(a, saved));
    }
    return fd;
}

bool socket_address_resolve(SocketAddress *a, GError **errp)
{
    struct addrinfo *list, *chosen;
    unsigned n = 0;

    if (a->path) {
        set_unix(a);
        return true;
    }
    list = chosen = resolve(a, false, errp);
    if (!list) {
        return false;
    }
    for (struct addrinfo *e = list; e; e = e->ai_next, n++) {
        chosen = n == a->which ? e : chosen;
    }
    a->n_addrs = n;
    memcpy(&a->addr, chosen->ai_addr, chosen->ai_addrlen);
    a->addr_len = chosen->ai_addrlen;
    freeaddrinfo(list);
    return true;
}

bool socket_address_next(SocketAddress *a)
{
    if (!a->host) {
        return false;
    }
    a->addr_len = 0;
    a->which = a->which + 1 < a->n_addrs ? a->which + 1 : 0;
    return a->which > 0;
}

int socket_address_connect_start(SocketAddress *a, bool *pending)
{
    int fd = new_socket(a->addr.ss_family, SOCK_NONBLOCK);

    *pending = false;
    if (fd < 0) {
        return -1;
    }
    if (connect(fd, (struct sockaddr *)&a->addr, a->addr_len) < 0) {
        int saved = errno;

        if (saved != EINPROGRESS) {
            close(fd);
            errno = saved;
            return -1;
        }
        *pending = true;
    }
    return fd;
}
