/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Loading RAM on demand: threads and the kernel touch pages in any order while the
 * background fills, and find exactly the image; what they write is never overwritten.
 * Failed switches leave the old memory as it was; read errors are reported and retried.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "migration/ram-load-int.h"

#define RAM_SIZE ((size_t)24 << 20)
#define NR_THREADS 2

typedef struct Fixture {
    RAMBlock ram[2];
    StreamLayout *layout;
    uint8_t *image;
    RamLoadSource source;
    RamLoad *load;
    bool lazy, back;
    int64_t delay_ns;
    int fail_reads, fail_aside; /* atomic: so many fail */
    uint64_t bad_page;          /* atomic: offset of one that no fault or prefetch can read */
    int errors;                /* atomic: read_error calls */
    bool cancel_on_error;
    bool use_threads, one_touch, prefetch;
    uint64_t progress;
    RamLoadStats stats;
    GError *err;
    bool ok;
} Fixture;

static uint8_t *ram_new(size_t size)
{
    uint8_t *p = mmap(NULL, size + LOAD_CHUNK, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint8_t *aligned = (uint8_t *)(((uintptr_t)p + LOAD_CHUNK - 1) & ~(LOAD_CHUNK - 1));

    g_assert(p != MAP_FAILED);
    if (aligned > p) {
        munmap(p, aligned - p);
    }
    munmap(aligned + size, p + LOAD_CHUNK - aligned);
    return aligned;
}

static int rounds(int normal)
{
    const char *s = getenv("KEYFRAME_TEST_ROUNDS");

    return s ? atoi(s) : normal;
}

/* What page p of the image begins with: 0 for a zero page. */
static uint64_t content(size_t p)
{
    if ((p >= 512 && p < 1536) || p % 11 == 3 || (p > 4000 && p % 3)) {
        return 0;
    }
    return 0x1000000 + p;
}

static void make_image(Fixture *f)
{
    f->image = g_malloc0(f->layout->tail_offset);
    for (int b = 0; b < 2; b++) {
        StreamBlock *s = &f->layout->blocks[b];

        for (size_t p = 0; p < f->ram[b].size / LOAD_PAGE; p++) {
            uint64_t *page = (uint64_t *)(f->image + s->pages_offset + p * LOAD_PAGE);

            if (content(p)) {
                for (size_t i = 0; i < 512; i++) {
                    page[i] = content(p);
                }
                f->image[s->bitmap_offset + p / 8] |= 1 << p % 8;
            } else if (p % 2) {
                /* The bitmap alone decides. */
                page[7] = 0xbad;
            }
        }
    }
}

static int coroutine_fn source_read(void *opaque, uint64_t offset, IOVector *iov)
{
    Fixture *f = opaque;

    if (__atomic_load_n(&f->fail_reads, __ATOMIC_SEQ_CST)) {
        __atomic_fetch_sub(&f->fail_reads, 1, __ATOMIC_SEQ_CST);
        return -EIO;
    }
    if (f->delay_ns) {
        co_sleep_ns(f->delay_ns);
    }
    io_vector_from_buf(iov, 0, f->image + offset, iov->size);
    return 0;
}

/* In the main thread it is the background that reads, in another one a fault or prefetch. */
static int coroutine_fn source_read_aside(void *opaque, uint64_t offset, void *buf, size_t len)
{
    Fixture *f = opaque;
    IOVector iov;

    io_vector_init_buf(&iov, buf, len);
    if (aio_in_home_thread(main_aio_context())) {
        return f->source.read(f, offset, &iov);
    }
    g_assert_cmpuint(((uintptr_t)buf | offset | len) % LOAD_PAGE, ==, 0);
    if (__atomic_load_n(&f->bad_page, __ATOMIC_SEQ_CST) &&
        offset <= f->bad_page && f->bad_page < offset + len) {
        return -EIO;
    }
    if (__atomic_load_n(&f->fail_aside, __ATOMIC_SEQ_CST)) {
        __atomic_fetch_sub(&f->fail_aside, 1, __ATOMIC_SEQ_CST);
        return -EIO;
    }
    memcpy(buf, f->image + offset, len);
    return 0;
}

static void read_error(void *opaque, const char *message)
{
    Fixture *f = opaque;

    g_assert_true(g_str_has_prefix(message, "Could not read page"));
    g_assert_nonnull(strstr(message, "Input/output error"));
    __atomic_fetch_add(&f->errors, 1, __ATOMIC_SEQ_CST);
    if (f->cancel_on_error) {
        ram_load_cancel(f->load);
    }
}

static void progress(void *opaque, uint64_t bytes)
{
    ((Fixture *)opaque)->progress += bytes;
}

/* --- Those who touch RAM ------------------------------------------------------------------- */

typedef struct Toucher {
    Fixture *f;
    pthread_t thread;
    int index;
} Toucher;

static uint64_t by_kernel(int pipe_fd[2], uint64_t *p, const uint64_t *new_value)
{
    uint64_t v = 0;

    if (new_value) {
        g_assert_cmpint(write(pipe_fd[1], new_value, 8), ==, 8);
        ram_prepare_dma(p, 8);
        g_assert_cmpint(read(pipe_fd[0], p, 8), ==, 8);
        return *new_value;
    }
    g_assert_cmpint(write(pipe_fd[1], p, 8), ==, 8);
    g_assert_cmpint(read(pipe_fd[0], &v, 8), ==, 8);
    return v;
}

/* Its pages are those with index % NR_THREADS == its own. */
static void *toucher_thread(void *opaque)
{
    Toucher *t = opaque;
    RAMBlock *ram = &t->f->ram[0];
    size_t n = ram->size / LOAD_PAGE;
    uint64_t *mine = g_new0(uint64_t, n);
    int pipe_fd[2];

    g_assert_cmpint(pipe(pipe_fd), ==, 0);
    for (size_t i = 0; i < 3 * n; i++) {
        size_t p = (i * 4099 + (i >> 5)) % n;
        uint64_t *word = (uint64_t *)(ram->host + p * LOAD_PAGE);
        uint64_t expected, got;

        if ((int)(p % NR_THREADS) != t->index) {
            continue;
        }
        expected = mine[p] ? mine[p] : content(p);
        got = i % 5 == 1 ? by_kernel(pipe_fd, word, NULL)
                         : __atomic_load_n(word, __ATOMIC_SEQ_CST);
        if (got != expected || word[511] != content(p)) {
            g_error("page %zu: %" PRIx64 " instead of %" PRIx64, p, got, expected);
        }
        if (i % 3) {
            mine[p] = i + 1;
            if (i % 7 == 2) {
                by_kernel(pipe_fd, word, &mine[p]);
            } else {
                __atomic_store_n(word, mine[p], __ATOMIC_SEQ_CST);
            }
        }
    }
    close(pipe_fd[0]);
    close(pipe_fd[1]);
    g_free(mine);
    return NULL;
}

static void *one_touch_thread(void *opaque)
{
    Toucher *t = opaque;

    g_assert_cmpuint(*(uint64_t *)(t->f->ram[0].host + 5 * LOAD_PAGE), ==, content(5));
    return NULL;
}

/* --- A load ------------------------------------------------------------------------------------ */

/* In one window of block a: data, a zero page; in block b's last window; in none. */
#define BASE_A UINT64_C(0x80000000)
#define BASE_B UINT64_C(0x90000000)
static const uint64_t hot[] = {BASE_A + 5 * LOAD_PAGE + 8, BASE_A + 3 * LOAD_PAGE,
                               BASE_B + 20 * LOAD_PAGE, 0x1000, BASE_A + RAM_SIZE};

static void coroutine_fn load_entry(void *opaque)
{
    Fixture *f = opaque;
    Toucher t[NR_THREADS];
    int n = f->use_threads ? NR_THREADS : f->one_touch ? 1 : 0;
    RamLoadConfig config = {
        .ram = f->ram,
        .nr_ram = 2,
        .layout = f->layout,
        .source = &f->source,
        .lazy = f->lazy,
        .progress = progress,
        .read_error = read_error,
        .opaque = f,
    };

    f->load = ram_load_new(&config, &f->err);
    g_assert_no_error(f->err);
    f->ok = ram_load_read_bitmaps(f->load, &f->err);
    if (f->ok && f->prefetch) {
        f->ok = ram_load_prefetch(f->load, hot, G_N_ELEMENTS(hot), &f->err);
    }
    if (f->ok && !f->lazy) {
        f->ok = ram_load_fill(f->load, &f->err);
    }
    if (f->ok) {
        f->ok = ram_load_switch(f->load, &f->err);
    }
    if (f->ok && f->back) {
        ram_load_switch_back(f->load);
    } else if (f->ok) {
        for (int i = 0; i < n; i++) {
            t[i] = (Toucher){.f = f, .index = i};
            pthread_create(&t[i].thread, NULL, f->one_touch ? one_touch_thread : toucher_thread,
                           &t[i]);
        }
        if (f->lazy) {
            f->ok = ram_load_fill(f->load, &f->err);
        } else {
            ram_load_drop_old(f->load);
        }
    }
    if (f->ok && !f->back) {
        /* While the rest is still registered, and afterwards. */
        for (int i = 0; i < n; i++) {
            pthread_join(t[i].thread, NULL);
        }
    }
    ram_load_get_stats(f->load, &f->stats);
    ram_load_free(f->load);
}

static void setup(Fixture *f, bool lazy)
{
    memset(f, 0, sizeof(*f));
    f->lazy = lazy;
    strcpy(f->ram[0].idstr, "a");
    f->ram[0].size = RAM_SIZE;
    f->ram[0].guest_addr = BASE_A;
    f->ram[1].guest_addr = BASE_B;
    strcpy(f->ram[1].idstr, "b");
    f->ram[1].size = 21 * LOAD_PAGE;
    for (int i = 0; i < 2; i++) {
        f->ram[i].host = ram_new(f->ram[i].size);
        memset(f->ram[i].host, 0x55, f->ram[i].size);
    }
    f->layout = stream_layout_new("virt", f->ram, 2);
    make_image(f);
    f->source = (RamLoadSource){source_read, source_read_aside, f};
}

static void teardown(Fixture *f)
{
    for (int i = 0; i < 2; i++) {
        munmap(f->ram[i].host, f->ram[i].size);
    }
    g_free(f->image);
    stream_layout_free(f->layout);
    g_clear_error(&f->err);
}

static void assert_loaded(Fixture *f)
{
    g_assert_no_error(f->err);
    g_assert_true(f->ok);
    g_assert_cmpuint(f->progress, ==, f->ram[0].size + f->ram[1].size);
    for (int b = 0; b < 2; b++) {
        for (size_t p = 0; p < f->ram[b].size / LOAD_PAGE; p++) {
            uint64_t *word = (uint64_t *)(f->ram[b].host + p * LOAD_PAGE);

            g_assert_cmpuint(word[511], ==, content(p));
            if (!f->use_threads) {
                g_assert_cmpuint(word[0], ==, content(p));
                g_assert_cmpuint(word[7], ==, content(p));
            }
        }
    }
}

static void assert_old(Fixture *f)
{
    for (int b = 0; b < 2; b++) {
        for (size_t i = 0; i < f->ram[b].size; i++) {
            g_assert_cmpuint(f->ram[b].host[i], ==, 0x55);
        }
    }
}

static void run(Fixture *f)
{
    aio_co_run_sync(main_aio_context(), load_entry, f);
}

static bool skip(void)
{
    if (!ram_load_can_be_lazy(NULL)) {
        g_test_skip("no userfaultfd for faults in the kernel");
        return true;
    }
    return false;
}

static void test_eager(void)
{
    Fixture f;

    setup(&f, false);
    run(&f);
    assert_loaded(&f);
    g_assert_cmpuint(f.stats.faults, ==, 0);
    teardown(&f);
}

static void test_lazy_quiet(void)
{
    Fixture f;

    if (skip()) {
        return;
    }
    setup(&f, true);
    run(&f);
    assert_loaded(&f);
    g_assert_cmpuint(f.stats.faults, ==, 0);
    teardown(&f);
}

static void test_lazy_touched(void)
{
    if (skip()) {
        return;
    }
    for (int i = 0; i < rounds(4); i++) {
        Fixture f;

        setup(&f, true);
        f.use_threads = true;
        f.delay_ns = i % 2 * 2000000;
        run(&f);
        assert_loaded(&f);
        if (i % 2) {
            g_assert_cmpuint(f.stats.faults, >, 0);
        }
        teardown(&f);
    }
}

static void test_switch_back(gconstpointer lazy)
{
    Fixture f;

    if (lazy && skip()) {
        return;
    }
    setup(&f, lazy != NULL);
    f.back = true;
    run(&f);
    g_assert_true(f.ok);
    assert_old(&f);
    teardown(&f);
}

static void test_bitmap_error(void)
{
    Fixture f;

    setup(&f, false);
    f.fail_reads = 1;
    run(&f);
    g_assert_false(f.ok);
    g_assert_cmpstr(f.err->message, ==,
                    "Could not read the bitmap of RAM block 'a': Input/output error");
    assert_old(&f);
    teardown(&f);
}

static int coroutine_fn source_fail_late(void *opaque, uint64_t offset, IOVector *iov)
{
    Fixture *f = opaque;

    return offset > f->layout->blocks[0].pages_offset + (20 << 20) &&
                   offset < f->layout->blocks[1].bitmap_offset
               ? -EIO : source_read(opaque, offset, iov);
}

static void test_eager_error(void)
{
    Fixture f;

    setup(&f, false);
    f.source.read = source_fail_late;
    run(&f);
    g_assert_false(f.ok);
    g_assert_cmpstr(f.err->message, ==,
                    "Could not read RAM from the snapshot: Input/output error");
    assert_old(&f);
    teardown(&f);
}

/* Errors on both ways are reported, tried again, and then everything is there. */
static void test_lazy_errors(void)
{
    Fixture f;

    if (skip()) {
        return;
    }
    setup(&f, true);
    f.one_touch = true;
    f.delay_ns = 3000000;
    f.fail_aside = 1;
    run(&f);
    assert_loaded(&f);
    g_assert_cmpint(f.errors, <=, 1);
    teardown(&f);
}

/* What was read before the switch needs no fault; the rest is as always. */
static void test_prefetch(void)
{
    Fixture f;

    if (skip()) {
        return;
    }
    setup(&f, true);
    f.prefetch = true;
    f.one_touch = true;
    f.delay_ns = 3000000; /* the background would come too late */
    run(&f);
    assert_loaded(&f);
    g_assert_cmpuint(f.stats.faults, ==, 0);
    g_assert_cmpuint(f.stats.prefetched, ==, (LOAD_WINDOW_PAGES + 21 % LOAD_WINDOW_PAGES) *
                                                 LOAD_PAGE);
    teardown(&f);
}

/* Before the switch an error is the load's: nothing has changed. */
static void test_prefetch_error(void)
{
    Fixture f;

    if (skip()) {
        return;
    }
    setup(&f, true);
    f.prefetch = true;
    f.bad_page = f.layout->blocks[0].pages_offset + 6 * LOAD_PAGE;
    run(&f);
    g_assert_false(f.ok);
    g_assert_cmpstr(f.err->message, ==,
                    "Could not read RAM from the snapshot: Input/output error");
    g_assert_cmpint(f.errors, ==, 0);
    assert_old(&f);
    teardown(&f);
}

/* A page that nobody waits for cannot be read: the one beside it comes all the same. */
static void test_bad_neighbour(void)
{
    Fixture f;

    if (skip()) {
        return;
    }
    setup(&f, true);
    f.one_touch = true;
    f.delay_ns = 3000000;
    f.bad_page = f.layout->blocks[0].pages_offset + 6 * LOAD_PAGE;
    run(&f);
    assert_loaded(&f);
    g_assert_cmpint(f.errors, ==, 0);
    teardown(&f);
}

static void test_lazy_cancelled(void)
{
    Fixture f;

    if (skip()) {
        return;
    }
    setup(&f, true);
    f.cancel_on_error = true;
    f.source.read = source_fail_late;
    run(&f);
    g_assert_false(f.ok);
    g_assert_cmpstr(f.err->message, ==, "Loading RAM was cancelled");
    g_assert_cmpint(f.errors, >=, 1);
    teardown(&f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    main_aio_context_init();
    g_test_add_func("/ram-load/eager", test_eager);
    g_test_add_func("/ram-load/lazy/quiet", test_lazy_quiet);
    g_test_add_func("/ram-load/lazy/touched", test_lazy_touched);
    g_test_add_data_func("/ram-load/switch-back/lazy", "lazy", test_switch_back);
    g_test_add_data_func("/ram-load/switch-back/eager", NULL, test_switch_back);
    g_test_add_func("/ram-load/bitmap-error", test_bitmap_error);
    g_test_add_func("/ram-load/eager-error", test_eager_error);
    g_test_add_func("/ram-load/lazy/errors", test_lazy_errors);
    g_test_add_func("/ram-load/lazy/cancelled", test_lazy_cancelled);
    g_test_add_func("/ram-load/lazy/prefetch", test_prefetch);
    g_test_add_func("/ram-load/lazy/prefetch-error", test_prefetch_error);
    g_test_add_func("/ram-load/lazy/bad-neighbour", test_bad_neighbour);
    return g_test_run();
}
