/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The options of one character device, from "-chardev" or from a short form: a flat table
 * of strings.  What no back end asked for is an error.
 */
#ifndef MONITOR_CHARDEV_OPTS_H
#define MONITOR_CHARDEV_OPTS_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct ChardevOpts {
    char *backend; /* NULL if not given */
    char *id;
    GHashTable *values;
} ChardevOpts;

ChardevOpts *chardev_opts_new(void);
void chardev_opts_free(ChardevOpts *opts);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ChardevOpts, chardev_opts_free)

/* Adds "k=v,k2=v2" (",," is a comma; a lone "k" means k=on, "nok" k=off). */
bool chardev_opts_parse(ChardevOpts *opts, const char *text, bool with_backend, GError **errp);
void chardev_opts_set(ChardevOpts *opts, const char *key, const char *value);

/* NULL if missing. */
const char *chardev_opts_get(const ChardevOpts *opts, const char *key);
bool chardev_opts_get_bool(const ChardevOpts *opts, const char *key, bool fallback, bool *value,
                           GError **errp);
bool chardev_opts_get_int(const ChardevOpts *opts, const char *key, int64_t fallback,
                          int64_t *value, GError **errp);
/* Whether all keys are in one of the two NULL-terminated lists; else errp. */
bool chardev_opts_check(const ChardevOpts *opts, const char *const *common,
                        const char *const *own, GError **errp);

#endif
