/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Output to a file: emptied first unless append=on; input, if wanted, from another file.
 * Main thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "monitor/chardev-int.h"
#include "qapi/error.h"

static bool file_open(Chardev *chr, ChardevOpts *opts, GError **errp)
{
    const char *path = chardev_opts_get(opts, "path");
    const char *input = chardev_opts_get(opts, "input-path");
    bool append;
    int in = -1, out;

    if (!chardev_opts_get_bool(opts, "append", false, &append, errp)) {
        return false;
    }
    if (!path) {
        error_setg(errp, "chardev: file: no filename given");
        return false;
    }
    out = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY | (append ? O_APPEND : O_TRUNC),
               0666);
    if (out < 0) {
        error_setg_errno(errp, errno, "Could not open '%s'", path);
        return false;
    }
    if (input) {
        in = open(input, O_RDONLY | O_CLOEXEC | O_NOCTTY);
        if (in < 0) {
            error_setg_errno(errp, errno, "Could not open '%s'", input);
            close(out);
            return false;
        }
    }
    chardev_peer_opened(chr, in, out, false);
    return true;
}

static const char *const file_options[] = {"path", "input-path", "append", NULL};

const ChardevDriver chardev_file = {
    .name = "file",
    .instance_size = sizeof(Chardev),
    .options = file_options,
    .open = file_open,
    .keeps_output = true,
};
