/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Visitors over JSON: values in and out, round trips of every type, and the words of every
 * error, compared with what QEMU 7.2 prints.
 */
#include "config-host.h"
#include <json-c/json.h>
#include "qapi/error.h"
#include "qapi/json.h"
#include "qapi/qapi-visit-qapi-schema-test.h"
#include "qapi/util.h"

static json_object *parse(const char *text)
{
    GError *err = NULL;
    json_object *json = json_parse_text(text, strlen(text), &err);

    g_assert_no_error(err);
    return json;
}

/* Input of json, which is freed, must fail with message. */
static void check_json_error(const QapiType *type, json_object *json, const char *message)
{
    g_autoptr(GError) err = NULL;
    void *obj = &err; /* must be cleared */

    g_assert_false(qapi_input(type, json, NULL, &obj, &err));
    g_assert_cmpstr(err->message, ==, message);
    g_assert_true(error_get_class(err) == QAPI_ERROR_GENERIC);
    g_assert_null(obj);
    json_object_put(json);
}

static void check_error(const QapiType *type, const char *text, const char *message)
{
    check_json_error(type, parse(text), message);
}

/* text in, out again, and again through a clone, must give want (NULL: text itself). */
static void check_round_trip(const QapiType *type, const char *text, const char *want)
{
    GError *err = NULL;
    json_object *json = parse(text);
    void *obj = NULL, *copy = NULL;

    g_assert_true(qapi_input(type, json, NULL, &obj, &err));
    g_assert_no_error(err);
    json_object_put(json);
    qapi_clone_value(type, &obj, &copy);
    qapi_free_value(type, &obj);
    g_assert_null(obj);
    json = qapi_output(type, &copy);
    qapi_free_value(type, &copy);
    g_assert_cmpstr(json_object_to_json_string_ext(json, JSON_C_TO_STRING_PLAIN), ==,
                    want ? want : text);
    json_object_put(json);
}

static void test_scalars(void)
{
    const char *all =
        "{\"i\":-5,\"i8\":-128,\"i16\":32767,\"i32\":-2147483648,"
        "\"i64\":-9223372036854775808,\"u8\":255,\"u16\":65535,\"u32\":4294967295,"
        "\"u64\":18446744073709551615,\"size\":4096,\"number\":1.5,\"bool\":true,"
        "\"str\":\"h\\u00e9\",\"null\":null,\"any\":{\"a\":[1,null]},\"enum\":\"dark-blue\","
        "\"qtype\":\"qdict\"}";
    GError *err = NULL;
    json_object *json = parse(all);
    TestScalars *s = qapi_TestScalars_from_json(json, &err);

    g_assert_no_error(err);
    g_assert_true(s->has_i && s->has_u64 && s->has_bool && s->has_any && s->has_enum);
    g_assert_cmpint(s->i, ==, -5);
    g_assert_cmpint(s->i64, ==, INT64_MIN);
    g_assert_cmpuint(s->u64, ==, UINT64_MAX);
    g_assert_cmpfloat(s->number, ==, 1.5);
    g_assert_cmpstr(s->str, ==, "h\xc3\xa9");
    g_assert_true(s->null == &qapi_null);
    g_assert_cmpint(s->q_enum, ==, TEST_COLOUR_DARK_BLUE);
    g_assert_cmpint(s->qtype, ==, QTYPE_QDICT);
    json_object_put(json);
    qapi_free_TestScalars(s);

    check_round_trip(&qapi_type_TestScalars, "{}", NULL);
    check_round_trip(&qapi_type_TestScalars,
                     "{\"i\":1,\"null\":null,\"any\":null,\"enum\":\"green\"}", NULL);
    /* Negative numbers wrap in unsigned types of 64 bits, as in QEMU. */
    check_round_trip(&qapi_type_TestScalars, "{\"u64\":-1}", "{\"u64\":18446744073709551615}");
    /* An integer is a number. */
    check_round_trip(&qapi_type_TestScalars, "{\"number\":3}", "{\"number\":3.0}");
}

static void test_scalar_errors(void)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"{\"i\":\"a\"}", "Invalid parameter type for 'i', expected: integer"},
        {"{\"i\":1.5}", "Invalid parameter type for 'i', expected: integer"},
        {"{\"i\":1.0}", "Invalid parameter type for 'i', expected: integer"},
        {"{\"i\":9223372036854775808}", "Invalid parameter type for 'i', expected: integer"},
        {"{\"i\":99999999999999999999}", "Invalid parameter type for 'i', expected: integer"},
        {"{\"i\":-9223372036854775809}", "Invalid parameter type for 'i', expected: integer"},
        {"{\"i\":null}", "Invalid parameter type for 'i', expected: integer"},
        {"{\"i8\":128}", "Parameter 'i8' expects int8_t"},
        {"{\"i16\":-32769}", "Parameter 'i16' expects int16_t"},
        {"{\"i32\":2147483648}", "Parameter 'i32' expects int32_t"},
        {"{\"u8\":300}", "Parameter 'u8' expects uint8_t"},
        {"{\"u8\":-1}", "Parameter 'u8' expects uint8_t"},
        {"{\"u16\":65536}", "Parameter 'u16' expects uint16_t"},
        {"{\"u32\":4294967296}", "Parameter 'u32' expects uint32_t"},
        {"{\"u64\":1.0}", "Parameter 'u64' expects uint64"},
        {"{\"u64\":18446744073709551616}", "Parameter 'u64' expects uint64"},
        {"{\"size\":\"1k\"}", "Parameter 'size' expects uint64"},
        {"{\"number\":\"1\"}", "Invalid parameter type for 'number', expected: number"},
        {"{\"bool\":1}", "Invalid parameter type for 'bool', expected: boolean"},
        {"{\"str\":1}", "Invalid parameter type for 'str', expected: string"},
        {"{\"str\":null}", "Invalid parameter type for 'str', expected: string"},
        {"{\"null\":0}", "Invalid parameter type for 'null', expected: null"},
        {"{\"enum\":1}", "Invalid parameter type for 'enum', expected: string"},
        {"{\"enum\":\"blue\"}", "Parameter 'enum' does not accept value 'blue'"},
        {"{\"enum\":\"violet\"}", "Parameter 'enum' does not accept value 'violet'"},
        {"{\"zoo\":1}", "Parameter 'zoo' is unexpected"},
        {"{\"i\":1,\"I\":1}", "Parameter 'I' is unexpected"},
        {"[]", "Invalid parameter type for '<anonymous>', expected: object"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        check_error(&qapi_type_TestScalars, cases[i].text, cases[i].message);
    }
}

/* No text has it, but a tree may. */
static void test_nul(void)
{
    json_object *json = json_object_new_object();

    json_object_object_add(json, "str", json_object_new_string_len("a\0b", 3));
    check_json_error(&qapi_type_TestScalars, json,
                     "Parameter 'str' expects a string without NUL characters");
}

static void test_lists(void)
{
    const QapiType *type = &qapi_type_TestLists;
    GError *err = NULL;
    json_object *json = parse("{\"ints\":[3,1,2],\"strs\":[]}");
    TestLists *lists = qapi_TestLists_from_json(json, &err);

    g_assert_no_error(err);
    g_assert_cmpint(QAPI_LIST_LENGTH(lists->ints), ==, 3);
    g_assert_cmpint(lists->ints->next->value, ==, 1);
    g_assert_true(lists->has_strs && !lists->strs && !lists->has_bytes);
    qapi_free_TestLists(lists);
    json_object_put(json);

    check_round_trip(type,
                     "{\"ints\":[1,-2],\"bytes\":[0,255],\"strs\":[\"a\",\"\"],"
                     "\"enums\":[\"red\",\"green\"],\"bools\":[true,false],"
                     "\"structs\":[{\"colour\":\"red\",\"id\":\"x\"},{\"colour\":\"green\"}],"
                     "\"alts\":[1,true,null,\"red\",[\"s\"]]}",
                     NULL);
    check_error(type, "{\"ints\":{}}", "Invalid parameter type for 'ints', expected: array");
    check_error(type, "{\"ints\":[1,\"a\"]}",
                "Invalid parameter type for 'ints[1]', expected: integer");
    check_error(type, "{\"enums\":[\"x\"]}", "Parameter 'null' does not accept value 'x'");
    check_error(type, "{\"bytes\":[1,256]}", "Parameter 'null' expects uint8_t");
    check_error(type, "{\"structs\":[{\"colour\":\"red\"},{}]}",
                "Parameter 'structs[1].colour' is missing");
    check_error(type, "{\"structs\":[{\"colour\":\"red\",\"a\":1}]}",
                "Parameter 'structs[0].a' is unexpected");
    check_error(type, "{\"hidden\":1}", "Parameter 'hidden' is unexpected");
}

static void test_list_helpers(void)
{
    g_autoptr(strList) list = NULL;
    strList **tail = &list;

    QAPI_LIST_APPEND(tail, g_strdup("b"));
    QAPI_LIST_APPEND(tail, g_strdup("c"));
    QAPI_LIST_PREPEND(list, g_strdup("a"));
    g_assert_cmpint(QAPI_LIST_LENGTH(list), ==, 3);
    json_object *json = qapi_output(&qapi_type_strList, &list);
    g_assert_cmpstr(json_object_to_json_string_ext(json, JSON_C_TO_STRING_PLAIN), ==,
                    "[\"a\",\"b\",\"c\"]");
    json_object_put(json);
}

static void test_unions(void)
{
    const QapiType *type = &qapi_type_TestUnion;
    GError *err = NULL;
    json_object *json = parse("{'id':'x','colour':'red','depth':2,'nested':{'colour':'green'}}");
    TestUnion *u = qapi_TestUnion_from_json(json, &err);

    g_assert_no_error(err);
    g_assert_cmpint(u->colour, ==, TEST_COLOUR_RED);
    g_assert_cmpint(u->u.red.depth, ==, 2);
    g_assert_cmpint(u->u.red.nested->colour, ==, TEST_COLOUR_GREEN);
    g_assert_cmpstr(qapi_TestUnion_base(u)->id, ==, "x");
    qapi_free_TestUnion(u);
    json_object_put(json);

    check_round_trip(type, "{\"colour\":\"green\",\"id\":\"g\"}", NULL);
    check_round_trip(type, "{\"colour\":\"dark-blue\",\"shades\":[\"navy\"],\"name\":\"n\"}",
                     NULL);
    check_error(type, "{\"id\":\"x\"}", "Parameter 'colour' is missing");
    check_error(type, "{\"colour\":\"pink\"}", "Parameter 'colour' does not accept value 'pink'");
    check_error(type, "{\"colour\":1}", "Invalid parameter type for 'colour', expected: string");
    check_error(type, "{\"colour\":\"red\"}", "Parameter 'depth' is missing");
    check_error(type, "{\"colour\":\"green\",\"depth\":1}", "Parameter 'depth' is unexpected");
    check_error(type, "{\"colour\":\"red\",\"depth\":1,\"nested\":{\"colour\":\"red\"}}",
                "Parameter 'nested.depth' is missing");
    check_error(type, "{\"colour\":\"red\",\"depth\":1,\"nested\":{\"colour\":\"green\",\"x\":1}}",
                "Parameter 'nested.x' is unexpected");
    check_error(type, "{\"colour\":\"red\",\"depth\":1,\"nested\":3}",
                "Invalid parameter type for 'nested', expected: object");
}

static void test_alternates(void)
{
    const QapiType *type = &qapi_type_TestHolder;
    GError *err = NULL;
    json_object *json = parse("{\"alt\":{\"colour\":\"red\",\"depth\":7},\"other\":\"s\"}");
    TestHolder *h = qapi_TestHolder_from_json(json, &err);

    g_assert_no_error(err);
    g_assert_cmpint(h->alt->type, ==, QTYPE_QDICT);
    g_assert_cmpint(h->alt->u.object.u.red.depth, ==, 7);
    g_assert_cmpint(h->other->type, ==, QTYPE_QSTRING);
    g_assert_cmpstr(h->other->u.ref, ==, "s");
    qapi_free_TestHolder(h);
    json_object_put(json);

    check_round_trip(type, "{\"alt\":5}", NULL);
    check_round_trip(type, "{\"alt\":null}", NULL);
    check_round_trip(type, "{\"alt\":false}", NULL);
    check_round_trip(type, "{\"alt\":\"green\"}", NULL);
    check_round_trip(type, "{\"alt\":[\"a\",\"b\"]}", NULL);
    check_round_trip(type, "{\"alt\":1,\"other\":{\"alt\":{\"colour\":\"green\"}}}", NULL);
    check_error(type, "{}", "Parameter 'alt' is missing");
    check_error(type, "{\"alt\":1.5}", "Invalid parameter type for 'alt', expected: integer");
    check_error(type, "{\"alt\":\"pink\"}", "Parameter 'alt' does not accept value 'pink'");
    check_error(type, "{\"alt\":1,\"other\":4}",
                "Invalid parameter type for 'other', expected: TestStrAlt");
    check_error(type, "{\"alt\":1,\"other\":null}",
                "Invalid parameter type for 'other', expected: TestStrAlt");
    check_error(type, "{\"alt\":1,\"other\":{\"alt\":{\"colour\":\"red\"}}}",
                "Parameter 'other.alt.depth' is missing");
    check_error(type, "{\"alt\":1,\"scalars\":{\"u8\":\"x\"}}",
                "Parameter 'scalars.u8' expects uint64");
}

static void test_enums(void)
{
    g_autoptr(GError) err = NULL;

    g_assert_cmpstr(TestColour_str(TEST_COLOUR_GREEN), ==, "green");
    g_assert_cmpint(TEST_COLOUR__MAX, ==, 3);
    g_assert_cmpint(qapi_enum_parse(&TestColour_lookup, "dark-blue", -1, &err), ==,
                    TEST_COLOUR_DARK_BLUE);
    g_assert_cmpint(qapi_enum_parse(&TestColour_lookup, NULL, TEST_COLOUR_RED, &err), ==,
                    TEST_COLOUR_RED);
    g_assert_cmpint(qapi_enum_parse(&TestColour_lookup, "x", 0, &err), ==, -1);
    g_assert_cmpstr(err->message, ==, "invalid parameter value: x");
}

/* A client's nesting must not use up the stack. */
static void test_depth(void)
{
    g_autoptr(GError) err = NULL;
    json_object *json = NULL;
    TestUnion *u;

    for (int i = 0; i < 5000; i++) {
        json_object *outer = json_object_new_object();
        json_object_object_add(outer, "colour", json_object_new_string(json ? "red" : "green"));
        if (json) {
            json_object_object_add(outer, "depth", json_object_new_int(i));
            json_object_object_add(outer, "nested", json);
        }
        json = outer;
    }
    u = qapi_TestUnion_from_json(json, &err);
    g_assert_null(u);
    g_assert_true(g_str_has_prefix(err->message, "Parameters are nested more than"));
    json_object_put(json);
}

/* One more member into obj; message: the error that is expected, or NULL. */
static void put_member(const QapiType *type, void *obj, const char *name, const char *text,
                       bool keyval, const char *message)
{
    g_autoptr(GError) err = NULL;
    json_object *json = parse(text);
    bool ok = qapi_input_member(type, obj, name, json, keyval, &err);

    json_object_put(json);
    g_assert_cmpstr(err ? err->message : NULL, ==, message);
    g_assert_true(ok == !message);
}

static void check_text(const QapiType *type, const void *obj, const char *want)
{
    json_object *json = qapi_output_members(type, obj);

    g_assert_cmpstr(json_object_to_json_string_ext(json, JSON_C_TO_STRING_PLAIN), ==, want);
    json_object_put(json);
}

static void test_members(void)
{
    const QapiType *scalars = &qapi_type_TestScalars, *lists = &qapi_type_TestLists;
    TestScalars s = {0};
    TestLists l = {0};
    TestHolder h = {0};

    g_assert_null(qapi_find_member(scalars, "nonsense"));
    g_assert_cmpstr(qapi_find_member(scalars, "u8")->name, ==, "u8");

    /* the last one counts, and a bad one changes nothing */
    put_member(scalars, &s, "str", "\"a\"", false, NULL);
    put_member(scalars, &s, "str", "\"b\"", true, NULL);
    put_member(scalars, &s, "str", "7", false,
               "Invalid parameter type for '<anonymous>', expected: string");
    put_member(scalars, &s, "u8", "\"0x10\"", true, NULL);
    put_member(scalars, &s, "size", "\"2k\"", true, NULL);
    put_member(scalars, &s, "enum", "\"dark-blue\"", false, NULL);
    put_member(scalars, &s, "any", "[1]", false, NULL);
    put_member(scalars, &s, "any", "{\"a\":2}", false, NULL);
    check_text(scalars, &s, "{\"u8\":16,\"size\":2048,\"str\":\"b\",\"any\":{\"a\":2},"
                            "\"enum\":\"dark-blue\"}");
    qapi_free_members(scalars, &s);

    /* lists grow */
    put_member(lists, &l, "ints", "\"5\"", true, NULL);
    put_member(lists, &l, "ints", "6", false, NULL);
    put_member(lists, &l, "ints", "\"x\"", true, "Parameter '<anonymous>' expects integer");
    put_member(lists, &l, "structs", "{\"colour\":\"red\"}", false, NULL);
    put_member(lists, &l, "structs", "{\"colour\":\"red\",\"size\":1}", false,
               "Parameter 'size' is unexpected");
    check_text(lists, &l, "{\"ints\":[5,6],\"structs\":[{\"colour\":\"red\"}]}");
    qapi_free_members(lists, &l);

    /* objects add up */
    h.alt = qapi_TestAlt_from_json(NULL, NULL);
    put_member(&qapi_type_TestHolder, &h, "scalars", "{\"i\":\"1\",\"str\":\"a\"}", true, NULL);
    put_member(&qapi_type_TestHolder, &h, "scalars", "{\"i\":2,\"bool\":true}", false, NULL);
    put_member(&qapi_type_TestHolder, &h, "scalars", "{\"i\":true}", false,
               "Invalid parameter type for 'i', expected: integer");
    check_text(&qapi_type_TestHolder, &h,
               "{\"alt\":null,\"scalars\":{\"i\":2,\"bool\":true,\"str\":\"a\"}}");
    qapi_free_members(&qapi_type_TestHolder, &h);
}

static void test_json_text(void)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"{", "JSON parse error, premature EOI"},
        {"{\"a\":\"b", "JSON parse error, premature EOI"},
        {"{} x", "Expecting at most one JSON value"},
        {"{\"a\":1,\"a\":2}", "JSON parse error, duplicate key"},
        {"{\"a\":tru}", "JSON parse error, invalid keyword 'tru'"},
        {"{\"a\":\"\\q\"}", "JSON parse error, invalid escape sequence in string"},
        {"{\"a\":01}", "JSON parse error, stray '01'"},
        {"{\"a\":[1,]}", "JSON parse error, expecting value"},
        {"{\"a\":1 2}", "JSON parse error, expected separator in dict"},
        {"{a:1}", "JSON parse error, invalid keyword 'a'"},
        {"{}{", "Expecting at most one JSON value"},
        {"{\"a\":[{\"b\":1,\"\\u0062\":2}]}", "JSON parse error, duplicate key"},
        {"", "JSON parse error, premature EOI"},
        {"null", "JSON parse error, expecting value"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) err = NULL;
        g_assert_null(json_parse_text(cases[i].text, strlen(cases[i].text), &err));
        g_assert_cmpstr(err->message, ==, cases[i].message);
    }
    g_autoptr(GError) err = NULL;
    g_autofree char *deep = g_strnfill(100000, '[');
    g_assert_null(json_parse_text(deep, strlen(deep), &err));
    g_assert_cmpstr(err->message, ==, "JSON nesting depth limit exceeded");

    json_object *json = parse("{'a:b' : [\":'{\", -12345678901234567890, 1e400, 7]}");
    json_object *list = json_object_object_get(json, "a:b");
    g_assert_cmpint(json_object_array_length(list), ==, 4);
    g_assert_true(json_object_is_type(json_object_array_get_idx(list, 1), json_type_double));
    g_assert_cmpint(json_object_get_int64(json_object_array_get_idx(list, 3)), ==, 7);
    json_object_put(json);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qapi/visit/scalars", test_scalars);
    g_test_add_func("/qapi/visit/scalar-errors", test_scalar_errors);
    g_test_add_func("/qapi/visit/nul", test_nul);
    g_test_add_func("/qapi/visit/lists", test_lists);
    g_test_add_func("/qapi/visit/list-helpers", test_list_helpers);
    g_test_add_func("/qapi/visit/unions", test_unions);
    g_test_add_func("/qapi/visit/alternates", test_alternates);
    g_test_add_func("/qapi/visit/enums", test_enums);
    g_test_add_func("/qapi/visit/depth", test_depth);
    g_test_add_func("/qapi/visit/members", test_members);
    g_test_add_func("/qapi/json/text", test_json_text);
    return g_test_run();
}
