/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Gives a fuzz target each file of the directories on the command line once: its corpus as a
 * regression test where there is no libFuzzer.  Prints TAP.
 */
#include <stdio.h>
#include <string.h>

#include "fuzz.h"

static gint compare_names(gconstpointer a, gconstpointer b)
{
    return g_strcmp0(*(const char *const *)a, *(const char *const *)b);
}

/* The files in dir in the order of their names, as paths. */
static GPtrArray *files_in(const char *path)
{
    g_autoptr(GError) err = NULL;
    GDir *dir = g_dir_open(path, 0, &err);
    GPtrArray *files = g_ptr_array_new_with_free_func(g_free);
    const char *name;

    g_assert_no_error(err);
    while ((name = g_dir_read_name(dir))) {
        g_ptr_array_add(files, g_build_filename(path, name, NULL));
    }
    g_dir_close(dir);
    g_ptr_array_sort(files, compare_names);
    return files;
}

int main(int argc, char **argv)
{
    int n = 0;

    for (int i = 1; i < argc; i++) {
        g_autoptr(GPtrArray) files = files_in(argv[i]);

        for (guint f = 0; f < files->len; f++) {
            g_autofree char *data = NULL;
            g_autoptr(GError) err = NULL;
            gsize size;

            g_file_get_contents(files->pdata[f], &data, &size, &err);
            g_assert_no_error(err);
            LLVMFuzzerTestOneInput((const uint8_t *)data, size);
            printf("ok %d - %s\n", ++n, strrchr(files->pdata[f], G_DIR_SEPARATOR) + 1);
            fflush(stdout);
        }
    }
    printf("1..%d\n", n);
    return n ? 0 : 1;
}
