/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of the qemu-io commands share. */
#ifndef BLOCK_IO_CMD_INT_H
#define BLOCK_IO_CMD_INT_H

#include "block/block-int.h"
#include "block/io-cmd.h"
#include "qapi/hmp.h"

/* The largest request, whole sectors below 2 GiB. */
#define IO_CMD_MAX_BYTES (INT32_MAX / 512 * 512)

struct IoSession {
    BlockBackend *blk;
    bool owned, misalign, write_through;
    bool copy_on_read; /* blk is on a filter that copies what is read */
    unsigned refs;    /* the owner, and requests under way */
    unsigned pending; /* asynchronous requests */
    CoQueue idle;     /* waiting for pending == 0 */
    GError *write_error; /* why the handle may not write, NULL: it may */
    const IoCommand *commands;
    void *opaque;
    const IoOutput *output; /* NULL: stdout and stderr */
    void *output_opaque;
};

/* What is to be shown of a request. */
typedef struct IoReport {
    const char *verb; /* "read", "wrote" */
    bool quiet, machine;
    int64_t start_ns;
} IoReport;

extern const IoCommand io_rw_commands[], io_aio_commands[], io_image_commands[],
    io_debug_commands[];

/* The human monitor's command. */
void coroutine_fn hmp_qemu_io(HMPSession *session, const HMPArgs *args);

/* To stdout, and what qemu-io says to stderr as it is. */
void io_printf(IoSession *s, const char *format, ...) G_GNUC_PRINTF(2, 3);
void io_eprintf(IoSession *s, const char *format, ...) G_GNUC_PRINTF(2, 3);
/* "PROGRAM: MESSAGE" to stderr; the message to a monitor. */
void io_complain(IoSession *s, const char *format, ...) G_GNUC_PRINTF(2, 3);
/* To stdout; to the monitor that asked. */
void io_print_monitor(IoSession *s, const char *text);
/* What is printed should be seen now. */
void coroutine_fn io_flush(IoSession *s);
/* Runs fn(opaque), which works on so many bytes of memory: here, or where nothing waits for it. */
int coroutine_fn io_run(IoSession *s, WorkerFunc *fn, void *opaque, size_t bytes);

/* "1.500 KiB", "12 bytes": a number of bytes for people. */
char *io_format_size(double bytes);
/* The lines on a request of bytes at offset that ends now. */
void io_report(IoSession *s, const IoReport *r, int64_t offset, int64_t bytes);

/* What a letter among a command's options does. */
typedef enum IoLetterKind {
    IO_LETTER_NOTHING, /* for old scripts */
    IO_LETTER_FLAG,    /* sets a bool */
    IO_LETTER_STOP,    /* the same, and what follows is not looked at */
    IO_LETTER_TEXT,    /* has an argument: a const char * */
    IO_LETTER_BYTE,    /* has an argument: a byte, checked (io_parse_pattern()), an int */
} IoLetterKind;

typedef struct IoLetter {
    char letter;
    IoLetterKind kind;
    void *to;
    bool *given; /* set when the letter is there; may be NULL */
} IoLetter;

/*
 * The options of a command, as letters, which end with a zeroed element, say.  The index of the
 * first argument behind them; -1 after an error message, which may be the command's usage.
 */
int io_parse_letters(IoSession *s, int argc, char **argv, const IoLetter *letters);

/* A number of bytes with suffix; false after an error message. */
bool io_parse_bytes(IoSession *s, const char *text, int64_t *bytes);
/* A byte for -P; false after an error message. */
bool io_parse_pattern(IoSession *s, const char *text, int *pattern);

/* Memory of bytes for s, all fill; io_buffer_free(), which is told its size, frees it. */
void *coroutine_fn io_buffer_new(IoSession *s, size_t bytes, int fill);
void coroutine_fn io_buffer_free(IoSession *s, void *buf, size_t bytes);
/* Whether len bytes at buf are all pattern. */
bool io_buffer_matches(const void *buf, int pattern, size_t len);
/* A hex dump of len bytes that were read at offset. */
void io_buffer_dump(IoSession *s, const void *buf, int64_t offset, size_t len);
/*
 * Buffers for a list of lengths, argv[0 .. argc), one behind the other in *buf, each an
 * element of iov, all of them fill.  false after an error message.
 */
bool coroutine_fn io_buffers_new(IoSession *s, int argc, char **argv, int fill, uint8_t **buf,
                                 IOVector *iov);

/* One request in the home of the node.  0 or -errno. */
int coroutine_fn io_cmd_read(IoSession *s, int64_t offset, IOVector *iov);
int coroutine_fn io_cmd_write(IoSession *s, int64_t offset, IOVector *iov, int flags);
int coroutine_fn io_cmd_write_zeroes(IoSession *s, int64_t offset, int64_t bytes, int flags);
/* The same for machine state that is in no snapshot. */
int coroutine_fn io_cmd_load_vmstate(IoSession *s, int64_t offset, IOVector *iov);
int coroutine_fn io_cmd_save_vmstate(IoSession *s, int64_t offset, IOVector *iov);

#endif
