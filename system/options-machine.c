/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Options that say what the machine is made of: what their types cannot check, in the words
 * that QEMU has for it.  Main thread, start-up.
 */
#include <inttypes.h>
#include <string.h>
#include "options-int.h"
#include "qapi/error.h"
#include "qapi/qapi-visit-machine.h"
#include "qapi/visitor.h"
#include "qom.h"

#define MIB (UINT64_C(1) << 20)

/* --- The kinds of things, by name ----------------------------------------------------------- */

static bool known(const QEnumLookup *lookup, const char *name)
{
    return !name || qapi_enum_parse(lookup, name, -1, NULL) >= 0;
}

bool inspect_machine(json_object *tree, bool is_json, GError **errp)
{
    const char *type = option_text(tree, "type");
    g_autofree char *owner = g_strconcat(type ? type : "virt", "-machine", NULL);

    if (!known(&MachineType_lookup, type)) {
        error_setg(errp, "unsupported machine type '%s'; there are: virt, none", type);
        return false;
    }
    if (!json_object_is_type(tree, json_type_object)) {
        return true; /* the visitor says what is wrong */
    }
    json_object_object_foreach(tree, name, value)
    {
        (void)value;
        if (!option_is_known(&qapi_type_MachineOptions, name, owner, errp)) {
            return false;
        }
    }
    return true;
}

bool inspect_cpu(json_object *tree, bool is_json, GError **errp)
{
    const char *model = option_text(tree, "model");

    if (!known(&CpuModel_lookup, model)) {
        error_setg(errp, "unable to find CPU model '%s'; there are: rv64, max", model);
        return false;
    }
    return true;
}

bool inspect_device(json_object *tree, bool is_json, GError **errp)
{
    const char *driver = option_text(tree, "driver");

    return !driver || qom_type_is_pluggable(driver, errp);
}

bool inspect_device_option(json_object *tree, bool is_json, GError **errp)
{
    const char *driver = option_text(tree, "driver");
    int value = driver ? qapi_enum_parse(&DeviceDriver_lookup, driver, -1, NULL) : -1;
    const QapiType *branch = value < 0 ? NULL : qapi_type_DeviceOptions.branches[value];

    if (!inspect_device(tree, is_json, errp)) {
        return false;
    }
    if (!branch) {
        return true; /* the visitor says what is wrong */
    }
    json_object_object_foreach(tree, name, member)
    {
        (void)member;
        if (!qapi_find_member(&qapi_type_DeviceOptions, name) &&
            !option_is_known(branch, name, driver, errp)) {
            return false;
        }
    }
    return true;
}

/* --- Memory ----------------------------------------------------------------------------------- */

/* On the command line a number without suffix means MiB. */
bool inspect_memory(json_object *tree, bool is_json, GError **errp)
{
    const char *size = option_text(tree, "size");
    g_autofree char *text = NULL;
    uint64_t bytes;

    if (is_json || !size) {
        return true;
    }
    text = *size && g_ascii_isdigit(size[strlen(size) - 1]) && !g_str_has_prefix(size, "0x")
               ? g_strconcat(size, "M", NULL)
               : g_strdup(size);
    if (!qapi_parse_size(text, &bytes)) {
        error_setg(errp, "Parameter 'size' expects a non-negative number below 2^64; optional "
                         "suffix k, M, G, T, P or E");
        return false;
    }
    json_object_object_add(tree, "size", json_object_new_string(text));
    return true;
}

/* Memory cannot be added later, so what could be added must be nothing. */
static bool check_growth(const MemoryOptions *m, uint64_t size, GError **errp)
{
    if (m->has_slots && !m->has_maxmem) {
        error_setg(errp, "slots specified but no max-size");
        return false;
    }
    if (m->has_maxmem && m->maxmem < size) {
        error_setg(errp, "invalid value of maxmem: maximum memory size (0x%" PRIx64 ") must be "
                         "at least the initial memory size (0x%" PRIx64 ")", m->maxmem, size);
        return false;
    }
    if (m->has_maxmem && m->maxmem > size) {
        error_setg(errp, "memory cannot be added later: maxmem must be the size");
        return false;
    }
    if (m->has_slots && m->slots) {
        error_setg(errp, "invalid value of maxmem: memory slots were specified but maximum "
                         "memory size (0x%" PRIx64 ") is equal to the initial memory size "
                         "(0x%" PRIx64 ")", m->maxmem, size);
        return false;
    }
    return true;
}

static bool set_ram_size(VmOptions *o, uint64_t size, GError **errp)
{
    if (size < 2 * MIB || size > UINT64_C(1) << 40) {
        error_setg(errp, "RAM must be between 2 MiB and 1 TiB");
        return false;
    }
    o->ram_size = (size + 4095) & ~UINT64_C(4095);
    return true;
}

bool opt_memory(VmOptions *o, const char *option, const char *arg, GError **errp)
{
    const MemoryOptions *m = o->given->memory;

    return set_ram_size(o, m->has_size ? m->size : o->ram_size, errp) &&
           check_growth(m, o->ram_size, errp);
}

/* --- CPUs --------------------------------------------------------------------------------------- */

/*
 * What is left out follows from the rest: as many sockets as need be, or else cores, or else
 * threads.  64 bits hold the product of what a user can say.
 */
typedef struct Topology {
    uint64_t cpus, maxcpus, sockets, cores, threads;
} Topology;

static void complete_topology(Topology *t)
{
    if (!t->cpus && !t->maxcpus) {
        t->sockets = t->sockets ? t->sockets : 1;
        t->cores = t->cores ? t->cores : 1;
        t->threads = t->threads ? t->threads : 1;
    } else {
        t->maxcpus = t->maxcpus ? t->maxcpus : t->cpus;
        if (!t->cores) {
            t->sockets = t->sockets ? t->sockets : 1;
            t->threads = t->threads ? t->threads : 1;
            t->cores = t->maxcpus / (t->sockets * t->threads);
        } else if (!t->sockets) {
            t->threads = t->threads ? t->threads : 1;
            t->sockets = t->maxcpus / (t->cores * t->threads);
        }
        if (!t->threads) {
            t->threads = t->maxcpus / (t->sockets * t->cores);
        }
    }
}

static bool check_topology(Topology *t, MachineType machine, GError **errp)
{
    g_autofree char *text = NULL;
    uint64_t cores, product;

    complete_topology(t);
    text = g_strdup_printf("sockets (%" PRIu64 ") * cores (%" PRIu64 ") * threads (%" PRIu64 ")",
                           t->sockets, t->cores, t->threads);
    if (__builtin_mul_overflow(t->sockets, t->cores, &cores) ||
        __builtin_mul_overflow(cores, t->threads, &product)) {
        error_setg(errp, "Invalid CPU topology: %s is too large", text);
        return false;
    }
    t->maxcpus = t->maxcpus ? t->maxcpus : product;
    t->cpus = t->cpus ? t->cpus : t->maxcpus;
    if (product != t->maxcpus) {
        error_setg(errp, "Invalid CPU topology: product of the hierarchy must match maxcpus: "
                         "%s != maxcpus (%" PRIu64 ")", text, t->maxcpus);
        return false;
    }
    if (t->maxcpus < t->cpus) {
        error_setg(errp, "Invalid CPU topology: maxcpus must be equal to or greater than smp: "
                         "%s == maxcpus (%" PRIu64 ") < smp_cpus (%" PRIu64 ")", text,
                   t->maxcpus, t->cpus);
        return false;
    }
    if (t->maxcpus > 1) {
        error_setg(errp, "Invalid SMP CPUs %" PRIu64 ". The max CPUs supported by machine '%s' "
                         "is 1", t->maxcpus, MachineType_str(machine));
        return false;
    }
    return true;
}

bool opt_smp(VmOptions *o, const char *option, const char *arg, GError **errp)
{
    const SmpOptions *s = o->given->smp_opts;

    if ((s->has_cpus && !s->cpus) || (s->has_maxcpus && !s->maxcpus) ||
        (s->has_sockets && !s->sockets) || (s->has_cores && !s->cores) ||
        (s->has_threads && !s->threads)) {
        error_setg(errp, "Invalid CPU topology: CPU topology parameters must be greater than "
                         "zero");
        return false;
    }
    return true;
}

static bool check_smp(const VmOptions *o, GError **errp)
{
    const SmpOptions *s = o->given->smp_opts;
    Topology t;

    if (!s) {
        return true;
    }
    t = (Topology){s->cpus, s->maxcpus, s->sockets, s->cores, s->threads};
    return check_topology(&t, o->machine, errp);
}

/* --- How guest code is executed ------------------------------------------------------------------ */

/* The names that the options give, in order. */
static char **accel_names(const VmOptions *o)
{
    const MachineOptions *m = o->given->machine;
    GPtrArray *names = g_ptr_array_new();

    if (m && m->accel) {
        g_ptr_array_unref(names);
        return g_strsplit(m->accel, ":", -1);
    }
    for (AccelOptionsList *a = o->given->accel; a; a = a->next) {
        g_ptr_array_add(names, g_strdup(a->value->accel));
    }
    g_ptr_array_add(names, NULL);
    return (char **)g_ptr_array_free(names, false);
}

/* The first that exists is taken; those before it are left with a remark. */
static bool check_accel(VmOptions *o, GError **errp)
{
    const MachineOptions *m = o->given->machine;
    g_auto(GStrv) names = accel_names(o);
    const char *where = m && m->accel ? "" : "-accel ";

    if (m && m->accel && o->given->accel) {
        error_setg(errp, "The -accel and \"-machine accel=\" options are incompatible");
        return false;
    }
    for (char **name = names; *name; name++) {
        const char *colon = *where ? ": " : "";

        if (!strcmp(*name, "tcg") || !strcmp(*name, "qtest")) {
            if (name != names) {
                g_printerr("%s: falling back to %s\n", g_get_prgname(), *name);
            }
            o->accel_qtest = !strcmp(*name, "qtest");
            return true;
        }
        if (!name[1]) {
            error_setg(errp, "%s%s%sinvalid accelerator %s", where, *where ? *name : "", colon,
                       *name);
            return false;
        }
        g_printerr("%s: %s%s%sinvalid accelerator %s\n", g_get_prgname(), where,
                   *where ? *name : "", colon, *name);
    }
    return true;
}

/* --- The machine ----------------------------------------------------------------------------------- */

bool opt_machine(VmOptions *o, const char *option, const char *arg, GError **errp)
{
    const MachineOptions *m = o->given->machine;

    if (m->has_usb && m->usb) {
        error_setg(errp, "the machine has no USB");
        return false;
    }
    return true;
}

/* What there is to say of the machine goes to where the rest of system/ reads it. */
static void adopt_machine(VmOptions *o, const MachineOptions *m)
{
    o->machine = m->has_type ? m->type : MACHINE_TYPE_VIRT;
    o->bios = m->firmware;
    o->kernel = m->kernel;
    o->initrd = m->initrd;
    o->append = m->append;
    o->dtb = m->dtb;
    o->dumpdtb = m->dumpdtb;
    o->pflash[0] = m->pflash0;
    o->pflash[1] = m->pflash1;
    o->pflash_in_state = m->has_pflash_in_state && m->pflash_in_state;
    o->no_snapshot_tracking = m->has_snapshot_tracking && !m->snapshot_tracking;
    o->mem_merge = m->has_mem_merge && m->mem_merge;
    o->no_core = m->has_dump_guest_core && !m->dump_guest_core;
}

/* The RAM that -object describes and -machine names. */
static bool adopt_backend(VmOptions *o, const MachineOptions *m, GError **errp)
{
    const MemoryBackendProperties *p = NULL;

    for (ObjectOptionsList *e = o->given->object; e; e = e->next) {
        if (e->value->qom_type == OBJECT_TYPE_MEMORY_BACKEND_RAM) {
            if (!m || !m->memory_backend || strcmp(m->memory_backend, e->value->id)) {
                error_setg(errp, "-object memory-backend-ram,id=%s: -machine memory-backend does "
                                 "not name it", e->value->id);
                return false;
            }
            p = &e->value->u.memory_backend_ram;
        }
    }
    if (!m || !m->memory_backend) {
        return true;
    }
    if (!p) {
        error_setg(errp, "Memory backend '%s' not found", m->memory_backend);
        return false;
    }
    if (o->given->memory && o->given->memory->has_size && p->size != o->ram_size) {
        error_setg(errp, "Machine memory size does not match the size of the memory backend");
        return false;
    }
    o->no_core |= p->has_dump && !p->dump;
    o->mem_merge |= p->has_merge && p->merge;
    o->prealloc = p->has_prealloc && p->prealloc;
    return set_ram_size(o, p->size, errp);
}

static bool has_nic(const VmOptions *o)
{
    for (guint i = 0; i < o->nics->len; i++) {
        if (((NicOption *)o->nics->pdata[i])->nic->type != NIC_TYPE_NONE) {
            return true;
        }
    }
    return false;
}

bool options_check_machine(VmOptions *o, GError **errp)
{
    if (o->given->machine) {
        adopt_machine(o, o->given->machine);
    }
    if (!check_accel(o, errp) || !adopt_backend(o, o->given->machine, errp)) {
        return false;
    }
    if (!o->kernel && (o->initrd || o->append)) {
        error_setg(errp, "-%s only allowed with -kernel option",
                   o->initrd ? "initrd" : "append");
        return false;
    }
    if (o->machine == MACHINE_TYPE_NONE &&
        (o->kernel || o->bios || o->dtb || o->dumpdtb || o->devices->len || has_nic(o) || o->pflash[0] ||
         o->pflash[1])) {
        error_setg(errp, "machine 'none' has no CPU, no memory and no devices");
        return false;
    }
    return check_smp(o, errp);
}
