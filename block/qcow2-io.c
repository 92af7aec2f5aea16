/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest data: reading through an L1 table, writing in place, and writing to newly allocated
 * clusters.  Data goes to and from the caller's buffers directly.  A write that allocates
 * holds the state's lock only while it takes clusters and while it enters them in L2; in
 * between it is on the list of requests, and whoever needs one of its clusters waits.
 */
#include "qcow2.h"
#include "qcow2-io.h"

int coroutine_fn qcow2_file_write(BlockDriverState *bs, uint64_t host, IOVector *iov, size_t from,
                                  size_t bytes)
{
    IOVector part;
    int ret;

    if (from == 0 && bytes == iov->size) {
        return bdrv_co_pwritev(bs->file, host, bytes, iov, 0);
    }
    io_vector_init(&part, iov->niov);
    io_vector_concat(&part, iov, from, bytes);
    ret = bdrv_co_pwritev(bs->file, host, bytes, &part, 0);
    io_vector_destroy(&part);
    return ret;
}

int coroutine_fn qcow2_file_read(BlockDriverState *bs, uint64_t host, IOVector *iov, size_t from,
                                 size_t bytes)
{
    Qcow2State *s = bs->opaque;
    uint64_t length = bs->file->bs->length;
    IOVector part;
    int ret;

    if (host >= length) {
        if ((host & ~(s->cluster_size - 1)) >= length && host >= s->zero_from) {
            return -EIO; /* a cluster outside of the file */
        }
        io_vector_memset(iov, from, 0, bytes);
        return 0;
    }
    if (bytes > length - host) {
        io_vector_memset(iov, from + (length - host), 0, bytes - (length - host));
        bytes = length - host;
    }
    if (from == 0 && bytes == iov->size) {
        return bdrv_co_preadv(bs->file, host, bytes, iov, 0);
    }
    io_vector_init(&part, iov->niov);
    io_vector_concat(&part, iov, from, bytes);
    ret = bdrv_co_preadv(bs->file, host, bytes, &part, 0);
    io_vector_destroy(&part);
    return ret;
}

static int coroutine_fn read_backing(BlockDriverState *bs, uint64_t offset, uint64_t bytes,
                                     IOVector *iov, size_t from)
{
    uint64_t length = bs->backing ? bs->backing->bs->length : 0;
    uint64_t n = offset < length ? MIN(bytes, length - offset) : 0;
    IOVector part;
    int ret = 0;

    if (n) {
        io_vector_init(&part, iov->niov);
        io_vector_concat(&part, iov, from, n);
        ret = bdrv_co_preadv(bs->backing, offset, n, &part, 0);
        io_vector_destroy(&part);
    }
    if (n < bytes) {
        io_vector_memset(iov, from + n, 0, bytes - n);
    }
    return ret;
}

int coroutine_fn qcow2_read(BlockDriverState *bs, const uint64_t *l1, uint64_t l1_size,
                            uint64_t offset, uint64_t bytes, IOVector *iov, size_t iov_offset,
                            bool use_backing)
{
    Qcow2State *s = bs->opaque;

    while (bytes) {
        uint64_t l1_index = offset >> (s->cluster_bits + s->l2_bits);
        uint64_t index = (offset >> s->cluster_bits) & (s->l2_entries - 1);
        uint64_t in_cluster = offset & (s->cluster_size - 1);
        uint64_t n = MIN(bytes, ((s->l2_entries - index) << s->cluster_bits) - in_cluster);
        uint64_t entry = 0, limit = n;
        Qcow2Kind kind;
        Qcow2Table *t = NULL;
        int ret = 0;

        if (l1_index < l1_size) {
            ret = qcow2_l2_load(bs, l1[l1_index], &t);
            if (ret < 0) {
                return ret;
            }
        }
        if (t) {
            entry = qcow2_l2_get(t, index);
        }
        kind = qcow2_kind(s, entry);
        if (t) {
            bool contiguous = kind == QCOW2_NORMAL;

            n = s->cluster_size - in_cluster;
            while (n < limit && kind != QCOW2_COMPRESSED_DATA) {
                uint64_t next = qcow2_l2_get(t, ++index);

                if (qcow2_kind(s, next) != kind ||
                    (contiguous && (next & QCOW2_OFFSET_MASK) !=
                                       (entry & QCOW2_OFFSET_MASK) + in_cluster + n)) {
                    break;
                }
                n += s->cluster_size;
            }
            n = MIN(n, limit);
            qcow2_cache_put(&s->l2_cache, t);
        }
        switch (kind) {
        case QCOW2_UNALLOCATED:
            if (use_backing) {
                ret = read_backing(bs, offset, n, iov, iov_offset);
                break;
            }
            /* fall through */
        case QCOW2_ZERO_PLAIN:
        case QCOW2_ZERO_ALLOC:
            io_vector_memset(iov, iov_offset, 0, n);
            break;
        case QCOW2_NORMAL:
            if (entry & QCOW2_OFFSET_MASK & (s->cluster_size - 1)) {
                ret = qcow2_signal_corruption(bs, "Cluster allocation offset %#" PRIx64
                                              " unaligned (guest offset: %#" PRIx64 ")",
                                              (uint64_t)(entry & QCOW2_OFFSET_MASK), offset);
                break;
            }
            ret = qcow2_file_read(bs, (entry & QCOW2_OFFSET_MASK) + in_cluster, iov, iov_offset,
                                  n);
            break;
        case QCOW2_COMPRESSED_DATA: {
            g_autofree uint8_t *buf = g_try_malloc(s->cluster_size);

            ret = buf ? qcow2_read_compressed(bs, entry, buf) : -ENOMEM;
            if (ret >= 0) {
                io_vector_from_buf(iov, iov_offset, buf + in_cluster, n);
            }
            break;
        }
        }
        if (ret < 0) {
            return ret;
        }
        offset += n;
        iov_offset += n;
        bytes -= n;
    }
    return 0;
}

static Qcow2Request *find_conflict(Qcow2State *s, int64_t start, int64_t end, bool exclusive)
{
    for (Qcow2Request *r = s->requests; r; r = r->next) {
        if (start < r->end && r->start < end && (exclusive || r->exclusive)) {
            return r;
        }
    }
    return NULL;
}

void qcow2_request_begin(Qcow2Request **list, Qcow2Request *r, int64_t start, int64_t end,
                         bool exclusive)
{
    *r = (Qcow2Request) { .start = start, .end = end, .exclusive = exclusive, .next = *list,
                          .pprev = list };
    co_queue_init(&r->waiters);
    if (*list) {
        (*list)->pprev = &r->next;
    }
    *list = r;
}

void qcow2_request_end(Qcow2Request *r)
{
    *r->pprev = r->next;
    if (r->next) {
        r->next->pprev = r->pprev;
    }
    co_queue_restart_all(&r->waiters);
    co_queue_destroy(&r->waiters);
}

/*
 * Writes as much as lies in clusters that are the active layer's own.  Sets *done, 0 when
 * the first cluster must be allocated.
 */
static int coroutine_fn write_in_place(BlockDriverState *bs, uint64_t offset, uint64_t bytes,
                                       IOVector *iov, size_t from, uint64_t *done)
{
    Qcow2State *s = bs->opaque;
    uint64_t l1_index = offset >> (s->cluster_bits + s->l2_bits);
    uint64_t in_cluster = offset & (s->cluster_size - 1);
    uint64_t first = (offset >> s->cluster_bits) & (s->l2_entries - 1);
    uint64_t limit = MIN(bytes, ((s->l2_entries - first) << s->cluster_bits) - in_cluster);
    Qcow2Request request, *conflict;
    const char *what;

    *done = 0;
    for (;;) {
        uint64_t index = first, l1_entry = s->l1[l1_index], host = 0, n = 0;
        Qcow2Table *t;
        int ret;

        if (!(l1_entry & QCOW2_COPIED) || qcow2_must_share(s, l1_index)) {
            return 0;
        }
        ret = qcow2_l2_load(bs, l1_entry, &t);
        if (ret < 0 || !t) {
            return ret;
        }
        if (s->l1[l1_index] != l1_entry || qcow2_must_share(s, l1_index)) {
            qcow2_cache_put(&s->l2_cache, t);
            continue;
        }
        while (n < limit) {
            uint64_t entry = qcow2_l2_get(t, index++);

            if (qcow2_kind(s, entry) != QCOW2_NORMAL || !(entry & QCOW2_COPIED) ||
                (n && (entry & QCOW2_OFFSET_MASK) != host + in_cluster + n)) {
                break;
            }
            if (!n) {
                host = entry & QCOW2_OFFSET_MASK;
                n = s->cluster_size - in_cluster;
            } else {
                n += s->cluster_size;
            }
        }
        qcow2_cache_put(&s->l2_cache, t);
        if (!n) {
            return 0;
        }
        n = MIN(n, limit);
        if (s->corrupt || s->broken) {
            return -EIO;
        }
        if (host & (s->cluster_size - 1)) {
            return qcow2_signal_corruption(bs, "Cluster allocation offset %#" PRIx64
                                           " unaligned (guest offset: %#" PRIx64 ")", host,
                                           offset);
        }
        host += in_cluster;
        conflict = find_conflict(s, offset, offset + n, false);
        if (conflict) {
            co_queue_wait(&conflict->waiters, NULL);
            continue;
        }
        what = qcow2_overlap(s, host, n);
        if (what) {
            return qcow2_signal_corruption(bs, "Preventing invalid write on metadata (overlaps "
                                           "with %s)", what);
        }
        qcow2_request_begin(&s->requests, &request, offset - in_cluster,
                      (offset + n + s->cluster_size - 1) & ~(s->cluster_size - 1), false);
        ret = qcow2_file_write(bs, host, iov, from, n);
        qcow2_request_end(&request);
        s->write_seq++;
        *done = n;
        return ret;
    }
}

/* What a write to new clusters knows about the clusters it replaces. */
typedef struct Allocation {
    uint64_t guest, host; /* of the first cluster */
    uint64_t count;
    bool head_zero, tail_zero; /* the rest of the first / last cluster reads as zero */
    bool fresh;                /* the host clusters read as zero */
    bool reuse;                /* the clusters were there already, flagged zero */
} Allocation;

static bool reads_zero(BlockDriverState *bs, uint64_t entry, uint64_t guest)
{
    Qcow2Kind kind = qcow2_kind(bs->opaque, entry);

    return kind == QCOW2_ZERO_PLAIN || kind == QCOW2_ZERO_ALLOC ||
           (kind == QCOW2_UNALLOCATED &&
            (!bs->backing || guest >= (uint64_t)bs->backing->bs->length));
}

/* Whether a write to entry replaces its host cluster (or has none). */
static bool needs_cluster(Qcow2State *s, uint64_t entry)
{
    Qcow2Kind kind = qcow2_kind(s, entry);

    return !((kind == QCOW2_NORMAL || kind == QCOW2_ZERO_ALLOC) && (entry & QCOW2_COPIED));
}

/*
 * Takes clusters for the start of [offset, offset + bytes).  0 with a->count == 0 means:
 * look again (somebody else was at it, or it can be written in place).
 */
static int coroutine_fn allocation_begin(BlockDriverState *bs, uint64_t offset, uint64_t bytes,
                                         Allocation *a, Qcow2Request *request)
{
    Qcow2State *s = bs->opaque;
    uint64_t index = (offset >> s->cluster_bits) & (s->l2_entries - 1);
    uint64_t in_cluster = offset & (s->cluster_size - 1);
    uint64_t limit = MIN(qcow2_clusters(s, in_cluster + bytes), s->l2_entries - index);
    uint64_t entry, last, n = 1, cluster;
    Qcow2Request *conflict;
    Qcow2Table *t;
    int ret;

    *a = (Allocation) { .guest = offset - in_cluster };
    co_mutex_lock(&s->lock);
    ret = qcow2_l2_writable(bs, offset >> (s->cluster_bits + s->l2_bits), &t);
    if (ret < 0) {
        co_mutex_unlock(&s->lock);
        return ret;
    }
    entry = last = qcow2_l2_get(t, index);
    a->reuse = qcow2_kind(s, entry) == QCOW2_ZERO_ALLOC && (entry & QCOW2_COPIED);
    if (!a->reuse && !needs_cluster(s, entry)) {
        goto out;
    }
    for (; n < limit; n++) {
        uint64_t next = qcow2_l2_get(t, index + n);

        if (a->reuse ? next != entry + (n << s->cluster_bits) : !needs_cluster(s, next)) {
            break;
        }
        last = next;
    }
    conflict = find_conflict(s, a->guest, a->guest + (n << s->cluster_bits), true);
    if (conflict) {
        qcow2_cache_put(&s->l2_cache, t);
        co_mutex_unlock(&s->lock);
        co_queue_wait(&conflict->waiters, NULL);
        return 0;
    }
    if (a->reuse) {
        const char *what;

        a->host = entry & QCOW2_OFFSET_MASK;
        what = qcow2_overlap(s, a->host, n << s->cluster_bits);
        if (what || (a->host & (s->cluster_size - 1))) {
            ret = qcow2_signal_corruption(bs, "Preventing invalid write on metadata (overlaps "
                                          "with %s)", what ? what : "unaligned cluster");
            goto out;
        }
    } else {
        uint64_t wanted = n;

        ret = qcow2_alloc(bs, n, &cluster, &n);
        if (ret < 0) {
            goto out;
        }
        if (n < wanted) {
            last = qcow2_l2_get(t, index + n - 1);
        }
        a->host = cluster << s->cluster_bits;
        a->fresh = a->host >= s->zero_from;
        s->zero_from = MAX(s->zero_from, a->host + (n << s->cluster_bits));
    }
    a->count = n;
    a->head_zero = reads_zero(bs, entry, a->guest);
    a->tail_zero = reads_zero(bs, last, a->guest + ((n - 1) << s->cluster_bits));
    qcow2_request_begin(&s->requests, request, a->guest, a->guest + (n << s->cluster_bits), true);
out:
    qcow2_cache_put(&s->l2_cache, t);
    co_mutex_unlock(&s->lock);
    return ret;
}

/* Old content of [offset, offset + bytes) for the unwritten part of a new cluster. */
static int coroutine_fn read_old(BlockDriverState *bs, uint64_t offset, uint64_t bytes, bool zero,
                                 uint8_t *buf)
{
    Qcow2State *s = bs->opaque;
    uint64_t inside = offset < s->disk_size ? MIN(bytes, s->disk_size - offset) : 0;
    IOVector v;

    memset(buf, 0, bytes);
    if (zero || !inside) {
        return 0;
    }
    io_vector_init_buf(&v, buf, inside);
    return qcow2_read(bs, s->l1, s->l1_size, offset, inside, &v, 0, true);
}

/* Writes the data and, in the same request, what surrounds it in its clusters. */
static int coroutine_fn allocation_write(BlockDriverState *bs, const Allocation *a,
                                         uint64_t offset, uint64_t bytes, IOVector *iov,
                                         size_t from)
{
    Qcow2State *s = bs->opaque;
    uint64_t head = offset - a->guest;
    uint64_t tail = (a->count << s->cluster_bits) - head - bytes;
    g_autofree uint8_t *head_buf = NULL, *tail_buf = NULL;
    IOVector all;
    int ret = 0;

    if (a->fresh && a->head_zero) {
        head = 0;
    }
    if (a->fresh && a->tail_zero) {
        tail = 0;
    }
    if (!head && !tail) {
        return qcow2_file_write(bs, a->host + (offset - a->guest), iov, from, bytes);
    }
    if (head) {
        head_buf = g_malloc(head);
        ret = read_old(bs, a->guest, head, a->head_zero, head_buf);
    }
    if (tail && ret >= 0) {
        tail_buf = g_malloc(tail);
        ret = read_old(bs, offset + bytes, tail, a->tail_zero, tail_buf);
    }
    if (ret < 0) {
        return ret;
    }
    io_vector_init(&all, iov->niov + 2);
    if (head) {
        io_vector_add(&all, head_buf, head);
    }
    io_vector_concat(&all, iov, from, bytes);
    if (tail) {
        io_vector_add(&all, tail_buf, tail);
    }
    ret = bdrv_co_pwritev(bs->file, a->host + (offset - a->guest) - head, all.size, &all, 0);
    io_vector_destroy(&all);
    return ret;
}

/* Enters the clusters in L2, or gives them back when the write has failed. */
static int coroutine_fn allocation_end(BlockDriverState *bs, const Allocation *a, int ret)
{
    Qcow2State *s = bs->opaque;
    uint64_t index = (a->guest >> s->cluster_bits) & (s->l2_entries - 1);
    Qcow2Table *t;

    co_mutex_lock(&s->lock);
    if (ret >= 0) {
        ret = qcow2_l2_writable(bs, a->guest >> (s->cluster_bits + s->l2_bits), &t);
    }
    if (ret >= 0) {
        for (uint64_t i = 0; i < a->count; i++) {
            if (!a->reuse) {
                qcow2_free_entry_later(s, qcow2_l2_get(t, index + i));
            }
            qcow2_l2_set(s, t, index + i,
                         (a->host + (i << s->cluster_bits)) | QCOW2_COPIED);
        }
        qcow2_cache_put(&s->l2_cache, t);
    } else if (!a->reuse) {
        qcow2_free_now(bs, a->host >> s->cluster_bits, a->count);
    }
    co_mutex_unlock(&s->lock);
    return ret;
}

int coroutine_fn qcow2_write(BlockDriverState *bs, uint64_t offset, uint64_t bytes, IOVector *iov)
{
    Qcow2State *s = bs->opaque;
    size_t from = 0;
    int ret = qcow2_throttle(bs);

    while (bytes && ret >= 0) {
        uint64_t done;
        Qcow2Request request;
        Allocation a;

        ret = write_in_place(bs, offset, bytes, iov, from, &done);
        if (ret >= 0 && !done) {
            ret = allocation_begin(bs, offset, bytes, &a, &request);
            if (ret >= 0 && a.count) {
                done = MIN(bytes, a.guest + (a.count << s->cluster_bits) - offset);
                ret = allocation_write(bs, &a, offset, done, iov, from);
                ret = allocation_end(bs, &a, ret);
                qcow2_request_end(&request);
                s->write_seq++;
            }
        }
        offset += done;
        from += done;
        bytes -= done;
    }
    return ret;
}
