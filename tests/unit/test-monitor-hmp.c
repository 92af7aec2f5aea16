/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The human monitor: argument parsing, line editing byte by byte, and whole sessions over
 * a socket, with commands of the test's own.
 */
#include "tests/unit/monitor-test.h"

#include "monitor/hmp-args.h"
#include "monitor/readline.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-control.h"
#include "qapi/qapi-commands-misc.h"

void coroutine_fn qmp_quit(GError **errp)
{
}

/* --- Arguments ----------------------------------------------------------------------- */

static char *describe_args(const HMPArgs *args, const char *const *names)
{
    GString *s = g_string_new(NULL);

    for (; *names; names++) {
        const char *str = hmp_arg_str(args, *names);

        g_string_append_printf(s, "%s%s=", s->len ? " " : "", *names);
        if (str) {
            g_string_append_printf(s, "<%s>", str);
        } else {
            g_string_append_printf(s, "%" G_GINT64_FORMAT, hmp_arg_int(args, *names, -99));
        }
    }
    return g_string_free(s, false);
}

static void test_args(void)
{
    static const struct {
        const char *types, *text, *result; /* result: values of a, b, d; or the message */
    } cases[] = {
        {"", "", "a=-99 b=-99 d=-99"},
        {"", " ", "a=-99 b=-99 d=-99"},
        {"", "x", "cmd: extraneous characters at the end of line"},
        {"a:s", "tag", "a=<tag> b=-99 d=-99"},
        {"a:s", "  tag  ", "a=<tag> b=-99 d=-99"},
        {"a:s", "", "cmd: string expected"},
        {"a:s", "x y", "cmd: extraneous characters at the end of line"},
        {"a:s?", "", "a=-99 b=-99 d=-99"},
        {"a:s", "\"x y\\n\\\"\\\\\"", "a=<x y\n\"\\> b=-99 d=-99"},
        {"a:s", "\"x", "cmd: string expected"},
        {"a:s", "\"x\\q\"", "cmd: string expected"},
        {"a:F", "", "cmd: filename expected"},
        {"a:B", "", "cmd: block device name expected"},
        {"a:S", " all the  rest ", "a=<all the  rest> b=-99 d=-99"},
        {"a:S", "", "cmd: string expected"},
        {"a:S?", "", "a=-99 b=-99 d=-99"},
        {"a:i", "12", "a=12 b=-99 d=-99"},
        {"a:i", "-1", "a=-1 b=-99 d=-99"},
        {"a:i", "0x10", "a=16 b=-99 d=-99"},
        {"a:i", "4294967295", "a=4294967295 b=-99 d=-99"},
        {"a:i", "5000000000", "'cmd' has failed: integer is for 32-bit values"},
        {"a:i", "x", "invalid char 'x' in expression"},
        {"a:i", "1x", "cmd: extraneous characters at the end of line"},
        {"a:l", "1 + 2*3-(4/2)%3", "a=5 b=-99 d=-99"},
        {"a:l", "0x10 | 1 & 3 ^ 2", "a=3 b=-99 d=-99"},
        {"a:l", "5--3", "a=8 b=-99 d=-99"},
        {"a:l", "~1", "a=-2 b=-99 d=-99"},
        {"a:l", "'a'+1", "a=98 b=-99 d=-99"},
        {"a:l", "-7/2", "a=-3 b=-99 d=-99"},
        {"a:l", "(-0x7fffffffffffffff-1)/-1", "a=-9223372036854775808 b=-99 d=-99"},
        {"a:l", "5%-1", "a=0 b=-99 d=-99"},
        {"a:l", "018", "cmd: extraneous characters at the end of line"},
        {"a:l", "1 +", "unexpected end of expression"},
        {"a:l", "7%0", "division by zero"},
        {"a:l", "3 * (2", "')' expected"},
        {"a:l", ")", "invalid char ')' in expression"},
        {"a:l", "'", "character constant expected"},
        {"a:l", "'ab'", "missing terminating ' character"},
        {"a:l", "$pc", "unknown register"},
        {"a:l", "((((((((((((((((((((((((((((((((((((((((", "expression is nested too deeply"},
        {"a:l", "----------------------------------------1", "expression is nested too deeply"},
        {"a:l,b:l", "4096 -1", "unexpected end of expression"},
        {"a:l,b:l,d:s", "4 16 /tmp/x", "invalid char 't' in expression"},
        {"a:l,b:l,d:s", "4 16 \"/tmp/x\"", "a=4 b=16 d=</tmp/x>"},
        {"a:i", "", "unexpected end of expression"},
        {"a:l", "5000000000", "a=5000000000 b=-99 d=-99"},
        {"a:l", "99999999999999999999", "number too large"},
        {"a:o", "1", "a=1048576 b=-99 d=-99"},
        {"a:o", "4k", "a=4096 b=-99 d=-99"},
        {"a:o", "1.5G", "a=1610612736 b=-99 d=-99"},
        {"a:o", "-1", "invalid size"},
        {"a:o", "99999999E", "invalid size"},
        {"a:o", "1Z", "cmd: extraneous characters at the end of line"},
        {"a:b", "on", "a=1 b=-99 d=-99"},
        {"a:b", "off", "a=0 b=-99 d=-99"},
        {"a:b", "maybe", "Expected 'on' or 'off'"},
        {"a:b", "", "Expected 'on' or 'off'"},
        {"d:-d,a:s?", "-d x", "a=<x> b=-99 d=1"},
        {"d:-d,a:s?", "x", "a=<x> b=-99 d=-99"},
        {"d:-d,a:s?", "-d", "a=-99 b=-99 d=1"},
        {"d:-d,b:-f,a:s", "-fd x", "a=<x> b=1 d=1"},
        {"d:-d,b:-f,a:s", "-d -f x", "a=<x> b=1 d=1"},
        {"d:-d,a:s", "-z x", "cmd: unsupported option -z"},
        {"d:-d,a:s", "-", "cmd: unsupported option -"},
        {"d:-d", "-d", "a=-99 b=-99 d=1"},
        {"a:s", "-x", "a=<-x> b=-99 d=-99"},
        {"a:s,b:i?", "x", "a=<x> b=-99 d=-99"},
        {"a:s,b:i?", "x 7", "a=<x> b=7 d=-99"},
    };
    static const char *const names[] = {"a", "b", "d", NULL};

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *message = NULL;
        g_autoptr(HMPArgs) args =
            hmp_args_parse("cmd", cases[i].types, cases[i].text, &message);
        g_autofree char *result = args ? describe_args(args, names) : g_strdup(message);

        g_assert_cmpstr(result, ==, cases[i].result);
    }
}

static void test_format(void)
{
    static const struct {
        const char *text, *result; /* count, format, size, argument; or the message */
    } cases[] = {
        {"7", "0 - 0 7"},
        {"/ 7", "1 - 0 7"},
        {"/4xw 7", "4 x 4 7"},
        {"/gd 7", "1 d 8 7"},
        {"/0c 7", "0 c 0 7"},
        {"/99999999999999999999b 7", "2147483647 - 1 7"},
        {"/z 7", "invalid char in format: 'z'"},
        {"/x8 7", "invalid char in format: '8'"},
        {"/x", "unexpected end of expression"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *message = NULL, *result = NULL;
        g_autoptr(HMPArgs) args = hmp_args_parse("cmd", "fmt:/,a:l", cases[i].text, &message);

        if (args) {
            HMPFormat f = hmp_arg_format(args, "fmt");

            result = g_strdup_printf("%d %c %d %d", (int)f.count, f.format ? f.format : '-',
                                     f.size, (int)hmp_arg_int(args, "a", -1));
        }
        g_assert_cmpstr(result ? result : message, ==, cases[i].result);
    }
}

/* --- Line editing -------------------------------------------------------------------- */

static void drop_output(void *opaque, const char *buf, size_t len)
{
}

/* Candidates for the line so far. */
static void complete(Readline *rl)
{
    static const char *const words[] = {"savevm", "savings", "stop", "dir/"};
    g_autoptr(GPtrArray) found = g_ptr_array_new();
    g_autofree char *text = readline_text(rl);

    for (size_t i = 0; i < G_N_ELEMENTS(words); i++) {
        if (g_str_has_prefix(words[i], text)) {
            g_ptr_array_add(found, (char *)words[i]);
        }
    }
    readline_complete(rl, found, 0);
}

/* Feeds keys, which end in a line; returns the last line. */
static char *type_keys(Readline *rl, const char *keys)
{
    char *line = NULL, *l;

    for (; *keys; keys++) {
        switch (readline_input(rl, *keys, &l)) {
        case READLINE_LINE:
            g_free(line);
            line = l;
            break;
        case READLINE_COMPLETE:
            complete(rl);
            break;
        default:
            break;
        }
    }
    return line;
}

static void test_readline(void)
{
    static const struct {
        const char *keys, *line;
    } cases[] = {
        {"abc\r", "abc"},
        {"abc\r\n", "abc"},
        {"\n", ""},
        {"ac\033[Db\r", "abc"},
        {"bc\001a\005d\r", "abcd"},
        {"abc\177\bX\r", "aX"},
        {"abcd\033[D\033[D\013\r", "ab"},
        {"abcd\033[D\033[D\025\r", "cd"},
        {"one two  \027three\r", "one three"},
        {"abc\033[H\033[3~\r", "bc"},
        {"abc\033[1~\004\033[4~d\r", "bcd"},
        {"abc\033OH\033[C\033[CX\033OF!\r", "abXc!"},
        {"\xc3\xa9\xc3\xa8\033[D\177\r", "\xc3\xa8"},
        {"a\xf0\x9f\x98\x80\177b\r", "ab"},
        {"\033[D\033[C\177\004\013\025\027x\r", "x"},
        {"\033[99999999999999;5Dx\r", "x"},
        {"\033\033[Ax\r", "[Ax"},
        {"sa\t\r", "sav"},
        {"save\t\r", "savevm "},
        {"st\tx\r", "stop x"},
        {"zz\t\r", "zz"},
        {"di\tx\r", "dir/x"},
        {"abc\003x\r", "x"},
        {"one\r\033[A\003two\r\033[A\033[A\r", "one"},
        {"ab\014c\r", "abc"},
        {"one\rtwo\r\033[A\r", "two"},
        {"one\rtwo\r\033[A\033[A\r", "one"},
        {"one\rtwo\rthr\033[A\033[A\033[B\033[Bee\r", "three"},
        {"one\r\020\016\016x\r", "x"},
        {"one\rtwo\rone\r\033[A\033[A\r", "two"},
    };
    static const ReadlineOps ops = {drop_output};

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        Readline *rl = readline_new(&ops, NULL, "> ", true);
        g_autofree char *line = type_keys(rl, cases[i].keys);

        g_assert_cmpstr(line, ==, cases[i].line);
        readline_free(rl);
    }
}

static void test_readline_limits(void)
{
    static const ReadlineOps ops = {drop_output};
    Readline *rl = readline_new(&ops, NULL, "> ", true);
    g_autofree char *line = NULL;

    for (int i = 0; i < 100000; i++) {
        g_assert_cmpint(readline_input(rl, 'x', &line), ==, READLINE_MORE);
    }
    g_assert_cmpint(readline_input(rl, '\r', &line), ==, READLINE_LINE);
    g_assert_cmpuint(strlen(line), ==, 4095);
    for (int i = 0; i < 1000; i++) {
        g_autofree char *text = g_strdup_printf("line %d\r", i);

        g_free(type_keys(rl, text));
    }
    g_assert_cmpuint(readline_history(rl)->len, ==, 64);
    readline_free(rl);
}

static void collect_output(void *opaque, const char *buf, size_t len)
{
    g_string_append_len(opaque, buf, len);
}

/* What reaches the terminal, in the plainest cases. */
static void test_readline_output(void)
{
    static const ReadlineOps ops = {collect_output};
    g_autoptr(GString) out = g_string_new(NULL);
    Readline *rl = readline_new(&ops, out, "> ", true);

    readline_show(rl);
    g_free(type_keys(rl, "ab\033[Dx\177\r"));
    g_assert_cmpstr(out->str, ==, "> ab\033[1Dxb\033[K\033[1D\033[1Db\033[K\033[1Db\r\n");
    g_string_truncate(out, 0);
    g_free(type_keys(rl, "sav\t\t\r"));
    g_assert_cmpstr(out->str, ==, "sav\r\nsavevm    savings   \r\n> sav\033[K"
                                   "\r\nsavevm    savings   \r\n> sav\033[K\r\n");
    g_string_truncate(out, 0);
    g_free(type_keys(rl, "ab\033[D\003\014\r"));
    g_assert_cmpstr(out->str, ==, "ab\033[1Db^C\r\n> \033[2J\033[1;1H> \r\n");
    readline_free(rl);

    /* Without editing nothing is echoed and control characters mean nothing. */
    rl = readline_new(&ops, out, "> ", false);
    g_string_truncate(out, 0);
    {
        g_autofree char *line = type_keys(rl, "a\001b\n");

        g_assert_cmpstr(line, ==, "ab");
        g_assert_cmpstr(out->str, ==, "");
    }
    readline_free(rl);
}

/* --- Sessions ------------------------------------------------------------------------ */

static CoQueue stuck;
static int stuck_left;

static void coroutine_fn cmd_stick(HMPSession *s, const HMPArgs *args)
{
    co_queue_wait(&stuck, NULL);
    stuck_left++;
    hmp_printf(s, "free\n");
}

static void coroutine_fn cmd_fail(HMPSession *s, const HMPArgs *args)
{
    GError *err = NULL;

    g_assert_false(hmp_handle_error(s, NULL));
    error_setg(&err, "Could not do '%s'", hmp_arg_str(args, "what"));
    g_assert_true(hmp_handle_error(s, err));
}

static void coroutine_fn cmd_flood(HMPSession *s, const HMPArgs *args)
{
    for (int64_t i = 0; i < hmp_arg_int(args, "n", 0); i++) {
        hmp_printf(s, "line %d of a long output\n", (int)i);
    }
}

static void give_up(void *opaque)
{
    co_queue_restart_all(&stuck);
}

static void coroutine_fn cmd_wait(HMPSession *s, const HMPArgs *args)
{
    hmp_set_interrupt(s, give_up, NULL);
    co_queue_wait(&stuck, NULL);
    hmp_printf(s, "given up\n");
}

static int reads;

/* Prints until somebody ends it. */
static void coroutine_fn cmd_read(HMPSession *s, const HMPArgs *args)
{
    bool ended;

    hmp_set_reader(s, &ended);
    while (!ended) {
        hmp_printf(s, "some bytes of a memory without end\n");
    }
    reads++;
}

static void coroutine_fn complete_fail(HMPCompletion *c, int nr)
{
    if (nr == 0) {
        hmp_complete_add(c, "hard");
        hmp_complete_add(c, "hardest");
        hmp_complete_add(c, "soft");
    } else if (nr == 1) {
        hmp_complete_add(c, hmp_complete_arg(c, 0));
    }
}

static void coroutine_fn cmd_info_status(HMPSession *s, const HMPArgs *args)
{
    hmp_printf(s, "VM status: running\n");
}

static const HMPCommand table[] = {
    {"stick", "", "", "wait", cmd_stick},
    {"fail|f", "detach:-d,what:s", "[-d] what", "fail with a message", cmd_fail, complete_fail},
    {"wait", "", "", "wait until Ctrl-C", cmd_wait},
    {"write", "on:b,file:F", "on|off file", "write a file", cmd_stick},
    {"flood", "n:i", "n", "print n lines", cmd_flood},
    {"read", "", "", "print without end", cmd_read},
    {"info status", "", "", "show the current VM status", cmd_info_status},
    {0},
};
static const HMPCommand *const tables[] = {table};

static char *dir, *path;

static void setup(void)
{
    g_autofree char *spec = NULL;
    GError *err = NULL;
    Chardev *chr;

    dir = test_dir_new();
    path = g_build_filename(dir, "hmp", NULL);
    spec = g_strdup_printf("unix:%s,server=on,wait=off", path);
    co_queue_init(&stuck);
    stuck_left = 0;
    monitor_init(tables, 1);
    chr = chardev_new_from_spec("compat_monitor0", spec, &err);
    g_assert_no_error(err);
    g_assert_true(monitor_add_hmp(chr, false, &err));
}

static void teardown(void)
{
    monitor_cleanup();
    chardev_cleanup();
    co_queue_restart_all(&stuck);
    while (aio_poll(main_aio_context(), false)) {
    }
    test_dir_remove(dir);
    g_free(path);
}

/* All up to the next prompt. */
static char *read_to_prompt(TestClient *c)
{
    char *end, *text;

    for (;;) {
        client_pump(c);
        end = strstr(c->in->str, "(qemu) ");
        if (end || c->eof) {
            break;
        }
        aio_poll(main_aio_context(), true);
    }
    g_assert_nonnull(end);
    text = g_strndup(c->in->str, end - c->in->str);
    g_string_erase(c->in, 0, end + strlen("(qemu) ") - c->in->str);
    return text;
}

static TestClient *client_greeted(void)
{
    TestClient *c = client_connect(path);
    g_autofree char *banner = read_to_prompt(c);

    g_assert_cmpstr(banner, ==, "Keyframe 0.1.0 monitor - type 'help' for more information\r\n");
    return c;
}

static void test_session(void)
{
    static const struct {
        const char *line, *output;
    } cases[] = {
        {"\n", ""},
        {"foo\n", "unknown command: 'foo'\r\n"},
        {"  info   status  \n", "VM status: running\r\n"},
        {"info foo\n", "unknown command: 'info foo'\r\n"},
        {"info status x\n", "status: extraneous characters at the end of line\r\n"
                            "Try \"help info status\" for more information\r\n"},
        {"f\n", "fail|f: string expected\r\nTry \"help f\" for more information\r\n"},
        {"fail -d it\n", "Error: Could not do 'it'\r\n"},
        {"help fail\n", "fail|f [-d] what -- fail with a message\r\n"},
        {"help f\n", "fail|f [-d] what -- fail with a message\r\n"},
        {"help info status\n", "info status  -- show the current VM status\r\n"},
        {"help foo\n", "unknown command: 'foo'\r\n"},
        {"info version\n", "Keyframe 0.1.0\r\n"},
        {"info history\n", "0: 'foo'\r\n1: '  info   status  '\r\n2: 'info foo'\r\n3: 'info status x'\r\n"
                           "4: 'f'\r\n5: 'fail -d it'\r\n6: 'help fail'\r\n7: 'help f'\r\n8: 'help info "
                           "status'\r\n9: 'help foo'\r\n10: 'info version'\r\n11: 'info history'\r\n"},
        {"? ?\n", "help|? [cmd] -- show the help\r\n"},
    };
    TestClient *c;

    setup();
    c = client_greeted();
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *output = NULL;

        client_send(c, cases[i].line);
        output = read_to_prompt(c);
        g_assert_cmpstr(output, ==, cases[i].output);
    }
    client_send(c, "help\n");
    {
        g_autofree char *help = read_to_prompt(c);

        g_assert_nonnull(strstr(help, "stick  -- wait\r\n"));
        g_assert_null(strstr(help, "info status"));
    }
    client_send(c, "info\n");
    {
        g_autofree char *help = read_to_prompt(c);

        g_assert_nonnull(strstr(help, "info status  -- show"));
        g_assert_null(strstr(help, "stick"));
    }
    client_free(c);
    teardown();
}

static void test_sessions_are_independent(void)
{
    TestClient *a, *b;

    setup();
    a = client_greeted();
    b = client_greeted();
    client_send(a, "stick\ninfo status\n");
    client_send(b, "info status\n");
    {
        g_autofree char *output = read_to_prompt(b);

        g_assert_cmpstr(output, ==, "VM status: running\r\n");
    }
    client_pump(a);
    g_assert_cmpuint(a->in->len, ==, 0);
    co_queue_restart_all(&stuck);
    {
        g_autofree char *first = read_to_prompt(a), *second = read_to_prompt(a);

        g_assert_cmpstr(first, ==, "free\r\n");
        g_assert_cmpstr(second, ==, "VM status: running\r\n");
    }
    /* One leaves in the middle of a command. */
    client_send(a, "stick\n");
    aio_poll(main_aio_context(), false);
    client_free(a);
    client_send(b, "info status\n");
    g_free(read_to_prompt(b));
    co_queue_restart_all(&stuck);
    poll_until(stuck_left == 2);
    client_free(b);
    teardown();
}

typedef struct Completed {
    const char *line, *words;
    char *found;
    uint64_t more;
} Completed;

static void coroutine_fn complete_entry(void *opaque)
{
    Completed *c = opaque;
    HMPSession hmp = {0};
    g_autoptr(GPtrArray) words = hmp_complete_line(&hmp, c->line, &c->more);
    GString *s = g_string_new(NULL);

    for (guint i = 0; i < words->len; i++) {
        g_string_append_printf(s, "%s%s", i ? " " : "", (char *)words->pdata[i]);
    }
    c->found = g_string_free(s, false);
}

static void test_completion(void)
{
    g_autofree char *file = NULL, *files = NULL, *sub = NULL, *slash = NULL, *typed = NULL;
    g_autofree char *all = NULL;
    Completed cases[] = {
        {"st", "stick"},
        {"help st", "stick"},
        {"help info st", "status"},
        {"info s", "status"},
        {"info status ", ""},
        {"help fail ", ""},
        {"f", "f fail flood"},
        {"f ", "hard hardest soft"},
        {"fail -d ha", "hard hardest"},
        {"fail soft ", "soft"},
        {"fail soft soft ", ""},
        {"nosuch ", ""},
        {"write o", "off on"},
        {"  write  on  /nosuch/dir/", ""},
        {NULL, NULL}, {NULL, NULL},
    };

    setup();
    file = g_build_filename(dir, "file-1", NULL);
    sub = g_build_filename(dir, "file-sub", NULL);
    slash = g_strconcat(sub, "/", NULL);
    g_assert_true(g_file_set_contents(file, "", 0, NULL));
    g_assert_cmpint(g_mkdir(sub, 0700), ==, 0);
    typed = g_strdup_printf("write on %s/file", dir);
    files = g_strdup_printf("%s %s", file, slash);
    all = g_strdup_printf("write on %s", slash);
    cases[G_N_ELEMENTS(cases) - 2] = (Completed){typed, files};
    cases[G_N_ELEMENTS(cases) - 1] = (Completed){all, ""};
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        aio_co_run_sync(main_aio_context(), complete_entry, &cases[i]);
        g_assert_cmpstr(cases[i].found, ==, cases[i].words);
        g_assert_cmpuint(cases[i].more, ==, 0);
        g_free(cases[i].found);
    }
    g_assert_cmpint(g_rmdir(sub), ==, 0);
    g_assert_cmpint(g_unlink(file), ==, 0);
    teardown();
}

/* Of many candidates the first in order are shown, and the last; all count for what is common. */
static void test_many_candidates(void)
{
    enum { FILES = 1000, SHOWN = 257 };
    g_autofree char *typed = NULL, *most = NULL;
    Completed c = {0};
    g_auto(GStrv) words = NULL;

    setup();
    for (int i = 0; i < FILES; i++) {
        g_autofree char *path = g_strdup_printf("%s/m-%03d", dir, i * 7 % FILES);

        g_assert_true(g_file_set_contents(path, "", 0, NULL));
    }
    c.line = typed = g_strdup_printf("write on %s/m", dir);
    aio_co_run_sync(main_aio_context(), complete_entry, &c);
    words = g_strsplit(c.found, " ", -1);
    g_assert_cmpuint(g_strv_length(words), ==, SHOWN);
    g_assert_cmpuint(c.more, ==, FILES - SHOWN);
    for (int i = 0; i < SHOWN; i++) {
        g_autofree char *path = g_strdup_printf("%s/m-%03d", dir, i < SHOWN - 1 ? i : FILES - 1);

        g_assert_cmpstr(words[i], ==, path);
    }
    g_free(c.found);
    c.line = most = g_strdup_printf("write on %s/m-9", dir);
    aio_co_run_sync(main_aio_context(), complete_entry, &c);
    g_assert_cmpuint(c.more, ==, 0);
    g_free(c.found);
    for (int i = 0; i < FILES; i++) {
        g_autofree char *path = g_strdup_printf("%s/m-%03d", dir, i);

        g_assert_cmpint(g_unlink(path), ==, 0);
    }
    teardown();
}

/* Ctrl-C ends what a command waits for; what was typed before it is void. */
static void test_interrupt(void)
{
    g_autofree char *output = NULL, *next = NULL;
    TestClient *c;

    setup();
    c = client_greeted();
    client_send(c, "wait\n");
    while (co_queue_empty(&stuck)) {
        aio_poll(main_aio_context(), true);
    }
    client_send(c, "stick\n\003info status\n");
    output = read_to_prompt(c);
    g_assert_cmpstr(output, ==, "given up\r\n");
    next = read_to_prompt(c);
    g_assert_cmpstr(next, ==, "VM status: running\r\n");
    client_free(c);
    teardown();
}

/* Far more output than any queue holds, for a client that reads late. */
static void test_long_output(void)
{
    enum { LINES = 100 * 1000 };
    TestClient *c, *other;

    setup();
    c = client_greeted();
    other = client_greeted();
    client_send(c, "flood 100000\n");
    client_send(other, "info status\n");
    g_free(read_to_prompt(other));
    {
        g_autofree char *output = read_to_prompt(c);
        g_autofree char *last = g_strdup_printf("line %d of a long output\r\n", LINES - 1);

        g_assert_true(g_str_has_prefix(output, "line 0 of"));
        g_assert_true(g_str_has_suffix(output, last));
    }
    client_free(c);
    client_free(other);
    teardown();
}

/* A user who goes away ends what only reads for him, and nothing else. */
static void test_user_gone(void)
{
    TestClient *reader, *writer;

    setup();
    reads = 0;
    reader = client_greeted();
    writer = client_greeted();
    client_send(writer, "wait\n");
    while (co_queue_empty(&stuck)) {
        aio_poll(main_aio_context(), true);
    }
    client_free(writer);
    client_send(reader, "read\n");
    for (client_pump(reader); !strstr(reader->in->str, "memory"); client_pump(reader)) {
        aio_poll(main_aio_context(), true);
    }
    g_assert_cmpint(reads, ==, 0);
    client_free(reader);
    poll_until(reads == 1);
    g_assert_false(co_queue_empty(&stuck));
    teardown();
}

/* A user who types no more has all lines run, and their output, then the connection ends. */
static void test_input_ends(void)
{
    TestClient *c;

    setup();
    c = client_greeted();
    client_send(c, "stick\nstick\ninfo status\nhalf a li");
    g_assert_cmpint(shutdown(c->fd, SHUT_WR), ==, 0);
    for (int i = 0; i < 2; i++) {
        g_autofree char *output = NULL;

        while (co_queue_empty(&stuck)) {
            aio_poll(main_aio_context(), true);
        }
        co_queue_restart_all(&stuck);
        output = read_to_prompt(c);
        g_assert_cmpstr(output, ==, "free\r\n");
    }
    {
        g_autofree char *output = read_to_prompt(c);

        g_assert_cmpstr(output, ==, "VM status: running\r\n");
    }
    g_assert_null(client_line(c));
    client_free(c);
    teardown();
}

static void coroutine_fn line_entry(void *opaque)
{
    char **text = opaque;

    *text = qmp_human_monitor_command(*text, false, 0, NULL);
}

/* The output that a line has without a session is bounded, and says when it is cut. */
static void test_cut_output(void)
{
    static const struct {
        const char *line;
        bool cut;
    } cases[] = {{"read", true}, {"flood 700000", true}, {"flood 1000", false}};

    setup();
    reads = 0;
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        char *text = (char *)cases[i].line;
        size_t len;

        aio_co_run_sync(main_aio_context(), line_entry, &text);
        len = strlen(text);
        g_assert_cmpuint(len, <, HMP_OUTPUT_MAX + 64);
        g_assert_true(g_str_has_suffix(text, "\n(cut)\r\n") == cases[i].cut);
        g_assert_true((len > HMP_OUTPUT_MAX - 64) == cases[i].cut);
        g_free(text);
    }
    g_assert_cmpint(reads, ==, 1);
    teardown();
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    main_aio_context_init();
    g_test_add_func("/hmp/args", test_args);
    g_test_add_func("/hmp/format", test_format);
    g_test_add_func("/hmp/readline", test_readline);
    g_test_add_func("/hmp/readline-limits", test_readline_limits);
    g_test_add_func("/hmp/readline-output", test_readline_output);
    g_test_add_func("/hmp/session", test_session);
    g_test_add_func("/hmp/independent-sessions", test_sessions_are_independent);
    g_test_add_func("/hmp/completion", test_completion);
    g_test_add_func("/hmp/many-candidates", test_many_candidates);
    g_test_add_func("/hmp/interrupt", test_interrupt);
    g_test_add_func("/hmp/long-output", test_long_output);
    g_test_add_func("/hmp/user-gone", test_user_gone);
    g_test_add_func("/hmp/cut-output", test_cut_output);
    g_test_add_func("/hmp/input-ends", test_input_ends);
    return g_test_run();
}
