/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * File descriptors that a client has handed over under a name (getfd), until somebody uses
 * them.  Any thread.
 */
#ifndef UTIL_NAMED_FD_H
#define UTIL_NAMED_FD_H

#include <glib.h>
#include <stdbool.h>

/* Keeps fd (owned from here on); one of the same name is closed. */
void named_fd_add(const char *name, int fd);
/* Closes the one called name; false and errp if there is none. */
bool named_fd_close(const char *name, GError **errp);
/*
 * The one called name, which is the caller's from here on; or, if name is a number, the
 * descriptor with that number that the process has inherited.  -1 and errp if there is none.
 */
int named_fd_take(const char *name, GError **errp);

#endif
