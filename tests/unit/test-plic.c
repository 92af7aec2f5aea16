/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The PLIC through its registers: gateways, priorities, thresholds, claim and complete. */
#include <glib.h>
#include "hw/intc/sifive-plic.h"

enum { THRESHOLD = 0x200000, CLAIM = 0x200004, STRIDE = 0x1000 };

typedef struct Fixture {
    AddressSpace *as;
    SifivePlic *plic;
    const MemoryRegion *mr;
    bool out[2];
} Fixture;

static void set_out(void *opaque, int n, bool level)
{
    ((Fixture *)opaque)->out[n] = level;
}

static void wr(Fixture *f, uint64_t offset, uint32_t value)
{
    f->mr->ops->write(f->mr->opaque, offset, value, 4);
}

static uint32_t rd(Fixture *f, uint64_t offset)
{
    return f->mr->ops->read(f->mr->opaque, offset, 4);
}

static void enable(Fixture *f, int context, int source)
{
    uint64_t reg = 0x2000 + context * 0x80 + source / 32 * 4;

    wr(f, reg, rd(f, reg) | 1u << source % 32);
}

static void pull(Fixture *f, int source, bool level)
{
    IrqLine line = sifive_plic_input(f->plic, source);

    irq_set(&line, level);
}

static void setup(Fixture *f, gconstpointer data)
{
    IrqLine out[2] = {{set_out, f, 0}, {set_out, f, 1}};

    f->as = address_space_new();
    f->plic = sifive_plic_new(f->as, 0xc000000, 2, out);
    f->mr = address_space_find(f->as, 0xc000000);
    f->out[0] = f->out[1] = false;
}

static void teardown(Fixture *f, gconstpointer data)
{
    sifive_plic_free(f->plic);
    address_space_free(f->as);
}

static void test_level(Fixture *f, gconstpointer data)
{
    wr(f, 4 * 10, 1);
    enable(f, 1, 10);
    pull(f, 10, true);
    g_assert_false(f->out[0]);
    g_assert_true(f->out[1]);
    g_assert_cmphex(rd(f, 0x1000), ==, 1u << 10);
    g_assert_cmpuint(rd(f, CLAIM), ==, 0); /* not enabled for context 0 */
    g_assert_cmpuint(rd(f, CLAIM + STRIDE), ==, 10);
    g_assert_false(f->out[1]);
    g_assert_cmphex(rd(f, 0x1000), ==, 0);
    g_assert_cmpuint(rd(f, CLAIM + STRIDE), ==, 0);
    /* still up at completion: raised again */
    wr(f, CLAIM + STRIDE, 10);
    g_assert_true(f->out[1]);
    g_assert_cmpuint(rd(f, CLAIM + STRIDE), ==, 10);
    pull(f, 10, false);
    wr(f, CLAIM + STRIDE, 10);
    g_assert_false(f->out[1]);
}

static void test_gateway(Fixture *f, gconstpointer data)
{
    wr(f, 4 * 3, 1);
    enable(f, 0, 3);
    pull(f, 3, true);
    g_assert_cmpuint(rd(f, CLAIM), ==, 3);
    /* closed between claim and complete */
    pull(f, 3, false);
    pull(f, 3, true);
    g_assert_false(f->out[0]);
    /* a completion of something that is not enabled is ignored */
    wr(f, CLAIM + STRIDE, 3);
    g_assert_false(f->out[0]);
    wr(f, CLAIM, 3);
    g_assert_true(f->out[0]);
}

static void test_priority(Fixture *f, gconstpointer data)
{
    for (int n = 1; n <= SIFIVE_PLIC_SOURCES; n++) {
        wr(f, 4 * n, n == 33 || n == 96 ? 7 : 2);
        enable(f, 0, n);
        pull(f, n, true);
    }
    g_assert_cmpuint(rd(f, CLAIM), ==, 33); /* of equals the lowest number */
    g_assert_cmpuint(rd(f, CLAIM), ==, 96);
    g_assert_cmpuint(rd(f, CLAIM), ==, 1);
    wr(f, THRESHOLD, 2);
    g_assert_false(f->out[0]);
    g_assert_cmpuint(rd(f, CLAIM), ==, 0);
    wr(f, THRESHOLD, 1);
    g_assert_true(f->out[0]);
    wr(f, 4 * 2, 0); /* priority 0 never interrupts */
    g_assert_cmpuint(rd(f, CLAIM), ==, 3);
}

static void test_limits(Fixture *f, gconstpointer data)
{
    wr(f, 0, 7);
    g_assert_cmpuint(rd(f, 0), ==, 0);
    wr(f, 4, 0xffffffff);
    g_assert_cmpuint(rd(f, 4), ==, 7);
    wr(f, 0x2000, 0xffffffff);
    g_assert_cmphex(rd(f, 0x2000), ==, 0xfffffffe);
    wr(f, 0x200c, 0xffffffff);
    g_assert_cmphex(rd(f, 0x200c), ==, 1);
    /* nowhere: contexts and words that do not exist */
    wr(f, 0x2000 + 2 * 0x80, 0xffffffff);
    g_assert_cmphex(rd(f, 0x2000 + 2 * 0x80), ==, 0);
    wr(f, CLAIM + 2 * STRIDE, 1);
    g_assert_cmphex(rd(f, SIFIVE_PLIC_SIZE - 4), ==, 0);
    wr(f, CLAIM, 0);
    wr(f, CLAIM, 97);
    wr(f, CLAIM, 0xffffffff);
}

static void test_reset(Fixture *f, gconstpointer data)
{
    wr(f, 4 * 5, 1);
    enable(f, 0, 5);
    pull(f, 5, true);
    sifive_plic_reset(f->plic);
    g_assert_false(f->out[0]);
    g_assert_cmphex(rd(f, 0x2000), ==, 0);
    /* the wire is still up */
    wr(f, 4 * 5, 1);
    enable(f, 0, 5);
    g_assert_true(f->out[0]);
}

#define ADD(name, fn) g_test_add(name, Fixture, NULL, setup, fn, teardown)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("/plic/level", test_level);
    ADD("/plic/gateway", test_gateway);
    ADD("/plic/priority", test_priority);
    ADD("/plic/limits", test_limits);
    ADD("/plic/reset", test_reset);
    return g_test_run();
}
