/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A snapshot's machine state as a tree of read-only files:
 *
 *   info.json  devices/NAME.json  ram/BLOCK  core.elf  stream  migration
 *
 * All functions run in the home context of the node that holds the snapshot.
 */
#ifndef MIGRATION_VMSTATE_FS_H
#define MIGRATION_VMSTATE_FS_H

#include "block/block.h"

typedef enum VmstateFileKind {
    VMSTATE_FILE_DIRECTORY,
    VMSTATE_FILE_TEXT,
    VMSTATE_FILE_RAM,
    VMSTATE_FILE_CORE,
    VMSTATE_FILE_STREAM,
    VMSTATE_FILE_MIGRATION,
} VmstateFileKind;

typedef struct VmstateFile {
    char *name;
    int parent; /* the root is its own */
    VmstateFileKind kind;
    uint64_t size;       /* bytes */
    uint64_t data_bytes; /* bytes that are not holes, about */
    int block;           /* RAM: number of the block */
    GBytes *text;        /* TEXT */
} VmstateFile;

typedef struct VmstateFs VmstateFs;

enum { VMSTATE_FS_ROOT = 0 };

/*
 * Opens the machine state of the snapshot called id_or_name and checks all of it.  Until
 * close the snapshot cannot be deleted; holder ("export 'e0'") is what the error then says.
 * bs must stay.  NULL and one errp for whatever is wrong with it.
 */
VmstateFs *coroutine_fn vmstate_fs_open(BlockDriverState *bs, const char *id_or_name,
                                        const char *holder, GError **errp);
void coroutine_fn vmstate_fs_close(VmstateFs *fs);

/* Files have the numbers 0 (VMSTATE_FS_ROOT) to n - 1; NULL from n on. */
const VmstateFile *vmstate_fs_file(VmstateFs *fs, int file);
/* When the snapshot was made, seconds since 1970. */
int64_t vmstate_fs_date(VmstateFs *fs);
/* The number of the file called name in directory parent, or -1. */
int vmstate_fs_lookup(VmstateFs *fs, int parent, const char *name);
/* The same for a path below the root, "ram/x", "" or "/". */
int vmstate_fs_find(VmstateFs *fs, const char *path);

/* Reads at most len bytes at offset of a file; returns how many, 0 at the end, or -errno. */
int64_t coroutine_fn vmstate_fs_read(VmstateFs *fs, int file, uint64_t offset, void *buf,
                                     size_t len);
/* The next offset from offset on that is data (hole: is a hole, its end at the latest), or
 * -ENXIO if there is none, or another -errno. */
int64_t coroutine_fn vmstate_fs_seek(VmstateFs *fs, int file, uint64_t offset, bool hole);

/* Makes exports of type vmstate-fuse available; nothing without libfuse3. */
void vmstate_fuse_register(void);

#endif
