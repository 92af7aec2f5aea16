/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of descriptors is large before threads are there, whatever the limit. */
#include <glib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/fd-table.h"

/* FDSize of proc_pid_status(5): slots of the table. */
static int table_size(void)
{
    g_autofree char *text = NULL;
    const char *line;

    g_assert_true(g_file_get_contents("/proc/self/status", &text, NULL, NULL));
    line = strstr(text, "\nFDSize:");
    g_assert_nonnull(line);
    return atoi(line + strlen("\nFDSize:"));
}

static int open_descriptors(void)
{
    g_autoptr(GDir) dir = g_dir_open("/proc/self/fd", 0, NULL);
    int nr = 0;

    while (g_dir_read_name(dir)) {
        nr++;
    }
    return nr;
}

static void reserve_with_limit(rlim_t limit)
{
    pid_t pid = fork();
    int status;

    g_assert_cmpint(pid, >=, 0);
    if (pid == 0) {
        int before = open_descriptors(), size = table_size();
        struct rlimit old, low;

        g_assert_cmpint(getrlimit(RLIMIT_NOFILE, &old), ==, 0);
        low = (struct rlimit){MIN(limit, old.rlim_cur), old.rlim_max};
        g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &low), ==, 0);
        fd_table_reserve();
        g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &old), ==, 0);
        g_assert_cmpint(table_size(), >=, MAX(size, (int)MIN(low.rlim_cur, 4096)));
        g_assert_cmpint(open_descriptors(), ==, before);
        _exit(0);
    }
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    g_assert_cmpint(status, ==, 0);
}

static void test_reserve(void)
{
    reserve_with_limit(RLIM_INFINITY);
    reserve_with_limit(1024);
    reserve_with_limit(256);
    reserve_with_limit(1); /* nothing can be opened: it stays as it was */
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/fd-table/reserve", test_reserve);
    return g_test_run();
}
