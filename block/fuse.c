/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Exports of type fuse: a node's content as a regular file, mounted on a regular file.  Its
 * requests run in the node's home context.  Sizes, modes and errors are those that QEMU
 * documents and shows.
 */
#include <errno.h>
#include <linux/falloc.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "block/block-int.h"
#include "block/fuse-server.h"
#include "export-int.h"
#include "qapi/error.h"

/* One read; the kernel asks for less unless it was told to ask for more. */
#define MAX_IO (1u << 20)
#define ATTR_SECONDS 1.0

typedef struct FuseExport {
    BlockExport *exp;
    FuseServer *server;
    bool growable;
    mode_t mode;
    uid_t uid;
    gid_t gid;
    CoMutex resize; /* home context: one change of the length at a time */
} FuseExport;

/* Arguments of whichever request it is. */
typedef struct FuseCall {
    FuseRequest r;
    fuse_ino_t ino;
    off_t offset;
    off_t length;
    int mode; /* of fallocate; whence of lseek */
    struct stat attr;
    int to_set;
    uint8_t data[]; /* of write */
} FuseCall;

static FuseCall *new_call(fuse_ino_t ino, size_t data_bytes)
{
    FuseCall *c = g_malloc(sizeof(FuseCall) + data_bytes);

    memset(c, 0, sizeof(*c));
    c->ino = ino;
    return c;
}

static FuseExport *export_of(FuseCall *c)
{
    return fuse_server_opaque(c->r.server);
}

static BlockDriverState *node_of(FuseExport *f)
{
    return blk_bs(f->exp->blk);
}

/* --- Attributes --------------------------------------------------------------------------------- */

static void coroutine_fn reply_attr(FuseCall *c)
{
    FuseExport *f = export_of(c);
    BlockDriverState *bs = node_of(f);
    int64_t length = bdrv_length(bs), allocated = bdrv_co_allocated_size(bs);
    time_t now = time(NULL);
    struct stat st = {
        .st_ino = c->ino,
        .st_mode = f->mode,
        .st_nlink = 1,
        .st_uid = f->uid,
        .st_gid = f->gid,
        .st_size = length,
        .st_blksize = MAX(bs->request_alignment, 4096),
        .st_blocks = ((allocated < 0 ? length : allocated) + 511) / 512,
        .st_atime = now,
        .st_mtime = now,
        .st_ctime = now,
    };

    fuse_reply_attr(c->r.req, &st, ATTR_SECONDS);
}

static void coroutine_fn getattr_entry(void *opaque)
{
    reply_attr(opaque);
}

static void fuse_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    FuseCall *c = new_call(ino, 0);

    fuse_server_request(&c->r, req, getattr_entry);
}

/* Makes the node at least (exactly, if shrink) length bytes long.  0 or -errno. */
static int coroutine_fn set_length(FuseExport *f, int64_t length, bool shrink)
{
    int ret = 0;

    co_mutex_lock(&f->resize);
    if (shrink ? length != bdrv_length(node_of(f)) : length > bdrv_length(node_of(f))) {
        g_autoptr(GError) err = NULL;

        ret = blk_co_truncate(f->exp->blk, length, &err) ? 0 : -EINVAL;
    }
    co_mutex_unlock(&f->resize);
    return ret;
}

/* 0 or -errno. */
static int coroutine_fn set_attributes(FuseExport *f, FuseCall *c)
{
    int allowed = FUSE_SET_ATTR_SIZE | FUSE_SET_ATTR_MODE;

    if (fuse_server_allows_other(c->r.server)) {
        allowed |= FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID;
    }
    if (c->to_set & ~allowed) {
        return -ENOTSUP;
    }
    if (!f->exp->writable &&
        ((c->to_set & FUSE_SET_ATTR_SIZE) ||
         ((c->to_set & FUSE_SET_ATTR_MODE) && (c->attr.st_mode & 0222)))) {
        return -EROFS;
    }
    if (c->to_set & FUSE_SET_ATTR_SIZE) {
        int ret = set_length(f, c->attr.st_size, true);

        if (ret < 0) {
            return ret;
        }
    }
    if (c->to_set & FUSE_SET_ATTR_MODE) {
        f->mode = S_IFREG | (c->attr.st_mode & 0777);
    }
    if (c->to_set & FUSE_SET_ATTR_UID) {
        f->uid = c->attr.st_uid;
    }
    if (c->to_set & FUSE_SET_ATTR_GID) {
        f->gid = c->attr.st_gid;
    }
    return 0;
}

static void coroutine_fn setattr_entry(void *opaque)
{
    FuseCall *c = opaque;
    int ret = set_attributes(export_of(c), c);

    if (ret < 0) {
        fuse_reply_err(c->r.req, -ret);
    } else {
        reply_attr(c);
    }
}

static void fuse_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
                         struct fuse_file_info *fi)
{
    FuseCall *c = new_call(ino, 0);

    c->attr = *attr;
    /* The kernel sets the times by the way; the file always says now. */
    c->to_set = to_set & FUSE_SET_ATTR_SIZE
                    ? to_set & ~(FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW |
                                 FUSE_SET_ATTR_CTIME)
                    : to_set & ~FUSE_SET_ATTR_CTIME;
    fuse_server_request(&c->r, req, setattr_entry);
}

/* --- Content -------------------------------------------------------------------------------------- */

static void fuse_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    fuse_reply_open(req, fi);
}

static void coroutine_fn read_entry(void *opaque)
{
    FuseCall *c = opaque;
    FuseExport *f = export_of(c);
    int64_t end = bdrv_length(node_of(f));
    int64_t bytes = c->offset < end ? MIN(c->length, end - c->offset) : 0;
    g_autofree char *buf = g_try_malloc(MAX(bytes, 1));
    int ret = buf ? 0 : -ENOMEM;

    if (ret == 0 && bytes) {
        ret = blk_co_pread(f->exp->blk, c->offset, bytes, buf);
    }
    if (ret < 0) {
        fuse_reply_err(c->r.req, -ret);
    } else {
        fuse_reply_buf(c->r.req, buf, bytes);
    }
}

static void fuse_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
                      struct fuse_file_info *fi)
{
    FuseCall *c;

    if (offset < 0) {
        fuse_reply_err(req, EINVAL);
        return;
    }
    c = new_call(ino, 0);
    c->offset = offset;
    c->length = MIN(size, MAX_IO);
    fuse_server_request(&c->r, req, read_entry);
}

static void coroutine_fn write_entry(void *opaque)
{
    FuseCall *c = opaque;
    FuseExport *f = export_of(c);
    int64_t end = bdrv_length(node_of(f));
    int ret = 0;

    if (c->length > end - c->offset) {
        if (f->growable) {
            ret = set_length(f, c->offset + c->length, false);
        } else if (c->offset < end) {
            c->length = end - c->offset;
        } else {
            ret = -EIO;
        }
    }
    if (ret == 0) {
        IOVector iov;

        io_vector_init_buf(&iov, c->data, c->length);
        ret = blk_co_pwritev(f->exp->blk, c->offset, c->length, &iov,
                             f->exp->writethrough ? BDRV_REQ_FUA : 0);
    }
    if (ret < 0) {
        fuse_reply_err(c->r.req, -ret);
    } else {
        fuse_reply_write(c->r.req, c->length);
    }
}

static void fuse_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size,
                       off_t offset, struct fuse_file_info *fi)
{
    FuseExport *f = fuse_server_opaque(fuse_req_userdata(req));
    FuseCall *c;

    if (!f->exp->writable) {
        fuse_reply_err(req, EROFS);
        return;
    }
    if (!bdrv_range_ok(offset, size)) {
        fuse_reply_err(req, EFBIG);
        return;
    }
    c = new_call(ino, size);
    c->offset = offset;
    c->length = size;
    memcpy(c->data, buf, size);
    fuse_server_request(&c->r, req, write_entry);
}

/* 0 or -errno. */
static int coroutine_fn zero_range(FuseExport *f, int mode, int64_t offset, int64_t bytes)
{
    int flags = mode & FALLOC_FL_PUNCH_HOLE ? BDRV_REQ_MAY_UNMAP : 0;
    int64_t end = bdrv_length(node_of(f));
    int ret = 0;

    if (mode != (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE) &&
        (mode & ~FALLOC_FL_KEEP_SIZE) != FALLOC_FL_ZERO_RANGE) {
        return -EOPNOTSUPP; /* space cannot be set aside in an image */
    }
    if (bytes > end - offset) {
        if (mode == FALLOC_FL_ZERO_RANGE) {
            ret = f->growable ? set_length(f, offset + bytes, false) : -EFBIG;
        }
        bytes = MIN(bytes, bdrv_length(node_of(f)) - offset);
    }
    if (ret == 0 && bytes > 0) {
        ret = blk_co_pwrite_zeroes(f->exp->blk, offset, bytes, flags);
    }
    return ret;
}

static void coroutine_fn fallocate_entry(void *opaque)
{
    FuseCall *c = opaque;

    fuse_reply_err(c->r.req, -zero_range(export_of(c), c->mode, c->offset, c->length));
}

static void fuse_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
                           struct fuse_file_info *fi)
{
    FuseExport *f = fuse_server_opaque(fuse_req_userdata(req));
    FuseCall *c;

    if (!f->exp->writable) {
        fuse_reply_err(req, EROFS);
        return;
    }
    if (!bdrv_range_ok(offset, length)) {
        fuse_reply_err(req, EFBIG);
        return;
    }
    c = new_call(ino, 0);
    c->mode = mode;
    c->offset = offset;
    c->length = length;
    fuse_server_request(&c->r, req, fallocate_entry);
}

static void coroutine_fn flush_entry(void *opaque)
{
    FuseCall *c = opaque;

    fuse_reply_err(c->r.req, -blk_co_flush(export_of(c)->exp->blk));
}

static void fuse_fsync(fuse_req_t req, fuse_ino_t ino, int data_only, struct fuse_file_info *fi)
{
    FuseCall *c = new_call(ino, 0);

    fuse_server_request(&c->r, req, flush_entry);
}

static void fuse_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    fuse_fsync(req, ino, 1, fi);
}

/* The next offset from c->offset that is data (a hole), or -errno. */
static int64_t coroutine_fn seek(FuseExport *f, int64_t offset, bool hole)
{
    BlockDriverState *bs = node_of(f);
    int64_t end = bdrv_length(bs), n;

    if (offset < 0 || offset >= end) {
        return -ENXIO;
    }
    for (; offset < end; offset += n) {
        int ret = bdrv_co_block_status_above(bs, NULL, offset, end - offset, &n);

        if (ret < 0 || n <= 0) {
            return ret < 0 ? ret : -EIO;
        }
        if (hole == !!(ret & BDRV_BLOCK_ZERO)) {
            return offset;
        }
    }
    return hole ? end : -ENXIO; /* behind the end there is a hole */
}

static void coroutine_fn lseek_entry(void *opaque)
{
    FuseCall *c = opaque;
    int64_t ret = seek(export_of(c), c->offset, c->mode == SEEK_HOLE);

    if (ret < 0) {
        fuse_reply_err(c->r.req, -ret);
    } else {
        fuse_reply_lseek(c->r.req, ret);
    }
}

static void fuse_lseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence,
                       struct fuse_file_info *fi)
{
    FuseCall *c;

    if (whence != SEEK_DATA && whence != SEEK_HOLE) {
        fuse_reply_err(req, EINVAL); /* the kernel does the others itself */
        return;
    }
    c = new_call(ino, 0);
    c->offset = offset;
    c->mode = whence;
    fuse_server_request(&c->r, req, lseek_entry);
}

static const struct fuse_lowlevel_ops file_ops = {
    .getattr = fuse_getattr,
    .setattr = fuse_setattr,
    .open = fuse_open,
    .read = fuse_read,
    .write = fuse_write,
    .fallocate = fuse_fallocate,
    .flush = fuse_flush,
    .fsync = fuse_fsync,
    .lseek = fuse_lseek,
};

/* --- Life -------------------------------------------------------------------------------------------- */

static bool coroutine_fn fuse_export_co_start(BlockExport *exp, const BlockExportOptions *options,
                                              GError **errp)
{
    const BlockExportOptionsFuse *o = &options->u.fuse;
    FuseExport *f;
    FuseServerConfig config = {
        .id = exp->id,
        .mountpoint = o->mountpoint,
        .allow_other = o->has_allow_other ? o->allow_other : FUSE_EXPORT_ALLOW_OTHER_AUTO,
        .ctx = bdrv_context(blk_bs(exp->blk)),
        .ops = &file_ops,
    };

    f = g_new0(FuseExport, 1);
    f->exp = exp;
    f->growable = o->has_growable && o->growable;
    f->mode = S_IFREG | S_IRUSR | (exp->writable ? S_IWUSR : 0);
    f->uid = getuid();
    f->gid = getgid();
    co_mutex_init(&f->resize);
    config.opaque = f;
    exp->opaque = f;
    f->server = fuse_server_co_start(&config, errp);
    if (!f->server) {
        co_mutex_destroy(&f->resize);
        g_free(f);
        return false;
    }
    return true;
}

static void coroutine_fn fuse_export_co_stop(BlockExport *exp)
{
    FuseExport *f = exp->opaque;

    fuse_server_co_stop(f->server);
    co_mutex_destroy(&f->resize);
    g_free(f);
}

const BlockExportDriver block_export_fuse = {
    .type = BLOCK_EXPORT_TYPE_FUSE,
    .can_write = true,
    .co_start = fuse_export_co_start,
    .co_stop = fuse_export_co_stop,
};
