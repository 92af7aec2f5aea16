/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * For tests of QMP sessions: commands of the tests' own, one of which waits until another lets
 * it go, a monitor on a socket, and clients of it.
 */
#ifndef TESTS_QMP_TEST_H
#define TESTS_QMP_TEST_H

#include "tests/unit/monitor-test.h"

#include "qapi/json-stream.h"
#include "qapi/error.h"
#include "qapi/event.h"
#include "qapi/qapi-events-block-core.h"
#include "qapi/qapi-commands-control.h"
#include "qapi/qapi-commands-misc.h"
#include "qapi/qmp.h"

#define OK_STATUS "{\"return\": {\"status\": \"running\", \"running\": true}}"
#define ERR(text) "{\"error\": {\"class\": \"GenericError\", \"desc\": \"" text "\"}}"

static CoQueue stuck;
static int stuck_entered, stuck_left;
static size_t big_size;

void coroutine_fn qmp_quit(GError **errp)
{
}

static inline bool cmd_status(json_object *args, json_object **ret, GError **errp)
{
    if (args && json_object_object_length(args)) {
        error_setg(errp, "Parameter 'a' is unexpected");
        return false;
    }
    *ret = json_object_new_object();
    json_object_object_add(*ret, "status", json_object_new_string("running"));
    json_object_object_add(*ret, "running", json_object_new_boolean(true));
    return true;
}

static inline bool coroutine_fn cmd_stick(json_object *args, json_object **ret, GError **errp)
{
    stuck_entered++;
    co_queue_wait(&stuck, NULL);
    stuck_left++;
    *ret = json_object_new_object();
    return true;
}

static inline bool cmd_unstick(json_object *args, json_object **ret, GError **errp)
{
    co_queue_restart_all(&stuck);
    *ret = json_object_new_object();
    return true;
}

static int spun;

/* Works for a millisecond. */
static inline bool cmd_spin(json_object *args, json_object **ret, GError **errp)
{
    int64_t start = clock_now_ns();

    while (clock_now_ns() - start < 1000 * 1000) {
    }
    spun++;
    *ret = json_object_new_object();
    return true;
}

static inline bool cmd_big(json_object *args, json_object **ret, GError **errp)
{
    g_autofree char *text = g_strnfill(big_size, 'x');

    *ret = json_object_new_string(text);
    return true;
}

static inline bool cmd_echo(json_object *args, json_object **ret, GError **errp)
{
    *ret = json_object_get(args);
    return true;
}

static inline bool coroutine_fn cmd_hmp(json_object *args, json_object **ret, GError **errp)
{
    json_object *line;
    char *out;

    json_object_object_get_ex(args, "command-line", &line);
    out = qmp_human_monitor_command(json_object_get_string(line), false, 0, errp);
    *ret = json_object_new_string(out);
    g_free(out);
    return true;
}

static const QmpCommand commands[] = {
    {"qmp_capabilities", qmp_marshal_qmp_capabilities, 0},
    {"query-version", qmp_marshal_query_version, 0},
    {"query-commands", qmp_marshal_query_commands, 0},
    {"query-status", cmd_status, 0},
    {"stick", cmd_stick, 0},
    {"unstick", cmd_unstick, QMP_CMD_ALLOW_OOB},
    {"big", cmd_big, 0},
    {"spin", cmd_spin, 0},
    {"echo", cmd_echo, 0},
    {"human-monitor-command", cmd_hmp, 0},
    {NULL},
};

/* --- Fixture ------------------------------------------------------------------------- */

static char *dir;
static char *path;

static inline void setup_with(bool pretty)
{
    g_autofree char *spec = NULL;
    GError *err = NULL;
    Chardev *chr;

    dir = test_dir_new();
    path = g_build_filename(dir, "qmp", NULL);
    spec = g_strdup_printf("unix:%s,server=on,wait=off", path);
    stuck_entered = stuck_left = 0;
    co_queue_init(&stuck);
    qmp_registry_init(commands);
    monitor_init(NULL, 0);
    chr = chardev_new_from_spec("compat_monitor0", spec, &err);
    g_assert_no_error(err);
    g_assert_true(monitor_add_qmp(chr, pretty, &err));
}

static inline void setup(void)
{
    setup_with(false);
}

static inline void teardown(void)
{
    monitor_cleanup();
    chardev_cleanup();
    co_queue_restart_all(&stuck);
    while (aio_poll(main_aio_context(), false)) {
    }
    g_assert_cmpint(stuck_entered, ==, stuck_left);
    test_dir_remove(dir);
    g_free(path);
}

static inline TestClient *client_greeted(void)
{
    TestClient *c = client_connect(path);

    client_expect(c, "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 0, \"minor\": 2, "
                     "\"major\": 7}, \"package\": \"Keyframe 0.1.0\"}, "
                     "\"capabilities\": [\"oob\"]}}");
    return c;
}

static inline TestClient *client_ready(void)
{
    TestClient *c = client_greeted();

    client_ask(c, "{'execute':'qmp_capabilities'}", "{\"return\": {}}");
    return c;
}

static inline TestClient *client_with(const char *capability)
{
    TestClient *c = client_greeted();
    g_autofree char *text = g_strdup_printf(
        "{'execute':'qmp_capabilities','arguments':{'enable':['%s']}}", capability);

    client_ask(c, text, "{\"return\": {}}");
    return c;
}

#endif
