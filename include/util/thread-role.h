/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a thread is for, told to the kernel's scheduler. */
#ifndef UTIL_THREAD_ROLE_H
#define UTIL_THREAD_ROLE_H

typedef enum ThreadRole {
    THREAD_ROLE_ANSWER, /* sleeps most of the time, somebody waits for what it does */
    THREAD_ROLE_GUEST,  /* runs guest code: may be busy, and must wake up quickly */
    THREAD_ROLE_BULK,   /* moves a lot of data behind everybody's back */
} ThreadRole;

/*
 * Asks the scheduler to treat the calling thread so.  Advice only: needs no privilege,
 * changes nothing but latency and share of time, and a kernel that does not know the
 * request (slices: Linux 6.12) goes on as before.
 */
void thread_set_role(ThreadRole role);

#endif
