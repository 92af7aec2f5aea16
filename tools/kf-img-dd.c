/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kf-img dd: copies blocks of one image into a new one, as dd(1) does with files.  What is
 * zero is written too.  Blocks that are skipped count, as they do in qemu-img.
 */
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include "kf-img-options.h"
#include "qapi/error.h"

#define CHUNK (1024 * 1024)

typedef struct Dd {
    BdrvOpenFile source;
    const char *target, *target_format;
    int64_t block, count, skip; /* count < 0: all there is */
} Dd;

/* Where the part that is copied begins and ends in a source of length bytes. */
static void find_range(const Dd *dd, int64_t length, int64_t *from, int64_t *end)
{
    if (dd->count >= 0 && dd->count < length / dd->block + 1) {
        length = MIN(length, dd->count * dd->block);
    }
    *end = length;
    if (dd->skip > length / dd->block || dd->skip * dd->block > length) {
        img_error("%s: cannot skip to specified offset", dd->source.filename);
        *from = length;
    } else {
        *from = dd->skip * dd->block;
    }
}

static bool coroutine_fn create_target(const Dd *dd, int64_t bytes)
{
    const BlockDriver *drv = bdrv_driver_by_name(dd->target_format);
    g_autoptr(GHashTable) options = img_options_new();
    GError *err = NULL;

    if (!drv) {
        img_error("Unknown file format");
        return false;
    }
    if (!drv->co_create) {
        img_error("Format driver '%s' does not support image creation", drv->name);
        return false;
    }
    if (!img_check_new_name(dd->target)) {
        return false;
    }
    g_hash_table_insert(options, g_strdup("size"), g_strdup_printf("%" PRId64, bytes));
    if (!img_make(drv, dd->target, options, &err)) {
        g_autofree char *prefix =
            g_strdup_printf("%s: error while creating output image: ", dd->target);

        img_report(err, prefix);
        return false;
    }
    return true;
}

static bool coroutine_fn copy(const Dd *dd, BlockBackend *in, BlockBackend *out, int64_t from,
                              int64_t end)
{
    /* Whole blocks, but not small ones one by one. */
    int64_t room = dd->block < CHUNK ? CHUNK / dd->block * dd->block : dd->block;
    uint8_t *buf = g_aligned_alloc(1, MIN(room, MAX(end - from, 1)), 4096);
    const char *what = "reading from input";
    int ret = 0;

    for (int64_t offset = from, n; offset < end && ret == 0; offset += n) {
        n = MIN(room, end - offset);
        what = "reading from input";
        ret = blk_co_pread(in, offset, n, buf);
        if (ret == 0) {
            what = "writing to output";
            ret = blk_co_pwrite(out, offset - from, n, buf);
        }
    }
    if (ret == 0) {
        what = "writing to output";
        ret = blk_co_flush(out);
    }
    if (ret < 0) {
        img_error("error while %s image file: %s", what, strerror(-ret));
    }
    g_aligned_free(buf);
    return ret == 0;
}

static bool coroutine_fn dd_images(const Dd *dd)
{
    BdrvOpenFile target = { .filename = dd->target, .format = dd->target_format, .discard = true };
    BlockDriverState *in_bs, *out_bs = NULL;
    BlockBackend *in = NULL, *out = NULL;
    int64_t from, end;
    bool ok = false;

    in_bs = img_open(&dd->source);
    in = in_bs ? img_backend(in_bs, false) : NULL;
    if (in) {
        find_range(dd, bdrv_length(in_bs), &from, &end);
        if (create_target(dd, end - from)) {
            out_bs = img_open(&target);
            out = out_bs ? img_backend(out_bs, true) : NULL;
            ok = out && copy(dd, in, out, from, end);
        }
    }
    blk_co_free(out);
    bdrv_co_unref(out_bs);
    blk_co_free(in);
    bdrv_co_unref(in_bs);
    return ok;
}

/* "bs=..." and the like; false after an error message. */
static bool take_operand(Dd *dd, const char *text)
{
    static const char *const names[] = { "bs", "count", "if", "of", "skip" };
    g_autofree char *name = g_strndup(text, strcspn(text, "="));
    const char *value = text + strlen(name) + 1;
    size_t i = 0;

    while (i < G_N_ELEMENTS(names) && strcmp(names[i], name)) {
        i++;
    }
    if (i == G_N_ELEMENTS(names) || !strchr(text, '=')) {
        img_error("unrecognized operand %s", name);
        return false;
    }
    switch (*name) {
    case 'b':
        return img_parse_number("bs", value, 1, INT_MAX, &dd->block);
    case 'c':
        return img_parse_number("count", value, 0, INT64_MAX, &dd->count);
    case 's':
        return img_parse_number("skip", value, 0, INT64_MAX, &dd->skip);
    case 'i':
        dd->source.filename = value;
        return true;
    default:
        dd->target = value;
        return true;
    }
}

int coroutine_fn img_dd(int argc, char **argv)
{
    static const struct option options[] = {
        IMG_COMMON_OPTIONS,
        { "force-share", no_argument, NULL, 'U' },
        { 0 },
    };
    Dd dd = { .source = { .read_only = true }, .target_format = "raw", .block = 512, .count = -1 };
    int c, ret = -1;

    while (ret < 0 && (c = getopt_long(argc, argv, ":hf:O:U", options, NULL)) != -1) {
        if (c == 'O') {
            dd.target_format = optarg;
        } else {
            ret = img_common_option(c, argv, &dd.source);
        }
    }
    for (; ret < 0 && optind < argc; optind++) {
        ret = take_operand(&dd, argv[optind]) ? -1 : 1;
    }
    if (ret >= 0) {
        return ret;
    }
    if (!dd.source.filename || !dd.target) {
        img_error("Must specify both input and output files");
        return 1;
    }
    return img_check_open_options(&dd.source) && dd_images(&dd) ? 0 : 1;
}
