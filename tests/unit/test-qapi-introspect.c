/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * query-qmp-schema and query-commands of the real schema: what they return fits the types
 * that the schema itself gives for it, and every reference leads somewhere.
 */
#include "config-host.h"
#include <json-c/json.h>
#include "qapi/error.h"
#include "qapi/qapi-commands-control.h"
#include "qapi/qapi-commands-introspect.h"
#include "qapi/qapi-emit-events.h"
#include "qapi/qapi-visit-control.h"
#include "qapi/qapi-visit-introspect.h"
#include "qapi/qmp.h"

static GHashTable *by_name; /* name -> SchemaInfo */

static SchemaInfo *find(const char *name, SchemaMetaType meta)
{
    SchemaInfo *info = g_hash_table_lookup(by_name, name);

    g_assert_nonnull(info);
    g_assert_true(meta == SCHEMA_META_TYPE__MAX || info->meta_type == meta);
    return info;
}

static void check_object(SchemaInfoObject *obj)
{
    bool has_tag = false;

    for (SchemaInfoObjectMemberList *m = obj->members; m; m = m->next) {
        find(m->value->type, SCHEMA_META_TYPE__MAX);
        has_tag |= !g_strcmp0(m->value->name, obj->tag);
    }
    g_assert_true(has_tag == (obj->tag != NULL) && obj->has_variants == has_tag);
    for (SchemaInfoObjectVariantList *v = obj->variants; v; v = v->next) {
        find(v->value->type, SCHEMA_META_TYPE_OBJECT);
    }
}

static void check_info(SchemaInfo *info)
{
    switch (info->meta_type) {
    case SCHEMA_META_TYPE_ARRAY:
        find(info->u.array.element_type, SCHEMA_META_TYPE__MAX);
        break;
    case SCHEMA_META_TYPE_OBJECT:
        check_object(&info->u.object);
        break;
    case SCHEMA_META_TYPE_ALTERNATE:
        for (SchemaInfoAlternateMemberList *m = info->u.alternate.members; m; m = m->next) {
            find(m->value->type, SCHEMA_META_TYPE__MAX);
        }
        break;
    case SCHEMA_META_TYPE_COMMAND:
        find(info->u.command.arg_type, SCHEMA_META_TYPE_OBJECT);
        find(info->u.command.ret_type, SCHEMA_META_TYPE__MAX);
        break;
    case SCHEMA_META_TYPE_EVENT:
        find(info->u.event.arg_type, SCHEMA_META_TYPE_OBJECT);
        break;
    default:
        break;
    }
}

static void test_schema(void)
{
    GError *err = NULL;
    json_object *json = NULL, *again;
    SchemaInfoList *list = NULL;

    g_assert_true(qmp_marshal_query_qmp_schema(NULL, &json, &err));
    g_assert_true(qapi_input(&qapi_type_SchemaInfoList, json, NULL, &list, &err));
    g_assert_no_error(err);
    again = qapi_output(&qapi_type_SchemaInfoList, &list);
    g_assert_true(json_object_equal(json, again));
    json_object_put(again);
    json_object_put(json);

    by_name = g_hash_table_new(g_str_hash, g_str_equal);
    for (SchemaInfoList *l = list; l; l = l->next) {
        g_assert_true(g_hash_table_insert(by_name, l->value->name, l->value));
    }
    for (SchemaInfoList *l = list; l; l = l->next) {
        check_info(l->value);
    }
    for (int i = 0; i < QAPI_EVENT__MAX; i++) {
        find(QAPIEvent_str(i), SCHEMA_META_TYPE_EVENT);
    }
    find("query-qmp-schema", SCHEMA_META_TYPE_COMMAND);
    find("snapshot-save", SCHEMA_META_TYPE_COMMAND);
    g_hash_table_unref(by_name);
    qapi_free_SchemaInfoList(list);

    json_object *args = json_tokener_parse("{\"x\":1}");
    g_assert_false(qmp_marshal_query_qmp_schema(args, &json, &err));
    g_assert_cmpstr(err->message, ==, "Parameter 'x' is unexpected");
    g_clear_error(&err);
    json_object_put(args);
}

static bool coroutine_fn nothing(json_object *args, json_object **ret, GError **errp)
{
    *ret = json_object_new_object();
    return true;
}

static void test_commands(void)
{
    static const QmpCommand table[] = {
        {"one", nothing, 0}, {"two", nothing, 0}, {"three", nothing, 0}, {NULL}};
    json_object *json = NULL;

    qmp_registry_init(table);
    qmp_disable_command("two", NULL);
    CommandInfoList *list = qmp_query_commands(NULL);
    json = qapi_output(&qapi_type_CommandInfoList, &list);
    g_assert_cmpstr(json_object_to_json_string_ext(json, JSON_C_TO_STRING_PLAIN), ==,
                    "[{\"name\":\"three\"},{\"name\":\"one\"}]");
    json_object_put(json);
    qapi_free_CommandInfoList(list);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qapi/query-qmp-schema", test_schema);
    g_test_add_func("/qapi/query-commands", test_commands);
    return g_test_run();
}
