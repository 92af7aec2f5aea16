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
    int queue_size;      /* 0: 256 */
} VirtIOBlockConfig;

/* The device works in the AioContext of blk's node.  Main thread. */
VirtIOBlock *virtio_blk_new(const VirtIOBlockConfig *config);
VirtIODevice *virtio_blk_vdev(VirtIOBlock *s);
void virtio_blk_register(VirtIOBlock *s, VMStateRegistry *r, int instance);
/*
 * Finishes what is in flight and frees it; the machine does not run any more.  Main thread.
 */
void coroutine_fn virtio_blk_co_free(VirtIOBlock *s);

#endif
