/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The qemu-io commands: sessions, finding and running a command, numbers, buffers and the
 * lines about a request that all of them share.  See include/block/io-cmd.h.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "io-cmd-int.h"
#include "qapi/error.h"
#include "qapi/keyval.h"

#define MISALIGN 16
/* What is less than that is no work. */
#define LONG_BYTES (64 * 1024)

/* --- Sessions ------------------------------------------------------------------------------- */

IoSession *io_session_new(BlockBackend *blk, bool owned)
{
    IoSession *s = g_new0(IoSession, 1);

    s->blk = blk;
    s->owned = owned;
    s->refs = 1;
    co_queue_init(&s->idle);
    return s;
}

void coroutine_fn io_session_unref(IoSession *s)
{
    if (--s->refs > 0) {
        return;
    }
    if (s->owned) {
        blk_co_free(s->blk);
    }
    if (s->output) {
        s->output->free(s->output_opaque);
    }
    g_clear_error(&s->write_error);
    co_queue_destroy(&s->idle);
    g_free(s);
}

BlockBackend *io_session_set_blk(IoSession *s, BlockBackend *blk)
{
    BlockBackend *former = s->blk;

    g_assert(!s->pending);
    s->blk = blk;
    return former;
}

BlockBackend *io_session_blk(IoSession *s)
{
    return s->blk;
}

void io_session_set_misalign(IoSession *s, bool misalign)
{
    s->misalign = misalign;
}

void io_session_set_write_through(IoSession *s, bool write_through)
{
    s->write_through = write_through;
}

void io_session_set_copy_on_read(IoSession *s, bool copy_on_read)
{
    s->copy_on_read = copy_on_read;
}

void io_session_set_commands(IoSession *s, const IoCommand *commands, void *opaque)
{
    s->commands = commands;
    s->opaque = opaque;
}

void *io_session_opaque(IoSession *s)
{
    return s->opaque;
}

void io_session_set_output(IoSession *s, const IoOutput *output, void *opaque)
{
    s->output = output;
    s->output_opaque = opaque;
}

void coroutine_fn io_session_drain(IoSession *s)
{
    while (s->pending) {
        co_queue_wait(&s->idle, NULL);
    }
}

/* --- Output ---------------------------------------------------------------------------------- */

static void G_GNUC_PRINTF(3, 0) print(IoSession *s, IoStream stream, const char *format, va_list ap)
{
    g_autofree char *text = NULL;

    if (!s->output) {
        vfprintf(stream == IO_STDERR ? stderr : stdout, format, ap);
        return;
    }
    text = g_strdup_vprintf(format, ap);
    s->output->print(s->output_opaque, stream, text);
}

void io_printf(IoSession *s, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    print(s, IO_STDOUT, format, ap);
    va_end(ap);
}

void io_eprintf(IoSession *s, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    print(s, IO_STDERR, format, ap);
    va_end(ap);
}

void io_complain(IoSession *s, const char *format, ...)
{
    g_autofree char *line = NULL, *message = NULL;
    va_list ap;

    va_start(ap, format);
    message = g_strdup_vprintf(format, ap);
    va_end(ap);
    if (s->output) {
        line = g_strconcat(message, "\n", NULL);
        s->output->print(s->output_opaque, IO_MONITOR, line);
    } else {
        fprintf(stderr, "%s: %s\n", g_get_prgname(), message);
    }
}

void io_print_monitor(IoSession *s, const char *text)
{
    if (s->output) {
        s->output->print(s->output_opaque, IO_MONITOR, text);
    } else {
        fputs(text, stdout);
    }
}

void coroutine_fn io_flush(IoSession *s)
{
    if (s->output) {
        s->output->flush(s->output_opaque);
    } else {
        fflush(stdout);
    }
}

int coroutine_fn io_run(IoSession *s, WorkerFunc *fn, void *opaque, size_t bytes)
{
    return s->output && bytes >= LONG_BYTES ? co_run_in_worker(fn, opaque) : fn(opaque);
}

/* --- Commands -------------------------------------------------------------------------------- */

static int coroutine_fn run_help(IoSession *s, int argc, char **argv);

static const IoCommand help_commands[] = {
    { "help", "?", run_help, 0, 1, .without_file = true, .args = "[command]",
      .summary = "help for one or all commands" },
    { 0 },
};

static const IoCommand *const tables[] = {
    help_commands, io_rw_commands, io_aio_commands, io_image_commands, io_debug_commands,
};

static const IoCommand *find_in(const IoCommand *table, const char *name)
{
    for (const IoCommand *c = table; c && c->name; c++) {
        if (!strcmp(c->name, name) || (c->alias && !strcmp(c->alias, name))) {
            return c;
        }
    }
    return NULL;
}

static const IoCommand *find_command(const IoCommand *more, const char *name)
{
    const IoCommand *c = find_in(more, name);

    for (size_t i = 0; i < G_N_ELEMENTS(tables) && !c; i++) {
        c = find_in(tables[i], name);
    }
    return c;
}

/* name: as it was called. */
static void print_summary(IoSession *s, const IoCommand *c, const char *name)
{
    io_printf(s, "%s ", name);
    if (c->args) {
        io_printf(s, "%s ", c->args);
    }
    io_printf(s, "-- %s\n", c->summary);
}

int io_command_usage(IoSession *s, const char *name, const IoCommand *commands)
{
    print_summary(s, find_command(commands, name), name);
    return -EINVAL;
}

static int by_name(const void *a, const void *b)
{
    const IoCommand *const *x = a, *const *y = b;

    return strcmp((*x)->name, (*y)->name);
}

static void help_all(IoSession *s)
{
    g_autoptr(GPtrArray) all = g_ptr_array_new();

    for (const IoCommand *c = s->commands; c && c->name; c++) {
        g_ptr_array_add(all, (gpointer)c);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(tables); i++) {
        for (const IoCommand *c = tables[i]; c->name; c++) {
            g_ptr_array_add(all, (gpointer)c);
        }
    }
    g_ptr_array_sort(all, by_name);
    for (guint i = 0; i < all->len; i++) {
        const IoCommand *c = all->pdata[i];

        print_summary(s, c, c->name);
    }
    io_printf(s, "\nUse 'help commandname' for extended help.\n");
}

static int coroutine_fn run_help(IoSession *s, int argc, char **argv)
{
    const IoCommand *c;

    if (argc == 1) {
        help_all(s);
        return 0;
    }
    c = find_command(s->commands, argv[1]);
    if (!c) {
        io_printf(s, "command %s not found\n", argv[1]);
        return -EINVAL;
    }
    print_summary(s, c, argv[1]);
    if (c->help) {
        io_printf(s, "\n%s\n", c->help);
    }
    return 0;
}

/* Whether the command may run now; says why not. */
static bool check_call(IoSession *s, const IoCommand *c, const char *name, int args)
{
    if (!c->without_file && !s->blk) {
        io_eprintf(s, "no file open, try 'help open'\n");
        return false;
    }
    if (args < c->min_args || (c->max_args >= 0 && args > c->max_args)) {
        if (c->max_args < 0) {
            io_eprintf(s, "bad argument count %d to %s, expected at least %d arguments\n", args,
                       name, c->min_args);
        } else if (c->min_args == c->max_args) {
            io_eprintf(s, "bad argument count %d to %s, expected %d arguments\n", args, name,
                       c->min_args);
        } else {
            io_eprintf(s, "bad argument count %d to %s, expected between %d and %d arguments\n",
                       args, name, c->min_args, c->max_args);
        }
        return false;
    }
    if (c->writes && bdrv_is_read_only(blk_bs(s->blk))) {
        io_complain(s, "Block node is read-only");
        return false;
    }
    if (c->writes && s->write_error) {
        io_complain(s, "%s", s->write_error->message);
        return false;
    }
    return true;
}

bool coroutine_fn io_command_run(IoSession *s, const char *line)
{
    g_auto(GStrv) words = g_strsplit_set(line, " \n", -1);
    g_autofree char **argv = g_new0(char *, g_strv_length(words) + 1);
    const IoCommand *c;
    int argc = 0;
    bool ok;

    for (int i = 0; words[i]; i++) {
        if (*words[i]) {
            argv[argc++] = words[i];
        }
    }
    if (argc == 0) {
        return true;
    }
    c = find_command(s->commands, argv[0]);
    if (!c) {
        io_eprintf(s, "command \"%s\" not found\n", argv[0]);
        return false;
    }
    s->refs++;
    ok = check_call(s, c, argv[0], argc - 1) && c->run(s, argc, argv) >= 0;
    io_flush(s);
    io_session_unref(s);
    return ok;
}

/* --- Options --------------------------------------------------------------------------------- */

static const IoLetter *find_letter(const IoLetter *letters, int c)
{
    while (letters->letter && letters->letter != c) {
        letters++;
    }
    return letters->letter ? letters : NULL;
}

int io_parse_letters(IoSession *s, int argc, char **argv, const IoLetter *letters)
{
    g_autoptr(GString) known = g_string_new(NULL);
    int c;

    for (const IoLetter *l = letters; l->letter; l++) {
        g_string_append_printf(known, "%c%s", l->letter, l->kind >= IO_LETTER_TEXT ? ":" : "");
    }
    optind = 0;
    while ((c = getopt(argc, argv, known->str)) != -1) {
        const IoLetter *l = find_letter(letters, c);

        if (!l) {
            io_command_usage(s, argv[0], NULL);
            return -1;
        }
        if (l->kind == IO_LETTER_FLAG || l->kind == IO_LETTER_STOP) {
            *(bool *)l->to = true;
        } else if (l->kind == IO_LETTER_TEXT) {
            *(const char **)l->to = optarg;
        } else if (l->kind == IO_LETTER_BYTE && !io_parse_pattern(s, optarg, l->to)) {
            return -1;
        }
        if (l->given) {
            *l->given = true;
        }
        if (l->kind == IO_LETTER_STOP) {
            break;
        }
    }
    return optind;
}

/* --- Numbers --------------------------------------------------------------------------------- */

/* Whether text would be a size if it were not so large. */
static bool is_large_number(const char *text)
{
    size_t digits = strspn(text, "0123456789.");

    if (g_str_has_prefix(text, "0x") || g_str_has_prefix(text, "0X")) {
        return text[2] && strspn(text + 2, "0123456789abcdefABCDEF") == strlen(text + 2);
    }
    return g_ascii_isdigit(*text) && strlen(text + digits) <= 1 &&
           (!text[digits] || strchr("bkmgtpeBKMGTPE", text[digits]));
}

bool io_parse_bytes(IoSession *s, const char *text, int64_t *bytes)
{
    uint64_t value = UINT64_MAX;
    bool ok = qapi_parse_size(text, &value);

    if (ok && value <= INT64_MAX) {
        *bytes = value;
        return true;
    }
    io_printf(s, ok || is_large_number(text)
                     ? "Parsing error: argument too large -- %s\n"
                     : "Parsing error: non-numeric argument, or extraneous/unrecognized suffix -- "
                       "%s\n", text);
    return false;
}

bool io_parse_pattern(IoSession *s, const char *text, int *pattern)
{
    char *end;
    long value = strtol(text, &end, 0);

    if (!*text || *end || value < 0 || value > 255) {
        io_printf(s, "%s is not a valid pattern byte\n", text);
        return false;
    }
    *pattern = value;
    return true;
}

char *io_format_size(double bytes)
{
    static const char *const units[] = { "bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
    size_t unit = 0;
    char *number, *point;

    while (bytes >= 1024 && unit + 1 < G_N_ELEMENTS(units)) {
        bytes /= 1024;
        unit++;
    }
    number = g_strdup_printf(unit ? "%.3f" : "%f", bytes);
    point = strchr(number, '.');
    if (point && strspn(point + 1, "0") == strlen(point + 1)) {
        *point = '\0';
    }
    point = g_strdup_printf("%s %s", number, units[unit]);
    g_free(number);
    return point;
}

static char *format_time(int64_t ns, bool full)
{
    int64_t seconds = ns / 1000000000;
    int hundredths = ns / 10000000 % 100;

    if (!full && seconds < 60) {
        return g_strdup_printf("%02d.%02d sec", (int)seconds, hundredths);
    }
    return g_strdup_printf("%" PRId64 ":%02d:%02d.%02d", seconds / 3600,
                           (int)(seconds / 60 % 60), (int)(seconds % 60), hundredths);
}

void io_report(IoSession *s, const IoReport *r, int64_t offset, int64_t bytes)
{
    int64_t ns = MAX(clock_now_ns() - r->start_ns, 1);
    double seconds = ns / 1e9;
    g_autofree char *size = io_format_size(bytes);
    g_autofree char *rate = io_format_size(bytes / seconds);
    g_autofree char *time = format_time(ns, r->machine);

    if (r->quiet) {
        return;
    }
    if (r->machine) {
        io_printf(s, "%" PRId64 ",1,%s,%.3f,%.3f\n", bytes, time, bytes / seconds, 1 / seconds);
        return;
    }
    io_printf(s, "%s %" PRId64 "/%" PRId64 " bytes at offset %" PRId64 "\n", r->verb, bytes, bytes,
              offset);
    io_printf(s, "%s, 1 ops; %s (%s/sec and %.4f ops/sec)\n", size, time, rate, 1 / seconds);
}

/* --- Buffers --------------------------------------------------------------------------------- */

typedef struct Buffer {
    uint8_t *mem;
    size_t size;
    int fill;
} Buffer;

static int fill_buffer(void *opaque)
{
    Buffer *b = opaque;

    b->mem = g_aligned_alloc(1, b->size + 1, 4096); /* glibc's MALLOC_PERTURB_ fills it, too */
    memset(b->mem, b->fill, b->size);
    return 0;
}

void *coroutine_fn io_buffer_new(IoSession *s, size_t bytes, int fill)
{
    size_t extra = s->misalign ? MISALIGN : 0;
    Buffer b = { NULL, bytes + extra, fill };

    io_run(s, fill_buffer, &b, b.size);
    return b.mem + extra;
}

static int free_buffer(void *mem)
{
    g_aligned_free(mem);
    return 0;
}

void coroutine_fn io_buffer_free(IoSession *s, void *buf, size_t bytes)
{
    /* Giving back 48 MiB takes 5 ms. */
    io_run(s, free_buffer, (uint8_t *)buf - (s->misalign ? MISALIGN : 0), bytes);
}

bool io_buffer_matches(const void *buf, int pattern, size_t len)
{
    const uint8_t *p = buf;

    return len == 0 || (p[0] == pattern && !memcmp(p, p + 1, len - 1));
}

void io_buffer_dump(IoSession *s, const void *buf, int64_t offset, size_t len)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *p = buf;

    for (size_t i = 0; i < len; i += 16) {
        char hex[16 * 3 + 1], text[16 + 1];
        size_t n = MIN(16, len - i);

        for (size_t j = 0; j < n; j++) {
            hex[3 * j] = digits[p[i + j] >> 4];
            hex[3 * j + 1] = digits[p[i + j] & 15];
            hex[3 * j + 2] = ' ';
            text[j] = g_ascii_isalnum(p[i + j]) ? p[i + j] : '.';
        }
        hex[3 * n] = text[n] = '\0';
        io_printf(s, "%08" PRIx64 ":  %s %s\n", offset + i, hex, text);
    }
}

bool coroutine_fn io_buffers_new(IoSession *s, int argc, char **argv, int fill, uint8_t **buf,
                                 IOVector *iov)
{
    g_autofree int64_t *lengths = g_new(int64_t, argc);
    int64_t total = 0;
    uint8_t *p;

    for (int i = 0; i < argc; i++) {
        if (!io_parse_bytes(s, argv[i], &lengths[i])) {
            return false;
        }
        if (lengths[i] > IO_CMD_MAX_BYTES) {
            io_printf(s, "Argument '%s' exceeds maximum size %" PRId64 "\n", argv[i],
                   (int64_t)IO_CMD_MAX_BYTES);
            return false;
        }
        if (total > IO_CMD_MAX_BYTES - lengths[i]) {
            io_printf(s, "The total number of bytes exceed the maximum size %" PRId64 "\n",
                   (int64_t)IO_CMD_MAX_BYTES);
            return false;
        }
        total += lengths[i];
    }
    *buf = p = io_buffer_new(s, total, fill);
    io_vector_init(iov, argc);
    for (int i = 0; i < argc; i++) {
        io_vector_add(iov, p, lengths[i]);
        p += lengths[i];
    }
    return true;
}

/* --- Requests -------------------------------------------------------------------------------- */

int coroutine_fn io_cmd_read(IoSession *s, int64_t offset, IOVector *iov)
{
    int ret;

    bdrv_co_move_to(bdrv_context(blk_bs(s->blk)));
    ret = blk_co_preadv(s->blk, offset, iov->size, iov, 0);
    bdrv_co_move_to(main_aio_context());
    return ret;
}

int coroutine_fn io_cmd_write(IoSession *s, int64_t offset, IOVector *iov, int flags)
{
    int ret;

    bdrv_co_move_to(bdrv_context(blk_bs(s->blk)));
    flags |= s->write_through ? BDRV_REQ_FUA : 0;
    ret = blk_co_pwritev(s->blk, offset, iov->size, iov, flags);
    bdrv_co_move_to(main_aio_context());
    return ret;
}

int coroutine_fn io_cmd_write_zeroes(IoSession *s, int64_t offset, int64_t bytes, int flags)
{
    int ret;

    bdrv_co_move_to(bdrv_context(blk_bs(s->blk)));
    flags |= s->write_through ? BDRV_REQ_FUA : 0;
    ret = blk_co_pwrite_zeroes(s->blk, offset, bytes, flags);
    bdrv_co_move_to(main_aio_context());
    return ret;
}

int coroutine_fn io_cmd_load_vmstate(IoSession *s, int64_t offset, IOVector *iov)
{
    BlockDriverState *bs = blk_bs(s->blk);
    int ret;

    bdrv_co_move_to(bdrv_context(bs));
    ret = bdrv_co_load_vmstate(bs, offset, iov);
    bdrv_co_move_to(main_aio_context());
    return ret;
}

int coroutine_fn io_cmd_save_vmstate(IoSession *s, int64_t offset, IOVector *iov)
{
    BlockDriverState *bs = blk_bs(s->blk);
    int ret;

    bdrv_co_move_to(bdrv_context(bs));
    ret = bdrv_co_save_vmstate(bs, offset, iov);
    if (ret >= 0 && s->write_through) {
        ret = blk_co_flush(s->blk);
    }
    bdrv_co_move_to(main_aio_context());
    return ret;
}
