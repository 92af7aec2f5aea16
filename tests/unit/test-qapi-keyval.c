/* SPDX-License-Identifier: GPL-2.0-or-later */
/* key=value options: the tree they make, typed input from them, and QEMU's error texts. */
#include "config-host.h"
#include <json-c/json.h>
#include "qapi/error.h"
#include "qapi/json.h"
#include "qapi/keyval.h"
#include "qapi/qapi-visit-qapi-schema-test.h"

static void test_tree(void)
{
    static const struct {
        const char *text, *implied, *tree;
    } cases[] = {
        {"", NULL, "{}"},
        {"a=b", NULL, "{\"a\":\"b\"}"},
        {"a=b,", NULL, "{\"a\":\"b\"}"},
        {"a=", NULL, "{\"a\":\"\"}"},
        {"a=x,,y,b=,,", NULL, "{\"a\":\"x,y\",\"b\":\",\"}"},
        {"a=1,a=2", NULL, "{\"a\":\"2\"}"},
        {"a=b=c", NULL, "{\"a\":\"b=c\"}"},
        {"driver=qcow2,node-name=d,file.driver=file,file.filename=x,list.0=a", NULL,
         "{\"driver\":\"qcow2\",\"node-name\":\"d\",\"file\":{\"driver\":\"file\","
         "\"filename\":\"x\"},\"list\":[\"a\"]}"},
        {"l.1=b,l.0=a,l.2.x=c", NULL, "{\"l\":[\"a\",\"b\",{\"x\":\"c\"}]}"},
        {"l.0.0=a,l.0.1=b", NULL, "{\"l\":[[\"a\",\"b\"]]}"},
        {"foo,x=y", "driver", "{\"driver\":\"foo\",\"x\":\"y\"}"},
        {"a,,b", "driver", "{\"driver\":\"a,b\"}"},
        {"a=b", "driver", "{\"a\":\"b\"}"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        GError *err = NULL;
        json_object *json = keyval_parse(cases[i].text, cases[i].implied, &err);

        g_assert_no_error(err);
        g_assert_cmpstr(json_object_to_json_string_ext(json, JSON_C_TO_STRING_PLAIN), ==,
                        cases[i].tree);
        json_object_put(json);
    }
}

static void test_tree_errors(void)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"raw", "Expected '=' after parameter 'raw'"},
        {"a=b,raw", "Expected '=' after parameter 'raw'"},
        {"=a", "Invalid parameter ''"},
        {",a=b", "Invalid parameter ''"},
        {"9a=x", "Invalid parameter '9a'"},
        {"0=x", "Invalid parameter '0'"},
        {"a..b=1", "Invalid parameter 'a..b'"},
        {"a.=1", "Invalid parameter 'a.'"},
        {"a!=1", "Invalid parameter 'a!'"},
        {"a.1x=1", "Invalid parameter 'a.1x'"},
        {"file=a,file.driver=file", "Parameters 'file.*' used inconsistently"},
        {"file.a.b=1,file.a=2", "Parameters 'file.a.*' used inconsistently"},
        {"l.0=a,l.x=b", "Parameters 'l.*' used inconsistently"},
        {"l.0=a,l.2=b", "Parameter 'l.1' missing"},
        {"l.1=a", "Parameter 'l.0' missing"},
        {"a.l.00=a,a.l.0=b", "Parameter 'a.l.1' missing"},
        {"l.99999999999999999999=a", "Parameter 'l.0' missing"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) err = NULL;

        g_assert_null(keyval_parse(cases[i].text, NULL, &err));
        g_assert_cmpstr(err->message, ==, cases[i].message);
    }
    g_autoptr(GError) err = NULL;
    g_autofree char *fill = g_strnfill(2000, 'a');
    g_autofree char *key = g_strconcat("a.", fill, "=1", NULL);
    g_assert_null(keyval_parse(key, NULL, &err));
    g_assert_nonnull(err);
}

/* Dots in the keys of JSON text, at any level: the tree that nested objects are. */
static void test_from_json(void)
{
    static const struct {
        const char *text, *tree, *message;
    } cases[] = {
        {"{}", "{}", NULL},
        {"{'a':1,'b':true,'c':null,'d':'x','e':{},'f':[]}",
         "{\"a\":1,\"b\":true,\"c\":null,\"d\":\"x\",\"e\":{},\"f\":[]}", NULL},
        {"{'file.driver':'file','file.filename':'x','driver':'qcow2'}",
         "{\"file\":{\"driver\":\"file\",\"filename\":\"x\"},\"driver\":\"qcow2\"}", NULL},
        {"{'file.driver':'file','file':{'filename':'x','a.b':{'c.d':1}}}",
         "{\"file\":{\"driver\":\"file\",\"filename\":\"x\",\"a\":{\"b\":{\"c\":{\"d\":1}}}}}",
         NULL},
        {"{'l.0.x':1,'l.0.y':2,'m':[{'n.o':1},[2]]}",
         "{\"l\":[{\"x\":1,\"y\":2}],\"m\":[{\"n\":{\"o\":1}},[2]]}", NULL},
        {"{'a..b':1}", NULL, "Invalid parameter 'a..b'"},
        {"{'':1}", NULL, "Invalid parameter ''"},
        {"{'0':1}", NULL, "Invalid parameter '0'"},
        {"{'a!':1}", NULL, "Invalid parameter 'a!'"},
        {"{'file':'node','file.driver':'file'}", NULL, "Parameters 'file.*' used inconsistently"},
        {"{'l.1':1}", NULL, "Parameter 'l.0' missing"},
        {"{'l':[1],'l.x':1}", NULL, "Parameters 'l.*' used inconsistently"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) err = NULL;
        json_object *json = json_parse_text(cases[i].text, strlen(cases[i].text), NULL);
        json_object *tree = keyval_from_json(json, &err);

        g_assert_cmpstr(tree ? json_object_to_json_string_ext(tree, JSON_C_TO_STRING_PLAIN) : NULL,
                        ==, cases[i].tree);
        g_assert_cmpstr(err ? err->message : NULL, ==, cases[i].message);
        json_object_put(tree);
        json_object_put(json);
    }
}

/* Nested so deep that the key would be too long. */
static void test_from_deep_json(void)
{
    g_autoptr(GError) err = NULL;
    GString *text = g_string_new(NULL);
    json_object *json;

    for (int i = 0; i < 60; i++) {
        g_string_append(text, "{'a-rather-long-name':");
    }
    g_string_append_c(text, '1');
    for (int i = 0; i < 60; i++) {
        g_string_append_c(text, '}');
    }
    json = json_parse_text(text->str, text->len, NULL);
    g_assert_nonnull(json);
    g_assert_null(keyval_from_json(json, &err));
    g_assert_true(g_str_has_suffix(err->message, "...' is too long"));
    json_object_put(json);
    g_string_free(text, true);
}

static void test_typed(void)
{
    GError *err = NULL;
    g_autoptr(TestScalars) s = qapi_TestScalars_from_str(
        "i=-0x10,u8=255,size=1.5k,number=2.5,bool=on,str=,enum=green,any.x=1", NULL, &err);

    g_assert_no_error(err);
    g_assert_cmpint(s->i, ==, -16);
    g_assert_cmpint(s->u8, ==, 255);
    g_assert_cmpint(s->size, ==, 1536);
    g_assert_cmpfloat(s->number, ==, 2.5);
    g_assert_true(s->has_bool && s->q_bool);
    g_assert_cmpstr(s->str, ==, "");
    g_assert_cmpint(s->q_enum, ==, TEST_COLOUR_GREEN);
    g_assert_true(s->has_any && json_object_is_type(s->any, json_type_object));

    g_autoptr(TestUnion) u =
        qapi_TestUnion_from_str("dark-blue,shades.0=a,shades.1=b,,c", "colour", &err);
    g_assert_no_error(err);
    g_assert_cmpstr(u->u.dark_blue.shades->next->value, ==, "b,c");

    g_autoptr(TestUnion) j =
        qapi_TestUnion_from_str("{'colour':'red','depth':3}", "colour", &err);
    g_assert_no_error(err);
    g_assert_cmpint(j->u.red.depth, ==, 3);

    g_autoptr(TestHolder) h = qapi_TestHolder_from_str("alt=off,other=node", NULL, &err);
    g_assert_no_error(err);
    g_assert_cmpint(h->alt->type, ==, QTYPE_QBOOL);
    g_assert_false(h->alt->u.flag);
    g_assert_cmpstr(h->other->u.ref, ==, "node");

    g_autoptr(TestHolder) e = qapi_TestHolder_from_str("alt=green,other.alt=5", NULL, &err);
    g_assert_no_error(err);
    g_assert_cmpint(e->alt->type, ==, QTYPE_QSTRING);
    g_assert_cmpint(e->other->u.def.alt->type, ==, QTYPE_QNUM);
    g_assert_cmpint(e->other->u.def.alt->u.n, ==, 5);
}

static void check_error(const QapiType *type, const char *text, const char *message)
{
    g_autoptr(GError) err = NULL;
    void *obj = NULL;

    g_assert_false(qapi_input_str(type, text, NULL, &obj, &err));
    g_assert_null(obj);
    g_assert_cmpstr(err->message, ==, message);
}

static void test_typed_errors(void)
{
    const QapiType *s = &qapi_type_TestScalars, *u = &qapi_type_TestUnion;

    check_error(s, "i=a", "Parameter 'i' expects integer");
    check_error(s, "i=1k", "Parameter 'i' expects integer");
    check_error(s, "i=1.5", "Parameter 'i' expects integer");
    check_error(s, "i=", "Parameter 'i' expects integer");
    check_error(s, "u64=99999999999999999999", "Parameter 'u64' expects integer");
    check_error(s, "u32=-1", "Parameter 'u32' expects uint32_t");
    check_error(s, "size=x", "Parameter 'size' expects a size value");
    check_error(s, "size=-1", "Parameter 'size' expects a size value");
    check_error(s, "number=inf", "Parameter 'number' expects number");
    check_error(s, "bool=maybe", "Parameter 'bool' expects 'on' or 'off'");
    check_error(s, "enum=pink", "Parameter 'enum' does not accept value 'pink'");
    check_error(s, "str.x=1", "Invalid parameter type for 'str', expected: string");
    check_error(s, "zoo.a=1", "Parameters 'zoo.*' are unexpected");
    check_error(s, "zoo=1", "Parameter 'zoo' is unexpected");
    check_error(s, "{\"i\":\"1\"}", "Invalid parameter type for 'i', expected: integer");
    check_error(s, "{\"i\":1} x", "Expecting at most one JSON value");
    check_error(u, "id=x", "Parameter 'colour' is missing");
    check_error(u, "colour=dark-blue,shades=x",
                "Invalid parameter type for 'shades', expected: array");
    check_error(&qapi_type_TestLists, "structs.0.colour=red,structs.1.id=a",
                "Parameter 'structs.1.colour' is missing");
    check_error(&qapi_type_TestLists, "structs.0.colour=red,structs.0.x=1",
                "Parameter 'structs.0.x' is unexpected");
    check_error(&qapi_type_TestHolder, "alt=1,other.0=a",
                "Invalid parameter type for 'other', expected: TestStrAlt");
}

static void test_sizes(void)
{
    static const struct {
        const char *text;
        uint64_t value;
    } good[] = {
        {"0", 0},
        {"123", 123},
        {"1b", 1},
        {"1k", 1024},
        {"1K", 1024},
        {"1.5M", 1536 * 1024},
        {"2G", 2ull << 30},
        {"1T", 1ull << 40},
        {"1p", 1ull << 50},
        {"15E", 15ull << 60},
        {"0x1000", 4096},
        {"0x10k", 16384},
        {"0xbe", 0xbe},
        {"18446744073709551615", UINT64_MAX},
    };
    static const char *const bad[] = {"",    " 1",   "-1",  "+1",    "k",   "1kk",
                                      "1.5", "1.5b", "16E", ".5k",   "1 k", "0x",
                                      "1e3", "x",    "1Q",  "1.5.k", "18446744073709551616"};
    uint64_t value;

    for (size_t i = 0; i < G_N_ELEMENTS(good); i++) {
        g_assert_true(qapi_parse_size(good[i].text, &value));
        g_assert_cmpuint(value, ==, good[i].value);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_test_message("%s", bad[i]);
        g_assert_false(qapi_parse_size(bad[i], &value));
    }
}

/* Whatever the text: a value or an error, and nothing lost (run under ASan). */
static void test_garbage(void)
{
    static const char *const words[] = {
        "i",   "u8",  "size", "any", "bool", "alt",     "other", "def", "scalars", "structs",
        "str", "ints", "alts", "red", "green", "colour", "depth", "nested", "shades", "id",
        ".",   ".",   ".",    "=",   "=",    "=",       ",",     ",",   ",,",      "0",
        "1",   "2",   "-",    "off", "k",    "{",       "}",     "[",   "]",       "'",
        ":",   "\"",  "null", "1e9", "\\",  "99999999999999999999",
    };
    static const QapiType *const types[] = {&qapi_type_TestScalars, &qapi_type_TestLists,
                                            &qapi_type_TestUnion, &qapi_type_TestHolder};
    GRand *rand = g_rand_new_with_seed(1);
    int good = 0;

    for (int i = 0; i < 40000; i++) {
        GString *text = g_string_new(i % 3 ? NULL : "{");
        int n = g_rand_int_range(rand, 0, 24);

        while (n--) {
            g_string_append(text, words[g_rand_int_range(rand, 0, G_N_ELEMENTS(words))]);
        }
        for (size_t k = 0; k < G_N_ELEMENTS(types); k++) {
            g_autoptr(GError) err = NULL;
            void *obj = NULL;
            bool ok = qapi_input_str(types[k], text->str, k % 2 ? "colour" : NULL, &obj, &err);

            g_assert_true(ok ? obj && !err : !obj && err);
            good += ok;
            qapi_free_value(types[k], &obj);
        }
        g_string_free(text, true);
    }
    g_assert_cmpint(good, >, 100);
    g_rand_free(rand);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qapi/keyval/tree", test_tree);
    g_test_add_func("/qapi/keyval/tree-errors", test_tree_errors);
    g_test_add_func("/qapi/keyval/from-json", test_from_json);
    g_test_add_func("/qapi/keyval/from-deep-json", test_from_deep_json);
    g_test_add_func("/qapi/keyval/typed", test_typed);
    g_test_add_func("/qapi/keyval/typed-errors", test_typed_errors);
    g_test_add_func("/qapi/keyval/sizes", test_sizes);
    g_test_add_func("/qapi/keyval/garbage", test_garbage);
    return g_test_run();
}
