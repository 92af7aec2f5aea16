/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Changing the name and format of the backing file that an image notes. */
#include "qcow2.h"

#define MAX_FORMAT 15

int coroutine_fn qcow2_co_change_backing(BlockDriverState *bs, const char *filename,
                                         const char *format)
{
    Qcow2State *s = bs->opaque;
    char *old_file = s->backing_file, *old_format = s->backing_format;
    int ret;

    if (filename && !*filename) {
        filename = NULL;
    }
    if (!filename) {
        format = NULL;
    }
    if ((filename && strlen(filename) > QCOW2_MAX_NAME) ||
        (format && strlen(format) > MAX_FORMAT)) {
        return -EINVAL;
    }
    if (s->corrupt || s->broken) {
        return -EIO;
    }
    ret = qcow2_flush(bs); /* what has been copied from the former file comes first */
    if (ret < 0) {
        return ret;
    }
    s->backing_file = g_strdup(filename);
    s->backing_format = g_strdup(format);
    ret = qcow2_header_update(bs);
    if (ret < 0) {
        g_free(s->backing_file);
        g_free(s->backing_format);
        s->backing_file = old_file;
        s->backing_format = old_format;
    } else {
        g_free(old_file);
        g_free(old_format);
    }
    return ret;
}
