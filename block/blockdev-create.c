/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * blockdev-create: a job that makes a file, or an image in a node, with what kf-img create makes
 * images with.  Main thread.
 */
#include "block/active.h"
#include "block/transaction.h"
#include "graph-int.h"
#include "job/job.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-block-create.h"
#include "qapi/qapi-visit-block-create.h"

static void G_GNUC_PRINTF(3, 4) set(GHashTable *options, const char *name, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    g_hash_table_insert(options, (gpointer)name, g_strdup_vprintf(format, ap));
    va_end(ap);
}

static void set_bool(GHashTable *options, const char *name, bool has, bool on)
{
    if (has) {
        set(options, name, "%s", on ? "on" : "off");
    }
}

static void set_preallocation(GHashTable *options, bool has, PreallocMode mode)
{
    if (has) {
        set(options, "preallocation", "%s", PreallocMode_str(mode));
    }
}

/* In the words of kf-img create -o. */
static void set_qcow2_options(GHashTable *options, const BlockdevCreateOptionsQcow2 *o)
{
    if (o->has_version) {
        set(options, "compat", "%s", BlockdevQcow2Version_str(o->version));
    }
    if (o->has_cluster_size) {
        set(options, "cluster_size", "%" G_GUINT64_FORMAT, o->cluster_size);
    }
    if (o->has_refcount_bits) {
        set(options, "refcount_bits", "%" G_GINT64_FORMAT, o->refcount_bits);
    }
    if (o->has_compression_type) {
        set(options, "compression_type", "%s", Qcow2CompressionType_str(o->compression_type));
    }
    set_bool(options, "lazy_refcounts", o->has_lazy_refcounts, o->lazy_refcounts);
    set_bool(options, "extended_l2", o->has_extended_l2, o->extended_l2);
    set_preallocation(options, o->has_preallocation, o->preallocation);
}

static bool check_size(uint64_t size, GError **errp)
{
    if (size > INT64_MAX) {
        error_setg(errp, "Image size is too large");
        return false;
    }
    return true;
}

static bool coroutine_fn create_file(const BlockdevCreateOptionsFile *o, GHashTable *options,
                                     GError **errp)
{
    BdrvCreateParams params = {.filename = o->filename, .size = o->size, .options = options};

    if (o->has_extent_size_hint) {
        set(options, "extent_size_hint", "%" G_GUINT64_FORMAT, o->extent_size_hint);
    }
    set_bool(options, "nocow", o->has_nocow, o->nocow);
    set_preallocation(options, o->has_preallocation, o->preallocation);
    return check_size(o->size, errp) &&
           bdrv_co_create(bdrv_driver_by_name("file"), &params, bdrv_default_context(), errp);
}

static bool check_qcow2(const BlockdevCreateOptionsQcow2 *o, GError **errp)
{
    if (o->size % 512) {
        error_setg(errp, "Image size must be a multiple of 512 bytes");
    } else if (o->has_backing_fmt && !o->backing_file) {
        error_setg(errp, "Backing format cannot be used without backing file");
    } else {
        return check_size(o->size, errp);
    }
    return false;
}

/* The node that becomes the image, with a reference. */
static BlockDriverState *coroutine_fn open_file(const BlockdevRef *ref, GError **errp)
{
    BlockDriverState *bs;

    if (ref->type != QTYPE_QSTRING) {
        return bdrv_co_open(&ref->u.definition, bdrv_default_context(), errp);
    }
    bs = bdrv_lookup(ref->u.reference, ref->u.reference, errp);
    return bs && bdrv_check_active(bs, errp) ? bdrv_ref(bs) : NULL;
}

static bool coroutine_fn create_qcow2(const BlockdevCreateOptionsQcow2 *o, GHashTable *options,
                                      GError **errp)
{
    BdrvCreateParams params = {.size = o->size, .options = options};
    bool ok;

    params.file = open_file(o->file, errp);
    if (!params.file) {
        return false;
    }
    params.backing_file = o->backing_file;
    params.backing_format = o->has_backing_fmt ? BlockdevDriver_str(o->backing_fmt) : NULL;
    set_qcow2_options(options, o);
    ok = check_qcow2(o, errp) && bdrv_co_create(bdrv_driver_by_name("qcow2"), &params,
                                                bdrv_context(params.file), errp);
    bdrv_co_unref(params.file);
    return ok;
}

static bool coroutine_fn create_run(Job *job, void *opaque, GError **errp)
{
    const BlockdevCreateOptions *o = opaque;
    g_autoptr(GHashTable) options = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, g_free);
    GError *err = NULL;

    job_progress_set_total(job, 1);
    if (o->driver == BLOCKDEV_DRIVER_FILE) {
        job_enter_running(job);
        create_file(&o->u.file, options, &err);
    } else if (vm_job_mutex_lock(bdrv_job_mutex(), job, "blockdev-create", errp)) {
        /* No migration gives the node away meanwhile. */
        job_enter_running(job);
        create_qcow2(&o->u.qcow2, options, &err);
        vm_job_mutex_unlock(bdrv_job_mutex());
    } else {
        return false;
    }
    job_progress_add(job, 1);
    if (err) {
        bdrv_propagate_first_line(errp, err);
        return false;
    }
    return true;
}

static void create_free(void *opaque)
{
    qapi_free_BlockdevCreateOptions(opaque);
}

void coroutine_fn qmp_blockdev_create(const char *job_id, BlockdevCreateOptions *options,
                                      GError **errp)
{
    static const JobDriver driver = {
        .type = JOB_TYPE_CREATE, .run = create_run, .free = create_free};
    BlockdevCreateOptions *copy;
    Job *job;

    if (options->driver != BLOCKDEV_DRIVER_FILE && options->driver != BLOCKDEV_DRIVER_QCOW2) {
        error_setg(errp, "Driver does not support blockdev-create");
        return;
    }
    copy = qapi_BlockdevCreateOptions_clone(options);
    job = job_create(job_id, &driver, main_aio_context(), JOB_MANUAL_DISMISS, copy, errp);
    if (job) {
        job_start_waiting(job);
    } else {
        qapi_free_BlockdevCreateOptions(copy);
    }
}
