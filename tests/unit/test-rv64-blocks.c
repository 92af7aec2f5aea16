/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The cache of decoded code: code that changes under it by the guest's own stores (with
 * and without fence.i, in the same page and another, through the block being executed) or
 * by a device, flush after a load, and the cache when it is full.
 */
#include "rv64-test.h"

#define FUNC (RV_CODE + 0x4000)

/* Calls FUNC (in A1), stores A3 over its first instruction, calls it again. */
static void run_patch(RvMachine *m, uint32_t fence, uint64_t func)
{
    rv_reset(m);
    RV_PLACE(m, func, ADDI(A0, 0, 1), JALR(0, 0, 1));
    m->cpu->x[A1] = func;
    m->cpu->x[A3] = ADDI(A0, 0, 2);
    RV_RUN(m, JALR(1, 0, A1), ADDI(A4, A0, 0), SW(A3, 0, A1), fence, JALR(1, 0, A1));
    rv_assert_no_trap(m);
    g_assert_cmpint(m->cpu->x[A4], ==, 1);
    g_assert_cmpint(m->cpu->x[A0], ==, 2);
}

static void test_stores(RvMachine *m, gconstpointer data)
{
    /* The same page as the code that stores, another, and its last word. */
    static const uint64_t places[] = {RV_CODE + 0x200, FUNC, FUNC + 0xff8};

    for (size_t i = 0; i < G_N_ELEMENTS(places); i++) {
        run_patch(m, FENCE_I, places[i]);
        run_patch(m, NOP, places[i]);
        run_patch(m, FENCE_I, places[i]);
    }
    /* A loop that patches and calls, again and again. */
    rv_reset(m);
    RV_PLACE(m, FUNC, ADDI(A0, A0, 1), JALR(0, 0, 1));
    m->cpu->x[A1] = FUNC;
    m->cpu->x[A2] = 500;
    m->cpu->x[A3] = ADDI(A0, A0, 1);
    m->cpu->x[A4] = ADDI(0, 0, 2) ^ ADDI(0, 0, 1); /* toggles between +1 and +2 */
    RV_RUN(m, SW(A3, 0, A1), JALR(1, 0, A1), R_TYPE(0, A4, A3, 4, A3, 0x33),
           ADDI(A2, A2, -1), BNE(A2, 0, -16));
    g_assert_cmpint(m->cpu->x[A0], ==, 250 * 1 + 250 * 2);
}

/* A store into the block that is being executed, behind the store: with fence.i it counts. */
static void test_own_block(RvMachine *m, gconstpointer data)
{
    m->cpu->x[A1] = RV_CODE;
    m->cpu->x[A3] = ADDI(A0, 0, 2);
    RV_RUN(m, SW(A3, 8, A1), FENCE_I, ADDI(A0, 0, 1));
    g_assert_cmpint(m->cpu->x[A0], ==, 2);
}

/* Data in a page with code: stores elsewhere in the page do not disturb. */
static void test_mixed_page(RvMachine *m, gconstpointer data)
{
    uint64_t epoch;

    m->cpu->x[A1] = RV_CODE + 0x800;
    m->cpu->x[A2] = 1000;
    RV_PLACE(m, RV_CODE, SD(A2, 0, A1), LD(A3, 0, A1), ADD(A0, A0, A3), ADDI(A2, A2, -1),
             BNE(A2, 0, -16), WFI);
    rv64_accel_ops.run(m->cpu); /* takes in what RV_PLACE has reported */
    rv_reset(m);
    m->cpu->x[A1] = RV_CODE + 0x800;
    m->cpu->x[A2] = 1000;
    epoch = m->cpu->blocks.epoch;
    rv_go(m, RV_CODE, PRIV_M);
    g_assert_cmpint(m->cpu->x[A0], ==, 500500);
    g_assert_cmpint(m->cpu->blocks.epoch, ==, epoch);
}

static void test_across_pages(RvMachine *m, gconstpointer data)
{
    uint64_t end = RV_CODE + 0x1000;
    uint8_t *p = m->ram + (end - 2 - RV_RAM);
    uint32_t word = ADDI(A0, 0, 7);

    /* The instruction lies across the page's end; its second half is patched. */
    memcpy(p, &word, 4);
    RV_PLACE(m, end + 4, JALR(0, 0, 1));
    *(uint16_t *)(p + 4) = 1; /* c.nop */
    m->cpu->x[A1] = end - 2;
    m->cpu->x[A2] = end;
    m->cpu->x[A3] = ADDI(A0, 0, 9) >> 16;
    RV_RUN(m, JALR(1, 0, A1), ADDI(A4, A0, 0), S_TYPE(0, A3, A2, 1, 0x23), FENCE_I,
           JALR(1, 0, A1));
    rv_assert_no_trap(m);
    g_assert_cmpint(m->cpu->x[A4], ==, 7);
    g_assert_cmpint(m->cpu->x[A0], ==, 9);
    /* A block that runs over the end goes on in the next page. */
    rv_reset(m);
    for (uint64_t pa = RV_CODE; pa < RV_CODE + 0x3000; pa += 4) {
        *rv_word(m, pa) = ADDI(A0, A0, 1);
    }
    *rv_word(m, RV_CODE + 0x3000) = WFI;
    rv64_accel_ops.flush(m->cpu);
    rv_go(m, RV_CODE, PRIV_M);
    g_assert_cmpint(m->cpu->x[A0], ==, 0xc00);
}

static void test_dma(RvMachine *m, gconstpointer data)
{
    RV_PLACE(m, FUNC, ADDI(A0, 0, 1), JALR(0, 0, 1));
    m->cpu->x[A1] = FUNC;
    RV_RUN(m, JALR(1, 0, A1));
    g_assert_cmpint(m->cpu->x[A0], ==, 1);
    /* RV_PLACE writes as a device does, and reports a range that only overlaps the page. */
    *rv_word(m, FUNC) = ADDI(A0, 0, 2);
    address_space_dirtied(m->as, FUNC - 0x800, 0x900);
    rv_go(m, RV_CODE, PRIV_M);
    g_assert_cmpint(m->cpu->x[A0], ==, 2);
    /* An empty range and one outside of RAM mean nothing. */
    address_space_dirtied(m->as, FUNC, 0);
    address_space_dirtied(m->as, 0, UINT64_MAX);
    rv_go(m, RV_CODE, PRIV_M);
    g_assert_cmpint(m->cpu->x[A0], ==, 2);
    /* After a load of a snapshot nobody reports anything: flush() does. */
    *rv_word(m, FUNC) = ADDI(A0, 0, 3);
    rv64_accel_ops.flush(m->cpu);
    rv_go(m, RV_CODE, PRIV_M);
    g_assert_cmpint(m->cpu->x[A0], ==, 3);
}

static gpointer device_thread(gpointer opaque)
{
    RvMachine *m = opaque;

    for (int i = 1; i <= 100; i++) {
        __atomic_store_n(rv_word(m, FUNC), ADDI(A0, 0, i), __ATOMIC_SEQ_CST);
        address_space_dirtied(m->as, FUNC, 4);
        g_thread_yield();
    }
    return NULL;
}

/* A guest that calls the function until it returns 100 sees the device's last version. */
static void test_dma_thread(RvMachine *m, gconstpointer data)
{
    GThread *thread;

    RV_PLACE(m, FUNC, ADDI(A0, 0, 0), JALR(0, 0, 1));
    m->cpu->x[A1] = FUNC;
    m->cpu->x[A2] = 100;
    RV_PLACE(m, RV_CODE, JALR(1, 0, A1), BNE(A0, A2, -4), WFI);
    thread = g_thread_new("device", device_thread, m);
    rv_go(m, RV_CODE, PRIV_M);
    g_thread_join(thread);
    g_assert_cmpint(m->cpu->x[A0], ==, 100);
}

/* More code than the arena holds: every page of RAM is full of jumps, several times. */
static void test_full(RvMachine *m, gconstpointer data)
{
    uint64_t first = RV_RAM + 0x10000, last = RV_RAM + RV_RAM_SIZE - 0x1000;
    uint64_t epoch = m->cpu->blocks.epoch;
    uint64_t count = 0;

    for (uint64_t pa = first; pa < last; pa += 4) {
        *rv_word(m, pa) = JAL(0, 4);
        count++;
    }
    *rv_word(m, last) = JALR(0, 0, A1);
    m->cpu->x[A1] = RV_CODE + 12;
    m->cpu->x[A2] = 2;
    m->cpu->x[A3] = first;
    rv64_accel_ops.flush(m->cpu);
    epoch++;
    RV_RUN(m, NOP, NOP, JALR(0, 0, A3), ADDI(A2, A2, -1), BNE(A2, 0, -8));
    rv_assert_no_trap(m);
    g_assert_cmpint(m->cpu->x[A2], ==, 0);
    g_assert_cmpint(m->cpu->blocks.epoch, >, epoch);
    g_assert_cmpint(m->cpu->blocks.used, <=, BLOCK_ARENA_SIZE);
    g_assert_cmpint(count, >, 1000000);
}

static void add(const char *path, void (*test)(RvMachine *m, gconstpointer data))
{
    g_test_add(path, RvMachine, NULL, rv_setup, test, rv_teardown);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    add("/rv64/blocks/stores", test_stores);
    add("/rv64/blocks/own-block", test_own_block);
    add("/rv64/blocks/mixed-page", test_mixed_page);
    add("/rv64/blocks/across-pages", test_across_pages);
    add("/rv64/blocks/dma", test_dma);
    add("/rv64/blocks/dma-thread", test_dma_thread);
    add("/rv64/blocks/full", test_full);
    return g_test_run();
}
