/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Character devices: what users write for them, good and bad; peers that come and go;
 * the bounded queue, from any thread; the multiplexer; the terminal.
 */
#include "tests/unit/chardev-test.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "util/socket-address.h"

/* --- What users write ------------------------------------------------------------------ */

static void test_bad_specs(void)
{
    static const struct {
        const char *spec, *error;
    } cases[] = {
        {"foo", "'foo' is not a valid char driver"},
        {"foo:bar", "'foo:bar' is not a valid char driver"},
        {"null,x=1", "'null,x=1' is not a valid char driver"},
        {"unix:", "UNIX socket path '' is empty"},
        {"unix:/nonexistent/x,server=on,wait=off",
         "Failed to bind socket to /nonexistent/x: No such file or directory"},
        {"unix:/nonexistent/x", "Failed to connect to '/nonexistent/x': No such file or directory"},
        {"unix:/x,server=on,foo=1", "Invalid parameter 'foo'"},
        {"unix:/x,wait=on", "'wait' option is incompatible with socket in client connect mode"},
        {"unix:/x,server=maybe", "Parameter 'server' expects 'on' or 'off'"},
        {"unix:/x,server=on,reconnect=5",
         "'reconnect' option is incompatible with socket in server listen mode"},
        {"unix:/x,server=on,tn3270=on", "Socket option 'tn3270' is not supported"},
        {"vc", "char driver 'vc' is not supported"},
        {"tcp:", "'' is not an address: expected HOST:PORT"},
        {"tcp:localhost", "'localhost' is not an address: expected HOST:PORT"},
        {"tcp:localhost:abc,server=on",
         "address resolution failed for localhost:abc: Servname not supported for ai_socktype"},
        {"tcp:127.0.0.1:1", "Failed to connect to '127.0.0.1:1': Connection refused"},
        {"file:", "Could not open '': No such file or directory"},
        {"file:/nonexistent/x", "Could not open '/nonexistent/x': No such file or directory"},
        {"pipe:/nonexistent/x", "Could not open '/nonexistent/x': No such file or directory"},
        {"chardev:foo", "chardev \"foo\" not found"},
        {"mon:foo", "'foo' is not a valid char driver"},
    };
    g_autofree char *long_path = g_strnfill(200, 'p');
    g_autofree char *long_spec = g_strdup_printf("unix:%s,server=on,wait=off", long_path);
    g_autofree char *long_error = g_strdup_printf("UNIX socket path '%s' is too long", long_path);
    GError *err = NULL;

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_assert_null(chardev_new_from_spec("x", cases[i].spec, &err));
        g_assert_cmpstr(err->message, ==, cases[i].error);
        g_clear_error(&err);
    }
    g_assert_null(chardev_new_from_spec("x", long_spec, &err));
    g_assert_cmpstr(err->message, ==, long_error);
    g_clear_error(&err);
    g_assert_null(chardev_find("x"));
    chardev_cleanup();
}

static void test_bad_opts(void)
{
    static const struct {
        const char *opts, *error;
    } cases[] = {
        {"foo,id=a", "'foo' is not a valid char driver name"},
        {"socket", "chardev: no id specified"},
        {"null", "chardev: no id specified"},
        {"id=a", "chardev: \"a\" missing backend"},
        {"null,id=1a", "Parameter 'id' expects an identifier"},
        {"null,id=", "Parameter 'id' expects an identifier"},
        {"null,id=used", "Duplicate ID 'used' for chardev"},
        {"null,id=a,path=x", "Invalid parameter 'path'"},
        {"socket,id=a", "Exactly one of 'path', 'fd' or 'host' option required."},
        {"socket,id=a,host=h,port=1,path=x",
         "Exactly one of 'path', 'fd' or 'host' option required."},
        {"socket,id=a,host=localhost", "chardev: socket: no port given"},
        {"socket,id=a,path=x,foo=1", "Invalid parameter 'foo'"},
        {"socket,id=a,fd=777", "File descriptor '777' is not a socket"},
        {"socket,id=a,fd=0,reconnect=1",
         "'reconnect' option is incompatible with 'fd' address type"},
        {"socket,id=a,fd=0,reconnect=0",
         "'reconnect' option is incompatible with 'fd' address type"},
        {"socket,id=a,fd=x", "File descriptor named 'x' has not been found"},
        {"socket,id=a,host=h,port=1,to=70000", "port 70000 out of range"},
        {"socket,id=a,path=x,abstract=maybe", "Parameter 'abstract' expects 'on' or 'off'"},
        {"socket,id=a,path=x,tls-creds=x", "Socket option 'tls-creds' is not supported"},
        {"mux,id=a", "chardev: mux: no chardev given"},
        {"mux,id=a,chardev=zz", "mux: base chardev zz not found"},
        {"serial,id=a", "chardev: serial/tty: no device path given"},
        {"serial,id=a,path=/etc", "Could not open '/etc': Is a directory"},
        {"parallel,id=a", "char driver 'parallel' is not supported"},
        {"vc,id=a", "char driver 'vc' is not supported"},
        {"file,id=a", "chardev: file: no filename given"},
        {"pipe,id=a", "chardev: pipe: no device path given"},
        {"null,id=a,=x", "Invalid parameter ''"},
        {"null,id=a,foo", "Invalid parameter 'foo'"},
        {"null,id=a,nofoo", "Invalid parameter 'foo'"},
        {"socket,id=a,host=h,port=1,to=x", "Parameter 'to' expects a number"},
        {"socket,id=a,host=h,port=1,reconnect=x", "Parameter 'reconnect' expects a number"},
        {"ringbuf,id=a,size=x",
         "Parameter 'size' expects a non-negative number below 2^64"},
        {"ringbuf,id=a,size=3k", "size of ringbuf chardev must be power of two"},
        {"{'backend':'null'}", "Parameter 'id' is missing"},
        {"{'id':'a'}", "Parameter 'backend' is missing"},
        {"{'backend':'vc','id':'a'}", "Parameter 'backend' does not accept value 'vc'"},
        {"{'backend':'null','id':'1a'}", "Parameter 'id' expects an identifier"},
        {"{'backend':'null','id':'used'}", "Duplicate ID 'used' for chardev"},
        {"{'backend':'null','id':'a','x':[]}", "Parameter 'x' is unexpected"},
        {"{'backend':'file','id':'a'}", "Parameter 'path' is missing"},
        {"{'backend':'stdio','id':'a','signal':'on'}",
         "Invalid parameter type for 'signal', expected: boolean"},
        {"{'backend':'null','id':'a'", "JSON parse error, premature EOI"},
        {"{'backend':'null','id':'a'} x",
         "Expecting at most one JSON value"},
    };
    GError *err = NULL;

    g_assert_nonnull(chardev_new_from_opts("null,id=used", &err));
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_assert_null(chardev_new_from_opts(cases[i].opts, &err));
        g_assert_cmpstr(err->message, ==, cases[i].error);
        g_clear_error(&err);
    }
    chardev_cleanup();
}

static void test_good_opts(void)
{
    g_autofree char *path = g_build_filename(dir, "a,b", NULL);
    g_autofree char *doubled = g_build_filename(dir, "a,,b", NULL);
    g_autofree char *opts = g_strdup_printf("socket,id=s,path=%s,server,nowait", doubled);
    g_autofree char *json = g_strdup_printf(
        "{\"backend\":\"file\",\"id\":\"f\",\"path\":\"%s.log\",\"append\":true}", path);
    g_autofree char *description = g_strdup_printf("disconnected:unix:%s,server=on", path);
    GError *err = NULL;
    Chardev *chr = chardev_new_from_opts(opts, &err);

    g_assert_no_error(err);
    g_assert_cmpstr(chardev_filename(chr), ==, description);
    g_assert_cmpstr(chardev_label(chr), ==, "s");
    g_assert_true(chardev_find("s") == chr);
    g_assert_true(chardev_new_from_spec("serial0", "chardev:s", &err) == chr);
    g_assert_true(g_file_test(path, G_FILE_TEST_EXISTS));
    g_assert_nonnull(chardev_new_from_opts(json, &err));
    g_assert_no_error(err);
    g_assert_nonnull(chardev_new_from_opts("ringbuf,id=r1,size=1M,mux=off", &err));
    g_assert_no_error(err);
    g_assert_nonnull(chardev_new_from_opts("{'backend':'ringbuf','id':'r2','size':4096}", &err));
    g_assert_no_error(err);
    g_assert_nonnull(chardev_new_from_spec("n", "none", &err));
    chardev_cleanup();
    g_assert_false(g_file_test(path, G_FILE_TEST_EXISTS));
}

/* --- Sockets ----------------------------------------------------------------------------- */

static void test_server(void)
{
    Chardev *chr = new_spec("serial0", "unix:%s,server=on,wait=off", "serial");
    TestClient *a, *b;
    Front f, second;

    front_attach(&f, chr);
    memset(&second, 0, sizeof(second));
    g_assert_false(chardev_attach(chr, &front_ops, &second));
    g_assert_false(chardev_connected(chr));
    write_all(chr, "nobody hears this");
    a = connect_to("serial");
    poll_until(f.opened == 1);
    b = connect_to("serial"); /* waits in the backlog */
    client_send(a, "hello");
    poll_until(f.in->len == 5);
    write_all(chr, "for a");
    expect_bytes(a, "for a");
    client_free(a);
    poll_until(f.opened == 2);
    g_assert_cmpint(f.closed, ==, 1);
    write_all(chr, "for b");
    expect_bytes(b, "for b");
    /* Flow control: nothing is read that the front end does not take. */
    f.room = 0;
    client_send(b, "0123456789");
    aio_poll(main_aio_context(), false);
    g_assert_cmpstr(f.in->str, ==, "hello");
    f.room = 4;
    chardev_accept_input(chr);
    poll_until(f.in->len == 15);
    g_assert_cmpstr(f.in->str, ==, "hello0123456789");
    client_free(b);
    poll_until(f.closed == 2);
    front_detach(&f);
    chardev_cleanup();
}

static void test_bounded_queue(void)
{
    Chardev *chr = new_spec("serial0", "unix:%s,server=on,wait=off", "serial");
    g_autofree char *chunk = g_strnfill(10000, 'x');
    size_t sent = 0, received = 0, n;
    TestClient *c;
    Front f;

    front_attach(&f, chr);
    c = connect_to("serial");
    poll_until(f.opened);
    do {
        n = chardev_write(chr, chunk, 10000);
        sent += n;
    } while (n == 10000);
    g_assert_cmpuint(chardev_write(chr, chunk, 1), ==, 0);
    g_assert_cmpuint(chardev_pending(chr), ==, CHARDEV_QUEUE_MAX);
    aio_poll(main_aio_context(), false);
    g_assert_cmpint(f.writables, ==, 0);
    while (received < sent) {
        client_pump(c);
        received += c->in->len;
        g_string_truncate(c->in, 0);
        aio_poll(main_aio_context(), false);
    }
    g_assert_cmpuint(received, ==, sent);
    poll_until(f.writables == 1);
    write_all(chr, "more");
    expect_bytes(c, "more");
    /* A peer that goes away takes its queue with it, and the front end may go on. */
    while (chardev_write(chr, chunk, 10000) == 10000) {
    }
    client_free(c);
    poll_until(f.closed == 1);
    g_assert_cmpuint(chardev_pending(chr), ==, 0);
    g_assert_cmpint(f.writables, ==, 2);
    write_all(chr, "dropped");
    front_detach(&f);
    chardev_cleanup();
}

enum { THREAD_LINES = 5000 };

static gpointer print_lines(gpointer opaque)
{
    Chardev *chr = opaque;

    for (int i = 0; i < THREAD_LINES; i++) {
        char line[16];
        size_t len = g_snprintf(line, sizeof(line), "%06d\r\n", i), done = 0;

        /* One character at a time, as a UART does. */
        while (done < len) {
            size_t n = chardev_write(chr, line + done, 1);

            done += n;
            if (!n) {
                g_thread_yield();
            }
        }
    }
    return NULL;
}

static void test_write_from_thread(void)
{
    Chardev *chr = new_spec("serial0", "unix:%s,server=on,wait=off", "serial");
    GThread *thread;
    TestClient *c;
    Front f;

    front_attach(&f, chr);
    c = connect_to("serial");
    poll_until(f.opened);
    thread = g_thread_new("vcpu", print_lines, chr);
    for (int i = 0; i < THREAD_LINES; i++) {
        g_autofree char *expected = g_strdup_printf("%06d", i);

        client_expect(c, expected);
    }
    g_thread_join(thread);
    client_free(c);
    front_detach(&f);
    chardev_cleanup();
}

/* Another thread, because wait=on holds up this one: tries until the server is there. */
static gpointer connect_when_possible(gpointer opaque)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_snprintf(un.sun_path, sizeof(un.sun_path), "%s/%s", dir, (const char *)opaque);
    while (connect(fd, (struct sockaddr *)&un, sizeof(un)) < 0) {
        g_usleep(1000);
    }
    return client_from_fd(fd);
}

static void test_wait(void)
{
    GThread *thread = g_thread_new("client", connect_when_possible, (gpointer) "waiting");
    Chardev *chr = new_spec("first", "unix:%s,server=on", "waiting");
    TestClient *c = g_thread_join(thread);
    Front f;

    g_assert_true(chardev_connected(chr));
    front_attach(&f, chr);
    g_assert_cmpint(f.opened, ==, 1);
    write_all(chr, "welcome");
    expect_bytes(c, "welcome");
    client_free(c);
    poll_until(f.closed);
    front_detach(&f);
    chardev_cleanup();
}

static void test_client_reconnects(void)
{
    Chardev *server = new_spec("server", "unix:%s,server=on,wait=off", "s");
    Chardev *client = new_spec("client", "unix:%s,reconnect=1", "s");
    Front s, c;

    front_attach(&s, server);
    front_attach(&c, client);
    poll_until(s.opened == 1 && c.opened == 1);
    write_all(client, "ping");
    poll_until(s.in->len == 4);
    chardev_disconnect(server);
    poll_until(c.closed == 1);
    poll_until(c.opened == 2 && s.opened == 2);
    write_all(server, "pong");
    poll_until(c.in->len == 4);
    front_detach(&s);
    front_detach(&c);
    chardev_cleanup();
}

/* A name may have several addresses, and the server be at the last: the others are tried at once. */
static void test_client_tries_all(void)
{
    g_autofree char *spec = NULL;
    GError *err = NULL;
    Chardev *server = chardev_new_from_spec("server", "tcp:127.0.0.1:0,server=on,wait=off", &err);
    Chardev *client;
    Front s, c;

    g_assert_no_error(err);
    /* Without a host: the local ones of IPv6 and IPv4. */
    spec = g_strdup_printf("tcp::%d,reconnect=3600",
                           atoi(strrchr(chardev_filename(server), ':') + 1));
    client = chardev_new_from_spec("client", spec, &err);
    g_assert_no_error(err);
    front_attach(&s, server);
    front_attach(&c, client);
    poll_until(s.opened == 1 && c.opened == 1); /* within the test's time, not in an hour */
    write_all(client, "ping");
    poll_until(s.in->len == 4);
    front_detach(&s);
    front_detach(&c);
    chardev_cleanup();
}

static void test_tcp(void)
{
    GError *err = NULL;
    Chardev *server = NULL, *client;
    g_autofree char *spec = NULL;
    int port;
    Front s, c;

    for (port = 20000 + getpid() % 20000; !server && port < 65000; port++) {
        g_autofree char *listen = g_strdup_printf("tcp:127.0.0.1:%d,server=on,wait=off", port);

        g_clear_error(&err);
        server = chardev_new_from_spec("server", listen, &err);
    }
    g_assert_no_error(err);
    spec = g_strdup_printf("tcp:127.0.0.1:%d", port - 1);
    client = chardev_new_from_spec("client", spec, &err);
    g_assert_no_error(err);
    front_attach(&s, server);
    front_attach(&c, client);
    g_assert_cmpint(c.opened, ==, 1);
    write_all(client, "ping");
    poll_until(s.in->len == 4);
    write_all(server, "pong");
    poll_until(c.in->len == 4);
    front_detach(&s);
    front_detach(&c);
    chardev_cleanup();
}

/* --- Others -------------------------------------------------------------------------------- */

static void test_file(void)
{
    g_autofree char *path = g_build_filename(dir, "log", NULL);
    g_autofree char *append = g_strdup_printf("file,id=f,path=%s,append=on", path);
    g_autofree char *content = NULL;
    GError *err = NULL;
    Chardev *chr;

    chr = new_spec("f", "file:%s", "log");
    write_all(chr, "one\n");
    chardev_cleanup();
    chr = chardev_new_from_opts(append, &err);
    g_assert_no_error(err);
    write_all(chr, "two\n");
    chardev_cleanup();
    g_assert_true(g_file_get_contents(path, &content, NULL, NULL));
    g_assert_cmpstr(content, ==, "one\ntwo\n");
}

static void test_pipe(void)
{
    g_autofree char *in = g_build_filename(dir, "p.in", NULL);
    g_autofree char *out = g_build_filename(dir, "p.out", NULL);
    Chardev *chr;
    int in_fd, out_fd;
    char buf[16];
    Front f;

    g_assert_cmpint(mkfifo(in, 0600), ==, 0);
    g_assert_cmpint(mkfifo(out, 0600), ==, 0);
    chr = new_spec("p", "pipe:%s", "p");
    front_attach(&f, chr);
    g_assert_cmpint(f.opened, ==, 1);
    in_fd = open(in, O_WRONLY | O_NONBLOCK);
    out_fd = open(out, O_RDONLY | O_NONBLOCK);
    g_assert_cmpint(write(in_fd, "hello", 5), ==, 5);
    poll_until(f.in->len == 5);
    write_all(chr, "world");
    g_assert_cmpint(read(out_fd, buf, sizeof(buf)), ==, 5);
    close(in_fd);
    close(out_fd);
    front_detach(&f);
    chardev_cleanup();
}

static void test_mux(void)
{
    GError *err = NULL;
    g_autofree char *opts = g_strdup_printf("socket,id=m,path=%s/m,server=on,wait=off,mux=on", dir);
    Chardev *serial, *monitor;
    TestClient *c;
    Front s, m;

    g_assert_nonnull(chardev_new_from_opts(opts, &err));
    g_assert_no_error(err);
    monitor = chardev_find("m");
    serial = chardev_new_from_spec("serial0", "chardev:m", &err);
    g_assert_true(monitor != serial);
    front_attach(&m, monitor);
    front_attach(&s, serial);
    g_assert_cmpint(m.focus, ==, 0);
    g_assert_cmpint(s.focus, ==, 1);
    c = connect_to("m");
    poll_until(s.opened && m.opened);
    client_send(c, "abc\001cdef\001cghi");
    poll_until(s.in->len == 6);
    g_assert_cmpstr(s.in->str, ==, "abcghi");
    g_assert_cmpstr(m.in->str, ==, "def");
    /* A front that takes nothing does not hold up the keys. */
    s.room = 0;
    client_send(c, "jkl\001b\001\001");
    poll_until(s.breaks == 1);
    client_send(c, "\001h");
    poll_until((client_pump(c), strstr(c->in->str, "C-a C-a")));
    g_string_truncate(c->in, 0);
    s.room = 2;
    chardev_accept_input(serial);
    poll_until(s.in->len == 10);
    g_assert_cmpstr(s.in->str, ==, "abcghijkl\001");
    write_all(serial, "from serial,");
    write_all(monitor, "from monitor");
    expect_bytes(c, "from serial,from monitor");
    /* A front that was given back is the next one's, without the input that it has left. */
    s.room = 0;
    client_send(c, "old\001b");
    poll_until(s.breaks == 2);
    front_detach(&s);
    g_assert_true(chardev_find("m") == serial);
    front_attach(&s, serial);
    g_assert_cmpint(s.focus, ==, 1);
    client_send(c, "new");
    poll_until(s.in->len == 3);
    g_assert_cmpstr(s.in->str, ==, "new");
    client_free(c);
    poll_until(s.closed && m.closed);
    front_detach(&s);
    front_detach(&m);
    chardev_cleanup();
}

/* A full queue below wakes every front. */
static void test_mux_queue(void)
{
    GError *err = NULL;
    g_autofree char *opts = g_strdup_printf("socket,id=m,path=%s/m,server=on,wait=off,mux=on", dir);
    g_autofree char *chunk = g_strnfill(10000, 'x');
    Chardev *a, *b;
    TestClient *c;
    Front fa, fb;

    g_assert_nonnull(chardev_new_from_opts(opts, &err));
    a = chardev_find("m");
    b = chardev_find("m");
    front_attach(&fa, a);
    front_attach(&fb, b);
    c = connect_to("m");
    poll_until(fa.opened && fb.opened);
    while (chardev_write(a, chunk, 10000) == 10000) {
    }
    g_assert_cmpuint(chardev_write(b, chunk, 1), ==, 0);
    while (!fa.writables || !fb.writables) {
        client_pump(c);
        g_string_truncate(c->in, 0);
        aio_poll(main_aio_context(), false);
    }
    client_free(c);
    poll_until(fa.closed);
    front_detach(&fa);
    front_detach(&fb);
    chardev_cleanup();
}

/* What the user is told of a pseudo-terminal goes to standard output, where TAP is. */
static Chardev *new_pty(char **told)
{
    g_autofree char *path = g_build_filename(dir, "stdout", NULL);
    int saved = dup(STDOUT_FILENO), fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    GError *err = NULL;
    Chardev *chr;

    fflush(stdout);
    dup2(fd, STDOUT_FILENO);
    chr = chardev_new_from_spec("pty0", "pty", &err);
    dup2(saved, STDOUT_FILENO);
    close(saved);
    close(fd);
    g_assert_no_error(err);
    g_assert_true(g_file_get_contents(path, told, NULL, NULL));
    return chr;
}

static void test_pty(void)
{
    g_autofree char *told = NULL, *expected = NULL;
    Chardev *chr = new_pty(&told);
    int fd;
    char buf[16];
    Front f;

    expected = g_strdup_printf("char device redirected to %s (label pty0)\n",
                               chardev_filename(chr) + strlen("pty:"));
    g_assert_cmpstr(told, ==, expected);
    g_assert_true(g_str_has_prefix(chardev_filename(chr), "pty:/dev/"));
    front_attach(&f, chr);
    g_assert_cmpint(f.opened, ==, 0);
    write_all(chr, "dropped");
    fd = open(chardev_filename(chr) + strlen("pty:"), O_RDWR | O_NOCTTY | O_NONBLOCK);
    g_assert_cmpint(fd, >=, 0);
    poll_until(f.opened == 1);
    g_assert_cmpint(write(fd, "hi\r", 3), ==, 3);
    poll_until(f.in->len == 3);
    g_assert_cmpstr(f.in->str, ==, "hi\r");
    write_all(chr, "there\n");
    g_assert_cmpint(read(fd, buf, sizeof(buf)), ==, 6);
    close(fd);
    poll_until(f.closed == 1);
    front_detach(&f);
    chardev_cleanup();
}

/* --- The terminal: in a process of its own, on a pseudo-terminal ---------------------------- */

static int stdio_child(void)
{
    GError *err = NULL;
    Chardev *chr;
    Front f;

    main_aio_context_init();
    monitor_init(NULL, 0);
    chr = chardev_new_from_spec("serial0", "mon:stdio", &err);
    g_assert_no_error(err);
    front_attach(&f, chr);
    g_assert_null(chardev_new_from_spec("x", "stdio", &err));
    g_assert_cmpstr(err->message, ==, "cannot use stdio by multiple character devices");
    g_clear_error(&err);
    write_all(chr, "ready\n");
    poll_until(strchr(f.in->str, '!'));
    write_all(chr, f.in->str);
    poll_until(strchr(f.in->str, 'q'));
    front_detach(&f);
    monitor_cleanup();
    chardev_cleanup();
    return 0;
}

static void read_until(int fd, GString *out, const char *text)
{
    while (!strstr(out->str, text)) {
        char buf[256];
        ssize_t n = read(fd, buf, sizeof(buf));

        g_assert_cmpint(n, >, 0);
        g_string_append_len(out, buf, n);
    }
}

static void test_stdio(void)
{
    g_autoptr(GString) out = g_string_new(NULL);
    struct termios before, during, after;
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), slave, status;
    pid_t pid;

    g_assert_cmpint(master, >=, 0);
    g_assert_cmpint(grantpt(master) | unlockpt(master), ==, 0);
    slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
    g_assert_cmpint(tcgetattr(slave, &before), ==, 0);
    pid = fork();
    if (pid == 0) {
        dup2(slave, 0);
        dup2(slave, 1);
        execl("/proc/self/exe", "test-chardev", "--stdio-child", NULL);
        _exit(127);
    }
    read_until(master, out, "ready");
    g_assert_cmpint(tcgetattr(slave, &during), ==, 0);
    g_assert_cmpint(during.c_lflag & (ICANON | ECHO | ISIG), ==, 0);
    /* Ctrl-C goes to the guest; Ctrl-A c leads to the monitor and back. */
    g_assert_cmpint(write(master, "\003\001c", 3), ==, 3);
    read_until(master, out, "(qemu) ");
    g_assert_nonnull(strstr(out->str, "Keyframe 0.1.0 monitor - type 'help'"));
    g_assert_cmpint(write(master, "info version\r", 13), ==, 13);
    read_until(master, out, "\r\nKeyframe 0.1.0\r\r\n(qemu) ");
    /* After a stop the terminal is made raw again. */
    g_assert_cmpint(tcsetattr(slave, TCSANOW, &before), ==, 0);
    kill(pid, SIGCONT);
    do {
        g_assert_cmpint(tcgetattr(slave, &during), ==, 0);
        g_thread_yield();
    } while (during.c_lflag & ICANON);
    g_assert_cmpint(write(master, "\001cx!", 4), ==, 4);
    read_until(master, out, "\003x!");
    g_assert_cmpint(write(master, "q", 1), ==, 1);
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    g_assert_cmpint(status, ==, 0);
    g_assert_cmpint(tcgetattr(slave, &after), ==, 0);
    g_assert_cmpint(after.c_lflag, ==, before.c_lflag);
    g_assert_cmpint(after.c_iflag, ==, before.c_iflag);
    close(slave);
    close(master);
}

/* What is said of IPv4 and IPv6, '-' for nothing, and what is left. */
static void test_family(void)
{
    static const struct {
        char ipv4, ipv6;
        int family; /* -1: none */
    } cases[] = {
        {'-', '-', AF_UNSPEC}, {'1', '1', AF_UNSPEC}, {'1', '-', AF_INET}, {'-', '1', AF_INET6},
        {'0', '-', AF_INET6},  {'-', '0', AF_INET},   {'1', '0', AF_INET}, {'0', '1', AF_INET6},
        {'0', '0', -1},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        const bool ipv4 = cases[i].ipv4 == '1', ipv6 = cases[i].ipv6 == '1';
        GError *err = NULL;
        int family = -1;

        socket_family(cases[i].ipv4 == '-' ? NULL : &ipv4, cases[i].ipv6 == '-' ? NULL : &ipv6,
                      &family, &err);
        g_assert_cmpint(family, ==, cases[i].family);
        g_assert_true((family < 0) == (err != NULL));
        g_clear_error(&err);
    }
}

int main(int argc, char **argv)
{
    int ret;

    if (argc == 2 && !strcmp(argv[1], "--stdio-child")) {
        return stdio_child();
    }
    g_test_init(&argc, &argv, NULL);
    main_aio_context_init();
    dir = test_dir_new();
    g_test_add_func("/chardev/family", test_family);
    g_test_add_func("/chardev/bad-specs", test_bad_specs);
    g_test_add_func("/chardev/bad-opts", test_bad_opts);
    g_test_add_func("/chardev/good-opts", test_good_opts);
    g_test_add_func("/chardev/server", test_server);
    g_test_add_func("/chardev/bounded-queue", test_bounded_queue);
    g_test_add_func("/chardev/write-from-thread", test_write_from_thread);
    g_test_add_func("/chardev/wait", test_wait);
    g_test_add_func("/chardev/client-reconnects", test_client_reconnects);
    g_test_add_func("/chardev/client-tries-all", test_client_tries_all);
    g_test_add_func("/chardev/tcp", test_tcp);
    g_test_add_func("/chardev/file", test_file);
    g_test_add_func("/chardev/pipe", test_pipe);
    g_test_add_func("/chardev/mux", test_mux);
    g_test_add_func("/chardev/mux-queue", test_mux_queue);
    g_test_add_func("/chardev/pty", test_pty);
    g_test_add_func("/chardev/stdio", test_stdio);
    ret = g_test_run();
    test_dir_remove(dir);
    return ret;
}
