/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a user wants to see of a hart: its registers, and what its page tables map (Priv,
 * 4.4 and 4.5).  Nothing here has an effect on the guest; permissions do not matter.
 *
 * A CpuView is a copy, so page tables are read by any thread, also while the guest runs and
 * while a load still brings its RAM; not under a lock.
 */
#include <inttypes.h>

#include "cpu.h"
#include "page-table.h"
#include "util/guest-memory.h"

#define PTE_LEAF_BITS 0x0e /* R, W, X: one of them is set in a leaf */
#define PTE_ATTR_SHIFT 1   /* R W X U G A D follow the valid bit */
#define ATTRS "rwxugad"

/* A page table may refer to itself: this much of one is shown, and no more. */
#define MAX_TABLES 65536
#define MAX_LINES 65536

static void get_view(CPUState *cpu, CpuView *view)
{
    int levels = rv64_satp_levels(cpu->satp), priv = cpu->priv;

    if (priv == PRIV_M && cpu->mstatus & MSTATUS_MPRV) {
        priv = (cpu->mstatus & MSTATUS_MPP) >> MSTATUS_MPP_SHIFT;
    }
    *view = (CpuView){
        .root = rv64_satp_root(cpu->satp),
        .levels = levels,
        .physical = priv == PRIV_M || levels == 0,
    };
}

static bool read_pte(AddressSpace *as, uint64_t pa, uint64_t *pte)
{
    const uint64_t *p = address_space_map(as, pa, sizeof(*pte), false);

    if (!p) {
        return false;
    }
    guest_memory_begin();
    *pte = GUINT64_FROM_LE(__atomic_load_n(p, __ATOMIC_RELAXED));
    guest_memory_end();
    return true;
}

bool rv64_translate(AddressSpace *as, uint64_t root, int levels, uint64_t va, uint64_t *pa)
{
    uint64_t table = root, pte;

    if (rv64_canonical(va, levels) != va) {
        return false;
    }
    for (int level = levels - 1; level >= 0; level--) {
        uint64_t offset_mask = (UINT64_C(1) << rv64_level_shift(level)) - 1;

        if (!read_pte(as, rv64_pte_place(table, va, level), &pte) || !(pte & PTE_V)) {
            return false;
        }
        table = rv64_pte_address(pte);
        if (pte & PTE_LEAF_BITS) {
            *pa = (table & ~offset_mask) | (va & offset_mask);
            return true;
        }
    }
    return false;
}

static bool translate(const CpuView *view, AddressSpace *as, uint64_t va, uint64_t *pa)
{
    *pa = va;
    return view->physical || rv64_translate(as, view->root, view->levels, va, pa);
}

/* --- What is mapped --------------------------------------------------------------------- */

typedef struct Mapping {
    uint64_t va, pa, size;
    unsigned attr;
} Mapping;

typedef struct Mappings {
    AddressSpace *as;
    int levels;
    GString *out;
    Mapping last; /* grows while what follows continues it; size 0: none */
    int tables, lines;
} Mappings;

static void print_last(Mappings *m)
{
    if (m->last.size == 0) {
        return;
    }
    g_string_append_printf(m->out, "%016" PRIx64 " %016" PRIx64 " %016" PRIx64 " ", m->last.va,
                           m->last.pa, m->last.size);
    for (int i = 0; ATTRS[i]; i++) {
        g_string_append_c(m->out, m->last.attr >> i & 1 ? ATTRS[i] : '-');
    }
    g_string_append_c(m->out, '\n');
    m->lines++;
}

static void add_mapping(Mappings *m, Mapping next)
{
    if (m->last.size && m->last.va + m->last.size == next.va &&
        m->last.pa + m->last.size == next.pa && m->last.attr == next.attr) {
        m->last.size += next.size;
        return;
    }
    print_last(m);
    m->last = next;
}

static void walk_table(Mappings *m, uint64_t table, int level, uint64_t va)
{
    for (unsigned i = 0; i < 512 && m->lines < MAX_LINES; i++) {
        uint64_t at = rv64_canonical(va | (uint64_t)i << rv64_level_shift(level), m->levels);
        uint64_t pte;

        if (!read_pte(m->as, table + 8 * i, &pte)) {
            return;
        }
        if (!(pte & 1)) {
            continue;
        }
        if (pte & PTE_LEAF_BITS) {
            add_mapping(m, (Mapping){.va = at, .pa = rv64_pte_address(pte),
                                     .size = UINT64_C(1) << rv64_level_shift(level),
                                     .attr = pte >> PTE_ATTR_SHIFT & 0x7f});
        } else if (level > 0 && m->tables++ < MAX_TABLES) {
            walk_table(m, rv64_pte_address(pte), level - 1, at);
        }
    }
}

static void print_mappings(const CpuView *view, AddressSpace *as, GString *out)
{
    Mappings m = {.as = as, .levels = view->levels, .out = out};

    if (view->levels == 0) {
        g_string_append(out, "No translation or protection\n");
        return;
    }
    g_string_append(out, "vaddr            paddr            size             attr\n"
                         "---------------- ---------------- ---------------- -------\n");
    walk_table(&m, view->root, view->levels - 1, 0);
    print_last(&m);
    if (m.tables >= MAX_TABLES || m.lines >= MAX_LINES) {
        g_string_append(out, "(the rest is not shown: the page tables are too large)\n");
    }
}

/* --- Registers -------------------------------------------------------------------------- */

static const char *const x_names[32] = {
    "zero", "ra", "sp", "gp", "tp", "t0", "t1", "t2", "s0", "s1", "a0", "a1", "a2", "a3", "a4",
    "a5", "a6", "a7", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "t3", "t4",
    "t5", "t6",
};
static const char *const f_names[32] = {
    "ft0", "ft1", "ft2", "ft3", "ft4", "ft5", "ft6", "ft7", "fs0", "fs1", "fa0", "fa1", "fa2",
    "fa3", "fa4", "fa5", "fa6", "fa7", "fs2", "fs3", "fs4", "fs5", "fs6", "fs7", "fs8", "fs9",
    "fs10", "fs11", "ft8", "ft9", "ft10", "ft11",
};

/* Four in a line: "x0/zero". */
static void print_file(GString *out, char letter, const char *const names[32],
                       const uint64_t *values)
{
    for (int i = 0; i < 32; i++) {
        g_autofree char *name = g_strdup_printf("%c%d/%s", letter, i, names[i]);

        g_string_append_printf(out, " %-8s %016" PRIx64 "%s", name, values[i],
                               i % 4 == 3 ? "\n" : "");
    }
}

/* In QEMU's form for a hart without the hypervisor extension. */
static void print_registers(CPUState *cpu, GString *out)
{
    const struct {
        const char *name;
        uint64_t value;
    } csrs[] = {
        {"pc", cpu->pc},
        {"mhartid", cpu->config.index},
        {"mstatus", rv64_mstatus_read(cpu)},
        {"mip", rv64_mip(cpu)},
        {"mie", cpu->mie},
        {"mideleg", cpu->mideleg},
        {"medeleg", cpu->medeleg},
        {"mtvec", cpu->mtvec},
        {"stvec", cpu->stvec},
        {"mepc", cpu->mepc},
        {"sepc", cpu->sepc},
        {"mcause", cpu->mcause},
        {"scause", cpu->scause},
        {"mtval", cpu->mtval},
        {"stval", cpu->stval},
        {"mscratch", cpu->mscratch},
        {"sscratch", cpu->sscratch},
        {"satp", cpu->satp},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(csrs); i++) {
        g_string_append_printf(out, " %-8s %016" PRIx64 "\n", csrs[i].name, csrs[i].value);
    }
    print_file(out, 'x', x_names, cpu->x);
    print_file(out, 'f', f_names, cpu->f);
}

static void core_registers(CPUState *cpu, uint64_t regs[32])
{
    regs[0] = cpu->pc;
    for (int i = 1; i < 32; i++) {
        regs[i] = cpu->x[i];
    }
}

const CpuInspectOps rv64_inspect_ops = {
    .get_view = get_view,
    .translate = translate,
    .print_mappings = print_mappings,
    .print_registers = print_registers,
    .core_registers = core_registers,
};
