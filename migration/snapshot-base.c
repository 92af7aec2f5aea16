/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Keeps what the next incremental save needs (snapshot-base.h).  VM job mutex held. */
#include "snapshot-base.h"

static RamSave *watched;
static uint64_t watched_serial;

RamSave *snapshot_base_take(uint64_t *serial)
{
    *serial = watched ? watched_serial : 0;
    return g_steal_pointer(&watched);
}

void snapshot_base_keep(RamSave *ram, uint64_t serial)
{
    g_assert(!watched);
    watched = ram;
    watched_serial = serial;
}

bool snapshot_base_exists(void)
{
    return watched != NULL;
}

void coroutine_fn snapshot_base_drop(void)
{
    if (watched) {
        ram_save_free(g_steal_pointer(&watched));
    }
}
