/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One wire from a device to an interrupt controller. */
#ifndef HW_IRQ_H
#define HW_IRQ_H

#include <stdbool.h>

typedef struct IrqLine {
    void (*set)(void *opaque, int n, bool level); /* any thread */
    void *opaque;
    int n;
} IrqLine;

static inline void irq_set(const IrqLine *line, bool level)
{
    if (line->set) {
        line->set(line->opaque, line->n, level);
    }
}

#endif
