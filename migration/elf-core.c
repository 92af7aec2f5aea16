/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ELF core files (migration/elf-core.h): everything is little endian there. */
#include <string.h>
#include "migration/elf-core.h"

/* struct elf_prstatus of a 64 bit kernel: offsets of what is not zero. */
enum {
    PRSTATUS_PID = 32,
    PRSTATUS_REGS = 112,
    PRSTATUS_FPVALID = PRSTATUS_REGS + 8 * ELF_CORE_REGISTERS,
};

void elf_core_put_header(GByteArray *out, unsigned nr_segments, unsigned nr_sections,
                         uint32_t flags)
{
    uint64_t sections = sizeof(Elf64_Ehdr), segments = sections + nr_sections * sizeof(Elf64_Shdr);
    Elf64_Ehdr h = {
        .e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
        .e_type = GUINT16_TO_LE(ET_CORE),
        .e_machine = GUINT16_TO_LE(EM_RISCV),
        .e_version = GUINT32_TO_LE(EV_CURRENT),
        .e_phoff = GUINT64_TO_LE(segments),
        .e_flags = GUINT32_TO_LE(flags),
        .e_ehsize = GUINT16_TO_LE(sizeof(Elf64_Ehdr)),
        .e_phentsize = GUINT16_TO_LE(sizeof(Elf64_Phdr)),
        .e_phnum = GUINT16_TO_LE(nr_segments),
    };

    if (nr_sections) {
        h.e_shoff = GUINT64_TO_LE(sections);
        h.e_shentsize = GUINT16_TO_LE(sizeof(Elf64_Shdr));
        h.e_shnum = GUINT16_TO_LE(nr_sections);
        h.e_shstrndx = GUINT16_TO_LE(1);
    }
    g_byte_array_append(out, (const uint8_t *)&h, sizeof(h));
}

void elf_core_put_section(GByteArray *out, const Elf64_Shdr *h)
{
    Elf64_Shdr le = {
        .sh_name = GUINT32_TO_LE(h->sh_name),
        .sh_type = GUINT32_TO_LE(h->sh_type),
        .sh_offset = GUINT64_TO_LE(h->sh_offset),
        .sh_size = GUINT64_TO_LE(h->sh_size),
    };

    g_byte_array_append(out, (const uint8_t *)&le, sizeof(le));
}

void elf_core_put_segment(GByteArray *out, const Elf64_Phdr *h)
{
    Elf64_Phdr le = {
        .p_type = GUINT32_TO_LE(h->p_type),
        .p_flags = GUINT32_TO_LE(h->p_flags),
        .p_offset = GUINT64_TO_LE(h->p_offset),
        .p_vaddr = GUINT64_TO_LE(h->p_vaddr),
        .p_paddr = GUINT64_TO_LE(h->p_paddr),
        .p_filesz = GUINT64_TO_LE(h->p_filesz),
        .p_memsz = GUINT64_TO_LE(h->p_memsz),
        .p_align = GUINT64_TO_LE(h->p_align),
    };

    g_byte_array_append(out, (const uint8_t *)&le, sizeof(le));
}

void elf_core_put_note(GByteArray *out, uint32_t type, const void *content, uint32_t size)
{
    static const char name[8] = "CORE"; /* a multiple of 4 */
    Elf64_Nhdr h = {
        .n_namesz = GUINT32_TO_LE(sizeof("CORE")),
        .n_descsz = GUINT32_TO_LE(size),
        .n_type = GUINT32_TO_LE(type),
    };

    g_assert(size % 4 == 0);
    g_byte_array_append(out, (const uint8_t *)&h, sizeof(h));
    g_byte_array_append(out, (const uint8_t *)name, sizeof(name));
    g_byte_array_append(out, content, size);
}

void elf_core_put_prstatus(GByteArray *out, uint32_t pid, const uint64_t *regs, bool has_fp)
{
    uint8_t status[ELF_CORE_PRSTATUS_BYTES] = {0};
    uint32_t number = GUINT32_TO_LE(pid);

    memcpy(status + PRSTATUS_PID, &number, sizeof(number));
    for (int i = 0; i < ELF_CORE_REGISTERS; i++) {
        uint64_t value = GUINT64_TO_LE(regs[i]);

        memcpy(status + PRSTATUS_REGS + 8 * i, &value, sizeof(value));
    }
    status[PRSTATUS_FPVALID] = has_fp;
    elf_core_put_note(out, NT_PRSTATUS, status, sizeof(status));
}
