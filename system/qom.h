/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The view of devices and objects that clients of QEMU expect: a table of types, and a tree
 * of what exists.  It is made for each question from what the machine is made of and from the
 * schema; nothing is built on it.  Main thread.
 */
#ifndef SYSTEM_QOM_H
#define SYSTEM_QOM_H

#include <glib.h>
#include <stdbool.h>
#include "qapi/qapi-types-qom.h"
#include "qapi/visitor.h"
#include "util/coroutine.h"

/* The number of the board's device that is the transport of slot 0, as in QEMU. */
#define QOM_FIRST_SLOT 4

typedef struct QomObject QomObject;

/* A property that the schema does not have, or more about one that it has. */
typedef struct QomProperty {
    const char *name;
    const char *type;        /* NULL: as the schema has it */
    const char *description; /* or NULL */
    const char *initial;     /* what it is if nothing is said, JSON text; or NULL */
    json_object *(*get)(const QomObject *object); /* or NULL */
    /* qom-set; false and errp.  NULL: it stays what it is. */
    bool (*set)(const QomObject *object, const char *name, json_object *value, GError **errp);
} QomProperty;

typedef struct QomType {
    const char *name, *parent; /* NULL: the root */
    bool abstract;
    const QapiType *options;       /* what a user can say of it, or NULL */
    const QomProperty *properties; /* ends with a zeroed element, or NULL */
} QomType;

/* An object while a question is answered. */
struct QomObject {
    char *path;
    const QomType *type;
    json_object *said; /* by its user, or NULL */
    char *bus;         /* path of the bus that it is on, or NULL */
};

/* --- qom-types.c ---------------------------------------------------------------------------- */

/* NULL if there is none. */
const QomType *qom_type(const char *name);
bool qom_type_is(const QomType *type, const char *ancestor);
/* Whether -device can make it; false and errp, in QEMU's words. */
bool qom_type_is_pluggable(const char *name, GError **errp);
/* Calls fn for each property of objects of the type. */
typedef void QomPropertyFunc(const char *name, const char *type, const QomProperty *more,
                             void *opaque);
void qom_type_properties(const QomType *type, QomPropertyFunc *fn, void *opaque);
/* Whether there is such a property; *of_type is its type, *more what the tables add, or NULL. */
bool qom_type_find_property(const QomType *type, const char *name, const char **of_type,
                            const QomProperty **more);

/* --- qom-tree.c ----------------------------------------------------------------------------- */

/*
 * A device was made: bus is the path of its bus, said what its user said (taken over), id may
 * be NULL.  Returns its path, valid as long as the machine.
 */
const char *qom_add_device(const char *type, const char *id, const char *bus,
                           json_object *said);
/* The path of the bus of a slot, a new string. */
char *qom_bus_path(int slot);
/* Forgets the devices. */
void qom_cleanup(void);
/*
 * The slot for a device of driver on bus, or on the next that is free if bus is NULL; -1 and
 * errp.
 */
int qom_choose_slot(const char *driver, const char *bus, GError **errp);
/* A device that shall come now: tree is a DeviceOptions, with keyval as qapi_input_keyval() takes it. */
void qom_plug(json_object *tree, bool keyval, GError **errp);
/* Everything that exists, as QomObject; the caller frees the array. */
GPtrArray *coroutine_fn qom_objects(void);
/* The object in objects that a client calls path; NULL and errp. */
const QomObject *qom_resolve(GPtrArray *objects, const char *path, GError **errp);

/* The kinds of device that can be added: "-device help", "info qdm". */
#define QOM_DEVICES \
    "Storage devices:\nname \"virtio-blk-device\", bus virtio-bus\n\n" \
    "Network devices:\nname \"virtio-net-device\", bus virtio-bus\n\n" \
    "Misc devices:\nname \"vmgenid\"\n"

#endif
