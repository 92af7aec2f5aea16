/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The qemu-io commands that read and write and wait for it: read, readv, write, writev. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "io-cmd-int.h"
#include "qapi/error.h"

static int usage(IoSession *s, char **argv)
{
    return io_command_usage(s, argv[0], NULL);
}

/* offset and length of a request of one buffer, argv[0] and argv[1]. */
static bool parse_range(IoSession *s, char **argv, int64_t *offset, int64_t *bytes)
{
    return io_parse_bytes(s, argv[0], offset) && io_parse_bytes(s, argv[1], bytes);
}

/* VM state and compressed data come in whole sectors. */
static bool check_sectors(IoSession *s, int64_t offset, int64_t bytes)
{
    if (offset % 512 || bytes % 512) {
        io_printf(s, "%" PRId64 " is not a sector-aligned value for '%s'\n",
                  offset % 512 ? offset : bytes, offset % 512 ? "offset" : "count");
        return false;
    }
    return true;
}

/* --- Reading --------------------------------------------------------------------------------- */

typedef struct Read {
    IoReport report;
    bool dump, vm_state, verify;
    const char *pattern, *pattern_start, *pattern_len; /* NULL: not given */
    int byte; /* with verify */
    int64_t start, count; /* of what is compared, within the buffer */
} Read;

static bool parse_verification(IoSession *s, Read *r, int64_t bytes)
{
    r->verify = r->pattern;
    r->count = bytes;
    if (r->pattern && !io_parse_pattern(s, r->pattern, &r->byte)) {
        return false;
    }
    if ((r->pattern_start && !io_parse_bytes(s, r->pattern_start, &r->start)) ||
        (r->pattern_len && !io_parse_bytes(s, r->pattern_len, &r->count))) {
        return false;
    }
    if (!r->pattern_len) {
        r->count = bytes - r->start;
    }
    if (r->start > bytes || r->count < 0 || r->count > bytes - r->start) {
        io_printf(s, "pattern verification range exceeds end of read data\n");
        return false;
    }
    return true;
}

typedef struct Shown {
    IoSession *s;
    const Read *r;
    const uint8_t *buf;
    int64_t offset, bytes;
} Shown;

static int show(void *opaque)
{
    const Shown *shown = opaque;
    IoSession *s = shown->s;
    const Read *r = shown->r;
    const uint8_t *buf = shown->buf;
    int ret = 0;

    if (r->verify && !io_buffer_matches(buf + r->start, r->byte, r->count)) {
        io_printf(s, "Pattern verification failed at offset %" PRId64 ", %" PRId64 " bytes\n",
                  shown->offset + r->start, r->count);
        ret = -EINVAL;
    }
    if (r->dump) {
        io_buffer_dump(s, buf, shown->offset, shown->bytes);
    }
    io_report(s, &r->report, shown->offset, shown->bytes);
    return ret;
}

/* What was read into buf: compares, dumps, reports. */
static int coroutine_fn show_read(IoSession *s, const Read *r, const uint8_t *buf, int64_t offset,
                                  int64_t bytes)
{
    Shown shown = { s, r, buf, offset, bytes };

    return io_run(s, show, &shown, bytes);
}

static int coroutine_fn do_read(IoSession *s, Read *r, int64_t offset, int64_t bytes)
{
    uint8_t *buf = io_buffer_new(s, bytes, 0xab);
    IOVector iov;
    int ret;

    io_vector_init_buf(&iov, buf, bytes);
    r->report.start_ns = clock_now_ns();
    ret = r->vm_state ? io_cmd_load_vmstate(s, offset, &iov) : io_cmd_read(s, offset, &iov);
    if (ret < 0) {
        io_printf(s, "read failed: %s\n", strerror(-ret));
    } else {
        ret = show_read(s, r, buf, offset, bytes);
    }
    io_buffer_free(s, buf, bytes);
    return ret;
}

static int coroutine_fn run_read(IoSession *s, int argc, char **argv)
{
    Read r = { .report.verb = "read" };
    const IoLetter letters[] = {
        { 'b', IO_LETTER_FLAG, &r.vm_state },      { 'C', IO_LETTER_FLAG, &r.report.machine },
        { 'l', IO_LETTER_TEXT, &r.pattern_len },   { 'p', IO_LETTER_NOTHING },
        { 'P', IO_LETTER_TEXT, &r.pattern },       { 'q', IO_LETTER_FLAG, &r.report.quiet },
        { 's', IO_LETTER_TEXT, &r.pattern_start }, { 'v', IO_LETTER_FLAG, &r.dump },
        { 0 },
    };
    int at = io_parse_letters(s, argc, argv, letters);
    int64_t offset, bytes;

    if (at < 0) {
        return -EINVAL;
    }
    if (at != argc - 2 || (!r.pattern && (r.pattern_start || r.pattern_len))) {
        return usage(s, argv);
    }
    if (!parse_range(s, argv + at, &offset, &bytes)) {
        return -EINVAL;
    }
    if (bytes > IO_CMD_MAX_BYTES) {
        io_printf(s, "length cannot exceed %d, given %s\n", IO_CMD_MAX_BYTES, argv[at + 1]);
        return -EINVAL;
    }
    if (!parse_verification(s, &r, bytes) || (r.vm_state && !check_sectors(s, offset, bytes))) {
        return -EINVAL;
    }
    return do_read(s, &r, offset, bytes);
}

static int coroutine_fn run_readv(IoSession *s, int argc, char **argv)
{
    Read r = { .report.verb = "read" };
    const IoLetter letters[] = {
        { 'C', IO_LETTER_FLAG, &r.report.machine }, { 'P', IO_LETTER_BYTE, &r.byte, &r.verify },
        { 'q', IO_LETTER_FLAG, &r.report.quiet },   { 'v', IO_LETTER_FLAG, &r.dump },
        { 0 },
    };
    int at = io_parse_letters(s, argc, argv, letters), ret;
    uint8_t *buf;
    int64_t offset;
    IOVector iov;

    if (at < 0) {
        return -EINVAL;
    }
    if (at > argc - 2) {
        return usage(s, argv);
    }
    if (!io_parse_bytes(s, argv[at], &offset) ||
        !io_buffers_new(s, argc - at - 1, argv + at + 1, 0xab, &buf, &iov)) {
        return -EINVAL;
    }
    r.count = iov.size;
    r.report.start_ns = clock_now_ns();
    ret = io_cmd_read(s, offset, &iov);
    if (ret < 0) {
        io_printf(s, "readv failed: %s\n", strerror(-ret));
    } else {
        ret = show_read(s, &r, buf, offset, iov.size);
    }
    io_buffer_free(s, buf, iov.size);
    io_vector_destroy(&iov);
    return ret;
}

/* --- Writing --------------------------------------------------------------------------------- */

typedef struct Write {
    IoReport report;
    bool vm_state, compressed, fua, no_fallback, unmap, zero;
    bool has_byte;
    const char *file; /* NULL: byte */
    int byte;
} Write;

static bool check_write_options(IoSession *s, const Write *w)
{
    const char *complaint = NULL;

    if (w->vm_state && w->zero) {
        complaint = "-b and -z cannot be specified at the same time";
    } else if (w->fua && (w->vm_state || w->compressed)) {
        complaint = "-f and -b or -c cannot be specified at the same time";
    } else if (w->no_fallback && !w->zero) {
        complaint = "-n requires -z to be specified";
    } else if (w->unmap && !w->zero) {
        complaint = "-u requires -z to be specified";
    } else if (w->zero + w->has_byte + (w->file != NULL) > 1) {
        complaint = "Only one of -z, -P, and -s can be specified at the same time";
    }
    if (complaint) {
        io_printf(s, "%s\n", complaint);
    }
    return !complaint;
}

typedef struct Fill {
    const char *path;
    uint8_t *buf;
    int64_t bytes;
} Fill;

/* Fills the buffer with the content of the file, over and over.  0 or -errno; 1: it is empty. */
static int fill_worker(void *opaque)
{
    Fill *fill = opaque;
    FILE *f = fopen(fill->path, "r");
    int64_t n;
    int ret = 0;

    if (!f) {
        return -errno;
    }
    n = fread(fill->buf, 1, fill->bytes, f);
    if (ferror(f)) {
        ret = -EIO;
    } else if (n == 0 && fill->bytes > 0) {
        ret = 1;
    }
    for (int64_t done = n; ret == 0 && done < fill->bytes; done++) {
        fill->buf[done] = fill->buf[done - n];
    }
    fclose(f);
    return ret;
}

static bool coroutine_fn fill_from_file(IoSession *s, const char *path, uint8_t *buf,
                                        int64_t bytes)
{
    Fill fill = { path, buf, bytes };
    int ret = co_run_in_worker(fill_worker, &fill);

    if (ret) {
        io_eprintf(s, "%s: %s\n", path, ret < 0 ? strerror(-ret) : "file is empty");
    }
    return ret == 0;
}

static int coroutine_fn do_write(IoSession *s, Write *w, int64_t offset, int64_t bytes)
{
    int flags = (w->fua ? BDRV_REQ_FUA : 0) | (w->unmap ? BDRV_REQ_MAY_UNMAP : 0) |
                (w->no_fallback ? BDRV_REQ_NO_FALLBACK : 0) |
                (w->compressed && !w->zero ? BDRV_REQ_WRITE_COMPRESSED : 0);
    uint8_t *buf = NULL;
    IOVector iov;
    int ret;

    if (!w->zero) {
        buf = io_buffer_new(s, bytes, w->byte);
        if (w->file && !fill_from_file(s, w->file, buf, bytes)) {
            io_buffer_free(s, buf, bytes);
            return -EINVAL;
        }
        io_vector_init_buf(&iov, buf, bytes);
    }
    w->report.start_ns = clock_now_ns();
    if (w->zero) {
        ret = io_cmd_write_zeroes(s, offset, bytes, flags);
    } else if (w->vm_state) {
        ret = io_cmd_save_vmstate(s, offset, &iov);
    } else {
        ret = io_cmd_write(s, offset, &iov, flags);
    }
    if (ret < 0) {
        io_printf(s, "write failed: %s\n", strerror(-ret));
    } else {
        io_report(s, &w->report, offset, bytes);
    }
    if (buf) {
        io_buffer_free(s, buf, bytes);
    }
    return ret;
}

/* The options of write: the index of the arguments, or -1 after what is to be said. */
static int parse_write_options(IoSession *s, int argc, char **argv, Write *w)
{
    const IoLetter letters[] = {
        { 'b', IO_LETTER_FLAG, &w->vm_state },    { 'c', IO_LETTER_FLAG, &w->compressed },
        { 'C', IO_LETTER_FLAG, &w->report.machine }, { 'f', IO_LETTER_FLAG, &w->fua },
        { 'n', IO_LETTER_FLAG, &w->no_fallback }, { 'p', IO_LETTER_NOTHING },
        { 'P', IO_LETTER_BYTE, &w->byte, &w->has_byte },
        { 'q', IO_LETTER_FLAG, &w->report.quiet }, { 's', IO_LETTER_TEXT, &w->file },
        { 'u', IO_LETTER_FLAG, &w->unmap },       { 'z', IO_LETTER_FLAG, &w->zero },
        { 0 },
    };
    int at = io_parse_letters(s, argc, argv, letters);

    if (at >= 0 && at != argc - 2) {
        usage(s, argv);
        return -1;
    }
    return at >= 0 && check_write_options(s, w) ? at : -1;
}

static int coroutine_fn run_write(IoSession *s, int argc, char **argv)
{
    Write w = { .report.verb = "wrote", .byte = 0xcd };
    int at = parse_write_options(s, argc, argv, &w);
    int64_t offset, bytes;

    if (at < 0 || !parse_range(s, argv + at, &offset, &bytes)) {
        return -EINVAL;
    }
    if (bytes > IO_CMD_MAX_BYTES && !w.no_fallback) {
        io_printf(s, "length cannot exceed %d without -n, given %s\n", IO_CMD_MAX_BYTES,
                  argv[at + 1]);
        return -EINVAL;
    }
    if ((w.vm_state || w.compressed) && !check_sectors(s, offset, bytes)) {
        return -EINVAL;
    }
    return do_write(s, &w, offset, bytes);
}

static int coroutine_fn run_writev(IoSession *s, int argc, char **argv)
{
    IoReport report = { .verb = "wrote" };
    bool fua = false;
    int byte = 0xcd;
    const IoLetter letters[] = {
        { 'C', IO_LETTER_FLAG, &report.machine }, { 'f', IO_LETTER_FLAG, &fua },
        { 'P', IO_LETTER_BYTE, &byte },           { 'q', IO_LETTER_FLAG, &report.quiet },
        { 0 },
    };
    int at = io_parse_letters(s, argc, argv, letters), ret;
    uint8_t *buf;
    int64_t offset;
    IOVector iov;

    if (at < 0) {
        return -EINVAL;
    }
    if (at > argc - 2) {
        return usage(s, argv);
    }
    if (!io_parse_bytes(s, argv[at], &offset) ||
        !io_buffers_new(s, argc - at - 1, argv + at + 1, byte, &buf, &iov)) {
        return -EINVAL;
    }
    report.start_ns = clock_now_ns();
    ret = io_cmd_write(s, offset, &iov, fua ? BDRV_REQ_FUA : 0);
    if (ret < 0) {
        io_printf(s, "writev failed: %s\n", strerror(-ret));
    } else {
        io_report(s, &report, offset, iov.size);
    }
    io_buffer_free(s, buf, iov.size);
    io_vector_destroy(&iov);
    return ret;
}

const IoCommand io_rw_commands[] = {
    { "read", "r", run_read, 2, -1, .args = "[-abCqv] [-P pattern [-s off] [-l len]] off len",
      .summary = "reads a number of bytes at a specified offset",
      .help = " Reads len bytes at off, shows them with -v, compares them with -P.\n"
              " 'read -v 512 1k' shows 1 KiB from the second sector on.\n\n"
              " -b, -- machine state behind the disk (qcow2), not the disk\n"
              " -C, -- the result as values with commas in between\n"
              " -l, -- with -P: compare only so many bytes\n"
              " -p, -- nothing, for old scripts\n"
              " -P, -- fail unless every byte is this one\n"
              " -q, -- no line about the request\n"
              " -s, -- with -P: compare from here on, counted from off\n"
              " -v, -- show the bytes\n" },
    { "readv", NULL, run_readv, 2, -1, .args = "[-Cqv] [-P pattern] off len [len..]",
      .summary = "reads a number of bytes at a specified offset",
      .help = " Reads from off into one buffer for each len, in one request.\n"
              " 'readv -v 512 1k 1k' shows 2 KiB that went to two buffers.\n\n"
              " -C, -- the result as values with commas in between\n"
              " -P, -- fail unless every byte is this one\n"
              " -q, -- no line about the request\n"
              " -v, -- show the bytes\n" },
    { "write", "w", run_write, 2, -1, .writes = true,
      .args = "[-bcCfnquz] [-P pattern | -s source_file] off len",
      .summary = "writes a number of bytes at a specified offset",
      .help = " Writes len bytes of 0xcd at off.\n"
              " 'write 512 1k' writes 1 KiB from the second sector on.\n\n"
              " -b, -- machine state behind the disk (qcow2), not the disk\n"
              " -c, -- stored compressed\n"
              " -C, -- the result as values with commas in between\n"
              " -f, -- durable when it is done (force unit access)\n"
              " -n, -- with -z: fail where zeroes would have to be written out\n"
              " -p, -- nothing, for old scripts\n"
              " -P, -- another byte\n"
              " -q, -- no line about the request\n"
              " -s, -- the content of this file, repeated\n"
              " -u, -- with -z: the space may be given back\n"
              " -z, -- zeroes, without writing them out where possible\n" },
    { "writev", NULL, run_writev, 2, -1, .writes = true,
      .args = "[-Cfq] [-P pattern] off len [len..]",
      .summary = "writes a number of bytes at a specified offset",
      .help = " Writes 0xcd from off on, from one buffer for each len, in one request.\n"
              " 'writev 512 1k 1k' writes 2 KiB from two buffers.\n\n"
              " -C, -- the result as values with commas in between\n"
              " -f, -- durable when it is done (force unit access)\n"
              " -P, -- another byte\n"
              " -q, -- no line about the request\n" },
    { 0 },
};
