/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The run state: its table, and stop, cont, reset, shutdown and park in every order that
 * sessions and a snapshot in its own thread can bring about.
 */
#include <glib.h>
#include "hw/vm-clock.h"
#include "qapi/event.h"
#include "qapi/qapi-emit-events.h"
#include "system/cpus.h"
#include "system/run-state.h"
#include "util/aio.h"
#include "util/iothread.h"

static GString *events; /* names in order, from any thread */
static GMutex events_lock;
static int resets, exits, exit_code, goes;
static bool reset_fails;

static void sink(unsigned event, json_object *msg)
{
    json_object *name;

    json_object_object_get_ex(msg, "event", &name);
    g_mutex_lock(&events_lock);
    g_string_append_printf(events, "%s%s", events->len ? " " : "", json_object_get_string(name));
    g_mutex_unlock(&events_lock);
    json_object_put(msg);
}

static void expect_events(const char *want)
{
    g_mutex_lock(&events_lock);
    g_assert_cmpstr(events->str, ==, want);
    g_string_truncate(events, 0);
    g_mutex_unlock(&events_lock);
}

static bool coroutine_fn do_reset(GError **errp)
{
    resets++;
    if (reset_fails) {
        g_set_error_literal(errp, g_quark_from_string("test"), 0, "no");
    }
    return !reset_fails;
}

static void do_exit(int code)
{
    exits++;
    exit_code = code;
}

static void do_go_on(void)
{
    goes++;
}

static const RunStateOps ops = {.reset = do_reset, .exit = do_exit, .go_on = do_go_on};

static void sync_run(CoroutineEntry *entry)
{
    aio_co_run_sync(main_aio_context(), entry, NULL);
}

static void poll_all(void)
{
    while (aio_poll(main_aio_context(), false)) {
    }
}

static void coroutine_fn co_cont(void *opaque)
{
    GError *err = NULL;

    g_assert_true(run_state_co_cont(&err));
}

static void coroutine_fn co_cont_fails(void *opaque)
{
    GError *err = NULL;

    g_assert_false(run_state_co_cont(&err));
    g_assert_cmpstr(err->message, ==, "Resetting the Virtual Machine is required");
    g_error_free(err);
}

static void coroutine_fn co_stop(void *opaque)
{
    run_state_co_stop(RUN_STATE_PAUSED);
}

static void coroutine_fn co_reset(void *opaque)
{
    run_state_co_reset(SHUTDOWN_CAUSE_HOST_QMP_SYSTEM_RESET);
}

static void coroutine_fn co_park(void *opaque)
{
    run_state_co_park(false);
}

static void test_table(void)
{
    /* whoever can be saved can be given its state back */
    for (RunState s = 0; s < RUN_STATE__MAX; s++) {
        if (run_state_may_become(s, RUN_STATE_SAVE_VM) &&
            s != RUN_STATE_SUSPENDED && s != RUN_STATE_WATCHDOG &&
            s != RUN_STATE_GUEST_PANICKED && s != RUN_STATE_POSTMIGRATE) {
            g_assert_true(run_state_may_become(RUN_STATE_SAVE_VM, s));
            g_assert_true(run_state_may_become(RUN_STATE_RESTORE_VM, s));
        }
        /* every stopped machine can be reset */
        if (s != RUN_STATE_RUNNING && s != RUN_STATE_COLO && s != RUN_STATE_PRELAUNCH) {
            g_assert_true(run_state_may_become(s, RUN_STATE_PRELAUNCH));
        }
    }
    g_assert_false(run_state_may_become(RUN_STATE_SHUTDOWN, RUN_STATE_RUNNING));
    g_assert_false(run_state_may_become(RUN_STATE_INTERNAL_ERROR, RUN_STATE_RUNNING));
    g_assert_false(run_state_may_become(RUN_STATE_RUNNING, RUN_STATE_PRELAUNCH));
}

static void coroutine_fn co_park_load(void *opaque)
{
    run_state_co_park(true);
}

/* A machine that waits for a migration has nothing to reset; one that is there has. */
static void test_incoming(void)
{
    resets = 0;
    run_state_set_incoming(false, RUN_STATE_PRELAUNCH);
    sync_run(co_reset);
    g_assert_cmpint(run_state(), ==, RUN_STATE_INMIGRATE);
    sync_run(co_cont);
    sync_run(co_reset);
    g_assert_cmpint(run_state(), ==, RUN_STATE_INMIGRATE);
    g_assert_cmpint(resets, ==, 0);
    expect_events("RESET RESET");

    sync_run(co_park_load);
    aio_co_enter(main_aio_context(), coroutine_create(co_reset, NULL));
    poll_all();
    run_state_incoming_loaded(true);
    run_state_unpark(false);
    while (!resets) {
        aio_poll(main_aio_context(), true);
    }
    poll_all();
    g_assert_cmpint(run_state(), ==, RUN_STATE_RUNNING);
    g_assert_cmpint(resets, ==, 1);
    sync_run(co_stop);
    sync_run(co_reset);
    expect_events("RESUME RESET STOP RESET");
}

static void test_stop_cont(void)
{
    g_assert_cmpint(run_state(), ==, RUN_STATE_PRELAUNCH);
    sync_run(co_stop); /* does not run: nothing happens */
    g_assert_cmpint(run_state(), ==, RUN_STATE_PRELAUNCH);
    g_assert_false(vm_clock_running());
    sync_run(co_cont);
    sync_run(co_cont);
    g_assert_cmpint(run_state(), ==, RUN_STATE_RUNNING);
    g_assert_true(vm_clock_running());
    sync_run(co_stop);
    sync_run(co_stop);
    g_assert_cmpint(run_state(), ==, RUN_STATE_PAUSED);
    g_assert_false(vm_clock_running());
    expect_events("RESUME STOP");
}

/* Twice before it is dealt with: once. */
static gpointer ask_twice(gpointer data)
{
    run_state_request_guest_reset();
    run_state_request_guest_reset();
    return NULL;
}

static void test_reset(void)
{
    resets = 0;
    sync_run(co_reset); /* of a paused machine */
    g_assert_cmpint(run_state(), ==, RUN_STATE_PRELAUNCH);
    sync_run(co_cont);
    sync_run(co_reset);
    g_assert_cmpint(run_state(), ==, RUN_STATE_RUNNING);
    g_assert_cmpint(resets, ==, 2);
    expect_events("RESET RESUME RESET");

    g_thread_join(g_thread_new("guest", ask_twice, NULL));
    poll_all();
    g_assert_cmpint(resets, ==, 3);
    expect_events("RESET");

    reset_fails = true;
    sync_run(co_reset);
    reset_fails = false;
    g_assert_cmpint(run_state(), ==, RUN_STATE_INTERNAL_ERROR);
    sync_run(co_cont_fails);
    sync_run(co_reset);
    g_assert_cmpint(run_state(), ==, RUN_STATE_PRELAUNCH);
    sync_run(co_cont);
    expect_events("RESET STOP RESET RESUME");
}

static void test_park(void)
{
    /* a running machine */
    sync_run(co_park);
    g_assert_cmpint(run_state(), ==, RUN_STATE_SAVE_VM);
    g_assert_false(vm_clock_running());
    run_state_unpark(true);
    poll_all();
    g_assert_cmpint(run_state(), ==, RUN_STATE_RUNNING);
    g_assert_true(vm_clock_running());
    expect_events("STOP RESUME");

    /* stop while parked does not wait, and holds afterwards */
    sync_run(co_park);
    sync_run(co_stop);
    run_state_unpark(true);
    poll_all();
    g_assert_cmpint(run_state(), ==, RUN_STATE_PAUSED);
    expect_events("STOP");

    /* a stopped machine keeps its state, cont is remembered */
    sync_run(co_park);
    g_assert_cmpint(run_state(), ==, RUN_STATE_PAUSED);
    run_state_unpark(false);
    poll_all();
    g_assert_cmpint(run_state(), ==, RUN_STATE_PAUSED);
    expect_events("");
    sync_run(co_park);
    sync_run(co_cont);
    g_assert_cmpint(run_state(), ==, RUN_STATE_PAUSED);
    run_state_unpark(false);
    poll_all();
    g_assert_cmpint(run_state(), ==, RUN_STATE_RUNNING);
    expect_events("RESUME");

    /* a reset waits until the snapshot has what it wants */
    resets = 0;
    sync_run(co_park);
    aio_co_enter(main_aio_context(), coroutine_create(co_reset, NULL));
    poll_all();
    g_assert_cmpint(resets, ==, 0);
    run_state_unpark(true);
    while (!resets) {
        aio_poll(main_aio_context(), true);
    }
    poll_all();
    expect_events("STOP RESUME RESET");
}

static gpointer fail_request(gpointer data)
{
    run_state_request_io_error();
    return NULL;
}

/* A disk request fails, in a thread of the disk's. */
static void test_io_error(void)
{
    goes = 0;
    g_thread_join(g_thread_new("disk", fail_request, NULL));
    g_thread_join(g_thread_new("disk", fail_request, NULL));
    poll_all();
    g_assert_cmpint(run_state(), ==, RUN_STATE_IO_ERROR);
    g_assert_false(vm_clock_running());
    g_assert_cmpint(goes, ==, 0);
    run_state_request_io_error(); /* does not run: nothing happens */
    poll_all();
    sync_run(co_cont);
    g_assert_cmpint(goes, ==, 1);
    expect_events("STOP RESUME");

    /* parked, and stopped and continued since: it is tried again anyway */
    sync_run(co_park);
    run_state_request_io_error();
    run_state_unpark(true);
    poll_all();
    g_assert_cmpint(run_state(), ==, RUN_STATE_RUNNING);
    g_assert_cmpint(goes, ==, 2);
    run_state_request_io_error();
    sync_run(co_stop);
    sync_run(co_cont);
    poll_all();
    g_assert_cmpint(run_state(), ==, RUN_STATE_RUNNING);
    g_assert_true(vm_clock_running());
    g_mutex_lock(&events_lock);
    g_string_truncate(events, 0);
    g_mutex_unlock(&events_lock);
}

static gint rounds_left;

static void coroutine_fn park_rounds(void *opaque)
{
    for (int i = 0; i < 200; i++) {
        run_state_unpark(run_state_co_park(i & 1));
    }
    g_atomic_int_add(&rounds_left, -1);
    aio_notify(main_aio_context());
}

static void coroutine_fn stop_rounds(void *opaque)
{
    for (int i = 0; i < 200; i++) {
        run_state_co_stop(RUN_STATE_PAUSED);
        co_sleep_ns(1000);
        run_state_co_cont(NULL);
        if (i % 10 == 0) {
            run_state_request_guest_reset();
        } else if (i % 10 == 5) {
            run_state_request_io_error();
        }
    }
    g_atomic_int_add(&rounds_left, -1);
}

/* Sessions and a snapshot thread at the same time: nobody is left waiting. */
static void test_together(void)
{
    IOThread *thread = iothread_new("snapshot", NULL);

    sync_run(co_cont);
    g_atomic_int_set(&rounds_left, 3);
    aio_co_enter(iothread_context(thread), coroutine_create(park_rounds, NULL));
    aio_co_enter(main_aio_context(), coroutine_create(stop_rounds, NULL));
    aio_co_enter(main_aio_context(), coroutine_create(stop_rounds, NULL));
    while (g_atomic_int_get(&rounds_left)) {
        aio_poll(main_aio_context(), true);
    }
    poll_all();
    sync_run(co_stop);
    sync_run(co_cont);
    g_assert_cmpint(run_state(), ==, RUN_STATE_RUNNING);
    g_assert_true(vm_clock_running());
    iothread_destroy(thread);
    g_mutex_lock(&events_lock);
    g_string_truncate(events, 0);
    g_mutex_unlock(&events_lock);
}

static void test_shutdown(void)
{
    /* -no-shutdown: the guest's shutdown stops the machine for good */
    run_state_set_shutdown_action(SHUTDOWN_ACTION_PAUSE);
    run_state_request_shutdown(SHUTDOWN_CAUSE_GUEST_SHUTDOWN, 0);
    poll_all();
    g_assert_cmpint(exits, ==, 0);
    g_assert_cmpint(run_state(), ==, RUN_STATE_SHUTDOWN);
    sync_run(co_cont_fails);
    sync_run(co_reset);
    sync_run(co_cont);
    expect_events("SHUTDOWN STOP RESET RESUME");

    /* -no-reboot: a reset is a shutdown; quit exits whatever the options say */
    run_state_set_shutdown_action(SHUTDOWN_ACTION_POWEROFF);
    run_state_set_reboot_action(REBOOT_ACTION_SHUTDOWN);
    sync_run(co_reset);
    poll_all();
    g_assert_cmpint(exits, ==, 1);
    run_state_request_shutdown(SHUTDOWN_CAUSE_HOST_QMP_QUIT, 7); /* one is on its way already */
    poll_all();
    g_assert_cmpint(exits, ==, 1);
    g_assert_cmpint(exit_code, ==, 0);
    expect_events("SHUTDOWN");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    main_aio_context_init();
    events = g_string_new(NULL);
    qapi_set_event_sink(sink);
    run_state_init(&ops);
    g_assert_true(cpus_init(&rv64_accel_ops, &(CpuConfig){0}, 0, NULL));
    g_test_add_func("/run-state/table", test_table);
    g_test_add_func("/run-state/incoming", test_incoming);
    g_test_add_func("/run-state/stop-cont", test_stop_cont);
    g_test_add_func("/run-state/reset", test_reset);
    g_test_add_func("/run-state/park", test_park);
    g_test_add_func("/run-state/io-error", test_io_error);
    g_test_add_func("/run-state/together", test_together);
    g_test_add_func("/run-state/shutdown", test_shutdown);
    return g_test_run();
}
