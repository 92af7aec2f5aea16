/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Nodes: names, references, opening from BlockdevOptions and closing.  The graph belongs
 * to the main thread; a driver's co_open and co_close run in the node's home context, to
 * which the calling coroutine hops and comes back.
 */
#include <string.h>
#include "block/active.h"
#include "block/dirty-bitmap.h"
#include "block/trace.h"
#include "graph-int.h"
#include "qapi/error.h"

#define NODE_NAME_MAX 31
#define MAX_DEPTH 100 /* of nodes opened below nodes: each is a call of the next */

/* In order of creation, children before parents; a node is in it once it has its final
 * name.  Main thread. */
static GQueue nodes = G_QUEUE_INIT;
static AioContext *default_context;
static unsigned generated_names;

void bdrv_init(void)
{
    GLOBAL_STATE();
    g_assert(g_queue_is_empty(&nodes));
}

void bdrv_set_default_context(AioContext *ctx)
{
    GLOBAL_STATE();
    default_context = ctx;
}

AioContext *bdrv_default_context(void)
{
    GLOBAL_STATE();
    return default_context ? default_context : main_aio_context();
}

/* --- Names ------------------------------------------------------------------------------ */

static bool name_well_formed(const char *name)
{
    if (!g_ascii_isalpha(*name)) {
        return false;
    }
    while (*name && (g_ascii_isalnum(*name) || strchr("-._", *name))) {
        name++;
    }
    return !*name;
}

static BlockDriverState *lookup(const char *name, bool opening_too)
{
    for (GList *l = nodes.head; l; l = l->next) {
        BlockDriverState *bs = l->data;
        if ((opening_too || !bs->opening) && !strcmp(bs->node_name, name)) {
            return bs;
        }
    }
    return NULL;
}

static bool check_new_name(const char *name, GError **errp)
{
    if (!name_well_formed(name)) {
        error_setg(errp, "Invalid node-name: '%s'", name);
        return false;
    }
    if (blk_by_name(name)) {
        error_setg(errp, "node-name=%s is conflicting with a device id", name);
        return false;
    }
    if (lookup(name, true)) {
        error_setg(errp, "Duplicate nodes with node-name='%s'", name);
        return false;
    }
    if (strlen(name) > NODE_NAME_MAX) {
        error_setg(errp, "Node name too long");
        return false;
    }
    return true;
}

BlockDriverState *bdrv_find_node(const char *node_name, GError **errp)
{
    BlockDriverState *bs;

    GLOBAL_STATE();
    bs = lookup(node_name, false);
    if (!bs) {
        error_setg(errp, "Cannot find device='%s' nor node-name='%s'", node_name,
                   node_name);
    }
    return bs;
}

BlockDriverState *bdrv_lookup(const char *device, const char *node_name, GError **errp)
{
    BlockBackend *blk = device ? blk_by_name(device) : NULL;
    BlockDriverState *bs = blk ? blk_bs(blk) : node_name ? lookup(node_name, false) : NULL;

    GLOBAL_STATE();
    if (!bs) {
        error_setg(errp, "Cannot find device='%s' nor node-name='%s'", device ? device : "",
                   node_name ? node_name : "");
    }
    return bs;
}

BlockDriverState *bdrv_next_node(BlockDriverState *prev)
{
    GList *l;

    GLOBAL_STATE();
    l = prev ? g_queue_find(&nodes, prev)->next : nodes.head;
    while (l && ((BlockDriverState *)l->data)->opening) {
        l = l->next;
    }
    return l ? l->data : NULL;
}

/* --- What everybody may ask ------------------------------------------------------------- */

const char *bdrv_node_name(BlockDriverState *bs)
{
    return bs->node_name;
}

const char *bdrv_driver_name(BlockDriverState *bs)
{
    return bs->drv->name;
}

const char *bdrv_filename(BlockDriverState *bs)
{
    return bs->filename ? bs->filename : "";
}

AioContext *bdrv_context(BlockDriverState *bs)
{
    return bs->ctx;
}

bool bdrv_is_read_only(BlockDriverState *bs)
{
    return bs->read_only;
}

int64_t bdrv_length(BlockDriverState *bs)
{
    return __atomic_load_n(&bs->length, __ATOMIC_RELAXED);
}

BlockDriverState *bdrv_file(BlockDriverState *bs)
{
    return bs->file ? bs->file->bs : NULL;
}

BlockDriverState *bdrv_backing(BlockDriverState *bs)
{
    return bs->backing ? bs->backing->bs : NULL;
}

bool bdrv_is_below(BlockDriverState *bs, BlockDriverState *above)
{
    for (; above; above = bdrv_backing(above)) {
        if (above == bs) {
            return true;
        }
    }
    return false;
}

/* --- Life -------------------------------------------------------------------------------- */

static BlockDriverState *node_new(const BlockDriver *drv, AioContext *ctx)
{
    BlockDriverState *bs = g_new0(BlockDriverState, 1);

    bs->drv = drv;
    bs->opaque = g_malloc0(MAX(drv->instance_size, 1));
    bs->ctx = aio_context_ref(ctx);
    bs->refcount = 1;
    bs->request_alignment = 1;
    bs->opening = true;
    co_queue_init(&bs->drain_queue);
    co_queue_init(&bs->quiesce_queue);
    return bs;
}

/* Takes the node out of the graph and frees it; it is closed, or never was open. */
static void coroutine_fn node_free(BlockDriverState *bs)
{
    BdrvChild *children[] = { bs->file, bs->data_file, bs->backing };

    g_assert(g_queue_is_empty(&bs->parents));
    g_assert(g_queue_is_empty(&bs->before_write));
    bdrv_dirty_bitmaps_free_all(bs);
    bs->file = bs->data_file = bs->backing = NULL;
    for (size_t i = 0; i < G_N_ELEMENTS(children); i++) {
        if (children[i]) {
            bdrv_co_unref(bdrv_detach_child(children[i]));
        }
    }
    g_queue_remove(&nodes, bs);
    co_queue_destroy(&bs->drain_queue);
    co_queue_destroy(&bs->quiesce_queue);
    aio_context_unref(bs->ctx);
    g_free(bs->opaque);
    g_free(bs->node_name);
    g_free(bs->filename);
    g_free(bs);
}

BlockDriverState *bdrv_ref(BlockDriverState *bs)
{
    GLOBAL_STATE();
    bs->refcount++;
    return bs;
}

void coroutine_fn bdrv_co_unref(BlockDriverState *bs)
{
    GLOBAL_STATE();
    if (!bs || --bs->refcount > 0) {
        return;
    }
    bs->opening = true; /* hidden, the name stays taken until all is closed */
    bdrv_co_move_to(bs->ctx);
    bdrv_co_drained_begin(bs);
    if (!bs->read_only && !bs->inactive) {
        /* Nobody is left to hear of an error; a driver notes in the image what matters. */
        if (bs->drv->co_flush) {
            bs->drv->co_flush(bs);
        } else if (bs->file) {
            bdrv_co_flush(bs->file->bs);
        }
    }
    if (bs->drv->co_close) {
        bs->drv->co_close(bs);
    }
    bdrv_co_move_to(main_aio_context());
    node_free(bs);
}

void coroutine_fn bdrv_co_close_all(void)
{
    GList *l;

    GLOBAL_STATE();
    do {
        for (l = nodes.head; l; l = l->next) {
            BlockDriverState *bs = l->data;
            if (bs->user_owned && !bs->opening && bs->refcount == 1) {
                bs->user_owned = false;
                bdrv_co_unref(bs);
                break; /* the list has changed */
            }
        }
    } while (l);
}

/* --- Opening ------------------------------------------------------------------------------ */

/* The nodes below: what the options of each driver call them. */
static const BlockdevRef *file_ref(const BlockdevOptions *o)
{
    switch (o->driver) {
    case BLOCKDEV_DRIVER_RAW:
        return o->u.raw.file;
    case BLOCKDEV_DRIVER_QCOW2:
        return o->u.qcow2.file;
    case BLOCKDEV_DRIVER_VDI:
        return o->u.vdi.file;
    case BLOCKDEV_DRIVER_VHDX:
        return o->u.vhdx.file;
    case BLOCKDEV_DRIVER_VMDK:
        return o->u.vmdk.file;
    case BLOCKDEV_DRIVER_BLKDEBUG:
        return o->u.blkdebug.image;
    case BLOCKDEV_DRIVER_BLKLOGWRITES:
        return o->u.blklogwrites.file;
    case BLOCKDEV_DRIVER_BLKVERIFY:
        return o->u.blkverify.raw;
    case BLOCKDEV_DRIVER_COPY_ON_READ:
        return o->u.copy_on_read.file;
    default:
        return NULL;
    }
}

static const BlockdevRefOrNull *backing_ref(const BlockdevOptions *o)
{
    return o->driver == BLOCKDEV_DRIVER_QCOW2  ? o->u.qcow2.backing
           : o->driver == BLOCKDEV_DRIVER_VMDK ? o->u.vmdk.backing
                                               : NULL;
}

static const BlockdevRef *data_file_ref(const BlockdevOptions *o)
{
    switch (o->driver) {
    case BLOCKDEV_DRIVER_QCOW2:
        return o->u.qcow2.data_file;
    case BLOCKDEV_DRIVER_BLKLOGWRITES:
        return o->u.blklogwrites.log;
    case BLOCKDEV_DRIVER_BLKVERIFY:
        return o->u.blkverify.test;
    default:
        return NULL;
    }
}

/* Where a tree lives that refers to nodes which are open already. */
static BlockDriverState *first_reference(const BlockdevOptions *o, GError **errp)
{
    const BlockdevRef *file = file_ref(o);

    if (!file) {
        return NULL;
    }
    if (file->type == QTYPE_QSTRING) {
        return bdrv_find_node(file->u.reference, errp);
    }
    return first_reference(&file->u.definition, errp);
}

/* A new reference to the child node that is named or described. */
static BlockDriverState *coroutine_fn open_child(const char *reference,
                                                 const BlockdevOptions *definition,
                                                 const BdrvInherit *inherit, AioContext *ctx,
                                                 GError **errp)
{
    BlockDriverState *bs;

    if (!reference) {
        return bdrv_co_open_node(definition, inherit, ctx, errp);
    }
    bs = bdrv_find_node(reference, errp);
    if (!bs) {
        return NULL;
    }
    if (bs->ctx != ctx) {
        error_setg(errp, "Node '%s' lives in another thread than the nodes it is to be used with",
                   reference);
        return NULL;
    }
    return bdrv_ref(bs);
}

static bool coroutine_fn attach(BlockDriverState *parent, BlockDriverState *bs,
                                BdrvChildRole role, BdrvChild **slot, GError **errp)
{
    bool writable = role != BDRV_CHILD_BACKING && !parent->read_only &&
                    !parent->drv->writes_for_parents;

    *slot = bdrv_attach_child(bs, parent, NULL, role, writable, errp);
    bdrv_co_unref(bs); /* the edge has its own reference */
    return *slot != NULL;
}

static BlockDriverState *coroutine_fn open_ref(const BlockdevRef *ref, const BdrvInherit *below,
                                               AioContext *ctx, GError **errp)
{
    bool named = ref->type == QTYPE_QSTRING;

    return open_child(named ? ref->u.reference : NULL, &ref->u.definition, below, ctx, errp);
}

/* bs->file, and bs->data_file where the options have one. */
static bool coroutine_fn open_file_child(BlockDriverState *bs, const BlockdevOptions *o,
                                         const BdrvInherit *inherit, GError **errp)
{
    const BlockdevRef *ref = file_ref(o), *data_ref = data_file_ref(o);
    BdrvInherit below = {
        .read_only = bs->read_only,
        .direct = bs->cache_direct,
        .no_flush = bs->cache_no_flush,
        .threads = bs->aio_threads,
        .force_share = bs->force_share,
        .discard = true,
        .auto_read_only = o->has_auto_read_only && o->auto_read_only,
        .by_image = inherit->by_image,
        .depth = bs->depth + 1,
    };
    BlockDriverState *file, *data;

    if (inherit->file) {
        file = bdrv_ref(inherit->file);
    } else if (!ref) {
        return true;
    } else {
        file = open_ref(ref, &below, bs->ctx, errp);
    }
    if (!file) {
        return false;
    }
    if (below.auto_read_only && file->read_only) {
        bs->read_only = true;
    }
    if (!attach(bs, file, BDRV_CHILD_FILE, &bs->file, errp)) {
        return false;
    }
    below.read_only = bs->read_only;
    data = inherit->data ? bdrv_ref(inherit->data)
           : data_ref    ? open_ref(data_ref, &below, bs->ctx, errp)
                         : NULL;
    return (!data_ref && !inherit->data) || (data && attach(bs, data, BDRV_CHILD_DATA, &bs->data_file, errp));
}

static bool coroutine_fn open_backing_child(BlockDriverState *bs, const BlockdevOptions *o,
                                            const BdrvInherit *inherit, GError **errp)
{
    const BlockdevRefOrNull *ref = backing_ref(o);
    BdrvInherit below = {
        .read_only = bs->writable_backing != 1,
        .discard = bs->writable_backing == 1,
        .writable_backing = MAX(bs->writable_backing - 1, 0),
        .direct = bs->cache_direct,
        .no_flush = bs->cache_no_flush,
        .threads = bs->aio_threads,
        .force_share = bs->force_share,
        .by_image = inherit->by_image,
        .depth = bs->depth + 1,
    };
    BlockDriverState *backing;

    if (!ref) {
        return true;
    }
    if (ref->type == QTYPE_QNULL ||
        (ref->type == QTYPE_QSTRING && !*ref->u.reference)) {
        bs->no_backing = true;
        return true;
    }
    backing = open_child(ref->type == QTYPE_QSTRING ? ref->u.reference : NULL,
                         &ref->u.definition, &below, bs->ctx, errp);
    return backing && attach(bs, backing, BDRV_CHILD_BACKING, &bs->backing, errp);
}

/* The members that all drivers share. */
static bool apply_common_options(BlockDriverState *bs, const BlockdevOptions *o,
                                 const BdrvInherit *inherit, GError **errp)
{
    BlockdevCacheOptions *cache = o->cache;

    bs->read_only = o->has_read_only && !inherit->by_image ? o->read_only : inherit->read_only;
    bs->cache_direct = cache && cache->has_direct ? cache->direct : inherit->direct;
    bs->cache_no_flush = cache && cache->has_no_flush ? cache->no_flush : inherit->no_flush;
    bs->aio_threads = inherit->threads;
    bs->force_share = o->has_force_share ? o->force_share : inherit->force_share;
    bs->discard_unmap = o->has_discard ? o->discard == BLOCKDEV_DISCARD_OPTIONS_UNMAP
                                       : inherit->discard;
    bs->detect_zeroes = o->has_detect_zeroes ? o->detect_zeroes
                                             : BLOCKDEV_DETECT_ZEROES_OPTIONS_OFF;
    bs->no_backing = inherit->no_backing;
    bs->no_io = inherit->no_io;
    bs->for_check = inherit->for_check;
    bs->for_repair = inherit->for_repair;
    bs->probed = inherit->probed;
    bs->overlay = inherit->overlay;
    bs->depth = inherit->depth;
    bs->by_image = inherit->by_image;
    bs->writable_backing = inherit->writable_backing;
    if (bs->drv->only_reads && !bs->read_only) {
        if (!(o->has_auto_read_only ? o->auto_read_only : inherit->auto_read_only)) {
            error_setg(errp, "Images of format '%s' cannot be written, only opened with "
                       "read-only=on", bs->drv->name);
            return false;
        }
        bs->read_only = true;
    }
    if (bs->detect_zeroes == BLOCKDEV_DETECT_ZEROES_OPTIONS_UNMAP && !bs->discard_unmap) {
        error_setg(errp, "setting detect-zeroes to unmap is not allowed without setting "
                   "discard operation to unmap");
        return false;
    }
    if (bs->force_share && !bs->read_only) {
        error_setg(errp, "force-share=on can only be used with read-only images");
        return false;
    }
    return true;
}

/* The node's own turn, in its home context; below it everything is open. */
static bool coroutine_fn open_in_home(BlockDriverState *bs, const BlockdevOptions *o,
                                      bool exclusive, GError **errp)
{
    BlockDriverState *file = bdrv_file(bs);
    BlockDriverState *protocol = file;
    bool ok = true;

    while (protocol && protocol->file) {
        protocol = bdrv_file(protocol);
    }
    bdrv_co_move_to(bs->ctx);
    if (protocol && bs->drv->is_format && (exclusive || !bs->drv->writes_for_parents) &&
        protocol->drv->co_lock_for_format) {
        ok = protocol->drv->co_lock_for_format(protocol, errp);
    }
    if (file && bs->drv->is_filter) {
        bdrv_set_length(bs, file->length);
    }
    ok = ok && (!bs->drv->co_open || bs->drv->co_open(bs, o, errp));
    if (ok && !bs->filename && file) {
        bs->filename = g_strdup(bdrv_filename(file));
    }
    bdrv_co_move_to(main_aio_context());
    return ok;
}

bool bdrv_check_driver_by_image(BlockdevDriver driver, const BdrvInherit *inherit, GError **errp)
{
    if (inherit->by_image && driver == BLOCKDEV_DRIVER_BLKVERIFY) {
        error_setg(errp, "Driver 'blkverify' may end the program: it is for users to name, and "
                   "not for images");
        return false;
    }
    return true;
}

BlockDriverState *coroutine_fn bdrv_co_open_node(const BlockdevOptions *options,
                                                 const BdrvInherit *inherit, AioContext *ctx,
                                                 GError **errp)
{
    const char *driver = BlockdevDriver_str(options->driver);
    const BlockDriver *drv = bdrv_driver_by_name(driver);
    BlockDriverState *bs;

    GLOBAL_STATE();
    if (!drv) {
        error_setg(errp, "Driver '%s' is not built into this program", driver);
        return NULL;
    }
    if (inherit->depth > MAX_DEPTH) {
        error_setg(errp, "Block nodes are nested more than %d deep", MAX_DEPTH);
        return NULL;
    }
    if (!bdrv_check_driver_by_image(options->driver, inherit, errp)) {
        return NULL;
    }
    bs = node_new(drv, ctx);
    bs->node_name = g_strdup_printf("#block%03u", generated_names++);
    if (!apply_common_options(bs, options, inherit, errp) ||
        !open_file_child(bs, options, inherit, errp) ||
        !open_backing_child(bs, options, inherit, errp)) {
        node_free(bs);
        return NULL;
    }
    bs->inactive = bdrv_opens_inactive() && !bs->read_only;
    if (options->node_name) {
        if (!check_new_name(options->node_name, errp)) {
            node_free(bs);
            return NULL;
        }
        g_free(bs->node_name);
        bs->node_name = g_strdup(options->node_name);
    }
    g_queue_push_tail(&nodes, bs);
    if (!open_in_home(bs, options, inherit->exclusive, errp)) {
        node_free(bs);
        return NULL;
    }
    bs->opening = false;
    bs->overlay = NULL;
    trace_bdrv_co_open(bs->drv->name, bs->node_name, bs);
    return bs;
}

BlockDriverState *coroutine_fn bdrv_co_open(const BlockdevOptions *options, AioContext *ctx,
                                            GError **errp)
{
    BdrvInherit inherit = { .is_root = true };
    GError *err = NULL;
    BlockDriverState *below = first_reference(options, &err);

    GLOBAL_STATE();
    if (err) {
        g_propagate_error(errp, err);
        return NULL;
    }
    return bdrv_co_open_node(options, &inherit, below ? below->ctx : ctx, errp);
}
