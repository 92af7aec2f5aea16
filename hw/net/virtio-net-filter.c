/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which frames a virtio network device takes, and the control queue by which its driver says so
 * (specification 1.2, section 5.1.6.5).  Network thread.
 */
#include <string.h>
#include "qapi/qapi-events-net.h"
#include "qapi/util.h"
#include "util/guest-memory.h"
#include "virtio-net-int.h"

enum {
    CLASS_RX = 0, CLASS_MAC = 1, CLASS_VLAN = 2, CLASS_ANNOUNCE = 3,
    RX_PROMISC = 0, RX_ALLMULTI = 1, RX_ALLUNI = 2, RX_NOMULTI = 3, RX_NOUNI = 4, RX_NOBCAST = 5,
    MAC_TABLE_SET = 0, MAC_ADDR_SET = 1,
    VLAN_ADD = 0, VLAN_DEL = 1,
    ANNOUNCE_ACK = 0,
    ACK_OK = 0, ACK_ERROR = 1,
    COMMAND_SIZE = 2,          /* class and command */
    MAX_COMMAND = 64 * 1024,   /* bytes of a request that are looked at */
    VLAN_TAG = 0x8100,
    VLAN_HEADER_SIZE = 16,     /* up to the VLAN's number */
};

/* --- Filter ----------------------------------------------------------------------------------------- */

void net_filter_reset(NetFilter *f)
{
    *f = (NetFilter){.promiscuous = true};
}

bool net_filter_is_valid(const NetFilter *f)
{
    return f->n_macs <= VIRTIO_NET_MAX_MACS && f->first_multicast <= f->n_macs;
}

static bool has_vlan(const NetFilter *f, unsigned vlan)
{
    return f->vlans[vlan / 8] & 1 << vlan % 8;
}

/* Whether mac is among those with numbers from first on, up to end. */
static bool is_listed(const NetFilter *f, const uint8_t *mac, uint32_t first, uint32_t end)
{
    for (uint32_t i = first; i < end; i++) {
        if (!memcmp(f->macs + i * NET_MAC_SIZE, mac, NET_MAC_SIZE)) {
            return true;
        }
    }
    return false;
}

NetFilter *virtio_net_filter(VirtIONet *s)
{
    if (atomic_exchange(&s->was_reset, false)) {
        net_filter_reset(&s->filter);
    }
    return &s->filter;
}

/* A frame's VLAN, -1 if it has none. */
static int vlan_of(const uint8_t *frame, size_t len)
{
    return len >= VLAN_HEADER_SIZE && (frame[12] << 8 | frame[13]) == VLAN_TAG
               ? (frame[14] << 8 | frame[15]) & 0xfff
               : -1;
}

bool virtio_net_wants(VirtIONet *s, const uint8_t *frame, size_t len)
{
    static const uint8_t broadcast[NET_MAC_SIZE] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    const NetFilter *f = virtio_net_filter(s);
    int vlan = vlan_of(frame, len);
    uint8_t own[NET_MAC_SIZE];

    if (f->promiscuous) {
        return true;
    }
    if (vlan >= 0 && s->by_vlan && !has_vlan(f, vlan)) {
        return false;
    }
    if (!memcmp(frame, broadcast, NET_MAC_SIZE)) {
        return !f->no_broadcast;
    }
    if (frame[0] & 1) {
        return !f->no_multicast && (f->all_multicast || f->multicast_overflow ||
                                    is_listed(f, frame, f->first_multicast, f->n_macs));
    }
    virtio_net_get_mac(s, own);
    return !f->no_unicast && (f->all_unicast || f->unicast_overflow ||
                              !memcmp(frame, own, NET_MAC_SIZE) ||
                              is_listed(f, frame, 0, f->first_multicast));
}

/* --- What clients are told ---------------------------------------------------------------------------- */

static RxState rx_state(bool none, bool all)
{
    return none ? RX_STATE_NONE : all ? RX_STATE_ALL : RX_STATE_NORMAL;
}

static strList *mac_list(const NetFilter *f, uint32_t first, uint32_t end)
{
    strList *list = NULL, **tail = &list;

    for (uint32_t i = first; i < end; i++) {
        QAPI_LIST_APPEND(tail, net_mac_text(f->macs + i * NET_MAC_SIZE));
    }
    return list;
}

RxFilterInfo *virtio_net_rx_filter(NetClient *nc)
{
    VirtIONet *s = (VirtIONet *)nc;
    const NetFilter *f = virtio_net_filter(s);
    RxFilterInfo *info = g_new0(RxFilterInfo, 1);
    uint8_t mac[NET_MAC_SIZE];

    virtio_net_get_mac(s, mac);
    info->name = g_strdup(nc->name);
    info->promiscuous = f->promiscuous;
    info->multicast = rx_state(f->no_multicast, f->all_multicast);
    info->unicast = rx_state(f->no_unicast, f->all_unicast);
    info->vlan = rx_state(false, !s->by_vlan);
    info->broadcast_allowed = !f->no_broadcast;
    info->multicast_overflow = f->multicast_overflow;
    info->unicast_overflow = f->unicast_overflow;
    info->main_mac = net_mac_text(mac);
    for (unsigned vlan = 0; vlan < 8 * VIRTIO_NET_VLAN_BYTES; vlan++) {
        if (!s->by_vlan || has_vlan(f, vlan)) {
            QAPI_LIST_PREPEND(info->vlan_table, vlan);
        }
    }
    info->unicast_table = mac_list(f, 0, f->first_multicast);
    info->multicast_table = mac_list(f, f->first_multicast, f->n_macs);
    s->filter_told = false;
    return info;
}

static void tell_of_change(VirtIONet *s)
{
    if (!s->filter_told) {
        s->filter_told = true;
        qapi_event_send_nic_rx_filter_changed(s->id, s->path);
    }
}

/* --- Commands --------------------------------------------------------------------------------------- */

static bool set_mode(NetFilter *f, uint8_t command, const uint8_t *data, size_t len)
{
    bool *modes[] = {
        [RX_PROMISC] = &f->promiscuous,   [RX_ALLMULTI] = &f->all_multicast,
        [RX_ALLUNI] = &f->all_unicast,    [RX_NOMULTI] = &f->no_multicast,
        [RX_NOUNI] = &f->no_unicast,      [RX_NOBCAST] = &f->no_broadcast,
    };

    if (len != 1 || command >= G_N_ELEMENTS(modes)) {
        return false;
    }
    *modes[command] = data[0] != 0;
    return true;
}

/* One list of addresses: their number and they themselves; *overflow: there were too many. */
static bool take_macs(NetFilter *f, const uint8_t **data, size_t *len, bool *overflow)
{
    uint32_t n;

    if (*len < 4) {
        return false;
    }
    memcpy(&n, *data, 4);
    n = GUINT32_FROM_LE(n);
    *data += 4;
    *len -= 4;
    if (n > *len / NET_MAC_SIZE) {
        return false;
    }
    *overflow = n > VIRTIO_NET_MAX_MACS - f->n_macs;
    if (!*overflow) {
        memcpy(f->macs + f->n_macs * NET_MAC_SIZE, *data, n * NET_MAC_SIZE);
        f->n_macs += n;
    }
    *data += n * NET_MAC_SIZE;
    *len -= n * NET_MAC_SIZE;
    return true;
}

static bool set_macs(NetFilter *filter, const uint8_t *data, size_t len)
{
    NetFilter f = *filter;

    f.n_macs = 0;
    if (!take_macs(&f, &data, &len, &f.unicast_overflow)) {
        return false;
    }
    f.first_multicast = f.n_macs;
    if (!take_macs(&f, &data, &len, &f.multicast_overflow) || len) {
        return false;
    }
    *filter = f;
    return true;
}

static bool do_mac(VirtIONet *s, uint8_t command, const uint8_t *data, size_t len)
{
    if (command == MAC_TABLE_SET) {
        return set_macs(virtio_net_filter(s), data, len);
    }
    if (command != MAC_ADDR_SET || len != NET_MAC_SIZE) {
        return false;
    }
    virtio_net_set_mac(s, data);
    return true;
}

static bool do_vlan(NetFilter *f, uint8_t command, const uint8_t *data, size_t len)
{
    unsigned vlan;

    if (len != 2 || command > VLAN_DEL) {
        return false;
    }
    vlan = data[0] | data[1] << 8;
    if (vlan >= 8 * VIRTIO_NET_VLAN_BYTES) {
        return false;
    }
    if (command == VLAN_ADD) {
        f->vlans[vlan / 8] |= 1 << vlan % 8;
    } else {
        f->vlans[vlan / 8] &= ~(1 << vlan % 8);
    }
    return true;
}

static bool do_command(VirtIONet *s, const uint8_t *p, size_t len)
{
    const uint8_t *data = p + COMMAND_SIZE;
    NetFilter *f = virtio_net_filter(s);
    bool ok;

    len -= COMMAND_SIZE;
    switch (p[0]) {
    case CLASS_RX:
        ok = set_mode(f, p[1], data, len);
        break;
    case CLASS_MAC:
        ok = do_mac(s, p[1], data, len);
        break;
    case CLASS_VLAN:
        ok = do_vlan(f, p[1], data, len);
        break;
    case CLASS_ANNOUNCE:
        atomic_fetch_and(&s->status, ~(uint32_t)VIRTIO_NET_S_ANNOUNCE);
        return p[1] == ANNOUNCE_ACK;
    default:
        return false;
    }
    if (ok) {
        tell_of_change(s);
    }
    return ok;
}

/* false: the guest built it wrong. */
static bool answer(VirtIONet *s, VirtQueueElement *elem)
{
    g_autofree uint8_t *command = NULL;
    size_t len = MIN(elem->out.size, MAX_COMMAND);
    uint8_t ack;

    if (elem->in.size < 1 || len < COMMAND_SIZE) {
        virtio_set_broken(&s->vdev, "control request without command or answer");
        return false;
    }
    command = g_malloc(len);
    guest_memory_begin();
    io_vector_to_buf(&elem->out, 0, command, len);
    guest_memory_end();
    ack = do_command(s, command, len) ? ACK_OK : ACK_ERROR;
    guest_memory_begin();
    io_vector_from_buf(&elem->in, 0, &ack, 1);
    guest_memory_end();
    virtqueue_push(&s->vdev, VIRTIO_NET_CTRL, elem, 1);
    virtqueue_notify(&s->vdev, VIRTIO_NET_CTRL);
    return true;
}

void virtio_net_control(VirtIONet *s)
{
    VirtQueueElement *elem;

    do {
        bool ok = true;

        virtqueue_enable_notify(&s->vdev, VIRTIO_NET_CTRL, false);
        while (ok && (elem = virtqueue_pop(&s->vdev, VIRTIO_NET_CTRL))) {
            ok = answer(s, elem);
            virtqueue_element_free(elem);
        }
    } while (virtio_is_running(&s->vdev) &&
             virtqueue_enable_notify(&s->vdev, VIRTIO_NET_CTRL, true));
}

/* --- Machine state -------------------------------------------------------------------------------------- */

static const VMStateField filter_fields[] = {
    VMSTATE_BOOL(promiscuous, NetFilter),
    VMSTATE_BOOL(all_multicast, NetFilter),
    VMSTATE_BOOL(all_unicast, NetFilter),
    VMSTATE_BOOL(no_multicast, NetFilter),
    VMSTATE_BOOL(no_unicast, NetFilter),
    VMSTATE_BOOL(no_broadcast, NetFilter),
    VMSTATE_END,
};

const VMStateDescription vmstate_virtio_net_filter = {
    .name = "virtio-net-filter",
    .version = 1,
    .minimum_version = 1,
    .fields = filter_fields,
};

static bool macs_needed(void *opaque)
{
    const NetFilter *f = &((VirtIONet *)opaque)->saved_filter;

    return f->n_macs > 0 || f->unicast_overflow || f->multicast_overflow;
}

static bool vlans_needed(void *opaque)
{
    const NetFilter *f = &((VirtIONet *)opaque)->saved_filter;

    return !buffer_is_zero(f->vlans, sizeof(f->vlans));
}

static const VMStateField list_fields[] = {
    VMSTATE_UINT32(n_macs, NetFilter),
    VMSTATE_UINT32(first_multicast, NetFilter),
    VMSTATE_BOOL(unicast_overflow, NetFilter),
    VMSTATE_BOOL(multicast_overflow, NetFilter),
    VMSTATE_BUFFER(macs, NetFilter),
    VMSTATE_END,
};

static const VMStateDescription vmstate_list = {
    .name = "virtio-net-macs",
    .version = 1,
    .minimum_version = 1,
    .fields = list_fields,
};

static const VMStateField macs_fields[] = {
    VMSTATE_STRUCT(saved_filter, VirtIONet, vmstate_list, NetFilter),
    VMSTATE_END,
};

const VMStateDescription vmstate_virtio_net_macs = {
    .name = "virtio-net/macs",
    .version = 1,
    .minimum_version = 1,
    .needed = macs_needed,
    .fields = macs_fields,
};

static const VMStateField vlans_fields[] = {
    VMSTATE_BUFFER(saved_filter.vlans, VirtIONet),
    VMSTATE_END,
};

const VMStateDescription vmstate_virtio_net_vlans = {
    .name = "virtio-net/vlans",
    .version = 1,
    .minimum_version = 1,
    .needed = vlans_needed,
    .fields = vlans_fields,
};
