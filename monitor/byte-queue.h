/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Bytes on their way out of a character device: appended at the end, taken from the front.  Under the
 * device's lock, but for looking at the length.  Folder-private.
 */
#ifndef MONITOR_BYTE_QUEUE_H
#define MONITOR_BYTE_QUEUE_H

#include <glib.h>
#include <string.h>

#include "monitor/chardev-int.h"

/* The length is looked at without the lock, too. */
static inline void queue_set_len(ByteQueue *q, size_t len)
{
    __atomic_store_n(&q->len, len, __ATOMIC_RELAXED);
}

static inline void queue_append(ByteQueue *q, const void *buf, size_t len)
{
    if (q->head + q->len + len > q->capacity) {
        if (q->head) {
            memmove(q->data, q->data + q->head, q->len);
            q->head = 0;
        }
        if (q->len + len > q->capacity) {
            q->capacity = MAX(q->len + len, MAX(q->capacity * 2, 1024));
            q->data = g_realloc(q->data, q->capacity);
        }
    }
    memcpy(q->data + q->head + q->len, buf, len);
    queue_set_len(q, q->len + len);
}

static inline void queue_consume(ByteQueue *q, size_t len)
{
    q->head += len;
    queue_set_len(q, q->len - len);
    if (!q->len) {
        q->head = 0;
        if (q->capacity > CHARDEV_QUEUE_MAX) {
            g_clear_pointer(&q->data, g_free);
            q->capacity = 0;
        }
    }
}

static inline void queue_clear(ByteQueue *q)
{
    g_clear_pointer(&q->data, g_free);
    q->head = q->capacity = 0;
    queue_set_len(q, 0);
}

#endif
