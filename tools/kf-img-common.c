/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the subcommands of kf-img share: options, numbers, opening images. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "kf-img-options.h"
#include "qapi/error.h"
#include "qapi/keyval.h"

int img_common_option(int c, char **argv, BdrvOpenFile *params)
{
    switch (c) {
    case 'f':
        params->format = optarg;
        return -1;
    case 'U':
        params->force_share = true;
        return -1;
    case IMG_OPTION_IMAGE_OPTS:
        params->is_options = true;
        return -1;
    case IMG_OPTION_OBJECT:
        img_error("--object is not supported: no format and no protocol here uses secrets or other "
                  "objects (there is no encryption)");
        return 1;
    default:
        return img_bad_option(c, argv);
    }
}

bool img_check_open_options(const BdrvOpenFile *params)
{
    if (params->is_options && params->format) {
        img_error("--image-opts and --format are mutually exclusive");
        return false;
    }
    return true;
}

BlockDriverState *coroutine_fn img_open(const BdrvOpenFile *params)
{
    GError *err = NULL;
    BlockDriverState *bs = bdrv_co_open_file_params(params, main_aio_context(), &err);

    if (!bs) {
        g_autofree char *prefix = g_strdup_printf("Could not open '%s': ", params->filename);
        img_report(err, prefix);
    }
    return bs;
}

BlockBackend *img_backend(BlockDriverState *bs, bool writable)
{
    GError *err = NULL;
    BlockBackend *blk = blk_new("", bs, writable, &err);

    if (!blk) {
        img_report(err, "");
    }
    return blk;
}

bool coroutine_fn img_check_new_name(const char *filename)
{
    GError *err = NULL;
    g_autofree char *path = bdrv_co_new_file_path(filename, &err);

    if (!path) {
        img_report(err, "");
    }
    return path != NULL;
}

const BlockDriver *img_format(const char *name)
{
    const BlockDriver *drv = bdrv_driver_by_name(name);

    if (!drv) {
        img_error("Unknown file format '%s'", name);
    }
    return drv;
}

bool img_parse_cache(const char *mode, BdrvOpenFile *params)
{
    static const struct {
        const char *name;
        bool direct, no_flush;
    } modes[] = {
        { "none", true, false },         { "off", true, false },
        { "directsync", true, false },   { "writeback", false, false },
        { "writethrough", false, false }, { "unsafe", false, true },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(modes); i++) {
        if (!strcmp(modes[i].name, mode)) {
            params->direct = modes[i].direct;
            params->no_flush = modes[i].no_flush;
            return true;
        }
    }
    return false;
}

bool img_parse_output(const char *text, bool *json)
{
    *json = !strcmp(text, "json");
    if (!*json && strcmp(text, "human")) {
        img_error("--output must be used with human or json as argument.");
        return false;
    }
    return true;
}

/* Whether text is a number with a suffix that is too large for qapi_parse_size(). */
static bool is_huge(const char *text)
{
    static const char suffixes[] = "bkmgtpe";
    char *end;
    double value = g_ascii_strtod(text, &end);
    const char *suffix = *end ? strchr(suffixes, g_ascii_tolower(*end)) : suffixes;

    return end != text && suffix && (!*end || !end[1]) &&
           value * (double)(1ULL << 10 * (suffix - suffixes)) >= 9.2e18;
}

bool img_parse_number(const char *what, const char *text, int64_t min, int64_t max,
                      int64_t *value)
{
    uint64_t number;

    text += strspn(text, " \t");
    if (!qapi_parse_size(text, &number)) {
        if (!is_huge(text)) {
            img_error("Invalid %s specified. You may use k, M, G, T, P or E suffixes for", what);
            img_error("kilobytes, megabytes, gigabytes, terabytes, petabytes and exabytes.");
            return false;
        }
        number = UINT64_MAX;
    }
    if (number > (uint64_t)max || number < (uint64_t)min) {
        img_error("Invalid %s specified. Must be between %" PRId64 " and %" PRId64 ".", what, min,
                  max);
        return false;
    }
    *value = number;
    return true;
}

/* --- A snapshot as source ----------------------------------------------------------------- */

/* The parts of "snapshot.id=ID,snapshot.name=NAME", or the whole as either. */
typedef struct SnapshotParam {
    char *id, *name, *either;
} SnapshotParam;

static void snapshot_param_clear(SnapshotParam *p)
{
    g_free(p->id);
    g_free(p->name);
    g_free(p->either);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(SnapshotParam, snapshot_param_clear)

static bool parse_snapshot_param(const char *param, SnapshotParam *p)
{
    g_autoptr(GHashTable) table = NULL;
    GHashTableIter iter;
    gpointer key;

    if (!g_str_has_prefix(param, "snapshot.")) {
        p->either = g_strdup(param);
        return true;
    }
    table = img_options_new();
    if (!img_parse_options(param, table)) {
        return false;
    }
    g_hash_table_iter_init(&iter, table);
    while (g_hash_table_iter_next(&iter, &key, NULL)) {
        if (strcmp(key, "snapshot.id") && strcmp(key, "snapshot.name")) {
            img_error("Invalid parameter '%s'", (char *)key);
            img_error("Failed in parsing snapshot param '%s'", param);
            return false;
        }
    }
    p->id = g_strdup(g_hash_table_lookup(table, "snapshot.id"));
    p->name = g_strdup(g_hash_table_lookup(table, "snapshot.name"));
    return true;
}

bool img_check_snapshot_param(const char *param)
{
    g_auto(SnapshotParam) p = { 0 };

    return parse_snapshot_param(param, &p);
}

static bool is_wanted(const BdrvSnapshotInfo *info, const SnapshotParam *p)
{
    return (!p->id || !strcmp(info->id, p->id)) && (!p->name || !strcmp(info->name, p->name));
}

/* The id of the snapshot that is meant, or NULL. */
static char *coroutine_fn find_snapshot(BlockDriverState *bs, const SnapshotParam *p,
                                        GError **errp)
{
    int n;
    g_autofree BdrvSnapshotInfo *list = NULL;

    if (p->either) {
        return img_find_snapshot(bs, p->either, errp);
    }
    list = bdrv_co_snapshot_list(bs, &n, errp);
    for (int i = 0; i < n; i++) {
        if (is_wanted(&list[i], p)) {
            return g_strdup(list[i].id);
        }
    }
    return NULL;
}

char *coroutine_fn img_find_snapshot(BlockDriverState *bs, const char *id_or_name, GError **errp)
{
    BdrvSnapshotInfo info;
    int n = 0;
    g_autofree BdrvSnapshotInfo *list = bdrv_co_snapshot_list(bs, &n, errp);

    for (int i = 0; i < n; i++) {
        if (!strcmp(list[i].id, id_or_name)) {
            return g_strdup(id_or_name);
        }
    }
    return list && bdrv_co_snapshot_find_name(bs, id_or_name, &info, errp) ? g_strdup(info.id)
                                                                            : NULL;
}

bool coroutine_fn img_show_snapshot(BlockDriverState *bs, const char *param)
{
    g_auto(SnapshotParam) p = { 0 };
    g_autofree char *id = NULL;
    GError *err = NULL;

    if (!parse_snapshot_param(param, &p)) {
        return false;
    }
    if (!bs->drv->snapshot) {
        img_error("Failed to load snapshot: Block format '%s' used by device '' does not support "
                  "temporarily loading internal snapshots", bdrv_driver_name(bs));
        return false;
    }
    id = find_snapshot(bs, &p, &err);
    if (!id && !err) {
        error_setg(&err, "Can't find snapshot");
    }
    if (!id || !bdrv_co_snapshot_show(bs, id, &err)) {
        img_report(err, "Failed to load snapshot: ");
        return false;
    }
    return true;
}
