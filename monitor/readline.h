/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Line editing for the human monitor over any byte stream: cursor keys, Home, End, Delete,
 * Ctrl-A B C D E F H K L N P U W, history, completion with Tab.  Main thread; no I/O of its own.
 */
#ifndef MONITOR_READLINE_H
#define MONITOR_READLINE_H

#include <glib.h>
#include <stdbool.h>

typedef struct Readline Readline;

typedef struct ReadlineOps {
    void (*print)(void *opaque, const char *buf, size_t len);
} ReadlineOps;

typedef enum ReadlineEvent {
    READLINE_MORE,     /* nothing for the caller to do */
    READLINE_LINE,     /* a line is complete */
    READLINE_COMPLETE, /* Tab: readline_complete() is called for */
} ReadlineEvent;

/* prompt: static.  With echo off only whole lines are cut from the input. */
Readline *readline_new(const ReadlineOps *ops, void *opaque, const char *prompt, bool echo);
void readline_free(Readline *rl);
/* Prints the prompt and what is being edited. */
void readline_show(Readline *rl);
/* Takes one byte.  *line is set for READLINE_LINE, the caller's. */
ReadlineEvent readline_input(Readline *rl, char c, char **line);
/* What is being edited, up to the cursor: a new string. */
char *readline_text(const Readline *rl);
/*
 * Completes the last word of readline_text() with what words, candidates for it, have in
 * common, or shows them.  One that ends in '/' may go on.  more: how many there are between the
 * last two.
 */
void readline_complete(Readline *rl, const GPtrArray *words, uint64_t more);
/* The lines so far, oldest first. */
const GPtrArray *readline_history(const Readline *rl);

#endif
