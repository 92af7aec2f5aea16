/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Firmware, kernel and initrd: where they go in guest RAM.  The files stay open and are
 * read again at every reset.
 */
#ifndef HW_RISCV_BOOT_H
#define HW_RISCV_BOOT_H

#include <glib.h>
#include "hw/address-space.h"

/* Things to put into RAM at reset. */
typedef struct BootImages BootImages;
BootImages *boot_images_new(AddressSpace *as);
void boot_images_free(BootImages *b);

/* What adding an image tells. */
typedef struct BootPlace {
    uint64_t start, end; /* guest addresses it takes, end excluded, with what it clears */
    uint64_t entry;
} BootPlace;

/*
 * Adds an ELF executable (to its own physical addresses) or any other file (to addr).
 * what ("firmware", "kernel") is for messages.  limit: first address that is not RAM.
 */
bool boot_images_add_program(BootImages *b, const char *what, const char *filename,
                             uint64_t addr, uint64_t limit, BootPlace *place, GError **errp);
/* Adds a file as it is. */
bool boot_images_add_file(BootImages *b, const char *what, const char *filename, uint64_t addr,
                          uint64_t limit, BootPlace *place, GError **errp);
/* Adds a copy of data. */
void boot_images_add_data(BootImages *b, const void *data, size_t len, uint64_t addr);
/* Image number i in order of adding; false behind the last one.  *name is the file's, and stays. */
bool boot_images_get(const BootImages *b, unsigned i, const char **name, uint64_t *addr,
                     uint64_t *size);
/* Writes all of them.  May block on files and page faults: start-up or a worker thread. */
bool boot_images_load(BootImages *b, GError **errp);

/*
 * Path of the firmware called name: the file itself, or that name in one of dirs (NULL
 * terminated, may be NULL) and the usual data directories; NULL name: Debian's OpenSBI.
 * A new string, or NULL and errp.
 */
char *boot_find_firmware(const char *name, const char *const *dirs, GError **errp);

#endif
