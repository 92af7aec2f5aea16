/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Virtio network device (specification 1.2, section 5.1) with one pair of queues and a control
 * queue.
 *
 * The queues are worked on in the network thread, where the backend lives too: a notification from
 * a vCPU schedules a bottom half there.  A frame to be sent is copied out of guest RAM and handed
 * over before its buffer is given back; one that comes is copied in.  So between two handlers of
 * the thread no request is half done, and while the guest stands no queue is touched: the machine
 * state is the rings, the filter and the link.
 */
#include <string.h>
#include "qapi/error.h"
#include "util/guest-memory.h"
#include "virtio-net-int.h"

enum {
    HEADER_SIZE = 12, /* struct virtio_net_hdr, with the number of buffers */
    NUM_BUFFERS = 10, /* where that is */
    CONFIG_SIZE = 10,
    QUEUE_SIZE = 256,
    BATCH = 256, /* frames sent before others have their turn */
};

static VirtIONet *from_vdev(VirtIODevice *vdev)
{
    return (VirtIONet *)((char *)vdev - offsetof(VirtIONet, vdev));
}

static VirtIONet *from_client(NetClient *nc)
{
    return (VirtIONet *)nc;
}

void virtio_net_get_mac(VirtIONet *s, uint8_t mac[NET_MAC_SIZE])
{
    uint64_t value = atomic_load(&s->mac);

    for (int i = 0; i < NET_MAC_SIZE; i++) {
        mac[i] = value >> 8 * i;
    }
}

void virtio_net_set_mac(VirtIONet *s, const uint8_t mac[NET_MAC_SIZE])
{
    uint64_t value = 0;

    for (int i = 0; i < NET_MAC_SIZE; i++) {
        value |= (uint64_t)mac[i] << 8 * i;
    }
    atomic_store(&s->mac, value);
}

/* Whether the queues may be used. */
static bool works(VirtIONet *s)
{
    return net_running() && !s->stopped && virtio_is_running(&s->vdev);
}

/* --- Receiving ------------------------------------------------------------------------------------ */

/* Copies [data, data + len) to the buffer at offset. */
static void copy_in(VirtQueueElement *elem, size_t offset, const void *data, size_t len)
{
    guest_memory_begin();
    io_vector_from_buf(&elem->in, offset, data, len);
    guest_memory_end();
}

typedef enum Fit { FIT, FIT_LATER, FIT_NEVER } Fit;

/* Takes buffers for total bytes off the queue; unless they fit they are as before. */
static Fit take_buffers(VirtIONet *s, size_t total, GPtrArray *buffers)
{
    const VirtQueue *vq = &s->vdev.vq[VIRTIO_NET_RX];
    bool mergeable = virtio_has_feature(&s->vdev, F_MRG_RXBUF);
    size_t room = 0;

    while (room < total) {
        VirtQueueElement *elem = virtqueue_pop(&s->vdev, VIRTIO_NET_RX);

        if (elem) {
            g_ptr_array_add(buffers, elem);
            room += elem->in.size;
        }
        if (elem && elem->in.size < HEADER_SIZE) {
            virtio_set_broken(&s->vdev, "receive buffer of %zu bytes", elem->in.size);
        }
        if (!virtio_is_running(&s->vdev)) {
            return FIT_NEVER;
        }
        if (!elem || (room < total && (!mergeable || buffers->len == vq->num))) {
            virtqueue_unpop(&s->vdev, VIRTIO_NET_RX, buffers->len);
            return elem ? FIT_NEVER : FIT_LATER;
        }
    }
    return FIT;
}

static void fill_buffers(VirtIONet *s, const uint8_t *frame, size_t len, GPtrArray *buffers)
{
    uint8_t header[HEADER_SIZE] = {0};
    size_t done = 0;

    header[NUM_BUFFERS] = buffers->len;
    header[NUM_BUFFERS + 1] = buffers->len >> 8;
    for (guint i = 0; i < buffers->len; i++) {
        VirtQueueElement *elem = buffers->pdata[i];
        size_t head = i == 0 ? HEADER_SIZE : 0, n = MIN(len - done, elem->in.size - head);

        copy_in(elem, 0, header, head);
        copy_in(elem, head, frame + done, n);
        done += n;
        virtqueue_fill(&s->vdev, VIRTIO_NET_RX, elem, head + n, i);
    }
    virtqueue_flush(&s->vdev, VIRTIO_NET_RX, buffers->len);
    virtqueue_notify(&s->vdev, VIRTIO_NET_RX);
}

/* Puts the frame into the guest's buffers; false if there are not enough of them yet. */
static bool deliver(VirtIONet *s, const uint8_t *frame, size_t len)
{
    g_autoptr(GPtrArray) buffers =
        g_ptr_array_new_with_free_func((GDestroyNotify)virtqueue_element_free);
    Fit fit;

    do {
        g_ptr_array_set_size(buffers, 0);
        fit = take_buffers(s, HEADER_SIZE + len, buffers);
    } while (fit == FIT_LATER && virtqueue_enable_notify(&s->vdev, VIRTIO_NET_RX, true));
    if (fit == FIT) {
        virtqueue_enable_notify(&s->vdev, VIRTIO_NET_RX, false);
        fill_buffers(s, frame, len, buffers);
    }
    return fit != FIT_LATER;
}

/*
 * Without a driver that listens a frame is lost.  It waits while the guest stands, and until a driver
 * that has just begun (or ended, which drops it) is known of here.
 */
static bool nic_receive(NetClient *nc, const uint8_t *frame, size_t len)
{
    VirtIONet *s = from_client(nc);

    if (!net_running()) {
        return false;
    }
    if (!virtio_is_running(&s->vdev)) {
        return true;
    }
    if (s->stopped) {
        return false;
    }
    return !s->vdev.vq[VIRTIO_NET_RX].ready || !virtio_net_wants(s, frame, len) ||
           deliver(s, frame, len);
}

static void rx_bh(void *opaque)
{
    VirtIONet *s = opaque;

    net_client_ready(&s->nc);
}

/* --- Sending -------------------------------------------------------------------------------------- */

/* A frame that is too long is lost. */
static void transmit(VirtIONet *s, const VirtQueueElement *elem)
{
    size_t len = elem->out.size - HEADER_SIZE;

    if (elem->out.size < HEADER_SIZE) {
        virtio_set_broken(&s->vdev, "frame without a header");
        return;
    }
    if (len <= NET_FRAME_MAX) {
        guest_memory_begin();
        io_vector_to_buf(&elem->out, HEADER_SIZE, s->frame, len);
        guest_memory_end();
        s->tx_blocked = !net_send(&s->nc, s->frame, len);
    }
    virtqueue_push(&s->vdev, VIRTIO_NET_TX, elem, 0);
}

/* Returns whether there was one, and more may be sent. */
static bool transmit_next(VirtIONet *s)
{
    VirtQueueElement *elem = virtqueue_pop(&s->vdev, VIRTIO_NET_TX);

    if (!elem) {
        return false;
    }
    transmit(s, elem);
    virtqueue_element_free(elem);
    return !s->tx_blocked && virtio_is_running(&s->vdev);
}

static void tx_bh(void *opaque)
{
    VirtIONet *s = opaque;
    const VirtQueue *vq = &s->vdev.vq[VIRTIO_NET_TX];
    uint16_t used_before;
    int left = BATCH;

    if (!works(s) || s->tx_blocked || !vq->ready) {
        return;
    }
    used_before = vq->used_idx;
    do {
        virtqueue_enable_notify(&s->vdev, VIRTIO_NET_TX, false);
        while (left > 0 && transmit_next(s)) {
            left--;
        }
    } while (left > 0 && !s->tx_blocked && virtio_is_running(&s->vdev) &&
             virtqueue_enable_notify(&s->vdev, VIRTIO_NET_TX, true));
    if (virtio_is_running(&s->vdev) && vq->used_idx != used_before) {
        virtqueue_notify(&s->vdev, VIRTIO_NET_TX);
    }
    if (left == 0) {
        aio_bh_schedule(s->bh[VIRTIO_NET_TX]);
    }
}

static void nic_writable(NetClient *nc)
{
    VirtIONet *s = from_client(nc);

    s->tx_blocked = false;
    aio_bh_schedule(s->bh[VIRTIO_NET_TX]);
}

static void ctrl_bh(void *opaque)
{
    VirtIONet *s = opaque;

    if (works(s)) {
        virtio_net_control(s);
    }
}

/* --- Client ---------------------------------------------------------------------------------------- */

static void nic_link_changed(NetClient *nc)
{
    VirtIONet *s = from_client(nc);

    if (nc->link_down) {
        atomic_fetch_and(&s->status, ~(uint32_t)VIRTIO_NET_S_LINK_UP);
    } else {
        atomic_fetch_or(&s->status, VIRTIO_NET_S_LINK_UP);
    }
    virtio_config_changed(&s->vdev);
}

/* If the driver can do that. */
static void ask_guest_to_announce(VirtIONet *s)
{
    if (virtio_has_feature(&s->vdev, F_GUEST_ANNOUNCE) &&
        virtio_has_feature(&s->vdev, F_CTRL_VQ)) {
        atomic_fetch_or(&s->status, VIRTIO_NET_S_ANNOUNCE);
        virtio_config_changed(&s->vdev);
    }
}

static void nic_announce(NetClient *nc, uint8_t mac[NET_MAC_SIZE])
{
    VirtIONet *s = from_client(nc);

    virtio_net_get_mac(s, mac);
    if (net_running()) { /* else its state may be about to be saved */
        ask_guest_to_announce(s);
    }
}

static void schedule_all(VirtIONet *s)
{
    for (int i = 0; i < VIRTIO_NET_QUEUES; i++) {
        aio_bh_schedule(s->bh[i]);
    }
}

static void nic_go(NetClient *nc)
{
    schedule_all(from_client(nc));
}

static char *nic_describe(NetClient *nc)
{
    uint8_t mac[NET_MAC_SIZE];
    g_autofree char *text = NULL;

    virtio_net_get_mac(from_client(nc), mac);
    text = net_mac_text(mac);
    return g_strdup_printf("model=virtio-net-device,macaddr=%s", text);
}

static const NetClientOps nic_ops = {
    .type = "nic",
    .receive = nic_receive,
    .writable = nic_writable,
    .link_changed = nic_link_changed,
    .go = nic_go,
    .describe = nic_describe,
    .rx_filter = virtio_net_rx_filter,
    .announce = nic_announce,
};

/* --- Virtio device --------------------------------------------------------------------------------- */

static void get_config(VirtIODevice *vdev, uint8_t *c)
{
    VirtIONet *s = from_vdev(vdev);

    virtio_net_get_mac(s, c);
    c[6] = atomic_load(&s->status);
    c[8] = 1; /* pairs of queues */
}

static void start_bh(void *opaque)
{
    VirtIONet *s = opaque;

    s->stopped = false;
    s->by_vlan = virtio_has_feature(&s->vdev, F_CTRL_VLAN);
    schedule_all(s);
}

static void nic_start(VirtIODevice *vdev)
{
    aio_bh_schedule_oneshot(net_context(), start_bh, from_vdev(vdev));
}

static void nic_notify(VirtIODevice *vdev, int n)
{
    aio_bh_schedule(from_vdev(vdev)->bh[n]);
}

typedef struct StopRequest {
    VirtIONet *s;
    void (*done)(void *opaque);
    void *opaque;
} StopRequest;

/* No handler runs meanwhile, so nothing is under way. */
static void stop_bh(void *opaque)
{
    g_autofree StopRequest *r = opaque;

    r->s->stopped = true;
    r->done(r->opaque);
}

static void nic_stop(VirtIODevice *vdev, void (*done)(void *opaque), void *opaque)
{
    StopRequest *r = g_new(StopRequest, 1);

    *r = (StopRequest){from_vdev(vdev), done, opaque};
    aio_bh_schedule_oneshot(net_context(), stop_bh, r);
}

static void nic_reset(VirtIODevice *vdev)
{
    VirtIONet *s = from_vdev(vdev);

    atomic_store(&s->was_reset, true);
    aio_bh_schedule(s->bh[VIRTIO_NET_RX]); /* what waits is lost */
    virtio_net_set_mac(s, s->own_mac);
    atomic_fetch_and(&s->status, ~(uint32_t)VIRTIO_NET_S_ANNOUNCE);
}

static const VirtIODeviceOps virtio_net_ops = {
    .name = "virtio-net",
    .device_id = VIRTIO_ID_NET,
    .config_size = CONFIG_SIZE,
    .get_config = get_config,
    .start = nic_start,
    .notify = nic_notify,
    .stop = nic_stop,
    .reset = nic_reset,
};

/* --- Machine state: the guest stands ------------------------------------------------------------------ */

static bool nic_pre_save(void *opaque, GError **errp)
{
    VirtIONet *s = opaque;

    virtio_net_get_mac(s, s->saved_mac);
    s->saved_status = atomic_load(&s->status);
    aio_context_acquire(net_context());
    s->saved_filter = *virtio_net_filter(s);
    aio_context_release(net_context());
    return true;
}

static bool nic_pre_load(void *opaque, GError **errp)
{
    VirtIONet *s = opaque;

    net_filter_reset(&s->saved_filter); /* what has no subsection is empty */
    return true;
}

/*
 * The link is as it was.  The guest is asked to tell others where it is now; frames that were on
 * their way to the machine that this one replaces are lost.
 */
static bool nic_post_load(void *opaque, int version, GError **errp)
{
    VirtIONet *s = opaque;

    if (!net_filter_is_valid(&s->saved_filter)) {
        error_setg(errp, "virtio-net: list of %u addresses, groups from %u on",
                   s->saved_filter.n_macs, s->saved_filter.first_multicast);
        return false;
    }
    aio_context_acquire(net_context());
    virtio_net_set_mac(s, s->saved_mac);
    atomic_store(&s->was_reset, false);
    s->filter = s->saved_filter;
    net_client_purge(&s->nc);
    s->nc.link_down = !(s->saved_status & VIRTIO_NET_S_LINK_UP);
    atomic_store(&s->status, s->saved_status & (VIRTIO_NET_S_LINK_UP | VIRTIO_NET_S_ANNOUNCE));
    ask_guest_to_announce(s);
    aio_context_release(net_context());
    return true;
}

static const VMStateField nic_fields[] = {
    VMSTATE_STRUCT(vdev, VirtIONet, vmstate_virtio_device, VirtIODevice),
    VMSTATE_UINT8_ARRAY(saved_mac, VirtIONet, NET_MAC_SIZE),
    VMSTATE_UINT16(saved_status, VirtIONet),
    VMSTATE_STRUCT(saved_filter, VirtIONet, vmstate_virtio_net_filter, NetFilter),
    VMSTATE_END,
};

static const VMStateDescription vmstate_nic = {
    .name = "virtio-net",
    .version = 1,
    .minimum_version = 1,
    .pre_save = nic_pre_save,
    .pre_load = nic_pre_load,
    .post_load = nic_post_load,
    .fields = nic_fields,
    .subsections = (const VMStateDescription *const[]){&vmstate_virtio_net_macs,
                                                       &vmstate_virtio_net_vlans, NULL},
};

/* --- Life -------------------------------------------------------------------------------------------- */

VirtIONet *virtio_net_new(const VirtIONetConfig *config)
{
    static AioHandler *const handlers[VIRTIO_NET_QUEUES] = {rx_bh, tx_bh, ctrl_bh};
    VirtIONet *s = g_new0(VirtIONet, 1);

    memcpy(s->own_mac, config->mac, NET_MAC_SIZE);
    s->id = g_strdup(config->id);
    s->path = g_strdup(config->path);
    s->stopped = true;
    for (int i = 0; i < VIRTIO_NET_QUEUES; i++) {
        s->bh[i] = aio_bh_new(net_context(), handlers[i], s);
    }
    virtio_init(&s->vdev, &virtio_net_ops,
                F_MAC | F_STATUS | F_MRG_RXBUF | F_CTRL_VQ | F_CTRL_RX | F_CTRL_RX_EXTRA |
                    F_CTRL_VLAN | F_CTRL_MAC_ADDR | F_GUEST_ANNOUNCE,
                VIRTIO_NET_QUEUES, QUEUE_SIZE);
    net_client_init(&s->nc, &nic_ops, config->name);
    if (config->peer) {
        net_connect(&s->nc, config->peer);
        s->status = VIRTIO_NET_S_LINK_UP;
    } else {
        s->nc.link_down = true;
    }
    return s;
}

VirtIODevice *virtio_net_vdev(VirtIONet *s)
{
    return &s->vdev;
}

void virtio_net_register(VirtIONet *s, VMStateRegistry *r, int instance)
{
    vmstate_register(r, "virtio-net", instance, &vmstate_nic, s);
}

void virtio_net_free(VirtIONet *s)
{
    net_client_cleanup(&s->nc);
    for (int i = 0; i < VIRTIO_NET_QUEUES; i++) {
        aio_bh_delete(s->bh[i]);
    }
    virtio_cleanup(&s->vdev);
    g_free(s->id);
    g_free(s->path);
    g_free(s);
}
