/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The commands of qemu-io on a handle: reads and writes with patterns, maps, breakpoints.
 * kf-io runs them from its command line, the human monitor with "qemu-io".  What they print, in
 * QEMU's words, goes to the process's stdout and stderr unless the session has another output.  All
 * of it in coroutines in the main thread; I/O hops to the home of the node and back.
 */
#ifndef BLOCK_IO_CMD_H
#define BLOCK_IO_CMD_H

#include "block/block.h"

typedef struct IoSession IoSession;

typedef struct IoCommand {
    const char *name, *alias;
    /* argv[0] is the command's name; 0 or -errno, after it has said why. */
    int coroutine_fn (*run)(IoSession *s, int argc, char **argv);
    int min_args, max_args; /* without the name; max_args -1: any number */
    bool without_file;      /* needs no open image */
    bool writes;            /* needs one that can be written */
    const char *args;       /* for help, NULL: none */
    const char *summary;    /* one line */
    const char *help;       /* the rest of what "help NAME" says; NULL: nothing */
} IoCommand;

/*
 * A session on blk (NULL: no image is open).  owned: blk is freed with the session, when its
 * last request has ended; else it must outlive that.
 */
IoSession *io_session_new(BlockBackend *blk, bool owned);
/* Ends it; asynchronous requests go on and free it in the end. */
void coroutine_fn io_session_unref(IoSession *s);
/* Puts another handle, or NULL, in place; returns the former. No request is under way. */
BlockBackend *io_session_set_blk(IoSession *s, BlockBackend *blk);
BlockBackend *io_session_blk(IoSession *s);
/* Buffers at odd addresses (qemu-io -m). */
void io_session_set_misalign(IoSession *s, bool misalign);
/* Every write is durable before it ends (cache=writethrough). */
void io_session_set_write_through(IoSession *s, bool write_through);
/* The handle's node is one that copy_on_read_co_open() has put over the image (qemu-io -C). */
void io_session_set_copy_on_read(IoSession *s, bool copy_on_read);
/* What the owner of the session adds to the commands; a table that ends with a zeroed element. */
void io_session_set_commands(IoSession *s, const IoCommand *commands, void *opaque);
void *io_session_opaque(IoSession *s);
/* Waits until no asynchronous request of the session is under way. */
void coroutine_fn io_session_drain(IoSession *s);

typedef enum IoStream {
    IO_STDOUT,
    IO_STDERR,
    IO_MONITOR, /* what QEMU, too, says to the monitor that asked */
} IoStream;

typedef struct IoOutput {
    /* Maybe in a worker, while the command or request that prints waits for it. */
    void (*print)(void *opaque, IoStream stream, const char *text);
    /* What is printed should be seen now. */
    void coroutine_fn (*flush)(void *opaque);
    void (*free)(void *opaque); /* with the session */
} IoOutput;

/* Another output, and one that nothing may wait for: long work on buffers is left to workers. */
void io_session_set_output(IoSession *s, const IoOutput *output, void *opaque);

/* Runs a line; false when it failed.  An empty line does nothing. */
bool coroutine_fn io_command_run(IoSession *s, const char *line);
/* Says how a command is called; returns -EINVAL, for its run(). */
int io_command_usage(IoSession *s, const char *name, const IoCommand *commands);

#endif
