/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Snapshot jobs that are refused, fail or are cancelled at any request to the disk: no trace is
 * left, and the guest runs.  Jobs that wait for one another.
 */
#include "snapshot-job-test.h"

#define ASSERT_ERROR(call, expected)                                                         \
    do {                                                                                     \
        GError *e_ = NULL;                                                                   \
        call;                                                                                \
        g_assert_nonnull(e_);                                                                \
        g_assert_cmpstr(e_->message, ==, expected);                                          \
        g_clear_error(&e_);                                                                  \
    } while (0)

TEST_CO(test_refused)
{
    g_autofree char *p0 = make_image("a.qcow2"), *p1 = make_image("b.qcow2"),
                    *raw = test_file("r.raw", 65536, 0);
    BlockDriverState *d0 = open_image("d0", p0);
    BlockDriverState *ro = test_open("{'driver': 'qcow2', 'node-name': 'ro', 'read-only': true,"
                                     " 'file': {'driver': 'file', 'filename': '%s'}}", p1);
    BlockDriverState *rw = test_open("{'driver': 'raw', 'node-name': 'rw',"
                                     " 'file': {'driver': 'file', 'filename': '%s'}}", raw);
    strList only_rw = {NULL, (char *)"rw"}, with_rw = {&only_rw, (char *)"d0"};
    strList only_ro = {NULL, (char *)"ro"}, none = {NULL, (char *)"nope"};

    ASSERT_ERROR(save("s", "t", &devices_d0, &e_),
                 "There is no machine whose state could be saved or loaded");
    fake_start();
    ASSERT_ERROR(save("s", "t", NULL, &e_), "At least one device is required for snapshot");
    ASSERT_ERROR(save("s", "t", &none, &e_), "No block device node 'nope'");
    ASSERT_ERROR(save("s", "t", &with_rw, &e_),
                 "Device 'rw' is writable but does not support snapshots");
    ASSERT_ERROR(qmp_snapshot_save("s", "t", "ro", &only_ro, false, 0, false, false, false, 0,
                                   &e_),
                 "Device 'ro' is writable but does not support snapshots");
    ASSERT_ERROR(qmp_snapshot_save("s", "t", "zz", &devices_d0, false, 0, false, false, false, 0,
                                   &e_),
                 "vmstate block device 'zz' does not exist");
    ASSERT_ERROR(save("s", "", &devices_d0, &e_),
                 "Parameter 'tag' expects a name of 1 to 255 bytes");
    ASSERT_ERROR(save("1", "t", &devices_d0, &e_), "Invalid job ID '1'");
    g_assert_null(save_and_finish("t", &devices_d0, NULL));
    ASSERT_ERROR(save("s", "t", &devices_d0, &e_),
                 "Snapshot 't' already exists in one or more devices");
    ASSERT_ERROR(qmp_snapshot_load("l", "u", "d0", &devices_d0, false, false, &e_),
                 "Snapshot 'u' does not exist in one or more devices");
    vmstate_block(fake.m.vmstate, "a device is in the way");
    ASSERT_ERROR(save("s", "v", &devices_d0, &e_), "State blocked: a device is in the way");
    fake_stop();
    close_node(d0);
    close_node(ro);
    close_node(rw);
}

/* Devices that cannot be saved or loaded: the machine is as it was, and runs. */
TEST_CO(test_device_fails)
{
    g_autofree char *p0 = make_image("a.qcow2");
    BlockDriverState *d0 = open_image("d0", p0);

    fake_start();
    fake.dev.value = 1;
    write_disk(d0, 1);
    fake.dev.refuse_save = true;
    g_autofree char *e1 = save_and_finish("t", &devices_d0, NULL);
    g_assert_cmpstr(e1, ==, "Could not save the state of device 'dev' (instance 0): not now");
    assert_guest_runs();
    g_assert_cmpint(count_snapshots(d0), ==, 0);
    fake.dev.refuse_save = false;
    g_assert_null(save_and_finish("t", &devices_d0, NULL));

    fake.dev.value = 2;
    write_disk(d0, 2);
    for (int lazy = 0; lazy < 2; lazy++) {
        g_autofree char *e = NULL;

        fake.dev.refuse_loads = 1;
        e = load_and_finish("t", &devices_d0, lazy, NULL);
        g_assert_cmpstr(e, ==, "Section 'dev' instance 0: never");
        g_assert_cmpuint(fake.dev.value, ==, 2);
        g_assert_cmpint(read_disk(d0), ==, 2);
        assert_guest_runs();
        assert_clean(d0);
    }
    fake_stop();
    close_node(d0);
}

/* Every request to the image fails once: nothing is left behind, the guest runs. */
static void coroutine_fn failing_save(const char *iotype)
{
    for (int after = 0;; after += 1 + after / 3) {
        g_autofree char *p0 = make_image("a.qcow2");
        BlockDriverState *d0 = test_open(
            "{'driver': 'qcow2', 'node-name': 'd0', 'file': {'driver': 'blkdebug', 'image':"
            " {'driver': 'file', 'filename': '%s'}, 'inject-error': [{'iotype': '%s',"
            " 'errno': 28, 'once': true, 'after': %d}]}}", p0, iotype, after);
        g_autofree char *error = NULL;
        bool ok, either = false;

        fake_start();
        assert_guest_runs();
        error = save_and_finish("t", &devices_d0, NULL);
        ok = !error;
        if (error) {
            g_assert_nonnull(strstr(error, "No space left on device"));
            /* If that one cannot be made durable, nobody knows what the disk has. */
            either = strstr(error, "Could not update the header");
        }
        g_assert_cmpint(count_snapshots(d0), ==, ok);
        assert_guest_runs();
        fake_stop();
        close_node(d0);
        d0 = open_image("d0", p0);
        if (!either) {
            g_assert_cmpint(count_snapshots(d0), ==, ok);
            assert_clean(d0);
        }
        close_node(d0);
        if (ok) {
            g_assert_cmpint(after, >, 2);
            return;
        }
    }
}

TEST_CO(test_save_write_error)
{
    failing_save("write");
}

TEST_CO(test_save_flush_error)
{
    failing_save("flush");
}

/* Cancelled at any time: no trace. */
TEST_CO(test_cancel)
{
    g_autofree char *p0 = make_image("a.qcow2");
    BlockDriverState *d0 = test_open(
        "{'driver': 'qcow2', 'node-name': 'd0', 'file': {'driver': 'blkdebug', 'image':"
        " {'driver': 'file', 'filename': '%s'}, 'inject-error': [{'iotype': 'write',"
        " 'delay-ns': 2000000}]}}", p0);
    GError *err = NULL;
    int cancelled = 0;

    fake_start();
    assert_guest_runs();
    for (int i = 0; i < 12; i++) {
        g_autofree char *error = NULL;

        save("s", "t", &devices_d0, &err);
        g_assert_no_error(err);
        co_sleep_ns(i * 1500000LL);
        qmp_job_cancel("s", &err);
        g_clear_error(&err);
        error = finish("s", NULL);
        if (error) {
            g_assert_cmpstr(error, ==, "Operation canceled");
            cancelled++;
        } else {
            qmp_snapshot_delete("x", "t", &devices_d0, &err);
            g_assert_no_error(err);
            g_assert_null(finish("x", NULL));
        }
        g_assert_cmpint(count_snapshots(d0), ==, 0);
        assert_guest_runs();
    }
    g_assert_cmpint(cancelled, >, 2);
    assert_clean(d0);
    fake_stop();
    close_node(d0);
}

/* The second job waits in 'created'; it can be cancelled there. */
TEST_CO(test_waits_its_turn)
{
    g_autofree char *p0 = make_image("a.qcow2");
    BlockDriverState *d0 = open_image("d0", p0);
    GError *err = NULL;
    JobInfo *info;
    g_autofree char *cancelled = NULL;

    fake_start();
    assert_guest_runs();
    vm_job_mutex_lock(fake.m.job_mutex, NULL, "the test", &err);
    save("a", "t1", &devices_d0, &err);
    save("b", "t2", &devices_d0, &err);
    save("c", "t3", &devices_d0, &err);
    g_assert_no_error(err);
    do {
        co_sleep_ns(1000000);
        info = find_job("c");
        g_assert_true(info->status == JOB_STATUS_CREATED);
        if (info->waits_for) {
            g_assert_cmpstr(info->waits_for, ==, "the test");
            qapi_free_JobInfo(info);
            break;
        }
        qapi_free_JobInfo(info);
    } while (true);
    qmp_job_cancel("b", &err);
    g_assert_no_error(err);
    cancelled = finish("b", NULL);
    g_assert_cmpstr(cancelled, ==, "Operation canceled");
    vm_job_mutex_unlock(fake.m.job_mutex);
    g_assert_null(finish("a", NULL));
    g_assert_null(finish("c", NULL));
    g_assert_cmpint(count_snapshots(d0), ==, 2);
    assert_clean(d0);
    fake_stop();
    close_node(d0);
}

/* A save that begins while a lazy load fills waits for it and is right. */
TEST_CO(test_save_during_load)
{
    g_autofree char *p0 = make_image("a.qcow2");
    BlockDriverState *d0 = open_image("d0", p0);
    GError *err = NULL;

    fake_start();
    assert_guest_runs();
    g_assert_null(save_and_finish("t0", &devices_d0, NULL));
    qmp_snapshot_load("l", "t0", "d0", &devices_d0, false, false, &err);
    g_assert_no_error(err);
    save("s", "t1", &devices_d0, &err);
    g_assert_no_error(err);
    g_assert_null(finish("l", NULL));
    g_assert_null(finish("s", NULL));
    pause_guest();
    g_assert_null(load_and_finish("t1", &devices_d0, true, NULL));
    assert_one_instant(fake.ram.host);
    assert_clean(d0);
    fake_stop();
    close_node(d0);
}

static void add_tests(void)
{
    events = g_ptr_array_new_with_free_func(g_free);
    qapi_set_event_sink(event_sink);
    g_test_add_func("/snapshot-job/refused", test_refused);
    g_test_add_func("/snapshot-job/device-fails", test_device_fails);
    g_test_add_func("/snapshot-job/save-write-error", test_save_write_error);
    g_test_add_func("/snapshot-job/save-flush-error", test_save_flush_error);
    g_test_add_func("/snapshot-job/cancel", test_cancel);
    g_test_add_func("/snapshot-job/waits-its-turn", test_waits_its_turn);
    g_test_add_func("/snapshot-job/save-during-load", test_save_during_load);
}

int main(int argc, char **argv)
{
    return test_run(argc, argv, add_tests);
}
