/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The headers of core.elf: what the CPUs and the page tables of a snapshot look like to a
 * debugger.  Layouts: System V ABI, chapter 5 (ELF header, program header, note); elf.h;
 * struct elf_prstatus of Linux on RISC-V; RISC-V Privileged Architecture, chapter
 * "Supervisor-Level ISA" (Sv39, Sv48, Sv57, Svnapot).
 *
 * A kernel runs at virtual addresses, so each run of pages that a CPU's page tables map is
 * a segment; behind them the whole of physical memory at its own addresses, as far as these
 * are free.  For a CPU in machine mode it is the other way round.  Segments share the bytes
 * of the RAM blocks, which follow the headers.  Page tables are the guest's and may say
 * anything: the work and the number of segments are bounded.
 */
#include <errno.h>
#include <string.h>
#include "migration/elf-core.h"
#include "vmstate-fs-int.h"

#define PAGE 4096u
#define MAX_TABLES 65536u   /* of one core file: 256 MiB of guest RAM */
#define MAX_SEGMENTS 60000u /* e_phnum has 16 bits */
#define MAX_CPUS 512
#define MAX_LEVELS 5

enum { /* page table entries */
    PTE_V = 1 << 0,
    PTE_R = 1 << 1,
    PTE_X = 1 << 3,
};
#define PTE_PPN(pte) (((pte) >> 10) & ((UINT64_C(1) << 44) - 1))
#define PTE_NAPOT (UINT64_C(1) << 63)
enum { PRIV_MACHINE = 3 };

typedef struct Run {
    uint64_t va, pa, size;
    int block;
    uint64_t offset; /* in the block */
} Run;

typedef struct Builder {
    const StreamLayout *layout;
    const GByteArray *tail;
    VMCoreRead *read;
    void *opaque;
    uint64_t *address; /* of each block; UINT64_MAX: not known */
    uint32_t tables;
    bool truncated;
    int error; /* -errno of the first read that failed */
    GArray *space; /* Run: of the page tables being walked */
} Builder;

bool vmstate_block_address(const char *machine_type, const char *block, uint64_t *address)
{
    /* Fixed by the definition of the machine type. */
    static const struct {
        const char *machine, *block;
        uint64_t address;
    } known[] = {
        {"virt", "riscv_virt_board.ram", 0x80000000},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(known); i++) {
        if (!strcmp(known[i].machine, machine_type) && !strcmp(known[i].block, block)) {
            *address = known[i].address;
            return true;
        }
    }
    return false;
}

/* --- Runs ------------------------------------------------------------------------------------- */

static void append_run(GArray *runs, const Run *r)
{
    Run *last = runs->len ? &g_array_index(runs, Run, runs->len - 1) : NULL;

    if (last && last->va + last->size == r->va && last->block == r->block &&
        last->offset + last->size == r->offset) {
        last->size += r->size;
    } else {
        g_array_append_val(runs, *r);
    }
}

/* The part of [pa, pa + size) that each block has, mapped at va on. */
static void add_mapping(Builder *b, GArray *runs, uint64_t va, uint64_t pa, uint64_t size)
{
    for (int i = 0; i < b->layout->nr_blocks; i++) {
        uint64_t start, end, base = b->address[i];

        if (base == UINT64_MAX) {
            continue;
        }
        start = MAX(pa, base);
        end = MIN(pa + size, base + b->layout->blocks[i].length);
        if (start < end) {
            Run r = {.va = va + (start - pa), .pa = start, .size = end - start, .block = i,
                     .offset = start - base};

            append_run(runs, &r);
        }
    }
}

static int by_va(const void *a, const void *b)
{
    uint64_t x = ((const Run *)a)->va, y = ((const Run *)b)->va;

    return x < y ? -1 : x > y;
}

/* Neither overlaps itself, base is sorted: what of extra is not in base is added to it. */
static GArray *merge_runs(GArray *base, GArray *extra)
{
    GArray *out = g_array_new(false, false, sizeof(Run));
    guint i = 0;

    g_array_sort(extra, by_va);
    for (guint j = 0; j < extra->len; j++) {
        Run r = g_array_index(extra, Run, j);

        while (r.size) {
            const Run *next = i < base->len ? &g_array_index(base, Run, i) : NULL;
            uint64_t n = r.size;

            if (next && next->va <= r.va) {
                if (next->va + (next->size - 1) < r.va) { /* all of it is before r */
                    g_array_append_val(out, *next);
                    i++;
                    continue;
                }
                n = MIN(n, next->va + (next->size - 1) - r.va + 1); /* taken */
            } else {
                if (next && next->va - r.va < n) {
                    n = next->va - r.va;
                }
                Run free_part = r;

                free_part.size = n;
                append_run(out, &free_part);
            }
            r.va += n;
            r.pa += n;
            r.offset += n;
            r.size -= n;
        }
    }
    if (i < base->len) {
        g_array_append_vals(out, &g_array_index(base, Run, i), base->len - i);
    }
    g_array_unref(base);
    return out;
}

/* --- Page tables ------------------------------------------------------------------------------- */

/* false: not in RAM, or an error that is noted. */
static bool coroutine_fn read_table(Builder *b, uint64_t pa, uint8_t *table)
{
    for (int i = 0; i < b->layout->nr_blocks; i++) {
        uint64_t base = b->address[i];

        if (base != UINT64_MAX && pa >= base && pa - base < b->layout->blocks[i].length) {
            int ret = b->read(b->opaque, i, pa - base, table, PAGE);

            if (ret < 0 && b->error == 0) {
                b->error = ret;
            }
            return ret == 0;
        }
    }
    return false;
}

static uint64_t little_endian(const uint8_t *p)
{
    uint64_t v = 0;

    for (int i = 7; i >= 0; i--) {
        v = v << 8 | p[i];
    }
    return v;
}

static void add_leaf(Builder *b, uint64_t pte, int level, uint64_t va)
{
    uint64_t size = (uint64_t)PAGE << (9 * level), ppn = PTE_PPN(pte);

    if (level == 0 && (pte & PTE_NAPOT)) {
        if ((ppn & 15) != 8) {
            return;
        }
        ppn = (ppn & ~UINT64_C(15)) | (va >> 12 & 15); /* 64 KiB in 16 equal entries */
    }
    if (ppn * PAGE % size == 0) {
        add_mapping(b, b->space, va, ppn * PAGE, size);
    }
}

/* tables: a page for each level. */
static void coroutine_fn walk(Builder *b, uint64_t table_pa, int level, int top, uint64_t va,
                              uint8_t *tables)
{
    uint8_t *table = tables + level * PAGE;

    if (++b->tables > MAX_TABLES || b->space->len > MAX_SEGMENTS) {
        b->truncated = true;
        return;
    }
    if (!read_table(b, table_pa, table)) {
        return;
    }
    for (uint64_t i = 0; i < 512 && !b->error && !b->truncated; i++) {
        uint64_t pte = little_endian(table + i * 8), here = va | i << (12 + 9 * level);

        if (level == top && i >= 256) {
            here |= ~UINT64_C(0) << (12 + 9 * (top + 1)); /* the upper half: sign extension */
        }
        if (!(pte & PTE_V)) {
            continue;
        }
        if (pte & (PTE_R | PTE_X)) {
            add_leaf(b, pte, level, here);
        } else if (level > 0) {
            walk(b, PTE_PPN(pte) * PAGE, level - 1, top, here, tables);
        }
    }
}

/* Adds what satp maps to runs. */
static GArray *coroutine_fn add_page_tables(Builder *b, GArray *runs, uint64_t satp)
{
    static const int levels[16] = {[8] = 3, [9] = 4, [10] = 5};
    int n = levels[satp >> 60];
    g_autofree uint8_t *tables = NULL;

    if (n == 0) {
        return runs; /* Bare */
    }
    tables = g_malloc(MAX_LEVELS * PAGE);
    g_array_set_size(b->space, 0);
    walk(b, (satp & ((UINT64_C(1) << 44) - 1)) * PAGE, n - 1, n - 1, 0, tables);
    return merge_runs(runs, b->space);
}

/* Adds physical memory at its own addresses. */
static GArray *add_physical(Builder *b, GArray *runs)
{
    g_autoptr(GArray) physical = g_array_new(false, false, sizeof(Run));

    for (int i = 0; i < b->layout->nr_blocks; i++) {
        if (b->address[i] != UINT64_MAX) {
            Run r = {.va = b->address[i], .pa = b->address[i], .block = i,
                     .size = b->layout->blocks[i].length};

            g_array_append_val(physical, r);
        }
    }
    return merge_runs(runs, physical);
}

/* --- CPUs ---------------------------------------------------------------------------------------- */

typedef struct Cpu {
    const VMDecodedDevice *device;
    uint64_t pc, satp, priv;
    uint64_t x[32], f[32];
    uint64_t fcsr;
} Cpu;

static bool read_cpu(Builder *b, const VMDecodedDevice *d, Cpu *c)
{
    uint64_t flags = 0, rounding = 0;

    c->device = d;
    if (!vmstate_decoded_number(d, b->tail, "pc", 0, &c->pc) ||
        !vmstate_decoded_number(d, b->tail, "satp", 0, &c->satp) ||
        !vmstate_decoded_number(d, b->tail, "priv", 0, &c->priv)) {
        return false;
    }
    for (int i = 0; i < 32; i++) {
        if (!vmstate_decoded_number(d, b->tail, "x", i, &c->x[i]) ||
            !vmstate_decoded_number(d, b->tail, "f", i, &c->f[i])) {
            return false;
        }
    }
    vmstate_decoded_number(d, b->tail, "fflags", 0, &flags);
    vmstate_decoded_number(d, b->tail, "frm", 0, &rounding);
    c->fcsr = (rounding & 7) << 5 | (flags & 31);
    return true;
}

static void put_cpu_notes(GByteArray *out, const Cpu *c, int number)
{
    uint64_t regs[ELF_CORE_REGISTERS] = {c->pc}, fp[33];

    memcpy(regs + 1, c->x + 1, sizeof(regs) - sizeof(regs[0]));
    elf_core_put_prstatus(out, number, regs, true);
    for (int i = 0; i < 32; i++) {
        fp[i] = GUINT64_TO_LE(c->f[i]);
    }
    fp[32] = GUINT64_TO_LE(c->fcsr);
    elf_core_put_note(out, NT_FPREGSET, fp, sizeof(fp));
}

/* --- The file ------------------------------------------------------------------------------------ */

static void put_segment(GByteArray *out, uint64_t offset, const Run *r)
{
    elf_core_put_segment(out, &(Elf64_Phdr){.p_type = PT_LOAD, .p_flags = PF_R | PF_W | PF_X,
                                            .p_offset = offset, .p_vaddr = r->va,
                                            .p_paddr = r->pa, .p_filesz = r->size,
                                            .p_memsz = r->size, .p_align = PAGE});
}

static VMCore *assemble(Builder *b, GArray *runs, const GArray *cpus)
{
    g_autoptr(GByteArray) notes = g_byte_array_new();
    VMCore *core = g_new0(VMCore, 1);
    size_t segments = 1 + MIN(runs->len, MAX_SEGMENTS), notes_at;

    core->truncated = b->truncated || runs->len > MAX_SEGMENTS;
    core->nr_cpus = cpus->len;
    core->nr_segments = segments - 1;
    core->head = g_byte_array_new();
    core->block_offset = g_new0(uint64_t, b->layout->nr_blocks);
    for (guint i = 0; i < cpus->len; i++) {
        put_cpu_notes(notes, &g_array_index(cpus, Cpu, i), i + 1);
    }
    notes_at = sizeof(Elf64_Ehdr) + segments * sizeof(Elf64_Phdr);
    core->size = (notes_at + notes->len + PAGE - 1) / PAGE * PAGE;
    for (int i = 0; i < b->layout->nr_blocks; i++) {
        core->block_offset[i] = core->size;
        core->size += b->layout->blocks[i].length; /* their sum was checked */
    }
    elf_core_put_header(core->head, segments, 0, EF_RISCV_RVC | EF_RISCV_FLOAT_ABI_DOUBLE);
    elf_core_put_segment(core->head, &(Elf64_Phdr){.p_type = PT_NOTE, .p_offset = notes_at,
                                                   .p_filesz = notes->len, .p_align = 4});
    for (size_t i = 0; i < segments - 1; i++) {
        const Run *r = &g_array_index(runs, Run, i);

        put_segment(core->head, core->block_offset[r->block] + r->offset, r);
    }
    g_byte_array_append(core->head, notes->data, notes->len);
    return core;
}

static bool same_tables(const GArray *cpus, guint n)
{
    for (guint i = 0; i < n; i++) {
        if (g_array_index(cpus, Cpu, i).satp == g_array_index(cpus, Cpu, n).satp) {
            return true;
        }
    }
    return false;
}

static GArray *coroutine_fn map_memory(Builder *b, const GArray *cpus)
{
    GArray *runs = g_array_new(false, false, sizeof(Run));
    bool machine_mode = g_array_index(cpus, Cpu, 0).priv == PRIV_MACHINE;

    if (machine_mode) {
        runs = add_physical(b, runs);
    }
    for (guint i = 0; i < cpus->len && !b->error; i++) {
        if (!same_tables(cpus, i)) {
            runs = add_page_tables(b, runs, g_array_index(cpus, Cpu, i).satp);
        }
    }
    return machine_mode ? runs : add_physical(b, runs);
}

VMCore *coroutine_fn vmstate_core_new(const StreamLayout *l, const GByteArray *tail,
                                      const GPtrArray *devices, VMCoreRead *read, void *opaque,
                                      const char **reason, int *ret)
{
    g_autoptr(GArray) cpus = g_array_new(false, true, sizeof(Cpu));
    g_autofree uint64_t *address = g_new(uint64_t, MAX(l->nr_blocks, 1));
    Builder b = {.layout = l, .tail = tail, .read = read, .opaque = opaque, .address = address};
    VMCore *core = NULL;
    GArray *runs;

    *ret = 0;
    for (guint i = 0; i < devices->len && cpus->len < MAX_CPUS; i++) {
        const VMDecodedDevice *d = g_ptr_array_index(devices, i);
        Cpu c = {0};

        if (!strcmp(d->idstr, "cpu") && read_cpu(&b, d, &c)) {
            g_array_append_val(cpus, c);
        }
    }
    if (!cpus->len) {
        *reason = "the machine state has no section 'cpu' with the registers of a RISC-V hart";
        return NULL;
    }
    for (int i = 0; i < l->nr_blocks; i++) {
        if (!vmstate_block_address(l->machine_type, l->blocks[i].idstr, &address[i])) {
            address[i] = UINT64_MAX;
        }
    }
    b.space = g_array_new(false, false, sizeof(Run));
    runs = map_memory(&b, cpus);
    if (b.error) {
        *ret = b.error;
        *reason = "the page tables could not be read";
    } else {
        core = assemble(&b, runs, cpus);
    }
    g_array_unref(runs);
    g_array_unref(b.space);
    return core;
}

void vmstate_core_free(VMCore *c)
{
    if (c) {
        g_byte_array_unref(c->head);
        g_free(c->block_offset);
        g_free(c);
    }
}
