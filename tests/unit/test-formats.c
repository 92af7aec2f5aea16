/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Formats that are only read: content and status of small images made by hand; each field of
 * their headers broken in turn; random damage; and a map that does not fit into the cache.
 */
#include "block/mapped.h"
#include "formats-test.h"

typedef struct Part { /* of a disk: all bytes are byte; status: BDRV_BLOCK_* but for the offset */
    int64_t offset, bytes;
    int byte, status;
} Part;

enum {
    DATA = BDRV_BLOCK_DATA | BDRV_BLOCK_ALLOCATED | BDRV_BLOCK_OFFSET_VALID,
    PACKED = BDRV_BLOCK_DATA | BDRV_BLOCK_ALLOCATED | BDRV_BLOCK_COMPRESSED,
    ZERO = BDRV_BLOCK_ZERO | BDRV_BLOCK_ALLOCATED,
    HOLE = 0,
};

static BdrvChild *coroutine_fn open_ok(const BlockDriver *drv, MemFile *m)
{
    GError *err = NULL;
    BdrvChild *image = image_open_as(drv, m, NULL, true, NULL, &err);

    g_assert_no_error(err);
    return image;
}

static bool all_are(const uint8_t *p, int byte, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (p[i] != byte) {
            return false;
        }
    }
    return true;
}

/* The image has just these parts, reads as they say, and a check finds nothing. */
static void coroutine_fn expect(const BlockDriver *drv, MemFile *m, const Part *parts, size_t n)
{
    BdrvChild *image = open_ok(drv, m);
    int64_t length = parts[n - 1].offset + parts[n - 1].bytes, pnum, map;
    g_autofree uint8_t *buf = g_malloc(length);
    BdrvCheckResult result = { 0 };

    g_assert_cmpint(bdrv_probe(m->data, MIN(m->len, 2048), "") == drv, ==, true);
    g_assert_cmpint(image->bs->length, ==, length);
    g_assert_cmpint(bdrv_co_pread(image, 0, length, buf, 0), ==, 0);
    for (size_t i = 0; i < n; i++) {
        const Part *p = &parts[i];
        int status = bdrv_co_block_status(image->bs, p->offset, length - p->offset, &pnum, &map);
        uint8_t some[1000];
        int64_t at = p->offset + p->bytes / 3, few = MIN((int64_t)sizeof(some), p->bytes / 2);

        g_assert_true(all_are(buf + p->offset, p->byte, p->bytes));
        g_assert_cmpint(bdrv_co_pread(image, at, few, some, 0), ==, 0);
        g_assert_true(all_are(some, p->byte, few));
        g_assert_cmpint(status, ==, p->status);
        g_assert_cmpint(pnum, ==, p->bytes);
        if (status & BDRV_BLOCK_OFFSET_VALID) {
            g_assert_true(all_are(m->data + map, p->byte, pnum));
        }
    }
    g_assert_true(drv->co_check(image->bs, &result, 0, NULL));
    g_assert_cmpint(result.corruptions, ==, 0);
    image_close(image);
    mem_free(m);
}

static void coroutine_fn test_vdi(void)
{
    static const Part parts[] = {
        { 0, MIB, 0x11, DATA },
        { MIB, MIB, 0, ZERO },
        { 2 * MIB, MIB, 0x22, DATA },
        { 3 * MIB, 512, 0, ZERO },
    };

    expect(&bdrv_vdi_driver, vdi_sample(), parts, G_N_ELEMENTS(parts));
}

/* data, zeroed: what a grain and a zeroed grain are in this kind of extent. */
static void coroutine_fn expect_vmdk(MemFile *m, int data, int zeroed)
{
    const int64_t g = VMDK_GRAIN;
    const Part parts[] = {
        { 0, g, 0x11, data },
        { g, 2 * g, 0, HOLE },
        { 3 * g, g, 0x22, data },
        { 4 * g, 4 * g, 0, HOLE },
        { 8 * g, g, 0, HOLE },
        { 9 * g, g, 0, zeroed },
        { 10 * g, g, 0x33, data },
        { 11 * g, g, 0, HOLE },
        { 12 * g, g, 0x44, data },
        { 13 * g, 512, 0x55, data },
    };
    /* Neighbours of one kind are one part, where they lie in the file as on the disk too. */
    const Part merged[] = {
        parts[0], parts[1], parts[2], { 4 * g, 5 * g, 0, HOLE }, parts[5], parts[6], parts[7],
        { 12 * g, g + 512, -1, data },
    };
    const Part merged_holes[] = {
        parts[0], parts[1], parts[2], { 4 * g, 6 * g, 0, HOLE }, parts[6], parts[7],
        { 12 * g, g + 512, -1, data },
    };
    bool holes = zeroed == HOLE;
    const Part *expected = holes ? merged_holes : merged;
    size_t n = holes ? G_N_ELEMENTS(merged_holes) : G_N_ELEMENTS(merged);
    BdrvChild *image = open_ok(&bdrv_vmdk_driver, m);
    g_autofree uint8_t *buf = g_malloc(VMDK_DISK);
    BdrvCheckResult result = { 0 };

    g_assert_cmpint(image->bs->length, ==, VMDK_DISK);
    g_assert_cmpint(bdrv_co_pread(image, 0, VMDK_DISK, buf, 0), ==, 0);
    for (size_t i = 0; i < G_N_ELEMENTS(parts); i++) {
        g_assert_true(all_are(buf + parts[i].offset, parts[i].byte, parts[i].bytes));
        g_assert_cmpint(bdrv_co_pread(image, parts[i].offset + 100, 300, buf, 0), ==, 0);
        g_assert_true(all_are(buf, parts[i].byte, 300));
        g_assert_cmpint(bdrv_co_pread(image, 0, VMDK_DISK, buf, 0), ==, 0);
    }
    for (size_t i = 0; i < n; i++) {
        int64_t pnum;
        int status = bdrv_co_block_status(image->bs, expected[i].offset,
                                          VMDK_DISK - expected[i].offset, &pnum, NULL);

        g_assert_cmpint(status, ==, expected[i].status);
        g_assert_cmpint(pnum, ==, expected[i].bytes);
    }
    g_assert_true(bdrv_vmdk_driver.co_check(image->bs, &result, 0, NULL));
    g_assert_cmpint(result.corruptions, ==, 0);
    image_close(image);
    mem_free(m);
}

static void coroutine_fn test_vmdk(void)
{
    expect_vmdk(vmdk_sample(false, false), DATA, ZERO);
    expect_vmdk(vmdk_sample(true, false), PACKED, HOLE);
    expect_vmdk(vmdk_sample(true, true), PACKED, HOLE);
}

static void coroutine_fn test_vhdx(void)
{
    static const Part parts[] = {
        { 0, MIB, 0x11, DATA },
        { MIB, MIB, 0, ZERO },
        { 2 * MIB, MIB, 0x22, DATA },
        { 3 * MIB, MIB + 512, 0, ZERO },
    };
    MemFile *m = vhdx_sample();

    expect(&bdrv_vhdx_driver, mem_clone(m), parts, G_N_ELEMENTS(parts));
    /* One damaged header and one damaged region table do not matter, whichever they are. */
    for (int i = 0; i < 4; i++) {
        MemFile *copy = mem_clone(m);

        copy->data[((i & 1 ? 64 : 128) << 10) + 100] ^= 1;
        copy->data[((i & 2 ? 192 : 256) << 10) + 1000] ^= 1;
        expect(&bdrv_vhdx_driver, copy, parts, G_N_ELEMENTS(parts));
    }
    mem_free(m);
}

/* --- Damage ------------------------------------------------------------------------------------ */

typedef struct Damage {
    uint64_t offset;
    int bytes; /* 0: the file ends here */
    uint64_t value;
    const char *message; /* a pattern; NULL: it opens */
} Damage;

/* Whether an image that may be damaged opens, else errp; one that does is gone through. */
static bool coroutine_fn try_image(const BlockDriver *drv, MemFile *m, GError **errp)
{
    BdrvChild *image = image_open_as(drv, m, NULL, true, NULL, errp);

    if (image) {
        format_exercise(image);
        image_close(image);
    }
    return image != NULL;
}

/* sample: for each case a new image; seal may be NULL. */
static void coroutine_fn try_damage(const BlockDriver *drv, MemFile *sample,
                                    void (*seal)(MemFile *m), const Damage *cases, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const Damage *d = &cases[i];
        MemFile *m = mem_clone(sample);
        GError *err = NULL;
        bool opened;

        if (d->bytes) {
            put(m, d->offset, d->bytes, d->value);
        } else {
            m->len = d->offset;
        }
        if (seal && d->bytes) {
            seal(m);
        }
        opened = try_image(drv, m, &err);
        if (!d->message != opened || (err && !g_pattern_match_simple(d->message, err->message))) {
            g_error("%s case %zu (%" PRIu64 "): %s", drv->name, i, d->offset,
                    err ? err->message : "was opened");
        }
        g_clear_error(&err);
        mem_free(m);
    }
    mem_free(sample);
}

static void coroutine_fn test_vdi_damage(void)
{
    static const Damage cases[] = {
        { 0, 0, 0, "The VDI header at offset 0 lies beyond the end of the file" },
        { 511, 0, 0, "The VDI header at offset 0 lies beyond the end of the file" },
        { VDI_MAP + 15, 0, 0, "The block map at offset 512 lies beyond the end of the file" },
        { 0, 4, 0, NULL }, /* text */
        { 0x40, 4, 0x12345678, "Image not in VDI format (bad signature 12345678)" },
        { 0x44, 4, 0x00010002, "unsupported VDI image (version 1.2)" },
        { 0x44, 4, 2, "unsupported VDI image (version 0.2)" },
        { 0x4c, 4, 0, "unsupported VDI image (type 0 *)" },
        { 0x4c, 4, 2, NULL },
        { 0x4c, 4, 3, "unsupported VDI image (type 3 *)" },
        { 0x4c, 4, 4, "unsupported VDI image (type 4 *)" },
        { 0x50, 4, 0xffffffff, NULL }, /* flags */
        { 0x154, 4, 513, "unsupported VDI image (unaligned block map offset 0x201)" },
        { 0x154, 4, 0xfffffe00, "The block map at offset 4294966784 lies beyond *" },
        { 0x158, 4, 513, "unsupported VDI image (unaligned data offset 0x201)" },
        { 0x158, 4, 0xfffffe00, NULL },
        { 0x15c, 4, 0xffffffff, NULL }, /* geometry */
        { 0x168, 4, 4096, "unsupported VDI image (sector size 4096 is not 512)" },
        { 0x170, 8, 0, NULL },
        { 0x170, 8, 4 * MIB + 1, "unsupported VDI image (disk size 4194816, image bitmap has room "
                                 "for 4194304)" },
        { 0x170, 8, 1ULL << 63, "Unsupported VDI image size (size is 0x8000000000000000, max "
                                "supported is 0x1fffff8000000)" },
        { 0x170, 8, UINT64_MAX, "Unsupported VDI image size*" },
        { 0x178, 4, 0, "unsupported VDI image (block size 0 is not 1048576)" },
        { 0x178, 4, 2 * MIB, "unsupported VDI image (block size 2097152 is not 1048576)" },
        { 0x17c, 4, 512, "unsupported VDI image (512 bytes in front of each block)" },
        { 0x180, 4, 0, "unsupported VDI image (disk size 3146240, image bitmap has room for 0)" },
        { 0x180, 4, 0x1fffff80, "The block map at offset 512 lies beyond the end of the file" },
        { 0x180, 4, 0xffffffff, "unsupported VDI image (too many blocks 4294967295, max is "
                                "536870784)" },
        { 0x184, 4, 99, NULL }, /* allocated blocks */
        { 0x188, 8, 1, NULL },
        { 0x198, 8, 1, NULL },
        { 0x1a8, 8, 1, "unsupported VDI image (non-NULL link UUID)" },
        { 0x1b8, 8, 1, "unsupported VDI image (non-NULL parent UUID)" },
        { VDI_MAP, 4, 4, NULL },
        { VDI_MAP, 4, 0xfffffffd, NULL },
        { VDI_MAP, 4, 0, NULL },
    };

    try_damage(&bdrv_vdi_driver, vdi_sample(), NULL, cases, G_N_ELEMENTS(cases));
}

static void coroutine_fn test_vmdk_damage(void)
{
    static const Damage cases[] = {
        { 3, 0, 0, "invalid VMDK image descriptor" },
        { 511, 0, 0, "Image is not in VMDK format" },
        { 1300, 0, 0, "File truncated, expecting at least 4096 bytes" },
        { 0, 4, 0x44574f43, "Sparse extents of VMware ESX (COWD) are not supported" },
        { 0, 4, 0, "invalid VMDK image descriptor" },
        { 4, 4, 4, "Unsupported VMDK version 4" },
        { 8, 4, 0, NULL },
        { 8, 4, 0x10005, "Unsupported compression of the VMDK image (method 0, without markers)" },
        { 8, 4, 0x30005, "Unsupported compression of the VMDK image (method 0, with markers)" },
        { 12, 8, 0, NULL },
        { 12, 8, 1ULL << 28, "The grain directory of the VMDK image lies beyond *" },
        { 12, 8, 1ULL << 53, "L1 size too big" },
        { 12, 8, 1ULL << 55, "The VMDK disk of 36028797018963968 sectors is too large" },
        { 12, 8, UINT64_MAX, "The VMDK disk of 18446744073709551615 sectors is too large" },
        { 20, 8, 0, "L1 entry size is invalid" },
        { 20, 8, 1, NULL },
        { 20, 8, 0x200001, "Invalid granularity, image may be corrupt" },
        { 20, 8, 1ULL << 63, "Invalid granularity, image may be corrupt" },
        { 28, 8, 0, "The VMDK file has no descriptor: it is an extent of another image" },
        { 28, 8, 1ULL << 60, "The descriptor of the VMDK image is too large or lies beyond *" },
        { 36, 8, 0, "The VMDK file has no descriptor: it is an extent of another image" },
        { 36, 8, 2049, "The descriptor of the VMDK image is too large or lies beyond *" },
        { 36, 8, UINT64_MAX, "The descriptor of the VMDK image is too large or lies beyond *" },
        { 44, 4, 0, "L1 entry size is invalid" },
        { 44, 4, 513, "L2 table size too big" },
        { 44, 4, 512, NULL },
        { 48, 8, UINT64_MAX, NULL }, /* the redundant directory */
        { 56, 8, 1ULL << 60, "The grain directory of the VMDK image lies beyond *" },
        { 56, 8, UINT64_MAX, "Invalid footer" },
        { 64, 8, 1ULL << 60, "File truncated, expecting at least 9223372036854775807 bytes" },
        { 73, 1, '\r', "The VMDK image was damaged by a transfer as text" },
        { 77, 2, 7, NULL }, /* compression that is not used */
        { VMDK_DESCRIPTOR, 1, 'x', NULL },
        { VMDK_DESCRIPTOR + 36, 1, 'z', "Invalid CID in the VMDK descriptor" },
        { VMDK_DESCRIPTOR + 55, 1, '-', "Invalid parentCID in the VMDK descriptor" },
        { VMDK_DESCRIPTOR + 55, 1, 'e', "The VMDK descriptor names no parent, but has its CID" },
        { VMDK_DESCRIPTOR + 64, 1, 'k', "The VMDK descriptor has no createType" },
        { VMDK_DIRECTORY, 4, UINT32_MAX, NULL },
        { VMDK_TABLES, 4, UINT32_MAX, NULL },
        { VMDK_TABLES, 4, 1, NULL },
    };

    try_damage(&bdrv_vmdk_driver, vmdk_sample(false, false), NULL, cases, G_N_ELEMENTS(cases));
}

static void coroutine_fn test_vmdk_packed_damage(void)
{
    static const Damage header[] = {
        { 20, 8, 4097, "Invalid granularity, image may be corrupt" },
        { 77, 2, 0, "Unsupported compression of the VMDK image (method 0, with markers)" },
    };
    static const struct {
        uint64_t offset;
        int bytes;
        uint64_t value;
    } grain[] = {
        { VMDK_GRAINS, 8, 16 },          /* another grain's */
        { VMDK_GRAINS + 8, 4, 0 },
        { VMDK_GRAINS + 8, 4, 10 },      /* cut short */
        { VMDK_GRAINS + 8, 4, UINT32_MAX },
        { VMDK_GRAINS + 12, 1, 0xff },   /* not zlib */
        { VMDK_GRAINS + 20, 4, 0x12345678 },
        { VMDK_TABLES, 4, UINT32_MAX },  /* outside of the file */
    };
    MemFile *sample = vmdk_sample(true, true);
    uint8_t buf[512];

    try_damage(&bdrv_vmdk_driver, vmdk_sample(true, false), NULL, header, G_N_ELEMENTS(header));
    for (size_t i = 0; i < G_N_ELEMENTS(grain); i++) {
        MemFile *m = mem_clone(sample);
        BdrvChild *image;

        put(m, grain[i].offset, grain[i].bytes, grain[i].value);
        image = open_ok(&bdrv_vmdk_driver, m);
        g_assert_cmpint(bdrv_co_pread(image, 0, 512, buf, 0), ==, -EIO);
        g_assert_cmpint(bdrv_co_pread(image, 3 * VMDK_GRAIN, 512, buf, 0), ==, 0);
        g_assert_true(all_are(buf, 0x22, 512));
        image_close(image);
        mem_free(m);
    }
    for (int at = 1; at <= 1536; at += 5) { /* the footer and what is around it */
        MemFile *m = mem_clone(sample);
        GError *err = NULL;
        bool opened;

        m->data[m->len - at] ^= 0x55;
        opened = try_image(&bdrv_vmdk_driver, m, &err);
        g_assert_true(opened == !err);
        g_clear_error(&err);
        mem_free(m);
    }
    mem_free(sample);
}

static void coroutine_fn test_vhdx_damage(void)
{
    static const Damage cases[] = {
        { 7, 0, 0, "The VHDX file identifier at offset 0 lies beyond the end of the file" },
        { 100 << 10, 0, 0, "The second VHDX header at offset 131072 lies beyond *" },
        { 200 << 10, 0, 0, "The first VHDX region table at offset 196608 lies beyond *" },
        { 2 * MIB, 0, 0, "The BAT region of the VHDX image * does not lie in the file" },
        { 0, 1, 'V', "Image is not in VHDX format" },
        { 64 << 10, 4, 0, NULL },
        { (64 << 10) + 8, 8, 6, "The VHDX image has no valid header" }, /* both are alike */
        { (64 << 10) + 48, 8, 1, "The VHDX image was not closed properly and has a log *" },
        { (64 << 10) + 66, 2, 2, "Unsupported VHDX version 2" },
        { (64 << 10) + 68, 4, UINT32_MAX, NULL }, /* the log, which nobody reads */
        { (64 << 10) + 72, 8, UINT64_MAX, NULL },
        { (192 << 10) + 8, 4, 2048, "The VHDX region table has too many entries (2048)" },
        { (192 << 10) + 8, 4, UINT32_MAX, "The VHDX region table has too many entries *" },
        { (192 << 10) + 8, 4, 1, "The VHDX image has no metadata region" },
        { (192 << 10) + 8, 4, 0, "The VHDX image has no BAT region" },
        { (192 << 10) + 16, 4, 0, "The VHDX image needs a region that is not known" },
        { (192 << 10) + 32, 8, VHDX_BAT + 512, "The BAT region of the VHDX image * not aligned *" },
        { (192 << 10) + 32, 8, 0, "The BAT region of the VHDX image * not aligned *" },
        { (192 << 10) + 32, 8, 1ULL << 63, "The BAT region of the VHDX image *" },
        { (192 << 10) + 32, 8, UINT64_MAX << 20, "The BAT region of the VHDX image *" },
        { (192 << 10) + 40, 4, 0, "The BAT region of the VHDX image *" },
        { (192 << 10) + 40, 4, 0xfff00000, "The BAT region of the VHDX image *" },
        { (192 << 10) + 64, 8, 6 * MIB, "The metadata region of the VHDX image *" },
        { VHDX_METADATA, 1, 'M', "The VHDX metadata table is invalid" },
        { VHDX_METADATA + 10, 2, 2048, "The VHDX metadata table is invalid" },
        { VHDX_METADATA + 10, 2, 2, "The VHDX image has no metadata item 'logical sector size'" },
        { VHDX_METADATA + 10, 2, 0, "The VHDX image has no metadata item 'file parameters'" },
        { VHDX_ITEM(0), 4, 0, "The VHDX image needs a metadata item that is not known" },
        { VHDX_ITEM(0) + 16, 4, 65535, "The VHDX metadata item 'file parameters' (8 bytes *" },
        { VHDX_ITEM(0) + 16, 4, UINT32_MAX, "The VHDX metadata item 'file parameters' *" },
        { VHDX_ITEM(0) + 20, 4, 4, "The VHDX metadata item 'file parameters' (4 bytes *" },
        { VHDX_ITEM(0) + 24, 4, 5, "The VHDX image needs a metadata item that is not known" },
        { VHDX_ITEM(1) + 16, 4, MIB - 4, "The VHDX metadata item 'virtual disk size' *" },
        { VHDX_ITEMS, 4, 3 * MIB, "Invalid VHDX block size 3145728" },
        { VHDX_ITEMS, 4, 0, "Invalid VHDX block size 0" },
        { VHDX_ITEMS, 4, 512 * MIB, "Invalid VHDX block size 536870912" },
        { VHDX_ITEMS, 4, 256 * MIB, NULL },
        { VHDX_ITEMS + 4, 4, 2, "Differencing VHDX images are not supported" },
        { VHDX_ITEMS + 8, 8, 0, NULL },
        { VHDX_ITEMS + 8, 8, 1000, "Invalid VHDX disk size 1000" },
        { VHDX_ITEMS + 8, 8, 1ULL << 46, "The BAT of the VHDX image is too small for 67108864 *" },
        { VHDX_ITEMS + 8, 8, (1ULL << 46) + 512, "Invalid VHDX disk size 70368744178176" },
        { VHDX_ITEMS + 8, 8, UINT64_MAX, "Invalid VHDX disk size 18446744073709551615" },
        { VHDX_ITEMS + 16, 4, 0, "Invalid VHDX logical sector size 0" },
        { VHDX_ITEMS + 16, 4, 4096, "Invalid VHDX disk size 4194816" },
        { VHDX_BAT, 8, 4, NULL },
        { VHDX_BAT, 8, 6, NULL },
        { VHDX_BAT, 8, UINT64_MAX, NULL },
        { VHDX_BAT, 8, UINT64_MAX - 1, NULL },
        { VHDX_BAT, 8, (1ULL << 62) + 6, NULL },
    };

    try_damage(&bdrv_vhdx_driver, vhdx_sample(), vhdx_seal, cases, G_N_ELEMENTS(cases));
}

/* --- What a check says ------------------------------------------------------------------------- */

static void coroutine_fn expect_check(const BlockDriver *drv, MemFile *m, const char *lines)
{
    BdrvChild *image = open_ok(drv, m);
    g_autoptr(GString) text = g_string_new(NULL);
    BdrvCheckResult result = { .report = check_line, .opaque = text };

    g_assert_true(drv->co_check(image->bs, &result, 0, NULL));
    g_assert_cmpstr(text->str, ==, lines);
    g_assert_cmpint(result.corruptions, >, 0);
    image_close(image);
    mem_free(m);
}

static void coroutine_fn test_check(void)
{
    MemFile *m = vdi_sample();

    put(m, VDI_MAP, 4, 77);
    put(m, VDI_MAP + 4, 4, 0);
    expect_check(&bdrv_vdi_driver, m, "ERROR: block index 0 too large, is 77\n"
                                      "ERROR: block index 0 also used by 0\n");
    m = vdi_sample();
    put(m, 0x184, 4, 5);
    expect_check(&bdrv_vdi_driver, m, "ERROR: allocated blocks mismatch, is 2, should be 5\n");
    m = vdi_sample();
    m->len = VDI_DATA + MIB;
    expect_check(&bdrv_vdi_driver, m, "ERROR: block index 0 lies beyond the end of the file, is "
                                      "1\n");
    m = vmdk_sample(false, false);
    put(m, VMDK_TABLES, 4, 5000);
    put(m, VMDK_DIRECTORY + 8, 4, 6000);
    expect_check(&bdrv_vmdk_driver, m, "ERROR: the grain at offset 0 of the disk lies beyond the "
                                       "end of the file\n"
                                       "ERROR: grain table 2 lies beyond the end of the file\n");
    m = vhdx_sample();
    put(m, VHDX_BAT, 8, 5);
    put(m, VHDX_BAT + 8, 8, VHDX_DATA + 2 * MIB + 6);
    put(m, VHDX_BAT + 24, 8, VHDX_BAT + 6);
    expect_check(&bdrv_vhdx_driver, m, "ERROR: block 0 has an invalid BAT entry 0x5\n"
                                       "ERROR: block 1 at offset 6291456 lies beyond the end of "
                                       "the file\n"
                                       "ERROR: block 3 at offset 3145728 overlaps something else\n");
}

/* --- Random damage ------------------------------------------------------------------------------ */

/* Places whose change matters: most of a file is content. */
static void coroutine_fn damage_at_random(const BlockDriver *drv, MemFile *sample,
                                          void (*seal)(MemFile *m), const uint32_t *places,
                                          size_t n, GRand *rand)
{
    for (int round = 0; round < 200; round++) {
        MemFile *m = mem_clone(sample);
        GError *err = NULL;
        bool opened;

        for (int i = g_rand_int_range(rand, 1, 4); i; i--) {
            uint32_t at = places[g_rand_int_range(rand, 0, n)] + g_rand_int_range(rand, 0, 128);

            m->data[at % m->len] = g_rand_int_range(rand, 0, 256);
        }
        if (seal) {
            seal(m);
        }
        opened = try_image(drv, m, &err);
        g_assert_true(opened == !err);
        g_clear_error(&err);
        mem_free(m);
    }
    mem_free(sample);
}

static void coroutine_fn test_random(void)
{
    static const uint32_t vdi[] = { 0x40, 0x154, 0x170, VDI_MAP };
    static const uint32_t vmdk[] = { 0, 0, VMDK_DESCRIPTOR, VMDK_DIRECTORY, VMDK_TABLES,
                                     VMDK_TABLES + 512, VMDK_GRAINS };
    static const uint32_t vhdx[] = { 64 << 10, 192 << 10, VHDX_METADATA, VHDX_ITEM(2), VHDX_ITEMS,
                                     VHDX_BAT };
    GRand *rand = g_rand_new_with_seed(5);

    damage_at_random(&bdrv_vdi_driver, vdi_sample(), NULL, vdi, G_N_ELEMENTS(vdi), rand);
    damage_at_random(&bdrv_vmdk_driver, vmdk_sample(false, false), NULL, vmdk, G_N_ELEMENTS(vmdk),
                     rand);
    damage_at_random(&bdrv_vmdk_driver, vmdk_sample(true, true), NULL, vmdk, G_N_ELEMENTS(vmdk),
                     rand);
    damage_at_random(&bdrv_vhdx_driver, vhdx_sample(), vhdx_seal, vhdx, G_N_ELEMENTS(vhdx), rand);
    g_rand_free(rand);
}

/* --- The cache of tables -------------------------------------------------------------------------- */

typedef struct Readers {
    BdrvChild *image;
    GRand *rand;
    uint32_t blocks;
    int left, running;
} Readers;

static void coroutine_fn reader_entry(void *opaque)
{
    Readers *r = opaque;

    while (r->left-- > 0) {
        uint32_t block = g_rand_int_range(r->rand, 0, r->blocks);
        uint8_t buf[512];

        g_assert_cmpint(bdrv_co_pread(r->image, (int64_t)block * MIB, 512, buf, 0), ==, 0);
        g_assert_true(all_are(buf, block % 2 ? 0x22 : 0x11, 512));
    }
    r->running--;
}

/* A map of 6 MiB, read by several at once in no order. */
static void coroutine_fn test_cache(void)
{
    const uint32_t blocks = 1536 << 10;
    const uint32_t data = VDI_MAP + blocks * 4;
    MemFile *m = vdi_new(blocks, (uint64_t)blocks * MIB, data);
    Readers r = { .rand = g_rand_new_with_seed(3), .blocks = blocks, .left = 4000, .running = 8 };
    int64_t n;

    for (uint32_t i = 0; i < blocks; i++) {
        put(m, VDI_MAP + i * 4, 4, i % 2);
    }
    put_fill(m, data, 0x11, MIB);
    put_fill(m, data + MIB, 0x22, MIB);
    r.image = open_ok(&bdrv_vdi_driver, m);
    m->yield_rand = r.rand;
    for (int i = 0; i < r.running; i++) {
        aio_co_schedule(main_aio_context(), coroutine_create(reader_entry, &r));
    }
    while (r.running) {
        qcow2_breathe();
    }
    m->yield_rand = NULL;
    g_assert_cmpuint(((MappedImage *)r.image->bs->opaque)->tables.lru.length, <=, TABLE_PIECES_MAX);
    g_assert_cmpint(bdrv_co_block_status(r.image->bs, 0, r.image->bs->length, &n, NULL), ==, DATA);
    g_assert_cmpint(n, ==, 2 * MIB);
    image_close(r.image);
    g_rand_free(r.rand);
    mem_free(m);
}

int main(int argc, char **argv)
{
    main_aio_context_init();
    g_test_init(&argc, &argv, NULL);
    bdrv_init();
    add_test("/formats/vdi/content", test_vdi);
    add_test("/formats/vdi/damage", test_vdi_damage);
    add_test("/formats/vmdk/content", test_vmdk);
    add_test("/formats/vmdk/damage", test_vmdk_damage);
    add_test("/formats/vmdk/packed-damage", test_vmdk_packed_damage);
    add_test("/formats/vhdx/content", test_vhdx);
    add_test("/formats/vhdx/damage", test_vhdx_damage);
    add_test("/formats/check", test_check);
    add_test("/formats/random-damage", test_random);
    add_test("/formats/cache", test_cache);
    return g_test_run();
}
