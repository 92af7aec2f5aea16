/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Internal snapshots of a node, with or without machine state, taken and loaded while the
 * node is in use.  All functions run in a coroutine in the node's home context.  Errors
 * name the node and the step.
 */
#ifndef BLOCK_SNAPSHOT_H
#define BLOCK_SNAPSHOT_H

#include "block/block.h"

typedef struct BdrvSnapshotInfo {
    char id[128];   /* unique in the image, decimal by convention */
    char name[256]; /* the tag */
    uint64_t vm_state_size; /* bytes, 0 when the snapshot has no machine state */
    uint32_t date_sec, date_nsec;
    uint64_t vm_clock_nsec; /* guest's clock */
    uint64_t icount;        /* UINT64_MAX when unknown */
    uint64_t disk_size;     /* bytes */
    /*
     * Names this snapshot, in this process, for as long as its node stays open: never used
     * again, also when another one gets its id and tag.  0 when it is not in an image yet.
     */
    uint64_t serial;
} BdrvSnapshotInfo;

bool bdrv_can_snapshot(BlockDriverState *bs); /* driver supports it and bs is writable */
bool bdrv_has_snapshots(BlockDriverState *bs); /* driver supports it; any thread */
/*
 * Whether the disk's present content is known to be that of the snapshot called name: the
 * same clusters.  1, 0, or -1 and errp.
 */
int coroutine_fn bdrv_co_snapshot_is_current(BlockDriverState *bs, const char *name,
                                             GError **errp);
/*
 * Whether all that bs shows comes from its backing file, as in an overlay that nobody has
 * written to.  Works in a drained section; no I/O.  Home context.
 */
bool bdrv_snapshot_is_empty(BlockDriverState *bs);
/* The list as it is now: a new array of *n elements (g_free), NULL when empty or on error. */
BdrvSnapshotInfo *coroutine_fn bdrv_co_snapshot_list(BlockDriverState *bs, int *n, GError **errp);
/* By id or name, name first.  false when there is none (errp unset) or on error. */
bool coroutine_fn bdrv_co_snapshot_find(BlockDriverState *bs, const char *id_or_name,
                                        BdrvSnapshotInfo *info, GError **errp);
/* By name only, as a machine's snapshots are known: another one's id may look like a name. */
bool coroutine_fn bdrv_co_snapshot_find_name(BlockDriverState *bs, const char *name,
                                             BdrvSnapshotInfo *info, GError **errp);

/*
 * Taking one:  prepare, freeze, (write_vmstate)*, publish  -  or abort at any point.
 *
 * Nothing on disk refers to the new snapshot before publish; a crash leaves leaked
 * clusters at most.  Abort gives every cluster back.
 */
typedef struct BdrvSnapshotSave BdrvSnapshotSave;
/*
 * While the guest runs: checks and reserves space for vm_state_size bytes of state
 * (an upper estimate, 0 for none), flushes metadata so that freeze is short.  info->name is
 * the tag; an empty info->id is chosen and filled in, and so is info->serial.
 */
BdrvSnapshotSave *coroutine_fn bdrv_co_snapshot_prepare(BlockDriverState *bs,
                                                        BdrvSnapshotInfo *info,
                                                        uint64_t vm_state_size, GError **errp);
/*
 * The instant.  The node is drained; no I/O in proportion to the disk: the L1 table is
 * copied in memory, reference counts follow later.  After it the guest may write again.
 */
bool coroutine_fn bdrv_co_snapshot_freeze(BdrvSnapshotSave *save, GError **errp);
/*
 * Writes machine state at offset bytes into it; any order, several at once.  After freeze.
 * 0 or -errno.
 */
int coroutine_fn bdrv_co_snapshot_write(BdrvSnapshotSave *save, uint64_t offset, IOVector *iov);
/*
 * From now on machine state is written in compressed clusters, in the image's own compression
 * method, whole clusters of a write where that makes them smaller.  Before the first write;
 * false and errp (why the image cannot have that; the save is as before).
 */
bool coroutine_fn bdrv_co_snapshot_compress(BdrvSnapshotSave *save, GError **errp);
/* Bytes of machine state in compressed clusters, and what those take in the image. */
void bdrv_snapshot_compressed(BdrvSnapshotSave *save, uint64_t *bytes, uint64_t *size);
/*
 * Machine state that an older snapshot of the node, the base, has at the same offset need
 * not be written again: the new snapshot can refer to the base's clusters.  Either can be
 * deleted without the other.
 *
 * share_with, once after prepare, says whether that can be done with the snapshot that has
 * this serial, and pins it until the end of the save.  Returns the size of the pieces that
 * can be shared, a power of two; 0 and errp (why not; the save is as before).
 */
uint64_t coroutine_fn bdrv_co_snapshot_share_with(BdrvSnapshotSave *save, uint64_t serial,
                                                  GError **errp);
typedef struct BdrvSnapshotExtent {
    uint64_t offset, bytes; /* multiples of what share_with returned */
} BdrvSnapshotExtent;
/*
 * Makes n extents of the machine state the base's.  They are written neither before nor
 * afterwards.  After freeze.  0, or -errno: then the save cannot be published any more.
 */
int coroutine_fn bdrv_co_snapshot_share(BdrvSnapshotSave *save, const BdrvSnapshotExtent *extents,
                                        size_t n);
/*
 * Finishes what freeze left pending, makes everything durable and then the snapshot
 * visible by one atomic header update.  vm_state_size is the final size.  On failure the
 * caller still aborts.
 */
bool coroutine_fn bdrv_co_snapshot_publish(BdrvSnapshotSave *save, const BdrvSnapshotInfo *info,
                                           GError **errp);
/* Undoes everything and frees save.  Also valid after publish has succeeded: deletes. */
void coroutine_fn bdrv_co_snapshot_abort(BdrvSnapshotSave *save);
/* Frees save after publish. */
void coroutine_fn bdrv_co_snapshot_done(BdrvSnapshotSave *save);

/*
 * Reading a snapshot's machine state.  The snapshot is pinned (cannot be deleted, deleting
 * waits) until close.
 */
BdrvSnapshotReader *coroutine_fn bdrv_co_snapshot_open_id(BlockDriverState *bs, const char *id,
                                                          GError **errp);
/* The same by name or, if there is none of that name, by id. */
BdrvSnapshotReader *coroutine_fn bdrv_co_snapshot_open(BlockDriverState *bs,
                                                       const char *id_or_name, GError **errp);
const BdrvSnapshotInfo *bdrv_snapshot_reader_info(BdrvSnapshotReader *r);
/*
 * For a reader that may stay long: from now on deleting the snapshot is refused instead of
 * waiting; the error says that holder ("export 'e0'") uses it.
 */
void bdrv_snapshot_hold(BdrvSnapshotReader *r, const char *holder);
/* Whether somebody holds the snapshot with this id: then errp says who. */
bool bdrv_snapshot_is_held(BlockDriverState *bs, const char *id, GError **errp);
/* 0 or -errno; unallocated ranges read as zero; several at once. */
int coroutine_fn bdrv_co_snapshot_read(BdrvSnapshotReader *r, uint64_t offset, IOVector *iov);
/* The same for the disk's content as the snapshot has it, at the guest's offset. */
int coroutine_fn bdrv_co_snapshot_read_disk(BdrvSnapshotReader *r, uint64_t offset,
                                            IOVector *iov);
/*
 * Where machine state lies in the file below the node, for those who must be able to read it
 * without the node's help: *map is the offset of *pnum bytes (at most bytes) from offset, or
 * -1 if they read as zeros.  It stays there until close.  0 or -errno; -ENOTSUP if they have
 * no place of their own (compressed, or a driver that cannot tell).
 */
int coroutine_fn bdrv_co_snapshot_map(BdrvSnapshotReader *r, uint64_t offset, uint64_t bytes,
                                      uint64_t *pnum, int64_t *map);
/*
 * The same for what is compressed (-ENOTSUP above): the unit that holds the state's byte
 * offset, and where it lies.  0 or -errno; -ENOTSUP if it is not compressed.
 */
typedef struct BdrvSnapshotPacked {
    uint64_t offset;      /* in the machine state: where the unit begins */
    uint32_t bytes;       /* of machine state */
    uint32_t file_bytes;  /* at most; what is beyond the end of the file is not needed */
    uint64_t file_offset; /* in the file below the node */
} BdrvSnapshotPacked;
int coroutine_fn bdrv_co_snapshot_map_packed(BdrvSnapshotReader *r, uint64_t offset,
                                             BdrvSnapshotPacked *packed);
/*
 * Unpacks a unit: in holds what lies at file_offset, out gets its bytes.  Any thread, needs
 * nobody's help.  0 or -errno.
 */
int bdrv_snapshot_unpack(BdrvSnapshotReader *r, const BdrvSnapshotPacked *packed, const void *in,
                         void *out);
void coroutine_fn bdrv_co_snapshot_close(BdrvSnapshotReader *r);

/*
 * From now on a node that nobody can write shows its disk as the snapshot with this id has it,
 * length and all, until it is closed.  No request may be in flight.
 */
bool coroutine_fn bdrv_co_snapshot_show(BlockDriverState *bs, const char *id, GError **errp);

/*
 * Going back:  prepare, switch, commit - or rollback instead of commit.
 *
 * prepare reads what switch needs.  switch (node drained) makes the disk's content the
 * snapshot's, in memory, in time independent of the disk's size where possible; nothing
 * durable changes.  commit makes it durable; until then rollback restores the old content.
 */
typedef struct BdrvSnapshotGoto BdrvSnapshotGoto;
BdrvSnapshotGoto *coroutine_fn bdrv_co_snapshot_goto_prepare_id(BlockDriverState *bs,
                                                                const char *id, GError **errp);
/* The same by name or, if there is none of that name, by id. */
BdrvSnapshotGoto *coroutine_fn bdrv_co_snapshot_goto_prepare(BlockDriverState *bs,
                                                             const char *id_or_name,
                                                             GError **errp);
bool coroutine_fn bdrv_co_snapshot_goto_switch(BdrvSnapshotGoto *g, GError **errp);
bool coroutine_fn bdrv_co_snapshot_goto_commit(BdrvSnapshotGoto *g, GError **errp);
/* Frees g in any case. */
void coroutine_fn bdrv_co_snapshot_goto_end(BdrvSnapshotGoto *g, bool rollback);

/* Deletes by id or name in bounded steps; guest I/O goes on.  Waits for readers. */
bool coroutine_fn bdrv_co_snapshot_delete(BlockDriverState *bs, const char *id_or_name,
                                          GError **errp);
/* The same, by id. */
bool coroutine_fn bdrv_co_snapshot_delete_id(BlockDriverState *bs, const char *id, GError **errp);
/* Deletes the one with id old_id; the one with id new_id is called old_id from then on. */
bool coroutine_fn bdrv_co_snapshot_replace(BlockDriverState *bs, const char *old_id,
                                           const char *new_id, GError **errp);

#endif
