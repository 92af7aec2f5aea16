/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The callbacks of block/snapshot.h for qcow2, one group for each qcow2-snapshot-*.c file. */
#ifndef BLOCK_QCOW2_SNAPSHOT_INT_H
#define BLOCK_QCOW2_SNAPSHOT_INT_H

#include "qcow2.h"

/* A snapshot that is being taken (qcow2-snapshot-save.c). */
struct Qcow2Save {
    char id[128], *name;
    uint64_t serial;
    int error;             /* -errno: what made it fail after freeze */
    uint64_t disk_size;    /* at freeze */
    bool with_state;       /* machine state is going to be written */
    uint64_t guest_tables; /* L1 entries for the disk; without machine state, for all there is */
    uint64_t *l1;          /* the snapshot's, for these */
    /*
     * Its L2 tables for machine state: NULL, or uint64_t[l2_entries], behind which in extended
     * tables as many bitmaps follow; 0 for a cluster that has data everywhere.
     */
    GPtrArray *state;
    uint64_t l1_cluster, l1_count;
    uint64_t tables_cluster, tables_count; /* clusters for the tables in state */
    Qcow2Request *requests; /* writes of machine state under way */
    /* Entries of state without COPIED are shared with this snapshot, which is pinned. */
    Qcow2Snapshot *base;
    uint64_t *base_l1, base_first; /* its L1 table; the first entry for machine state */
    bool compress;
    uint64_t packed_bytes, packed_size; /* of machine state; what they take in the file */
    bool published;
};

/* qcow2-snapshot-save.c */
void *coroutine_fn qcow2_save_prepare(BlockDriverState *bs, BdrvSnapshotInfo *info,
                                      uint64_t vm_state_size, GError **errp);
bool coroutine_fn qcow2_save_freeze(BlockDriverState *bs, void *save, GError **errp);
int coroutine_fn qcow2_save_write(BlockDriverState *bs, void *save, uint64_t offset,
                                  IOVector *iov);
bool coroutine_fn qcow2_save_publish(BlockDriverState *bs, void *save,
                                     const BdrvSnapshotInfo *info, GError **errp);
void coroutine_fn qcow2_save_abort(BlockDriverState *bs, void *save);
void coroutine_fn qcow2_save_done(BlockDriverState *bs, void *save);
/* The table for index in save->state, made if need be; NULL when there is no memory for it. */
uint64_t *qcow2_save_table(Qcow2State *s, Qcow2Save *save, uint64_t index);

/*
 * Writes into up to n clusters that entries has none for, with zeroes around the bytes of iov;
 * returns the bytes written or -errno.
 */
int64_t coroutine_fn qcow2_save_write_new(BlockDriverState *bs, Qcow2Save *save,
                                          uint64_t *entries, uint64_t n, uint64_t in_cluster,
                                          IOVector *iov, size_t from, uint64_t bytes);

/* qcow2-snapshot-pack.c */
bool coroutine_fn qcow2_save_compress(BlockDriverState *bs, void *save, GError **errp);
void qcow2_save_compressed(void *save, uint64_t *bytes, uint64_t *size);
/*
 * Writes some of n whole clusters that entries has none for, compressed where that makes them
 * smaller; returns the bytes written or -errno.
 */
int64_t coroutine_fn qcow2_save_write_packed(BlockDriverState *bs, Qcow2Save *save,
                                             uint64_t *entries, uint64_t n, IOVector *iov,
                                             size_t from);
/* Writes into a compressed cluster, which is not compressed any more then; likewise. */
int64_t coroutine_fn qcow2_save_unpack_over(BlockDriverState *bs, Qcow2Save *save,
                                            uint64_t *entry, uint64_t in_cluster,
                                            IOVector *iov, size_t from, uint64_t bytes);

/* qcow2-snapshot-share.c */
uint64_t coroutine_fn qcow2_save_share_with(BlockDriverState *bs, void *save, uint64_t serial,
                                            GError **errp);
int coroutine_fn qcow2_save_share(BlockDriverState *bs, void *save,
                                  const BdrvSnapshotExtent *extents, size_t n);
/* Unpins the base, if there is one; the caller wakes pin_queue. */
void qcow2_save_drop_base(Qcow2State *s, Qcow2Save *save);

/* qcow2-snapshot-goto.c */
bool qcow2_snapshot_is_empty(BlockDriverState *bs);
int coroutine_fn qcow2_snapshot_is_current(BlockDriverState *bs, const char *id, GError **errp);
void *coroutine_fn qcow2_goto_prepare(BlockDriverState *bs, const char *id, GError **errp);
bool coroutine_fn qcow2_goto_switch(BlockDriverState *bs, void *g, GError **errp);
bool coroutine_fn qcow2_goto_commit(BlockDriverState *bs, void *g, GError **errp);
void coroutine_fn qcow2_goto_end(BlockDriverState *bs, void *g, bool rollback);

/* qcow2-root.c: see bdrv_co_snapshot_show() */
bool coroutine_fn qcow2_snapshot_show(BlockDriverState *bs, const char *id, GError **errp);

/* qcow2-snapshot.c: see remove in block-int.h; takes walk_lock. */
bool coroutine_fn qcow2_snapshot_remove(BlockDriverState *bs, const char *id, const char *heir,
                                        GError **errp);

#endif
