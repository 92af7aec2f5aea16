/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kf-img bitmap: the persistent dirty bitmaps of an image.  The actions are those of QMP, in the
 * order in which they are given; the image keeps the result when it is closed.
 */
#include <stdio.h>
#include <string.h>
#include "kf-img-bitmap.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-block-core.h"

typedef enum Action {
    ACTION_ADD,
    ACTION_REMOVE,
    ACTION_CLEAR,
    ACTION_ENABLE,
    ACTION_DISABLE,
    ACTION_MERGE,
} Action;

static const char *const action_names[] = { "add", "remove", "clear", "enable", "disable",
                                            "merge" };

typedef struct Step {
    Action action;
    const char *source; /* of a merge */
} Step;

typedef struct Bitmap {
    BdrvOpenFile params, source_params;
    const char *name;
    int64_t granularity; /* 0: not given */
    GArray *steps;       /* Step */
    bool adds, merges;
    BlockDriverState *bs, *source;
} Bitmap;

enum { OPTION_ACTION = IMG_OPTION_OWN }; /* + Action */

/* --- Actions -------------------------------------------------------------------------------- */

bool coroutine_fn img_bitmap_add(BlockDriverState *bs, const char *name, int64_t granularity,
                                 bool disabled, GError **errp)
{
    BlockDirtyBitmapAdd arg = {
        .node = (char *)bdrv_node_name(bs),
        .name = (char *)name,
        .has_granularity = granularity != 0,
        .granularity = granularity > UINT32_MAX ? 1 : granularity, /* no power of 2: refused */
        .has_persistent = true,
        .persistent = true,
        .has_disabled = true,
        .disabled = disabled,
    };
    GError *err = NULL;

    qmp_block_dirty_bitmap_add(&arg, &err);
    if (err) {
        g_propagate_error(errp, err);
    }
    return !err;
}

bool coroutine_fn img_bitmap_merge(BlockDriverState *bs, const char *name, BlockDriverState *from,
                                   const char *source, GError **errp)
{
    BlockDirtyBitmapOrStr which = {
        .type = QTYPE_QDICT,
        .u.external = { .node = (char *)bdrv_node_name(from), .name = (char *)source },
    };
    BlockDirtyBitmapOrStrList list = { .value = &which };
    BlockDirtyBitmapMerge arg = {
        .node = (char *)bdrv_node_name(bs),
        .target = (char *)name,
        .bitmaps = &list,
    };
    GError *err = NULL;

    qmp_block_dirty_bitmap_merge(&arg, &err);
    if (err) {
        g_propagate_error(errp, err);
    }
    return !err;
}

bool coroutine_fn img_bitmap_enable(BlockDriverState *bs, const char *name, GError **errp)
{
    BlockDirtyBitmap arg = { (char *)bdrv_node_name(bs), (char *)name };
    GError *err = NULL;

    qmp_block_dirty_bitmap_enable(&arg, &err);
    if (err) {
        g_propagate_error(errp, err);
    }
    return !err;
}

static void coroutine_fn run_step(Bitmap *b, const Step *step, GError **errp)
{
    BlockDirtyBitmap arg = { (char *)bdrv_node_name(b->bs), (char *)b->name };

    switch (step->action) {
    case ACTION_ADD:
        img_bitmap_add(b->bs, b->name, b->granularity, false, errp);
        break;
    case ACTION_REMOVE:
        qmp_block_dirty_bitmap_remove(&arg, errp);
        break;
    case ACTION_CLEAR:
        qmp_block_dirty_bitmap_clear(&arg, errp);
        break;
    case ACTION_ENABLE:
        qmp_block_dirty_bitmap_enable(&arg, errp);
        break;
    case ACTION_DISABLE:
        qmp_block_dirty_bitmap_disable(&arg, errp);
        break;
    case ACTION_MERGE:
        img_bitmap_merge(b->bs, b->name, b->source ? b->source : b->bs, step->source, errp);
        break;
    }
}

static bool coroutine_fn run_steps(Bitmap *b)
{
    for (guint i = 0; i < b->steps->len; i++) {
        const Step *step = &g_array_index(b->steps, Step, i);
        GError *err = NULL;

        run_step(b, step, &err);
        if (err) {
            g_autofree char *prefix = g_strdup_printf("Operation %s on bitmap %s failed: ",
                                                      action_names[step->action], b->name);
            bool hint = g_str_has_suffix(err->message, "is inconsistent and cannot be used");

            img_report(err, prefix);
            if (hint) {
                fprintf(stderr, "Try block-dirty-bitmap-remove to delete this bitmap from disk\n");
            }
            return false;
        }
    }
    return true;
}

/* --- Command line ------------------------------------------------------------------------- */

/* Whether what is given goes together; false after an error message. */
static bool check_arguments(Bitmap *b, int n)
{
    if (b->steps->len == 0) {
        img_error("Need at least one of --add, --remove, --clear, --enable, --disable, or "
                  "--merge");
    } else if (n != 2) {
        img_error("Expecting filename and bitmap name");
    } else if (b->granularity && !b->adds) {
        img_error("granularity only supported with --add");
    } else if (b->source_params.format && !b->source_params.filename) {
        img_error("-F only supported with -b");
    } else if (b->source_params.filename && !b->merges) {
        img_error("Merge bitmap source file only supported with --merge");
    } else {
        return img_check_open_options(&b->params);
    }
    return false;
}

/* One option; -1 to go on, else the exit code. */
static int take_option(Bitmap *b, int c, char **argv)
{
    switch (c) {
    case 'b':
        b->source_params.filename = optarg;
        return -1;
    case 'F':
        b->source_params.format = optarg;
        return -1;
    case 'g':
        return img_parse_number("granularity", optarg, 1, INT64_MAX, &b->granularity) ? -1 : 1;
    }
    if (c >= OPTION_ACTION) {
        Step step = { c - OPTION_ACTION, optarg };

        g_array_append_val(b->steps, step);
        b->adds |= step.action == ACTION_ADD;
        b->merges |= step.action == ACTION_MERGE;
        return -1;
    }
    return img_common_option(c, argv, &b->params);
}

static bool coroutine_fn bitmap(Bitmap *b)
{
    bool ok;

    b->bs = img_open(&b->params);
    if (!b->bs) {
        return false;
    }
    if (b->source_params.filename) {
        b->source = img_open(&b->source_params);
    }
    ok = (b->source || !b->source_params.filename) && run_steps(b);
    bdrv_co_unref(b->source);
    bdrv_co_unref(b->bs);
    return ok;
}

int coroutine_fn img_bitmap(int argc, char **argv)
{
    static const struct option options[] = {
        IMG_COMMON_OPTIONS,
        { "granularity", required_argument, NULL, 'g' },
        { "source-file", required_argument, NULL, 'b' },
        { "source-format", required_argument, NULL, 'F' },
        { "add", no_argument, NULL, OPTION_ACTION + ACTION_ADD },
        { "remove", no_argument, NULL, OPTION_ACTION + ACTION_REMOVE },
        { "clear", no_argument, NULL, OPTION_ACTION + ACTION_CLEAR },
        { "enable", no_argument, NULL, OPTION_ACTION + ACTION_ENABLE },
        { "disable", no_argument, NULL, OPTION_ACTION + ACTION_DISABLE },
        { "merge", required_argument, NULL, OPTION_ACTION + ACTION_MERGE },
        { 0 },
    };
    Bitmap b = {
        .params = { .no_backing = true },
        .source_params = { .read_only = true, .no_backing = true },
        .steps = g_array_new(false, false, sizeof(Step)),
    };
    int c, ret = -1;

    while (ret < 0 && (c = getopt_long(argc, argv, ":b:f:F:g:h", options, NULL)) != -1) {
        ret = take_option(&b, c, argv);
    }
    if (ret < 0 && !check_arguments(&b, argc - optind)) {
        ret = 1;
    }
    if (ret < 0) {
        b.params.filename = argv[optind];
        b.name = argv[optind + 1];
        ret = bitmap(&b) ? 0 : 1;
    }
    g_array_unref(b.steps);
    return ret;
}
