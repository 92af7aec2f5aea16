/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Changes of a whole qcow2 image - its options, its size, the backing file it names - and what
 * is left of each when the machine crashes on the way: behind every write, and with any subset
 * of what was not flushed, sector by sector.  The image is always sound and holds its data.
 */
#include "qcow2-test.h"

#define SECTOR 512

typedef struct Case {
    MemFile *file;
    BdrvChild *image;
    uint8_t *data;   /* what the disk holds before; and after, as far as it then reaches */
    int64_t size;
    GRand *rand;
    bool names_backing; /* one that is not there */
    char *backing[2];   /* the name before and after */
} Case;

typedef bool coroutine_fn Change(Case *c, GError **errp);

static bool coroutine_fn amend(Case *c, const char *name, const char *value, GError **errp)
{
    g_autoptr(GHashTable) options = g_hash_table_new(g_str_hash, g_str_equal);

    g_hash_table_insert(options, (gpointer)name, (gpointer)value);
    return qcow2_co_amend(c->image->bs, options, false, NULL, NULL, errp);
}

/* An image with data, zero clusters of both kinds, and a snapshot if it is wanted. */
static void coroutine_fn case_open(Case *c, const char *options, int64_t size, bool snapshot)
{
    GError *err = NULL;

    *c = (Case){ .size = size, .data = g_malloc0(size), .rand = g_rand_new_with_seed(size) };
    c->file = image_create(size, options);
    c->image = image_open(c->file, NULL, false, &err);
    g_assert_no_error(err);
    for (int64_t i = 0; i < size / 2; i++) {
        c->data[i] = i / 512 + i;
    }
    g_assert_cmpint(bdrv_co_pwrite(c->image, 0, size / 2, c->data, 0), ==, 0);
    if (snapshot) {
        const BdrvSnapshotDriver *d = c->image->bs->drv->snapshot;
        BdrvSnapshotInfo info = { .icount = UINT64_MAX, .name = "s" };
        void *save = d->prepare(c->image->bs, &info, 0, &err);

        g_assert_no_error(err);
        d->freeze(c->image->bs, save, &err);
        d->publish(c->image->bs, save, &info, &err);
        g_assert_no_error(err);
        d->done(c->image->bs, save);
    } else {
        memset(c->data + size / 8, 0, size / 8);
        g_assert_cmpint(bdrv_co_pwrite_zeroes(c->image, size / 8, size / 8, 0), ==, 0);
        g_assert_cmpint(bdrv_co_pwrite_zeroes(c->image, size / 2, size / 4, 0), ==, 0);
    }
    image_close(c->image);
}

static void case_close(Case *c)
{
    g_free(c->backing[0]);
    g_free(c->backing[1]);
    mem_free(c->file);
    g_rand_free(c->rand);
    g_free(c->data);
}

static void coroutine_fn assert_content(Case *c, MemFile *m, const char *where)
{
    GError *err = NULL;
    BdrvChild *image = image_open(m, NULL, true, &err);
    int64_t n;
    g_autofree uint8_t *buf = NULL;

    g_assert_no_error(err);
    n = MIN(c->size, bdrv_length(image->bs));
    buf = g_malloc(bdrv_length(image->bs));
    g_assert_cmpint(bdrv_co_pread(image, 0, bdrv_length(image->bs), buf, 0), ==, 0);
    for (int64_t i = 0; i < bdrv_length(image->bs); i++) {
        if (buf[i] != (i < n ? c->data[i] : 0)) {
            g_error("%s: byte %" PRId64 " is %d", where, i, buf[i]);
        }
    }
    image_close(image);
}

/* The name is the old or the new one. */
static void coroutine_fn assert_backing(Case *c, MemFile *m, const char *where)
{
    GError *err = NULL;
    BdrvChild *image = image_open(m, NULL, true, &err);
    const char *name;

    g_assert_no_error(err);
    name = ((Qcow2State *)image->bs->opaque)->backing_file;
    if (g_strcmp0(name, c->backing[0]) && g_strcmp0(name, c->backing[1])) {
        g_error("%s: the backing file is '%s'", where, name);
    }
    image_close(image);
}

/* A disk that is the smaller one already grows again: nothing of what was cut off comes back. */
static void coroutine_fn assert_cut_off(Case *c, MemFile *m, int64_t size, const char *where)
{
    GError *err = NULL;
    BdrvChild *image = image_open(m, NULL, false, &err);

    g_assert_no_error(err);
    if (bdrv_length(image->bs) == size) {
        g_autofree uint8_t *buf = g_malloc(c->size);

        g_assert_true(bdrv_co_truncate(image, c->size, &err));
        g_assert_cmpint(bdrv_co_pread(image, 0, c->size, buf, 0), ==, 0);
        for (int64_t i = 0; i < c->size; i++) {
            if (buf[i] != (i < size ? c->data[i] : 0)) {
                g_error("%s, grown again: byte %" PRId64 " is %d", where, i, buf[i]);
            }
        }
    }
    image_close(image);
}

static void apply(Case *c, MemFile *m, guint first, guint last, int keep)
{
    for (guint i = first; i < last; i++) {
        MemEvent *e = &g_array_index(c->file->log, MemEvent, i);

        for (size_t at = 0; at < e->len; at += SECTOR) {
            if (g_rand_int_range(c->rand, 0, 100) < keep) {
                mem_grow(m, e->offset + MIN(at + SECTOR, e->len));
                memcpy(m->data + e->offset + at, e->data + at, MIN(SECTOR, e->len - at));
            }
        }
    }
}

/*
 * Makes the change, then looks at what every crash would have left; the disk has this size
 * then.
 */
static void coroutine_fn run_to(Case *c, const char *what, Change *change, int64_t size)
{
    bool content_stays = size >= c->size;
    MemFile *start = mem_new(c->file->data, c->file->len);
    guint flushed = 0;
    GError *err = NULL;

    mem_clear_log(c->file);
    c->file->record = true;
    c->image = image_open(c->file, NULL, false, &err);
    g_assert_no_error(err);
    g_assert_true(change(c, &err));
    g_assert_no_error(err);
    image_close(c->image);
    c->file->record = false;
    image_assert_clean(c->file, false, what);
    assert_content(c, c->file, what);
    assert_backing(c, c->file, what);
    if (have_qemu_img() && !c->names_backing) {
        qemu_img_check(c->file, false);
    }
    for (guint cut = 0; cut <= c->file->log->len; cut++) {
        g_autofree char *where = g_strdup_printf("%s, cut at %u", what, cut);
        MemFile *m = mem_new(start->data, start->len);

        apply(c, m, 0, flushed, 100);
        apply(c, m, flushed, cut, g_rand_int_range(c->rand, 0, 3) ? 50 : 100);
        image_assert_clean(m, true, where);
        if (content_stays) {
            assert_content(c, m, where);
        }
        assert_backing(c, m, where);
        if (have_qemu_img() && !c->names_backing && g_rand_int_range(c->rand, 0, 30) == 0) {
            qemu_img_check(m, true);
        }
        if (!content_stays) {
            assert_cut_off(c, m, size, where);
        }
        mem_free(m);
        if (cut < c->file->log->len && !g_array_index(c->file->log, MemEvent, cut).len) {
            flushed = cut;
        }
    }
    mem_free(start);
}

static void coroutine_fn run(Case *c, const char *what, Change *change)
{
    run_to(c, what, change, c->size);
}

static Qcow2State *state(Case *c)
{
    return c->image->bs->opaque;
}

/* --- Options ------------------------------------------------------------------------------------ */

static const char *wanted_bits;

static bool coroutine_fn change_bits(Case *c, GError **errp)
{
    bool ok = amend(c, "refcount_bits", wanted_bits, errp);

    g_assert_cmpint(1 << state(c)->refcount_order, ==, atoi(wanted_bits));
    /* It goes on being used. */
    g_assert_cmpint(bdrv_co_pwrite(c->image, 0, c->size, c->data, 0), ==, 0);
    return ok;
}

static void coroutine_fn test_refcount_bits(void)
{
    static const char *const bits[] = { "64", "1", "8", "2", "32", "16", "4" };
    Case c;

    case_open(&c, "cluster_size=512", 200 * 1024, false);
    for (size_t i = 0; i < G_N_ELEMENTS(bits); i++) {
        g_autofree char *what = g_strdup_printf("refcount_bits=%s", bits[i]);

        wanted_bits = bits[i];
        run(&c, what, change_bits);
    }
    case_close(&c);
    case_open(&c, "cluster_size=65536", 4 << 20, true);
    wanted_bits = "2";
    run(&c, "refcount_bits=2 with a snapshot", change_bits);
    case_close(&c);
}

static void coroutine_fn test_narrow(void)
{
    GError *err = NULL;
    Case c;

    case_open(&c, "cluster_size=4096", 256 * 1024, true);
    c.image = image_open(c.file, NULL, false, &err);
    g_assert_false(amend(&c, "refcount_bits", "1", &err));
    g_assert_true(g_str_has_prefix(err->message, "Cannot decrease refcount entry width to 1 bits: "
                                                 "Cluster at offset 0x"));
    g_clear_error(&err);
    g_assert_false(amend(&c, "refcount_bits", "3", &err));
    g_assert_cmpstr(err->message, ==, "Refcount width must be a power of two and may not exceed "
                                      "64 bits");
    g_clear_error(&err);
    image_close(c.image);
    image_assert_clean(c.file, false, "after a change that was refused");
    case_close(&c);
}

static bool coroutine_fn to_v2(Case *c, GError **errp)
{
    bool ok = amend(c, "compat", "0.10", errp);

    g_assert_cmpint(state(c)->version, ==, 2);
    return ok;
}

static bool coroutine_fn to_v3(Case *c, GError **errp)
{
    bool ok = amend(c, "compat", "1.1", errp);

    g_assert_cmpint(state(c)->version, ==, 3);
    return ok;
}

static bool coroutine_fn to_lazy(Case *c, GError **errp)
{
    return amend(c, "lazy_refcounts", "on", errp);
}

static void coroutine_fn test_compat(void)
{
    static const char *const options[] = { "cluster_size=512", "cluster_size=4096",
                                           "cluster_size=65536" };

    for (size_t i = 0; i < G_N_ELEMENTS(options); i++) {
        Case c;

        case_open(&c, options[i], i < 2 ? 300 * 1024 : 3 << 20, false);
        run(&c, "lazy_refcounts=on", to_lazy);
        run(&c, "compat=0.10", to_v2);
        run(&c, "compat=1.1", to_v3);
        case_close(&c);
    }
}

/* --- The backing file's name --------------------------------------------------------------------- */

static const char *wanted_backing, *wanted_format;

static bool coroutine_fn change_backing(Case *c, GError **errp)
{
    int ret = qcow2_co_change_backing(c->image->bs, wanted_backing, wanted_format);

    g_assert_cmpstr(state(c)->backing_file, ==, wanted_backing);
    g_assert_cmpstr(state(c)->backing_format, ==, wanted_format);
    return ret == 0;
}

static void coroutine_fn test_backing(void)
{
    g_autofree char *longest = g_strnfill(1023, 'x');
    const char *const names[] = { "base.qcow2", "other", longest, "b", NULL, longest };
    Case c;

    case_open(&c, "cluster_size=4096", 100 * 1024, false);
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        wanted_backing = names[i];
        wanted_format = names[i] ? i % 2 ? "raw" : "qcow2" : NULL;
        c.names_backing = true;
        g_free(c.backing[0]);
        c.backing[0] = c.backing[1];
        c.backing[1] = g_strdup(names[i]);
        run(&c, "another backing file", change_backing);
    }
    g_free(c.backing[0]);
    c.backing[0] = g_strdup(longest);
    run(&c, "compat=0.10 with a backing file", to_v2);
    run(&c, "compat=1.1 with a backing file", to_v3);
    case_close(&c);
}

/* --- The size --------------------------------------------------------------------------------------- */

static int64_t wanted_size;
static PreallocMode wanted_mode;

static bool coroutine_fn change_size(Case *c, GError **errp)
{
    return bdrv_co_truncate_prealloc(c->image, wanted_size, true, wanted_mode, errp);
}

static void coroutine_fn resize(Case *c, const char *what, int64_t size, PreallocMode mode)
{
    int64_t kept = MIN(size, c->size);

    wanted_size = size;
    wanted_mode = mode;
    run_to(c, what, change_size, size);
    c->data = g_realloc(c->data, size);
    if (size > kept) {
        memset(c->data + kept, 0, size - kept);
    }
    c->size = size;
    assert_content(c, c->file, what);
}

static void coroutine_fn test_size(void)
{
    for (int snapshot = 0; snapshot < 2; snapshot++) {
        Case c;

        case_open(&c, "cluster_size=512", 100 * 1024, snapshot);
        resize(&c, "growing", 150 * 1024 + 512, PREALLOC_MODE_OFF);
        resize(&c, "growing with metadata", 3 << 20, PREALLOC_MODE_METADATA);
        resize(&c, "shrinking", 70 * 1024 + 512, PREALLOC_MODE_OFF);
        resize(&c, "growing with falloc", 200 * 1024, PREALLOC_MODE_FALLOC);
        resize(&c, "growing with full", 250 * 1024, PREALLOC_MODE_FULL);
        resize(&c, "shrinking to nothing", 0, PREALLOC_MODE_OFF);
        resize(&c, "growing again", 100 * 1024, PREALLOC_MODE_METADATA);
        case_close(&c);
    }
}

static void coroutine_fn test_size_refused(void)
{
    GError *err = NULL;
    Case c;

    case_open(&c, "cluster_size=4096,compat=0.10", 256 * 1024, true);
    c.image = image_open(c.file, NULL, false, &err);
    g_assert_false(bdrv_co_truncate(c.image, 1 << 20, &err));
    g_assert_cmpstr(err->message, ==, "Can't resize a v2 image which has snapshots");
    g_clear_error(&err);
    g_assert_false(bdrv_co_truncate(c.image, 1000, &err));
    g_assert_cmpstr(err->message, ==, "The new size must be a multiple of 512");
    g_clear_error(&err);
    g_assert_false(bdrv_co_truncate_prealloc(c.image, 512, true, PREALLOC_MODE_FULL, &err));
    g_assert_cmpstr(err->message, ==, "Preallocation can only be used for growing images");
    g_clear_error(&err);
    image_close(c.image);
    case_close(&c);
}

/* --- Failing writes --------------------------------------------------------------------------------- */

/* The error is told, or the change is made; in both cases the image is sound. */
static void coroutine_fn fail_at(int n, Change *change)
{
    GError *err = NULL;
    Case c;

    case_open(&c, "cluster_size=4096", 256 * 1024, false);
    c.image = image_open(c.file, NULL, false, &err);
    g_assert_no_error(err);
    c.file->fail_errno = EIO;
    c.file->fail_once = true;
    c.file->fail_after = n;
    change(&c, &err);
    g_clear_error(&err);
    c.file->fail_after = -1;
    image_close(c.image);
    image_assert_clean(c.file, true, "after a failed write");
    assert_content(&c, c.file, "after a failed write");
    case_close(&c);
}

static bool coroutine_fn try_v2(Case *c, GError **errp)
{
    return amend(c, "compat", "0.10", errp);
}

static bool coroutine_fn try_bits(Case *c, GError **errp)
{
    return amend(c, "refcount_bits", "64", errp);
}

static bool coroutine_fn try_backing(Case *c, GError **errp)
{
    return qcow2_co_change_backing(c->image->bs, "base.qcow2", "qcow2") == 0;
}

static void coroutine_fn test_failures(void)
{
    wanted_size = 1 << 20;
    wanted_mode = PREALLOC_MODE_METADATA;
    for (int n = 0; n < 24; n++) {
        fail_at(n, try_v2);
        fail_at(n, try_bits);
        fail_at(n, try_backing);
        fail_at(n, change_size);
    }
}

int main(int argc, char **argv)
{
    main_aio_context_init();
    g_test_init(&argc, &argv, NULL);
    bdrv_init();
    add_test("/qcow2/amend/refcount-bits", test_refcount_bits);
    add_test("/qcow2/amend/narrow", test_narrow);
    add_test("/qcow2/amend/compat", test_compat);
    add_test("/qcow2/amend/backing", test_backing);
    add_test("/qcow2/amend/size", test_size);
    add_test("/qcow2/amend/size-refused", test_size_refused);
    add_test("/qcow2/amend/failures", test_failures);
    return g_test_run();
}
