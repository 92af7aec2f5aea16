/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The machine's network: makes the backends and devices that -netdev, -device and -nic say, and
 * takes them apart at the end.  Coroutines in the main thread, which visit the network thread.
 */
#include <string.h>
#include "hw/machine-lock.h"
#include "hw/net/virtio-net.h"
#include "net/net.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-net.h"
#include "qapi/qapi-visit-machine.h"
#include "options-int.h"
#include "qom.h"
#include "system-int.h"
#include "util/co-lock.h"

#define DRIVER "virtio-net-device"

static GPtrArray *nics; /* VirtIONet */
static unsigned default_macs; /* how many have been given */
static VMStateRegistry *registry;
static CoMutex backends; /* held by who adds or removes one */

/* --- Backends ------------------------------------------------------------------------------------ */

static bool coroutine_fn add_backend(const Netdev *netdev, GError **errp)
{
    bool ok;

    co_mutex_lock(&backends);
    ok = netdev_co_add(netdev, errp);
    co_mutex_unlock(&backends);
    return ok;
}

/* The name of the backend of a -nic that gives none, a new string; number: which -nic it is. */
static char *backend_id(const NicOptions *nic, guint number)
{
    return nic->id ? g_strdup(nic->id) : g_strdup_printf("#net%03u", number);
}

static bool coroutine_fn open_nic(const NicOptions *nic, guint number, GError **errp)
{
    g_autofree char *id = backend_id(nic, number);
    Netdev netdev = {.id = id};

    switch (nic->type) {
    case NIC_TYPE_USER:
        netdev.type = NETDEV_TYPE_USER;
        netdev.u.user = nic->u.user;
        return add_backend(&netdev, errp);
    case NIC_TYPE_STREAM:
        netdev.type = NETDEV_TYPE_STREAM;
        netdev.u.stream = nic->u.stream;
        return add_backend(&netdev, errp);
    case NIC_TYPE_DGRAM:
        netdev.type = NETDEV_TYPE_DGRAM;
        netdev.u.dgram = nic->u.dgram;
        return add_backend(&netdev, errp);
    default:
        return true;
    }
}

bool coroutine_fn nics_co_open(const VmOptions *o, GError **errp)
{
    co_mutex_init(&backends);
    for (guint i = 0; i < o->netdevs->len; i++) {
        NetdevOption *n = o->netdevs->pdata[i];

        if (!add_backend(n->netdev, errp)) {
            g_prefix_error(errp, "%s: ", n->text);
            return false;
        }
    }
    for (guint i = 0; i < o->nics->len; i++) {
        NicOption *n = o->nics->pdata[i];

        if (!open_nic(n->nic, i, errp)) {
            g_prefix_error(errp, "%s: ", n->text);
            return false;
        }
    }
    return true;
}

void coroutine_fn qmp_netdev_add(Netdev *netdev, GError **errp)
{
    if (option_check_id(netdev->id, errp)) {
        add_backend(netdev, errp);
    }
}

/* The backend of that name; NULL if there is none. */
static NetClient *coroutine_fn find_backend(const char *id)
{
    AioContext *home = net_co_enter();
    NetClient *nc;

    if (!home) {
        return NULL;
    }
    nc = net_client_find(id);
    nc = nc && !net_client_is_nic(nc) ? nc : NULL;
    net_co_leave(home);
    return nc;
}

static void coroutine_fn remove_backend(NetClient *nc)
{
    AioContext *home;

    if (registry) {
        machine_lock();
        vmstate_unregister(registry, nc);
        machine_unlock();
    }
    home = net_co_enter();
    nc->ops->free(nc);
    net_co_leave(home);
}

void coroutine_fn qmp_netdev_del(const char *id, GError **errp)
{
    NetClient *nc;

    co_mutex_lock(&backends);
    nc = find_backend(id);
    if (nc) {
        remove_backend(nc);
    } else {
        error_set_class(errp, QAPI_ERROR_DEVICE_NOT_FOUND, "Device '%s' not found", id);
    }
    co_mutex_unlock(&backends);
}

/* --- Devices -------------------------------------------------------------------------------------- */

static bool choose_mac(const char *text, uint8_t mac[NET_MAC_SIZE], GError **errp)
{
    static const uint8_t first[NET_MAC_SIZE] = {0x52, 0x54, 0x00, 0x12, 0x34, 0x56};

    if (text) {
        if (!net_mac_parse(text, mac)) {
            error_setg(errp, "Property '" DRIVER ".mac' doesn't take value '%s'", text);
            return false;
        }
        return true;
    }
    memcpy(mac, first, NET_MAC_SIZE);
    mac[5] += default_macs++;
    return true;
}

/* The backend that the device names, NULL if it names none; false and errp if it cannot have it. */
static bool coroutine_fn find_peer(const char *id, NetClient **peer, GError **errp)
{
    bool taken = false;

    *peer = id ? find_backend(id) : NULL;
    if (*peer) {
        AioContext *home = net_co_enter();

        taken = (*peer)->peer != NULL;
        net_co_leave(home);
    }
    if (id && !*peer) {
        error_setg(errp, "Property '" DRIVER ".netdev' can't find value '%s'", id);
    } else if (taken) {
        error_setg(errp, "Property '" DRIVER ".netdev' can't take value '%s', it's in use", id);
    }
    return !taken && (!id || *peer);
}

static json_object *said_of(const VirtioNetDeviceOptions *n, const uint8_t mac[NET_MAC_SIZE])
{
    json_object *said = qapi_VirtioNetDeviceOptions_to_json(n);
    g_autofree char *text = net_mac_text(mac);

    json_object_object_add(said, "mac", json_object_new_string(text));
    return said;
}

static VirtIONet *coroutine_fn make_device(const VirtIONetConfig *config)
{
    AioContext *home = net_co_enter();
    VirtIONet *device = virtio_net_new(config);

    net_co_leave(home);
    return device;
}

bool coroutine_fn nics_co_plug(const DeviceOptions *d, VirtMachine *board, VMStateRegistry *r,
                               GError **errp)
{
    const VirtioNetDeviceOptions *n = &d->u.virtio_net_device;
    g_autofree char *bus = NULL, *name = NULL;
    VirtIONetConfig config = {.id = d->id};
    VirtIONet *device;
    int slot;

    nics = nics ? nics : g_ptr_array_new();
    if (!net_co_start(errp) || !find_peer(n->netdev, &config.peer, errp) ||
        !choose_mac(n->mac, config.mac, errp) ||
        (slot = qom_choose_slot(DRIVER, d->bus, errp)) < 0) {
        return false;
    }
    bus = qom_bus_path(slot);
    name = d->id ? g_strdup(d->id) : g_strdup_printf(DRIVER ".%u", nics->len);
    config.name = name;
    config.path = qom_add_device(DRIVER, d->id, bus, said_of(n, config.mac));
    device = make_device(&config);
    g_ptr_array_add(nics, device);
    virt_plug(board, virtio_net_vdev(device), slot);
    virtio_net_register(device, r, slot);
    if (config.peer && config.peer->ops->register_state) {
        config.peer->ops->register_state(config.peer, r, slot);
        registry = r;
    }
    return true;
}

bool coroutine_fn nics_co_plug_all(const VmOptions *o, VirtMachine *board, VMStateRegistry *r,
                                   GError **errp)
{
    for (guint i = 0; i < o->nics->len; i++) {
        const NicOption *n = o->nics->pdata[i];
        g_autofree char *id = backend_id(n->nic, i);
        DeviceOptions d = {.driver = DEVICE_DRIVER_VIRTIO_NET_DEVICE,
                           .u.virtio_net_device = {.netdev = id, .mac = n->nic->mac}};

        if (n->nic->type != NIC_TYPE_NONE && !nics_co_plug(&d, board, r, errp)) {
            g_prefix_error(errp, "%s: ", n->text);
            return false;
        }
    }
    return true;
}

static void warn_if_alone(NetClient *nc, void *opaque)
{
    if (!nc->peer) {
        g_printerr("%s: warning: %s %s has no peer\n", g_get_prgname(),
                   net_client_is_nic(nc) ? "nic" : "netdev", nc->name);
    }
}

void coroutine_fn nics_co_check(void)
{
    net_client_co_for_each(warn_if_alone, NULL);
}

void coroutine_fn nics_co_close(void)
{
    AioContext *home = net_co_enter();

    if (!home) {
        return;
    }
    for (guint i = 0; nics && i < nics->len; i++) {
        virtio_net_free(nics->pdata[i]);
    }
    net_co_leave(home);
    g_clear_pointer(&nics, g_ptr_array_unref);
    netdev_co_remove_all();
}
