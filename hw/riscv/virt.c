/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The RISC-V virt board: puts the devices where QEMU's machine has them, wires them up and
 * fills ROM and RAM for the first instruction.
 *
 * The reset vector follows OpenSBI's documented FW_DYNAMIC interface: a0 hart id, a1 device
 * tree, a2 struct fw_dynamic_info, and a jump to the start of RAM.
 */
#include <glib.h>
#include <inttypes.h>
#include <libfdt.h>
#include <string.h>
#include "hw/block/pflash.h"
#include "hw/char/serial-16550.h"
#include "hw/intc/riscv-clint.h"
#include "hw/intc/sifive-plic.h"
#include "hw/machine-lock.h"
#include "hw/riscv/boot.h"
#include "hw/riscv/virt.h"
#include "hw/rtc/goldfish-rtc.h"
#include "hw/virtio/virtio-mmio.h"
#include "qapi/error.h"

#define MIB (UINT64_C(1) << 20)
#define FDT_LIMIT UINT64_C(0xc0000000) /* the tree stays below 3 GiB */

enum {
    FW_DYNAMIC_MAGIC = 0x4942534f, /* "OSBI" */
    FW_DYNAMIC_VERSION = 2,
    FW_DYNAMIC_MODE_S = 1,
    ROM_RESET_SIZE = 0x28, /* what fill_rom() writes: code with its addresses, */
    ROM_INFO_SIZE = 0x30,  /* and struct fw_dynamic_info */
};

struct VirtMachine {
    AddressSpace *as;
    uint64_t ram_size;
    uint8_t rom[VIRT_ROM_SIZE];
    RiscvClint *clint;
    SifivePlic *plic;
    Serial16550 *serial;
    GoldfishRtc *rtc;
    SifiveTest *finisher;
    PFlash *flash[VIRT_FLASH_BANKS];
    VmGenId *vmgenid; /* or NULL */
    VirtIOMMIO *slot[VIRT_VIRTIO_SLOTS];
    BootImages *images;
    void *fdt;
    uint64_t fdt_addr;
};

static void make_devices(VirtMachine *m, const VirtConfig *c)
{
    IrqLine msip[VIRT_MAX_CPUS], mtip[VIRT_MAX_CPUS], ext[2 * VIRT_MAX_CPUS];

    g_assert(c->nr_cpus > 0 && c->nr_cpus <= VIRT_MAX_CPUS);
    for (int i = 0; i < c->nr_cpus; i++) {
        msip[i] = c->cpu[i].msip;
        mtip[i] = c->cpu[i].mtip;
        ext[2 * i] = c->cpu[i].meip;
        ext[2 * i + 1] = c->cpu[i].seip;
    }
    machine_lock();
    address_space_add_ram(m->as, "riscv_virt_board.mrom", VIRT_ROM_BASE, VIRT_ROM_SIZE, m->rom,
                          true);
    address_space_add_ram(m->as, "riscv_virt_board.ram", VIRT_RAM_BASE, c->ram_size, c->ram,
                          false);
    m->clint = riscv_clint_new(m->as, VIRT_CLINT_BASE, c->nr_cpus, msip, mtip,
                               VIRT_TIMEBASE_HZ);
    m->plic = sifive_plic_new(m->as, VIRT_PLIC_BASE, 2 * c->nr_cpus, ext);
    m->serial = serial_16550_new(m->as, VIRT_UART_BASE,
                                 sifive_plic_input(m->plic, VIRT_UART_IRQ), c->serial);
    m->rtc = goldfish_rtc_new(m->as, VIRT_RTC_BASE, sifive_plic_input(m->plic, VIRT_RTC_IRQ));
    m->finisher = sifive_test_new(m->as, VIRT_TEST_BASE, c->finisher, c->finisher_opaque);
    for (int i = 0; i < VIRT_VIRTIO_SLOTS; i++) {
        m->slot[i] = virtio_mmio_new(m->as, VIRT_VIRTIO_BASE + i * VIRT_VIRTIO_STRIDE,
                                     sifive_plic_input(m->plic, VIRT_VIRTIO_IRQ + i));
    }
    if (c->vmgenid) {
        m->vmgenid = vmgenid_new(m->as, VIRT_VMGENID_BASE,
                                 sifive_plic_input(m->plic, VIRT_VMGENID_IRQ), c->vmgenid);
    }
    machine_unlock();
}

static bool make_flash(VirtMachine *m, const VirtConfig *c, GError **errp)
{
    static const char *const names[VIRT_FLASH_BANKS] = {"virt.flash0", "virt.flash1"};
    bool ok = true;

    machine_lock();
    for (int i = 0; ok && i < VIRT_FLASH_BANKS; i++) {
        m->flash[i] = pflash_new(m->as, &(PFlashConfig){
            .name = names[i],
            .base = VIRT_FLASH_BASE + (uint64_t)i * PFLASH_SIZE,
            .blk = c->flash[i].blk,
            .write_through = c->flash[i].write_through,
            .keep = c->flash_keep,
        }, errp);
        ok = m->flash[i] != NULL;
    }
    machine_unlock();
    return ok;
}

static void put32(uint8_t **p, uint32_t v)
{
    v = GUINT32_TO_LE(v);
    memcpy(*p, &v, 4);
    *p += 4;
}

static void put64(uint8_t **p, uint64_t v)
{
    put32(p, v);
    put32(p, v >> 32);
}

/* Offsets: 0x18 start address, 0x20 device tree, 0x28 struct fw_dynamic_info. */
static void fill_rom(VirtMachine *m, uint64_t start, uint64_t next_addr)
{
    uint8_t *p = m->rom;

    put32(&p, 0x00000297);     /* auipc t0, 0 */
    put32(&p, 0x02828613);     /* addi  a2, t0, 0x28 */
    put32(&p, 0xf1402573);     /* csrr  a0, mhartid */
    put32(&p, 0x0202b583);     /* ld    a1, 0x20(t0) */
    put32(&p, 0x0182b283);     /* ld    t0, 0x18(t0) */
    put32(&p, 0x00028067);     /* jr    t0 */
    put64(&p, start);
    put64(&p, m->fdt_addr);
    put64(&p, FW_DYNAMIC_MAGIC);
    put64(&p, FW_DYNAMIC_VERSION);
    put64(&p, next_addr);
    put64(&p, FW_DYNAMIC_MODE_S);
    put64(&p, 0);              /* options */
    put64(&p, 0);              /* boot hart */
}

static uint64_t align_up(uint64_t n, uint64_t to)
{
    return (n + to - 1) & ~(to - 1);
}

/*
 * What is in the first flash bank is firmware for S-mode, which OpenSBI enters, or with
 * "-bios none" for M-mode, unless a kernel is given.
 */
static void choose_entry(const VirtConfig *c, uint64_t *firmware, uint64_t *kernel)
{
    if (c->flash[0].blk && !c->kernel) {
        if (c->bios && !strcmp(c->bios, "none")) {
            *firmware = VIRT_FLASH_BASE;
        } else {
            *kernel = VIRT_FLASH_BASE;
        }
    }
}

/* Finds a place for everything that goes into RAM; sets the ROM and the device tree. */
static bool place_images(VirtMachine *m, const VirtConfig *c, GError **errp)
{
    uint64_t limit = VIRT_RAM_BASE + c->ram_size;
    BootPlace fw = {VIRT_RAM_BASE, VIRT_RAM_BASE, VIRT_RAM_BASE}, kernel = {0}, initrd = {0};

    if (!c->bios || strcmp(c->bios, "none")) {
        g_autofree char *path = boot_find_firmware(c->bios, c->data_dirs, errp);

        if (!path || !boot_images_add_program(m->images, "firmware", path, VIRT_RAM_BASE,
                                              limit, &fw, errp)) {
            return false;
        }
    }
    if (c->kernel && !boot_images_add_program(m->images, "kernel", c->kernel,
                                              align_up(fw.end, 2 * MIB), limit, &kernel,
                                              errp)) {
        return false;
    }
    if (kernel.end && kernel.start < fw.end && fw.start < kernel.end) {
        error_setg(errp, "could not load kernel '%s': it overlaps the firmware", c->kernel);
        return false;
    }
    if (c->initrd) {
        /* far enough for any kernel to unpack itself, near enough for little RAM */
        uint64_t at = kernel.start + MIN(c->ram_size / 2, 128 * MIB);

        at = MAX(at, align_up(kernel.end, 4096));
        if (!boot_images_add_file(m->images, "ramdisk", c->initrd, at, limit, &initrd, errp)) {
            return false;
        }
    }

    m->fdt = c->dtb ? virt_fdt_load(c->dtb, errp)
                    : virt_fdt_create(&(VirtFdtConfig){c->nr_cpus, c->isa, c->ram_size,
                                                       c->vmgenid != NULL});
    if (!m->fdt || !virt_fdt_set_chosen(&m->fdt, c->append, initrd.start, initrd.end, errp)) {
        return false;
    }
    m->fdt_addr = (MIN(limit, FDT_LIMIT) - fdt_totalsize(m->fdt)) & ~(2 * MIB - 1);
    if (m->fdt_addr < MAX(fw.end, kernel.end) ||
        (initrd.end > m->fdt_addr && initrd.start < m->fdt_addr + fdt_totalsize(m->fdt))) {
        error_setg(errp, "RAM of %" PRIu64 " MiB is too small for what is to be loaded",
                   c->ram_size / MIB);
        return false;
    }
    choose_entry(c, &fw.entry, &kernel.entry);
    fill_rom(m, fw.entry, kernel.entry);
    return true;
}

VirtMachine *virt_new(const VirtConfig *config, GError **errp)
{
    VirtMachine *m = g_new0(VirtMachine, 1);

    m->as = address_space_new();
    m->ram_size = config->ram_size;
    m->images = boot_images_new(m->as);
    make_devices(m, config);
    if (!make_flash(m, config, errp) || !place_images(m, config, errp) || !serial_16550_attach(m->serial, errp)) {
        virt_free(m);
        return NULL;
    }
    return m;
}

void virt_free(VirtMachine *m)
{
    serial_16550_free(m->serial);
    machine_lock();
    for (int i = 0; i < VIRT_VIRTIO_SLOTS; i++) {
        virtio_mmio_free(m->slot[i]);
    }
    for (int i = 0; i < VIRT_FLASH_BANKS; i++) {
        pflash_free(m->flash[i]);
    }
    vmgenid_free(m->vmgenid);
    sifive_test_free(m->finisher);
    goldfish_rtc_free(m->rtc);
    riscv_clint_free(m->clint);
    sifive_plic_free(m->plic);
    machine_unlock();
    boot_images_free(m->images);
    address_space_free(m->as);
    g_free(m->fdt);
    g_free(m);
}

AddressSpace *virt_address_space(VirtMachine *m)
{
    return m->as;
}

void virt_plug(VirtMachine *m, VirtIODevice *vdev, int slot)
{
    virtio_mmio_plug(m->slot[slot], vdev, m->as);
}

VirtIODevice *virt_slot_device(VirtMachine *m, int n)
{
    return virtio_mmio_device(m->slot[n]);
}

/* Interrupt controllers first: a device that is loaded later drives its wire into them. */
void virt_register(VirtMachine *m, VMStateRegistry *r)
{
    sifive_plic_register(m->plic, r);
    riscv_clint_register(m->clint, r);
    serial_16550_register(m->serial, r);
    goldfish_rtc_register(m->rtc, r);
    for (int i = 0; i < VIRT_FLASH_BANKS; i++) {
        pflash_register(m->flash[i], r, i);
    }
    if (m->vmgenid) {
        vmgenid_register(m->vmgenid, r);
    }
}

bool coroutine_fn virt_co_open_flash(VirtMachine *m, GError **errp)
{
    bool ok = true;

    for (int i = 0; ok && i < VIRT_FLASH_BANKS; i++) {
        ok = pflash_co_open(m->flash[i], errp);
    }
    return ok;
}

bool coroutine_fn virt_co_settle_flash(VirtMachine *m, GError **errp)
{
    bool ok = true;

    for (int i = 0; ok && i < VIRT_FLASH_BANKS; i++) {
        ok = pflash_co_settle(m->flash[i], errp);
    }
    return ok;
}

void coroutine_fn virt_co_stop_flash(VirtMachine *m)
{
    for (int i = 0; i < VIRT_FLASH_BANKS; i++) {
        pflash_co_stop(m->flash[i]);
    }
}

void virt_load_ended(VirtMachine *m, bool loaded)
{
    for (int i = 0; i < VIRT_FLASH_BANKS; i++) {
        pflash_load_ended(m->flash[i], loaded);
    }
}

SifivePlic *virt_plic(VirtMachine *m)
{
    return m->plic;
}

VmGenId *virt_vmgenid(VirtMachine *m)
{
    return m->vmgenid;
}

void virt_register_slots(VirtMachine *m, VMStateRegistry *r)
{
    for (int i = 0; i < VIRT_VIRTIO_SLOTS; i++) {
        if (virtio_mmio_device(m->slot[i])) {
            virtio_mmio_register(m->slot[i], r, i);
        }
    }
}

bool virt_load_images(VirtMachine *m, GError **errp)
{
    if (!boot_images_load(m->images, errp)) {
        return false;
    }
    virt_fdt_reseed(m->fdt);
    address_space_write(m->as, m->fdt_addr, m->fdt, fdt_totalsize(m->fdt));
    return true;
}

void virt_reset_devices(VirtMachine *m)
{
    for (int i = 0; i < VIRT_VIRTIO_SLOTS; i++) {
        virtio_mmio_reset(m->slot[i]);
    }
    for (int i = 0; i < VIRT_FLASH_BANKS; i++) {
        pflash_reset(m->flash[i]);
    }
    serial_16550_reset(m->serial);
    goldfish_rtc_reset(m->rtc);
    riscv_clint_reset(m->clint);
    sifive_plic_reset(m->plic);
}

static gint by_address(gconstpointer a, gconstpointer b)
{
    const VirtRom *x = a, *y = b;

    return x->addr < y->addr ? -1 : x->addr > y->addr;
}

bool virt_rom(VirtMachine *m, unsigned i, VirtRom *rom)
{
    g_autoptr(GArray) all = g_array_new(false, false, sizeof(VirtRom));
    VirtRom r = {"mrom.reset", VIRT_ROM_BASE, ROM_RESET_SIZE, true};

    g_array_append_val(all, r);
    r = (VirtRom){"mrom.finfo", VIRT_ROM_BASE + ROM_RESET_SIZE, ROM_INFO_SIZE, true};
    g_array_append_val(all, r);
    r = (VirtRom){"fdt", m->fdt_addr, fdt_totalsize(m->fdt), false};
    g_array_append_val(all, r);
    r.read_only = false;
    for (unsigned n = 0; boot_images_get(m->images, n, &r.name, &r.addr, &r.size); n++) {
        g_array_append_val(all, r);
    }
    g_array_sort(all, by_address);
    if (i >= all->len) {
        return false;
    }
    *rom = g_array_index(all, VirtRom, i);
    return true;
}

const void *virt_fdt(VirtMachine *m, size_t *size)
{
    *size = fdt_totalsize(m->fdt);
    return m->fdt;
}
