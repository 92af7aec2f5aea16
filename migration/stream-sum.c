/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The checksum of a machine state: SHA-256 over all that a load trusts but the pages
 * themselves, that is where each block's pages lie, which of them are there, and the devices.
 * It stands in the description that ends the stream, as its first member, so that those who
 * know nothing of it read over it.  States made before it was written have none.
 *
 * Hashed are: for each RAM block its name with the length in front, its length, the offsets of
 * bitmap and pages (8 bytes each, big endian) and the SHA-256 of the bitmap; then what lies
 * behind the pages, up to and with the end of file mark.
 */
#include <string.h>
#include "qapi/error.h"
#include "stream-int.h"

#define PREFIX "{\"" STREAM_SUM_MEMBER "\":\"" STREAM_SUM_KIND
#define HEX 64

void stream_sum_bitmap(StreamBlock *b, const void *bytes)
{
    GChecksum *sum = g_checksum_new(G_CHECKSUM_SHA256);
    gsize len = sizeof(b->bitmap_sum);

    g_checksum_update(sum, bytes, b->bitmap_bytes);
    g_checksum_get_digest(sum, b->bitmap_sum, &len);
    g_checksum_free(sum);
}

/* Where the hex digits are in the description; 0: it has none. */
static size_t find_digits(const GByteArray *tail)
{
    const size_t prefix = strlen(PREFIX), head = 6; /* two marks, length */

    for (size_t at = tail->len; at-- > head;) {
        const uint8_t *p = tail->data + at;
        uint32_t len;

        if (*p != '{' || tail->len - at < prefix + HEX || memcmp(p, PREFIX, prefix)) {
            continue;
        }
        memcpy(&len, p - 4, sizeof(len));
        if (p[-6] == STREAM_EOF && p[-5] == STREAM_DESCRIPTION &&
            GUINT32_FROM_BE(len) == tail->len - at) {
            return at + prefix;
        }
    }
    return 0;
}

static char *digits_of(const StreamLayout *l, const GByteArray *tail, size_t digits)
{
    GChecksum *sum = g_checksum_new(G_CHECKSUM_SHA256);
    g_autoptr(GByteArray) blocks = g_byte_array_new();
    char *text;

    for (int i = 0; i < l->nr_blocks; i++) {
        const StreamBlock *b = &l->blocks[i];

        vm_put_counted_string(blocks, b->idstr);
        vm_put_be64(blocks, b->length);
        vm_put_be64(blocks, b->bitmap_offset);
        vm_put_be64(blocks, b->pages_offset);
        g_byte_array_append(blocks, b->bitmap_sum, sizeof(b->bitmap_sum));
    }
    g_checksum_update(sum, blocks->data, blocks->len);
    g_checksum_update(sum, tail->data, digits - strlen(PREFIX) - 5);
    text = g_strdup(g_checksum_get_string(sum));
    g_checksum_free(sum);
    return text;
}

void stream_sum_put(const StreamLayout *l, GByteArray *tail)
{
    size_t digits = find_digits(tail);
    g_autofree char *text = NULL;

    g_assert(digits);
    text = digits_of(l, tail, digits);
    memcpy(tail->data + digits, text, HEX);
}

bool stream_sum_check(const StreamLayout *l, const GByteArray *tail, GError **errp)
{
    size_t digits = find_digits(tail);
    g_autofree char *text = NULL;

    if (!digits || !memcmp(tail->data + digits, STREAM_SUM_NONE, HEX)) {
        return true;
    }
    text = digits_of(l, tail, digits);
    if (memcmp(tail->data + digits, text, HEX)) {
        error_setg(errp, "Machine state is damaged: the checksum over devices and page bitmaps "
                   "is not the one that was saved with them");
        return false;
    }
    return true;
}
