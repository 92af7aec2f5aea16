/* SPDX-License-Identifier: GPL-2.0-or-later */
/* kf-img measure: how large the file of a new image would be. */
#include <inttypes.h>
#include <stdio.h>
#include "kf-img-options.h"
#include "qapi/error.h"
#include "qapi/qapi-visit-block-core.h"

#define SECTOR 512

typedef struct Measure {
    BdrvOpenFile params;
    const char *target_format, *snapshot, *output;
    GHashTable *options;
    int64_t size; /* -1: not given */
} Measure;

enum { OPTION_OUTPUT = IMG_OPTION_OWN, OPTION_SIZE };

static void print_human(const BdrvMeasure *r)
{
    printf("required size: %" PRId64 "\nfully allocated size: %" PRId64 "\n", r->required,
           r->fully_allocated);
    if (r->has_bitmaps) {
        printf("bitmaps size: %" PRId64 "\n", r->bitmaps);
    }
}

static void print_json(const BdrvMeasure *r)
{
    BlockMeasureInfo info = {
        .required = r->required,
        .fully_allocated = r->fully_allocated,
        .has_bitmaps = r->has_bitmaps,
        .bitmaps = r->bitmaps,
    };

    img_print_json(qapi_BlockMeasureInfo_to_json(&info));
}

static bool coroutine_fn measure_image(Measure *m, BlockDriverState *bs)
{
    const BlockDriver *drv = img_format(m->target_format);
    g_autoptr(GHashTable) own = NULL;
    BdrvCreateParams params = { 0 };
    BdrvMeasure result;
    GError *err = NULL;
    bool json;

    if (!drv) {
        return false;
    }
    if (!img_check_options(drv, true, m->options, &err)) {
        img_report(err, "");
        img_error("Invalid options for file format '%s'", drv->name);
        return false;
    }
    own = img_driver_options(m->options);
    params.size = bs ? bdrv_length(bs) : (m->size + SECTOR - 1) / SECTOR * SECTOR;
    params.backing_file = g_hash_table_lookup(m->options, "backing_file");
    params.backing_format = g_hash_table_lookup(m->options, "backing_fmt");
    params.options = own;
    if (!bdrv_co_measure(drv, &params, bs, &result, &err)) {
        img_report(err, "");
        return false;
    }
    if (!img_parse_output(m->output, &json)) {
        return false;
    }
    if (json) {
        print_json(&result);
    } else {
        print_human(&result);
    }
    return true;
}

/* One option; -1 to go on, else the exit code. */
static int take_option(Measure *m, int c, char **argv)
{
    switch (c) {
    case 'O':
        m->target_format = optarg;
        return -1;
    case 'o':
        return img_parse_options(optarg, m->options) ? -1 : 1;
    case 'l':
        m->snapshot = optarg;
        return img_check_snapshot_param(optarg) ? -1 : 1;
    case OPTION_OUTPUT:
        m->output = optarg;
        return -1;
    case OPTION_SIZE:
        return img_parse_number("image size", optarg, 0, INT64_MAX, &m->size) ? -1 : 1;
    default:
        return img_common_option(c, argv, &m->params);
    }
}

/* Whether what is given goes together; false after an error message. */
static bool check_arguments(Measure *m, int n)
{
    bool about_file = m->params.is_options || m->params.format || m->snapshot;

    if (n > 1) {
        img_error("At most one filename argument is allowed.");
    } else if (n == 0 && about_file) {
        img_error("--image-opts, -f, and -l require a filename argument.");
    } else if (n == 0 && m->size < 0) {
        img_error("Either --size N or one filename must be specified.");
    } else if (n == 1 && m->size >= 0) {
        img_error("--size N cannot be used together with a filename.");
    } else if (m->size > INT64_MAX - SECTOR) {
        img_error("Image size must be less than 8 EiB!");
    } else {
        return img_check_open_options(&m->params);
    }
    return false;
}

static int coroutine_fn measure(Measure *m, char **names, int n)
{
    BlockDriverState *bs = NULL;
    bool ok;

    if (!check_arguments(m, n)) {
        return 1;
    }
    if (n) {
        m->params.filename = names[0];
        bs = img_open(&m->params);
        if (!bs) {
            return 1;
        }
    }
    ok = (!m->snapshot || img_show_snapshot(bs, m->snapshot)) && measure_image(m, bs);
    bdrv_co_unref(bs);
    return ok ? 0 : 1;
}

int coroutine_fn img_measure(int argc, char **argv)
{
    static const struct option options[] = {
        IMG_COMMON_OPTIONS,
        { "output", required_argument, NULL, OPTION_OUTPUT },
        { "size", required_argument, NULL, OPTION_SIZE },
        { "force-share", no_argument, NULL, 'U' },
        { 0 },
    };
    Measure m = {
        .params = { .read_only = true },
        .target_format = "raw",
        .output = "human",
        .options = img_options_new(),
        .size = -1,
    };
    int c, ret = -1;

    while (ret < 0 && (c = getopt_long(argc, argv, ":hf:l:o:O:U", options, NULL)) != -1) {
        ret = take_option(&m, c, argv);
    }
    if (ret < 0) {
        ret = measure(&m, argv + optind, argc - optind);
    }
    g_hash_table_unref(m.options);
    return ret;
}
