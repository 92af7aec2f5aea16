/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A VHDX image.  Its structures lie far apart, so the input has them one after the other, as
 * far as it reaches: what it does not have is that of a sound image.  The checksums are made
 * right, but for those that the last byte of the input names.
 */
#include "fuzz-format.h"

static const struct {
    uint32_t offset, bytes;
} pieces[] = {
    { 0, 8 },
    { 64 << 10, 80 },
    { 128 << 10, 80 },
    { 192 << 10, 144 },
    { 256 << 10, 144 },
    { VHDX_METADATA, 256 },
    { VHDX_ITEMS, 64 },
    { VHDX_BAT, 1024 },
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static MemFile *sample;
    MemFile *m = mem_clone(sample = sample ? sample : vhdx_sample());
    uint8_t broken = size ? data[size - 1] : 0;

    for (size_t i = 0; i < G_N_ELEMENTS(pieces); i++) {
        size_t n = MIN(size, pieces[i].bytes);

        if (n) {
            put_bytes(m, pieces[i].offset, data, n);
            data += n;
            size -= n;
        }
    }
    vhdx_seal(m);
    for (int i = 0; i < 4; i++) { /* the headers and the region tables, 64 KiB apart */
        m->data[((i + 1) << 16) + 5] ^= (broken >> i) & 1;
    }
    return fuzz_format(&bdrv_vhdx_driver, m);
}
