/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UTIL_FD_TABLE_H
#define UTIL_FD_TABLE_H

/*
 * Makes the kernel's table of this process's descriptors so large (4,096, or what
 * RLIMIT_NOFILE allows) that it does not have to grow later.  In a process with several threads
 * whoever opens the descriptor that makes it grow - accept(2) in the main loop, say - waits for
 * an RCU grace period, which was seen to take 10 to 80 ms.  Before the first thread is made.
 */
void fd_table_reserve(void);

#endif
