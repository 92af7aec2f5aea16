/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Bottom halves.  Scheduling pushes onto a lock-free stack of the context, from any
 * thread; the loop takes the whole stack at once and runs it in the order of scheduling.
 * The flags say what is wanted; BH_LISTED says that the loop will see them.
 */
#include "aio-int.h"

enum {
    BH_LISTED = 1, /* on the stack, or in the batch being run */
    BH_SCHEDULED = 2,
    BH_ONESHOT = 4,
    BH_DELETED = 8,
};

struct AioBH {
    AioContext *ctx;
    AioHandler *cb;
    void *opaque;
    AioBH *next;
    unsigned int flags; /* atomic */
};

static AioBH *bh_new(AioContext *ctx, AioHandler *cb, void *opaque, unsigned int flags)
{
    AioBH *bh = g_new(AioBH, 1);

    *bh = (AioBH){.ctx = ctx, .cb = cb, .opaque = opaque, .flags = flags};
    return bh;
}

static void bh_push(AioBH *bh, unsigned int flags)
{
    AioContext *ctx = bh->ctx;
    AioBH *head;

    /* bh, and ctx with it, may be gone as soon as the loop can see them. */
    aio_context_ref(ctx);
    if (!(__atomic_fetch_or(&bh->flags, BH_LISTED | flags, __ATOMIC_ACQ_REL) & BH_LISTED)) {
        head = __atomic_load_n(&ctx->bhs, __ATOMIC_RELAXED);
        do {
            bh->next = head;
        } while (!__atomic_compare_exchange_n(&ctx->bhs, &head, bh, true, __ATOMIC_SEQ_CST,
                                              __ATOMIC_RELAXED));
        aio_kick(ctx);
    }
    aio_context_unref(ctx);
}

AioBH *aio_bh_new(AioContext *ctx, AioHandler *cb, void *opaque)
{
    return bh_new(ctx, cb, opaque, 0);
}

void aio_bh_schedule(AioBH *bh)
{
    bh_push(bh, BH_SCHEDULED);
}

void aio_bh_cancel(AioBH *bh)
{
    __atomic_fetch_and(&bh->flags, ~BH_SCHEDULED, __ATOMIC_RELAXED);
}

void aio_bh_delete(AioBH *bh)
{
    if (bh) {
        aio_bh_cancel(bh);
        bh_push(bh, BH_DELETED);
    }
}

void aio_bh_schedule_oneshot(AioContext *ctx, AioHandler *cb, void *opaque)
{
    bh_push(bh_new(ctx, cb, opaque, BH_ONESHOT), BH_SCHEDULED);
}

static AioBH *take_all(AioContext *ctx)
{
    AioBH *stack = __atomic_exchange_n(&ctx->bhs, NULL, __ATOMIC_ACQUIRE), *list = NULL;

    while (stack) {
        AioBH *next = stack->next;
        stack->next = list;
        list = stack;
        stack = next;
    }
    return list;
}

bool aio_bh_run(AioContext *ctx)
{
    AioBH *next;
    bool progress = false;

    if (!__atomic_load_n(&ctx->bhs, __ATOMIC_RELAXED)) {
        return false;
    }
    for (AioBH *bh = take_all(ctx); bh; bh = next) {
        unsigned int flags;

        next = bh->next;
        /* From here on it can be listed again, also by its own callback. */
        flags = __atomic_fetch_and(&bh->flags, ~(BH_LISTED | BH_SCHEDULED), __ATOMIC_ACQ_REL);
        if (flags & BH_DELETED) {
            g_free(bh);
            continue;
        }
        if (flags & BH_SCHEDULED) {
            progress = true;
            bh->cb(bh->opaque);
            if (flags & BH_ONESHOT) {
                g_free(bh);
            }
        }
    }
    return progress;
}

void aio_bh_free_all(AioContext *ctx)
{
    AioBH *next;

    for (AioBH *bh = take_all(ctx); bh; bh = next) {
        next = bh->next;
        if (bh->flags & (BH_DELETED | BH_ONESHOT)) {
            g_free(bh);
        }
    }
}
