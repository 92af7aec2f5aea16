/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a user can say about an open qcow2 image (BlockdevOptionsQcow2), checked against the
 * image and with the defaults filled in.  The result outlives the options: an image that
 * becomes active again is opened with the same.
 */
#include "qcow2.h"

#define DEFAULT_L2_CACHE (32 << 20)
#define DEFAULT_REFCOUNT_CACHE (8 << 20)
#define MIN_L2_CLUSTERS 2
#define MIN_REFCOUNT_CLUSTERS 4
#define DEFAULT_CLEAN_INTERVAL 600 /* seconds */

static unsigned overlap_template(Qcow2OverlapCheckMode mode)
{
    static const unsigned flags[] = {
        [QCOW2_OVERLAP_CHECK_MODE_NONE] = 0,
        [QCOW2_OVERLAP_CHECK_MODE_CONSTANT] = QCOW2_OL_CONSTANT,
        [QCOW2_OVERLAP_CHECK_MODE_CACHED] = QCOW2_OL_CACHED,
        [QCOW2_OVERLAP_CHECK_MODE_ALL] = QCOW2_OL_ALL,
    };

    return flags[mode];
}

static unsigned overlap_flags(const Qcow2OverlapChecks *checks)
{
    const Qcow2OverlapCheckFlags *f;
    unsigned result;

    if (!checks) {
        return QCOW2_OL_CACHED;
    }
    if (checks->type == QTYPE_QSTRING) {
        return overlap_template(checks->u.mode);
    }
    f = &checks->u.flags;
    result = f->has_template ? overlap_template(f->q_template) : QCOW2_OL_CACHED;

    const struct {
        bool has, value;
        unsigned flag;
    } single[] = {
        { f->has_main_header, f->main_header, QCOW2_OL_MAIN_HEADER },
        { f->has_active_l1, f->active_l1, QCOW2_OL_ACTIVE_L1 },
        { f->has_active_l2, f->active_l2, QCOW2_OL_ACTIVE_L2 },
        { f->has_refcount_table, f->refcount_table, QCOW2_OL_REFCOUNT_TABLE },
        { f->has_refcount_block, f->refcount_block, QCOW2_OL_REFCOUNT_BLOCK },
        { f->has_snapshot_table, f->snapshot_table, QCOW2_OL_SNAPSHOT_TABLE },
        { f->has_inactive_l1, f->inactive_l1, QCOW2_OL_INACTIVE_L1 },
        { f->has_inactive_l2, f->inactive_l2, QCOW2_OL_INACTIVE_L2 },
        { f->has_bitmap_directory, f->bitmap_directory, QCOW2_OL_BITMAP_DIRECTORY },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(single); i++) {
        if (single[i].has) {
            result = single[i].value ? result | single[i].flag : result & ~single[i].flag;
        }
    }
    return result;
}

/* Bytes of L2 tables that map the whole disk. */
static uint64_t l2_for_disk(const Qcow2State *s)
{
    return qcow2_l1_entries(s, s->disk_size) << s->cluster_bits;
}

/* Shares combined out between the two caches as far as the user has not said how. */
static void share_out(const Qcow2State *s, const BlockdevOptionsQcow2 *o, uint64_t *l2,
                      uint64_t *refcount)
{
    uint64_t combined = o->cache_size, least = MIN_REFCOUNT_CLUSTERS * s->cluster_size;

    if (o->has_refcount_cache_size) {
        *l2 = combined - *refcount;
    } else if (o->has_l2_cache_size) {
        *refcount = combined - *l2;
    } else {
        /* L2 tables save more reads. */
        *l2 = MIN(combined - MIN(combined, least), l2_for_disk(s));
        *refcount = combined - *l2;
    }
}

static bool cache_sizes(const Qcow2State *s, const BlockdevOptionsQcow2 *o, Qcow2Options *result,
                        GError **errp)
{
    uint64_t l2 = o->has_l2_cache_size ? o->l2_cache_size : DEFAULT_L2_CACHE;
    uint64_t refcount = o->has_refcount_cache_size ? o->refcount_cache_size
                                                   : DEFAULT_REFCOUNT_CACHE;
    uint64_t entry = o->has_l2_cache_entry_size ? (uint64_t)o->l2_cache_entry_size
                                                : s->cluster_size;

    if (o->has_cache_size) {
        if (o->has_l2_cache_size && o->has_refcount_cache_size) {
            error_setg(errp, "cache-size, l2-cache-size and refcount-cache-size may not be set at "
                       "the same time");
            return false;
        }
        if (o->has_l2_cache_size && l2 > (uint64_t)o->cache_size) {
            error_setg(errp, "l2-cache-size may not exceed cache-size");
            return false;
        }
        if (o->has_refcount_cache_size && refcount > (uint64_t)o->cache_size) {
            error_setg(errp, "refcount-cache-size may not exceed cache-size");
            return false;
        }
        share_out(s, o, &l2, &refcount);
    }
    if (entry < 512 || entry > s->cluster_size || entry & (entry - 1)) {
        error_setg(errp, "L2 cache entry size must be a power of two between 512 and the cluster "
                   "size (%" PRIu64 ")", s->cluster_size);
        return false;
    }
    if (l2 > INT32_MAX * s->cluster_size || refcount > INT32_MAX * s->cluster_size) {
        error_setg(errp, "%s cache size too big", l2 > refcount ? "L2" : "Refcount");
        return false;
    }
    /* What the image does not have is never filled. */
    result->l2_cache_bytes = MAX(l2, MIN_L2_CLUSTERS * s->cluster_size);
    result->rb_cache_bytes = MAX(refcount, MIN_REFCOUNT_CLUSTERS * s->cluster_size);
    return true;
}

bool qcow2_options_set(BlockDriverState *bs, const BlockdevOptions *options, GError **errp)
{
    static const BlockdevOptionsQcow2 none;
    Qcow2State *s = bs->opaque;
    Qcow2Options *r = &s->options;
    const BlockdevOptionsQcow2 *o =
        options && options->driver == BLOCKDEV_DRIVER_QCOW2 ? &options->u.qcow2 : &none;
    int64_t interval =
        o->has_cache_clean_interval ? o->cache_clean_interval : DEFAULT_CLEAN_INTERVAL;

    if (o->encrypt) {
        error_setg(errp, "No encryption in image header, but options specified format '%s'",
                   o->encrypt->format);
        return false;
    }
    if (!cache_sizes(s, o, r, errp)) {
        return false;
    }
    if (interval < 0 || interval > UINT32_MAX) {
        error_setg(errp, "Cache clean interval too big");
        return false;
    }
    r->clean_interval = interval;
    r->lazy = o->has_lazy_refcounts ? o->lazy_refcounts
                                    : s->compatible & QCOW2_COMPAT_LAZY_REFCOUNTS;
    if (r->lazy && s->version < 3) {
        error_setg(errp, "Lazy refcounts require a qcow2 image with at least qemu 1.1 "
                   "compatibility level");
        return false;
    }
    r->overlap = overlap_flags(o->overlap_check);
    r->pass_discard[QCOW2_FREED_BY_REQUEST] =
        o->has_pass_discard_request ? o->pass_discard_request : bs->discard_unmap;
    r->pass_discard[QCOW2_FREED_BY_SNAPSHOT] =
        o->has_pass_discard_snapshot ? o->pass_discard_snapshot : true;
    r->pass_discard[QCOW2_FREED_OTHERWISE] = o->has_pass_discard_other && o->pass_discard_other;
    return true;
}
