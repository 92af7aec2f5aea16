/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of the file driver share. */
#ifndef BLOCK_FILE_INT_H
#define BLOCK_FILE_INT_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include "block/block-int.h"

/* Rights on an image file that the locks are about. */
enum {
    FILE_RIGHT_READ = 1,
    FILE_RIGHT_WRITE = 2,
    FILE_RIGHT_RESIZE = 8,
};

/* Whether fd's file system can do these locks at all. */
bool file_locks_supported(int fd);
/*
 * Takes the rights in the mask has and keeps others from those in denies, beside what fd
 * holds already; errp when another user is in the way (what was taken so far stays
 * until fd is closed).  Blocking; worker threads.
 */
bool file_lock(int fd, const char *filename, unsigned has, unsigned denies, GError **errp);
/*
 * The rights of one open file go to another one of the same file, which gets more of them.  false
 * when another user is in the way; then everything is as it was.  Blocking; worker threads.
 */
bool file_lock_move(int from, unsigned from_has, unsigned from_denies, int to, unsigned has,
                    unsigned denies);
/* Gives the rights in the mask has back. */
void file_lock_drop(int fd, unsigned has);
/*
 * Gives all rights back.  close() alone may do so too late: a request that has just ended
 * keeps the open file alive a little longer.
 */
void file_unlock(int fd);

/* The size in bytes of a file or device, of which st is what fstat() says; -errno. */
int64_t file_size_of(int fd, const struct stat *st);
/*
 * Sets a regular file's size in bytes; what a file that grows gets more of is allocated as
 * prealloc says.  0, or -errno and errp, with the file as it was.  Blocking; worker threads.
 */
int file_set_size(int fd, int64_t length, PreallocMode prealloc, GError **errp);

/* The driver's co_create(): a file of params->size bytes in place of whatever was there. */
bool coroutine_fn file_co_create(const BdrvCreateParams *params, AioContext *ctx, GError **errp);

/*
 * Copies bytes between two regular files inside the kernel; to grows if need be.  0 or -errno;
 * -ENOTSUP: that cannot be done, or not all of it, and to may have a part of it.  Blocking;
 * worker threads.
 */
int file_copy_range(int from, int64_t from_offset, int to, int64_t to_offset, int64_t bytes);

/*
 * Writing behind (BDRV_REQ_WRITE_BEHIND): where bytes were written that the kernel has not yet
 * been told to bring to the disk.  Zeroed at first.  Home context.
 */
typedef struct FileWriteback {
    BlockDriverState *bs;
    int fd;
    int64_t start, end; /* from the first to the last of them; equal: none */
    bool running;       /* a coroutine is at it, as a request of the node */
} FileWriteback;

/* Adds what has been written through fd, the file of bs, in a request that has not ended yet. */
void coroutine_fn file_writeback_add(FileWriteback *w, BlockDriverState *bs, int fd,
                                     int64_t offset, int64_t bytes);

#endif
