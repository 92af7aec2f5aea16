/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QMP sessions beside each other: out-of-band and side by side, back-pressure, clients that go
 * away or never read, and events.
 */
#include "tests/unit/qmp-test.h"

static void test_sessions_are_independent(void)
{
    TestClient *stuck_client, *others[50];

    setup();
    stuck_client = client_ready();
    for (size_t i = 0; i < G_N_ELEMENTS(others); i++) {
        others[i] = client_ready();
    }
    client_send(stuck_client, "{'execute':'stick'}{'execute':'query-status'}");
    poll_until(stuck_entered == 1);
    for (size_t i = 0; i < G_N_ELEMENTS(others); i++) {
        client_ask(others[i], "{'execute':'query-status'}", OK_STATUS);
    }
    client_pump(stuck_client);
    g_assert_cmpuint(stuck_client->in->len, ==, 0);
    client_ask(others[0], "{'execute':'unstick'}", "{\"return\": {}}");
    client_expect(stuck_client, "{\"return\": {}}");
    client_expect(stuck_client, OK_STATUS);
    for (size_t i = 0; i < G_N_ELEMENTS(others); i++) {
        client_free(others[i]);
    }
    client_free(stuck_client);
    teardown();
}

/* A client with much work in one go does not make the others wait for all of it. */
static void test_gives_way(void)
{
    TestClient *busy, *other;

    setup();
    busy = client_ready();
    other = client_ready();
    spun = 0;
    for (int i = 0; i < 100; i++) {
        client_send(busy, "{'execute':'spin'}");
    }
    client_ask(other, "{'execute':'query-status'}", OK_STATUS);
    g_assert_cmpint(spun, <, 50);
    for (int i = 0; i < 100; i++) {
        client_expect(busy, "{\"return\": {}}");
    }
    client_free(busy);
    client_free(other);
    teardown();
}

static void test_oob(void)
{
    TestClient *c;

    setup();
    c = client_with("oob");
    client_ask(c, "{'exec-oob':'query-status','id':1}",
               "{\"id\": 1, \"error\": {\"class\": \"GenericError\", \"desc\": \"The command "
               "query-status does not support OOB\"}}");
    client_ask(c, "{'execute':'query-status','exec-oob':'a'}",
               ERR("QMP input member 'execute' clashes with 'exec-oob'"));
    client_send(c, "{'execute':'stick','id':'in-band'}");
    poll_until(stuck_entered == 1);
    client_ask(c, "{'exec-oob':'unstick','id':'oob'}", "{\"return\": {}, \"id\": \"oob\"}");
    client_expect(c, "{\"return\": {}, \"id\": \"in-band\"}");
    client_free(c);
    teardown();
}

static void test_concurrent(void)
{
    TestClient *c;

    setup();
    c = client_with("concurrent");
    client_send(c, "{'execute':'stick','id':1}");
    poll_until(stuck_entered == 1);
    client_ask(c, "{'execute':'echo','arguments':{},'id':2}", "{\"return\": {}, \"id\": 2}");
    client_ask(c, "{'execute':'echo','arguments':{}}", "{\"return\": {}}");
    client_send(c, "{'execute':'unstick'}");
    client_expect(c, "{\"return\": {}}");
    client_expect(c, "{\"return\": {}, \"id\": 1}");
    client_free(c);
    teardown();
}

/* More requests at once than get coroutines: all are answered in the end. */
static void test_concurrent_limit(void)
{
    enum { REQUESTS = 200 };
    g_autoptr(GString) many = g_string_new(NULL);
    TestClient *c, *other;

    setup();
    c = client_with("concurrent");
    other = client_ready();
    for (int i = 0; i < REQUESTS; i++) {
        g_string_append_printf(many, "{'execute':'stick','id':%d}", i);
    }
    client_send(c, many->str);
    poll_until(stuck_entered == 65);
    client_ask(other, "{'execute':'query-status'}", OK_STATUS);
    g_assert_cmpint(stuck_entered, ==, 65);
    /* What is read ahead is bounded, too: the rest is still in the socket or in one read. */
    g_assert_cmpint(stuck_left, ==, 0);
    while (stuck_left < REQUESTS) {
        client_ask(other, "{'execute':'unstick'}", "{\"return\": {}}");
    }
    for (int i = 0; i < REQUESTS; i++) {
        g_free(client_line(c));
    }
    g_assert_cmpuint(c->in->len, ==, 0);
    client_free(c);
    client_free(other);
    teardown();
}

/* Sixty-four that are stuck side by side do not keep one out of band waiting. */
/* A client that sends no more gets all its answers, then the connection ends: "socat -". */
static void test_input_ends(void)
{
    TestClient *c, *other;

    setup();
    other = client_ready();
    c = client_ready();
    for (int i = 0; i < 20; i++) { /* more than are read ahead */
        client_send(c, "{'execute':'stick'}");
    }
    client_send(c, "{'execute':'query-status'}");
    g_assert_cmpint(shutdown(c->fd, SHUT_WR), ==, 0);
    for (int i = 1; i <= 20; i++) {
        poll_until(stuck_entered == i);
        client_ask(other, "{'execute':'unstick'}", "{\"return\": {}}");
        client_expect(c, "{\"return\": {}}");
    }
    client_expect(c, OK_STATUS);
    g_assert_null(client_line(c));
    client_free(c);
    /* Those beside the session's coroutine, too. */
    c = client_with("concurrent");
    client_send(c, "{'execute':'stick','id':1}{'execute':'query-status','id':2}");
    poll_until(stuck_entered == 21);
    g_assert_cmpint(shutdown(c->fd, SHUT_WR), ==, 0);
    g_free(client_line(c));
    client_ask(other, "{'execute':'unstick'}", "{\"return\": {}}");
    client_expect(c, "{\"return\": {}, \"id\": 1}");
    g_assert_null(client_line(c));
    client_free(c);
    /* One that has nothing to wait for. */
    c = client_ready();
    g_assert_cmpint(shutdown(c->fd, SHUT_WR), ==, 0);
    g_assert_null(client_line(c));
    client_free(c);
    client_free(other);
    teardown();
}

static void test_oob_beside_concurrent(void)
{
    TestClient *c;

    setup();
    c = client_with("concurrent','oob");
    for (int i = 0; i < 70; i++) {
        client_send(c, "{'execute':'stick','id':'in-band'}");
    }
    poll_until(stuck_entered == 65);
    client_ask(c, "{'exec-oob':'unstick','id':'oob'}", "{\"return\": {}, \"id\": \"oob\"}");
    for (int i = 0; i < 65; i++) {
        client_expect(c, "{\"return\": {}, \"id\": \"in-band\"}");
    }
    for (int i = 66; i <= 70; i++) { /* the rest has waited for its turn */
        poll_until(stuck_entered == i);
        client_ask(c, "{'exec-oob':'unstick'}", "{\"return\": {}}");
        client_expect(c, "{\"return\": {}, \"id\": \"in-band\"}");
    }
    client_free(c);
    teardown();
}

/* Read-ahead that is full just where what has arrived ends: reading goes on all the same. */
static void test_full_queue(void)
{
    TestClient *c, *other;
    g_autoptr(GString) eight = g_string_new(NULL);

    setup();
    c = client_ready();
    other = client_ready();
    client_send(c, "{'execute':'stick'}");
    poll_until(stuck_entered == 1);
    for (int i = 0; i < 8; i++) {
        g_string_append(eight, "{'execute':'query-status'}");
    }
    client_send(c, eight->str);
    client_ask(other, "{'execute':'query-status'}", OK_STATUS);
    client_ask(other, "{'execute':'unstick'}", "{\"return\": {}}");
    client_expect(c, "{\"return\": {}}");
    for (int i = 0; i < 8; i++) {
        client_expect(c, OK_STATUS);
    }
    client_ask(c, "{'execute':'query-status'}", OK_STATUS);
    client_free(c);
    client_free(other);
    teardown();
}

static void test_disconnect_in_command(void)
{
    TestClient *c, *other;

    setup();
    c = client_ready();
    other = client_ready();
    client_send(c, "{'execute':'stick'}{'execute':'stick'}");
    poll_until(stuck_entered == 1);
    client_free(c);
    client_ask(other, "{'execute':'query-status'}", OK_STATUS);
    client_ask(other, "{'execute':'unstick'}", "{\"return\": {}}");
    poll_until(stuck_left == 1);
    client_ask(other, "{'execute':'query-status'}", OK_STATUS);
    /* The second request of the client that is gone was not begun. */
    g_assert_cmpint(stuck_entered, ==, 1);
    client_free(other);
    teardown();
}

static unsigned count_sessions_result;

static void count_session(MonitorSession *s, void *opaque)
{
    count_sessions_result++;
}

static unsigned count_sessions(void)
{
    count_sessions_result = 0;
    monitor_for_each_session(&monitor_qmp, count_session, NULL);
    return count_sessions_result;
}

static size_t largest_queue;

static void look_at_queue(MonitorSession *s, void *opaque)
{
    largest_queue = MAX(largest_queue, chardev_pending(s->chr));
}

/* Asks for far more than it reads: its requests are left in the socket. */
static void test_client_that_never_reads(void)
{
    TestClient *deaf, *other;
    int sent = 0;

    setup();
    deaf = client_ready();
    other = client_ready();
    big_size = 100 * 1000;
    for (int i = 0; i < 20000; i++) {
        static const char text[] = "{'execute':'big'}";

        if (send(deaf->fd, text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
            break;
        }
        sent++;
    }
    g_assert_cmpint(sent, >, 100);
    for (int i = 0; i < 100; i++) {
        client_ask(other, "{'execute':'query-status'}", OK_STATUS);
        monitor_for_each_session(&monitor_qmp, look_at_queue, NULL);
    }
    g_assert_cmpuint(largest_queue, <=, MONITOR_QUEUE_HIGH + big_size + 100);
    /* When it reads at last, nothing is missing. */
    for (int i = 0; i < sent; i++) {
        g_autofree char *line = client_line(deaf);

        g_assert_cmpuint(strlen(line), ==, big_size + strlen("{\"return\": \"\"}"));
    }
    client_free(deaf);
    client_free(other);
    teardown();
}

/* --- Events -------------------------------------------------------------------------- */

static void emit(const char *name, const char *key, const char *value)
{
    static const QapiType empty = {0};

    if (!key) {
        qapi_event_emit(0, name, 0, &empty, NULL);
    } else {
        json_object *msg = json_object_new_object(), *data = json_object_new_object();

        json_object_object_add(data, key, json_object_new_string(value));
        json_object_object_add(msg, "event", json_object_new_string(name));
        json_object_object_add(msg, "data", data);
        qmp_event_arrived(msg);
    }
}

static void expect_event(TestClient *c, const char *tail)
{
    g_autofree char *line = client_line(c);

    g_assert_true(g_str_has_prefix(line, "{\"timestamp\": {\"seconds\": "));
    if (!g_str_has_suffix(line, tail)) {
        g_error("%s does not end in %s", line, tail);
    }
}

static gpointer emit_from_thread(gpointer opaque)
{
    for (int i = 0; i < 100; i++) {
        emit("RESUME", NULL, NULL);
    }
    return NULL;
}

static void test_events(void)
{
    TestClient *a, *b, *fresh;
    GThread *thread;

    setup();
    a = client_ready();
    b = client_ready();
    fresh = client_greeted();
    emit("STOP", NULL, NULL);
    expect_event(a, "}, \"event\": \"STOP\"}");
    expect_event(b, "}, \"event\": \"STOP\"}");
    /* Any thread may send. */
    thread = g_thread_new("events", emit_from_thread, NULL);
    for (int i = 0; i < 100; i++) {
        expect_event(a, "}, \"event\": \"RESUME\"}");
        expect_event(b, "}, \"event\": \"RESUME\"}");
    }
    g_thread_join(thread);
    /* Not before the negotiation. */
    client_ask(fresh, "{'execute':'qmp_capabilities'}", "{\"return\": {}}");
    client_free(a);
    client_free(b);
    client_free(fresh);
    teardown();
}

static void test_event_limits(void)
{
    TestClient *c;

    setup();
    c = client_ready();
    /* The first at once, of the rest the last one; apart for each id. */
    emit("VSERPORT_CHANGE", "id", "a");
    emit("VSERPORT_CHANGE", "id", "a");
    emit("VSERPORT_CHANGE", "id", "b");
    emit("BALLOON_CHANGE", "n", "1");
    emit("BALLOON_CHANGE", "n", "2");
    emit("BALLOON_CHANGE", "n", "3");
    client_expect(c, "{\"event\": \"VSERPORT_CHANGE\", \"data\": {\"id\": \"a\"}}");
    client_expect(c, "{\"event\": \"VSERPORT_CHANGE\", \"data\": {\"id\": \"b\"}}");
    client_expect(c, "{\"event\": \"BALLOON_CHANGE\", \"data\": {\"n\": \"1\"}}");
    client_ask(c, "{'execute':'query-status'}", OK_STATUS);
    client_expect(c, "{\"event\": \"VSERPORT_CHANGE\", \"data\": {\"id\": \"a\"}}");
    client_expect(c, "{\"event\": \"BALLOON_CHANGE\", \"data\": {\"n\": \"3\"}}");
    client_free(c);
    teardown();
}

static void io_error(const char *node, BlockErrorAction action)
{
    qapi_event_send_block_io_error("", node, IO_OPERATION_TYPE_READ, action, true, false, "bad");
}

static gpointer fail_often(gpointer opaque)
{
    for (int i = 0; i < GPOINTER_TO_INT(opaque); i++) {
        io_error("a", BLOCK_ERROR_ACTION_REPORT);
    }
    for (int i = 0; i < 3; i++) {
        io_error("a", BLOCK_ERROR_ACTION_STOP);
    }
    for (int i = 0; i < GPOINTER_TO_INT(opaque); i++) {
        io_error("b", BLOCK_ERROR_ACTION_REPORT);
    }
    return NULL;
}

static void expect_io_error(TestClient *c, const char *node, const char *action)
{
    g_autofree char *tail = g_strdup_printf(
        "\"event\": \"BLOCK_IO_ERROR\", \"data\": {\"device\": \"\", \"node-name\": \"%s\", "
        "\"operation\": \"read\", \"action\": \"%s\", \"nospace\": false, "
        "\"reason\": \"bad\"}}", node, action);

    expect_event(c, tail);
}

/* A disk's thread is quicker than the main thread, and its requests fail: one is enough. */
static void test_event_io_errors(void)
{
    TestClient *c;

    setup();
    c = client_ready();
    g_thread_join(g_thread_new("disk", fail_often, GINT_TO_POINTER(10000)));
    expect_io_error(c, "a", "report");
    for (int i = 0; i < 3; i++) {
        expect_io_error(c, "a", "stop");
    }
    expect_io_error(c, "b", "report");
    client_ask(c, "{'execute':'query-status'}", OK_STATUS);
    /* And again within the second. */
    g_thread_join(g_thread_new("disk", fail_often, GINT_TO_POINTER(10)));
    for (int i = 0; i < 3; i++) {
        expect_io_error(c, "a", "stop");
    }
    client_ask(c, "{'execute':'query-status'}", OK_STATUS);
    expect_io_error(c, "a", "report");
    expect_io_error(c, "b", "report");
    client_ask(c, "{'execute':'query-status'}", OK_STATUS);
    client_free(c);
    teardown();
}

/* A flood of events for one that never reads: it is given up, the other has them all. */
static void test_event_flood(void)
{
    TestClient *deaf, *other;
    int seen = 0, sent = 0;

    setup();
    deaf = client_ready();
    other = client_ready();
    while (count_sessions() == 2) {
        emit("STOP", NULL, NULL);
        sent++;
        aio_poll(main_aio_context(), false);
        while (client_has_line(other)) {
            expect_event(other, "\"event\": \"STOP\"}");
            seen++;
        }
        g_assert_cmpint(sent, <, 1000000);
    }
    while (seen < sent) {
        expect_event(other, "\"event\": \"STOP\"}");
        seen++;
    }
    client_ask(other, "{'execute':'query-status'}", OK_STATUS);
    client_free(deaf);
    client_free(other);
    teardown();
}

/* A device with one peer: a new session for each, and nothing left of the last. */
static void test_single_peer(void)
{
    GError *err = NULL;
    TestClient *c;
    int fds[2];
    Chardev *chr;
    g_autofree char *opts = NULL;

    qmp_registry_init(commands);
    monitor_init(NULL, 0);
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), ==, 0);
    opts = g_strdup_printf("socket,id=c0,fd=%d", fds[1]);
    chr = chardev_new_from_opts(opts, &err);
    g_assert_no_error(err);
    g_assert_true(monitor_add_qmp(chr, false, &err));
    g_assert_false(monitor_add_qmp(chr, false, &err));
    g_assert_cmpstr(err->message, ==, "Device 'c0' is in use");
    g_clear_error(&err);
    c = client_from_fd(fds[0]);
    g_free(client_line(c));
    client_ask(c, "{'execute':'qmp_capabilities'}", "{\"return\": {}}");
    g_assert_cmpuint(count_sessions(), ==, 1);
    client_free(c);
    poll_until(count_sessions() == 0);
    monitor_cleanup();
    chardev_cleanup();
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    main_aio_context_init();
    g_test_add_func("/qmp/independent-sessions", test_sessions_are_independent);
    g_test_add_func("/qmp/gives-way", test_gives_way);
    g_test_add_func("/qmp/oob", test_oob);
    g_test_add_func("/qmp/concurrent", test_concurrent);
    g_test_add_func("/qmp/concurrent-limit", test_concurrent_limit);
    g_test_add_func("/qmp/oob-beside-concurrent", test_oob_beside_concurrent);
    g_test_add_func("/qmp/full-queue", test_full_queue);
    g_test_add_func("/qmp/disconnect-in-command", test_disconnect_in_command);
    g_test_add_func("/qmp/never-reads", test_client_that_never_reads);
    g_test_add_func("/qmp/events", test_events);
    g_test_add_func("/qmp/event-limits", test_event_limits);
    g_test_add_func("/qmp/event-flood", test_event_flood);
    g_test_add_func("/qmp/event-io-errors", test_event_io_errors);
    g_test_add_func("/qmp/single-peer", test_single_peer);
    g_test_add_func("/qmp/input-ends", test_input_ends);
    return g_test_run();
}
