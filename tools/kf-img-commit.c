/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kf-img commit: copies what an image has beyond one of its backing files into that, and then
 * empties it.  The chain is opened twice: to see what it is made of, and then from below, with
 * the file that takes the content open for writing.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "kf-img-int.h"
#include "qapi/error.h"

#define CHUNK (2 * 1024 * 1024)

typedef struct Layer {
    char *filename;
    const char *format;
} Layer;

typedef struct Commit {
    /* What the user said. */
    BdrvOpenFile params;
    const char *base;
    bool drop, progress, quiet;
    ImgRate rate;

    GArray *layers; /* Layer: below the image, the last one takes the content */
    GPtrArray *nodes; /* BlockDriverState: the same and the image, from below */
    BlockDriverState *top, *bottom;
    BlockBackend *source, *target;
} Commit;

static void clear_layer(gpointer layer)
{
    g_free(((Layer *)layer)->filename);
}

/* The names of the layers down to the one that takes the content. */
static bool coroutine_fn find_layers(Commit *c)
{
    BdrvOpenFile params = c->params;
    BlockDriverState *bs, *b;
    bool found = false;

    params.read_only = params.force_share = true;
    params.discard = false;
    bs = img_open(&params);
    if (!bs) {
        return false;
    }
    for (b = bdrv_backing(bs); b && !found; b = bdrv_backing(b)) {
        Layer layer = { g_strdup(bdrv_filename(b)), bdrv_driver_name(b) };

        g_array_append_val(c->layers, layer);
        found = !c->base || !strcmp(layer.filename, c->base);
    }
    if (!c->base && !found) {
        img_error("Image does not have a backing file");
    } else if (!found) {
        img_error("Did not find '%s' in the backing chain of '%s'", c->base, c->params.filename);
    }
    bdrv_co_unref(bs);
    return found;
}

/* Opens one layer over the last one. */
static bool coroutine_fn open_layer(Commit *c, const BdrvOpenFile *params)
{
    BdrvOpenFile p = *params;
    BlockDriverState *bs;

    p.backing = c->nodes->len ? c->nodes->pdata[c->nodes->len - 1] : NULL;
    bs = img_open(&p);
    if (!bs) {
        return false;
    }
    g_ptr_array_add(c->nodes, bs);
    return true;
}

static bool coroutine_fn open_chain(Commit *c)
{
    for (guint i = c->layers->len; i-- > 0;) {
        const Layer *layer = &g_array_index(c->layers, Layer, i);
        BdrvOpenFile params = {
            .filename = layer->filename,
            .format = layer->format,
            .read_only = i + 1 < c->layers->len,
            .discard = true,
            .direct = c->params.direct,
            .no_flush = c->params.no_flush,
        };

        if (!open_layer(c, &params)) {
            return false;
        }
    }
    if (!open_layer(c, &c->params)) {
        return false;
    }
    c->bottom = c->nodes->pdata[0];
    c->top = c->nodes->pdata[c->nodes->len - 1];
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

    c->layers = g_array_new(false, false, sizeof(Layer));
    g_array_set_clear_func(c->layers, clear_layer);
    c->nodes = g_ptr_array_new();
    if (find_layers(c) && open_chain(c)) {
        img_progress_begin(c->progress && !c->quiet);
        ok = commit_chain(c);
        if (ok) {
            img_progress(100);
        }
        img_progress_end();
    }
    blk_co_free(c->source);
    blk_co_free(c->target);
    while (c->nodes->len) {
        bdrv_co_unref(g_ptr_array_steal_index(c->nodes, c->nodes->len - 1));
    }
    g_ptr_array_unref(c->nodes);
    g_array_unref(c->layers);
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
