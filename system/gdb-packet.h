/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Packets of GDB's remote serial protocol ("Overview" in the appendix of GDB's manual):
 * $DATA#SUM, with + and - as acknowledgements and the byte 3 as a break.
 */
#ifndef SYSTEM_GDB_PACKET_H
#define SYSTEM_GDB_PACKET_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/* DATA at most, in both directions: what PacketSize announces. */
#define GDB_PACKET_MAX 4096

typedef enum GdbInput {
    GDB_INPUT_MORE,     /* nothing yet */
    GDB_INPUT_PACKET,   /* reader->data is one, to be acknowledged */
    GDB_INPUT_TOO_LONG, /* one that is longer than was announced */
    GDB_INPUT_BAD,      /* its checksum is wrong */
    GDB_INPUT_RESEND,   /* the peer has not understood the last packet */
    GDB_INPUT_BREAK,
} GdbInput;

typedef struct GdbReader {
    enum { GDB_READER_IDLE, GDB_READER_DATA, GDB_READER_SUM1, GDB_READER_SUM2 } state;
    GString *data; /* as sent, with escapes */
    uint8_t sum, told;
    bool too_long;
} GdbReader;

void gdb_reader_init(GdbReader *r);
void gdb_reader_reset(GdbReader *r);
void gdb_reader_destroy(GdbReader *r);
GdbInput gdb_reader_feed(GdbReader *r, uint8_t byte);

/* Undoes the escapes of binary data, in place. */
void gdb_unescape(GString *s);
/* The whole packet, escapes included, with $ and checksum; behind what is in out. */
void gdb_frame(GString *out, const char *data, size_t len);

/* Hex digits of the bytes, behind what is in s. */
void gdb_append_hex(GString *s, const void *bytes, size_t len);
/* Decodes len bytes; false if text does not begin with 2 * len hex digits. */
bool gdb_parse_hex(const char *text, void *bytes, size_t len);
/* A number in hex at *text, which is moved behind it; false if there is none, or no room. */
bool gdb_parse_number(const char **text, uint64_t *value);
/* *text begins with c: moves behind it. */
bool gdb_skip(const char **text, char c);

#endif
