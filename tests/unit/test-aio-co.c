/* SPDX-License-Identifier: GPL-2.0-or-later */
/* AioContext in one thread: sleeps, timeouts, coroutine scheduling, workers, and the GSource. */
#include "aio-test.h"

/* --- Coroutines ------------------------------------------------------------------ */

static void sleep_wake_cb(void *opaque)
{
    co_sleep_wake(opaque);
}

static void co_wake_cb(void *opaque)
{
    aio_co_wake(opaque);
}

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
    g_test_add_func("/aio/co/sleep", test_sleep);
    g_test_add_func("/aio/co/timeout", test_timeout);
    g_test_add_func("/aio/co/wake", test_wake);
    g_test_add_func("/aio/co/fairness", test_fairness);
    g_test_add_func("/aio/co/workers", test_workers);
    g_test_add_func("/aio/loop-stats", test_loop_stats);
    g_test_add_func("/aio/glib", test_glib);
    return g_test_run();
}
