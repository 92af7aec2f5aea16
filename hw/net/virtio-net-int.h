/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The virtio network device as its files share it. */
#ifndef HW_NET_VIRTIO_NET_INT_H
#define HW_NET_VIRTIO_NET_INT_H

#include "hw/net/virtio-net.h"

#define F_MAC (UINT64_C(1) << 5)
#define F_MRG_RXBUF (UINT64_C(1) << 15)
#define F_STATUS (UINT64_C(1) << 16)
#define F_CTRL_VQ (UINT64_C(1) << 17)
#define F_CTRL_RX (UINT64_C(1) << 18)
#define F_CTRL_VLAN (UINT64_C(1) << 19)
#define F_CTRL_RX_EXTRA (UINT64_C(1) << 20)
#define F_GUEST_ANNOUNCE (UINT64_C(1) << 21)
#define F_CTRL_MAC_ADDR (UINT64_C(1) << 23)

enum {
    VIRTIO_NET_RX = 0, /* queues */
    VIRTIO_NET_TX = 1,
    VIRTIO_NET_CTRL = 2,
    VIRTIO_NET_QUEUES = 3,

    VIRTIO_NET_S_LINK_UP = 1, /* bits of the status */
    VIRTIO_NET_S_ANNOUNCE = 2,

    VIRTIO_NET_MAX_MACS = 64,
    VIRTIO_NET_VLAN_BYTES = 4096 / 8,
};

/* Which frames the driver wants; machine state. */
typedef struct NetFilter {
    bool promiscuous, all_multicast, all_unicast, no_multicast, no_unicast, no_broadcast;
    uint32_t n_macs, first_multicast; /* of the list; groups come behind */
    bool unicast_overflow, multicast_overflow;
    uint8_t macs[VIRTIO_NET_MAX_MACS * NET_MAC_SIZE];
    uint8_t vlans[VIRTIO_NET_VLAN_BYTES]; /* a bit for each */
} NetFilter;

/* Home is the network thread: fields without a remark are its own while the machine runs. */
struct VirtIONet {
    NetClient nc;
    VirtIODevice vdev;
    char *id, *path;
    uint8_t own_mac[NET_MAC_SIZE]; /* constant: after a reset */
    AioBH *bh[VIRTIO_NET_QUEUES];
    bool stopped;
    bool tx_blocked; /* the peer takes no more */
    bool filter_told; /* clients have been told that the filter has changed */
    _Atomic uint64_t mac; /* the first byte is the lowest */
    _Atomic uint32_t status; /* VIRTIO_NET_S_* */
    NetFilter filter; /* virtio_net_filter() */
    atomic_bool was_reset; /* filter is that of another driver */
    bool by_vlan;          /* the driver has negotiated F_CTRL_VLAN */
    uint8_t frame[NET_FRAME_MAX]; /* one that is sent */
    /* machine state; machine lock */
    uint8_t saved_mac[NET_MAC_SIZE];
    uint16_t saved_status;
    NetFilter saved_filter;
};

void virtio_net_get_mac(VirtIONet *s, uint8_t mac[NET_MAC_SIZE]);
void virtio_net_set_mac(VirtIONet *s, const uint8_t mac[NET_MAC_SIZE]);

/* --- virtio-net-filter.c: home ---------------------------------------------------------------- */

void net_filter_reset(NetFilter *f);
/* The device's, as it is after all resets. */
NetFilter *virtio_net_filter(VirtIONet *s);
/* Whether the driver wants the frame, which has a header. */
bool virtio_net_wants(VirtIONet *s, const uint8_t *frame, size_t len);
/* Does what the requests in the control queue say. */
void virtio_net_control(VirtIONet *s);
RxFilterInfo *virtio_net_rx_filter(NetClient *nc);
/* Whether a list that was loaded can be one. */
bool net_filter_is_valid(const NetFilter *f);
extern const VMStateDescription vmstate_virtio_net_filter, vmstate_virtio_net_macs,
    vmstate_virtio_net_vlans;

#endif
