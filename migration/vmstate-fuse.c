/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Exports of type vmstate-fuse: the files of vmstate-fs.c, mounted read-only.  Requests run
 * in the home context of the node that holds the snapshot; those that need no image are
 * answered at once, the others are coroutines.  The content never changes, so the kernel
 * may cache all of it.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "block/block-int.h"
#include "block/fuse-server.h"
#include "qapi/error.h"
#include "vmstate-fs-int.h"

#define MAX_IO (1u << 20)
#define FOREVER 86400.0 /* seconds */

typedef struct VmstateExport {
    BlockExport *exp;
    VmstateFs *fs;
    FuseServer *server;
} VmstateExport;

typedef struct VmstateCall {
    FuseRequest r;
    int file;
    uint64_t offset;
    size_t size;
    bool hole;
} VmstateCall;

/* Inode 1 is the root, file 0. */
static int file_of(fuse_ino_t ino)
{
    return ino > 0 && ino <= INT_MAX ? (int)(ino - 1) : -1;
}

static VmstateFs *fs_of(fuse_req_t req)
{
    return ((VmstateExport *)fuse_server_opaque(fuse_req_userdata(req)))->fs;
}

static bool fill_stat(fuse_req_t req, int file, struct stat *st)
{
    const VmstateFile *f = vmstate_fs_file(fs_of(req), file);
    bool others = fuse_server_allows_other(fuse_req_userdata(req));

    if (!f) {
        return false;
    }
    memset(st, 0, sizeof(*st));
    st->st_ino = file + 1;
    if (f->kind == VMSTATE_FILE_DIRECTORY) {
        st->st_mode = S_IFDIR | (others ? 0555 : 0500);
        st->st_nlink = 2;
    } else {
        st->st_mode = S_IFREG | (others ? 0444 : 0400);
        st->st_nlink = 1;
    }
    st->st_uid = getuid();
    st->st_gid = getgid();
    st->st_size = f->size;
    st->st_blksize = 65536;
    st->st_blocks = (f->data_bytes + 511) / 512;
    st->st_atime = st->st_mtime = st->st_ctime = vmstate_fs_date(fs_of(req));
    return true;
}

/* --- Names --------------------------------------------------------------------------------------- */

static void fs_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct fuse_entry_param e = {.attr_timeout = FOREVER, .entry_timeout = FOREVER};
    int file = vmstate_fs_lookup(fs_of(req), file_of(parent), name);

    if (fill_stat(req, file, &e.attr)) {
        e.ino = file + 1;
    } /* else 0: the kernel may remember that there is no such file */
    fuse_reply_entry(req, &e);
}

static void fs_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct stat st;

    if (fill_stat(req, file_of(ino), &st)) {
        fuse_reply_attr(req, &st, FOREVER);
    } else {
        fuse_reply_err(req, ENOENT);
    }
}

/* Adds an entry that the kernel asks for next; false when the buffer is full. */
static bool add_entry(fuse_req_t req, char *buf, size_t size, size_t *used, const char *name,
                      int file, off_t next)
{
    struct stat st;
    size_t n;

    if (!fill_stat(req, file, &st)) {
        return true;
    }
    n = fuse_add_direntry(req, buf + *used, size - *used, name, &st, next);
    if (n > size - *used) {
        return false;
    }
    *used += n;
    return true;
}

/* Offsets: 0 ".", 1 "..", then a file's number + 1, each the one to go on with. */
static void fs_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
                       struct fuse_file_info *fi)
{
    VmstateFs *fs = fs_of(req);
    int directory = file_of(ino);
    const VmstateFile *d = vmstate_fs_file(fs, directory), *f;
    g_autofree char *buf = NULL;
    size_t used = 0;
    bool room = true;

    size = MIN(size, MAX_IO);
    if (!d || d->kind != VMSTATE_FILE_DIRECTORY || offset < 0 || offset > INT_MAX) {
        fuse_reply_err(req, d ? ENOTDIR : ENOENT);
        return;
    }
    buf = g_malloc(size);
    if (offset == 0) {
        room = add_entry(req, buf, size, &used, ".", directory, 1);
    }
    if (room && offset <= 1) {
        room = add_entry(req, buf, size, &used, "..", d->parent, 2);
    }
    for (int i = MAX(offset - 1, 1); room && (f = vmstate_fs_file(fs, i)); i++) {
        if (f->parent == directory) {
            room = add_entry(req, buf, size, &used, f->name, i, i + 2);
        }
    }
    fuse_reply_buf(req, buf, used);
}

/* --- Content --------------------------------------------------------------------------------------- */

static void fs_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    const VmstateFile *f = vmstate_fs_file(fs_of(req), file_of(ino));

    if (!f || f->kind == VMSTATE_FILE_DIRECTORY) {
        fuse_reply_err(req, f ? EISDIR : ENOENT);
    } else if ((fi->flags & O_ACCMODE) != O_RDONLY) {
        fuse_reply_err(req, EROFS);
    } else {
        fi->keep_cache = 1;
        fuse_reply_open(req, fi);
    }
}

static void coroutine_fn read_entry(void *opaque)
{
    VmstateCall *c = opaque;
    g_autofree char *buf = g_try_malloc(MAX(c->size, 1));
    int64_t ret = buf ? vmstate_fs_read(fs_of(c->r.req), c->file, c->offset, buf, c->size)
                      : -ENOMEM;

    if (ret < 0) {
        fuse_reply_err(c->r.req, -ret);
    } else {
        fuse_reply_buf(c->r.req, buf, ret);
    }
}

static void fs_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
                    struct fuse_file_info *fi)
{
    VmstateCall *c;

    if (offset < 0) {
        fuse_reply_err(req, EINVAL);
        return;
    }
    c = g_new0(VmstateCall, 1);
    c->file = file_of(ino);
    c->offset = offset;
    c->size = MIN(size, MAX_IO);
    fuse_server_request(&c->r, req, read_entry);
}

static void coroutine_fn lseek_entry(void *opaque)
{
    VmstateCall *c = opaque;
    int64_t ret = vmstate_fs_seek(fs_of(c->r.req), c->file, c->offset, c->hole);

    if (ret < 0) {
        fuse_reply_err(c->r.req, -ret);
    } else {
        fuse_reply_lseek(c->r.req, ret);
    }
}

static void fs_lseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence,
                     struct fuse_file_info *fi)
{
    VmstateCall *c;

    if (offset < 0 || (whence != SEEK_DATA && whence != SEEK_HOLE)) {
        fuse_reply_err(req, offset < 0 ? ENXIO : EINVAL); /* others are the kernel's */
        return;
    }
    c = g_new0(VmstateCall, 1);
    c->file = file_of(ino);
    c->offset = offset;
    c->hole = whence == SEEK_HOLE;
    fuse_server_request(&c->r, req, lseek_entry);
}

static const struct fuse_lowlevel_ops fs_ops = {
    .lookup = fs_lookup,
    .getattr = fs_getattr,
    .readdir = fs_readdir,
    .open = fs_open,
    .read = fs_read,
    .lseek = fs_lseek,
};

/* --- Life --------------------------------------------------------------------------------------------- */

/* Main thread. */
static void fs_unmounted(void *opaque)
{
    VmstateExport *v = opaque;

    block_export_remove_later(v->exp);
}

static void coroutine_fn close_fs(BlockExport *exp, VmstateFs *fs)
{
    aio_co_reschedule_self(bdrv_context(blk_bs(exp->blk)));
    vmstate_fs_close(fs);
    aio_co_reschedule_self(main_aio_context());
}

static VmstateFs *coroutine_fn open_fs(BlockExport *exp, const BlockExportOptionsVmstateFuse *o,
                                       GError **errp)
{
    BlockDriverState *bs = blk_bs(exp->blk);
    g_autofree char *holder = g_strdup_printf("export '%s', mounted on '%s'", exp->id,
                                              o->mountpoint);
    VmstateFs *fs;

    aio_co_reschedule_self(bdrv_context(bs));
    fs = vmstate_fs_open(bs, o->snapshot, holder, errp);
    aio_co_reschedule_self(main_aio_context());
    return fs;
}

static bool coroutine_fn vmstate_fuse_co_start(BlockExport *exp,
                                               const BlockExportOptions *options, GError **errp)
{
    const BlockExportOptionsVmstateFuse *o = &options->u.vmstate_fuse;
    VmstateFs *fs = open_fs(exp, o, errp);
    VmstateExport *v;
    FuseServerConfig config = {
        .id = exp->id,
        .mountpoint = o->mountpoint,
        .directory = true,
        .read_only = true,
        .allow_other = o->has_allow_other ? o->allow_other : FUSE_EXPORT_ALLOW_OTHER_OFF,
        .ctx = bdrv_context(blk_bs(exp->blk)),
        .ops = &fs_ops,
        .unmounted = fs_unmounted,
    };

    if (!fs) {
        return false;
    }
    v = g_new0(VmstateExport, 1);
    v->exp = exp;
    v->fs = fs;
    config.opaque = v;
    exp->opaque = v;
    v->server = fuse_server_co_start(&config, errp);
    if (!v->server) {
        close_fs(exp, fs);
        g_free(v);
        return false;
    }
    return true;
}

static void coroutine_fn vmstate_fuse_co_stop(BlockExport *exp)
{
    VmstateExport *v = exp->opaque;

    fuse_server_co_stop(v->server);
    close_fs(exp, v->fs);
    g_free(v);
}

const BlockExportDriver vmstate_fuse_driver = {
    .type = BLOCK_EXPORT_TYPE_VMSTATE_FUSE,
    .can_write = false,
    .co_start = vmstate_fuse_co_start,
    .co_stop = vmstate_fuse_co_stop,
};
