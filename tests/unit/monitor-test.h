/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the monitor's tests share: a client end of a socket that is read and written
 * without waiting while the main AioContext is polled in between.
 */
#ifndef TESTS_MONITOR_TEST_H
#define TESTS_MONITOR_TEST_H

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "monitor/monitor-int.h"

typedef struct TestClient {
    int fd;
    bool eof;
    GString *in;
} TestClient;

static inline TestClient *client_from_fd(int fd)
{
    TestClient *c = g_new0(TestClient, 1);

    fcntl(fd, F_SETFL, O_NONBLOCK);
    c->fd = fd;
    c->in = g_string_new(NULL);
    return c;
}

static inline TestClient *client_connect(const char *path)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_strlcpy(un.sun_path, path, sizeof(un.sun_path));
    g_assert_cmpint(connect(fd, (struct sockaddr *)&un, sizeof(un)), ==, 0);
    return client_from_fd(fd);
}

static inline void client_free(TestClient *c)
{
    if (c->fd >= 0) {
        close(c->fd);
    }
    g_string_free(c->in, true);
    g_free(c);
}

/* Takes what has arrived. */
static inline void client_pump(TestClient *c)
{
    char buf[65536];
    ssize_t n;

    while (!c->eof && (n = recv(c->fd, buf, sizeof(buf), MSG_DONTWAIT)) >= 0) {
        if (n == 0) {
            c->eof = true;
        }
        g_string_append_len(c->in, buf, n);
    }
    if (!c->eof && errno == ECONNRESET) {
        c->eof = true;
    }
}

/* Polls until cond holds; the test's own timeout is the bound. */
#define poll_until(cond) \
    do { \
        while (!(cond)) { \
            aio_poll(main_aio_context(), true); \
        } \
    } while (0)

static inline bool client_has_line(TestClient *c)
{
    client_pump(c);
    return strstr(c->in->str, "\r\n") || c->eof;
}

/* The next line without its end; NULL at the end of the stream. */
static inline char *client_line(TestClient *c)
{
    char *end, *line;

    while (!client_has_line(c)) {
        aio_poll(main_aio_context(), true);
    }
    end = strstr(c->in->str, "\r\n");
    if (!end) {
        return NULL;
    }
    line = g_strndup(c->in->str, end - c->in->str);
    g_string_erase(c->in, 0, end + 2 - c->in->str);
    return line;
}

static inline void client_send(TestClient *c, const char *text)
{
    size_t len = strlen(text);

    while (len) {
        ssize_t n = send(c->fd, text, len, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n > 0) {
            text += n;
            len -= n;
        } else {
            aio_poll(main_aio_context(), true);
        }
    }
}

#define client_expect(c, expected) \
    do { \
        g_autofree char *line_ = client_line(c); \
        g_assert_cmpstr(line_, ==, expected); \
    } while (0)

#define client_ask(c, text, expected) \
    do { \
        client_send(c, text); \
        client_expect(c, expected); \
    } while (0)

/* A directory for sockets and files; test_dir_remove() removes it with what is in it. */
static inline char *test_dir_new(void)
{
    GError *err = NULL;
    char *dir = g_dir_make_tmp("keyframe-test-XXXXXX", &err);

    g_assert_no_error(err);
    return dir;
}

static inline void test_dir_remove(char *path)
{
    GDir *dir = g_dir_open(path, 0, NULL);
    const char *name;

    while ((name = g_dir_read_name(dir))) {
        g_autofree char *file = g_build_filename(path, name, NULL);

        g_remove(file);
    }
    g_dir_close(dir);
    g_assert_cmpint(g_rmdir(path), ==, 0);
    g_free(path);
}

#endif
