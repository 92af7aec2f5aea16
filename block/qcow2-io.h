/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Data of the image file by host offset, for the files of the qcow2 driver. */
#ifndef BLOCK_QCOW2_IO_H
#define BLOCK_QCOW2_IO_H

#include "qcow2.h"

/* Writes the bytes [from, from + bytes) of iov at host; flags as for bdrv_co_pwritev(). */
int coroutine_fn qcow2_file_write(BlockDriverState *bs, uint64_t host, IOVector *iov, size_t from,
                                  size_t bytes, int flags);
/*
 * Reads into iov; what lies beyond the end of the file reads as zero, but a cluster that
 * was never part of the file is -EIO.
 */
int coroutine_fn qcow2_file_read(BlockDriverState *bs, uint64_t host, IOVector *iov, size_t from,
                                 size_t bytes);

/* Enters a request for guest bytes [start, end) in *list; and takes it out, waking waiters. */
void qcow2_request_begin(Qcow2Request **list, Qcow2Request *r, int64_t start, int64_t end,
                         bool exclusive);
void qcow2_request_end(Qcow2Request *r);
/* A request of the guest in these bytes that is exclusive, or (exclusive) any; or NULL. */
Qcow2Request *qcow2_find_conflict(Qcow2State *s, int64_t start, int64_t end, bool exclusive);

#endif
