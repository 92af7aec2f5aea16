/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The human monitor's "qemu-io": one command of qemu-io on a drive, a device's drive or a node.
 *
 * Its output goes to the user's monitor, that of a request which ends later, too.  That of
 * human-monitor-command goes where it goes in QEMU: most of it to the program's stdout and stderr.
 * Main thread, but for printing.
 */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include "block/io-cmd.h"
#include "io-cmd-int.h"
#include "qapi/error.h"

/* What is kept of a command's output; a monitor's own limit for one that nobody reads. */
#define OUTPUT_MAX (16 * 1024 * 1024)
#define PIECE 4096

/* --- Output ---------------------------------------------------------------------------------- */

typedef struct Sink {
    HMPOutlet *outlet; /* NULL: human-monitor-command */
    bool returned;     /* the command has; what comes now is from a request that it has started */
    pthread_mutex_t lock;       /* guards text; a leaf */
    GString *text[IO_MONITOR + 1]; /* with an outlet all of it is in the last, in order */
} Sink;

static Sink *sink_new(HMPSession *session)
{
    Sink *sink = g_new0(Sink, 1);

    sink->outlet = hmp_is_interactive(session) ? hmp_outlet_new(session) : NULL;
    pthread_mutex_init(&sink->lock, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(sink->text); i++) {
        sink->text[i] = g_string_new(NULL);
    }
    return sink;
}

static void sink_free(void *opaque)
{
    Sink *sink = opaque;

    if (sink->outlet) {
        hmp_outlet_free(sink->outlet);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(sink->text); i++) {
        g_string_free(sink->text[i], true);
    }
    pthread_mutex_destroy(&sink->lock);
    g_free(sink);
}

static void sink_print(void *opaque, IoStream stream, const char *text)
{
    Sink *sink = opaque;
    GString *out;

    pthread_mutex_lock(&sink->lock);
    out = sink->text[sink->outlet ? IO_MONITOR : stream];
    if (out->len < OUTPUT_MAX) {
        g_string_append(out, text);
        g_string_append(out, out->len >= OUTPUT_MAX ? "(cut)\n" : "");
    }
    pthread_mutex_unlock(&sink->lock);
}

static GString *sink_take(Sink *sink, IoStream stream)
{
    GString *text;

    pthread_mutex_lock(&sink->lock);
    text = sink->text[stream];
    sink->text[stream] = g_string_new(NULL);
    pthread_mutex_unlock(&sink->lock);
    return text;
}

/* Does not wait: in this program the streams are over outlets. */
static void write_stream(Sink *sink, IoStream stream)
{
    g_autoptr(GString) text = sink_take(sink, stream);
    FILE *file = stream == IO_STDOUT ? stdout : stderr;

    if (text->len) {
        fputs(text->str, file);
        fflush(file);
    }
}

/* Of a request that ends when its command has returned. */
static void coroutine_fn sink_flush(void *opaque)
{
    Sink *sink = opaque;

    if (sink->returned && sink->outlet) {
        g_autoptr(GString) text = sink_take(sink, IO_MONITOR);

        hmp_outlet_print(sink->outlet, text->str);
    } else if (sink->returned) {
        write_stream(sink, IO_STDOUT);
        write_stream(sink, IO_STDERR);
    }
}

/* What the command has printed until it returned. */
static void coroutine_fn sink_deliver(Sink *sink, HMPSession *session)
{
    g_autoptr(GString) text = sink_take(sink, IO_MONITOR);

    sink->returned = true;
    write_stream(sink, IO_STDOUT);
    write_stream(sink, IO_STDERR);
    for (size_t at = 0; at < text->len; at += PIECE) {
        hmp_printf(session, "%.*s", (int)MIN(text->len - at, PIECE), text->str + at);
    }
}

static const IoOutput sink_output = { sink_print, sink_flush, sink_free };

/* --- Drives ---------------------------------------------------------------------------------- */

static BlockBackend *find_device(const char *id, GError **errp)
{
    for (BlockBackend *blk = blk_next(NULL); blk; blk = blk_next(blk)) {
        if (blk_device(blk) && !strcmp(blk_device(blk), id)) {
            return blk;
        }
    }
    error_set_class(errp, QAPI_ERROR_DEVICE_NOT_FOUND, "Device '%s' not found", id);
    return NULL;
}

/* A session on a node, through a handle of its own: it can write if nobody else does. */
static IoSession *open_node(const char *name, GError **errp)
{
    BlockDriverState *bs = bdrv_lookup(NULL, name, errp);
    BlockBackend *blk;
    GError *err = NULL;
    IoSession *s;

    if (!bs) {
        return NULL;
    }
    blk = blk_new("", bs, true, &err);
    if (!blk) {
        blk = blk_new("", bs, false, errp);
    }
    if (!blk) {
        g_clear_error(&err);
        return NULL;
    }
    s = io_session_new(blk, true);
    s->write_error = err;
    return s;
}

void coroutine_fn hmp_qemu_io(HMPSession *session, const HMPArgs *args)
{
    const char *name = hmp_arg_str(args, "device");
    BlockBackend *blk = blk_by_name(name);
    GError *err = NULL;
    IoSession *s = NULL;

    if (hmp_arg_flag(args, "qdev")) {
        blk = find_device(name, &err);
    }
    if (blk) {
        s = io_session_new(blk, false);
    } else if (!err) {
        s = open_node(name, &err);
    }
    if (s) {
        Sink *sink = sink_new(session);

        io_session_set_output(s, &sink_output, sink);
        io_command_run(s, hmp_arg_str(args, "command"));
        sink_deliver(sink, session);
        io_session_unref(s);
    }
    hmp_handle_error(session, err);
}
