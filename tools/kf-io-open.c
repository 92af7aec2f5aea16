/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kf-io: opening and closing images.  An image is described by an IoImage, which the options
 * of the program and the commands open and reopen fill.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include "block/copy-on-read.h"
#include "block/temp-overlay.h"
#include "kf-io-int.h"
#include "qapi/error.h"
#include "qapi/keyval.h"

IoImage *io_image_new(void)
{
    IoImage *image = g_new0(IoImage, 1);

    image->discard = true;
    return image;
}

IoImage *io_image_copy(const IoImage *image)
{
    IoImage *copy = g_memdup2(image, sizeof(*image));

    copy->name = g_strdup(image->name);
    copy->options = g_strdup(image->options);
    return copy;
}

void io_image_free(IoImage *image)
{
    if (image) {
        g_free(image->name);
        g_free(image->options);
        g_free(image);
    }
}

/* --- Options ---------------------------------------------------------------------------------- */

bool io_image_set_cache(IoImage *image, const char *mode)
{
    static const struct {
        const char *name;
        bool direct, no_flush, write_through;
    } modes[] = {
        { "none", true, false, false },       { "off", true, false, false },
        { "directsync", true, false, true },  { "writeback", false, false, false },
        { "writethrough", false, false, true }, { "unsafe", false, true, false },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(modes); i++) {
        if (!strcmp(modes[i].name, mode)) {
            image->direct = modes[i].direct;
            image->no_flush = modes[i].no_flush;
            image->write_through = modes[i].write_through;
            return true;
        }
    }
    io_error("Invalid cache option: %s", mode);
    return false;
}

bool io_image_set_discard(IoImage *image, const char *mode)
{
    if (!strcmp(mode, "off") || !strcmp(mode, "ignore")) {
        image->discard = false;
    } else if (!strcmp(mode, "on") || !strcmp(mode, "unmap")) {
        image->discard = true;
    } else {
        io_error("Invalid discard option: %s", mode);
        return false;
    }
    return true;
}

bool io_image_set_aio(IoImage *image, const char *mode)
{
    static const char *const modes[] = { "threads", "native", "io_uring" };

    for (size_t i = 0; i < G_N_ELEMENTS(modes); i++) {
        if (!strcmp(modes[i], mode)) {
            image->aio = modes[i];
            return true;
        }
    }
    io_error("Invalid aio option: %s", mode);
    return false;
}

void io_image_add_options(IoImage *image, const char *options)
{
    char *former = image->options;

    image->options = former ? g_strdup_printf("%s,%s", former, options) : g_strdup(options);
    g_free(former);
}

/* The value of "driver" if there are no other options; else NULL. */
static char *only_driver(const char *options)
{
    json_object *json = keyval_parse(options, NULL, NULL);
    json_object *driver = NULL;
    char *name = NULL;

    if (json && json_object_object_length(json) == 1 &&
        json_object_object_get_ex(json, "driver", &driver)) {
        name = g_strdup(json_object_get_string(driver));
    }
    json_object_put(json);
    return name;
}

/*
 * The options together with the file name: "driver=qcow2,...,file.filename=NAME", or with the
 * options that are the name.
 */
static char *merge_options(const char *options, const char *filename, bool is_options)
{
    GString *text = g_string_new(is_options ? filename : options);

    if (is_options) {
        g_string_append_printf(text, ",%s", options);
        return g_string_free(text, false);
    }
    g_string_append(text, ",file.filename=");
    for (const char *p = filename; *p; p++) {
        g_string_append(text, *p == ',' ? ",," : (char[]){ *p, '\0' });
    }
    return g_string_free(text, false);
}

/* --- Opening and closing ---------------------------------------------------------------------- */

static BlockDriverState *coroutine_fn open_node(const IoImage *image, GError **errp)
{
    g_autofree char *format = image->options ? only_driver(image->options) : NULL;
    g_autofree char *merged = NULL;
    BdrvOpenFile params = {
        .filename = image->name,
        .format = format,
        .read_only = image->read_only || image->snapshot,
        .force_share = image->force_share,
        .direct = image->direct,
        .no_flush = image->no_flush,
        .discard = image->discard,
    };

    if (image->is_options || (image->options && !format)) {
        merged = !image->options ? g_strdup(image->name)
                 : !image->name  ? g_strdup(image->options)
                                 : merge_options(image->options, image->name,
                                                 image->is_options);
        params.filename = merged;
        params.format = NULL;
        params.is_options = true;
    }
    return bdrv_co_open_file_params(&params, main_aio_context(), errp);
}

static BlockBackend *coroutine_fn open_backend(const IoImage *image, GError **errp)
{
    BlockDriverState *bs, *base;
    BlockBackend *blk;

    if (image->aio && !strcmp(image->aio, "native") && !image->direct) {
        error_setg(errp, "aio=native was specified, but it requires cache.direct=on, which was "
                   "not specified.");
        return NULL;
    }
    bs = open_node(image, errp);
    if (bs && image->snapshot) {
        base = bs;
        bs = temp_overlay_co_open(base, main_aio_context(), errp);
        bdrv_co_unref(base);
    }
    if (bs && image->copy_on_read) {
        base = bs;
        bs = copy_on_read_co_open(base, errp);
        bdrv_co_unref(base);
    }
    if (!bs) {
        return NULL;
    }
    blk = blk_new("", bs, !bdrv_is_read_only(bs), errp);
    bdrv_co_unref(bs);
    return blk;
}

bool coroutine_fn io_image_open(IoSession *s, const IoImage *image)
{
    GError *err = NULL;
    BlockBackend *blk = open_backend(image, &err);

    if (!blk) {
        bool named = image->name && !image->is_options;

        io_error("can't open%s%s: %s", named ? " device " : "", named ? image->name : "",
                 err->message);
        g_error_free(err);
        return false;
    }
    io_session_set_blk(s, blk);
    io_session_set_write_through(s, image->write_through);
    io_session_set_copy_on_read(s, image->copy_on_read);
    return true;
}

void coroutine_fn io_image_close(IoSession *s)
{
    io_session_drain(s);
    blk_co_free(io_session_set_blk(s, NULL));
}

/* --- Commands --------------------------------------------------------------------------------- */

static int usage(IoSession *s, char **argv)
{
    return io_command_usage(s, argv[0], io_tool_commands);
}

/* The options of open; false after an error message or the usage. */
static bool parse_open(IoSession *s, int argc, char **argv, IoImage *image)
{
    int c;

    optind = 0;
    while ((c = getopt(argc, argv, "snCro:ki:t:d:U")) != -1) {
        bool ok = true;

        switch (c) {
        case 's':
            image->snapshot = true;
            break;
        case 'n':
            io_image_set_cache(image, "none");
            break;
        case 'C':
            image->copy_on_read = true;
            break;
        case 'r':
            image->read_only = true;
            break;
        case 'o':
            if (image->is_options) {
                printf("--image-opts and 'open -o' are mutually exclusive\n");
                return false;
            }
            io_image_add_options(image, optarg);
            break;
        case 'k':
            io_image_set_aio(image, "native");
            break;
        case 'i':
            ok = io_image_set_aio(image, optarg);
            break;
        case 't':
            ok = io_image_set_cache(image, optarg);
            break;
        case 'd':
            ok = io_image_set_discard(image, optarg);
            break;
        case 'U':
            image->force_share = true;
            break;
        default:
            usage(s, argv);
            return false;
        }
        if (!ok) {
            return false;
        }
    }
    if (optind < argc - 1 || (optind == argc && !image->options)) {
        usage(s, argv);
        return false;
    }
    image->name = g_strdup(argv[optind]);
    return true;
}

static int coroutine_fn run_open(IoSession *s, int argc, char **argv)
{
    g_autoptr(IoImage) image = io_image_new();
    IoState *state = io_session_opaque(s);

    image->is_options = state->image_opts;
    if (!parse_open(s, argc, argv, image)) {
        return -EINVAL;
    }
    if (state->image) {
        io_error("file open already, try 'help close'");
        return -EBUSY;
    }
    if (!io_image_open(s, image)) {
        return -EINVAL;
    }
    state->image = g_steal_pointer(&image);
    return 0;
}

static int coroutine_fn run_close(IoSession *s, int argc, char **argv)
{
    IoState *state = io_session_opaque(s);

    io_image_close(s);
    g_clear_pointer(&state->image, io_image_free);
    return 0;
}

/* What an image that is open can be told anew. */
static bool can_change(const char *name)
{
    static const char *const names[] = {
        "discard", "detect-zeroes", "lazy-refcounts", "pass-discard-request",
        "pass-discard-snapshot", "pass-discard-other", "overlap-check", "overlap-check.template",
        "cache-size", "l2-cache-size", "l2-cache-entry-size", "refcount-cache-size",
        "cache-clean-interval", NULL,
    };

    return g_strv_contains(names, name);
}

/* Applies -o of reopen: rights and cache as -r and -c say them, the rest as options of the image. */
static bool parse_changes(IoImage *image, const char *text, bool *has_rights, bool *has_cache)
{
    g_auto(GStrv) list = g_strsplit(text, ",", -1);

    for (int i = 0; list[i]; i++) {
        char *value = strchr(list[i], '=');
        size_t len = value ? (size_t)(value - list[i]) : strlen(list[i]);
        g_autofree char *name = g_strndup(list[i], len);
        bool on, *target = NULL;

        if (!strcmp(name, "read-only")) {
            target = &image->read_only;
            *has_rights = true;
        } else if (!strcmp(name, "cache.direct")) {
            target = &image->direct;
            *has_cache = true;
        } else if (!strcmp(name, "cache.no-flush")) {
            target = &image->no_flush;
            *has_cache = true;
        }
        if (!target && !can_change(name)) {
            io_error("Cannot change the option '%s'",
                     g_str_has_prefix(name, "file.") ? name + strlen("file.") : name);
            return false;
        }
        if (target ? !value || !qapi_parse_bool(value + 1, &on) : !value) {
            io_error("Parameter '%s' expects 'on' or 'off'", name);
            return false;
        }
        if (target) {
            *target = on;
        } else {
            io_image_add_options(image, list[i]);
        }
    }
    return true;
}

/* The changes that reopen asks for, in image; false after an error message or the usage. */
static bool parse_reopen(IoSession *s, int argc, char **argv, IoImage *image)
{
    bool has_rights = false, has_cache = false, option_rights = false, option_cache = false;
    int c;

    optind = 0;
    while ((c = getopt(argc, argv, "c:o:rw")) != -1) {
        switch (c) {
        case 'c':
            if (!io_image_set_cache(image, optarg)) {
                return false;
            }
            has_cache = true;
            break;
        case 'o':
            if (!parse_changes(image, optarg, &option_rights, &option_cache)) {
                return false;
            }
            break;
        case 'r':
        case 'w':
            if (has_rights) {
                io_error("Only one -r/-w option may be given");
                return false;
            }
            image->read_only = c == 'r';
            has_rights = true;
            break;
        default:
            usage(s, argv);
            return false;
        }
    }
    if (optind != argc) {
        usage(s, argv);
        return false;
    }
    if (has_rights && option_rights) {
        io_error("Cannot set both -r/-w and 'read-only'");
        return false;
    }
    if (has_cache && option_cache) {
        io_error("Cannot set both -c and the cache options");
        return false;
    }
    return true;
}

/* Closes and opens: what another program does to the file in between is seen. */
static int coroutine_fn run_reopen(IoSession *s, int argc, char **argv)
{
    IoState *state = io_session_opaque(s);
    g_autoptr(IoImage) image = io_image_copy(state->image);

    if (!parse_reopen(s, argc, argv, image)) {
        return -EINVAL;
    }
    if (image->snapshot) {
        io_error("Cannot reopen an image that was opened with -s");
        return -ENOTSUP;
    }
    if (image->copy_on_read && image->read_only) {
        io_error("Can't set node '%s' to r/o with copy-on-read enabled",
                 bdrv_node_name(bdrv_file(blk_bs(io_session_blk(s)))));
        return -EINVAL;
    }
    io_image_close(s);
    if (!io_image_open(s, image)) {
        if (!io_image_open(s, state->image)) {
            g_clear_pointer(&state->image, io_image_free);
        }
        return -EINVAL;
    }
    io_image_free(state->image);
    state->image = g_steal_pointer(&image);
    return 0;
}

static int coroutine_fn run_quit(IoSession *s, int argc, char **argv)
{
    IoState *state = io_session_opaque(s);

    state->quit = true;
    return 0;
}

const IoCommand io_tool_commands[] = {
    { "close", "c", run_close, 0, 0, .summary = "close the current open file" },
    { "open", "o", run_open, 1, -1, .without_file = true,
      .args = "[-rsCnkU] [-t cache] [-d discard] [-o options] [path]",
      .summary = "open the file specified by path",
      .help = " Opens an image for the commands that follow.\n"
              " 'open -n -o driver=raw /tmp/data' opens a raw image without the host's cache.\n\n"
              " -r, -- do not write\n"
              " -s, -- write to a temporary file instead of the image\n"
              " -C, -- keep what is read from backing files in the image\n"
              " -n, -- the same as -t none\n"
              " -U, -- read what another program may be writing\n"
              " -k, -- the same as -i native\n"
              " -i, -- threads, native or io_uring\n"
              " -t, -- cache mode\n"
              " -d, -- unmap or ignore discards\n"
              " -o, -- options of the block driver\n" },
    { "quit", "q", run_quit, 0, -1, .without_file = true, .summary = "exit the program" },
    { "reopen", NULL, run_reopen, 0, -1, .args = "[(-r|-w)] [-c cache] [-o options]",
      .summary = "reopens an image with new options",
      .help = " Opens the same image in another way.\n"
              " 'reopen -o cache.direct=on' leaves out the host's cache.\n\n"
              " -r, -- do not write any more\n"
              " -w, -- write again\n"
              " -c, -- cache mode\n"
              " -o, -- options of the block driver\n" },
    { 0 },
};
