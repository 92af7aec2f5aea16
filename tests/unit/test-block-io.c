/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * I/O through the block layer: the file and raw drivers, alignment, end of file, read-only
 * nodes, zeroes and discards, injected faults, and the image locks.
 */
#include <sys/syscall.h>
#include <unistd.h>
#include "block-test.h"

static void check_file(const char *path, size_t offset, size_t len, int value)
{
    g_autofree char *data = NULL;
    gsize size;

    g_assert_true(g_file_get_contents(path, &data, &size, NULL));
    g_assert_cmpuint(size, >=, offset + len);
    g_assert_true(all_bytes(data + offset, value, len));
}

TEST_CO(test_file_io)
{
    g_autofree char *path = test_file("a", 65536, 'a');
    BlockDriverState *bs = test_open("{'driver':'file','node-name':'f','filename':'%s'}", path);
    BlockBackend *blk = test_blk(bs, true);
    char buf[4096];
    IOVector iov;

    to_io();
    g_assert_cmpint(blk_co_pread(blk, 1000, 4096, buf), ==, 0);
    g_assert_true(all_bytes(buf, 'a', 4096));
    memset(buf, 'b', sizeof(buf));
    g_assert_cmpint(blk_co_pwrite(blk, 4097, 100, buf), ==, 0);
    io_vector_init(&iov, 2);
    io_vector_add(&iov, buf, 10);
    io_vector_add(&iov, buf + 100, 20);
    g_assert_cmpint(blk_co_pwritev(blk, 8192, 30, &iov, BDRV_REQ_FUA), ==, 0);
    io_vector_destroy(&iov);
    g_assert_cmpint(blk_co_flush(blk), ==, 0);

    /* Beyond the end: nothing for a device. */
    g_assert_cmpint(blk_co_pread(blk, 65536, 1, buf), ==, -EIO);
    g_assert_cmpint(blk_co_pread(blk, 65000, 4096, buf), ==, -EIO);
    g_assert_cmpint(blk_co_pwrite(blk, 65535, 2, buf), ==, -EIO);
    g_assert_cmpint(blk_co_pread(blk, -1, 2, buf), ==, -EIO);
    g_assert_cmpint(blk_co_pwrite(blk, INT64_MAX - 1, 4096, buf), ==, -EIO);
    g_assert_cmpint(blk_co_pread(blk, 65536, 0, buf), ==, 0);
    to_main();
    blk_co_free(blk);
    bdrv_co_unref(bs);
    check_file(path, 4096, 1, 'a');
    check_file(path, 4097, 100, 'b');
    check_file(path, 4197, 100, 'a');
    check_file(path, 8192, 30, 'b');
}

/*
 * What the kernel holds of a file that is not yet on its way to the disk: bytes, or -1.
 * cachestat(2) has one number on all architectures; Debian 12's headers do not know it.
 */
static int64_t dirty_bytes(const char *path)
{
    struct {
        uint64_t cache, dirty, writeback, evicted, recently_evicted;
    } stat;
    struct {
        uint64_t offset, length;
    } all = { 0, 0 }; /* to the end */
    int fd = open(path, O_RDONLY);
    long ret = syscall(451, fd, &all, &stat, 0);

    close(fd);
    return ret < 0 ? -1 : (int64_t)stat.dirty * getpagesize();
}

#define BEHIND_BYTES (8 << 20)

TEST_CO(test_write_behind)
{
    g_autofree char *path = test_file("behind", 0, 0);
    BlockDriverState *bs;
    BlockBackend *blk;
    g_autofree char *buf = g_malloc(1 << 18);
    int64_t dirty = -1;

    g_assert_cmpint(truncate(path, BEHIND_BYTES), ==, 0);
    bs = test_open("{'driver':'raw','file':{'driver':'file','filename':'%s'}}", path);
    blk = test_blk(bs, true);
    to_io();
    for (int round = 0; round < 2; round++) {
        for (int at = 0; at < BEHIND_BYTES; at += 1 << 18) {
            IOVector iov;

            memset(buf, 'a' + at / (1 << 18), 1 << 18);
            io_vector_init_buf(&iov, buf, 1 << 18);
            g_assert_cmpint(blk_co_pwritev(blk, at, 1 << 18, &iov,
                                           round ? BDRV_REQ_WRITE_BEHIND : 0), ==, 0);
        }
        if (round == 0) {
            dirty = dirty_bytes(path);
        }
    }
    if (dirty <= 0) {
        g_test_message("no cachestat(2), or a file system without write-back");
    } else {
        /* The last piece is not full; writes and write-back may have met in one more.  The
         * kernel itself begins after 30 seconds. */
        for (int i = 0; i < 2000 && dirty_bytes(path) > 3 << 20; i++) {
            co_sleep_ns(10000000);
        }
        g_assert_cmpint(dirty_bytes(path), <=, 3 << 20);
    }
    to_main();
    blk_co_free(blk);
    bdrv_co_unref(bs);
    for (int at = 0; at < BEHIND_BYTES; at += 1 << 18) {
        check_file(path, at, 1 << 18, 'a' + at / (1 << 18));
    }
}

enum { STORM_WRITERS = 4, STORM_BLOCK = 128 << 10, STORM_BLOCKS = 128 /* of each writer */ };

typedef struct Storm {
    BlockBackend *blk;
    int number, *running;
    char content[STORM_BLOCKS]; /* of its blocks, which are every fourth one */
} Storm;

/* Writes behind in no order, with holes, zeroes and flushes in between. */
static void coroutine_fn storm_entry(void *opaque)
{
    Storm *s = opaque;
    g_autofree char *buf = g_malloc(STORM_BLOCK);

    for (int i = 0; i < 2 * STORM_BLOCKS; i++) {
        int block = (i * 37 + s->number * 11) % STORM_BLOCKS;
        int64_t at = ((int64_t)block * STORM_WRITERS + s->number) * STORM_BLOCK;
        IOVector iov;

        s->content[block] = i % 16 == 7 || i % 16 == 11 ? 0 : 'a' + i % 26;
        memset(buf, s->content[block], STORM_BLOCK);
        io_vector_init_buf(&iov, buf, STORM_BLOCK);
        if (i % 16 == 7) {
            g_assert_cmpint(blk_co_pwrite_zeroes(s->blk, at, STORM_BLOCK, BDRV_REQ_MAY_UNMAP), ==, 0);
        } else if (i % 16 == 11) {
            g_assert_cmpint(blk_co_pwrite_zeroes(s->blk, at, STORM_BLOCK, 0), ==, 0);
        } else {
            g_assert_cmpint(blk_co_pwritev(s->blk, at, STORM_BLOCK, &iov, BDRV_REQ_WRITE_BEHIND),
                            ==, 0);
        }
        if (i % 50 == 49) {
            g_assert_cmpint(blk_co_flush(s->blk), ==, 0);
        }
    }
    --*s->running;
}

static void coroutine_fn storm(BlockDriverState *bs, const char *path)
{
    static Storm storms[STORM_WRITERS];
    BlockBackend *blk = test_blk(bs, true);
    int running = STORM_WRITERS;
    g_autofree char *data = NULL;
    gsize size;

    for (int i = 0; i < STORM_WRITERS; i++) {
        storms[i] = (Storm){.blk = blk, .number = i, .running = &running};
    }
    to_io();
    for (int i = 0; i < STORM_WRITERS; i++) {
        aio_co_schedule(test_ctx, coroutine_create(storm_entry, &storms[i]));
    }
    while (running) {
        bdrv_co_drained_begin(bs);
        co_sleep_ns(100000);
        bdrv_drained_end(bs);
        co_sleep_ns(1000000);
    }
    to_main();
    blk_co_free(blk);
    bdrv_co_unref(bs); /* with write-back under way */
    g_assert_true(g_file_get_contents(path, &data, &size, NULL));
    for (int block = 0; block < STORM_BLOCKS * STORM_WRITERS; block++) {
        gsize at = (gsize)block * STORM_BLOCK;
        int value = storms[block % STORM_WRITERS].content[block / STORM_WRITERS];

        g_assert_true(at + STORM_BLOCK <= size ? all_bytes(data + at, value, STORM_BLOCK) : !value);
    }
}

/* Filters and worker threads in between, drained sections, discards, closing at once. */
TEST_CO(test_write_behind_storm)
{
    g_autofree char *path = test_path("storm"), *other = test_path("storm2");
    static const char *const options[] = {
        "{'driver':'file','filename':'%s'}",
        "{'driver':'file','aio':'threads','filename':'%s'}",
        "{'driver':'blkdebug','image':{'driver':'file','filename':'%s'},'max-transfer':65536}",
    };

    for (size_t i = 0; i < G_N_ELEMENTS(options); i++) {
        g_autofree char *text = NULL;

        g_free(test_file("storm", 0, 0));
        g_assert_cmpint(truncate(path, STORM_BLOCK * STORM_BLOCKS * STORM_WRITERS), ==, 0);
        text = g_strdup_printf(options[i], path);
        storm(test_open("%s", text), path);
    }
    g_free(test_file("storm", 0, 0));
    g_free(test_file("storm2", 0, 0));
    g_assert_cmpint(truncate(path, STORM_BLOCK * STORM_BLOCKS * STORM_WRITERS), ==, 0);
    g_assert_cmpint(truncate(other, STORM_BLOCK * STORM_BLOCKS * STORM_WRITERS), ==, 0);
    storm(test_open("{'driver':'blkverify','raw':{'driver':'file','filename':'%s'},"
                    "'test':{'driver':'file','filename':'%s'}}", other, path), path);
}

TEST_CO(test_odd_size)
{
    g_autofree char *path = test_file("odd", 1000, 'a');
    BlockDriverState *bs = test_open("{'driver':'raw','file':{'driver':'file','filename':'%s'}}",
                                     path);
    BlockBackend *blk = test_blk(bs, true);
    char buf[1024];

    g_assert_cmpint(bdrv_length(bs), ==, 1024);
    to_io();
    g_assert_cmpint(blk_co_pread(blk, 0, 1024, buf), ==, 0);
    g_assert_true(all_bytes(buf, 'a', 1000));
    g_assert_true(all_bytes(buf + 1000, 0, 24));
    to_main();
    blk_co_free(blk);
    bdrv_co_unref(bs);
}

TEST_CO(test_raw_window)
{
    g_autofree char *path = test_file("a", 8192, 'a');
    BlockDriverState *bs = test_open("{'driver':'raw','offset':1024,'size':2048,'file':{"
                                     "'driver':'file','filename':'%s'}}", path);
    BlockBackend *blk = test_blk(bs, true);
    GError *err = NULL;
    char buf[2048];

    memset(buf, 'w', sizeof(buf));
    to_io();
    g_assert_cmpint(blk_co_pwrite(blk, 0, 2048, buf), ==, 0);
    g_assert_cmpint(blk_co_pwrite(blk, 2047, 2, buf), ==, -EIO);
    g_assert_false(blk_co_truncate(blk, 4096, &err));
    g_assert_cmpstr(err->message, ==, "Cannot resize fixed-size raw disks");
    g_clear_error(&err);
    to_main();
    blk_co_free(blk);
    bdrv_co_unref(bs);
    check_file(path, 0, 1024, 'a');
    check_file(path, 1024, 2048, 'w');
    check_file(path, 3072, 5120, 'a');
}

TEST_CO(test_truncate)
{
    g_autofree char *path = test_file("a", 4096, 'a');
    BlockDriverState *bs = test_open("{'driver':'raw','file':{'driver':'file','filename':'%s'}}",
                                     path);
    BlockBackend *blk = test_blk(bs, true);
    GError *err = NULL;
    char buf[512];

    to_io();
    g_assert_true(blk_co_truncate(blk, 8192, &err));
    g_assert_no_error(err);
    g_assert_cmpint(bdrv_length(bs), ==, 8192);
    g_assert_cmpint(blk_co_pread(blk, 7680, 512, buf), ==, 0);
    g_assert_true(all_bytes(buf, 0, 512));
    g_assert_false(blk_co_truncate(blk, -1, &err));
    g_assert_nonnull(err);
    g_clear_error(&err);
    to_main();
    blk_co_free(blk);
    bdrv_co_unref(bs);
}

TEST_CO(test_read_only)
{
    g_autofree char *path = test_file("ro", 4096, 'a');
    BlockDriverState *bs = test_open("{'driver':'raw','read-only':true,'node-name':'r','file':{"
                                     "'driver':'file','filename':'%s'}}", path);
    BlockBackend *blk = test_blk(bs, false);
    GError *err = NULL;
    char buf[512] = "";

    g_assert_true(bdrv_is_read_only(bs));
    g_assert_true(bdrv_is_read_only(bdrv_file(bs)));
    g_assert_null(blk_new("", bs, true, &err));
    g_assert_cmpstr(err->message, ==, "Block node is read-only");
    g_clear_error(&err);
    to_io();
    g_assert_cmpint(blk_co_pwrite(blk, 0, 512, buf), ==, -EPERM);
    g_assert_cmpint(blk_co_pwrite_zeroes(blk, 0, 512, 0), ==, -EPERM);
    g_assert_cmpint(blk_co_pdiscard(blk, 0, 512), ==, -EPERM);
    g_assert_false(blk_co_truncate(blk, 512, &err));
    g_clear_error(&err);
    g_assert_cmpint(blk_co_flush(blk), ==, 0);
    to_main();
    blk_co_free(blk);
    bdrv_co_unref(bs);
    check_file(path, 0, 4096, 'a');
}

TEST_CO(test_zeroes)
{
    g_autofree char *path = test_file("z", 1024 * 1024, 'a');
    BlockDriverState *bs = test_open("{'driver':'file','filename':'%s','discard':'unmap',"
                                     "'detect-zeroes':'unmap'}", path);
    BlockBackend *blk = test_blk(bs, true);
    g_autofree char *buf = g_malloc0(262144);
    int64_t before, after, pnum;

    to_io();
    before = bs->drv->co_allocated_size(bs);
    g_assert_cmpint(blk_co_pwrite_zeroes(blk, 1, 9999, 0), ==, 0);
    g_assert_cmpint(blk_co_pwrite_zeroes(blk, 65536, 65536, BDRV_REQ_MAY_UNMAP), ==, 0);
    g_assert_cmpint(blk_co_pdiscard(blk, 131072, 65536), ==, 0);
    g_assert_cmpint(blk_co_pwrite(blk, 262144, 262144, buf), ==, 0);
    after = bs->drv->co_allocated_size(bs);
    g_assert_cmpint(after, <, before);
    g_assert_cmpint(bdrv_co_block_status(bs, 131072, 65536, &pnum, NULL) & BDRV_BLOCK_ZERO, !=, 0);
    g_assert_cmpint(pnum, ==, 65536);
    g_assert_cmpint(bdrv_co_block_status(bs, 1024 * 1024, 65536, &pnum, NULL), ==, 0);
    g_assert_cmpint(pnum, ==, 0);
    to_main();
    blk_co_free(blk);
    bdrv_co_unref(bs);
    check_file(path, 0, 1, 'a');
    check_file(path, 1, 9999, 0);
    check_file(path, 10000, 55536, 'a');
    check_file(path, 65536, 65536, 0);
    check_file(path, 262144, 262144, 0);
    check_file(path, 524288, 524288, 'a');
}

/* Discards that nobody asked for leave the data alone. */
TEST_CO(test_discard_ignored)
{
    g_autofree char *path = test_file("d", 65536, 'a');
    BlockDriverState *bs = test_open("{'driver':'file','filename':'%s'}", path);
    BlockBackend *blk = test_blk(bs, true);

    to_io();
    g_assert_cmpint(blk_co_pdiscard(blk, 0, 65536), ==, 0);
    to_main();
    blk_co_free(blk);
    bdrv_co_unref(bs);
    check_file(path, 0, 65536, 'a');
}

/* --- Alignment ----------------------------------------------------------------------------- */

typedef struct Writer {
    BlockBackend *blk;
    int value, *running;
} Writer;

static void coroutine_fn write_byte(void *opaque)
{
    Writer *w = opaque;
    char c = w->value;

    g_assert_cmpint(blk_co_pwrite(w->blk, w->value, 1, &c), ==, 0);
    --*w->running;
}

/* 200 writers of one byte each in the same blocks: no update is lost. */
TEST_CO(test_alignment)
{
    g_autofree char *path = test_file("al", 16384, 'a');
    BlockDriverState *bs = test_open("{'driver':'blkdebug','align':4096,'image':{'driver':'file',"
                                     "'filename':'%s'}}", path);
    BlockBackend *blk = test_blk(bs, true);
    Writer writers[200];
    int running = G_N_ELEMENTS(writers);
    unsigned char buf[10000];

    to_io();
    for (int i = 0; i < (int)G_N_ELEMENTS(writers); i++) {
        writers[i] = (Writer){ blk, i, &running };
        aio_co_enter(test_ctx, coroutine_create(write_byte, &writers[i]));
    }
    bdrv_co_drained_begin(bs);
    bdrv_drained_end(bs);
    while (running) {
        co_sleep_ns(1000000);
    }
    g_assert_cmpint(blk_co_pread(blk, 0, 200, buf), ==, 0);
    for (int i = 0; i < 200; i++) {
        g_assert_cmpint(buf[i], ==, i);
    }
    memset(buf, 'b', sizeof(buf));
    g_assert_cmpint(blk_co_pwrite(blk, 4000, 8500, buf), ==, 0);
    memset(buf, 0, sizeof(buf));
    g_assert_cmpint(blk_co_pread(blk, 3999, 8502, buf), ==, 0);
    g_assert_cmpint(buf[0], ==, 'a');
    g_assert_true(all_bytes(buf + 1, 'b', 8500));
    g_assert_cmpint(buf[8501], ==, 'a');
    g_assert_cmpint(blk_co_pwrite_zeroes(blk, 4000, 8500, 0), ==, 0);
    g_assert_cmpint(blk_co_pread(blk, 3999, 8502, buf), ==, 0);
    g_assert_cmpint(buf[0], ==, 'a');
    g_assert_true(all_bytes(buf + 1, 0, 8500));
    g_assert_cmpint(buf[8501], ==, 'a');
    to_main();
    blk_co_free(blk);
    bdrv_co_unref(bs);
}

TEST_CO(test_direct)
{
    g_autofree char *path = test_file("direct", 3 * 1024 * 1024, 'a');
    GError *err = NULL;
    BlockDriverState *bs = test_try_open(&err, "{'driver':'file','filename':'%s',"
                                         "'cache':{'direct':true}}", path);
    g_autofree char *buf = g_malloc(2500001);
    BlockBackend *blk;

    if (!bs) { /* tmpfs of old */
        g_assert_nonnull(strstr(err->message, "filesystem does not support O_DIRECT"));
        g_clear_error(&err);
        return;
    }
    blk = test_blk(bs, true);
    g_assert_cmpint(bs->request_alignment, >=, 512);
    to_io();
    memset(buf, 'd', 2500001);
    g_assert_cmpint(blk_co_pwrite(blk, 777, 2500001, buf), ==, 0);
    memset(buf, 0, 2500001);
    g_assert_cmpint(blk_co_pread(blk, 777, 2500001, buf), ==, 0);
    g_assert_true(all_bytes(buf, 'd', 2500001));
    g_assert_cmpint(blk_co_flush(blk), ==, 0);
    to_main();
    blk_co_free(blk);
    bdrv_co_unref(bs);
    check_file(path, 0, 777, 'a');
    check_file(path, 777, 2500001, 'd');
    check_file(path, 2500778, 1000, 'a');
}

/* --- Faults ---------------------------------------------------------------------------------- */

TEST_CO(test_blkdebug)
{
    g_autofree char *path = test_file("bd", 65536, 'a');
    BlockDriverState *bs = test_open(
        "{'driver':'raw','file':{'driver':'blkdebug','image':{'driver':'file','filename':'%s'},"
        "'inject-error':[{'iotype':'write','errno':28,'after':2,'once':true},"
        "{'iotype':'read','sector':3,'errno':5},{'iotype':'flush','once':true},"
        "{'event':'none','iotype':'write-zeroes','delay-ns':1000000}]}}", path);
    BlockBackend *blk = test_blk(bs, true);
    char buf[512] = "";
    int64_t start;

    to_io();
    g_assert_cmpint(blk_co_pwrite(blk, 0, 512, buf), ==, 0);
    g_assert_cmpint(blk_co_pwrite(blk, 0, 512, buf), ==, 0);
    g_assert_cmpint(blk_co_pwrite(blk, 0, 512, buf), ==, -ENOSPC);
    g_assert_cmpint(blk_co_pwrite(blk, 0, 512, buf), ==, 0);
    g_assert_cmpint(blk_co_pread(blk, 1024, 512, buf), ==, 0);
    g_assert_cmpint(blk_co_pread(blk, 1536, 512, buf), ==, -EIO);
    g_assert_cmpint(blk_co_pread(blk, 1536, 512, buf), ==, -EIO);
    g_assert_cmpint(blk_co_pread(blk, 2048, 512, buf), ==, 0);
    g_assert_cmpint(blk_co_flush(blk), ==, -EIO);
    g_assert_cmpint(blk_co_flush(blk), ==, 0);
    start = clock_now_ns();
    g_assert_cmpint(blk_co_pwrite_zeroes(blk, 0, 4096, 0), ==, 0);
    g_assert_cmpint(clock_now_ns() - start, >=, 1000000);
    to_main();
    blk_co_free(blk);
    bdrv_co_unref(bs);
    test_open_fails("Cannot meet constraints with align 3",
                    "{'driver':'blkdebug','align':3,'image':{'driver':'file','filename':'%s'}}",
                    path);
    test_open_fails("-1 is not an error number",
                    "{'driver':'blkdebug','inject-error':[{'errno':-1}],"
                    "'image':{'driver':'file','filename':'%s'}}", path);
}

/* --- Locks ------------------------------------------------------------------------------------ */

TEST_CO(test_locks)
{
    g_autofree char *path = test_file("lk", 65536, 'a');
    g_autofree char *write_lock = g_strdup_printf("Failed to get \"write\" lock\nIs another "
                                                  "process using the image [%s]?", path);
    BlockDriverState *bs = test_open("{'driver':'file','filename':'%s'}", path), *other;

    test_open_fails(write_lock, "{'driver':'file','filename':'%s'}", path);
    /* A reader of plain bytes disturbs nobody; so does one that was told not to look. */
    other = test_open("{'driver':'file','filename':'%s','read-only':true}", path);
    bdrv_co_unref(other);
    other = test_open("{'driver':'file','filename':'%s','locking':'off'}", path);
    bdrv_co_unref(other);
    bdrv_co_unref(bs);

    other = test_open("{'driver':'file','filename':'%s','read-only':true}", path);
    bs = test_open("{'driver':'file','filename':'%s'}", path);
    bdrv_co_unref(bs);
    bdrv_co_unref(other);
}

/* --- By file name --------------------------------------------------------------------------- */

TEST_CO(test_open_file)
{
    g_autofree char *path = test_file("img", 4096, 'a');
    g_autofree char *json = g_strdup_printf("json:{'driver':'raw','file':{'driver':'file',"
                                            "'filename':'%s'}}", path);
    BlockDriverState *bs;
    GError *err = NULL;

    bs = bdrv_co_open_file(path, NULL, true, test_ctx, &err);
    g_assert_no_error(err);
    g_assert_cmpstr(bdrv_driver_name(bs), ==, "raw");
    bdrv_co_unref(bs);
    bs = bdrv_co_open_file(path, "file", false, test_ctx, &err);
    g_assert_no_error(err);
    g_assert_cmpstr(bdrv_driver_name(bs), ==, "file");
    bdrv_co_unref(bs);
    bs = bdrv_co_open_file(json, NULL, false, test_ctx, &err);
    g_assert_no_error(err);
    g_assert_cmpstr(bdrv_filename(bs), ==, path);
    bdrv_co_unref(bs);
    g_assert_null(bdrv_co_open_file(path, "parallels", true, test_ctx, &err));
    g_assert_cmpstr(err->message, ==, "Unknown driver 'parallels'");
    g_clear_error(&err);
    g_assert_null(bdrv_co_open_file("", NULL, true, test_ctx, &err));
    g_assert_cmpstr(err->message, ==, "The 'file' block driver requires a file name");
    g_clear_error(&err);
    g_assert_null(bdrv_co_open_file("json:{", NULL, true, test_ctx, &err));
    g_assert_nonnull(err);
    g_clear_error(&err);
}

static void test_backing_names(void)
{
    static const char *const cases[][3] = {
        { "a.qcow2", "b.qcow2", "b.qcow2" },
        { "dir/a.qcow2", "b.qcow2", "dir/b.qcow2" },
        { "/x/y/a", "../b", "/x/y/../b" },
        { "dir/a.qcow2", "/abs/b", "/abs/b" },
        { "dir/a.qcow2", "json:{}", "json:{}" },
        { "dir/a.qcow2", "file:b", "file:b" },
        { "dir/a.qcow2", "blkdebug::b", "blkdebug::b" },
        { "dir/a.qcow2", "./x:b", "dir/./x:b" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *full = bdrv_full_backing_filename(cases[i][0], cases[i][1]);
        g_assert_cmpstr(full, ==, cases[i][2]);
    }
}

/* Whether copy_file_range(2) does anything here. */
static bool host_copies(const char *from, const char *to)
{
    int in = open(from, O_RDONLY), out = open(to, O_RDWR);
    off_t at = 0, to_at = 0;
    bool ok = copy_file_range(in, &at, out, &to_at, 512, 0) == 512;

    close(in);
    close(out);
    return ok;
}

TEST_CO(test_copy_range)
{
    g_autofree char *source = test_file("source", 3 << 20, 's'), *raw = test_file("raw", 8192, 'r');
    g_autofree char *image = test_file("image", 0, 0);
    BdrvCreateParams params = { .filename = image, .size = 4 << 20 };
    g_autofree char *buf = g_malloc(2 << 20);
    BlockDriverState *from, *to, *nothing, *qcow2;
    BlockBackend *raw_blk, *null_blk, *qcow2_blk;
    GError *err = NULL;

    if (!host_copies(source, raw)) {
        g_test_skip("the host's files cannot be copied in the kernel");
        return;
    }
    bdrv_co_create(&bdrv_qcow2_driver, &params, main_aio_context(), &err);
    g_assert_no_error(err);
    from = test_open("{'driver':'file','filename':'%s','read-only':true}", source);
    to = test_open("{'driver':'raw','file':{'driver':'file','filename':'%s'}}", raw);
    nothing = test_open("{'driver':'null-co','size':%d}", 1 << 20);
    qcow2 = test_open("{'driver':'qcow2','file':{'driver':'file','filename':'%s'}}", image);
    raw_blk = test_blk(to, true);
    null_blk = test_blk(nothing, true);
    qcow2_blk = test_blk(qcow2, true);
    to_io();
    g_assert_cmpint(blk_co_copy_range(raw_blk, 1000, from, 5000, 3000), ==, 0);
    g_assert_cmpint(blk_co_copy_range(raw_blk, 8000, from, 0, 1000), ==, -EIO);
    g_assert_cmpint(blk_co_copy_range(raw_blk, 0, from, (3 << 20) - 512, 1024), ==, -ENOTSUP);
    g_assert_cmpint(blk_co_copy_range(raw_blk, 0, nothing, 0, 512), ==, -ENOTSUP);
    g_assert_cmpint(blk_co_copy_range(null_blk, 0, from, 0, 512), ==, -ENOTSUP);

    /* Clusters, new ones and those that are there; parts of them where the rest is zero. */
    g_assert_cmpint(blk_co_copy_range(qcow2_blk, 65536, from, 777, 1 << 20), ==, 0);
    g_assert_cmpint(blk_co_copy_range(qcow2_blk, 65536 + 100, from, 0, 1000), ==, 0);
    memset(buf, 'w', 65536);
    g_assert_cmpint(blk_co_pwrite(qcow2_blk, 3 << 20, 65536, buf), ==, 0);
    g_assert_cmpint(blk_co_copy_range(qcow2_blk, (3 << 20) - 65536, from, 0, 2 * 65536), ==, 0);
    g_assert_cmpint(blk_co_copy_range(qcow2_blk, 2 << 20, from, 0, 512), ==, 0);
    g_assert_cmpint(blk_co_pread(qcow2_blk, 0, 2 << 20, buf), ==, 0);
    g_assert_true(all_bytes(buf, 0, 65536));
    g_assert_true(all_bytes(buf + 65536, 's', 1 << 20));
    g_assert_true(all_bytes(buf + 65536 + (1 << 20), 0, (2 << 20) - 65536 - (1 << 20)));
    g_assert_cmpint(blk_co_pread(qcow2_blk, (3 << 20) - 65536, 3 * 65536, buf), ==, 0);
    g_assert_true(all_bytes(buf, 's', 2 * 65536));
    g_assert_true(all_bytes(buf + 2 * 65536, 0, 65536));
    to_main();
    blk_co_free(raw_blk);
    blk_co_free(null_blk);
    blk_co_free(qcow2_blk);
    bdrv_co_unref(from);
    bdrv_co_unref(to);
    bdrv_co_unref(nothing);
    bdrv_co_unref(qcow2);
    check_file(raw, 512, 1000 - 512, 'r');
    check_file(raw, 1000, 3000, 's');
    check_file(raw, 4000, 8192 - 4000, 'r');
}

static void add_tests(void)
{
    g_test_add_func("/block/io/file", test_file_io);
    g_test_add_func("/block/io/write-behind", test_write_behind);
    g_test_add_func("/block/io/write-behind-storm", test_write_behind_storm);
    g_test_add_func("/block/io/copy-range", test_copy_range);
    g_test_add_func("/block/io/odd-size", test_odd_size);
    g_test_add_func("/block/io/raw-window", test_raw_window);
    g_test_add_func("/block/io/truncate", test_truncate);
    g_test_add_func("/block/io/read-only", test_read_only);
    g_test_add_func("/block/io/zeroes", test_zeroes);
    g_test_add_func("/block/io/discard-ignored", test_discard_ignored);
    g_test_add_func("/block/io/alignment", test_alignment);
    g_test_add_func("/block/io/direct", test_direct);
    g_test_add_func("/block/io/blkdebug", test_blkdebug);
    g_test_add_func("/block/io/locks", test_locks);
    g_test_add_func("/block/io/open-file", test_open_file);
    g_test_add_func("/block/io/backing-names", test_backing_names);
}

int main(int argc, char **argv)
{
    return test_run(argc, argv, add_tests);
}
