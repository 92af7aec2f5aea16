/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a file name says about the protocol: "host_device:/dev/sdb", "null-co://",
 * "blkdebug:RULES:IMAGE", or a plain path, which may be that of a device.  Main thread.
 * Filters in front of a name nest so deep and no deeper: each is a call of the next.
 */
#include <string.h>
#include <sys/stat.h>
#include "graph-int.h"
#include "qapi/error.h"
#include "qapi/qapi-visit-block-core.h"

typedef struct StatWork {
    const char *filename;
    bool is_device;
} StatWork;

static int stat_worker(void *opaque)
{
    StatWork *w = opaque;
    struct stat st;

    w->is_device = stat(w->filename, &st) == 0 && (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode));
    return 0;
}

static BlockdevOptions *file_options(BlockdevDriver driver, const char *filename)
{
    BlockdevOptions *o = g_new0(BlockdevOptions, 1);
    BlockdevOptionsFile *file = driver == BLOCKDEV_DRIVER_FILE ? &o->u.file : &o->u.host_device;

    o->driver = driver;
    file->filename = g_strdup(filename);
    return o;
}

/* What is behind "file:": a path, in a form that is not taken for another protocol. */
static BlockdevOptions *stripped_options(BlockdevDriver driver, const char *rest)
{
    g_autofree char *path = g_strconcat(rest[strcspn(rest, ":/")] == ':' ? "./" : "", rest, NULL);

    return file_options(driver, path);
}

BlockdevOptions *coroutine_fn bdrv_co_plain_options(const char *filename)
{
    StatWork w = { .filename = filename };

    co_run_in_worker(stat_worker, &w);
    return file_options(w.is_device ? BLOCKDEV_DRIVER_HOST_DEVICE : BLOCKDEV_DRIVER_FILE, filename);
}

static BlockdevOptions *null_options(BlockdevDriver driver, const char *filename, GError **errp)
{
    BlockdevOptions *o;

    if (strcmp(strchr(filename, ':'), "://")) {
        error_setg(errp, "The only allowed filename for this driver is '%s://'",
                   BlockdevDriver_str(driver));
        return NULL;
    }
    o = g_new0(BlockdevOptions, 1);
    o->driver = driver;
    return o;
}

static BlockdevOptions *coroutine_fn options_of(const char *filename, int depth, GError **errp);

/* "blkdebug:RULES:IMAGE": RULES is a file or empty. */
static BlockdevOptions *coroutine_fn blkdebug_options(const char *rest, int depth, GError **errp)
{
    const char *colon = strchr(rest, ':');
    BlockdevOptions *below, *o;

    if (!colon) {
        error_setg(errp, "blkdebug requires both config file and image path");
        return NULL;
    }
    below = options_of(colon + 1, depth + 1, errp);
    if (!below) {
        return NULL;
    }
    o = g_new0(BlockdevOptions, 1);
    o->driver = BLOCKDEV_DRIVER_BLKDEBUG;
    o->u.blkdebug.config = colon > rest ? g_strndup(rest, colon - rest) : NULL;
    o->u.blkdebug.image = g_new0(BlockdevRef, 1);
    o->u.blkdebug.image->type = QTYPE_QDICT;
    o->u.blkdebug.image->u.definition = *below;
    g_free(below);
    return o;
}

static BlockdevOptions *coroutine_fn options_of(const char *filename, int depth, GError **errp)
{
    size_t len = strcspn(filename, ":/");
    const char *rest = filename + len + 1;
    g_autofree char *protocol = NULL;

    if (filename[len] != ':') {
        return bdrv_co_plain_options(filename);
    }
    if (depth > BDRV_MAX_PROTOCOLS) {
        error_setg(errp, "More than %d protocols in one file name", BDRV_MAX_PROTOCOLS);
        return NULL;
    }
    protocol = g_strndup(filename, len);
    if (!strcmp(protocol, "file")) {
        return stripped_options(BLOCKDEV_DRIVER_FILE, rest);
    }
    if (!strcmp(protocol, "host_device")) {
        return stripped_options(BLOCKDEV_DRIVER_HOST_DEVICE, rest);
    }
    if (!strcmp(protocol, "null-co")) {
        return null_options(BLOCKDEV_DRIVER_NULL_CO, filename, errp);
    }
    if (!strcmp(protocol, "null-aio")) {
        return null_options(BLOCKDEV_DRIVER_NULL_AIO, filename, errp);
    }
    if (!strcmp(protocol, "blkdebug")) {
        return blkdebug_options(rest, depth, errp);
    }
    error_setg(errp, "Unknown protocol '%s'", protocol);
    return NULL;
}

char *coroutine_fn bdrv_co_new_file_path(const char *filename, GError **errp)
{
    g_autoptr(BlockdevOptions) o = bdrv_co_filename_options(filename, errp);

    if (!o) {
        return NULL;
    }
    if (o->driver == BLOCKDEV_DRIVER_FILE) {
        return g_strdup(o->u.file.filename);
    }
    if (o->driver == BLOCKDEV_DRIVER_HOST_DEVICE) {
        return g_strdup(o->u.host_device.filename);
    }
    error_setg(errp, "Protocol driver '%s' does not support image creation",
               BlockdevDriver_str(o->driver));
    return NULL;
}

BlockdevOptions *coroutine_fn bdrv_co_filename_options(const char *filename, GError **errp)
{
    return options_of(filename, 1, errp);
}
