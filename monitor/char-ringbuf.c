/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory that keeps the last bytes written to it.  Bytes come from any thread, under the
 * device's lock; they are read in the main thread.
 */
#include <string.h>

#include "monitor/chardev-int.h"
#include "qapi/error.h"

enum { SIZE_DEFAULT = 65536 };

typedef struct CharRingbuf {
    Chardev parent;
    uint8_t *data;
    size_t size;        /* a power of two */
    size_t read, write; /* bytes since the start; the difference is at most size */
} CharRingbuf;

static bool ringbuf_open(Chardev *chr, ChardevOpts *opts, GError **errp)
{
    CharRingbuf *r = (CharRingbuf *)chr;
    int64_t size;

    if (!chardev_opts_get_int(opts, "size", SIZE_DEFAULT, &size, errp)) {
        return false;
    }
    if (size <= 0 || (size & (size - 1))) {
        error_setg(errp, "size of ringbuf chardev must be power of two");
        return false;
    }
    r->data = g_try_malloc(size);
    if (!r->data) {
        error_setg(errp, "Could not allocate a ring buffer of %" G_GINT64_FORMAT " bytes", size);
        return false;
    }
    r->size = size;
    chardev_peer_opened(chr, -1, -1, false);
    return true;
}

static void ringbuf_close(Chardev *chr)
{
    g_clear_pointer(&((CharRingbuf *)chr)->data, g_free);
}

static void ringbuf_sink(Chardev *chr, const uint8_t *buf, size_t len)
{
    CharRingbuf *r = (CharRingbuf *)chr;

    for (size_t i = 0; r->data && i < len; i++) {
        r->data[r->write++ & (r->size - 1)] = buf[i];
    }
    if (r->write - r->read > r->size) {
        r->read = r->write - r->size;
    }
}

size_t chardev_ringbuf_read(Chardev *chr, uint8_t *buf, size_t len)
{
    CharRingbuf *r = (CharRingbuf *)chr;
    size_t n = 0;

    pthread_mutex_lock(&chr->lock);
    while (n < len && r->read != r->write) {
        buf[n++] = r->data[r->read++ & (r->size - 1)];
    }
    pthread_mutex_unlock(&chr->lock);
    return n;
}

size_t chardev_ringbuf_used(Chardev *chr)
{
    CharRingbuf *r = (CharRingbuf *)chr;
    size_t n;

    pthread_mutex_lock(&chr->lock);
    n = r->write - r->read;
    pthread_mutex_unlock(&chr->lock);
    return n;
}

bool chardev_is_ringbuf(Chardev *chr)
{
    return chr->backend->open == ringbuf_open;
}

static const char *const ringbuf_options[] = {"size", NULL};

const ChardevDriver chardev_ringbuf = {
    .name = "ringbuf",
    .instance_size = sizeof(CharRingbuf),
    .options = ringbuf_options,
    .open = ringbuf_open,
    .close = ringbuf_close,
    .sink = ringbuf_sink,
};

const ChardevDriver chardev_memory = {
    .name = "memory",
    .instance_size = sizeof(CharRingbuf),
    .options = ringbuf_options,
    .open = ringbuf_open,
    .close = ringbuf_close,
    .sink = ringbuf_sink,
};
