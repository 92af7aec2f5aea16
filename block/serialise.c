/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Requests that must not overlap: see serialise.h. */
#include "serialise.h"

void coroutine_fn serialise_begin(GQueue *list, BdrvSerialised *r, int64_t start, int64_t end,
                                  bool exclusive)
{
    bool again;

    r->start = start;
    r->end = end;
    r->exclusive = exclusive;
    co_queue_init(&r->waiters);
    r->link = (GList) { .data = r };
    g_queue_push_tail_link(list, &r->link);
    do { /* only for those before: no circle */
        again = false;
        for (GList *l = r->link.prev; l; l = l->prev) {
            BdrvSerialised *o = l->data;

            if ((o->exclusive || exclusive) && o->start < end && start < o->end) {
                co_queue_wait(&o->waiters, NULL);
                again = true;
                break;
            }
        }
    } while (again);
}

void serialise_end(GQueue *list, BdrvSerialised *r)
{
    g_queue_unlink(list, &r->link);
    co_queue_restart_all(&r->waiters);
    co_queue_destroy(&r->waiters);
}
