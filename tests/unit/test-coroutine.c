/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Coroutines by themselves: entering, yielding, nesting, ending, the pools, many at once,
 * and moving a suspended coroutine from thread to thread.
 */
#include <glib.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "util/coroutine.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

static void coroutine_fn count_entry(void *opaque)
{
    int *n = opaque;

    g_assert_true(in_coroutine());
    g_assert_nonnull(coroutine_self());
    (*n)++;
    coroutine_yield();
    (*n)++;
}

static void test_basic(void)
{
    int n = 0;
    Coroutine *co = coroutine_create(count_entry, &n);

    g_assert_false(in_coroutine());
    g_assert_null(coroutine_self());
    g_assert_cmpint(n, ==, 0);
    coroutine_enter(co);
    g_assert_cmpint(n, ==, 1);
    g_assert_false(in_coroutine());
    coroutine_enter(co);
    g_assert_cmpint(n, ==, 2);
}

typedef struct Nest {
    int depth;
    int entered, left;
    Coroutine *parent;
} Nest;

static void coroutine_fn nest_entry(void *opaque)
{
    Nest *nest = opaque;
    Coroutine *self = coroutine_self();
    Coroutine *parent = nest->parent;

    g_assert_true(self != parent);
    nest->entered++;
    if (nest->entered < nest->depth) {
        Coroutine *child = coroutine_create(nest_entry, nest);

        nest->parent = self;
        coroutine_enter(child);
        g_assert_true(coroutine_self() == self);
        coroutine_enter(child);
        g_assert_true(coroutine_self() == self);
    }
    coroutine_yield();
    g_assert_true(coroutine_self() == self);
    nest->left++;
}

static void test_nesting(void)
{
    Nest nest = {.depth = 64};
    Coroutine *co = coroutine_create(nest_entry, &nest);

    coroutine_enter(co);
    g_assert_cmpint(nest.entered, ==, 64);
    g_assert_cmpint(nest.left, ==, 63);
    coroutine_enter(co);
    g_assert_cmpint(nest.left, ==, 64);
}

/* What the compiler keeps in registers, on the stack and in the FPU must survive. */
static void coroutine_fn state_entry(void *opaque)
{
    uint64_t seed = *(uint64_t *)opaque, a = seed, b = seed * 3, c = seed * 5, d = seed * 7;
    double x = seed * 0.5, y = seed * 0.25;
    unsigned char block[2048];

    memset(block, (int)seed, sizeof(block));
    for (int i = 0; i < 100; i++) {
        coroutine_yield();
        a += seed, b += 3 * seed, c += 5 * seed, d += 7 * seed;
        x += seed * 0.5, y += seed * 0.25;
    }
    g_assert_cmpuint(a, ==, seed * 101);
    g_assert_cmpuint(b, ==, seed * 303);
    g_assert_cmpuint(c, ==, seed * 505);
    g_assert_cmpuint(d, ==, seed * 707);
    g_assert_cmpfloat(x, ==, seed * 0.5 * 101);
    g_assert_cmpfloat(y, ==, seed * 0.25 * 101);
    for (size_t i = 0; i < sizeof(block); i++) {
        g_assert_cmpuint(block[i], ==, (unsigned char)seed);
    }
    *(uint64_t *)opaque = 0;
}

static void test_state(void)
{
    uint64_t seeds[20];
    Coroutine *co[20];

    for (int i = 0; i < 20; i++) {
        seeds[i] = i + 1;
        co[i] = coroutine_create(state_entry, &seeds[i]);
    }
    for (int round = 0; round < 101; round++) {
        for (int i = 0; i < 20; i++) {
            coroutine_enter(co[i]);
        }
    }
    for (int i = 0; i < 20; i++) {
        g_assert_cmpuint(seeds[i], ==, 0);
    }
}

static void coroutine_fn deep(int depth)
{
    volatile unsigned char frame[1024];

    frame[0] = depth;
    frame[1023] = depth;
    if (depth) {
        deep(depth - 1);
    } else {
        coroutine_yield();
    }
    g_assert_cmpuint(frame[0], ==, depth & 0xff);
    g_assert_cmpuint(frame[1023], ==, depth & 0xff);
}

static void coroutine_fn deep_entry(void *opaque)
{
    deep(*(int *)opaque);
}

static void test_deep_stack(void)
{
    int depth = SANITIZED ? 60 : 180;
    Coroutine *co = coroutine_create(deep_entry, &depth);

    coroutine_enter(co);
    coroutine_enter(co);
}

/* Live at once: more than the pools hold, and more than separate guard mappings allow. */
static void test_many(void)
{
    int n = SANITIZED ? 500 : 40000;
    int count = 0;
    Coroutine **co = g_new(Coroutine *, n);

    for (int round = 0; round < 2; round++) {
        count = 0;
        for (int i = 0; i < n; i++) {
            co[i] = coroutine_create(count_entry, &count);
            coroutine_enter(co[i]);
        }
        g_assert_cmpint(count, ==, n);
        for (int i = 0; i < n; i++) {
            coroutine_enter(co[i]);
        }
        g_assert_cmpint(count, ==, 2 * n);
    }
    g_free(co);
}

/* Created and started here, continued and ended in other threads. */
enum { THREADS = 4, PER_THREAD = 200 };
typedef struct Hop {
    Coroutine *co[PER_THREAD];
    int count[PER_THREAD];
} Hop;

static void *hop_thread(void *opaque)
{
    Hop *hop = opaque;

    for (int i = 0; i < PER_THREAD; i++) {
        coroutine_enter(hop->co[i]);
        g_assert_null(coroutine_self());
        hop->co[i] = coroutine_create(count_entry, &hop->count[i]);
        coroutine_enter(hop->co[i]);
    }
    return NULL;
}

static void test_threads(void)
{
    Hop hop[THREADS];

    memset(hop, 0, sizeof(hop));
    for (int t = 0; t < THREADS; t++) {
        for (int i = 0; i < PER_THREAD; i++) {
            hop[t].co[i] = coroutine_create(count_entry, &hop[t].count[i]);
            coroutine_enter(hop[t].co[i]);
        }
    }
    for (int round = 0; round < 3; round++) {
        pthread_t thread[THREADS];

        for (int t = 0; t < THREADS; t++) {
            g_assert_cmpint(pthread_create(&thread[t], NULL, hop_thread, &hop[t]), ==, 0);
        }
        for (int t = 0; t < THREADS; t++) {
            pthread_join(thread[t], NULL);
        }
    }
    for (int t = 0; t < THREADS; t++) {
        for (int i = 0; i < PER_THREAD; i++) {
            coroutine_enter(hop[t].co[i]);
            g_assert_cmpint(hop[t].count[i], ==, 8);
        }
    }
}

static void coroutine_fn enter_self_entry(void *opaque)
{
    coroutine_enter(coroutine_self());
}

static volatile bool overflow_ends;

static void coroutine_fn overflow(volatile unsigned char *above)
{
    volatile unsigned char frame[4096];

    frame[0] = above ? above[0] : 0;
    if (!overflow_ends) {
        overflow(frame);
    }
    frame[1] = frame[0];
}

static void coroutine_fn overflow_entry(void *opaque)
{
    overflow(NULL);
}

static void test_misuse(void)
{
    if (g_test_subprocess()) {
        coroutine_enter(coroutine_create(enter_self_entry, NULL));
        return;
    }
    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_failed();
    g_test_trap_assert_stderr("*is entered while it runs*");
}

static void test_guard_page(void)
{
    if (g_test_subprocess()) {
        coroutine_enter(coroutine_create(overflow_entry, NULL));
        return;
    }
    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_failed();
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/coroutine/basic", test_basic);
    g_test_add_func("/coroutine/nesting", test_nesting);
    g_test_add_func("/coroutine/state", test_state);
    g_test_add_func("/coroutine/deep-stack", test_deep_stack);
    g_test_add_func("/coroutine/many", test_many);
    g_test_add_func("/coroutine/threads", test_threads);
    g_test_add_func("/coroutine/misuse", test_misuse);
    g_test_add_func("/coroutine/guard-page", test_guard_page);
    return g_test_run();
}
