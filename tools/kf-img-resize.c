/* SPDX-License-Identifier: GPL-2.0-or-later */
/* kf-img resize: changes the length of a disk. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "kf-img-int.h"
#include "qapi/error.h"
#include "qapi/keyval.h"

typedef struct Resize {
    BdrvOpenFile params;
    bool quiet, shrink;
    int preallocation; /* PreallocMode */
    int sign; /* of a change, 0: size is the new length */
    uint64_t size;
} Resize;

enum { OPTION_PREALLOCATION = IMG_OPTION_OWN, OPTION_SHRINK };

static bool parse_size(Resize *r, const char *text)
{
    r->sign = *text == '+' ? 1 : *text == '-' ? -1 : 0;
    if (qapi_parse_size(text + (r->sign != 0), &r->size)) {
        return true;
    }
    img_error("Parameter 'size' expects a non-negative number below 2^64\n"
              "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n"
              "and exabytes, respectively.");
    return false;
}

/* The new length; false after an error message. */
static bool new_length(const Resize *r, int64_t length, int64_t *wanted)
{
    bool bad = r->size > INT64_MAX;

    if (!bad && r->sign) {
        bad = __builtin_add_overflow(length, r->sign * (int64_t)r->size, wanted);
    } else {
        *wanted = r->size;
    }
    if (bad || *wanted <= 0) {
        img_error("New image size must be positive");
        return false;
    }
    if (*wanted <= length && r->preallocation != PREALLOC_MODE_OFF) {
        img_error("Preallocation can only be used for growing images");
        return false;
    }
    if (*wanted < length && !r->shrink) {
        img_error("Use the --shrink option to perform a shrink operation.");
        img_error("warning: Shrinking an image will delete all data beyond the shrunken image's "
                  "end. Before performing such an operation, make sure there is no important "
                  "data there.");
        return false;
    }
    return true;
}

static bool coroutine_fn resize(const Resize *r, BlockBackend *blk)
{
    GError *err = NULL;
    int64_t wanted;

    if (!new_length(r, bdrv_length(blk_bs(blk)), &wanted)) {
        return false;
    }
    if (!blk_co_truncate_prealloc(blk, wanted, true, r->preallocation, &err)) {
        img_report(err, "");
        return false;
    }
    if (!r->quiet) {
        puts("Image resized.");
    }
    return true;
}

/* One option; -1 to go on, else the exit code. */
static int take_option(Resize *r, int c, char **argv)
{
    switch (c) {
    case 'q':
        r->quiet = true;
        return -1;
    case OPTION_PREALLOCATION:
        r->preallocation = qapi_enum_parse(&PreallocMode_lookup, optarg, 0, NULL);
        if (r->preallocation < 0) {
            img_error("Invalid preallocation mode '%s'", optarg);
            return 1;
        }
        return -1;
    case OPTION_SHRINK:
        r->shrink = true;
        return -1;
    default:
        return img_common_option(c, argv, &r->params);
    }
}

int coroutine_fn img_resize(int argc, char **argv)
{
    static const struct option options[] = {
        IMG_COMMON_OPTIONS,
        { "preallocation", required_argument, NULL, OPTION_PREALLOCATION },
        { "shrink", no_argument, NULL, OPTION_SHRINK },
        { 0 },
    };
    Resize r = { .params = { .discard = true } };
    BlockDriverState *bs;
    BlockBackend *blk;
    const char *size;
    int c, ret = -1;
    bool ok;

    if (argc < 3) {
        return img_usage_error("Not enough arguments");
    }
    size = argv[--argc]; /* first: it may look like an option */
    while (ret < 0 && (c = getopt_long(argc, argv, ":f:hq", options, NULL)) != -1) {
        ret = take_option(&r, c, argv);
    }
    if (ret >= 0) {
        return ret;
    }
    if (optind != argc - 1) {
        return img_usage_error("Expecting image file name and size");
    }
    r.params.filename = argv[optind];
    if (!img_check_open_options(&r.params) || !parse_size(&r, size)) {
        return 1;
    }
    bs = img_open(&r.params);
    blk = bs ? img_backend(bs, true) : NULL;
    ok = blk && resize(&r, blk);
    blk_co_free(blk);
    bdrv_co_unref(bs);
    return ok ? 0 : 1;
}
