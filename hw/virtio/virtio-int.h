/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of this folder share. */
#ifndef HW_VIRTIO_VIRTIO_INT_H
#define HW_VIRTIO_VIRTIO_INT_H

#include "hw/virtio/virtio.h"

/*
 * Looks up the rings in guest RAM.  Returns NULL, or what is wrong with them.
 */
const char *virtqueue_map(VirtIODevice *vdev, VirtQueue *vq);

#endif
