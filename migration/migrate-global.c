/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Section "globalstate": whether the guest ran when its migration ended, so that one that
 * was paused is not started by the other side.  It is part of what `migrate` writes and of
 * nothing else; a load that is no migration ignores it.  Machine lock held.
 */
#include <string.h>
#include "migrate-int.h"
#include "migration/migrate.h"
#include "qapi/error.h"
#include "qapi/qapi-types-run-state.h"

typedef struct GlobalState {
    uint32_t size;
    uint8_t runstate[100]; /* its name, NUL behind it */
    bool wanted;
} GlobalState;

static GlobalState global;

static bool needed(void *opaque)
{
    return global.wanted;
}

static bool post_load(void *opaque, int version, GError **errp)
{
    if (!memchr(global.runstate, 0, sizeof(global.runstate))) {
        error_setg(errp, "the run state is no text");
        return false;
    }
    return true;
}

static const VMStateDescription vmsd_globalstate = {
    .name = "globalstate",
    .version = 1,
    .minimum_version = 1,
    .needed = needed,
    .post_load = post_load,
    .fields = (const VMStateField[]){VMSTATE_UINT32(size, GlobalState),
                                     VMSTATE_BUFFER(runstate, GlobalState), VMSTATE_END},
};

void migrate_register(VMStateRegistry *r)
{
    vmstate_register(r, "globalstate", 0, &vmsd_globalstate, &global);
}

static void set_name(RunState state)
{
    memset(global.runstate, 0, sizeof(global.runstate));
    g_strlcpy((char *)global.runstate, RunState_str(state), sizeof(global.runstate));
    global.size = strlen((char *)global.runstate) + 1;
}

void migrate_global_send(bool was_running)
{
    set_name(was_running ? RUN_STATE_RUNNING : RUN_STATE_PAUSED);
    global.wanted = true;
}

void migrate_global_sent(void)
{
    global.wanted = false;
}

void migrate_global_reset(void)
{
    /* What a stream without the section means. */
    set_name(RUN_STATE_RUNNING);
}

bool migrate_global_ran(void)
{
    return !strcmp((char *)global.runstate, RunState_str(RUN_STATE_RUNNING));
}
