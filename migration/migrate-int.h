/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Migration: what the files migrate-*.c share.
 *
 * An outgoing and an incoming migration are each a job without a name: a coroutine in the
 * snapshot IOThread that holds the VM job mutex while it works, can be cancelled, and is
 * waited for when the program ends.  The status and figures that query-migrate shows are
 * in migrate-state.c, behind a leaf mutex.
 */
#ifndef MIGRATION_MIGRATE_INT_H
#define MIGRATION_MIGRATE_INT_H

#include "job/job.h"
#include "migration/machine.h"
#include "qapi/qapi-types-migrate.h"

/* --- Addresses (migrate-addr.c) ------------------------------------------------------------ */

/* "tcp:host:port" and so on.  NULL and errp; incoming only chooses the words. */
MigrationAddress *migrate_addr_parse(const char *uri, bool incoming, GError **errp);
/* From a command's arguments, of which exactly one must be there. */
MigrationAddress *migrate_addr_choose(const char *uri, const MigrationChannelList *channels,
                                      bool incoming, GError **errp);
/* -incoming's argument: the short form, or a MigrationChannel in JSON. */
MigrationAddress *migrate_addr_from_option(const char *text, GError **errp);

/* --- Status, capabilities, parameters (migrate-state.c; any thread) ------------------------- */

bool migrate_has(MigrationCapability cap);
uint64_t migrate_max_bandwidth(void);  /* bytes/s, 0: unlimited */
uint64_t migrate_downtime_limit(void); /* ms */
uint32_t migrate_max_passes(void);
bool migrate_direct_io(void);

MigrationStatus migrate_status(void);
/* Whether a migration, in or out, is under way. */
bool migrate_under_way(void);
/* Starts a new record in status setup; false and errp if a migration is under way. */
bool migrate_begin(bool incoming, GError **errp);
/*
 * Changes the status, with its event; after 'cancelling' only an end is taken, and after
 * an end nothing.  Times are taken as the status goes by.
 */
void migrate_set_status(MigrationStatus status);
/* Ends the record as failed with err's text (kept), or as cancelled. */
void migrate_set_failed(const GError *err);
void migrate_set_warning(const char *text);
/* The guest has stopped / goes on or has been handed over. */
void migrate_downtime_begin(void);
void migrate_downtime_end(void);
/* Where an incoming migration is listened for; NULL: nowhere any more. */
void migrate_set_listening(const MigrationSocketAddress *a);
/* A pass over RAM begins: counts it and sends the event. */
void migrate_pass_begins(void);

/* Figures; the writer is the migration's coroutine. */
typedef struct MigrateFigures {
    uint64_t total, remaining; /* bytes of RAM */
    uint64_t transferred, downtime_bytes; /* bytes of the stream */
    uint64_t zero_pages, normal_pages;
    uint64_t dirty_pages_rate;   /* pages per second */
    uint64_t bytes_per_second;   /* as last measured */
} MigrateFigures;
void migrate_set_figures(const MigrateFigures *f);

/* --- Section "globalstate" (migrate-global.c; machine lock held, or parked) ------------------ */

/* From here to sent() the section is part of what is saved. */
void migrate_global_send(bool was_running);
void migrate_global_sent(void);
/* Before a load; after it: whether the guest ran when it was saved (true if nothing says). */
void migrate_global_reset(void);
bool migrate_global_ran(void);

/* --- Incoming (migrate-in.c; main thread) ------------------------------------------------ */

/*
 * Starts to take in the machine's state from addr (owned from here on).  false and errp for
 * what is known at once.
 */
bool coroutine_fn migrate_in_start(MigrationAddress *addr, bool exit_on_error, GError **errp);

#endif
