/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What checking an image (qcow2-check.c), its counts, and making these anew share. */
#ifndef BLOCK_QCOW2_CHECK_INT_H
#define BLOCK_QCOW2_CHECK_INT_H

#include "qcow2.h"

#define CHECK_PAGE_BITS 12
#define CHECK_PAGE (1u << CHECK_PAGE_BITS)

/* An entry of the L2 table at offset table. */
typedef struct CheckEntry {
    uint64_t table, index;
} CheckEntry;

typedef struct Check {
    BlockDriverState *bs;
    Qcow2State *s;
    BdrvCheckResult *res;
    int fix;
    GHashTable *tables; /* cluster -> how many L1 entries have an L2 table there */
    GArray *unaligned;  /* CheckEntry: to be made zero when all is counted */
    const char *overlap; /* what a repair would have written over, or NULL */
    GHashTable *pages; /* cluster >> PAGE_BITS -> uint32_t[CHECK_PAGE]: references counted */
    bool rewrite_snapshots; /* the table is to be written anew */
    bool fix_copied;   /* flags that say something else than the counts */
    bool uncounted;    /* something is in use that has no count at all */
    bool hidden;       /* a leak may be something that a damaged entry should lead to: it stays */
    bool misplaced;    /* a refcount block lies where it cannot, or where something else is */
    int64_t table_faults; /* corruptions that are in the snapshot table itself */
    uint64_t end;      /* clusters in use: one beyond the highest */
    uint64_t file_clusters, file_bytes; /* how long the file is, or is going to be */
} Check;

/* One line for the user. */
void check_line(Check *k, bool error, const char *fmt, ...) G_GNUC_PRINTF(3, 4);
/* Where references to cluster are counted; NULL when there is no such page and create is off. */
uint32_t *check_count(Check *k, uint64_t cluster, bool create);

/* The file has at least so many clusters from now on. */
void check_file_grows(Check *k, uint64_t clusters);

/*
 * One more reference to all clusters of [offset, offset + bytes).  The last cluster of a file may
 * be cut short, or be missing if little of it is needed; false, with a report, where it is not so.
 */
bool check_count_range(Check *k, uint64_t offset, uint64_t bytes);

/* qcow2-check-refcount.c */

/*
 * References to refcount table and blocks.  Where these must and may be made anew, what is wrong
 * with the old counts is reported first, and has been repaired then.  false, with a report, where
 * leaks are to be repaired only and the counts do not even say what is in use.
 */
bool coroutine_fn check_refcount_structure(Check *k);
/*
 * Compares and repairs: all refcount blocks that exist, and ranges without one in which something
 * is in use.
 */
void coroutine_fn check_compare_counts(Check *k);

/* qcow2-check-rebuild.c */

/*
 * Reports what is wrong with refcount table and blocks themselves, once everything else is
 * counted; returns the number of faults.  *rebuild: only new ones can hold the counts.
 */
uint64_t check_refcount_faults(Check *k, bool *rebuild);
/*
 * Writes new refcount blocks with what was counted, and a new table, behind the end of the
 * file; one header write makes them valid.  Lock held.  0 or -errno: then the file is as before.
 */
int coroutine_fn check_rebuild(Check *k);

#endif
