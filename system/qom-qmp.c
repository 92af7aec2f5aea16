/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Devices that should come and go while the machine runs: in QEMU's words why they cannot.
 * Coroutines of a session, main thread.
 */
#include <string.h>
#include "options-int.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-qom.h"
#include "qapi/qapi-visit-machine.h"
#include "qom.h"
#include "system-int.h"

#define SYSTEM_BUS "main-system-bus"

/* --- Buses -------------------------------------------------------------------------------------- */

/* The slot that bus names; -1 and errp if it is none that a virtio device can have. */
static int slot_of_bus(const char *driver, const char *bus, GError **errp)
{
    for (int i = 0; i < VIRT_VIRTIO_SLOTS && vm_options()->machine == MACHINE_TYPE_VIRT; i++) {
        g_autofree char *path = qom_bus_path(i);

        if (!strcmp(strrchr(path, '/') + 1, bus)) {
            return i;
        }
    }
    if (!strcmp(bus, SYSTEM_BUS)) {
        error_setg(errp, "Device '%s' can't go on System bus", driver);
    } else {
        error_setg(errp, "Bus '%s' not found", bus);
    }
    return -1;
}

int qom_choose_slot(const char *driver, const char *bus, GError **errp)
{
    int slot = bus ? slot_of_bus(driver, bus, errp) : VIRT_VIRTIO_SLOTS - 1;

    if (slot < 0) {
        return -1;
    }
    if (bus && vm_slot_is_taken(slot)) {
        error_setg(errp, "Bus '%s' is full", bus);
        return -1;
    }
    while (slot >= 0 && (vm_options()->machine != MACHINE_TYPE_VIRT || vm_slot_is_taken(slot))) {
        slot--;
    }
    if (slot < 0) {
        error_setg(errp, "No 'virtio-bus' bus found for device '%s'", driver);
    }
    return slot;
}

/* The system bus has another name than its path says. */
static void no_hotplug(const char *bus_path, GError **errp)
{
    const char *name = strrchr(bus_path, '/') + 1;

    error_setg(errp, "Bus '%s' does not support hotplugging",
               !strcmp(name, "sysbus") ? SYSTEM_BUS : name);
}

/* --- Devices ------------------------------------------------------------------------------------ */

static void add_device(const DeviceOptions *device, GError **errp)
{
    const char *driver = DeviceDriver_str(device->driver);
    g_autofree char *bus = NULL;
    int slot;

    if (!option_check_id(device->id, errp)) {
        return;
    }
    if (device->driver == DEVICE_DRIVER_VMGENID) {
        error_setg(errp, "Device '%s' can not be hotplugged on this machine", driver);
        return;
    }
    slot = qom_choose_slot(driver, device->bus, errp);
    if (slot >= 0) {
        bus = qom_bus_path(slot);
        no_hotplug(bus, errp);
    }
}

void qom_plug(json_object *tree, bool keyval, GError **errp)
{
    DeviceOptions *device = NULL;

    if (inspect_device(tree, !keyval, errp) &&
        (keyval ? qapi_input_keyval : qapi_input)(&qapi_type_DeviceOptions, tree, NULL, &device,
                                                  errp)) {
        add_device(device, errp);
    }
    qapi_free_DeviceOptions(device);
}

/* Not generated: an unknown driver is told in other words than an unknown value elsewhere. */
bool coroutine_fn qmp_marshal_device_add(json_object *args, json_object **ret, GError **errp)
{
    json_object *tree = args ? json_object_get(args) : json_object_new_object();
    GError *err = NULL;

    qom_plug(tree, false, &err);
    json_object_put(tree);
    if (err) {
        g_propagate_error(errp, err);
        return false;
    }
    *ret = json_object_new_object();
    return true;
}

void coroutine_fn qmp_device_del(const char *id, GError **errp)
{
    g_autoptr(GPtrArray) objects = qom_objects();
    g_autofree char *path = *id == '/' ? g_strdup(id) : g_strconcat("/machine/peripheral/", id, NULL);
    const QomObject *device = qom_resolve(objects, path, NULL);

    if (!device) {
        error_set_class(errp, QAPI_ERROR_DEVICE_NOT_FOUND, "Device '%s' not found", id);
    } else if (!qom_type_is(device->type, "device")) {
        error_setg(errp, "%s is not a hotpluggable device", id);
    } else if (device->bus) {
        no_hotplug(device->bus, errp);
    } else {
        error_setg(errp, "Device '%s' does not support hotplugging", id);
    }
}
