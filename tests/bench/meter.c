/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The stopwatch of the benchmarks: a small process of its own, so that neither the
 * emulator nor the script that drives it disturbs what is measured.
 *
 *   meter qmp SOCKET INTERVAL_US   sends query-status every interval, times each reply
 *   meter beat SOCKET              times the gaps between bytes on a serial line
 *   meter rate SOCKET MS SESSIONS DEPTH COMMAND
 *                                  so many requests in flight on each of so many sessions;
 *                                  a '%' in SOCKET is the session's number, from 1
 *   meter host                     times how late real-time threads wake, one a CPU: what
 *                                  the host or the kernel takes from everybody
 *
 * qmp, beat and host read lines on standard input: "begin" starts a window, "end" prints its
 * figures (microseconds; "at" is when the longest one ended, CLOCK_MONOTONIC in seconds, for
 * perf -k CLOCK_MONOTONIC) as one line of JSON; end of input ends the program.  A request
 * or gap that is still open at "end" counts as long as it is.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include "util/thread-role.h"

#define MAX_SAMPLES (1 << 20)
#define MAX_SESSIONS 64
#define MAX_DEPTH 64
#define REQUEST "{\"execute\":\"query-status\"}\n"

static int64_t *samples; /* ns */
static size_t nr_samples;
static int64_t longest, longest_end; /* ns; CLOCK_MONOTONIC when it ended */

static int64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000000000ll + ts.tv_nsec;
}

static void die(const char *what)
{
    fprintf(stderr, "meter: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int connect_to(const char *path)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (strlen(path) >= sizeof(addr.sun_path)) {
        errno = ENAMETOOLONG;
        die(path);
    }
    strcpy(addr.sun_path, path);
    if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr))) {
        die(path);
    }
    return fd;
}

static void send_all(int fd, const char *text)
{
    size_t left = strlen(text);

    while (left) {
        ssize_t n = send(fd, text, left, MSG_NOSIGNAL);
        if (n < 0) {
            die("send");
        }
        text += n;
        left -= n;
    }
}

/*
 * Reads what is there; returns how many replies to commands ended in it.  Events and the
 * greeting are lines that do not begin with {"return" (or {"id").
 */
static int read_replies(int fd)
{
    static char line[1 << 16];
    static size_t used;
    int replies = 0;
    ssize_t n = recv(fd, line + used, sizeof(line) - used, 0);

    if (n <= 0) {
        die("monitor closed");
    }
    used += n;
    for (;;) {
        char *end = memchr(line, '\n', used);
        if (!end) {
            break;
        }
        replies += !strncmp(line, "{\"return\"", 9) || !strncmp(line, "{\"error\"", 8);
        used -= end + 1 - line;
        memmove(line, end + 1, used);
    }
    if (used == sizeof(line)) {
        used = 0; /* a line of no interest that is longer than the buffer */
    }
    return replies;
}

static int qmp_connect(const char *path)
{
    int fd = connect_to(path);

    send_all(fd, "{\"execute\":\"qmp_capabilities\"}\n");
    while (!read_replies(fd)) {
    }
    return fd;
}

/* Needed by measure_host() only: the others have one thread. */
static pthread_mutex_t samples_lock = PTHREAD_MUTEX_INITIALIZER;

static void sample(int64_t ns)
{
    if (ns > longest) {
        longest = ns;
        longest_end = now_ns();
    }
    if (nr_samples < MAX_SAMPLES) {
        samples[nr_samples++] = ns;
    }
}

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

static double quantile(double q)
{
    return nr_samples ? samples[(size_t)(q * (nr_samples - 1) + 0.5)] / 1e3 : 0;
}

static void report(void)
{
    qsort(samples, nr_samples, sizeof(*samples), compare);
    printf("{\"n\": %zu, \"p50\": %.1f, \"p99\": %.1f, \"max\": %.1f, \"at\": %.6f}\n",
           nr_samples, quantile(0.5), quantile(0.99), quantile(1), longest_end / 1e9);
    fflush(stdout);
}

/* Handles a line of standard input.  Returns false at its end. */
static bool command(int64_t open_since)
{
    char line[64];

    if (!fgets(line, sizeof(line), stdin)) {
        return false;
    }
    pthread_mutex_lock(&samples_lock);
    if (!strcmp(line, "begin\n")) {
        nr_samples = 0;
        longest = longest_end = 0;
    } else if (!strcmp(line, "end\n")) {
        if (open_since) {
            sample(now_ns() - open_since);
        }
        report();
    }
    pthread_mutex_unlock(&samples_lock);
    return true;
}

static void measure_qmp(const char *path, int64_t interval_ns)
{
    int fd = qmp_connect(path);
    int64_t sent = 0, next = now_ns();
    struct pollfd fds[2] = {{.fd = 0, .events = POLLIN}, {.fd = fd, .events = POLLIN}};

    setvbuf(stdin, NULL, _IONBF, 0);
    for (;;) {
        int64_t now = now_ns();
        if (!sent && now >= next) {
            send_all(fd, REQUEST);
            sent = now;
            next += interval_ns;
            next = next < now ? now : next;
        }
        struct timespec wait = {.tv_nsec = next > now && !sent ? next - now : 999999999};
        if (ppoll(fds, 2, &wait, NULL) < 0) {
            die("poll");
        }
        if ((fds[1].revents & (POLLIN | POLLHUP)) && read_replies(fd) && sent) {
            sample(now_ns() - sent);
            sent = 0;
        }
        if ((fds[0].revents & (POLLIN | POLLHUP)) && !command(sent)) {
            return;
        }
    }
}

static void measure_beat(const char *path)
{
    int fd = connect_to(path);
    int64_t last = 0;
    char bytes[4096];
    struct pollfd fds[2] = {{.fd = 0, .events = POLLIN}, {.fd = fd, .events = POLLIN}};

    setvbuf(stdin, NULL, _IONBF, 0);
    for (;;) {
        if (poll(fds, 2, -1) < 0) {
            die("poll");
        }
        if (fds[1].revents) {
            int64_t now = now_ns();
            if (recv(fd, bytes, sizeof(bytes), 0) <= 0) {
                die("serial line closed");
            }
            if (last) {
                sample(now - last);
            }
            last = now;
        }
        if ((fds[0].revents & (POLLIN | POLLHUP)) && !command(last)) {
            return;
        }
    }
}

/* Reads what is there and counts the lines of it: replies, where no events come. */
static unsigned count_lines(int fd)
{
    static char bytes[1 << 18];
    ssize_t n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
    unsigned lines = 0;

    if (n == 0 || (n < 0 && errno != EAGAIN)) {
        die("monitor closed");
    }
    for (const char *p = bytes; n > 0 && (p = memchr(p, '\n', bytes + n - p)); p++) {
        lines++;
    }
    return lines;
}

/* path with its first '%' replaced by i; the caller frees it. */
static char *numbered(const char *path, unsigned i)
{
    const char *mark = strchrnul(path, '%');
    char *result;

    if ((*mark ? asprintf(&result, "%.*s%u%s", (int)(mark - path), path, i, mark + 1)
               : asprintf(&result, "%s", path)) < 0) {
        die("asprintf");
    }
    return result;
}

/* depth requests in flight on each of so many sessions, for so long. */
static void measure_rate(const char *path, int64_t ns, unsigned sessions, unsigned depth,
                         const char *name)
{
    struct pollfd fds[MAX_SESSIONS];
    char request[128], batch[MAX_DEPTH * sizeof(request)] = "";
    size_t len;
    int64_t start, now;
    uint64_t n = 0;

    if (sessions < 1 || sessions > MAX_SESSIONS || depth < 1 || depth > MAX_DEPTH) {
        errno = ERANGE;
        die("rate");
    }
    len = snprintf(request, sizeof(request), "{\"execute\":\"%.80s\"}\n", name);
    for (unsigned i = 0; i < depth; i++) {
        memcpy(batch + i * len, request, len + 1);
    }
    for (unsigned i = 0; i < sessions; i++) {
        char *socket = numbered(path, i + 1);

        fds[i] = (struct pollfd){.fd = qmp_connect(socket), .events = POLLIN};
        free(socket);
    }
    start = now = now_ns();
    for (unsigned i = 0; i < sessions; i++) {
        send_all(fds[i].fd, batch);
    }
    while (now - start < ns) {
        if (poll(fds, sessions, -1) < 0) {
            die("poll");
        }
        for (unsigned i = 0; i < sessions; i++) {
            unsigned replies = fds[i].revents ? count_lines(fds[i].fd) : 0;

            n += replies;
            /* As many new requests as there were replies. */
            if (replies) {
                batch[replies * len] = 0;
                send_all(fds[i].fd, batch);
                batch[replies * len] = replies < depth ? request[0] : 0;
            }
        }
        now = now_ns();
    }
    printf("{\"n\": %lu, \"per_second\": %.0f}\n", n, n * 1e9 / (now - start));
}

static void *lateness_thread(void *opaque)
{
    const int64_t interval = 500000;
    struct sched_param param = {.sched_priority = 50};
    cpu_set_t cpus;
    int64_t next = now_ns();
    int ret;

    CPU_ZERO(&cpus);
    CPU_SET((size_t)(uintptr_t)opaque, &cpus);
    if ((ret = pthread_setaffinity_np(pthread_self(), sizeof(cpus), &cpus)) ||
        (ret = pthread_setschedparam(pthread_self(), SCHED_FIFO, &param))) {
        errno = ret;
        die("real-time thread");
    }
    for (;;) {
        struct timespec until;
        int64_t now;

        next += interval;
        until = (struct timespec){.tv_sec = next / 1000000000, .tv_nsec = next % 1000000000};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
        now = now_ns();
        pthread_mutex_lock(&samples_lock);
        sample(now - next);
        pthread_mutex_unlock(&samples_lock);
        next = now > next + interval ? now : next;
    }
    return NULL;
}

static void measure_host(void)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);

    for (long i = 0; i < cpus; i++) {
        pthread_t thread;
        int ret = pthread_create(&thread, NULL, lateness_thread, (void *)(uintptr_t)i);

        if (ret) {
            errno = ret;
            die("thread");
        }
    }
    setvbuf(stdin, NULL, _IONBF, 0);
    while (command(0)) {
    }
}

int main(int argc, char **argv)
{
    thread_set_role(THREAD_ROLE_ANSWER); /* its own wait for a CPU must not count */
    samples = malloc(MAX_SAMPLES * sizeof(*samples));
    if (!samples) {
        die("malloc");
    }
    if (argc == 4 && !strcmp(argv[1], "qmp")) {
        measure_qmp(argv[2], atoll(argv[3]) * 1000);
    } else if (argc == 3 && !strcmp(argv[1], "beat")) {
        measure_beat(argv[2]);
    } else if (argc == 7 && !strcmp(argv[1], "rate")) {
        measure_rate(argv[2], atoll(argv[3]) * 1000000, atoi(argv[4]), atoi(argv[5]), argv[6]);
    } else if (argc == 2 && !strcmp(argv[1], "host")) {
        measure_host();
    } else {
        fprintf(stderr, "usage: meter qmp SOCKET INTERVAL_US | beat SOCKET | host |\n"
                        "             rate SOCKET MS SESSIONS DEPTH COMMAND\n");
        return 2;
    }
    return 0;
}
