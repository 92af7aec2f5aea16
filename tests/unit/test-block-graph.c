/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The node graph: opening and its errors, names, the right to write, drained sections. */
#include "block-test.h"

TEST_CO(test_open_close)
{
    g_autofree char *path = test_file("a", 4096, 'a');
    BlockDriverState *bs = test_open("{'driver':'raw','node-name':'disk','file':{'driver':'file',"
                                     "'filename':'%s'}}", path);

    g_assert_cmpstr(bdrv_node_name(bs), ==, "disk");
    g_assert_cmpstr(bdrv_driver_name(bs), ==, "raw");
    g_assert_cmpstr(bdrv_filename(bs), ==, path);
    g_assert_cmpint(bdrv_length(bs), ==, 4096);
    g_assert_true(bdrv_context(bs) == test_ctx);
    g_assert_true(g_str_has_prefix(bdrv_node_name(bdrv_file(bs)), "#block"));
    g_assert_true(bdrv_find_node("disk", NULL) == bs);
    g_assert_true(bdrv_next_node(NULL) == bdrv_file(bs));
    g_assert_true(bdrv_next_node(bdrv_file(bs)) == bs);
    bdrv_co_unref(bs);
    g_assert_null(bdrv_find_node("disk", NULL));
}

TEST_CO(test_open_errors)
{
    g_autofree char *path = test_file("small", 1536, 0);
    g_autofree char *gone = test_path("gone");
    g_autofree char *message = g_strdup_printf("Could not open '%s': No such file or directory",
                                               gone);
    BlockDriverState *bs, *raw;
    GError *err = NULL;

    test_open_fails(message, "{'driver':'file','node-name':'x','filename':'%s'}", gone);
    test_open_fails(message, "{'driver':'raw','node-name':'x','file':{'driver':'file',"
                    "'filename':'%s'}}", gone);
    test_open_fails("Cannot find device='nope' nor node-name='nope'",
                    "{'driver':'raw','node-name':'x','file':'nope'}");
    test_open_fails("Invalid node-name: '1x'",
                    "{'driver':'file','node-name':'1x','filename':'%s'}", path);
    test_open_fails("Node name too long",
                    "{'driver':'file','node-name':'x2345678901234567890123456789012',"
                    "'filename':'%s'}", path);
    test_open_fails("Parameter 'driver' does not accept value 'foo'",
                    "{'driver':'foo','node-name':'x'}");
    test_open_fails("aio=native was specified, but it requires cache.direct=on, which was not "
                    "specified.",
                    "{'driver':'file','node-name':'x','filename':'%s','aio':'native'}", path);
    test_open_fails("setting detect-zeroes to unmap is not allowed without setting discard "
                    "operation to unmap",
                    "{'driver':'file','filename':'%s','detect-zeroes':'unmap'}", path);
    test_open_fails("force-share=on can only be used with read-only images",
                    "{'driver':'file','filename':'%s','force-share':true}", path);

    bs = test_open("{'driver':'file','node-name':'f','filename':'%s','read-only':true}", path);
    test_open_fails("Duplicate nodes with node-name='f'",
                    "{'driver':'file','node-name':'f','filename':'%s','read-only':true}", path);
    test_open_fails("Block node is read-only", "{'driver':'qcow2','node-name':'r','file':'f'}");
    raw = test_open("{'driver':'raw','node-name':'r','file':'f'}");
    g_assert_null(blk_new("", raw, true, &err)); /* who only reads is welcome */
    g_assert_cmpstr(err->message, ==, "Block node is read-only");
    g_clear_error(&err);
    bdrv_co_unref(raw);
    test_open_fails("Offset (10240) cannot be greater than size of the containing file (1536)",
                    "{'driver':'raw','file':'f','read-only':true,'offset':10240}");
    test_open_fails("The sum of offset (0) and size (10240) has to be smaller or equal to the  "
                    "actual size of the containing file (1536)",
                    "{'driver':'raw','file':'f','read-only':true,'size':10240}");
    test_open_fails("Specified size is not multiple of 512",
                    "{'driver':'raw','file':'f','read-only':true,'size':513}");
    g_assert_cmpint(bs->refcount, ==, 1); /* the failures left nothing behind */
    bdrv_co_unref(bs);
}

TEST_CO(test_references)
{
    g_autofree char *path = test_file("a", 4096, 'a');
    BlockDriverState *f = test_open("{'driver':'file','node-name':'f','filename':'%s'}", path);
    BlockDriverState *r = test_open("{'driver':'raw','node-name':'r','file':'f'}");

    g_assert_true(bdrv_file(r) == f);
    g_assert_cmpint(f->refcount, ==, 2);
    bdrv_co_unref(f); /* the raw node keeps it */
    g_assert_true(bdrv_find_node("f", NULL) == f);
    bdrv_ref(r);
    bdrv_co_unref(r);
    g_assert_true(bdrv_find_node("r", NULL) == r);
    bdrv_co_unref(r);
    g_assert_null(bdrv_find_node("f", NULL));
}

TEST_CO(test_one_writer)
{
    g_autofree char *path = test_file("a", 4096, 'a');
    BlockDriverState *f = test_open("{'driver':'file','node-name':'f','filename':'%s'}", path);
    BlockDriverState *r = test_open("{'driver':'raw','node-name':'r','file':'f'}");
    BlockDriverState *r2 = test_open("{'driver':'raw','node-name':'r2','file':'f','offset':512}");
    BlockBackend *reader = test_blk(r, false), *writer = test_blk(r, true);
    GError *err = NULL;
    char buf[16] = "";

    blk_set_device(writer, "disk0");
    g_assert_null(blk_new("", r, true, &err));
    g_assert_cmpstr(err->message, ==,
                    "Permission conflict on node 'r': permissions 'write' are both required by "
                    "block device 'disk0' (uses node 'r' as 'root' child) and unshared by an "
                    "unnamed block device (uses node 'r' as 'root' child).");
    g_clear_error(&err);
    /* Another way to the same file is no better, and neither is the file itself. */
    g_assert_null(blk_new("", r2, true, &err));
    g_assert_nonnull(err);
    g_clear_error(&err);
    g_assert_null(blk_new("", f, true, &err));
    g_assert_nonnull(err);
    g_clear_error(&err);

    to_io();
    g_assert_cmpint(blk_co_pwrite(reader, 0, 16, buf), ==, -EPERM);
    g_assert_cmpint(blk_co_pwrite(writer, 0, 16, buf), ==, 0);
    to_main();
    blk_co_free(writer);
    writer = blk_new("", r2, true, &err);
    g_assert_no_error(err);
    blk_co_free(writer);
    blk_co_free(reader);
    bdrv_co_unref(r2);
    bdrv_co_unref(r);
    bdrv_co_unref(f);
}

TEST_CO(test_backend_names)
{
    g_autofree char *path = test_file("a", 4096, 'a');
    BlockDriverState *f = test_open("{'driver':'file','node-name':'f','filename':'%s'}", path);
    BlockBackend *blk = blk_new("drive0", f, false, NULL);
    GError *err = NULL;

    g_assert_true(blk_by_name("drive0") == blk);
    g_assert_true(blk_next(NULL) == blk);
    g_assert_null(blk_next(blk));
    g_assert_null(blk_new("drive0", f, false, &err));
    g_assert_cmpstr(err->message, ==, "Device with id 'drive0' already exists");
    g_clear_error(&err);
    g_assert_null(blk_new("f", f, false, &err));
    g_assert_nonnull(err);
    g_clear_error(&err);
    test_open_fails("node-name=drive0 is conflicting with a device id",
                    "{'driver':'raw','node-name':'drive0','file':'f','read-only':true}");
    blk_co_free(blk);
    bdrv_co_unref(f);
}

/* --- Drain ------------------------------------------------------------------------------ */

typedef struct Traffic {
    BlockBackend *blk;
    int begun, ended;     /* calls of the ops */
    int done;             /* requests finished */
    int running;
    bool stop;
} Traffic;

static void drained_begin(void *opaque)
{
    ((Traffic *)opaque)->begun++;
}

static void drained_end(void *opaque)
{
    ((Traffic *)opaque)->ended++;
}

static const BlockBackendOps traffic_ops = { drained_begin, drained_end };

/* Reads and writes without pause until told to stop. */
static void coroutine_fn traffic_entry(void *opaque)
{
    Traffic *t = opaque;
    char buf[512] = "";

    while (!t->stop) {
        g_assert_cmpint(blk_co_pwrite(t->blk, 512, sizeof(buf), buf), ==, 0);
        g_assert_cmpint(blk_co_pread(t->blk, 0, sizeof(buf), buf), ==, 0);
        t->done++;
    }
    t->running--;
}

TEST_CO(test_drain)
{
    g_autofree char *path = test_file("a", 4096, 'a');
    BlockDriverState *bs = test_open("{'driver':'raw','node-name':'r','file':{'driver':'file',"
                                     "'filename':'%s','node-name':'f'}}", path);
    BlockDriverState *file = bdrv_file(bs);
    Traffic t = { .blk = test_blk(bs, true), .running = 4 };
    BlockBackend *late;
    int done;

    to_io();
    blk_set_ops(t.blk, &traffic_ops, &t);
    for (int i = 0; i < t.running; i++) {
        aio_co_enter(test_ctx, coroutine_create(traffic_entry, &t));
    }
    while (t.done < 50) {
        co_sleep_ns(1000000);
    }

    /* Draining the file quiets everything above it. */
    bdrv_co_drained_begin(file);
    g_assert_cmpint(file->in_flight, ==, 0);
    g_assert_cmpint(bs->in_flight, ==, 0);
    g_assert_cmpint(t.begun, ==, 1);
    done = t.done;
    bdrv_co_drained_begin(bs);
    g_assert_cmpint(t.begun, ==, 1); /* nested: only the outermost is told */
    bdrv_drained_end(file);
    co_sleep_ns(2000000);
    g_assert_cmpint(t.done, ==, done);
    g_assert_cmpint(t.ended, ==, 0);

    /* Who comes during a section takes part in it. */
    to_main();
    late = test_blk(bs, false);
    g_assert_cmpint(t.done, ==, done);
    blk_co_free(late);
    to_io();
    bdrv_drained_end(bs);
    g_assert_cmpint(t.ended, ==, 1);
    while (t.done < done + 50) {
        co_sleep_ns(1000000);
    }

    t.stop = true;
    bdrv_co_drained_begin(bs);
    bdrv_drained_end(bs);
    while (t.running) {
        co_sleep_ns(1000000);
    }
    g_assert_cmpint(t.begun, ==, 2);
    g_assert_cmpint(t.ended, ==, 2);
    to_main();
    blk_co_free(t.blk);
    bdrv_co_unref(bs);
}

TEST_CO(test_drain_slow_request)
{
    g_autofree char *path = test_file("a", 4096, 'a');
    BlockDriverState *bs = test_open("{'driver':'blkdebug','node-name':'slow','image':{"
                                     "'driver':'file','filename':'%s'},'inject-error':[{"
                                     "'iotype':'read','delay-ns':20000000}]}", path);
    Traffic t = { .blk = test_blk(bs, true), .running = 1 };
    int64_t before;

    to_io();
    t.stop = false;
    aio_co_enter(test_ctx, coroutine_create(traffic_entry, &t));
    while (!bs->in_flight) {
        co_sleep_ns(100000);
    }
    t.stop = true;
    before = clock_now_ns();
    bdrv_co_drained_begin(bs);
    g_assert_cmpint(clock_now_ns() - before, <, G_USEC_PER_SEC * INT64_C(10000));
    g_assert_cmpint(bs->in_flight, ==, 0);
    g_assert_cmpint(bdrv_file(bs)->in_flight, ==, 0);
    bdrv_drained_end(bs);
    while (t.running) {
        co_sleep_ns(1000000);
    }
    to_main();
    blk_co_free(t.blk);
    bdrv_co_unref(bs);
}

/* "PREFIX" n times in front of path; true if that can be opened, else the message is right. */
static bool coroutine_fn opens_behind(const char *prefix, int n, const char *path)
{
    g_autoptr(GString) name = g_string_new(NULL);
    BlockDriverState *bs;
    GError *err = NULL;

    while (n--) {
        g_string_append(name, prefix);
    }
    g_string_append(name, path);
    bs = bdrv_co_open_file(name->str, "raw", true, test_ctx, &err);
    if (bs) {
        bdrv_co_unref(bs);
        return true;
    }
    g_assert_cmpstr(err->message, ==, "More than 8 protocols in one file name");
    g_error_free(err);
    return false;
}

/* However long a file name is: what stands in front of it costs no stack without end. */
TEST_CO(test_many_protocols)
{
    g_autofree char *path = test_file("a", 4096, 'a');
    g_autofree char *verify = g_strdup_printf("blkverify:%s:", path);

    g_assert_true(opens_behind("blkdebug::", 8, path));
    g_assert_false(opens_behind("blkdebug::", 9, path));
    g_assert_false(opens_behind("blkdebug::", 6000, path));
    g_assert_true(opens_behind(verify, 8, path));
    g_assert_false(opens_behind(verify, 9, path));
    g_assert_false(opens_behind(verify, 1000, path));
}

static void add_tests(void)
{
    g_test_add_func("/block/graph/many-protocols", test_many_protocols);
    g_test_add_func("/block/graph/open-close", test_open_close);
    g_test_add_func("/block/graph/open-errors", test_open_errors);
    g_test_add_func("/block/graph/references", test_references);
    g_test_add_func("/block/graph/one-writer", test_one_writer);
    g_test_add_func("/block/graph/backend-names", test_backend_names);
    g_test_add_func("/block/drain/traffic", test_drain);
    g_test_add_func("/block/drain/slow-request", test_drain_slow_request);
}

int main(int argc, char **argv)
{
    return test_run(argc, argv, add_tests);
}
