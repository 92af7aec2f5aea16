/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The option table of a character device: parsing, and typed access with QEMU's errors. */
#include <string.h>

#include "monitor/chardev-opts.h"
#include "qapi/error.h"
#include "qapi/keyval.h"

ChardevOpts *chardev_opts_new(void)
{
    ChardevOpts *opts = g_new0(ChardevOpts, 1);

    opts->values = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    return opts;
}

void chardev_opts_free(ChardevOpts *opts)
{
    g_free(opts->backend);
    g_free(opts->id);
    g_hash_table_unref(opts->values);
    g_free(opts);
}

void chardev_opts_set(ChardevOpts *opts, const char *key, const char *value)
{
    if (!strcmp(key, "backend")) {
        g_free(opts->backend);
        opts->backend = g_strdup(value);
    } else if (!strcmp(key, "id")) {
        g_free(opts->id);
        opts->id = g_strdup(value);
    } else {
        g_hash_table_replace(opts->values, g_strdup(key), g_strdup(value));
    }
}

static const char *const flags[] = {"server", "wait", "nodelay", "mux", "signal", "append", NULL};

static void set_flag(ChardevOpts *opts, const char *name)
{
    if (g_str_has_prefix(name, "no") && !g_strv_contains(flags, name)) {
        chardev_opts_set(opts, name + 2, "off");
    } else {
        chardev_opts_set(opts, name, "on");
    }
}

bool chardev_opts_parse(ChardevOpts *opts, const char *text, bool with_backend, GError **errp)
{
    bool first = with_backend;

    while (*text) {
        g_autofree char *item = keyval_take_value(&text);
        char *eq = strchr(item, '=');

        if (eq) {
            *eq = 0;
            if (!*item) {
                error_setg(errp, "Invalid parameter ''");
                return false;
            }
            chardev_opts_set(opts, item, eq + 1);
        } else if (first) {
            chardev_opts_set(opts, "backend", item);
        } else {
            set_flag(opts, item);
        }
        first = false;
    }
    return true;
}

const char *chardev_opts_get(const ChardevOpts *opts, const char *key)
{
    return g_hash_table_lookup(opts->values, key);
}

bool chardev_opts_get_bool(const ChardevOpts *opts, const char *key, bool fallback, bool *value,
                           GError **errp)
{
    const char *text = chardev_opts_get(opts, key);

    if (!text) {
        *value = fallback;
    } else if (!strcmp(text, "on") || !strcmp(text, "yes") || !strcmp(text, "true") ||
               !strcmp(text, "y")) {
        *value = true;
    } else if (!strcmp(text, "off") || !strcmp(text, "no") || !strcmp(text, "false") ||
               !strcmp(text, "n")) {
        *value = false;
    } else {
        error_setg(errp, "Parameter '%s' expects 'on' or 'off'", key);
        return false;
    }
    return true;
}

bool chardev_opts_get_int(const ChardevOpts *opts, const char *key, int64_t fallback,
                          int64_t *value, GError **errp)
{
    const char *text = chardev_opts_get(opts, key);

    *value = fallback;
    if (text && !g_ascii_string_to_signed(text, 10, 0, INT32_MAX, value, NULL)) {
        error_setg(errp, "Parameter '%s' expects a number", key);
        return false;
    }
    return true;
}

bool chardev_opts_check(const ChardevOpts *opts, const char *const *common,
                        const char *const *own, GError **errp)
{
    GHashTableIter iter;
    gpointer key;

    g_hash_table_iter_init(&iter, opts->values);
    while (g_hash_table_iter_next(&iter, &key, NULL)) {
        if (!g_strv_contains(common, key) && !(own && g_strv_contains(own, key))) {
            error_setg(errp, "Invalid parameter '%s'", (char *)key);
            return false;
        }
    }
    return true;
}
