/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Outlets (outlet.h).  The thread takes all of the buffer and writes it; it begins with the
 * first text that needs it, behind the fork of a program that goes to the background.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "outlet.h"

#define BUFFER_MAX (1024 * 1024)
#define FLUSH_SECONDS 1

Outlet outlet_stderr = OUTLET_INIT("stderr", STDERR_FILENO);
Outlet outlet_stdout = OUTLET_INIT("stdout", STDOUT_FILENO);

/* --- The thread ------------------------------------------------------------------------- */

static void write_all(int fd, const char *data, size_t len)
{
    while (len) {
        ssize_t n = write(fd, data, len);

        if (n < 0 && errno == EAGAIN) {
            poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, -1); /* somebody's O_NONBLOCK */
        } else if (n < 0 && errno != EINTR) {
            return; /* nobody is there to be told */
        }
        n = MAX(n, 0);
        data += n;
        len -= n;
    }
}

/* lock held. */
static void tell_of_lost(Outlet *o, GString *text)
{
    if (o->lost) {
        g_string_append_printf(text, "%s%s: %" PRIu64 " lines lost\n",
                               text->str[text->len - 1] == '\n' ? "" : "\n", o->name, o->lost);
        o->lost = 0;
    }
}

static void *outlet_thread(void *opaque)
{
    Outlet *o = opaque;
    GString *text = g_string_new(NULL);

    pthread_setname_np(pthread_self(), o->name);
    pthread_mutex_lock(&o->lock);
    for (;;) {
        GString *empty = text;
        int fd;

        while (!o->buffer->len) {
            pthread_cond_wait(&o->more, &o->lock);
        }
        text = o->buffer;
        o->buffer = g_string_truncate(empty, 0);
        tell_of_lost(o, text);
        o->writing = true;
        fd = o->fd >= 0 ? o->fd : STDERR_FILENO;
        pthread_mutex_unlock(&o->lock);
        write_all(fd, text->str, text->len);
        pthread_mutex_lock(&o->lock);
        if (o->retired >= 0) {
            close(o->retired);
            o->retired = -1;
        }
        o->writing = false;
        pthread_cond_broadcast(&o->idle);
    }
    return NULL;
}

/* lock held. */
static bool ensure_thread(Outlet *o)
{
    sigset_t all, old;
    pthread_t thread;

    if (!o->running) {
        o->buffer = o->buffer ? o->buffer : g_string_new(NULL);
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &old);
        o->running = pthread_create(&thread, NULL, outlet_thread, o) == 0;
        pthread_sigmask(SIG_SETMASK, &old, NULL);
        if (o->running) {
            pthread_detach(thread);
        }
    }
    return o->running;
}

/* --- Who writes ---------------------------------------------------------------------------- */

/*
 * What can be written without waiting for a reader.  O_NONBLOCK belongs to the open file, which
 * others share, so a pipe or a terminal is opened once more.  Where that is not allowed (it is
 * another user's), or anything else fails, it is left to the thread.
 */
static size_t write_now(int fd, const char *text, size_t len)
{
    struct stat st;
    ssize_t n = -1;

    if (fstat(fd, &st) < 0) {
        return 0;
    }
    if (S_ISSOCK(st.st_mode)) {
        n = send(fd, text, len, MSG_DONTWAIT | MSG_NOSIGNAL);
    } else if (S_ISREG(st.st_mode)) {
        n = write(fd, text, len);
    } else {
        g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", fd);
        int own = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

        if (own >= 0) {
            n = write(own, text, len);
            close(own);
        }
    }
    return MAX(n, 0);
}

static uint64_t count_lines(const char *text, size_t len)
{
    const char *end = text + len, *p = text;
    uint64_t n = 0;

    while (p < end && (p = memchr(p, '\n', end - p))) {
        n++;
        p++;
    }
    return MAX(n, 1);
}

bool outlet_put(Outlet *o, const char *text, size_t len, bool at_once)
{
    bool open;

    pthread_mutex_lock(&o->lock);
    open = o->fd >= 0;
    if (open && at_once && !o->writing && !(o->buffer && o->buffer->len)) {
        size_t done = write_now(o->fd, text, len);

        text += done;
        len -= done;
    }
    if (open && len) {
        if (ensure_thread(o) && o->buffer->len + len <= BUFFER_MAX) {
            g_string_append_len(o->buffer, text, len);
            pthread_cond_signal(&o->more);
        } else {
            o->lost += count_lines(text, len);
        }
    }
    pthread_mutex_unlock(&o->lock);
    return open;
}

void outlet_flush(Outlet *o)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += FLUSH_SECONDS;
    pthread_mutex_lock(&o->lock);
    while (o->running && (o->buffer->len || o->writing) &&
           pthread_cond_timedwait(&o->idle, &o->lock, &until) == 0) {
    }
    pthread_mutex_unlock(&o->lock);
}

void outlet_set_fd(Outlet *o, int fd)
{
    int old;

    outlet_flush(o);
    pthread_mutex_lock(&o->lock);
    old = o->fd;
    o->fd = fd;
    if (o->writing && o->retired < 0) {
        o->retired = old; /* closed by who writes to it, when it is done */
        old = -1;
    }
    pthread_mutex_unlock(&o->lock);
    if (old >= 0) {
        close(old);
    }
}
