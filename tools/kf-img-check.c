/* SPDX-License-Identifier: GPL-2.0-or-later */
/* kf-img check: looks for lost clusters and corruption, and repairs on request. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "kf-img-int.h"
#include "qapi/error.h"
#include "qapi/qapi-visit-block-core.h"

enum { EXIT_UNSUPPORTED = 63, EXIT_CORRUPT = 2, EXIT_LEAKS = 3 };

/* Findings go to stderr, so that JSON on stdout stays whole. */
static void report_finding(void *opaque, bool error, const char *line)
{
    fprintf(stderr, "%s\n", line);
}

static void print_human(const BdrvCheckResult *r)
{
    if (!r->corruptions && !r->leaks && !r->check_errors) {
        printf("No errors were found on the image.\n");
    }
    if (r->corruptions) {
        printf("\n%" PRId64 " errors were found on the image.\nData may be corrupted, or further "
               "writes to the image may corrupt it.\n", r->corruptions);
    }
    if (r->leaks) {
        printf("\n%" PRId64 " leaked clusters were found on the image.\nThis means waste of disk "
               "space, but no harm to data.\n", r->leaks);
    }
    if (r->check_errors) {
        printf("\n%" PRId64 " internal errors have occurred during the check.\n",
               r->check_errors);
    }
    if (r->total_clusters && r->allocated_clusters) {
        printf("%" PRId64 "/%" PRId64 " = %0.2f%% allocated, %0.2f%% fragmented, %0.2f%% "
               "compressed clusters\n", r->allocated_clusters, r->total_clusters,
               r->allocated_clusters * 100.0 / r->total_clusters,
               r->fragmented_clusters * 100.0 / r->allocated_clusters,
               r->compressed_clusters * 100.0 / r->allocated_clusters);
    }
    if (r->image_end_offset > 0) {
        printf("Image end offset: %" PRId64 "\n", r->image_end_offset);
    }
}

static void print_json(const BdrvCheckResult *r, const char *filename, const char *format)
{
    ImageCheck check = {
        .filename = (char *)filename,
        .format = (char *)format,
        .check_errors = r->check_errors,
        .has_image_end_offset = r->image_end_offset != 0,
        .image_end_offset = r->image_end_offset,
        .has_corruptions = r->corruptions != 0,
        .corruptions = r->corruptions,
        .has_leaks = r->leaks != 0,
        .leaks = r->leaks,
        .has_corruptions_fixed = r->corruptions_fixed != 0,
        .corruptions_fixed = r->corruptions_fixed,
        .has_leaks_fixed = r->leaks_fixed != 0,
        .leaks_fixed = r->leaks_fixed,
        .has_total_clusters = r->total_clusters != 0,
        .total_clusters = r->total_clusters,
        .has_allocated_clusters = r->allocated_clusters != 0,
        .allocated_clusters = r->allocated_clusters,
        .has_fragmented_clusters = r->fragmented_clusters != 0,
        .fragmented_clusters = r->fragmented_clusters,
        .has_compressed_clusters = r->compressed_clusters != 0,
        .compressed_clusters = r->compressed_clusters,
    };

    img_print_json(qapi_ImageCheck_to_json(&check));
}

static int exit_code(const BdrvCheckResult *r)
{
    return r->corruptions    ? EXIT_CORRUPT
           : r->leaks        ? EXIT_LEAKS
           : r->check_errors ? 1
                             : 0;
}

static bool coroutine_fn check_once(BlockDriverState *bs, BdrvCheckResult *result, int fix)
{
    GError *err = NULL;

    *result = (BdrvCheckResult){ .report = report_finding };
    if (bdrv_co_check(bs, result, fix, &err)) {
        return true;
    }
    img_report(err, "Check failed: ");
    return false;
}

static int coroutine_fn check_image(BlockDriverState *bs, const char *filename, int fix,
                                    bool json, bool quiet)
{
    BdrvCheckResult result, repaired = { 0 };

    if (!bs->drv->co_check) {
        img_error("This image format does not support checks");
        return EXIT_UNSUPPORTED;
    }
    if (!check_once(bs, &result, fix)) {
        return 1;
    }
    if (result.corruptions_fixed || result.leaks_fixed) {
        if (!json && !quiet) {
            printf("The following inconsistencies were found and repaired:\n\n"
                   "    %" PRId64 " leaked clusters\n    %" PRId64 " corruptions\n\n"
                   "Double checking the fixed image now...\n",
                   result.leaks_fixed, result.corruptions_fixed);
        }
        repaired = result;
        if (!check_once(bs, &result, BDRV_FIX_NONE)) {
            return 1;
        }
        result.leaks_fixed = repaired.leaks_fixed;
        result.corruptions_fixed = repaired.corruptions_fixed;
    }
    if (!quiet && json) {
        print_json(&result, filename, bs->drv->name);
    } else if (!quiet) {
        print_human(&result);
    }
    return exit_code(&result);
}

int coroutine_fn img_check(int argc, char **argv)
{
    static const struct option options[] = {
        IMG_COMMON_OPTIONS,
        { "format", required_argument, NULL, 'f' },
        { "repair", required_argument, NULL, 'r' },
        { "output", required_argument, NULL, IMG_OPTION_OWN },
        { "force-share", no_argument, NULL, 'U' },
        { 0 },
    };
    BdrvOpenFile params = { .discard = true, .for_check = true };
    const char *output = "human";
    bool quiet = false, json;
    BlockDriverState *bs;
    int c, fix = BDRV_FIX_NONE, ret = -1;

    while (ret < 0 && (c = getopt_long(argc, argv, ":hf:r:T:qU", options, NULL)) != -1) {
        switch (c) {
        case 'r':
            if (!strcmp(optarg, "leaks")) {
                fix = BDRV_FIX_LEAKS;
            } else if (!strcmp(optarg, "all")) {
                fix = BDRV_FIX_LEAKS | BDRV_FIX_ERRORS;
            } else {
                return img_usage_error("Unknown option value for -r (expecting 'leaks' or "
                                       "'all'): %s", optarg);
            }
            break;
        case IMG_OPTION_OWN:
            output = optarg;
            break;
        case 'T':
            if (!img_parse_cache(optarg, &params)) {
                img_error("Invalid source cache option: %s", optarg);
                return 1;
            }
            break;
        case 'q':
            quiet = true;
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
    params.read_only = !fix;
    params.for_repair = fix & BDRV_FIX_ERRORS;
    bs = img_open(&params);
    if (!bs) {
        return 1;
    }
    ret = check_image(bs, params.filename, fix, json, quiet);
    bdrv_co_unref(bs);
    return ret;
}
