/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Between qtest.c, the session, qtest-commands.c, what its lines mean, and qtest-access.c, what they
 * do to memory and registers.  Main thread.
 */
#ifndef SYSTEM_QTEST_INT_H
#define SYSTEM_QTEST_INT_H

#include <pthread.h>

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
    unsigned peer, asked; /* which peer is connected, and which one's line is being done */
    int64_t turn_ns;   /* when co was last given the main loop */
    GByteArray *input;
    guint start;       /* what is in front of it in input has been taken */
    guint scanned;     /* there is no line's end in front of that */
    pthread_mutex_t lock; /* guards the rest; outside of the character device's */
    bool in_line;      /* a reply is under way: lines about interrupts wait */
    bool lost;         /* there was no room for one, which has been logged */
    GString *held;     /* lines about interrupts that the peer has not taken; maybe a rest of one */
} QTest;

/* A line to the peer, with the newline. */
void coroutine_fn qtest_reply(QTest *q, const char *text);
/* Does what the line says, and answers. */
void coroutine_fn qtest_command(QTest *q, char **words);
/* The observer of the interrupt controller: any thread. */
void qtest_irq(void *opaque, int n, bool level);

/*
 * Reads or writes one register, or word of memory, of 1, 2, 4 or 8 bytes; where nothing is it reads
 * as zero.  false: the machine ends.
 */
bool coroutine_fn qtest_access_word(QTest *q, uint64_t addr, unsigned size, uint64_t *value,
                                    bool write);

typedef enum QTestForm { QTEST_HEX, QTEST_BASE64, QTEST_BYTE } QTestForm;

typedef struct QTestRange {
    AddressSpace *as;
    uint64_t addr, len;
    bool write;
    QTestForm form;
    const char *text; /* what is written, unless it is all byte */
    uint8_t byte;
    char *reply;       /* what was read as the reply's line; the caller frees it */
    const char *error; /* the reply's line if it failed, without the newline; constant */
} QTestRange;

/* Reads or writes a range of RAM, len > 0. */
void coroutine_fn qtest_access_range(QTest *q, QTestRange *r);

#endif
