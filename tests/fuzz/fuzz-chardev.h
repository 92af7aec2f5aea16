/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A character device whose peer is the fuzz target: what a front end writes, from whatever
 * thread, comes to fuzz_output.
 */
#ifndef TESTS_FUZZ_FUZZ_CHARDEV_H
#define TESTS_FUZZ_FUZZ_CHARDEV_H

#include <pthread.h>
#include "fuzz.h"
#include "monitor/chardev-int.h"

static GString *fuzz_output;
static pthread_mutex_t fuzz_output_lock = PTHREAD_MUTEX_INITIALIZER;

static inline void fuzz_sink(Chardev *chr, const uint8_t *buf, size_t len)
{
    pthread_mutex_lock(&fuzz_output_lock);
    g_string_append_len(fuzz_output, (const char *)buf, len);
    pthread_mutex_unlock(&fuzz_output_lock);
}

static inline void fuzz_output_clear(void)
{
    pthread_mutex_lock(&fuzz_output_lock);
    g_string_truncate(fuzz_output, 0);
    pthread_mutex_unlock(&fuzz_output_lock);
}

static inline bool fuzz_output_ends(const char *text)
{
    bool ends;

    pthread_mutex_lock(&fuzz_output_lock);
    ends = g_str_has_suffix(fuzz_output->str, text);
    pthread_mutex_unlock(&fuzz_output_lock);
    return ends;
}

/* A copy, the caller's. */
static inline char *fuzz_output_dup(void)
{
    char *text;

    pthread_mutex_lock(&fuzz_output_lock);
    text = g_strdup(fuzz_output->str);
    pthread_mutex_unlock(&fuzz_output_lock);
    return text;
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
