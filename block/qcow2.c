/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The qcow2 driver: opening and closing an image and the entry points of guest I/O.  The
 * other qcow2-*.c files hold one concept each; docs/devel/qcow2.md has the overview.
 */
#include "block/dirty-bitmap.h"
#include "qcow2.h"

static int qcow2_probe(const uint8_t *buf, size_t len, const char *filename)
{
    if (len >= 8 && qcow2_be32(buf) == QCOW2_MAGIC && qcow2_be32(buf + 4) >= 2) {
        return 100;
    }
    return 0;
}

static void state_free(Qcow2State *s)
{
    qcow2_cache_stop_cleaning(s);
    qcow2_cache_destroy(&s->l2_cache);
    qcow2_cache_destroy(&s->rb_cache);
    g_clear_pointer(&s->metadata, g_hash_table_destroy);
    g_clear_pointer(&s->inactive_l2, g_hash_table_destroy);
    g_clear_pointer(&s->snapshots, g_ptr_array_unref);
    g_clear_pointer(&s->bitmaps, g_ptr_array_unref);
    g_clear_pointer(&s->l1_dirty, g_array_unref);
    g_clear_pointer(&s->rt_dirty, g_array_unref);
    g_clear_pointer(&s->frees, g_array_unref);
    g_clear_pointer(&s->holes, g_array_unref);
    g_clear_pointer(&s->hole_runs, g_tree_destroy);
    g_clear_pointer(&s->shadow_l1, g_array_unref);
    g_clear_pointer(&s->l1, g_free);
    g_clear_pointer(&s->l1_disk, g_free);
    g_clear_pointer(&s->rt, g_free);
    g_clear_pointer(&s->rt_disk, g_free);
    g_clear_pointer(&s->pending, g_free);
    g_clear_pointer(&s->backing_file, g_free);
    g_clear_pointer(&s->backing_format, g_free);
    g_clear_pointer(&s->data_file_name, g_free);
    co_mutex_destroy(&s->lock);
    co_mutex_destroy(&s->flush_lock);
    co_mutex_destroy(&s->walk_lock);
    co_mutex_destroy(&s->bitmaps_lock);
    co_queue_destroy(&s->pin_queue);
}

/* A writable image whose reference counts may be stale is repaired before anything else. */
static bool coroutine_fn repair_dirty(BlockDriverState *bs, GError **errp)
{
    BdrvCheckResult result = { 0 };
    GError *err = NULL;

    if (!qcow2_co_check(bs, &result, BDRV_FIX_ERRORS | BDRV_FIX_LEAKS, &err) ||
        result.corruptions || result.check_errors) {
        error_setg(errp, "Could not repair dirty image: %s",
                   err ? err->message : "damage that cannot be repaired remains");
        g_clear_error(&err);
        return false;
    }
    return true;
}

static bool coroutine_fn prepare_writing(BlockDriverState *bs, GError **errp)
{
    Qcow2State *s = bs->opaque;
    uint64_t kept;
    int ret = 0;

    if (bs->for_check) {
        return true; /* whoever repairs it clears the bits */
    }
    if (s->incompatible & QCOW2_INCOMPAT_CORRUPT) {
        error_setg(errp, "qcow2: Image is corrupt; cannot be opened read/write");
        return false;
    }
    if ((s->incompatible & QCOW2_INCOMPAT_DIRTY) && !repair_dirty(bs, errp)) {
        return false;
    }
    kept = QCOW2_AUTOCLEAR_DATA_FILE_RAW | (s->bitmaps_count ? QCOW2_AUTOCLEAR_BITMAPS : 0);
    if (s->autoclear & ~kept) {
        s->autoclear &= kept; /* features that we do not keep up to date */
        co_mutex_lock(&s->flush_lock);
        ret = qcow2_header_write(bs);
        co_mutex_unlock(&s->flush_lock);
    }
    if (ret < 0) {
        error_setg(errp, "Could not update qcow2 header");
    }
    return ret >= 0;
}

static bool coroutine_fn open_data_file(BlockDriverState *bs, GError **errp)
{
    Qcow2State *s = bs->opaque;

    if (!s->external_data) {
        if (bs->data_file) {
            error_setg(errp, "'data-file' can only be set for images with an external data file");
        }
        return !bs->data_file;
    }
    if (bs->data_file || bs->no_io) {
        return true;
    }
    if (!s->data_file_name) {
        error_setg(errp, "'data-file' is required for this image");
        return false;
    }
    return bdrv_co_open_data_file(bs, s->data_file_name, errp);
}

/* options is NULL when the image is opened once more: those of the first time are there. */
static bool coroutine_fn open_image(BlockDriverState *bs, const BlockdevOptions *options,
                                    bool again, GError **errp)
{
    Qcow2State *s = bs->opaque;

    if (!qcow2_header_load(bs, errp) || !open_data_file(bs, errp) ||
        (!again && !qcow2_options_set(bs, options, errp))) {
        return false;
    }
    qcow2_cache_init(&s->l2_cache, s->cluster_size, s->extended_l2 ? 4 : 3,
                     s->options.l2_cache_bytes);
    qcow2_cache_init(&s->rb_cache, s->cluster_size, 0, s->options.rb_cache_bytes);
    s->zero_from = ((uint64_t)bs->file->bs->length + s->cluster_size - 1) & ~(s->cluster_size - 1);
    if (!qcow2_snapshots_load(bs, errp)) {
        return false;
    }
    qcow2_load_inactive_l2(bs);
    bdrv_set_length(bs, s->disk_size);
    if (!bs->read_only && !bs->inactive && !prepare_writing(bs, errp)) {
        return false;
    }
    if (s->backing_file && !bs->backing && !bs->no_backing &&
        !bdrv_co_open_backing(bs, s->backing_file, s->backing_format, errp)) {
        return false;
    }
    return qcow2_bitmaps_load(bs, errp);
}

static void coroutine_fn qcow2_co_settle(BlockDriverState *bs)
{
    Qcow2State *s = bs->opaque;

    while (s->background) {
        co_queue_wait(&s->pin_queue, NULL);
    }
    qcow2_cache_stop_cleaning(s);
}

static bool coroutine_fn open_new_state(BlockDriverState *bs, const BlockdevOptions *options,
                                        bool again, GError **errp)
{
    Qcow2State *s = bs->opaque;

    co_mutex_init(&s->lock);
    co_mutex_init(&s->flush_lock);
    co_mutex_init(&s->walk_lock);
    co_mutex_init(&s->bitmaps_lock);
    co_queue_init(&s->pin_queue);
    s->metadata = g_hash_table_new(g_direct_hash, g_direct_equal);
    s->bitmaps = g_ptr_array_new_with_free_func((GDestroyNotify)qcow2_bitmap_free);
    s->snapshots = g_ptr_array_new_with_free_func((GDestroyNotify)qcow2_snapshot_free);
    s->l1_dirty = g_array_new(false, false, sizeof(uint32_t));
    s->rt_dirty = g_array_new(false, false, sizeof(uint32_t));
    s->shadow_l1 = g_array_new(false, false, sizeof(uint32_t));
    s->frees = g_array_new(false, false, sizeof(Qcow2Free));
    s->holes = g_array_new(false, false, sizeof(Qcow2Free));
    s->hole_runs = g_tree_new_full(qcow2_compare_runs, NULL, g_free, NULL);
    if (!open_image(bs, options, again, errp)) {
        qcow2_co_settle(bs);
        state_free(s);
        return false;
    }
    return true;
}

static bool coroutine_fn qcow2_co_open(BlockDriverState *bs, const BlockdevOptions *options,
                                       GError **errp)
{
    return open_new_state(bs, options, false, errp);
}

static int coroutine_fn store_and_flush(BlockDriverState *bs)
{
    int ret = qcow2_bitmaps_store(bs), flushed;

    if (ret < 0 && ret != -EBUSY) { /* whoever uses one will go on */
        g_printerr("Lost persistent bitmaps during inactivation of node '%s': %s\n",
                   bs->node_name, strerror(-ret));
    }
    flushed = qcow2_flush_all(bs);
    if (flushed < 0) {
        if (ret >= 0) {
            qcow2_bitmaps_begin_write(bs); /* it may go on being written */
        }
        ret = flushed;
        g_printerr("Failed to flush the metadata of '%s': %s\n", bs->filename, strerror(-ret));
    }
    return ret;
}

/*
 * Everything durable, the dirty bitmaps too: nobody will write any more.  Commands may come in
 * between and change bitmaps; when it returns the file has what they have left.  -EBUSY while one
 * is not over, or a job has a bitmap.
 */
static int coroutine_fn flush_all(BlockDriverState *bs)
{
    unsigned changes;
    int ret;

    do {
        changes = bs->bitmap_changes;
        ret = store_and_flush(bs);
    } while ((ret >= 0 || ret == -EBUSY) && changes != bs->bitmap_changes);
    return ret;
}

static int coroutine_fn qcow2_co_set_read_only(BlockDriverState *bs)
{
    qcow2_co_settle(bs);
    return flush_all(bs);
}

/* As when it is opened for writing.  What has been read so far is not behind the file. */
static bool coroutine_fn qcow2_co_set_writable(BlockDriverState *bs, GError **errp)
{
    Qcow2State *s = bs->opaque;
    int ret;

    if (s->corrupt || s->broken) {
        error_setg(errp, "qcow2: Image is corrupt; cannot be opened read/write");
        return false;
    }
    if (!prepare_writing(bs, errp)) {
        return false;
    }
    ret = qcow2_bitmaps_begin_write(bs);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not mark the bitmaps as in use");
    }
    return ret >= 0;
}

static void coroutine_fn qcow2_co_close(BlockDriverState *bs)
{
    Qcow2State *s = bs->opaque;

    qcow2_co_settle(bs);
    if (!bs->read_only && !bs->inactive) {
        flush_all(bs);
    }
    state_free(s);
}

static bool coroutine_fn qcow2_co_inactivate(BlockDriverState *bs, GError **errp)
{
    Qcow2State *s = bs->opaque;
    int ret;

    for (guint i = 0; i < s->snapshots->len; i++) {
        Qcow2Snapshot *sn = s->snapshots->pdata[i];

        if (sn->pins) {
            error_setg(errp, "Node '%s' cannot be handed over while its snapshot '%s' is being read",
                       bs->node_name, sn->info.name);
            return false;
        }
    }
    qcow2_co_settle(bs);
    if (!bdrv_dirty_bitmaps_idle(bs, errp)) {
        return false;
    }
    ret = flush_all(bs);
    if (!bdrv_dirty_bitmaps_idle(bs, errp)) { /* used meanwhile */
        qcow2_bitmaps_begin_write(bs);
        return false;
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not flush the metadata of node '%s'", bs->node_name);
        return false;
    }
    bdrv_dirty_bitmaps_drop_stored(bs);
    return true;
}

/* Another process has written the image since: opens it once more. */
static bool coroutine_fn qcow2_co_activate(BlockDriverState *bs, GError **errp)
{
    Qcow2State *old = bs->opaque;

    Qcow2State *s = g_new0(Qcow2State, 1);

    s->options = old->options;
    bs->opaque = s;
    if (!open_new_state(bs, NULL, true, errp)) {
        g_free(bs->opaque);
        bs->opaque = old;
        return false;
    }
    state_free(old);
    g_free(old);
    return true;
}

static int coroutine_fn qcow2_co_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                        IOVector *iov, int flags)
{
    return qcow2_read(bs, NULL, 0, offset, bytes, iov, 0, true);
}

static int coroutine_fn qcow2_co_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                         IOVector *iov, int flags)
{
    int ret = qcow2_bitmaps_begin_write(bs);

    if (ret >= 0) {
        ret = flags & BDRV_REQ_WRITE_COMPRESSED ? qcow2_write_compressed(bs, offset, bytes, iov)
                                                : qcow2_write(bs, offset, bytes, iov);
    }
    return ret >= 0 && (flags & BDRV_REQ_FUA) ? qcow2_flush(bs) : ret;
}

static int coroutine_fn write_zero_bytes(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    g_autofree uint8_t *zero = g_malloc0(MIN(bytes, 1 << 20));
    int ret = 0;

    while (bytes && ret >= 0) {
        int64_t n = MIN(bytes, 1 << 20);
        IOVector v;

        io_vector_init_buf(&v, zero, n);
        ret = qcow2_write(bs, offset, n, &v);
        offset += n;
        bytes -= n;
    }
    return ret;
}

/* Whole subclusters, by changing the mapping where that can be done. */
static int coroutine_fn zero_mapped(BlockDriverState *bs, int64_t from, int64_t to, int flags)
{
    int ret;

    if (from >= to) {
        return 0;
    }
    ret = qcow2_zero_clusters(bs, from, to - from, flags & BDRV_REQ_MAY_UNMAP);
    if (ret == -ENOTSUP && !(flags & BDRV_REQ_NO_FALLBACK)) {
        /* A cluster that the end cuts, or all of what a disk that grows is to get. */
        ret = write_zero_bytes(bs, from, (from < bs->length ? MIN(to, bs->length) : to) - from);
    }
    return ret;
}

static int coroutine_fn qcow2_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                               int flags)
{
    Qcow2State *s = bs->opaque;
    int64_t cluster = s->cluster_size - 1, mask = (1LL << s->sub_bits) - 1, end = offset + bytes;
    int64_t first = (offset + mask) & ~mask, last, whole, whole_end;
    int ret = qcow2_bitmaps_begin_write(bs);

    if (ret < 0) {
        return ret;
    }
    /* The last cluster counts as whole when the disk ends in it. */
    last = end == bs->length ? (end + cluster) & ~cluster : end & ~mask;
    if (first >= last) {
        ret = write_zero_bytes(bs, offset, bytes);
    } else {
        whole = MIN((first + cluster) & ~cluster, last);
        whole_end = MAX(last & ~cluster, whole);
        if (offset < first) {
            ret = write_zero_bytes(bs, offset, first - offset);
        }
        ret = ret < 0 ? ret : zero_mapped(bs, first, whole, flags);
        ret = ret < 0 ? ret : zero_mapped(bs, whole, whole_end, flags);
        ret = ret < 0 ? ret : zero_mapped(bs, whole_end, last, flags);
        if (ret >= 0 && last < end) {
            ret = write_zero_bytes(bs, last, end - last);
        }
    }
    return ret >= 0 && (flags & BDRV_REQ_FUA) ? qcow2_flush(bs) : ret;
}

static int coroutine_fn qcow2_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    Qcow2State *s = bs->opaque;
    int64_t mask = s->cluster_size - 1, end = offset + bytes;
    int64_t first = (offset + mask) & ~mask;
    int64_t last = end == bs->length ? (end + mask) & ~mask : end & ~mask;
    int ret = first < last ? qcow2_bitmaps_begin_write(bs) : 0;

    return first < last && ret >= 0 ? qcow2_discard_clusters(bs, first, last - first) : ret;
}

static int coroutine_fn qcow2_co_flush(BlockDriverState *bs)
{
    return bs->read_only || bs->inactive ? 0 : qcow2_flush(bs);
}

static bool coroutine_fn qcow2_co_info(BlockDriverState *bs, BdrvInfo *info, GError **errp)
{
    Qcow2State *s = bs->opaque;

    info->cluster_size = s->cluster_size;
    info->vm_state_offset = qcow2_l1_entries(s, bs->length) << (s->cluster_bits + s->l2_bits);
    info->is_dirty = s->incompatible & QCOW2_INCOMPAT_DIRTY;
    info->backing_filename = s->backing_file;
    info->backing_format = s->backing_format;
    info->specific = qcow2_specific_info(s);
    return true;
}

const BlockDriver bdrv_qcow2_driver = {
    .name = "qcow2",
    .instance_size = sizeof(Qcow2State),
    .is_format = true,
    .supports_backing = true,
    .writes_compressed = true,
    .probe = qcow2_probe,
    .co_open = qcow2_co_open,
    .co_close = qcow2_co_close,
    .co_activate = qcow2_co_activate,
    .co_inactivate = qcow2_co_inactivate,
    .co_preadv = qcow2_co_preadv,
    .co_pwritev = qcow2_co_pwritev,
    .co_pwrite_zeroes = qcow2_co_pwrite_zeroes,
    .co_pdiscard = qcow2_co_pdiscard,
    .co_copy_range = qcow2_co_copy_range,
    .co_load_vmstate = qcow2_co_load_vmstate,
    .co_save_vmstate = qcow2_co_save_vmstate,
    .co_flush = qcow2_co_flush,
    .co_settle = qcow2_co_settle,
    .co_set_read_only = qcow2_co_set_read_only,
    .co_set_writable = qcow2_co_set_writable,
    .co_bitmaps_in_use = qcow2_bitmaps_begin_write,
    .co_truncate = qcow2_co_truncate,
    .co_block_status = qcow2_status,
    .co_create = qcow2_co_create,
    .co_check = qcow2_co_check,
    .co_amend = qcow2_co_amend,
    .can_store_bitmap = qcow2_can_store_bitmap,
    .co_info = qcow2_co_info,
    .co_measure = qcow2_co_measure,
    .co_change_backing = qcow2_co_change_backing,
    .co_make_empty = qcow2_co_make_empty,
    .snapshot = &qcow2_snapshot_driver,
};
