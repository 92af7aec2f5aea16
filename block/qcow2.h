/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of the qcow2 driver share: the state of one open image, its cached tables
 * and the rules under which they change.  Layouts and numbers are those of the public
 * qcow2 specification (docs/interop/qcow2 of its maintainers); docs/devel/qcow2.md
 * explains the order of writes.  Everything runs in coroutines in the node's home context.
 *
 * Locks, outermost first:  bitmaps_lock > walk_lock > flush_lock > lock.  "lock" covers every
 * change of refcounts, L1 and L2 entries in memory; guest data I/O and fdatasync happen without it.
 */
#ifndef BLOCK_QCOW2_H
#define BLOCK_QCOW2_H

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include "config-host.h"
#include "block/block-int.h"
#include "qapi/error.h"
#include "util/countermeasure.h"

#define QCOW2_MAGIC 0x514649fbu
#define QCOW2_MIN_CLUSTER_BITS 9
#define QCOW2_MAX_CLUSTER_BITS 21
#define QCOW2_MAX_L1_BYTES (32 << 20)
#define QCOW2_MAX_RT_BYTES (8 << 20)
#define QCOW2_MAX_SNAPSHOTS 65536
#define QCOW2_MAX_SNAPSHOT_TABLE (64 << 20)
#define QCOW2_MAX_SNAPSHOT_EXTRA 1024
#define QCOW2_V2_HEADER 72
#define QCOW2_V3_HEADER 104
#define QCOW2_MAX_HOST_OFFSET (1ULL << 56)
#define QCOW2_MAX_NAME 1023 /* of another file */

#define QCOW2_COPIED (1ULL << 63)
#define QCOW2_COMPRESSED (1ULL << 62)
#define QCOW2_ZERO 1ULL
#define QCOW2_OFFSET_MASK 0x00fffffffffffe00ULL
#define QCOW2_L1_RESERVED 0x7f000000000001ffULL
#define QCOW2_L2_RESERVED 0x3f000000000001feULL /* in entries that are not compressed */

/* Extended L2 entries: 16 bytes, the second half a bit for each of 32 subclusters. */
#define QCOW2_MIN_EXTENDED_BITS 14
#define QCOW2_SUBCLUSTERS 32
#define QCOW2_SUB_ALL 0xffffffffULL        /* all subclusters have data */
#define QCOW2_SUB_ZERO (QCOW2_SUB_ALL << 32) /* all read as zero */

enum { /* incompatible_features */
    QCOW2_INCOMPAT_DIRTY = 1,
    QCOW2_INCOMPAT_CORRUPT = 2,
    QCOW2_INCOMPAT_DATA_FILE = 4,
    QCOW2_INCOMPAT_COMPRESSION = 8,
    QCOW2_INCOMPAT_EXTENDED_L2 = 16,
};
#define QCOW2_COMPAT_LAZY_REFCOUNTS 1
#define QCOW2_AUTOCLEAR_BITMAPS 1
#define QCOW2_AUTOCLEAR_DATA_FILE_RAW 2

enum { /* header extensions */
    QCOW2_EXT_END = 0,
    QCOW2_EXT_BACKING_FORMAT = 0xe2792aca,
    QCOW2_EXT_FEATURE_NAMES = 0x6803f857,
    QCOW2_EXT_BITMAPS = 0x23852875,
    QCOW2_EXT_DATA_FILE = 0x44415441,
};

typedef struct Qcow2State Qcow2State;
typedef struct Qcow2Cache Qcow2Cache;

/*
 * One table (L2 table or refcount block) in memory, big-endian as in the file.  It stays in
 * the cache while it is referenced, dirty, or part of a flush.
 */
typedef struct Qcow2Table {
    uint64_t offset; /* host offset; key in the cache */
    uint64_t index;  /* of a refcount block: in the refcount table */
    uint8_t *data;
    uint8_t *frozen; /* the content a running flush must write, once data has moved on */
    unsigned refs;
    int load_error;
    bool loading, dirty, flushing;
    uint8_t shift;  /* of an L2 table: an entry has 1 << shift bytes */
    unsigned used;  /* the cache's generation when it was last asked for */
    bool shadow;    /* may reach the disk by an atomic root switch only */
    bool forgotten; /* out of the cache; freed with the last reference */
    CoQueue waiters;
    GList link; /* in the cache's lru */
} Qcow2Table;

struct Qcow2Cache {
    GHashTable *map; /* offset (pointer to Qcow2Table.offset) -> Qcow2Table */
    GQueue lru;      /* head: most recent */
    size_t table_size;
    uint8_t shift; /* for Qcow2Table.shift */
    unsigned limit;
    unsigned dirty;
    unsigned generation; /* counts cleanings */
};

/* A write, discard or zeroing of guest clusters under way. */
typedef struct Qcow2Request {
    int64_t start, end;
    bool exclusive; /* changes the mapping */
    CoQueue waiters;
    struct Qcow2Request *next, **pprev;
} Qcow2Request;

typedef struct Qcow2Snapshot {
    BdrvSnapshotInfo info;
    char *id, *name; /* in full, where info has room for less */
    uint64_t l1_offset;
    uint32_t l1_size;
    uint8_t *extra; /* extra data behind the fields we know, kept as it is */
    uint32_t extra_size;
    bool incomplete; /* its entry lacks fields that version 3 requires */
    uint32_t too_long; /* extra data that the file has, where not all of it was taken; else 0 */
    unsigned pins;
} Qcow2Snapshot;

/* Why a cluster loses a reference. */
typedef enum Qcow2FreedBy {
    QCOW2_FREED_OTHERWISE,
    QCOW2_FREED_BY_REQUEST,  /* a discard, or zeroes with unmap */
    QCOW2_FREED_BY_SNAPSHOT, /* one that is deleted, or a disk that went back to one */
    QCOW2_FREED_MAX,
} Qcow2FreedBy;

/* A run of clusters that loses one reference once the present metadata is durable. */
typedef struct Qcow2Free {
    uint64_t cluster, count;
    Qcow2FreedBy by;
} Qcow2Free;

/* Metadata that no write may hit, and what qcow2_overlap() looks for. */
enum {
    QCOW2_OL_MAIN_HEADER = 1,
    QCOW2_OL_ACTIVE_L1 = 2,
    QCOW2_OL_ACTIVE_L2 = 4,
    QCOW2_OL_REFCOUNT_TABLE = 8,
    QCOW2_OL_REFCOUNT_BLOCK = 16,
    QCOW2_OL_SNAPSHOT_TABLE = 32,
    QCOW2_OL_INACTIVE_L1 = 64,
    QCOW2_OL_INACTIVE_L2 = 128,
    QCOW2_OL_BITMAP_DIRECTORY = 256,
};
#define QCOW2_OL_CONSTANT                                                                         \
    (QCOW2_OL_MAIN_HEADER | QCOW2_OL_ACTIVE_L1 | QCOW2_OL_REFCOUNT_TABLE |                        \
     QCOW2_OL_SNAPSHOT_TABLE | QCOW2_OL_BITMAP_DIRECTORY)
#define QCOW2_OL_CACHED                                                                           \
    (QCOW2_OL_CONSTANT | QCOW2_OL_ACTIVE_L2 | QCOW2_OL_REFCOUNT_BLOCK | QCOW2_OL_INACTIVE_L1)
#define QCOW2_OL_ALL (QCOW2_OL_CACHED | QCOW2_OL_INACTIVE_L2)

/* What the user has said about the image: qcow2-options.c. */
typedef struct Qcow2Options {
    bool lazy; /* counts may be out of date in the file, which is marked dirty then */
    bool pass_discard[QCOW2_FREED_MAX];
    unsigned overlap; /* QCOW2_OL_* */
    uint64_t l2_cache_bytes, rb_cache_bytes;
    uint32_t clean_interval; /* seconds, 0: never */
} Qcow2Options;

typedef struct Qcow2Save Qcow2Save;
typedef struct Qcow2Bitmap Qcow2Bitmap;

struct Qcow2State {
    /* Constant after open. */
    int version;
    int cluster_bits, l2_bits, refcount_order, rb_bits; /* logarithms */
    int sub_bits;    /* the unit that the mapping knows: a subcluster, or a cluster */
    bool extended_l2;
    bool external_data; /* guest data is in a file of its own */
    uint64_t cluster_size, l2_entries, rb_entries;
    uint64_t refcount_max;
    uint32_t header_length;
    int compression; /* 0: zlib, 1: zstd */
    char *backing_file, *backing_format, *data_file_name;
    uint64_t bitmaps_offset, bitmaps_size; /* bitmap directory when it is valid */
    uint32_t bitmaps_count;
    GPtrArray *bitmaps; /* Qcow2Bitmap: the directory as it is in the file */

    /* The header as it is in the file. */
    uint8_t header[QCOW2_V3_HEADER];
    uint64_t incompatible, compatible, autoclear;
    uint64_t disk_size;
    uint64_t l1_offset, rt_offset, snapshots_offset;
    uint32_t l1_disk_size, rt_clusters, snapshots_count;
    uint64_t snapshots_bytes;

    /* Tables of pointers: as they are now, and as they are in the file. */
    uint64_t *l1, *l1_disk;
    uint32_t l1_size;
    uint64_t *rt, *rt_disk;
    uint64_t rt_size, rt_disk_size; /* entries */
    uint64_t rt_new_offset;         /* where a grown refcount table will go, or 0 */
    GArray *l1_dirty, *rt_dirty;    /* indices (uint32_t) that differ from the file */

    Qcow2Cache l2_cache, rb_cache;
    GHashTable *metadata; /* cluster number of an active L2 table or refcount block -> QCOW2_OL_* */
    GHashTable *inactive_l2; /* cluster numbers of the snapshots' L2 tables, if they are checked */
    uint64_t free_hint;   /* no free cluster below this one */
    uint64_t zero_from;   /* the file was never written at or above this offset */
    GArray *frees;        /* Qcow2Free: waiting for the next flush */
    GArray *holes;        /* Qcow2Free: becoming holes, then free, in the background */
    GTree *hole_runs;     /* the same, and those being worked on, by cluster */
    unsigned punching;    /* coroutines that are at it */
    GArray *shadow_l1;    /* indices whose L2 table waits for a root switch */
    unsigned shadow_rb;   /* refcount blocks that wait for it */
    uint64_t pack_at, pack_end; /* host bytes in one cluster for the next packed ones */
    uint64_t write_seq, synced_seq;
    Qcow2Options options;
    bool marked_dirty; /* by us: to be undone */
    AioTimer *clean_timer; /* for the caches; NULL while nothing is in them */
    bool corrupt;   /* found damage: no more writes */
    bool broken;    /* a header write failed: the file's state is unknown */

    CoMutex lock, flush_lock, walk_lock, bitmaps_lock;
    bool bitmaps_stored;  /* the file's bitmaps may count as right; bitmaps_lock */
    Qcow2Request *requests;

    GPtrArray *snapshots; /* Qcow2Snapshot */
    CoQueue pin_queue;    /* those who wait for a pin to go or the background to end */
    unsigned background;  /* walks that outlive their caller */
    Qcow2Save *save;      /* the snapshot being taken */
    uint8_t *pending;     /* bit per L1 index: shared with save, not yet processed */
};

static inline uint64_t qcow2_be64(const void *p)
{
    uint64_t v;

    memcpy(&v, p, 8);
    return be64toh(v);
}

static inline uint32_t qcow2_be32(const void *p)
{
    uint32_t v;

    memcpy(&v, p, 4);
    return be32toh(v);
}

static inline uint16_t qcow2_be16(const void *p)
{
    uint16_t v;

    memcpy(&v, p, 2);
    return be16toh(v);
}

static inline void qcow2_put64(void *p, uint64_t v)
{
    v = htobe64(v);
    memcpy(p, &v, 8);
}

static inline void qcow2_put32(void *p, uint32_t v)
{
    v = htobe32(v);
    memcpy(p, &v, 4);
}

static inline void qcow2_put16(void *p, uint16_t v)
{
    v = htobe16(v);
    memcpy(p, &v, 2);
}

static inline uint64_t qcow2_clusters(const Qcow2State *s, uint64_t bytes)
{
    return (bytes >> s->cluster_bits) + ((bytes & (s->cluster_size - 1)) != 0);
}

/* The file that guest data is in. */
static inline BdrvChild *qcow2_data_file(const BlockDriverState *bs)
{
    return bs->data_file ? bs->data_file : bs->file;
}

/* Number of L1 entries that size bytes of guest data need. */
static inline uint64_t qcow2_l1_entries(const Qcow2State *s, uint64_t size)
{
    int shift = s->cluster_bits + s->l2_bits;

    return (size >> shift) + ((size & ((1ULL << shift) - 1)) != 0);
}

/* Where machine state lies in the active layer's address space: behind the disk's L2 tables. */
static inline uint64_t qcow2_state_offset(const Qcow2State *s)
{
    return qcow2_l1_entries(s, s->disk_size) << (s->cluster_bits + s->l2_bits);
}

static inline uint64_t qcow2_l2_get(const Qcow2Table *t, uint64_t index)
{
    return qcow2_be64(t->data + (index << t->shift));
}

/* The bitmap of an extended entry: bits 0-31 have data, bits 32-63 read as zero. */
static inline uint64_t qcow2_l2_bitmap(const Qcow2Table *t, uint64_t index)
{
    return t->shift == 4 ? qcow2_be64(t->data + (index << 4) + 8) : 0;
}

/* Whether the data file must at any time read as the guest's disk does. */
static inline bool qcow2_data_raw(const Qcow2State *s)
{
    return s->external_data && s->autoclear & QCOW2_AUTOCLEAR_DATA_FILE_RAW;
}

static inline bool qcow2_is_pending(const Qcow2State *s, uint64_t l1_index)
{
    return s->pending && (s->pending[l1_index / 8] & (1u << (l1_index % 8)));
}

/* Whether a write must let the snapshot being taken have its table first. */
static inline bool qcow2_must_share(const Qcow2State *s, uint64_t l1_index)
{
    return qcow2_is_pending(s, l1_index) && !countermeasure_off("share-before-write");
}

/* What an L2 entry says. */
typedef enum Qcow2Kind {
    QCOW2_UNALLOCATED,
    QCOW2_ZERO_PLAIN,
    QCOW2_ZERO_ALLOC,
    QCOW2_NORMAL,
    QCOW2_COMPRESSED_DATA,
    /* Of subclusters only. */
    QCOW2_UNALLOCATED_ALLOC, /* in a cluster of the file, but without data there */
    QCOW2_INVALID,
} Qcow2Kind;

/*
 * Whether an entry that is not compressed has a cluster: in an external data file, its first
 * one too.
 */
static inline bool qcow2_has_host(const Qcow2State *s, uint64_t entry)
{
    return entry & QCOW2_OFFSET_MASK || (s->external_data && entry & QCOW2_COPIED);
}

/* Of a whole entry; an extended one is QCOW2_NORMAL when there is a cluster in the file. */
static inline Qcow2Kind qcow2_kind(const Qcow2State *s, uint64_t entry)
{
    if (entry & QCOW2_COMPRESSED) {
        return QCOW2_COMPRESSED_DATA;
    }
    if ((entry & QCOW2_ZERO) && s->version >= 3 && !s->extended_l2) {
        return qcow2_has_host(s, entry) ? QCOW2_ZERO_ALLOC : QCOW2_ZERO_PLAIN;
    }
    return qcow2_has_host(s, entry) ? QCOW2_NORMAL : QCOW2_UNALLOCATED;
}

/* Whether guest bytes of this kind have a place in the file that may be used for them. */
static inline bool qcow2_kind_has_host(Qcow2Kind kind)
{
    return kind == QCOW2_NORMAL || kind == QCOW2_ZERO_ALLOC || kind == QCOW2_UNALLOCATED_ALLOC;
}

/* A run of guest bytes that one L2 table maps alike. */
typedef struct Qcow2Run {
    Qcow2Kind kind;
    uint64_t entry; /* the entry of the first byte; all have the same COPIED flag */
    uint64_t host;  /* where the first byte lies; the others follow */
    uint64_t bytes;
    uint64_t table, index; /* where the entry is, for messages */
} Qcow2Run;

/* Host bytes of a compressed cluster: its start, and how many to read at most. */
static inline void qcow2_compressed_extent(const Qcow2State *s, uint64_t entry, uint64_t *offset,
                                           uint64_t *bytes)
{
    int shift = 62 - (s->cluster_bits - 8);
    uint64_t sectors = ((entry & ~QCOW2_COPIED & ~QCOW2_COMPRESSED) >> shift) + 1;

    *offset = entry & ((1ULL << shift) - 1);
    *bytes = sectors * 512 - (*offset & 511);
}

/* --- qcow2-header.c ---------------------------------------------------------------------- */

/* Parses and checks the header, its extensions, L1 and refcount table of bs->file. */
bool coroutine_fn qcow2_header_load(BlockDriverState *bs, GError **errp);
/* Puts the fixed fields of s that may change into the header h. */
void qcow2_header_fields(const Qcow2State *s, uint8_t *h);
/* Writes the fixed header fields from s in one write; not durable before a flush. */
int coroutine_fn qcow2_header_write(BlockDriverState *bs);
/*
 * After a write of the header that failed: s has the former fields again, and they are
 * written over whatever is there now.  If that fails too the image is broken: nobody knows
 * what is in the file.
 */
void coroutine_fn qcow2_header_put_back(BlockDriverState *bs);
/* Reads count big-endian 64-bit numbers. NULL and errp on failure; what names the table. */
uint64_t *coroutine_fn qcow2_load_numbers(BlockDriverState *bs, uint64_t offset, uint64_t count,
                                          const char *what, GError **errp);
/* Writes count numbers big-endian and pads with zeroes to whole clusters. */
int coroutine_fn qcow2_store_numbers(BlockDriverState *bs, uint64_t offset, const uint64_t *numbers,
                                     uint64_t count);

/* --- qcow2-corrupt.c ------------------------------------------------------------------------ */

/*
 * Damage was found: notes it in the header (version 3; soon, and before the image is closed),
 * refuses writes from now on, tells the user once.  Any lock may be held.  Returns -EIO.
 */
int coroutine_fn qcow2_signal_corruption(BlockDriverState *bs, const char *fmt, ...)
    G_GNUC_PRINTF(2, 3);
/* The same for a write of these host bytes, which would hit what name says. */
int coroutine_fn qcow2_signal_overlap(BlockDriverState *bs, uint64_t offset, uint64_t bytes,
                                      const char *name);
/* The same for an entry that says what no entry may. */
int coroutine_fn qcow2_signal_invalid(BlockDriverState *bs, const Qcow2Run *run);

/* --- qcow2-options.c ----------------------------------------------------------------------- */

/* Sets s->options, once the header is known.  options may be NULL. */
bool qcow2_options_set(BlockDriverState *bs, const BlockdevOptions *options, GError **errp);

/* --- qcow2-header-update.c --------------------------------------------------------------------- */

/*
 * Brings the whole header in line with s: version and fixed fields, backing file and format,
 * bitmaps (if there are any).  Durable on success.  Atomic: a crash, or an error, leaves the
 * old header or the new one.  -ENOSPC if the cluster has no room for it.  An update of
 * extensions that lie beyond the first sector must not change fixed fields.  Takes flush_lock.
 */
int coroutine_fn qcow2_header_update(BlockDriverState *bs);

/* --- qcow2-cache.c ------------------------------------------------------------------------ */

/* shift: log2 of an entry's bytes, for L2 tables. */
void qcow2_cache_init(Qcow2Cache *c, size_t table_size, uint8_t shift, size_t bytes);
void qcow2_cache_destroy(Qcow2Cache *c);
/* The table at offset, read if need be; with a reference. 0 or -errno. */
int coroutine_fn qcow2_cache_get(BlockDriverState *bs, Qcow2Cache *c, uint64_t offset,
                                 Qcow2Table **table);
/* Nothing happens by itself any more until a table is asked for again. */
void qcow2_cache_stop_cleaning(Qcow2State *s);
/* A new table at offset, all zero and dirty; with a reference. Never reads. */
Qcow2Table *qcow2_cache_new(Qcow2Cache *c, uint64_t offset);
void qcow2_cache_put(Qcow2Cache *c, Qcow2Table *t);
/* Before each change of t->data: keeps what a running flush needs and marks t dirty. */
void qcow2_cache_modify(Qcow2State *s, Qcow2Cache *c, Qcow2Table *t);
/* The cluster at offset is no table (any more). */
void qcow2_cache_forget(Qcow2Cache *c, uint64_t offset);
/* Gives t, which has been written there, another place. */
void qcow2_cache_rekey(Qcow2Cache *c, Qcow2Table *t, uint64_t offset);
/* Marks all tables dirty now as part of a flush; adds them with a reference to list. */
void qcow2_cache_freeze(Qcow2Cache *c, GPtrArray *list);
/* Writes the frozen content of t to the file at t->offset. */
int coroutine_fn qcow2_cache_write_frozen(BlockDriverState *bs, Qcow2Cache *c, Qcow2Table *t);
/* Ends the flush for all of list; what was not written stays dirty. */
void qcow2_cache_thaw(Qcow2Cache *c, GPtrArray *list);

/* --- qcow2-flush.c ------------------------------------------------------------------------ */

/*
 * Makes all data and metadata written so far durable, in crash-safe order, then gives back
 * deferred frees.  No lock may be held but walk_lock.
 */
int coroutine_fn qcow2_flush(BlockDriverState *bs);
/* The same with nothing left to do, for whoever will not write any more. */
int coroutine_fn qcow2_flush_all(BlockDriverState *bs);
/* Order of two runs of clusters (Qcow2Free); 0 when they overlap. */
int qcow2_compare_runs(const void *a, const void *b, void *unused);
/* Returns when all that a flush has given back has become holes, and free. */
void coroutine_fn qcow2_wait_for_holes(Qcow2State *s);
/* The same when the caches hold much that is dirty; called before an operation. */
int coroutine_fn qcow2_throttle(BlockDriverState *bs);
/* fdatasync of the file, and of the file of guest data. */
int coroutine_fn qcow2_sync_file(BlockDriverState *bs);

/* --- qcow2-refcount.c (lock held) --------------------------------------------------------- */

uint64_t qcow2_rb_read(const void *block, int order, uint64_t index);
void qcow2_rb_write(void *block, int order, uint64_t index, uint64_t value);
int coroutine_fn qcow2_refcount_get(BlockDriverState *bs, uint64_t cluster, uint64_t *value);
/*
 * Adds delta (1 or -1) to count clusters.  All or nothing: -ERANGE on overflow, -EINVAL
 * below zero.  With shadow the blocks may only reach the disk by a root switch.
 */
int coroutine_fn qcow2_refcount_add(BlockDriverState *bs, uint64_t cluster, uint64_t count,
                                    int delta, bool shadow);
/* Allocates 1..want contiguous clusters: the first free run. */
int coroutine_fn qcow2_alloc(BlockDriverState *bs, uint64_t want, uint64_t *cluster,
                             uint64_t *count);
/* Allocates exactly count contiguous clusters. */
int coroutine_fn qcow2_alloc_contiguous(BlockDriverState *bs, uint64_t count, uint64_t *cluster);
/* Takes back clusters that nothing on disk refers to. Failure leaks them. */
void coroutine_fn qcow2_free_now(BlockDriverState *bs, uint64_t cluster, uint64_t count);
/*
 * Drops one reference of each cluster after the next flush. No lock needed.  What becomes
 * free by it is given back to the host if the user wants that (Qcow2Options).
 */
void qcow2_free_later(Qcow2State *s, uint64_t cluster, uint64_t count);
void qcow2_free_later_by(Qcow2State *s, uint64_t cluster, uint64_t count, Qcow2FreedBy by);
/* Drops the references an L2 entry holds, later. */
void qcow2_free_entry_later(Qcow2State *s, uint64_t entry);
void qcow2_free_entry_later_by(Qcow2State *s, uint64_t entry, Qcow2FreedBy by);
/* The host clusters an L2 entry refers to; false when none. */
bool qcow2_entry_clusters(const Qcow2State *s, uint64_t entry, uint64_t *cluster, uint64_t *count);
/* L1[index] = entry, to be written by the next flush. */
void qcow2_l1_set(Qcow2State *s, uint64_t index, uint64_t entry);

/* --- qcow2-overlap.c ------------------------------------------------------------------------ */

/* Whether [offset, offset + bytes) touches any metadata that we know: its name, or NULL. */
const char *qcow2_overlap(const Qcow2State *s, uint64_t offset, uint64_t bytes);
/* The same for a range in which there are L2 tables, or one of kind own: what else it touches. */
const char *qcow2_overlap_others(const Qcow2State *s, uint64_t offset, uint64_t bytes,
                                 unsigned own);
/* Before guest data is written: -EIO when it would hit metadata that the user wants checked. */
int coroutine_fn qcow2_check_write(BlockDriverState *bs, uint64_t offset, uint64_t bytes);
/* kind: QCOW2_OL_ACTIVE_L2 or QCOW2_OL_REFCOUNT_BLOCK. */
void qcow2_metadata_add(Qcow2State *s, uint64_t offset, unsigned kind);
void qcow2_metadata_remove(Qcow2State *s, uint64_t offset);
/* After each change of the snapshot table. */
void coroutine_fn qcow2_load_inactive_l2(BlockDriverState *bs);

/* --- qcow2-l2.c (no yield) ----------------------------------------------------------------- */

/*
 * The whole cluster is as entry says.  In an extended table the bitmap follows: all zero when
 * entry has QCOW2_ZERO (which is not stored), all data when it has a cluster, else nothing.
 */
void qcow2_l2_set(Qcow2State *s, Qcow2Table *t, uint64_t index, uint64_t entry);
/* Entry and bitmap as they are given; the bitmap is left out where tables have none. */
void qcow2_l2_set_both(Qcow2State *s, Qcow2Table *t, uint64_t index, uint64_t entry,
                       uint64_t bitmap);
/* Whether entry and bitmap fit together; always in tables without bitmaps. */
bool qcow2_l2_valid(const Qcow2State *s, const Qcow2Table *t, uint64_t index);
/* Sets or clears the COPIED flag. */
void qcow2_l2_set_copied(Qcow2State *s, Qcow2Table *t, uint64_t index, bool copied);
/* Clears the COPIED flags of a new table. */
void qcow2_l2_clear_copied(const Qcow2State *s, Qcow2Table *t);
/* What t (NULL: no table) says of [offset, offset + bytes), as far as it is one run. */
void qcow2_run(const Qcow2State *s, const Qcow2Table *t, uint64_t offset, uint64_t bytes,
               Qcow2Run *run);
/* Whether bytes of this kind at a guest offset read as zero without a look at the backing file. */
bool qcow2_reads_zero(BlockDriverState *bs, Qcow2Kind kind, uint64_t offset);

/* --- qcow2-cluster.c ------------------------------------------------------------------------ */

/* The L2 table for reading: NULL table when L1 has none. entry is an L1 entry. */
int coroutine_fn qcow2_l2_load(BlockDriverState *bs, uint64_t l1_entry, Qcow2Table **table);
/*
 * Lock held.  The active L2 table of l1_index, owned by the active layer alone and free of
 * pending work, made or copied if need be.
 */
int coroutine_fn qcow2_l2_writable(BlockDriverState *bs, uint64_t l1_index, Qcow2Table **table);
/* Lock held. A copy of the active table from in a fresh cluster; the caller sets L1. */
int coroutine_fn qcow2_l2_clone(BlockDriverState *bs, Qcow2Table *from, Qcow2Table **table);
/*
 * Reads guest-layout data through an L1 table: a snapshot's, or with l1 NULL the active one,
 * which may be replaced by a larger one meanwhile.
 */
int coroutine_fn qcow2_read(BlockDriverState *bs, const uint64_t *l1, uint64_t l1_size,
                            uint64_t offset, uint64_t bytes, IOVector *iov, size_t iov_offset,
                            bool use_backing);
int coroutine_fn qcow2_write(BlockDriverState *bs, uint64_t offset, uint64_t bytes, IOVector *iov);
/*
 * See bdrv_co_copy_range(); -ENOTSUP also where a write would have to fill up clusters that it
 * covers in part.
 */
int coroutine_fn qcow2_co_copy_range(BlockDriverState *bs, int64_t offset, BlockDriverState *from,
                                     int64_t from_offset, int64_t bytes);
/*
 * Makes whole subclusters read as zero by changing the mapping only; -ENOTSUP where that is
 * not possible: in version 2 with a backing file, and for parts of compressed clusters.
 */
int coroutine_fn qcow2_zero_clusters(BlockDriverState *bs, uint64_t offset, uint64_t bytes,
                                     bool unmap);
int coroutine_fn qcow2_discard_clusters(BlockDriverState *bs, uint64_t offset, uint64_t bytes);
int coroutine_fn qcow2_status(BlockDriverState *bs, int64_t offset, int64_t bytes, int64_t *pnum,
                              int64_t *map);

/* --- qcow2-packed-write.c ------------------------------------------------------------------- */

/*
 * The same, compressed.  Whole clusters (the last one of the disk may be incomplete), else
 * -EINVAL; they may replace whatever is there.
 */
int coroutine_fn qcow2_write_compressed(BlockDriverState *bs, uint64_t offset, uint64_t bytes,
                                        IOVector *iov);

/* --- qcow2-compress.c ------------------------------------------------------------------------- */

typedef enum Qcow2PackEffort {
    QCOW2_PACK_FAST,  /* machine state: somebody waits, speed before size */
    QCOW2_PACK_SMALL, /* guest data: both methods' own default */
} Qcow2PackEffort;

/*
 * Packs n clusters of size bytes, each to the same place at out; sizes[i] is what it takes, and
 * 0 where it does not save a sector.  The rest of the last sector is zeroed.  Blocking, any
 * thread; 0 or -errno.
 */
int qcow2_pack(int compression, Qcow2PackEffort effort, const uint8_t *in, size_t n, size_t size,
               uint8_t *out, uint32_t *sizes);
/* Unpacks one cluster of out_bytes.  Blocking, any thread; 0 or -errno. */
int qcow2_unpack(int compression, const void *in, size_t in_bytes, void *out, size_t out_bytes);
/* Reads and unpacks one compressed cluster into buf (cluster_size bytes). */
int coroutine_fn qcow2_read_compressed(BlockDriverState *bs, uint64_t entry, uint8_t *buf);

/* --- qcow2-bitmap.c, qcow2-bitmap-store.c ----------------------------------------------------- */

/*
 * Makes the stored dirty bitmaps in memory, as the last step of opening, and marks them as in
 * use if the image may be written.
 */
bool coroutine_fn qcow2_bitmaps_load(BlockDriverState *bs, GError **errp);
/*
 * Writes all persistent bitmaps as they are now, and drops what was removed.  Nothing may be
 * written to the image any more, but by a flush, which has to follow.  0 or -errno, with the
 * former ones marked as in use in the file.
 */
int coroutine_fn qcow2_bitmaps_store(BlockDriverState *bs);
/*
 * Before every change of the guest's data, and before a command that has changed a bitmap is
 * answered: what the file may call right is marked as in use, durably.  Waits while bitmaps are
 * being stored.  0 or -errno.
 */
int coroutine_fn qcow2_bitmaps_begin_write(BlockDriverState *bs);
bool qcow2_can_store_bitmap(BlockDriverState *bs, const char *name, uint32_t granularity,
                            GError **errp);
/* For info; the caller's. */
/* Whether the persistent bitmaps may be for a disk of size bytes. */
bool qcow2_bitmaps_can_resize(BlockDriverState *bs, uint64_t size, GError **errp);
Qcow2BitmapInfoList *qcow2_bitmaps_info(const Qcow2State *s);
void qcow2_bitmap_free(Qcow2Bitmap *b);

/* --- qcow2-resize.c ------------------------------------------------------------------------- */

/*
 * Gives every whole cluster of the range, which has no data, a place in the file, with host
 * blocks as mode says.  What they hold reads as zero.
 */
int coroutine_fn qcow2_preallocate(BlockDriverState *bs, uint64_t offset, uint64_t bytes,
                                   PreallocMode mode);
bool coroutine_fn qcow2_co_truncate(BlockDriverState *bs, int64_t length, bool exact,
                                    PreallocMode prealloc, GError **errp);
/*
 * Moves L1 to a larger table, of so many entries; durable on success.  The node is drained.
 * walk_lock held.
 */
int coroutine_fn qcow2_grow_l1(BlockDriverState *bs, uint64_t entries);

/* --- qcow2-amend.c, qcow2-amend-refcount.c ----------------------------------------------------- */

bool coroutine_fn qcow2_co_amend(BlockDriverState *bs, GHashTable *options, bool force,
                                 BdrvProgress *progress, void *opaque, GError **errp);
/* Gives the image reference counts of 1 << order bits. */
bool coroutine_fn qcow2_change_refcount_order(BlockDriverState *bs, int order,
                                              BdrvProgress *progress, void *opaque,
                                              GError **errp);

/* --- qcow2-check.c, qcow2-create.c, qcow2-info.c ------------------------------------------ */

bool coroutine_fn qcow2_co_check(BlockDriverState *bs, BdrvCheckResult *result, int fix,
                                 GError **errp);
/* What the options of a new image say about its layout; false and errp if it cannot be. */
typedef struct Qcow2Geometry {
    int version, refcount_bits;
    uint64_t cluster_size, l2_entry_size;
    bool preallocated; /* the data too */
} Qcow2Geometry;
bool qcow2_geometry(const BdrvCreateParams *params, Qcow2Geometry *g, GError **errp);
bool coroutine_fn qcow2_co_create(const BdrvCreateParams *params, AioContext *ctx, GError **errp);
/* The content of the extension that names features. */
const void *qcow2_feature_names(size_t *bytes);
/* What qemu-img info shows under "Format specific information"; the caller's. */
ImageInfoSpecific *qcow2_specific_info(const Qcow2State *s);

/* --- qcow2-backing.c, qcow2-root.c, qcow2-measure.c, qcow2-state.c ---------------------------- */

/* See bdrv_co_change_backing(), bdrv_co_make_empty() and bdrv_co_measure(). */
int coroutine_fn qcow2_co_change_backing(BlockDriverState *bs, const char *filename,
                                         const char *format);
int coroutine_fn qcow2_co_make_empty(BlockDriverState *bs);
/*
 * Takes the active layer's L2 tables from L1 index first on away; durable on success, with their
 * clusters given back.  The node is drained or nobody else's.  walk_lock held, no other lock.
 */
int coroutine_fn qcow2_drop_tables(BlockDriverState *bs, uint64_t first);
/* See bdrv_co_load_vmstate() and bdrv_co_save_vmstate(). */
int coroutine_fn qcow2_co_load_vmstate(BlockDriverState *bs, int64_t offset, IOVector *iov);
int coroutine_fn qcow2_co_save_vmstate(BlockDriverState *bs, int64_t offset, IOVector *iov);
/* Number of L1 entries behind the disk's, up to the last that has an L2 table. */
uint64_t qcow2_state_tables(const Qcow2State *s);
bool coroutine_fn qcow2_co_measure(const BdrvCreateParams *params, BlockDriverState *source,
                                   BdrvMeasure *result, GError **errp);

/* --- qcow2-snapshot*.c ------------------------------------------------------------------- */

extern const BdrvSnapshotDriver qcow2_snapshot_driver;
/* Reads and checks the snapshot table. */
bool coroutine_fn qcow2_snapshots_load(BlockDriverState *bs, GError **errp);
void qcow2_snapshot_free(Qcow2Snapshot *sn);
/* NULL when there is none. */
Qcow2Snapshot *qcow2_snapshot_find_id(Qcow2State *s, const char *id);
/* What is wrong with the snapshot's entry, or NULL.  It cannot be used then, but the image can. */
const char *qcow2_snapshot_fault(const Qcow2State *s, const Qcow2Snapshot *sn);
/* The snapshot's L1 table, the caller's; NULL and errp if it or its entry cannot be right. */
uint64_t *coroutine_fn qcow2_snapshot_load_l1(BlockDriverState *bs, const Qcow2Snapshot *sn,
                                              GError **errp);
/*
 * Writes the list (s->snapshots with add, without remove; either may be NULL) to new
 * clusters and switches the header to it.  Durable on success; s->snapshots is changed.
 */
bool coroutine_fn qcow2_snapshots_store(BlockDriverState *bs, Qcow2Snapshot *add,
                                        Qcow2Snapshot *remove, GError **errp);
/*
 * Drops the references of a tree that nothing on disk refers to (any more): its L2 tables
 * and their clusters, in bounded steps; entries that only the active layer keeps become
 * its own (COPIED).  walk_lock held, lock not.
 */
int coroutine_fn qcow2_release_tree(BlockDriverState *bs, const uint64_t *l1, uint64_t l1_size);
/* Between two steps of a walk: flushes if much waits for it, lets others run. */
int coroutine_fn qcow2_walk_pause(BlockDriverState *bs);
/*
 * Lock held.  Adds a tree's references to the active L2 table of l1_index and all its
 * clusters.  *shared is the table for that tree; the active layer may have got a copy.
 */
int coroutine_fn qcow2_share_table(BlockDriverState *bs, uint64_t l1_index, uint64_t *shared);
/* Lock held. Shares the pending L2 table of l1_index with the snapshot being taken. */
int coroutine_fn qcow2_save_process(BlockDriverState *bs, uint64_t l1_index);
/* Gives up the snapshot being taken (error is -errno) but not the guest. */
void qcow2_save_fail(Qcow2State *s, int error);
/* Lets other coroutines of this context run. */
void coroutine_fn qcow2_breathe(void);

#endif
