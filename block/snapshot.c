/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Internal snapshots as their users call them: passes every call on to the driver, checks
 * the context, and puts the node's name and the step in front of each error.  Home context.
 */
#include <errno.h>
#include <string.h>
#include "block/dirty-bitmap.h"
#include "graph-int.h"
#include "qapi/error.h"

struct BdrvSnapshotSave {
    BlockDriverState *bs;
    void *opaque;
};

struct BdrvSnapshotReader {
    BlockDriverState *bs;
    void *opaque;
    char *holder;
    GList holders_link;
};

struct BdrvSnapshotGoto {
    BlockDriverState *bs;
    void *opaque;
    bool switched;
    GPtrArray *users; /* BlockBackend: prepared to follow */
};

uint64_t bdrv_snapshot_new_serial(void)
{
    static uint64_t last;

    return __atomic_add_fetch(&last, 1, __ATOMIC_RELAXED);
}

/* Adds "Node 'X': STEP: " to an error that the driver has set. */
static bool fail(BlockDriverState *bs, const char *step, GError **errp)
{
    g_prefix_error(errp, "Node '%s': %s: ", bs->node_name, step);
    return false;
}

static bool supported(BlockDriverState *bs, const char *step, GError **errp)
{
    IO_CODE(bs);
    if (bs->drv->snapshot) {
        return true;
    }
    error_setg(errp, "Node '%s': %s: driver '%s' does not support internal snapshots",
               bs->node_name, step, bs->drv->name);
    return false;
}

bool bdrv_can_snapshot(BlockDriverState *bs)
{
    return bs->drv->snapshot && !bs->read_only && !bs->inactive;
}

bool bdrv_has_snapshots(BlockDriverState *bs)
{
    return bs->drv->snapshot != NULL;
}

BdrvSnapshotInfo *coroutine_fn bdrv_co_snapshot_list(BlockDriverState *bs, int *n, GError **errp)
{
    BdrvSnapshotInfo *list;
    GError *err = NULL;

    *n = 0;
    if (!supported(bs, "listing snapshots", errp)) {
        return NULL;
    }
    list = bs->drv->snapshot->list(bs, n, &err);
    if (err) {
        fail(bs, "listing snapshots", &err);
        g_propagate_error(errp, err);
    }
    return list;
}

static bool coroutine_fn find(BlockDriverState *bs, const char *id_or_name, bool by_id,
                              BdrvSnapshotInfo *info, GError **errp)
{
    int n, found = -1;
    g_autofree BdrvSnapshotInfo *list = bdrv_co_snapshot_list(bs, &n, errp);

    for (int i = 0; i < n && found < 0; i++) {
        found = strcmp(list[i].name, id_or_name) ? -1 : i;
    }
    for (int i = 0; i < n && found < 0 && by_id; i++) {
        found = strcmp(list[i].id, id_or_name) ? -1 : i;
    }
    if (found >= 0 && info) {
        *info = list[found];
    }
    return found >= 0;
}

bool coroutine_fn bdrv_co_snapshot_find(BlockDriverState *bs, const char *id_or_name,
                                        BdrvSnapshotInfo *info, GError **errp)
{
    return find(bs, id_or_name, true, info, errp);
}

bool coroutine_fn bdrv_co_snapshot_find_name(BlockDriverState *bs, const char *name,
                                             BdrvSnapshotInfo *info, GError **errp)
{
    return find(bs, name, false, info, errp);
}

bool coroutine_fn bdrv_co_snapshot_show(BlockDriverState *bs, const char *id, GError **errp)
{
    static const char step[] = "showing a snapshot";

    if (!supported(bs, step, errp)) {
        return false;
    }
    if (!bs->read_only || bs->in_flight) {
        error_setg(errp, "the node must be read-only and idle");
        return fail(bs, step, errp);
    }
    return bs->drv->snapshot->show(bs, id, errp) || fail(bs, step, errp);
}

bool bdrv_snapshot_is_empty(BlockDriverState *bs)
{
    IO_CODE(bs);
    return bs->drv->snapshot && bs->drv->snapshot->is_empty(bs);
}

int coroutine_fn bdrv_co_snapshot_is_current(BlockDriverState *bs, const char *name,
                                             GError **errp)
{
    static const char step[] = "comparing with a snapshot";
    BdrvSnapshotInfo info;
    GError *err = NULL;
    int ret = -1;

    if (bdrv_co_snapshot_find_name(bs, name, &info, &err)) {
        ret = bs->drv->snapshot->is_current(bs, info.id, &err);
    } else if (!err) {
        error_setg(&err, "Snapshot '%s' does not exist", name);
    }
    if (err) {
        fail(bs, step, &err);
        g_propagate_error(errp, err);
    }
    return ret;
}

/* supported(), and bs may be written. */
static bool changeable(BlockDriverState *bs, const char *step, GError **errp)
{
    if (!supported(bs, step, errp)) {
        return false;
    }
    if (bs->read_only) {
        error_setg(errp, "Node '%s': %s: the node is read-only", bs->node_name, step);
        return false;
    }
    if (bs->inactive) {
        error_setg(errp, "Node '%s': %s: the node is inactive: the other side of a migration "
                   "uses it", bs->node_name, step);
        return false;
    }
    return true;
}

BdrvSnapshotSave *coroutine_fn bdrv_co_snapshot_prepare(BlockDriverState *bs,
                                                        BdrvSnapshotInfo *info,
                                                        uint64_t vm_state_size, GError **errp)
{
    static const char step[] = "preparing a snapshot";
    BdrvSnapshotSave *save;
    void *opaque;

    if (!changeable(bs, step, errp)) {
        return NULL;
    }
    opaque = bs->drv->snapshot->prepare(bs, info, vm_state_size, errp);
    if (!opaque) {
        fail(bs, step, errp);
        return NULL;
    }
    save = g_new0(BdrvSnapshotSave, 1);
    save->bs = bs;
    save->opaque = opaque;
    return save;
}

bool coroutine_fn bdrv_co_snapshot_freeze(BdrvSnapshotSave *save, GError **errp)
{
    BlockDriverState *bs = save->bs;

    IO_CODE(bs);
    g_assert(bs->quiesce && !bs->in_flight);
    return bs->drv->snapshot->freeze(bs, save->opaque, errp) ||
           fail(bs, "taking the snapshot", errp);
}

int coroutine_fn bdrv_co_snapshot_write(BdrvSnapshotSave *save, uint64_t offset, IOVector *iov)
{
    IO_CODE(save->bs);
    return save->bs->drv->snapshot->write(save->bs, save->opaque, offset, iov);
}

bool coroutine_fn bdrv_co_snapshot_compress(BdrvSnapshotSave *save, GError **errp)
{
    static const char step[] = "compressing the machine state";
    BlockDriverState *bs = save->bs;

    IO_CODE(bs);
    if (!bs->drv->snapshot->compress) {
        error_setg(errp, "driver '%s' cannot do that", bs->drv->name);
        return fail(bs, step, errp);
    }
    return bs->drv->snapshot->compress(bs, save->opaque, errp) || fail(bs, step, errp);
}

void bdrv_snapshot_compressed(BdrvSnapshotSave *save, uint64_t *bytes, uint64_t *size)
{
    IO_CODE(save->bs);
    save->bs->drv->snapshot->compressed(save->opaque, bytes, size);
}

uint64_t coroutine_fn bdrv_co_snapshot_share_with(BdrvSnapshotSave *save, uint64_t serial,
                                                  GError **errp)
{
    BlockDriverState *bs = save->bs;

    IO_CODE(bs);
    if (!bs->drv->snapshot->share_with) {
        error_setg(errp, "Node '%s': driver '%s' cannot share machine state between snapshots",
                   bs->node_name, bs->drv->name);
        return 0;
    }
    return bs->drv->snapshot->share_with(bs, save->opaque, serial, errp);
}

int coroutine_fn bdrv_co_snapshot_share(BdrvSnapshotSave *save, const BdrvSnapshotExtent *extents,
                                        size_t n)
{
    IO_CODE(save->bs);
    return save->bs->drv->snapshot->share(save->bs, save->opaque, extents, n);
}

bool coroutine_fn bdrv_co_snapshot_publish(BdrvSnapshotSave *save, const BdrvSnapshotInfo *info,
                                           GError **errp)
{
    BlockDriverState *bs = save->bs;

    IO_CODE(bs);
    return bs->drv->snapshot->publish(bs, save->opaque, info, errp) ||
           fail(bs, "publishing the snapshot", errp);
}

void coroutine_fn bdrv_co_snapshot_abort(BdrvSnapshotSave *save)
{
    IO_CODE(save->bs);
    save->bs->drv->snapshot->abort(save->bs, save->opaque);
    g_free(save);
}

void coroutine_fn bdrv_co_snapshot_done(BdrvSnapshotSave *save)
{
    IO_CODE(save->bs);
    save->bs->drv->snapshot->done(save->bs, save->opaque);
    g_free(save);
}

BdrvSnapshotReader *coroutine_fn bdrv_co_snapshot_open_id(BlockDriverState *bs, const char *id,
                                                          GError **errp)
{
    static const char step[] = "opening the machine state";
    BdrvSnapshotReader *r;
    void *opaque;

    if (!supported(bs, step, errp)) {
        return NULL;
    }
    opaque = bs->drv->snapshot->open(bs, id, errp);
    if (!opaque) {
        fail(bs, step, errp);
        return NULL;
    }
    r = g_new0(BdrvSnapshotReader, 1);
    r->bs = bs;
    r->opaque = opaque;
    return r;
}

BdrvSnapshotReader *coroutine_fn bdrv_co_snapshot_open(BlockDriverState *bs,
                                                       const char *id_or_name, GError **errp)
{
    BdrvSnapshotInfo info;
    bool found = bdrv_co_snapshot_find(bs, id_or_name, &info, NULL);

    return bdrv_co_snapshot_open_id(bs, found ? info.id : id_or_name, errp);
}

const BdrvSnapshotInfo *bdrv_snapshot_reader_info(BdrvSnapshotReader *r)
{
    return r->bs->drv->snapshot->reader_info(r->opaque);
}

void bdrv_snapshot_hold(BdrvSnapshotReader *r, const char *holder)
{
    IO_CODE(r->bs);
    g_assert(!r->holder);
    r->holder = g_strdup(holder);
    r->holders_link.data = r;
    g_queue_push_tail_link(&r->bs->snapshot_holders, &r->holders_link);
}

bool bdrv_snapshot_is_held(BlockDriverState *bs, const char *id, GError **errp)
{
    IO_CODE(bs);
    for (GList *l = bs->snapshot_holders.head; l; l = l->next) {
        BdrvSnapshotReader *r = l->data;
        const BdrvSnapshotInfo *info = bdrv_snapshot_reader_info(r);

        if (!strcmp(info->id, id)) {
            error_setg(errp, "Snapshot '%s' is in use by %s", info->name, r->holder);
            return true;
        }
    }
    return false;
}

int coroutine_fn bdrv_co_snapshot_read(BdrvSnapshotReader *r, uint64_t offset, IOVector *iov)
{
    IO_CODE(r->bs);
    return r->bs->drv->snapshot->read(r->bs, r->opaque, offset, iov);
}

int coroutine_fn bdrv_co_snapshot_read_disk(BdrvSnapshotReader *r, uint64_t offset,
                                            IOVector *iov)
{
    IO_CODE(r->bs);
    return r->bs->drv->snapshot->read_disk(r->bs, r->opaque, offset, iov);
}

int coroutine_fn bdrv_co_snapshot_map(BdrvSnapshotReader *r, uint64_t offset, uint64_t bytes,
                                      uint64_t *pnum, int64_t *map)
{
    const BdrvSnapshotDriver *drv = r->bs->drv->snapshot;

    IO_CODE(r->bs);
    return drv->map ? drv->map(r->bs, r->opaque, offset, bytes, pnum, map) : -ENOTSUP;
}

int coroutine_fn bdrv_co_snapshot_map_packed(BdrvSnapshotReader *r, uint64_t offset,
                                             BdrvSnapshotPacked *packed)
{
    const BdrvSnapshotDriver *drv = r->bs->drv->snapshot;

    IO_CODE(r->bs);
    return drv->map_packed ? drv->map_packed(r->bs, r->opaque, offset, packed) : -ENOTSUP;
}

int bdrv_snapshot_unpack(BdrvSnapshotReader *r, const BdrvSnapshotPacked *packed, const void *in,
                         void *out)
{
    return r->bs->drv->snapshot->unpack(r->bs, packed, in, out);
}

void coroutine_fn bdrv_co_snapshot_close(BdrvSnapshotReader *r)
{
    IO_CODE(r->bs);
    if (r->holder) {
        g_queue_unlink(&r->bs->snapshot_holders, &r->holders_link);
        g_free(r->holder);
    }
    r->bs->drv->snapshot->close(r->bs, r->opaque);
    g_free(r);
}

/* Who keeps a copy of the node's content: among its handles and those of filters above it. */
static void collect_users(BlockDriverState *bs, GPtrArray *users)
{
    for (GList *l = bs->parents.head; l; l = l->next) {
        BdrvChild *c = l->data;

        if (c->blk && blk_keeps_copy(c->blk)) {
            g_ptr_array_add(users, c->blk);
        } else if (c->parent && c->parent->drv->is_filter && c->role == BDRV_CHILD_FILE) {
            collect_users(c->parent, users);
        }
    }
}

/* Lets the users read what the node will hold; false and errp: none of them is prepared. */
static bool coroutine_fn prepare_users(BdrvSnapshotGoto *g, const char *id, GError **errp)
{
    g_autoptr(GPtrArray) users = g_ptr_array_new();
    BdrvSnapshotReader *r;
    bool ok = true;

    collect_users(g->bs, users);
    if (!users->len) {
        return true;
    }
    r = bdrv_co_snapshot_open_id(g->bs, id, errp);
    if (!r) {
        return false;
    }
    for (guint i = 0; ok && i < users->len; i++) {
        ok = blk_goto_prepare(users->pdata[i], r, errp);
        if (ok) {
            g_ptr_array_add(g->users, users->pdata[i]);
        }
    }
    bdrv_co_snapshot_close(r);
    return ok;
}

static void end_users(BdrvSnapshotGoto *g, bool rollback)
{
    for (guint i = 0; i < g->users->len; i++) {
        blk_goto_end(g->users->pdata[i], rollback);
    }
    g_ptr_array_unref(g->users);
}

BdrvSnapshotGoto *coroutine_fn bdrv_co_snapshot_goto_prepare_id(BlockDriverState *bs,
                                                                const char *id, GError **errp)
{
    static const char step[] = "preparing to go back to a snapshot";
    BdrvSnapshotGoto *g;
    void *opaque;

    if (!changeable(bs, step, errp)) {
        return NULL;
    }
    if (bs->job_type) {
        error_setg(errp, "Node '%s' is busy: block device is in use by block job: %s",
                   bs->node_name, bs->job_type);
        return NULL;
    }
    opaque = bs->drv->snapshot->goto_prepare(bs, id, errp);
    if (!opaque) {
        fail(bs, step, errp);
        return NULL;
    }
    g = g_new0(BdrvSnapshotGoto, 1);
    g->bs = bs;
    g->opaque = opaque;
    g->users = g_ptr_array_new();
    if (!prepare_users(g, id, errp)) {
        bdrv_co_snapshot_goto_end(g, true);
        return NULL;
    }
    return g;
}

BdrvSnapshotGoto *coroutine_fn bdrv_co_snapshot_goto_prepare(BlockDriverState *bs,
                                                             const char *id_or_name,
                                                             GError **errp)
{
    BdrvSnapshotInfo info;
    bool found = bdrv_co_snapshot_find(bs, id_or_name, &info, NULL);

    return bdrv_co_snapshot_goto_prepare_id(bs, found ? info.id : id_or_name, errp);
}

bool coroutine_fn bdrv_co_snapshot_goto_switch(BdrvSnapshotGoto *g, GError **errp)
{
    BlockDriverState *bs = g->bs;
    int64_t length = bs->length;

    IO_CODE(bs);
    g_assert(bs->quiesce && !bs->in_flight);
    g->switched = bs->drv->snapshot->goto_switch(bs, g->opaque, errp);
    if (g->switched) {
        bdrv_dirty_mark_all(bs);
    }
    if (bs->length != length) {
        bdrv_tell_resized(bs);
    }
    for (guint i = 0; g->switched && i < g->users->len; i++) {
        blk_goto_switch(g->users->pdata[i]);
    }
    return g->switched || fail(bs, "switching to the snapshot", errp);
}

bool coroutine_fn bdrv_co_snapshot_goto_commit(BdrvSnapshotGoto *g, GError **errp)
{
    BlockDriverState *bs = g->bs;

    IO_CODE(bs);
    g_assert(g->switched);
    return bs->drv->snapshot->goto_commit(bs, g->opaque, errp) ||
           fail(bs, "making the snapshot's content durable", errp);
}

void coroutine_fn bdrv_co_snapshot_goto_end(BdrvSnapshotGoto *g, bool rollback)
{
    int64_t length = g->bs->length;

    IO_CODE(g->bs);
    g->bs->drv->snapshot->goto_end(g->bs, g->opaque, rollback);
    if (g->bs->length != length) {
        bdrv_tell_resized(g->bs);
    }
    end_users(g, rollback);
    g_free(g);
}

static bool coroutine_fn delete_id(BlockDriverState *bs, const char *id, const char *heir,
                                   GError **errp)
{
    static const char step[] = "deleting a snapshot";

    if (!changeable(bs, step, errp)) {
        return false;
    }
    return (!bdrv_snapshot_is_held(bs, id, errp) &&
            bs->drv->snapshot->remove(bs, id, heir, errp)) ||
           fail(bs, step, errp);
}

bool coroutine_fn bdrv_co_snapshot_delete(BlockDriverState *bs, const char *id_or_name,
                                          GError **errp)
{
    BdrvSnapshotInfo info;
    GError *err = NULL;

    if (!bdrv_co_snapshot_find(bs, id_or_name, &info, &err)) {
        if (!err) {
            error_setg(&err, "Node '%s': deleting a snapshot: Snapshot '%s' does not exist",
                       bs->node_name, id_or_name);
        }
        g_propagate_error(errp, err);
        return false;
    }
    return delete_id(bs, info.id, NULL, errp);
}

bool coroutine_fn bdrv_co_snapshot_delete_id(BlockDriverState *bs, const char *id, GError **errp)
{
    return delete_id(bs, id, NULL, errp);
}

bool coroutine_fn bdrv_co_snapshot_replace(BlockDriverState *bs, const char *old_id,
                                           const char *new_id, GError **errp)
{
    return delete_id(bs, old_id, new_id, errp);
}
