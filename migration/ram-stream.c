/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sending the machine's state as records; see ram-stream.h.  Snapshot thread. */
#include <errno.h>
#include <string.h>
#include "ram-stream.h"

#define MAX_IOV 1024 /* what the kernel takes at once */
#define FLUSH_BYTES ((size_t)1 << 20)
#define SMALL_BYTES ((size_t)64 << 10)
/* The longest record header: offset, length of the name, name. */
#define MAX_RECORD (8 + 1 + 255)

struct RamStream {
    const Machine *m;
    MigChannel *ch;
    struct iovec iov[MAX_IOV];
    int niov;
    size_t pending;
    uint64_t bytes;
    uint8_t small[SMALL_BYTES]; /* what is not in guest memory */
    size_t small_len;
    int last_block; /* of the record before, in this part; -1: none */
    const StreamLayout *layout;
    CoMutex lock; /* the sink's writers take turns */
};

RamStream *ram_stream_new(const Machine *m, MigChannel *ch)
{
    RamStream *rs = g_new0(RamStream, 1);

    rs->m = m;
    rs->ch = ch;
    rs->last_block = -1;
    co_mutex_init(&rs->lock);
    return rs;
}

void ram_stream_free(RamStream *rs)
{
    if (rs) {
        co_mutex_destroy(&rs->lock);
        g_free(rs);
    }
}

uint64_t ram_stream_bytes(RamStream *rs)
{
    return rs->bytes + rs->pending;
}

int coroutine_fn ram_stream_flush(RamStream *rs)
{
    int ret = mig_channel_writev(rs->ch, rs->iov, rs->niov);

    rs->bytes += rs->pending;
    rs->niov = 0;
    rs->pending = rs->small_len = 0;
    return ret;
}

static void add(RamStream *rs, void *base, size_t len)
{
    struct iovec *last = rs->niov ? &rs->iov[rs->niov - 1] : NULL;

    if (last && (uint8_t *)last->iov_base + last->iov_len == (uint8_t *)base) {
        last->iov_len += len;
    } else {
        rs->iov[rs->niov++] = (struct iovec){.iov_base = base, .iov_len = len};
    }
    rs->pending += len;
}

/* Room for one more record. */
static int coroutine_fn make_room(RamStream *rs, size_t small)
{
    if (rs->niov + 2 > MAX_IOV || rs->pending >= FLUSH_BYTES ||
        rs->small_len + small > SMALL_BYTES) {
        return ram_stream_flush(rs);
    }
    return 0;
}

static void add_small(RamStream *rs, const void *data, size_t len)
{
    uint8_t *at = rs->small + rs->small_len;

    memcpy(at, data, len);
    rs->small_len += len;
    add(rs, at, len);
}

int coroutine_fn ram_stream_put(RamStream *rs, const uint8_t *data, size_t len)
{
    while (len) {
        size_t n = MIN(len, SMALL_BYTES / 2);
        int ret = make_room(rs, n);

        if (ret < 0) {
            return ret;
        }
        add_small(rs, data, n);
        data += n;
        len -= n;
    }
    return 0;
}

/* --- Records -------------------------------------------------------------------------------- */

static void add_record(RamStream *rs, int block, size_t page, uint64_t flag)
{
    const RAMBlock *ram = &rs->m->ram[block];
    bool same = block == rs->last_block;
    uint64_t word =
        GUINT64_TO_BE(page * RAM_PAGE | flag | (same ? RAM_FLAG_CONTINUE : 0));
    uint8_t len = strlen(ram->idstr);

    add_small(rs, &word, sizeof(word));
    if (!same) {
        add_small(rs, &len, 1);
        add_small(rs, ram->idstr, len);
        rs->last_block = block;
    }
}

static int coroutine_fn put_page(void *opaque, int block, size_t page, uint8_t *host)
{
    RamStream *rs = opaque;
    int ret = make_room(rs, MAX_RECORD);

    if (ret == 0) {
        add_record(rs, block, page, RAM_FLAG_PAGE);
        add(rs, host, RAM_PAGE);
    }
    return ret;
}

static int coroutine_fn put_zero(void *opaque, int block, size_t page)
{
    RamStream *rs = opaque;
    uint8_t zero = 0;
    int ret = make_room(rs, MAX_RECORD + 1);

    if (ret == 0) {
        add_record(rs, block, page, RAM_FLAG_ZERO);
        add_small(rs, &zero, 1);
    }
    return ret;
}

int coroutine_fn ram_stream_begin_part(RamStream *rs)
{
    uint8_t head[5] = {STREAM_SECTION_PART};

    head[4] = STREAM_RAM_SECTION_ID;
    rs->last_block = -1;
    return ram_stream_put(rs, head, sizeof(head));
}

static int coroutine_fn end_part(RamStream *rs)
{
    uint8_t end[8 + 5] = {0};

    end[7] = RAM_FLAG_END;
    end[8] = STREAM_FOOTER;
    end[12] = STREAM_RAM_SECTION_ID;
    return ram_stream_put(rs, end, sizeof(end));
}

static int coroutine_fn target_begin(void *opaque)
{
    return ram_stream_begin_part(opaque);
}

static int coroutine_fn target_flush(void *opaque)
{
    return ram_stream_flush(opaque);
}

static int coroutine_fn target_end(void *opaque)
{
    return end_part(opaque);
}

static uint64_t target_bytes(void *opaque)
{
    return ram_stream_bytes(opaque);
}

void ram_stream_target(RamStream *rs, RamTarget *target)
{
    *target = (RamTarget){.begin_pass = target_begin, .page = put_page, .zero = put_zero,
                          .flush = target_flush, .end_pass = target_end, .bytes = target_bytes,
                          .opaque = rs};
}

/* --- A snapshot in the background -------------------------------------------------------------- */

static int find_block(RamStream *rs, uint64_t offset, uint64_t len)
{
    for (int i = 0; i < rs->layout->nr_blocks; i++) {
        const StreamBlock *b = &rs->layout->blocks[i];

        if (offset >= b->pages_offset && offset - b->pages_offset <= b->length &&
            len <= b->length - (offset - b->pages_offset)) {
            return i;
        }
    }
    return -1;
}

/* A page that is written twice is sent twice: the later record counts. */
static int coroutine_fn sink_write(void *opaque, uint64_t offset, IOVector *iov)
{
    RamStream *rs = opaque;
    int block = find_block(rs, offset, iov->size), ret = 0;
    size_t page;

    if (block < 0) {
        return 0;
    }
    page = (offset - rs->layout->blocks[block].pages_offset) / RAM_PAGE;
    co_mutex_lock(&rs->lock);
    for (int i = 0; i < iov->niov && ret == 0; i++) {
        for (size_t at = 0; at < iov->iov[i].iov_len && ret == 0; at += RAM_PAGE) {
            ret = put_page(rs, block, page++, (uint8_t *)iov->iov[i].iov_base + at);
        }
    }
    /* The caller may use its memory for something else now. */
    if (ret == 0) {
        ret = ram_stream_flush(rs);
    }
    co_mutex_unlock(&rs->lock);
    return ret;
}

void ram_stream_sink(RamStream *rs, const StreamLayout *layout, RamSink *sink)
{
    rs->layout = layout;
    *sink = (RamSink){.write = sink_write, .opaque = rs};
}
