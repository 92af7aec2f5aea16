/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The command line: one table of options.  What an option says goes into a member of
 * CommandLine, a QAPI type, as key=value or as JSON; a function may then check it and do what
 * else there is to do.  An option that QEMU has and Keyframe has not says so in one line;
 * nothing is ignored without a word.
 */
#include <stdlib.h>
#include <string.h>
#include "config-host.h"
#include "monitor/monitor.h"
#include "net/net.h"
#include "options-int.h"
#include "qapi/compat.h"
#include "qapi/error.h"
#include "qapi/keyval.h"
#include "qapi/qapi-visit-command-line.h"
#include "system/gdbstub.h"

#define MIB (UINT64_C(1) << 20)

typedef struct Option {
    const char *name;
    const char *arg;  /* for help; NULL: takes none */
    OptionFunc *func; /* NULL: nothing to do */
    const char *help;
    const char *member; /* of CommandLine; NULL: not supported, help says why and what to use */
    /*
     * Of a structured member: what a first value without '=' belongs to; with fixed, the only
     * thing that the option can say.
     */
    const char *key;
    const char *fixed; /* "": the argument as it is; else what an option without one says */
    OptionInspect *inspect;
    OptionTree *tree; /* instead of key=value and JSON as they are everywhere */
    const char *owner; /* whose property a parameter is, for option_is_known(); NULL: the schema's words */
} Option;

static const Option options[];

char *option_describe(const char *option, const char *arg)
{
    return arg ? g_strdup_printf("-%s %s", option, arg) : g_strdup_printf("-%s", option);
}

void option_replace(char **slot, const char *value)
{
    g_free(*slot);
    *slot = g_strdup(value);
}

const char *option_text(json_object *tree, const char *member)
{
    json_object *value;

    return json_object_object_get_ex(tree, member, &value) &&
                   json_object_is_type(value, json_type_string)
               ? json_object_get_string(value)
               : NULL;
}

bool option_check_id(const char *id, GError **errp)
{
    if (id && !qapi_id_is_wellformed(id)) {
        error_setg(errp, "Parameter 'id' expects an identifier");
        return false;
    }
    return true;
}

bool option_is_known(const QapiType *type, const char *name, const char *owner, GError **errp)
{
    if (qapi_find_member(type, name)) {
        return true;
    }
    if (*owner) {
        error_setg(errp, "Property '%s.%s' not found", owner, name);
    } else {
        error_setg(errp, "Invalid parameter '%s'", name);
    }
    return false;
}

/* Whether the option has all that tree says; JSON of another kind is left to the visitor. */
static bool all_known(const Option *option, const QapiType *type, json_object *tree, GError **errp)
{
    if (!option->owner || !json_object_is_type(tree, json_type_object)) {
        return true;
    }
    json_object_object_foreach(tree, name, value)
    {
        (void)value;
        if (!option_is_known(type, name, option->owner, errp)) {
            return false;
        }
    }
    return true;
}

/* --- Into the schema's types --------------------------------------------------------------- */

/* The argument as a tree; *keyval: all its leaves are text. */
static json_object *argument_tree(const Option *option, const QapiType *type, const char *arg,
                                  bool *keyval, GError **errp)
{
    json_object *tree;
    bool is_json;

    *keyval = true;
    if (type->kind != QAPI_KIND_OBJECT) {
        return json_object_new_string(arg ? arg : option->fixed ? option->fixed : "on");
    }
    if (option->tree) {
        return option->tree(arg, keyval, errp);
    }
    if (option->fixed) {
        tree = json_object_new_object();
        json_object_object_add(tree, option->key,
                               json_object_new_string(*option->fixed ? option->fixed : arg));
        return tree;
    }
    tree = keyval_or_json_parse(arg, option->key, &is_json, errp);
    *keyval = !is_json;
    return tree;
}

static bool take_argument(CommandLine *given, const Option *option, const char *arg,
                          GError **errp)
{
    const QapiType *type = qapi_find_member(&qapi_type_CommandLine, option->member)->type;
    json_object *tree;
    bool keyval, ok;

    type = type->kind == QAPI_KIND_LIST ? type->element : type;
    tree = argument_tree(option, type, arg, &keyval, errp);
    ok = tree && all_known(option, type, tree, errp) &&
         (!option->inspect || option->inspect(tree, !keyval, errp)) &&
         qapi_input_member(&qapi_type_CommandLine, given, option->member, tree, keyval, errp);
    json_object_put(tree);
    return ok;
}

/* --- Help and version: print, then *exit_code 0 --------------------------------------- */

static bool done; /* an option has printed what was asked for: nothing to run */

void option_ends(void)
{
    done = true;
}

static bool opt_version(VmOptions *o, const char *option, const char *arg, GError **errp)
{
    g_print("QEMU emulator version 7.2.0 (Keyframe " KEYFRAME_VERSION ")\n"
            "Keyframe is an independent program with QEMU's interfaces.\n");
    done = true;
    return true;
}

static bool opt_help(VmOptions *o, const char *option, const char *arg, GError **errp)
{
    opt_version(o, option, arg, errp);
    g_print("usage: %s [options]\n\n", g_get_prgname());
    for (const Option *p = options; p->name; p++) {
        if (p->member || p->func) {
            g_autofree char *left = option_describe(p->name, p->arg);

            g_print("%-36s %s\n", left, p->help);
        }
    }
    return true;
}

/* "help" as an argument of an option of several parameters, or in it. */
static bool print_help(const Option *option, const char *arg)
{
    const QapiType *type;

    if (!arg || !option->member || option->fixed) {
        return false;
    }
    type = qapi_find_member(&qapi_type_CommandLine, option->member)->type;
    type = type->kind == QAPI_KIND_LIST ? type->element : type;
    done = type->kind == QAPI_KIND_OBJECT &&
           option_print_help(option->member, type, option->key, arg);
    return done;
}

/* --- What is not part of the machine --------------------------------------------------------- */

#define FLAG_OPTION(func, member) \
    static bool func(VmOptions *o, const char *option, const char *arg, GError **errp) \
    { \
        o->member = true; \
        return true; \
    }
FLAG_OPTION(opt_start_stopped, start_stopped)
FLAG_OPTION(opt_nodefaults, nodefaults)
FLAG_OPTION(opt_snapshot, temp_overlays)
FLAG_OPTION(opt_nographic, nographic)
FLAG_OPTION(opt_daemonize, daemonize)
FLAG_OPTION(opt_display, display_chosen)

static bool opt_data_dir(VmOptions *o, const char *option, const char *arg, GError **errp)
{
    g_ptr_array_insert(o->data_dirs, o->data_dirs->len - 1, g_strdup(arg));
    return true;
}

static bool opt_uuid(VmOptions *o, const char *option, const char *arg, GError **errp)
{
    char *lower;

    if (!g_uuid_string_is_valid(arg)) {
        error_setg(errp, "failed to parse UUID string: wrong format");
        return false;
    }
    lower = g_ascii_strdown(arg, -1);
    option_replace(&o->given->uuid, lower);
    g_free(lower);
    return true;
}

static bool opt_action(VmOptions *o, const char *option, const char *arg, GError **errp)
{
    const ActionOptions *a = o->given->action;

    o->reboot_shuts_down = a->has_reboot && a->reboot == REBOOT_ACTION_SHUTDOWN;
    o->shutdown_pauses = a->has_shutdown && a->shutdown == SHUTDOWN_ACTION_PAUSE;
    return true;
}

static bool opt_compat(VmOptions *o, const char *option, const char *arg, GError **errp)
{
    qapi_set_compat_policy(o->given->compat);
    return true;
}

static bool opt_overcommit(VmOptions *o, const char *option, const char *arg, GError **errp)
{
    const OvercommitOptions *c = o->given->overcommit;

    if (c->has_cpu_pm && c->cpu_pm) {
        error_setg(errp, "guest code is interpreted: it cannot use the host's power states");
        return false;
    }
    o->mem_lock = c->has_mem_lock && c->mem_lock;
    return true;
}

static bool opt_global(VmOptions *o, const char *option, const char *arg, GError **errp)
{
    g_printerr("%s: warning: -global %s: ignored, there are no properties to set\n",
               g_get_prgname(), arg);
    return true;
}

/* --- Disks, devices, character devices, monitors ------------------------------------------- */

DriveOptions *option_last_drive(VmOptions *o)
{
    return LAST(o->given->drive);
}

static bool opt_blockdev(VmOptions *o, const char *option, const char *arg, GError **errp)
{
    BlockdevOptions *blockdev = LAST(o->given->blockdev);
    BlockdevOption *b;

    if (!blockdev->node_name) {
        error_setg(errp, "'node-name' must be specified for the root node");
        return false;
    }
    b = g_new(BlockdevOption, 1);
    *b = (BlockdevOption){option_describe(option, arg), blockdev};
    g_ptr_array_add(o->blockdevs, b);
    return true;
}

static bool opt_device(VmOptions *o, const char *option, const char *arg, GError **errp)
{
    DeviceOptions *device = LAST(o->given->device);
    DeviceOption *d;

    if (!option_check_id(device->id, errp)) {
        return false;
    }
    if (device->driver == DEVICE_DRIVER_VIRTIO_BLK_DEVICE &&
        device->u.virtio_blk_device.has_bootindex) {
        g_printerr("%s: warning: -device %s: the firmware is not told of bootindex\n",
                   g_get_prgname(), arg);
    }
    d = g_new(DeviceOption, 1);
    *d = (DeviceOption){option_describe(option, arg), device};
    g_ptr_array_add(o->devices, d);
    return true;
}

static bool opt_object(VmOptions *o, const char *option, const char *arg, GError **errp)
{
    ObjectOptions *object = LAST(o->given->object);
    ObjectOption *ob;

    if (!option_check_id(object->id, errp)) {
        return false;
    }
    for (guint i = 0; i < o->objects->len; i++) {
        ob = o->objects->pdata[i];
        if (!strcmp(ob->object->id, object->id)) {
            error_setg(errp, "Duplicate ID '%s' for object", object->id);
            return false;
        }
    }
    ob = g_new(ObjectOption, 1);
    *ob = (ObjectOption){option_describe(option, arg), object};
    g_ptr_array_add(o->objects, ob);
    return true;
}

static bool opt_chardev(VmOptions *o, const char *option, const char *arg, GError **errp)
{
    ChardevOption *c = g_new(ChardevOption, 1);

    *c = (ChardevOption){option_describe(option, arg), LAST(o->given->chardev)};
    g_ptr_array_add(o->chardevs, c);
    return true;
}

static bool opt_add_fd(VmOptions *o, const char *option, const char *arg, GError **errp)
{
    return monitor_add_fd_option(arg, errp);
}

static bool opt_serial(VmOptions *o, const char *option, const char *arg, GError **errp)
{
    if (o->serials->len == 1) {
        error_setg(errp, "the machine has one serial port");
        return false;
    }
    g_ptr_array_add(o->serials, g_strdup(arg));
    return true;
}

static void add_monitor(VmOptions *o, char *text, MonitorKind kind, char *spec)
{
    MonitorOption *m = g_new(MonitorOption, 1);

    *m = (MonitorOption){text, kind, spec};
    g_ptr_array_add(o->monitors, m);
}

static bool opt_monitor(VmOptions *o, const char *option, const char *arg, GError **errp)
{
    MonitorKind kind = !strcmp(option, "monitor") ? MONITOR_KIND_HMP
                       : !strcmp(option, "qmp")   ? MONITOR_KIND_QMP
                                                  : MONITOR_KIND_QMP_PRETTY;

    add_monitor(o, option_describe(option, arg), kind, g_strdup(arg));
    return true;
}

static bool opt_mon(VmOptions *o, const char *option, const char *arg, GError **errp)
{
    const MonitorOptions *m = LAST(o->given->mon);
    MonitorKind kind = !m->has_mode || m->mode == MONITOR_MODE_READLINE ? MONITOR_KIND_HMP
                       : m->has_pretty && m->pretty                     ? MONITOR_KIND_QMP_PRETTY
                                                                        : MONITOR_KIND_QMP;

    if (kind == MONITOR_KIND_HMP && m->has_pretty && m->pretty) {
        error_setg(errp, "'pretty' is not compatible with HMP monitors");
        return false;
    }
    add_monitor(o, option_describe(option, arg), kind, g_strconcat("chardev:", m->chardev, NULL));
    return true;
}

static bool opt_echr(VmOptions *o, const char *option, const char *arg, GError **errp)
{
    char *end;
    long c = strtol(arg, &end, 0);

    if (end == arg || *end) {
        error_setg(errp, "Bad argument to echr");
        return false;
    }
    chardev_set_escape(CLAMP(c, -1, 256));
    return true;
}

/* There is only "none" of some devices; what else could be there is said before the type does. */
static bool inspect_display(json_object *tree, bool is_json, GError **errp)
{
    const char *type = json_object_is_type(tree, json_type_string) ? json_object_get_string(tree)
                                                                   : option_text(tree, "type");

    if (type && strcmp(type, "none")) {
        error_setg(errp, "there is only 'none'");
        return false;
    }
    return true;
}

/* --- The table ------------------------------------------------------------------------------ */

#define UNSUPPORTED(name, arg, why) {name, arg, NULL, why}

static const Option options[] = {
    {"h", NULL, opt_help, "show this help"},
    {"help", NULL, opt_help, "show this help"},
    {"version", NULL, opt_version, "show the version"},
    {"M", "TYPE[,...]", opt_machine, "kind of machine: virt, none", "machine", "type",
     .inspect = inspect_machine},
    {"machine", "[type=]TYPE[,...]", opt_machine, "the same; dumpdtb=FILE, snapshot-tracking=off, ...", "machine",
     "type", .inspect = inspect_machine},
    {"cpu", "[model=]MODEL", NULL, "kind of CPU: rv64, max", "cpu", "model",
     .inspect = inspect_cpu, .owner = "rv64-riscv-cpu"},
    {"accel", "[accel=]NAME", NULL, "how guest code is executed: tcg", "accel", "accel",
     .owner = "tcg-accel"},
    {"smp", "[cpus=]N[,...]", opt_smp, "number of CPUs: 1", "smp-opts", "cpus"},
    {"m", "[size=]SIZE", opt_memory, "RAM in MiB, or with suffix (default: 128)", "memory", "size",
     .inspect = inspect_memory, .owner = ""},
    {"bios", "FILE", NULL, "firmware (default: OpenSBI), none", "machine", "firmware", ""},
    {"kernel", "FILE", NULL, "kernel: Linux Image or ELF", "machine", "kernel", ""},
    {"initrd", "FILE", NULL, "initial RAM disk", "machine", "initrd", ""},
    {"append", "TEXT", NULL, "the kernel's command line", "machine", "append", ""},
    {"dtb", "FILE", NULL, "device tree to use instead of the machine's", "machine", "dtb", ""},
    {"L", "DIR", opt_data_dir, "where to look for firmware, too", "data-dir"},
    {"drive", "file=FILE[,...]", opt_drive, "a disk image and how it is used", "drive",
     .tree = drive_tree},
    {"pflash", "FILE", opt_pflash, "content of the next flash bank", "drive", "file", ""},
    {"blockdev", "[driver=]DRIVER,...", opt_blockdev, "a block node", "blockdev", "driver"},
    {"device", "[driver=]DRIVER[,...]", opt_device, "a device: virtio-blk-device, virtio-net-device, vmgenid", "device",
     "driver", .inspect = inspect_device_option},
    {"object", "[qom-type=]TYPE,id=ID", opt_object, "an object: iothread, memory-backend-ram, secret", "object", "qom-type"},
    {"add-fd", "fd=FD,set=SET[,opaque=TEXT]", opt_add_fd, "an inherited descriptor as /dev/fdset/SET", "add-fd", .owner = ""},
    {"chardev", "BACKEND,id=ID[,...]", opt_chardev, "a character device", "chardev",
     .tree = chardev_options_tree},
    {"serial", "DEV", opt_serial, "where the serial port leads: stdio, mon:stdio, unix:...", "serial"},
    {"monitor", "DEV", opt_monitor, "a human monitor", "monitor"},
    {"qmp", "DEV", opt_monitor, "a QMP monitor", "qmp"},
    {"qmp-pretty", "DEV", opt_monitor, "a QMP monitor with replies laid out over lines", "qmp-pretty"},
    {"mon", "[chardev=]ID[,mode=...]", opt_mon, "a monitor on a character device", "mon", "chardev", .owner = ""},
    {"echr", "CHAR", opt_echr, "number of the character before the keys of mon: (default: 1, Ctrl-A)", "echr"},
    {"name", "[guest=]NAME[,...]", NULL, "name of the virtual machine", "name", "guest", .owner = ""},
    {"uuid", "UUID", opt_uuid, "UUID of the virtual machine", "uuid"},
    {"S", NULL, opt_start_stopped, "do not start the guest: wait for cont", "start-stopped"},
    {"d", "ITEM[,...]", opt_log, "log these items (-d help: what there is)", "log-items"},
    {"D", "FILE", opt_log_file, "write the log to FILE, not to stderr", "log-file"},
    {"trace", "[[enable=]PATTERN][,events=FILE][,file=FILE]", opt_trace, "switch on trace points", "trace"},
    {"qtest", "DEV", NULL, "let a test drive the machine, see docs/devel/qtest.md", "qtest"},
    {"qtest-log", "FILE", opt_qtest_log, "where a test's lines are logged (default: stderr), none", "qtest-log"},
    {"gdb", "DEV", NULL, "wait for a GDB connection on DEV: tcp::1234, unix:..., chardev:ID", "gdb"},
    {"s", NULL, NULL, "the same as -gdb " GDBSTUB_DEFAULT_DEVICE, "gdb", .fixed = GDBSTUB_DEFAULT_DEVICE},
    {"loadvm", "TAG", NULL, "start from a snapshot", "loadvm"},
    {"snapshot", NULL, opt_snapshot, "write to temporary files instead of the images of -drive", "snapshot"},
    {"incoming", "ADDRESS", NULL, "take in a migrated machine: tcp:, unix:, fd:, exec:, file:, snapshot:, defer", "incoming"},
    {"display", "none", opt_display, "there is no display", "display", "type",
     .inspect = inspect_display},
    {"nographic", NULL, opt_nographic, "serial port and monitor on the terminal", "nographic"},
    {"nodefaults", NULL, opt_nodefaults, "no devices but those that are named", "nodefaults"},
    {"no-user-config", NULL, NULL, "there are no configuration files", "no-user-config"},
    {"no-reboot", NULL, opt_action, "exit when the guest reboots", "action", "reboot", "shutdown"},
    {"no-shutdown", NULL, opt_action, "stop instead of exiting when the guest shuts down", "action",
     "shutdown", "pause"},
    {"action", "EVENT=ACTION", opt_action, "reboot=reset|shutdown, shutdown=poweroff|pause", "action",
     .owner = ""},
    {"watchdog-action", "ACTION", opt_action, "the same as -action watchdog=ACTION", "action",
     "watchdog", ""},
    {"pidfile", "FILE", NULL, "write the process id to FILE", "pidfile"},
    {"daemonize", NULL, opt_daemonize, "go to the background when ready", "daemonize"},
    {"rtc", "base=utc", NULL, "the guest's wall clock is the host's, in UTC", "rtc", .owner = ""},
    {"vga", "none", NULL, "there is no display", "vga", .inspect = inspect_display},
    {"netdev", "[type=]TYPE,id=ID[,...]", opt_netdev, "a network backend: user, stream, dgram", "netdev",
     .tree = netdev_tree, .inspect = inspect_netdev},
    {"nic", "[type=]TYPE[,...]", opt_nic, "a network device and its backend: user, stream, dgram; none", "nic",
     .tree = netdev_tree, .inspect = inspect_nic},
    {"net", "none", NULL, "no network: as without this option", "net", .inspect = inspect_net},
    {"parallel", "none", NULL, "there is no parallel port", "parallel", .inspect = inspect_display},
    {"audiodev", "[driver=]none,id=ID", NULL, "the machine makes no sound", "audiodev", "driver"},
    {"boot", "strict=on|off", NULL, "the firmware is told nothing", "boot-opts", "order"},
    {"overcommit", "mem-lock=on|off", opt_overcommit, "keep all memory in the host's RAM", "overcommit", .owner = ""},
    {"msg", "[timestamp=on][,guest-name=on]", NULL, "how messages begin", "msg", .owner = ""},
    {"compat", "deprecated-input=...[,...]", opt_compat, "accept, reject, crash; deprecated-output=accept, hide; unstable-...", "compat"},
    {"global", "...", opt_global, "ignored with a warning", "global"},
    UNSUPPORTED("set", "", "give the property with the device"),
    UNSUPPORTED("readconfig", "", "give the options on the command line"),
    UNSUPPORTED("writeconfig", "", "there are no configuration files"),
    UNSUPPORTED("sandbox", "", "use the service manager's sandbox"),
    UNSUPPORTED("runas", "", "start the process as that user"),
    UNSUPPORTED("chroot", "", "use the service manager's sandbox"),
    UNSUPPORTED("enable-kvm", NULL, "guest code is interpreted"),
    UNSUPPORTED("fda", "", "the machine has no floppy drive"),
    UNSUPPORTED("fdb", "", "the machine has no floppy drive"),
    UNSUPPORTED("hda", "", "use -drive"),
    UNSUPPORTED("hdb", "", "use -drive"),
    UNSUPPORTED("hdc", "", "use -drive"),
    UNSUPPORTED("hdd", "", "use -drive"),
    UNSUPPORTED("cdrom", "", "use -drive"),
    UNSUPPORTED("usb", NULL, "the machine has no USB"),
    UNSUPPORTED("vnc", "", "there is no display"),
    UNSUPPORTED("icount", "", "the guest's clock follows the host's"),
    {NULL},
};

static const Option *find_option(const char *name)
{
    for (const Option *p = options; p->name; p++) {
        if (!strcmp(p->name, name)) {
            return p;
        }
    }
    return NULL;
}

static bool parse_one(VmOptions *o, char **argv, int argc, int *i, GError **errp)
{
    const char *word = argv[*i], *arg = NULL;
    const Option *option;
    GError *err = NULL;

    if (word[0] != '-' || !word[1]) {
        error_setg(errp, "%s: a disk image is given with -drive file=%s", word, word);
        return false;
    }
    word += word[1] == '-' ? 2 : 1;
    option = find_option(word);
    if (!option) {
        error_setg(errp, "-%s: invalid option", word);
        return false;
    }
    if (!option->func && !option->member) {
        error_setg(errp, "-%s: not supported: %s", word, option->help);
        return false;
    }
    if (option->arg) {
        if (*i + 1 >= argc) {
            error_setg(errp, "-%s: requires an argument", word);
            return false;
        }
        arg = argv[++*i];
    }
    if (print_help(option, arg)) {
        return true;
    }
    if ((option->member && !take_argument(o->given, option, arg, &err)) ||
        (option->func && !option->func(o, word, arg, &err))) {
        error_setg(errp, "-%s%s%s: %s", word, arg ? " " : "", arg ? arg : "", err->message);
        g_error_free(err);
        return false;
    }
    return true;
}

/* What the options say together. */
static bool check_together(VmOptions *o, GError **errp)
{
    const CommandLine *g = o->given;

    if (o->daemonize && o->nographic && !o->nodefaults && !o->serials->len) {
        error_setg(errp, "-nographic cannot be used with -daemonize");
        return false;
    }
    if (g->incoming && g->loadvm) {
        error_setg(errp, "'incoming' and 'loadvm' options are mutually exclusive");
        return false;
    }
    o->name = g->name ? g->name->guest : NULL;
    o->process_name = g->name ? g->name->process : NULL;
    o->uuid = g->uuid;
    o->loadvm = g->loadvm;
    o->incoming = g->incoming;
    o->pidfile = g->pidfile;
    o->gdb = g->gdb;
    o->qtest = g->qtest;
    return options_check_machine(o, errp);
}

/* Of a DriveOption and its like: text is the first member, the rest is in o->given. */
static void free_use(void *p)
{
    char **text = p;

    g_free(*text);
    g_free(p);
}

static void free_monitor(void *p)
{
    MonitorOption *m = p;

    g_free(m->text);
    g_free(m->spec);
    g_free(m);
}

VmOptions *options_parse(int argc, char **argv, int *exit_code, GError **errp)
{
    VmOptions *o = g_new0(VmOptions, 1);
    bool ok = true;

    o->given = g_new0(CommandLine, 1);
    o->machine = MACHINE_TYPE_VIRT;
    o->ram_size = 128 * MIB;
    o->data_dirs = g_ptr_array_new_with_free_func(g_free);
    g_ptr_array_add(o->data_dirs, NULL);
    o->drives = g_ptr_array_new_with_free_func(free_use);
    o->blockdevs = g_ptr_array_new_with_free_func(free_use);
    o->devices = g_ptr_array_new_with_free_func(free_use);
    o->objects = g_ptr_array_new_with_free_func(free_use);
    o->chardevs = g_ptr_array_new_with_free_func(free_use);
    o->netdevs = g_ptr_array_new_with_free_func(free_use);
    o->nics = g_ptr_array_new_with_free_func(free_use);
    o->serials = g_ptr_array_new_with_free_func(g_free);
    o->monitors = g_ptr_array_new_with_free_func(free_monitor);

    done = false;
    for (int i = 1; ok && !done && i < argc; i++) {
        ok = parse_one(o, argv, argc, &i, errp);
    }
    if (ok && !done) {
        ok = check_together(o, errp);
    }
    if (!ok || done) {
        *exit_code = ok ? 0 : 1;
        options_free(o);
        return NULL;
    }
    return o;
}

void options_free(VmOptions *o)
{
    g_ptr_array_unref(o->data_dirs);
    g_ptr_array_unref(o->drives);
    g_ptr_array_unref(o->blockdevs);
    g_ptr_array_unref(o->devices);
    g_ptr_array_unref(o->objects);
    g_ptr_array_unref(o->chardevs);
    g_ptr_array_unref(o->netdevs);
    g_ptr_array_unref(o->nics);
    g_ptr_array_unref(o->serials);
    g_ptr_array_unref(o->monitors);
    qapi_free_CommandLine(o->given);
    g_free(o);
}
