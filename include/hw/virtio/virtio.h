/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Virtio devices and their split virtqueues (Virtual I/O Device specification 1.2),
 * independent of the transport and of the kind of device.
 *
 * Threads: the transport's register accesses come from vCPU threads under the device's own
 * lock; the queues are worked on by one other thread (an IOThread) between start() and the
 * completion of stop(), without a lock.  What both need is atomic.
 *
 * A guest that breaks the rules of the queue does not get far: the device is marked broken
 * (DEVICE_NEEDS_RESET) and rests until the driver resets it.
 */
#ifndef HW_VIRTIO_VIRTIO_H
#define HW_VIRTIO_VIRTIO_H

#include <pthread.h>
#include <stdatomic.h>
#include "hw/address-space.h"
#include "hw/irq.h"
#include "migration/vmstate.h"
#include "util/iov.h"

enum {
    VIRTIO_ID_NET = 1,
    VIRTIO_ID_BLOCK = 2,

    VIRTIO_STATUS_DRIVER_OK = 4,
    VIRTIO_STATUS_FEATURES_OK = 8,
    VIRTIO_STATUS_NEEDS_RESET = 0x40,

    VIRTIO_INT_QUEUE = 1, /* interrupt status bits */
    VIRTIO_INT_CONFIG = 2,

    VIRTIO_MAX_QUEUES = 4,
    VIRTQUEUE_MAX_CHAIN = 1024, /* descriptors in one request, longest that is accepted */
};
#define VIRTIO_F_INDIRECT_DESC (UINT64_C(1) << 28)
#define VIRTIO_F_EVENT_IDX (UINT64_C(1) << 29)
#define VIRTIO_F_VERSION_1 (UINT64_C(1) << 32)

typedef struct VirtIODevice VirtIODevice;

typedef struct VirtQueue {
    /* set up by the driver, constant while the device is started */
    uint32_t num;
    bool ready;
    uint64_t desc, avail, used; /* guest addresses */
    /* position; the queue's thread */
    uint16_t last_avail, used_idx;
    uint16_t signalled_used;
    bool signalled_valid;
    /* not saved */
    uint32_t num_max;
    uint8_t *desc_host, *avail_host, *used_host;
} VirtQueue;

typedef struct VirtIODeviceOps {
    const char *name; /* "virtio-blk" */
    uint16_t device_id;
    size_t config_size;
    /* Any thread: only what does not change after creation. */
    void (*get_config)(VirtIODevice *vdev, uint8_t *config);
    void (*set_config)(VirtIODevice *vdev, const uint8_t *config);
    /* The queues may be used from now on / queue n has new buffers.  Any thread. */
    void (*start)(VirtIODevice *vdev);
    void (*notify)(VirtIODevice *vdev, int n);
    /*
     * Asks the device to finish its requests and leave the queues alone; done(opaque) is
     * called, in any thread, when that is so.  Any thread; may complete at once.
     */
    void (*stop)(VirtIODevice *vdev, void (*done)(void *opaque), void *opaque);
    void (*reset)(VirtIODevice *vdev); /* stopped */
} VirtIODeviceOps;

struct VirtIODevice {
    const VirtIODeviceOps *ops;
    AddressSpace *as;
    IrqLine irq;
    pthread_mutex_t lock; /* register accesses; may be held while waiting for stop() */
    pthread_mutex_t irq_lock; /* isr together with the wire; leaf but for the PLIC's */
    uint64_t host_features;
    uint64_t guest_features; /* constant once FEATURES_OK is set */
    _Atomic uint32_t status;
    uint32_t isr; /* irq_lock */
    atomic_uint config_generation;
    int nr_queues;
    VirtQueue vq[VIRTIO_MAX_QUEUES];
    /* migration: what is atomic above, as plain numbers */
    uint32_t saved_status;
};

/* A request as the driver chained it; freed by the device with virtqueue_element_free(). */
typedef struct VirtQueueElement {
    uint16_t head;
    IOVector out, in;   /* device reads / device writes */
    uint64_t *in_addr;  /* guest address of each element of in */
} VirtQueueElement;

/* --- Device ---------------------------------------------------------------------------- */

/* Fills in vdev, which is zeroed.  queue_size: a power of two. */
void virtio_init(VirtIODevice *vdev, const VirtIODeviceOps *ops, uint64_t features,
                 int nr_queues, int queue_size);
void virtio_cleanup(VirtIODevice *vdev);
/* Started, healthy: the queues may be worked on.  Any thread. */
bool virtio_is_running(VirtIODevice *vdev);
bool virtio_has_feature(VirtIODevice *vdev, uint64_t feature);
/*
 * The guest broke a rule: reports it once in the log, sets DEVICE_NEEDS_RESET.  Any thread,
 * with locks held: never waits.
 */
void virtio_set_broken(VirtIODevice *vdev, const char *fmt, ...) G_GNUC_PRINTF(2, 3);
/* Raises an interrupt for reason (VIRTIO_INT_*).  Any thread. */
void virtio_raise(VirtIODevice *vdev, uint32_t reason);
void virtio_config_changed(VirtIODevice *vdev);

/* --- For transports (vdev->lock held, or the machine parked) ---------------------------- */

/* The driver writes the status register.  Writing 0 resets, waiting for requests to end. */
void virtio_set_status(VirtIODevice *vdev, uint32_t value);
/* The driver makes queue n ready or not.  Validates the rings. */
void virtio_queue_set_ready(VirtIODevice *vdev, int n, bool ready);
uint32_t virtio_isr(VirtIODevice *vdev);
void virtio_isr_ack(VirtIODevice *vdev, uint32_t bits);
/* Back to the state of power-on; nothing is in flight. */
void virtio_reset_stopped(VirtIODevice *vdev);

/* --- Queues (the queue's thread) --------------------------------------------------------- */

/* The next request, NULL if there is none or the device broke. */
VirtQueueElement *virtqueue_pop(VirtIODevice *vdev, int n);
/*
 * The request at descriptor head, taken before and not given back yet, once more; NULL if
 * the device broke.
 */
VirtQueueElement *virtqueue_again(VirtIODevice *vdev, int n, uint16_t head);
/* The last count requests were not taken: virtqueue_pop() will give them again. */
void virtqueue_unpop(VirtIODevice *vdev, int n, unsigned count);
/*
 * Several requests that the driver shall get at once: each is put ahead of the one before, from 0
 * on, then all are given back.  len as below.  Frees nothing.
 */
void virtqueue_fill(VirtIODevice *vdev, int n, const VirtQueueElement *elem, uint32_t len,
                    unsigned ahead);
void virtqueue_flush(VirtIODevice *vdev, int n, unsigned count);
/* Gives a request back, len bytes of which have been written.  Frees nothing. */
void virtqueue_push(VirtIODevice *vdev, int n, const VirtQueueElement *elem, uint32_t len);
/* Interrupts the driver for what was pushed, if it wants to know. */
void virtqueue_notify(VirtIODevice *vdev, int n);
/*
 * Tells the driver whether it needs to notify.  Returns true if there are requests after
 * all, after switching on.
 */
bool virtqueue_enable_notify(VirtIODevice *vdev, int n, bool enable);
void virtqueue_element_free(VirtQueueElement *elem);

/* Fields of VirtIODevice for a device's own description, and the checks after loading. */
extern const VMStateDescription vmstate_virtio_device;

#endif
