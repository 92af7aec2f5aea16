/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The RISC-V virt board: memory map, interrupt numbers and device tree of QEMU's machine of
 * that name, for the devices that are there.
 */
#ifndef HW_RISCV_VIRT_H
#define HW_RISCV_VIRT_H

#include <glib.h>
#include "block/block.h"
#include "hw/address-space.h"
#include "hw/intc/sifive-plic.h"
#include "hw/irq.h"
#include "hw/misc/sifive-test.h"
#include "hw/misc/vmgenid.h"
#include "hw/virtio/virtio.h"
#include "migration/vmstate.h"
#include "util/chardev.h"

enum {
    VIRT_MAX_CPUS = 8,
    VIRT_VIRTIO_SLOTS = 8,
    VIRT_TIMEBASE_HZ = 10000000,
    VIRT_ROM_BASE = 0x1000,
    VIRT_ROM_SIZE = 0xf000,
    VIRT_TEST_BASE = 0x100000,
    VIRT_RTC_BASE = 0x101000,
    VIRT_RTC_IRQ = 11,
    VIRT_VMGENID_BASE = 0x102000, /* Keyframe's own: free in QEMU's map */
    VIRT_VMGENID_IRQ = 12,
    VIRT_CLINT_BASE = 0x2000000,
    VIRT_PLIC_BASE = 0xc000000,
    VIRT_UART_BASE = 0x10000000,
    VIRT_UART_IRQ = 10,
    VIRT_VIRTIO_BASE = 0x10001000,
    VIRT_VIRTIO_STRIDE = 0x1000,
    VIRT_VIRTIO_IRQ = 1, /* of the first slot */
    VIRT_FLASH_BANKS = 2,
    VIRT_FLASH_BASE = 0x20000000, /* the second bank follows the first */
};
#define VIRT_RAM_BASE UINT64_C(0x80000000)

typedef struct VirtCpuWires {
    IrqLine msip, mtip, meip, seip;
} VirtCpuWires;

typedef struct VirtFlash {
    BlockBackend *blk; /* NULL: blank */
    bool write_through;
} VirtFlash;

typedef struct VirtConfig {
    int nr_cpus;
    VirtCpuWires cpu[VIRT_MAX_CPUS];
    const char *isa; /* "rv64imafdc_..." */
    uint8_t *ram;
    uint64_t ram_size;
    const char *bios;   /* NULL: OpenSBI; "none" */
    const char *const *data_dirs; /* where to look for it, NULL terminated, or NULL */
    const char *kernel, *initrd, *append, *dtb; /* or NULL */
    Chardev *serial;    /* or NULL */
    VirtFlash flash[VIRT_FLASH_BANKS];
    bool flash_keep;        /* the content of writable banks is machine state */
    const uint8_t *vmgenid; /* VMGENID_SIZE bytes, or NULL: no such device */
    const SifiveTestOps *finisher;
    void *finisher_opaque;
} VirtConfig;

typedef struct VirtMachine VirtMachine;

/*
 * Makes the board and opens its images; loads nothing.  Strings of config are not needed
 * afterwards.  Main thread, machine lock not held.
 */
VirtMachine *virt_new(const VirtConfig *config, GError **errp);
void virt_free(VirtMachine *m);
AddressSpace *virt_address_space(VirtMachine *m);
SifivePlic *virt_plic(VirtMachine *m);
/* Puts a device into a slot that is empty. */
void virt_plug(VirtMachine *m, VirtIODevice *vdev, int slot);
/* The device in slot n, NULL if it is empty. */
VirtIODevice *virt_slot_device(VirtMachine *m, int n);
void virt_register(VirtMachine *m, VMStateRegistry *r);
/* The transports that carry a device, when all are plugged. */
void virt_register_slots(VirtMachine *m, VMStateRegistry *r);
/* Writes firmware, kernel, initrd and device tree.  May block: start-up or a worker. */
bool virt_load_images(VirtMachine *m, GError **errp);
/* Reads the flash banks.  Before the guest runs. */
bool coroutine_fn virt_co_open_flash(VirtMachine *m, GError **errp);
/* Writes back what the banks' nodes do not have yet: after a load. */
bool coroutine_fn virt_co_settle_flash(VirtMachine *m, GError **errp);
/* Lets go of the banks' nodes.  The guest does not run any more.  Main thread. */
void coroutine_fn virt_co_stop_flash(VirtMachine *m);
/* What was loaded stays, or what was before is back.  Parked, machine lock. */
void virt_load_ended(VirtMachine *m, bool loaded);
/* NULL if there is none. */
VmGenId *virt_vmgenid(VirtMachine *m);
/* Resets all devices.  vCPUs parked, no virtio request in flight, machine lock. */
void virt_reset_devices(VirtMachine *m);
/* What is written into ROM and RAM before the guest runs. */
typedef struct VirtRom {
    const char *name; /* a file, or what it is; stays */
    uint64_t addr, size;
    bool read_only;
} VirtRom;
/* Number i in order of addresses; false behind the last one. */
bool virt_rom(VirtMachine *m, unsigned i, VirtRom *rom);
/* The device tree as the guest will get it. */
const void *virt_fdt(VirtMachine *m, size_t *size);

/* --- hw/riscv/virt-fdt.c ---------------------------------------------------------------- */

typedef struct VirtFdtConfig {
    int nr_cpus;
    const char *isa;
    uint64_t ram_size;
    bool vmgenid;
} VirtFdtConfig;

/* The board's device tree: a new buffer (g_free) with some room to grow. */
void *virt_fdt_create(const VirtFdtConfig *config);
/* A tree from a file, checked; NULL and errp. */
void *virt_fdt_load(const char *filename, GError **errp);
/*
 * Sets /chosen in *fdt, which may be replaced.  append NULL: leaves bootargs; initrd_end 0:
 * no initrd.
 */
bool virt_fdt_set_chosen(void **fdt, const char *append, uint64_t initrd_start,
                         uint64_t initrd_end, GError **errp);
/* Puts a new seed into /chosen/rng-seed, if the tree has one of 32 bytes. */
void virt_fdt_reseed(void *fdt);

#endif
