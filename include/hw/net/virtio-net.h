/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Virtio network device. */
#ifndef HW_NET_VIRTIO_NET_H
#define HW_NET_VIRTIO_NET_H

#include "hw/virtio/virtio.h"
#include "net/net.h"

typedef struct VirtIONet VirtIONet;

typedef struct VirtIONetConfig {
    const char *name; /* of the client */
    const char *id;   /* the user's name of the device, or NULL */
    const char *path; /* in the tree of devices */
    uint8_t mac[NET_MAC_SIZE];
    NetClient *peer; /* a backend without a peer, or NULL */
} VirtIONetConfig;

/* All of these but virtio_net_register(), main thread: in the network thread. */
VirtIONet *virtio_net_new(const VirtIONetConfig *config);
VirtIODevice *virtio_net_vdev(VirtIONet *s);
void virtio_net_register(VirtIONet *s, VMStateRegistry *r, int instance);
/* The machine does not run any more, and the device has been stopped or was never started. */
void virtio_net_free(VirtIONet *s);

#endif
