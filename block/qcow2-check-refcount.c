/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The reference counts of an image in a check: refcount table and blocks, which are counted like
 * everything else, and what they say, compared with what was counted.
 */
#include "qcow2-check-int.h"

static void set_rt_entry(Check *k, uint32_t index, uint64_t offset)
{
    k->s->rt[index] = offset;
    g_array_append_val(k->s->rt_dirty, index);
    k->s->write_seq++;
}

/* A refcount block for a range that has none, at the end of all that is in use. */
static bool add_block(Check *k, uint64_t index)
{
    Qcow2State *s = k->s;
    uint64_t offset = k->end << s->cluster_bits;
    Qcow2Table *t;

    if (index >= s->rt_size) {
        return false;
    }
    check_file_grows(k, k->end + 1);
    check_count_range(k, offset, s->cluster_size);
    t = qcow2_cache_new(&s->rb_cache, offset);
    t->index = index;
    qcow2_cache_put(&s->rb_cache, t);
    set_rt_entry(k, index, offset);
    qcow2_metadata_add(s, offset, QCOW2_OL_REFCOUNT_BLOCK);
    return true;
}

/* Compares one cluster's stored count with what was counted, and repairs it if asked to. */
static bool compare_one(Check *k, uint64_t cluster, uint64_t stored, uint64_t counted)
{
    bool leak = stored > counted;
    bool repair = leak ? k->fix & BDRV_FIX_LEAKS && !k->hidden : k->fix & BDRV_FIX_ERRORS;

    k->uncounted |= !stored;
    check_line(k, !leak, "%s cluster %" PRIu64 " refcount=%" PRIu64 " reference=%" PRIu64,
               repair ? "Repairing" : leak ? "Leaked" : "ERROR", cluster, stored, counted);
    if (repair && counted <= k->s->refcount_max) {
        *(leak ? &k->res->leaks_fixed : &k->res->corruptions_fixed) += 1;
        return true;
    }
    *(leak ? &k->res->leaks : &k->res->corruptions) += 1;
    return false;
}

static void coroutine_fn compare_block(Check *k, uint64_t index)
{
    Qcow2State *s = k->s;
    uint64_t first = index << s->rb_bits, offset = index < s->rt_size ? s->rt[index] & ~511ULL : 0;
    Qcow2Table *t = NULL;

    if (offset && !(offset & (s->cluster_size - 1)) &&
        offset >> s->cluster_bits < k->file_clusters) {
        if (qcow2_cache_get(k->bs, &s->rb_cache, offset, &t) < 0) {
            check_line(k, true, "ERROR: could not read refcount block %" PRIu64, index);
            k->res->check_errors++;
            return;
        }
        t->index = index;
    }
    for (uint64_t i = 0; i < s->rb_entries; i++) {
        uint32_t *n = check_count(k, first + i, false);
        uint64_t stored, counted = n ? *n : 0;

        if (!n && !t) {
            i |= MIN(CHECK_PAGE, s->rb_entries) - 1; /* nothing in this page */
            continue;
        }
        stored = t ? qcow2_rb_read(t->data, s->refcount_order, i) : 0;
        if (stored) {
            k->end = MAX(k->end, first + i + 1);
        }
        if (stored == counted || (!counted && first + i >= k->file_clusters) ||
            !compare_one(k, first + i, stored, counted)) {
            continue; /* what would be behind the end of the file takes no space */
        }
        if (!t) {
            if (!add_block(k, index) ||
                qcow2_cache_get(k->bs, &s->rb_cache, s->rt[index] & ~511ULL, &t) < 0) {
                k->res->corruptions_fixed--;
                k->res->corruptions++;
                return;
            }
        }
        qcow2_cache_modify(s, &s->rb_cache, t);
        qcow2_rb_write(t->data, s->refcount_order, i, counted);
    }
    qcow2_cache_put(&s->rb_cache, t);
}

static gint compare_index(gconstpointer a, gconstpointer b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

void coroutine_fn check_compare_counts(Check *k)
{
    Qcow2State *s = k->s;
    g_autoptr(GArray) blocks = g_array_new(false, false, sizeof(uint64_t));
    uint64_t last = UINT64_MAX, end;
    GHashTableIter iter;
    gpointer key;

    for (uint64_t i = 0; i < s->rt_size; i++) {
        if (s->rt[i] & ~511ULL) {
            g_array_append_val(blocks, i);
        }
    }
    g_hash_table_iter_init(&iter, k->pages);
    while (g_hash_table_iter_next(&iter, &key, NULL)) {
        uint64_t page = GPOINTER_TO_SIZE(key) << CHECK_PAGE_BITS;

        for (uint64_t b = page >> s->rb_bits; b << s->rb_bits < page + CHECK_PAGE; b++) {
            g_array_append_val(blocks, b);
        }
    }
    g_array_sort(blocks, compare_index);
    for (guint i = 0; i < blocks->len; i++) {
        uint64_t b = g_array_index(blocks, uint64_t, i);

        if (b != last) {
            compare_block(k, b);
            qcow2_breathe();
        }
        last = b;
    }
    end = k->end;
    if (end && s->rt_dirty->len) {
        /* Blocks added on the way lie at the end: their own counts. */
        for (uint64_t b = (end - 1) >> s->rb_bits; b < s->rt_size; b++) {
            compare_block(k, b);
            if (k->end == end) {
                break;
            }
            end = k->end;
        }
    }
}

static void count_valid_range(Check *k, uint64_t offset, uint64_t bytes)
{
    check_count_range(k, offset, bytes);
}

/* Takes back what check_count_range() has counted. */
static void uncount_range(Check *k, uint64_t offset, uint64_t bytes)
{
    uint64_t first = offset >> k->s->cluster_bits, n = qcow2_clusters(k->s, bytes);

    for (uint64_t c = first; c < first + n; c++) {
        --*check_count(k, c, true);
    }
}

/* Counts refcount table and blocks, or no longer.  Those in no valid place have been reported. */
static void count_refcount_tables(Check *k, bool take_back)
{
    void (*count)(Check *k, uint64_t offset, uint64_t bytes) = take_back ? uncount_range
                                                                         : count_valid_range;
    Qcow2State *s = k->s;
    uint64_t rt_first = s->rt_offset >> s->cluster_bits;

    if (rt_first < k->file_clusters) {
        count(k, s->rt_offset,
              MIN(s->rt_clusters, k->file_clusters - rt_first) << s->cluster_bits);
    }
    for (uint64_t i = 0; i < s->rt_size; i++) {
        uint64_t offset = s->rt[i] & ~511ULL;

        if (offset && !(offset & (s->cluster_size - 1)) &&
            offset >> s->cluster_bits < k->file_clusters) {
            count(k, offset, s->cluster_size);
        }
    }
}

static void check_reserved_bits(Check *k)
{
    Qcow2State *s = k->s;

    for (uint64_t i = 0; i < s->rt_size; i++) {
        if (!(s->rt[i] & 511)) {
            continue;
        }
        check_line(k, true, "%s refcount table entry %" PRIu64 " has reserved bits set",
                   k->fix & BDRV_FIX_ERRORS ? "Repairing" : "ERROR", i);
        if (k->fix & BDRV_FIX_ERRORS) {
            set_rt_entry(k, i, s->rt[i] & ~511ULL);
            k->res->corruptions_fixed++;
        } else {
            k->res->corruptions++;
        }
    }
}

/* Says what is wrong with the counts as they are; what is left is found, and counted, again. */
static void coroutine_fn preview(Check *k, int64_t *corruptions, int64_t *leaks)
{
    BdrvCheckResult before = *k->res;
    uint64_t end = k->end;
    int fix = k->fix;

    k->fix = 0;
    check_compare_counts(k);
    k->fix = fix;
    k->end = end;
    *corruptions = k->res->corruptions - before.corruptions;
    *leaks = k->res->leaks - before.leaks;
    k->res->corruptions = before.corruptions;
    k->res->leaks = before.leaks;
    k->res->check_errors = before.check_errors;
}

bool coroutine_fn check_refcount_structure(Check *k)
{
    int64_t faults, corruptions, leaks;
    bool rebuild;

    faults = check_refcount_faults(k, &rebuild);
    count_refcount_tables(k, false);
    if (k->fix && (k->res->report || rebuild || !(k->fix & BDRV_FIX_ERRORS))) {
        preview(k, &corruptions, &leaks);
        if (!(k->fix & BDRV_FIX_ERRORS) && (k->misplaced || k->uncounted)) {
            check_line(k, true, "ERROR need to rebuild refcount structures");
            return false;
        }
    }
    if (rebuild && k->fix & BDRV_FIX_ERRORS) {
        count_refcount_tables(k, true);
        if (check_rebuild(k) >= 0) {
            k->res->corruptions_fixed += corruptions + faults;
            k->res->leaks_fixed += leaks;
            faults = 0;
        }
        count_refcount_tables(k, false);
    }
    k->res->corruptions += faults;
    check_reserved_bits(k);
    return true;
}
