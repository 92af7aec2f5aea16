/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A growable scatter/gather list with its total size. */
#ifndef UTIL_IOV_H
#define UTIL_IOV_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include <sys/uio.h>

typedef struct IOVector {
    struct iovec *iov;
    int niov;
    int capacity; /* 0: iov is not owned (io_vector_init_buf, _external) */
    size_t size;  /* bytes, the sum of all elements */
    struct iovec local;
} IOVector;

/* Empty and growable; free with io_vector_destroy(). */
void io_vector_init(IOVector *v, int capacity_hint);
/* One element that points at buf; nothing to free. */
void io_vector_init_buf(IOVector *v, void *buf, size_t len);
/* Wraps an array that stays the caller's; nothing to free. */
void io_vector_init_external(IOVector *v, struct iovec *iov, int niov);
void io_vector_destroy(IOVector *v);
void io_vector_reset(IOVector *v);
void io_vector_add(IOVector *v, void *base, size_t len);
/* Appends the bytes [offset, offset + len) of src as references. */
void io_vector_concat(IOVector *dst, const IOVector *src, size_t offset, size_t len);
/* Copies between v at offset and buf; returns the number of bytes copied. */
size_t io_vector_to_buf(const IOVector *v, size_t offset, void *buf, size_t len);
size_t io_vector_from_buf(IOVector *v, size_t offset, const void *buf, size_t len);
size_t io_vector_memset(IOVector *v, size_t offset, int byte, size_t len);
/* Whether all bytes are zero.  Vectorised. */
bool io_vector_is_zero(const IOVector *v);
bool buffer_is_zero(const void *buf, size_t len);

#endif
