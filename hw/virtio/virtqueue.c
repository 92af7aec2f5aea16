/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Split virtqueues: reading the driver's descriptor chains, returning used buffers, and the
 * event index (specification 2.7).  Runs in the queue's thread.  Everything read from guest
 * RAM is read once and checked; the guest may change it at any moment.
 */
#include <glib.h>
#include <inttypes.h>
#include <string.h>
#include "virtio-int.h"
#include "util/guest-memory.h"

enum {
    DESC_F_NEXT = 1,
    DESC_F_WRITE = 2,
    DESC_F_INDIRECT = 4,
    DESC_SIZE = 16,
    AVAIL_F_NO_INTERRUPT = 1,
    USED_F_NO_NOTIFY = 1,
};

typedef struct Desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags, next;
} Desc;

/* Little endian numbers in memory that the guest shares; p is aligned. */
static uint16_t load16(const uint8_t *p)
{
    return GUINT16_FROM_LE(__atomic_load_n((const uint16_t *)p, __ATOMIC_ACQUIRE));
}

static void store16(uint8_t *p, uint16_t value)
{
    __atomic_store_n((uint16_t *)p, GUINT16_TO_LE(value), __ATOMIC_RELEASE);
}

static void store32(uint8_t *p, uint32_t value)
{
    __atomic_store_n((uint32_t *)p, GUINT32_TO_LE(value), __ATOMIC_RELAXED);
}

/* A table's address need not be aligned when it is an indirect one. */
static Desc load_desc(const uint8_t *table, unsigned i)
{
    const uint8_t *p = table + (size_t)i * DESC_SIZE;
    Desc d;

    guest_memory_begin();
    memcpy(&d.addr, p, 8);
    memcpy(&d.len, p + 8, 4);
    memcpy(&d.flags, p + 12, 2);
    memcpy(&d.next, p + 14, 2);
    guest_memory_end();
    d.addr = GUINT64_FROM_LE(d.addr);
    d.len = GUINT32_FROM_LE(d.len);
    d.flags = GUINT16_FROM_LE(d.flags);
    d.next = GUINT16_FROM_LE(d.next);
    return d;
}

/* avail: flags, idx, ring[num], used_event.  used: flags, idx, ring[num], avail_event. */
static uint8_t *used_event(const VirtQueue *vq)
{
    return vq->avail_host + 4 + 2 * vq->num;
}

static uint8_t *avail_event(const VirtQueue *vq)
{
    return vq->used_host + 4 + 8 * vq->num;
}

const char *virtqueue_map(VirtIODevice *vdev, VirtQueue *vq)
{
    if (vq->num == 0 || vq->num > vq->num_max || (vq->num & (vq->num - 1))) {
        return "size is not a power of two in range";
    }
    if (vq->desc & 15 || vq->avail & 1 || vq->used & 3) {
        return "ring is not aligned";
    }
    vq->desc_host = address_space_map(vdev->as, vq->desc, DESC_SIZE * vq->num, false);
    vq->avail_host = address_space_map(vdev->as, vq->avail, 6 + 2 * vq->num, false);
    vq->used_host = address_space_map(vdev->as, vq->used, 6 + 8 * vq->num, true);
    if (!vq->desc_host || !vq->avail_host || !vq->used_host) {
        return "ring is outside of RAM";
    }
    return NULL;
}

static bool add_buffer(VirtIODevice *vdev, VirtQueueElement *elem, const Desc *d)
{
    bool in = d->flags & DESC_F_WRITE;
    IOVector *v = in ? &elem->in : &elem->out;
    void *host;

    if (!in && elem->in.niov) {
        virtio_set_broken(vdev, "readable descriptor behind a writable one");
        return false;
    }
    if (d->len == 0) {
        virtio_set_broken(vdev, "descriptor of length 0");
        return false;
    }
    host = address_space_map(vdev->as, d->addr, d->len, in);
    if (!host) {
        virtio_set_broken(vdev, "buffer at 0x%" PRIx64 ", %u bytes, is outside of RAM",
                          d->addr, d->len);
        return false;
    }
    if (in) {
        elem->in_addr = g_renew(uint64_t, elem->in_addr, elem->in.niov + 1);
        elem->in_addr[elem->in.niov] = d->addr;
    }
    io_vector_add(v, host, d->len);
    return true;
}

/* Follows the chain from descriptor head; false if the device broke. */
static bool read_chain(VirtIODevice *vdev, VirtQueue *vq, VirtQueueElement *elem)
{
    const uint8_t *table = vq->desc_host;
    uint32_t table_len = vq->num, i = elem->head, seen = 0;
    bool indirect = false;

    for (;;) {
        Desc d = load_desc(table, i);

        /* a chain longer than its table has a loop */
        if (seen++ >= MIN(table_len, VIRTQUEUE_MAX_CHAIN)) {
            virtio_set_broken(vdev, "descriptor chain is too long or has a loop");
            return false;
        }
        if (d.flags & DESC_F_INDIRECT) {
            if (indirect || !virtio_has_feature(vdev, VIRTIO_F_INDIRECT_DESC) ||
                d.flags & (DESC_F_NEXT | DESC_F_WRITE) || d.len == 0 || d.len % DESC_SIZE ||
                !(table = address_space_map(vdev->as, d.addr, d.len, false))) {
                virtio_set_broken(vdev, "indirect descriptor table is not valid");
                return false;
            }
            indirect = true;
            table_len = d.len / DESC_SIZE;
            i = 0;
            seen = 0;
            continue;
        }
        if (!add_buffer(vdev, elem, &d)) {
            return false;
        }
        if (!(d.flags & DESC_F_NEXT)) {
            return true;
        }
        if (d.next >= table_len) {
            virtio_set_broken(vdev, "descriptor number %u is out of range", d.next);
            return false;
        }
        i = d.next;
    }
}

/* The request at descriptor head, which is in range; NULL if the device broke. */
static VirtQueueElement *read_element(VirtIODevice *vdev, VirtQueue *vq, uint16_t head)
{
    VirtQueueElement *elem = g_new0(VirtQueueElement, 1);

    elem->head = head;
    io_vector_init(&elem->out, 4);
    io_vector_init(&elem->in, 4);
    if (!read_chain(vdev, vq, elem)) {
        virtqueue_element_free(elem);
        return NULL;
    }
    return elem;
}

VirtQueueElement *virtqueue_again(VirtIODevice *vdev, int n, uint16_t head)
{
    VirtQueue *vq = &vdev->vq[n];

    return virtio_is_running(vdev) && vq->ready && head < vq->num ? read_element(vdev, vq, head)
                                                                  : NULL;
}

VirtQueueElement *virtqueue_pop(VirtIODevice *vdev, int n)
{
    VirtQueue *vq = &vdev->vq[n];
    uint16_t head, waiting;

    if (!virtio_is_running(vdev) || !vq->ready) {
        return NULL;
    }
    waiting = load16(vq->avail_host + 2) - vq->last_avail;
    if (waiting == 0) {
        return NULL;
    }
    if (waiting > vq->num) {
        virtio_set_broken(vdev, "available index is %u ahead in a queue of %u", waiting,
                          vq->num);
        return NULL;
    }
    head = load16(vq->avail_host + 4 + 2 * (vq->last_avail & (vq->num - 1)));
    if (head >= vq->num) {
        virtio_set_broken(vdev, "descriptor number %u is out of range", head);
        return NULL;
    }
    vq->last_avail++;
    return read_element(vdev, vq, head);
}

void virtqueue_unpop(VirtIODevice *vdev, int n, unsigned count)
{
    vdev->vq[n].last_avail -= count;
}

void virtqueue_fill(VirtIODevice *vdev, int n, const VirtQueueElement *elem, uint32_t len,
                    unsigned ahead)
{
    VirtQueue *vq = &vdev->vq[n];
    uint8_t *slot = vq->used_host + 4 + 8 * ((uint16_t)(vq->used_idx + ahead) & (vq->num - 1));

    for (int i = 0; i < elem->in.niov; i++) {
        address_space_dirtied(vdev->as, elem->in_addr[i], elem->in.iov[i].iov_len);
    }
    store32(slot, elem->head);
    store32(slot + 4, len);
}

void virtqueue_flush(VirtIODevice *vdev, int n, unsigned count)
{
    VirtQueue *vq = &vdev->vq[n];

    vq->used_idx += count;
    store16(vq->used_host + 2, vq->used_idx);
}

void virtqueue_push(VirtIODevice *vdev, int n, const VirtQueueElement *elem, uint32_t len)
{
    virtqueue_fill(vdev, n, elem, len, 0);
    virtqueue_flush(vdev, n, 1);
}

void virtqueue_notify(VirtIODevice *vdev, int n)
{
    VirtQueue *vq = &vdev->vq[n];
    uint16_t old = vq->signalled_used, new = vq->used_idx;
    bool valid = vq->signalled_valid, wanted;

    /* the used index must be visible before we look at what the driver asked for */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (virtio_has_feature(vdev, VIRTIO_F_EVENT_IDX)) {
        uint16_t event = load16(used_event(vq));

        wanted = !valid || (uint16_t)(new - event - 1) < (uint16_t)(new - old);
        vq->signalled_used = new;
        vq->signalled_valid = true;
    } else {
        wanted = !(load16(vq->avail_host) & AVAIL_F_NO_INTERRUPT);
    }
    if (wanted) {
        virtio_raise(vdev, VIRTIO_INT_QUEUE);
    }
}

bool virtqueue_enable_notify(VirtIODevice *vdev, int n, bool enable)
{
    VirtQueue *vq = &vdev->vq[n];

    if (!vq->ready) {
        return false;
    }
    if (virtio_has_feature(vdev, VIRTIO_F_EVENT_IDX)) {
        if (enable) {
            store16(avail_event(vq), vq->last_avail);
        }
    } else {
        store16(vq->used_host, enable ? 0 : USED_F_NO_NOTIFY);
    }
    if (!enable) {
        return false;
    }
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return load16(vq->avail_host + 2) != vq->last_avail;
}

void virtqueue_element_free(VirtQueueElement *elem)
{
    io_vector_destroy(&elem->out);
    io_vector_destroy(&elem->in);
    g_free(elem->in_addr);
    g_free(elem);
}
