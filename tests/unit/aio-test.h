/* SPDX-License-Identifier: GPL-2.0-or-later */
/* For tests of an AioContext in one thread, the main one. */
#ifndef TESTS_AIO_TEST_H
#define TESTS_AIO_TEST_H

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib-unix.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "util/aio.h"
#include "util/iothread.h"

static AioContext *ctx;

static inline void drain(void)
{
    while (aio_poll(ctx, false)) {
    }
}

static inline void make_pair(int fds[2])
{
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), ==,
                    0);
}

static inline void close_pair(int fds[2])
{
    close(fds[0]);
    close(fds[1]);
}

typedef struct Conn {
    int fd;
    int reads, writes;
    bool consume;
    bool remove;
    struct Conn *other; /* to be removed by our handler */
} Conn;

static inline void conn_read(void *opaque)
{
    Conn *c = opaque;
    char buf[16];

    c->reads++;
    if (c->consume) {
        g_assert_cmpint(read(c->fd, buf, 1), ==, 1);
    }
    if (c->remove) {
        aio_set_fd_handler(ctx, c->fd, NULL, NULL, NULL);
    }
    if (c->other) {
        aio_set_fd_handler(ctx, c->other->fd, NULL, NULL, NULL);
        c->other->other = NULL;
        c->other = NULL;
    }
}

typedef struct Timer {
    AioTimer *timer;
    int64_t expire;
    int runs;
    bool rearm;
    GArray *order;
} Timer;

static inline void timer_cb(void *opaque)
{
    Timer *t = opaque;

    t->runs++;
    g_assert_cmpint(clock_now_ns(), >=, t->expire);
    g_assert_false(aio_timer_pending(t->timer));
    if (t->order) {
        g_array_append_val(t->order, t->expire);
    }
    if (t->rearm) {
        aio_timer_mod(t->timer, t->expire);
    }
}

#endif
