/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest data in compressed clusters (BDRV_REQ_WRITE_COMPRESSED).  A request is cut into
 * batches; workers pack several of them at once, and they go into the file in their order, so
 * that what belongs together lies together.  Clusters that do not get smaller are written as
 * they are.  The file is written before anything refers to it, as with any new cluster.
 */
#include "qcow2-io.h"
#include "qcow2-pack.h"

#define BATCH_BYTES (256 * 1024)
#define BATCHES_AT_ONCE 8

/* A request, shared by the coroutines that work on it. */
typedef struct PackedWrite {
    BlockDriverState *bs;
    IOVector *iov;
    uint64_t offset, bytes;
    uint64_t next, written; /* bytes taken by somebody; bytes done with, in order */
    int running, ret;
    CoQueue turn;
    Coroutine *waiter;
} PackedWrite;

/* Enters the placed clusters [first, end) in L2, or drops their references. */
static int coroutine_fn enter(BlockDriverState *bs, const Qcow2Pack *p, uint64_t guest,
                              uint64_t first, uint64_t end, int ret)
{
    Qcow2State *s = bs->opaque;
    uint64_t index = (guest >> s->cluster_bits) & (s->l2_entries - 1);
    uint64_t cluster, count;
    Qcow2Table *t = NULL;

    co_mutex_lock(&s->lock);
    if (ret >= 0) {
        ret = qcow2_l2_writable(bs, guest >> (s->cluster_bits + s->l2_bits), &t);
    }
    for (uint64_t i = first; i < end; i++, index++) {
        uint64_t entry = qcow2_pack_entry(p, i);

        if (t) {
            qcow2_free_entry_later(s, qcow2_l2_get(t, index));
            qcow2_l2_set(s, t, index, entry);
        } else if (qcow2_entry_clusters(s, entry, &cluster, &count)) {
            qcow2_free_now(bs, cluster, count);
        }
    }
    qcow2_cache_put(&s->l2_cache, t);
    co_mutex_unlock(&s->lock);
    return ret;
}

/* Some of the packed clusters [first, end), whose guest offset is that of first: the end. */
static int64_t coroutine_fn write_some(BlockDriverState *bs, Qcow2Pack *p, uint64_t guest,
                                       uint64_t first, uint64_t end)
{
    Qcow2State *s = bs->opaque;
    uint64_t guest_end = guest + ((end - first) << s->cluster_bits);
    Qcow2Request request, *conflict;
    Qcow2Table *t;
    int64_t placed;
    int ret;

    /* Under lock: a write may have looked for conflicts and be waiting for its clusters. */
    co_mutex_lock(&s->lock);
    while ((conflict = qcow2_find_conflict(s, guest, guest_end, true))) {
        co_queue_wait(&conflict->waiters, &s->lock);
    }
    qcow2_request_begin(&s->requests, &request, guest, guest_end, true);
    /* A table that is needed in the end had better be possible before data is written. */
    placed = qcow2_l2_writable(bs, guest >> (s->cluster_bits + s->l2_bits), &t);
    if (placed >= 0) {
        qcow2_cache_put(&s->l2_cache, t);
        placed = qcow2_pack_place(bs, p, first, end);
    }
    co_mutex_unlock(&s->lock);
    if (placed >= 0) {
        ret = qcow2_pack_write(bs, p, first, placed);
        ret = enter(bs, p, guest, first, placed, ret);
        placed = ret < 0 ? ret : placed;
    }
    qcow2_request_end(&request);
    s->write_seq++;
    return placed;
}

/* Runs of clusters that got smaller, and of those that did not; guest: of the batch. */
static int coroutine_fn write_batch(PackedWrite *w, Qcow2Pack *p, uint64_t guest, uint64_t bytes)
{
    Qcow2State *s = w->bs->opaque;
    int64_t ret = 0;

    for (uint64_t i = 0, end; i < p->n && ret >= 0; i = end) {
        uint64_t start = i << s->cluster_bits;

        end = i + 1;
        while (end < p->n && !p->sizes[end] == !p->sizes[i]) {
            end++;
        }
        if (p->sizes[i]) {
            for (uint64_t at = i; at < end && ret >= 0; at = MAX(ret, 0)) {
                ret = write_some(w->bs, p, guest + (at << s->cluster_bits), at, end);
            }
        } else {
            uint64_t n = MIN((end - i) << s->cluster_bits, bytes - start);
            IOVector part;

            io_vector_init(&part, w->iov->niov);
            io_vector_concat(&part, w->iov, p->from + start, n);
            ret = qcow2_write(w->bs, guest + start, n, &part);
            io_vector_destroy(&part);
        }
    }
    return MIN(ret, 0);
}

/* Takes batches until there are no more. */
static void coroutine_fn work(PackedWrite *w)
{
    Qcow2State *s = w->bs->opaque;

    while (w->next < w->bytes && w->ret >= 0) {
        uint64_t from = w->next, guest = w->offset + from;
        uint64_t table_end = ((guest >> (s->cluster_bits + s->l2_bits)) + 1)
                             << (s->cluster_bits + s->l2_bits);
        uint64_t bytes = MIN(MIN(w->bytes - from, table_end - guest),
                             MAX(BATCH_BYTES, s->cluster_size));
        Qcow2Pack *p;
        int ret;

        bytes = MIN(bytes, (uint64_t)QCOW2_PACK_MAX_CLUSTERS << s->cluster_bits);
        w->next += bytes;
        p = qcow2_pack_new(s, w->iov, from, qcow2_clusters(s, bytes), bytes, QCOW2_PACK_SMALL,
                           &ret);
        while (w->written < from && w->ret >= 0) {
            co_queue_wait(&w->turn, NULL);
        }
        if (ret >= 0 && w->ret >= 0) {
            ret = qcow2_throttle(w->bs);
            ret = ret < 0 ? ret : write_batch(w, p, guest, bytes);
        }
        qcow2_pack_free(p);
        w->ret = w->ret < 0 ? w->ret : MIN(ret, 0);
        w->written = from + bytes;
        co_queue_restart_all(&w->turn);
    }
}

static void coroutine_fn helper_entry(void *opaque)
{
    PackedWrite *w = opaque;

    work(w);
    if (--w->running == 0 && w->waiter) {
        aio_co_wake(w->waiter);
    }
}

int coroutine_fn qcow2_write_compressed(BlockDriverState *bs, uint64_t offset, uint64_t bytes,
                                        IOVector *iov)
{
    Qcow2State *s = bs->opaque;
    uint64_t mask = s->cluster_size - 1;
    PackedWrite w = { .bs = bs, .iov = iov, .offset = offset, .bytes = bytes };
    uint64_t batches = bytes / MAX(BATCH_BYTES, s->cluster_size);

    if (s->external_data) {
        return -ENOTSUP;
    }
    if ((offset & mask) || ((bytes & mask) && offset + bytes != s->disk_size)) {
        return -EINVAL;
    }
    co_queue_init(&w.turn);
    for (uint64_t i = 1; i < MIN(batches, BATCHES_AT_ONCE); i++) {
        w.running++;
        aio_co_schedule(bs->ctx, coroutine_create(helper_entry, &w));
    }
    work(&w);
    while (w.running) {
        w.waiter = coroutine_self();
        coroutine_yield();
    }
    co_queue_destroy(&w.turn);
    return w.ret;
}
