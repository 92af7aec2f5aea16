/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The blkverify driver: every request goes to two nodes, one under test and a raw one that is
 * trusted, and what is read must be the same.  When it is not, the program says where and ends
 * with code 1: nothing it would do after that means anything.  bs->file is the raw node,
 * bs->data_file the one under test.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "block/block-int.h"
#include "qapi/error.h"
#include "util/log.h"

typedef struct Pair { /* one request on both nodes */
    BlockDriverState *bs;
    int coroutine_fn (*run)(BdrvChild *child, int64_t offset, int64_t bytes, IOVector *iov,
                            int flags);
    int64_t offset, bytes;
    IOVector *iov; /* of the node under test */
    int flags, ret;
    bool done;
    Coroutine *waiter;
} Pair;

static void G_GNUC_PRINTF(4, 5) G_GNUC_NORETURN fail(const char *what, int64_t offset, int64_t bytes,
                                                    const char *format, ...)
{
    va_list ap;

    fprintf(stderr, "blkverify: %s offset=%" PRId64 " bytes=%" PRId64 " ", what, offset, bytes);
    va_start(ap, format);
    vfprintf(stderr, format, ap);
    va_end(ap);
    fputc('\n', stderr);
    fflush(NULL);
    log_flush();
    _exit(1);
}

static bool coroutine_fn blkverify_co_open(BlockDriverState *bs, const BlockdevOptions *options,
                                           GError **errp)
{
    bdrv_set_length(bs, bdrv_length(bs->data_file->bs));
    return true;
}

static void coroutine_fn test_entry(void *opaque)
{
    Pair *p = opaque;

    p->ret = p->run(p->bs->data_file, p->offset, p->bytes, p->iov, p->flags);
    p->done = true;
    if (p->waiter) {
        aio_co_wake(p->waiter);
    }
}

/* Runs the request on both nodes at the same time; their results must be the same. */
static int coroutine_fn run_both(Pair *p, const char *what, IOVector *raw)
{
    int ret;

    aio_co_enter(p->bs->ctx, coroutine_create(test_entry, p));
    ret = p->run(p->bs->file, p->offset, p->bytes, raw, p->flags);
    if (!p->done) {
        p->waiter = coroutine_self();
        coroutine_yield();
    }
    if (ret != p->ret) {
        fail(what, p->offset, p->bytes, "return value mismatch %d != %d", p->ret, ret);
    }
    return ret;
}

/* Where two vectors of the same shape differ; their size where they do not. */
static size_t first_difference(const IOVector *a, const IOVector *b)
{
    size_t at = 0;

    for (int i = 0; i < a->niov; i++) {
        const uint8_t *x = a->iov[i].iov_base, *y = b->iov[i].iov_base;

        if (memcmp(x, y, a->iov[i].iov_len)) {
            size_t j = 0;

            while (x[j] == y[j]) {
                j++;
            }
            return at + j;
        }
        at += a->iov[i].iov_len;
    }
    return at;
}

static int coroutine_fn blkverify_co_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                            IOVector *iov, int flags)
{
    Pair p = { .bs = bs, .run = bdrv_co_preadv, .offset = offset, .bytes = bytes, .iov = iov,
               .flags = flags };
    uint8_t *buf = g_aligned_alloc(1, bytes, MAX(4096, bs->request_alignment)), *at = buf;
    IOVector raw;
    int ret;

    io_vector_init(&raw, iov->niov);
    for (int i = 0; i < iov->niov; i++) {
        io_vector_add(&raw, at, iov->iov[i].iov_len);
        at += iov->iov[i].iov_len;
    }
    ret = run_both(&p, "read", &raw);
    if (ret == 0) {
        size_t same = first_difference(iov, &raw);

        if (same < (size_t)bytes) {
            fail("read", offset, bytes, "contents mismatch at offset %" PRId64,
                 offset + (int64_t)same);
        }
    }
    io_vector_destroy(&raw);
    g_aligned_free(buf);
    return ret;
}

static int coroutine_fn blkverify_co_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                             IOVector *iov, int flags)
{
    Pair p = { .bs = bs, .run = bdrv_co_pwritev, .offset = offset, .bytes = bytes, .iov = iov,
               .flags = flags };

    return run_both(&p, "write", iov);
}

/* What is on the disk is the business of the node under test: the raw one stays as it is. */
static int coroutine_fn blkverify_co_flush(BlockDriverState *bs)
{
    return bdrv_co_flush(bs->data_file->bs);
}

const BlockDriver bdrv_blkverify_driver = {
    .name = "blkverify",
    .instance_size = 1,
    .is_format = true,
    .co_open = blkverify_co_open,
    .co_preadv = blkverify_co_preadv,
    .co_pwritev = blkverify_co_pwritev,
    .co_flush = blkverify_co_flush,
};
