/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The list of block drivers, and how a format is recognised.  Constant: any thread. */
#include <string.h>
#include "block/block-int.h"

static const BlockDriver *const drivers[] = {
    &bdrv_file_driver,
    &bdrv_raw_driver,
    &bdrv_qcow2_driver,
    &bdrv_blkdebug_driver,
    &bdrv_blklogwrites_driver,
    &bdrv_blkverify_driver,
    &bdrv_copy_on_read_driver,
    &bdrv_host_device_driver,
    &bdrv_null_aio_driver,
    &bdrv_null_co_driver,
    &bdrv_vdi_driver,
    &bdrv_vhdx_driver,
    &bdrv_vmdk_driver,
};

const BlockDriver *bdrv_driver_by_name(const char *name)
{
    for (size_t i = 0; i < G_N_ELEMENTS(drivers); i++) {
        if (!strcmp(drivers[i]->name, name)) {
            return drivers[i];
        }
    }
    return NULL;
}

/* A LUKS container (version 1): taken for raw, its ciphertext would be copied as a disk's content. */
static bool is_luks(const uint8_t *buf, size_t len)
{
    static const uint8_t magic[] = { 'L', 'U', 'K', 'S', 0xba, 0xbe, 0, 1 };

    return len >= sizeof(magic) && !memcmp(buf, magic, sizeof(magic));
}

const BlockDriver *bdrv_probe(const uint8_t *buf, size_t len, const char *filename)
{
    const BlockDriver *best = &bdrv_raw_driver;
    int best_score = 0;

    for (size_t i = 0; i < G_N_ELEMENTS(drivers); i++) {
        int score = drivers[i]->probe ? drivers[i]->probe(buf, len, filename) : 0;

        if (score > best_score) {
            best = drivers[i];
            best_score = score;
        }
    }
    return best == &bdrv_raw_driver && is_luks(buf, len) ? NULL : best;
}
