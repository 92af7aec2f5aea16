/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Addresses of sockets, and sockets made for them. */
#ifndef UTIL_SOCKET_ADDRESS_H
#define UTIL_SOCKET_ADDRESS_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>

/* The longest path: an abstract one has a NUL in front, the others have one behind. */
#define SOCKET_PATH_MAX (sizeof(((struct sockaddr_un *)0)->sun_path) - 1)

struct addrinfo;

typedef struct SocketAddress {
    char *path;           /* unix, else */
    bool abstract, tight; /* unix: not in the file system; the name ends with its last character */
    char *host, *port;    /* tcp, else */
    int64_t port_to;      /* tcp: a server takes the first free port up to this one; or 0 */
    int fd;               /* handed over by the parent process or by a client */
    int family;           /* tcp: AF_UNSPEC, AF_INET or AF_INET6 */
    struct sockaddr_storage addr; /* what a client connects to, once it is known */
    socklen_t addr_len;
    unsigned which, n_addrs; /* addr is this one of so many that the name has */
    dev_t dev; /* unix: the file that a server has made */
    ino_t ino;
} SocketAddress;

void socket_address_clear(SocketAddress *a);
/*
 * The family that is left when IPv4 and IPv6 are wanted or not (NULL: nothing was said).  What is not
 * wanted leaves the other one, and so does one alone that is wanted; false and errp if neither is
 * left.
 */
bool socket_family(const bool *ipv4, const bool *ipv6, int *family, GError **errp);
/* Binds fd to addr, which must be known; notes the file that this makes.  0, or -1 and errno. */
int socket_address_bind(SocketAddress *a, int fd);
/* Removes a server's socket file, unless it is another's by now. */
void socket_address_unlink(const SocketAddress *a);
/* "/x", with what makes it abstract, or "host:port", behind "unix:" or the protocol. */
char *socket_address_text(const SocketAddress *a, const char *protocol);
/* The socket's own address or its peer's in numbers, "127.0.0.1:4444"; "" if it has none. */
char *socket_address_of(int fd, bool peer);

/*
 * Addresses of a name (NULL or "": this host's), for freeaddrinfo(); passive: to listen at, or to
 * bind to.  type: SOCK_STREAM or SOCK_DGRAM.  NULL and errp.  Takes time: not in a main loop.
 */
struct addrinfo *socket_address_lookup(const char *host, const char *port, int family, int type,
                                       bool passive, GError **errp);

/*
 * Returns a listening, non-blocking socket; -1 and errp on failure.  Notes the port that it
 * has.  Resolves names: not in a main loop.
 */
int socket_address_listen(SocketAddress *a, GError **errp);
/* Connects and waits for it: not in a main loop.  Notes the address that answered. */
int socket_address_connect(SocketAddress *a, GError **errp);
/*
 * Fills in addr, which is known already but for names: of several it is number a->which.  Names
 * take time: not in a main loop.
 */
bool socket_address_resolve(SocketAddress *a, GError **errp);
/*
 * After a failure: the next of the addresses that a name has is to be resolved.  false: that was
 * the last one, what comes next is the first.
 */
bool socket_address_next(SocketAddress *a);
/* Why connecting failed; the caller owns it. */
GError *socket_address_connect_error(const SocketAddress *a, int error);
/*
 * Starts to connect to addr, which must be known.  -1 and errno if that is not possible at all;
 * *pending: wait until it is writable.
 */
int socket_address_connect_start(SocketAddress *a, bool *pending);

#endif
