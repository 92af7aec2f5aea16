/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sets of file descriptors that a client has handed over (add-fd, -add-fd).  Where a file name
 * is asked for, "/dev/fdset/N" means the descriptor of set N that has the access mode wanted.
 * Any thread.
 */
#ifndef UTIL_FDSET_H
#define UTIL_FDSET_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* One descriptor of a set. */
typedef struct FdSetEntry {
    int64_t set;
    int fd;
    char *opaque; /* what the client said about it, or NULL */
} FdSetEntry;

/*
 * Adds fd (owned from here on) to the set called set, which is made if there is none; set -1:
 * to a new one with the lowest free number.  Returns the set.
 */
int64_t fdset_add(int64_t set, int fd, const char *opaque);
/* Closes the descriptor fd of the set, all if fd is -1; false and errp if there is none. */
bool fdset_remove(int64_t set, int fd, GError **errp);
/*
 * All: the set with the highest number first, each in the order of adding.  The caller frees
 * it with g_ptr_array_unref().
 */
GPtrArray *fdset_list(void);
/*
 * As open(2), but a path that begins with "/dev/fdset/" gives a duplicate of the set's
 * descriptor.  errno is EINVAL if no number follows, ENOENT if there is no such set, EACCES if
 * none of its descriptors has the access mode.  May block as open(2) may.
 */
int fdset_open(const char *path, int flags, mode_t mode);

#endif
