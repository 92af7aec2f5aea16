/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copying between two files inside the kernel, which may share the blocks.  Blocks: for workers. */
#include <errno.h>
#include <unistd.h>
#include "file-int.h"

/* A call of this size ends soon enough for whoever waits for the worker. */
#define MAX_COPY (64 << 20)

int file_copy_range(int from, int64_t from_offset, int to, int64_t to_offset, int64_t bytes)
{
    while (bytes > 0) {
        off_t in = from_offset, out = to_offset;
        ssize_t n = copy_file_range(from, &in, to, &out, MIN(bytes, MAX_COPY), 0);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && (errno == ENOSPC || errno == EIO || errno == EDQUOT)) {
            return -errno;
        }
        if (n <= 0) {
            return -ENOTSUP; /* the kernel cannot, or the source is shorter */
        }
        from_offset += n;
        to_offset += n;
        bytes -= n;
    }
    return 0;
}
