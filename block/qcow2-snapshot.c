/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The snapshot table: reading, checking and replacing it; listing and deleting snapshots;
 * reading the machine state of one.  The table is never changed in place: a new one is
 * written to fresh clusters, and one header write makes it the table.
 */
#include "qcow2.h"
#include "qcow2-snapshot-int.h"

#define ENTRY_FIXED 40
#define ENTRY_EXTRA 24 /* 64-bit state size, disk size, instruction count */

void qcow2_snapshot_free(Qcow2Snapshot *sn)
{
    g_free(sn->id);
    g_free(sn->name);
    g_free(sn->extra);
    g_free(sn);
}

Qcow2Snapshot *qcow2_snapshot_find_id(Qcow2State *s, const char *id)
{
    for (guint i = 0; i < s->snapshots->len; i++) {
        Qcow2Snapshot *sn = s->snapshots->pdata[i];

        if (!strcmp(sn->id, id)) {
            return sn;
        }
    }
    return NULL;
}

const char *qcow2_snapshot_fault(const Qcow2State *s, const Qcow2Snapshot *sn)
{
    if (sn->l1_size > QCOW2_MAX_L1_BYTES / 8) {
        return "Snapshot L1 table too large";
    }
    if (sn->l1_offset & (s->cluster_size - 1) || sn->l1_offset >= QCOW2_MAX_HOST_OFFSET ||
        (sn->l1_size && sn->l1_offset < s->cluster_size)) {
        return "Snapshot L1 table offset invalid";
    }
    return sn->info.disk_size > INT64_MAX - (2 << 20) ? "Snapshot disk size invalid" : NULL;
}

uint64_t *coroutine_fn qcow2_snapshot_load_l1(BlockDriverState *bs, const Qcow2Snapshot *sn,
                                              GError **errp)
{
    const char *fault = qcow2_snapshot_fault(bs->opaque, sn);

    if (fault) {
        error_setg(errp, "%s", fault);
        return NULL;
    }
    return qcow2_load_numbers(bs, sn->l1_offset, sn->l1_size, "snapshot L1 table", errp);
}

void coroutine_fn qcow2_breathe(void)
{
    aio_co_schedule(aio_current(), coroutine_self());
    coroutine_yield();
}

/* A part of the table.  To whoever repairs it what lies behind the end of the file is zero. */
static int coroutine_fn read_table(BlockDriverState *bs, uint64_t offset, size_t bytes, void *buf)
{
    if (bs->for_check && offset >= (uint64_t)bs->file->bs->length) {
        memset(buf, 0, bytes);
        return 0;
    }
    return bytes ? bdrv_co_pread(bs->file, offset, bytes, buf, 0) : 0;
}

/* Reads one entry at *offset and moves on. */
static Qcow2Snapshot *coroutine_fn load_entry(BlockDriverState *bs, uint64_t *offset, uint32_t n,
                                              GError **errp)
{
    Qcow2State *s = bs->opaque;
    uint8_t fixed[ENTRY_FIXED];
    g_autofree uint8_t *rest = NULL;
    uint32_t id_len, name_len, extra_len, kept;
    Qcow2Snapshot *sn;
    int ret;

    ret = read_table(bs, *offset, sizeof(fixed), fixed);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Failed to read snapshot table entry %" PRIu32, n);
        return NULL;
    }
    id_len = qcow2_be16(fixed + 12);
    name_len = qcow2_be16(fixed + 14);
    extra_len = qcow2_be32(fixed + 36);
    kept = MIN(extra_len, QCOW2_MAX_SNAPSHOT_EXTRA);
    if (extra_len > kept && !bs->for_repair) {
        error_setg(errp, "Too much extra metadata in snapshot table entry %" PRIu32, n);
        return NULL;
    }
    rest = g_malloc0((gsize)kept + id_len + name_len + 1);
    ret = read_table(bs, *offset + ENTRY_FIXED, kept, rest);
    ret = ret < 0 ? ret : read_table(bs, *offset + ENTRY_FIXED + extra_len, id_len + name_len,
                                     rest + kept);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Failed to read snapshot table entry %" PRIu32, n);
        return NULL;
    }
    sn = g_new0(Qcow2Snapshot, 1);
    sn->info.serial = bdrv_snapshot_new_serial();
    sn->l1_offset = qcow2_be64(fixed);
    sn->l1_size = qcow2_be32(fixed + 8);
    sn->incomplete = s->version >= 3 && extra_len < 16;
    sn->info.date_sec = qcow2_be32(fixed + 16);
    sn->info.date_nsec = qcow2_be32(fixed + 20);
    sn->info.vm_clock_nsec = qcow2_be64(fixed + 24);
    sn->info.vm_state_size = extra_len >= 8 ? qcow2_be64(rest) : qcow2_be32(fixed + 32);
    sn->info.disk_size = extra_len >= 16 ? qcow2_be64(rest + 8) : s->disk_size;
    sn->info.icount = extra_len >= 24 ? qcow2_be64(rest + 16) : UINT64_MAX;
    sn->too_long = extra_len > kept ? extra_len : 0;
    if (kept > ENTRY_EXTRA) {
        sn->extra_size = kept - ENTRY_EXTRA;
        sn->extra = g_memdup2(rest + ENTRY_EXTRA, sn->extra_size);
    }
    sn->id = g_strndup((char *)rest + kept, id_len);
    sn->name = g_strndup((char *)rest + kept + id_len, name_len);
    g_strlcpy(sn->info.id, sn->id, sizeof(sn->info.id));
    g_strlcpy(sn->info.name, sn->name, sizeof(sn->info.name));
    *offset += (ENTRY_FIXED + (uint64_t)extra_len + id_len + name_len + 7) & ~7ULL;
    return sn;
}

bool coroutine_fn qcow2_snapshots_load(BlockDriverState *bs, GError **errp)
{
    Qcow2State *s = bs->opaque;
    uint64_t offset = s->snapshots_offset;

    if (s->snapshots_count > QCOW2_MAX_SNAPSHOTS) {
        error_setg(errp, "Snapshot table too large");
        return false;
    }
    if (s->snapshots_count && (offset & (s->cluster_size - 1) || offset < s->cluster_size ||
                               offset >= QCOW2_MAX_HOST_OFFSET)) {
        error_setg(errp, "Snapshot table offset invalid");
        return false;
    }
    for (uint32_t i = 0; i < s->snapshots_count; i++) {
        Qcow2Snapshot *sn = load_entry(bs, &offset, i, errp);

        if (!sn) {
            return false;
        }
        g_ptr_array_add(s->snapshots, sn);
        if (offset - s->snapshots_offset > QCOW2_MAX_SNAPSHOT_TABLE) {
            error_setg(errp, "Snapshot table too large");
            return false;
        }
    }
    s->snapshots_bytes = offset - s->snapshots_offset;
    return true;
}

static void append_entry(GByteArray *table, const Qcow2Snapshot *sn)
{
    uint8_t fixed[ENTRY_FIXED + ENTRY_EXTRA] = { 0 }, padding[8] = { 0 };
    size_t id_len = strlen(sn->id), name_len = strlen(sn->name);

    qcow2_put64(fixed, sn->l1_offset);
    qcow2_put32(fixed + 8, sn->l1_size);
    qcow2_put16(fixed + 12, id_len);
    qcow2_put16(fixed + 14, name_len);
    qcow2_put32(fixed + 16, sn->info.date_sec);
    qcow2_put32(fixed + 20, sn->info.date_nsec);
    qcow2_put64(fixed + 24, sn->info.vm_clock_nsec);
    qcow2_put32(fixed + 32, sn->info.vm_state_size > UINT32_MAX ? 0 : sn->info.vm_state_size);
    qcow2_put32(fixed + 36, ENTRY_EXTRA + sn->extra_size);
    qcow2_put64(fixed + 40, sn->info.vm_state_size);
    qcow2_put64(fixed + 48, sn->info.disk_size);
    qcow2_put64(fixed + 56, sn->info.icount);
    g_byte_array_append(table, fixed, sizeof(fixed));
    g_byte_array_append(table, sn->extra, sn->extra_size);
    g_byte_array_append(table, (const guint8 *)sn->id, id_len);
    g_byte_array_append(table, (const guint8 *)sn->name, name_len);
    g_byte_array_append(table, padding, -table->len & 7);
}

/* Writes table to fresh clusters, durable with its reference counts. */
static int coroutine_fn write_table(BlockDriverState *bs, GByteArray *table, uint64_t *offset)
{
    Qcow2State *s = bs->opaque;
    uint64_t count = qcow2_clusters(s, table->len), cluster = 0;
    size_t used = table->len;
    int ret = 0;

    if (count) {
        co_mutex_lock(&s->lock);
        ret = qcow2_alloc_contiguous(bs, count, &cluster);
        co_mutex_unlock(&s->lock);
        if (ret < 0) {
            return ret;
        }
        g_byte_array_set_size(table, count << s->cluster_bits);
        memset(table->data + used, 0, table->len - used);
        ret = bdrv_co_pwrite(bs->file, cluster << s->cluster_bits, table->len, table->data, 0);
    }
    s->write_seq++;
    ret = ret < 0 ? ret : qcow2_flush(bs);
    if (ret < 0 && count) {
        co_mutex_lock(&s->lock);
        qcow2_free_now(bs, cluster, count);
        co_mutex_unlock(&s->lock);
    }
    *offset = cluster << s->cluster_bits;
    return ret;
}

bool coroutine_fn qcow2_snapshots_store(BlockDriverState *bs, Qcow2Snapshot *add,
                                        Qcow2Snapshot *remove, GError **errp)
{
    Qcow2State *s = bs->opaque;
    g_autoptr(GByteArray) table = g_byte_array_new();
    uint64_t offset, bytes, old_offset = s->snapshots_offset, old_bytes = s->snapshots_bytes;
    uint32_t count = 0;
    int ret;

    for (guint i = 0; i < s->snapshots->len; i++) {
        if (s->snapshots->pdata[i] != remove) {
            append_entry(table, s->snapshots->pdata[i]);
            count++;
        }
    }
    if (add) {
        append_entry(table, add);
        count++;
    }
    bytes = table->len;
    if (count > QCOW2_MAX_SNAPSHOTS || bytes > QCOW2_MAX_SNAPSHOT_TABLE) {
        error_setg(errp, "Too many snapshots");
        return false;
    }
    ret = write_table(bs, table, &offset);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not write the snapshot table");
        return false;
    }
    co_mutex_lock(&s->flush_lock);
    s->snapshots_offset = offset;
    s->snapshots_count = count;
    ret = qcow2_header_write(bs);
    if (ret >= 0) {
        ret = qcow2_sync_file(bs);
    }
    if (ret < 0) {
        s->snapshots_offset = old_offset;
        s->snapshots_count = s->snapshots->len;
        qcow2_header_put_back(bs);
        if (bytes && !s->broken) {
            qcow2_free_later(s, offset >> s->cluster_bits, qcow2_clusters(s, bytes));
        }
    }
    co_mutex_unlock(&s->flush_lock);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not update the header");
        return false;
    }
    s->snapshots_bytes = bytes;
    for (guint i = 0; i < s->snapshots->len; i++) {
        ((Qcow2Snapshot *)s->snapshots->pdata[i])->incomplete = false;
        ((Qcow2Snapshot *)s->snapshots->pdata[i])->too_long = 0;
    }
    if (old_bytes) {
        qcow2_free_later(s, old_offset >> s->cluster_bits, qcow2_clusters(s, old_bytes));
    }
    if (remove) {
        g_ptr_array_remove(s->snapshots, remove);
    }
    if (add) {
        g_ptr_array_add(s->snapshots, add);
    }
    qcow2_load_inactive_l2(bs);
    return true;
}

static BdrvSnapshotInfo *coroutine_fn snapshot_list(BlockDriverState *bs, int *n, GError **errp)
{
    Qcow2State *s = bs->opaque;
    BdrvSnapshotInfo *list = s->snapshots->len ? g_new(BdrvSnapshotInfo, s->snapshots->len) : NULL;

    for (guint i = 0; i < s->snapshots->len; i++) {
        list[i] = ((Qcow2Snapshot *)s->snapshots->pdata[i])->info;
    }
    *n = s->snapshots->len;
    return list;
}

/* --- Reading machine state ----------------------------------------------------------------- */

typedef struct Reader {
    Qcow2Snapshot *sn;
    uint64_t *l1;
    uint64_t base; /* of the state in the snapshot's own address space */
    BdrvSnapshotInfo info;
} Reader;

static void *coroutine_fn snapshot_open(BlockDriverState *bs, const char *id, GError **errp)
{
    Qcow2State *s = bs->opaque;
    Qcow2Snapshot *sn = qcow2_snapshot_find_id(s, id);
    uint64_t first, *l1;
    Reader *r;

    if (!sn) {
        error_setg(errp, "Snapshot '%s' does not exist", id);
        return NULL;
    }
    sn->pins++;
    l1 = qcow2_snapshot_load_l1(bs, sn, errp);
    if (!l1) {
        sn->pins--;
        co_queue_restart_all(&s->pin_queue);
        return NULL;
    }
    first = qcow2_l1_entries(s, sn->info.disk_size);
    r = g_new0(Reader, 1);
    r->sn = sn;
    r->l1 = l1;
    r->base = first << (s->cluster_bits + s->l2_bits);
    r->info = sn->info;
    return r;
}

static const BdrvSnapshotInfo *snapshot_reader_info(void *reader)
{
    return &((Reader *)reader)->info;
}

static int coroutine_fn snapshot_read(BlockDriverState *bs, void *reader, uint64_t offset,
                                      IOVector *iov)
{
    Reader *r = reader;

    if (offset > INT64_MAX - r->base || iov->size > INT64_MAX - r->base - offset) {
        return -EINVAL;
    }
    return qcow2_read(bs, r->l1, r->sn->l1_size, r->base + offset, iov->size, iov, 0, false);
}

static int coroutine_fn snapshot_read_disk(BlockDriverState *bs, void *reader, uint64_t offset,
                                           IOVector *iov)
{
    Reader *r = reader;

    if (offset > r->info.disk_size || iov->size > r->info.disk_size - offset) {
        return -EINVAL;
    }
    return qcow2_read(bs, r->l1, r->sn->l1_size, offset, iov->size, iov, 0, true);
}

/* One run of one kind, within one L2 table. */
static int coroutine_fn snapshot_map(BlockDriverState *bs, void *reader, uint64_t offset,
                                     uint64_t bytes, uint64_t *pnum, int64_t *map)
{
    Qcow2State *s = bs->opaque;
    Reader *r = reader;
    uint64_t at, l1_index;
    Qcow2Table *t = NULL;
    Qcow2Run run;
    int ret = 0;

    if (offset > INT64_MAX - r->base || bytes > INT64_MAX - r->base - offset) {
        return -EINVAL;
    }
    at = r->base + offset;
    l1_index = at >> (s->cluster_bits + s->l2_bits);
    if (l1_index < r->sn->l1_size) {
        ret = qcow2_l2_load(bs, r->l1[l1_index], &t);
    }
    if (ret < 0) {
        return ret;
    }
    qcow2_run(s, t, at, bytes, &run);
    qcow2_cache_put(&s->l2_cache, t);
    *pnum = run.bytes;
    *map = run.kind == QCOW2_NORMAL ? (int64_t)run.host : -1;
    if (run.kind == QCOW2_COMPRESSED_DATA) {
        return -ENOTSUP;
    }
    if (run.kind == QCOW2_INVALID ||
        (run.kind == QCOW2_NORMAL && run.entry & QCOW2_OFFSET_MASK & (s->cluster_size - 1))) {
        return -EINVAL;
    }
    return 0;
}

static int coroutine_fn snapshot_map_packed(BlockDriverState *bs, void *reader, uint64_t offset,
                                            BdrvSnapshotPacked *packed)
{
    Qcow2State *s = bs->opaque;
    Reader *r = reader;
    uint64_t at, l1_index, entry = 0, bytes;
    Qcow2Table *t = NULL;
    int ret = 0;

    if (offset > INT64_MAX - r->base) {
        return -EINVAL;
    }
    at = r->base + offset;
    l1_index = at >> (s->cluster_bits + s->l2_bits);
    if (l1_index < r->sn->l1_size) {
        ret = qcow2_l2_load(bs, r->l1[l1_index], &t);
    }
    if (t) {
        entry = qcow2_l2_get(t, (at >> s->cluster_bits) & (s->l2_entries - 1));
        qcow2_cache_put(&s->l2_cache, t);
    }
    if (ret < 0 || qcow2_kind(s, entry) != QCOW2_COMPRESSED_DATA) {
        return ret < 0 ? ret : -ENOTSUP;
    }
    qcow2_compressed_extent(s, entry, &packed->file_offset, &bytes);
    packed->offset = offset - (at & (s->cluster_size - 1));
    packed->bytes = s->cluster_size;
    packed->file_bytes = bytes;
    return 0;
}

static int snapshot_unpack(BlockDriverState *bs, const BdrvSnapshotPacked *packed, const void *in,
                           void *out)
{
    Qcow2State *s = bs->opaque;

    return qcow2_unpack(s->compression, in, packed->file_bytes, out, packed->bytes);
}

static void coroutine_fn snapshot_close(BlockDriverState *bs, void *reader)
{
    Qcow2State *s = bs->opaque;
    Reader *r = reader;

    r->sn->pins--;
    co_queue_restart_all(&s->pin_queue);
    g_free(r->l1);
    g_free(r);
}

/* --- Deleting --------------------------------------------------------------------------------- */

/* The snapshot, with walk_lock held, nobody reading it; NULL and errp if there is none. */
static Qcow2Snapshot *coroutine_fn lock_unpinned(BlockDriverState *bs, const char *id,
                                                 GError **errp)
{
    Qcow2State *s = bs->opaque;

    for (;;) {
        Qcow2Snapshot *sn;

        co_mutex_lock(&s->walk_lock);
        sn = qcow2_snapshot_find_id(s, id);
        if (sn && !sn->pins) {
            return sn;
        }
        co_mutex_unlock(&s->walk_lock);
        if (!sn) {
            error_setg(errp, "Snapshot with ID '%s' does not exist", id);
            return NULL;
        }
        co_queue_wait(&s->pin_queue, NULL);
    }
}

static void set_id(Qcow2Snapshot *sn, const char *id)
{
    g_free(sn->id);
    sn->id = g_strdup(id);
    g_strlcpy(sn->info.id, id, sizeof(sn->info.id));
}

bool coroutine_fn qcow2_snapshot_remove(BlockDriverState *bs, const char *id, const char *heir,
                                        GError **errp)
{
    Qcow2State *s = bs->opaque;
    g_autofree uint64_t *l1 = NULL;
    Qcow2Snapshot *sn = lock_unpinned(bs, id, errp), *next = NULL;
    uint64_t l1_offset;
    uint32_t l1_size;
    bool ok = false;
    int ret;

    if (!sn) {
        return false;
    }
    l1_offset = sn->l1_offset;
    l1_size = sn->l1_size;
    l1 = qcow2_snapshot_load_l1(bs, sn, errp);
    if (!l1) {
        goto out;
    }
    /* Frees put off so far take effect first: the walk looks at the counts. */
    ret = qcow2_flush(bs);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not flush the metadata");
        goto out;
    }
    next = heir ? qcow2_snapshot_find_id(s, heir) : NULL;
    if (heir && !next) {
        error_setg(errp, "Snapshot with ID '%s' does not exist", heir);
        goto out;
    }
    if (next) {
        set_id(next, id);
    }
    sn->pins++; /* nobody else deletes it while the table is written */
    if (!qcow2_snapshots_store(bs, NULL, sn, errp)) {
        sn->pins--;
        if (next) {
            set_id(next, heir);
        }
        goto out;
    }
    ret = qcow2_release_tree(bs, l1, l1_size);
    if (l1_size) {
        qcow2_free_later(s, l1_offset >> s->cluster_bits, qcow2_clusters(s, l1_size * 8ULL));
    }
    /* The first flush gives the clusters back, the second makes that durable. */
    ret = ret < 0 ? ret : qcow2_flush(bs);
    qcow2_wait_for_holes(s);
    ret = ret < 0 ? ret : qcow2_flush(bs);
    ok = ret >= 0;
    if (!ok) {
        error_setg_errno(errp, -ret, "The snapshot is gone, but not all of its clusters could be "
                         "freed");
    }
out:
    co_mutex_unlock(&s->walk_lock);
    co_queue_restart_all(&s->pin_queue);
    return ok;
}

const BdrvSnapshotDriver qcow2_snapshot_driver = {
    .list = snapshot_list,
    .prepare = qcow2_save_prepare,
    .freeze = qcow2_save_freeze,
    .write = qcow2_save_write,
    .compress = qcow2_save_compress,
    .compressed = qcow2_save_compressed,
    .share_with = qcow2_save_share_with,
    .share = qcow2_save_share,
    .publish = qcow2_save_publish,
    .abort = qcow2_save_abort,
    .done = qcow2_save_done,
    .open = snapshot_open,
    .reader_info = snapshot_reader_info,
    .read = snapshot_read,
    .read_disk = snapshot_read_disk,
    .close = snapshot_close,
    .map = snapshot_map,
    .map_packed = snapshot_map_packed,
    .unpack = snapshot_unpack,
    .show = qcow2_snapshot_show,
    .is_empty = qcow2_snapshot_is_empty,
    .is_current = qcow2_snapshot_is_current,
    .goto_prepare = qcow2_goto_prepare,
    .goto_switch = qcow2_goto_switch,
    .goto_commit = qcow2_goto_commit,
    .goto_end = qcow2_goto_end,
    .remove = qcow2_snapshot_remove,
};
