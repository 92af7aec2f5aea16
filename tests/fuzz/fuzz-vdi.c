/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A VDI image: the input is its file. */
#include "fuzz-format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return fuzz_format(&bdrv_vdi_driver, mem_new(data, size));
}
