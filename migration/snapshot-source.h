/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A snapshot's machine state as a load reads it: through the node, by coroutines of the
 * snapshot thread, and, once mapped, in any context from the node below it.
 */
#ifndef MIGRATION_SNAPSHOT_SOURCE_H
#define MIGRATION_SNAPSHOT_SOURCE_H

#include "ram-load-int.h"
#include "block/snapshot.h"
#include "stream-int.h"

typedef struct SnapshotSource SnapshotSource;

/* Opens (pins) the snapshot tag of bs.  Snapshot thread, as everything here unless it says
 * otherwise.  bs must stay until close. */
SnapshotSource *coroutine_fn snapshot_source_open(BlockDriverState *bs, const char *tag,
                                                  GError **errp);
void coroutine_fn snapshot_source_close(SnapshotSource *s);
const BdrvSnapshotInfo *snapshot_source_info(SnapshotSource *s);
/* For stream_read_layout() and _tail(). */
void snapshot_source_stream(SnapshotSource *s, StreamSource *out);
/*
 * Learns where the pages lie, so that they can be read without the node's thread.  false
 * and errp where that is impossible.
 */
bool coroutine_fn snapshot_source_map(SnapshotSource *s, const StreamLayout *l, GError **errp);
/* read_aside is there only after snapshot_source_map() has succeeded. */
void snapshot_source_ram(SnapshotSource *s, RamLoadSource *out);

#endif
