/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The short forms of -serial, -monitor, -qmp, -gdb and -qtest: what they say becomes the options of
 * -chardev (chardev-options.c), from which the device is made.  Main thread.
 */
#include <string.h>

#include "monitor/chardev-int.h"
#include "qapi/error.h"
#include "qapi/keyval.h"

/* "HOST:PORT" or "[V6]:PORT". */
static bool set_host_port(ChardevOpts *opts, const char *text, const char *host_key,
                          const char *port_key)
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
    chardev_opts_set(opts, host_key, host);
    chardev_opts_set(opts, port_key, colon + 1);
    return true;
}

/* Each of these is told what stands behind the colon. */
typedef bool SpecFunc(ChardevOpts *opts, const char *text, GError **errp);

static bool parse_unix(ChardevOpts *opts, const char *text, GError **errp)
{
    g_autofree char *path = keyval_take_value(&text);

    opts->backend = g_strdup("socket");
    chardev_opts_set(opts, "path", path);
    return chardev_opts_parse(opts, text, false, errp);
}

static bool parse_tcp(ChardevOpts *opts, const char *text, GError **errp)
{
    g_autofree char *address = keyval_take_value(&text);

    opts->backend = g_strdup("socket");
    if (!set_host_port(opts, address, "host", "port")) {
        error_setg(errp, "'%s' is not an address: expected HOST:PORT", address);
        return false;
    }
    return chardev_opts_parse(opts, text, false, errp);
}

static bool parse_telnet(ChardevOpts *opts, const char *text, GError **errp)
{
    chardev_opts_set(opts, "telnet", "on");
    return parse_tcp(opts, text, errp);
}

static bool parse_tn3270(ChardevOpts *opts, const char *text, GError **errp)
{
    chardev_opts_set(opts, "tn3270", "on");
    return parse_tcp(opts, text, errp);
}

static bool parse_websocket(ChardevOpts *opts, const char *text, GError **errp)
{
    chardev_opts_set(opts, "websocket", "on");
    return parse_tcp(opts, text, errp);
}

/* "[HOST]:PORT[@[ADDRESS]:PORT]" */
static bool parse_udp(ChardevOpts *opts, const char *text, GError **errp)
{
    g_autofree char *remote = keyval_take_value(&text);
    char *local = strchr(remote, '@');

    opts->backend = g_strdup("udp");
    if (local) {
        *local++ = 0;
    }
    if (!set_host_port(opts, remote, "host", "port") ||
        (local && !set_host_port(opts, local, "localaddr", "localport"))) {
        error_setg(errp, "'%s%s%s' is not an address: expected [HOST]:PORT[@[ADDRESS]:PORT]", remote,
                   local ? "@" : "", local ? local : "");
        return false;
    }
    return chardev_opts_parse(opts, text, false, errp);
}

static bool parse_file(ChardevOpts *opts, const char *text, GError **errp)
{
    opts->backend = g_strdup("file");
    chardev_opts_set(opts, "path", text);
    return true;
}

static bool parse_pipe(ChardevOpts *opts, const char *text, GError **errp)
{
    opts->backend = g_strdup("pipe");
    chardev_opts_set(opts, "path", text);
    return true;
}

/* What begins in one of these ways is complete with what follows. */
static const struct {
    const char *prefix;
    SpecFunc *parse;
} prefixes[] = {
    {"unix:", parse_unix},     {"tcp:", parse_tcp},       {"telnet:", parse_telnet},
    {"tn3270:", parse_tn3270}, {"udp:", parse_udp},       {"websocket:", parse_websocket},
    {"file:", parse_file},     {"pipe:", parse_pipe},
};

static bool parse_word(ChardevOpts *opts, const char *spec, GError **errp)
{
    static const char *const plain[] = {"stdio", "pty", "null", NULL};
    /* What QEMU has beside them. */
    static const char *const others[] = {"/dev/parport", "COM", "vc", "con:", "msmouse",
                                         "wctablet", "braille", "testdev"};

    for (size_t i = 0; i < G_N_ELEMENTS(others); i++) {
        if (g_str_has_prefix(spec, others[i])) {
            error_setg(errp, "char driver '%s' is not supported", spec);
            return false;
        }
    }
    if (g_str_has_prefix(spec, "/dev/")) {
        opts->backend = g_strdup("serial");
        chardev_opts_set(opts, "path", spec);
    } else if (!strcmp(spec, "none")) {
        opts->backend = g_strdup("null");
    } else if (g_strv_contains(plain, spec)) {
        opts->backend = g_strdup(spec);
    } else {
        error_setg(errp, "'%s' is not a valid char driver", spec);
        return false;
    }
    return true;
}

static bool parse_spec(ChardevOpts *opts, const char *spec, GError **errp)
{
    for (size_t i = 0; i < G_N_ELEMENTS(prefixes); i++) {
        if (g_str_has_prefix(spec, prefixes[i].prefix)) {
            return prefixes[i].parse(opts, spec + strlen(prefixes[i].prefix), errp);
        }
    }
    return parse_word(opts, spec, errp);
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

ChardevOptions *chardev_options_from_spec(const char *label, const char *spec, GError **errp)
{
    g_autoptr(ChardevOpts) opts = chardev_opts_new();
    bool with_monitor = spec_has_monitor(spec);

    opts->id = g_strdup(label);
    if (!parse_spec(opts, with_monitor ? spec + strlen("mon:") : spec, errp)) {
        return NULL;
    }
    if (with_monitor) {
        chardev_opts_set(opts, "mux", "on");
        if (!strcmp(opts->backend, "stdio")) {
            chardev_opts_set(opts, "signal", "off");
        }
    }
    return chardev_options_from_table(opts, errp);
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
    g_autoptr(ChardevOptions) options = NULL;
    Chardev *chr;

    if (spec_is_id(spec)) {
        return find_from_spec(spec, errp);
    }
    options = chardev_options_from_spec(label, spec, errp);
    chr = options ? chardev_new_from_options(options, errp) : NULL;
    return chr ? front_from_spec(chr, spec, errp) : NULL;
}

Chardev *coroutine_fn chardev_co_new_from_spec(const char *label, const char *spec, GError **errp)
{
    g_autoptr(ChardevOptions) options = NULL;
    Chardev *chr;

    if (spec_is_id(spec)) {
        return find_from_spec(spec, errp);
    }
    options = chardev_options_from_spec(label, spec, errp);
    chr = options ? chardev_co_new_from_options(options, errp) : NULL;
    return chr ? front_from_spec(chr, spec, errp) : NULL;
}
