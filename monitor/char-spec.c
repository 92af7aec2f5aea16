/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Opening a character device from a ChardevOpts, and what becomes one: the short forms of -serial,
 * -monitor and -qmp.  (-chardev: chardev-options.c.)  Main thread.
 */
#include <stdio.h>
#include <string.h>

#include "monitor/char-log.h"
#include "monitor/chardev-int.h"
#include "qapi/error.h"

static const ChardevDriver *const backends[] = {
    &chardev_socket, &chardev_stdio, &chardev_file, &chardev_pipe, &chardev_pty, &chardev_null,
    &chardev_mux, &chardev_ringbuf, &chardev_memory,
};

static const char *const common_options[] = {"mux", "logfile", "logappend", NULL};

/* NULL and errp if there is none. */
static const ChardevDriver *find_backend(const char *name, GError **errp)
{
    /* What QEMU has beside them: worth another message than a slip of the pen. */
    static const char *const others[] = {"serial", "tty", "parallel", "parport", "udp", "vc",
                                         "msmouse", "wctablet", "braille", "spicevmc",
                                         "spiceport", "qemu-vdagent", "dbus", "testdev", NULL};

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

/* "HOST:PORT" or "[V6]:PORT". */
static bool set_host_port(ChardevOpts *opts, const char *text)
{
    const char *colon = strrchr(text, ':');
    g_autofree char *host = NULL;
    size_t len;

    if (!colon || !colon[1]) {
        return false;
    }
    host = g_strndup(text, colon - text);
    len = strlen(host);
    if (len >= 2 && host[0] == '[' && host[len - 1] == ']') {
        host[len - 1] = 0;
        memmove(host, host + 1, len - 1);
    } else if (strchr(host, ':')) {
        return false;
    }
    chardev_opts_set(opts, "host", host);
    chardev_opts_set(opts, "port", colon + 1);
    return true;
}

/* "unix:PATH[,opts]" and "tcp:HOST:PORT[,opts]"; text is what stands behind the colon. */
static bool parse_socket_spec(ChardevOpts *opts, bool tcp, const char *text, GError **errp)
{
    g_autofree char *address = NULL;
    const char *p = text;
    GString *s = g_string_new(NULL);

    while (*p && (*p != ',' || p[1] == ',')) {
        p += *p == ',';
        g_string_append_c(s, *p++);
    }
    address = g_string_free(s, false);
    opts->backend = g_strdup("socket");
    if (!tcp) {
        chardev_opts_set(opts, "path", address);
    } else if (!set_host_port(opts, address)) {
        error_setg(errp, "'tcp:%s' is not a valid char driver: expected tcp:HOST:PORT", text);
        return false;
    }
    return !*p || chardev_opts_parse(opts, p + 1, false, errp);
}

static bool parse_spec(ChardevOpts *opts, const char *spec, GError **errp)
{
    static const char *const plain[] = {"stdio", "pty", "null", NULL};
    /* What QEMU has beside them. */
    static const char *const others[] = {"/dev/", "COM", "vc", "udp:", "telnet:", "tn3270:",
                                         "websocket:", "con:", "msmouse", "wctablet", "braille",
                                         "testdev"};

    if (g_str_has_prefix(spec, "unix:")) {
        return parse_socket_spec(opts, false, spec + 5, errp);
    }
    if (g_str_has_prefix(spec, "tcp:")) {
        return parse_socket_spec(opts, true, spec + 4, errp);
    }
    if (g_str_has_prefix(spec, "file:")) {
        opts->backend = g_strdup("file");
        chardev_opts_set(opts, "path", spec + 5);
        return true;
    }
    if (g_str_has_prefix(spec, "pipe:")) {
        opts->backend = g_strdup("pipe");
        chardev_opts_set(opts, "path", spec + 5);
        return true;
    }
    if (g_strv_contains(plain, spec)) {
        opts->backend = g_strdup(spec);
        return true;
    }
    if (!strcmp(spec, "none")) {
        opts->backend = g_strdup("null");
        return true;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(others); i++) {
        if (g_str_has_prefix(spec, others[i])) {
            error_setg(errp, "char driver '%s' is not supported", spec);
            return false;
        }
    }
    error_setg(errp, "'%s' is not a valid char driver", spec);
    return false;
}

static bool spec_is_id(const char *spec)
{
    return g_str_has_prefix(spec, "chardev:");
}

/* "chardev:ID": NULL and errp if there is none. */
static Chardev *find_from_spec(const char *spec, GError **errp)
{
    const char *id = spec + strlen("chardev:");
    Chardev *chr = chardev_find(id);

    if (!chr) {
        error_setg(errp, "chardev \"%s\" not found", id);
    }
    return chr;
}

static bool spec_has_monitor(const char *spec)
{
    return g_str_has_prefix(spec, "mon:");
}

/* The options of a device that is to be made; NULL and errp. */
static ChardevOpts *opts_from_spec(const char *spec, GError **errp)
{
    g_autoptr(ChardevOpts) opts = chardev_opts_new();
    bool with_monitor = spec_has_monitor(spec);

    if (!parse_spec(opts, with_monitor ? spec + strlen("mon:") : spec, errp)) {
        return NULL;
    }
    if (with_monitor) {
        chardev_opts_set(opts, "mux", "on");
        if (!strcmp(opts->backend, "stdio")) {
            chardev_opts_set(opts, "signal", "off");
        }
    }
    return g_steal_pointer(&opts);
}

/* The front for who has asked for the device; a monitor gets its own before, if it has one. */
static Chardev *front_from_spec(Chardev *chr, const char *spec, GError **errp)
{
    if (!spec_has_monitor(spec)) {
        return chr;
    }
    if (!monitor_add_hmp(chardev_mux_front(chr, false), true, errp)) {
        return NULL;
    }
    return chardev_mux_front(chr, true);
}

Chardev *chardev_new_from_spec(const char *label, const char *spec, GError **errp)
{
    g_autoptr(ChardevOpts) opts = NULL;
    Chardev *chr;

    if (spec_is_id(spec)) {
        return find_from_spec(spec, errp);
    }
    opts = opts_from_spec(spec, errp);
    chr = opts ? chardev_new_from_table(label, opts, errp) : NULL;
    return chr ? front_from_spec(chr, spec, errp) : NULL;
}

Chardev *coroutine_fn chardev_co_new_from_spec(const char *label, const char *spec, GError **errp)
{
    g_autoptr(ChardevOpts) opts = NULL;
    Chardev *chr;

    if (spec_is_id(spec)) {
        return find_from_spec(spec, errp);
    }
    opts = opts_from_spec(spec, errp);
    if (!opts || !chardev_opts_forbid_wait(opts, errp)) {
        return NULL;
    }
    chr = chardev_co_new_from_table(label, opts, errp);
    return chr ? front_from_spec(chr, spec, errp) : NULL;
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
