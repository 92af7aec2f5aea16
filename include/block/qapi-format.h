/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Facts about images as QAPI types, and the text that tools and HMP show of them.  The
 * texts are QEMU's, since programs parse them.
 */
#ifndef BLOCK_QAPI_FORMAT_H
#define BLOCK_QAPI_FORMAT_H

#include "block/block.h"
#include "block/snapshot.h"

/*
 * About bs and, with chain, its backing files.  NULL and errp on failure.  Coroutine in
 * the main thread; hops to the node's context.
 */
ImageInfo *coroutine_fn bdrv_co_image_info(BlockDriverState *bs, bool chain, GError **errp);
/* About the node, with its image.  The same rules. */
BlockDeviceInfo *coroutine_fn bdrv_co_device_info(BlockDriverState *bs, bool chain,
                                                  GError **errp);
SnapshotInfo *bdrv_snapshot_to_qapi(const BdrvSnapshotInfo *sn);

/* "196 KiB": three significant digits, below 1000.  A new string. */
char *bdrv_format_size(uint64_t bytes);
/* The table of qemu-img snapshot -l and info snapshots: lines end with '\n'. */
void bdrv_format_snapshot_header(GString *out);
void bdrv_format_snapshot_row(GString *out, const SnapshotInfo *sn);
/* The part of it about what only this format has, with its headline. */
void bdrv_format_specific_info(GString *out, const ImageInfoSpecific *specific);
/* What qemu-img info prints of one image, without its backing file. */
void bdrv_format_image_info(GString *out, const ImageInfo *info);

#endif
