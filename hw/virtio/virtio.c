/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What every virtio device does: status, feature negotiation, interrupts, reset and the
 * machine state of queues.  Threads as hw/virtio/virtio.h says.
 */
#include <glib.h>
#include <inttypes.h>
#include <string.h>
#include "qapi/error.h"
#include "util/log.h"
#include "virtio-int.h"

void virtio_init(VirtIODevice *vdev, const VirtIODeviceOps *ops, uint64_t features,
                 int nr_queues, int queue_size)
{
    g_assert(nr_queues <= VIRTIO_MAX_QUEUES && !(queue_size & (queue_size - 1)));
    vdev->ops = ops;
    vdev->host_features =
        features | VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC;
    vdev->nr_queues = nr_queues;
    pthread_mutex_init(&vdev->lock, NULL);
    pthread_mutex_init(&vdev->irq_lock, NULL);
    for (int i = 0; i < nr_queues; i++) {
        vdev->vq[i].num_max = queue_size;
    }
    virtio_reset_stopped(vdev);
}

void virtio_cleanup(VirtIODevice *vdev)
{
    pthread_mutex_destroy(&vdev->lock);
    pthread_mutex_destroy(&vdev->irq_lock);
}

bool virtio_is_running(VirtIODevice *vdev)
{
    uint32_t status = atomic_load(&vdev->status);

    return (status & (VIRTIO_STATUS_DRIVER_OK | VIRTIO_STATUS_NEEDS_RESET)) ==
           VIRTIO_STATUS_DRIVER_OK;
}

bool virtio_has_feature(VirtIODevice *vdev, uint64_t feature)
{
    return vdev->guest_features & feature;
}

void virtio_raise(VirtIODevice *vdev, uint32_t reason)
{
    pthread_mutex_lock(&vdev->irq_lock);
    vdev->isr |= reason;
    irq_set(&vdev->irq, vdev->isr != 0);
    pthread_mutex_unlock(&vdev->irq_lock);
}

uint32_t virtio_isr(VirtIODevice *vdev)
{
    uint32_t isr;

    pthread_mutex_lock(&vdev->irq_lock);
    isr = vdev->isr;
    pthread_mutex_unlock(&vdev->irq_lock);
    return isr;
}

void virtio_isr_ack(VirtIODevice *vdev, uint32_t bits)
{
    pthread_mutex_lock(&vdev->irq_lock);
    vdev->isr &= ~bits;
    irq_set(&vdev->irq, vdev->isr != 0);
    pthread_mutex_unlock(&vdev->irq_lock);
}

void virtio_config_changed(VirtIODevice *vdev)
{
    atomic_fetch_add(&vdev->config_generation, 1);
    if (atomic_load(&vdev->status) & VIRTIO_STATUS_DRIVER_OK) {
        virtio_raise(vdev, VIRTIO_INT_CONFIG);
    }
}

void virtio_set_broken(VirtIODevice *vdev, const char *fmt, ...)
{
    uint32_t old = atomic_fetch_or(&vdev->status, VIRTIO_STATUS_NEEDS_RESET);
    g_autofree char *what = NULL;
    va_list ap;

    if (old & VIRTIO_STATUS_NEEDS_RESET) {
        return;
    }
    va_start(ap, fmt);
    what = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    log_printf("%s: %s: guest error: %s\n", g_get_prgname(), vdev->ops->name, what);
    if (old & VIRTIO_STATUS_DRIVER_OK) {
        virtio_raise(vdev, VIRTIO_INT_CONFIG);
    }
}

typedef struct StopWait {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool done;
} StopWait;

static void stop_done(void *opaque)
{
    StopWait *w = opaque;

    pthread_mutex_lock(&w->lock);
    w->done = true;
    pthread_cond_signal(&w->cond);
    pthread_mutex_unlock(&w->lock);
}

/* A vCPU waits until its requests have ended: the driver may reuse their memory. */
static void stop_and_wait(VirtIODevice *vdev)
{
    StopWait w = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false};

    vdev->ops->stop(vdev, stop_done, &w);
    pthread_mutex_lock(&w.lock);
    while (!w.done) {
        pthread_cond_wait(&w.cond, &w.lock);
    }
    pthread_mutex_unlock(&w.lock);
    pthread_mutex_destroy(&w.lock);
    pthread_cond_destroy(&w.cond);
}

void virtio_reset_stopped(VirtIODevice *vdev)
{
    atomic_store(&vdev->status, 0);
    vdev->guest_features = 0;
    for (int i = 0; i < vdev->nr_queues; i++) {
        uint32_t num_max = vdev->vq[i].num_max;

        memset(&vdev->vq[i], 0, sizeof(vdev->vq[i]));
        vdev->vq[i].num_max = num_max;
        vdev->vq[i].num = num_max;
    }
    if (vdev->ops->reset) {
        vdev->ops->reset(vdev);
    }
    virtio_isr_ack(vdev, UINT32_MAX);
}

void virtio_set_status(VirtIODevice *vdev, uint32_t value)
{
    uint32_t old = atomic_load(&vdev->status);

    value &= 0xff;
    if (value == 0) {
        if (old & VIRTIO_STATUS_DRIVER_OK) {
            stop_and_wait(vdev);
        }
        virtio_reset_stopped(vdev);
        return;
    }
    if (value & ~old & VIRTIO_STATUS_FEATURES_OK &&
        (vdev->guest_features & ~vdev->host_features ||
         !(vdev->guest_features & VIRTIO_F_VERSION_1))) {
        value &= ~VIRTIO_STATUS_FEATURES_OK;
    }
    /* only reset takes bits away, and only we set NEEDS_RESET */
    atomic_fetch_or(&vdev->status, value & ~VIRTIO_STATUS_NEEDS_RESET);
    if (value & ~old & VIRTIO_STATUS_DRIVER_OK) {
        vdev->ops->start(vdev);
    }
}

void virtio_queue_set_ready(VirtIODevice *vdev, int n, bool ready)
{
    VirtQueue *vq = &vdev->vq[n];
    bool running = atomic_load(&vdev->status) & VIRTIO_STATUS_DRIVER_OK;
    const char *wrong = NULL;

    if (ready == vq->ready) {
        return;
    }
    if (running) {
        stop_and_wait(vdev);
    }
    if (ready) {
        wrong = virtqueue_map(vdev, vq);
    }
    vq->ready = ready && !wrong;
    vq->last_avail = vq->used_idx = vq->signalled_used = 0;
    vq->signalled_valid = false;
    if (wrong) {
        virtio_set_broken(vdev, "queue %d: %s", n, wrong);
    }
    if (running) {
        vdev->ops->start(vdev);
    }
}

/* --- Machine state: everything stands still, machine lock ------------------------------- */

static bool virtio_pre_save(void *opaque, GError **errp)
{
    VirtIODevice *vdev = opaque;

    vdev->saved_status = atomic_load(&vdev->status);
    return true;
}

static bool virtio_post_load(void *opaque, int version, GError **errp)
{
    VirtIODevice *vdev = opaque;

    if (vdev->guest_features & ~vdev->host_features) {
        error_setg(errp, "%s: snapshot uses features 0x%" PRIx64 " that the device has not",
                   vdev->ops->name, vdev->guest_features & ~vdev->host_features);
        return false;
    }
    for (int i = 0; i < vdev->nr_queues; i++) {
        const char *wrong = vdev->vq[i].ready ? virtqueue_map(vdev, &vdev->vq[i]) : NULL;

        if (wrong) {
            error_setg(errp, "%s: queue %d: %s", vdev->ops->name, i, wrong);
            return false;
        }
    }
    atomic_store(&vdev->status, vdev->saved_status & 0xff);
    virtio_raise(vdev, 0);
    if (vdev->saved_status & VIRTIO_STATUS_DRIVER_OK) {
        vdev->ops->start(vdev);
    }
    return true;
}

static const VMStateField queue_fields[] = {
    VMSTATE_UINT32(num, VirtQueue),
    VMSTATE_BOOL(ready, VirtQueue),
    VMSTATE_UINT64(desc, VirtQueue),
    VMSTATE_UINT64(avail, VirtQueue),
    VMSTATE_UINT64(used, VirtQueue),
    VMSTATE_UINT16(last_avail, VirtQueue),
    VMSTATE_UINT16(used_idx, VirtQueue),
    VMSTATE_UINT16(signalled_used, VirtQueue),
    VMSTATE_BOOL(signalled_valid, VirtQueue),
    VMSTATE_END,
};

static const VMStateDescription vmstate_queue = {
    .name = "virtqueue",
    .version = 1,
    .minimum_version = 1,
    .fields = queue_fields,
};

static const VMStateField device_fields[] = {
    VMSTATE_UINT64(guest_features, VirtIODevice),
    VMSTATE_UINT32(saved_status, VirtIODevice),
    VMSTATE_UINT32(isr, VirtIODevice),
    VMSTATE_STRUCT_ARRAY(vq, VirtIODevice, VIRTIO_MAX_QUEUES, vmstate_queue, VirtQueue),
    VMSTATE_END,
};

const VMStateDescription vmstate_virtio_device = {
    .name = "virtio",
    .version = 1,
    .minimum_version = 1,
    .pre_save = virtio_pre_save,
    .post_load = virtio_post_load,
    .fields = device_fields,
};
