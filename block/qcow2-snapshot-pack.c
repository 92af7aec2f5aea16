/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Machine state in compressed clusters.  Whole clusters of a write are packed by a worker
 * thread, in the image's own compression method; what does not get smaller is written as it
 * is, and so is what changes later.  Home context.
 */
#include "qcow2.h"
#include "qcow2-io.h"
#include "qcow2-pack.h"
#include "qcow2-snapshot-int.h"

/* Packed together; a worker needs this much memory twice. */
#define BATCH_BYTES (1 << 20)

bool coroutine_fn qcow2_save_compress(BlockDriverState *bs, void *opaque, GError **errp)
{
    Qcow2State *s = bs->opaque;
    Qcow2Save *save = opaque;

    if (s->refcount_max < UINT16_MAX) {
        error_setg(errp, "Compressed machine state needs reference counts of 16 bits or more, "
                         "the image has %d", 1 << s->refcount_order);
        return false;
    }
    save->compress = true;
    return true;
}

void qcow2_save_compressed(void *opaque, uint64_t *bytes, uint64_t *size)
{
    Qcow2Save *save = opaque;

    *bytes = save->packed_bytes;
    *size = save->packed_size;
}

/* Lock held.  Nothing in the file refers to the entry. */
static void coroutine_fn drop_entry(BlockDriverState *bs, uint64_t entry)
{
    uint64_t cluster, count;

    if (qcow2_entry_clusters(bs->opaque, entry, &cluster, &count)) {
        qcow2_free_now(bs, cluster, count);
    }
}

/* Writes the packed clusters [first, end), none of which is 0 bytes, and enters them. */
static int coroutine_fn write_packed(BlockDriverState *bs, Qcow2Save *save, uint64_t *entries,
                                     Qcow2Pack *p, uint64_t first, uint64_t end)
{
    Qcow2State *s = bs->opaque;
    int ret = 0;

    while (first < end && ret >= 0) {
        int64_t placed;

        co_mutex_lock(&s->lock);
        placed = qcow2_pack_place(bs, p, first, end);
        co_mutex_unlock(&s->lock);
        if (placed < 0) {
            return placed;
        }
        ret = qcow2_pack_write(bs, p, first, placed);
        for (; (int64_t)first < placed; first++) {
            uint64_t entry = qcow2_pack_entry(p, first);

            if (ret >= 0) {
                entries[first] = entry;
                save->packed_bytes += s->cluster_size;
                save->packed_size += qcow2_pack_bytes(p, first);
            } else {
                co_mutex_lock(&s->lock);
                drop_entry(bs, entry);
                co_mutex_unlock(&s->lock);
            }
        }
    }
    return ret;
}

/* Runs of clusters that got smaller, and of those that did not. */
static int coroutine_fn write_runs(BlockDriverState *bs, Qcow2Save *save, uint64_t *entries,
                                   Qcow2Pack *p)
{
    Qcow2State *s = bs->opaque;
    int64_t ret = 0;

    for (uint64_t i = 0, end; i < p->n && ret >= 0; i = end) {
        end = i + 1;
        while (end < p->n && !p->sizes[end] == !p->sizes[i]) {
            end++;
        }
        if (p->sizes[i]) {
            ret = write_packed(bs, save, entries, p, i, end);
            continue;
        }
        for (uint64_t at = i; at < end && ret >= 0;) {
            ret = qcow2_save_write_new(bs, save, entries + at, end - at, 0, p->iov,
                                       p->from + at * s->cluster_size,
                                       (end - at) * s->cluster_size);
            at += MAX(ret, 0) >> s->cluster_bits;
        }
    }
    return MIN(ret, 0);
}

int64_t coroutine_fn qcow2_save_write_packed(BlockDriverState *bs, Qcow2Save *save,
                                             uint64_t *entries, uint64_t n, IOVector *iov,
                                             size_t from)
{
    Qcow2State *s = bs->opaque;
    Qcow2Pack *p;
    uint64_t done;
    int ret;

    p = qcow2_pack_new(s, iov, from, n, BATCH_BYTES, QCOW2_PACK_FAST, &ret);
    if (!p) {
        return ret;
    }
    ret = write_runs(bs, save, entries, p);
    done = p->n << s->cluster_bits;
    qcow2_pack_free(p);
    return ret < 0 ? ret : (int64_t)done;
}

int64_t coroutine_fn qcow2_save_unpack_over(BlockDriverState *bs, Qcow2Save *save,
                                            uint64_t *entry, uint64_t in_cluster,
                                            IOVector *iov, size_t from, uint64_t bytes)
{
    Qcow2State *s = bs->opaque;
    g_autofree uint8_t *buf = g_try_malloc(s->cluster_size);
    uint64_t old = *entry, host, size;
    IOVector whole;
    int64_t ret;

    if (!buf) {
        return -ENOMEM;
    }
    bytes = MIN(bytes, s->cluster_size - in_cluster);
    if (bytes < s->cluster_size) {
        ret = qcow2_read_compressed(bs, old, buf);
        if (ret < 0) {
            return ret;
        }
    }
    io_vector_to_buf(iov, from, buf + in_cluster, bytes);
    io_vector_init_buf(&whole, buf, s->cluster_size);
    ret = qcow2_save_write_new(bs, save, entry, 1, 0, &whole, 0, s->cluster_size);
    if (ret < 0) {
        return ret;
    }
    qcow2_compressed_extent(s, old, &host, &size);
    save->packed_bytes -= s->cluster_size;
    save->packed_size -= size;
    co_mutex_lock(&s->lock);
    drop_entry(bs, old);
    co_mutex_unlock(&s->lock);
    return bytes;
}
