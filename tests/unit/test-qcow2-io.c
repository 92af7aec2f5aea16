/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qcow2: random reads, writes, zeroing and discards by several coroutines at once against a
 * model in memory, over all cluster sizes and refcount widths, with reopening; images made
 * by Debian's qemu-img, and ours as it sees them; backing files; failing writes.
 */
#include "qcow2-test.h"

#define WORKERS 4

typedef struct Model {
    BdrvChild *image;
    uint8_t *data;
    int64_t size;
    GRand *rand;
    int running;
    int steps;
} Model;

typedef struct Worker {
    Model *m;
    int number;
} Worker;

/* Each worker owns every WORKERS-th unit, so that they meet in clusters but not in bytes. */
#define UNIT 128

static void coroutine_fn worker_step(Worker *w)
{
    Model *m = w->m;
    int64_t units = m->size / UNIT / WORKERS;
    int64_t offset = (g_rand_int_range(m->rand, 0, units) * WORKERS + w->number) * UNIT;
    uint8_t buf[UNIT], byte = g_rand_int_range(m->rand, 1, 256);

    if (g_rand_int_range(m->rand, 0, 3)) {
        memset(buf, byte, UNIT);
        memset(m->data + offset, byte, UNIT);
        g_assert_cmpint(bdrv_co_pwrite(m->image, offset, UNIT, buf, 0), ==, 0);
    }
    g_assert_cmpint(bdrv_co_pread(m->image, offset, UNIT, buf, 0), ==, 0);
    g_assert_cmpmem(buf, UNIT, m->data + offset, UNIT);
}

static void coroutine_fn worker_entry(void *opaque)
{
    Worker *w = opaque;

    for (int i = 0; i < w->m->steps; i++) {
        worker_step(w);
    }
    w->m->running--;
}

static void coroutine_fn run_workers(Model *m, int steps)
{
    Worker workers[WORKERS];

    m->steps = steps;
    m->running = WORKERS;
    for (int i = 0; i < WORKERS; i++) {
        workers[i] = (Worker) { m, i };
        aio_co_schedule(main_aio_context(), coroutine_create(worker_entry, &workers[i]));
    }
    while (m->running) {
        qcow2_breathe();
    }
}

/* Large requests of every kind, alone. */
static void coroutine_fn large_step(Model *m, bool discard)
{
    int64_t offset = g_rand_int_range(m->rand, 0, m->size);
    int64_t bytes = g_rand_int_range(m->rand, 1, MIN(m->size - offset, 300000) + 1);
    g_autofree uint8_t *buf = g_malloc(bytes);

    switch (g_rand_int_range(m->rand, 0, discard ? 4 : 3)) {
    case 0:
        for (int64_t i = 0; i < bytes; i++) {
            m->data[offset + i] = buf[i] = offset + i * 7;
        }
        g_assert_cmpint(bdrv_co_pwrite(m->image, offset, bytes, buf, 0), ==, 0);
        break;
    case 1:
        memset(m->data + offset, 0, bytes);
        g_assert_cmpint(bdrv_co_pwrite_zeroes(m->image, offset, bytes,
                                              g_rand_boolean(m->rand) ? BDRV_REQ_MAY_UNMAP : 0),
                        ==, 0);
        break;
    case 2:
        g_assert_cmpint(bdrv_co_pread(m->image, offset, bytes, buf, 0), ==, 0);
        g_assert_cmpmem(buf, bytes, m->data + offset, bytes);
        break;
    default:
        /* What a discard leaves is known for whole clusters only: read it back. */
        g_assert_cmpint(bdrv_co_pdiscard(m->image, offset, bytes), ==, 0);
        g_assert_cmpint(bdrv_co_pread(m->image, offset, bytes, m->data + offset, 0), ==, 0);
    }
}

static void coroutine_fn compare_all(Model *m)
{
    g_autofree uint8_t *buf = g_malloc(m->size);

    g_assert_cmpint(bdrv_co_pread(m->image, 0, m->size, buf, 0), ==, 0);
    for (int64_t i = 0; i < m->size; i++) {
        if (buf[i] != m->data[i]) {
            g_error("byte %" PRId64 " is %d, not %d", i, buf[i], m->data[i]);
        }
    }
}

/* raw: the data file must read as the disk does. */
static void coroutine_fn model_run(MemFile *file, int64_t size, bool raw, uint32_t seed,
                                   int rounds)
{
    Model m = { .size = size, .data = g_malloc0(size), .rand = g_rand_new_with_seed(seed) };
    GError *err = NULL;

    file->yield_rand = g_rand_new_with_seed(seed);
    if (file->guest_data) {
        file->guest_data->yield_rand = file->yield_rand;
    }
    for (int round = 0; round < rounds; round++) {
        m.image = image_open(file, NULL, false, &err);
        g_assert_no_error(err);
        compare_all(&m);
        for (int i = 0; i < 4; i++) {
            run_workers(&m, 60);
            for (int j = 0; j < 6; j++) {
                large_step(&m, true);
            }
            if (g_rand_boolean(m.rand)) {
                g_assert_cmpint(bdrv_co_flush(m.image->bs), ==, 0);
            }
        }
        compare_all(&m);
        image_close(m.image);
        image_assert_clean(file, false, "after closing");
        if (raw) {
            g_assert_cmpmem(file->guest_data->data, size, m.data, size);
        }
    }
    if (file->guest_data) {
        file->guest_data->yield_rand = NULL;
    }
    g_clear_pointer(&file->yield_rand, g_rand_free);
    g_rand_free(m.rand);
    g_free(m.data);
}

static void coroutine_fn test_model(void)
{
    static const struct {
        const char *options;
        int64_t size;
    } cases[] = {
        { "cluster_size=512,refcount_bits=1", 600 * 1024 + 512 },
        { "cluster_size=512,refcount_bits=64", 600 * 1024 },
        { "cluster_size=1024,refcount_bits=2", 700 * 1024 + 512 },
        { "cluster_size=2048,refcount_bits=4", 1 << 20 },
        { "cluster_size=4096,refcount_bits=8", 1 << 20 },
        { "cluster_size=65536,refcount_bits=16", (3 << 20) + 512 },
        { "cluster_size=65536,refcount_bits=32", 3 << 20 },
        { "cluster_size=2097152,refcount_bits=16", 5 << 20 },
        { "cluster_size=512,compat=0.10", 400 * 1024 },
        { "cluster_size=65536,compat=0.10", 2 << 20 },
        { "cluster_size=4096,preallocation=metadata", 1 << 20 },
        { "cluster_size=16384,extended_l2=on", (1 << 20) + 512 },
        { "cluster_size=65536,extended_l2=on", (3 << 20) + 512 },
        { "cluster_size=2097152,extended_l2=on", 5 << 20 },
        { "cluster_size=16384,extended_l2=on,preallocation=metadata", 1 << 20 },
        { "cluster_size=4096,lazy_refcounts=on", 1 << 20 },
        { "cluster_size=4096,data_file=TEMP", (1 << 20) + 512 },
        { "cluster_size=4096,data_file=TEMP,data_file_raw=on", (1 << 20) + 512 },
        { "cluster_size=65536,extended_l2=on,data_file=TEMP", 3 << 20 },
        { "cluster_size=65536,extended_l2=on,data_file=TEMP,data_file_raw=on", 3 << 20 },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        MemFile *file = image_create(cases[i].size, cases[i].options);

        image_assert_clean(file, false, cases[i].options);
        if (have_qemu_img()) {
            qemu_img_check(file, false);
        }
        model_run(file, cases[i].size, strstr(cases[i].options, "data_file_raw"), i + 1, 2);
        if (have_qemu_img()) {
            qemu_img_check(file, false);
        }
        mem_free(file);
    }
}

/* Images that Debian's qemu-img made: every width and size, compressed both ways. */
static void coroutine_fn test_foreign(void)
{
    static const char *const cases[] = {
        "-o cluster_size=512,refcount_bits=1", "-o cluster_size=1024,refcount_bits=2",
        "-o cluster_size=4096,refcount_bits=4", "-o cluster_size=8192,refcount_bits=8",
        "-o cluster_size=65536,refcount_bits=32", "-o cluster_size=65536,refcount_bits=64",
        "-o cluster_size=2097152", "-o compat=0.10", "-o preallocation=metadata", "-c",
        "-c -o cluster_size=4096", "-c -o compression_type=zstd",
        "-o extended_l2=on,cluster_size=16384", "-o extended_l2=on,preallocation=metadata",
        "-c -o extended_l2=on",
    };
    g_autofree char *raw = temp_name(), *image_name = temp_name();
    int64_t size = (2 << 20) + 512;
    g_autofree uint8_t *data = g_malloc0(size), *buf = g_malloc(size);

    if (!have_qemu_img()) {
        g_test_skip("qemu-img is not installed");
        return;
    }
    for (int64_t i = 100000; i < 1500000; i++) {
        data[i] = (i >> 9) * 31 + (i & 7);
    }
    g_assert_true(g_file_set_contents(raw, (char *)data, size, NULL));
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *make = g_strdup_printf("qemu-img convert -f raw -O qcow2 %s %s %s",
                                                cases[i], raw, image_name);
        g_autofree char *compare = g_strdup_printf("qemu-img compare -f raw -F qcow2 %s %s", raw,
                                                   image_name);
        g_autofree char *output = NULL;
        GError *err = NULL;
        BdrvChild *image;
        MemFile *m;

        g_assert_cmpint(run_tool(make, &output), ==, 0);
        m = mem_load(image_name);
        image_assert_clean(m, false, cases[i]);
        image = image_open(m, NULL, false, &err);
        g_assert_no_error(err);
        g_assert_cmpint(bdrv_co_pread(image, 0, size, buf, 0), ==, 0);
        g_assert_cmpmem(buf, size, data, size);
        /* Over compressed and plain clusters, whole and in part. */
        memset(data + 200100, i + 1, 90000);
        g_assert_cmpint(bdrv_co_pwrite(image, 200100, 90000, data + 200100, 0), ==, 0);
        g_assert_cmpint(bdrv_co_pread(image, 0, size, buf, 0), ==, 0);
        g_assert_cmpmem(buf, size, data, size);
        image_close(image);
        qemu_img_check(m, false);
        mem_store(m, image_name);
        g_assert_true(g_file_set_contents(raw, (char *)data, size, NULL));
        g_clear_pointer(&output, g_free);
        g_assert_cmpint(run_tool(compare, &output), ==, 0);
        mem_free(m);
    }
    g_unlink(raw);
    g_unlink(image_name);
}

/* A backing file shorter than the image: copy on write, zeroes, discards, growing. */
static void coroutine_fn backing_run(const char *options)
{
    MemFile *base_file = image_create(300 * 1024, "cluster_size=4096");
    MemFile *file = image_create(500 * 1024, options);
    g_autofree uint8_t *model = g_malloc0(600 * 1024), *buf = g_malloc(600 * 1024);
    GError *err = NULL;
    BdrvChild *base = image_open(base_file, NULL, false, &err), *image;

    memset(model, 0x77, 300 * 1024);
    g_assert_cmpint(bdrv_co_pwrite(base, 0, 300 * 1024, model, 0), ==, 0);
    image = image_open(file, base->bs, false, &err);
    g_assert_no_error(err);
    memset(model + 10000, 0x11, 3000);
    g_assert_cmpint(bdrv_co_pwrite(image, 10000, 3000, model + 10000, 0), ==, 0);
    memset(model + 290 * 1024, 0x22, 20 * 1024); /* across the end of the backing file */
    g_assert_cmpint(bdrv_co_pwrite(image, 290 * 1024, 20 * 1024, model + 290 * 1024, 0), ==, 0);
    memset(model + 100000, 0, 100000);
    g_assert_cmpint(bdrv_co_pwrite_zeroes(image, 100000, 100000, BDRV_REQ_MAY_UNMAP), ==, 0);
    memset(model + 65536, 0, 65536); /* what is discarded does not show the backing file */
    g_assert_cmpint(bdrv_co_pdiscard(image, 65536, 65536), ==, 0);
    g_assert_cmpint(bdrv_co_pread(image, 0, 500 * 1024, buf, 0), ==, 0);
    g_assert_cmpmem(buf, 500 * 1024, model, 500 * 1024);
    g_assert_true(bdrv_co_truncate(image, 200 * 1024, &err));
    g_assert_true(bdrv_co_truncate(image, 600 * 1024, &err));
    memset(model + 200 * 1024, 0, 400 * 1024);
    g_assert_cmpint(bdrv_co_pread(image, 0, 600 * 1024, buf, 0), ==, 0);
    g_assert_cmpmem(buf, 600 * 1024, model, 600 * 1024);
    image_close(image);
    image_assert_clean(file, false, "with a backing file");
    image_close(base);
    mem_free(base_file);
    mem_free(file);
}

/* A disk that ends at size over a longer backing file grows: nothing of that shows. */
static void coroutine_fn grow_over_backing(const char *options, int64_t size)
{
    const int64_t base_size = 64 * 1024, end = 80 * 1024;
    MemFile *base_file = image_create(base_size, "cluster_size=4096");
    MemFile *file = image_create(size, options);
    g_autofree uint8_t *model = g_malloc0(end), *buf = g_malloc(end);
    const int64_t steps[] = { size + 512, 40 * 1024 + 512, end };
    GError *err = NULL;
    BdrvChild *base = image_open(base_file, NULL, false, &err), *image;

    memset(model, 0x77, base_size);
    g_assert_cmpint(bdrv_co_pwrite(base, 0, base_size, model, 0), ==, 0);
    memset(model + size, 0, base_size - size);
    image = image_open(file, base->bs, false, &err);
    g_assert_no_error(err);
    for (size_t i = 0; i < G_N_ELEMENTS(steps); i++) {
        g_assert_true(bdrv_co_truncate(image, steps[i], &err));
        g_assert_cmpint(bdrv_co_pread(image, 0, steps[i], buf, 0), ==, 0);
        g_assert_cmpmem(buf, steps[i], model, steps[i]);
    }
    image_close(image);
    image_assert_clean(file, false, "grown over a backing file");
    image_close(base);
    mem_free(base_file);
    mem_free(file);
}

static void coroutine_fn reader_entry(void *opaque)
{
    Model *m = opaque;
    g_autofree uint8_t *buf = g_malloc(m->size);

    while (m->steps) {
        g_assert_cmpint(bdrv_co_pread(m->image, 0, m->size, buf, 0), ==, 0);
        g_assert_cmpmem(buf, m->size, m->data, m->size);
    }
    m->running--;
}

/* The disk gets larger L1 tables while somebody reads through the one that there is. */
static void coroutine_fn test_grow_while_read(void)
{
    MemFile *file = image_create(512 * 1024, "cluster_size=512");
    GError *err = NULL;
    Model m = { .image = image_open(file, NULL, false, &err), .size = 512 * 1024, .running = 1,
                .rand = g_rand_new_with_seed(1), .steps = 1 };

    g_assert_no_error(err);
    m.data = g_malloc(m.size);
    for (int64_t i = 0; i < m.size; i++) {
        m.data[i] = i / 512 + i;
    }
    g_assert_cmpint(bdrv_co_pwrite(m.image, 0, m.size, m.data, 0), ==, 0);
    file->yield_rand = m.rand;
    aio_co_schedule(main_aio_context(), coroutine_create(reader_entry, &m));
    for (int64_t i = 1; i <= 20; i++) {
        g_assert_true(bdrv_co_truncate(m.image, m.size + i * 64 * 1024, &err));
    }
    m.steps = 0;
    while (m.running) {
        qcow2_breathe();
    }
    image_close(m.image);
    image_assert_clean(file, false, "grown while it was read");
    g_rand_free(m.rand);
    g_free(m.data);
    mem_free(file);
}

static void coroutine_fn test_backing(void)
{
    static const char *const options[] = { "cluster_size=4096,compat=0.10", "cluster_size=4096",
                                           "cluster_size=16384,extended_l2=on" };

    for (size_t i = 0; i < G_N_ELEMENTS(options); i++) {
        grow_over_backing(options[i], 16384);
        grow_over_backing(options[i], 16384 + 512);
    }
    backing_run("cluster_size=65536");
    backing_run("cluster_size=65536,extended_l2=on");
}

/* Entry and bitmap of the cluster at offset. */
static void coroutine_fn assert_entry(BdrvChild *image, uint64_t offset, bool cluster, uint32_t data,
                                      uint32_t zero)
{
    Qcow2State *s = image->bs->opaque;
    uint64_t index = (offset >> s->cluster_bits) & (s->l2_entries - 1);
    Qcow2Table *t;

    g_assert_cmpint(qcow2_l2_load(image->bs, s->l1[offset >> (s->cluster_bits + s->l2_bits)], &t),
                    ==, 0);
    g_assert_nonnull(t);
    g_assert_cmpint((qcow2_l2_get(t, index) & QCOW2_OFFSET_MASK) != 0, ==, cluster);
    g_assert_cmphex(qcow2_l2_bitmap(t, index), ==, data | (uint64_t)zero << 32);
    qcow2_cache_put(&s->l2_cache, t);
}

static void coroutine_fn write_at(BdrvChild *image, int64_t offset, int64_t bytes)
{
    g_autofree uint8_t *buf = g_malloc(bytes);

    memset(buf, 0x5a, bytes);
    g_assert_cmpint(bdrv_co_pwrite(image, offset, bytes, buf, 0), ==, 0);
}

/* What becomes of single subclusters (512 bytes each), over a backing file. */
static void coroutine_fn test_subclusters(void)
{
    MemFile *base_file = image_create(1 << 20, "");
    MemFile *file = image_create(1 << 20, "cluster_size=16384,extended_l2=on");
    BdrvChild *base = image_open(base_file, NULL, false, NULL);
    BdrvChild *image = image_open(file, base->bs, false, NULL);
    const int64_t cluster = 16384;
    int64_t pnum, map;
    uint8_t buf[1024];

    write_at(base, 0, 1 << 20);
    write_at(image, 1000, 100); /* in subclusters 1 and 2 */
    assert_entry(image, 0, true, 6, 0);
    write_at(image, 512 * 5, 512);
    assert_entry(image, 0, true, 0x26, 0);
    write_at(image, 512 * 4, 512 * 28 + 1); /* over all to the end, and one byte of the next */
    assert_entry(image, 0, true, 0xfffffff6, 0);
    assert_entry(image, cluster, true, 1, 0);
    g_assert_cmpint(bdrv_co_pwrite_zeroes(image, 512 * 3, 512 * 2, 0), ==, 0);
    assert_entry(image, 0, true, 0xffffffe6, 0x18);
    g_assert_cmpint(bdrv_co_pwrite_zeroes(image, cluster, cluster, 0), ==, 0);
    assert_entry(image, cluster, true, 0, 0xffffffff);
    write_at(image, cluster + 512 * 31, 10);
    assert_entry(image, cluster, true, 1u << 31, 0x7fffffff);
    g_assert_cmpint(bdrv_co_pwrite_zeroes(image, cluster + 512 * 31, 512, BDRV_REQ_MAY_UNMAP), ==,
                    0);
    assert_entry(image, cluster, false, 0, 0xffffffff);
    g_assert_cmpint(bdrv_co_pwrite_zeroes(image, 2 * cluster + 512, 1024, 0), ==, 0);
    assert_entry(image, 2 * cluster, false, 0, 6);
    g_assert_cmpint(bdrv_co_pdiscard(image, 0, cluster), ==, 0);
    assert_entry(image, 0, false, 0, 0xffffffff);
    g_assert_cmpint(bdrv_co_block_status(image->bs, 2 * cluster, cluster, &pnum, &map), ==, 0);
    g_assert_cmpint(pnum, ==, 512);
    g_assert_cmpint(bdrv_co_pread(image, 2 * cluster + 1000, 1024, buf, 0), ==, 0);
    g_assert_true(buffer_is_zero(buf, 536));
    g_assert_cmpint(buf[536], ==, 0x5a);
    image_close(image);
    image_assert_clean(file, false, "subclusters");
    if (have_qemu_img()) {
        qemu_img_check(file, false);
    }
    image_close(base);
    mem_free(base_file);
    mem_free(file);
}

/* --- Options ------------------------------------------------------------------------------ */

static bool is_marked_dirty(const MemFile *m)
{
    return qcow2_be64(m->data + 72) & QCOW2_INCOMPAT_DIRTY;
}

/* The dirty bit comes with the first change and goes with a clean end; else it repairs. */
static void coroutine_fn test_lazy(void)
{
    MemFile *file = image_create(1 << 20, "cluster_size=4096,lazy_refcounts=on"), *killed;
    BdrvChild *image = image_open(file, NULL, false, NULL);
    GError *err = NULL;
    uint8_t buf[512];
    char *lines;

    g_assert_cmpint(bdrv_co_flush(image->bs), ==, 0);
    g_assert_false(is_marked_dirty(file));
    write_at(image, 10000, 100000);
    g_assert_cmpint(bdrv_co_flush(image->bs), ==, 0);
    g_assert_true(is_marked_dirty(file));
    killed = mem_new(file->data, file->len);
    image_close(image);
    g_assert_false(is_marked_dirty(file));
    image_assert_clean(file, false, "closed");

    g_assert_cmpint(image_check(killed, &lines).corruptions, >, 0);
    g_free(lines);
    image = image_open(killed, NULL, true, &err); /* as it is */
    g_assert_no_error(err);
    image_close(image);
    g_assert_true(is_marked_dirty(killed));
    image = image_open(killed, NULL, false, &err);
    g_assert_no_error(err);
    g_assert_false(is_marked_dirty(killed));
    g_assert_cmpint(bdrv_co_pread(image, 10000, 512, buf, 0), ==, 0);
    g_assert_cmpint(buf[0], ==, 0x5a);
    image_close(image);
    image_assert_clean(killed, false, "repaired");
    if (have_qemu_img()) {
        qemu_img_check(killed, false);
    }
    mem_free(killed);
    mem_free(file);
}

static BdrvChild *coroutine_fn open_with(MemFile *m, const BlockdevOptionsQcow2 *q)
{
    BlockdevOptions o = { .driver = BLOCKDEV_DRIVER_QCOW2, .u.qcow2 = *q };
    GError *err = NULL;
    BdrvChild *image = image_open_with(m, NULL, false, &o, &err);

    g_assert_no_error(err);
    return image;
}

static void coroutine_fn flush_and_settle(BdrvChild *image)
{
    g_assert_cmpint(bdrv_co_flush(image->bs), ==, 0);
    image->bs->drv->co_settle(image->bs);
}

/* What is discarded, or freed otherwise, becomes holes: by option, and after a flush only. */
/* Two entries of a damaged image have the same cluster, counted once: it becomes a hole once. */
static void coroutine_fn test_discard_twice(void)
{
    MemFile *file = image_create(1 << 20, "cluster_size=4096");
    BlockdevOptionsQcow2 q = { 0 };
    BdrvChild *image = open_with(file, &q);
    uint64_t l2;

    write_at(image, 0, 40960);
    image_close(image);
    l2 = qcow2_be64(file->data + qcow2_be64(file->data + 40)) & QCOW2_OFFSET_MASK;
    memcpy(file->data + l2 + 5 * 8, file->data + l2, 8);
    memcpy(file->data + l2 + 8 * 8, file->data + l2 + 1 * 8, 8);
    file->punched = 0;
    image = open_with(file, &q);
    g_assert_cmpint(bdrv_co_pdiscard(image, 0, 12288), ==, 0);
    g_assert_cmpint(bdrv_co_pdiscard(image, 5 * 4096, 4096), ==, 0);
    g_assert_cmpint(bdrv_co_pdiscard(image, 8 * 4096, 4096), ==, 0);
    flush_and_settle(image);
    g_assert_cmpuint(file->punched, ==, 12288);
    image_close(image);
    mem_free(file);
}

static void coroutine_fn test_pass_discard(void)
{
    MemFile *file = image_create(1 << 20, "cluster_size=4096");
    BlockdevOptionsQcow2 q = { 0 };
    BdrvChild *image = open_with(file, &q);
    BdrvSnapshotInfo info = { .name = "s", .icount = UINT64_MAX };
    const BdrvSnapshotDriver *snap = image->bs->drv->snapshot;
    GError *err = NULL;
    void *save;

    write_at(image, 0, 40960);
    g_assert_cmpint(bdrv_co_pdiscard(image, 0, 8192), ==, 0);
    g_assert_cmpuint(file->punched, ==, 0);
    flush_and_settle(image);
    g_assert_cmpuint(file->punched, ==, 8192);
    g_assert_cmpint(bdrv_co_pwrite_zeroes(image, 8192, 4096, BDRV_REQ_MAY_UNMAP), ==, 0);
    g_assert_cmpint(bdrv_co_pwrite_zeroes(image, 12288, 4096, 0), ==, 0);
    flush_and_settle(image);
    g_assert_cmpuint(file->punched, ==, 12288);

    /* A snapshot's clusters, but only those that nobody else has. */
    save = snap->prepare(image->bs, &info, 0, &err);
    g_assert_no_error(err);
    snap->freeze(image->bs, save, NULL);
    g_assert_true(snap->publish(image->bs, save, &info, NULL));
    snap->done(image->bs, save);
    write_at(image, 20480, 8192);
    flush_and_settle(image);
    g_assert_cmpuint(file->punched, ==, 12288);
    g_assert_true(bdrv_co_snapshot_delete(image->bs, "s", &err));
    flush_and_settle(image);
    g_assert_cmpuint(file->punched, ==, 12288 + 8192 + 4096); /* and its L2 table */
    image_close(image);
    image_assert_clean(file, false, "discarded");

    file->punched = 0;
    q = (BlockdevOptionsQcow2) { .has_pass_discard_request = true };
    image = open_with(file, &q);
    g_assert_cmpint(bdrv_co_pdiscard(image, 16384, 8192), ==, 0);
    image_close(image);
    g_assert_cmpuint(file->punched, ==, 0);
    mem_free(file);
}

/* Caches of the given sizes, and what must be refused. */
static void coroutine_fn test_cache_options(void)
{
    static const struct {
        BlockdevOptionsQcow2 options;
        const char *message; /* NULL: accepted */
    } cases[] = {
        { { .has_l2_cache_size = true, .l2_cache_size = 1 }, NULL },
        { { .has_cache_size = true, .cache_size = 65536 }, NULL },
        { { .has_l2_cache_entry_size = true, .l2_cache_entry_size = 512 }, NULL },
        { { .has_l2_cache_entry_size = true, .l2_cache_entry_size = 8192 },
          "L2 cache entry size must be a power of two between 512 and the cluster size (4096)" },
        { { .has_cache_size = true, .cache_size = 65536, .has_l2_cache_size = true,
            .l2_cache_size = 65537 }, "l2-cache-size may not exceed cache-size" },
        { { .has_cache_size = true, .cache_size = 65536, .has_refcount_cache_size = true,
            .refcount_cache_size = 65537 }, "refcount-cache-size may not exceed cache-size" },
        { { .has_cache_size = true, .has_refcount_cache_size = true, .has_l2_cache_size = true },
          "cache-size, l2-cache-size and refcount-cache-size may not be set at the same time" },
    };
    MemFile *file = image_create(16 << 20, "cluster_size=4096");

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        BlockdevOptions o = { .driver = BLOCKDEV_DRIVER_QCOW2, .u.qcow2 = cases[i].options };
        GError *err = NULL;
        BdrvChild *image = image_open_with(file, NULL, false, &o, &err);
        Qcow2State *s;

        g_assert_cmpstr(err ? err->message : NULL, ==, cases[i].message);
        g_clear_error(&err);
        if (!image) {
            continue;
        }
        s = image->bs->opaque;
        for (int64_t at = 0; at < 16 << 20; at += 65536) {
            write_at(image, at, 5000);
        }
        g_assert_cmpint(bdrv_co_flush(image->bs), ==, 0);
        for (int64_t at = 0; at < 16 << 20; at += 1 << 20) {
            uint8_t byte;

            g_assert_cmpint(bdrv_co_pread(image, at, 1, &byte, 0), ==, 0);
            g_assert_cmpint(byte, ==, 0x5a);
        }
        g_assert_cmpuint(s->l2_cache.lru.length, <=, s->l2_cache.limit);
        g_assert_cmpuint(s->rb_cache.lru.length, <=, s->rb_cache.limit);
        image_close(image);
        image_assert_clean(file, false, "caches");
    }
    mem_free(file);
}

/* Guest data where the refcount block is: what is checked is refused, the rest is the user's. */
static void coroutine_fn test_overlap(void)
{
    static const struct {
        bool has_mode, has_refcount_block, refcount_block;
        Qcow2OverlapCheckMode mode;
        bool refused;
    } cases[] = {
        { .refused = true }, /* the default */
        { .has_mode = true, .mode = QCOW2_OVERLAP_CHECK_MODE_NONE },
        { .has_mode = true, .mode = QCOW2_OVERLAP_CHECK_MODE_CONSTANT },
        { .has_mode = true, .mode = QCOW2_OVERLAP_CHECK_MODE_CACHED, .refused = true },
        { .has_mode = true, .mode = QCOW2_OVERLAP_CHECK_MODE_ALL, .refused = true },
        { .has_mode = true, .mode = QCOW2_OVERLAP_CHECK_MODE_ALL, .has_refcount_block = true },
        { .has_mode = true, .mode = QCOW2_OVERLAP_CHECK_MODE_NONE, .has_refcount_block = true,
          .refcount_block = true, .refused = true },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        MemFile *file = image_create(1 << 20, "cluster_size=4096");
        Qcow2OverlapChecks checks = { .type = QTYPE_QDICT };
        BlockdevOptionsQcow2 q = { .overlap_check = cases[i].has_mode ? &checks : NULL };
        BdrvChild *image = open_with(file, &q);
        uint64_t l2, block;
        uint8_t buf[512] = { 1 };

        write_at(image, 0, 4096);
        image_close(image);
        l2 = qcow2_be64(file->data + qcow2_be64(file->data + 40)) & QCOW2_OFFSET_MASK;
        block = qcow2_be64(file->data + qcow2_be64(file->data + 48));
        qcow2_put64(file->data + l2, block | QCOW2_COPIED);

        checks.u.flags = (Qcow2OverlapCheckFlags) {
            .has_template = true, .q_template = cases[i].mode,
            .has_refcount_block = cases[i].has_refcount_block,
            .refcount_block = cases[i].refcount_block,
        };
        image = open_with(file, &q);
        g_assert_cmpint(bdrv_co_pwrite(image, 0, sizeof(buf), buf, 0), ==,
                        cases[i].refused ? -EIO : 0);
        g_assert_cmpint(memcmp(file->data + block, buf, sizeof(buf)) == 0, ==, !cases[i].refused);
        image_close(image);
        g_assert_cmpint(!!(qcow2_be64(file->data + 72) & QCOW2_INCOMPAT_CORRUPT), ==,
                        cases[i].refused);
        mem_free(file);
    }
}

/* Clean tables that nobody needs leave the caches by themselves; what is dirty stays. */
static void coroutine_fn test_clean_interval(void)
{
    MemFile *file = image_create(1 << 20, "cluster_size=4096");
    BlockdevOptionsQcow2 q = { .has_cache_clean_interval = true, .cache_clean_interval = 1 };
    BdrvChild *image = open_with(file, &q);
    Qcow2State *s = image->bs->opaque;

    write_at(image, 0, 1 << 20);
    g_assert_cmpuint(s->l2_cache.lru.length, >, 0);
    g_assert_cmpuint(s->rb_cache.lru.length, >, 0);
    while (s->rb_cache.generation < 2) {
        co_sleep_ns(10 * 1000 * 1000);
    }
    g_assert_cmpuint(s->l2_cache.lru.length, >, 0);
    g_assert_cmpint(bdrv_co_flush(image->bs), ==, 0);
    while (s->clean_timer) {
        co_sleep_ns(10 * 1000 * 1000);
    }
    g_assert_cmpuint(s->l2_cache.lru.length, ==, 0);
    g_assert_cmpuint(s->rb_cache.lru.length, ==, 0);
    write_at(image, 4096, 4096);
    g_assert_nonnull(s->clean_timer);
    image_close(image);
    image_assert_clean(file, false, "cleaned");
    mem_free(file);
}

int main(int argc, char **argv)
{
    main_aio_context_init();
    g_test_init(&argc, &argv, NULL);
    bdrv_init();
    add_test("/qcow2/io/model", test_model);
    add_test("/qcow2/io/foreign", test_foreign);
    add_test("/qcow2/io/backing", test_backing);
    add_test("/qcow2/io/grow-while-read", test_grow_while_read);
    add_test("/qcow2/io/subclusters", test_subclusters);
    add_test("/qcow2/io/lazy", test_lazy);
    add_test("/qcow2/io/pass-discard", test_pass_discard);
    add_test("/qcow2/io/discard-twice", test_discard_twice);
    add_test("/qcow2/io/cache-options", test_cache_options);
    add_test("/qcow2/io/overlap", test_overlap);
    add_test("/qcow2/io/clean-interval", test_clean_interval);
    return g_test_run();
}
