/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Opening by file name, for tools, -drive and backing files: finds out the format and
 * builds the same BlockdevOptions that a user would write.  Main thread, except where a
 * driver calls from its node's context.
 */
#include <stdio.h>
#include <string.h>
#include "graph-int.h"
#include "qapi/error.h"
#include "qapi/qapi-visit-block-core.h"

#define PROBE_BYTES 2048

char *bdrv_full_backing_filename(const char *image, const char *backing)
{
    bool has_protocol = backing[strcspn(backing, ":/")] == ':';
    g_autofree char *dir = NULL;
    const char *slash = strrchr(image, '/');

    if (has_protocol || *backing == '/' || !slash || g_str_has_prefix(image, "json:")) {
        return g_strdup(backing);
    }
    dir = g_strndup(image, slash - image);
    return g_strdup_printf("%s/%s", dir, backing);
}

static BlockDriverState *coroutine_fn open_by_name(const char *filename, const char *format,
                                                   BdrvInherit *inherit, const char *node_name,
                                                   AioContext *ctx, GError **errp);
static BlockDriverState *coroutine_fn open_protocol(const char *filename,
                                                    const BdrvInherit *inherit,
                                                    const char *node_name, AioContext *ctx,
                                                    GError **errp);

/* "blkverify:RAW:TEST": two file names; the format of the second is found out. */
static BlockDriverState *coroutine_fn open_blkverify(const char *names, const BdrvInherit *inherit,
                                                     const char *node_name, AioContext *ctx,
                                                     GError **errp)
{
    BlockdevOptions o = { .driver = BLOCKDEV_DRIVER_BLKVERIFY, .node_name = (char *)node_name };
    BdrvInherit below = *inherit, both = *inherit;
    const char *colon = strchr(names, ':');
    g_autofree char *raw = colon ? g_strndup(names, colon - names) : NULL;
    BlockDriverState *bs = NULL;

    if (!colon) {
        error_setg(errp, "blkverify requires raw copy and original image path");
        return NULL;
    }
    if (!bdrv_check_driver_by_image(BLOCKDEV_DRIVER_BLKVERIFY, inherit, errp)) {
        return NULL;
    }
    if (++below.verifiers > BDRV_MAX_PROTOCOLS) {
        error_setg(errp, "More than %d protocols in one file name", BDRV_MAX_PROTOCOLS);
        return NULL;
    }
    below.depth++;
    both.file = open_protocol(raw, &below, NULL, ctx, errp);
    both.data = both.file ? open_by_name(colon + 1, NULL, &below, NULL, ctx, errp) : NULL;
    if (both.data) {
        bs = bdrv_co_open_node(&o, &both, ctx, errp);
    }
    bdrv_co_unref(both.data);
    bdrv_co_unref(both.file);
    return bs;
}

static BlockDriverState *coroutine_fn open_protocol(const char *filename,
                                                    const BdrvInherit *inherit,
                                                    const char *node_name, AioContext *ctx,
                                                    GError **errp)
{
    g_autoptr(BlockdevOptions) o = NULL;

    if (g_str_has_prefix(filename, "blkverify:")) {
        return open_blkverify(filename + strlen("blkverify:"), inherit, node_name, ctx, errp);
    }
    o = bdrv_co_filename_options(filename, errp);
    if (!o) {
        return NULL;
    }
    o->node_name = g_strdup(node_name);
    return bdrv_co_open_node(o, inherit, ctx, errp);
}

const BlockDriver *coroutine_fn bdrv_co_probe_format(BlockDriverState *file, GError **errp)
{
    uint8_t buf[PROBE_BYTES] = { 0 };
    int64_t len = MIN(bdrv_length(file), PROBE_BYTES);
    BlockBackend *blk = blk_new("", file, false, errp);
    const BlockDriver *drv;
    int ret;

    if (!blk) {
        return NULL;
    }
    bdrv_co_move_to(file->ctx);
    ret = blk_co_pread(blk, 0, len, buf);
    bdrv_co_move_to(main_aio_context());
    blk_co_free(blk);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not read image for determining its format");
        return NULL;
    }
    drv = bdrv_probe(buf, len, bdrv_filename(file));
    if (!drv) {
        error_setg(errp, "Image is in LUKS format, which is not supported: there is no encryption "
                   "(format 'raw' takes it as it is)");
    }
    return drv;
}

/* Opens format drv over the open protocol node. */
static BlockDriverState *coroutine_fn open_format(BlockDriverState *file, const BlockDriver *drv,
                                                  const BdrvInherit *inherit,
                                                  const char *node_name, GError **errp)
{
    BlockdevOptions o = { .node_name = (char *)node_name };
    BdrvInherit over = *inherit;
    int driver = qapi_enum_parse(&BlockdevDriver_lookup, drv->name, -1, errp);

    if (driver < 0) {
        return NULL;
    }
    o.driver = driver;
    over.file = file;
    return bdrv_co_open_node(&o, &over, file->ctx, errp);
}

void bdrv_warn_about_probed_raw(const char *filename)
{
    fprintf(stderr,
            "WARNING: Image format was not specified for '%s' and probing guessed raw.\n"
            "         Automatically detecting the format is dangerous for raw images, write "
            "operations on block 0 will be restricted.\n"
            "         Specify the 'raw' format explicitly to remove the restrictions.\n",
            filename);
}

static BlockDriverState *coroutine_fn open_by_name(const char *filename, const char *format,
                                                   BdrvInherit *inherit, const char *node_name,
                                                   AioContext *ctx, GError **errp)
{
    const BlockDriver *drv = format ? bdrv_driver_by_name(format) : NULL;
    BdrvInherit below = *inherit;
    BlockDriverState *file, *bs = NULL;

    if (format && !drv) {
        error_setg(errp, "Unknown driver '%s'", format);
        return NULL;
    }
    if (g_str_has_prefix(filename, "json:")) {
        return bdrv_co_open_json(filename + strlen("json:"), format, inherit, ctx, errp);
    }
    below.is_root = false;
    below.writable_backing = 0;
    below.depth++;
    if (drv && !drv->is_format) {
        return open_protocol(filename, inherit, node_name, ctx, errp);
    }
    below.discard = true;
    file = open_protocol(filename, &below, NULL, ctx, errp);
    if (!file) {
        return NULL;
    }
    if (!drv) {
        drv = bdrv_co_probe_format(file, errp);
        inherit->probed = drv == &bdrv_raw_driver && !inherit->read_only;
        if (inherit->probed && !inherit->overlay) {
            bdrv_warn_about_probed_raw(filename);
        }
    }
    if (drv) {
        bs = open_format(file, drv, inherit, node_name, errp);
    }
    bdrv_co_unref(file);
    return bs;
}

BlockDriverState *coroutine_fn bdrv_co_open_file_params(const BdrvOpenFile *params,
                                                        AioContext *ctx, GError **errp)
{
    BdrvInherit inherit = {
        .is_root = true,
        .read_only = params->read_only,
        .direct = params->direct,
        .no_flush = params->no_flush,
        .threads = params->threads,
        .force_share = params->force_share,
        .no_backing = params->no_backing,
        .no_io = params->no_backing,
        .for_check = params->for_check,
        .for_repair = params->for_repair,
        .discard = params->discard,
        .writable_backing = params->writable_backing,
        .by_image = params->from_image,
        .exclusive = !params->no_backing, /* who opens no more than the head does no I/O */
    };

    GLOBAL_STATE();
    if (params->is_options) {
        return bdrv_co_open_options(params->filename, &inherit, ctx, errp);
    }
    return open_by_name(params->filename, params->format, &inherit, params->node_name, ctx, errp);
}

BlockDriverState *coroutine_fn bdrv_co_open_file(const char *filename, const char *format,
                                                 bool read_only, AioContext *ctx,
                                                 GError **errp)
{
    BdrvOpenFile params = {
        .filename = filename,
        .format = format,
        .read_only = read_only,
        .discard = true,
    };

    return bdrv_co_open_file_params(&params, ctx, errp);
}

/* A chain that comes back to itself would never end; one may do so under ever new names, which
 * ends where nodes are nested too deeply. */
static bool check_chain(BlockDriverState *bs, const char *filename, GError **errp)
{
    for (; bs; bs = bs->overlay) {
        if (!strcmp(bdrv_filename(bs->file->bs), filename)) {
            error_setg(errp, "Backing file '%s' creates an infinite loop.", filename);
            return false;
        }
    }
    return true;
}

bool coroutine_fn bdrv_co_open_backing(BlockDriverState *bs, const char *filename,
                                       const char *format, GError **errp)
{
    g_autofree char *full = NULL;
    BdrvInherit inherit = {
        .read_only = bs->writable_backing != 1,
        .direct = bs->cache_direct,
        .no_flush = bs->cache_no_flush,
        .threads = bs->aio_threads,
        .force_share = bs->force_share,
        .discard = bs->writable_backing == 1,
        .writable_backing = MAX(bs->writable_backing - 1, 0),
        .exclusive = true,
        .by_image = true,
        .depth = bs->depth + 1,
        .overlay = bs,
    };
    BlockDriverState *backing = NULL;
    GError *err = NULL;

    IO_CODE(bs);
    if (bs->backing || bs->no_backing) {
        return true;
    }
    full = bdrv_full_backing_filename(bdrv_filename(bs->file->bs), filename);
    bdrv_co_move_to(main_aio_context());
    if (check_chain(bs, full, &err)) {
        backing = open_by_name(full, format, &inherit, NULL, bs->ctx, &err);
    }
    if (backing) {
        bs->backing = bdrv_attach_child(backing, bs, NULL, BDRV_CHILD_BACKING, false, &err);
        bdrv_co_unref(backing);
    }
    bdrv_co_move_to(bs->ctx);
    if (err) {
        g_propagate_prefixed_error(errp, err, "Could not open backing file: ");
        return false;
    }
    return true;
}

bool coroutine_fn bdrv_co_open_data_file(BlockDriverState *bs, const char *filename, GError **errp)
{
    BdrvInherit inherit = {
        .read_only = bs->read_only,
        .direct = bs->cache_direct,
        .no_flush = bs->cache_no_flush,
        .threads = bs->aio_threads,
        .force_share = bs->force_share,
        .discard = true,
        .depth = bs->depth + 1,
    };
    g_autoptr(BlockdevOptions) o = NULL;
    BlockDriverState *data;

    IO_CODE(bs);
    if (bs->data_file) {
        return true;
    }
    bdrv_co_move_to(main_aio_context());
    o = bdrv_co_plain_options(filename);
    data = bdrv_co_open_node(o, &inherit, bs->ctx, errp);
    if (data) {
        bs->data_file = bdrv_attach_child(data, bs, NULL, BDRV_CHILD_DATA, !bs->read_only, errp);
        bdrv_co_unref(data);
    }
    bdrv_co_move_to(bs->ctx);
    return bs->data_file != NULL;
}
