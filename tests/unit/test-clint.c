/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The CLINT and the guest's clock under it: registers, timer interrupts, standing still. */
#include <glib.h>
#include "hw/intc/riscv-clint.h"
#include "hw/machine-lock.h"
#include "hw/vm-clock.h"
#include "util/aio.h"

enum { MTIMECMP = 0x4000, MTIME = 0xbff8, HZ = 10000000 };

typedef struct Fixture {
    AddressSpace *as;
    RiscvClint *clint;
    const MemoryRegion *mr;
    bool msip, mtip;
    int raised;
} Fixture;

static void set_msip(void *opaque, int n, bool level)
{
    ((Fixture *)opaque)->msip = level;
}

static void set_mtip(void *opaque, int n, bool level)
{
    Fixture *f = opaque;

    f->raised += level && !f->mtip;
    f->mtip = level;
}

static void wr(Fixture *f, uint64_t offset, uint64_t value, unsigned size)
{
    machine_lock();
    f->mr->ops->write(f->mr->opaque, offset, value, size);
    machine_unlock();
}

static uint64_t rd(Fixture *f, uint64_t offset, unsigned size)
{
    uint64_t value;

    machine_lock();
    value = f->mr->ops->read(f->mr->opaque, offset, size);
    machine_unlock();
    return value;
}

static void run_clock(bool on)
{
    machine_lock();
    vm_clock_enable(on);
    machine_unlock();
}

static void setup(Fixture *f, gconstpointer data)
{
    IrqLine msip = {set_msip, f, 0}, mtip = {set_mtip, f, 0};

    machine_lock();
    vm_clock_set(1000000);
    f->as = address_space_new();
    f->clint = riscv_clint_new(f->as, 0x2000000, 1, &msip, &mtip, HZ);
    f->mr = address_space_find(f->as, 0x2000000);
    machine_unlock();
}

static void teardown(Fixture *f, gconstpointer data)
{
    machine_lock();
    vm_clock_enable(false);
    riscv_clint_free(f->clint);
    machine_unlock();
    address_space_free(f->as);
}

static void test_registers(Fixture *f, gconstpointer data)
{
    wr(f, 0, 0xffffffff, 4);
    g_assert_cmphex(rd(f, 0, 4), ==, 1);
    g_assert_true(f->msip);
    wr(f, 0, 0, 4);
    g_assert_false(f->msip);

    wr(f, MTIMECMP, UINT64_C(0x1122334455667788), 8);
    g_assert_cmphex(rd(f, MTIMECMP, 4), ==, 0x55667788);
    g_assert_cmphex(rd(f, MTIMECMP + 4, 4), ==, 0x11223344);
    wr(f, MTIMECMP + 4, 0xaabbccdd, 4);
    wr(f, MTIMECMP, 0x99, 4);
    g_assert_cmphex(rd(f, MTIMECMP, 8), ==, UINT64_C(0xaabbccdd00000099));

    g_assert_cmpuint(rd(f, MTIME, 8), ==, 1000000 / 100);
    g_assert_cmpuint(rd(f, MTIME + 4, 4), ==, 0);
    wr(f, MTIME, 5, 8); /* cannot be written */
    g_assert_cmpuint(rd(f, MTIME, 8), ==, 1000000 / 100);
    g_assert_cmpuint(rd(f, 0x3000, 4), ==, 0);
}

static void test_timer(Fixture *f, gconstpointer data)
{
    /* due already, and no more when moved into the future */
    wr(f, MTIMECMP, 0, 8);
    g_assert_true(f->mtip);
    wr(f, MTIMECMP, UINT64_MAX, 8);
    g_assert_false(f->mtip);

    /* 2 ms from now */
    f->raised = 0;
    wr(f, MTIMECMP, rd(f, MTIME, 8) + HZ / 500, 8);
    run_clock(true);
    while (!f->raised) {
        aio_poll(main_aio_context(), true);
    }
    g_assert_true(f->mtip);
    g_assert_cmpuint(rd(f, MTIME, 8), >=, rd(f, MTIMECMP, 8));
}

static void test_standing_still(Fixture *f, gconstpointer data)
{
    uint64_t before;

    wr(f, MTIMECMP, rd(f, MTIME, 8) + HZ / 1000, 8);
    run_clock(true);
    run_clock(false);
    before = rd(f, MTIME, 8);
    /* a host timer 5 ms away fires; the guest's, 1 ms away, must not */
    for (int64_t end = clock_now_ns() + 5000000; clock_now_ns() < end;) {
        aio_poll(main_aio_context(), false);
    }
    g_assert_false(f->mtip);
    g_assert_cmpuint(rd(f, MTIME, 8), ==, before);
    g_assert_cmpint(vm_clock_to_host(vm_clock_ns()), ==, INT64_MAX);
    run_clock(true);
    while (!f->mtip) {
        aio_poll(main_aio_context(), true);
    }
}

#define ADD(name, fn) g_test_add(name, Fixture, NULL, setup, fn, teardown)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    main_aio_context_init();
    ADD("/clint/registers", test_registers);
    ADD("/clint/timer", test_timer);
    ADD("/clint/standing-still", test_standing_still);
    return g_test_run();
}
