/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * -daemonize and -pidfile of all programs (util/daemonize.h).  The fork is the first thing
 * that happens, since threads do not survive it; the parent waits for one byte, so that it
 * ends when the program is ready.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "util/daemonize.h"
#include "util/errno-text.h"
#include "util/log.h"

#define DAEMONIZE_ERROR (g_quark_from_static_string("daemonize"))

static int ready_fd = -1;
static char *pidfile; /* absolute */
static int pidfile_fd = -1;

static void fail(GError **errp, int errnum, const char *what, const char *path)
{
    g_set_error(errp, DAEMONIZE_ERROR, 0, "%s%s%s%s: %s", what, path ? " '" : "",
                path ? path : "", path ? "'" : "", errno_text(errnum));
}

static void G_GNUC_NORETURN wait_for_child(pid_t child, int fd)
{
    char byte;
    int status;
    ssize_t n;

    do {
        n = read(fd, &byte, 1);
    } while (n < 0 && errno == EINTR);
    if (n == 1) {
        _exit(0);
    }
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    _exit(WIFEXITED(status) && WEXITSTATUS(status) ? WEXITSTATUS(status) : 1);
}

bool daemonize_start(GError **errp)
{
    int fds[2];
    pid_t child;

    if (pipe2(fds, O_CLOEXEC) < 0) {
        fail(errp, errno, "could not go to the background: pipe", NULL);
        return false;
    }
    child = fork();
    if (child < 0) {
        fail(errp, errno, "could not go to the background: fork", NULL);
        close(fds[0]);
        close(fds[1]);
        return false;
    }
    if (child > 0) {
        close(fds[1]);
        wait_for_child(child, fds[0]);
    }
    close(fds[0]);
    ready_fd = fds[1];
    setsid();
    umask(027);
    return true;
}

void daemonize_ready(void)
{
    int null;

    if (ready_fd < 0) {
        return;
    }
    log_flush();
    null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null >= 0) {
        dup2(null, STDIN_FILENO);
        dup2(null, STDOUT_FILENO);
        dup2(null, STDERR_FILENO);
        close(null);
    }
    if (chdir("/") < 0 || write(ready_fd, "", 1) != 1) {
        exit(1); /* whoever started us is gone or will see it */
    }
    close(ready_fd);
    ready_fd = -1;
}

bool pidfile_write(const char *path, GError **errp)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    g_autofree char *text = g_strdup_printf("%d\n", getpid());
    int fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0644);
    ssize_t len = strlen(text);

    if (fd < 0) {
        fail(errp, errno, "cannot create PID file: Cannot open pid file", path);
        return false;
    }
    if (fcntl(fd, F_SETLK, &lock) < 0) {
        fail(errp, errno, "cannot create PID file: Cannot lock pid file", path);
        close(fd);
        return false;
    }
    if (ftruncate(fd, 0) < 0 || write(fd, text, len) != len) {
        fail(errp, errno, "cannot create PID file: Cannot write pid file", path);
        close(fd);
        return false;
    }
    pidfile = g_canonicalize_filename(path, NULL);
    pidfile_fd = fd;
    return true;
}

void pidfile_remove(void)
{
    if (pidfile) {
        unlink(pidfile);
        close(pidfile_fd);
        g_clear_pointer(&pidfile, g_free);
    }
}
