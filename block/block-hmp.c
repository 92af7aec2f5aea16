/* SPDX-License-Identifier: GPL-2.0-or-later */
/* HMP commands of the block layer: QEMU's text over the QMP handlers' results. */
#include <inttypes.h>
#include <string.h>
#include "block/block-hmp.h"
#include "block/commit.h"
#include "block/qapi-format.h"
#include "io-cmd-int.h"
#include "qapi/qapi-commands-block-core.h"
#include "qapi/qapi-commands-block-stats.h"

static void coroutine_fn print_images(HMPSession *s, const ImageInfo *info)
{
    hmp_printf(s, "\nImages:\n");
    for (; info; info = info->backing_image) {
        GString *text = g_string_new(NULL);

        bdrv_format_image_info(text, info);
        hmp_printf(s, "%s", text->str);
        g_string_free(text, true);
    }
}

/* One device (info) or node (info NULL). */
static void coroutine_fn print_block(HMPSession *s, const BlockInfo *info,
                                     const BlockDeviceInfo *node, bool verbose)
{
    if (info && *info->device) {
        hmp_printf(s, "%s", info->device);
        if (node && node->node_name) {
            hmp_printf(s, " (%s)", node->node_name);
        }
    } else {
        hmp_printf(s, "%s", node && node->node_name ? node->node_name
                            : info && info->qdev    ? info->qdev
                                                    : "<anonymous>");
    }
    if (!node) {
        hmp_printf(s, ": [not inserted]\n");
        return;
    }
    hmp_printf(s, ": %s (%s%s%s)\n", node->file, node->drv, node->ro ? ", read-only" : "",
               node->encrypted ? ", encrypted" : "");
    if (info && info->qdev) {
        hmp_printf(s, "    Attached to:      %s\n", info->qdev);
    }
    if (info && info->removable) {
        hmp_printf(s, "    Removable device: %slocked, tray %s\n", info->locked ? "" : "not ",
                   info->tray_open ? "open" : "closed");
    }
    hmp_printf(s, "    Cache mode:       %s%s%s\n",
               node->cache->writeback ? "writeback" : "writethrough",
               node->cache->direct ? ", direct" : "",
               node->cache->no_flush ? ", ignore flushes" : "");
    if (node->backing_file) {
        hmp_printf(s, "    Backing file:     %s (chain depth: %" PRId64 ")\n",
                   node->backing_file, node->backing_file_depth);
    }
    if (node->detect_zeroes != BLOCKDEV_DETECT_ZEROES_OPTIONS_OFF) {
        hmp_printf(s, "    Detect zeroes:    %s\n",
                   BlockdevDetectZeroesOptions_str(node->detect_zeroes));
    }
    if (verbose) {
        print_images(s, node->image);
    }
}

static bool wanted(const BlockInfo *info, const char *name)
{
    return !name || !strcmp(info->device, name) || (info->qdev && !strcmp(info->qdev, name));
}

static void coroutine_fn hmp_info_block(HMPSession *s, const HMPArgs *args)
{
    const char *name = hmp_arg_str(args, "device");
    bool verbose = hmp_arg_flag(args, "verbose");
    bool nodes = hmp_arg_flag(args, "nodes");
    g_autoptr(BlockInfoList) devices = NULL;
    g_autoptr(BlockDeviceInfoList) named = NULL;
    bool printed = false;
    GError *err = NULL;

    if (!nodes) {
        devices = qmp_query_block(&err);
    }
    for (BlockInfoList *l = devices; l; l = l->next) {
        if (wanted(l->value, name)) {
            hmp_printf(s, "%s", printed ? "\n" : "");
            print_block(s, l->value, l->value->inserted, verbose);
            printed = true;
        }
    }
    if (!err && (nodes || (name && !printed))) {
        named = qmp_query_named_block_nodes(false, false, &err);
    }
    for (BlockDeviceInfoList *l = named; l; l = l->next) {
        if (!name || !strcmp(l->value->node_name, name)) {
            hmp_printf(s, "%s", printed || name ? "\n" : ""); /* as QEMU spaces it */
            print_block(s, NULL, l->value, verbose);
            printed = true;
        }
    }
    hmp_handle_error(s, err);
}

void coroutine_fn hmp_complete_block(HMPCompletion *c, int nr)
{
    for (BlockBackend *blk = blk_next(NULL); nr == 0 && blk; blk = blk_next(blk)) {
        if (*blk_name(blk)) {
            hmp_complete_add(c, blk_name(blk));
        }
    }
}

static void coroutine_fn hmp_block_resize(HMPSession *s, const HMPArgs *args)
{
    GError *err = NULL;

    qmp_block_resize(hmp_arg_str(args, "device"), NULL, hmp_arg_int(args, "size", 0), &err);
    hmp_handle_error(s, err);
}

/* --- commit ----------------------------------------------------------------------------- */

/* Ctrl-C. */
static void give_up(void *opaque)
{
    job_cancel(opaque, true);
}

static void commit_started(void *opaque, Job *job)
{
    hmp_set_interrupt(opaque, job ? give_up : NULL, job);
}

static void coroutine_fn hmp_commit(HMPSession *s, const HMPArgs *args)
{
    const char *name = hmp_arg_str(args, "device");
    BdrvCommitWatch watch = { commit_started, s };
    BlockBackend *blk = blk_by_name(name);
    GError *err = NULL;
    bool ok;

    if (strcmp(name, "all") && !blk) {
        hmp_printf(s, "Device '%s' not found\n", name);
        return;
    }
    ok = blk ? bdrv_co_commit(blk_bs(blk), &watch, &err) : bdrv_co_commit_all(&watch, &err);
    if (!ok) {
        hmp_printf(s, "'commit' error for '%s': %s\n", name, err->message);
        g_error_free(err);
    }
}

static void coroutine_fn complete_commit(HMPCompletion *c, int nr)
{
    hmp_complete_block(c, nr);
    if (nr == 0) {
        hmp_complete_add(c, "all");
    }
}

/* --- Snapshots of one device ------------------------------------------------------------- */

static void coroutine_fn hmp_snapshot_blkdev(HMPSession *s, const HMPArgs *args)
{
    BlockdevSnapshotSync arg = {
        .device = (char *)hmp_arg_str(args, "device"),
        .snapshot_file = (char *)hmp_arg_str(args, "snapshot-file"),
        .format = (char *)hmp_arg_str(args, "format"),
        .has_mode = true,
        .mode = hmp_arg_flag(args, "reuse") ? NEW_IMAGE_MODE_EXISTING
                                            : NEW_IMAGE_MODE_ABSOLUTE_PATHS,
    };
    GError *err = NULL;

    if (!arg.snapshot_file) {
        hmp_printf(s, "Error: Parameter 'snapshot-file' is missing\n");
        return;
    }
    qmp_blockdev_snapshot_sync(&arg, &err);
    hmp_handle_error(s, err);
}

static void coroutine_fn hmp_snapshot_blkdev_internal(HMPSession *s, const HMPArgs *args)
{
    BlockdevSnapshotInternal arg = {
        .device = (char *)hmp_arg_str(args, "device"),
        .name = (char *)hmp_arg_str(args, "name"),
    };
    GError *err = NULL;

    qmp_blockdev_snapshot_internal_sync(&arg, &err);
    hmp_handle_error(s, err);
}

static void coroutine_fn hmp_snapshot_delete_blkdev_internal(HMPSession *s, const HMPArgs *args)
{
    GError *err = NULL;

    qapi_free_SnapshotInfo(qmp_blockdev_snapshot_delete_internal_sync(
        hmp_arg_str(args, "device"), hmp_arg_str(args, "id"), hmp_arg_str(args, "name"), &err));
    hmp_handle_error(s, err);
}

/* The device, then a file. */
static void coroutine_fn complete_snapshot_blkdev(HMPCompletion *c, int nr)
{
    hmp_complete_block(c, nr);
    if (nr == 1) {
        hmp_complete_files(c);
    }
}

static void coroutine_fn hmp_info_blockstats(HMPSession *s, const HMPArgs *args)
{
    BlockStatsList *list = qmp_query_blockstats(false, false, NULL);

    for (BlockStatsList *l = list; l; l = l->next) {
        const BlockDeviceStats *d = l->value->stats;

        hmp_printf(s, "%s: rd_bytes=%" PRId64 " wr_bytes=%" PRId64 " rd_operations=%" PRId64
                      " wr_operations=%" PRId64 " flush_operations=%" PRId64, l->value->device,
                   d->rd_bytes, d->wr_bytes, d->rd_operations, d->wr_operations,
                   d->flush_operations);
        hmp_printf(s, " wr_total_time_ns=%" PRId64 " rd_total_time_ns=%" PRId64
                      " flush_total_time_ns=%" PRId64 " rd_merged=%" PRId64 " wr_merged=%" PRId64
                      " idle_time_ns=%" PRId64 "\n", d->wr_total_time_ns, d->rd_total_time_ns,
                   d->flush_total_time_ns, d->rd_merged, d->wr_merged, d->idle_time_ns);
    }
    qapi_free_BlockStatsList(list);
}

const HMPCommand block_hmp_commands[] = {
    {
        .name = "commit",
        .args_type = "device:B",
        .params = "device|all",
        .help = "commit changes to the disk images (if -snapshot is used) or backing files",
        .handler = hmp_commit,
        .complete = complete_commit,
    },
    {
        .name = "block_resize",
        .args_type = "device:B,size:o",
        .params = "device size",
        .help = "resize a block image",
        .handler = hmp_block_resize,
        .complete = hmp_complete_block,
    },
    {
        .name = "snapshot_blkdev",
        .args_type = "reuse:-n,device:B,snapshot-file:s?,format:s?",
        .params = "[-n] device [new-image-file] [format]",
        .help = "initiates a live snapshot\n\t\t\t"
                "of device: new-image-file becomes the new root image.\n\t\t\t"
                "The default format is qcow2.  The -n flag requests\n\t\t\t"
                "to reuse the image found in new-image-file, instead of\n\t\t\t"
                "recreating it from scratch.",
        .handler = hmp_snapshot_blkdev,
        .complete = complete_snapshot_blkdev,
    },
    {
        .name = "snapshot_blkdev_internal",
        .args_type = "device:B,name:s",
        .params = "device name",
        .help = "take an internal snapshot of device",
        .handler = hmp_snapshot_blkdev_internal,
        .complete = hmp_complete_block,
    },
    {
        .name = "snapshot_delete_blkdev_internal",
        .args_type = "device:B,name:s,id:s?",
        .params = "device name [id]",
        .help = "delete an internal snapshot of device",
        .handler = hmp_snapshot_delete_blkdev_internal,
        .complete = hmp_complete_block,
    },
    {
        .name = "qemu-io",
        .args_type = "qdev:-d,device:B,command:s",
        .params = "[-d] [device] \"[command]\"",
        .help = "run a qemu-io command on a block device\n\t\t\t"
                "-d: [device] is a device ID rather than a drive ID or node name",
        .handler = hmp_qemu_io,
    },
    {
        .name = "info blockstats",
        .args_type = "",
        .params = "",
        .help = "show block device statistics",
        .handler = hmp_info_blockstats,
    },
    {
        .name = "info block",
        .args_type = "nodes:-n,verbose:-v,device:B?",
        .params = "[-n] [-v] [device]",
        .help = "show info of one block device or all block devices (-n: show named nodes; -v: "
                "show details)",
        .handler = hmp_info_block,
        .complete = hmp_complete_block,
    },
    { 0 },
};
