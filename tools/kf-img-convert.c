/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kf-img convert: copies images into a new or existing one of any format.  This file has the
 * command line, and opens sources and target; kf-img-convert-copy.c copies.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "block/dirty-bitmap.h"
#include "kf-img-bitmap.h"
#include "kf-img-convert-int.h"
#include "qapi/error.h"

#define SECTOR 512
#define MAX_COROUTINES 16

/* --- Opening ------------------------------------------------------------------------------ */

static bool coroutine_fn open_source(Convert *s, Source *src, const char *filename)
{
    s->source_params.filename = filename;
    src->bs = img_open(&s->source_params);
    if (!src->bs || (s->snapshot && !img_show_snapshot(src->bs, s->snapshot))) {
        return false;
    }
    src->blk = img_backend(src->bs, false);
    if (!src->blk) {
        return false;
    }
    src->walk = s->offload ? bdrv_extent_walk_new(src->bs) : NULL;
    src->start = s->total;
    src->length = bdrv_length(src->bs);
    s->total += src->length;
    return true;
}

static BlockBackend *coroutine_fn open_target(Convert *s)
{
    BdrvOpenFile *params = &s->target_params;

    params->filename = s->target;
    params->format = s->target_format;
    params->discard = true;
    if (!params->format && !params->is_options) {
        params->format = "raw"; /* with -n, too: what a device held before does not decide */
    }
    img_parse_cache(s->cache, params);
    s->bs = img_open(params);
    s->blk = s->bs ? img_backend(s->bs, true) : NULL;
    return s->blk;
}

static bool coroutine_fn create_target(Convert *s, const BlockDriver *drv)
{
    GError *err = NULL;
    g_autofree char *prefix = NULL;

    /* Whatever -o size says: nothing of the sources is left out. */
    g_hash_table_replace(s->options, g_strdup("size"), g_strdup_printf("%" PRId64, s->total));
    if (g_hash_table_contains(s->options, "backing_fmt") &&
        !g_hash_table_contains(s->options, "backing_file")) {
        error_setg(&err, "Backing format cannot be used without backing file");
    } else if (img_make(drv, s->target, s->options, &err)) {
        return true;
    }
    prefix = g_strdup_printf("%s: error while converting %s: ", s->target, drv->name);
    img_report(err, prefix);
    return false;
}

static bool check_target_options(Convert *s, const BlockDriver *drv)
{
    GError *err = NULL;

    if (!img_check_options(drv, true, s->options, &err)) {
        if (g_hash_table_contains(s->options, "backing_file") && !drv->supports_backing) {
            g_clear_error(&err);
            error_setg(&err, "Backing file not supported for file format '%s'", drv->name);
        } else if (g_hash_table_contains(s->options, "backing_fmt") && !drv->supports_backing) {
            g_clear_error(&err);
            error_setg(&err, "Backing file format not supported for file format '%s'", drv->name);
        }
        img_report(err, "");
        return false;
    }
    if (g_hash_table_contains(s->options, "backing_file") &&
        !g_hash_table_contains(s->options, "backing_fmt")) {
        img_error("Use of backing file requires explicit backing format");
        return false;
    }
    return true;
}

/* What -c wants of a target that is still to be made. */
static bool check_compression(Convert *s, const BlockDriver *drv)
{
    const char *preallocation = g_hash_table_lookup(s->options, "preallocation");

    if (!s->compressed) {
        return true;
    }
    if (!drv->writes_compressed) {
        img_error("Compression not supported for this file format");
        return false;
    }
    if (preallocation && strcmp(preallocation, "off")) {
        img_error("Compression and preallocation not supported at the same time");
        return false;
    }
    return true;
}

/* The cluster size of a compressed target. */
static bool coroutine_fn find_cluster(Convert *s)
{
    BlockDriverState *bs = bdrv_skip_filters(s->bs);
    BdrvInfo info = { 0 };
    GError *err = NULL;

    if (!bdrv_can_compress(s->bs)) {
        img_error("Compression not supported for this file format");
        return false;
    }
    if (!bs->drv->co_info(bs, &info, &err)) {
        img_report(err, "");
        return false;
    }
    qapi_free_ImageInfoSpecific(info.specific);
    s->cluster = info.cluster_size;
    return true;
}

/*
 * Where the sources' backing chains meet the target's backing file, if the user has named that (-B):
 * an image that is there may hold something of its own in front of it.
 */
static void find_common_base(Convert *s)
{
    BlockDriverState *backing = bdrv_backing(s->bs);

    if (!backing || s->n_sources != 1 || !g_hash_table_contains(s->options, "backing_file")) {
        return;
    }
    for (BlockDriverState *b = bdrv_backing(s->sources[0].bs); b; b = bdrv_backing(b)) {
        if (!strcmp(bdrv_filename(b), bdrv_filename(backing))) {
            s->sources[0].base = b;
            return;
        }
    }
}

/* Whether the source's bitmaps can be copied; false after an error message. */
static bool check_source_bitmaps(Convert *s)
{
    g_autoptr(BlockDirtyInfoList) list = bdrv_dirty_bitmap_query(s->sources[0].bs);

    if (!s->sources[0].bs->drv->can_store_bitmap) {
        img_error("Source lacks bitmap support");
        return false;
    }
    for (BlockDirtyInfoList *l = list; l && !s->skip_broken_bitmaps; l = l->next) {
        if (l->value->persistent && l->value->inconsistent) {
            img_error("Cannot copy inconsistent bitmap '%s'", l->value->name);
            fprintf(stderr, "Try --skip-broken-bitmaps, or use 'qemu-img bitmap --remove' to "
                    "delete it\n");
            return false;
        }
    }
    return true;
}

static bool coroutine_fn copy_bitmap(Convert *s, const BlockDirtyInfo *info)
{
    GError *err = NULL;

    if (!img_bitmap_add(s->bs, info->name, info->granularity, true, &err)) {
        g_autofree char *prefix = g_strdup_printf("Failed to create bitmap %s: ", info->name);

        img_report(err, prefix);
        return false;
    }
    if (!img_bitmap_merge(s->bs, info->name, s->sources[0].bs, info->name, &err) ||
        (info->recording && !img_bitmap_enable(s->bs, info->name, &err))) {
        g_autofree char *prefix = g_strdup_printf("Failed to populate bitmap %s: ", info->name);

        img_report(err, prefix);
        return false;
    }
    return true;
}

/* The source's persistent bitmaps. */
static bool coroutine_fn copy_bitmaps(Convert *s)
{
    g_autoptr(BlockDirtyInfoList) list = bdrv_dirty_bitmap_query(s->sources[0].bs);

    for (BlockDirtyInfoList *l = list; l; l = l->next) {
        const BlockDirtyInfo *info = l->value;

        if (!info->persistent) {
            continue;
        }
        if (info->inconsistent) {
            img_error("warning: Skipping inconsistent bitmap '%s'", info->name);
        } else if (!copy_bitmap(s, info)) {
            return false;
        }
    }
    return true;
}

static bool coroutine_fn convert(Convert *s, char **filenames)
{
    const char *format = s->target_format ? s->target_format : "raw";
    const BlockDriver *drv = bdrv_driver_by_name(format);

    for (int i = 0; i < s->n_sources; i++) {
        if (!open_source(s, &s->sources[i], filenames[i])) {
            return false;
        }
    }
    if (s->n_sources > 1 && g_hash_table_contains(s->options, "backing_file")) {
        img_error("Having a backing file for the target makes no sense when concatenating multiple "
                  "input images");
        return false;
    }
    if (s->bitmaps && !check_source_bitmaps(s)) {
        return false;
    }
    if (!s->existing) {
        if (!drv || !drv->co_create) {
            img_error(drv ? "Format driver '%s' does not support image creation"
                          : "Unknown file format '%s'", format);
            return false;
        }
        if (!img_check_new_name(s->target) || !check_target_options(s, drv) ||
            !check_compression(s, drv) || !create_target(s, drv)) {
            return false;
        }
    }
    if (!open_target(s)) {
        return false;
    }
    if (bdrv_length(s->bs) < s->total) {
        img_error("output file is smaller than input file");
        return false;
    }
    if (s->compressed && !find_cluster(s)) {
        return false;
    }
    if (s->target_is_zero && bdrv_below_content(s->bs)) {
        img_error("Cannot use --target-is-zero when the destination image has a backing file");
        return false;
    }
    s->reads_zero = s->existing ? s->target_is_zero : bdrv_new_reads_zero(s->bs);
    find_common_base(s);
    if (!s->bitmaps) {
        return img_convert_copy(s);
    }
    if (!s->bs->drv->can_store_bitmap) {
        img_error("Format driver '%s' does not support bitmaps", bdrv_driver_name(s->bs));
        return false;
    }
    return img_convert_copy(s) && copy_bitmaps(s);
}

static void coroutine_fn cleanup(Convert *s)
{
    blk_co_free(s->blk);
    bdrv_co_unref(s->bs);
    for (int i = 0; i < s->n_sources; i++) {
        g_clear_pointer(&s->sources[i].walk, bdrv_extent_walk_free);
        blk_co_free(s->sources[i].blk);
        bdrv_co_unref(s->sources[i].bs);
    }
    g_free(s->sources);
    g_hash_table_unref(s->options);
}

/* --- Command line ------------------------------------------------------------------------- */

static bool set_sparse(Convert *s, const char *text)
{
    int64_t value;

    if (!img_parse_number("buffer size for sparse output", text, 0, INT64_MAX, &value)) {
        return false;
    }
    if (value % SECTOR || value > 16777216) {
        img_error("Invalid buffer size for sparse output specified. Valid sizes are multiples "
                  "of %d up to %d. Select 0 to disable sparse detection (fully allocates "
                  "output).", SECTOR, 16777216);
        return false;
    }
    s->min_sparse = value;
    return true;
}

static bool set_coroutines(Convert *s, const char *text)
{
    char *end;
    long n = strtol(text, &end, 10);

    if (*end || end == text || n < 1 || n > MAX_COROUTINES) {
        img_error("Invalid number of coroutines. Allowed number of coroutines is between 1 and "
                  "%d", MAX_COROUTINES);
        return false;
    }
    s->coroutines = n;
    return true;
}

static void set_option(Convert *s, const char *name, const char *value)
{
    g_hash_table_replace(s->options, g_strdup(name), g_strdup(value));
}

enum {
    OPTION_TARGET_IMAGE_OPTS = IMG_OPTION_OWN,
    OPTION_TARGET_IS_ZERO,
    OPTION_SALVAGE,
    OPTION_BITMAPS,
    OPTION_SKIP_BROKEN_BITMAPS,
};

/* One option; -1 to go on, else the exit code. */
static int take_option(Convert *s, int c, char **argv)
{
    BdrvOpenFile dummy;

    switch (c) {
    case 'O':
        s->target_format = optarg;
        return -1;
    case 'B':
        set_option(s, "backing_file", optarg);
        return -1;
    case 'F':
        set_option(s, "backing_fmt", optarg);
        return -1;
    case 'o':
        s->options_given = true;
        return img_parse_options(optarg, s->options) ? -1 : 1;
    case 'S':
        s->sparse_given = true;
        return set_sparse(s, optarg) ? -1 : 1;
    case 'm':
        return set_coroutines(s, optarg) ? -1 : 1;
    case 't':
        if (!img_parse_cache(optarg, &dummy)) {
            img_error("Invalid cache option: %s", optarg);
            return 1;
        }
        s->cache = optarg;
        return -1;
    case 'T':
        if (!img_parse_cache(optarg, &s->source_params)) {
            img_error("Invalid source cache option: %s", optarg);
            return 1;
        }
        return -1;
    case 'p':
        s->progress = true;
        return -1;
    case 'q':
        s->quiet = true;
        return -1;
    case 'n':
        s->existing = true;
        return -1;
    case 'c':
        s->compressed = true;
        return -1;
    case 'C':
        s->offload = true;
        return -1;
    case 'l':
        s->snapshot = optarg;
        return img_check_snapshot_param(optarg) ? -1 : 1;
    case 'r':
        return img_parse_number("rate limit", optarg, 0, INT64_MAX, &s->rate.limit) ? -1 : 1;
    case OPTION_TARGET_IMAGE_OPTS:
        s->target_params.is_options = true;
        return -1;
    case OPTION_TARGET_IS_ZERO:
        s->target_is_zero = true;
        return -1;
    case OPTION_SALVAGE:
        s->salvage = true;
        return -1;
    case OPTION_BITMAPS:
        s->bitmaps = true;
        return -1;
    case OPTION_SKIP_BROKEN_BITMAPS:
        s->skip_broken_bitmaps = true;
        return -1;
    case 'W':
        s->unordered = true;
        return -1;
    default:
        return img_common_option(c, argv, &s->source_params);
    }
}

/* Whether what is given goes together; false after an error message. */
static bool check_arguments(Convert *s)
{
    BdrvOpenFile target = s->target_params;

    target.format = s->target_format;
    if (s->skip_broken_bitmaps && !s->bitmaps) {
        img_error("Use of --skip-broken-bitmaps requires --bitmaps");
    } else if (s->target_params.is_options && !s->existing) {
        img_error("--target-image-opts requires use of -n flag");
    } else if (s->target_is_zero && !s->existing) {
        img_error("--target-is-zero requires use of -n flag");
    } else if (s->existing && s->options_given) {
        img_error("-o has no effect when skipping image creation");
    } else if (s->offload && s->compressed) {
        img_error("Cannot enable copy offloading when -c is used");
    } else if (s->offload && s->sparse_given) {
        img_error("Cannot enable copy offloading when -S is used");
    } else if (s->offload && s->salvage) {
        img_error("Cannot use copy offloading in salvaging mode");
    } else if (s->snapshot && s->n_sources > 1) {
        img_error("No support for concatenating multiple snapshot");
    } else if (s->bitmaps && s->n_sources > 1) {
        img_error("Copying bitmaps only possible with single source");
    } else {
        return img_check_open_options(&s->source_params) && img_check_open_options(&target);
    }
    return false;
}

int coroutine_fn img_convert(int argc, char **argv)
{
    static const struct option options[] = {
        IMG_COMMON_OPTIONS,
        { "force-share", no_argument, NULL, 'U' },
        { "target-image-opts", no_argument, NULL, OPTION_TARGET_IMAGE_OPTS },
        { "target-is-zero", no_argument, NULL, OPTION_TARGET_IS_ZERO },
        { "salvage", no_argument, NULL, OPTION_SALVAGE },
        { "bitmaps", no_argument, NULL, OPTION_BITMAPS },
        { "skip-broken-bitmaps", no_argument, NULL, OPTION_SKIP_BROKEN_BITMAPS },
        { 0 },
    };
    Convert s = {
        /*
         * Through io_uring one thread copies to and from the page cache, and one CPU is the
         * limit.  With workers several do.
         */
        .source_params = { .read_only = true, .threads = true },
        .target_params = { .threads = true },
        .options = img_options_new(),
        .cache = "unsafe",
        .min_sparse = 4096,
        .coroutines = 8,
    };
    bool help = false;
    int c, ret = -1;

    while (ret < 0 && (c = getopt_long(argc, argv, ":hf:O:B:F:o:l:S:m:r:t:T:pqncCUW", options,
                                       NULL)) != -1) {
        if (c == 'o' && (!strcmp(optarg, "help") || !strcmp(optarg, "?"))) {
            help = true;
        } else {
            ret = take_option(&s, c, argv);
        }
    }
    if (ret < 0 && help) {
        const BlockDriver *drv = bdrv_driver_by_name(s.target_format ? s.target_format : "raw");

        if (drv) {
            img_print_options(drv, optind < argc - 1);
        } else {
            img_error("Unknown file format '%s'", s.target_format);
        }
        ret = drv ? 0 : 1;
    }
    if (ret < 0 && argc - optind < 2) {
        img_error("Must specify image file name");
        ret = 1;
    }
    if (ret < 0) {
        img_progress_begin(s.progress && !s.quiet);
        s.target = argv[argc - 1];
        s.n_sources = argc - 1 - optind;
        s.sources = g_new0(Source, s.n_sources);
        ret = check_arguments(&s) && convert(&s, argv + optind) ? 0 : 1;
        img_progress_end();
    }
    cleanup(&s);
    return ret;
}
