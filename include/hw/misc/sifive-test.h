/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The test finisher: how a guest on the virt board powers off and reboots. */
#ifndef HW_MISC_SIFIVE_TEST_H
#define HW_MISC_SIFIVE_TEST_H

#include "hw/address-space.h"

enum { SIFIVE_TEST_SIZE = 0x1000 };

typedef struct SifiveTestOps {
    /* The guest powers off; code is what it wants the process to exit with. */
    void (*shutdown)(void *opaque, int code);
    void (*reset)(void *opaque);
} SifiveTestOps;

typedef struct SifiveTest SifiveTest;

/* The callbacks come from a vCPU thread with the machine lock held. */
SifiveTest *sifive_test_new(AddressSpace *as, uint64_t base, const SifiveTestOps *ops,
                            void *opaque);
void sifive_test_free(SifiveTest *s);

#endif
