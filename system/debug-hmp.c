/* SPDX-License-Identifier: GPL-2.0-or-later */
/* HMP commands for who looks for faults. */
#include <string.h>

#include "system-int.h"
#include "system/gdbstub.h"
#include "util/aio.h"
#include "util/log.h"

static void coroutine_fn hmp_gdbserver(HMPSession *s, const HMPArgs *args)
{
    const char *device = hmp_arg_str(args, "device");
    g_autoptr(GError) err = NULL;

    device = device ? device : GDBSTUB_DEFAULT_DEVICE;
    if (!gdbstub_co_restart(device, &err)) {
        hmp_printf(s, "%s\nCould not open gdbserver on device '%s'\n", err->message, device);
    } else if (!strcmp(device, "none")) {
        hmp_printf(s, "Disabled gdbserver\n");
    } else {
        hmp_printf(s, "Waiting for gdb connection on device '%s'\n", device);
    }
}

static void coroutine_fn hmp_log(HMPSession *s, const HMPArgs *args)
{
    const char *items = hmp_arg_str(args, "items");
    g_autoptr(GError) err = NULL;

    if (!log_set_items(items, &err)) {
        g_autofree char *help = log_items_help(true);

        hmp_printf(s, "%s", help);
    }
}

typedef struct LogFile {
    const char *name;
    GError *err;
} LogFile;

static int log_file_worker(void *opaque)
{
    LogFile *file = opaque;

    return log_set_file(file->name, &file->err) ? 0 : -1;
}

static void coroutine_fn hmp_logfile(HMPSession *s, const HMPArgs *args)
{
    LogFile file = {.name = hmp_arg_str(args, "filename")};

    if (co_run_in_worker(log_file_worker, &file) < 0) {
        hmp_printf(s, "%s\n", file.err->message);
        g_error_free(file.err);
    }
}

const HMPCommand debug_hmp_commands[] = {
    {"gdbserver", "device:s?", "[device]",
     "start gdbserver on given device (default '" GDBSTUB_DEFAULT_DEVICE "'), stop with 'none'",
     hmp_gdbserver},
    {"log", "items:s", "item1[,...]", "activate logging of the specified items", hmp_log},
    {"logfile", "filename:F", "filename", "output logs to 'filename'", hmp_logfile},
    {NULL},
};
