/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <sys/types.h>
#include <unistd.h>
#include "util/fd-write.h"

int fd_write_all(int fd, const void *buf, size_t len)
{
    const char *p = buf;

    while (len) {
        ssize_t n = write(fd, p, len);

        if (n < 0 && errno != EINTR) {
            return -errno;
        }
        if (n > 0) {
            p += n;
            len -= n;
        }
    }
    return 0;
}
