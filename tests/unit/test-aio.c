/* SPDX-License-Identifier: GPL-2.0-or-later */
/* AioContext in one thread: file descriptors, bottom halves, timers. */
#include "aio-test.h"

/* --- File descriptors ------------------------------------------------------------ */

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
    return g_test_run();
}
