/* SPDX-License-Identifier: GPL-2.0-or-later */
/* State in a file, with a place for every page; see migrate-file.h.  Snapshot thread. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "migrate-file.h"
#include "qapi/error.h"

#define RUN_PAGES 256 /* the largest request: 1 MiB */

struct MigFile {
    char *filename;
    int fd;
    int page_fd; /* O_DIRECT, or fd */
    uint64_t base; /* where the state begins */
    uint64_t size; /* of the state, when reading */
    uint64_t bytes; /* written */

    /* Passes. */
    const StreamLayout *layout;
    uint64_t **present; /* per block a bit per page: its content is in the file */
    struct iovec run[RUN_PAGES]; /* neighbours, not yet written */
    int run_block, run_len;
    size_t run_first;
};

typedef struct OpenWork {
    MigFile *f;
    bool out, direct;
} OpenWork;

static int open_worker(void *opaque)
{
    OpenWork *w = opaque;
    MigFile *f = w->f;
    struct stat st;

    f->fd = open(f->filename, (w->out ? O_RDWR | O_CREAT : O_RDONLY) | O_CLOEXEC, 0600);
    if (f->fd < 0 || fstat(f->fd, &st) < 0) {
        return -errno;
    }
    f->page_fd = f->fd;
    /* What somebody keeps in front of the offset stays, the rest is ours. */
    if (w->out && S_ISREG(st.st_mode) && ftruncate(f->fd, f->base) < 0) {
        return -errno;
    }
    if (!w->out) {
        off_t end = lseek(f->fd, 0, SEEK_END);

        if (end < 0) {
            return -errno;
        }
        f->size = (uint64_t)end > f->base ? end - f->base : 0;
    }
    if (w->direct) {
        f->page_fd = open(f->filename, O_RDWR | O_DIRECT | O_CLOEXEC);
        if (f->page_fd < 0) {
            return -errno;
        }
    }
    return 0;
}

static int close_worker(void *opaque)
{
    MigFile *f = opaque;

    if (f->page_fd >= 0 && f->page_fd != f->fd) {
        close(f->page_fd);
    }
    if (f->fd >= 0) {
        close(f->fd);
    }
    return 0;
}

MigFile *coroutine_fn mig_file_open(const FileMigrationArgs *args, bool out, bool direct,
                                    GError **errp)
{
    MigFile *f = g_new0(MigFile, 1);
    OpenWork w = {.f = f, .out = out, .direct = direct};
    int ret;

    f->fd = f->page_fd = -1;
    f->run_block = -1;
    f->base = args->offset;
    f->filename = g_strdup(args->filename);
    if (direct && f->base % RAM_PAGE) {
        error_setg(errp, "'direct-io' needs an offset that is a multiple of %zu", RAM_PAGE);
        mig_file_close(f);
        return NULL;
    }
    ret = co_run_in_worker(open_worker, &w);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not open '%s'", f->filename);
        mig_file_close(f);
        return NULL;
    }
    return f;
}

void coroutine_fn mig_file_close(MigFile *f)
{
    co_run_in_worker(close_worker, f);
    for (int i = 0; f->present && i < f->layout->nr_blocks; i++) {
        g_free(f->present[i]);
    }
    g_free(f->present);
    g_free(f->filename);
    g_free(f);
}

static int discard_worker(void *opaque)
{
    MigFile *f = opaque;

    return ftruncate(f->fd, f->base) < 0 ? -errno : 0;
}

void coroutine_fn mig_file_discard(MigFile *f)
{
    co_run_in_worker(discard_worker, f); /* a device has no end to cut off */
}

uint64_t mig_file_bytes(MigFile *f)
{
    return f->bytes;
}

static int coroutine_fn write_at(MigFile *f, int fd, uint64_t offset, const struct iovec *iov,
                                 int niov)
{
    ssize_t n = co_pwritev(fd, iov, niov, f->base + offset);

    f->bytes += MAX(n, 0);
    return n < 0 ? n : 0;
}

static int coroutine_fn write_bytes(MigFile *f, uint64_t offset, const void *data, size_t len)
{
    struct iovec iov = {.iov_base = (void *)data, .iov_len = len};

    return write_at(f, f->fd, offset, &iov, 1);
}

/* --- Passes ----------------------------------------------------------------------------------- */

static int coroutine_fn flush_run(void *opaque)
{
    MigFile *f = opaque;
    int ret = 0;

    if (f->run_len) {
        ret = write_at(f, f->page_fd,
                       f->layout->blocks[f->run_block].pages_offset + f->run_first * RAM_PAGE,
                       f->run, f->run_len);
        f->run_len = 0;
    }
    return ret;
}

static int coroutine_fn put_page(void *opaque, int block, size_t page, uint8_t *host)
{
    MigFile *f = opaque;
    int ret = 0;

    if (f->run_len && (f->run_len == RUN_PAGES || f->run_block != block ||
                       f->run_first + f->run_len != page)) {
        ret = flush_run(f);
    }
    if (f->run_len == 0) {
        f->run_block = block;
        f->run_first = page;
    }
    f->run[f->run_len++] = (struct iovec){.iov_base = host, .iov_len = RAM_PAGE};
    f->present[block][page / 64] |= 1ULL << (page % 64);
    return ret;
}

static int coroutine_fn put_zero(void *opaque, int block, size_t page)
{
    MigFile *f = opaque;

    /* Whatever an earlier pass has written there does not count. */
    f->present[block][page / 64] &= ~(1ULL << (page % 64));
    return 0;
}

static int coroutine_fn no_frame(void *opaque)
{
    return 0;
}

static uint64_t target_bytes(void *opaque)
{
    return mig_file_bytes(opaque);
}

void mig_file_target(MigFile *f, const StreamLayout *layout, RamTarget *target)
{
    f->layout = layout;
    f->present = g_new0(uint64_t *, layout->nr_blocks);
    for (int i = 0; i < layout->nr_blocks; i++) {
        f->present[i] = g_malloc0(layout->blocks[i].bitmap_bytes);
    }
    *target = (RamTarget){.begin_pass = no_frame, .page = put_page, .zero = put_zero,
                          .flush = flush_run, .end_pass = no_frame, .bytes = target_bytes,
                          .opaque = f};
}

bool coroutine_fn mig_file_write_bitmaps(MigFile *f, GError **errp)
{
    for (int i = 0; i < f->layout->nr_blocks; i++) {
        StreamBlock *b = &f->layout->blocks[i];
        int ret;

        for (size_t w = 0; w < b->bitmap_bytes / 8; w++) {
            f->present[i][w] = GUINT64_TO_LE(f->present[i][w]);
        }
        stream_sum_bitmap(b, f->present[i]);
        ret = write_bytes(f, b->bitmap_offset, f->present[i], b->bitmap_bytes);
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Could not write '%s'", f->filename);
            return false;
        }
    }
    return true;
}

/* --- Everything else that is written --------------------------------------------------------------- */

static int coroutine_fn sink_write(void *opaque, uint64_t offset, IOVector *iov)
{
    MigFile *f = opaque;
    bool pages = (f->base + offset) % RAM_PAGE == 0 && iov->size % RAM_PAGE == 0;

    for (int i = 0; i < iov->niov && pages; i++) {
        pages = (uintptr_t)iov->iov[i].iov_base % RAM_PAGE == 0 &&
                iov->iov[i].iov_len % RAM_PAGE == 0;
    }
    return write_at(f, pages ? f->page_fd : f->fd, offset, iov->iov, iov->niov);
}

void mig_file_sink(MigFile *f, RamSink *sink)
{
    *sink = (RamSink){.write = sink_write, .opaque = f};
}

bool coroutine_fn mig_file_finish(MigFile *f, const StreamLayout *layout, GByteArray *tail,
                                  GError **errp)
{
    int ret = 0;

    stream_sum_put(layout, tail);
    for (guint i = 0; i < layout->pieces->len && ret == 0; i++) {
        const StreamPiece *p = g_ptr_array_index(layout->pieces, i);

        ret = write_bytes(f, p->offset, p->data->data, p->data->len);
    }
    if (ret == 0) {
        ret = write_bytes(f, layout->tail_offset, tail->data, tail->len);
    }
    if (ret == 0) {
        ret = co_fdatasync(f->fd);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not write '%s'", f->filename);
    }
    return ret == 0;
}

/* --- Reading ---------------------------------------------------------------------------------- */

static int coroutine_fn source_read(void *opaque, uint64_t offset, IOVector *iov)
{
    MigFile *f = opaque;
    ssize_t n = co_preadv(f->fd, iov->iov, iov->niov, f->base + offset);

    /* The offsets were checked against the size; a file that ends now was cut off. */
    return n < 0 ? n : (size_t)n < iov->size ? -EIO : 0;
}

static int coroutine_fn stream_read(void *opaque, uint64_t offset, void *buf, size_t len)
{
    IOVector iov;

    io_vector_init_buf(&iov, buf, len);
    return source_read(opaque, offset, &iov);
}

void mig_file_stream(MigFile *f, StreamSource *out)
{
    *out = (StreamSource){.read = stream_read, .opaque = f, .size = f->size};
}

void mig_file_ram(MigFile *f, RamLoadSource *out)
{
    *out = (RamLoadSource){.read = source_read, .opaque = f};
}
