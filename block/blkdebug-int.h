/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of the blkdebug driver share. */
#ifndef BLOCK_BLKDEBUG_INT_H
#define BLOCK_BLKDEBUG_INT_H

#include <pthread.h>
#include "block/block-int.h"

typedef struct BlkdebugRules {
    pthread_mutex_t lock; /* leaf; reads aside come from any thread */
    GArray *rules;        /* BlkdebugRule */
    int64_t state;        /* 1 at first */
    GPtrArray *breaks;    /* BlkdebugBreak; home context, as all below */
    GPtrArray *held;      /* BlkdebugHeld */
    CoQueue changed;      /* a request has been held */
} BlkdebugRules;

/* --- blkdebug-rules.c -------------------------------------------------------------------------- */

void blkdebug_rules_init(BlkdebugRules *r);
void blkdebug_rules_destroy(BlkdebugRules *r);
/* Adds the lists, either of which may be NULL. */
bool blkdebug_rules_add(BlkdebugRules *r, const BlkdebugInjectErrorOptionsList *errors,
                        const BlkdebugSetStateOptionsList *states, GError **errp);
/* What the rules want for a request: -errno or 0, after the delay they ask for.  Any thread. */
int coroutine_fn blkdebug_rules_apply(BlkdebugRules *r, BlkdebugIOType type, int64_t offset,
                                      int64_t bytes);
/* A request is at event.  Waits where a breakpoint says so. */
void coroutine_fn blkdebug_rules_event(BlkdebugRules *r, BlkdebugEvent event);
void blkdebug_rules_break(BlkdebugRules *r, BlkdebugEvent event, const char *tag);
/* 0 or -ENOENT. */
int blkdebug_rules_unbreak(BlkdebugRules *r, const char *tag);
int blkdebug_rules_resume(BlkdebugRules *r, const char *tag);
void coroutine_fn blkdebug_rules_wait(BlkdebugRules *r, const char *tag);

/* --- blkdebug-config.c ------------------------------------------------------------------------- */

/* Adds the rules of the file called path. */
bool coroutine_fn blkdebug_config_co_load(BlkdebugRules *r, const char *path, GError **errp);

#endif
