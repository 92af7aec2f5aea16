/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Transactions on nodes, and what they are made of: bitmaps, overlays, internal snapshots.
 * Nodes live in two IOThreads.  With faults injected at each request of a transaction in
 * turn: it succeeds, or nothing has changed.
 */
#include "block-test.h"
#include "block/dirty-bitmap.h"
#include "block/transaction.h"
#include "qapi/qapi-commands-block-core.h"
#include "qapi/qapi-visit-transaction.h"

#define MiB (1024 * 1024)

static IOThread *second;

/* --- Running transactions --------------------------------------------------------------- */

/* Runs the actions (JSON, the last one followed by NULL); NULL, or the error's text. */
static char *coroutine_fn transact(ActionCompletionMode mode, const char *first, ...)
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

static char *coroutine_fn make_qcow2(const char *name, int64_t size)
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
static void coroutine_fn add(const char *format, ...)
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

static void coroutine_fn add_qcow2(const char *node, const char *path)
{
    add("{'driver':'qcow2','node-name':'%s','backing':null,'file':{'driver':'file',"
        "'filename':'%s'}}", node, path);
}

static void coroutine_fn put(BlockBackend *blk, int64_t offset, int64_t bytes, int value)
{
    g_autofree uint8_t *buf = g_malloc(bytes);

    memset(buf, value, bytes);
    bdrv_co_move_to(bdrv_context(blk_bs(blk)));
    g_assert_cmpint(blk_co_pwrite(blk, offset, bytes, buf), ==, 0);
    to_main();
}

static bool coroutine_fn holds(BlockBackend *blk, int64_t offset, int64_t bytes, int value)
{
    g_autofree uint8_t *buf = g_malloc(bytes);

    bdrv_co_move_to(bdrv_context(blk_bs(blk)));
    g_assert_cmpint(blk_co_pread(blk, offset, bytes, buf), ==, 0);
    to_main();
    return all_bytes(buf, value, bytes);
}

/* "name:dirty bytes[+]" of each bitmap, the oldest first, + for one that records. */
static char *bitmaps(BlockDriverState *bs)
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

static char *coroutine_fn tags(BlockDriverState *bs)
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

static void coroutine_fn assert_clean(BlockDriverState *bs, bool leaks_allowed)
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

/* --- Bits ------------------------------------------------------------------------------------ */

static void test_bits(void)
{
    BdrvBits a, b;

    g_assert_true(bdrv_bits_init(&a, 200 * 512 + 1, 512));
    g_assert_cmpint(bdrv_bits_number(&a), ==, 201);
    g_assert_cmpint(bdrv_bits_next(&a, 0), ==, -1);
    bdrv_bits_set(&a, 512 * 63 + 511, 2); /* the last byte of one, the first of the next */
    g_assert_cmpint(bdrv_bits_next(&a, 0), ==, 63);
    g_assert_cmpint(bdrv_bits_next(&a, 64), ==, 64);
    g_assert_cmpint(bdrv_bits_next(&a, 65), ==, -1);
    bdrv_bits_set(&a, 512 * 200, INT64_MAX - 512 * 200); /* cut at the end */
    g_assert_cmpint(bdrv_bits_count(&a), ==, 3 * 512);
    g_assert_cmpint(bdrv_bits_next(&a, 65), ==, 200);
    bdrv_bits_set(&a, 1 << 30, 512); /* beyond: nothing */
    bdrv_bits_set(&a, 0, 0);
    g_assert_cmpint(bdrv_bits_count(&a), ==, 3 * 512);
    g_assert_true(bdrv_bits_init(&b, a.size, 4096));
    bdrv_bits_merge(&b, &a);
    g_assert_cmpint(bdrv_bits_next(&b, 0), ==, 7);
    g_assert_cmpint(bdrv_bits_next(&b, 8), ==, 8);
    g_assert_cmpint(bdrv_bits_next(&b, 9), ==, 25);
    g_assert_cmpint(bdrv_bits_count(&b), ==, 3 * 4096);
    bdrv_bits_clear(&b, 8 * 4096, 4096);
    g_assert_false(bdrv_bits_get(&b, 8));
    bdrv_bits_set(&b, 0, b.size);
    g_assert_cmpint(bdrv_bits_count(&b), ==, bdrv_bits_number(&b) * 4096);
    bdrv_bits_free(&a);
    bdrv_bits_free(&b);
}

/* --- Bitmaps -------------------------------------------------------------------------------- */

#define BITMAP(what, node, name) \
    "{'type':'block-dirty-bitmap-" what "','data':{'node':'" node "','name':'" name "'}}"

TEST_CO(test_bitmaps)
{
    g_autofree char *path = make_qcow2("bm.qcow2", 4 * MiB);
    BlockDriverState *bs;
    BlockBackend *blk;

    add_qcow2("d", path);
    bs = bdrv_find_node("d", NULL);
    blk = test_blk(bs, true);
    transact_is(NULL, BITMAP("add", "d", "a"),
                "{'type':'block-dirty-bitmap-add','data':{'node':'d','name':'b','granularity':512,"
                "'disabled':true}}");
    put(blk, 65536 * 3 + 100, 10, 1);
    bitmaps_are(bs, "a:65536+ b:0");
    transact_is(NULL, BITMAP("enable", "d", "b"));
    put(blk, 65536 * 3 + 500, 100, 1); /* two sectors */
    bitmaps_are(bs, "a:65536+ b:1024+");
    transact_is(NULL, BITMAP("disable", "d", "a"));
    bdrv_co_move_to(bdrv_context(bs));
    g_assert_cmpint(blk_co_pwrite_zeroes(blk, 0, 65536, 0), ==, 0);
    g_assert_cmpint(blk_co_pdiscard(blk, 65536, 65536), ==, 0); /* ignored by this node */
    to_main();
    bitmaps_are(bs, "a:65536 b:66560+");
    transact_is(NULL,
                "{'type':'block-dirty-bitmap-merge','data':{'node':'d','target':'a','bitmaps':"
                "['b']}}", BITMAP("clear", "d", "b"));
    bitmaps_are(bs, "a:131072 b:0+");
    /* In order, and each on what the one before has left. */
    transact_is(NULL, BITMAP("remove", "d", "a"), BITMAP("add", "d", "a"),
                "{'type':'block-dirty-bitmap-merge','data':{'node':'d','target':'a','bitmaps':"
                "[{'node':'d','name':'b'}]}}");
    bitmaps_are(bs, "b:0+ a:0+");
    transact_is("Dirty bitmap 'a' not found", BITMAP("remove", "d", "a"),
                BITMAP("clear", "d", "a"));
    bitmaps_are(bs, "b:0+ a:0+");
    blk_co_free(blk);
    bdrv_co_close_all();
}

TEST_CO(test_bitmaps_undone)
{
    g_autofree char *path = make_qcow2("bu.qcow2", 4 * MiB);
    BlockDriverState *bs;
    BlockBackend *blk;

    add_qcow2("d", path);
    bs = bdrv_find_node("d", NULL);
    blk = test_blk(bs, true);
    transact_is(NULL, BITMAP("add", "d", "a"), BITMAP("add", "d", "b"));
    put(blk, 0, 512, 1);
    transact_is(NULL, BITMAP("disable", "d", "b"));
    put(blk, MiB, 512, 1);
    bitmaps_are(bs, "a:131072+ b:65536");
    /* All kinds of changes, undone together. */
    transact_is("Bitmap already exists: n", BITMAP("clear", "d", "a"), BITMAP("enable", "d", "b"),
                "{'type':'block-dirty-bitmap-merge','data':{'node':'d','target':'b','bitmaps':"
                "['a']}}", BITMAP("add", "d", "n"), BITMAP("remove", "d", "a"),
                BITMAP("disable", "d", "b"), BITMAP("add", "d", "n"));
    bitmaps_are(bs, "a:131072+ b:65536");
    transact_is("Transaction aborted using Abort action", BITMAP("add", "d", "n"),
                "{'type':'abort','data':{}}");
    bitmaps_are(bs, "a:131072+ b:65536");
    /* What is written between begin and end stays, whatever happened to the bitmap. */
    BdrvDirtyBitmap *a = bdrv_dirty_bitmap_find(bs, "a", NULL);
    bool first;
    GError *err = NULL;

    g_assert_true(bdrv_dirty_bitmap_begin(a, &first, &first, NULL) && first);
    g_assert_false(bdrv_dirty_bitmap_usable(a, NULL, true, &err));
    g_assert_cmpstr(err->message, ==, "Bitmap 'a' is currently in use by another operation and "
                    "cannot be used");
    g_clear_error(&err);
    bdrv_dirty_bitmap_clear(a);
    bdrv_dirty_bitmap_enable(a, false);
    put(blk, 2 * MiB, 512, 1);
    bitmaps_are(bs, "a:0 b:65536");
    bdrv_dirty_bitmap_end(a, true);
    bitmaps_are(bs, "a:196608+ b:65536");
    {
        g_autofree char *message =
            transact(ACTION_COMPLETION_MODE_GROUPED, BITMAP("add", "d", "z"), NULL);

        g_assert_cmpstr(message, ==, "Action 'block-dirty-bitmap-add' does not support "
                        "Transaction property completion-mode = grouped");
    }
    blk_co_free(blk);
    bdrv_co_close_all();
}

/* A bitmap covers what the node grows by, and the content of another snapshot. */
TEST_CO(test_bitmaps_grow)
{
    g_autofree char *path = make_qcow2("bg.qcow2", 4 * MiB);
    BlockDriverState *bs;
    BdrvSnapshotGoto *g;
    BlockBackend *blk;
    GError *err = NULL;

    add_qcow2("d", path);
    bs = bdrv_find_node("d", NULL);
    blk = test_blk(bs, true);
    transact_is(NULL, BITMAP("add", "d", "a"),
                "{'type':'blockdev-snapshot-internal-sync','data':{'device':'d','name':'s'}}");
    bdrv_co_move_to(bdrv_context(bs));
    g_assert_true(blk_co_truncate(blk, 8 * MiB, &err));
    to_main();
    put(blk, 0, 1, 1);
    bitmaps_are(bs, "a:4259840+"); /* the new half and one cluster */
    transact_is(NULL, BITMAP("clear", "d", "a"), BITMAP("disable", "d", "a"));
    bdrv_co_move_to(bdrv_context(bs));
    g = bdrv_co_snapshot_goto_prepare(bs, "s", &err);
    g_assert_no_error(err);
    bdrv_co_drained_begin(bs);
    g_assert_true(bdrv_co_snapshot_goto_switch(g, &err));
    bdrv_drained_end(bs);
    g_assert_true(bdrv_co_snapshot_goto_commit(g, &err));
    bdrv_co_snapshot_goto_end(g, false);
    to_main();
    {
        g_autofree char *text = bitmaps(bs);

        g_assert_cmpstr(text, ==, "a:8388608");
    }
    blk_co_free(blk);
    bdrv_co_close_all();
}

/* --- Overlays ------------------------------------------------------------------------------- */

/* A user that never stops writing while the graph changes: each byte of a page counts up. */
typedef struct Writer {
    BlockBackend *blk;
    bool stop, ended;
    Coroutine *waiter;
    int done;
} Writer;

static void coroutine_fn writer_entry(void *opaque)
{
    Writer *w = opaque;
    uint8_t buf[512];

    while (!__atomic_load_n(&w->stop, __ATOMIC_SEQ_CST)) {
        memset(buf, ++w->done & 127, sizeof(buf));
        g_assert_cmpint(blk_co_pwrite(w->blk, 512 * (w->done % 64), 512, buf), ==, 0);
        g_assert_cmpint(blk_co_flush(w->blk), ==, 0);
    }
    aio_co_wake(w->waiter);
}

static void coroutine_fn writer_start(Writer *w, BlockBackend *blk)
{
    *w = (Writer){ .blk = blk, .waiter = coroutine_self() };
    aio_co_enter(bdrv_context(blk_bs(blk)), coroutine_create(writer_entry, w));
}

static void coroutine_fn writer_stop(Writer *w)
{
    __atomic_store_n(&w->stop, true, __ATOMIC_SEQ_CST);
    coroutine_yield();
}

TEST_CO(test_overlay)
{
    g_autofree char *base = make_qcow2("base.qcow2", 4 * MiB);
    g_autofree char *over = make_qcow2("over.qcow2", 4 * MiB);
    BlockDriverState *b, *o;
    BlockBackend *blk, *old;
    Writer w;

    add_qcow2("base", base);
    b = bdrv_find_node("base", NULL);
    bdrv_set_default_context(iothread_context(second));
    add_qcow2("over", over); /* born in another thread */
    bdrv_set_default_context(test_ctx);
    o = bdrv_find_node("over", NULL);
    g_assert_true(bdrv_context(o) != bdrv_context(b));
    blk = test_blk(b, true);
    put(blk, MiB, MiB, 'b');
    writer_start(&w, blk);
    transact_is(NULL, BITMAP("add", "base", "m"),
                "{'type':'blockdev-snapshot','data':{'node':'base','overlay':'over'}}");
    writer_stop(&w);
    g_assert_true(blk_bs(blk) == o && bdrv_backing(o) == b && bdrv_context(o) == test_ctx);
    g_assert_true(bdrv_is_read_only(b));
    bitmaps_are(b, "m:0+"); /* of the same instant: nothing went into the base after it */
    put(blk, MiB, 512, 'o');
    g_assert_true(holds(blk, MiB, 512, 'o') && holds(blk, MiB + 512, MiB - 512, 'b'));
    old = test_blk(b, false);
    g_assert_true(holds(old, MiB, MiB, 'b'));
    blk_co_free(old);
    assert_clean(o, false);
    {
        /* Who wants to write to the base from outside may do so now. */
        GError *err = NULL;
        BlockDriverState *again = test_try_open(&err, "{'driver':'file','filename':'%s'}", base);

        g_assert_nonnull(err); /* no: it is still in use, but the right itself is free */
        g_assert_null(again);
        g_assert_nonnull(strstr(err->message, "lock"));
        g_clear_error(&err);
    }
    transact_is("Node 'base' is busy: node is used as backing hd of 'over'",
                "{'type':'blockdev-snapshot-sync','data':{'node-name':'base',"
                "'snapshot-node-name':'x','snapshot-file':'x.qcow2'}}");
    blk_co_free(blk);
    bdrv_co_close_all();
}

/* Made on the way: a new file, over one that was there, and none if it fails. */
TEST_CO(test_overlay_sync)
{
    g_autofree char *base = make_qcow2("sb.qcow2", 4 * MiB);
    g_autofree char *over = test_file("so.qcow2", 100, 'x');
    g_autofree char *ok = g_strdup_printf(
        "{'type':'blockdev-snapshot-sync','data':{'device':'disk','snapshot-file':'%s'}}", over);
    g_autofree char *text = NULL;
    GDir *dir;
    BlockDriverState *b, *o;
    BlockBackend *blk;
    GError *err = NULL;
    const char *name;
    gsize length;

    b = test_open("{'driver':'qcow2','file':{'driver':'file','filename':'%s'}}", base);
    blk = blk_new("disk", b, true, &err);
    g_assert_no_error(err);
    bdrv_co_unref(b); /* as -drive: only the device holds it */
    put(blk, 0, 4096, 1);
    transact_is("Transaction aborted using Abort action", ok, "{'type':'abort','data':{}}");
    g_assert_true(g_file_get_contents(over, &text, &length, NULL) && length == 100);
    g_assert_true(blk_bs(blk) == b && !bdrv_is_read_only(b));
    transact_is(NULL, ok);
    o = blk_bs(blk);
    g_assert_true(o != b && bdrv_backing(o) == b);
    put(blk, 4096, 4096, 2);
    g_assert_true(holds(blk, 0, 4096, 1) && holds(blk, 4096, 4096, 2));
    transact_is(NULL, "{'type':'blockdev-snapshot-internal-sync','data':{'device':'disk',"
                "'name':'s'}}");
    assert_clean(o, false);
    blk_co_free(blk); /* and all of it goes */
    b = test_open("{'driver':'qcow2','file':{'driver':'file','filename':'%s'}}", over);
    g_assert_cmpstr(bdrv_filename(bdrv_backing(b)), ==, base);
    bdrv_co_unref(b);
    dir = g_dir_open(test_dir, 0, NULL);
    while ((name = g_dir_read_name(dir))) {
        g_assert_null(strstr(name, ".before"));
    }
    g_dir_close(dir);
}

/* --- Faults ------------------------------------------------------------------------------------ */

typedef struct Faulty {
    BlockBackend *a, *b, *c;
    BlockDriverState *bs_a, *bs_b, *bs_c, *bs_o;
} Faulty;

static void coroutine_fn add_faulty(const char *node, const char *path, const char *kind,
                                    const char *where, int after)
{
    g_autofree char *rule =
        kind && !strcmp(where, node)
            ? g_strdup_printf("{'iotype':'%s','after':%d,'once':true,'errno':28}", kind, after)
            : g_strdup("");

    add("{'driver':'qcow2','node-name':'%s','backing':null,'file':{'driver':'blkdebug',"
        "'inject-error':[%s],'image':{'driver':'file','filename':'%s'}}}", node, rule, path);
}

/* One transaction with the fault; true when it has succeeded. */
static bool coroutine_fn one_fault(const char *kind, const char *where, int after)
{
    g_autofree char *pa = make_qcow2("fa.qcow2", 4 * MiB);
    g_autofree char *pb = make_qcow2("fb.qcow2", 4 * MiB);
    g_autofree char *pc = make_qcow2("fc.qcow2", 4 * MiB);
    g_autofree char *po = make_qcow2("fo.qcow2", 4 * MiB);
    g_autofree char *pn = test_path("fn.qcow2");
    g_autofree char *sync = g_strdup_printf(
        "{'type':'blockdev-snapshot-sync','data':{'node-name':'b','snapshot-node-name':'n',"
        "'snapshot-file':'%s'}}", pn);
    g_autofree char *message = NULL, *list = NULL;
    Faulty f;

    add_faulty("a", pa, NULL, where, 0);
    add_faulty("b", pb, NULL, where, 0);
    add_faulty("c", pc, NULL, where, 0);
    add_faulty("o", po, NULL, where, 0);
    f.bs_a = bdrv_find_node("a", NULL);
    f.a = test_blk(f.bs_a, true);
    put(f.a, 0, MiB, 'a');
    f.bs_b = bdrv_find_node("b", NULL);
    f.b = test_blk(f.bs_b, true);
    put(f.b, 0, MiB, 'b');
    f.bs_c = bdrv_find_node("c", NULL);
    f.c = test_blk(f.bs_c, true);
    put(f.c, 0, MiB, 'c');
    blk_co_free(f.a);
    blk_co_free(f.b);
    blk_co_free(f.c);
    bdrv_co_close_all();

    add_faulty("a", pa, kind, where, after);
    add_faulty("b", pb, kind, where, after);
    add_faulty("c", pc, kind, where, after);
    add_faulty("o", po, kind, where, after);
    f.bs_a = bdrv_find_node("a", NULL);
    f.bs_b = bdrv_find_node("b", NULL);
    f.bs_c = bdrv_find_node("c", NULL);
    f.bs_o = bdrv_find_node("o", NULL);
    f.a = test_blk(f.bs_a, true);
    f.b = test_blk(f.bs_b, true);
    f.c = test_blk(f.bs_c, true);
    message = transact(ACTION_COMPLETION_MODE_INDIVIDUAL, BITMAP("add", "b", "m"),
                       "{'type':'blockdev-snapshot','data':{'node':'c','overlay':'o'}}", sync,
                       "{'type':'blockdev-snapshot-internal-sync','data':{'device':'a',"
                       "'name':'s'}}", NULL);
    list = tags(f.bs_a);
    if (message) {
        g_assert_nonnull(strstr(message, "No space left on device"));
        g_assert_cmpstr(list, ==, "");
        g_assert_true(blk_bs(f.b) == f.bs_b && blk_bs(f.c) == f.bs_c);
        g_assert_false(bdrv_is_read_only(f.bs_b) || bdrv_is_read_only(f.bs_c));
        g_assert_true(!bdrv_backing(f.bs_o) && g_queue_is_empty(&f.bs_o->parents));
        g_assert_false(g_file_test(pn, G_FILE_TEST_EXISTS));
        g_assert_null(bdrv_find_node("n", NULL));
        bitmaps_are(f.bs_b, "");
    } else {
        g_assert_cmpstr(list, ==, "s");
        g_assert_true(blk_bs(f.b) == bdrv_find_node("n", NULL) && blk_bs(f.c) == f.bs_o);
    }
    if (message) { /* the fault has been, the rest must work */
        g_test_message("%s %d on %s: %s", kind, after, where, message);
        put(f.a, 0, 512, '1');
        put(f.b, 0, 512, '1');
        put(f.c, 0, 512, '1');
        g_assert_true(holds(f.a, 512, MiB - 512, 'a') && holds(f.a, 0, 512, '1'));
        g_assert_true(holds(f.b, 512, MiB - 512, 'b') && holds(f.b, 0, 512, '1'));
        g_assert_true(holds(f.c, 512, MiB - 512, 'c') && holds(f.c, 0, 512, '1'));
        assert_clean(f.bs_a, false);
        assert_clean(f.bs_b, false);
        assert_clean(f.bs_c, false);
    }
    blk_co_free(f.a);
    blk_co_free(f.b);
    blk_co_free(f.c);
    bdrv_co_close_all();
    g_unlink(pn);
    return !message;
}

/* From the first request to one that the transaction does not reach. */
TEST_CO(test_faults)
{
    static const char *const kinds[] = { "write", "flush" };
    static const char *const nodes[] = { "a", "b", "c" };
    int failed = 0;
    bool done;

    for (size_t k = 0; k < G_N_ELEMENTS(kinds); k++) {
        for (size_t n = 0; n < G_N_ELEMENTS(nodes); n++) {
            done = false;
            for (int after = 0; !done; after++) {
                done = one_fault(kinds[k], nodes[n], after);
                failed += !done;
            }
        }
    }
    g_assert_cmpint(failed, >, 10);
}

/* The instant has passed, the guest has written, and then an action fails. */
TEST_CO(test_late_failure)
{
    g_autofree char *base = make_qcow2("lb.qcow2", 4 * MiB);
    g_autofree char *over = make_qcow2("lo.qcow2", 4 * MiB);
    g_autofree char *json = g_strdup(
        "{'type':'blockdev-snapshot','data':{'node':'base','overlay':'over'}}");
    TransactionAction *action;
    BdrvTransaction *t;
    BlockBackend *blk;
    GError *err = NULL;
    BlockDriverState *b;

    add_qcow2("base", base);
    add_qcow2("over", over);
    b = bdrv_find_node("base", NULL);
    blk = test_blk(b, true);
    put(blk, 0, 2 * MiB, 'b');
    action = qapi_TransactionAction_from_str(json, NULL, &err);
    g_assert_no_error(err);
    t = bdrv_transaction_new(ACTION_COMPLETION_MODE_INDIVIDUAL);
    bdrv_transaction_add(t, action);
    g_assert_true(bdrv_transaction_prepare(t, &err));
    bdrv_transaction_drain(t);
    g_assert_true(bdrv_transaction_instant(t, &err));
    bdrv_transaction_undrain(t);
    put(blk, MiB, MiB + 4096, 'n');
    bdrv_co_move_to(test_ctx);
    g_assert_cmpint(blk_co_pwrite_zeroes(blk, 65536, 65536, 0), ==, 0);
    to_main();
    g_assert_true(bdrv_transaction_finish(t, &err));
    err = g_error_new_literal(g_quark_from_static_string("test"), 0, "something else");
    bdrv_transaction_abort(t, &err);
    g_assert_cmpstr(err->message, ==, "something else");
    g_clear_error(&err);
    bdrv_transaction_free(t);
    qapi_free_TransactionAction(action);
    g_assert_true(blk_bs(blk) == b && !bdrv_is_read_only(b));
    g_assert_true(holds(blk, 0, 65536, 'b') && holds(blk, 65536, 65536, 0) &&
                  holds(blk, 131072, MiB - 131072, 'b') && holds(blk, MiB, MiB + 4096, 'n'));
    put(blk, 0, 512, 'w');
    assert_clean(b, false);
    blk_co_free(blk);
    bdrv_co_close_all();
}

/* --- Backups ------------------------------------------------------------------------------------ */

/* Waits until the job j is over, dismisses it; NULL, or its error. */
static char *coroutine_fn job_result(void)
{
    for (;;) {
        JobInfoList *list = job_query_all();
        bool over = list->value->status == JOB_STATUS_CONCLUDED;
        char *error = over ? g_strdup(list->value->error) : NULL;

        g_assert_null(list->next);
        qapi_free_JobInfoList(list);
        if (over) {
            g_assert_true(job_dismiss_by_id("j", NULL));
            return error;
        }
        co_sleep_ns(1000000);
    }
}

#define BACKUP(more) \
    "{'type':'blockdev-backup','data':{'job-id':'j','device':'s','target':'t'," \
    "'auto-dismiss':false," more "}}"

typedef struct Copied {
    BlockDriverState *s, *t;
    BlockBackend *blk;
} Copied;

static void coroutine_fn copied_begin(Copied *c, const char *fault)
{
    g_autofree char *ps = make_qcow2("bs.qcow2", 8 * MiB);
    g_autofree char *pt = make_qcow2("bt.qcow2", 8 * MiB);

    add_qcow2("s", ps);
    c->s = bdrv_find_node("s", NULL);
    c->blk = test_blk(c->s, true);
    put(c->blk, 0, 8 * MiB - 4096, 'a');
    bdrv_set_default_context(iothread_context(second)); /* the target has to move */
    add("{'driver':'qcow2','node-name':'t','file':{'driver':'blkdebug','inject-error':[%s],"
        "'image':{'driver':'file','filename':'%s'}}}", fault, pt);
    bdrv_set_default_context(test_ctx);
    c->t = bdrv_find_node("t", NULL);
}

static void coroutine_fn copied_end(Copied *c)
{
    g_assert_null(job_query_all());
    g_assert_true(!c->s->job_type && g_queue_is_empty(&c->s->before_write));
    g_assert_true(g_queue_is_empty(&c->t->parents));
    assert_clean(c->s, false);
    blk_co_free(c->blk);
    bdrv_co_close_all();
}

static bool coroutine_fn node_holds(BlockDriverState *bs, int64_t offset, int64_t bytes, int value)
{
    BlockBackend *blk = test_blk(bs, false);
    bool ok = holds(blk, offset, bytes, value);

    blk_co_free(blk);
    return ok;
}

TEST_CO(test_backup)
{
    g_autofree char *error = NULL, *again = NULL;
    GError *err = NULL;
    Copied c;

    copied_begin(&c, "");
    /* So slow that nearly all is copied because somebody writes. */
    transact_is(NULL, BITMAP("add", "s", "m"), BACKUP("'sync':'full','speed':1"));
    g_assert_true(bdrv_context(c.t) == test_ctx);
    put(c.blk, 0, 512, 'n');
    put(c.blk, 3 * MiB - 100, MiB, 'n');
    bdrv_co_move_to(test_ctx);
    g_assert_cmpint(blk_co_pwrite_zeroes(c.blk, 6 * MiB, 65536, 0), ==, 0);
    g_assert_false(blk_co_truncate(c.blk, 16 * MiB, &err));
    to_main();
    g_assert_cmpstr(err->message, ==, "Node 's' is busy: block device is in use by block job: "
                    "backup");
    g_clear_error(&err);
    transact_is("Node 's' is busy: block device is in use by block job: backup",
                BACKUP("'sync':'full'"));
    transact_is("Node 't' is busy: node is used as backup target of 's'",
                "{'type':'blockdev-snapshot-sync','data':{'node-name':'t',"
                "'snapshot-node-name':'x','snapshot-file':'x.qcow2'}}");
    transact_is(NULL, "{'type':'blockdev-snapshot-internal-sync','data':{'device':'s',"
                "'name':'in-between'}}"); /* drains both */
    g_assert_true(job_set_speed_by_id("j", 0, NULL));
    error = job_result();
    g_assert_cmpstr(error, ==, NULL);
    g_assert_true(node_holds(c.t, 0, 8 * MiB - 4096, 'a'));
    g_assert_true(node_holds(c.t, 8 * MiB - 4096, 4096, 0));
    bitmaps_are(c.s, "m:1245184+"); /* one, seventeen, one */
    transact_is(NULL, BACKUP("'sync':'incremental','bitmap':'m','speed':1"));
    put(c.blk, 5 * MiB, 512, 'l');
    transact_is("Bitmap 'm' is currently in use by another operation and cannot be used",
                BITMAP("clear", "s", "m"));
    g_assert_true(job_set_speed_by_id("j", 0, NULL));
    again = job_result();
    g_assert_cmpstr(again, ==, NULL);
    g_assert_true(node_holds(c.t, 0, 512, 'n') && node_holds(c.t, 3 * MiB - 100, MiB, 'n') &&
                  node_holds(c.t, 6 * MiB, 65536, 0) && node_holds(c.t, 5 * MiB, 512, 'a'));
    bitmaps_are(c.s, "m:65536+"); /* what was written meanwhile */
    copied_end(&c);
}

/* The target fails: under the guest's write, or behind its back.  Only the job notices. */
TEST_CO(test_backup_fails)
{
    g_autofree char *error = NULL;
    Copied c;

    for (int round = 0; round < 2; round++) {
        copied_begin(&c, round ? "{'iotype':'write','errno':28}"
                               : "{'iotype':'write','errno':28,'after':2}");
        transact_is(NULL, BITMAP("add", "s", "m"));
        put(c.blk, MiB, MiB, 'b');
        transact_is(NULL, round ? BACKUP("'sync':'bitmap','bitmap':'m','bitmap-mode':'always'")
                                : BACKUP("'sync':'full','speed':1"));
        put(c.blk, 0, 4 * MiB, 'n');
        g_assert_true(job_set_speed_by_id("j", 0, NULL));
        error = job_result();
        g_assert_cmpstr(error, ==, "Could not write the backup of node 's': No space left on "
                        "device");
        g_clear_pointer(&error, g_free);
        g_assert_true(holds(c.blk, 0, 4 * MiB, 'n'));
        bitmaps_are(c.s, "m:4194304+");
        copied_end(&c);
    }
}

TEST_CO(test_backup_undone)
{
    g_autofree char *error = NULL;
    Copied c;

    copied_begin(&c, "");
    transact_is(NULL, BITMAP("add", "s", "m"));
    put(c.blk, MiB, 512, 'b');
    transact_is("Transaction aborted using Abort action", BACKUP("'sync':'full'"),
                "{'type':'abort','data':{}}");
    /* Behind the instant, too. */
    transact_is("Bitmap 'no' could not be found",
                BACKUP("'sync':'incremental','bitmap':'no'"), BITMAP("clear", "s", "m"));
    transact_is("Bitmap already exists: m", BITMAP("add", "s", "x"),
                BACKUP("'sync':'incremental','bitmap':'m'"), BITMAP("add", "s", "m"));
    bitmaps_are(c.s, "m:65536+");
    g_assert_true(!c.s->job_type && g_queue_is_empty(&c.t->parents));
    transact_is(NULL, BACKUP("'sync':'incremental','bitmap':'m','speed':1"));
    put(c.blk, 2 * MiB, 512, 'c');
    g_assert_true(job_cancel_by_id("j", false, NULL));
    error = job_result();
    g_assert_cmpstr(error, ==, "Operation canceled");
    bitmaps_are(c.s, "m:131072+");
    copied_end(&c);
}

TEST_CO(test_backup_refused)
{
    Copied c;

    copied_begin(&c, "");
    transact_is("Source and target cannot be the same",
                "{'type':'blockdev-backup','data':{'job-id':'j','device':'s','target':'s',"
                "'sync':'full'}}");
    transact_is("Invalid job ID ''",
                "{'type':'blockdev-backup','data':{'device':'s','target':'t','sync':'full'}}");
    transact_is("must provide a valid bitmap name for 'incremental' sync mode",
                BACKUP("'sync':'incremental'"));
    transact_is("Bitmap sync mode must be given when providing a bitmap",
                BACKUP("'sync':'full','bitmap':'m'"));
    transact_is("Cannot specify bitmap sync mode without a bitmap",
                BACKUP("'sync':'full','bitmap-mode':'never'"));
    transact_is("Bitmap sync mode must be 'on-success' when using sync mode 'incremental'",
                BACKUP("'sync':'incremental','bitmap':'m','bitmap-mode':'never'"));
    transact_is("Parameter 'speed' expects a non-negative value",
                BACKUP("'sync':'full','speed':-1"));
    copied_end(&c);
}

static void add_tests(void)
{
    GError *err = NULL;

    second = iothread_new("io1", &err);
    g_assert_no_error(err);
    bdrv_set_default_context(test_ctx);
    g_test_add_func("/transaction/bits", test_bits);
    g_test_add_func("/transaction/bitmaps", test_bitmaps);
    g_test_add_func("/transaction/bitmaps-undone", test_bitmaps_undone);
    g_test_add_func("/transaction/bitmaps-grow", test_bitmaps_grow);
    g_test_add_func("/transaction/overlay", test_overlay);
    g_test_add_func("/transaction/overlay-sync", test_overlay_sync);
    g_test_add_func("/transaction/faults", test_faults);
    g_test_add_func("/transaction/late-failure", test_late_failure);
    g_test_add_func("/transaction/backup", test_backup);
    g_test_add_func("/transaction/backup-fails", test_backup_fails);
    g_test_add_func("/transaction/backup-undone", test_backup_undone);
    g_test_add_func("/transaction/backup-refused", test_backup_refused);
}

int main(int argc, char **argv)
{
    int ret = test_run(argc, argv, add_tests);

    iothread_destroy(second);
    return ret;
}
