/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What clients ask about the command line.  The options and their parameters are read from
 * the tables of the schema, so there is no second list of them.  Coroutines of a session,
 * main thread.
 */
#include <string.h>
#include "qapi/error.h"
#include "qapi/qapi-commands-command-line.h"
#include "qapi/qapi-visit-block-core.h"
#include "qapi/qapi-visit-command-line.h"
#include "qapi/qapi-visit-machine.h"
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

static bool is_listed(const CommandLineParameterInfoList *list, const char *name)
{
    while (list && strcmp(list->value->name, name)) {
        list = list->next;
    }
    return list != NULL;
}

/* Adds the type's members, but for what is there already. */
static void add_members(CommandLineParameterInfoList **list, const QapiType *type)
{
    CommandLineParameterInfoList **tail = list;
    CommandLineParameterType kind;

    while (*tail) {
        tail = &(*tail)->next;
    }
    for (int i = 0; i < type->n_members; i++) {
        const QapiMember *m = &type->members[i];

        if (parameter_type(m->type, &kind) && !is_listed(*list, m->name)) {
            CommandLineParameterInfo *info = g_new0(CommandLineParameterInfo, 1);

            info->name = g_strdup(m->name);
            info->type = kind;
            QAPI_LIST_APPEND(tail, info);
        }
    }
}

/*
 * Of a union that is all that any of its kinds has, as in QEMU: but for those whose kinds are types
 * of device or object, or drivers.
 */
static CommandLineParameterInfoList *parameters(const char *option, const QapiType *type)
{
    static const char *const by_type[] = {"device", "object", "blockdev", "netdev", NULL};
    CommandLineParameterInfoList *list = NULL;
    const QEnumLookup *kinds;

    if (type->branches && g_strv_contains(by_type, option)) {
        return NULL;
    }
    add_members(&list, type);
    if (type == &qapi_type_DriveOptions) {
        add_members(&list, &qapi_type_BlockdevOptions); /* stand beside its own */
    }
    kinds = type->branches ? qapi_find_member(type, type->tag_name)->type->lookup : NULL;
    for (int i = 0; kinds && i < kinds->n; i++) {
        if (type->branches[i]) {
            add_members(&list, type->branches[i]);
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
            info->parameters = parameters(m->name, type);
            QAPI_LIST_APPEND(tail, info);
        }
    }
    if (option && !list) {
        error_setg(errp, "invalid option name: %s", option);
    }
    return list;
}
