/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * "info" of the human monitor about what the machine is made of: memory, images, interrupts,
 * virtio devices, the tree of objects; and about what it never has.  The layout is QEMU's.
 * Coroutines of the session.
 */
#include <string.h>
#include "qapi/qapi-commands-machine.h"
#include "qom.h"
#include "system-int.h"

/* --- Texts that QMP has, too ------------------------------------------------------------------- */

typedef HumanReadableText *coroutine_fn TextQuery(GError **errp);

static void coroutine_fn show(HMPSession *s, TextQuery *query)
{
    GError *err = NULL;
    g_autoptr(HumanReadableText) info = query(&err);

    if (!hmp_handle_error(s, err)) {
        hmp_printf(s, "%s", info->human_readable_text);
    }
}

#define SHOW(name) \
    static void coroutine_fn hmp_info_##name(HMPSession *s, const HMPArgs *args) \
    { \
        show(s, qmp_x_query_##name); \
    }
SHOW(irq)
SHOW(numa)
SHOW(ramblock)
SHOW(roms)
SHOW(usb)

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

static void coroutine_fn hmp_info_virtio(HMPSession *s, const HMPArgs *args)
{
    g_autoptr(VirtioInfoList) list = qmp_x_query_virtio(NULL);

    for (VirtioInfoList *e = list; e; e = e->next) {
        hmp_printf(s, "%s [%s]\n", e->value->path, e->value->name);
    }
    if (!list) {
        hmp_printf(s, "No VirtIO devices\n");
    }
}

static void coroutine_fn hmp_info_hotpluggable_cpus(HMPSession *s, const HMPArgs *args)
{
    GError *err = NULL;

    qapi_free_HotpluggableCPUList(qmp_query_hotpluggable_cpus(&err));
    hmp_handle_error(s, err);
}

static void coroutine_fn hmp_info_qdm(HMPSession *s, const HMPArgs *args)
{
    hmp_printf(s, QOM_DEVICES);
}

const HMPCommand info_hmp_commands[] = {
    {"info hotpluggable-cpus", "", "", "Show information about hotpluggable CPUs",
     hmp_info_hotpluggable_cpus},
    {"info irq", "", "", "show the interrupts statistics (if available)", hmp_info_irq},
    {"info numa", "", "", "show NUMA information", hmp_info_numa},
    {"info pic", "", "", "show PIC state", hmp_info_pic},
    {"info qdm", "", "", "show qdev device model list", hmp_info_qdm},
    {"info qom-tree", "path:s?", "[path]", "show QOM composition tree", hmp_info_qom_tree,
     hmp_complete_qom_path},
    {"info qtree", "", "", "show device tree", hmp_info_qtree},
    {"info ramblock", "", "", "Display system ramblock information", hmp_info_ramblock},
    {"info roms", "", "", "show roms", hmp_info_roms},
    {"info usb", "", "", "show guest USB devices", hmp_info_usb},
    {"info virtio", "", "", "List all available virtio devices", hmp_info_virtio},
    {0},
};
