/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What clients ask about the command line.  The options and their parameters are read from
 * the tables of the schema, so there is no second list of them.  Coroutines of a session,
 * main thread.
 */
#include <string.h>
#include "qapi/error.h"
#include "qapi/qapi-commands-command-line.h"
#include "qapi/qapi-visit-command-line.h"
#include "qapi/util.h"
#include "system-int.h"

CommandLine *coroutine_fn qmp_query_command_line(GError **errp)
{
    return qapi_CommandLine_clone(vm_options()->given);
}

/* false: the parameter is more than a line of text can say of it. */
static bool parameter_type(const QapiType *type, CommandLineParameterType *result)
{
    switch (type->kind) {
    case QAPI_KIND_STR:
    case QAPI_KIND_ENUM:
        *result = COMMAND_LINE_PARAMETER_TYPE_STRING;
        return true;
    case QAPI_KIND_BOOL:
        *result = COMMAND_LINE_PARAMETER_TYPE_BOOLEAN;
        return true;
    case QAPI_KIND_SIZE:
        *result = COMMAND_LINE_PARAMETER_TYPE_SIZE;
        return true;
    case QAPI_KIND_NUMBER ... QAPI_KIND_UINT64:
        *result = COMMAND_LINE_PARAMETER_TYPE_NUMBER;
        return true;
    default:
        return false;
    }
}

static CommandLineParameterInfoList *parameters(const QapiType *type)
{
    CommandLineParameterInfoList *list = NULL, **tail = &list;
    CommandLineParameterType kind;

    for (int i = 0; !type->branches && i < type->n_members; i++) {
        if (parameter_type(type->members[i].type, &kind)) {
            CommandLineParameterInfo *info = g_new0(CommandLineParameterInfo, 1);

            info->name = g_strdup(type->members[i].name);
            info->type = kind;
            QAPI_LIST_APPEND(tail, info);
        }
    }
    return list;
}

CommandLineOptionInfoList *coroutine_fn qmp_query_command_line_options(const char *option,
                                                                       GError **errp)
{
    CommandLineOptionInfoList *list = NULL, **tail = &list;

    for (int i = 0; i < qapi_type_CommandLine.n_members; i++) {
        const QapiMember *m = &qapi_type_CommandLine.members[i];
        const QapiType *type = m->type->kind == QAPI_KIND_LIST ? m->type->element : m->type;

        if (type->kind == QAPI_KIND_OBJECT && (!option || !strcmp(option, m->name))) {
            CommandLineOptionInfo *info = g_new0(CommandLineOptionInfo, 1);

            info->option = g_strdup(m->name);
            info->parameters = parameters(type);
            QAPI_LIST_APPEND(tail, info);
        }
    }
    if (option && !list) {
        error_setg(errp, "invalid option name: %s", option);
    }
    return list;
}
