/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the options of the backend "user" mean: addresses of a network that exists between this
 * process and the guest only, and ports of the host's that lead into it.  Main thread; forwarding
 * rules: any thread.
 */
#include <string.h>
#include "qapi/error.h"
#include "qapi/qapi-visit-net.h"
#include "qapi/util.h"
#include "net-int.h"

/* libslirp's version of the structure that is filled in here. */
#define CONFIG_VERSION 3

/* --- IPv4 -------------------------------------------------------------------------------------- */

static bool parse_ipv4(const char *text, struct in_addr *a)
{
    return inet_pton(AF_INET, text, a) == 1;
}

/* As networks were divided before masks were told, in host order. */
static uint32_t mask_of_class(uint32_t net)
{
    return !(net & 0x80000000)                ? 0xff000000
           : (net & 0xfffe0000) == 0xc6120000 ? 0xfffe0000 /* for benchmarks: RFC 2544 */
           : (net & 0xffff0000) == 0xc0a80000 ? 0xffff0000 /* private: RFC 1918 */
           : !(net & 0x40000000)              ? 0xffff0000
                                              : 0xffffff00;
}

static bool parse_mask(const char *text, struct in_addr *mask, GError **errp)
{
    char *end;
    guint64 bits = g_ascii_strtoull(text, &end, 10);

    if (parse_ipv4(text, mask)) {
        return true;
    }
    if (*end) {
        error_setg(errp, "Failed to parse netmask (trailing chars)");
        return false;
    }
    if (end == text || bits < 4 || bits > 32) {
        error_setg(errp, "Invalid netmask provided (must be in range 4-32)");
        return false;
    }
    mask->s_addr = htonl(UINT32_MAX << (32 - bits));
    return true;
}

static bool parse_net(const char *text, SlirpConfig *s, GError **errp)
{
    g_auto(GStrv) parts = g_strsplit(text, "/", 2);

    if (!parts[0] || !parse_ipv4(parts[0], &s->vnetwork)) {
        error_setg(errp, "Failed to parse netmask");
        return false;
    }
    s->vnetmask.s_addr = htonl(mask_of_class(ntohl(s->vnetwork.s_addr)));
    if (parts[1] && !parse_mask(parts[1], &s->vnetmask, errp)) {
        return false;
    }
    s->vnetwork.s_addr &= s->vnetmask.s_addr;
    return true;
}

/* Address number n of the network. */
static struct in_addr in_net(const SlirpConfig *s, uint32_t n)
{
    return (struct in_addr){s->vnetwork.s_addr | (htonl(n) & ~s->vnetmask.s_addr)};
}

static bool in_same_net(const SlirpConfig *s, struct in_addr a)
{
    return (a.s_addr & s->vnetmask.s_addr) == s->vnetwork.s_addr;
}

static bool configure_ipv4(const NetdevUserOptions *o, SlirpConfig *s, GError **errp)
{
    if (!parse_net(o->net ? o->net : "10.0.2.0/24", s, errp)) {
        return false;
    }
    s->vhost = in_net(s, 0x0202);
    s->vnameserver = in_net(s, 0x0203);
    s->vdhcp_start = in_net(s, 0x020f);
    if (o->host && !parse_ipv4(o->host, &s->vhost)) {
        error_setg(errp, "Failed to parse host");
    } else if (!in_same_net(s, s->vhost)) {
        error_setg(errp, "Host doesn't belong to network");
    } else if (o->dns && !parse_ipv4(o->dns, &s->vnameserver)) {
        error_setg(errp, "Failed to parse DNS");
    } else if (s->vnameserver.s_addr == s->vhost.s_addr) {
        error_setg(errp, "DNS must be different from host");
    } else if (o->dhcpstart && !parse_ipv4(o->dhcpstart, &s->vdhcp_start)) {
        error_setg(errp, "Failed to parse DHCP start address");
    } else if (!in_same_net(s, s->vdhcp_start)) {
        error_setg(errp, "DHCP doesn't belong to network");
    } else if (s->vdhcp_start.s_addr == s->vhost.s_addr ||
               s->vdhcp_start.s_addr == s->vnameserver.s_addr) {
        error_setg(errp, "DHCP must be different from host and DNS");
    } else {
        return true;
    }
    return false;
}

/* --- IPv6 -------------------------------------------------------------------------------------- */

static bool parse_ipv6(const char *text, struct in6_addr *a)
{
    return inet_pton(AF_INET6, text, a) == 1;
}

static bool in_prefix(const SlirpConfig *s, const struct in6_addr *a)
{
    for (int bit = 0; bit < s->vprefix_len; bit++) {
        if ((s->vprefix_addr6.s6_addr[bit / 8] ^ a->s6_addr[bit / 8]) & 0x80 >> bit % 8) {
            return false;
        }
    }
    return true;
}

static bool configure_ipv6(const NetdevUserOptions *o, SlirpConfig *s, GError **errp)
{
    int64_t length = o->has_ipv6_prefixlen ? o->ipv6_prefixlen : 64;

    if (!parse_ipv6(o->ipv6_prefix ? o->ipv6_prefix : "fec0::", &s->vprefix_addr6)) {
        error_setg(errp, "Failed to parse IPv6 prefix");
        return false;
    }
    if (length < 0 || length > 126) {
        error_setg(errp, "Invalid IPv6 prefix provided "
                         "(IPv6 prefix length must be between 0 and 126)");
        return false;
    }
    s->vprefix_len = length;
    s->vhost6 = s->vnameserver6 = s->vprefix_addr6;
    s->vhost6.s6_addr[15] |= 2;
    s->vnameserver6.s6_addr[15] |= 3;
    if (o->ipv6_host && !parse_ipv6(o->ipv6_host, &s->vhost6)) {
        error_setg(errp, "Failed to parse IPv6 host");
    } else if (!in_prefix(s, &s->vhost6)) {
        error_setg(errp, "IPv6 Host doesn't belong to network");
    } else if (o->ipv6_dns && !parse_ipv6(o->ipv6_dns, &s->vnameserver6)) {
        error_setg(errp, "Failed to parse IPv6 DNS");
    } else {
        return true;
    }
    return false;
}

/* --- The rest ------------------------------------------------------------------------------------ */

/* What DHCP and BOOTP have room for. */
static bool check_texts(const NetdevUserOptions *o, GError **errp)
{
    const struct {
        const char *name, *text;
        size_t max;
    } texts[] = {
        {"bootfile", o->bootfile, 127},
        {"tftp-server-name", o->tftp_server_name, 255},
        {"domainname", o->domainname, 255},
        {"hostname", o->hostname, 255},
    };

    if (o->smb || o->smbserver || o->guestfwd) {
        error_setg(errp, "'%s' is not supported",
                   o->guestfwd ? "guestfwd" : o->smb ? "smb" : "smbserver");
        return false;
    }
    if (o->domainname && !*o->domainname) {
        error_setg(errp, "'domainname' parameter cannot be empty");
        return false;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        if (texts[i].text && strlen(texts[i].text) > texts[i].max) {
            error_setg(errp, "'%s' parameter cannot exceed %zu bytes", texts[i].name,
                       texts[i].max);
            return false;
        }
    }
    return true;
}

static bool fill_config(UserConfig *c, GError **errp)
{
    NetdevUserOptions *o = c->options;
    SlirpConfig *s = &c->slirp;
    size_t n = QAPI_LIST_LENGTH(o->dnssearch);

    s->version = CONFIG_VERSION;
    s->restricted = o->has_restrict && o->q_restrict;
    s->in_enabled = !o->has_ipv4 || o->ipv4;
    s->in6_enabled = !o->has_ipv6 || o->ipv6;
    s->vhostname = o->hostname;
    s->tftp_server_name = o->tftp_server_name;
    s->tftp_path = o->tftp;
    s->bootfile = o->bootfile;
    s->vdomainname = o->domainname;
    if (n) {
        c->dnssearch = g_new0(const char *, n + 1);
        n = 0;
        for (NetStringList *e = o->dnssearch; e; e = e->next) {
            c->dnssearch[n++] = e->value->str;
        }
        s->vdnssearch = c->dnssearch;
    }
    if (!s->in_enabled && !s->in6_enabled) {
        error_setg(errp, "IPv4 and IPv6 disabled");
        return false;
    }
    return check_texts(o, errp) && configure_ipv4(o, s, errp) && configure_ipv6(o, s, errp);
}

UserConfig *user_config_new(const NetdevUserOptions *options, GError **errp)
{
    UserConfig *c = g_new0(UserConfig, 1);

    c->options = qapi_NetdevUserOptions_clone(options);
    if (!fill_config(c, errp)) {
        user_config_free(c);
        return NULL;
    }
    return c;
}

void user_config_free(UserConfig *c)
{
    if (c) {
        qapi_free_NetdevUserOptions(c->options);
        g_free(c->dnssearch);
        g_free(c);
    }
}

char *user_config_text(const UserConfig *c)
{
    char net[INET_ADDRSTRLEN];

    inet_ntop(AF_INET, &c->slirp.vnetwork, net, sizeof(net));
    return g_strdup_printf("net=%s,restrict=%s", net, c->slirp.restricted ? "on" : "off");
}

/* --- Forwarding rules ------------------------------------------------------------------------------ */

/* Cuts off what stands before the separator; NULL: there is none. */
static char *take(const char **rest, char separator)
{
    const char *at = strchr(*rest, separator);
    char *part = at ? g_strndup(*rest, at - *rest) : NULL;

    *rest = at ? at + 1 : *rest;
    return part;
}

/* An empty text leaves *a. */
static bool parse_optional(const char *text, struct in_addr *a)
{
    return !*text || parse_ipv4(text, a);
}

static bool parse_port(const char *text, int least, int *port)
{
    guint64 value = 0;

    if (*text && !g_ascii_string_to_unsigned(text, 10, 0, UINT16_MAX, &value, NULL)) {
        return false;
    }
    *port = value;
    return *port >= least;
}

/* What is wrong up to the port, which is left in *rest; NULL: nothing. */
static const char *parse_front(const char **rest, HostForward *f)
{
    g_autofree char *protocol = take(rest, ':');
    g_autofree char *address = NULL;

    *f = (HostForward){.host_addr.s_addr = INADDR_ANY};
    if (!protocol) {
        return "No : separators";
    }
    f->is_udp = !strcmp(protocol, "udp");
    if (*protocol && !f->is_udp && strcmp(protocol, "tcp")) {
        return "Bad protocol name";
    }
    address = take(rest, ':');
    return !address                                   ? "Missing : separator"
           : !parse_optional(address, &f->host_addr) ? "Bad host address"
                                                      : NULL;
}

static const char *parse_back(const char *rest, HostForward *f)
{
    g_autofree char *host_port = take(&rest, '-');
    g_autofree char *address = NULL;

    if (!host_port) {
        return "Bad host port separator";
    }
    if (!parse_port(host_port, 0, &f->host_port)) {
        return "Bad host port";
    }
    address = take(&rest, ':');
    if (!address) {
        return "Missing guest address";
    }
    if (!parse_optional(address, &f->guest_addr)) {
        return "Bad guest address";
    }
    return parse_port(rest, 1, &f->guest_port) ? NULL : "Bad guest port";
}

bool host_forward_parse(const char *rule, HostForward *f, GError **errp)
{
    const char *rest = rule, *wrong = parse_front(&rest, f);

    if (!wrong) {
        wrong = parse_back(rest, f);
    }
    if (wrong) {
        error_setg(errp, "Invalid host forwarding rule '%s' (%s)", rule, wrong);
    }
    return !wrong;
}

bool host_forward_parse_host(const char *rule, HostForward *f)
{
    return !parse_front(&rule, f) && *rule && parse_port(rule, 0, &f->host_port);
}
