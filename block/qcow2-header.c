/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The qcow2 header: parsing and checking it, its extensions and the two tables it points
 * to; writing its fixed fields back.  Its other parts are rewritten in qcow2-header-update.c.
 */
#include "qcow2-bitmap.h"

/* A table in the file: aligned, inside 56-bit offsets, not over the header. */
static bool table_ok(const Qcow2State *s, uint64_t offset, uint64_t bytes, uint64_t max_bytes,
                     const char *what, GError **errp)
{
    if (bytes > max_bytes) {
        error_setg(errp, "%s too large", what);
        return false;
    }
    if (offset & (s->cluster_size - 1) || offset >= QCOW2_MAX_HOST_OFFSET ||
        (bytes && offset < s->cluster_size)) {
        error_setg(errp, "%s offset invalid", what);
        return false;
    }
    return true;
}

uint64_t *coroutine_fn qcow2_load_numbers(BlockDriverState *bs, uint64_t offset, uint64_t count,
                                          const char *what, GError **errp)
{
    uint64_t length = bs->file->bs->length;
    g_autofree uint64_t *numbers = NULL;
    int ret;

    if (count >= QCOW2_MAX_HOST_OFFSET / 8 || offset >= QCOW2_MAX_HOST_OFFSET - count * 8 ||
        (!bs->for_check && (count > length / 8 || offset > length - count * 8))) {
        error_setg(errp, "%s at offset %#" PRIx64 " lies beyond the end of the file", what,
                   offset);
        return NULL;
    }
    numbers = g_try_new0(uint64_t, count + 1);
    if (!numbers) {
        error_setg(errp, "Not enough memory for the %s", what);
        return NULL;
    }
    /* Whoever repairs it takes zeroes for what is missing. */
    ret = count && offset < length ? bdrv_co_pread(bs->file, offset, count * 8, numbers, 0) : 0;
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not read %s", what);
        return NULL;
    }
    for (uint64_t i = 0; i < count; i++) {
        numbers[i] = be64toh(numbers[i]);
    }
    return g_steal_pointer(&numbers);
}

int coroutine_fn qcow2_store_numbers(BlockDriverState *bs, uint64_t offset, const uint64_t *numbers,
                                     uint64_t count)
{
    Qcow2State *s = bs->opaque;
    uint64_t bytes = qcow2_clusters(s, count * 8) << s->cluster_bits;
    g_autofree uint8_t *buf = NULL;

    if (!count) {
        return 0;
    }
    buf = g_try_malloc0(bytes);
    if (!buf) {
        return -ENOMEM;
    }
    for (uint64_t i = 0; i < count; i++) {
        qcow2_put64(buf + i * 8, numbers[i]);
    }
    return bdrv_co_pwrite(bs->file, offset, bytes, buf, 0);
}

void qcow2_header_fields(const Qcow2State *s, uint8_t *h)
{
    qcow2_put64(h + 24, s->disk_size);
    qcow2_put32(h + 36, s->l1_disk_size);
    qcow2_put64(h + 40, s->l1_offset);
    qcow2_put64(h + 48, s->rt_offset);
    qcow2_put32(h + 56, s->rt_clusters);
    qcow2_put32(h + 60, s->snapshots_count);
    qcow2_put64(h + 64, s->snapshots_offset);
    if (s->version >= 3) {
        qcow2_put64(h + 72, s->incompatible);
        qcow2_put64(h + 80, s->compatible);
        qcow2_put64(h + 88, s->autoclear);
        qcow2_put32(h + 96, s->refcount_order);
    }
}

int coroutine_fn qcow2_header_write(BlockDriverState *bs)
{
    Qcow2State *s = bs->opaque;
    uint8_t *h = s->header;

    if (s->broken) {
        return -EIO;
    }
    qcow2_header_fields(s, h);
    s->write_seq++;
    return bdrv_co_pwrite(bs->file, 0, s->version >= 3 ? QCOW2_V3_HEADER : QCOW2_V2_HEADER, h, 0);
}

void coroutine_fn qcow2_header_put_back(BlockDriverState *bs)
{
    Qcow2State *s = bs->opaque;

    if (qcow2_header_write(bs) < 0 || qcow2_sync_file(bs) < 0) {
        s->broken = true;
    }
}

/* Names the unknown incompatible features, by the image's own name table where it has one. */
static void unknown_features_error(BlockDriverState *bs, uint64_t unknown, const uint8_t *names,
                                   uint32_t names_bytes, GError **errp)
{
    g_autoptr(GString) list = g_string_new(NULL);

    for (uint32_t i = 0; i + 48 <= names_bytes; i += 48) {
        if (names[i] == 0 && names[i + 1] < 64 && (unknown & (1ULL << names[i + 1]))) {
            char name[47] = { 0 };

            memcpy(name, names + i + 2, 46);
            g_string_append_printf(list, "%s%s", list->len ? ", " : "", name);
            unknown &= ~(1ULL << names[i + 1]);
        }
    }
    if (unknown) {
        g_string_append_printf(list, "%sUnknown incompatible feature: %" PRIx64,
                               list->len ? ", " : "", unknown);
    }
    error_setg(errp, "Unsupported qcow2 feature(s): %s", list->str);
}

/* Where the bitmap directory is; without the autoclear bit nobody knows. */
static bool load_bitmaps_extension(Qcow2State *s, const uint8_t *data, uint32_t len,
                                   GError **errp)
{
    if (!(s->autoclear & QCOW2_AUTOCLEAR_BITMAPS)) {
        return true;
    }
    if (len != 24) {
        error_setg(errp, "bitmaps_ext: Invalid extension length");
        return false;
    }
    s->bitmaps_count = qcow2_be32(data);
    s->bitmaps_size = qcow2_be64(data + 8);
    s->bitmaps_offset = qcow2_be64(data + 16);
    if (qcow2_be32(data + 4)) {
        error_setg(errp, "bitmaps_ext: Reserved field is not zero");
    } else if (s->bitmaps_count > QCOW2_BITMAP_MAX_NUMBER) {
        error_setg(errp, "bitmaps_ext: Image has %" PRIu32 " bitmaps, exceeding the supported "
                   "maximum of %d", s->bitmaps_count, QCOW2_BITMAP_MAX_NUMBER);
    } else if (!s->bitmaps_count) {
        error_setg(errp, "found bitmaps extension with zero bitmaps");
    } else if (s->bitmaps_offset & (s->cluster_size - 1) ||
               s->bitmaps_offset < s->cluster_size ||
               s->bitmaps_offset >= QCOW2_MAX_HOST_OFFSET) {
        error_setg(errp, "bitmaps_ext: invalid bitmap directory offset");
    } else if (s->bitmaps_size > QCOW2_BITMAP_MAX_DIRECTORY) {
        error_setg(errp, "bitmaps_ext: bitmap directory size (%" PRIu64 ") exceeds the maximum "
                   "supported size (%d)", s->bitmaps_size, QCOW2_BITMAP_MAX_DIRECTORY);
    } else if (!s->bitmaps_size) {
        error_setg(errp, "Requested bitmap directory size is zero");
    } else {
        return true;
    }
    return false;
}

/* Walks the extensions in [start, end). */
static bool load_extensions(BlockDriverState *bs, const uint8_t *buf, uint64_t start, uint64_t end,
                            const uint8_t **names, uint32_t *names_bytes, GError **errp)
{
    Qcow2State *s = bs->opaque;

    while (end >= 8 && start <= end - 8) {
        uint32_t type = qcow2_be32(buf + start), len = qcow2_be32(buf + start + 4);
        const uint8_t *data = buf + start + 8;

        if (len > end - start - 8) {
            error_setg(errp, "Header extension too large");
            return false;
        }
        if (type == QCOW2_EXT_END) {
            return true;
        }
        switch (type) {
        case QCOW2_EXT_BACKING_FORMAT:
            if (len > 15) {
                error_setg(errp, "ERROR: ext_backing_format: len=%" PRIu32 " too large (>=16)",
                           len);
                return false;
            }
            g_free(s->backing_format);
            s->backing_format = g_strndup((const char *)data, len);
            break;
        case QCOW2_EXT_FEATURE_NAMES:
            *names = data;
            *names_bytes = len;
            break;
        case QCOW2_EXT_DATA_FILE:
            if (len > QCOW2_MAX_NAME) {
                error_setg(errp, "The name of the data file is longer than %d bytes",
                           QCOW2_MAX_NAME);
                return false;
            }
            g_free(s->data_file_name);
            s->data_file_name = g_strndup((const char *)data, len);
            break;
        case QCOW2_EXT_BITMAPS:
            if (!load_bitmaps_extension(s, data, len, errp)) {
                return false;
            }
            break;
        default:
            break;
        }
        start += 8 + (((uint64_t)len + 7) & ~7ULL);
    }
    return true;
}

static bool check_encryption(uint32_t method, GError **errp)
{
    static const char *const names[] = { NULL, "AES", "LUKS" };

    if (method >= G_N_ELEMENTS(names)) {
        error_setg(errp, "Unsupported encryption method %" PRIu32, method);
    } else if (method) {
        error_setg(errp, "Encrypted qcow2 images are not supported (the image uses %s)",
                   names[method]);
    }
    return !method;
}

static bool parse_fixed(BlockDriverState *bs, GError **errp)
{
    Qcow2State *s = bs->opaque;
    const uint8_t *h = s->header;
    uint32_t bits;

    if (qcow2_be32(h) != QCOW2_MAGIC) {
        error_setg(errp, "Image is not in qcow2 format");
        return false;
    }
    s->version = qcow2_be32(h + 4);
    if (s->version < 2 || s->version > 3) {
        error_setg(errp, "Unsupported qcow2 version %" PRIu32, qcow2_be32(h + 4));
        return false;
    }
    bits = qcow2_be32(h + 20);
    if (bits < QCOW2_MIN_CLUSTER_BITS || bits > QCOW2_MAX_CLUSTER_BITS) {
        error_setg(errp, "Unsupported cluster size: 2^%" PRIu32, bits);
        return false;
    }
    s->cluster_bits = bits;
    s->cluster_size = 1ULL << bits;
    s->disk_size = qcow2_be64(h + 24);
    s->l1_disk_size = qcow2_be32(h + 36);
    s->l1_offset = qcow2_be64(h + 40);
    s->rt_offset = qcow2_be64(h + 48);
    s->rt_clusters = qcow2_be32(h + 56);
    s->snapshots_count = qcow2_be32(h + 60);
    s->snapshots_offset = qcow2_be64(h + 64);
    s->refcount_order = 4;
    s->header_length = QCOW2_V2_HEADER;
    if (s->version >= 3) {
        s->incompatible = qcow2_be64(h + 72);
        s->compatible = qcow2_be64(h + 80);
        s->autoclear = qcow2_be64(h + 88);
        s->header_length = qcow2_be32(h + 100);
        if (s->header_length < QCOW2_V3_HEADER) {
            error_setg(errp, "qcow2 header too short");
            return false;
        }
        if (s->header_length > s->cluster_size) {
            error_setg(errp, "qcow2 header exceeds cluster size");
            return false;
        }
        if (s->header_length % 8) {
            error_setg(errp, "qcow2 header length %" PRIu32 " invalid", s->header_length);
            return false;
        }
        if (qcow2_be32(h + 96) > 6) {
            error_setg(errp, "Reference count entry width too large; may not exceed 64 bits");
            return false;
        }
        s->refcount_order = qcow2_be32(h + 96);
    }
    s->extended_l2 = s->incompatible & QCOW2_INCOMPAT_EXTENDED_L2;
    if (s->extended_l2 && bits < QCOW2_MIN_EXTENDED_BITS) {
        error_setg(errp, "Unsupported subcluster size: %" PRIu64,
                   s->cluster_size / QCOW2_SUBCLUSTERS);
        return false;
    }
    s->sub_bits = s->extended_l2 ? bits - 5 : bits;
    s->l2_bits = bits - (s->extended_l2 ? 4 : 3);
    s->l2_entries = 1ULL << s->l2_bits;
    s->refcount_max = s->refcount_order == 6 ? UINT64_MAX : (1ULL << (1 << s->refcount_order)) - 1;
    s->rb_bits = s->cluster_bits + 3 - s->refcount_order;
    s->rb_entries = 1ULL << s->rb_bits;
    if (s->disk_size > INT64_MAX - (2 << 20)) {
        error_setg(errp, "Image size too big");
        return false;
    }
    return check_encryption(qcow2_be32(h + 32), errp);
}

static bool check_features(BlockDriverState *bs, const uint8_t *names, uint32_t names_bytes,
                           const uint8_t *cluster, GError **errp)
{
    Qcow2State *s = bs->opaque;
    uint64_t known = QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_CORRUPT | QCOW2_INCOMPAT_DATA_FILE |
                     QCOW2_INCOMPAT_COMPRESSION | QCOW2_INCOMPAT_EXTENDED_L2;

    if (s->incompatible & ~known) {
        unknown_features_error(bs, s->incompatible & ~known, names, names_bytes, errp);
        return false;
    }
    s->external_data = s->incompatible & QCOW2_INCOMPAT_DATA_FILE;
    if (s->autoclear & QCOW2_AUTOCLEAR_DATA_FILE_RAW && !s->external_data) {
        error_setg(errp, "data-file-raw requires a data file");
        return false;
    }
    if (s->header_length > QCOW2_V3_HEADER) {
        s->compression = cluster[QCOW2_V3_HEADER];
    }
    if (s->compression > 1) {
        error_setg(errp, "qcow2: unknown compression type: %d", s->compression);
        return false;
    }
    if (!(s->incompatible & QCOW2_INCOMPAT_COMPRESSION) != !s->compression) {
        error_setg(errp, "qcow2: Compression type incompatible feature bit must%s be set",
                   s->compression ? "" : " not");
        return false;
    }
#if !CONFIG_ZSTD
    if (s->compression == 1) {
        error_setg(errp, "qcow2: compression type zstd is not built in");
        return false;
    }
#endif
    return true;
}

static bool load_backing_name(Qcow2State *s, const uint8_t *cluster, GError **errp)
{
    uint64_t offset = qcow2_be64(s->header + 8);
    uint32_t len = qcow2_be32(s->header + 16);

    if (offset > s->cluster_size) {
        error_setg(errp, "Invalid backing file offset");
        return false;
    }
    if (!offset || !len) {
        return true;
    }
    if (len > QCOW2_MAX_NAME || len > s->cluster_size - offset) {
        error_setg(errp, "Backing file name too long");
        return false;
    }
    s->backing_file = g_strndup((const char *)cluster + offset, len);
    if (!*s->backing_file) {
        g_clear_pointer(&s->backing_file, g_free); /* an empty name is none */
    }
    return true;
}

static bool coroutine_fn load_tables(BlockDriverState *bs, GError **errp)
{
    Qcow2State *s = bs->opaque;
    uint64_t need = qcow2_l1_entries(s, s->disk_size);
    uint64_t rt_bytes = (uint64_t)s->rt_clusters << s->cluster_bits;

    if (bs->for_check && !(s->rt_offset & (s->cluster_size - 1)) &&
        (s->rt_offset < s->cluster_size || s->rt_offset >= QCOW2_MAX_HOST_OFFSET)) {
        s->rt_clusters = rt_bytes = 0; /* there cannot be a table: who repairs makes one */
    }
    if (rt_bytes &&
        !table_ok(s, s->rt_offset, rt_bytes, QCOW2_MAX_RT_BYTES, "Reference count table", errp)) {
        return false;
    }
    if (!s->rt_clusters && !bs->for_check) {
        error_setg(errp, "Image does not contain a reference count table");
        return false;
    }
    if (!table_ok(s, s->l1_offset, (uint64_t)s->l1_disk_size * 8, QCOW2_MAX_L1_BYTES,
                  "Active L1 table", errp)) {
        return false;
    }
    if (need > QCOW2_MAX_L1_BYTES / 8) {
        error_setg(errp, "Image is too big");
        return false;
    }
    if (s->l1_disk_size < need) {
        error_setg(errp, "L1 table is too small");
        return false;
    }
    s->rt_size = s->rt_disk_size = rt_bytes / 8;
    s->rt = qcow2_load_numbers(bs, rt_bytes ? s->rt_offset : 0, s->rt_size, "reference count table", errp);
    if (!s->rt) {
        return false;
    }
    s->rt_disk = g_memdup2(s->rt, (s->rt_size + 1) * 8);
    s->l1_size = s->l1_disk_size;
    s->l1 = qcow2_load_numbers(bs, s->l1_offset, s->l1_size, "L1 table", errp);
    if (!s->l1) {
        return false;
    }
    s->l1_disk = g_memdup2(s->l1, ((gsize)s->l1_size + 1) * 8);
    for (uint64_t i = 0; i < s->rt_size; i++) {
        if (s->rt[i] & ~511ULL) {
            qcow2_metadata_add(s, s->rt[i], QCOW2_OL_REFCOUNT_BLOCK);
        }
    }
    for (uint32_t i = 0; i < s->l1_size; i++) {
        if (s->l1[i] & QCOW2_OFFSET_MASK) {
            qcow2_metadata_add(s, s->l1[i] & QCOW2_OFFSET_MASK, QCOW2_OL_ACTIVE_L2);
        }
    }
    return true;
}

bool coroutine_fn qcow2_header_load(BlockDriverState *bs, GError **errp)
{
    Qcow2State *s = bs->opaque;
    uint64_t length = bs->file->bs->length, extensions_end;
    g_autofree uint8_t *cluster = NULL;
    const uint8_t *names = NULL;
    uint32_t names_bytes = 0;
    int ret;

    if (length < QCOW2_V2_HEADER) {
        error_setg(errp, "Image is not in qcow2 format");
        return false;
    }
    ret = bdrv_co_pread(bs->file, 0, MIN(length, QCOW2_V3_HEADER), s->header, 0);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not read qcow2 header");
        return false;
    }
    if (!parse_fixed(bs, errp)) {
        return false;
    }
    cluster = g_malloc0(s->cluster_size);
    ret = bdrv_co_pread(bs->file, 0, MIN(length, s->cluster_size), cluster, 0);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not read qcow2 header");
        return false;
    }
    extensions_end = qcow2_be64(s->header + 8);
    if (!extensions_end || extensions_end > s->cluster_size) {
        extensions_end = s->cluster_size;
    }
    return load_backing_name(s, cluster, errp) &&
           load_extensions(bs, cluster, s->header_length, extensions_end, &names, &names_bytes,
                           errp) &&
           check_features(bs, names, names_bytes, cluster, errp) && load_tables(bs, errp);
}
