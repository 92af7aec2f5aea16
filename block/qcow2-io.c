/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest data: reading through an L1 table, writing in place, and writing to newly allocated
 * clusters.  Data goes to and from the caller's buffers directly.  A write that allocates
 * holds the state's lock only while it takes clusters and while it enters them in L2; in
 * between it is on the list of requests, and whoever needs one of its clusters waits.
 */
#include "block/debug.h"
#include "qcow2.h"
#include "qcow2-io.h"

/* Opened to be looked at, without the file that guest data is in. */
static bool lacks_data_file(BlockDriverState *bs)
{
    return ((Qcow2State *)bs->opaque)->external_data && !bs->data_file;
}

int coroutine_fn qcow2_file_write(BlockDriverState *bs, uint64_t host, IOVector *iov, size_t from,
                                  size_t bytes, int flags)
{
    IOVector part;
    int ret;

    if (lacks_data_file(bs)) {
        return -EIO;
    }
    bdrv_co_debug_event(bs->file, BLKDEBUG_EVENT_WRITE_AIO);
    if (from == 0 && bytes == iov->size) {
        return bdrv_co_pwritev(qcow2_data_file(bs), host, bytes, iov, flags);
    }
    io_vector_init(&part, iov->niov);
    io_vector_concat(&part, iov, from, bytes);
    ret = bdrv_co_pwritev(qcow2_data_file(bs), host, bytes, &part, flags);
    io_vector_destroy(&part);
    return ret;
}

int coroutine_fn qcow2_file_read(BlockDriverState *bs, uint64_t host, IOVector *iov, size_t from,
                                 size_t bytes)
{
    Qcow2State *s = bs->opaque;
    uint64_t length = qcow2_data_file(bs)->bs->length;
    IOVector part;
    int ret;

    if (lacks_data_file(bs)) {
        return -EIO;
    }
    if (host >= length) {
        if ((host & ~(s->cluster_size - 1)) >= length && host >= s->zero_from &&
            !s->external_data) {
            return -EIO; /* a cluster outside of the file */
        }
        io_vector_memset(iov, from, 0, bytes);
        return 0;
    }
    if (bytes > length - host) {
        io_vector_memset(iov, from + (length - host), 0, bytes - (length - host));
        bytes = length - host;
    }
    bdrv_co_debug_event(bs->file, BLKDEBUG_EVENT_READ_AIO);
    if (from == 0 && bytes == iov->size) {
        return bdrv_co_preadv(qcow2_data_file(bs), host, bytes, iov, 0);
    }
    io_vector_init(&part, iov->niov);
    io_vector_concat(&part, iov, from, bytes);
    ret = bdrv_co_preadv(qcow2_data_file(bs), host, bytes, &part, 0);
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
        bdrv_co_debug_event(bs->file, BLKDEBUG_EVENT_READ_BACKING_AIO);
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

/* A write to a cluster that begins in the middle of one. */
static int coroutine_fn signal_unaligned(BlockDriverState *bs, Qcow2Kind kind, uint64_t host,
                                         uint64_t offset)
{
    return qcow2_signal_corruption(bs, "%s cluster offset %#" PRIx64 " unaligned (guest offset: %#"
                                   PRIx64 ")", kind == QCOW2_NORMAL ? "Data" : "Preallocated zero",
                                   host, offset);
}

/* Whether data may be where an entry says that it is. */
static int coroutine_fn check_place(BlockDriverState *bs, const Qcow2Run *run, uint64_t offset)
{
    Qcow2State *s = bs->opaque;
    uint64_t mask = s->cluster_size - 1, host = run->entry & QCOW2_OFFSET_MASK;

    if (host & mask) {
        return qcow2_signal_corruption(bs, "Cluster allocation offset %#" PRIx64 " unaligned (L2 "
                                       "offset: %#" PRIx64 ", L2 index: %#" PRIx64 ")", host,
                                       run->table, run->index);
    }
    if (s->external_data && run->host != offset) {
        return qcow2_signal_corruption(bs, "External data file host cluster offset %#" PRIx64
                                       " does not match guest cluster offset: %#" PRIx64
                                       ", L2 index: %#" PRIx64 ")", host, offset & ~mask,
                                       run->index);
    }
    return 0;
}

/* An entry of l1, or of the active table that is there now. */
static uint64_t l1_entry_now(const Qcow2State *s, const uint64_t *l1, uint64_t l1_size,
                             uint64_t index)
{
    return index >= (l1 ? l1_size : s->l1_size) ? 0 : l1 ? l1[index] : s->l1[index];
}

int coroutine_fn qcow2_read(BlockDriverState *bs, const uint64_t *l1, uint64_t l1_size,
                            uint64_t offset, uint64_t bytes, IOVector *iov, size_t iov_offset,
                            bool use_backing)
{
    Qcow2State *s = bs->opaque;

    while (bytes) {
        uint64_t l1_index = offset >> (s->cluster_bits + s->l2_bits);
        uint64_t in_cluster = offset & (s->cluster_size - 1), n;
        Qcow2Table *t;
        Qcow2Run run;
        int ret = qcow2_l2_load(bs, l1_entry_now(s, l1, l1_size, l1_index), &t);

        if (ret < 0) {
            return ret;
        }
        qcow2_run(s, t, offset, bytes, &run);
        qcow2_cache_put(&s->l2_cache, t);
        n = run.kind == QCOW2_COMPRESSED_DATA ? MIN(run.bytes, s->cluster_size - in_cluster)
                                              : run.bytes;
        switch (run.kind) {
        case QCOW2_UNALLOCATED:
        case QCOW2_UNALLOCATED_ALLOC:
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
            ret = check_place(bs, &run, offset);
            if (ret >= 0) {
                ret = qcow2_file_read(bs, run.host, iov, iov_offset, n);
            }
            break;
        case QCOW2_COMPRESSED_DATA: {
            g_autofree uint8_t *buf = s->external_data ? NULL : g_try_malloc(s->cluster_size);

            ret = s->external_data ? -EIO : buf ? qcow2_read_compressed(bs, run.entry, buf) : -ENOMEM;
            if (ret >= 0) {
                io_vector_from_buf(iov, iov_offset, buf + in_cluster, n);
            }
            break;
        }
        case QCOW2_INVALID:
            ret = qcow2_signal_invalid(bs, &run);
            break;
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

Qcow2Request *qcow2_find_conflict(Qcow2State *s, int64_t start, int64_t end, bool exclusive)
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

/* What is written: bytes in memory, or (iov NULL) in a file from which the host copies them. */
typedef struct Payload {
    IOVector *iov;
    BlockDriverState *file;
    int64_t at;
} Payload;

/* Writes bytes of it, those behind the first "from" ones, to host. */
static int coroutine_fn write_payload(BlockDriverState *bs, uint64_t host, const Payload *p,
                                      size_t from, size_t bytes)
{
    if (p->iov) {
        return qcow2_file_write(bs, host, p->iov, from, bytes, 0);
    }
    return lacks_data_file(bs) ? -EIO
                               : bdrv_co_copy_range(qcow2_data_file(bs), host, p->file,
                                                    p->at + from, bytes);
}

/*
 * Writes as much as lies in clusters that are the active layer's own.  Sets *done, 0 when
 * the first cluster must be allocated.
 */
static int coroutine_fn write_in_place(BlockDriverState *bs, uint64_t offset, uint64_t bytes,
                                       const Payload *p, size_t from, uint64_t *done)
{
    Qcow2State *s = bs->opaque;
    uint64_t l1_index = offset >> (s->cluster_bits + s->l2_bits);
    uint64_t mask = s->cluster_size - 1;
    Qcow2Request request, *conflict;

    *done = 0;
    for (;;) {
        uint64_t l1_entry = s->l1[l1_index], n;
        Qcow2Table *t;
        Qcow2Run run;
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
        qcow2_run(s, t, offset, bytes, &run);
        qcow2_cache_put(&s->l2_cache, t);
        n = run.bytes;
        if (run.kind == QCOW2_INVALID) {
            return qcow2_signal_invalid(bs, &run);
        }
        if (run.kind != QCOW2_NORMAL || !(run.entry & QCOW2_COPIED)) {
            return 0;
        }
        if (s->corrupt || s->broken) {
            return -EIO;
        }
        if (run.entry & QCOW2_OFFSET_MASK & mask) {
            return signal_unaligned(bs, run.kind, run.entry & QCOW2_OFFSET_MASK, offset);
        }
        ret = check_place(bs, &run, offset);
        if (ret < 0) {
            return ret;
        }
        conflict = qcow2_find_conflict(s, offset, offset + n, false);
        if (conflict) {
            co_queue_wait(&conflict->waiters, NULL);
            continue;
        }
        ret = qcow2_check_write(bs, run.host, n);
        if (ret < 0) {
            return ret;
        }
        qcow2_request_begin(&s->requests, &request, offset & ~mask, (offset + n + mask) & ~mask,
                            false);
        ret = write_payload(bs, run.host, p, from, n);
        qcow2_request_end(&request);
        s->write_seq++;
        *done = n;
        return ret;
    }
}

/* What a write to new clusters, or to places without data in own ones, knows about them. */
typedef struct Allocation {
    uint64_t guest, host; /* of the first cluster */
    uint64_t count;
    uint64_t offset, bytes; /* guest bytes that are written */
    uint64_t start, end;    /* with what must be filled around them to make whole units */
    bool head_zero, tail_zero; /* what is filled before / behind is zero */
    bool fresh;                /* the host clusters read as zero */
    bool reuse;                /* the clusters were there already */
} Allocation;

/* Whether a write to entry replaces its host cluster (or has none). */
static bool needs_cluster(Qcow2State *s, uint64_t entry)
{
    return !(qcow2_kind_has_host(qcow2_kind(s, entry)) && entry & QCOW2_COPIED);
}

/*
 * The guest bytes of the cluster of offset that a new cluster must take over if the old one
 * is replaced: all of them, but in extended tables only subclusters with data.
 */
static void old_data(const Qcow2State *s, const Qcow2Table *t, uint64_t offset, uint64_t *start,
                     uint64_t *end)
{
    uint64_t index = (offset >> s->cluster_bits) & (s->l2_entries - 1);
    uint64_t guest = offset & ~(s->cluster_size - 1);
    uint32_t data = qcow2_l2_bitmap(t, index);

    *start = guest;
    *end = guest + s->cluster_size;
    if (s->extended_l2 && !(qcow2_l2_get(t, index) & QCOW2_COMPRESSED)) {
        *start = data ? guest + ((uint64_t)__builtin_ctz(data) << s->sub_bits) : *end;
        *end = data ? *end - ((uint64_t)__builtin_clz(data) << s->sub_bits) : guest;
    }
}

/* Whether the range, in one cluster, reads as zero now. */
static bool range_is_zero(BlockDriverState *bs, const Qcow2Table *t, uint64_t from, uint64_t to)
{
    Qcow2Run run;

    qcow2_run(bs->opaque, t, from, to - from, &run);
    return run.bytes == to - from && qcow2_reads_zero(bs, run.kind, from);
}

/* Sets what must be written around the data to a, whose clusters are known. */
static void plan_fill(BlockDriverState *bs, const Qcow2Table *t, Allocation *a)
{
    Qcow2State *s = bs->opaque;
    uint64_t mask = (1ULL << s->sub_bits) - 1, end = a->offset + a->bytes, from, to;
    Qcow2Run run;

    a->start = a->offset & ~mask;
    a->end = (end + mask) & ~mask;
    if (a->reuse) {
        qcow2_run(s, t, a->start, 1, &run);
        a->start = run.kind == QCOW2_NORMAL ? a->offset : a->start;
        qcow2_run(s, t, a->end - 1, 1, &run);
        a->end = run.kind == QCOW2_NORMAL ? end : a->end;
    } else {
        old_data(s, t, a->offset, &from, &to);
        a->start = MIN(a->start, from);
        old_data(s, t, end - 1, &from, &to);
        a->end = MAX(a->end, to);
    }
    a->head_zero = a->start == a->offset || range_is_zero(bs, t, a->start, a->offset);
    a->tail_zero = a->end == end || range_is_zero(bs, t, end, a->end);
}

/* Lock held.  Finds host clusters for n guest clusters, or fewer; the first has this entry. */
static int coroutine_fn take_clusters(BlockDriverState *bs, uint64_t entry, uint64_t n,
                                      Allocation *a)
{
    Qcow2State *s = bs->opaque;
    uint64_t cluster;
    int ret;

    if (s->external_data) {
        a->host = a->guest;
        a->count = n;
        return 0;
    }
    if (a->reuse) {
        a->host = entry & QCOW2_OFFSET_MASK;
        a->count = n;
        if (a->host & (s->cluster_size - 1)) {
            return signal_unaligned(bs, QCOW2_ZERO_ALLOC, a->host, a->offset);
        }
        return qcow2_check_write(bs, a->host, n << s->cluster_bits);
    }
    ret = qcow2_alloc(bs, n, &cluster, &n);
    if (ret >= 0) {
        a->host = cluster << s->cluster_bits;
        a->fresh = a->host >= s->zero_from;
        a->count = n;
        s->zero_from = MAX(s->zero_from, a->host + (n << s->cluster_bits));
    }
    return ret;
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
    uint64_t entry, n = 1;
    Qcow2Request *conflict;
    Qcow2Table *t;
    Qcow2Run run;
    int ret;

    *a = (Allocation) { .guest = offset - in_cluster, .offset = offset };
    co_mutex_lock(&s->lock);
    ret = qcow2_l2_writable(bs, offset >> (s->cluster_bits + s->l2_bits), &t);
    if (ret < 0) {
        co_mutex_unlock(&s->lock);
        return ret;
    }
    entry = qcow2_l2_get(t, index);
    qcow2_run(s, t, offset, 1, &run);
    a->reuse = !needs_cluster(s, entry);
    if (run.kind == QCOW2_INVALID) {
        ret = qcow2_signal_invalid(bs, &run);
        goto out;
    }
    if (a->reuse && run.kind == QCOW2_NORMAL) {
        goto out;
    }
    for (; n < limit; n++) {
        uint64_t next = qcow2_l2_get(t, index + n);

        if (a->reuse ? next != entry + (n << s->cluster_bits) : !needs_cluster(s, next)) {
            break;
        }
    }
    conflict = qcow2_find_conflict(s, a->guest, a->guest + (n << s->cluster_bits), true);
    if (conflict) {
        qcow2_cache_put(&s->l2_cache, t);
        co_mutex_unlock(&s->lock);
        co_queue_wait(&conflict->waiters, NULL);
        return 0;
    }
    ret = take_clusters(bs, entry, n, a);
    if (ret >= 0) {
        a->bytes = MIN(bytes, (a->count << s->cluster_bits) - in_cluster);
        plan_fill(bs, t, a);
        qcow2_request_begin(&s->requests, request, a->guest,
                            a->guest + (a->count << s->cluster_bits), true);
    }
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
    bool state = offset >= qcow2_state_offset(s); /* machine state behind the disk */
    uint64_t inside = state                   ? bytes
                      : offset < s->disk_size ? MIN(bytes, s->disk_size - offset)
                                              : 0;
    IOVector v;

    memset(buf, 0, bytes);
    if (zero || !inside) {
        return 0;
    }
    io_vector_init_buf(&v, buf, inside);
    bdrv_co_debug_event(bs->file, BLKDEBUG_EVENT_COW_READ);
    return qcow2_read(bs, NULL, 0, offset, inside, &v, 0, !state);
}

/* Writes the data and, in the same request, what surrounds it in its clusters. */
static int coroutine_fn allocation_write(BlockDriverState *bs, const Allocation *a,
                                         const Payload *p, size_t from)
{
    uint64_t end = a->offset + a->bytes, host = a->host + (a->offset - a->guest);
    uint64_t head = a->fresh && a->head_zero ? 0 : a->offset - a->start;
    uint64_t tail = a->fresh && a->tail_zero ? 0 : a->end - end;
    g_autofree uint8_t *head_buf = NULL, *tail_buf = NULL;
    IOVector all;
    int ret = 0;

    if (!head && !tail) {
        return write_payload(bs, host, p, from, a->bytes);
    }
    if (!p->iov) {
        return -ENOTSUP;
    }
    if (head) {
        head_buf = g_malloc(head);
        ret = read_old(bs, a->start, head, a->head_zero, head_buf);
    }
    if (tail && ret >= 0) {
        tail_buf = g_malloc(tail);
        ret = read_old(bs, end, tail, a->tail_zero, tail_buf);
    }
    if (ret < 0) {
        return ret;
    }
    io_vector_init(&all, p->iov->niov + 2);
    if (head) {
        io_vector_add(&all, head_buf, head);
    }
    io_vector_concat(&all, p->iov, from, a->bytes);
    if (tail) {
        io_vector_add(&all, tail_buf, tail);
    }
    bdrv_co_debug_event(bs->file, BLKDEBUG_EVENT_COW_WRITE);
    ret = qcow2_file_write(bs, host - head, &all, 0, all.size, 0);
    io_vector_destroy(&all);
    return ret;
}

/* The bitmap of the cluster at guest once the write is there: what is untouched stays as it is. */
static uint64_t written_bitmap(const Qcow2State *s, const Allocation *a, uint64_t guest,
                               uint64_t entry, uint64_t bitmap)
{
    uint64_t from = MAX(a->offset, guest) - guest;
    uint64_t to = MIN(a->offset + a->bytes - guest, s->cluster_size);
    unsigned first = from >> s->sub_bits, last = (to - 1) >> s->sub_bits;
    uint64_t mask = ((2ULL << last) - 1) & ~((1ULL << first) - 1);

    if (entry & QCOW2_COMPRESSED) {
        return QCOW2_SUB_ALL; /* read_old() has unpacked it */
    }
    return (bitmap & ~(mask << 32)) | mask;
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
            uint64_t at = i << s->cluster_bits, entry = qcow2_l2_get(t, index + i);

            if (!a->reuse) {
                qcow2_free_entry_later(s, entry);
            }
            qcow2_l2_set_both(s, t, index + i, (a->host + at) | QCOW2_COPIED,
                              written_bitmap(s, a, a->guest + at, entry,
                                             qcow2_l2_bitmap(t, index + i)));
        }
        qcow2_cache_put(&s->l2_cache, t);
    } else if (!a->reuse && !s->external_data) {
        qcow2_free_now(bs, a->host >> s->cluster_bits, a->count);
    }
    co_mutex_unlock(&s->lock);
    return ret;
}

static int coroutine_fn write_all(BlockDriverState *bs, uint64_t offset, uint64_t bytes,
                                  const Payload *p)
{
    Qcow2State *s = bs->opaque;
    size_t from = 0;
    int ret = qcow2_throttle(bs);

    while (bytes && ret >= 0) {
        uint64_t done;
        Qcow2Request request;
        Allocation a;

        ret = write_in_place(bs, offset, bytes, p, from, &done);
        if (ret >= 0 && !done) {
            ret = allocation_begin(bs, offset, bytes, &a, &request);
            if (ret >= 0 && a.count) {
                done = a.bytes;
                ret = allocation_write(bs, &a, p, from);
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

int coroutine_fn qcow2_write(BlockDriverState *bs, uint64_t offset, uint64_t bytes, IOVector *iov)
{
    return write_all(bs, offset, bytes, &(Payload) { .iov = iov });
}

int coroutine_fn qcow2_co_copy_range(BlockDriverState *bs, int64_t offset, BlockDriverState *from,
                                     int64_t from_offset, int64_t bytes)
{
    int ret = qcow2_bitmaps_begin_write(bs);

    return ret < 0 ? ret
                   : write_all(bs, offset, bytes, &(Payload) { .file = from, .at = from_offset });
}
