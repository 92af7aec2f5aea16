/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inside the vmstate file system: the decoder of device state, the builder of core.elf, the
 * state as a sequence of records, and the tree of files (migration/vmstate-fs.h) over them.
 */
#ifndef MIGRATION_VMSTATE_FS_INT_H
#define MIGRATION_VMSTATE_FS_INT_H

#include "block/export.h"
#include "migration/vmstate-fs.h"
#include "stream-int.h"

/* --- vmstate-decode.c: device state by the stream's own description ---------------------------- */

/* A field of a device that is a number or an array of numbers. */
typedef struct VMDecodedField {
    char *name;
    size_t offset; /* of its first element in the tail */
    size_t size;   /* bytes of one element */
    size_t count;
} VMDecodedField;

typedef struct VMDecodedDevice {
    char idstr[256];
    uint32_t instance_id, section_id, version;
    size_t offset, size; /* of its fields in the tail */
    GBytes *text;        /* JSON */
    GArray *fields;      /* VMDecodedField, top level only */
} VMDecodedDevice;

/*
 * Decodes all device sections of tail (everything behind RAM, from offset on in the stream)
 * with the description at its end.  A new array of VMDecodedDevice; NULL and errp naming section and field when bytes
 * and description do not agree.  Time and memory are bounded by the tail's size and by
 * VMDECODE_MAX_TEXT.  Any thread.
 */
#define VMDECODE_MAX_TEXT (64u << 20)
GPtrArray *vmstate_decode(const GByteArray *tail, uint64_t offset, GError **errp);
/* Element n of the top-level field called name; false if there is none. */
bool vmstate_decoded_number(const VMDecodedDevice *d, const GByteArray *tail, const char *name,
                            size_t n, uint64_t *value);

/*
 * The same tail for a stream without places: the description does not say that RAM is
 * mapped.  A new array; NULL and errp if there is no sound description.  Any thread.
 */
GByteArray *vmstate_sequential_tail(const GByteArray *tail, GError **errp);

/* --- vmstate-core.c: an ELF core file for debuggers ---------------------------------------------- */

/* Reads RAM of block at offset; 0 or -errno. */
typedef int coroutine_fn VMCoreRead(void *opaque, int block, uint64_t offset, void *buf,
                                    size_t len);

typedef struct VMCore {
    GByteArray *head;         /* headers and notes */
    uint64_t *block_offset;   /* where each RAM block lies in the file, behind head */
    uint64_t size;            /* of the file, bytes */
    int nr_cpus;
    size_t nr_segments;
    bool truncated;           /* not all of the page tables are in it */
} VMCore;

/* The guest physical address of a block's first byte; false if that is not known. */
bool vmstate_block_address(const char *machine_type, const char *block, uint64_t *address);
/*
 * Makes the headers of a core file: a thread for each CPU, a segment for each run of pages
 * that the CPUs' page tables map, and one for physical memory wherever that is free.
 * *reason (a static text) says why there is none when NULL is returned.  -errno in *ret if
 * RAM could not be read.
 */
VMCore *coroutine_fn vmstate_core_new(const StreamLayout *l, const GByteArray *tail,
                                      const GPtrArray *devices, VMCoreRead *read, void *opaque,
                                      const char **reason, int *ret);
void vmstate_core_free(VMCore *c);

/* --- vmstate-fs-seq.c: the state as it is sent ------------------------------------------------------ */

typedef struct VMSequential VMSequential;

/* Bytes of a bitmap that an entry of the array before stands for: 128 MiB of RAM. */
#define VMSTATE_SEQ_GROUP_BYTES 4096u

/*
 * before: for each RAM block, uint64_t for each such piece of its bitmap: pages present in
 * front of it; and their total at the end.  tail: from vmstate_sequential_tail().  All stay
 * the caller's and must stay.
 */
VMSequential *vmstate_sequential_new(const StreamSource *src, const StreamLayout *l,
                                     const GByteArray *tail, GArray *const *before);
void vmstate_sequential_free(VMSequential *s);
uint64_t vmstate_sequential_size(const VMSequential *s);
/* [offset, offset + len) lies in it.  0 or -errno. */
int coroutine_fn vmstate_sequential_read(VMSequential *s, uint64_t offset, uint8_t *buf,
                                         size_t len);

/* --- vmstate-fuse.c: the tree as a mount ---------------------------------------------------------- */

extern const BlockExportDriver vmstate_fuse_driver;

#endif
