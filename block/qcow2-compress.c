/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Compressed clusters: raw deflate streams (window of 4 KiB), or zstd frames.  Unpacking is
 * done in a worker thread, so that the I/O thread goes on.
 */
#include <zlib.h>
#include "qcow2.h"
#if CONFIG_ZSTD
#include <zstd.h>
#endif

typedef struct Unpack {
    uint8_t *in, *out;
    size_t in_bytes, out_bytes;
    int compression;
} Unpack;

static int unpack_zlib(Unpack *u)
{
    z_stream z = { .next_in = u->in, .avail_in = u->in_bytes, .next_out = u->out,
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
    ret = bdrv_co_pread(bs->file, offset, bytes, in, 0);
    if (ret < 0) {
        return ret;
    }
    u = (Unpack) { in, buf, bytes, s->cluster_size, s->compression };
    return co_run_in_worker(unpack, &u);
}
