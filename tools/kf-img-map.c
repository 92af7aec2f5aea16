/* SPDX-License-Identifier: GPL-2.0-or-later */
/* kf-img map: which parts of a disk have data, in which file of the chain, and where in it. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "block/extents.h"
#include "kf-img-int.h"

typedef struct Map {
    bool json;
    bool first;
    int64_t start; /* of what has been collected, in bytes of the disk */
    BdrvExtent extent;
} Map;

static const char *truth(bool value)
{
    return value ? "true" : "false";
}

static bool print_human(const Map *m)
{
    const BdrvExtent *e = &m->extent;

    if (!(e->status & BDRV_BLOCK_DATA) || (e->status & BDRV_BLOCK_ZERO)) {
        return true;
    }
    if (!(e->status & BDRV_BLOCK_OFFSET_VALID)) {
        img_error("File contains external, encrypted or compressed clusters.");
        return false;
    }
    printf("%#-16" PRIx64 "%#-16" PRIx64 "%#-16" PRIx64 "%s\n", m->start, e->bytes, e->map,
           bdrv_filename(e->file));
    return true;
}

static void print_json(const Map *m)
{
    const BdrvExtent *e = &m->extent;

    printf("%s{ \"start\": %" PRId64 ", \"length\": %" PRId64 ", \"depth\": %d, \"present\": %s, "
           "\"zero\": %s, \"data\": %s", m->first ? "" : ",\n", m->start, e->bytes, e->depth,
           truth(e->status & BDRV_BLOCK_ALLOCATED), truth(e->status & BDRV_BLOCK_ZERO),
           truth(e->status & BDRV_BLOCK_DATA));
    if (e->status & BDRV_BLOCK_OFFSET_VALID) {
        printf(", \"offset\": %" PRId64, e->map);
    }
    printf("}");
}

/* What has been collected, if it is anything; false after an error message. */
static bool print_collected(Map *m)
{
    if (m->json) {
        print_json(m);
    } else if (!print_human(m)) {
        return false;
    }
    m->first = false;
    return true;
}

/* Adds what comes next to what has been collected; false if it is of another kind. */
static bool merge(BdrvExtent *e, const BdrvExtent *next)
{
    const int shown = BDRV_BLOCK_DATA | BDRV_BLOCK_ZERO | BDRV_BLOCK_ALLOCATED |
                      BDRV_BLOCK_OFFSET_VALID;

    if (((e->status ^ next->status) & shown) || e->depth != next->depth ||
        ((e->status & BDRV_BLOCK_OFFSET_VALID) &&
         (e->file != next->file || e->map + e->bytes != next->map))) {
        return false;
    }
    e->bytes += next->bytes;
    return true;
}

static bool coroutine_fn map(BlockDriverState *bs, int64_t start, int64_t bytes, bool json)
{
    BdrvExtentWalk *walk = bdrv_extent_walk_new(bs);
    int64_t end = MIN(bdrv_length(bs), bytes > INT64_MAX - start ? INT64_MAX : start + bytes);
    Map m = { .json = json, .first = true, .start = start };
    bool ok = true;

    printf(json ? "[" : "%-16s%-16s%-16s%s\n", "Offset", "Length", "Mapped to", "File");
    for (int64_t offset = start; ok && offset < end;) {
        BdrvExtent next;
        int ret = bdrv_co_extent(walk, offset, end - offset, &next);

        if (ret < 0) {
            img_error("Failed to read image metadata: %s", strerror(-ret));
            ok = false;
            break;
        }
        if (offset == start) {
            m.extent = next;
        } else if (!merge(&m.extent, &next)) {
            ok = print_collected(&m);
            m.start = offset;
            m.extent = next;
        }
        offset += next.bytes;
    }
    ok = ok && print_collected(&m);
    if (ok && json) {
        puts("]");
    }
    bdrv_extent_walk_free(walk);
    return ok;
}

int coroutine_fn img_map(int argc, char **argv)
{
    static const struct option options[] = {
        IMG_COMMON_OPTIONS,
        { "format", required_argument, NULL, 'f' },
        { "output", required_argument, NULL, IMG_OPTION_OWN },
        { "force-share", no_argument, NULL, 'U' },
        { "start-offset", required_argument, NULL, 's' },
        { "max-length", required_argument, NULL, 'l' },
        { 0 },
    };
    BdrvOpenFile params = { .read_only = true };
    int64_t start = 0, bytes = INT64_MAX;
    const char *output = "human";
    BlockDriverState *bs;
    int c, ret = -1;
    bool json, ok;

    while (ret < 0 && (c = getopt_long(argc, argv, ":f:s:l:hU", options, NULL)) != -1) {
        if (c == IMG_OPTION_OWN) {
            output = optarg;
        } else if (c == 's') {
            ret = img_parse_number("start offset", optarg, 0, INT64_MAX, &start) ? -1 : 1;
        } else if (c == 'l') {
            ret = img_parse_number("max length", optarg, 0, INT64_MAX, &bytes) ? -1 : 1;
        } else {
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
    bs = img_open(&params);
    if (!bs) {
        return 1;
    }
    ok = map(bs, start, bytes, json);
    bdrv_co_unref(bs);
    return ok ? 0 : 1;
}
