/* SPDX-License-Identifier: GPL-2.0-or-later */
/* kf-img create: makes an image. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "kf-img-options.h"
#include "qapi/error.h"

#define SECTOR 512

bool coroutine_fn img_make(const BlockDriver *drv, const char *filename, GHashTable *options,
                           GError **errp)
{
    const char *size = g_hash_table_lookup(options, "size");
    g_autoptr(GHashTable) own = img_driver_options(options);
    g_autofree char *path = bdrv_co_new_file_path(filename, errp);
    uint64_t bytes = size ? g_ascii_strtoull(size, NULL, 10) : 0;
    BdrvCreateParams params = {
        .filename = path,
        .backing_file = g_hash_table_lookup(options, "backing_file"),
        .backing_format = g_hash_table_lookup(options, "backing_fmt"),
        .options = own,
    };

    if (!path) {
        return false;
    }
    if (bytes > INT64_MAX - SECTOR) {
        error_setg(errp, "Image size must be less than 8 EiB!");
        return false;
    }
    params.size = (bytes + SECTOR - 1) / SECTOR * SECTOR;
    return bdrv_co_create(drv, &params, main_aio_context(), errp);
}

/*
 * Opens the backing file and its chain to learn its size and whether it is what it is said to be.
 * A program may be writing to it: only what describes the image is read.  Returns the size, or -1
 * and errp.
 */
static int64_t coroutine_fn backing_size(const char *filename, const char *backing,
                                         const char *format, GError **errp)
{
    g_autofree char *full = bdrv_full_backing_filename(filename, backing);
    BdrvOpenFile params = { .filename = full, .format = format, .read_only = true,
                            .force_share = true };
    BlockDriverState *bs = bdrv_co_open_file_params(&params, main_aio_context(), errp);
    int64_t size;

    if (!bs) {
        if (errp && *errp) {
            g_autofree char *message = g_strdup((*errp)->message);

            g_clear_error(errp);
            error_setg(errp, "%s\nCould not open backing image.", message);
        }
        return -1;
    }
    size = bdrv_length(bs);
    if (!format) {
        error_setg(errp, "Backing file specified without backing format\nDetected format of %s.",
                   bdrv_driver_name(bs));
        size = -1;
    }
    bdrv_co_unref(bs);
    return size;
}

static bool coroutine_fn check_backing(const char *filename, GHashTable *options,
                                       bool unchecked, GError **errp)
{
    const char *backing = g_hash_table_lookup(options, "backing_file");
    const char *format = g_hash_table_lookup(options, "backing_fmt");
    int64_t size;

    if (!backing) {
        return true;
    }
    if (!*backing) {
        error_setg(errp, "Expected backing file name, got empty string");
        return false;
    }
    if (!strcmp(backing, filename)) {
        error_setg(errp, "Error: Trying to create an image with the same filename as the "
                   "backing file");
        return false;
    }
    if (unchecked) {
        if (!format && g_hash_table_contains(options, "size")) {
            error_setg(errp, "Backing file specified without backing format");
            return false;
        }
        return true;
    }
    size = backing_size(filename, backing, format, errp);
    if (size < 0) {
        return false;
    }
    if (!g_hash_table_contains(options, "size")) {
        g_hash_table_insert(options, g_strdup("size"), g_strdup_printf("%" PRId64, size));
    }
    return true;
}

/* "Formatting 'x', fmt=qcow2 cluster_size=65536 ..." */
static void announce(const BlockDriver *drv, const char *filename, GHashTable *options)
{
    printf("Formatting '%s', fmt=%s", filename, drv->name);
    for (const ImgOption *o = img_option_table; o->name; o++) {
        const char *value = g_hash_table_lookup(options, o->name);

        if (!img_option_applies(o, drv)) {
            continue;
        }
        value = value ? value : o->fallback;
        if (value) {
            printf(" %s=", o->name);
            for (; *value; value++) {
                printf(*value == ',' ? ",," : "%c", *value);
            }
        }
    }
    printf("\n");
    fflush(stdout);
}

static bool coroutine_fn create(const char *format, const char *filename, GHashTable *options,
                                bool unchecked, bool quiet, GError **errp)
{
    const BlockDriver *drv = bdrv_driver_by_name(format);
    g_autofree char *path = NULL;

    if (!drv || !drv->co_create) {
        error_setg(errp, drv ? "Format driver '%s' does not support image creation"
                             : "Unknown file format '%s'", format);
        return false;
    }
    path = bdrv_co_new_file_path(filename, errp);
    if (!path) {
        return false;
    }
    if (g_hash_table_contains(options, "backing_file") && !drv->supports_backing) {
        error_setg(errp, "Backing file not supported for file format '%s'", drv->name);
        return false;
    }
    if (g_hash_table_contains(options, "backing_fmt") && !drv->supports_backing) {
        error_setg(errp, "Backing file format not supported for file format '%s'", drv->name);
        return false;
    }
    if (!img_check_options(drv, true, options, errp) ||
        !check_backing(filename, options, unchecked, errp)) {
        return false;
    }
    if (!g_hash_table_contains(options, "size")) {
        error_setg(errp, "Image creation needs a size parameter");
        return false;
    }
    if (!quiet) {
        announce(drv, filename, options);
    }
    if (g_hash_table_contains(options, "backing_fmt") &&
        !g_hash_table_contains(options, "backing_file")) {
        error_setg(errp, "Backing format cannot be used without backing file");
        return false;
    }
    return img_make(drv, filename, options, errp);
}

/* The size argument; false after an error message. */
static bool parse_size_argument(const char *text, GHashTable *options)
{
    int64_t bytes;

    if (!img_parse_number("image size", text, 0, INT64_MAX, &bytes)) {
        return false;
    }
    g_hash_table_replace(options, g_strdup("size"), g_strdup_printf("%" PRId64, bytes));
    return true;
}

static void set_option(GHashTable *options, const char *name, const char *value)
{
    g_hash_table_replace(options, g_strdup(name), g_strdup(value));
}

static int print_format_options(const char *format, bool have_file)
{
    const BlockDriver *drv = bdrv_driver_by_name(format);

    if (!drv) {
        img_error("Unknown file format '%s'", format);
        return 1;
    }
    img_print_options(drv, have_file);
    return 0;
}

int coroutine_fn img_create(int argc, char **argv)
{
    static const struct option options[] = {
        { "help", no_argument, NULL, 'h' },
        { "object", required_argument, NULL, IMG_OPTION_OBJECT },
        { 0 },
    };
    g_autoptr(GHashTable) table = img_options_new();
    const char *format = "raw", *filename;
    g_autofree char *prefix = NULL;
    bool unchecked = false, quiet = false, help = false;
    GError *err = NULL;
    int c;

    while ((c = getopt_long(argc, argv, ":hqf:b:F:uo:", options, NULL)) != -1) {
        switch (c) {
        case 'q':
            quiet = true;
            break;
        case 'f':
            format = optarg;
            break;
        case 'b':
            set_option(table, "backing_file", optarg);
            break;
        case 'F':
            set_option(table, "backing_fmt", optarg);
            break;
        case 'u':
            unchecked = true;
            break;
        case 'o':
            help |= !strcmp(optarg, "help") || !strcmp(optarg, "?");
            if (!help && !img_parse_options(optarg, table)) {
                return 1;
            }
            break;
        case IMG_OPTION_OBJECT:
            return img_common_option(c, argv, NULL);
        default:
            return img_bad_option(c, argv);
        }
    }
    if (help) {
        return print_format_options(format, optind < argc);
    }
    if (optind >= argc) {
        return img_usage_error("Expecting image file name");
    }
    filename = argv[optind++];
    if (optind < argc) {
        if (g_hash_table_contains(table, "size")) {
            img_error("%s: The image size must be specified only once", filename);
            return 1;
        }
        if (!parse_size_argument(argv[optind++], table)) {
            return 1;
        }
    }
    if (optind < argc) {
        return img_usage_error("Unexpected argument: %s", argv[optind]);
    }
    if (create(format, filename, table, unchecked, quiet, &err)) {
        return 0;
    }
    prefix = g_strdup_printf("%s: ", filename);
    img_report(err, prefix);
    return 1;
}
