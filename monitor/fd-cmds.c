/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QMP commands about descriptors that a client hands over, and the option -add-fd.  The
 * commands are coroutines of a session in the main thread; none of them yields.
 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "monitor/monitor-int.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-misc.h"
#include "qapi/qapi-visit-misc.h"
#include "qapi/util.h"
#include "util/fdset.h"
#include "util/named-fd.h"

static bool was_supplied(int fd, GError **errp)
{
    if (fd < 0) {
        error_setg(errp, "No file descriptor supplied via SCM_RIGHTS");
    }
    return fd >= 0;
}

void monitor_name_fd(int fd, const char *fdname, GError **errp)
{
    if (!was_supplied(fd, errp)) {
        return;
    }
    if (g_ascii_isdigit(*fdname)) {
        close(fd);
        error_setg(errp, "Parameter 'fdname' expects a name not starting with a digit");
        return;
    }
    named_fd_add(fdname, fd);
}

void coroutine_fn qmp_getfd(const char *fdname, GError **errp)
{
    monitor_name_fd(qmp_session_take_fd(), fdname, errp);
}

void coroutine_fn qmp_closefd(const char *fdname, GError **errp)
{
    named_fd_close(fdname, errp);
}

AddfdInfo *coroutine_fn qmp_add_fd(bool has_fdset_id, int64_t fdset_id, const char *opaque,
                                   GError **errp)
{
    int fd = qmp_session_take_fd();
    AddfdInfo *info;
    int64_t set;

    if (!was_supplied(fd, errp)) {
        return NULL;
    }
    if (has_fdset_id && fdset_id < 0) {
        error_setg(errp, "Parameter 'fdset-id' expects a non-negative value");
        close(fd);
        return NULL;
    }
    set = fdset_add(has_fdset_id ? fdset_id : -1, fd, opaque);
    info = g_new0(AddfdInfo, 1);
    info->fdset_id = set;
    info->fd = fd;
    return info;
}

void coroutine_fn qmp_remove_fd(int64_t fdset_id, bool has_fd, int64_t fd, GError **errp)
{
    if (has_fd && (fd < 0 || fd > G_MAXINT)) {
        error_setg(errp, "File descriptor named 'fdset-id:%" G_GINT64_FORMAT
                   ", fd:%" G_GINT64_FORMAT "' not found", fdset_id, fd);
        return;
    }
    fdset_remove(fdset_id, has_fd ? fd : -1, errp);
}

FdsetInfoList *coroutine_fn qmp_query_fdsets(GError **errp)
{
    FdsetInfoList *list = NULL, **tail = &list;
    FdsetFdInfoList **fd_tail = NULL;
    g_autoptr(GPtrArray) entries = fdset_list();
    FdsetInfo *info = NULL;

    for (guint i = 0; i < entries->len; i++) {
        const FdSetEntry *e = entries->pdata[i];
        FdsetFdInfo *fd = g_new0(FdsetFdInfo, 1);

        if (!info || info->fdset_id != e->set) {
            info = g_new0(FdsetInfo, 1);
            info->fdset_id = e->set;
            QAPI_LIST_APPEND(tail, info);
            fd_tail = &info->fds;
        }
        fd->fd = e->fd;
        fd->opaque = g_strdup(e->opaque);
        QAPI_LIST_APPEND(fd_tail, fd);
    }
    return list;
}

/* A duplicate of a descriptor that the process has inherited, or -1 and errp. */
static int inherited(const AddFdOptions *o, GError **errp)
{
    int flags, fd;

    if (!o->has_fd || o->fd < 0 || o->fd > G_MAXINT) {
        error_setg(errp, "fd option is required and must be non-negative");
        return -1;
    }
    if (o->fd <= STDERR_FILENO) {
        error_setg(errp, "fd cannot be a standard I/O stream");
        return -1;
    }
    /* All that this program opens is closed on exec: what is not was handed to it. */
    flags = fcntl(o->fd, F_GETFD);
    if (flags < 0 || (flags & FD_CLOEXEC)) {
        error_setg(errp, "fd is not valid or already in use");
        return -1;
    }
    if (!o->has_set || o->set < 0) {
        error_setg(errp, "set option is required and must be non-negative");
        return -1;
    }
    fd = fcntl(o->fd, F_DUPFD_CLOEXEC, 3);
    if (fd < 0) {
        error_setg_errno(errp, errno, "error duplicating fd");
    }
    return fd;
}

bool monitor_add_fd_option(const char *text, GError **errp)
{
    AddFdOptions *o = qapi_AddFdOptions_from_str(text, NULL, errp);
    int fd = o ? inherited(o, errp) : -1;

    if (fd >= 0) {
        fdset_add(o->set, fd, o->opaque);
    }
    qapi_free_AddFdOptions(o);
    return fd >= 0;
}
