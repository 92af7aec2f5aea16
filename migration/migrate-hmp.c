/* SPDX-License-Identifier: GPL-2.0-or-later */
/* HMP's migration commands: thin clients of the QMP handlers.  Main thread. */
#include <inttypes.h>
#include <string.h>
#include "migrate-int.h"
#include "migration/migrate.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-migrate.h"
#include "qapi/keyval.h"
#include "qapi/qapi-visit-migrate.h"

/* How often a migrate that is not detached looks whether it is over. */
#define WAIT_NS (10 * 1000 * 1000)

/* Ctrl-C. */
static void give_up(void *opaque)
{
    *(bool *)opaque = true;
}

static void coroutine_fn hmp_migrate(HMPSession *s, const HMPArgs *args)
{
    GError *err = NULL;
    MigrationInfo *info;
    bool interrupted = false;

    qmp_migrate(&(MigrateArguments){ .uri = (char *)hmp_arg_str(args, "uri") }, &err);
    if (hmp_handle_error(s, err) || hmp_arg_flag(args, "detach")) {
        return;
    }
    hmp_set_interrupt(s, give_up, &interrupted);
    while (migrate_under_way()) {
        if (interrupted) {
            interrupted = false;
            qmp_migrate_cancel(NULL);
        }
        co_sleep_ns(WAIT_NS);
    }
    hmp_set_interrupt(s, NULL, NULL);
    info = qmp_query_migrate(NULL);
    if (info->error_desc) {
        hmp_printf(s, "Error: %s\n", info->error_desc);
    }
    qapi_free_MigrationInfo(info);
}

static void coroutine_fn hmp_migrate_cancel(HMPSession *s, const HMPArgs *args)
{
    qmp_migrate_cancel(NULL);
}

static void coroutine_fn hmp_migrate_continue(HMPSession *s, const HMPArgs *args)
{
    const char *name = hmp_arg_str(args, "state");
    GError *err = NULL;

    for (int i = 0; i < MIGRATION_STATUS__MAX; i++) {
        if (!strcmp(MigrationStatus_str(i), name)) {
            qmp_migrate_continue(i, &err);
            hmp_handle_error(s, err);
            return;
        }
    }
    hmp_printf(s, "Error: invalid parameter value: %s\n", name);
}

static void coroutine_fn hmp_migrate_incoming(HMPSession *s, const HMPArgs *args)
{
    GError *err = NULL;

    qmp_migrate_incoming(hmp_arg_str(args, "uri"), false, NULL, false, false, &err);
    hmp_handle_error(s, err);
}

static void coroutine_fn hmp_migrate_set_capability(HMPSession *s, const HMPArgs *args)
{
    const char *name = hmp_arg_str(args, "capability");
    MigrationCapabilityStatus cap = {.state = hmp_arg_flag(args, "state")};
    MigrationCapabilityStatusList list = {.value = &cap};
    GError *err = NULL;

    for (int i = 0; i < MIGRATION_CAPABILITY__MAX; i++) {
        if (!strcmp(MigrationCapability_str(i), name)) {
            cap.capability = i;
            qmp_migrate_set_capabilities(&list, &err);
            hmp_handle_error(s, err);
            return;
        }
    }
    hmp_printf(s, "Error: invalid parameter value: %s\n", name);
}

/* The value of a parameter as text for the schema's type, to be freed; NULL and errp. */
static char *parameter_text(const char *name, const char *value, GError **errp)
{
    bool is_bandwidth = !strcmp(name, "max-bandwidth");
    uint64_t number, scale;

    if (!is_bandwidth && strcmp(name, "downtime-limit")) {
        return g_strdup(value);
    }
    /* As QEMU: a bandwidth without a suffix is in MiB. */
    scale = is_bandwidth && strspn(value, "0123456789") == strlen(value) ? UINT64_C(1) << 20 : 1;
    if (qapi_parse_size(value, &number) && !__builtin_mul_overflow(number, scale, &number)) {
        return g_strdup_printf("%" PRIu64, number);
    }
    error_setg(errp, is_bandwidth
                         ? "Invalid size %s"
                         : "Parameter 'downtime-limit' expects a non-negative number below 2^64\n"
                           "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, "
                           "peta-\nand exabytes, respectively.", value);
    return NULL;
}

static void coroutine_fn hmp_migrate_set_parameter(HMPSession *s, const HMPArgs *args)
{
    const char *name = hmp_arg_str(args, "parameter");
    g_autofree char *text = NULL;
    MigrationParameters *p = NULL;
    json_object *tree;
    GError *err = NULL;

    if (!qapi_find_member(&qapi_type_MigrationParameters, name)) {
        error_setg(&err, "invalid parameter value: %s", name);
        hmp_handle_error(s, err);
        return;
    }
    text = parameter_text(name, hmp_arg_str(args, "value"), &err);
    if (text) {
        tree = json_object_new_object();
        json_object_object_add(tree, name, json_object_new_string(text));
        if (qapi_input_keyval(&qapi_type_MigrationParameters, tree, NULL, &p, &err)) {
            qmp_migrate_set_parameters(p, &err);
        }
        json_object_put(tree);
        qapi_free_MigrationParameters(p);
    }
    hmp_handle_error(s, err);
}

#define OFFER_ALL(c, type, max) \
    for (int i = 0; i < (max); i++) { \
        hmp_complete_add(c, type##_str(i)); \
    }

static void coroutine_fn complete_capability(HMPCompletion *c, int nr)
{
    if (nr == 0) {
        OFFER_ALL(c, MigrationCapability, MIGRATION_CAPABILITY__MAX);
    } else if (nr == 1) {
        hmp_complete_add(c, "on");
        hmp_complete_add(c, "off");
    }
}

static void coroutine_fn complete_parameter(HMPCompletion *c, int nr)
{
    static const char *const names[] = {"max-bandwidth", "downtime-limit", "direct-io",
                                        "max-passes"};

    for (size_t i = 0; nr == 0 && i < G_N_ELEMENTS(names); i++) {
        hmp_complete_add(c, names[i]);
    }
}

static void coroutine_fn complete_state(HMPCompletion *c, int nr)
{
    if (nr == 0) {
        OFFER_ALL(c, MigrationStatus, MIGRATION_STATUS__MAX);
    }
}

/* --- info -------------------------------------------------------------------------------------- */

static void coroutine_fn print_ram(HMPSession *s, const MigrationStats *ram)
{
    hmp_printf(s, "transferred ram: %" PRId64 " kbytes\n", ram->transferred >> 10);
    hmp_printf(s, "throughput: %0.2f mbps\n", ram->mbps);
    hmp_printf(s, "remaining ram: %" PRId64 " kbytes\n", ram->remaining >> 10);
    hmp_printf(s, "total ram: %" PRId64 " kbytes\n", ram->total >> 10);
    hmp_printf(s, "duplicate: %" PRId64 " pages\n", ram->duplicate);
    hmp_printf(s, "skipped: %" PRId64 " pages\n", ram->skipped);
    hmp_printf(s, "normal: %" PRId64 " pages\n", ram->normal);
    hmp_printf(s, "normal bytes: %" PRId64 " kbytes\n", ram->normal_bytes >> 10);
    hmp_printf(s, "dirty sync count: %" PRId64 "\n", ram->dirty_sync_count);
    hmp_printf(s, "page size: %" PRId64 " kbytes\n", ram->page_size >> 10);
    hmp_printf(s, "multifd bytes: %" PRIu64 " kbytes\n", ram->multifd_bytes >> 10);
    hmp_printf(s, "pages-per-second: %" PRIu64 "\n", ram->pages_per_second);
    if (ram->dirty_pages_rate) {
        hmp_printf(s, "dirty pages rate: %" PRId64 " pages\n", ram->dirty_pages_rate);
    }
    if (ram->precopy_bytes) {
        hmp_printf(s, "precopy ram: %" PRIu64 " kbytes\n", ram->precopy_bytes >> 10);
    }
    if (ram->downtime_bytes) {
        hmp_printf(s, "downtime ram: %" PRIu64 " kbytes\n", ram->downtime_bytes >> 10);
    }
}

static void coroutine_fn print_listening(HMPSession *s, const MigrationSocketAddressList *list)
{
    hmp_printf(s, "socket address: [\n");
    for (; list; list = list->next) {
        const MigrationSocketAddress *a = list->value;

        if (a->type == MIGRATION_SOCKET_TYPE_INET) {
            hmp_printf(s, "\ttcp:%s:%s\n", a->u.inet.host, a->u.inet.port);
        } else if (a->type == MIGRATION_SOCKET_TYPE_UNIX) {
            hmp_printf(s, "\tunix:%s\n", a->u.q_unix.path);
        } else {
            hmp_printf(s, "\tfd:%s\n", a->u.fd.str);
        }
    }
    hmp_printf(s, "]\n");
}

static void coroutine_fn hmp_info_migrate(HMPSession *s, const HMPArgs *args)
{
    MigrationInfo *info = qmp_query_migrate(NULL);

    hmp_printf(s, "globals:\nstore-global-state: on\nonly-migratable: off\n"
                  "send-configuration: on\nsend-section-footer: on\n");
    for (strList *r = info->blocked_reasons; r; r = r->next) {
        hmp_printf(s, "Outgoing migration blocked: %s\n", r->value);
    }
    if (info->has_status) {
        hmp_printf(s, "Migration status: %s", MigrationStatus_str(info->status));
        if (info->error_desc) {
            hmp_printf(s, " (%s)", info->error_desc);
        }
        hmp_printf(s, "\n");
    }
    if (info->warning) {
        hmp_printf(s, "warning: %s\n", info->warning);
    }
    if (info->has_total_time) {
        hmp_printf(s, "total time: %" PRId64 " ms\n", info->total_time);
    }
    if (info->has_expected_downtime) {
        hmp_printf(s, "expected downtime: %" PRId64 " ms\n", info->expected_downtime);
    }
    if (info->has_downtime) {
        hmp_printf(s, "downtime: %" PRId64 " ms\n", info->downtime);
    }
    if (info->has_setup_time) {
        hmp_printf(s, "setup: %" PRId64 " ms\n", info->setup_time);
    }
    if (info->ram) {
        print_ram(s, info->ram);
    }
    if (info->socket_address) {
        print_listening(s, info->socket_address);
    }
    qapi_free_MigrationInfo(info);
}

static void coroutine_fn hmp_info_migrate_capabilities(HMPSession *s, const HMPArgs *args)
{
    for (int i = 0; i < MIGRATION_CAPABILITY__MAX; i++) {
        hmp_printf(s, "%s: %s\n", MigrationCapability_str(i), migrate_has(i) ? "on" : "off");
    }
}

static void coroutine_fn hmp_info_migrate_parameters(HMPSession *s, const HMPArgs *args)
{
    hmp_printf(s, "max-bandwidth: %" PRIu64 " bytes/second\n", migrate_max_bandwidth());
    hmp_printf(s, "downtime-limit: %" PRIu64 " ms\n", migrate_downtime_limit());
    hmp_printf(s, "direct-io: %s\n", migrate_direct_io() ? "on" : "off");
    hmp_printf(s, "max-passes: %u\n", migrate_max_passes());
}

const HMPCommand migrate_hmp_commands[] = {
    {
        .name = "migrate",
        .args_type = "detach:-d,uri:s",
        .params = "[-d] uri",
        .help = "migrate to URI (using -d to not wait for completion)",
        .handler = hmp_migrate,
    },
    {
        .name = "migrate_cancel",
        .args_type = "",
        .params = "",
        .help = "cancel the current VM migration",
        .handler = hmp_migrate_cancel,
    },
    {
        .name = "migrate_continue",
        .args_type = "state:s",
        .params = "state",
        .help = "Continue migration from the given paused state",
        .handler = hmp_migrate_continue,
        .complete = complete_state,
    },
    {
        .name = "migrate_incoming",
        .args_type = "uri:s",
        .params = "uri",
        .help = "Continue an incoming migration from an -incoming defer",
        .handler = hmp_migrate_incoming,
    },
    {
        .name = "migrate_set_capability",
        .args_type = "capability:s,state:b",
        .params = "capability state",
        .help = "Enable/Disable the usage of a capability for migration",
        .handler = hmp_migrate_set_capability,
        .complete = complete_capability,
    },
    {
        .name = "migrate_set_parameter",
        .args_type = "parameter:s,value:s",
        .params = "parameter value",
        .help = "Set the parameter for migration",
        .handler = hmp_migrate_set_parameter,
        .complete = complete_parameter,
    },
    {
        .name = "info migrate",
        .args_type = "",
        .params = "",
        .help = "show migration status",
        .handler = hmp_info_migrate,
    },
    {
        .name = "info migrate_capabilities",
        .args_type = "",
        .params = "",
        .help = "show current migration capabilities",
        .handler = hmp_info_migrate_capabilities,
    },
    {
        .name = "info migrate_parameters",
        .args_type = "",
        .params = "",
        .help = "show current migration parameters",
        .handler = hmp_info_migrate_parameters,
    },
    {NULL},
};
