/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Stackful coroutines.
 *
 * A coroutine is created once, entered, and runs until it yields or its entry function
 * returns; then control is back behind coroutine_enter().  Coroutines come from a
 * per-thread pool, have a guard page below their stack and may move between threads
 * only while they are suspended (see aio_co_schedule() in util/aio.h).
 */
#ifndef UTIL_COROUTINE_H
#define UTIL_COROUTINE_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Marks a function that may yield and must therefore be called from a coroutine only.
 * It stands between the return type and the name, in the declaration and in the
 * definition.  scripts/check-coroutine-fn rejects a call from an unmarked function.
 */
#define coroutine_fn

typedef struct Coroutine Coroutine;
typedef void CoroutineEntry(void *opaque);

/*
 * Makes a suspended coroutine that will run entry(opaque).  Any thread.  Never fails
 * (aborts when the host has no memory for a stack).  The coroutine frees itself when
 * entry returns; until it is first entered it belongs to the caller.
 */
Coroutine *coroutine_create(CoroutineEntry *entry, void *opaque);

/*
 * Runs co in the calling thread until it yields or ends.  co must be suspended and
 * must not be scheduled elsewhere.  From code that does not know co's home context
 * use aio_co_wake() instead.
 */
void coroutine_enter(Coroutine *co);

/* Suspends the calling coroutine; returns when something enters it again. */
void coroutine_fn coroutine_yield(void);

/* The running coroutine, or NULL outside of any.  Any thread. */
Coroutine *coroutine_self(void);

/* Whether the caller runs in a coroutine.  Any thread. */
bool in_coroutine(void);

#endif
