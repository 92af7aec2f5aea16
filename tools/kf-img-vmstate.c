/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kf-img vmstate: a snapshot's machine state as files, mounted, listed or copied to standard
 * output.  The image lives in an IOThread, so that a mount is served while the main thread
 * waits for its end.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>
#include "block/export.h"
#include "kf-img-int.h"
#include "migration/vmstate-fs.h"
#include "qapi/error.h"
#include "util/daemonize.h"
#include "util/fd-write.h"
#include "util/iothreads.h"

#define EXPORT_ID "kf-img"
#define COPY_BYTES (1u << 20)

typedef struct Args {
    BdrvOpenFile image;
    bool foreground, allow_other, details;
    const char *snapshot, *last; /* path or mount point; NULL if there is none */
} Args;

/* -1, or the exit code. */
static int parse_args(int argc, char **argv, int least, int most, Args *a)
{
    static const struct option options[] = {
        { "help", no_argument, NULL, 'h' },
        { "force-share", no_argument, NULL, 'U' },
        { "foreground", no_argument, NULL, 'F' },
        { "allow-other", no_argument, NULL, 'o' },
        { 0 },
    };
    int c;

    *a = (Args){ .image = { .read_only = true, .node_name = "image" } };
    optind = 0; /* getopt starts anew */
    while ((c = getopt_long(argc, argv, ":hf:lUFo", options, NULL)) != -1) {
        switch (c) {
        case 'f':
            a->image.format = optarg;
            break;
        case 'l':
            a->details = true;
            break;
        case 'U':
            a->image.force_share = true;
            break;
        case 'F':
            a->foreground = true;
            break;
        case 'o':
            a->allow_other = true;
            break;
        default:
            return img_bad_option(c, argv);
        }
    }
    if (argc - optind < least || argc - optind > most) {
        return img_usage_error("Expecting an image file name, a snapshot%s",
                               most == 2 ? "" : " and a path");
    }
    a->image.filename = argv[optind];
    a->snapshot = argv[optind + 1];
    a->last = argc - optind > 2 ? argv[optind + 2] : NULL;
    return -1;
}

static BlockDriverState *coroutine_fn open_image(const Args *a)
{
    GError *err = NULL;
    IOThread *thread = iothreads_default(&err);
    BlockDriverState *bs =
        thread ? bdrv_co_open_file_params(&a->image, iothread_context(thread), &err) : NULL;

    if (!bs) {
        g_autofree char *prefix = g_strdup_printf("Could not open '%s': ", a->image.filename);
        img_report(err, prefix);
    }
    return bs;
}

static int failed(GError *err)
{
    img_report(err, "");
    return 1;
}

/* --- mount ------------------------------------------------------------------------------------ */

static void on_signal(void *opaque)
{
    BlockExport *exp = block_export_find(EXPORT_ID);
    struct signalfd_siginfo info;

    if (read(*(int *)opaque, &info, sizeof(info)) == sizeof(info) && exp) {
        block_export_remove_later(exp);
    }
}

/* Returns when the mount is gone, by umount or by a signal. */
static void coroutine_fn serve(int signal_fd)
{
    aio_set_fd_handler(main_aio_context(), signal_fd, on_signal, NULL, &signal_fd);
    block_export_co_wait_removed(EXPORT_ID);
    aio_set_fd_handler(main_aio_context(), signal_fd, NULL, NULL, NULL);
}

static int coroutine_fn vmstate_mount(int argc, char **argv)
{
    Args a;
    int code = parse_args(argc, argv, 3, 3, &a), signal_fd;
    BlockExportOptions o = {
        .type = BLOCK_EXPORT_TYPE_VMSTATE_FUSE,
        .id = (char *)EXPORT_ID,
        .u.vmstate_fuse = {
            .has_allow_other = true,
            .allow_other = FUSE_EXPORT_ALLOW_OTHER_OFF,
        },
    };
    BlockDriverState *bs;
    GError *err = NULL;
    sigset_t set;

    if (code >= 0) {
        return code;
    }
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    bs = open_image(&a);
    if (!bs) {
        close(signal_fd);
        return 1;
    }
    vmstate_fuse_register();
    o.node_name = (char *)bdrv_node_name(bs);
    o.u.vmstate_fuse.snapshot = (char *)a.snapshot;
    o.u.vmstate_fuse.mountpoint = (char *)a.last;
    if (a.allow_other) {
        o.u.vmstate_fuse.allow_other = FUSE_EXPORT_ALLOW_OTHER_ON;
    }
    if (block_export_co_add(&o, &err)) {
        daemonize_ready();
        serve(signal_fd);
        code = 0;
    } else {
        code = failed(err);
    }
    bdrv_co_unref(bs);
    close(signal_fd);
    return code;
}

/* --- ls and cat --------------------------------------------------------------------------------- */

typedef struct Look {
    BlockDriverState *bs;
    VmstateFs *fs;
    int file;
} Look;

/* Opens the image, the state and finds the path; in the image's thread when true. */
static bool coroutine_fn look(const Args *a, Look *l)
{
    GError *err = NULL;

    l->bs = open_image(a);
    if (!l->bs) {
        return false;
    }
    aio_co_reschedule_self(bdrv_context(l->bs));
    l->fs = vmstate_fs_open(l->bs, a->snapshot, "kf-img", &err);
    l->file = l->fs ? vmstate_fs_find(l->fs, a->last ? a->last : "") : -1;
    if (l->fs && l->file < 0) {
        error_setg(&err, "Snapshot '%s' has no file '%s'", a->snapshot, a->last);
        vmstate_fs_close(l->fs);
    }
    if (!err) {
        return true;
    }
    aio_co_reschedule_self(main_aio_context());
    failed(err);
    bdrv_co_unref(l->bs);
    return false;
}

static void coroutine_fn end_look(Look *l)
{
    vmstate_fs_close(l->fs);
    aio_co_reschedule_self(main_aio_context());
    bdrv_co_unref(l->bs);
}

static void print_file(const VmstateFile *f, const char *prefix, bool details)
{
    bool directory = f->kind == VMSTATE_FILE_DIRECTORY;

    if (details) {
        printf("%14" PRIu64 " ", f->size);
    }
    printf("%s%s%s\n", prefix, f->name, directory ? "/" : "");
}

static int coroutine_fn vmstate_ls(int argc, char **argv)
{
    const VmstateFile *f;
    Look l;
    Args a;
    int code = parse_args(argc, argv, 2, 3, &a);

    if (code >= 0) {
        return code;
    }
    if (!look(&a, &l)) {
        return 1;
    }
    f = vmstate_fs_file(l.fs, l.file);
    if (f->kind != VMSTATE_FILE_DIRECTORY) {
        print_file(f, "", a.details);
    } else {
        for (int i = 1; (f = vmstate_fs_file(l.fs, i)); i++) {
            if (f->parent == l.file) {
                print_file(f, "", a.details);
            }
        }
    }
    end_look(&l);
    return 0;
}

/* Whether holes can be left out: a file that is not written at its end only. */
static bool can_seek(int fd)
{
    struct stat st;
    int flags = fcntl(fd, F_GETFL);

    return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && flags >= 0 && !(flags & O_APPEND);
}

/* Standard output is written in the main thread.  0 or -errno. */
static int coroutine_fn put_out(Look *l, const char *buf, size_t len)
{
    int ret;

    aio_co_reschedule_self(main_aio_context());
    ret = fd_write_all(STDOUT_FILENO, buf, len);
    aio_co_reschedule_self(bdrv_context(l->bs));
    return ret;
}

/* 0 or -errno; *writing: whether it was standard output that failed. */
static int coroutine_fn copy_file(Look *l, bool *writing)
{
    uint64_t size = vmstate_fs_file(l->fs, l->file)->size;
    bool sparse = can_seek(STDOUT_FILENO);
    off_t base = sparse ? lseek(STDOUT_FILENO, 0, SEEK_CUR) : 0;
    g_autofree char *buf = g_malloc(COPY_BYTES);
    int64_t n;

    *writing = false;
    for (uint64_t at = 0; at < size; at += n) {
        int ret;

        if (sparse) {
            int64_t data = vmstate_fs_seek(l->fs, l->file, at, false);

            if (data == -ENXIO) {
                break;
            }
            if (data < 0) {
                return data;
            }
            at = data;
            lseek(STDOUT_FILENO, base + at, SEEK_SET);
        }
        n = vmstate_fs_read(l->fs, l->file, at, buf, COPY_BYTES);
        if (n <= 0) {
            return n < 0 ? n : -EIO;
        }
        ret = put_out(l, buf, n);
        if (ret < 0) {
            *writing = true;
            return ret;
        }
    }
    if (sparse && (ftruncate(STDOUT_FILENO, base + size) < 0 ||
                   lseek(STDOUT_FILENO, base + size, SEEK_SET) < 0)) {
        *writing = true;
        return -errno;
    }
    return 0;
}

static int coroutine_fn vmstate_cat(int argc, char **argv)
{
    bool writing, directory;
    Look l;
    Args a;
    int ret = parse_args(argc, argv, 3, 3, &a);

    if (ret >= 0) {
        return ret;
    }
    if (!look(&a, &l)) {
        return 1;
    }
    directory = vmstate_fs_file(l.fs, l.file)->kind == VMSTATE_FILE_DIRECTORY;
    ret = directory ? -EISDIR : copy_file(&l, &writing);
    end_look(&l);
    if (ret < 0) {
        img_error("Could not %s '%s': %s", !directory && writing ? "write" : "read", a.last,
                  strerror(-ret));
        return 1;
    }
    return 0;
}

/* --- The subcommand ------------------------------------------------------------------------------ */

static const struct {
    const char *name;
    int coroutine_fn (*run)(int argc, char **argv);
} actions[] = {
    { "mount", vmstate_mount },
    { "ls", vmstate_ls },
    { "cat", vmstate_cat },
};

bool img_vmstate_before(int argc, char **argv)
{
    GError *err = NULL;

    if (argc < 2 || strcmp(argv[1], "mount")) {
        return true;
    }
    for (int i = 2; i < argc; i++) {
        if (!strcmp(argv[i], "--foreground") || !strcmp(argv[i], "-h") ||
            !strcmp(argv[i], "--help")) {
            return true;
        }
    }
    if (!daemonize_start(&err)) {
        img_report(err, "");
        return false;
    }
    return true;
}

int coroutine_fn img_vmstate(int argc, char **argv)
{
    int ret;

    for (size_t i = 0; argc > 1 && i < G_N_ELEMENTS(actions); i++) {
        if (!strcmp(argv[1], actions[i].name)) {
            ret = actions[i].run(argc - 1, argv + 1);
            iothreads_cleanup();
            return ret;
        }
    }
    return img_usage_error("Expecting mount, ls or cat");
}
