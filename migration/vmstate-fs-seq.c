/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A snapshot's machine state as `migrate` sends it through a pipe: pages as records one
 * behind the other instead of at places of their own.  Made while it is read, at any offset.
 *
 *   header, section start "ram" | part of section "ram": a record for each page present |
 *   end of the part, section end, devices, description
 *
 * A block's first record has its name, the others are all of one length; so a page's record
 * is found with the numbers of pages present before every 32768th page.  Zero pages have no
 * record: who loads this begins with zeros.
 */
#include <errno.h>
#include <string.h>
#include "vmstate-fs-int.h"

#define GROUP_PAGES (VMSTATE_SEQ_GROUP_BYTES * 8)
#define RECORD_BYTES (8 + STREAM_PAGE_SIZE)
/* Pages read from the image at once at most. */
#define MAX_RUN 64

typedef struct SeqBlock {
    uint64_t offset, size; /* of its records in the file */
    uint64_t first_bytes;  /* of the first record */
    const GArray *before;  /* uint64_t for each group, and all of them at the end */
} SeqBlock;

struct VMSequential {
    const StreamSource *src;
    const StreamLayout *layout;
    GByteArray *head;
    const GByteArray *tail;
    SeqBlock *blocks;
    uint64_t tail_offset, size;
};

/* The bitmap of one group of a block. */
typedef struct Cursor {
    uint8_t bits[VMSTATE_SEQ_GROUP_BYTES];
    int block; /* -1: none */
    uint64_t group;
} Cursor;

static GByteArray *make_head(const StreamLayout *l)
{
    g_autofree RAMBlock *ram = g_new0(RAMBlock, l->nr_blocks);
    GByteArray *head = stream_sequential_header(l->machine_type), *start;

    for (int i = 0; i < l->nr_blocks; i++) {
        g_strlcpy(ram[i].idstr, l->blocks[i].idstr, sizeof(ram[i].idstr));
        ram[i].size = l->blocks[i].length;
    }
    start = stream_sequential_ram(ram, l->nr_blocks);
    g_byte_array_append(head, start->data, start->len);
    g_byte_array_unref(start);
    vm_put_u8(head, STREAM_SECTION_PART);
    vm_put_be32(head, STREAM_RAM_SECTION_ID);
    return head;
}

static uint64_t pages_present(const SeqBlock *b)
{
    return g_array_index(b->before, uint64_t, b->before->len - 1);
}

VMSequential *vmstate_sequential_new(const StreamSource *src, const StreamLayout *l,
                                     const GByteArray *tail, GArray *const *before)
{
    VMSequential *s = g_new0(VMSequential, 1);

    s->src = src;
    s->layout = l;
    s->head = make_head(l);
    s->tail = tail;
    s->blocks = g_new0(SeqBlock, l->nr_blocks);
    s->tail_offset = s->head->len;
    for (int i = 0; i < l->nr_blocks; i++) {
        SeqBlock *b = &s->blocks[i];

        b->before = before[i];
        b->offset = s->tail_offset;
        b->first_bytes = RECORD_BYTES + 1 + strlen(l->blocks[i].idstr);
        if (pages_present(b)) {
            b->size = b->first_bytes + (pages_present(b) - 1) * RECORD_BYTES;
        }
        s->tail_offset += b->size;
    }
    s->size = s->tail_offset + s->tail->len;
    return s;
}

void vmstate_sequential_free(VMSequential *s)
{
    if (s) {
        g_byte_array_unref(s->head);
        g_free(s->blocks);
        g_free(s);
    }
}

uint64_t vmstate_sequential_size(const VMSequential *s)
{
    return s->size;
}

/* --- From records to pages --------------------------------------------------------------------- */

/* The group that has the block's n-th page present. */
static uint64_t find_group(const SeqBlock *b, uint64_t n)
{
    uint64_t low = 0, high = b->before->len - 1;

    while (high - low > 1) {
        uint64_t middle = low + (high - low) / 2;

        if (g_array_index(b->before, uint64_t, middle) <= n) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

static bool is_present(const Cursor *c, uint64_t page)
{
    uint64_t bit = page % GROUP_PAGES;

    return c->bits[bit / 8] >> (bit % 8) & 1;
}

/*
 * Finds the block's n-th page present.  Returns its number, or -errno: -EIO also when the
 * bitmap is not what it was when the file was opened.
 */
static int64_t coroutine_fn find_present(VMSequential *s, int block, uint64_t n, Cursor *c)
{
    const StreamBlock *sb = &s->layout->blocks[block];
    const SeqBlock *b = &s->blocks[block];
    uint64_t group = find_group(b, n), first = group * VMSTATE_SEQ_GROUP_BYTES;
    uint64_t left = n - g_array_index(b->before, uint64_t, group);
    size_t bytes = MIN(VMSTATE_SEQ_GROUP_BYTES, sb->bitmap_bytes - first);

    if (c->block != block || c->group != group) {
        int ret = s->src->read(s->src->opaque, sb->bitmap_offset + first, c->bits, bytes);

        if (ret < 0) {
            return ret;
        }
        c->block = block;
        c->group = group;
    }
    for (size_t i = 0; i < bytes; i++) {
        unsigned count = __builtin_popcount(c->bits[i]);

        if (left >= count) {
            left -= count;
            continue;
        }
        for (int bit = 0; bit < 8; bit++) {
            if ((c->bits[i] >> bit & 1) && left-- == 0) {
                return group * GROUP_PAGES + i * 8 + bit;
            }
        }
    }
    return -EIO;
}

/* What stands in front of a page; returns its length. */
static size_t put_record_head(const StreamBlock *b, uint64_t page, bool first, uint8_t *out)
{
    uint64_t word = GUINT64_TO_BE(page * STREAM_PAGE_SIZE | RAM_FLAG_PAGE |
                                  (first ? 0 : RAM_FLAG_CONTINUE));
    size_t len = strlen(b->idstr);

    memcpy(out, &word, 8);
    if (!first) {
        return 8;
    }
    out[8] = len;
    memcpy(out + 9, b->idstr, len);
    return 9 + len;
}

/* Bytes of a record from skip on go to buf, at most len; returns how many. */
static size_t copy_record(const StreamBlock *b, uint64_t page, bool first, const uint8_t *data,
                          uint64_t skip, uint8_t *buf, size_t len)
{
    uint8_t head[9 + 255];
    size_t head_len = put_record_head(b, page, first, head), done = 0;

    if (skip < head_len) {
        done = MIN(len, head_len - skip);
        memcpy(buf, head + skip, done);
        skip = head_len;
    }
    if (done < len) {
        size_t n = MIN(len - done, STREAM_PAGE_SIZE - (skip - head_len));

        memcpy(buf + done, data + (skip - head_len), n);
        done += n;
    }
    return done;
}

/*
 * Reads the record of the block's n-th page present from its byte skip on, and those of the
 * pages that follow at once.  data has room for MAX_RUN pages.  Returns how many bytes, or
 * -errno.
 */
static int64_t coroutine_fn read_run(VMSequential *s, int block, uint64_t n, uint64_t skip,
                                     uint8_t *buf, size_t len, uint8_t *data, Cursor *c)
{
    const StreamBlock *b = &s->layout->blocks[block];
    int64_t page = find_present(s, block, n, c);
    uint64_t most = MIN(MAX_RUN, (len + skip) / RECORD_BYTES + 1), run = 1;
    size_t done = 0;
    int ret;

    if (page < 0) {
        return page;
    }
    most = MIN(most, pages_present(&s->blocks[block]) - n);
    most = MIN(most, GROUP_PAGES - (uint64_t)page % GROUP_PAGES);
    while (run < most && is_present(c, page + run)) {
        run++;
    }
    ret = s->src->read(s->src->opaque, b->pages_offset + page * STREAM_PAGE_SIZE, data,
                       run * STREAM_PAGE_SIZE);
    if (ret < 0) {
        return ret;
    }
    for (uint64_t i = 0; i < run && done < len; i++) {
        done += copy_record(b, page + i, n + i == 0, data + i * STREAM_PAGE_SIZE, i ? 0 : skip,
                            buf + done, len - done);
    }
    return done;
}

/* --- Reading --------------------------------------------------------------------------------------- */

static int64_t coroutine_fn read_records(VMSequential *s, uint64_t offset, uint8_t *buf,
                                         size_t len, uint8_t *data, Cursor *c)
{
    int block = 0;
    uint64_t at, n = 0;
    const SeqBlock *b;

    while (offset - s->blocks[block].offset >= s->blocks[block].size) {
        block++;
    }
    b = &s->blocks[block];
    at = offset - b->offset;
    len = MIN(len, b->size - at);
    if (at >= b->first_bytes) {
        n = 1 + (at - b->first_bytes) / RECORD_BYTES;
        at = (at - b->first_bytes) % RECORD_BYTES;
    }
    return read_run(s, block, n, at, buf, len, data, c);
}

static size_t copy_part(const GByteArray *part, uint64_t offset, uint8_t *buf, size_t len)
{
    size_t n = MIN(len, part->len - offset);

    memcpy(buf, part->data + offset, n);
    return n;
}

int coroutine_fn vmstate_sequential_read(VMSequential *s, uint64_t offset, uint8_t *buf,
                                         size_t len)
{
    g_autofree Cursor *c = g_new0(Cursor, 1);
    g_autofree uint8_t *data = g_malloc(MAX_RUN * STREAM_PAGE_SIZE);

    c->block = -1;
    while (len) {
        int64_t n;

        if (offset < s->head->len) {
            n = copy_part(s->head, offset, buf, len);
        } else if (offset >= s->tail_offset) {
            n = copy_part(s->tail, offset - s->tail_offset, buf, len);
        } else {
            n = read_records(s, offset, buf, len, data, c);
        }
        if (n < 0) {
            return n;
        }
        offset += n;
        buf += n;
        len -= n;
    }
    return 0;
}
