/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where refcount table or blocks are damaged themselves, a check makes all of them anew from
 * the references it has counted.  Nothing that is there is written over: the new ones lie
 * behind the end of the file and become valid by one header write.
 */
#include "qcow2-check-int.h"

uint64_t check_refcount_faults(Check *k, bool *rebuild)
{
    Qcow2State *s = k->s;
    uint64_t rt_end = (s->rt_offset >> s->cluster_bits) + s->rt_clusters, faults = 0;
    g_autoptr(GHashTable) seen = g_hash_table_new(g_direct_hash, g_direct_equal);
    uint64_t outside = 0;
    bool overlap = false;
    GHashTableIter iter;
    gpointer key;

    if (rt_end > k->file_clusters) {
        check_line(k, true, "ERROR: counting reference for region exceeding the end of the "
                           "file by one cluster or more: offset 0x%" PRIx64 " size 0x%" PRIx64,
                           s->rt_offset, (uint64_t)s->rt_clusters << s->cluster_bits);
        faults++;
    }
    for (uint64_t c = s->rt_offset >> s->cluster_bits; c < rt_end && c < k->file_clusters; c++) {
        uint32_t *n = check_count(k, c, false);

        overlap |= n && *n; /* shows in its count */
        g_hash_table_add(seen, GSIZE_TO_POINTER(c));
    }
    for (uint64_t i = 0; i < s->rt_size; i++) {
        uint64_t offset = s->rt[i] & ~511ULL, cluster = offset >> s->cluster_bits;
        uint32_t *n = offset ? check_count(k, cluster, false) : NULL;

        if (!offset) {
            continue;
        }
        if (offset & (s->cluster_size - 1)) {
            check_line(k, true, "ERROR refcount block %" PRIu64 " is not cluster aligned; "
                               "refcount table entry corrupted", i);
        } else if (cluster >= k->file_clusters) {
            check_line(k, true, "ERROR refcount block %" PRIu64 " is outside image", i);
            outside++;
        } else if ((n && *n) || !g_hash_table_add(seen, GSIZE_TO_POINTER(cluster))) {
            check_line(k, true, "ERROR refcount block %" PRIu64 " refcount=%" PRIu32, i,
                               n && *n ? *n + 1 : 2);
        } else {
            continue;
        }
        faults++;
    }
    *rebuild = faults > 0 || overlap;
    k->misplaced = faults > outside;
    g_hash_table_iter_init(&iter, k->pages);
    while (g_hash_table_iter_next(&iter, &key, NULL)) {
        /* What has no place in the table, perhaps because the table was made shorter. */
        *rebuild |= (uint64_t)GPOINTER_TO_SIZE(key) << CHECK_PAGE_BITS >> s->rb_bits >=
                    s->rt_size;
    }
    return faults;
}

/* A new refcount structure: blocks for some ranges, one behind the other, then the table. */
typedef struct Rebuild {
    GHashTable *ranges; /* indices of refcount blocks */
    uint64_t start, blocks, rt_clusters, rt_size; /* start: cluster of the first block */
} Rebuild;

/* Ranges with anything in them, the new structure itself included. */
static int plan(Check *k, Rebuild *r)
{
    Qcow2State *s = k->s;
    uint64_t last = 0, total = 0;
    GHashTableIter iter;
    gpointer key, page;

    g_hash_table_iter_init(&iter, k->pages);
    while (g_hash_table_iter_next(&iter, &key, &page)) {
        uint64_t first = (uint64_t)GPOINTER_TO_SIZE(key) << CHECK_PAGE_BITS;

        for (unsigned i = 0; i < CHECK_PAGE; i++) {
            uint64_t index = (first + i) >> s->rb_bits;

            if (((uint32_t *)page)[i] > s->refcount_max) {
                return -ERANGE;
            }
            if (((uint32_t *)page)[i]) {
                g_hash_table_add(r->ranges, GSIZE_TO_POINTER(index));
                last = MAX(last, index);
            }
        }
    }
    for (;;) {
        r->blocks = g_hash_table_size(r->ranges);
        r->rt_clusters = qcow2_clusters(s, (last + 1) * 8);
        if (r->rt_clusters << s->cluster_bits > QCOW2_MAX_RT_BYTES) {
            return -EFBIG;
        }
        if (r->blocks + r->rt_clusters <= total) {
            break;
        }
        total = r->blocks + r->rt_clusters;
        for (uint64_t c = r->start; c < r->start + total; c++) {
            g_hash_table_add(r->ranges, GSIZE_TO_POINTER(c >> s->rb_bits));
            last = MAX(last, c >> s->rb_bits);
        }
    }
    r->rt_clusters = total - r->blocks;
    r->rt_size = r->rt_clusters << s->cluster_bits >> 3;
    return 0;
}

static int coroutine_fn write_structure(Check *k, const Rebuild *r, uint64_t *rt)
{
    Qcow2State *s = k->s;
    g_autofree uint8_t *block = g_malloc(s->cluster_size);
    uint64_t at = r->start;
    int ret = 0;

    for (uint64_t index = 0; index < r->rt_size && ret >= 0; index++) {
        uint64_t first = index << s->rb_bits;

        if (!g_hash_table_contains(r->ranges, GSIZE_TO_POINTER(index))) {
            continue;
        }
        memset(block, 0, s->cluster_size);
        for (uint64_t i = 0; i < s->rb_entries; i++) {
            uint32_t *n = check_count(k, first + i, false);

            if (n) {
                qcow2_rb_write(block, s->refcount_order, i, *n);
            }
        }
        rt[index] = at << s->cluster_bits;
        ret = bdrv_co_pwrite(k->bs->file, rt[index], s->cluster_size, block, 0);
        at++;
    }
    if (ret >= 0) {
        ret = qcow2_store_numbers(k->bs, at << s->cluster_bits, rt, r->rt_size);
    }
    return ret < 0 ? ret : qcow2_sync_file(k->bs);
}

static gboolean is_refcount_block(gpointer key, gpointer kind, gpointer opaque)
{
    return GPOINTER_TO_UINT(kind) == QCOW2_OL_REFCOUNT_BLOCK;
}

/* Memory follows the file. */
static void adopt(Check *k, const Rebuild *r, uint64_t *rt)
{
    Qcow2State *s = k->s;

    qcow2_cache_destroy(&s->rb_cache);
    qcow2_cache_init(&s->rb_cache, s->cluster_size, 0, s->options.rb_cache_bytes);
    g_hash_table_foreach_remove(s->metadata, is_refcount_block, NULL);
    for (uint64_t i = 0; i < r->rt_size; i++) {
        if (rt[i]) {
            qcow2_metadata_add(s, rt[i], QCOW2_OL_REFCOUNT_BLOCK);
        }
    }
    g_free(s->rt);
    g_free(s->rt_disk);
    s->rt = rt;
    s->rt_disk = g_memdup2(rt, (r->rt_size + 1) * 8);
    s->rt_size = s->rt_disk_size = r->rt_size;
    s->rt_new_offset = 0;
    g_array_set_size(s->rt_dirty, 0);
    s->zero_from = MAX(s->zero_from, (r->start + r->blocks + r->rt_clusters) << s->cluster_bits);
    check_file_grows(k, r->start + r->blocks + r->rt_clusters);
}

int coroutine_fn check_rebuild(Check *k)
{
    Qcow2State *s = k->s;
    Rebuild r = { .ranges = g_hash_table_new(g_direct_hash, g_direct_equal),
                  .start = MAX(k->file_clusters, k->end) };
    uint64_t old_offset = s->rt_offset, *rt = NULL;
    uint32_t old_clusters = s->rt_clusters;
    int ret = s->rb_cache.dirty || s->shadow_rb || s->frees->len ? -EBUSY : plan(k, &r);

    if (ret >= 0) {
        check_line(k, false, "Rebuilding refcount structure");
        rt = g_new0(uint64_t, r.rt_size + 1);
        for (uint64_t c = r.start; c < r.start + r.blocks + r.rt_clusters; c++) {
            *check_count(k, c, true) = 1;
        }
        ret = write_structure(k, &r, rt);
        for (uint64_t c = r.start; c < r.start + r.blocks + r.rt_clusters; c++) {
            *check_count(k, c, true) = 0; /* the check counts them again */
        }
    }
    if (ret >= 0) {
        s->rt_offset = (r.start + r.blocks) << s->cluster_bits;
        s->rt_clusters = r.rt_clusters;
        ret = qcow2_header_write(k->bs);
        ret = ret < 0 ? ret : qcow2_sync_file(k->bs);
        if (ret < 0) {
            s->rt_offset = old_offset;
            s->rt_clusters = old_clusters;
            qcow2_header_put_back(k->bs);
        }
    }
    if (ret >= 0) {
        adopt(k, &r, rt);
    } else {
        g_free(rt);
    }
    g_hash_table_destroy(r.ranges);
    return ret;
}
