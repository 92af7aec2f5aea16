/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Jobs beside one another: the VM job mutex, jobs in IOThreads, both together. */
#include "job-test.h"

/* --- The VM job mutex -------------------------------------------------------------------- */

static void test_mutex(void)
{
    VmJobMutex *m = vm_job_mutex_new();
    Work a = WORK(.hold = true, .mutex = m, .owner = "snapshot-save 'a'");
    Work b = WORK(.mutex = m, .owner = "snapshot-save 'b'");
    Work c = WORK(.hold = true, .mutex = m, .owner = "snapshot-save 'c'");

    start_record();
    g_assert_null(vm_job_mutex_owner(m));
    job_start_waiting(create("a", &a, NULL, JOB_DEFAULT));
    POLL_UNTIL(is_held(&a));
    job_start_waiting(create("b", &b, NULL, JOB_DEFAULT));
    job_start_waiting(create("c", &c, NULL, JOB_DEFAULT));
    POLL_UNTIL(b.ran && c.ran);
    g_autofree char *owner = vm_job_mutex_owner(m);
    g_assert_cmpstr(owner, ==, "snapshot-save 'a'");

    JobInfoList *list = job_query_all();
    g_assert_cmpstr(list->value->id, ==, "c");
    g_assert_cmpint(list->value->status, ==, JOB_STATUS_CREATED);
    g_assert_cmpstr(list->value->waits_for, ==, "snapshot-save 'a'");
    g_assert_null(list->next->next->value->waits_for);
    qapi_free_JobInfoList(list);

    g_assert_true(job_cancel_by_id("b", true, NULL)); /* while it waits */
    POLL_UNTIL(b.freed);
    g_assert_false(a.freed);
    let_go(&a);
    POLL_UNTIL(is_held(&c));
    g_assert_true(a.freed);
    g_assert_true(job_cancel_by_id("c", true, NULL)); /* while it has it */
    POLL_UNTIL(c.freed);
    g_assert_null(vm_job_mutex_owner(m));
    vm_job_mutex_free(m);
    check_record("a:created a:running b:created c:created b:aborting b:concluded b:null "
                 "a:waiting a:pending a:concluded a:null c:running "
                 "c:aborting c:concluded c:null ");
}

typedef struct Turn {
    VmJobMutex *m;
    GString *order;
    char name[2];
    Coroutine *co;
    bool done;
} Turn;

static void coroutine_fn turn_entry(void *opaque)
{
    Turn *t = opaque;

    g_assert_true(vm_job_mutex_lock(t->m, NULL, t->name, NULL));
    g_string_append(t->order, t->name);
    co_sleep_ns(1000);
    vm_job_mutex_unlock(t->m);
    t->done = true;
}

static void test_mutex_fair(void)
{
    VmJobMutex *m = vm_job_mutex_new();
    GString *order = g_string_new(NULL);
    Turn turns[5];

    for (int i = 0; i < 5; i++) {
        turns[i] = (Turn){.m = m, .order = order, .name = {'0' + i}};
        aio_co_enter(main_aio_context(), coroutine_create(turn_entry, &turns[i]));
    }
    POLL_UNTIL(turns[4].done);
    g_assert_cmpstr(order->str, ==, "01234");
    g_string_free(order, true);
    vm_job_mutex_free(m);
}

static void coroutine_fn soon_entry(void *opaque)
{
    Turn *t = opaque;
    GError *err = NULL;

    g_assert_false(vm_job_mutex_lock_soon(t->m, NULL, t->name, &err));
    g_string_append(t->order, err->message);
    g_error_free(err);
    t->done = true;
}

/* A command waits behind jobs that end by themselves, not behind one that depends on a peer. */
static void test_mutex_soon(void)
{
    static const JobDriver open_ended = {.type = JOB_TYPE_MIGRATE, .run = work_run,
                                         .cancel = work_cancel, .free = work_free,
                                         .open_ended = true};
    VmJobMutex *m = vm_job_mutex_new();
    Work a = WORK(.hold = true, .mutex = m, .owner = "save"), b = a;
    Turn t = {.m = m, .order = g_string_new(NULL), .name = "x"};

    b.owner = "migrate";
    job_start_waiting(create("a", &a, NULL, JOB_DEFAULT));
    POLL_UNTIL(is_held(&a));
    g_assert_true(vm_job_mutex_check_soon(m, "x", NULL));
    job_start_waiting(job_create("b", &open_ended, main_aio_context(), JOB_DEFAULT, &b, NULL));
    POLL_UNTIL(b.ran);
    aio_co_enter(main_aio_context(), coroutine_create(soon_entry, &t));
    g_assert_true(t.done); /* it would be behind b, which waits itself */
    let_go(&a);
    POLL_UNTIL(is_held(&b));
    aio_co_enter(main_aio_context(), coroutine_create(soon_entry, &t));
    g_assert_cmpstr(t.order->str, ==, "x not allowed while migrate is under way"
                                      "x not allowed while migrate is under way");
    let_go(&b);
    POLL_UNTIL(b.freed);
    g_assert_true(vm_job_mutex_check_soon(m, "x", NULL));
    g_string_free(t.order, true);
    vm_job_mutex_free(m);
}

/* --- In IOThreads ---------------------------------------------------------------------------- */

static void test_iothread(void)
{
    IOThread *io = iothread_new("job-test", NULL);
    Work w = WORK(.n = 100, .hold = true);

    start_record();
    Job *job = job_ref(create("j0", &w, iothread_context(io), JOB_DEFAULT));
    job_start(job);
    POLL_UNTIL(is_held(&w));
    pthread_mutex_lock(&w.lock);
    g_assert_true(w.ctx == iothread_context(io));
    pthread_mutex_unlock(&w.lock);
    g_assert_true(job_pause_by_id("j0", NULL));
    let_go(&w);
    POLL_UNTIL(job_status(job) == JOB_STATUS_PAUSED);
    g_assert_true(job_resume_by_id("j0", NULL));
    POLL_UNTIL(job_status(job) == JOB_STATUS_NULL);
    job_unref(job);
    POLL_UNTIL(w.freed);
    check_record("j0:created j0:running j0:paused j0:running j0:waiting j0:pending "
                 "j0:concluded j0:null ");
    iothread_destroy(io);
}

/* Jobs of two threads fight for the mutex; each is cancelled at some moment of its life. */
static void test_stress(void)
{
    enum { JOBS = 8, ROUNDS = 40 };
    IOThread *io[2] = {iothread_new("job-test0", NULL), iothread_new("job-test1", NULL)};
    VmJobMutex *m = vm_job_mutex_new();

    qapi_set_event_sink(NULL);
    for (int round = 0; round < ROUNDS; round++) {
        Work works[JOBS];
        for (int i = 0; i < JOBS; i++) {
            g_autofree char *id = g_strdup_printf("j%d", i);
            works[i] = (Work)WORK(.n = 3, .mutex = m, .owner = "stress");
            job_start_waiting(create(id, &works[i], iothread_context(io[i % 2]), JOB_DEFAULT));
        }
        for (int i = 0; i < JOBS; i++) {
            g_autofree char *id = g_strdup_printf("j%d", (i * 5 + round) % JOBS);
            if ((i + round) % 3 == 0) {
                job_pause_by_id(id, NULL);
            }
            for (int k = 0; k < round % 7; k++) {
                aio_poll(main_aio_context(), false);
            }
            if ((i + round) % 2 == 0) {
                job_cancel_by_id(id, true, NULL);
            }
            qapi_free_JobInfoList(job_query_all());
        }
        for (int i = 0; i < JOBS; i++) {
            g_autofree char *id = g_strdup_printf("j%d", i);
            job_resume_by_id(id, NULL);
            POLL_UNTIL(works[i].freed);
        }
    }
    g_assert_null(job_query_all());
    g_assert_null(vm_job_mutex_owner(m));
    vm_job_mutex_free(m);
    iothread_destroy(io[0]);
    iothread_destroy(io[1]);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    main_aio_context_init();
    g_test_add_func("/job/mutex/jobs", test_mutex);
    g_test_add_func("/job/mutex/fair", test_mutex_fair);
    g_test_add_func("/job/mutex/soon", test_mutex_soon);
    g_test_add_func("/job/iothread", test_iothread);
    g_test_add_func("/job/stress", test_stress);
    int ret = g_test_run();
    if (record) {
        g_string_free(record, true);
    }
    return ret;
}
