/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * "info" of the human monitor about what the machine is made of: memory, images, interrupts,
 * virtio devices, the tree of objects; and about what it never has.  The layout is QEMU's.
 * Coroutines of the session.
 */
#include <inttypes.h>
#include <string.h>
#include "qapi/qapi-commands-machine.h"
#include "qom.h"
#include "system-int.h"

/* --- Memory ---------------------------------------------------------------------------------- */

static void coroutine_fn hmp_info_roms(HMPSession *s, const HMPArgs *args)
{
    VirtRom rom;

    for (unsigned i = 0; vm_board() && virt_rom(vm_board(), i, &rom); i++) {
        hmp_printf(s, "addr=%016" PRIx64 " size=0x%06" PRIx64 " mem=%s name=\"%s\"\n", rom.addr,
                   rom.size, rom.read_only ? "rom" : "ram", rom.name);
    }
}

static void coroutine_fn hmp_info_ramblock(HMPSession *s, const HMPArgs *args)
{
    uint64_t size = vm_ram_size();

    hmp_printf(s, "%24s %8s  %18s %18s %18s\n", "Block Name", "PSize", "Offset", "Used", "Total");
    if (size) {
        hmp_printf(s, "%24s %8s  0x%016x 0x%016" PRIx64 " 0x%016" PRIx64 "\n", VM_RAM_ID, "4 KiB",
                   0, size, size);
    }
}

/* --- Interrupts ------------------------------------------------------------------------------- */

static void coroutine_fn hmp_info_irq(HMPSession *s, const HMPArgs *args)
{
    if (!vm_board()) {
        return;
    }
    hmp_printf(s, "IRQ statistics for riscv.sifive.plic:\n");
    for (int n = 1; n <= SIFIVE_PLIC_SOURCES; n++) {
        uint64_t count = sifive_plic_count(virt_plic(vm_board()), n);

        if (count) {
            hmp_printf(s, "%2d: %" PRIu64 "\n", n, count);
        }
    }
}

static void coroutine_fn hmp_info_pic(HMPSession *s, const HMPArgs *args)
{
    g_autoptr(GString) out = g_string_new(NULL);

    if (vm_board()) {
        sifive_plic_print(virt_plic(vm_board()), out);
        hmp_printf(s, "%s", out->str);
    }
}

/* --- Objects ---------------------------------------------------------------------------------- */

/* The order of the tree: a '/' comes before whatever goes on with the name. */
static gint by_path(gconstpointer a, gconstpointer b)
{
    const char *x = (*(const QomObject *const *)a)->path, *y = (*(const QomObject *const *)b)->path;

    while (*x && *x == *y) {
        x++;
        y++;
    }
    return (*x == '/' ? 1 : (uint8_t)*x) - (*y == '/' ? 1 : (uint8_t)*y);
}

/* How deep path is below root, 0 for root itself; -1 if it is elsewhere. */
static int depth_below(const char *path, const char *root)
{
    size_t length = strcmp(root, "/") ? strlen(root) : 0;
    int depth = 0;

    if (!strcmp(path, root)) {
        return 0;
    }
    if (strncmp(path, root, length) || path[length] != '/') {
        return -1;
    }
    for (path += length; *path; path++) {
        depth += *path == '/';
    }
    return depth;
}

static void coroutine_fn hmp_info_qom_tree(HMPSession *s, const HMPArgs *args)
{
    const char *path = hmp_arg_str(args, "path");
    g_autoptr(GPtrArray) objects = qom_objects();
    const QomObject *root = qom_resolve(objects, path ? path : "/machine", NULL);

    if (!root) {
        hmp_printf(s, "Path '%s' could not be resolved.\n", path);
        return;
    }
    g_ptr_array_sort(objects, by_path);
    for (guint i = 0; i < objects->len; i++) {
        const QomObject *object = objects->pdata[i];
        int depth = depth_below(object->path, root->path);

        if (depth >= 0) {
            hmp_printf(s, "%*s%s (%s)\n", 2 * depth, "", strrchr(object->path, '/'),
                       object->type->name);
        }
    }
}

/* The one that was plugged last comes first. */
static void coroutine_fn hmp_info_virtio(HMPSession *s, const HMPArgs *args)
{
    g_autoptr(GPtrArray) objects = qom_objects();
    bool any = false;

    for (guint i = objects->len; i-- > 0;) {
        const QomObject *object = objects->pdata[i];

        if (qom_type_is(object->type, "virtio-device")) {
            g_autofree char *name = g_strndup(object->type->name, strlen(object->type->name) -
                                                                      strlen("-device"));

            hmp_printf(s, "%s [%s]\n", object->path, name);
            any = true;
        }
    }
    if (!any) {
        hmp_printf(s, "No VirtIO devices\n");
    }
}

/* --- What there is none of ---------------------------------------------------------------------- */

static void coroutine_fn hmp_info_hotpluggable_cpus(HMPSession *s, const HMPArgs *args)
{
    GError *err = NULL;

    qapi_free_HotpluggableCPUList(qmp_query_hotpluggable_cpus(&err));
    hmp_handle_error(s, err);
}

#define NONE(name, text) \
    static void coroutine_fn hmp_info_##name(HMPSession *s, const HMPArgs *args) \
    { \
        hmp_printf(s, "%s", text); \
    }
NONE(balloon, "Error: No balloon device has been activated\n")
NONE(memory_devices, "")
NONE(mice, "No mouse devices connected\n")
NONE(network, "")
NONE(numa, "0 nodes\n")
NONE(tpm, "")
NONE(usb, "Error: USB support not enabled\n")

const HMPCommand info_hmp_commands[] = {
    {"info balloon", "", "", "show balloon information", hmp_info_balloon},
    {"info hotpluggable-cpus", "", "", "Show information about hotpluggable CPUs",
     hmp_info_hotpluggable_cpus},
    {"info irq", "", "", "show the interrupts statistics (if available)", hmp_info_irq},
    {"info memory-devices", "", "", "show memory devices", hmp_info_memory_devices},
    {"info mice", "", "", "show which guest mouse is receiving events", hmp_info_mice},
    {"info network", "", "", "show the network state", hmp_info_network},
    {"info numa", "", "", "show NUMA information", hmp_info_numa},
    {"info pic", "", "", "show PIC state", hmp_info_pic},
    {"info qom-tree", "path:s?", "[path]", "show QOM composition tree", hmp_info_qom_tree,
     hmp_complete_qom_path},
    {"info qtree", "", "", "show device tree", hmp_info_qtree},
    {"info ramblock", "", "", "Display system ramblock information", hmp_info_ramblock},
    {"info roms", "", "", "show roms", hmp_info_roms},
    {"info tpm", "", "", "show the TPM device", hmp_info_tpm},
    {"info usb", "", "", "show guest USB devices", hmp_info_usb},
    {"info virtio", "", "", "List all available virtio devices", hmp_info_virtio},
    {0},
};
