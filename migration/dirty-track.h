/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which pages of guest RAM have been written since somebody looked last: for those who send
 * RAM in passes while the guest runs.
 *
 * Where the kernel can note writes itself (asynchronous write protection and PAGEMAP_SCAN,
 * Linux 6.7) a write costs the guest one fault inside the kernel; elsewhere a thread of ours
 * answers it.  Either way a page costs at most one fault between two looks.  Writes by the
 * kernel (a disk read, a socket) are seen like any other, at the latest when the request
 * that they belong to is over (ram_dma_written()).
 *
 * RAM can be registered with userfaultfd by one user at a time: not while a snapshot is
 * being saved or loaded.  The VM job mutex, which users hold, is what keeps them apart; what
 * is watched for the next incremental snapshot is given up.
 */
#ifndef MIGRATION_DIRTY_TRACK_H
#define MIGRATION_DIRTY_TRACK_H

#include "migration/machine.h"

typedef struct DirtyTrack DirtyTrack;

/*
 * Begins to track nr_ram blocks, which must stay mapped where they are until the end.  From
 * its return on every write is seen.  Protects RAM piece by piece and yields in between; the
 * guest may run.  NULL and errp (why writes cannot be tracked here).
 */
DirtyTrack *coroutine_fn dirty_track_new(const RAMBlock *ram, int nr_ram, GError **errp);
/*
 * Sets bit first_bit + i of bits for each page first_page + i of nr in a block that was
 * written since the beginning or since it was last taken; other bits stay as they are.
 * The pages count as not written from then on; their content must be read afterwards.
 * Blocks for about 25 us per 1,000 written pages, so take large RAM in pieces.  0 or -errno.
 * The thread that uses the tracker; one at a time.
 */
int dirty_track_take(DirtyTrack *t, int block, size_t first_page, size_t nr, uint64_t *bits,
                     size_t first_bit);
/* The kernel notes the writes, no thread of ours. */
bool dirty_track_is_async(const DirtyTrack *t);
/* Lifts all protection, in pieces. */
void coroutine_fn dirty_track_free(DirtyTrack *t);

/* For tests: as dirty_track_new(), but with the thread also where the kernel could do it. */
DirtyTrack *coroutine_fn dirty_track_new_sync(const RAMBlock *ram, int nr_ram, GError **errp);

#endif
