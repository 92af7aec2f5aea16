/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qcow2 images that are damaged or meant to do harm: each is refused with one clear error,
 * or used without crash, hang or harm to what is sound; random damage to every metadata
 * byte; and writes that fail below qcow2 at every step of a run with snapshots.
 */
#include "qcow2-test.h"

typedef struct Patch {
    uint64_t offset;
    int bytes;
    uint64_t value;
} Patch;

/* A small image whose content is known: 4 KiB clusters, data, one snapshot with state. */
static MemFile *coroutine_fn sample(const char *options)
{
    MemFile *m = image_create(1 << 20, options);
    BdrvSnapshotInfo info = { .name = "snap", .icount = UINT64_MAX };
    GError *err = NULL;
    uint8_t buf[20000];
    BdrvChild *image = image_open(m, NULL, false, &err);
    const BdrvSnapshotDriver *d;
    IOVector iov;
    void *save;

    g_assert_no_error(err);
    d = image->bs->drv->snapshot;
    memset(buf, 0x5a, sizeof(buf));
    g_assert_cmpint(bdrv_co_pwrite(image, 3000, sizeof(buf), buf, 0), ==, 0);
    save = d->prepare(image->bs, &info, 10000, &err);
    g_assert_no_error(err);
    g_assert_true(d->freeze(image->bs, save, &err));
    io_vector_init_buf(&iov, buf, 10000);
    g_assert_cmpint(d->write(image->bs, save, 0, &iov), ==, 0);
    info.vm_state_size = 10000;
    g_assert_true(d->publish(image->bs, save, &info, &err));
    d->done(image->bs, save);
    memset(buf, 0xa5, sizeof(buf));
    g_assert_cmpint(bdrv_co_pwrite(image, 10000, sizeof(buf), buf, 0), ==, 0);
    image_close(image);
    return m;
}

static void patch(MemFile *m, const Patch *p)
{
    for (int i = 0; i < p->bytes; i++) {
        m->data[p->offset + i] = p->value >> (8 * (p->bytes - 1 - i));
    }
}

/* Uses everything an image offers; errors are welcome. */
static void coroutine_fn exercise(MemFile *m, bool read_only)
{
    g_autofree uint8_t *buf = g_malloc(1 << 20);
    BdrvChild *image = image_open(m, NULL, read_only, NULL);
    BdrvCheckResult res = { 0 };
    const BdrvSnapshotDriver *d;
    BdrvSnapshotInfo *list, info = { .name = "new" };
    IOVector iov;
    void *h;
    int n;

    if (!image) {
        return;
    }
    d = image->bs->drv->snapshot;
    for (int64_t at = 0; at < MIN(image->bs->length, 1 << 20); at += 65536) {
        bdrv_co_pread(image, at, MIN(65536, image->bs->length - at), buf, 0);
    }
    image->bs->drv->co_check(image->bs, &res, 0, NULL);
    list = d->list(image->bs, &n, NULL);
    for (int i = 0; i < MIN(n, 3); i++) {
        h = d->open(image->bs, list[i].id, NULL);
        if (h) {
            io_vector_init_buf(&iov, buf, 10000);
            d->read(image->bs, h, 0, &iov);
            d->close(image->bs, h);
        }
    }
    if (!read_only) {
        memset(buf, 0x11, 70000);
        bdrv_co_pwrite(image, 1000, MIN(70000, image->bs->length / 2), buf, 0);
        bdrv_co_flush(image->bs);
        h = d->prepare(image->bs, &info, 5000, NULL);
        if (h) {
            d->freeze(image->bs, h, NULL);
            bdrv_co_pwrite(image, 0, MIN(5000, image->bs->length / 2), buf, 0);
            if (d->publish(image->bs, h, &info, NULL)) {
                d->done(image->bs, h);
            } else {
                d->abort(image->bs, h);
            }
        }
        h = n ? d->goto_prepare(image->bs, list[0].id, NULL) : NULL;
        if (h) {
            bool ok = d->goto_switch(image->bs, h, NULL) && d->goto_commit(image->bs, h, NULL);
            d->goto_end(image->bs, h, !ok);
        }
        if (n) {
            d->remove(image->bs, list[0].id, NULL, NULL);
        }
        image->bs->drv->co_check(image->bs, &res, BDRV_FIX_LEAKS | BDRV_FIX_ERRORS, NULL);
    }
    g_free(list);
    image_close(image);
}

static void coroutine_fn test_refused(void)
{
    static const struct {
        Patch patch;
        const char *message;
    } cases[] = {
        { { 0, 4, 0x514649fc }, "Image is not in qcow2 format" },
        { { 4, 4, 1 }, "Unsupported qcow2 version 1" },
        { { 4, 4, 4 }, "Unsupported qcow2 version 4" },
        { { 20, 4, 8 }, "Unsupported cluster size: 2^8" },
        { { 20, 4, 22 }, "Unsupported cluster size: 2^22" },
        { { 20, 4, 0xffffffff }, "Unsupported cluster size: 2^4294967295" },
        { { 24, 8, 0x7fffffffffffffff }, "Image size too big" },
        { { 24, 8, 1ULL << 50 }, "Image is too big" },
        { { 24, 8, 1ULL << 30 }, "L1 table is too small" },
        { { 32, 4, 1 }, "Encrypted qcow2 images are not supported (the image uses AES)" },
        { { 32, 4, 2 }, "Encrypted qcow2 images are not supported (the image uses LUKS)" },
        { { 32, 4, 3 }, "Unsupported encryption method 3" },
        { { 36, 4, 0xffffffff }, "Active L1 table too large" },
        { { 36, 4, 4194304 }, "L1 table at offset * lies beyond the end of the file" },
        { { 36, 4, 0 }, "L1 table is too small" },
        { { 40, 8, 0x3001 }, "Active L1 table offset invalid" },
        { { 40, 8, 0 }, "Active L1 table offset invalid" },
        { { 40, 8, 1ULL << 60 }, "Active L1 table offset invalid" },
        { { 40, 8, 1ULL << 50 }, "L1 table at offset * lies beyond the end of the file" },
        { { 48, 8, 1 }, "Reference count table offset invalid" },
        { { 48, 8, 1ULL << 50 }, "reference count table at offset * lies beyond the end*" },
        { { 56, 4, 0 }, "Image does not contain a reference count table" },
        { { 56, 4, 0xffffffff }, "Reference count table too large" },
        { { 60, 4, 65537 }, "Snapshot table too large" },
        { { 60, 4, 65536 }, "*snapshot table entry*" },
        { { 64, 8, 77 }, "Snapshot table offset invalid" },
        { { 64, 8, 1ULL << 50 }, "Failed to read snapshot table entry 0*" },
        { { 72, 8, 4 }, "'data-file' is required for this image" },
        { { 72, 8, 16 }, "Unsupported subcluster size: 128" },
        { { 72, 8, 1ULL << 40 },
          "Unsupported qcow2 feature(s): Unknown incompatible feature: 10000000000" },
        { { 72, 8, 2 }, "qcow2: Image is corrupt; cannot be opened read/write" },
        { { 96, 4, 7 }, "Reference count entry width too large; may not exceed 64 bits" },
        { { 100, 4, 103 }, "qcow2 header too short" },
        { { 100, 4, 0xffffffff }, "qcow2 header exceeds cluster size" },
        { { 116, 4, 0xffffff00 }, "Header extension too large" },
        { { 112, 8, 0x4441544100000400 }, "The name of the data file is longer than 1023 bytes" },
        { { 16, 4, 5000 }, NULL }, /* no backing file: its length means nothing */
    };
    MemFile *m = sample("cluster_size=4096");

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        MemFile *copy = mem_new(m->data, m->len);
        GError *err = NULL;
        BdrvChild *image;

        patch(copy, &cases[i].patch);
        image = image_open(copy, NULL, false, &err);
        if (cases[i].message) {
            g_assert_null(image);
            if (!g_pattern_match_simple(cases[i].message, err->message)) {
                g_error("case %zu: \"%s\", not \"%s\"", i, err->message, cases[i].message);
            }
            g_error_free(err);
        } else {
            g_assert_no_error(err);
            image_close(image);
        }
        mem_free(copy);
    }
    for (size_t len = 0; len < m->len; len += 509) {
        MemFile *copy = mem_new(m->data, len);

        exercise(copy, true);
        exercise(copy, false);
        mem_free(copy);
    }
    mem_free(m);
}

/* Corruption that shows in use: noted in the header, writing ends, reading goes on. */
static void coroutine_fn test_marked(void)
{
    MemFile *m = sample("cluster_size=4096");
    uint64_t l1 = qcow2_be64(m->data + 40), l2 = qcow2_be64(m->data + l1) & QCOW2_OFFSET_MASK;
    Patch on_header = { l2 + 8 * 40, 8, QCOW2_COPIED | 0 | QCOW2_ZERO };
    Patch on_l1 = { l2, 8, QCOW2_COPIED | l1 };
    GError *err = NULL;
    BdrvChild *image;
    uint8_t buf[512] = { 1 };

    patch(m, &on_header);
    patch(m, &on_l1);
    image = image_open(m, NULL, false, &err);
    g_assert_no_error(err);
    g_assert_cmpint(bdrv_co_pwrite(image, 0, 512, buf, 0), ==, -EIO);
    g_assert_cmpint(bdrv_co_pwrite(image, 500000, 512, buf, 0), ==, -EIO);
    g_assert_cmpint(bdrv_co_pread(image, 500000, 512, buf, 0), ==, 0);
    image->bs->drv->co_settle(image->bs);
    g_assert_cmphex(m->data[79] & QCOW2_INCOMPAT_CORRUPT, !=, 0);
    image_close(image);
    mem_free(m);
}

typedef struct Running { /* something that another coroutine does */
    BlockDriverState *bs;
    bool done;
    int ret;
} Running;

static void coroutine_fn flush_entry(void *opaque)
{
    Running *r = opaque;

    r->ret = qcow2_flush(r->bs);
    r->done = true;
}

static void coroutine_fn damage_entry(void *opaque)
{
    Running *r = opaque;

    r->ret = qcow2_signal_corruption(r->bs, "found by the test");
    r->done = true;
}

static void start(Running *r, CoroutineEntry *entry)
{
    aio_co_schedule(main_aio_context(), coroutine_create(entry, r));
}

/* A flush writes a header with a new root when damage is found: the mark comes behind it. */
static void coroutine_fn test_marked_in_flush(void)
{
    MemFile *m = sample("cluster_size=4096");
    BdrvSnapshotInfo info = { .name = "second", .icount = UINT64_MAX };
    GError *err = NULL;
    BdrvChild *image = image_open(m, NULL, false, &err);
    const BdrvSnapshotDriver *d = image->bs->drv->snapshot;
    Running flush = { .bs = image->bs }, damage = { .bs = image->bs };
    uint64_t l1 = qcow2_be64(m->data + 40);
    uint8_t buf[512] = { 1 };
    void *save;

    /* The tables that the snapshot takes need a root switch. */
    save = d->prepare(image->bs, &info, 0, &err);
    g_assert_no_error(err);
    g_assert_true(d->freeze(image->bs, save, &err));
    g_assert_cmpint(bdrv_co_pwrite(image, 0, 512, buf, 0), ==, 0);
    m->hold_header = true;
    start(&flush, flush_entry);
    while (!m->held_header) {
        qcow2_breathe();
    }
    start(&damage, damage_entry);
    for (int i = 0; i < 20; i++) {
        qcow2_breathe();
    }
    g_assert_true(damage.done); /* nobody who finds damage waits for a flush */
    g_assert_cmpint(damage.ret, ==, -EIO);
    g_assert_cmpint(m->held_header, ==, 1);
    m->hold_header = false;
    while (!flush.done) {
        qcow2_breathe();
    }
    g_assert_cmpint(flush.ret, ==, 0);
    image->bs->drv->co_settle(image->bs);
    g_assert_cmphex(m->data[79] & QCOW2_INCOMPAT_CORRUPT, !=, 0);
    g_assert_cmphex(qcow2_be64(m->data + 40), !=, l1);
    d->abort(image->bs, save);
    image_close(image);
    image_assert_clean(m, true, "marked in a flush");
    mem_free(m);
}

static void coroutine_fn test_random_damage(void)
{
    static const char *const options[] = { "cluster_size=4096", "cluster_size=512",
                                           "cluster_size=512,refcount_bits=64" };
    GRand *rand = g_rand_new_with_seed(7);

    for (size_t o = 0; o < G_N_ELEMENTS(options); o++) {
        MemFile *m = sample(options[o]);

        for (int i = 0; i < 600; i++) {
            MemFile *copy = mem_new(m->data, m->len);

            for (int n = g_rand_int_range(rand, 1, 4); n; n--) {
                /* Numbers are where tables are: near the start, eight bytes apart. */
                uint64_t at = g_rand_boolean(rand)
                                  ? (uint64_t)g_rand_int_range(rand, 0, 14) * 8
                                  : (uint64_t)g_rand_int_range(rand, 0, m->len / 8) * 8;
                Patch p = { at, 8, 0 };
                uint64_t old = qcow2_be64(copy->data + at);

                switch (g_rand_int_range(rand, 0, 4)) {
                case 0:
                    p.value = old ^ (1ULL << g_rand_int_range(rand, 0, 64));
                    break;
                case 1:
                    p.value = (uint64_t)g_rand_int(rand) << 32 | g_rand_int(rand);
                    break;
                case 2:
                    p.value = (uint64_t)g_rand_int_range(rand, 0, m->len / 512) * 512 |
                              (old & ~QCOW2_OFFSET_MASK);
                    break;
                default:
                    p.value = UINT64_MAX;
                }
                patch(copy, &p);
            }
            exercise(copy, g_rand_boolean(rand));
            mem_free(copy);
        }
        mem_free(m);
    }
    g_rand_free(rand);
}

/*
 * The n-th write below fails, once or for good, with every n until none is left: nothing
 * crashes, and what was flushed before is there.
 */
static void coroutine_fn test_failing_writes(void)
{
    MemFile *m = sample("cluster_size=4096");

    for (int for_good = 0; for_good < 2; for_good++) {
        for (int n = 0; n < 120; n++) {
            MemFile *copy = mem_new(m->data, m->len);
            g_autofree char *where = g_strdup_printf("write %d failed (%d)", n, for_good);

            copy->fail_after = n;
            copy->fail_errno = n % 2 ? ENOSPC : EIO;
            copy->fail_once = !for_good;
            exercise(copy, false);
            copy->fail_after = -1;
            image_assert_clean(copy, true, where);
            exercise(copy, false);
            mem_free(copy);
        }
    }
    mem_free(m);
}

/* No room for the machine state: -ENOSPC, the guest goes on, all clusters come back. */
static void coroutine_fn test_no_space(void)
{
    MemFile *m = sample("cluster_size=4096");
    BdrvSnapshotInfo info = { .name = "big", .icount = UINT64_MAX };
    GError *err = NULL;
    BdrvChild *image = image_open(m, NULL, false, &err);
    const BdrvSnapshotDriver *d = image->bs->drv->snapshot;
    g_autofree uint8_t *buf = g_malloc0(65536);
    void *save;
    int ret = 0;

    save = d->prepare(image->bs, &info, 1 << 20, &err);
    g_assert_no_error(err);
    g_assert_true(d->freeze(image->bs, save, &err));
    m->max_len = m->len + 200000;
    memset(buf, 1, 65536);
    for (int i = 0; i < 16 && ret == 0; i++) {
        IOVector iov;

        io_vector_init_buf(&iov, buf, 65536);
        ret = d->write(image->bs, save, i * 65536, &iov);
    }
    g_assert_cmpint(ret, ==, -ENOSPC);
    g_assert_cmpint(bdrv_co_pwrite(image, 3000, 4096, buf, 0), ==, 0);
    d->abort(image->bs, save);
    g_assert_cmpint(bdrv_co_pwrite(image, 3000, 4096, buf, 0), ==, 0);
    g_assert_cmpint(bdrv_co_pread(image, 3000, 4096, buf + 4096, 0), ==, 0);
    g_assert_cmpmem(buf, 4096, buf + 4096, 4096);
    image_close(image);
    image_assert_clean(m, false, "after no space");
    mem_free(m);
}

int main(int argc, char **argv)
{
    main_aio_context_init();
    g_test_init(&argc, &argv, NULL);
    bdrv_init();
    add_test("/qcow2/damage/refused", test_refused);
    add_test("/qcow2/damage/marked", test_marked);
    add_test("/qcow2/damage/marked-in-flush", test_marked_in_flush);
    add_test("/qcow2/damage/no-space", test_no_space);
    add_test("/qcow2/damage/failing-writes", test_failing_writes);
    add_test("/qcow2/damage/random", test_random_damage);
    return g_test_run();
}
