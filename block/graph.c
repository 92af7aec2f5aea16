/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Edges of the node graph and the right to write through them.  One user at a time may
 * write to a node; raw and filters ask for that right below them only while one of their
 * own parents has it.  Changed in the main thread with the node's context acquired, since
 * drain.c reads the lists in that context.
 */
#include "graph-int.h"
#include "qapi/error.h"

/* "node 'q'" or "block device 'd'", for messages; a new string. */
static char *user_desc(BlockDriverState *parent, BlockBackend *blk)
{
    if (parent) {
        return g_strdup_printf("node '%s'", parent->node_name);
    }
    return *blk_user_name(blk) ? g_strdup_printf("block device '%s'", blk_user_name(blk))
                               : g_strdup("an unnamed block device");
}

static const char *role_name(const BlockBackend *blk, BdrvChildRole role)
{
    static const char *const names[] = {
        [BDRV_CHILD_FILE] = "file",
        [BDRV_CHILD_DATA] = "data-file",
        [BDRV_CHILD_BACKING] = "backing",
        [BDRV_CHILD_TARGET] = "target",
    };

    return blk ? "root" : names[role];
}

static void conflict(const BdrvChild *has, const BdrvChild *wants, GError **errp)
{
    const char *node = has->bs->node_name;
    g_autofree char *holder = user_desc(has->parent, has->blk);
    g_autofree char *comer = user_desc(wants->parent, wants->blk);

    error_setg(errp, "Permission conflict on node '%s': permissions '%s' are both required by "
               "%s (uses node '%s' as '%s' child) and unshared by %s (uses node '%s' as '%s' "
               "child).", node, wants->parent ? "write, resize" : "write", holder, node,
               role_name(has->blk, has->role), comer, node, role_name(wants->blk, wants->role));
}

/* Whether the edge wants may write to bs: nobody else does, here and below. */
static bool writer_allowed(BlockDriverState *bs, const BdrvChild *wants, GError **errp)
{
    if (bs->read_only) {
        error_setg(errp, "Block node is read-only");
        return false;
    }
    for (GList *l = bs->parents.head; l; l = l->next) {
        BdrvChild *c = l->data;
        if (c != wants && c->writable) {
            conflict(c, wants, errp);
            return false;
        }
    }
    if (bs->drv->writes_for_parents && bs->file) {
        return writer_allowed(bs->file->bs, bs->file, errp);
    }
    return true;
}

void bdrv_update_right_below(BlockDriverState *bs)
{
    bool writable = false;

    if (!bs->drv->writes_for_parents || !bs->file) {
        return;
    }
    for (GList *l = bs->parents.head; l; l = l->next) {
        writable |= ((BdrvChild *)l->data)->writable;
    }
    if (bs->file->writable != writable) {
        bs->file->writable = writable;
        bdrv_update_right_below(bs->file->bs);
    }
}

BdrvChild *bdrv_attach_child(BlockDriverState *bs, BlockDriverState *parent, BlockBackend *blk,
                             BdrvChildRole role, bool writable, GError **errp)
{
    BdrvChild *child;

    GLOBAL_STATE();
    g_assert(!parent != !blk);
    child = g_new0(BdrvChild, 1);
    child->bs = bs;
    child->parent = parent;
    child->blk = blk;
    child->role = role;
    child->writable = writable;
    child->parents_link.data = child;
    if (bs->commit_target) {
        error_setg(errp, "Node '%s' is busy: a commit writes to it", bs->node_name);
        g_free(child);
        return NULL;
    }
    if (writable && !writer_allowed(bs, child, errp)) {
        g_free(child);
        return NULL;
    }
    bdrv_ref(bs);

    aio_context_acquire(bs->ctx);
    g_queue_push_tail_link(&bs->parents, &child->parents_link);
    bdrv_update_right_below(bs);
    for (unsigned i = 0; i < bs->quiesce; i++) { /* joins the sections that are open */
        if (blk) {
            blk_quiesce_begin(blk);
        } else {
            bdrv_quiesce_begin(parent);
        }
    }
    aio_context_release(bs->ctx);
    return child;
}

bool bdrv_child_set_writable(BdrvChild *child, bool writable, GError **errp)
{
    GLOBAL_STATE();
    if (writable && !writer_allowed(child->bs, child, errp)) {
        return false;
    }
    aio_context_acquire(child->bs->ctx);
    child->writable = writable;
    bdrv_update_right_below(child->bs);
    aio_context_release(child->bs->ctx);
    return true;
}

BlockDriverState *bdrv_detach_child(BdrvChild *child)
{
    BlockDriverState *bs = child->bs;

    GLOBAL_STATE();
    aio_context_acquire(bs->ctx);
    g_queue_unlink(&bs->parents, &child->parents_link);
    bdrv_update_right_below(bs);
    for (unsigned i = 0; i < bs->quiesce; i++) {
        if (child->blk) {
            blk_quiesce_end(child->blk);
        } else {
            bdrv_quiesce_end(child->parent);
        }
    }
    aio_context_release(bs->ctx);
    g_free(child);
    return bs;
}
