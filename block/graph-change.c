/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Changes of the graph while it is in use: an overlay goes on top of a node and away again,
 * and a tree that nobody uses yet moves to another thread.  Main thread.  Edges change while
 * both nodes are drained, with their context acquired, and without a yield: whoever sends a
 * request finds the old graph or the new one.
 */
#include <errno.h>
#include <string.h>
#include "block/dirty-bitmap.h"
#include "graph-int.h"
#include "qapi/error.h"

#define MOVE_WAIT_MS 1000

/* --- Edges ---------------------------------------------------------------------------- */

static void quiesce_user(BdrvChild *c, bool begin, unsigned times)
{
    for (unsigned i = 0; i < times; i++) {
        if (c->blk) {
            begin ? blk_quiesce_begin(c->blk) : blk_quiesce_end(c->blk);
        } else {
            begin ? bdrv_quiesce_begin(c->parent) : bdrv_quiesce_end(c->parent);
        }
    }
}

/* All users of from use to instead.  Drained, context acquired; the caller has a reference. */
static void move_users(BlockDriverState *from, BlockDriverState *to)
{
    BdrvChild *c;

    while ((c = g_queue_peek_head(&from->parents))) {
        /* First the new sections, then the old ones end: it is drained all the time. */
        quiesce_user(c, true, to->quiesce);
        g_queue_unlink(&from->parents, &c->parents_link);
        c->bs = bdrv_ref(to);
        g_queue_push_tail_link(&to->parents, &c->parents_link);
        quiesce_user(c, false, from->quiesce);
        from->refcount--;
        g_assert(from->refcount > 0);
    }
    bdrv_update_right_below(from);
    bdrv_update_right_below(to);
}

void bdrv_append(BlockDriverState *overlay, BlockDriverState *top)
{
    GLOBAL_STATE();
    g_assert(overlay->ctx == top->ctx && !overlay->backing);
    g_assert(g_queue_is_empty(&overlay->parents));
    aio_context_acquire(top->ctx);
    g_assert(top->quiesce && overlay->quiesce && !top->in_flight && !overlay->in_flight);
    move_users(top, overlay);
    overlay->backing =
        bdrv_attach_child(top, overlay, NULL, BDRV_CHILD_BACKING, false, NULL);
    aio_context_release(top->ctx);
}

void coroutine_fn bdrv_co_unappend(BlockDriverState *overlay)
{
    BlockDriverState *top = bdrv_backing(overlay);
    BdrvChild *edge = overlay->backing;

    GLOBAL_STATE();
    aio_context_acquire(top->ctx);
    g_assert(top->quiesce && overlay->quiesce && !top->in_flight && !overlay->in_flight);
    overlay->backing = NULL;
    bdrv_detach_child(edge); /* its reference is dropped below */
    move_users(overlay, top);
    aio_context_release(top->ctx);
    bdrv_co_unref(top);
}

/* --- Moving a tree to another thread ------------------------------------------------------ */

static void collect(BlockDriverState *bs, GPtrArray *tree)
{
    if (bs && !g_ptr_array_find(tree, bs, NULL)) {
        g_ptr_array_add(tree, bs);
        collect(bdrv_file(bs), tree);
        collect(bs->data_file ? bs->data_file->bs : NULL, tree);
        collect(bdrv_backing(bs), tree);
    }
}

/* Whether only the tree's own nodes use its nodes, and nobody but the user and us knows them. */
static bool tree_is_alone(GPtrArray *tree)
{
    for (guint i = 0; i < tree->len; i++) {
        BlockDriverState *bs = tree->pdata[i];
        int refs = bs->user_owned + (i == 0); /* ours is on the root */

        for (GList *l = bs->parents.head; l; l = l->next) {
            BdrvChild *c = l->data;

            if (!c->parent || !g_ptr_array_find(tree, c->parent, NULL)) {
                return false;
            }
            refs++;
        }
        if (bs->refcount != refs) {
            return false;
        }
    }
    return true;
}

/* Takes the drained tree over.  false: somebody else uses a part of it. */
static bool coroutine_fn set_context(GPtrArray *tree, AioContext *from, AioContext *to)
{
    /* A query that looks at a node right now ends soon. */
    for (int i = 0; !tree_is_alone(tree); i++) {
        if (i == MOVE_WAIT_MS) {
            return false;
        }
        co_sleep_ns(1000000);
    }
    aio_context_acquire(from);
    for (guint i = 0; i < tree->len; i++) {
        ((BlockDriverState *)tree->pdata[i])->ctx = aio_context_ref(to);
    }
    aio_context_release(from);
    for (guint i = 0; i < tree->len; i++) {
        aio_context_unref(from);
    }
    return true;
}

bool coroutine_fn bdrv_co_move_tree(BlockDriverState *bs, AioContext *ctx, GError **errp)
{
    g_autoptr(GPtrArray) tree = g_ptr_array_new();
    AioContext *from = aio_context_ref(bs->ctx);
    bool ok = true;

    GLOBAL_STATE();
    if (from != ctx) {
        collect(bs, tree);
        bdrv_co_move_to(from);
        bdrv_co_drained_begin(bs);
        for (guint i = 0; i < tree->len; i++) {
            BlockDriverState *node = tree->pdata[i];

            if (node->drv->co_settle) {
                node->drv->co_settle(node);
            }
        }
        bdrv_co_move_to(main_aio_context());
        ok = set_context(tree, from, ctx);
        bdrv_co_move_to(bs->ctx);
        bdrv_drained_end(bs);
        bdrv_co_move_to(main_aio_context());
    }
    aio_context_unref(from);
    if (!ok) {
        error_setg(errp, "Node '%s' or one below it is in use and cannot move to another thread",
                   bs->node_name);
    }
    return ok;
}

/* --- Read-only ------------------------------------------------------------------------------ */

static bool has_writer(BlockDriverState *bs)
{
    for (GList *l = bs->parents.head; l; l = l->next) {
        if (((BdrvChild *)l->data)->writable) {
            return true;
        }
    }
    return false;
}

static void coroutine_fn become_read_only(BlockDriverState *bs)
{
    BdrvChild *below[] = { bs->file, bs->data_file };

    aio_context_acquire(bs->ctx);
    bs->read_only = true;
    for (size_t i = 0; i < G_N_ELEMENTS(below); i++) {
        if (below[i]) {
            below[i]->writable = false;
            bdrv_update_right_below(below[i]->bs);
        }
    }
    aio_context_release(bs->ctx);
    for (size_t i = 0; i < G_N_ELEMENTS(below); i++) {
        /* What the user has made beside it stays as the user wants it. */
        if (below[i] && !below[i]->bs->user_owned) {
            bdrv_co_set_read_only(below[i]->bs);
        }
    }
}

/*
 * All that is written so far is durable, and nobody is going to write or to change a bitmap.  That
 * holds until the caller yields.
 */
static bool coroutine_fn prepare_read_only(BlockDriverState *bs)
{
    unsigned changes;
    bool ok;

    do { /* commands may change bitmaps meanwhile */
        bdrv_co_move_to(bs->ctx);
        changes = bs->bitmap_changes;
        ok = bdrv_co_flush(bs) >= 0 &&
             (!bs->drv->co_set_read_only || bs->drv->co_set_read_only(bs) >= 0);
        bdrv_co_move_to(main_aio_context());
    } while (ok && changes != bs->bitmap_changes);
    return ok && !has_writer(bs) && bdrv_dirty_bitmaps_idle(bs, NULL);
}

void coroutine_fn bdrv_co_set_read_only(BlockDriverState *bs)
{
    GLOBAL_STATE();
    if (bs->read_only || has_writer(bs)) {
        return;
    }
    if (prepare_read_only(bs)) {
        become_read_only(bs);
    } else if (bs->drv->co_bitmaps_in_use) {
        bdrv_co_move_to(bs->ctx);
        bs->drv->co_bitmaps_in_use(bs); /* if it fails, the next write or command tries it */
        bdrv_co_move_to(main_aio_context());
    }
}

static bool check_may_be_writable(BlockDriverState *bs, GError **errp)
{
    if (bs->user_owned && bs->read_only) {
        error_setg(errp, "%s (node '%s' is read-only)", strerror(EACCES), bs->node_name);
    } else if (bs->drv->only_reads) {
        error_setg(errp, "Images of format '%s' cannot be written", bs->drv->name);
    } else if (bs->force_share) {
        error_setg(errp, "Node '%s' is shared, not locked, and can only be read", bs->node_name);
    } else {
        return true;
    }
    return false;
}

bool coroutine_fn bdrv_co_set_writable(BlockDriverState *bs, GError **errp)
{
    BdrvChild *below[] = { bs->file, bs->data_file };
    bool ok = true;

    GLOBAL_STATE();
    if (!bs->read_only) {
        return true;
    }
    if (!check_may_be_writable(bs, errp)) {
        return false;
    }
    aio_context_acquire(bs->ctx);
    bs->read_only = false;
    aio_context_release(bs->ctx);
    for (size_t i = 0; i < G_N_ELEMENTS(below) && ok; i++) {
        ok = !below[i] || (bdrv_co_set_writable(below[i]->bs, errp) &&
                           (bs->drv->writes_for_parents ||
                            bdrv_child_set_writable(below[i], true, errp)));
    }
    if (ok && bs->drv->co_set_writable) {
        bdrv_co_move_to(bs->ctx);
        ok = bs->drv->co_set_writable(bs, errp);
        bdrv_co_move_to(main_aio_context());
    }
    if (!ok) {
        become_read_only(bs);
    }
    return ok;
}
