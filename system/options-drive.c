/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * -drive: what QEMU has under old names, and under those of -blockdev beside them
 * ("driver=qcow2,file.driver=file,file.filename=a,l2-cache-size=1M").  What is said of the node goes
 * into a tree of its own, DriveOptions.node, which disks.c opens.  Main thread, start-up.
 */
#include <string.h>
#include "options-int.h"
#include "qapi/error.h"
#include "qapi/keyval.h"
#include "qapi/qapi-visit-block-core.h"
#include "qapi/qapi-visit-machine.h"
#include "qapi/util.h"

/*
 * "file=a" is "filename=a": it can stand beside "file.locking=off", which a tree of options can only
 * have if they have not the same name.
 */
static char *rename_file(const char *arg)
{
    static const char old[] = "file=";
    GString *s = g_string_new(NULL);

    while (*arg) {
        size_t n = keyval_item_length(arg), skip = g_str_has_prefix(arg, old) ? strlen(old) : 0;

        g_string_append(s, skip ? "filename=" : "");
        g_string_append_len(s, arg + skip, n - skip);
        arg += n;
        if (*arg == ',') {
            g_string_append_c(s, *arg++);
        }
    }
    return g_string_free(s, false);
}

/* Takes cache.writeback, which is for the guest's device and not for the node. */
static bool take_writeback(json_object *tree, json_object *cache, GError **errp)
{
    const char *text = option_text(cache, "writeback");
    bool writeback;

    if (!text) {
        return true;
    }
    if (!qapi_parse_bool(text, &writeback)) {
        error_setg(errp, "Parameter 'cache.writeback' expects 'on' or 'off'");
        return false;
    }
    json_object_object_del(cache, "writeback");
    if (!writeback) {
        json_object_object_add(tree, "cache", json_object_new_string("writethrough"));
    }
    return true;
}

/* A new tree of what is -drive's own; the rest is moved to node. */
static json_object *split(json_object *given, json_object *node)
{
    json_object *tree = json_object_new_object();

    json_object_object_foreach(given, name, value)
    {
        bool own = !json_object_is_type(value, json_type_object) &&
                   qapi_find_member(&qapi_type_DriveOptions, name) && strcmp(name, "file");
        const char *now = strcmp(name, "readonly") ? name : "read-only";

        json_object_object_add(own ? tree : node, now, json_object_get(value));
    }
    return tree;
}

/* What must be one of a few words, in the words that QEMU has for it. */
static bool check_words(json_object *tree, GError **errp)
{
    static const struct {
        const char *name;
        const QEnumLookup *words;
        const char *message;
    } enums[] = {
        {"aio", &BlockdevAioOptions_lookup, "invalid aio option"},
        {"cache", &DriveCache_lookup, "invalid cache option"},
        {"detect-zeroes", &BlockdevDetectZeroesOptions_lookup, NULL},
        {"discard", &DriveDiscard_lookup, "Invalid discard option"},
        {"if", &DriveInterface_lookup, NULL},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(enums); i++) {
        const char *text = option_text(tree, enums[i].name);

        if (!text || qapi_enum_parse(enums[i].words, text, -1, NULL) >= 0) {
            continue;
        }
        if (enums[i].message) {
            error_setg(errp, "%s", enums[i].message);
        } else {
            error_setg(errp, strcmp(enums[i].name, "if") ? "invalid parameter value: %s"
                                                         : "unsupported bus type '%s'", text);
        }
        return false;
    }
    return true;
}

static bool arrange(json_object *tree, json_object *node, GError **errp)
{
    json_object *filename, *cache, *file;

    if (option_text(tree, "driver") && option_text(tree, "format")) {
        error_setg(errp, "Cannot specify both 'driver' and 'format'");
        return false;
    }
    if (json_object_object_get_ex(node, "filename", &filename)) {
        json_object_object_add(tree, "file", json_object_get(filename));
        json_object_object_del(node, "filename");
        if (json_object_object_get_ex(node, "file", &file) && option_text(file, "filename")) {
            error_setg(errp, "Can't specify 'file' and 'filename' options at the same time");
            return false;
        }
    }
    return check_words(tree, errp) && (!json_object_object_get_ex(node, "cache", &cache) ||
                                       take_writeback(tree, cache, errp));
}

json_object *drive_tree(const char *arg, bool *keyval, GError **errp)
{
    g_autofree char *text = rename_file(arg);
    json_object *given, *tree, *node;
    bool is_json;

    if (*arg == '{') {
        given = keyval_or_json_parse(arg, NULL, &is_json, errp);
        *keyval = false;
        return given;
    }
    *keyval = true;
    given = keyval_parse(text, NULL, errp);
    if (!given) {
        return NULL;
    }
    node = json_object_new_object();
    tree = split(given, node);
    json_object_put(given);
    if (!arrange(tree, node, errp)) {
        json_object_put(node);
        json_object_put(tree);
        return NULL;
    }
    if (json_object_object_length(node)) {
        json_object_object_add(tree, "node", node);
    } else {
        json_object_put(node);
    }
    return tree;
}

static bool check_media(const char *media, GError **errp)
{
    if (media && strcmp(media, "disk") && strcmp(media, "cdrom")) {
        error_setg(errp, "'%s' invalid media", media);
        return false;
    }
    return true;
}

bool opt_drive(VmOptions *o, const char *option, const char *arg, GError **errp)
{
    DriveOptions *drive = option_last_drive(o);
    DriveOption *d;

    if (!drive->file && !drive->node) {
        error_setg(errp, "a drive without 'file' would have no medium");
        return false;
    }
    if (drive->has_unit && drive->has_index) {
        error_setg(errp, "index cannot be used with bus and unit");
        return false;
    }
    if (!option_check_id(drive->id, errp) || !check_media(drive->media, errp)) {
        return false;
    }
    d = g_new(DriveOption, 1);
    *d = (DriveOption){g_strdup_printf("-%s %s", option, arg), drive};
    g_ptr_array_add(o->drives, d);
    return true;
}

/* -pflash FILE: QEMU's short form. */
bool opt_pflash(VmOptions *o, const char *option, const char *arg, GError **errp)
{
    DriveOptions *drive = option_last_drive(o);

    drive->has_if = true;
    drive->q_if = DRIVE_INTERFACE_PFLASH;
    return opt_drive(o, option, arg, errp);
}
