/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The machine state of network devices and of libslirp: what comes back, what is refused, and that
 * a load that fails elsewhere leaves the network as it was.
 */
#include <glib.h>
#include <string.h>
#include "hw/net/virtio-net-int.h"
#include "migration/vmstate-int.h"
#include "net/net-int.h"
#include "qapi/visitor.h"

static GByteArray *save(VMStateEntry *e)
{
    GByteArray *out = g_byte_array_new();

    g_assert_true(vmstate_save_state(out, e->vmsd, e->opaque, NULL));
    return out;
}

static bool load(VMStateEntry *e, const GByteArray *state, GError **errp)
{
    VMReader in = {.data = state->data, .size = state->len};

    return vmstate_load_state(&in, e->vmsd, e->opaque, e->vmsd->version, errp);
}

static void settle(void)
{
    while (aio_poll(main_aio_context(), false)) {
    }
}

/* --- Device ------------------------------------------------------------------------------------------ */

typedef struct Device {
    VirtIONet *s;
    VMStateRegistry *registry;
    VMStateEntry *e;
} Device;

static void begin(Device *d)
{
    net_use_context(main_aio_context());
    d->s = virtio_net_new(&(VirtIONetConfig){.name = "nic0", .path = "/nic0",
                                             .mac = {0x52, 0x54, 0, 1, 2, 3}});
    d->registry = vmstate_registry_new();
    virtio_net_register(d->s, d->registry, 0);
    d->e = vmstate_find(d->registry, "virtio-net", 0);
    settle();
}

static void end(Device *d)
{
    virtio_net_free(d->s);
    vmstate_registry_free(d->registry);
    net_cleanup();
}

static void test_device(void)
{
    static const uint8_t mac[NET_MAC_SIZE] = {0x52, 0x54, 0, 9, 9, 9};
    g_autoptr(GByteArray) plain = NULL, full = NULL;
    NetFilter *f;
    Device d;

    begin(&d);
    plain = save(d.e);
    f = virtio_net_filter(d.s);
    f->promiscuous = false;
    f->n_macs = 2;
    f->first_multicast = 1;
    memset(f->macs, 0x33, 2 * NET_MAC_SIZE);
    f->vlans[7] = 0x80;
    virtio_net_set_mac(d.s, mac);
    d.s->nc.link_down = false;
    d.s->status = VIRTIO_NET_S_LINK_UP;
    full = save(d.e);
    g_assert_cmpuint(full->len, >, plain->len); /* subsections */

    g_assert_true(load(d.e, plain, NULL));
    f = virtio_net_filter(d.s);
    g_assert_true(f->promiscuous);
    g_assert_cmpuint(f->n_macs, ==, 0);
    g_assert_cmpuint(f->vlans[7], ==, 0);
    g_assert_true(d.s->nc.link_down);

    g_assert_true(load(d.e, full, NULL));
    f = virtio_net_filter(d.s);
    g_assert_false(f->promiscuous);
    g_assert_cmpuint(f->n_macs, ==, 2);
    g_assert_cmpuint(f->macs[7], ==, 0x33);
    g_assert_cmpuint(f->vlans[7], ==, 0x80);
    g_assert_false(d.s->nc.link_down);
    virtio_net_get_mac(d.s, d.s->saved_mac);
    g_assert_cmpmem(d.s->saved_mac, NET_MAC_SIZE, mac, NET_MAC_SIZE);
    end(&d);
}

static void refuse_list(Device *d, uint32_t n_macs, uint32_t first_multicast)
{
    g_autoptr(GByteArray) state = NULL;
    g_autoptr(GError) err = NULL;
    NetFilter *f = virtio_net_filter(d->s);
    g_autofree char *want = g_strdup_printf("virtio-net: list of %u addresses, groups from %u on",
                                            n_macs, first_multicast);

    f->n_macs = n_macs;
    f->first_multicast = first_multicast;
    state = save(d->e);
    net_filter_reset(f);
    g_assert_false(load(d->e, state, &err));
    g_assert_cmpstr(err->message, ==, want);
    g_assert_cmpuint(virtio_net_filter(d->s)->n_macs, ==, 0);
}

static void test_bad_lists(void)
{
    Device d;

    begin(&d);
    refuse_list(&d, VIRTIO_NET_MAX_MACS + 1, 0);
    refuse_list(&d, UINT32_MAX, 0);
    refuse_list(&d, 3, 4);
    end(&d);
}

/* --- libslirp -------------------------------------------------------------------------------------------- */

typedef struct User {
    VMStateRegistry *registry;
    VMStateEntry *e;
    NetClient *nc;
} User;

static void coroutine_fn make_user(void *opaque)
{
    User *u = opaque;
    NetString rule = {(char *)"tcp:127.0.0.1:0-:22"};
    NetStringList rules = {NULL, &rule};
    Netdev netdev = {.id = (char *)"n0", .type = NETDEV_TYPE_USER};
    GError *err = NULL;

    netdev.u.user.has_hostfwd = true;
    netdev.u.user.hostfwd = &rules;
    netdev_co_add(&netdev, &err);
    g_assert_no_error(err);
    u->nc = net_client_find("n0");
    u->nc->ops->register_state(u->nc, u->registry, 3);
}

static bool forwards(User *u)
{
    g_autofree char *text = net_user_connections(u->nc);

    return strstr(text, "TCP[HOST_FORWARD]") != NULL;
}

static GByteArray *slirp_section(uint32_t version, const uint8_t *bytes, uint32_t len)
{
    GByteArray *state = g_byte_array_new();

    vm_put_be32(state, version);
    vm_put_be32(state, len);
    g_byte_array_append(state, bytes, len);
    return state;
}

static void refuse_slirp(User *u, uint32_t version, const uint8_t *bytes, uint32_t len,
                         const char *want)
{
    g_autoptr(GByteArray) state = slirp_section(version, bytes, len);
    g_autoptr(GError) err = NULL;

    g_assert_false(load(u->e, state, &err));
    g_assert_true(g_str_has_prefix(err->message, want));
    net_load_ended(false);
    settle();
    g_assert_true(forwards(u));
}

static void test_slirp(void)
{
    static const char *const connections =
        "slirp: the state has forwarded connections, which are not supported";
    g_autoptr(GByteArray) state = NULL, again = NULL;
    uint32_t version;
    User u = {.registry = vmstate_registry_new()};

    net_use_context(main_aio_context());
    aio_co_run_sync(main_aio_context(), make_user, &u);
    u.e = vmstate_find(u.registry, "slirp", 3);
    settle();
    g_assert_true(forwards(&u));
    state = save(u.e);
    g_assert_cmpuint(state->len, >, 9);
    version = slirp_state_version();

    refuse_slirp(&u, version, NULL, 0, connections);
    refuse_slirp(&u, version, (const uint8_t *)"\x2a", 1, connections);
    refuse_slirp(&u, version, state->data + 8, state->len - 9, "slirp: the state is damaged");
    g_byte_array_append(state, (const uint8_t *)"", 1);
    refuse_slirp(&u, version, state->data + 8, state->len - 8, "slirp: the state is damaged");
    g_byte_array_set_size(state, state->len - 1);
    refuse_slirp(&u, version + 1, state->data + 8, state->len - 8, "slirp: the state is of version");

    /* a load that fails elsewhere, then one that does not: the port leads in as before */
    g_assert_true(load(u.e, state, NULL));
    net_load_ended(false);
    settle();
    g_assert_true(forwards(&u));
    g_assert_true(load(u.e, state, NULL));
    g_assert_true(load(u.e, state, NULL));
    net_load_ended(true);
    again = save(u.e);
    g_assert_cmpmem(again->data, again->len, state->data, state->len);
    settle();
    g_assert_true(forwards(&u));

    u.nc->ops->free(u.nc);
    vmstate_registry_free(u.registry);
    net_cleanup();
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    main_aio_context_init();
    g_test_add_func("/net-state/device", test_device);
    g_test_add_func("/net-state/bad-lists", test_bad_lists);
    g_test_add_func("/net-state/slirp", test_slirp);
    return g_test_run();
}
