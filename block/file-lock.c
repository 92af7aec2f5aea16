/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Image locks: open-file-description locks on single bytes of the image, in the layout
 * that QEMU's manual documents and its programs use, so that theirs and ours keep each
 * other out.  Byte 100 + n is held by a user that has right n, byte 200 + n by one that
 * does not grant right n to others; all locks are shared ones, a conflict is seen by asking
 * for the opposite byte.  Runs in worker threads: fcntl(2) may take time on a network disk.
 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>
#include "file-int.h"
#include "qapi/error.h"

enum { HAS_BASE = 100, DENIES_BASE = 200, N_RIGHTS = 4 };

static const char *const right_names[N_RIGHTS] = {
    "consistent read", "write", "write unchanged", "resize",
};

static int set_byte(int fd, off_t byte, short type)
{
    struct flock fl = { .l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };

    return fcntl(fd, F_OFD_SETLK, &fl) < 0 ? -errno : 0;
}

/* Whether another open file description holds the byte; -errno if unknown. */
static int byte_taken(int fd, off_t byte)
{
    struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };

    if (fcntl(fd, F_OFD_GETLK, &fl) < 0) {
        return -errno;
    }
    return fl.l_type != F_UNLCK;
}

static bool lock_error(const char *what, const char *right, const char *filename, GError **errp)
{
    error_setg(errp, "Failed to get %s\"%s\" lock\nIs another process using the image [%s]?",
               what, right, filename);
    return false;
}

bool file_locks_supported(int fd)
{
    return byte_taken(fd, HAS_BASE) >= 0;
}

bool file_lock(int fd, const char *filename, unsigned has, unsigned denies, GError **errp)
{
    for (int i = 0; i < N_RIGHTS; i++) {
        if ((has & (1u << i)) && set_byte(fd, HAS_BASE + i, F_RDLCK) < 0) {
            return lock_error("", right_names[i], filename, errp);
        }
        if ((denies & (1u << i)) && set_byte(fd, DENIES_BASE + i, F_RDLCK) < 0) {
            return lock_error("shared ", right_names[i], filename, errp);
        }
    }
    for (int i = 0; i < N_RIGHTS; i++) {
        if ((has & (1u << i)) && byte_taken(fd, DENIES_BASE + i)) {
            return lock_error("", right_names[i], filename, errp);
        }
        if ((denies & (1u << i)) && byte_taken(fd, HAS_BASE + i)) {
            return lock_error("shared ", right_names[i], filename, errp);
        }
    }
    return true;
}

/* Sets or clears the bytes of the rights. */
static void set_bytes(int fd, unsigned has, unsigned denies, short type)
{
    for (int i = 0; i < N_RIGHTS; i++) {
        if (has & (1u << i)) {
            set_byte(fd, HAS_BASE + i, type);
        }
        if (denies & (1u << i)) {
            set_byte(fd, DENIES_BASE + i, type);
        }
    }
}

bool file_lock_move(int from, unsigned from_has, unsigned from_denies, int to, unsigned has,
                    unsigned denies)
{
    /* Others are denied all the time: to denies them before from no longer does. */
    set_bytes(to, 0, from_denies, F_RDLCK);
    set_bytes(from, from_has, from_denies, F_UNLCK);
    if (file_lock(to, "", has, denies, NULL)) {
        return true;
    }
    set_bytes(from, from_has, from_denies, F_RDLCK);
    file_unlock(to);
    return false;
}

void file_lock_drop(int fd, unsigned has)
{
    for (int i = 0; i < N_RIGHTS; i++) {
        if (has & (1u << i)) {
            set_byte(fd, HAS_BASE + i, F_UNLCK);
        }
    }
}

void file_unlock(int fd)
{
    struct flock fl = { .l_type = F_UNLCK, .l_whence = SEEK_SET };

    fcntl(fd, F_OFD_SETLK, &fl);
}
