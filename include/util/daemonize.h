/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Going to the background, and the file that says where.  Main thread. */
#ifndef UTIL_DAEMONIZE_H
#define UTIL_DAEMONIZE_H

#include <glib.h>
#include <stdbool.h>

/*
 * Forks; the parent waits until the child calls daemonize_ready() or ends, and exits with
 * the child's status.  Before any thread or AioContext is made.
 */
bool daemonize_start(GError **errp);
/* Lets go of the terminal and of the parent.  Nothing without daemonize_start(). */
void daemonize_ready(void);
/* Writes the process id to path and locks the file; removed by pidfile_remove(). */
bool pidfile_write(const char *path, GError **errp);
void pidfile_remove(void);

#endif
