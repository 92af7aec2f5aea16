/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QMP sessions over real sockets, with handlers of the test's own: negotiation, errors,
 * ids, recovery from garbage, sessions beside each other, out-of-band, back-pressure,
 * disconnection and events.
 */
#include "tests/unit/monitor-test.h"

#include "qapi/json-stream.h"
#include "qapi/error.h"
#include "qapi/event.h"
#include "qapi/qapi-events-block-core.h"
#include "qapi/qapi-commands-control.h"
#include "qapi/qapi-commands-misc.h"
#include "qapi/qmp.h"

#define OK_STATUS "{\"return\": {\"status\": \"running\", \"running\": true}}"
#define ERR(text) "{\"error\": {\"class\": \"GenericError\", \"desc\": \"" text "\"}}"

static CoQueue stuck;
static int stuck_entered, stuck_left;
static size_t big_size;

void coroutine_fn qmp_quit(GError **errp)
{
}

static bool cmd_status(json_object *args, json_object **ret, GError **errp)
{
    if (args && json_object_object_length(args)) {
        error_setg(errp, "Parameter 'a' is unexpected");
        return false;
    }
    *ret = json_object_new_object();
    json_object_object_add(*ret, "status", json_object_new_string("running"));
    json_object_object_add(*ret, "running", json_object_new_boolean(true));
    return true;
}

static bool coroutine_fn cmd_stick(json_object *args, json_object **ret, GError **errp)
{
    stuck_entered++;
    co_queue_wait(&stuck, NULL);
    stuck_left++;
    *ret = json_object_new_object();
    return true;
}

static bool cmd_unstick(json_object *args, json_object **ret, GError **errp)
{
    co_queue_restart_all(&stuck);
    *ret = json_object_new_object();
    return true;
}

static int spun;

/* Works for a millisecond. */
static bool cmd_spin(json_object *args, json_object **ret, GError **errp)
{
    int64_t start = clock_now_ns();

    while (clock_now_ns() - start < 1000 * 1000) {
    }
    spun++;
    *ret = json_object_new_object();
    return true;
}

static bool cmd_big(json_object *args, json_object **ret, GError **errp)
{
    g_autofree char *text = g_strnfill(big_size, 'x');

    *ret = json_object_new_string(text);
    return true;
}

static bool cmd_echo(json_object *args, json_object **ret, GError **errp)
{
    *ret = json_object_get(args);
    return true;
}

static bool coroutine_fn cmd_hmp(json_object *args, json_object **ret, GError **errp)
{
    json_object *line;
    char *out;

    json_object_object_get_ex(args, "command-line", &line);
    out = qmp_human_monitor_command(json_object_get_string(line), false, 0, errp);
    *ret = json_object_new_string(out);
    g_free(out);
    return true;
}

static const QmpCommand commands[] = {
    {"qmp_capabilities", qmp_marshal_qmp_capabilities, 0},
    {"query-version", qmp_marshal_query_version, 0},
    {"query-commands", qmp_marshal_query_commands, 0},
    {"query-status", cmd_status, 0},
    {"stick", cmd_stick, 0},
    {"unstick", cmd_unstick, QMP_CMD_ALLOW_OOB},
    {"big", cmd_big, 0},
    {"spin", cmd_spin, 0},
    {"echo", cmd_echo, 0},
    {"human-monitor-command", cmd_hmp, 0},
    {NULL},
};

/* --- Fixture ------------------------------------------------------------------------- */

static char *dir;
static char *path;

static void setup_with(bool pretty)
{
    g_autofree char *spec = NULL;
    GError *err = NULL;
    Chardev *chr;

    dir = test_dir_new();
    path = g_build_filename(dir, "qmp", NULL);
    spec = g_strdup_printf("unix:%s,server=on,wait=off", path);
    stuck_entered = stuck_left = 0;
    co_queue_init(&stuck);
    qmp_registry_init(commands);
    monitor_init(NULL, 0);
    chr = chardev_new_from_spec("compat_monitor0", spec, &err);
    g_assert_no_error(err);
    g_assert_true(monitor_add_qmp(chr, pretty, &err));
}

static void setup(void)
{
    setup_with(false);
}

static void teardown(void)
{
    monitor_cleanup();
    chardev_cleanup();
    co_queue_restart_all(&stuck);
    while (aio_poll(main_aio_context(), false)) {
    }
    g_assert_cmpint(stuck_entered, ==, stuck_left);
    test_dir_remove(dir);
    g_free(path);
}

static TestClient *client_greeted(void)
{
    TestClient *c = client_connect(path);

    client_expect(c, "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 0, \"minor\": 2, "
                     "\"major\": 7}, \"package\": \"Keyframe 0.1.0\"}, "
                     "\"capabilities\": [\"oob\"]}}");
    return c;
}

static TestClient *client_ready(void)
{
    TestClient *c = client_greeted();

    client_ask(c, "{'execute':'qmp_capabilities'}", "{\"return\": {}}");
    return c;
}

static TestClient *client_with(const char *capability)
{
    TestClient *c = client_greeted();
    g_autofree char *text = g_strdup_printf(
        "{'execute':'qmp_capabilities','arguments':{'enable':['%s']}}", capability);

    client_ask(c, text, "{\"return\": {}}");
    return c;
}

/* --- Tests --------------------------------------------------------------------------- */

static void test_negotiation(void)
{
    static const char expecting[] =
        "{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"Expecting capabilities "
        "negotiation with 'qmp_capabilities'\"}}";
    TestClient *c;

    setup();
    c = client_greeted();
    client_ask(c, "{'execute':'query-status'}", expecting);
    client_ask(c, "{'execute':'nonsense'}", expecting);
    client_ask(c, "{'exec-oob':'qmp_capabilities'}",
               ERR("QMP input member 'exec-oob' is unexpected"));
    client_ask(c, "{'execute':'qmp_capabilities','id':[1,null,{'a':1.5}]}",
               "{\"return\": {}, \"id\": [1, null, {\"a\": 1.5}]}");
    client_ask(c, "{'execute':'qmp_capabilities'}",
               "{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"Capabilities negotiation "
               "is already complete, command ignored\"}}");
    client_ask(c, "{'execute':'query-version'}",
               "{\"return\": {\"qemu\": {\"major\": 7, \"minor\": 2, \"micro\": 0}, "
               "\"package\": \"Keyframe 0.1.0\"}}");
    client_free(c);
    teardown();
}

static void test_errors(void)
{
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"[1]", ERR("QMP input must be a JSON object")},
        {"5 ", ERR("QMP input must be a JSON object")},
        {"null ", ERR("QMP input must be a JSON object")},
        {"'abc'", ERR("QMP input must be a JSON object")},
        {"{}", ERR("QMP input lacks member 'execute'")},
        {"{'exec':'x'}", ERR("QMP input member 'exec' is unexpected")},
        {"{'execute':5}", ERR("QMP input member 'execute' must be a string")},
        {"{'execute':'query-status','arguments':5}",
         ERR("QMP input member 'arguments' must be an object")},
        {"{'execute':'query-status','arguments':null}",
         ERR("QMP input member 'arguments' must be an object")},
        {"{'execute':'query-status','foo':1,'id':7}", ERR("QMP input member 'foo' is unexpected")},
        {"{'id':7,'foo':1}",
         "{\"id\": 7, \"error\": {\"class\": \"GenericError\", \"desc\": \"QMP input member 'foo' is "
         "unexpected\"}}"},
        {"{'execute':'query-status','exec-oob':'a'}",
         ERR("QMP input member 'exec-oob' is unexpected")},
        {"{'execute':'query-status','arguments':{'a':1}}", ERR("Parameter 'a' is unexpected")},
        {"{'execute':'foo','id':'x'}",
         "{\"id\": \"x\", \"error\": {\"class\": \"CommandNotFound\", \"desc\": \"The command foo "
         "has not been found\"}}"},
        {"{'execute':'a\\tb\xc3\xa9'}",
         "{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"The command a\\tb\\u00E9 has "
         "not been found\"}}"},
    };
    TestClient *c;

    setup();
    c = client_ready();
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        client_send(c, cases[i].in);
        if (strstr(cases[i].in, "'foo':1,'id'")) {
            g_autofree char *line = client_line(c);

            g_assert_nonnull(strstr(line, "QMP input member 'foo' is unexpected"));
        } else {
            client_expect(c, cases[i].out);
        }
        client_ask(c, "{'execute':'query-status'}", OK_STATUS);
    }
    client_free(c);
    teardown();
}

static void test_ids(void)
{
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"1", "1"},
        {"-1", "-1"},
        {"18446744073709551615", "18446744073709551615"},
        {"9223372036854775807", "9223372036854775807"},
        {"-9223372036854775808", "-9223372036854775808"},
        {"123456789012345678901234", "1.2345678901234569e+23"},
        {"1.5", "1.5"},
        {"0.1", "0.10000000000000001"},
        {"1e5", "100000"},
        {"true", "true"},
        {"null", "null"},
        {"[]", "[]"},
        {"{}", "{}"},
        {"[[],{},1,-1]", "[[], {}, 1, -1]"},
        {"{'b':1,'a':[2]}", "{\"b\": 1, \"a\": [2]}"},
        {"'it\\'s \\\"\\\\\\/\\b\\f\\n\\r\\t'", "\"it's \\\"\\\\/\\b\\f\\n\\r\\t\""},
        {"\"\xc3\xa9\xf0\x9f\x98\x80\x7f\"", "\"\\u00E9\\uD83D\\uDE00\\u007F\""},
        {"\"\\u00e9\\ud83d\\ude00\\u0001\\u0000x\"", "\"\\u00E9\\uD83D\\uDE00\\u0001\\u0000x\""},
    };
    TestClient *c;

    setup();
    c = client_ready();
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *in = g_strdup_printf("{'execute':'echo','id':%s,'arguments':{}}\r\n",
                                              cases[i].in);
        g_autofree char *out = g_strdup_printf("{\"return\": {}, \"id\": %s}", cases[i].out);

        client_ask(c, in, out);
    }
    client_free(c);
    teardown();
}

/* Every piece of garbage, and how many error replies it makes; then all is well again. */
static void test_recovery(void)
{
    static const struct {
        const char *in, *first;
        int replies;
    } cases[] = {
        {"}", "expecting value", 1},
        {"{]", "expecting value", 1},
        {"{'a':1,}", "expecting value", 1},
        {"{'a' 1}", "missing : in object pair", 1},
        {"{'a':1 2}", "expected separator in dict", 1},
        {"[1 2]", "expected separator in list", 1},
        {"[1,]", "expecting value", 1},
        {"{1:2}", "key is not a string in object", 1},
        {"{'a':1,'a':2}", "duplicate key", 1},
        {"foo\n", "invalid keyword 'foo'", 1},
        {"tru ", "invalid keyword 'tru'", 1},
        {"@\n", "stray '@'", 1},
        {"@@@ foo\n", "stray '@'", 1},
        {"{'execute': @ 'query-status'}", "stray '@'", 2},
        {"{'execute': query-status}", "stray '-s'", 2},
        {"[01]", "stray '01'", 2},
        {"1. \n", "stray '1. '", 1},
        {"-\n\n", "stray '-\\n'", 1},
        {"\"abc\n\n", "stray '\\\"abc\\n'", 1},
        {"\xff\n", "stray '\\uFFFD'", 1},
        {"\xef\xbb\xbf\n", "stray '\\uFFFD'", 1},
        {"\"\xff\"\n", "stray '\\\"\\uFFFD'", 1},
        {"\"\xc3\"", "invalid UTF-8 sequence in string", 1},
        {"\"\xed\xa0\x80\"", "invalid UTF-8 sequence in string", 1},
        {"\"\xc0\xaf\"", "invalid UTF-8 sequence in string", 1},
        {"['a\\q']", "invalid escape sequence in string", 1},
        {"'\\ud800'", "\\\\ud800 is not a valid Unicode character", 1},
        {"'\\ud83d\\ud83d\\ude00'", "\\\\ud83d is not a valid Unicode character", 1},
        {"\"\\u12\"", "\\\\u12\\\" is not a valid Unicode character", 1},
        {"/* x */\n", "stray '/'", 1},
    };
    TestClient *c;

    setup();
    c = client_ready();
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *expected = g_strdup_printf(
            "{\"error\": {\"class\": \"GenericError\", \"desc\": \"JSON parse error, %s\"}}",
            cases[i].first);

        client_send(c, cases[i].in);
        client_expect(c, expected);
        for (int n = 1; n < cases[i].replies; n++) {
            client_expect(c, ERR("JSON parse error, expecting value"));
        }
        client_ask(c, "{'execute':'query-status'}", OK_STATUS);
    }
    client_free(c);
    teardown();
}

static void test_split_input(void)
{
    static const char text[] = "{\"execute\":\"echo\",\"arguments\":{\"a\":[1,\"\\u00e9\"]},\"id\":12}\n";
    TestClient *c;

    setup();
    c = client_ready();
    for (const char *p = text; *p; p++) {
        char one[2] = {*p, 0};

        client_send(c, one);
        aio_poll(main_aio_context(), true);
    }
    client_expect(c, "{\"return\": {\"a\": [1, \"\\u00E9\"]}, \"id\": 12}");
    /* Many requests at once come back in order, though the read-ahead is short. */
    g_autoptr(GString) many = g_string_new(NULL);
    for (int i = 0; i < 1000; i++) {
        g_string_append_printf(many, "{'execute':'echo','arguments':{},'id':%d}", i);
    }
    client_send(c, many->str);
    for (int i = 0; i < 1000; i++) {
        g_autofree char *expected = g_strdup_printf("{\"return\": {}, \"id\": %d}", i);

        client_expect(c, expected);
    }
    client_free(c);
    teardown();
}

static void test_limits(void)
{
    g_autofree char *deep = g_strnfill(JSON_MAX_NESTING + 1, '[');
    g_autofree char *chunk = g_strnfill(1024 * 1024, 'a');
    char shut[JSON_MAX_NESTING] = {0};
    TestClient *c;

    setup();
    c = client_ready();
    client_ask(c, deep, ERR("JSON nesting depth limit exceeded"));
    client_ask(c, "{'execute':'query-status'}", OK_STATUS);
    /* The deepest that is taken, read behind another request and so by the coroutine. */
    memset(shut, ']', sizeof(shut) - 1);
    g_autofree char *nested = g_strdup_printf(
        "{'execute':'query-status'}{'execute':'echo','arguments':{},'id':%.*s%s}",
        JSON_MAX_NESTING - 1, deep, shut);
    g_autofree char *echoed = g_strdup_printf("{\"return\": {}, \"id\": %.*s%s}",
                                              JSON_MAX_NESTING - 1, deep, shut);
    client_ask(c, nested, OK_STATUS);
    client_expect(c, echoed);
    /* An endless string: one error, then skipped without being kept. */
    client_send(c, "\"");
    for (int i = 0; i < 16; i++) {
        client_send(c, chunk);
    }
    client_expect(c, ERR("JSON token size limit exceeded"));
    client_send(c, "\n");
    /* Few bytes that would be much memory. */
    g_autoptr(GString) empties = g_string_new("[0");
    for (int i = 1; i < JSON_STREAM_MAX_TOKENS / 2; i++) {
        g_string_append(empties, ",0");
    }
    g_string_append_c(empties, ',');
    client_send(c, empties->str);
    client_expect(c, ERR("JSON token count limit exceeded"));
    client_ask(c, "\n{'execute':'query-status'}", OK_STATUS);
    g_assert_cmpuint(c->in->len, ==, 0);
    client_free(c);
    teardown();
}

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

/* --- The rest ------------------------------------------------------------------------ */

static void test_pretty(void)
{
    static const char *const lines[] = {"{", "    \"return\": {", "    },", "    \"id\": [",
                                        "        1,", "        {", "        }", "    ]", "}"};
    TestClient *c;

    setup_with(true);
    c = client_connect(path);
    client_expect(c, "{");
    client_expect(c, "    \"QMP\": {");
    for (int i = 0; i < 13; i++) {
        g_free(client_line(c));
    }
    client_send(c, "{'execute':'qmp_capabilities','id':[1,{}]}");
    for (size_t i = 0; i < G_N_ELEMENTS(lines); i++) {
        client_expect(c, lines[i]);
    }
    client_free(c);
    teardown();
}

static void test_hmp_command(void)
{
    TestClient *c;

    setup();
    c = client_ready();
    client_ask(c, "{'execute':'human-monitor-command','arguments':{'command-line':'foo'}}",
               "{\"return\": \"unknown command: 'foo'\\r\\n\"}");
    client_ask(c, "{'execute':'human-monitor-command','arguments':{'command-line':''}}",
               "{\"return\": \"\"}");
    client_ask(c, "{'execute':'human-monitor-command','arguments':{'command-line':'info version'}}",
               "{\"return\": \"Keyframe 0.1.0\\r\\n\"}");
    client_free(c);
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
    g_test_add_func("/qmp/negotiation", test_negotiation);
    g_test_add_func("/qmp/errors", test_errors);
    g_test_add_func("/qmp/ids", test_ids);
    g_test_add_func("/qmp/recovery", test_recovery);
    g_test_add_func("/qmp/split-input", test_split_input);
    g_test_add_func("/qmp/limits", test_limits);
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
    g_test_add_func("/qmp/pretty", test_pretty);
    g_test_add_func("/qmp/human-monitor-command", test_hmp_command);
    g_test_add_func("/qmp/single-peer", test_single_peer);
    return g_test_run();
}
