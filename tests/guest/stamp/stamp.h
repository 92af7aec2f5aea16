/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The stamping guest (stamp.c) and what it stands on: stamp-bare.c is the bare machine,
 * stamp-linux.c a process under Linux.  One thread of execution calls all of this.
 */
#ifndef STAMP_H
#define STAMP_H

#include <stdint.h>

#define PAGE 4096
#define WORDS (PAGE / 8)
#define SEGMENTS 4 /* pages of a disk request, scattered in memory */
#define BLOCK (SEGMENTS * PAGE)
#define MAX_DISKS 4

/* Pages of each kind; stamp_run() gets memory for all of them. */
#define STAMPED 4096
#define BUFFERS 2048
#define FRESH 16384
#define MEMORY_PAGES (STAMPED + BUFFERS + FRESH)

typedef struct DiskRequest {
    int write;
    uint64_t offset; /* bytes */
    uint64_t *page[SEGMENTS];
} DiskRequest;

int plat_disks(void);
uint64_t plat_disk_size(int disk); /* bytes */
/* One request at a time for each disk. */
void plat_disk_start(int disk, const DiskRequest *r);
/* 0 in flight, 1 done, -1 failed; once for each request. */
int plat_disk_poll(int disk);
void plat_putc(char c);
int plat_getc(void); /* -1: no key */
uint64_t plat_now_us(void);
/* Touches 768 MiB more, with zeros. */
void plat_fill(void);
/* Called in every turn of the loop. */
void plat_turn(void);

/* Does not return.  memory is zero, page-aligned, MEMORY_PAGES long. */
void stamp_run(uint64_t *memory);

#endif
