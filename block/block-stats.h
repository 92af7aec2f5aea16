/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is done through a BlockBackend, counted.  Its home context counts, the main thread
 * reads.
 */
#ifndef BLOCK_BLOCK_STATS_H
#define BLOCK_BLOCK_STATS_H

#include <glib.h>
#include <stdint.h>
#include "block/block.h"

typedef enum BlockAcct {
    BLOCK_ACCT_READ,
    BLOCK_ACCT_WRITE,
    BLOCK_ACCT_FLUSH,
    BLOCK_ACCT_UNMAP,
    BLOCK_ACCT__MAX,
} BlockAcct;

typedef struct BlockAcctStats {
    struct {
        uint64_t operations, failed, bytes, time_ns;
    } of[BLOCK_ACCT__MAX];
    uint64_t wr_highest_offset;
    uint64_t last_ns; /* when the last one ended; 0: there was none */
} BlockAcctStats; /* all atomic */

/* What was done through blk. */
const BlockAcctStats *blk_stats(BlockBackend *blk);
/* The clock of the times. */
uint64_t block_acct_now(void);
/* A request that began at start has ended with ret.  Home context. */
void block_acct_done(BlockAcctStats *stats, BlockAcct type, int64_t offset, int64_t bytes,
                     uint64_t start, int ret);

#endif
