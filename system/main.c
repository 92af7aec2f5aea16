/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kf-system-riscv64: reads the command line, makes the machine and its monitors, runs the
 * main loop until somebody wants to quit, and takes everything apart in order.
 */
#include <errno.h>
#include <glib-unix.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include "block/block-hmp.h"
#include "block/block.h"
#include "job/job.h"
#include "migration/migrate.h"
#include "migration/snapshot-hmp.h"
#include "migration/vmstate-fs.h"
#include "monitor/monitor.h"
#include "net/net-hmp.h"
#include "net/net.h"
#include "objects.h"
#include "qapi/error.h"
#include "qapi/qapi-init.h"
#include "system-int.h"
#include "system/gdbstub.h"
#include "system/qtest.h"
#include "system/run-state.h"
#include "util/aio.h"
#include "util/daemonize.h"
#include "util/fd-table.h"
#include "util/iothreads.h"
#include "util/log.h"
#include "util/stdio.h"
#include "util/thread-role.h"

static GMainLoop *loop;
static int exit_code;
static bool ended;

static void G_GNUC_NORETURN fail(GError *err)
{
    log_flush();
    g_printerr("%s: %s\n", g_get_prgname(), err->message);
    chardev_cleanup();
    pidfile_remove();
    exit(1);
}

static void end_main_loop(int code)
{
    exit_code = code;
    ended = true;
    g_main_loop_quit(loop);
}

static gboolean on_signal(gpointer signal_number)
{
    g_printerr("%s: terminating on signal %d\n", g_get_prgname(),
               GPOINTER_TO_INT(signal_number));
    run_state_request_shutdown(SHUTDOWN_CAUSE_HOST_SIGNAL, 0);
    return G_SOURCE_CONTINUE;
}

static void handle_signals(void)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};

    signal(SIGPIPE, SIG_IGN);
    for (size_t i = 0; i < G_N_ELEMENTS(signals); i++) {
        g_unix_signal_add(signals[i], on_signal, GINT_TO_POINTER(signals[i]));
    }
}

/* What QEMU adds to a command line that names neither serial port nor monitor. */
static void add_defaults(VmOptions *o)
{
    bool terminal = o->nographic || !o->display_chosen;

    if (o->nodefaults || o->daemonize) {
        return;
    }
    if (terminal && o->serials->len == 0 && o->monitors->len == 0) {
        g_ptr_array_add(o->serials, g_strdup("mon:stdio"));
    } else if (o->nographic && o->serials->len == 0) {
        g_ptr_array_add(o->serials, g_strdup("stdio"));
    }
}

static void make_objects(const VmOptions *o)
{
    GError *err = NULL;

    for (guint i = 0; i < o->objects->len; i++) {
        ObjectOption *object = o->objects->pdata[i];

        if (!objects_create(object->object, &err)) {
            g_prefix_error(&err, "%s: ", object->text);
            fail(err);
        }
    }
    for (guint i = 0; i < o->chardevs->len; i++) {
        ChardevOption *chardev = o->chardevs->pdata[i];

        if (!chardev_new_from_options(chardev->chardev, &err)) {
            g_prefix_error(&err, "%s: ", chardev->text);
            fail(err);
        }
    }
}

static void make_monitors(const VmOptions *o)
{
    GError *err = NULL;

    for (guint i = 0; i < o->monitors->len; i++) {
        MonitorOption *m = o->monitors->pdata[i];
        g_autofree char *label = g_strdup_printf("compat_monitor%u", i);
        Chardev *chr;
        bool ok;

        if (!strcmp(m->spec, "none")) {
            continue;
        }
        chr = chardev_new_from_spec(label, m->spec, &err);
        ok = chr && (m->kind == MONITOR_KIND_HMP
                         ? monitor_add_hmp(chr, true, &err)
                         : monitor_add_qmp(chr, m->kind == MONITOR_KIND_QMP_PRETTY, &err));
        if (!ok) {
            g_prefix_error(&err, "%s: ", m->text);
            fail(err);
        }
    }
}

static void make_qtest(const VmOptions *o)
{
    GError *err = NULL;

    if (o->qtest && !qtest_start(o->qtest, vm_board(), o->accel_qtest, !o->qtest_quiet, &err)) {
        g_prefix_error(&err, "-qtest %s: ", o->qtest);
        fail(err);
    }
}

static void make_gdbstub(const VmOptions *o)
{
    GError *err = NULL;

    if (o->gdb && !gdbstub_start(o->gdb, &err)) {
        g_prefix_error(&err, "-gdb %s: ", o->gdb);
        fail(err);
    }
}

static Chardev *make_serial(const VmOptions *o)
{
    GError *err = NULL;
    Chardev *chr;
    char *spec;

    if (o->serials->len == 0) {
        return NULL;
    }
    spec = o->serials->pdata[0];
    if (!strcmp(spec, "none")) {
        return NULL;
    }
    chr = chardev_new_from_spec("serial0", spec, &err);
    if (!chr) {
        g_prefix_error(&err, "-serial %s: ", spec);
        fail(err);
    }
    return chr;
}

/* Everything that the process has and will have stays in the host's RAM. */
static void lock_memory(void)
{
    GError *err = NULL;

    if (mlockall(MCL_CURRENT | MCL_FUTURE)) {
        error_setg_errno(&err, errno, "-overcommit mem-lock=on: locking memory failed");
        fail(err);
    }
}

static void dump_dtb(const char *filename)
{
    GError *err = NULL;
    size_t size;
    const void *fdt = vm_fdt(&size);

    if (!g_file_set_contents(filename, fdt, size, &err)) {
        g_prefix_error(&err, "-machine dumpdtb=%s: ", filename);
        fail(err);
    }
    g_printerr("%s: info: dtb dumped to %s. Exiting.\n", g_get_prgname(), filename);
}

typedef struct StartArgs {
    GError *err;
    bool ok;
} StartArgs;

static void coroutine_fn start_entry(void *opaque)
{
    StartArgs *a = opaque;

    a->ok = vm_co_start(&a->err);
}

static void run(const VmOptions *o)
{
    StartArgs start = {0};

    aio_co_run_sync(main_aio_context(), start_entry, &start);
    if (!start.ok) {
        vm_destroy();
        fail(start.err);
    }
    daemonize_ready();
    /* A client's quit may have been heard while the machine was being started. */
    if (!ended) {
        g_main_loop_run(loop);
    }
}

static void shut_down(void)
{
    gdbstub_end();
    qtest_end();
    vm_destroy();
    monitor_cleanup();
    chardev_cleanup();
    objects_cleanup();
    pidfile_remove();
}

/* The guest runs again.  Any thread. */
static void go_on(void)
{
    disks_retry();
    net_go();
}

int main(int argc, char **argv)
{
    static const HMPCommand *const hmp_tables[] = {system_hmp_commands, memory_hmp_commands,
                                                  qom_hmp_commands, info_hmp_commands,
                                                  absent_hmp_commands,
                                                  block_hmp_commands,
                                                  job_hmp_commands, migration_hmp_commands,
                                                  migrate_hmp_commands, debug_hmp_commands,
                                                  net_hmp_commands};
    static const RunStateOps run_state_ops = {.reset = vm_co_reset, .exit = end_main_loop,
                                              .go_on = go_on,
                                              .rest = net_co_rest,
                                              .settle = disks_co_settle};
    g_autofree char *name = g_path_get_basename(argv[0]);
    GError *err = NULL;
    GSource *source;
    VmOptions *o;

    g_set_prgname(name);
    o = options_parse(argc, argv, &exit_code, &err);
    if (!o) {
        if (err) {
            fail(err);
        }
        return exit_code;
    }
    messages_init(o);
    if (o->process_name) {
        prctl(PR_SET_NAME, o->process_name);
    }
    if (o->daemonize && !daemonize_start(&err)) {
        fail(err);
    }
    fd_table_reserve();
    stdio_never_wait();
    if (o->pidfile && !pidfile_write(o->pidfile, &err)) {
        fail(err);
    }

    thread_set_role(THREAD_ROLE_ANSWER);
    main_aio_context_init();
    loop = g_main_loop_new(NULL, FALSE);
    source = aio_get_g_source(main_aio_context());
    g_source_attach(source, NULL);
    g_source_unref(source);
    handle_signals();
    bdrv_init();
    vmstate_fuse_register();
    qmp_registry_init(qmp_commands);
    monitor_init(hmp_tables, G_N_ELEMENTS(hmp_tables));
    chardev_set_save_disks(disks_save);
    run_state_init(&run_state_ops);
    run_state_set_reboot_action(o->reboot_shuts_down ? REBOOT_ACTION_SHUTDOWN
                                                     : REBOOT_ACTION_RESET);
    run_state_set_shutdown_action(o->shutdown_pauses ? SHUTDOWN_ACTION_PAUSE
                                                     : SHUTDOWN_ACTION_POWEROFF);

    add_defaults(o);
    vm_set_options(o);
    make_objects(o);
    if (!vm_create(make_serial(o), &err)) {
        fail(err);
    }
    if (o->mem_lock) {
        lock_memory();
    }
    if (o->dumpdtb) {
        dump_dtb(o->dumpdtb);
    } else {
        /* Nobody has waited for the main loop so far. */
        aio_loop_stats(main_aio_context(), true);
        make_monitors(o);
        make_gdbstub(o);
        make_qtest(o);
        run(o);
    }
    shut_down();
    log_flush();
    options_free(o);
    return exit_code;
}
