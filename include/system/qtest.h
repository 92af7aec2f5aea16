/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The test server: a program drives the machine in place of a guest.  Main thread. */
#ifndef SYSTEM_QTEST_H
#define SYSTEM_QTEST_H

#include <glib.h>
#include <stdbool.h>
#include "hw/riscv/virt.h"

/*
 * Listens on the character device that spec describes.  board: NULL without one.  has_clock:
 * the guest's clock is the test's (-accel qtest).  log: lines go to the log as well.
 */
bool qtest_start(const char *spec, VirtMachine *board, bool has_clock, bool log, GError **errp);
void qtest_end(void);

#endif
