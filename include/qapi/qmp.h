/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QMP commands: the registry over the generated table, and dispatch.  Registry: main
 * thread, set up before the first dispatch.
 */
#ifndef QAPI_QMP_H
#define QAPI_QMP_H

#include <glib.h>
#include "util/coroutine.h"
#include "qapi/visitor.h"

enum {
    QMP_CMD_ALLOW_OOB = 1,
    QMP_CMD_ALLOW_PRECONFIG = 2,
    QMP_CMD_NO_SUCCESS_RESPONSE = 4,
    QMP_CMD_DEPRECATED = 8,
    QMP_CMD_UNSTABLE = 16,
};

/*
 * Takes the arguments (borrowed; NULL for none), calls the handler, sets *ret to what the
 * client gets ({} if the command returns nothing).  false and errp on failure.
 */
typedef bool QmpMarshal(json_object *args, json_object **ret, GError **errp);

typedef struct QmpCommand {
    const char *name;
    QmpMarshal *marshal;
    unsigned flags;
} QmpCommand; /* a table ends with a zeroed element */

/* Uses table (static; qmp_commands of qapi/qapi-init.h in the programs). */
void qmp_registry_init(const QmpCommand *table);
/* The command called name, enabled or not; NULL if there is none. */
const QmpCommand *qmp_find_command(const char *name);
/* Takes a command out of (or back into) service; reason is shown to clients, or NULL. */
void qmp_disable_command(const char *name, const char *reason);
void qmp_enable_command(const char *name);
bool qmp_command_is_enabled(const QmpCommand *cmd);
/* Calls fn for every command, enabled or not, in the order of the schema. */
void qmp_for_each_command(void (*fn)(const QmpCommand *cmd, void *opaque), void *opaque);

/*
 * Runs the command called name.  true: *ret is the value for "return", NULL when the
 * command sends no reply on success; the caller owns it.  false: errp is set, unknown and
 * disabled commands with class CommandNotFound.
 */
bool coroutine_fn qmp_dispatch(const char *name, json_object *args, json_object **ret,
                               GError **errp);
/* The same for a command that was looked up before. */
bool coroutine_fn qmp_dispatch_command(const QmpCommand *cmd, json_object *args,
                                       json_object **ret, GError **errp);

/* {"class": ..., "desc": ...}: the value for "error".  The caller owns it. */
json_object *qmp_error_to_json(const GError *err);

#endif
