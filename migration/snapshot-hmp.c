/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * savevm, loadvm, delvm and info snapshots: thin clients of the jobs, on all disks that
 * QEMU would choose.  They wait for the job, so only their own session is held up, or
 * start it and return (-d).  Main thread.
 */
#include <string.h>
#include "block/qapi-format.h"
#include "migration/snapshot-hmp.h"
#include "qapi/error.h"
#include "snapshot-int.h"

/* What was done in another way than it should be, a new string; or NULL. */
static char *warning_of(SnapshotJob *sj)
{
    char *warning;

    pthread_mutex_lock(&sj->stats_lock);
    warning = g_strdup(sj->stats.warning);
    pthread_mutex_unlock(&sj->stats_lock);
    return warning;
}

static void coroutine_fn print_warning(HMPSession *s, SnapshotJob *sj)
{
    g_autofree char *warning = warning_of(sj);

    if (warning) {
        hmp_printf(s, "warning: %s\n", warning);
    }
}

/* "savevm0: 'one' of drive0, drive1, machine state in drive0" */
static char *choice(const SnapshotJob *sj, const char *id)
{
    g_autoptr(GString) nodes = g_string_new("");

    for (int i = 0; i < sj->nr_nodes; i++) {
        g_string_append_printf(nodes, "%s%s", i ? ", " : "",
                               snapshot_node_label(sj->nodes[i].bs));
    }
    return g_strdup_printf("%s: '%s' of %s, machine state in %s", id, sj->tag, nodes->str,
                           snapshot_node_label(sj->nodes[sj->nr_nodes - 1].bs));
}

/* Ctrl-C. */
static void give_up(void *opaque)
{
    job_cancel(opaque, true);
}

/* A job that goes on behind the user's back, who is to hear how it ended. */
typedef struct Detached {
    HMPOutlet *outlet;
    Job *job; /* keeps sj */
    SnapshotJob *sj;
    char *id;
} Detached;

static void coroutine_fn tell_the_end(void *opaque)
{
    Detached *d = opaque;
    g_autofree char *text = NULL, *warning = NULL;
    GError *err = NULL;

    if (!job_co_wait(d->job, &err)) {
        text = g_strdup_printf("%s: Error: %s\n", d->id, err->message);
        g_error_free(err);
    } else if ((warning = warning_of(d->sj))) {
        text = g_strdup_printf("%s: warning: %s\n", d->id, warning);
    }
    if (text) {
        hmp_outlet_print(d->outlet, text);
    }
    hmp_outlet_free(d->outlet);
    job_unref(d->job);
    g_free(d->id);
    g_free(d);
}

static void watch(HMPSession *s, Job *job, SnapshotJob *sj, const char *id)
{
    Detached *d = g_new0(Detached, 1);

    *d = (Detached){hmp_outlet_new(s), job_ref(job), sj, g_strdup(id)};
    aio_co_schedule(main_aio_context(), coroutine_create(tell_the_end, d));
}

/*
 * Starts sj; waits for its end unless it is detached, and then says what will be done and
 * shows in 'info jobs'.
 */
static void coroutine_fn run_job(HMPSession *s, SnapshotJob *sj, const char *verb, bool detach)
{
    static unsigned counter;
    g_autofree char *id = detach ? g_strdup_printf("%s%u", verb, counter++) : NULL;
    g_autofree char *chosen = detach ? choice(sj, id) : NULL;
    GError *err = NULL;
    Job *job = snapshot_job_start(sj, id, JOB_DEFAULT, &err);

    if (job) {
        if (detach) {
            hmp_printf(s, "%s\n", chosen);
            if (hmp_is_interactive(s)) {
                watch(s, job, sj, id);
            }
        } else {
            hmp_set_interrupt(s, give_up, job);
            if (job_co_wait(job, &err)) {
                print_warning(s, sj); /* our reference keeps it */
            }
            hmp_set_interrupt(s, NULL, NULL);
        }
        job_unref(job);
    }
    if (err) {
        hmp_handle_error(s, err);
    }
}

static char *generated_tag(void)
{
    g_autoptr(GDateTime) now = g_date_time_new_now_local();

    return g_date_time_format(now, "vm-%Y%m%d%H%M%S");
}

static void coroutine_fn hmp_savevm(HMPSession *s, const HMPArgs *args)
{
    g_autofree char *tag = g_strdup(hmp_arg_str(args, "name")), *left_out = NULL;
    SnapshotJob *sj;
    GError *err = NULL;

    if (!tag) {
        tag = generated_tag();
    }
    if (!snapshot_whole_machine(JOB_TYPE_SNAPSHOT_SAVE, tag, &sj, &err)) {
        hmp_handle_error(s, err);
        return;
    }
    sj->replace = true;
    left_out = snapshot_left_out();
    if (left_out) {
        hmp_printf(s, "The snapshot does not include %s, which has no snapshots\n", left_out);
    }
    run_job(s, sj, "savevm", hmp_arg_flag(args, "detach"));
}

static void coroutine_fn hmp_loadvm(HMPSession *s, const HMPArgs *args)
{
    SnapshotJob *sj;
    GError *err = NULL;

    if (!snapshot_whole_machine(JOB_TYPE_SNAPSHOT_LOAD, hmp_arg_str(args, "name"), &sj, &err)) {
        hmp_handle_error(s, err);
        return;
    }
    run_job(s, sj, "loadvm", hmp_arg_flag(args, "detach"));
}

static void coroutine_fn hmp_delvm(HMPSession *s, const HMPArgs *args)
{
    SnapshotJob *sj;
    GError *err = NULL;

    if (!snapshot_whole_machine(JOB_TYPE_SNAPSHOT_DELETE, hmp_arg_str(args, "name"), &sj,
                                &err)) {
        hmp_handle_error(s, err);
        return;
    }
    run_job(s, sj, "delvm", false);
}

/* Tags of the first disk that has snapshots, in which loadvm looks for the machine's state. */
static void coroutine_fn complete_tag(HMPCompletion *c, int nr)
{
    int n, n_nodes;
    g_autofree BlockDriverState **nodes = snapshot_all_nodes(&n_nodes);
    BlockDriverState *bs = NULL;
    BdrvSnapshotInfo *list;

    for (int i = 0; i < n_nodes && !bs; i++) {
        bs = bdrv_can_snapshot(nodes[i]) ? bdrv_ref(nodes[i]) : NULL;
    }
    if (nr != 0 || !bs) {
        bdrv_co_unref(bs);
        return;
    }
    list = snapshot_list_of(bs, &n, NULL);
    for (int i = 0; list && i < n; i++) {
        hmp_complete_add(c, list[i].name);
    }
    g_free(list);
    bdrv_co_unref(bs);
}

/* --- info snapshots ----------------------------------------------------------------------- */

typedef struct NodeList {
    BlockDriverState *bs;
    BdrvSnapshotInfo *list;
    int n;
} NodeList;

static bool has_name(const NodeList *l, const char *name)
{
    for (int i = 0; i < l->n; i++) {
        if (strcmp(l->list[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

static bool on_all(const NodeList *lists, int n, const char *name)
{
    for (int i = 0; i < n; i++) {
        if (!has_name(&lists[i], name)) {
            return false;
        }
    }
    return true;
}

/* The machine's state may be on any of the disks. */
static uint64_t state_size(const NodeList *lists, int n, const char *name)
{
    uint64_t size = 0;

    for (int i = 0; i < n; i++) {
        for (int k = 0; k < lists[i].n; k++) {
            if (strcmp(lists[i].list[k].name, name) == 0) {
                size = MAX(size, lists[i].list[k].vm_state_size);
            }
        }
    }
    return size;
}

/* The rows of l that are (or are not) on all disks; returns their number. */
static int append_rows(GString *out, const NodeList *l, const NodeList *lists, int n, bool all)
{
    int rows = 0;

    for (int i = 0; i < l->n; i++) {
        BdrvSnapshotInfo row = l->list[i];
        SnapshotInfo *info;

        if (on_all(lists, n, row.name) != all) {
            continue;
        }
        if (rows++ == 0) {
            bdrv_format_snapshot_header(out);
        }
        if (all) {
            /* The numbers may differ from disk to disk. */
            strcpy(row.id, "--");
            row.vm_state_size = state_size(lists, n, row.name);
        }
        info = bdrv_snapshot_to_qapi(&row);
        bdrv_format_snapshot_row(out, info);
        qapi_free_SnapshotInfo(info);
    }
    return rows;
}

static void print_lists(GString *out, const NodeList *lists, int n)
{
    int total = 0;

    for (int i = 0; i < n; i++) {
        total += lists[i].n;
    }
    if (total == 0) {
        g_string_append(out, "There is no snapshot available.\n");
        return;
    }
    g_string_append(out, "List of snapshots present on all disks:\n");
    if (append_rows(out, &lists[0], lists, n, true) == 0) {
        g_string_append(out, "None\n");
    }
    for (int i = 0; i < n; i++) {
        g_autoptr(GString) rows = g_string_new("");

        if (append_rows(rows, &lists[i], lists, n, false)) {
            g_string_append_printf(
                out, "\nList of partial (non-loadable) snapshots on '%s':\n%s",
                snapshot_node_label(lists[i].bs), rows->str);
        }
    }
}

static void coroutine_fn hmp_info_snapshots(HMPSession *s, const HMPArgs *args)
{
    int n, able = 0;
    g_autofree BlockDriverState **nodes = snapshot_all_nodes(&n);
    g_autofree NodeList *lists = g_new0(NodeList, n);
    g_autoptr(GString) out = g_string_new("");
    GError *err = NULL;

    for (int i = 0; i < n; i++) {
        lists[i].bs = bdrv_ref(nodes[i]);
        able += bdrv_can_snapshot(nodes[i]);
    }
    /* A disk that cannot have snapshots has none: then no snapshot is on all disks. */
    for (int i = 0; i < n && !err; i++) {
        if (bdrv_can_snapshot(nodes[i])) {
            lists[i].list = snapshot_list_of(lists[i].bs, &lists[i].n, &err);
        }
    }
    if (err) {
        hmp_handle_error(s, err);
    } else if (able == 0) {
        hmp_printf(s, "no block device can store vmstate for snapshot\n");
    } else {
        print_lists(out, lists, n);
        hmp_printf(s, "%s", out->str);
    }
    for (int i = 0; i < n; i++) {
        g_free(lists[i].list);
        bdrv_co_unref(lists[i].bs);
    }
}

const HMPCommand migration_hmp_commands[] = {
    {
        .name = "savevm",
        .args_type = "detach:-d,name:s?",
        .params = "[-d] [tag]",
        .help = "save a VM snapshot. If no tag is provided, a new snapshot is created",
        .handler = hmp_savevm,
    },
    {
        .name = "loadvm",
        .args_type = "detach:-d,name:s",
        .params = "[-d] tag",
        .help = "restore a VM snapshot from its tag",
        .handler = hmp_loadvm,
        .complete = complete_tag,
    },
    {
        .name = "delvm",
        .args_type = "name:s",
        .params = "tag",
        .help = "delete a VM snapshot from its tag",
        .handler = hmp_delvm,
        .complete = complete_tag,
    },
    {
        .name = "info snapshots",
        .args_type = "",
        .params = "",
        .help = "show the currently saved VM snapshots",
        .handler = hmp_info_snapshots,
    },
    {NULL},
};
