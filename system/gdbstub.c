/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The debugger's connection.  One coroutine in the main thread takes packets and answers
 * them; while it waits - for bytes, for the guest to stop - nothing else does.
 *
 * A debugger that connects stops the guest; one that goes away leaves it as it is and takes
 * its breakpoints with it.  While the guest runs any byte from the debugger stops it.
 */
#include <string.h>

#include "gdb-int.h"
#include "hw/machine-lock.h"
#include "monitor/monitor.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-char.h"
#include "system/cpus.h"
#include "system/gdbstub.h"
#include "system/run-state.h"
#include "system/trace.h"
#include "util/aio.h"

#define LABEL "gdb"

static GdbStub *stub;
static bool restarting; /* a client's gdbserver command is at work */
static bool shut_down;  /* the end of the program: no stub begins any more */

/* --- The guest ------------------------------------------------------------------------- */

void coroutine_fn gdb_hold(GdbStub *s)
{
    cpus_hold();
    cpus_co_wait_stopped();
}

void gdb_let_go(GdbStub *s)
{
    cpus_release();
}

void coroutine_fn gdb_clear(GdbStub *s)
{
    gdb_hold(s);
    machine_lock();
    s->debug->clear(s->cpu);
    machine_unlock();
    gdb_let_go(s);
}

void coroutine_fn gdb_resume(GdbStub *s, bool step)
{
    gdb_hold(s);
    machine_lock();
    s->debug->set_step(s->cpu, step);
    machine_unlock();
    if (step) {
        cpus_unhalt();
    }
    gdb_let_go(s);
    s->resumed = true;
    /* A state that cannot be left is reported at once, as the reason of a stop. */
    run_state_co_cont(NULL);
}

/* Whether the guest stands because somebody wants that, and not for a moment. */
static bool guest_stands(void)
{
    switch (run_state()) {
    case RUN_STATE_RUNNING:
    case RUN_STATE_SAVE_VM:
    case RUN_STATE_RESTORE_VM:
    case RUN_STATE_FINISH_MIGRATE:
    case RUN_STATE_INMIGRATE:
        return false;
    default:
        return true;
    }
}

/* The signal by its number in GDB's protocol, which is not the host's. */
static int stop_signal(RunState state)
{
    switch (state) {
    case RUN_STATE_PAUSED:
        return 2; /* SIGINT */
    case RUN_STATE_SHUTDOWN:
        return 3; /* SIGQUIT */
    case RUN_STATE_INTERNAL_ERROR:
        return 6; /* SIGABRT */
    case RUN_STATE_WATCHDOG:
        return 14; /* SIGALRM */
    case RUN_STATE_IO_ERROR:
        return 23; /* SIGIO */
    default:
        return 5; /* SIGTRAP */
    }
}

void coroutine_fn gdb_send_stop(GdbStub *s)
{
    static const char *const watch_names[] = {
        [CPU_WATCH_READ] = "rwatch", [CPU_WATCH_WRITE] = "watch", [CPU_WATCH_ACCESS] = "awatch"};
    RunState state = run_state();
    g_autoptr(GString) text = g_string_new(NULL);
    CpuStop stop;

    machine_lock();
    stop = s->debug->last_stop(s->cpu);
    machine_unlock();
    g_string_printf(text, "T%02xthread:%s;", stop_signal(state),
                    s->multiprocess ? "p01.01" : "01");
    if (state == RUN_STATE_DEBUG && stop.kind == CPU_STOP_WATCHPOINT) {
        g_string_append_printf(text, "%s:%016" G_GINT64_MODIFIER "x;", watch_names[stop.watch],
                               stop.addr);
    }
    gdb_send(s, text->str, text->len);
}

/* --- Output ---------------------------------------------------------------------------- */

static void coroutine_fn wait_for_event(GdbStub *s)
{
    s->idle = true;
    coroutine_yield();
}

static void wake(GdbStub *s)
{
    if (s->idle) {
        s->idle = false;
        aio_co_wake(s->co);
    }
}

static void coroutine_fn send_raw(GdbStub *s, const char *data, size_t len)
{
    while (len && s->connected && s->peer == s->served && !s->ended) {
        size_t n = chardev_write(s->chr, data, len);

        data += n;
        len -= n;
        if (len) {
            wait_for_event(s);
        }
    }
}

void coroutine_fn gdb_send(GdbStub *s, const char *data, size_t len)
{
    trace_gdbstub_reply(data);
    g_string_truncate(s->sent, 0);
    gdb_frame(s->sent, data, len);
    send_raw(s, s->sent->str, s->sent->len);
}

void coroutine_fn gdb_send_text(GdbStub *s, const char *text)
{
    gdb_send(s, text, strlen(text));
}

/* --- Input ----------------------------------------------------------------------------- */

static void coroutine_fn take_byte(GdbStub *s, uint8_t byte)
{
    switch (gdb_reader_feed(&s->reader, byte)) {
    case GDB_INPUT_PACKET:
        if (!s->no_ack) {
            send_raw(s, "+", 1);
        }
        trace_gdbstub_command(s->reader.data->str);
        gdb_handle_packet(s, s->reader.data);
        break;
    case GDB_INPUT_TOO_LONG:
        if (!s->no_ack) {
            send_raw(s, "+", 1);
        }
        gdb_send_text(s, "E22");
        break;
    case GDB_INPUT_BAD:
        if (!s->no_ack) {
            send_raw(s, "-", 1);
        }
        break;
    case GDB_INPUT_RESEND:
        if (!s->no_ack && s->sent->len) {
            send_raw(s, s->sent->str, s->sent->len);
        }
        break;
    case GDB_INPUT_BREAK: /* the guest stands already */
    case GDB_INPUT_MORE:
        break;
    }
}

/* The first byte while the guest runs: a break, or a packet that needs it to stand. */
static void coroutine_fn interrupt_guest(GdbStub *s)
{
    if (s->input->data[0] == '+') {
        g_byte_array_remove_index(s->input, 0); /* what is left of the acknowledgement of c */
        return;
    }
    if (s->input->data[0] == 3) {
        g_byte_array_remove_index(s->input, 0);
    }
    s->stopping = true;
    run_state_co_stop(RUN_STATE_PAUSED);
}

/* Another peer, or none: what the last one had set up ends with it. */
static void coroutine_fn change_peer(GdbStub *s)
{
    s->served = s->peer;
    s->no_ack = s->multiprocess = s->physical = s->resumed = s->stopping = false;
    g_string_truncate(s->sent, 0);
    gdb_reader_reset(&s->reader);
    gdb_clear(s);
    if (s->connected) {
        run_state_co_stop(RUN_STATE_PAUSED);
    }
}

static void unref_stub(GdbStub *s)
{
    if (--s->refs) {
        return;
    }
    gdb_reader_destroy(&s->reader);
    g_byte_array_unref(s->input);
    g_string_free(s->sent, true);
    g_free(s->own_label);
    g_free(s);
}

static void coroutine_fn stub_run(void *opaque)
{
    GdbStub *s = opaque;

    while (!s->ended) {
        if (s->served != s->peer) {
            change_peer(s);
        } else if (s->resumed && guest_stands()) {
            s->resumed = s->stopping = false;
            gdb_send_stop(s);
        } else if (s->input->len && s->resumed && !s->stopping) {
            interrupt_guest(s);
        } else if (s->input->len && !s->resumed) {
            uint8_t byte = s->input->data[0];

            g_byte_array_remove_index(s->input, 0);
            take_byte(s, byte);
        } else {
            chardev_accept_input(s->chr);
            wait_for_event(s);
        }
    }
    unref_stub(s);
}

/* --- Events ---------------------------------------------------------------------------- */

static size_t can_receive(void *opaque)
{
    GdbStub *s = opaque;

    return s->input->len < GDB_PACKET_MAX ? GDB_PACKET_MAX - s->input->len : 0;
}

static void receive(void *opaque, const uint8_t *buf, size_t len)
{
    GdbStub *s = opaque;

    g_byte_array_append(s->input, buf, len);
    s->stopping = false;
    wake(s);
}

static void event(void *opaque, ChardevEvent event)
{
    GdbStub *s = opaque;

    if (event == CHARDEV_BREAK) {
        receive(s, (const uint8_t *)"\3", 1);
        return;
    }
    s->connected = event == CHARDEV_OPENED;
    s->peer++;
    g_byte_array_set_size(s->input, 0);
    wake(s);
}

static void on_wake(void *opaque)
{
    wake(opaque);
}

static const ChardevFrontOps front_ops = {
    .can_receive = can_receive,
    .receive = receive,
    .event = event,
    .writable = on_wake,
};

/* --- Life ------------------------------------------------------------------------------ */

static void end_stub(void)
{
    GdbStub *s = stub;

    if (!s) {
        return;
    }
    stub = NULL;
    run_state_set_listener(NULL, NULL);
    chardev_attach(s->chr, NULL, NULL);
    s->ended = true;
    s->connected = false;
    wake(s);
}

void gdbstub_end(void)
{
    shut_down = true;
    end_stub();
}

/* Clears what the debugger has set; false if the stub ended meanwhile. */
static bool coroutine_fn clear_stub(GdbStub *s)
{
    bool still;

    s->refs++;
    gdb_clear(s);
    still = stub == s;
    unref_stub(s);
    return still;
}

/* Ends the stub of the running machine; its device too, if it was made for it. */
static bool coroutine_fn stop_stub(GError **errp)
{
    g_autofree char *label = stub ? g_strdup(stub->own_label) : NULL;
    GError *err = NULL;

    if (!stub) {
        return true;
    }
    if (!clear_stub(stub)) {
        error_setg(errp, "gdbstub: somebody else ended it meanwhile");
        return false;
    }
    end_stub();
    if (label) {
        qmp_chardev_remove(label, &err);
    }
    if (err) {
        g_propagate_error(errp, err);
        return false;
    }
    return true;
}

/* A TCP port serves, as everybody expects of -gdb tcp::1234. */
static char *serving_spec(const char *spec)
{
    return g_str_has_prefix(spec, "tcp:") ? g_strconcat(spec, ",server=on,wait=off", NULL)
                                          : g_strdup(spec);
}

/* A stub without a device; NULL and errp. */
static GdbStub *new_stub(const char *spec, GError **errp)
{
    CPUState *cpu;
    const CpuDebugOps *debug = cpus_debug(&cpu, run_state_debug_stop);
    GdbStub *s;

    if (!debug) {
        error_setg(errp, "gdbstub: meaningless to attach gdb to a machine without any CPU.");
        return NULL;
    }
    s = g_new0(GdbStub, 1);
    *s = (GdbStub){.refs = 1, .cpu = cpu, .debug = debug};
    s->own_label = g_str_has_prefix(spec, "chardev:") ? NULL : g_strdup(LABEL);
    s->input = g_byte_array_new();
    s->sent = g_string_new(NULL);
    gdb_reader_init(&s->reader);
    return s;
}

/* Begins on chr; NULL: it could not be made, and errp is set.  s is gone if this fails. */
static bool begin(GdbStub *s, Chardev *chr, GError **errp)
{
    s->chr = chr;
    if (!chr || !chardev_attach(chr, &front_ops, s)) {
        if (chr) {
            error_setg(errp, "Device '%s' is in use", chardev_label(chr));
        }
        unref_stub(s);
        return false;
    }
    stub = s;
    run_state_set_listener(on_wake, s);
    s->co = coroutine_create(stub_run, s);
    aio_co_enter(main_aio_context(), s->co);
    return true;
}

bool gdbstub_start(const char *spec, GError **errp)
{
    g_autofree char *served = serving_spec(spec);
    GdbStub *s;

    if (!strcmp(spec, "none")) {
        return true;
    }
    s = new_stub(spec, errp);
    return s && begin(s, chardev_new_from_spec(LABEL, served, errp), errp);
}

static bool coroutine_fn restart(const char *spec, GError **errp)
{
    g_autofree char *served = serving_spec(spec);
    Chardev *chr;
    GdbStub *s;

    if (!stop_stub(errp)) {
        return false;
    }
    if (!strcmp(spec, "none")) {
        return true;
    }
    s = new_stub(spec, errp);
    if (!s) {
        return false;
    }
    chr = chardev_co_new_from_spec(LABEL, served, errp);
    if (chr && shut_down) {
        error_setg(errp, "gdbstub: the program ends");
        chr = NULL;
    }
    return begin(s, chr, errp);
}

bool coroutine_fn gdbstub_co_restart(const char *spec, GError **errp)
{
    bool ok;

    if (restarting) {
        error_setg(errp, "gdbstub: another gdbserver command has not ended yet");
        return false;
    }
    restarting = true;
    ok = restart(spec, errp);
    restarting = false;
    return ok;
}
