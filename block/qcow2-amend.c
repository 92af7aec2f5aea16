/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Changing the options of an existing image: compatibility level, width of reference counts,
 * lazy reference counts, name of the data file.  The node is drained.  Each change is
 * prepared in clusters that nothing refers to and becomes valid with one write of the header,
 * so a crash leaves the image as it was before one of them or after it.
 */
#include "dirty-bitmap-int.h"
#include "qcow2.h"
#include "qapi/keyval.h"

typedef struct Amend {
    int version, refcount_bits;
    bool lazy, raw; /* raw: the external data file stays valid as a raw image */
    const char *data_file; /* NULL: as it is, "": no name in the image */
} Amend;

static bool parse_one(Amend *a, const char *name, const char *value, GError **errp)
{
    uint64_t number;

    if (!strcmp(name, "compat")) {
        bool old = !strcmp(value, "0.10") || !strcmp(value, "v2");

        if (!old && strcmp(value, "1.1") && strcmp(value, "v3")) {
            error_setg(errp, "Unknown compatibility level %s", value);
            return false;
        }
        a->version = old ? 2 : 3;
    } else if (!strcmp(name, "refcount_bits")) {
        if (!g_ascii_string_to_unsigned(value, 10, 1, 64, &number, NULL) ||
            (number & (number - 1))) {
            error_setg(errp, "Refcount width must be a power of two and may not exceed 64 bits");
            return false;
        }
        a->refcount_bits = number;
    } else if (!strcmp(name, "lazy_refcounts")) {
        if (!qapi_parse_bool(value, &a->lazy)) {
            error_setg(errp, "Parameter '%s' expects 'on' or 'off'", name);
            return false;
        }
    } else if (!strcmp(name, "backing_file") || !strcmp(name, "backing_fmt")) {
        error_setg(errp, "Cannot amend the backing file\n"
                   "You can use 'qemu-img rebase' instead.");
        return false;
    } else if (!strcmp(name, "data_file")) {
        a->data_file = value + (g_str_has_prefix(value, "file:") ? strlen("file:") : 0);
    } else if (!strcmp(name, "data_file_raw")) {
        if (!qapi_parse_bool(value, &a->raw)) {
            error_setg(errp, "Parameter '%s' expects 'on' or 'off'", name);
            return false;
        }
    } else {
        error_setg(errp, "Invalid parameter '%s'\n"
                   "This option is only supported for image creation", name);
        return false;
    }
    return true;
}

static bool has_persistent(BlockDriverState *bs)
{
    for (GList *l = bs->dirty_bitmaps.head; l; l = l->next) {
        if (((BdrvDirtyBitmap *)l->data)->persistent) {
            return true;
        }
    }
    return false;
}

static bool check_together(BlockDriverState *bs, const Amend *a, bool width_given, GError **errp)
{
    Qcow2State *s = bs->opaque;

    if (a->data_file && !s->external_data) {
        error_setg(errp, "data-file can only be set for images that use an external data file");
        return false;
    }
    if (a->data_file && strlen(a->data_file) > QCOW2_MAX_NAME) {
        error_setg(errp, "Data file name too long");
        return false;
    }
    if (a->raw && !(s->autoclear & QCOW2_AUTOCLEAR_DATA_FILE_RAW)) {
        error_setg(errp, "data-file-raw cannot be set on existing images");
        return false;
    }
    if (a->version >= 3) {
        return true;
    }
    if (a->refcount_bits != 16 && width_given) {
        error_setg(errp, "Refcount widths other than 16 bits require compatibility level 1.1 or "
                   "above (use compat=1.1 or greater)");
    } else if (a->refcount_bits != 16) {
        error_setg(errp, "compat=0.10 requires refcount_bits=16");
    } else if (a->lazy) {
        error_setg(errp, "Lazy refcounts only supported with compatibility level 1.1 and above "
                   "(use compat=1.1 or greater)");
    } else if (s->compression) {
        error_setg(errp, "compat=0.10 requires compression_type=zlib");
    } else if (s->bitmaps_count || has_persistent(bs)) {
        error_setg(errp, "compat=0.10 requires an image without bitmaps");
    } else if (s->incompatible & ~(uint64_t)QCOW2_INCOMPAT_DIRTY) {
        error_setg(errp, "The image has features that compat=0.10 does not know");
    } else {
        return true;
    }
    return false;
}

/* --- To version 2, which knows no clusters that are zero ----------------------------------- */

/* Whether an L1 table leads to an entry with the flag; 1, 0 or -errno. */
static int coroutine_fn has_zero_entries(BlockDriverState *bs, const uint64_t *l1, uint64_t size)
{
    Qcow2State *s = bs->opaque;
    int ret = 0;

    for (uint64_t i = 0; i < size && ret == 0; i++) {
        Qcow2Table *t;

        ret = qcow2_l2_load(bs, l1[i], &t);
        for (uint64_t j = 0; t && j < s->l2_entries && ret == 0; j++) {
            Qcow2Kind kind = qcow2_kind(s, qcow2_l2_get(t, j));

            ret = kind == QCOW2_ZERO_PLAIN || kind == QCOW2_ZERO_ALLOC;
        }
        qcow2_cache_put(&s->l2_cache, t);
    }
    return ret;
}

static bool coroutine_fn check_snapshots(BlockDriverState *bs, GError **errp)
{
    Qcow2State *s = bs->opaque;

    for (guint i = 0; i < s->snapshots->len; i++) {
        Qcow2Snapshot *sn = s->snapshots->pdata[i];
        g_autofree uint64_t *l1 = qcow2_snapshot_load_l1(bs, sn, errp);
        int ret = l1 ? has_zero_entries(bs, l1, sn->l1_size) : 0;

        if (!l1) {
            return false;
        }
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Could not read the tables of snapshot '%s'", sn->name);
            return false;
        }
        if (ret > 0 || sn->info.disk_size != s->disk_size) {
            error_setg(errp, "Snapshot '%s' has %s, which compat=0.10 does not know", sn->name,
                       ret > 0 ? "clusters that are zero" : "another disk size");
            return false;
        }
    }
    return true;
}

/* Turns one zero cluster into what version 2 has for it.  Lock not held. */
static int coroutine_fn expand_zero(BlockDriverState *bs, uint64_t guest)
{
    Qcow2State *s = bs->opaque;
    g_autofree uint8_t *zero = NULL;
    Qcow2Table *t;
    IOVector iov;
    int ret;

    if (bs->backing || s->backing_file) { /* else the backing file would show */
        uint64_t bytes = MIN(s->cluster_size, s->disk_size - guest);

        zero = g_malloc0(bytes);
        io_vector_init_buf(&iov, zero, bytes);
        return qcow2_write(bs, guest, bytes, &iov);
    }
    co_mutex_lock(&s->lock);
    ret = qcow2_l2_writable(bs, guest >> (s->cluster_bits + s->l2_bits), &t);
    if (ret >= 0) {
        uint64_t index = (guest >> s->cluster_bits) & (s->l2_entries - 1);

        qcow2_free_entry_later(s, qcow2_l2_get(t, index));
        qcow2_l2_set(s, t, index, 0);
        qcow2_cache_put(&s->l2_cache, t);
    }
    co_mutex_unlock(&s->lock);
    return ret;
}

static int coroutine_fn expand_all(BlockDriverState *bs, BdrvProgress *progress, void *opaque)
{
    Qcow2State *s = bs->opaque;
    uint64_t clusters = qcow2_clusters(s, s->disk_size);
    int ret = 0;

    for (uint64_t c = 0; c < clusters && ret >= 0; c++) {
        Qcow2Table *t;
        Qcow2Kind kind = QCOW2_UNALLOCATED;

        ret = qcow2_l2_load(bs, s->l1[c >> s->l2_bits], &t);
        if (ret >= 0 && t) {
            kind = qcow2_kind(s, qcow2_l2_get(t, c & (s->l2_entries - 1)));
            qcow2_cache_put(&s->l2_cache, t);
        } else {
            c |= s->l2_entries - 1;
        }
        if (kind == QCOW2_ZERO_PLAIN || kind == QCOW2_ZERO_ALLOC) {
            ret = qcow2_throttle(bs);
            ret = ret < 0 ? ret : expand_zero(bs, c << s->cluster_bits);
        }
        if (progress && (c & (s->l2_entries - 1)) == s->l2_entries - 1) {
            progress(opaque, MIN(c + 1, clusters), clusters);
            qcow2_breathe();
        }
    }
    return ret;
}

/* Flushed until nothing waits for a flush any more. */
static int coroutine_fn flush_all(BlockDriverState *bs)
{
    Qcow2State *s = bs->opaque;
    int ret = qcow2_flush_all(bs);

    while (ret >= 0 && s->frees->len) {
        ret = qcow2_flush_all(bs);
    }
    return ret;
}

/* The header as version says.  On failure it is the old one. */
static int coroutine_fn set_version(BlockDriverState *bs, int version)
{
    Qcow2State *s = bs->opaque;
    int old = s->version, ret;
    uint64_t compatible = s->compatible;

    s->version = version;
    s->compatible = version >= 3 ? compatible : 0;
    ret = qcow2_header_update(bs);
    if (ret < 0) {
        s->version = old;
        s->compatible = compatible;
    }
    return ret;
}

static bool coroutine_fn downgrade(BlockDriverState *bs, BdrvProgress *progress, void *opaque,
                                   GError **errp)
{
    Qcow2State *s = bs->opaque;
    int ret;

    if (!check_snapshots(bs, errp)) {
        return false;
    }
    ret = expand_all(bs, progress, opaque);
    ret = ret < 0 ? ret : flush_all(bs);
    if (ret >= 0 && has_zero_entries(bs, s->l1, s->l1_size)) {
        ret = -EIO; /* beyond the end of the disk, where nothing should be */
    }
    ret = ret < 0 ? ret : set_version(bs, 2);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Failed to change the compatibility level");
    }
    return ret >= 0;
}

/* --- Entry points ------------------------------------------------------------------------------ */

static int coroutine_fn set_lazy(BlockDriverState *bs, bool on)
{
    Qcow2State *s = bs->opaque;
    uint64_t old = s->compatible;
    int ret = flush_all(bs);

    if (ret < 0) {
        return ret;
    }
    co_mutex_lock(&s->flush_lock);
    s->compatible = on ? old | QCOW2_COMPAT_LAZY_REFCOUNTS
                       : old & ~(uint64_t)QCOW2_COMPAT_LAZY_REFCOUNTS;
    ret = qcow2_header_write(bs);
    ret = ret < 0 ? ret : qcow2_sync_file(bs);
    if (ret < 0) {
        s->compatible = old;
        qcow2_header_put_back(bs);
    } else {
        s->options.lazy = on;
    }
    co_mutex_unlock(&s->flush_lock);
    return ret;
}

/* Another name of the data file, and whether it stays raw.  On failure both are as before. */
static int coroutine_fn set_data_file(BlockDriverState *bs, const Amend *a)
{
    Qcow2State *s = bs->opaque;
    char *old_name = s->data_file_name;
    uint64_t old = s->autoclear;
    int ret = flush_all(bs);

    if (ret < 0) {
        return ret;
    }
    if (a->data_file) {
        s->data_file_name = *a->data_file ? g_strdup(a->data_file) : NULL;
    }
    if (!a->raw) {
        s->autoclear &= ~(uint64_t)QCOW2_AUTOCLEAR_DATA_FILE_RAW;
    }
    ret = qcow2_header_update(bs);
    if (a->data_file) {
        g_free(ret < 0 ? s->data_file_name : old_name);
    }
    if (ret < 0) {
        s->data_file_name = old_name;
        s->autoclear = old;
    }
    return ret;
}

static bool coroutine_fn apply(BlockDriverState *bs, const Amend *a, BdrvProgress *progress,
                               void *opaque, GError **errp)
{
    Qcow2State *s = bs->opaque;
    int order = __builtin_ctz(a->refcount_bits), ret = 0;

    if (a->version > s->version) {
        ret = flush_all(bs);
        ret = ret < 0 ? ret : set_version(bs, a->version);
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Failed to change the compatibility level");
            return false;
        }
    }
    if (order != s->refcount_order &&
        !qcow2_change_refcount_order(bs, order, progress, opaque, errp)) {
        return false;
    }
    if (a->lazy != !!(s->compatible & QCOW2_COMPAT_LAZY_REFCOUNTS)) {
        ret = set_lazy(bs, a->lazy);
    }
    if (ret >= 0 &&
        (a->data_file || a->raw != !!(s->autoclear & QCOW2_AUTOCLEAR_DATA_FILE_RAW))) {
        ret = set_data_file(bs, a);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Failed to update the image header");
        return false;
    }
    return a->version == s->version || downgrade(bs, progress, opaque, errp);
}

bool coroutine_fn qcow2_co_amend(BlockDriverState *bs, GHashTable *options, bool force,
                                 BdrvProgress *progress, void *opaque, GError **errp)
{
    Qcow2State *s = bs->opaque;
    Amend a = {
        .version = s->version,
        .refcount_bits = 1 << s->refcount_order,
        .lazy = s->compatible & QCOW2_COMPAT_LAZY_REFCOUNTS,
        .raw = s->autoclear & QCOW2_AUTOCLEAR_DATA_FILE_RAW,
    };
    GHashTableIter iter;
    gpointer name, value;
    bool ok;

    if (s->save) {
        error_setg(errp, "Can't amend an image while a snapshot is being taken");
        return false;
    }
    if (s->corrupt || s->broken) {
        error_setg(errp, "The image is damaged");
        return false;
    }
    g_hash_table_iter_init(&iter, options);
    while (g_hash_table_iter_next(&iter, &name, &value)) {
        if (!parse_one(&a, name, value, errp)) {
            return false;
        }
    }
    if (a.version < s->version && !g_hash_table_contains(options, "lazy_refcounts")) {
        a.lazy = false;
    }
    if (!check_together(bs, &a, g_hash_table_contains(options, "refcount_bits"), errp)) {
        return false;
    }
    while (s->background) {
        co_queue_wait(&s->pin_queue, NULL);
    }
    co_mutex_lock(&s->walk_lock);
    ok = apply(bs, &a, progress, opaque, errp);
    co_mutex_unlock(&s->walk_lock);
    return ok;
}
