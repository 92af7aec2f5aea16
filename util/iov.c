/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * IOVector: a growable scatter/gather list.  No locking; an element's memory stays the
 * caller's.  Offsets and lengths beyond the end are cut off, never an error.
 */
#include "util/guest-memory.h"
#include "util/iov.h"

#include <glib.h>
#include <string.h>

void io_vector_init(IOVector *v, int capacity_hint)
{
    *v = (IOVector){0};
    v->capacity = MAX(capacity_hint, 1);
    v->iov = g_new(struct iovec, v->capacity);
}

void io_vector_init_buf(IOVector *v, void *buf, size_t len)
{
    *v = (IOVector){.local = {.iov_base = buf, .iov_len = len}, .niov = 1, .size = len};
    v->iov = &v->local;
}

void io_vector_init_external(IOVector *v, struct iovec *iov, int niov)
{
    *v = (IOVector){.iov = iov, .niov = niov};
    for (int i = 0; i < niov; i++) {
        v->size += iov[i].iov_len;
    }
}

void io_vector_destroy(IOVector *v)
{
    if (v->capacity) {
        g_free(v->iov);
    }
    *v = (IOVector){0};
}

void io_vector_reset(IOVector *v)
{
    g_assert(v->capacity);
    v->niov = 0;
    v->size = 0;
}

void io_vector_add(IOVector *v, void *base, size_t len)
{
    g_assert(v->capacity);
    if (v->niov == v->capacity) {
        v->capacity *= 2;
        v->iov = g_renew(struct iovec, v->iov, v->capacity);
    }
    v->iov[v->niov++] = (struct iovec){.iov_base = base, .iov_len = len};
    v->size += len;
}

/*
 * Calls fn for each piece of the bytes [offset, offset + len), with its distance from
 * offset, while fn returns true.  Returns the number of bytes it was called for.
 */
typedef bool PieceFunc(void *opaque, char *base, size_t len, size_t done);

static size_t for_each_piece(const IOVector *v, size_t offset, size_t len, PieceFunc *fn,
                             void *opaque)
{
    size_t done = 0;

    for (int i = 0; i < v->niov && done < len; i++) {
        size_t avail = v->iov[i].iov_len;

        if (offset >= avail) {
            offset -= avail;
            continue;
        }
        avail = MIN(avail - offset, len - done);
        if (!fn(opaque, (char *)v->iov[i].iov_base + offset, avail, done)) {
            break;
        }
        done += avail;
        offset = 0;
    }
    return done;
}

static bool piece_append(void *opaque, char *base, size_t len, size_t done)
{
    io_vector_add(opaque, base, len);
    return true;
}

static bool piece_to_buf(void *opaque, char *base, size_t len, size_t done)
{
    guest_memory_begin();
    memcpy((char *)opaque + done, base, len);
    guest_memory_end();
    return true;
}

static bool piece_from_buf(void *opaque, char *base, size_t len, size_t done)
{
    guest_memory_begin();
    memcpy(base, (const char *)opaque + done, len);
    guest_memory_end();
    return true;
}

static bool piece_memset(void *opaque, char *base, size_t len, size_t done)
{
    guest_memory_begin();
    memset(base, *(int *)opaque, len);
    guest_memory_end();
    return true;
}

static bool piece_is_zero(void *opaque, char *base, size_t len, size_t done)
{
    return buffer_is_zero(base, len);
}

void io_vector_concat(IOVector *dst, const IOVector *src, size_t offset, size_t len)
{
    for_each_piece(src, offset, len, piece_append, dst);
}

size_t io_vector_to_buf(const IOVector *v, size_t offset, void *buf, size_t len)
{
    return for_each_piece(v, offset, len, piece_to_buf, buf);
}

size_t io_vector_from_buf(IOVector *v, size_t offset, const void *buf, size_t len)
{
    return for_each_piece(v, offset, len, piece_from_buf, (void *)buf);
}

size_t io_vector_memset(IOVector *v, size_t offset, int byte, size_t len)
{
    return for_each_piece(v, offset, len, piece_memset, &byte);
}

bool io_vector_is_zero(const IOVector *v)
{
    return for_each_piece(v, 0, v->size, piece_is_zero, NULL) == v->size;
}
