/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The server for GDB's remote protocol.  Main thread. */
#ifndef SYSTEM_GDBSTUB_H
#define SYSTEM_GDBSTUB_H

#include <glib.h>
#include <stdbool.h>
#include "util/coroutine.h"

#define GDBSTUB_DEFAULT_DEVICE "tcp::1234"

/*
 * Listens for a debugger on the character device that spec describes; "none": does nothing.
 * The machine has been made and its CPUs are held.
 */
bool gdbstub_start(const char *spec, GError **errp);
/* The same in a running machine, in place of the one before; "none": only ends that. */
bool coroutine_fn gdbstub_co_restart(const char *spec, GError **errp);
/* Lets go of the character device.  The vCPUs need not exist any more. */
void gdbstub_end(void);

#endif
