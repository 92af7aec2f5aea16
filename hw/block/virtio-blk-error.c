/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What becomes of a request of a virtio disk that the block layer has failed.  When the guest
 * shall stand, the request is kept by its first descriptor, which is all that is needed to
 * read it from the ring again: the list is part of the machine's state, and whoever lets the
 * guest go on, here or where a snapshot is loaded, has it tried again.  Home context.
 */
#include <errno.h>
#include "qapi/error.h"
#include "qapi/qapi-events-block-core.h"
#include "util/errno-text.h"
#include "virtio-blk-int.h"

static BlockErrorAction action_for(BlockdevOnError policy, int error)
{
    switch (policy) {
    case BLOCKDEV_ON_ERROR_IGNORE:
        return BLOCK_ERROR_ACTION_IGNORE;
    case BLOCKDEV_ON_ERROR_STOP:
        return BLOCK_ERROR_ACTION_STOP;
    case BLOCKDEV_ON_ERROR_ENOSPC:
        return error == ENOSPC ? BLOCK_ERROR_ACTION_STOP : BLOCK_ERROR_ACTION_REPORT;
    default:
        return BLOCK_ERROR_ACTION_REPORT;
    }
}

bool virtio_blk_give_up(BlkRequest *req, int *ret)
{
    VirtIOBlock *s = req->s;
    bool read = req->type == VIRTIO_BLK_T_IN;
    int error = -*ret;
    BlockErrorAction action = action_for(read ? s->rerror : s->werror, error);

    qapi_event_send_block_io_error(blk_name(s->blk), bdrv_node_name(blk_bs(s->blk)),
                                   read ? IO_OPERATION_TYPE_READ : IO_OPERATION_TYPE_WRITE,
                                   action, true, error == ENOSPC, errno_text(error));
    if (action == BLOCK_ERROR_ACTION_IGNORE) {
        *ret = 0;
    }
    if (action != BLOCK_ERROR_ACTION_STOP) {
        return true;
    }
    g_assert(s->nr_failed < VIRTIO_BLK_QUEUE_MAX); /* has_room() */
    s->failed[s->nr_failed++] = req->elem->head;
    blk_set_io_status(s->blk, error == ENOSPC ? BLOCK_DEVICE_IO_STATUS_NOSPACE
                                              : BLOCK_DEVICE_IO_STATUS_FAILED);
    s->io_error();
    return false;
}

/* --- Machine state --------------------------------------------------------------------- */

bool virtio_blk_failed_valid(VirtIOBlock *s, GError **errp)
{
    uint32_t num = s->vdev.vq[0].num;

    if (s->nr_failed > MIN(num, VIRTIO_BLK_QUEUE_MAX)) {
        error_setg(errp, "virtio-blk: %u failed requests in a queue of %u", s->nr_failed, num);
        return false;
    }
    for (uint32_t i = 0; i < s->nr_failed; i++) {
        if (s->failed[i] >= num) {
            error_setg(errp, "virtio-blk: failed request at descriptor %u of a queue of %u",
                       s->failed[i], num);
            return false;
        }
    }
    return true;
}

static bool failed_needed(void *opaque)
{
    VirtIOBlock *s = opaque;

    return s->nr_failed > 0;
}

static const VMStateField failed_fields[] = {
    VMSTATE_UINT32(nr_failed, VirtIOBlock),
    VMSTATE_UINT16_ARRAY(failed, VirtIOBlock, VIRTIO_BLK_QUEUE_MAX),
    VMSTATE_END,
};

const VMStateDescription vmstate_virtio_blk_failed = {
    .name = "virtio-blk/failed",
    .version = 1,
    .minimum_version = 1,
    .needed = failed_needed,
    .fields = failed_fields,
};
