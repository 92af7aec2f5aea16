/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The human monitor's "qemu-io": one command of qemu-io on a drive, a device's drive or a node.
 * As in QEMU its output goes to the program's stdout, not to the monitor.
 */
#include <stdio.h>
#include <string.h>
#include "block/io-cmd.h"
#include "io-cmd-int.h"
#include "qapi/error.h"

static BlockBackend *find_device(const char *id, GError **errp)
{
    for (BlockBackend *blk = blk_next(NULL); blk; blk = blk_next(blk)) {
        if (blk_device(blk) && !strcmp(blk_device(blk), id)) {
            return blk;
        }
    }
    error_set_class(errp, QAPI_ERROR_DEVICE_NOT_FOUND, "Device '%s' not found", id);
    return NULL;
}

/* A session on a node, through a handle of its own: it can write if nobody else does. */
static IoSession *open_node(const char *name, GError **errp)
{
    BlockDriverState *bs = bdrv_lookup(NULL, name, errp);
    BlockBackend *blk;
    GError *err = NULL;
    IoSession *s;

    if (!bs) {
        return NULL;
    }
    blk = blk_new("", bs, true, &err);
    if (!blk) {
        blk = blk_new("", bs, false, errp);
    }
    if (!blk) {
        g_clear_error(&err);
        return NULL;
    }
    s = io_session_new(blk, true);
    s->write_error = err;
    return s;
}

void coroutine_fn hmp_qemu_io(HMPSession *session, const HMPArgs *args)
{
    const char *name = hmp_arg_str(args, "device");
    BlockBackend *blk = blk_by_name(name);
    GError *err = NULL;
    IoSession *s = NULL;

    if (hmp_arg_flag(args, "qdev")) {
        blk = find_device(name, &err);
    }
    if (blk) {
        s = io_session_new(blk, false);
    } else if (!err) {
        s = open_node(name, &err);
    }
    if (s) {
        io_command_run(s, hmp_arg_str(args, "command"));
        io_session_unref(s);
    }
    hmp_handle_error(session, err);
}
