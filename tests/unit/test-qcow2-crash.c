/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qcow2 and power cuts.  A run of guest writes, flushes, saves, aborts, loads and deletes
 * is recorded below qcow2, write by write.  Then the machine "crashes" behind every prefix
 * of the record: once as after kill -9 (every write that began is there), and a few times
 * as after a power cut (of the writes since the last flush, any subset, whole or by
 * sectors).  Each such image must check without damage (leaks allowed), hold what the guest
 * had flushed or something it wrote later, and every snapshot published by then.  One with
 * lazy reference counts must do so once it has been opened for writing.  The image is closed and
 * opened again, or told that it will not be written, now and then, and then stores its dirty
 * bitmaps: qcow2-crash-bitmaps.h says what must be true of them.
 *
 * KEYFRAME_TEST_ROUNDS=N runs N seeds instead of a few.
 */
#include "qcow2-test.h"
#include "qcow2-crash-bitmaps.h"

#define SECTOR 512
#define STATE_PARTS 3

/* What must be true of any image cut at or behind event "from" of the record. */
typedef struct Fact {
    guint from, until; /* until: when the opposite was begun, UINT_MAX for never */
    char name[16];
    int64_t sectors;
    uint32_t *disk;    /* generation per sector, max_sectors */
    uint8_t state[STATE_PARTS]; /* the byte that fills each part */
} Fact;

typedef struct Run {
    MemFile *file;
    MemFile *start; /* the image before the first event */
    BdrvChild *image;
    int64_t sectors, cluster; /* of the disk; sectors of a cluster */
    int64_t max_sectors, first_sectors; /* of the disk at its largest, and at first */
    bool lazy;       /* reference counts are right after a repair only */
    size_t part;     /* bytes of a part of the machine state: whole clusters */
    uint32_t *disk;  /* generation per sector, as the guest sees it; 0 behind its end */
    uint32_t generation;
    GPtrArray *flushed; /* Fact without name: a guest's flush that has returned */
    GPtrArray *written; /* Fact without name: the disk when a write was begun or a load made */
    GPtrArray *snapshots;
    BitmapRun bitmaps;
    GRand *rand;
    int serial;
} Run;

static void fact_free(gpointer opaque)
{
    Fact *f = opaque;

    g_free(f->disk);
    g_free(f);
}

static Fact *fact_new(Run *r, GPtrArray *list)
{
    Fact *f = g_new0(Fact, 1);

    f->from = r->file->log->len;
    f->until = G_MAXUINT;
    f->sectors = r->sectors;
    f->disk = g_memdup2(r->disk, r->max_sectors * sizeof(uint32_t));
    g_ptr_array_add(list, f);
    return f;
}

static const BdrvSnapshotDriver *snap(Run *r)
{
    return r->image->bs->drv->snapshot;
}

static void fill_sector(uint8_t *buf, int64_t sector, uint32_t generation)
{
    memset(buf, 0, SECTOR);
    if (generation) {
        qcow2_put64(buf, sector);
        qcow2_put32(buf + 8, generation);
        memset(buf + 12, generation, SECTOR - 12);
    }
}

/* The generation a sector holds; fails when it is torn or another sector's. */
static uint32_t read_generation(const uint8_t *buf, int64_t sector)
{
    uint8_t expected[SECTOR];
    uint32_t generation = qcow2_be32(buf + 8);

    fill_sector(expected, sector, generation);
    return memcmp(buf, expected, SECTOR) ? G_MAXUINT32 : generation;
}

static void coroutine_fn guest_write(Run *r)
{
    int64_t sector = g_rand_int_range(r->rand, 0, r->sectors);
    int64_t wanted = g_rand_int_range(r->rand, 1, 12);
    int64_t n = MIN(wanted, r->sectors - sector);
    uint32_t generation = ++r->generation;
    bool packed = g_rand_int_range(r->rand, 0, 3) == 0 && !r->file->guest_data;
    g_autofree uint8_t *buf = NULL;
    IOVector iov;

    if (packed) { /* whole clusters */
        sector -= sector % r->cluster;
        n = MIN((n + r->cluster - 1) / r->cluster * r->cluster, r->sectors - sector);
    }
    buf = g_malloc(n * SECTOR);

    if (g_rand_int_range(r->rand, 0, 6) == 0) {
        memset(r->disk + sector, 0, n * sizeof(*r->disk));
        fact_new(r, r->written);
        bitmap_written(&r->bitmaps, r->image, sector, n);
        g_assert_cmpint(bdrv_co_pwrite_zeroes(r->image, sector * SECTOR, n * SECTOR,
                                              BDRV_REQ_MAY_UNMAP), ==, 0);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        fill_sector(buf + i * SECTOR, sector + i, generation);
        r->disk[sector + i] = generation;
    }
    fact_new(r, r->written);
    bitmap_written(&r->bitmaps, r->image, sector, n);
    io_vector_init_buf(&iov, buf, n * SECTOR);
    g_assert_cmpint(bdrv_co_pwritev(r->image, sector * SECTOR, n * SECTOR, &iov,
                                    packed ? BDRV_REQ_WRITE_COMPRESSED : 0), ==, 0);
}

/* Whole clusters are gone, what is left of the range stays. */
static void coroutine_fn guest_discard(Run *r)
{
    int64_t sector = g_rand_int_range(r->rand, 0, r->sectors);
    int64_t wanted = g_rand_int_range(r->rand, 1, 12 * r->cluster);
    int64_t n = MIN(wanted, r->sectors - sector);
    int64_t first = (sector + r->cluster - 1) / r->cluster * r->cluster;
    int64_t last = (sector + n) / r->cluster * r->cluster;

    if (first < last) {
        memset(r->disk + first, 0, (last - first) * sizeof(*r->disk));
        bitmap_written(&r->bitmaps, r->image, first, last - first);
    }
    fact_new(r, r->written);
    g_assert_cmpint(bdrv_co_pdiscard(r->image, sector * SECTOR, n * SECTOR), ==, 0);
}

/* By whole clusters.  What is cut off is gone for good, what is new is zero. */
static void coroutine_fn guest_resize(Run *r)
{
    int64_t clusters = g_rand_int_range(r->rand, 1, r->max_sectors / r->cluster + 1);
    Qcow2State *s = r->image->bs->opaque;
    GError *err = NULL;

    if (s->version < 3 && s->snapshots->len) {
        return; /* refused: a snapshot does not note its size there */
    }
    bitmap_resized(&r->bitmaps, r->sectors, clusters * r->cluster);
    r->sectors = clusters * r->cluster;
    memset(r->disk + r->sectors, 0, (r->max_sectors - r->sectors) * sizeof(*r->disk));
    fact_new(r, r->written);
    bdrv_co_truncate(r->image, r->sectors * SECTOR, &err);
    g_assert_no_error(err);
}

static void coroutine_fn guest_steps(Run *r, int max)
{
    for (int n = g_rand_int_range(r->rand, 0, max + 1); n; n--) {
        if (g_rand_int_range(r->rand, 0, 6) == 0) {
            g_assert_cmpint(bdrv_co_flush(r->image->bs), ==, 0);
            fact_new(r, r->flushed);
        } else if (g_rand_int_range(r->rand, 0, 8) == 0) {
            guest_discard(r);
        } else {
            guest_write(r);
        }
    }
}

static Fact *pick_snapshot(Run *r)
{
    GPtrArray *alive = g_ptr_array_new();
    Fact *f = NULL;

    for (guint i = 0; i < r->snapshots->len; i++) {
        Fact *s = r->snapshots->pdata[i];

        if (s->until == G_MAXUINT) {
            g_ptr_array_add(alive, s);
        }
    }
    if (alive->len) {
        f = alive->pdata[g_rand_int_range(r->rand, 0, alive->len)];
    }
    g_ptr_array_free(alive, true);
    return f;
}

/* Writes the parts of the machine state, or takes them over from base. */
static void coroutine_fn save_state(Run *r, void *save, const Fact *base, Fact *f)
{
    BlockDriverState *bs = r->image->bs;

    for (int i = 0; i < STATE_PARTS; i++) {
        BdrvSnapshotExtent extent = { i * r->part, r->part };
        g_autofree uint8_t *part = g_malloc(r->part);
        IOVector iov;

        if (base && g_rand_boolean(r->rand)) {
            f->state[i] = base->state[i];
            g_assert_cmpint(snap(r)->share(bs, save, &extent, 1), ==, 0);
            continue;
        }
        f->state[i] = r->serial;
        memset(part, r->serial, r->part);
        io_vector_init_buf(&iov, part, r->part);
        g_assert_cmpint(snap(r)->write(bs, save, i * r->part, &iov), ==, 0);
    }
}

static void coroutine_fn step_save(Run *r)
{
    BlockDriverState *bs = r->image->bs;
    BdrvSnapshotInfo info = { .icount = UINT64_MAX };
    int fate = g_rand_int_range(r->rand, 0, 4);
    g_autofree uint32_t *disk = NULL;
    int64_t sectors;
    Fact *base = g_rand_int_range(r->rand, 0, 3) ? pick_snapshot(r) : NULL;
    Fact saved = { 0 };
    GError *err = NULL;
    void *save;
    Fact *f;

    g_snprintf(info.name, sizeof(info.name), "s%d", r->serial++);
    save = snap(r)->prepare(bs, &info, STATE_PARTS * r->part, &err);
    g_assert_no_error(err);
    guest_steps(r, 2);
    if (base) {
        snap(r)->share_with(bs, save, snapshot_named(bs, base->name)->info.serial,
                            &err);
        g_assert_no_error(err);
    }
    snap(r)->freeze(bs, save, &err);
    disk = g_memdup2(r->disk, r->max_sectors * sizeof(uint32_t));
    sectors = r->sectors;
    guest_steps(r, 5);
    save_state(r, save, base, &saved);
    guest_steps(r, 3);
    if (fate == 0) {
        snap(r)->abort(bs, save);
        return;
    }
    info.vm_state_size = STATE_PARTS * r->part;
    snap(r)->publish(bs, save, &info, &err);
    g_assert_no_error(err);
    snap(r)->done(bs, save);
    f = fact_new(r, r->snapshots);
    g_free(f->disk);
    f->disk = g_steal_pointer(&disk);
    f->sectors = sectors;
    memcpy(f->state, saved.state, sizeof(f->state));
    g_strlcpy(f->name, info.name, sizeof(f->name));
}

static void coroutine_fn step_delete(Run *r)
{
    Fact *f = pick_snapshot(r);
    GError *err = NULL;

    if (f) {
        f->until = r->file->log->len;
        bdrv_co_snapshot_delete(r->image->bs, f->name, &err);
        g_assert_no_error(err);
    }
}

static void coroutine_fn step_goto(Run *r)
{
    Fact *f = pick_snapshot(r);
    BlockDriverState *bs = r->image->bs;
    GError *err = NULL;
    void *g;

    if (!f) {
        return;
    }
    g = snap(r)->goto_prepare(bs, snapshot_id(bs, f->name), &err);
    g_assert_no_error(err);
    guest_steps(r, 3);
    snap(r)->goto_switch(bs, g, &err);
    g_assert_no_error(err);
    if (g_rand_int_range(r->rand, 0, 4) == 0) {
        snap(r)->goto_end(bs, g, true);
        return;
    }
    r->sectors = f->sectors;
    memcpy(r->disk, f->disk, r->max_sectors * sizeof(uint32_t));
    fact_new(r, r->written); /* from here on the old or the new state is right */
    snap(r)->goto_commit(bs, g, &err);
    g_assert_no_error(err);
    fact_new(r, r->flushed);
    bitmap_replaced(&r->bitmaps, r->image, r->sectors);
    snap(r)->goto_end(bs, g, false);
}

/* Stores the bitmaps: closed for good or opened again, or still open and written after all. */
static void coroutine_fn store_bitmaps(Run *r, bool closes, bool opens)
{
    BitmapStore *st = bitmap_store_begin(&r->bitmaps, r->image, r->file->log->len, r->disk,
                                         r->sectors);
    GError *err = NULL;

    if (closes) {
        image_close(r->image);
        r->image = NULL;
    } else {
        g_assert_cmpint(r->image->bs->drv->co_set_read_only(r->image->bs), ==, 0);
    }
    st->complete = r->file->log->len;
    fact_new(r, r->flushed);
    if (opens) {
        r->image = image_open(r->file, NULL, false, &err);
        g_assert_no_error(err);
    }
}

static void coroutine_fn step_bitmaps(Run *r)
{
    Qcow2State *s = r->image->bs->opaque;

    switch (g_rand_int_range(r->rand, 0, 8)) {
    case 0:
        store_bitmaps(r, true, true);
        break;
    case 1:
        store_bitmaps(r, false, false);
        break;
    case 2:
    case 3:
    case 4:
        if (s->version >= 3) {
            bitmap_step(&r->bitmaps, r->image, r->rand, r->file->log);
        }
        break;
    default:
        break;
    }
}

static void coroutine_fn record(Run *r, int steps)
{
    GError *err = NULL;

    r->image = image_open(r->file, NULL, false, &err);
    g_assert_no_error(err);
    r->part = MAX(2048, ((Qcow2State *)r->image->bs->opaque)->cluster_size);
    r->cluster = ((Qcow2State *)r->image->bs->opaque)->cluster_size / SECTOR;
    for (int i = 0; i < steps; i++) {
        guest_steps(r, 8);
        step_bitmaps(r);
        if (r->file->guest_data) {
            continue; /* no snapshots */
        }
        switch (g_rand_int_range(r->rand, 0, 7)) {
        case 0:
        case 1:
        case 2:
            step_save(r);
            break;
        case 3:
            step_delete(r);
            break;
        case 4:
            step_goto(r);
            break;
        case 5:
            guest_resize(r);
            break;
        default:
            break;
        }
    }
    store_bitmaps(r, true, false);
}

/* --- Crashing ---------------------------------------------------------------------------- */

static void apply(MemFile *m, const MemEvent *e, size_t from, size_t len)
{
    m = e->guest_data ? m->guest_data : m;
    mem_grow(m, e->offset + from + len);
    memcpy(m->data + e->offset + from, e->data + from, len);
}

/* What the guest may see: not older than its last flush, and something it did write. */
static void coroutine_fn assert_disk(Run *r, BdrvChild *image, guint cut)
{
    int64_t sectors = image->bs->length / SECTOR;
    g_autofree uint8_t *buf = g_malloc(r->max_sectors * SECTOR);
    const BitmapStore *exact = bitmap_check(&r->bitmaps, image, cut);
    Fact *flushed = NULL;
    guint first = 0;
    bool ok;

    for (guint i = 0; i < r->flushed->len; i++) {
        Fact *f = r->flushed->pdata[i];

        flushed = f->from <= cut ? f : flushed;
    }
    for (guint i = 0; flushed && i < r->written->len; i++) {
        Fact *f = r->written->pdata[i];

        first = f->from <= flushed->from ? i + 1 : first;
    }
    ok = sectors == (flushed ? flushed->sectors : r->first_sectors);
    for (guint i = first > 8 ? first - 8 : 0; i < r->written->len && !ok; i++) {
        Fact *f = r->written->pdata[i];

        ok = f->from <= cut && (!flushed || f->from >= flushed->from) && f->sectors == sectors;
    }
    if (!ok) {
        g_error("cut at %u: the disk has %" PRId64 " sectors", cut, sectors);
    }
    g_assert_cmpint(bdrv_co_pread(image, 0, sectors * SECTOR, buf, 0), ==, 0);
    for (int64_t s = 0; s < sectors; s++) {
        uint32_t got = read_generation(buf + s * SECTOR, s);

        ok = got == (flushed ? flushed->disk[s] : 0);

        /* One that began at the same event as the flush returned may be on either side. */
        for (guint i = first > 8 ? first - 8 : 0; i < r->written->len && !ok; i++) {
            Fact *f = r->written->pdata[i];

            ok = f->from <= cut && (i >= first || f->from == flushed->from) && got == f->disk[s];
        }
        if (!ok) {
            g_error("cut at %u: sector %" PRId64 " has generation %u, flushed was %u", cut, s,
                    got, flushed ? flushed->disk[s] : 0);
        }
        if (exact && (got != exact->disk[s] || sectors != exact->sectors)) {
            g_error("cut at %u: a bitmap is valid, but sector %" PRId64 " has changed since", cut,
                    s);
        }
    }
}

static void coroutine_fn assert_snapshots(Run *r, BdrvChild *image, guint cut)
{
    BlockDriverState *bs = image->bs;
    g_autofree uint8_t *buf = g_malloc(r->max_sectors * SECTOR);

    for (guint i = 0; i < r->snapshots->len; i++) {
        Fact *f = r->snapshots->pdata[i];
        Qcow2Snapshot *sn;
        g_autofree uint64_t *l1 = NULL;
        size_t state_bytes = STATE_PARTS * r->part;
        g_autofree uint8_t *state = g_malloc(state_bytes);
        IOVector iov;
        void *reader;

        if (f->from > cut || f->until < cut) {
            continue;
        }
        sn = snapshot_named(bs, f->name);
        if (!sn) {
            g_error("cut at %u: snapshot %s is gone", cut, f->name);
        }
        l1 = qcow2_load_numbers(bs, sn->l1_offset, sn->l1_size, "L1", NULL);
        g_assert_nonnull(l1);
        io_vector_init_buf(&iov, buf, f->sectors * SECTOR);
        g_assert_cmpint(qcow2_read(bs, l1, sn->l1_size, 0, iov.size, &iov, 0, false), ==, 0);
        for (int64_t s = 0; s < f->sectors; s++) {
            uint32_t got = read_generation(buf + s * SECTOR, s);

            if (got != f->disk[s]) {
                g_error("cut at %u: snapshot %s, sector %" PRId64 ": generation %u, not %u", cut,
                        f->name, s, got, f->disk[s]);
            }
        }
        reader = bs->drv->snapshot->open(bs, snapshot_id(bs, f->name), NULL);
        g_assert_nonnull(reader);
        io_vector_init_buf(&iov, state, state_bytes);
        g_assert_cmpint(bs->drv->snapshot->read(bs, reader, 0, &iov), ==, 0);
        for (size_t j = 0; j < state_bytes; j++) {
            g_assert_cmpint(state[j], ==, f->state[j / r->part]);
        }
        bs->drv->snapshot->close(bs, reader);
    }
}

/* Opening a dirty image for writing repairs it.  One that is not is as any other. */
static void coroutine_fn reopen(MemFile *m, const char *where)
{
    bool dirty = m->data[79] & QCOW2_INCOMPAT_DIRTY;
    GError *err = NULL;
    BdrvChild *image = image_open(m, NULL, false, &err);

    if (!image) {
        g_error("%s: %s", where, err->message);
    }
    image_close(image);
    image_assert_clean(m, !dirty, where);
}

static void coroutine_fn assert_image(Run *r, MemFile *m, guint cut, const char *kind)
{
    g_autofree char *where = g_strdup_printf("%s behind event %u", kind, cut);
    GError *err = NULL;
    BdrvChild *image;

    if (r->lazy) {
        reopen(m, where);
    }
    image_assert_clean(m, true, where);
    if (have_qemu_img() && g_rand_int_range(r->rand, 0, 40) == 0) {
        qemu_img_check(m, true); /* a sample: Debian's must agree */
    }
    image = image_open(m, NULL, true, &err);
    g_assert_no_error(err);
    assert_disk(r, image, cut);
    assert_snapshots(r, image, cut);
    image_close(image);
}

/*
 * Copies base and adds of the events up to last what a power cut leaves; first is behind the
 * last flush of each of the two files.
 */
static MemFile *power_cut(Run *r, const MemFile *base, const guint *first, guint last)
{
    MemFile *m = mem_clone(base);
    int keep = g_rand_int_range(r->rand, 0, 101);

    for (guint i = MIN(first[0], first[1]); i < last; i++) {
        MemEvent *e = &g_array_index(r->file->log, MemEvent, i);

        if (i < first[e->guest_data]) {
            continue;
        }
        if (e->len > SECTOR && g_rand_int_range(r->rand, 0, 4) == 0) {
            for (size_t at = 0; at < e->len; at += SECTOR) {
                if (g_rand_int_range(r->rand, 0, 100) < keep) {
                    apply(m, e, at, MIN(SECTOR, e->len - at));
                }
            }
        } else if (e->len && g_rand_int_range(r->rand, 0, 100) < keep) {
            apply(m, e, 0, e->len);
        }
    }
    return m;
}

static void coroutine_fn crash_everywhere(Run *r)
{
    MemFile *now = mem_clone(r->start);  /* all writes so far */
    MemFile *safe = mem_clone(r->start); /* each file as of its last flush */
    guint last_flush[2] = { 0, 0 };

    for (guint cut = 0; cut <= r->file->log->len; cut++) {
        if (r->lazy) {
            MemFile *m = mem_clone(now);

            assert_image(r, m, cut, "kill");
            mem_free(m);
        } else {
            assert_image(r, now, cut, "kill");
        }
        if (g_rand_int_range(r->rand, 0, 3) == 0) {
            MemFile *m = power_cut(r, safe, last_flush, cut);

            assert_image(r, m, cut, "power cut");
            mem_free(m);
        }
        if (cut < r->file->log->len) {
            MemEvent *e = &g_array_index(r->file->log, MemEvent, cut);

            if (e->len) {
                apply(now, e, 0, e->len);
            } else {
                MemFile *from = e->guest_data ? now->guest_data : now;
                MemFile *to = e->guest_data ? safe->guest_data : safe;

                mem_grow(to, from->len);
                memcpy(to->data, from->data, from->len);
                last_flush[e->guest_data] = cut + 1;
            }
        }
        qcow2_breathe();
    }
    mem_free(now);
    mem_free(safe);
}

static void coroutine_fn crash_run(const char *options, int64_t size, uint32_t seed, int steps)
{
    Run r = { .file = image_create(size, options), .sectors = size / SECTOR,
              .max_sectors = size / SECTOR, .first_sectors = size / SECTOR,
              .lazy = strstr(options, "lazy_refcounts=on"),
              .disk = g_new0(uint32_t, size / SECTOR), .rand = g_rand_new_with_seed(seed),
              .flushed = g_ptr_array_new_with_free_func(fact_free),
              .written = g_ptr_array_new_with_free_func(fact_free),
              .snapshots = g_ptr_array_new_with_free_func(fact_free) };

    bitmap_run_init(&r.bitmaps, r.max_sectors);
    r.start = mem_clone(r.file);
    mem_record(r.file);
    record(&r, steps);
    g_test_message("%s seed %u: %u events", options, seed, r.file->log->len);
    image_assert_clean(r.file, false, "at the end");
    crash_everywhere(&r);

    mem_free(r.file);
    g_ptr_array_free(r.flushed, true);
    g_ptr_array_free(r.written, true);
    g_ptr_array_free(r.snapshots, true);
    bitmap_run_destroy(&r.bitmaps);
    g_rand_free(r.rand);
    g_free(r.disk);
    mem_free(r.start);
}

static void coroutine_fn test_crash(void)
{
    static const struct {
        const char *options;
        int64_t size;
    } cases[] = {
        { "cluster_size=512", 64 * 1024 },
        { "cluster_size=1024,refcount_bits=64", 96 * 1024 },
        { "cluster_size=2048", 256 * 1024 },
        { "cluster_size=512,compat=0.10", 64 * 1024 },
        { "cluster_size=16384,extended_l2=on", 64 * 1024 },
        { "cluster_size=512,lazy_refcounts=on", 64 * 1024 },
        { "cluster_size=512,data_file=TEMP", 64 * 1024 },
        { "cluster_size=512,data_file=TEMP,data_file_raw=on", 64 * 1024 },
    };
    const char *more = g_getenv("KEYFRAME_TEST_ROUNDS");
    int rounds = more ? atoi(more) : 1;

    for (int round = 0; round < rounds; round++) {
        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
            crash_run(cases[i].options, cases[i].size, round * 10 + i, 12);
        }
    }
}

int main(int argc, char **argv)
{
    main_aio_context_init();
    g_test_init(&argc, &argv, NULL);
    bdrv_init();
    add_test("/qcow2/crash", test_crash);
    return g_test_run();
}
