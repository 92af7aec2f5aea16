/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Migration addresses: the short form, the structured one, and what each refuses. */
#include "migration/migrate-int.h"
#include "qapi/error.h"
#include "qapi/qapi-visit-migrate.h"
#include "qapi/visitor.h"

/* What a text means, as JSON. */
static void test_accepted(void)
{
    static const struct {
        const char *text, *json;
    } cases[] = {
        {"tcp:host:4444", "{\"transport\":\"socket\",\"type\":\"inet\",\"host\":\"host\",\"port\":\"4444\"}"},
        {"tcp::0", "{\"transport\":\"socket\",\"type\":\"inet\",\"host\":\"\",\"port\":\"0\"}"},
        {"tcp:[::1]:5,ipv6", "{\"transport\":\"socket\",\"type\":\"inet\",\"host\":\"::1\",\"port\":\"5\",\"ipv6\":true}"},
        {"tcp:h:5,ipv4=off", "{\"transport\":\"socket\",\"type\":\"inet\",\"host\":\"h\",\"port\":\"5\",\"ipv4\":false}"},
        {"tcp:a:b:c", "{\"transport\":\"socket\",\"type\":\"inet\",\"host\":\"a\",\"port\":\"b:c\"}"},
        {"unix:/a,b", "{\"transport\":\"socket\",\"type\":\"unix\",\"path\":\"/a,b\"}"},
        {"fd:mig", "{\"transport\":\"socket\",\"type\":\"fd\",\"str\":\"mig\"}"},
        {"exec:gzip -c > 'a b'", "{\"transport\":\"exec\",\"args\":[\"/bin/sh\",\"-c\",\"gzip -c > 'a b'\"]}"},
        {"file:/x", "{\"transport\":\"file\",\"filename\":\"/x\"}"},
        {"file:/x,offset=1M", "{\"transport\":\"file\",\"filename\":\"/x\",\"offset\":1048576}"},
        {"file:/x,y,offset=0x200", "{\"transport\":\"file\",\"filename\":\"/x,y\",\"offset\":512}"},
        {"snapshot:node=n,name=t", "{\"transport\":\"snapshot\",\"node\":\"n\",\"name\":\"t\"}"},
        {"snapshot:node=n,name=a,,b,compress=on,lazy=off",
         "{\"transport\":\"snapshot\",\"node\":\"n\",\"name\":\"a,b\",\"compress\":true,\"lazy\":false}"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        MigrationAddress *a = migrate_addr_parse(cases[i].text, false, NULL);
        json_object *json = a ? qapi_MigrationAddress_to_json(a) : NULL;
        g_assert_nonnull(json);

        g_assert_cmpstr(json_object_to_json_string_ext(json, JSON_C_TO_STRING_PLAIN |
                                                       JSON_C_TO_STRING_NOSLASHESCAPE), ==,
                        cases[i].json);
        json_object_put(json);
        qapi_free_MigrationAddress(a);
    }
}

static void test_refused(void)
{
    g_autofree char *longest = g_strnfill(107, 'x');
    g_autofree char *too_long = g_strdup_printf("unix:%sx", longest);
    g_autofree char *just_right = g_strdup_printf("unix:%s", longest);
    const struct {
        const char *text, *message;
    } cases[] = {
        {"", "Parameter 'uri' expects a valid migration protocol"},
        {"foo:", "Parameter 'uri' expects a valid migration protocol"},
        {"TCP:a:1", "Parameter 'uri' expects a valid migration protocol"},
        {"tcp:", "error parsing address ''"},
        {"tcp:host", "error parsing address 'host'"},
        {"tcp:host:", "error parsing address 'host:'"},
        {"tcp:[::1", "error parsing address '[::1'"},
        {"tcp:[::1]5", "error parsing address '[::1]5'"},
        {"tcp:h:1,ipv4=maybe", "error parsing address 'h:1,ipv4=maybe'"},
        {"tcp:h:1,to=9", "Invalid parameter 'to' in address 'h:1,to=9'"},
        {"unix:", "invalid Unix socket address"},
        {too_long, NULL},
        {"file:", "file URI has no file name"},
        {"file:,offset=1", "file URI has no file name"},
        {"file:x,offset=", "file URI has bad offset ''"},
        {"file:x,offset=-1", "file URI has bad offset '-1'"},
        {"file:x,offset=8E", NULL},
        {"snapshot:", "Parameter 'node' is missing"},
        {"snapshot:node=n", "Parameter 'name' is missing"},
        {"snapshot:node=n,name=t,x=1", "Parameter 'x' is unexpected"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        GError *err = NULL;
        MigrationAddress *a = migrate_addr_parse(cases[i].text, false, &err);

        g_assert_null(a);
        g_assert_nonnull(err);
        if (cases[i].message) {
            g_assert_cmpstr(err->message, ==, cases[i].message);
        }
        g_error_free(err);
    }
    qapi_free_MigrationAddress(migrate_addr_parse(just_right, false, NULL));
}

static void assert_choice(const char *uri, const char *json, bool ok, const char *message)
{
    MigrationChannel *c = json ? qapi_MigrationChannel_from_str(json, NULL, NULL) : NULL;
    MigrationChannelList list = {.value = c};
    GError *err = NULL;
    MigrationAddress *a = migrate_addr_choose(uri, c ? &list : NULL, true, &err);

    g_assert(!!a == ok && !err == ok);
    if (message) {
        g_assert_true(g_str_has_prefix(err->message, message));
    }
    g_clear_error(&err);
    qapi_free_MigrationAddress(a);
    qapi_free_MigrationChannel(c);
}

static void test_choice(void)
{
    const char *channel = "{\"channel-type\": \"main\", \"addr\": {\"transport\": \"socket\", "
                          "\"type\": \"unix\", \"path\": \"/x\"}}";

    assert_choice("tcp:a:1", NULL, true, NULL);
    assert_choice(NULL, channel, true, NULL);
    assert_choice("tcp:a:1", channel, false, "'uri' and 'channels' arguments are mutually");
    assert_choice(NULL, NULL, false, "neither 'uri' or 'channels'");
    assert_choice("x:", NULL, false, "unknown migration protocol: x:");
    assert_choice(NULL, "{\"channel-type\": \"main\", \"addr\": {\"transport\": \"exec\", "
                        "\"args\": []}}", false, "Parameter 'args' expects a program");
    assert_choice(NULL, "{\"channel-type\": \"main\", \"addr\": {\"transport\": \"socket\", "
                        "\"type\": \"unix\", \"path\": \"\"}}", false, "invalid Unix socket");
}

static void test_option(void)
{
    GError *err = NULL;
    MigrationAddress *a = migrate_addr_from_option(
        "{\"channel-type\": \"main\", \"addr\": {\"transport\": \"file\", \"filename\": \"f\", "
        "\"offset\": 7}}", NULL);

    g_assert_cmpint(a->transport, ==, MIGRATION_ADDRESS_TYPE_FILE);
    g_assert_cmpuint(a->u.file.offset, ==, 7);
    qapi_free_MigrationAddress(a);
    g_assert_null(migrate_addr_from_option("{\"channel-type\": \"main\"", &err));
    g_assert_nonnull(err);
    g_clear_error(&err);
    g_assert_null(migrate_addr_from_option("{\"channel-type\": \"side\", \"addr\": {}}", &err));
    g_assert_nonnull(err);
    g_clear_error(&err);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/migrate-addr/accepted", test_accepted);
    g_test_add_func("/migrate-addr/refused", test_refused);
    g_test_add_func("/migrate-addr/choice", test_choice);
    g_test_add_func("/migrate-addr/option", test_option);
    return g_test_run();
}
