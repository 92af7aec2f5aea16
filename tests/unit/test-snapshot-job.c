/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The snapshot jobs on a fake machine, through the QMP handlers: what was saved comes back,
 * whole or in parts that have changed.
 */
#include "snapshot-job-test.h"

static strList devices_d0_d1 = {&(strList){NULL, (char *)"d1"}, (char *)"d0"};

static void coroutine_fn roundtrip(bool lazy, SnapshotMode mode, bool compress)
{
    g_autofree char *p0 = make_image("a.qcow2"), *p1 = make_image("b.qcow2");
    BlockDriverState *d0 = open_image("d0", p0), *d1 = open_image("d1", p1);
    GError *err = NULL;
    SnapshotStats st;

    fake_start();
    assert_guest_runs();
    for (int round = 0; round < 3; round++) {
        g_autofree char *tag = g_strdup_printf("t%d", round);

        write_disk(d0, 10 + round);
        write_disk(d1, 20 + round);
        fake.dev.value = 1000 + round;
        clear_events();
        qmp_snapshot_save("s", tag, "d0", &devices_d0_d1, true, mode, true, compress, false, 0,
                          &err);
        g_assert_no_error(err);
        g_assert_null(finish("s", &st));
        assert_events("s:created s:running STOP RESUME s:waiting s:pending s:concluded s:null");
        g_assert_true(st.has_mode && st.mode == mode);
        g_assert_cmpuint(st.bytes_written, >, 1 << 20);
        g_assert_cmpuint(st.throughput, >, 0);
        g_assert_cmpuint(st.downtime_us, >, 0);
        g_assert_cmpint(st.has_compressed_size, ==, compress);
        if (compress) {
            g_assert_cmpuint(st.compressed_bytes, >, 1 << 20);
            g_assert_cmpuint(st.compressed_size, <, st.compressed_bytes / 4);
        }
        assert_guest_runs();
    }
    write_disk(d0, 99);
    write_disk(d1, 99);
    fake.dev.value = 5;
    for (int round = 2; round >= 0; round--) {
        g_autofree char *tag = g_strdup_printf("t%d", round);

        pause_guest();
        clear_events();
        g_assert_null(load_and_finish(tag, &devices_d0_d1, lazy, &st));
        g_assert_cmpint(st.lazy, ==, lazy && ram_load_can_be_lazy(NULL));
        assert_events("l:created l:running l:waiting l:pending l:concluded l:null");
        g_assert_cmpuint(fake.dev.value, ==, 1000 + round);
        g_assert_cmpint(read_disk(d0), ==, 10 + round);
        g_assert_cmpint(read_disk(d1), ==, 20 + round);
        assert_one_instant(fake.ram.host);
        g_assert_cmpint(fake.resets, ==, 3 - round);
        g_assert_cmpint(fake.loads, ==, 3 - round);
        resume_guest();
        assert_guest_runs();
    }
    for (int round = 0; round < 3; round++) {
        g_autofree char *tag = g_strdup_printf("t%d", round);

        qmp_snapshot_delete("x", tag, &devices_d0_d1, &err);
        g_assert_no_error(err);
        g_assert_null(finish("x", NULL));
    }
    g_assert_cmpint(count_snapshots(d0) + count_snapshots(d1), ==, 0);
    assert_clean(d0);
    assert_clean(d1);
    fake_stop();
    close_node(d0);
    close_node(d1);
}

TEST_CO(test_roundtrip_lazy)
{
    roundtrip(true, SNAPSHOT_MODE_LIVE, false);
}

TEST_CO(test_roundtrip_lazy_packed)
{
    roundtrip(true, SNAPSHOT_MODE_LIVE, true);
}

TEST_CO(test_roundtrip_eager)
{
    roundtrip(false, SNAPSHOT_MODE_STOP, false);
}

TEST_CO(test_roundtrip_eager_packed)
{
    roundtrip(false, SNAPSHOT_MODE_STOP, true);
}

/* A load into a running guest: it goes on, on the loaded state. */
TEST_CO(test_load_running)
{
    g_autofree char *p0 = make_image("a.qcow2");
    BlockDriverState *d0 = open_image("d0", p0);

    fake_start();
    assert_guest_runs();
    for (int i = 0; i < 5; i++) {
        g_autofree char *tag = g_strdup_printf("t%d", i);

        g_assert_null(save_and_finish(tag, &devices_d0, NULL));
        clear_events();
        g_assert_null(load_and_finish(tag, &devices_d0, true, NULL));
        assert_events("l:created l:running STOP RESUME l:waiting l:pending l:concluded l:null");
        assert_guest_runs();
    }
    assert_clean(d0);
    fake_stop();
    close_node(d0);
}

/* --- Incremental saves: the guest stands still, the test writes its RAM ------------------- */

#define NR_TAGS 4

static uint8_t *copies[NR_TAGS];

/* Saves what RAM is now as "tN"; what changed since the base must be all that is written. */
static void coroutine_fn save_copy(int n, const char *vmstate, bool shares)
{
    g_autofree char *tag = g_strdup_printf("t%d", n);
    GError *err = NULL;
    SnapshotStats st;

    g_free(copies[n]);
    copies[n] = g_memdup2(fake.ram.host, RAM_SIZE);
    qmp_snapshot_save("s", tag, vmstate, &devices_d0_d1, false, 0, false, false, false, 0, &err);
    g_assert_no_error(err);
    g_assert_null(finish("s", &st));
    g_assert_true(st.has_shared_pages);
    if (shares) {
        g_assert_cmpuint(st.shared_pages, >, NR_PAGES / 2);
        g_assert_cmpuint(st.bytes_written, <, 2 << 20);
    } else {
        g_assert_cmpuint(st.shared_pages, ==, 0);
        g_assert_cmpuint(st.bytes_written, >, RAM_SIZE / 2);
    }
}

static void coroutine_fn load_copy(int n, const char *vmstate, bool lazy)
{
    g_autofree char *tag = g_strdup_printf("t%d", n);
    GError *err = NULL;

    qmp_snapshot_load("l", tag, vmstate, &devices_d0_d1, true, lazy, &err);
    g_assert_no_error(err);
    g_assert_null(finish("l", NULL));
    g_assert_cmpmem(fake.ram.host, RAM_SIZE, copies[n], RAM_SIZE);
}

static void coroutine_fn delete_tag(int n)
{
    g_autofree char *tag = g_strdup_printf("t%d", n);
    GError *err = NULL;

    qmp_snapshot_delete("x", tag, &devices_d0_d1, &err);
    g_assert_no_error(err);
    g_assert_null(finish("x", NULL));
}

static void change_ram(int seed)
{
    for (int i = 0; i < 8; i++) {
        fake.ram.host[(seed * 131 + i * 577) % NR_PAGES * 4096 + seed % 4096]++;
    }
    memset(fake.ram.host + (seed * 67 % NR_PAGES) * 4096, 0, 4096);
}

static bool can_track(void)
{
    Uffd u;
    bool ok = uffd_open(&u, UFFD_FEATURE_PAGEFAULT_FLAG_WP, 0, NULL);

    if (ok) {
        ok = u.kernel_faults;
        uffd_close(&u);
    }
    return ok;
}

TEST_CO(test_incremental)
{
    g_autofree char *p0 = make_image("a.qcow2"), *p1 = make_image("b.qcow2");
    BlockDriverState *d0, *d1;

    if (!can_track()) {
        g_test_skip("no userfaultfd");
        return;
    }
    d0 = open_image("d0", p0);
    d1 = open_image("d1", p1);
    fake_start();
    fake.m.track_ram = true;
    pause_guest();
    for (size_t p = 0; p < NR_PAGES; p++) {
        memset(fake.ram.host + p * 4096, p % 251 + 1, p % 9 ? 4096 : 0);
    }
    save_copy(0, "d0", false);
    for (int i = 1; i < NR_TAGS; i++) {
        change_ram(i);
        save_copy(i, "d0", true);
    }
    delete_tag(1); /* in the middle of the chain */
    load_copy(2, "d0", true);
    load_copy(0, "d0", false);
    load_copy(3, "d0", true);
    delete_tag(0);
    load_copy(2, "d0", true);
    assert_clean(d0);

    /* What was loaded lazily is a base; what was read before the switch is not. */
    change_ram(9);
    save_copy(0, "d0", true);
    load_copy(3, "d0", true);
    save_copy(1, "d0", true);
    load_copy(0, "d0", true);
    memset(fake.ram.host + 17 * 4096, 0, 64 * 4096);
    delete_tag(1);
    save_copy(1, "d0", true);
    load_copy(3, "d0", true);
    delete_tag(0);
    load_copy(1, "d0", false);
    assert_clean(d0);
    change_ram(11);
    save_copy(0, "d0", false);

    /* The base is gone, or on the other node, or its name is now another's: all is written. */
    delete_tag(0);
    delete_tag(1);
    save_copy(1, "d0", false);
    save_copy(0, "d1", false);
    change_ram(10);
    delete_tag(1);
    save_copy(1, "d1", true);
    load_copy(0, "d1", true);
    load_copy(1, "d1", false);
    load_copy(3, "d0", false);

    /* Switched off: as if there were nothing of the kind. */
    delete_tag(0);
    save_copy(0, "d0", false);
    fake.m.track_ram = false;
    delete_tag(1);
    save_copy(1, "d0", false);
    delete_tag(0);
    save_copy(0, "d0", false);
    for (int i = 0; i < NR_TAGS; i++) {
        delete_tag(i);
        g_clear_pointer(&copies[i], g_free);
    }
    assert_clean(d0);
    assert_clean(d1);
    fake_stop();
    close_node(d0);
    close_node(d1);
}

static void add_tests(void)
{
    events = g_ptr_array_new_with_free_func(g_free);
    qapi_set_event_sink(event_sink);
    g_test_add_func("/snapshot-job/roundtrip/lazy", test_roundtrip_lazy);
    g_test_add_func("/snapshot-job/roundtrip/eager", test_roundtrip_eager);
    g_test_add_func("/snapshot-job/roundtrip/lazy-packed", test_roundtrip_lazy_packed);
    g_test_add_func("/snapshot-job/roundtrip/eager-packed", test_roundtrip_eager_packed);
    g_test_add_func("/snapshot-job/load-running", test_load_running);
    g_test_add_func("/snapshot-job/incremental", test_incremental);
}

int main(int argc, char **argv)
{
    return test_run(argc, argv, add_tests);
}
