/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What clients of QEMU ask, by QMP and HMP, about devices and functions that no machine has here:
 * there are none of them.  What clients take for a sign of a function by its mere presence, as
 * libvirt does query-vnc, is not here.  Main thread.
 */
#include "qapi/error.h"
#include "qapi/qapi-commands-absent.h"
#include "system-int.h"

/* --- QMP ------------------------------------------------------------------------------------ */

static void no_balloon(GError **errp)
{
    error_set_class(errp, QAPI_ERROR_DEVICE_NOT_ACTIVE, "No balloon device has been activated");
}

BalloonInfo *coroutine_fn qmp_query_balloon(GError **errp)
{
    no_balloon(errp);
    return NULL;
}

void coroutine_fn qmp_balloon(int64_t value, GError **errp)
{
    no_balloon(errp);
}

TPMInfoList *coroutine_fn qmp_query_tpm(GError **errp)
{
    return NULL;
}

TpmModelList *coroutine_fn qmp_query_tpm_models(GError **errp)
{
    return NULL;
}

TpmTypeList *coroutine_fn qmp_query_tpm_types(GError **errp)
{
    return NULL;
}

MouseInfoList *coroutine_fn qmp_query_mice(GError **errp)
{
    return NULL;
}

StatsResultList *coroutine_fn qmp_query_stats(StatsFilter *arg, GError **errp)
{
    return NULL;
}

StatsSchemaList *coroutine_fn qmp_query_stats_schemas(bool has_provider, StatsProvider provider,
                                                      GError **errp)
{
    return NULL;
}

/* --- HMP ------------------------------------------------------------------------------------ */

static void coroutine_fn hmp_balloon(HMPSession *s, const HMPArgs *args)
{
    GError *err = NULL;

    no_balloon(&err);
    hmp_handle_error(s, err);
}

#define SAYS(name, text) \
    static void coroutine_fn hmp_info_##name(HMPSession *s, const HMPArgs *args) \
    { \
        hmp_printf(s, "%s", text); \
    }
SAYS(memory_devices, "")
SAYS(mice, "No mouse devices connected\n")
SAYS(spice, "Server: disabled\n")
SAYS(tpm, "")
SAYS(vnc, "None\n")

const HMPCommand absent_hmp_commands[] = {
    {"balloon", "value:l", "target", "request VM to change its memory allocation (in MB)",
     hmp_balloon},
    {"info balloon", "", "", "show balloon information", hmp_balloon},
    {"info memory-devices", "", "", "show memory devices", hmp_info_memory_devices},
    {"info mice", "", "", "show which guest mouse is receiving events", hmp_info_mice},
    {"info spice", "", "", "show the spice server status", hmp_info_spice},
    {"info tpm", "", "", "show the TPM device", hmp_info_tpm},
    {"info vnc", "", "", "show the vnc server status", hmp_info_vnc},
    {0},
};
