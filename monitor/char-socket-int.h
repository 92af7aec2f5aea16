/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of socket character devices share. */
#ifndef MONITOR_CHAR_SOCKET_INT_H
#define MONITOR_CHAR_SOCKET_INT_H

#include "monitor/chardev-opts.h"
#include "util/socket-address.h"

/*
 * From path, host and port, or fd.  false and errp if they do not make one address.  A
 * descriptor by name is taken from getfd's.
 */
bool socket_address_from_opts(SocketAddress *a, const ChardevOpts *opts, GError **errp);
/* AF_INET or AF_INET6 if one of the options ipv4 and ipv6 is on, else AF_UNSPEC.  false and errp. */
bool socket_family_from_opts(int *family, const ChardevOpts *opts, GError **errp);

#endif
