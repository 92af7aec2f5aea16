/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kf-img: makes, examines, checks, changes, converts and compares disk images and handles
 * their internal snapshots, with the command line, output and exit codes of qemu-img.  This
 * file finds the subcommand and has messages and help.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "config-host.h"
#include "kf-img-int.h"
#include "qapi/error.h"
#include "util/log.h"
#include "util/trace-event.h"

static const struct {
    const char *name;
    int coroutine_fn (*run)(int argc, char **argv);
    const char *usage;
    /* Before there are threads; false: has failed and said why. */
    bool (*before)(int argc, char **argv);
} commands[] = {
    { "amend", img_amend,
      "[--image-opts | -f fmt] [-p] [-q] [-t cache] [--force] -o options filename" },
    { "bench", img_bench,
      "[-c count] [-d depth] [--image-opts | -f fmt] [--flush-interval=n] [-i aio] [-n] "
      "[--no-drain] [-o offset] [--pattern=byte] [-q] [-s buffer_size] [-S step_size] [-t cache] "
      "[-w] [-U] filename" },
    { "bitmap", img_bitmap,
      "(--merge source | --add | --remove | --clear | --enable | --disable)... [-b source_file "
      "[-F source_fmt]] [-g granularity] [--image-opts | -f fmt] filename bitmap" },
    { "check", img_check,
      "[--image-opts | -f fmt] [-q] [--output=ofmt] [-r [leaks | all]] [-T src_cache] [-U] "
      "filename" },
    { "commit", img_commit,
      "[--image-opts | -f fmt] [-q] [-t cache] [-b base] [-r rate_limit] [-d] [-p] filename" },
    { "compare", img_compare,
      "[--image-opts | -f fmt] [-F fmt] [-T src_cache] [-p] [-q] [-s] [-U] filename1 filename2" },
    { "convert", img_convert,
      "[--image-opts | -f fmt] [--target-image-opts] [--target-is-zero] [-U] [-C] [-c] [-p] [-q] [-n] "
      "[-t cache] [-T src_cache] [-O output_fmt] [-B backing_file [-F backing_fmt]] [-o options] "
      "[-l snapshot_param] [-S sparse_size] [-r rate_limit] [-m num_coroutines] [-W] [--salvage] "
      "[--bitmaps [--skip-broken-bitmaps]] filename [filename2 [...]] output_filename" },
    { "create", img_create,
      "[-q] [-f fmt] [-b backing_file [-F backing_fmt]] [-u] [-o options] filename [size]" },
    { "dd", img_dd,
      "[--image-opts | -f fmt] [-U] [-O output_fmt] [bs=block_size] [count=blocks] [skip=blocks] "
      "if=input of=output" },
    { "info", img_info,
      "[--image-opts | -f fmt] [--output=ofmt] [--backing-chain] [-U] filename" },
    { "map", img_map,
      "[--image-opts | -f fmt] [--start-offset=offset] [--max-length=len] [--output=ofmt] [-U] "
      "filename" },
    { "measure", img_measure,
      "[--output=ofmt] [-O output_fmt] [-o options] [--size N | [--image-opts | -f fmt] "
      "[-l snapshot_param] [-U] filename]" },
    { "rebase", img_rebase,
      "[--image-opts | -f fmt] [-U] [-q] [-t cache] [-T src_cache] [-p] [-u] -b backing_file "
      "[-F backing_fmt] filename" },
    { "resize", img_resize,
      "[--image-opts | -f fmt] [--preallocation=prealloc] [-q] [--shrink] filename [+ | -]size" },
    { "snapshot", img_snapshot,
      "[--image-opts] [-U] [-q] [-l | -a snapshot | -c snapshot | -d snapshot] filename" },
    { "vmstate", img_vmstate,
      "mount [-f fmt] [-U] [--foreground] [--allow-other] filename snapshot directory | "
      "ls [-f fmt] [-U] [-l] filename snapshot [path] | "
      "cat [-f fmt] [-U] filename snapshot path", img_vmstate_before },
};

static const char *program; /* as it was called */

/* --- Messages ------------------------------------------------------------------------------ */

static void print_error(const char *format, va_list ap)
{
    fprintf(stderr, "%s: ", program);
    vfprintf(stderr, format, ap);
    fputc('\n', stderr);
}

void img_error(const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    print_error(format, ap);
    va_end(ap);
}

void img_report(GError *err, const char *prefix)
{
    img_error("%s%s", prefix, err->message);
    g_error_free(err);
}

int img_usage_error(const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    print_error(format, ap);
    va_end(ap);
    fprintf(stderr, "Try '%s --help' for more information\n", program);
    return 1;
}

static void print_version(void)
{
    printf("%s version %s (Keyframe)\n", program, KEYFRAME_VERSION);
}

static void print_help(void)
{
    print_version();
    printf("usage: %s [standard options] command [command options]\n"
           "Keyframe disk image utility\n\n"
           "    '-h', '--help'       display this help and exit\n"
           "    '-V', '--version'    output version information and exit\n"
           "    '-T', '--trace'      [[enable=]<pattern>][,events=<file>][,file=<file>]\n"
           "                         specify tracing options\n\n"
           "Command syntax:\n", program);
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        printf("  %s %s\n", commands[i].name, commands[i].usage);
    }
    printf("\nSizes are in bytes; the suffixes k, M, G, T, P and E stand for powers of 1024.\n"
           "Supported formats: qcow2 raw\n");
}

int img_bad_option(int c, char **argv)
{
    if (c == 'h') {
        print_help();
        return 0;
    }
    if (c == ':') {
        return img_usage_error("missing argument for option '%s'", argv[optind - 1]);
    }
    return img_usage_error("unrecognized option '%s'", argv[optind - 1]);
}

/* --- Main ----------------------------------------------------------------------------------- */

typedef struct Run {
    int command, argc, ret;
    char **argv;
} Run;

static void coroutine_fn run_entry(void *opaque)
{
    Run *r = opaque;

    r->ret = commands[r->command].run(r->argc, r->argv);
}

/* False: the program ends with *ret. */
static bool set_trace(const char *text, int *ret)
{
    GError *err = NULL;

    *ret = 0;
    if (!strcmp(text, "help")) {
        trace_list();
        return false;
    }
    if (!trace_parse_option(text, &err)) {
        img_report(err, "");
        *ret = 1;
    }
    return *ret == 0;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        { "help", no_argument, NULL, 'h' },
        { "version", no_argument, NULL, 'V' },
        { "trace", required_argument, NULL, 'T' },
        { 0 },
    };
    g_autofree char *base = g_path_get_basename(argv[0]);
    Run run = { .command = -1 };
    int c;

    program = base;
    g_set_prgname(base);
    opterr = 0;
    while ((c = getopt_long(argc, argv, "+:hVT:", options, NULL)) != -1) {
        if (c == 'V') {
            print_version();
            return 0;
        }
        if (c != 'T') {
            return img_bad_option(c, argv);
        }
        if (!set_trace(optarg, &run.ret)) {
            return run.ret;
        }
    }
    if (optind >= argc) {
        return img_usage_error("Not enough arguments");
    }
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        if (!strcmp(commands[i].name, argv[optind])) {
            run.command = i;
        }
    }
    if (run.command < 0) {
        return img_usage_error("Command not found: %s", argv[optind]);
    }
    run.argc = argc - optind;
    run.argv = argv + optind;
    optind = 0; /* getopt starts anew */
    if (commands[run.command].before && !commands[run.command].before(run.argc, run.argv)) {
        return 1;
    }
    main_aio_context_init();
    aio_set_poll_max(main_aio_context(), AIO_POLL_TOOL_NS);
    bdrv_init();
    aio_co_run_sync(main_aio_context(), run_entry, &run);
    log_flush();
    return run.ret;
}
