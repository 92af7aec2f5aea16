/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An HMP session on a character device: banner, prompt, line editing, and a coroutine that
 * runs one line after the other.  What is typed while a command runs waits, up to
 * INPUT_MAX bytes.  Main thread.
 */
#include <string.h>

#include "config-host.h"
#include "monitor/monitor-int.h"
#include "monitor/readline.h"

#define INPUT_MAX 4096

typedef struct HMPPeer {
    MonitorSession parent;
    HMPSession hmp;
    bool greeted;
    bool idle; /* co waits for input */
    Coroutine *co;
    GByteArray *input;
} HMPPeer;

static void peer_print(void *opaque, const char *buf, size_t len)
{
    HMPPeer *p = opaque;

    monitor_session_write(&p->parent, buf, len);
}

/* --- Completion ---------------------------------------------------------------------- */

typedef struct Completion {
    bool info;
    const char *word;
    size_t len;
    GPtrArray *found;
} Completion;

static void complete_command(const HMPCommand *cmd, void *opaque)
{
    Completion *c = opaque;
    const char *blank = strchr(cmd->name, ' ');
    g_auto(GStrv) names = NULL;

    if (!!blank != c->info) {
        return;
    }
    names = g_strsplit(blank ? blank + 1 : cmd->name, "|", -1);
    for (char **name = names; *name; name++) {
        if (!strncmp(*name, c->word, c->len)) {
            g_ptr_array_add(c->found, g_strdup(*name));
        }
    }
}

static gint compare_words(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Names of commands; behind "help" and "info" too. */
static GPtrArray *peer_complete(void *opaque, const char *line, size_t len)
{
    g_autofree char *text = g_strndup(line, len);
    g_auto(GStrv) words = g_strsplit_set(g_strchug(text), " ", -1);
    guint n = g_strv_length(words), at = 0;
    Completion c = {0};

    if (at + 1 < n && (!strcmp(words[at], "help") || !strcmp(words[at], "?"))) {
        at++;
    }
    if (at + 1 < n && !strcmp(words[at], "info")) {
        at++;
        c.info = true;
    }
    if (at + 1 != n) {
        return NULL;
    }
    c.word = words[at];
    c.len = strlen(c.word);
    c.found = g_ptr_array_new_with_free_func(g_free);
    hmp_for_each_command(complete_command, &c);
    g_ptr_array_sort(c.found, compare_words);
    return c.found;
}

static const ReadlineOps peer_readline_ops = {
    .print = peer_print,
    .complete = peer_complete,
};

/* --- The coroutine ------------------------------------------------------------------- */

/* The next whole line of the input, NULL if there is none yet. */
static char *peer_take_line(HMPPeer *p)
{
    char *line = NULL;
    guint i = 0;

    while (i < p->input->len && !line) {
        line = readline_input(p->hmp.readline, p->input->data[i++]);
    }
    if (i) {
        g_byte_array_remove_range(p->input, 0, i);
    }
    return line;
}

static void coroutine_fn peer_run(void *opaque)
{
    HMPPeer *p = opaque;

    while (p->parent.chr) {
        bool was_full = p->input->len >= INPUT_MAX;
        g_autofree char *line = peer_take_line(p);

        if (was_full) {
            chardev_accept_input(p->parent.chr);
        }
        if (!line) {
            p->idle = true;
            coroutine_yield();
            continue;
        }
        hmp_run_line(&p->hmp, line);
        hmp_flush(&p->hmp);
        if (p->parent.chr) {
            readline_show(p->hmp.readline);
        }
    }
    monitor_session_unref(&p->parent);
}

static void peer_wake(HMPPeer *p)
{
    if (p->idle) {
        p->idle = false;
        aio_co_wake(p->co);
    }
}

/* --- The kind ------------------------------------------------------------------------ */

static void peer_greet(HMPPeer *p)
{
    static const char banner[] =
        "Keyframe " KEYFRAME_VERSION " monitor - type 'help' for more information\r\n";

    if (!p->greeted) {
        p->greeted = true;
        monitor_session_write(&p->parent, banner, strlen(banner));
    }
    readline_show(p->hmp.readline);
}

static MonitorSession *hmp_open(MonitorPort *port, Chardev *chr)
{
    HMPPeer *p = g_new0(HMPPeer, 1);

    monitor_session_init(&p->parent, &monitor_hmp, chr);
    p->hmp.session = &p->parent;
    p->hmp.out = g_string_new(NULL);
    p->hmp.readline = readline_new(&peer_readline_ops, p, "(qemu) ", port->use_readline);
    p->input = g_byte_array_new();
    /* Behind a multiplexer the banner waits until the user turns to the monitor. */
    if (!chardev_is_mux_front(chr)) {
        peer_greet(p);
    }
    monitor_session_ref(&p->parent);
    p->co = coroutine_create(peer_run, p);
    aio_co_enter(main_aio_context(), p->co);
    return &p->parent;
}

static size_t hmp_can_receive(MonitorSession *session)
{
    HMPPeer *p = (HMPPeer *)session;

    return p->input->len < INPUT_MAX ? INPUT_MAX - p->input->len : 0;
}

static void hmp_receive(MonitorSession *session, const uint8_t *buf, size_t len)
{
    HMPPeer *p = (HMPPeer *)session;

    g_byte_array_append(p->input, buf, len);
    peer_wake(p);
}

static void hmp_focus(MonitorSession *session, bool in)
{
    HMPPeer *p = (HMPPeer *)session;

    if (in) {
        peer_greet(p);
    } else if (p->greeted) {
        monitor_session_write(session, "\r\n", 2);
    }
}

static void hmp_closed(MonitorSession *session)
{
    peer_wake((HMPPeer *)session);
}

static void hmp_free(MonitorSession *session)
{
    HMPPeer *p = (HMPPeer *)session;

    readline_free(p->hmp.readline);
    g_string_free(p->hmp.out, true);
    g_byte_array_unref(p->input);
    g_free(p);
}

const MonitorKind monitor_hmp = {
    .open = hmp_open,
    .can_receive = hmp_can_receive,
    .receive = hmp_receive,
    .focus = hmp_focus,
    .closed = hmp_closed,
    .free = hmp_free,
};
