/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A 16550A UART on a character device. */
#ifndef HW_CHAR_SERIAL_16550_H
#define HW_CHAR_SERIAL_16550_H

#include "hw/address-space.h"
#include "hw/irq.h"
#include "migration/vmstate.h"
#include "util/chardev.h"

enum { SERIAL_16550_SIZE = 8 };

typedef struct Serial16550 Serial16550;

/*
 * chr NULL: nothing is connected.  The caller attaches it afterwards with serial_attach(),
 * without the machine lock (the back end may call back).
 */
Serial16550 *serial_16550_new(AddressSpace *as, uint64_t base, IrqLine irq, Chardev *chr);
/* Connects to the back end; false if that has another user.  Main thread, no lock. */
bool serial_16550_attach(Serial16550 *s, GError **errp);
void serial_16550_reset(Serial16550 *s); /* machine lock */
void serial_16550_register(Serial16550 *s, VMStateRegistry *r);
/* Main thread, no lock; detaches. */
void serial_16550_free(Serial16550 *s);

#endif
