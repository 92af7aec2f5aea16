/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Making the file of a new image, or emptying the one that is there, in a worker: what the file
 * system shall do with it, then its size.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "block/block-int.h"
#include "file-int.h"
#include "qapi/error.h"
#include "qapi/keyval.h"

/* An image grows by small writes all over it: a file system with extents keeps it in one piece. */
#define DEFAULT_EXTENT_SIZE_HINT (1 << 20)

typedef struct CreateWork {
    const BdrvCreateParams *params;
    PreallocMode prealloc;
    bool nocow;
    bool hint_given;
    uint64_t extent_size_hint; /* bytes, 0: none */
    GError *err;
} CreateWork;

/* Other file systems than btrfs refuse, and copy nothing either. */
static void set_nocow(int fd)
{
    int flags;

    if (ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0) {
        flags |= FS_NOCOW_FL;
        ioctl(fd, FS_IOC_SETFLAGS, &flags);
    }
}

/* The user hears of it only if it was the user who wanted one. */
static void set_extent_size_hint(const CreateWork *w, int fd)
{
    struct fsxattr attr;
    int ret = ioctl(fd, FS_IOC_FSGETXATTR, &attr);

    if (ret == 0) {
        attr.fsx_xflags |= FS_XFLAG_EXTSIZE;
        attr.fsx_extsize = w->extent_size_hint;
        ret = ioctl(fd, FS_IOC_FSSETXATTR, &attr);
    }
    if (ret < 0 && w->hint_given && w->extent_size_hint) {
        g_printerr("%s: warning: Failed to set extent size hint: %s\n", g_get_prgname(),
                   strerror(errno));
    }
}

/* A regular file, locked, which nobody else uses. */
static void make_empty(CreateWork *w, int fd)
{
    GError *err = NULL;

    if (ftruncate(fd, 0) < 0) {
        error_setg_errno(&w->err, errno, "Could not resize file");
        return;
    }
    /* Both count for what is allocated from now on. */
    if (w->nocow) {
        set_nocow(fd);
    }
    set_extent_size_hint(w, fd);
    if (file_set_size(fd, w->params->size, w->prealloc, &err) == -EFBIG) {
        g_clear_error(&err);
        error_setg(&w->err, "The image size is too large for file format 'raw'");
    } else if (err) {
        g_propagate_error(&w->err, err);
    }
}

static int create_worker(void *opaque)
{
    CreateWork *w = opaque;
    const char *filename = w->params->filename;
    unsigned rights = FILE_RIGHT_WRITE | FILE_RIGHT_RESIZE;
    struct stat st;
    int fd = open(filename, O_RDWR | O_CREAT | O_CLOEXEC, 0644);

    if (fd < 0) {
        error_setg_errno(&w->err, errno, "Could not create '%s'", filename);
        return -1;
    }
    if (fstat(fd, &st) < 0) {
        error_setg_errno(&w->err, errno, "Could not create '%s'", filename);
    } else if (!S_ISREG(st.st_mode)) {
        if (file_size_of(fd, &st) < w->params->size) {
            error_setg(&w->err, "Cannot grow device files");
        }
    } else if (!file_locks_supported(fd) || file_lock(fd, filename, rights, rights, &w->err)) {
        make_empty(w, fd);
    }
    if (close(fd) < 0 && !w->err) {
        error_setg_errno(&w->err, errno, "Could not close the new file");
    }
    return w->err ? -1 : 0;
}

static bool parse_options(CreateWork *w, GHashTable *options, GError **errp)
{
    const char *nocow = g_hash_table_lookup(options, "nocow");
    const char *hint = g_hash_table_lookup(options, "extent_size_hint");
    int prealloc = qapi_enum_parse(&PreallocMode_lookup,
                                   g_hash_table_lookup(options, "preallocation"),
                                   PREALLOC_MODE_OFF, errp);

    if (prealloc < 0) {
        return false;
    }
    w->prealloc = prealloc;
    w->hint_given = hint;
    if (nocow && !qapi_parse_bool(nocow, &w->nocow)) {
        error_setg(errp, "Parameter 'nocow' expects 'on' or 'off'");
    } else if (hint && !qapi_parse_size(hint, &w->extent_size_hint)) {
        error_setg(errp, "Parameter 'extent_size_hint' expects a size");
    } else if (w->extent_size_hint > UINT32_MAX) {
        error_setg(errp, "Extent size hint is too large");
    } else {
        return true;
    }
    return false;
}

bool coroutine_fn file_co_create(const BdrvCreateParams *params, AioContext *ctx, GError **errp)
{
    CreateWork w = { .params = params, .extent_size_hint = DEFAULT_EXTENT_SIZE_HINT };

    if (params->options && !parse_options(&w, params->options, errp)) {
        return false;
    }
    if (co_run_in_worker(create_worker, &w) < 0) {
        g_propagate_error(errp, w.err);
        return false;
    }
    return true;
}
