/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * "info qtree": the buses, what is on them and with which properties, as QEMU prints them.  The
 * board's own devices are a table, since nobody can change them; what was plugged says itself what
 * it is.  Coroutine of the session.
 */
#include <inttypes.h>
#include <string.h>
#include "qapi/qapi-commands-qom.h"
#include "qom.h"
#include "system-int.h"

/* What QEMU says of a device that it has at the same place, without what is not there. */
typedef struct BoardDevice {
    const char *type;
    const char *facts; /* lines */
} BoardDevice;

#define FLASH(name) \
    "num-blocks = 128 (0x80)\n" \
    "sector-length = 262144 (0x40000)\n" \
    "width = 4 (0x4)\n" \
    "device-width = 2 (0x2)\n" \
    "max-device-width = 2 (0x2)\n" \
    "big-endian = false\n" \
    "id0 = 137 (0x89)\n" \
    "id1 = 24 (0x18)\n" \
    "name = \"" name "\"\n" \
    "mmio ffffffffffffffff/0000000002000000\n"

static const BoardDevice above_slots[] = {
    {"cfi.pflash01", FLASH("virt.flash1")},
    {"cfi.pflash01", FLASH("virt.flash0")},
    {"goldfish_rtc", "gpio-out \"sysbus-irq\" 1\n"
                     "big-endian = false\n"
                     "mmio 0000000000101000/0000000000000024\n"},
    {"serial-mm", "gpio-out \"sysbus-irq\" 1\n"
                  "regshift = 0 (0x0)\n"
                  "mmio ffffffffffffffff/0000000000000008\n"},
}, below_slots[] = {
    {"riscv.sifive.test", "mmio 0000000000100000/0000000000001000\n"},
    {"riscv.sifive.plic", "gpio-in \"\" 96\n"
                          "gpio-out \"\" 2\n"
                          "hart-config = \"MS\"\n"
                          "hartid-base = 0 (0x0)\n"
                          "num-sources = 96 (0x60)\n"
                          "num-priorities = 7 (0x7)\n"
                          "priority-base = 4 (0x4)\n"
                          "pending-base = 4096 (0x1000)\n"
                          "enable-base = 8192 (0x2000)\n"
                          "enable-stride = 128 (0x80)\n"
                          "context-base = 2097152 (0x200000)\n"
                          "context-stride = 4096 (0x1000)\n"
                          "aperture-size = 6291456 (0x600000)\n"
                          "mmio 000000000c000000/0000000000600000\n"},
    {"riscv.aclint.mtimer", "gpio-out \"\" 1\n"
                            "hartid-base = 0 (0x0)\n"
                            "num-harts = 1 (0x1)\n"
                            "timecmp-base = 0 (0x0)\n"
                            "time-base = 32760 (0x7ff8)\n"
                            "aperture-size = 32768 (0x8000)\n"
                            "timebase-freq = 10000000 (0x989680)\n"
                            "mmio 0000000002004000/0000000000008000\n"},
    {"riscv.aclint.swi", "gpio-out \"\" 1\n"
                         "hartid-base = 0 (0x0)\n"
                         "num-harts = 1 (0x1)\n"
                         "sswi = 0 (0x0)\n"
                         "mmio 0000000002000000/0000000000004000\n"},
    {"riscv.hart_array", "num-harts = 1 (0x1)\n"
                         "hartid-base = 0 (0x0)\n"
                         "cpu-type = \"rv64-riscv-cpu\"\n"
                         "resetvec = 4096 (0x1000)\n"},
};

static void coroutine_fn print_board_devices(HMPSession *s, const BoardDevice *devices, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        g_auto(GStrv) lines = g_strsplit(devices[i].facts, "\n", -1);

        hmp_printf(s, "  dev: %s, id \"\"\n", devices[i].type);
        for (char **line = lines; **line; line++) {
            hmp_printf(s, "    %s\n", *line);
        }
    }
}

/* A property of the device as it is, if it is one that QEMU shows there. */
static void coroutine_fn print_property(HMPSession *s, const QomObject *device, const char *name)
{
    json_object *value = qmp_qom_get(device->path, name, NULL);

    if (json_object_is_type(value, json_type_string)) {
        hmp_printf(s, "        %s = \"%s\"\n", name, json_object_get_string(value));
    } else if (json_object_is_type(value, json_type_int)) {
        hmp_printf(s, "        %s = %" PRId64 " (0x%" PRIx64 ")\n", name,
                   json_object_get_int64(value), json_object_get_int64(value));
    }
    json_object_put(value);
}

static void coroutine_fn print_plugged(HMPSession *s, const QomObject *device)
{
    static const char *const shown[] = {"drive", "write-cache", "rerror", "werror", "serial",
                                        "queue-size", "mac", "netdev"};
    bool named = g_str_has_prefix(device->path, "/machine/peripheral/");

    hmp_printf(s, "      dev: %s, id \"%s\"\n", device->type->name,
               named ? strrchr(device->path, '/') + 1 : "");
    for (size_t i = 0; i < G_N_ELEMENTS(shown); i++) {
        print_property(s, device, shown[i]);
    }
}

static void coroutine_fn print_slot(HMPSession *s, GPtrArray *objects, int slot)
{
    g_autofree char *bus = qom_bus_path(slot);

    hmp_printf(s, "  dev: virtio-mmio, id \"\"\n"
                  "    gpio-out \"sysbus-irq\" 1\n"
                  "    mmio %016" PRIx64 "/0000000000000200\n"
                  "    bus: virtio-mmio-bus.%d\n"
                  "      type virtio-mmio-bus\n",
               (uint64_t)VIRT_VIRTIO_BASE + slot * VIRT_VIRTIO_STRIDE, slot);
    for (guint i = 0; i < objects->len; i++) {
        const QomObject *device = objects->pdata[i];

        if (device->bus && !strcmp(device->bus, bus)) {
            print_plugged(s, device);
        }
    }
}

void coroutine_fn hmp_info_qtree(HMPSession *s, const HMPArgs *args)
{
    g_autoptr(GPtrArray) objects = qom_objects();

    hmp_printf(s, "bus: main-system-bus\n  type System\n");
    if (vm_board()) {
        print_board_devices(s, above_slots, G_N_ELEMENTS(above_slots));
        for (int slot = VIRT_VIRTIO_SLOTS; slot-- > 0;) {
            print_slot(s, objects, slot);
        }
        print_board_devices(s, below_slots, G_N_ELEMENTS(below_slots));
    }
}
