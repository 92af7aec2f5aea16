/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * VMware's disk images (VMDK) for reading: one file with descriptor and sparse extent
 * (monolithicSparse, streamOptimized), or a descriptor that names one extent in another file,
 * flat or sparse.  A disk may have a parent, which is a backing file here.  Sections are those
 * of "Virtual Disk Format 5.0".
 */
#include <inttypes.h>
#include "qapi/error.h"
#include "vmdk.h"

#define DESCRIPTOR_FILE_MAX (1 << 20)
#define HEAD 2048 /* bytes by which a file is recognised */

static int vmdk_probe(const uint8_t *buf, size_t len, const char *filename)
{
    /* "COWD": "ESXi Host Sparse Extents"; recognised, so that nobody takes them for raw. */
    return (len >= 4 && (!memcmp(buf, VMDK_MAGIC, 4) || !memcmp(buf, "COWD", 4))) ||
                   vmdk_is_descriptor((const char *)buf, len)
               ? 100
               : 0;
}

static void state_clear(VmdkState *s)
{
    vmdk_descriptor_clear(&s->descriptor);
    mapped_destroy(&s->mapped);
}

static int coroutine_fn find_flat(BlockDriverState *bs, int64_t offset, MappedPart *part)
{
    VmdkState *s = bs->opaque;

    *part = (MappedPart){
        .kind = MAPPED_DATA,
        .bytes = s->capacity - offset,
        .host = s->start + offset,
    };
    return 0;
}

/* The text of the descriptor: bytes at offset of bs->file. */
static bool coroutine_fn load_descriptor(BlockDriverState *bs, uint64_t offset, size_t bytes,
                                         GError **errp)
{
    VmdkState *s = bs->opaque;
    g_autofree char *text = g_malloc(MAX(bytes, 1));

    return mapped_read_head(bs, offset, text, bytes, "VMDK descriptor", errp) &&
           vmdk_descriptor_parse(&s->descriptor, text, bytes, errp);
}

/* "Simple Extents": the file has the disk's bytes as they are. */
static bool open_flat(VmdkState *s, GError **errp)
{
    const VmdkDescriptor *d = &s->descriptor;

    if (d->extent_sectors > INT64_MAX / VMDK_SECTOR - d->extent_start) {
        error_setg(errp, "The VMDK extent of %" PRIu64 " sectors at %" PRIu64 " is too large",
                   d->extent_sectors, d->extent_start);
        return false;
    }
    s->is_flat = true;
    s->capacity = d->extent_sectors * VMDK_SECTOR;
    s->start = d->extent_start * VMDK_SECTOR;
    return true;
}

/* A descriptor that is a file of its own. */
static bool coroutine_fn open_apart(BlockDriverState *bs, GError **errp)
{
    VmdkState *s = bs->opaque;
    const VmdkDescriptor *d = &s->descriptor;
    g_autofree char *name = NULL;
    bool is_flat, is_sparse;

    if (bs->file->bs->length > DESCRIPTOR_FILE_MAX) {
        error_setg(errp, "The VMDK descriptor is too large");
        return false;
    }
    if (!load_descriptor(bs, 0, bs->file->bs->length, errp)) {
        return false;
    }
    if (d->extents != 1) {
        error_setg(errp, "The VMDK disk has %u extents in files of their own, and only disks of "
                   "one are supported", d->extents);
        return false;
    }
    is_flat = !strcmp(d->extent_type, "FLAT") || !strcmp(d->extent_type, "VMFS");
    is_sparse = !strcmp(d->extent_type, "SPARSE");
    if ((!is_flat && !is_sparse) || !d->extent_file) {
        error_setg(errp, "Unsupported VMDK extent type '%s'", d->extent_type);
        return false;
    }
    name = bdrv_full_backing_filename(bdrv_filename(bs->file->bs), d->extent_file);
    if (!bdrv_co_open_data_file(bs, name, errp)) {
        return false;
    }
    s->is_apart = true;
    return is_flat ? open_flat(s, errp) : vmdk_load_sparse(bs, errp);
}

static bool coroutine_fn open_monolithic(BlockDriverState *bs, GError **errp)
{
    VmdkState *s = bs->opaque;
    char first = '\0'; /* character of the descriptor: there may be room for one, and none */

    if (!vmdk_load_sparse(bs, errp) ||
        (s->descriptor_bytes && !mapped_read_head(bs, s->descriptor_offset, &first, 1,
                                                  "VMDK descriptor", errp))) {
        return false;
    }
    if (!first) {
        error_setg(errp, "The VMDK file has no descriptor: it is an extent of another image");
        return false;
    }
    return load_descriptor(bs, s->descriptor_offset, s->descriptor_bytes, errp);
}

/* "The Descriptor File": the child is worthless when its parent has been written since. */
static bool coroutine_fn open_parent(BlockDriverState *bs, GError **errp)
{
    const VmdkDescriptor *d = &((VmdkState *)bs->opaque)->descriptor;
    BlockDriverState *parent;

    if (d->parent_cid == VMDK_NO_PARENT) {
        return true;
    }
    if (!d->parent) {
        error_setg(errp, "The VMDK descriptor names no parent, but has its CID");
        return false;
    }
    if (!bs->backing && !bs->no_backing && !bdrv_co_open_backing(bs, d->parent, "vmdk", errp)) {
        return false;
    }
    parent = bdrv_backing(bs);
    if (parent && parent->drv == &bdrv_vmdk_driver &&
        ((VmdkState *)parent->opaque)->descriptor.cid != d->parent_cid) {
        error_setg(errp, "The parent of the VMDK image, '%s', has been written since (its CID is "
                   "%08" PRIx32 ", not %08" PRIx32 ")", bdrv_filename(parent),
                   ((VmdkState *)parent->opaque)->descriptor.cid, d->parent_cid);
        return false;
    }
    return true;
}

static bool coroutine_fn open_image(BlockDriverState *bs, GError **errp)
{
    char head[HEAD] = "";
    size_t n = MIN(bs->file->bs->length, HEAD);

    if (!mapped_read_head(bs, 0, head, n, "VMDK header", errp)) {
        return false;
    }
    if (!memcmp(head, VMDK_MAGIC, 4)) {
        return open_monolithic(bs, errp) && open_parent(bs, errp);
    }
    if (!memcmp(head, "COWD", 4)) {
        error_setg(errp, "Sparse extents of VMware ESX (COWD) are not supported");
        return false;
    }
    if (!vmdk_is_descriptor(head, n)) {
        error_setg(errp, "invalid VMDK image descriptor");
        return false;
    }
    return open_apart(bs, errp) && open_parent(bs, errp);
}

static bool coroutine_fn vmdk_co_open(BlockDriverState *bs, const BlockdevOptions *options,
                                      GError **errp)
{
    static const MappedOps sparse = { vmdk_find_grain, vmdk_read_packed };
    static const MappedOps flat = { .find = find_flat };
    VmdkState *s = bs->opaque;

    if (!open_image(bs, errp)) {
        state_clear(s);
        return false;
    }
    mapped_init(&s->mapped, s->is_flat ? &flat : &sparse);
    bdrv_set_length(bs, s->capacity);
    return true;
}

static void coroutine_fn vmdk_co_close(BlockDriverState *bs)
{
    state_clear(bs->opaque);
}

/* Whether a table or a grain that starts at a sector lies in the file. */
static bool lies_inside(BlockDriverState *bs, uint32_t sector, uint64_t bytes)
{
    uint64_t length = mapped_file(bs)->bs->length, offset = (uint64_t)sector * VMDK_SECTOR;

    return offset <= length && bytes <= length - offset;
}

/* One grain table, which is that of the disk's bytes from start on. */
static int coroutine_fn check_table(BlockDriverState *bs, uint64_t start, uint32_t table,
                                    BdrvCheckResult *result)
{
    VmdkState *s = bs->opaque;

    for (uint32_t i = 0; i < s->table_entries && start < s->capacity; i++, start += s->grain) {
        /* The last grain of the disk may be cut short, a compressed one has any size. */
        uint64_t bytes = s->is_compressed ? VMDK_SECTOR : MIN(s->grain, s->capacity - start);
        uint32_t grain;
        int ret = vmdk_load_grain(bs, table, i, &grain);

        if (ret < 0) {
            return ret;
        }
        if (grain && !(s->has_zeroed && grain == 1) && !lies_inside(bs, grain, bytes)) {
            mapped_report(result, "ERROR: the grain at offset %" PRIu64 " of the disk lies beyond "
                          "the end of the file", start);
        }
    }
    return 0;
}

static bool coroutine_fn vmdk_co_check(BlockDriverState *bs, BdrvCheckResult *result, int fix,
                                       GError **errp)
{
    VmdkState *s = bs->opaque;
    uint64_t span = s->table_entries * s->grain;
    int ret = 0;

    if (s->is_flat) {
        if (s->capacity + s->start > (uint64_t)mapped_file(bs)->bs->length) {
            mapped_report(result, "ERROR: the extent's file is shorter than the extent");
        }
        return true;
    }
    for (uint64_t i = 0; i * span < s->capacity && ret == 0; i++) {
        uint32_t table;

        ret = vmdk_load_table(bs, i, &table);
        if (ret == 0 && table && !lies_inside(bs, table, s->table_entries * UINT64_C(4))) {
            mapped_report(result, "ERROR: grain table %" PRIu64 " lies beyond the end of the file",
                          i);
        } else if (ret == 0 && table) {
            ret = check_table(bs, i * span, table, result);
        }
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not read the grain tables");
        return false;
    }
    return true;
}

/* The descriptor's file and the extent's. */
static int64_t coroutine_fn vmdk_co_allocated_size(BlockDriverState *bs)
{
    int64_t size = bdrv_co_allocated_size(bs->file->bs), more;

    if (size < 0 || !bs->data_file) {
        return size;
    }
    more = bdrv_co_allocated_size(bs->data_file->bs);
    return more < 0 ? more : size + more;
}

static ImageInfo *extent_info(BlockDriverState *bs)
{
    VmdkState *s = bs->opaque;
    ImageInfo *info = g_new0(ImageInfo, 1);

    info->filename = g_strdup(bdrv_filename(mapped_file(bs)->bs));
    info->format = g_strdup(s->is_apart ? s->descriptor.extent_type : "");
    info->virtual_size = s->capacity;
    info->has_cluster_size = !s->is_flat;
    info->cluster_size = s->grain;
    info->has_compressed = info->compressed = s->is_compressed;
    return info;
}

static bool coroutine_fn vmdk_co_info(BlockDriverState *bs, BdrvInfo *info, GError **errp)
{
    VmdkState *s = bs->opaque;
    const VmdkDescriptor *d = &s->descriptor;
    ImageInfoSpecificVmdk *v = g_new0(ImageInfoSpecificVmdk, 1);

    info->cluster_size = s->grain;
    if (d->parent_cid != VMDK_NO_PARENT) {
        info->backing_filename = d->parent;
        info->backing_format = "vmdk";
    }
    v->cid = d->cid;
    v->parent_cid = d->parent_cid;
    v->create_type = g_strdup(d->create_type);
    v->extents = g_new0(ImageInfoList, 1);
    v->extents->value = extent_info(bs);
    info->specific = g_new0(ImageInfoSpecific, 1);
    info->specific->type = IMAGE_INFO_SPECIFIC_TYPE_VMDK;
    info->specific->u.vmdk.data = v;
    return true;
}

const BlockDriver bdrv_vmdk_driver = {
    .name = "vmdk",
    .instance_size = sizeof(VmdkState),
    .is_format = true,
    .supports_backing = true,
    .only_reads = true,
    .probe = vmdk_probe,
    .co_open = vmdk_co_open,
    .co_close = vmdk_co_close,
    .co_preadv = mapped_co_preadv,
    .co_block_status = mapped_co_block_status,
    .co_check = vmdk_co_check,
    .co_allocated_size = vmdk_co_allocated_size,
    .co_info = vmdk_co_info,
};
