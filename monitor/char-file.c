/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Output to a file: emptied first unless append=on; input, if wanted, from another file.
 * Opened in a worker, otherwise main thread.
 */
#include <errno.h>
#include <fcntl.h>

#include "monitor/chardev-int.h"
#include "qapi/error.h"
#include "util/fdset.h"

static bool file_prepare(Chardev *chr, ChardevOpts *opts, GError **errp)
{
    const char *path = chardev_opts_get(opts, "path");
    const char *input = chardev_opts_get(opts, "input-path");
    bool append;

    if (!chardev_opts_get_bool(opts, "append", false, &append, errp)) {
        return false;
    }
    if (!path) {
        error_setg(errp, "chardev: file: no filename given");
        return false;
    }
    chr->out_fd = fdset_open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY |
                             (append ? O_APPEND : O_TRUNC), 0666);
    if (chr->out_fd < 0) {
        error_setg_errno(errp, errno, "Could not open '%s'", path);
        return false;
    }
    if (input) {
        chr->in_fd = fdset_open(input, O_RDONLY | O_CLOEXEC | O_NOCTTY, 0);
        if (chr->in_fd < 0) {
            error_setg_errno(errp, errno, "Could not open '%s'", input);
            return false;
        }
    }
    return true;
}

static bool file_open(Chardev *chr, ChardevOpts *opts, GError **errp)
{
    chardev_peer_opened(chr, chr->in_fd, chr->out_fd, false);
    return true;
}

static const char *const file_options[] = {"path", "input-path", "append", NULL};

const ChardevDriver chardev_file = {
    .name = "file",
    .instance_size = sizeof(Chardev),
    .options = file_options,
    .prepare = file_prepare,
    .open = file_open,
    .keeps_output = true,
};
