/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Packing clusters and finding places for them.  Each packed cluster begins on a sector, one
 * behind the other, so a cluster of the file that holds several of them counts no more
 * references than it has sectors (and one).  Behind the last one a rest of a cluster waits for
 * the next, until nothing refers to that cluster any more.  Home context.
 */
#include "qcow2-pack.h"

static uint64_t sectors_up(uint64_t bytes)
{
    return (bytes + QCOW2_PACK_SECTOR - 1) / QCOW2_PACK_SECTOR * QCOW2_PACK_SECTOR;
}

static int pack_worker(void *opaque)
{
    Qcow2Pack *p = opaque;
    size_t size = p->s->cluster_size;
    size_t there = MIN(p->n * size, p->iov->size - p->from);

    /* Guests go on writing their memory, and no packer expects its input to change. */
    io_vector_to_buf(p->iov, p->from, p->in, there);
    memset(p->in + there, 0, p->n * size - there);
    return qcow2_pack(p->s->compression, p->effort, p->in, p->n, size, p->out, p->sizes);
}

Qcow2Pack *coroutine_fn qcow2_pack_new(const Qcow2State *s, IOVector *iov, size_t from, uint64_t n,
                                       uint64_t max_bytes, Qcow2PackEffort effort, int *ret)
{
    Qcow2Pack *p = g_new(Qcow2Pack, 1);

    p->s = s;
    p->iov = iov;
    p->from = from;
    p->n = MIN(n, MIN(MAX(qcow2_clusters(s, max_bytes), 1), QCOW2_PACK_MAX_CLUSTERS));
    p->effort = effort;
    p->in = g_try_malloc(p->n << s->cluster_bits);
    p->out = g_try_malloc(p->n << s->cluster_bits);
    *ret = p->in && p->out ? co_run_in_worker(pack_worker, p) : -ENOMEM;
    if (*ret < 0) {
        qcow2_pack_free(p);
        return NULL;
    }
    return p;
}

void qcow2_pack_free(Qcow2Pack *p)
{
    if (p) {
        g_free(p->in);
        g_free(p->out);
        g_free(p);
    }
}

uint64_t qcow2_pack_entry(const Qcow2Pack *p, uint64_t i)
{
    int shift = 62 - (p->s->cluster_bits - 8);

    return QCOW2_COMPRESSED | (uint64_t)((p->sizes[i] - 1) / QCOW2_PACK_SECTOR) << shift |
           p->hosts[i];
}

uint64_t qcow2_pack_bytes(const Qcow2Pack *p, uint64_t i)
{
    return sectors_up(p->sizes[i]);
}

/* Whether the cluster at host can take no further reference: 1, 0 or -errno. */
static int coroutine_fn is_full(BlockDriverState *bs, uint64_t host)
{
    Qcow2State *s = bs->opaque;
    uint64_t count;
    int ret = qcow2_refcount_get(bs, host >> s->cluster_bits, &count);

    return ret < 0 ? ret : count >= s->refcount_max;
}

/*
 * Clusters for all of [first, end), as far as there is no rest that may be used; where counts
 * are so narrow that few can share a cluster, for the first.  If they lie behind the rest they
 * make it longer, else they are the rest from now on.
 */
static int coroutine_fn get_room(BlockDriverState *bs, const Qcow2Pack *p, uint64_t first,
                                 uint64_t end)
{
    Qcow2State *s = bs->opaque;
    uint64_t rest = s->pack_end - s->pack_at, total = 0, cluster, count;
    int ret = rest ? is_full(bs, s->pack_at) : 0;

    if (ret < 0) {
        return ret;
    }
    rest = ret ? 0 : rest;
    if (rest >= qcow2_pack_bytes(p, first)) {
        return 0;
    }
    for (uint64_t i = first; i < end && (i == first || s->refcount_max >= UINT8_MAX); i++) {
        total += qcow2_pack_bytes(p, i);
    }
    count = qcow2_clusters(s, total - rest);
    ret = qcow2_alloc_contiguous(bs, count, &cluster);
    if (ret < 0) {
        return ret;
    }
    if (!rest || cluster << s->cluster_bits != s->pack_end) {
        s->pack_at = s->pack_end = cluster << s->cluster_bits;
    }
    s->pack_end += count << s->cluster_bits;
    return 0;
}

/*
 * Places one cluster at the start of the rest.  Clusters up to *counted have a reference of
 * another packed cluster already; the one that a new cluster begins with is that of the first
 * who touches it.  1, 0 when there is no room, or -errno.
 */
static int coroutine_fn place_one(BlockDriverState *bs, Qcow2Pack *p, uint64_t i,
                                  uint64_t *counted)
{
    Qcow2State *s = bs->opaque;
    uint64_t bytes = qcow2_pack_bytes(p, i);
    int ret;

    if (s->pack_end - s->pack_at < bytes) {
        return 0;
    }
    if (s->pack_at >> s->cluster_bits == *counted) {
        ret = is_full(bs, s->pack_at);
        if (ret) {
            return MIN(ret, 0);
        }
        ret = qcow2_refcount_add(bs, *counted, 1, 1, false);
        if (ret < 0) {
            return ret;
        }
    }
    *counted = (s->pack_at + bytes - 1) >> s->cluster_bits;
    p->hosts[i] = s->pack_at;
    s->pack_at += bytes;
    return 1;
}

int64_t coroutine_fn qcow2_pack_place(BlockDriverState *bs, Qcow2Pack *p, uint64_t first,
                                      uint64_t end)
{
    Qcow2State *s = bs->opaque;
    uint64_t i = first, counted, unused;
    int ret = get_room(bs, p, first, end);

    if (ret < 0) {
        return ret;
    }
    /* A rest begins within a cluster, others at the start of one that nobody has yet. */
    counted = ((s->pack_at + s->cluster_size - 1) >> s->cluster_bits) - 1;
    for (ret = 1; i < end && ret > 0; i += ret > 0) {
        ret = place_one(bs, p, i, &counted);
    }
    unused = (counted + 1) << s->cluster_bits;
    if (s->pack_end > unused) {
        qcow2_free_now(bs, counted + 1, (s->pack_end - unused) >> s->cluster_bits);
        s->pack_end = unused;
        s->pack_at = MIN(s->pack_at, unused);
    }
    /* What has been placed before an error is the caller's, who will meet the error again. */
    return i > first ? (int64_t)i : ret;
}

int coroutine_fn qcow2_pack_write(BlockDriverState *bs, Qcow2Pack *p, uint64_t first,
                                  uint64_t end)
{
    IOVector iov;
    int ret;

    io_vector_init(&iov, end - first);
    for (uint64_t i = first; i < end; i++) {
        io_vector_add(&iov, p->out + i * p->s->cluster_size, qcow2_pack_bytes(p, i));
    }
    ret = bdrv_co_pwritev(bs->file, p->hosts[first], iov.size, &iov, 0);
    io_vector_destroy(&iov);
    return ret;
}
