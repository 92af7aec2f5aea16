/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Loading RAM under a guest that hardly stops.
 *
 *   new, bitmaps  (guest runs)  new memory is mapped beside the old; with lazy off it is
 *                 filled here, with lazy on the pages that the guest will want at once are
 *   switch        (guest parked, disks drained, machine lock held)  the old memory is moved
 *                 aside and the new one put in its place; with lazy on its pages are missing
 *   switch_back   undoes that, in the same circumstances
 *   fill          (guest runs, snapshot thread)  reads all pages, large requests in order;
 *                 meanwhile the fault thread brings what somebody waits for
 *   drop_old, free
 *
 * A page that is missing stops whoever touches it: a vCPU, an IOThread that looks at a
 * virtqueue, the kernel.  Therefore the fault thread depends on nobody: it has a context of
 * its own in which its coroutines read the image file.  Chunks without data are not
 * registered at all: the kernel's own zero pages serve them.
 *
 * With tracking pages come write-protected, and which windows of 64 KiB the guest has
 * written since the switch is noted: ram_save_adopt() goes on with that, so that the next
 * save can share the others with the snapshot that was loaded.  Then no huge pages are
 * moved in place, as nothing can protect them in the same step.
 */
#ifndef MIGRATION_RAM_LOAD_INT_H
#define MIGRATION_RAM_LOAD_INT_H

#include <pthread.h>
#include "stream-int.h"
#include "uffd-int.h"
#include "util/co-lock.h"
#include "util/iothread.h"
#include "util/iov.h"

typedef struct RamLoadSource {
    /* Snapshot thread, several at once.  0 or -errno. */
    int coroutine_fn (*read)(void *opaque, uint64_t offset, IOVector *iov);
    /*
     * The same in any context, without help of any other thread of ours; offset, len and
     * buf are multiples of a page.  NULL where that is not possible: then loading cannot
     * be lazy.
     */
    int coroutine_fn (*read_aside)(void *opaque, uint64_t offset, void *buf, size_t len);
    void *opaque;
} RamLoadSource;

typedef struct RamLoadStats {
    uint64_t bytes_read;
    uint64_t zero_pages;
    uint64_t prefetched; /* bytes read before the switch because they were hot */
    uint64_t faults;
    uint64_t fault_ns_total, fault_ns_max;
    uint64_t chunks_moved, chunks_copied;
} RamLoadStats;

typedef struct RamLoadConfig {
    const RAMBlock *ram;
    int nr_ram;
    const StreamLayout *layout;
    const RamLoadSource *source;
    bool lazy;
    bool track; /* with lazy, where the kernel can */
    /* As in RamSaveConfig; each may be NULL. */
    void (*progress)(void *opaque, uint64_t bytes);
    bool (*cancelled)(void *opaque);
    void coroutine_fn (*pause_point)(void *opaque);
    /* As in RamSaveConfig. */
    bool (*too_fast)(void *opaque);
    /*
     * A page cannot be read although the guest runs on it already; any thread.  Said once,
     * and again after each ram_load_retry() that does not help.
     */
    void (*read_error)(void *opaque, const char *message);
    void *opaque;
} RamLoadConfig;

typedef struct RamLoad RamLoad;

/* Whether pages can be loaded on demand here; errp says why not. */
bool ram_load_can_be_lazy(GError **errp);
/* NULL and errp if memory or userfaultfd cannot be had.  Any context. */
RamLoad *ram_load_new(const RamLoadConfig *config, GError **errp);
bool coroutine_fn ram_load_read_bitmaps(RamLoad *l, GError **errp);
/*
 * Lazy, before the switch: reads the surroundings of n pages, given by their guest physical
 * addresses (ones that are not in RAM are passed over), so that the guest finds them there.
 */
bool coroutine_fn ram_load_prefetch(RamLoad *l, const uint64_t *addrs, size_t n, GError **errp);
bool ram_load_switch(RamLoad *l, GError **errp);
void ram_load_switch_back(RamLoad *l);
/*
 * With lazy off: before the switch.  With lazy on: after it, and then it gives the old
 * memory back too, and fails only after ram_load_cancel(): what cannot be read is reported
 * and tried again every second.
 */
bool coroutine_fn ram_load_fill(RamLoad *l, GError **errp);
/* Makes ram_load_fill() give up.  After the switch the guest must not run any more. */
void ram_load_cancel(RamLoad *l);
/* What could not be read is tried again soon.  Any thread. */
void ram_load_retry(RamLoad *l);
/* Whether it notes what the guest writes. */
bool ram_load_tracks(const RamLoad *l);
/* Gives the old memory back to the host, in a worker and in pieces. */
void coroutine_fn ram_load_drop_old(RamLoad *l);
void ram_load_get_stats(RamLoad *l, RamLoadStats *stats);
void coroutine_fn ram_load_free(RamLoad *l);

/* --- Between ram-load*.c ------------------------------------------------------------------ */

#define LOAD_PAGE ((size_t)STREAM_PAGE_SIZE)
#define LOAD_CHUNK ((size_t)2 << 20)
#define LOAD_CHUNK_PAGES (LOAD_CHUNK / LOAD_PAGE)
/* What a fault brings, aligned. */
#define LOAD_WINDOW_PAGES ((size_t)16)

typedef struct RamLoadBlock {
    const RAMBlock *ram;
    StreamBlock *stream;
    size_t nr_pages, nr_chunks;
    size_t first_chunk;
    uint64_t *data;  /* a bit per page: it is in the image */
    uint64_t *dirty; /* track: a bit per window, atomic: maybe written since the switch */
    uint8_t *fresh;  /* new memory until the switch */
    uint8_t *aside;  /* old memory after the switch */
} RamLoadBlock;

struct RamLoad {
    RamLoadConfig config;
    RamLoadBlock *blocks;
    size_t nr_chunks;
    Uffd uffd;
    bool switched;
    bool track;
    GArray *hot; /* track: windows that were read before the switch (size_t, of all RAM) */
    uint8_t *touched; /* per chunk, atomic: pages were put in one by one */
    int cancelled;    /* atomic */
    int retries;      /* atomic: counts ram_load_retry() */
    int reported;     /* atomic: what retries was at the last read_error(), -1 before */

    IOThread *thread; /* lazy: the fault thread; what follows is its own */
    AioContext *context;
    bool watching;
    GQueue works; /* FaultWork: reads under way */
    GQueue buffers;
    uint64_t last_fault_end;
    size_t window;
    int nr_works;          /* atomic */
    int stop;              /* atomic */
    int64_t last_fault_ns; /* atomic: when it last had something to do */

    size_t cursor; /* snapshot thread: next chunk */
    int fill_error;
    bool held; /* pause_point() has not returned */
    int64_t grace_end; /* until then faults hold the background up */
    pthread_mutex_t stats_lock; /* leaf */
    RamLoadStats stats;
};

static inline bool load_page_has_data(const RamLoadBlock *b, size_t page)
{
    return b->data[page / 64] >> (page % 64) & 1;
}
static inline void ram_load_mark_dirty(RamLoadBlock *b, size_t page)
{
    size_t window = page / LOAD_WINDOW_PAGES;

    __atomic_fetch_or(&b->dirty[window / 64], UINT64_C(1) << (window % 64), __ATOMIC_RELAXED);
}
RamLoadBlock *ram_load_chunk_block(RamLoad *l, size_t chunk);
bool ram_load_chunk_has_data(const RamLoadBlock *b, size_t chunk_in_block);
/* 2 MiB aligned; NULL and errno. */
uint8_t *ram_load_map(size_t size, int prot);
bool ram_load_cancelled(RamLoad *l);
/* Waits a moment if a fault is being answered, longer if the guest has just been let go. */
void coroutine_fn ram_load_give_way(RamLoad *l);
/*
 * Pages [page, page + nr) could not be read (err: positive errno): tells it if that is news,
 * waits a second or for ram_load_retry().  false if there is no point in going on.
 */
bool coroutine_fn ram_load_wait_to_retry(RamLoad *l, const RamLoadBlock *b, size_t page,
                                         size_t nr, int err);
bool ram_load_start_thread(RamLoad *l, GError **errp);
/* When all that the fault thread reads is in place; what has faulted before waits for it. */
void ram_load_watch(RamLoad *l);
/* From here on what the fault thread reads is of no use; it goes on with it. */
void ram_load_quiet_thread(RamLoad *l);
/* After everything is unregistered: nobody waits any more. */
void coroutine_fn ram_load_stop_thread(RamLoad *l);
/* Puts pages in place, passing over those that are there, and wakes all.  0 or -errno. */
int ram_load_put(RamLoad *l, uint8_t *dst, const uint8_t *src, size_t len);

#endif
