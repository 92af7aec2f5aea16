/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qcow2 snapshots against a model: saved while guest writes go on between freeze and
 * publish, aborted, loaded, rolled back, deleted, with machine state; the image is clean
 * for our check and Debian's after each, and every snapshot keeps its content.
 */
#include "qcow2-test.h"

#define STATE_BYTES 200000

typedef struct Saved {
    char name[16];
    uint8_t *disk, *state;
    uint64_t state_bytes;
} Saved;

typedef struct Model {
    MemFile *file;
    BdrvChild *image;
    uint8_t *disk;
    int64_t size;
    GRand *rand;
    GPtrArray *saved;
    int serial;
    /* Guests of their own coroutines. */
    int guests, busy;
    bool paused, stop;
} Model;

static void saved_free(gpointer opaque)
{
    Saved *v = opaque;

    g_free(v->disk);
    g_free(v->state);
    g_free(v);
}

static const BdrvSnapshotDriver *snap(Model *m)
{
    return m->image->bs->drv->snapshot;
}

static void coroutine_fn guest_write(Model *m)
{
    int64_t offset = g_rand_int_range(m->rand, 0, m->size / 512) * 512;
    int64_t wanted = g_rand_int_range(m->rand, 1, 20) * 512;
    int64_t bytes = MIN(wanted, m->size - offset);
    g_autofree uint8_t *buf = g_malloc(bytes);

    switch (g_rand_int_range(m->rand, 0, 10)) {
    case 0:
        memset(m->disk + offset, 0, bytes);
        g_assert_cmpint(bdrv_co_pwrite_zeroes(m->image, offset, bytes, BDRV_REQ_MAY_UNMAP), ==,
                        0);
        break;
    case 1:
        g_assert_cmpint(bdrv_co_flush(m->image->bs), ==, 0);
        break;
    default:
        memset(buf, g_rand_int_range(m->rand, 1, 256), bytes);
        memcpy(m->disk + offset, buf, bytes);
        g_assert_cmpint(bdrv_co_pwrite(m->image, offset, bytes, buf, 0), ==, 0);
    }
}

static void coroutine_fn guest_writes(Model *m, int max)
{
    for (int n = g_rand_int_range(m->rand, 0, max + 1); n; n--) {
        guest_write(m);
    }
}

static void coroutine_fn assert_disk(Model *m, const char *when)
{
    g_autofree uint8_t *buf = g_malloc(m->size);

    g_assert_cmpint(bdrv_co_pread(m->image, 0, m->size, buf, 0), ==, 0);
    for (int64_t i = 0; i < m->size; i++) {
        if (buf[i] != m->disk[i]) {
            g_error("%s: byte %" PRId64 " is %d, not %d", when, i, buf[i], m->disk[i]);
        }
    }
}

/* A snapshot's disk content, through its own L1 table. */
static void coroutine_fn assert_saved(Model *m, const Saved *v)
{
    BlockDriverState *bs = m->image->bs;
    Qcow2Snapshot *sn = snapshot_named(bs, v->name);
    g_autofree uint64_t *l1 = NULL;
    g_autofree uint8_t *buf = g_malloc(m->size + STATE_BYTES);
    GError *err = NULL;
    IOVector iov;
    void *reader;

    g_assert_nonnull(sn);
    l1 = qcow2_load_numbers(bs, sn->l1_offset, sn->l1_size, "L1", &err);
    g_assert_no_error(err);
    io_vector_init_buf(&iov, buf, m->size);
    g_assert_cmpint(qcow2_read(bs, l1, sn->l1_size, 0, m->size, &iov, 0, false), ==, 0);
    g_assert_cmpmem(buf, m->size, v->disk, m->size);

    reader = snap(m)->open(bs, snapshot_id(bs, v->name), &err);
    g_assert_no_error(err);
    g_assert_cmpuint(snap(m)->reader_info(reader)->vm_state_size, ==, v->state_bytes);
    io_vector_init_buf(&iov, buf, STATE_BYTES);
    g_assert_cmpint(snap(m)->read(bs, reader, 0, &iov), ==, 0);
    g_assert_cmpmem(buf, STATE_BYTES, v->state, STATE_BYTES);
    snap(m)->close(bs, reader);
}

static void coroutine_fn assert_all(Model *m, const char *when)
{
    assert_disk(m, when);
    for (guint i = 0; i < m->saved->len; i++) {
        assert_saved(m, m->saved->pdata[i]);
    }
}

/* Shares some runs of clusters with base and marks them; the rest of a cluster counts. */
static void coroutine_fn share_state(Model *m, void *save, Saved *v, const Saved *base, size_t unit,
                                     bool *shared)
{
    BdrvSnapshotExtent extents[8];
    uint64_t clusters = STATE_BYTES / unit, at = 0;
    size_t n = 0;

    while (n < G_N_ELEMENTS(extents) && at < clusters) {
        uint64_t count = g_rand_int_range(m->rand, 1, clusters - at + 1);

        count = MIN(count, 20);
        extents[n++] = (BdrvSnapshotExtent) { at * unit, count * unit };
        memcpy(v->state + at * unit, base->state + at * unit, count * unit);
        memset(shared + at, true, count);
        v->state_bytes = STATE_BYTES;
        at += count + g_rand_int_range(m->rand, 0, 20);
    }
    g_assert_cmpint(snap(m)->share(m->image->bs, save, extents, n), ==, 0);
}

/*
 * Writes pieces of machine state in random order; some of it stays unwritten.  Clusters that
 * are shared must be refused.
 */
static void coroutine_fn write_state(Model *m, void *save, Saved *v, size_t unit,
                                     const bool *shared)
{
    for (int n = g_rand_int_range(m->rand, 0, 12); n; n--) {
        uint64_t offset = g_rand_int_range(m->rand, 0, STATE_BYTES);
        uint64_t bytes = g_rand_int_range(m->rand, 1, MIN(STATE_BYTES - offset, 40000) + 1);
        bool clash = false;
        IOVector iov;

        for (uint64_t c = offset / unit; c <= (offset + bytes - 1) / unit; c++) {
            clash |= shared[c];
        }
        if (clash) {
            continue;
        }
        memset(v->state + offset, g_rand_int_range(m->rand, 1, 256), bytes);
        io_vector_init_buf(&iov, v->state + offset, bytes);
        g_assert_cmpint(snap(m)->write(m->image->bs, save, offset, &iov), ==, 0);
        v->state_bytes = STATE_BYTES;
        guest_writes(m, 2);
    }
}

static void coroutine_fn step_save(Model *m)
{
    BlockDriverState *bs = m->image->bs;
    BdrvSnapshotInfo info = { .icount = UINT64_MAX };
    Saved *v = g_new0(Saved, 1);
    int fate = g_rand_int_range(m->rand, 0, 10);
    g_autofree bool *shared = g_new0(bool, STATE_BYTES / 512 + 1);
    const Saved *base = NULL;
    uint64_t unit = STATE_BYTES;
    GError *err = NULL;
    void *save;

    g_snprintf(v->name, sizeof(v->name), "s%d", m->serial++);
    v->state = g_malloc0(STATE_BYTES);
    g_strlcpy(info.name, v->name, sizeof(info.name));
    save = snap(m)->prepare(bs, &info, STATE_BYTES, &err);
    g_assert_no_error(err);
    g_assert_cmpstr(info.id, !=, "");
    guest_writes(m, 3);
    if (m->saved->len && g_rand_boolean(m->rand)) {
        base = m->saved->pdata[g_rand_int_range(m->rand, 0, m->saved->len)];
        unit = snap(m)->share_with(bs, save, snapshot_named(bs, base->name)->info.serial,
                                   &err);
        g_assert_no_error(err);
    }
    if (fate == 0) {
        snap(m)->abort(bs, save);
        saved_free(v);
        return;
    }
    snap(m)->freeze(bs, save, &err);
    g_assert_no_error(err);
    v->disk = g_memdup2(m->disk, m->size);
    guest_writes(m, 10);
    if (base) {
        share_state(m, save, v, base, unit, shared);
    }
    write_state(m, save, v, unit, shared);
    info.vm_state_size = v->state_bytes;
    if (fate == 1) {
        snap(m)->abort(bs, save);
        saved_free(v);
        return;
    }
    snap(m)->publish(bs, save, &info, &err);
    g_assert_no_error(err);
    guest_writes(m, 2);
    if (fate == 2) {
        snap(m)->abort(bs, save);
        saved_free(v);
        return;
    }
    snap(m)->done(bs, save);
    g_ptr_array_add(m->saved, v);
}

static void coroutine_fn step_delete(Model *m)
{
    guint index = g_rand_int_range(m->rand, 0, m->saved->len);
    Saved *v = m->saved->pdata[index];
    GError *err = NULL;

    bdrv_co_snapshot_delete(m->image->bs, v->name, &err);
    g_assert_no_error(err);
    g_ptr_array_remove_index(m->saved, index);
}

static void coroutine_fn step_goto(Model *m)
{
    BlockDriverState *bs = m->image->bs;
    Saved *v = m->saved->pdata[g_rand_int_range(m->rand, 0, m->saved->len)];
    int fate = g_rand_int_range(m->rand, 0, 5);
    GError *err = NULL;
    void *g = snap(m)->goto_prepare(bs, snapshot_id(bs, v->name), &err);

    g_assert_no_error(err);
    guest_writes(m, 5);
    if (fate == 0) {
        snap(m)->goto_end(bs, g, true);
        return;
    }
    snap(m)->goto_switch(bs, g, &err);
    g_assert_no_error(err);
    if (fate == 1) {
        snap(m)->goto_end(bs, g, true);
        assert_disk(m, "rolled back");
        return;
    }
    snap(m)->goto_commit(bs, g, &err);
    g_assert_no_error(err);
    memcpy(m->disk, v->disk, m->size);
    snap(m)->goto_end(bs, g, false);
    guest_writes(m, 5);
}

static void coroutine_fn reopen(Model *m)
{
    GError *err = NULL;

    if (m->image) {
        image_close(m->image);
        image_assert_clean(m->file, false, "closed");
    }
    m->image = image_open(m->file, NULL, false, &err);
    g_assert_no_error(err);
}

static void coroutine_fn model_run(const char *options, int64_t size, uint32_t seed, int steps)
{
    Model m = { .file = image_create(size, options), .size = size, .disk = g_malloc0(size),
                .rand = g_rand_new_with_seed(seed),
                .saved = g_ptr_array_new_with_free_func(saved_free) };

    m.file->yield_rand = g_rand_new_with_seed(seed);
    reopen(&m);
    for (int i = 0; i < steps; i++) {
        int what = g_rand_int_range(m.rand, 0, 10);
        guint limit = strstr(options, "refcount_bits=2") ? 1 : 6;

        guest_writes(&m, 20);
        if (what < 4 && m.saved->len < limit) {
            step_save(&m);
        } else if (what < 6 && m.saved->len) {
            step_delete(&m);
        } else if (what < 8 && m.saved->len) {
            step_goto(&m);
        }
        if (what == 9 || i == steps - 1) {
            reopen(&m);
            if (have_qemu_img() && i % 3 == 0) {
                qemu_img_check(m.file, false);
            }
        }
        assert_all(&m, "step");
    }
    image_close(m.image);
    image_assert_clean(m.file, false, "end");
    if (have_qemu_img()) {
        qemu_img_check(m.file, false);
    }
    g_rand_free(m.file->yield_rand);
    mem_free(m.file);
    g_ptr_array_free(m.saved, true);
    g_rand_free(m.rand);
    g_free(m.disk);
}

/* --- With guests that never wait for us ---------------------------------------------------- */

typedef struct Guest {
    Model *m;
    int number, count;
} Guest;

/* Writes and reads back its own sectors, every count-th, until told to stop. */
static void coroutine_fn guest_entry(void *opaque)
{
    Guest *g = opaque;
    Model *m = g->m;
    uint8_t buf[512];

    while (!m->stop) {
        int64_t n = g_rand_int_range(m->rand, 0, m->size / 512 / g->count);
        int64_t offset = (n * g->count + g->number) * 512;

        if (m->paused) {
            qcow2_breathe();
            continue;
        }
        m->busy++;
        memset(buf, g_rand_int_range(m->rand, 1, 256), 512);
        memcpy(m->disk + offset, buf, 512);
        g_assert_cmpint(bdrv_co_pwrite(m->image, offset, 512, buf, 0), ==, 0);
        g_assert_cmpint(bdrv_co_pread(m->image, offset, 512, buf, 0), ==, 0);
        g_assert_cmpmem(buf, 512, m->disk + offset, 512);
        if (g_rand_int_range(m->rand, 0, 20) == 0) {
            g_assert_cmpint(bdrv_co_flush(m->image->bs), ==, 0);
        }
        m->busy--;
        qcow2_breathe();
    }
    m->guests--;
}

static void coroutine_fn pause_guests(Model *m)
{
    m->paused = true;
    while (m->busy) {
        qcow2_breathe();
    }
}

static void coroutine_fn parallel_save(Model *m)
{
    BlockDriverState *bs = m->image->bs;
    BdrvSnapshotInfo info = { .icount = UINT64_MAX };
    Saved *v = g_new0(Saved, 1);
    GError *err = NULL;
    IOVector iov;
    void *save;

    g_snprintf(v->name, sizeof(v->name), "p%d", m->serial++);
    g_strlcpy(info.name, v->name, sizeof(info.name));
    v->state = g_malloc0(STATE_BYTES);
    v->state_bytes = STATE_BYTES;
    memset(v->state, m->serial, STATE_BYTES);
    save = snap(m)->prepare(bs, &info, STATE_BYTES, &err);
    g_assert_no_error(err);
    pause_guests(m);
    g_assert_true(snap(m)->freeze(bs, save, &err));
    v->disk = g_memdup2(m->disk, m->size);
    m->paused = false;
    io_vector_init_buf(&iov, v->state, STATE_BYTES);
    g_assert_cmpint(snap(m)->write(bs, save, 0, &iov), ==, 0);
    info.vm_state_size = STATE_BYTES;
    if (g_rand_int_range(m->rand, 0, 4) == 0) {
        snap(m)->abort(bs, save);
        saved_free(v);
        return;
    }
    snap(m)->publish(bs, save, &info, &err);
    g_assert_no_error(err);
    snap(m)->done(bs, save);
    g_ptr_array_add(m->saved, v);
}

static void coroutine_fn parallel_goto(Model *m)
{
    BlockDriverState *bs = m->image->bs;
    Saved *v = m->saved->pdata[g_rand_int_range(m->rand, 0, m->saved->len)];
    GError *err = NULL;
    void *g = snap(m)->goto_prepare(bs, snapshot_id(bs, v->name), &err);

    g_assert_no_error(err);
    pause_guests(m);
    snap(m)->goto_switch(bs, g, &err);
    g_assert_no_error(err);
    if (g_rand_boolean(m->rand)) {
        snap(m)->goto_commit(bs, g, &err);
        g_assert_no_error(err);
        memcpy(m->disk, v->disk, m->size);
        snap(m)->goto_end(bs, g, false);
    } else {
        snap(m)->goto_end(bs, g, true);
    }
    m->paused = false;
}

static void coroutine_fn parallel_run(const char *options, int64_t size, uint32_t seed, int steps)
{
    Model m = { .file = image_create(size, options), .size = size, .disk = g_malloc0(size),
                .rand = g_rand_new_with_seed(seed), .guests = 3,
                .saved = g_ptr_array_new_with_free_func(saved_free) };
    Guest guests[3];

    m.file->yield_rand = g_rand_new_with_seed(seed);
    reopen(&m);
    for (int i = 0; i < 3; i++) {
        guests[i] = (Guest) { &m, i, 3 };
        aio_co_schedule(main_aio_context(), coroutine_create(guest_entry, &guests[i]));
    }
    for (int i = 0; i < steps; i++) {
        int what = g_rand_int_range(m.rand, 0, 10);

        for (int n = g_rand_int_range(m.rand, 0, 200); n; n--) {
            qcow2_breathe();
        }
        if (what < 5 && m.saved->len < 5) {
            parallel_save(&m);
        } else if (what < 7 && m.saved->len) {
            step_delete(&m);
        } else if (m.saved->len) {
            parallel_goto(&m);
        }
        for (guint j = 0; j < m.saved->len; j++) {
            assert_saved(&m, m.saved->pdata[j]);
        }
    }
    m.stop = true;
    while (m.guests) {
        qcow2_breathe();
    }
    assert_all(&m, "parallel");
    image_close(m.image);
    image_assert_clean(m.file, false, "parallel");
    if (have_qemu_img()) {
        qemu_img_check(m.file, false);
    }
    g_rand_free(m.file->yield_rand);
    mem_free(m.file);
    g_ptr_array_free(m.saved, true);
    g_rand_free(m.rand);
    g_free(m.disk);
}

static void coroutine_fn test_parallel(void)
{
    static const struct {
        const char *options;
        int64_t size;
    } cases[] = {
        { "cluster_size=512", 96 * 1024 },
        { "cluster_size=1024,refcount_bits=32", 300 * 1024 },
        { "cluster_size=4096", 3 << 20 },
        { "cluster_size=16384,extended_l2=on", 256 * 1024 },
    };
    const char *more = g_getenv("KEYFRAME_TEST_ROUNDS");
    int rounds = more ? atoi(more) : 1;

    for (int round = 0; round < rounds; round++) {
        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
            parallel_run(cases[i].options, cases[i].size, round * 100 + i, 25);
        }
    }
}

static void coroutine_fn test_model(void)
{
    static const struct {
        const char *options;
        int64_t size;
    } cases[] = {
        { "cluster_size=512", 96 * 1024 },
        { "cluster_size=512,refcount_bits=64", 96 * 1024 },
        { "cluster_size=1024,refcount_bits=8", 300 * 1024 },
        { "cluster_size=4096", 1 << 20 },
        { "cluster_size=65536", 1 << 20 },
        { "cluster_size=16384,extended_l2=on", 1 << 20 },
        { "cluster_size=4096,refcount_bits=2", 256 * 1024 },
        { "cluster_size=1024,compat=0.10", 128 * 1024 },
    };
    const char *more = g_getenv("KEYFRAME_TEST_ROUNDS");
    int rounds = more ? atoi(more) : 1;

    for (int round = 0; round < rounds; round++) {
        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
            model_run(cases[i].options, cases[i].size, round * 100 + i, 30);
        }
    }
}

/* --- Shared machine state ---------------------------------------------------------------------- */

#define NR_CHAIN 3

/* A snapshot of machine state only; base may be NULL.  Every third cluster is written. */
static void coroutine_fn chain_save(Model *m, const Saved *base)
{
    BlockDriverState *bs = m->image->bs;
    Qcow2State *s = bs->opaque;
    BdrvSnapshotInfo info = { .icount = UINT64_MAX };
    Saved *v = g_new0(Saved, 1);
    uint64_t n = STATE_BYTES / s->cluster_size;
    GError *err = NULL;
    IOVector iov;
    void *save;

    g_snprintf(v->name, sizeof(v->name), "c%d", m->serial++);
    g_strlcpy(info.name, v->name, sizeof(info.name));
    v->state = g_malloc0(STATE_BYTES);
    v->state_bytes = STATE_BYTES;
    v->disk = g_memdup2(m->disk, m->size);
    save = snap(m)->prepare(bs, &info, STATE_BYTES, &err);
    g_assert_no_error(err);
    if (base) {
        g_assert_cmpuint(snap(m)->share_with(bs, save, UINT64_MAX, &err), ==, 0);
        g_assert_cmpstr(err->message, ==, "The snapshot to share with is not there any more");
        g_clear_error(&err);
        g_assert_cmpuint(
            snap(m)->share_with(bs, save, snapshot_named(bs, base->name)->info.serial, &err),
            ==, s->cluster_size);
        g_assert_no_error(err);
    }
    snap(m)->freeze(bs, save, &err);
    for (uint64_t c = 0; c < n; c++) {
        uint8_t *mem = v->state + c * s->cluster_size;
        BdrvSnapshotExtent extent = { c * s->cluster_size, s->cluster_size };

        if (base && c % NR_CHAIN != (uint64_t)m->serial % NR_CHAIN) {
            memcpy(mem, base->state + c * s->cluster_size, s->cluster_size);
            g_assert_cmpint(snap(m)->share(bs, save, &extent, 1), ==, 0);
            io_vector_init_buf(&iov, mem, 512);
            g_assert_cmpint(snap(m)->write(bs, save, extent.offset, &iov), ==, -EINVAL);
        } else {
            memset(mem, m->serial + c, s->cluster_size);
            io_vector_init_buf(&iov, mem, s->cluster_size);
            g_assert_cmpint(snap(m)->write(bs, save, extent.offset, &iov), ==, 0);
        }
    }
    info.vm_state_size = STATE_BYTES;
    snap(m)->publish(bs, save, &info, &err);
    g_assert_no_error(err);
    snap(m)->done(bs, save);
    g_ptr_array_add(m->saved, v);
}

static void coroutine_fn remove_saved(Model *m, int which)
{
    g_autofree char *name = g_strdup_printf("c%d", which);
    GError *err = NULL;

    bdrv_co_snapshot_delete(m->image->bs, name, &err);
    g_assert_no_error(err);
    for (guint i = 0; i < m->saved->len; i++) {
        if (!strcmp(((Saved *)m->saved->pdata[i])->name, name)) {
            g_ptr_array_remove_index(m->saved, i--);
        }
    }
}

/* Debian's qemu-img goes back to a snapshot and deletes it; the others stay whole. */
static void coroutine_fn foreign_hands(Model *m, int which)
{
    g_autofree char *name = temp_name();
    static const char *const commands[] = {"snapshot -a", "check"};

    image_close(m->image);
    mem_store(m->file, name);
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
            g_autofree char *tag = g_strdup_printf("c%d", which);
            g_autofree char *line = g_strdup_printf("qemu-img %s %s %s", commands[i],
                                                    i == 0 ? tag : "-f qcow2", name);
            g_autofree char *output = NULL;

            g_assert_cmpint(run_tool(line, &output), ==, 0);
        }
        which = (which + 1) % NR_CHAIN;
    }
    {
        g_autofree char *line = g_strdup_printf("qemu-img snapshot -d c%d %s", which, name);
        g_autofree char *output = NULL;

        g_assert_cmpint(run_tool(line, &output), ==, 0);
    }
    mem_free(m->file);
    m->file = mem_load(name);
    g_unlink(name);
    m->image = NULL;
    reopen(m);
    image_assert_clean(m->file, false, "qemu-img");
    for (guint i = 0; i < m->saved->len; i++) {
        Saved *v = m->saved->pdata[i];

        if (v->name[1] - '0' == which) {
            g_ptr_array_remove_index(m->saved, i--);
        }
    }
    assert_all(m, "qemu-img");
}

static void coroutine_fn chain_run(const char *options, int first, int second)
{
    Model m = { .file = image_create(128 << 10, options), .size = 128 << 10,
                .disk = g_malloc0(128 << 10), .rand = g_rand_new_with_seed(1),
                .saved = g_ptr_array_new_with_free_func(saved_free) };
    size_t full, len;

    reopen(&m);
    guest_writes(&m, 20);
    len = m.file->len;
    chain_save(&m, NULL);
    full = m.file->len - len;
    len = m.file->len;
    chain_save(&m, m.saved->pdata[0]);
    chain_save(&m, m.saved->pdata[1]);
    /* Two saves of a third each, and metadata. */
    g_assert_cmpuint(m.file->len - len, <, full);
    assert_all(&m, "saved");
    reopen(&m);
    if (have_qemu_img()) {
        qemu_img_check(m.file, false);
        if (first == 0) {
            foreign_hands(&m, second);
            goto out;
        }
    }
    for (int i = 0; i < NR_CHAIN; i++) {
        remove_saved(&m, i == 0 ? first : i == 1 ? second : NR_CHAIN - first - second);
        assert_all(&m, "deleted");
        if (i == 1) {
            reopen(&m);
        }
    }
out:
    image_close(m.image);
    image_assert_clean(m.file, false, "chain");
    if (have_qemu_img()) {
        qemu_img_check(m.file, false);
    }
    mem_free(m.file);
    g_ptr_array_free(m.saved, true);
    g_rand_free(m.rand);
    g_free(m.disk);
}

static void coroutine_fn test_share(void)
{
    static const char *const cases[] = {"cluster_size=512", "cluster_size=2048,compat=0.10",
                                        "cluster_size=4096,refcount_bits=64"};

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        for (int first = 0; first < NR_CHAIN; first++) {
            for (int second = 0; second < NR_CHAIN; second++) {
                if (first != second) {
                    chain_run(cases[i], first, second);
                }
            }
        }
    }
}

/* A failing write at any point of a save that shares costs nothing but that save. */
static void coroutine_fn test_share_fails(void)
{
    Model m = { .file = image_create(64 << 10, "cluster_size=512"), .size = 64 << 10,
                .disk = g_malloc0(64 << 10), .rand = g_rand_new_with_seed(1),
                .saved = g_ptr_array_new_with_free_func(saved_free) };
    BdrvSnapshotExtent extent = { 0, STATE_BYTES / 512 * 512 };
    bool failed = true;

    reopen(&m);
    chain_save(&m, NULL);
    for (int at = 0; failed; at++) {
        BdrvSnapshotInfo info = { .icount = UINT64_MAX, .name = "again" };
        BlockDriverState *bs = m.image->bs;
        Saved *base = m.saved->pdata[0];
        void *save = snap(&m)->prepare(bs, &info, 0, NULL);

        snap(&m)->share_with(bs, save, snapshot_named(bs, base->name)->info.serial,
                             NULL);
        snap(&m)->freeze(bs, save, NULL);
        m.file->fail_after = at;
        m.file->fail_errno = ENOSPC;
        m.file->fail_once = true;
        failed = snap(&m)->share(bs, save, &extent, 1) < 0;
        info.vm_state_size = STATE_BYTES;
        failed = !snap(&m)->publish(bs, save, &info, NULL) || failed;
        m.file->fail_after = -1;
        snap(&m)->abort(bs, save);
        if (((Qcow2State *)bs->opaque)->broken) {
            /* A header of which nobody knows whether it was written: open it again. */
            image_close(m.image);
            m.image = NULL;
        }
        reopen(&m);
        assert_all(&m, "a write failed");
        g_assert_cmpint(at, <, 1000);
    }
    image_close(m.image);
    mem_free(m.file);
    g_ptr_array_free(m.saved, true);
    g_rand_free(m.rand);
    g_free(m.disk);
}

int main(int argc, char **argv)
{
    main_aio_context_init();
    g_test_init(&argc, &argv, NULL);
    bdrv_init();
    add_test("/qcow2/snapshot/model", test_model);
    add_test("/qcow2/snapshot/parallel", test_parallel);
    add_test("/qcow2/snapshot/share", test_share);
    add_test("/qcow2/snapshot/share-fails", test_share_fails);
    return g_test_run();
}
