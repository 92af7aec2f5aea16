/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The outgoing migration's job, for the commands.  Main thread. */
#ifndef MIGRATION_MIGRATE_OUT_H
#define MIGRATION_MIGRATE_OUT_H

#include "migrate-int.h"

typedef struct Outgoing Outgoing;

/*
 * Starts the job that sends to addr, which it owns from here on.  *o belongs to the job:
 * use it only while the status says that it is at work.  Returns a reference, or NULL and
 * errp.
 */
Job *coroutine_fn outgoing_start(Machine *m, MigrationAddress *addr, Outgoing **o, GError **errp);
/* Lets it go on that waits in pre-switchover. */
void outgoing_go_on(Outgoing *o);

#endif
