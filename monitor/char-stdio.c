/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The terminal or whatever else standard input and output are.  A terminal is in raw mode
 * while this back end lives, again after the process was stopped and continued, and is put
 * back at exit however the program ends.  Main thread, but for the signal handler.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "monitor/chardev-int.h"
#include "qapi/error.h"

static struct {
    bool used;
    bool is_tty;
    struct termios saved, raw;
    int in_flags, out_flags;
    struct sigaction old_cont;
} terminal;

static void terminal_restore(void)
{
    if (!terminal.used) {
        return;
    }
    if (terminal.is_tty) {
        tcsetattr(STDIN_FILENO, TCSANOW, &terminal.saved);
    }
    fcntl(STDIN_FILENO, F_SETFL, terminal.in_flags);
    fcntl(STDOUT_FILENO, F_SETFL, terminal.out_flags);
}

/* The shell has put its own settings in place meanwhile.  Signal context. */
static void terminal_continued(int sig)
{
    int saved_errno = errno;

    tcsetattr(STDIN_FILENO, TCSANOW, &terminal.raw);
    fcntl(STDIN_FILENO, F_SETFL, terminal.in_flags | O_NONBLOCK);
    fcntl(STDOUT_FILENO, F_SETFL, terminal.out_flags | O_NONBLOCK);
    errno = saved_errno;
}

static void terminal_raw(bool with_signals)
{
    struct sigaction sa = {.sa_handler = terminal_continued, .sa_flags = SA_RESTART};
    struct termios *t = &terminal.raw;

    *t = terminal.saved;
    t->c_iflag &= ~(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
    t->c_oflag |= OPOST;
    t->c_lflag &= ~(ECHO | ECHONL | ICANON | IEXTEN);
    if (!with_signals) {
        t->c_lflag &= ~ISIG;
    }
    t->c_cflag &= ~(CSIZE | PARENB);
    t->c_cflag |= CS8;
    t->c_cc[VMIN] = 1;
    t->c_cc[VTIME] = 0;
    tcsetattr(STDIN_FILENO, TCSANOW, t);
    sigemptyset(&sa.sa_mask);
    sigaction(SIGCONT, &sa, &terminal.old_cont);
}

static bool stdio_open(Chardev *chr, ChardevOpts *opts, GError **errp)
{
    static bool at_exit;
    bool with_signals;
    int in, out;

    if (!chardev_opts_get_bool(opts, "signal", true, &with_signals, errp)) {
        return false;
    }
    if (terminal.used) {
        error_setg(errp, "cannot use stdio by multiple character devices");
        return false;
    }
    in = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
    out = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    if (out < 0) {
        error_setg_errno(errp, errno, "Could not use standard output");
        if (in >= 0) {
            close(in);
        }
        return false;
    }
    terminal.used = true;
    terminal.in_flags = fcntl(STDIN_FILENO, F_GETFL);
    terminal.out_flags = fcntl(STDOUT_FILENO, F_GETFL);
    terminal.is_tty = !tcgetattr(STDIN_FILENO, &terminal.saved);
    if (terminal.is_tty) {
        terminal_raw(with_signals);
    }
    if (!at_exit) {
        at_exit = true;
        atexit(terminal_restore);
    }
    chardev_peer_opened(chr, in, out, false);
    return true;
}

static void stdio_close(Chardev *chr)
{
    if (chr->out_fd < 0) {
        return; /* was never opened */
    }
    if (terminal.is_tty) {
        sigaction(SIGCONT, &terminal.old_cont, NULL);
    }
    terminal_restore();
    terminal.used = false;
}

/* Nobody reads the output any more: all that can be done is to stop writing. */
static void stdio_peer_lost(Chardev *chr)
{
}

static const char *const stdio_options[] = {"signal", NULL};

const ChardevDriver chardev_stdio = {
    .name = "stdio",
    .instance_size = sizeof(Chardev),
    .options = stdio_options,
    .open = stdio_open,
    .close = stdio_close,
    .peer_lost = stdio_peer_lost,
    .keeps_output = true,
};
