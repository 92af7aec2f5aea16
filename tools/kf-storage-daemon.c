/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kf-storage-daemon: block nodes, exports and QMP without a machine, with the command line
 * of qemu-storage-daemon.  Options act in the order in which they are given.  Nodes live in
 * io0, monitors in the main thread.
 */
#include <getopt.h>
#include <glib-unix.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "block/export.h"
#include "config-host.h"
#include "migration/vmstate-fs.h"
#include "monitor/monitor.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-block-core.h"
#include "qapi/qapi-commands-block-export.h"
#include "qapi/qapi-commands-control.h"
#include "qapi/qapi-commands-introspect.h"
#include "qapi/qapi-commands-job.h"
#include "qapi/qapi-commands-trace.h"
#include "qapi/qapi-visit-block-core.h"
#include "qapi/qapi-visit-block-export.h"
#include "qapi/qapi-visit-machine.h"
#include "qapi/qmp.h"
#include "util/aio.h"
#include "util/daemonize.h"
#include "util/fd-table.h"
#include "util/iothreads.h"
#include "util/log.h"
#include "util/stdio.h"
#include "util/trace-event.h"

static GMainLoop *loop;
static bool ended;

/* --- QMP ------------------------------------------------------------------------------------- */

static const QmpCommand commands[] = {
    {"block-export-add", qmp_marshal_block_export_add, QMP_CMD_ALLOW_PRECONFIG},
    {"block-export-del", qmp_marshal_block_export_del, QMP_CMD_ALLOW_PRECONFIG},
    {"blockdev-add", qmp_marshal_blockdev_add, QMP_CMD_ALLOW_PRECONFIG},
    {"blockdev-del", qmp_marshal_blockdev_del, QMP_CMD_ALLOW_PRECONFIG},
    {"job-cancel", qmp_marshal_job_cancel, 0},
    {"job-complete", qmp_marshal_job_complete, 0},
    {"job-dismiss", qmp_marshal_job_dismiss, 0},
    {"job-finalize", qmp_marshal_job_finalize, 0},
    {"job-pause", qmp_marshal_job_pause, 0},
    {"job-resume", qmp_marshal_job_resume, 0},
    {"qmp_capabilities", qmp_marshal_qmp_capabilities, QMP_CMD_ALLOW_PRECONFIG},
    {"query-block-exports", qmp_marshal_query_block_exports, QMP_CMD_ALLOW_PRECONFIG},
    {"query-commands", qmp_marshal_query_commands, QMP_CMD_ALLOW_PRECONFIG},
    {"query-jobs", qmp_marshal_query_jobs, QMP_CMD_ALLOW_PRECONFIG},
    {"query-named-block-nodes", qmp_marshal_query_named_block_nodes, QMP_CMD_ALLOW_PRECONFIG},
    {"query-qmp-schema", qmp_marshal_query_qmp_schema, QMP_CMD_ALLOW_PRECONFIG},
    {"query-version", qmp_marshal_query_version, QMP_CMD_ALLOW_PRECONFIG},
    {"quit", qmp_marshal_quit, QMP_CMD_ALLOW_PRECONFIG},
    {"trace-event-get-state", qmp_marshal_trace_event_get_state, QMP_CMD_ALLOW_PRECONFIG},
    {"trace-event-set-state", qmp_marshal_trace_event_set_state, QMP_CMD_ALLOW_PRECONFIG},
    {0},
};

static void end_loop(void)
{
    ended = true;
    g_main_loop_quit(loop);
}

void coroutine_fn qmp_quit(GError **errp)
{
    end_loop();
}

/* --- Options --------------------------------------------------------------------------------- */

static void coroutine_fn opt_blockdev(const char *arg, GError **errp)
{
    g_autoptr(BlockdevOptions) o = qapi_BlockdevOptions_from_str(arg, "driver", errp);

    if (o) {
        qmp_blockdev_add(o, errp);
    }
}

static void coroutine_fn opt_export(const char *arg, GError **errp)
{
    g_autoptr(BlockExportOptions) o = qapi_BlockExportOptions_from_str(arg, "type", errp);

    if (o) {
        block_export_co_add(o, errp);
    }
}

static void coroutine_fn opt_chardev(const char *arg, GError **errp)
{
    chardev_new_from_opts(arg, errp);
}

static void coroutine_fn opt_monitor(const char *arg, GError **errp)
{
    g_autoptr(MonitorOptions) o = qapi_MonitorOptions_from_str(arg, "chardev", errp);
    Chardev *chr = o ? chardev_find(o->chardev) : NULL;

    if (!o) {
        return;
    }
    if (!chr) {
        error_setg(errp, "chardev \"%s\" not found", o->chardev);
    } else if (o->has_mode && o->mode != MONITOR_MODE_CONTROL) {
        error_setg(errp, "Only QMP is supported");
    } else {
        monitor_add_qmp(chr, o->has_pretty && o->pretty, errp);
    }
}

static void coroutine_fn opt_object(const char *arg, GError **errp)
{
    g_autoptr(ObjectOptions) o = qapi_ObjectOptions_from_str(arg, "qom-type", errp);

    if (o && o->qom_type != OBJECT_TYPE_IOTHREAD) {
        error_setg(errp, "objects of type '%s' are not supported here",
                   ObjectType_str(o->qom_type));
    } else if (o) {
        iothreads_add(o->id, errp);
    }
}

static void coroutine_fn opt_nbd_server(const char *arg, GError **errp)
{
    error_setg(errp, "NBD is not supported; there are exports of type fuse and vmstate-fuse");
}

static void coroutine_fn opt_trace(const char *arg, GError **errp)
{
    trace_parse_option(arg, errp);
}

enum { OPT_DAEMONIZE = 256, OPT_PIDFILE, OPT_ACTION };

static const struct Action {
    const char *name;
    void coroutine_fn (*run)(const char *arg, GError **errp);
} actions[] = {
    {"blockdev", opt_blockdev}, {"chardev", opt_chardev},       {"export", opt_export},
    {"monitor", opt_monitor},   {"nbd-server", opt_nbd_server}, {"object", opt_object},
    {"trace", opt_trace},
};

static const struct option options[] = {
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, 'V'},
    {"daemonize", no_argument, NULL, OPT_DAEMONIZE},
    {"pidfile", required_argument, NULL, OPT_PIDFILE},
    {"blockdev", required_argument, NULL, OPT_ACTION + 0},
    {"chardev", required_argument, NULL, OPT_ACTION + 1},
    {"export", required_argument, NULL, OPT_ACTION + 2},
    {"monitor", required_argument, NULL, OPT_ACTION + 3},
    {"nbd-server", required_argument, NULL, OPT_ACTION + 4},
    {"object", required_argument, NULL, OPT_ACTION + 5},
    {"trace", required_argument, NULL, OPT_ACTION + 6},
    {0},
};

static void print_help(void)
{
    printf("Usage: %s [options]\n"
           "Keyframe storage daemon\n\n"
           "  -h, --help             display this help and exit\n"
           "  -V, --version          output version information and exit\n\n"
           "  --blockdev [driver=]<driver>[,node-name=<N>][,...]\n"
           "                         configure a block node\n"
           "  --chardev <options>    configure a character device\n"
           "  --daemonize            go to the background when everything is set up\n"
           "  --export [type=]fuse,id=<id>,node-name=<node-name>,mountpoint=<file>\n"
           "           [,growable=on|off][,writable=on|off][,allow-other=on|off|auto]\n"
           "                         show a node as a file\n"
           "  --export [type=]vmstate-fuse,id=<id>,node-name=<node-name>,snapshot=<tag>,\n"
           "           mountpoint=<directory>[,allow-other=on|off|auto]\n"
           "                         show a snapshot's machine state as files\n"
           "  --monitor [chardev=]name[,mode=control][,pretty[=on|off]]\n"
           "                         configure a QMP monitor\n"
           "  --object iothread,id=<id>\n"
           "                         make a thread for disks\n"
           "  --pidfile <path>       write the process id to a file\n"
           "  -T, --trace [[enable=]<pattern>][,events=<file>][,file=<file>]\n"
           "                         specify tracing options; 'help' lists the events\n\n"
           "Options act in the order in which they are given.\n", g_get_prgname());
}

static void G_GNUC_NORETURN fail(const char *what, GError *err)
{
    g_printerr("%s: %s%s%s\n", g_get_prgname(), what, *what ? ": " : "", err->message);
    exit(1);
}

static void G_GNUC_NORETURN bad_option(int c, char **argv)
{
    g_printerr(c == ':' ? "%s: option '%s' requires an argument\n"
                        : "%s: unrecognized option '%s'\n", g_get_prgname(), argv[optind - 1]);
    exit(1);
}

/* Before anything is made: what ends the process, and what must come before threads. */
static void first_pass(int argc, char **argv)
{
    const char *pidfile = NULL;
    bool background = false;
    GError *err = NULL;
    int c;

    while ((c = getopt_long(argc, argv, "-:hT:V", options, NULL)) != -1) {
        switch (c) {
        case 'h':
            print_help();
            exit(0);
        case 'V':
            printf("%s version %s (Keyframe)\n", g_get_prgname(), KEYFRAME_VERSION);
            exit(0);
        case OPT_DAEMONIZE:
            background = true;
            break;
        case 'T':
        case OPT_ACTION + 6:
            if (!strcmp(optarg, "help")) {
                trace_list();
                exit(0);
            }
            break;
        case OPT_PIDFILE:
            pidfile = optarg;
            break;
        case 1:
            g_printerr("%s: %s: Unexpected argument\n", g_get_prgname(), optarg);
            exit(1);
        case '?':
        case ':':
            bad_option(c, argv);
        }
    }
    if (background && !daemonize_start(&err)) {
        fail("", err);
    }
    fd_table_reserve();
    stdio_never_wait();
    if (pidfile && !pidfile_write(pidfile, &err)) {
        fail("", err);
    }
}

typedef struct Start {
    int argc;
    char **argv;
    char *text; /* of the option that failed */
    GError *err;
} Start;

static void coroutine_fn second_pass(void *opaque)
{
    Start *s = opaque;
    int c;

    optind = 0; /* getopt starts anew */
    while (!s->err && !ended &&
           (c = getopt_long(s->argc, s->argv, "-:hT:V", options, NULL)) != -1) {
        const struct Action *a = c >= OPT_ACTION ? &actions[c - OPT_ACTION]
                                 : c == 'T'      ? &actions[G_N_ELEMENTS(actions) - 1]
                                                 : NULL;

        if (a) {
            a->run(optarg, &s->err);
            if (s->err) {
                s->text = g_strdup_printf("--%s %s", a->name, optarg);
            }
        }
    }
}

/* --- Life -------------------------------------------------------------------------------------- */

static gboolean on_signal(gpointer opaque)
{
    end_loop();
    return G_SOURCE_CONTINUE;
}

static void set_up(void)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    GError *err = NULL;
    IOThread *thread;
    GSource *source;

    main_aio_context_init();
    loop = g_main_loop_new(NULL, FALSE);
    source = aio_get_g_source(main_aio_context());
    g_source_attach(source, NULL);
    g_source_unref(source);
    signal(SIGPIPE, SIG_IGN);
    for (size_t i = 0; i < G_N_ELEMENTS(signals); i++) {
        g_unix_signal_add(signals[i], on_signal, NULL);
    }
    bdrv_init();
    vmstate_fuse_register();
    qmp_registry_init(commands);
    monitor_init(NULL, 0);
    thread = iothreads_default(&err);
    if (!thread) {
        fail("", err);
    }
    bdrv_set_default_context(iothread_context(thread));
}

static void coroutine_fn close_entry(void *opaque)
{
    block_export_co_remove_all();
    bdrv_co_close_all();
}

int main(int argc, char **argv)
{
    g_autofree char *name = g_path_get_basename(argv[0]);
    Start start = {.argc = argc, .argv = argv};

    g_set_prgname(name);
    opterr = 0;
    first_pass(argc, argv);
    set_up();
    aio_co_run_sync(main_aio_context(), second_pass, &start);
    if (start.err) {
        g_printerr("%s: %s: %s\n", name, start.text, start.err->message);
    } else {
        daemonize_ready();
        if (!ended) {
            g_main_loop_run(loop);
        }
    }
    aio_co_run_sync(main_aio_context(), close_entry, NULL);
    iothreads_cleanup();
    monitor_cleanup();
    chardev_cleanup();
    pidfile_remove();
    log_flush();
    return start.err ? 1 : 0;
}
