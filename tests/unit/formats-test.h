/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * For the tests of formats that are only read (vdi, vmdk, vhdx): images in memory, made by hand
 * from the formats' descriptions, small but with everything in them.
 */
#ifndef TESTS_UNIT_FORMATS_TEST_H
#define TESTS_UNIT_FORMATS_TEST_H

#include <zlib.h>
#include "qcow2-test.h"

#define MIB (1 << 20)

/* Little-endian, growing the file. */
static inline void put(MemFile *m, uint64_t offset, int bytes, uint64_t value)
{
    mem_grow(m, offset + bytes);
    for (int i = 0; i < bytes; i++) {
        m->data[offset + i] = value >> (8 * i);
    }
}

static inline void put_bytes(MemFile *m, uint64_t offset, const void *data, size_t len)
{
    mem_grow(m, offset + len);
    memcpy(m->data + offset, data, len);
}

static inline void put_fill(MemFile *m, uint64_t offset, int byte, size_t len)
{
    mem_grow(m, offset + len);
    memset(m->data + offset, byte, len);
}

/* --- VDI ----------------------------------------------------------------------------------- */

#define VDI_MAP 512
#define VDI_DATA 1024

/* A header for a disk of so many blocks; the map is all zeroes. */
static inline MemFile *vdi_new(uint32_t blocks, uint64_t disk_size, uint32_t data_offset)
{
    MemFile *m = mem_new("<<< test >>>\n", 13);

    put(m, 0x40, 4, 0xbeda107f);
    put(m, 0x44, 4, 0x00010001);
    put(m, 0x48, 4, 0x190);
    put(m, 0x4c, 4, 1);
    put(m, 0x154, 4, VDI_MAP);
    put(m, 0x158, 4, data_offset);
    put(m, 0x168, 4, 512);
    put(m, 0x170, 8, disk_size);
    put(m, 0x178, 4, MIB);
    put(m, 0x180, 4, blocks);
    mem_grow(m, VDI_MAP + blocks * UINT64_C(4));
    return m;
}

/* Four blocks: 0x11, none, 0x22 (which comes first), discarded; the last is cut short. */
static inline MemFile *vdi_sample(void)
{
    MemFile *m = vdi_new(4, 3 * MIB + 512, VDI_DATA);

    put(m, 0x184, 4, 2);
    put(m, VDI_MAP, 4, 1);
    put(m, VDI_MAP + 4, 4, 0xffffffff);
    put(m, VDI_MAP + 8, 4, 0);
    put(m, VDI_MAP + 12, 4, 0xfffffffe);
    put_fill(m, VDI_DATA, 0x22, MIB);
    put_fill(m, VDI_DATA + MIB, 0x11, MIB);
    return m;
}

/* --- VMDK ---------------------------------------------------------------------------------- */

#define VMDK_GRAIN 8192
#define VMDK_SPAN (4 * VMDK_GRAIN) /* a grain table has four entries */
#define VMDK_DISK (3 * VMDK_SPAN + VMDK_GRAIN + 512)
#define VMDK_DESCRIPTOR 512
#define VMDK_DIRECTORY 1536
#define VMDK_TABLES 2048 /* of the first, third and fourth entry of the directory: 512 each */
#define VMDK_GRAINS 4096

static const char vmdk_text[] = "# Disk DescriptorFile\nversion=1\nCID=12345678\n"
                                "parentCID=ffffffff\ncreateType=\"monolithicSparse\"\n\n"
                                "RW 209 SPARSE \"test.vmdk\"\n";

static inline void vmdk_header(MemFile *m, uint64_t at, uint32_t version, uint32_t flags)
{
    put_bytes(m, at, "KDMV", 4);
    put(m, at + 4, 4, version);
    put(m, at + 8, 4, flags);
    put(m, at + 12, 8, VMDK_DISK / 512);
    put(m, at + 20, 8, VMDK_GRAIN / 512);
    put(m, at + 28, 8, VMDK_DESCRIPTOR / 512);
    put(m, at + 36, 8, 2);
    put(m, at + 44, 4, 4);
    put(m, at + 56, 8, VMDK_DIRECTORY / 512);
    put(m, at + 64, 8, VMDK_GRAINS / 512);
    put_bytes(m, at + 73, "\n \r\n", 4);
    put(m, at + 77, 2, flags >> 16 ? 1 : 0);
}

/* A grain at offset at of the file; compressed behind its marker, or as it is. */
static inline uint64_t vmdk_put_grain(MemFile *m, uint64_t at, uint64_t guest, int byte,
                                      bool compressed)
{
    uint8_t data[VMDK_GRAIN], packed[VMDK_GRAIN];
    uLongf len = sizeof(packed);

    memset(data, byte, sizeof(data));
    if (!compressed) {
        put_bytes(m, at, data, sizeof(data));
        return at + sizeof(data);
    }
    g_assert_cmpint(compress(packed, &len, data, sizeof(data)), ==, Z_OK);
    put(m, at, 8, guest / 512);
    put(m, at + 8, 4, len);
    put_bytes(m, at + 12, packed, len);
    return (at + 12 + len + 511) & ~UINT64_C(511);
}

/*
 * Grains 0 (0x11) and 3 (0x22) of the first table, none of the second, which there is not,
 * 1 (zeroed, if not compressed) and 2 (0x33) of the third, the last two of the disk (0x44, 0x55).
 * at_end: the directory is found through a footer.
 */
static inline MemFile *vmdk_sample(bool compressed, bool at_end)
{
    MemFile *m = mem_new("", 0);
    uint64_t at = VMDK_GRAINS;
    const struct {
        int table, entry, byte;
    } grains[] = { { 0, 0, 0x11 }, { 0, 3, 0x22 }, { 2, 2, 0x33 }, { 3, 0, 0x44 }, { 3, 1, 0x55 } };

    vmdk_header(m, 0, compressed ? 3 : 2, compressed ? 0x30001 : 5);
    put_bytes(m, VMDK_DESCRIPTOR, vmdk_text, sizeof(vmdk_text));
    put(m, VMDK_DIRECTORY, 4, VMDK_TABLES / 512);
    put(m, VMDK_DIRECTORY + 8, 4, VMDK_TABLES / 512 + 1);
    put(m, VMDK_DIRECTORY + 12, 4, VMDK_TABLES / 512 + 2);
    for (size_t i = 0; i < G_N_ELEMENTS(grains); i++) {
        int row = grains[i].table ? grains[i].table - 1 : 0;

        put(m, VMDK_TABLES + row * 512 + grains[i].entry * 4, 4, at / 512);
        at = vmdk_put_grain(m, at, grains[i].table * VMDK_SPAN + grains[i].entry * VMDK_GRAIN,
                            grains[i].byte, compressed);
    }
    if (!compressed) {
        put(m, VMDK_TABLES + 512 + 4, 4, 1);
    }
    mem_grow(m, at);
    if (at_end) {
        put(m, 56, 8, UINT64_MAX);
        put(m, at, 8, 1);
        put(m, at + 12, 4, 3);
        vmdk_header(m, at + 512, 3, 0x30001);
        mem_grow(m, at + 1536);
    }
    return m;
}

/* --- VHDX ---------------------------------------------------------------------------------- */

#define VHDX_METADATA (2 * MIB)
#define VHDX_ITEMS (VHDX_METADATA + (64 << 10))
#define VHDX_BAT (3 * MIB)
#define VHDX_DATA (4 * MIB)
#define VHDX_ITEM(n) (VHDX_METADATA + 32 + 32 * (n)) /* entry of the metadata table */

static inline uint32_t vhdx_crc(const uint8_t *p, size_t n)
{
    static uint32_t table[256];
    uint32_t crc = UINT32_MAX;

    for (uint32_t i = 0; !table[255] && i < 256; i++) {
        table[i] = i;
        for (int bit = 0; bit < 8; bit++) {
            table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0x82f63b78 : 0);
        }
    }
    for (; n; n--) {
        crc = crc >> 8 ^ table[(crc ^ *p++) & 255];
    }
    return ~crc;
}

/* Makes the checksums of headers and region tables right, each where there is its signature. */
static inline void vhdx_seal(MemFile *m)
{
    static const struct {
        uint32_t offset, size;
    } parts[] = { { 64 << 10, 4096 }, { 128 << 10, 4096 },
                  { 192 << 10, 65536 }, { 256 << 10, 65536 } };

    for (size_t i = 0; i < G_N_ELEMENTS(parts); i++) {
        put(m, parts[i].offset + 4, 4, 0);
        put(m, parts[i].offset + 4, 4, vhdx_crc(m->data + parts[i].offset, parts[i].size));
    }
}

static inline void vhdx_put_header(MemFile *m, uint64_t at, uint64_t number)
{
    put_bytes(m, at, "head", 4);
    put(m, at + 8, 8, number);
    put(m, at + 66, 2, 1);
    put(m, at + 68, 4, MIB);
    put(m, at + 72, 8, MIB);
}

static inline void vhdx_put_regions(MemFile *m, uint64_t at)
{
    put_bytes(m, at, "regi", 4);
    put(m, at + 8, 4, 2);
    put_bytes(m, at + 16, "\x66\x77\xc2\x2d\x23\xf6\x00\x42\x9d\x64\x11\x5e\x9b\xfd\x4a\x08", 16);
    put(m, at + 32, 8, VHDX_BAT);
    put(m, at + 40, 4, MIB);
    put(m, at + 44, 4, 1);
    put_bytes(m, at + 48, "\x06\xa2\x7c\x8b\x90\x47\x9a\x4b\xb8\xfe\x57\x5f\x05\x0f\x88\x6e", 16);
    put(m, at + 64, 8, VHDX_METADATA);
    put(m, at + 72, 4, MIB);
    put(m, at + 76, 4, 1);
}

static inline void vhdx_put_item(MemFile *m, int n, const char *guid, uint32_t offset,
                                 uint32_t bytes, uint64_t value)
{
    put_bytes(m, VHDX_ITEM(n), guid, 16);
    put(m, VHDX_ITEM(n) + 16, 4, (64 << 10) + offset);
    put(m, VHDX_ITEM(n) + 20, 4, bytes);
    put(m, VHDX_ITEM(n) + 24, 4, 4);
    put(m, VHDX_ITEMS + offset, bytes, value);
}

/* Headers and metadata of a disk in blocks of 1 MiB; the BAT is all zeroes.  To be sealed. */
static inline MemFile *vhdx_new(uint64_t disk_size)
{
    MemFile *m = mem_new("vhdxfile", 8);

    mem_grow(m, VHDX_DATA);
    vhdx_put_header(m, 64 << 10, 7);
    vhdx_put_header(m, 128 << 10, 6);
    vhdx_put_regions(m, 192 << 10);
    vhdx_put_regions(m, 256 << 10);
    put_bytes(m, VHDX_METADATA, "metadata", 8);
    put(m, VHDX_METADATA + 10, 2, 3);
    vhdx_put_item(m, 0, "\x37\x67\xa1\xca\x36\xfa\x43\x4d\xb3\xb6\x33\xf0\xaa\x44\xe7\x6b", 0, 8,
                  MIB);
    vhdx_put_item(m, 1, "\x24\x42\xa5\x2f\x1b\xcd\x76\x48\xb2\x11\x5d\xbe\xd8\x3b\xf4\xb8", 8, 8,
                  disk_size);
    vhdx_put_item(m, 2, "\x1d\xbf\x41\x81\x6f\xa9\x09\x47\xba\x47\xf2\x33\xa8\xfa\xab\x5f", 16, 4,
                  512);
    return m;
}

/* Blocks: 0x11, not present, 0x22 (which comes first), zero, unmapped; the last is cut short. */
static inline MemFile *vhdx_sample(void)
{
    MemFile *m = vhdx_new(4 * MIB + 512);

    put(m, VHDX_BAT, 8, VHDX_DATA + MIB + 6);
    put(m, VHDX_BAT + 8, 8, 0);
    put(m, VHDX_BAT + 16, 8, VHDX_DATA + 6);
    put(m, VHDX_BAT + 24, 8, 2);
    put(m, VHDX_BAT + 32, 8, 3);
    put_fill(m, VHDX_DATA, 0x22, MIB);
    put_fill(m, VHDX_DATA + MIB, 0x11, MIB);
    vhdx_seal(m);
    return m;
}

/* --- Use ------------------------------------------------------------------------------------- */

/* Reads and looks at an image of whatever content, not more than a few MiB of it. */
static inline void coroutine_fn format_exercise(BdrvChild *image)
{
    int64_t length = image->bs->length, end = MIN(length, 8 * MIB), n, map;
    g_autofree uint8_t *buf = g_malloc(65536);
    BdrvCheckResult result = { 0 };
    BdrvInfo info = { 0 };

    for (int64_t at = 0; at < end; at += 65536) {
        bdrv_co_pread(image, at, MIN(65536, length - at), buf, 0);
    }
    if (length > 512) {
        bdrv_co_pread(image, length - 512, 512, buf, 0);
        bdrv_co_pread(image, length / 2, 512, buf, 0);
    }
    for (int64_t at = 0, i = 0; at < length && i < 1000; at += n, i++) {
        if (bdrv_co_block_status(image->bs, at, length - at, &n, &map) < 0) {
            n = MIN(65536, length - at);
        }
        g_assert_cmpint(n, >, 0);
    }
    image->bs->drv->co_info(image->bs, &info, NULL);
    qapi_free_ImageInfoSpecific(info.specific);
    image->bs->drv->co_check(image->bs, &result, 0, NULL);
}

#endif
