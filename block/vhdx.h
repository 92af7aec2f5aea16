/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The vhdx driver's own; vhdx-header.c reads what vhdx.c works with.  Sections are those of
 * [MS-VHDX], "Virtual Hard Disk v2 (VHDX) File Format".  Everything is little-endian.
 */
#ifndef BLOCK_VHDX_H
#define BLOCK_VHDX_H

#include "mapped.h"

#define VHDX_MIB (UINT64_C(1) << 20)

typedef struct VhdxRegion { /* of the file, in bytes; nothing if length is 0 */
    uint64_t offset, length;
} VhdxRegion;

typedef struct VhdxState {
    MappedImage mapped;
    VhdxRegion bat, metadata, log;
    uint64_t disk_size;
    uint32_t block_size;  /* of payload blocks, a power of two */
    uint32_t sector_size; /* logical */
    uint32_t blocks;      /* payload blocks of the disk */
    uint32_t chunk_ratio; /* so many payload blocks' entries, then one for a sector bitmap */
} VhdxState;

/* Fills in everything but mapped, checked: the BAT lies in the file and is long enough. */
bool coroutine_fn vhdx_load(BlockDriverState *bs, GError **errp);

#endif
