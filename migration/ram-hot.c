/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The pages that the guest used last, as section "ram-hot" of the machine state: after a
 * load it will want these at once, and one fault for each would add up.  Only a hint:
 * the section may be missing, and what it says is not relied on.
 */
#include <string.h>
#include "ram-hot-int.h"

static bool hot_needed(void *opaque)
{
    return ((RamHot *)opaque)->machine->ops->hot_pages != NULL;
}

static bool hot_pre_save(void *opaque, GError **errp)
{
    RamHot *h = opaque;
    Machine *m = h->machine;

    memset(h->pages, 0, sizeof(h->pages));
    h->nr = m->ops->hot_pages ? m->ops->hot_pages(m->opaque, h->pages, RAM_HOT_MAX) : 0;
    return true;
}

static const VMStateField hot_fields[] = {
    VMSTATE_UINT32(nr, RamHot),
    VMSTATE_UINT64_ARRAY(pages, RamHot, RAM_HOT_MAX),
    VMSTATE_END,
};

static const VMStateDescription vmstate_hot = {
    .name = "ram-hot",
    .version = 1,
    .minimum_version = 1,
    .pre_save = hot_pre_save,
    .needed = hot_needed,
    .fields = hot_fields,
};

void ram_hot_register(Machine *m)
{
    static RamHot hot;

    hot.machine = m;
    vmstate_register(m->vmstate, vmstate_hot.name, 0, &vmstate_hot, &hot);
}

size_t ram_hot_of_tail(const GByteArray *tail, const VMStateRegistry *r, RamHot *hot)
{
    hot->nr = 0;
    if (!stream_load_section(tail, r, &vmstate_hot, hot)) {
        return 0;
    }
    return MIN(hot->nr, RAM_HOT_MAX);
}
