/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sending RAM in passes while the guest runs: all of it once, then again and again what the
 * guest has changed meanwhile (dirty-track.h), until so little is left that it may be sent
 * with the guest stopped.  Snapshot thread.
 */
#ifndef MIGRATION_RAM_PASSES_H
#define MIGRATION_RAM_PASSES_H

#include "migrate-int.h"
#include "util/iov.h"

/* Where pages go.  Each function returns 0 or -errno; block is an index into Machine.ram. */
typedef struct RamTarget {
    int coroutine_fn (*begin_pass)(void *opaque);
    /* host must stay until the pass or the next flush ends; what it holds may change. */
    int coroutine_fn (*page)(void *opaque, int block, size_t page, uint8_t *host);
    int coroutine_fn (*zero)(void *opaque, int block, size_t page);
    int coroutine_fn (*flush)(void *opaque);
    /* Not called for the last one. */
    int coroutine_fn (*end_pass)(void *opaque);
    uint64_t (*bytes)(void *opaque); /* sent so far */
    void *opaque;
} RamTarget;

typedef struct RamPasses RamPasses;

RamPasses *ram_passes_new(const Machine *m, const RamTarget *target, Job *job);
/*
 * Returns when the guest should be stopped: what is left takes no longer than the downtime
 * limit, or there were enough passes.  Where writes cannot be tracked that is at once, and a
 * warning says so.  false and errp on failure or when job is cancelled.
 */
bool coroutine_fn ram_passes_run(RamPasses *p, GError **errp);
/* The guest is stopped and its disks are drained: sends the rest. */
bool coroutine_fn ram_passes_finish(RamPasses *p, GError **errp);
void coroutine_fn ram_passes_free(RamPasses *p);

#endif
