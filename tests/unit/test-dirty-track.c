/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tracking of writes, by the kernel and by a thread: RAM is copied in passes while a thread
 * stamps pages (some by the kernel's hand), then once more when it has stopped.  The copy
 * must be the RAM, and pages that nobody wrote must not be reported.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "migration/dirty-track.h"
#include "migration/uffd-int.h"
#include "qapi/error.h"
#include "util/aio.h"
#include "util/co-lock.h"

const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
    /* RAM is copied while it is written: that is the point, not an error. */
    return "race:copy_written\nrace:memcpy\nrace:stamp\nrace:ram_prepare_dma\nrace:touch\n";
}

#define PAGE ((size_t)4096)
#define CHUNK ((size_t)2 << 20)

typedef struct Fixture {
    RAMBlock ram[2];
    uint8_t *copy[2];
    bool sync, done;
    size_t hot; /* pages of the first block that the thread writes */
    pthread_t thread;
    int stop; /* atomic */
    int pipe[2];
    uint64_t stamps; /* atomic */
} Fixture;

static uint8_t *ram_new(size_t size)
{
    uint8_t *p = mmap(NULL, size + CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                      -1, 0);

    g_assert(p != MAP_FAILED);
    return (uint8_t *)(((uintptr_t)p + CHUNK - 1) & ~(CHUNK - 1));
}

static void stamp(Fixture *f, size_t page, uint64_t value)
{
    uint64_t *p = (uint64_t *)(f->ram[0].host + page * PAGE + value % 500 * 8);

    if (value % 5 == 0) {
        g_assert_cmpint(write(f->pipe[1], &value, 8), ==, 8);
        ram_prepare_dma(p, 8);
        g_assert_cmpint(read(f->pipe[0], p, 8), ==, 8);
        ram_dma_written(p, 8);
    } else {
        __atomic_store_n(p, value, __ATOMIC_SEQ_CST);
    }
}

static void *writer(void *opaque)
{
    Fixture *f = opaque;

    for (uint64_t i = 1; !__atomic_load_n(&f->stop, __ATOMIC_SEQ_CST); i++) {
        stamp(f, i * 977 % f->hot, i);
        __atomic_store_n(&f->stamps, i, __ATOMIC_SEQ_CST);
        if (i % 256 == 0) {
            g_usleep(20);
        }
    }
    return NULL;
}

/* Copies what was written since the last time; returns the number of pages. */
static size_t copy_written(Fixture *f, DirtyTrack *t)
{
    size_t n = 0;

    for (int b = 0; b < 2; b++) {
        size_t nr = f->ram[b].size / PAGE;
        g_autofree uint64_t *bits = g_new0(uint64_t, nr / 64 + 2);

        for (size_t p = 0; p < nr; p += 1000) {
            /* Bits are set where the caller wants them. */
            g_assert_cmpint(dirty_track_take(t, b, p, MIN(1000, nr - p), bits, p + 3), ==, 0);
        }
        for (size_t p = 0; p < nr; p++) {
            if (bits[(p + 3) / 64] >> ((p + 3) % 64) & 1) {
                memcpy(f->copy[b] + p * PAGE, f->ram[b].host + p * PAGE, PAGE);
                n++;
            }
        }
    }
    return n;
}

static void coroutine_fn passes_entry(void *opaque)
{
    Fixture *f = opaque;
    GError *err = NULL;
    DirtyTrack *t = f->sync ? dirty_track_new_sync(f->ram, 2, &err)
                            : dirty_track_new(f->ram, 2, &err);
    DirtyTrack *second;

    g_assert_no_error(err);
    if (f->sync) {
        g_assert_false(dirty_track_is_async(t));
    }
    second = dirty_track_new(f->ram, 2, &err);
    g_assert_null(second);
    g_assert_cmpstr(err->message, ==,
                    "Could not write-protect RAM block 'a': Device or resource busy");
    g_clear_error(&err);

    for (int b = 0; b < 2; b++) {
        memcpy(f->copy[b], f->ram[b].host, f->ram[b].size);
    }
    for (int i = 0; i < 8; i++) {
        uint64_t stamps = __atomic_load_n(&f->stamps, __ATOMIC_SEQ_CST);

        while (__atomic_load_n(&f->stamps, __ATOMIC_SEQ_CST) < stamps + 700) {
            g_usleep(50);
        }
        g_assert_cmpuint(copy_written(f, t), >, 0);
    }
    __atomic_store_n(&f->stop, 1, __ATOMIC_SEQ_CST);
    pthread_join(f->thread, NULL);
    copy_written(f, t);
    for (int b = 0; b < 2; b++) {
        g_assert_cmpint(memcmp(f->copy[b], f->ram[b].host, f->ram[b].size), ==, 0);
    }
    /* Nobody writes: nothing is reported; one page: that page. */
    g_assert_cmpuint(copy_written(f, t), ==, 0);
    f->ram[1].host[5 * PAGE + 7] = 1;
    g_assert_cmpuint(copy_written(f, t), ==, 1);
    g_assert_cmpuint(f->copy[1][5 * PAGE + 7], ==, 1);
    /* A page never touched before, then one of a huge page (where the host has them). */
    f->ram[1].host[3 * CHUNK] = 2;
    f->ram[0].host[3 * CHUNK + 9 * PAGE] ^= 3;
    g_assert_cmpuint(copy_written(f, t), ==, 2);
    dirty_track_free(t);
    for (int b = 0; b < 2; b++) {
        for (size_t at = 0; at < f->ram[b].size; at += PAGE) {
            f->ram[b].host[at] = 4; /* nothing is protected any more, nobody would answer */
        }
    }
    f->done = true;
}

static void test_passes(gconstpointer sync)
{
    Fixture f = {.sync = sync != NULL, .hot = 1500};
    Uffd u;

    if (!uffd_open(&u, UFFD_FEATURE_PAGEFAULT_FLAG_WP, 0, NULL)) {
        g_test_skip("no userfaultfd");
        return;
    }
    if (sync && !u.kernel_faults) {
        uffd_close(&u);
        g_test_skip("no faults inside the kernel");
        return;
    }
    uffd_close(&u);
    for (int b = 0; b < 2; b++) {
        strcpy(f.ram[b].idstr, b ? "b" : "a");
        f.ram[b].size = b ? 4 * CHUNK : 8 * CHUNK + 12 * PAGE;
        f.ram[b].host = ram_new(f.ram[b].size);
        f.copy[b] = g_malloc0(f.ram[b].size);
    }
    madvise(f.ram[0].host, 8 * CHUNK, MADV_HUGEPAGE);
    memset(f.ram[0].host, 0x5a, 6 * CHUNK);
    g_assert_cmpint(pipe(f.pipe), ==, 0);
    pthread_create(&f.thread, NULL, writer, &f);
    aio_co_enter(main_aio_context(), coroutine_create(passes_entry, &f));
    while (!f.done) {
        aio_poll(main_aio_context(), true);
    }
    for (int b = 0; b < 2; b++) {
        munmap(f.ram[b].host, f.ram[b].size);
        g_free(f.copy[b]);
    }
    close(f.pipe[0]);
    close(f.pipe[1]);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    main_aio_context_init();
    g_test_add_data_func("/dirty-track/passes/kernel", NULL, test_passes);
    g_test_add_data_func("/dirty-track/passes/thread", "sync", test_passes);
    return g_test_run();
}
