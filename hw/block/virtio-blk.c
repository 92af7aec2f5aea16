/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Virtio block device (specification 1.2, section 5.2) with one request queue.
 *
 * The queue is worked on in the home context of the disk, an IOThread: a notification from
 * a vCPU schedules a bottom half there, which starts one coroutine for each request.  All
 * fields that say "home" belong to that thread.
 *
 * Each request is exactly one call into the block layer, and nothing yields between taking
 * it off the queue and that call, nor between its end and the used ring.  So while the disk
 * is drained no request is half done, and the machine state is the rings, together with the
 * list of requests that failed and wait to be tried again (virtio-blk-error.c).
 */
#include <glib.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include "block/active.h"
#include "migration/machine.h"
#include "qapi/error.h"
#include "virtio-blk-int.h"

#define F_SEG_MAX (UINT64_C(1) << 2)
#define F_GEOMETRY (UINT64_C(1) << 4)
#define F_RO (UINT64_C(1) << 5)
#define F_BLK_SIZE (UINT64_C(1) << 6)
#define F_FLUSH (UINT64_C(1) << 9)
#define F_TOPOLOGY (UINT64_C(1) << 10)
#define F_CONFIG_WCE (UINT64_C(1) << 11)
#define F_DISCARD (UINT64_C(1) << 13)
#define F_WRITE_ZEROES (UINT64_C(1) << 14)

enum {
    T_OUT = 1, T_FLUSH = 4, T_GET_ID = 8, T_DISCARD = 11, T_WRITE_ZEROES = 13,
    S_OK = 0, S_IOERR = 1, S_UNSUPP = 2,
    WRITE_ZEROES_UNMAP = 1,
    HEADER_SIZE = 16,
    RANGE_SIZE = 16, /* struct virtio_blk_discard_write_zeroes */
    CONFIG_SIZE = 60,
    SECTOR = 512,
    DEFAULT_QUEUE_SIZE = 256,
    MAX_RANGE_SECTORS = INT32_MAX / SECTOR,
};

static VirtIOBlock *to_blk(VirtIODevice *vdev)
{
    return (VirtIOBlock *)((char *)vdev - offsetof(VirtIOBlock, vdev));
}

static void process_queue(void *opaque);

static void put16(uint8_t *p, uint16_t v)
{
    v = GUINT16_TO_LE(v);
    memcpy(p, &v, 2);
}

static void put32(uint8_t *p, uint32_t v)
{
    v = GUINT32_TO_LE(v);
    memcpy(p, &v, 4);
}

static void put64(uint8_t *p, uint64_t v)
{
    v = GUINT64_TO_LE(v);
    memcpy(p, &v, 8);
}

static uint32_t get32(const uint8_t *p)
{
    uint32_t v;

    memcpy(&v, p, 4);
    return GUINT32_FROM_LE(v);
}

static uint64_t get64(const uint8_t *p)
{
    uint64_t v;

    memcpy(&v, p, 8);
    return GUINT64_FROM_LE(v);
}

/* --- Requests (home) ------------------------------------------------------------------ */

/* Whether [sector, sector + sectors) is on the disk. */
static bool in_range(VirtIOBlock *s, uint64_t sector, uint64_t sectors)
{
    uint64_t capacity = atomic_load(&s->capacity);

    return sector <= capacity && sectors <= capacity - sector;
}

static int write_flags(VirtIOBlock *s)
{
    /* a driver that cannot flush expects its writes to last */
    bool cached = virtio_has_feature(&s->vdev, F_FLUSH) && !atomic_load(&s->write_through);

    return cached ? 0 : BDRV_REQ_FUA;
}

static int coroutine_fn do_rw(BlkRequest *req)
{
    VirtIOBlock *s = req->s;
    uint64_t bytes = req->data.size;
    int ret;

    if (bytes % SECTOR || bytes > INT32_MAX || !in_range(s, req->sector, bytes / SECTOR)) {
        return -EINVAL;
    }
    req->at_disk = true;
    if (req->type == T_OUT) {
        return blk_co_pwritev(s->blk, req->sector * SECTOR, bytes, &req->data, write_flags(s));
    }
    for (int i = 0; i < req->data.niov; i++) {
        ram_prepare_dma(req->data.iov[i].iov_base, req->data.iov[i].iov_len);
    }
    ret = blk_co_preadv(s->blk, req->sector * SECTOR, bytes, &req->data, 0);
    for (int i = 0; i < req->data.niov; i++) {
        ram_dma_written(req->data.iov[i].iov_base, req->data.iov[i].iov_len);
    }
    return ret;
}

static int coroutine_fn do_range(BlkRequest *req)
{
    VirtIOBlock *s = req->s;
    uint8_t range[RANGE_SIZE];
    uint64_t sector;
    uint32_t sectors, flags;

    if (req->data.size != RANGE_SIZE) {
        return -EINVAL; /* config space allows one segment */
    }
    io_vector_to_buf(&req->data, 0, range, RANGE_SIZE);
    sector = get64(range);
    sectors = get32(range + 8);
    flags = get32(range + 12);
    if (flags & ~(req->type == T_WRITE_ZEROES ? WRITE_ZEROES_UNMAP : 0)) {
        return -ENOTSUP;
    }
    if (sectors > MAX_RANGE_SECTORS || !in_range(s, sector, sectors)) {
        return -EINVAL;
    }
    if (sectors == 0) {
        return 0;
    }
    req->at_disk = true;
    if (req->type == T_DISCARD) {
        return blk_co_pdiscard(s->blk, sector * SECTOR, (uint64_t)sectors * SECTOR);
    }
    return blk_co_pwrite_zeroes(s->blk, sector * SECTOR, (uint64_t)sectors * SECTOR,
                                write_flags(s) |
                                    (flags & WRITE_ZEROES_UNMAP ? BDRV_REQ_MAY_UNMAP : 0));
}

static int coroutine_fn do_request(BlkRequest *req)
{
    VirtIOBlock *s = req->s;
    bool modifies = req->type == T_OUT || req->type == T_DISCARD || req->type == T_WRITE_ZEROES;

    if (modifies && s->vdev.host_features & F_RO) {
        return -EROFS;
    }
    switch (req->type) {
    case VIRTIO_BLK_T_IN:
    case T_OUT:
        return do_rw(req);
    case T_FLUSH:
        req->at_disk = true;
        return blk_co_flush(s->blk);
    case T_GET_ID:
        io_vector_from_buf(&req->data, 0, s->id, VIRTIO_BLK_ID_SIZE);
        return 0;
    case T_DISCARD:
    case T_WRITE_ZEROES:
        return do_range(req);
    default:
        return -ENOTSUP;
    }
}

/* What the device has written for a request that ended well. */
static uint32_t bytes_read(const BlkRequest *req)
{
    return req->type == VIRTIO_BLK_T_IN ? req->data.size
           : req->type == T_GET_ID ? MIN(req->data.size, VIRTIO_BLK_ID_SIZE)
                                   : 0;
}

/* Returns whether that was what somebody waits for; s may be gone then. */
static bool stop_if_idle(VirtIOBlock *s)
{
    void (*done)(void *opaque) = s->stop_done;

    if (s->in_flight || !done) {
        return false;
    }
    s->nr_failed = 0; /* whoever stops us gives up what is in the rings */
    s->stop_done = NULL;
    done(s->stop_opaque);
    return true;
}

static void complete(BlkRequest *req, int ret)
{
    VirtIOBlock *s = req->s;

    __atomic_store_n(req->status, ret >= 0 ? S_OK : ret == -ENOTSUP ? S_UNSUPP : S_IOERR,
                     __ATOMIC_RELAXED);
    virtqueue_push(&s->vdev, 0, req->elem, (ret < 0 ? 0 : bytes_read(req)) + 1);
    virtqueue_notify(&s->vdev, 0);
}

static void coroutine_fn request_entry(void *opaque)
{
    BlkRequest *req = opaque;
    VirtIOBlock *s = req->s;
    int ret = do_request(req);

    if (ret >= 0 || !req->at_disk || virtio_blk_give_up(req, &ret)) {
        complete(req, ret);
    }
    io_vector_destroy(&req->data);
    virtqueue_element_free(req->elem);
    g_free(req);
    s->in_flight--;
    if (!stop_if_idle(s) && !s->drained && !s->stopped) {
        aio_bh_schedule(s->queue_bh); /* it may have paused for want of room */
    }
}

/* Takes header and status off the chain; NULL if the guest built it wrong. */
static BlkRequest *parse(VirtIOBlock *s, VirtQueueElement *elem)
{
    uint8_t header[HEADER_SIZE];
    const struct iovec *last;
    BlkRequest *req;

    if (elem->in.niov == 0 ||
        io_vector_to_buf(&elem->out, 0, header, HEADER_SIZE) != HEADER_SIZE) {
        virtio_set_broken(&s->vdev, "request without header or status");
        return NULL;
    }
    last = &elem->in.iov[elem->in.niov - 1];
    req = g_new0(BlkRequest, 1);
    req->s = s;
    req->elem = elem;
    req->type = get32(header);
    req->sector = get64(header + 8);
    req->status = (uint8_t *)last->iov_base + last->iov_len - 1;
    io_vector_init(&req->data, 4);
    if (req->type == VIRTIO_BLK_T_IN || req->type == T_GET_ID) {
        io_vector_concat(&req->data, &elem->in, 0, elem->in.size - 1);
    } else {
        io_vector_concat(&req->data, &elem->out, HEADER_SIZE, elem->out.size - HEADER_SIZE);
    }
    return req;
}

/* Starts the request in elem, which it takes; false if there is none. */
static bool begin(VirtIOBlock *s, VirtQueueElement *elem)
{
    BlkRequest *req = elem ? parse(s, elem) : NULL;

    if (req) {
        s->in_flight++;
        aio_co_enter(s->ctx, coroutine_create(request_entry, req));
    } else if (elem) {
        virtqueue_element_free(elem);
    }
    return req != NULL;
}

static bool has_room(VirtIOBlock *s)
{
    /* no more at once than a well-behaved driver can have queued */
    return s->in_flight + s->nr_failed < s->vdev.vq[0].num;
}

/* Bottom half in the home context: starts everything that waits in the queue. */
static void process_queue(void *opaque)
{
    VirtIOBlock *s = opaque;

    if (s->drained || s->stopped || !virtio_is_running(&s->vdev)) {
        return;
    }
    if (s->retry) {
        g_autofree uint16_t *heads = g_memdup2(s->failed, sizeof(s->failed));
        uint32_t n = s->nr_failed;

        s->retry = false;
        s->nr_failed = 0;
        for (uint32_t i = 0; i < n && begin(s, virtqueue_again(&s->vdev, 0, heads[i])); i++) {
        }
    }
    do {
        virtqueue_enable_notify(&s->vdev, 0, false);
        while (has_room(s) && begin(s, virtqueue_pop(&s->vdev, 0))) {
        }
    } while (virtio_is_running(&s->vdev) && has_room(s) &&
             virtqueue_enable_notify(&s->vdev, 0, true));
}

static void retry_bh(void *opaque)
{
    VirtIOBlock *s = opaque;

    if (s->stopped || !virtio_is_running(&s->vdev)) {
        return; /* the vCPU may just be resetting the device: what failed is its to forget */
    }
    s->retry = s->nr_failed > 0;
    process_queue(s);
}

void virtio_blk_retry(VirtIOBlock *s)
{
    aio_bh_schedule(s->retry_bh);
}

/* --- The block layer's wishes (home) ---------------------------------------------------- */

static void drained_begin(void *opaque)
{
    VirtIOBlock *s = opaque;

    s->drained++;
}

static void drained_end(void *opaque)
{
    VirtIOBlock *s = opaque;

    if (--s->drained == 0) {
        aio_bh_schedule(s->queue_bh);
    }
}

static void resized(void *opaque)
{
    VirtIOBlock *s = opaque;

    atomic_store(&s->capacity, bdrv_length(blk_bs(s->blk)) / SECTOR);
    virtio_config_changed(&s->vdev);
}

static const BlockBackendOps blk_ops = {
    .drained_begin = drained_begin,
    .drained_end = drained_end,
    .resized = resized,
};

/* --- Virtio device ------------------------------------------------------------------------ */

static void get_config(VirtIODevice *vdev, uint8_t *c)
{
    VirtIOBlock *s = to_blk(vdev);
    uint64_t capacity = atomic_load(&s->capacity);
    uint64_t cylinders = MIN(capacity / (16 * 63), 65535);

    put64(c, capacity);
    put32(c + 12, vdev->vq[0].num_max - 2); /* seg_max: a chain less header and status */
    put16(c + 16, cylinders);
    c[18] = 16;
    c[19] = 63;
    put32(c + 20, SECTOR);
    put32(c + 28, 0);                         /* no optimal size */
    put16(c + 26, 1);                         /* min_io_size */
    c[32] = !atomic_load(&s->write_through);  /* writeback */
    put16(c + 34, 1);                         /* num_queues */
    put32(c + 36, MAX_RANGE_SECTORS);         /* discard: sectors, segments, alignment */
    put32(c + 40, 1);
    put32(c + 44, 1);
    put32(c + 48, MAX_RANGE_SECTORS);         /* write zeroes: sectors, segments, may unmap */
    put32(c + 52, 1);
    c[56] = 1;
}

static void set_write_through(VirtIOBlock *s, bool write_through)
{
    atomic_store(&s->write_through, write_through);
    blk_set_write_through(s->blk, write_through);
}

static void set_config(VirtIODevice *vdev, const uint8_t *c)
{
    VirtIOBlock *s = to_blk(vdev);

    if (virtio_has_feature(vdev, F_CONFIG_WCE)) {
        set_write_through(s, !c[32]);
    }
}

static void start_bh(void *opaque)
{
    VirtIOBlock *s = opaque;

    s->stopped = false;
    process_queue(s);
}

static void blk_start(VirtIODevice *vdev)
{
    VirtIOBlock *s = to_blk(vdev);

    aio_bh_schedule_oneshot(s->ctx, start_bh, s);
}

static void blk_notify(VirtIODevice *vdev, int n)
{
    aio_bh_schedule(to_blk(vdev)->queue_bh);
}

typedef struct StopRequest {
    VirtIOBlock *s;
    void (*done)(void *opaque);
    void *opaque;
} StopRequest;

static void stop_bh(void *opaque)
{
    g_autofree StopRequest *r = opaque;

    g_assert(!r->s->stop_done);
    r->s->stopped = true;
    r->s->stop_done = r->done;
    r->s->stop_opaque = r->opaque;
    stop_if_idle(r->s);
}

static void blk_stop(VirtIODevice *vdev, void (*done)(void *opaque), void *opaque)
{
    StopRequest *r = g_new(StopRequest, 1);

    *r = (StopRequest){to_blk(vdev), done, opaque};
    aio_bh_schedule_oneshot(r->s->ctx, stop_bh, r);
}

static void blk_reset(VirtIODevice *vdev)
{
    VirtIOBlock *s = to_blk(vdev);

    set_write_through(s, s->initial_write_through);
    s->nr_failed = 0;
    s->retry = false;
}

static const VirtIODeviceOps virtio_blk_ops = {
    .name = "virtio-blk",
    .device_id = VIRTIO_ID_BLOCK,
    .config_size = CONFIG_SIZE,
    .get_config = get_config,
    .set_config = set_config,
    .start = blk_start,
    .notify = blk_notify,
    .stop = blk_stop,
    .reset = blk_reset,
};

/* --- Machine state: drained, parked -------------------------------------------------------- */

static bool blk_pre_save(void *opaque, GError **errp)
{
    VirtIOBlock *s = opaque;

    s->saved_write_through = atomic_load(&s->write_through);
    s->saved_capacity = atomic_load(&s->capacity);
    s->saved_read_only = s->vdev.host_features & F_RO;
    return true;
}

static bool blk_pre_load(void *opaque, GError **errp)
{
    VirtIOBlock *s = opaque;

    s->nr_failed = 0; /* a state without the subsection has none */
    s->saved_capacity = 0;
    s->retry = false; /* of what the machine had that this one replaces */
    return true;
}

/*
 * A driver at work believes in the disk that it had: a smaller one, or one that cannot be written,
 * is not that.  What another process may still be using says nothing before it is ours.
 */
static bool check_disk(VirtIOBlock *s, GError **errp)
{
    BlockDriverState *bs = blk_bs(s->blk);
    uint64_t capacity = bdrv_length(bs) / SECTOR;

    if (!s->saved_capacity || !(s->vdev.saved_status & VIRTIO_STATUS_DRIVER_OK) ||
        !bdrv_check_active(bs, NULL)) {
        return true;
    }
    if (capacity < s->saved_capacity) {
        error_setg(errp, "virtio-blk: the disk has %" PRIu64 " bytes, in the machine state it has %"
                   PRIu64, capacity * SECTOR, s->saved_capacity * SECTOR);
        return false;
    }
    if (s->vdev.host_features & F_RO && !s->saved_read_only) {
        error_setg(errp, "virtio-blk: the disk is read-only, in the machine state it is not");
        return false;
    }
    return true;
}

static bool blk_post_load(void *opaque, int version, GError **errp)
{
    VirtIOBlock *s = opaque;

    if (!virtio_blk_failed_valid(s, errp) || !check_disk(s, errp)) {
        return false;
    }
    set_write_through(s, s->saved_write_through);
    return true;
}

static const VMStateField blk_fields[] = {
    VMSTATE_STRUCT(vdev, VirtIOBlock, vmstate_virtio_device, VirtIODevice),
    VMSTATE_BOOL(saved_write_through, VirtIOBlock),
    VMSTATE_END,
};

static const VMStateField disk_fields[] = {
    VMSTATE_UINT64(saved_capacity, VirtIOBlock),
    VMSTATE_BOOL(saved_read_only, VirtIOBlock),
    VMSTATE_END,
};

static const VMStateDescription vmstate_disk = {
    .name = "virtio-blk/disk",
    .version = 1,
    .minimum_version = 1,
    .fields = disk_fields,
};

static const VMStateDescription vmstate_blk = {
    .name = "virtio-blk",
    .version = 1,
    .minimum_version = 1,
    .pre_save = blk_pre_save,
    .pre_load = blk_pre_load,
    .post_load = blk_post_load,
    .fields = blk_fields,
    .subsections = (const VMStateDescription *const[]){&vmstate_virtio_blk_failed, &vmstate_disk,
                                                       NULL},
};

/* --- Life ------------------------------------------------------------------------------------ */

VirtIOBlock *virtio_blk_new(const VirtIOBlockConfig *config)
{
    VirtIOBlock *s = g_new0(VirtIOBlock, 1);
    BlockDriverState *bs = blk_bs(config->blk);
    uint64_t features = F_SEG_MAX | F_GEOMETRY | F_BLK_SIZE | F_TOPOLOGY | F_FLUSH |
                        F_CONFIG_WCE | F_DISCARD | F_WRITE_ZEROES;

    s->blk = config->blk;
    s->ctx = bdrv_context(bs);
    s->capacity = bdrv_length(bs) / SECTOR;
    s->initial_write_through = config->write_through;
    blk_set_write_through(s->blk, s->initial_write_through);
    s->rerror = config->rerror;
    s->werror = config->werror;
    s->io_error = config->io_error;
    g_strlcpy(s->id, config->serial ? config->serial : "", sizeof(s->id));
    s->queue_bh = aio_bh_new(s->ctx, process_queue, s);
    s->retry_bh = aio_bh_new(s->ctx, retry_bh, s);
    virtio_init(&s->vdev, &virtio_blk_ops, features | (config->read_only ? F_RO : 0), 1,
                config->queue_size ? config->queue_size : DEFAULT_QUEUE_SIZE);
    blk_set_ops(s->blk, &blk_ops, s);
    return s;
}

VirtIODevice *virtio_blk_vdev(VirtIOBlock *s)
{
    return &s->vdev;
}

void virtio_blk_register(VirtIOBlock *s, VMStateRegistry *r, int instance)
{
    vmstate_register(r, "virtio-blk", instance, &vmstate_blk, s);
}

static void free_stopped(void *opaque)
{
    aio_co_wake(opaque);
}

void coroutine_fn virtio_blk_co_free(VirtIOBlock *s)
{
    blk_stop(&s->vdev, free_stopped, coroutine_self());
    coroutine_yield();
    blk_set_ops(s->blk, NULL, NULL);
    aio_bh_delete(s->queue_bh);
    aio_bh_delete(s->retry_bh);
    virtio_cleanup(&s->vdev);
    g_free(s);
}
