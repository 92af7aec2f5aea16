/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The file driver, an image in a regular file, and host_device, an image on a host device.
 * Data goes through the home context's io_uring (util/aio.h), or through workers with
 * aio=threads; everything without an asynchronous form, from open(2) to lseek(2), runs in a
 * worker.  A file whose size is no multiple of 512 bytes
 * shows as rounded up, the missing bytes read as zero.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "block/block-int.h"
#include "file-int.h"
#include "qapi/error.h"
#include "util/fdset.h"

#define SECTOR 512

typedef struct FileState {
    int fd;
    bool regular;
    bool lock;         /* take image locks */
    bool threads;      /* reads and writes go through workers: aio=threads */
    bool drop_cache;   /* forget what is cached when the node becomes active */
    unsigned has, denies; /* FILE_RIGHT_*: those that are or, when inactive, will be taken */
    bool no_zero_range, no_punch_hole; /* the file system cannot */
    unsigned written, flushed; /* generations: a flush without writes costs nothing */
    FileWriteback writeback;
} FileState;

static int64_t round_up_sector(int64_t n)
{
    return n > INT64_MAX - SECTOR ? n : (n + SECTOR - 1) & ~(int64_t)(SECTOR - 1);
}

/* --- Opening ------------------------------------------------------------------------------ */

typedef struct OpenWork {
    BlockDriverState *bs;
    const char *filename;
    bool auto_read_only;
    bool lock_wanted, lock_forced;
    int64_t length, alignment;
    GError *err;
} OpenWork;

/* The smallest unit that O_DIRECT takes, found by reading. */
static int64_t direct_alignment(int fd)
{
    void *buf = g_aligned_alloc(1, 4096, 4096);
    int64_t align;

    for (align = SECTOR; align < 4096; align *= 2) {
        if (pread(fd, buf, align, align) >= 0 || errno != EINVAL) {
            break;
        }
    }
    g_aligned_free(buf);
    return align;
}

static bool open_failed(OpenWork *w, int errnum)
{
    error_setg_errno(&w->err, errnum, "Could not open '%s'", w->filename);
    return false;
}

/* Adds to the rights; an inactive node takes them later.  Worker. */
static bool take_rights(BlockDriverState *bs, const char *filename, unsigned has, unsigned denies,
                        GError **errp)
{
    FileState *s = bs->opaque;

    s->has |= has;
    s->denies |= denies;
    return bs->inactive || file_lock(s->fd, filename, s->has, s->denies, errp);
}

static bool lock_opened(OpenWork *w)
{
    FileState *s = w->bs->opaque;
    unsigned has = FILE_RIGHT_READ | (w->bs->read_only ? 0 : FILE_RIGHT_WRITE);
    unsigned denies = w->bs->read_only ? 0 : FILE_RIGHT_WRITE;

    if (!w->lock_wanted || !s->regular) {
        return true;
    }
    if (!file_locks_supported(s->fd)) {
        if (w->lock_forced) {
            error_setg(&w->err, "Could not open '%s': the file system cannot lock the image "
                       "as locking=on asks", w->filename);
        }
        return !w->lock_forced;
    }
    s->lock = true;
    return take_rights(w->bs, w->filename, has, denies, &w->err);
}

static bool check_type(OpenWork *w, mode_t mode)
{
    if (w->bs->drv == &bdrv_host_device_driver) {
        if (!S_ISCHR(mode) && !S_ISBLK(mode)) {
            error_setg(&w->err, "'host_device' driver requires '%s' to be either a character or "
                       "block device", w->filename);
        }
    } else if (!S_ISREG(mode)) {
        error_setg(&w->err, "'file' driver requires '%s' to be a regular file", w->filename);
    }
    return !w->err;
}

static bool examine(OpenWork *w)
{
    FileState *s = w->bs->opaque;
    struct stat st;

    if (fstat(s->fd, &st) < 0) {
        return open_failed(w, errno);
    }
    if (!check_type(w, st.st_mode)) {
        return false;
    }
    s->regular = S_ISREG(st.st_mode);
    w->length = file_size_of(s->fd, &st);
    if (w->length < 0) {
        error_setg_errno(&w->err, -w->length, "Could not get the size of '%s'", w->filename);
        return false;
    }
    w->alignment = w->bs->cache_direct ? direct_alignment(s->fd) : 1;
    return lock_opened(w);
}

static int open_worker(void *opaque)
{
    OpenWork *w = opaque;
    FileState *s = w->bs->opaque;
    int flags = O_CLOEXEC | (w->bs->cache_direct ? O_DIRECT : 0);
    struct stat st;

    /* Before it is opened, which for a FIFO may last for ever.  A directory has an errno for that. */
    if (stat(w->filename, &st) == 0 && !S_ISDIR(st.st_mode) && !check_type(w, st.st_mode)) {
        return -EINVAL;
    }
    s->fd = fdset_open(w->filename, flags | (w->bs->read_only ? O_RDONLY : O_RDWR), 0);
    if (s->fd < 0 && !w->bs->read_only && w->auto_read_only &&
        (errno == EACCES || errno == EROFS || errno == EPERM)) {
        s->fd = fdset_open(w->filename, flags | O_RDONLY, 0);
        if (s->fd >= 0) {
            w->bs->read_only = true;
        }
    }
    if (s->fd < 0) {
        int errnum = errno;

        if (errnum == EINVAL && w->bs->cache_direct) {
            error_setg(&w->err, "Could not open '%s': filesystem does not support O_DIRECT",
                       w->filename);
        } else {
            open_failed(w, errnum);
        }
        return -errnum;
    }
    if (!examine(w)) {
        close(s->fd);
        return -EINVAL;
    }
    return 0;
}

static bool coroutine_fn file_co_open(BlockDriverState *bs, const BlockdevOptions *options,
                                      GError **errp)
{
    const BlockdevOptionsFile *o = options->driver == BLOCKDEV_DRIVER_HOST_DEVICE
                                       ? &options->u.host_device
                                       : &options->u.file;
    FileState *s = bs->opaque;
    OpenWork w = {
        .bs = bs,
        .filename = o->filename,
        .auto_read_only = options->has_auto_read_only && options->auto_read_only,
        .lock_wanted = !bs->force_share && !(o->has_locking && o->locking == ON_OFF_AUTO_OFF),
        .lock_forced = o->has_locking && o->locking == ON_OFF_AUTO_ON,
    };

    if (!*o->filename) {
        error_setg(errp, "The '%s' block driver requires a file name", bs->drv->name);
        return false;
    }
    if (o->has_aio && o->aio == BLOCKDEV_AIO_OPTIONS_NATIVE && !bs->cache_direct) {
        error_setg(errp, "aio=native was specified, but it requires cache.direct=on, which "
                   "was not specified.");
        return false;
    }
    if (o->has_x_check_cache_dropped && o->x_check_cache_dropped) {
        error_setg(errp, "x-check-cache-dropped is not supported");
        return false;
    }
    s->threads = o->has_aio ? o->aio == BLOCKDEV_AIO_OPTIONS_THREADS : bs->aio_threads;
    s->drop_cache = !o->has_drop_cache || o->drop_cache;
    if (co_run_in_worker(open_worker, &w) < 0) {
        g_propagate_error(errp, w.err);
        return false;
    }
    bs->filename = g_strdup(o->filename);
    bs->request_alignment = w.alignment;
    bdrv_set_length(bs, round_up_sector(w.length));
    return true;
}

static int close_worker(void *opaque)
{
    FileState *s = opaque;

    file_unlock(s->fd);
    close(s->fd);
    return 0;
}

static void coroutine_fn file_co_close(BlockDriverState *bs)
{
    co_run_in_worker(close_worker, bs->opaque);
}

typedef struct LockWork {
    BlockDriverState *bs;
    GError *err;
} LockWork;

static int lock_worker(void *opaque)
{
    LockWork *w = opaque;
    unsigned has = w->bs->read_only ? FILE_RIGHT_READ
                                    : FILE_RIGHT_READ | FILE_RIGHT_WRITE | FILE_RIGHT_RESIZE;

    return take_rights(w->bs, w->bs->filename, has, FILE_RIGHT_WRITE | FILE_RIGHT_RESIZE, &w->err)
               ? 0
               : -EAGAIN;
}

static bool coroutine_fn file_co_lock_for_format(BlockDriverState *bs, GError **errp)
{
    FileState *s = bs->opaque;
    LockWork w = { .bs = bs };

    if (s->lock && co_run_in_worker(lock_worker, &w) < 0) {
        g_propagate_error(errp, w.err);
        return false;
    }
    return true;
}

static int drop_worker(void *opaque)
{
    FileState *s = opaque;

    s->has &= ~(FILE_RIGHT_WRITE | FILE_RIGHT_RESIZE);
    file_lock_drop(s->fd, FILE_RIGHT_WRITE | FILE_RIGHT_RESIZE);
    return 0;
}

static int coroutine_fn file_co_set_read_only(BlockDriverState *bs)
{
    FileState *s = bs->opaque;

    return s->lock ? co_run_in_worker(drop_worker, s) : 0;
}

/* The same file for writing, whatever its name is now: the descriptor, or -errno. */
static int open_for_writing(BlockDriverState *bs)
{
    FileState *s = bs->opaque;
    int flags = O_RDWR | O_CLOEXEC | (bs->cache_direct ? O_DIRECT : 0);
    g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", s->fd);
    bool in_set = g_str_has_prefix(bs->filename, "/dev/fdset/");
    int fd = fdset_open(in_set ? bs->filename : path, flags, 0);

    return fd < 0 ? -errno : fd;
}

static int cannot_write(LockWork *w, int errnum, const char *why)
{
    error_setg(&w->err, "%s ('%s'%s)", strerror(errnum), w->bs->filename, why);
    return -errnum;
}

static int writable_worker(void *opaque)
{
    LockWork *w = opaque;
    FileState *s = w->bs->opaque;
    unsigned has = s->has | FILE_RIGHT_WRITE | FILE_RIGHT_RESIZE;
    unsigned denies = s->denies | FILE_RIGHT_WRITE | FILE_RIGHT_RESIZE;
    bool was = (fcntl(s->fd, F_GETFL) & O_ACCMODE) == O_RDWR; /* it has only become read-only */
    int fd = was ? s->fd : open_for_writing(w->bs), ret = 0;

    if (fd < 0) {
        return cannot_write(w, -fd, "");
    }
    if (s->lock && was && !file_lock(fd, w->bs->filename, has, denies, NULL)) {
        file_lock_drop(fd, has & ~s->has);
        ret = cannot_write(w, EACCES, " has other users");
    } else if (s->lock && !was &&
               !file_lock_move(s->fd, s->has, s->denies, fd, has, denies)) {
        ret = cannot_write(w, EACCES, " has other users");
    } else if (!was && dup3(fd, s->fd, O_CLOEXEC) < 0) { /* requests under way keep the old file */
        ret = cannot_write(w, errno, "");
        if (s->lock) {
            file_lock_move(fd, has, denies, s->fd, s->has, s->denies);
        }
    } else if (s->lock) {
        s->has = has;
        s->denies = denies;
    }
    if (!was) {
        close(fd);
    }
    return ret;
}

static bool coroutine_fn file_co_set_writable(BlockDriverState *bs, GError **errp)
{
    LockWork w = { .bs = bs };

    if (co_run_in_worker(writable_worker, &w) < 0) {
        g_propagate_error(errp, w.err);
        return false;
    }
    return true;
}

static int activate_worker(void *opaque)
{
    LockWork *w = opaque;
    FileState *s = w->bs->opaque;
    struct stat st;
    int64_t length;

    if (s->lock && !file_lock(s->fd, w->bs->filename, s->has, s->denies, &w->err)) {
        file_unlock(s->fd);
        return -EAGAIN;
    }
    length = fstat(s->fd, &st) < 0 ? -errno : file_size_of(s->fd, &st);
    if (length < 0) {
        error_setg_errno(&w->err, -length, "Could not get the size of '%s'", w->bs->filename);
        file_unlock(s->fd);
        return length;
    }
    bdrv_set_length(w->bs, round_up_sector(length));
    if (s->drop_cache && !w->bs->cache_direct) {
        posix_fadvise(s->fd, 0, 0, POSIX_FADV_DONTNEED); /* advice: another host has written */
    }
    return 0;
}

static bool coroutine_fn file_co_activate(BlockDriverState *bs, GError **errp)
{
    LockWork w = { .bs = bs };

    if (co_run_in_worker(activate_worker, &w) < 0) {
        g_propagate_error(errp, w.err);
        return false;
    }
    return true;
}

static int unlock_worker(void *opaque)
{
    file_unlock(((FileState *)opaque)->fd);
    return 0;
}

static bool coroutine_fn file_co_inactivate(BlockDriverState *bs, GError **errp)
{
    co_run_in_worker(unlock_worker, bs->opaque);
    return true;
}

/* --- I/O ------------------------------------------------------------------------------------ */

/* Any context: only what never changes is looked at, and the length. */
static int coroutine_fn file_co_preadv_aside(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                             IOVector *iov)
{
    FileState *s = bs->opaque;
    ssize_t n = s->threads ? co_preadv_in_worker(s->fd, iov->iov, iov->niov, offset)
                           : co_preadv(s->fd, iov->iov, iov->niov, offset);

    if (n < 0) {
        return n;
    }
    if (n < bytes) {
        int64_t length = __atomic_load_n(&bs->length, __ATOMIC_RELAXED);

        /* Only the end of the last sector may be missing: else somebody cut the file off
         * behind our back, and its content is not zero but lost. */
        if (MIN(offset + bytes, length) - (offset + n) >= SECTOR) {
            return -EIO;
        }
        io_vector_memset(iov, n, 0, bytes - n);
    }
    return 0;
}

static int coroutine_fn file_co_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                       IOVector *iov, int flags)
{
    return file_co_preadv_aside(bs, offset, bytes, iov);
}

static int coroutine_fn file_co_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                        IOVector *iov, int flags)
{
    FileState *s = bs->opaque;
    bool bulk = (flags & BDRV_REQ_WRITE_BEHIND) && s->regular && !bs->cache_direct;
    ssize_t n = bulk         ? co_pwritev_in_bulk(s->fd, iov->iov, iov->niov, offset)
                : s->threads ? co_pwritev_in_worker(s->fd, iov->iov, iov->niov, offset)
                             : co_pwritev(s->fd, iov->iov, iov->niov, offset);

    s->written++;
    if (n < 0) {
        return n;
    }
    if (bulk && !bs->cache_no_flush) {
        file_writeback_add(&s->writeback, bs, s->fd, offset, n);
    }
    return n < bytes ? -ENOSPC : 0;
}

static bool not_supported(int ret)
{
    return ret == -EOPNOTSUPP || ret == -ENOTSUP || ret == -ENOSYS || ret == -ENODEV ||
           ret == -ENOTTY || ret == -EINVAL;
}

/* Frees the range; it reads as zero after that.  Does not grow the file. */
static int coroutine_fn punch_hole(FileState *s, int64_t offset, int64_t bytes)
{
    int ret;

    if (s->no_punch_hole) {
        return -ENOTSUP;
    }
    ret = co_fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, bytes);
    if (not_supported(ret)) {
        s->no_punch_hole = ret != -EINVAL; /* a device may refuse just this alignment */
        return -ENOTSUP;
    }
    return ret;
}

typedef struct SizeWork {
    int fd;
    int64_t length;
    PreallocMode prealloc;
    GError *err;
} SizeWork;

static int grow_worker(void *opaque)
{
    SizeWork *w = opaque;
    struct stat st;

    if (fstat(w->fd, &st) < 0) {
        return -errno;
    }
    return st.st_size >= w->length ? 0 : ftruncate(w->fd, w->length) < 0 ? -errno : 0;
}

static int resize_worker(void *opaque)
{
    SizeWork *w = opaque;

    return file_set_size(w->fd, w->length, w->prealloc, &w->err);
}

static int coroutine_fn file_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                              int flags)
{
    FileState *s = bs->opaque;
    bool grows = offset + bytes > bs->length;
    int ret = -ENOTSUP;

    s->written++;
    if ((flags & BDRV_REQ_MAY_UNMAP) && (s->regular || !grows)) {
        ret = punch_hole(s, offset, bytes);
        if (ret == 0 && grows) {
            SizeWork w = { .fd = s->fd, .length = offset + bytes };
            ret = co_run_in_worker(grow_worker, &w);
        }
        if (ret != -ENOTSUP) {
            return ret;
        }
    }
    if (!s->no_zero_range) {
        ret = co_fallocate(s->fd, FALLOC_FL_ZERO_RANGE, offset, bytes);
        if (!not_supported(ret)) {
            return ret;
        }
        s->no_zero_range = ret != -EINVAL;
    }
    if (s->regular) { /* in two steps where the file system has no ZERO_RANGE */
        ret = punch_hole(s, offset, bytes);
        if (ret == 0) {
            ret = co_fallocate(s->fd, 0, offset, bytes);
        }
    }
    return not_supported(ret) ? -ENOTSUP : ret;
}

static int coroutine_fn file_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    FileState *s = bs->opaque;

    s->written++;
    return punch_hole(s, offset, bytes);
}

typedef struct CopyWork {
    int from, to;
    int64_t from_offset, to_offset, bytes;
} CopyWork;

static int copy_worker(void *opaque)
{
    CopyWork *w = opaque;

    return file_copy_range(w->from, w->from_offset, w->to, w->to_offset, w->bytes);
}

static int coroutine_fn file_co_copy_range(BlockDriverState *bs, int64_t offset,
                                           BlockDriverState *from, int64_t from_offset,
                                           int64_t bytes)
{
    FileState *s = bs->opaque, *source = from->opaque;
    CopyWork w = { .to = s->fd, .from_offset = from_offset, .to_offset = offset, .bytes = bytes };

    if (from->drv->co_copy_range != file_co_copy_range || !source->regular || !s->regular) {
        return -ENOTSUP;
    }
    w.from = source->fd;
    s->written++;
    return co_run_in_worker(copy_worker, &w);
}

static int coroutine_fn file_co_flush(BlockDriverState *bs)
{
    FileState *s = bs->opaque;
    unsigned generation = s->written;
    int ret;

    if (bs->cache_no_flush || s->flushed == generation) {
        return 0;
    }
    ret = co_fdatasync(s->fd);
    if (ret == 0) {
        s->flushed = generation;
    } else if (ret == -EINVAL && !s->regular) {
        ret = 0; /* a character device has nothing to keep */
    }
    return ret;
}

static bool resize_device(BlockDriverState *bs, int64_t length, bool exact,
                          PreallocMode prealloc, GError **errp)
{
    if (prealloc != PREALLOC_MODE_OFF) {
        error_setg(errp, "Preallocation mode '%s' unsupported for this non-regular file",
                   PreallocMode_str(prealloc));
    } else if (exact && length != bs->length) {
        error_setg(errp, "Cannot resize device files");
    } else if (length > bs->length) {
        error_setg(errp, "Cannot grow device files");
    } else {
        return true;
    }
    return false;
}

static bool coroutine_fn file_co_truncate(BlockDriverState *bs, int64_t length, bool exact,
                                          PreallocMode prealloc, GError **errp)
{
    FileState *s = bs->opaque;
    SizeWork w = { .fd = s->fd, .length = length, .prealloc = prealloc };
    int ret;

    if (!s->regular) {
        return resize_device(bs, length, exact, prealloc, errp);
    }
    s->written++;
    ret = co_run_in_worker(resize_worker, &w);
    if (ret < 0) {
        g_propagate_error(errp, w.err);
    }
    return ret == 0;
}

/* --- Status ---------------------------------------------------------------------------------- */

typedef struct StatusWork {
    int fd;
    int64_t offset, bytes, pnum;
    bool data;
} StatusWork;

static int status_worker(void *opaque)
{
    StatusWork *w = opaque;
    off_t data = lseek(w->fd, w->offset, SEEK_DATA);
    off_t hole;

    w->pnum = w->bytes;
    w->data = true;
    if (data < 0) {
        w->data = errno != ENXIO; /* ENXIO: a hole up to the end; others: cannot tell */
        return 0;
    }
    if (data > w->offset) {
        w->data = false;
        w->pnum = MIN(w->bytes, data - w->offset);
        return 0;
    }
    hole = lseek(w->fd, w->offset, SEEK_HOLE);
    if (hole > w->offset) {
        w->pnum = MIN(w->bytes, hole - w->offset);
    }
    return 0;
}

static int coroutine_fn file_co_block_status(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                             int64_t *pnum, int64_t *map)
{
    FileState *s = bs->opaque;
    StatusWork w = { .fd = s->fd, .offset = offset, .bytes = bytes };

    *map = offset;
    if (!s->regular) {
        *pnum = bytes;
        return BDRV_BLOCK_DATA | BDRV_BLOCK_ALLOCATED | BDRV_BLOCK_OFFSET_VALID;
    }
    co_run_in_worker(status_worker, &w);
    *pnum = w.pnum;
    return BDRV_BLOCK_ALLOCATED | BDRV_BLOCK_OFFSET_VALID |
           (w.data ? BDRV_BLOCK_DATA : BDRV_BLOCK_ZERO);
}

typedef struct StatWork {
    int fd;
    struct stat st;
} StatWork;

static int stat_worker(void *opaque)
{
    StatWork *w = opaque;

    return fstat(w->fd, &w->st) < 0 ? -errno : 0;
}

static int64_t coroutine_fn file_co_allocated_size(BlockDriverState *bs)
{
    StatWork w = { .fd = ((FileState *)bs->opaque)->fd };
    int ret = co_run_in_worker(stat_worker, &w);

    return ret < 0 ? ret : (int64_t)w.st.st_blocks * 512;
}

#define FILE_CALLBACKS                                                                            \
    .instance_size = sizeof(FileState),                                                           \
    .co_open = file_co_open,                                                                      \
    .co_close = file_co_close,                                                                    \
    .co_activate = file_co_activate,                                                              \
    .co_inactivate = file_co_inactivate,                                                          \
    .co_preadv = file_co_preadv,                                                                  \
    .co_preadv_aside = file_co_preadv_aside,                                                      \
    .co_pwritev = file_co_pwritev,                                                                \
    .co_pwrite_zeroes = file_co_pwrite_zeroes,                                                    \
    .co_pdiscard = file_co_pdiscard,                                                              \
    .co_copy_range = file_co_copy_range,                                                          \
    .co_flush = file_co_flush,                                                                    \
    .co_set_read_only = file_co_set_read_only,                                                    \
    .co_set_writable = file_co_set_writable,                                                      \
    .co_truncate = file_co_truncate,                                                              \
    .co_block_status = file_co_block_status,                                                      \
    .co_create = file_co_create,                                                                  \
    .co_allocated_size = file_co_allocated_size,                                                  \
    .co_lock_for_format = file_co_lock_for_format

const BlockDriver bdrv_file_driver = { .name = "file", FILE_CALLBACKS };
const BlockDriver bdrv_host_device_driver = { .name = "host_device", FILE_CALLBACKS };
