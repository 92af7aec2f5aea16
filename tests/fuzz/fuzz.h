/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the fuzz targets share.  A target is one function; it is linked with libFuzzer
 * (scripts/fuzz) or with replay.c, which gives it every file of its corpus once (meson test).
 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Returns 0.  What it finds wrong ends the program. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The input as a C string, up to its first NUL; the caller frees it. */
static inline char *fuzz_text(const uint8_t *data, size_t size)
{
    return g_strndup((const char *)data, size);
}

/*
 * A parser either succeeds or says why it did not: exactly one of the two, with a message of
 * valid UTF-8 that is not empty.
 */
static inline void fuzz_check_outcome(bool ok, const GError *err)
{
    g_assert_true(ok == !err);
    g_assert_true(ok || *err->message);
}

#endif
