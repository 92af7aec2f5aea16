/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Saving RAM of one instant while a thread goes on writing it.  The "guest" stamps pages
 * with rising generation numbers in a fixed order; it is parked at the instant, where the
 * test also copies all of RAM: the image must be that copy.  KEYFRAME_TEST_ROUNDS makes the
 * tests longer.
 */
#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "migration/ram-save-int.h"

/* Guest memory is written while others read it: that is the point, not an error. */
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
    return "race:keep_copy\nrace:buffer_is_zero\nrace:sink_write\nrace:buffer_zero\n"
           "race:memcpy\nrace:stamp\nrace:ram_prepare_dma\n";
}

#define RAM_SIZE ((size_t)24 << 20)

typedef struct Guest {
    uint8_t *ram;
    size_t nr_pages; /* it writes these */
    size_t stride;   /* page i of a generation is i * stride % nr_pages */
    pthread_t thread;
    int tid;
    int park, stop; /* atomic */
    sem_t parked, go;
    int pipe[2];
    uint64_t writes; /* atomic */
} Guest;

typedef struct Fixture {
    RAMBlock ram[2];
    StreamLayout *layout;
    uint8_t *image;
    size_t image_size;
    uint8_t *copy[2];
    RamSink sink;
    int writes_until_error;
    int writes_until_cancel;
    int64_t delay_ns;
    int64_t instant_ns, first_write_ns;
    RamSave *save;
    Guest *guest;
    uint64_t bounce_limit;
    bool live;
    bool guest_is_vcpu;
    uint64_t cluster; /* saves are incremental, in pieces of this many bytes, if not 0 */
    RamSave *kept;    /* watches RAM between them */
    uint8_t *base;    /* the image of the last one that succeeded */
    uint64_t progress;
    RamSaveStats stats;
    GError *err;
    bool ok;
} Fixture;

static uint8_t *ram_new(size_t size)
{
    uint8_t *p = mmap(NULL, size + RAM_CHUNK, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint8_t *aligned = (uint8_t *)(((uintptr_t)p + RAM_CHUNK - 1) & ~(RAM_CHUNK - 1));

    g_assert(p != MAP_FAILED);
    if (aligned > p) {
        munmap(p, aligned - p);
    }
    munmap(aligned + size, p + RAM_CHUNK - aligned);
    return aligned;
}

static bool can_be_live(void)
{
    Uffd u;

    if (!uffd_open(&u, UFFD_FEATURE_PAGEFAULT_FLAG_WP, 0, NULL)) {
        return false;
    }
    uffd_close(&u);
    return true;
}

static int rounds(int normal)
{
    const char *s = getenv("KEYFRAME_TEST_ROUNDS");

    return s ? atoi(s) : normal;
}

/* --- The guest ------------------------------------------------------------------------------ */

static void stamp(Guest *g, size_t page, uint64_t generation, bool by_kernel)
{
    uint64_t *p = (uint64_t *)(g->ram + page * RAM_PAGE);

    if (by_kernel) {
        g_assert_cmpint(write(g->pipe[1], &generation, 8), ==, 8);
        ram_prepare_dma(p, 8);
        g_assert_cmpint(read(g->pipe[0], p, 8), ==, 8);
    } else {
        __atomic_store_n(p, generation, __ATOMIC_SEQ_CST);
    }
}

static void *guest_thread(void *opaque)
{
    Guest *g = opaque;
    uint64_t generation = 1;
    size_t i = 0;

    g->tid = syscall(SYS_gettid);
    sem_post(&g->parked);
    while (!__atomic_load_n(&g->stop, __ATOMIC_SEQ_CST)) {
        if (__atomic_load_n(&g->park, __ATOMIC_SEQ_CST)) {
            sem_post(&g->parked);
            sem_wait(&g->go);
            continue;
        }
        stamp(g, i * g->stride % g->nr_pages, generation, i % 7 == 3);
        __atomic_fetch_add(&g->writes, 1, __ATOMIC_SEQ_CST);
        if (++i == g->nr_pages) {
            i = 0;
            generation++;
        }
    }
    return NULL;
}

static void guest_start(Guest *g, uint8_t *ram, size_t nr_pages, size_t stride)
{
    memset(g, 0, sizeof(*g));
    g->ram = ram;
    g->nr_pages = nr_pages;
    g->stride = stride;
    sem_init(&g->parked, 0, 0);
    sem_init(&g->go, 0, 0);
    g_assert_cmpint(pipe(g->pipe), ==, 0);
    pthread_create(&g->thread, NULL, guest_thread, g);
    sem_wait(&g->parked);
}

static void guest_park(Guest *g)
{
    __atomic_store_n(&g->park, 1, __ATOMIC_SEQ_CST);
    sem_wait(&g->parked);
}

static void guest_go(Guest *g)
{
    __atomic_store_n(&g->park, 0, __ATOMIC_SEQ_CST);
    sem_post(&g->go);
}

static void guest_stop(Guest *g)
{
    __atomic_store_n(&g->stop, 1, __ATOMIC_SEQ_CST);
    pthread_join(g->thread, NULL);
    close(g->pipe[0]);
    close(g->pipe[1]);
}

/* --- A save ----------------------------------------------------------------------------------- */

static int coroutine_fn sink_write(void *opaque, uint64_t offset, IOVector *iov)
{
    Fixture *f = opaque;

    g_assert_cmpuint(offset + iov->size, <=, f->image_size);
    if (!f->first_write_ns) {
        f->first_write_ns = clock_now_ns();
    }
    if (f->writes_until_error && --f->writes_until_error == 0) {
        return -ENOSPC;
    }
    if (f->writes_until_cancel && --f->writes_until_cancel == 0) {
        ram_save_cancel(f->save);
    }
    /* In pieces with pauses, as a disk may: the guest changes pages in the middle. */
    for (size_t at = 0; at < iov->size; at += 64 << 10) {
        io_vector_to_buf(iov, at, f->image + offset + at, MIN(iov->size - at, 64 << 10));
        if (f->delay_ns) {
            co_sleep_ns(f->delay_ns);
        }
    }
    return 0;
}

static int coroutine_fn sink_share(void *opaque, const BdrvSnapshotExtent *extents, size_t n)
{
    Fixture *f = opaque;

    for (size_t i = 0; i < n; i++) {
        g_assert_cmpuint(extents[i].offset % f->cluster, ==, 0);
        g_assert_cmpuint(extents[i].bytes % f->cluster, ==, 0);
        g_assert_cmpuint(extents[i].offset + extents[i].bytes, <=, f->image_size);
        memcpy(f->image + extents[i].offset, f->base + extents[i].offset, extents[i].bytes);
    }
    return 0;
}

static void progress(void *opaque, uint64_t bytes)
{
    ((Fixture *)opaque)->progress += bytes;
}

static void coroutine_fn save_entry(void *opaque)
{
    Fixture *f = opaque;
    RamSaveConfig config = {
        .ram = f->ram,
        .nr_ram = 2,
        .layout = f->layout,
        .bounce_limit = f->bounce_limit,
        .vcpu_tids = f->guest && f->guest_is_vcpu ? &f->guest->tid : NULL,
        .nr_vcpu_tids = f->guest && f->guest_is_vcpu ? 1 : 0,
        .live = f->live,
        .watch = f->cluster,
        .progress = progress,
        .opaque = f,
    };

    f->save = g_steal_pointer(&f->kept);
    if (f->save) {
        g_assert_true(ram_save_again(f->save, &config, &f->err));
        g_assert_true(ram_save_set_base(f->save, f->cluster));
    } else {
        f->save = ram_save_new(&config, &f->err);
    }
    g_assert_no_error(f->err);
    f->ok = ram_save_arm(f->save, &f->err);
    if (f->ok) {
        if (f->guest) {
            guest_park(f->guest);
        }
        f->instant_ns = clock_now_ns();
        f->first_write_ns = 0;
        f->ok = ram_save_instant(f->save, &f->err);
        for (int i = 0; i < 2; i++) {
            if (f->copy[i]) {
                memcpy(f->copy[i], f->ram[i].host, f->ram[i].size);
            }
        }
        if (f->guest && f->live) {
            guest_go(f->guest);
        }
    }
    if (f->ok) {
        f->sink = (RamSink){.write = sink_write, .share = sink_share, .opaque = f};
        f->ok = ram_save_write(f->save, &f->sink, &f->err);
    }
    if (f->guest && !f->live) {
        guest_go(f->guest);
    }
    ram_save_get_stats(f->save, &f->stats);
    if (f->cluster && ram_save_watch(f->save, f->ok)) {
        f->kept = f->save;
        if (f->ok) {
            memcpy(f->base, f->image, f->image_size);
        }
    } else {
        ram_save_free(f->save);
    }
}

static void coroutine_fn free_kept_entry(void *opaque)
{
    ram_save_free(((Fixture *)opaque)->kept);
}

static void setup(Fixture *f, bool live)
{
    memset(f, 0, sizeof(*f));
    f->live = live;
    f->bounce_limit = 64 << 20;
    f->guest_is_vcpu = true;
    strcpy(f->ram[0].idstr, "a");
    f->ram[0].size = RAM_SIZE;
    strcpy(f->ram[1].idstr, "b");
    f->ram[1].size = 5 * RAM_PAGE;
    for (int i = 0; i < 2; i++) {
        f->ram[i].host = ram_new(f->ram[i].size);
        f->copy[i] = g_malloc(f->ram[i].size);
    }
    madvise(f->ram[0].host, RAM_SIZE / 2, MADV_HUGEPAGE);
    f->layout = stream_layout_new("virt", f->ram, 2);
    f->image_size = f->layout->tail_offset;
    f->image = g_malloc0(f->image_size);
}

static void assert_not_protected(Fixture *f)
{
    for (size_t at = 0; at < f->ram[0].size; at += RAM_PAGE) {
        ram_prepare_dma(f->ram[0].host + at, 1);
    }
}

static void teardown(Fixture *f)
{
    if (f->kept) {
        aio_co_run_sync(main_aio_context(), free_kept_entry, f);
        assert_not_protected(f);
    }
    g_free(f->base);
    for (int i = 0; i < 2; i++) {
        munmap(f->ram[i].host, f->ram[i].size);
        g_free(f->copy[i]);
    }
    g_free(f->image);
    stream_layout_free(f->layout);
    g_clear_error(&f->err);
}

static void run(Fixture *f)
{
    memset(f->image, 0, f->image_size);
    f->progress = 0;
    g_clear_error(&f->err);
    aio_co_run_sync(main_aio_context(), save_entry, f);
}

static bool page_present(Fixture *f, int block, size_t page)
{
    return f->image[f->layout->blocks[block].bitmap_offset + page / 8] >> page % 8 & 1;
}

/* The image, read as a load would read it, is the content of the instant. */
static void assert_image(Fixture *f)
{
    g_assert_no_error(f->err);
    g_assert_true(f->ok);
    g_assert_cmpuint(f->progress, ==, f->ram[0].size + f->ram[1].size);
    for (int b = 0; b < 2; b++) {
        for (size_t p = 0; p < f->ram[b].size / RAM_PAGE; p++) {
            uint8_t *expected = f->copy[b] + p * RAM_PAGE;
            uint8_t *got = f->image + f->layout->blocks[b].pages_offset + p * RAM_PAGE;

            if (page_present(f, b, p)) {
                if (memcmp(got, expected, RAM_PAGE) != 0) {
                    g_error("page %zu of block %d: %" G_GUINT64_FORMAT " instead of %"
                            G_GUINT64_FORMAT, p, b, *(guint64 *)got, *(guint64 *)expected);
                }
            } else {
                g_assert_true(buffer_is_zero(expected, RAM_PAGE));
            }
        }
    }
}

/* --- Tests ------------------------------------------------------------------------------------ */

static void fill_some(Fixture *f)
{
    for (size_t p = 0; p < f->ram[0].size / RAM_PAGE; p++) {
        if (p % 5 == 1 || (p > 2000 && p < 3000)) {
            memset(f->ram[0].host + p * RAM_PAGE, p % 255 + 1, RAM_PAGE);
        } else if (p % 5 == 2 && p < 4000) {
            memset(f->ram[0].host + p * RAM_PAGE, 0, RAM_PAGE);
        }
    }
    f->ram[1].host[4 * RAM_PAGE + 4095] = 9;
}

static void test_still(gconstpointer live)
{
    Fixture f;
    uint64_t bits[RAM_SIZE / RAM_PAGE / 64] = {0};
    int fd = open("/proc/self/pagemap", O_RDONLY);

    if (live && !can_be_live()) {
        g_test_skip("no userfaultfd");
        return;
    }
    setup(&f, live != NULL);
    /* The last 2 MiB are never touched by anybody. */
    f.ram[0].size -= RAM_CHUNK;
    fill_some(&f);
    f.ram[0].size += RAM_CHUNK;
    g_clear_pointer(&f.copy[0], g_free);
    run(&f);
    ram_save_read_pagemap(fd, f.ram[0].host, RAM_SIZE / RAM_PAGE, PAGEMAP_TOUCHED, bits, 0);
    for (size_t p = RAM_SIZE / RAM_PAGE - 512; p < RAM_SIZE / RAM_PAGE; p++) {
        g_assert_cmpuint(bits[p / 64] >> p % 64 & 1, ==, 0);
    }
    close(fd);
    f.copy[0] = g_memdup2(f.ram[0].host, f.ram[0].size);
    assert_image(&f);
    g_assert_cmpuint(f.stats.faults, ==, 0);
    if (live) { /* the faults of the first moments would have gone first */
        g_assert_cmpint(f.first_write_ns - f.instant_ns, >=, RAM_SAVE_QUIET_NS);
    }
    g_assert_cmpuint(f.stats.zero_pages, >, 3000);
    assert_not_protected(&f);
    teardown(&f);
}

static void stamped_rounds(Fixture *f, int n, size_t stride)
{
    Guest g;

    guest_start(&g, f->ram[0].host, f->ram[0].size / RAM_PAGE - 1500, stride);
    f->guest = &g;
    for (int i = 0; i < n; i++) {
        f->delay_ns = i % 3 ? 20000 * (i % 3) : 0;
        run(f);
        assert_image(f);
    }
    guest_stop(&g);
    assert_not_protected(f);
}

static void test_stamped(void)
{
    Fixture f;

    if (!can_be_live()) {
        g_test_skip("no userfaultfd");
        return;
    }
    setup(&f, true);
    stamped_rounds(&f, rounds(6), 1);
    stamped_rounds(&f, rounds(6), 977);
    g_assert_cmpuint(f.stats.faults, >, 0);
    teardown(&f);
}

static void test_stopped(void)
{
    Fixture f;

    setup(&f, false);
    stamped_rounds(&f, 2, 977);
    teardown(&f);
}

static void test_bounce_limit(void)
{
    Fixture f;
    uint64_t waits = 0;

    if (!can_be_live()) {
        g_test_skip("no userfaultfd");
        return;
    }
    setup(&f, true);
    f.bounce_limit = 8 * RAM_PAGE;
    for (int i = 0; i < rounds(2) || (!waits && i < 30); i++) {
        stamped_rounds(&f, 3, 977);
        g_assert_cmpuint(f.stats.bounce_peak, <=, 8 * RAM_PAGE);
        waits += f.stats.bounce_waits;
    }
    g_assert_cmpuint(waits, >, 0); /* the guest is not always scheduled when it would have to */
    teardown(&f);
}

/* A thread that must not wait draws on the reserve, and is let go when that is used up. */
static void test_reserve(void)
{
    Fixture f;
    Guest g;

    if (!can_be_live()) {
        g_test_skip("no userfaultfd");
        return;
    }
    setup(&f, true);
    f.bounce_limit = 8 * RAM_PAGE;
    f.guest_is_vcpu = false;
    guest_start(&g, f.ram[0].host, f.ram[0].size / RAM_PAGE, 1);
    f.guest = &g;
    for (int i = 0; i < rounds(4); i++) {
        f.delay_ns = 500000;
        run(&f);
        if (f.ok) {
            assert_image(&f);
        } else {
            g_assert_nonnull(strstr(f.err->message, "Out of bounce buffers"));
        }
        g_assert_cmpuint(f.stats.bounce_waits, ==, 0);
    }
    guest_stop(&g);
    assert_not_protected(&f);
    teardown(&f);
}

static void test_cancel(void)
{
    Fixture f;
    Guest g;

    if (!can_be_live()) {
        g_test_skip("no userfaultfd");
        return;
    }
    setup(&f, true);
    fill_some(&f);
    f.bounce_limit = 64 * RAM_PAGE;
    guest_start(&g, f.ram[0].host, f.ram[0].size / RAM_PAGE, 977);
    f.guest = &g;
    for (int i = 1; i < 12; i++) {
        uint64_t writes;

        f.writes_until_cancel = i * i / 4 + 1;
        f.delay_ns = 10000;
        run(&f);
        if (f.writes_until_cancel) {
            g_assert_true(f.ok); /* it took fewer writes than that */
        } else {
            g_assert_false(f.ok);
            g_assert_cmpstr(f.err->message, ==, "Saving RAM was cancelled");
        }
        /* The guest is unharmed: it goes on. */
        writes = __atomic_load_n(&g.writes, __ATOMIC_SEQ_CST);
        while (__atomic_load_n(&g.writes, __ATOMIC_SEQ_CST) < writes + g.nr_pages) {
            g_usleep(100);
        }
    }
    guest_stop(&g);
    assert_not_protected(&f);
    teardown(&f);
}

static void test_write_error(gconstpointer live)
{
    Fixture f;

    if (live && !can_be_live()) {
        g_test_skip("no userfaultfd");
        return;
    }
    setup(&f, live != NULL);
    fill_some(&f);
    for (int i = 1;; i += 3) {
        f.writes_until_error = i;
        run(&f);
        if (f.writes_until_error > 0) { /* it had all its writes */
            g_assert_cmpint(i, >, 10);
            break;
        }
        g_assert_false(f.ok);
        g_assert_cmpstr(f.err->message, ==,
                        "Could not write RAM into the snapshot: No space left on device");
        assert_not_protected(&f);
    }
    assert_image(&f);
    teardown(&f);
}

/*
 * Saves of which each writes only what changed since the one before, some of them failing
 * or cancelled on the way; between and during them a thread and the kernel write.
 */
static void incremental(uint64_t cluster, bool huge)
{
    Fixture f;
    Guest g;
    uint64_t all;

    if (!can_be_live()) {
        g_test_skip("no userfaultfd");
        return;
    }
    setup(&f, true);
    if (huge) {
        madvise(f.ram[0].host, RAM_SIZE, MADV_HUGEPAGE);
    }
    f.cluster = cluster;
    f.base = g_malloc0(f.image_size);
    fill_some(&f);
    run(&f);
    assert_image(&f);
    g_assert_cmpuint(f.stats.shared_pages, ==, 0);
    all = f.stats.pages_written;

    /* Nothing happens: nothing is written (but the block that is smaller than a cluster). */
    run(&f);
    assert_image(&f);
    g_assert_cmpuint(f.stats.pages_written, <=, UNIT_PAGES);
    g_assert_cmpuint(f.stats.shared_pages, >, all / 5);

    /* One page, one that was never touched, and one that becomes zero. */
    f.ram[0].host[700 * RAM_PAGE + 5]++;
    f.ram[0].host[RAM_SIZE - 1] = 1;
    memset(f.ram[0].host + 2500 * RAM_PAGE, 0, RAM_PAGE);
    run(&f);
    assert_image(&f);
    g_assert_cmpuint(f.stats.pages_written, <=, 3 * cluster / RAM_PAGE + 4 * UNIT_PAGES);

    /* 40 pages of 600 are hot. */
    guest_start(&g, f.ram[0].host + 300 * RAM_PAGE, 600, 15);
    f.guest = &g;
    for (int i = 0; i < rounds(12); i++) {
        uint64_t writes = __atomic_load_n(&g.writes, __ATOMIC_SEQ_CST);

        f.delay_ns = i % 2 ? 100000 : 0;
        f.writes_until_error = i % 4 == 1 ? 1 + i % 3 : 0;
        f.writes_until_cancel = i % 4 == 2 ? 1 + i % 3 : 0;
        run(&f);
        g_assert_true(f.ok == !(i % 4 == 1 || i % 4 == 2));
        if (f.ok) {
            assert_image(&f);
        }
        g_assert_cmpuint(f.stats.pages_written, <, 1200 + 4 * cluster / RAM_PAGE);
        g_assert_nonnull(f.kept);
        while (__atomic_load_n(&g.writes, __ATOMIC_SEQ_CST) < writes + 50) {
            g_usleep(50);
        }
    }
    guest_stop(&g);
    teardown(&f);
}

static void test_incremental(void)
{
    incremental(64 << 10, false);
}

static void test_incremental_clusters(void)
{
    incremental(4096, true);
    incremental(256 << 10, true);
}

/* What cannot be a base is none: another place in the stream, too large clusters, no base. */
static void coroutine_fn no_base_entry(void *opaque)
{
    Fixture *f = opaque;
    RamSaveConfig config = {.ram = f->ram, .nr_ram = 2, .layout = f->layout, .live = true,
                            .bounce_limit = 1 << 20, .watch = true};
    RamSave *s = g_steal_pointer(&f->kept), *fresh;
    GError *err = NULL;

    g_assert_true(ram_save_again(s, &config, NULL));
    g_assert_false(ram_save_set_base(s, 0));
    g_assert_false(ram_save_set_base(s, 2 << 20));
    f->layout->blocks[1].pages_offset += 1 << 20;
    g_assert_false(ram_save_set_base(s, 65536));
    f->layout->blocks[1].pages_offset -= 1 << 20;
    g_assert_true(ram_save_set_base(s, 65536));
    /* Given up before the instant: it is as if nothing had been. */
    g_assert_true(ram_save_watch(s, false));
    config.nr_ram = 1;
    g_assert_false(ram_save_again(s, &config, &err));
    g_assert_cmpstr(err->message, ==, "RAM is not watched any more");
    g_clear_error(&err);
    ram_save_free(s);

    config.nr_ram = 2;
    fresh = ram_save_new(&config, &err);
    g_assert_no_error(err);
    g_assert_true(ram_save_arm(fresh, NULL));
    g_assert_false(ram_save_set_base(fresh, 65536));
    g_assert_false(ram_save_watch(fresh, false));
    ram_save_free(fresh);
}

static void test_no_base(void)
{
    Fixture f;

    if (!can_be_live()) {
        g_test_skip("no userfaultfd");
        return;
    }
    setup(&f, true);
    f.cluster = 65536;
    f.base = g_malloc0(f.image_size);
    run(&f);
    g_assert_nonnull(f.kept);
    aio_co_run_sync(main_aio_context(), no_base_entry, &f);
    assert_not_protected(&f);
    teardown(&f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    main_aio_context_init();
    g_test_add_data_func("/ram-save/still/live", "live", test_still);
    g_test_add_data_func("/ram-save/still/stopped", NULL, test_still);
    g_test_add_func("/ram-save/stamped", test_stamped);
    g_test_add_func("/ram-save/stopped", test_stopped);
    g_test_add_func("/ram-save/bounce-limit", test_bounce_limit);
    g_test_add_func("/ram-save/reserve", test_reserve);
    g_test_add_func("/ram-save/cancel", test_cancel);
    g_test_add_func("/ram-save/incremental/common", test_incremental);
    g_test_add_func("/ram-save/incremental/clusters", test_incremental_clusters);
    g_test_add_func("/ram-save/incremental/no-base", test_no_base);
    g_test_add_data_func("/ram-save/write-error/live", "live", test_write_error);
    g_test_add_data_func("/ram-save/write-error/stopped", NULL, test_write_error);
    return g_test_run();
}
