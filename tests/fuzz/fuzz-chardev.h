/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A character device whose peer is the fuzz target: what a front end writes comes to fuzz_output.
 * Main thread.
 */
#ifndef TESTS_FUZZ_FUZZ_CHARDEV_H
#define TESTS_FUZZ_FUZZ_CHARDEV_H

#include "fuzz.h"
#include "monitor/chardev-int.h"

static GString *fuzz_output;

static inline void fuzz_sink(Chardev *chr, const uint8_t *buf, size_t len)
{
    g_string_append_len(fuzz_output, (const char *)buf, len);
}

/* A connected device with that label, which chardev_find() knows. */
static inline Chardev *fuzz_chardev_new(const char *label)
{
    static const ChardevDriver driver = {
        .name = "fuzz", .instance_size = sizeof(Chardev), .sink = fuzz_sink};
    Chardev *chr = chardev_alloc(&driver, label);

    fuzz_output = g_string_new(NULL);
    chardev_register(chr);
    chardev_peer_opened(chr, -1, -1, false);
    return chr;
}

#endif
