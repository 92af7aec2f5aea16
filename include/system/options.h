/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The command line as the rest of system/ uses it: parsed, checked for what can be checked
 * without acting, in the order in which it was given.
 */
#ifndef SYSTEM_OPTIONS_H
#define SYSTEM_OPTIONS_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include "qapi/qapi-types-command-line.h"

/* One use of an option: text is for messages, "-drive file=a"; the rest is in given. */
typedef struct DriveOption {
    char *text;
    DriveOptions *drive;
} DriveOption;

typedef struct BlockdevOption {
    char *text;
    BlockdevOptions *blockdev;
} BlockdevOption;

typedef struct DeviceOption {
    char *text;
    DeviceOptions *device;
} DeviceOption;

typedef struct ObjectOption {
    char *text;
    ObjectOptions *object;
} ObjectOption;

typedef struct ChardevOption {
    char *text;
    ChardevOptions *chardev;
} ChardevOption;

typedef struct NetdevOption {
    char *text;
    Netdev *netdev;
} NetdevOption;

typedef struct NicOption {
    char *text;
    NicOptions *nic;
} NicOption;

typedef enum MonitorKind { MONITOR_KIND_HMP, MONITOR_KIND_QMP, MONITOR_KIND_QMP_PRETTY } MonitorKind;

typedef struct MonitorOption {
    char *text;
    MonitorKind kind;
    char *spec; /* of the character device: "unix:PATH,...", "chardev:ID" */
} MonitorOption;

typedef struct VmOptions {
    CommandLine *given; /* as it was said; below is what it means */
    MachineType machine;
    /* In given, or NULL. */
    const char *bios, *kernel, *initrd, *append, *dtb, *dumpdtb;
    const char *name, *process_name, *uuid, *loadvm, *pidfile, *incoming;
    const char *gdb; /* -gdb's character device */
    const char *qtest; /* -qtest's */
    bool accel_qtest;  /* no guest code runs, the clock is the test's */
    bool qtest_quiet;  /* -qtest-log none */
    const char *pflash[2]; /* node or drive of each flash bank */
    uint64_t ram_size; /* bytes */
    bool mem_merge, no_core, prealloc, mem_lock;
    bool temp_overlays; /* -snapshot */
    bool start_stopped, nodefaults, nographic, display_chosen, daemonize;
    bool reboot_shuts_down, shutdown_pauses, no_snapshot_tracking;
    bool pflash_in_state;
    GPtrArray *data_dirs; /* char *, NULL-terminated */
    GPtrArray *drives, *blockdevs, *devices, *objects; /* DriveOption and so on */
    GPtrArray *chardevs;  /* ChardevOption */
    GPtrArray *netdevs, *nics; /* NetdevOption, NicOption */
    GPtrArray *serials;   /* char *: -serial's argument */
    GPtrArray *monitors;  /* MonitorOption */
} VmOptions;

/*
 * Parses argv.  NULL: *exit_code says how to end, 0 after -help and its like (which have
 * printed), 1 with errp set.
 */
VmOptions *options_parse(int argc, char **argv, int *exit_code, GError **errp);
void options_free(VmOptions *o);

#endif
