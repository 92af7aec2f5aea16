/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What -object and object-add make.  Main thread. */
#ifndef SYSTEM_OBJECTS_H
#define SYSTEM_OBJECTS_H

#include <glib.h>
#include <json-c/json_object.h>
#include <stdbool.h>
#include "qapi/qapi-types-machine.h"
#include "util/iothread.h"

/* Makes what an -object says.  Start-up: may block. */
bool objects_create(const ObjectOptions *object, GError **errp);
/* What was said of an IOThread. */
IothreadProperties objects_iothread_properties(IOThread *thread);
/* qom-set on one: false and errp. */
bool objects_set_iothread(const char *id, const char *property, json_object *value, GError **errp);
void objects_for_each_secret(void (*fn)(const char *id, void *opaque), void *opaque);
/* Forgets the secrets. */
void objects_cleanup(void);

#endif
