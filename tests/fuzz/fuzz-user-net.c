/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the backend "user" is told: rules of hostfwd, as they are in its options and as
 * hostfwd_remove has them, and all of its options together, as -netdev has them.
 */
#include "fuzz.h"
#include "net/net-int.h"
#include "qapi/qapi-visit-net.h"
#include "qapi/visitor.h"

static void check_rule(const char *rule)
{
    HostForward f;
    g_autoptr(GError) err = NULL;
    bool ok = host_forward_parse(rule, &f, &err);

    fuzz_check_outcome(ok, err);
    if (ok) {
        g_assert_true(f.host_port >= 0 && f.host_port <= 65535);
        g_assert_true(f.guest_port > 0 && f.guest_port <= 65535);
    }
    host_forward_parse_host(rule, &f);
}

static void check_options(const char *text)
{
    g_autofree char *whole = g_strconcat("user,id=n,", text, NULL), *shown = NULL;
    g_autoptr(GError) err = NULL;
    bool keyval;
    json_object *tree = netdev_tree(whole, &keyval, &err);
    Netdev *netdev = NULL;
    UserConfig *config;
    bool ok = tree && qapi_input_keyval(&qapi_type_Netdev, tree, NULL, &netdev, &err);

    json_object_put(tree);
    fuzz_check_outcome(ok, err);
    if (!ok || netdev->type != NETDEV_TYPE_USER) {
        qapi_free_Netdev(netdev);
        return;
    }
    config = user_config_new(&netdev->u.user, &err);
    fuzz_check_outcome(config != NULL, err);
    if (config) {
        shown = user_config_text(config);
        user_config_free(config);
    }
    qapi_free_Netdev(netdev);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree char *text = fuzz_text(data, size);

    check_rule(text);
    check_options(text);
    return 0;
}
