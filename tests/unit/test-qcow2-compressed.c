/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest data in compressed clusters against a model: several coroutines that write compressed
 * and plain, whole clusters and parts, and discard, with snapshots taken and deleted meanwhile;
 * large requests; every width of reference counts; writes that fail at each place.  The image is
 * clean for our check and Debian's, and reads the same with both.
 */
#include "qcow2-test.h"

#define WORKERS 4
#define PACKED BDRV_REQ_WRITE_COMPRESSED

typedef struct Model {
    MemFile *file;
    BdrvChild *image;
    GRand *rand;
    int64_t cluster, size;
    uint8_t *data;
    int running, turn, error;
} Model;

static int64_t cluster_of(const char *options)
{
    return g_ascii_strtoll(options + strlen("cluster_size="), NULL, 10);
}

static void coroutine_fn model_open(Model *m, const char *options, int64_t clusters, int64_t more, int seed)
{
    GError *err = NULL;

    *m = (Model){.rand = g_rand_new_with_seed(seed), .cluster = cluster_of(options)};
    m->size = clusters * m->cluster + more;
    m->file = image_create(m->size, options);
    m->file->yield_rand = m->rand;
    m->image = image_open(m->file, NULL, false, &err);
    g_assert_no_error(err);
    m->data = g_malloc0(m->size);
}

static void coroutine_fn model_close(Model *m)
{
    image_close(m->image);
    mem_free(m->file);
    g_rand_free(m->rand);
    g_free(m->data);
}

/* Bytes that can be packed well, badly or not at all, a kind for each cluster. */
static void fill(Model *m, uint8_t *p, int64_t n)
{
    int kind = 0;

    for (int64_t i = 0; i < n; i++) {
        if (i % m->cluster == 0) {
            kind = g_rand_int_range(m->rand, 0, 4);
        }
        p[i] = kind == 0   ? g_rand_int(m->rand)
               : kind == 1 ? i / 64
               : kind == 2 ? g_rand_int(m->rand) & 1
                           : (guint32)kind;
    }
}

static int coroutine_fn write_at(Model *m, int64_t offset, int64_t bytes, int flags)
{
    g_autofree uint8_t *buf = g_malloc(bytes);
    IOVector iov;
    int ret;

    fill(m, buf, bytes);
    io_vector_init(&iov, 2);
    io_vector_add(&iov, buf, bytes / 3);
    io_vector_add(&iov, buf + bytes / 3, bytes - bytes / 3);
    ret = bdrv_co_pwritev(m->image, offset, bytes, &iov, flags);
    io_vector_destroy(&iov);
    if (ret == 0) {
        memcpy(m->data + offset, buf, bytes);
    }
    return ret;
}

static void coroutine_fn compare(Model *m, int64_t offset, int64_t bytes)
{
    g_autofree uint8_t *buf = g_malloc(bytes);

    g_assert_cmpint(bdrv_co_pread(m->image, offset, bytes, buf, 0), ==, 0);
    g_assert_cmpmem(buf, bytes, m->data + offset, bytes);
}

/* A worker has every WORKERS-th cluster; so neighbours share clusters of the file. */
static void coroutine_fn worker_step(Model *m, int number)
{
    int64_t clusters = m->size / m->cluster / WORKERS;
    int64_t first = (g_rand_int_range(m->rand, 0, clusters) * WORKERS + number) * m->cluster;
    int64_t at, bytes;
    int ret = 0;

    switch (g_rand_int_range(m->rand, 0, 6)) {
    case 0:
    case 1:
    case 2:
        ret = write_at(m, first, m->cluster, PACKED);
        break;
    case 3:
        at = g_rand_int_range(m->rand, 0, m->cluster);
        bytes = g_rand_int_range(m->rand, 1, m->cluster - at + 1);
        ret = write_at(m, first + at, bytes, 0);
        break;
    case 4:
        ret = bdrv_co_pwrite_zeroes(m->image, first, m->cluster, BDRV_REQ_MAY_UNMAP);
        if (ret == 0) {
            memset(m->data + first, 0, m->cluster);
        }
        break;
    default:
        ret = g_rand_int_range(m->rand, 0, 4) ? 0 : bdrv_co_flush(m->image->bs);
    }
    if (ret == 0) {
        compare(m, first, m->cluster);
    }
    m->error = m->error ? m->error : ret;
}

static void coroutine_fn worker_entry(void *opaque)
{
    Model *m = opaque;
    int number = m->turn++;

    for (int i = 0; i < 20 && !m->error; i++) {
        worker_step(m, number);
    }
    m->running--;
}

/* Two snapshots of the disk while others write: taken, and the older one deleted. */
static void coroutine_fn snapshots(Model *m, int round)
{
    BlockDriverState *bs = m->image->bs;
    const BdrvSnapshotDriver *d = bs->drv->snapshot;
    BdrvSnapshotInfo info = {.icount = UINT64_MAX};
    GError *err = NULL;
    void *save;

    g_snprintf(info.name, sizeof(info.name), "s%d", round);
    save = d->prepare(bs, &info, 0, &err);
    g_assert_no_error(err);
    bdrv_co_drained_begin(bs);
    d->freeze(bs, save, &err);
    bdrv_drained_end(bs);
    d->publish(bs, save, &info, &err);
    g_assert_no_error(err);
    d->done(bs, save);
    if (round) {
        g_snprintf(info.name, sizeof(info.name), "s%d", round - 1);
        bdrv_co_snapshot_delete(bs, info.name, &err);
        g_assert_no_error(err);
    }
}

static void coroutine_fn run_workers(Model *m, int round, bool with_snapshots)
{
    m->running = WORKERS;
    m->turn = m->error = 0;
    for (int i = 0; i < WORKERS; i++) {
        aio_co_schedule(main_aio_context(), coroutine_create(worker_entry, m));
    }
    if (with_snapshots) {
        snapshots(m, round);
    }
    while (m->running) {
        co_sleep_ns(0);
    }
}

/* Whole requests of many clusters, alone: packed by several workers. */
static void coroutine_fn large_requests(Model *m)
{
    for (int i = 0; i < 3; i++) {
        int64_t clusters = m->size / m->cluster;
        int64_t first = g_rand_int_range(m->rand, 0, clusters);
        int64_t n = g_rand_int_range(m->rand, 1, clusters - first + 1);
        int64_t bytes = MIN(n * m->cluster, m->size - first * m->cluster);

        if (first + n == clusters) {
            bytes = m->size - first * m->cluster; /* and what there is of the last one */
        }
        g_assert_cmpint(write_at(m, first * m->cluster, bytes, PACKED), ==, 0);
    }
    compare(m, 0, m->size);
}

static void coroutine_fn assert_same_with_qemu(Model *m)
{
    g_autofree char *raw = temp_name(), *name = temp_name(), *output = NULL;
    g_autofree char *command = g_strdup_printf("qemu-img compare -f raw -F qcow2 %s %s", raw, name);

    if (!have_qemu_img()) {
        return;
    }
    qemu_img_check(m->file, false);
    g_assert_true(g_file_set_contents(raw, (char *)m->data, m->size, NULL));
    mem_store(m->file, name);
    g_assert_cmpint(run_tool(command, &output), ==, 0);
    g_unlink(raw);
    g_unlink(name);
}

static void coroutine_fn flush(Model *m)
{
    for (int i = 0; i < 3; i++) { /* what one gives back, the next makes durable */
        g_assert_cmpint(bdrv_co_flush(m->image->bs), ==, 0);
        m->image->bs->drv->co_settle(m->image->bs);
    }
}

static void coroutine_fn test_model(void)
{
    static const struct {
        const char *options;
        int64_t clusters, more;
        bool snapshots;
    } cases[] = {
        { "cluster_size=512", 300, 0, true },
        { "cluster_size=2048", 300, 512, true },
        { "cluster_size=4096,compression_type=zstd", 200, 1024, true },
        { "cluster_size=65536", 40, 4096, true },
        { "cluster_size=4096,refcount_bits=1", 100, 0, false },
        { "cluster_size=4096,refcount_bits=2", 100, 512, false },
        { "cluster_size=4096,refcount_bits=8", 100, 0, true },
        { "cluster_size=4096,compat=0.10", 100, 512, true },
        { "cluster_size=16384,extended_l2=on", 60, 512, true },
        { "cluster_size=2097152", 3, 512, false },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        Model m;

        model_open(&m, cases[i].options, cases[i].clusters, cases[i].more, i);
        for (int round = 0; round < 2; round++) {
            if (cases[i].clusters >= WORKERS) {
                run_workers(&m, round, cases[i].snapshots);
                g_assert_cmpint(m.error, ==, 0);
            }
            large_requests(&m);
            flush(&m);
            image_assert_clean(m.file, false, cases[i].options);
        }
        assert_same_with_qemu(&m);
        model_close(&m);
    }
}

/* What is not whole clusters is refused, and what cannot compress says so. */
static void coroutine_fn test_refused(void)
{
    Model m;

    model_open(&m, "cluster_size=4096", 10, 512, 1);
    g_assert_true(bdrv_can_compress(m.image->bs));
    g_assert_false(bdrv_can_compress(m.image->bs->file->bs));
    g_assert_cmpint(write_at(&m, 512, 4096, PACKED), ==, -EINVAL);
    g_assert_cmpint(write_at(&m, 0, 4608, PACKED), ==, -EINVAL);
    g_assert_cmpint(write_at(&m, m.size - 512, 512, PACKED), ==, 0);
    g_assert_cmpint(write_at(&m, 8192, m.size - 8192, PACKED), ==, 0);
    compare(&m, 0, m.size);
    model_close(&m);
}

/* One write after the other fails: the error is told, and the image stays sound. */
static void coroutine_fn test_failures(void)
{
    for (int n = 0; n < 20; n++) {
        Model m;

        model_open(&m, "cluster_size=4096", 60, 0, n);
        g_assert_cmpint(write_at(&m, 0, 20 * 4096, PACKED), ==, 0);
        m.file->fail_errno = ENOSPC;
        m.file->fail_once = true;
        m.file->fail_after = n;
        run_workers(&m, 0, false);
        g_assert_true(m.error == 0 || m.error == -ENOSPC);
        m.file->fail_after = -1;
        flush(&m);
        image_assert_clean(m.file, false, "after a failed write");
        model_close(&m);
    }
}

/* A plain write of part of a cluster, and a compressed one of all of it, at the same time. */
#define SHARED_AT (8 * 4096)

static void coroutine_fn plain_entry(void *opaque)
{
    Model *m = opaque;
    uint8_t buf[512];

    memset(buf, 1, sizeof(buf));
    g_assert_cmpint(bdrv_co_pwrite(m->image, SHARED_AT, sizeof(buf), buf, 0), ==, 0);
    m->running--;
}

static void coroutine_fn packed_entry(void *opaque)
{
    Model *m = opaque;
    g_autofree uint8_t *buf = g_malloc(m->cluster);
    IOVector iov;

    memset(buf, 2, m->cluster);
    io_vector_init_buf(&iov, buf, m->cluster);
    g_assert_cmpint(bdrv_co_pwritev(m->image, SHARED_AT, m->cluster, &iov, PACKED), ==, 0);
    m->running--;
}

/* No two requests change the mapping of the same clusters. */
static void assert_apart(const Qcow2State *s)
{
    for (Qcow2Request *r = s->requests; r; r = r->next) {
        for (Qcow2Request *other = r->next; other; other = other->next) {
            g_assert_true(r->end <= other->start || other->end <= r->start);
        }
    }
}

/* The plain write knows of no conflict and waits for a refcount block when the other comes. */
static void coroutine_fn test_same_cluster(void)
{
    g_autofree uint8_t *buf = NULL;
    GError *err = NULL;
    Qcow2State *s;
    Model m;

    model_open(&m, "cluster_size=4096", 60, 0, 1);
    m.file->yield_rand = NULL;
    g_assert_cmpint(write_at(&m, 0, 4096, 0), ==, 0); /* so there is an L2 table */
    image_close(m.image);
    m.image = image_open(m.file, NULL, false, &err);
    g_assert_no_error(err);
    s = m.image->bs->opaque;
    m.file->hold_at = s->rt[0] & QCOW2_OFFSET_MASK;
    m.file->hold = true;
    m.running = 2;
    aio_co_schedule(main_aio_context(), coroutine_create(plain_entry, &m));
    while (!m.file->holding) {
        qcow2_breathe();
    }
    aio_co_schedule(main_aio_context(), coroutine_create(packed_entry, &m));
    while (!s->requests && __atomic_load_n(&s->lock.users, __ATOMIC_ACQUIRE) < 2) {
        qcow2_breathe();
    }
    m.file->hold = false;
    m.file->yield_rand = m.rand;
    while (m.running) {
        assert_apart(s);
        qcow2_breathe();
    }
    buf = g_malloc(m.cluster);
    g_assert_cmpint(bdrv_co_pread(m.image, SHARED_AT, m.cluster, buf, 0), ==, 0);
    for (int64_t i = 512; i < m.cluster; i++) {
        g_assert_cmpint(buf[i], ==, 2);
    }
    model_close(&m);
}

int main(int argc, char **argv)
{
    main_aio_context_init();
    g_test_init(&argc, &argv, NULL);
    bdrv_init();
    add_test("/qcow2/compressed/model", test_model);
    add_test("/qcow2/compressed/refused", test_refused);
    add_test("/qcow2/compressed/failures", test_failures);
    add_test("/qcow2/compressed/same-cluster", test_same_cluster);
    return g_test_run();
}
