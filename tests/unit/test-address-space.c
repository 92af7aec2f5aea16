/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The physical address map: look-up, mapping and copying at every kind of edge. */
#include <glib.h>
#include <string.h>
#include "hw/address-space.h"

static const MMIOOps no_ops;

typedef struct Fixture {
    AddressSpace *as;
    uint8_t rom[4096], ram[8192], more[4096];
    uint64_t dirty_addr, dirty_len;
} Fixture;

static void dirty(void *opaque, uint64_t addr, uint64_t len)
{
    Fixture *f = opaque;

    f->dirty_addr = addr;
    f->dirty_len = len;
}

static void setup(Fixture *f, gconstpointer data)
{
    memset(f, 0, sizeof(*f));
    f->as = address_space_new();
    address_space_add_ram(f->as, "ram", 0x80000000, sizeof(f->ram), f->ram, false);
    address_space_add_ram(f->as, "rom", 0x1000, sizeof(f->rom), f->rom, true);
    address_space_add_mmio(f->as, "dev", 0x10000000, 0x100, &no_ops, f);
    address_space_add_ram(f->as, "more", 0x80002000, sizeof(f->more), f->more, false);
    address_space_set_dirty_listener(f->as, dirty, f);
}

static void teardown(Fixture *f, gconstpointer data)
{
    address_space_free(f->as);
}

static void test_find(Fixture *f, gconstpointer data)
{
    g_assert_null(address_space_find(f->as, 0));
    g_assert_null(address_space_find(f->as, 0xfff));
    g_assert_cmpstr(address_space_find(f->as, 0x1000)->name, ==, "rom");
    g_assert_cmpstr(address_space_find(f->as, 0x1fff)->name, ==, "rom");
    g_assert_null(address_space_find(f->as, 0x2000));
    g_assert_cmpstr(address_space_find(f->as, 0x100000ff)->name, ==, "dev");
    g_assert_null(address_space_find(f->as, 0x10000100));
    g_assert_cmpstr(address_space_find(f->as, 0x80001fff)->name, ==, "ram");
    g_assert_cmpstr(address_space_find(f->as, 0x80002000)->name, ==, "more");
    g_assert_null(address_space_find(f->as, UINT64_MAX));
}

static void test_map(Fixture *f, gconstpointer data)
{
    g_assert_true(address_space_map(f->as, 0x80000010, 16, true) == f->ram + 16);
    g_assert_true(address_space_map(f->as, 0x1000, 4096, false) == f->rom);
    g_assert_null(address_space_map(f->as, 0x1000, 1, true));
    g_assert_null(address_space_map(f->as, 0x10000000, 1, false));
    /* not across regions, even where they touch, and not around the end */
    g_assert_null(address_space_map(f->as, 0x80001ff8, 16, false));
    g_assert_null(address_space_map(f->as, 0x80000000, UINT64_MAX, false));
}

static void test_copy(Fixture *f, gconstpointer data)
{
    uint8_t buf[32];

    memset(buf, 0x5a, sizeof(buf));
    g_assert_true(address_space_write(f->as, 0x80001ff0, buf, sizeof(buf)));
    g_assert_cmphex(f->ram[0x1fef], ==, 0);
    g_assert_cmphex(f->ram[0x1ff0], ==, 0x5a);
    g_assert_cmphex(f->more[15], ==, 0x5a);
    g_assert_cmphex(f->more[16], ==, 0);
    g_assert_cmphex(f->dirty_addr, ==, 0x80001ff0);
    g_assert_cmpuint(f->dirty_len, ==, sizeof(buf));

    memset(buf, 0, sizeof(buf));
    g_assert_true(address_space_read(f->as, 0x80001ff0, buf, sizeof(buf)));
    g_assert_cmphex(buf[0], ==, 0x5a);
    g_assert_cmphex(buf[31], ==, 0x5a);

    g_assert_false(address_space_write(f->as, 0x1000, buf, 1));
    g_assert_false(address_space_read(f->as, 0x80002ff8, buf, 16));
    g_assert_false(address_space_read(f->as, UINT64_MAX, buf, 16));
    g_assert_true(address_space_read(f->as, 0, buf, 0));
}

#define ADD(name, fn) g_test_add(name, Fixture, NULL, setup, fn, teardown)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("/address-space/find", test_find);
    ADD("/address-space/map", test_map);
    ADD("/address-space/copy", test_copy);
    return g_test_run();
}
