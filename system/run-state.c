/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The machine's run state and everything that changes it.
 *
 * Changes that must wait for the vCPUs are coroutines and take one CoMutex, so they follow
 * one another; they run in the main thread or, for a snapshot, in the snapshot IOThread.
 * The state itself is guarded by a leaf mutex, and events are sent under it, so that their
 * order is the order of the changes.
 *
 * vCPU holds: a machine that does not run has one; a guest's request for reset or shutdown
 * has one from the request until it has been dealt with.
 *
 * While a snapshot has the machine parked, stop and cont do not wait for it: they leave a
 * wish that unpark fulfils.
 */
#include <pthread.h>
#include <stdatomic.h>
#include "hw/machine-lock.h"
#include "hw/vm-clock.h"
#include "migration/machine.h"
#include "qapi/error.h"
#include "qapi/qapi-events-run-state.h"
#include "system/cpus.h"
#include "system/run-state.h"
#include "system/trace.h"
#include "util/co-lock.h"

typedef enum Wish { WISH_NONE, WISH_STOP, WISH_CONT } Wish;

static const RunStateOps *ops;
static _Atomic RebootAction reboot_action;
static _Atomic ShutdownAction shutdown_action;

/* Outermost of this file: taken by coroutines that change the state and may wait. */
static CoMutex change_mutex;
static CoQueue changed; /* parked, leaving or reset_requested may have become false */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static RunState state = RUN_STATE_PRELAUNCH;
static unsigned turns; /* how often the guest was let go */
static bool parked;
static bool migrating; /* parked, for the end of an outgoing migration */
static bool leaving; /* parked, and unpark is at work: too late for a wish */
static RunState before_park;
static Wish wish;
static RunState wished_stop; /* what the machine is after WISH_STOP */
static AioBH *listener;
static bool start_after_incoming; /* what stop and cont say in state inmigrate */
static RunState stopped_after_incoming; /* what it is then if it does not run */
static atomic_bool reset_requested;
static bool shutdown_requested;
static ShutdownCause shutdown_cause;
static int shutdown_code;

void run_state_init(const RunStateOps *run_state_ops)
{
    ops = run_state_ops;
    co_mutex_init(&change_mutex);
    co_queue_init(&changed);
}

void run_state_set_incoming(bool start, RunState otherwise)
{
    state = RUN_STATE_INMIGRATE;
    start_after_incoming = start;
    stopped_after_incoming = otherwise;
}

void run_state_set_reboot_action(RebootAction action)
{
    atomic_store(&reboot_action, action);
}

void run_state_set_shutdown_action(ShutdownAction action)
{
    atomic_store(&shutdown_action, action);
}

RunState run_state(void)
{
    RunState s;

    pthread_mutex_lock(&lock);
    s = state;
    pthread_mutex_unlock(&lock);
    return s;
}

static bool is_parked(void)
{
    bool p;

    pthread_mutex_lock(&lock);
    p = parked;
    pthread_mutex_unlock(&lock);
    return p;
}

/* change_mutex held.  Who changes the state now must wait until unpark is done with it. */
static void coroutine_fn wait_while_leaving(void)
{
    for (;;) {
        bool wait;

        pthread_mutex_lock(&lock);
        wait = leaving;
        pthread_mutex_unlock(&lock);
        if (!wait) {
            return;
        }
        co_queue_wait(&changed, &change_mutex);
    }
}

/* lock held. */
static void set_state(RunState next)
{
    if (next != state) {
        g_assert(run_state_may_become(state, next));
        trace_runstate_set(state, RunState_str(state), next, RunState_str(next));
        state = next;
        if (listener) {
            aio_bh_schedule(listener);
        }
    }
}

static void set_clock(bool running)
{
    machine_lock();
    vm_clock_enable(running);
    machine_unlock();
}

/*
 * The CPUs stand: the devices shall.  What hangs on a page that cannot be read, as a CPU may, is not
 * waited for; who parks the machine later waits, when the load that has not brought it is over.
 */
static void coroutine_fn rest_devices(void)
{
    if (ops->rest) {
        ops->rest(!cpus_stuck());
    }
}

/* Stands the guest still and announces it as next. */
static void coroutine_fn halt_guest(RunState next)
{
    cpus_hold();
    cpus_co_wait_stopped();
    rest_devices();
    set_clock(false);
    pthread_mutex_lock(&lock);
    set_state(next);
    qapi_event_send_stop();
    pthread_mutex_unlock(&lock);
}

/* lock held. */
static void start_guest_locked(void)
{
    set_state(RUN_STATE_RUNNING);
    turns++;
    qapi_event_send_resume();
}

static void let_guest_go(void)
{
    cpus_set_stuck(false);
    set_clock(true);
    if (ops->go_on) {
        ops->go_on();
    }
    cpus_release();
}

void coroutine_fn run_state_co_stop(RunState why)
{
    bool must_halt;

    co_mutex_lock(&change_mutex);
    wait_while_leaving();
    pthread_mutex_lock(&lock);
    if (state == RUN_STATE_INMIGRATE) {
        start_after_incoming = false;
    } else if (parked) {
        wish = WISH_STOP;
        wished_stop = why == RUN_STATE_DEBUG ? why : RUN_STATE_PAUSED;
    }
    must_halt = !parked && state == RUN_STATE_RUNNING;
    pthread_mutex_unlock(&lock);
    if (must_halt) {
        halt_guest(why);
    }
    co_mutex_unlock(&change_mutex);
}

/* lock held. */
static bool may_continue(RunState s, GError **errp)
{
    if (s == RUN_STATE_INTERNAL_ERROR || s == RUN_STATE_SHUTDOWN) {
        error_setg(errp, "Resetting the Virtual Machine is required");
        return false;
    }
    if (s != RUN_STATE_RUNNING && !run_state_may_become(s, RUN_STATE_RUNNING)) {
        error_setg(errp, "The machine cannot be continued from its state '%s'",
                   RunState_str(s));
        return false;
    }
    return true;
}

/* change_mutex held. */
static bool cont_locked(GError **errp)
{
    bool ok, must_start = false;

    pthread_mutex_lock(&lock);
    if (state == RUN_STATE_INMIGRATE) {
        start_after_incoming = true;
        pthread_mutex_unlock(&lock);
        return true;
    }
    if (migrating) {
        pthread_mutex_unlock(&lock);
        error_setg(errp, "Migration is not finalized yet");
        return false;
    }
    ok = may_continue(parked ? before_park : state, errp);
    if (ok && parked) {
        wish = WISH_CONT;
    } else if (ok && state != RUN_STATE_RUNNING) {
        start_guest_locked();
        must_start = true;
    }
    pthread_mutex_unlock(&lock);
    if (must_start) {
        let_guest_go();
        machine_retry_ram_reads();
    }
    return ok;
}

bool coroutine_fn run_state_co_cont(GError **errp)
{
    bool ok;

    co_mutex_lock(&change_mutex);
    ok = cont_locked(errp);
    co_mutex_unlock(&change_mutex);
    return ok;
}

bool coroutine_fn run_state_co_prepare(bool coroutine_fn (*prepare)(GError **errp),
                                       bool start, GError **errp)
{
    bool ok;

    co_mutex_lock(&change_mutex);
    ok = prepare(errp) && (!start || cont_locked(errp));
    co_mutex_unlock(&change_mutex);
    return ok;
}

/* --- Snapshots ---------------------------------------------------------------------------- */

/* migrates: every machine that may goes to state why, not just one that runs. */
static bool coroutine_fn park(RunState why, bool migrates)
{
    bool running;

    co_mutex_lock(&change_mutex);
    while (atomic_load(&reset_requested) || is_parked()) {
        co_queue_wait(&changed, &change_mutex);
    }
    pthread_mutex_lock(&lock);
    running = state == RUN_STATE_RUNNING;
    trace_run_state_park(state, running);
    before_park = state;
    wish = WISH_NONE;
    pthread_mutex_unlock(&lock);
    if (running) {
        halt_guest(why);
    } else {
        cpus_co_wait_stopped();
        rest_devices();
    }
    pthread_mutex_lock(&lock);
    if (migrates && run_state_may_become(state, why)) {
        set_state(why);
    }
    parked = true;
    migrating = migrates;
    pthread_mutex_unlock(&lock);
    co_mutex_unlock(&change_mutex);
    return running;
}

void run_state_incoming_loaded(bool may_run)
{
    pthread_mutex_lock(&lock);
    g_assert(parked && state == RUN_STATE_INMIGRATE);
    set_state(stopped_after_incoming);
    before_park = stopped_after_incoming;
    wish = may_run && start_after_incoming ? WISH_CONT : WISH_NONE;
    pthread_mutex_unlock(&lock);
}

void run_state_loaded(void)
{
    pthread_mutex_lock(&lock);
    g_assert(parked);
    if (before_park == RUN_STATE_SHUTDOWN || before_park == RUN_STATE_INTERNAL_ERROR) {
        set_state(RUN_STATE_RESTORE_VM); /* until unpark */
        before_park = RUN_STATE_PAUSED;
    }
    pthread_mutex_unlock(&lock);
}

bool coroutine_fn run_state_co_park(bool for_load)
{
    return park(for_load ? RUN_STATE_RESTORE_VM : RUN_STATE_SAVE_VM, false);
}

bool coroutine_fn run_state_co_park_migrate(void)
{
    return park(RUN_STATE_FINISH_MIGRATE, true);
}

/* After unpark, where it is allowed to wait: who waited for it goes on. */
static void coroutine_fn unparked_entry(void *opaque)
{
    co_mutex_lock(&change_mutex);
    co_queue_restart_all(&changed);
    co_mutex_unlock(&change_mutex);
}

void run_state_unpark(bool running)
{
    RunState stopped;

    pthread_mutex_lock(&lock);
    g_assert(parked);
    leaving = true;
    stopped = wish == WISH_STOP ? wished_stop : RUN_STATE_PAUSED;
    if (wish != WISH_NONE) {
        running = wish == WISH_CONT;
        wish = WISH_NONE;
    }
    trace_run_state_unpark(running);
    if (running) {
        start_guest_locked();
    } else if (before_park == RUN_STATE_RUNNING) {
        set_state(run_state_may_become(state, stopped) ? stopped : RUN_STATE_PAUSED);
    } else {
        set_state(before_park);
    }
    pthread_mutex_unlock(&lock);
    if (running) {
        let_guest_go();
    }
    /* parked until here: nobody else has changed the clock or the holds meanwhile */
    pthread_mutex_lock(&lock);
    parked = leaving = migrating = false;
    pthread_mutex_unlock(&lock);
    aio_co_enter(main_aio_context(), coroutine_create(unparked_entry, NULL));
}

void run_state_unpark_migrated(void)
{
    pthread_mutex_lock(&lock);
    g_assert(parked && migrating);
    if (run_state_may_become(state, RUN_STATE_POSTMIGRATE)) {
        set_state(RUN_STATE_POSTMIGRATE);
    }
    parked = migrating = false;
    pthread_mutex_unlock(&lock);
    aio_co_enter(main_aio_context(), coroutine_create(unparked_entry, NULL));
}

static void coroutine_fn ram_error_entry(void *opaque)
{
    run_state_co_stop(RUN_STATE_IO_ERROR);
}

void run_state_ram_error(const char *message)
{
    g_printerr("%s: %s\n", g_get_prgname(), message);
    cpus_set_stuck(true);
    aio_co_enter(main_aio_context(), coroutine_create(ram_error_entry, NULL));
}

/* opaque: the turn.  If it is over, or the guest is parked, the request is tried again anyway. */
static void coroutine_fn io_error_entry(void *opaque)
{
    bool must_halt;

    co_mutex_lock(&change_mutex);
    wait_while_leaving();
    pthread_mutex_lock(&lock);
    must_halt = !parked && state == RUN_STATE_RUNNING && turns == GPOINTER_TO_UINT(opaque);
    pthread_mutex_unlock(&lock);
    if (must_halt) {
        halt_guest(RUN_STATE_IO_ERROR);
        if (ops->settle) {
            ops->settle();
        }
    }
    co_mutex_unlock(&change_mutex);
    cpus_release();
}

void run_state_request_io_error(void)
{
    unsigned turn;
    bool runs;

    pthread_mutex_lock(&lock);
    runs = state == RUN_STATE_RUNNING;
    turn = turns;
    pthread_mutex_unlock(&lock);
    if (runs) {
        cpus_hold();
        aio_co_enter(main_aio_context(),
                     coroutine_create(io_error_entry, GUINT_TO_POINTER(turn)));
    }
}

/* --- Debugger -------------------------------------------------------------------------------- */

void run_state_set_listener(void (*changed_cb)(void *opaque), void *opaque)
{
    AioBH *bh = changed_cb ? aio_bh_new(main_aio_context(), changed_cb, opaque) : NULL, *old;

    pthread_mutex_lock(&lock);
    old = listener;
    listener = bh;
    pthread_mutex_unlock(&lock);
    if (old) {
        aio_bh_delete(old);
    }
}

static void coroutine_fn debug_stop_entry(void *opaque)
{
    run_state_co_stop(RUN_STATE_DEBUG);
    cpus_release();
}

void run_state_debug_stop(void)
{
    cpus_hold();
    aio_co_enter(main_aio_context(), coroutine_create(debug_stop_entry, NULL));
}

/* --- Reset and shutdown --------------------------------------------------------------------- */

static bool is_guests(ShutdownCause cause)
{
    return cause == SHUTDOWN_CAUSE_GUEST_RESET || cause == SHUTDOWN_CAUSE_GUEST_SHUTDOWN ||
           cause == SHUTDOWN_CAUSE_GUEST_PANIC;
}

/* change_mutex held.  Sends the event for a machine that waits for a migration; else false. */
static bool reset_incoming(ShutdownCause cause)
{
    bool waits;

    pthread_mutex_lock(&lock);
    waits = state == RUN_STATE_INMIGRATE;
    if (waits) {
        qapi_event_send_reset(is_guests(cause), cause);
    }
    pthread_mutex_unlock(&lock);
    return waits;
}

void coroutine_fn run_state_co_reset(ShutdownCause cause)
{
    g_autoptr(GError) err = NULL;
    bool ok, was_running;

    if (atomic_load(&reboot_action) == REBOOT_ACTION_SHUTDOWN) {
        run_state_request_shutdown(cause, 0);
        return;
    }
    co_mutex_lock(&change_mutex);
    while (is_parked()) {
        co_queue_wait(&changed, &change_mutex);
    }
    if (reset_incoming(cause)) {
        co_mutex_unlock(&change_mutex);
        return;
    }
    cpus_hold();
    cpus_co_wait_stopped();
    ok = ops->reset(&err);
    pthread_mutex_lock(&lock);
    qapi_event_send_reset(is_guests(cause), cause);
    was_running = state == RUN_STATE_RUNNING;
    if (!was_running) {
        set_state(RUN_STATE_PRELAUNCH);
    } else if (!ok) {
        set_state(RUN_STATE_INTERNAL_ERROR);
        qapi_event_send_stop();
    }
    pthread_mutex_unlock(&lock);
    if (!ok) {
        g_printerr("%s: reset failed: %s\n", g_get_prgname(), err->message);
    }
    if (!ok && was_running) {
        rest_devices();
        set_clock(false); /* and the hold stays, as that of the stopped state */
    } else {
        cpus_release();
    }
    co_mutex_unlock(&change_mutex);
}

static void coroutine_fn guest_reset_entry(void *opaque)
{
    run_state_co_reset(SHUTDOWN_CAUSE_GUEST_RESET);
    co_mutex_lock(&change_mutex);
    atomic_store(&reset_requested, false);
    co_queue_restart_all(&changed);
    co_mutex_unlock(&change_mutex);
    cpus_release();
}

void run_state_request_guest_reset(void)
{
    bool first;

    if (atomic_load(&reboot_action) == REBOOT_ACTION_SHUTDOWN) {
        run_state_request_shutdown(SHUTDOWN_CAUSE_GUEST_RESET, 0);
        return;
    }
    pthread_mutex_lock(&lock);
    first = !shutdown_requested && !atomic_exchange(&reset_requested, true);
    pthread_mutex_unlock(&lock);
    if (first) {
        cpus_hold();
        aio_co_enter(main_aio_context(), coroutine_create(guest_reset_entry, NULL));
    }
}

static void coroutine_fn shutdown_entry(void *opaque)
{
    bool stays = atomic_load(&shutdown_action) == SHUTDOWN_ACTION_PAUSE &&
                 (is_guests(shutdown_cause) ||
                  shutdown_cause == SHUTDOWN_CAUSE_HOST_QMP_SYSTEM_RESET);

    qapi_event_send_shutdown(is_guests(shutdown_cause), shutdown_cause);
    if (!stays) {
        ops->exit(shutdown_code);
        return; /* the vCPUs keep their hold */
    }
    run_state_co_stop(RUN_STATE_SHUTDOWN);
    pthread_mutex_lock(&lock);
    shutdown_requested = false;
    pthread_mutex_unlock(&lock);
    cpus_release();
}

void run_state_request_shutdown(ShutdownCause cause, int exit_code)
{
    bool first;

    pthread_mutex_lock(&lock);
    first = !shutdown_requested;
    if (first) {
        shutdown_requested = true;
        shutdown_cause = cause;
        shutdown_code = exit_code;
    }
    pthread_mutex_unlock(&lock);
    if (first) {
        cpus_hold();
        aio_co_enter(main_aio_context(), coroutine_create(shutdown_entry, NULL));
    }
}
