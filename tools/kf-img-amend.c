/* SPDX-License-Identifier: GPL-2.0-or-later */
/* kf-img amend: changes creation options of an image that is there. */
#include <stdio.h>
#include <string.h>
#include "kf-img-options.h"
#include "qapi/error.h"

typedef struct Amend {
    BdrvOpenFile params;
    GHashTable *options;
    bool progress, quiet, force, help;
} Amend;

enum { OPTION_FORCE = IMG_OPTION_OWN };

static void show_progress(void *opaque, int64_t done, int64_t total)
{
    img_progress(total ? done * 100.0 / total : 100);
}

static bool coroutine_fn amend_image(Amend *a, BlockDriverState *bs)
{
    GError *err = NULL;
    bool ok;

    if (!bs->drv->co_amend) {
        img_error("Format driver '%s' does not support option amendment", bs->drv->name);
        return false;
    }
    img_progress_begin(a->progress && !a->quiet);
    ok = img_check_options(bs->drv, false, a->options, &err) &&
         bdrv_co_amend(bs, a->options, a->force, show_progress, NULL, &err);
    if (ok) {
        img_progress(100);
    }
    img_progress_end();
    if (!ok) {
        img_report(err, "");
    }
    return ok;
}

/* Lists what can be amended in a format, or in the file's one. */
static bool coroutine_fn print_help(const Amend *a, BlockDriverState *bs)
{
    const BlockDriver *drv = bs ? bs->drv : img_format(a->params.format);

    if (!drv) {
        return false;
    }
    if (!drv->co_amend) {
        img_error("Format driver '%s' does not support option amendment", drv->name);
        return false;
    }
    img_print_amend_options(drv);
    return true;
}

static bool coroutine_fn amend(Amend *a, int argc, char **argv)
{
    BlockDriverState *bs;
    bool ok;

    if (a->help && a->params.format && optind == argc) {
        return print_help(a, NULL);
    }
    if (optind != argc - 1) {
        img_error("Expecting one image file name");
        return false;
    }
    if (!img_check_open_options(&a->params)) {
        return false;
    }
    a->params.filename = argv[optind];
    bs = img_open(&a->params);
    if (!bs) {
        return false;
    }
    ok = a->help ? print_help(a, bs) : amend_image(a, bs);
    bdrv_co_unref(bs);
    return ok;
}

/* One option; -1 to go on, else the exit code. */
static int take_option(Amend *a, int c, char **argv)
{
    switch (c) {
    case 'o':
        if (!strcmp(optarg, "help") || !strcmp(optarg, "?")) {
            a->help = true;
            return -1;
        }
        return img_parse_options(optarg, a->options) ? -1 : 1;
    case 't':
        if (!img_parse_cache(optarg, &a->params)) {
            img_error("Invalid cache option: %s", optarg);
            return 1;
        }
        return -1;
    case 'p':
        a->progress = true;
        return -1;
    case 'q':
        a->quiet = true;
        return -1;
    case OPTION_FORCE:
        a->force = true;
        return -1;
    default:
        return img_common_option(c, argv, &a->params);
    }
}

int coroutine_fn img_amend(int argc, char **argv)
{
    static const struct option options[] = {
        IMG_COMMON_OPTIONS,
        { "force", no_argument, NULL, OPTION_FORCE },
        { 0 },
    };
    Amend a = { .params = { .discard = true }, .options = img_options_new() };
    int c, ret = -1;

    while (ret < 0 && (c = getopt_long(argc, argv, ":ho:f:t:pq", options, NULL)) != -1) {
        ret = take_option(&a, c, argv);
    }
    if (ret < 0 && !a.help && g_hash_table_size(a.options) == 0) {
        ret = img_usage_error("Must specify options (-o)");
    }
    if (ret < 0) {
        ret = amend(&a, argc, argv) ? 0 : 1;
    }
    g_hash_table_unref(a.options);
    return ret;
}
