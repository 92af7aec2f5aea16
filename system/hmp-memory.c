/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * HMP commands that look at CPUs and memory: x, xp, sum, memsave, dumps, info registers, mem
 * and mtree.  Coroutines of a session; memory is read as guest-read.c does.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>
#include "qapi/qapi-commands-dump.h"
#include "qapi/qapi-commands-machine.h"
#include "system-int.h"
#include "system/cpus.h"
#include "util/guest-memory.h"

#define PIECE 65536u

/* The CPU that commands mean: "cpu". */
static int current_cpu;

static void coroutine_fn hmp_cpu(HMPSession *s, const HMPArgs *args)
{
    int64_t index = hmp_arg_int(args, "index", 0);
    CpuView view;

    if (index < 0 || index >= CPUS_MAX || !guest_co_view(index, &view)) {
        hmp_printf(s, "invalid CPU index\n");
        return;
    }
    current_cpu = index;
}

/* False and a message if there is none. */
static bool coroutine_fn current_view(HMPSession *s, CpuView *view)
{
    if (guest_co_view(current_cpu, view)) {
        return true;
    }
    hmp_printf(s, "No CPU available\n");
    return false;
}

/* --- x and xp -------------------------------------------------------------------------------- */

static uint64_t item_at(const uint8_t *p, int size)
{
    uint64_t value = 0;

    for (int i = 0; i < size; i++) {
        value |= (uint64_t)p[i] << 8 * i;
    }
    return value;
}

static void coroutine_fn show_memory(HMPSession *s, const HMPArgs *args, const CpuView *view)
{
    HMPFormat f = hmp_arg_format(args, "fmt");
    uint64_t addr = hmp_arg_int(args, "addr", 0), left;
    bool interrupted;
    unsigned line;
    uint8_t buf[16];

    if (f.format == 'i') {
        hmp_printf(s, "Error: there is no disassembler; gdb has one\n");
        return;
    }
    f = hmp_show_format(f);
    left = f.count * f.size;
    line = f.size == 1 ? 8 : 16;
    f.size = f.format == 'c' ? 1 : f.size; /* characters are bytes, but counted as they are */
    hmp_set_reader(s, &interrupted);
    while (left && !interrupted) {
        size_t n = MIN(left, line);
        g_autoptr(GString) out = g_string_new(NULL);

        g_string_append_printf(out, "%016" PRIx64 ":", addr);
        if (!guest_co_read(view, addr, buf, n, false)) {
            hmp_printf(s, "%s Cannot access memory\n", out->str);
            return;
        }
        for (size_t i = 0; i < n; i += f.size) {
            hmp_show_item(out, f, item_at(buf + i, f.size));
        }
        hmp_printf(s, "%s\n", out->str);
        addr += n;
        left -= n;
    }
}

static void coroutine_fn hmp_x(HMPSession *s, const HMPArgs *args)
{
    CpuView view;

    if (current_view(s, &view)) {
        show_memory(s, args, &view);
    }
}

static void coroutine_fn hmp_xp(HMPSession *s, const HMPArgs *args)
{
    show_memory(s, args, NULL);
}

static void coroutine_fn hmp_print(HMPSession *s, const HMPArgs *args)
{
    g_autoptr(GString) out = g_string_new(NULL);

    hmp_show_number(out, hmp_show_format(hmp_arg_format(args, "fmt")),
                    hmp_arg_int(args, "val", 0));
    hmp_printf(s, "%s\n", out->str);
}

/* The sum of BSD's sum(1), 16 bits. */
typedef struct Sum {
    const uint8_t *buf;
    size_t n;
    uint16_t sum;
} Sum;

/* WorkerFunc: many who sum up would keep the main thread busy. */
static int sum_worker(void *opaque)
{
    Sum *s = opaque;

    for (size_t i = 0; i < s->n; i++) {
        s->sum = (uint16_t)(s->sum >> 1 | s->sum << 15) + s->buf[i];
    }
    return 0;
}

static void coroutine_fn hmp_sum(HMPSession *s, const HMPArgs *args)
{
    uint64_t addr = hmp_arg_int(args, "start", 0), left = (uint32_t)hmp_arg_int(args, "size", 0);
    g_autofree uint8_t *buf = g_malloc(PIECE);
    Sum sum = {.buf = buf};
    bool interrupted;

    hmp_set_reader(s, &interrupted);
    while (left && !interrupted) {
        sum.n = MIN(left, PIECE);
        if (!guest_co_read(NULL, addr, buf, sum.n, true)) {
            return;
        }
        co_run_in_worker(sum_worker, &sum);
        addr += sum.n;
        left -= sum.n;
    }
    if (!interrupted) {
        hmp_printf(s, "%05d\n", sum.sum);
    }
}

/* --- Addresses -------------------------------------------------------------------------------- */

static void coroutine_fn hmp_gva2gpa(HMPSession *s, const HMPArgs *args)
{
    uint64_t physical;
    CpuView view;

    if (!current_view(s, &view)) {
        return;
    }
    if (guest_co_translate(&view, hmp_arg_int(args, "addr", 0), &physical)) {
        hmp_printf(s, "gpa: %#" PRIx64 "\n", physical);
    } else {
        hmp_printf(s, "Unmapped\n");
    }
}

/* NULL if there is no RAM, which has been said. */
static const MemoryRegion *coroutine_fn find_ram(HMPSession *s, uint64_t addr)
{
    AddressSpace *as = vm_address_space();
    const MemoryRegion *r = as ? address_space_find(as, addr) : NULL;

    if (!r) {
        hmp_printf(s, "No memory is mapped at address 0x%" PRIx64 "\n", addr);
    } else if (!r->host) {
        hmp_printf(s, "Memory at address 0x%" PRIx64 " is not RAM\n", addr);
        return NULL;
    }
    return r;
}

static void coroutine_fn hmp_gpa2hva(HMPSession *s, const HMPArgs *args)
{
    uint64_t addr = hmp_arg_int(args, "addr", 0);
    const MemoryRegion *r = find_ram(s, addr);

    if (r) {
        hmp_printf(s, "Host virtual address for 0x%" PRIx64 " (%s) is %p\n", addr, r->name,
                   r->host + (addr - r->base));
    }
}

typedef struct HostPage {
    const uint8_t *byte;
    uint64_t entry; /* of the kernel's table, Documentation/admin-guide/mm/pagemap.rst */
    int error;
} HostPage;

static int host_page_worker(void *opaque)
{
    HostPage *p = opaque;
    off_t at = (uintptr_t)p->byte / getpagesize() * sizeof(p->entry);
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

    guest_memory_begin();
    *(const volatile uint8_t *)p->byte; /* a page that was never used has no place */
    guest_memory_end();
    p->error = fd < 0 || pread(fd, &p->entry, sizeof(p->entry), at) != sizeof(p->entry) ? EIO : 0;
    if (fd >= 0) {
        close(fd);
    }
    return 0;
}

static void coroutine_fn hmp_gpa2hpa(HMPSession *s, const HMPArgs *args)
{
    const uint64_t present = UINT64_C(1) << 63, number = (UINT64_C(1) << 55) - 1;
    uint64_t addr = hmp_arg_int(args, "addr", 0);
    const MemoryRegion *r = find_ram(s, addr);
    HostPage p = {.byte = r ? r->host + (addr - r->base) : NULL};

    if (!r || !guest_co_run(host_page_worker, &p)) {
        return;
    }
    if (p.error || !(p.entry & present) || !(p.entry & number)) {
        hmp_printf(s, "Error: the host does not tell where the page is\n");
        return;
    }
    hmp_printf(s, "Host physical address for 0x%" PRIx64 " (%s) is 0x%" PRIx64 "\n", addr, r->name,
               (p.entry & number) * getpagesize() + (uintptr_t)p.byte % getpagesize());
}

/* --- Files ------------------------------------------------------------------------------------- */

static void coroutine_fn hmp_memsave(HMPSession *s, const HMPArgs *args)
{
    GError *err = NULL;

    qmp_memsave(hmp_arg_int(args, "val", 0), (uint32_t)hmp_arg_int(args, "size", 0),
                hmp_arg_str(args, "filename"), true, current_cpu, &err);
    hmp_handle_error(s, err);
}

static void coroutine_fn hmp_pmemsave(HMPSession *s, const HMPArgs *args)
{
    GError *err = NULL;

    qmp_pmemsave(hmp_arg_int(args, "val", 0), (uint32_t)hmp_arg_int(args, "size", 0),
                 hmp_arg_str(args, "filename"), &err);
    hmp_handle_error(s, err);
}

static void coroutine_fn hmp_dumpdtb(HMPSession *s, const HMPArgs *args)
{
    const char *filename = hmp_arg_str(args, "filename");
    GError *err = NULL;

    qmp_dumpdtb(filename, &err);
    if (!hmp_handle_error(s, err)) {
        hmp_printf(s, "info: dtb dumped to %s\n", filename);
    }
}

static void coroutine_fn complete_memsave(HMPCompletion *c, int nr)
{
    if (nr == 2) {
        hmp_complete_files(c);
    }
}

/* Ctrl-C. */
static void give_up_dump(void *opaque)
{
    dump_cancel();
}

static void coroutine_fn hmp_dump_guest_memory(HMPSession *s, const HMPArgs *args)
{
    static const struct {
        const char *flag;
        DumpGuestMemoryFormat format;
    } formats[] = {
        {"zlib", DUMP_GUEST_MEMORY_FORMAT_KDUMP_ZLIB},
        {"lzo", DUMP_GUEST_MEMORY_FORMAT_KDUMP_LZO},
        {"snappy", DUMP_GUEST_MEMORY_FORMAT_KDUMP_SNAPPY},
        {"windmp", DUMP_GUEST_MEMORY_FORMAT_WIN_DMP},
    };
    g_autofree char *protocol = g_strdup_printf("file:%s", hmp_arg_str(args, "filename"));
    bool detach = hmp_arg_flag(args, "detach");
    DumpGuestMemoryFormat format = DUMP_GUEST_MEMORY_FORMAT_ELF;
    GError *err = NULL;
    int chosen = 0;

    for (size_t i = 0; i < G_N_ELEMENTS(formats); i++) {
        if (hmp_arg_flag(args, formats[i].flag)) {
            format = formats[i].format;
            chosen++;
        }
    }
    if (chosen > 1) {
        hmp_printf(s, "Error: only one of '-z|-l|-s|-w' can be set\n");
        return;
    }
    if (!detach) {
        hmp_set_interrupt(s, give_up_dump, NULL);
    }
    qmp_dump_guest_memory(hmp_arg_flag(args, "paging"), protocol, true, detach,
                          hmp_arg_given(args, "begin"), hmp_arg_int(args, "begin", 0),
                          hmp_arg_given(args, "length"), hmp_arg_int(args, "length", 0), true,
                          format, &err);
    hmp_set_interrupt(s, NULL, NULL);
    hmp_handle_error(s, err);
}

static void coroutine_fn hmp_info_dump(HMPSession *s, const HMPArgs *args)
{
    g_autoptr(DumpQueryResult) r = qmp_query_dump(NULL);

    hmp_printf(s, "Status: %s\n", DumpStatus_str(r->status));
    if (r->status == DUMP_STATUS_ACTIVE) {
        hmp_printf(s, "Finished: %.2f %%\n",
                   r->total ? 100.0 * (double)r->completed / (double)r->total : 0.0);
    }
}

/* --- info ---------------------------------------------------------------------------------------- */

static void print_registers(const CpuInspectOps *ops, CPUState *cpu, void *opaque)
{
    ops->print_registers(cpu, opaque);
}

static bool coroutine_fn show_registers(HMPSession *s, int index)
{
    g_autoptr(GString) out = g_string_new(NULL);

    if (!cpus_co_inspect(index, print_registers, out)) {
        return false;
    }
    hmp_printf(s, "\nCPU#%d\n%s", index, out->str);
    return true;
}

static void coroutine_fn hmp_info_registers(HMPSession *s, const HMPArgs *args)
{
    int64_t index = hmp_arg_int(args, "vcpu", current_cpu);

    if (hmp_arg_flag(args, "cpustate_all")) {
        for (int i = 0; show_registers(s, i); i++) {
        }
    } else if (index < 0 || index >= CPUS_MAX || !show_registers(s, index)) {
        hmp_printf(s, "CPU#%d not available\n", (int)index);
    }
}

typedef struct ShowMappings {
    CpuView view;
    GString *out;
} ShowMappings;

/* Worker: page tables are in guest RAM. */
static int print_mappings(void *opaque)
{
    ShowMappings *m = opaque;

    cpus_inspect_ops()->print_mappings(&m->view, vm_address_space(), m->out);
    return 0;
}

static void coroutine_fn hmp_info_mem(HMPSession *s, const HMPArgs *args)
{
    g_autoptr(GString) out = g_string_new(NULL);
    ShowMappings m = {.out = out};

    if (current_view(s, &m.view) && guest_co_run(print_mappings, &m)) {
        hmp_printf(s, "%s", out->str);
    }
}

static const char *region_kind(const MemoryRegion *r)
{
    return !r->host ? "i/o" : r->ops ? "romd" : r->read_only ? "rom" : "ram";
}

static void coroutine_fn show_regions(HMPSession *s, const char *indent)
{
    AddressSpace *as = vm_address_space();
    const MemoryRegion *r;

    for (unsigned i = 0; as && (r = address_space_region(as, i)); i++) {
        hmp_printf(s, "%s%016" PRIx64 "-%016" PRIx64 " (prio 0, %s): %s\n", indent, r->base,
                   r->base + (r->size - 1), region_kind(r), r->name);
    }
}

static void coroutine_fn hmp_info_mtree(HMPSession *s, const HMPArgs *args)
{
    int n = cpus_count();

    if (hmp_arg_flag(args, "flatview")) {
        hmp_printf(s, "FlatView #0\n AS \"memory\", root: system\n");
        for (int i = 0; i < n; i++) {
            hmp_printf(s, " AS \"cpu-memory-%d\", root: system\n", i);
        }
        hmp_printf(s, " Root memory region: system\n");
        show_regions(s, "  ");
        hmp_printf(s, "\n\n");
        return;
    }
    for (int i = 0; i < n; i++) {
        hmp_printf(s, "address-space: cpu-memory-%d\n", i);
    }
    hmp_printf(s, "address-space: memory\n"
                  "  0000000000000000-ffffffffffffffff (prio 0, i/o): system\n");
    show_regions(s, "    ");
    hmp_printf(s, "\n\n");
}

const HMPCommand memory_hmp_commands[] = {
    {"cpu", "index:i", "index", "set the default CPU", hmp_cpu},
    {"x", "fmt:/,addr:l", "/fmt addr", "virtual memory dump starting at 'addr'", hmp_x},
    {"xp", "fmt:/,addr:l", "/fmt addr", "physical memory dump starting at 'addr'", hmp_xp},
    {"print|p", "fmt:/,val:l", "/fmt expr",
     "print expression value (use $reg for CPU register access)", hmp_print},
    {"sum", "start:l,size:i", "addr size", "compute the checksum of a memory region", hmp_sum},
    {"gva2gpa", "addr:l", "addr",
     "print the guest physical address corresponding to a guest virtual address", hmp_gva2gpa},
    {"gpa2hva", "addr:l", "addr",
     "print the host virtual address corresponding to a guest physical address", hmp_gpa2hva},
    {"gpa2hpa", "addr:l", "addr",
     "print the host physical address corresponding to a guest physical address", hmp_gpa2hpa},
    {"memsave", "val:l,size:i,filename:s", "addr size file",
     "save to disk virtual memory dump starting at 'addr' of size 'size'", hmp_memsave,
     complete_memsave},
    {"pmemsave", "val:l,size:i,filename:s", "addr size file",
     "save to disk physical memory dump starting at 'addr' of size 'size'", hmp_pmemsave,
     complete_memsave},
    {"dump-guest-memory",
     "paging:-p,detach:-d,windmp:-w,zlib:-z,lzo:-l,snappy:-s,filename:F,begin:l?,length:l?",
     "[-p] [-d] [-z|-l|-s|-w] filename [begin length]",
     "dump guest memory into file 'filename'.\n\t\t\t"
     "-p: do paging to get guest's memory mapping.\n\t\t\t"
     "-d: return immediately (do not wait for completion).\n\t\t\t"
     "-z, -l, -s, -w: forms that are not supported.\n\t\t\t"
     "begin: the starting physical address.\n\t\t\t"
     "length: the memory size, in bytes.", hmp_dump_guest_memory},
    {"dumpdtb", "filename:F", "filename", "dump the FDT in dtb format to 'filename'", hmp_dumpdtb},
    {"info dump", "", "", "Display the latest dump status", hmp_info_dump},
    {"info registers", "cpustate_all:-a,vcpu:i?", "[-a|vcpu]",
     "show the cpu registers (-a: show register info for all cpus; vcpu: specific vCPU to "
     "query; show the current CPU's registers if no argument is specified)",
     hmp_info_registers},
    {"info mem", "", "", "show the active virtual memory mappings", hmp_info_mem},
    {"info mtree", "flatview:-f", "[-f]",
     "show memory tree (-f: dump flat view for address spaces)", hmp_info_mtree},
    {0},
};
