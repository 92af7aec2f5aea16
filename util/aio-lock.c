/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The lock of an AioContext: a recursive ticket lock on a futex.  The loop takes it for
 * every round, so a lock that prefers whoever comes at the right moment would starve
 * the other threads; this one serves in order.  Any thread.
 */
#include "aio-int.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

static void futex(uint32_t *word, int op, uint32_t value)
{
    syscall(SYS_futex, word, op, value, NULL, NULL, 0);
}

void aio_lock(AioLock *lock)
{
    CoroutineThread *me = &coroutine_thread;
    uint32_t ticket, serving;

    if (__atomic_load_n(&lock->owner, __ATOMIC_RELAXED) == me) {
        lock->depth++;
        return;
    }
    ticket = __atomic_fetch_add(&lock->next, 1, __ATOMIC_SEQ_CST);
    while ((serving = __atomic_load_n(&lock->serving, __ATOMIC_SEQ_CST)) != ticket) {
        futex(&lock->serving, FUTEX_WAIT_PRIVATE, serving);
    }
    __atomic_store_n(&lock->owner, me, __ATOMIC_RELAXED);
    lock->depth = 1;
}

void aio_unlock(AioLock *lock)
{
    g_assert(__atomic_load_n(&lock->owner, __ATOMIC_RELAXED) == &coroutine_thread);
    if (--lock->depth == 0) {
        uint32_t next = lock->serving + 1;

        __atomic_store_n(&lock->owner, NULL, __ATOMIC_RELAXED);
        __atomic_store_n(&lock->serving, next, __ATOMIC_SEQ_CST);
        if (__atomic_load_n(&lock->next, __ATOMIC_SEQ_CST) != next) {
            futex(&lock->serving, FUTEX_WAKE_PRIVATE, INT32_MAX);
        }
    }
}

void aio_context_acquire(AioContext *ctx)
{
    CoroutineThread *me = &coroutine_thread;

    aio_lock(&ctx->lock);
    if (me->ctx != ctx) {
        me->foreign_locks++;
    }
}

void aio_context_release(AioContext *ctx)
{
    CoroutineThread *me = &coroutine_thread;

    if (me->ctx != ctx) {
        me->foreign_locks--;
    }
    aio_unlock(&ctx->lock);
}
