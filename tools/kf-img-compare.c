/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kf-img compare: whether two images have the same content.  Exit codes: 0 identical,
 * 1 different, or wrong arguments, 2 cannot open, 3 cannot examine, 4 cannot read.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "kf-img-int.h"

#define SECTOR 512
#define CHUNK (2 * 1024 * 1024)

typedef struct Side {
    const char *filename;
    BlockDriverState *bs;
    BlockBackend *blk;
    int64_t length;
    uint8_t *buf;
    int status;    /* of the range at hand */
    int64_t count; /* bytes with that status */
} Side;

typedef struct Compare {
    Side side[2];
    bool strict, quiet;
} Compare;

static void say(const Compare *c, const char *format, ...) G_GNUC_PRINTF(2, 3);
static void say(const Compare *c, const char *format, ...)
{
    va_list ap;

    if (!c->quiet) {
        va_start(ap, format);
        vprintf(format, ap);
        va_end(ap);
    }
}

static bool coroutine_fn open_side(Side *s, const BdrvOpenFile *params)
{
    s->filename = params->filename;
    s->bs = img_open(params);
    s->blk = s->bs ? img_backend(s->bs, false) : NULL;
    if (!s->blk) {
        return false;
    }
    s->length = bdrv_length(s->bs);
    s->buf = g_malloc(CHUNK);
    return true;
}

static void coroutine_fn close_side(Side *s)
{
    blk_co_free(s->blk);
    bdrv_co_unref(s->bs);
    g_free(s->buf);
}

static bool coroutine_fn get_status(Side *s, int64_t offset, int64_t bytes)
{
    s->status = bdrv_co_block_status_above(s->bs, NULL, offset, bytes, &s->count);
    if (s->status < 0) {
        img_error("Sector allocation test failed for %s", s->filename);
    }
    return s->status >= 0;
}

/* Fills buf unless the range is known to be zero. */
static bool coroutine_fn read_side(Side *s, int64_t offset, int64_t bytes)
{
    int ret;

    if (s->status & BDRV_BLOCK_ZERO) {
        memset(s->buf, 0, bytes);
        return true;
    }
    ret = blk_co_pread(s->blk, offset, bytes, s->buf);
    if (ret < 0) {
        img_error("Error while reading offset %" PRId64 " of %s: %s", offset, s->filename,
                  strerror(-ret));
    }
    return ret >= 0;
}

/* The first sector that differs between a and b, or bytes. */
static int64_t first_difference(const uint8_t *a, const uint8_t *b, int64_t bytes)
{
    for (int64_t pos = 0; pos < bytes; pos += SECTOR) {
        if (memcmp(a + pos, b + pos, MIN(SECTOR, bytes - pos))) {
            return pos;
        }
    }
    return bytes;
}

/* The part that both have.  -1: the same so far; else the exit code. */
static int coroutine_fn compare_common(Compare *c, int64_t common, int64_t total)
{
    Side *a = &c->side[0], *b = &c->side[1];

    for (int64_t offset = 0, n; offset < common; offset += n) {
        if (!get_status(a, offset, common - offset) || !get_status(b, offset, common - offset)) {
            return 3;
        }
        n = MIN(a->count, b->count);
        if (c->strict && a->status != b->status) {
            say(c, "Strict mode: Offset %" PRId64 " block status mismatch!\n", offset);
            return 1;
        }
        if (!(a->status & b->status & BDRV_BLOCK_ZERO)) {
            int64_t at;

            n = MIN(n, CHUNK);
            if (!read_side(a, offset, n) || !read_side(b, offset, n)) {
                return 4;
            }
            at = first_difference(a->buf, b->buf, n);
            if (at < n) {
                say(c, "Content mismatch at offset %" PRId64 "!\n", offset + at);
                return 1;
            }
        }
        img_progress((offset + n) * 100.0 / total);
    }
    return -1;
}

/* What the longer image has behind the other's end must be zero. */
static int coroutine_fn compare_rest(Compare *c, int64_t common, int64_t total)
{
    Side *s = &c->side[c->side[0].length < total];
    Side *other = &c->side[c->side[0].length >= total];

    say(c, "Warning: Image size mismatch!\n");
    memset(other->buf, 0, CHUNK);
    for (int64_t offset = common, n; offset < total; offset += n) {
        if (!get_status(s, offset, total - offset)) {
            return 3;
        }
        n = s->count;
        if (!(s->status & BDRV_BLOCK_ZERO)) {
            int64_t at;

            n = MIN(n, CHUNK);
            if (!read_side(s, offset, n)) {
                return 4;
            }
            at = first_difference(s->buf, other->buf, n);
            if (at < n) {
                say(c, "Content mismatch at offset %" PRId64 "!\n", offset + at);
                return 1;
            }
        }
        img_progress((offset + n) * 100.0 / total);
    }
    return -1;
}

static int coroutine_fn compare(Compare *c)
{
    int64_t common = MIN(c->side[0].length, c->side[1].length);
    int64_t total = MAX(c->side[0].length, c->side[1].length);
    int ret;

    if (c->strict && common != total) {
        say(c, "Strict mode: Image size mismatch!\n");
        return 1;
    }
    ret = compare_common(c, common, total);
    if (ret < 0 && common != total) {
        ret = compare_rest(c, common, total);
    }
    if (ret < 0) {
        img_progress(100);
        say(c, "Images are identical.\n");
        ret = 0;
    }
    return ret;
}

int coroutine_fn img_compare(int argc, char **argv)
{
    static const struct option options[] = {
        IMG_COMMON_OPTIONS,
        { "force-share", no_argument, NULL, 'U' },
        { 0 },
    };
    BdrvOpenFile params = { .read_only = true };
    const char *formats[2] = { NULL, NULL };
    Compare cmp = { 0 };
    bool progress = false;
    int c, ret = -1;

    while (ret < 0 && (c = getopt_long(argc, argv, ":hf:F:T:pqsU", options, NULL)) != -1) {
        switch (c) {
        case 'f':
        case 'F':
            formats[c == 'F'] = optarg;
            break;
        case 'T':
            if (!img_parse_cache(optarg, &params)) {
                img_error("Invalid source cache option: %s", optarg);
                return 2;
            }
            break;
        case 'p':
            progress = true;
            break;
        case 'q':
            cmp.quiet = true;
            break;
        case 's':
            cmp.strict = true;
            break;
        case IMG_OPTION_OBJECT:
            img_common_option(c, argv, &params);
            ret = 2;
            break;
        default:
            ret = img_common_option(c, argv, &params);
        }
    }
    if (ret >= 0) {
        return ret;
    }
    if (optind != argc - 2) {
        return img_usage_error("Expecting two image file names");
    }
    params.format = formats[0] ? formats[0] : formats[1];
    if (!img_check_open_options(&params)) {
        return 2;
    }
    img_progress_begin(progress && !cmp.quiet);
    for (int i = 0; i < 2 && ret < 0; i++) {
        params.filename = argv[optind + i];
        params.format = formats[i];
        ret = open_side(&cmp.side[i], &params) ? -1 : 2;
    }
    if (ret < 0) {
        ret = compare(&cmp);
    }
    img_progress_end();
    close_side(&cmp.side[1]);
    close_side(&cmp.side[0]);
    return ret;
}
