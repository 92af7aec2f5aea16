/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The snapshot jobs on a fake machine - RAM that a thread goes on stamping, one device, a
 * disk in a real qcow2 image - through the QMP handlers.  What was saved comes back; what
 * fails or is cancelled at any request to the disk leaves no trace and a running guest.
 */
#include <semaphore.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include "block-test.h"
#include "migration/snapshot-int.h"
#include "qapi/event.h"
#include "qapi/qapi-commands-job.h"
#include "qapi/qapi-commands-migration.h"

const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
    /* Guest RAM is written while it is saved: that is the point, not an error. */
    return "race:keep_copy\nrace:buffer_is_zero\nrace:buffer_zero\nrace:memcpy\n"
           "race:stamp_page\nrace:ram_prepare_dma\n";
}

#define RAM_SIZE ((size_t)16 << 20)
#define NR_PAGES (RAM_SIZE / 4096)
#define DISK_SIZE (4 << 20)

typedef struct FakeDevice {
    uint32_t value;
    uint64_t counter; /* the guest's position: it belongs to what RAM holds */
    bool refuse_save;
    int refuse_loads;
} FakeDevice;

static struct {
    Machine m;
    RAMBlock ram;
    FakeDevice dev;
    IOThread *snapshot_thread;
    pthread_mutex_t lock;
    pthread_t thread;
    int tid, park, stop; /* atomic */
    sem_t parked, go;
    bool running;
    int parks, unparks, resets, loads;
    uint64_t writes; /* atomic */
    int read_errors;
} fake;

static GPtrArray *events; /* "job0:running", "STOP", "RESUME"; under events_lock */
static pthread_mutex_t events_lock = PTHREAD_MUTEX_INITIALIZER;

static void log_event(char *text)
{
    pthread_mutex_lock(&events_lock);
    g_ptr_array_add(events, text);
    pthread_mutex_unlock(&events_lock);
}

static void event_sink(unsigned event, json_object *msg)
{
    json_object *data = json_object_object_get(msg, "data");

    log_event(g_strdup_printf(
        "%s:%s", json_object_get_string(json_object_object_get(data, "id")),
        json_object_get_string(json_object_object_get(data, "status"))));
    json_object_put(msg);
}

static void assert_events(const char *expected)
{
    g_autofree char *got = NULL;

    pthread_mutex_lock(&events_lock);
    g_ptr_array_add(events, NULL);
    got = g_strjoinv(" ", (char **)events->pdata);
    g_ptr_array_set_size(events, 0);
    pthread_mutex_unlock(&events_lock);
    g_assert_cmpstr(got, ==, expected);
}

static void clear_events(void)
{
    pthread_mutex_lock(&events_lock);
    g_ptr_array_set_size(events, 0);
    pthread_mutex_unlock(&events_lock);
}

/* --- The fake machine ------------------------------------------------------------------------ */

static bool dev_pre_save(void *opaque, GError **errp)
{
    if (fake.dev.refuse_save) {
        error_setg(errp, "not now");
        return false;
    }
    return true;
}

static bool dev_post_load(void *opaque, int version, GError **errp)
{
    if (fake.dev.refuse_loads) {
        fake.dev.refuse_loads--;
        error_setg(errp, "never");
        return false;
    }
    return true;
}

static const VMStateDescription vmsd_dev = {
    .name = "dev",
    .version = 1,
    .minimum_version = 1,
    .pre_save = dev_pre_save,
    .post_load = dev_post_load,
    .fields = (const VMStateField[]){VMSTATE_UINT32(value, FakeDevice),
                                     VMSTATE_UINT64(counter, FakeDevice), VMSTATE_END},
};

static void stamp_page(size_t page, uint64_t value)
{
    __atomic_store_n((uint64_t *)(fake.ram.host + page * 4096), value, __ATOMIC_RELAXED);
}

static void *guest_thread(void *opaque)
{
    fake.tid = syscall(SYS_gettid);
    sem_post(&fake.parked);
    while (!__atomic_load_n(&fake.stop, __ATOMIC_SEQ_CST)) {
        if (__atomic_load_n(&fake.park, __ATOMIC_SEQ_CST)) {
            sem_post(&fake.parked);
            sem_wait(&fake.go);
            continue;
        }
        uint64_t i = fake.dev.counter++;

        stamp_page(i * 97 % NR_PAGES, i / NR_PAGES + 1);
        __atomic_fetch_add(&fake.writes, 1, __ATOMIC_SEQ_CST);
        if (i % 512 == 0) {
            g_usleep(50);
        }
    }
    return NULL;
}

static void pause_guest(void)
{
    if (fake.running) {
        __atomic_store_n(&fake.park, 1, __ATOMIC_SEQ_CST);
        sem_wait(&fake.parked);
        fake.running = false;
    }
}

static void resume_guest(void)
{
    __atomic_store_n(&fake.park, 0, __ATOMIC_SEQ_CST);
    sem_post(&fake.go);
    fake.running = true;
}

static bool coroutine_fn fake_park(void *opaque, bool for_load)
{
    bool was = fake.running;

    fake.parks++;
    if (was) {
        pause_guest();
        log_event(g_strdup("STOP"));
    }
    return was;
}

static void fake_unpark(void *opaque, bool running)
{
    fake.unparks++;
    if (running) {
        log_event(g_strdup("RESUME"));
        resume_guest();
    }
}

static void fake_lock(void *opaque)
{
    pthread_mutex_lock(&fake.lock);
}

static void fake_unlock(void *opaque)
{
    pthread_mutex_unlock(&fake.lock);
}

static void fake_reset(void *opaque)
{
    fake.resets++;
    fake.dev.value = 0;
}

static void fake_loaded(void *opaque)
{
    fake.loads++;
}

static void fake_read_error(void *opaque, const char *message)
{
    __atomic_fetch_add(&fake.read_errors, 1, __ATOMIC_SEQ_CST);
}

static int64_t fake_clock(void *opaque)
{
    return 1234567890;
}

static int *fake_tids(void *opaque, int *n)
{
    int *tids = g_new(int, 1);

    *n = 1;
    tids[0] = fake.tid;
    return tids;
}

static AioContext *fake_context(void)
{
    return iothread_context(fake.snapshot_thread);
}

static const MachineOps fake_ops = {
    .park = fake_park,
    .unpark = fake_unpark,
    .lock = fake_lock,
    .unlock = fake_unlock,
    .reset_devices = fake_reset,
    .state_loaded = fake_loaded,
    .ram_read_error = fake_read_error,
    .clock_ns = fake_clock,
    .vcpu_tids = fake_tids,
};

static void fake_start(void)
{
    uint8_t *p = mmap(NULL, RAM_SIZE + (2 << 20), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    GError *err = NULL;

    memset(&fake, 0, sizeof(fake));
    strcpy(fake.ram.idstr, "fake.ram");
    fake.ram.host = (uint8_t *)(((uintptr_t)p + (2 << 20) - 1) & ~(uintptr_t)((2 << 20) - 1));
    fake.ram.size = RAM_SIZE;
    fake.m = (Machine){.ops = &fake_ops, .machine_type = "fake", .ram = &fake.ram, .nr_ram = 1,
                       .snapshot_context = fake_context};
    fake.m.vmstate = vmstate_registry_new();
    fake.m.job_mutex = vm_job_mutex_new();
    vmstate_register(fake.m.vmstate, "dev", 0, &vmsd_dev, &fake.dev);
    fake.snapshot_thread = iothread_new("snapshot", &err);
    g_assert_no_error(err);
    pthread_mutex_init(&fake.lock, NULL);
    sem_init(&fake.parked, 0, 0);
    sem_init(&fake.go, 0, 0);
    fake.running = true;
    machine_register(&fake.m);
    pthread_create(&fake.thread, NULL, guest_thread, NULL);
    sem_wait(&fake.parked);
}

static void fake_stop(void)
{
    __atomic_store_n(&fake.stop, 1, __ATOMIC_SEQ_CST);
    if (!fake.running) {
        resume_guest();
    }
    pthread_join(fake.thread, NULL);
    iothread_destroy(fake.snapshot_thread);
    vm_job_mutex_free(fake.m.job_mutex);
    vmstate_registry_free(fake.m.vmstate);
    pthread_mutex_destroy(&fake.lock);
    machine_register(NULL);
}

/* Closes a node and waits until nobody has it open any more. */
static void coroutine_fn close_node(BlockDriverState *bs)
{
    g_autofree char *name = g_strdup(bdrv_node_name(bs));

    bdrv_co_unref(bs);
    g_assert_null(bdrv_find_node(name, NULL));
}

/* It runs: it writes all its pages. */
static void coroutine_fn assert_guest_runs(void)
{
    uint64_t writes = __atomic_load_n(&fake.writes, __ATOMIC_SEQ_CST);

    g_assert_true(fake.running);
    g_assert_cmpint(fake.parks, ==, fake.unparks);
    while (__atomic_load_n(&fake.writes, __ATOMIC_SEQ_CST) < writes + NR_PAGES) {
        co_sleep_ns(1000000);
    }
}

/* --- Disks and jobs --------------------------------------------------------------------------- */

static char *coroutine_fn make_image(const char *name)
{
    char *path = test_path(name);
    BdrvCreateParams params = {.filename = path, .size = DISK_SIZE};
    GError *err = NULL;

    params.options = g_hash_table_new(g_str_hash, g_str_equal);
    bdrv_driver_by_name("qcow2")->co_create(&params, test_ctx, &err);
    g_assert_no_error(err);
    g_hash_table_unref(params.options);
    return path;
}

static BlockDriverState *coroutine_fn open_image(const char *name, const char *path)
{
    return test_open("{'driver': 'qcow2', 'node-name': '%s',"
                     " 'file': {'driver': 'file', 'filename': '%s'}}", name, path);
}

static void coroutine_fn write_disk(BlockDriverState *bs, int fill)
{
    BlockBackend *blk = test_blk(bs, true);
    g_autofree uint8_t *buf = g_malloc(256 << 10);

    memset(buf, fill, 256 << 10);
    to_io();
    g_assert_cmpint(blk_co_pwrite(blk, 100 << 10, 256 << 10, buf), ==, 0);
    to_main();
    blk_co_free(blk);
}

static int coroutine_fn read_disk(BlockDriverState *bs)
{
    BlockBackend *blk = test_blk(bs, false);
    g_autofree uint8_t *buf = g_malloc(256 << 10);

    to_io();
    g_assert_cmpint(blk_co_pread(blk, 100 << 10, 256 << 10, buf), ==, 0);
    to_main();
    blk_co_free(blk);
    g_assert_true(all_bytes(buf, buf[0], 256 << 10));
    return buf[0];
}

static void coroutine_fn assert_clean(BlockDriverState *bs)
{
    BdrvCheckResult result = {0};
    GError *err = NULL;

    to_io();
    bdrv_co_flush(bs);
    g_assert_true(bs->drv->co_check(bs, &result, 0, &err));
    to_main();
    g_assert_no_error(err);
    g_assert_cmpint(result.corruptions, ==, 0);
    g_assert_cmpint(result.leaks, ==, 0);
    g_assert_cmpint(result.check_errors, ==, 0);
}

static int coroutine_fn count_snapshots(BlockDriverState *bs)
{
    GError *err = NULL;
    int n;

    g_free(snapshot_list_of(bs, &n, &err));
    g_assert_no_error(err);
    return n;
}

/* The job as query-jobs has it: a new object, NULL if there is none. */
static JobInfo *find_job(const char *id)
{
    JobInfoList *list = job_query_all();
    JobInfo *info = NULL;

    for (JobInfoList *l = list; l; l = l->next) {
        if (strcmp(l->value->id, id) == 0) {
            info = g_steal_pointer(&l->value);
            l->value = g_new0(JobInfo, 1);
        }
    }
    qapi_free_JobInfoList(list);
    return info;
}

/* Waits for the end, dismisses, and returns the job's error, NULL for none. */
static char *coroutine_fn finish(const char *id, SnapshotStats *stats)
{
    GError *err = NULL;

    for (;;) {
        JobInfo *info = find_job(id);

        g_assert_nonnull(info);
        if (info->status == JOB_STATUS_CONCLUDED) {
            char *error = g_strdup(info->error);

            if (stats) {
                *stats = *info->snapshot_stats;
            }
            qapi_free_JobInfo(info);
            qmp_job_dismiss(id, &err);
            g_assert_no_error(err);
            return error;
        }
        qapi_free_JobInfo(info);
        co_sleep_ns(500000);
    }
}

static strList devices_d0 = {NULL, (char *)"d0"};
static strList devices_d0_d1 = {&(strList){NULL, (char *)"d1"}, (char *)"d0"};

static void coroutine_fn save(const char *id, const char *tag, strList *devices, GError **errp)
{
    qmp_snapshot_save(id, tag, "d0", devices, false, 0, false, false, false, 0, errp);
}

static char *coroutine_fn save_and_finish(const char *tag, strList *devices, SnapshotStats *st)
{
    GError *err = NULL;

    save("s", tag, devices, &err);
    g_assert_no_error(err);
    return finish("s", st);
}

static char *coroutine_fn load_and_finish(const char *tag, strList *devices, bool lazy,
                                          SnapshotStats *st)
{
    GError *err = NULL;

    qmp_snapshot_load("l", tag, "d0", devices, true, lazy, &err);
    g_assert_no_error(err);
    return finish("l", st);
}

/* Stamps of one instant: in the order of writing they never rise. */
static void assert_one_instant(const uint8_t *ram)
{
    uint64_t first = *(uint64_t *)(ram + 0), last = first;

    for (size_t i = 0; i < NR_PAGES; i++) {
        uint64_t v = *(uint64_t *)(ram + i * 97 % NR_PAGES * 4096);

        g_assert_cmpuint(v, <=, last);
        g_assert_cmpuint(v + 1, >=, first);
        last = v;
    }
}

/* --- Tests ------------------------------------------------------------------------------------ */

static void coroutine_fn roundtrip(bool lazy, SnapshotMode mode, bool compress)
{
    g_autofree char *p0 = make_image("a.qcow2"), *p1 = make_image("b.qcow2");
    BlockDriverState *d0 = open_image("d0", p0), *d1 = open_image("d1", p1);
    GError *err = NULL;
    SnapshotStats st;

    fake_start();
    assert_guest_runs();
    for (int round = 0; round < 3; round++) {
        g_autofree char *tag = g_strdup_printf("t%d", round);

        write_disk(d0, 10 + round);
        write_disk(d1, 20 + round);
        fake.dev.value = 1000 + round;
        clear_events();
        qmp_snapshot_save("s", tag, "d0", &devices_d0_d1, true, mode, true, compress, false, 0,
                          &err);
        g_assert_no_error(err);
        g_assert_null(finish("s", &st));
        assert_events("s:created s:running STOP RESUME s:waiting s:pending s:concluded s:null");
        g_assert_true(st.has_mode && st.mode == mode);
        g_assert_cmpuint(st.bytes_written, >, 1 << 20);
        g_assert_cmpuint(st.throughput, >, 0);
        g_assert_cmpuint(st.downtime_us, >, 0);
        g_assert_cmpint(st.has_compressed_size, ==, compress);
        if (compress) {
            g_assert_cmpuint(st.compressed_bytes, >, 1 << 20);
            g_assert_cmpuint(st.compressed_size, <, st.compressed_bytes / 4);
        }
        assert_guest_runs();
    }
    write_disk(d0, 99);
    write_disk(d1, 99);
    fake.dev.value = 5;
    for (int round = 2; round >= 0; round--) {
        g_autofree char *tag = g_strdup_printf("t%d", round);

        pause_guest();
        clear_events();
        g_assert_null(load_and_finish(tag, &devices_d0_d1, lazy, &st));
        g_assert_cmpint(st.lazy, ==, lazy && ram_load_can_be_lazy(NULL));
        assert_events("l:created l:running l:waiting l:pending l:concluded l:null");
        g_assert_cmpuint(fake.dev.value, ==, 1000 + round);
        g_assert_cmpint(read_disk(d0), ==, 10 + round);
        g_assert_cmpint(read_disk(d1), ==, 20 + round);
        assert_one_instant(fake.ram.host);
        g_assert_cmpint(fake.resets, ==, 3 - round);
        g_assert_cmpint(fake.loads, ==, 3 - round);
        resume_guest();
        assert_guest_runs();
    }
    for (int round = 0; round < 3; round++) {
        g_autofree char *tag = g_strdup_printf("t%d", round);

        qmp_snapshot_delete("x", tag, &devices_d0_d1, &err);
        g_assert_no_error(err);
        g_assert_null(finish("x", NULL));
    }
    g_assert_cmpint(count_snapshots(d0) + count_snapshots(d1), ==, 0);
    assert_clean(d0);
    assert_clean(d1);
    fake_stop();
    close_node(d0);
    close_node(d1);
}

TEST_CO(test_roundtrip_lazy)
{
    roundtrip(true, SNAPSHOT_MODE_LIVE, false);
}

TEST_CO(test_roundtrip_lazy_packed)
{
    roundtrip(true, SNAPSHOT_MODE_LIVE, true);
}

TEST_CO(test_roundtrip_eager)
{
    roundtrip(false, SNAPSHOT_MODE_STOP, false);
}

TEST_CO(test_roundtrip_eager_packed)
{
    roundtrip(false, SNAPSHOT_MODE_STOP, true);
}

/* A load into a running guest: it goes on, on the loaded state. */
TEST_CO(test_load_running)
{
    g_autofree char *p0 = make_image("a.qcow2");
    BlockDriverState *d0 = open_image("d0", p0);

    fake_start();
    assert_guest_runs();
    for (int i = 0; i < 5; i++) {
        g_autofree char *tag = g_strdup_printf("t%d", i);

        g_assert_null(save_and_finish(tag, &devices_d0, NULL));
        clear_events();
        g_assert_null(load_and_finish(tag, &devices_d0, true, NULL));
        assert_events("l:created l:running STOP RESUME l:waiting l:pending l:concluded l:null");
        assert_guest_runs();
    }
    assert_clean(d0);
    fake_stop();
    close_node(d0);
}

/* --- Incremental saves: the guest stands still, the test writes its RAM ------------------- */

#define NR_TAGS 4

static uint8_t *copies[NR_TAGS];

/* Saves what RAM is now as "tN"; what changed since the base must be all that is written. */
static void coroutine_fn save_copy(int n, const char *vmstate, bool shares)
{
    g_autofree char *tag = g_strdup_printf("t%d", n);
    GError *err = NULL;
    SnapshotStats st;

    g_free(copies[n]);
    copies[n] = g_memdup2(fake.ram.host, RAM_SIZE);
    qmp_snapshot_save("s", tag, vmstate, &devices_d0_d1, false, 0, false, false, false, 0, &err);
    g_assert_no_error(err);
    g_assert_null(finish("s", &st));
    g_assert_true(st.has_shared_pages);
    if (shares) {
        g_assert_cmpuint(st.shared_pages, >, NR_PAGES / 2);
        g_assert_cmpuint(st.bytes_written, <, 2 << 20);
    } else {
        g_assert_cmpuint(st.shared_pages, ==, 0);
        g_assert_cmpuint(st.bytes_written, >, RAM_SIZE / 2);
    }
}

static void coroutine_fn load_copy(int n, const char *vmstate, bool lazy)
{
    g_autofree char *tag = g_strdup_printf("t%d", n);
    GError *err = NULL;

    qmp_snapshot_load("l", tag, vmstate, &devices_d0_d1, true, lazy, &err);
    g_assert_no_error(err);
    g_assert_null(finish("l", NULL));
    g_assert_cmpmem(fake.ram.host, RAM_SIZE, copies[n], RAM_SIZE);
}

static void coroutine_fn delete_tag(int n)
{
    g_autofree char *tag = g_strdup_printf("t%d", n);
    GError *err = NULL;

    qmp_snapshot_delete("x", tag, &devices_d0_d1, &err);
    g_assert_no_error(err);
    g_assert_null(finish("x", NULL));
}

static void change_ram(int seed)
{
    for (int i = 0; i < 8; i++) {
        fake.ram.host[(seed * 131 + i * 577) % NR_PAGES * 4096 + seed % 4096]++;
    }
    memset(fake.ram.host + (seed * 67 % NR_PAGES) * 4096, 0, 4096);
}

static bool can_track(void)
{
    Uffd u;
    bool ok = uffd_open(&u, UFFD_FEATURE_PAGEFAULT_FLAG_WP, 0, NULL);

    if (ok) {
        ok = u.kernel_faults;
        uffd_close(&u);
    }
    return ok;
}

TEST_CO(test_incremental)
{
    g_autofree char *p0 = make_image("a.qcow2"), *p1 = make_image("b.qcow2");
    BlockDriverState *d0, *d1;

    if (!can_track()) {
        g_test_skip("no userfaultfd");
        return;
    }
    d0 = open_image("d0", p0);
    d1 = open_image("d1", p1);
    fake_start();
    fake.m.track_ram = true;
    pause_guest();
    for (size_t p = 0; p < NR_PAGES; p++) {
        memset(fake.ram.host + p * 4096, p % 251 + 1, p % 9 ? 4096 : 0);
    }
    save_copy(0, "d0", false);
    for (int i = 1; i < NR_TAGS; i++) {
        change_ram(i);
        save_copy(i, "d0", true);
    }
    delete_tag(1); /* in the middle of the chain */
    load_copy(2, "d0", true);
    load_copy(0, "d0", false);
    load_copy(3, "d0", true);
    delete_tag(0);
    load_copy(2, "d0", true);
    assert_clean(d0);

    /* What was loaded lazily is a base; what was read before the switch is not. */
    change_ram(9);
    save_copy(0, "d0", true);
    load_copy(3, "d0", true);
    save_copy(1, "d0", true);
    load_copy(0, "d0", true);
    memset(fake.ram.host + 17 * 4096, 0, 64 * 4096);
    delete_tag(1);
    save_copy(1, "d0", true);
    load_copy(3, "d0", true);
    delete_tag(0);
    load_copy(1, "d0", false);
    assert_clean(d0);
    change_ram(11);
    save_copy(0, "d0", false);

    /* The base is gone, or on the other node, or its name is now another's: all is written. */
    delete_tag(0);
    delete_tag(1);
    save_copy(1, "d0", false);
    save_copy(0, "d1", false);
    change_ram(10);
    delete_tag(1);
    save_copy(1, "d1", true);
    load_copy(0, "d1", true);
    load_copy(1, "d1", false);
    load_copy(3, "d0", false);

    /* Switched off: as if there were nothing of the kind. */
    delete_tag(0);
    save_copy(0, "d0", false);
    fake.m.track_ram = false;
    delete_tag(1);
    save_copy(1, "d0", false);
    delete_tag(0);
    save_copy(0, "d0", false);
    for (int i = 0; i < NR_TAGS; i++) {
        delete_tag(i);
        g_clear_pointer(&copies[i], g_free);
    }
    assert_clean(d0);
    assert_clean(d1);
    fake_stop();
    close_node(d0);
    close_node(d1);
}

#define ASSERT_ERROR(call, expected)                                                         \
    do {                                                                                     \
        GError *e_ = NULL;                                                                   \
        call;                                                                                \
        g_assert_nonnull(e_);                                                                \
        g_assert_cmpstr(e_->message, ==, expected);                                          \
        g_clear_error(&e_);                                                                  \
    } while (0)

TEST_CO(test_refused)
{
    g_autofree char *p0 = make_image("a.qcow2"), *p1 = make_image("b.qcow2"),
                    *raw = test_file("r.raw", 65536, 0);
    BlockDriverState *d0 = open_image("d0", p0);
    BlockDriverState *ro = test_open("{'driver': 'qcow2', 'node-name': 'ro', 'read-only': true,"
                                     " 'file': {'driver': 'file', 'filename': '%s'}}", p1);
    BlockDriverState *rw = test_open("{'driver': 'raw', 'node-name': 'rw',"
                                     " 'file': {'driver': 'file', 'filename': '%s'}}", raw);
    strList only_rw = {NULL, (char *)"rw"}, with_rw = {&only_rw, (char *)"d0"};
    strList only_ro = {NULL, (char *)"ro"}, none = {NULL, (char *)"nope"};

    ASSERT_ERROR(save("s", "t", &devices_d0, &e_),
                 "There is no machine whose state could be saved or loaded");
    fake_start();
    ASSERT_ERROR(save("s", "t", NULL, &e_), "At least one device is required for snapshot");
    ASSERT_ERROR(save("s", "t", &none, &e_), "No block device node 'nope'");
    ASSERT_ERROR(save("s", "t", &with_rw, &e_),
                 "Device 'rw' is writable but does not support snapshots");
    ASSERT_ERROR(qmp_snapshot_save("s", "t", "ro", &only_ro, false, 0, false, false, false, 0,
                                   &e_),
                 "Device 'ro' is writable but does not support snapshots");
    ASSERT_ERROR(qmp_snapshot_save("s", "t", "zz", &devices_d0, false, 0, false, false, false, 0,
                                   &e_),
                 "vmstate block device 'zz' does not exist");
    ASSERT_ERROR(save("s", "", &devices_d0, &e_),
                 "Parameter 'tag' expects a name of 1 to 255 bytes");
    ASSERT_ERROR(save("1", "t", &devices_d0, &e_), "Invalid job ID '1'");
    g_assert_null(save_and_finish("t", &devices_d0, NULL));
    ASSERT_ERROR(save("s", "t", &devices_d0, &e_),
                 "Snapshot 't' already exists in one or more devices");
    ASSERT_ERROR(qmp_snapshot_load("l", "u", "d0", &devices_d0, false, false, &e_),
                 "Snapshot 'u' does not exist in one or more devices");
    vmstate_block(fake.m.vmstate, "a device is in the way");
    ASSERT_ERROR(save("s", "v", &devices_d0, &e_), "State blocked: a device is in the way");
    fake_stop();
    close_node(d0);
    close_node(ro);
    close_node(rw);
}

/* Devices that cannot be saved or loaded: the machine is as it was, and runs. */
TEST_CO(test_device_fails)
{
    g_autofree char *p0 = make_image("a.qcow2");
    BlockDriverState *d0 = open_image("d0", p0);

    fake_start();
    fake.dev.value = 1;
    write_disk(d0, 1);
    fake.dev.refuse_save = true;
    g_autofree char *e1 = save_and_finish("t", &devices_d0, NULL);
    g_assert_cmpstr(e1, ==, "Could not save the state of device 'dev' (instance 0): not now");
    assert_guest_runs();
    g_assert_cmpint(count_snapshots(d0), ==, 0);
    fake.dev.refuse_save = false;
    g_assert_null(save_and_finish("t", &devices_d0, NULL));

    fake.dev.value = 2;
    write_disk(d0, 2);
    for (int lazy = 0; lazy < 2; lazy++) {
        g_autofree char *e = NULL;

        fake.dev.refuse_loads = 1;
        e = load_and_finish("t", &devices_d0, lazy, NULL);
        g_assert_cmpstr(e, ==, "Section 'dev' instance 0: never");
        g_assert_cmpuint(fake.dev.value, ==, 2);
        g_assert_cmpint(read_disk(d0), ==, 2);
        assert_guest_runs();
        assert_clean(d0);
    }
    fake_stop();
    close_node(d0);
}

/* Every request to the image fails once: nothing is left behind, the guest runs. */
static void coroutine_fn failing_save(const char *iotype)
{
    for (int after = 0;; after += 1 + after / 3) {
        g_autofree char *p0 = make_image("a.qcow2");
        BlockDriverState *d0 = test_open(
            "{'driver': 'qcow2', 'node-name': 'd0', 'file': {'driver': 'blkdebug', 'image':"
            " {'driver': 'file', 'filename': '%s'}, 'inject-error': [{'iotype': '%s',"
            " 'errno': 28, 'once': true, 'after': %d}]}}", p0, iotype, after);
        g_autofree char *error = NULL;
        bool ok, either = false;

        fake_start();
        assert_guest_runs();
        error = save_and_finish("t", &devices_d0, NULL);
        ok = !error;
        if (error) {
            g_assert_nonnull(strstr(error, "No space left on device"));
            /* If that one cannot be made durable, nobody knows what the disk has. */
            either = strstr(error, "Could not update the header");
        }
        g_assert_cmpint(count_snapshots(d0), ==, ok);
        assert_guest_runs();
        fake_stop();
        close_node(d0);
        d0 = open_image("d0", p0);
        if (!either) {
            g_assert_cmpint(count_snapshots(d0), ==, ok);
            assert_clean(d0);
        }
        close_node(d0);
        if (ok) {
            g_assert_cmpint(after, >, 2);
            return;
        }
    }
}

TEST_CO(test_save_write_error)
{
    failing_save("write");
}

TEST_CO(test_save_flush_error)
{
    failing_save("flush");
}

/* Cancelled at any time: no trace. */
TEST_CO(test_cancel)
{
    g_autofree char *p0 = make_image("a.qcow2");
    BlockDriverState *d0 = test_open(
        "{'driver': 'qcow2', 'node-name': 'd0', 'file': {'driver': 'blkdebug', 'image':"
        " {'driver': 'file', 'filename': '%s'}, 'inject-error': [{'iotype': 'write',"
        " 'delay-ns': 2000000}]}}", p0);
    GError *err = NULL;
    int cancelled = 0;

    fake_start();
    assert_guest_runs();
    for (int i = 0; i < 12; i++) {
        g_autofree char *error = NULL;

        save("s", "t", &devices_d0, &err);
        g_assert_no_error(err);
        co_sleep_ns(i * 1500000LL);
        qmp_job_cancel("s", &err);
        g_clear_error(&err);
        error = finish("s", NULL);
        if (error) {
            g_assert_cmpstr(error, ==, "Operation canceled");
            cancelled++;
        } else {
            qmp_snapshot_delete("x", "t", &devices_d0, &err);
            g_assert_no_error(err);
            g_assert_null(finish("x", NULL));
        }
        g_assert_cmpint(count_snapshots(d0), ==, 0);
        assert_guest_runs();
    }
    g_assert_cmpint(cancelled, >, 2);
    assert_clean(d0);
    fake_stop();
    close_node(d0);
}

/* The second job waits in 'created'; it can be cancelled there. */
TEST_CO(test_waits_its_turn)
{
    g_autofree char *p0 = make_image("a.qcow2");
    BlockDriverState *d0 = open_image("d0", p0);
    GError *err = NULL;
    JobInfo *info;
    g_autofree char *cancelled = NULL;

    fake_start();
    assert_guest_runs();
    vm_job_mutex_lock(fake.m.job_mutex, NULL, "the test", &err);
    save("a", "t1", &devices_d0, &err);
    save("b", "t2", &devices_d0, &err);
    save("c", "t3", &devices_d0, &err);
    g_assert_no_error(err);
    do {
        co_sleep_ns(1000000);
        info = find_job("c");
        g_assert_true(info->status == JOB_STATUS_CREATED);
        if (info->waits_for) {
            g_assert_cmpstr(info->waits_for, ==, "the test");
            qapi_free_JobInfo(info);
            break;
        }
        qapi_free_JobInfo(info);
    } while (true);
    qmp_job_cancel("b", &err);
    g_assert_no_error(err);
    cancelled = finish("b", NULL);
    g_assert_cmpstr(cancelled, ==, "Operation canceled");
    vm_job_mutex_unlock(fake.m.job_mutex);
    g_assert_null(finish("a", NULL));
    g_assert_null(finish("c", NULL));
    g_assert_cmpint(count_snapshots(d0), ==, 2);
    assert_clean(d0);
    fake_stop();
    close_node(d0);
}

/* A save that begins while a lazy load fills waits for it and is right. */
TEST_CO(test_save_during_load)
{
    g_autofree char *p0 = make_image("a.qcow2");
    BlockDriverState *d0 = open_image("d0", p0);
    GError *err = NULL;

    fake_start();
    assert_guest_runs();
    g_assert_null(save_and_finish("t0", &devices_d0, NULL));
    qmp_snapshot_load("l", "t0", "d0", &devices_d0, false, false, &err);
    g_assert_no_error(err);
    save("s", "t1", &devices_d0, &err);
    g_assert_no_error(err);
    g_assert_null(finish("l", NULL));
    g_assert_null(finish("s", NULL));
    pause_guest();
    g_assert_null(load_and_finish("t1", &devices_d0, true, NULL));
    assert_one_instant(fake.ram.host);
    assert_clean(d0);
    fake_stop();
    close_node(d0);
}

static void add_tests(void)
{
    events = g_ptr_array_new_with_free_func(g_free);
    qapi_set_event_sink(event_sink);
    g_test_add_func("/snapshot-job/roundtrip/lazy", test_roundtrip_lazy);
    g_test_add_func("/snapshot-job/roundtrip/eager", test_roundtrip_eager);
    g_test_add_func("/snapshot-job/roundtrip/lazy-packed", test_roundtrip_lazy_packed);
    g_test_add_func("/snapshot-job/roundtrip/eager-packed", test_roundtrip_eager_packed);
    g_test_add_func("/snapshot-job/load-running", test_load_running);
    g_test_add_func("/snapshot-job/incremental", test_incremental);
    g_test_add_func("/snapshot-job/refused", test_refused);
    g_test_add_func("/snapshot-job/device-fails", test_device_fails);
    g_test_add_func("/snapshot-job/save-write-error", test_save_write_error);
    g_test_add_func("/snapshot-job/save-flush-error", test_save_flush_error);
    g_test_add_func("/snapshot-job/cancel", test_cancel);
    g_test_add_func("/snapshot-job/waits-its-turn", test_waits_its_turn);
    g_test_add_func("/snapshot-job/save-during-load", test_save_during_load);
}

int main(int argc, char **argv)
{
    return test_run(argc, argv, add_tests);
}
