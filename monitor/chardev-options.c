/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * -chardev as the schema has it: text, key=value with the old short forms of flags or JSON, becomes
 * a tree for the visitor of ChardevOptions, and that a device.  What is wrong with key=value is said
 * here first, in the words that QEMU has for it.  Main thread.
 */
#include <string.h>

#include "monitor/chardev-int.h"
#include "qapi/error.h"
#include "qapi/json.h"
#include "qapi/qapi-visit-char.h"
#include "qapi/util.h"

/* --- Text ---------------------------------------------------------------------------------------- */

static bool check_numbers(const ChardevOpts *opts, GError **errp)
{
    static const char *const names[] = {"reconnect", "to"};
    const char *size = chardev_opts_get(opts, "size");
    uint64_t bytes;
    int64_t value;

    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        if (!chardev_opts_get_int(opts, names[i], 0, &value, errp)) {
            return false;
        }
    }
    if (size && !qapi_parse_size(size, &bytes)) {
        error_setg(errp, "Parameter 'size' expects a non-negative number below 2^64");
        return false;
    }
    return true;
}

/* What a kind of device cannot be without. */
static bool check_needs(const ChardevOpts *opts, GError **errp)
{
    static const struct {
        const char *backend, *key, *message;
    } needs[] = {
        {"file", "path", "chardev: file: no filename given"},
        {"mux", "chardev", "chardev: mux: no chardev given"},
        {"pipe", "path", "chardev: pipe: no device path given"},
        {"serial", "path", "chardev: serial/tty: no device path given"},
        {"udp", "port", "chardev: udp: remote port not specified"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(needs); i++) {
        if (!strcmp(opts->backend, needs[i].backend) && !chardev_opts_get(opts, needs[i].key)) {
            error_setg(errp, "%s", needs[i].message);
            return false;
        }
    }
    return true;
}

static bool check_id(const char *id, GError **errp)
{
    if (id && !qapi_id_is_wellformed(id)) {
        error_setg(errp, "Parameter 'id' expects an identifier");
    } else if (!id) {
        error_setg(errp, "chardev: no id specified");
    } else if (chardev_label_in_use(id)) {
        error_setg(errp, "Duplicate ID '%s' for chardev", id);
    } else {
        return true;
    }
    return false;
}

/* An old name of a kind of device. */
static void resolve_alias(ChardevOpts *opts)
{
    if (!g_strcmp0(opts->backend, "tty")) {
        g_printerr("%s: warning: The alias 'tty' is deprecated, use 'serial' instead\n",
                   g_get_prgname());
        chardev_opts_set(opts, "backend", "serial");
    }
}

static bool check_text(ChardevOpts *opts, GError **errp)
{
    resolve_alias(opts);
    if (!check_id(opts->id, errp)) {
        return false;
    }
    if (!opts->backend) {
        error_setg(errp, "chardev: \"%s\" missing backend", opts->id);
        return false;
    }
    return chardev_opts_check_backend(opts, errp) && check_numbers(opts, errp) &&
           check_needs(opts, errp);
}

/* All leaves are text. */
static json_object *tree_of(const ChardevOpts *opts)
{
    json_object *tree = json_object_new_object();
    GHashTableIter iter;
    gpointer key, value;

    json_object_object_add(tree, "backend", json_object_new_string(opts->backend));
    json_object_object_add(tree, "id", json_object_new_string(opts->id));
    g_hash_table_iter_init(&iter, opts->values);
    while (g_hash_table_iter_next(&iter, &key, &value)) {
        json_object_object_add(tree, key, json_object_new_string(value));
    }
    return tree;
}

json_object *chardev_options_tree(const char *text, bool *keyval, GError **errp)
{
    g_autoptr(ChardevOpts) opts = NULL;

    *keyval = *text != '{';
    if (!*keyval) {
        return json_parse_text(text, strlen(text), errp);
    }
    opts = chardev_opts_new();
    return chardev_opts_parse(opts, text, true, errp) && check_text(opts, errp) ? tree_of(opts)
                                                                                : NULL;
}

/* Takes tree, which may be NULL. */
static ChardevOptions *options_of(json_object *tree, bool keyval, GError **errp)
{
    ChardevOptions *options = NULL;

    if (tree) {
        (keyval ? qapi_input_keyval : qapi_input)(&qapi_type_ChardevOptions, tree, NULL, &options,
                                                  errp);
        json_object_put(tree);
    }
    return options;
}

ChardevOptions *chardev_options_from_text(const char *text, GError **errp)
{
    bool keyval;
    json_object *tree = chardev_options_tree(text, &keyval, errp);

    return options_of(tree, keyval, errp);
}

ChardevOptions *chardev_options_from_table(ChardevOpts *opts, GError **errp)
{
    return check_text(opts, errp) ? options_of(tree_of(opts), true, errp) : NULL;
}

/* --- Devices ------------------------------------------------------------------------------------- */

static const char *text_of(json_object *value)
{
    if (json_object_is_type(value, json_type_boolean)) {
        return json_object_get_boolean(value) ? "on" : "off";
    }
    return json_object_get_string(value);
}

/* The table that the device is opened from; NULL and errp if the id is no good. */
static ChardevOpts *table_of(const ChardevOptions *options, GError **errp)
{
    g_autoptr(ChardevOpts) opts = NULL;
    json_object *tree;

    if (!check_id(options->id, errp)) {
        return NULL;
    }
    opts = chardev_opts_new();
    tree = qapi_ChardevOptions_to_json(options);
    json_object_object_foreach(tree, key, value)
    {
        chardev_opts_set(opts, key, text_of(value));
    }
    json_object_put(tree);
    return g_steal_pointer(&opts);
}

Chardev *chardev_new_from_options(const ChardevOptions *options, GError **errp)
{
    g_autoptr(ChardevOpts) opts = table_of(options, errp);

    return opts ? chardev_new_from_table(opts->id, opts, errp) : NULL;
}

Chardev *chardev_new_from_opts(const char *text, GError **errp)
{
    g_autoptr(ChardevOptions) options = chardev_options_from_text(text, errp);

    return options ? chardev_new_from_options(options, errp) : NULL;
}

Chardev *coroutine_fn chardev_co_new_from_options(const ChardevOptions *options, GError **errp)
{
    g_autoptr(ChardevOpts) opts = table_of(options, errp);

    if (!opts || !chardev_opts_forbid_wait(opts, errp)) {
        return NULL;
    }
    return chardev_co_new_from_table(opts->id, opts, errp);
}

Chardev *coroutine_fn chardev_co_new_from_opts(const char *text, GError **errp)
{
    g_autoptr(ChardevOptions) options = chardev_options_from_text(text, errp);

    return options ? chardev_co_new_from_options(options, errp) : NULL;
}
