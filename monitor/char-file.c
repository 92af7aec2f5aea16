/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Output to a file: emptied first unless append=on; input, if wanted, from another file.
 * Opened in a worker, otherwise main thread.  A regular file is written by workers (char-log.h),
 * because its disk may take its time; a FIFO or a terminal as any other device.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "monitor/char-log.h"
#include "monitor/chardev-int.h"
#include "qapi/error.h"
#include "util/fdset.h"

typedef struct CharFile {
    Chardev parent;
    CharLog *written; /* of a regular file, or NULL; set before there is a front end */
} CharFile;

static bool file_prepare(Chardev *chr, ChardevOpts *opts, GError **errp)
{
    const char *path = chardev_opts_get(opts, "path");
    const char *input = chardev_opts_get(opts, "input-path");
    struct stat st;
    bool append;

    if (!chardev_opts_get_bool(opts, "append", false, &append, errp)) {
        return false;
    }
    chr->out_fd = fdset_open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY |
                             (append ? O_APPEND : O_TRUNC), 0666);
    if (chr->out_fd < 0) {
        error_setg_errno(errp, errno, "Could not open '%s'", path);
        return false;
    }
    if (!fstat(chr->out_fd, &st) && S_ISREG(st.st_mode)) {
        ((CharFile *)chr)->written = char_log_new(chr->label, "file", chr->out_fd);
        chr->out_fd = -1;
    }
    if (input) {
        chr->in_fd = fdset_open(input, O_RDONLY | O_CLOEXEC | O_NOCTTY, 0);
        if (chr->in_fd < 0) {
            error_setg_errno(errp, errno, "Could not open '%s'", input);
            return false;
        }
    }
    return true;
}

static bool file_open(Chardev *chr, ChardevOpts *opts, GError **errp)
{
    CharFile *f = (CharFile *)chr;

    if (f->written) {
        char_log_add_kick(f->written, chr->kick);
    }
    chardev_peer_opened(chr, chr->in_fd, chr->out_fd, false);
    return true;
}

static void file_close(Chardev *chr)
{
    CharFile *f = (CharFile *)chr;
    CharLog *written = f->written;

    pthread_mutex_lock(&chr->lock);
    f->written = NULL;
    pthread_mutex_unlock(&chr->lock);
    if (written) {
        char_log_remove_kick(written, chr->kick);
        char_log_unref(written);
    }
}

static void file_sink(Chardev *chr, const uint8_t *buf, size_t len)
{
    CharFile *f = (CharFile *)chr;

    if (f->written) {
        char_log_write(f->written, buf, len);
    }
}

static CharLog *file_written(Chardev *chr)
{
    return ((CharFile *)chr)->written;
}

static const char *const file_options[] = {"path", "input-path", "append", NULL};

const ChardevDriver chardev_file = {
    .name = "file",
    .instance_size = sizeof(CharFile),
    .options = file_options,
    .prepare = file_prepare,
    .open = file_open,
    .close = file_close,
    .sink = file_sink,
    .written = file_written,
    .keeps_output = true,
};
