/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The snapshot jobs: what they share.  A job's run() is a coroutine of the snapshot
 * IOThread that visits each node's home context for what it does there.
 */
#ifndef MIGRATION_SNAPSHOT_INT_H
#define MIGRATION_SNAPSHOT_INT_H

#include "block/snapshot.h"
#include "migration/machine.h"
#include "qapi/qapi-types-migration.h"
#include "ram-load-int.h"
#include "ram-save-int.h"

#define SNAPSHOT_BOUNCE_LIMIT ((uint64_t)64 << 20)

typedef struct SnapshotTransaction SnapshotTransaction;

typedef struct SnapshotNode {
    BlockDriverState *bs; /* a reference: what has the snapshot */
    /* To be loaded from a template: the disk itself, bs is below it.  A reference. */
    BlockDriverState *overlay;
    bool drained;
    BdrvSnapshotInfo info;
    char *replaces; /* id of the snapshot that goes when the new one is there */
    BdrvSnapshotSave *save;
    BdrvSnapshotGoto *go;
} SnapshotNode;

typedef struct SnapshotJob {
    Machine *machine;
    Job *job; /* which has this data */
    JobType type;
    char *tag;
    SnapshotNode *nodes; /* the one with the machine's state is the last */
    int nr_nodes;
    GPtrArray *others; /* BlockDriverState, references: snapshot_other_disks(); NULL: none yet */
    bool others_drained;
    SnapshotMode mode;
    uint64_t bounce_limit;
    bool compress;
    bool replace; /* a snapshot of the same tag is deleted afterwards */
    bool lazy;
    CoSleep *released; /* a load: woken when the guest may run, and all it can do is fill */
    bool at_start; /* loads into a machine in state inmigrate: the guest starts afterwards */
    bool incoming; /* the same, and leaves the disks alone */
    bool outgoing; /* migrate's: with mode stop the guest does not go on here */
    SnapshotTransaction *transaction; /* what happens at the same instant; NULL: nothing */
    bool committed; /* a load that cannot be given up any more */
    AioContext *home;
    bool counted; /* among the jobs under way; main thread */

    pthread_mutex_t stats_lock; /* leaf */
    bool have_stats;            /* the work is over */
    SnapshotStats stats;
} SnapshotJob;

/*
 * A job's data for these nodes (references are taken; duplicates count once); vmstate, if
 * not NULL, is one of them.  Main thread.
 */
SnapshotJob *snapshot_job_new(JobType type, const char *tag, BlockDriverState **nodes, int nr,
                              BlockDriverState *vmstate);
/* For data that no job has taken over; the nodes' references go a little later.  Main thread. */
void snapshot_job_free(SnapshotJob *sj);
/*
 * Makes and starts the job; sj is its own from here on, also on failure.  id NULL: a job
 * without a name.  Returns a reference, or NULL and errp.  Main thread.
 */
Job *snapshot_job_start(SnapshotJob *sj, const char *id, int flags, GError **errp);

/* The data of a snapshot-save job, all that can be checked before it exists being right.  Main
 * thread. */
SnapshotJob *coroutine_fn snapshot_save_new(const SnapshotSave *arg, GError **errp);

static inline SnapshotNode *snapshot_vmstate_node(SnapshotJob *sj)
{
    return &sj->nodes[sj->nr_nodes - 1];
}

/* Moves to the node's context / back to the snapshot thread. */
void coroutine_fn snapshot_visit(SnapshotJob *sj, SnapshotNode *node);
void coroutine_fn snapshot_home(SnapshotJob *sj);
/*
 * The disks of the guest that the snapshot is not about.  They are drained at the instant, too: a
 * request under way would be missing in the saved machine, or end in RAM that is another's.
 * The VM job mutex keeps them what they are.  Main thread.
 */
GPtrArray *snapshot_other_disks(SnapshotJob *sj);
/* Nodes and other disks. */
void coroutine_fn snapshot_drain(SnapshotJob *sj);
void coroutine_fn snapshot_undrain(SnapshotJob *sj);
/*
 * While it is on, the snapshot thread does not push others from a CPU when it becomes ready:
 * for the long stretches of work, not for the blackout.  Snapshot thread.
 */
void snapshot_background(bool on);
bool snapshot_job_cancelled(void *opaque);
void coroutine_fn snapshot_job_pause_point(void *opaque);
void snapshot_job_progress(void *opaque, uint64_t bytes);
bool snapshot_job_too_fast(void *opaque);
/* Bytes per second, for the statistics. */
uint64_t snapshot_throughput(uint64_t bytes, int64_t ns);

/* --- Templates (snapshot-template.c) -------------------------------------------------------- */

/*
 * The first one of bs and its backing chain that has a snapshot tag, with its record; NULL if
 * none has, or on an error (errp).  Any context.
 */
BlockDriverState *coroutine_fn snapshot_find_holder(BlockDriverState *bs, const char *tag,
                                                    BdrvSnapshotInfo *info, GError **errp);
/*
 * Whether n->overlay shows the disk of snapshot tag of n->bs, with n->info its record.  In
 * the nodes' home context.
 */
bool coroutine_fn snapshot_check_overlay(const SnapshotNode *n, const char *tag, GError **errp);
/* What of it may have changed since; also in a drained section. */
bool snapshot_check_overlay_empty(const SnapshotNode *n, const char *tag, GError **errp);

/*
 * For an incoming migration from a snapshot: disks that lie above the node with the machine's
 * state are checked, others are the user's.  Main thread, before the job starts.
 */
void snapshot_add_overlays(SnapshotJob *sj);

bool coroutine_fn snapshot_save_run(SnapshotJob *sj, GError **errp);
bool coroutine_fn snapshot_load_run(SnapshotJob *sj, GError **errp);
bool coroutine_fn snapshot_delete_run(SnapshotJob *sj, GError **errp);

/*
 * --- The other actions of a transaction (snapshot-transaction.c) ---
 *
 * In run(), which they leave where it was; nothing happens to a job without a transaction.
 * prepare, instant and finish undo the actions if they fail.  abort: the job has failed, before
 * finish or in a transaction that wants all or nothing.  end: run() is over.
 */
bool coroutine_fn snapshot_transaction_prepare(SnapshotJob *sj, GError **errp);
void coroutine_fn snapshot_transaction_drain(SnapshotJob *sj);
bool coroutine_fn snapshot_transaction_instant(SnapshotJob *sj, GError **errp);
void coroutine_fn snapshot_transaction_undrain(SnapshotJob *sj);
bool coroutine_fn snapshot_transaction_finish(SnapshotJob *sj, GError **errp);
void coroutine_fn snapshot_transaction_end(SnapshotJob *sj, bool ok, GError **errp);
/* Drops the job's reference. */
void snapshot_transaction_unref(SnapshotTransaction *st);

/* --- Choosing nodes (main thread, coroutine) ------------------------------------------------ */

/*
 * All nodes that a snapshot of the whole machine includes: writable ones that a device
 * uses, or that stand alone.  A new array (g_free) without references.
 */
BlockDriverState **snapshot_all_nodes(int *n);
/* Which of them gets the machine's state: not a flash bank if there is anything else. */
BlockDriverState *snapshot_vmstate_choice(BlockDriverState **nodes, int n);
/* The writable ones that it may leave out and does: "'pflash1'"; a new string, or NULL. */
char *snapshot_left_out(void);
/* "drive0", or the node's name if no handle names it: as QEMU's messages have it. */
const char *snapshot_node_label(BlockDriverState *bs);
bool snapshot_check_nodes(BlockDriverState **nodes, int n, GError **errp);
/* 1 if all nodes have a snapshot called tag, 0 if not, -1 and errp on failure. */
int coroutine_fn snapshot_on_all_nodes(BlockDriverState **nodes, int n, const char *tag,
                                       GError **errp);
int coroutine_fn snapshot_on_any_node(BlockDriverState **nodes, int n, const char *tag,
                                      GError **errp);
/*
 * The data of a job on all nodes that the machine's snapshot includes.  The machine's state
 * goes to the first one that is not flash; a load looks where it is, and checks that the
 * snapshot is there.
 */
bool coroutine_fn snapshot_whole_machine(JobType type, const char *tag, SnapshotJob **result,
                                         GError **errp);
/* A node's list, from its home context and back. */
BdrvSnapshotInfo *coroutine_fn snapshot_list_of(BlockDriverState *bs, int *n, GError **errp);

#endif
