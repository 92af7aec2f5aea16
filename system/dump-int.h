/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What dump.c and dump-elf.c share. */
#ifndef SYSTEM_DUMP_INT_H
#define SYSTEM_DUMP_INT_H

#include <glib.h>
#include <stdint.h>

/* A piece of guest physical memory. */
typedef struct DumpRange {
    uint64_t base, size;
} DumpRange;

/*
 * What stands in front of the memory in an ELF core file: headers, the registers of nr_cpus
 * CPUs, one after the other in regs.  The ranges follow it without gaps, and then the trailer.
 */
GByteArray *dump_elf_header(const DumpRange *ranges, unsigned nr_ranges, const uint64_t *regs,
                            unsigned nr_cpus);
const uint8_t *dump_elf_trailer(size_t *size);

#endif
