/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A virtio-mmio transport: one slot of a board that may carry one virtio device. */
#ifndef HW_VIRTIO_VIRTIO_MMIO_H
#define HW_VIRTIO_VIRTIO_MMIO_H

#include "hw/virtio/virtio.h"

enum { VIRTIO_MMIO_SIZE = 0x200 };

typedef struct VirtIOMMIO VirtIOMMIO;

VirtIOMMIO *virtio_mmio_new(AddressSpace *as, uint64_t base, IrqLine irq);
/* Before the machine runs; the slot is empty.  instance: the slot's number. */
void virtio_mmio_plug(VirtIOMMIO *s, VirtIODevice *vdev, AddressSpace *as);
VirtIODevice *virtio_mmio_device(VirtIOMMIO *s); /* NULL: empty slot */
/* The device's requests have ended (parked, stopped). */
void virtio_mmio_reset(VirtIOMMIO *s);
void virtio_mmio_register(VirtIOMMIO *s, VMStateRegistry *r, int instance);
void virtio_mmio_free(VirtIOMMIO *s);

#endif
