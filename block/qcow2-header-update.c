/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Rewriting the header cluster: version, extensions, the name of the backing file.  A disk
 * writes sectors whole but not several of them at once, so an update is made of steps each of
 * which becomes valid by the write of one sector: what the old header does not use is written
 * first, then the one sector that makes the new header refer to it.  Extensions that we do not
 * know stay as they are.
 */
#include "qcow2.h"

#define SECTOR 512
#define V3_LENGTH 112 /* of the headers we make */

/* A header cluster, and which of its bytes mean something. */
typedef struct Image {
    uint8_t *bytes;
    bool *used;
    size_t size;
} Image;

static void image_init(Image *i, size_t size)
{
    i->size = size;
    i->bytes = g_malloc0(size);
    i->used = g_new0(bool, size);
}

static void image_destroy(Image *i)
{
    g_free(i->bytes);
    g_free(i->used);
}

/* false if it does not fit. */
static bool put(Image *i, size_t at, const void *data, size_t len)
{
    if (at > i->size || len > i->size - at) {
        return false;
    }
    memcpy(i->bytes + at, data, len);
    memset(i->used + at, true, len);
    return true;
}

static bool put_extension(Image *i, size_t *at, uint32_t type, const void *data, size_t len)
{
    size_t padded = (len + 7) & ~(size_t)7;
    g_autofree uint8_t *all = g_malloc0(8 + padded);

    qcow2_put32(all, type);
    qcow2_put32(all + 4, len);
    if (len) {
        memcpy(all + 8, data, len);
    }
    if (!put(i, *at, all, 8 + padded)) {
        return false;
    }
    *at += 8 + padded;
    return true;
}

static size_t header_length(const uint8_t *h)
{
    return qcow2_be32(h + 4) >= 3 ? qcow2_be32(h + 100) : QCOW2_V2_HEADER;
}

/* The next extension at *at: its type, data and length; false at the end. */
static bool next_extension(const uint8_t *bytes, size_t end, size_t *at, uint32_t *type,
                           const uint8_t **data, uint32_t *len)
{
    if (end < 8 || *at > end - 8 || qcow2_be32(bytes + *at) == QCOW2_EXT_END) {
        return false;
    }
    *type = qcow2_be32(bytes + *at);
    *len = qcow2_be32(bytes + *at + 4);
    *data = bytes + *at + 8;
    if (*len > end - *at - 8) {
        return false;
    }
    *at += 8 + (((size_t)*len + 7) & ~(size_t)7);
    return true;
}

static size_t extensions_end(const Image *i)
{
    uint64_t name = qcow2_be64(i->bytes + 8);

    return name && name <= i->size ? name : i->size;
}

/* Reads the header cluster and notes what of it is in use. */
static int coroutine_fn load(BlockDriverState *bs, Image *i)
{
    Qcow2State *s = bs->opaque;
    uint64_t length = bs->file->bs->length, name;
    uint32_t type, len;
    const uint8_t *data;
    size_t at;
    int ret;

    image_init(i, s->cluster_size);
    ret = bdrv_co_pread(bs->file, 0, MIN(length, i->size), i->bytes, 0);
    if (ret < 0) {
        return ret;
    }
    at = header_length(i->bytes);
    if (at > i->size) {
        return -EINVAL;
    }
    while (next_extension(i->bytes, extensions_end(i), &at, &type, &data, &len)) {
        ;
    }
    memset(i->used, true, MIN(at + 8, i->size));
    name = qcow2_be64(i->bytes + 8);
    len = qcow2_be32(i->bytes + 16);
    if (name && name <= i->size && len <= i->size - name) {
        memset(i->used + name, true, len);
    }
    return 0;
}

static int coroutine_fn write_sector(BlockDriverState *bs, const Image *i, size_t n)
{
    int ret = bdrv_co_pwrite(bs->file, n * SECTOR, SECTOR, i->bytes + n * SECTOR, 0);

    return ret < 0 ? ret : qcow2_sync_file(bs);
}

/*
 * One step: from what the file has to "to", which is what it has then.  After an error the file
 * has the former header.
 */
static int coroutine_fn commit(BlockDriverState *bs, Image *from, const Image *to)
{
    Qcow2State *s = bs->opaque;
    size_t switch_at = SIZE_MAX;
    int ret = 0;

    for (size_t i = 0; i < to->size; i++) {
        if (to->used[i] && from->used[i] && to->bytes[i] != from->bytes[i]) {
            if (switch_at != SIZE_MAX && switch_at != i / SECTOR) {
                return -ENOSPC; /* no one sector makes the difference */
            }
            switch_at = i / SECTOR;
        }
    }
    for (size_t n = 0; n < to->size / SECTOR && ret >= 0; n++) {
        if (n != switch_at && memcmp(to->bytes + n * SECTOR, from->bytes + n * SECTOR, SECTOR)) {
            ret = bdrv_co_pwrite(bs->file, n * SECTOR, SECTOR, to->bytes + n * SECTOR, 0);
        }
    }
    if (ret >= 0) {
        ret = qcow2_sync_file(bs);
    }
    if (ret >= 0 && switch_at != SIZE_MAX) {
        ret = write_sector(bs, to, switch_at);
        if (ret < 0 && write_sector(bs, from, switch_at) < 0) {
            s->broken = true; /* nobody knows which of the two is there */
        }
    }
    if (ret >= 0) {
        memcpy(from->bytes, to->bytes, to->size);
        memcpy(from->used, to->used, to->size);
    }
    return ret;
}

/* The fixed fields as s has them, behind what is there of a longer header. */
static bool compose_fixed(Qcow2State *s, const Image *from, Image *to, size_t *at)
{
    uint8_t h[QCOW2_V3_HEADER];
    size_t former = header_length(from->bytes);

    memcpy(h, s->header, sizeof(h));
    qcow2_put32(h + 4, s->version);
    qcow2_header_fields(s, h);
    if (s->version < 3) {
        *at = QCOW2_V2_HEADER;
        return put(to, 0, h, QCOW2_V2_HEADER);
    }
    *at = qcow2_be32(from->bytes + 4) >= 3 ? former : V3_LENGTH;
    qcow2_put32(h + 96, s->refcount_order);
    qcow2_put32(h + 100, *at);
    if (!put(to, 0, h, sizeof(h))) {
        return false;
    }
    if (qcow2_be32(from->bytes + 4) >= 3) {
        return put(to, sizeof(h), from->bytes + sizeof(h), former - sizeof(h));
    }
    return put(to, sizeof(h), (uint8_t[V3_LENGTH - QCOW2_V3_HEADER]) { s->compression },
               V3_LENGTH - QCOW2_V3_HEADER);
}

static bool put_bitmaps(Qcow2State *s, Image *to, size_t *at)
{
    uint8_t data[24] = { 0 };

    qcow2_put32(data, s->bitmaps_count);
    qcow2_put64(data + 8, s->bitmaps_size);
    qcow2_put64(data + 16, s->bitmaps_offset);
    return put_extension(to, at, QCOW2_EXT_BITMAPS, data, sizeof(data));
}

/* The table of feature names: made for a new version, kept, or left out where room is short. */
typedef enum Names { NAMES_ALL, NAMES_OLD, NAMES_NONE } Names;

static bool put_format(Qcow2State *s, Image *to, size_t *at)
{
    return put_extension(to, at, QCOW2_EXT_BACKING_FORMAT, s->backing_format,
                         strlen(s->backing_format));
}

static bool put_data_file(Qcow2State *s, Image *to, size_t *at)
{
    return put_extension(to, at, QCOW2_EXT_DATA_FILE, s->data_file_name,
                         strlen(s->data_file_name));
}

static bool has_extension(const Image *i, uint32_t wanted)
{
    size_t at = header_length(i->bytes);
    const uint8_t *data;
    uint32_t type, len;

    while (next_extension(i->bytes, extensions_end(i), &at, &type, &data, &len)) {
        if (type == wanted) {
            return true;
        }
    }
    return false;
}

/*
 * Extensions as s has them, in the order they have in the file, and the end.  A format that is
 * new comes first, where it lies in one sector.
 */
static bool compose_extensions(Qcow2State *s, const Image *from, Image *to, Names policy,
                               size_t *at)
{
    size_t old = header_length(from->bytes);
    bool format = !s->backing_format, bitmaps = !s->bitmaps_count, ok = true;
    bool data_file = !s->data_file_name;
    bool names = s->version < 3 || qcow2_be32(from->bytes + 4) >= 3 || policy != NAMES_ALL;
    const uint8_t *data;
    uint32_t type, len;

    if (!format && !has_extension(from, QCOW2_EXT_BACKING_FORMAT)) {
        format = true;
        ok = put_format(s, to, at);
    }
    while (ok && next_extension(from->bytes, extensions_end(from), &old, &type, &data, &len)) {
        switch (type) {
        case QCOW2_EXT_BACKING_FORMAT:
            if (!format) {
                format = true;
                ok = put_format(s, to, at);
            }
            break;
        case QCOW2_EXT_FEATURE_NAMES:
            if (s->version >= 3 && policy != NAMES_NONE) {
                names = true;
                ok = put_extension(to, at, type, data, len);
            }
            break;
        case QCOW2_EXT_BITMAPS:
            if (!bitmaps) {
                bitmaps = true;
                ok = put_bitmaps(s, to, at);
            }
            break;
        case QCOW2_EXT_DATA_FILE:
            if (!data_file) {
                data_file = true;
                ok = put_data_file(s, to, at);
            }
            break;
        default:
            ok = put_extension(to, at, type, data, len);
        }
    }
    if (ok && !names) {
        size_t bytes;
        const void *table = qcow2_feature_names(&bytes);

        ok = put_extension(to, at, QCOW2_EXT_FEATURE_NAMES, table, bytes);
    }
    if (ok && !bitmaps) {
        ok = put_bitmaps(s, to, at);
    }
    if (ok && !data_file) {
        ok = put_data_file(s, to, at);
    }
    return ok && put_extension(to, at, QCOW2_EXT_END, NULL, 0);
}

/*
 * The name of the backing file behind the extensions: where it is, if it is still the same
 * and nothing is in its way, else behind where it was.
 */
static bool put_name(Qcow2State *s, const Image *from, Image *to, size_t extensions)
{
    size_t len = s->backing_file ? strlen(s->backing_file) : 0;
    uint64_t old = qcow2_be64(from->bytes + 8), old_len = old ? qcow2_be32(from->bytes + 16) : 0;
    uint64_t at = extensions;

    if (old && len == old_len && old >= extensions && old <= from->size - len &&
        !memcmp(from->bytes + old, s->backing_file, len)) {
        at = old;
    } else if (at < old + old_len && old < at + len && from->size > SECTOR) {
        at = (old + old_len + 7) & ~7ULL;
    }
    qcow2_put64(to->bytes + 8, len ? at : 0);
    qcow2_put32(to->bytes + 16, len);
    return !len || put(to, at, s->backing_file, len);
}

/* What the header shall be, on top of the bytes that nobody uses. */
static bool compose(Qcow2State *s, const Image *from, Image *to, Names policy)
{
    size_t at;

    memcpy(to->bytes, from->bytes, to->size);
    memset(to->used, false, to->size);
    return compose_fixed(s, from, to, &at) && compose_extensions(s, from, to, policy, &at) &&
           put_name(s, from, to, at);
}

/*
 * A step in between: the old header with its name at the far end of the cluster, so that
 * extensions may grow; 0 if there is nothing to move.
 */
static int coroutine_fn move_name(BlockDriverState *bs, Image *from)
{
    uint64_t old = qcow2_be64(from->bytes + 8), len = qcow2_be32(from->bytes + 16), at;
    Qcow2State *s = bs->opaque;
    Image to;
    int ret;

    if (!old) {
        return 0;
    }
    at = (from->size - len) & ~7ULL;
    if (at < old + len) {
        return 0;
    }
    image_init(&to, from->size);
    memcpy(to.bytes, from->bytes, to.size);
    memcpy(to.used, from->used, to.size);
    memset(to.used + old, false, len);
    put(&to, at, from->bytes + old, len);
    qcow2_put64(to.bytes + 8, at);
    ret = commit(bs, from, &to);
    if (ret >= 0) {
        memcpy(s->header, to.bytes, sizeof(s->header));
    }
    image_destroy(&to);
    return ret;
}

/* flush_lock held: nobody else writes the header. */
static int coroutine_fn update(BlockDriverState *bs)
{
    static const Names policies[] = { NAMES_ALL, NAMES_ALL, NAMES_OLD, NAMES_NONE };
    Qcow2State *s = bs->opaque;
    Image from, to;
    int ret = load(bs, &from);

    image_init(&to, s->cluster_size);
    for (int attempt = 0; ret >= 0; attempt++) {
        bool possible = compose(s, &from, &to, policies[attempt]);

        if (possible) {
            ret = commit(bs, &from, &to);
        }
        if (possible && ret != -ENOSPC) {
            break;
        }
        /* With the backing file's name out of the way; then with less. */
        ret = attempt == 0 ? move_name(bs, &from) : attempt < 3 ? 0 : -ENOSPC;
    }
    if (ret >= 0) {
        memcpy(s->header, to.bytes, sizeof(s->header));
        s->header_length = header_length(to.bytes);
    }
    s->write_seq++;
    image_destroy(&from);
    image_destroy(&to);
    return ret;
}

int coroutine_fn qcow2_header_update(BlockDriverState *bs)
{
    Qcow2State *s = bs->opaque;
    int ret;

    co_mutex_lock(&s->flush_lock);
    ret = s->broken ? -EIO : update(bs);
    co_mutex_unlock(&s->flush_lock);
    return ret;
}
