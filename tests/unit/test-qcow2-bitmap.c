/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Dirty bitmaps that a qcow2 image keeps, against a model: written, closed, opened again,
 * disabled, removed, resized, with snapshots taken meanwhile.  Then the machine crashes behind
 * every write: a bitmap is gone, inconsistent, or has a bit for all that was written.  Writes
 * that fail; damaged directories.
 */
#include "block/dirty-bitmap-int.h"
#include "qcow2-test.h"

#define SECTOR 512

typedef struct Disk {
    MemFile *file;
    BdrvChild *image;
    GRand *rand;
    int64_t size;
    uint8_t *data;
} Disk;

static void coroutine_fn disk_open(Disk *d)
{
    GError *err = NULL;

    d->image = image_open(d->file, NULL, false, &err);
    g_assert_no_error(err);
}

static void coroutine_fn disk_init(Disk *d, const char *options, int64_t size, int seed)
{
    *d = (Disk){ .file = image_create(size, options), .size = size, .data = g_malloc0(size),
                 .rand = g_rand_new_with_seed(seed) };
    disk_open(d);
}

static void coroutine_fn disk_reopen(Disk *d)
{
    image_close(d->image);
    image_assert_clean(d->file, false, "after closing");
    disk_open(d);
}

static void coroutine_fn disk_free(Disk *d)
{
    image_close(d->image);
    mem_free(d->file);
    g_rand_free(d->rand);
    g_free(d->data);
}

static void coroutine_fn write_some(Disk *d, int n)
{
    while (n-- > 0) {
        int64_t sector = g_rand_int_range(d->rand, 0, d->size / SECTOR);
        int64_t wanted = g_rand_int_range(d->rand, 1, 9) * SECTOR;
        int64_t bytes = MIN(wanted, d->size - sector * SECTOR);

        memset(d->data + sector * SECTOR, g_rand_int_range(d->rand, 1, 256), bytes);
        g_assert_cmpint(bdrv_co_pwrite(d->image, sector * SECTOR, bytes, d->data + sector * SECTOR,
                                       0), ==, 0);
    }
}

static BdrvDirtyBitmap *add(Disk *d, const char *name, uint32_t granularity, bool disabled)
{
    GError *err = NULL;
    BdrvDirtyBitmap *b;

    g_assert_true(bdrv_dirty_bitmap_can_store(d->image->bs, name, granularity, &err));
    b = bdrv_dirty_bitmap_new(d->image->bs, name, granularity, 0, true, disabled, &err);
    g_assert_no_error(err);
    return b;
}

static BdrvDirtyBitmap *find(Disk *d, const char *name)
{
    return bdrv_dirty_bitmap_find(d->image->bs, name, NULL);
}

/* The bits of a bitmap, as a copy. */
static BdrvBits bits_of(Disk *d, const char *name)
{
    BdrvBits copy;

    g_assert_true(bdrv_bits_copy(&copy, &find(d, name)->bits));
    return copy;
}

static void assert_bits(Disk *d, const char *name, const BdrvBits *expected)
{
    BdrvDirtyBitmap *b = find(d, name);

    g_assert_nonnull(b);
    g_assert_false(b->inconsistent);
    g_assert_true(b->persistent);
    g_assert_cmpint(b->bits.size, ==, expected->size);
    g_assert_cmpint(b->bits.granularity, ==, expected->granularity);
    for (int64_t i = 0; i < bdrv_bits_number(expected); i++) {
        g_assert_cmpint(bdrv_bits_get(&b->bits, i), ==, bdrv_bits_get(expected, i));
    }
}

static void assert_qemu_agrees(Disk *d, const char *const *names)
{
    g_autofree char *name = temp_name(), *output = NULL;
    g_autofree char *command = g_strdup_printf("qemu-img info --output=json %s", name);

    if (!have_qemu_img()) {
        return;
    }
    qemu_img_check(d->file, false);
    mem_store(d->file, name);
    g_assert_cmpint(run_tool(command, &output), ==, 0);
    for (; *names; names++) {
        g_autofree char *text = g_strdup_printf("\"name\": \"%s\"", *names);

        g_assert_nonnull(strstr(output, text));
    }
    g_assert_null(strstr(output, "in-use"));
    g_unlink(name);
}

static void coroutine_fn test_kept(void)
{
    static const char *const options[] = { "cluster_size=512", "cluster_size=4096",
                                           "cluster_size=65536",
                                           "refcount_bits=64,lazy_refcounts=on" };
    static const char *const names[] = { "small", "large", "off", NULL };

    for (size_t i = 0; i < G_N_ELEMENTS(options); i++) {
        Disk d;

        disk_init(&d, options[i], (2 << 20) + 512, i);
        write_some(&d, 10);
        add(&d, "small", 512, false);
        add(&d, "large", 65536, false);
        add(&d, "off", 4096, true);
        for (int round = 0; round < 4; round++) {
            BdrvBits small, large, off;

            write_some(&d, 25);
            small = bits_of(&d, "small");
            large = bits_of(&d, "large");
            off = bits_of(&d, "off");
            disk_reopen(&d);
            assert_bits(&d, "small", &small);
            assert_bits(&d, "large", &large);
            assert_bits(&d, "off", &off);
            g_assert_true(find(&d, "small")->enabled);
            g_assert_false(find(&d, "off")->enabled);
            bdrv_bits_set(&find(&d, "off")->bits, round * 100000, 8192);
            bdrv_bits_free(&small);
            bdrv_bits_free(&large);
            bdrv_bits_free(&off);
        }
        image_close(d.image);
        assert_qemu_agrees(&d, names);
        disk_open(&d);
        bdrv_dirty_bitmap_free(find(&d, "large"));
        disk_reopen(&d);
        g_assert_null(find(&d, "large"));
        bdrv_bits_set(&find(&d, "small")->bits, 0, INT64_MAX);
        disk_reopen(&d);
        g_assert_cmpint(bdrv_bits_count(&find(&d, "small")->bits), ==, d.size);
        bdrv_dirty_bitmap_free(find(&d, "small"));
        bdrv_dirty_bitmap_free(find(&d, "off"));
        disk_reopen(&d);
        g_assert_null(d.image->bs->dirty_bitmaps.head);
        image_close(d.image);
        assert_qemu_agrees(&d, names + 3);
        disk_open(&d);
        disk_free(&d);
    }
}

/* A disk that grows is dirty where it is new, one that shrinks forgets. */
static void coroutine_fn test_resized(void)
{
    GError *err = NULL;
    BdrvBits bits;
    Disk d;

    disk_init(&d, "cluster_size=512", 1 << 20, 7);
    add(&d, "b", 512, false);
    write_some(&d, 20);
    bits = bits_of(&d, "b");
    g_assert_true(bdrv_co_truncate(d.image, 3 << 20, &err));
    g_assert_cmpint(bdrv_bits_count(&find(&d, "b")->bits), ==, bdrv_bits_count(&bits) + (2 << 20));
    disk_reopen(&d);
    g_assert_cmpint(bdrv_bits_count(&find(&d, "b")->bits), ==, bdrv_bits_count(&bits) + (2 << 20));
    g_assert_true(bdrv_co_truncate(d.image, 1 << 20, &err));
    assert_bits(&d, "b", &bits);
    disk_reopen(&d);
    assert_bits(&d, "b", &bits);
    bdrv_bits_free(&bits);
    disk_free(&d);
}

/* --- Crashes -------------------------------------------------------------------------------------- */

static void apply(Disk *d, MemFile *m, guint first, guint last, int keep)
{
    for (guint i = first; i < last; i++) {
        MemEvent *e = &g_array_index(d->file->log, MemEvent, i);

        for (size_t at = 0; at < e->len; at += SECTOR) {
            if (g_rand_int_range(d->rand, 0, 100) < keep) {
                mem_grow(m, e->offset + MIN(at + SECTOR, e->len));
                memcpy(m->data + e->offset + at, e->data + at, MIN(SECTOR, e->len - at));
            }
        }
    }
}

/* All that is not zero was written since the bitmap is there. */
static void coroutine_fn assert_covers(Disk *d, MemFile *m, const char *where)
{
    g_autofree uint8_t *buf = g_malloc(d->size);
    GError *err = NULL;
    BdrvChild *image = image_open(m, NULL, true, &err);
    BdrvDirtyBitmap *b;

    g_assert_no_error(err);
    b = bdrv_dirty_bitmap_find(image->bs, "b", NULL);
    g_assert_cmpint(bdrv_co_pread(image, 0, d->size, buf, 0), ==, 0);
    for (int64_t i = 0; b && !b->inconsistent && i < d->size; i++) {
        if (buf[i] && !bdrv_bits_get(&b->bits, i / b->bits.granularity)) {
            g_error("%s: byte %" PRId64 " was written and is not dirty", where, i);
        }
    }
    image_close(image);
}

static void coroutine_fn crash(const char *options, int seed)
{
    MemFile *start;
    guint flushed = 0;
    Disk d;

    disk_init(&d, options, 128 * 1024, seed);
    image_close(d.image);
    start = mem_new(d.file->data, d.file->len);
    d.file->record = true;
    disk_open(&d);
    add(&d, "b", 1024, false);
    for (int round = 0; round < 4; round++) {
        write_some(&d, 6);
        if (round == 2) {
            add(&d, "another bitmap with a name of its own", 512, false);
        }
        if (g_rand_boolean(d.rand)) {
            g_assert_cmpint(bdrv_co_flush(d.image->bs), ==, 0);
        }
        disk_reopen(&d);
    }
    bdrv_dirty_bitmap_free(find(&d, "b"));
    disk_reopen(&d);
    for (guint cut = 0; cut <= d.file->log->len; cut++) {
        g_autofree char *where = g_strdup_printf("%s, cut at %u", options, cut);
        MemFile *m = mem_new(start->data, start->len);

        apply(&d, m, 0, flushed, 100);
        apply(&d, m, flushed, cut, g_rand_int_range(d.rand, 0, 3) ? 50 : 100);
        image_assert_clean(m, true, where);
        assert_covers(&d, m, where);
        if (have_qemu_img() && g_rand_int_range(d.rand, 0, 40) == 0) {
            qemu_img_check(m, true);
        }
        mem_free(m);
        if (cut < d.file->log->len && !g_array_index(d.file->log, MemEvent, cut).len) {
            flushed = cut;
        }
    }
    mem_free(start);
    disk_free(&d);
}

static void coroutine_fn test_crash(void)
{
    crash("cluster_size=512", 1);
    crash("cluster_size=4096", 2);
}

/* Each write of closing fails: the bitmap is lost, or inconsistent, but nothing else. */
static void coroutine_fn test_failures(void)
{
    for (int n = 0; n < 25; n++) {
        BdrvDirtyBitmap *b;
        Disk d;

        disk_init(&d, "cluster_size=512", 128 * 1024, n);
        add(&d, "b", 512, false);
        disk_reopen(&d);
        write_some(&d, 5);
        g_assert_cmpint(bdrv_co_flush(d.image->bs), ==, 0);
        d.file->fail_errno = EIO;
        d.file->fail_once = true;
        d.file->fail_after = n;
        image_close(d.image);
        d.file->fail_after = -1;
        image_assert_clean(d.file, true, "after a failed write");
        disk_open(&d);
        b = find(&d, "b");
        g_assert_nonnull(b);
        assert_covers(&d, d.file, "after a failed write");
        disk_free(&d);
    }
}

/* --- Damage ----------------------------------------------------------------------------------------- */

/* A directory with random bytes is refused, or what it says is harmless. */
static void coroutine_fn test_damage(void)
{
    int refused = 0;

    for (int n = 0; n < 200; n++) {
        GError *err = NULL;
        Qcow2State *s;
        uint64_t at;
        Disk d;

        disk_init(&d, "cluster_size=512", 64 * 1024, n);
        add(&d, "one", 512, false);
        add(&d, "two", 1024, false);
        write_some(&d, 5);
        image_close(d.image);
        d.image = image_open(d.file, NULL, true, &err);
        s = d.image->bs->opaque;
        at = s->bitmaps_offset + g_rand_int_range(d.rand, 0, s->bitmaps_size);
        image_close(d.image);
        d.file->data[at] = g_rand_int(d.rand);
        d.image = image_open(d.file, NULL, n % 2, &err);
        if (d.image) {
            image_close(d.image);
        } else {
            g_assert_nonnull(strstr(err->message, "itmap"));
            refused++;
        }
        g_clear_error(&err);
        mem_free(d.file);
        g_rand_free(d.rand);
        g_free(d.data);
    }
    g_assert_cmpint(refused, >, 10);
}

static void coroutine_fn test_refused(void)
{
    GError *err = NULL;
    Disk d;

    disk_init(&d, "cluster_size=4096,compat=0.10", 64 * 1024, 1);
    g_assert_false(bdrv_dirty_bitmap_can_store(d.image->bs, "b", 512, &err));
    g_assert_cmpstr(err->message, ==, "Can't make bitmap 'b' persistent in 'qcow2': Cannot store "
                                      "dirty bitmaps in qcow2 v2 files");
    g_clear_error(&err);
    g_assert_false(bdrv_dirty_bitmap_can_store(d.image->bs->file->bs, "b", 512, &err));
    g_assert_cmpstr(err->message, ==, "Can't store persistent bitmaps to mem: Operation not "
                                      "supported");
    g_clear_error(&err);
    disk_free(&d);
}

/*
 * Bitmaps that would take memory without end are not begun, not made by growing the disk, and
 * not loaded.
 */
static void coroutine_fn test_too_large(void)
{
    static const char message[] = "Too much space will be occupied by the bitmap. Use larger "
                                  "granularity";
    int64_t limit = INT64_C(2) << 40; /* 512 MiB of bits of 512 bytes each */
    GError *err = NULL;
    Qcow2State *s;
    uint64_t at;
    Disk d = { .file = image_create(limit + 512, "cluster_size=65536") };

    disk_open(&d);
    g_assert_false(bdrv_dirty_bitmap_can_store(d.image->bs, "b", 512, &err));
    g_assert_true(g_str_has_suffix(err->message, message));
    g_clear_error(&err);
    g_assert_true(bdrv_co_truncate(d.image, limit, &err));
    for (char name[] = "a"; *name < 'e'; ++*name) {
        add(&d, name, 512, false);
    }
    g_assert_false(bdrv_dirty_bitmap_can_store(d.image->bs, "e", 512, &err));
    g_assert_true(g_str_has_suffix(err->message, message));
    g_clear_error(&err);
    g_assert_false(bdrv_co_truncate(d.image, limit + 512, &err));
    g_assert_cmpstr(err->message, ==, "Too much space would be occupied by the bitmap 'a'");
    g_clear_error(&err);
    for (char name[] = "a"; *name < 'e'; ++*name) {
        bdrv_dirty_bitmap_free(find(&d, name));
    }
    image_close(d.image);
    mem_free(d.file);

    /* An image that claims one. */
    d.file = image_create(INT64_C(1) << 50, "cluster_size=2M");
    disk_open(&d);
    add(&d, "b", 1u << 31, false);
    image_close(d.image);
    d.image = image_open(d.file, NULL, true, &err);
    s = d.image->bs->opaque;
    at = s->bitmaps_offset;
    image_close(d.image);
    qcow2_put32(d.file->data + at + 8, 1 << 17);
    d.file->data[at + 17] = 9;
    g_assert_null(image_open(d.file, NULL, true, &err));
    g_assert_cmpstr(err->message, ==, "Bitmap 'b' needs too much memory");
    g_clear_error(&err);
    mem_free(d.file);
}

/* A snapshot of the disk, and the disk back to it. */
static void coroutine_fn save_empty(Disk *d)
{
    const BdrvSnapshotDriver *drv = d->image->bs->drv->snapshot;
    BdrvSnapshotInfo info = { .name = "empty", .icount = UINT64_MAX };
    GError *err = NULL;
    void *save = drv->prepare(d->image->bs, &info, 0, &err);

    g_assert_no_error(err);
    g_assert_true(drv->freeze(d->image->bs, save, &err));
    g_assert_true(drv->publish(d->image->bs, save, &info, &err));
    drv->done(d->image->bs, save);
}

static void coroutine_fn go_back(Disk *d)
{
    const BdrvSnapshotDriver *drv = d->image->bs->drv->snapshot;
    GError *err = NULL;
    void *g = drv->goto_prepare(d->image->bs, snapshot_id(d->image->bs, "empty"), &err);

    g_assert_no_error(err);
    g_assert_true(drv->goto_switch(d->image->bs, g, &err));
    g_assert_true(drv->goto_commit(d->image->bs, g, &err));
    bdrv_dirty_mark_all(d->image->bs);
    drv->goto_end(d->image->bs, g, false);
}

/* A node that was to become read-only and is written after all: a crash then loses no bit. */
static void coroutine_fn test_stays_writable(void)
{
    for (int how = 0; how < 6; how++) {
        GError *err = NULL;
        MemFile *crashed;
        BdrvChild *image;
        Disk d;

        disk_init(&d, "cluster_size=4096", 64 * 1024, how);
        save_empty(&d);
        add(&d, "b", 512, false);
        write_some(&d, 5);
        g_assert_cmpint(d.image->bs->drv->co_set_read_only(d.image->bs), ==, 0);
        if (how == 0) {
            BdrvDirtyBitmap *b = find(&d, "b");
            bool first;

            /* What cannot be marked is not changed, and not written. */
            d.file->fail_errno = EIO;
            d.file->fail_once = true;
            d.file->fail_after = 0;
            g_assert_true(bdrv_dirty_bitmap_begin(b, &d, &first, NULL));
            g_assert_false(bdrv_co_dirty_bitmap_in_use(b, &err));
            g_assert_cmpstr(err->message, ==, "Could not mark the bitmaps of node 'qcow2' as in "
                                              "use: Input/output error");
            g_clear_error(&err);
            bdrv_dirty_bitmap_end(b, true);
            d.file->fail_after = 0;
            g_assert_cmpint(bdrv_co_pwrite(d.image, 0, 512, d.data, 0), ==, -EIO);
            write_some(&d, 1);
        } else if (how == 1) {
            g_assert_cmpint(bdrv_co_pwrite_zeroes(d.image, 0, 65536, 0), ==, 0);
        } else if (how == 2) {
            g_assert_cmpint(bdrv_co_pdiscard(d.image, 0, 65536), ==, 0);
        } else if (how == 3) {
            go_back(&d);
        } else if (how == 4) {
            /* Nothing is written, but a command changes the bitmap. */
            g_assert_cmpint(d.image->bs->drv->co_bitmaps_in_use(d.image->bs), ==, 0);
            bdrv_dirty_bitmap_clear(bdrv_dirty_bitmap_find(d.image->bs, "b", NULL));
        } else {
            g_assert_true(bdrv_co_truncate(d.image, 32768, &err));
        }
        crashed = mem_clone(d.file);
        image = image_open(crashed, NULL, true, &err);
        g_assert_no_error(err);
        g_assert_true(bdrv_dirty_bitmap_find(image->bs, "b", NULL)->inconsistent);
        image_close(image);
        mem_free(crashed);

        disk_free(&d); /* stores it once more */
    }
}

typedef struct Storing {
    BlockDriverState *bs;
    bool hand_over; /* to another process, else the node is to become read-only */
    bool done;
    bool ok;
} Storing;

static void coroutine_fn store_entry(void *opaque)
{
    Storing *s = opaque;

    s->ok = s->hand_over ? s->bs->drv->co_inactivate(s->bs, NULL)
                         : s->bs->drv->co_set_read_only(s->bs) >= 0;
    s->done = true;
}

/* Commands come while bitmaps are being stored: what is in the file is what they have left. */
static void coroutine_fn test_changed_while_stored(void)
{
    int between = 0;

    for (int n = 0; n < 60; n++) {
        Storing storing;
        BdrvBits bits;
        Disk d;

        disk_init(&d, "cluster_size=512", 64 * 1024, n);
        add(&d, "first", 512, false);
        add(&d, "second", 512, false);
        add(&d, "third", 512, false);
        if (n % 2) {
            disk_reopen(&d); /* they are in the file already */
        }
        write_some(&d, 5);
        d.file->yield_rand = d.rand;
        storing = (Storing) { .bs = d.image->bs };
        aio_co_schedule(main_aio_context(), coroutine_create(store_entry, &storing));
        for (int i = 0; i < n && !storing.done; i++) {
            qcow2_breathe();
        }
        if (storing.done) {
            disk_free(&d);
            continue;
        }
        between++;
        bdrv_dirty_bitmap_free(find(&d, "second"));
        bdrv_dirty_bitmap_clear(find(&d, "third"));
        add(&d, "fourth", 1024, false);
        bits = bits_of(&d, "first");
        while (!storing.done) {
            qcow2_breathe();
        }
        g_assert_true(storing.ok);
        d.image->bs->read_only = true; /* closing stores nothing any more */
        d.file->yield_rand = NULL;
        disk_reopen(&d);
        g_assert_null(find(&d, "second"));
        assert_bits(&d, "first", &bits);
        bdrv_bits_clear_all(&bits);
        assert_bits(&d, "third", &bits);
        g_assert_nonnull(find(&d, "fourth"));
        bdrv_bits_free(&bits);
        disk_free(&d);
    }
    g_assert_cmpint(between, >, 10);
}

/* What "one" has goes to "two", in one transaction, which may fail in the end. */
static void coroutine_fn move_bits(Disk *d, bool fails)
{
    BdrvDirtyBitmap *one = find(d, "one"), *two = find(d, "two");
    GError *err = NULL;
    bool first;

    g_assert_true(bdrv_dirty_bitmap_begin(two, d, &first, NULL));
    g_assert_true(bdrv_dirty_bitmap_merge(two, one, NULL));
    g_assert_true(bdrv_dirty_bitmap_begin(one, d, &first, NULL));
    bdrv_dirty_bitmap_clear(one);
    if (fails) {
        for (int i = 0; i < 100; i++) {
            qcow2_breathe();
        }
    } else {
        g_assert_true(bdrv_co_dirty_bitmap_in_use(two, &err));
        g_assert_true(bdrv_co_dirty_bitmap_in_use(one, &err));
    }
    bdrv_dirty_bitmap_end(two, fails);
    bdrv_dirty_bitmap_end(one, fails);
}

/*
 * Both are as they were before the transaction, if that may be (old), or as it has left them
 * (new); or nothing is known of either.  count: what is dirty, in bytes.
 */
static void coroutine_fn assert_not_torn(MemFile *m, int64_t count, bool old, bool new,
                                         const char *where)
{
    GError *err = NULL;
    BdrvChild *image = image_open(m, NULL, true, &err);
    BdrvDirtyBitmap *one, *two;

    g_assert_no_error(err);
    one = bdrv_dirty_bitmap_find(image->bs, "one", NULL);
    two = bdrv_dirty_bitmap_find(image->bs, "two", NULL);
    g_assert_true(!one == !two);
    if (one) {
        g_assert_true(one->inconsistent == two->inconsistent);
    }
    if (one && !one->inconsistent) {
        int64_t a = bdrv_bits_count(&one->bits), b = bdrv_bits_count(&two->bits);

        if (!(old && a == count && b == 0) && !(new && a == 0 && b == count)) {
            g_error("%s: %" PRId64 " and %" PRId64 " bytes are dirty of %" PRId64, where, a, b,
                    count);
        }
    }
    image_close(image);
}

/* The image is cut off behind each write, as by kill -9; answered: where nothing old may be. */
static void coroutine_fn cut_everywhere(Disk *d, const MemFile *start, int64_t count,
                                        guint answered, bool new)
{
    MemFile *m = mem_clone(start);

    for (guint cut = 0; cut <= d->file->log->len; cut++) {
        g_autofree char *where = g_strdup_printf("cut at %u, answered at %u", cut, answered);

        assert_not_torn(m, count, cut < answered, new, where);
        if (cut < d->file->log->len) {
            apply(d, m, cut, cut + 1, 100);
        }
    }
    mem_free(m);
}

/*
 * A transaction on two bitmaps comes while they are being stored: no crash leaves one of them
 * changed and the other not, and once it is answered none leaves them as they were; when it has
 * failed, none leaves them changed.
 */
static void coroutine_fn test_transaction_while_stored(void)
{
    int between = 0, ready = 0;

    for (int n = 0; n < 240; n++) {
        bool fails = n % 8 > 3;
        Storing storing;
        MemFile *start;
        int64_t count;
        guint answered;
        Disk d;

        disk_init(&d, "cluster_size=512", 64 * 1024, n);
        add(&d, "one", 512, false);
        add(&d, "two", 512, true);
        if (n % 2) {
            disk_reopen(&d); /* they are in the file already */
        }
        write_some(&d, 5);
        count = bdrv_bits_count(&find(&d, "one")->bits);
        start = mem_clone(d.file);
        d.file->record = true;
        d.file->yield_rand = d.rand;
        storing = (Storing) { .bs = d.image->bs, .hand_over = n % 4 > 1 };
        aio_co_schedule(main_aio_context(), coroutine_create(store_entry, &storing));
        for (int i = 0; i < n / 4 && !storing.done; i++) {
            qcow2_breathe();
        }
        between += !storing.done;
        ready += storing.done;
        if (!storing.done || !storing.hand_over) {
            move_bits(&d, fails);
            answered = fails ? G_MAXUINT : d.file->log->len;
            while (!storing.done) {
                qcow2_breathe();
            }
            d.file->yield_rand = NULL;
            cut_everywhere(&d, start, count, answered, !fails);
        }
        d.image->bs->inactive = storing.hand_over && storing.ok;
        mem_free(start);
        disk_free(&d);
    }
    g_assert_cmpint(between, >, 20);
    g_assert_cmpint(ready, >, 5);
}

/* A table that wraps around the end of all addresses, and one of 32 GiB: no more than damage. */
static void coroutine_fn test_check_tables(void)
{
    static const struct { uint64_t offset; uint32_t entries; } cases[] = {
        { UINT64_MAX - 4095, 513 }, { UINT64_MAX - 4095, UINT32_MAX }, { 4096, UINT32_MAX },
        { UINT64_C(1) << 56, 1 }, { UINT64_C(1) << 62, 4 << 20 },
    };
    GError *err = NULL;
    uint64_t at;
    Disk d;

    disk_init(&d, "cluster_size=4096", 64 * 1024, 1);
    add(&d, "b", 512, false);
    write_some(&d, 5);
    image_close(d.image);
    d.image = image_open(d.file, NULL, true, &err);
    g_assert_no_error(err);
    at = ((Qcow2State *)d.image->bs->opaque)->bitmaps_offset;
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        BdrvCheckResult res = { 0 };

        qcow2_put64(d.file->data + at, cases[i].offset);
        qcow2_put32(d.file->data + at + 8, cases[i].entries);
        d.image->bs->drv->co_check(d.image->bs, &res, 0, NULL);
        g_assert_cmpint(res.corruptions, ==, 1);
    }
    disk_free(&d);
}

int main(int argc, char **argv)
{
    main_aio_context_init();
    g_test_init(&argc, &argv, NULL);
    bdrv_init();
    add_test("/qcow2/bitmap/kept", test_kept);
    add_test("/qcow2/bitmap/resized", test_resized);
    add_test("/qcow2/bitmap/crash", test_crash);
    add_test("/qcow2/bitmap/failures", test_failures);
    add_test("/qcow2/bitmap/damage", test_damage);
    add_test("/qcow2/bitmap/refused", test_refused);
    add_test("/qcow2/bitmap/too-large", test_too_large);
    add_test("/qcow2/bitmap/stays-writable", test_stays_writable);
    add_test("/qcow2/bitmap/changed-while-stored", test_changed_while_stored);
    add_test("/qcow2/bitmap/transaction-while-stored", test_transaction_while_stored);
    add_test("/qcow2/bitmap/check-tables", test_check_tables);
    return g_test_run();
}
