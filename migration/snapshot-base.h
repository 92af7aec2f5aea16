/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Between two snapshots: RAM that is watched, and the snapshot that it differs from only in
 * what was written since.  There is one of them in the process; who holds the VM job mutex
 * uses it.  See ram-save-int.h for how writes are noted.
 */
#ifndef MIGRATION_SNAPSHOT_BASE_H
#define MIGRATION_SNAPSHOT_BASE_H

#include "ram-save-int.h"

/* Takes it out, if there is one: the caller's.  serial: the snapshot's (BdrvSnapshotInfo). */
RamSave *snapshot_base_take(uint64_t *serial);
/* Puts ram, which is watched, in; there is none now. */
void snapshot_base_keep(RamSave *ram, uint64_t serial);
/* Whether there is one. */
bool snapshot_base_exists(void);
/*
 * Lifts all protection.  For those who replace RAM or need userfaultfd themselves; the next
 * save writes everything.
 */
void coroutine_fn snapshot_base_drop(void);

#endif
