/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Descriptors by name (util/named-fd.h): a table behind a leaf mutex. */
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>
#include "util/named-fd.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static GHashTable *table; /* name -> descriptor */

/* -1 if there is none. */
static int steal(const char *name)
{
    gpointer value;
    int fd = -1;

    pthread_mutex_lock(&lock);
    if (table && g_hash_table_lookup_extended(table, name, NULL, &value)) {
        fd = GPOINTER_TO_INT(value);
        g_hash_table_remove(table, name);
    }
    pthread_mutex_unlock(&lock);
    return fd;
}

static void not_found(const char *format, const char *name, GError **errp)
{
    g_set_error(errp, g_quark_from_static_string("named-fd"), 0, format, name);
}

void named_fd_add(const char *name, int fd)
{
    int old = steal(name);

    if (old >= 0) {
        close(old);
    }
    pthread_mutex_lock(&lock);
    if (!table) {
        table = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    }
    g_hash_table_insert(table, g_strdup(name), GINT_TO_POINTER(fd));
    pthread_mutex_unlock(&lock);
}

bool named_fd_close(const char *name, GError **errp)
{
    int fd = steal(name);

    if (fd < 0) {
        not_found("File descriptor named '%s' not found", name, errp);
        return false;
    }
    close(fd);
    return true;
}

int named_fd_take(const char *name, GError **errp)
{
    int fd;
    char *end;

    if (g_ascii_isdigit(*name)) {
        guint64 number = g_ascii_strtoull(name, &end, 10);

        if (!*end && number <= G_MAXINT && fcntl((int)number, F_GETFD) >= 0) {
            return number;
        }
        fd = -1;
    } else {
        fd = steal(name);
    }
    if (fd < 0) {
        not_found("File descriptor named '%s' has not been found", name, errp);
    }
    return fd;
}
