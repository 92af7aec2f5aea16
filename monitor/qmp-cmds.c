/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The QMP commands about the monitor itself.  Coroutines of a session, main thread. */
#include <string.h>

#include "config-host.h"
#include "monitor/monitor-int.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-control.h"
#include "qapi/qapi-commands-misc.h"

/* The version of QEMU whose interfaces are offered: clients choose features by it. */
enum { COMPAT_MAJOR = 7, COMPAT_MINOR = 2, COMPAT_MICRO = 0 };

#define PACKAGE "Keyframe " KEYFRAME_VERSION

void coroutine_fn qmp_qmp_capabilities(bool has_enable, QMPCapabilityList *enable, GError **errp)
{
    bool oob = false, concurrent = false;

    for (QMPCapabilityList *e = has_enable ? enable : NULL; e; e = e->next) {
        switch (e->value) {
        case QMP_CAPABILITY_OOB:
            oob = true;
            break;
        case QMP_CAPABILITY_CONCURRENT:
            concurrent = true;
            break;
        default:
            break;
        }
    }
    if (!qmp_session_set_capabilities(oob, concurrent)) {
        error_setg(errp, "Capabilities can be negotiated by a QMP client only");
    }
}

MainLoopStats *coroutine_fn qmp_query_main_loop_stats(bool has_reset, bool reset, GError **errp)
{
    MainLoopStats *info = g_new0(MainLoopStats, 1);
    AioLoopStats stats = aio_loop_stats(main_aio_context(), has_reset && reset);

    info->rounds = stats.rounds;
    info->busy_us = stats.busy_ns / 1000;
    info->longest_us = stats.longest_ns / 1000;
    return info;
}

VersionInfo *coroutine_fn qmp_query_version(GError **errp)
{
    VersionInfo *info = g_new0(VersionInfo, 1);

    info->qemu = g_new0(VersionTriple, 1);
    info->qemu->major = COMPAT_MAJOR;
    info->qemu->minor = COMPAT_MINOR;
    info->qemu->micro = COMPAT_MICRO;
    info->package = g_strdup(PACKAGE);
    return info;
}

json_object *qmp_version_json(void)
{
    json_object *version = json_object_new_object(), *qemu = json_object_new_object();

    json_object_object_add(qemu, "micro", json_object_new_int(COMPAT_MICRO));
    json_object_object_add(qemu, "minor", json_object_new_int(COMPAT_MINOR));
    json_object_object_add(qemu, "major", json_object_new_int(COMPAT_MAJOR));
    json_object_object_add(version, "qemu", qemu);
    json_object_object_add(version, "package", json_object_new_string(PACKAGE));
    return version;
}

char *coroutine_fn qmp_human_monitor_command(const char *command_line, bool has_cpu_index,
                                             int64_t cpu_index, GError **errp)
{
    HMPSession hmp = {0};

    if (has_cpu_index && cpu_index != 0) {
        error_setg(errp, "Parameter 'cpu-index' expects a CPU number");
        return NULL;
    }
    hmp.out = g_string_new(NULL);
    qmp_session_set_hmp(&hmp);
    hmp_run_line(&hmp, command_line);
    qmp_session_set_hmp(NULL);
    if (hmp.cut) {
        g_string_append(hmp.out, "(cut)\r\n");
    }
    return g_string_free(hmp.out, false);
}
