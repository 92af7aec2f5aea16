/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between qtest.c, the session, and qtest-commands.c, what its lines mean.  Main thread. */
#ifndef SYSTEM_QTEST_INT_H
#define SYSTEM_QTEST_INT_H

#include "hw/riscv/virt.h"
#include "util/chardev.h"
#include "util/coroutine.h"

typedef struct QTest {
    Chardev *chr;
    AddressSpace *as;  /* NULL: machine 'none' */
    SifivePlic *plic;
    bool has_clock, log;
    bool intercepts;   /* interrupts are told to the peer */
    Coroutine *co;
    bool idle, connected, ended;
    GByteArray *input;
} QTest;

/* One line to the peer, without the newline. */
void coroutine_fn qtest_reply(QTest *q, const char *line);
/* Does what the line says, and answers. */
void coroutine_fn qtest_command(QTest *q, char **words);
/* The observer of the interrupt controller: any thread. */
void qtest_irq(void *opaque, int n, bool level);

#endif
