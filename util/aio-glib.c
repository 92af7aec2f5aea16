/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An AioContext as a GSource.  glib's ppoll() followed by our epoll_wait() would be two
 * system calls per round; so the source gives its GMainContext a poll function that waits
 * in the AioContext itself while glib watches nothing but its own wake-up fd, which then
 * is in our epoll set.  What the wait found is kept for the dispatch of the source.
 * Home thread only.
 */
#include "aio-int.h"

#include <sys/epoll.h>

typedef struct AioSource {
    GSource source;
    AioContext *ctx;
    GPollFD epoll;
    GMainContext *glib; /* the context that has our poll function */
    int wake_fd;        /* glib's, in our epoll set; -1 not yet, -2 cannot be */
} AioSource;

/* Fetched events that are for handlers. */
static bool has_events(AioContext *ctx)
{
    for (int i = 0; i < ctx->n_events; i++) {
        if (ctx->events[i].data.u64 >> 32 >= AIO_GENERATION_FIRST) {
            return true;
        }
    }
    return false;
}

/* Edge triggered, so that it does not keep an aio_poll() awake: seen once, told once. */
static bool take_glib_event(AioContext *ctx)
{
    bool found = ctx->glib_event;

    for (int i = 0; i < ctx->n_events; i++) {
        if (ctx->events[i].data.u64 >> 32 == AIO_GENERATION_GLIB) {
            ctx->events[i].data.u64 = 0;
            found = true;
        }
    }
    ctx->glib_event = false;
    return found;
}

static bool watch_glib(AioSource *s, int fd)
{
    struct epoll_event ev = {.events = EPOLLIN | EPOLLET,
                             .data.u64 = (uint64_t)AIO_GENERATION_GLIB << 32};

    if (s->wake_fd == -1) {
        s->wake_fd = epoll_ctl(s->ctx->epoll_fd, EPOLL_CTL_ADD, fd, &ev) == 0 ? fd : -2;
    }
    return s->wake_fd == fd;
}

/* glib watches more than us and its wake-up fd: poll them all, and our ring. */
static gint poll_with_others(AioContext *ctx, GPollFD *fds, guint n, GPollFD *ours, gint timeout)
{
#if CONFIG_LINUX_IO_URING
    if (aio_disk_busy(ctx)) {
        g_autofree GPollFD *all = g_new(GPollFD, n + 1);
        gint ret;

        aio_ring_wait(ctx->ring, 0);
        memcpy(all, fds, n * sizeof(*fds));
        all[n] = (GPollFD){.fd = aio_ring_fd(ctx->ring), .events = G_IO_IN};
        ret = g_poll(all, n + 1, aio_ring_done(ctx->ring) ? 0 : timeout);
        memcpy(fds, all, n * sizeof(*fds));
        if (ret >= 0 && (all[n].revents || aio_ring_done(ctx->ring))) {
            ours->revents |= G_IO_IN;
        }
        return ret;
    }
#endif
    return g_poll(fds, n, timeout);
}

static gint aio_g_poll(GPollFD *fds, guint n, gint timeout)
{
    AioContext *ctx = aio_current();
    AioSource *s = ctx ? (AioSource *)ctx->source : NULL;
    GPollFD *ours, *wake;
    int64_t ns, timer;
    bool done = false;

    if (!s || n < 2) {
        return g_poll(fds, n, timeout);
    }
    ours = fds;
    while (ours < fds + n && ours->fd != ctx->epoll_fd) {
        ours++;
    }
    if (ours == fds + n) {
        return g_poll(fds, n, timeout);
    }
    wake = &fds[ours == fds];
    if (n != 2 || !watch_glib(s, wake->fd)) {
        return poll_with_others(ctx, fds, n, ours, timeout);
    }

    ns = timeout < 0 ? -1 : timeout * INT64_C(1000000);
    timer = aio_next_timeout(ctx);
    if (timer >= 0 && (ns < 0 || timer < ns)) {
        ns = timer;
    }
    if (ctx->glib_event) {
        ns = 0;
    }
    /* Undispatched events: a source of higher priority came in between. */
    if (!has_events(ctx)) {
        ctx->n_events = 0;
        aio_wait(ctx, ns);
#if CONFIG_LINUX_IO_URING
        if (aio_disk_busy(ctx)) {
            /* That was the ring's wait; glib's own event is in the epoll set. */
            aio_epoll_wait(ctx, 0);
            done = aio_ring_done(ctx->ring);
        }
#endif
    }
    ctx->polled = true;
    ours->revents = has_events(ctx) || done ? G_IO_IN : 0;
    wake->revents = take_glib_event(ctx) ? G_IO_IN : 0;
    return !!ours->revents + !!wake->revents;
}

static gboolean aio_source_prepare(GSource *source, gint *timeout)
{
    AioSource *s = (AioSource *)source;
    int64_t ns;

    aio_context_adopt(s->ctx);
    if (G_UNLIKELY(!s->glib)) {
        s->glib = g_source_get_context(source);
        s->ctx->source = source;
        g_main_context_set_poll_func(s->glib, aio_g_poll);
    }
    if (!aio_prepare_sleep(s->ctx)) {
        *timeout = 0;
        return TRUE;
    }
    ns = aio_next_timeout(s->ctx);
    *timeout = ns < 0 ? -1 : (gint)MIN((ns + 999999) / 1000000, G_MAXINT);
    return ns == 0;
}

static gboolean aio_source_check(GSource *source)
{
    AioSource *s = (AioSource *)source;

    aio_end_sleep(s->ctx);
    return s->epoll.revents || aio_has_work(s->ctx) || aio_next_timeout(s->ctx) == 0;
}

static gboolean aio_source_dispatch(GSource *source, GSourceFunc callback, gpointer data)
{
    AioSource *s = (AioSource *)source;

    aio_end_sleep(s->ctx);
    if (!s->ctx->polled) {
        aio_wait(s->ctx, 0);
    }
    s->ctx->polled = false;
    aio_dispatch(s->ctx);
    return G_SOURCE_CONTINUE;
}

static void aio_source_finalize(GSource *source)
{
    AioSource *s = (AioSource *)source;

    if (s->ctx->source == source) {
        s->ctx->source = NULL;
    }
    if (s->wake_fd >= 0) {
        struct epoll_event unused;
        (void)epoll_ctl(s->ctx->epoll_fd, EPOLL_CTL_DEL, s->wake_fd, &unused);
    }
    aio_context_unref(s->ctx);
}

static GSourceFuncs aio_source_funcs = {
    .prepare = aio_source_prepare,
    .check = aio_source_check,
    .dispatch = aio_source_dispatch,
    .finalize = aio_source_finalize,
};

GSource *aio_get_g_source(AioContext *ctx)
{
    GSource *source = g_source_new(&aio_source_funcs, sizeof(AioSource));
    AioSource *s = (AioSource *)source;

    s->ctx = aio_context_ref(ctx);
    s->epoll = (GPollFD){.fd = ctx->epoll_fd, .events = G_IO_IN};
    s->wake_fd = -1;
    g_source_add_poll(source, &s->epoll);
    g_source_set_can_recurse(source, FALSE);
    g_source_set_static_name(source, "AioContext");
    return source;
}
