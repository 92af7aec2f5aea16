/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Round trips over a socket pair between a client thread with blocking calls and an echo
 * server in each kind of loop: plain epoll and io_uring poll requests as yardsticks, an
 * AioContext polled directly, through glib, with a handler and with a coroutine.  Also
 * the wake-up of a coroutine in another thread, and disk reads.  Prints microseconds.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include "config-host.h"
#include "util/aio.h"
#include "util/iothread.h"
#if CONFIG_LINUX_IO_URING
#include <liburing.h>
#endif

static int count = 30000;

static void *client_thread(void *opaque)
{
    int fd = *(int *)opaque;
    char buf[128] = {0};

    for (int i = 0; i < count; i++) {
        if (write(fd, buf, sizeof(buf)) != sizeof(buf) || read(fd, buf, sizeof(buf)) <= 0) {
            abort();
        }
    }
    shutdown(fd, SHUT_RDWR);
    return NULL;
}

static bool echo(int fd)
{
    char buf[128];
    ssize_t n = read(fd, buf, sizeof(buf));

    if (n < 0 && errno == EAGAIN) {
        return true;
    }
    if (n <= 0) {
        return false;
    }
    return write(fd, buf, n) == n;
}

static void serve_epoll(int fd)
{
    int ep = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event ev = {.events = EPOLLIN};

    epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev);
    do {
        epoll_wait(ep, &ev, 1, -1);
    } while (echo(fd));
    close(ep);
}

#if CONFIG_LINUX_IO_URING
static void serve_uring_poll(int fd)
{
    struct io_uring_params params = {0};
    struct io_uring ring;
    struct io_uring_cqe *cqe;

#if defined(IORING_SETUP_SINGLE_ISSUER) && defined(IORING_SETUP_DEFER_TASKRUN)
    params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
#endif
    if (io_uring_queue_init_params(64, &ring, &params) < 0) {
        params = (struct io_uring_params){0};
        if (io_uring_queue_init_params(64, &ring, &params) < 0) {
            return serve_epoll(fd);
        }
    }
    do {
        io_uring_prep_poll_add(io_uring_get_sqe(&ring), fd, POLLIN);
        io_uring_submit_and_wait(&ring, 1);
        while (io_uring_peek_cqe(&ring, &cqe) == 0) {
            io_uring_cqe_seen(&ring, cqe);
        }
    } while (echo(fd));
    io_uring_queue_exit(&ring);
}
#endif

typedef struct Server {
    int fd;
    bool done;
    GMainLoop *loop;
} Server;

static void server_done(Server *s)
{
    s->done = true;
    if (s->loop) {
        g_main_loop_quit(s->loop);
    }
}

static void server_readable(void *opaque)
{
    Server *s = opaque;

    if (!echo(s->fd)) {
        aio_set_fd_handler(main_aio_context(), s->fd, NULL, NULL, NULL);
        server_done(s);
    }
}

static void coroutine_fn server_coroutine(void *opaque)
{
    Server *s = opaque;

    do {
        co_wait_readable(s->fd);
    } while (echo(s->fd));
    server_done(s);
}

static void serve(Server *s)
{
    if (s->loop) {
        g_main_loop_run(s->loop);
        g_main_loop_unref(s->loop);
    }
    while (!s->done) {
        aio_poll(main_aio_context(), true);
    }
}

static void serve_handler(int fd)
{
    Server s = {.fd = fd};

    aio_set_fd_handler(main_aio_context(), fd, server_readable, NULL, &s);
    serve(&s);
}

static void serve_coroutine(int fd)
{
    Server s = {.fd = fd};

    coroutine_enter(coroutine_create(server_coroutine, &s));
    serve(&s);
}

static void serve_glib(int fd)
{
    Server s = {.fd = fd, .loop = g_main_loop_new(NULL, FALSE)};

    aio_set_fd_handler(main_aio_context(), fd, server_readable, NULL, &s);
    serve(&s);
}

static void serve_glib_coroutine(int fd)
{
    Server s = {.fd = fd, .loop = g_main_loop_new(NULL, FALSE)};

    coroutine_enter(coroutine_create(server_coroutine, &s));
    serve(&s);
}

/* Wall time, and the CPU time of the calling thread, per operation. */
static int64_t wall;
static struct rusage usage;

static void start(void)
{
    getrusage(RUSAGE_THREAD, &usage);
    wall = clock_now_ns();
}

static double microseconds(struct timeval a, struct timeval b)
{
    return (b.tv_sec - a.tv_sec) * 1e6 + b.tv_usec - a.tv_usec;
}

static void report(const char *name, int n)
{
    int64_t ns = clock_now_ns() - wall;
    struct rusage now;

    getrusage(RUSAGE_THREAD, &now);
    printf("%-36s %7.2f us  cpu %6.2f us\n", name, ns / 1e3 / n,
           (microseconds(usage.ru_utime, now.ru_utime) +
            microseconds(usage.ru_stime, now.ru_stime)) / n);
}

static void echo_bench(const char *name, void (*server)(int fd))
{
    int fds[2];
    pthread_t thread;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0) {
        abort();
    }
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
    start();
    pthread_create(&thread, NULL, client_thread, &fds[1]);
    server(fds[0]);
    report(name, count);
    pthread_join(thread, NULL);
    close(fds[0]);
    close(fds[1]);
}

static IOThread *iothread;

static void coroutine_fn hop_entry(void *opaque)
{
    for (int i = 0; i < count; i++) {
        aio_co_reschedule_self(iothread_context(iothread));
        aio_co_reschedule_self(main_aio_context());
    }
}

static void coroutine_fn wake_self_entry(void *opaque)
{
    for (int i = 0; i < count; i++) {
        aio_co_wake(coroutine_self());
        coroutine_yield();
    }
}

static void coroutine_fn disk_entry(void *opaque)
{
    char buf[4096];
    struct iovec iov = {buf, sizeof(buf)};

    for (int i = 0; i < count; i++) {
        if (co_preadv(*(int *)opaque, &iov, 1, (i & 255) * 4096) != sizeof(buf)) {
            abort();
        }
    }
}

int main(int argc, char **argv)
{
    FILE *file = tmpfile();
    GSource *source;
    int fd;

    if (argc > 1) {
        count = MAX(atoi(argv[1]), 1);
    }
    main_aio_context_init();
    echo_bench("echo, epoll alone", serve_epoll);
#if CONFIG_LINUX_IO_URING
    echo_bench("echo, io_uring poll alone", serve_uring_poll);
#endif
    echo_bench("echo, aio_poll, handler", serve_handler);
    echo_bench("echo, aio_poll, coroutine", serve_coroutine);
    source = aio_get_g_source(main_aio_context());
    g_source_attach(source, NULL);
    echo_bench("echo, glib, handler", serve_glib);
    echo_bench("echo, glib, coroutine", serve_glib_coroutine);

    iothread = iothread_new("bench", NULL);
    start();
    aio_co_run_sync(main_aio_context(), hop_entry, NULL);
    report("hop to another thread and back", count);
    iothread_destroy(iothread);
    start();
    aio_co_run_sync(main_aio_context(), wake_self_entry, NULL);
    report("wake in the same thread", count);

    if (!file || ftruncate(fileno(file), 1 << 20) < 0) {
        return 1;
    }
    fd = fileno(file);
    start();
    aio_co_run_sync(main_aio_context(), disk_entry, &fd);
    report("4 KiB cached disk read", count);
    fclose(file);
    g_source_destroy(source);
    g_source_unref(source);
    return 0;
}
