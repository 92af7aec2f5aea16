/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Hyper-V's disk images (VHDX), dynamic and fixed, for reading.  The block allocation table
 * (BAT) has an entry of 64 bits for each block of the disk.  Sections are those of [MS-VHDX].
 * An image whose log is not empty is refused: replaying it is a matter of writing.
 */
#include <inttypes.h>
#include "qapi/error.h"
#include "vhdx.h"

/* Section 2.5.1.1: the states of a payload block, the low bits of its entry. */
enum {
    STATE_NOT_PRESENT = 0,
    STATE_UNDEFINED = 1,
    STATE_ZERO = 2,
    STATE_UNMAPPED = 3,
    STATE_FULLY_PRESENT = 6,
    STATE_PARTIALLY_PRESENT = 7, /* of differencing images only */
};
#define ENTRY_STATE 7
/* A check keeps a bit for each MiB of the file: 128 MiB of them at most. */
#define CHECK_LENGTH_MAX (INT64_C(1) << 50)

static int vhdx_probe(const uint8_t *buf, size_t len, const char *filename)
{
    return len >= 8 && !memcmp(buf, "vhdxfile", 8) ? 100 : 0;
}

/* Section 2.5: after the entries of a chunk comes that of its sector bitmap block. */
static int coroutine_fn load_entry(BlockDriverState *bs, uint32_t block, uint64_t *entry)
{
    VhdxState *s = bs->opaque;
    uint64_t index = (uint64_t)block + block / s->chunk_ratio;
    uint8_t buf[8];
    int ret = table_cache_read(&s->mapped.tables, bs->file, s->bat.offset + index * 8, buf,
                               sizeof(buf));

    *entry = mapped_le64(buf);
    return ret;
}

/* Where a block is in the file; -1 if it is not there (zeroes), -EIO if the entry is invalid. */
static int64_t block_offset(const VhdxState *s, uint64_t entry)
{
    uint64_t offset = entry & ~(VHDX_MIB - 1);

    switch (entry & ENTRY_STATE) {
    case STATE_NOT_PRESENT:
    case STATE_UNDEFINED:
    case STATE_ZERO:
    case STATE_UNMAPPED:
        return -1;
    case STATE_FULLY_PRESENT:
        return offset < VHDX_MIB || offset > (uint64_t)INT64_MAX - s->block_size ? -EIO
                                                                                 : (int64_t)offset;
    default:
        return -EIO;
    }
}

static int coroutine_fn vhdx_find(BlockDriverState *bs, int64_t offset, MappedPart *part)
{
    VhdxState *s = bs->opaque;
    int64_t inside = offset & (s->block_size - 1), host;
    uint64_t entry;
    int ret = load_entry(bs, offset / s->block_size, &entry);

    if (ret < 0) {
        return ret;
    }
    host = block_offset(s, entry);
    if (host == -EIO) {
        return -EIO;
    }
    *part = (MappedPart){ .kind = MAPPED_ZERO, .bytes = s->block_size - inside };
    if (host >= 0) {
        part->kind = MAPPED_DATA;
        part->host = host + inside;
    }
    return 0;
}

static bool coroutine_fn vhdx_co_open(BlockDriverState *bs, const BlockdevOptions *options,
                                      GError **errp)
{
    static const MappedOps ops = { .find = vhdx_find };
    VhdxState *s = bs->opaque;

    if (!vhdx_load(bs, errp)) {
        return false;
    }
    mapped_init(&s->mapped, &ops);
    bdrv_set_length(bs, s->disk_size);
    return true;
}

/* Marks the MiBs of a range; false if one of them is marked already. */
static bool mark(uint8_t *used, uint64_t offset, uint64_t bytes)
{
    bool fresh = true;

    for (uint64_t i = offset / VHDX_MIB; i < (offset + bytes) / VHDX_MIB; i++) {
        fresh = fresh && !(used[i / 8] & 1 << i % 8);
        used[i / 8] |= 1 << i % 8;
    }
    return fresh;
}

static void check_regions(BlockDriverState *bs, BdrvCheckResult *result, uint8_t *used)
{
    VhdxState *s = bs->opaque;
    uint64_t length = bs->file->bs->length;

    mark(used, 0, VHDX_MIB); /* the header section */
    if (!mark(used, s->metadata.offset, s->metadata.length)) {
        mapped_report(result, "ERROR: the metadata region overlaps the header section");
    }
    if (!mark(used, s->bat.offset, s->bat.length)) {
        mapped_report(result, "ERROR: the BAT region overlaps the metadata region");
    }
    if (s->log.offset > length || s->log.length > length - s->log.offset) {
        mapped_report(result, "ERROR: the log lies beyond the end of the file");
    } else if (!mark(used, s->log.offset, s->log.length)) {
        mapped_report(result, "ERROR: the log overlaps another region");
    }
}

static int coroutine_fn check_blocks(BlockDriverState *bs, BdrvCheckResult *result, uint8_t *used)
{
    VhdxState *s = bs->opaque;
    int64_t length = bs->file->bs->length;

    for (uint32_t i = 0; i < s->blocks; i++) {
        uint64_t entry;
        int64_t host;
        int ret = load_entry(bs, i, &entry);

        if (ret < 0) {
            return ret;
        }
        host = block_offset(s, entry);
        if (host == -EIO) {
            mapped_report(result, "ERROR: block %" PRIu32 " has an invalid BAT entry 0x%" PRIx64, i,
                          entry);
        } else if (host >= 0 && host > length - s->block_size) {
            mapped_report(result, "ERROR: block %" PRIu32 " at offset %" PRId64
                          " lies beyond the end of the file", i, host);
        } else if (host >= 0 && !mark(used, host, s->block_size)) {
            mapped_report(result, "ERROR: block %" PRIu32 " at offset %" PRId64
                          " overlaps something else", i, host);
        }
    }
    return 0;
}

static bool coroutine_fn vhdx_co_check(BlockDriverState *bs, BdrvCheckResult *result, int fix,
                                       GError **errp)
{
    int64_t length = bs->file->bs->length;
    g_autofree uint8_t *used = NULL;
    int ret;

    if (length > CHECK_LENGTH_MAX) {
        error_setg(errp, "The file of the VHDX image is too long to be checked");
        return false;
    }
    used = g_try_malloc0(length / VHDX_MIB / 8 + 1);
    if (!used) {
        error_setg(errp, "Not enough memory to check the VHDX image");
        return false;
    }
    check_regions(bs, result, used);
    ret = check_blocks(bs, result, used);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not read the BAT");
        return false;
    }
    return true;
}

static bool coroutine_fn vhdx_co_info(BlockDriverState *bs, BdrvInfo *info, GError **errp)
{
    info->cluster_size = ((VhdxState *)bs->opaque)->block_size;
    return true;
}

const BlockDriver bdrv_vhdx_driver = {
    .name = "vhdx",
    .instance_size = sizeof(VhdxState),
    .is_format = true,
    .only_reads = true,
    .probe = vhdx_probe,
    .co_open = vhdx_co_open,
    .co_close = mapped_co_close,
    .co_preadv = mapped_co_preadv,
    .co_block_status = mapped_co_block_status,
    .co_check = vhdx_co_check,
    .co_info = vhdx_co_info,
};
