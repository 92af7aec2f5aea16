/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sets of descriptors (util/fdset.h): one list behind a leaf mutex, ordered by set. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>
#include "util/fdset.h"

#define PREFIX "/dev/fdset/"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static GQueue entries = G_QUEUE_INIT; /* FdSetEntry, sets in descending order */

static void entry_free(gpointer data)
{
    FdSetEntry *e = data;

    g_free(e->opaque);
    g_free(e);
}

static FdSetEntry *entry_new(int64_t set, int fd, const char *opaque)
{
    FdSetEntry *e = g_new0(FdSetEntry, 1);

    e->set = set;
    e->fd = fd;
    e->opaque = g_strdup(opaque);
    return e;
}

/* Lock held.  The lowest number that no set has. */
static int64_t free_number(void)
{
    int64_t number = 0;

    for (GList *l = entries.tail; l; l = l->prev) {
        int64_t set = ((FdSetEntry *)l->data)->set;

        if (set > number) {
            break;
        }
        number = set + 1;
    }
    return number;
}

int64_t fdset_add(int64_t set, int fd, const char *opaque)
{
    GList *l;

    pthread_mutex_lock(&lock);
    if (set < 0) {
        set = free_number();
    }
    l = entries.head;
    while (l && ((FdSetEntry *)l->data)->set >= set) {
        l = l->next;
    }
    g_queue_insert_before(&entries, l, entry_new(set, fd, opaque));
    pthread_mutex_unlock(&lock);
    return set;
}

bool fdset_remove(int64_t set, int fd, GError **errp)
{
    bool found = false;

    pthread_mutex_lock(&lock);
    for (GList *l = entries.head, *next; l; l = next) {
        FdSetEntry *e = l->data;

        next = l->next;
        if (e->set == set && (fd < 0 || e->fd == fd)) {
            close(e->fd);
            entry_free(e);
            g_queue_delete_link(&entries, l);
            found = true;
        }
    }
    pthread_mutex_unlock(&lock);
    if (!found) {
        g_autofree char *name = fd < 0 ? g_strdup_printf("fdset-id:%" G_GINT64_FORMAT, set)
                                       : g_strdup_printf("fdset-id:%" G_GINT64_FORMAT ", fd:%d",
                                                         set, fd);

        g_set_error(errp, g_quark_from_static_string("fdset"), 0,
                    "File descriptor named '%s' not found", name);
    }
    return found;
}

GPtrArray *fdset_list(void)
{
    GPtrArray *list = g_ptr_array_new_with_free_func(entry_free);

    pthread_mutex_lock(&lock);
    for (GList *l = entries.head; l; l = l->next) {
        const FdSetEntry *e = l->data;

        g_ptr_array_add(list, entry_new(e->set, e->fd, e->opaque));
    }
    pthread_mutex_unlock(&lock);
    return list;
}

/* A duplicate of the set's descriptor with the access mode, or -1 and errno. */
static int duplicate(int64_t set, int access_mode)
{
    int fd = -1, errnum = ENOENT;

    pthread_mutex_lock(&lock);
    for (GList *l = entries.head; l && fd < 0; l = l->next) {
        const FdSetEntry *e = l->data;

        if (e->set != set) {
            continue;
        }
        errnum = EACCES;
        if ((fcntl(e->fd, F_GETFL) & O_ACCMODE) == access_mode) {
            fd = fcntl(e->fd, F_DUPFD_CLOEXEC, 3);
            errnum = errno;
            if (fd < 0) {
                break;
            }
        }
    }
    pthread_mutex_unlock(&lock);
    errno = errnum;
    return fd;
}

int fdset_open(const char *path, int flags, mode_t mode)
{
    const int settable = O_APPEND | O_DIRECT | O_NOATIME | O_NONBLOCK;
    const char *number = path + strlen(PREFIX);
    guint64 set;
    int fd;

    if (!g_str_has_prefix(path, PREFIX)) {
        return open(path, flags, mode);
    }
    if (!g_ascii_string_to_unsigned(number, 10, 0, G_MAXINT64, &set, NULL)) {
        errno = EINVAL;
        return -1;
    }
    fd = duplicate(set, flags & O_ACCMODE);
    if (fd < 0) {
        return -1;
    }
    if (fcntl(fd, F_SETFL, flags & settable) < 0 || ((flags & O_TRUNC) && ftruncate(fd, 0) < 0)) {
        int errnum = errno;

        close(fd);
        errno = errnum;
        return -1;
    }
    return fd;
}
