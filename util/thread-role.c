/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Scheduling by role: on a busy host a thread with a shorter slice gets the CPU sooner when
 * it wakes up (sched(7), sched_setattr(2); with EEVDF the slice of a SCHED_OTHER thread is
 * sched_runtime).  Any thread, for itself.
 */
#include <stdbool.h>
#include "util/thread-role.h"

#include <sched.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

/* struct sched_attr of sched_setattr(2), first version. */
typedef struct SchedAttr {
    uint32_t size;
    uint32_t sched_policy;
    uint64_t sched_flags;
    int32_t sched_nice;
    uint32_t sched_priority;
    uint64_t sched_runtime; /* ns; 0: the kernel's default slice */
    uint64_t sched_deadline;
    uint64_t sched_period;
} SchedAttr;

#define RESET_ON_FORK 1 /* SCHED_FLAG_RESET_ON_FORK: threads made later start without the role */

_Static_assert(sizeof(SchedAttr) == 48, "SCHED_ATTR_SIZE_VER0");

void thread_set_role(ThreadRole role)
{
    static const SchedAttr roles[] = {
        [THREAD_ROLE_ANSWER] = { .sched_policy = SCHED_OTHER, .sched_runtime = 100 * 1000 },
        [THREAD_ROLE_GUEST] = { .sched_policy = SCHED_OTHER, .sched_runtime = 100 * 1000 },
        [THREAD_ROLE_BULK] = { .sched_policy = SCHED_BATCH, .sched_nice = 5,
                               .sched_runtime = 10 * 1000 * 1000 },
    };
    /* What the thread had before its first role: roles may be changed back and forth. */
    static __thread int base_nice, has_base;
    SchedAttr attr = roles[role], now = { .size = sizeof(now) };

    /* A user's own choice of policy or niceness (chrt, nice) stays the base. */
    if (syscall(SYS_sched_getattr, 0, &now, sizeof(now), 0) < 0 ||
        (now.sched_policy != SCHED_OTHER && now.sched_policy != SCHED_BATCH)) {
        return;
    }
    attr.size = sizeof(attr);
    attr.sched_flags = RESET_ON_FORK;
    if (!has_base) {
        base_nice = now.sched_nice;
        has_base = true;
    }
    attr.sched_nice += base_nice;
    if (attr.sched_nice > 19) {
        attr.sched_nice = 19;
    }
    if (syscall(SYS_sched_setattr, 0, &attr, 0) < 0) {
        /* Becoming less nice may take a privilege; the slice does not. */
        attr.sched_nice = now.sched_nice;
        syscall(SYS_sched_setattr, 0, &attr, 0);
    }
}
