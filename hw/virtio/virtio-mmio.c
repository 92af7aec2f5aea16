/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Virtio over MMIO, register layout version 2 (specification 1.2, section 4.2).  An empty
 * slot answers with device id 0, which tells a driver to leave it alone.
 *
 * Registers come from vCPU threads under the device's own lock, without the machine lock: a
 * reset may have to wait for a disk.
 */
#include <glib.h>
#include <string.h>
#include "hw/virtio/virtio-mmio.h"

enum {
    MAGIC = 0x000,
    VERSION = 0x004,
    DEVICE_ID = 0x008,
    VENDOR_ID = 0x00c,
    DEVICE_FEATURES = 0x010,
    DEVICE_FEATURES_SEL = 0x014,
    DRIVER_FEATURES = 0x020,
    DRIVER_FEATURES_SEL = 0x024,
    QUEUE_SEL = 0x030,
    QUEUE_NUM_MAX = 0x034,
    QUEUE_NUM = 0x038,
    QUEUE_READY = 0x044,
    QUEUE_NOTIFY = 0x050,
    INTERRUPT_STATUS = 0x060,
    INTERRUPT_ACK = 0x064,
    STATUS = 0x070,
    QUEUE_DESC_LOW = 0x080,
    QUEUE_DESC_HIGH = 0x084,
    QUEUE_DRIVER_LOW = 0x090,
    QUEUE_DRIVER_HIGH = 0x094,
    QUEUE_DEVICE_LOW = 0x0a0,
    QUEUE_DEVICE_HIGH = 0x0a4,
    SHM_LEN_LOW = 0x0b0, /* to 0x0bc: no shared memory regions, all ones */
    SHM_BASE_HIGH = 0x0bc,
    CONFIG_GENERATION = 0x0fc,
    CONFIG = 0x100,
    MAX_CONFIG = 0x100,
};

struct VirtIOMMIO {
    VirtIODevice *vdev;
    IrqLine irq;
    /* machine state; vdev->lock */
    uint32_t device_features_sel, driver_features_sel, queue_sel;
};

static VirtQueue *selected(VirtIOMMIO *s)
{
    return s->queue_sel < (uint32_t)s->vdev->nr_queues ? &s->vdev->vq[s->queue_sel] : NULL;
}

static uint64_t read_config(VirtIOMMIO *s, uint64_t offset, unsigned size)
{
    uint8_t config[MAX_CONFIG] = {0};
    uint64_t value = 0;

    if (offset + size <= s->vdev->ops->config_size) {
        s->vdev->ops->get_config(s->vdev, config);
        memcpy(&value, config + offset, size);
    }
    return GUINT64_FROM_LE(value);
}

static void write_config(VirtIOMMIO *s, uint64_t offset, uint64_t value, unsigned size)
{
    uint8_t config[MAX_CONFIG] = {0};

    if (s->vdev->ops->set_config && offset + size <= s->vdev->ops->config_size) {
        value = GUINT64_TO_LE(value);
        s->vdev->ops->get_config(s->vdev, config);
        memcpy(config + offset, &value, size);
        s->vdev->ops->set_config(s->vdev, config);
    }
}

static uint64_t read_register(VirtIOMMIO *s, uint64_t offset)
{
    VirtIODevice *vdev = s->vdev;
    VirtQueue *vq = selected(s);

    switch (offset) {
    case DEVICE_ID:
        return vdev->ops->device_id;
    case DEVICE_FEATURES:
        return s->device_features_sel > 1
                   ? 0
                   : (uint32_t)(vdev->host_features >> 32 * s->device_features_sel);
    case QUEUE_NUM_MAX:
        return vq ? vq->num_max : 0;
    case QUEUE_READY:
        return vq ? vq->ready : 0;
    case INTERRUPT_STATUS:
        return virtio_isr(vdev);
    case STATUS:
        return atomic_load(&vdev->status);
    case CONFIG_GENERATION:
        return atomic_load(&vdev->config_generation);
    default:
        return offset >= SHM_LEN_LOW && offset <= SHM_BASE_HIGH ? UINT32_MAX : 0;
    }
}

static uint64_t mmio_read(void *opaque, uint64_t offset, unsigned size)
{
    VirtIOMMIO *s = opaque;
    uint64_t value;

    if (offset < CONFIG && (size != 4 || offset & 3)) {
        return 0;
    }
    switch (offset) {
    case MAGIC:
        return 0x74726976; /* "virt" */
    case VERSION:
        return 2;
    case VENDOR_ID:
        return 0x554d4551; /* "QEMU", the vendor id that drivers know for this board */
    }
    if (!s->vdev) {
        return 0;
    }
    pthread_mutex_lock(&s->vdev->lock);
    value = offset >= CONFIG ? read_config(s, offset - CONFIG, size) : read_register(s, offset);
    pthread_mutex_unlock(&s->vdev->lock);
    return value;
}

static void set_half(uint64_t *reg, bool high, uint32_t value)
{
    *reg = high ? (uint32_t)*reg | (uint64_t)value << 32
                : (*reg & ~(uint64_t)UINT32_MAX) | value;
}

/* Where the rings are may be said only while the queue is not in use. */
static void write_queue_register(VirtIOMMIO *s, uint64_t offset, uint32_t value)
{
    VirtQueue *vq = selected(s);

    if (!vq || vq->ready) {
        return;
    }
    switch (offset) {
    case QUEUE_NUM:
        vq->num = value;
        break;
    case QUEUE_DESC_LOW:
    case QUEUE_DESC_HIGH:
        set_half(&vq->desc, offset == QUEUE_DESC_HIGH, value);
        break;
    case QUEUE_DRIVER_LOW:
    case QUEUE_DRIVER_HIGH:
        set_half(&vq->avail, offset == QUEUE_DRIVER_HIGH, value);
        break;
    case QUEUE_DEVICE_LOW:
    case QUEUE_DEVICE_HIGH:
        set_half(&vq->used, offset == QUEUE_DEVICE_HIGH, value);
        break;
    }
}

static void reset_selectors(VirtIOMMIO *s)
{
    s->device_features_sel = s->driver_features_sel = s->queue_sel = 0;
}

static void write_register(VirtIOMMIO *s, uint64_t offset, uint32_t value)
{
    VirtIODevice *vdev = s->vdev;

    switch (offset) {
    case DEVICE_FEATURES_SEL:
        s->device_features_sel = value;
        break;
    case DRIVER_FEATURES_SEL:
        s->driver_features_sel = value;
        break;
    case DRIVER_FEATURES:
        if (s->driver_features_sel <= 1 &&
            !(atomic_load(&vdev->status) & VIRTIO_STATUS_FEATURES_OK)) {
            set_half(&vdev->guest_features, s->driver_features_sel, value);
        }
        break;
    case QUEUE_SEL:
        s->queue_sel = value;
        break;
    case QUEUE_READY:
        if (selected(s)) {
            virtio_queue_set_ready(vdev, s->queue_sel, value & 1);
        }
        break;
    case QUEUE_NOTIFY:
        if (value < (uint32_t)vdev->nr_queues) {
            vdev->ops->notify(vdev, value);
        }
        break;
    case INTERRUPT_ACK:
        virtio_isr_ack(vdev, value);
        break;
    case STATUS:
        virtio_set_status(vdev, value);
        if (value == 0) {
            reset_selectors(s);
        }
        break;
    default:
        write_queue_register(s, offset, value);
        break;
    }
}

static void mmio_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    VirtIOMMIO *s = opaque;

    if (!s->vdev || (offset < CONFIG && (size != 4 || offset & 3))) {
        return;
    }
    pthread_mutex_lock(&s->vdev->lock);
    if (offset >= CONFIG) {
        write_config(s, offset - CONFIG, value, size);
    } else {
        write_register(s, offset, value);
    }
    pthread_mutex_unlock(&s->vdev->lock);
}

static const MMIOOps mmio_ops = {
    .read = mmio_read,
    .write = mmio_write,
    .min_size = 1,
    .max_size = 8,
    .lockless = true,
};

static const VMStateField mmio_fields[] = {
    VMSTATE_UINT32(device_features_sel, VirtIOMMIO),
    VMSTATE_UINT32(driver_features_sel, VirtIOMMIO),
    VMSTATE_UINT32(queue_sel, VirtIOMMIO),
    VMSTATE_END,
};

static const VMStateDescription vmstate_mmio = {
    .name = "virtio-mmio",
    .version = 1,
    .minimum_version = 1,
    .fields = mmio_fields,
};

VirtIOMMIO *virtio_mmio_new(AddressSpace *as, uint64_t base, IrqLine irq)
{
    VirtIOMMIO *s = g_new0(VirtIOMMIO, 1);

    s->irq = irq;
    address_space_add_mmio(as, "virtio-mmio", base, VIRTIO_MMIO_SIZE, &mmio_ops, s);
    return s;
}

void virtio_mmio_plug(VirtIOMMIO *s, VirtIODevice *vdev, AddressSpace *as)
{
    g_assert(!s->vdev && vdev->ops->config_size <= MAX_CONFIG);
    vdev->as = as;
    vdev->irq = s->irq;
    s->vdev = vdev;
}

VirtIODevice *virtio_mmio_device(VirtIOMMIO *s)
{
    return s->vdev;
}

void virtio_mmio_reset(VirtIOMMIO *s)
{
    if (!s->vdev) {
        return;
    }
    /* The device is stopped, so who has this lock has it for a moment: somebody who reads. */
    pthread_mutex_lock(&s->vdev->lock);
    reset_selectors(s);
    virtio_reset_stopped(s->vdev);
    pthread_mutex_unlock(&s->vdev->lock);
}

void virtio_mmio_register(VirtIOMMIO *s, VMStateRegistry *r, int instance)
{
    vmstate_register(r, "virtio-mmio", instance, &vmstate_mmio, s);
}

void virtio_mmio_free(VirtIOMMIO *s)
{
    g_free(s);
}
