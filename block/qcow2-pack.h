/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Compressed clusters on their way into the file, for those who write them: guest data
 * (qcow2-packed-write.c) and machine state (qcow2-snapshot-pack.c).
 */
#ifndef BLOCK_QCOW2_PACK_H
#define BLOCK_QCOW2_PACK_H

#include "qcow2.h"

#define QCOW2_PACK_SECTOR 512
#define QCOW2_PACK_MAX_CLUSTERS 256

/* A batch of whole clusters that a worker packs together. */
typedef struct Qcow2Pack {
    const Qcow2State *s;
    IOVector *iov; /* the data: n clusters behind the first "from" bytes */
    size_t from;
    uint64_t n;
    Qcow2PackEffort effort;
    uint8_t *in, *out; /* n clusters each; packed ones at their number's place */
    uint32_t sizes[QCOW2_PACK_MAX_CLUSTERS]; /* 0: does not get smaller */
    uint64_t hosts[QCOW2_PACK_MAX_CLUSTERS]; /* where it goes in the file */
} Qcow2Pack;

/*
 * Packs up to n clusters of iov, max_bytes (rounded up) at most, in a worker;
 * what there is of a last, incomplete cluster is filled up with zeroes.  Owned by the caller.
 * NULL, with *ret -errno.
 */
Qcow2Pack *coroutine_fn qcow2_pack_new(const Qcow2State *s, IOVector *iov, size_t from, uint64_t n,
                                       uint64_t max_bytes, Qcow2PackEffort effort, int *ret);
void qcow2_pack_free(Qcow2Pack *p);
/*
 * Lock held.  Finds places for as many of the packed clusters [first, end) as fit into one run
 * of bytes and counts the references; returns the end of those, or -errno.
 */
int64_t coroutine_fn qcow2_pack_place(BlockDriverState *bs, Qcow2Pack *p, uint64_t first,
                                      uint64_t end);
/* Writes the packed clusters [first, end), which have been placed together. */
int coroutine_fn qcow2_pack_write(BlockDriverState *bs, Qcow2Pack *p, uint64_t first,
                                  uint64_t end);
/* The L2 entry for packed cluster i, which has been placed. */
uint64_t qcow2_pack_entry(const Qcow2Pack *p, uint64_t i);
/* The bytes it takes in the file. */
uint64_t qcow2_pack_bytes(const Qcow2Pack *p, uint64_t i);

#endif
