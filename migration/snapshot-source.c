/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading machine state (snapshot-source.h).  The map is a sorted array of extents, built
 * once and read in any context without locks.  What lies there is the snapshot's alone,
 * which is pinned, so nobody writes it.
 */
#include <errno.h>
#include <string.h>
#include "qapi/error.h"
#include "snapshot-source.h"

/* Looked up before others get a turn in the node's context. */
#define MAP_BATCH 4096

typedef struct Extent {
    uint64_t offset; /* in the machine state */
    uint64_t length;
    int64_t file_offset; /* -1: zeros */
    uint32_t file_bytes; /* 0: as it is; else a unit, compressed */
} Extent;

struct SnapshotSource {
    BlockDriverState *bs;
    BdrvSnapshotReader *reader;
    BdrvSnapshotInfo info;
    BlockDriverState *file; /* below bs, once mapped */
    int64_t align;          /* of its requests */
    GArray *extents; /* Extent, ascending, without gaps inside a block */
};

SnapshotSource *coroutine_fn snapshot_source_open(BlockDriverState *bs, const char *tag,
                                                  GError **errp)
{
    AioContext *home = aio_current();
    SnapshotSource *s = g_new0(SnapshotSource, 1);

    s->bs = bs;
    s->extents = g_array_new(false, false, sizeof(Extent));
    aio_co_reschedule_self(bdrv_context(bs));
    s->reader = bdrv_co_snapshot_open(bs, tag, errp);
    if (s->reader) {
        s->info = *bdrv_snapshot_reader_info(s->reader);
    }
    aio_co_reschedule_self(home);
    if (!s->reader) {
        g_array_unref(s->extents);
        g_free(s);
        return NULL;
    }
    return s;
}

void coroutine_fn snapshot_source_close(SnapshotSource *s)
{
    AioContext *home = aio_current();

    aio_co_reschedule_self(bdrv_context(s->bs));
    bdrv_co_snapshot_close(s->reader);
    aio_co_reschedule_self(home);
    g_array_unref(s->extents);
    g_free(s);
}

const BdrvSnapshotInfo *snapshot_source_info(SnapshotSource *s)
{
    return &s->info;
}

static int coroutine_fn source_read(void *opaque, uint64_t offset, IOVector *iov)
{
    SnapshotSource *s = opaque;
    AioContext *home = aio_current();
    int ret;

    aio_co_reschedule_self(bdrv_context(s->bs));
    ret = bdrv_co_snapshot_read(s->reader, offset, iov);
    aio_co_reschedule_self(home);
    return ret;
}

static int coroutine_fn stream_read(void *opaque, uint64_t offset, void *buf, size_t len)
{
    IOVector iov;

    io_vector_init_buf(&iov, buf, len);
    return source_read(opaque, offset, &iov);
}

void snapshot_source_stream(SnapshotSource *s, StreamSource *out)
{
    *out = (StreamSource){.read = stream_read, .opaque = s, .size = s->info.vm_state_size};
}

/* --- The map -------------------------------------------------------------------------------- */

static void add_extent(SnapshotSource *s, uint64_t offset, uint64_t length, int64_t file_offset)
{
    Extent *last = s->extents->len ? &g_array_index(s->extents, Extent, s->extents->len - 1)
                                   : NULL;
    Extent e = {.offset = offset, .length = length, .file_offset = file_offset};

    if (last && !last->file_bytes && last->offset + last->length == offset &&
        (file_offset < 0 ? last->file_offset < 0
                         : last->file_offset + (int64_t)last->length == file_offset)) {
        last->length += length;
    } else {
        g_array_append_val(s->extents, e);
    }
}

/* The compressed unit with the state's byte at, of which end is the last one of interest. */
static int coroutine_fn map_packed(SnapshotSource *s, uint64_t at, uint64_t end, uint64_t *pnum)
{
    BdrvSnapshotPacked p;
    int ret = bdrv_co_snapshot_map_packed(s->reader, at, &p);
    Extent e;

    if (ret < 0) {
        return ret;
    }
    if (p.file_offset > (uint64_t)INT64_MAX - p.file_bytes || at - p.offset >= p.bytes) {
        return -EINVAL;
    }
    /* A unit that two blocks have a part in is one extent for each of them. */
    e = (Extent){.offset = p.offset, .length = p.bytes, .file_offset = p.file_offset,
                 .file_bytes = p.file_bytes};
    g_array_append_val(s->extents, e);
    *pnum = MIN(p.offset + p.bytes, end) - at;
    return 0;
}

/* In the node's context; align: what every extent must be a multiple of. */
static int coroutine_fn map_block(SnapshotSource *s, const StreamBlock *b, int64_t align)
{
    uint64_t at = b->pages_offset, end = b->pages_offset + b->length;

    for (int n = 1; at < end; n++) {
        uint64_t pnum = 0;
        int64_t map;
        int ret = bdrv_co_snapshot_map(s->reader, at, end - at, &pnum, &map);
        bool packed = ret == -ENOTSUP;

        if (packed) {
            ret = map_packed(s, at, end, &pnum);
        }
        if (ret < 0) {
            return ret;
        }
        if (pnum == 0 || pnum > end - at) {
            return -EINVAL;
        }
        if (!packed) {
            if (pnum % align || (map >= 0 && map % align)) {
                return -ENOTSUP;
            }
            add_extent(s, at, pnum, map);
        }
        at += pnum;
        if (n % MAP_BATCH == 0) {
            co_sleep_ns(0);
        }
    }
    return 0;
}

bool coroutine_fn snapshot_source_map(SnapshotSource *s, const StreamLayout *l, GError **errp)
{
    AioContext *home = aio_current();
    BlockDriverState *file = bdrv_file(s->bs);
    int64_t align;
    int ret = 0;

    aio_co_reschedule_self(bdrv_context(s->bs));
    align = file ? bdrv_aside_alignment(file) : 0;
    for (int i = 0; i < l->nr_blocks && align && ret == 0; i++) {
        ret = map_block(s, &l->blocks[i], align);
    }
    aio_co_reschedule_self(home);
    if (!align || align > (int64_t)STREAM_PAGE_SIZE) {
        error_setg(errp, "node '%s' is not an image in a local file", bdrv_node_name(s->bs));
        return false;
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "RAM cannot be read straight from the file of node '%s'",
                         bdrv_node_name(s->bs));
        return false;
    }
    s->file = file;
    s->align = align;
    return true;
}

static const Extent *find_extent(SnapshotSource *s, uint64_t offset)
{
    guint low = 0, high = s->extents->len;

    while (low < high) {
        guint mid = low + (high - low) / 2;
        const Extent *e = &g_array_index(s->extents, Extent, mid);

        if (offset < e->offset) {
            high = mid;
        } else if (offset >= e->offset + e->length) {
            low = mid + 1;
        } else {
            return e;
        }
    }
    return NULL;
}

/* len bytes from skip on of the unit e.  Unpacked here: nobody else shall be needed. */
static int coroutine_fn read_packed(SnapshotSource *s, const Extent *e, uint64_t skip, void *buf,
                                    size_t len)
{
    BdrvSnapshotPacked packed = {.offset = e->offset, .bytes = e->length,
                                 .file_bytes = e->file_bytes, .file_offset = e->file_offset};
    int64_t start = e->file_offset / s->align * s->align;
    size_t before = e->file_offset - start;
    size_t size = (before + e->file_bytes + s->align - 1) / s->align * s->align;
    uint8_t *in = g_aligned_alloc(1, size, MAX(s->align, 64));
    uint8_t *whole = len < e->length ? g_malloc(e->length) : NULL;
    IOVector iov;
    int ret;

    io_vector_init_buf(&iov, in, size);
    ret = bdrv_co_preadv_aside(s->file, start, &iov);
    if (ret == 0) {
        ret = bdrv_snapshot_unpack(s->reader, &packed, in + before, whole ? whole : buf);
    }
    if (ret == 0 && whole) {
        memcpy(buf, whole + skip, len);
    }
    g_aligned_free(in);
    g_free(whole);
    return ret;
}

/* Any context. */
static int coroutine_fn source_read_aside(void *opaque, uint64_t offset, void *buf, size_t len)
{
    SnapshotSource *s = opaque;
    uint8_t *p = buf;

    while (len) {
        const Extent *e = find_extent(s, offset);
        size_t n;

        if (!e) {
            return -EINVAL;
        }
        n = MIN(len, e->offset + e->length - offset);
        if (e->file_offset < 0) {
            memset(p, 0, n);
        } else if (e->file_bytes) {
            int ret = read_packed(s, e, offset - e->offset, p, n);

            if (ret < 0) {
                return ret;
            }
        } else {
            IOVector iov;
            int ret;

            io_vector_init_buf(&iov, p, n);
            ret = bdrv_co_preadv_aside(s->file, e->file_offset + (offset - e->offset), &iov);
            if (ret < 0) {
                return ret;
            }
        }
        p += n;
        offset += n;
        len -= n;
    }
    return 0;
}

void snapshot_source_ram(SnapshotSource *s, RamLoadSource *out)
{
    *out = (RamLoadSource){
        .read = source_read,
        .read_aside = s->file ? source_read_aside : NULL,
        .opaque = s,
    };
}
