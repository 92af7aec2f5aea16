/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Stack switching with ucontext(3), for processors that have no assembly of ours.  Slow
 * (each switch sets the signal mask), but right everywhere.
 */
#include "coroutine-int.h"

#include <stdlib.h>
#include <ucontext.h>

typedef struct SwitchFrame {
    ucontext_t uc;
    long action;
} SwitchFrame;

long coroutine_switch(void **save, void *load, long action)
{
    SwitchFrame here;
    SwitchFrame *to = load;

    to->action = action;
    *save = &here;
    if (swapcontext(&here.uc, &to->uc) < 0) {
        abort();
    }
    return here.action;
}

void *coroutine_stack_init(void *stack, size_t size, void (*start)(void))
{
    uintptr_t top = ((uintptr_t)stack + size - sizeof(SwitchFrame)) & ~(uintptr_t)63;
    SwitchFrame *frame = (SwitchFrame *)top;

    if (getcontext(&frame->uc) < 0) {
        abort();
    }
    frame->uc.uc_stack.ss_sp = stack;
    frame->uc.uc_stack.ss_size = top - (uintptr_t)stack;
    frame->uc.uc_link = NULL;
    makecontext(&frame->uc, start, 0);
    return frame;
}
