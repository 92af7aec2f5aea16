/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the coroutine core, its stack pool, its switching back ends and the event loop
 * share: the Coroutine itself and the per-thread state.  Private to util/.
 */
#ifndef UTIL_COROUTINE_INT_H
#define UTIL_COROUTINE_INT_H

#include <glib.h>
#include <stddef.h>
#include "config-host.h"
#include "util/aio.h"
#include "util/coroutine.h"

#if defined(__SANITIZE_ADDRESS__)
#define COROUTINE_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define COROUTINE_ASAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define COROUTINE_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define COROUTINE_TSAN 1
#endif
#endif
#ifndef COROUTINE_ASAN
#define COROUTINE_ASAN 0
#endif
#ifndef COROUTINE_TSAN
#define COROUTINE_TSAN 0
#endif

/* Why control came back to coroutine_enter(). */
typedef enum CoroutineAction {
    COROUTINE_ENTERED,
    COROUTINE_YIELDED,
    COROUTINE_ENDED,
    COROUTINE_MOVED, /* yielded; to be scheduled in co->move_to */
} CoroutineAction;

struct Coroutine {
    void *sp; /* where to continue while suspended */
    CoroutineEntry *entry;
    void *opaque;
    Coroutine *caller; /* who entered it; NULL while suspended */
    AioContext *ctx;   /* home; atomic */
    Coroutine *next;   /* in a pool or a run list */
    AioContext *move_to;
    int scheduled; /* atomic: in a run list */
    /* The mapping, and the usable stack in it (lowest address). */
    void *map;
    void *stack;
    size_t stack_size;
    void *asan_fake_stack;
    void *tsan_fiber;
};

/* All of a thread's coroutine and event loop state, in one cache line or two. */
typedef struct CoroutineThread {
    Coroutine *current; /* NULL outside of any coroutine */
    AioContext *ctx;    /* the context that this thread runs */
    Coroutine *pool;
    unsigned int pool_size;
    unsigned int pool_max;      /* 0 until coroutine_pool_drain() was called */
    unsigned int foreign_locks; /* contexts acquired that this thread does not run */
    Coroutine leader;           /* stands for the thread's own stack */
} CoroutineThread;

extern __thread CoroutineThread coroutine_thread __attribute__((tls_model("initial-exec")));

/*
 * Saves where the caller is in *save and continues at load, which an earlier switch
 * saved or coroutine_stack_init() made; returns the action that the switch back gives.
 */
long coroutine_switch(void **save, void *load, long action);
/* Lays out a fresh stack so that a switch to the result calls start(), never to return. */
void *coroutine_stack_init(void *stack, size_t size, void (*start)(void));

/* The pool (coroutine-pool.c).  get never fails; put takes an ended coroutine. */
Coroutine *coroutine_pool_refill(CoroutineThread *t);
/* The thread's pool holds more than pool_max. */
void coroutine_pool_drain(CoroutineThread *t);
void coroutine_free(Coroutine *co);
/* What a fresh stack starts with (coroutine.c). */
void coroutine_trampoline(void);

/* For the event loop: like coroutine_yield(), then schedules the caller in ctx. */
void coroutine_fn coroutine_yield_to(AioContext *ctx);

enum {
    COROUTINE_POOL_LOCAL = 128, /* most that a thread keeps */
    COROUTINE_POOL_BATCH = 64,  /* moved to and from the global pool at a time */
    COROUTINE_POOL_GLOBAL = 32, /* batches in the global pool */
};

#endif
