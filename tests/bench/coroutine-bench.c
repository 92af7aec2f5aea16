/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What coroutines cost: a pair of bare stack switches, enter + yield, and create + enter
 * + end from the pool.  Prints the median of several runs, in nanoseconds.
 */
#include <stdio.h>
#include <stdlib.h>
#include "util/aio.h"
#include "util/coroutine-int.h"

enum { RUNS = 15, COUNT = 2000000 };

static void *thread_sp, *bare_sp;

static void bare_entry(void)
{
    for (;;) {
        coroutine_switch(&bare_sp, thread_sp, 1);
    }
}

static void bare(void)
{
    for (int i = 0; i < COUNT; i++) {
        coroutine_switch(&thread_sp, bare_sp, 0);
    }
}

static void coroutine_fn yield_entry(void *opaque)
{
    for (bool *stop = opaque; !*stop;) {
        coroutine_yield();
    }
}

static Coroutine *yielder;

static void enter_yield(void)
{
    for (int i = 0; i < COUNT; i++) {
        coroutine_enter(yielder);
    }
}

static void coroutine_fn empty_entry(void *opaque)
{
}

static void create_enter_end(void)
{
    for (int i = 0; i < COUNT; i++) {
        coroutine_enter(coroutine_create(empty_entry, NULL));
    }
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double measure(void (*fn)(void))
{
    double ns[RUNS];

    for (int i = 0; i < RUNS; i++) {
        int64_t start = clock_now_ns();

        fn();
        ns[i] = (double)(clock_now_ns() - start) / COUNT;
    }
    qsort(ns, RUNS, sizeof(ns[0]), compare);
    return ns[RUNS / 2];
}

int main(void)
{
    size_t size = 64 * 1024;
    void *stack = malloc(size);
    bool stop = false;

    if (!stack) {
        return 1;
    }
    bare_sp = coroutine_stack_init(stack, size, bare_entry);
    yielder = coroutine_create(yield_entry, &stop);
    printf("switch pair:      %5.1f ns\n", measure(bare));
    printf("enter+yield:      %5.1f ns\n", measure(enter_yield));
    printf("create+enter+end: %5.1f ns\n", measure(create_enter_end));
    stop = true;
    coroutine_enter(yielder);
    free(stack);
    return 0;
}
