/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * For tests of the snapshot jobs: a fake machine - RAM that a thread goes on stamping, one
 * device, disks in real qcow2 images - and the jobs through their QMP handlers.
 */
#ifndef TESTS_SNAPSHOT_JOB_TEST_H
#define TESTS_SNAPSHOT_JOB_TEST_H

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

static inline void log_event(char *text)
{
    pthread_mutex_lock(&events_lock);
    g_ptr_array_add(events, text);
    pthread_mutex_unlock(&events_lock);
}

static inline void event_sink(unsigned event, json_object *msg)
{
    json_object *data = json_object_object_get(msg, "data");

    log_event(g_strdup_printf(
        "%s:%s", json_object_get_string(json_object_object_get(data, "id")),
        json_object_get_string(json_object_object_get(data, "status"))));
    json_object_put(msg);
}

static inline void assert_events(const char *expected)
{
    g_autofree char *got = NULL;

    pthread_mutex_lock(&events_lock);
    g_ptr_array_add(events, NULL);
    got = g_strjoinv(" ", (char **)events->pdata);
    g_ptr_array_set_size(events, 0);
    pthread_mutex_unlock(&events_lock);
    g_assert_cmpstr(got, ==, expected);
}

static inline void clear_events(void)
{
    pthread_mutex_lock(&events_lock);
    g_ptr_array_set_size(events, 0);
    pthread_mutex_unlock(&events_lock);
}

/* --- The fake machine ------------------------------------------------------------------------ */

static inline bool dev_pre_save(void *opaque, GError **errp)
{
    if (fake.dev.refuse_save) {
        error_setg(errp, "not now");
        return false;
    }
    return true;
}

static inline bool dev_post_load(void *opaque, int version, GError **errp)
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

static inline void stamp_page(size_t page, uint64_t value)
{
    __atomic_store_n((uint64_t *)(fake.ram.host + page * 4096), value, __ATOMIC_RELAXED);
}

static inline void *guest_thread(void *opaque)
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

static inline void pause_guest(void)
{
    if (fake.running) {
        __atomic_store_n(&fake.park, 1, __ATOMIC_SEQ_CST);
        sem_wait(&fake.parked);
        fake.running = false;
    }
}

static inline void resume_guest(void)
{
    __atomic_store_n(&fake.park, 0, __ATOMIC_SEQ_CST);
    sem_post(&fake.go);
    fake.running = true;
}

static inline bool coroutine_fn fake_park(void *opaque, bool for_load)
{
    bool was = fake.running;

    fake.parks++;
    if (was) {
        pause_guest();
        log_event(g_strdup("STOP"));
    }
    return was;
}

static inline void fake_unpark(void *opaque, bool running)
{
    fake.unparks++;
    if (running) {
        log_event(g_strdup("RESUME"));
        resume_guest();
    }
}

static inline void fake_lock(void *opaque)
{
    pthread_mutex_lock(&fake.lock);
}

static inline void fake_unlock(void *opaque)
{
    pthread_mutex_unlock(&fake.lock);
}

static inline void fake_reset(void *opaque)
{
    fake.resets++;
    fake.dev.value = 0;
}

static inline void fake_loaded(void *opaque)
{
    fake.loads++;
}

static inline void fake_read_error(void *opaque, const char *message)
{
    __atomic_fetch_add(&fake.read_errors, 1, __ATOMIC_SEQ_CST);
}

static inline int64_t fake_clock(void *opaque)
{
    return 1234567890;
}

static inline int *fake_tids(void *opaque, int *n)
{
    int *tids = g_new(int, 1);

    *n = 1;
    tids[0] = fake.tid;
    return tids;
}

static inline AioContext *fake_context(void)
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

static inline void fake_start(void)
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

static inline void fake_stop(void)
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
static inline void coroutine_fn close_node(BlockDriverState *bs)
{
    g_autofree char *name = g_strdup(bdrv_node_name(bs));

    bdrv_co_unref(bs);
    g_assert_null(bdrv_find_node(name, NULL));
}

/* It runs: it writes all its pages. */
static inline void coroutine_fn assert_guest_runs(void)
{
    uint64_t writes = __atomic_load_n(&fake.writes, __ATOMIC_SEQ_CST);

    g_assert_true(fake.running);
    g_assert_cmpint(fake.parks, ==, fake.unparks);
    while (__atomic_load_n(&fake.writes, __ATOMIC_SEQ_CST) < writes + NR_PAGES) {
        co_sleep_ns(1000000);
    }
}

/* --- Disks and jobs --------------------------------------------------------------------------- */

static inline char *coroutine_fn make_image(const char *name)
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

static inline BlockDriverState *coroutine_fn open_image(const char *name, const char *path)
{
    return test_open("{'driver': 'qcow2', 'node-name': '%s',"
                     " 'file': {'driver': 'file', 'filename': '%s'}}", name, path);
}

static inline void coroutine_fn write_disk(BlockDriverState *bs, int fill)
{
    BlockBackend *blk = test_blk(bs, true);
    g_autofree uint8_t *buf = g_malloc(256 << 10);

    memset(buf, fill, 256 << 10);
    to_io();
    g_assert_cmpint(blk_co_pwrite(blk, 100 << 10, 256 << 10, buf), ==, 0);
    to_main();
    blk_co_free(blk);
}

static inline int coroutine_fn read_disk(BlockDriverState *bs)
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

static inline void coroutine_fn assert_clean(BlockDriverState *bs)
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

static inline int coroutine_fn count_snapshots(BlockDriverState *bs)
{
    GError *err = NULL;
    int n;

    g_free(snapshot_list_of(bs, &n, &err));
    g_assert_no_error(err);
    return n;
}

/* The job as query-jobs has it: a new object, NULL if there is none. */
static inline JobInfo *find_job(const char *id)
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
static inline char *coroutine_fn finish(const char *id, SnapshotStats *stats)
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

static inline void coroutine_fn save(const char *id, const char *tag, strList *devices,
                                     GError **errp)
{
    qmp_snapshot_save(id, tag, "d0", devices, false, 0, false, false, false, 0, errp);
}

static inline char *coroutine_fn save_and_finish(const char *tag, strList *devices,
                                                 SnapshotStats *st)
{
    GError *err = NULL;

    save("s", tag, devices, &err);
    g_assert_no_error(err);
    return finish("s", st);
}

static inline char *coroutine_fn load_and_finish(const char *tag, strList *devices, bool lazy,
                                          SnapshotStats *st)
{
    GError *err = NULL;

    qmp_snapshot_load("l", tag, "d0", devices, true, lazy, &err);
    g_assert_no_error(err);
    return finish("l", st);
}

/* Stamps of one instant: in the order of writing they never rise. */
static inline void assert_one_instant(const uint8_t *ram)
{
    uint64_t first = *(uint64_t *)(ram + 0), last = first;

    for (size_t i = 0; i < NR_PAGES; i++) {
        uint64_t v = *(uint64_t *)(ram + i * 97 % NR_PAGES * 4096);

        g_assert_cmpuint(v, <=, last);
        g_assert_cmpuint(v + 1, >=, first);
        last = v;
    }
}

#endif
