/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the two halves of kf-img convert share: what is wanted, and the copying. */
#ifndef KF_IMG_CONVERT_INT_H
#define KF_IMG_CONVERT_INT_H

#include "block/extents.h"
#include "kf-img-options.h"
#include "util/co-lock.h"

typedef struct Source {
    BlockDriverState *bs;
    BlockDriverState *base; /* content from here on is in the target's backing file too */
    BlockBackend *blk;
    BdrvExtentWalk *walk; /* with copy offloading */
    int64_t start, length; /* where it lies in the target */
    int64_t status_end;    /* up to there in the source, from the piece at hand on, ... */
    int status;            /* ... it is known what it is like */
} Source;

typedef struct Convert {
    /* What the user said. */
    const char *format, *target_format, *target, *cache;
    BdrvOpenFile source_params, target_params;
    const char *snapshot;
    GHashTable *options;
    bool existing, progress, quiet, compressed, unordered;
    bool target_is_zero, salvage, sparse_given, options_given, bitmaps, skip_broken_bitmaps;
    bool offload; /* what is data is not looked at for zeroes */
    ImgRate rate;
    int64_t min_sparse; /* bytes of zeroes worth a hole; 0: write everything */
    int coroutines;

    /* The copying. */
    Source *sources;
    int n_sources;
    BlockDriverState *bs;
    BlockBackend *blk;
    bool reads_zero; /* what is not written reads as zero */
    int64_t cluster; /* of a compressed target, in bytes */
    int64_t total, next, done;
    int64_t written; /* everything before it, where order matters */
    CoQueue turn;
    CoMutex lock; /* next and finding out what is there */
    int running, ret;
    Coroutine *waiter;
} Convert;

/*
 * Copies the sources, which are open, to the target; flushes it.  false after an error message.
 */
bool coroutine_fn img_convert_copy(Convert *s);

#endif
