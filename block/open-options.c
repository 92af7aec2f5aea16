/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Opening what a string of options (--image-opts of the tools) or a name "json:{...}" describes.
 * It says what -blockdev says, but need not name every driver: a node that has a file name is a
 * file, one that has a file below it has the format of what is in that.  Main thread.
 */
#include <string.h>
#include "graph-int.h"
#include "qapi/error.h"
#include "qapi/json.h"
#include "qapi/keyval.h"
#include "qapi/qapi-visit-block-core.h"
#include "qapi/util.h"

/* A tree of options that gets the drivers it does not name. */
typedef struct Completion {
    json_object *root;
    BdrvInherit *inherit; /* the root's */
    AioContext *ctx;
} Completion;

static bool coroutine_fn complete(const Completion *c, json_object *node, GError **errp);

static BlockdevOptions *from_keyval(json_object *node, GError **errp)
{
    BlockdevOptions *o = NULL;

    return qapi_input_keyval(&qapi_type_BlockdevOptions, node, NULL, &o, errp) ? o : NULL;
}

/* The format of what is in the file that below describes. */
static const BlockDriver *coroutine_fn probe(const Completion *c, json_object *below,
                                             GError **errp)
{
    BdrvInherit inherit = { .read_only = true, .force_share = true,
                            .by_image = c->inherit->by_image, .depth = c->inherit->depth + 1 };
    g_autoptr(BlockdevOptions) o = from_keyval(below, errp);
    const BlockDriver *drv;
    BlockDriverState *file;

    if (!o) {
        return NULL;
    }
    if (inherit.by_image && bdrv_driver_by_name(BlockdevDriver_str(o->driver))->is_format) {
        /* It could be the image that names it, opened twice as often at every turn. */
        error_setg(errp, "Must specify the driver of a node on top of a format");
        return NULL;
    }
    g_clear_pointer(&o->node_name, g_free); /* the name is for the node that stays */
    file = bdrv_co_open_node(o, &inherit, c->ctx, errp);
    if (!file) {
        return NULL;
    }
    drv = bdrv_co_probe_format(file, errp);
    bdrv_co_unref(file);
    return drv;
}

/* Fills in the driver of a node that has a file below it. */
static bool coroutine_fn find_format(const Completion *c, json_object *node, json_object *below,
                                     GError **errp)
{
    const BlockDriver *drv = probe(c, below, errp);

    if (!drv) {
        return false;
    }
    if (node == c->root && drv == &bdrv_raw_driver && !c->inherit->read_only) {
        json_object *name = NULL;

        c->inherit->probed = true;
        json_object_object_get_ex(below, "filename", &name);
        bdrv_warn_about_probed_raw(name ? json_object_get_string(name) : "");
    }
    json_object_object_add(node, "driver", json_object_new_string(drv->name));
    return true;
}

/* Moves the members that are a file's own to a new node below. */
static json_object *split_file(json_object *node)
{
    static const char *const own[] = { "filename", "locking", "aio", "pr-manager" };
    json_object *below = json_object_new_object();

    for (size_t i = 0; i < G_N_ELEMENTS(own); i++) {
        json_object *value = NULL;

        if (json_object_object_get_ex(node, own[i], &value)) {
            json_object_object_add(below, own[i], json_object_get(value));
            json_object_object_del(node, own[i]);
        }
    }
    json_object_object_add(below, "driver", json_object_new_string("file"));
    json_object_object_add(node, "file", below);
    return below;
}

/* Members that are bytes may have a suffix here, which those of -blockdev may not. */
static bool convert_sizes(json_object *node, GError **errp)
{
    static const char *const sizes[] = {
        "offset", "size", "cache-size", "l2-cache-size", "l2-cache-entry-size",
        "refcount-cache-size", "align", "max-transfer", "opt-write-zero", "max-write-zero",
        "opt-discard", "max-discard",
    };

    for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
        json_object *text = NULL;
        uint64_t bytes;

        if (!json_object_object_get_ex(node, sizes[i], &text) ||
            !json_object_is_type(text, json_type_string)) {
            continue;
        }
        if (!qapi_parse_size(json_object_get_string(text), &bytes)) {
            error_setg(errp, "Parameter '%s' expects a non-negative number below 2^64\n"
                       "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, "
                       "peta-\nand exabytes, respectively.", sizes[i]);
            return false;
        }
        json_object_object_add(node, sizes[i], json_object_new_uint64(bytes));
    }
    return true;
}

static bool check_driver(json_object *driver, GError **errp)
{
    const char *name = json_object_get_string(driver);

    if (!bdrv_driver_by_name(name)) {
        error_setg(errp, "Unknown driver '%s'", name);
        return false;
    }
    return true;
}

/* Whether the driver of a node knows all that is said of it; in QEMU's words. */
static bool check_members(json_object *node, GError **errp)
{
    const QapiType *type = &qapi_type_BlockdevOptions, *branch;
    json_object *name = NULL;
    const char *driver;
    int value;

    json_object_object_get_ex(node, "driver", &name);
    driver = json_object_get_string(name);
    value = qapi_enum_parse(&BlockdevDriver_lookup, driver, -1, errp);
    if (value < 0) {
        return false;
    }
    branch = type->branches[value];
    json_object_object_foreach(node, member, unused)
    {
        (void)unused;
        if (qapi_find_member(type, member) || (branch && qapi_find_member(branch, member))) {
            continue;
        }
        error_setg(errp, bdrv_driver_by_name(driver)->is_format
                             ? "Block format '%s' does not support the option '%s'"
                             : "Block protocol '%s' doesn't support the option '%s'",
                   driver, member);
        return false;
    }
    if (branch && qapi_find_member(branch, "file") &&
        !json_object_object_get_ex(node, "file", NULL)) {
        error_setg(errp, "A block device must be specified for \"file\"");
        return false;
    }
    return true;
}

/* A node below: a file unless it says otherwise. */
static bool coroutine_fn complete_file(const Completion *c, json_object *node, GError **errp)
{
    if (!json_object_is_type(node, json_type_object)) {
        return true; /* the name of an open node */
    }
    if (!json_object_object_get_ex(node, "driver", NULL) &&
        !json_object_object_get_ex(node, "file", NULL)) {
        json_object_object_add(node, "driver", json_object_new_string("file"));
    }
    return complete(c, node, errp);
}

static bool coroutine_fn complete(const Completion *c, json_object *node, GError **errp)
{
    static const char *const files[] = { "file", "image", "data-file", "log", "test", "raw" };
    json_object *driver = NULL, *child = NULL;
    bool known = json_object_object_get_ex(node, "driver", &driver);

    if ((known && !check_driver(driver, errp)) || !convert_sizes(node, errp)) {
        return false;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(files); i++) {
        if (json_object_object_get_ex(node, files[i], &child) &&
            !complete_file(c, child, errp)) {
            return false;
        }
    }
    if (json_object_object_get_ex(node, "backing", &child) &&
        json_object_is_type(child, json_type_object) && !complete(c, child, errp)) {
        return false;
    }
    if (known) {
        bool is_format = bdrv_driver_by_name(json_object_get_string(driver))->is_format;

        if (is_format && !json_object_object_get_ex(node, "file", NULL) &&
            json_object_object_get_ex(node, "filename", NULL)) {
            split_file(node);
        }
        return check_members(node, errp);
    }
    if (!json_object_object_get_ex(node, "file", &child)) {
        if (!json_object_object_get_ex(node, "filename", NULL)) {
            error_setg(errp, "Must specify either driver or file");
            return false;
        }
        child = split_file(node);
    }
    if (!json_object_is_type(child, json_type_object)) {
        error_setg(errp, "Parameter 'driver' is missing");
        return false;
    }
    return find_format(c, node, child, errp) && check_members(node, errp);
}

/* Opens the tree, which it takes. */
static BlockDriverState *coroutine_fn open_tree(json_object *root, BdrvInherit *inherit,
                                                AioContext *ctx, GError **errp)
{
    Completion c = { root, inherit, ctx };
    g_autoptr(BlockdevOptions) o = complete(&c, root, errp) ? from_keyval(root, errp) : NULL;

    json_object_put(root);
    return o ? bdrv_co_open_node(o, inherit, ctx, errp) : NULL;
}

BlockDriverState *coroutine_fn bdrv_co_open_options(const char *text, BdrvInherit *inherit,
                                                    AioContext *ctx, GError **errp)
{
    json_object *root;

    GLOBAL_STATE();
    if (*text && !strchr(text, '=')) { /* the name of an open node, of which a tool has none */
        error_setg(errp, "Cannot find device='%s' nor node-name='%s'", text, text);
        return NULL;
    }
    root = keyval_parse(text, NULL, errp);
    return root ? open_tree(root, inherit, ctx, errp) : NULL;
}

BlockDriverState *coroutine_fn bdrv_co_open_json(const char *text, const char *format,
                                                 BdrvInherit *inherit, AioContext *ctx,
                                                 GError **errp)
{
    GError *err = NULL;
    json_object *json, *root;

    GLOBAL_STATE();
    if (!text[strspn(text, " \t\r\n")]) {
        error_setg(errp, "Could not parse the JSON options: Expecting a JSON value");
        return NULL;
    }
    json = json_parse_text(text, strlen(text), &err);
    if (!json) {
        g_propagate_prefixed_error(errp, err, "Could not parse the JSON options: ");
        return NULL;
    }
    if (!json_object_is_type(json, json_type_object)) {
        error_setg(errp, "Invalid JSON object given");
        json_object_put(json);
        return NULL;
    }
    root = keyval_from_json(json, errp);
    json_object_put(json);
    if (root && format && !json_object_object_get_ex(root, "driver", NULL)) {
        json_object_object_add(root, "driver", json_object_new_string(format));
    }
    return root ? open_tree(root, inherit, ctx, errp) : NULL;
}
