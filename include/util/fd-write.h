/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UTIL_FD_WRITE_H
#define UTIL_FD_WRITE_H

#include <stddef.h>

/*
 * Writes len bytes at the descriptor's position, however many calls that takes.  Returns 0 or
 * -errno; then some of it may have been written.  Blocks: workers, and programs without a loop.
 */
int fd_write_all(int fd, const void *buf, size_t len);

#endif
