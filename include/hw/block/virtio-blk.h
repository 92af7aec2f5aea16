/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Virtio block device. */
#ifndef HW_BLOCK_VIRTIO_BLK_H
#define HW_BLOCK_VIRTIO_BLK_H

#include "block/block.h"
#include "hw/virtio/virtio.h"

typedef struct VirtIOBlock VirtIOBlock;

typedef struct VirtIOBlockConfig {
    BlockBackend *blk;   /* stays the caller's; outlives the device */
    const char *serial;  /* at most 20 bytes are shown; NULL: empty */
    bool read_only;
    bool write_through;  /* cache=writethrough: the guest sees no volatile cache */
    int queue_size;      /* at most 1024; 0: 256 */
    BlockdevOnError rerror, werror; /* "stop": see io_error */
    /*
     * A request has failed and waits for virtio_blk_retry(); if the guest runs it shall stand
     * with state io-error.  Any thread.
     */
    void (*io_error)(void);
} VirtIOBlockConfig;

/* The device works in the AioContext of blk's node.  Main thread. */
VirtIOBlock *virtio_blk_new(const VirtIOBlockConfig *config);
VirtIODevice *virtio_blk_vdev(VirtIOBlock *s);
void virtio_blk_register(VirtIOBlock *s, VMStateRegistry *r, int instance);
/* The guest goes on: what has failed is tried again.  Any thread. */
void virtio_blk_retry(VirtIOBlock *s);
/*
 * Finishes what is in flight and frees it; the machine does not run any more.  Main thread.
 */
void coroutine_fn virtio_blk_co_free(VirtIOBlock *s);

#endif
