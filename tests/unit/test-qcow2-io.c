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

int main(int argc, char **argv)
{
    main_aio_context_init();
    g_test_init(&argc, &argv, NULL);
    bdrv_init();
    add_test("/qcow2/io/model", test_model);
    return g_test_run();
}
