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
#include <elf.h>
#include <string.h>
#include "dump-int.h"

#ifndef EM_RISCV
#define EM_RISCV 243
#endif

/* struct elf_prstatus of a 64 bit kernel: offsets of what is not zero. */
enum {
    PRSTATUS_PID = 32,
    PRSTATUS_REGS = 112,
    PRSTATUS_SIZE = 376,
};

#define NOTE_NAME "CORE"
#define NOTE_NAME_ROOM 8 /* a multiple of 4 */
#define NOTE_SIZE (sizeof(Elf64_Nhdr) + NOTE_NAME_ROOM + PRSTATUS_SIZE)
#define NR_SECTIONS 2

static const char section_names[] = "\0.shstrtab";

const uint8_t *dump_elf_trailer(size_t *size)
{
    *size = sizeof(section_names);
    return (const uint8_t *)section_names;
}

static void append(GByteArray *out, const void *data, size_t size)
{
    g_byte_array_append(out, data, size);
}

static void append_ehdr(GByteArray *out, unsigned nr_segments)
{
    Elf64_Ehdr h = {
        .e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
        .e_type = GUINT16_TO_LE(ET_CORE),
        .e_machine = GUINT16_TO_LE(EM_RISCV),
        .e_version = GUINT32_TO_LE(EV_CURRENT),
        .e_phoff = GUINT64_TO_LE(sizeof(Elf64_Ehdr) + NR_SECTIONS * sizeof(Elf64_Shdr)),
        .e_shoff = GUINT64_TO_LE(sizeof(Elf64_Ehdr)),
        .e_ehsize = GUINT16_TO_LE(sizeof(Elf64_Ehdr)),
        .e_phentsize = GUINT16_TO_LE(sizeof(Elf64_Phdr)),
        .e_phnum = GUINT16_TO_LE(nr_segments),
        .e_shentsize = GUINT16_TO_LE(sizeof(Elf64_Shdr)),
        .e_shnum = GUINT16_TO_LE(NR_SECTIONS),
        .e_shstrndx = GUINT16_TO_LE(1),
    };

    append(out, &h, sizeof(h));
}

static void append_shdrs(GByteArray *out, uint64_t names_offset)
{
    Elf64_Shdr h[NR_SECTIONS] = {
        [1] = {
            .sh_name = GUINT32_TO_LE(1),
            .sh_type = GUINT32_TO_LE(SHT_STRTAB),
            .sh_offset = GUINT64_TO_LE(names_offset),
            .sh_size = GUINT64_TO_LE(sizeof(section_names)),
        },
    };

    append(out, h, sizeof(h));
}

static void append_phdr(GByteArray *out, uint32_t type, uint64_t offset, uint64_t addr,
                        uint64_t size)
{
    Elf64_Phdr h = {
        .p_type = GUINT32_TO_LE(type),
        .p_offset = GUINT64_TO_LE(offset),
        .p_vaddr = GUINT64_TO_LE(addr),
        .p_paddr = GUINT64_TO_LE(addr),
        .p_filesz = GUINT64_TO_LE(size),
        .p_memsz = GUINT64_TO_LE(size),
    };

    append(out, &h, sizeof(h));
}

static void append_note(GByteArray *out, unsigned cpu, const uint64_t *regs)
{
    Elf64_Nhdr h = {
        .n_namesz = GUINT32_TO_LE(sizeof(NOTE_NAME)),
        .n_descsz = GUINT32_TO_LE(PRSTATUS_SIZE),
        .n_type = GUINT32_TO_LE(NT_PRSTATUS),
    };
    char name[NOTE_NAME_ROOM] = NOTE_NAME;
    uint8_t status[PRSTATUS_SIZE] = {0};
    uint32_t pid = GUINT32_TO_LE(cpu + 1);

    memcpy(status + PRSTATUS_PID, &pid, sizeof(pid));
    for (unsigned i = 0; i < DUMP_REGISTERS; i++) {
        uint64_t value = GUINT64_TO_LE(regs[i]);

        memcpy(status + PRSTATUS_REGS + 8 * i, &value, sizeof(value));
    }
    append(out, &h, sizeof(h));
    append(out, name, sizeof(name));
    append(out, status, sizeof(status));
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
    append_ehdr(out, nr_ranges + 1);
    append_shdrs(out, memory + total);
    append_phdr(out, PT_NOTE, notes, 0, nr_cpus * NOTE_SIZE);
    for (unsigned i = 0; i < nr_ranges; i++) {
        append_phdr(out, PT_LOAD, memory, ranges[i].base, ranges[i].size);
        memory += ranges[i].size;
    }
    for (unsigned i = 0; i < nr_cpus; i++) {
        append_note(out, i, regs + i * DUMP_REGISTERS);
    }
    return out;
}
