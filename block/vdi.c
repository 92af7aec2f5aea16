/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * VirtualBox disk images (VDI) version 1.1, dynamic and static, for reading.  A header of 512
 * bytes, the block map (a 32-bit number for each block of the disk: where it is, counted in
 * blocks from the start of the data) and the blocks of 1 MiB, in any order.  Little-endian.
 * The layout is the one that VirtualBox's forum describes ("All about VDIs", t=8046).
 */
#include <inttypes.h>
#include "mapped.h"
#include "qapi/error.h"

#define VDI_SIGNATURE 0xbeda107f
#define VDI_VERSION 0x00010001
#define VDI_HEADER 512
#define BLOCK_SIZE (1 << 20)
#define SECTOR 512
/* So that the map has less than 2 GiB, as other programs have it. */
#define BLOCKS_MAX 0x1fffff80

/* Offsets of the header's fields; before them is a text for people. */
enum {
    AT_SIGNATURE = 0x40,
    AT_VERSION = 0x44,
    AT_TYPE = 0x4c,
    AT_MAP_OFFSET = 0x154,
    AT_DATA_OFFSET = 0x158,
    AT_SECTOR_SIZE = 0x168,
    AT_DISK_SIZE = 0x170,
    AT_BLOCK_SIZE = 0x178,
    AT_BLOCK_EXTRA = 0x17c, /* bytes in front of each block */
    AT_BLOCKS = 0x180,
    AT_ALLOCATED = 0x184,
    AT_LINK_UUID = 0x1a8,   /* of the image that a differencing one is on top of */
    AT_PARENT_UUID = 0x1b8,
};

enum { TYPE_DYNAMIC = 1, TYPE_STATIC = 2 };

/* Entries of the map from here on are not places: discarded (zeroes), or never allocated. */
#define ENTRY_NONE 0xfffffffe

typedef struct VdiState {
    MappedImage mapped;
    uint32_t blocks, allocated; /* of the disk; of them in the file, as the header has it */
    uint32_t map_offset, data_offset;
} VdiState;

static int vdi_probe(const uint8_t *buf, size_t len, const char *filename)
{
    return len >= AT_VERSION && mapped_le32(buf + AT_SIGNATURE) == VDI_SIGNATURE ? 100 : 0;
}

/* 0 or -errno. */
static int coroutine_fn load_entry(BlockDriverState *bs, uint32_t block, uint32_t *entry)
{
    VdiState *s = bs->opaque;
    uint8_t buf[4];
    int ret = table_cache_read(&s->mapped.tables, bs->file, s->map_offset + block * UINT64_C(4),
                               buf, sizeof(buf));

    *entry = mapped_le32(buf);
    return ret;
}

/* Of a block that is there. */
static int64_t block_offset(const VdiState *s, uint32_t entry)
{
    return s->data_offset + (int64_t)entry * BLOCK_SIZE;
}

static int coroutine_fn vdi_find(BlockDriverState *bs, int64_t offset, MappedPart *part)
{
    VdiState *s = bs->opaque;
    int64_t inside = offset % BLOCK_SIZE;
    uint32_t entry;
    int ret = load_entry(bs, offset / BLOCK_SIZE, &entry);

    if (ret < 0) {
        return ret;
    }
    *part = (MappedPart){ .kind = MAPPED_ZERO, .bytes = BLOCK_SIZE - inside };
    if (entry < ENTRY_NONE) {
        if (entry >= s->blocks) {
            return -EIO;
        }
        part->kind = MAPPED_DATA;
        part->host = block_offset(s, entry) + inside;
    }
    return 0;
}

static bool is_null_uuid(const uint8_t *uuid)
{
    return buffer_is_zero(uuid, 16);
}

/* What kind of image it is, and whether we know it. */
static bool check_kind(const uint8_t *h, GError **errp)
{
    uint32_t signature = mapped_le32(h + AT_SIGNATURE), version = mapped_le32(h + AT_VERSION);
    uint32_t type = mapped_le32(h + AT_TYPE);

    if (signature != VDI_SIGNATURE) {
        error_setg(errp, "Image not in VDI format (bad signature %08" PRIx32 ")", signature);
    } else if (version != VDI_VERSION) {
        error_setg(errp, "unsupported VDI image (version %" PRIu32 ".%" PRIu32 ")", version >> 16,
                   version & 0xffff);
    } else if (!is_null_uuid(h + AT_LINK_UUID)) {
        error_setg(errp, "unsupported VDI image (non-NULL link UUID)");
    } else if (!is_null_uuid(h + AT_PARENT_UUID)) {
        error_setg(errp, "unsupported VDI image (non-NULL parent UUID)");
    } else if (type != TYPE_DYNAMIC && type != TYPE_STATIC) {
        error_setg(errp, "unsupported VDI image (type %" PRIu32 " is neither dynamic nor static)",
                   type);
    } else {
        return true;
    }
    return false;
}

static bool check_layout(const uint8_t *h, GError **errp)
{
    uint32_t map_offset = mapped_le32(h + AT_MAP_OFFSET);
    uint32_t data_offset = mapped_le32(h + AT_DATA_OFFSET);
    uint32_t sector_size = mapped_le32(h + AT_SECTOR_SIZE);
    uint32_t block_size = mapped_le32(h + AT_BLOCK_SIZE);
    uint32_t extra = mapped_le32(h + AT_BLOCK_EXTRA);

    if (map_offset % SECTOR) {
        error_setg(errp, "unsupported VDI image (unaligned block map offset 0x%" PRIx32 ")",
                   map_offset);
    } else if (data_offset % SECTOR) {
        error_setg(errp, "unsupported VDI image (unaligned data offset 0x%" PRIx32 ")",
                   data_offset);
    } else if (sector_size != SECTOR) {
        error_setg(errp, "unsupported VDI image (sector size %" PRIu32 " is not %d)", sector_size,
                   SECTOR);
    } else if (block_size != BLOCK_SIZE) {
        error_setg(errp, "unsupported VDI image (block size %" PRIu32 " is not %d)", block_size,
                   BLOCK_SIZE);
    } else if (extra) {
        error_setg(errp, "unsupported VDI image (%" PRIu32 " bytes in front of each block)", extra);
    } else {
        return true;
    }
    return false;
}

static bool check_size(BlockDriverState *bs, const uint8_t *h, uint64_t *size, GError **errp)
{
    const uint64_t max = (uint64_t)BLOCKS_MAX * BLOCK_SIZE;
    uint32_t map_offset = mapped_le32(h + AT_MAP_OFFSET), blocks = mapped_le32(h + AT_BLOCKS);
    uint64_t length = bs->file->bs->length;

    *size = mapped_le64(h + AT_DISK_SIZE);
    if (*size > max) {
        error_setg(errp, "Unsupported VDI image size (size is 0x%" PRIx64
                   ", max supported is 0x%" PRIx64 ")", *size, max);
        return false;
    }
    *size = (*size + SECTOR - 1) / SECTOR * SECTOR;
    if (blocks > BLOCKS_MAX) {
        error_setg(errp, "unsupported VDI image (too many blocks %" PRIu32 ", max is %d)", blocks,
                   BLOCKS_MAX);
        return false;
    }
    if (*size > (uint64_t)blocks * BLOCK_SIZE) {
        error_setg(errp, "unsupported VDI image (disk size %" PRIu64 ", image bitmap has room for "
                   "%" PRIu64 ")", *size, (uint64_t)blocks * BLOCK_SIZE);
        return false;
    }
    if (map_offset > length || blocks > (length - map_offset) / 4) {
        error_setg(errp, "The block map at offset %" PRIu32 " lies beyond the end of the file",
                   map_offset);
        return false;
    }
    return true;
}

static bool coroutine_fn vdi_co_open(BlockDriverState *bs, const BlockdevOptions *options,
                                     GError **errp)
{
    static const MappedOps ops = { .find = vdi_find };
    VdiState *s = bs->opaque;
    uint8_t h[VDI_HEADER];
    uint64_t size;

    if (!mapped_read_head(bs, 0, h, sizeof(h), "VDI header", errp) || !check_kind(h, errp) ||
        !check_layout(h, errp) || !check_size(bs, h, &size, errp)) {
        return false;
    }
    s->blocks = mapped_le32(h + AT_BLOCKS);
    s->allocated = mapped_le32(h + AT_ALLOCATED);
    s->map_offset = mapped_le32(h + AT_MAP_OFFSET);
    s->data_offset = mapped_le32(h + AT_DATA_OFFSET);
    mapped_init(&s->mapped, &ops);
    bdrv_set_length(bs, size);
    return true;
}

/* used: a bit for each block in the file. */
static int coroutine_fn check_map(BlockDriverState *bs, BdrvCheckResult *result, uint8_t *used)
{
    VdiState *s = bs->opaque;
    uint32_t allocated = 0;

    for (uint32_t i = 0; i < s->blocks; i++) {
        uint32_t entry;
        int ret = load_entry(bs, i, &entry);

        if (ret < 0) {
            return ret;
        }
        if (entry >= ENTRY_NONE) {
            continue;
        }
        if (entry >= s->blocks) {
            mapped_report(result, "ERROR: block index %" PRIu32 " too large, is %" PRIu32, i, entry);
            continue;
        }
        allocated++;
        if (block_offset(s, entry) >= bs->file->bs->length) {
            mapped_report(result, "ERROR: block index %" PRIu32 " lies beyond the end of the file, "
                          "is %" PRIu32, i, entry);
        }
        if (used[entry / 8] & 1 << entry % 8) {
            mapped_report(result, "ERROR: block index %" PRIu32 " also used by %" PRIu32, entry,
                          entry);
        }
        used[entry / 8] |= 1 << entry % 8;
    }
    if (allocated != s->allocated) {
        mapped_report(result, "ERROR: allocated blocks mismatch, is %" PRIu32 ", should be %" PRIu32,
                      allocated, s->allocated);
    }
    return 0;
}

static bool coroutine_fn vdi_co_check(BlockDriverState *bs, BdrvCheckResult *result, int fix,
                                      GError **errp)
{
    VdiState *s = bs->opaque;
    g_autofree uint8_t *used = g_try_malloc0(s->blocks / 8 + 1);
    int ret;

    if (!used) {
        error_setg(errp, "Not enough memory to check %" PRIu32 " blocks", s->blocks);
        return false;
    }
    ret = check_map(bs, result, used);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not read the block map");
        return false;
    }
    return true;
}

static bool coroutine_fn vdi_co_info(BlockDriverState *bs, BdrvInfo *info, GError **errp)
{
    info->cluster_size = BLOCK_SIZE;
    return true;
}

const BlockDriver bdrv_vdi_driver = {
    .name = "vdi",
    .instance_size = sizeof(VdiState),
    .is_format = true,
    .only_reads = true,
    .probe = vdi_probe,
    .co_open = vdi_co_open,
    .co_close = mapped_co_close,
    .co_preadv = mapped_co_preadv,
    .co_block_status = mapped_co_block_status,
    .co_check = vdi_co_check,
    .co_info = vdi_co_info,
};
