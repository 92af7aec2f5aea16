/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QMP commands that show parts of the machine as text for people, "info" of the human monitor
 * among them, and the one that writes the device tree.  Coroutines of a session, main thread.
 */
#include <inttypes.h>
#include <string.h>
#include "qapi/error.h"
#include "qapi/qapi-commands-machine.h"
#include "qapi/util.h"
#include "qom.h"
#include "system-int.h"

/* Takes text. */
static HumanReadableText *readable(GString *text)
{
    HumanReadableText *info = g_new0(HumanReadableText, 1);

    info->human_readable_text = g_string_free(text, false);
    return info;
}

HumanReadableText *coroutine_fn qmp_x_query_roms(GError **errp)
{
    GString *out = g_string_new(NULL);
    VirtRom rom;

    for (unsigned i = 0; vm_board() && virt_rom(vm_board(), i, &rom); i++) {
        g_string_append_printf(out, "addr=%016" PRIx64 " size=0x%06" PRIx64
                                    " mem=%s name=\"%s\"\n",
                               rom.addr, rom.size, rom.read_only ? "rom" : "ram", rom.name);
    }
    return readable(out);
}

HumanReadableText *coroutine_fn qmp_x_query_ramblock(GError **errp)
{
    GString *out = g_string_new(NULL);
    uint64_t size = vm_ram_size();

    g_string_append_printf(out, "%24s %8s  %18s %18s %18s\n", "Block Name", "PSize", "Offset",
                           "Used", "Total");
    if (size) {
        g_string_append_printf(out, "%24s %8s  0x%016x 0x%016" PRIx64 " 0x%016" PRIx64 "\n",
                               VM_RAM_ID, "4 KiB", 0, size, size);
    }
    return readable(out);
}

HumanReadableText *coroutine_fn qmp_x_query_irq(GError **errp)
{
    GString *out = g_string_new(NULL);

    if (!vm_board()) {
        return readable(out);
    }
    g_string_append(out, "IRQ statistics for riscv.sifive.plic:\n");
    for (int n = 1; n <= SIFIVE_PLIC_SOURCES; n++) {
        uint64_t count = sifive_plic_count(virt_plic(vm_board()), n);

        if (count) {
            g_string_append_printf(out, "%2d: %" PRIu64 "\n", n, count);
        }
    }
    return readable(out);
}

HumanReadableText *coroutine_fn qmp_x_query_numa(GError **errp)
{
    return readable(g_string_new("0 nodes\n"));
}

HumanReadableText *coroutine_fn qmp_x_query_usb(GError **errp)
{
    error_setg(errp, "USB support not enabled");
    return NULL;
}

VirtioInfoList *coroutine_fn qmp_x_query_virtio(GError **errp)
{
    g_autoptr(GPtrArray) objects = qom_objects();
    VirtioInfoList *list = NULL;

    for (guint i = 0; i < objects->len; i++) {
        const QomObject *object = objects->pdata[i];

        if (qom_type_is(object->type, "virtio-device")) {
            VirtioInfo *info = g_new0(VirtioInfo, 1);

            info->path = g_strdup(object->path);
            info->name = g_strndup(object->type->name,
                                   strlen(object->type->name) - strlen("-device"));
            QAPI_LIST_PREPEND(list, info);
        }
    }
    return list;
}

/* --- The device tree ------------------------------------------------------------------------ */

typedef struct TreeFile {
    const char *filename;
    void *fdt;
    size_t size;
    GError *err;
} TreeFile;

/* WorkerFunc */
static int write_tree(void *opaque)
{
    TreeFile *f = opaque;

    return g_file_set_contents(f->filename, f->fdt, f->size, &f->err) ? 0 : -1;
}

void coroutine_fn qmp_dumpdtb(const char *filename, GError **errp)
{
    TreeFile f = {.filename = filename};
    const void *fdt = vm_board() ? vm_fdt(&f.size) : NULL;

    if (!fdt) {
        error_setg(errp, "This machine doesn't have a FDT");
        return;
    }
    f.fdt = g_memdup2(fdt, f.size); /* the machine may end meanwhile */
    if (co_run_in_worker(write_tree, &f) < 0) {
        error_setg(errp, "Error saving FDT to file %s: %s", filename, f.err->message);
        g_error_free(f.err);
    }
    g_free(f.fdt);
}
