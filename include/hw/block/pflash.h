/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A bank of NOR flash as the virt board has two: 32 MiB, two 16-bit chips side by side, with
 * the Common Flash Interface and Intel's command set.  Reads are reads of memory; what a
 * command changes goes to a block node.  docs/devel/pflash.md tells how.
 */
#ifndef HW_BLOCK_PFLASH_H
#define HW_BLOCK_PFLASH_H

#include "block/block.h"
#include "hw/address-space.h"
#include "migration/vmstate.h"

enum {
    PFLASH_SIZE = 32 << 20,
    PFLASH_BLOCK = 256 << 10, /* what an erase command erases */
};

typedef struct PFlash PFlash;

typedef struct PFlashConfig {
    const char *name; /* "virt.flash0"; must stay */
    uint64_t base;
    BlockBackend *blk; /* of exactly PFLASH_SIZE bytes, must stay until pflash_co_stop(); or
                          NULL: blank, in memory only */
    bool write_through; /* every write lasts when the guest sees it done */
    bool keep;          /* the content travels inside the machine state */
} PFlashConfig;

/* NULL and errp if there is no memory.  Main thread, machine lock. */
PFlash *pflash_new(AddressSpace *as, const PFlashConfig *config, GError **errp);
void pflash_free(PFlash *s);
/* Reads the content from the node, and starts to listen to it.  Before the guest runs. */
bool coroutine_fn pflash_co_open(PFlash *s, GError **errp);
/*
 * Back to reading; what is being written is still written.  No CPU runs.  (An operation that
 * has not begun is forgotten, as by the chip's reset pin.)
 */
void pflash_reset(PFlash *s);
void pflash_register(PFlash *s, VMStateRegistry *r, int instance);
/*
 * Ends what loading began: until then nothing is written to the node, and loading again puts
 * back what was there before; so does this without loaded.  After every load, or attempt.
 * Parked.
 */
void pflash_load_ended(PFlash *s, bool loaded);
/*
 * Writes back whatever the node does not have yet and flushes it; false and errp if that
 * fails (it is tried again later).  Any context.
 */
bool coroutine_fn pflash_co_settle(PFlash *s, GError **errp);
/* The same, with a warning if it fails; then lets go of the node.  Main thread. */
void coroutine_fn pflash_co_stop(PFlash *s);

#endif
