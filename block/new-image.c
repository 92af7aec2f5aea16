/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Image files that are made within a transaction.  Main thread; calls that touch the file
 * system run in workers.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include "new-image.h"
#include "qapi/error.h"
#include "util/errno-text.h"

struct NewImage {
    char *filename;
    char *aside;  /* where the former file is, NULL: there was none */
    bool is_file; /* not a device, which is written over in place */
};

static void image_free(NewImage *image)
{
    g_free(image->filename);
    g_free(image->aside);
    g_free(image);
}

static int put_aside(void *opaque)
{
    NewImage *image = opaque;
    struct stat st;

    if (stat(image->filename, &st) < 0) {
        image->is_file = errno == ENOENT;
        return 0;
    }
    image->is_file = S_ISREG(st.st_mode);
    if (!image->is_file) {
        return 0;
    }
    image->aside = g_strdup_printf("%s.%d-%u.before", image->filename, (int)getpid(),
                                   g_random_int());
    return rename(image->filename, image->aside) < 0 ? -errno : 0;
}

static int put_back(void *opaque)
{
    NewImage *image = opaque;

    if (image->aside) {
        return rename(image->aside, image->filename) < 0 ? -errno : 0;
    }
    if (image->is_file && unlink(image->filename) < 0 && errno != ENOENT) {
        return -errno;
    }
    return 0;
}

static int drop_former(void *opaque)
{
    NewImage *image = opaque;

    return unlink(image->aside) < 0 ? -errno : 0;
}

static bool coroutine_fn make(NewImage *image, const char *format, BlockDriverState *backing,
                              GError **errp)
{
    g_autoptr(GHashTable) options = g_hash_table_new(g_str_hash, g_str_equal);
    g_autofree char *path = g_canonicalize_filename(bdrv_filename(backing), NULL);
    BdrvCreateParams params = {
        .filename = image->filename,
        .size = bdrv_length(backing),
        .backing_file = path,
        .backing_format = bdrv_driver_name(backing),
        .options = options,
    };

    return bdrv_co_create(bdrv_driver_by_name(format), &params, backing->ctx, errp);
}

NewImage *coroutine_fn new_image_make(const char *filename, const char *format,
                                      BlockDriverState *backing, GError **errp)
{
    g_autofree char *path = bdrv_co_new_file_path(filename, errp);
    NewImage *image;
    int ret;

    GLOBAL_STATE();
    if (!path) {
        return NULL;
    }
    image = g_new0(NewImage, 1);
    image->filename = g_steal_pointer(&path);
    ret = co_run_in_worker(put_aside, image);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not put the former '%s' aside", filename);
        image_free(image);
        return NULL;
    }
    if (!make(image, format, backing, errp)) {
        new_image_undo(image);
        return NULL;
    }
    return image;
}

void coroutine_fn new_image_keep(NewImage *image)
{
    int ret = 0;

    if (!image) {
        return;
    }
    if (image->aside) {
        ret = co_run_in_worker(drop_former, image);
    }
    if (ret < 0) {
        g_printerr("Could not remove '%s': %s\n", image->aside, errno_text(-ret));
    }
    image_free(image);
}

void coroutine_fn new_image_undo(NewImage *image)
{
    int ret;

    if (!image) {
        return;
    }
    ret = co_run_in_worker(put_back, image);
    if (ret < 0) {
        g_printerr("Could not put back what was at '%s': %s\n", image->filename,
                   errno_text(-ret));
    }
    image_free(image);
}
