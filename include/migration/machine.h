/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What migration/ needs of a machine; system/ implements it and registers it once.
 */
#ifndef MIGRATION_MACHINE_H
#define MIGRATION_MACHINE_H

#include "job/job.h"
#include "migration/vmstate.h"
#include "qapi/qapi-types-run-state.h"
#include "util/aio.h"

/*
 * A piece of guest RAM.  host is 2 MiB aligned, anonymous private memory; it may be
 * replaced by another mapping at the same address.
 */
typedef struct RAMBlock {
    char idstr[256]; /* "riscv_virt_board.ram" */
    uint8_t *host;
    uint64_t size;       /* bytes, a multiple of the page size */
    uint64_t guest_addr; /* guest physical address of its first byte */
} RAMBlock;

typedef struct MachineOps {
    /*
     * Parks all vCPUs and stops the guest's clock (RUN_STATE_SAVE_VM / RESTORE_VM);
     * returns when none executes guest code.  Emits STOP if the guest was running, and
     * returns whether it was.  Any context; does not change a machine that is not running.
     */
    bool coroutine_fn (*park)(void *opaque, bool for_load);
    /*
     * Ends park.  running: let the guest go (emits RESUME); otherwise the run state becomes
     * what it was before park.
     */
    void (*unpark)(void *opaque, bool running);
    /* The lock that guards device models.  Short; never across a yield. */
    void (*lock)(void *opaque);
    void (*unlock)(void *opaque);
    /* Puts all devices and CPUs into reset state, without touching RAM.  Parked, locked. */
    void (*reset_devices)(void *opaque);
    /* After RAM or CPU state was replaced: drops every derived cache.  Parked, locked. */
    void (*state_loaded)(void *opaque);
    /*
     * Ends what loading device state began: loaded, it stays; else what was before has been
     * put back.  from_snapshot: the state may be lived through more than once (not so when it
     * came from another process by migration), and the guest is told.  Parked, locked.  May
     * be NULL.
     */
    void (*load_ended)(void *opaque, bool loaded, bool from_snapshot);
    /*
     * After load_ended: returns when devices have stored what came inside their state and
     * belongs into files.  Any context.  May be NULL.
     */
    bool coroutine_fn (*load_settle)(void *opaque, GError **errp);
    /* A RAM page could not be read back: stop the guest with run state io-error. */
    void (*ram_read_error)(void *opaque, const char *message);
    /* Guest clock in ns, for the snapshot's record.  Any thread. */
    int64_t (*clock_ns)(void *opaque);
    /* What the machine is doing.  Any thread. */
    RunState (*run_state)(void *opaque);
    /*
     * As park, for the end of an outgoing migration: every machine that may goes to state
     * finish-migrate, and cont is refused meanwhile.  unpark gives its state back.
     */
    bool coroutine_fn (*park_migrate)(void *opaque);
    /* Instead of unpark: the machine is elsewhere now, its state becomes postmigrate. */
    void (*unpark_migrated)(void *opaque);
    /*
     * Parked, in state inmigrate: the machine's state has been taken in.  The guest starts at
     * unpark if the user wants that and may_run is set; else it is paused.
     */
    void (*incoming_loaded)(void *opaque, bool may_run);
    /* Ends the program with this exit status, in order.  Any thread. */
    void (*quit)(void *opaque, int exit_code);
    /* Host threads that execute guest code: *n kernel thread ids (g_free). Any thread. */
    int *(*vcpu_tids)(void *opaque, int *n);
    /*
     * Guest physical addresses of pages that the CPUs used last, at most max, the most
     * useful first; returns their number.  May be NULL.  Parked, locked.
     */
    size_t (*hot_pages)(void *opaque, uint64_t *pages, size_t max);
} MachineOps;

typedef struct Machine {
    const MachineOps *ops;
    void *opaque;
    const char *machine_type; /* "virt": stored, compared at load */
    VMStateRegistry *vmstate;
    RAMBlock *ram;
    int nr_ram;
    VmJobMutex *job_mutex;
    AioContext *(*snapshot_context)(void); /* the snapshot IOThread's, made on first use */
    /* After a save RAM stays watched, so that the next one need not write all of it. */
    bool track_ram;
    bool loading; /* atomic: a load has the VM job mutex */
    bool ending; /* atomic: nobody uses RAM any more, a load that fills it may be given up */
} Machine;

/* The machine of this process; NULL before it is made.  Main thread registers it once. */
void machine_register(Machine *m);
Machine *machine_get(void);

/* Adds the hot pages to the machine's state; its ops and vmstate are set.  Main thread. */
void ram_hot_register(Machine *m);
/* A load's pages that could not be read are tried again now, not in a second.  Any thread. */
void machine_retry_ram_reads(void);

/*
 * Called by whoever is about to let the kernel write guest RAM (a disk read, a socket
 * read): makes [host, host + len) writable from user space by touching each page with an
 * atomic no-op, so that no fault happens in the kernel.  Within a tracked request only.
 */
void ram_prepare_dma(void *host, size_t len);
/*
 * Called when the kernel has written [host, host + len), before the guest is told: a device
 * that writes memory directly (O_DIRECT) may do so after the page was last found to be
 * written; this makes it count as written now.  Within the same request.
 */
void ram_dma_written(void *host, size_t len);

/*
 * At start-up, in state inmigrate (-loadvm TAG): returns when the guest runs, or is paused
 * because the user wants that; RAM may still be on its way.  Main thread.
 */
bool coroutine_fn machine_co_loadvm(const char *tag, GError **errp);

#endif
