/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Compressed clusters: raw deflate streams (window of 4 KiB), or zstd frames.  Packing, and
 * unpacking for the guest, is done in a worker thread, so that the I/O thread goes on.
 */
#include <zlib.h>
#include "block/debug.h"
#include "qcow2.h"
#if CONFIG_ZSTD
#include <zstd.h>
#endif

static const struct {
    int zlib, zstd;
} levels[] = {
    [QCOW2_PACK_FAST] = { 1, 1 },
    [QCOW2_PACK_SMALL] = { Z_DEFAULT_COMPRESSION, 3 },
};

typedef struct Unpack {
    const uint8_t *in;
    uint8_t *out;
    size_t in_bytes, out_bytes;
    int compression;
} Unpack;

static int unpack_zlib(Unpack *u)
{
    z_stream z = { .next_in = (uint8_t *)u->in, .avail_in = u->in_bytes, .next_out = u->out,
                   .avail_out = u->out_bytes };
    int ret;

    if (inflateInit2(&z, -12) != Z_OK) {
        return -ENOMEM;
    }
    ret = inflate(&z, Z_FINISH);
    inflateEnd(&z);
    /* The last sector may hold bytes behind the stream. */
    return (ret == Z_STREAM_END || ret == Z_BUF_ERROR) && z.avail_out == 0 ? 0 : -EIO;
}

#if CONFIG_ZSTD
static int unpack_zstd(Unpack *u)
{
    ZSTD_DCtx *d = ZSTD_createDCtx();
    ZSTD_inBuffer in = { u->in, u->in_bytes, 0 };
    ZSTD_outBuffer out = { u->out, u->out_bytes, 0 };

    if (!d) {
        return -ENOMEM;
    }
    while (out.pos < out.size) {
        size_t in_before = in.pos, out_before = out.pos;
        size_t ret = ZSTD_decompressStream(d, &out, &in);

        if (ZSTD_isError(ret) || (in.pos == in_before && out.pos == out_before)) {
            break;
        }
    }
    ZSTD_freeDCtx(d);
    return out.pos == out.size ? 0 : -EIO;
}
#endif

static int unpack(void *opaque)
{
    Unpack *u = opaque;

#if CONFIG_ZSTD
    if (u->compression == 1) {
        return unpack_zstd(u);
    }
#endif
    return unpack_zlib(u);
}

int qcow2_unpack(int compression, const void *in, size_t in_bytes, void *out, size_t out_bytes)
{
    Unpack u = { in, out, in_bytes, out_bytes, compression };

    return unpack(&u);
}

/* --- Packing ---------------------------------------------------------------------------------- */

/* What packs one cluster after the other: one of them, not both. */
typedef struct Packer {
    z_stream z;
    int zstd_level;
#if CONFIG_ZSTD
    ZSTD_CCtx *zstd;
#endif
} Packer;

/* The packed size, or 0 if there is not enough room at out. */
static size_t pack_one(Packer *p, const uint8_t *in, size_t size, uint8_t *out, size_t room)
{
#if CONFIG_ZSTD
    if (p->zstd) {
        size_t ret = ZSTD_compressCCtx(p->zstd, out, room, in, size, p->zstd_level);

        return ZSTD_isError(ret) ? 0 : ret;
    }
#endif
    deflateReset(&p->z);
    p->z.next_in = (uint8_t *)in;
    p->z.avail_in = size;
    p->z.next_out = out;
    p->z.avail_out = room;
    return deflate(&p->z, Z_FINISH) == Z_STREAM_END ? room - p->z.avail_out : 0;
}

int qcow2_pack(int compression, Qcow2PackEffort effort, const uint8_t *in, size_t n, size_t size,
               uint8_t *out, uint32_t *sizes)
{
    Packer p = { .zstd_level = levels[effort].zstd };

#if CONFIG_ZSTD
    if (compression == 1) {
        p.zstd = ZSTD_createCCtx();
        if (!p.zstd) {
            return -ENOMEM;
        }
    }
#endif
    if (compression == 0 &&
        deflateInit2(&p.z, levels[effort].zlib, Z_DEFLATED, -12, 9, Z_DEFAULT_STRATEGY) != Z_OK) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < n; i++, in += size, out += size) {
        size_t packed = size > 512 ? pack_one(&p, in, size, out, size - 512) : 0;

        memset(out + packed, 0, -packed & 511);
        sizes[i] = packed;
    }
#if CONFIG_ZSTD
    ZSTD_freeCCtx(p.zstd);
#endif
    if (compression == 0) {
        deflateEnd(&p.z);
    }
    return 0;
}

int coroutine_fn qcow2_read_compressed(BlockDriverState *bs, uint64_t entry, uint8_t *buf)
{
    Qcow2State *s = bs->opaque;
    uint64_t offset, bytes, length = bs->file->bs->length;
    g_autofree uint8_t *in = NULL;
    Unpack u;
    int ret;

    qcow2_compressed_extent(s, entry, &offset, &bytes);
    if (offset >= length) {
        return -EIO;
    }
    bytes = MIN(bytes, length - offset);
    in = g_try_malloc(bytes);
    if (!in) {
        return -ENOMEM;
    }
    bdrv_co_debug_event(bs->file, BLKDEBUG_EVENT_READ_COMPRESSED);
    ret = bdrv_co_pread(bs->file, offset, bytes, in, 0);
    if (ret < 0) {
        return ret;
    }
    u = (Unpack) { in, buf, bytes, s->cluster_size, s->compression };
    return co_run_in_worker(unpack, &u);
}
