/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kf-img commit: copies what an image has beyond one of its backing files into that, and then
 * empties it.  The chain is opened twice: to see which file takes the content, and then with that
 * one open for writing.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kf-img-int.h"
#include "qapi/error.h"

#define CHUNK (2 * 1024 * 1024)

typedef struct Commit {
    /* What the user said. */
    BdrvOpenFile params;
    const char *base;
    bool drop, progress, quiet;
    ImgRate rate;

    BlockDriverState *top, *bottom;
    BlockBackend *source, *target;
} Commit;

/* Whether the backing file stored in overlay is called name there. */
static bool coroutine_fn is_stored_name(BlockDriverState *overlay, const char *name)
{
    BdrvInfo info = { 0 };
    bool same;

    if (!overlay->drv->co_info || !overlay->drv->co_info(overlay, &info, NULL)) {
        return false;
    }
    same = info.backing_filename && !strcmp(info.backing_filename, name);
    qapi_free_ImageInfoSpecific(info.specific);
    return same;
}

/* Whether name means the backing file of overlay: as it is stored there, or a path from there. */
static bool coroutine_fn names_backing(BlockDriverState *overlay, const char *name)
{
    g_autofree char *full = bdrv_full_backing_filename(bdrv_filename(bdrv_file(overlay)), name);
    char *wanted, *found;
    bool same;

    if (is_stored_name(overlay, name)) {
        return true;
    }
    wanted = realpath(full, NULL);
    found = realpath(bdrv_filename(bdrv_backing(overlay)), NULL);
    same = wanted && found && !strcmp(wanted, found);
    free(wanted);
    free(found);
    return same;
}

/* How many files below the image the one is that takes the content. */
static bool coroutine_fn find_base(Commit *c)
{
    BdrvOpenFile params = c->params;
    BlockDriverState *bs, *b;
    bool found = false;
    int depth = 0;

    params.read_only = params.force_share = true;
    params.discard = false;
    bs = img_open(&params);
    if (!bs) {
        return false;
    }
    for (b = bs; bdrv_backing(b) && !found; b = bdrv_backing(b)) {
        depth++;
        found = !c->base || names_backing(b, c->base);
    }
    if (found && b->drv->only_reads) {
        img_error("Could not open '%s': Images of format '%s' cannot be written, only opened with "
                  "read-only=on", bdrv_filename(b), b->drv->name);
        found = false;
    } else if (!c->base && !found) {
        img_error("Image does not have a backing file");
    } else if (!found) {
        img_error("Did not find '%s' in the backing chain of '%s'", c->base, c->params.filename);
    }
    bdrv_co_unref(bs);
    c->params.writable_backing = depth;
    return found;
}

static bool coroutine_fn open_chain(Commit *c)
{
    c->top = img_open(&c->params);
    if (!c->top) {
        return false;
    }
    c->bottom = c->top;
    for (int i = 0; i < c->params.writable_backing && c->bottom; i++) {
        c->bottom = bdrv_backing(c->bottom);
    }
    if (!c->bottom) {
        img_error("The backing chain of '%s' has just changed", c->params.filename);
        return false;
    }
    c->target = img_backend(c->bottom, true);
    c->source = c->target ? img_backend(c->top, false) : NULL;
    return c->source != NULL;
}

static bool failed(const char *what, int64_t offset, int ret)
{
    img_error("error while %s at byte %" PRId64 ": %s", what, offset, strerror(-ret));
    return false;
}

static bool coroutine_fn copy_extent(Commit *c, int64_t offset, int64_t bytes, int status,
                                     uint8_t *buf)
{
    int ret;

    if (status & BDRV_BLOCK_ZERO) {
        ret = blk_co_pwrite_zeroes(c->target, offset, bytes, BDRV_REQ_MAY_UNMAP);
        return ret == 0 || failed("writing", offset, ret);
    }
    img_rate_wait(&c->rate, bytes);
    ret = blk_co_pread(c->source, offset, bytes, buf);
    if (ret < 0) {
        return failed("reading", offset, ret);
    }
    ret = blk_co_pwrite(c->target, offset, bytes, buf);
    return ret == 0 || failed("writing", offset, ret);
}

static bool coroutine_fn copy_content(Commit *c)
{
    int64_t length = bdrv_length(c->top);
    uint8_t *buf = g_aligned_alloc(1, CHUNK, 4096);
    bool ok = true;

    for (int64_t offset = 0, n; offset < length && ok; offset += n) {
        int ret = bdrv_co_block_status_above(c->top, c->bottom, offset, length - offset, &n);

        if (ret < 0) {
            ok = failed("reading block status", offset, ret);
            break;
        }
        if (ret & BDRV_BLOCK_ALLOCATED) {
            n = ret & BDRV_BLOCK_ZERO ? n : MIN(n, CHUNK);
            ok = copy_extent(c, offset, n, ret, buf);
        }
        img_progress((offset + n) * 100.0 / length);
    }
    g_aligned_free(buf);
    return ok;
}

static bool coroutine_fn commit_chain(Commit *c)
{
    int64_t length = bdrv_length(c->top);
    GError *err = NULL;
    int ret;

    if (bdrv_length(c->bottom) < length && !blk_co_truncate(c->target, length, &err)) {
        img_report(err, "");
        return false;
    }
    if (!copy_content(c)) {
        return false;
    }
    ret = blk_co_flush(c->target);
    if (ret < 0) {
        return failed("flushing", length, ret);
    }
    if (!c->drop) {
        ret = bdrv_co_make_empty(c->top);
        if (ret < 0) {
            img_error("Could not empty %s: %s", c->params.filename, strerror(-ret));
            return false;
        }
    }
    return true;
}

static int coroutine_fn commit(Commit *c)
{
    bool ok = false;

    if (find_base(c) && open_chain(c)) {
        img_progress_begin(c->progress && !c->quiet);
        ok = commit_chain(c);
        if (ok) {
            img_progress(100);
        }
        img_progress_end();
    }
    blk_co_free(c->source);
    blk_co_free(c->target);
    bdrv_co_unref(c->top);
    if (ok && !c->quiet) {
        puts("Image committed.");
    }
    return ok ? 0 : 1;
}

/* One option; -1 to go on, else the exit code. */
static int take_option(Commit *commit, int c, char **argv)
{
    switch (c) {
    case 't':
        if (!img_parse_cache(optarg, &commit->params)) {
            img_error("Invalid cache option: %s", optarg);
            return 1;
        }
        return -1;
    case 'b': /* then the image must stay as it is: what lies between becomes invalid */
        commit->base = optarg;
        commit->drop = true;
        return -1;
    case 'd':
        commit->drop = true;
        return -1;
    case 'p':
        commit->progress = true;
        return -1;
    case 'q':
        commit->quiet = true;
        return -1;
    case 'r':
        return img_parse_number("rate limit", optarg, 0, INT64_MAX, &commit->rate.limit) ? -1 : 1;
    default:
        return img_common_option(c, argv, &commit->params);
    }
}

int coroutine_fn img_commit(int argc, char **argv)
{
    static const struct option options[] = { IMG_COMMON_OPTIONS, { 0 } };
    Commit commit_args = { .params = { .discard = true } };
    int c, ret = -1;

    while (ret < 0 && (c = getopt_long(argc, argv, ":f:ht:b:dpqr:", options, NULL)) != -1) {
        ret = take_option(&commit_args, c, argv);
    }
    if (ret >= 0) {
        return ret;
    }
    if (optind != argc - 1) {
        return img_usage_error("Expecting one image file name");
    }
    commit_args.params.filename = argv[optind];
    return img_check_open_options(&commit_args.params) ? commit(&commit_args) : 1;
}
