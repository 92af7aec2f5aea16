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

static void coroutine_fn model_run(MemFile *file, int64_t size, uint32_t seed, int rounds)
{
    Model m = { .size = size, .data = g_malloc0(size), .rand = g_rand_new_with_seed(seed) };
    GError *err = NULL;

    file->yield_rand = g_rand_new_with_seed(seed);
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
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        MemFile *file = image_create(cases[i].size, cases[i].options);

        image_assert_clean(file, false, cases[i].options);
        if (have_qemu_img()) {
            qemu_img_check(file, false);
        }
        model_run(file, cases[i].size, i + 1, 2);
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
static void coroutine_fn test_backing(void)
{
    MemFile *base_file = image_create(300 * 1024, "cluster_size=4096");
    MemFile *file = image_create(500 * 1024, "cluster_size=65536");
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

int main(int argc, char **argv)
{
    main_aio_context_init();
    g_test_init(&argc, &argv, NULL);
    bdrv_init();
    add_test("/qcow2/io/model", test_model);
    add_test("/qcow2/io/foreign", test_foreign);
    add_test("/qcow2/io/backing", test_backing);
    return g_test_run();
}
