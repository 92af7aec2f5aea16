/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The form of a memory dump: an ELF core file for RISC-V, laid out as QEMU lays it out (the
 * ELF specification; the notes as the Linux kernel writes them).
 *
 *   ELF header, section headers, program headers, notes, memory, names of sections
 *
 * Addresses are physical.  Each CPU has a note NT_PRSTATUS with its registers; its "process
 * id" is its number, from 1.
 */
#include "dump-int.h"
#include "migration/elf-core.h"

#define NOTE_SIZE (ELF_CORE_NOTE_OVERHEAD + ELF_CORE_PRSTATUS_BYTES)
#define NR_SECTIONS 2

static const char section_names[] = "\0.shstrtab";

const uint8_t *dump_elf_trailer(size_t *size)
{
    *size = sizeof(section_names);
    return (const uint8_t *)section_names;
}

static void put_segment(GByteArray *out, uint32_t type, uint64_t offset, uint64_t addr,
                        uint64_t size)
{
    elf_core_put_segment(out, &(Elf64_Phdr){.p_type = type, .p_offset = offset, .p_vaddr = addr,
                                            .p_paddr = addr, .p_filesz = size,
                                            .p_memsz = size});
}

GByteArray *dump_elf_header(const DumpRange *ranges, unsigned nr_ranges, const uint64_t *regs,
                            unsigned nr_cpus)
{
    GByteArray *out = g_byte_array_new();
    uint64_t notes = sizeof(Elf64_Ehdr) + NR_SECTIONS * sizeof(Elf64_Shdr) +
                     (nr_ranges + 1) * sizeof(Elf64_Phdr);
    uint64_t memory = notes + nr_cpus * NOTE_SIZE, total = 0;

    for (unsigned i = 0; i < nr_ranges; i++) {
        total += ranges[i].size;
    }
    elf_core_put_header(out, nr_ranges + 1, NR_SECTIONS, 0);
    elf_core_put_section(out, &(Elf64_Shdr){0});
    elf_core_put_section(out, &(Elf64_Shdr){.sh_name = 1, .sh_type = SHT_STRTAB,
                                            .sh_offset = memory + total,
                                            .sh_size = sizeof(section_names)});
    put_segment(out, PT_NOTE, notes, 0, nr_cpus * NOTE_SIZE);
    for (unsigned i = 0; i < nr_ranges; i++) {
        put_segment(out, PT_LOAD, memory, ranges[i].base, ranges[i].size);
        memory += ranges[i].size;
    }
    for (unsigned i = 0; i < nr_cpus; i++) {
        elf_core_put_prstatus(out, i + 1, regs + i * ELF_CORE_REGISTERS, false);
    }
    return out;
}
