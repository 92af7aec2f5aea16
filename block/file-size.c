/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The size of a file, and what of it is allocated from the start.  Everything here blocks: for
 * workers.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "file-int.h"
#include "qapi/error.h"

#define ZERO_CHUNK (1 << 20)

static int write_zeroes(int fd, int64_t from, int64_t to)
{
    g_autofree uint8_t *zero = g_malloc0(MIN(to - from, ZERO_CHUNK));

    while (from < to) {
        ssize_t n = pwrite(fd, zero, MIN(to - from, ZERO_CHUNK), from);

        if (n < 0 && errno != EINTR) {
            return -errno;
        }
        from += MAX(n, 0);
    }
    return 0;
}

/* Zeroes that go through the page cache, also where fd itself goes around it. */
static int write_full(int fd, int64_t from, int64_t to)
{
    g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", fd);
    int cached = open(path, O_WRONLY | O_CLOEXEC);
    int ret;

    if (cached < 0) {
        return -errno;
    }
    ret = write_zeroes(cached, from, to);
    if (ret == 0 && fdatasync(cached) < 0) {
        ret = -errno;
    }
    close(cached);
    return ret;
}

int64_t file_size_of(int fd, const struct stat *st)
{
    uint64_t bytes;
    off_t end;

    if (S_ISREG(st->st_mode)) {
        return st->st_size;
    }
    if (S_ISBLK(st->st_mode) && ioctl(fd, BLKGETSIZE64, &bytes) == 0) {
        return bytes <= INT64_MAX ? (int64_t)bytes : -EFBIG;
    }
    end = lseek(fd, 0, SEEK_END);
    return end < 0 ? -errno : end;
}

int file_set_size(int fd, int64_t length, PreallocMode prealloc, GError **errp)
{
    struct stat st;
    int ret = 0;

    if (prealloc == PREALLOC_MODE_METADATA) {
        error_setg(errp, "Unsupported preallocation mode: %s", PreallocMode_str(prealloc));
        return -ENOTSUP;
    }
    if (fstat(fd, &st) < 0) {
        ret = -errno;
    } else if (length <= st.st_size || prealloc == PREALLOC_MODE_OFF) {
        ret = ftruncate(fd, length) < 0 ? -errno : 0;
    } else {
        ret = prealloc == PREALLOC_MODE_FALLOC
                  ? -posix_fallocate(fd, st.st_size, length - st.st_size)
                  : write_full(fd, st.st_size, length);
        if (ret < 0 && ftruncate(fd, st.st_size) < 0) {
            ret = -errno; /* longer than it was, then; what is new reads as zero */
        }
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, prealloc == PREALLOC_MODE_OFF ? "Failed to resize the file"
                                                                   : "Could not preallocate data");
    }
    return ret;
}
