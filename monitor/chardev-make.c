/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Opening a character device from a ChardevOpts.  Main thread. */
#include <stdio.h>
#include <string.h>

#include "monitor/char-log.h"
#include "monitor/chardev-int.h"
#include "qapi/error.h"

static const ChardevDriver *const backends[] = {
    &chardev_socket, &chardev_stdio, &chardev_file, &chardev_pipe, &chardev_pty, &chardev_null,
    &chardev_mux, &chardev_ringbuf, &chardev_memory, &chardev_udp, &chardev_serial,
};

static const char *const common_options[] = {"mux", "logfile", "logappend", NULL};

/* NULL and errp if there is none. */
static const ChardevDriver *find_backend(const char *name, GError **errp)
{
    /* What QEMU has beside them: worth another message than a slip of the pen. */
    static const char *const others[] = {"parallel", "parport", "vc", "msmouse", "wctablet",
                                         "braille", "spicevmc", "spiceport", "qemu-vdagent",
                                         "dbus", "testdev", NULL};

    for (size_t i = 0; i < G_N_ELEMENTS(backends); i++) {
        if (!strcmp(backends[i]->name, name)) {
            return backends[i];
        }
    }
    error_setg(errp, g_strv_contains(others, name) ? "char driver '%s' is not supported"
                                                   : "'%s' is not a valid char driver name", name);
    return NULL;
}

bool chardev_opts_check_backend(const ChardevOpts *opts, GError **errp)
{
    const ChardevDriver *backend = find_backend(opts->backend, errp);

    return backend && chardev_opts_check(opts, common_options, backend->options, errp);
}

/* --- Making a device --------------------------------------------------------------------- */

/* A device in the making: what there is when part of it is done in a worker. */
typedef struct NewChardev {
    Chardev *chr;
    Chardev *mux; /* to be put on it, or NULL */
    CharLog *log; /* of chr, or NULL */
    ChardevOpts *opts;
    GError *err;
} NewChardev;

/* What is to be made, not open yet; with mux=on chr is the device below.  false and errp. */
static bool new_chardev(NewChardev *n, const char *label, ChardevOpts *opts, GError **errp)
{
    const ChardevDriver *backend = find_backend(opts->backend, errp);
    g_autofree char *base = NULL;
    bool mux;

    n->opts = opts;
    if (!backend || !chardev_opts_check(opts, common_options, backend->options, errp) ||
        !chardev_opts_get_bool(opts, "mux", false, &mux, errp)) {
        return false;
    }
    base = g_strconcat(label, "-base", NULL);
    n->chr = chardev_alloc(backend, mux ? base : label);
    n->mux = mux ? chardev_alloc(&chardev_mux, label) : NULL;
    return true;
}

static bool register_one(Chardev *chr, GError **errp)
{
    if (chardev_label_in_use(chr->label)) {
        error_setg(errp, "Duplicate ID '%s' for chardev", chr->label);
        chardev_unref(chr);
        return false;
    }
    chr->opening = true;
    chardev_register(chr);
    return true;
}

/* new_chardev() and all its ids taken: nobody can have one of them meanwhile. */
static bool reserve(NewChardev *n, const char *label, ChardevOpts *opts, GError **errp)
{
    if (!new_chardev(n, label, opts, errp)) {
        return false;
    }
    if (!register_one(n->chr, errp)) {
        g_clear_pointer(&n->mux, chardev_unref);
        return false;
    }
    if (n->mux && !register_one(n->mux, errp)) {
        chardev_unregister(n->chr);
        return false;
    }
    return true;
}

static bool takes_time(const NewChardev *n)
{
    return n->chr->backend->prepare || chardev_opts_get(n->opts, "logfile");
}

static bool prepare(NewChardev *n, GError **errp)
{
    const ChardevDriver *backend = n->chr->backend;

    if (!char_log_open(&n->log, n->chr->label, n->opts, errp)) {
        return false;
    }
    if (backend->prepare && !backend->prepare(n->chr, n->opts, errp)) {
        g_clear_pointer(&n->log, char_log_unref);
        return false;
    }
    return true;
}

/* WorkerFunc */
static int prepare_worker(void *opaque)
{
    NewChardev *n = opaque;

    return prepare(n, &n->err) ? 0 : -1;
}

/* Behind prepare(), main thread. */
static bool open_device(NewChardev *n, GError **errp)
{
    chardev_set_log(n->chr, n->log);
    return n->chr->backend->open(n->chr, n->opts, errp);
}

/* What was reserved goes to work if it has been opened; the device with the label, or NULL. */
static Chardev *finish(NewChardev *n, bool opened)
{
    n->chr->opening = false;
    if (n->mux) {
        n->mux->opening = false;
    }
    if (!opened) {
        if (n->mux) {
            chardev_unregister(n->mux);
        }
        chardev_unregister(n->chr);
        return NULL;
    }
    if (!n->mux) {
        return n->chr;
    }
    chardev_mux_put_on(n->mux, n->chr);
    return n->mux;
}

Chardev *chardev_new_from_table(const char *label, ChardevOpts *opts, GError **errp)
{
    g_autofree char *message = NULL;
    NewChardev n = {0};
    Chardev *chr;

    if (!reserve(&n, label, opts, errp)) {
        return NULL;
    }
    chr = finish(&n, prepare(&n, errp) && open_device(&n, errp));
    message = chr ? chardev_pty_message(chr) : NULL;
    if (message) {
        printf("%s", message);
        fflush(stdout);
    }
    return chr;
}

/* Prepares in a worker, opens; false and errp. */
static bool coroutine_fn co_open(NewChardev *n, GError **errp)
{
    if ((takes_time(n) ? co_run_in_worker(prepare_worker, n) : prepare_worker(n)) < 0) {
        g_propagate_error(errp, n->err);
        return false;
    }
    return open_device(n, errp);
}

Chardev *coroutine_fn chardev_co_new_from_table(const char *label, ChardevOpts *opts, GError **errp)
{
    NewChardev n = {0};

    if (!reserve(&n, label, opts, errp)) {
        return NULL;
    }
    return finish(&n, co_open(&n, errp));
}

Chardev *coroutine_fn chardev_co_new_unregistered(const char *label, ChardevOpts *opts,
                                                  GError **errp)
{
    NewChardev n = {0};

    if (!new_chardev(&n, label, opts, errp)) {
        return NULL;
    }
    if (!co_open(&n, errp)) {
        chardev_unref(n.chr);
        return NULL;
    }
    return n.chr;
}

bool chardev_opts_forbid_wait(ChardevOpts *opts, GError **errp)
{
    bool server, wait;

    if (!chardev_opts_get_bool(opts, "server", false, &server, errp) ||
        !chardev_opts_get_bool(opts, "wait", false, &wait, errp)) {
        return false;
    }
    if (wait) {
        error_setg(errp, CHARDEV_NO_WAIT);
        return false;
    }
    if (server) {
        chardev_opts_set(opts, "wait", "off");
    }
    return true;
}
