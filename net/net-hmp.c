/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The human monitor's commands about the network; what they print is QEMU's.  Coroutines of the
 * session, which visit the network thread.
 */
#include <string.h>
#include "net/net-hmp.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-net.h"
#include "qapi/qapi-visit-net.h"
#include "qapi/util.h"
#include "qapi/visitor.h"
#include "net-int.h"

/* Runs fn for every client in the network thread and prints what it has put together. */
static void coroutine_fn print_clients(HMPSession *s, void (*fn)(NetClient *nc, void *opaque))
{
    g_autoptr(GString) out = g_string_new(NULL);

    net_client_co_for_each(fn, out);
    hmp_printf(s, "%s", out->str);
}

/* --- info ---------------------------------------------------------------------------------------- */

static void append_line(GString *out, NetClient *nc)
{
    g_autofree char *text = nc->ops->describe(nc);

    g_string_append_printf(out, "%s: index=0,type=%s,%s\n", nc->name, nc->ops->type, text);
}

/* A pair is one thing: the device with its backend below it. */
static void append_client(NetClient *nc, void *opaque)
{
    GString *out = opaque;

    if (nc->peer && !net_client_is_nic(nc)) {
        return;
    }
    append_line(out, nc);
    if (nc->peer) {
        g_string_append(out, " \\ ");
        append_line(out, nc->peer);
    }
}

static void coroutine_fn hmp_info_network(HMPSession *s, const HMPArgs *args)
{
    print_clients(s, append_client);
}

static void append_connections(NetClient *nc, void *opaque)
{
    g_autofree char *text = NULL;

    if (net_client_is_user(nc)) {
        text = net_user_connections(nc);
        g_string_append_printf(opaque, "Hub -1 (%s):\n%s", nc->name, text);
    }
}

static void coroutine_fn hmp_info_usernet(HMPSession *s, const HMPArgs *args)
{
    print_clients(s, append_connections);
}

/* --- Backends and links ------------------------------------------------------------------------------ */

static void coroutine_fn hmp_netdev_add(HMPSession *s, const HMPArgs *args)
{
    g_autoptr(Netdev) netdev = NULL;
    GError *err = NULL;
    bool keyval;
    json_object *tree = netdev_tree(hmp_arg_str(args, "netdev"), &keyval, &err);

    if (tree && (keyval ? qapi_input_keyval : qapi_input)(&qapi_type_Netdev, tree, NULL, &netdev,
                                                          &err)) {
        qmp_netdev_add(netdev, &err);
    }
    json_object_put(tree);
    hmp_handle_error(s, err);
}

static void coroutine_fn hmp_netdev_del(HMPSession *s, const HMPArgs *args)
{
    GError *err = NULL;

    qmp_netdev_del(hmp_arg_str(args, "id"), &err);
    hmp_handle_error(s, err);
}

static void coroutine_fn hmp_set_link(HMPSession *s, const HMPArgs *args)
{
    GError *err = NULL;

    qmp_set_link(hmp_arg_str(args, "name"), hmp_arg_int(args, "up", 0), &err);
    hmp_handle_error(s, err);
}

typedef struct Names {
    GPtrArray *list;
    bool backends_only;
} Names;

static void add_name(NetClient *nc, void *opaque)
{
    Names *n = opaque;

    if (!n->backends_only || !net_client_is_nic(nc)) {
        g_ptr_array_add(n->list, g_strdup(nc->name));
    }
}

static void coroutine_fn complete_names(HMPCompletion *c, bool backends_only)
{
    g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func(g_free);
    Names n = {list, backends_only};

    net_client_co_for_each(add_name, &n);
    for (guint i = 0; i < list->len; i++) {
        hmp_complete_add(c, list->pdata[i]);
    }
}

static void coroutine_fn complete_netdev_del(HMPCompletion *c, int nr)
{
    if (nr == 0) {
        complete_names(c, true);
    }
}

static void coroutine_fn complete_set_link(HMPCompletion *c, int nr)
{
    if (nr == 0) {
        complete_names(c, false);
    } else if (nr == 1) {
        hmp_complete_add(c, "on");
        hmp_complete_add(c, "off");
    }
}

static void coroutine_fn complete_netdev_add(HMPCompletion *c, int nr)
{
    for (int i = 0; nr == 0 && i < NETDEV_TYPE__MAX; i++) {
        hmp_complete_add(c, NetdevType_str(i));
    }
}

/* --- Forwarding ------------------------------------------------------------------------------------ */

/* "[id] rule": the backend, which is the first there is if none is named. */
typedef struct Forward {
    const char *id, *rule;
    NetClient *nc;
} Forward;

static Forward forward_of(const HMPArgs *args)
{
    const char *first = hmp_arg_str(args, "arg1"), *second = hmp_arg_str(args, "arg2");

    return second ? (Forward){first, second, NULL} : (Forward){NULL, first, NULL};
}

static void find_user(NetClient *nc, void *opaque)
{
    Forward *f = opaque;

    if (!f->nc && net_client_is_user(nc) && (!f->id || !strcmp(nc->name, f->id))) {
        f->nc = nc;
    }
}

/* In the network thread; false: it is not there, which has been noted in out. */
static bool find_backend(Forward *f, GString *out)
{
    net_client_for_each(find_user, f);
    if (!f->nc && f->id) {
        g_string_append_printf(out, "unrecognized netdev id '%s'\n", f->id);
    } else if (!f->nc) {
        g_string_append(out, "user mode network stack not in use\n");
    }
    return f->nc != NULL;
}

static void add_forward(Forward *f, GString *out)
{
    g_autoptr(GError) err = NULL;

    if (find_backend(f, out) && !net_user_forward(f->nc, f->rule, &err)) {
        g_string_append_printf(out, "%s\n", err->message);
    }
}

static void remove_forward(Forward *f, GString *out)
{
    HostForward rule;

    if (!find_backend(f, out)) {
        return;
    }
    if (!host_forward_parse_host(f->rule, &rule)) {
        g_string_append(out, "invalid format\n");
        return;
    }
    g_string_append_printf(out, "host forwarding rule for %s %s\n", f->rule,
                           net_user_remove_forward(f->nc, &rule) ? "removed" : "not found");
}

static void coroutine_fn forward(HMPSession *s, const HMPArgs *args,
                                 void (*fn)(Forward *f, GString *out))
{
    g_autoptr(GString) out = g_string_new(NULL);
    Forward f = forward_of(args);
    AioContext *home = net_co_enter();

    if (!home) {
        hmp_printf(s, "user mode network stack not in use\n");
        return;
    }
    fn(&f, out);
    net_co_leave(home);
    hmp_printf(s, "%s", out->str);
}

static void coroutine_fn hmp_hostfwd_add(HMPSession *s, const HMPArgs *args)
{
    forward(s, args, add_forward);
}

static void coroutine_fn hmp_hostfwd_remove(HMPSession *s, const HMPArgs *args)
{
    forward(s, args, remove_forward);
}

/* Names between commas; an empty list if text is NULL. */
static strList *split_names(const char *text)
{
    g_auto(GStrv) names = g_strsplit(text ? text : "", ",", -1);
    strList *list = NULL, **tail = &list;

    for (char **name = names; *name; name++) {
        QAPI_LIST_APPEND(tail, g_strdup(*name));
    }
    return list;
}

static void coroutine_fn hmp_announce_self(HMPSession *s, const HMPArgs *args)
{
    /* As QEMU does it unless its migration parameters say otherwise. */
    AnnounceParameters p = {.initial = 50, .max = 550, .rounds = 5, .step = 100,
                            .interfaces = split_names(hmp_arg_str(args, "interfaces")),
                            .id = (char *)hmp_arg_str(args, "id")};
    GError *err = NULL;

    qmp_announce_self(&p, &err);
    qapi_free_strList(p.interfaces);
    hmp_handle_error(s, err);
}

const HMPCommand net_hmp_commands[] = {
    {"announce_self", "interfaces:s?,id:s?", "[interfaces] [id]", "Trigger GARP/RARP announcements",
     hmp_announce_self},
    {"info network", "", "", "show the network state", hmp_info_network},
    {"info usernet", "", "", "show user network stack connection states", hmp_info_usernet},
    {"netdev_add", "netdev:S", "[user|stream|dgram],id=str[,prop=value][,...]",
     "add host network device", hmp_netdev_add, complete_netdev_add},
    {"netdev_del", "id:s", "id", "remove host network device", hmp_netdev_del,
     complete_netdev_del},
    {"set_link", "name:s,up:b", "name on|off", "change the link status of a network adapter",
     hmp_set_link, complete_set_link},
    {"hostfwd_add", "arg1:s,arg2:s?",
     "[netdev_id] [tcp|udp]:[hostaddr]:hostport-[guestaddr]:guestport",
     "redirect TCP or UDP connections from host to guest (requires -net user)",
     hmp_hostfwd_add},
    {"hostfwd_remove", "arg1:s,arg2:s?", "[netdev_id] [tcp|udp]:[hostaddr]:hostport",
     "remove host-to-guest TCP or UDP redirection", hmp_hostfwd_remove},
    {0},
};
