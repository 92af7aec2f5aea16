/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Plain arrays of bits for ranges of a disk, the matter of which dirty bitmaps and backups
 * are made.  No state, no lock: whoever owns the array takes care.  Bits behind the last one
 * of the size stay clear, so that words can be counted whole.
 */
#include <string.h>
#include "block/dirty-bitmap.h"
#include "util/iov.h"

#define COPY_WORDS 512

static size_t words_of(const BdrvBits *b)
{
    int64_t n = bdrv_bits_number(b);

    return n / 64 + (n % 64 != 0);
}

bool bdrv_bits_init(BdrvBits *b, int64_t size, int64_t granularity)
{
    b->size = size;
    b->granularity = granularity;
    b->words = bdrv_bits_number(b) > BDRV_BITS_MAX ? NULL
                                                   : g_try_new0(uint64_t, words_of(b) + 1);
    return b->words != NULL;
}

bool bdrv_bits_copy(BdrvBits *b, const BdrvBits *from)
{
    if (!bdrv_bits_init(b, from->size, from->granularity)) {
        return false;
    }
    /* What is clear is not touched: a large array may be mostly memory that nobody has yet. */
    for (size_t w = 0; w < words_of(b); w += COPY_WORDS) {
        size_t bytes = MIN(words_of(b) - w, COPY_WORDS) * 8;

        if (!buffer_is_zero(from->words + w, bytes)) {
            memcpy(b->words + w, from->words + w, bytes);
        }
    }
    return true;
}

void bdrv_bits_shrink(BdrvBits *b, int64_t size)
{
    int64_t kept = size / b->granularity + (size % b->granularity != 0);

    if (size < b->size) {
        bdrv_bits_clear(b, kept * b->granularity, INT64_MAX - kept * b->granularity);
        b->size = size;
    }
}

void bdrv_bits_free(BdrvBits *b)
{
    g_clear_pointer(&b->words, g_free);
}

/* The bits of [offset, offset + bytes) as [*first, *end); false if there are none. */
static bool range(const BdrvBits *b, int64_t offset, int64_t bytes, int64_t *first, int64_t *end)
{
    if (bytes <= 0 || offset >= b->size) {
        return false;
    }
    bytes = MIN(bytes, b->size - offset);
    *first = offset / b->granularity;
    *end = (offset + bytes - 1) / b->granularity + 1;
    return true;
}

/* The bits of word w that lie in [first, end). */
static uint64_t mask_of(int64_t w, int64_t first, int64_t end)
{
    uint64_t mask = UINT64_MAX;

    if (first > w * 64) {
        mask &= UINT64_MAX << (first - w * 64);
    }
    if (end < w * 64 + 64) {
        mask &= ~(UINT64_MAX << (end - w * 64));
    }
    return mask;
}

void bdrv_bits_set(BdrvBits *b, int64_t offset, int64_t bytes)
{
    int64_t first, end;

    if (range(b, offset, bytes, &first, &end)) {
        for (int64_t w = first / 64; w <= (end - 1) / 64; w++) {
            b->words[w] |= mask_of(w, first, end);
        }
    }
}

void bdrv_bits_clear(BdrvBits *b, int64_t offset, int64_t bytes)
{
    int64_t first, end;

    if (range(b, offset, bytes, &first, &end)) {
        for (int64_t w = first / 64; w <= (end - 1) / 64; w++) {
            b->words[w] &= ~mask_of(w, first, end);
        }
    }
}

void bdrv_bits_clear_all(BdrvBits *b)
{
    memset(b->words, 0, words_of(b) * 8);
}

int64_t bdrv_bits_next(const BdrvBits *b, int64_t bit)
{
    size_t words = words_of(b), w = bit / 64;
    uint64_t word;

    if (w >= words) {
        return -1;
    }
    word = b->words[w] & (UINT64_MAX << (bit % 64));
    while (!word) {
        if (++w == words) {
            return -1;
        }
        word = b->words[w];
    }
    return (int64_t)w * 64 + __builtin_ctzll(word);
}

void bdrv_bits_merge(BdrvBits *b, const BdrvBits *from)
{
    if (b->granularity == from->granularity && b->size == from->size) {
        for (size_t w = 0; w < words_of(b); w++) {
            b->words[w] |= from->words[w];
        }
        return;
    }
    for (int64_t bit = bdrv_bits_next(from, 0); bit >= 0; bit = bdrv_bits_next(from, bit + 1)) {
        bdrv_bits_set(b, bit * from->granularity, from->granularity);
    }
}

int64_t bdrv_bits_count(const BdrvBits *b)
{
    int64_t n = 0;

    for (size_t w = 0; w < words_of(b); w++) {
        n += __builtin_popcountll(b->words[w]);
    }
    return n * b->granularity;
}
