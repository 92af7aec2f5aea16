/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>
#include "util/fd-table.h"

#define RESERVE 4096 /* descriptors: 8 bytes each, and three bits */

void fd_table_reserve(void)
{
    struct rlimit limit;
    rlim_t nr = RESERVE;
    int any, last;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < nr) {
        nr = limit.rlim_cur;
    }
    any = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (any < 0) {
        return; /* it grows when it must */
    }
    last = nr > 1 ? fcntl(any, F_DUPFD_CLOEXEC, (int)(nr - 1)) : -1;
    if (last >= 0) {
        close(last);
    }
    close(any);
}
