/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An AioContext as a GSource.  glib's ppoll() and our epoll_wait() would be two system
 * calls per round; so the source gives its GMainContext a poll function of ours that
 * waits in the AioContext alone while glib has no other file descriptor of interest but
 * its own wake-up, and hands the events it found to the dispatch of the source.
 */
#include "aio-int.h"

typedef struct AioSource {
    GSource source;
    AioContext *ctx;
    GPollFD epoll;
} AioSource;

static gboolean aio_source_prepare(GSource *source, gint *timeout)
{
    AioSource *s = (AioSource *)source;
    int64_t ns;

    aio_context_adopt(s->ctx);
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
    bool idle = aio_prepare_sleep(s->ctx);

    aio_end_sleep(s->ctx);
    return s->epoll.revents || !idle || aio_next_timeout(s->ctx) == 0;
}

static gboolean aio_source_dispatch(GSource *source, GSourceFunc callback, gpointer data)
{
    AioSource *s = (AioSource *)source;

    aio_end_sleep(s->ctx);
    aio_wait(s->ctx, 0);
    aio_dispatch(s->ctx);
    return G_SOURCE_CONTINUE;
}

static void aio_source_finalize(GSource *source)
{
    AioSource *s = (AioSource *)source;

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
    g_source_add_poll(source, &s->epoll);
    g_source_set_can_recurse(source, FALSE);
    g_source_set_static_name(source, "AioContext");
    return source;
}
