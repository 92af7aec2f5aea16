/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * HMP without a terminal: the command tables, running one line, output, help.  Runs in the
 * coroutine of an HMP session or of a QMP human-monitor-command.  Main thread.
 */
#include <string.h>

#include "monitor/hmp-args.h"
#include "monitor/monitor-int.h"
#include "monitor/trace.h"

#define FLUSH_BYTES 4096

static const HMPCommand **tables; /* ends with NULL; the monitor's own first */

void hmp_set_tables(const HMPCommand *const *list, int n)
{
    g_free(tables);
    tables = g_new0(const HMPCommand *, n + 4);
    tables[0] = hmp_own_commands;
    tables[1] = hmp_chardev_commands;
    tables[2] = hmp_trace_commands;
    for (int i = 0; i < n; i++) {
        tables[i + 3] = list[i];
    }
}

void hmp_for_each_command(void (*fn)(const HMPCommand *cmd, void *opaque), void *opaque)
{
    for (const HMPCommand **t = tables; t && *t; t++) {
        for (const HMPCommand *cmd = *t; cmd->name; cmd++) {
            fn(cmd, opaque);
        }
    }
}

/* --- Lookup -------------------------------------------------------------------------- */

/* Whether word[0, len) is one of the alternatives in "name|alias". */
static bool name_matches(const char *names, const char *word, size_t len)
{
    while (true) {
        size_t n = strcspn(names, "|");

        if (n == len && !memcmp(names, word, len)) {
            return true;
        }
        if (!names[n]) {
            return false;
        }
        names += n + 1;
    }
}

static const char *next_word(const char *p, size_t *len)
{
    p += strspn(p, " \t");
    *len = strcspn(p, " \t");
    return p;
}

static const HMPCommand *find_by_word(const char *prefix, const char *word, size_t len)
{
    size_t prefix_len = strlen(prefix);

    for (const HMPCommand **t = tables; t && *t; t++) {
        for (const HMPCommand *cmd = *t; cmd->name; cmd++) {
            if (!strncmp(cmd->name, prefix, prefix_len) &&
                !!strchr(cmd->name, ' ') == !!prefix_len &&
                name_matches(cmd->name + prefix_len, word, len)) {
                return cmd;
            }
        }
    }
    return NULL;
}

const HMPCommand *hmp_find_command(const char *line, const char **rest)
{
    size_t len;
    const char *word = next_word(line, &len);
    bool info = len == 4 && !memcmp(word, "info", 4);

    if (info) {
        size_t sub_len;
        const char *sub = next_word(word + len, &sub_len);

        if (sub_len) {
            *rest = sub + sub_len;
            return find_by_word("info ", sub, sub_len);
        }
    }
    *rest = word + len;
    return find_by_word("", word, len);
}

/* --- Output -------------------------------------------------------------------------- */

void coroutine_fn hmp_flush(HMPSession *s)
{
    if (s->session && s->out->len) {
        monitor_session_write(s->session, s->out->str, s->out->len);
        g_string_truncate(s->out, 0);
        monitor_session_wait_for_room(s->session);
        monitor_session_give_way(s->session);
    }
}

static void append_lines(GString *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '\n') {
            g_string_append_c(out, '\r');
        }
        g_string_append_c(out, *text);
    }
}

void coroutine_fn hmp_printf(HMPSession *s, const char *fmt, ...)
{
    g_autofree char *text = NULL;
    va_list ap;

    va_start(ap, fmt);
    text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    if (!s->session && (s->cut || s->out->len + strlen(text) > HMP_OUTPUT_MAX)) {
        s->cut = true;
        hmp_end_reader(s);
        return;
    }
    append_lines(s->out, text);
    if (s->out->len >= FLUSH_BYTES) {
        hmp_flush(s);
    }
}

bool hmp_is_interactive(HMPSession *s)
{
    return s->session != NULL;
}

struct HMPOutlet {
    MonitorSession *session;
};

HMPOutlet *hmp_outlet_new(HMPSession *s)
{
    HMPOutlet *o = g_new0(HMPOutlet, 1);

    o->session = monitor_session_ref(s->session);
    return o;
}

void hmp_outlet_print(HMPOutlet *o, const char *text)
{
    g_autoptr(GString) out = g_string_new(NULL);

    if (o->session->chr && chardev_pending(o->session->chr) <= MONITOR_QUEUE_LIMIT) {
        append_lines(out, text);
        monitor_session_write(o->session, out->str, out->len);
    }
}

void hmp_outlet_free(HMPOutlet *o)
{
    monitor_session_unref(o->session);
    g_free(o);
}

bool coroutine_fn hmp_handle_error(HMPSession *s, GError *err)
{
    if (!err) {
        return false;
    }
    hmp_printf(s, "Error: %s\n", err->message);
    g_error_free(err);
    return true;
}

void hmp_set_interrupt(HMPSession *s, void (*fn)(void *opaque), void *opaque)
{
    s->interrupt = fn;
    s->interrupt_opaque = opaque;
    s->reader = false;
}

static void set_flag(void *opaque)
{
    *(bool *)opaque = true;
}

void hmp_set_reader(HMPSession *s, bool *ended)
{
    hmp_set_interrupt(s, set_flag, ended);
    s->reader = true;
    *ended = s->cut || s->gone || (s->session && !s->session->chr);
}

void hmp_end_reader(HMPSession *s)
{
    if (s->reader) {
        s->interrupt(s->interrupt_opaque);
    }
}

/* --- Running a line ------------------------------------------------------------------ */

/* The words up to and including the command's name, without superfluous blanks. */
static char *typed_name(const char *line, bool two_words)
{
    size_t len, sub_len;
    const char *word = next_word(line, &len);
    const char *sub = next_word(word + len, &sub_len);

    if (two_words && sub_len) {
        return g_strdup_printf("%.*s %.*s", (int)len, word, (int)sub_len, sub);
    }
    return g_strndup(word, len);
}

void coroutine_fn hmp_run_line(HMPSession *s, const char *line)
{
    size_t len;
    const char *word = next_word(line, &len);
    bool info = len == 4 && !memcmp(word, "info", 4);
    g_autofree char *typed = typed_name(line, info);
    g_autofree char *message = NULL;
    g_autoptr(HMPArgs) args = NULL;
    const HMPCommand *cmd;
    const char *rest;

    if (!len) {
        return;
    }
    trace_handle_hmp_command(s->session, line);
    cmd = hmp_find_command(line, &rest);
    if (!cmd) {
        hmp_printf(s, "unknown command: '%s'\n", typed);
        return;
    }
    args = hmp_args_parse(strchr(cmd->name, ' ') ? strchr(cmd->name, ' ') + 1 : cmd->name,
                          cmd->args_type, rest, &message);
    if (!args) {
        hmp_printf(s, "%s\nTry \"help %s\" for more information\n", message, typed);
        return;
    }
    cmd->handler(s, args);
}
