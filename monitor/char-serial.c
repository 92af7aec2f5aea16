/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A serial line of the host, or another terminal: raw, 115200 8N1.  What the guest sets its own line to
 * does not reach it; stty does.  Other character devices (/dev/null) take output only.  Opened in a
 * worker, otherwise main thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "monitor/chardev-int.h"
#include "qapi/error.h"

static bool serial_prepare(Chardev *chr, ChardevOpts *opts, GError **errp)
{
    const char *path = chardev_opts_get(opts, "path");
    struct stat st;
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

    if (fd < 0) {
        error_setg_errno(errp, errno, "Could not open '%s'", path);
        return false;
    }
    chr->out_fd = fd; /* closed with the device */
    if (fstat(fd, &st) || !S_ISCHR(st.st_mode)) {
        error_setg(errp, "Could not open '%s': it is not a character device", path);
        return false;
    }
    return true;
}

static void set_raw(int fd, struct termios *tty)
{
    cfmakeraw(tty);
    tty->c_cflag = (tty->c_cflag & ~(CSTOPB | CRTSCTS)) | CLOCAL | CREAD;
    cfsetspeed(tty, B115200);
    tcsetattr(fd, TCSANOW, tty);
}

static bool serial_open(Chardev *chr, ChardevOpts *opts, GError **errp)
{
    int fd = chr->out_fd;
    struct termios tty;
    bool is_terminal = tcgetattr(fd, &tty) == 0;

    if (is_terminal) {
        set_raw(fd, &tty);
    }
    chardev_peer_opened(chr, is_terminal ? fd : -1, fd, false);
    return true;
}

static const char *const serial_options[] = {"path", NULL};

const ChardevDriver chardev_serial = {
    .name = "serial",
    .instance_size = sizeof(Chardev),
    .options = serial_options,
    .prepare = serial_prepare,
    .open = serial_open,
};
