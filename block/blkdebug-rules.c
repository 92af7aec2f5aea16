/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The rules of blkdebug.  A rule about errors without an event holds from the beginning; one
 * with an event from then on, if the state fits, until an event brings up others.  Rules about
 * states change the state at an event.  Breakpoints hold the next request that comes to theirs.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "blkdebug-int.h"
#include "block/trace.h"
#include "qapi/error.h"

typedef struct BlkdebugRule {
    BlkdebugEvent event; /* NONE: from the beginning */
    int64_t state;       /* only in this state, 0: in every one */
    bool sets_state;
    int64_t new_state;
    /* An error: */
    bool any_type;
    BlkdebugIOType type;
    int64_t offset; /* bytes of the sector that must be hit, -1: any */
    int64_t after;  /* matches still let through */
    int64_t delay_ns;
    int error; /* positive errno, 0: delay only */
    bool once, immediately;
    bool active, spent;
} BlkdebugRule;

typedef struct BlkdebugBreak {
    BlkdebugEvent event;
    char *tag;
} BlkdebugBreak;

typedef struct BlkdebugHeld { /* the request's, which is held until all of its go */
    char *tag;
    bool go;
    CoQueue queue;
} BlkdebugHeld;

static void break_free(void *opaque)
{
    BlkdebugBreak *b = opaque;

    g_free(b->tag);
    g_free(b);
}

void blkdebug_rules_init(BlkdebugRules *r)
{
    pthread_mutex_init(&r->lock, NULL);
    r->rules = g_array_new(false, false, sizeof(BlkdebugRule));
    r->state = 1;
    r->breaks = g_ptr_array_new_with_free_func(break_free);
    r->held = g_ptr_array_new();
    co_queue_init(&r->changed);
}

void blkdebug_rules_destroy(BlkdebugRules *r)
{
    g_assert(r->held->len == 0);
    co_queue_destroy(&r->changed);
    g_ptr_array_unref(r->held);
    g_ptr_array_unref(r->breaks);
    g_array_unref(r->rules);
    pthread_mutex_destroy(&r->lock);
}

/* --- Rules ------------------------------------------------------------------------------------- */

static bool add_error(BlkdebugRules *r, const BlkdebugInjectErrorOptions *o, GError **errp)
{
    bool has_delay = o->has_delay_ns && o->delay_ns > 0;
    BlkdebugRule rule = {
        .event = o->has_event ? o->event : BLKDEBUG_EVENT_NONE,
        .state = o->has_state ? o->state : 0,
        .any_type = !o->has_iotype,
        .type = o->iotype,
        .offset = o->has_sector && o->sector >= 0 ? o->sector * 512 : -1,
        .after = o->has_after ? o->after : 0,
        .delay_ns = has_delay ? o->delay_ns : 0,
        .error = o->has_errno ? o->q_errno : has_delay ? 0 : EIO,
        .once = o->has_once && o->once,
        .immediately = o->has_immediately && o->immediately,
    };

    if (o->has_sector && o->sector > INT64_MAX / 512) {
        error_setg(errp, "Sector %" PRId64 " of an inject-error rule is too large", o->sector);
        return false;
    }
    if (rule.error < 0 || rule.error > 4095) {
        error_setg(errp, "%d is not an error number", rule.error);
        return false;
    }
    rule.active = rule.event == BLKDEBUG_EVENT_NONE && rule.state <= 1;
    g_array_append_val(r->rules, rule);
    return true;
}

bool blkdebug_rules_add(BlkdebugRules *r, const BlkdebugInjectErrorOptionsList *errors,
                        const BlkdebugSetStateOptionsList *states, GError **errp)
{
    for (; errors; errors = errors->next) {
        if (!add_error(r, errors->value, errp)) {
            return false;
        }
    }
    for (; states; states = states->next) {
        const BlkdebugSetStateOptions *o = states->value;
        BlkdebugRule rule = {
            .event = o->event,
            .state = o->has_state ? o->state : 0,
            .sets_state = true,
            .new_state = o->new_state,
        };

        g_array_append_val(r->rules, rule);
    }
    return true;
}

/* Asking for the status is left alone by rules that name no kind of request, as in QEMU. */
static bool matches(const BlkdebugRule *rule, BlkdebugIOType type, int64_t offset, int64_t bytes)
{
    if (!rule->active || rule->spent || rule->sets_state) {
        return false;
    }
    if (rule->any_type ? type == BLKDEBUG_IO_TYPE_BLOCK_STATUS : rule->type != type) {
        return false;
    }
    return rule->offset < 0 || (rule->offset >= offset && rule->offset < offset + bytes);
}

int coroutine_fn blkdebug_rules_apply(BlkdebugRules *r, BlkdebugIOType type, int64_t offset,
                                      int64_t bytes)
{
    bool immediately = false;
    int64_t delay = 0;
    int error = 0;

    pthread_mutex_lock(&r->lock);
    for (guint i = 0; i < r->rules->len && !error; i++) {
        BlkdebugRule *rule = &g_array_index(r->rules, BlkdebugRule, i);

        if (!matches(rule, type, offset, bytes)) {
            continue;
        }
        if (rule->after > 0) {
            rule->after--;
            continue;
        }
        rule->spent = rule->once;
        delay += rule->delay_ns;
        error = rule->error;
        immediately = rule->immediately;
    }
    pthread_mutex_unlock(&r->lock);
    if (delay || error) {
        trace_blkdebug_rule(type, offset, bytes, delay, error);
    }
    if (delay) {
        co_sleep_ns(delay);
    } else if (error && !immediately) {
        aio_co_reschedule_self(aio_current()); /* a real disk takes its time, too */
    }
    return -error;
}

/* The rules that an event brings up, and the state it leads to. */
static void event_to_rules(BlkdebugRules *r, BlkdebugEvent event)
{
    int64_t new_state;
    bool first = true;

    pthread_mutex_lock(&r->lock);
    new_state = r->state;
    for (guint i = 0; i < r->rules->len; i++) {
        BlkdebugRule *rule = &g_array_index(r->rules, BlkdebugRule, i);

        if (rule->event != event || (rule->state && rule->state != r->state)) {
            continue;
        }
        if (rule->sets_state) {
            new_state = rule->new_state;
            continue;
        }
        for (guint j = 0; first && j < r->rules->len; j++) {
            BlkdebugRule *other = &g_array_index(r->rules, BlkdebugRule, j);

            other->active &= other->event == BLKDEBUG_EVENT_NONE;
        }
        first = false;
        rule->active = true;
    }
    r->state = new_state;
    pthread_mutex_unlock(&r->lock);
}

/* --- Breakpoints ------------------------------------------------------------------------------- */

/* Takes the breakpoints at event away, the latest first, and holds a request for each. */
static GPtrArray *hold(BlkdebugRules *r, BlkdebugEvent event)
{
    GPtrArray *mine = NULL;

    for (guint i = r->breaks->len; i > 0; i--) {
        BlkdebugBreak *b = r->breaks->pdata[i - 1];
        BlkdebugHeld *held;

        if (b->event != event) {
            continue;
        }
        held = g_new0(BlkdebugHeld, 1);
        held->tag = g_steal_pointer(&b->tag);
        co_queue_init(&held->queue);
        mine = mine ? mine : g_ptr_array_new();
        g_ptr_array_add(mine, held);
        g_ptr_array_add(r->held, held);
        g_ptr_array_remove_index(r->breaks, i - 1);
        printf("blkdebug: Suspended request '%s'\n", held->tag);
    }
    fflush(stdout);
    return mine;
}

void coroutine_fn blkdebug_rules_event(BlkdebugRules *r, BlkdebugEvent event)
{
    GPtrArray *mine;

    event_to_rules(r, event);
    if (r->breaks->len == 0) {
        return;
    }
    mine = hold(r, event);
    co_queue_restart_all(&r->changed);
    for (guint i = 0; mine && i < mine->len; i++) {
        BlkdebugHeld *held = mine->pdata[i];

        while (!held->go) {
            co_queue_wait(&held->queue, NULL);
        }
        co_queue_destroy(&held->queue);
        g_free(held->tag);
        g_free(held);
    }
    if (mine) {
        g_ptr_array_unref(mine);
    }
}

void blkdebug_rules_break(BlkdebugRules *r, BlkdebugEvent event, const char *tag)
{
    BlkdebugBreak *b = g_new0(BlkdebugBreak, 1);

    b->event = event;
    b->tag = g_strdup(tag);
    g_ptr_array_add(r->breaks, b);
}

int blkdebug_rules_resume(BlkdebugRules *r, const char *tag)
{
    for (guint i = 0; i < r->held->len; i++) {
        BlkdebugHeld *held = r->held->pdata[i];

        if (!strcmp(held->tag, tag)) {
            printf("blkdebug: Resuming request '%s'\n", tag);
            fflush(stdout);
            g_ptr_array_remove_index(r->held, i);
            held->go = true;
            co_queue_restart_all(&held->queue);
            return 0;
        }
    }
    return -ENOENT;
}

int blkdebug_rules_unbreak(BlkdebugRules *r, const char *tag)
{
    int ret = -ENOENT;

    for (guint i = r->breaks->len; i > 0; i--) {
        BlkdebugBreak *b = r->breaks->pdata[i - 1];

        if (!strcmp(b->tag, tag)) {
            g_ptr_array_remove_index(r->breaks, i - 1);
            ret = 0;
        }
    }
    while (blkdebug_rules_resume(r, tag) == 0) {
        ;
    }
    return ret;
}

void coroutine_fn blkdebug_rules_wait(BlkdebugRules *r, const char *tag)
{
    for (;;) {
        for (guint i = 0; i < r->held->len; i++) {
            if (!strcmp(((BlkdebugHeld *)r->held->pdata[i])->tag, tag)) {
                return;
            }
        }
        co_queue_wait(&r->changed, NULL);
    }
}
