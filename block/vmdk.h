/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The vmdk driver's own: vmdk.c is the driver, vmdk-extent.c reads sparse extents,
 * vmdk-descriptor.c the text that describes a disk.  Names of sections are those of VMware's
 * technical note "Virtual Disk Format 5.0".  Numbers are little-endian.
 */
#ifndef BLOCK_VMDK_H
#define BLOCK_VMDK_H

#include "mapped.h"

#define VMDK_SECTOR 512
#define VMDK_NO_PARENT UINT32_MAX /* parentCID of a disk that has none */

/* "The Descriptor File".  Strings are NULL where it has none. */
typedef struct VmdkDescriptor {
    uint32_t cid, parent_cid; /* content ids: change with the first write after an opening */
    char *create_type;
    char *parent;             /* parentFileNameHint */
    unsigned extents;         /* how many; the following is the first one's */
    char *extent_type;        /* "FLAT", "SPARSE" ... */
    char *extent_file;
    uint64_t extent_sectors, extent_start; /* start: in its file, also sectors */
} VmdkDescriptor;

typedef struct VmdkState {
    MappedImage mapped;
    VmdkDescriptor descriptor;
    bool is_flat;         /* else sparse, and all of the following counts */
    bool is_apart;        /* the descriptor is a file of its own; the extent is bs->data_file */
    bool is_compressed;
    bool has_zeroed;      /* "zeroed-grain" entries */
    uint64_t capacity;    /* bytes of the disk */
    uint64_t start;       /* flat: bytes, where the disk starts in the file */
    uint64_t grain;       /* bytes of a grain, the unit of allocation */
    uint64_t directory;   /* offset of the grain directory in the extent's file */
    uint32_t table_entries; /* grains for which one grain table has entries */
    uint64_t descriptor_offset, descriptor_bytes; /* embedded; 0: none */
} VmdkState;

/* Parses len bytes of text, which may end with NULs; *d is empty.  false and errp. */
bool vmdk_descriptor_parse(VmdkDescriptor *d, const char *text, size_t len, GError **errp);
/* Whether buf is the start of such a text. */
bool vmdk_is_descriptor(const char *buf, size_t len);
void vmdk_descriptor_clear(VmdkDescriptor *d);

#define VMDK_MAGIC "KDMV"
/* Reads and checks the header of the sparse extent; fills in the state's fields for it. */
bool coroutine_fn vmdk_load_sparse(BlockDriverState *bs, GError **errp);
/* MappedOps of sparse extents. */
int coroutine_fn vmdk_find_grain(BlockDriverState *bs, int64_t offset, MappedPart *part);
int coroutine_fn vmdk_read_packed(BlockDriverState *bs, int64_t host, int64_t offset, IOVector *iov,
                                  size_t at, size_t bytes);
/* The grain table of a directory entry, and the grain of a table entry: sectors, 0 for none. */
int coroutine_fn vmdk_load_table(BlockDriverState *bs, uint64_t index, uint32_t *table);
int coroutine_fn vmdk_load_grain(BlockDriverState *bs, uint32_t table, uint32_t index,
                                 uint32_t *grain);

#endif
