/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The network's core: pairs of clients, frames that wait, back pressure in both directions, links,
 * a guest that stands; and what options and rules mean.
 */
#include <glib.h>
#include <string.h>
#include "net/net.h"
#include "net/net-int.h"
#include "qapi/qapi-visit-net.h"
#include "qapi/visitor.h"

/* A client that takes frames while it has room. */
typedef struct Probe {
    NetClient nc;
    int room;
    int got, writable, changes;
    uint8_t last;
} Probe;

static bool probe_receive(NetClient *nc, const uint8_t *frame, size_t len)
{
    Probe *p = (Probe *)nc;

    if (p->room == 0) {
        return false;
    }
    p->room--;
    p->got++;
    p->last = frame[0];
    return true;
}

static void probe_writable(NetClient *nc)
{
    ((Probe *)nc)->writable++;
}

static void probe_link_changed(NetClient *nc)
{
    ((Probe *)nc)->changes++;
}

static RxFilterInfo *probe_filter(NetClient *nc)
{
    return g_new0(RxFilterInfo, 1);
}

static const NetClientOps backend_ops = {
    .type = "probe",
    .receive = probe_receive,
    .writable = probe_writable,
    .link_changed = probe_link_changed,
}, nic_ops = {
    .type = "nic",
    .receive = probe_receive,
    .writable = probe_writable,
    .link_changed = probe_link_changed,
    .rx_filter = probe_filter,
};

typedef struct Pair {
    Probe nic, backend;
} Pair;

static void begin(Pair *p)
{
    *p = (Pair){0};
    net_use_context(main_aio_context());
    net_client_init(&p->nic.nc, &nic_ops, "nic0");
    net_client_init(&p->backend.nc, &backend_ops, "n0");
    net_connect(&p->nic.nc, &p->backend.nc);
}

static void end(Pair *p)
{
    net_client_cleanup(&p->backend.nc);
    net_client_cleanup(&p->nic.nc);
    net_cleanup();
}

static bool give(Probe *from, uint8_t number)
{
    uint8_t frame[60] = {number};

    return net_send(&from->nc, frame, sizeof(frame));
}

static void test_back_pressure(void)
{
    Pair p;

    begin(&p);
    p.nic.room = 2;
    g_assert_true(give(&p.backend, 1));
    g_assert_true(give(&p.backend, 2));
    g_assert_false(give(&p.backend, 3)); /* waits */
    g_assert_cmpint(p.nic.got, ==, 2);
    net_client_ready(&p.nic.nc); /* no more room than before */
    g_assert_cmpint(p.nic.got, ==, 2);
    g_assert_cmpint(p.backend.writable, ==, 0);
    p.nic.room = 5;
    net_client_ready(&p.nic.nc);
    g_assert_cmpint(p.nic.got, ==, 3);
    g_assert_cmpint(p.nic.last, ==, 3);
    g_assert_cmpint(p.backend.writable, ==, 1);
    /* the other way */
    g_assert_false(give(&p.nic, 4));
    p.backend.room = 1;
    net_client_ready(&p.backend.nc);
    g_assert_cmpint(p.backend.last, ==, 4);
    g_assert_cmpint(p.nic.writable, ==, 1);
    end(&p);
}

/* Who does not listen loses what is too much; order is kept. */
static void test_queue_is_bounded(void)
{
    Pair p;

    begin(&p);
    for (int i = 0; i < NET_QUEUE_MAX + 50; i++) {
        g_assert_false(give(&p.backend, i));
    }
    p.nic.room = 1;
    net_client_ready(&p.nic.nc);
    g_assert_cmpint(p.nic.last, ==, 0);
    g_assert_cmpint(p.backend.writable, ==, 0);
    p.nic.room = 1000;
    net_client_ready(&p.nic.nc);
    g_assert_cmpint(p.nic.got, ==, NET_QUEUE_MAX);
    g_assert_cmpint(p.nic.last, ==, (NET_QUEUE_MAX - 1) % 256);
    g_assert_cmpint(p.backend.writable, ==, 1);
    end(&p);
}

static void test_no_frames(void)
{
    static uint8_t big[NET_FRAME_MAX + 1];
    Pair p;

    begin(&p);
    p.nic.room = 10;
    g_assert_true(net_send(&p.backend.nc, big, 0));
    g_assert_true(net_send(&p.backend.nc, big, NET_HEADER_SIZE - 1));
    g_assert_true(net_send(&p.backend.nc, big, NET_FRAME_MAX + 1));
    g_assert_cmpint(p.nic.got, ==, 0);
    g_assert_true(net_send(&p.backend.nc, big, NET_HEADER_SIZE));
    g_assert_true(net_send(&p.backend.nc, big, NET_FRAME_MAX));
    g_assert_cmpint(p.nic.got, ==, 2);
    end(&p);
}

static void test_link(void)
{
    Pair p;

    begin(&p);
    g_assert_false(give(&p.backend, 1));
    net_client_set_link(&p.nic.nc, false); /* what waited is lost, and the sender is told */
    g_assert_cmpint(p.backend.writable, ==, 1);
    g_assert_cmpint(p.nic.changes, ==, 1);
    g_assert_cmpint(p.backend.changes, ==, 0);
    p.nic.room = p.backend.room = 10;
    g_assert_true(give(&p.backend, 2));
    g_assert_true(give(&p.nic, 3));
    g_assert_cmpint(p.nic.got + p.backend.got, ==, 0);
    net_client_set_link(&p.nic.nc, true);
    g_assert_true(give(&p.backend, 4));
    g_assert_cmpint(p.nic.last, ==, 4);
    /* of a backend: its device's, too */
    net_client_set_link(&p.backend.nc, false);
    g_assert_true(p.nic.nc.link_down && p.backend.nc.link_down);
    net_client_set_link(&p.backend.nc, true);
    g_assert_cmpint(p.nic.changes, ==, 4);
    end(&p);
}

static void test_backend_goes(void)
{
    Pair p;

    begin(&p);
    g_assert_true(net_client_find("n0") == &p.backend.nc);
    g_assert_false(give(&p.nic, 1));
    g_assert_false(give(&p.backend, 1));
    net_client_cleanup(&p.backend.nc);
    g_assert_null(net_client_find("n0"));
    g_assert_true(p.nic.nc.link_down);
    g_assert_cmpint(p.nic.writable, ==, 1); /* it need not wait for it any more */
    g_assert_true(give(&p.nic, 2));
    net_client_init(&p.backend.nc, &backend_ops, "n0");
    end(&p);
}

static void test_mac(void)
{
    static const char *const wrong[] = {"", "52", "52:54:00:12:34", "52:54:00:12:34:5",
                                        "52:54:00:12:34:56:", "52:54:00:12:34:567", "zz:54:00:12:34:56",
                                        "52 54 00 12 34 56", "52:54-00:12:34:56",
                                        "01:00:5e:00:00:01", "525400123456"};
    uint8_t mac[NET_MAC_SIZE];
    g_autofree char *text = NULL;

    g_assert_true(net_mac_parse("52:54:00:12:aB:ff", mac));
    text = net_mac_text(mac);
    g_assert_cmpstr(text, ==, "52:54:00:12:ab:ff");
    g_assert_true(net_mac_parse("52-54-00-12-34-56", mac));
    for (size_t i = 0; i < G_N_ELEMENTS(wrong); i++) {
        g_assert_false(net_mac_parse(wrong[i], mac));
    }
}

/* --- Options ---------------------------------------------------------------------------------- */

static void test_lists(void)
{
    g_autoptr(Netdev) n = NULL;
    GError *err = NULL;
    bool keyval;
    json_object *tree = netdev_tree("user,id=n,hostfwd=tcp::1-:2,dnssearch=a,,b,hostfwd=udp::3-:4,"
                                    "net=10.1.0.0/16", &keyval, &err);

    g_assert_no_error(err);
    g_assert_true(keyval);
    g_assert_true(qapi_input_keyval(&qapi_type_Netdev, tree, NULL, &n, &err));
    json_object_put(tree);
    g_assert_cmpstr(n->u.user.hostfwd->value->str, ==, "tcp::1-:2");
    g_assert_cmpstr(n->u.user.hostfwd->next->value->str, ==, "udp::3-:4");
    g_assert_null(n->u.user.hostfwd->next->next);
    g_assert_cmpstr(n->u.user.dnssearch->value->str, ==, "a,b");
    g_assert_cmpstr(n->u.user.net, ==, "10.1.0.0/16");
}

static void test_rules(void)
{
    static const struct {
        const char *rule, *wrong;
    } rules[] = {
        {"tcp", "No : separators"},
        {"tcp:", "Missing : separator"},
        {"tcp::", "Bad host port separator"},
        {"tcp::1", "Bad host port separator"},
        {"tcp::1-", "Missing guest address"},
        {"tcp::1-:", "Bad guest port"},
        {"tcp::1-:0", "Bad guest port"},
        {"tcp::1-:70000", "Bad guest port"},
        {"tcp::1-:1x", "Bad guest port"},
        {"tcp::1x-:1", "Bad host port"},
        {"tcp::99999-:1", "Bad host port"},
        {"tcp:zz:1-:1", "Bad host address"},
        {"tcp::1-zz:1", "Bad guest address"},
        {"tcp::1-10.0.2.15", "Missing guest address"},
        {"icmp::1-:2", "Bad protocol name"},
        {":1-:2", "Bad host address"},
    };
    HostForward f;

    for (size_t i = 0; i < G_N_ELEMENTS(rules); i++) {
        g_autoptr(GError) err = NULL;
        g_autofree char *want = g_strdup_printf("Invalid host forwarding rule '%s' (%s)",
                                                rules[i].rule, rules[i].wrong);

        g_assert_false(host_forward_parse(rules[i].rule, &f, &err));
        g_assert_cmpstr(err->message, ==, want);
    }
    g_assert_true(host_forward_parse("udp:127.0.0.1:5555-10.0.2.15:22", &f, NULL));
    g_assert_true(f.is_udp);
    g_assert_cmpint(f.host_port, ==, 5555);
    g_assert_cmpint(f.guest_port, ==, 22);
    g_assert_cmphex(ntohl(f.host_addr.s_addr), ==, 0x7f000001);
    g_assert_cmphex(ntohl(f.guest_addr.s_addr), ==, 0x0a00020f);
    g_assert_true(host_forward_parse("::-:1", &f, NULL)); /* TCP, any port */
    g_assert_false(f.is_udp);
    g_assert_cmpint(f.host_port, ==, 0);
    g_assert_true(host_forward_parse_host("tcp::15", &f));
    g_assert_false(host_forward_parse_host("zork", &f));
}

/* host, dns and dhcpstart follow the network, unless they are given. */
static void test_networks(void)
{
    static const struct {
        const char *net, *text;
        uint32_t host, dhcp;
    } nets[] = {
        {NULL, "net=10.0.2.0,restrict=off", 0x0a000202, 0x0a00020f},
        {"10.1.2.3", "net=10.0.0.0,restrict=off", 0x0a000202, 0x0a00020f},
        {"192.168.5.7", "net=192.168.0.0,restrict=off", 0xc0a80202, 0xc0a8020f},
        {"198.18.3.4", "net=198.18.0.0,restrict=off", 0xc6120202, 0xc612020f},
        {"172.16.9.9", "net=172.16.0.0,restrict=off", 0xac100202, 0xac10020f},
        {"10.1.0.0/24", "net=10.1.0.0,restrict=off", 0x0a010002, 0x0a01000f},
        {"10.1.0.0/255.255.0.0", "net=10.1.0.0,restrict=off", 0x0a010202, 0x0a01020f},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(nets); i++) {
        NetdevUserOptions o = {.net = (char *)nets[i].net};
        UserConfig *c = user_config_new(&o, NULL);
        g_autofree char *text = user_config_text(c);

        g_assert_cmpstr(text, ==, nets[i].text);
        g_assert_cmphex(ntohl(c->slirp.vhost.s_addr), ==, nets[i].host);
        g_assert_cmphex(ntohl(c->slirp.vdhcp_start.s_addr), ==, nets[i].dhcp);
        user_config_free(c);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    main_aio_context_init();
    g_test_add_func("/net/back-pressure", test_back_pressure);
    g_test_add_func("/net/queue-is-bounded", test_queue_is_bounded);
    g_test_add_func("/net/no-frames", test_no_frames);
    g_test_add_func("/net/link", test_link);
    g_test_add_func("/net/backend-goes", test_backend_goes);
    g_test_add_func("/net/mac", test_mac);
    g_test_add_func("/net/lists", test_lists);
    g_test_add_func("/net/rules", test_rules);
    g_test_add_func("/net/networks", test_networks);
    return g_test_run();
}
