/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * L2 tables from the inside: what an entry, and in extended tables its bitmap of
 * subclusters, says, and how it changes.  Whoever wants to know where guest bytes are asks
 * qcow2_run(), which knows both layouts.  Nothing here yields.
 */
#include "qcow2.h"

/* What an extended entry says of subcluster sub, and how many from there on are alike. */
static Qcow2Kind extended_kind(const Qcow2State *s, uint64_t entry, uint64_t bitmap, unsigned sub,
                               unsigned *alike)
{
    uint32_t data = bitmap, zero = bitmap >> 32;
    bool has_data = (data >> sub) & 1, is_zero = (zero >> sub) & 1;
    bool host = qcow2_has_host(s, entry);
    uint32_t differ;

    *alike = QCOW2_SUBCLUSTERS - sub;
    if (entry & QCOW2_COMPRESSED) {
        return QCOW2_COMPRESSED_DATA;
    }
    differ = ((has_data ? ~data : data) | (is_zero ? ~zero : zero)) >> sub;
    if (differ) {
        *alike = MIN(*alike, (unsigned)__builtin_ctz(differ));
    }
    if (has_data) {
        return is_zero || !host ? QCOW2_INVALID : QCOW2_NORMAL;
    }
    if (is_zero) {
        return host ? QCOW2_ZERO_ALLOC : QCOW2_ZERO_PLAIN;
    }
    return host ? QCOW2_UNALLOCATED_ALLOC : QCOW2_UNALLOCATED;
}

static Qcow2Kind sub_kind(const Qcow2State *s, const Qcow2Table *t, uint64_t index, unsigned sub,
                          unsigned *alike)
{
    uint64_t entry = qcow2_l2_get(t, index);

    *alike = 1;
    return s->extended_l2 ? extended_kind(s, entry, qcow2_l2_bitmap(t, index), sub, alike)
                          : qcow2_kind(s, entry);
}

void qcow2_run(const Qcow2State *s, const Qcow2Table *t, uint64_t offset, uint64_t bytes,
               Qcow2Run *run)
{
    uint64_t index = (offset >> s->cluster_bits) & (s->l2_entries - 1);
    uint64_t at = offset & (s->cluster_size - 1);
    uint64_t limit = MIN(bytes, ((s->l2_entries - index) << s->cluster_bits) - at), n;
    unsigned alike;

    *run = (Qcow2Run) { .kind = QCOW2_UNALLOCATED, .bytes = limit };
    if (!t) {
        return;
    }
    run->table = t->offset;
    run->index = index;
    run->entry = qcow2_l2_get(t, index);
    run->kind = sub_kind(s, t, index, at >> s->sub_bits, &alike);
    run->host = (run->entry & QCOW2_OFFSET_MASK) + at;
    n = (((at >> s->sub_bits) + alike) << s->sub_bits) - at;
    while (n < limit && !((at + n) & (s->cluster_size - 1))) {
        uint64_t entry = qcow2_l2_get(t, ++index);

        if (sub_kind(s, t, index, 0, &alike) != run->kind ||
            (qcow2_kind_has_host(run->kind) &&
             ((entry & QCOW2_OFFSET_MASK) != run->host + n ||
              (entry ^ run->entry) & QCOW2_COPIED))) {
            break;
        }
        n += (uint64_t)alike << s->sub_bits;
    }
    run->bytes = MIN(n, limit);
}

bool qcow2_l2_valid(const Qcow2State *s, const Qcow2Table *t, uint64_t index)
{
    uint64_t entry = qcow2_l2_get(t, index), bitmap = qcow2_l2_bitmap(t, index);

    if (entry & QCOW2_COMPRESSED) {
        return !bitmap;
    }
    return !(bitmap & bitmap >> 32) && (qcow2_has_host(s, entry) || !(bitmap & QCOW2_SUB_ALL));
}

bool qcow2_reads_zero(BlockDriverState *bs, Qcow2Kind kind, uint64_t offset)
{
    switch (kind) {
    case QCOW2_ZERO_PLAIN:
    case QCOW2_ZERO_ALLOC:
        return true;
    case QCOW2_UNALLOCATED:
    case QCOW2_UNALLOCATED_ALLOC:
        return !bs->backing || offset >= (uint64_t)bs->backing->bs->length;
    default:
        return false;
    }
}

void qcow2_l2_set_both(Qcow2State *s, Qcow2Table *t, uint64_t index, uint64_t entry,
                       uint64_t bitmap)
{
    qcow2_cache_modify(s, &s->l2_cache, t);
    qcow2_put64(t->data + (index << t->shift), entry);
    if (s->extended_l2) {
        qcow2_put64(t->data + (index << t->shift) + 8, bitmap);
    }
}

void qcow2_l2_set(Qcow2State *s, Qcow2Table *t, uint64_t index, uint64_t entry)
{
    uint64_t bitmap = 0;

    if (s->extended_l2 && !(entry & QCOW2_COMPRESSED)) {
        bitmap = entry & QCOW2_ZERO ? QCOW2_SUB_ZERO : qcow2_has_host(s, entry) ? QCOW2_SUB_ALL : 0;
        entry &= ~QCOW2_ZERO;
    }
    qcow2_l2_set_both(s, t, index, entry, bitmap);
}

void qcow2_l2_set_copied(Qcow2State *s, Qcow2Table *t, uint64_t index, bool copied)
{
    uint64_t entry = qcow2_l2_get(t, index) & ~QCOW2_COPIED;

    qcow2_l2_set_both(s, t, index, entry | (copied ? QCOW2_COPIED : 0),
                      qcow2_l2_bitmap(t, index));
}

void qcow2_l2_clear_copied(const Qcow2State *s, Qcow2Table *t)
{
    for (uint64_t i = 0; i < s->l2_entries; i++) {
        t->data[i << t->shift] &= 0x7f;
    }
}
