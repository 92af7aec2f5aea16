/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * query-qmp-schema and query-commands: what the generator and the registry know.  Main
 * thread; never yields.
 */
#include "config-host.h"
#include <json-c/json_tokener.h>
#include "qapi/compat.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-control.h"
#include "qapi/qapi-commands-introspect.h"
#include "qapi/qapi-introspect.h"
#include "qapi/qapi-visit-introspect.h"
#include "qapi/qmp.h"
#include "qapi/util.h"

/* Parsed once; lives as long as the process. */
static json_object *schema;

/* The text of the schema is no value of a type, so what a policy hides is taken out here. */
static void hide_values(void)
{
    const QapiMember *values = qapi_find_member(&qapi_type_SchemaInfoEnum, "values");

    for (size_t i = 0; i < json_object_array_length(schema); i++) {
        json_object *entity = json_object_array_get_idx(schema, i);
        json_object *meta = json_object_object_get(entity, "meta-type");

        if (!strcmp(json_object_get_string(meta), "enum") && qapi_compat_hides(values->special)) {
            json_object_object_del(entity, values->name);
        }
    }
}

bool coroutine_fn qmp_marshal_query_qmp_schema(json_object *args, json_object **ret,
                                               GError **errp)
{
    if (!qapi_input_args(&qapi_type_empty, args, NULL, errp)) {
        return false;
    }
    if (!schema) {
        schema = json_tokener_parse(qmp_schema_json);
        g_assert(schema);
        hide_values();
    }
    *ret = json_object_get(schema);
    return true;
}

static void add_command(const QmpCommand *cmd, void *opaque)
{
    CommandInfoList **list = opaque;

    if (qmp_command_is_enabled(cmd)) {
        CommandInfo *info = g_new0(CommandInfo, 1);

        info->name = g_strdup(cmd->name);
        QAPI_LIST_PREPEND(*list, info);
    }
}

CommandInfoList *coroutine_fn qmp_query_commands(GError **errp)
{
    CommandInfoList *list = NULL;

    qmp_for_each_command(add_command, &list);
    return list;
}
