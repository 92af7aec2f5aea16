/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kf-io: reads, writes and examines disk images by commands, with the command line, output
 * and exit codes of qemu-io.  This file has the options and where commands come from: -c, or
 * lines of stdin.  The commands are in block/io-cmd*.c and kf-io-open.c.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "config-host.h"
#include "kf-io-int.h"

typedef struct Run {
    IoImage *image;
    GPtrArray *commands; /* of -c */
    bool misalign;
    int ret;
} Run;

void io_error(const char *format, ...)
{
    va_list ap;

    fprintf(stderr, "%s: ", g_get_prgname());
    va_start(ap, format);
    vfprintf(stderr, format, ap);
    va_end(ap);
    fputc('\n', stderr);
}

static void print_help(void)
{
    printf("Usage: %s [OPTIONS]... [-c STRING]... [file]\n"
           "Keyframe disk exerciser\n\n"
           "  --image-opts         the file is described by options\n"
           "  -c, --cmd STRING     run this command\n"
           "  -f, --format FMT     the image's format, else it is guessed\n"
           "  -r, --read-only      do not write\n"
           "  -s, --snapshot       write to a temporary file instead of the image\n"
           "  -n, --nocache        the same as -t none\n"
           "  -C, --copy-on-read   keep what is read from backing files in the image\n"
           "  -m, --misalign       buffers at odd addresses, for O_DIRECT\n"
           "  -k, --native-aio     the same as -i native\n"
           "  -i, --aio=MODE       threads, native or io_uring\n"
           "  -t, --cache=MODE     none, writeback, writethrough, directsync or unsafe\n"
           "  -d, --discard=MODE   unmap or ignore\n"
           "  -T, --trace PATTERN  accepted; there are no trace events\n"
           "  -U, --force-share    read what another program may be writing\n"
           "  -h, --help           this text\n"
           "  -V, --version        the version\n\n"
           "'%s -c help' lists the commands.\n", g_get_prgname(), g_get_prgname());
}

/* What -T names, for the warning that there is no such event. */
static void warn_about_trace(const char *text)
{
    const char *pattern = g_str_has_prefix(text, "enable=") ? text + strlen("enable=") : text;
    size_t len = strcspn(pattern, ",");

    if (!memchr(pattern, '=', len)) {
        fprintf(stderr, "%s: warning: trace event '%.*s' does not exist\n", g_get_prgname(),
                (int)len, pattern);
    }
}

enum { OPT_OBJECT = 256, OPT_IMAGE_OPTS };

/* One option; -1: go on, else the exit code. */
static int handle_option(int c, Run *run)
{
    IoImage *image = run->image;

    switch (c) {
    case 'c':
        g_ptr_array_add(run->commands, optarg);
        return -1;
    case 'C':
        image->copy_on_read = true;
        return -1;
    case 'd':
        return io_image_set_discard(image, optarg) ? -1 : 1;
    case 'f': {
        g_autofree char *option = g_strdup_printf("driver=%s", optarg);

        io_image_add_options(image, option);
        return -1;
    }
    case 'h':
        print_help();
        return 0;
    case 'i':
        return io_image_set_aio(image, optarg) ? -1 : 1;
    case 'k':
        return io_image_set_aio(image, "native") ? -1 : 1;
    case 'm':
        run->misalign = true;
        return -1;
    case 'n':
        return io_image_set_cache(image, "none") ? -1 : 1;
    case 'r':
        image->read_only = true;
        return -1;
    case 's':
        image->snapshot = true;
        return -1;
    case 't':
        return io_image_set_cache(image, optarg) ? -1 : 1;
    case 'T':
        warn_about_trace(optarg);
        return -1;
    case 'U':
        image->force_share = true;
        return -1;
    case 'V':
        printf("%s version %s (Keyframe)\n", g_get_prgname(), KEYFRAME_VERSION);
        return 0;
    case OPT_OBJECT:
        io_error("--object is not supported: no format and no protocol here uses secrets or other "
                 "objects (there is no encryption)");
        return 1;
    case OPT_IMAGE_OPTS:
        image->is_options = true;
        return -1;
    default:
        print_help();
        return 1;
    }
}

/* --- Commands --------------------------------------------------------------------------------- */

/* A line of stdin; NULL at its end. */
static int read_line_worker(void *opaque)
{
    char **line = opaque;
    size_t room = 0;

    return getline(line, &room, stdin) < 0 ? -1 : 0;
}

static bool coroutine_fn run_stdin(IoSession *s, IoState *state)
{
    bool ok = true;

    while (!state->quit) {
        char *line = NULL;
        int ret;

        printf("%s> ", g_get_prgname());
        fflush(stdout);
        ret = co_run_in_worker(read_line_worker, &line);
        if (ret == 0) {
            ok &= io_command_run(s, line);
        }
        free(line);
        if (ret < 0) {
            break;
        }
    }
    return ok;
}

static void coroutine_fn run_entry(void *opaque)
{
    Run *run = opaque;
    IoState state = { .image_opts = run->image->is_options };
    IoSession *s = io_session_new(NULL, false);
    bool ok = true;

    io_session_set_commands(s, io_tool_commands, &state);
    io_session_set_misalign(s, run->misalign);
    if (run->image->name) {
        if (!io_image_open(s, run->image)) {
            io_session_unref(s);
            run->ret = 1;
            return;
        }
        state.image = io_image_copy(run->image);
    }
    if (run->commands->len) {
        for (guint i = 0; i < run->commands->len && !state.quit; i++) {
            ok &= io_command_run(s, run->commands->pdata[i]);
        }
    } else {
        ok = run_stdin(s, &state);
    }
    io_image_close(s);
    io_image_free(state.image);
    io_session_unref(s);
    run->ret = ok ? 0 : 1;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        { "help", no_argument, NULL, 'h' },
        { "version", no_argument, NULL, 'V' },
        { "cmd", required_argument, NULL, 'c' },
        { "format", required_argument, NULL, 'f' },
        { "read-only", no_argument, NULL, 'r' },
        { "snapshot", no_argument, NULL, 's' },
        { "nocache", no_argument, NULL, 'n' },
        { "copy-on-read", no_argument, NULL, 'C' },
        { "misalign", no_argument, NULL, 'm' },
        { "native-aio", no_argument, NULL, 'k' },
        { "aio", required_argument, NULL, 'i' },
        { "discard", required_argument, NULL, 'd' },
        { "cache", required_argument, NULL, 't' },
        { "trace", required_argument, NULL, 'T' },
        { "force-share", no_argument, NULL, 'U' },
        { "object", required_argument, NULL, OPT_OBJECT },
        { "image-opts", no_argument, NULL, OPT_IMAGE_OPTS },
        { 0 },
    };
    g_autofree char *base = g_path_get_basename(argv[0]);
    g_autoptr(IoImage) image = io_image_new();
    g_autoptr(GPtrArray) commands = g_ptr_array_new();
    Run run = { .image = image, .commands = commands };
    int c, ret;

    g_set_prgname(base);
    argv[0] = base;
    while ((c = getopt_long(argc, argv, "hVc:d:f:rsnCmki:t:T:U", options, NULL)) != -1) {
        ret = handle_option(c, &run);
        if (ret >= 0) {
            return ret;
        }
    }
    if (optind < argc - 1) {
        print_help();
        return 1;
    }
    if (image->is_options && image->options) {
        io_error("--image-opts and -f are mutually exclusive");
        return 1;
    }
    image->name = g_strdup(argv[optind]);
    main_aio_context_init();
    aio_set_poll_max(main_aio_context(), AIO_POLL_TOOL_NS);
    bdrv_init();
    aio_co_run_sync(main_aio_context(), run_entry, &run);
    return run.ret;
}
