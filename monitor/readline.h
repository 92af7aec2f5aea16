/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Line editing for the human monitor over any byte stream: cursor keys, Home, End, Delete,
 * Ctrl-A B D E F H K N P U W, history, completion with Tab.  Main thread; no I/O of its own.
 */
#ifndef MONITOR_READLINE_H
#define MONITOR_READLINE_H

#include <glib.h>
#include <stdbool.h>

typedef struct Readline Readline;

typedef struct ReadlineOps {
    void (*print)(void *opaque, const char *buf, size_t len);
    /* Returns candidates for the last word of line[0, len), or NULL. */
    GPtrArray *(*complete)(void *opaque, const char *line, size_t len);
} ReadlineOps;

/* prompt: static.  With echo off only whole lines are cut from the input. */
Readline *readline_new(const ReadlineOps *ops, void *opaque, const char *prompt, bool echo);
void readline_free(Readline *rl);
/* Prints the prompt and what is being edited. */
void readline_show(Readline *rl);
/* Takes one byte; returns the line, which the caller owns, when it was its last. */
char *readline_input(Readline *rl, char c);
/* The lines so far, oldest first. */
const GPtrArray *readline_history(const Readline *rl);

#endif
