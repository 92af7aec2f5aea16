/* SPDX-License-Identifier: GPL-2.0-or-later */
/* For tests of transactions: running them, nodes over images, what is in them. */
#ifndef TESTS_TRANSACTION_TEST_H
#define TESTS_TRANSACTION_TEST_H

#include "block-test.h"
#include "block/dirty-bitmap.h"
#include "block/transaction.h"
#include "qapi/qapi-commands-block-core.h"
#include "qapi/qapi-visit-transaction.h"

#define MiB (1024 * 1024)

static IOThread *second;

/* --- Running transactions --------------------------------------------------------------- */

/* Runs the actions (JSON, the last one followed by NULL); NULL, or the error's text. */
static inline char *coroutine_fn transact(ActionCompletionMode mode, const char *first, ...)
{
    g_autoptr(GPtrArray) actions =
        g_ptr_array_new_with_free_func((GDestroyNotify)qapi_free_TransactionAction);
    BdrvTransaction *t = bdrv_transaction_new(mode);
    GError *err = NULL;
    char *message = NULL;
    va_list ap;

    va_start(ap, first);
    for (const char *json = first; json; json = va_arg(ap, const char *)) {
        TransactionAction *a = qapi_TransactionAction_from_str(json, NULL, &err);

        g_assert_no_error(err);
        g_ptr_array_add(actions, a);
        bdrv_transaction_add(t, a);
    }
    va_end(ap);
    if (!bdrv_transaction_run(t, &err)) {
        message = g_strdup(err->message);
        g_error_free(err);
    }
    return message;
}

#define transact_is(expected, ...) \
    do { \
        g_autofree char *message_ = \
            transact(ACTION_COMPLETION_MODE_INDIVIDUAL, __VA_ARGS__, NULL); \
        g_assert_cmpstr(message_, ==, expected); \
    } while (0)

static inline char *coroutine_fn make_qcow2(const char *name, int64_t size)
{
    char *path = test_path(name);
    BdrvCreateParams params = { .filename = path, .size = size };
    GError *err = NULL;

    bdrv_co_create(&bdrv_qcow2_driver, &params, test_ctx, &err);
    g_assert_no_error(err);
    return path;
}

static void coroutine_fn add(const char *format, ...) G_GNUC_PRINTF(1, 2);
/* blockdev-add. */
static inline void coroutine_fn add(const char *format, ...)
{
    g_autofree char *json = NULL;
    g_autoptr(BlockdevOptions) options = NULL;
    GError *err = NULL;
    va_list ap;

    va_start(ap, format);
    json = g_strdup_vprintf(format, ap);
    va_end(ap);
    options = qapi_BlockdevOptions_from_str(json, NULL, &err);
    g_assert_no_error(err);
    qmp_blockdev_add(options, &err);
    g_assert_no_error(err);
}

static inline void coroutine_fn add_qcow2(const char *node, const char *path)
{
    add("{'driver':'qcow2','node-name':'%s','backing':null,'file':{'driver':'file',"
        "'filename':'%s'}}", node, path);
}

static inline void coroutine_fn put(BlockBackend *blk, int64_t offset, int64_t bytes, int value)
{
    g_autofree uint8_t *buf = g_malloc(bytes);

    memset(buf, value, bytes);
    bdrv_co_move_to(bdrv_context(blk_bs(blk)));
    g_assert_cmpint(blk_co_pwrite(blk, offset, bytes, buf), ==, 0);
    to_main();
}

static inline bool coroutine_fn holds(BlockBackend *blk, int64_t offset, int64_t bytes, int value)
{
    g_autofree uint8_t *buf = g_malloc(bytes);

    bdrv_co_move_to(bdrv_context(blk_bs(blk)));
    g_assert_cmpint(blk_co_pread(blk, offset, bytes, buf), ==, 0);
    to_main();
    return all_bytes(buf, value, bytes);
}

/* "name:dirty bytes[+]" of each bitmap, the oldest first, + for one that records. */
static inline char *bitmaps(BlockDriverState *bs)
{
    BlockDirtyInfoList *list = bdrv_dirty_bitmap_query(bs);
    GString *text = g_string_new(NULL);

    for (BlockDirtyInfoList *l = list; l; l = l->next) {
        g_autofree char *one = g_strdup_printf("%s:%" PRId64 "%s%s", l->value->name,
                                               l->value->count, l->value->recording ? "+" : "",
                                               text->len ? " " : "");

        g_string_prepend(text, one);
    }
    qapi_free_BlockDirtyInfoList(list);
    return g_string_free(text, false);
}

#define bitmaps_are(bs, expected) \
    do { \
        g_autofree char *text_ = bitmaps(bs); \
        g_assert_cmpstr(text_, ==, expected); \
    } while (0)

static inline char *coroutine_fn tags(BlockDriverState *bs)
{
    GString *text = g_string_new(NULL);
    GError *err = NULL;
    BdrvSnapshotInfo *list;
    int n;

    bdrv_co_move_to(bdrv_context(bs));
    list = bdrv_co_snapshot_list(bs, &n, &err);
    to_main();
    g_assert_no_error(err);
    for (int i = 0; i < n; i++) {
        g_string_append_printf(text, "%s%s", i ? " " : "", list[i].name);
    }
    g_free(list);
    return g_string_free(text, false);
}

static inline void coroutine_fn assert_clean(BlockDriverState *bs, bool leaks_allowed)
{
    BdrvCheckResult result = { 0 };
    GError *err = NULL;

    bdrv_co_move_to(bdrv_context(bs));
    bdrv_co_flush(bs);
    bdrv_co_flush(bs);
    to_main();
    bdrv_co_check(bs, &result, BDRV_FIX_NONE, &err);
    g_assert_no_error(err);
    g_assert_cmpint(result.corruptions, ==, 0);
    g_assert_true(leaks_allowed || result.leaks == 0);
}

#define BITMAP(what, node, name) \
    "{'type':'block-dirty-bitmap-" what "','data':{'node':'" node "','name':'" name "'}}"

#endif
