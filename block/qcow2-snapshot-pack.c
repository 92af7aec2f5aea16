/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Machine state in compressed clusters.  Whole clusters of a write are packed by a worker
 * thread, in the image's own compression method; what does not get smaller is written as it
 * is, and so is what changes later.
 *
 * Each packed cluster begins on a sector, so the clusters of the image that hold several of
 * them count no more references than they have sectors (and one).  Behind the last one a
 * rest of a cluster waits for the next.  Home context.
 */
#include "qcow2.h"
#include "qcow2-io.h"
#include "qcow2-snapshot-int.h"

#define SECTOR 512
/* Packed together; a worker needs this much memory twice. */
#define BATCH_BYTES (1 << 20)
#define BATCH_CLUSTERS 256

typedef struct Packing {
    const Qcow2State *s;
    IOVector *iov;
    size_t from;
    uint64_t n;
    uint8_t *in, *out;              /* n clusters each; packed ones at their number's place */
    uint32_t sizes[BATCH_CLUSTERS]; /* 0: does not get smaller */
    uint64_t hosts[BATCH_CLUSTERS]; /* where it goes */
} Packing;

static uint64_t sectors_up(uint64_t bytes)
{
    return (bytes + SECTOR - 1) / SECTOR * SECTOR;
}

static int pack_worker(void *opaque)
{
    Packing *p = opaque;
    size_t size = p->s->cluster_size;

    /* Guests go on writing their memory, and no packer expects its input to change. */
    io_vector_to_buf(p->iov, p->from, p->in, p->n * size);
    return qcow2_pack(p->s->compression, p->in, p->n, size, p->out, p->sizes);
}

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

/* An L2 entry for size bytes at host, a multiple of SECTOR. */
static uint64_t packed_entry(const Qcow2State *s, uint64_t host, uint32_t size)
{
    int shift = 62 - (s->cluster_bits - 8);

    return QCOW2_COMPRESSED | (uint64_t)((size - 1) / SECTOR) << shift | host;
}

/* Lock held.  Nothing in the file refers to the entry. */
static void coroutine_fn drop_entry(BlockDriverState *bs, Qcow2Save *save, uint64_t entry)
{
    Qcow2State *s = bs->opaque;
    uint64_t cluster, count;

    if (!qcow2_entry_clusters(s, entry, &cluster, &count)) {
        return;
    }
    /* The rest may be in one of these, and that may be nobody's now. */
    if (save->pack_at < save->pack_end && save->pack_at >> s->cluster_bits >= cluster &&
        save->pack_at >> s->cluster_bits < cluster + count) {
        save->pack_end = save->pack_at;
    }
    qcow2_free_now(bs, cluster, count);
}

/*
 * Lock held.  Finds places for as many of the packed clusters [first, end) as fit into one
 * run of bytes; returns the end of those, or -errno.
 */
static int64_t coroutine_fn place(BlockDriverState *bs, Qcow2Save *save, Packing *p,
                                  uint64_t first, uint64_t end)
{
    Qcow2State *s = bs->opaque;
    uint64_t counted = UINT64_MAX, total = 0, i, cluster;
    int ret = 0;

    if (save->pack_end - save->pack_at < sectors_up(p->sizes[first])) {
        for (i = first; i < end; i++) {
            total += sectors_up(p->sizes[i]);
        }
        ret = qcow2_alloc_contiguous(bs, qcow2_clusters(s, total), &cluster);
        if (ret < 0) {
            return ret;
        }
        save->pack_at = cluster << s->cluster_bits;
        save->pack_end = save->pack_at + (qcow2_clusters(s, total) << s->cluster_bits);
        /* They have one reference each, which is that of the first who touches them. */
        counted = cluster - 1;
    } else {
        counted = save->pack_at >> s->cluster_bits;
    }
    for (i = first; i < end && save->pack_end - save->pack_at >= sectors_up(p->sizes[i]); i++) {
        uint64_t last = (save->pack_at + p->sizes[i] - 1) >> s->cluster_bits;

        for (cluster = save->pack_at >> s->cluster_bits; cluster <= last && ret >= 0; cluster++) {
            if (cluster <= counted) {
                ret = qcow2_refcount_add(bs, cluster, 1, 1, false);
            }
            counted = MAX(counted, cluster);
        }
        if (ret < 0) {
            /* A refcount block of a moment ago cannot be read: what was counted leaks. */
            save->pack_end = save->pack_at;
            return ret;
        }
        p->hosts[i] = save->pack_at;
        save->pack_at += sectors_up(p->sizes[i]);
    }
    return i;
}

/* Writes the packed clusters [first, end), none of which is 0 bytes, and enters them. */
static int coroutine_fn write_packed(BlockDriverState *bs, Qcow2Save *save, uint64_t *entries,
                                     Packing *p, uint64_t first, uint64_t end)
{
    Qcow2State *s = bs->opaque;
    int ret = 0;

    while (first < end && ret >= 0) {
        int64_t placed;
        IOVector iov;

        co_mutex_lock(&s->lock);
        placed = place(bs, save, p, first, end);
        co_mutex_unlock(&s->lock);
        if (placed < 0) {
            return placed;
        }
        io_vector_init(&iov, placed - first);
        for (int64_t i = first; i < placed; i++) {
            io_vector_add(&iov, p->out + i * s->cluster_size, sectors_up(p->sizes[i]));
        }
        ret = bdrv_co_pwritev(bs->file, p->hosts[first], iov.size, &iov, 0);
        io_vector_destroy(&iov);
        for (; (int64_t)first < placed; first++) {
            uint64_t entry = packed_entry(s, p->hosts[first], p->sizes[first]);

            if (ret >= 0) {
                entries[first] = entry;
                save->packed_bytes += s->cluster_size;
                save->packed_size += sectors_up(p->sizes[first]);
            } else {
                co_mutex_lock(&s->lock);
                drop_entry(bs, save, entry);
                co_mutex_unlock(&s->lock);
            }
        }
    }
    return ret;
}

/* Runs of clusters that got smaller, and of those that did not. */
static int coroutine_fn write_runs(BlockDriverState *bs, Qcow2Save *save, uint64_t *entries,
                                   Packing *p)
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
    g_autofree Packing *p = g_new(Packing, 1);
    int ret = -ENOMEM;

    p->s = s;
    p->iov = iov;
    p->from = from;
    p->n = MIN(n, MIN(MAX(BATCH_BYTES >> s->cluster_bits, 1), BATCH_CLUSTERS));
    p->in = g_try_malloc(p->n << s->cluster_bits);
    p->out = g_try_malloc(p->n << s->cluster_bits);
    if (p->in && p->out) {
        ret = co_run_in_worker(pack_worker, p);
    }
    if (ret >= 0) {
        ret = write_runs(bs, save, entries, p);
    }
    g_free(p->in);
    g_free(p->out);
    return ret < 0 ? ret : (int64_t)(p->n << s->cluster_bits);
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
    drop_entry(bs, save, old);
    co_mutex_unlock(&s->lock);
    return bytes;
}
