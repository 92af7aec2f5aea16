/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Changing the size of an image's disk, with snapshots or without, and preallocation.  A disk
 * that grows gets its larger L1 table first, then whatever its new part is to have, and last
 * its new size in the header; so there is no instant at which something else shows there.
 */
#include "qcow2.h"

#define ZERO_CHUNK (1 << 20)

/* --- Preallocation ------------------------------------------------------------------------- */

static int coroutine_fn write_zeroes(BdrvChild *file, uint64_t host, uint64_t bytes)
{
    g_autofree uint8_t *zero = g_malloc0(MIN(bytes, ZERO_CHUNK));
    int ret = 0;

    while (bytes && ret >= 0) {
        uint64_t n = MIN(bytes, ZERO_CHUNK);

        ret = bdrv_co_pwrite(file, host, n, zero, 0);
        host += n;
        bytes -= n;
    }
    return ret;
}

/* Makes the new clusters at host read as zero, in the way that mode asks for. */
static int coroutine_fn prepare_host(BlockDriverState *bs, uint64_t host, uint64_t bytes,
                                     bool fresh, PreallocMode mode)
{
    BdrvChild *file = qcow2_data_file(bs);
    GError *err = NULL;

    if (mode == PREALLOC_MODE_FULL) {
        return write_zeroes(file, host, bytes);
    }
    if (mode == PREALLOC_MODE_FALLOC) {
        return bdrv_co_pwrite_zeroes(file, host, bytes, 0);
    }
    if (bs->data_file) {
        return 0; /* it has its length and has never been longer */
    }
    if (!fresh) {
        return bdrv_co_pwrite_zeroes(bs->file, host, bytes, BDRV_REQ_MAY_UNMAP);
    }
    /* The file must reach to the last cluster; what it never held reads as zero. */
    if (host + bytes > (uint64_t)bs->file->bs->length &&
        !bdrv_co_truncate(bs->file, host + bytes, &err)) {
        g_error_free(err);
        return -EIO;
    }
    return 0;
}

/* Takes up to n clusters; in an external file they are where the guest has them. */
static int coroutine_fn take_clusters(BlockDriverState *bs, uint64_t offset, uint64_t n,
                                      uint64_t *cluster, uint64_t *got, bool *fresh)
{
    Qcow2State *s = bs->opaque;
    int ret;

    if (s->external_data) {
        *cluster = offset >> s->cluster_bits;
        *got = n;
        *fresh = true;
        return 0;
    }
    co_mutex_lock(&s->lock);
    ret = qcow2_alloc(bs, n, cluster, got);
    if (ret >= 0) {
        *fresh = *cluster << s->cluster_bits >= s->zero_from;
        s->zero_from = MAX(s->zero_from, (*cluster + *got) << s->cluster_bits);
    }
    co_mutex_unlock(&s->lock);
    return ret;
}

/*
 * Gives clusters to some of the n guest clusters at offset, within an L2 table: *got.  end: of
 * the disk.
 */
static int coroutine_fn preallocate_run(BlockDriverState *bs, uint64_t offset, uint64_t n,
                                        uint64_t end, PreallocMode mode, uint64_t *got)
{
    Qcow2State *s = bs->opaque;
    uint64_t l1_index = offset >> (s->cluster_bits + s->l2_bits);
    uint64_t index = (offset >> s->cluster_bits) & (s->l2_entries - 1);
    uint64_t cluster = 0, host, bytes;
    Qcow2Table *t;
    bool fresh = false;
    int ret = take_clusters(bs, offset, n, &cluster, got, &fresh);

    if (ret < 0) {
        return ret;
    }
    host = cluster << s->cluster_bits;
    bytes = *got << s->cluster_bits;
    ret = prepare_host(bs, host, s->external_data ? MIN(bytes, end - host) : bytes, fresh, mode);
    co_mutex_lock(&s->lock);
    ret = ret < 0 ? ret : qcow2_l2_writable(bs, l1_index, &t);
    if (ret >= 0) {
        for (uint64_t i = 0; i < *got; i++) {
            qcow2_free_entry_later(s, qcow2_l2_get(t, index + i));
            /* Subclusters have a place then, but no data; what hides a backing file stays. */
            qcow2_l2_set_both(s, t, index + i, (host + (i << s->cluster_bits)) | QCOW2_COPIED,
                              qcow2_l2_bitmap(t, index + i) & QCOW2_SUB_ZERO);
        }
        qcow2_cache_put(&s->l2_cache, t);
    } else if (!s->external_data) {
        qcow2_free_now(bs, cluster, *got);
    }
    co_mutex_unlock(&s->lock);
    return ret;
}

int coroutine_fn qcow2_preallocate(BlockDriverState *bs, uint64_t offset, uint64_t bytes,
                                   PreallocMode mode)
{
    Qcow2State *s = bs->opaque;
    uint64_t mask = s->cluster_size - 1, end = offset + bytes;
    int ret = 0;

    for (offset = (offset + mask) & ~mask; offset < end && ret >= 0;) {
        uint64_t index = (offset >> s->cluster_bits) & (s->l2_entries - 1);
        uint64_t n = MIN(qcow2_clusters(s, end - offset), s->l2_entries - index), got = 0;

        ret = qcow2_throttle(bs);
        ret = ret < 0 ? ret : preallocate_run(bs, offset, n, end, mode, &got);
        offset += got << s->cluster_bits;
    }
    return ret;
}

/* --- The size -------------------------------------------------------------------------------- */

int coroutine_fn qcow2_grow_l1(BlockDriverState *bs, uint64_t entries)
{
    Qcow2State *s = bs->opaque;
    uint64_t old_offset = s->l1_offset, old_size = s->l1_disk_size;
    uint64_t count = qcow2_clusters(s, entries * 8), cluster;
    g_autofree uint64_t *l1 = NULL, *l1_disk = NULL;
    int ret;

    co_mutex_lock(&s->lock);
    ret = qcow2_alloc_contiguous(bs, count, &cluster);
    co_mutex_unlock(&s->lock);
    if (ret >= 0) {
        ret = qcow2_flush(bs); /* the new clusters' counts come first */
    }
    if (ret < 0) {
        return ret;
    }
    co_mutex_lock(&s->flush_lock);
    co_mutex_lock(&s->lock);
    l1 = g_new0(uint64_t, entries + 1);
    l1_disk = g_new0(uint64_t, entries + 1);
    memcpy(l1, s->l1, (gsize)s->l1_size * 8);
    memcpy(l1_disk, s->l1_disk, (gsize)s->l1_disk_size * 8);
    ret = qcow2_store_numbers(bs, cluster << s->cluster_bits, l1_disk, entries);
    ret = ret < 0 ? ret : qcow2_sync_file(bs);
    if (ret >= 0) {
        old_offset = s->l1_offset;
        s->l1_offset = cluster << s->cluster_bits;
        s->l1_disk_size = s->l1_size = entries;
        g_free(s->l1);
        g_free(s->l1_disk);
        s->l1 = g_steal_pointer(&l1);
        s->l1_disk = g_steal_pointer(&l1_disk);
        ret = qcow2_header_write(bs);
        ret = ret < 0 ? ret : qcow2_sync_file(bs);
        s->broken = ret < 0;
        if (ret >= 0 && old_size) {
            qcow2_free_later(s, old_offset >> s->cluster_bits, qcow2_clusters(s, old_size * 8));
        }
    } else {
        qcow2_free_now(bs, cluster, count);
    }
    co_mutex_unlock(&s->lock);
    co_mutex_unlock(&s->flush_lock);
    return ret;
}

/* What is new and lies over a backing file must not show it. */
static int coroutine_fn hide_backing(BlockDriverState *bs, uint64_t old, uint64_t length)
{
    uint64_t end = MIN(length, (uint64_t)bs->backing->bs->length);

    return end > old ? bdrv_qcow2_driver.co_pwrite_zeroes(bs, old, end - old, 0) : 0;
}

/* Everything that a larger disk needs before it is larger. */
static int coroutine_fn prepare_growth(BlockDriverState *bs, uint64_t old, uint64_t length,
                                       PreallocMode prealloc)
{
    Qcow2State *s = bs->opaque;
    uint64_t mask = s->cluster_size - 1, entries = qcow2_l1_entries(s, length);
    int ret = 0;

    if (entries > s->l1_size) {
        ret = qcow2_grow_l1(bs, entries);
    }
    if (ret >= 0 && bs->backing) {
        ret = hide_backing(bs, old, length);
    }
    if (ret >= 0 && prealloc != PREALLOC_MODE_OFF) {
        ret = qcow2_preallocate(bs, old, length - old, prealloc);
    }
    if (ret >= 0) {
        ret = qcow2_flush(bs);
    } else if (entries <= s->l1_size) {
        qcow2_discard_clusters(bs, (old + mask) & ~mask,
                               ((length + mask) & ~mask) - ((old + mask) & ~mask));
    }
    return ret;
}

/* What is beyond the new end must not come back when the disk grows again. */
static int coroutine_fn cut_off(BlockDriverState *bs, uint64_t old, uint64_t length)
{
    Qcow2State *s = bs->opaque;
    uint64_t mask = s->cluster_size - 1, first = (length + mask) & ~mask;
    int ret = bdrv_qcow2_driver.co_pwrite_zeroes(bs, length, old - length, BDRV_REQ_MAY_UNMAP);

    if (ret >= 0 && first < old) {
        ret = qcow2_discard_clusters(bs, first, ((old + mask) & ~mask) - first);
    }
    return ret < 0 ? ret : qcow2_flush(bs); /* gone from the file before the size is */
}

/* The header with another size; flush_lock keeps others from writing theirs meanwhile. */
static int coroutine_fn write_size(BlockDriverState *bs, uint64_t length)
{
    Qcow2State *s = bs->opaque;
    uint64_t old = s->disk_size;
    int ret;

    co_mutex_lock(&s->flush_lock);
    s->disk_size = length;
    ret = qcow2_header_write(bs);
    if (ret < 0) {
        s->disk_size = old;
        qcow2_header_put_back(bs);
    }
    co_mutex_unlock(&s->flush_lock);
    return ret;
}

static int coroutine_fn resize(BlockDriverState *bs, uint64_t length, PreallocMode prealloc)
{
    Qcow2State *s = bs->opaque;
    uint64_t old = s->disk_size, tables = qcow2_l1_entries(s, old);
    int ret = 0;

    if (qcow2_l1_entries(s, length) != tables && qcow2_state_tables(s)) {
        ret = qcow2_drop_tables(bs, tables); /* machine state must not become part of the disk */
    }
    if (ret >= 0) {
        ret = length < old ? cut_off(bs, old, length) : prepare_growth(bs, old, length, prealloc);
    }
    ret = ret < 0 ? ret : write_size(bs, length);
    if (ret < 0) {
        return ret;
    }
    bdrv_set_length(bs, length);
    return qcow2_flush(bs);
}

bool coroutine_fn qcow2_co_truncate(BlockDriverState *bs, int64_t length, bool exact,
                                    PreallocMode prealloc, GError **errp)
{
    Qcow2State *s = bs->opaque;
    bool grows = (uint64_t)length > s->disk_size;
    int ret;

    if (s->save) {
        error_setg(errp, "Can't resize an image while a snapshot is being taken");
        return false;
    }
    if (length % 512) {
        error_setg(errp, "The new size must be a multiple of 512");
        return false;
    }
    if (s->version < 3 && s->snapshots->len) {
        error_setg(errp, "Can't resize a v2 image which has snapshots");
        return false;
    }
    if (qcow2_l1_entries(s, length) > QCOW2_MAX_L1_BYTES / 8) {
        error_setg(errp, "Image is too big for its cluster size");
        return false;
    }
    if ((uint64_t)length == s->disk_size) {
        return true;
    }
    if (grows && !qcow2_bitmaps_can_resize(bs, length, errp)) {
        return false;
    }
    ret = qcow2_bitmaps_begin_write(bs);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not mark the bitmaps as in use");
        return false;
    }
    if (grows && bs->data_file && !bdrv_co_truncate(bs->data_file, length, errp)) {
        return false;
    }
    if (grows && qcow2_data_raw(s) && prealloc == PREALLOC_MODE_OFF) {
        prealloc = PREALLOC_MODE_METADATA; /* every cluster is where it is looked for */
    }
    co_mutex_lock(&s->walk_lock);
    ret = s->save ? -EBUSY : resize(bs, length, prealloc);
    co_mutex_unlock(&s->walk_lock);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not resize the image");
        return false;
    }
    return grows || !bs->data_file || bdrv_co_truncate(bs->data_file, length, errp);
}
