/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The virt board's device tree (Devicetree Specification 0.4; the bindings of each device
 * are those of Linux's documentation).  Slots of virtio-mmio stand in descending order:
 * that is the order in which drivers name disks, and the first disk is in the last slot.
 */
#include <errno.h>
#include <glib.h>
#include <libfdt.h>
#include <string.h>
#include <unistd.h>
#include <sys/random.h>
#include "hw/block/pflash.h"
#include "hw/intc/riscv-clint.h"
#include "hw/intc/sifive-plic.h"
#include "hw/riscv/virt.h"
#include "qapi/error.h"

enum {
    ROOM = 64 * 1024,
    MAX_FDT_SIZE = 1024 * 1024, /* the space that the board reserves in RAM */
    SEED_SIZE = 32,
    PHANDLE_PLIC = 1,
    PHANDLE_TEST = 2,
    PHANDLE_CPU = 16, /* + 2 * hart: the CPU; + 1: its interrupt controller */
};

/* Only a buffer that is too small can make these fail: our own bug. */
#define MUST(call) \
    do { \
        int err_ = (call); \
        g_assert(err_ == 0); \
    } while (0)

static void put_cells(void *fdt, const char *name, const uint32_t *cells, int n)
{
    fdt32_t be[64];

    g_assert(n <= (int)G_N_ELEMENTS(be));
    for (int i = 0; i < n; i++) {
        be[i] = cpu_to_fdt32(cells[i]);
    }
    MUST(fdt_property(fdt, name, be, 4 * n));
}

#define CELLS(fdt, name, ...) \
    put_cells(fdt, name, (const uint32_t[]){__VA_ARGS__}, \
              sizeof((const uint32_t[]){__VA_ARGS__}) / 4)
#define STRING(fdt, name, value) MUST(fdt_property_string(fdt, name, value))
/* Several strings: separated by \0 in the literal. */
#define STRINGS(fdt, name, literal) MUST(fdt_property(fdt, name, literal, sizeof(literal)))
#define FLAG(fdt, name) MUST(fdt_property(fdt, name, NULL, 0))

static void begin_at(void *fdt, const char *name, uint64_t addr)
{
    g_autofree char *full = g_strdup_printf("%s@%" G_GINT64_MODIFIER "x", name, addr);

    MUST(fdt_begin_node(fdt, full));
}

static void reg(void *fdt, uint64_t addr, uint64_t size)
{
    CELLS(fdt, "reg", addr >> 32, (uint32_t)addr, size >> 32, (uint32_t)size);
}

static void plic_irq(void *fdt, int irq)
{
    CELLS(fdt, "interrupt-parent", PHANDLE_PLIC);
    CELLS(fdt, "interrupts", irq);
}

static void add_cpus(void *fdt, const VirtFdtConfig *c)
{
    MUST(fdt_begin_node(fdt, "cpus"));
    CELLS(fdt, "#address-cells", 1);
    CELLS(fdt, "#size-cells", 0);
    CELLS(fdt, "timebase-frequency", VIRT_TIMEBASE_HZ);
    for (int i = 0; i < c->nr_cpus; i++) {
        begin_at(fdt, "cpu", i);
        CELLS(fdt, "phandle", PHANDLE_CPU + 2 * i);
        STRING(fdt, "device_type", "cpu");
        CELLS(fdt, "reg", i);
        STRING(fdt, "status", "okay");
        STRING(fdt, "compatible", "riscv");
        STRING(fdt, "riscv,isa", c->isa);
        STRING(fdt, "mmu-type", "riscv,sv48");
        MUST(fdt_begin_node(fdt, "interrupt-controller"));
        CELLS(fdt, "#interrupt-cells", 1);
        FLAG(fdt, "interrupt-controller");
        STRING(fdt, "compatible", "riscv,cpu-intc");
        CELLS(fdt, "phandle", PHANDLE_CPU + 2 * i + 1);
        MUST(fdt_end_node(fdt));
        MUST(fdt_end_node(fdt));
    }
    MUST(fdt_begin_node(fdt, "cpu-map"));
    MUST(fdt_begin_node(fdt, "cluster0"));
    for (int i = 0; i < c->nr_cpus; i++) {
        g_autofree char *core = g_strdup_printf("core%d", i);

        MUST(fdt_begin_node(fdt, core));
        CELLS(fdt, "cpu", PHANDLE_CPU + 2 * i);
        MUST(fdt_end_node(fdt));
    }
    MUST(fdt_end_node(fdt));
    MUST(fdt_end_node(fdt));
    MUST(fdt_end_node(fdt));
}

/* Interrupts a and b of every hart's own controller, as interrupts-extended. */
static void hart_interrupts(void *fdt, int nr_cpus, int a, int b)
{
    uint32_t cells[4 * VIRT_MAX_CPUS];

    for (int i = 0; i < nr_cpus; i++) {
        uint32_t intc = PHANDLE_CPU + 2 * i + 1;

        memcpy(&cells[4 * i], (uint32_t[]){intc, a, intc, b}, 16);
    }
    put_cells(fdt, "interrupts-extended", cells, 4 * nr_cpus);
}

static void add_interrupt_controllers(void *fdt, const VirtFdtConfig *c)
{
    begin_at(fdt, "plic", VIRT_PLIC_BASE);
    CELLS(fdt, "phandle", PHANDLE_PLIC);
    CELLS(fdt, "riscv,ndev", SIFIVE_PLIC_SOURCES);
    reg(fdt, VIRT_PLIC_BASE, SIFIVE_PLIC_SIZE);
    hart_interrupts(fdt, c->nr_cpus, 11, 9);
    FLAG(fdt, "interrupt-controller");
    STRINGS(fdt, "compatible", "sifive,plic-1.0.0\0riscv,plic0");
    CELLS(fdt, "#address-cells", 0);
    CELLS(fdt, "#interrupt-cells", 1);
    MUST(fdt_end_node(fdt));

    begin_at(fdt, "clint", VIRT_CLINT_BASE);
    hart_interrupts(fdt, c->nr_cpus, 3, 7);
    reg(fdt, VIRT_CLINT_BASE, 0x10000);
    STRINGS(fdt, "compatible", "sifive,clint0\0riscv,clint0");
    MUST(fdt_end_node(fdt));
}

static void add_soc(void *fdt, const VirtFdtConfig *c)
{
    MUST(fdt_begin_node(fdt, "soc"));
    CELLS(fdt, "#address-cells", 2);
    CELLS(fdt, "#size-cells", 2);
    STRING(fdt, "compatible", "simple-bus");
    FLAG(fdt, "ranges");

    begin_at(fdt, "rtc", VIRT_RTC_BASE);
    plic_irq(fdt, VIRT_RTC_IRQ);
    reg(fdt, VIRT_RTC_BASE, 0x1000);
    STRING(fdt, "compatible", "google,goldfish-rtc");
    MUST(fdt_end_node(fdt));

    begin_at(fdt, "serial", VIRT_UART_BASE);
    plic_irq(fdt, VIRT_UART_IRQ);
    CELLS(fdt, "clock-frequency", 3686400);
    reg(fdt, VIRT_UART_BASE, 0x100);
    STRING(fdt, "compatible", "ns16550a");
    MUST(fdt_end_node(fdt));

    begin_at(fdt, "test", VIRT_TEST_BASE);
    CELLS(fdt, "phandle", PHANDLE_TEST);
    reg(fdt, VIRT_TEST_BASE, 0x1000);
    STRINGS(fdt, "compatible", "sifive,test1\0sifive,test0\0syscon");
    MUST(fdt_end_node(fdt));

    if (c->vmgenid) {
        begin_at(fdt, "rng", VIRT_VMGENID_BASE);
        plic_irq(fdt, VIRT_VMGENID_IRQ);
        reg(fdt, VIRT_VMGENID_BASE, VMGENID_SIZE);
        STRING(fdt, "compatible", "microsoft,vmgenid");
        MUST(fdt_end_node(fdt));
    }

    for (int i = VIRT_VIRTIO_SLOTS - 1; i >= 0; i--) {
        uint64_t base = VIRT_VIRTIO_BASE + i * VIRT_VIRTIO_STRIDE;

        begin_at(fdt, "virtio_mmio", base);
        plic_irq(fdt, VIRT_VIRTIO_IRQ + i);
        reg(fdt, base, VIRT_VIRTIO_STRIDE);
        STRING(fdt, "compatible", "virtio,mmio");
        MUST(fdt_end_node(fdt));
    }
    add_interrupt_controllers(fdt, c);
    MUST(fdt_end_node(fdt));
}

static void add_flash(void *fdt)
{
    uint32_t second = VIRT_FLASH_BASE + PFLASH_SIZE;

    begin_at(fdt, "flash", VIRT_FLASH_BASE);
    CELLS(fdt, "bank-width", 4);
    CELLS(fdt, "reg", 0, VIRT_FLASH_BASE, 0, PFLASH_SIZE, 0, second, 0, PFLASH_SIZE);
    STRING(fdt, "compatible", "cfi-flash");
    MUST(fdt_end_node(fdt));
}

static void add_syscon(void *fdt, const char *name, const char *compatible, uint32_t value)
{
    MUST(fdt_begin_node(fdt, name));
    CELLS(fdt, "value", value);
    CELLS(fdt, "offset", 0);
    CELLS(fdt, "regmap", PHANDLE_TEST);
    STRING(fdt, "compatible", compatible);
    MUST(fdt_end_node(fdt));
}

void *virt_fdt_create(const VirtFdtConfig *c)
{
    static const uint8_t no_seed[SEED_SIZE];
    void *fdt = g_malloc0(ROOM);

    MUST(fdt_create(fdt, ROOM));
    MUST(fdt_finish_reservemap(fdt));
    MUST(fdt_begin_node(fdt, ""));
    CELLS(fdt, "#address-cells", 2);
    CELLS(fdt, "#size-cells", 2);
    STRING(fdt, "compatible", "riscv-virtio");
    STRING(fdt, "model", "riscv-virtio,qemu");

    add_flash(fdt);

    MUST(fdt_begin_node(fdt, "chosen"));
    MUST(fdt_property(fdt, "rng-seed", no_seed, SEED_SIZE));
    STRING(fdt, "stdout-path", "/soc/serial@10000000");
    MUST(fdt_end_node(fdt));

    add_syscon(fdt, "poweroff", "syscon-poweroff", 0x5555);
    add_syscon(fdt, "reboot", "syscon-reboot", 0x7777);

    begin_at(fdt, "memory", VIRT_RAM_BASE);
    STRING(fdt, "device_type", "memory");
    reg(fdt, VIRT_RAM_BASE, c->ram_size);
    MUST(fdt_end_node(fdt));

    add_cpus(fdt, c);
    add_soc(fdt, c);
    MUST(fdt_end_node(fdt));
    MUST(fdt_finish(fdt));
    virt_fdt_reseed(fdt);
    return fdt;
}

void *virt_fdt_load(const char *filename, GError **errp)
{
    g_autoptr(GError) err = NULL;
    g_autofree char *data = NULL;
    gsize size;

    if (access(filename, R_OK) < 0) {
        error_setg_errno(errp, errno, "could not load device tree '%s'", filename);
        return NULL;
    }
    if (!g_file_get_contents(filename, &data, &size, &err)) {
        error_setg(errp, "could not load device tree '%s': %s", filename, err->message);
        return NULL;
    }
    if (size > MAX_FDT_SIZE || fdt_check_full(data, size) != 0) {
        error_setg(errp, "could not load device tree '%s': it is not a valid device tree "
                         "of at most 1 MiB", filename);
        return NULL;
    }
    return g_steal_pointer(&data);
}

static int set_number(void *fdt, int node, const char *name, uint64_t value)
{
    return fdt_setprop_u64(fdt, node, name, value);
}

bool virt_fdt_set_chosen(void **fdt, const char *append, uint64_t initrd_start,
                         uint64_t initrd_end, GError **errp)
{
    size_t size = fdt_totalsize(*fdt) + 4096 + (append ? strlen(append) : 0);
    void *big = g_malloc0(size);
    int node, err = fdt_open_into(*fdt, big, size);

    if (!err) {
        node = fdt_path_offset(big, "/chosen");
        if (node == -FDT_ERR_NOTFOUND) {
            node = fdt_add_subnode(big, 0, "chosen");
        }
        err = node < 0 ? node : 0;
    }
    if (!err && append) {
        err = fdt_setprop_string(big, node, "bootargs", append);
    }
    if (!err && initrd_end) {
        err = set_number(big, node, "linux,initrd-start", initrd_start);
    }
    if (!err && initrd_end) {
        err = set_number(big, node, "linux,initrd-end", initrd_end);
    }
    if (!err) {
        err = fdt_pack(big);
    }
    if (!err && fdt_totalsize(big) > MAX_FDT_SIZE) {
        err = -FDT_ERR_NOSPACE;
    }
    if (err) {
        error_setg(errp, "could not complete the device tree: %s", fdt_strerror(err));
        g_free(big);
        return false;
    }
    g_free(*fdt);
    *fdt = big;
    return true;
}

void virt_fdt_reseed(void *fdt)
{
    int node = fdt_path_offset(fdt, "/chosen"), len = 0;
    uint8_t seed[SEED_SIZE];

    if (node >= 0 && fdt_getprop(fdt, node, "rng-seed", &len) && len == SEED_SIZE &&
        getrandom(seed, sizeof(seed), 0) == sizeof(seed)) {
        fdt_setprop_inplace(fdt, node, "rng-seed", seed, sizeof(seed));
    }
}
