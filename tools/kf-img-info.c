/* SPDX-License-Identifier: GPL-2.0-or-later */
/* kf-img info: what is known of an image and, on request, of its backing files. */
#include <stdio.h>
#include <string.h>
#include "block/qapi-format.h"
#include "kf-img-int.h"
#include "qapi/error.h"
#include "qapi/qapi-visit-block-core.h"

static ImageInfo *coroutine_fn image_info(const char *filename, const char *format,
                                          bool force_share)
{
    BdrvOpenFile params = {
        .filename = filename,
        .format = format,
        .read_only = true,
        .no_backing = true,
        .force_share = force_share,
    };
    BlockDriverState *bs = img_open(&params);
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
static GPtrArray *coroutine_fn collect(const char *filename, const char *format, bool chain,
                                       bool force_share)
{
    GPtrArray *infos = g_ptr_array_new_with_free_func((GDestroyNotify)qapi_free_ImageInfo);
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);

    while (filename) {
        ImageInfo *info;

        if (g_hash_table_contains(seen, filename)) {
            img_error("Backing file '%s' creates an infinite loop.", filename);
            break;
        }
        info = image_info(filename, format, force_share);
        if (!info) {
            break;
        }
        g_hash_table_add(seen, (char *)filename);
        g_ptr_array_add(infos, info);
        filename = chain ? info->full_backing_filename : NULL;
        format = info->backing_filename_format;
        if (!filename) {
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
        { "help", no_argument, NULL, 'h' },
        { "format", required_argument, NULL, 'f' },
        { "output", required_argument, NULL, 'o' },
        { "backing-chain", no_argument, NULL, 'b' },
        { "force-share", no_argument, NULL, 'U' },
        { 0 },
    };
    const char *format = NULL, *output = "human";
    bool chain = false, force_share = false, json;
    GPtrArray *infos;
    int c;

    while ((c = getopt_long(argc, argv, ":hf:U", options, NULL)) != -1) {
        switch (c) {
        case 'f':
            format = optarg;
            break;
        case 'o':
            output = optarg;
            break;
        case 'b':
            chain = true;
            break;
        case 'U':
            force_share = true;
            break;
        default:
            return img_bad_option(c, argv);
        }
    }
    if (optind != argc - 1) {
        return img_usage_error("Expecting one image file name");
    }
    if (!img_parse_output(output, &json)) {
        return 1;
    }
    infos = collect(argv[optind], format, chain, force_share);
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
