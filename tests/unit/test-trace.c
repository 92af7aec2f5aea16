/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Trace points and the log: switching by name and pattern, what -trace and -d take, lines from
 * many threads that come whole, and a reader that does not read and holds up nobody.
 */
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "util/aio.h"
#include "util/log.h"
#include "util/trace.h"

static char *directory;

static char *path(const char *name)
{
    return g_build_filename(directory, name, NULL);
}

/* Lets the log go to a file, and later tells what is in it. */
static void log_to(const char *name)
{
    g_autofree char *file = path(name);

    g_assert_true(log_set_file(file, NULL));
}

static char *logged(const char *name)
{
    g_autofree char *file = path(name);
    char *text;

    log_flush();
    g_assert_true(g_file_get_contents(file, &text, NULL, NULL));
    return text;
}

static void all_off(TraceEvent *e, void *opaque)
{
    trace_set_enabled(e, false);
}

static void test_switch(void)
{
    g_autofree char *text = NULL;
    TraceEvent *submit = trace_find("worker_submit");

    g_assert_nonnull(submit);
    g_assert_null(trace_find("no_such_event"));
    g_assert_true(trace_is_pattern("worker_*"));
    g_assert_false(trace_is_pattern("worker_submit"));
    log_to("switch");
    trace_worker_submit((void *)0x10, 1);
    g_assert_true(trace_parse_option("worker_*", NULL));
    g_assert_true(trace_event_enabled(submit));
    g_assert_false(trace_event_enabled(trace_find("aio_co_move")));
    trace_worker_submit((void *)0x20, 2);
    trace_worker_complete((void *)0x20, -5);
    trace_set_enabled(submit, false);
    trace_worker_submit((void *)0x30, 3);
    text = logged("switch");
    g_assert_cmpstr(text, ==, "worker_submit co 0x20 queued 2\nworker_complete co 0x20 ret -5\n");
    trace_for_each(NULL, all_off, NULL);
}

static void test_option(void)
{
    g_autofree char *events = path("events"), *file = path("option");
    g_autofree char *option = g_strdup_printf("enable=aio_co_move,events=%s,file=%s", events, file);
    g_autofree char *text = NULL;
    g_autoptr(GError) err = NULL;

    g_assert_true(g_file_set_contents(events, "# a comment\n\nworker_*\n -worker_submit\n", -1,
                                      NULL));
    g_assert_true(trace_parse_option(option, NULL));
    g_assert_true(trace_event_enabled(trace_find("aio_co_move")));
    g_assert_true(trace_event_enabled(trace_find("worker_complete")));
    g_assert_false(trace_event_enabled(trace_find("worker_submit")));
    trace_set_timestamps(true);
    trace_worker_complete(NULL, 7);
    trace_set_timestamps(false);
    text = logged("option");
    g_assert_true(g_regex_match_simple("^[0-9]+@[0-9]+\\.[0-9]{6}:worker_complete co \\(nil\\) ret 7\n$",
                                       text, 0, 0));
    trace_for_each(NULL, all_off, NULL);
    g_assert_false(trace_parse_option("zork=1", &err));
    g_assert_cmpstr(err->message, ==, "Invalid parameter 'zork'");
    g_clear_error(&err);
    g_assert_false(trace_parse_option("events=/nonexistent", &err));
    g_assert_cmpstr(err->message, ==, "/nonexistent: No such file or directory");
    g_clear_error(&err);
    g_assert_false(log_set_file("/nonexistent/file", &err));
    g_assert_cmpstr(err->message, ==,
                    "Error opening logfile /nonexistent/file: No such file or directory");
    g_clear_error(&err);
    g_assert_false(log_set_file("x%dx%d", &err));
    g_assert_cmpstr(err->message, ==, "Bad logfile template: x%dx%d");
}

static void test_items(void)
{
    g_autoptr(GError) err = NULL;

    g_assert_true(log_set_items("int,unimp", NULL));
    g_assert_true(log_enabled(LOG_INT) && log_enabled(LOG_UNIMP));
    g_assert_false(log_enabled(LOG_GUEST_ERRORS));
    g_assert_false(log_set_items("int,in_asm", &err));
    g_assert_nonnull(strstr(err->message, "'in_asm' is not supported"));
    g_clear_error(&err);
    g_assert_false(log_set_items("zork", &err));
    g_assert_true(log_enabled(LOG_INT)); /* as before */
    g_assert_true(log_set_items("trace:worker_sub*", NULL));
    g_assert_false(log_enabled(LOG_INT));
    g_assert_true(trace_event_enabled(trace_find("worker_submit")));
    trace_for_each(NULL, all_off, NULL);
    g_assert_true(log_set_items("none", NULL));
}

enum { THREADS = 4, LINES = 500 };

static void *writer(void *opaque)
{
    for (int i = 0; i < LINES; i++) {
        trace_worker_submit(opaque, i);
    }
    return NULL;
}

static void test_threads(void)
{
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;
    pthread_t threads[THREADS];
    int next[THREADS + 1] = {0};

    log_to("threads");
    g_assert_true(trace_parse_option("worker_submit", NULL));
    for (intptr_t i = 0; i < THREADS; i++) {
        g_assert_cmpint(pthread_create(&threads[i], NULL, writer, (void *)(i + 1)), ==, 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    text = logged("threads");
    lines = g_strsplit(text, "\n", -1);
    g_assert_cmpint(g_strv_length(lines), ==, THREADS * LINES + 1);
    for (int i = 0; i < THREADS * LINES; i++) {
        int thread, n;

        g_assert_cmpint(sscanf(lines[i], "worker_submit co 0x%x queued %d", &thread, &n), ==, 2);
        g_assert_cmpint(n, ==, next[thread]++);
    }
    trace_for_each(NULL, all_off, NULL);
}

/* A pipe that is full: logging goes on at once, and what is lost is counted. */
static void test_nobody_reads(void)
{
    g_autofree char *fifo = path("fifo");
    g_autofree char *line = g_strnfill(1000, 'x');
    g_autoptr(GString) all = g_string_new(NULL);
    char buf[4096];
    int fd;

    g_assert_cmpint(mkfifo(fifo, 0600), ==, 0);
    fd = open(fifo, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    g_assert_cmpint(fd, >=, 0);
    log_to("fifo");
    for (int i = 0; i < 4000; i++) {
        log_printf("%s\n", line); /* would never return if it waited for the pipe */
    }
    for (int empty = 0; !strstr(all->str, "lines lost");) {
        ssize_t n = read(fd, buf, sizeof(buf));

        if (n > 0) {
            g_string_append_len(all, buf, n);
        } else {
            g_assert_cmpint(empty++, <, 10000);
            g_usleep(1000);
        }
    }
    g_assert_nonnull(strstr(all->str, "log: "));
    g_assert_true(log_set_file(NULL, NULL));
    close(fd);
}

int main(int argc, char **argv)
{
    int ret;

    g_test_init(&argc, &argv, NULL);
    directory = g_dir_make_tmp("kftrace-XXXXXX", NULL);
    g_assert_nonnull(directory);
    g_test_add_func("/trace/switch", test_switch);
    g_test_add_func("/trace/option", test_option);
    g_test_add_func("/trace/items", test_items);
    g_test_add_func("/trace/threads", test_threads);
    g_test_add_func("/trace/nobody-reads", test_nobody_reads);
    ret = g_test_run();
    for (const char *const *name = (const char *const[]){"switch", "events", "option", "threads",
                                                         "fifo", NULL}; *name; name++) {
        g_autofree char *file = path(*name);

        g_unlink(file);
    }
    g_rmdir(directory);
    g_free(directory);
    return ret;
}
