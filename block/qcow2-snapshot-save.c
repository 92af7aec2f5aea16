/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Taking a snapshot while the image is in use.
 *
 * freeze marks every L2 table of the active L1 as pending and does nothing else.  A pending
 * table is shared with the snapshot before the guest changes anything in its range, or at
 * publish: the snapshot gets the table as it is, the active layer a copy, and all data
 * clusters one more reference (qcow2-snapshot-walk.c).  If that fails (no space, a read
 * error) the snapshot has failed, and the guest's write goes on as if there were none.
 *
 * Machine state goes to clusters and L2 tables that only this object knows, behind the
 * disk's end in the snapshot's own address space.  Nothing on disk refers to any of it
 * before publish has made all of it durable and switches the header to the new table.
 */
#include <sys/statvfs.h>
#include "qcow2.h"
#include "qcow2-io.h"
#include "qcow2-snapshot-int.h"

typedef struct HostSpace {
    const char *path;
    struct statvfs st;
} HostSpace;

static int statvfs_worker(void *opaque)
{
    HostSpace *a = opaque;

    return statvfs(a->path, &a->st) < 0 ? -errno : 0;
}

/* Whether the host has room for bytes more; unknown counts as yes. */
static bool coroutine_fn has_space(BlockDriverState *bs, uint64_t bytes)
{
    Qcow2State *s = bs->opaque;
    HostSpace a = { .path = bs->file->bs->filename };
    uint64_t room;

    if (!a.path || co_run_in_worker(statvfs_worker, &a) < 0) {
        return true;
    }
    if (__builtin_mul_overflow((uint64_t)a.st.f_bavail, (uint64_t)a.st.f_frsize, &room)) {
        return true;
    }
    /* Some of it may go to clusters that are free in the image and allocated in the file. */
    if (s->free_hint << s->cluster_bits < (uint64_t)bs->file->bs->length) {
        room += bs->file->bs->length - (s->free_hint << s->cluster_bits);
    }
    return room >= bytes;
}

static void choose_id(Qcow2State *s, BdrvSnapshotInfo *info)
{
    uint64_t max = 0;

    for (guint i = 0; i < s->snapshots->len; i++) {
        Qcow2Snapshot *sn = s->snapshots->pdata[i];
        uint64_t id = g_ascii_strtoull(sn->id, NULL, 10);

        max = MAX(max, id < UINT32_MAX ? id : 0);
    }
    g_snprintf(info->id, sizeof(info->id), "%" PRIu64, max + 1);
}

static bool check_possible(BlockDriverState *bs, uint64_t state_tables, GError **errp)
{
    Qcow2State *s = bs->opaque;

    if (s->external_data) {
        error_setg(errp, "An image with an external data file cannot have snapshots");
    } else if (s->save) {
        error_setg(errp, "Another snapshot is being taken");
    } else if (s->corrupt || s->broken) {
        error_setg(errp, "The image is damaged");
    } else if (s->refcount_max < s->snapshots->len + 2ULL) {
        error_setg(errp, "Reference counts of %d bits are too narrow for another snapshot",
                   1 << s->refcount_order);
    } else if (s->snapshots->len >= QCOW2_MAX_SNAPSHOTS) {
        error_setg(errp, "Too many snapshots");
    } else if ((qcow2_l1_entries(s, s->disk_size) + state_tables) * 8 > QCOW2_MAX_L1_BYTES) {
        error_setg(errp, "The machine state is too large for the image's cluster size");
    } else {
        return true;
    }
    return false;
}

void *coroutine_fn qcow2_save_prepare(BlockDriverState *bs, BdrvSnapshotInfo *info,
                                      uint64_t vm_state_size, GError **errp)
{
    Qcow2State *s = bs->opaque;
    uint64_t tables = qcow2_l1_entries(s, vm_state_size);
    Qcow2Save *save;
    int ret;

    if (!check_possible(bs, tables, errp)) {
        return NULL;
    }
    save = g_new0(Qcow2Save, 1);
    save->state = g_ptr_array_new_with_free_func(g_free);
    save->with_state = vm_state_size > 0;
    s->save = save;
    if (!info->id[0]) {
        choose_id(s, info);
    }
    g_strlcpy(save->id, info->id, sizeof(save->id));
    save->name = g_strdup(info->name);
    save->serial = info->serial = bdrv_snapshot_new_serial();

    ret = qcow2_flush(bs);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not flush the metadata");
        goto fail;
    }
    if (!has_space(bs, vm_state_size + (vm_state_size >> 8) + (4 << 20))) {
        error_setg_errno(errp, ENOSPC, "The machine state needs %" PRIu64 " MiB",
                         vm_state_size >> 20);
        goto fail;
    }
    co_mutex_lock(&s->walk_lock); /* a resize under way ends first; there will be none after it */
    co_mutex_unlock(&s->walk_lock);
    save->l1_count = MAX(qcow2_clusters(s, (qcow2_l1_entries(s, s->disk_size) + tables) * 8), 1);
    co_mutex_lock(&s->lock);
    ret = qcow2_alloc_contiguous(bs, save->l1_count, &save->l1_cluster);
    co_mutex_unlock(&s->lock);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not allocate the snapshot's L1 table");
        save->l1_count = 0;
        goto fail;
    }
    return save;
fail:
    qcow2_save_abort(bs, save);
    return NULL;
}

bool coroutine_fn qcow2_save_freeze(BlockDriverState *bs, void *opaque, GError **errp)
{
    Qcow2State *s = bs->opaque;
    Qcow2Save *save = opaque;

    save->disk_size = s->disk_size;
    save->guest_tables = qcow2_l1_entries(s, s->disk_size) +
                         (save->with_state ? 0 : qcow2_state_tables(s));
    save->l1 = g_new0(uint64_t, save->guest_tables + 1);
    s->pending = g_malloc0(s->l1_size / 8 + 1);
    for (uint64_t i = 0; i < save->guest_tables; i++) {
        if (s->l1[i] & QCOW2_OFFSET_MASK) {
            s->pending[i / 8] |= 1u << (i % 8);
        }
    }
    return true;
}

void qcow2_save_fail(Qcow2State *s, int error)
{
    if (s->save && !s->save->error) {
        s->save->error = error;
    }
    g_clear_pointer(&s->pending, g_free);
}

int coroutine_fn qcow2_save_process(BlockDriverState *bs, uint64_t l1_index)
{
    Qcow2State *s = bs->opaque;
    int ret = qcow2_share_table(bs, l1_index, &s->save->l1[l1_index]);

    if (ret >= 0 && s->pending) {
        s->pending[l1_index / 8] &= ~(1u << (l1_index % 8));
    }
    return ret;
}

/* --- Machine state --------------------------------------------------------------------------- */

uint64_t *qcow2_save_table(Qcow2State *s, Qcow2Save *save, uint64_t index)
{
    if (index >= save->state->len) {
        g_ptr_array_set_size(save->state, index + 1);
    }
    if (!save->state->pdata[index]) {
        save->state->pdata[index] = g_try_malloc0(s->cluster_size);
    }
    return save->state->pdata[index];
}

static Qcow2Request *state_conflict(Qcow2Save *save, int64_t start, int64_t end)
{
    for (Qcow2Request *r = save->requests; r; r = r->next) {
        if (start < r->end && r->start < end) {
            return r;
        }
    }
    return NULL;
}

/* Writes into count fresh clusters at host, with zeroes around what the caller gives. */
static int coroutine_fn write_fresh(BlockDriverState *bs, uint64_t host, uint64_t count,
                                    bool zeroed, uint64_t in_cluster, IOVector *iov, size_t from,
                                    size_t bytes)
{
    Qcow2State *s = bs->opaque;
    uint64_t tail = (count << s->cluster_bits) - in_cluster - bytes;
    g_autofree uint8_t *zero = NULL;
    IOVector all;
    int ret;

    if (zeroed || (!in_cluster && !tail)) {
        return qcow2_file_write(bs, host + in_cluster, iov, from, bytes, BDRV_REQ_WRITE_BEHIND);
    }
    zero = g_malloc0(MAX(in_cluster, tail));
    io_vector_init(&all, iov->niov + 2);
    if (in_cluster) {
        io_vector_add(&all, zero, in_cluster);
    }
    io_vector_concat(&all, iov, from, bytes);
    if (tail) {
        io_vector_add(&all, zero, tail);
    }
    ret = bdrv_co_pwritev(bs->file, host, all.size, &all, BDRV_REQ_WRITE_BEHIND);
    io_vector_destroy(&all);
    return ret;
}

int64_t coroutine_fn qcow2_save_write_new(BlockDriverState *bs, Qcow2Save *save,
                                          uint64_t *entries, uint64_t n, uint64_t in_cluster,
                                          IOVector *iov, size_t from, uint64_t bytes)
{
    Qcow2State *s = bs->opaque;
    uint64_t cluster;
    bool zeroed;
    int ret;

    co_mutex_lock(&s->lock);
    ret = qcow2_alloc(bs, n, &cluster, &n);
    if (ret >= 0) {
        zeroed = cluster << s->cluster_bits >= s->zero_from;
        s->zero_from = MAX(s->zero_from, (cluster + n) << s->cluster_bits);
    }
    co_mutex_unlock(&s->lock);
    if (ret < 0) {
        return ret;
    }
    bytes = MIN(bytes, (n << s->cluster_bits) - in_cluster);
    ret = write_fresh(bs, cluster << s->cluster_bits, n, zeroed, in_cluster, iov, from, bytes);
    if (ret < 0) {
        co_mutex_lock(&s->lock);
        qcow2_free_now(bs, cluster, n);
        co_mutex_unlock(&s->lock);
        return ret;
    }
    for (uint64_t i = 0; i < n; i++) {
        entries[i] = ((cluster + i) << s->cluster_bits) | QCOW2_COPIED;
    }
    return bytes;
}

/* Writes the part of a request that one run of clusters holds; returns its bytes or -errno. */
static int64_t coroutine_fn write_run(BlockDriverState *bs, Qcow2Save *save, uint64_t offset,
                                      IOVector *iov, size_t from, uint64_t bytes)
{
    Qcow2State *s = bs->opaque;
    uint64_t index = (offset >> s->cluster_bits) & (s->l2_entries - 1);
    uint64_t in_cluster = offset & (s->cluster_size - 1);
    uint64_t n = 1, limit = MIN(qcow2_clusters(s, in_cluster + bytes), s->l2_entries - index);
    uint64_t *table = qcow2_save_table(s, save, offset >> (s->cluster_bits + s->l2_bits));
    uint64_t first;
    int ret;

    if (!table) {
        return -ENOMEM;
    }
    first = table[index];
    if (first & QCOW2_COMPRESSED) {
        return qcow2_save_unpack_over(bs, save, table + index, in_cluster, iov, from, bytes);
    }
    if (first && !(first & QCOW2_COPIED)) {
        return -EINVAL; /* the base's */
    }
    if (first) {
        while (n < limit && table[index + n] == first + (n << s->cluster_bits)) {
            n++;
        }
        bytes = MIN(bytes, (n << s->cluster_bits) - in_cluster);
        ret = qcow2_file_write(bs, (first & QCOW2_OFFSET_MASK) + in_cluster, iov, from, bytes,
                               BDRV_REQ_WRITE_BEHIND);
        return ret < 0 ? ret : (int64_t)bytes;
    }
    while (n < limit && !table[index + n]) {
        n++;
    }
    if (save->compress && !in_cluster && bytes >= s->cluster_size) {
        return qcow2_save_write_packed(bs, save, table + index, MIN(n, bytes >> s->cluster_bits),
                                       iov, from);
    }
    if (save->compress && in_cluster) {
        n = 1; /* what follows may be compressed */
    }
    return qcow2_save_write_new(bs, save, table + index, n, in_cluster, iov, from, bytes);
}

int coroutine_fn qcow2_save_write(BlockDriverState *bs, void *opaque, uint64_t offset,
                                  IOVector *iov)
{
    Qcow2State *s = bs->opaque;
    Qcow2Save *save = opaque;
    uint64_t mask = s->cluster_size - 1, end, bytes = iov->size;
    Qcow2Request request, *conflict;
    size_t from = 0;
    int64_t ret = 0;

    if (save->error) {
        return save->error;
    }
    if (!save->with_state) {
        return -EINVAL; /* the active layer's own may be where it would go */
    }
    if (__builtin_add_overflow(offset, bytes, &end) || end > INT64_MAX / 2 ||
        (save->guest_tables + qcow2_l1_entries(s, end)) * 8 > QCOW2_MAX_L1_BYTES) {
        return -EFBIG;
    }
    while ((conflict = state_conflict(save, offset & ~mask, (end + mask) & ~mask))) {
        co_queue_wait(&conflict->waiters, NULL);
    }
    qcow2_request_begin(&save->requests, &request, offset & ~mask, (end + mask) & ~mask, true);
    while (bytes && ret >= 0) {
        ret = write_run(bs, save, offset, iov, from, bytes);
        if (ret >= 0) {
            offset += ret;
            from += ret;
            bytes -= ret;
        }
    }
    qcow2_request_end(&request);
    s->write_seq++;
    return ret < 0 ? ret : 0;
}

/* --- Publishing ------------------------------------------------------------------------------- */

static int coroutine_fn finish_pending(BlockDriverState *bs, Qcow2Save *save)
{
    Qcow2State *s = bs->opaque;
    int ret = 0;

    for (uint64_t i = 0; i < save->guest_tables && ret >= 0; i++) {
        if (!qcow2_is_pending(s, i)) {
            continue;
        }
        co_mutex_lock(&s->lock);
        if (qcow2_is_pending(s, i)) {
            ret = qcow2_save_process(bs, i);
            if (ret < 0) {
                qcow2_save_fail(s, ret);
            }
        }
        co_mutex_unlock(&s->lock);
        if (ret >= 0) {
            ret = qcow2_walk_pause(bs);
        }
    }
    return ret < 0 ? ret : save->error;
}

/* Writes one L2 table of the machine state. */
static int coroutine_fn store_state_table(BlockDriverState *bs, const uint64_t *table,
                                          uint64_t offset)
{
    Qcow2State *s = bs->opaque;
    g_autofree uint64_t *both = NULL;

    if (!s->extended_l2) {
        return qcow2_store_numbers(bs, offset, table, s->l2_entries);
    }
    both = g_new(uint64_t, 2 * s->l2_entries);
    for (uint64_t i = 0; i < s->l2_entries; i++) {
        uint64_t bitmap = table[s->l2_entries + i];
        bool whole = !bitmap && table[i] && !(table[i] & QCOW2_COMPRESSED);

        both[2 * i] = table[i];
        both[2 * i + 1] = whole ? QCOW2_SUB_ALL : bitmap;
    }
    return qcow2_store_numbers(bs, offset, both, 2 * s->l2_entries);
}

/* Writes the L2 tables of the machine state and enters them in l1. */
static int coroutine_fn write_state_tables(BlockDriverState *bs, Qcow2Save *save, uint64_t *l1)
{
    Qcow2State *s = bs->opaque;
    uint64_t n = 0, cluster;
    int ret = 0;

    for (guint i = 0; i < save->state->len; i++) {
        n += save->state->pdata[i] != NULL;
    }
    if (!n) {
        return 0;
    }
    co_mutex_lock(&s->lock);
    ret = qcow2_alloc_contiguous(bs, n, &cluster);
    co_mutex_unlock(&s->lock);
    if (ret < 0) {
        return ret;
    }
    save->tables_cluster = cluster;
    save->tables_count = n;
    for (guint i = 0; i < save->state->len && ret >= 0; i++) {
        uint64_t offset = cluster << s->cluster_bits;

        if (!save->state->pdata[i]) {
            continue;
        }
        cluster++;
        qcow2_cache_forget(&s->l2_cache, offset);
        ret = store_state_table(bs, save->state->pdata[i], offset);
        l1[save->guest_tables + i] = offset;
        qcow2_breathe();
    }
    return ret;
}

/* Writes all the snapshot's own metadata; *l1_size entries at save->l1_cluster. */
static int coroutine_fn write_snapshot(BlockDriverState *bs, Qcow2Save *save, uint64_t *l1_size)
{
    Qcow2State *s = bs->opaque;
    uint64_t size = save->guest_tables + save->state->len;
    g_autofree uint64_t *l1 = g_new0(uint64_t, size + 1);
    uint64_t count = qcow2_clusters(s, size * 8);
    int ret;

    memcpy(l1, save->l1, save->guest_tables * 8);
    ret = write_state_tables(bs, save, l1);
    if (ret < 0) {
        return ret;
    }
    co_mutex_lock(&s->lock);
    if (count > save->l1_count) {
        qcow2_free_now(bs, save->l1_cluster, save->l1_count);
        save->l1_count = 0;
        ret = qcow2_alloc_contiguous(bs, count, &save->l1_cluster);
        save->l1_count = ret < 0 ? 0 : count;
    } else if (count < save->l1_count) {
        qcow2_free_now(bs, save->l1_cluster + count, save->l1_count - count);
        save->l1_count = count;
    }
    co_mutex_unlock(&s->lock);
    if (ret >= 0) {
        ret = qcow2_store_numbers(bs, save->l1_cluster << s->cluster_bits, l1, size);
    }
    *l1_size = size;
    return ret;
}

bool coroutine_fn qcow2_save_publish(BlockDriverState *bs, void *opaque,
                                     const BdrvSnapshotInfo *info, GError **errp)
{
    Qcow2State *s = bs->opaque;
    Qcow2Save *save = opaque;
    Qcow2Snapshot *sn;
    uint64_t l1_size = 0;
    int ret;

    co_mutex_lock(&s->walk_lock);
    ret = save->error ? save->error : finish_pending(bs, save);
    g_clear_pointer(&s->pending, g_free);
    if (ret >= 0) {
        ret = write_snapshot(bs, save, &l1_size);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not write the snapshot");
        co_mutex_unlock(&s->walk_lock);
        return false;
    }
    sn = g_new0(Qcow2Snapshot, 1);
    sn->info = *info;
    sn->info.disk_size = save->disk_size;
    sn->info.serial = save->serial;
    g_strlcpy(sn->info.id, save->id, sizeof(sn->info.id));
    sn->id = g_strdup(save->id);
    sn->name = g_strdup(info->name[0] ? info->name : save->name);
    g_strlcpy(sn->info.name, sn->name, sizeof(sn->info.name));
    sn->l1_offset = l1_size ? save->l1_cluster << s->cluster_bits : 0;
    sn->l1_size = l1_size;
    save->published = qcow2_snapshots_store(bs, sn, NULL, errp);
    if (!save->published) {
        qcow2_snapshot_free(sn);
    }
    co_mutex_unlock(&s->walk_lock);
    return save->published;
}

static void save_free(BlockDriverState *bs, Qcow2Save *save)
{
    Qcow2State *s = bs->opaque;

    if (s->save == save) {
        g_clear_pointer(&s->pending, g_free);
        s->save = NULL;
    }
    qcow2_save_drop_base(s, save);
    g_ptr_array_free(save->state, true);
    g_free(save->l1);
    g_free(save->name);
    g_free(save);
}

/* Gives back what only the unpublished snapshot used. */
static void coroutine_fn undo(BlockDriverState *bs, Qcow2Save *save)
{
    Qcow2State *s = bs->opaque;

    co_mutex_lock(&s->walk_lock);
    g_clear_pointer(&s->pending, g_free);
    /* The walk compares with counts from which put-off frees are taken away already. */
    qcow2_flush(bs);
    if (save->l1) {
        qcow2_release_tree(bs, save->l1, save->guest_tables);
    }
    for (guint i = 0; i < save->state->len; i++) {
        uint64_t *table = save->state->pdata[i];

        for (uint64_t j = 0; table && j < s->l2_entries; j++) {
            qcow2_free_entry_later(s, table[j]);
        }
    }
    if (save->tables_count) {
        qcow2_free_later(s, save->tables_cluster, save->tables_count);
    }
    if (save->l1_count) {
        qcow2_free_later(s, save->l1_cluster, save->l1_count);
    }
    /* What cannot be flushed now is given back by a later flush. */
    if (qcow2_flush(bs) >= 0) {
        qcow2_wait_for_holes(s);
        qcow2_flush(bs);
    }
    co_mutex_unlock(&s->walk_lock);
}

void coroutine_fn qcow2_save_abort(BlockDriverState *bs, void *opaque)
{
    Qcow2State *s = bs->opaque;
    Qcow2Save *save = opaque;

    while (save->requests) {
        co_queue_wait(&save->requests->waiters, NULL);
    }
    if (save->published) {
        GError *err = NULL;

        if (!qcow2_snapshot_remove(bs, save->id, NULL, &err)) {
            g_printerr("qcow2: '%s': %s\n", bs->filename ? bs->filename : "", err->message);
            g_error_free(err);
        }
    } else {
        undo(bs, save);
    }
    save_free(bs, save);
    co_queue_restart_all(&s->pin_queue);
}

void coroutine_fn qcow2_save_done(BlockDriverState *bs, void *opaque)
{
    Qcow2State *s = bs->opaque;

    save_free(bs, opaque);
    co_queue_restart_all(&s->pin_queue);
}
