/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the machine is doing, and how it goes from one state to the next: stop, cont, reset,
 * shutdown, and parking for a snapshot.  Functions without a remark: any thread.
 */
#ifndef SYSTEM_RUN_STATE_H
#define SYSTEM_RUN_STATE_H

#include <glib.h>
#include "util/coroutine.h"
#include "qapi/qapi-types-run-state.h"

/* Whether a machine in state from may go to state to. */
bool run_state_may_become(RunState from, RunState to);

/* What the rest of system/ does for the state machine. */
typedef struct RunStateOps {
    /* Stops virtio queues, reloads images, resets devices and CPUs.  vCPUs stand. */
    bool coroutine_fn (*reset)(GError **errp);
    /*
     * The guest runs again: what failed while it did is tried again, what rested goes on.  Any
     * thread.  May be NULL.
     */
    void (*go_on)(void);
    /*
     * The guest's CPUs have stopped: devices that work without them shall, too.  wait: returns when
     * they have.  May be called again while the guest stands.  Any context.  May be NULL.
     */
    void coroutine_fn (*rest)(bool wait);
    /*
     * The guest has stopped for a failed request: waits for those that it had under way.  Of
     * these more may fail, and they must do so before anybody lets the guest go on, for it would
     * stop again.  May be NULL.
     */
    void coroutine_fn (*settle)(void);
    /* Ends the main loop; the process will exit with code.  Main thread. */
    void (*exit)(int code);
} RunStateOps;

/* Main thread, once.  The machine is in state prelaunch, its vCPUs are held. */
void run_state_init(const RunStateOps *ops);
/* What the guest's reboot and shutdown do: -action, set-action.  Any thread. */
void run_state_set_reboot_action(RebootAction action);
void run_state_set_shutdown_action(ShutdownAction action);

RunState run_state(void);

/*
 * Runs prepare() and then, if start is set, the guest; whatever would change the state
 * meanwhile (a client that is quick to say stop) waits for the end of it.
 */
bool coroutine_fn run_state_co_prepare(bool coroutine_fn (*prepare)(GError **errp),
                                       bool start, GError **errp);
/* Stops a running guest with the state why; otherwise does nothing. */
void coroutine_fn run_state_co_stop(RunState why);
/* Lets a stopped guest go on; false and errp if its state does not allow that. */
bool coroutine_fn run_state_co_cont(GError **errp);
/*
 * Resets the machine (or shuts it down, with -no-reboot); done on return.  One that waits for
 * an incoming migration has nothing to reset, and its RAM may be filling: it stays as it is.
 */
void coroutine_fn run_state_co_reset(ShutdownCause cause);

/* The guest asks for a reset (from a vCPU thread): its vCPUs stop at once. */
void run_state_request_guest_reset(void);
/* The machine shall shut down: the guest, a signal, quit.  The first request counts. */
void run_state_request_shutdown(ShutdownCause cause, int exit_code);
/*
 * A disk request failed and waits for RunStateOps.go_on: if the guest runs it stops at once,
 * with state io-error.
 */
void run_state_request_io_error(void);
/* A vCPU (whose thread this is) has met what a debugger has set: state debug. */
void run_state_debug_stop(void);
/*
 * Calls cb(opaque) in the main thread soon after each change of the state, once for several
 * that follow one another quickly.  NULL: not any more.  Main thread; there is one listener.
 */
void run_state_set_listener(void (*cb)(void *opaque), void *opaque);
/* A page of guest RAM cannot be read: stops the guest with state io-error. */
void run_state_ram_error(const char *message);

/*
 * Before the first coroutine: the machine waits for an incoming migration; start: the guest
 * shall run when it is there, until stop or cont say otherwise; otherwise: its state if it
 * does not run.
 */
void run_state_set_incoming(bool start, RunState otherwise);
/* MachineOps.park_migrate and .unpark_migrated. */
bool coroutine_fn run_state_co_park_migrate(void);
void run_state_unpark_migrated(void);
/* MachineOps.incoming_loaded. */
void run_state_incoming_loaded(bool may_run);
/*
 * A snapshot has been loaded, the machine is parked: one whose guest had shut down, or that only a
 * reset could help, is paused afterwards.
 */
void run_state_loaded(void);

/* MachineOps.park and .unpark: see migration/machine.h. */
bool coroutine_fn run_state_co_park(bool for_load);
void run_state_unpark(bool running);

#endif
