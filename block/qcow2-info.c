/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What qemu-img info and query-named-block-nodes say about a qcow2 image beyond the common. */
#include "qcow2.h"

ImageInfoSpecific *qcow2_specific_info(const Qcow2State *s)
{
    ImageInfoSpecific *info = g_new0(ImageInfoSpecific, 1);
    ImageInfoSpecificQCow2 *q = g_new0(ImageInfoSpecificQCow2, 1);

    info->type = IMAGE_INFO_SPECIFIC_TYPE_QCOW2;
    info->u.qcow2.data = q;
    q->compat = g_strdup(s->version >= 3 ? "1.1" : "0.10");
    q->refcount_bits = 1 << s->refcount_order;
    q->compression_type =
        s->compression ? QCOW2_COMPRESSION_TYPE_ZSTD : QCOW2_COMPRESSION_TYPE_ZLIB;
    if (s->version >= 3) {
        q->has_lazy_refcounts = true;
        q->lazy_refcounts = s->compatible & QCOW2_COMPAT_LAZY_REFCOUNTS;
        q->bitmaps = qcow2_bitmaps_info(s);
        q->has_bitmaps = q->bitmaps != NULL;
        q->has_corrupt = true;
        q->corrupt = s->incompatible & QCOW2_INCOMPAT_CORRUPT;
        q->data_file = g_strdup(s->data_file_name);
        q->has_data_file_raw = s->external_data;
        q->data_file_raw = qcow2_data_raw(s);
        q->has_extended_l2 = true;
        q->extended_l2 = s->extended_l2;
    }
    return info;
}
