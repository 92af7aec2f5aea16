/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The list of exports and the commands on it (block/export.h).  Main thread.  Starting and
 * stopping an export yields; meanwhile its name is taken, and it is neither stopped twice
 * nor before it has started.
 */
#include <string.h>
#include "block/active.h"
#include "block/block-int.h"
#include "block/export.h"
#include "config-host.h"
#include "export-int.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-block-export.h"
#include "qapi/qapi-events-block-export.h"
#include "qapi/util.h"
#include "util/co-lock.h"
#include "util/iothreads.h"

static const BlockExportDriver *drivers[BLOCK_EXPORT_TYPE__MAX] = {
#if CONFIG_FUSE
    [BLOCK_EXPORT_TYPE_FUSE] = &block_export_fuse,
#endif
};
static GQueue exports = G_QUEUE_INIT; /* newest first */
static CoQueue changed = {.lock = PTHREAD_MUTEX_INITIALIZER}; /* one has started or is gone */

void block_export_register(const BlockExportDriver *drv)
{
    drivers[drv->type] = drv;
}

static BlockExport *find(const char *id)
{
    for (GList *l = exports.head; l; l = l->next) {
        BlockExport *exp = l->data;

        if (!strcmp(exp->id, id)) {
            return exp;
        }
    }
    return NULL;
}

/* A letter, then letters, digits, '-', '.' and '_'. */
static bool id_is_valid(const char *id)
{
    return g_ascii_isalpha(id[0]) &&
           strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._") ==
               strlen(id);
}

static const BlockExportDriver *driver_for(const BlockExportOptions *o, GError **errp)
{
    const BlockExportDriver *drv = drivers[o->type];

    if (!drv) {
        error_setg(errp, "Exports of type '%s' are not available: %s",
                   BlockExportType_str(o->type),
                   CONFIG_FUSE ? "this program does not have them"
                               : "libfuse3 was missing when this program was built");
    }
    return drv;
}

/* The thread of a node is chosen when it is opened. */
static bool check_iothread(const BlockExportOptions *o, BlockDriverState *bs, GError **errp)
{
    IOThread *thread;

    if (!o->iothread) {
        return true;
    }
    thread = iothreads_find(o->iothread, NULL);
    if (!thread) {
        error_setg(errp, "iothread \"%s\" not found", o->iothread);
        return false;
    }
    if (o->has_fixed_iothread && o->fixed_iothread &&
        iothread_context(thread) != bdrv_context(bs)) {
        error_setg(errp, "Node '%s' does not live in iothread '%s'", bdrv_node_name(bs),
                   o->iothread);
        return false;
    }
    return true;
}

static void coroutine_fn discard(BlockExport *exp)
{
    g_queue_remove(&exports, exp);
    blk_co_free(exp->blk);
    co_queue_restart_all(&changed);
    g_free(exp->id);
    g_free(exp);
}

bool coroutine_fn block_export_co_add(const BlockExportOptions *o, GError **errp)
{
    bool writable = o->has_writable && o->writable;
    const BlockExportDriver *drv;
    BlockDriverState *bs;
    BlockBackend *blk;
    BlockExport *exp;

    GLOBAL_STATE();
    if (!id_is_valid(o->id)) {
        error_setg(errp, "Invalid block export id");
        return false;
    }
    if (find(o->id)) {
        error_setg(errp, "Block export id '%s' is already in use", o->id);
        return false;
    }
    drv = driver_for(o, errp);
    if (!drv) {
        return false;
    }
    bs = bdrv_find_node(o->node_name, NULL);
    if (!bs) {
        error_setg(errp, "Cannot find device='' nor node-name='%s'", o->node_name);
        return false;
    }
    if (!bdrv_check_active(bs, errp) || !check_iothread(o, bs, errp)) {
        return false;
    }
    if (writable && !drv->can_write) {
        error_setg(errp, "Exports of type '%s' are read-only", BlockExportType_str(o->type));
        return false;
    }
    if (writable && bdrv_is_read_only(bs)) {
        error_setg(errp, "Cannot export read-only node as writable");
        return false;
    }
    blk = blk_new("", bs, writable, errp);
    if (!blk) {
        return false;
    }
    exp = g_new0(BlockExport, 1);
    exp->drv = drv;
    exp->id = g_strdup(o->id);
    exp->blk = blk;
    exp->writable = writable;
    exp->writethrough = o->has_writethrough && o->writethrough;
    exp->starting = true;
    g_queue_push_head(&exports, exp);
    if (!drv->co_start(exp, o, errp)) {
        discard(exp);
        return false;
    }
    exp->starting = false;
    co_queue_restart_all(&changed);
    return true;
}

/* exp has started and nobody else removes it. */
static void coroutine_fn remove_export(BlockExport *exp)
{
    g_autofree char *id = g_strdup(exp->id);

    exp->shutting_down = true;
    exp->drv->co_stop(exp);
    discard(exp);
    qapi_event_send_block_export_deleted(id);
}

static void coroutine_fn remove_entry(void *opaque)
{
    remove_export(opaque);
}

void block_export_remove_later(BlockExport *exp)
{
    GLOBAL_STATE();
    if (!exp->starting && !exp->shutting_down) {
        exp->shutting_down = true;
        aio_co_schedule(main_aio_context(), coroutine_create(remove_entry, exp));
    }
}

bool block_export_check_unused(BlockDriverState *bs, GError **errp)
{
    GLOBAL_STATE();
    for (GList *l = exports.head; l; l = l->next) {
        BlockExport *exp = l->data;

        if (blk_bs(exp->blk) == bs) {
            error_setg(errp, "Node '%s' cannot be handed over while it is in use by export '%s'",
                       bs->node_name, exp->id);
            return false;
        }
    }
    return true;
}

BlockExport *block_export_find(const char *id)
{
    BlockExport *exp = find(id);

    GLOBAL_STATE();
    return exp && !exp->starting ? exp : NULL;
}

void coroutine_fn block_export_co_wait_removed(const char *id)
{
    GLOBAL_STATE();
    while (find(id)) {
        co_queue_wait(&changed, NULL);
    }
}

void coroutine_fn block_export_co_remove_all(void)
{
    GLOBAL_STATE();
    while (exports.head) {
        BlockExport *exp = exports.head->data;

        if (exp->starting || exp->shutting_down) {
            co_queue_wait(&changed, NULL);
        } else {
            remove_export(exp);
        }
    }
}

void coroutine_fn qmp_block_export_add(BlockExportOptions *options, GError **errp)
{
    block_export_co_add(options, errp);
}

void coroutine_fn qmp_block_export_del(const char *id, bool has_mode,
                                       BlockExportRemoveMode mode, GError **errp)
{
    BlockExport *exp = block_export_find(id);

    if (!exp) {
        error_setg(errp, "Export '%s' is not found", id);
    } else if (exp->shutting_down) {
        error_setg(errp, "Export '%s' is already shutting down", id);
    } else {
        remove_export(exp);
    }
}

BlockExportInfoList *coroutine_fn qmp_query_block_exports(GError **errp)
{
    BlockExportInfoList *list = NULL, **tail = &list;

    for (GList *l = exports.head; l; l = l->next) {
        const BlockExport *exp = l->data;
        BlockExportInfo *info;

        if (exp->starting) {
            continue;
        }
        info = g_new0(BlockExportInfo, 1);
        info->id = g_strdup(exp->id);
        info->type = exp->drv->type;
        info->node_name = g_strdup(bdrv_node_name(blk_bs(exp->blk)));
        info->shutting_down = exp->shutting_down;
        QAPI_LIST_APPEND(tail, info);
    }
    return list;
}
