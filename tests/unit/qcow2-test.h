/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * For the qcow2 tests: an image file in memory that records what is written and flushed,
 * can fail, and lets other coroutines run in the middle of each request; a qcow2 node on
 * top of it, put together by hand; and a checker.  The file of guest data of an image that
 * has one is another such file.  Include once per program.
 */
#ifndef TESTS_UNIT_QCOW2_TEST_H
#define TESTS_UNIT_QCOW2_TEST_H

#include <glib/gstdio.h>
#include "block/dirty-bitmap.h"
#include "block/qcow2.h"

typedef struct MemEvent { /* a write, or a flush when len is 0 */
    uint64_t offset;
    size_t len;
    uint8_t *data;
    bool guest_data; /* in the external data file */
} MemEvent;

typedef struct MemFile {
    uint8_t *data;
    size_t len, room;
    bool record;
    GArray *log;       /* MemEvent; of a data file that is recorded, the image's */
    bool is_guest_data;
    uint64_t max_len;  /* writes beyond fail with -ENOSPC; 0: no limit */
    int fail_after;    /* this many more writes succeed, the next fails; -1: all succeed */
    int fail_errno;
    bool fail_once;    /* the one write only, not all that follow */
    GRand *yield_rand; /* not NULL: requests yield now and then */
    bool hold;         /* reads at hold_at wait until it is false */
    int64_t hold_at;
    int holding;       /* reads that do */
    bool hold_header;  /* writes of the header wait until it is false */
    int held_header;   /* those that do */
    uint64_t punched;  /* bytes that were discarded */
    struct MemFile *guest_data; /* the image's external data file; its own */
    char *data_name;            /* what the image calls it */
} MemFile;

static void mem_grow(MemFile *m, size_t len)
{
    if (len > m->room) {
        size_t room = MAX(len, m->room * 2);

        m->data = g_realloc(m->data, room);
        memset(m->data + m->room, 0, room - m->room);
        m->room = room;
    }
    m->len = MAX(m->len, len);
}

static MemFile *mem_new(const void *data, size_t len)
{
    MemFile *m = g_new0(MemFile, 1);

    mem_grow(m, MAX(len, 1));
    m->len = len;
    memcpy(m->data, data, len);
    m->fail_after = -1;
    m->log = g_array_new(false, false, sizeof(MemEvent));
    return m;
}

static void mem_clear_log(MemFile *m)
{
    for (guint i = 0; i < m->log->len; i++) {
        g_free(g_array_index(m->log, MemEvent, i).data);
    }
    g_array_set_size(m->log, 0);
}

/* Records the image, and its data file in the same log. */
static inline void mem_record(MemFile *m)
{
    m->record = true;
    if (m->guest_data) {
        m->guest_data->record = m->guest_data->is_guest_data = true;
        g_array_unref(m->guest_data->log);
        m->guest_data->log = g_array_ref(m->log);
    }
}

/* The same content, with the data file. */
static inline MemFile *mem_clone(const MemFile *m)
{
    MemFile *copy = mem_new(m->data, m->len);

    if (m->guest_data) {
        copy->guest_data = mem_new(m->guest_data->data, m->guest_data->len);
        copy->data_name = g_strdup(m->data_name);
    }
    return copy;
}

static void mem_free(MemFile *m)
{
    if (m->guest_data) {
        mem_free(m->guest_data);
    }
    if (!m->is_guest_data) {
        mem_clear_log(m);
    }
    g_array_unref(m->log);
    g_free(m->data_name);
    g_free(m->data);
    g_free(m);
}

static void coroutine_fn mem_yield(MemFile *m)
{
    if (m->yield_rand && g_rand_int_range(m->yield_rand, 0, 3) == 0) {
        qcow2_breathe();
    }
}

static MemFile *mem_of(BlockDriverState *bs)
{
    return *(MemFile **)bs->opaque;
}

static int coroutine_fn mem_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                   IOVector *iov, int flags)
{
    MemFile *m = mem_of(bs);

    mem_yield(m);
    m->holding++;
    while (m->hold && offset == m->hold_at) {
        qcow2_breathe();
    }
    m->holding--;
    g_assert_cmpuint(offset + bytes, <=, m->len);
    io_vector_from_buf(iov, 0, m->data + offset, bytes);
    mem_yield(m);
    return 0;
}

static int coroutine_fn mem_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                    IOVector *iov, int flags)
{
    MemFile *m = mem_of(bs);

    mem_yield(m);
    m->held_header += m->hold_header && offset == 0;
    while (m->hold_header && offset == 0) {
        qcow2_breathe();
    }
    if (m->fail_after == 0) {
        m->fail_after = m->fail_once ? -1 : 0;
        return -m->fail_errno;
    }
    m->fail_after -= m->fail_after > 0;
    if (m->max_len && offset + bytes > (int64_t)m->max_len) {
        return -ENOSPC;
    }
    mem_grow(m, offset + bytes);
    io_vector_to_buf(iov, 0, m->data + offset, bytes);
    if (m->record) {
        MemEvent e = { offset, bytes, g_memdup2(m->data + offset, bytes), m->is_guest_data };

        g_array_append_val(m->log, e);
    }
    mem_yield(m);
    return 0;
}

/* A hole in the file: zeroes for whoever reads, and for a recorded run a write of them. */
static int coroutine_fn mem_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    MemFile *m = mem_of(bs);

    mem_yield(m);
    g_assert_cmpuint(offset + bytes, <=, m->len);
    memset(m->data + offset, 0, bytes);
    m->punched += bytes;
    if (m->record) {
        MemEvent e = { offset, bytes, g_malloc0(bytes), m->is_guest_data };

        g_array_append_val(m->log, e);
    }
    mem_yield(m);
    return 0;
}

/* Zeroes from the file's own way of making them: a write of them, for a recorded run. */
static int coroutine_fn mem_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                          int flags)
{
    MemFile *m = mem_of(bs);

    mem_yield(m);
    if (m->fail_after == 0) {
        m->fail_after = m->fail_once ? -1 : 0;
        return -m->fail_errno;
    }
    m->fail_after -= m->fail_after > 0;
    if (m->max_len && offset + bytes > (int64_t)m->max_len) {
        return -ENOSPC;
    }
    mem_grow(m, offset + bytes);
    memset(m->data + offset, 0, bytes);
    if (m->record) {
        MemEvent e = { offset, bytes, g_malloc0(bytes), m->is_guest_data };

        g_array_append_val(m->log, e);
    }
    mem_yield(m);
    return 0;
}

static int coroutine_fn mem_flush(BlockDriverState *bs)
{
    MemFile *m = mem_of(bs);

    mem_yield(m);
    if (m->fail_after == 0 && !m->fail_once) {
        return -m->fail_errno;
    }
    if (m->record) {
        MemEvent e = { 0, 0, NULL, m->is_guest_data };

        g_array_append_val(m->log, e);
    }
    return 0;
}

static bool coroutine_fn mem_truncate(BlockDriverState *bs, int64_t length, bool exact,
                                      PreallocMode prealloc, GError **errp)
{
    MemFile *m = mem_of(bs);

    if (m->record && length > (int64_t)m->len) {
        MemEvent e = { length - 1, 1, g_malloc0(1) };

        g_array_append_val(m->log, e);
    }
    mem_grow(m, length);
    m->len = length;
    bdrv_set_length(bs, length);
    return true;
}

static const BlockDriver mem_driver = {
    .name = "mem", .instance_size = sizeof(MemFile *), .co_preadv = mem_preadv,
    .co_pwritev = mem_pwritev, .co_pdiscard = mem_pdiscard,
    .co_flush = mem_flush, .co_truncate = mem_truncate,
    .co_pwrite_zeroes = mem_pwrite_zeroes,
};

/* --- Nodes --------------------------------------------------------------------------------- */

static BlockDriverState *node_new(const BlockDriver *drv, bool read_only)
{
    BlockDriverState *bs = g_new0(BlockDriverState, 1);

    bs->drv = drv;
    bs->opaque = g_malloc0(drv->instance_size);
    bs->node_name = g_strdup(drv->name);
    bs->filename = g_strdup("test image");
    bs->ctx = main_aio_context();
    bs->read_only = read_only;
    bs->discard_unmap = true;
    bs->refcount = 1;
    bs->request_alignment = 1;
    g_queue_init(&bs->parents);
    g_queue_init(&bs->serialised);
    co_queue_init(&bs->drain_queue);
    co_queue_init(&bs->quiesce_queue);
    return bs;
}

static void node_free(BlockDriverState *bs)
{
    co_queue_destroy(&bs->drain_queue);
    co_queue_destroy(&bs->quiesce_queue);
    g_free(bs->opaque);
    g_free(bs->node_name);
    g_free(bs->filename);
    g_free(bs);
}

static BdrvChild *edge_new(BlockDriverState *bs, BlockDriverState *parent, BdrvChildRole role)
{
    BdrvChild *child = g_new0(BdrvChild, 1);

    *child = (BdrvChild) { .bs = bs, .parent = parent, .role = role, .writable = true };
    return child;
}

static BlockDriverState *mem_node(MemFile *m, bool read_only)
{
    BlockDriverState *bs = node_new(&mem_driver, read_only);

    *(MemFile **)bs->opaque = m;
    bdrv_set_length(bs, m->len);
    return bs;
}

static void drop_mem_node(BdrvChild *edge)
{
    if (edge) {
        node_free(edge->bs);
        g_free(edge);
    }
}

/*
 * Opens the image in m, which has the format of drv; backing may be NULL, and so may be options.
 * What is returned is an edge to do I/O on.
 */
static BdrvChild *coroutine_fn image_open_as(const BlockDriver *drv, MemFile *m,
                                             BlockDriverState *backing, bool read_only,
                                             const BlockdevOptions *options, GError **errp)
{
    BlockDriverState *bs = node_new(drv, read_only);

    bs->no_backing = true;
    bs->file = edge_new(mem_node(m, read_only), bs, BDRV_CHILD_FILE);
    if (m->guest_data) {
        bs->data_file = edge_new(mem_node(m->guest_data, read_only), bs, BDRV_CHILD_DATA);
    }
    if (backing) {
        bs->backing = edge_new(backing, bs, BDRV_CHILD_BACKING);
    }
    if (!bs->drv->co_open(bs, options, errp)) {
        drop_mem_node(bs->file);
        drop_mem_node(bs->data_file);
        g_free(bs->backing);
        node_free(bs);
        return NULL;
    }
    return edge_new(bs, NULL, BDRV_CHILD_FILE);
}

static inline BdrvChild *coroutine_fn image_open_with(MemFile *m, BlockDriverState *backing,
                                                      bool read_only,
                                                      const BlockdevOptions *options,
                                                      GError **errp)
{
    return image_open_as(&bdrv_qcow2_driver, m, backing, read_only, options, errp);
}

static inline BdrvChild *coroutine_fn image_open(MemFile *m, BlockDriverState *backing,
                                                 bool read_only, GError **errp)
{
    return image_open_with(m, backing, read_only, NULL, errp);
}

static void coroutine_fn image_close(BdrvChild *child)
{
    BlockDriverState *bs = child->bs;

    bs->drv->co_close(bs);
    bdrv_dirty_bitmaps_free_all(bs);
    drop_mem_node(bs->file);
    drop_mem_node(bs->data_file);
    g_free(bs->backing);
    node_free(bs);
    g_free(child);
}

static void check_line(void *opaque, bool error, const char *line)
{
    GString *text = opaque;

    if (text->len < 2000) {
        g_string_append_printf(text, "%s\n", line);
    }
}

/* Checks the image in m read-only, from scratch; *lines gets what it says. */
static BdrvCheckResult coroutine_fn image_check(MemFile *m, char **lines)
{
    GString *text = g_string_new(NULL);
    BdrvCheckResult res = { .report = check_line, .opaque = text };
    GError *err = NULL;
    BdrvChild *image = image_open(m, NULL, true, &err);

    if (!image) {
        g_string_append_printf(text, "cannot be opened: %s\n", err->message);
        g_error_free(err);
        res.check_errors = 1;
    } else {
        image->bs->drv->co_check(image->bs, &res, 0, NULL);
        image_close(image);
    }
    *lines = g_string_free(text, false);
    return res;
}

/* Fails the test unless the image is clean (with leaks allowed: free of damage). */
static inline void coroutine_fn image_assert_clean(MemFile *m, bool leaks_allowed, const char *where)
{
    char *lines;
    BdrvCheckResult res = image_check(m, &lines);

    if (res.corruptions || res.check_errors || (res.leaks && !leaks_allowed)) {
        g_error("%s: %" PRId64 " corruptions, %" PRId64 " errors, %" PRId64 " leaks:\n%s", where,
                res.corruptions, res.check_errors, res.leaks, lines);
    }
    g_free(lines);
}

/* --- Files and Debian's tools ---------------------------------------------------------------- */

/* The snapshot of this name, or NULL. */
static inline Qcow2Snapshot *snapshot_named(BlockDriverState *bs, const char *name)
{
    Qcow2State *s = bs->opaque;

    for (guint i = 0; i < s->snapshots->len; i++) {
        Qcow2Snapshot *sn = s->snapshots->pdata[i];

        if (!strcmp(sn->name, name)) {
            return sn;
        }
    }
    return NULL;
}

/* Its id, or one that none has. */
static inline const char *snapshot_id(BlockDriverState *bs, const char *name)
{
    Qcow2Snapshot *sn = snapshot_named(bs, name);

    return sn ? sn->id : "none";
}

static inline bool have_qemu_img(void)
{
    g_autofree char *path = g_find_program_in_path("qemu-img");

    return path != NULL;
}

static char *temp_name(void)
{
    GError *err = NULL;
    char *name;
    int fd = g_file_open_tmp("kf-qcow2-XXXXXX", &name, &err);

    g_assert_no_error(err);
    close(fd);
    return name;
}

static MemFile *mem_load(const char *path)
{
    GError *err = NULL;
    g_autofree char *data = NULL;
    gsize len;

    g_file_get_contents(path, &data, &len, &err);
    g_assert_no_error(err);
    return mem_new(data, len);
}

/* Writes the image to path, and its data file to where the image says. */
static void mem_store(MemFile *m, const char *path)
{
    GError *err = NULL;

    g_file_set_contents(path, (char *)m->data, m->len, &err);
    g_assert_no_error(err);
    if (m->guest_data) {
        mem_store(m->guest_data, m->data_name);
    }
}

/* Removes what mem_store() wrote. */
static inline void mem_unlink(MemFile *m, const char *path)
{
    g_unlink(path);
    if (m->guest_data) {
        g_unlink(m->data_name);
    }
}

/* Runs a command line; returns its exit status. *output is what it printed. */
static inline int run_tool(const char *command, char **output)
{
    g_autofree char *err_text = NULL;
    GError *err = NULL;
    int status;

    g_spawn_command_line_sync(command, output, &err_text, &status, &err);
    g_assert_no_error(err);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Whether Debian's qemu-img finds nothing wrong (leaks count as wrong unless allowed). */
static inline void qemu_img_check(MemFile *m, bool leaks_allowed)
{
    g_autofree char *name = temp_name();
    g_autofree char *command = g_strdup_printf("qemu-img check -f qcow2 %s", name);
    g_autofree char *output = NULL;
    int status;

    mem_store(m, name);
    status = run_tool(command, &output);
    mem_unlink(m, name);
    if (status != 0 && !(leaks_allowed && status == 3)) {
        g_error("qemu-img check says %d:\n%s", status, output);
    }
}

/* A new image as our own driver makes it; options "a=b,c=d", "data_file=TEMP" for a new file. */
static inline MemFile *coroutine_fn image_create(int64_t size, const char *options)
{
    g_autofree char *name = temp_name();
    g_auto(GStrv) list = g_strsplit(options, ",", -1);
    g_autoptr(GHashTable) table = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    BdrvCreateParams params = { .filename = name, .size = size, .options = table };
    char *data_name = NULL;
    GError *err = NULL;
    MemFile *m;

    for (int i = 0; list[i] && list[i][0]; i++) {
        size_t name_len = strcspn(list[i], "=");
        const char *value = list[i] + name_len + 1;

        if (!strcmp(value, "TEMP")) {
            value = data_name = temp_name();
        }
        g_hash_table_insert(table, g_strndup(list[i], name_len), g_strdup(value));
    }
    bdrv_qcow2_driver.co_create(&params, main_aio_context(), &err);
    g_assert_no_error(err);
    m = mem_load(name);
    if (data_name) {
        m->guest_data = mem_load(data_name);
        m->data_name = data_name;
    }
    mem_unlink(m, name);
    return m;
}

typedef void coroutine_fn TestFunc(void);

typedef struct TestRun {
    TestFunc *func;
} TestRun;

static void coroutine_fn test_entry(void *opaque)
{
    ((TestRun *)opaque)->func();
}

static void run_in_coroutine(gconstpointer data)
{
    TestRun run = { (TestFunc *)data };

    aio_co_run_sync(main_aio_context(), test_entry, &run);
}

static inline void add_test(const char *path, TestFunc *func)
{
    g_test_add_data_func(path, (gconstpointer)func, run_in_coroutine);
}

#endif
