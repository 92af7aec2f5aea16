/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Requests that must not overlap, in the order in which they came.  A list belongs to one node and
 * is used in its home context.
 */
#ifndef BLOCK_SERIALISE_H
#define BLOCK_SERIALISE_H

#include <stdbool.h>
#include <stdint.h>
#include "util/co-lock.h"

typedef struct BdrvSerialised {
    int64_t start, end; /* bytes */
    bool exclusive;
    CoQueue waiters;
    GList link; /* in the list; data is the struct itself */
} BdrvSerialised;

/*
 * Enters a request in list and waits for earlier ones that overlap it, of which one is exclusive or
 * the request itself is.  It is the caller's until serialise_end().
 */
void coroutine_fn serialise_begin(GQueue *list, BdrvSerialised *r, int64_t start, int64_t end,
                                  bool exclusive);
void serialise_end(GQueue *list, BdrvSerialised *r);

#endif
