/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Coroutine stacks and their pools.  A coroutine is one mapping: a guard, the stack,
 * and above it the Coroutine.  Ended ones are kept per thread, without a lock; what is
 * too much goes in batches to a global pool, from where threads that create more than
 * they end take it back.  Any thread.
 */
#include "coroutine-int.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#if COROUTINE_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/lsan_interface.h>
#endif
#if COROUTINE_TSAN
#include <sanitizer/tsan_interface.h>
#endif

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102 /* Linux 6.13 */
#endif

enum {
    STACK_SIZE = (COROUTINE_ASAN ? 1024 : 256) * 1024, /* ASan makes frames larger */
    GUARD_SIZE = 64 * 1024, /* a multiple of every page size; large frames hit it too */
    MAP_SIZE = GUARD_SIZE + STACK_SIZE,
    COLOURS = 32,       /* structs start at different cache sets */
    COLOUR_STEP = 128,
};

static pthread_mutex_t global_lock = PTHREAD_MUTEX_INITIALIZER; /* leaf */
static Coroutine *global_batch[COROUTINE_POOL_GLOBAL];
static unsigned int global_size[COROUTINE_POOL_GLOBAL];
static unsigned int global_batches; /* written under the lock, read without */

static pthread_once_t exit_once = PTHREAD_ONCE_INIT;
static pthread_key_t exit_key;

static void free_list(Coroutine *co)
{
    while (co) {
        Coroutine *next = co->next;
        coroutine_free(co);
        co = next;
    }
}

static void global_put(Coroutine *list, unsigned int n)
{
    pthread_mutex_lock(&global_lock);
    if (global_batches < COROUTINE_POOL_GLOBAL) {
        global_batch[global_batches] = list;
        global_size[global_batches] = n;
        __atomic_store_n(&global_batches, global_batches + 1, __ATOMIC_RELAXED);
        list = NULL;
    }
    pthread_mutex_unlock(&global_lock);
    free_list(list);
}

static void thread_exit(void *opaque)
{
    CoroutineThread *t = &coroutine_thread;

    if (t->pool) {
        global_put(t->pool, t->pool_size);
        t->pool = NULL;
        t->pool_size = 0;
    }
    t->pool_max = 0;
}

static void make_exit_key(void)
{
    if (pthread_key_create(&exit_key, thread_exit)) {
        abort();
    }
}

static void register_exit(CoroutineThread *t)
{
    pthread_once(&exit_once, make_exit_key);
    pthread_setspecific(exit_key, t);
    t->pool_max = COROUTINE_POOL_LOCAL;
}

void coroutine_pool_drain(CoroutineThread *t)
{
    Coroutine *list = t->pool, *last = list;

    if (!t->pool_max) {
        register_exit(t);
        return;
    }
    for (int i = 1; i < COROUTINE_POOL_BATCH; i++) {
        last = last->next;
    }
    t->pool = last->next;
    t->pool_size -= COROUTINE_POOL_BATCH;
    last->next = NULL;
    global_put(list, COROUTINE_POOL_BATCH);
}

static G_GNUC_NORETURN void no_memory(const char *call)
{
    fprintf(stderr, "Could not allocate a coroutine's stack: %s: %s\n", call,
            strerror(errno));
    abort();
}

static void install_guard(void *guard, size_t size)
{
    static int no_madvise; /* atomic: the kernel is older */

    /* A guard without its own mapping: tens of thousands of stacks need no more maps. */
    if (!__atomic_load_n(&no_madvise, __ATOMIC_RELAXED)) {
        if (madvise(guard, size, MADV_GUARD_INSTALL) == 0) {
            return;
        }
        __atomic_store_n(&no_madvise, 1, __ATOMIC_RELAXED);
    }
    if (mprotect(guard, size, PROT_NONE) < 0) {
        no_memory("mprotect");
    }
}

static Coroutine *coroutine_new(void)
{
    static unsigned int serial; /* atomic */
    uintptr_t top;
    Coroutine *co;
    void *map = mmap(NULL, MAP_SIZE, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0);

    if (map == MAP_FAILED) {
        no_memory("mmap");
    }
    /* A huge page would make each stack resident as a whole; refusal does no harm. */
    (void)madvise(map, MAP_SIZE, MADV_NOHUGEPAGE);
    install_guard(map, GUARD_SIZE);

    top = (uintptr_t)map + MAP_SIZE - sizeof(Coroutine);
    top -= __atomic_fetch_add(&serial, 1, __ATOMIC_RELAXED) % COLOURS * COLOUR_STEP;
    co = (Coroutine *)(top & ~(uintptr_t)63);
    co->map = map;
    co->stack = (char *)map + GUARD_SIZE;
    co->stack_size = (char *)co - (char *)co->stack;
    co->sp = coroutine_stack_init(co->stack, co->stack_size, coroutine_trampoline);
#if COROUTINE_ASAN
    __lsan_register_root_region(co->stack, STACK_SIZE);
#endif
#if COROUTINE_TSAN
    co->tsan_fiber = __tsan_create_fiber(0);
#endif
    return co;
}

Coroutine *coroutine_pool_refill(CoroutineThread *t)
{
    Coroutine *co = NULL;

    if (__atomic_load_n(&global_batches, __ATOMIC_RELAXED)) {
        pthread_mutex_lock(&global_lock);
        if (global_batches) {
            unsigned int i = global_batches - 1;
            co = global_batch[i];
            t->pool = co->next;
            t->pool_size = global_size[i] - 1;
            __atomic_store_n(&global_batches, i, __ATOMIC_RELAXED);
        }
        pthread_mutex_unlock(&global_lock);
    }
    if (!t->pool_max) {
        register_exit(t);
    }
    return co ? co : coroutine_new();
}

void coroutine_free(Coroutine *co)
{
    void *map = co->map;

#if COROUTINE_ASAN
    __lsan_unregister_root_region(co->stack, STACK_SIZE);
    ASAN_UNPOISON_MEMORY_REGION(co->stack, co->stack_size);
#endif
#if COROUTINE_TSAN
    __tsan_destroy_fiber(co->tsan_fiber);
#endif
    munmap(map, MAP_SIZE);
}
