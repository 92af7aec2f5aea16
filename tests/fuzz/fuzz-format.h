/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the targets of formats share that are only read: an image with whatever content, in
 * memory, is opened, read and checked.  No file of the host is touched, whatever names it has.
 */
#ifndef TESTS_FUZZ_FUZZ_FORMAT_H
#define TESTS_FUZZ_FUZZ_FORMAT_H

#include "../unit/formats-test.h"
#include "fuzz.h"

typedef struct FuzzFormat {
    const BlockDriver *drv;
    MemFile *m; /* freed afterwards */
} FuzzFormat;

static void coroutine_fn fuzz_format_entry(void *opaque)
{
    const FuzzFormat *f = opaque;
    g_autofree uint8_t *before = g_memdup2(f->m->data, f->m->len);
    size_t len = f->m->len;
    GError *err = NULL;
    BdrvChild *image = image_open_as(f->drv, f->m, NULL, true, NULL, &err);

    fuzz_check_outcome(image != NULL, err);
    if (image) {
        format_exercise(image);
        image_close(image);
    }
    g_clear_error(&err);
    g_assert_cmpuint(f->m->len, ==, len);
    g_assert_true(!len || !memcmp(f->m->data, before, len));
    mem_free(f->m);
}

static inline int fuzz_format(const BlockDriver *drv, MemFile *m)
{
    static bool ready;
    FuzzFormat f = { drv, m };

    if (!ready) {
        main_aio_context_init();
        bdrv_init();
        ready = true;
    }
    bdrv_probe(m->data, MIN(m->len, 2048), "image");
    aio_co_run_sync(main_aio_context(), fuzz_format_entry, &f);
    return 0;
}

#endif
