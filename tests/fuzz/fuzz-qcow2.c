/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A qcow2 image with whatever content, in memory: recognised, opened, examined, read and checked
 * read-only; opened for writing, written, discarded, flushed, snapshotted; repaired.  No file of
 * the host is touched, whatever names the image has, and the image cannot become larger than
 * 16 MiB; an image that makes memory or time explode is libFuzzer's to find.
 */
#include "../unit/qcow2-test.h"
#include "fuzz.h"

#define FILE_MAX (16 << 20)
#define PART 4096

typedef struct Input {
    const uint8_t *data;
    size_t size;
} Input;

static MemFile *load(const Input *in)
{
    MemFile *m = mem_new(in->data, in->size);

    m->max_len = FILE_MAX;
    if (in->size > 79 && (in->data[79] & QCOW2_INCOMPAT_DATA_FILE)) {
        m->guest_data = mem_new("", 0);
        m->guest_data->max_len = FILE_MAX;
    }
    return m;
}

/* Reads a part here and there: the start, the end, and where the input says. */
static void coroutine_fn read_parts(BdrvChild *image, const Input *in)
{
    int64_t length = image->bs->length;
    int64_t offsets[] = { 0, length - PART, in->size ? in->data[in->size - 1] * (length / 256) : 0 };
    g_autofree uint8_t *buf = g_malloc(PART);

    for (size_t i = 0; i < G_N_ELEMENTS(offsets); i++) {
        int64_t offset = CLAMP(offsets[i], 0, MAX(length - PART, 0)), n;

        bdrv_co_pread(image, offset, MIN(PART, length), buf, 0);
        bdrv_co_block_status(image->bs, offset, length - offset, &n, NULL);
    }
}

static void coroutine_fn examine(const Input *in)
{
    MemFile *m = load(in);
    GError *err = NULL;
    BdrvChild *image = image_open(m, NULL, true, &err);
    BdrvCheckResult result = { 0 };
    BdrvInfo info = { 0 };

    fuzz_check_outcome(image != NULL, err);
    if (image) {
        read_parts(image, in);
        image->bs->drv->co_info(image->bs, &info, NULL);
        qapi_free_ImageInfoSpecific(info.specific);
        image->bs->drv->co_check(image->bs, &result, 0, NULL);
        g_assert_cmpuint(m->len, ==, in->size); /* it was only read */
        g_assert_true(!memcmp(m->data, in->data, in->size));
        image_close(image);
    }
    g_clear_error(&err);
    mem_free(m);
}

static void coroutine_fn change(const Input *in)
{
    MemFile *m = load(in);
    BdrvChild *image = image_open(m, NULL, false, NULL);
    g_autofree uint8_t *buf = g_malloc0(PART);
    int64_t length;

    if (image) {
        length = image->bs->length;
        bdrv_co_pwrite(image, 0, MIN(PART, length), buf, 0);
        bdrv_co_pwrite(image, length / 2, MIN(PART, length - length / 2), buf, 0);
        bdrv_co_pwrite_zeroes(image, 0, MIN(PART * 4, length), BDRV_REQ_MAY_UNMAP);
        bdrv_co_pdiscard(image, 0, MIN(PART * 4, length));
        bdrv_co_flush(image->bs);
        read_parts(image, in);
        image_close(image);
    }
    mem_free(m);
}

/* Repaired twice: what the first time could not, the second must survive too. */
static void coroutine_fn repair(const Input *in)
{
    MemFile *m = load(in);

    for (int i = 0; i < 2; i++) {
        BdrvChild *image = image_open(m, NULL, false, NULL);
        BdrvCheckResult result = { 0 };

        if (image) {
            image->bs->drv->co_check(image->bs, &result, BDRV_FIX_LEAKS | BDRV_FIX_ERRORS, NULL);
            image_close(image);
        }
    }
    mem_free(m);
}

static void coroutine_fn entry(void *opaque)
{
    const Input *in = opaque;

    examine(in);
    change(in);
    repair(in);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool ready;
    Input in = { data, size };

    if (!ready) {
        main_aio_context_init();
        bdrv_init();
        ready = true;
    }
    bdrv_probe(data, size, "image");
    aio_co_run_sync(main_aio_context(), entry, &in);
    return 0;
}
