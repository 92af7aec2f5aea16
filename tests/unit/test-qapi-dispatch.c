/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Commands of the test schema through the registry and dispatch, events through the sink,
 * and what introspection tells about both.
 */
#include "config-host.h"
#include <json-c/json.h>
#include "qapi/compat.h"
#include "qapi/error.h"
#include "qapi/event.h"
#include "qapi/json.h"
#include "qapi/qapi-commands-qapi-schema-test.h"
#include "qapi/qapi-emit-events.h"
#include "qapi/qapi-events-qapi-schema-test.h"
#include "qapi/qapi-init.h"
#include "qapi/qapi-introspect.h"
#include "qapi/qapi-visit-compat.h"
#include "qapi/qapi-visit-qapi-schema-test.h"
#include "qapi/util.h"

static int calls;

void coroutine_fn qmp_test_nothing(GError **errp)
{
    calls++;
}

char *coroutine_fn qmp_test_echo(const char *text, bool has_times, int64_t times,
                                 bool has_list, strList *list, TestBase *where, GError **errp)
{
    return g_strdup_printf("%s/%s%d/%s%d/%s", text, has_times ? "" : "no ", (int)times,
                           has_list ? "" : "no ", (int)QAPI_LIST_LENGTH(list),
                           where ? TestColour_str(where->colour) : "nowhere");
}

TestUnion *coroutine_fn qmp_test_boxed(TestUnion *arg, GError **errp)
{
    return qapi_TestUnion_clone(arg);
}

TestColourList *coroutine_fn qmp_test_colours(GError **errp)
{
    TestColourList *list = NULL;

    QAPI_LIST_PREPEND(list, TEST_COLOUR_RED);
    QAPI_LIST_PREPEND(list, TEST_COLOUR_GREEN);
    return list;
}

json_object *coroutine_fn qmp_test_any(bool has_value, json_object *value, GError **errp)
{
    return has_value ? json_object_get(value) : json_object_new_string("absent");
}

void coroutine_fn qmp_test_fail(bool class_not_found, GError **errp)
{
    error_set_class(errp,
                    class_not_found ? QAPI_ERROR_DEVICE_NOT_FOUND : QAPI_ERROR_GENERIC,
                    "No such luck");
}

void coroutine_fn qmp_test_silent(GError **errp)
{
    calls++;
}

/* Runs a command; returns the reply as text, an error as its JSON. */
static char *run(const char *name, const char *args)
{
    json_object *json = args ? json_parse_text(args, strlen(args), NULL) : NULL;
    json_object *ret = NULL;
    GError *err = NULL;

    if (!qmp_dispatch(name, json, &ret, &err)) {
        ret = qmp_error_to_json(err);
        g_error_free(err);
    }
    char *text = g_strdup(json_object_to_json_string_ext(ret, JSON_C_TO_STRING_PLAIN));
    json_object_put(ret);
    json_object_put(json);
    return text;
}

static void check(const char *name, const char *args, const char *want)
{
    g_autofree char *text = run(name, args);

    g_assert_cmpstr(text, ==, want);
}

static void test_commands(void)
{
    qmp_registry_init(qmp_commands);
    calls = 0;
    check("test-nothing", NULL, "{}");
    check("test-nothing", "{}", "{}");
    g_assert_cmpint(calls, ==, 2);
    check("test-echo", "{'text':'a'}", "\"a\\/no 0\\/no 0\\/nowhere\"");
    check("test-echo", "{'text':'a','times':7,'list':['x','y'],'where':{'colour':'green'}}",
          "\"a\\/7\\/2\\/green\"");
    check("test-echo", "{'text':'a','list':[]}", "\"a\\/no 0\\/0\\/nowhere\"");
    check("test-boxed", "{'colour':'red','depth':1}", "{\"colour\":\"red\",\"depth\":1}");
    check("test-colours", NULL, "[\"green\",\"red\"]");
    check("test-any", "{'value':[1,{'a':null}]}", "[1,{\"a\":null}]");
    check("test-any", "{'value':null}", "null");
    check("test-any", NULL, "\"absent\"");
}

static void test_command_errors(void)
{
    qmp_registry_init(qmp_commands);
    calls = 0;
    check("nosuch", NULL,
          "{\"class\":\"CommandNotFound\",\"desc\":\"The command nosuch has not been found\"}");
    check("test-absent", NULL,
          "{\"class\":\"CommandNotFound\",\"desc\":\"The command test-absent has not been "
          "found\"}");
    check("test-nothing", "{'a':1}",
          "{\"class\":\"GenericError\",\"desc\":\"Parameter 'a' is unexpected\"}");
    check("test-echo", NULL,
          "{\"class\":\"GenericError\",\"desc\":\"Parameter 'text' is missing\"}");
    check("test-echo", "{'text':'x','where':{'colour':'red','q':1}}",
          "{\"class\":\"GenericError\",\"desc\":\"Parameter 'where.q' is unexpected\"}");
    check("test-boxed", "{'colour':'red'}",
          "{\"class\":\"GenericError\",\"desc\":\"Parameter 'depth' is missing\"}");
    check("test-fail", "{'class-not-found':true}",
          "{\"class\":\"DeviceNotFound\",\"desc\":\"No such luck\"}");
    check("test-fail", "{'class-not-found':false}",
          "{\"class\":\"GenericError\",\"desc\":\"No such luck\"}");
    g_assert_cmpint(calls, ==, 0);
}

static void count_command(const QmpCommand *cmd, void *opaque)
{
    ++*(int *)opaque;
}

static void test_registry(void)
{
    json_object *ret = NULL;
    int n = 0;

    qmp_registry_init(qmp_commands);
    qmp_for_each_command(count_command, &n);
    g_assert_cmpint(n, ==, qmp_n_commands);
    g_assert_cmpint(n, ==, 7);
    g_assert_cmpuint(qmp_find_command("test-nothing")->flags, ==, QMP_CMD_ALLOW_OOB);
    g_assert_cmpuint(qmp_find_command("test-echo")->flags, ==, QMP_CMD_DEPRECATED);
    g_assert_cmpuint(qmp_find_command("test-silent")->flags, ==,
                     QMP_CMD_NO_SUCCESS_RESPONSE | QMP_CMD_ALLOW_PRECONFIG);

    calls = 0;
    g_assert_true(qmp_dispatch("test-silent", NULL, &ret, NULL));
    g_assert_null(ret);
    g_assert_cmpint(calls, ==, 1);

    qmp_disable_command("test-nothing", "not today");
    g_assert_false(qmp_command_is_enabled(qmp_find_command("test-nothing")));
    check("test-nothing", NULL,
          "{\"class\":\"CommandNotFound\",\"desc\":\"Command test-nothing has been disabled: "
          "not today\"}");
    qmp_enable_command("test-nothing");
    check("test-nothing", NULL, "{}");
    qmp_disable_command("nosuch", NULL);
}

static GPtrArray *events;

static void sink(unsigned event, json_object *msg)
{
    json_object *stamp = NULL;

    g_assert_true(json_object_object_get_ex(msg, "timestamp", &stamp));
    g_assert_cmpint(json_object_get_int64(json_object_object_get(stamp, "seconds")), >,
                    1600000000);
    g_assert_cmpint(json_object_get_int64(json_object_object_get(stamp, "microseconds")), <,
                    1000000);
    g_assert_cmpstr(json_object_get_string(json_object_object_get(msg, "event")), ==,
                    QAPIEvent_str((int)event));
    json_object *data = json_object_object_get(msg, "data");
    g_ptr_array_add(events, data ? g_strdup(json_object_to_json_string_ext(
                                       data, JSON_C_TO_STRING_PLAIN))
                                 : g_strdup("none"));
    json_object_put(msg);
}

static void test_events(void)
{
    TestUnion u = {.colour = TEST_COLOUR_RED, .u.red.depth = 9};

    qapi_event_send_test_plain(); /* without a sink: dropped */
    events = g_ptr_array_new_with_free_func(g_free);
    qapi_set_event_sink(sink);
    qapi_event_send_test_plain();
    qapi_event_send_test_data(UINT64_MAX, "t", true, TEST_COLOUR_GREEN);
    qapi_event_send_test_data(1, NULL, false, 0);
    qapi_event_send_test_boxed(&u);
    qapi_set_event_sink(NULL);
    g_assert_cmpint(events->len, ==, 4);
    g_assert_cmpstr(events->pdata[0], ==, "none");
    g_assert_cmpstr(events->pdata[1], ==,
                    "{\"n\":18446744073709551615,\"text\":\"t\",\"colour\":\"green\"}");
    g_assert_cmpstr(events->pdata[2], ==, "{\"n\":1}");
    g_assert_cmpstr(events->pdata[3], ==, "{\"colour\":\"red\",\"depth\":9}");
    g_ptr_array_unref(events);
    g_assert_cmpint(QAPI_EVENT__MAX, ==, 4);
}

/* --- Introspection ------------------------------------------------------------------- */

static json_object *find(json_object *schema, const char *name)
{
    for (size_t i = 0; i < json_object_array_length(schema); i++) {
        json_object *entity = json_object_array_get_idx(schema, i);

        if (!strcmp(json_object_get_string(json_object_object_get(entity, "name")), name)) {
            return entity;
        }
    }
    return NULL;
}

static const char *get(json_object *entity, const char *key)
{
    return json_object_get_string(json_object_object_get(entity, key));
}

/* Every type that entity or a part of it refers to must be defined. */
static void check_references(json_object *schema, json_object *value)
{
    static const char *const keys[] = {"arg-type", "ret-type", "element-type", "type", NULL};

    if (json_object_is_type(value, json_type_array)) {
        for (size_t i = 0; i < json_object_array_length(value); i++) {
            check_references(schema, json_object_array_get_idx(value, i));
        }
    } else if (json_object_is_type(value, json_type_object)) {
        json_object_object_foreach(value, key, child)
        {
            if (g_strv_contains(keys, key)) {
                g_assert_nonnull(find(schema, json_object_get_string(child)));
            }
            check_references(schema, child);
        }
    }
}

static json_object *member(json_object *object, const char *name)
{
    return find(json_object_object_get(object, "members"), name);
}

static void set_policy(const char *text)
{
    GError *err = NULL;
    g_autoptr(CompatPolicy) policy = qapi_CompatPolicy_from_str(text, NULL, &err);

    g_assert_no_error(err);
    qapi_set_compat_policy(policy);
}

/* What is deprecated or unstable, as -compat says. */
static void test_policy(void)
{
    static const char old[] = "{'text':'a','times':7}", green[] = "{'colour':'green'}";

    qmp_registry_init(qmp_commands);
    check("test-echo", old, "\"a\\/7\\/no 0\\/nowhere\"");
    set_policy("deprecated-input=reject");
    check("test-echo", "{'text':'a'}", "{\"class\":\"CommandNotFound\",\"desc\":\"Deprecated "
                                       "command test-echo disabled by policy\"}");
    check("test-boxed", green, "{\"colour\":\"green\"}");
    set_policy("unstable-input=reject");
    check("test-echo", old, "\"a\\/7\\/no 0\\/nowhere\"");
    check("test-boxed", green, "{\"class\":\"GenericError\",\"desc\":\"Unstable value green "
                               "disabled by policy\"}");
    check("test-boxed", "{'colour':'red','depth':1}", "{\"colour\":\"red\",\"depth\":1}");

    events = g_ptr_array_new_with_free_func(g_free);
    qapi_set_event_sink(sink);
    qapi_event_send_test_old(1, 2);
    set_policy("deprecated-output=hide");
    qapi_event_send_test_old(1, 2);
    set_policy("unstable-output=hide");
    qapi_event_send_test_old(1, 2);
    qapi_event_send_test_plain();
    qapi_set_event_sink(NULL);
    set_policy("");
    g_assert_cmpint(events->len, ==, 3);
    g_assert_cmpstr(events->pdata[0], ==, "{\"old\":1,\"new\":2}");
    g_assert_cmpstr(events->pdata[1], ==, "{\"new\":2}");
    g_assert_cmpstr(events->pdata[2], ==, "none");
    g_ptr_array_unref(events);
}

/* A parameter of a command that is not deprecated itself. */
static void test_policy_parameter(void)
{
    const QapiType *type = &qapi_type_TestPolicy;
    g_autoptr(GError) err = NULL;
    json_object *json = json_parse_text("{'old':1}", 9, NULL);
    void *obj;

    set_policy("deprecated-input=reject");
    g_assert_false(qapi_input(type, json, NULL, &obj, &err));
    g_assert_cmpstr(err->message, ==, "Deprecated parameter old disabled by policy");
    set_policy("");
    g_assert_true(qapi_input(type, json, NULL, &obj, NULL));
    qapi_free_value(type, &obj);
    json_object_put(json);
}

static void test_policy_crash(void)
{
    if (g_test_subprocess()) {
        qmp_registry_init(qmp_commands);
        set_policy("unstable-input=crash");
        check("test-boxed", "{'colour':'green'}", "");
        return;
    }
    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_failed();
    g_test_trap_assert_stderr("*Unstable value green used, and -compat says crash*");
}

static void test_introspection(void)
{
    json_object *schema = json_tokener_parse(qmp_schema_json);

    g_assert_nonnull(schema);
    check_references(schema, schema);
    for (const QmpCommand *c = qmp_commands; c->name; c++) {
        g_assert_cmpstr(get(find(schema, c->name), "meta-type"), ==, "command");
    }
    for (int i = 0; i < QAPI_EVENT__MAX; i++) {
        g_assert_cmpstr(get(find(schema, QAPIEvent_str(i)), "meta-type"), ==, "event");
    }
    g_assert_null(find(schema, "test-absent"));
    g_assert_null(find(schema, "TEST_UNUSED"));
    g_assert_null(find(schema, "TestUnion")); /* masked */

    json_object *echo = find(schema, "test-echo");
    g_assert_cmpstr(get(echo, "ret-type"), ==, "str");
    g_assert_cmpstr(get(echo, "features"), ==, "[ \"deprecated\" ]");
    json_object *args = find(schema, get(echo, "arg-type"));
    g_assert_cmpstr(get(args, "meta-type"), ==, "object");
    g_assert_false(json_object_object_get_ex(member(args, "text"), "default", NULL));
    g_assert_true(json_object_object_get_ex(member(args, "times"), "default", NULL));
    g_assert_cmpstr(get(member(args, "times"), "features"), ==, "[ \"deprecated\" ]");
    g_assert_cmpstr(get(member(args, "list"), "type"), ==, "[str]");
    g_assert_cmpstr(get(find(schema, "[str]"), "element-type"), ==, "str");
    g_assert_true(json_object_get_boolean(
        json_object_object_get(find(schema, "test-nothing"), "allow-oob")));

    json_object *u = find(schema, get(find(schema, "test-boxed"), "arg-type"));
    g_assert_cmpstr(get(u, "tag"), ==, "colour");
    json_object *variants = json_object_object_get(u, "variants");
    g_assert_cmpint(json_object_array_length(variants), ==, 3); /* green: the empty object */
    json_object *colour = find(schema, get(member(u, "colour"), "type"));
    g_assert_cmpstr(get(colour, "values"), ==, "[ \"red\", \"dark-blue\", \"green\" ]");
    g_assert_cmpstr(get(member(colour, "green"), "features"), ==, "[ \"unstable\" ]");
    json_object_put(schema);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qapi/commands/success", test_commands);
    g_test_add_func("/qapi/commands/errors", test_command_errors);
    g_test_add_func("/qapi/commands/registry", test_registry);
    g_test_add_func("/qapi/events", test_events);
    g_test_add_func("/qapi/policy/all", test_policy);
    g_test_add_func("/qapi/policy/parameter", test_policy_parameter);
    g_test_add_func("/qapi/policy/crash", test_policy_crash);
    g_test_add_func("/qapi/introspection", test_introspection);
    return g_test_run();
}
