/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * AioContext in one thread: file descriptors, bottom halves, timers, sleeps, timeouts,
 * coroutine scheduling, and the GSource.
 */
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

static void drain(void)
{
    while (aio_poll(ctx, false)) {
    }
}

static void sleep_wake_cb(void *opaque)
{
    co_sleep_wake(opaque);
}

static void co_wake_cb(void *opaque)
{
    aio_co_wake(opaque);
}

static void make_pair(int fds[2])
{
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), ==,
                    0);
}

static void close_pair(int fds[2])
{
    close(fds[0]);
    close(fds[1]);
}

/* --- File descriptors ------------------------------------------------------------ */

typedef struct Conn {
    int fd;
    int reads, writes;
    bool consume;
    bool remove;
    struct Conn *other; /* to be removed by our handler */
} Conn;

static void conn_read(void *opaque)
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

static void conn_write(void *opaque)
{
    Conn *c = opaque;

    c->writes++;
}

static void test_fd_level(void)
{
    int fds[2];
    Conn c = {0};

    make_pair(fds);
    c.fd = fds[0];
    aio_set_fd_handler(ctx, c.fd, conn_read, NULL, &c);
    g_assert_false(aio_poll(ctx, false));
    g_assert_cmpint(write(fds[1], "ab", 2), ==, 2);
    /* As long as there is something to read. */
    g_assert_true(aio_poll(ctx, true));
    g_assert_true(aio_poll(ctx, true));
    g_assert_cmpint(c.reads, ==, 2);
    c.consume = true;
    g_assert_true(aio_poll(ctx, true));
    g_assert_true(aio_poll(ctx, true));
    g_assert_false(aio_poll(ctx, false));
    g_assert_cmpint(c.reads, ==, 4);
    /* Writable too, then no more readable, then not at all. */
    aio_set_fd_handler(ctx, c.fd, conn_read, conn_write, &c);
    g_assert_true(aio_poll(ctx, true));
    g_assert_cmpint(c.writes, ==, 1);
    g_assert_cmpint(c.reads, ==, 4);
    aio_set_fd_handler(ctx, c.fd, NULL, conn_write, &c);
    g_assert_cmpint(write(fds[1], "a", 1), ==, 1);
    g_assert_true(aio_poll(ctx, true));
    g_assert_cmpint(c.writes, ==, 2);
    g_assert_cmpint(c.reads, ==, 4);
    aio_set_fd_handler(ctx, c.fd, NULL, NULL, NULL);
    aio_set_fd_handler(ctx, c.fd, NULL, NULL, NULL);
    g_assert_false(aio_poll(ctx, false));
    close_pair(fds);
}

/* A handler removes itself, and another whose event was fetched with its own. */
static void test_fd_remove_in_handler(void)
{
    int a[2], b[2];
    Conn c, d;

    make_pair(a);
    make_pair(b);
    c = (Conn){.fd = a[0], .remove = true, .other = &d};
    d = (Conn){.fd = b[0], .remove = true, .other = &c};
    aio_set_fd_handler(ctx, c.fd, conn_read, conn_write, &c);
    aio_set_fd_handler(ctx, d.fd, conn_read, conn_write, &d);
    g_assert_cmpint(write(a[1], "x", 1), ==, 1);
    g_assert_cmpint(write(b[1], "x", 1), ==, 1);
    g_assert_true(aio_poll(ctx, true));
    g_assert_cmpint(c.reads + d.reads, ==, 1);
    g_assert_cmpint(c.writes + d.writes, ==, 0);
    g_assert_false(aio_poll(ctx, false));
    close_pair(a);
    close_pair(b);
}

/* The number of a closed fd comes back for another file in the middle of a round. */
typedef struct Reuse {
    int victim, replacement;
    Conn *victim_conn;
    int runs;
} Reuse;

static void reuse_read(void *opaque)
{
    Reuse *r = opaque;

    r->runs++;
    aio_set_fd_handler(ctx, r->victim, NULL, NULL, NULL);
    close(r->victim);
    g_assert_cmpint(dup2(r->replacement, r->victim), ==, r->victim);
    aio_set_fd_handler(ctx, r->victim, conn_read, NULL, r->victim_conn);
}

static void test_fd_reuse(void)
{
    int a[2], b[2], quiet[2];
    Conn victim = {0};
    Reuse r;

    for (int i = 0; i < 2; i++) {
        make_pair(a);
        make_pair(b);
        make_pair(quiet);
        victim = (Conn){.fd = b[0]};
        r = (Reuse){.victim = b[0], .replacement = quiet[0], .victim_conn = &victim};
        aio_set_fd_handler(ctx, a[0], reuse_read, NULL, &r);
        aio_set_fd_handler(ctx, b[0], conn_read, NULL, &victim);
        /* epoll gives events in the order in which the fds became ready. */
        g_assert_cmpint(write(a[1], "x", 1), ==, 1);
        g_assert_cmpint(write(b[1], "x", 1), ==, 1);
        g_assert_true(aio_poll(ctx, true));
        g_assert_cmpint(r.runs, ==, 1);
        g_assert_cmpint(victim.reads, ==, 0);
        aio_set_fd_handler(ctx, a[0], NULL, NULL, NULL);
        g_assert_false(aio_poll(ctx, false));
        g_assert_cmpint(write(quiet[1], "x", 1), ==, 1);
        g_assert_true(aio_poll(ctx, true));
        g_assert_cmpint(victim.reads, ==, 1);
        aio_set_fd_handler(ctx, b[0], NULL, NULL, NULL);
        close_pair(a);
        close_pair(b);
        close_pair(quiet);
    }
}

/* epoll refuses regular files: they are always ready. */
static void test_fd_regular_file(void)
{
    FILE *file = tmpfile();
    Conn c = {.fd = fileno(file)};

    aio_set_fd_handler(ctx, c.fd, conn_read, conn_write, &c);
    g_assert_true(aio_poll(ctx, true));
    g_assert_cmpint(c.reads, ==, 1);
    g_assert_cmpint(c.writes, ==, 1);
    c.remove = true;
    g_assert_true(aio_poll(ctx, true));
    g_assert_cmpint(c.reads, ==, 2);
    g_assert_cmpint(c.writes, ==, 1);
    g_assert_false(aio_poll(ctx, false));
    fclose(file);
}

/* A reader and a writer, each its own coroutine, wait on one fd. */
typedef struct Duplex {
    int fd;
    size_t to_read, to_write;
    int read_waits, write_waits;
    bool echoed;
} Duplex;

static void coroutine_fn duplex_reader(void *opaque)
{
    Duplex *d = opaque;
    char buf[4096];

    while (d->to_read) {
        ssize_t n = read(d->fd, buf, sizeof(buf));

        if (n < 0) {
            g_assert_cmpint(errno, ==, EAGAIN);
            d->read_waits++;
            co_wait_readable(d->fd);
            continue;
        }
        g_assert_cmpint(n, >, 0);
        d->to_read -= n;
    }
}

static void coroutine_fn duplex_writer(void *opaque)
{
    Duplex *d = opaque;
    char buf[4096] = {0};

    while (d->to_write) {
        ssize_t n = write(d->fd, buf, MIN(sizeof(buf), d->to_write));

        if (n < 0) {
            g_assert_cmpint(errno, ==, EAGAIN);
            d->write_waits++;
            co_wait_writable(d->fd);
            continue;
        }
        d->to_write -= n;
    }
}

static void test_fd_coroutines(void)
{
    int fds[2];
    Duplex a = {.to_read = 3000000, .to_write = 2000000};
    Duplex b = {.to_read = 2000000, .to_write = 3000000};

    make_pair(fds);
    a.fd = fds[0];
    b.fd = fds[1];
    coroutine_enter(coroutine_create(duplex_reader, &a));
    coroutine_enter(coroutine_create(duplex_reader, &b));
    coroutine_enter(coroutine_create(duplex_writer, &a));
    coroutine_enter(coroutine_create(duplex_writer, &b));
    while (a.to_read || a.to_write || b.to_read || b.to_write) {
        g_assert_true(aio_poll(ctx, true));
    }
    g_assert_cmpint(a.read_waits, >, 0);
    g_assert_cmpint(a.write_waits, >, 0);
    close_pair(fds);
    /* The numbers again, with the closed files' slots left behind. */
    make_pair(fds);
    a = (Duplex){.fd = fds[0], .to_read = 1};
    coroutine_enter(coroutine_create(duplex_reader, &a));
    g_assert_false(aio_poll(ctx, false));
    g_assert_cmpint(write(fds[1], "x", 1), ==, 1);
    g_assert_true(aio_poll(ctx, true));
    g_assert_cmpint(a.to_read, ==, 0);
    close_pair(fds);
}

/* --- Bottom halves --------------------------------------------------------------- */

typedef struct BH {
    AioBH *bh;
    int runs, again;
    bool delete;
    GString *log;
    char name;
} BH;

static void bh_cb(void *opaque)
{
    BH *b = opaque;

    b->runs++;
    if (b->log) {
        g_string_append_c(b->log, b->name);
    }
    if (b->again) {
        b->again--;
        aio_bh_schedule(b->bh);
    }
    if (b->delete) {
        aio_bh_delete(b->bh);
    }
}

static void test_bh(void)
{
    GString *log = g_string_new(NULL);
    BH b[4] = {{0}}, once = {.log = log, .name = 'o'};

    for (int i = 0; i < 4; i++) {
        b[i] = (BH){.log = log, .name = 'a' + i};
        b[i].bh = aio_bh_new(ctx, bh_cb, &b[i]);
    }
    g_assert_false(aio_poll(ctx, false));
    aio_bh_schedule(b[2].bh);
    aio_bh_schedule(b[0].bh);
    aio_bh_schedule(b[2].bh);
    aio_bh_schedule_oneshot(ctx, bh_cb, &once);
    aio_bh_schedule(b[1].bh);
    aio_bh_schedule(b[3].bh);
    aio_bh_cancel(b[1].bh);
    aio_bh_delete(b[3].bh);
    g_assert_true(aio_poll(ctx, true));
    g_assert_cmpstr(log->str, ==, "cao");
    g_assert_false(aio_poll(ctx, false));
    /* One that was cancelled can be scheduled again; one that schedules itself. */
    b[1].again = 5;
    aio_bh_schedule(b[1].bh);
    for (int i = 0; i < 6; i++) {
        g_assert_true(aio_poll(ctx, true));
    }
    g_assert_false(aio_poll(ctx, false));
    g_assert_cmpint(b[1].runs, ==, 6);
    b[0].delete = true;
    aio_bh_schedule(b[0].bh);
    aio_bh_delete(b[1].bh);
    aio_bh_delete(b[2].bh);
    drain();
    drain();
    g_assert_cmpint(b[0].runs, ==, 2);
    g_string_free(log, TRUE);
}

static void *notify_thread(void *opaque)
{
    BH *b = opaque;

    for (int i = 0; i < 2000; i++) {
        aio_bh_schedule(b->bh);
    }
    aio_bh_delete(b->bh);
    return NULL;
}

static void count_cb(void *opaque)
{
    (*(int *)opaque)++;
}

static void *oneshot_thread(void *opaque)
{
    for (int i = 0; i < 2000; i++) {
        aio_bh_schedule_oneshot(ctx, count_cb, opaque);
    }
    return NULL;
}

static void test_bh_threads(void)
{
    BH b[2] = {{0}};
    int count = 0;
    pthread_t threads[4];

    for (int i = 0; i < 2; i++) {
        b[i].bh = aio_bh_new(ctx, bh_cb, &b[i]);
        pthread_create(&threads[i], NULL, notify_thread, &b[i]);
        pthread_create(&threads[i + 2], NULL, oneshot_thread, &count);
    }
    while (count < 4000) {
        aio_poll(ctx, true);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
    }
    drain();
    g_assert_cmpint(count, ==, 4000);
    g_assert_cmpint(b[0].runs, <=, 2000);
    drain();
}

static void test_notify(void)
{
    EventNotifier e;
    GError *err = NULL;

    aio_notify(ctx);
    aio_poll(ctx, true); /* returns */
    g_assert_false(aio_poll(ctx, false));

    g_assert_true(event_notifier_init(&e, &err));
    g_assert_no_error(err);
    g_assert_false(event_notifier_test_and_clear(&e));
    event_notifier_set(&e);
    event_notifier_set(&e);
    g_assert_true(event_notifier_test_and_clear(&e));
    g_assert_false(event_notifier_test_and_clear(&e));
    event_notifier_cleanup(&e);
}

/* --- Timers ---------------------------------------------------------------------- */

typedef struct Timer {
    AioTimer *timer;
    int64_t expire;
    int runs;
    bool rearm;
    GArray *order;
} Timer;

static void timer_cb(void *opaque)
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

static void test_timer_order(void)
{
    enum { N = 500 };
    Timer t[N];
    GArray *order = g_array_new(FALSE, FALSE, sizeof(int64_t));
    int64_t now = clock_now_ns();
    int expected = 0;

    for (int i = 0; i < N; i++) {
        t[i] = (Timer){.expire = now + (i * 7919 % N) * 20000, .order = order};
        t[i].timer = aio_timer_new(ctx, timer_cb, &t[i]);
        aio_timer_mod(t[i].timer, t[i].expire);
        g_assert_true(aio_timer_pending(t[i].timer));
    }
    for (int i = 0; i < N; i += 3) {
        aio_timer_del(t[i].timer);
        g_assert_false(aio_timer_pending(t[i].timer));
    }
    for (int i = 0; i < N; i += 6) {
        t[i].expire = now + i * 11000;
        aio_timer_mod(t[i].timer, t[i].expire + 1000000);
        aio_timer_mod(t[i].timer, t[i].expire);
    }
    for (int i = 0; i < N; i++) {
        expected += aio_timer_pending(t[i].timer);
    }
    while ((int)order->len < expected) {
        aio_poll(ctx, true);
    }
    for (guint i = 1; i < order->len; i++) {
        g_assert_cmpint(g_array_index(order, int64_t, i - 1), <=,
                        g_array_index(order, int64_t, i));
    }
    for (int i = 0; i < N; i++) {
        g_assert_cmpint(t[i].runs, ==, i % 3 || i % 6 == 0);
        aio_timer_free(t[i].timer);
    }
    g_assert_false(aio_poll(ctx, false));
    g_array_free(order, TRUE);
    aio_timer_free(NULL);
}

static void test_timer_past(void)
{
    Timer t = {.expire = 0, .rearm = true};
    int runs = 0;

    t.timer = aio_timer_new(ctx, timer_cb, &t);
    aio_timer_mod(t.timer, 0);
    aio_bh_schedule_oneshot(ctx, count_cb, &runs);
    g_assert_true(aio_poll(ctx, true));
    g_assert_cmpint(t.runs, ==, 1);
    g_assert_cmpint(runs, ==, 1);
    t.rearm = false;
    g_assert_true(aio_poll(ctx, true));
    g_assert_cmpint(t.runs, ==, 2);
    aio_timer_mod(t.timer, INT64_MAX);
    g_assert_false(aio_poll(ctx, false));
    aio_timer_free(t.timer);
}

/* --- Coroutines ------------------------------------------------------------------ */

static void coroutine_fn sleep_entry(void *opaque)
{
    int64_t start = clock_now_ns();
    CoSleep s = {0};

    co_sleep_ns(3000000);
    g_assert_cmpint(clock_now_ns() - start, >=, 3000000);
    co_sleep_ns(0);
    co_sleep_ns(-5);
    g_assert_false(co_sleep_ns_wakeable(&s, 1000));
    co_sleep_wake(&s);
    co_sleep_wake(&s);
    g_assert_true(co_sleep_ns_wakeable(&s, INT64_MAX));
    g_assert_false(co_sleep_ns_wakeable(&s, 1000));
    aio_bh_schedule_oneshot(ctx, sleep_wake_cb, &s);
    g_assert_true(co_sleep_ns_wakeable(&s, INT64_MAX));
}

static void test_sleep(void)
{
    aio_co_run_sync(ctx, sleep_entry, NULL);
    g_assert_false(aio_poll(ctx, false));
}

typedef struct Timeout {
    CoSleep gate;
    int ended, cleaned;
} Timeout;

static void coroutine_fn timeout_work(void *opaque)
{
    Timeout *t = opaque;

    co_sleep_ns_wakeable(&t->gate, INT64_MAX);
    g_assert_cmpint(t->cleaned, ==, 0);
    t->ended++;
}

static void timeout_clean(void *opaque)
{
    Timeout *t = opaque;

    g_assert_cmpint(t->ended, ==, 1);
    t->cleaned++;
}

static void coroutine_fn timeout_entry(void *opaque)
{
    Timeout t = {.gate = {0}};

    /* In time, at once and after a while. */
    co_sleep_wake(&t.gate);
    g_assert_true(co_timeout(timeout_work, &t, INT64_MAX, timeout_clean));
    g_assert_cmpint(t.ended, ==, 1);
    t = (Timeout){.gate = {0}};
    aio_bh_schedule_oneshot(ctx, sleep_wake_cb, &t.gate);
    g_assert_true(co_timeout(timeout_work, &t, INT64_MAX, timeout_clean));
    g_assert_cmpint(t.ended, ==, 1);
    g_assert_cmpint(t.cleaned, ==, 0);
    /* Too late. */
    t = (Timeout){.gate = {0}};
    g_assert_false(co_timeout(timeout_work, &t, 1000000, timeout_clean));
    g_assert_cmpint(t.ended, ==, 0);
    co_sleep_wake(&t.gate);
    while (!t.cleaned) {
        co_sleep_ns(1000);
    }
    g_assert_cmpint(t.ended, ==, 1);
}

static void test_timeout(void)
{
    aio_co_run_sync(ctx, timeout_entry, NULL);
}

typedef struct Wake {
    Coroutine *first;
    GString *log;
} Wake;

static void coroutine_fn wake_first(void *opaque)
{
    Wake *w = opaque;

    g_string_append(w->log, "1");
    coroutine_yield();
    g_string_append(w->log, "4");
}

static void coroutine_fn wake_second(void *opaque)
{
    Wake *w = opaque;

    g_string_append(w->log, "2");
    aio_co_wake(w->first); /* not before we yield */
    g_string_append(w->log, "3");
}

static void test_wake(void)
{
    Wake w = {.log = g_string_new(NULL)};

    w.first = coroutine_create(wake_first, &w);
    aio_co_enter(ctx, w.first);
    g_assert_true(coroutine_context(w.first) == ctx);
    aio_co_enter(ctx, coroutine_create(wake_second, &w));
    g_assert_cmpstr(w.log->str, ==, "123");
    g_assert_true(aio_poll(ctx, true));
    g_assert_cmpstr(w.log->str, ==, "1234");
    /* From outside of coroutines: at once. */
    w.first = coroutine_create(wake_first, &w);
    aio_co_schedule(ctx, w.first);
    g_assert_true(aio_poll(ctx, true));
    aio_co_wake(w.first);
    g_assert_cmpstr(w.log->str, ==, "123414");
    g_string_free(w.log, TRUE);
}

static void coroutine_fn wake_self_entry(void *opaque)
{
    int *left = opaque;

    while ((*left)-- > 0) {
        aio_co_wake(coroutine_self());
        coroutine_yield();
    }
}

/* Coroutines that always have something to do must not keep fds and timers waiting. */
static void test_fairness(void)
{
    int left = 1000000, fds[2];
    Conn c = {.remove = true};

    make_pair(fds);
    c.fd = fds[0];
    aio_set_fd_handler(ctx, c.fd, conn_read, NULL, &c);
    coroutine_enter(coroutine_create(wake_self_entry, &left));
    g_assert_cmpint(write(fds[1], "x", 1), ==, 1);
    while (!c.reads) {
        aio_poll(ctx, true);
    }
    g_assert_cmpint(left, >, 900000);
    left = 0;
    drain();
    close_pair(fds);
}

static int slow_square(void *opaque)
{
    g_assert_null(aio_current());
    g_assert_false(in_coroutine());
    return *(int *)opaque * *(int *)opaque;
}

static void coroutine_fn worker_entry(void *opaque)
{
    int *running = opaque, n = *running;

    for (int i = 0; i < 20; i++) {
        int value = n + i;
        g_assert_cmpint(co_run_in_worker(slow_square, &value), ==, value * value);
        g_assert_true(aio_current() == ctx);
    }
    --*running;
}

static void test_workers(void)
{
    int running = 0;

    for (int i = 0; i < 200; i++) {
        running++;
        coroutine_enter(coroutine_create(worker_entry, &running));
    }
    while (running) {
        aio_poll(ctx, true);
    }
}

/* --- glib ------------------------------------------------------------------------ */

typedef struct Glib {
    GMainLoop *loop;
    int fds[2], other[2];
    int rounds;
    int disk_fd;
    bool glib_seen;
} Glib;

static gboolean glib_other_cb(gint fd, GIOCondition condition, gpointer opaque)
{
    Glib *g = opaque;
    char c;

    g->glib_seen = true;
    g_assert_cmpint(read(fd, &c, 1), ==, 1);
    return G_SOURCE_REMOVE;
}

/*
 * A source of glib's that another thread makes ready.  (g_main_context_invoke() would do
 * the same, but ThreadSanitizer does not see glib's own locks.)
 */
static int flag; /* atomic */

static gboolean flag_is_set(GSource *source)
{
    return __atomic_load_n(&flag, __ATOMIC_ACQUIRE);
}

static gboolean flag_prepare(GSource *source, gint *timeout)
{
    *timeout = -1;
    return flag_is_set(source);
}

static gboolean flag_dispatch(GSource *source, GSourceFunc callback, gpointer opaque)
{
    __atomic_store_n(&flag, 0, __ATOMIC_RELEASE);
    return callback(opaque);
}

static GSourceFuncs flag_funcs = {
    .prepare = flag_prepare,
    .check = flag_is_set,
    .dispatch = flag_dispatch,
};

static gboolean flag_cb(gpointer opaque)
{
    Glib *g = opaque;

    g->rounds++;
    return G_SOURCE_CONTINUE;
}

static void *flag_thread(void *opaque)
{
    __atomic_store_n(&flag, 1, __ATOMIC_RELEASE);
    g_main_context_wakeup(NULL);
    return NULL;
}

static void coroutine_fn glib_entry(void *opaque)
{
    Glib *g = opaque;
    char buf[512] = {0};
    struct iovec iov = {buf, sizeof(buf)};
    pthread_t thread;

    /* Each kind of event through the source, first alone, then beside glib's own fd. */
    for (int with_other = 0; with_other < 2; with_other++) {
        guint id = 0;

        if (with_other) {
            id = g_unix_fd_add(g->other[0], G_IO_IN, glib_other_cb, g);
        }
        for (int i = 0; i < 20; i++) {
            co_sleep_ns(10000);
            g_assert_cmpint(write(g->fds[1], "x", 1), ==, 1);
            co_wait_readable(g->fds[0]);
            g_assert_cmpint(read(g->fds[0], buf, 1), ==, 1);
            g_assert_cmpint(co_pwritev(g->disk_fd, &iov, 1, i * 512), ==, 512);
            g_assert_cmpint(co_run_in_worker(slow_square, &i), ==, i * i);
            aio_bh_schedule_oneshot(ctx, co_wake_cb, coroutine_self());
            coroutine_yield();
        }
        /* glib's own wake-up, also with a disk request in flight. */
        for (int i = 0; i < 10; i++) {
            g->rounds = 0;
            pthread_create(&thread, NULL, flag_thread, g);
            while (!g->rounds) {
                if (i & 1) {
                    co_preadv(g->disk_fd, &iov, 1, 0);
                } else {
                    co_sleep_ns(100000);
                }
            }
            pthread_join(thread, NULL);
        }
        if (with_other) {
            g_assert_cmpint(write(g->other[1], "y", 1), ==, 1);
            while (!g->glib_seen) {
                co_preadv(g->disk_fd, &iov, 1, 0);
            }
            (void)id;
        }
    }
    g_main_loop_quit(g->loop);
}

static void spend(void *opaque)
{
    int64_t end = clock_now_ns() + *(int64_t *)opaque;

    while (clock_now_ns() < end) {
    }
}

static void test_loop_stats(void)
{
    int64_t time = 3000000;
    AioLoopStats stats;

    aio_poll(ctx, false);
    aio_loop_stats(ctx, true);
    aio_bh_schedule_oneshot(ctx, spend, &time);
    aio_poll(ctx, true);
    aio_poll(ctx, false);
    stats = aio_loop_stats(ctx, true);
    g_assert_cmpuint(stats.rounds, ==, 2);
    g_assert_cmpint(stats.longest_ns, >=, time);
    g_assert_cmpint(stats.busy_ns, >=, stats.longest_ns);
    g_assert_cmpuint(aio_loop_stats(ctx, false).rounds, ==, 0);
}

static void test_glib(void)
{
    Glib g = {.loop = g_main_loop_new(NULL, FALSE)};
    GSource *source = aio_get_g_source(ctx);
    GSource *flagged = g_source_new(&flag_funcs, sizeof(GSource));
    FILE *file = tmpfile();
    Timer timer = {0};
    int polls;

    make_pair(g.fds);
    make_pair(g.other);
    g.disk_fd = fileno(file);
    g_source_attach(source, NULL);
    g_source_set_callback(flagged, flag_cb, &g, NULL);
    g_source_attach(flagged, NULL);
    coroutine_enter(coroutine_create(glib_entry, &g));
    g_main_loop_run(g.loop);
    /* A wake-up of glib's neither keeps aio_poll() busy nor gets lost in it. */
    g_main_context_wakeup(NULL);
    timer.timer = aio_timer_new(ctx, timer_cb, &timer);
    timer.expire = clock_now_ns() + 5000000;
    aio_timer_mod(timer.timer, timer.expire);
    for (polls = 0; !timer.runs; polls++) {
        aio_poll(ctx, true);
    }
    g_assert_cmpint(polls, <, 20);
    aio_timer_free(timer.timer);
    g_main_context_iteration(NULL, TRUE);
    g_source_destroy(source);
    g_source_unref(source);
    g_source_destroy(flagged);
    g_source_unref(flagged);
    g_main_loop_unref(g.loop);
    fclose(file);
    close_pair(g.fds);
    close_pair(g.other);
    drain();
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    main_aio_context_init();
    ctx = main_aio_context();
    g_assert_true(aio_current() == ctx && aio_in_home_thread(ctx));
    g_test_add_func("/aio/fd/level", test_fd_level);
    g_test_add_func("/aio/fd/remove-in-handler", test_fd_remove_in_handler);
    g_test_add_func("/aio/fd/reuse", test_fd_reuse);
    g_test_add_func("/aio/fd/regular-file", test_fd_regular_file);
    g_test_add_func("/aio/fd/coroutines", test_fd_coroutines);
    g_test_add_func("/aio/bh", test_bh);
    g_test_add_func("/aio/bh/threads", test_bh_threads);
    g_test_add_func("/aio/notify", test_notify);
    g_test_add_func("/aio/timer/order", test_timer_order);
    g_test_add_func("/aio/timer/past", test_timer_past);
    g_test_add_func("/aio/co/sleep", test_sleep);
    g_test_add_func("/aio/co/timeout", test_timeout);
    g_test_add_func("/aio/co/wake", test_wake);
    g_test_add_func("/aio/co/fairness", test_fairness);
    g_test_add_func("/aio/co/workers", test_workers);
    g_test_add_func("/aio/loop-stats", test_loop_stats);
    g_test_add_func("/aio/glib", test_glib);
    return g_test_run();
}
