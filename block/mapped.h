/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the image formats share that are only read (vdi, vmdk, vhdx): the disk is mapped to the
 * file in blocks.  A driver says for one place what is there; reading, status and the cache of
 * its tables are here.  In the node's home context.
 */
#ifndef BLOCK_MAPPED_H
#define BLOCK_MAPPED_H

#include <endian.h>
#include <errno.h>
#include <string.h>
#include "table-cache.h"

typedef enum MappedKind {
    MAPPED_HOLE,   /* not in this image: the backing file has it, or nobody (zeroes) */
    MAPPED_ZERO,
    MAPPED_DATA,   /* in the file as it is */
    MAPPED_PACKED, /* in the file, compressed */
} MappedKind;

typedef struct MappedPart {
    MappedKind kind;
    int64_t bytes; /* from the place that was asked for */
    int64_t host;  /* DATA: offset in the file of the first byte; PACKED: the driver's own */
} MappedPart;

/* The driver's side. */
typedef struct MappedOps {
    /*
     * What is at offset of the disk, for one block of the image or less: part->bytes may be
     * more than bytes, and reach beyond the disk.  0 or -errno.
     */
    int coroutine_fn (*find)(BlockDriverState *bs, int64_t offset, MappedPart *part);
    /* Reads bytes at offset of the disk, within what find said is PACKED; NULL: there is none. */
    int coroutine_fn (*read_packed)(BlockDriverState *bs, int64_t host, int64_t offset,
                                    IOVector *iov, size_t at, size_t bytes);
} MappedOps;

/* The first member of the driver's state. */
typedef struct MappedImage {
    const MappedOps *ops;
    TableCache tables;
} MappedImage;

void mapped_init(MappedImage *m, const MappedOps *ops);
void mapped_destroy(MappedImage *m);

/* The node that has the content, and the tables. */
static inline BdrvChild *mapped_file(BlockDriverState *bs)
{
    return bs->data_file ? bs->data_file : bs->file;
}

/* BlockDriver.co_preadv, .co_block_status and .co_close. */
int coroutine_fn mapped_co_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                  IOVector *iov, int flags);
int coroutine_fn mapped_co_block_status(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                        int64_t *pnum, int64_t *map);
void coroutine_fn mapped_co_close(BlockDriverState *bs);

/*
 * Reads the head of a file: bytes at offset, which must all lie in it; what: what that is,
 * for the message.  false and errp.
 */
bool coroutine_fn mapped_read_head(BlockDriverState *bs, uint64_t offset, void *buf, size_t bytes,
                                   const char *what, GError **errp);
/* One line about a finding of a check; counted as a corruption. */
void mapped_report(BdrvCheckResult *result, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* Little-endian numbers anywhere. */
static inline uint16_t mapped_le16(const void *p)
{
    uint16_t v;

    memcpy(&v, p, sizeof(v));
    return le16toh(v);
}

static inline uint32_t mapped_le32(const void *p)
{
    uint32_t v;

    memcpy(&v, p, sizeof(v));
    return le32toh(v);
}

static inline uint64_t mapped_le64(const void *p)
{
    uint64_t v;

    memcpy(&v, p, sizeof(v));
    return le64toh(v);
}

#endif
