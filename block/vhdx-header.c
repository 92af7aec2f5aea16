/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a VHDX file says about itself: the two headers, the two copies of the region table and
 * the metadata.  Each of the first is guarded by a checksum; of two, one may be damaged.
 */
#include <inttypes.h>
#include "qapi/error.h"
#include "vhdx.h"

/* Section 2.2: the header section is the file's first MiB. */
#define HEADER_1 (64 << 10)
#define HEADER_2 (128 << 10)
#define HEADER_SIZE 4096
#define REGIONS_1 (192 << 10)
#define REGIONS_2 (256 << 10)
#define TABLE_SIZE (64 << 10) /* of a region table and of the metadata table */
#define ENTRIES_MAX 2047      /* of both, each has 32 bytes */
#define ENTRY_SIZE 32

/* Section 2.6.2. */
#define BLOCK_SIZE_MIN (1 << 20)
#define BLOCK_SIZE_MAX (256 << 20)
#define DISK_SIZE_MAX (UINT64_C(64) << 40)
/* Section 2.4: sectors that one sector bitmap block describes. */
#define CHUNK_SECTORS (UINT64_C(1) << 23)

static const uint8_t null_guid[16];
/* Section 2.2.3.2: regions. */
static const uint8_t bat_guid[16] = { 0x66, 0x77, 0xc2, 0x2d, 0x23, 0xf6, 0x00, 0x42,
                                      0x9d, 0x64, 0x11, 0x5e, 0x9b, 0xfd, 0x4a, 0x08 };
static const uint8_t metadata_guid[16] = { 0x06, 0xa2, 0x7c, 0x8b, 0x90, 0x47, 0x9a, 0x4b,
                                           0xb8, 0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e };

/* Section 2.6.2: metadata items, with the length that each has. */
enum { FILE_PARAMETERS, DISK_SIZE, DISK_ID, LOGICAL_SECTOR, PHYSICAL_SECTOR, PARENT_LOCATOR, ITEMS };

static const struct {
    uint8_t guid[16];
    uint32_t length; /* 0: any, and we do not read it */
    const char *name;
} items[ITEMS] = {
    [FILE_PARAMETERS] = { { 0x37, 0x67, 0xa1, 0xca, 0x36, 0xfa, 0x43, 0x4d,
                            0xb3, 0xb6, 0x33, 0xf0, 0xaa, 0x44, 0xe7, 0x6b }, 8,
                          "file parameters" },
    [DISK_SIZE] = { { 0x24, 0x42, 0xa5, 0x2f, 0x1b, 0xcd, 0x76, 0x48,
                      0xb2, 0x11, 0x5d, 0xbe, 0xd8, 0x3b, 0xf4, 0xb8 }, 8, "virtual disk size" },
    [DISK_ID] = { { 0xab, 0x12, 0xca, 0xbe, 0xe6, 0xb2, 0x23, 0x45,
                    0x93, 0xef, 0xc3, 0x09, 0xe0, 0x00, 0xc7, 0x46 }, 0, "virtual disk ID" },
    [LOGICAL_SECTOR] = { { 0x1d, 0xbf, 0x41, 0x81, 0x6f, 0xa9, 0x09, 0x47,
                           0xba, 0x47, 0xf2, 0x33, 0xa8, 0xfa, 0xab, 0x5f }, 4,
                         "logical sector size" },
    [PHYSICAL_SECTOR] = { { 0xc7, 0x48, 0xa3, 0xcd, 0x5d, 0x44, 0x71, 0x44,
                            0x9c, 0xc9, 0xe9, 0x88, 0x52, 0x51, 0xc5, 0x56 }, 0,
                          "physical sector size" },
    [PARENT_LOCATOR] = { { 0x2d, 0x5f, 0xd3, 0xa8, 0x0b, 0xb3, 0x4d, 0x45,
                           0xab, 0xf7, 0xd3, 0xd8, 0x48, 0x34, 0xab, 0x0c }, 0,
                         "parent locator" },
};

typedef struct Item { /* in the metadata region; not there if length is 0 */
    uint32_t offset, length;
} Item;

/* CRC-32C (section 2.2.2: the Castagnoli polynomial), four bits at a time. */
static uint32_t crc32c(uint32_t crc, const uint8_t *p, size_t n)
{
    static const uint32_t table[16] = {
        0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3,
        0x61c69362, 0x7198540d, 0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
        0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
    };

    for (; n; n--) {
        crc ^= *p++;
        crc = crc >> 4 ^ table[crc & 15];
        crc = crc >> 4 ^ table[crc & 15];
    }
    return crc;
}

/* The checksum of a structure is at its offset 4 and counts as zero. */
static bool checksum_ok(const uint8_t *p, size_t size)
{
    uint32_t crc = crc32c(UINT32_MAX, p, 4);

    crc = crc32c(crc, null_guid, 4);
    return (uint32_t)~crc32c(crc, p + 8, size - 8) == mapped_le32(p + 4);
}

/* --- Headers, section 2.2.2 ---------------------------------------------------------------- */

static bool header_ok(const uint8_t *h)
{
    return !memcmp(h, "head", 4) && checksum_ok(h, HEADER_SIZE);
}

/* The header in force: the one that is valid and newer than the other. */
static const uint8_t *current_header(const uint8_t *one, const uint8_t *two)
{
    bool one_ok = header_ok(one), two_ok = header_ok(two);
    uint64_t one_number = mapped_le64(one + 8), two_number = mapped_le64(two + 8);

    if (one_ok && (!two_ok || one_number > two_number)) {
        return one;
    }
    return two_ok && (!one_ok || two_number > one_number) ? two : NULL;
}

static bool coroutine_fn load_header(BlockDriverState *bs, GError **errp)
{
    VhdxState *s = bs->opaque;
    g_autofree uint8_t *one = g_malloc(HEADER_SIZE), *two = g_malloc(HEADER_SIZE);
    const uint8_t *h;

    if (!mapped_read_head(bs, HEADER_1, one, HEADER_SIZE, "first VHDX header", errp) ||
        !mapped_read_head(bs, HEADER_2, two, HEADER_SIZE, "second VHDX header", errp)) {
        return false;
    }
    h = current_header(one, two);
    if (!h) {
        error_setg(errp, "The VHDX image has no valid header");
        return false;
    }
    if (mapped_le16(h + 66) != 1) {
        error_setg(errp, "Unsupported VHDX version %u", mapped_le16(h + 66));
        return false;
    }
    if (memcmp(h + 48, null_guid, sizeof(null_guid))) {
        error_setg(errp, "The VHDX image was not closed properly and has a log that must be "
                   "replayed, which is not supported");
        return false;
    }
    s->log = (VhdxRegion){ mapped_le64(h + 72), mapped_le32(h + 68) };
    return true;
}

/* --- Regions, section 2.2.3 ------------------------------------------------------------------ */

static bool region_ok(const VhdxRegion *r, uint64_t file_length)
{
    return r->offset >= VHDX_MIB && r->offset % VHDX_MIB == 0 && r->length % VHDX_MIB == 0 &&
           r->length > 0 && r->offset <= file_length && r->length <= file_length - r->offset;
}

static bool take_region(BlockDriverState *bs, const uint8_t *entry, GError **errp)
{
    VhdxState *s = bs->opaque;
    VhdxRegion r = { mapped_le64(entry + 16), mapped_le32(entry + 24) };
    bool is_bat = !memcmp(entry, bat_guid, 16), is_metadata = !memcmp(entry, metadata_guid, 16);
    VhdxRegion *slot = is_bat ? &s->bat : &s->metadata;

    if (!is_bat && !is_metadata) {
        if (mapped_le32(entry + 28) & 1) {
            error_setg(errp, "The VHDX image needs a region that is not known");
            return false;
        }
        return true;
    }
    if (slot->length) {
        error_setg(errp, "The VHDX image has two %s regions", is_bat ? "BAT" : "metadata");
        return false;
    }
    if (!region_ok(&r, bs->file->bs->length)) {
        error_setg(errp, "The %s region of the VHDX image (%" PRIu64 " bytes at offset %" PRIu64
                   ") is not aligned or does not lie in the file", is_bat ? "BAT" : "metadata",
                   r.length, r.offset);
        return false;
    }
    *slot = r;
    return true;
}

static bool table_ok(const uint8_t *table)
{
    return !memcmp(table, "regi", 4) && checksum_ok(table, TABLE_SIZE);
}

static bool coroutine_fn load_regions(BlockDriverState *bs, GError **errp)
{
    VhdxState *s = bs->opaque;
    g_autofree uint8_t *table = g_malloc(TABLE_SIZE);
    uint32_t n;

    if (!mapped_read_head(bs, REGIONS_1, table, TABLE_SIZE, "first VHDX region table", errp)) {
        return false;
    }
    if (!table_ok(table)) {
        if (!mapped_read_head(bs, REGIONS_2, table, TABLE_SIZE, "second VHDX region table", errp)) {
            return false;
        }
        if (!table_ok(table)) {
            error_setg(errp, "The VHDX image has no valid region table");
            return false;
        }
    }
    n = mapped_le32(table + 8);
    if (n > ENTRIES_MAX) {
        error_setg(errp, "The VHDX region table has too many entries (%" PRIu32 ")", n);
        return false;
    }
    for (uint32_t i = 0; i < n; i++) {
        if (!take_region(bs, table + 16 + i * ENTRY_SIZE, errp)) {
            return false;
        }
    }
    if (!s->bat.length || !s->metadata.length) {
        error_setg(errp, "The VHDX image has no %s region", s->bat.length ? "metadata" : "BAT");
        return false;
    }
    return true;
}

/* --- Metadata, section 2.6 ------------------------------------------------------------------- */

static int find_item(const uint8_t *guid)
{
    for (int i = 0; i < ITEMS; i++) {
        if (!memcmp(items[i].guid, guid, 16)) {
            return i;
        }
    }
    return -1;
}

/* Section 2.6.1.2. */
static bool take_item(const VhdxState *s, const uint8_t *entry, Item *found, GError **errp)
{
    Item item = { mapped_le32(entry + 16), mapped_le32(entry + 20) };
    bool is_user = mapped_le32(entry + 24) & 1, is_required = mapped_le32(entry + 24) & 4;
    int i = is_user ? -1 : find_item(entry);

    if (i < 0) {
        if (is_required) {
            error_setg(errp, "The VHDX image needs a metadata item that is not known");
            return false;
        }
        return true;
    }
    if (item.offset < TABLE_SIZE || item.offset > s->metadata.length ||
        item.length > s->metadata.length - item.offset || found[i].length ||
        (items[i].length ? item.length != items[i].length : !item.length)) {
        error_setg(errp, "The VHDX metadata item '%s' (%" PRIu32 " bytes at offset %" PRIu32
                   ") is invalid", items[i].name, item.length, item.offset);
        return false;
    }
    found[i] = item;
    return true;
}

static bool coroutine_fn find_items(BlockDriverState *bs, Item *found, GError **errp)
{
    VhdxState *s = bs->opaque;
    g_autofree uint8_t *table = g_malloc(TABLE_SIZE);
    uint32_t n;

    if (!mapped_read_head(bs, s->metadata.offset, table, TABLE_SIZE, "VHDX metadata table", errp)) {
        return false;
    }
    n = mapped_le16(table + 10);
    if (memcmp(table, "metadata", 8) || n > ENTRIES_MAX) {
        error_setg(errp, "The VHDX metadata table is invalid");
        return false;
    }
    for (uint32_t i = 0; i < n; i++) {
        if (!take_item(s, table + 32 + i * ENTRY_SIZE, found, errp)) {
            return false;
        }
    }
    for (int i = 0; i < ITEMS; i++) {
        if (items[i].length && !found[i].length) {
            error_setg(errp, "The VHDX image has no metadata item '%s'", items[i].name);
            return false;
        }
    }
    return true;
}

static bool coroutine_fn read_item(BlockDriverState *bs, const Item *found, int i, uint8_t *buf,
                                   GError **errp)
{
    VhdxState *s = bs->opaque;

    return mapped_read_head(bs, s->metadata.offset + found[i].offset, buf, items[i].length,
                            items[i].name, errp);
}

static bool is_power_of_two_in(uint64_t n, uint64_t min, uint64_t max)
{
    return n >= min && n <= max && (n & (n - 1)) == 0;
}

static bool coroutine_fn load_metadata(BlockDriverState *bs, GError **errp)
{
    VhdxState *s = bs->opaque;
    Item found[ITEMS] = { 0 };
    uint8_t parameters[8], size[8], sector[4];

    if (!find_items(bs, found, errp) || !read_item(bs, found, FILE_PARAMETERS, parameters, errp) ||
        !read_item(bs, found, DISK_SIZE, size, errp) ||
        !read_item(bs, found, LOGICAL_SECTOR, sector, errp)) {
        return false;
    }
    s->block_size = mapped_le32(parameters);
    s->sector_size = mapped_le32(sector);
    s->disk_size = mapped_le64(size);
    if (mapped_le32(parameters + 4) & 2 || found[PARENT_LOCATOR].length) {
        error_setg(errp, "Differencing VHDX images are not supported");
    } else if (!is_power_of_two_in(s->block_size, BLOCK_SIZE_MIN, BLOCK_SIZE_MAX)) {
        error_setg(errp, "Invalid VHDX block size %" PRIu32, s->block_size);
    } else if (s->sector_size != 512 && s->sector_size != 4096) {
        error_setg(errp, "Invalid VHDX logical sector size %" PRIu32, s->sector_size);
    } else if (s->disk_size > DISK_SIZE_MAX || s->disk_size % s->sector_size) {
        error_setg(errp, "Invalid VHDX disk size %" PRIu64, s->disk_size);
    } else {
        return true;
    }
    return false;
}

/* Section 2.5: how long the BAT must be. */
static bool check_bat(VhdxState *s, GError **errp)
{
    uint64_t entries;

    s->chunk_ratio = CHUNK_SECTORS * s->sector_size / s->block_size;
    s->blocks = (s->disk_size + s->block_size - 1) / s->block_size;
    entries = s->blocks ? s->blocks + (uint64_t)(s->blocks - 1) / s->chunk_ratio : 0;
    if (entries > s->bat.length / 8) {
        error_setg(errp, "The BAT of the VHDX image is too small for %" PRIu32 " blocks",
                   s->blocks);
        return false;
    }
    return true;
}

bool coroutine_fn vhdx_load(BlockDriverState *bs, GError **errp)
{
    VhdxState *s = bs->opaque;
    uint8_t signature[8];

    if (!mapped_read_head(bs, 0, signature, sizeof(signature), "VHDX file identifier", errp)) {
        return false;
    }
    if (memcmp(signature, "vhdxfile", sizeof(signature))) { /* section 2.2.1 */
        error_setg(errp, "Image is not in VHDX format");
        return false;
    }
    return load_header(bs, errp) && load_regions(bs, errp) && load_metadata(bs, errp) &&
           check_bat(s, errp);
}
