/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The types of device and object, as clients of QEMU see them.  What can be said of one is
 * read from the schema; the tables here add the names, who is a kind of whom, and what only
 * objects that exist can tell.  Constant data; main thread.
 */
#include <json-c/json_tokener.h>
#include <string.h>
#include "objects.h"
#include "options-int.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-qom.h"
#include "qapi/qapi-visit-machine.h"
#include "qapi/util.h"
#include "qom.h"
#include "system-int.h"

/* --- What objects tell ------------------------------------------------------------------------ */

static json_object *get_type(const QomObject *object)
{
    return json_object_new_string(object->type->name);
}

static json_object *get_bus(const QomObject *object)
{
    return json_object_new_string(object->bus ? object->bus : "");
}

static json_object *get_true(const QomObject *object)
{
    return json_object_new_boolean(true);
}

static json_object *get_false(const QomObject *object)
{
    return json_object_new_boolean(false);
}

static json_object *get_iothread(const QomObject *object)
{
    json_object *id;
    g_autofree char *path = NULL;

    if (!object->said || !json_object_object_get_ex(object->said, "iothread", &id)) {
        return json_object_new_string("");
    }
    path = g_strconcat("/objects/", json_object_get_string(id), NULL);
    return json_object_new_string(path);
}

static json_object *get_memory(const QomObject *object)
{
    json_object *json = json_object_new_object();

    json_object_object_add(json, "size", json_object_new_uint64(vm_ram_size()));
    return json;
}

static json_object *get_smp(const QomObject *object)
{
    static const char *const names[] = {"cpus", "sockets", "cores", "threads", "maxcpus"};
    json_object *json = json_object_new_object();

    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        json_object_object_add(json, names[i], json_object_new_int(1));
    }
    return json;
}

static json_object *get_memory_backend(const QomObject *object)
{
    g_autofree char *path = g_strconcat("/objects/", vm_ram_id(), NULL);

    return json_object_new_string(vm_ram_size() ? path : "");
}

static json_object *get_ram_size(const QomObject *object)
{
    return json_object_new_uint64(vm_ram_size());
}

static json_object *get_ram_dump(const QomObject *object)
{
    return json_object_new_boolean(!vm_options()->no_core);
}

static json_object *get_ram_merge(const QomObject *object)
{
    return json_object_new_boolean(vm_options()->mem_merge);
}

static json_object *get_ram_prealloc(const QomObject *object)
{
    return json_object_new_boolean(vm_options()->prealloc);
}

static const QomProperty object_properties[] = {
    {"type", "string", .get = get_type},
    {NULL},
};

static const QomProperty device_properties[] = {
    {"parent_bus", "link<bus>", .get = get_bus},
    {"realized", "bool", .get = get_true},
    {"hotplugged", "bool", .get = get_false},
    {"hotpluggable", "bool", .get = get_false},
    {NULL},
};

static const QomProperty machine_properties[] = {
    {"kernel", NULL, "Linux kernel image file"},
    {"initrd", NULL, "Linux initial ramdisk file"},
    {"append", NULL, "Linux kernel command line"},
    {"dtb", NULL, "Linux kernel device tree file"},
    {"dumpdtb", NULL, "Dump current dtb to a file and quit"},
    {"firmware", NULL, "Firmware image"},
    {"usb", NULL, "Set on/off to enable/disable usb"},
    {"mem-merge", NULL, "Enable/disable memory merge support"},
    {"dump-guest-core", NULL, "Include guest memory in a core dump", "true"},
    {"snapshot-tracking", .initial = "true"},
    {"memory", "MemorySizeConfiguration", "Memory size configuration", .get = get_memory},
    {"smp", "SMPConfiguration", "CPU topology", .get = get_smp},
    {"memory-backend", "link<memory-backend>", "Set RAM backend", .get = get_memory_backend},
    {NULL},
};

static const QomProperty virtio_blk_properties[] = {
    {"drive", NULL, "Node name or ID of a block device to use as a backend"},
    {"iothread", "link<iothread>", .get = get_iothread},
    {"queue-size", .initial = "256"},
    {"write-cache", NULL, "on/off/auto", "\"auto\""},
    {"werror", NULL, "Error handling policy, report/ignore/enospc/stop/auto", "\"auto\""},
    {"rerror", NULL, "Error handling policy, report/ignore/enospc/stop/auto", "\"auto\""},
    {NULL},
};

static const QomProperty virtio_net_properties[] = {
    {"mac", NULL, "Ethernet 6-byte MAC Address, example: 52:54:00:12:34:56"},
    {"netdev", NULL, "ID of a netdev to use as a backend"},
    {NULL},
};

static const QomProperty memory_backend_properties[] = {
    {"size", NULL, "Size of the memory region (ex: 500M)", .get = get_ram_size},
    {"dump", NULL, "Set to 'off' to exclude from core dump", .get = get_ram_dump},
    {"merge", NULL, "Mark memory as mergeable", .get = get_ram_merge},
    {"prealloc", NULL, "Preallocate memory", .get = get_ram_prealloc},
    {NULL},
};

/* The secret itself is not shown. */
static const QomProperty secret_properties[] = {
    {"format", .initial = "\"raw\""},
    {NULL},
};

static bool set_iothread(const QomObject *object, const char *name, json_object *value, GError **errp)
{
    return objects_set_iothread(strrchr(object->path, '/') + 1, name, value, errp);
}

static const QomProperty iothread_properties[] = {
    {"poll-max-ns", .set = set_iothread},
    {"poll-grow", .set = set_iothread},
    {"poll-shrink", .set = set_iothread},
    {"aio-max-batch", .set = set_iothread},
    {NULL},
};

/* --- The types -------------------------------------------------------------------------------- */

static const QomType types[] = {
    {"object", NULL, true, NULL, object_properties},
    {"interface", NULL, true},
    {"user-creatable", "interface", true},
    {"container", "object"},
    {"machine", "object", true, &qapi_type_MachineOptions, machine_properties},
    {"virt-machine", "machine"},
    {"none-machine", "machine"},
    {"accel", "object"},
    {"tcg-accel", "accel"},
    {"bus", "object", true},
    {"System", "bus"},
    {"virtio-bus", "bus", true},
    {"virtio-mmio-bus", "virtio-bus"},
    {"device", "object", true, NULL, device_properties},
    {"cpu", "device", true},
    {"riscv-cpu", "cpu", true},
    {"rv64-riscv-cpu", "riscv-cpu"},
    {"sys-bus-device", "device", true},
    {"cfi.pflash01", "sys-bus-device"},
    {"goldfish_rtc", "sys-bus-device"},
    {"riscv.aclint.mtimer", "sys-bus-device"},
    {"riscv.aclint.swi", "sys-bus-device"},
    {"riscv.hart_array", "sys-bus-device"},
    {"riscv.sifive.plic", "sys-bus-device"},
    {"riscv.sifive.test", "sys-bus-device"},
    {"serial-mm", "sys-bus-device"},
    {"virtio-mmio", "sys-bus-device"},
    {"virtio-device", "device", true},
    {"virtio-blk-device", "virtio-device", false, &qapi_type_VirtioBlkDeviceOptions,
     virtio_blk_properties},
    {"virtio-net-device", "virtio-device", false, &qapi_type_VirtioNetDeviceOptions,
     virtio_net_properties},
    {"vmgenid", "device", false, &qapi_type_VmgenidDeviceOptions},
    {"event-loop-base", "object", true},
    {"iothread", "event-loop-base", false, &qapi_type_IothreadProperties, iothread_properties},
    {"memory-backend", "object", true, &qapi_type_MemoryBackendProperties,
     memory_backend_properties},
    {"memory-backend-ram", "memory-backend"},
    /* Cannot be made; but libvirt 9 asks for its properties and ends if there are none. */
    {"memory-backend-file", "memory-backend", true},
    {"secret_common", "object", true},
    {"secret", "secret_common", false, &qapi_type_SecretProperties, secret_properties},
    {"chardev", "object", true},
    {"chardev-fd", "chardev", true},
    {"chardev-file", "chardev-fd"},
    {"chardev-mux", "chardev"},
    {"chardev-null", "chardev"},
    {"chardev-pipe", "chardev-fd"},
    {"chardev-pty", "chardev"},
    {"chardev-ringbuf", "chardev"},
    {"chardev-serial", "chardev-fd"},
    {"chardev-socket", "chardev"},
    {"chardev-stdio", "chardev-fd"},
    {"chardev-udp", "chardev"},
};

const QomType *qom_type(const char *name)
{
    for (size_t i = 0; name && i < G_N_ELEMENTS(types); i++) {
        if (!strcmp(types[i].name, name)) {
            return &types[i];
        }
    }
    return NULL;
}

/* -object can make what the schema says that it can. */
static bool is_user_creatable(const QomType *type)
{
    return qapi_enum_parse(&ObjectType_lookup, type->name, -1, NULL) >= 0;
}

bool qom_type_is(const QomType *type, const char *ancestor)
{
    if (!strcmp(ancestor, "user-creatable") && is_user_creatable(type)) {
        return true;
    }
    for (; type; type = qom_type(type->parent)) {
        if (!strcmp(type->name, ancestor)) {
            return true;
        }
    }
    return false;
}

bool qom_type_is_pluggable(const char *name, GError **errp)
{
    const QomType *type = qom_type(name);

    if (!type || !qom_type_is(type, "device")) {
        error_setg(errp, "'%s' is not a valid device model name", name);
        return false;
    }
    if (type->abstract) {
        error_setg(errp, "Parameter 'driver' expects a non-abstract device type");
        return false;
    }
    if (qapi_enum_parse(&DeviceDriver_lookup, name, -1, NULL) < 0) {
        error_setg(errp, "Parameter 'driver' expects a pluggable device type");
        return false;
    }
    return true;
}

/* --- Properties ------------------------------------------------------------------------------- */

/* What the option -machine takes but is no property of the machine. */
static bool is_property(const char *name)
{
    return strcmp(name, "type") && strcmp(name, "accel");
}

/* The names that QEMU has for types: those of devices are the schema's own. */
static const char *type_name(const QomType *owner, const QapiType *type)
{
    if (type->kind == QAPI_KIND_STR && !qom_type_is(owner, "device")) {
        return "string";
    }
    if (type->kind >= QAPI_KIND_INT8 && type->kind <= QAPI_KIND_SIZE &&
        !qom_type_is(owner, "device")) {
        return "int";
    }
    return type->name;
}

static const QomProperty *find_in_table(const QomProperty *table, const char *name)
{
    for (; table && table->name; table++) {
        if (!strcmp(table->name, name)) {
            return table;
        }
    }
    return NULL;
}

/* The ancestors' come first. */
void qom_type_properties(const QomType *type, QomPropertyFunc *fn, void *opaque)
{
    if (type->parent) {
        qom_type_properties(qom_type(type->parent), fn, opaque);
    }
    for (int i = 0; type->options && i < type->options->n_members; i++) {
        const QapiMember *m = &type->options->members[i];
        const QomProperty *more = find_in_table(type->properties, m->name);

        if (is_property(m->name)) {
            fn(m->name, more && more->type ? more->type : type_name(type, m->type), more, opaque);
        }
    }
    for (const QomProperty *p = type->properties; p && p->name; p++) {
        if (!type->options || !qapi_find_member(type->options, p->name)) {
            fn(p->name, p->type, p, opaque);
        }
    }
}

typedef struct FindArgs {
    const char *name;
    const char *type;
    const QomProperty *more;
} FindArgs;

static void find_property(const char *name, const char *type, const QomProperty *more,
                          void *opaque)
{
    FindArgs *a = opaque;

    if (!strcmp(a->name, name)) {
        a->type = type;
        a->more = more;
    }
}

bool qom_type_find_property(const QomType *type, const char *name, const char **of_type,
                            const QomProperty **more)
{
    FindArgs a = {.name = name};

    qom_type_properties(type, find_property, &a);
    *of_type = a.type;
    *more = a.more;
    return a.type != NULL;
}

/* --- Commands --------------------------------------------------------------------------------- */

ObjectTypeInfoList *coroutine_fn qmp_qom_list_types(const char *implements, bool has_abstract,
                                                    bool abstract, GError **errp)
{
    ObjectTypeInfoList *list = NULL, **tail = &list;

    for (size_t i = 0; i < G_N_ELEMENTS(types); i++) {
        ObjectTypeInfo *info;

        if ((types[i].abstract && !(has_abstract && abstract)) ||
            (implements && !qom_type_is(&types[i], implements))) {
            continue;
        }
        info = g_new0(ObjectTypeInfo, 1);
        info->name = g_strdup(types[i].name);
        info->has_abstract = info->abstract = types[i].abstract;
        info->parent = g_strdup(types[i].parent);
        QAPI_LIST_APPEND(tail, info);
    }
    return list;
}

typedef struct ListArgs {
    ObjectPropertyInfoList **tail;
    bool options_only; /* no properties that every device has, and with defaults */
} ListArgs;

static void list_property(const char *name, const char *type, const QomProperty *more,
                          void *opaque)
{
    ListArgs *a = opaque;
    ObjectPropertyInfo *info;

    if (a->options_only && (find_in_table(object_properties, name) ||
                            find_in_table(device_properties, name))) {
        return;
    }
    info = g_new0(ObjectPropertyInfo, 1);
    info->name = g_strdup(name);
    info->type = g_strdup(type);
    info->description = g_strdup(more ? more->description : NULL);
    if (a->options_only && more && more->initial) {
        info->has_default_value = true;
        info->default_value = json_tokener_parse(more->initial);
    }
    QAPI_LIST_APPEND(a->tail, info);
}

static ObjectPropertyInfoList *list_properties(const QomType *type, bool options_only)
{
    ObjectPropertyInfoList *list = NULL;
    ListArgs a = {&list, options_only};

    qom_type_properties(type, list_property, &a);
    return list;
}

ObjectPropertyInfoList *coroutine_fn qmp_qom_list_properties(const char *name, GError **errp)
{
    const QomType *type = qom_type(name);

    if (!type) {
        error_set_class(errp, QAPI_ERROR_DEVICE_NOT_FOUND, "Class '%s' not found", name);
        return NULL;
    }
    return list_properties(type, false);
}

ObjectPropertyInfoList *coroutine_fn qmp_device_list_properties(const char *name,
                                                                GError **errp)
{
    const QomType *type = qom_type(name);

    if (!type) {
        error_set_class(errp, QAPI_ERROR_DEVICE_NOT_FOUND, "Device '%s' not found", name);
        return NULL;
    }
    if (!qom_type_is(type, "device") || type->abstract) {
        error_setg(errp, "Parameter 'typename' expects a non-abstract device type");
        return NULL;
    }
    return list_properties(type, true);
}
