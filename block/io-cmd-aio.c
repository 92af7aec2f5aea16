/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The qemu-io commands that start a request and return: aio_read, aio_write, and aio_flush,
 * which waits for all of them.  A request is a coroutine with a reference to its session.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "io-cmd-int.h"

typedef struct AioRequest {
    IoSession *s;
    IoReport report;
    bool write, zero, dump, verify;
    int flags, byte;
    int64_t offset, bytes;
    uint8_t *buf;
    IOVector iov; /* not with zero */
    int ret;
} AioRequest;

static int usage(IoSession *s, char **argv)
{
    return io_command_usage(s, argv[0], NULL);
}

static int show(void *opaque)
{
    AioRequest *r = opaque;
    IoSession *s = r->s;

    if (r->ret < 0) {
        io_printf(s, "%s failed: %s\n", r->write ? "aio_write" : "readv", strerror(-r->ret));
    } else {
        if (r->verify && !io_buffer_matches(r->buf, r->byte, r->bytes)) {
            io_printf(s, "Pattern verification failed at offset %" PRId64 ", %" PRId64 " bytes\n",
                      r->offset, r->bytes);
        }
        if (r->dump) {
            io_buffer_dump(s, r->buf, r->offset, r->bytes);
        }
        io_report(s, &r->report, r->offset, r->bytes);
    }
    return 0;
}

static void coroutine_fn request_entry(void *opaque)
{
    AioRequest *r = opaque;
    IoSession *s = r->s;

    r->report.start_ns = clock_now_ns();
    if (r->zero) {
        r->ret = io_cmd_write_zeroes(s, r->offset, r->bytes, r->flags);
    } else if (r->write) {
        r->ret = io_cmd_write(s, r->offset, &r->iov, r->flags);
    } else {
        r->ret = io_cmd_read(s, r->offset, &r->iov);
    }
    io_run(s, show, r, r->zero ? 0 : r->bytes);
    io_flush(s);
    if (!r->zero) {
        io_vector_destroy(&r->iov);
        io_buffer_free(s, r->buf, r->bytes);
    }
    g_free(r);
    if (--s->pending == 0) {
        co_queue_restart_all(&s->idle);
    }
    io_session_unref(s);
}

static void start(IoSession *s, const AioRequest *request)
{
    AioRequest *r = g_memdup2(request, sizeof(*request));

    if (!r->zero && r->iov.iov == &request->iov.local) {
        r->iov.iov = &r->iov.local;
    }
    r->s = s;
    s->refs++;
    s->pending++;
    aio_co_enter(main_aio_context(), coroutine_create(request_entry, r));
}

static int coroutine_fn run_aio_read(IoSession *s, int argc, char **argv)
{
    AioRequest r = { .report.verb = "read" };
    bool invalid = false;
    const IoLetter letters[] = {
        { 'C', IO_LETTER_FLAG, &r.report.machine }, { 'i', IO_LETTER_STOP, &invalid },
        { 'P', IO_LETTER_BYTE, &r.byte, &r.verify }, { 'q', IO_LETTER_FLAG, &r.report.quiet },
        { 'v', IO_LETTER_FLAG, &r.dump },           { 0 },
    };
    int at = io_parse_letters(s, argc, argv, letters);

    if (at < 0) {
        return -EINVAL;
    }
    if (invalid) {
        io_printf(s, "injecting invalid read request\n");
        return 0;
    }
    if (at > argc - 2) {
        return usage(s, argv);
    }
    if (!io_parse_bytes(s, argv[at], &r.offset) ||
        !io_buffers_new(s, argc - at - 1, argv + at + 1, 0xab, &r.buf, &r.iov)) {
        return -EINVAL;
    }
    r.bytes = r.iov.size;
    start(s, &r);
    return 0;
}

/* What aio_write writes, argv[0] and what follows; false after an error message. */
static bool coroutine_fn parse_write_range(IoSession *s, int argc, char **argv, AioRequest *r)
{
    if (r->zero && argc != 2) {
        io_printf(s, "-z supports only a single length parameter\n");
        return false;
    }
    if ((r->flags & BDRV_REQ_MAY_UNMAP) && !r->zero) {
        io_printf(s, "-u requires -z to be specified\n");
        return false;
    }
    if (!io_parse_bytes(s, argv[0], &r->offset)) {
        return false;
    }
    if (r->zero) {
        return io_parse_bytes(s, argv[1], &r->bytes);
    }
    if (!io_buffers_new(s, argc - 1, argv + 1, r->byte, &r->buf, &r->iov)) {
        return false;
    }
    r->bytes = r->iov.size;
    return true;
}

static int coroutine_fn run_aio_write(IoSession *s, int argc, char **argv)
{
    AioRequest r = { .report.verb = "wrote", .write = true, .byte = 0xcd };
    bool invalid = false, fua = false, unmap = false;
    const IoLetter letters[] = {
        { 'C', IO_LETTER_FLAG, &r.report.machine }, { 'f', IO_LETTER_FLAG, &fua },
        { 'i', IO_LETTER_STOP, &invalid },          { 'P', IO_LETTER_BYTE, &r.byte },
        { 'q', IO_LETTER_FLAG, &r.report.quiet },   { 'u', IO_LETTER_FLAG, &unmap },
        { 'z', IO_LETTER_FLAG, &r.zero },           { 0 },
    };
    int at = io_parse_letters(s, argc, argv, letters);

    if (at < 0) {
        return -EINVAL;
    }
    if (invalid) {
        io_printf(s, "injecting invalid write request\n");
        return 0;
    }
    if (at > argc - 2) {
        return usage(s, argv);
    }
    r.flags = (fua ? BDRV_REQ_FUA : 0) | (unmap ? BDRV_REQ_MAY_UNMAP : 0);
    if (!parse_write_range(s, argc - at, argv + at, &r)) {
        return -EINVAL;
    }
    start(s, &r);
    return 0;
}

static int coroutine_fn run_aio_flush(IoSession *s, int argc, char **argv)
{
    BlockDriverState *bs = blk_bs(s->blk);

    io_session_drain(s);
    if (s->output) { /* of earlier commands, too: each has had its own session */
        bdrv_co_move_to(bdrv_context(bs));
        bdrv_co_drained_begin(bs);
        bdrv_drained_end(bs);
        bdrv_co_move_to(main_aio_context());
    }
    return 0;
}

const IoCommand io_aio_commands[] = {
    { "aio_flush", NULL, run_aio_flush, 0, 0,
      .summary = "completes all outstanding aio requests" },
    { "aio_read", NULL, run_aio_read, 2, -1, .args = "[-Ciqv] [-P pattern] off len [len..]",
      .summary = "asynchronously reads a number of bytes",
      .help = " Starts a read from off into one buffer for each len.  Its result is shown when\n"
              " it is there; aio_flush waits for it.  The command succeeds whatever becomes of\n"
              " the request.\n\n"
              " -C, -- the result as values with commas in between\n"
              " -i, -- no request at all\n"
              " -P, -- complain unless every byte is this one\n"
              " -q, -- no line about the request\n"
              " -v, -- show the bytes\n" },
    { "aio_write", NULL, run_aio_write, 2, -1, .writes = true,
      .args = "[-Cfiquz] [-P pattern] off len [len..]",
      .summary = "asynchronously writes a number of bytes",
      .help = " Starts a write of 0xcd from off on, from one buffer for each len.  Its result is\n"
              " shown when it is there; aio_flush waits for it.  The command succeeds whatever\n"
              " becomes of the request.\n\n"
              " -C, -- the result as values with commas in between\n"
              " -f, -- durable when it is done (force unit access)\n"
              " -i, -- no request at all\n"
              " -P, -- another byte\n"
              " -q, -- no line about the request\n"
              " -u, -- with -z: the space may be given back\n"
              " -z, -- zeroes, without writing them out where possible\n" },
    { 0 },
};
