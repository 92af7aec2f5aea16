/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The qemu-io commands about an image as a whole and ranges of it: flush, discard, alloc, map,
 * info, length, truncate.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "block/qapi-format.h"
#include "io-cmd-int.h"
#include "qapi/error.h"

static int coroutine_fn run_flush(IoSession *s, int argc, char **argv)
{
    int ret;

    bdrv_co_move_to(bdrv_context(blk_bs(s->blk)));
    ret = blk_co_flush(s->blk);
    bdrv_co_move_to(main_aio_context());
    return ret;
}

static int coroutine_fn run_discard(IoSession *s, int argc, char **argv)
{
    IoReport report = { .verb = "discard" };
    int64_t offset, bytes;
    int c, ret;

    optind = 0;
    while ((c = getopt(argc, argv, "Cq")) != -1) {
        switch (c) {
        case 'C':
            report.machine = true;
            break;
        case 'q':
            report.quiet = true;
            break;
        default:
            return io_command_usage(s, argv[0], NULL);
        }
    }
    if (optind != argc - 2) {
        return io_command_usage(s, argv[0], NULL);
    }
    if (!io_parse_bytes(s, argv[optind], &offset) || !io_parse_bytes(s, argv[optind + 1], &bytes)) {
        return -EINVAL;
    }
    if (bytes > IO_CMD_MAX_BYTES) {
        io_printf(s, "length cannot exceed %d, given %s\n", IO_CMD_MAX_BYTES, argv[optind + 1]);
        return -EINVAL;
    }
    report.start_ns = clock_now_ns();
    bdrv_co_move_to(bdrv_context(blk_bs(s->blk)));
    ret = blk_co_pdiscard(s->blk, offset, bytes);
    bdrv_co_move_to(main_aio_context());
    if (ret < 0) {
        io_printf(s, "discard failed: %s\n", strerror(-ret));
    } else {
        io_report(s, &report, offset, bytes);
    }
    return ret;
}

/* --- What is allocated ------------------------------------------------------------------------ */

/*
 * Whether this layer decides the content at offset, and for how many of the bytes that holds.
 * *pnum is 0 at the end of the image.  In the node's home.  -errno on failure.
 */
static int coroutine_fn get_allocated(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                      int64_t *pnum)
{
    int64_t done = 0;
    int first = -1;

    while (done < bytes) {
        int64_t n;
        int ret = bdrv_co_block_status(bs, offset + done, bytes - done, &n, NULL);

        if (ret < 0) {
            return ret;
        }
        ret = (ret & BDRV_BLOCK_ALLOCATED) != 0;
        if (n == 0 || (first >= 0 && ret != first)) {
            break;
        }
        first = ret;
        done += n;
    }
    *pnum = done;
    return MAX(first, 0);
}

static int coroutine_fn run_alloc(IoSession *s, int argc, char **argv)
{
    BlockDriverState *bs = blk_bs(s->blk);
    int64_t offset, bytes = 512, sum = 0, length = bdrv_length(bs), n = 0;
    g_autofree char *where = NULL;
    int ret = 0;

    if (!io_parse_bytes(s, argv[1], &offset) ||
        (argc == 3 && !io_parse_bytes(s, argv[2], &bytes))) {
        return -EINVAL;
    }
    bytes = offset < length ? MIN(bytes, length - offset) : 0;
    bdrv_co_move_to(bdrv_context(bs));
    for (int64_t done = 0; done < bytes && ret >= 0; done += n) {
        ret = get_allocated(bs, offset + done, bytes - done, &n);
        sum += ret > 0 ? n : 0;
        if (n == 0) {
            break;
        }
    }
    bdrv_co_move_to(main_aio_context());
    if (ret < 0) {
        io_printf(s, "is_allocated failed: %s\n", strerror(-ret));
        return ret;
    }
    where = io_format_size(offset);
    io_printf(s, "%" PRId64 "/%" PRId64 " bytes allocated at offset %s\n", sum, bytes, where);
    return 0;
}

static int coroutine_fn run_map(IoSession *s, int argc, char **argv)
{
    BlockDriverState *bs = blk_bs(s->blk);
    int64_t length = bdrv_length(bs), n;

    for (int64_t offset = 0; offset < length; offset += n) {
        g_autofree char *size = NULL, *where = NULL;
        int ret;

        bdrv_co_move_to(bdrv_context(bs));
        ret = get_allocated(bs, offset, length - offset, &n);
        bdrv_co_move_to(main_aio_context());
        if (ret < 0) {
            io_complain(s, "Failed to get allocation status: %s", strerror(-ret));
            return ret;
        }
        if (n == 0) {
            io_complain(s, "Unexpected end of image");
            return -EIO;
        }
        size = io_format_size(n);
        where = io_format_size(offset);
        io_printf(s, "%s (0x%" PRIx64 ") bytes %s allocated at offset %s (0x%" PRIx64 ")\n", size,
                  n, ret ? "   " : "not", where, offset);
    }
    return 0;
}

/* --- The image as a whole --------------------------------------------------------------------- */

/* What the user has opened, without what has been put over it. */
static BlockDriverState *opened_node(IoSession *s)
{
    BlockDriverState *bs = blk_bs(s->blk);

    return s->copy_on_read ? bdrv_file(bs) : bs;
}

/* The numbers of the image below a filter are the filter's too; what only a format has is not. */
static int coroutine_fn run_info(IoSession *s, int argc, char **argv)
{
    BlockDriverState *bs = opened_node(s), *image = bdrv_skip_filters(bs);
    g_autofree char *cluster = NULL, *state = NULL;
    BdrvInfo info = { 0 };
    GError *err = NULL;
    bool ok = true;

    bdrv_co_move_to(bdrv_context(bs));
    if (image->drv->co_info) {
        ok = image->drv->co_info(image, &info, &err);
    }
    bdrv_co_move_to(main_aio_context());
    if (!ok) {
        io_complain(s, "%s", err->message);
        g_error_free(err);
        return -EIO;
    }
    cluster = io_format_size(info.cluster_size);
    state = io_format_size(info.vm_state_offset);
    io_printf(s, "format name: %s\ncluster size: %s\nvm state offset: %s\n",
              bdrv_driver_name(bs), cluster, state);
    if (info.specific && image == bs) {
        GString *text = g_string_new(NULL);

        bdrv_format_specific_info(text, info.specific);
        io_print_monitor(s, text->str);
        g_string_free(text, true);
    }
    qapi_free_ImageInfoSpecific(info.specific);
    return 0;
}

static int coroutine_fn run_length(IoSession *s, int argc, char **argv)
{
    g_autofree char *text = io_format_size(bdrv_length(blk_bs(s->blk)));

    io_printf(s, "%s\n", text);
    return 0;
}

static int coroutine_fn run_truncate(IoSession *s, int argc, char **argv)
{
    GError *err = NULL;
    int64_t length;
    int mode = PREALLOC_MODE_OFF;
    bool ok;
    int c;

    optind = 0;
    while ((c = getopt(argc, argv, "m:")) != -1) {
        if (c != 'm') {
            return io_command_usage(s, argv[0], NULL);
        }
        mode = qapi_enum_parse(&PreallocMode_lookup, optarg, 0, NULL);
        if (mode < 0) {
            io_complain(s, "Invalid preallocation mode '%s'", optarg);
            return -EINVAL;
        }
    }
    if (optind != argc - 1) {
        return io_command_usage(s, argv[0], NULL);
    }
    if (!io_parse_bytes(s, argv[optind], &length)) {
        return -EINVAL;
    }
    ok = bdrv_co_resize(blk_bs(s->blk), length, false, mode, &err);
    if (!ok) {
        io_complain(s, "%s", err->message);
        g_error_free(err);
    }
    return ok ? 0 : -EIO;
}

const IoCommand io_image_commands[] = {
    { "alloc", "a", run_alloc, 1, 2, .args = "offset [count]",
      .summary = "checks if offset is allocated in the file" },
    { "discard", "d", run_discard, 2, -1, .writes = true, .args = "[-Cq] off len",
      .summary = "discards a number of bytes at a specified offset",
      .help = " Tells the image that len bytes at off are not needed any more.\n"
              " 'discard 512 1k' discards 1 KiB from the second sector on.\n\n"
              " -C, -- the result as values with commas in between\n"
              " -q, -- no line about the request\n" },
    { "flush", "f", run_flush, 0, 0, .summary = "flush all in-core file state to disk" },
    { "info", "i", run_info, 0, 0, .summary = "prints information about the current file" },
    { "length", "l", run_length, 0, 0, .summary = "gets the length of the current file" },
    { "map", NULL, run_map, 0, 0, .args = "", .summary = "prints the allocated areas of a file" },
    { "truncate", "t", run_truncate, 1, 3, .writes = true, .args = "[-m prealloc_mode] off",
      .summary = "truncates the current file at the given offset" },
    { 0 },
};
