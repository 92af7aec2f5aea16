/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Consistency check and repair: counts every reference in the image - header, tables, the
 * active tree, all snapshots' trees - and compares with the stored reference counts and the
 * COPIED flags of the active layer.  Findings are worded as qemu-img's users know them.
 * Counts are kept in pages by cluster number, so that a sparse or hostile file cannot make
 * us allocate in proportion to its apparent size.
 */
#include <stdarg.h>
#include "qcow2-bitmap.h"
#include "qcow2-check-int.h"

void check_line(Check *k, bool error, const char *fmt, ...)
{
    if (k->res->report) {
        g_autofree char *line = NULL;
        va_list ap;

        va_start(ap, fmt);
        line = g_strdup_vprintf(fmt, ap);
        va_end(ap);
        k->res->report(k->res->opaque, error, line);
    }
}

uint32_t *check_count(Check *k, uint64_t cluster, bool create)
{
    gpointer key = GSIZE_TO_POINTER(cluster >> CHECK_PAGE_BITS);
    uint32_t *page = g_hash_table_lookup(k->pages, key);

    if (!page) {
        if (!create) {
            return NULL;
        }
        page = g_new0(uint32_t, CHECK_PAGE);
        g_hash_table_insert(k->pages, key, page);
    }
    return page + (cluster & (CHECK_PAGE - 1));
}

void check_file_grows(Check *k, uint64_t clusters)
{
    k->file_clusters = MAX(k->file_clusters, clusters);
    k->file_bytes = MAX(k->file_bytes, clusters << k->s->cluster_bits);
}

bool check_count_range(Check *k, uint64_t offset, uint64_t bytes)
{
    Qcow2State *s = k->s;
    uint64_t first = offset >> s->cluster_bits, end, last;

    if (!bytes) {
        return true;
    }
    if (__builtin_add_overflow(offset, bytes, &end)) {
        end = UINT64_MAX;
    }
    last = (end - 1) >> s->cluster_bits;
    if (last >= k->file_clusters && end - k->file_bytes >= s->cluster_size) {
        check_line(k, true, "ERROR: counting reference for region exceeding the end of the file by "
                   "one cluster or more: offset 0x%" PRIx64 " size 0x%" PRIx64, offset, bytes);
        k->res->corruptions++;
        return false;
    }
    for (uint64_t c = first; c <= last; c++) {
        uint32_t *n = check_count(k, c, true);

        if (*n < UINT32_MAX) {
            ++*n;
        }
    }
    k->end = MAX(k->end, last + 1);
    return true;
}

/* A bitmap of subclusters that does not go with its entry: which of the two is wrong? */
static void report_bitmap(Check *k, Qcow2Kind kind, uint64_t index, uint64_t entry)
{
    if (kind == QCOW2_COMPRESSED_DATA) {
        check_line(k, true, "ERROR compressed cluster %" PRIu64 " with non-zero subcluster "
                   "allocation bitmap, entry=0x%" PRIx64, index, entry);
    } else if (kind == QCOW2_UNALLOCATED) {
        check_line(k, true, "ERROR: Unallocated cluster has non-zero subcluster allocation map");
    } else {
        check_line(k, true, "ERROR offset=%" PRIx64 ": Allocated cluster has corrupted subcluster "
                   "allocation bitmap", (uint64_t)(entry & QCOW2_OFFSET_MASK));
    }
    k->res->corruptions++;
}

/*
 * A cluster that begins inside of one: nothing is lost when there is no data in it.  It is repaired
 * when everything has been counted.
 */
static bool repair_unaligned(Check *k, Qcow2Table *t, uint64_t index, Qcow2Kind kind,
                             uint64_t offset)
{
    bool empty = k->s->extended_l2 ? !(qcow2_l2_bitmap(t, index) & QCOW2_SUB_ALL)
                                   : kind == QCOW2_ZERO_ALLOC;
    bool repair = empty && k->fix & BDRV_FIX_ERRORS;

    check_line(k, true, "%s offset=%" PRIx64 ": %s cluster is not properly aligned; L2 entry "
               "corrupted.", repair ? "Repairing" : "ERROR", offset,
               empty ? "Preallocated" : "Data");
    *(repair ? &k->res->corruptions_fixed : &k->res->corruptions) += 1;
    if (repair) {
        CheckEntry e = { t->offset, index };

        g_array_append_val(k->unaligned, e);
    }
    return repair;
}

/* Whether the cluster at offset is an L2 table and nothing else: else a repair might destroy that. */
static bool is_only_table(Check *k, uint64_t offset)
{
    uint64_t cluster = offset >> k->s->cluster_bits;
    uint32_t *n = check_count(k, cluster, false);

    if (n && *n == GPOINTER_TO_SIZE(g_hash_table_lookup(k->tables, GSIZE_TO_POINTER(cluster)))) {
        return true;
    }
    if (!k->overlap) {
        k->overlap = qcow2_overlap_others(k->s, offset, k->s->cluster_size, 0);
    }
    return false;
}

/* The same for the active L1 table. */
static bool is_only_l1(Check *k)
{
    uint64_t first = k->s->l1_offset >> k->s->cluster_bits;
    uint64_t bytes = (uint64_t)k->s->l1_disk_size * 8, count = qcow2_clusters(k->s, bytes);

    for (uint64_t c = first; c < first + count; c++) {
        uint32_t *n = check_count(k, c, false);

        if (!n || *n != 1) {
            return false;
        }
    }
    return true;
}

static void coroutine_fn repair_entries(Check *k)
{
    for (guint i = 0; i < k->unaligned->len; i++) {
        const CheckEntry *e = &g_array_index(k->unaligned, CheckEntry, i);
        Qcow2Table *t = NULL;

        if (is_only_table(k, e->table) && qcow2_l2_load(k->bs, e->table, &t) >= 0) {
            qcow2_l2_set_both(k->s, t, e->index, k->s->extended_l2 ? 0 : QCOW2_ZERO,
                              qcow2_l2_bitmap(t, e->index));
            qcow2_cache_put(&k->s->l2_cache, t);
        } else {
            k->res->corruptions_fixed--;
            k->res->corruptions++;
        }
    }
}

static void count_l2_entries(Check *k, Qcow2Table *t, bool active)
{
    Qcow2State *s = k->s;
    uint64_t next = 0;

    for (uint64_t i = 0; i < s->l2_entries; i++) {
        uint64_t entry = qcow2_l2_get(t, i), offset = entry & QCOW2_OFFSET_MASK, bytes;
        Qcow2Kind kind = qcow2_kind(s, entry);

        if (kind != QCOW2_COMPRESSED_DATA && entry & QCOW2_L2_RESERVED) {
            check_line(k, true, "ERROR found l2 entry with reserved bits set: %" PRIx64, entry);
            k->res->corruptions++;
        }
        if (!qcow2_l2_valid(s, t, i)) {
            report_bitmap(k, kind, i, entry);
        }
        switch (kind) {
        case QCOW2_COMPRESSED_DATA:
            if (s->external_data) {
                check_line(k, true, "ERROR compressed cluster %" PRIu64 " with data file, entry=0x%"
                           PRIx64, i, entry);
                k->res->corruptions++;
                break;
            }
            qcow2_compressed_extent(s, entry, &offset, &bytes);
            if (entry & QCOW2_COPIED) {
                check_line(k, true, "ERROR: coffset=0x%" PRIx64 ": copied flag must never be set "
                           "for compressed clusters", offset & ~UINT64_C(511));
                k->res->corruptions++;
            }
            check_count_range(k, offset, bytes);
            if (active) {
                k->res->allocated_clusters++;
                k->res->compressed_clusters++;
                k->res->fragmented_clusters++;
            }
            break;
        case QCOW2_NORMAL:
        case QCOW2_ZERO_ALLOC:
            if (offset & (s->cluster_size - 1) && repair_unaligned(k, t, i, kind, offset)) {
                break;
            }
            if (active) {
                k->res->allocated_clusters++;
                if (next && offset != next) {
                    k->res->fragmented_clusters++;
                }
                next = offset + s->cluster_size;
            }
            if (!s->external_data) {
                check_count_range(k, offset, s->cluster_size);
            }
            break;
        default:
            break;
        }
    }
}

/* An L1 entry without an L2 table has to be 0: programs differ in what they take others for. */
static void check_empty_l1_entry(Check *k, const uint64_t *l1, uint64_t i, bool repair)
{
    if (!l1[i]) {
        return;
    }
    check_line(k, true, "%s L1 entry without L2 table: l1_index=%" PRIu64 " l1_entry=%" PRIx64,
               repair ? "Repairing" : "ERROR", i, l1[i]);
    if (repair) {
        qcow2_l1_set(k->s, i, 0);
        k->res->corruptions_fixed++;
    } else {
        k->res->corruptions++;
    }
}

/* All references an L1 table makes, through its L2 tables. */
static void coroutine_fn count_tree(Check *k, const uint64_t *l1, uint64_t l1_size, bool active)
{
    Qcow2State *s = k->s;

    for (uint64_t i = 0; i < l1_size; i++) {
        uint64_t offset = l1[i] & QCOW2_OFFSET_MASK;
        gpointer key = GSIZE_TO_POINTER(offset >> s->cluster_bits);
        Qcow2Table *t;

        if (!offset) {
            if (!active) {
                check_empty_l1_entry(k, l1, i, false);
            }
            continue;
        }
        if (l1[i] & QCOW2_L1_RESERVED) {
            check_line(k, true, "ERROR found L1 entry with reserved bits set: %" PRIx64, l1[i]);
            k->res->corruptions++;
        }
        if (offset & (s->cluster_size - 1)) {
            check_line(k, true, "ERROR l2_offset=%" PRIx64 ": Table is not cluster aligned; L1 "
                       "entry corrupted", offset);
            k->res->corruptions++;
            continue;
        }
        if (!check_count_range(k, offset, s->cluster_size)) {
            continue;
        }
        g_hash_table_insert(k->tables, key,
                            GSIZE_TO_POINTER(GPOINTER_TO_SIZE(g_hash_table_lookup(k->tables, key)) + 1));
        if (qcow2_l2_load(k->bs, offset, &t) < 0) {
            check_line(k, true, "ERROR: I/O error in check_refcounts_l2");
            k->res->check_errors++;
            continue;
        }
        count_l2_entries(k, t, active);
        qcow2_cache_put(&s->l2_cache, t);
    }
}

/* A snapshot of which no more is known than that its entry is wrong: it may refer to anything. */
static void report_snapshot(Check *k, const Qcow2Snapshot *sn)
{
    const char *fault = qcow2_snapshot_fault(k->s, sn);

    if (sn->l1_size > QCOW2_MAX_L1_BYTES / 8) {
        check_line(k, true, "ERROR snapshot %s (%s) l1_size=%#" PRIx32 ": L1 table is too large; "
                   "snapshot table entry corrupted", sn->id, sn->name, sn->l1_size);
    } else if (sn->l1_offset & (k->s->cluster_size - 1)) {
        check_line(k, true, "ERROR snapshot %s (%s) l1_offset=%#" PRIx64 ": L1 table is not cluster "
                   "aligned; snapshot table entry corrupted", sn->id, sn->name, sn->l1_offset);
    } else {
        check_line(k, true, "ERROR snapshot %s (%s): %s", sn->id, sn->name, fault);
    }
    k->res->corruptions++;
    k->hidden = true;
}

static void coroutine_fn count_snapshots(Check *k)
{
    Qcow2State *s = k->s;

    for (guint i = 0; i < s->snapshots->len; i++) {
        Qcow2Snapshot *sn = s->snapshots->pdata[i];
        g_autofree uint64_t *l1 = NULL;
        GError *err = NULL;

        if (qcow2_snapshot_fault(s, sn)) {
            report_snapshot(k, sn);
            continue;
        }
        check_count_range(k, sn->l1_offset, (uint64_t)sn->l1_size * 8);
        l1 = qcow2_load_numbers(k->bs, sn->l1_offset, sn->l1_size, "snapshot L1 table", &err);
        if (!l1) {
            check_line(k, true, "ERROR snapshot %s (%s): %s", sn->info.id, sn->info.name,
                       err->message);
            k->res->check_errors++;
            g_error_free(err);
            continue;
        }
        count_tree(k, l1, sn->l1_size, false);
    }
    if (!check_count_range(k, s->snapshots_offset, s->snapshots_bytes) && k->rewrite_snapshots) {
        k->res->corruptions--; /* what is there of it is written to another place */
        s->snapshots_bytes = 0;
    }
}

/* A bitmap's table and its clusters. */
static void coroutine_fn count_bitmap(Check *k, const Qcow2Bitmap *b)
{
    g_autofree uint64_t *table = NULL;
    bool known = qcow2_bitmap_known(k->s, b), ok = qcow2_bitmap_table_ok(k->s, b);

    if (!known || !ok || b->table_size > QCOW2_BITMAP_MAX_TABLE) {
        check_line(k, true, "ERROR: Bitmap '%s' doesn't satisfy the constraints", b->name);
        k->res->corruptions++;
    }
    if (ok && b->table_size <= QCOW2_BITMAP_MAX_TABLE &&
        check_count_range(k, b->table_offset, b->table_size * 8ULL)) {
        table = qcow2_load_numbers(k->bs, b->table_offset, b->table_size, "bitmap table", NULL);
    }
    k->hidden |= !table;
    for (uint32_t i = 0; table && i < b->table_size; i++) {
        uint64_t host = table[i] & QCOW2_OFFSET_MASK;

        if (!qcow2_bitmap_entry_ok(k->s, table[i])) {
            check_line(k, true, "ERROR: Bitmap '%s' has an invalid entry in its table: %" PRIx64,
                       b->name, table[i]);
            k->res->corruptions++;
            k->hidden = true;
        } else if (host) {
            check_count_range(k, host, k->s->cluster_size);
        }
    }
}

/* Persistent bitmaps: their directory and all that it leads to. */
static void coroutine_fn count_bitmaps(Check *k)
{
    Qcow2State *s = k->s;
    g_autoptr(GPtrArray) list = NULL;
    GError *err = NULL;

    if (!s->bitmaps_count) {
        return;
    }
    list = qcow2_bitmaps_read(k->bs, &err);
    if (!list) {
        check_line(k, true, "ERROR: %s", err->message);
        k->res->corruptions++;
        k->hidden = true;
        g_error_free(err);
        return;
    }
    check_count_range(k, s->bitmaps_offset, s->bitmaps_size);
    for (guint i = 0; i < list->len; i++) {
        count_bitmap(k, list->pdata[i]);
    }
}

/* Whether the flag says what the count says; repairs the entry if asked to. */
static bool coroutine_fn copied_ok(Check *k, uint64_t cluster, bool copied, uint64_t *refcount)
{
    if (qcow2_refcount_get(k->bs, cluster, refcount) < 0) {
        k->res->check_errors++;
        return true;
    }
    return (*refcount == 1) == copied;
}

static void coroutine_fn check_copied_l2(Check *k, uint64_t l1_entry)
{
    Qcow2State *s = k->s;
    Qcow2Table *t;
    bool repair;

    if (qcow2_l2_load(k->bs, l1_entry, &t) < 0 || !t) {
        return; /* reported when it was counted */
    }
    for (uint64_t i = 0; i < s->l2_entries; i++) {
        uint64_t entry = qcow2_l2_get(t, i), refcount = 1;
        Qcow2Kind kind = qcow2_kind(s, entry);

        if ((kind != QCOW2_NORMAL && kind != QCOW2_ZERO_ALLOC) ||
            (s->external_data ? (entry & QCOW2_COPIED) != 0
                              : copied_ok(k, (entry & QCOW2_OFFSET_MASK) >> s->cluster_bits,
                                          entry & QCOW2_COPIED, &refcount))) {
            continue;
        }
        repair = k->fix_copied && is_only_table(k, t->offset);
        check_line(k, true, "%s OFLAG_COPIED data cluster: l2_entry=%" PRIx64 " refcount=%" PRIu64,
                   repair ? "Repairing" : "ERROR", entry, refcount);
        if (repair) {
            qcow2_l2_set_copied(s, t, i, !(entry & QCOW2_COPIED));
            k->res->corruptions_fixed++;
        } else {
            k->res->corruptions++;
        }
    }
    qcow2_cache_put(&s->l2_cache, t);
}

/* The counts have been repaired.  Where nothing was wrong with them the flags follow them at once. */
static void coroutine_fn check_copied(Check *k)
{
    Qcow2State *s = k->s;
    bool own_l1 = is_only_l1(k), overlap = false;

    k->fix_copied = k->fix & BDRV_FIX_ERRORS ||
                    (k->fix && k->res->corruptions == k->table_faults && !k->res->leaks &&
                     !k->res->check_errors);
    for (uint32_t i = 0; i < s->l1_size; i++) {
        uint64_t entry = s->l1[i], offset = entry & QCOW2_OFFSET_MASK, refcount;

        if (!offset) {
            check_empty_l1_entry(k, s->l1, i, k->fix & BDRV_FIX_ERRORS && own_l1);
        }
        if (!offset || offset & (s->cluster_size - 1)) {
            continue;
        }
        if (!copied_ok(k, offset >> s->cluster_bits, entry & QCOW2_COPIED, &refcount)) {
            bool repair = k->fix_copied && own_l1;

            overlap |= k->fix_copied && !own_l1;
            check_line(k, true, "%s OFLAG_COPIED L2 cluster: l1_index=%" PRIu32 " l1_entry=%" PRIx64
                       " refcount=%" PRIu64, repair ? "Repairing" : "ERROR", i, entry, refcount);
            if (repair) {
                qcow2_l1_set(s, i, entry ^ QCOW2_COPIED);
                k->res->corruptions_fixed++;
            } else {
                k->res->corruptions++;
            }
        }
        if (offset >> s->cluster_bits < k->file_clusters) {
            check_copied_l2(k, entry);
        }
    }
    if (overlap && !k->overlap) {
        k->overlap = qcow2_overlap_others(s, s->l1_offset, (uint64_t)s->l1_disk_size * 8,
                                          QCOW2_OL_ACTIVE_L1);
    }
}

/*
 * Whether entries of the snapshot table lack what the image's version requires: then it is
 * written anew.  Where a table that is not there is said to be is put right here: the header is
 * written last.
 */
static void check_snapshot_table(Check *k)
{
    Qcow2State *s = k->s;
    int64_t before = k->res->corruptions;

    if (!s->snapshots->len && (s->snapshots_offset & (s->cluster_size - 1) ||
                               s->snapshots_offset > INT64_MAX)) {
        check_line(k, true, "%s snapshot table offset invalid",
                   k->fix & BDRV_FIX_ERRORS ? "Repairing" : "ERROR");
        if (k->fix & BDRV_FIX_ERRORS) {
            s->snapshots_offset = 0;
            k->res->corruptions_fixed++;
        } else {
            k->res->corruptions++;
        }
    }
    for (guint i = 0; i < s->snapshots->len; i++) {
        const Qcow2Snapshot *sn = s->snapshots->pdata[i];

        if (sn->too_long && k->fix & BDRV_FIX_ERRORS) { /* else it could not be opened */
            check_line(k, true, "Discarding too much extra metadata in snapshot table entry %u "
                       "(%" PRIu32 " > %d)", i, sn->too_long, QCOW2_MAX_SNAPSHOT_EXTRA);
            k->res->corruptions_fixed++;
            k->rewrite_snapshots = true;
        }
        if (sn->incomplete) {
            check_line(k, true, "%s snapshot table entry %u is incomplete",
                       k->fix & BDRV_FIX_ERRORS ? "Repairing" : "ERROR", i);
            *(k->fix & BDRV_FIX_ERRORS ? &k->res->corruptions_fixed : &k->res->corruptions) += 1;
            k->rewrite_snapshots = k->fix & BDRV_FIX_ERRORS;
        }
    }
    k->table_faults = k->res->corruptions - before;
}

/*
 * An L1 table that lies behind the end of the file by less than a cluster counts as one of zeroes,
 * as with other programs; but such an image is only opened once the file has been made longer.
 */
static void coroutine_fn check_l1_place(Check *k)
{
    Qcow2State *s = k->s;
    uint64_t end = s->l1_offset + (uint64_t)s->l1_disk_size * 8, stored = 0;
    uint64_t length = k->bs->file->bs->length, last = (end - 1) >> s->cluster_bits;
    bool repair = k->fix & BDRV_FIX_ERRORS;

    if (!s->l1_disk_size || end <= length || end - length >= s->cluster_size) {
        return;
    }
    if (qcow2_refcount_get(k->bs, last, &stored) >= 0 && stored) { /* else its count is reported */
        check_line(k, true, "%s L1 table beyond the end of the file",
                   repair ? "Repairing" : "ERROR");
        *(repair ? &k->res->corruptions_fixed : &k->res->corruptions) += 1;
    }
    if (repair && !bdrv_co_truncate(k->bs->file, (last + 1) << s->cluster_bits, NULL)) {
        check_line(k, true, "ERROR: could not make the file longer");
        k->res->check_errors++;
    }
}

/* Tables stay as they are, and nobody else writes the header. */
static void coroutine_fn lock_metadata(Qcow2State *s)
{
    co_mutex_lock(&s->flush_lock);
    co_mutex_lock(&s->lock);
}

static void coroutine_fn unlock_metadata(Qcow2State *s)
{
    co_mutex_unlock(&s->lock);
    co_mutex_unlock(&s->flush_lock);
}

/* What is repaired is durable: the marks that say that something is wrong go. */
static int coroutine_fn clear_marks(BlockDriverState *bs)
{
    Qcow2State *s = bs->opaque;
    int ret;

    co_mutex_lock(&s->flush_lock);
    s->incompatible &= ~(uint64_t)(QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_CORRUPT);
    s->corrupt = false;
    ret = qcow2_header_write(bs);
    ret = ret < 0 ? ret : qcow2_sync_file(bs);
    co_mutex_unlock(&s->flush_lock);
    return ret;
}

bool coroutine_fn qcow2_co_check(BlockDriverState *bs, BdrvCheckResult *result, int fix,
                                 GError **errp)
{
    Qcow2State *s = bs->opaque;
    Check k = { .bs = bs, .s = s, .res = result, .fix = bs->read_only ? 0 : fix };
    bool countable;
    int ret = 0;

    if (s->save) {
        error_setg(errp, "Can't check an image while a snapshot is being taken");
        return false;
    }
    /* What a background walk has yet to free would look like leaks. */
    while (s->background) {
        co_queue_wait(&s->pin_queue, NULL);
    }
    k.tables = g_hash_table_new(g_direct_hash, g_direct_equal);
    k.unaligned = g_array_new(false, false, sizeof(CheckEntry));
    k.pages = g_hash_table_new_full(g_direct_hash, g_direct_equal, NULL, g_free);
    co_mutex_lock(&s->walk_lock);
    lock_metadata(s);
    while (!bs->read_only && s->frees->len && ret >= 0) {
        /* References that are gone but still counted would look like leaks. */
        unlock_metadata(s);
        ret = qcow2_flush(bs);
        qcow2_wait_for_holes(s);
        lock_metadata(s);
    }
    if (ret < 0) {
        k.fix = 0;
    }
    check_l1_place(&k);
    k.file_bytes = bs->file->bs->length;
    k.file_clusters = qcow2_clusters(s, k.file_bytes);
    check_snapshot_table(&k);
    check_count_range(&k, 0, s->cluster_size);
    check_count_range(&k, s->l1_offset, (uint64_t)s->l1_disk_size * 8);
    count_tree(&k, s->l1, s->l1_size, true);
    count_snapshots(&k);
    count_bitmaps(&k);
    countable = check_refcount_structure(&k);
    if (countable) {
        check_compare_counts(&k);
        repair_entries(&k);
        check_copied(&k);
    }
    unlock_metadata(s);
    co_mutex_unlock(&s->walk_lock);
    result->total_clusters = qcow2_clusters(s, s->disk_size);
    result->image_end_offset = k.end << s->cluster_bits;
    g_hash_table_destroy(k.pages);
    g_hash_table_destroy(k.tables);
    g_array_unref(k.unaligned);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not flush the metadata");
        return false;
    }
    if (!countable) {
        error_setg(errp, "%s", strerror(EIO));
        return false;
    }
    if (k.fix) {
        s->free_hint = 0;
        s->pack_end = s->pack_at;
        ret = qcow2_flush_all(bs);
        if (ret >= 0 && (fix & BDRV_FIX_ERRORS) && !result->corruptions &&
            !result->check_errors) {
            ret = clear_marks(bs);
        }
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not write the repaired image");
        return false;
    }
    if (k.overlap) {
        qcow2_signal_overlap(bs, 0, 0, k.overlap);
        check_line(&k, true, "ERROR: Overlap check failed");
        error_setg(errp, "%s", strerror(EIO));
        return false;
    }
    /* The new table takes clusters: only now is it known which ones are free. */
    return !(k.rewrite_snapshots && k.fix) || result->corruptions ||
           qcow2_snapshots_store(bs, NULL, NULL, errp);
}
