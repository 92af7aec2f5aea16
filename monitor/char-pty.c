/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A pseudo-terminal, whose name the user must be told.  The peer is whoever has the slave
 * open; the kernel signals no opening, so while there is nobody a timer looks four times a
 * second.  Main thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "monitor/chardev-int.h"
#include "qapi/error.h"

#define LOOK_INTERVAL_NS (250 * 1000 * 1000LL)

typedef struct CharPty {
    Chardev parent;
    int master; /* while there is no peer; then it is parent's */
    AioTimer *timer;
} CharPty;

static void pty_look(void *opaque)
{
    CharPty *pty = opaque;
    struct pollfd pfd = {.fd = pty->master, .events = POLLIN};

    if (poll(&pfd, 1, 0) >= 0 && !(pfd.revents & POLLHUP)) {
        chardev_peer_opened(&pty->parent, pty->master, pty->master, false);
    } else {
        aio_timer_mod(pty->timer, clock_now_ns() + LOOK_INTERVAL_NS);
    }
}

static void pty_peer_lost(Chardev *chr)
{
    CharPty *pty = (CharPty *)chr;

    pty->master = chardev_steal_fd(chr);
    aio_timer_mod(pty->timer, clock_now_ns() + LOOK_INTERVAL_NS);
}

static void pty_init(Chardev *chr)
{
    ((CharPty *)chr)->master = -1;
}

static bool pty_open(Chardev *chr, ChardevOpts *opts, GError **errp)
{
    CharPty *pty = (CharPty *)chr;
    struct termios tty;
    char name[64];
    int slave;

    pty->master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (pty->master < 0 || grantpt(pty->master) || unlockpt(pty->master) ||
        ptsname_r(pty->master, name, sizeof(name))) {
        error_setg_errno(errp, errno, "Failed to create PTY");
        return false;
    }
    /* Opening and closing the slave once is what lets POLLHUP tell that nobody has it. */
    slave = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (slave >= 0) {
        if (!tcgetattr(slave, &tty)) {
            cfmakeraw(&tty);
            tcsetattr(slave, TCSAFLUSH, &tty);
        }
        close(slave);
    }
    chardev_set_filename(chr, g_strdup_printf("pty:%s", name));
    pty->timer = aio_timer_new(main_aio_context(), pty_look, pty);
    pty_look(pty);
    return true;
}

static void pty_close(Chardev *chr)
{
    CharPty *pty = (CharPty *)chr;

    if (pty->timer) {
        aio_timer_free(pty->timer);
        pty->timer = NULL;
    }
    if (pty->master >= 0 && chr->in_fd < 0) {
        close(pty->master);
    }
    pty->master = -1;
}

char *chardev_pty_message(Chardev *chr)
{
    Chardev *pty = chardev_is_mux(chr) ? chr->through : chr;

    return pty->backend == &chardev_pty
               ? g_strdup_printf("char device redirected to %s (label %s)\n",
                                 pty->filename + strlen("pty:"), pty->label)
               : NULL;
}

const ChardevDriver chardev_pty = {
    .name = "pty",
    .instance_size = sizeof(CharPty),
    .init = pty_init,
    .open = pty_open,
    .close = pty_close,
    .peer_lost = pty_peer_lost,
};
