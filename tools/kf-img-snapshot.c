/* SPDX-License-Identifier: GPL-2.0-or-later */
/* kf-img snapshot: lists, takes, applies and deletes internal snapshots. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include "block/qapi-format.h"
#include "kf-img-int.h"
#include "qapi/error.h"

static int coroutine_fn list_snapshots(BlockDriverState *bs)
{
    GError *err = NULL;
    g_autoptr(ImageInfo) info = bdrv_co_image_info(bs, false, &err);
    GString *text;

    if (!info) {
        img_report(err, "");
        return 1;
    }
    if (info->snapshots) {
        text = g_string_new("Snapshot list:\n");
        bdrv_format_snapshot_header(text);
        for (SnapshotInfoList *l = info->snapshots; l; l = l->next) {
            bdrv_format_snapshot_row(text, l->value);
        }
        fputs(text->str, stdout);
        g_string_free(text, true);
    }
    return 0;
}

static int failed(const char *action, const char *name, GError *err)
{
    g_autofree char *prefix = g_strdup_printf("Could not %s snapshot '%s': ", action, name);

    img_report(err, prefix);
    return 1;
}

static int coroutine_fn take_snapshot(BlockDriverState *bs, const char *name)
{
    BdrvSnapshotInfo info = { .disk_size = bdrv_length(bs) };
    BdrvSnapshotSave *save;
    struct timeval now;
    GError *err = NULL;
    bool ok;

    if (!bs->drv->snapshot || bs->data_file) {
        img_error("Could not create snapshot '%s': %d (%s)", name, -ENOTSUP, strerror(ENOTSUP));
        return 1;
    }
    gettimeofday(&now, NULL);
    info.date_sec = now.tv_sec;
    info.date_nsec = now.tv_usec * 1000;
    g_strlcpy(info.name, name, sizeof(info.name));
    save = bdrv_co_snapshot_prepare(bs, &info, 0, &err);
    if (!save) {
        return failed("create", name, err);
    }
    bdrv_co_drained_begin(bs);
    ok = bdrv_co_snapshot_freeze(save, &err);
    bdrv_drained_end(bs);
    if (!ok || !bdrv_co_snapshot_publish(save, &info, &err)) {
        bdrv_co_snapshot_abort(save);
        return failed("create", name, err);
    }
    bdrv_co_snapshot_done(save);
    return 0;
}

static int coroutine_fn apply_snapshot(BlockDriverState *bs, const char *name)
{
    g_autofree char *id = NULL;
    BdrvSnapshotGoto *g;
    GError *err = NULL;
    bool ok;

    if (!bs->drv->snapshot) {
        img_error("Could not apply snapshot '%s': Block driver does not support snapshots", name);
        return 1;
    }
    id = img_find_snapshot(bs, name, &err);
    if (!id) {
        if (!err) {
            error_setg_errno(&err, ENOENT, "Failed to load snapshot");
        }
        return failed("apply", name, err);
    }
    g = bdrv_co_snapshot_goto_prepare_id(bs, id, &err);
    if (!g) {
        return failed("apply", name, err);
    }
    bdrv_co_drained_begin(bs);
    ok = bdrv_co_snapshot_goto_switch(g, &err);
    bdrv_drained_end(bs);
    ok = ok && bdrv_co_snapshot_goto_commit(g, &err);
    bdrv_co_snapshot_goto_end(g, !ok);
    return ok ? 0 : failed("apply", name, err);
}

static int coroutine_fn delete_snapshot(BlockDriverState *bs, const char *name)
{
    BdrvSnapshotInfo info;
    GError *err = NULL;

    /* By name only, as in qemu-img: an id that was meant for another command deletes nothing. */
    if (!bs->drv->snapshot || !bdrv_co_snapshot_find_name(bs, name, &info, &err)) {
        if (!err) {
            error_setg(&err, "snapshot not found");
        }
        return failed("delete", name, err);
    }
    return bdrv_co_snapshot_delete_id(bs, info.id, &err) ? 0 : failed("delete", name, err);
}

int coroutine_fn img_snapshot(int argc, char **argv)
{
    static const struct option options[] = {
        IMG_COMMON_OPTIONS,
        { "quiet", no_argument, NULL, 'q' },
        { "force-share", no_argument, NULL, 'U' },
        { 0 },
    };
    BdrvOpenFile params = { .discard = true };
    const char *name = NULL;
    BlockDriverState *bs;
    int c, action = 0, ret = -1;

    while (ret < 0 && (c = getopt_long(argc, argv, ":hla:c:d:qU", options, NULL)) != -1) {
        switch (c) {
        case 'l':
        case 'a':
        case 'c':
        case 'd':
            if (action) {
                return img_usage_error("Cannot mix '-l', '-a', '-c', '-d'");
            }
            action = c;
            name = optarg;
            break;
        case 'q':
            break; /* there is nothing to keep quiet about */
        default:
            ret = img_common_option(c, argv, &params);
        }
    }
    if (ret >= 0) {
        return ret;
    }
    ret = 0;
    if (optind != argc - 1) {
        return img_usage_error("Expecting one image file name");
    }
    params.filename = argv[optind];
    params.read_only = !action || action == 'l';
    bs = img_open(&params);
    if (!bs) {
        return 1;
    }
    switch (action) {
    case 'l':
        ret = list_snapshots(bs);
        break;
    case 'c':
        ret = take_snapshot(bs, name);
        break;
    case 'a':
        ret = apply_snapshot(bs, name);
        break;
    case 'd':
        ret = delete_snapshot(bs, name);
        break;
    }
    bdrv_co_unref(bs);
    return ret;
}
