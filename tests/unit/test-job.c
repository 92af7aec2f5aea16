/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Jobs: the state machine as a table and in life, events in QEMU's order, every request in
 * every state, speed.
 */
#include "job-test.h"

/* --- The tables ------------------------------------------------------------------------- */

/* Rows: from; columns: to; both in the order of JobStatus. */
static const char *const moves[JOB_STATUS__MAX] = {
    /*             U C R P Y S W D X E N */
    /* undefined */ ".x.........",
    /* created */ "..x.....x..",
    /* running */ "...xx.x.x..",
    /* paused */ "..x........",
    /* ready */ ".....xx.x..",
    /* standby */ "....x......",
    /* waiting */ ".......xx..",
    /* pending */ "........xx.",
    /* aborting */ ".........x.",
    /* concluded */ "..........x",
    /* null */ "...........",
};

/* Rows: verb, in the order of JobVerb; columns: status. */
static const char *const accepts[JOB_VERB__MAX] = {
    /*            U C R P Y S W D X E N */
    /* cancel */ ".xxxxxxx...",
    /* pause */ ".xxxxx.....",
    /* resume */ ".xxxxx.....",
    /* set-speed */ ".xxxxx.....",
    /* complete */ "....x......",
    /* dismiss */ ".........x.",
    /* finalize */ ".......x...",
    /* change */ ".xxxxx.....",
};

static void test_tables(void)
{
    for (int from = 0; from < JOB_STATUS__MAX; from++) {
        for (int to = 0; to < JOB_STATUS__MAX; to++) {
            g_assert_cmpint(job_transition_allowed(from, to), ==, moves[from][to] == 'x');
        }
        for (int verb = 0; verb < JOB_VERB__MAX; verb++) {
            g_assert_cmpint(job_verb_allowed(from, verb), ==, accepts[verb][from] == 'x');
        }
    }
}

/* Every request that job j0 must refuse in its present state is refused in QEMU's words. */
static void check_verbs(void)
{
    g_autoptr(JobInfoList) list = job_query_all();
    const char *status = JobStatus_str(list->value->status);
    static const struct {
        JobVerb verb;
        bool (*request)(const char *id, GError **errp);
    } requests[] = {
        {JOB_VERB_PAUSE, job_pause_by_id},       {JOB_VERB_COMPLETE, job_complete_by_id},
        {JOB_VERB_FINALIZE, job_finalize_by_id}, {JOB_VERB_DISMISS, job_dismiss_by_id},
    };
    GError *err = NULL;

    g_assert_cmpstr(list->value->id, ==, "j0");
    for (size_t i = 0; i < G_N_ELEMENTS(requests); i++) {
        if (!job_verb_allowed(list->value->status, requests[i].verb)) {
            g_autofree char *text =
                g_strdup_printf("Job 'j0' in state '%s' cannot accept command verb '%s'", status,
                                JobVerb_str(requests[i].verb));
            check_fails(requests[i].request("j0", &err), &err, text);
        }
    }
    if (!job_verb_allowed(list->value->status, JOB_VERB_CANCEL)) {
        g_autofree char *text = g_strdup_printf(
            "Job 'j0' in state '%s' cannot accept command verb 'cancel'", status);
        check_fails(job_cancel_by_id("j0", true, &err), &err, text);
    }
    if (list->value->status != JOB_STATUS_PAUSED) {
        check_fails(job_resume_by_id("j0", &err), &err,
                    "Can't resume a job that was not paused");
    }
}

/* --- Lives -------------------------------------------------------------------------------- */

static void test_success(void)
{
    Work w = WORK(.n = 3);

    start_record();
    Job *job = create("j0", &w, NULL, JOB_DEFAULT);
    check_record("j0:created ");
    g_assert_cmpstr(job_id(job), ==, "j0");
    job_start(job);
    check_record("j0:created j0:running ");
    g_assert_cmpint(w.ran, ==, 0); /* the command's reply comes first */
    POLL_UNTIL(w.freed);
    check_record("j0:created j0:running j0:waiting j0:pending j0:concluded j0:null ");
    g_assert_cmpint(w.settled, ==, 1);
    g_assert_null(job_query_all());
}

static void test_failure(void)
{
    Work w = WORK(.fail = "No space left");

    start_record();
    job_start(create("j0", &w, NULL, JOB_MANUAL_DISMISS));
    POLL_UNTIL(strstr(record->str, "concluded"));
    check_record("j0:created j0:running j0:aborting j0:concluded ");
    g_autoptr(JobInfoList) list = job_query_all();
    g_assert_cmpstr(list->value->error, ==, "No space left");
    g_assert_cmpint(list->value->type, ==, JOB_TYPE_SNAPSHOT_SAVE);
    g_assert_true(job_dismiss_by_id("j0", NULL));
    g_assert_true(w.freed);
    g_assert_cmpint(w.settled, ==, 0);
}

static void test_ids(void)
{
    static const char *const bad[] = {"", "1j", "-a", "a b", "a/b", "a\xc3\xa9"};
    Work w = WORK();
    GError *err = NULL;

    qapi_set_event_sink(NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autofree char *text = g_strdup_printf("Invalid job ID '%s'", bad[i]);
        g_assert_null(job_create(bad[i], &driver, main_aio_context(), 0, &w, &err));
        check_fails(false, &err, text);
    }
    Job *job = create("a-b.c_1", &w, NULL, JOB_DEFAULT);
    g_assert_null(job_create("a-b.c_1", &driver, main_aio_context(), 0, &w, &err));
    check_fails(false, &err, "Job ID 'a-b.c_1' already in use");
    check_fails(job_cancel_by_id("x", true, &err), &err, "Job not found");
    check_fails(job_pause_by_id("x", &err), &err, "Job not found");
    check_fails(job_resume_by_id("x", &err), &err, "Job not found");
    check_fails(job_complete_by_id("x", &err), &err, "Job not found");
    check_fails(job_finalize_by_id("x", &err), &err, "Job not found");
    check_fails(job_dismiss_by_id("x", &err), &err, "Job not found");
    job_start(job);
    POLL_UNTIL(w.freed);
}

/* A job without a name is not seen. */
static void test_internal(void)
{
    Work w = WORK(.hold = true);

    start_record();
    job_start(create(NULL, &w, NULL, JOB_MANUAL_DISMISS));
    POLL_UNTIL(is_held(&w));
    g_assert_null(job_query_all());
    let_go(&w);
    POLL_UNTIL(w.freed);
    check_record("");
}

static void test_walk(void)
{
    Work w = WORK(.n = 2, .hold = true);
    GError *err = NULL;

    start_record();
    Job *job = create("j0", &w, NULL, JOB_MANUAL_FINALIZE | JOB_MANUAL_DISMISS);
    check_verbs(); /* created */
    job_start(job);
    POLL_UNTIL(is_held(&w));
    check_verbs(); /* running */
    g_autoptr(JobInfoList) list = job_query_all();
    g_assert_cmpint(list->value->current_progress, ==, 2);
    g_assert_cmpint(list->value->total_progress, ==, 100);

    g_assert_true(job_pause_by_id("j0", &err));
    check_fails(job_pause_by_id("j0", &err), &err, "Job is already paused");
    let_go(&w);
    POLL_UNTIL(job_status(job) == JOB_STATUS_PAUSED);
    check_verbs();
    check_fails(job_pause_by_id("j0", &err), &err, "Job is already paused");
    g_assert_true(job_resume_by_id("j0", &err));
    POLL_UNTIL(job_status(job) == JOB_STATUS_PENDING);
    check_verbs();
    g_assert_cmpint(w.settled, ==, 0);
    g_assert_true(job_finalize_by_id("j0", &err));
    g_assert_cmpint(w.settled, ==, 1);
    g_assert_cmpint(job_status(job), ==, JOB_STATUS_CONCLUDED);
    check_verbs();
    g_assert_false(w.freed);
    g_assert_true(job_dismiss_by_id("j0", &err));
    g_assert_true(w.freed);
    check_record("j0:created j0:running j0:paused j0:running j0:waiting j0:pending "
                 "j0:concluded j0:null ");
}

/* --- Cancel ---------------------------------------------------------------------------------- */

typedef struct WaitState {
    Job *job;
    GError *err;
    bool ok, done;
} WaitState;

static void coroutine_fn wait_entry(void *opaque)
{
    WaitState *ws = opaque;

    ws->ok = job_co_wait(ws->job, &ws->err);
    ws->done = true;
    job_unref(ws->job);
}

static void start_wait(WaitState *ws, Job *job)
{
    *ws = (WaitState){.job = job_ref(job)};
    aio_co_enter(main_aio_context(), coroutine_create(wait_entry, ws));
}

static void test_cancel_running(void)
{
    Work w = WORK(.hold = true);
    WaitState ws;

    start_record();
    Job *job = create("j0", &w, NULL, JOB_MANUAL_DISMISS);
    job_start(job);
    start_wait(&ws, job);
    POLL_UNTIL(is_held(&w));
    g_assert_false(ws.done);
    g_assert_true(job_cancel_by_id("j0", true, NULL));
    g_assert_true(job_cancel_by_id("j0", true, NULL)); /* asking again does no harm */
    POLL_UNTIL(ws.done);
    check_fails(ws.ok, &ws.err, "Job was cancelled");
    check_record("j0:created j0:running j0:aborting j0:concluded ");
    g_autoptr(JobInfoList) list = job_query_all();
    g_assert_cmpstr(list->value->error, ==, "Operation canceled");
    check_verbs();

    start_wait(&ws, job); /* after the end: returns at once */
    g_assert_true(ws.done);
    check_fails(ws.ok, &ws.err, "Job was cancelled");
    g_assert_true(job_dismiss_by_id("j0", NULL));
    g_assert_true(w.freed);
}

static void test_cancel_unstarted(void)
{
    Work w = WORK();

    start_record();
    Job *job = create("j0", &w, NULL, JOB_DEFAULT);
    job_cancel(job, true);
    job_start(job); /* too late, and harmless */
    POLL_UNTIL(w.freed);
    g_assert_cmpint(w.ran, ==, 0);
    check_record("j0:created j0:aborting j0:concluded j0:null ");
}

static void test_cancel_before_run(void)
{
    Work w = WORK();

    start_record();
    Job *job = create("j0", &w, NULL, JOB_DEFAULT);
    job_start(job);
    job_cancel(job, true);
    POLL_UNTIL(w.freed);
    g_assert_cmpint(w.ran, ==, 0);
    check_record("j0:created j0:running j0:aborting j0:concluded j0:null ");
}

static void test_cancel_paused(void)
{
    Work w = WORK(.n = 1);

    start_record();
    Job *job = create("j0", &w, NULL, JOB_DEFAULT);
    g_assert_true(job_pause_by_id("j0", NULL)); /* before the start */
    job_start(job);
    POLL_UNTIL(job_status(job) == JOB_STATUS_PAUSED);
    g_assert_cmpint(w.ran, ==, 0);
    g_assert_true(job_cancel_by_id("j0", true, NULL));
    POLL_UNTIL(w.freed);
    check_record("j0:created j0:running j0:paused j0:running j0:aborting j0:concluded j0:null ");
}

/* Cancelled when its work cannot be stopped any more: it succeeds. */
static void test_cancel_too_late(void)
{
    Work w = WORK(.hold = true, .ignore_cancel = true);
    WaitState ws;

    start_record();
    Job *job = create("j0", &w, NULL, JOB_DEFAULT);
    job_start(job);
    start_wait(&ws, job);
    POLL_UNTIL(is_held(&w));
    job_cancel(job, true);
    POLL_UNTIL(ws.done && w.freed);
    g_assert_true(ws.ok);
    g_assert_no_error(ws.err);
    check_record("j0:created j0:running j0:waiting j0:pending j0:concluded j0:null ");
}

static void test_cancel_pending(void)
{
    Work w = WORK();

    start_record();
    Job *job = create("j0", &w, NULL, JOB_MANUAL_FINALIZE | JOB_MANUAL_DISMISS);
    job_start(job);
    POLL_UNTIL(job_status(job) == JOB_STATUS_PENDING);
    g_assert_true(job_cancel_by_id("j0", true, NULL));
    g_assert_cmpint(w.settled, ==, -1);
    g_autoptr(JobInfoList) list = job_query_all();
    g_assert_cmpstr(list->value->error, ==, "Operation canceled");
    g_assert_true(job_dismiss_by_id("j0", NULL));
    check_record("j0:created j0:running j0:waiting j0:pending j0:aborting j0:concluded "
                 "j0:null ");
}

/* --- QMP handlers ---------------------------------------------------------------------------- */

static void coroutine_fn qmp_entry(void *opaque)
{
    Work *w = opaque;
    GError *err = NULL;

    job_start(create("q0", w, NULL, JOB_MANUAL_FINALIZE | JOB_MANUAL_DISMISS));
    qmp_job_complete("q0", &err);
    check_fails(false, &err, "Job 'q0' in state 'running' cannot accept command verb 'complete'");
    qmp_job_pause("q0", &err);
    qmp_job_resume("q0", &err);
    g_assert_no_error(err);
    for (;;) {
        g_autoptr(JobInfoList) list = qmp_query_jobs(&err);
        if (list->value->status == JOB_STATUS_PENDING) {
            break;
        }
        co_sleep_ns(100000);
    }
    qmp_job_finalize("q0", &err);
    g_assert_no_error(err);
    qmp_job_cancel("q0", &err);
    check_fails(false, &err, "Job 'q0' in state 'concluded' cannot accept command verb 'cancel'");
    qmp_job_dismiss("q0", &err);
    g_assert_no_error(err);
    qmp_job_dismiss("q0", &err);
    check_fails(false, &err, "Job not found");
}

static void test_qmp(void)
{
    Work w = WORK(.n = 5);

    aio_co_run_sync(main_aio_context(), qmp_entry, &w);
    g_assert_true(w.freed);
}

/* --- Speed ------------------------------------------------------------------------------------ */

/* Time is the test's own. */
static void test_rate(void)
{
    const int64_t ms = 1000000;
    JobRate r = {0};

    job_rate_init(&r);
    job_rate_add(&r, UINT64_MAX, 0);
    g_assert_false(job_rate_exceeded(&r, 0)); /* no limit */
    job_rate_set(&r, 1000, 10 * ms);
    g_assert_false(job_rate_exceeded(&r, 10 * ms)); /* what was before does not count */
    job_rate_add(&r, 5, 10 * ms);
    g_assert_true(job_rate_exceeded(&r, 14 * ms));
    for (int i = 0; i < 1000; i++) {
        /* Looking often must not lose the time that pays for less than a byte. */
        g_assert_true(job_rate_exceeded(&r, 14 * ms + i * 900));
    }
    g_assert_false(job_rate_exceeded(&r, 15 * ms + 1000));
    job_rate_add(&r, 5, 1000 * ms); /* no credit for the pause */
    g_assert_true(job_rate_exceeded(&r, 1004 * ms));
    g_assert_false(job_rate_exceeded(&r, 1005 * ms));
    job_rate_set(&r, INT64_MAX, 2000 * ms);
    job_rate_add(&r, 1 << 20, INT64_MAX - 1);
    g_assert_true(job_rate_exceeded(&r, INT64_MAX - 1));
    g_assert_false(job_rate_exceeded(&r, INT64_MAX));
    job_rate_set(&r, 1, 0);
    job_rate_add(&r, 1 << 20, 0);
    g_assert_true(job_rate_exceeded(&r, 1000 * ms));
    job_rate_set(&r, 0, 1000 * ms);
    g_assert_false(job_rate_exceeded(&r, 1000 * ms));
    job_rate_destroy(&r);
}

static void coroutine_fn speed_entry(void *opaque)
{
    Job *job = opaque;
    GError *err = NULL;

    qmp_block_job_set_speed("none", 1, &err);
    g_assert_cmpint(error_get_class(err), ==, QAPI_ERROR_DEVICE_NOT_ACTIVE);
    g_assert_cmpstr(err->message, ==, "Block job 'none' not found");
    g_clear_error(&err);
    qmp_block_job_set_speed("plain", 1, &err);
    g_assert_cmpint(error_get_class(err), ==, QAPI_ERROR_GENERIC);
    g_clear_error(&err);
    qmp_block_job_set_speed("fast", -1, &err);
    g_assert_cmpstr(err->message, ==, "Parameter 'speed' expects a non-negative value");
    g_clear_error(&err);
    job_moved(job, 1 << 20);
    g_assert_false(job_too_fast(job));
    qmp_block_job_set_speed("fast", 1, &err);
    g_assert_no_error(err);
    g_assert_false(job_too_fast(job));
    job_moved(job, 1 << 20);
    g_assert_true(job_too_fast(job));
    qmp_block_job_set_speed("fast", 0, &err);
    g_assert_no_error(err);
    g_assert_false(job_too_fast(job));
}

static void test_speed(void)
{
    Work plain = WORK(), fast = WORK();
    JobDriver with_speed = driver;

    with_speed.has_speed = true;
    job_start(create("plain", &plain, NULL, JOB_MANUAL_DISMISS));
    Job *job = job_create("fast", &with_speed, main_aio_context(), JOB_DEFAULT, &fast, NULL);
    aio_co_run_sync(main_aio_context(), speed_entry, job);
    job_start(job);
    POLL_UNTIL(fast.freed);
    POLL_UNTIL(job_dismiss_by_id("plain", NULL));
}

/* --- Block jobs ------------------------------------------------------------------------------- */

static GString *said;

/* What is told of block jobs alone. */
static void block_sink(unsigned event, json_object *msg)
{
    const char *name = json_object_get_string(json_object_object_get(msg, "event"));

    if (g_str_has_prefix(name, "BLOCK_JOB_")) {
        g_string_append_printf(said, "%s %s;", name,
                               json_object_to_json_string_ext(json_object_object_get(msg, "data"),
                                                              JSON_C_TO_STRING_PLAIN));
    }
    json_object_put(msg);
}

static void check_said(const char *want)
{
    g_assert_cmpstr(said->str, ==, want);
    g_string_truncate(said, 0);
}

static void coroutine_fn block_jobs_entry(void *opaque)
{
    g_autoptr(BlockJobInfoList) list = qmp_query_block_jobs(NULL);
    const BlockJobInfo *info = list->value;
    GError *err = NULL;

    g_assert_null(list->next); /* the other one is none */
    g_assert_cmpstr(info->device, ==, "b");
    g_assert_cmpint(info->type, ==, JOB_TYPE_BACKUP);
    g_assert_true(info->busy && !info->paused && !info->ready && !info->auto_finalize &&
                  !info->auto_dismiss && !info->error);
    g_assert_cmpint(info->len, ==, 100);
    g_assert_cmpint(info->offset, ==, 1);
    qmp_block_job_pause("none", &err);
    g_assert_cmpint(error_get_class(err), ==, QAPI_ERROR_DEVICE_NOT_ACTIVE);
    check_fails(false, &err, "Block job 'none' not found");
    qmp_block_job_pause("b", &err);
    g_assert_no_error(err);
    qmp_block_job_pause("b", &err);
    check_fails(false, &err, "Job is already paused");
    qmp_block_job_cancel("b", false, false, &err);
    check_fails(false, &err, "The block job for device 'b' is currently paused");
    qmp_block_job_finalize("b", &err);
    check_fails(false, &err, "Job 'b' in state 'running' cannot accept command verb 'finalize'");
    qmp_block_job_resume("b", &err);
    g_assert_no_error(err);
}

static void coroutine_fn finalize_entry(void *opaque)
{
    GError *err = NULL;

    qmp_block_job_finalize("b", &err);
    g_assert_no_error(err);
    qmp_block_job_dismiss("b", &err);
    g_assert_no_error(err);
    g_assert_null(qmp_query_block_jobs(NULL));
}

static Job *create_block_job(Work *w, int flags)
{
    static JobDriver backup;

    backup = driver;
    backup.type = JOB_TYPE_BACKUP;
    return job_create("b", &backup, main_aio_context(), flags, w, NULL);
}

static void test_block_jobs(void)
{
    Work w = WORK(.n = 1, .hold = true), other = WORK(.hold = true), fails = WORK(.fail = "broken"),
         given_up = WORK(.hold = true), never = WORK();

    said = g_string_new(NULL);
    qapi_set_event_sink(block_sink);
    job_start(create("other", &other, NULL, JOB_DEFAULT));
    job_start(create_block_job(&w, JOB_MANUAL_FINALIZE | JOB_MANUAL_DISMISS));
    POLL_UNTIL(is_held(&w) && is_held(&other));
    aio_co_run_sync(main_aio_context(), block_jobs_entry, NULL);
    let_go(&other);
    POLL_UNTIL(other.freed);
    check_said("");
    let_go(&w);
    POLL_UNTIL(said->len);
    check_said("BLOCK_JOB_PENDING {\"type\":\"backup\",\"id\":\"b\"};");
    aio_co_run_sync(main_aio_context(), finalize_entry, NULL);
    check_said("BLOCK_JOB_COMPLETED {\"type\":\"backup\",\"device\":\"b\",\"len\":100,"
               "\"offset\":1,\"speed\":0};");
    job_start(create_block_job(&fails, JOB_DEFAULT));
    POLL_UNTIL(fails.freed);
    check_said("BLOCK_JOB_COMPLETED {\"type\":\"backup\",\"device\":\"b\",\"len\":100,"
               "\"offset\":0,\"speed\":0,\"error\":\"broken\"};");
    job_start(create_block_job(&given_up, JOB_DEFAULT));
    POLL_UNTIL(is_held(&given_up));
    job_cancel_by_id("b", false, NULL);
    POLL_UNTIL(given_up.freed);
    check_said("BLOCK_JOB_CANCELLED {\"type\":\"backup\",\"device\":\"b\",\"len\":100,"
               "\"offset\":0,\"speed\":0};");
    create_block_job(&never, JOB_DEFAULT);
    job_cancel_by_id("b", false, NULL); /* before it was started */
    POLL_UNTIL(never.freed);
    check_said("");
    qapi_set_event_sink(NULL);
    g_string_free(said, true);
}

/* --- The end of the program ------------------------------------------------------------------ */

static void coroutine_fn cancel_all_entry(void *opaque)
{
    job_co_cancel_all();
}

static void test_cancel_all(void)
{
    IOThread *io = iothread_new("job-test", NULL);
    VmJobMutex *m = vm_job_mutex_new();
    Work unstarted = WORK(), held = WORK(.hold = true, .mutex = m, .owner = "held");
    Work waits = WORK(.mutex = m, .owner = "waits"), internal = WORK(.hold = true);
    Work pending = WORK(), late = WORK(.hold = true, .ignore_cancel = true);

    start_record();
    create("unstarted", &unstarted, NULL, JOB_DEFAULT);
    Job *job = create("pending", &pending, NULL, JOB_MANUAL_FINALIZE);
    job_start(job);
    job_start_waiting(create("held", &held, iothread_context(io), JOB_DEFAULT));
    job_start(create("late", &late, NULL, JOB_DEFAULT));
    POLL_UNTIL(is_held(&held) && is_held(&late) && job_status(job) == JOB_STATUS_PENDING);
    job_start_waiting(create("waits", &waits, iothread_context(io), JOB_DEFAULT));
    job_start(create(NULL, &internal, iothread_context(io), JOB_DEFAULT));
    POLL_UNTIL(is_held(&internal));

    aio_co_run_sync(main_aio_context(), cancel_all_entry, NULL);
    g_assert_null(job_query_all());
    g_assert_true(unstarted.freed && held.freed && waits.freed && internal.freed);
    g_assert_true(pending.freed && late.freed);
    g_assert_cmpint(pending.settled, ==, -1);
    g_assert_cmpint(late.settled, ==, 1);
    g_assert_cmpint(unstarted.ran, ==, 0);
    g_assert_null(vm_job_mutex_owner(m));
    vm_job_mutex_free(m);
    iothread_destroy(io);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    main_aio_context_init();
    g_test_add_func("/job/tables", test_tables);
    g_test_add_func("/job/success", test_success);
    g_test_add_func("/job/failure", test_failure);
    g_test_add_func("/job/ids", test_ids);
    g_test_add_func("/job/internal", test_internal);
    g_test_add_func("/job/walk", test_walk);
    g_test_add_func("/job/cancel/running", test_cancel_running);
    g_test_add_func("/job/cancel/unstarted", test_cancel_unstarted);
    g_test_add_func("/job/cancel/before-run", test_cancel_before_run);
    g_test_add_func("/job/cancel/paused", test_cancel_paused);
    g_test_add_func("/job/cancel/too-late", test_cancel_too_late);
    g_test_add_func("/job/cancel/pending", test_cancel_pending);
    g_test_add_func("/job/qmp", test_qmp);
    g_test_add_func("/job/rate", test_rate);
    g_test_add_func("/job/speed", test_speed);
    g_test_add_func("/job/block-jobs", test_block_jobs);
    g_test_add_func("/job/cancel/all", test_cancel_all);
    int ret = g_test_run();
    if (record) {
        g_string_free(record, true);
    }
    return ret;
}
