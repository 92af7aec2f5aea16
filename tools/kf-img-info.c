/* SPDX-License-Identifier: GPL-2.0-or-later */
/* kf-img info: what is known of an image and, on request, of its backing files. */
#include <stdio.h>
#include <string.h>
#include "block/qapi-format.h"
#include "kf-img-int.h"
#include "qapi/error.h"
#include "qapi/qapi-visit-block-core.h"

enum { OPTION_OUTPUT = IMG_OPTION_OWN, OPTION_CHAIN };

static ImageInfo *coroutine_fn image_info(const BdrvOpenFile *params)
{
    BlockDriverState *bs = img_open(params);
    GError *err = NULL;
    ImageInfo *info;

    if (!bs) {
        return NULL;
    }
    info = bdrv_co_image_info(bs, false, &err);
    if (!info) {
        img_report(err, "");
    }
    bdrv_co_unref(bs);
    return info;
}

/* The infos of an image and the files behind it, as an array to free; NULL on failure. */
static GPtrArray *coroutine_fn collect(BdrvOpenFile params, bool chain)
{
    GPtrArray *infos = g_ptr_array_new_with_free_func((GDestroyNotify)qapi_free_ImageInfo);
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);

    while (params.filename) {
        ImageInfo *info;

        if (g_hash_table_contains(seen, params.filename)) {
            img_error("Backing file '%s' creates an infinite loop.", params.filename);
            break;
        }
        info = image_info(&params);
        if (!info) {
            break;
        }
        g_hash_table_add(seen, (char *)params.filename);
        g_ptr_array_add(infos, info);
        params.filename = chain ? info->full_backing_filename : NULL;
        params.format = info->backing_filename_format;
        params.is_options = false;
        params.from_image = true;
        if (!params.filename) {
            return infos;
        }
    }
    g_ptr_array_free(infos, true);
    return NULL;
}

static void print_human(const GPtrArray *infos)
{
    GString *text = g_string_new(NULL);

    for (guint i = 0; i < infos->len; i++) {
        g_string_append(text, i ? "\n" : "");
        bdrv_format_image_info(text, infos->pdata[i]);
    }
    fputs(text->str, stdout);
    g_string_free(text, true);
}

static void print_json(const GPtrArray *infos, bool chain)
{
    json_object *array;

    if (!chain) {
        img_print_json(qapi_ImageInfo_to_json(infos->pdata[0]));
        return;
    }
    array = json_object_new_array();
    for (guint i = 0; i < infos->len; i++) {
        json_object_array_add(array, qapi_ImageInfo_to_json(infos->pdata[i]));
    }
    img_print_json(array);
}

int coroutine_fn img_info(int argc, char **argv)
{
    static const struct option options[] = {
        IMG_COMMON_OPTIONS,
        { "format", required_argument, NULL, 'f' },
        { "output", required_argument, NULL, OPTION_OUTPUT },
        { "backing-chain", no_argument, NULL, OPTION_CHAIN },
        { "force-share", no_argument, NULL, 'U' },
        { 0 },
    };
    BdrvOpenFile params = { .read_only = true, .no_backing = true };
    const char *output = "human";
    bool chain = false, json;
    GPtrArray *infos;
    int c, ret = -1;

    while (ret < 0 && (c = getopt_long(argc, argv, ":hf:U", options, NULL)) != -1) {
        switch (c) {
        case OPTION_OUTPUT:
            output = optarg;
            break;
        case OPTION_CHAIN:
            chain = true;
            break;
        default:
            ret = img_common_option(c, argv, &params);
        }
    }
    if (ret >= 0) {
        return ret;
    }
    if (optind != argc - 1) {
        return img_usage_error("Expecting one image file name");
    }
    if (!img_parse_output(output, &json) || !img_check_open_options(&params)) {
        return 1;
    }
    params.filename = argv[optind];
    infos = collect(params, chain);
    if (!infos) {
        return 1;
    }
    if (json) {
        print_json(infos, chain);
    } else {
        print_human(infos);
    }
    g_ptr_array_free(infos, true);
    return 0;
}
