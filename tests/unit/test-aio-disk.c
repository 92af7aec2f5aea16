/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Disk I/O of coroutines.  Run twice by meson: over io_uring, and with
 * KEYFRAME_NO_IO_URING set, through workers.
 */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "util/aio.h"
#include "util/iothread.h"

static int temp_file(void)
{
    char *path = g_build_filename(g_get_tmp_dir(), "test-aio-disk-XXXXXX", NULL);
    int fd = g_mkstemp(path);

    g_assert_cmpint(fd, >=, 0);
    unlink(path);
    g_free(path);
    return fd;
}

static void run(CoroutineEntry *entry)
{
    int fd = temp_file();

    aio_co_run_sync(main_aio_context(), entry, &fd);
    close(fd);
}

static unsigned char pattern(size_t i)
{
    return i * 7 + i / 251;
}

static void coroutine_fn basic_entry(void *opaque)
{
    int fd = *(int *)opaque;
    char out[] = "hello, disk", in[64];
    struct iovec w[2] = {{out, 5}, {out + 5, 6}};
    struct iovec r[2] = {{in, 3}, {in + 3, 61}};

    g_assert_cmpint(co_pwritev(fd, w, 2, 4096), ==, 11);
    g_assert_cmpint(co_start_writeback(fd, 0, 8192), ==, 0);
    g_assert_cmpint(co_fdatasync(fd), ==, 0);
    /* Short: stops at the end of the file. */
    memset(in, 'x', sizeof(in));
    g_assert_cmpint(co_preadv(fd, r, 2, 4096), ==, 11);
    g_assert_cmpint(memcmp(in, out, 11), ==, 0);
    g_assert_cmpint(in[11], ==, 'x');
    /* At and beyond the end; nothing at all. */
    g_assert_cmpint(co_preadv(fd, r, 2, 4096 + 11), ==, 0);
    g_assert_cmpint(co_preadv(fd, r, 2, 1 << 20), ==, 0);
    g_assert_cmpint(co_preadv(fd, r, 0, 0), ==, 0);
    g_assert_cmpint(co_pwritev(fd, r, 0, 0), ==, 0);
    /* The hole reads as zeros. */
    g_assert_cmpint(co_preadv(fd, r, 2, 0), ==, 64);
    for (int i = 0; i < 64; i++) {
        g_assert_cmpint(in[i], ==, 0);
    }
    g_assert_cmpint(co_fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 4096),
                    ==, 0);
    g_assert_cmpint(co_preadv(fd, r, 1, 4096), ==, 3);
    g_assert_cmpint(in[0], ==, 0);
}

static void test_basic(void)
{
    run(basic_entry);
}

static void coroutine_fn vectors_entry(void *opaque)
{
    enum { N = 5000, EACH = 13 };
    int fd = *(int *)opaque;
    size_t size = N * EACH;
    unsigned char *out = g_malloc(size), *in = g_malloc0(size);
    struct iovec *iov = g_new(struct iovec, N + 2);

    for (size_t i = 0; i < size; i++) {
        out[i] = pattern(i);
    }
    /* With empty elements at both ends and in the middle. */
    iov[0] = (struct iovec){NULL, 0};
    for (int i = 0; i < N; i++) {
        iov[i + 1] = (struct iovec){out + i * EACH, EACH};
    }
    iov[N + 1] = (struct iovec){NULL, 0};
    g_assert_cmpint(co_pwritev(fd, iov, N + 2, 1), ==, size);
    g_assert_cmpint(co_pwritev_in_bulk(fd, iov, N + 2, 1 + size), ==, size);
    for (int i = 0; i < N; i++) {
        iov[i + 1].iov_base = in + i * EACH;
    }
    g_assert_cmpint(co_preadv(fd, iov, N + 2, 1), ==, size);
    g_assert_cmpint(memcmp(in, out, size), ==, 0);
    memset(in, 0, size);
    g_assert_cmpint(co_preadv(fd, iov, N + 2, 1 + size), ==, size);
    g_assert_cmpint(memcmp(in, out, size), ==, 0);
    /* The file ends within the second batch of elements. */
    memset(in, 0, size);
    g_assert_cmpint(co_preadv(fd, iov, N + 2, 1 + size + 30000), ==, size - 30000);
    g_assert_cmpint(memcmp(in, out + 30000, size - 30000), ==, 0);
    g_free(iov);
    g_free(in);
    g_free(out);
}

static void test_vectors(void)
{
    run(vectors_entry);
}

static void coroutine_fn errors_entry(void *opaque)
{
    char buf[512] = {0};
    struct iovec iov = {buf, sizeof(buf)};
    struct iovec huge[3] = {{buf, SIZE_MAX / 2}, {buf, SIZE_MAX / 2}, {buf, 2}};
    int full = open("/dev/full", O_RDWR | O_CLOEXEC);
    int dir = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int ro = open("/dev/null", O_RDONLY | O_CLOEXEC);

    g_assert_cmpint(co_pwritev(full, &iov, 1, 0), ==, -ENOSPC);
    g_assert_cmpint(co_pwritev_in_bulk(full, &iov, 1, 0), ==, -ENOSPC);
    g_assert_cmpint(co_pwritev_in_bulk(-1, &iov, 1, 0), ==, -EBADF);
    g_assert_cmpint(co_pwritev_in_bulk(*(int *)opaque, huge, 3, 0), ==, -EINVAL);
    g_assert_cmpint(co_preadv(dir, &iov, 1, 0), ==, -EISDIR);
    g_assert_cmpint(co_pwritev(ro, &iov, 1, 0), ==, -EBADF);
    g_assert_cmpint(co_preadv(-1, &iov, 1, 0), ==, -EBADF);
    g_assert_cmpint(co_fdatasync(-1), ==, -EBADF);
    g_assert_cmpint(co_start_writeback(-1, 0, 4096), ==, -EBADF);
    g_assert_cmpint(co_start_writeback(*(int *)opaque, -4096, 4096), ==, -EINVAL);
    g_assert_cmpint(co_fallocate(*(int *)opaque, 0, -1, 10), ==, -EINVAL);
    g_assert_cmpint(co_preadv(*(int *)opaque, &iov, 1, -5), ==, -EINVAL);
    g_assert_cmpint(co_preadv(*(int *)opaque, &iov, 1, INT64_MAX - 100), ==, -EINVAL);
    g_assert_cmpint(co_preadv(*(int *)opaque, huge, 3, 0), ==, -EINVAL);
    g_assert_cmpint(co_pwritev(*(int *)opaque, huge, 3, 0), ==, -EINVAL);
    close(full);
    close(dir);
    close(ro);
}

static void test_errors(void)
{
    run(errors_entry);
}

/* Far more at once than the rings have entries for. */
enum { FLOOD = 2000, FLOOD_SIZE = 512 };
typedef struct Flood {
    int fd;
    int next;
    int running;
    Coroutine *waiter;
} Flood;

static void coroutine_fn flood_one(void *opaque)
{
    Flood *f = opaque;
    int i = f->next++;
    unsigned char out[FLOOD_SIZE], in[FLOOD_SIZE];
    struct iovec iov = {out, sizeof(out)};

    memset(out, pattern(i), sizeof(out));
    g_assert_cmpint(co_pwritev(f->fd, &iov, 1, (off_t)i * FLOOD_SIZE), ==, FLOOD_SIZE);
    iov.iov_base = in;
    g_assert_cmpint(co_preadv(f->fd, &iov, 1, (off_t)i * FLOOD_SIZE), ==, FLOOD_SIZE);
    g_assert_cmpint(memcmp(in, out, sizeof(in)), ==, 0);
    if (--f->running == 0) {
        aio_co_wake(f->waiter);
    }
}

static void coroutine_fn flood_entry(void *opaque)
{
    Flood f = {.fd = *(int *)opaque, .waiter = coroutine_self(), .running = FLOOD};

    for (int i = 0; i < FLOOD; i++) {
        coroutine_enter(coroutine_create(flood_one, &f));
    }
    coroutine_yield();
    g_assert_cmpint(f.running, ==, 0);
}

static void test_flood(void)
{
    run(flood_entry);
}

/* Disk requests and an fd event must not hide each other. */
static void coroutine_fn pipe_reader(void *opaque)
{
    int *fds = opaque;
    char c;

    co_wait_readable(fds[0]);
    g_assert_cmpint(read(fds[0], &c, 1), ==, 1);
    fds[0] = -1;
}

static void coroutine_fn mixed_entry(void *opaque)
{
    int fd = *(int *)opaque;
    char buf[4096] = {0};
    struct iovec iov = {buf, sizeof(buf)};

    for (int i = 0; i < 50; i++) {
        int fds[2], copy[2];

        g_assert_cmpint(pipe(fds), ==, 0);
        memcpy(copy, fds, sizeof(copy));
        coroutine_enter(coroutine_create(pipe_reader, fds));
        g_assert_cmpint(co_pwritev(fd, &iov, 1, 0), ==, sizeof(buf));
        g_assert_cmpint(write(copy[1], "x", 1), ==, 1);
        while (fds[0] >= 0) {
            g_assert_cmpint(co_preadv(fd, &iov, 1, 0), ==, sizeof(buf));
        }
        close(copy[0]);
        close(copy[1]);
    }
}

static void test_mixed(void)
{
    run(mixed_entry);
}

/* While a request is in flight the loop must hear another thread, and timers. */
typedef struct Hop {
    AioContext *a, *b;
    int fd;
} Hop;

static void coroutine_fn hop_entry(void *opaque)
{
    Hop *hop = opaque;
    unsigned char out[1024], in[1024];
    struct iovec w = {out, sizeof(out)}, r = {in, sizeof(in)};

    for (int i = 0; i < 200; i++) {
        aio_co_reschedule_self(i & 1 ? hop->a : hop->b);
        g_assert_true(aio_current() == (i & 1 ? hop->a : hop->b));
        memset(out, i, sizeof(out));
        g_assert_cmpint(co_pwritev(hop->fd, &w, 1, i * 100), ==, sizeof(out));
        aio_co_reschedule_self(i & 1 ? hop->b : hop->a);
        g_assert_cmpint(co_preadv(hop->fd, &r, 1, i * 100), ==, sizeof(in));
        g_assert_cmpint(memcmp(in, out, sizeof(in)), ==, 0);
    }
    aio_co_reschedule_self(main_aio_context());
}

static void test_contexts(void)
{
    IOThread *a = iothread_new("disk-a", NULL), *b = iothread_new("disk-b", NULL);
    Hop hop = {.a = iothread_context(a), .b = iothread_context(b), .fd = temp_file()};

    aio_co_run_sync(main_aio_context(), hop_entry, &hop);
    iothread_destroy(a);
    iothread_destroy(b);
    close(hop.fd);
}

/* Requests in flight end before their IOThread does. */
static void coroutine_fn late_entry(void *opaque)
{
    Hop *hop = opaque;
    char buf[4096] = {0};
    struct iovec iov = {buf, sizeof(buf)};

    g_assert_cmpint(co_pwritev(hop->fd, &iov, 1, 0), ==, sizeof(buf));
    hop->fd = -1;
}

static void test_late(void)
{
    for (int i = 0; i < 20; i++) {
        IOThread *a = iothread_new("late", NULL);
        int fd = temp_file();
        Hop hop[10];

        for (int j = 0; j < 10; j++) {
            hop[j].fd = fd;
            aio_co_schedule(iothread_context(a), coroutine_create(late_entry, &hop[j]));
        }
        iothread_destroy(a);
        for (int j = 0; j < 10; j++) {
            g_assert_cmpint(hop[j].fd, ==, -1);
        }
        close(fd);
    }
}

/* The same with a loop that looks again before it sleeps. */
static void test_polling(void)
{
    aio_set_poll_max(main_aio_context(), AIO_POLL_TOOL_NS);
    test_basic();
    test_flood();
    test_mixed();
    test_contexts();
    aio_set_poll_max(main_aio_context(), 0);
}

/* The same where the time to look adapts, and requests are handed over in batches. */
static void test_adapting(void)
{
    static const AioPolling settings[] = {
        {.max_ns = 32768}, {.max_ns = INT64_MAX, .grow = INT64_MAX}, {.max_ns = 20000, .shrink = 2},
        {.max_batch = 1}, {.max_ns = 1, .max_batch = 7}, {0},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(settings); i++) {
        aio_set_polling(main_aio_context(), &settings[i]);
        test_basic();
        test_flood();
        test_mixed();
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    main_aio_context_init();
    g_test_add_func("/aio-disk/basic", test_basic);
    g_test_add_func("/aio-disk/vectors", test_vectors);
    g_test_add_func("/aio-disk/errors", test_errors);
    g_test_add_func("/aio-disk/flood", test_flood);
    g_test_add_func("/aio-disk/mixed", test_mixed);
    g_test_add_func("/aio-disk/contexts", test_contexts);
    g_test_add_func("/aio-disk/late", test_late);
    g_test_add_func("/aio-disk/polling", test_polling);
    g_test_add_func("/aio-disk/adapting", test_adapting);
    return g_test_run();
}
