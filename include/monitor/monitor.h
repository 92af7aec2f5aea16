/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Monitor sessions.  Any number of QMP and HMP monitors, each on a character device; each
 * session is a coroutine in the main thread.  Everything here: main thread.
 */
#ifndef MONITOR_MONITOR_H
#define MONITOR_MONITOR_H

#include <glib.h>
#include "qapi/hmp.h"
#include <json-c/json_object.h>
#include "qapi/qapi-types-char.h"
#include "util/chardev.h"
#include "util/coroutine.h"

/* Once, before any monitor: installs the event sink and the HMP command tables. */
void monitor_init(const HMPCommand *const *tables, int n);
/*
 * Ends all sessions: pending output is sent as far as the peers take it within a second.  Before
 * chardev_cleanup().
 */
void monitor_cleanup(void);

/* Starts a monitor on chr. */
bool monitor_add_qmp(Chardev *chr, bool pretty, GError **errp);
bool monitor_add_hmp(Chardev *chr, bool use_readline, GError **errp);

/*
 * Makes a back end from QEMU's short form: "stdio", "mon:stdio", "unix:PATH,server=on,
 * wait=off", "tcp:HOST:PORT,server=on,wait=off", "file:PATH", "pty", "null", "none",
 * "chardev:ID".  label is its id.
 */
Chardev *chardev_new_from_spec(const char *label, const char *spec, GError **errp);
/* The same in a running VM: what takes time is done in a worker, and nothing waits for a client. */
Chardev *coroutine_fn chardev_co_new_from_spec(const char *label, const char *spec, GError **errp);
/* From -chardev: "socket,id=c0,path=...,server=on,wait=off" or JSON. */
Chardev *chardev_new_from_opts(const char *opts, GError **errp);
/* The same in two steps: what the text says, and the device. */
ChardevOptions *chardev_options_from_text(const char *text, GError **errp);
Chardev *chardev_new_from_options(const ChardevOptions *options, GError **errp);
/* The text as a tree for the visitor of ChardevOptions; *keyval: qapi_input_keyval(). */
json_object *chardev_options_tree(const char *text, bool *keyval, GError **errp);
Chardev *chardev_find(const char *label);
/* The option -echr: what stands before a multiplexer's keys; no byte's value: nothing does. */
void chardev_set_escape(int c);
/* What a multiplexer's key s does: it begins to bring what -snapshot keeps back to the disks. */
void chardev_set_save_disks(void (*fn)(void));
/* The option -add-fd: "fd=N,set=M[,opaque=TEXT]". */
bool monitor_add_fd_option(const char *text, GError **errp);
/* Closes all back ends, restores the terminal, removes sockets. */
void chardev_cleanup(void);

#endif
