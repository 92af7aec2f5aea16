/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The machine's state as a sequence of records in a channel.  Outgoing: a buffer of references
 * in front of the channel, which serves passes (RamTarget) and a snapshot in the background
 * (RamSink).  Incoming: reads RAM where it belongs and gives the devices' sections whole.
 * Snapshot thread.
 */
#ifndef MIGRATION_RAM_STREAM_H
#define MIGRATION_RAM_STREAM_H

#include "channel.h"
#include "ram-passes.h"
#include "ram-save-int.h"

typedef struct RamStream RamStream;

RamStream *ram_stream_new(const Machine *m, MigChannel *ch);
void ram_stream_free(RamStream *rs);
/* 0 or -errno; sent by ram_stream_flush() at the latest. */
int coroutine_fn ram_stream_put(RamStream *rs, const uint8_t *data, size_t len);
int coroutine_fn ram_stream_flush(RamStream *rs);
uint64_t ram_stream_bytes(RamStream *rs);
void ram_stream_target(RamStream *rs, RamTarget *target);
/* layout says what the sink's offsets mean; writes to other places than pages are dropped. */
void ram_stream_sink(RamStream *rs, const StreamLayout *layout, RamSink *sink);
/* Between records, as the tail expects: inside a part of section "ram". */
int coroutine_fn ram_stream_begin_part(RamStream *rs);

/* --- Incoming (ram-stream-in.c) ------------------------------------------------------------- */

typedef struct StreamIn {
    GByteArray *devices; /* all sections of the devices, checked for their form */
    bool wants_answer;   /* the source has opened the return path */
} StreamIn;

/*
 * Reads a whole stream: checks it against the machine, fills RAM (which must be all zeros),
 * and leaves the devices in in->devices.  The machine lock is taken for looking at the
 * devices.  false and errp: RAM may hold anything.
 */
bool coroutine_fn stream_in_read(const Machine *m, MigChannel *ch, StreamIn *in, GError **errp);
/* Tells a source that asked for it that its machine runs here now.  0 or -errno. */
int coroutine_fn stream_in_answer(MigChannel *ch);

/* The return path: docs/devel/migration.md. */
enum {
    STREAM_COMMAND = 0x08, /* mark; command (2 bytes), length (2), data */
    COMMAND_OPEN_RETURN_PATH = 1,
    COMMAND_PING = 2,
    RETURN_SHUT = 1, /* message (2 bytes), length (2), data: 4 bytes, 0 if all is well */
    RETURN_PONG = 2,
};

#endif
