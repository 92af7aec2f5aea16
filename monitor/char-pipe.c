/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Two named pipes, PATH.in and PATH.out, or one PATH for both ways.  They are opened for
 * reading and writing, so that opening does not wait and their ends never close.  Opened in a
 * worker, otherwise main thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "monitor/chardev-int.h"
#include "qapi/error.h"

static int open_end(const char *path, const char *suffix)
{
    g_autofree char *name = g_strconcat(path, suffix, NULL);

    return open(name, O_RDWR | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
}

static bool pipe_prepare(Chardev *chr, ChardevOpts *opts, GError **errp)
{
    const char *path = chardev_opts_get(opts, "path");
    int in = open_end(path, ".in"), out = open_end(path, ".out");

    if (in < 0 || out < 0) {
        if (in >= 0) {
            close(in);
        }
        if (out >= 0) {
            close(out);
        }
        in = out = open_end(path, "");
        if (in < 0) {
            error_setg_errno(errp, errno, "Could not open '%s'", path);
            return false;
        }
    }
    chr->in_fd = in;
    chr->out_fd = out;
    return true;
}

static bool pipe_open(Chardev *chr, ChardevOpts *opts, GError **errp)
{
    chardev_peer_opened(chr, chr->in_fd, chr->out_fd, false);
    return true;
}

static const char *const pipe_options[] = {"path", NULL};

const ChardevDriver chardev_pipe = {
    .name = "pipe",
    .instance_size = sizeof(Chardev),
    .options = pipe_options,
    .prepare = pipe_prepare,
    .open = pipe_open,
};
