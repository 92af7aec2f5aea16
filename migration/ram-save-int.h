/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Saving RAM as it was at one instant while others go on writing it.
 *
 *   arm     (guest runs, snapshot thread)  write-protects RAM piece by piece; faults only
 *           lift the protection of their 2 MiB and take note
 *   instant (guest parked, disks drained)  protects again what was noted: from here on the
 *           content is the snapshot's
 *   write   (guest runs, snapshot thread)  writes all pages, then the bitmaps; on a fault
 *           the fault thread keeps a copy of the page and lets the writer go
 *   free    lifts all protection; at any time, also to give up
 *   watch   instead of free: keeps the protection, so that the next save (again) knows
 *           which units of 64 KiB have been written since the instant
 *
 * A page is in one of these situations, told by its slot:
 *   0            unchanged since the instant, its memory is what must be written
 *   n > 0        changed; the content of the instant is in bounce buffer n - 1
 *   SLOT_TAKEN   somebody is writing or has written it; what the memory holds is irrelevant
 * and a chunk (2 MiB) goes ARMED -> WRITING -> WRITTEN.  In a chunk that is WRITTEN every
 * page's content of the instant is in the image, so faults there only lift protection.
 *
 * Pages are written straight from guest memory.  If a page is changed while that happens,
 * its copy was put into the slot before its protection was lifted; the writer looks at all
 * slots of the chunk when its request is done, and writes those pages again.
 *
 * While it watches, a fault marks its unit as dirty and lifts the protection of the unit.
 * A save with a base (set_base) writes at the instant what was dirty then ("saving") and
 * shares the rest with the base; what is dirty after the instant is the next save's.
 */
#ifndef MIGRATION_RAM_SAVE_INT_H
#define MIGRATION_RAM_SAVE_INT_H

#include <pthread.h>
#include "block/snapshot.h"
#include "stream-int.h"
#include "uffd-int.h"
#include "util/co-lock.h"
#include "util/iov.h"

#define RAM_PAGE ((size_t)STREAM_PAGE_SIZE)
#define RAM_CHUNK ((size_t)2 << 20)
#define PAGES_PER_CHUNK (RAM_CHUNK / RAM_PAGE)
#define SLOT_TAKEN UINT32_MAX
/* Written, and watched, together: a cluster of the common size. */
#define UNIT_PAGES ((size_t)16)
#define UNITS_PER_CHUNK (PAGES_PER_CHUNK / UNIT_PAGES)

/* Where pages go.  write: any number at once, in the snapshot thread; 0 or -errno. */
typedef struct RamSink {
    int coroutine_fn (*write)(void *opaque, uint64_t offset, IOVector *iov);
    /* With a base only. */
    int coroutine_fn (*share)(void *opaque, const BdrvSnapshotExtent *extents, size_t n);
    void *opaque;
} RamSink;

typedef struct RamSaveStats {
    uint64_t bytes_written;
    uint64_t pages_written;
    uint64_t zero_pages;
    uint64_t shared_pages; /* of the base; zero pages do not count */
    uint64_t note_faults; /* before the instant */
    uint64_t faults;      /* after it */
    uint64_t rewritten_pages;
    uint64_t bounce_peak;  /* bytes */
    uint64_t bounce_waits; /* faults that had to wait for a buffer */
    uint64_t rearmed_chunks;
} RamSaveStats;

typedef struct RamSave RamSave;

typedef struct RamSaveConfig {
    const RAMBlock *ram;
    int nr_ram;
    const StreamLayout *layout;
    uint64_t bounce_limit; /* bytes that vCPU faults may use */
    const int *vcpu_tids;  /* threads that may be made to wait */
    int nr_vcpu_tids;
    bool copy_first; /* with live: no page is written twice because it changed meanwhile */
    bool live; /* false: nothing writes RAM until ram_save_write() is done */
    bool watch; /* ram_save_watch() will be called: what is written stays protected */
    /* Called after each chunk with the bytes of RAM dealt with.  May be NULL, as the next two. */
    void (*progress)(void *opaque, uint64_t bytes);
    /* Asked now and then whether to give up. */
    bool (*cancelled)(void *opaque);
    /* Called now and then by the coroutine of ram_save_write(); while it does not return no
     * chunk is begun, but copies go on being written. */
    void coroutine_fn (*pause_point)(void *opaque);
    /* Asked before each chunk: whether to put it off, to keep to a speed.  May be NULL. */
    bool (*too_fast)(void *opaque);
    void *opaque;
} RamSaveConfig;

/* NULL and errp if live saving is not possible here. */
RamSave *ram_save_new(const RamSaveConfig *config, GError **errp);
/* RAM that has been touched, in bytes, about: for the estimate of space. */
uint64_t ram_save_estimate(RamSave *s);
bool coroutine_fn ram_save_arm(RamSave *s, GError **errp);
/* Nothing writes RAM during the call.  Its time depends on what was noted only. */
bool ram_save_instant(RamSave *s, GError **errp);
/*
 * After ram_save_watch(): begins another save of the same RAM.  false and errp if s is of no
 * use any more; then it must be freed.
 */
bool ram_save_again(RamSave *s, const RamSaveConfig *config, GError **errp);
/*
 * Before the instant: whether what is saved can be shared, in pieces of cluster bytes, with
 * what s holds as its base; then ram_save_write() does so.
 */
bool ram_save_set_base(RamSave *s, uint64_t cluster);
/*
 * After a save: goes on watching, and what was saved is the base of the next one.  With
 * saved false it is as if there had been no save.  false: nothing can be watched (any more)
 * or there would be no base; s must be freed.
 */
bool coroutine_fn ram_save_watch(RamSave *s, bool saved);
/*
 * After ram_load_fill() of a load that tracks: goes on watching; what was loaded is the base.
 * Takes the load's fault thread and userfaultfd; on failure nothing is protected any more.
 */
struct RamLoad;
RamSave *coroutine_fn ram_save_adopt(struct RamLoad *l, GError **errp);
/* Pages, then bitmaps.  false and errp on failure or after ram_save_cancel(). */
bool coroutine_fn ram_save_write(RamSave *s, const RamSink *sink, GError **errp);
/* Makes ram_save_arm() and ram_save_write() give up soon.  Any thread. */
void ram_save_cancel(RamSave *s);
void ram_save_get_stats(RamSave *s, RamSaveStats *stats);
void coroutine_fn ram_save_free(RamSave *s);

/* --- Between ram-save*.c ------------------------------------------------------------------ */

/* The burst of faults just after the instant is over when none has come for so long. */
#define RAM_SAVE_QUIET_NS 3000000LL

enum { CHUNK_ARMED, CHUNK_WRITING, CHUNK_WRITTEN };
enum {
    CHUNK_NOTED = 1,   /* unprotected since it was last armed */
    CHUNK_UNKNOWN = 2, /* the populated bits may be out of date */
};
typedef enum RamSavePhase {
    PHASE_NOTE,  /* faults take note */
    PHASE_TRACK, /* faults keep a copy */
    PHASE_WATCH, /* faults mark their unit as dirty */
    PHASE_OPEN,  /* faults only lift protection */
} RamSavePhase;

typedef struct RamSaveBlock {
    const RAMBlock *ram;
    StreamBlock *stream;
    size_t first_page, nr_pages;
    size_t first_chunk, nr_chunks;
    uint64_t base_offset; /* where the base has the pages */
} RamSaveBlock;

/* Buffers for copies.  The lock is a leaf; its holders write no guest RAM. */
typedef struct BouncePool {
    pthread_mutex_t lock;
    uint8_t *mem;
    uint32_t nr, nr_normal; /* buffers [nr_normal, nr) are the reserve */
    uint32_t *free;         /* stack of free buffers: reserve at the bottom */
    uint32_t nr_free;
    uint32_t peak;
} BouncePool;

/* A faulting vCPU that waits for a buffer. */
typedef struct WaitingFault {
    uint64_t addr;
    int tid;
} WaitingFault;

struct RamSave {
    RamSaveConfig config;
    int *vcpu_tids; /* config's list */
    RamSaveBlock *blocks;
    size_t nr_pages, nr_chunks;
    Uffd uffd;
    int pagemap_fd;
    int phase;     /* atomic; changed under fault_lock */
    int cancelled; /* atomic */
    int failed;    /* atomic: -errno, first failure outside of a coroutine */

    uint32_t *slots;      /* per page, atomic */
    uint8_t *chunk_state; /* per chunk, atomic; written by the snapshot thread */
    uint8_t *chunk_flags; /* per chunk, under fault_lock; read freely after the instant */
    uint64_t *populated;  /* a bit per page: touched when it was armed */
    uint64_t *present;    /* a bit per page: content is in the image (snapshot thread) */
    /* A bit per unit: written since the instant (fault thread, under fault_lock); to be
     * written by this save (changed at the instant only). */
    uint64_t *dirty, *saving;
    uint64_t *base_present; /* present of the base, NULL: there is none (snapshot thread) */
    size_t share_units;     /* shared in pieces of this many units; 0: nothing is */
    bool watching;          /* between ram_save_watch() and the end of the next save */

    BouncePool pool;
    /* Pages copied, in order, for those who must empty buffers: fault thread -> writers. */
    uint32_t *ring;
    uint32_t ring_size; /* power of two */
    uint32_t ring_head, ring_tail; /* atomic: read here, written by the fault thread */

    pthread_t thread;
    bool thread_running;
    int event_fd;
    int stop;                   /* atomic */
    int64_t burst_end;          /* atomic: see uffd_poll() */
    int64_t last_fault_ns;      /* atomic: when a fault was last looked at */
    pthread_mutex_t fault_lock; /* fault handling against changes of phase; leaf */
    int fault_waits;            /* atomic: the fault thread wants the lock */
    GArray *waiting;            /* WaitingFault, fault thread only */
    int nr_waiting;             /* atomic */
    uint64_t last_fault_end;    /* fault thread: for runs of faults */
    uint32_t window;            /* pages */

    /* Background, snapshot thread only. */
    const RamSink *sink;
    size_t cursor; /* next chunk */
    bool held;     /* pause_point() has not returned */
    int write_error;
    RamSaveStats stats; /* faults: fault thread; the rest: snapshot thread */
};

static inline uint32_t slot_load(RamSave *s, size_t page)
{
    return __atomic_load_n(&s->slots[page], __ATOMIC_SEQ_CST);
}

static inline bool ram_save_test_unit(const uint64_t *bits, size_t page)
{
    return bits[page / UNIT_PAGES / 64] >> (page / UNIT_PAGES % 64) & 1;
}

/* For a page that the fault thread lets go: sees that the next save writes it. */
static inline void ram_save_mark_dirty(RamSave *s, size_t page)
{
    s->dirty[page / UNIT_PAGES / 64] |= 1ULL << (page / UNIT_PAGES % 64);
}

RamSaveBlock *ram_save_chunk_block(RamSave *s, size_t chunk);
size_t ram_save_page_chunk(RamSave *s, size_t page);
/* The chunk's memory, its pages and their number. */
uint8_t *ram_save_chunk(RamSave *s, size_t chunk, size_t *first_page, size_t *nr_pages);

/* Also what was never touched, as far as the kernel can.  0 or -errno. */
int ram_save_protect(RamSave *s, uint8_t *host, size_t len);
bool ram_save_start_thread(RamSave *s, GError **errp);
void ram_save_stop_thread(RamSave *s);
void ram_save_wake_fault_thread(RamSave *s);

bool bounce_init(BouncePool *p, uint64_t limit, uint64_t reserve);
void bounce_destroy(BouncePool *p);
/* A buffer's number, or -1; reserve: may use the reserve. */
int64_t bounce_get(BouncePool *p, bool reserve);
void bounce_put(BouncePool *p, uint32_t n);
uint32_t bounce_used(BouncePool *p);
static inline uint8_t *bounce_mem(BouncePool *p, uint32_t n)
{
    return p->mem + (size_t)n * RAM_PAGE;
}
/* Frees a buffer and lets a waiting fault have it.  Any thread. */
void ram_save_put_bounce(RamSave *s, uint32_t n);

/* Documentation/admin-guide/mm/pagemap.rst. */
#define PAGEMAP_PRESENT (1ULL << 63)
#define PAGEMAP_TOUCHED (3ULL << 62) /* present or swapped */
/* Sets a bit for each of nr pages whose pagemap entry has any of mask.  0 or -errno. */
int ram_save_read_pagemap(int fd, const uint8_t *host, size_t nr, uint64_t mask, uint64_t *bits,
                          size_t first_bit);
/* Whether to give up: cancelled or failed; errp says which. */
bool ram_save_stopped(RamSave *s, GError **errp);

#endif
