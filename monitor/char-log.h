/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A file that workers write: the copy of what is written to a character device (logfile, logappend
 * of -chardev; the peers of a listening socket share their listener's), and the device "file"
 * itself.
 */
#ifndef MONITOR_CHAR_LOG_H
#define MONITOR_CHAR_LOG_H

#include "monitor/chardev-opts.h"
#include "util/aio.h"

/* What chardev_write() leaves for the file at most. */
#define CHAR_LOG_MAX (64 * 1024)

typedef struct CharLog CharLog;

/*
 * Opens the file that opts name; *log is NULL if they name none.  false and errp.  May block;
 * any thread.  label is for messages.
 */
bool char_log_open(CharLog **log, const char *label, const ChardevOpts *opts, GError **errp);
/* On an open file, which it takes; what it is, for messages: "file", a constant.  Any thread. */
CharLog *char_log_new(const char *label, const char *what, int fd);
CharLog *char_log_ref(CharLog *log);
/*
 * What was written still reaches the file.  Main thread, or whoever has opened it and told nobody;
 * log may be NULL.
 */
void char_log_unref(CharLog *log);

/* Bytes that wait for a worker.  Any thread. */
size_t char_log_waiting(CharLog *log);
/* Takes all of it.  Never blocks.  Any thread, under the device's lock. */
void char_log_write(CharLog *log, const void *buf, size_t len);
/* Scheduled each time when a worker has taken what waited; until removed.  Main thread. */
void char_log_add_kick(CharLog *log, AioBH *kick);
void char_log_remove_kick(CharLog *log, AioBH *kick);

/* Waits until the file has what was written. */
void coroutine_fn char_log_co_wait(CharLog *log);
/*
 * Waits until all files have what was written, but not long for one that takes nothing; at the end
 * of the program.  Main thread.
 */
void char_log_finish(void);

#endif
