/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The character devices that have an id, in the order of their making: looking up, taking out,
 * putting one in the place of another.  One that is being opened is here for its id's sake
 * alone.  Main thread.
 */
#include <string.h>

#include "monitor/char-log.h"
#include "monitor/chardev-int.h"

static GPtrArray *chardevs;

void chardev_register(Chardev *chr)
{
    if (!chardevs) {
        chardevs = g_ptr_array_new();
    }
    g_ptr_array_add(chardevs, chr);
}

static Chardev *find_label(const char *label)
{
    for (guint i = 0; chardevs && i < chardevs->len; i++) {
        Chardev *chr = g_ptr_array_index(chardevs, i);

        if (!strcmp(chr->label, label)) {
            return chr;
        }
    }
    return NULL;
}

bool chardev_label_in_use(const char *label)
{
    return find_label(label) != NULL;
}

Chardev *chardev_find_device(const char *label)
{
    Chardev *chr = find_label(label);

    return chr && !chr->opening ? chr : NULL;
}

Chardev *chardev_find(const char *label)
{
    Chardev *chr = chardev_find_device(label);

    return chr && chr->backend->find ? chr->backend->find(chr) : chr;
}

Chardev *chardev_by_index(unsigned n)
{
    for (guint i = 0; chardevs && i < chardevs->len; i++) {
        Chardev *chr = g_ptr_array_index(chardevs, i);

        if (!chr->opening && n-- == 0) {
            return chr;
        }
    }
    return NULL;
}

bool chardev_is_busy(Chardev *chr)
{
    return chr->ops || (chr->backend->has_fronts && chr->backend->has_fronts(chr));
}

void chardev_unregister(Chardev *chr)
{
    g_ptr_array_remove(chardevs, chr);
    chardev_close(chr);
    chardev_unref(chr);
}

void chardev_replace(Chardev *old, Chardev *chr)
{
    const ChardevFrontOps *ops = old->ops;
    void *opaque = old->opaque;
    guint at;

    g_assert(!ops || ops->change);
    if (ops) {
        chardev_attach(old, NULL, NULL);
        ops->change(opaque, chr);
        chardev_attach(chr, ops, opaque);
        /* What the old one had no room for, the new one may have. */
        if (ops->writable) {
            ops->writable(opaque);
        }
    }
    if (g_ptr_array_find(chardevs, old, &at)) {
        chardevs->pdata[at] = chr;
    }
    chardev_close(old);
    chardev_unref(old);
}

void chardev_cleanup(void)
{
    /* Last made, first closed: a multiplexer before the device under it. */
    for (guint i = chardevs ? chardevs->len : 0; i-- > 0;) {
        Chardev *chr = g_ptr_array_index(chardevs, i);

        /* A worker is at one that is being opened: it stays as it is. */
        if (!chr->opening) {
            g_ptr_array_remove_index(chardevs, i);
            chardev_close(chr);
            chardev_unref(chr);
        }
    }
    if (chardevs && !chardevs->len) {
        g_clear_pointer(&chardevs, g_ptr_array_unref);
    }
    char_log_finish();
}
