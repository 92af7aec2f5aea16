/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writing behind: has the kernel bring large amounts to the disk while they are written, piece
 * by piece.  Left to the flush at their end, hundreds of MiB complete at once, and a file
 * system's work on completions then holds a CPU for tens of milliseconds (ext4 converts and
 * ends the write-back of all extents in one go; a kernel without preemption lets nobody in
 * between), which a guest's CPU waits for.
 */
#include "block/block-int.h"
#include "file-int.h"
#include "graph-int.h"

/* Large enough for the disk, small enough for who waits behind the work on its completion. */
#define PIECE_MIN (1 << 20)
#define PIECE_MAX (4 << 20)
/* Further away than this is another place: what was begun here is left to the flush. */
#define NEAR (16 << 20)

static void coroutine_fn writeback_entry(void *opaque)
{
    FileWriteback *w = opaque;

    /* What is left goes with the flush. */
    while (w->end - w->start >= PIECE_MIN && !w->bs->quiesce) {
        int64_t at = w->start, n = MIN(w->end - at, PIECE_MAX);

        w->start += n;
        co_start_writeback(w->fd, at, n); /* what fails is told by the flush */
    }
    w->running = false;
    bdrv_request_end(w->bs);
}

void coroutine_fn file_writeback_add(FileWriteback *w, BlockDriverState *bs, int fd,
                                     int64_t offset, int64_t bytes)
{
    if (w->start == w->end || offset - w->end > NEAR || w->start - (offset + bytes) > NEAR) {
        w->start = offset;
        w->end = offset + bytes;
    }
    w->start = MIN(w->start, offset);
    w->end = MAX(w->end, offset + bytes);
    if (!w->running && w->end - w->start >= PIECE_MIN && !bs->quiesce) {
        w->bs = bs;
        w->fd = fd;
        w->running = true;
        bdrv_request_begin(bs);
        aio_co_schedule(aio_current(), coroutine_create(writeback_entry, w));
    }
}
