/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * stdout and stderr that wait for nobody: a reader that does not read, order of what is printed,
 * the end of the program, files.  Each case runs in a child of its own with its own streams.
 */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/stdio.h"

typedef struct Child {
    pid_t pid;
    int done; /* one byte when it has printed all */
    int go;   /* it waits for a byte before it ends */
} Child;

/* Runs print() with out and err as its standard streams; closes both here. */
static Child start(void (*print)(void), int out, int err)
{
    int done[2], go[2];
    Child c;

    g_assert_cmpint(pipe2(done, O_CLOEXEC), ==, 0);
    g_assert_cmpint(pipe2(go, O_CLOEXEC), ==, 0);
    fflush(NULL);
    c.pid = fork();
    g_assert_cmpint(c.pid, >=, 0);
    if (c.pid == 0) {
        char byte;

        dup2(out, STDOUT_FILENO);
        dup2(err, STDERR_FILENO);
        close(go[1]);
        stdio_never_wait();
        print();
        exit(write(done[1], "", 1) == 1 && read(go[0], &byte, 1) >= 0 ? 0 : 1);
    }
    close(done[1]);
    close(go[0]);
    close(out);
    if (err != out) {
        close(err);
    }
    c.done = done[0];
    c.go = go[1];
    return c;
}

static void wait_printed(const Child *c)
{
    struct pollfd p = {.fd = c->done, .events = POLLIN};

    g_assert_cmpint(poll(&p, 1, 60000), ==, 1);
    g_assert_true(p.revents & POLLIN);
}

static void end(Child *c)
{
    int status;

    close(c->go);
    g_assert_cmpint(waitpid(c->pid, &status, 0), ==, c->pid);
    g_assert_true(WIFEXITED(status));
    g_assert_cmpint(WEXITSTATUS(status), ==, 0);
    close(c->done);
}

static GString *read_all(int fd)
{
    GString *all = g_string_new(NULL);
    char buf[4096];
    ssize_t n;

    while ((n = read(fd, buf, sizeof(buf))) > 0) {
        g_string_append_len(all, buf, n);
    }
    g_assert_cmpint(n, ==, 0);
    close(fd);
    return all;
}

/* A pipe or a pair of sockets; [0] is read. */
static void channel(int fds[2], bool is_socket)
{
    g_assert_cmpint(is_socket ? socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds)
                              : pipe2(fds, O_CLOEXEC), ==, 0);
}

enum { MANY = 6000, PADDING = 1000 };

static void print_many(void)
{
    g_autofree char *padding = g_strnfill(PADDING, 'x');

    for (int i = 0; i < MANY; i++) {
        if (i % 2) {
            g_printerr("%d %s\n", i, padding);
        } else {
            fprintf(stderr, "%d %s\n", i, padding);
        }
    }
}

/* Lines come in order, and where some are missing, their number stands. */
static void nobody_reads(gconstpointer is_socket)
{
    g_autoptr(GString) all = NULL;
    g_auto(GStrv) lines = NULL;
    int fds[2], came = 0, next = 0;
    Child c;

    channel(fds, is_socket);
    c = start(print_many, open("/dev/null", O_WRONLY | O_CLOEXEC), fds[1]);
    wait_printed(&c); /* though not a byte has been read */
    close(c.go);
    all = read_all(fds[0]);
    c.go = -1;
    end(&c);
    lines = g_strsplit(all->str, "\n", -1);
    for (char **line = lines; **line; line++) {
        char rest[PADDING + 1];
        int n;

        if (sscanf(*line, "stderr: %d lines lost", &n) == 1) {
            next += n;
            continue;
        }
        g_assert_cmpint(sscanf(*line, "%d %1000s", &n, rest), ==, 2);
        g_assert_cmpint(n, ==, next++);
        g_assert_cmpuint(strlen(rest), ==, PADDING);
        came++;
    }
    g_assert_cmpint(next, ==, MANY);
    g_assert_cmpint(came, >, 1000);
    g_assert_cmpint(came, <, MANY);
}

/* Nobody will ever read: the program ends all the same. */
static void stuck_to_the_end(void)
{
    int fds[2];
    Child c;

    channel(fds, false);
    c = start(print_many, dup(fds[1]), fds[1]);
    wait_printed(&c);
    end(&c);
    close(fds[0]);
}

static void print_in_turn(void)
{
    for (int i = 0; i < 20; i++) {
        fprintf(i % 2 ? stderr : stdout, "%d\n", i);
        fflush(stdout);
    }
    /* As g_message() does where no test has its hand in it. */
    g_log_structured("library", G_LOG_LEVEL_MESSAGE, "MESSAGE", "a message of a library");
    g_log_structured("library", G_LOG_LEVEL_INFO, "MESSAGE", "not of interest");
    printf("last"); /* exit() brings it out */
}

/* Both streams to one place that is read: each line is there before the next is printed. */
static void order(gconstpointer is_socket)
{
    g_autoptr(GString) all = NULL;
    g_autoptr(GString) wanted = g_string_new(NULL);
    int fds[2];
    Child c;

    channel(fds, is_socket);
    c = start(print_in_turn, fds[1], fds[1]);
    wait_printed(&c);
    end(&c);
    all = read_all(fds[0]);
    for (int i = 0; i < 20; i++) {
        g_string_append_printf(wanted, "%d\n", i);
    }
    g_assert_true(g_str_has_prefix(all->str, wanted->str));
    g_assert_nonnull(strstr(all->str, "a message of a library\n"));
    g_assert_null(strstr(all->str, "not of interest"));
    g_assert_true(g_str_has_suffix(all->str, "\nlast"));
}

static void print_one(void)
{
    g_printerr("two\n");
}

/* A file that others write to, by the same open file: everybody goes on where the other was. */
static void shared_file(void)
{
    g_autofree char *name = NULL, *text = NULL;
    int fd = g_file_open_tmp("kfstdio-XXXXXX", &name, NULL);
    Child c;

    g_assert_cmpint(write(fd, "one\n", 4), ==, 4);
    c = start(print_one, open("/dev/null", O_WRONLY | O_CLOEXEC), dup(fd));
    wait_printed(&c);
    end(&c);
    g_assert_cmpint(write(fd, "three\n", 6), ==, 6);
    close(fd);
    g_assert_true(g_file_get_contents(name, &text, NULL, NULL));
    g_assert_cmpstr(text, ==, "one\ntwo\nthree\n");
    g_unlink(name);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/stdio/nobody-reads/pipe", GINT_TO_POINTER(false), nobody_reads);
    g_test_add_data_func("/stdio/nobody-reads/socket", GINT_TO_POINTER(true), nobody_reads);
    g_test_add_func("/stdio/stuck-to-the-end", stuck_to_the_end);
    g_test_add_data_func("/stdio/order/pipe", GINT_TO_POINTER(false), order);
    g_test_add_data_func("/stdio/order/socket", GINT_TO_POINTER(true), order);
    g_test_add_func("/stdio/shared-file", shared_file);
    return g_test_run();
}
