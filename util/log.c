/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The log's buffer and its thread.  Who logs appends to the buffer under a leaf lock; the
 * thread takes all of it and writes it, so a stderr that nobody reads, or a slow disk,
 * stops this thread and no other.  The thread begins with the first line, that is behind
 * the fork of a program that goes to the background.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "util/log.h"
#include "util/trace-event.h"

#define BUFFER_MAX (1024 * 1024)
#define FLUSH_SECONDS 1

unsigned log_items;

static const struct {
    const char *name;
    unsigned item; /* 0: QEMU has it */
    const char *help;
} items[] = {
    {"int", LOG_INT, "show interrupts/exceptions in short format"},
    {"cpu_reset", LOG_CPU_RESET, "show CPU state before CPU resets"},
    {"unimp", LOG_UNIMP, "log unimplemented functionality"},
    {"guest_errors", LOG_GUEST_ERRORS,
     "log when the guest OS does something invalid (eg accessing a\nnon-existent register)"},
    {"out_asm", 0, NULL}, {"in_asm", 0, NULL}, {"op", 0, NULL}, {"op_opt", 0, NULL},
    {"op_ind", 0, NULL}, {"exec", 0, NULL}, {"cpu", 0, NULL}, {"fpu", 0, NULL}, {"mmu", 0, NULL},
    {"pcall", 0, NULL}, {"page", 0, NULL}, {"nochain", 0, NULL}, {"plugin", 0, NULL},
    {"strace", 0, NULL}, {"tid", 0, NULL},
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t more = PTHREAD_COND_INITIALIZER;
static pthread_cond_t idle = PTHREAD_COND_INITIALIZER;
static GString *buffer; /* not yet written */
static uint64_t lost;   /* lines that found no room */
static bool running;
static int writing_fd = -1; /* where the thread writes to just now */
static bool old_is_retired; /* writing_fd is not log_fd any more */
static int log_fd = STDERR_FILENO;

/* --- The thread ------------------------------------------------------------------------- */

static void write_all(int fd, const char *data, size_t len)
{
    while (len) {
        ssize_t n = write(fd, data, len);

        if (n < 0 && errno != EINTR && errno != EAGAIN) {
            return; /* nobody is there to be told */
        }
        if (n < 0 && errno == EAGAIN) {
            usleep(1000); /* somebody has made our stderr non-blocking */
        }
        n = MAX(n, 0);
        data += n;
        len -= n;
    }
}

static void *log_thread(void *opaque)
{
    GString *text = g_string_new(NULL);

    pthread_setname_np(pthread_self(), "log");
    pthread_mutex_lock(&lock);
    for (;;) {
        GString *empty = text;
        int fd;

        while (!buffer->len) {
            pthread_cond_wait(&more, &lock);
        }
        text = buffer;
        buffer = g_string_truncate(empty, 0);
        if (lost) {
            g_string_append_printf(text, "log: %" PRIu64 " lines lost\n", lost);
            lost = 0;
        }
        writing_fd = fd = log_fd;
        pthread_mutex_unlock(&lock);
        write_all(fd, text->str, text->len);
        pthread_mutex_lock(&lock);
        if (old_is_retired) {
            close(fd);
            old_is_retired = false;
        }
        writing_fd = -1;
        pthread_cond_broadcast(&idle);
    }
    return NULL;
}

/* lock held. */
static bool ensure_thread(void)
{
    sigset_t all, old;
    pthread_t thread;

    if (!running) {
        buffer = buffer ? buffer : g_string_new(NULL);
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &old);
        running = pthread_create(&thread, NULL, log_thread, NULL) == 0;
        pthread_sigmask(SIG_SETMASK, &old, NULL);
        if (running) {
            pthread_detach(thread);
        }
    }
    return running;
}

static void append(const char *text, size_t len)
{
    pthread_mutex_lock(&lock);
    if (ensure_thread() && buffer->len + len <= BUFFER_MAX) {
        g_string_append_len(buffer, text, len);
        pthread_cond_signal(&more);
    } else {
        lost++;
    }
    pthread_mutex_unlock(&lock);
}

static void G_GNUC_PRINTF(1, 0) append_v(const char *format, va_list ap)
{
    char line[512];
    va_list again;
    int len;

    va_copy(again, ap);
    len = vsnprintf(line, sizeof(line), format, ap);
    if (len >= (int)sizeof(line)) {
        g_autofree char *text = g_strdup_vprintf(format, again);

        append(text, len);
    } else if (len > 0) {
        append(line, len);
    }
    va_end(again);
}

void log_printf(const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    append_v(format, ap);
    va_end(ap);
}

void log_flush(void)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += FLUSH_SECONDS;
    pthread_mutex_lock(&lock);
    while (running && (buffer->len || writing_fd >= 0) &&
           pthread_cond_timedwait(&idle, &lock, &until) == 0) {
    }
    pthread_mutex_unlock(&lock);
}

/* --- Where to ------------------------------------------------------------------------------ */

/* The name with the process id for its one "%d". */
static char *expand_name(const char *name, GError **errp)
{
    const char *percent = strchr(name, '%');

    if (!percent) {
        return g_strdup(name);
    }
    if (percent[1] != 'd' || strchr(percent + 1, '%')) {
        g_set_error(errp, G_FILE_ERROR, G_FILE_ERROR_INVAL, "Bad logfile template: %s", name);
        return NULL;
    }
    return g_strdup_printf("%.*s%d%s", (int)(percent - name), name, (int)getpid(), percent + 2);
}

bool log_set_file(const char *filename, GError **errp)
{
    g_autofree char *name = filename ? expand_name(filename, errp) : NULL;
    int fd = STDERR_FILENO, old;

    if (filename && !name) {
        return false;
    }
    if (name) {
        fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0666);
        if (fd < 0) {
            g_set_error(errp, G_FILE_ERROR, g_file_error_from_errno(errno),
                        "Error opening logfile %s: %s", name, g_strerror(errno));
            return false;
        }
    }
    log_flush();
    pthread_mutex_lock(&lock);
    old = log_fd;
    log_fd = fd;
    if (writing_fd == old) {
        old_is_retired = old != STDERR_FILENO; /* closed by who writes to it, when it is done */
        old = STDERR_FILENO;
    }
    pthread_mutex_unlock(&lock);
    if (old != STDERR_FILENO) {
        close(old);
    }
    return true;
}

/* --- What ------------------------------------------------------------------------------------ */

char *log_items_help(bool with_none)
{
    GString *s = g_string_new("Log items (comma separated):\n");

    if (with_none) {
        g_string_append_printf(s, "%-15s %s\n", "none", "remove all logs");
    }
    for (size_t i = 0; i < G_N_ELEMENTS(items); i++) {
        if (items[i].item) {
            g_string_append_printf(s, "%-15s %s\n", items[i].name, items[i].help);
        }
    }
    g_string_append(s, "trace:PATTERN   enable trace events\n\n"
                       "Use \"-d trace:help\" to get a list of trace events.\n\n");
    return g_string_free(s, false);
}

static void enable(TraceEvent *e, void *opaque)
{
    trace_set_enabled(e, true);
}

/* One item: its bit in *mask; false and errp if there is none. */
static bool find_item(const char *name, unsigned *mask, GError **errp)
{
    if (!strcmp(name, "all")) {
        *mask = ~0u;
        return true;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(items); i++) {
        if (!strcmp(items[i].name, name)) {
            *mask = items[i].item;
            if (!items[i].item) {
                g_set_error(errp, G_FILE_ERROR, G_FILE_ERROR_NOSYS,
                            "log item '%s' is not supported: guest code is not translated", name);
            }
            return items[i].item;
        }
    }
    g_set_error(errp, G_FILE_ERROR, G_FILE_ERROR_INVAL, "there is no log item '%s'", name);
    return false;
}

bool log_set_items(const char *text, GError **errp)
{
    g_auto(GStrv) names = g_strsplit(text, ",", -1);
    unsigned mask = 0;

    for (char **name = names; *name; name++) {
        unsigned item = 0;

        if (!strcmp(*name, "none")) {
            mask = 0;
        } else if (g_str_has_prefix(*name, "trace:")) {
            continue;
        } else if (!find_item(*name, &item, errp)) {
            return false;
        }
        mask |= item;
    }
    for (char **name = names; *name; name++) {
        if (g_str_has_prefix(*name, "trace:")) {
            trace_for_each(*name + strlen("trace:"), enable, NULL);
        }
    }
    __atomic_store_n(&log_items, mask, __ATOMIC_RELAXED);
    return true;
}
