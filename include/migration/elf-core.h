/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Parts of an ELF core file for RISC-V, 64 bit (System V ABI, chapter 5; the notes as the Linux
 * kernel writes them).  Each function appends to out; what it is given is in the host's order.
 */
#ifndef MIGRATION_ELF_CORE_H
#define MIGRATION_ELF_CORE_H

#include <elf.h>
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#ifndef EM_RISCV
#define EM_RISCV 243
#endif

enum {
    ELF_CORE_REGISTERS = 32, /* pc, x1 to x31 */
    ELF_CORE_PRSTATUS_BYTES = 376,
    ELF_CORE_NOTE_OVERHEAD = sizeof(Elf64_Nhdr) + 8, /* in front of a note's content */
};

/*
 * The file's header.  Section headers, if there are any, follow it, the first but one of which
 * is that of the sections' names; segment headers come next.
 */
void elf_core_put_header(GByteArray *out, unsigned nr_segments, unsigned nr_sections,
                         uint32_t flags);
void elf_core_put_section(GByteArray *out, const Elf64_Shdr *h);
void elf_core_put_segment(GByteArray *out, const Elf64_Phdr *h);
/* A note of "CORE"; size is a multiple of 4. */
void elf_core_put_note(GByteArray *out, uint32_t type, const void *content, uint32_t size);
/* NT_PRSTATUS: pid, which numbers the threads, registers, whether NT_FPREGSET follows. */
void elf_core_put_prstatus(GByteArray *out, uint32_t pid, const uint64_t *regs, bool has_fp);

#endif
