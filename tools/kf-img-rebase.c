/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kf-img rebase: gives an image another backing file.  In safe mode what the former one shows
 * and the new one does not is copied to the image first, so that its content stays; with -u
 * only the name changes.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "kf-img-int.h"
#include "qapi/error.h"

#define CHUNK (2 * 1024 * 1024)

/* What the image has read through to, or is going to. */
typedef struct Side {
    BlockDriverState *bs; /* NULL: nothing */
    BlockBackend *blk;
    bool opened; /* here: a reference */
    const char *name;
    uint8_t *buf;
} Side;

typedef struct Rebase {
    /* What the user said. */
    BdrvOpenFile params, source_params;
    const char *backing, *backing_format;
    bool unsafe, progress, quiet;

    BlockDriverState *bs;
    BlockBackend *blk;
    Side old, new;
    BlockDriverState *common; /* in the former chain: the new one is this file */
    int64_t cluster;
} Rebase;

static bool failed(const char *what, int ret)
{
    img_error("%s: %s", what, strerror(-ret));
    return false;
}

/* How the part of a side that [offset, offset + *bytes) is looks: shortens it. */
static int coroutine_fn side_status(const Side *s, int64_t offset, int64_t *bytes)
{
    int64_t n;
    int ret;

    if (!s->bs || offset >= bdrv_length(s->bs)) {
        return BDRV_BLOCK_ZERO;
    }
    *bytes = MIN(*bytes, bdrv_length(s->bs) - offset);
    ret = bdrv_co_block_status_above(s->bs, NULL, offset, *bytes, &n);
    *bytes = ret < 0 ? *bytes : n;
    return ret;
}

static bool coroutine_fn side_read(const Side *s, int64_t offset, int64_t bytes, bool zero)
{
    int64_t n = s->bs && !zero ? MAX(MIN(bytes, bdrv_length(s->bs) - offset), 0) : 0;
    int ret = n ? blk_co_pread(s->blk, offset, n, s->buf) : 0;

    if (ret < 0) {
        g_autofree char *what = g_strdup_printf("error while reading from %s backing file",
                                                s->name);
        return failed(what, ret);
    }
    memset(s->buf + n, 0, bytes - n);
    return true;
}

/* Writes those clusters of the chunk that differ. */
static bool coroutine_fn write_differences(Rebase *r, int64_t offset, int64_t bytes)
{
    int ret = 0;

    for (int64_t at = 0, end; at < bytes && ret == 0; at = end) {
        bool zero;

        end = MIN(((offset + at) / r->cluster + 1) * r->cluster - offset, bytes);
        if (!memcmp(r->old.buf + at, r->new.buf + at, end - at)) {
            continue;
        }
        /* Without a backing file the image need not note that something is zero. */
        zero = r->old.bs && buffer_is_zero(r->old.buf + at, end - at);
        ret = zero ? blk_co_pwrite_zeroes(r->blk, offset + at, end - at, BDRV_REQ_MAY_UNMAP)
                   : blk_co_pwrite(r->blk, offset + at, end - at, r->old.buf + at);
    }
    return ret == 0 || failed("Error while writing to COW image", ret);
}

/* Copies what is needed of a range that the image itself does not have; sets *done. */
static bool coroutine_fn keep_range(Rebase *r, int64_t offset, int64_t bytes, int64_t *done)
{
    int old, new, ret;

    if (r->common && r->common == r->old.bs) {
        *done = bytes;
        return true;
    }
    if (r->common && offset < bdrv_length(r->old.bs)) {
        /* What comes from the new backing file in the former chain too stays as it is. */
        bytes = MIN(bytes, bdrv_length(r->old.bs) - offset);
        ret = bdrv_co_block_status_above(r->old.bs, r->common, offset, bytes, done);
        if (ret < 0) {
            return failed("error while reading image metadata", ret);
        }
        bytes = *done;
        if (!(ret & BDRV_BLOCK_ALLOCATED)) {
            return true;
        }
    }
    old = side_status(&r->old, offset, &bytes);
    new = old < 0 ? 0 : side_status(&r->new, offset, &bytes);
    if (old < 0 || new < 0) {
        return failed("error while reading image metadata", old < 0 ? old : new);
    }
    *done = bytes;
    if (old & new & BDRV_BLOCK_ZERO) {
        return true;
    }
    *done = bytes = MIN(bytes, CHUNK);
    return side_read(&r->old, offset, bytes, old & BDRV_BLOCK_ZERO) &&
           side_read(&r->new, offset, bytes, new & BDRV_BLOCK_ZERO) &&
           write_differences(r, offset, bytes);
}

static bool coroutine_fn keep_content(Rebase *r)
{
    int64_t length = bdrv_length(r->bs);

    for (int64_t offset = 0, n; offset < length; offset += n) {
        int ret = bdrv_co_block_status(r->bs, offset, length - offset, &n, NULL);

        if (ret < 0) {
            return failed("error while reading image metadata", ret);
        }
        if (!(ret & BDRV_BLOCK_ALLOCATED) && !keep_range(r, offset, n, &n)) {
            return false;
        }
        img_progress((offset + n) * 100.0 / length);
    }
    return true;
}

/* --- Opening ------------------------------------------------------------------------------ */

static bool open_side(Side *s, const char *name)
{
    s->name = name;
    s->buf = g_aligned_alloc(1, CHUNK, 4096);
    s->blk = s->bs ? img_backend(s->bs, false) : NULL;
    return !s->bs || s->blk;
}

static void coroutine_fn close_side(Side *s)
{
    blk_co_free(s->blk);
    if (s->opened) {
        bdrv_co_unref(s->bs);
    }
    g_aligned_free(s->buf);
}

static bool coroutine_fn open_new(Rebase *r)
{
    g_autofree char *full = NULL;
    GError *err = NULL;

    if (!*r->backing) {
        return true;
    }
    full = bdrv_full_backing_filename(bdrv_filename(bdrv_file(r->bs)), r->backing);
    for (BlockDriverState *b = bdrv_backing(r->bs); b && !r->common; b = bdrv_backing(b)) {
        if (!strcmp(bdrv_filename(b), full) &&
            (!r->backing_format || !strcmp(r->backing_format, bdrv_driver_name(b)))) {
            r->common = r->new.bs = b;
        }
    }
    if (r->common) {
        return true;
    }
    r->source_params.filename = full;
    r->source_params.format = r->backing_format;
    r->source_params.read_only = true;
    r->new.bs = bdrv_co_open_file_params(&r->source_params, main_aio_context(), &err);
    r->new.opened = true;
    if (!r->new.bs) {
        g_autofree char *prefix = g_strdup_printf("Could not open new backing file '%s': ",
                                                  r->backing);
        img_report(err, prefix);
    }
    return r->new.bs;
}

static bool coroutine_fn change_name(Rebase *r)
{
    const char *name = r->backing && *r->backing ? r->backing : NULL;
    int ret = bdrv_co_change_backing(r->bs, name, name ? r->backing_format : NULL);

    if (ret == -ENOSPC) {
        img_error("Could not change the backing file to '%s': No space left in the file header",
                  name);
    } else if (ret < 0) {
        img_error("Could not change the backing file to '%s': %s", name ? name : "",
                  strerror(-ret));
    }
    return ret >= 0;
}

static bool coroutine_fn find_cluster(Rebase *r)
{
    BdrvInfo info = { 0 };
    GError *err = NULL;

    if (!r->bs->drv->co_info(r->bs, &info, &err)) {
        img_report(err, "");
        return false;
    }
    qapi_free_ImageInfoSpecific(info.specific);
    r->cluster = info.cluster_size;
    return true;
}

static bool coroutine_fn rebase_open_image(Rebase *r)
{
    if (r->backing_format && !bdrv_driver_by_name(r->backing_format)) {
        img_error("Invalid format name: '%s'", r->backing_format);
        return false;
    }
    if (!r->bs->drv->co_change_backing) {
        return change_name(r); /* says that it cannot be done */
    }
    if (r->backing && *r->backing && !r->backing_format) {
        img_error("Could not change the backing file to '%s': backing format must be specified",
                  r->backing);
        return false;
    }
    if (!r->unsafe) {
        r->old.bs = bdrv_backing(r->bs);
        if (!open_new(r) || !open_side(&r->old, "old") || !open_side(&r->new, "new") ||
            !find_cluster(r)) {
            return false;
        }
        r->blk = img_backend(r->bs, true);
        if (!r->blk || !keep_content(r)) {
            return false;
        }
    }
    return change_name(r);
}

static int coroutine_fn rebase(Rebase *r)
{
    bool ok;

    r->params.no_backing = r->unsafe;
    r->bs = img_open(&r->params);
    if (!r->bs) {
        return 1;
    }
    img_progress_begin(r->progress && !r->quiet);
    ok = rebase_open_image(r);
    if (ok) {
        img_progress(100);
    }
    img_progress_end();
    blk_co_free(r->blk);
    close_side(&r->new);
    close_side(&r->old);
    bdrv_co_unref(r->bs);
    return ok ? 0 : 1;
}

/* --- Command line ------------------------------------------------------------------------- */

/* One option; -1 to go on, else the exit code. */
static int take_option(Rebase *r, int c, char **argv)
{
    switch (c) {
    case 'b':
        r->backing = optarg;
        return -1;
    case 'F':
        r->backing_format = optarg;
        return -1;
    case 'u':
        r->unsafe = true;
        return -1;
    case 'p':
        r->progress = true;
        return -1;
    case 'q':
        r->quiet = true;
        return -1;
    case 't':
        if (!img_parse_cache(optarg, &r->params)) {
            img_error("Invalid cache option: %s", optarg);
            return 1;
        }
        return -1;
    case 'T':
        if (!img_parse_cache(optarg, &r->source_params)) {
            img_error("Invalid source cache option: %s", optarg);
            return 1;
        }
        return -1;
    case 'U': /* for what is read; the image itself is written */
        r->source_params.force_share = true;
        return -1;
    default:
        return img_common_option(c, argv, &r->params);
    }
}

int coroutine_fn img_rebase(int argc, char **argv)
{
    static const struct option options[] = {
        IMG_COMMON_OPTIONS,
        { "force-share", no_argument, NULL, 'U' },
        { 0 },
    };
    Rebase r = { .params = { .discard = true } };
    int c, ret = -1;

    while (ret < 0 && (c = getopt_long(argc, argv, ":hf:F:b:upt:T:qU", options, NULL)) != -1) {
        ret = take_option(&r, c, argv);
    }
    if (ret >= 0) {
        return ret;
    }
    if (optind != argc - 1) {
        return img_usage_error("Expecting one image file name");
    }
    if (!r.unsafe && !r.backing) {
        return img_usage_error("Must specify backing file (-b) or use unsafe mode (-u)");
    }
    r.params.filename = argv[optind];
    return img_check_open_options(&r.params) ? rebase(&r) : 1;
}
