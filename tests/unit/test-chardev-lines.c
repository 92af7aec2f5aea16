/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Character devices as lines of a terminal: the multiplexer's keys, telnet, datagrams, serial lines of
 * the host; and what the short forms say.
 */
#include "tests/unit/chardev-test.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>

#include "qapi/error.h"

/* --- Short forms --------------------------------------------------------------------------- */

/* A bad form names what is wrong with it, whatever option it is for. */
static void test_bad_forms(void)
{
    static const struct {
        const char *spec, *error;
    } cases[] = {
        {"telnet:localhost", "'localhost' is not an address: expected HOST:PORT"},
        {"telnet:127.0.0.1:1", "Failed to connect to '127.0.0.1:1': Connection refused"},
        {"telnet:127.0.0.1:1,server=on,foo=1", "Invalid parameter 'foo'"},
        {"tn3270:127.0.0.1:1", "Socket option 'tn3270' is not supported"},
        {"websocket:127.0.0.1:1", "Socket option 'websocket' is not supported"},
        {"udp:", "'' is not an address: expected [HOST]:PORT[@[ADDRESS]:PORT]"},
        {"udp:h@:1", "'h@:1' is not an address: expected [HOST]:PORT[@[ADDRESS]:PORT]"},
        {"udp:h:1@a", "'h:1@a' is not an address: expected [HOST]:PORT[@[ADDRESS]:PORT]"},
        {"udp:127.0.0.1:1,foo=1", "Invalid parameter 'foo'"},
        {"udp:127.0.0.1:x",
         "address resolution failed for 127.0.0.1:x: Servname not supported for ai_socktype"},
        {"udp:127.0.0.1:1@192.0.2.1:0", "Failed to bind socket: Cannot assign requested address"},
        {"/dev/nonexistent", "Could not open '/dev/nonexistent': No such file or directory"},
        {"/dev/fd", "Could not open '/dev/fd': Is a directory"},
        {"/dev/parport0", "char driver '/dev/parport0' is not supported"},
        {"mon:websocket:127.0.0.1:1", "Socket option 'websocket' is not supported"},
    };
    GError *err = NULL;

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_assert_null(chardev_new_from_spec("x", cases[i].spec, &err));
        g_assert_cmpstr(err->message, ==, cases[i].error);
        g_clear_error(&err);
    }
    g_assert_null(chardev_find("x"));
    chardev_cleanup();
}

/* A device that cannot be made closes nothing but what is its own. */
static void test_bad_log(void)
{
    static const char *const devices[] = {"pty", "socket,host=127.0.0.1,port=1", "udp,port=1",
                                          "serial,path=/dev/null"};
    GError *err = NULL;

    g_assert_cmpint(fcntl(0, F_GETFD), >=, 0);
    for (size_t i = 0; i < G_N_ELEMENTS(devices); i++) {
        g_autofree char *opts = g_strdup_printf("%s,id=x,logfile=/nonexistent/log", devices[i]);

        g_assert_null(chardev_new_from_opts(opts, &err));
        g_assert_nonnull(strstr(err->message, "/nonexistent/log"));
        g_clear_error(&err);
        g_assert_cmpint(fcntl(0, F_GETFD), >=, 0);
    }
    chardev_cleanup();
}

/* --- The multiplexer's keys ----------------------------------------------------------------- */

static void expect_text(TestClient *c, const char *text)
{
    poll_until((client_pump(c), strstr(c->in->str, text)));
    g_string_truncate(c->in, 0);
}

/* Says how many of the lines of text begin with a stamp, and takes the stamps away. */
static unsigned take_stamps(GString *text)
{
    g_autoptr(GRegex) stamp =
        g_regex_new("^\\[0\\d:\\d\\d:\\d\\d\\.\\d{3}\\] ", G_REGEX_MULTILINE, 0, NULL);
    g_autofree char *bare = g_regex_replace_literal(stamp, text->str, -1, 0, "", 0, NULL);
    unsigned n = (text->len - strlen(bare)) / strlen("[00:00:00.000] ");

    g_string_assign(text, bare);
    return n;
}

static void test_stamps(void)
{
    g_autofree char *opts = g_strdup_printf("socket,id=m,path=%s/m,server=on,wait=off,mux=on", dir);
    GError *err = NULL;
    TestClient *c;
    Front f;

    g_assert_nonnull(chardev_new_from_opts(opts, &err));
    front_attach(&f, chardev_find("m"));
    c = connect_to("m");
    poll_until(f.opened);
    write_all(f.chr, "begun ");
    client_send(c, "\001tx");
    poll_until(f.in->len == 1);
    write_all(f.chr, "before\nfirst\n\nthird");
    write_all(f.chr, " and its end\nlast");
    poll_until((client_pump(c), strstr(c->in->str, "last")));
    g_assert_nonnull(strstr(c->in->str, "begun before\n[00:00:00.000] first\n["));
    g_assert_cmpuint(take_stamps(c->in), ==, 4);
    expect_bytes(c, "begun before\nfirst\n\nthird and its end\nlast");
    client_send(c, "\001ty");
    poll_until(f.in->len == 2);
    write_all(f.chr, "\nno more\n");
    expect_bytes(c, "\nno more\n");
    client_free(c);
    front_detach(&f);
    chardev_cleanup();
}

static void test_help(void)
{
    g_autofree char *opts = g_strdup_printf("socket,id=m,path=%s/m,server=on,wait=off,mux=on", dir);
    GError *err = NULL;
    TestClient *c;
    Front f;

    g_assert_nonnull(chardev_new_from_opts(opts, &err));
    front_attach(&f, chardev_find("m"));
    c = connect_to("m");
    client_send(c, "\001h");
    expect_text(c, "\n\rC-a h    print this help\n\rC-a x    exit emulator\n\r"
                   "C-a s    save disk data back to file (if -snapshot)\n\r"
                   "C-a t    toggle console timestamps\n\rC-a b    send break (magic sysrq)\n\r"
                   "C-a c    switch between console and monitor\n\rC-a C-a  sends C-a\n\r");
    chardev_set_escape(0x14);
    client_send(c, "\001\024\024\024?");
    expect_text(c, "C-t C-t  sends C-t\n\r");
    poll_until(f.in->len == 2);
    g_assert_cmpstr(f.in->str, ==, "\001\024");
    chardev_set_escape(0x7f);
    client_send(c, "\177h");
    expect_text(c, "\n\rEscape-Char set to Ascii: 0x7f\n\r\n\rEscape-Char h    print this help\n\r");
    chardev_set_escape(-1);
    client_send(c, "\177h\001h");
    poll_until(f.in->len == 6);
    chardev_set_escape(1);
    client_free(c);
    front_detach(&f);
    chardev_cleanup();
}

/* --- Telnet ----------------------------------------------------------------------------------- */

static void send_bytes(TestClient *c, const void *bytes, size_t len)
{
    g_assert_cmpint(send(c->fd, bytes, len, MSG_NOSIGNAL), ==, len);
}

#define TELNET_OFFER "\xff\xfb\x01\xff\xfb\x03\xff\xfb\x00\xff\xfd\x00"

static void expect_raw(TestClient *c, const void *bytes, size_t len)
{
    poll_until((client_pump(c), c->in->len >= len));
    g_assert_cmpmem(c->in->str, c->in->len, bytes, len);
    g_string_truncate(c->in, 0);
}

static void test_telnet(void)
{
    Chardev *chr = new_spec("t", "unix:%s,server=on,wait=off,telnet=on", "t");
    TestClient *c;
    Front f;

    front_attach(&f, chr);
    c = connect_to("t");
    expect_raw(c, TELNET_OFFER, 12);
    /* Commands, with and without an option, a subnegotiation: in one piece and byte by byte. */
    send_bytes(c, "a\xff\xfd\x01\xff\xfb\x1f" "b\xff\xfa\x1f\0\x50\xff\xff\x18\xff\xf0" "c\xff\xf1" "d", 22);
    poll_until(f.in->len == 4);
    for (const char *p = "\xff\xfe\x03" "e\xff\xff" "f"; *p; p++) {
        send_bytes(c, p, 1);
        aio_poll(main_aio_context(), false);
    }
    poll_until(f.in->len == 7);
    g_assert_cmpstr(f.in->str, ==, "abcde\xff" "f");
    /* A break comes between what was sent before and behind it. */
    send_bytes(c, "g\xff\xf3h", 4);
    poll_until(f.in->len == 9);
    g_assert_cmpint(f.breaks, ==, 1);
    /* The end of a line, before the peer has agreed to send bytes as they are, and then. */
    g_string_truncate(f.in, 0);
    send_bytes(c, "\r\0\r\n\0", 5);
    send_bytes(c, "\xff\xfb\0\r\0", 5);
    poll_until(f.in->len == 6);
    g_assert_cmpmem(f.in->str, f.in->len, "\r\r\n\0\r\0", 6);
    write_all(chr, "x\xffy\xff\xffz\xff");
    expect_raw(c, "x\xff\xffy\xff\xff\xff\xffz\xff\xff", 11);
    client_free(c);
    poll_until(f.closed);
    /* The next one is greeted, too, and begins anew. */
    c = connect_to("t");
    expect_raw(c, TELNET_OFFER, 12);
    client_free(c);
    front_detach(&f);
    chardev_cleanup();
}

/* The bounded queue takes a doubled byte as a whole or not at all. */
static void test_telnet_queue(void)
{
    Chardev *chr = new_spec("t", "unix:%s,server=on,wait=off,telnet=on", "t");
    g_autofree char *chunk = g_strnfill(1001, '\xff');
    size_t sent = 0, received = 0, n;
    TestClient *c;
    Front f;

    front_attach(&f, chr);
    c = connect_to("t");
    expect_raw(c, TELNET_OFFER, 12);
    do {
        n = chardev_write(chr, chunk, 1001);
        sent += n;
    } while (n == 1001);
    g_assert_cmpuint(chardev_pending(chr), <=, CHARDEV_QUEUE_MAX);
    while (received < 2 * sent) {
        client_pump(c);
        received += c->in->len;
        g_string_truncate(c->in, 0);
        aio_poll(main_aio_context(), false);
    }
    g_assert_cmpuint(received, ==, 2 * sent);
    poll_until(f.writables == 1);
    client_free(c);
    front_detach(&f);
    chardev_cleanup();
}

/* A monitor behind a multiplexer on telnet: stamps and doubled bytes together. */
static void test_telnet_stamps(void)
{
    g_autofree char *opts =
        g_strdup_printf("socket,id=m,path=%s/m,server=on,wait=off,mux=on,telnet=on", dir);
    GError *err = NULL;
    TestClient *c;
    Front f;

    g_assert_nonnull(chardev_new_from_opts(opts, &err));
    front_attach(&f, chardev_find("m"));
    c = connect_to("m");
    expect_raw(c, TELNET_OFFER, 12);
    client_send(c, "\001tx");
    poll_until(f.in->len == 1);
    write_all(f.chr, "\n\xff" "a\n");
    expect_raw(c, "\n[00:00:00.000] \xff\xff" "a\n", 20);
    client_free(c);
    front_detach(&f);
    chardev_cleanup();
}

/* --- Datagrams -------------------------------------------------------------------------------- */

static int udp_socket(int *port)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(in);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    g_assert_cmpint(bind(fd, (struct sockaddr *)&in, sizeof(in)), ==, 0);
    g_assert_cmpint(getsockname(fd, (struct sockaddr *)&in, &len), ==, 0);
    *port = ntohs(in.sin_port);
    return fd;
}

static void test_udp(void)
{
    g_autofree char *spec = NULL, *big = g_strnfill(3000, 'b');
    struct sockaddr_storage from;
    socklen_t from_len = sizeof(from);
    GError *err = NULL;
    char buf[4096];
    Chardev *chr;
    int port, fd = udp_socket(&port);
    ssize_t n;
    Front f;

    spec = g_strdup_printf("udp:127.0.0.1:%d", port);
    chr = chardev_new_from_spec("u", spec, &err);
    g_assert_no_error(err);
    g_assert_cmpstr(chardev_filename(chr), ==, "udp");
    front_attach(&f, chr);
    g_assert_cmpint(f.opened, ==, 1);
    write_all(chr, "one");
    write_all(chr, "two");
    n = recvfrom(fd, buf, sizeof(buf), 0, (struct sockaddr *)&from, &from_len);
    g_assert_cmpmem(buf, n, "one", 3);
    n = recv(fd, buf, sizeof(buf), 0);
    g_assert_cmpmem(buf, n, "two", 3);
    /* A datagram that is more than the front end takes at a time is lost in no part. */
    f.room = 700;
    g_assert_cmpint(sendto(fd, big, 3000, 0, (struct sockaddr *)&from, from_len), ==, 3000);
    g_assert_cmpint(sendto(fd, "end", 3, 0, (struct sockaddr *)&from, from_len), ==, 3);
    poll_until(f.in->len == 3003);
    g_assert_true(g_str_has_suffix(f.in->str, "bbend"));
    f.room = 0;
    g_assert_cmpint(sendto(fd, "later", 5, 0, (struct sockaddr *)&from, from_len), ==, 5);
    aio_poll(main_aio_context(), false);
    f.room = 2;
    chardev_accept_input(chr);
    poll_until(f.in->len == 3008);
    /* A peer that is not there any more is no end. */
    close(fd);
    for (int i = 0; i < 5; i++) {
        write_all(chr, "nobody hears this");
        aio_poll(main_aio_context(), false);
    }
    g_assert_cmpint(f.closed, ==, 0);
    front_detach(&f);
    chardev_cleanup();
}

/* Options of -chardev: where its own end is. */
static void test_udp_ports(void)
{
    g_autofree char *opts = NULL;
    GError *err = NULL;
    int port, unused, fd = udp_socket(&port), other = udp_socket(&unused);
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    Front f;

    close(other);
    opts = g_strdup_printf("udp,id=u,port=%d,localaddr=127.0.0.1,localport=%d,ipv4=on", port, unused);
    g_assert_nonnull(chardev_new_from_opts(opts, &err));
    g_assert_no_error(err);
    front_attach(&f, chardev_find("u"));
    in.sin_port = htons(unused);
    g_assert_cmpint(sendto(fd, "hi", 2, 0, (struct sockaddr *)&in, sizeof(in)), ==, 2);
    poll_until(f.in->len == 2);
    front_detach(&f);
    close(fd);
    g_assert_null(chardev_new_from_opts("udp,id=v", &err));
    g_assert_cmpstr(err->message, ==, "chardev: udp: remote port not specified");
    g_clear_error(&err);
    chardev_cleanup();
}

/* --- A serial line of the host ------------------------------------------------------------------ */

static void test_serial(void)
{
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    g_autofree char *opts = NULL;
    GError *err = NULL;
    char buf[64];
    Chardev *chr;
    Front f;

    g_assert_cmpint(grantpt(master) | unlockpt(master), ==, 0);
    opts = g_strdup_printf("serial,id=s,path=%s", ptsname(master));
    chr = chardev_new_from_opts(opts, &err);
    g_assert_no_error(err);
    g_assert_cmpstr(chardev_filename(chr), ==, "serial");
    front_attach(&f, chr);
    g_assert_cmpint(write(master, "in\r\003", 4), ==, 4);
    poll_until(f.in->len == 4);
    g_assert_cmpstr(f.in->str, ==, "in\r\003");
    write_all(chr, "out\n");
    g_assert_cmpint(read(master, buf, sizeof(buf)), ==, 4);
    g_assert_cmpmem(buf, 4, "out\n", 4);
    close(master);
    poll_until(f.closed == 1);
    front_detach(&f);
    /* What is no terminal takes output. */
    front_attach(&f, chardev_new_from_spec("n", "/dev/null", &err));
    g_assert_no_error(err);
    write_all(f.chr, "gone");
    aio_poll(main_aio_context(), false);
    g_assert_cmpint(f.closed, ==, 0);
    front_detach(&f);
    chardev_cleanup();
}

int main(int argc, char **argv)
{
    int ret;

    g_test_init(&argc, &argv, NULL);
    main_aio_context_init();
    dir = test_dir_new();
    g_test_add_func("/chardev/bad-forms", test_bad_forms);
    g_test_add_func("/chardev/bad-log", test_bad_log);
    g_test_add_func("/chardev/stamps", test_stamps);
    g_test_add_func("/chardev/help", test_help);
    g_test_add_func("/chardev/telnet", test_telnet);
    g_test_add_func("/chardev/telnet-queue", test_telnet_queue);
    g_test_add_func("/chardev/telnet-stamps", test_telnet_stamps);
    g_test_add_func("/chardev/udp", test_udp);
    g_test_add_func("/chardev/udp-ports", test_udp_ports);
    g_test_add_func("/chardev/serial", test_serial);
    ret = g_test_run();
    test_dir_remove(dir);
    return ret;
}
