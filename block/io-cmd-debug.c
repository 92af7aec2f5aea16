/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The qemu-io commands for tests: breakpoints in a blkdebug node below the image, waiting,
 * signals.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "block/debug.h"
#include "io-cmd-int.h"

/* --- Breakpoints ------------------------------------------------------------------------------ */

static int coroutine_fn run_break(IoSession *s, int argc, char **argv)
{
    BlockDriverState *bs = blk_bs(s->blk);
    int ret;

    bdrv_co_move_to(bdrv_context(bs));
    ret = bdrv_debug_breakpoint(bs, argv[1], argv[2]);
    bdrv_co_move_to(main_aio_context());
    if (ret < 0) {
        io_printf(s, "Could not set breakpoint: %s\n", strerror(-ret));
    }
    return ret;
}

static int coroutine_fn run_remove_break(IoSession *s, int argc, char **argv)
{
    BlockDriverState *bs = blk_bs(s->blk);
    int ret;

    bdrv_co_move_to(bdrv_context(bs));
    ret = bdrv_debug_remove_breakpoint(bs, argv[1]);
    bdrv_co_move_to(main_aio_context());
    if (ret < 0) {
        io_printf(s, "Could not remove breakpoint %s: %s\n", argv[1], strerror(-ret));
    }
    return ret;
}

static int coroutine_fn run_resume(IoSession *s, int argc, char **argv)
{
    BlockDriverState *bs = blk_bs(s->blk);
    int ret;

    bdrv_co_move_to(bdrv_context(bs));
    ret = bdrv_debug_resume(bs, argv[1]);
    bdrv_co_move_to(main_aio_context());
    if (ret < 0) {
        io_printf(s, "Could not resume request: %s\n", strerror(-ret));
    }
    return ret;
}

static int coroutine_fn run_wait_break(IoSession *s, int argc, char **argv)
{
    BlockDriverState *bs = blk_bs(s->blk);

    bdrv_co_move_to(bdrv_context(bs));
    bdrv_co_debug_wait(bs, argv[1]);
    bdrv_co_move_to(main_aio_context());
    return 0;
}

/* --- Others ----------------------------------------------------------------------------------- */

static int coroutine_fn run_sleep(IoSession *s, int argc, char **argv)
{
    char *end;
    long ms = strtol(argv[1], &end, 0);

    if (!*argv[1] || *end || ms < 0 || ms > G_MAXINT) {
        io_printf(s, "%s is not a valid number\n", argv[1]);
        return -EINVAL;
    }
    co_sleep_ns(ms * (int64_t)1000000);
    return 0;
}

static int coroutine_fn run_sigraise(IoSession *s, int argc, char **argv)
{
    int64_t sig;

    if (!io_parse_bytes(s, argv[1], &sig)) {
        return -EINVAL;
    }
    if (sig > NSIG) {
        io_printf(s, "signal argument '%s' is too large to be a valid signal number\n", argv[1]);
        return -EINVAL;
    }
    io_flush(s);
    raise(sig);
    return 0;
}

static int coroutine_fn run_abort(IoSession *s, int argc, char **argv)
{
    io_flush(s);
    abort();
}

const IoCommand io_debug_commands[] = {
    { "abort", NULL, run_abort, 0, 0, .without_file = true,
      .summary = "simulate a program crash using abort(3)" },
    { "break", NULL, run_break, 2, 2, .args = "event tag",
      .summary = "sets a breakpoint on event and tags the stopped request as tag" },
    { "remove_break", NULL, run_remove_break, 1, 1, .args = "tag",
      .summary = "remove a breakpoint by tag" },
    { "resume", NULL, run_resume, 1, 1, .args = "tag",
      .summary = "resumes the request tagged as tag" },
    { "sigraise", NULL, run_sigraise, 1, 1, .without_file = true, .args = "signal",
      .summary = "raises a signal",
      .help = " The program sends itself the signal with this number.\n"
              " 'sigraise 15' is SIGTERM.\n" },
    { "sleep", NULL, run_sleep, 1, 1, .without_file = true,
      .summary = "waits for the given value in milliseconds" },
    { "wait_break", NULL, run_wait_break, 1, 1, .args = "tag",
      .summary = "waits for the suspension of a request" },
    { 0 },
};
