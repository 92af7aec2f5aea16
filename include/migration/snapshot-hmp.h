/* SPDX-License-Identifier: GPL-2.0-or-later */
/* HMP's snapshot commands: savevm, loadvm, delvm, info snapshots. */
#ifndef MIGRATION_SNAPSHOT_HMP_H
#define MIGRATION_SNAPSHOT_HMP_H

#include "qapi/hmp.h"

extern const HMPCommand migration_hmp_commands[];

#endif
