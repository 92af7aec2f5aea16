/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of system/ share.  Everything here: main thread. */
#ifndef SYSTEM_SYSTEM_INT_H
#define SYSTEM_SYSTEM_INT_H

#include "accel/accel.h"
#include "hw/riscv/virt.h"
#include "migration/vmstate.h"
#include "qapi/hmp.h"
#include "system/options.h"
#include "util/aio.h"
#include "util/chardev.h"

/* --- vm.c: the virtual machine ----------------------------------------------------------- */

/* What the command line says, before anything else here; o must stay. */
void vm_set_options(const VmOptions *o);
/* Makes RAM, CPUs, board and devices.  The guest does not run yet. */
bool vm_create(Chardev *serial, GError **errp);
/* Starts the guest, from a snapshot if -loadvm asks for it. */
bool coroutine_fn vm_co_start(GError **errp);
/* Resets the machine: RunStateOps.reset. */
bool coroutine_fn vm_co_reset(GError **errp);
/* The board's device tree; not for machine 'none'. */
const void *vm_fdt(size_t *size);
/* Ends vCPUs, lets jobs and disks finish, frees everything. */
void vm_destroy(void);
const VmOptions *vm_options(void);
/* NULL: machine 'none'. */
VirtMachine *vm_board(void);
/* Bytes of RAM; 0 for machine 'none'. */
uint64_t vm_ram_size(void);
/* The name of the RAM in snapshots, and the object's unless the user names one. */
#define VM_RAM_ID "riscv_virt_board.ram"
const char *vm_ram_id(void);
/* Whether a slot of the board has a device; not for machine 'none'. */
bool vm_slot_is_taken(int slot);
/* The VM generation ID as a UUID, a new string; NULL if the machine has no such device. */
char *vm_generation_id(void);

/*
 * Who writes registers in place of a CPU holds this meanwhile.  So does who resets the machine
 * or takes it apart, as the CPUs stand then: a device is told to stop by one at a time.
 */
void coroutine_fn vm_co_lock_devices(void);
void coroutine_fn vm_co_unlock_devices(void);
/* The guest's memory; NULL for machine 'none'. */
AddressSpace *vm_address_space(void);

/* --- guest-read.c: guest memory for those who look at it from outside ----------------------- */

/*
 * Copies len bytes of guest memory to buf, by a worker: RAM may have to wait for a load that
 * brings it, device registers, which are read as a CPU would, for the device.  view: how addr
 * is translated, NULL if it is physical.  False if nothing is there, unless fill says that
 * this reads as zeros, or if the program ends.  Main thread.
 */
bool coroutine_fn guest_co_read(const CpuView *view, uint64_t addr, void *buf, size_t len,
                                bool fill);
/* The same for one address; *physical is what it translates to. */
bool coroutine_fn guest_co_translate(const CpuView *view, uint64_t addr, uint64_t *physical);
/*
 * Runs fn(opaque), whose result is not used, in a worker that may use guest RAM.  False if the
 * program ends: it did not run, or what it read may not be the guest's.
 */
bool coroutine_fn guest_co_run(WorkerFunc *fn, void *opaque);
/* No more from now on; returns when the last one has ended. */
void coroutine_fn guest_read_co_end(void);
/* Whether that was called: the machine is being taken apart. */
bool guest_read_ended(void);
/* How CPU number index sees memory; false if there is no such CPU. */
bool coroutine_fn guest_co_view(int index, CpuView *view);

/* --- dump.c --------------------------------------------------------------------------------- */

/* The dump under way ends as soon as it can, and fails.  Main thread. */
void dump_cancel(void);

/* --- disks.c ----------------------------------------------------------------------------- */

/* Opens what -drive and -blockdev say.  Start-up. */
bool coroutine_fn disks_co_open(const VmOptions *o, GError **errp);
/* Makes what -device (and -drive if=virtio) say. */
bool coroutine_fn disks_co_plug(const VmOptions *o, VirtMachine *board, VMStateRegistry *r,
                                GError **errp);
/* What the command line puts into the flash banks, VIRT_FLASH_BANKS of them, zeroed. */
bool disks_flash(const VmOptions *o, VirtFlash *flash, GError **errp);
/* The guest goes on: requests that failed and wait are tried again.  Any thread. */
void disks_retry(void);
/* Begins to write what -snapshot keeps, and what overlays have, into the files below; says what fails. */
void disks_save(void);
/* The guest stands: finishes requests. */
void coroutine_fn disks_co_settle(void);
/* The same, and flushes, so that the images are complete. */
void coroutine_fn disks_co_flush(void);
/* The guest does not run any more: finishes requests, flushes and closes everything. */
void coroutine_fn disks_co_close(void);

/* --- nics.c ------------------------------------------------------------------------------ */

/* Makes the backends that -netdev and -nic say.  Start-up. */
bool coroutine_fn nics_co_open(const VmOptions *o, GError **errp);
/* Makes a network device. */
bool coroutine_fn nics_co_plug(const DeviceOptions *d, VirtMachine *board, VMStateRegistry *r,
                               GError **errp);
/* Makes those of -nic. */
bool coroutine_fn nics_co_plug_all(const VmOptions *o, VirtMachine *board, VMStateRegistry *r,
                                   GError **errp);
/* Warns of what is connected to nothing. */
void coroutine_fn nics_co_check(void);
/* The guest does not run any more: frees everything. */
void coroutine_fn nics_co_close(void);

/* --- messages.c ----------------------------------------------------------------------------- */

/* From now on messages begin as -msg says. */
void messages_init(const VmOptions *o);

/* --- system-hmp.c --------------------------------------------------------------------------- */

extern const HMPCommand system_hmp_commands[], memory_hmp_commands[], qom_hmp_commands[],
    info_hmp_commands[], absent_hmp_commands[];
/* Offers paths of objects as argument 0, and then their properties. */
void coroutine_fn hmp_complete_qom_path(HMPCompletion *c, int nr);
/* "info qtree": hmp-qtree.c. */
void coroutine_fn hmp_info_qtree(HMPSession *s, const HMPArgs *args);

/* --- hmp-show.c: how memory is printed ------------------------------------------------------ */

/* "x", "xp": the letter and bytes of an item that format does not say are those used last. */
HMPFormat hmp_show_format(HMPFormat format);
/* One item, right aligned in its column. */
void hmp_show_item(GString *out, HMPFormat format, uint64_t value);
/* One number without a column, as print has it. */
void hmp_show_number(GString *out, HMPFormat format, int64_t value);

/* --- debug-hmp.c ---------------------------------------------------------------------------- */

extern const HMPCommand debug_hmp_commands[];

#endif
