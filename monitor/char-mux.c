/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Several front ends on one device, usually a serial line and a monitor on a terminal.
 * Output of all goes out; input goes to the front in focus.  Ctrl-A, or what -echr says, is the
 * escape: c moves the focus on, x ends the program, s saves what -snapshot keeps, b sends a break,
 * t puts the time before each line of output, h helps, the escape sends itself.
 * The keys keep working while a front takes no input: what it cannot take is kept, and
 * dropped when INPUT_MAX bytes wait.  Main thread, but for the stamps.
 */
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "monitor/char-log.h"
#include "monitor/chardev-int.h"
#include "qapi/error.h"

#define INPUT_MAX 256

static int escape = 1; /* Ctrl-A; of no byte's value: there is none */
static void (*save_disks)(void); /* NULL: there are none */

typedef struct CharMux CharMux;

typedef struct MuxFront {
    Chardev parent;
    CharMux *mux;
    bool takes_focus;
    bool given_back; /* its front end has gone: the next one gets it */
    size_t len;
    uint8_t input[INPUT_MAX];
} MuxFront;

struct CharMux {
    Chardev parent;
    Chardev *below;
    GPtrArray *fronts;
    MuxFront *focus;
    bool escaped;
    bool stamps;         /* each line of output begins with the time */
    int64_t stamps_since; /* the first of them, which is 0; -1 if there was none.  Below's lock */
};

/* --- Fronts -------------------------------------------------------------------------- */

static void front_deliver(MuxFront *f)
{
    size_t room;

    while (f->len && (room = chardev_front_can_receive(&f->parent)) > 0) {
        uint8_t buf[INPUT_MAX];
        size_t n = MIN(room, f->len);

        memcpy(buf, f->input, n);
        f->len -= n;
        memmove(f->input, f->input + n, f->len);
        chardev_front_receive(&f->parent, buf, n);
    }
}

static void front_accept_input(Chardev *chr)
{
    front_deliver((MuxFront *)chr);
}

static void front_tell_focus(MuxFront *f, bool in)
{
    Chardev *chr = &f->parent;

    if (chr->ops && chr->ops->focus) {
        chr->ops->focus(chr->opaque, in);
    }
}

static void mux_set_focus(CharMux *mux, MuxFront *f)
{
    MuxFront *old = mux->focus;

    if (old == f) {
        return;
    }
    mux->focus = f;
    if (old) {
        front_tell_focus(old, false);
    }
    front_tell_focus(f, true);
}

/* It stays: whatever called the front end may still be at work on it. */
static void front_give_back(MuxFront *f)
{
    f->given_back = true;
    if (f->mux->focus == f) {
        f->mux->focus = NULL;
    }
    chardev_front_writable(&f->parent); /* forgets that somebody waited for room */
}

static void front_attached(Chardev *chr)
{
    MuxFront *f = (MuxFront *)chr;

    if (!chr->ops) {
        front_give_back(f);
        return;
    }
    f->given_back = false;
    if (f->takes_focus || !f->mux->focus) {
        mux_set_focus(f->mux, f);
    }
}

static const ChardevDriver chardev_mux_front_backend = {
    .name = "mux",
    .instance_size = sizeof(MuxFront),
    .accept_input = front_accept_input,
    .attached = front_attached,
};

bool chardev_is_mux_front(Chardev *chr)
{
    return chr->backend == &chardev_mux_front_backend;
}

/* One that was given back, without what its last front end has left; or NULL. */
static MuxFront *reuse_front(CharMux *mux, bool takes_focus)
{
    for (guint i = 0; i < mux->fronts->len; i++) {
        MuxFront *f = g_ptr_array_index(mux->fronts, i);

        if (f->given_back && f->takes_focus == takes_focus) {
            f->given_back = false;
            f->len = 0;
            return f;
        }
    }
    return NULL;
}

Chardev *chardev_mux_front(Chardev *chr, bool takes_focus)
{
    CharMux *mux = (CharMux *)chr;
    MuxFront *f = reuse_front(mux, takes_focus);

    if (f) {
        return &f->parent;
    }
    f = (MuxFront *)chardev_alloc(&chardev_mux_front_backend, chr->label);
    f->mux = mux;
    f->takes_focus = takes_focus;
    f->parent.through = mux->below;
    chardev_set_log(&f->parent, mux->parent.log ? char_log_ref(mux->parent.log) : NULL);
    chardev_set_filename(&f->parent, g_strdup(chardev_filename(mux->below)));
    g_ptr_array_add(mux->fronts, f);
    if (mux->below->connected) {
        chardev_peer_opened(&f->parent, -1, -1, false);
    }
    return &f->parent;
}

/* --- The device below ---------------------------------------------------------------- */

static size_t mux_can_receive(void *opaque)
{
    return INPUT_MAX;
}

static void mux_print(CharMux *mux, const char *text)
{
    chardev_write_all(mux->below, text, strlen(text));
}

/* ChardevFilter: "[hh:mm:ss.mmm] " before each line. */
static size_t mux_stamp(void *opaque, uint8_t last, const uint8_t *buf, size_t len,
                        ChardevInsert *before)
{
    CharMux *mux = opaque;
    const uint8_t *end = memchr(buf, '\n', len);
    int64_t ms;

    if (last == '\n') {
        if (mux->stamps_since < 0) {
            mux->stamps_since = clock_now_ns();
        }
        ms = (clock_now_ns() - mux->stamps_since) / 1000000;
        before->len = g_snprintf(before->text, sizeof(before->text), "[%02d:%02d:%02d.%03d] ",
                                 (int)(ms / 3600000 % 10000), (int)(ms / 60000 % 60),
                                 (int)(ms / 1000 % 60), (int)(ms % 1000));
    }
    return end ? (size_t)(end + 1 - buf) : len;
}

/* The line that is being written has none. */
static void mux_toggle_stamps(CharMux *mux)
{
    mux->stamps = !mux->stamps;
    chardev_set_filter(mux->below, CHARDEV_FILTER_STAMPS, NULL, NULL);
    mux->stamps_since = -1;
    if (mux->stamps) {
        chardev_set_filter(mux->below, CHARDEV_FILTER_STAMPS, mux_stamp, mux);
    }
}

static void mux_next(CharMux *mux)
{
    guint at = 0;

    g_ptr_array_find(mux->fronts, mux->focus, &at);
    for (guint i = 1; i <= mux->fronts->len; i++) {
        MuxFront *f = g_ptr_array_index(mux->fronts, (at + i) % mux->fronts->len);

        if (f->parent.ops) {
            mux_set_focus(mux, f);
            return;
        }
    }
}

static char *escape_name(void)
{
    return escape > 0 && escape < 27 ? g_strdup_printf("C-%c", 'a' - 1 + escape)
                                     : g_strdup("Escape-Char");
}

static void mux_help(CharMux *mux)
{
    static const char *const keys[][2] = {
        {"h   ", "print this help"},
        {"x   ", "exit emulator"},
        {"s   ", "save disk data back to file (if -snapshot)"},
        {"t   ", "toggle console timestamps"},
        {"b   ", "send break (magic sysrq)"},
        {"c   ", "switch between console and monitor"},
    };
    g_autofree char *name = escape_name();
    g_autoptr(GString) text = g_string_new("\n\r");

    if (*name != 'C') {
        g_string_append_printf(text, "Escape-Char set to Ascii: 0x%02x\n\r\n\r", escape);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(keys); i++) {
        g_string_append_printf(text, "%s %s %s\n\r", name, keys[i][0], keys[i][1]);
    }
    g_string_append_printf(text, "%s %s  sends %s\n\r", name, name, name);
    mux_print(mux, text->str);
}

static void mux_key(CharMux *mux, uint8_t c)
{
    switch (c) {
    case 'h':
    case '?':
        mux_help(mux);
        break;
    case 'x':
        mux_print(mux, "QEMU: Terminated\n\r");
        kill(getpid(), SIGTERM);
        break;
    case 's':
        if (save_disks) {
            save_disks();
        }
        break;
    case 't':
        mux_toggle_stamps(mux);
        break;
    case 'b':
        if (mux->focus) {
            chardev_front_event(&mux->focus->parent, CHARDEV_BREAK);
        }
        break;
    case 'c':
        mux_next(mux);
        break;
    }
}

static void mux_receive(void *opaque, const uint8_t *buf, size_t len)
{
    CharMux *mux = opaque;

    for (size_t i = 0; i < len; i++) {
        MuxFront *f = mux->focus;

        if (mux->escaped && buf[i] != escape) {
            mux->escaped = false;
            mux_key(mux, buf[i]);
            continue;
        }
        if (!mux->escaped && buf[i] == escape) {
            mux->escaped = true;
            continue;
        }
        mux->escaped = false;
        if (f && f->len == INPUT_MAX) {
            front_deliver(f);
        }
        if (f && f->len < INPUT_MAX) {
            f->input[f->len++] = buf[i];
        }
        /* What follows may move the focus: the front must have its share before. */
        if (f && (i + 1 == len || buf[i + 1] == escape)) {
            front_deliver(f);
        }
    }
}

static void mux_event(void *opaque, ChardevEvent event)
{
    CharMux *mux = opaque;

    for (guint i = 0; i < mux->fronts->len; i++) {
        Chardev *chr = g_ptr_array_index(mux->fronts, i);

        switch (event) {
        case CHARDEV_OPENED:
            chardev_peer_opened(chr, -1, -1, false);
            break;
        case CHARDEV_CLOSED:
            chardev_peer_lost(chr);
            break;
        case CHARDEV_BREAK:
            chardev_front_event(chr, event);
            break;
        }
    }
}

static void mux_writable(void *opaque)
{
    CharMux *mux = opaque;

    for (guint i = 0; i < mux->fronts->len; i++) {
        chardev_front_writable(g_ptr_array_index(mux->fronts, i));
    }
}

void chardev_set_escape(int c)
{
    escape = c;
}

void chardev_set_save_disks(void (*fn)(void))
{
    save_disks = fn;
}

static const ChardevFrontOps mux_ops = {
    .can_receive = mux_can_receive,
    .receive = mux_receive,
    .event = mux_event,
    .writable = mux_writable,
};

/* --- The multiplexer as a device with an id ------------------------------------------ */

static Chardev *mux_find(Chardev *chr)
{
    return chardev_mux_front(chr, true);
}

static void mux_close(Chardev *chr)
{
    CharMux *mux = (CharMux *)chr;

    mux->focus = NULL;
    for (guint i = 0; mux->fronts && i < mux->fronts->len; i++) {
        Chardev *f = g_ptr_array_index(mux->fronts, i);

        chardev_close(f);
        chardev_unref(f);
    }
    g_clear_pointer(&mux->fronts, g_ptr_array_unref);
    if (mux->below) {
        chardev_set_filter(mux->below, CHARDEV_FILTER_STAMPS, NULL, NULL);
        chardev_attach(mux->below, NULL, NULL);
        chardev_unref(mux->below);
        mux->below = mux->parent.through = NULL;
    }
}

static bool mux_has_fronts(Chardev *chr)
{
    CharMux *mux = (CharMux *)chr;

    for (guint i = 0; i < mux->fronts->len; i++) {
        MuxFront *f = g_ptr_array_index(mux->fronts, i);

        if (!f->given_back) {
            return true;
        }
    }
    return false;
}

void chardev_mux_put_on(Chardev *chr, Chardev *below)
{
    CharMux *mux = (CharMux *)chr;

    mux->below = chardev_ref(below);
    mux->fronts = g_ptr_array_new();
    mux->parent.through = below;
    chardev_attach(below, &mux_ops, mux);
}

static bool mux_open(Chardev *chr, ChardevOpts *opts, GError **errp)
{
    const char *id = chardev_opts_get(opts, "chardev");
    Chardev *below = chardev_find_device(id);

    if (!below) {
        error_setg(errp, "mux: base chardev %s not found", id);
        return false;
    }
    if (chardev_is_busy(below) || chardev_is_mux(below)) {
        error_setg(errp, "Device '%s' is in use", id);
        return false;
    }
    chardev_mux_put_on(chr, below);
    return true;
}

static const char *const mux_options[] = {"chardev", NULL};

const ChardevDriver chardev_mux = {
    .name = "mux",
    .instance_size = sizeof(CharMux),
    .options = mux_options,
    .open = mux_open,
    .close = mux_close,
    .find = mux_find,
    .has_fronts = mux_has_fronts,
};

bool chardev_is_mux(Chardev *chr)
{
    return chr->backend == &chardev_mux;
}
