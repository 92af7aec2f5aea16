/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What -object and object-add make.  Main thread. */
#ifndef SYSTEM_OBJECTS_H
#define SYSTEM_OBJECTS_H

#include <glib.h>
#include <stdbool.h>
#include "qapi/qapi-types-machine.h"

/* Makes what an -object says.  Start-up: may block. */
bool objects_create(const ObjectOptions *object, GError **errp);
void objects_for_each_secret(void (*fn)(const char *id, void *opaque), void *opaque);
/* Forgets the secrets. */
void objects_cleanup(void);

#endif
