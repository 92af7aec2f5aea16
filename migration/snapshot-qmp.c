/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * snapshot-save, snapshot-load and snapshot-delete as QMP has them, and -loadvm.  Main
 * thread.  What can be known to be wrong before the job exists is the command's own error,
 * in the words that the job would use.
 */
#include <string.h>
#include "qapi/error.h"
#include "qapi/qapi-commands-migration.h"
#include "snapshot-int.h"

/* The nodes called devices: a new array without references; NULL and errp on failure. */
static BlockDriverState **find_nodes(strList *devices, int *n, GError **errp)
{
    g_autoptr(GPtrArray) nodes = g_ptr_array_new();

    for (strList *d = devices; d; d = d->next) {
        BlockDriverState *bs = bdrv_find_node(d->value, NULL);

        if (!bs) {
            error_setg(errp, "No block device node '%s'", d->value);
            return NULL;
        }
        g_ptr_array_add(nodes, bs);
    }
    *n = nodes->len;
    if (*n == 0) {
        error_setg(errp, "At least one device is required for snapshot");
        return NULL;
    }
    if (!snapshot_check_nodes((BlockDriverState **)nodes->pdata, *n, errp)) {
        return NULL;
    }
    return (BlockDriverState **)g_ptr_array_free(g_steal_pointer(&nodes), false);
}

static BlockDriverState *find_vmstate(BlockDriverState **nodes, int n, const char *name,
                                      GError **errp)
{
    for (int i = 0; i < n; i++) {
        if (strcmp(bdrv_node_name(nodes[i]), name) == 0) {
            return nodes[i];
        }
    }
    error_setg(errp, "vmstate block device '%s' does not exist", name);
    return NULL;
}

static bool check_machine(GError **errp)
{
    if (!machine_get()) {
        error_setg(errp, "There is no machine whose state could be saved or loaded");
        return false;
    }
    return true;
}

static bool check_tag(const char *tag, GError **errp)
{
    size_t max = sizeof(((BdrvSnapshotInfo *)0)->name) - 1;

    if (!tag[0] || strlen(tag) > max) {
        error_setg(errp, "Parameter 'tag' expects a name of 1 to %zu bytes", max);
        return false;
    }
    return true;
}

/*
 * While nodes' lists are looked at the main loop goes on: references keep the nodes.
 * sj owns them, so it is made first.
 */
static bool coroutine_fn check_tag_on(SnapshotJob *sj, bool wanted, GError **errp)
{
    g_autofree BlockDriverState **nodes = g_new(BlockDriverState *, sj->nr_nodes);
    int found;

    for (int i = 0; i < sj->nr_nodes; i++) {
        nodes[i] = sj->nodes[i].bs;
    }
    found = wanted ? snapshot_on_all_nodes(nodes, sj->nr_nodes, sj->tag, errp)
                   : snapshot_on_any_node(nodes, sj->nr_nodes, sj->tag, errp);
    if (found < 0) {
        return false;
    }
    if (found != wanted) {
        error_setg(errp,
                   wanted ? "Snapshot '%s' does not exist in one or more devices"
                          : "Snapshot '%s' already exists in one or more devices",
                   sj->tag);
        return false;
    }
    return true;
}

static void start_named(SnapshotJob *sj, const char *id, GError **errp)
{
    Job *job = snapshot_job_start(sj, id, JOB_MANUAL_DISMISS, errp);

    if (job) {
        job_unref(job);
    }
}

static SnapshotJob *new_job(JobType type, const char *tag, const char *vmstate,
                            strList *devices, GError **errp)
{
    g_autofree BlockDriverState **nodes = NULL;
    BlockDriverState *vmstate_bs = NULL;
    int n;

    if (!check_machine(errp) || (type == JOB_TYPE_SNAPSHOT_SAVE && !check_tag(tag, errp))) {
        return NULL;
    }
    nodes = find_nodes(devices, &n, errp);
    if (!nodes) {
        return NULL;
    }
    if (vmstate) {
        vmstate_bs = find_vmstate(nodes, n, vmstate, errp);
        if (!vmstate_bs) {
            return NULL;
        }
    }
    return snapshot_job_new(type, tag, nodes, n, vmstate_bs);
}

SnapshotJob *coroutine_fn snapshot_save_new(const SnapshotSave *arg, GError **errp)
{
    SnapshotJob *sj;
    const char *blocker;

    if (arg->has_bounce_limit &&
        (arg->bounce_limit < 4096 || arg->bounce_limit > (64ULL << 30))) {
        error_setg(errp, "Parameter 'bounce-limit' expects 4096 bytes to 64 GiB");
        return NULL;
    }
    sj = new_job(JOB_TYPE_SNAPSHOT_SAVE, arg->tag, arg->vmstate, arg->devices, errp);
    if (!sj) {
        return NULL;
    }
    if (arg->has_mode) {
        sj->mode = arg->mode;
    }
    sj->compress = arg->has_compress && arg->compress;
    if (arg->has_bounce_limit) {
        sj->bounce_limit = arg->bounce_limit;
    }
    blocker = vmstate_blocker(sj->machine->vmstate);
    if (blocker) {
        error_setg(errp, "State blocked: %s", blocker);
        snapshot_job_free(sj);
        return NULL;
    }
    if (!check_tag_on(sj, false, errp)) {
        snapshot_job_free(sj);
        return NULL;
    }
    return sj;
}

void coroutine_fn qmp_snapshot_save(const char *job_id, const char *tag, const char *vmstate,
                                    strList *devices, bool has_mode, SnapshotMode mode,
                                    bool has_compress, bool compress, bool has_bounce_limit,
                                    uint64_t bounce_limit, GError **errp)
{
    SnapshotSave arg = {
        .tag = (char *)tag,
        .vmstate = (char *)vmstate,
        .devices = devices,
        .has_mode = has_mode,
        .mode = mode,
        .has_compress = has_compress,
        .compress = compress,
        .has_bounce_limit = has_bounce_limit,
        .bounce_limit = bounce_limit,
    };
    SnapshotJob *sj = snapshot_save_new(&arg, errp);

    if (sj) {
        start_named(sj, job_id, errp);
    }
}

void coroutine_fn qmp_snapshot_load(const char *job_id, const char *tag, const char *vmstate,
                                    strList *devices, bool has_lazy, bool lazy, GError **errp)
{
    SnapshotJob *sj = new_job(JOB_TYPE_SNAPSHOT_LOAD, tag, vmstate, devices, errp);

    if (!sj) {
        return;
    }
    if (has_lazy) {
        sj->lazy = lazy;
    }
    if (!check_tag_on(sj, true, errp)) {
        snapshot_job_free(sj);
        return;
    }
    start_named(sj, job_id, errp);
}

void coroutine_fn qmp_snapshot_delete(const char *job_id, const char *tag, strList *devices,
                                      GError **errp)
{
    SnapshotJob *sj = new_job(JOB_TYPE_SNAPSHOT_DELETE, tag, NULL, devices, errp);

    if (sj) {
        start_named(sj, job_id, errp);
    }
}

/* Finds the snapshot on each disk or, where that is an overlay, below it. */
static bool coroutine_fn find_holders(SnapshotJob *sj, GError **errp)
{
    for (int i = 0; i < sj->nr_nodes; i++) {
        SnapshotNode *n = &sj->nodes[i];
        GError *err = NULL;
        BlockDriverState *holder = snapshot_find_holder(n->bs, sj->tag, &n->info, &err);

        if (!holder) {
            if (!err) {
                error_setg(&err, "Snapshot '%s' does not exist in one or more devices", sj->tag);
            }
            g_propagate_error(errp, err);
            return false;
        }
        if (holder != n->bs) {
            n->overlay = n->bs;
            n->bs = bdrv_ref(holder);
        }
    }
    return true;
}

/* The node with the machine's state becomes the last, wherever it was stored. */
static void put_vmstate_last(SnapshotJob *sj)
{
    SnapshotNode *last = snapshot_vmstate_node(sj);

    for (int i = 0; i < sj->nr_nodes && last->info.vm_state_size == 0; i++) {
        if (sj->nodes[i].info.vm_state_size) {
            SnapshotNode n = sj->nodes[i];

            sj->nodes[i] = *last;
            *last = n;
        }
    }
}

bool coroutine_fn snapshot_whole_machine(JobType type, const char *tag, SnapshotJob **result,
                                         GError **errp)
{
    g_autofree BlockDriverState **nodes = NULL;
    int n;

    if (!check_machine(errp) || !check_tag(tag, errp)) {
        return false;
    }
    nodes = snapshot_all_nodes(&n);
    if (!snapshot_check_nodes(nodes, n, errp)) {
        return false;
    }
    if (n == 0) {
        error_setg(errp, "no block device can store vmstate for snapshot");
        return false;
    }
    *result = snapshot_job_new(type, tag, nodes, n,
                               type == JOB_TYPE_SNAPSHOT_DELETE ? NULL
                                                                : snapshot_vmstate_choice(nodes, n));
    if (type == JOB_TYPE_SNAPSHOT_LOAD && !find_holders(*result, errp)) {
        snapshot_job_free(*result);
        *result = NULL;
        return false;
    }
    if (type == JOB_TYPE_SNAPSHOT_LOAD) {
        put_vmstate_last(*result);
    }
    return true;
}

/* -loadvm: the guest need not wait for the end of the job. */
typedef struct Startup {
    Job *job;
    CoSleep sleep; /* woken when the machine is loaded, and at the job's end */
    bool ended, ok;
    GError *err;
    int users;
} Startup;

static void startup_unref(Startup *s)
{
    if (--s->users == 0) {
        g_clear_error(&s->err);
        job_unref(s->job);
        g_free(s);
    }
}

static void coroutine_fn startup_entry(void *opaque)
{
    Startup *s = opaque;

    s->ok = job_co_wait(s->job, &s->err);
    s->ended = true;
    co_sleep_wake(&s->sleep);
    startup_unref(s);
}

bool coroutine_fn machine_co_loadvm(const char *tag, GError **errp)
{
    SnapshotJob *sj;
    Startup *s;
    bool ok;

    if (!snapshot_whole_machine(JOB_TYPE_SNAPSHOT_LOAD, tag, &sj, errp)) {
        return false;
    }
    s = g_new0(Startup, 1);
    s->users = 2;
    sj->released = &s->sleep;
    sj->at_start = true;
    s->job = snapshot_job_start(sj, NULL, JOB_DEFAULT, errp);
    if (!s->job) {
        g_free(s);
        return false;
    }
    coroutine_enter(coroutine_create(startup_entry, s));
    while (!co_sleep_ns_wakeable(&s->sleep, INT64_MAX)) {
        continue;
    }
    ok = !s->ended || s->ok;
    if (!ok) {
        g_propagate_error(errp, g_steal_pointer(&s->err));
    }
    startup_unref(s);
    return ok;
}
