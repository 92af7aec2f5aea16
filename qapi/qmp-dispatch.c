/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The registry of QMP commands and their dispatch (include/qapi/qmp.h).  The registry is
 * set up by the main thread before any session runs and constant after that, but for
 * enabling and disabling, which the main thread does too.
 */
#include "config-host.h"
#include "qapi/compat.h"
#include "qapi/error.h"
#include "qapi/qmp.h"

static const QmpCommand *command_table;
static GHashTable *by_name;  /* name -> QmpCommand */
static GHashTable *disabled; /* QmpCommand -> reason, a string, or NULL */

void qmp_registry_init(const QmpCommand *table)
{
    g_clear_pointer(&by_name, g_hash_table_destroy);
    g_clear_pointer(&disabled, g_hash_table_destroy);
    command_table = table;
    by_name = g_hash_table_new(g_str_hash, g_str_equal);
    disabled = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    for (const QmpCommand *c = table; c->name; c++) {
        g_hash_table_insert(by_name, (char *)c->name, (void *)c);
    }
}

const QmpCommand *qmp_find_command(const char *name)
{
    return by_name ? g_hash_table_lookup(by_name, name) : NULL;
}

void qmp_disable_command(const char *name, const char *reason)
{
    const QmpCommand *cmd = qmp_find_command(name);

    if (cmd) {
        g_hash_table_insert(disabled, (void *)cmd, g_strdup(reason));
    }
}

void qmp_enable_command(const char *name)
{
    const QmpCommand *cmd = qmp_find_command(name);

    if (cmd) {
        g_hash_table_remove(disabled, cmd);
    }
}

bool qmp_command_is_enabled(const QmpCommand *cmd)
{
    return !disabled || !g_hash_table_contains(disabled, cmd);
}

void qmp_for_each_command(void (*fn)(const QmpCommand *cmd, void *opaque), void *opaque)
{
    for (const QmpCommand *c = command_table; c && c->name; c++) {
        fn(c, opaque);
    }
}

bool coroutine_fn qmp_dispatch_command(const QmpCommand *cmd, json_object *args,
                                       json_object **ret, GError **errp)
{
    *ret = NULL;
    if (!qmp_command_is_enabled(cmd)) {
        const char *reason = g_hash_table_lookup(disabled, cmd);

        error_set_class(errp, QAPI_ERROR_COMMAND_NOT_FOUND, "Command %s has been disabled%s%s",
                        cmd->name, reason ? ": " : "", reason ? reason : "");
        return false;
    }
    if (!qapi_compat_may_use((cmd->flags & QMP_CMD_DEPRECATED ? QAPI_DEPRECATED : 0) |
                                 (cmd->flags & QMP_CMD_UNSTABLE ? QAPI_UNSTABLE : 0),
                             "command", cmd->name, QAPI_ERROR_COMMAND_NOT_FOUND, errp)) {
        return false;
    }
    if (!cmd->marshal(args, ret, errp)) {
        return false;
    }
    if (cmd->flags & QMP_CMD_NO_SUCCESS_RESPONSE) {
        g_clear_pointer(ret, json_object_put);
    }
    return true;
}

bool coroutine_fn qmp_dispatch(const char *name, json_object *args, json_object **ret,
                               GError **errp)
{
    const QmpCommand *cmd = qmp_find_command(name);

    if (!cmd) {
        *ret = NULL;
        error_set_class(errp, QAPI_ERROR_COMMAND_NOT_FOUND, "The command %s has not been found",
                        name);
        return false;
    }
    return qmp_dispatch_command(cmd, args, ret, errp);
}

json_object *qmp_error_to_json(const GError *err)
{
    json_object *json = json_object_new_object();

    json_object_object_add(json, "class",
                           json_object_new_string(error_class_name(error_get_class(err))));
    json_object_object_add(json, "desc", json_object_new_string(err->message));
    return json;
}
