/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QMP sessions over real sockets, with handlers of the test's own: negotiation, errors, ids,
 * recovery from garbage, limits, how replies look.
 */
#include "tests/unit/qmp-test.h"

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

static int readers_begun, readers_ended;

/* Reads without printing until somebody ends it. */
static void coroutine_fn cmd_read(HMPSession *s, const HMPArgs *args)
{
    bool ended;

    hmp_set_reader(s, &ended);
    readers_begun++;
    while (!ended) {
        co_sleep_ns(0);
    }
    readers_ended++;
}

/* A client that goes away ends what only reads for it, be it at work or yet to come. */
static void test_hmp_client_gone(void)
{
    static const HMPCommand table[] = {{"read", "", "", "read", cmd_read}, {0}};
    static const HMPCommand *const tables[] = {table};
    TestClient *c;

    setup();
    hmp_set_tables(tables, 1);
    c = client_ready();
    client_send(c, "{'execute':'human-monitor-command','arguments':{'command-line':'read'}}"
                   "{'execute':'human-monitor-command','arguments':{'command-line':'read'}}");
    poll_until(readers_begun == 1);
    g_assert_cmpint(readers_ended, ==, 0);
    client_free(c);
    poll_until(readers_ended == readers_begun);
    teardown();
    g_assert_cmpint(readers_ended, ==, readers_begun);
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
    g_test_add_func("/qmp/pretty", test_pretty);
    g_test_add_func("/qmp/human-monitor-command", test_hmp_command);
    g_test_add_func("/qmp/hmp-client-gone", test_hmp_client_gone);
    return g_test_run();
}
