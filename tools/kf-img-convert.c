/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kf-img convert: copies images into a new or existing one of any format.  Several
 * coroutines copy at once; what is known to be zero is not read, and not written either
 * where the target starts out as zero.  Compressed clusters are written in the order of the
 * disk unless the user does not care (-W); workers pack several of them at once all the same.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kf-img-options.h"
#include "qapi/error.h"
#include "qapi/keyval.h"

#define SECTOR 512
#define CHUNK (2 * 1024 * 1024)
#define MAX_COROUTINES 16

typedef struct Source {
    BlockDriverState *bs;
    BlockDriverState *base; /* content from here on is in the target's backing file too */
    BlockBackend *blk;
    int64_t start, length; /* where it lies in the target */
} Source;

typedef struct Convert {
    /* What the user said. */
    const char *format, *target_format, *target, *cache;
    BdrvOpenFile source_params;
    GHashTable *options;
    bool existing, progress, quiet, compressed, unordered;
    int64_t min_sparse; /* bytes of zeroes worth a hole; 0: write everything */
    int coroutines;

    /* The copying. */
    Source *sources;
    int n_sources;
    BlockDriverState *bs;
    BlockBackend *blk;
    bool reads_zero; /* what is not written reads as zero */
    int64_t cluster; /* of a compressed target, in bytes */
    int64_t total, next, done;
    int64_t written; /* everything before it, where order matters */
    CoQueue turn;
    CoMutex lock; /* next and finding out what is there */
    int running, ret;
    Coroutine *waiter;
} Convert;

/* What a worker has to copy next. */
typedef struct Piece {
    Source *source;
    int64_t offset, bytes; /* in the target */
    int status;
} Piece;

static void copy_failed(Convert *s, const char *what, int64_t offset, int ret)
{
    if (s->ret == 0) {
        img_error("error while %s at byte %" PRId64 ": %s", what, offset, strerror(-ret));
        s->ret = ret;
    }
}

/*
 * Compressed clusters are written whole: a piece that ends in the middle of one ends before
 * it, and a cluster that is not all the same is a piece of its own.
 */
static void round_piece(const Convert *s, Piece *p)
{
    int64_t mask = s->cluster - 1, end = p->offset + p->bytes;
    int64_t source_end = p->source->start + p->source->length;
    int64_t cluster_end = MIN((p->offset | mask) + 1, source_end);

    if ((p->offset & mask) || end < cluster_end) {
        if (end < cluster_end) {
            p->status = BDRV_BLOCK_DATA | BDRV_BLOCK_ALLOCATED;
        }
        p->bytes = cluster_end - p->offset;
    } else if (end != source_end) {
        p->bytes = (end & ~mask) - p->offset;
    }
}

/* Takes the next piece; false at the end or after an error. */
static bool coroutine_fn next_piece(Convert *s, Piece *p)
{
    bool found = false;

    co_mutex_lock(&s->lock);
    if (s->ret == 0 && s->next < s->total) {
        Source *src = s->sources;
        int64_t inside, count;

        while (s->next >= src->start + src->length) {
            src++;
        }
        inside = s->next - src->start;
        p->source = src;
        p->offset = s->next;
        p->status = bdrv_co_block_status_above(src->bs, src->base, inside, src->length - inside,
                                               &count);
        if (p->status < 0) {
            copy_failed(s, "reading block status", inside, p->status);
        } else {
            bool moves_data = (p->status & (BDRV_BLOCK_DATA | BDRV_BLOCK_ZERO)) ==
                                  BDRV_BLOCK_DATA || s->min_sparse == 0;

            p->bytes = moves_data ? MIN(count, CHUNK) : count;
            if (s->compressed) {
                round_piece(s, p);
            }
            s->next += p->bytes;
            found = true;
        }
    }
    co_mutex_unlock(&s->lock);
    return found;
}

static int coroutine_fn write_zeroes(Convert *s, int64_t offset, int64_t bytes)
{
    if (s->reads_zero) {
        return 0;
    }
    return blk_co_pwrite_zeroes(s->blk, offset, bytes, BDRV_REQ_MAY_UNMAP);
}

/* Length of the run from buf on that is all zero or (*zero false) has no long zeroes. */
static int64_t run_length(const uint8_t *buf, int64_t bytes, int64_t min_sparse, bool *zero)
{
    int64_t unit = MIN(min_sparse, bytes), n = unit;

    *zero = buffer_is_zero(buf, unit);
    while (n < bytes && buffer_is_zero(buf + n, MIN(unit, bytes - n)) == *zero) {
        n += MIN(unit, bytes - n);
    }
    return n;
}

/* What no cluster holds alone (sources that meet in one) is written as it is. */
static int write_flags(const Convert *s, int64_t offset, int64_t bytes)
{
    int64_t mask = s->cluster - 1, end = offset + bytes;

    return s->compressed && !(offset & mask) && (!(end & mask) || end == bdrv_length(s->bs))
               ? BDRV_REQ_WRITE_COMPRESSED : 0;
}

static int coroutine_fn write_data(Convert *s, uint8_t *buf, int64_t offset, int64_t bytes)
{
    int64_t unit = s->compressed ? (s->min_sparse + s->cluster - 1) & -s->cluster : s->min_sparse;
    int ret = 0;

    while (bytes > 0 && ret == 0) {
        bool zero = false;
        int64_t n = bytes;

        IOVector iov;

        if (s->min_sparse) {
            n = run_length(buf, bytes, unit, &zero);
        }
        io_vector_init_buf(&iov, buf, n);
        ret = zero ? write_zeroes(s, offset, n)
                   : blk_co_pwritev(s->blk, offset, n, &iov, write_flags(s, offset, n));
        buf += n;
        offset += n;
        bytes -= n;
    }
    return ret;
}

static void coroutine_fn wait_for_turn(Convert *s, const Piece *p)
{
    while (s->compressed && !s->unordered && s->written != p->offset && s->ret == 0) {
        co_queue_wait(&s->turn, NULL);
    }
}

static void coroutine_fn copy_piece(Convert *s, const Piece *p, uint8_t *buf)
{
    int64_t inside = p->offset - p->source->start;
    int ret;

    if (p->source->base && !(p->status & BDRV_BLOCK_ALLOCATED)) {
        return; /* the target's backing file has it */
    }
    if ((p->status & BDRV_BLOCK_ZERO) && s->min_sparse) {
        ret = write_zeroes(s, p->offset, p->bytes);
    } else {
        ret = blk_co_pread(p->source->blk, inside, p->bytes, buf);
        if (ret < 0) {
            copy_failed(s, "reading", inside, ret);
            return;
        }
        wait_for_turn(s, p);
        ret = s->ret ? s->ret : write_data(s, buf, p->offset, p->bytes);
    }
    if (ret < 0) {
        copy_failed(s, "writing", p->offset, ret);
    }
}

static void coroutine_fn copy_entry(void *opaque)
{
    Convert *s = opaque;
    uint8_t *buf = g_aligned_alloc(1, CHUNK, 4096);
    Piece p;

    while (next_piece(s, &p)) {
        copy_piece(s, &p, buf);
        wait_for_turn(s, &p);
        s->written = p.offset + p.bytes;
        co_queue_restart_all(&s->turn);
        s->done += p.bytes;
        img_progress(s->done * 100.0 / s->total);
    }
    g_aligned_free(buf);
    if (--s->running == 0 && s->waiter) {
        aio_co_wake(s->waiter);
    }
}

static bool coroutine_fn copy_all(Convert *s)
{
    co_mutex_init(&s->lock);
    co_queue_init(&s->turn);
    s->running = s->coroutines;
    for (int i = 0; i < s->coroutines; i++) {
        aio_co_schedule(main_aio_context(), coroutine_create(copy_entry, s));
    }
    s->waiter = coroutine_self();
    while (s->running) {
        coroutine_yield();
    }
    co_queue_destroy(&s->turn);
    co_mutex_destroy(&s->lock);
    if (s->ret == 0) {
        int ret = blk_co_flush(s->blk);

        if (ret < 0) {
            copy_failed(s, "flushing", s->total, ret);
        }
    }
    if (s->ret == 0) {
        img_progress(100);
    }
    return s->ret == 0;
}

/* --- Opening ------------------------------------------------------------------------------ */

static bool coroutine_fn open_source(Convert *s, Source *src, const char *filename)
{
    GError *err = NULL;

    s->source_params.filename = filename;
    src->bs = img_open(&s->source_params);
    if (!src->bs) {
        return false;
    }
    src->blk = blk_new("", src->bs, false, &err);
    if (!src->blk) {
        img_report(err, "");
        return false;
    }
    src->start = s->total;
    src->length = bdrv_length(src->bs);
    s->total += src->length;
    return true;
}

static BlockBackend *coroutine_fn open_target(Convert *s)
{
    BdrvOpenFile params = {
        .filename = s->target,
        .format = s->existing ? s->target_format : s->target_format ? s->target_format : "raw",
        .discard = true,
    };
    GError *err = NULL;

    img_parse_cache(s->cache, &params);
    s->bs = img_open(&params);
    if (!s->bs) {
        return NULL;
    }
    s->blk = blk_new("", s->bs, true, &err);
    if (!s->blk) {
        img_report(err, "");
    }
    return s->blk;
}

static bool coroutine_fn create_target(Convert *s, const BlockDriver *drv)
{
    GError *err = NULL;
    g_autofree char *prefix = NULL;

    if (!g_hash_table_contains(s->options, "size")) {
        g_hash_table_insert(s->options, g_strdup("size"),
                            g_strdup_printf("%" PRId64, s->total));
    }
    if (img_make(drv, s->target, s->options, &err)) {
        return true;
    }
    prefix = g_strdup_printf("%s: error while converting %s: ", s->target, drv->name);
    img_report(err, prefix);
    return false;
}

static bool check_target_options(Convert *s, const BlockDriver *drv)
{
    GError *err = NULL;

    if (!img_check_options(drv, s->options, &err)) {
        if (g_hash_table_contains(s->options, "backing_file") && !drv->supports_backing) {
            g_clear_error(&err);
            error_setg(&err, "Backing file not supported for file format '%s'", drv->name);
        }
        img_report(err, "");
        return false;
    }
    if (g_hash_table_contains(s->options, "backing_file") &&
        !g_hash_table_contains(s->options, "backing_fmt")) {
        img_error("Use of backing file requires explicit backing format");
        return false;
    }
    return true;
}

/* What -c wants of a target that is still to be made. */
static bool check_compression(Convert *s, const BlockDriver *drv)
{
    const char *preallocation = g_hash_table_lookup(s->options, "preallocation");

    if (!s->compressed) {
        return true;
    }
    if (!drv->writes_compressed) {
        img_error("Compression not supported for this file format");
        return false;
    }
    if (preallocation && strcmp(preallocation, "off")) {
        img_error("Compression and preallocation not supported at the same time");
        return false;
    }
    return true;
}

/* The cluster size of a compressed target. */
static bool coroutine_fn find_cluster(Convert *s)
{
    BlockDriverState *bs = s->bs;
    BdrvInfo info = { 0 };
    GError *err = NULL;

    if (!bdrv_can_compress(s->bs)) {
        img_error("Compression not supported for this file format");
        return false;
    }
    while (bs->drv->is_filter) {
        bs = bdrv_file(bs);
    }
    if (!bs->drv->co_info(bs, &info, &err)) {
        img_report(err, "");
        return false;
    }
    qapi_free_ImageInfoSpecific(info.specific);
    s->cluster = info.cluster_size;
    return true;
}

/* Where the sources' backing chains meet the target's backing file. */
static void find_common_base(Convert *s)
{
    BlockDriverState *backing = bdrv_backing(s->bs);

    if (!backing || s->n_sources != 1) {
        return;
    }
    for (BlockDriverState *b = bdrv_backing(s->sources[0].bs); b; b = bdrv_backing(b)) {
        if (!strcmp(bdrv_filename(b), bdrv_filename(backing))) {
            s->sources[0].base = b;
            return;
        }
    }
}

static bool coroutine_fn convert(Convert *s, char **filenames)
{
    const char *format = s->target_format ? s->target_format : "raw";
    const BlockDriver *drv = bdrv_driver_by_name(format);

    for (int i = 0; i < s->n_sources; i++) {
        if (!open_source(s, &s->sources[i], filenames[i])) {
            return false;
        }
    }
    if (!s->existing) {
        if (!drv || !drv->co_create) {
            img_error("Unknown file format '%s'", format);
            return false;
        }
        if (!check_target_options(s, drv) || !check_compression(s, drv) ||
            !create_target(s, drv)) {
            return false;
        }
    }
    if (!open_target(s)) {
        return false;
    }
    if (bdrv_length(s->bs) < s->total) {
        if (s->existing) {
            img_error("output file is smaller than input file");
            return false;
        }
        s->total = bdrv_length(s->bs); /* the user wants it shorter: -o size */
        for (int i = 0; i < s->n_sources; i++) {
            Source *src = &s->sources[i];
            src->length = MIN(src->length, MAX(s->total - src->start, 0));
        }
    }
    if (s->compressed && !find_cluster(s)) {
        return false;
    }
    s->reads_zero = !s->existing && !bdrv_backing(s->bs);
    find_common_base(s);
    return copy_all(s);
}

static void coroutine_fn cleanup(Convert *s)
{
    blk_co_free(s->blk);
    bdrv_co_unref(s->bs);
    for (int i = 0; i < s->n_sources; i++) {
        blk_co_free(s->sources[i].blk);
        bdrv_co_unref(s->sources[i].bs);
    }
    g_free(s->sources);
    g_hash_table_unref(s->options);
}

/* --- Command line ------------------------------------------------------------------------- */

static bool set_sparse(Convert *s, const char *text)
{
    uint64_t value;

    if (!qapi_parse_size(text, &value)) {
        img_error("Invalid buffer size for sparse output specified. You may use k, M, G, T, P "
                  "or E suffixes for");
        img_error("kilobytes, megabytes, gigabytes, terabytes, petabytes and exabytes.");
        return false;
    }
    if (value % SECTOR || value > 16777216) {
        img_error("Invalid buffer size for sparse output specified. Valid sizes are multiples "
                  "of %d up to %d. Select 0 to disable sparse detection (fully allocates "
                  "output).", SECTOR, 16777216);
        return false;
    }
    s->min_sparse = value;
    return true;
}

static bool set_coroutines(Convert *s, const char *text)
{
    char *end;
    long n = strtol(text, &end, 10);

    if (*end || end == text || n < 1 || n > MAX_COROUTINES) {
        img_error("Invalid number of coroutines. Allowed number of coroutines is between 1 and "
                  "%d", MAX_COROUTINES);
        return false;
    }
    s->coroutines = n;
    return true;
}

static void set_option(Convert *s, const char *name, const char *value)
{
    g_hash_table_replace(s->options, g_strdup(name), g_strdup(value));
}

/* One option; -1 to go on, else the exit code. */
static int take_option(Convert *s, int c, char **argv)
{
    BdrvOpenFile dummy;

    switch (c) {
    case 'f':
        s->source_params.format = optarg;
        return -1;
    case 'O':
        s->target_format = optarg;
        return -1;
    case 'B':
        set_option(s, "backing_file", optarg);
        return -1;
    case 'F':
        set_option(s, "backing_fmt", optarg);
        return -1;
    case 'o':
        return img_parse_options(optarg, s->options) ? -1 : 1;
    case 'S':
        return set_sparse(s, optarg) ? -1 : 1;
    case 'm':
        return set_coroutines(s, optarg) ? -1 : 1;
    case 't':
        if (!img_parse_cache(optarg, &dummy)) {
            img_error("Invalid cache option: %s", optarg);
            return 1;
        }
        s->cache = optarg;
        return -1;
    case 'T':
        if (!img_parse_cache(optarg, &s->source_params)) {
            img_error("Invalid source cache option: %s", optarg);
            return 1;
        }
        return -1;
    case 'p':
        s->progress = true;
        return -1;
    case 'q':
        s->quiet = true;
        return -1;
    case 'n':
        s->existing = true;
        return -1;
    case 'c':
        s->compressed = true;
        return -1;
    case 'U':
        s->source_params.force_share = true;
        return -1;
    case 'W':
        s->unordered = true;
        return -1;
    default:
        return img_bad_option(c, argv);
    }
}

int coroutine_fn img_convert(int argc, char **argv)
{
    static const struct option options[] = {
        { "help", no_argument, NULL, 'h' },
        { "force-share", no_argument, NULL, 'U' },
        { 0 },
    };
    Convert s = {
        .source_params = { .read_only = true },
        .options = img_options_new(),
        .cache = "unsafe",
        .min_sparse = 4096,
        .coroutines = 8,
    };
    int c, ret = -1;

    while (ret < 0 && (c = getopt_long(argc, argv, ":hf:O:B:F:o:S:m:t:T:pqncUW", options,
                                       NULL)) != -1) {
        if (c == 'o' && (!strcmp(optarg, "help") || !strcmp(optarg, "?"))) {
            const BlockDriver *drv =
                bdrv_driver_by_name(s.target_format ? s.target_format : "raw");

            if (drv) {
                img_print_options(drv, optind < argc);
            }
            ret = drv ? 0 : 1;
        } else {
            ret = take_option(&s, c, argv);
        }
    }
    if (ret < 0 && argc - optind < 2) {
        img_error("Must specify image file name");
        ret = 1;
    }
    if (ret < 0) {
        img_progress_begin(s.progress && !s.quiet);
        s.target = argv[argc - 1];
        s.n_sources = argc - 1 - optind;
        s.sources = g_new0(Source, s.n_sources);
        ret = convert(&s, argv + optind) ? 0 : 1;
        img_progress_end();
    }
    cleanup(&s);
    return ret;
}
