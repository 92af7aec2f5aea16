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
#define CTRL_C 3

typedef struct HMPPeer {
    MonitorSession parent;
    HMPSession hmp;
    bool greeted;
    bool idle;        /* co waits for input */
    bool input_ended; /* the user sends no more, and waits for answers */
    Coroutine *co;
    GByteArray *input;
} HMPPeer;

static void peer_print(void *opaque, const char *buf, size_t len)
{
    HMPPeer *p = opaque;

    monitor_session_write(&p->parent, buf, len);
}

static const ReadlineOps peer_readline_ops = {.print = peer_print};

/* --- The coroutine ------------------------------------------------------------------- */

/*
 * Takes what was typed up to the end of a line or a Tab; false if there is neither yet.  One key
 * can make kilobytes of echo: what is typed by a peer that does not read waits.
 */
static bool peer_take_input(HMPPeer *p, ReadlineEvent *event, char **line)
{
    guint i = 0;

    *event = READLINE_MORE;
    while (i < p->input->len && *event == READLINE_MORE &&
           chardev_pending(p->parent.chr) <= MONITOR_QUEUE_HIGH) {
        *event = readline_input(p->hmp.readline, p->input->data[i++], line);
    }
    if (i) {
        g_byte_array_remove_range(p->input, 0, i);
    }
    return *event != READLINE_MORE;
}

static void coroutine_fn peer_complete(HMPPeer *p)
{
    g_autofree char *text = readline_text(p->hmp.readline);
    uint64_t more;
    g_autoptr(GPtrArray) words = hmp_complete_line(&p->hmp, text, &more);

    if (p->parent.chr) {
        readline_complete(p->hmp.readline, words, more);
    }
}

static void coroutine_fn peer_run_line(HMPPeer *p, const char *line)
{
    hmp_run_line(&p->hmp, line);
    hmp_set_interrupt(&p->hmp, NULL, NULL);
    hmp_flush(&p->hmp);
    if (p->parent.chr) {
        readline_show(p->hmp.readline);
    }
}

static void coroutine_fn peer_run(void *opaque)
{
    HMPPeer *p = opaque;

    while (p->parent.chr) {
        bool was_full = p->input->len >= INPUT_MAX;
        g_autofree char *line = NULL;
        ReadlineEvent event;
        bool taken = peer_take_input(p, &event, &line);

        if (was_full && p->input->len < INPUT_MAX) {
            chardev_accept_input(p->parent.chr);
        }
        if (!taken && p->input->len) {
            monitor_session_wait_for_room(&p->parent);
        } else if (!taken) {
            if (p->input_ended) {
                chardev_finish(p->parent.chr);
            }
            p->idle = true;
            monitor_session_wait_for_input(&p->parent);
        } else if (event == READLINE_COMPLETE) {
            peer_complete(p);
        } else {
            peer_run_line(p, line);
        }
        monitor_session_give_way(&p->parent);
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
    const uint8_t *ctrl_c = len ? memrchr(buf, CTRL_C, len) : NULL;

    /* Ctrl-C ends what a command waits for, and what was typed in front of it is void. */
    if (ctrl_c && p->hmp.interrupt) {
        g_byte_array_set_size(p->input, 0);
        len -= ctrl_c + 1 - buf;
        buf = ctrl_c + 1;
        p->hmp.interrupt(p->hmp.interrupt_opaque);
    }
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

static void hmp_input_ended(MonitorSession *session)
{
    HMPPeer *p = (HMPPeer *)session;

    p->input_ended = true;
    peer_wake(p);
}

static void hmp_closed(MonitorSession *session)
{
    HMPPeer *p = (HMPPeer *)session;

    hmp_end_reader(&p->hmp);
    peer_wake(p);
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
    .input_ended = hmp_input_ended,
    .closed = hmp_closed,
    .free = hmp_free,
};
