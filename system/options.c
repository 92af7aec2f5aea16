/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The command line: one table of options, each with the function that takes its argument.
 * Structured arguments are QAPI types, as key=value or as JSON.  An option that QEMU has and
 * Keyframe has not says so in one line; nothing is ignored without a word.
 */
#include <string.h>
#include "config-host.h"
#include "monitor/monitor.h"
#include "qapi/error.h"
#include "qapi/keyval.h"
#include "qapi/qapi-visit-block-core.h"
#include "qapi/qapi-visit-machine.h"
#include "system/gdbstub.h"
#include "system/options.h"

#define MIB (UINT64_C(1) << 20)

typedef bool OptionFunc(VmOptions *o, const char *option, const char *arg, GError **errp);

typedef struct Option {
    const char *name;
    const char *arg;  /* for help; NULL: takes none */
    OptionFunc *func; /* NULL: not supported, help says why and what to use instead */
    const char *help;
} Option;

static const Option options[];

static char *describe(const char *option, const char *arg)
{
    return arg ? g_strdup_printf("-%s %s", option, arg) : g_strdup_printf("-%s", option);
}

static void replace(char **slot, const char *value)
{
    g_free(*slot);
    *slot = g_strdup(value);
}

/* --- Help and version: print, then *exit_code 0 --------------------------------------- */

static bool done; /* an option has printed what was asked for: nothing to run */

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
        if (p->func) {
            g_autofree char *left = describe(p->name, p->arg);

            g_print("%-36s %s\n", left, p->help);
        }
    }
    return true;
}

static bool is_help(const char *arg)
{
    return !strcmp(arg, "help") || !strcmp(arg, "?");
}

static bool print_list(const char *text)
{
    g_print("%s", text);
    done = true;
    return true;
}

/* --- The machine ------------------------------------------------------------------------ */

static bool opt_accel(VmOptions *o, const char *option, const char *arg, GError **errp)
{
    if (is_help(arg)) {
        return print_list("Accelerators supported in QEMU binary:\ntcg\n");
    }
    if (strcmp(arg, "tcg")) {
        g_autofree char *name = g_strndup(arg, strcspn(arg, ","));

        if (!strcmp(name, "tcg")) {
            error_setg(errp, "the accelerator has no parameters here");
        } else {
            error_setg(errp, "invalid accelerator %s", name);
        }
        return false;
    }
    return true;
}

static bool set_machine_type(VmOptions *o, const char *type, GError **errp)
{
    int value = qapi_enum_parse(&MachineType_lookup, type, -1, NULL);

    if (value < 0) {
        error_setg(errp, "unsupported machine type '%s'; there are: virt, none", type);
        return false;
    }
    o->machine = value;
    return true;
}

static bool opt_machine(VmOptions *o, const char *option, const char *arg, GError **errp)
{
    MachineOptions *m;
    bool ok;

    if (is_help(arg)) {
        return print_list("Supported machines are:\n"
                          "none                 empty machine\n"
                          "virt                 RISC-V VirtIO board (default)\n");
    }
    m = qapi_MachineOptions_from_str(arg, "type", errp);
    if (!m) {
        return false;
    }
    ok = (!m->type || set_machine_type(o, m->type, errp)) &&
         (!m->accel || opt_accel(o, option, m->accel, errp));
    if (m->dumpdtb) {
        replace(&o->dumpdtb, m->dumpdtb);
    }
    if (m->firmware) {
        replace(&o->bios, m->firmware);
    }
    if (m->kernel) {
        replace(&o->kernel, m->kernel);
    }
    if (m->initrd) {
        replace(&o->initrd, m->initrd);
    }
    if (m->append) {
        replace(&o->append, m->append);
    }
    if (m->dtb) {
        replace(&o->dtb, m->dtb);
    }
    if (m->has_snapshot_tracking) {
        o->no_snapshot_tracking = !m->snapshot_tracking;
    }
    if (m->pflash0) {
        replace(&o->pflash[0], m->pflash0);
    }
    if (m->pflash1) {
        replace(&o->pflash[1], m->pflash1);
    }
    if (m->has_pflash_in_state) {
        o->pflash_in_state = m->pflash_in_state;
    }
    qapi_free_MachineOptions(m);
    return ok;
}

static bool opt_cpu(VmOptions *o, const char *option, const char *arg, GError **errp)
{
    if (is_help(arg)) {
        return print_list("max\nrv64\n");
    }
    if (strcmp(arg, "rv64") && strcmp(arg, "max")) {
        g_autofree char *name = g_strndup(arg, strcspn(arg, ","));

        if (!strcmp(name, "rv64") || !strcmp(name, "max")) {
            error_setg(errp, "CPU properties cannot be changed");
        } else {
            error_setg(errp, "unable to find CPU model '%s'; there are: rv64, max", name);
        }
        return false;
    }
    return true;
}

static bool opt_smp(VmOptions *o, const char *option, const char *arg, GError **errp)
{
    SmpOptions *s = qapi_SmpOptions_from_str(arg, "cpus", errp);
    bool ok;

    if (!s) {
        return false;
    }
    ok = (!s->has_cpus || s->cpus == 1) && (!s->has_maxcpus || s->maxcpus == 1) &&
         (!s->has_sockets || s->sockets == 1) && (!s->has_cores || s->cores == 1) &&
         (!s->has_threads || s->threads == 1);
    if (!ok) {
        error_setg(errp, "only one CPU is supported");
    }
    qapi_free_SmpOptions(s);
    return ok;
}

static bool opt_memory(VmOptions *o, const char *option, const char *arg, GError **errp)
{
    MemoryOptions *m = qapi_MemoryOptions_from_str(arg, "size", errp);
    g_autofree char *text = NULL;
    uint64_t size;

    if (!m) {
        return false;
    }
    text = m->size && *m->size && g_ascii_isdigit(m->size[strlen(m->size) - 1]) &&
                   !g_str_has_prefix(m->size, "0x")
               ? g_strconcat(m->size, "M", NULL)
               : g_strdup(m->size ? m->size : "128M");
    qapi_free_MemoryOptions(m);
    if (!qapi_parse_size(text, &size)) {
        error_setg(errp, "Parameter 'size' expects a non-negative number below 2^64; optional "
                         "suffix k, M, G, T, P or E");
        return false;
    }
    if (size < 2 * MIB || size > UINT64_C(1) << 40) {
        error_setg(errp, "RAM must be between 2 MiB and 1 TiB");
        return false;
    }
    o->ram_size = (size + 4095) & ~UINT64_C(4095);
    return true;
}

#define STRING_OPTION(func, member) \
    static bool func(VmOptions *o, const char *option, const char *arg, GError **errp) \
    { \
        replace(&o->member, arg); \
        return true; \
    }
STRING_OPTION(opt_bios, bios)
STRING_OPTION(opt_kernel, kernel)
STRING_OPTION(opt_initrd, initrd)
STRING_OPTION(opt_append, append)
STRING_OPTION(opt_dtb, dtb)
STRING_OPTION(opt_loadvm, loadvm)
STRING_OPTION(opt_incoming, incoming)
STRING_OPTION(opt_pidfile, pidfile)
STRING_OPTION(opt_gdb, gdb)

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
FLAG_OPTION(opt_no_reboot, reboot_shuts_down)
FLAG_OPTION(opt_no_shutdown, shutdown_pauses)

static bool opt_s(VmOptions *o, const char *option, const char *arg, GError **errp)
{
    replace(&o->gdb, GDBSTUB_DEFAULT_DEVICE);
    return true;
}

static bool opt_nothing(VmOptions *o, const char *option, const char *arg, GError **errp)
{
    return true; /* what it asks for is how Keyframe always is */
}

static bool opt_data_dir(VmOptions *o, const char *option, const char *arg, GError **errp)
{
    g_ptr_array_insert(o->data_dirs, o->data_dirs->len - 1, g_strdup(arg));
    return true;
}

static bool opt_name(VmOptions *o, const char *option, const char *arg, GError **errp)
{
    GuestNameOptions *n = qapi_GuestNameOptions_from_str(arg, "guest", errp);

    if (!n) {
        return false;
    }
    if (n->guest) {
        replace(&o->name, n->guest);
    }
    if (n->process) {
        replace(&o->process_name, n->process);
    }
    qapi_free_GuestNameOptions(n);
    return true;
}

static bool opt_uuid(VmOptions *o, const char *option, const char *arg, GError **errp)
{
    if (!g_uuid_string_is_valid(arg)) {
        error_setg(errp, "failed to parse UUID string: wrong format");
        return false;
    }
    g_free(o->uuid);
    o->uuid = g_ascii_strdown(arg, -1);
    return true;
}

static bool opt_action(VmOptions *o, const char *option, const char *arg, GError **errp)
{
    g_auto(GStrv) parts = g_strsplit(arg, ",", -1);

    for (char **p = parts; *p; p++) {
        if (!strcmp(*p, "reboot=reset") || !strcmp(*p, "reboot=shutdown")) {
            o->reboot_shuts_down = strchr(*p, '=')[1] == 's';
        } else if (!strcmp(*p, "shutdown=poweroff") || !strcmp(*p, "shutdown=pause")) {
            o->shutdown_pauses = !strcmp(*p, "shutdown=pause");
        } else {
            error_setg(errp, "'%s' is not supported; there are reboot=reset|shutdown and "
                             "shutdown=poweroff|pause", *p);
            return false;
        }
    }
    return true;
}

static bool opt_display(VmOptions *o, const char *option, const char *arg, GError **errp)
{
    if (strcmp(arg, "none")) {
        error_setg(errp, "there is only 'none'");
        return false;
    }
    o->display_chosen = true;
    return true;
}

static bool opt_only_none(VmOptions *o, const char *option, const char *arg, GError **errp)
{
    if (strcmp(arg, "none")) {
        error_setg(errp, "there is only 'none'");
        return false;
    }
    return true;
}

static bool opt_rtc(VmOptions *o, const char *option, const char *arg, GError **errp)
{
    g_auto(GStrv) parts = g_strsplit(arg, ",", -1);

    for (char **p = parts; *p; p++) {
        if (strcmp(*p, "base=utc") && strcmp(*p, "clock=host")) {
            error_setg(errp, "'%s' is not supported; there are base=utc and clock=host", *p);
            return false;
        }
    }
    return true;
}

static bool opt_global(VmOptions *o, const char *option, const char *arg, GError **errp)
{
    g_printerr("%s: warning: -global %s: ignored, there are no properties to set\n",
               g_get_prgname(), arg);
    return true;
}

/* --- Disks, devices, character devices, monitors ------------------------------------------- */

static bool opt_drive(VmOptions *o, const char *option, const char *arg, GError **errp)
{
    DriveOptions *drive = qapi_DriveOptions_from_str(arg, NULL, errp);
    DriveOption *d;

    if (!drive) {
        return false;
    }
    if (!drive->file) {
        error_setg(errp, "a drive without 'file' would have no medium");
    } else if (drive->media && strcmp(drive->media, "disk")) {
        error_setg(errp, "media '%s' is not supported; there is 'disk'", drive->media);
    } else {
        d = g_new(DriveOption, 1);
        *d = (DriveOption){describe(option, arg), drive};
        g_ptr_array_add(o->drives, d);
        return true;
    }
    qapi_free_DriveOptions(drive);
    return false;
}

/* -pflash FILE: QEMU's short form. */
static bool opt_pflash(VmOptions *o, const char *option, const char *arg, GError **errp)
{
    DriveOption *d = g_new(DriveOption, 1);
    DriveOptions *drive = g_new0(DriveOptions, 1);

    drive->file = g_strdup(arg);
    drive->has_if = true;
    drive->q_if = DRIVE_INTERFACE_PFLASH;
    *d = (DriveOption){describe(option, arg), drive};
    g_ptr_array_add(o->drives, d);
    return true;
}

static bool opt_blockdev(VmOptions *o, const char *option, const char *arg, GError **errp)
{
    BlockdevOptions *blockdev = qapi_BlockdevOptions_from_str(arg, "driver", errp);
    BlockdevOption *b;

    if (!blockdev) {
        return false;
    }
    if (!blockdev->node_name) {
        error_setg(errp, "'node-name' must be specified for the root node");
        qapi_free_BlockdevOptions(blockdev);
        return false;
    }
    b = g_new(BlockdevOption, 1);
    *b = (BlockdevOption){describe(option, arg), blockdev};
    g_ptr_array_add(o->blockdevs, b);
    return true;
}

static bool opt_device(VmOptions *o, const char *option, const char *arg, GError **errp)
{
    DeviceOptions *device;
    DeviceOption *d;

    if (is_help(arg)) {
        return print_list("Storage devices:\n"
                          "name \"virtio-blk-device\", bus virtio-bus\n"
                          "\nMisc devices:\n"
                          "name \"vmgenid\"\n");
    }
    if (*arg != '{') {
        const char *driver = g_str_has_prefix(arg, "driver=") ? arg + 7 : arg;
        g_autofree char *name = g_strndup(driver, strcspn(driver, ","));

        if (qapi_enum_parse(&DeviceDriver_lookup, name, -1, NULL) < 0) {
            error_setg(errp, "'%s' is not a valid device model name", name);
            return false;
        }
    }
    device = qapi_DeviceOptions_from_str(arg, "driver", errp);
    if (!device) {
        return false;
    }
    d = g_new(DeviceOption, 1);
    *d = (DeviceOption){describe(option, arg), device};
    g_ptr_array_add(o->devices, d);
    return true;
}

static bool opt_object(VmOptions *o, const char *option, const char *arg, GError **errp)
{
    ObjectOptions *object;
    ObjectOption *ob;

    if (is_help(arg)) {
        return print_list("List of user creatable objects:\n  iothread\n");
    }
    object = qapi_ObjectOptions_from_str(arg, "qom-type", errp);
    if (!object) {
        return false;
    }
    ob = g_new(ObjectOption, 1);
    *ob = (ObjectOption){describe(option, arg), object};
    g_ptr_array_add(o->objects, ob);
    return true;
}

static bool opt_chardev(VmOptions *o, const char *option, const char *arg, GError **errp)
{
    g_ptr_array_add(o->chardevs, g_strdup(arg));
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

    add_monitor(o, describe(option, arg), kind, g_strdup(arg));
    return true;
}

static bool opt_mon(VmOptions *o, const char *option, const char *arg, GError **errp)
{
    MonitorOptions *m = qapi_MonitorOptions_from_str(arg, "chardev", errp);
    MonitorKind kind;

    if (!m) {
        return false;
    }
    kind = !m->has_mode || m->mode == MONITOR_MODE_READLINE ? MONITOR_KIND_HMP
           : m->has_pretty && m->pretty                     ? MONITOR_KIND_QMP_PRETTY
                                                            : MONITOR_KIND_QMP;
    add_monitor(o, describe(option, arg), kind, g_strconcat("chardev:", m->chardev, NULL));
    qapi_free_MonitorOptions(m);
    return true;
}

/* --- The table ------------------------------------------------------------------------------ */

#define UNSUPPORTED(name, arg, why) {name, arg, NULL, why}

static const Option options[] = {
    {"h", NULL, opt_help, "show this help"},
    {"help", NULL, opt_help, "show this help"},
    {"version", NULL, opt_version, "show the version"},
    {"M", "TYPE[,...]", opt_machine, "kind of machine: virt, none"},
    {"machine", "[type=]TYPE[,...]", opt_machine, "the same; dumpdtb=FILE, snapshot-tracking=off, ..."},
    {"cpu", "MODEL", opt_cpu, "kind of CPU: rv64, max"},
    {"accel", "NAME", opt_accel, "how guest code is executed: tcg"},
    {"smp", "N", opt_smp, "number of CPUs: 1"},
    {"m", "[size=]SIZE", opt_memory, "RAM in MiB, or with suffix (default: 128)"},
    {"bios", "FILE", opt_bios, "firmware (default: OpenSBI), none"},
    {"kernel", "FILE", opt_kernel, "kernel: Linux Image or ELF"},
    {"initrd", "FILE", opt_initrd, "initial RAM disk"},
    {"append", "TEXT", opt_append, "the kernel's command line"},
    {"dtb", "FILE", opt_dtb, "device tree to use instead of the machine's"},
    {"L", "DIR", opt_data_dir, "where to look for firmware, too"},
    {"drive", "file=FILE[,...]", opt_drive, "a disk image and how it is used"},
    {"pflash", "FILE", opt_pflash, "content of the next flash bank"},
    {"blockdev", "[driver=]DRIVER,...", opt_blockdev, "a block node"},
    {"device", "DRIVER[,...]", opt_device, "a device: virtio-blk-device, vmgenid"},
    {"object", "TYPE,id=ID", opt_object, "an object: iothread"},
    {"add-fd", "fd=FD,set=SET[,opaque=TEXT]", opt_add_fd, "an inherited descriptor as /dev/fdset/SET"},
    {"chardev", "BACKEND,id=ID[,...]", opt_chardev, "a character device"},
    {"serial", "DEV", opt_serial, "where the serial port leads: stdio, mon:stdio, unix:..."},
    {"monitor", "DEV", opt_monitor, "a human monitor"},
    {"qmp", "DEV", opt_monitor, "a QMP monitor"},
    {"qmp-pretty", "DEV", opt_monitor, "a QMP monitor with replies laid out over lines"},
    {"mon", "[chardev=]ID[,mode=...]", opt_mon, "a monitor on a character device"},
    {"name", "NAME", opt_name, "name of the virtual machine"},
    {"uuid", "UUID", opt_uuid, "UUID of the virtual machine"},
    {"S", NULL, opt_start_stopped, "do not start the guest: wait for cont"},
    {"gdb", "DEV", opt_gdb, "wait for a GDB connection on DEV: tcp::1234, unix:..., chardev:ID"},
    {"s", NULL, opt_s, "the same as -gdb " GDBSTUB_DEFAULT_DEVICE},
    {"loadvm", "TAG", opt_loadvm, "start from a snapshot"},
    {"snapshot", NULL, opt_snapshot, "write to temporary files instead of the images of -drive"},
    {"incoming", "ADDRESS", opt_incoming, "take in a migrated machine: tcp:, unix:, fd:, exec:, file:, snapshot:, defer"},
    {"display", "none", opt_display, "there is no display"},
    {"nographic", NULL, opt_nographic, "serial port and monitor on the terminal"},
    {"nodefaults", NULL, opt_nodefaults, "no devices but those that are named"},
    {"no-user-config", NULL, opt_nothing, "there are no configuration files"},
    {"no-reboot", NULL, opt_no_reboot, "exit when the guest reboots"},
    {"no-shutdown", NULL, opt_no_shutdown, "stop instead of exiting when the guest shuts down"},
    {"action", "EVENT=ACTION", opt_action, "reboot=reset|shutdown, shutdown=poweroff|pause"},
    {"pidfile", "FILE", opt_pidfile, "write the process id to FILE"},
    {"daemonize", NULL, opt_daemonize, "go to the background when ready"},
    {"rtc", "base=utc", opt_rtc, "the guest's wall clock is the host's, in UTC"},
    {"vga", "none", opt_only_none, "there is no display"},
    {"nic", "none", opt_only_none, "there is no network yet"},
    {"net", "none", opt_only_none, "there is no network yet"},
    {"parallel", "none", opt_only_none, "there is no parallel port"},
    {"global", "...", opt_global, "ignored with a warning"},
    UNSUPPORTED("netdev", "", "there is no network yet"),
    UNSUPPORTED("D", "", "messages go to stderr"),
    UNSUPPORTED("d", "", "there is no log of guest code"),
    UNSUPPORTED("trace", "", "there are no trace points"),
    UNSUPPORTED("msg", "", "messages have one form"),
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
    if (option->func && option->arg) {
        if (*i + 1 >= argc) {
            error_setg(errp, "-%s: requires an argument", word);
            return false;
        }
        arg = argv[++*i];
    }
    if (!option->func) {
        error_setg(errp, "-%s: not supported: %s", word, option->help);
        return false;
    }
    if (!option->func(o, word, arg, &err)) {
        error_setg(errp, "-%s%s%s: %s", word, arg ? " " : "", arg ? arg : "", err->message);
        g_error_free(err);
        return false;
    }
    return true;
}

static bool check_together(VmOptions *o, GError **errp)
{
    if (!o->kernel && (o->initrd || o->append)) {
        error_setg(errp, "-%s only allowed with -kernel option",
                   o->initrd ? "initrd" : "append");
        return false;
    }
    if (o->daemonize && o->nographic) {
        error_setg(errp, "-nographic cannot be used with -daemonize");
        return false;
    }
    if (o->machine == MACHINE_TYPE_NONE &&
        (o->kernel || o->bios || o->dtb || o->dumpdtb || o->devices->len || o->pflash[0] ||
         o->pflash[1])) {
        error_setg(errp, "machine 'none' has no CPU, no memory and no devices");
        return false;
    }
    return true;
}

static void free_drive(void *p)
{
    DriveOption *d = p;

    g_free(d->text);
    qapi_free_DriveOptions(d->drive);
    g_free(d);
}

static void free_blockdev(void *p)
{
    BlockdevOption *b = p;

    g_free(b->text);
    qapi_free_BlockdevOptions(b->blockdev);
    g_free(b);
}

static void free_device(void *p)
{
    DeviceOption *d = p;

    g_free(d->text);
    qapi_free_DeviceOptions(d->device);
    g_free(d);
}

static void free_object(void *p)
{
    ObjectOption *o = p;

    g_free(o->text);
    qapi_free_ObjectOptions(o->object);
    g_free(o);
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

    o->machine = MACHINE_TYPE_VIRT;
    o->ram_size = 128 * MIB;
    o->data_dirs = g_ptr_array_new_with_free_func(g_free);
    g_ptr_array_add(o->data_dirs, NULL);
    o->drives = g_ptr_array_new_with_free_func(free_drive);
    o->blockdevs = g_ptr_array_new_with_free_func(free_blockdev);
    o->devices = g_ptr_array_new_with_free_func(free_device);
    o->objects = g_ptr_array_new_with_free_func(free_object);
    o->chardevs = g_ptr_array_new_with_free_func(g_free);
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
    g_free(o->bios);
    g_free(o->kernel);
    g_free(o->initrd);
    g_free(o->append);
    g_free(o->dtb);
    g_free(o->dumpdtb);
    g_free(o->name);
    g_free(o->process_name);
    g_free(o->uuid);
    g_free(o->loadvm);
    g_free(o->incoming);
    g_free(o->gdb);
    g_free(o->pidfile);
    g_free(o->pflash[0]);
    g_free(o->pflash[1]);
    g_ptr_array_unref(o->data_dirs);
    g_ptr_array_unref(o->drives);
    g_ptr_array_unref(o->blockdevs);
    g_ptr_array_unref(o->devices);
    g_ptr_array_unref(o->objects);
    g_ptr_array_unref(o->chardevs);
    g_ptr_array_unref(o->serials);
    g_ptr_array_unref(o->monitors);
    g_free(o);
}
