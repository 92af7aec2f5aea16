/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The log: which items are wanted, and where lines go.  They go through an outlet, so a stderr
 * that nobody reads, or a slow disk, stops that outlet's thread and no other.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "outlet.h"
#include "util/errno-text.h"
#include "util/log.h"
#include "util/trace-event.h"

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

static Outlet log_file = OUTLET_INIT("log", -1); /* without a file: outlet_stderr */

static void append(const char *text, size_t len)
{
    if (!outlet_put(&log_file, text, len, false)) {
        outlet_put(&outlet_stderr, text, len, false);
    }
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
    outlet_flush(&log_file);
    outlet_flush(&outlet_stderr);
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
    int fd = -1;

    if (filename && !name) {
        return false;
    }
    if (name) {
        fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0666);
        if (fd < 0) {
            g_set_error(errp, G_FILE_ERROR, g_file_error_from_errno(errno),
                        "Error opening logfile %s: %s", name, errno_text(errno));
            return false;
        }
    }
    outlet_set_fd(&log_file, fd);
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
