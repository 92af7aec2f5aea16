/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Addresses of socket character devices, and sockets made for them.  Folder-private. */
#ifndef MONITOR_CHAR_SOCKET_ADDR_H
#define MONITOR_CHAR_SOCKET_ADDR_H

#include <sys/socket.h>

#include "monitor/chardev-opts.h"

typedef struct SocketAddress {
    char *path;        /* unix, else */
    char *host, *port; /* tcp, else */
    int fd;            /* handed over by the parent process */
    int family;        /* tcp: AF_UNSPEC, AF_INET or AF_INET6 */
    struct sockaddr_storage addr; /* of the last successful connect */
    socklen_t addr_len;
} SocketAddress;

/* From path, host and port, or fd.  false and errp if they do not make one address. */
bool socket_address_from_opts(SocketAddress *a, const ChardevOpts *opts, GError **errp);
void socket_address_clear(SocketAddress *a);
/* "unix:/x" or "tcp:host:port". */
char *socket_address_text(const SocketAddress *a);

/*
 * Returns a listening, non-blocking socket; -1 and errp on failure.  Resolves names
 * synchronously: for start-up only.
 */
int socket_address_listen(SocketAddress *a, GError **errp);
/* Connects and waits for it: for start-up only.  Notes the address that answered. */
int socket_address_connect(SocketAddress *a, GError **errp);
/*
 * Starts to connect to the address that answered last, or resolves it if none has yet.
 * -1 if that is not possible at all; *pending: wait until it is writable.
 */
int socket_address_connect_start(SocketAddress *a, bool *pending);

#endif
