/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of the command line share.  Main thread, start-up. */
#ifndef SYSTEM_OPTIONS_INT_H
#define SYSTEM_OPTIONS_INT_H

#include <json-c/json_object.h>
#include "qapi/visitor.h"
#include "system/options.h"

/* What an option does once its argument is in o->given: checks it, makes it known in o. */
typedef bool OptionFunc(VmOptions *o, const char *option, const char *arg, GError **errp);
/*
 * Looks at a structured argument before its type does: for messages in the words of QEMU,
 * and what text means that JSON has no need of.  is_json: it is not made of strings only.
 */
typedef bool OptionInspect(json_object *tree, bool is_json, GError **errp);

/* An argument as a tree; *keyval: all its leaves are text. */
typedef json_object *OptionTree(const char *arg, bool *keyval, GError **errp);

/* *slot becomes a copy of value. */
void option_replace(char **slot, const char *value);
/* The text of a member of tree; NULL if it is missing or not a string. */
const char *option_text(json_object *tree, const char *member);

/* The option has printed what was asked for: there is nothing to run. */
void option_ends(void);

/*
 * Whether the type has a member called name, which is a property of owner ("": a parameter of a plain
 * option); false and errp in QEMU's words.
 */
bool option_is_known(const QapiType *type, const char *name, const char *owner, GError **errp);
/* Whether id (or NULL) can be the name of a device or object; false and errp. */
bool option_check_id(const char *id, GError **errp);

/* "-drive file=a", a new string; arg may be NULL. */
char *option_describe(const char *option, const char *arg);

/* The value of the last element of a list that is not empty. */
#define LAST(list) \
    ({ \
        typeof(list) last_ = (list); \
        while (last_->next) { \
            last_ = last_->next; \
        } \
        last_->value; \
    })

/* --- options-help.c -------------------------------------------------------------------------- */

/*
 * Prints what arg asks for with "help", if it does and there is such help.  The option's argument
 * is the member of CommandLine of this type; key is what a first value without '=' belongs to, or
 * NULL.
 */
bool option_print_help(const char *member, const QapiType *type, const char *key, const char *arg);

/* --- options-drive.c -------------------------------------------------------------------------- */

OptionTree drive_tree;
OptionFunc opt_drive, opt_pflash;
/* The last -drive: options.c. */
DriveOptions *option_last_drive(VmOptions *o);

/* --- options-log.c ------------------------------------------------------------------------ */

OptionFunc opt_log, opt_log_file, opt_qtest_log, opt_trace;

/* --- options-net.c ------------------------------------------------------------------------- */

OptionInspect inspect_netdev, inspect_nic, inspect_net;
OptionFunc opt_netdev, opt_nic;

/* --- options-machine.c: what the machine is made of --------------------------------------- */

OptionInspect inspect_machine, inspect_cpu, inspect_memory, inspect_device;
/* Of -device: what the device has not, too, is said in QEMU's words. */
OptionInspect inspect_device_option;
OptionFunc opt_machine, opt_smp, opt_memory;
/* All options of the machine together. */
bool options_check_machine(VmOptions *o, GError **errp);

#endif
