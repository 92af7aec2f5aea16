/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QMP and HMP commands about character devices.  Coroutines of a session, main thread; those
 * that make a device yield while a worker opens it.
 */
#include <string.h>

#include "monitor/chardev-int.h"
#include "monitor/monitor-int.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-char.h"
#include "qapi/util.h"

/* --- Looking ------------------------------------------------------------------------------ */

ChardevInfoList *coroutine_fn qmp_query_chardev(GError **errp)
{
    ChardevInfoList *list = NULL, **tail = &list;
    Chardev *chr;

    for (unsigned i = 0; (chr = chardev_by_index(i)); i++) {
        ChardevInfo *info = g_new0(ChardevInfo, 1);

        info->label = g_strdup(chardev_label(chr));
        info->filename = g_strdup(chardev_filename(chr));
        info->frontend_open = chardev_is_busy(chr);
        QAPI_LIST_APPEND(tail, info);
    }
    return list;
}

ChardevBackendInfoList *coroutine_fn qmp_query_chardev_backends(GError **errp)
{
    ChardevBackendInfoList *list = NULL, **tail = &list;

    for (int i = 0; i < CHARDEV_BACKEND_TYPE__MAX; i++) {
        ChardevBackendInfo *info = g_new0(ChardevBackendInfo, 1);

        info->name = g_strdup(ChardevBackendType_str(i));
        QAPI_LIST_APPEND(tail, info);
    }
    return list;
}

/* --- Adding and removing --------------------------------------------------------------------- */

static void set_string(ChardevOpts *opts, const char *key, const char *value)
{
    if (value) {
        chardev_opts_set(opts, key, value);
    }
}

static void set_bool(ChardevOpts *opts, const char *key, bool has, bool value)
{
    if (has) {
        chardev_opts_set(opts, key, value ? "on" : "off");
    }
}

static void set_int(ChardevOpts *opts, const char *key, bool has, int64_t value)
{
    if (has) {
        g_autofree char *text = g_strdup_printf("%" G_GINT64_FORMAT, value);

        chardev_opts_set(opts, key, text);
    }
}

static void set_address(ChardevOpts *opts, const ChardevSocketAddress *addr)
{
    switch (addr->type) {
    case CHARDEV_SOCKET_ADDRESS_TYPE_INET: {
        const ChardevInetAddress *inet = addr->u.inet.data;

        chardev_opts_set(opts, "host", inet->host);
        chardev_opts_set(opts, "port", inet->port);
        set_int(opts, "to", inet->has_to, inet->to);
        set_bool(opts, "ipv4", inet->has_ipv4, inet->ipv4);
        set_bool(opts, "ipv6", inet->has_ipv6, inet->ipv6);
        break;
    }
    case CHARDEV_SOCKET_ADDRESS_TYPE_UNIX: {
        const ChardevUnixAddress *local = addr->u.q_unix.data;

        chardev_opts_set(opts, "path", local->path);
        set_bool(opts, "abstract", local->has_abstract, local->abstract);
        set_bool(opts, "tight", local->has_tight, local->tight);
        break;
    }
    default:
        chardev_opts_set(opts, "fd", addr->u.fd.data->str);
        break;
    }
}

static bool set_udp(ChardevOpts *opts, const ChardevUdp *u, GError **errp)
{
    if (u->remote->type != CHARDEV_SOCKET_ADDRESS_TYPE_INET ||
        (u->local && u->local->type != CHARDEV_SOCKET_ADDRESS_TYPE_INET)) {
        error_setg(errp, "udp needs addresses of type 'inet'");
        return false;
    }
    set_address(opts, u->remote);
    if (u->local) {
        chardev_opts_set(opts, "localaddr", u->local->u.inet.data->host);
        chardev_opts_set(opts, "localport", u->local->u.inet.data->port);
    }
    return true;
}

static bool set_socket(ChardevOpts *opts, const ChardevSocket *s, GError **errp)
{
    bool server = !s->has_server || s->server;

    if (s->has_wait && s->wait) {
        error_setg(errp, CHARDEV_NO_WAIT);
        return false;
    }
    set_address(opts, s->addr);
    set_bool(opts, "server", true, server);
    set_bool(opts, "wait", server, false);
    set_bool(opts, "nodelay", s->has_nodelay, s->nodelay);
    set_int(opts, "reconnect", s->has_reconnect, s->reconnect);
    set_string(opts, "tls-creds", s->tls_creds);
    set_string(opts, "tls-authz", s->tls_authz);
    set_bool(opts, "telnet", s->has_telnet, s->telnet);
    set_bool(opts, "tn3270", s->has_tn3270, s->tn3270);
    set_bool(opts, "websocket", s->has_websocket, s->websocket);
    return true;
}

/* What every device has. */
#define SET_COMMON(opts, data) \
    do { \
        set_string(opts, "logfile", (data)->logfile); \
        set_bool(opts, "logappend", (data)->has_logappend, (data)->logappend); \
    } while (0)

static bool set_backend(ChardevOpts *opts, const ChardevBackend *b, GError **errp)
{
    chardev_opts_set(opts, "backend", ChardevBackendType_str(b->type));
    switch (b->type) {
    case CHARDEV_BACKEND_TYPE_FILE:
        SET_COMMON(opts, b->u.file.data);
        chardev_opts_set(opts, "path", b->u.file.data->out);
        set_string(opts, "input-path", b->u.file.data->in);
        set_bool(opts, "append", b->u.file.data->has_append, b->u.file.data->append);
        return true;
    case CHARDEV_BACKEND_TYPE_PIPE:
        SET_COMMON(opts, b->u.pipe.data);
        chardev_opts_set(opts, "path", b->u.pipe.data->device);
        return true;
    case CHARDEV_BACKEND_TYPE_SOCKET:
        SET_COMMON(opts, b->u.socket.data);
        return set_socket(opts, b->u.socket.data, errp);
    case CHARDEV_BACKEND_TYPE_UDP:
        SET_COMMON(opts, b->u.udp.data);
        return set_udp(opts, b->u.udp.data, errp);
    case CHARDEV_BACKEND_TYPE_SERIAL:
        SET_COMMON(opts, b->u.serial.data);
        chardev_opts_set(opts, "path", b->u.serial.data->device);
        return true;
    case CHARDEV_BACKEND_TYPE_PTY:
        SET_COMMON(opts, b->u.pty.data);
        return true;
    case CHARDEV_BACKEND_TYPE_NULL:
        SET_COMMON(opts, b->u.null.data);
        return true;
    case CHARDEV_BACKEND_TYPE_MUX:
        SET_COMMON(opts, b->u.mux.data);
        chardev_opts_set(opts, "chardev", b->u.mux.data->chardev);
        return true;
    case CHARDEV_BACKEND_TYPE_STDIO:
        SET_COMMON(opts, b->u.stdio.data);
        set_bool(opts, "signal", b->u.stdio.data->has_signal, b->u.stdio.data->signal);
        return true;
    case CHARDEV_BACKEND_TYPE_RINGBUF:
        SET_COMMON(opts, b->u.ringbuf.data);
        set_int(opts, "size", b->u.ringbuf.data->has_size, b->u.ringbuf.data->size);
        return true;
    case CHARDEV_BACKEND_TYPE_MEMORY:
        SET_COMMON(opts, b->u.memory.data);
        set_int(opts, "size", b->u.memory.data->has_size, b->u.memory.data->size);
        return true;
    default:
        return true;
    }
}

static ChardevReturn *describe_new(Chardev *chr)
{
    ChardevReturn *ret = g_new0(ChardevReturn, 1);

    if (chr->backend == &chardev_pty) {
        ret->pty = g_strdup(chardev_filename(chr) + strlen("pty:"));
    }
    return ret;
}

ChardevReturn *coroutine_fn qmp_chardev_add(const char *id, ChardevBackend *backend, GError **errp)
{
    g_autoptr(ChardevOpts) opts = chardev_opts_new();
    Chardev *chr;

    if (chardev_label_in_use(id)) {
        error_setg(errp, "Chardev with id '%s' already exists", id);
        return NULL;
    }
    if (!set_backend(opts, backend, errp)) {
        return NULL;
    }
    chr = chardev_co_new_from_table(id, opts, errp);
    if (!chr) {
        g_prefix_error(errp, "Failed to add chardev '%s': ", id);
        return NULL;
    }
    return describe_new(chr);
}

/* Whether another device may be put in the place of chr; else errp. */
static bool can_change(Chardev *chr, const char *id, GError **errp)
{
    if (!chr) {
        error_setg(errp, "Chardev '%s' does not exist", id);
    } else if (chardev_is_mux(chr)) {
        error_setg(errp, "Mux device hotswap not supported yet");
    } else if (chardev_is_busy(chr) && !(chr->ops && chr->ops->change)) {
        error_setg(errp, "Chardev user does not support chardev hotswap");
    } else {
        return true;
    }
    return false;
}

/* The new device, with a reference: somebody else may remove it meanwhile.  NULL and errp. */
static Chardev *coroutine_fn change(const char *id, ChardevOpts *opts, GError **errp)
{
    Chardev *old = chardev_find_device(id), *chr;

    if (!can_change(old, id, errp)) {
        return NULL;
    }
    if (!strcmp(opts->backend, "mux") || chardev_opts_get(opts, "mux")) {
        error_setg(errp, "Mux device hotswap not supported yet");
        return NULL;
    }
    chardev_ref(old);
    chr = chardev_co_new_unregistered(id, opts, errp);
    if (!chr) {
        g_prefix_error(errp, "Failed to add chardev '%s': ", id);
    } else if (old != chardev_find_device(id) || !can_change(old, id, NULL)) {
        error_setg(errp, "Chardev '%s' has been taken into use or removed meanwhile", id);
        chardev_unref(chr);
        chr = NULL;
    } else {
        ChardevFiles files = chardev_files(old);

        chardev_ref(chr);
        chardev_replace(old, chr);
        chardev_files_co_wait(&files);
    }
    chardev_unref(old);
    return chr;
}

ChardevReturn *coroutine_fn qmp_chardev_change(const char *id, ChardevBackend *backend,
                                               GError **errp)
{
    g_autoptr(ChardevOpts) opts = chardev_opts_new();
    Chardev *chr = set_backend(opts, backend, errp) ? change(id, opts, errp) : NULL;
    ChardevReturn *ret;

    if (!chr) {
        return NULL;
    }
    ret = describe_new(chr);
    chardev_unref(chr);
    return ret;
}

/* NULL and errp if there is none. */
static Chardev *find(const char *id, GError **errp)
{
    Chardev *chr = chardev_find_device(id);

    if (!chr) {
        error_setg(errp, "Chardev '%s' not found", id);
    }
    return chr;
}

void coroutine_fn qmp_chardev_remove(const char *id, GError **errp)
{
    Chardev *chr = find(id, errp);
    ChardevFiles files;

    if (!chr) {
        return;
    }
    if (chardev_is_busy(chr)) {
        error_setg(errp, "Chardev '%s' is busy", id);
        return;
    }
    files = chardev_files(chr);
    chardev_unregister(chr);
    chardev_files_co_wait(&files);
}

void coroutine_fn qmp_chardev_send_break(const char *id, GError **errp)
{
    Chardev *chr = find(id, errp);

    if (chr) {
        chardev_front_event(chr, CHARDEV_BREAK);
    }
}

/* --- Ring buffers ------------------------------------------------------------------------------ */

static Chardev *find_ringbuf(const char *id, GError **errp)
{
    Chardev *chr = chardev_find_device(id);

    if (!chr) {
        error_setg(errp, "Device '%s' not found", id);
    } else if (!chardev_is_ringbuf(chr)) {
        error_setg(errp, "%s is not a ringbuf device", id);
        chr = NULL;
    }
    return chr;
}

static bool is_base64(const char *text)
{
    size_t n = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/");

    return strlen(text) % 4 == 0 && strspn(text + n, "=") <= 2 && !text[n + strspn(text + n, "=")];
}

void coroutine_fn qmp_ringbuf_write(const char *device, const char *data, bool has_format,
                                    DataFormat format, GError **errp)
{
    Chardev *chr = find_ringbuf(device, errp);
    g_autofree guchar *bytes = NULL;
    gsize len;

    if (!chr) {
        return;
    }
    if (!has_format || format == DATA_FORMAT_UTF8) {
        chardev_write(chr, data, strlen(data));
        return;
    }
    if (!is_base64(data)) {
        error_setg(errp, "Base64 data contains invalid characters");
        return;
    }
    bytes = g_base64_decode(data, &len);
    chardev_write(chr, bytes, len);
}

char *coroutine_fn qmp_ringbuf_read(const char *device, int64_t size, bool has_format,
                                    DataFormat format, GError **errp)
{
    Chardev *chr = find_ringbuf(device, errp);
    g_autofree uint8_t *bytes = NULL;
    size_t len;

    if (!chr) {
        return NULL;
    }
    if (size <= 0) {
        error_setg(errp, "size must be greater than zero");
        return NULL;
    }
    len = MIN((uint64_t)size, chardev_ringbuf_used(chr));
    bytes = g_malloc(len + 1);
    len = chardev_ringbuf_read(chr, bytes, len);
    return has_format && format == DATA_FORMAT_BASE64
               ? g_base64_encode(bytes, len)
               : g_utf8_make_valid((const char *)bytes, len);
}

/* --- HMP ---------------------------------------------------------------------------------------- */

static void coroutine_fn hmp_info_chardev(HMPSession *s, const HMPArgs *args)
{
    ChardevInfoList *list = qmp_query_chardev(NULL);

    for (ChardevInfoList *e = list; e; e = e->next) {
        hmp_printf(s, "%s: filename=%s\n", e->value->label, e->value->filename);
    }
    qapi_free_ChardevInfoList(list);
}

/* chr: what was made, or NULL. */
static void coroutine_fn tell_of_pty(HMPSession *s, Chardev *chr)
{
    g_autofree char *message = chr ? chardev_pty_message(chr) : NULL;

    if (message) {
        hmp_printf(s, "%s", message);
    }
}

static void coroutine_fn hmp_chardev_add(HMPSession *s, const HMPArgs *args)
{
    GError *err = NULL;

    tell_of_pty(s, chardev_co_new_from_opts(hmp_arg_str(args, "args"), &err));
    hmp_handle_error(s, err);
}

static void coroutine_fn hmp_chardev_change(HMPSession *s, const HMPArgs *args)
{
    g_autoptr(ChardevOpts) opts = chardev_opts_new();
    const char *id = hmp_arg_str(args, "id");
    GError *err = NULL;

    if (chardev_opts_parse(opts, hmp_arg_str(args, "args"), true, &err)) {
        if (!opts->backend) {
            error_setg(&err, "chardev: \"%s\" missing backend", id);
        } else if (chardev_opts_forbid_wait(opts, &err)) {
            Chardev *chr = change(id, opts, &err);

            tell_of_pty(s, chr);
            if (chr) {
                chardev_unref(chr);
            }
        }
    }
    hmp_handle_error(s, err);
}

static void coroutine_fn hmp_chardev_remove(HMPSession *s, const HMPArgs *args)
{
    GError *err = NULL;

    qmp_chardev_remove(hmp_arg_str(args, "id"), &err);
    hmp_handle_error(s, err);
}

static void coroutine_fn hmp_chardev_send_break(HMPSession *s, const HMPArgs *args)
{
    GError *err = NULL;

    qmp_chardev_send_break(hmp_arg_str(args, "id"), &err);
    hmp_handle_error(s, err);
}

static void coroutine_fn hmp_ringbuf_write(HMPSession *s, const HMPArgs *args)
{
    GError *err = NULL;

    qmp_ringbuf_write(hmp_arg_str(args, "device"), hmp_arg_str(args, "data"), false, 0, &err);
    hmp_handle_error(s, err);
}

/* What could do something to a terminal is shown as QEMU shows it. */
static char *escape_controls(const char *text)
{
    GString *out = g_string_new(NULL);

    for (; *text; text++) {
        unsigned char c = *text;

        if (c == '\\') {
            g_string_append(out, "\\\\");
        } else if ((c < 0x20 && c != '\n' && c != '\t') || c == 0x7f) {
            g_string_append_printf(out, "\\u%04X", c);
        } else {
            g_string_append_c(out, c);
        }
    }
    return g_string_free(out, false);
}

static void coroutine_fn hmp_ringbuf_read(HMPSession *s, const HMPArgs *args)
{
    GError *err = NULL;
    g_autofree char *text = qmp_ringbuf_read(hmp_arg_str(args, "device"),
                                             hmp_arg_int(args, "size", 0), false, 0, &err);

    if (!hmp_handle_error(s, err)) {
        g_autofree char *shown = escape_controls(text);

        hmp_printf(s, "%s\n", shown);
    }
}

static void coroutine_fn complete_chardev(HMPCompletion *c, int nr)
{
    Chardev *chr;

    for (unsigned i = 0; nr == 0 && (chr = chardev_by_index(i)); i++) {
        hmp_complete_add(c, chardev_label(chr));
    }
}

const HMPCommand hmp_chardev_commands[] = {
    {"chardev-add", "args:S", "args", "add chardev", hmp_chardev_add},
    {"chardev-change", "id:s,args:S", "id args", "change chardev", hmp_chardev_change,
     complete_chardev},
    {"chardev-remove", "id:s", "id", "remove chardev", hmp_chardev_remove,
     complete_chardev},
    {"chardev-send-break", "id:s", "id", "send a break on chardev", hmp_chardev_send_break,
     complete_chardev},
    {"ringbuf_read", "device:s,size:i", "device size", "Read from a ring buffer character device",
     hmp_ringbuf_read, complete_chardev},
    {"ringbuf_write", "device:s,data:s", "device data",
     "Write to a ring buffer character device", hmp_ringbuf_write, complete_chardev},
    {"info chardev", "", "", "show the character devices", hmp_info_chardev},
    {0},
};
