/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Changing the name and format of the backing file that an image notes.  Name and header
 * extensions share the first cluster with the header.  A disk writes a sector of 512 bytes as a
 * whole or not at all, so the change is made by one write of the first sector: it has the header
 * and the extensions that count.  The table of feature names, which counts for nothing but
 * messages, is left out while what lies behind that sector moves.
 */
#include "qcow2.h"

#define SECTOR 512
#define MAX_NAME 1023
#define MAX_FORMAT 15

/* The first cluster, as it is or as it is to be. */
typedef struct FirstCluster {
    uint8_t *data;
    size_t size, end; /* of the extensions, with their end marker */
    uint64_t name_offset;
    size_t name_len;
} FirstCluster;

static void first_cluster_clear(FirstCluster *c)
{
    g_free(c->data);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(FirstCluster, first_cluster_clear)

static int append(FirstCluster *c, uint32_t type, const void *data, size_t len)
{
    size_t padded = (len + 7) & ~(size_t)7;

    if (padded + 8 > c->size - c->end) {
        return -ENOSPC;
    }
    qcow2_put32(c->data + c->end, type);
    qcow2_put32(c->data + c->end + 4, len);
    memset(c->data + c->end + 8, 0, padded);
    if (len) {
        memcpy(c->data + c->end + 8, data, len);
    }
    c->end += 8 + padded;
    return 0;
}

/*
 * Copies the extensions of from behind the header of to: with names or without, and all but the
 * backing format, which is format (NULL: none).  They have been checked when the image was
 * opened.
 */
static int copy_extensions(const Qcow2State *s, FirstCluster *to, const FirstCluster *from,
                           const char *format, bool names)
{
    size_t pos = s->header_length, limit = from->name_offset ? from->name_offset : from->size;
    const uint8_t *features = NULL;
    uint32_t features_len = 0;
    int ret = format ? append(to, QCOW2_EXT_BACKING_FORMAT, format, strlen(format)) : 0;

    while (ret >= 0 && pos + 8 <= limit) {
        uint32_t type = qcow2_be32(from->data + pos), len = qcow2_be32(from->data + pos + 4);

        if (type == QCOW2_EXT_END || len > limit - pos - 8) {
            break;
        }
        if (type == QCOW2_EXT_FEATURE_NAMES) {
            features = from->data + pos + 8;
            features_len = len;
        } else if (type != QCOW2_EXT_BACKING_FORMAT) {
            ret = append(to, type, from->data + pos + 8, len);
        }
        pos += 8 + (((size_t)len + 7) & ~(size_t)7);
    }
    if (ret >= 0 && features && names) {
        ret = append(to, QCOW2_EXT_FEATURE_NAMES, features, features_len);
    }
    return ret < 0 ? ret : append(to, QCOW2_EXT_END, NULL, 0);
}

/* Starts c with the header of s. */
static void begin(const Qcow2State *s, FirstCluster *c, const uint8_t *header)
{
    c->size = s->cluster_size;
    c->data = g_malloc0(c->size);
    c->end = s->header_length;
    memcpy(c->data, header, c->end);
}

static void set_name(FirstCluster *c, uint64_t offset, const char *name, size_t len)
{
    qcow2_put64(c->data + 8, offset);
    qcow2_put32(c->data + 16, len);
    if (len) {
        memcpy(c->data + offset, name, len);
    }
    c->name_offset = offset;
    c->name_len = len;
}

/* Whether [offset, offset + len) has bytes of the name of c that lie behind the first sector. */
static bool hits_name(const FirstCluster *c, uint64_t offset, uint64_t len)
{
    return MAX(MAX(offset, c->name_offset), SECTOR) <
           MIN(offset + len, c->name_offset + c->name_len);
}

static int build_extensions(const Qcow2State *s, FirstCluster *c, const FirstCluster *now,
                            const char *format, bool names)
{
    g_free(c->data);
    begin(s, c, now->data);
    set_name(c, 0, NULL, 0);
    return copy_extensions(s, c, now, format, names);
}

/*
 * The cluster that is wanted.  The new name lies beside the present one, which stays where it
 * is as long as the header refers to it, if there is room for both.
 */
static int build(const Qcow2State *s, FirstCluster *c, const FirstCluster *now, const char *name,
                 const char *format)
{
    size_t len = name ? strlen(name) : 0, at, after = now->name_offset + now->name_len;
    int ret = build_extensions(s, c, now, format, true);

    if (ret == -ENOSPC || c->size - c->end < len || hits_name(now, 0, c->end)) {
        ret = build_extensions(s, c, now, format, false);
    }
    if (ret < 0) {
        return ret;
    }
    at = c->end;
    if (hits_name(now, at, len) && after >= at && len <= c->size - after) {
        at = after;
    }
    if (len > c->size - at) {
        return -ENOSPC;
    }
    if (len) {
        set_name(c, at, name, len);
    }
    return 0;
}

static int coroutine_fn write_part(BlockDriverState *bs, const FirstCluster *c, size_t from,
                                   size_t to)
{
    int ret = bdrv_co_pwrite(bs->file, from, to - from, c->data + from, 0);

    return ret < 0 ? ret : qcow2_sync_file(bs);
}

/*
 * Makes what lies behind the first sector what c wants, the present name staying readable.
 * -EAGAIN: there is no room to do that.
 */
static int coroutine_fn write_behind(BlockDriverState *bs, const FirstCluster *now,
                                     FirstCluster *c)
{
    Qcow2State *s = bs->opaque;
    g_auto(FirstCluster) bare = { 0 };
    uint64_t from = MAX(now->name_offset, SECTOR), end = now->name_offset + now->name_len;
    int ret;

    if (hits_name(now, 0, c->end) || hits_name(now, c->name_offset, c->name_len)) {
        return -EAGAIN;
    }
    begin(s, &bare, now->data);
    bare.size = SECTOR;
    ret = copy_extensions(s, &bare, now, s->backing_format, false);
    if (ret < 0 || (now->name_len && now->name_offset < bare.end)) {
        return -EAGAIN;
    }
    if (now->name_offset && now->name_offset < SECTOR) {
        memcpy(bare.data + now->name_offset, now->data + now->name_offset,
               MIN(end, SECTOR) - now->name_offset);
    }
    if (from < end) {
        memcpy(c->data + from, now->data + from, end - from);
    }
    ret = write_part(bs, &bare, 0, SECTOR);
    return ret < 0 ? ret : write_part(bs, c, SECTOR, c->size);
}

/* Writes c over now.  *unknown: an error leaves the one or the other in the file. */
static int coroutine_fn replace(BlockDriverState *bs, const FirstCluster *now, FirstCluster *c,
                                bool *unknown)
{
    size_t end = MIN(SECTOR, c->size);

    *unknown = false;
    if (memcmp(now->data + end, c->data + end, c->size - end)) {
        int ret = write_behind(bs, now, c);

        if (ret == -EAGAIN) {
            end = c->size; /* foreign extensions fill the sector, or names the cluster */
        } else if (ret < 0) {
            return ret;
        }
    }
    *unknown = true;
    return write_part(bs, c, 0, end);
}

/* Under flush_lock: nobody else writes the header. */
static int coroutine_fn change(BlockDriverState *bs, const char *name, const char *format)
{
    Qcow2State *s = bs->opaque;
    g_auto(FirstCluster) now = { 0 }, wanted = { 0 };
    bool unknown;
    int ret;

    now.size = s->cluster_size;
    now.data = g_malloc0(now.size);
    ret = bdrv_co_pread(bs->file, 0, now.size, now.data, 0);
    if (ret < 0) {
        return ret;
    }
    now.name_offset = qcow2_be64(now.data + 8);
    now.name_len = now.name_offset ? qcow2_be32(now.data + 16) : 0;
    if (now.name_offset > now.size || now.name_len > now.size - now.name_offset) {
        return -EINVAL;
    }
    ret = build(s, &wanted, &now, name, format);
    if (ret < 0) {
        return ret;
    }
    s->write_seq++;
    ret = replace(bs, &now, &wanted, &unknown);
    if (ret < 0) {
        s->broken = s->broken || unknown;
        return ret;
    }
    memcpy(s->header + 8, wanted.data + 8, 12);
    g_free(s->backing_file);
    g_free(s->backing_format);
    s->backing_file = g_strdup(name);
    s->backing_format = g_strdup(format);
    return 0;
}

int coroutine_fn qcow2_co_change_backing(BlockDriverState *bs, const char *filename,
                                         const char *format)
{
    Qcow2State *s = bs->opaque;
    int ret;

    if (!filename) {
        format = NULL;
    }
    if ((filename && strlen(filename) > MAX_NAME) || (format && strlen(format) > MAX_FORMAT)) {
        return -EINVAL;
    }
    if (s->corrupt || s->broken) {
        return -EIO;
    }
    ret = qcow2_flush(bs); /* the header as it is in the file is the one we have */
    if (ret < 0) {
        return ret;
    }
    co_mutex_lock(&s->flush_lock);
    ret = change(bs, filename && *filename ? filename : NULL, format);
    co_mutex_unlock(&s->flush_lock);
    return ret;
}
