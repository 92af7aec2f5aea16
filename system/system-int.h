/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of system/ share.  Everything here: main thread. */
#ifndef SYSTEM_SYSTEM_INT_H
#define SYSTEM_SYSTEM_INT_H

#include "hw/riscv/virt.h"
#include "migration/vmstate.h"
#include "qapi/hmp.h"
#include "system/options.h"
#include "util/chardev.h"

/* --- vm.c: the virtual machine ----------------------------------------------------------- */

/* Makes RAM, CPUs, board and devices from o, which must stay.  The guest does not run yet. */
bool vm_create(const VmOptions *o, Chardev *serial, GError **errp);
/* Starts the guest, from a snapshot if -loadvm asks for it. */
bool coroutine_fn vm_co_start(GError **errp);
/* Resets the machine: RunStateOps.reset. */
bool coroutine_fn vm_co_reset(GError **errp);
/* The board's device tree; not for machine 'none'. */
const void *vm_fdt(size_t *size);
/* Ends vCPUs, lets jobs and disks finish, frees everything. */
void vm_destroy(void);
const VmOptions *vm_options(void);
/* The VM generation ID as a UUID, a new string; NULL if the machine has no such device. */
char *vm_generation_id(void);

/* --- disks.c ----------------------------------------------------------------------------- */

/* Opens what -drive and -blockdev say.  Start-up. */
bool coroutine_fn disks_co_open(const VmOptions *o, GError **errp);
/*
 * A writable node over base in a temporary file that nobody else can open; ctx is base's.  A
 * reference, or NULL and errp.
 */
BlockDriverState *coroutine_fn temp_overlay_co_open(BlockDriverState *base, AioContext *ctx,
                                                    GError **errp);
/* Makes what -device (and -drive if=virtio) say. */
bool coroutine_fn disks_co_plug(const VmOptions *o, VirtMachine *board, VMStateRegistry *r,
                                GError **errp);
/* What the command line puts into the flash banks, VIRT_FLASH_BANKS of them, zeroed. */
bool disks_flash(const VmOptions *o, VirtFlash *flash, GError **errp);
/* The guest stands: finishes requests and flushes, so that the images are complete. */
void coroutine_fn disks_co_flush(void);
/* The guest does not run any more: finishes requests, flushes and closes everything. */
void coroutine_fn disks_co_close(void);

/* --- system-hmp.c --------------------------------------------------------------------------- */

extern const HMPCommand system_hmp_commands[];

#endif
