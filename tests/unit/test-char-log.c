/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * logfile of character devices: who writes to them is copied, whoever reads, and a slow file
 * holds up nobody but who writes.
 */
#include "tests/unit/monitor-test.h"

#include <sys/stat.h>

#include "monitor/char-log.h"
#include "monitor/chardev-int.h"

static char *dir;

/* %s of the format is the directory. */
G_GNUC_PRINTF(1, 0)
static char *in_dir(const char *format)
{
    g_auto(GStrv) parts = g_strsplit(format, "%s", -1);

    return g_strjoinv(dir, parts);
}

static Chardev *new_device(const char *format)
{
    g_autofree char *text = in_dir(format);
    GError *err = NULL;
    Chardev *chr = chardev_new_from_opts(text, &err);

    g_assert_no_error(err);
    return chr;
}

static void check_file(const char *name, const char *want)
{
    g_autofree char *path = g_build_filename(dir, name, NULL), *content = NULL;

    char_log_finish();
    g_assert_true(g_file_get_contents(path, &content, NULL, NULL));
    g_assert_cmpstr(content, ==, want);
}

static void setup(void)
{
    dir = test_dir_new();
}

static void teardown(void)
{
    chardev_cleanup();
    while (aio_poll(main_aio_context(), false)) {
    }
    test_dir_remove(dir);
}

static void write_text(Chardev *chr, const char *text)
{
    g_assert_cmpuint(chardev_write(chr, text, strlen(text)), ==, strlen(text));
}

static void test_file(void)
{
    Chardev *chr;

    setup();
    chr = new_device("null,id=a,logfile=%s/log");
    write_text(chr, "one\n");
    write_text(chr, "two\n");
    check_file("log", "one\ntwo\n");
    write_text(chr, "three\n"); /* is written when the device is gone, too */
    chardev_unregister(chr);
    check_file("log", "one\ntwo\nthree\n");
    chr = new_device("ringbuf,id=a,size=4,logfile=%s/log,logappend=on");
    write_text(chr, "four\n");
    check_file("log", "one\ntwo\nthree\nfour\n");
    chardev_unregister(chr);
    new_device("null,id=a,logfile=%s/log,logappend=off");
    check_file("log", "");
    teardown();
}

static void check_refused(const char *text, const char *message)
{
    g_autofree char *opts = in_dir(text), *want = in_dir(message);
    GError *err = NULL;

    g_assert_null(chardev_new_from_opts(opts, &err));
    g_assert_cmpstr(err->message, ==, want);
    g_clear_error(&err);
}

static void test_refused(void)
{
    setup();
    check_refused("null,id=a,logfile=%s/no/log",
                  "Could not create '%s/no/log': No such file or directory");
    check_refused("null,id=a,logappend=foo", "Parameter 'logappend' expects 'on' or 'off'");
    check_refused("file,id=a,path=%s/no/out,logfile=%s/log",
                  "Could not open '%s/no/out': No such file or directory");
    check_refused("{'backend':'null','id':'a','logappend':1}",
                  "Invalid parameter type for 'logappend', expected: boolean");
    new_device("{'backend':'null','id':'a','logfile':'%s/log','logappend':true}");
    teardown();
}

/* What a socket has without a peer, and what the clients of a monitor's get. */
static void test_socket(void)
{
    g_autofree char *path = NULL;
    TestClient *one, *two;
    Chardev *chr;

    setup();
    monitor_init(NULL, 0);
    path = g_build_filename(dir, "s", NULL);
    chr = new_device("socket,id=s,path=%s/s,server=on,wait=off,logfile=%s/log");
    write_text(chr, "nobody hears\n");
    check_file("log", "nobody hears\n");
    g_assert_true(monitor_add_hmp(chr, false, NULL));
    one = client_connect(path);
    two = client_connect(path);
    poll_until(client_has_line(one) && client_has_line(two));
    char_log_finish();
    {
        g_autofree char *log = g_build_filename(dir, "log", NULL), *content = NULL;
        g_auto(GStrv) greetings = NULL;

        g_assert_true(g_file_get_contents(log, &content, NULL, NULL));
        greetings = g_strsplit(content, "(qemu) ", -1);
        g_assert_cmpuint(g_strv_length(greetings), ==, 3);
        g_assert_cmpstr(greetings[0] + strlen("nobody hears\n"), ==, greetings[1]);
    }
    client_free(one);
    client_free(two);
    monitor_cleanup();
    teardown();
}

/* mux=on: the device below has the log; "mux,chardev=": what goes through the multiplexer. */
static void test_mux(void)
{
    Chardev *chr;

    setup();
    chr = new_device("null,id=a,mux=on,logfile=%s/a");
    write_text(chardev_mux_front(chr, false), "first ");
    write_text(chardev_mux_front(chr, false), "second");
    check_file("a", "first second");
    new_device("null,id=b");
    chr = new_device("mux,id=m,chardev=b,logfile=%s/b");
    write_text(chardev_mux_front(chr, true), "third");
    check_file("b", "third");
    teardown();
}

/* --- A file that takes nothing ------------------------------------------------------------- */

typedef struct Front {
    int writables;
} Front;

static void front_writable(void *opaque)
{
    ((Front *)opaque)->writables++;
}

static const ChardevFrontOps front_ops = {.writable = front_writable};

static void check_slow(const char *device, bool through_mux)
{
    g_autofree char *path = NULL, *block = g_malloc(4096);
    size_t written = 0, read_back = 0, n;
    Front front = {0};
    Chardev *chr;
    int fifo;

    setup();
    path = g_build_filename(dir, "fifo", NULL);
    g_assert_cmpint(mkfifo(path, 0600), ==, 0);
    fifo = open(path, O_RDONLY | O_NONBLOCK);
    chr = new_device(device);
    if (through_mux) {
        chr = chardev_find("m");
    }
    g_assert_true(chardev_attach(chr, &front_ops, &front));
    memset(block, 'x', 4096);
    /* The pipe, what a worker holds and what waits are bounded. */
    do {
        n = chardev_write(chr, block, 4096);
        written += n;
        aio_poll(main_aio_context(), false);
    } while (n == 4096);
    g_assert_cmpuint(written, <=, 64 * 1024 + 2 * CHAR_LOG_MAX);
    while (!front.writables || read_back < written) {
        ssize_t got = read(fifo, block, 4096);

        read_back += got > 0 ? got : 0;
        aio_poll(main_aio_context(), false);
        g_thread_yield();
    }
    g_assert_cmpuint(read_back, ==, written);
    g_assert_cmpuint(chardev_write(chr, block, 4096), ==, 4096);
    chardev_attach(chr, NULL, NULL);
    char_log_finish();
    close(fifo);
    teardown();
}

static void test_slow(void)
{
    check_slow("null,id=a,logfile=%s/fifo", false);
}

/* The device "file" is written in the same way: by workers, as far as there is room. */
static void test_device(void)
{
    g_autofree char *block = g_strnfill(3 * CHAR_LOG_MAX, 'x'), *path = NULL, *content = NULL;
    size_t written = 0, len = 3 * CHAR_LOG_MAX;
    Front front = {0};
    Chardev *chr;

    setup();
    chr = new_device("file,id=f,path=%s/out,logfile=%s/log");
    g_assert_true(chardev_attach(chr, &front_ops, &front));
    written = chardev_write(chr, block, len);
    g_assert_cmpuint(written, ==, CHAR_LOG_MAX);
    while (written < len) {
        poll_until(front.writables);
        front.writables = 0;
        written += chardev_write(chr, block + written, len - written);
    }
    char_log_finish();
    path = g_build_filename(dir, "out", NULL);
    g_assert_true(g_file_get_contents(path, &content, NULL, NULL));
    g_assert_cmpstr(content, ==, block);
    check_file("log", block);
    chardev_attach(chr, NULL, NULL);
    teardown();
}

static void test_slow_mux(void)
{
    check_slow("null,id=m,mux=on,logfile=%s/fifo", true);
}

/* A disk that is full is told of once. */
static void test_full(void)
{
    Chardev *chr;

    setup();
    if (access("/dev/full", W_OK)) {
        g_test_skip("no /dev/full");
        return;
    }
    if (g_test_subprocess()) {
        chr = new_device("null,id=a,logfile=/dev/full");
        write_text(chr, "one");
        char_log_finish();
        write_text(chr, "two");
        char_log_finish();
        teardown();
        return;
    }
    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_passed();
    g_test_trap_assert_stderr("*warning: chardev 'a': could not write to the log: No space left on "
                              "device\n");
    teardown();
}

/* The end of the program does not wait for ever. */
static void test_stuck(void)
{
    g_autofree char *path = NULL, *block = g_malloc0(128 * 1024);
    Chardev *chr;
    int fifo;

    if (!g_test_subprocess()) {
        g_test_trap_subprocess(NULL, 20 * G_USEC_PER_SEC, 0);
        g_test_trap_assert_passed();
        g_test_trap_assert_stderr("*it is not complete*");
        return;
    }
    setup();
    path = g_build_filename(dir, "fifo", NULL);
    g_assert_cmpint(mkfifo(path, 0600), ==, 0);
    fifo = open(path, O_RDONLY | O_NONBLOCK);
    g_assert_cmpint(fifo, >=, 0);
    chr = new_device("null,id=a,logfile=%s/fifo");
    while (chardev_write(chr, block, 128 * 1024) > 0) {
        aio_poll(main_aio_context(), false);
    }
    chardev_cleanup();
    test_dir_remove(dir);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    main_aio_context_init();
    g_test_add_func("/char-log/file", test_file);
    g_test_add_func("/char-log/refused", test_refused);
    g_test_add_func("/char-log/socket", test_socket);
    g_test_add_func("/char-log/mux", test_mux);
    g_test_add_func("/char-log/slow", test_slow);
    g_test_add_func("/char-log/device", test_device);
    g_test_add_func("/char-log/slow-mux", test_slow_mux);
    g_test_add_func("/char-log/full", test_full);
    g_test_add_func("/char-log/stuck", test_stuck);
    return g_test_run();
}
