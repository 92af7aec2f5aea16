/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The virtio block device as its two files share it: virtio-blk.c and virtio-blk-error.c. */
#ifndef HW_BLOCK_VIRTIO_BLK_INT_H
#define HW_BLOCK_VIRTIO_BLK_INT_H

#include "hw/block/virtio-blk.h"

enum {
    VIRTIO_BLK_T_IN = 0,
    VIRTIO_BLK_ID_SIZE = 20,
    VIRTIO_BLK_QUEUE_MAX = 1024,
};

struct VirtIOBlock {
    VirtIODevice vdev;
    BlockBackend *blk;
    AioContext *ctx;
    AioBH *queue_bh, *retry_bh;
    char id[VIRTIO_BLK_ID_SIZE + 1];
    bool initial_write_through;
    atomic_uint_fast64_t capacity; /* sectors */
    BlockdevOnError rerror, werror;
    void (*io_error)(void);
    atomic_bool write_through;
    /* home */
    uint32_t in_flight;
    int drained;
    bool stopped;
    void (*stop_done)(void *opaque);
    void *stop_opaque;
    bool retry; /* what failed is tried again as soon as the queue may be worked on */
    /* machine state; home while the machine runs */
    uint32_t nr_failed;
    uint16_t failed[VIRTIO_BLK_QUEUE_MAX]; /* first descriptor of each request */
    bool saved_write_through;
    uint64_t saved_capacity; /* sectors; 0: the state does not say */
    bool saved_read_only;
};

typedef struct BlkRequest {
    VirtIOBlock *s;
    VirtQueueElement *elem;
    IOVector data; /* without header and status */
    uint8_t *status;
    uint32_t type;
    uint64_t sector;
    bool at_disk; /* it was well formed: an error now is the disk's */
} BlkRequest;

/*
 * The disk has failed req with *ret: does what rerror or werror say and tells clients.  True:
 * the request is over, with *ret (0: the error is ignored).  False: it is in s->failed, and
 * the guest will stand.  Home.
 */
bool virtio_blk_give_up(BlkRequest *req, int *ret);
/* Whether the requests that a state says have failed can be in its queue. */
bool virtio_blk_failed_valid(VirtIOBlock *s, GError **errp);
extern const VMStateDescription vmstate_virtio_blk_failed;

#endif
