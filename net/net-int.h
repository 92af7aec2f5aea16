/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of this folder share. */
#ifndef NET_NET_INT_H
#define NET_NET_INT_H

#include <slirp/libslirp.h>
#include "net/net.h"
#include "util/socket-address.h"

/* What the options say, as libslirp takes it.  Strings are the copy's. */
typedef struct UserConfig {
    NetdevUserOptions *options; /* a copy, which owns what slirp points to */
    SlirpConfig slirp;
    const char **dnssearch;
} UserConfig;

/* NULL and errp, in QEMU's words, if the options are no good. */
UserConfig *user_config_new(const NetdevUserOptions *options, GError **errp);
void user_config_free(UserConfig *c);
/* "net=10.0.2.0,restrict=off", a new string. */
char *user_config_text(const UserConfig *c);

/* A port of the host's that leads to the guest. */
typedef struct HostForward {
    bool is_udp;
    struct in_addr host_addr, guest_addr; /* guest_addr 0: the first that DHCP gives */
    int host_port, guest_port;            /* guest_port 0: a rule to be removed */
} HostForward;

/* "tcp::5555-:22"; false and errp. */
bool host_forward_parse(const char *rule, HostForward *f, GError **errp);
/* The same without the part behind '-'; false if it is not well formed. */
bool host_forward_parse_host(const char *rule, HostForward *f);

/* Ends what announce-self has begun.  Main thread, once net_end() was called. */
void coroutine_fn net_co_end_announcing(void);

/* --- Of a backend: the network thread ------------------------------------------------------ */

bool net_client_is_user(const NetClient *nc);
bool net_user_forward(NetClient *nc, const char *rule, GError **errp);
/* Whether there was such a one. */
bool net_user_remove_forward(NetClient *nc, const HostForward *f);
/* libslirp's table of connections, a new string. */
char *net_user_connections(NetClient *nc);

/* --- address.c: main thread ------------------------------------------------------------------- */

/* Fills in a, whose fd is -1; a descriptor by name is taken from getfd's.  false and errp. */
bool net_socket_address(SocketAddress *a, const NetSocketAddress *said, GError **errp);
/* Whether fd is a socket of that type, SOCK_STREAM or SOCK_DGRAM; false and errp. */
bool net_socket_is(int fd, int type, GError **errp);

/* --- Kinds of backends: main thread ----------------------------------------------------------- */

bool coroutine_fn net_user_co_new(const char *id, const NetdevUserOptions *options, GError **errp);
bool coroutine_fn net_dgram_co_new(const char *id, const NetdevDgramOptions *options,
                                   GError **errp);
bool coroutine_fn net_stream_co_new(const char *id, const NetdevStreamOptions *options,
                                    GError **errp);

#endif
