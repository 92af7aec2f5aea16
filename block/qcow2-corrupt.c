/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What happens when damage is found in an image that is in use: it is noted in the header,
 * writes are refused from then on, and the user is told once, on stderr and by the event
 * BLOCK_IMAGE_CORRUPTED, which the main thread sends.  Whoever finds it may hold any of the
 * image's locks, so the header is written by a coroutine of its own, when no flush does.
 */
#include <stdarg.h>
#include "qapi/qapi-events-block-core.h"
#include "qcow2.h"

typedef struct Report {
    char *device, *node_name, *message;
    bool has_range, fatal;
    int64_t offset, bytes;
} Report;

static void send_event(void *opaque)
{
    Report *r = opaque;

    qapi_event_send_block_image_corrupted(r->device, r->node_name, r->message, r->has_range,
                                          r->offset, r->has_range, r->bytes, r->fatal);
    g_free(r->device);
    g_free(r->node_name);
    g_free(r->message);
    g_free(r);
}

/* The name of the device that uses the image, or "". */
static const char *device_name(BlockDriverState *bs)
{
    for (GList *l = bs->parents.head; l; l = l->next) {
        BdrvChild *c = l->data;

        if (c->blk && *blk_name(c->blk)) {
            return blk_name(c->blk);
        }
    }
    return "";
}

/* Two writes of the header at once might leave either one in the file, and one has an old root. */
static void coroutine_fn mark_entry(void *opaque)
{
    BlockDriverState *bs = opaque;
    Qcow2State *s = bs->opaque;

    co_mutex_lock(&s->flush_lock);
    if (qcow2_header_write(bs) < 0) {
        s->broken = true;
    }
    co_mutex_unlock(&s->flush_lock);
    s->background--;
    co_queue_restart_all(&s->pin_queue);
}

/* Takes message.  Returns -EIO. */
static int coroutine_fn signal_damage(BlockDriverState *bs, char *message, int64_t offset,
                                      int64_t bytes)
{
    Qcow2State *s = bs->opaque;
    Report *r;

    if (s->corrupt) {
        g_free(message);
        return -EIO;
    }
    s->corrupt = true;
    r = g_new0(Report, 1);
    r->device = g_strdup(device_name(bs));
    r->node_name = g_strdup(bs->node_name);
    r->message = message;
    r->has_range = offset >= 0;
    r->offset = offset;
    r->bytes = bytes;
    r->fatal = !bs->read_only;
    if (r->fatal) {
        g_printerr("qcow2: Marking image as corrupt: %s; further corruption events will be "
                   "suppressed\n", message);
    } else {
        g_printerr("qcow2: Image is corrupt: %s; further non-fatal corruption events will be "
                   "suppressed\n", message);
    }
    aio_bh_schedule_oneshot(main_aio_context(), send_event, r);
    if (!bs->read_only && !bs->inactive && s->version >= 3) {
        s->incompatible |= QCOW2_INCOMPAT_CORRUPT;
        s->background++;
        aio_co_schedule(aio_current(), coroutine_create(mark_entry, bs));
    }
    return -EIO;
}

int coroutine_fn qcow2_signal_corruption(BlockDriverState *bs, const char *fmt, ...)
{
    char *message;
    va_list ap;

    va_start(ap, fmt);
    message = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    return signal_damage(bs, message, -1, -1);
}

int coroutine_fn qcow2_signal_overlap(BlockDriverState *bs, uint64_t offset, uint64_t bytes,
                                      const char *name)
{
    return signal_damage(bs, g_strdup_printf("Preventing invalid write on metadata (overlaps with "
                                             "%s)", name), offset, bytes);
}

int coroutine_fn qcow2_signal_invalid(BlockDriverState *bs, const Qcow2Run *run)
{
    return qcow2_signal_corruption(bs, "Invalid cluster entry found  (L2 offset: %#" PRIx64
                                   ", L2 index: %#" PRIx64 ")", run->table, run->index);
}
