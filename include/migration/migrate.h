/* SPDX-License-Identifier: GPL-2.0-or-later */
/* -incoming, for system/.  Main thread. */
#ifndef MIGRATION_MIGRATE_H
#define MIGRATION_MIGRATE_H

#include <glib.h>
#include "migration/vmstate.h"
#include "qapi/hmp.h"
#include "util/coroutine.h"

/*
 * Before the disks are opened: checks -incoming's argument ("defer", an address, or a
 * channel in JSON).  *shares_disks: they may be in use by a source, so they must be opened
 * inactive.
 */
bool migrate_incoming_check(const char *option, bool *shares_disks, GError **errp);
/*
 * When the machine is there, in state inmigrate: starts what the option says.  false and
 * errp for what is known at once; later errors end the program.
 */
bool coroutine_fn migrate_incoming_begin(const char *option, GError **errp);

/* The migration's own section of the machine's state. */
void migrate_register(VMStateRegistry *r);

extern const HMPCommand migrate_hmp_commands[];

#endif
