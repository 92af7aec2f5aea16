/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whether something that is about to be written or allocated lies over metadata, which
 * happens in damaged images only.  Single tables are found in a hash table by cluster
 * number, so a check costs the same whatever the size of the image.
 */
#include "qcow2.h"

static gpointer key_of(const Qcow2State *s, uint64_t offset)
{
    return GSIZE_TO_POINTER(offset >> s->cluster_bits);
}

void qcow2_metadata_add(Qcow2State *s, uint64_t offset, unsigned kind)
{
    g_hash_table_insert(s->metadata, key_of(s, offset), GUINT_TO_POINTER(kind));
}

void qcow2_metadata_remove(Qcow2State *s, uint64_t offset)
{
    g_hash_table_remove(s->metadata, key_of(s, offset));
}

static bool overlaps(uint64_t a, uint64_t a_bytes, uint64_t b, uint64_t b_bytes)
{
    return b_bytes && a < b + b_bytes && b < a + a_bytes;
}

/* Tables of which there is one. */
static const char *overlap_single(const Qcow2State *s, uint64_t offset, uint64_t bytes,
                                  unsigned checks)
{
    const struct {
        const char *name;
        unsigned check;
        uint64_t offset, bytes;
    } tables[] = {
        { "qcow2_header", QCOW2_OL_MAIN_HEADER, 0, s->cluster_size },
        { "active L1 table", QCOW2_OL_ACTIVE_L1, s->l1_offset, (uint64_t)s->l1_disk_size * 8 },
        { "refcount table", QCOW2_OL_REFCOUNT_TABLE, s->rt_offset,
          (uint64_t)s->rt_clusters << s->cluster_bits },
        { "snapshot table", QCOW2_OL_SNAPSHOT_TABLE, s->snapshots_offset, s->snapshots_bytes },
        { "bitmap directory", QCOW2_OL_BITMAP_DIRECTORY, s->bitmaps_offset,
          s->bitmaps_count ? s->bitmaps_size : 0 },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(tables); i++) {
        if (checks & tables[i].check &&
            overlaps(offset, bytes, tables[i].offset, tables[i].bytes)) {
            return tables[i].name;
        }
    }
    return NULL;
}

static const char *overlap_tables(const Qcow2State *s, uint64_t offset, uint64_t bytes,
                                  unsigned checks)
{
    for (guint i = 0; checks & QCOW2_OL_INACTIVE_L1 && i < s->snapshots->len; i++) {
        Qcow2Snapshot *sn = s->snapshots->pdata[i];

        if (overlaps(offset, bytes, sn->l1_offset, (uint64_t)sn->l1_size * 8) &&
            !qcow2_snapshot_fault(s, sn)) {
            return "inactive L1 table";
        }
    }
    for (uint64_t at = offset & ~(s->cluster_size - 1); at < offset + bytes;
         at += s->cluster_size) {
        unsigned kind = checks & GPOINTER_TO_UINT(g_hash_table_lookup(s->metadata, key_of(s, at)));

        if (kind) {
            return kind == QCOW2_OL_ACTIVE_L2 ? "active L2 table" : "refcount block";
        }
        if (checks & QCOW2_OL_INACTIVE_L2 && s->inactive_l2 &&
            g_hash_table_contains(s->inactive_l2, key_of(s, at))) {
            return "inactive L2 table";
        }
    }
    return NULL;
}

const char *qcow2_overlap(const Qcow2State *s, uint64_t offset, uint64_t bytes)
{
    const char *name = overlap_single(s, offset, bytes, QCOW2_OL_ALL);

    return name ? name : overlap_tables(s, offset, bytes, QCOW2_OL_ALL);
}

const char *qcow2_overlap_others(const Qcow2State *s, uint64_t offset, uint64_t bytes, unsigned own)
{
    const char *name = overlap_single(s, offset, bytes, QCOW2_OL_ALL & ~own);

    for (uint64_t i = 0; i < s->rt_size && !name; i++) {
        if (s->rt[i] & ~511ULL && overlaps(offset, bytes, s->rt[i] & ~511ULL, s->cluster_size)) {
            name = "refcount block";
        }
    }
    return name ? name : overlap_tables(s, offset, bytes, QCOW2_OL_INACTIVE_L1);
}

int coroutine_fn qcow2_check_write(BlockDriverState *bs, uint64_t offset, uint64_t bytes)
{
    Qcow2State *s = bs->opaque;
    const char *name;

    if (s->external_data) {
        return 0; /* nothing but data is there */
    }
    name = overlap_single(s, offset, bytes, s->options.overlap);
    if (!name) {
        name = overlap_tables(s, offset, bytes, s->options.overlap);
    }
    return name ? qcow2_signal_overlap(bs, offset, bytes, name) : 0;
}

void coroutine_fn qcow2_load_inactive_l2(BlockDriverState *bs)
{
    Qcow2State *s = bs->opaque;
    GHashTable *tables;

    if (!(s->options.overlap & QCOW2_OL_INACTIVE_L2)) {
        return;
    }
    tables = g_hash_table_new(g_direct_hash, g_direct_equal);
    for (guint i = 0; i < s->snapshots->len; i++) {
        Qcow2Snapshot *sn = s->snapshots->pdata[i];
        uint32_t n = sn->l1_size;
        g_autofree uint64_t *l1 = qcow2_snapshot_load_l1(bs, sn, NULL);

        /* One that cannot be read has no tables that could be damaged further. */
        for (uint32_t j = 0; l1 && j < n; j++) {
            if (l1[j] & QCOW2_OFFSET_MASK) {
                g_hash_table_add(tables, key_of(s, l1[j] & QCOW2_OFFSET_MASK));
            }
        }
    }
    g_clear_pointer(&s->inactive_l2, g_hash_table_destroy);
    s->inactive_l2 = tables;
}
