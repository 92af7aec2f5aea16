/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * For tests of the block layer: a scratch directory, an IOThread in which the nodes live,
 * and a way to run a test's body as a coroutine in the main thread.
 */
#ifndef TESTS_BLOCK_TEST_H
#define TESTS_BLOCK_TEST_H

#include <fcntl.h>
#include <glib/gstdio.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "block/block-int.h"
#include "qapi/error.h"
#include "qapi/qapi-visit-block-core.h"
#include "util/iothread.h"

static char *test_dir;
static AioContext *test_ctx; /* where nodes live: an IOThread */

static inline char *test_path(const char *name)
{
    return g_build_filename(test_dir, name, NULL);
}

/* A file of size bytes, all of them fill. */
static inline char *test_file(const char *name, size_t size, int fill)
{
    char *path = test_path(name);
    g_autofree char *data = g_malloc(MAX(size, 1));

    memset(data, fill, size);
    g_assert_true(g_file_set_contents(path, data, size, NULL));
    return path;
}

/* Opens what the options (JSON, printf) say; the test fails if that fails. */
static inline BlockDriverState *coroutine_fn test_try_open(GError **errp, const char *format, ...)
    G_GNUC_PRINTF(2, 3);
static inline BlockDriverState *coroutine_fn test_try_open(GError **errp, const char *format, ...)
{
    g_autoptr(BlockdevOptions) options = NULL;
    g_autofree char *json = NULL;
    va_list ap;

    va_start(ap, format);
    json = g_strdup_vprintf(format, ap);
    va_end(ap);
    options = qapi_BlockdevOptions_from_str(json, NULL, errp);
    return options ? bdrv_co_open(options, test_ctx, errp) : NULL;
}

#define test_open(...) \
    ({ \
        GError *open_err_ = NULL; \
        BlockDriverState *open_bs_ = test_try_open(&open_err_, __VA_ARGS__); \
        g_assert_no_error(open_err_); \
        g_assert_nonnull(open_bs_); \
        open_bs_; \
    })

/* Opening must fail with this message. */
#define test_open_fails(expected, ...) \
    do { \
        GError *open_err_ = NULL; \
        g_assert_null(test_try_open(&open_err_, __VA_ARGS__)); \
        g_assert_nonnull(open_err_); \
        g_assert_cmpstr(open_err_->message, ==, expected); \
        g_clear_error(&open_err_); \
    } while (0)

static inline BlockBackend *coroutine_fn test_blk(BlockDriverState *bs, bool writable)
{
    GError *err = NULL;
    BlockBackend *blk = blk_new("", bs, writable, &err);

    g_assert_no_error(err);
    return blk;
}

static inline void coroutine_fn to_io(void)
{
    bdrv_co_move_to(test_ctx);
}

static inline void coroutine_fn to_main(void)
{
    bdrv_co_move_to(main_aio_context());
}

static inline bool all_bytes(const void *buf, int value, size_t len)
{
    const unsigned char *p = buf;

    for (size_t i = 0; i < len; i++) {
        if (p[i] != (unsigned char)value) {
            return false;
        }
    }
    return true;
}

/* Wraps a coroutine as a test function. */
#define TEST_CO(name) \
    static void coroutine_fn name##_co(void *opaque); \
    static void name(void) \
    { \
        aio_co_run_sync(main_aio_context(), name##_co, NULL); \
        g_assert_null(bdrv_next_node(NULL)); \
    } \
    static void coroutine_fn name##_co(void *opaque)

static inline int test_run(int argc, char **argv, void (*add_tests)(void))
{
    GError *err = NULL;
    IOThread *iothread;
    GDir *dir;
    const char *name;
    int ret;

    main_aio_context_init();
    g_test_init(&argc, &argv, NULL);
    bdrv_init();
    test_dir = g_dir_make_tmp("kf-block-XXXXXX", NULL);
    iothread = iothread_new("io0", &err);
    g_assert_no_error(err);
    test_ctx = iothread_context(iothread);
    add_tests();
    ret = g_test_run();
    iothread_destroy(iothread);
    dir = g_dir_open(test_dir, 0, NULL);
    while ((name = g_dir_read_name(dir))) {
        g_autofree char *path = test_path(name);
        g_unlink(path);
    }
    g_dir_close(dir);
    g_rmdir(test_dir);
    g_free(test_dir);
    return ret;
}

#endif
