/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Machine state that is not in a snapshot: an area of the active layer behind the disk, which
 * begins with the first L2 table that has nothing of the disk.  kf-io -b reads and writes it, and
 * other programs leave state there when they have gone back to a snapshot.  A snapshot that brings
 * no machine state of its own takes the area along; a disk that needs other L2 tables drops it.
 */
#include "qcow2.h"

int coroutine_fn qcow2_co_load_vmstate(BlockDriverState *bs, int64_t offset, IOVector *iov)
{
    Qcow2State *s = bs->opaque;
    uint64_t start;

    if (s->external_data) {
        return -ENOTSUP;
    }
    if (__builtin_add_overflow(qcow2_state_offset(s), (uint64_t)offset, &start) ||
        !bdrv_range_ok(start, iov->size)) {
        return -EIO;
    }
    return qcow2_read(bs, NULL, 0, start, iov->size, iov, 0, false);
}

int coroutine_fn qcow2_co_save_vmstate(BlockDriverState *bs, int64_t offset, IOVector *iov)
{
    Qcow2State *s = bs->opaque;
    uint64_t start, entries;
    int ret;

    if (s->external_data) {
        return -ENOTSUP; /* its content would lie in the disk's own file */
    }
    if (__builtin_add_overflow(qcow2_state_offset(s), (uint64_t)offset, &start) ||
        !bdrv_range_ok(start, iov->size)) {
        return -EIO;
    }
    entries = qcow2_l1_entries(s, start + iov->size);
    if (entries > QCOW2_MAX_L1_BYTES / 8) {
        return -EFBIG;
    }
    ret = qcow2_bitmaps_begin_write(bs);
    co_mutex_lock(&s->walk_lock);
    if (ret >= 0 && s->save) {
        ret = -EBUSY;
    }
    if (ret >= 0 && entries > s->l1_size) {
        ret = qcow2_grow_l1(bs, entries);
    }
    ret = ret < 0 ? ret : qcow2_write(bs, start, iov->size, iov);
    co_mutex_unlock(&s->walk_lock);
    return ret;
}

uint64_t qcow2_state_tables(const Qcow2State *s)
{
    uint64_t n = s->l1_size, disk = qcow2_l1_entries(s, s->disk_size);

    while (n > disk && !(s->l1[n - 1] & QCOW2_OFFSET_MASK)) {
        n--;
    }
    return n - disk;
}
