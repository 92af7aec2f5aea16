/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Transactions on nodes, and what they are made of: bitmaps, overlays, internal snapshots.
 * Nodes live in two IOThreads.  With faults injected at each request of a transaction in
 * turn: it succeeds, or nothing has changed.
 */
#include "transaction-test.h"

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
    {
        /* As many bits as no memory has: refused, not tried. */
        BlockDriverState *huge = test_open("{'driver':'null-co','node-name':'huge',"
                                           "'size':4611686018427387904}");
        g_autofree char *message = transact(ACTION_COMPLETION_MODE_INDIVIDUAL,
                                            BITMAP("add", "huge", "z"), NULL);

        g_assert_cmpstr(message, ==, "The granularity of the bitmap 'z' is too small for "
                        "4611686018427387904 bytes");
        bdrv_co_unref(huge);
    }
    blk_co_free(blk);
    bdrv_co_close_all();
}

/* The bitmaps of the image as kill -9 would leave it now: "name:dirty bytes", or "name!" where that
 * is not known. */
static char *coroutine_fn after_kill(const char *path)
{
    g_autofree char *copy = test_path("killed.qcow2"), *content = NULL;
    GString *text = g_string_new(NULL);
    BlockDirtyInfoList *list;
    BlockDriverState *bs;
    gsize len;

    g_assert_true(g_file_get_contents(path, &content, &len, NULL));
    g_assert_true(g_file_set_contents(copy, content, len, NULL));
    bs = test_open("{'driver':'qcow2','node-name':'killed','read-only':true,"
                   "'file':{'driver':'file','filename':'%s'}}", copy);
    list = bdrv_dirty_bitmap_query(bs);
    for (BlockDirtyInfoList *l = list; l; l = l->next) {
        g_string_append_printf(text, text->len ? " %s" : "%s", l->value->name);
        if (l->value->inconsistent) {
            g_string_append_c(text, '!');
        } else {
            g_string_append_printf(text, ":%" PRId64, l->value->count);
        }
    }
    qapi_free_BlockDirtyInfoList(list);
    bdrv_co_unref(bs);
    return g_string_free(text, false);
}

#define killed_is(path, expected) \
    do { \
        g_autofree char *killed_ = after_kill(path); \
        g_assert_cmpstr(killed_, ==, expected); \
    } while (0)

static void coroutine_fn store(BlockDriverState *bs)
{
    bdrv_co_move_to(bdrv_context(bs));
    g_assert_cmpint(bs->drv->co_set_read_only(bs), ==, 0);
    to_main();
}

#define PERSISTENT(node, name) \
    "{'type':'block-dirty-bitmap-add','data':{'node':'" node "','name':'" name \
    "','persistent':true}}"

/* The image has its bitmaps, and a command comes: they do not count any more when it is answered. */
TEST_CO(test_bitmaps_stored)
{
    static const char *const commands[] = {
        BITMAP("clear", "d", "a"), BITMAP("enable", "d", "a"), BITMAP("disable", "d", "a"),
        BITMAP("remove", "d", "a"), PERSISTENT("d", "b"),
        "{'type':'block-dirty-bitmap-merge','data':{'node':'d','target':'a','bitmaps':['m']}}",
        ("{'type':'blockdev-backup','data':{'job-id':'j','device':'d','target':'t',"
         "'sync':'incremental','bitmap':'a'}}"),
    };

    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        g_autofree char *path = make_qcow2("bs.qcow2", 4 * MiB);
        BlockDriverState *bs;
        BlockBackend *blk;

        add_qcow2("d", path);
        add("{'driver':'null-co','node-name':'t','size':%d}", 4 * MiB);
        bs = bdrv_find_node("d", NULL);
        blk = test_blk(bs, true);
        transact_is(NULL, PERSISTENT("d", "a"), BITMAP("add", "d", "m"));
        put(blk, 0, 65536, 1);
        store(bs);
        killed_is(path, "a:65536");
        transact_is("Dirty bitmap 'none' not found", commands[i], BITMAP("clear", "d", "none"));
        killed_is(path, "a:65536");
        transact_is(NULL, BITMAP("clear", "d", "m")); /* the image does not have it */
        killed_is(path, "a:65536");
        transact_is(NULL, commands[i]);
        killed_is(path, "a!");
        blk_co_free(blk);
        bdrv_co_close_all();
    }
}

/* A node becomes read-only with what the same transaction has made of its bitmap. */
TEST_CO(test_bitmaps_below)
{
    g_autofree char *base = make_qcow2("bb.qcow2", 4 * MiB);
    g_autofree char *over = make_qcow2("bo.qcow2", 4 * MiB);
    BlockBackend *blk;

    add_qcow2("base", base);
    add_qcow2("over", over);
    blk = test_blk(bdrv_find_node("base", NULL), true);
    transact_is(NULL, PERSISTENT("base", "a"), PERSISTENT("base", "b"));
    put(blk, 0, 65536, 1);
    transact_is(NULL, BITMAP("clear", "base", "a"),
                "{'type':'blockdev-snapshot','data':{'node':'base','overlay':'over'}}",
                BITMAP("remove", "base", "b"));
    g_assert_true(bdrv_is_read_only(bdrv_find_node("base", NULL)));
    killed_is(base, "a:0");
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

static void add_tests(void)
{
    GError *err = NULL;

    second = iothread_new("io1", &err);
    g_assert_no_error(err);
    bdrv_set_default_context(test_ctx);
    g_test_add_func("/transaction/bits", test_bits);
    g_test_add_func("/transaction/bitmaps", test_bitmaps);
    g_test_add_func("/transaction/bitmaps-undone", test_bitmaps_undone);
    g_test_add_func("/transaction/bitmaps-stored", test_bitmaps_stored);
    g_test_add_func("/transaction/bitmaps-below", test_bitmaps_below);
    g_test_add_func("/transaction/bitmaps-grow", test_bitmaps_grow);
    g_test_add_func("/transaction/overlay", test_overlay);
    g_test_add_func("/transaction/overlay-sync", test_overlay_sync);
    g_test_add_func("/transaction/faults", test_faults);
    g_test_add_func("/transaction/late-failure", test_late_failure);
}

int main(int argc, char **argv)
{
    int ret = test_run(argc, argv, add_tests);

    iothread_destroy(second);
    return ret;
}
