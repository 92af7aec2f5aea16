/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The hot pages of a machine state: what a load reads before the guest runs. */
#ifndef MIGRATION_RAM_HOT_INT_H
#define MIGRATION_RAM_HOT_INT_H

#include "stream-int.h"

#define RAM_HOT_MAX 1024

typedef struct RamHot {
    Machine *machine; /* whose they are, for saving */
    uint32_t nr;
    uint64_t pages[RAM_HOT_MAX]; /* guest physical addresses, the most useful first */
} RamHot;

/*
 * Takes the hot pages out of a machine state that stream_check_tail() has passed; returns
 * their number, 0 if it has none.
 */
size_t ram_hot_of_tail(const GByteArray *tail, const VMStateRegistry *r, RamHot *hot);

#endif
