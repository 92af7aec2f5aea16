/* SPDX-License-Identifier: GPL-2.0-or-later */
/* HMP commands for who looks for faults. */
#include <string.h>

#include "system-int.h"
#include "system/gdbstub.h"

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

const HMPCommand debug_hmp_commands[] = {
    {"gdbserver", "device:s?", "[device]",
     "start gdbserver on given device (default '" GDBSTUB_DEFAULT_DEVICE "'), stop with 'none'",
     hmp_gdbserver},
    {NULL},
};
