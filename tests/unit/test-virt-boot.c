/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The virt board's device tree against the documented addresses and interrupts, and images
 * that are damaged or hostile: each is one error, none touches RAM.
 */
#include <elf.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <libfdt.h>
#include <string.h>
#include <unistd.h>
#include "hw/riscv/boot.h"
#include "hw/riscv/virt.h"

enum { RAM_SIZE = 1 << 20 };

typedef struct Fixture {
    char *dir, *file;
    AddressSpace *as;
    uint8_t *ram;
    BootImages *images;
    BootPlace place;
} Fixture;

static void setup(Fixture *f, gconstpointer data)
{
    memset(f, 0, sizeof(*f));
    f->dir = g_dir_make_tmp("kf-boot-XXXXXX", NULL);
    f->file = g_build_filename(f->dir, "image", NULL);
    f->ram = g_malloc0(RAM_SIZE);
    f->as = address_space_new();
    address_space_add_ram(f->as, "ram", VIRT_RAM_BASE, RAM_SIZE, f->ram, false);
    f->images = boot_images_new(f->as);
}

static void teardown(Fixture *f, gconstpointer data)
{
    boot_images_free(f->images);
    address_space_free(f->as);
    g_unlink(f->file);
    g_rmdir(f->dir);
    g_free(f->ram);
    g_free(f->file);
    g_free(f->dir);
}

static void check_reg(const void *fdt, const char *path, uint64_t addr, uint64_t size, int irq,
                      const char *compatible)
{
    int node = fdt_path_offset(fdt, path), len;
    const fdt32_t *reg, *interrupts;

    g_test_message("%s", path);
    g_assert_cmpint(node, >=, 0);
    reg = fdt_getprop(fdt, node, "reg", &len);
    g_assert_cmpint(len, ==, 16);
    g_assert_cmphex((uint64_t)fdt32_to_cpu(reg[0]) << 32 | fdt32_to_cpu(reg[1]), ==, addr);
    g_assert_cmphex((uint64_t)fdt32_to_cpu(reg[2]) << 32 | fdt32_to_cpu(reg[3]), ==, size);
    if (irq) {
        interrupts = fdt_getprop(fdt, node, "interrupts", &len);
        g_assert_cmpint(len, ==, 4);
        g_assert_cmpint(fdt32_to_cpu(*interrupts), ==, irq);
    }
    g_assert_cmpint(fdt_node_check_compatible(fdt, node, compatible), ==, 0);
}

static void test_tree(Fixture *f, gconstpointer data)
{
    void *fdt = virt_fdt_create(&(VirtFdtConfig){1, "rv64imafdc", UINT64_C(5) << 30});
    const char *text;
    int len, chosen;

    g_assert_cmpint(fdt_check_full(fdt, fdt_totalsize(fdt)), ==, 0);
    check_reg(fdt, "/soc/serial@10000000", 0x10000000, 0x100, 10, "ns16550a");
    check_reg(fdt, "/soc/rtc@101000", 0x101000, 0x1000, 11, "google,goldfish-rtc");
    check_reg(fdt, "/soc/test@100000", 0x100000, 0x1000, 0, "sifive,test1");
    check_reg(fdt, "/soc/plic@c000000", 0xc000000, 0x600000, 0, "riscv,plic0");
    check_reg(fdt, "/soc/clint@2000000", 0x2000000, 0x10000, 0, "sifive,clint0");
    for (int i = 0; i < 8; i++) {
        g_autofree char *path = g_strdup_printf("/soc/virtio_mmio@%x", 0x10001000 + i * 0x1000);

        check_reg(fdt, path, 0x10001000 + i * 0x1000, 0x1000, i + 1, "virtio,mmio");
    }
    text = fdt_getprop(fdt, fdt_path_offset(fdt, "/memory@80000000"), "device_type", NULL);
    g_assert_cmpstr(text, ==, "memory");
    text = fdt_getprop(fdt, fdt_path_offset(fdt, "/cpus/cpu@0"), "riscv,isa", NULL);
    g_assert_cmpstr(text, ==, "rv64imafdc");

    g_assert_true(virt_fdt_set_chosen(&fdt, "root=/dev/vda", 0x88000000, 0x88001234, NULL));
    chosen = fdt_path_offset(fdt, "/chosen");
    g_assert_cmpstr(fdt_getprop(fdt, chosen, "bootargs", NULL), ==, "root=/dev/vda");
    g_assert_cmpstr(fdt_getprop(fdt, chosen, "stdout-path", NULL), ==, "/soc/serial@10000000");
    g_assert_nonnull(fdt_getprop(fdt, chosen, "linux,initrd-end", &len));
    g_assert_cmpint(len, ==, 8);
    g_assert_nonnull(fdt_getprop(fdt, chosen, "rng-seed", &len));
    g_assert_cmpint(len, ==, 32);
    g_free(fdt);
}

static void test_bad_tree(Fixture *f, gconstpointer data)
{
    g_autofree uint8_t *fdt = virt_fdt_create(&(VirtFdtConfig){1, "rv64i", 1 << 20});
    size_t size = fdt_totalsize(fdt);
    GRand *rand = g_rand_new_with_seed(42);

    for (int i = 0; i < 400; i++) {
        g_autofree uint8_t *copy = g_memdup2(fdt, size);
        size_t len = i % 4 ? size : (size_t)g_rand_int_range(rand, 0, size);
        void *loaded;
        GError *err = NULL;

        for (int n = 0; n < i % 8; n++) {
            copy[g_rand_int_range(rand, 0, i & 1 ? 64 : size)] = g_rand_int(rand);
        }
        g_assert_true(g_file_set_contents(f->file, (char *)copy, len, NULL));
        loaded = virt_fdt_load(f->file, &err);
        g_assert_true(!loaded == !!err);
        if (loaded && virt_fdt_set_chosen(&loaded, "x", 1, 2, NULL)) {
            virt_fdt_reseed(loaded);
        }
        g_clear_error(&err);
        g_free(loaded);
    }
    g_rand_free(rand);
    g_assert_null(virt_fdt_load("/nonexistent/tree", NULL));
}

/* A good file with one segment of 16 bytes at RAM + 0x1000 and 16 bytes to clear. */
typedef struct Elf {
    Elf64_Ehdr eh;
    Elf64_Phdr ph;
    uint8_t code[16];
} Elf;

static Elf good_elf(void)
{
    Elf e = {
        .eh = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, 1},
               .e_type = ET_EXEC, .e_machine = EM_RISCV, .e_version = 1,
               .e_entry = 0xffffffff80000004, .e_phoff = sizeof(Elf64_Ehdr),
               .e_ehsize = sizeof(Elf64_Ehdr), .e_phentsize = sizeof(Elf64_Phdr), .e_phnum = 1},
        .ph = {.p_type = PT_LOAD, .p_offset = offsetof(Elf, code), .p_filesz = 16,
               .p_memsz = 32, .p_vaddr = 0xffffffff80000000, .p_paddr = VIRT_RAM_BASE + 0x1000},
    };

    memset(e.code, 0x13, sizeof(e.code));
    return e;
}

static bool add_elf(Fixture *f, const Elf *e, size_t len, GError **errp)
{
    g_assert_true(g_file_set_contents(f->file, (const char *)e, len, NULL));
    return boot_images_add_program(f->images, "kernel", f->file, VIRT_RAM_BASE,
                                   VIRT_RAM_BASE + RAM_SIZE, &f->place, errp);
}

static void test_elf(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) err = NULL;
    Elf e = good_elf();

    memset(f->ram, 0xff, RAM_SIZE);
    g_assert_true(add_elf(f, &e, sizeof(e), NULL));
    g_assert_cmphex(f->place.start, ==, VIRT_RAM_BASE + 0x1000);
    g_assert_cmphex(f->place.end, ==, VIRT_RAM_BASE + 0x1020);
    g_assert_cmphex(f->place.entry, ==, VIRT_RAM_BASE + 0x1004); /* made physical */
    g_assert_true(boot_images_load(f->images, NULL));
    g_assert_cmphex(f->ram[0xfff], ==, 0xff);
    g_assert_cmphex(f->ram[0x100f], ==, 0x13);
    g_assert_cmphex(f->ram[0x1010], ==, 0);
    g_assert_cmphex(f->ram[0x101f], ==, 0);
    g_assert_cmphex(f->ram[0x1020], ==, 0xff);
    /* the file shrinks under us: one error, no crash */
    g_assert_cmpint(truncate(f->file, 8), ==, 0);
    g_assert_false(boot_images_load(f->images, &err));
    g_assert_nonnull(strstr(err->message, "shorter"));
}

static void expect_bad(Fixture *f, const Elf *e, size_t len)
{
    GError *err = NULL;

    g_assert_false(add_elf(f, e, len, &err));
    g_assert_nonnull(strstr(err->message, f->file));
    g_error_free(err);
}

static void test_bad_elf(Fixture *f, gconstpointer data)
{
    Elf e;

#define BAD(change) \
    do { \
        e = good_elf(); \
        change; \
        expect_bad(f, &e, sizeof(e)); \
    } while (0)
    BAD(e.eh.e_ident[EI_CLASS] = ELFCLASS32);
    BAD(e.eh.e_ident[EI_DATA] = ELFDATA2MSB);
    BAD(e.eh.e_machine = EM_X86_64);
    BAD(e.eh.e_phentsize = 8);
    BAD(e.eh.e_phnum = 0);
    BAD(e.eh.e_phnum = 0xffff);
    BAD(e.eh.e_phoff = UINT64_MAX - 8);
    BAD(e.ph.p_type = PT_NOTE);
    BAD(e.ph.p_offset = UINT64_MAX - 4);
    BAD(e.ph.p_filesz = 17);
    BAD(e.ph.p_filesz = UINT64_MAX);
    BAD(e.ph.p_memsz = 8);
    BAD(e.ph.p_memsz = UINT64_MAX);
    BAD(e.ph.p_paddr = 0);
    BAD(e.ph.p_paddr = VIRT_RAM_BASE + RAM_SIZE - 16);
    BAD(e.ph.p_paddr = UINT64_MAX - 8);
    e = good_elf();
    for (size_t len = 0; len < sizeof(e); len++) {
        expect_bad(f, &e, len < 4 ? 0 : len);
    }
    /* nothing of all that will be loaded */
    g_assert_true(boot_images_load(f->images, NULL));
    for (int i = 0; i < RAM_SIZE; i++) {
        g_assert_cmphex(f->ram[i], ==, 0);
    }
}

static void expect_error(Fixture *f, const void *data, size_t len, uint64_t addr,
                         const char *words)
{
    GError *err = NULL;

    g_assert_true(g_file_set_contents(f->file, data, len, NULL));
    g_assert_false(boot_images_add_program(f->images, "kernel", f->file, addr,
                                           VIRT_RAM_BASE + RAM_SIZE, &f->place, &err));
    g_assert_nonnull(strstr(err->message, words));
    g_error_free(err);
}

static void test_raw(Fixture *f, gconstpointer data)
{
    uint8_t image[64] = {0};
    g_autofree uint8_t *big = g_malloc0(RAM_SIZE + 1);

    expect_error(f, big, RAM_SIZE + 1, VIRT_RAM_BASE, "do not fit");
    expect_error(f, image, 64, VIRT_RAM_BASE + RAM_SIZE - 63, "do not fit");
    expect_error(f, "\x1f\x8b\x08", 4, VIRT_RAM_BASE, "gzip");
    expect_error(f, "\x27\x05\x19\x56", 4, VIRT_RAM_BASE, "U-Boot");
    /* a Linux Image that says it will use more RAM than there is */
    memcpy(image + 0x38, "RSC\x05", 4);
    memcpy(image + 16, &(uint64_t){RAM_SIZE + 1}, 8);
    expect_error(f, image, 64, VIRT_RAM_BASE, "RAM");
    memcpy(image + 16, &(uint64_t){0x8000}, 8);
    g_assert_true(g_file_set_contents(f->file, (char *)image, 64, NULL));
    g_assert_true(boot_images_add_program(f->images, "kernel", f->file, VIRT_RAM_BASE,
                                          VIRT_RAM_BASE + RAM_SIZE, &f->place, NULL));
    g_assert_cmphex(f->place.end, ==, VIRT_RAM_BASE + 0x8000);
    g_assert_false(boot_images_add_file(f->images, "ramdisk", f->dir, VIRT_RAM_BASE,
                                        VIRT_RAM_BASE + RAM_SIZE, &f->place, NULL));
    g_assert_null(boot_find_firmware("/nonexistent", NULL, NULL));
}

#define ADD(name, fn) g_test_add(name, Fixture, NULL, setup, fn, teardown)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("/virt/tree", test_tree);
    ADD("/virt/bad-tree", test_bad_tree);
    ADD("/virt/elf", test_elf);
    ADD("/virt/bad-elf", test_bad_elf);
    ADD("/virt/raw", test_raw);
    return g_test_run();
}
