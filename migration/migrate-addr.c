/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where a migration leads: the short form ("tcp:host:port") and the structured one, checked
 * and turned into one MigrationAddress.  Pure functions, any thread.
 */
#include <string.h>
#include <sys/un.h>
#include "migrate-int.h"
#include "qapi/error.h"
#include "qapi/qapi-visit-migrate.h"
#include "qapi/util.h"

typedef bool ParseRest(MigrationAddress *a, const char *rest, GError **errp);

static bool bad_address(const char *text, GError **errp)
{
    error_setg(errp, "error parsing address '%s'", text);
    return false;
}

/* HOST:PORT[,ipv4=on|off][,ipv6=on|off]; a HOST with colons is in brackets. */
static bool parse_tcp(MigrationAddress *a, const char *rest, GError **errp)
{
    const char *comma = strchr(rest, ',');
    g_autofree char *plain = comma ? g_strndup(rest, comma - rest) : g_strdup(rest);
    const char *host = plain;
    char *end = *plain == '[' ? strstr(plain, "]:") : strchr(plain, ':');
    InetSocketAddress *inet = &a->u.socket.u.inet;

    a->transport = MIGRATION_ADDRESS_TYPE_SOCKET;
    a->u.socket.type = MIGRATION_SOCKET_TYPE_INET;
    if (!end) {
        return bad_address(rest, errp);
    }
    if (*plain == '[') {
        host++;
        *end++ = 0;
    }
    *end = 0;
    if (!end[1]) {
        return bad_address(rest, errp);
    }
    inet->host = g_strdup(host);
    inet->port = g_strdup(end + 1);
    if (comma) {
        g_auto(GStrv) options = g_strsplit(comma + 1, ",", -1);

        for (char **o = options; *o; o++) {
            char *value = strchr(*o, '=');
            bool ipv4, on = true;

            if (value) {
                *value++ = 0;
            }
            ipv4 = !strcmp(*o, "ipv4");
            if (!ipv4 && strcmp(*o, "ipv6")) {
                error_setg(errp, "Invalid parameter '%s' in address '%s'", *o, rest);
                return false;
            }
            if (value && !qapi_parse_bool(value, &on)) {
                return bad_address(rest, errp);
            }
            *(ipv4 ? &inet->has_ipv4 : &inet->has_ipv6) = true;
            *(ipv4 ? &inet->ipv4 : &inet->ipv6) = on;
        }
    }
    return true;
}

static bool parse_unix(MigrationAddress *a, const char *rest, GError **errp)
{
    a->transport = MIGRATION_ADDRESS_TYPE_SOCKET;
    a->u.socket.type = MIGRATION_SOCKET_TYPE_UNIX;
    a->u.socket.u.q_unix.path = g_strdup(rest);
    return true;
}

static bool parse_fd(MigrationAddress *a, const char *rest, GError **errp)
{
    a->transport = MIGRATION_ADDRESS_TYPE_SOCKET;
    a->u.socket.type = MIGRATION_SOCKET_TYPE_FD;
    a->u.socket.u.fd.str = g_strdup(rest);
    return true;
}

static bool parse_exec(MigrationAddress *a, const char *rest, GError **errp)
{
    strList **tail = &a->u.exec.args;

    a->transport = MIGRATION_ADDRESS_TYPE_EXEC;
    QAPI_LIST_APPEND(tail, g_strdup("/bin/sh"));
    QAPI_LIST_APPEND(tail, g_strdup("-c"));
    QAPI_LIST_APPEND(tail, g_strdup(rest));
    return true;
}

static bool parse_file(MigrationAddress *a, const char *rest, GError **errp)
{
    const char *option = strstr(rest, ",offset=");

    a->transport = MIGRATION_ADDRESS_TYPE_FILE;
    a->u.file.filename = option ? g_strndup(rest, option - rest) : g_strdup(rest);
    if (option) {
        a->u.file.has_offset = true;
        if (!qapi_parse_size(option + strlen(",offset="), &a->u.file.offset)) {
            error_setg(errp, "file URI has bad offset '%s'", option + strlen(",offset="));
            return false;
        }
    }
    return true;
}

static bool parse_snapshot(MigrationAddress *a, const char *rest, GError **errp)
{
    SnapshotMigrationArgs *args = qapi_SnapshotMigrationArgs_from_str(rest, NULL, errp);

    a->transport = MIGRATION_ADDRESS_TYPE_SNAPSHOT;
    if (!args) {
        return false;
    }
    a->u.snapshot = *args;
    g_free(args);
    return true;
}

static bool check_unix(const char *path, GError **errp)
{
    if (!*path) {
        error_setg(errp, "invalid Unix socket address");
        return false;
    }
    if (strlen(path) >= sizeof(((struct sockaddr_un *)0)->sun_path)) {
        error_setg(errp, "UNIX socket path '%s' is too long", path);
        return false;
    }
    return true;
}

/* What both forms must fulfil. */
static bool check(const MigrationAddress *a, GError **errp)
{
    switch (a->transport) {
    case MIGRATION_ADDRESS_TYPE_SOCKET:
        if (a->u.socket.type == MIGRATION_SOCKET_TYPE_UNIX) {
            return check_unix(a->u.socket.u.q_unix.path, errp);
        }
        return true;
    case MIGRATION_ADDRESS_TYPE_EXEC:
        if (!a->u.exec.args || !*a->u.exec.args->value) {
            error_setg(errp, "Parameter 'args' expects a program");
            return false;
        }
        return true;
    case MIGRATION_ADDRESS_TYPE_FILE:
        if (!*a->u.file.filename) {
            error_setg(errp, "file URI has no file name");
            return false;
        }
        if (a->u.file.offset > INT64_MAX / 2) {
            error_setg(errp, "file URI has bad offset '%" PRIu64 "'", a->u.file.offset);
            return false;
        }
        return true;
    default:
        return true;
    }
}

MigrationAddress *migrate_addr_parse(const char *uri, bool incoming, GError **errp)
{
    static const struct {
        const char *prefix;
        ParseRest *parse;
    } forms[] = {
        {"tcp:", parse_tcp},   {"unix:", parse_unix}, {"fd:", parse_fd},
        {"exec:", parse_exec}, {"file:", parse_file}, {"snapshot:", parse_snapshot},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(forms); i++) {
        MigrationAddress *a;

        if (!g_str_has_prefix(uri, forms[i].prefix)) {
            continue;
        }
        a = g_new0(MigrationAddress, 1);
        if (!forms[i].parse(a, uri + strlen(forms[i].prefix), errp) || !check(a, errp)) {
            qapi_free_MigrationAddress(a);
            return NULL;
        }
        return a;
    }
    if (incoming) {
        error_setg(errp, "unknown migration protocol: %s", uri);
    } else {
        error_setg(errp, "Parameter 'uri' expects a valid migration protocol");
    }
    return NULL;
}

MigrationAddress *migrate_addr_choose(const char *uri, const MigrationChannelList *channels,
                                      bool incoming, GError **errp)
{
    if (uri && channels) {
        error_setg(errp, "'uri' and 'channels' arguments are mutually exclusive; exactly one of "
                         "the two should be present in 'migrate' qmp command");
        return NULL;
    }
    if (uri) {
        return migrate_addr_parse(uri, incoming, errp);
    }
    if (!channels) {
        error_setg(errp, "neither 'uri' or 'channels' argument are specified in 'migrate' qmp "
                         "command");
        return NULL;
    }
    if (channels->next) {
        error_setg(errp, "Channel list must have only one entry, for type 'main'");
        return NULL;
    }
    return check(channels->value->addr, errp) ? qapi_MigrationAddress_clone(channels->value->addr)
                                              : NULL;
}

MigrationAddress *migrate_addr_from_option(const char *text, GError **errp)
{
    MigrationAddress *a = NULL;
    MigrationChannel *channel;

    if (*text != '{') {
        return migrate_addr_parse(text, true, errp);
    }
    channel = qapi_MigrationChannel_from_str(text, NULL, errp);
    if (channel && check(channel->addr, errp)) {
        a = g_steal_pointer(&channel->addr);
    }
    qapi_free_MigrationChannel(channel);
    return a;
}
