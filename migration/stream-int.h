/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The migration stream as a seekable file with RAM in its mapped-ram layout:
 *
 *   magic, version, configuration section (machine type)
 *   section start "ram": sizes of all blocks, then for each block
 *     its name and length, the mapped-ram header, the bitmap of the pages present,
 *     padding to 1 MiB, every page at its own place
 *   end of section, section end "ram", one full section per device, end of file
 *   description of the devices in JSON
 *
 * All integers of the stream are big endian; a bitmap is bytes, page n is bit n % 8 of byte
 * n / 8.  Offsets are bytes from the beginning of the machine state.
 */
#ifndef MIGRATION_STREAM_INT_H
#define MIGRATION_STREAM_INT_H

#include "migration/machine.h"
#include "vmstate-int.h"

#define STREAM_PAGE_SIZE 4096ULL
#define STREAM_PAGES_ALIGN (1ULL << 20)
/* Bounds for what a stream may claim. */
#define STREAM_MAX_BLOCKS 64
#define STREAM_MAX_RAM (1ULL << 46)
#define STREAM_MAX_TAIL (256ULL << 20)

/* What begins each part of a stream. */
enum {
    STREAM_EOF = 0x00,
    STREAM_SECTION_START = 0x01,
    STREAM_SECTION_PART = 0x02,
    STREAM_SECTION_END = 0x03,
    STREAM_SECTION_FULL = 0x04,
    STREAM_SUBSECTION = 0x05,
    STREAM_DESCRIPTION = 0x06,
    STREAM_CONFIGURATION = 0x07,
    STREAM_FOOTER = 0x7e,
};

/* Flags in the low bits of a RAM record's first word. */
enum {
    RAM_FLAG_ZERO = 0x02, /* a byte follows, which fills the page */
    RAM_FLAG_SIZES = 0x04,
    RAM_FLAG_PAGE = 0x08, /* the page follows */
    RAM_FLAG_END = 0x10,
    RAM_FLAG_CONTINUE = 0x20, /* the block is that of the record before */
};

#define STREAM_RAM_SECTION_ID 1

typedef struct StreamBlock {
    char idstr[256];
    uint64_t length;        /* bytes of RAM */
    uint64_t bitmap_offset; /* bitmap_bytes from there */
    uint64_t bitmap_bytes;
    uint64_t pages_offset; /* page n lies at pages_offset + n * 4096 */
    uint8_t bitmap_sum[32]; /* stream_sum_bitmap() */
} StreamBlock;

/* A part of the stream other than pages and bitmaps. */
typedef struct StreamPiece {
    uint64_t offset;
    GByteArray *data;
} StreamPiece;

typedef struct StreamLayout {
    char machine_type[256];
    int nr_blocks;
    StreamBlock *blocks;
    GPtrArray *pieces; /* StreamPiece: headers; only after stream_layout_new() */
    uint64_t tail_offset; /* where everything after the last block's pages lies */
} StreamLayout;

/* The layout of a stream for this machine, with its headers serialised. */
StreamLayout *stream_layout_new(const char *machine_type, const RAMBlock *ram, int nr_ram);
void stream_layout_free(StreamLayout *l);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(StreamLayout, stream_layout_free)

/*
 * Serialises everything after the pages, devices included; it belongs at tail_offset.
 * NULL and errp if a device cannot be saved.  Machine lock held, parked.
 */
GByteArray *stream_save_tail(const char *machine_type, const VMStateRegistry *r, GError **errp);

/* The first member of the description (stream-sum.c), and what it is until it is known. */
#define STREAM_SUM_MEMBER "checksum"
#define STREAM_SUM_KIND "sha256:"
#define STREAM_SUM_NONE "0000000000000000000000000000000000000000000000000000000000000000"

/* A block's bitmap as it is written or was read. */
void stream_sum_bitmap(StreamBlock *b, const void *bytes);
/* With all bitmaps known: enters the checksum into a tail of stream_save_tail(). */
void stream_sum_put(const StreamLayout *l, GByteArray *tail);
/* False and errp if a tail that was read, or a bitmap, is not what was saved. */
bool stream_sum_check(const StreamLayout *l, const GByteArray *tail, GError **errp);

/* Where a stream is read from: 0 or -errno.  size bounds every offset. */
typedef struct StreamSource {
    int coroutine_fn (*read)(void *opaque, uint64_t offset, void *buf, size_t len);
    void *opaque;
    uint64_t size;
} StreamSource;

/* Reads and checks the headers.  NULL and errp if this is not a sound stream. */
StreamLayout *coroutine_fn stream_read_layout(const StreamSource *src, GError **errp);
/* Whether the stream's machine type and RAM are this machine's. */
bool stream_check_machine(const StreamLayout *l, const char *machine_type, const RAMBlock *ram,
                          int nr_ram, GError **errp);
/* Everything behind the pages, for the two functions below. */
GByteArray *coroutine_fn stream_read_tail(const StreamSource *src, const StreamLayout *l,
                                          GError **errp);
/* Whether the tail can be loaded into these devices, as far as its form tells. */
bool stream_check_tail(const GByteArray *tail, const VMStateRegistry *r, GError **errp);
/*
 * Loads the devices.  Machine lock held, parked, devices reset.  After a failure the
 * devices are in an unknown state: devices_load() what devices_save() kept.
 */
bool stream_load_tail(const GByteArray *tail, const VMStateRegistry *r, GError **errp);

/*
 * Loads one section alone, into opaque instead of the device; false if it is not there.
 * No device is touched.
 */
bool stream_load_section(const GByteArray *tail, const VMStateRegistry *r,
                         const VMStateDescription *vmsd, void *opaque);

/*
 * The devices' present state, kept in memory: full sections without the rest of a stream.
 * descriptions, unless NULL, gets one object per device.
 */
bool devices_save(GByteArray *out, json_object *descriptions, const VMStateRegistry *r,
                  GError **errp);
bool devices_load(const GByteArray *in, const VMStateRegistry *r, GError **errp);

/*
 * The same stream without places: pages follow one another as records, the last one of a
 * page counts.  The header, the beginning of section "ram" with all blocks' names, and what
 * belongs behind the last record.  New arrays; the tail as stream_save_tail().
 */
GByteArray *stream_sequential_header(const char *machine_type);
GByteArray *stream_sequential_ram(const RAMBlock *ram, int nr_ram);
GByteArray *stream_sequential_tail(const char *machine_type, const VMStateRegistry *r,
                                   GError **errp);
/* Ends a tail behind its end mark. */
void stream_put_description(GByteArray *out, json_object *description);
/* Parts of a stream's beginning; false and errp, in->ended if bytes are missing only. */
bool stream_parse_configuration(VMReader *in, char machine_type[256], GError **errp);
bool stream_parse_ram_start(VMReader *in, uint64_t *total, GError **errp);
/*
 * Whether data begins with the sections of all these devices up to the end of file mark:
 * 1 and their length, 0 if more bytes are needed to tell, -1 and errp if not.
 */
int stream_scan_devices(const uint8_t *data, size_t len, const VMStateRegistry *r, size_t *used,
                        GError **errp);
/* Loads what was scanned; as stream_load_tail(). */
bool stream_load_sections(const uint8_t *data, size_t len, const VMStateRegistry *r,
                          GError **errp);

#endif
