/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kf-img bench: a fixed number of requests one behind the other, some of them at a time, and
 * how long they take.
 */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include "kf-img-int.h"
#include "qapi/error.h"

typedef struct Bench {
    /* What the user said. */
    BdrvOpenFile params;
    bool write, no_drain, native;
    int count, depth, flush_interval, pattern;
    int64_t offset, size, step;

    /* The run. */
    BlockBackend *blk;
    int64_t length, at;
    int left;      /* requests to be sent */
    int in_flight; /* requests */
    int running;   /* coroutines */
    int ret;
    bool flushing; /* or about to, once nothing is in flight */
    CoQueue queue; /* waits for in_flight and flushing to change */
    Coroutine *waiter;
    uint8_t *buf;
} Bench;

enum { OPTION_FLUSH_INTERVAL = IMG_OPTION_OWN, OPTION_PATTERN, OPTION_NO_DRAIN };

static void failed(Bench *b, const char *what, int ret)
{
    if (ret < 0 && b->ret == 0) {
        img_error("Failed %s: %s", what, strerror(-ret));
        b->ret = ret;
    }
}

/* Between two requests: one flush at a time, when nothing is under way or (no_drain) beside it. */
static void coroutine_fn flush(Bench *b)
{
    b->flushing = true;
    while (!b->no_drain && b->in_flight) {
        co_queue_wait(&b->queue, NULL);
    }
    failed(b, "flush request", blk_co_flush(b->blk));
    b->flushing = false;
    co_queue_restart_all(&b->queue);
}

static int coroutine_fn request(Bench *b, uint8_t *buf)
{
    int64_t offset = b->at;

    b->at += b->step;
    if (b->length) {
        b->at %= b->length; /* once around */
    }
    if (!b->size) {
        return 0;
    }
    return b->write ? blk_co_pwrite(b->blk, offset, b->size, buf)
                    : blk_co_pread(b->blk, offset, b->size, buf);
}

static void coroutine_fn bench_entry(void *opaque)
{
    Bench *b = opaque;
    uint8_t *buf = g_aligned_alloc(1, MAX(b->size, 1), 4096);

    memset(buf, b->pattern, b->size);
    for (;;) {
        bool last;

        while (b->flushing && !b->no_drain && b->ret == 0) {
            co_queue_wait(&b->queue, NULL);
        }
        if (!b->left || b->ret) {
            break;
        }
        last = --b->left % MAX(b->flush_interval, 1) == 0; /* of those between two flushes */
        b->in_flight++;
        if (last && b->flush_interval) {
            b->flushing = true; /* holds the others back */
        }
        failed(b, "request", request(b, buf));
        b->in_flight--;
        co_queue_restart_all(&b->queue);
        if (last && b->flush_interval) {
            flush(b);
        }
    }
    g_aligned_free(buf);
    co_queue_restart_all(&b->queue);
    if (--b->running == 0 && b->waiter) {
        aio_co_wake(b->waiter);
    }
}

static bool coroutine_fn run(Bench *b)
{
    int64_t start;

    printf("Sending %d %s requests, %" PRId64 " bytes each, %d in parallel (starting at offset "
           "%" PRId64 ", step size %" PRId64 ")\n", b->count, b->write ? "write" : "read", b->size,
           b->depth, b->offset, b->step);
    if (b->flush_interval) {
        printf("Sending flush every %d requests\n", b->flush_interval);
    }
    fflush(stdout);
    co_queue_init(&b->queue);
    b->length = bdrv_length(blk_bs(b->blk));
    b->at = b->offset;
    b->left = b->count;
    b->running = MAX(MIN(b->depth, b->count), 1);
    start = clock_now_ns();
    for (int i = b->running; i > 0; i--) {
        aio_co_schedule(main_aio_context(), coroutine_create(bench_entry, b));
    }
    b->waiter = coroutine_self();
    while (b->running) {
        coroutine_yield();
    }
    co_queue_destroy(&b->queue);
    if (b->ret == 0) {
        printf("Run completed in %3.3f seconds.\n", (clock_now_ns() - start) / 1e9);
    }
    return b->ret == 0;
}

/* --- Command line ------------------------------------------------------------------------- */

/* A plain number, also 0x..., from min to INT_MAX; false after an error message. */
static bool take_int(const char *what, const char *text, int min, int max, int *value)
{
    char *end;
    gint64 number;

    errno = 0;
    number = g_ascii_strtoll(text, &end, 0);
    if (end == text || *end || errno || number < min || number > max) {
        img_error("Invalid %s specified", what);
        return false;
    }
    *value = number;
    return true;
}

static bool take_aio(Bench *b, const char *name)
{
    static const char *const names[] = { "threads", "native", "io_uring", NULL };

    if (!g_strv_contains(names, name)) {
        img_error("Invalid aio option: %s", name);
        return false;
    }
    b->native = !strcmp(name, "native");
    return true;
}

/* One option; -1 to go on, else the exit code. */
static int take_option(Bench *b, int c, char **argv)
{
    switch (c) {
    case 'c':
        return take_int("request count", optarg, 0, INT_MAX, &b->count) ? -1 : 1;
    case 'd':
        return take_int("queue depth", optarg, 1, INT_MAX, &b->depth) ? -1 : 1;
    case 'n':
        b->native = true;
        return -1;
    case 'i':
        return take_aio(b, optarg) ? -1 : 1;
    case 'o':
        return img_parse_number("offset", optarg, 0, INT64_MAX, &b->offset) ? -1 : 1;
    case 'q':
        return -1; /* what is said is what was measured */
    case 's':
        return img_parse_number("buffer size", optarg, 0, INT_MAX, &b->size) ? -1 : 1;
    case 'S':
        return img_parse_number("step_size", optarg, 0, INT_MAX, &b->step) ? -1 : 1;
    case 't':
        if (!img_parse_cache(optarg, &b->params)) {
            img_error("Invalid cache mode");
            return 1;
        }
        return -1;
    case 'w':
        b->write = true;
        return -1;
    case OPTION_PATTERN:
        return take_int("pattern byte", optarg, 0, 255, &b->pattern) ? -1 : 1;
    case OPTION_FLUSH_INTERVAL:
        return take_int("flush interval", optarg, 0, INT_MAX, &b->flush_interval) ? -1 : 1;
    case OPTION_NO_DRAIN:
        b->no_drain = true;
        return -1;
    default:
        return img_common_option(c, argv, &b->params);
    }
}

static bool coroutine_fn bench(Bench *b)
{
    BlockDriverState *bs;
    bool ok;

    if (!b->write && b->flush_interval) {
        img_error("--flush-interval is only available in write tests");
        return false;
    }
    if (b->flush_interval && b->flush_interval < b->depth) {
        img_error("Flush interval can't be smaller than depth");
        return false;
    }
    if (b->native && !b->params.direct) {
        img_error("Could not open '%s': aio=native was specified, but it requires "
                  "cache.direct=on, which was not specified.", b->params.filename);
        return false;
    }
    b->params.read_only = !b->write;
    b->step = b->step ? b->step : b->size;
    bs = img_open(&b->params);
    if (!bs) {
        return false;
    }
    b->blk = img_backend(bs, b->write);
    ok = b->blk && run(b);
    blk_co_free(b->blk);
    bdrv_co_unref(bs);
    return ok;
}

int coroutine_fn img_bench(int argc, char **argv)
{
    static const struct option options[] = {
        IMG_COMMON_OPTIONS,
        { "flush-interval", required_argument, NULL, OPTION_FLUSH_INTERVAL },
        { "pattern", required_argument, NULL, OPTION_PATTERN },
        { "no-drain", no_argument, NULL, OPTION_NO_DRAIN },
        { "force-share", no_argument, NULL, 'U' },
        { 0 },
    };
    Bench b = { .count = 75000, .depth = 64, .size = 4096 };
    int c, ret = -1;

    while (ret < 0 && (c = getopt_long(argc, argv, ":hc:d:f:ni:o:qs:S:t:wU", options,
                                       NULL)) != -1) {
        ret = take_option(&b, c, argv);
    }
    if (ret >= 0) {
        return ret;
    }
    if (optind != argc - 1) {
        return img_usage_error("Expecting one image file name");
    }
    b.params.filename = argv[optind];
    return img_check_open_options(&b.params) && bench(&b) ? 0 : 1;
}
