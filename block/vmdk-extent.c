/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sparse extents of VMDK disks ("Hosted Sparse Extents"): a header, the grain directory, whose
 * entries say where the grain tables are, and these, whose entries say where the grains are;
 * all places in sectors.  In stream-optimized ones ("Stream-Optimized Compressed Sparse
 * Extents") each grain is compressed behind a marker, and the directory may come last.
 */
#include <inttypes.h>
#include <zlib.h>
#include "qapi/error.h"
#include "vmdk.h"

#define HEADER_SIZE 512
#define VERSION_MAX 3
#define ENTRIES_MAX 512        /* of a grain table */
#define DIRECTORY_MAX (32ull << 20) /* grain tables: what QEMU takes */
#define GRAIN_MAX 0x200000     /* sectors */
#define PACKED_GRAIN_MAX 4096  /* sectors: what one request unpacks, in memory */
#define DESCRIPTOR_MAX (1 << 20)
#define DIRECTORY_AT_END UINT64_MAX
#define MARKER_SIZE 12         /* before compressed data: its place on the disk, its size */
#define MARKER_FOOTER 3
#define GRAIN_ZEROED 1         /* entry of a grain table: zeroes */

/* Offsets in the header, SparseExtentHeader. */
enum {
    AT_VERSION = 4,
    AT_FLAGS = 8,
    AT_CAPACITY = 12,
    AT_GRAIN_SIZE = 20,
    AT_DESCRIPTOR_OFFSET = 28,
    AT_DESCRIPTOR_SIZE = 36,
    AT_TABLE_ENTRIES = 44,
    AT_DIRECTORY = 56,
    AT_OVERHEAD = 64,
    AT_LINE_ENDS = 73, /* "\n \r\n", which shows if the file went through a text filter */
    AT_COMPRESSION = 77,
};

enum {
    FLAG_LINE_ENDS = 1 << 0,
    FLAG_ZEROED = 1 << 2,
    FLAG_COMPRESSED = 1 << 16,
    FLAG_MARKERS = 1 << 17,
};

/* --- The header --------------------------------------------------------------------------- */

static bool check_kind(const uint8_t *h, GError **errp)
{
    uint32_t version = mapped_le32(h + AT_VERSION), flags = mapped_le32(h + AT_FLAGS);

    if (memcmp(h, VMDK_MAGIC, 4)) {
        error_setg(errp, "Image is not in VMDK format");
    } else if (version > VERSION_MAX) {
        error_setg(errp, "Unsupported VMDK version %" PRIu32, version);
    } else if ((flags & FLAG_LINE_ENDS) && memcmp(h + AT_LINE_ENDS, "\n \r\n", 4)) {
        error_setg(errp, "The VMDK image was damaged by a transfer as text");
    } else if ((flags & FLAG_COMPRESSED) &&
               (!(flags & FLAG_MARKERS) || mapped_le16(h + AT_COMPRESSION) != 1)) {
        error_setg(errp, "Unsupported compression of the VMDK image (method %u, %s markers)",
                   mapped_le16(h + AT_COMPRESSION), flags & FLAG_MARKERS ? "with" : "without");
    } else {
        return true;
    }
    return false;
}

static bool take_sizes(VmdkState *s, const uint8_t *h, uint64_t file_length, GError **errp)
{
    uint64_t capacity = mapped_le64(h + AT_CAPACITY), grain = mapped_le64(h + AT_GRAIN_SIZE);
    uint64_t overhead = mapped_le64(h + AT_OVERHEAD);
    uint32_t flags = mapped_le32(h + AT_FLAGS);
    bool is_compressed = flags & FLAG_COMPRESSED;
    uint32_t entries = mapped_le32(h + AT_TABLE_ENTRIES);

    if (capacity > INT64_MAX / VMDK_SECTOR) {
        error_setg(errp, "The VMDK disk of %" PRIu64 " sectors is too large", capacity);
    } else if (entries > ENTRIES_MAX) {
        error_setg(errp, "L2 table size too big");
    } else if (!entries || !grain) {
        error_setg(errp, "L1 entry size is invalid");
    } else if (grain > (is_compressed ? PACKED_GRAIN_MAX : GRAIN_MAX)) {
        error_setg(errp, "Invalid granularity, image may be corrupt");
    } else if (capacity > DIRECTORY_MAX * grain * entries) {
        error_setg(errp, "L1 size too big");
    } else if (overhead > file_length / VMDK_SECTOR) {
        error_setg(errp, "File truncated, expecting at least %" PRIu64 " bytes",
                   overhead > INT64_MAX / VMDK_SECTOR ? INT64_MAX : overhead * VMDK_SECTOR);
    } else {
        s->capacity = capacity * VMDK_SECTOR;
        s->grain = grain * VMDK_SECTOR;
        s->table_entries = entries;
        s->is_compressed = is_compressed;
        s->has_zeroed = flags & FLAG_ZEROED;
        return true;
    }
    return false;
}

/* The directory is at the end: the footer, a copy of the header, says where. */
static bool coroutine_fn read_footer(BlockDriverState *bs, uint64_t *sector, GError **errp)
{
    BdrvChild *extent = mapped_file(bs);
    uint64_t length = extent->bs->length;
    /* The footer's marker, the footer, the end-of-stream marker: a sector each. */
    uint8_t buf[3 * VMDK_SECTOR];
    const uint8_t *footer = buf + VMDK_SECTOR;
    int ret;

    if (length < 4 * VMDK_SECTOR) {
        error_setg(errp, "Invalid footer");
        return false;
    }
    ret = bdrv_co_pread(extent, length - sizeof(buf), sizeof(buf), buf, 0);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not read the VMDK footer");
        return false;
    }
    *sector = mapped_le64(footer + AT_DIRECTORY);
    /* A marker has the number of sectors, 0 where a grain has its size, and a type. */
    if (mapped_le32(buf + 8) || mapped_le32(buf + 12) != MARKER_FOOTER ||
        memcmp(footer, VMDK_MAGIC, 4) || *sector == DIRECTORY_AT_END ||
        !buffer_is_zero(buf + 2 * VMDK_SECTOR, VMDK_SECTOR)) {
        error_setg(errp, "Invalid footer");
        return false;
    }
    return true;
}

static bool coroutine_fn find_directory(BlockDriverState *bs, const uint8_t *h, GError **errp)
{
    VmdkState *s = bs->opaque;
    uint64_t sector = mapped_le64(h + AT_DIRECTORY), length = mapped_file(bs)->bs->length;
    uint64_t table_span = s->table_entries * s->grain;
    uint64_t entries = s->capacity / table_span + (s->capacity % table_span > 0);

    if (sector == DIRECTORY_AT_END && !read_footer(bs, &sector, errp)) {
        return false;
    }
    if (sector > length / VMDK_SECTOR || entries > (length - sector * VMDK_SECTOR) / 4) {
        error_setg(errp, "The grain directory of the VMDK image lies beyond the end of the file");
        return false;
    }
    s->directory = sector * VMDK_SECTOR;
    return true;
}

static bool find_descriptor(VmdkState *s, const uint8_t *h, uint64_t file_length, GError **errp)
{
    uint64_t sector = mapped_le64(h + AT_DESCRIPTOR_OFFSET);
    uint64_t sectors = mapped_le64(h + AT_DESCRIPTOR_SIZE);

    if (sector && (sectors > DESCRIPTOR_MAX / VMDK_SECTOR || sector > file_length / VMDK_SECTOR ||
                   sectors > file_length / VMDK_SECTOR - sector)) {
        error_setg(errp, "The descriptor of the VMDK image is too large or lies beyond the end of "
                   "the file");
        return false;
    }
    s->descriptor_offset = sector * VMDK_SECTOR;
    s->descriptor_bytes = sector ? sectors * VMDK_SECTOR : 0;
    return true;
}

bool coroutine_fn vmdk_load_sparse(BlockDriverState *bs, GError **errp)
{
    VmdkState *s = bs->opaque;
    BdrvChild *extent = mapped_file(bs);
    uint64_t length = extent->bs->length;
    uint8_t h[HEADER_SIZE];
    int ret;

    if (length < HEADER_SIZE) {
        error_setg(errp, "Image is not in VMDK format");
        return false;
    }
    ret = bdrv_co_pread(extent, 0, HEADER_SIZE, h, 0);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not read the VMDK header");
        return false;
    }
    return check_kind(h, errp) && take_sizes(s, h, length, errp) && find_directory(bs, h, errp) &&
           find_descriptor(s, h, length, errp);
}

/* --- Grains ------------------------------------------------------------------------------- */

static int coroutine_fn load_number(BlockDriverState *bs, uint64_t offset, uint32_t *number)
{
    VmdkState *s = bs->opaque;
    uint8_t buf[4];
    int ret = table_cache_read(&s->mapped.tables, mapped_file(bs), offset, buf, sizeof(buf));

    *number = ret < 0 ? 0 : mapped_le32(buf);
    return ret;
}

int coroutine_fn vmdk_load_table(BlockDriverState *bs, uint64_t index, uint32_t *table)
{
    return load_number(bs, ((VmdkState *)bs->opaque)->directory + index * 4, table);
}

int coroutine_fn vmdk_load_grain(BlockDriverState *bs, uint32_t table, uint32_t index,
                                 uint32_t *grain)
{
    return load_number(bs, (uint64_t)table * VMDK_SECTOR + index * UINT64_C(4), grain);
}

int coroutine_fn vmdk_find_grain(BlockDriverState *bs, int64_t offset, MappedPart *part)
{
    VmdkState *s = bs->opaque;
    uint64_t table_span = s->table_entries * s->grain;
    uint64_t in_table = offset % table_span, in_grain = in_table % s->grain;
    uint32_t table, grain;
    int ret = vmdk_load_table(bs, offset / table_span, &table);

    if (ret < 0) {
        return ret;
    }
    if (!table) {
        *part = (MappedPart){ .kind = MAPPED_HOLE, .bytes = table_span - in_table };
        return 0;
    }
    ret = vmdk_load_grain(bs, table, in_table / s->grain, &grain);
    *part = (MappedPart){ .kind = MAPPED_HOLE, .bytes = s->grain - in_grain };
    if (ret < 0 || !grain) {
        return ret;
    }
    if (s->has_zeroed && grain == GRAIN_ZEROED) {
        part->kind = MAPPED_ZERO;
        return 0;
    }
    part->kind = s->is_compressed ? MAPPED_PACKED : MAPPED_DATA;
    part->host = (int64_t)grain * VMDK_SECTOR + (s->is_compressed ? 0 : in_grain);
    return 0;
}

typedef struct Unpack {
    uint8_t *in, *out;
    uint32_t in_bytes, out_bytes;
} Unpack;

/* A whole zlib stream (RFC 1950), in a worker thread; out_bytes becomes what came out. */
static int unpack(void *opaque)
{
    Unpack *u = opaque;
    z_stream z = { .next_in = u->in, .avail_in = u->in_bytes, .next_out = u->out,
                   .avail_out = u->out_bytes };
    int ret;

    if (inflateInit(&z) != Z_OK) {
        return -ENOMEM;
    }
    ret = inflate(&z, Z_FINISH);
    u->out_bytes -= z.avail_out;
    inflateEnd(&z);
    return ret == Z_STREAM_END ? 0 : -EIO;
}

int coroutine_fn vmdk_read_packed(BlockDriverState *bs, int64_t host, int64_t offset, IOVector *iov,
                                  size_t at, size_t bytes)
{
    VmdkState *s = bs->opaque;
    BdrvChild *extent = mapped_file(bs);
    uint64_t length = extent->bs->length, in_grain = offset % s->grain;
    g_autofree uint8_t *in = NULL, *out = NULL;
    uint8_t marker[MARKER_SIZE];
    Unpack u = { .out_bytes = s->grain };
    int ret;

    if ((uint64_t)host > length || length - host < MARKER_SIZE) {
        return -EIO;
    }
    ret = bdrv_co_pread(extent, host, MARKER_SIZE, marker, 0);
    if (ret < 0) {
        return ret;
    }
    u.in_bytes = mapped_le32(marker + 8);
    if (mapped_le64(marker) != (offset - in_grain) / VMDK_SECTOR || u.in_bytes > 2 * s->grain ||
        u.in_bytes > length - host - MARKER_SIZE) {
        return -EIO; /* another grain, or none */
    }
    in = u.in = g_try_malloc(MAX(u.in_bytes, 1));
    out = u.out = g_try_malloc(s->grain);
    if (!in || !out) {
        return -ENOMEM;
    }
    ret = bdrv_co_pread(extent, host + MARKER_SIZE, u.in_bytes, in, 0);
    ret = ret < 0 ? ret : co_run_in_worker(unpack, &u);
    if (ret == 0 && in_grain + bytes > u.out_bytes) {
        ret = -EIO;
    }
    if (ret == 0) {
        io_vector_from_buf(iov, at, out + in_grain, bytes);
    }
    return ret;
}
