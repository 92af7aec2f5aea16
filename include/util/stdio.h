/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Standard output and standard error of a program that must not wait for who reads them. */
#ifndef UTIL_STDIO_H
#define UTIL_STDIO_H

/*
 * From now on stdout and stderr wait for nobody: what is printed goes out at once if it can,
 * else it is kept for a thread to write, and lines are lost, and counted, if too much comes.
 * For all that prints, g_print(), g_printerr() and the messages of libraries included.  At
 * exit() a slow reader is given a second for each of them.  Once, at start-up, behind the fork of a
 * program that goes to the background.
 */
void stdio_never_wait(void);

#endif
