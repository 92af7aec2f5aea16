/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Machine state in compressed clusters against a model: written in parts of any size, several
 * at once, over and over; shared with a second snapshot; aborted, and with a write that fails
 * at each place.  The image is clean for our check and Debian's, and both ways of reading - by
 * the node, and unpacked by the reader - give back what was written.
 */
#include "qcow2-test.h"

typedef struct State {
    MemFile *file;
    BdrvChild *image;
    GRand *rand;
    uint64_t cluster, bytes;
    uint8_t *data; /* the model */
    void *save;
    int writers, error;
} State;

static const BdrvSnapshotDriver *snap(State *t)
{
    return t->image->bs->drv->snapshot;
}

static void state_open(State *t, const char *options, uint64_t cluster, int seed)
{
    GError *err = NULL;

    *t = (State){.cluster = cluster, .bytes = 40 * cluster, .rand = g_rand_new_with_seed(seed)};
    t->file = image_create(1 << 20, options);
    t->file->yield_rand = t->rand;
    t->image = image_open(t->file, NULL, false, &err);
    g_assert_no_error(err);
    t->data = g_malloc0(t->bytes);
}

static void coroutine_fn state_close(State *t)
{
    image_close(t->image);
    mem_free(t->file);
    g_rand_free(t->rand);
    g_free(t->data);
}

static void coroutine_fn begin(State *t, const char *name, uint64_t base)
{
    BlockDriverState *bs = t->image->bs;
    BdrvSnapshotInfo info = {.icount = UINT64_MAX};
    GError *err = NULL;

    g_strlcpy(info.name, name, sizeof(info.name));
    t->save = snap(t)->prepare(bs, &info, t->bytes, &err);
    g_assert_no_error(err);
    g_assert_true(snap(t)->compress(bs, t->save, &err));
    if (base) {
        g_assert_cmpuint(snap(t)->share_with(bs, t->save, base, &err), ==, t->cluster);
        g_assert_no_error(err);
    }
    g_assert_true(snap(t)->freeze(bs, t->save, &err));
}

/* Some bytes that can be packed well, badly or not at all. */
static void fill(State *t, uint8_t *p, uint64_t n)
{
    int kind = 0;

    for (uint64_t i = 0; i < n; i++) {
        if (i % t->cluster == 0) {
            kind = g_rand_int_range(t->rand, 0, 4);
        }
        p[i] = kind == 0   ? g_rand_int(t->rand)
               : kind == 1 ? i / 64
               : kind == 2 ? g_rand_int(t->rand) & 1
                           : (guint32)kind;
    }
}

static int coroutine_fn write_at(State *t, uint64_t offset, uint64_t bytes)
{
    /* Not the model itself: other writers change their parts of a cluster. */
    g_autofree uint8_t *buf = g_malloc(bytes);
    IOVector iov;
    int ret;

    fill(t, buf, bytes);
    io_vector_init(&iov, 2);
    io_vector_add(&iov, buf, bytes / 2);
    io_vector_add(&iov, buf + bytes / 2, bytes - bytes / 2);
    ret = snap(t)->write(t->image->bs, t->save, offset, &iov);
    if (ret == 0) {
        memcpy(t->data + offset, buf, bytes);
    }
    io_vector_destroy(&iov);
    return ret;
}

/*
 * Each writer has its own part of the state, which ends and begins within a cluster; the end
 * of the state is nobody's.
 */
static void coroutine_fn writer_entry(void *opaque)
{
    State *t = opaque;
    uint64_t part = t->bytes / 5, first = t->writers++ * part + t->cluster / 4;

    for (int i = 0; i < 12 && !t->error; i++) {
        uint64_t offset = g_rand_int_range(t->rand, 0, part - 1);
        uint64_t bytes = g_rand_int_range(t->rand, 1, part - offset + 1);
        int ret;

        if (i % 2) { /* as RAM is written, mostly */
            uint64_t whole = (first + offset) / t->cluster * t->cluster;

            if (whole >= first && whole + t->cluster <= first + part) {
                offset = whole - first;
                bytes = (part - offset) / t->cluster * t->cluster;
            }
        }
        ret = write_at(t, first + offset, bytes);
        t->error = t->error ? t->error : ret;
    }
    t->writers -= 100;
}

static void coroutine_fn write_much(State *t)
{
    t->writers = t->error = 0;
    for (int i = 0; i < 4; i++) {
        aio_co_schedule(main_aio_context(), coroutine_create(writer_entry, t));
    }
    while (t->writers != 4 - 400) {
        co_sleep_ns(0);
    }
}

/* The first one gives back what was put off until then; with the second the file says so. */
static void coroutine_fn flush(State *t)
{
    g_assert_cmpint(bdrv_co_flush(t->image->bs), ==, 0);
    g_assert_cmpint(bdrv_co_flush(t->image->bs), ==, 0);
}

static uint64_t coroutine_fn finish(State *t, const char *name)
{
    BlockDriverState *bs = t->image->bs;
    BdrvSnapshotInfo info = {.icount = UINT64_MAX, .vm_state_size = t->bytes};
    GError *err = NULL;

    g_strlcpy(info.name, name, sizeof(info.name));
    g_assert_true(snap(t)->publish(bs, t->save, &info, &err));
    snap(t)->done(bs, t->save);
    flush(t);
    image_assert_clean(t->file, false, name);
    qemu_img_check(t->file, false);
    return snapshot_named(bs, name)->info.serial;
}

static void coroutine_fn assert_state(State *t, const char *name, const uint8_t *data)
{
    BlockDriverState *bs = t->image->bs;
    g_autofree uint8_t *buf = g_malloc(t->bytes), *unit = g_malloc(t->cluster);
    GError *err = NULL;
    void *reader = snap(t)->open(bs, snapshot_id(bs, name), &err);
    int packed = 0;
    IOVector iov;

    g_assert_no_error(err);
    io_vector_init_buf(&iov, buf, t->bytes);
    g_assert_cmpint(snap(t)->read(bs, reader, 0, &iov), ==, 0);
    g_assert_cmpmem(buf, t->bytes, data, t->bytes);
    for (uint64_t at = 0; at < t->bytes; at += t->cluster) {
        BdrvSnapshotPacked p;
        g_autofree uint8_t *in = NULL;
        int ret = snap(t)->map_packed(bs, reader, at + t->cluster / 2, &p);

        if (ret == -ENOTSUP) {
            continue;
        }
        g_assert_cmpint(ret, ==, 0);
        g_assert_cmpuint(p.offset, ==, at);
        g_assert_cmpuint(p.bytes, ==, t->cluster);
        g_assert_cmpuint(p.file_offset % 512, ==, 0);
        in = g_malloc0(p.file_bytes);
        memcpy(in, t->file->data + p.file_offset,
               MIN(p.file_bytes, t->file->len - p.file_offset));
        g_assert_cmpint(snap(t)->unpack(bs, &p, in, unit), ==, 0);
        g_assert_cmpmem(unit, t->cluster, data + at, t->cluster);
        /* Damage is an error, not a crash. */
        memset(in, 0xff, p.file_bytes);
        g_assert_cmpint(snap(t)->unpack(bs, &p, in, unit), <, 0);
        packed++;
    }
    g_assert_cmpint(packed, >, 0);
    snap(t)->close(bs, reader);
}

static void coroutine_fn remove_snapshot(State *t, const char *name)
{
    BlockDriverState *bs = t->image->bs;
    GError *err = NULL;

    g_assert_true(snap(t)->remove(bs, snapshot_id(bs, name), NULL, &err));
    flush(t);
    image_assert_clean(t->file, false, name);
    qemu_img_check(t->file, false);
}

static void coroutine_fn roundtrip(const char *options, uint64_t cluster)
{
    uint64_t bytes, size, serial;
    g_autofree uint8_t *first = NULL, *second = NULL;
    State t;

    state_open(&t, options, cluster, cluster);
    begin(&t, "one", 0);
    for (uint64_t at = 0; at < t.bytes; at += 8 * cluster) {
        g_assert_cmpint(write_at(&t, at, 8 * cluster), ==, 0);
    }
    snap(&t)->compressed(t.save, &bytes, &size);
    g_assert_cmpuint(bytes, >, 0);
    g_assert_cmpuint(size, <, bytes);
    write_much(&t);
    g_assert_cmpint(t.error, ==, 0);
    serial = finish(&t, "one");
    assert_state(&t, "one", t.data);
    first = g_memdup2(t.data, t.bytes);

    /* Half of the next one is the first one's. */
    begin(&t, "two", serial);
    g_assert_cmpint(snap(&t)->share(t.image->bs, t.save,
                                    &(BdrvSnapshotExtent){0, t.bytes / 2}, 1), ==, 0);
    g_assert_cmpint(write_at(&t, t.bytes / 2, t.bytes / 2), ==, 0);
    finish(&t, "two");
    assert_state(&t, "one", first);
    assert_state(&t, "two", t.data);
    remove_snapshot(&t, "one");
    assert_state(&t, "two", t.data);

    second = g_memdup2(t.data, t.bytes);
    begin(&t, "three", 0);
    write_much(&t);
    snap(&t)->abort(t.image->bs, t.save);
    image_assert_clean(t.file, false, "aborted");
    assert_state(&t, "two", second);
    remove_snapshot(&t, "two");
    state_close(&t);
}

static void coroutine_fn test_zlib(void)
{
    roundtrip("", 65536);
}

static void coroutine_fn test_zlib_small(void)
{
    roundtrip("cluster_size=4096,compat=0.10", 4096);
}

static void coroutine_fn test_zstd(void)
{
    roundtrip("compression_type=zstd", 65536);
}

static void coroutine_fn test_zstd_large(void)
{
    roundtrip("compression_type=zstd,cluster_size=524288,refcount_bits=64", 524288);
}

/* One write of many fails; the save is given up, and every cluster given back. */
static void coroutine_fn test_write_fails(void)
{
    int failed = 0;

    for (int after = 0; after < 40; after++) {
        State t;

        state_open(&t, "cluster_size=4096", 4096, after);
        begin(&t, "bad", 0);
        t.file->fail_after = after;
        t.file->fail_errno = ENOSPC;
        t.file->fail_once = true;
        write_much(&t);
        failed += t.error == -ENOSPC;
        t.file->fail_after = -1;
        snap(&t)->abort(t.image->bs, t.save);
        image_assert_clean(t.file, false, "after a failed write");
        state_close(&t);
    }
    g_assert_cmpint(failed, >, 20);
}

/* Where counts are narrow nothing is compressed, and it is said why. */
static void coroutine_fn test_narrow(void)
{
    BdrvSnapshotInfo info = {.name = "n", .icount = UINT64_MAX};
    GError *err = NULL;
    void *save;
    State t;

    state_open(&t, "refcount_bits=8", 65536, 1);
    save = snap(&t)->prepare(t.image->bs, &info, t.bytes, &err);
    g_assert_no_error(err);
    g_assert_false(snap(&t)->compress(t.image->bs, save, &err));
    g_assert_cmpstr(err->message, ==, "Compressed machine state needs reference counts of 16 "
                                      "bits or more, the image has 8");
    g_error_free(err);
    snap(&t)->abort(t.image->bs, save);
    image_assert_clean(t.file, false, "refused");
    state_close(&t);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    main_aio_context_init();
    add_test("/qcow2-pack/zlib", test_zlib);
    add_test("/qcow2-pack/zlib-small", test_zlib_small);
    add_test("/qcow2-pack/zstd", test_zstd);
    add_test("/qcow2-pack/zstd-large", test_zstd_large);
    add_test("/qcow2-pack/write-fails", test_write_fails);
    add_test("/qcow2-pack/narrow", test_narrow);
    return g_test_run();
}
