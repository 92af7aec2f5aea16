/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * -snapshot, -drive snapshot=on and kf-io -s: what is written goes to a qcow2 overlay in a
 * temporary file, which has no name any more once it is open and is gone with the program.
 * Coroutine in the main thread, while no guest runs.
 */
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <unistd.h>
#include "block/block-int.h"
#include "block/temp-overlay.h"
#include "qapi/error.h"
#include "qapi/json.h"
#include "qapi/qapi-visit-block-core.h"

/* QEMU's place: /tmp is memory on many hosts, and the overlay may grow as large as the disk. */
static char *make_file(GError **errp)
{
    const char *dir = g_getenv("TMPDIR");
    char *path = g_strdup_printf("%s/vl.XXXXXX", dir ? dir : "/var/tmp");
    int fd = g_mkstemp_full(path, O_RDWR | O_CLOEXEC, 0600);

    if (fd < 0) {
        error_setg_errno(errp, errno, "Could not open temporary file '%s'", path);
        g_free(path);
        return NULL;
    }
    close(fd);
    return path;
}

static BlockDriverState *coroutine_fn open_overlay(const char *path, BlockDriverState *base,
                                                   AioContext *ctx, GError **errp)
{
    g_autoptr(BlockdevOptions) o = NULL;
    json_object *json = json_object_new_object(), *file = json_object_new_object();
    json_object *cache = json_object_new_object();

    json_object_object_add(file, "driver", json_object_new_string("file"));
    json_object_object_add(file, "filename", json_object_new_string(path));
    json_object_object_add(cache, "no-flush", json_object_new_boolean(true));
    json_object_object_add(json, "driver", json_object_new_string("qcow2"));
    json_object_object_add(json, "file", file);
    json_object_object_add(json, "cache", cache);
    json_object_object_add(json, "backing", json_object_new_string(bdrv_node_name(base)));
    o = qapi_BlockdevOptions_from_str(json_object_to_json_string(json), NULL, errp);
    json_object_put(json);
    return o ? bdrv_co_open(o, ctx, errp) : NULL;
}

BlockDriverState *coroutine_fn temp_overlay_co_open(BlockDriverState *base, AioContext *ctx,
                                                    GError **errp)
{
    g_autofree char *path = make_file(errp);
    g_autoptr(GHashTable) none = g_hash_table_new(g_str_hash, g_str_equal);
    BdrvCreateParams params = {.filename = path, .size = bdrv_length(base), .options = none};
    BlockDriverState *bs = NULL;

    if (!path) {
        return NULL;
    }
    if (bdrv_co_create(bdrv_driver_by_name("qcow2"), &params, ctx, errp)) {
        bs = open_overlay(path, base, ctx, errp);
    }
    g_unlink(path);
    return bs;
}
