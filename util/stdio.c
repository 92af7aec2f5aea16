/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * stdout and stderr as streams over outlets: the C library lets a program put streams of its
 * own there, and so everybody's printf() is covered, in whatever thread.
 */
#include <glib.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "outlet.h"
#include "util/stdio.h"

static ssize_t put(void *outlet, const char *text, size_t len)
{
    outlet_put(outlet, text, len, true);
    return len;
}

static FILE *stream_over(Outlet *o, int mode)
{
    FILE *file = fopencookie(o, "w", (cookie_io_functions_t){.write = put});

    if (!file) {
        g_error("Could not make a stream for %s", o->name);
    }
    setvbuf(file, NULL, mode, BUFSIZ);
    return file;
}

/* glib's own writer takes descriptors only. */
static GLogWriterOutput write_log(GLogLevelFlags level, const GLogField *fields, gsize n_fields,
                                  gpointer opaque)
{
    g_autofree char *text = g_log_writer_format_fields(level, fields, n_fields, FALSE);

    if (!(level & (G_LOG_LEVEL_INFO | G_LOG_LEVEL_DEBUG))) {
        fprintf(stderr, "%s\n", text);
    }
    return G_LOG_WRITER_HANDLED;
}

static void flush_all(void)
{
    fflush(stdout);
    outlet_flush(&outlet_stdout);
    outlet_flush(&outlet_stderr);
}

void stdio_never_wait(void)
{
    FILE *out = stream_over(&outlet_stdout, isatty(STDOUT_FILENO) ? _IOLBF : _IOFBF);
    FILE *err = stream_over(&outlet_stderr, _IONBF);

    fflush(stdout);
    stdout = out;
    stderr = err;
    g_log_set_writer_func(write_log, NULL, NULL);
    atexit(flush_all);
}
