/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The list of trace points, and what -trace says about them. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "util/errno-text.h"
#include "util/log.h"
#include "util/trace-event.h"

static TraceGroup *groups; /* constant from main() on */
static bool timestamps;    /* atomic */

void trace_register(TraceGroup *group)
{
    TraceGroup **p = &groups;

    while (*p) {
        p = &(*p)->next;
    }
    *p = group;
}

void trace_print(const char *format, ...)
{
    char stamp[64] = "";
    g_autofree char *text = NULL;
    va_list ap;

    if (__atomic_load_n(&timestamps, __ATOMIC_RELAXED)) {
        struct timeval now;

        gettimeofday(&now, NULL);
        snprintf(stamp, sizeof(stamp), "%d@%" PRId64 ".%06" PRId64 ":", (int)getpid(),
                 (int64_t)now.tv_sec, (int64_t)now.tv_usec);
    }
    va_start(ap, format);
    text = g_strdup_vprintf(format, ap);
    va_end(ap);
    log_printf("%s%s", stamp, text);
}

void trace_set_timestamps(bool on)
{
    __atomic_store_n(&timestamps, on, __ATOMIC_RELAXED);
}

bool trace_is_pattern(const char *name)
{
    return strpbrk(name, "*?") != NULL;
}

void trace_set_enabled(TraceEvent *e, bool enabled)
{
    __atomic_store_n(&e->enabled, enabled, __ATOMIC_RELAXED);
}

void trace_for_each(const char *pattern, void (*fn)(TraceEvent *e, void *opaque), void *opaque)
{
    for (TraceGroup *g = groups; g; g = g->next) {
        for (TraceEvent *const *e = g->events; *e; e++) {
            if (!pattern || g_pattern_match_simple(pattern, (*e)->name)) {
                fn(*e, opaque);
            }
        }
    }
}

TraceEvent *trace_find(const char *name)
{
    for (TraceGroup *g = groups; g; g = g->next) {
        for (TraceEvent *const *e = g->events; *e; e++) {
            if (!strcmp((*e)->name, name)) {
                return *e;
            }
        }
    }
    return NULL;
}

static void print_name(TraceEvent *e, void *opaque)
{
    g_print("%s\n", e->name);
}

void trace_list(void)
{
    trace_for_each(NULL, print_name, NULL);
}

/* --- -trace ----------------------------------------------------------------------------- */

static void set_on(TraceEvent *e, void *opaque)
{
    trace_set_enabled(e, true);
}

static void set_off(TraceEvent *e, void *opaque)
{
    trace_set_enabled(e, false);
}

/* "NAME", "PATTERN", "-NAME"; where: of a line in a file, or "". */
static void switch_by_text(const char *text, const char *where)
{
    bool on = *text != '-';
    const char *name = on ? text : text + 1;

    if (!trace_is_pattern(name) && !trace_find(name)) {
        g_printerr("%s:%s warning: trace event '%s' does not exist\n", g_get_prgname(), where,
                   name);
        return;
    }
    trace_for_each(name, on ? set_on : set_off, NULL);
}

/* A line is a name or a pattern, a comment, or empty. */
static bool switch_by_file(const char *filename, GError **errp)
{
    g_autofree char *content = NULL;
    g_auto(GStrv) lines = NULL;

    if (!g_file_get_contents(filename, &content, NULL, NULL)) {
        g_set_error(errp, G_FILE_ERROR, g_file_error_from_errno(errno), "%s: %s", filename,
                    errno_text(errno));
        return false;
    }
    lines = g_strsplit(content, "\n", -1);
    for (int i = 0; lines[i]; i++) {
        const char *line = g_strstrip(lines[i]);
        g_autofree char *where = g_strdup_printf("%s:%d:", filename, i + 1);

        if (*line && *line != '#') {
            switch_by_text(line, where);
        }
    }
    return true;
}

bool trace_parse_option(const char *text, GError **errp)
{
    g_auto(GStrv) parts = g_strsplit(text, ",", -1);

    for (char **p = parts; *p; p++) {
        const char *equals = strchr(*p, '=');

        if (g_str_has_prefix(*p, "events=")) {
            if (!switch_by_file(*p + strlen("events="), errp)) {
                return false;
            }
        } else if (g_str_has_prefix(*p, "file=")) {
            if (!log_set_file(*p + strlen("file="), errp)) {
                return false;
            }
        } else if (g_str_has_prefix(*p, "enable=")) {
            switch_by_text(*p + strlen("enable="), "");
        } else if (p == parts && !equals) {
            switch_by_text(*p, "");
        } else {
            g_set_error(errp, G_FILE_ERROR, G_FILE_ERROR_INVAL, "Invalid parameter '%.*s'",
                        equals ? (int)(equals - *p) : (int)strlen(*p), *p);
            return false;
        }
    }
    return true;
}
