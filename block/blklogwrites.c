/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The blklogwrites filter: passes everything on to its image and records what changes it in a
 * log, in the format of Linux's dm-log-writes target, so that a program can make the image as a
 * power cut at any point would have left it.  Home context.
 *
 * The log is a superblock and then entries, each a sector and the data it has, in a size of
 * sectors of the log's own.  A write comes into the log when it is over, a flush too, and no
 * write does while a flush is under way: what is in front of a flush is durable, what is behind
 * it need not be.  bs->file is the image, bs->data_file the log.
 */
#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include "block/block-int.h"
#include "qapi/error.h"

#define LOG_MAGIC 0x6a736677736872ULL
#define LOG_VERSION 1
#define MIN_SECTOR 512
#define MAX_SECTOR (1 << 23)
#define DEFAULT_INTERVAL 4096 /* entries between two updates of the superblock */

enum { /* flags of an entry */
    LOG_FLUSH = 1,
    LOG_DISCARD = 4,
};

typedef struct Superblock { /* little-endian, at the start of the log */
    uint64_t magic, version, entries;
    uint32_t sector;
} Superblock;

typedef struct LogEntry { /* little-endian, at the start of its sector */
    uint64_t sector, sectors, flags, data_len;
} LogEntry;

typedef struct LogState {
    CoMutex lock; /* the fields below, and the log; held across a flush of the image */
    uint32_t sector; /* bytes */
    uint64_t next;   /* bytes: where in the log the next entry goes */
    uint64_t entries, noted, interval; /* so many there are; the superblock says; see above */
} LogState;

/* --- The log --------------------------------------------------------------------------------- */

/* One sector of the log that begins with these bytes. */
static int coroutine_fn write_sector(BlockDriverState *bs, uint64_t at, const void *data,
                                     size_t bytes)
{
    LogState *s = bs->opaque;
    g_autofree uint8_t *sector = g_malloc0(s->sector);

    memcpy(sector, data, bytes);
    return bdrv_co_pwrite(bs->data_file, at, s->sector, sector, 0);
}

/* Lock held. */
static int coroutine_fn write_superblock(BlockDriverState *bs)
{
    LogState *s = bs->opaque;
    Superblock super = { htole64(LOG_MAGIC), htole64(LOG_VERSION), htole64(s->entries),
                         htole32(s->sector) };
    int ret = write_sector(bs, 0, &super, sizeof(super));

    s->noted = ret < 0 ? s->noted : s->entries;
    return ret;
}

/*
 * Lock held.  Adds an entry for a range of the image, which may end in the middle of a sector
 * at its end.  iov: its data; NULL: zeroes, or nothing for a discard and for a flush.
 */
static int coroutine_fn add_entry(BlockDriverState *bs, uint64_t flags, int64_t offset,
                                  int64_t bytes, IOVector *iov)
{
    LogState *s = bs->opaque;
    uint64_t sectors = bytes / s->sector + (bytes % s->sector != 0);
    uint64_t data = flags ? 0 : sectors * s->sector;
    LogEntry e = { htole64(offset / s->sector), htole64(sectors), htole64(flags) };
    int ret;

    if (data > INT64_MAX - 2 * s->sector - s->next) {
        return -EFBIG;
    }
    ret = write_sector(bs, s->next, &e, sizeof(e));
    if (ret >= 0 && iov) {
        ret = bdrv_co_pwritev(bs->data_file, s->next + s->sector, data, iov, 0);
    } else if (ret >= 0 && data) {
        ret = bdrv_co_pwrite_zeroes(bs->data_file, s->next + s->sector, data,
                                    BDRV_REQ_MAY_UNMAP);
    }
    if (ret < 0) {
        return ret;
    }
    s->next += s->sector + data;
    s->entries++;
    return s->entries - s->noted >= s->interval ? write_superblock(bs) : 0;
}

static int coroutine_fn record(BlockDriverState *bs, uint64_t flags, int64_t offset,
                               int64_t bytes, IOVector *iov)
{
    LogState *s = bs->opaque;
    int ret;

    co_mutex_lock(&s->lock);
    ret = add_entry(bs, flags, offset, bytes, iov);
    co_mutex_unlock(&s->lock);
    return ret;
}

/* --- Opening ----------------------------------------------------------------------------------- */

/* Goes through the entries of a log to its end. */
static bool coroutine_fn find_end(BlockDriverState *bs, GError **errp)
{
    LogState *s = bs->opaque;
    uint64_t length = bdrv_length(bs->data_file->bs);
    int ret = 0;

    for (uint64_t i = 0; i < s->entries; i++) {
        uint64_t left = length - MIN(s->next, length), sectors;
        LogEntry e;

        if (left >= s->sector) {
            ret = bdrv_co_pread(bs->data_file, s->next, sizeof(e), &e, 0);
        }
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Could not read the log");
            return false;
        }
        sectors = le64toh(e.flags) & (LOG_FLUSH | LOG_DISCARD) ? 0 : le64toh(e.sectors);
        if (left < s->sector || sectors > (left - s->sector) / s->sector) {
            error_setg(errp, "Entry %" PRIu64 " of the log lies beyond its end", i);
            return false;
        }
        s->next += (sectors + 1) * s->sector;
    }
    return true;
}

/* Goes on behind what is in the log; an empty one is begun. */
static bool coroutine_fn continue_log(BlockDriverState *bs, GError **errp)
{
    LogState *s = bs->opaque;
    Superblock super = { 0 };
    int ret = 0;

    if (bdrv_length(bs->data_file->bs) >= MIN_SECTOR) {
        ret = bdrv_co_pread(bs->data_file, 0, sizeof(super), &super, 0);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not read log superblock");
        return false;
    }
    if (!super.magic && !super.version) {
        return true;
    }
    if (le64toh(super.magic) != LOG_MAGIC || le64toh(super.version) != LOG_VERSION) {
        error_setg(errp, "The log is not one of this format");
        return false;
    }
    s->sector = le32toh(super.sector);
    s->entries = s->noted = le64toh(super.entries);
    return true;
}

static bool coroutine_fn blklogwrites_co_open(BlockDriverState *bs, const BlockdevOptions *options,
                                              GError **errp)
{
    const BlockdevOptionsBlklogwrites *o = &options->u.blklogwrites;
    bool append = o->has_log_append && o->log_append;
    LogState *s = bs->opaque;
    int ret = 0;

    s->sector = o->has_log_sector_size ? o->log_sector_size : MIN_SECTOR;
    s->interval = o->has_log_super_update_interval ? o->log_super_update_interval
                                                   : DEFAULT_INTERVAL;
    if (append && o->has_log_sector_size) {
        error_setg(errp, "log-append and log-sector-size are mutually exclusive");
        return false;
    }
    if (!s->interval) {
        error_setg(errp, "Invalid log superblock update interval %" PRIu64, s->interval);
        return false;
    }
    if (append && !continue_log(bs, errp)) {
        return false;
    }
    if (s->sector < MIN_SECTOR || s->sector > MAX_SECTOR || s->sector & (s->sector - 1)) {
        error_setg(errp, "Invalid log sector size %" PRIu32, s->sector);
        return false;
    }
    s->next = s->sector;
    if (!find_end(bs, errp)) {
        return false;
    }
    if (!append && !bs->read_only && !bs->inactive) {
        ret = write_superblock(bs); /* what was in the log is not part of it */
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not write log superblock");
        return false;
    }
    bs->request_alignment = s->sector;
    co_mutex_init(&s->lock);
    return true;
}

static void coroutine_fn blklogwrites_co_close(BlockDriverState *bs)
{
    LogState *s = bs->opaque;
    int ret;

    if (!bs->read_only && !bs->inactive) {
        co_mutex_lock(&s->lock);
        ret = write_superblock(bs);
        co_mutex_unlock(&s->lock);
        if (ret < 0) {
            g_printerr("blklogwrites: the last entries of '%s' are lost: %s\n",
                       bdrv_filename(bs->data_file->bs), strerror(-ret));
        }
    }
    co_mutex_destroy(&s->lock);
}

/* --- I/O --------------------------------------------------------------------------------------- */

static int coroutine_fn blklogwrites_co_preadv_aside(BlockDriverState *bs, int64_t offset,
                                                     int64_t bytes, IOVector *iov)
{
    return bdrv_co_preadv_aside(bs->file->bs, offset, iov);
}

static int coroutine_fn blklogwrites_co_pwritev(BlockDriverState *bs, int64_t offset,
                                                int64_t bytes, IOVector *iov, int flags)
{
    int ret = bdrv_co_pwritev(bs->file, offset, bytes, iov, flags);

    return ret < 0 ? ret : record(bs, 0, offset, bytes, iov);
}

static int coroutine_fn blklogwrites_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset,
                                                      int64_t bytes, int flags)
{
    LogState *s = bs->opaque;
    int ret = -ENOTSUP;

    if (!((offset | bytes) & (s->sector - 1))) {
        ret = bdrv_co_pwrite_zeroes(bs->file, offset, bytes, flags);
    }
    return ret < 0 ? ret : record(bs, 0, offset, bytes, NULL);
}

static int coroutine_fn blklogwrites_co_pdiscard(BlockDriverState *bs, int64_t offset,
                                                 int64_t bytes)
{
    int ret = bdrv_co_pdiscard(bs->file, offset, bytes);

    return ret < 0 ? ret : record(bs, LOG_DISCARD, offset, bytes, NULL);
}

/* Whatever is in the log by then was over when the flush began. */
static int coroutine_fn blklogwrites_co_flush(BlockDriverState *bs)
{
    LogState *s = bs->opaque;
    int ret;

    if (bs->read_only || bs->inactive) {
        return bdrv_co_flush(bs->file->bs);
    }
    co_mutex_lock(&s->lock);
    ret = bdrv_co_flush(bs->file->bs);
    ret = ret < 0 ? ret : add_entry(bs, LOG_FLUSH, 0, 0, NULL);
    ret = ret < 0 ? ret : write_superblock(bs);
    ret = ret < 0 ? ret : bdrv_co_flush(bs->data_file->bs);
    co_mutex_unlock(&s->lock);
    return ret;
}

/* A file that grows has a last sector of zeroes then: who replays the log makes it as long. */
static bool coroutine_fn blklogwrites_co_truncate(BlockDriverState *bs, int64_t length, bool exact,
                                                  PreallocMode prealloc, GError **errp)
{
    LogState *s = bs->opaque;
    int64_t last = (length - 1) & ~(int64_t)(s->sector - 1), old = bs->file->bs->length;
    int ret;

    if (!bdrv_co_truncate_prealloc(bs->file, length, exact, prealloc, errp)) {
        return false;
    }
    ret = last >= old ? record(bs, 0, last, s->sector, NULL) : 0;
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not write the log");
    }
    return ret >= 0;
}

const BlockDriver bdrv_blklogwrites_driver = {
    .name = "blklogwrites",
    .instance_size = sizeof(LogState),
    .is_filter = true,
    .co_open = blklogwrites_co_open,
    .co_close = blklogwrites_co_close,
    .co_preadv_aside = blklogwrites_co_preadv_aside,
    .co_pwritev = blklogwrites_co_pwritev,
    .co_pwrite_zeroes = blklogwrites_co_pwrite_zeroes,
    .co_pdiscard = blklogwrites_co_pdiscard,
    .co_flush = blklogwrites_co_flush,
    .co_truncate = blklogwrites_co_truncate,
};
