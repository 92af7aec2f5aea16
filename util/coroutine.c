/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The core of coroutines: enter, yield, end.  Any thread; nothing here locks or makes a
 * system call.  A coroutine's first entry is in coroutine_trampoline(), which stays at
 * the bottom of its stack for good: an ended coroutine that comes back from the pool
 * continues there with its next entry function.
 *
 * Thread-local addresses must not live over a switch in a coroutine, which may continue
 * in another thread.  coroutine_enter() is no such place: what it entered always comes
 * back to it in the same thread.
 */
#include "coroutine-int.h"

#include <stdio.h>
#include <stdlib.h>

#if COROUTINE_ASAN
#include <sanitizer/common_interface_defs.h>
#endif
#if COROUTINE_TSAN
#include <sanitizer/tsan_interface.h>
#endif

__thread CoroutineThread coroutine_thread __attribute__((tls_model("initial-exec")));

/*
 * The sanitizers' view of a switch.  before: to is about to run; ending: from will not.
 * after: we are back in self; prev, if not NULL, is what ran before and gets its bounds.
 */
static inline void before_switch(Coroutine *from, Coroutine *to, bool ending)
{
#if COROUTINE_ASAN
    __sanitizer_start_switch_fiber(ending ? NULL : &from->asan_fake_stack, to->stack,
                                   to->stack_size);
#endif
#if COROUTINE_TSAN
    __tsan_switch_to_fiber(to->tsan_fiber, 0);
#endif
}

static inline void after_switch(Coroutine *self, Coroutine *prev)
{
#if COROUTINE_ASAN
    const void *bottom;
    size_t size;
    __sanitizer_finish_switch_fiber(self->asan_fake_stack, &bottom, &size);
    if (prev) {
        prev->stack = (void *)bottom;
        prev->stack_size = size;
    }
#endif
}

static G_GNUC_NORETURN void coroutine_misuse(const char *what, Coroutine *co)
{
    fprintf(stderr, "Internal error: coroutine %p %s\n", (void *)co, what);
    abort();
}

/* Not to be inlined: the result must be fetched anew after every switch. */
__attribute__((noinline)) static CoroutineThread *this_thread(void)
{
    CoroutineThread *t = &coroutine_thread;
    __asm__ volatile("" : "+r"(t) : : "memory");
    return t;
}

__attribute__((noinline)) Coroutine *coroutine_self(void)
{
    return this_thread()->current;
}

__attribute__((noinline)) bool in_coroutine(void)
{
    return this_thread()->current != NULL;
}

Coroutine *coroutine_create(CoroutineEntry *entry, void *opaque)
{
    CoroutineThread *t = &coroutine_thread;
    Coroutine *co = t->pool;

    if (G_LIKELY(co)) {
        t->pool = co->next;
        t->pool_size--;
    } else {
        co = coroutine_pool_refill(t);
    }
    co->entry = entry;
    co->opaque = opaque;
    return co;
}

static inline void leave(Coroutine *self, CoroutineAction action)
{
    Coroutine *to = self->caller;

    self->caller = NULL;
    before_switch(self, to, COROUTINE_ASAN && action == COROUTINE_ENDED);
    coroutine_switch(&self->sp, to->sp, action);
    after_switch(self, self->caller);
}

void coroutine_trampoline(void)
{
    Coroutine *self = coroutine_self();

    after_switch(self, self->caller);
    for (;;) {
        self->entry(self->opaque);
        leave(self, COROUTINE_ENDED);
    }
}

static void coroutine_ended(CoroutineThread *t, Coroutine *co)
{
    __atomic_store_n(&co->ctx, NULL, __ATOMIC_RELAXED);
#if COROUTINE_ASAN || COROUTINE_TSAN
    /* Never reused, so that a use after the end is found. */
    coroutine_free(co);
#else
    co->next = t->pool;
    t->pool = co;
    if (G_UNLIKELY(++t->pool_size > t->pool_max)) {
        coroutine_pool_drain(t);
    }
#endif
}

void coroutine_enter(Coroutine *co)
{
    CoroutineThread *t = &coroutine_thread;
    Coroutine *prev = t->current;
    Coroutine *from = prev ? prev : &t->leader;
    CoroutineAction action;

    if (G_UNLIKELY(co->caller)) {
        coroutine_misuse("is entered while it runs", co);
    }
    co->caller = from;
    __atomic_store_n(&co->ctx, t->ctx, __ATOMIC_RELAXED);
    t->current = co;
#if COROUTINE_TSAN
    if (!prev) {
        from->tsan_fiber = __tsan_get_current_fiber();
    }
#endif
    before_switch(from, co, false);
    action = coroutine_switch(&from->sp, co->sp, COROUTINE_ENTERED);
    after_switch(from, NULL);
    t->current = prev;

    if (G_LIKELY(action == COROUTINE_YIELDED)) {
        return;
    }
    if (action == COROUTINE_ENDED) {
        coroutine_ended(t, co);
    } else {
        aio_co_schedule(co->move_to, co);
    }
}

static inline Coroutine *leaving_self(void)
{
    CoroutineThread *t = &coroutine_thread;
    Coroutine *self = t->current;

    if (G_UNLIKELY(!self)) {
        coroutine_misuse("yields outside of any coroutine", NULL);
    }
#if CONFIG_DEBUG
    if (G_UNLIKELY(t->foreign_locks)) {
        coroutine_misuse("yields while its thread holds another AioContext", self);
    }
#endif
    return self;
}

void coroutine_fn coroutine_yield(void)
{
    leave(leaving_self(), COROUTINE_YIELDED);
}

void coroutine_fn coroutine_yield_to(AioContext *ctx)
{
    Coroutine *self = leaving_self();

    self->move_to = ctx;
    leave(self, COROUTINE_MOVED);
}
