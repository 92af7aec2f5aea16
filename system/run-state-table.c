/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which run state may follow which. */
#include "system/run-state.h"

#define TO(state) (1u << RUN_STATE_##state)

/* Reset leaves every stopped machine in prelaunch; a snapshot can be saved from and loaded
 * into every one, and gives its state back. */
#define ANY_STOPPED (TO(PRELAUNCH) | TO(SAVE_VM) | TO(RESTORE_VM))

static const uint32_t next_states[RUN_STATE__MAX] = {
    [RUN_STATE_DEBUG] = ANY_STOPPED | TO(RUNNING) | TO(PAUSED) | TO(SHUTDOWN),
    [RUN_STATE_INMIGRATE] = TO(RUNNING) | TO(PAUSED) | TO(PRELAUNCH) | TO(POSTMIGRATE),
    [RUN_STATE_INTERNAL_ERROR] = ANY_STOPPED | TO(SHUTDOWN),
    [RUN_STATE_IO_ERROR] = ANY_STOPPED | TO(RUNNING) | TO(PAUSED) | TO(FINISH_MIGRATE) |
                           TO(SHUTDOWN),
    [RUN_STATE_PAUSED] = ANY_STOPPED | TO(RUNNING) | TO(IO_ERROR) | TO(FINISH_MIGRATE) |
                         TO(POSTMIGRATE) | TO(INTERNAL_ERROR) | TO(SHUTDOWN),
    [RUN_STATE_POSTMIGRATE] = ANY_STOPPED | TO(RUNNING) | TO(FINISH_MIGRATE) | TO(SHUTDOWN),
    [RUN_STATE_PRELAUNCH] = ANY_STOPPED | TO(RUNNING) | TO(INMIGRATE) | TO(FINISH_MIGRATE) |
                            TO(IO_ERROR) | TO(INTERNAL_ERROR) | TO(SHUTDOWN),
    [RUN_STATE_FINISH_MIGRATE] = TO(RUNNING) | TO(PAUSED) | TO(POSTMIGRATE) | TO(PRELAUNCH) |
                                 TO(IO_ERROR),
    [RUN_STATE_RESTORE_VM] = TO(RUNNING) | TO(PAUSED) | TO(DEBUG) | TO(PRELAUNCH) | TO(IO_ERROR) |
                             TO(INTERNAL_ERROR) | TO(SHUTDOWN),
    [RUN_STATE_RUNNING] = TO(DEBUG) | TO(INTERNAL_ERROR) | TO(IO_ERROR) | TO(PAUSED) |
                          TO(FINISH_MIGRATE) | TO(RESTORE_VM) | TO(SAVE_VM) | TO(SHUTDOWN) |
                          TO(SUSPENDED) | TO(WATCHDOG) | TO(GUEST_PANICKED),
    [RUN_STATE_SAVE_VM] = TO(RUNNING) | TO(PAUSED) | TO(DEBUG) | TO(PRELAUNCH) | TO(IO_ERROR) |
                          TO(INTERNAL_ERROR) | TO(SHUTDOWN),
    [RUN_STATE_SHUTDOWN] = ANY_STOPPED,
    [RUN_STATE_SUSPENDED] = ANY_STOPPED | TO(RUNNING) | TO(PAUSED) | TO(SHUTDOWN),
    [RUN_STATE_WATCHDOG] = ANY_STOPPED | TO(RUNNING) | TO(SHUTDOWN),
    [RUN_STATE_GUEST_PANICKED] = ANY_STOPPED | TO(RUNNING) | TO(SHUTDOWN),
    [RUN_STATE_COLO] = TO(RUNNING),
};

bool run_state_may_become(RunState from, RunState to)
{
    return next_states[from] >> to & 1;
}
