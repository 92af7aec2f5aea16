/* SPDX-License-Identifier: GPL-2.0-or-later */
/* QMP commands of the block layer, called as the dispatcher calls them. */
#include "block-test.h"
#include "block/qapi-format.h"
#include "qapi/qapi-commands-block-core.h"
#include "qapi/qapi-commands-block-stats.h"

static char *coroutine_fn add(const char *format, ...) G_GNUC_PRINTF(1, 2);
/* blockdev-add; NULL, or the error's text. */
static char *coroutine_fn add(const char *format, ...)
{
    g_autofree char *json = NULL;
    g_autoptr(BlockdevOptions) options = NULL;
    GError *err = NULL;
    char *message = NULL;
    va_list ap;

    va_start(ap, format);
    json = g_strdup_vprintf(format, ap);
    va_end(ap);
    options = qapi_BlockdevOptions_from_str(json, NULL, &err);
    g_assert_no_error(err);
    qmp_blockdev_add(options, &err);
    if (err) {
        message = g_strdup(err->message);
        g_error_free(err);
    }
    return message;
}

static void coroutine_fn del_is(const char *node, const char *expected)
{
    GError *err = NULL;

    qmp_blockdev_del(node, &err);
    g_assert_cmpstr(err ? err->message : NULL, ==, expected);
    g_clear_error(&err);
}

#define add_is(expected, ...) \
    do { \
        g_autofree char *message_ = add(__VA_ARGS__); \
        g_assert_cmpstr(message_, ==, expected); \
    } while (0)

static char *coroutine_fn make_qcow2(const char *name, int64_t size, const char *backing)
{
    char *path = test_path(name);
    BdrvCreateParams params = { .filename = path, .size = size, .backing_file = backing,
                                .backing_format = backing ? "qcow2" : NULL };
    GError *err = NULL;

    bdrv_co_create(bdrv_driver_by_name("qcow2"), &params, test_ctx, &err);
    g_assert_no_error(err);
    return path;
}

TEST_CO(test_add_del)
{
    g_autofree char *path = test_file("a", 4096, 'a');
    BlockBackend *blk;

    bdrv_set_default_context(test_ctx);
    add_is("'node-name' must be specified for the root node", "{'driver':'file','filename':'%s'}",
           path);
    add_is(NULL, "{'driver':'file','node-name':'f','filename':'%s'}", path);
    add_is("Duplicate nodes with node-name='f'",
           "{'driver':'file','node-name':'f','filename':'%s','locking':'off'}", path);
    add_is("Failed to get \"write\" lock", /* without the hint that a terminal would get */
           "{'driver':'file','node-name':'g','filename':'%s'}", path);
    add_is(NULL, "{'driver':'raw','node-name':'r','file':'f'}");
    g_assert_true(bdrv_context(bdrv_find_node("r", NULL)) == test_ctx);
    del_is("f", "Block device f is in use");
    del_is("nope", "Failed to find node with node-name='nope'");
    blk = blk_new("", bdrv_find_node("r", NULL), true, NULL);
    del_is("r", "Block device r is in use");
    blk_set_device(blk, "disk0");
    del_is("r", "Node r is in use");
    blk_co_free(blk);
    del_is("r", NULL);
    add_is(NULL, "{'driver':'raw','node-name':'r','file':{'driver':'file','node-name':'inner',"
           "'locking':'off','filename':'%s'}}", path);
    del_is("inner", "Node inner is not owned by the monitor");
    bdrv_co_close_all();
}

TEST_CO(test_query)
{
    g_autofree char *base = make_qcow2("base.qcow2", 1024 * 1024, NULL);
    g_autofree char *over = make_qcow2("over.qcow2", 2 * 1024 * 1024, "base.qcow2");
    BlockDeviceInfoList *nodes;
    BlockInfoList *devices;
    BlockBackend *blk, *job;
    GError *err = NULL;
    ImageInfo *image;

    bdrv_set_default_context(test_ctx);
    add_is(NULL, "{'driver':'qcow2','node-name':'disk','file':{'driver':'file','filename':'%s'}}",
           over);
    nodes = qmp_query_named_block_nodes(false, false, &err);
    g_assert_no_error(err);
    /* The latest first: backing format, its file, disk, its file. */
    g_assert_cmpstr(nodes->value->drv, ==, "qcow2");
    g_assert_cmpstr(nodes->value->file, ==, base);
    g_assert_true(nodes->value->ro);
    g_assert_cmpstr(nodes->next->value->drv, ==, "file");
    g_assert_cmpstr(nodes->next->next->value->node_name, ==, "disk");
    g_assert_cmpint(nodes->next->next->value->backing_file_depth, ==, 1);
    g_assert_cmpstr(nodes->next->next->value->backing_file, ==, base);
    g_assert_null(nodes->next->next->next->next);
    qapi_free_BlockDeviceInfoList(nodes);

    blk = blk_new("", bdrv_find_node("disk", NULL), true, NULL);
    blk_set_device(blk, "vd0");
    job = blk_new("", bdrv_find_node("disk", NULL), false, NULL);
    devices = qmp_query_block(&err);
    g_assert_no_error(err);
    g_assert_null(devices->next); /* the job's handle is nobody's device */
    g_assert_cmpstr(devices->value->device, ==, "");
    g_assert_cmpstr(devices->value->qdev, ==, "vd0");
    g_assert_cmpstr(devices->value->inserted->node_name, ==, "disk");
    image = devices->value->inserted->image;
    g_assert_cmpint(image->virtual_size, ==, 2 * 1024 * 1024);
    g_assert_cmpstr(image->backing_filename, ==, "base.qcow2");
    g_assert_cmpstr(image->full_backing_filename, ==, base);
    g_assert_cmpstr(image->backing_filename_format, ==, "qcow2");
    g_assert_nonnull(image->backing_image);
    g_assert_cmpint(image->backing_image->virtual_size, ==, 1024 * 1024);
    g_assert_cmpstr(image->format_specific->u.qcow2.data->compat, ==, "1.1");
    qapi_free_BlockInfoList(devices);

    nodes = qmp_query_named_block_nodes(true, true, &err);
    g_assert_no_error(err);
    g_assert_null(nodes->next->next->value->image->backing_image);
    qapi_free_BlockDeviceInfoList(nodes);
    blk_co_free(job);
    blk_co_free(blk);
    bdrv_co_close_all();
}

TEST_CO(test_backing_options)
{
    g_autofree char *base = make_qcow2("b2.qcow2", 1024 * 1024, NULL);
    g_autofree char *over = make_qcow2("o2.qcow2", 1024 * 1024, "b2.qcow2");
    g_autofree char *self = make_qcow2("self.qcow2", 1024 * 1024, "self.qcow2");
    g_autofree char *gone = make_qcow2("o3.qcow2", 1024 * 1024, "gone.qcow2");
    g_autofree char *one = make_qcow2("one.qcow2", 1024 * 1024, "./two.qcow2");
    g_autofree char *gone_path = test_path("gone.qcow2");
    g_autofree char *message = g_strdup_printf("Could not open backing file: Could not open "
                                               "'%s': No such file or directory", gone_path);
    g_autofree char *failure = NULL;

    g_free(make_qcow2("two.qcow2", 1024 * 1024, "./one.qcow2"));
    bdrv_set_default_context(test_ctx);
    add_is(NULL, "{'driver':'qcow2','node-name':'a','backing':null,'file':{'driver':'file',"
           "'filename':'%s'}}", over);
    g_assert_null(bdrv_backing(bdrv_find_node("a", NULL)));
    del_is("a", NULL);
    add_is(NULL, "{'driver':'qcow2','node-name':'b','read-only':true,'file':{'driver':'file',"
           "'filename':'%s'}}", base);
    add_is(NULL, "{'driver':'qcow2','node-name':'a','backing':'b','file':{'driver':'file',"
           "'filename':'%s'}}", over);
    g_assert_true(bdrv_backing(bdrv_find_node("a", NULL)) == bdrv_find_node("b", NULL));
    del_is("b", "Block device b is in use");
    failure = add("{'driver':'qcow2','node-name':'x','file':{'driver':'file','filename':'%s'}}",
                  self);
    g_assert_nonnull(strstr(failure, "creates an infinite loop."));
    g_free(failure);
    failure = add("{'driver':'qcow2','node-name':'x','read-only':true,'file':{'driver':'file',"
                  "'filename':'%s'}}", one);
    g_assert_nonnull(strstr(failure, "Block nodes are nested more than 100 deep"));
    add_is(message, "{'driver':'qcow2','node-name':'x','file':{'driver':'file','filename':'%s'}}",
           gone);
    bdrv_co_close_all();
}

static void test_format(void)
{
    static const struct {
        uint64_t bytes;
        const char *text;
    } sizes[] = {
        { 0, "0 B" }, { 512, "512 B" }, { 999, "999 B" }, { 1000, "0.977 KiB" },
        { 200704, "196 KiB" }, { 1536, "1.5 KiB" }, { 3481600, "3.32 MiB" },
        { UINT64_C(1) << 30, "1 GiB" }, { UINT64_MAX, "16 EiB" },
    };
    SnapshotInfo sn = { .id = (char *)"1", .name = (char *)"tag", .vm_clock_sec = 3723,
                        .vm_clock_nsec = 45000000, .vm_state_size = 1048576 };
    GString *text = g_string_new(NULL);

    for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
        g_autofree char *size = bdrv_format_size(sizes[i].bytes);
        g_assert_cmpstr(size, ==, sizes[i].text);
    }
    bdrv_format_snapshot_header(text);
    g_assert_cmpstr(text->str, ==, "ID        TAG               VM SIZE                DATE     "
                                   "VM CLOCK     ICOUNT\n");
    g_string_truncate(text, 0);
    bdrv_format_snapshot_row(text, &sn);
    g_assert_true(g_str_has_prefix(text->str, "1         tag                 1 MiB "));
    g_assert_nonnull(strstr(text->str, " 01:02:03.045"));
    g_string_free(text, true);
}

/* What is done through a handle is counted: a failure as a failure, and for its node. */
TEST_CO(test_stats)
{
    g_autofree char *path = test_file("counted", 65536, 'c');
    char buf[4096] = {0};
    BlockStatsList *list;
    BlockDeviceStats *s;
    BlockBackend *blk;

    bdrv_set_default_context(test_ctx);
    add_is(NULL, "{'driver':'file','node-name':'f','filename':'%s'}", path);
    blk = blk_new("", bdrv_find_node("f", NULL), true, NULL);
    g_assert_null(qmp_query_blockstats(false, false, NULL)); /* nobody's device */
    blk_set_device(blk, "vd0");
    bdrv_co_move_to(test_ctx);
    g_assert_cmpint(blk_co_pread(blk, 0, 512, buf), ==, 0);
    g_assert_cmpint(blk_co_pread(blk, 512, 1024, buf), ==, 0);
    g_assert_cmpint(blk_co_pwrite(blk, 8192, 4096, buf), ==, 0);
    g_assert_cmpint(blk_co_pwrite(blk, 0, 512, buf), ==, 0);
    g_assert_cmpint(blk_co_pwrite(blk, 65536, 512, buf), ==, -EIO);
    g_assert_cmpint(blk_co_flush(blk), ==, 0);
    bdrv_co_move_to(main_aio_context());

    list = qmp_query_blockstats(false, false, NULL);
    g_assert_cmpstr(list->value->qdev, ==, "vd0");
    g_assert_cmpstr(list->value->node_name, ==, "f");
    s = list->value->stats;
    g_assert_cmpint(s->rd_operations, ==, 2);
    g_assert_cmpint(s->rd_bytes, ==, 1536);
    g_assert_cmpint(s->wr_operations, ==, 2);
    g_assert_cmpint(s->wr_bytes, ==, 4608);
    g_assert_cmpint(s->failed_wr_operations, ==, 1);
    g_assert_cmpint(s->flush_operations, ==, 1);
    g_assert_cmpint(s->unmap_operations, ==, 0);
    g_assert_cmpint(s->wr_highest_offset, ==, 12288);
    g_assert_cmpint(s->rd_total_time_ns, >, 0);
    g_assert_true(s->has_idle_time_ns);
    qapi_free_BlockStatsList(list);

    list = qmp_query_blockstats(true, true, NULL);
    g_assert_null(list->next);
    g_assert_null(list->value->qdev);
    g_assert_cmpint(list->value->stats->rd_operations, ==, 2);
    qapi_free_BlockStatsList(list);
    blk_co_free(blk);
    del_is("f", NULL);
}

static void add_tests(void)
{
    g_test_add_func("/block/qmp/stats", test_stats);
    g_test_add_func("/block/qmp/add-del", test_add_del);
    g_test_add_func("/block/qmp/query", test_query);
    g_test_add_func("/block/qmp/backing-options", test_backing_options);
    g_test_add_func("/block/format", test_format);
}

int main(int argc, char **argv)
{
    return test_run(argc, argv, add_tests);
}
