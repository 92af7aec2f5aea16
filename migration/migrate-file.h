/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The machine's state in a file, in the layout with a place for every page (mapped-ram).
 * Snapshot thread.
 */
#ifndef MIGRATION_MIGRATE_FILE_H
#define MIGRATION_MIGRATE_FILE_H

#include "ram-load-int.h"
#include "ram-passes.h"
#include "ram-save-int.h"

typedef struct MigFile MigFile;

/*
 * Opens (out: makes) the file; the state begins at its offset.  direct: pages go past the
 * page cache.  NULL and errp.
 */
MigFile *coroutine_fn mig_file_open(const FileMigrationArgs *args, bool out, bool direct,
                                    GError **errp);
void coroutine_fn mig_file_close(MigFile *f);
/* A state that was not finished: nothing of it stays. */
void coroutine_fn mig_file_discard(MigFile *f);

/* For passes / for a snapshot in the background. */
void mig_file_target(MigFile *f, const StreamLayout *layout, RamTarget *target);
void mig_file_sink(MigFile *f, RamSink *sink);
/* With passes only: the bitmaps of what they have left. */
bool coroutine_fn mig_file_write_bitmaps(MigFile *f, GError **errp);
/* The headers and the tail with its checksum; then everything is made durable. */
bool coroutine_fn mig_file_finish(MigFile *f, const StreamLayout *layout, GByteArray *tail,
                                  GError **errp);
uint64_t mig_file_bytes(MigFile *f);

/* For stream_read_layout() and _tail(), and for RAM; f stays. */
void mig_file_stream(MigFile *f, StreamSource *out);
void mig_file_ram(MigFile *f, RamLoadSource *out);

#endif
