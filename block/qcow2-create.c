/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Making new images (kf-img create).  A new image is header, refcount table, refcount blocks
 * and L1 table, one behind the other.
 */
#include <sys/stat.h>
#include "qcow2.h"

typedef struct CreateOptions {
    uint64_t cluster_size, size;
    int version, refcount_bits;
    bool lazy_refcounts, extended_l2, data_file_raw;
    PreallocMode preallocation;
    int compression;
    const char *data_file;
    const char *backing_file, *backing_format;
} CreateOptions;

static bool parse_size(const char *text, uint64_t *value)
{
    static const char suffixes[] = "KMGT";
    char *end;
    const char *suffix;

    errno = 0;
    *value = g_ascii_strtoull(text, &end, 10);
    if (end == text || errno) {
        return false;
    }
    suffix = *end ? strchr(suffixes, g_ascii_toupper(*end)) : NULL;
    if (suffix) {
        int shift = 10 * (suffix - suffixes + 1);

        if (*value > UINT64_MAX >> shift) {
            return false;
        }
        *value <<= shift;
        end++;
    } else if (*end == 'B' || *end == 'b') {
        end++;
    }
    return !*end;
}

static bool parse_bool(const char *text, bool *value)
{
    *value = !strcmp(text, "on") || !strcmp(text, "true") || !strcmp(text, "yes");
    return *value || !strcmp(text, "off") || !strcmp(text, "false") || !strcmp(text, "no");
}

/* What is for the file driver, of the image and of its data file. */
static const char *const file_options[] = { "nocow", "extent_size_hint", NULL };

/* A table of those; the strings stay the caller's. */
static GHashTable *take_file_options(GHashTable *options)
{
    GHashTable *table = g_hash_table_new(g_str_hash, g_str_equal);

    for (size_t i = 0; options && file_options[i]; i++) {
        char *value = g_hash_table_lookup(options, file_options[i]);

        if (value) {
            g_hash_table_insert(table, (gpointer)file_options[i], value);
        }
    }
    return table;
}

static bool parse_option(CreateOptions *o, const char *name, const char *value, GError **errp)
{
    uint64_t number;
    bool ok = true, on;

    if (!strcmp(name, "cluster_size")) {
        ok = parse_size(value, &o->cluster_size);
    } else if (!strcmp(name, "compat")) {
        if (!strcmp(value, "0.10") || !strcmp(value, "v2")) {
            o->version = 2;
        } else if (!strcmp(value, "1.1") || !strcmp(value, "v3")) {
            o->version = 3;
        } else {
            error_setg(errp, "Parameter 'version' does not accept value '%s'", value);
            return false;
        }
    } else if (!strcmp(name, "refcount_bits")) {
        ok = parse_size(value, &number);
        o->refcount_bits = ok && number <= 64 ? (int)number : -1;
    } else if (!strcmp(name, "lazy_refcounts")) {
        ok = parse_bool(value, &o->lazy_refcounts);
    } else if (!strcmp(name, "extended_l2")) {
        ok = parse_bool(value, &o->extended_l2);
    } else if (!strcmp(name, "data_file")) {
        /* A plain name: who opens the image takes it so. */
        o->data_file = value + (g_str_has_prefix(value, "file:") ? strlen("file:") : 0);
    } else if (!strcmp(name, "data_file_raw")) {
        ok = parse_bool(value, &o->data_file_raw);
    } else if (!strcmp(name, "preallocation")) {
        int mode = qapi_enum_parse(&PreallocMode_lookup, value, PREALLOC_MODE_OFF, NULL);

        ok = mode >= 0;
        o->preallocation = ok ? mode : PREALLOC_MODE_OFF;
    } else if (!strcmp(name, "compression_type")) {
        o->compression = !strcmp(value, "zstd");
        ok = o->compression || !strcmp(value, "zlib");
        name = "compression-type";
#if !CONFIG_ZSTD
        ok = ok && !o->compression;
#endif
    } else if (g_strv_contains(file_options, name)) {
        return true;
    } else if (!strcmp(name, "encryption") && parse_bool(value, &on) && !on) {
        return true;
    } else if (!strcmp(name, "encryption") || g_str_has_prefix(name, "encrypt.")) {
        error_setg(errp, "Parameter '%s': encrypted qcow2 images are not supported", name);
        return false;
    } else {
        error_setg(errp, "Invalid parameter '%s'", name);
        return false;
    }
    if (!ok) {
        error_setg(errp, "Parameter '%s' does not accept value '%s'", name, value);
    }
    return ok;
}

static const char too_large[] = "The image size is too large for file format 'qcow2' "
                                "(try using a larger cluster size)";

/* Bytes of the disk that one L2 table maps. */
static uint64_t table_covers(const CreateOptions *o)
{
    return o->cluster_size / (o->extended_l2 ? 16 : 8) * o->cluster_size;
}

static bool check_options(const CreateOptions *o, GError **errp)
{
    uint64_t cs = o->cluster_size;
    int bits = o->refcount_bits;

    if (cs < 1 << QCOW2_MIN_CLUSTER_BITS || cs > 1 << QCOW2_MAX_CLUSTER_BITS || cs & (cs - 1)) {
        error_setg(errp, "Cluster size must be a power of two between 512 and 2048k");
    } else if (bits < 1 || bits > 64 || bits & (bits - 1)) {
        error_setg(errp, "Refcount width must be a power of two and may not exceed 64 bits");
    } else if (o->version < 3 && bits != 16) {
        error_setg(errp, "Different refcount widths than 16 bits require compatibility level 1.1 "
                   "or above (use version=v3 or greater)");
    } else if (o->version < 3 && o->lazy_refcounts) {
        error_setg(errp, "Lazy refcounts only supported with compatibility level 1.1 and above "
                   "(use version=v3 or greater)");
    } else if (o->version < 3 && o->compression) {
        error_setg(errp, "Non-zlib compression type is only supported with compatibility level "
                   "1.1 and above (use version=v3 or greater)");
    } else if (o->version < 3 && o->extended_l2) {
        error_setg(errp, "Extended L2 entries are only supported with compatibility level 1.1 and "
                   "above (use version=v3 or greater)");
    } else if (o->extended_l2 && cs < 1 << QCOW2_MIN_EXTENDED_BITS) {
        error_setg(errp, "Extended L2 entries are only supported with cluster sizes of at least "
                   "%d bytes", 1 << QCOW2_MIN_EXTENDED_BITS);
    } else if (o->data_file_raw && !o->data_file) {
        error_setg(errp, "data-file-raw requires data-file");
    } else if (o->data_file_raw && o->backing_file) {
        error_setg(errp, "Backing file and data-file-raw cannot be used at the same time");
    } else if (o->version < 3 && o->data_file) {
        error_setg(errp, "External data files are only supported with compatibility level 1.1 and "
                   "above (use version=v3 or greater)");
    } else if (o->backing_file && o->preallocation != PREALLOC_MODE_OFF && !o->extended_l2) {
        error_setg(errp, "Backing file and preallocation can only be used at the same time if "
                   "extended_l2 is on");
    } else if (o->backing_file && strlen(o->backing_file) > QCOW2_MAX_NAME) {
        error_setg(errp, "Backing file name too long");
    } else if (o->data_file && strlen(o->data_file) > QCOW2_MAX_NAME) {
        error_setg(errp, "Data file name too long");
    } else if (o->backing_format && strlen(o->backing_format) > 15) {
        error_setg(errp, "Backing format name too long");
    } else if (o->size > QCOW2_MAX_L1_BYTES / 8 * table_covers(o) || o->size > INT64_MAX - cs) {
        error_setg(errp, "%s", too_large);
    } else {
        return true;
    }
    return false;
}

/* Where everything in a new image lies, in clusters. */
typedef struct Layout {
    uint64_t rt, rt_count, rb, rb_count, l1, l1_count, l1_entries, total;
} Layout;

static bool compute_layout(const CreateOptions *o, Layout *l)
{
    uint64_t cs = o->cluster_size, per_table = table_covers(o);
    uint64_t per_block = cs * 8 / o->refcount_bits;

    *l = (Layout) { .rt = 1, .rt_count = 1, .rb_count = 1 };
    l->l1_entries = (o->size + per_table - 1) / per_table;
    l->l1_count = (l->l1_entries * 8 + cs - 1) / cs;
    for (;;) {
        uint64_t blocks, tables;

        l->total = 1 + l->rt_count + l->rb_count + l->l1_count;
        blocks = (l->total + per_block - 1) / per_block;
        tables = (blocks * 8 + cs - 1) / cs;
        if (blocks <= l->rb_count && tables <= l->rt_count) {
            break;
        }
        l->rb_count = MAX(blocks, l->rb_count);
        l->rt_count = MAX(tables, l->rt_count);
    }
    l->rb = l->rt + l->rt_count;
    l->l1 = l->rb + l->rb_count;
    return l->rt_count * cs <= QCOW2_MAX_RT_BYTES;
}

static void put_extension(uint8_t *buf, size_t *pos, uint32_t type, const void *data, size_t len)
{
    qcow2_put32(buf + *pos, type);
    qcow2_put32(buf + *pos + 4, len);
    memcpy(buf + *pos + 8, data, len);
    *pos += 8 + ((len + 7) & ~(size_t)7);
}

/* So that older programs can say which feature they lack. */
static const struct {
    uint8_t type, bit;
    char name[46];
} feature_names[] = {
    { 0, 0, "dirty bit" },        { 0, 1, "corrupt bit" },     { 0, 2, "external data file" },
    { 0, 3, "compression type" }, { 0, 4, "extended L2 entries" },
    { 1, 0, "lazy refcounts" },   { 2, 0, "bitmaps" },         { 2, 1, "raw external data" },
};

const void *qcow2_feature_names(size_t *bytes)
{
    *bytes = sizeof(feature_names);
    return feature_names;
}

static bool build_header(const CreateOptions *o, const Layout *l, uint8_t *h, GError **errp)
{
    uint64_t cs = o->cluster_size;
    size_t name_len = o->backing_file ? strlen(o->backing_file) : 0;
    size_t pos = o->version >= 3 ? 112 : QCOW2_V2_HEADER;
    size_t data_len = o->data_file ? strlen(o->data_file) : 0;
    size_t need = pos + name_len + 8 + (o->backing_format ? 24 : 0) +
                  (o->data_file ? 8 + ((data_len + 7) & ~(size_t)7) : 0);

    if (need > cs) {
        error_setg(errp, "%s file name too long for the cluster size",
                   o->data_file ? "Data" : "Backing");
        return false;
    }
    qcow2_put32(h, QCOW2_MAGIC);
    qcow2_put32(h + 4, o->version);
    qcow2_put32(h + 20, __builtin_ctzll(cs));
    qcow2_put64(h + 24, o->size);
    qcow2_put32(h + 36, l->l1_entries);
    qcow2_put64(h + 40, l->l1 * cs);
    qcow2_put64(h + 48, l->rt * cs);
    qcow2_put32(h + 56, l->rt_count);
    if (o->version >= 3) {
        qcow2_put64(h + 72, (o->compression ? QCOW2_INCOMPAT_COMPRESSION : 0) |
                                (o->extended_l2 ? QCOW2_INCOMPAT_EXTENDED_L2 : 0) |
                                (o->data_file ? QCOW2_INCOMPAT_DATA_FILE : 0));
        qcow2_put64(h + 88, o->data_file_raw ? QCOW2_AUTOCLEAR_DATA_FILE_RAW : 0);
        qcow2_put64(h + 80, o->lazy_refcounts ? QCOW2_COMPAT_LAZY_REFCOUNTS : 0);
        qcow2_put32(h + 96, __builtin_ctz(o->refcount_bits));
        qcow2_put32(h + 100, 112);
        h[104] = o->compression;
    }
    if (o->backing_format) {
        put_extension(h, &pos, QCOW2_EXT_BACKING_FORMAT, o->backing_format,
                      strlen(o->backing_format));
    }
    if (o->data_file) {
        put_extension(h, &pos, QCOW2_EXT_DATA_FILE, o->data_file, data_len);
    }
    if (o->version >= 3 && pos + 8 + sizeof(feature_names) + 8 + name_len <= cs) {
        put_extension(h, &pos, QCOW2_EXT_FEATURE_NAMES, feature_names, sizeof(feature_names));
    }
    pos += pos + 8 <= cs ? 8 : 0; /* end of the extensions: zeroes */
    if (name_len) {
        qcow2_put64(h + 8, pos);
        qcow2_put32(h + 16, name_len);
        memcpy(h + pos, o->backing_file, name_len);
    }
    return true;
}

static int coroutine_fn write_image(BlockBackend *blk, const CreateOptions *o, const Layout *l,
                                    const uint8_t *header)
{
    uint64_t cs = o->cluster_size, per_block = cs * 8 / o->refcount_bits;
    g_autofree uint8_t *tables = g_malloc0(l->rt_count * cs), *block = g_malloc0(cs);
    int order = __builtin_ctz(o->refcount_bits), ret;

    for (uint64_t i = 0; i < l->rb_count; i++) {
        qcow2_put64(tables + i * 8, (l->rb + i) * cs);
    }
    ret = blk_co_truncate(blk, l->total * cs, NULL) ? 0 : -EIO;
    if (ret == 0) {
        ret = blk_co_pwrite(blk, l->rt * cs, l->rt_count * cs, tables);
    }
    for (uint64_t i = 0; i < l->rb_count && ret >= 0; i++) {
        memset(block, 0, cs);
        for (uint64_t j = 0; j < per_block && i * per_block + j < l->total; j++) {
            qcow2_rb_write(block, order, j, 1);
        }
        ret = blk_co_pwrite(blk, (l->rb + i) * cs, cs, block);
    }
    /* A hole in a new file, but a device keeps what it had.  The header comes last. */
    if (ret >= 0 && l->l1_count) {
        ret = blk_co_pwrite_zeroes(blk, l->l1 * cs, l->l1_count * cs, BDRV_REQ_MAY_UNMAP);
    }
    if (ret >= 0) {
        ret = blk_co_pwrite(blk, 0, cs, header);
    }
    return ret < 0 ? ret : blk_co_flush(blk);
}

/* What is to become the image (format "file"), or the image itself. */
static BlockDriverState *coroutine_fn open_node(const BdrvCreateParams *params, const char *format,
                                                AioContext *ctx, GError **errp)
{
    BlockdevRef file = { .type = QTYPE_QSTRING };
    BlockdevOptions image = { .driver = BLOCKDEV_DRIVER_QCOW2, .u.qcow2.file = &file };

    if (!params->file) {
        return bdrv_co_open_file(params->filename, format, false, ctx, errp);
    }
    if (!strcmp(format, "file")) {
        return bdrv_ref(params->file);
    }
    file.u.reference = (char *)bdrv_node_name(params->file);
    return bdrv_co_open(&image, ctx, errp);
}

/* Hops to the node's home, runs one of two jobs there, and comes back. */
static int coroutine_fn in_context(BlockBackend *blk, AioContext *ctx, const CreateOptions *o,
                                   const Layout *l, const uint8_t *header)
{
    AioContext *home = aio_current();
    int ret;

    aio_co_reschedule_self(ctx);
    if (header) {
        ret = write_image(blk, o, l, header);
    } else {
        ret = qcow2_preallocate(blk_bs(blk), 0, o->size, o->preallocation);
        if (ret >= 0) {
            ret = blk_co_flush(blk);
        }
    }
    aio_co_reschedule_self(home);
    return ret;
}

static bool coroutine_fn with_node(const BdrvCreateParams *params, const char *format,
                                   AioContext *ctx, const CreateOptions *o, const Layout *l,
                                   const uint8_t *header, GError **errp)
{
    BlockDriverState *bs = open_node(params, format, ctx, errp);
    BlockBackend *blk;
    int ret = -EIO;

    if (!bs) {
        return false;
    }
    blk = blk_new("", bs, true, errp);
    if (blk) {
        ret = in_context(blk, ctx, o, l, header);
        if (ret < 0) {
            error_setg_errno(errp, -ret, header ? "Could not write the new image"
                                                : "Could not preallocate the image");
        }
        blk_co_free(blk);
    }
    bdrv_co_unref(bs);
    return ret >= 0;
}

static bool parse_params(const BdrvCreateParams *params, CreateOptions *o, GError **errp)
{
    GHashTableIter iter;
    gpointer name, value;

    *o = (CreateOptions){ .cluster_size = 65536, .size = params->size, .version = 3,
                          .refcount_bits = 16, .backing_file = params->backing_file,
                          .backing_format = params->backing_format };
    if (params->size < 0) {
        error_setg(errp, "Image size must not be negative");
        return false;
    }
    if (params->options) {
        g_hash_table_iter_init(&iter, params->options);
        while (g_hash_table_iter_next(&iter, &name, &value)) {
            if (!parse_option(o, name, value, errp)) {
                return false;
            }
        }
    }
    return check_options(o, errp);
}

bool qcow2_geometry(const BdrvCreateParams *params, Qcow2Geometry *g, GError **errp)
{
    CreateOptions o;

    if (!parse_params(params, &o, errp)) {
        return false;
    }
    *g = (Qcow2Geometry){ .version = o.version, .refcount_bits = o.refcount_bits,
                          .cluster_size = o.cluster_size, .l2_entry_size = o.extended_l2 ? 16 : 8,
                          .preallocated = o.preallocation == PREALLOC_MODE_FALLOC ||
                                          o.preallocation == PREALLOC_MODE_FULL };
    return true;
}

typedef struct SameFile {
    const char *a, *b;
    bool same;
} SameFile;

static int same_file_worker(void *opaque)
{
    SameFile *f = opaque;
    struct stat a, b;

    f->same = !stat(f->a, &a) && !stat(f->b, &b) && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
    return 0;
}

/* The data file, which must not be the image itself: each would write over the other. */
static bool coroutine_fn create_data_file(const CreateOptions *o, const char *image,
                                          GHashTable *options, AioContext *ctx, GError **errp)
{
    BdrvCreateParams data = { .filename = o->data_file, .size = o->size, .options = options };
    SameFile f = { image, o->data_file };

    if (!bdrv_file_driver.co_create(&data, ctx, errp)) {
        return false;
    }
    co_run_in_worker(same_file_worker, &f);
    if (f.same) {
        error_setg(errp, "The data file '%s' cannot be the image itself", o->data_file);
    }
    return !f.same;
}

bool coroutine_fn qcow2_co_create(const BdrvCreateParams *params, AioContext *ctx, GError **errp)
{
    g_autoptr(GHashTable) options = take_file_options(params->options);
    BdrvCreateParams file = { .filename = params->filename, .options = options };
    g_autofree uint8_t *header = NULL;
    CreateOptions o;
    Layout l;

    if (!parse_params(params, &o, errp)) {
        return false;
    }
    if (!compute_layout(&o, &l)) {
        error_setg(errp, "%s", too_large);
        return false;
    }
    header = g_malloc0(o.cluster_size);
    if (!build_header(&o, &l, header, errp)) {
        return false;
    }
    if (o.data_file) {
        if (!create_data_file(&o, params->filename, options, ctx, errp)) {
            return false;
        }
        /* Raw: every cluster is to be found where a program that knows only raw looks for it. */
        if (o.data_file_raw && o.preallocation == PREALLOC_MODE_OFF) {
            o.preallocation = PREALLOC_MODE_METADATA;
        }
    }
    return (params->file || bdrv_file_driver.co_create(&file, ctx, errp)) &&
           with_node(params, "file", ctx, &o, &l, header, errp) &&
           (o.preallocation == PREALLOC_MODE_OFF || !o.size ||
            with_node(params, "qcow2", ctx, &o, &l, NULL, errp));
}
