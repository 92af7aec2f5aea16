/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The test finisher (device tree "sifive,test1", used through syscon-poweroff and
 * syscon-reboot): one register whose low 16 bits say pass, fail or reset and whose high 16
 * bits are the code of a failure.  Without state.
 */
#include <glib.h>
#include "hw/misc/sifive-test.h"

enum { FINISHER_FAIL = 0x3333, FINISHER_PASS = 0x5555, FINISHER_RESET = 0x7777 };

struct SifiveTest {
    const SifiveTestOps *ops;
    void *opaque;
};

static uint64_t test_read(void *opaque, uint64_t offset, unsigned size)
{
    return 0;
}

static void test_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    SifiveTest *s = opaque;

    if (offset != 0) {
        return;
    }
    switch (value & 0xffff) {
    case FINISHER_FAIL:
        s->ops->shutdown(s->opaque, value >> 16 & 0xffff);
        break;
    case FINISHER_PASS:
        s->ops->shutdown(s->opaque, 0);
        break;
    case FINISHER_RESET:
        s->ops->reset(s->opaque);
        break;
    }
}

static const MMIOOps test_ops = {
    .read = test_read,
    .write = test_write,
    .min_size = 2,
    .max_size = 4,
};

SifiveTest *sifive_test_new(AddressSpace *as, uint64_t base, const SifiveTestOps *ops,
                            void *opaque)
{
    SifiveTest *s = g_new0(SifiveTest, 1);

    s->ops = ops;
    s->opaque = opaque;
    address_space_add_mmio(as, "riscv.sifive.test", base, SIFIVE_TEST_SIZE, &test_ops, s);
    return s;
}

void sifive_test_free(SifiveTest *s)
{
    g_free(s);
}
