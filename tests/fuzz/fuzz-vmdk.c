/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A VMDK image: the input is its file.  If that is a descriptor, everything behind its first
 * NUL is the file of the extent.
 */
#include "fuzz-format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *nul = size ? memchr(data, 0, size) : NULL;
    MemFile *m;

    if ((size >= 4 && !memcmp(data, "KDMV", 4)) || !nul) {
        m = mem_new(data, size);
        m->guest_data = nul ? NULL : mem_new("", 0);
    } else {
        m = mem_new(data, nul - data);
        m->guest_data = mem_new(nul + 1, size - (nul + 1 - data));
    }
    return fuzz_format(&bdrv_vmdk_driver, m);
}
