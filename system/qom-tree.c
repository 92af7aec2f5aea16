/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The tree of devices and objects, as clients of QEMU walk it: made for each question from
 * what exists, and kept nowhere, but for the devices that were plugged, which say so
 * themselves.  Paths are QEMU's.  Main thread.
 */
#include <json-c/json_tokener.h>
#include <string.h>
#include "objects.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-char.h"
#include "qapi/qapi-commands-qom.h"
#include "qapi/qapi-visit-machine.h"
#include "qapi/util.h"
#include "qom.h"
#include "system-int.h"
#include "util/iothreads.h"

#define SYSBUS "/machine/unattached/sysbus"

static GPtrArray *plugged;  /* QomObject */
static unsigned anonymous; /* how many of them have no name */

static void free_object(void *p)
{
    QomObject *object = p;

    g_free(object->path);
    g_free(object->bus);
    json_object_put(object->said);
    g_free(object);
}

/* said is taken over. */
static QomObject *add_object(GPtrArray *objects, char *path, const char *type, const char *bus,
                             json_object *said)
{
    QomObject *object = g_new(QomObject, 1);

    *object = (QomObject){path, qom_type(type), said, g_strdup(bus)};
    g_assert(object->type);
    g_ptr_array_add(objects, object);
    return object;
}

const char *qom_add_device(const char *type, const char *id, const char *bus,
                           json_object *said)
{
    char *path = id ? g_strconcat("/machine/peripheral/", id, NULL)
                    : g_strdup_printf("/machine/peripheral-anon/device[%u]", anonymous++);

    if (!plugged) {
        plugged = g_ptr_array_new_with_free_func(free_object);
    }
    return add_object(plugged, path, type, bus, said)->path;
}

void qom_cleanup(void)
{
    g_clear_pointer(&plugged, g_ptr_array_unref);
}

/* --- Everything ------------------------------------------------------------------------------- */

/* The board's own devices, with the numbers that they have in QEMU. */
static const struct {
    const char *path, *type;
} board[] = {
    {"/machine/soc0", "riscv.hart_array"},
    {"/machine/virt.flash0", "cfi.pflash01"},
    {"/machine/virt.flash1", "cfi.pflash01"},
    {"/machine/unattached/device[0]", "riscv.aclint.swi"},
    {"/machine/unattached/device[1]", "riscv.aclint.mtimer"},
    {"/machine/unattached/device[2]", "riscv.sifive.plic"},
    {"/machine/unattached/device[3]", "riscv.sifive.test"},
    {"/machine/unattached/device[14]", "serial-mm"},
    {"/machine/unattached/device[15]", "goldfish_rtc"},
};

char *qom_bus_path(int slot)
{
    return g_strdup_printf("/machine/unattached/device[%d]/virtio-mmio-bus.%d",
                           QOM_FIRST_SLOT + slot, slot);
}

static void add_board(GPtrArray *objects)
{
    add_object(objects, g_strdup(SYSBUS), "System", NULL, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(board); i++) {
        add_object(objects, g_strdup(board[i].path), board[i].type, SYSBUS, NULL);
    }
    for (int i = 0; i < VIRT_VIRTIO_SLOTS; i++) {
        add_object(objects, g_strdup_printf("/machine/unattached/device[%d]",
                                            QOM_FIRST_SLOT + i), "virtio-mmio", SYSBUS, NULL);
        add_object(objects, qom_bus_path(i), "virtio-mmio-bus", NULL, NULL);
    }
    add_object(objects, g_strdup("/machine/soc0/harts[0]"), "rv64-riscv-cpu", NULL, NULL);
    add_object(objects, g_strconcat("/objects/", vm_ram_id(), NULL), "memory-backend-ram", NULL,
               NULL);
}

static void add_iothread(IOThread *thread, void *opaque)
{
    IothreadProperties p = objects_iothread_properties(thread);

    add_object(opaque, g_strconcat("/objects/", iothread_name(thread), NULL), "iothread", NULL,
               qapi_IothreadProperties_to_json(&p));
}

static void add_secret(const char *id, void *opaque)
{
    add_object(opaque, g_strconcat("/objects/", id, NULL), "secret", NULL, NULL);
}

/* A device is of the type that its description begins with: "pty:/dev/pts/1". */
static const char *chardev_type(const char *filename)
{
    static const char *const kinds[] = {"file", "mux", "null", "pipe", "pty", "ringbuf", "serial",
                                        "stdio", "udp"};
    g_autofree char *type = NULL;

    for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++) {
        if (g_str_has_prefix(filename, kinds[i])) {
            type = g_strconcat("chardev-", kinds[i], NULL);
            return qom_type(type)->name;
        }
    }
    return "chardev-socket";
}

static void coroutine_fn add_chardevs(GPtrArray *objects)
{
    ChardevInfoList *list = qmp_query_chardev(NULL);

    for (ChardevInfoList *e = list; e; e = e->next) {
        add_object(objects, g_strconcat("/chardevs/", e->value->label, NULL),
                   chardev_type(e->value->filename), NULL, NULL);
    }
    qapi_free_ChardevInfoList(list);
}

GPtrArray *coroutine_fn qom_objects(void)
{
    static const char *const containers[] = {"/", "/objects", "/chardevs"};
    static const char *const in_machine[] = {"/machine/peripheral", "/machine/peripheral-anon",
                                             "/machine/unattached"};
    GPtrArray *objects = g_ptr_array_new_with_free_func(free_object);
    bool is_virt = vm_options()->machine == MACHINE_TYPE_VIRT;
    const MachineOptions *said = vm_options()->given->machine;

    for (size_t i = 0; i < G_N_ELEMENTS(containers); i++) {
        add_object(objects, g_strdup(containers[i]), "container", NULL, NULL);
    }
    add_object(objects, g_strdup("/machine"), is_virt ? "virt-machine" : "none-machine", NULL,
               said ? qapi_MachineOptions_to_json(said) : NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(in_machine); i++) {
        add_object(objects, g_strdup(in_machine[i]), "container", NULL, NULL);
    }
    if (is_virt) {
        add_board(objects);
    }
    for (guint i = 0; plugged && i < plugged->len; i++) {
        const QomObject *device = plugged->pdata[i];

        add_object(objects, g_strdup(device->path), device->type->name, device->bus,
                   json_object_get(device->said));
    }
    iothreads_for_each(add_iothread, objects);
    objects_for_each_secret(add_secret, objects);
    add_chardevs(objects);
    return objects;
}

/* --- Paths ------------------------------------------------------------------------------------- */

/* Without slashes that say nothing: "/a//b/" is "/a/b", "a/" is "a". */
static char *normal_path(const char *path)
{
    g_auto(GStrv) parts = g_strsplit(path, "/", -1);
    GString *text = g_string_new(NULL);

    for (char **p = parts; *p; p++) {
        if (**p) {
            g_string_append_printf(text, "%s%s", text->len || *path == '/' ? "/" : "", *p);
        }
    }
    return g_string_free(text->len || *path != '/' ? text : g_string_assign(text, "/"), false);
}

/* Whether path is what a client means by wanted: all of it, or its last parts. */
static bool path_matches(const char *path, const char *wanted)
{
    const char *end;

    if (*wanted == '/') {
        return !strcmp(path, wanted);
    }
    if (!*wanted) {
        return true;
    }
    end = path + strlen(path) - MIN(strlen(path), strlen(wanted));
    return end > path && end[-1] == '/' && !strcmp(end, wanted);
}

const QomObject *qom_resolve(GPtrArray *objects, const char *path, GError **errp)
{
    g_autofree char *wanted = normal_path(path);
    const QomObject *found = NULL;

    for (guint i = 0; i < objects->len; i++) {
        const QomObject *object = objects->pdata[i];

        if (path_matches(object->path, wanted)) {
            if (found) {
                error_setg(errp, "Path '%s' is ambiguous", path);
                return NULL;
            }
            found = object;
        }
    }
    if (!found) {
        error_set_class(errp, QAPI_ERROR_DEVICE_NOT_FOUND, "Device '%s' not found", path);
    }
    return found;
}

/* The name of object in parent, NULL if it is not there. */
static const char *name_in(const QomObject *object, const QomObject *parent)
{
    const char *slash = strrchr(object->path, '/');
    size_t length = slash == object->path ? 1 : slash - object->path;

    return slash[1] && strlen(parent->path) == length &&
                   !strncmp(parent->path, object->path, length)
               ? slash + 1
               : NULL;
}

/* --- Commands ---------------------------------------------------------------------------------- */

static void append_property(const char *name, const char *type, const QomProperty *more,
                            void *opaque)
{
    ObjectPropertyInfoList ***tail = opaque;
    ObjectPropertyInfo *info = g_new0(ObjectPropertyInfo, 1);

    info->name = g_strdup(name);
    info->type = g_strdup(type);
    QAPI_LIST_APPEND(*tail, info);
}

ObjectPropertyInfoList *coroutine_fn qmp_qom_list(const char *path, GError **errp)
{
    g_autoptr(GPtrArray) objects = qom_objects();
    const QomObject *object = qom_resolve(objects, path, errp);
    ObjectPropertyInfoList *list = NULL, **tail = &list;

    if (!object) {
        return NULL;
    }
    qom_type_properties(object->type, append_property, &tail);
    for (guint i = 0; i < objects->len; i++) {
        const QomObject *child = objects->pdata[i];
        const char *name = name_in(child, object);

        if (name) {
            g_autofree char *type = g_strdup_printf("child<%s>", child->type->name);

            append_property(name, type, NULL, &tail);
        }
    }
    return list;
}

static const QomObject *find_child(GPtrArray *objects, const QomObject *parent,
                                   const char *wanted)
{
    for (guint i = 0; i < objects->len; i++) {
        const char *name = name_in(objects->pdata[i], parent);

        if (name && !strcmp(name, wanted)) {
            return objects->pdata[i];
        }
    }
    return NULL;
}

static void not_found(const QomObject *object, const char *property, GError **errp)
{
    error_setg(errp, "Property '%s.%s' not found", object->type->name, property);
}

/* What a property is that nobody said anything of. */
static json_object *blank(const char *type)
{
    return !strcmp(type, "bool")                            ? json_object_new_boolean(false)
           : g_str_has_prefix(type, "str") || strchr(type, '<') ? json_object_new_string("")
                                                            : json_object_new_int(0);
}

json_object *coroutine_fn qmp_qom_get(const char *path, const char *property, GError **errp)
{
    g_autoptr(GPtrArray) objects = qom_objects();
    const QomObject *object = qom_resolve(objects, path, errp), *child;
    const QomProperty *more;
    const char *type;
    json_object *value;

    if (!object) {
        return NULL;
    }
    child = find_child(objects, object, property);
    if (child) {
        return json_object_new_string(child->path);
    }
    if (!qom_type_find_property(object->type, property, &type, &more)) {
        not_found(object, property, errp);
        return NULL;
    }
    if (more && more->get) {
        return more->get(object);
    }
    if (object->said && json_object_object_get_ex(object->said, property, &value)) {
        return json_object_get(value);
    }
    return more && more->initial ? json_tokener_parse(more->initial) : blank(type);
}

/* The last part of a device's path if its user named it, NULL if not. */
static const char *device_id(const QomObject *object)
{
    return g_str_has_prefix(object->path, "/machine/peripheral/")
               ? strrchr(object->path, '/') + 1
               : NULL;
}

void coroutine_fn qmp_qom_set(const char *path, const char *property, json_object *value,
                              GError **errp)
{
    g_autoptr(GPtrArray) objects = qom_objects();
    const QomObject *object = qom_resolve(objects, path, errp);
    const QomType *device = qom_type("device");
    const QomProperty *more;
    const char *type;
    bool exists;

    if (!object) {
        return;
    }
    exists = qom_type_find_property(object->type, property, &type, &more);
    if (exists && more && more->set) {
        more->set(object, property, value, errp);
    } else if (!exists && !find_child(objects, object, property)) {
        not_found(object, property, errp);
    } else if (exists && qom_type_is(object->type, device->name) &&
               !qom_type_find_property(device, property, &type, &more)) {
        const char *id = device_id(object);

        error_setg(errp, "Attempt to set property '%s' on %s%s%s (type '%s') after it was "
                         "realized", property, id ? "device '" : "anonymous device",
                   id ? id : "", id ? "'" : "", object->type->name);
    } else {
        error_setg(errp, "Property '%s.%s' is not writable", object->type->name, property);
    }
}
