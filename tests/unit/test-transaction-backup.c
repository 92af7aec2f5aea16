/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Backups as parts of a transaction: what they copy, how they fail, are undone and refused. */
#include "transaction-test.h"

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

/* Cancelled at once, often before it could begin: when the job is over, so is all of it. */
TEST_CO(test_backup_cancelled_early)
{
    Copied c;

    copied_begin(&c, "");
    transact_is(NULL, BITMAP("add", "s", "m"));
    put(c.blk, MiB, 512, 'b');
    for (int i = 0; i < 200; i++) {
        g_autofree char *error = NULL;

        transact_is(NULL, BACKUP("'sync':'incremental','bitmap':'m','speed':1"));
        g_assert_true(job_cancel_by_id("j", false, NULL));
        error = job_result();
        g_assert_cmpstr(error, ==, "Operation canceled");
        g_assert_true(!c.s->job_type && g_queue_is_empty(&c.t->parents));
        bitmaps_are(c.s, "m:65536+");
    }
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
    g_test_add_func("/transaction/backup", test_backup);
    g_test_add_func("/transaction/backup-fails", test_backup_fails);
    g_test_add_func("/transaction/backup-undone", test_backup_undone);
    g_test_add_func("/transaction/backup-cancelled-early", test_backup_cancelled_early);
    g_test_add_func("/transaction/backup-refused", test_backup_refused);
}

int main(int argc, char **argv)
{
    int ret = test_run(argc, argv, add_tests);

    iothread_destroy(second);
    return ret;
}
