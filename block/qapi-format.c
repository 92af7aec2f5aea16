/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Texts about images for people: sizes, snapshot tables, qemu-img's info.  Any thread. */
#include <inttypes.h>
#include <string.h>
#include <time.h>
#include "block/qapi-format.h"

char *bdrv_format_size(uint64_t bytes)
{
    static const char *const units[] = { "", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei" };
    double value = bytes;
    size_t unit = 0;

    while (value >= 1000 && unit + 1 < G_N_ELEMENTS(units)) {
        value /= 1024;
        unit++;
    }
    return g_strdup_printf("%0.3g %sB", value, units[unit]);
}

void bdrv_format_snapshot_header(GString *out)
{
    g_string_append_printf(out, "%-9s %-16s %8s%20s%13s%11s\n", "ID", "TAG", "VM SIZE", "DATE",
                           "VM CLOCK", "ICOUNT");
}

void bdrv_format_snapshot_row(GString *out, const SnapshotInfo *sn)
{
    g_autofree char *size = bdrv_format_size(sn->vm_state_size);
    g_autofree char *icount = sn->has_icount ? g_strdup_printf("%" PRId64, sn->icount)
                                             : g_strdup("");
    g_autofree char *clock = NULL;
    int64_t secs = sn->vm_clock_sec;
    time_t when = sn->date_sec;
    struct tm tm;
    char date[64] = "";

    if (localtime_r(&when, &tm)) {
        strftime(date, sizeof(date), "%Y-%m-%d %H:%M:%S", &tm);
    }
    clock = g_strdup_printf("%02" PRId64 ":%02d:%02d.%03d", secs / 3600, (int)(secs / 60 % 60),
                            (int)(secs % 60), (int)(sn->vm_clock_nsec / 1000000));
    g_string_append_printf(out, "%-9s %-16s %8s%20s%13s%11s\n", sn->id, sn->name, size, date,
                           clock, icount);
}

static const char *truth(bool value)
{
    return value ? "true" : "false";
}

static void format_bitmaps(GString *out, const Qcow2BitmapInfoList *list)
{
    int i = 0;

    g_string_append(out, "    bitmaps:\n");
    for (; list; list = list->next) {
        int j = 0;

        g_string_append_printf(out, "        [%d]:\n            flags:\n", i++);
        for (const Qcow2BitmapInfoFlagsList *f = list->value->flags; f; f = f->next) {
            g_string_append_printf(out, "                [%d]: %s\n", j++,
                                   Qcow2BitmapInfoFlags_str(f->value));
        }
        g_string_append_printf(out, "            name: %s\n            granularity: %" PRIu32 "\n",
                               list->value->name, list->value->granularity);
    }
}

static void format_qcow2(GString *out, const ImageInfoSpecificQCow2 *q)
{
    g_string_append_printf(out, "    compat: %s\n", q->compat);
    g_string_append_printf(out, "    compression type: %s\n",
                           Qcow2CompressionType_str(q->compression_type));
    if (q->has_lazy_refcounts) {
        g_string_append_printf(out, "    lazy refcounts: %s\n", truth(q->lazy_refcounts));
    }
    if (q->has_bitmaps) {
        format_bitmaps(out, q->bitmaps);
    }
    g_string_append_printf(out, "    refcount bits: %" PRId64 "\n", q->refcount_bits);
    if (q->data_file) {
        g_string_append_printf(out, "    data file: %s\n", q->data_file);
    }
    if (q->has_data_file_raw) {
        g_string_append_printf(out, "    data file raw: %s\n", truth(q->data_file_raw));
    }
    if (q->has_corrupt) {
        g_string_append_printf(out, "    corrupt: %s\n", truth(q->corrupt));
    }
    if (q->has_extended_l2) {
        g_string_append_printf(out, "    extended l2: %s\n", truth(q->extended_l2));
    }
}

static void format_vmdk(GString *out, const ImageInfoSpecificVmdk *v)
{
    int i = 0;

    g_string_append_printf(out, "    cid: %" PRId64 "\n    parent cid: %" PRId64 "\n"
                           "    create type: %s\n    extents:\n", v->cid, v->parent_cid,
                           v->create_type);
    for (const ImageInfoList *l = v->extents; l; l = l->next) {
        g_string_append_printf(out, "        [%d]:\n", i++);
        if (l->value->has_compressed) {
            g_string_append_printf(out, "            compressed: %s\n",
                                   truth(l->value->compressed));
        }
        g_string_append_printf(out, "            virtual size: %" PRId64 "\n            "
                               "filename: %s\n", l->value->virtual_size, l->value->filename);
        if (l->value->has_cluster_size) {
            g_string_append_printf(out, "            cluster size: %" PRId64 "\n",
                                   l->value->cluster_size);
        }
        g_string_append_printf(out, "            format: %s\n", l->value->format);
    }
}

void bdrv_format_specific_info(GString *out, const ImageInfoSpecific *specific)
{
    g_string_append(out, "Format specific information:\n");
    switch (specific->type) {
    case IMAGE_INFO_SPECIFIC_TYPE_QCOW2:
        format_qcow2(out, specific->u.qcow2.data);
        break;
    case IMAGE_INFO_SPECIFIC_TYPE_VMDK:
        format_vmdk(out, specific->u.vmdk.data);
        break;
    default:
        break;
    }
}

void bdrv_format_image_info(GString *out, const ImageInfo *info)
{
    g_autofree char *virtual = bdrv_format_size(info->virtual_size);
    g_autofree char *actual = info->has_actual_size ? bdrv_format_size(info->actual_size)
                                                    : g_strdup("unavailable");

    g_string_append_printf(out, "image: %s\nfile format: %s\n", info->filename, info->format);
    g_string_append_printf(out, "virtual size: %s (%" PRId64 " bytes)\ndisk size: %s\n", virtual,
                           info->virtual_size, actual);
    if (info->has_encrypted && info->encrypted) {
        g_string_append(out, "encrypted: yes\n");
    }
    if (info->has_cluster_size) {
        g_string_append_printf(out, "cluster_size: %" PRId64 "\n", info->cluster_size);
    }
    if (info->has_dirty_flag && info->dirty_flag) {
        g_string_append(out, "cleanly shut down: no\n");
    }
    if (info->backing_filename) {
        g_string_append_printf(out, "backing file: %s", info->backing_filename);
        if (!info->full_backing_filename) {
            g_string_append(out, " (cannot determine actual path)");
        } else if (strcmp(info->backing_filename, info->full_backing_filename)) {
            g_string_append_printf(out, " (actual path: %s)", info->full_backing_filename);
        }
        g_string_append_c(out, '\n');
        if (info->backing_filename_format) {
            g_string_append_printf(out, "backing file format: %s\n",
                                   info->backing_filename_format);
        }
    }
    if (info->snapshots) {
        g_string_append(out, "Snapshot list:\n");
        bdrv_format_snapshot_header(out);
        for (SnapshotInfoList *l = info->snapshots; l; l = l->next) {
            bdrv_format_snapshot_row(out, l->value);
        }
    }
    if (info->format_specific) {
        bdrv_format_specific_info(out, info->format_specific);
    }
}
