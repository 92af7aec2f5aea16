/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Disks of the machine: opens what -drive and -blockdev say, makes the devices, closes all
 * of it at the end.  Every tree of nodes is homed in an IOThread: the one that its device
 * names, else io0.  Coroutines in the main thread, while the guest does not run.
 */
#include <string.h>
#include "block/block.h"
#include "block/commit.h"
#include "block/temp-overlay.h"
#include "hw/block/virtio-blk.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-block-core.h"
#include "qapi/qapi-visit-block-core.h"
#include "qapi/qapi-visit-machine.h"
#include "qom.h"
#include "system-int.h"
#include "system/run-state.h"
#include "util/iothreads.h"

/* A -drive, or the handle of a device that names a node itself. */
typedef struct Disk {
    const DriveOptions *drive; /* NULL: from a -device or a flash bank */
    int number;                /* of those with its interface; of flash its bank */
    BlockBackend *blk;
    bool in_use;
    BlockdevOnError werror, rerror;
    VirtIOBlock *device;
} Disk;

static GPtrArray *disks;

/* --- Homes ---------------------------------------------------------------------------------- */

static bool json_mentions(json_object *value, const char *name)
{
    if (json_object_is_type(value, json_type_object)) {
        json_object_object_foreach(value, key, member)
        {
            (void)key;
            if (json_mentions(member, name)) {
                return true;
            }
        }
    } else if (json_object_is_type(value, json_type_string)) {
        return !strcmp(json_object_get_string(value), name);
    }
    return false;
}

/* Whether the tree of -blockdev root uses the -blockdev called name. */
static bool node_uses(const VmOptions *o, const char *root, const char *name, int depth)
{
    if (!strcmp(root, name)) {
        return true;
    }
    for (guint i = 0; depth < 32 && i < o->blockdevs->len; i++) {
        BlockdevOption *b = o->blockdevs->pdata[i];
        json_object *json = qapi_BlockdevOptions_to_json(b->blockdev);
        bool mentioned = strcmp(b->blockdev->node_name, name) && json_mentions(json, name);

        json_object_put(json);
        if (mentioned && node_uses(o, root, b->blockdev->node_name, depth + 1)) {
            return true;
        }
    }
    return false;
}

/* The context in which the node or drive called name must be opened. */
static AioContext *home_of(const VmOptions *o, const char *name, GError **errp)
{
    IOThread *thread;

    for (guint i = 0; name && i < o->devices->len; i++) {
        const DeviceOptions *d = ((DeviceOption *)o->devices->pdata[i])->device;
        const VirtioBlkDeviceOptions *b = &d->u.virtio_blk_device;

        if (d->driver == DEVICE_DRIVER_VIRTIO_BLK_DEVICE && b->iothread && node_uses(o, b->drive, name, 0)) {
            thread = iothreads_find(b->iothread, errp);
            return thread ? iothread_context(thread) : NULL;
        }
    }
    thread = iothreads_default(errp);
    return thread ? iothread_context(thread) : NULL;
}

/* --- Opening -------------------------------------------------------------------------------- */

static DriveInterface interface_of(const DriveOptions *d)
{
    return d->has_if ? d->q_if : DRIVE_INTERFACE_VIRTIO;
}

/* The drive of the kind that has the number; NULL if there is none. */
static Disk *find_numbered(DriveInterface interface, int64_t number)
{
    for (guint i = 0; i < disks->len; i++) {
        Disk *disk = disks->pdata[i];

        if (disk->drive && interface_of(disk->drive) == interface && disk->number == number) {
            return disk;
        }
    }
    return NULL;
}

/* The number of a drive, of flash its bank; -1 and errp if it cannot have it. */
static int choose_number(const DriveOptions *d, GError **errp)
{
    bool given = d->has_unit || d->has_index;
    int64_t number = d->has_unit ? d->unit : d->has_index ? d->index : 0;
    bool is_flash = interface_of(d) == DRIVE_INTERFACE_PFLASH;

    while (!given && find_numbered(interface_of(d), number)) {
        number++;
    }
    if (is_flash && (number < 0 || number >= VIRT_FLASH_BANKS)) {
        error_setg(errp, "the machine has %d flash banks", VIRT_FLASH_BANKS);
        return -1;
    }
    if (number < 0 || number > INT_MAX) {
        error_setg(errp, "a drive's number is between 0 and %d", INT_MAX);
        return -1;
    }
    if (find_numbered(interface_of(d), number)) {
        error_setg(errp, "drive with bus=0, unit=%d (index=%d) exists", (int)number, (int)number);
        return -1;
    }
    return number;
}

/* What -drive says about errors; false and errp if that is no policy. */
static bool parse_on_error(const char *text, const char *what, bool with_enospc,
                           BlockdevOnError *policy, GError **errp)
{
    for (int i = 0; i < BLOCKDEV_ON_ERROR_AUTO; i++) {
        if (!strcmp(text, BlockdevOnError_str(i)) &&
            (with_enospc || i != BLOCKDEV_ON_ERROR_ENOSPC)) {
            *policy = i;
            return true;
        }
    }
    error_setg(errp, "'%s' invalid %s error action", text, what);
    return false;
}

/* What -drive says about errors, else what QEMU does. */
static bool choose_on_error(Disk *disk, const DriveOptions *d, GError **errp)
{
    disk->werror = BLOCKDEV_ON_ERROR_ENOSPC;
    disk->rerror = BLOCKDEV_ON_ERROR_REPORT;
    if ((d->werror || d->rerror) && d->has_if && d->q_if == DRIVE_INTERFACE_PFLASH) {
        error_setg(errp, "%s is not supported by this bus type",
                   d->werror ? "werror" : "rerror");
        return false;
    }
    return (!d->werror || parse_on_error(d->werror, "write", true, &disk->werror, errp)) &&
           (!d->rerror || parse_on_error(d->rerror, "read", false, &disk->rerror, errp));
}

static json_object *new_text(const char *text)
{
    return json_object_new_string(text);
}

/* The object at name in tree, made if it is not there; NULL if there is something else. */
static json_object *object_in(json_object *tree, const char *name)
{
    json_object *object;

    if (!json_object_object_get_ex(tree, name, &object)) {
        object = json_object_new_object();
        json_object_object_add(tree, name, object);
    }
    return json_object_is_type(object, json_type_object) ? object : NULL;
}

/* file=NAME where more is said of the node: what the name means, but for what is said. */
static bool coroutine_fn add_file(json_object *file, const char *filename, GError **errp)
{
    g_autoptr(BlockdevOptions) meant = bdrv_co_filename_options(filename, errp);
    json_object *tree;

    if (!meant) {
        return false;
    }
    tree = qapi_BlockdevOptions_to_json(meant);
    json_object_object_foreach(tree, name, value)
    {
        if (!json_object_object_get_ex(file, name, NULL)) {
            json_object_object_add(file, name, json_object_get(value));
        }
    }
    json_object_put(tree);
    return true;
}

static bool passes_discards(const DriveOptions *d)
{
    return d->has_discard &&
           (d->discard == DRIVE_DISCARD_UNMAP || d->discard == DRIVE_DISCARD_ON);
}

/* detect-zeroes: where nothing is unmapped, "unmap" is no more than "on". */
static const char *zeroes_of(const DriveOptions *d)
{
    bool is_on = d->detect_zeroes == BLOCKDEV_DETECT_ZEROES_OPTIONS_UNMAP && !passes_discards(d);

    return BlockdevDetectZeroesOptions_str(is_on ? BLOCKDEV_DETECT_ZEROES_OPTIONS_ON
                                                 : d->detect_zeroes);
}

/* The node of a drive of which more is said than file and format, as a tree; NULL and errp. */
static json_object *coroutine_fn tree_of_drive(const DriveOptions *d, GError **errp)
{
    const char *format = d->format ? d->format : d->driver;
    json_object *tree = NULL, *file;

    if (d->node) {
        json_object_deep_copy(d->node, &tree, NULL);
    }
    tree = tree ? tree : json_object_new_object();
    if (format) {
        json_object_object_add(tree, "driver", new_text(format));
    }
    if (d->node_name) {
        json_object_object_add(tree, "node-name", new_text(d->node_name));
    }
    if (d->has_detect_zeroes) {
        json_object_object_add(tree, "detect-zeroes", new_text(zeroes_of(d)));
    }
    file = d->file || d->has_aio ? object_in(tree, "file") : tree;
    if (file && d->has_aio) {
        json_object_object_add(file, "aio", new_text(BlockdevAioOptions_str(d->aio)));
    }
    if (!file) {
        error_setg(errp, "'file' names an open node: nothing else can be said of it");
    }
    if (!file || (d->file && !add_file(file, d->file, errp))) {
        json_object_put(tree);
        return NULL;
    }
    return tree;
}

static BlockDriverState *coroutine_fn open_node(const DriveOptions *d, BdrvOpenFile *params,
                                                AioContext *ctx, GError **errp)
{
    g_autofree char *name = NULL;
    json_object *tree;

    if (d->node || d->has_aio || d->has_detect_zeroes) {
        tree = tree_of_drive(d, errp);
        if (!tree) {
            return NULL;
        }
        name = g_strconcat("json:", json_object_to_json_string(tree), NULL);
        json_object_put(tree);
        params->filename = name;
        params->format = params->node_name = NULL;
    }
    return bdrv_co_open_file_params(params, ctx, errp);
}

static bool is_cdrom(const DriveOptions *d)
{
    return d->media && !strcmp(d->media, "cdrom");
}

static bool coroutine_fn open_drive(const VmOptions *o, const DriveOptions *d, GError **errp)
{
    DriveCache cache = d->has_cache ? d->cache : DRIVE_CACHE_WRITEBACK;
    int number = choose_number(d, errp);
    g_autofree char *name =
        d->id ? g_strdup(d->id)
              : g_strdup_printf("%s%d", DriveInterface_str(interface_of(d)), number);
    AioContext *ctx = home_of(o, d->id, errp);
    BdrvOpenFile params = {
        .filename = d->file,
        .format = d->format ? d->format : d->driver,
        .read_only = (d->has_readonly && d->readonly) || (d->has_read_only && d->read_only) ||
                     is_cdrom(d),
        .direct = cache == DRIVE_CACHE_NONE || cache == DRIVE_CACHE_DIRECTSYNC,
        .no_flush = cache == DRIVE_CACHE_UNSAFE,
        .discard = passes_discards(d),
        .node_name = d->node_name,
    };
    g_autofree Disk *disk = g_new0(Disk, 1);
    BlockDriverState *bs;
    bool overlay;

    if (!ctx || number < 0 || !choose_on_error(disk, d, errp)) {
        return false;
    }
    overlay = (d->has_snapshot ? d->snapshot : o->temp_overlays) && !params.read_only;
    params.read_only |= overlay;
    bs = open_node(d, &params, ctx, errp);
    if (bs && overlay) {
        BlockDriverState *base = bs;

        bs = temp_overlay_co_open(base, ctx, errp);
        bdrv_co_unref(base);
    }
    if (!bs) {
        return false;
    }
    disk->drive = d;
    disk->number = number;
    disk->blk = blk_new(name, bs, !bdrv_is_read_only(bs), errp);
    bdrv_co_unref(bs);
    if (!disk->blk) {
        return false;
    }
    g_ptr_array_add(disks, g_steal_pointer(&disk));
    return true;
}

static bool coroutine_fn open_blockdev(const VmOptions *o, BlockdevOptions *b, GError **errp)
{
    AioContext *ctx = home_of(o, b->node_name, errp);
    GError *err = NULL;

    if (!ctx) {
        return false;
    }
    bdrv_set_default_context(ctx);
    qmp_blockdev_add(b, &err);
    if (err) {
        g_propagate_error(errp, err);
        return false;
    }
    return true;
}

bool coroutine_fn disks_co_open(const VmOptions *o, GError **errp)
{
    IOThread *thread = iothreads_default(errp);

    if (!thread) {
        return false;
    }
    disks = g_ptr_array_new_with_free_func(g_free);
    for (guint i = 0; i < o->blockdevs->len; i++) {
        BlockdevOption *b = o->blockdevs->pdata[i];

        if (!open_blockdev(o, b->blockdev, errp)) {
            g_prefix_error(errp, "%s: ", b->text);
            return false;
        }
        if (o->temp_overlays && !bdrv_is_read_only(bdrv_find_node(b->blockdev->node_name, NULL))) {
            g_printerr("%s: warning: -snapshot is for -drive: what is written to node '%s' "
                       "stays\n", g_get_prgname(), b->blockdev->node_name);
        }
    }
    for (guint i = 0; i < o->drives->len; i++) {
        DriveOption *d = o->drives->pdata[i];

        if (!open_drive(o, d->drive, errp)) {
            g_prefix_error(errp, "%s: ", d->text);
            return false;
        }
    }
    bdrv_set_default_context(iothread_context(thread));
    return true;
}

/* --- Devices -------------------------------------------------------------------------------- */

static Disk *find_drive(const char *id)
{
    for (guint i = 0; i < disks->len; i++) {
        Disk *disk = disks->pdata[i];

        if (disk->drive && disk->drive->id && !strcmp(disk->drive->id, id)) {
            return disk;
        }
    }
    return NULL;
}

/* The -drive or node that a device's property names, as a disk that nobody else uses. */
static Disk *disk_for_device(const char *device, const char *property, const char *name,
                             GError **errp)
{
    Disk *disk = find_drive(name);
    BlockDriverState *bs;

    if (disk) {
        if (disk->in_use) {
            error_setg(errp, "Drive '%s' is already in use by another block device", name);
            return NULL;
        }
        return disk;
    }
    bs = bdrv_find_node(name, NULL);
    if (!bs) {
        error_setg(errp, "Property '%s.%s' can't find value '%s'", device, property, name);
        return NULL;
    }
    disk = g_new0(Disk, 1);
    disk->werror = BLOCKDEV_ON_ERROR_ENOSPC;
    disk->blk = blk_new("", bs, !bdrv_is_read_only(bs), errp);
    if (!disk->blk) {
        g_free(disk);
        return NULL;
    }
    g_ptr_array_add(disks, disk);
    return disk;
}

static bool is_write_through(const Disk *disk, const VirtioBlkDeviceOptions *b)
{
    DriveCache cache =
        disk->drive && disk->drive->has_cache ? disk->drive->cache : DRIVE_CACHE_WRITEBACK;

    if (b && b->has_write_cache && b->write_cache != ON_OFF_AUTO_AUTO) {
        return b->write_cache == ON_OFF_AUTO_OFF;
    }
    return cache == DRIVE_CACHE_WRITETHROUGH || cache == DRIVE_CACHE_DIRECTSYNC;
}

/* What is known of a disk that only a -drive made, as -device would say it. */
static json_object *said_by_drive(const DriveOptions *d)
{
    json_object *said = json_object_new_object();

    if (d->id) {
        json_object_object_add(said, "drive", json_object_new_string(d->id));
    }
    if (d->serial) {
        json_object_object_add(said, "serial", json_object_new_string(d->serial));
    }
    return said;
}

/* device: what -device says of it, or NULL. */
static bool plug(Disk *disk, const DeviceOptions *device, VirtMachine *board,
                 VMStateRegistry *r, GError **errp)
{
    const VirtioBlkDeviceOptions *b = device ? &device->u.virtio_blk_device : NULL;
    const char *id = device ? device->id : NULL;
    const char *serial = b && b->serial        ? b->serial
                         : disk->drive         ? disk->drive->serial
                                               : NULL;
    int queue_size = b && b->has_queue_size ? b->queue_size : 256;
    int slot = qom_choose_slot("virtio-blk-device", device ? device->bus : NULL, errp);
    VirtIOBlockConfig config = {
        .blk = disk->blk,
        .serial = serial,
        .read_only = bdrv_is_read_only(blk_bs(disk->blk)),
        .write_through = is_write_through(disk, b),
        .queue_size = queue_size,
        .werror = b && b->has_werror && b->werror != BLOCKDEV_ON_ERROR_AUTO ? b->werror
                                                                            : disk->werror,
        .rerror = b && b->has_rerror && b->rerror != BLOCKDEV_ON_ERROR_AUTO ? b->rerror
                                                                            : disk->rerror,
        .io_error = run_state_request_io_error,
    };
    g_autofree char *bus = NULL;
    const char *path;

    if (slot < 0) {
        return false;
    }
    if (queue_size < 4 || queue_size > 1024 || (queue_size & (queue_size - 1))) {
        error_setg(errp, "queue-size must be a power of 2 from 4 to 1024");
        return false;
    }
    if (serial && strlen(serial) > 20) {
        error_setg(errp, "serial '%s' is longer than 20 bytes", serial);
        return false;
    }
    disk->device = virtio_blk_new(&config);
    disk->in_use = true;
    virt_plug(board, virtio_blk_vdev(disk->device), slot);
    bus = qom_bus_path(slot);
    path = qom_add_device("virtio-blk-device", id, bus,
                          b ? qapi_VirtioBlkDeviceOptions_to_json(b)
                            : said_by_drive(disk->drive));
    blk_set_device(disk->blk, id ? id : path);
    virtio_blk_register(disk->device, r, slot);
    return true;
}

static bool plug_device(const DeviceOptions *d, VirtMachine *board, VMStateRegistry *r,
                        GError **errp)
{
    const VirtioBlkDeviceOptions *b = &d->u.virtio_blk_device;
    Disk *disk = disk_for_device("virtio-blk-device", "drive", b->drive, errp);
    IOThread *thread;

    if (!disk) {
        return false;
    }
    if (b->iothread) {
        thread = iothreads_find(b->iothread, errp);
        if (!thread) {
            return false;
        }
        if (bdrv_context(blk_bs(disk->blk)) != iothread_context(thread)) {
            error_setg(errp, "drive '%s' shares nodes with one of another IOThread", b->drive);
            return false;
        }
    }
    return plug(disk, d, board, r, errp);
}

/* --- Flash ---------------------------------------------------------------------------------- */

bool disks_flash(const VmOptions *o, VirtFlash *flash, GError **errp)
{
    for (int i = 0; i < VIRT_FLASH_BANKS; i++) {
        g_autofree char *property = g_strdup_printf("pflash%d", i);
        Disk *disk = find_numbered(DRIVE_INTERFACE_PFLASH, i);

        if (o->pflash[i] && disk) {
            error_setg(errp, "-machine %s=%s: the bank has a -drive of its own", property,
                       o->pflash[i]);
            return false;
        }
        if (o->pflash[i]) {
            disk = disk_for_device("virt-machine", property, o->pflash[i], errp);
            if (!disk) {
                g_prefix_error(errp, "-machine %s=%s: ", property, o->pflash[i]);
                return false;
            }
        }
        if (disk) {
            disk->in_use = true;
            blk_set_device(disk->blk, i == 0 ? "/machine/virt.flash0" : "/machine/virt.flash1");
            blk_set_snapshot_optional(disk->blk);
            flash[i] = (VirtFlash){disk->blk, is_write_through(disk, NULL)};
        }
    }
    return true;
}

/* --- All of them ---------------------------------------------------------------------------- */

static bool device_ids_differ(const VmOptions *o, GError **errp)
{
    g_autoptr(GHashTable) ids = g_hash_table_new(g_str_hash, g_str_equal);

    for (guint i = 0; i < o->devices->len; i++) {
        char *id = ((DeviceOption *)o->devices->pdata[i])->device->id;

        if (id && !g_hash_table_add(ids, id)) {
            error_setg(errp, "Duplicate ID '%s' for device", id);
            return false;
        }
    }
    return true;
}

bool coroutine_fn disks_co_plug(const VmOptions *o, VirtMachine *board, VMStateRegistry *r,
                                GError **errp)
{
    guint drives = disks->len;

    if (!device_ids_differ(o, errp)) {
        return false;
    }
    for (guint i = 0; i < o->devices->len; i++) {
        DeviceOption *d = o->devices->pdata[i];

        /* slots are given in the order of the command line, whatever a device is */
        if ((d->device->driver == DEVICE_DRIVER_VIRTIO_BLK_DEVICE &&
             !plug_device(d->device, board, r, errp)) ||
            (d->device->driver == DEVICE_DRIVER_VIRTIO_NET_DEVICE &&
             !nics_co_plug(d->device, board, r, errp))) {
            g_prefix_error(errp, "%s: ", d->text);
            return false;
        }
    }
    for (guint i = 0; i < drives; i++) {
        Disk *disk = disks->pdata[i];
        const DriveOptions *d = disk->drive;
        bool is_virtio = d && (!d->has_if || d->q_if == DRIVE_INTERFACE_VIRTIO);

        if (is_virtio && !disk->in_use && !plug(disk, NULL, board, r, errp)) {
            g_prefix_error(errp, "-drive file=%s: ", d->file);
            return false;
        }
    }
    return true;
}

void disks_retry(void)
{
    for (guint i = 0; disks && i < disks->len; i++) {
        Disk *disk = disks->pdata[i];

        if (disk->device) {
            blk_set_io_status(disk->blk, BLOCK_DEVICE_IO_STATUS_OK);
            virtio_blk_retry(disk->device);
        }
    }
}

static void coroutine_fn save_entry(void *opaque)
{
    GError *err = NULL;

    if (!bdrv_co_commit_all(NULL, &err)) {
        g_printerr("%s: 'commit' error for 'all': %s\n", g_get_prgname(), err->message);
        g_error_free(err);
    }
}

void disks_save(void)
{
    aio_co_schedule(main_aio_context(), coroutine_create(save_entry, NULL));
}

static void coroutine_fn settle(bool flush)
{
    AioContext *here = aio_current();

    for (guint i = 0; disks && i < disks->len; i++) {
        BlockBackend *blk = ((Disk *)disks->pdata[i])->blk;
        BlockDriverState *bs = blk_bs(blk);

        if (!bs) {
            continue;
        }
        aio_co_reschedule_self(bdrv_context(bs));
        bdrv_co_drained_begin(bs);
        bdrv_drained_end(bs);
        if (flush) {
            blk_co_flush(blk); /* the guest hears of an error when it flushes itself */
        }
        aio_co_reschedule_self(here);
    }
}

void coroutine_fn disks_co_settle(void)
{
    settle(false);
}

void coroutine_fn disks_co_flush(void)
{
    settle(true);
}

void coroutine_fn disks_co_close(void)
{
    for (guint i = 0; disks && i < disks->len; i++) {
        Disk *disk = disks->pdata[i];

        if (disk->device) {
            virtio_blk_co_free(disk->device);
        }
        blk_co_free(disk->blk);
    }
    g_clear_pointer(&disks, g_ptr_array_unref);
    bdrv_co_close_all();
}
