/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The back end that takes everything and says nothing.  Main thread. */
#include "monitor/chardev-int.h"

static bool null_open(Chardev *chr, ChardevOpts *opts, GError **errp)
{
    chardev_peer_opened(chr, -1, -1, false);
    return true;
}

const ChardevDriver chardev_null = {
    .name = "null",
    .instance_size = sizeof(Chardev),
    .open = null_open,
};
